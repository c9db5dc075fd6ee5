//! What happens in a run, drawn before it begins: the estate's size, which faults there are, and what people do.

use crate::estate::nsgs_of;
use crate::random::Random;

/// One minute in the milliseconds that a run counts in.
pub(crate) const MINUTE: u64 = 60_000;

/// Sources that ask for access.
pub(crate) const REQUESTERS: [(&str, &str); 3] =
    [("bob", "203.0.113.10"), ("carol", "203.0.113.11"), ("dan", "203.0.113.12")];
/// A source that never asks.
pub(crate) const STRANGER: &str = "198.51.100.77";
/// A source in the virtual network that never asks.
pub(crate) const NEIGHBOUR: &str = "10.9.9.9";
/// A source that some policies always let through.
pub(crate) const EXCEPTION: &str = "192.0.2.5";
/// The ports that are probed; policies manage the first two at most.
pub(crate) const PORTS: [u16; 3] = [22, 3389, 443];

/// What somebody other than Ajar does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The administrator turns JIT on, or changes the policy: `both` ports or 22 alone, with or without the exception.
    Enable { vm: usize, both: bool, exception: bool },
    /// The administrator turns JIT off.
    Disable { vm: usize },
    /// A requester asks for a port for some minutes, from `ahead` seconds later on; 0 is at once. The script's others
    /// know the submission by `nth`.
    Submit { nth: usize, vm: usize, who: usize, port: u16, minutes: u64, ahead: u64 },
    /// A requester ends what they asked for in the `nth` submission.
    Revoke { nth: usize },
    /// A requester moves the end of what they asked for in the `nth` submission to so many minutes from then.
    Extend { nth: usize, minutes: u64 },
    /// Somebody removes a managed rule of an NSG.
    RemoveManaged { nsg: usize, nth: u64 },
    /// Somebody turns a managed deny into an allow.
    OpenManaged { nsg: usize },
    /// Somebody adds a rule of their own that opens the managed ports to everybody.
    AddRule { nsg: usize, priority: u64 },
    /// Somebody removes a rule of their own.
    RemoveRule { nsg: usize },
    /// A tool remembers an NSG as it is now, for a later `Overwrite`.
    Remember { nsg: usize },
    /// A tool writes a whole NSG: as it was at the beginning, or as remembered.
    Overwrite { nsg: usize, remembered: bool },
    /// A VM is deleted.
    DeleteVm { vm: usize },
    /// A VM is deleted, and made anew under the same name some seconds later.
    ReplaceVm { vm: usize, seconds: u64 },
    /// A VM's network interface gets another NSG of its own, or goes to the other subnet, where it has another address.
    MoveVm { vm: usize, nsg: usize, subnet: bool },
    /// All tables are emptied.
    Wipe,
    /// One table is emptied.
    LoseTable { table: &'static str },
    /// A sweep over the whole estate begins, from lists that are minutes old.
    Comply,
    /// The tables are backed up, all at one moment.
    BackUp,
    /// The app is stopped, the last backup put in the place of the tables, and the app started. What is kept beside the
    /// tables stays as it is. A backup that is too young to be told from the present is not put back.
    Restore,
    /// The administrator says that Ajar is to go on with the tables that were restored.
    Resume,
    /// All calls of one kind fail for some seconds.
    Outage { port: Port, seconds: u64 },
    /// Whoever reads an NSG next goes on only after so many milliseconds, with what was read.
    StandStill { millis: u64 },
    /// The next write to Azure takes effect after so many milliseconds, when its caller has given up.
    LateWrite { millis: u64 },
}

/// Submissions that the script adds for a situation have numbers from here on.
const ADDED: usize = 100_000;

/// Which outside system a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    Store,
    /// What is kept beside the tables.
    Blobs,
    Bus,
    Azure,
    /// Who may do what, which has an outage of its own.
    Roles,
}

/// An action and when it is done, in milliseconds from the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub at: u64,
    pub action: Action,
}

