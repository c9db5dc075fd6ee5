//! Tables that were restored from an old backup: what they say opens nothing, and removes no deny.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::error::AccessError;
use ajar_access::life_cycle::{CloseReason, Status};
use ajar_access::ports::blobs::{BlobName, Blobs};
use ajar_access::ports::store::Table;
use ajar_access::request::AccessRequest;
use ajar_access::testing::{FakeAzure, SUBSCRIPTION, World, ask, user, vm};
use ajar_access::{close, configure, extend, history, query, resume, submit};
use jiff::SignedDuration;
use serde_json::json;
use std::sync::atomic::Ordering;

const ADA: &str = "203.0.113.7";

fn is_open(azure: &FakeAzure) -> bool {
    azure.allows(ADA, WEB_1, 22)
}

const WEB_1: &str = "10.0.0.4";

/// A world in which web-1 is protected and alice may configure in all of the subscription.
async fn protected() -> World {
    let world = World::new();
    world.azure.roles.assign(
        &user("alice").object_id,
        "owner",
        &format!("/subscriptions/{SUBSCRIPTION}"),
        None,
    );
    world.azure.roles.define("owner", &["*"]);
    world.protect("web-1", json!({})).await;
    world.minutes(2).await;
    world
}

async fn asked(world: &World, duration: &str) -> AccessRequest {
    let request = submit::submit(&world.ajar, &user("bob"), &ask("web-1", ADA, duration)).await.unwrap();
    world.deliver().await;
    request
}

async fn find(world: &World, request: &AccessRequest) -> AccessRequest {
    query::request(&world.ajar, &user("bob"), &request.id).await.unwrap()
}

