//! Every use case, struck at every call it makes. Then the failure ends, time passes, and the state must be as if
//! nothing had failed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::life_cycle::Status;
use ajar_access::policy::PolicyInput;
use ajar_access::ports::store::Table;
use ajar_access::request::{AccessRequest, RequestInput};
use ajar_access::testing::{World, user, vm};
use ajar_access::{close, configure, query, submit};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

const ADA: &str = "203.0.113.7";
const NEIGHBOUR: &str = "203.0.113.8";
const BOTH_1: &str = "10.0.1.4";

/// More calls than any one use case makes.
const MOST_CALLS: i64 = 400;

/// How a use case is struck.
#[derive(Debug, Clone, Copy)]
enum Strike {
    /// From this call on everything fails, as when the process dies there.
    Crash,
    /// This call fails and those after it do not.
    Fail,
    /// As `Crash`; then the caller tries once more.
    Repeat,
}

/// Strikes `act` at every call, before the call's effect and after it, in a fresh world each time. `judge` learns
/// whether the last answer was a success; three minutes have passed then.
async fn at_every_call<T>(
    prepare: impl AsyncFn() -> (World, T),
    act: impl AsyncFn(&World, &T) -> bool,
    judge: impl AsyncFn(&World, &T, bool, &str),
) {
    for strike in [Strike::Crash, Strike::Fail, Strike::Repeat] {
        for after_effect in [false, true] {
            for calls in 0.. {
                assert!(calls < MOST_CALLS, "more calls than the test expects");
                let (world, subject) = prepare().await;
                match strike {
                    Strike::Crash | Strike::Repeat => world.budget.limit(calls, after_effect),
                    Strike::Fail => world.budget.fail_once(calls, after_effect),
                }
                let mut answered = act(&world, &subject).await;
                let was_struck = world.budget.lift();
                if was_struck && matches!(strike, Strike::Repeat) {
                    answered = act(&world, &subject).await;
                    assert!(answered, "refused when tried again at call {calls}");
                }
                world.minutes(3).await;
                let place = format!("{strike:?} at call {calls}, after its effect: {after_effect}");
                judge(&world, &subject, answered, &place).await;
                a_clean_slate(&world, &place).await;
                if !was_struck {
                    assert!(answered, "{place}: refused without a failure");
                    break;
                }
            }
        }
    }
}

/// Hours later nothing is open, nothing is due and nobody works.
async fn a_clean_slate(world: &World, place: &str) {
    // The longest access, a second look, and the hour that a row without its change is kept.
    for pause in [60, 20, 65] {
        world.pass(SignedDuration::from_mins(pause)).await;
        world.minutes(2).await;
    }
    for row in world.store.contents() {
        let (table, _, key) = &row.0;
        let is_left = match table {
            Table::Due => true,
            Table::Grants => key.starts_with("g_"),
            // One whose holder died has run out.
            Table::Points => {
                key == "lease" && is_owned(&row.1) && until(&row.1) > world.ajar.ports.clock.now()
            }
            _ => false,
        };
        assert!(!is_left, "{place}: {row:?} is left");
    }
}

fn is_owned(lease: &str) -> bool {
    !lease.contains("\"owner\":\"\"")
}

fn until(lease: &str) -> Timestamp {
    let json: serde_json::Value = serde_json::from_str(lease).unwrap();
    json["until"].as_str().unwrap().parse().unwrap()
}

fn policy() -> PolicyInput {
    serde_json::from_value(json!({ "vm": vm("both-1").as_str(), "ports": [{ "port": 22 }] })).unwrap()
}

fn ask() -> RequestInput {
    serde_json::from_value(json!({
        "vm": vm("both-1").as_str(), "ports": [{ "port": 22, "sources": [ADA] }], "duration": "PT1H",
    }))
    .unwrap()
}

async fn protected() -> (World, ()) {
    let world = World::new();
    configure::enable(&world.ajar, &user("alice"), &policy()).await.unwrap();
    world.deliver().await;
    (world, ())
}

