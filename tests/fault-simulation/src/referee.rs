//! The referee: what must hold, judged from packets in the simulated Azure, from what people were answered, and from
//! the request rows as they are stored. It knows nothing of `ajar-network`.

use crate::bus::millis;
use crate::estate;
use crate::script::{Action, EXCEPTION, MINUTE, NEIGHBOUR, PORTS, REQUESTERS, STRANGER, Script};
use crate::world::{Rows, STRAGGLING, timestamp};
use ajar_access::ports::store::Table;
use azure_simulator::{ManualClock, Packet, Simulator};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// After so long without a disturbance everything is as it should be: half a minute until a due row comes up, a minute
/// until the sweep, a lease that runs out, and one more round of each.
pub(crate) const BOUND: u64 = 5 * MINUTE;
/// The same when something may take effect long after its author was given up: a second look, which is a quarter of
/// an hour after the first, finds it.
pub(crate) const STRAGGLER_BOUND: u64 = 21 * MINUTE;
/// How long after a change of a policy an invocation may still act for what was before: the function's time-out.
const SETTLING: u64 = 5 * MINUTE;
/// How far clocks differ, and a bit.
const SKEW: u64 = 5_000;
/// So long before an end a later one has to be confirmed for nobody to be cut at the old one: clocks differ, and whoever
/// shuts something has read some seconds before whether it is over.
const EXTENSION_NOTICE: u64 = 2 * SKEW;

const SOURCES: usize = 6;
type Cells<T> = [[T; SOURCES]; 3];

fn source(index: usize) -> &'static str {
    match index {
        0..3 => REQUESTERS[index].1,
        3 => STRANGER,
        4 => NEIGHBOUR,
        _ => EXCEPTION,
    }
}

/// What the administrator last had confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Off,
    On {
        both: bool,
        exception: bool,
    },
    /// A change is under way, or nobody can know.
    Unknown,
}

/// What the referee knew when the tables were backed up: the policies that they tell of, where nobody was changing them.
#[derive(Clone)]
pub(crate) struct Known {
    policies: Vec<Policy>,
}

/// Old tables in the place of the present ones.
struct Restored {
    at: u64,
    known: Known,
    /// When the administrator first said that Ajar is to go on.
    resuming_at: Option<u64>,
    /// When that was confirmed.
    resumed_at: Option<u64>,
}

struct Machine {
    nsgs: Vec<usize>,
    policy: Policy,
    policy_at: u64,
    is_deleted: bool,
    /// When its interface last got another NSG or address. What was granted before is granted where it was then.
    moved_at: Option<u64>,
    baseline: Cells<bool>,
    observed: Cells<bool>,
    wrong_since: Cells<Option<u64>>,
    /// Until when what was open when tables were lost or put back may stay so: the end that its rule describes.
    lingering: Cells<u64>,
    requests: Vec<String>,
}

#[derive(Default)]
struct Group {
    /// Rules of people's own as they last wrote them.
    people: BTreeMap<String, Value>,
    /// As people found it at the beginning.
    first: Value,
    edited_at: Option<u64>,
    remembered: Option<Value>,
    written_at: Option<u64>,
    /// Whether a VM was here and moved away: its deny goes, and what was moved for it stays where it is.
    was_left: bool,
    /// The etag at the last look at packets.
    seen: String,
}

struct Asked {
    port: usize,
    source: usize,
    minutes: u64,
    status: String,
    window: Option<(u64, u64)>,
    /// When it was to begin.
    not_before: Option<u64>,
    accepted_at: Option<u64>,
    /// Ends that its requester has asked for.
    extensions: BTreeSet<u64>,
    /// Until when a session may rely on it: the end, and a later one only once its requester was told, in good time.
    sure_until: u64,
    /// The latest end it ever had.
    described_until: u64,
    /// Whether old tables were put in the place of those that it was last seen in, and whether they know nothing of it.
    is_past: bool,
    is_lost: bool,
}

impl Asked {
    fn is_over(&self) -> bool {
        ["Closing", "Closed", "Denied", "Cancelled", "Failed"].contains(&self.status.as_str())
    }
}

