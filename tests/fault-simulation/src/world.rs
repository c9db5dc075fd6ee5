//! The world of one run: time, what is to happen next, Azure, the tables, and the faults that strike calls.

use crate::estate::{Place, TENANT};
use crate::mutant::Mutant;
use crate::random::{Random, mix};
use crate::referee::{Known, Referee};
use crate::script::{Port, Script};
use ajar_access::ports::blobs::BlobName;
use ajar_access::ports::bus::Queue;
use azure_simulator::{ManualClock, Overlap, Simulator, Switches};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// When every run begins.
pub(crate) const EPOCH: &str = "2026-11-24T12:00:00Z";

/// How much longer than the fault says a straggler may take: its way to Azure and an operation there.
pub(crate) const STRAGGLING: u64 = 15_000;

/// What befalls one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and has no effect.
    Fail,
    /// It has its effect and fails.
    LoseAnswer,
    /// The instance dies before the call, or after its effect.
    Crash { after_effect: bool },
    /// It is so many milliseconds late: before its effect, or before its answer.
    Stall { after_effect: bool, millis: u64 },
    /// Its caller gives up after 15 seconds; it takes effect so many milliseconds after it was sent.
    Late { millis: u64 },
    /// 429.
    Throttle,
    /// A message vanishes.
    LoseMessage,
    /// A message comes twice, the second time so many milliseconds later.
    RepeatMessage { millis: u64 },
    /// A message comes so many milliseconds late.
    DelayMessage { millis: u64 },
}

/// Faults by the number of the call they strike.
pub type Faults = BTreeMap<u64, Fault>;

/// What a call is, as far as faults care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    StoreRead,
    StoreWrite,
    BlobRead,
    BlobWrite,
    Send,
    AzureRead,
    /// One NSG, as a holder of its lease reads it.
    PointRead,
    AzureWrite,
    /// Who may do what.
    RoleRead,
}

impl Kind {
    fn port(self) -> Port {
        match self {
            Kind::StoreRead | Kind::StoreWrite => Port::Store,
            Kind::BlobRead | Kind::BlobWrite => Port::Blobs,
            Kind::Send => Port::Bus,
            Kind::AzureRead | Kind::PointRead | Kind::AzureWrite => Port::Azure,
            Kind::RoleRead => Port::Roles,
        }
    }
}

/// Something done to the world at a moment.
pub(crate) type Effect = Box<dyn FnOnce(&mut State) + Send>;

/// What happens next.
pub(crate) enum Event {
    /// A task that waits goes on.
    Wake(Waker),
    /// A message arrives for the `tries`th time.
    Deliver { queue: Queue, body: String, tries: u32 },
    /// The script's action number so-and-so.
    Person(usize),
    /// The minute timer.
    Sweep,
    /// A dead instance is back.
    Restart(usize),
    /// The referee looks, and what has run too long is killed.
    Tick,
    /// What a straggler does.
    Land(Effect),
    /// Somebody tells that NSGs were edited.
    Signal,
}

