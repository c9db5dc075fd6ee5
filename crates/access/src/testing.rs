//! A small world for tests: the ports in memory, under one clock that the test moves, with failures on
//! demand. Only compiled with the feature `testing`.

mod azure;
mod azure_roles;
mod memory_blobs;
mod memory_store;
mod notifier;
mod organisation;

pub use azure::{FakeAzure, OWN_OBJECT_ID};
pub use azure_roles::FakeRoles;
pub use memory_blobs::MemoryBlobs;
pub use memory_store::{Backup, MemoryStore};
pub use notifier::FakeNotifier;
pub use organisation::FakePolicies;

use crate::permission::RecentPermissions;
use crate::ports::Ports;
use crate::ports::bus::{Bus, BusError, Message, Queue};
use crate::ports::clock::{Clock, Ids};
use crate::ports::identity::{AuthenticationError, Authenticator, Caller, SignIn};
use crate::request::RequestInput;
use crate::sweep::SweepReport;
use crate::template::Templates;
use crate::{Ajar, Chains, Settings, compliance, configure, event_message, message, sweep};
use ajar_network::plan::DeploymentName;
use ajar_network::resource_id::ResourceId;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The subscription of the sample estate.
pub const SUBSCRIPTION: &str = "11111111-1111-1111-1111-111111111111";

/// When every test begins.
pub const EPOCH: &str = "2026-11-24T12:00:00Z";

/// Calls to the ports that may still succeed; a test uses it to fail at each step in turn.
#[derive(Debug)]
pub struct Budget {
    left: AtomicI64,
    after_effect: AtomicBool,
    once: AtomicBool,
}

impl Budget {
    fn new() -> Budget {
        Budget {
            left: AtomicI64::new(i64::MAX),
            after_effect: AtomicBool::new(false),
            once: AtomicBool::new(false),
        }
    }

    /// From now on `calls` calls succeed and every later one fails; the first that fails does so after its
    /// effect when `after_effect` is set, as when an answer is lost.
    pub fn limit(&self, calls: i64, after_effect: bool) {
        self.left.store(calls, Ordering::SeqCst);
        self.after_effect.store(after_effect, Ordering::SeqCst);
        self.once.store(false, Ordering::SeqCst);
    }

    /// The same, but only one call fails, and those after it succeed.
    pub fn fail_once(&self, calls: i64, after_effect: bool) {
        self.limit(calls, after_effect);
        self.once.store(true, Ordering::SeqCst);
    }

    /// Everything succeeds again. Returns whether some call had failed.
    pub fn lift(&self) -> bool {
        self.left.swap(i64::MAX, Ordering::SeqCst) < 0
    }

    /// Whether no call is to fail.
    pub fn is_whole(&self) -> bool {
        self.left.load(Ordering::SeqCst) > i64::MAX / 2
    }

    fn spend(&self) -> Verdict {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => Verdict::Succeed,
            0 if self.after_effect.load(Ordering::SeqCst) => Verdict::LoseTheAnswer,
            left if left < 0 && self.once.load(Ordering::SeqCst) => Verdict::Succeed,
            _ => Verdict::Fail,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Succeed,
    Fail,
    LoseTheAnswer,
}

/// Locks whether or not a failed test poisoned it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that stands still until it is moved; sleeping moves it.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// Moves the clock on.
    pub fn advance(&self, by: SignedDuration) {
        let mut now = lock(&self.0);
        *now = now.saturating_add(by).unwrap_or(Timestamp::MAX);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *lock(&self.0)
    }

    async fn sleep(&self, duration: SignedDuration) {
        self.advance(duration.max(SignedDuration::ZERO));
    }
}

/// Identifiers that count.
#[derive(Debug, Default)]
pub struct CountingIds(AtomicU64);