async fn opened() -> (World, AccessRequest) {
    let (world, ()) = protected().await;
    let request = submit::submit(&world.ajar, &user("bob"), &ask()).await.unwrap();
    world.deliver().await;
    (world, request)
}

async fn status(world: &World, request: &AccessRequest) -> Status {
    query::request(&world.ajar, &user("bob"), &request.id).await.unwrap().status
}

async fn has_policy(world: &World) -> bool {
    query::policy(&world.ajar, &user("alice"), &vm("both-1")).await.is_ok()
}

/// Whether a neighbour of the granted source gets in, which nothing ever allows once JIT is on.
fn is_shut_to_others(world: &World) -> bool {
    !world.azure.allows(NEIGHBOUR, BOTH_1, 22)
}

#[tokio::test]
async fn turning_on_either_fails_whole_or_is_finished_by_the_sweep() {
    at_every_call(
        async || (World::new(), ()),
        async |world, ()| {
            let answer = configure::enable(&world.ajar, &user("alice"), &policy()).await;
            world.deliver().await;
            answer.is_ok()
        },
        async |world, (), answered, place| {
            let has_policy = has_policy(world).await;
            assert!(!answered || has_policy, "{place}: said yes, kept nothing");
            assert_eq!(has_policy, is_shut_to_others(world), "{place}: half turned on");
        },
    )
    .await;
}

#[tokio::test]
async fn a_request_either_fails_whole_or_opens_and_always_shuts() {
    at_every_call(
        protected,
        async |world, ()| {
            let answer = submit::submit(&world.ajar, &user("bob"), &ask()).await;
            world.deliver().await;
            answer.is_ok()
        },
        async |world, (), answered, place| {
            assert!(!answered || world.azure.allows(ADA, BOTH_1, 22), "{place}: accepted but not open");
            assert!(is_shut_to_others(world), "{place}");
            world.minutes(60).await;
            assert!(!world.azure.allows(ADA, BOTH_1, 22), "{place}: never shut");
            for request in query::own_requests(&world.ajar, &user("bob")).await.unwrap() {
                assert_eq!(request.status, Status::Closed, "{place}");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_revocation_that_fails_anywhere_still_shuts() {
    at_every_call(
        opened,
        async |world, request| {
            let answer = close::revoke(&world.ajar, &user("bob"), &request.id).await;
            world.deliver().await;
            answer.is_ok()
        },
        async |world, request, answered, place| {
            let is_open = world.azure.allows(ADA, BOTH_1, 22);
            match status(world, request).await {
                // It failed before anything was written: the caller was told.
                Status::Active => assert!(!answered && is_open, "{place}"),
                Status::Closed => assert!(!is_open, "{place}"),
                other => panic!("{place}: {other:?}, open: {is_open}"),
            }
            assert!(is_shut_to_others(world), "{place}");
        },
    )
    .await;
}

#[tokio::test]
async fn an_end_that_fails_anywhere_still_shuts() {
    at_every_call(
        opened,
        async |world, _| {
            world.pass(SignedDuration::from_mins(61)).await;
            let _ = world.sweep().await;
            true
        },
        async |world, request, _, place| {
            assert!(!world.azure.allows(ADA, BOTH_1, 22), "{place}: never shut");
            assert_eq!(status(world, request).await, Status::Closed, "{place}");
            assert!(is_shut_to_others(world), "{place}");
        },
    )
    .await;
}

#[tokio::test]
async fn turning_off_that_fails_anywhere_is_finished_or_was_refused() {
    let untouched = World::new().azure.rules("first-nsg");
    at_every_call(
        opened,
        async |world, _| {
            let answer = configure::disable(&world.ajar, &user("alice"), &vm("both-1")).await;
            world.deliver().await;
            // Tried again after it was done, it says that there is nothing to turn off.
            answer.is_ok() || (world.budget.is_whole() && !has_policy(world).await)
        },
        async |world, request, answered, place| {
            if has_policy(world).await {
                assert!(!answered && is_shut_to_others(world), "{place}");
            } else {
                assert_eq!(world.azure.rules("first-nsg"), untouched, "{place}");
                assert_eq!(status(world, request).await, Status::Closed, "{place}");
            }
        },
    )
    .await;
}
