//! A request's life beyond opening and expiry: extension, a later start, reminders, several VMs, waiting.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::error::AccessError;
use ajar_access::extend::{ExtensionInput, extend};
use ajar_access::life_cycle::{CloseReason, Status};
use ajar_access::ports::clock::Clock;
use ajar_access::ports::store::Table;
use ajar_access::request::AccessRequest;
use ajar_access::request_id::RequestId;
use ajar_access::submit_many::{Asked, RequestsInput, submit_many};
use ajar_access::testing::{self, World, nsg, user, vm};
use ajar_access::{Ajar, close, history, query, reconcile, submit, wait};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

const ADA: &str = "203.0.113.7";
const WEB_1: &str = "10.0.0.4";
const BOTH_1: &str = "10.0.1.4";

/// More calls than any one use case makes.
const MOST_CALLS: i64 = 400;

fn minutes(count: i64) -> SignedDuration {
    SignedDuration::from_mins(count)
}

async fn protect(world: &World, name: &str) {
    world.protect(name, json!({ "ports": [{ "port": 22, "maximumDuration": "PT3H" }] })).await;
}

async fn protected() -> World {
    let world = World::new();
    protect(&world, "web-1").await;
    world
}

async fn submitted(world: &World, name: &str, duration: &str, start: Option<Timestamp>) -> AccessRequest {
    let mut ask = testing::ask(name, ADA, duration);
    ask.start = start.map(|start| start.to_string());
    submit::submit(&world.ajar, &user("bob"), &ask).await.unwrap()
}

async fn opened(world: &World, name: &str, duration: &str) -> AccessRequest {
    let request = submitted(world, name, duration, None).await;
    world.deliver().await;
    read(world, &request).await
}

async fn read(world: &World, request: &AccessRequest) -> AccessRequest {
    query::request(&world.ajar, &user("bob"), &request.id).await.unwrap()
}

async fn extended(
    world: &World,
    request: &AccessRequest,
    input: Value,
) -> Result<AccessRequest, AccessError> {
    let input: ExtensionInput = serde_json::from_value(input).unwrap();
    extend(&world.ajar, &user("bob"), &request.id, &input).await
}