/// The referee.
pub(crate) struct Referee {
    /// The first thing that did not hold.
    pub violation: Option<String>,
    /// Until when the last disturbance lasts.
    pub disturbed_until: u64,
    machines: Vec<Machine>,
    groups: Vec<Group>,
    requests: BTreeMap<String, Asked>,
    submissions: Vec<Option<(usize, usize, usize, u64)>>,
    /// Whether tables were emptied.
    is_wiped: bool,
    /// How often.
    pub losses: u64,
    /// Whether the requests were among them.
    has_lost_requests: bool,
    /// The last time that old tables were put back.
    restored: Option<Restored>,
    /// Whether an edit may meet the packets some seconds after it was made.
    edits_linger: bool,
    bound: u64,
    last_write: u64,
    /// Until when a write may land whose author does not wait for it any more.
    straggling_until: u64,
    traced: Vec<String>,
}

impl Referee {
    pub(crate) fn new(script: &Script, azure: &mut Simulator) -> Referee {
        let bound = if script.has_stragglers() { STRAGGLER_BOUND } else { BOUND };
        let groups = (0..script.profile.nsgs)
            .map(|number| {
                let first = azure.resource(&estate::nsg(number)).expect("an NSG of the estate");
                Group { people: own_rules(&first), first, ..Group::default() }
            })
            .collect();
        let machines = (0..script.profile.vms)
            .map(|number| {
                let baseline = probe(azure, number);
                Machine {
                    nsgs: estate::nsgs_of(script, number),
                    policy: Policy::Off,
                    policy_at: 0,
                    is_deleted: false,
                    moved_at: None,
                    baseline,
                    observed: baseline,
                    wrong_since: Cells::default(),
                    lingering: Cells::default(),
                    requests: Vec::new(),
                }
            })
            .collect();
        let submissions = script
            .planned
            .iter()
            .map(|planned| match planned.action {
                Action::Submit { vm, who, port, minutes, .. } => {
                    let port = PORTS.iter().position(|known| *known == port).expect("a known port");
                    Some((vm, port, who, minutes))
                }
                _ => None,
            })
            .collect();
        Referee {
            violation: None,
            disturbed_until: 0,
            machines,
            groups,
            requests: BTreeMap::new(),
            submissions,
            is_wiped: false,
            losses: 0,
            has_lost_requests: false,
            restored: None,
            edits_linger: script.profile.operation > 0,
            bound,
            last_write: 0,
            straggling_until: 0,
            traced: Vec::new(),
        }
    }