impl Ids for CountingIds {
    fn fresh(&self) -> String {
        format!("{:032x}", self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

/// A bus that keeps what was sent until the test delivers it.
#[derive(Debug)]
pub struct FakeBus {
    budget: Arc<Budget>,
    waiting: Mutex<Vec<(Queue, Message)>>,
    /// While set, nothing can be sent.
    pub is_down: AtomicBool,
}

impl FakeBus {
    /// The messages that wait, in the order they were sent.
    pub fn waiting(&self) -> Vec<(Queue, Message)> {
        lock(&self.waiting).clone()
    }

    /// Loses every message.
    pub fn clear(&self) {
        lock(&self.waiting).clear();
    }

    fn take_visible(&self, now: Timestamp) -> Vec<(Queue, Message)> {
        let mut waiting = lock(&self.waiting);
        let (visible, later) = std::mem::take(&mut *waiting)
            .into_iter()
            .partition(|(queue, message)| *queue != Queue::Parked && message.at.is_none_or(|at| at <= now));
        *waiting = later;
        visible
    }
}

#[async_trait]
impl Bus for FakeBus {
    async fn send(&self, queue: Queue, message: Message) -> Result<(), BusError> {
        let unavailable = || BusError::Unavailable { reason: "made to fail".into(), retry_after: None };
        let verdict = self.budget.spend();
        if verdict == Verdict::Fail || self.is_down.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        lock(&self.waiting).push((queue, message));
        if verdict == Verdict::LoseTheAnswer { Err(unavailable()) } else { Ok(()) }
    }

    async fn reach(&self) -> Result<(), BusError> {
        let is_down = self.is_down.load(Ordering::SeqCst);
        if is_down || self.budget.spend() != Verdict::Succeed {
            return Err(BusError::Unavailable { reason: "made to fail".into(), retry_after: None });
        }
        Ok(())
    }
}

/// Believes a token that is the name of a user of the sample estate.
#[derive(Debug, Default)]
pub struct FakeAuthenticator;

#[async_trait]
impl Authenticator for FakeAuthenticator {
    async fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError> {
        match token {
            "alice" | "bob" | "carol" | "mallory" => Ok(user(token)),
            _ => Err(AuthenticationError::Rejected("the token is not one of the sample users".into())),
        }
    }

    async fn ready(&self) -> Result<(), AuthenticationError> {
        Ok(())
    }
}

/// A user of the sample estate: `alice` may configure and request, `bob` may request, `carol` may read,
/// `mallory` may do nothing.
pub fn user(name: &str) -> Caller {
    Caller {
        object_id: format!("{:0>8}-0000-0000-0000-000000000000", hex_of(name)),
        tenant_id: "22222222-2222-2222-2222-222222222222".into(),
        name: format!("{name}@contoso.example"),
        sign_in: SignIn::default(),
    }
}

fn hex_of(name: &str) -> String {
    name.bytes().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The resource id of a VM of the sample estate.
pub fn vm(name: &str) -> ResourceId {
    id("Microsoft.Compute/virtualMachines", name)
}

/// The resource id of an NSG of the sample estate.
pub fn nsg(name: &str) -> ResourceId {
    id("Microsoft.Network/networkSecurityGroups", name)
}

#[expect(clippy::expect_used, reason = "the text is well formed for every name that a test would use")]
fn id(kind: &str, name: &str) -> ResourceId {
    ResourceId::parse(&format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/demo/providers/{kind}/{name}"))
        .expect("a well-formed id")
}

/// Asking for port 22 of a VM from one source.
#[expect(clippy::expect_used, reason = "the text is well formed for every value that a test would use")]
pub fn ask(name: &str, source: &str, duration: &str) -> RequestInput {
    let ask = json!({ "vm": vm(name).as_str(), "duration": duration,
        "ports": [{ "port": 22, "sources": [source] }] });
    serde_json::from_value(ask).expect("a request")
}

/// Everything a test needs.
pub struct World {
    /// Durable state.
    pub store: Arc<MemoryStore>,
    /// What is kept beside the store.
    pub blobs: Arc<MemoryBlobs>,
    /// Azure: two VMs behind one NSG that lets the Internet reach port 22, one behind two NSGs, one bare.
    pub azure: Arc<FakeAzure>,
    /// The bus.
    pub bus: Arc<FakeBus>,
    /// The organisation's policies: nobody has to approve anything until the test says so.
    pub policies: Arc<FakePolicies>,
    /// The clock.
    pub clock: Arc<ManualClock>,
    /// Failures on demand, counted over all ports.
    pub budget: Arc<Budget>,
    /// The use cases' view of all this.
    pub ajar: Ajar,
}

impl World {
    /// The sample estate, at [`EPOCH`], nothing configured.
    #[expect(clippy::expect_used, reason = "both texts are literals that parse")]
    pub fn new() -> World {
        let budget = Arc::new(Budget::new());
        let clock = Arc::new(ManualClock(Mutex::new(EPOCH.parse().expect("a timestamp"))));
        let store = Arc::new(MemoryStore::new(Arc::clone(&budget)));
        let blobs = Arc::new(MemoryBlobs::new(Arc::clone(&budget)));
        let azure = Arc::new(FakeAzure::new(Arc::clone(&budget)));
        let policies = Arc::new(FakePolicies::default());
        let bus = Arc::new(FakeBus {
            budget: Arc::clone(&budget),
            waiting: Mutex::default(),
            is_down: AtomicBool::new(false),
        });
        let ajar = Ajar {
            chains: Chains::default(),
            settings: Settings {
                deployment: DeploymentName::parse("test").expect("a deployment name"),
                subscriptions: vec![SUBSCRIPTION.into()],
                management_groups: Vec::new(),
                event_namespace: None,
                templates: Templates::default(),
                remind_before: crate::REMIND_BEFORE,
                approval_time: crate::APPROVAL_TIME,
            },
            ports: Ports {
                store: store.clone(),
                blobs: blobs.clone(),
                azure: azure.clone(),
                bus: bus.clone(),
                notifiers: Vec::new(),
                organisation: policies.clone(),
                clock: clock.clone(),
                ids: Arc::new(CountingIds::default()),
            },
            permissions: RecentPermissions::default(),
            looks: crate::store_marker::Looks::default(),
        };
        World { store, blobs, azure, bus, policies, clock, budget, ajar }
    }

    /// Opens a channel on which people are told what happens, and returns it. Without one nothing is noted.
    pub fn listen(&mut self) -> Arc<FakeNotifier> {
        let notifier = Arc::new(FakeNotifier::new(Arc::clone(&self.budget)));
        self.ajar.ports.notifiers.push(notifier.clone());
        notifier
    }

    /// Delivers every visible message, and those they cause, until none is left.
    pub async fn deliver(&self) {
        for _ in 0..1000 {
            let visible = self.bus.take_visible(self.clock.now());
            if visible.is_empty() {
                return;
            }
            for (queue, sent) in visible {
                self.handle(queue, &sent.body).await;
            }
        }
    }

    /// Handles one message as the queue's function would.
    pub async fn handle(&self, queue: Queue, body: &str) {
        match queue {
            Queue::AccessRequests => {
                if let Some(read) = self.read(queue, body).await {
                    message::on_request_message(&self.ajar, read).await;
                }
            }
            Queue::Reconcile => {
                if let Some(read) = self.read(queue, body).await {
                    message::on_reconcile_message(&self.ajar, read).await;
                }
            }
            Queue::Notifications => {
                if let Some(read) = self.read(queue, body).await {
                    message::on_notification_message(&self.ajar, read).await;
                }
            }
            Queue::VmEvents => {
                if event_message::on_event_message(&self.ajar, body.as_bytes()).await.is_err() {
                    // The host delivers it again.
                    let message = Message { id: "again".into(), body: body.into(), at: None };
                    lock(&self.bus.waiting).push((queue, message));
                }
            }
            Queue::Compliance => {
                if let Some(read) = self.read(queue, body).await {
                    compliance::on_message(&self.ajar, read).await;
                }
            }
            Queue::Parked => {}
        }
    }

    async fn read<T: DeserializeOwned>(&self, queue: Queue, body: &str) -> Option<T> {
        message::readable(&self.ajar, queue, body.as_bytes(), serde_json::from_str(body)).await
    }

    /// Has alice turn JIT on for a VM, and everything done that follows. `more` are further fields of the policy, which
    /// is about port 22 unless they say otherwise.
    #[expect(clippy::expect_used, reason = "a test whose world cannot be set up fails")]
    pub async fn protect(&self, name: &str, more: Value) {
        let mut policy = json!({ "vm": vm(name).as_str(), "ports": [{ "port": 22 }] });
        if let (Value::Object(policy), Value::Object(more)) = (&mut policy, more) {
            policy.extend(more);
        }
        let policy = serde_json::from_value(policy).expect("a policy");
        configure::enable(&self.ajar, &user("alice"), &policy).await.expect("JIT is turned on");
        self.deliver().await;
    }

    /// Moves the clock on and delivers what has become visible.
    pub async fn pass(&self, time: SignedDuration) {
        self.clock.advance(time);
        self.deliver().await;
    }

    /// Runs the minute sweep.
    pub async fn sweep(&self) -> Result<SweepReport, crate::error::AccessError> {
        sweep::sweep(&self.ajar).await
    }

    /// Moves on minute by minute, delivering and sweeping, as the host does.
    pub async fn minutes(&self, count: u32) {
        for _ in 0..count {
            self.pass(SignedDuration::from_mins(1)).await;
            // A sweep that fails is repeated by the next one; the test judges the state at the end.
            let _ = self.sweep().await;
            self.deliver().await;
        }
    }
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}