/// How often each fault strikes a call, in ten thousandths, and the rest of a run's character.
#[derive(Debug, Clone)]
pub struct Profile {
    pub fail: u64,
    pub lose_answer: u64,
    pub crash: u64,
    /// A call, or the instance before it, stands still for up to two minutes.
    pub stall: u64,
    /// A write to Azure takes effect up to four minutes after its caller gave up.
    pub late: u64,
    pub throttle: u64,
    pub message_faults: u64,
    /// Writes to Azure are operations that take so many milliseconds; 0 when they are done at once.
    pub operation: u64,
    pub supersede: bool,
    pub instances: usize,
    /// What each instance's clock is ahead, in milliseconds; may be negative.
    pub skew: Vec<i64>,
    pub wipes: bool,
    pub edits: bool,
    pub vms: usize,
    pub nsgs: usize,
    /// Whether Azure tells Ajar what changes. Without events a message for the NSG follows an edit by hand.
    pub events: bool,
}

/// A whole run, before it begins.
#[derive(Debug, Clone)]
pub struct Script {
    pub seed: u64,
    pub profile: Profile,
    /// From when to when faults strike, milliseconds.
    pub chaos: Vec<(u64, u64)>,
    pub planned: Vec<Planned>,
    /// When people stop.
    pub people_end: u64,
}

impl Script {
    /// The script of a seed.
    pub fn new(seed: u64) -> Script {
        let mut random = Random::new(seed, 1);
        let profile = Profile::new(&mut random);
        let chaos = chaos(&mut random);
        let (planned, people_end) = people(&mut random, &profile, &chaos);
        let mut script = Script { seed, profile, chaos, planned, people_end };
        script.profile.events = Random::new(seed, 17).chance(40);
        if script.profile.edits {
            script.edit_while_ajar_writes();
        }
        script.rare_events();
        script.later_starts_and_ends();
        script.holder_stands_still();
        script.deny_lands_late();
        script.vms_move();
        script.old_tables();
        script.whole_estate_is_swept();
        script.planned.sort_by_key(|planned| planned.at);
        script
    }

    /// Somebody adds a rule at about the moment when a change of a policy makes Ajar write the NSG whole.
    fn edit_while_ajar_writes(&mut self) {
        let mut random = Random::new(self.seed, 12);
        let mut edits = Vec::new();
        for Planned { at, action } in &self.planned {
            let (Action::Enable { vm, .. } | Action::Disable { vm }) = action else { continue };
            if random.chance(30) {
                let nsg = *random.pick(&nsgs_of(self, *vm));
                let (at, priority) = (at + random.between(300, 1_200), random.between(100, 400));
                edits.push(Planned { at, action: Action::AddRule { nsg, priority } });
            }
        }
        self.planned.extend(edits);
        self.planned.sort_by_key(|planned| planned.at);
    }

    /// What few runs have, drawn by itself, so that the others stay as they were before it was thought of.
    fn rare_events(&mut self) {
        let mut random = Random::new(self.seed, 13);
        let mut events = Vec::new();
        let at = |random: &mut Random| random.between(MINUTE, self.people_end);
        if random.chance(15) {
            let (at, seconds) = (at(&mut random), random.between(2, 150));
            events.push(Planned { at, action: Action::Outage { port: Port::Roles, seconds } });
        }
        if random.chance(4) {
            let table = *random.pick(&["policies", "requests", "inbox", "grants", "points"]);
            events.push(Planned { at: at(&mut random), action: Action::LoseTable { table } });
        }
        if random.chance(10) {
            let vm = random.below(self.profile.vms as u64) as usize;
            let (at, seconds) = (at(&mut random), random.between(1, 300));
            events.push(Planned { at, action: Action::ReplaceVm { vm, seconds } });
        }
        self.planned.extend(events);
        self.planned.sort_by_key(|planned| planned.at);
    }