/// All tables: version and text by table, partition and row.
pub(crate) type Rows = BTreeMap<(&'static str, String, String), (u64, String)>;

/// All of the world; its parts are touched by one task at a time.
pub(crate) struct State {
    pub script: Script,
    pub mutant: Mutant,
    pub now: u64,
    pub clock: ManualClock,
    pub azure: Simulator,
    pub rows: Rows,
    /// The last backup of the tables, with what the referee knew then.
    pub backup: Option<(Rows, Known)>,
    /// What is kept beside the tables: version and text by name.
    pub blobs: BTreeMap<String, (u64, String)>,
    pub etags: u64,
    pub referee: Referee,
    pub events: BTreeMap<(u64, u64, u64), Event>,
    sequence: u64,
    pub calls: u64,
    pub identifiers: u64,
    replay: Option<Faults>,
    pub struck: Faults,
    /// Faults that the script wants to strike the next call of their kind.
    pub ordered: Vec<(Kind, Fault)>,
    pub outages: BTreeMap<Port, u64>,
    /// How often each instance died.
    pub deaths: BTreeMap<usize, u64>,
    /// Instances to be killed once the running task pauses.
    pub dying: Vec<usize>,
    pub trace: Option<Vec<String>>,
    /// The lists of Azure Resource Graph, and when they were made.
    pub listed: Option<(u64, Arc<Vec<serde_json::Value>>)>,
    /// Where each VM is.
    pub places: Vec<Place>,
    /// How many events Azure has told.
    told: u64,
}

impl State {
    pub(crate) fn new(
        script: Script,
        mutant: Mutant,
        replay: Option<Faults>,
        estate: &str,
        traced: bool,
    ) -> State {
        let epoch: Timestamp = EPOCH.parse().expect("a timestamp");
        let clock = ManualClock::new(epoch);
        let places = (0..script.profile.vms).map(|vm| Place::first(&script, vm)).collect();
        let mut azure = Simulator::new(estate, Arc::new(clock.clone()), script.seed).expect("a sound estate");
        *azure.switches_mut() = Switches {
            asynchronous: script.profile.operation > 0,
            operation_latency_ms: script.profile.operation,
            overlap: if script.profile.supersede { Overlap::Supersede } else { Overlap::Serialise },
            page_size: 1000,
            ..Switches::default()
        };
        State {
            referee: Referee::new(&script, &mut azure),
            script,
            mutant,
            now: 0,
            clock,
            azure,
            rows: BTreeMap::new(),
            backup: None,
            blobs: BTreeMap::new(),
            etags: 0,
            events: BTreeMap::new(),
            sequence: 0,
            calls: 0,
            identifiers: 0,
            replay,
            struck: Faults::new(),
            ordered: Vec::new(),
            outages: BTreeMap::new(),
            deaths: BTreeMap::new(),
            dying: Vec::new(),
            trace: traced.then(Vec::new),
            listed: None,
            places,
            told: 0,
        }
    }

    /// Azure tells of what has changed, in its own time: soon or minutes later, now and then twice, in any order.
    pub(crate) fn tell_of_changes(&mut self) {
        let changes = self.azure.take_changes();
        if !self.script.profile.events || self.mutant == Mutant::IgnoredEvents {
            return;
        }
        for change in changes {
            self.told += 1;
            let number = self.told;
            let mut random = Random::new(mix(self.script.seed, 19, number), 0);
            let body = json!({"id": number.to_string(), "eventType": change.event_type,
                "subject": &change.resource, "eventTime": change.time.to_string(), "data": {
                "resourceUri": &change.resource, "operationName": &change.action, "claims": {
                    "http://schemas.microsoft.com/identity/claims/objectidentifier": &change.caller,
                    "http://schemas.microsoft.com/identity/claims/tenantid": TENANT}}})
            .to_string();
            let is_late = random.chance(8);
            let soon = random.between(300, 4_000);
            let first = if is_late { random.between(4_000, 180_000) } else { soon };
            let again = random.chance(8).then(|| random.between(1, 240_000));
            for wait in std::iter::once(first).chain(again) {
                if wait > 4_000 {
                    self.referee.disturbed(self.now + wait);
                }
                let deliver = Event::Deliver { queue: Queue::VmEvents, body: body.clone(), tries: 0 };
                self.plan(self.now + wait, deliver);
            }
        }
    }

    /// The generation that the tables have.
    pub(crate) fn generation_of_rows(&self) -> Option<u64> {
        generation(&self.rows.get(&("cursors", "store".to_owned(), "marker".to_owned()))?.1)
    }

    /// Puts the last backup in the place of the tables, unless nothing could tell it from the present: no generation
    /// was raised since. Returns whether it did.
    pub(crate) fn restore(&mut self) -> bool {
        let Some((rows, known)) = self.backup.take() else { return false };
        let marker = rows.get(&("cursors", "store".to_owned(), "marker".to_owned()));
        let of_backup = marker.and_then(|(_, document)| generation(document));
        let of_blob = self.blobs.get(BlobName::generation().as_str()).and_then(|(_, text)| generation(text));
        if of_backup.is_none() || of_backup >= of_blob {
            return false;
        }
        self.rows = rows;
        for (etag, _) in self.rows.values_mut() {
            self.etags += 1;
            *etag = self.etags;
        }
        let now = self.now;
        let State { referee, rows, .. } = self;
        referee.restored(now, rows, known);
        true
    }

    /// Plans an event; of several at one moment the seed decides which comes first.
    pub(crate) fn plan(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        let tie = mix(self.script.seed, 2, self.sequence);
        self.events.insert((at.max(self.now), tie, self.sequence), event);
    }

    /// Moves time on.
    pub(crate) fn advance_to(&mut self, at: u64) {
        if at > self.now {
            self.clock.advance(Duration::from_millis(at - self.now));
            self.now = at;
        }
    }

    /// Writes a line of the story, when somebody wants to read it.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9.3} {}", now as f64 / 1000.0, line()));
        }
    }

    fn is_out(&self, port: Port) -> bool {
        self.outages.get(&port).is_some_and(|until| self.now < *until)
    }

    /// The number of the next call and what befalls it.
    fn draw(&mut self, kind: Kind) -> (u64, Option<Fault>) {
        self.calls += 1;
        let call = self.calls;
        let fault = match &self.replay {
            Some(faults) => faults.get(&call).copied(),
            None if self.ordered.iter().any(|(ordered, _)| *ordered == kind) => self.take_ordered(kind),
            None if self.script.is_chaos(self.now) => self.chance_fault(call, kind),
            None => None,
        };
        if let Some(fault) = fault {
            self.struck.insert(call, fault);
            self.tell(|| format!("    FAULT at call {call} ({kind:?}): {fault:?}"));
            let lasts = match fault {
                Fault::Stall { millis, .. }
                | Fault::Late { millis }
                | Fault::DelayMessage { millis }
                | Fault::RepeatMessage { millis } => millis,
                _ => 0,
            };
            self.referee.disturbed(self.now + lasts);
            // Only what is on its way to Azure cannot be held back. Whoever stands still before a write looks at its
            // lease first.
            let is_on_its_way =
                matches!(fault, Fault::Late { .. } | Fault::Stall { after_effect: false, .. });
            if kind == Kind::AzureWrite && is_on_its_way {
                self.referee.straggles(self.now + lasts + STRAGGLING);
            }
        }
        (call, fault)
    }

    fn take_ordered(&mut self, kind: Kind) -> Option<Fault> {
        let at = self.ordered.iter().position(|(ordered, _)| *ordered == kind)?;
        Some(self.ordered.remove(at).1)
    }

    fn chance_fault(&self, call: u64, kind: Kind) -> Option<Fault> {
        let profile = &self.script.profile;
        let mut random = Random::new(mix(self.script.seed, 3, call), 0);
        let mut strikes = |rate: u64| rate > 0 && random.below(10_000) < rate;
        let is_write = matches!(kind, Kind::StoreWrite | Kind::BlobWrite | Kind::Send | Kind::AzureWrite);
        if strikes(profile.crash) {
            return Some(Fault::Crash { after_effect: random.chance(50) });
        }
        if strikes(profile.stall) {
            let millis = random.between(1_000, 120_000);
            return Some(Fault::Stall { after_effect: random.chance(50), millis });
        }
        if kind == Kind::AzureWrite && strikes(profile.late) {
            return Some(Fault::Late { millis: random.between(15_000, 240_000) });
        }
        if matches!(kind.port(), Port::Azure | Port::Roles) && strikes(profile.throttle) {
            return Some(Fault::Throttle);
        }
        if kind == Kind::Send && strikes(profile.message_faults) {
            return Some(match random.below(3) {
                0 => Fault::LoseMessage,
                1 => Fault::RepeatMessage { millis: random.between(1, 240_000) },
                _ => Fault::DelayMessage { millis: random.between(1_000, 180_000) },
            });
        }
        if strikes(profile.fail) {
            return Some(Fault::Fail);
        }
        (is_write && strikes(profile.lose_answer)).then_some(Fault::LoseAnswer)
    }
}

