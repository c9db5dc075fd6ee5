//! One run: the real use cases of several instances as tasks of one loop that a seed decides.

use crate::azure::{Arm, target};
use crate::blobs::BesideTables;
use crate::bus::{InstanceClock, SeededIds, Sender};
use crate::estate::{self, SUBSCRIPTION};
use crate::mutant::Mutant;
use crate::random::{Random, mix};
use crate::referee::Policy;
use crate::script::{Action, MINUTE, REQUESTERS, Script};
use crate::store::Tables;
use crate::world::{Event, Fault, Faults, Kind, State, World, timestamp};
use ajar_access::error::AccessError;
use ajar_access::extend::ExtensionInput;
use ajar_access::permission::RecentPermissions;
use ajar_access::policy::PolicyInput;
use ajar_access::ports::Ports;
use ajar_access::ports::bus::{ComplianceMessage, Queue, ReconcileMessage, RequestMessage};
use ajar_access::request::RequestInput;
use ajar_access::request_id::RequestId;
use ajar_access::template::Templates;
use ajar_access::{
    Ajar, Chains, Settings, close, compliance, configure, event_message, extend, history, message, resume,
    submit, sweep,
};
use ajar_network::plan::DeploymentName;
use azure_simulator::{Reaction, Request};
use http::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What did not hold.
    pub violation: Option<String>,
    /// The faults that struck.
    pub struck: Faults,
    /// How many calls to outside systems there were.
    pub calls: u64,
    /// How many requests were granted.
    pub granted: u64,
    /// Virtual milliseconds.
    pub lasted: u64,
    /// The story, when it was asked for.
    pub trace: Vec<String>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is to be done again when its instance dies.
#[derive(Debug, Clone)]
enum Origin {
    Message { queue: Queue, body: String, tries: u32 },
    Person(usize),
    Timer,
}

struct Task {
    work: Work,
    /// The same for every poll, so that a wait can tell that it is already known whom to wake.
    waker: Waker,
    instance: usize,
    started: u64,
    origin: Origin,
}

struct Ready {
    task: u64,
    queue: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.queue.lock().expect("nobody panics with the queue").push_back(self.task);
    }
}

/// The function's time-out: what runs longer is killed with its whole instance.
const FUNCTION_TIMEOUT: u64 = 5 * MINUTE;
/// How long the referee waits after the last access ended before it wants everything gone: a due row whose change never
/// came is kept for an hour.
const CALM: u64 = 95 * MINUTE;
const TICK: u64 = 5_000;
/// How long until a message that failed is handed out again.
const REDELIVERY: u64 = 20_000;
/// Far more events than any run has.
const MOST_EVENTS: u64 = 5_000_000;

struct Run {
    world: World,
    instances: Vec<Option<Ajar>>,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,
    /// Policy changes under way, by VM.
    administered: Arc<Mutex<BTreeMap<usize, usize>>>,
    ids: Arc<Mutex<BTreeMap<usize, String>>>,
    /// The moments that actions named when they were first tried: starts and ends.
    starts: BTreeMap<usize, u64>,
    picks: u64,
}

/// Runs a script; with `replay` the faults are those and no others.
pub fn run(script: &Script, mutant: Mutant, replay: Option<&Faults>, traced: bool) -> Outcome {
    let estate = estate::estate(script);
    let state = State::new(script.clone(), mutant, replay.cloned(), &estate, traced);
    let world = World::new(state);
    let mut run = Run {
        instances: (0..script.profile.instances).map(|instance| Some(ajar(&world, instance))).collect(),
        world,
        tasks: BTreeMap::new(),
        next_task: 0,
        ready: Arc::default(),
        administered: Arc::default(),
        ids: Arc::default(),
        starts: BTreeMap::new(),
        picks: 0,
    };
    run.begin(script);
    run.go_on(script);
    run.end(script);
    let state = run.world.lock();
    Outcome {
        violation: state.referee.violation.clone(),
        struck: state.struck.clone(),
        calls: state.calls,
        granted: state.referee.granted(),
        lasted: state.now,
        trace: state.trace.clone().unwrap_or_default(),
    }
}

