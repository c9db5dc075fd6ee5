//! Every use case, failed at every call it makes: before the call's effect, and after it with the answer
//! lost. Then the failure ends, time passes, and the state must be as if nothing had failed.

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
use ajar_access::request::RequestInput;
use ajar_access::testing::{World, user, vm};
use ajar_access::{close, configure, query, submit};
use serde_json::json;

const ADA: &str = "203.0.113.7";
const NEIGHBOUR: &str = "203.0.113.8";
const BOTH_1: &str = "10.0.1.4";

/// More calls than any one use case makes.
const MOST_CALLS: i64 = 400;

fn policy() -> PolicyInput {
    serde_json::from_value(json!({ "vm": vm("both-1").as_str(), "ports": [{ "port": 22 }] })).unwrap()
}

fn ask() -> RequestInput {
    serde_json::from_value(json!({
        "vm": vm("both-1").as_str(), "ports": [{ "port": 22, "sources": [ADA] }], "duration": "PT1H",
    }))
    .unwrap()
}

async fn protected() -> World {
    let world = World::new();
    configure::enable(&world.ajar, &user("alice"), &policy()).await.unwrap();
    world.deliver().await;
    world
}

/// Whether a neighbour of the granted source gets in, which nothing ever allows once JIT is on.
fn is_shut_to_others(world: &World) -> bool {
    !world.azure.allows(NEIGHBOUR, BOTH_1, 22)
}

#[tokio::test]
async fn turning_on_either_fails_whole_or_is_finished_by_the_sweep() {
    for after_effect in [false, true] {
        for calls in 0..MOST_CALLS {
            let world = World::new();
            world.budget.limit(calls, after_effect);
            let answer = configure::enable(&world.ajar, &user("alice"), &policy()).await;
            world.deliver().await;
            let has_failed = world.budget.lift();
            world.minutes(3).await;
            let has_policy = query::policy(&world.ajar, &user("alice"), &vm("both-1")).await.is_ok();
            assert!(answer.is_err() || has_policy, "{calls} {after_effect}: said yes, kept nothing");
            assert_eq!(has_policy, is_shut_to_others(&world), "{calls} {after_effect}: half turned on");
            world.minutes(70).await;
            assert_eq!(
                world.store.count(Table::Due),
                0,
                "{calls} {after_effect}: {:?}",
                world.store.contents()
            );
            if !has_failed {
                assert!(answer.is_ok() && has_policy);
                break;
            }
            assert!(calls + 1 < MOST_CALLS, "more calls than the test expects");
        }
    }
}

#[tokio::test]
async fn a_request_either_fails_whole_or_opens_and_always_shuts() {
    for after_effect in [false, true] {
        for calls in 0..MOST_CALLS {
            let world = protected().await;
            world.budget.limit(calls, after_effect);
            let answer = submit::submit(&world.ajar, &user("bob"), &ask()).await;
            world.deliver().await;
            assert!(is_shut_to_others(&world));
            let has_failed = world.budget.lift();
            world.minutes(3).await;
            let is_open = world.azure.allows(ADA, BOTH_1, 22);
            if let Ok(request) = &answer {
                assert!(is_open, "{calls} {after_effect}: accepted but not open");
                let request = query::request(&world.ajar, &user("bob"), &request.id).await.unwrap();
                assert_eq!(request.status, Status::Active, "{calls} {after_effect}");
            }
            assert!(is_shut_to_others(&world));
            world.minutes(60).await;
            assert!(!world.azure.allows(ADA, BOTH_1, 22), "{calls} {after_effect}: never shut");
            if let Ok(request) = &answer {
                let request = query::request(&world.ajar, &user("bob"), &request.id).await.unwrap();
                assert_eq!(request.status, Status::Closed, "{calls} {after_effect}");
            }
            world.minutes(70).await;
            assert_eq!(
                world.store.count(Table::Due),
                0,
                "{calls} {after_effect}: {:?}",
                world.store.contents()
            );
            if !has_failed {
                assert!(answer.is_ok());
                break;
            }
            assert!(calls + 1 < MOST_CALLS, "more calls than the test expects");
        }
    }
}

#[tokio::test]
async fn a_revocation_that_fails_anywhere_still_shuts() {
    for after_effect in [false, true] {
        for calls in 0..MOST_CALLS {
            let world = protected().await;
            let request = submit::submit(&world.ajar, &user("bob"), &ask()).await.unwrap();
            world.deliver().await;
            world.budget.limit(calls, after_effect);
            let answer = close::revoke(&world.ajar, &user("bob"), &request.id).await;
            world.deliver().await;
            let has_failed = world.budget.lift();
            world.minutes(3).await;
            let after = query::request(&world.ajar, &user("bob"), &request.id).await.unwrap();
            let is_open = world.azure.allows(ADA, BOTH_1, 22);
            match after.status {
                // It failed before anything was written: the caller was told.
                Status::Active => assert!(answer.is_err() && is_open, "{calls} {after_effect}"),
                Status::Closed => assert!(!is_open, "{calls} {after_effect}"),
                other => panic!("{calls} {after_effect}: {other:?}, open: {is_open}"),
            }
            assert!(is_shut_to_others(&world));
            world.minutes(150).await;
            assert!(!world.azure.allows(ADA, BOTH_1, 22));
            assert_eq!(
                world.store.count(Table::Due),
                0,
                "{calls} {after_effect}: {:?}",
                world.store.contents()
            );
            if !has_failed {
                assert!(answer.is_ok());
                break;
            }
            assert!(calls + 1 < MOST_CALLS, "more calls than the test expects");
        }
    }
}

#[tokio::test]
async fn turning_off_that_fails_anywhere_is_finished_or_was_refused() {
    let untouched = World::new().azure.rules("first-nsg");
    for after_effect in [false, true] {
        for calls in 0..MOST_CALLS {
            let world = protected().await;
            submit::submit(&world.ajar, &user("bob"), &ask()).await.unwrap();
            world.deliver().await;
            world.budget.limit(calls, after_effect);
            let answer = configure::disable(&world.ajar, &user("alice"), &vm("both-1")).await;
            world.deliver().await;
            let has_failed = world.budget.lift();
            world.minutes(3).await;
            let has_policy = query::policy(&world.ajar, &user("alice"), &vm("both-1")).await.is_ok();
            if has_policy {
                assert!(answer.is_err() && is_shut_to_others(&world), "{calls} {after_effect}");
            } else {
                assert_eq!(world.azure.rules("first-nsg"), untouched, "{calls} {after_effect}");
            }
            world.minutes(150).await;
            assert_eq!(
                world.store.count(Table::Due),
                0,
                "{calls} {after_effect}: {:?}",
                world.store.contents()
            );
            if !has_failed {
                assert!(answer.is_ok() && !has_policy);
                break;
            }
            assert!(calls + 1 < MOST_CALLS, "more calls than the test expects");
        }
    }
}