fn generation(document: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(document).ok()?["generation"].as_u64()
}

/// The world, shared by every adapter.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    Failed,
    Throttled,
}

impl World {
    pub(crate) fn new(state: State) -> World {
        World(Arc::new(Mutex::new(state)))
    }

    /// The world, for as long as nothing is awaited.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no task panics while it holds the world")
    }

    /// Waits; every wait lets the others go on.
    pub(crate) fn pause(&self, millis: u64) -> Pause {
        Pause { world: self.clone(), millis, until: None, planned: None }
    }

    /// One call from `instance` to an outside system: some milliseconds to get there, the effect, some milliseconds
    /// back, unless a fault strikes.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        instance: usize,
        kind: Kind,
        effect: impl FnOnce(&mut State, u64) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (call, fault, there, back) = {
            let mut state = self.lock();
            let (call, fault) = state.draw(kind);
            let mut random = Random::new(mix(state.script.seed, 4, call), 0);
            let slowest = if matches!(kind.port(), Port::Azure | Port::Roles) { 150 } else { 15 };
            (call, fault, random.between(1, slowest), random.between(1, slowest))
        };
        match fault {
            Some(Fault::Fail) => {
                self.pause(there + back).await;
                return Err(NoAnswer::Failed);
            }
            Some(Fault::Throttle) => {
                self.pause(there + back).await;
                return Err(NoAnswer::Throttled);
            }
            Some(Fault::Crash { after_effect: false }) => return self.die(instance).await,
            Some(Fault::Stall { after_effect: false, millis }) => self.pause(millis).await,
            Some(Fault::Late { millis }) => {
                {
                    let mut state = self.lock();
                    let at = state.now + millis;
                    state.plan(
                        at,
                        Event::Land(Box::new(move |state| {
                            state.tell(|| "    a late write takes effect".to_owned());
                            let _ = effect(state, call);
                        })),
                    );
                }
                self.pause(15_000).await;
                return Err(NoAnswer::Failed);
            }
            _ => {}
        }
        self.pause(there).await;
        let value = {
            let mut state = self.lock();
            if state.is_out(kind.port()) { None } else { Some(effect(&mut state, call)) }
        };
        match fault {
            Some(Fault::Crash { after_effect: true }) => return self.die(instance).await,
            Some(Fault::Stall { after_effect: true, millis }) => self.pause(millis).await,
            _ => {}
        }
        self.pause(back).await;
        match (value, fault) {
            (None, _) | (_, Some(Fault::LoseAnswer)) => Err(NoAnswer::Failed),
            (Some(value), _) => Ok(value),
        }
    }

    async fn die<T>(&self, instance: usize) -> T {
        self.lock().dying.push(instance);
        std::future::pending().await
    }

    /// The present moment on the clock of an instance.
    pub(crate) fn now_of(&self, instance: usize) -> Timestamp {
        let state = self.lock();
        let ahead = state.script.profile.skew.get(instance).copied().unwrap_or(0);
        let now = if state.mutant == Mutant::SlowClock { state.now - state.now % 600_000 } else { state.now };
        timestamp(now) + SignedDuration::from_millis(ahead)
    }
}

/// The moment that a number of milliseconds stands for.
pub(crate) fn timestamp(millis: u64) -> Timestamp {
    let epoch: Timestamp = EPOCH.parse().expect("a timestamp");
    epoch + SignedDuration::from_millis(millis as i64)
}

/// A wait in the world's time.
pub(crate) struct Pause {
    world: World,
    millis: u64,
    until: Option<u64>,
    /// Who is woken then. A task that waits for several things is polled whenever one of them is there.
    planned: Option<Waker>,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let world = self.world.clone();
        let mut state = world.lock();
        let millis = self.millis;
        let until = *self.until.get_or_insert(state.now + millis);
        let is_first = self.planned.is_none();
        if !is_first && state.now >= until {
            return Poll::Ready(());
        }
        if !self.planned.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            self.planned = Some(context.waker().clone());
            state.plan(until, Event::Wake(context.waker().clone()));
        }
        Poll::Pending
    }
}