    /// Some runs have requests for later, and access that is extended: at any time, and at about its end.
    fn later_starts_and_ends(&mut self) {
        let mut random = Random::new(self.seed, 14);
        if !random.chance(50) {
            return;
        }
        let mut extensions = Vec::new();
        for Planned { at, action } in &mut self.planned {
            let Action::Submit { nth, minutes, ahead, .. } = action else { continue };
            if random.chance(20) {
                *ahead = random.between(1, 900);
            }
            let (opens, lasts) = (*at + *ahead * 1000, *minutes * MINUTE);
            let mut extend = |at: u64, minutes: u64| {
                extensions.push(Planned { at, action: Action::Extend { nth: *nth, minutes } });
            };
            if random.chance(30) {
                let at = match random.below(3) {
                    0 => opens + random.between(0, 3_000),
                    1 => opens + random.between(0, lasts),
                    _ => (opens + lasts + 2_000).saturating_sub(random.between(0, 12_000)),
                };
                extend(at, random.between(1, 20));
                if random.chance(30) {
                    extend(at + random.between(0, 30_000), random.between(1, 20));
                }
            }
        }
        self.planned.extend(extensions);
    }

    /// What a lease is for: whoever holds one stands still, for some seconds or until long after it ran out, others want
    /// to open more meanwhile, and then it goes on with what it had read.
    fn holder_stands_still(&mut self) {
        let mut random = Random::new(self.seed, 15);
        if !random.chance(40) {
            return;
        }
        let at = self.people_end + random.between(0, 6 * MINUTE);
        let vm = random.below(self.profile.vms as u64) as usize;
        let then = random.between(2_000, 30_000);
        let minutes = [random.between(6, 14), random.between(6, 14)];
        let mut submit = |who: usize, at: u64| {
            let (nth, minutes) = (ADDED + who, minutes[who]);
            let action = Action::Submit { nth, vm, who, port: PORTS[0], minutes, ahead: 0 };
            self.planned.push(Planned { at, action });
        };
        submit(0, at);
        let is_short = random.chance(50);
        submit(1, at + if is_short { then % 2_000 } else { then });
        let millis = if is_short { random.between(2_000, 4_500) } else { random.between(90_000, 200_000) };
        self.planned.push(Planned { at: at + 100, action: Action::StandStill { millis } });
        self.people_end = at + 4 * MINUTE;
    }

    /// JIT is turned on, which takes long to reach Azure, and off again before it does.
    fn deny_lands_late(&mut self) {
        let mut random = Random::new(self.seed, 16);
        if !random.chance(12) {
            return;
        }
        let at = self.people_end + random.between(0, 3 * MINUTE);
        let vm = random.below(self.profile.vms as u64) as usize;
        let on = at + random.between(30_000, 60_000);
        let off = on + random.between(20_000, 60_000);
        let millis = random.between(120_000, 240_000);
        let mut add = |at: u64, action: Action| self.planned.push(Planned { at, action });
        add(at, Action::Disable { vm });
        add(on, Action::LateWrite { millis });
        add(on, Action::Enable { vm, both: false, exception: false });
        add(off, Action::Disable { vm });
        self.people_end = on + 4 * MINUTE;
    }

    /// VMs move, in runs in which Azure tells of it.
    fn vms_move(&mut self) {
        let mut random = Random::new(self.seed, 18);
        if !self.profile.events || !random.chance(50) {
            return;
        }
        for _ in 0..random.between(1, 3) {
            let vm = random.below(self.profile.vms as u64) as usize;
            let nsg = random.below(self.profile.nsgs as u64) as usize;
            let action = Action::MoveVm { vm, nsg, subnet: random.chance(40) };
            self.planned.push(Planned { at: random.between(MINUTE, self.people_end), action });
        }
    }

    /// The daily sweep over the estate comes once or twice.
    fn whole_estate_is_swept(&mut self) {
        let mut random = Random::new(self.seed, 22);
        if !random.chance(25) {
            return;
        }
        for _ in 0..random.between(1, 2) {
            let at = random.between(MINUTE, self.people_end);
            self.planned.push(Planned { at, action: Action::Comply });
        }
    }