fn ajar(world: &World, instance: usize) -> Ajar {
    Ajar {
        chains: Chains::default(),
        settings: Settings {
            deployment: DeploymentName::parse("sim").expect("a deployment name"),
            subscriptions: vec![SUBSCRIPTION.to_owned()],
            management_groups: Vec::new(),
            event_namespace: None,
            templates: Templates::default(),
            remind_before: ajar_access::REMIND_BEFORE,
            approval_time: ajar_access::APPROVAL_TIME,
        },
        ports: Ports {
            notifiers: Vec::new(),
            organisation: Arc::new(ajar_access::ports::organisation::Unrestricted),
            store: Arc::new(Tables { world: world.clone(), instance }),
            blobs: Arc::new(BesideTables { world: world.clone(), instance }),
            azure: Arc::new(Arm { world: world.clone(), instance }),
            bus: Arc::new(Sender { world: world.clone(), instance }),
            clock: Arc::new(InstanceClock { world: world.clone(), instance }),
            ids: Arc::new(SeededIds(world.clone())),
        },
        permissions: RecentPermissions::default(),
        looks: ajar_access::store_marker::Looks::default(),
    }
}

impl Run {
    fn begin(&mut self, script: &Script) {
        let mut state = self.world.lock();
        for (number, planned) in script.planned.iter().enumerate() {
            state.plan(planned.at, Event::Person(number));
        }
        for (_, to) in &script.chaos {
            state.plan(to + 1_000, Event::Signal);
            state.referee.disturbed(*to);
        }
        state.plan(0, Event::Tick);
        state.plan(MINUTE, Event::Sweep);
    }

    fn go_on(&mut self, script: &Script) {
        for _ in 0..MOST_EVENTS {
            let event = {
                let mut state = self.world.lock();
                let calm_since =
                    script.people_end.max(state.referee.last_end()).max(state.referee.disturbed_until);
                if state.referee.violation.is_some() || state.now > calm_since + CALM {
                    return;
                }
                let Some(((at, _, _), event)) = state.events.pop_first() else { return };
                state.advance_to(at);
                event
            };
            match event {
                Event::Wake(waker) => waker.wake(),
                Event::Deliver { queue, body, tries } => self.deliver(queue, body, tries),
                Event::Person(number) => self.person(script, number),
                Event::Sweep => {
                    let next = self.world.lock().now + MINUTE;
                    self.world.lock().plan(next, Event::Sweep);
                    if let Some((instance, ajar)) = self.pick() {
                        let work = async move { drop(sweep::sweep(&ajar).await) };
                        self.spawn(instance, Origin::Timer, Box::pin(work));
                    }
                }
                Event::Restart(instance) => self.instances[instance] = Some(ajar(&self.world, instance)),
                Event::Tick => self.tick(),
                Event::Land(effect) => {
                    let mut state = self.world.lock();
                    effect(&mut state);
                }
                Event::Signal if script.profile.events => {}
                Event::Signal => {
                    let edited = self.world.lock().referee.edited();
                    for nsg in edited {
                        let body = json!({"point": estate::nsg(nsg)}).to_string();
                        self.deliver(Queue::Reconcile, body, 0);
                    }
                }
            }
            self.poll_ready();
            self.world.lock().tell_of_changes();
        }
        self.world
            .lock()
            .referee
            .violation
            .get_or_insert_with(|| "(7) the run does not come to an end".to_owned());
    }

    /// An instance that is alive.
    fn pick(&mut self) -> Option<(usize, Ajar)> {
        self.picks += 1;
        let alive: Vec<usize> =
            (0..self.instances.len()).filter(|at| self.instances[*at].is_some()).collect();
        if alive.is_empty() {
            return None;
        }
        let chosen = alive[(mix(self.world.lock().script.seed, 8, self.picks) % alive.len() as u64) as usize];
        self.instances[chosen].clone().map(|ajar| (chosen, ajar))
    }

