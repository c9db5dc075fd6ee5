//! How many calls to the store each step makes, and how many of them wait for one another. A step that grows shows
//! here; the figures are what its design needs, each told beside it.
//!
//! Time stands still but for the store, each of whose calls takes one second: so many seconds, so many calls in
//! sequence.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::azure_policy::{self, Circumstances, PolicyAddress};
use ajar_access::keys::Key;
use ajar_access::life_cycle::Status;
use ajar_access::ports::blobs::{Blob, BlobName, Blobs};
use ajar_access::ports::bus::Queue;
use ajar_access::ports::store::{Change, Continuation, Etag, Page, Range, Row, Store, StoreError, Table};
use ajar_access::request::AccessRequest;
use ajar_access::testing::{SUBSCRIPTION, World, user, vm};
use ajar_access::{configure, history, query, submit};
use async_trait::async_trait;
use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::{Duration, Instant};

const ONE_CALL: Duration = Duration::from_secs(1);

struct Timed {
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
    calls: AtomicUsize,
}

impl Timed {
    async fn call(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(ONE_CALL).await;
    }
}

#[async_trait]
impl Store for Timed {
    async fn get(&self, table: Table, partition: &Key, row: &Key) -> Result<Option<Row>, StoreError> {
        self.call().await;
        self.store.get(table, partition, row).await
    }

    async fn scan(
        &self,
        table: Table,
        range: &Range,
        from: Option<&Continuation>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.call().await;
        self.store.scan(table, range, from, limit).await
    }

    async fn commit(
        &self,
        table: Table,
        partition: &Key,
        changes: &[Change],
    ) -> Result<Vec<Option<Etag>>, StoreError> {
        self.call().await;
        self.store.commit(table, partition, changes).await
    }
}

#[async_trait]
impl Blobs for Timed {
    async fn read(&self, name: &BlobName) -> Result<Option<Blob>, StoreError> {
        self.call().await;
        self.blobs.read(name).await
    }

    async fn write(&self, name: &BlobName, text: &str, before: Option<&Etag>) -> Result<Etag, StoreError> {
        self.call().await;
        self.blobs.write(name, text, before).await
    }
}

/// Calls to the store and what is beside it, and how many of them came one after another.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    calls: usize,
    in_sequence: u64,
}

struct Counted {
    world: World,
    store: Arc<Timed>,
}

impl Counted {
    /// A world in which web-1 is protected and at rest.
    async fn protected() -> Counted {
        let mut world = World::new();
        let (inner, blobs) = (world.store.clone(), world.blobs.clone());
        let store = Arc::new(Timed { store: inner, blobs, calls: AtomicUsize::new(0) });
        world.ajar.ports.store = store.clone();
        world.ajar.ports.blobs = store.clone();
        let policy = json!({ "vm": vm("web-1").as_str(), "ports": [{ "port": 22 }],
            "minimumDuration": "PT1S" });
        configure::enable(&world.ajar, &user("alice"), &serde_json::from_value(policy).unwrap())
            .await
            .unwrap();
        world.deliver().await;
        Counted { world, store }
    }

    async fn cost<T>(&self, work: impl Future<Output = T>) -> (T, Cost) {
        let (before, started) = (self.store.calls.load(Ordering::SeqCst), Instant::now());
        let value = work.await;
        let calls = self.store.calls.load(Ordering::SeqCst) - before;
        (value, Cost { calls, in_sequence: started.elapsed().as_secs() })
    }

    async fn ask(&self, source: &str) -> AccessRequest {
        let ask = json!({ "vm": vm("web-1").as_str(), "duration": "PT10M",
            "ports": [{ "port": 22, "sources": [source] }] });
        submit::submit(&self.world.ajar, &user("bob"), &serde_json::from_value(ask).unwrap()).await.unwrap()
    }

    /// Handles the messages of `queue` that can be seen, all at the same time, as functions do.
    async fn handle(&self, queue: Queue) -> Cost {
        let now = self.world.ajar.ports.clock.now();
        let waiting = self.world.bus.waiting();
        self.world.bus.clear();
        let is_next = |message: &ajar_access::ports::bus::Message| message.at.is_none_or(|at| at <= now);
        let (next, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(of, message)| *of == queue && is_next(message));
        for (queue, message) in later {
            self.world.ajar.ports.bus.send(queue, message).await.unwrap();
        }
        let handled = next.iter().map(|(queue, message)| self.world.handle(*queue, &message.body));
        self.cost(join_all(handled)).await.1
    }

    async fn status(&self, request: &AccessRequest) -> Status {
        query::request(&self.world.ajar, &user("bob"), &request.id).await.unwrap().status
    }
}

