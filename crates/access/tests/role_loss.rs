//! Roles that go away: what is asked again when, for how long an answer is used, and what becomes of open access.

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
use ajar_access::ports::azure::{DenyAssignment, DenyPrincipal, RolePermissions};
use ajar_access::ports::store::Table;
use ajar_access::request::AccessRequest;
use ajar_access::testing::{self, SUBSCRIPTION, World, user, vm};
use ajar_access::{query, submit};
use jiff::SignedDuration;
use serde_json::json;
use std::sync::atomic::Ordering;

const ADA: &str = "203.0.113.7";
const WEB_1: &str = "10.0.0.4";

/// A world in which bob has been let into `web-1` for two hours.
async fn opened(when_role_is_lost: Option<&str>) -> (World, AccessRequest) {
    let world = World::new();
    world.protect("web-1", json!({ "whenRoleIsLost": when_role_is_lost })).await;
    let request = ask(&world).await.unwrap();
    world.deliver().await;
    assert!(world.azure.allows(ADA, WEB_1, 22));
    (world, request)
}

async fn ask(world: &World) -> Result<AccessRequest, AccessError> {
    submit::submit(&world.ajar, &user("bob"), &testing::ask("web-1", ADA, "PT2H")).await
}

async fn seen(world: &World, request: &AccessRequest) -> AccessRequest {
    query::request(&world.ajar, &user("bob"), &request.id).await.unwrap()
}

/// A deny assignment of asking for access, for everybody, at the subscription.
fn denial() -> DenyAssignment {
    DenyAssignment {
        id: "/denials/1".into(),
        name: "locked down".into(),
        permissions: vec![RolePermissions { actions: vec!["*/action".into()], ..RolePermissions::default() }],
        scope: format!("/subscriptions/{SUBSCRIPTION}"),
        do_not_apply_to_child_scopes: false,
        principals: vec![DenyPrincipal {
            id: "00000000-0000-0000-0000-000000000000".into(),
            kind: "SystemDefined".into(),
        }],
        exclude_principals: Vec::new(),
        condition: None,
    }
}

#[tokio::test]
async fn access_whose_owner_loses_the_role_is_shut_within_minutes_and_says_why() {
    let (world, request) = opened(None).await;
    world.minutes(20).await;
    assert!(world.azure.allows(ADA, WEB_1, 22), "it stays open while the role is there");

    world.azure.unassign("bob");
    world.minutes(7).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    let closed = seen(&world, &request).await;
    assert_eq!((closed.status, closed.close_reason), (Status::Closed, Some(CloseReason::Revoked)));
    let history = query::request_history(&world.ajar, &user("bob"), &request.id).await.unwrap();
    let told = history.iter().find(|entry| entry.what.contains("the role was lost")).unwrap();
    assert!(told.by.is_none() && told.what.contains("initiate/action"), "{told:?}");
    world.minutes(30).await;
    assert_eq!(world.store.count(Table::Due), 0, "{:?}", world.store.contents());
}

#[tokio::test]
async fn a_deny_assignment_takes_the_role_too() {
    let (world, request) = opened(Some("close")).await;
    world.azure.roles.deny(denial());
    world.minutes(7).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    let history = query::request_history(&world.ajar, &user("bob"), &request.id).await.unwrap();
    assert!(history.iter().any(|entry| entry.what.contains("deny assignment `locked down`")), "{history:?}");
    let Err(AccessError::Forbidden(why)) = ask(&world).await else { panic!("bob is denied") };
    assert!(why.contains("locked down"), "{why}");
    world.azure.roles.allow_again();
    world.clock.advance(SignedDuration::from_secs(31));
    assert!(ask(&world).await.is_ok());
}

#[tokio::test]
async fn a_policy_may_keep_it_open_to_its_end() {
    let (world, request) = opened(Some("keep")).await;
    world.azure.unassign("bob");
    world.minutes(30).await;
    assert!(world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(seen(&world, &request).await.status, Status::Active);
    assert!(matches!(ask(&world).await, Err(AccessError::Forbidden(_))), "asking again takes the role");
    world.minutes(120).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(world.store.count(Table::Due), 0, "{:?}", world.store.contents());
}

#[tokio::test]
async fn a_role_that_cannot_be_read_shuts_nothing_and_is_asked_for_again() {
    let (world, request) = opened(None).await;
    world.azure.hides_roles.store(true, Ordering::SeqCst);
    world.minutes(15).await;
    assert!(world.azure.allows(ADA, WEB_1, 22));
    world.azure.unassign("bob");
    world.azure.hides_roles.store(false, Ordering::SeqCst);
    world.minutes(2).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22), "the look that failed is repeated every minute");
    assert_eq!(seen(&world, &request).await.status, Status::Closed);
}

