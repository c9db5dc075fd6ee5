//! People who decide on one request at the same time: in every order of their calls to the store, one of them has
//! decided, all are told the truth, and what opens is what was approved.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::error::AccessError;
use ajar_access::keys::Key;
use ajar_access::life_cycle::Status;
use ajar_access::permission::RecentPermissions;
use ajar_access::ports::store::{Change, Continuation, Etag, Page, Range, Row, Store, StoreError, Table};
use ajar_access::request::AccessRequest;
use ajar_access::testing::{self, SUBSCRIPTION, World, user};
use ajar_access::{Ajar, Chains, approval, close, history, query, submit, sweep};
use async_trait::async_trait;
use futures::task::noop_waker;
use jiff::SignedDuration;
use serde_json::json;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

/// A store before each of whose calls, and after, somebody else may go on.
struct Stepping(Arc<dyn Store>);

/// Lets the others go on once.
async fn step() {
    let mut has_waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[async_trait]
impl Store for Stepping {
    async fn get(&self, table: Table, partition: &Key, row: &Key) -> Result<Option<Row>, StoreError> {
        step().await;
        let found = self.0.get(table, partition, row).await;
        step().await;
        found
    }

    async fn scan(
        &self,
        table: Table,
        range: &Range,
        from: Option<&Continuation>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        step().await;
        self.0.scan(table, range, from, limit).await
    }

    async fn commit(
        &self,
        table: Table,
        partition: &Key,
        changes: &[Change],
    ) -> Result<Vec<Option<Etag>>, StoreError> {
        step().await;
        let made = self.0.commit(table, partition, changes).await;
        step().await;
        made
    }
}

type Work<'a> = Pin<Box<dyn Future<Output = Result<AccessRequest, AccessError>> + 'a>>;

/// Runs all in an order that follows from the seed. Answers in the order of `work`.
fn interleave(mut work: Vec<Work<'_>>, seed: u64) -> Vec<Result<AccessRequest, AccessError>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut answers: BTreeMap<usize, _> = BTreeMap::new();
    let (waker, all) = (noop_waker(), work.len());
    for _ in 0..100_000 {
        if answers.len() == all {
            return answers.into_values().collect();
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let next = usize::try_from(state >> 33).unwrap() % all;
        if !answers.contains_key(&next)
            && let Poll::Ready(answer) = work[next].as_mut().poll(&mut Context::from_waker(&waker))
        {
            answers.insert(next, answer);
        }
    }
    panic!("seed {seed}: somebody waits for ever")
}

/// A process of its own on the same store.
fn instance(world: &World) -> Ajar {
    let mut ajar = world.ajar.clone();
    ajar.chains = Chains::default();
    ajar.permissions = RecentPermissions::default();
    ajar.looks = Default::default();
    ajar.ports.store = Arc::new(Stepping(world.store.clone()));
    ajar
}

/// A world in which a request of bob's waits for `approvals` people; carol may approve as alice may.
async fn waiting(approvals: u32) -> (World, AccessRequest) {
    let world = World::new();
    world.policies.approvals.store(approvals, Ordering::SeqCst);
    let scope = format!("/subscriptions/{SUBSCRIPTION}");
    world.azure.roles.assign(&user("carol").object_id, "request", &scope, None);
    world.protect("web-1", json!({})).await;
    let ask = testing::ask("web-1", "203.0.113.7", "PT1H");
    let request = submit::submit(&world.ajar, &user("bob"), &ask).await.unwrap();
    world.deliver().await;
    let waits = read(&world, &request).await;
    assert_eq!(waits.status, Status::AwaitingApproval);
    (world, waits)
}

async fn read(world: &World, request: &AccessRequest) -> AccessRequest {
    query::request(&world.ajar, &user("bob"), &request.id).await.unwrap()
}

fn is_open(world: &World) -> bool {
    world.azure.allows("203.0.113.7", "10.0.0.4", 22)
}

/// How often the request has left the state in which it waits.
async fn times_decided(world: &World, request: &AccessRequest) -> usize {
    let entries = query::request_history(&world.ajar, &user("bob"), &request.id).await.unwrap();
    let waits = |status| status == Status::AwaitingApproval;
    entries.windows(2).filter(|pair| waits(pair[0].status) && !waits(pair[1].status)).count()
}

#[tokio::test]
async fn of_approval_refusal_and_withdrawal_one_has_happened() {
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..300 {
        let (world, request) = waiting(1).await;
        let [one, other, own] = [instance(&world), instance(&world), instance(&world)];
        let (alice, carol, bob) = (user("alice"), user("carol"), user("bob"));
        let answers = interleave(
            vec![
                Box::pin(approval::approve(&one, &alice, &request.id, None)),
                Box::pin(approval::deny(&other, &carol, &request.id, "not today")),
                Box::pin(close::revoke(&own, &bob, &request.id)),
            ],
            seed,
        );
        assert_eq!(times_decided(&world, &request).await, 1, "seed {seed}");
        let entries = query::request_history(&world.ajar, &bob, &request.id).await.unwrap();
        let happened = |what: &str| entries.iter().any(|entry| entry.what.starts_with(what));
        assert_eq!(answers[0].is_ok(), happened("approved"), "seed {seed}: {answers:?}");
        assert_eq!(answers[1].is_ok(), happened("denied"), "seed {seed}: {answers:?}");
        assert!(!(happened("approved") && happened("denied")), "seed {seed}: {entries:?}");
        // Whoever withdraws has no access afterwards, whoever was first.
        assert!(answers[2].is_ok(), "seed {seed}: {answers:?}");
        history::verify_chain(&world.ajar, &request.id).await.unwrap();
        world.deliver().await;
        world.minutes(3).await;
        let after = read(&world, &request).await;
        assert!(!is_open(&world), "seed {seed}");
        assert!(after.status.is_final(), "seed {seed}: {after:?}");
        let contents = world.store.contents();
        let left = contents.keys().filter(|(table, _, row)| {
            matches!(table, Table::Due) && row.contains(request.id.as_str())
                || matches!(table, Table::Inbox) && row == request.id.as_str()
        });
        // Its row in bob's own list.
        assert_eq!(left.count(), 1, "seed {seed}: {contents:?}");
        let kind = format!("{} {:?}", happened("approved"), after.status);
        *outcomes.entry(kind).or_default() += 1;
    }
    // The orders differ: everybody has been first.
    assert!(outcomes.len() >= 3, "{outcomes:?}");
}

#[tokio::test]
async fn two_approvals_at_once_are_two_and_open_once() {
    let mut both_at_once = 0;
    for seed in 0..200 {
        let (world, request) = waiting(2).await;
        let [one, other] = [instance(&world), instance(&world)];
        let (alice, carol) = (user("alice"), user("carol"));
        let answers = interleave(
            vec![
                Box::pin(approval::approve(&one, &alice, &request.id, None)),
                Box::pin(approval::approve(&other, &carol, &request.id, None)),
            ],
            seed,
        );
        assert!(answers.iter().all(Result::is_ok), "seed {seed}: {answers:?}");
        both_at_once +=
            u32::from(answers.iter().all(|answer| {
                answer.as_ref().is_ok_and(|request| request.status != Status::AwaitingApproval)
            }));
        assert_eq!(times_decided(&world, &request).await, 1, "seed {seed}");
        world.deliver().await;
        assert_eq!(read(&world, &request).await.status, Status::Active, "seed {seed}");
        assert!(is_open(&world), "seed {seed}");
    }
    // One of them sees the other's approval only in its own answer, or none does.
    assert!(both_at_once < 200);
}

#[tokio::test]
async fn an_approval_at_the_last_moment_and_the_time_out_are_one_or_the_other() {
    let mut approved = 0;
    for seed in 0..200 {
        let (world, request) = waiting(1).await;
        let until = request.approval.as_ref().unwrap().until;
        let left = until.duration_since(world.ajar.ports.clock.now());
        world.clock.advance(left - SignedDuration::from_millis(1));
        let [one, other] = [instance(&world), instance(&world)];
        let alice = user("alice");
        let sweeping = async {
            for _ in 0..seed % 40 {
                step().await;
            }
            world.clock.advance(SignedDuration::from_millis(1));
            sweep::sweep(&other).await.unwrap();
            query::request(&other, &user("bob"), &request.id).await
        };
        let answers = interleave(
            vec![Box::pin(approval::approve(&one, &alice, &request.id, None)), Box::pin(sweeping)],
            seed,
        );
        assert_eq!(times_decided(&world, &request).await, 1, "seed {seed}: {answers:?}");
        world.deliver().await;
        world.minutes(2).await;
        let after = read(&world, &request).await;
        let expected = if answers[0].is_ok() { Status::Active } else { Status::TimedOut };
        assert_eq!((after.status, is_open(&world)), (expected, answers[0].is_ok()), "seed {seed}");
        approved += u32::from(answers[0].is_ok());
    }
    assert!(approved > 0 && approved < 200, "{approved}");
}

#[tokio::test]
async fn an_approval_that_fails_anywhere_was_not_given_or_is_carried_out() {
    for after_effect in [false, true] {
        let mut outcomes = [0, 0];
        for calls in 0.. {
            let (world, request) = waiting(1).await;
            world.budget.limit(calls, after_effect);
            let answer = approval::approve(&world.ajar, &user("alice"), &request.id, None).await;
            let has_failed = world.budget.lift();
            // Whatever was sent is lost as well.
            world.bus.clear();
            world.minutes(2).await;
            let after = read(&world, &request).await;
            match after.status {
                Status::AwaitingApproval => {
                    assert!(answer.is_err() && !is_open(&world), "{calls} {after_effect}");
                    approval::approve(&world.ajar, &user("alice"), &request.id, None).await.unwrap();
                    world.deliver().await;
                    outcomes[0] += 1;
                }
                _ => outcomes[1] += 1,
            }
            assert_eq!(read(&world, &request).await.status, Status::Active, "{calls} {after_effect}");
            assert!(is_open(&world), "{calls} {after_effect}");
            world.minutes(80).await;
            assert!(!is_open(&world), "{calls} {after_effect}");
            if !has_failed {
                break;
            }
        }
        assert!(outcomes[0] > 3 && outcomes[1] > 1, "{outcomes:?}");
    }
}