#[tokio::test(start_paused = true)]
async fn one_access_from_the_question_to_its_end() {
    let world = Counted::protected().await;
    let (request, asking) = world.cost(world.ask("203.0.113.7")).await;
    // The policy, and whether the store is current (its marker and the blob beside it), at once; then the due row, the inbox and the head of the history at once; then request, entry and head.
    assert_eq!(asking, Cost { calls: 7, in_sequence: 3 });

    let deciding = world.handle(Queue::AccessRequests).await;
    // The request and the head; the policy; the due rows of the next look at the role, of the opening and of the end;
    // request, entry and head; the grant; the policy again, for who turned JIT off meanwhile; and the row that guarded
    // the decision goes.
    assert_eq!(deciding, Cost { calls: 10, in_sequence: 7 });

    let opening = world.handle(Queue::Reconcile).await;
    // The marker, the blob and the lease, read at once, and the lease taken; the point's rows; after the write the rows again. What
    // was seen is recorded: the request and the head are read, both and the entry written, then the grant, and the due
    // row of the opening goes. The lease is freed together with what was seen.
    assert_eq!(opening, Cost { calls: 12, in_sequence: 9 });
    assert_eq!(world.status(&request).await, Status::Active);
    assert_eq!(
        world.world.azure.take_writes().len(),
        2,
        "the deny and flushConnection before, one allow now"
    );

    world.world.clock.advance(SignedDuration::from_mins(10));
    let closing = world.handle(Queue::Reconcile).await;
    // As for opening, and the due row of the second look.
    assert_eq!(closing, Cost { calls: 13, in_sequence: 10 });
    assert_eq!(world.status(&request).await, Status::Closed);
    assert_eq!(world.world.azure.take_writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn forty_accesses_to_one_vm_share_what_they_can() {
    const MANY: usize = 40;
    let world = Counted::protected().await;
    world.world.azure.take_writes();
    let sources: Vec<String> = (1..=MANY).map(|number| format!("203.0.113.{number}")).collect();
    let (requests, asking) = world.cost(join_all(sources.iter().map(|source| world.ask(source)))).await;
    // The policy, the due row and the inbox of each. Whether the store is current is read once for all. The first to come
    // reads the head and writes what has come by then; all the others are written in one batch.
    assert!(asking.in_sequence <= 6 && asking.calls <= 3 * MANY + 10, "{asking:?}");

    let deciding = world.handle(Queue::AccessRequests).await;
    assert!(deciding.in_sequence <= 9 && deciding.calls <= 8 * MANY + 5, "{deciding:?}");

    let opening = world.handle(Queue::Reconcile).await;
    // One invocation opens all of them; the others find that it has the lease, and leave it to it. For each, the lease and
    // the request are read, and here, where all come at once, the lease is asked for; the marker and the blob are read once
    // for all, and everything else is a handful of batches.
    assert!(opening.calls <= 3 * MANY + 30 && opening.in_sequence <= 12, "{opening:?}");
    assert_eq!(world.world.azure.take_writes().len(), 1);
    for request in &requests {
        assert_eq!(world.status(request).await, Status::Active);
    }
    history::verify_chain(&world.world.ajar, &requests[0].id).await.unwrap();

    world.world.clock.advance(SignedDuration::from_mins(10));
    let closing = world.handle(Queue::Reconcile).await;
    // The message of each end looks at the lease, and all but one in vain.
    assert!(closing.calls <= 3 * MANY + 30 && closing.in_sequence <= 12, "{closing:?}");
    assert_eq!(world.world.azure.take_writes().len(), 1);
    for request in &requests {
        assert_eq!(world.status(request).await, Status::Closed);
    }
    assert_eq!(history::verify_chain(&world.world.ajar, &requests[0].id).await.unwrap(), 4 * MANY as u64);
}

/// Messages that come after the work was done: those of other ends of the same second, and those that the bus repeats.
#[tokio::test(start_paused = true)]
async fn word_of_an_end_that_was_seen_shut_costs_three_reads_at_once_and_nothing_in_azure() {
    let world = Counted::protected().await;
    world.ask("203.0.113.7").await;
    world.handle(Queue::AccessRequests).await;
    world.handle(Queue::Reconcile).await;
    let waiting = world.world.bus.waiting();
    let (queue, end) = waiting.iter().find(|(_, message)| message.at.is_some()).unwrap();
    world.world.clock.advance(SignedDuration::from_mins(10));
    world.handle(Queue::Reconcile).await;
    world.world.azure.take_reads();
    world.world.azure.take_writes();
    let (_, again) = world.cost(world.world.handle(*queue, &end.body)).await;
    assert_eq!(again, Cost { calls: 3, in_sequence: 1 });
    assert_eq!((world.world.azure.take_reads(), world.world.azure.take_writes().len()), (0, 0));
}

/// Issue 6: accepted with at most four storage round trips in sequence.
#[tokio::test(start_paused = true)]
async fn asking_in_azures_shape_takes_four_round_trips() {
    let world = Counted::protected().await;
    let address = PolicyAddress::new(SUBSCRIPTION, "demo", "westeurope", "default").unwrap();
    let policy = json!({ "properties": { "virtualMachines": [{ "id": vm("web-1").as_str(), "ports": [
        { "number": 22, "protocol": "TCP", "allowedSourceAddressPrefix": "*", "maxRequestAccessDuration": "PT3H" }] }] } });
    azure_policy::put(&world.world.ajar, &user("alice"), &address, &serde_json::from_value(policy).unwrap())
        .await
        .unwrap();
    world.world.deliver().await;
    let body = json!({ "virtualMachines": [{ "id": vm("web-1").as_str(), "ports": [
        { "number": 22, "duration": "PT1H", "allowedSourceAddressPrefix": "203.0.113.7" }] }] });
    let body = serde_json::from_value(body).unwrap();
    let (ajar, caller, circumstances) = (&world.world.ajar, user("bob"), Circumstances::default());
    let initiating = azure_policy::initiate(ajar, &caller, &address, &body, &circumstances);
    let (answer, asking) = world.cost(initiating).await;
    assert_eq!(answer.unwrap().virtual_machines.len(), 1);
    // The resource, the VM's policy, the marker, the blob, and whether the call was made today or yesterday; then what it becomes is kept;
    // then the due row, the inbox and the head at once, and old calls are looked for; then request, entry and head.
    assert_eq!(asking, Cost { calls: 12, in_sequence: 4 });
}