#[tokio::test]
async fn what_was_read_is_used_for_half_a_minute_and_what_opens_is_asked_anew() {
    let (world, _) = opened(None).await;
    assert!(ask(&world).await.is_ok());
    world.azure.unassign("bob");
    let late = ask(&world).await.expect("bob's role was read less than half a minute ago");
    world.deliver().await;
    assert_eq!(seen(&world, &late).await.status, Status::Denied);
    // The decision has read it anew, and what it read is what counts from now on.
    assert!(matches!(ask(&world).await, Err(AccessError::Forbidden(_))));
    world.azure.assign("bob", "request", &format!("/subscriptions/{SUBSCRIPTION}"));
    assert!(matches!(ask(&world).await, Err(AccessError::Forbidden(_))), "a refusal is kept as long");
    world.clock.advance(SignedDuration::from_secs(30));
    assert!(ask(&world).await.is_ok());
}

#[tokio::test]
async fn a_reading_that_failed_is_not_kept() {
    let (world, _) = opened(None).await;
    world.clock.advance(SignedDuration::from_secs(30));
    world.azure.hides_roles.store(true, Ordering::SeqCst);
    assert!(matches!(ask(&world).await, Err(AccessError::Unavailable { .. })));
    world.azure.hides_roles.store(false, Ordering::SeqCst);
    assert!(ask(&world).await.is_ok());
}

#[tokio::test]
async fn a_refusal_names_conditions_that_were_not_evaluated() {
    let world = World::new();
    let scope = format!("/subscriptions/{SUBSCRIPTION}");
    world.azure.roles.assign(
        &user("mallory").object_id,
        "read",
        &scope,
        Some("@Resource[x] StringEquals 'y'"),
    );
    let read = query::policy(&world.ajar, &user("mallory"), &vm("web-1")).await;
    let Err(AccessError::Forbidden(why)) = read else { panic!("{read:?}") };
    assert!(why.contains("condition"), "{why}");

    let mut denial = denial();
    denial.permissions[0].actions = vec!["*".into()];
    denial.condition = Some("@Resource[x]".into());
    world.azure.roles.deny(denial);
    let read = query::policy(&world.ajar, &user("carol"), &vm("web-1")).await;
    let Err(AccessError::Forbidden(why)) = read else { panic!("{read:?}") };
    assert!(why.contains("condition"), "{why}");
}

#[tokio::test]
async fn whoever_is_excluded_through_a_group_that_gives_a_role_is_let_off_and_others_are_told() {
    let world = World::new();
    let (scope, group) = (format!("/subscriptions/{SUBSCRIPTION}"), "90000000-0000-0000-0000-000000000000");
    let mut denial = denial();
    denial.permissions[0].actions = vec!["*".into()];
    denial.exclude_principals = vec![DenyPrincipal { id: group.into(), kind: "Group".into() }];
    world.azure.roles.deny(denial);
    world.azure.roles.join(&user("carol").object_id, group);
    let read = async || query::policy(&world.ajar, &user("carol"), &vm("web-1")).await;
    let Err(AccessError::Forbidden(why)) = read().await else { panic!("the membership cannot be seen") };
    assert!(why.contains("group"), "{why}");
    world.azure.roles.assign(group, "request", &scope, None);
    world.clock.advance(SignedDuration::from_secs(30));
    // She may read now; there is no policy.
    assert!(matches!(read().await, Err(AccessError::NotFound(_))));
}

#[tokio::test]
async fn a_permission_taken_out_of_a_role_lets_nobody_in_half_a_minute_later() {
    let world = World::new();
    world.protect("web-1", json!({})).await;
    let request = ask(&world).await.unwrap();
    world.azure.roles.define("request", &["Microsoft.Compute/virtualMachines/read"]);
    world.pass(SignedDuration::from_secs(30)).await;
    assert_eq!(seen(&world, &request).await.status, Status::Denied);
    assert!(!world.azure.allows(ADA, WEB_1, 22));
}