    fn fail(&mut self, now: u64, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(format!("at {:.3} s: {}", now as f64 / 1000.0, what()));
        }
    }

    /// Something went wrong outside Ajar, and goes on being wrong until `until`.
    pub(crate) fn disturbed(&mut self, until: u64) {
        self.disturbed_until = self.disturbed_until.max(until);
    }

    /// What a call does may land as late as `until`, although nobody waits for it any more.
    pub(crate) fn straggles(&mut self, until: u64) {
        self.straggling_until = self.straggling_until.max(until);
    }

    /// All tables were emptied, or only `table`.
    pub(crate) fn wiped(&mut self, table: Option<&str>) {
        self.is_wiped = true;
        self.losses += 1;
        self.has_lost_requests |= table.is_none_or(|table| table == "requests");
        self.doubt_what_is_not_shut();
    }

    /// Whatever was being changed when the tables went stays as it is, and so does what is open, until its described end.
    fn doubt_what_is_not_shut(&mut self) {
        for number in 0..self.machines.len() {
            for port in 0..3 {
                for from in 0..SOURCES {
                    if self.machines[number].observed[port][from] {
                        let ends = self.granting((number, port, from)).map(|asked| asked.described_until);
                        self.machines[number].lingering[port][from] = ends.max().unwrap_or(0);
                    }
                }
            }
            let machine = &mut self.machines[number];
            let is_shut = |port: &[bool; SOURCES]| !port[3] && !port[4];
            let fits = match machine.policy {
                Policy::On { both, .. } => {
                    is_shut(&machine.observed[0]) && (!both || is_shut(&machine.observed[1]))
                }
                _ => false,
            };
            if !fits {
                machine.policy = Policy::Unknown;
            }
        }
    }

    /// What is known now, for the day when the tables of now are put back.
    pub(crate) fn known(&self) -> Known {
        Known { policies: self.machines.iter().map(|machine| machine.policy).collect() }
    }

    /// Tables from before, `rows`, are in the place of the present ones.
    pub(crate) fn restored(&mut self, now: u64, rows: &Rows, known: Known) {
        self.is_wiped = true;
        self.losses += 1;
        self.disturbed(now);
        self.restored = Some(Restored { at: now, known, resuming_at: None, resumed_at: None });
        let mut there = BTreeSet::new();
        for (_, document) in rows
            .iter()
            .filter(|((table, _, row), _)| *table == "requests" && row.starts_with("r_"))
            .map(|(_, row)| row)
        {
            let json: Value = serde_json::from_str(document).unwrap_or_default();
            let (id, status) = (json["id"].as_str().unwrap_or_default(), json["status"].as_str());
            if let (Some(asked), Some(status)) = (self.requests.get_mut(id), status) {
                status.clone_into(&mut asked.status);
                there.insert(id.to_owned());
            }
        }
        for (id, asked) in &mut self.requests {
            asked.is_past = true;
            asked.is_lost = !there.contains(id);
        }
        self.doubt_what_is_not_shut();
        // What was on its way to Azure lands, and nobody looks at it while the tables are not believed.
        let is_on_its_way = self.straggling_until > now;
        for machine in &mut self.machines {
            let recently = |nsg: &usize| self.groups[*nsg].written_at.is_some_and(|at| now < at + 40_000);
            let is_edited = machine.nsgs.iter().any(|nsg| self.groups[*nsg].edited_at.is_some());
            if is_on_its_way || is_edited || (self.edits_linger && machine.nsgs.iter().any(recently)) {
                machine.policy = Policy::Unknown;
            }
        }
    }

    /// The administrator is about to say that Ajar is to go on with old tables.
    pub(crate) fn resuming(&mut self, now: u64) {
        if let Some(restored) = &mut self.restored {
            restored.resuming_at.get_or_insert(now);
        }
    }

    /// Ajar goes on with old tables: what they tell of policies is so again. Where they tell of none, the denies stay.
    pub(crate) fn resumed(&mut self, now: u64) {
        let Some(restored) = &mut self.restored else { return };
        if restored.resumed_at.is_some() {
            return;
        }
        restored.resumed_at = Some(now);
        for (machine, old) in self.machines.iter_mut().zip(&restored.known.policies) {
            let stays = matches!(machine.policy, Policy::On { .. })
                && (machine.policy == *old || *old == Policy::Off);
            if !stays {
                machine.policy = Policy::Unknown;
            }
            machine.policy_at = now;
        }
        self.disturbed(now);
    }

    /// Somebody was told that the tables are old.
    pub(crate) fn told_of_restored(&mut self, now: u64) {
        let is_true = self.restored.as_ref().is_some_and(|restored| {
            // Whoever asked before it was confirmed may hear of it after.
            restored.resumed_at.is_none_or(|at| now < at + SETTLING)
        });
        if !is_true {
            self.fail(now, || "(5) the tables are said to be old, and are not".to_owned());
        }
    }

    /// Whether only what was asked for since then may be opened: old tables were put back.
    fn fresh_since(&self) -> Option<u64> {
        self.restored.as_ref().map(|restored| restored.resumed_at.unwrap_or(u64::MAX))
    }

    fn is_fresh(&self, asked: &Asked) -> bool {
        self.fresh_since().is_none_or(|since| asked.accepted_at.is_some_and(|at| since <= at))
    }

    pub(crate) fn policy(&mut self, now: u64, vm: usize, policy: Policy) {
        let known = if self.is_wiped && policy == Policy::Off { Policy::Unknown } else { policy };
        self.machines[vm].policy = known;
        self.machines[vm].policy_at = now;
    }

    /// What the administrator last had confirmed.
    pub(crate) fn policy_of(&self, vm: usize) -> Policy {
        self.machines[vm].policy
    }

    pub(crate) fn deleted(&mut self, vm: usize) {
        self.machines[vm].is_deleted = true;
    }

    /// A VM is there again under its name, behind the same NSGs.
    pub(crate) fn created(&mut self, now: u64, azure: &mut Simulator, vm: usize) {
        self.machines[vm].is_deleted = false;
        self.machines[vm].policy_at = now;
        self.machines[vm].observed = probe(azure, vm);
        self.machines[vm].wrong_since = Cells::default();
    }

    /// A VM's interface is behind other NSGs or has another address; `pristine` is the estate as if Ajar had never been,
    /// with the VM there.
    pub(crate) fn moved(
        &mut self,
        now: u64,
        azure: &mut Simulator,
        vm: usize,
        nsgs: Vec<usize>,
        pristine: &str,
    ) {
        let clock = ManualClock::new(timestamp(0));
        let mut before = Simulator::new(pristine, Arc::new(clock), 0).expect("a sound estate");
        let machine = &mut self.machines[vm];
        for left in machine.nsgs.iter().filter(|nsg| !nsgs.contains(nsg)) {
            self.groups[*left].was_left = true;
        }
        machine.nsgs = nsgs;
        machine.baseline = probe(&mut before, vm);
        machine.observed = probe(azure, vm);
        machine.wrong_since = Cells::default();
        machine.moved_at = Some(now);
        machine.policy_at = now;
        if self.is_wiped {
            // Its policy may not follow: nobody looks while the tables are not believed.
            machine.policy = Policy::Unknown;
        }
    }

    /// Looks at the packets of a VM again.
    pub(crate) fn observe(&mut self, azure: &mut Simulator, vm: usize) {
        self.machines[vm].observed = probe(azure, vm);
    }

    pub(crate) fn accepted(&mut self, now: u64, id: &str) {
        match self.requests.get_mut(id) {
            Some(asked) => asked.accepted_at = Some(now),
            None if self.is_wiped => {}
            None => self.fail(now, || format!("(3) request {id} was accepted and is not stored")),
        }
    }

    /// A requester was told that access has ended.
    pub(crate) fn revoked(&mut self, now: u64, id: &str) {
        if let Some(Asked { window: Some((_, end)), .. }) = self.requests.get_mut(id) {
            *end = (*end).min(now + SKEW);
        }
    }

    /// A requester is about to ask for a later end.
    pub(crate) fn extending(&mut self, id: &str, until: u64) {
        if let Some(asked) = self.requests.get_mut(id) {
            asked.extensions.insert(until);
        }
    }

    /// A requester was told that access ends later.
    pub(crate) fn extended(&mut self, now: u64, id: &str, until: u64) {
        let Some(asked) = self.requests.get_mut(id) else { return };
        if now + EXTENSION_NOTICE < asked.sure_until {
            asked.sure_until = asked.sure_until.max(until);
        }
        if !asked.is_over() && !asked.is_past && asked.window.is_none_or(|(_, end)| end < until) {
            let told = format!("(3) request {id} was extended until {until} and has {:?}", asked.window);
            self.fail(now, || told);
        }
    }

    /// A row was stored.
    pub(crate) fn row_written(&mut self, now: u64, table: Table, row: &str, document: &str) {
        if table != Table::Requests || !row.starts_with("r_") {
            return;
        }
        let Ok(json) = serde_json::from_str::<Value>(document) else { return };
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let time = |name: &str| json[name].as_str().and_then(|text| text.parse().ok()).map(millis);
        let (id, status) = (text("id"), text("status"));
        let window = time("start").zip(time("end"));
        let asked = text("justification")
            .parse::<usize>()
            .ok()
            .and_then(|action| self.submissions.get(action).copied().flatten());
        let Some((machine, port, source, minutes)) = asked else { return };
        let Some(before) = self.requests.get_mut(&id) else {
            self.machines[machine].requests.push(id.clone());
            let asked = Asked {
                port,
                source,
                minutes,
                status,
                window,
                not_before: time("notBefore"),
                accepted_at: None,
                extensions: BTreeSet::new(),
                sure_until: window.map_or(0, |(_, end)| end),
                described_until: window.map_or(0, |(_, end)| end),
                is_past: false,
                is_lost: false,
            };
            self.requests.insert(id, asked);
            return;
        };
        let was_final = ["Closed", "Denied", "Cancelled", "Failed"].contains(&before.status.as_str());
        let is_open = |status: &str| ["Opening", "Active", "Closing", "Closed"].contains(&status);
        let contradicts =
            (was_final && before.status != status) || (is_open(&before.status) && !is_open(&status));
        let moved = match (before.window, window) {
            (Some((start, end)), Some((later_start, later_end))) => {
                let is_extended = !before.is_over() && before.extensions.contains(&later_end);
                later_start != start || (later_end > end + SKEW && !is_extended)
            }
            (Some(_), None) => true,
            (None, Some((start, end))) => {
                let early = before.not_before.is_some_and(|not_before| start < not_before);
                early || end > start + before.minutes * MINUTE
            }
            (None, None) => false,
        };
        let told = format!("{} {:?} -> {status} {window:?}", before.status, before.window);
        let is_begun = before.window.is_none();
        before.status = status;
        before.described_until = before.described_until.max(window.map_or(0, |(_, end)| end));
        before.window = match (before.window, window) {
            (Some((start, end)), Some((_, later))) => {
                let is_extended = before.extensions.contains(&later);
                Some((start, if is_extended { later } else { end.min(later) }))
            }
            (_, other) => other,
        };
        if let (true, Some((_, end))) = (is_begun, before.window) {
            before.sure_until = end;
        }
        if (contradicts || moved) && !before.is_past {
            self.fail(now, || format!("(3) request {id} was answered twice differently: {told}"));
        }
    }

    pub(crate) fn row_removed(&mut self, table: Table, row: &str) {
        if table == Table::Requests && row.starts_with("r_") {
            self.violation.get_or_insert_with(|| format!("(3) request row {row} was removed"));
        }
    }

    /// Whether a request lets this packet in at `now`.
    fn is_granted(&self, cell: (usize, usize, usize), now: u64) -> bool {
        self.granting(cell).any(|asked| asked.window.is_some_and(|(start, end)| start <= now && now < end))
    }

    /// Whether it was asked for after old tables were put back and the administrator said that Ajar is to go on.
    fn is_granted_since_restored(&self, cell: (usize, usize, usize), now: u64) -> bool {
        self.restored.is_some()
            && self.granting(cell).any(|asked| {
                let lives = asked.window.is_some_and(|(start, end)| start <= now && now < end);
                lives && !asked.is_past && self.is_fresh(asked)
            })
    }

    /// Whether what lets a packet in was granted where the VM is no more.
    fn is_granted_before_move(&self, cell: (usize, usize, usize), now: u64) -> bool {
        let Some(moved) = self.machines[cell.0].moved_at else { return false };
        // Whoever decides may have read the policy before it followed the VM.
        let settled = moved + self.bound;
        self.granting(cell).any(|asked| {
            asked.window.is_some_and(|(start, end)| start <= now && now < end && start <= settled)
        })
    }

    /// Whether a request whose access was seen open lets this packet in at `now`, and still does when clocks differ.
    fn is_session(&self, cell: (usize, usize, usize), now: u64) -> bool {
        let lives = |asked: &Asked| {
            let (start, end) = asked.window?;
            Some(start <= now && now + SKEW < end.min(asked.sure_until))
        };
        self.granting(cell).any(|asked| asked.status == "Active" && lives(asked) == Some(true))
    }

    fn granting(&self, (machine, port, source): (usize, usize, usize)) -> impl Iterator<Item = &Asked> {
        let requests = self.machines[machine].requests.iter().filter_map(|id| self.requests.get(id));
        requests.filter(move |asked| asked.port == port && asked.source == source)
    }

    /// Whether this packet was ever granted; since old tables were put back, if they were.
    fn was_ever_granted(&self, cell: (usize, usize, usize)) -> bool {
        self.granting(cell).any(|asked| {
            asked.window.is_some() && (self.restored.is_none() || !asked.is_past || self.is_fresh(asked))
        })
    }

    fn is_edited(&self, machine: usize) -> bool {
        self.machines[machine].nsgs.iter().any(|nsg| self.groups[*nsg].edited_at.is_some())
    }

    /// Whether a packet has to pass; nothing when nobody can say.
    fn wanted(&self, number: usize, port: usize, source: usize, now: u64) -> Option<bool> {
        let machine = &self.machines[number];
        if machine.is_deleted {
            return None;
        }
        let baseline = || {
            let known = !self.is_edited(number) && !self.is_wiped;
            known.then_some(machine.baseline[port][source])
        };
        match machine.policy {
            Policy::Unknown => None,
            Policy::Off => baseline(),
            Policy::On { both, .. } if port == 2 || (port == 1 && !both) => baseline(),
            Policy::On { exception: true, .. } if source == 5 => baseline().filter(|open| *open),
            Policy::On { .. } => {
                let cell = (number, port, source);
                let granted = self.is_granted(cell, now);
                let is_known = !self.is_wiped || self.is_granted_since_restored(cell, now);
                let lingers = !granted && now < machine.lingering[port][source] + self.bound;
                if lingers || (granted && (!is_known || self.is_granted_before_move(cell, now))) {
                    None
                } else {
                    Some(granted)
                }
            }
        }
    }

    /// Whether the policy of a VM has been the same for so long that nobody acts for another one any more.
    fn is_settled(&self, number: usize, now: u64) -> bool {
        let machine = &self.machines[number];
        let settling = if self.bound == BOUND { SETTLING } else { SETTLING + STRAGGLER_BOUND };
        matches!(machine.policy, Policy::On { .. }) && now > machine.policy_at + settling
    }

    /// Ajar's write to an NSG has just been answered.
    pub(crate) fn written_by_ajar(
        &mut self,
        now: u64,
        azure: &mut Simulator,
        nsg: &str,
        trace: Option<&mut Vec<String>>,
    ) {
        self.last_write = now;
        let Some(number) =
            (0..self.groups.len()).find(|number| estate::nsg(*number).eq_ignore_ascii_case(nsg))
        else {
            return;
        };
        self.groups[number].written_at = Some(now);
        let lingers = self.edits_linger && self.groups[number].edited_at.is_some_and(|at| now < at + MINUTE);
        self.look(now, azure, number, !lingers);
        if let Some(trace) = trace {
            trace.append(&mut self.traced);
        }
        self.traced.clear();
    }

    /// Looks at an NSG and at every VM behind it.
    fn look(&mut self, now: u64, azure: &mut Simulator, nsg: usize, by_ajar: bool) {
        if let Some(json) = azure.resource(&estate::nsg(nsg)) {
            let found = own_rules(&json);
            let lost = self.groups[nsg].people.iter().find(|(name, rule)| found.get(*name) != Some(*rule));
            if let Some((name, rule)) = lost {
                let told =
                    format!("(4) nsg-{nsg}: somebody's rule {name} is {:?} and was {rule}", found.get(name));
                self.fail(now, || told);
            }
            // Packets meet a change when its operation ends; then the etag changes once more.
            let etag = json["etag"].as_str().unwrap_or_default();
            if json["properties"]["provisioningState"] == "Updating" || self.groups[nsg].seen == etag {
                return;
            }
            etag.clone_into(&mut self.groups[nsg].seen);
        }
        for number in 0..self.machines.len() {
            if self.machines[number].is_deleted || !self.machines[number].nsgs.contains(&nsg) {
                continue;
            }
            let seen = probe(azure, number);
            let before = std::mem::replace(&mut self.machines[number].observed, seen);
            for port in 0..3 {
                for from in 0..SOURCES {
                    let (was, is) = (before[port][from], seen[port][from]);
                    if was == is {
                        continue;
                    }
                    let place = || format!("vm-{number} port {} from {}", PORTS[port], source(from));
                    self.traced.push(format!(
                        "{:>9.3}     {} is {}",
                        now as f64 / 1000.0,
                        place(),
                        if is { "open" } else { "shut" }
                    ));
                    if by_ajar {
                        self.judge_change(now, number, port, from, is, &place());
                    }
                }
            }
        }
    }

    fn judge_change(&mut self, now: u64, number: usize, port: usize, from: usize, is: bool, place: &str) {
        let wanted = self.wanted(number, port, from, now);
        if port == 2 && wanted == Some(!is) {
            return self.fail(now, || format!("(4) {place}, which no policy names, was changed"));
        }
        if let Some(Restored { at, resuming_at: None, .. }) = self.restored
            && is
            && at + STRAGGLING < now
            && self.straggling_until < now
        {
            return self.fail(now, || format!("(5) {place} was opened by Ajar with old tables"));
        }
        if !self.is_settled(number, now) {
            return;
        }
        if is && wanted == Some(false) && !self.was_ever_granted((number, port, from)) {
            return self.fail(now, || format!("(1) {place} was opened by Ajar; nobody ever asked for it"));
        }
        let edited = self.machines[number].nsgs.iter().filter_map(|nsg| self.groups[*nsg].edited_at).max();
        // Nothing that Ajar could do holds back a write that Azure carries out after all.
        let is_calm = edited.is_none_or(|at| at + self.bound < now) && self.straggling_until < now;
        if !is && wanted == Some(true) && is_calm && self.is_session((number, port, from), now) {
            self.fail(now, || format!("(6) {place} was cut while its grant lives"));
        }
    }

    /// Looks at everything, every few seconds.
    pub(crate) fn tick(&mut self, now: u64, azure: &mut Simulator, trace: Option<&mut Vec<String>>) {
        for number in 0..self.groups.len() {
            let group = &self.groups[number];
            let recent = |at: Option<u64>| at.is_some_and(|at| now < at + 40_000);
            if self.edits_linger && (recent(group.written_at) || recent(group.edited_at)) {
                let by_ajar = group.edited_at.is_none_or(|at| at + MINUTE < now);
                self.look(now, azure, number, by_ajar);
            }
        }
        if let Some(trace) = trace {
            trace.append(&mut self.traced);
        }
        self.traced.clear();
        for number in 0..self.machines.len() {
            let edited =
                self.machines[number].nsgs.iter().filter_map(|nsg| self.groups[*nsg].edited_at).max();
            let calm_since =
                self.disturbed_until.max(self.machines[number].policy_at).max(edited.unwrap_or(0));
            for (port, shown) in PORTS.into_iter().enumerate() {
                for from in 0..SOURCES {
                    let is = self.machines[number].observed[port][from];
                    let wrong = self.wanted(number, port, from, now).is_some_and(|wanted| wanted != is);
                    let since = &mut self.machines[number].wrong_since[port][from];
                    if !wrong {
                        *since = None;
                        continue;
                    }
                    let since = *since.get_or_insert(now);
                    if now > since.max(calm_since) + self.bound {
                        let which = if is { "(1)" } else { "(2)" };
                        self.fail(now, || {
                            format!(
                                "{which} vm-{number} port {} from {} is {} since {:.3} s and should not be",
                                shown,
                                source(from),
                                if is { "open" } else { "shut" },
                                since as f64 / 1000.0
                            )
                        });
                    }
                }
            }
        }
        let waits = self.requests.iter().find(|(_, asked)| {
            let is_undecided = ["Requested", "Approved"].contains(&asked.status.as_str());
            let opens = asked.not_before.unwrap_or(0);
            let since = asked.accepted_at.map(|at| at.max(self.disturbed_until).max(opens));
            let is_known =
                !self.is_wiped || (self.restored.is_some() && !asked.is_past && self.is_fresh(asked));
            is_undecided && since.is_some_and(|since| now > since + self.bound) && is_known
        });
        if let Some((id, _)) = waits {
            let told = format!("(3) request {id} was accepted and is not decided");
            self.fail(now, || told);
        }
    }

    /// How many requests were granted.
    pub(crate) fn granted(&self) -> u64 {
        self.requests.values().filter(|asked| asked.window.is_some()).count() as u64
    }

    /// When the last access ends, or was to end before it was revoked: what guards an end stays until then.
    pub(crate) fn last_end(&self) -> u64 {
        self.requests.values().map(|asked| asked.described_until).max().unwrap_or(0)
    }

    /// Judges the end of a run, long after everything became calm.
    pub(crate) fn end(&mut self, now: u64, azure: &mut Simulator, rows: &Rows) {
        if now < self.last_write + 10 * MINUTE {
            self.fail(now, || "(7) Ajar still writes to Azure although nothing changes any more".to_owned());
        }
        let is_old = self.restored.as_ref().is_some_and(|restored| restored.resumed_at.is_none());
        if is_old && self.restored.as_ref().is_some_and(|restored| restored.resuming_at.is_some()) {
            self.fail(now, || "(7) Ajar does not go on with old tables although it was told to".to_owned());
        }
        let has_marker = rows.contains_key(&("cursors", "store".to_owned(), "marker".to_owned()));
        for ((table, partition, row), (_, document)) in rows {
            let is_left = match *table {
                // Emptied, and JIT not turned on since: only what is past its described end is shut.
                "due" => has_marker,
                "grants" => row.starts_with("g_"),
                "points" => row == "lease" && is_held(document, now),
                _ => false,
            };
            if is_left && !is_old && !(self.has_lost_requests && *table == "grants") {
                self.fail(now, || format!("(7) {table} {partition}/{row} is left: {document}"));
            }
        }
        if !self.has_lost_requests && !is_old {
            let finals = ["Closed", "Denied", "Cancelled", "Failed"];
            let unfinished = self
                .requests
                .iter()
                .find(|(_, asked)| !asked.is_lost && !finals.contains(&asked.status.as_str()));
            if let Some((id, asked)) = unfinished {
                let told = format!("(3) request {id} is {} for ever", asked.status);
                self.fail(now, || told);
            }
        }
        for (number, group) in self.groups.iter().enumerate() {
            let behind = self.machines.iter().filter(|machine| machine.nsgs.contains(&number));
            let all_off = behind.clone().all(|machine| machine.policy == Policy::Off);
            if !all_off || group.edited_at.is_some() || self.is_wiped {
                continue;
            }
            let rules = |json: &Value| -> BTreeSet<String> {
                json["properties"]["securityRules"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|rule| match group.was_left {
                        true => rule["name"].to_string(),
                        false => format!("{} at {}", rule["name"], rule["properties"]["priority"]),
                    })
                    .collect()
            };
            let Some(json) = azure.resource(&estate::nsg(number)) else { continue };
            if rules(&json) != rules(&group.first) && self.violation.is_none() {
                self.violation = Some(format!(
                    "(4) JIT is off everywhere behind nsg-{number}, which has {:?} and had {:?}",
                    rules(&json),
                    rules(&group.first)
                ));
            }
        }
    }

    /// Somebody other than Ajar has written an NSG.
    pub(crate) fn written_by_people(&mut self, now: u64, azure: &mut Simulator, nsg: usize) {
        if let Some(json) = azure.resource(&estate::nsg(nsg)) {
            self.groups[nsg].people = own_rules(&json);
        }
        if self.is_wiped {
            // Nobody knows any more what was here before the tables were emptied.
            let lost = self.machines.iter_mut().filter(|machine| machine.nsgs.contains(&nsg));
            lost.for_each(|machine| machine.policy = Policy::Unknown);
        }
        self.groups[nsg].edited_at = Some(now);
        self.look(now, azure, nsg, false);
    }

    /// The NSGs that people have written.
    pub(crate) fn edited(&self) -> Vec<usize> {
        (0..self.groups.len()).filter(|nsg| self.groups[*nsg].edited_at.is_some()).collect()
    }

    pub(crate) fn remember(&mut self, nsg: usize, json: Value) {
        self.groups[nsg].remembered = Some(json);
    }

    /// What a tool writes over an NSG.
    pub(crate) fn overwrite(&self, nsg: usize, remembered: bool) -> Value {
        let group = &self.groups[nsg];
        group.remembered.clone().filter(|_| remembered).unwrap_or_else(|| group.first.clone())
    }
}

