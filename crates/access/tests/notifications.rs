//! What happens is told once it is true, and told although things fail: before and after every call.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::life_cycle::{CloseReason, Status};
use ajar_access::notification::{Happened, Subject};
use ajar_access::ports::bus::Queue;
use ajar_access::ports::notifier::NotifierError;
use ajar_access::ports::store::Table;
use ajar_access::request::{AccessRequest, RequestInput};
use ajar_access::testing::{self, FakeNotifier, World, user, vm};
use ajar_access::{close, configure, query, submit};
use jiff::SignedDuration;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// More calls than the longest use case makes.
const MOST_CALLS: i64 = 600;

fn ask() -> RequestInput {
    testing::ask("web-1", "203.0.113.7", "PT5M")
}

async fn world() -> (World, Arc<FakeNotifier>) {
    let mut world = World::new();
    let notifier = world.listen();
    world.protect("web-1", json!({})).await;
    (world, notifier)
}

async fn opened(world: &World) -> AccessRequest {
    let request = submit::submit(&world.ajar, &user("bob"), &ask()).await.unwrap();
    world.deliver().await;
    request
}

/// What each id told; the same id must tell the same thing whenever it is repeated.
fn by_id(notifier: &FakeNotifier) -> BTreeMap<String, &'static str> {
    let mut all = BTreeMap::new();
    for told in notifier.told() {
        let name = told.happened.name();
        assert_eq!(*all.entry(told.id).or_insert(name), name, "one id told two things");
    }
    all
}

fn outbox_rows(world: &World) -> usize {
    let rows = world.store.contents();
    rows.keys().filter(|(table, _, row)| *table == Table::Requests && row.starts_with("o_")).count()
}

#[tokio::test]
async fn each_step_that_matters_is_told_once() {
    let (world, notifier) = world().await;
    let request = opened(&world).await;
    world.minutes(30).await;
    assert_eq!(notifier.names(), ["access.asked", "access.opened", "access.closed"]);
    assert_eq!(outbox_rows(&world), 0);
    let told = notifier.told();
    assert_eq!(told[2].happened, Happened::Closed { reason: CloseReason::Expired });
    let Subject::Request(subject) = &told[1].subject else { panic!("told of something else") };
    let now = query::request(&world.ajar, &user("bob"), &request.id).await.unwrap();
    assert_eq!((&subject.id, subject.end), (&request.id, now.end));
    assert_eq!(subject.requester, user("bob"));
}