    fn spawn(&mut self, instance: usize, origin: Origin, work: Work) {
        self.next_task += 1;
        let started = self.world.lock().now;
        let waker = Waker::from(Arc::new(Ready { task: self.next_task, queue: Arc::clone(&self.ready) }));
        self.tasks.insert(self.next_task, Task { work, waker, instance, started, origin });
        self.ready.lock().expect("nobody panics with the queue").push_back(self.next_task);
    }

    fn poll_ready(&mut self) {
        loop {
            let next = self.ready.lock().expect("nobody panics with the queue").pop_front();
            let Some(number) = next else { return };
            let Some(task) = self.tasks.get_mut(&number) else { continue };
            if task.work.as_mut().poll(&mut Context::from_waker(&task.waker)) == Poll::Ready(()) {
                self.tasks.remove(&number);
            }
            let dying = std::mem::take(&mut self.world.lock().dying);
            for instance in dying {
                self.kill(instance);
            }
        }
    }

    /// Ends an instance: all that it does stops where it is.
    fn kill(&mut self, instance: usize) {
        if self.instances[instance].take().is_none() {
            return;
        }
        let dead: Vec<u64> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.instance == instance)
            .map(|(number, _)| *number)
            .collect();
        let mut origins = Vec::new();
        for number in dead {
            if let Some(task) = self.tasks.remove(&number) {
                origins.push(task.origin);
            }
        }
        let mut state = self.world.lock();
        state.tell(|| format!("instance {instance} dies"));
        *state.deaths.entry(instance).or_default() += 1;
        let mut random = Random::new(mix(state.script.seed, 9, state.now), instance as u64);
        let back = state.now + random.between(500, 20_000);
        // What it held of the bus is handed out again when the lock runs out.
        let unlocked = state.now + MINUTE;
        state.plan(back, Event::Restart(instance));
        state.referee.disturbed(unlocked);
        for origin in origins {
            match origin {
                Origin::Message { queue, body, tries } if tries < 9 => {
                    state.plan(unlocked, Event::Deliver { queue, body, tries: tries + 1 });
                }
                Origin::Person(number) => {
                    let again = state.now + random.between(1_000, 10_000);
                    state.plan(again, Event::Person(number));
                    self.administered.lock().expect("nobody panics with it").retain(|_, by| *by != number);
                }
                _ => {}
            }
        }
    }

    fn deliver(&mut self, queue: Queue, body: String, tries: u32) {
        let Some((instance, ajar)) = self.pick() else {
            let later = self.world.lock().now + 1_000;
            return self.world.lock().plan(later, Event::Deliver { queue, body, tries });
        };
        self.world.lock().tell(|| format!("instance {instance} gets {} {body}", queue.name()));
        let origin = Origin::Message { queue, body: body.clone(), tries };
        let work: Work = match queue {
            Queue::AccessRequests => Box::pin(async move {
                let request: RequestMessage = serde_json::from_str(&body).expect("what Ajar sent");
                message::on_request_message(&ajar, request).await;
            }),
            Queue::VmEvents => {
                let world = self.world.clone();
                Box::pin(async move {
                    if event_message::on_event_message(&ajar, body.as_bytes()).await.is_err() && tries < 9 {
                        let mut state = world.lock();
                        let at = state.now + REDELIVERY;
                        state.plan(at, Event::Deliver { queue, body, tries: tries + 1 });
                    }
                })
            }
            Queue::Compliance => Box::pin(async move {
                let sweep: ComplianceMessage = serde_json::from_str(&body).expect("what Ajar sent");
                compliance::on_message(&ajar, sweep).await;
            }),
            _ => Box::pin(async move {
                let point: ReconcileMessage = serde_json::from_str(&body).expect("what Ajar sent");
                message::on_reconcile_message(&ajar, point).await;
            }),
        };
        self.spawn(instance, origin, work);
    }

    fn tick(&mut self) {
        let overdue: BTreeSet<usize> = {
            let mut state = self.world.lock();
            let now = state.now;
            let State { referee, azure, trace, .. } = &mut *state;
            referee.tick(now, azure, trace.as_mut());
            state.plan(now + TICK, Event::Tick);
            self.tasks
                .values()
                .filter(|task| now > task.started + FUNCTION_TIMEOUT)
                .map(|task| task.instance)
                .collect()
        };
        for instance in overdue {
            self.kill(instance);
        }
    }

    fn person(&mut self, script: &Script, number: usize) {
        let action = script.planned[number].action.clone();
        match action {
            Action::Enable { vm, .. } | Action::Disable { vm } => self.administer(number, vm, action),
            Action::Submit { vm, who, port, minutes, ahead, .. } => {
                let start = self.start_of(number, ahead);
                self.submit(number, vm, who, port, minutes, start);
            }
            Action::Revoke { nth } => self.revoke(script, number, nth),
            Action::Restore => self.restore(),
            Action::Comply => self.deliver(Queue::Compliance, "{}".to_owned(), 0),
            Action::Resume => self.resume(number),
            Action::Extend { nth, minutes } => self.extend(script, number, nth, minutes),
            other => self.elsewhere(script, &other),
        }
    }

    fn administer(&mut self, number: usize, vm: usize, action: Action) {
        let is_busy = self.administered.lock().expect("nobody panics with it").contains_key(&vm);
        let Some((instance, ajar)) = (if is_busy { None } else { self.pick() }) else {
            let later = self.world.lock().now + 700;
            return self.world.lock().plan(later, Event::Person(number));
        };
        self.administered.lock().expect("nobody panics with it").insert(vm, number);
        let (losses, before) = {
            let mut state = self.world.lock();
            let now = state.now;
            state.tell(|| format!("alice: {action:?}"));
            let before = state.referee.policy_of(vm);
            state.referee.policy(now, vm, Policy::Unknown);
            (state.referee.losses, before)
        };
        let (world, administered) = (self.world.clone(), Arc::clone(&self.administered));
        let work = async move {
            let caller = estate::caller("alice");
            let id = estate::vm(vm);
            let (answered, policy) = match action {
                Action::Enable { both, exception, .. } => {
                    let mut ports = vec![json!({"port": 22, "maximumDuration": "PT3H"})];
                    if both {
                        ports.push(json!({"port": 3389}));
                    }
                    let mut input = json!({"vm": id.as_str(), "ports": ports, "minimumDuration": "PT1M"});
                    if exception {
                        input["standingExceptions"] = json!([crate::script::EXCEPTION]);
                    }
                    let input: PolicyInput = serde_json::from_value(input).expect("a policy");
                    (configure::enable(&ajar, &caller, &input).await, Policy::On { both, exception })
                }
                _ => (configure::disable(&ajar, &caller, &id).await, Policy::Off),
            };
            let mut state = world.lock();
            let now = state.now;
            state.tell(|| format!("alice is answered about vm-{vm}: {}", told(&answered)));
            administered.lock().expect("nobody panics with it").remove(&vm);
            match answered {
                // Tables were emptied while it was written: it may have been among what was lost.
                Ok(_) if state.referee.losses > losses => {}
                Ok(_) => state.referee.policy(now, vm, policy),
                Err(AccessError::NotFound(_)) if policy == Policy::Off => {
                    state.referee.policy(now, vm, policy)
                }
                Err(error) if error.is_temporary() => state.plan(now + 3_000, Event::Person(number)),
                Err(error) if is_told_of_restored(&error) => {
                    state.referee.told_of_restored(now);
                    if state.referee.losses == losses {
                        // Refused before anything was changed.
                        state.referee.policy(now, vm, before);
                    }
                }
                Err(_) => {}
            }
        };
        self.spawn(instance, Origin::Person(number), Box::pin(work));
    }

    /// The app is stopped, old tables are put in the place of the present ones, and the app is started.
    fn restore(&mut self) {
        if !self.world.lock().restore() {
            return self.world.lock().tell(|| "no backup is old enough to be put back".to_owned());
        }
        self.world.lock().tell(|| "old tables are put back".to_owned());
        for instance in 0..self.instances.len() {
            self.kill(instance);
        }
    }

    /// The administrator says that Ajar is to go on, again and again until it does.
    fn resume(&mut self, number: usize) {
        let Some((instance, ajar)) = self.pick() else {
            let later = self.world.lock().now + 700;
            return self.world.lock().plan(later, Event::Person(number));
        };
        {
            let mut state = self.world.lock();
            let now = state.now;
            state.referee.resuming(now);
        }
        let world = self.world.clone();
        let work = async move {
            let answered = resume::resume(&ajar, &estate::caller("alice")).await;
            let mut state = world.lock();
            let now = state.now;
            state.tell(|| format!("alice has Ajar go on: {}", told(&answered)));
            match answered {
                Err(error) if error.is_temporary() => state.plan(now + 5_000, Event::Person(number)),
                // Done, or done by an attempt whose answer was lost.
                Ok(_) | Err(AccessError::Conflict { .. }) => state.referee.resumed(now),
                Err(error) => state.tell(|| format!("resume: {error:?}")),
            }
        };
        self.spawn(instance, Origin::Person(number), Box::pin(work));
    }

    /// When what is asked for by action `number` is to begin, the same however often it is tried.
    fn start_of(&mut self, number: usize, ahead: u64) -> Option<u64> {
        let now = self.world.lock().now;
        (ahead > 0).then(|| *self.starts.entry(number).or_insert(now + ahead * 1000))
    }

    fn submit(&mut self, number: usize, vm: usize, who: usize, port: u16, minutes: u64, start: Option<u64>) {
        let Some((instance, ajar)) = self.pick() else { return };
        let (world, ids) = (self.world.clone(), Arc::clone(&self.ids));
        let work = async move {
            let (name, source) = REQUESTERS[who];
            let mut input = json!({"vm": estate::vm(vm).as_str(), "duration": format!("PT{minutes}M"),
                "justification": number.to_string(), "ports": [{"port": port, "sources": [source]}]});
            if let Some(start) = start {
                input["start"] = timestamp(start).to_string().into();
            }
            let input: RequestInput = serde_json::from_value(input).expect("a request");
            let answered = submit::submit(&ajar, &estate::caller(name), &input).await;
            let mut state = world.lock();
            let now = state.now;
            state.tell(|| {
                format!(
                    "{name} asks for vm-{vm} port {port}, {minutes} min (number {number}): {}",
                    told(&answered)
                )
            });
            match answered {
                Ok(request) => {
                    ids.lock().expect("nobody panics with it").insert(number, request.id.to_string());
                    state.referee.accepted(now, request.id.as_str());
                }
                Err(error) if error.is_temporary() && now < state.script.people_end => {
                    state.plan(now + 8_000, Event::Person(number));
                }
                Err(error) if is_told_of_restored(&error) => state.referee.told_of_restored(now),
                Err(_) => {}
            }
        };
        self.spawn(instance, Origin::Person(number), Box::pin(work));
    }

    /// The number of the action that was the `nth` submission, whose it was, and the request it became.
    fn submitted(&self, script: &Script, wanted: usize) -> Option<(usize, usize, RequestId)> {
        let (submission, who) =
            script.planned.iter().enumerate().find_map(|(at, planned)| match planned.action {
                Action::Submit { nth, who, .. } if nth == wanted => Some((at, who)),
                _ => None,
            })?;
        let id = self.ids.lock().expect("nobody panics with it").get(&submission).cloned()?;
        Some((submission, who, RequestId::parse(&id).ok()?))
    }

    fn extend(&mut self, script: &Script, number: usize, nth: usize, minutes: u64) {
        let Some((submission, who, id)) = self.submitted(script, nth) else { return };
        let Some((instance, ajar)) = self.pick() else { return };
        let now = self.world.lock().now;
        let until = *self.starts.entry(number).or_insert(now + minutes * MINUTE);
        self.world.lock().referee.extending(id.as_str(), until);
        let world = self.world.clone();
        let work = async move {
            let (name, _) = REQUESTERS[who];
            let input =
                ExtensionInput { until: Some(timestamp(until).to_string()), ..ExtensionInput::default() };
            let answered = extend::extend(&ajar, &estate::caller(name), &id, &input).await;
            let mut state = world.lock();
            let now = state.now;
            state.tell(|| {
                let until = until as f64 / 1000.0;
                format!("{name} extends number {submission}, {id}, until {until:.3}: {}", told(&answered))
            });
            match answered {
                Ok(_) => state.referee.extended(now, id.as_str(), until),
                Err(error) if error.is_temporary() && now < until => {
                    state.plan(now + 3_000, Event::Person(number));
                }
                Err(_) => {}
            }
        };
        self.spawn(instance, Origin::Person(number), Box::pin(work));
    }

    fn revoke(&mut self, script: &Script, number: usize, nth: usize) {
        let Some((submission, who, id)) = self.submitted(script, nth) else { return };
        let Some((instance, ajar)) = self.pick() else {
            let later = self.world.lock().now + 700;
            return self.world.lock().plan(later, Event::Person(number));
        };
        let world = self.world.clone();
        let work = async move {
            let (name, _) = REQUESTERS[who];
            let answered = close::revoke(&ajar, &estate::caller(name), &id).await;
            let mut state = world.lock();
            let now = state.now;
            state.tell(|| format!("{name} ends number {submission}, {id}: {}", told(&answered)));
            match answered {
                Ok(_) => state.referee.revoked(now, id.as_str()),
                Err(error) if error.is_temporary() => state.plan(now + 3_000, Event::Person(number)),
                Err(_) => {}
            }
        };
        self.spawn(instance, Origin::Person(number), Box::pin(work));
    }

    /// What people do without Ajar.
    fn elsewhere(&mut self, script: &Script, action: &Action) {
        let mut state = self.world.lock();
        state.tell(|| format!("people: {action:?}"));
        let now = state.now;
        let mut edited = None;
        match *action {
            Action::Wipe => {
                state.rows.clear();
                state.referee.wiped(None);
            }
            Action::BackUp => {
                let State { rows, referee, backup, .. } = &mut *state;
                *backup = Some((rows.clone(), referee.known()));
            }
            Action::Outage { port, seconds } => {
                let until = now + seconds * 1000;
                state.outages.insert(port, until);
                state.referee.disturbed(until);
                state.plan(until + 1_000, Event::Signal);
            }
            Action::LoseTable { table } => {
                state.rows.retain(|(name, ..), _| *name != table);
                state.referee.wiped(Some(table));
            }
            Action::ReplaceVm { vm, seconds } => {
                let id = estate::vm(vm);
                let Some(json) = state.azure.resource(id.as_str()) else { return };
                let gone = Request::new(Method::DELETE, &target(id.as_str()));
                let _ = state.azure.handle_as("alice", &gone);
                state.referee.deleted(vm);
                let mut body = json!({"location": json["location"], "properties": json["properties"]});
                // Azure gives each VM another.
                if let Some(properties) = body["properties"].as_object_mut() {
                    properties.remove("vmId");
                }
                let again = Request::new(Method::PUT, &target(id.as_str())).with_json(&body);
                let operation = script.profile.operation;
                let effect = move |state: &mut State| {
                    let _ = state.azure.handle_as("alice", &again);
                    let (now, State { referee, azure, .. }) = (state.now, &mut *state);
                    if azure.resource(estate::vm(vm).as_str()).is_some() {
                        referee.created(now, azure, vm);
                        // Packets reach it when its operation ends.
                        let there = now + operation + 1_000;
                        let effect = move |state: &mut State| state.referee.observe(&mut state.azure, vm);
                        state.plan(there, Event::Land(Box::new(effect)));
                    }
                };
                state.plan(now + seconds * 1000, Event::Land(Box::new(effect)));
            }
            Action::DeleteVm { vm } => {
                let request = Request::new(Method::DELETE, &target(estate::vm(vm).as_str()));
                let _ = state.azure.handle_as("alice", &request);
                state.referee.deleted(vm);
                // Where Ajar can learn of it.
                if script.profile.events
                    || script.planned.iter().any(|other| matches!(other.action, Action::Comply))
                {
                    // Its interface follows: while that is there it may be given to another VM, with its address.
                    let request = Request::new(Method::DELETE, &target(&estate::nic(vm)));
                    let effect = move |state: &mut State| drop(state.azure.handle_as("alice", &request));
                    // Not before the VM's own deletion is done.
                    let at = now + 15_000 + mix(script.seed, 20, now) % MINUTE;
                    state.plan(at, Event::Land(Box::new(effect)));
                }
            }
            Action::MoveVm { vm, nsg, subnet } => {
                let mut place = state.places[vm];
                if subnet {
                    place.subnet = 1 - place.subnet;
                } else {
                    place.own = Some(nsg);
                }
                if place.nsgs(script).is_empty() {
                    place.own = Some(nsg);
                }
                let request =
                    Request::new(Method::PUT, &target(&estate::nic(vm))).with_json(&place.interface());
                let is_gone = state.azure.resource(estate::vm(vm).as_str()).is_none();
                if is_gone || !is_done(&state.azure.handle_as("alice", &request)) {
                    return;
                }
                state.places[vm] = place;
                let pristine = estate::estate_with(script, &state.places);
                let State { referee, azure, .. } = &mut *state;
                referee.moved(now, azure, vm, place.nsgs(script), &pristine);
                // Packets meet it when its operation ends.
                let there = now + script.profile.operation + 1_000;
                let effect = move |state: &mut State| state.referee.observe(&mut state.azure, vm);
                state.plan(there, Event::Land(Box::new(effect)));
            }
            Action::Remember { nsg } => {
                if let Some(json) = state.azure.resource(&estate::nsg(nsg)) {
                    state.referee.remember(nsg, json);
                }
            }
            Action::Overwrite { nsg, remembered } => {
                let json = state.referee.overwrite(nsg, remembered);
                let properties = json!({"securityRules": json["properties"]["securityRules"]});
                let body =
                    json!({"location": json["location"], "tags": json["tags"], "properties": properties});
                let request = Request::new(Method::PUT, &target(&estate::nsg(nsg))).with_json(&body);
                let _ = state.azure.handle_as("alice", &request);
                edited = Some(nsg);
            }
            Action::RemoveManaged { nsg, nth } => {
                let rules = rules(&mut state, nsg, |name, _| name.starts_with("ajar-"));
                if let Some(rule) = rules.get(nth as usize % rules.len().max(1)) {
                    write_rule(&mut state, nsg, Method::DELETE, rule);
                }
                edited = Some(nsg);
            }
            Action::OpenManaged { nsg } => {
                let rules = rules(&mut state, nsg, |name, rule| {
                    name.starts_with("ajar-") && rule["properties"]["access"] == "Deny"
                });
                if let Some(mut rule) = rules.first().cloned() {
                    rule["properties"]["access"] = "Allow".into();
                    write_rule(&mut state, nsg, Method::PUT, &rule);
                }
                edited = Some(nsg);
            }
            Action::AddRule { nsg, priority } => {
                let rule = estate::rule(&format!("Quick{priority}"), priority, "Allow", "*", "22-3389");
                write_rule(&mut state, nsg, Method::PUT, &rule);
                edited = Some(nsg);
            }
            Action::RemoveRule { nsg } => {
                let rules = rules(&mut state, nsg, |name, _| !name.starts_with("ajar-"));
                if let Some(rule) = rules.last() {
                    write_rule(&mut state, nsg, Method::DELETE, rule);
                }
                edited = Some(nsg);
            }
            Action::StandStill { millis } => {
                state.ordered.push((Kind::PointRead, Fault::Stall { after_effect: true, millis }));
            }
            Action::LateWrite { millis } => state.ordered.push((Kind::AzureWrite, Fault::Late { millis })),
            Action::Enable { .. }
            | Action::Disable { .. }
            | Action::Submit { .. }
            | Action::Revoke { .. }
            | Action::Restore
            | Action::Comply
            | Action::Resume
            | Action::Extend { .. } => {}
        }
        if let Some(nsg) = edited {
            let State { referee, azure, .. } = &mut *state;
            referee.written_by_people(now, azure, nsg);
            let told_at = now + 500 + mix(state.script.seed, 11, now) % 20_000;
            state.plan(told_at, Event::Signal);
        }
    }

    /// Checks what has to be true when everything is over.
    fn end(&mut self, script: &Script) {
        let mut state = self.world.lock();
        let now = state.now;
        if state.referee.violation.is_none() {
            let State { referee, azure, rows, .. } = &mut *state;
            referee.end(now, azure, rows);
        }
        let is_wiped = script
            .planned
            .iter()
            .any(|planned| matches!(planned.action, Action::Wipe | Action::LoseTable { .. }));
        if state.referee.violation.is_some() || is_wiped {
            return;
        }
        drop(state);
        let mut by_vm: BTreeMap<String, String> = BTreeMap::new();
        let is_stored = |state: &State, id: &str| {
            let id = format!("\"id\":\"{id}\"");
            state.rows.iter().any(|((table, _, row), (_, document))| {
                *table == "requests" && row.starts_with("r_") && document.contains(&id)
            })
        };
        let ids: Vec<String> = self.ids.lock().expect("nobody panics with it").values().cloned().collect();
        let state = self.world.lock();
        for id in ids.iter().filter(|id| is_stored(&state, id)) {
            by_vm.insert(id.split('-').next().unwrap_or_default().to_owned(), id.clone());
        }
        drop(state);
        self.instances = vec![Some(ajar(&self.world, 0))];
        for id in by_vm.into_values().filter_map(|id| RequestId::parse(&id).ok()) {
            let (world, ajar) = (self.world.clone(), ajar(&self.world, 0));
            let work = async move {
                if let Err(error) = history::verify_chain(&ajar, &id).await {
                    world.lock().referee.violation.get_or_insert_with(|| format!("(3) {id}: {error}"));
                }
            };
            self.spawn(0, Origin::Timer, Box::pin(work));
        }
        self.poll_ready();
        while !self.tasks.is_empty() {
            let next = self.world.lock().events.pop_first();
            let Some(((at, _, _), event)) = next else { return };
            self.world.lock().advance_to(at);
            if let Event::Wake(waker) = event {
                waker.wake();
            }
            self.poll_ready();
        }
    }
}