    /// Blobs fail for a while, and old tables come back: a request for an hour is granted, the tables are backed up, the
    /// request is revoked, the backup restored; minutes later the administrator resumes, turns JIT on again, and people
    /// ask anew.
    fn old_tables(&mut self) {
        let mut random = Random::new(self.seed, 21);
        if random.chance(20) {
            let (at, seconds) = (random.between(MINUTE, self.people_end), random.between(2, 150));
            self.planned.push(Planned { at, action: Action::Outage { port: Port::Blobs, seconds } });
        }
        if !random.chance(15) {
            return;
        }
        let vm = random.below(self.profile.vms as u64) as usize;
        let asked = random.between(2 * MINUTE, self.people_end);
        let backup = asked + random.between(20_000, 4 * MINUTE);
        let revoked = backup + random.between(1_000, 3 * MINUTE);
        let restored = revoked + random.between(2 * MINUTE, 8 * MINUTE);
        let resumed = restored + random.between(30_000, 12 * MINUTE);
        let again = resumed + random.between(10_000, 2 * MINUTE);
        let who = random.below(REQUESTERS.len() as u64) as usize;
        let submit = |nth: usize, who: usize, minutes: u64| Action::Submit {
            nth: ADDED + 10 + nth,
            vm,
            who,
            port: PORTS[0],
            minutes,
            ahead: 0,
        };
        let mut add = |at: u64, action: Action| self.planned.push(Planned { at, action });
        add(asked, submit(0, who, 60));
        add(backup, Action::BackUp);
        add(revoked, Action::Revoke { nth: ADDED + 10 });
        add(restored, Action::Restore);
        // Refused while the tables are old.
        add(restored + random.between(1_000, 30_000), submit(1, (who + 1) % REQUESTERS.len(), 10));
        add(resumed, Action::Resume);
        for vm in 0..self.profile.vms.min(12) {
            if random.chance(80) {
                let at = again + random.between(0, 30_000);
                add(at, Action::Enable { vm, both: random.chance(60), exception: random.chance(30) });
            }
        }
        add(again, Action::Enable { vm, both: false, exception: false });
        for nth in 2..4 {
            let at = again + random.between(20_000, 3 * MINUTE);
            add(at, submit(nth, random.below(REQUESTERS.len() as u64) as usize, random.between(3, 14)));
        }
        if random.chance(60) {
            let from = resumed.saturating_sub(random.between(0, MINUTE));
            self.chaos.push((from, from + random.between(MINUTE / 2, 3 * MINUTE)));
        }
        self.people_end = self.people_end.max(again + 5 * MINUTE);
    }

    /// Whether a call at `now` may be struck.
    pub fn is_chaos(&self, now: u64) -> bool {
        self.chaos.iter().any(|(from, to)| (*from..*to).contains(&now))
    }

    /// Whether something may take effect minutes after its author was given up.
    pub fn has_stragglers(&self) -> bool {
        let is_late = |planned: &Planned| matches!(planned.action, Action::LateWrite { .. });
        self.profile.late > 0 || self.profile.stall > 0 || self.planned.iter().any(is_late)
    }
}

impl Profile {
    fn new(random: &mut Random) -> Profile {
        let mut rate = |percent: u64, most: u64| {
            if random.chance(percent) { random.between(most / 10, most) } else { 0 }
        };
        let (fail, lose_answer, crash) = (rate(60, 600), rate(60, 600), rate(50, 100));
        let (stall, late, throttle) = (rate(40, 100), rate(40, 600), rate(30, 1000));
        let message_faults = rate(60, 4000);
        let instances = random.between(1, 3) as usize;
        // Most races need few VMs; some runs have many, few have hundreds.
        let (vms, nsgs) = match random.below(500) {
            0 => (random.between(100, 250), random.between(4, 12)),
            1..20 => (random.between(12, 40), random.between(3, 8)),
            _ => (random.between(1, 6), random.between(1, 4)),
        };
        let (vms, nsgs) = (vms as usize, nsgs as usize);
        let skewed = random.chance(40);
        let skew =
            (0..instances).map(|_| if skewed { random.between(0, 4000) as i64 - 2000 } else { 0 }).collect();
        Profile {
            fail,
            lose_answer,
            crash,
            stall,
            late,
            throttle,
            message_faults,
            operation: if random.chance(40) { random.between(100, 8000) } else { 0 },
            supersede: random.chance(50),
            instances,
            skew,
            wipes: random.chance(6),
            edits: random.chance(50),
            vms,
            nsgs,
            events: false,
        }
    }
}