fn code(error: &AccessError) -> &str {
    match error {
        AccessError::Conflict { code, .. } => code,
        AccessError::Invalid { field, .. } => field,
        AccessError::Forbidden(_) => "forbidden",
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn extended_access_stays_open_past_its_old_end_and_shuts_at_the_new_one() {
    let world = protected().await;
    let request = opened(&world, "web-1", "PT30M").await;
    world.pass(minutes(20)).await;
    let writes = world.azure.take_writes().len();
    let answer = extended(&world, &request, json!({ "duration": "PT1H" })).await.unwrap();
    assert_eq!(answer.end, Some(request.start.unwrap() + minutes(90)));
    world.deliver().await;
    assert!(
        writes > 0 && world.azure.take_writes().len() == 1,
        "the rule says the new end, nothing else changes"
    );
    let rules = world.azure.rules("web-nsg");
    let described = rules.iter().any(|rule| rule.to_string().contains("2026-11-24T13:30:00Z"));
    assert!(described, "{rules:#?}");

    world.minutes(60).await;
    assert!(world.azure.take_writes().is_empty(), "at the old end nothing happens");
    assert!(world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(read(&world, &request).await.status, Status::Active);
    world.minutes(11).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    let closed = read(&world, &request).await;
    assert_eq!((closed.status, closed.close_reason), (Status::Closed, Some(CloseReason::Expired)));
    let told: Vec<String> = query::request_history(&world.ajar, &user("bob"), &request.id)
        .await
        .unwrap()
        .into_iter()
        .map(|e| e.what)
        .collect();
    assert!(told.iter().any(|what| what.starts_with("extended until 2026-11-24T13:30:00Z")), "{told:?}");
    history::verify_chain(&world.ajar, &request.id).await.unwrap();
    world.minutes(30).await;
    assert_eq!((world.store.count(Table::Due), outbox(&world)), (0, 0));
}

/// The present, in which a requester extends access while somebody waits for its end.
struct Meanwhile {
    clock: Arc<dyn Clock>,
    ajar: Ajar,
    request: RequestId,
}

#[async_trait::async_trait]
impl Clock for Meanwhile {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn sleep(&self, duration: SignedDuration) {
        let input: ExtensionInput = serde_json::from_value(json!({ "duration": "PT1H" })).unwrap();
        extend(&self.ajar, &user("bob"), &self.request, &input).await.unwrap();
        self.clock.sleep(duration).await;
    }
}

#[tokio::test]
async fn access_extended_in_the_last_second_is_not_cut() {
    let world = protected().await;
    let request = opened(&world, "web-1", "PT30M").await;
    world.clock.advance(minutes(30) - SignedDuration::from_secs(1));
    world.azure.take_writes();
    let mut waiting = world.ajar.clone();
    let (clock, ajar) = (world.ajar.ports.clock.clone(), world.ajar.clone());
    waiting.ports.clock = Arc::new(Meanwhile { clock, ajar, request: request.id });
    reconcile::reconcile(&waiting, &nsg("web-nsg")).await.unwrap();
    assert!(world.azure.allows(ADA, WEB_1, 22));
    let writes = world.azure.take_writes();
    assert_eq!(writes.len(), 1, "only the end in the rule's description is another: {writes:?}");
}

/// Whoever moved the end died before the enforcement point knew; the requester asks again for the same.
#[tokio::test]
async fn an_extension_that_is_asked_for_again_reaches_its_points() {
    let world = protected().await;
    let request = opened(&world, "web-1", "PT30M").await;
    let grants = || world.store.contents().into_iter().filter(|((table, ..), _)| *table == Table::Grants);
    let before: Vec<_> = grants().collect();
    let until = json!({ "until": (request.end.unwrap() + minutes(30)).to_string() });
    extended(&world, &request, until.clone()).await.unwrap();
    for ((table, partition, row), document) in before {
        world.store.overwrite(table, &partition, &row, document);
    }
    world.bus.clear();
    extended(&world, &request, until).await.unwrap();
    world.clock.advance(minutes(31));
    world.deliver().await;
    assert!(world.azure.allows(ADA, WEB_1, 22));
}

fn outbox(world: &World) -> usize {
    world.store.contents().keys().filter(|(_, _, row)| row.starts_with("o_") || row.starts_with("g_")).count()
}

#[tokio::test]
async fn the_end_moves_once_however_often_the_same_is_asked() {
    let world = protected().await;
    let request = opened(&world, "web-1", "PT30M").await;
    let (start, end) = (request.start.unwrap(), request.end.unwrap());
    for _ in 0..2 {
        let by = json!({ "duration": "PT10M", "expectedEnd": end.to_string() });
        assert_eq!(extended(&world, &request, by).await.unwrap().end, Some(start + minutes(40)));
    }
    for _ in 0..2 {
        let until = json!({ "until": (start + minutes(60)).to_string() });
        assert_eq!(extended(&world, &request, until).await.unwrap().end, Some(start + minutes(60)));
    }
    let by = json!({ "duration": "PT10M", "expectedEnd": end.to_string() });
    assert_eq!(code(&extended(&world, &request, by).await.unwrap_err()), "EndMoved");
    assert_eq!(read(&world, &request).await.end, Some(start + minutes(60)));
    let steps = query::request_history(&world.ajar, &user("bob"), &request.id).await.unwrap();
    assert_eq!(steps.iter().filter(|step| step.what.starts_with("extended")).count(), 2);
}

#[tokio::test]
async fn what_role_policy_or_time_do_not_allow_is_refused_and_leaves_the_end() {
    let world = protected().await;
    let request = opened(&world, "web-1", "PT2H").await;
    let end = request.end.unwrap();
    for (input, wrong) in [
        (json!({}), "duration"),
        (json!({ "duration": "PT1H", "until": "2026-11-24T15:00:00Z" }), "duration"),
        (json!({ "duration": "-PT1H" }), "duration"),
        (json!({ "until": "tomorrow" }), "until"),
        (json!({ "until": "2026-11-24T13:00:00Z" }), "until"),
        // Two hours and one hour and one second are more than three hours.
        (json!({ "duration": "PT1H1S" }), "duration"),
        (json!({ "until": "9999-12-31T23:59:59Z" }), "until"),
    ] {
        assert_eq!(code(&extended(&world, &request, input.clone()).await.unwrap_err()), wrong, "{input}");
    }
    let hour = ExtensionInput { duration: Some("PT1H".into()), ..ExtensionInput::default() };
    let others = extend(&world.ajar, &user("alice"), &request.id, &hour).await.unwrap_err();
    assert_eq!(code(&others), "forbidden");
    world.azure.unassign("bob");
    assert_eq!(
        code(&extended(&world, &request, json!({ "duration": "PT1H" })).await.unwrap_err()),
        "forbidden"
    );
    let now = query::request(&world.ajar, &user("alice"), &request.id).await.unwrap();
    assert_eq!((now.status, now.end), (Status::Active, Some(end)));
    let steps = query::request_history(&world.ajar, &user("alice"), &request.id).await.unwrap();
    let refusals = steps.iter().filter(|step| step.what.starts_with("not extended: ")).count();
    assert_eq!(refusals, 2, "the policy's and the role's: {steps:#?}");
}

#[tokio::test]
async fn what_is_not_live_is_not_extended() {
    let world = protected().await;
    let asked = submitted(&world, "web-1", "PT30M", None).await;
    let hour = || json!({ "duration": "PT1H" });
    assert_eq!(code(&extended(&world, &asked, hour()).await.unwrap_err()), "NotLive");
    world.deliver().await;
    world.clock.advance(minutes(30));
    // Its time is up although nobody has noticed yet.
    assert_eq!(code(&extended(&world, &asked, hour()).await.unwrap_err()), "NotLive");
    world.minutes(1).await;
    assert_eq!(code(&extended(&world, &asked, hour()).await.unwrap_err()), "NotLive");

    let revoked = opened(&world, "web-1", "PT30M").await;
    close::revoke(&world.ajar, &user("bob"), &revoked.id).await.unwrap();
    assert_eq!(code(&extended(&world, &revoked, hour()).await.unwrap_err()), "NotLive");
    world.minutes(20).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
}

/// Extended seconds before the end, failing at every call: whoever was told yes keeps access until the new end, and
/// whatever was told, it shuts and nothing is left over.
#[tokio::test]
async fn an_extension_that_fails_anywhere_is_finished_or_was_not_made() {
    for after_effect in [false, true] {
        for calls in 0..MOST_CALLS {
            let world = World::new();
            protect(&world, "both-1").await;
            let request = opened(&world, "both-1", "PT30M").await;
            world.pass(minutes(30) - SignedDuration::from_secs(10)).await;
            world.budget.limit(calls, after_effect);
            let answer = extended(&world, &request, json!({ "duration": "PT1H" })).await;
            world.deliver().await;
            let has_failed = world.budget.lift();
            world.minutes(5).await;
            let place = format!("{calls} {after_effect}");
            let now = read(&world, &request).await;
            let is_extended = now.end == Some(request.end.unwrap() + minutes(60));
            assert!(is_extended || now.end == request.end, "{place}: {now:?}");
            assert!(is_extended || answer.is_err(), "{place}: said yes and did not");
            assert_eq!(now.status, if is_extended { Status::Active } else { Status::Closed }, "{place}");
            assert_eq!(world.azure.allows(ADA, BOTH_1, 22), is_extended, "{place}");
            world.minutes(90).await;
            assert!(!world.azure.allows(ADA, BOTH_1, 22), "{place}: never shut");
            assert_eq!(read(&world, &request).await.status, Status::Closed, "{place}");
            world.minutes(70).await;
            assert_eq!((world.store.count(Table::Due), outbox(&world)), (0, 0), "{place}");
            if !has_failed {
                assert!(answer.is_ok());
                break;
            }
            assert!(calls + 1 < MOST_CALLS, "more calls than the test expects");
        }
    }
}

#[tokio::test]
async fn revoked_after_an_extension_shuts_at_once() {
    let world = protected().await;
    let request = opened(&world, "web-1", "PT30M").await;
    extended(&world, &request, json!({ "duration": "PT1H" })).await.unwrap();
    close::revoke(&world.ajar, &user("bob"), &request.id).await.unwrap();
    world.deliver().await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(read(&world, &request).await.close_reason, Some(CloseReason::Revoked));
}

#[tokio::test]
async fn a_later_start_opens_at_its_very_second_and_ends_by_the_clock() {
    let world = protected().await;
    let start = world.ajar.ports.clock.now() + minutes(60);
    let request = submitted(&world, "web-1", "PT30M", Some(start)).await;
    world.minutes(58).await;
    let waiting = read(&world, &request).await;
    assert_eq!(
        (waiting.status, waiting.start, waiting.wish.not_before),
        (Status::Approved, None, Some(start))
    );
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    world.pass(minutes(2) - SignedDuration::from_secs(31)).await;
    assert_eq!(read(&world, &request).await.status, Status::Approved, "decided half a minute ahead at most");
    world.pass(SignedDuration::from_secs(28)).await;
    assert_eq!(read(&world, &request).await.status, Status::Opening, "decided three seconds ahead at least");
    world.pass(SignedDuration::from_millis(2_999)).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22), "before its time");
    world.pass(SignedDuration::from_millis(1)).await;
    assert!(world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(world.ajar.ports.clock.now(), start);
    let open = read(&world, &request).await;
    assert_eq!((open.status, open.start, open.end), (Status::Active, Some(start), Some(start + minutes(30))));
    world.minutes(120).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    assert_eq!((world.store.count(Table::Due), outbox(&world)), (0, 0));
}

#[tokio::test]
async fn a_later_start_is_opened_by_the_sweep_when_its_message_is_lost() {
    let world = protected().await;
    let start = world.ajar.ports.clock.now() + minutes(60);
    let request = submitted(&world, "web-1", "PT30M", Some(start)).await;
    world.deliver().await;
    world.bus.clear();
    world.minutes(59).await;
    assert_eq!(read(&world, &request).await.status, Status::Approved);
    world.minutes(3).await;
    let open = read(&world, &request).await;
    assert_eq!(
        (open.status, open.end),
        (Status::Active, Some(start + minutes(30))),
        "late, and ends on time"
    );
}

#[tokio::test]
async fn role_and_policy_are_checked_again_at_a_later_start() {
    let world = protected().await;
    let start = world.ajar.ports.clock.now() + minutes(60);
    let request = submitted(&world, "web-1", "PT30M", Some(start)).await;
    world.minutes(10).await;
    world.azure.unassign("bob");
    world.minutes(60).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    let refused = query::request(&world.ajar, &user("alice"), &request.id).await.unwrap();
    assert_eq!(refused.status, Status::Denied);
    assert!(refused.reason.unwrap().contains("initiate/action"));
}

#[tokio::test]
async fn a_later_start_can_be_withdrawn_and_leaves_nothing() {
    let world = protected().await;
    let start = world.ajar.ports.clock.now() + minutes(60);
    let request = submitted(&world, "web-1", "PT30M", Some(start)).await;
    world.deliver().await;
    let answer = close::revoke(&world.ajar, &user("bob"), &request.id).await.unwrap();
    assert_eq!(answer.status, Status::Cancelled);
    world.minutes(70).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(read(&world, &request).await.status, Status::Cancelled);
    assert_eq!(world.store.count(Table::Due), 0);
}

#[tokio::test]
async fn a_start_lies_within_a_week() {
    let world = protected().await;
    let now = world.ajar.ports.clock.now();
    for (start, is_taken) in [
        (now - SignedDuration::from_secs(61), false),
        (now - SignedDuration::from_secs(59), true),
        (now + SignedDuration::from_hours(7 * 24), true),
        (now + SignedDuration::from_hours(7 * 24) + SignedDuration::from_secs(1), false),
    ] {
        let ask = json!({ "vm": vm("web-1").as_str(), "duration": "PT30M", "start": start.to_string(),
            "ports": [{ "port": 22, "sources": [ADA] }] });
        let answer = submit::submit(&world.ajar, &user("bob"), &serde_json::from_value(ask).unwrap()).await;
        match answer {
            Ok(_) => assert!(is_taken, "{start}"),
            Err(error) => assert!(!is_taken && code(&error) == "start", "{start}: {error}"),
        }
    }
}

/// A start in the future, failing at every call while it is promised and again while it is opened.
#[tokio::test]
async fn a_later_start_opens_and_shuts_wherever_a_call_fails() {
    for after_effect in [false, true] {
        for calls in 0..MOST_CALLS {
            let world = protected().await;
            let start = world.ajar.ports.clock.now() + minutes(10);
            let request = submitted(&world, "web-1", "PT30M", Some(start)).await;
            world.budget.limit(calls, after_effect);
            world.deliver().await;
            let mut has_failed = world.budget.lift();
            world.minutes(9).await;
            assert!(!world.azure.allows(ADA, WEB_1, 22), "{calls} {after_effect}: too early");
            world.budget.limit(calls, after_effect);
            world.minutes(1).await;
            has_failed |= world.budget.lift();
            world.minutes(4).await;
            assert!(world.azure.allows(ADA, WEB_1, 22), "{calls} {after_effect}: not open");
            world.minutes(40).await;
            assert!(!world.azure.allows(ADA, WEB_1, 22), "{calls} {after_effect}: never shut");
            assert_eq!(read(&world, &request).await.status, Status::Closed);
            world.minutes(70).await;
            assert_eq!((world.store.count(Table::Due), outbox(&world)), (0, 0), "{calls} {after_effect}");
            if !has_failed {
                break;
            }
            assert!(calls + 1 < MOST_CALLS, "more calls than the test expects");
        }
    }
}

#[tokio::test]
async fn people_are_reminded_ten_minutes_before_each_end_and_not_of_short_windows() {
    let mut world = protected().await;
    let notifier = world.listen();
    let reminders = || notifier.names().into_iter().filter(|name| *name == "access.aboutToEnd").count();
    let request = opened(&world, "web-1", "PT1H").await;
    world.minutes(49).await;
    assert_eq!(reminders(), 0);
    world.minutes(2).await;
    assert_eq!(reminders(), 1);
    extended(&world, &request, json!({ "duration": "PT30M" })).await.unwrap();
    world.minutes(28).await;
    assert_eq!(reminders(), 1);
    world.minutes(2).await;
    assert_eq!(reminders(), 2, "of the new end");
    world.minutes(40).await;
    assert_eq!(read(&world, &request).await.status, Status::Closed);
    assert_eq!((reminders(), world.store.count(Table::Due)), (2, 0));

    let short = opened(&world, "web-1", "PT19M").await;
    world.minutes(40).await;
    assert_eq!(read(&world, &short).await.status, Status::Closed);
    assert_eq!(reminders(), 2);
}

#[tokio::test]
async fn a_reminder_whose_message_is_lost_comes_with_the_sweep_and_of_ended_access_none() {
    let mut world = protected().await;
    let notifier = world.listen();
    let reminders = || notifier.names().into_iter().filter(|name| *name == "access.aboutToEnd").count();
    opened(&world, "web-1", "PT1H").await;
    world.bus.clear();
    world.minutes(52).await;
    assert_eq!(reminders(), 1);
    let ended = opened(&world, "web-1", "PT1H").await;
    close::revoke(&world.ajar, &user("bob"), &ended.id).await.unwrap();
    world.minutes(70).await;
    assert_eq!(reminders(), 1);
}

#[tokio::test]
async fn several_vms_are_answered_one_by_one() {
    let world = protected().await;
    protect(&world, "web-2").await;
    let several = |vms: &[&str]| -> RequestsInput {
        let vms: Vec<_> = vms.iter().map(|name| vm(name).to_string()).collect();
        serde_json::from_value(json!({ "vms": vms, "duration": "PT30M",
            "ports": [{ "port": 22, "sources": [ADA] }] }))
        .unwrap()
    };
    // both-1 has no policy.
    let Asked::Several(inputs) = several(&["web-1", "both-1", "web-2"]).asked().unwrap() else {
        panic!("several VMs are not one")
    };
    let group = submit_many(&world.ajar, &user("bob"), inputs).await;
    world.deliver().await;
    assert!(world.azure.allows(ADA, WEB_1, 22) && world.azure.allows(ADA, "10.0.0.5", 22));
    let taken: Vec<bool> = group.answers.iter().map(|answer| answer.answer.is_ok()).collect();
    assert_eq!(taken, [true, false, true]);
    assert!(matches!(group.answers[1].answer, Err(AccessError::NotFound(_))));
    for answer in group.answers.iter().filter_map(|answer| answer.answer.as_ref().ok()) {
        assert_eq!(answer.group.as_ref(), Some(&group.id));
    }
    assert!(several(&[]).asked().is_err());
    assert_eq!(code(&several(&["web-1", "WEB-1"]).asked().unwrap_err()), "vms[1]");
}

#[tokio::test]
async fn a_wait_ends_when_there_is_something_to_say_and_does_not_read_all_the_time() {
    let world = protected().await;
    let request = submitted(&world, "web-1", "PT30M", None).await;
    let before = world.ajar.ports.clock.now();
    // Nothing is delivered meanwhile, so that the wait runs out; it may take thirty reads, not thousands.
    world.budget.limit(30, false);
    let answer = wait::until_granted(&world.ajar, &user("bob"), &request.id, SignedDuration::from_secs(600))
        .await
        .unwrap();
    assert!(!world.budget.lift());
    assert_eq!(answer.status, Status::Requested);
    assert_eq!(world.ajar.ports.clock.now().duration_since(before), wait::LONGEST_WAIT);

    world.deliver().await;
    let before = world.ajar.ports.clock.now();
    let answer =
        wait::until_granted(&world.ajar, &user("bob"), &request.id, wait::LONGEST_WAIT).await.unwrap();
    assert_eq!(answer.status, Status::Active);
    assert_eq!(world.ajar.ports.clock.now(), before, "there was nothing to wait for");
    assert!(
        wait::until_granted(&world.ajar, &user("mallory"), &request.id, wait::LONGEST_WAIT).await.is_err()
    );
}