fn told<T>(answer: &Result<T, AccessError>) -> String {
    match answer {
        Ok(_) => "done".to_owned(),
        Err(error) => error.log_text(),
    }
}

fn is_told_of_restored(error: &AccessError) -> bool {
    matches!(error, AccessError::Conflict { code: "StoreRestored", .. })
}

fn is_done(reaction: &Reaction) -> bool {
    matches!(reaction, Reaction::Answer(answer) if answer.status.is_success())
}

fn rules(state: &mut State, nsg: usize, fits: impl Fn(&str, &Value) -> bool) -> Vec<Value> {
    let json = state.azure.resource(&estate::nsg(nsg)).unwrap_or_default();
    let rules = json["properties"]["securityRules"].as_array().cloned().unwrap_or_default();
    rules.into_iter().filter(|rule| fits(rule["name"].as_str().unwrap_or_default(), rule)).collect()
}

fn write_rule(state: &mut State, nsg: usize, method: Method, rule: &Value) {
    let path = format!("{}/securityRules/{}", estate::nsg(nsg), rule["name"].as_str().unwrap_or_default());
    let mut request = Request::new(method.clone(), &target(&path));
    if method == Method::PUT {
        request = request.with_json(rule);
    }
    let _ = state.azure.handle_as("alice", &request);
}