fn code<T: std::fmt::Debug>(answer: Result<T, AccessError>) -> &'static str {
    match answer {
        Err(AccessError::Conflict { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_revoked_grant_does_not_come_back_with_an_old_backup() {
    let world = protected().await;
    let request = asked(&world, "PT2H").await;
    assert!(is_open(&world.azure));
    let backup = world.store.back_up();
    world.minutes(3).await;
    close::revoke(&world.ajar, &user("bob"), &request.id).await.unwrap();
    world.minutes(20).await;
    assert!(!is_open(&world.azure));

    world.store.restore(&backup);
    world.bus.clear();
    world.azure.take_writes();
    world.minutes(30).await;
    assert!(!is_open(&world.azure), "a restored store opened what had been revoked");
    assert_eq!(world.azure.take_writes(), [""; 0]);

    // Nothing new is taken on, and no policy changed.
    let again = submit::submit(&world.ajar, &user("bob"), &ask("web-1", ADA, "PT1H")).await;
    assert_eq!(code(again), "StoreRestored");
    // By the old tables it is still open.
    let longer = serde_json::from_value(json!({ "duration": "PT10M" })).unwrap();
    assert_eq!(code(extend::extend(&world.ajar, &user("bob"), &request.id, &longer).await), "StoreRestored");
    assert_eq!(code(configure::disable(&world.ajar, &user("alice"), &vm("web-1")).await), "StoreRestored");
    let policy = json!({ "vm": vm("web-2").as_str(), "ports": [{ "port": 22 }] });
    let enabled =
        configure::enable(&world.ajar, &user("alice"), &serde_json::from_value(policy).unwrap()).await;
    assert_eq!(code(enabled), "StoreRestored");
}

#[tokio::test]
async fn what_is_open_is_shut_at_its_described_end() {
    let world = protected().await;
    let backup = world.store.back_up();
    world.minutes(2).await;
    asked(&world, "PT10M").await;
    assert!(is_open(&world.azure));
    world.store.restore(&backup);
    world.bus.clear();
    world.minutes(8).await;
    assert!(is_open(&world.azure), "a session is not cut before the end that its rule describes");
    world.minutes(3).await;
    assert!(!is_open(&world.azure));
}

#[tokio::test]
async fn after_a_resume_nothing_of_the_backup_is_open_and_new_access_is() {
    let world = protected().await;
    let request = asked(&world, "PT2H").await;
    let waiting =
        submit::submit(&world.ajar, &user("bob"), &ask("web-1", "203.0.113.8", "PT1H")).await.unwrap();
    let backup = world.store.back_up();
    world.minutes(2).await;
    close::revoke(&world.ajar, &user("bob"), &request.id).await.unwrap();
    world.minutes(20).await;
    world.store.restore(&backup);
    world.bus.clear();
    world.minutes(2).await;

    let resumed = resume::resume(&world.ajar, &user("alice")).await.unwrap();
    assert_eq!((resumed.ended, resumed.policies, resumed.forgotten), (2, 1, 0));
    world.minutes(20).await;
    assert!(!is_open(&world.azure));
    let found = find(&world, &request).await;
    assert_eq!((found.status, found.close_reason), (Status::Closed, Some(CloseReason::Revoked)));
    assert_eq!(find(&world, &waiting).await.status, Status::Cancelled);
    history::verify_chain(&world.ajar, &request.id).await.unwrap();

    asked(&world, "PT1H").await;
    assert!(is_open(&world.azure), "Ajar works as before");
    assert_eq!(code(resume::resume(&world.ajar, &user("alice")).await), "StoreNotRestored");
}

/// Every call of a resume fails once, before and after its effect: nothing opens, and the same again ends it.
#[tokio::test]
async fn a_resume_that_breaks_off_anywhere_is_done_again() {
    for after_effect in [false, true] {
        for calls in 0.. {
            let world = protected().await;
            let request = asked(&world, "PT2H").await;
            let backup = world.store.back_up();
            world.minutes(2).await;
            close::revoke(&world.ajar, &user("bob"), &request.id).await.unwrap();
            world.minutes(20).await;
            world.store.restore(&backup);
            world.bus.clear();
            world.budget.limit(calls, after_effect);
            let first = resume::resume(&world.ajar, &user("alice")).await;
            let has_failed = world.budget.lift();
            assert!(!is_open(&world.azure), "{calls}");
            match resume::resume(&world.ajar, &user("alice")).await {
                Ok(_) => assert!(first.is_err(), "{calls}"),
                // The first one came to its last write, or to its end.
                Err(error) => assert_eq!(code(Err::<(), _>(error)), "StoreNotRestored", "{calls}"),
            }
            world.minutes(20).await;
            assert!(!is_open(&world.azure), "{calls}");
            assert_eq!(find(&world, &request).await.status, Status::Closed, "{calls}");
            if !has_failed {
                assert!(calls > 10);
                break;
            }
        }
    }
}

/// JIT was being turned off when the backup was made, and turned on again since.
#[tokio::test]
async fn a_policy_that_was_being_turned_off_in_the_backup_takes_no_deny_away() {
    let world = protected().await;
    configure::disable(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap();
    let backup = world.store.back_up();
    world.deliver().await;
    world.minutes(2).await;
    assert!(is_open(&world.azure), "the sample NSG lets everybody in without JIT");
    world.protect("web-1", json!({})).await;
    world.minutes(2).await;
    world.store.restore(&backup);
    world.bus.clear();
    world.minutes(5).await;
    assert!(!is_open(&world.azure));
    let resumed = resume::resume(&world.ajar, &user("alice")).await.unwrap();
    assert_eq!((resumed.policies, resumed.forgotten), (0, 1));
    world.minutes(30).await;
    assert!(!is_open(&world.azure), "a policy of the past took the deny away");
}

#[tokio::test]
async fn a_resume_takes_the_right_to_configure_in_the_whole_subscription() {
    let world = protected().await;
    let backup = world.store.back_up();
    world.minutes(2).await;
    world.store.restore(&backup);
    for name in ["bob", "mallory"] {
        let refused = resume::resume(&world.ajar, &user(name)).await;
        assert!(matches!(refused, Err(AccessError::Forbidden(_))), "{name}: {refused:?}");
    }
    resume::resume(&world.ajar, &user("alice")).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_cannot_be_read_is_a_store_that_cannot() {
    let world = protected().await;
    asked(&world, "PT10M").await;
    world.blobs.is_down.store(true, Ordering::SeqCst);
    let refused = submit::submit(&world.ajar, &user("bob"), &ask("web-1", "203.0.113.8", "PT1H")).await;
    assert!(matches!(refused, Err(AccessError::Unavailable { .. })), "{refused:?}");
    // Whoever is in stays in until the described end, and some minutes more, as with unreadable tables.
    world.minutes(9).await;
    assert!(is_open(&world.azure));
    world.minutes(8).await;
    assert!(!is_open(&world.azure));
    world.blobs.is_down.store(false, Ordering::SeqCst);
    world.minutes(2).await;
    asked(&world, "PT10M").await;
    assert!(is_open(&world.azure));
}

#[tokio::test]
async fn a_blob_that_is_gone_proves_nothing() {
    let world = protected().await;
    world.blobs.wipe();
    let refused = submit::submit(&world.ajar, &user("bob"), &ask("web-1", ADA, "PT1H")).await;
    assert_eq!(code(refused), "StoreRestored");
    resume::resume(&world.ajar, &user("alice")).await.unwrap();
    asked(&world, "PT10M").await;
    assert!(is_open(&world.azure));
}

#[tokio::test]
async fn tables_that_were_emptied_and_then_restored_are_old_as_well() {
    let world = protected().await;
    let backup = world.store.back_up();
    world.store.wipe();
    // JIT is turned on again in the empty store, and access granted.
    world.protect("web-1", json!({})).await;
    asked(&world, "PT10M").await;
    assert!(is_open(&world.azure));
    world.minutes(2).await;
    world.store.restore(&backup);
    let refused = submit::submit(&world.ajar, &user("bob"), &ask("web-1", ADA, "PT1H")).await;
    assert_eq!(code(refused), "StoreRestored");
}

/// The row is raised first and the blob follows, so a raise that breaks off looks like no restored store.
#[tokio::test]
async fn a_raise_that_breaks_off_is_no_restored_store() {
    for after_effect in [false, true] {
        for calls in 0..12 {
            let world = protected().await;
            world.budget.fail_once(calls, after_effect);
            let _ = world.sweep().await;
            world.budget.lift();
            world.clock.advance(SignedDuration::from_secs(1));
            asked(&world, "PT10M").await;
            assert!(is_open(&world.azure), "{calls} {after_effect}");
            let before = generation(&world).await;
            world.minutes(2).await;
            assert!(generation(&world).await > before, "each sweep raises it");
        }
    }
}

async fn generation(world: &World) -> u64 {
    let blob = world.blobs.read(&BlobName::generation()).await.unwrap().unwrap();
    let text: serde_json::Value = serde_json::from_str(&blob.text).unwrap();
    text["generation"].as_u64().unwrap()
}

/// The marker of an earlier release names no generation, and there is no blob beside it.
#[tokio::test]
async fn a_store_of_an_earlier_release_gets_a_generation() {
    let world = protected().await;
    world.blobs.wipe();
    let marker = json!({ "v": 1, "since": "2026-11-01T00:00:00Z" }).to_string();
    world.store.overwrite(Table::Cursors, "store", "marker", marker);
    asked(&world, "PT1H").await;
    assert!(is_open(&world.azure));
    world.minutes(1).await;
    assert_eq!(generation(&world).await, 1);
}