/// Whether a lease is held; one whose holder died has run out.
fn is_held(lease: &str, now: u64) -> bool {
    let json: Value = serde_json::from_str(lease).unwrap_or_default();
    let until = json["until"].as_str().and_then(|text| text.parse().ok()).map_or(u64::MAX, millis);
    json["owner"] != "" && until + SKEW > now
}

/// The rules of people's own, without what Ajar may change (the priority) and what Azure adds.
fn own_rules(nsg: &Value) -> BTreeMap<String, Value> {
    nsg["properties"]["securityRules"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|rule| Some((rule["name"].as_str()?.to_owned(), rule["properties"].clone())))
        .filter(|(name, _)| !name.starts_with("ajar-"))
        .map(|(name, mut properties)| {
            if let Some(object) = properties.as_object_mut() {
                object.remove("priority");
                object.remove("provisioningState");
            }
            (name, properties)
        })
        .collect()
}

fn probe(azure: &mut Simulator, vm: usize) -> Cells<bool> {
    let mut cells = Cells::default();
    for (port, row) in cells.iter_mut().enumerate() {
        for (from, cell) in row.iter_mut().enumerate() {
            let packet = Packet {
                source: source(from).to_owned(),
                source_port: 50_000,
                source_tags: Vec::new(),
                destination: estate::vm(vm).to_string(),
                port: PORTS[port],
                protocol: "Tcp".to_owned(),
            };
            *cell = azure.probe(&packet).is_ok_and(|verdict| verdict.allowed);
        }
    }
    cells
}