fn chaos(random: &mut Random) -> Vec<(u64, u64)> {
    let mut windows = Vec::new();
    let mut at = random.between(0, 2) * MINUTE;
    for _ in 0..random.between(1, 3) {
        let to = at + random.between(MINUTE / 2, 7 * MINUTE);
        windows.push((at, to));
        at = to + random.between(3, 12) * MINUTE;
    }
    windows
}

fn people(random: &mut Random, profile: &Profile, chaos: &[(u64, u64)]) -> (Vec<Planned>, u64) {
    let end = chaos.iter().map(|(_, to)| *to).max().unwrap_or(0) + 2 * MINUTE;
    let mut planned = Vec::new();
    let mut add = |at: u64, action: Action| planned.push(Planned { at, action });
    for vm in 0..profile.vms {
        add(
            random.between(0, MINUTE),
            Action::Enable { vm, both: random.chance(60), exception: random.chance(30) },
        );
    }
    let mut submissions = 0;
    let mut at = MINUTE;
    let pace = if profile.vms > 10 { 6_000 } else { 25_000 };
    while at < end {
        at += random.between(200, 2 * pace);
        // People often act at nearly the same moment, and what they do then is what races.
        let vm = random.below(profile.vms as u64) as usize;
        let nsg = random.below(profile.nsgs as u64) as usize;
        match random.below(100) {
            0..40 => {
                submissions += 1;
                let who = random.below(REQUESTERS.len() as u64) as usize;
                let port = *random.pick(&PORTS[..2]);
                let (nth, minutes) = (submissions - 1, random.between(1, 14));
                add(at, Action::Submit { nth, vm, who, port, minutes, ahead: 0 });
                if random.chance(35) {
                    let soon = if random.chance(60) { 3_000 } else { 4 * MINUTE };
                    add(at + random.between(50, soon), Action::Revoke { nth });
                }
            }
            40..50 if submissions > 0 => {
                add(at, Action::Revoke { nth: random.below(submissions as u64) as usize })
            }
            50..60 => {
                add(at, Action::Disable { vm });
                if random.chance(70) {
                    let latest = if random.chance(60) { 4_000 } else { 3 * MINUTE };
                    let again = at + random.between(20, latest);
                    add(again, Action::Enable { vm, both: random.chance(60), exception: random.chance(30) });
                }
            }
            60..68 => add(at, Action::Enable { vm, both: random.chance(60), exception: random.chance(30) }),
            68..86 if profile.edits => match random.below(6) {
                0 => add(at, Action::RemoveManaged { nsg, nth: random.below(9) }),
                1 => add(at, Action::OpenManaged { nsg }),
                2 => add(at, Action::AddRule { nsg, priority: random.between(100, 400) }),
                3 => add(at, Action::RemoveRule { nsg }),
                4 => add(at, Action::Remember { nsg }),
                _ => add(at, Action::Overwrite { nsg, remembered: random.chance(60) }),
            },
            86..88 if profile.edits && profile.vms > 2 => add(at, Action::DeleteVm { vm }),
            88..89 if profile.wipes => add(at, Action::Wipe),
            89..92 => {
                let port = *random.pick(&[Port::Store, Port::Bus, Port::Azure]);
                add(at, Action::Outage { port, seconds: random.between(2, 150) });
            }
            _ => {}
        }
    }
    planned.sort_by_key(|planned| planned.at);
    (planned, end)
}