#[tokio::test]
async fn a_refusal_and_a_withdrawal_are_told() {
    let (world, notifier) = world().await;
    submit::submit(&world.ajar, &user("bob"), &ask()).await.unwrap();
    configure::disable(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap();
    world.deliver().await;
    assert_eq!(notifier.names(), ["access.asked", "access.refused"]);

    let (world, notifier) = self::world().await;
    let request = submit::submit(&world.ajar, &user("bob"), &ask()).await.unwrap();
    close::revoke(&world.ajar, &user("bob"), &request.id).await.unwrap();
    world.deliver().await;
    assert_eq!(notifier.names(), ["access.asked", "access.cancelled"]);
}

#[tokio::test]
async fn nothing_is_kept_where_nobody_listens() {
    let world = World::new();
    world.protect("web-1", json!({})).await;
    submit::submit(&world.ajar, &user("bob"), &ask()).await.unwrap();
    assert_eq!(outbox_rows(&world), 0);
    assert!(!world.bus.waiting().iter().any(|(queue, _)| *queue == Queue::Notifications));
}

#[tokio::test]
async fn what_happened_while_the_bus_was_down_is_told_when_it_is_back() {
    let (world, notifier) = world().await;
    world.bus.is_down.store(true, Ordering::SeqCst);
    let request = opened(&world).await;
    world.minutes(20).await;
    assert_eq!(query::request(&world.ajar, &user("bob"), &request.id).await.unwrap().status, Status::Closed);
    assert!(notifier.told().is_empty());
    world.bus.is_down.store(false, Ordering::SeqCst);
    world.minutes(10).await;
    let told: Vec<_> = by_id(&notifier).into_values().collect();
    assert_eq!(told, ["access.asked", "access.opened", "access.closed"]);
    assert_eq!(outbox_rows(&world), 0);
}

#[tokio::test]
async fn a_lost_message_is_sent_again() {
    let (world, notifier) = world().await;
    submit::submit(&world.ajar, &user("bob"), &ask()).await.unwrap();
    world.bus.clear();
    world.minutes(2).await;
    assert!(notifier.names().contains(&"access.asked"));
}

#[tokio::test]
async fn a_receiver_that_is_down_for_hours_is_told_when_it_is_back() {
    let (world, notifier) = world().await;
    notifier.answer(Err(NotifierError::Unavailable { reason: "down".into(), retry_after: None }));
    opened(&world).await;
    world.minutes(180).await;
    assert!(notifier.told().is_empty());
    notifier.answer(Ok(()));
    world.minutes(180).await;
    let told: Vec<_> = by_id(&notifier).into_values().collect();
    assert_eq!(told, ["access.asked", "access.opened", "access.closed"]);
    assert_eq!((outbox_rows(&world), world.store.count(Table::Due)), (0, 0));
}

#[tokio::test]
async fn what_is_never_taken_is_parked_and_not_tried_for_ever() {
    let (world, notifier) = world().await;
    notifier.answer(Err(NotifierError::Unavailable { reason: "down".into(), retry_after: None }));
    submit::submit(&world.ajar, &user("bob"), &ask()).await.unwrap();
    for _ in 0..30 {
        world.pass(SignedDuration::from_hours(1)).await;
        world.sweep().await.unwrap();
    }
    let parked: Vec<_> = world
        .bus
        .waiting()
        .into_iter()
        .filter(|(queue, _)| *queue == Queue::Parked)
        .map(|(_, sent)| sent)
        .collect();
    assert!(parked.iter().any(|sent| sent.body.contains("\"asked\"") && sent.body.contains("down")));
    assert_eq!(outbox_rows(&world), 0);
}

#[tokio::test]
async fn a_refusal_by_the_receiver_is_parked_at_once_and_kept_while_that_fails() {
    let (world, notifier) = world().await;
    notifier.answer(Err(NotifierError::Refused { reason: "gone".into() }));
    submit::submit(&world.ajar, &user("bob"), &ask()).await.unwrap();
    // The message arrives, but by then nothing can be sent.
    world.bus.is_down.store(true, Ordering::SeqCst);
    world.deliver().await;
    assert!(outbox_rows(&world) > 0);
    world.bus.is_down.store(false, Ordering::SeqCst);
    world.minutes(7).await;
    assert_eq!(outbox_rows(&world), 0);
    assert!(world.bus.waiting().iter().any(|(queue, _)| *queue == Queue::Parked));
}

#[tokio::test]
async fn a_message_that_names_another_kind_of_row_makes_nothing_of_it() {
    let (world, notifier) = world().await;
    let request = opened(&world).await;
    let told = notifier.told().len();
    let (partition, _) = request.id.as_str().split_once('-').unwrap();
    for row in [format!("r_{}", request.id), "head".into(), "o_x".into(), "o_/".into()] {
        let place = json!({ "beside": "requests", "partition": partition, "row": row });
        world.handle(Queue::Notifications, &json!({ "place": place }).to_string()).await;
    }
    world.handle(Queue::Notifications, "{\"place\":{\"beside\":\"policies\"}}").await;
    world.deliver().await;
    assert_eq!(notifier.told().len(), told);
    assert_eq!(query::request(&world.ajar, &user("bob"), &request.id).await.unwrap().status, Status::Active);
}

/// What is told is what the history says, for every place at which a call can fail.
#[tokio::test]
async fn all_that_happened_is_told_and_nothing_else_wherever_a_call_fails() {
    for after_effect in [false, true] {
        for calls in 0..MOST_CALLS {
            let (world, notifier) = world().await;
            world.budget.limit(calls, after_effect);
            let asked = submit::submit(&world.ajar, &user("bob"), &ask()).await;
            world.deliver().await;
            let has_failed = world.budget.lift();
            world.minutes(90).await;

            let mut told: Vec<_> = by_id(&notifier).into_values().collect();
            told.sort_unstable();
            let requests = world.store.contents();
            let is_stored =
                requests.keys().any(|(table, _, row)| *table == Table::Requests && row.starts_with("r_"));
            let expected: &[_] =
                if is_stored { &["access.asked", "access.closed", "access.opened"] } else { &[] };
            assert_eq!(told, expected, "{calls} {after_effect}");
            assert_eq!(
                (outbox_rows(&world), world.store.count(Table::Due)),
                (0, 0),
                "{calls} {after_effect}"
            );
            if !has_failed {
                assert!(asked.is_ok() && is_stored);
                break;
            }
            assert!(calls + 1 < MOST_CALLS, "more calls than the test expects");
        }
    }
}
