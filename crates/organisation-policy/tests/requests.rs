//! Requests under the policies that ship and under the samples: the use cases with Cedar behind them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use ajar_access::error::AccessError;
use ajar_access::life_cycle::Status;
use ajar_access::ports::identity::Caller;
use ajar_access::request::{AccessRequest, RequestInput};
use ajar_access::testing::{FakeNotifier, SUBSCRIPTION, World, user, vm};
use ajar_access::{approval, approvals, close, configure, extend, query, submit};
use ajar_organisation_policy::{OrganisationPolicies, Policies};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

const DEFAULT: &str = include_str!("../../../infra/policies/default.cedar");
const TWO: &str = include_str!("../../../infra/policies/samples/production-needs-two.cedar");
const VENDORS: &str = include_str!("../../../infra/policies/samples/vendors-in-office-hours.cedar");
const OPERATIONS: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const VENDOR_GROUP: &str = "aaaaaaaa-0000-0000-0000-000000000002";

fn policies(texts: &[&str]) -> Arc<OrganisationPolicies> {
    let named: Vec<(String, &str)> =
        texts.iter().enumerate().map(|(index, text)| (format!("{index}.cedar"), *text)).collect();
    let parsed = Policies::parse(named.iter().map(|(name, text)| (name.as_str(), *text))).unwrap();
    Arc::new(OrganisationPolicies::new(parsed, TimeZone::UTC))
}

/// Somebody who has signed in with these methods and is in these groups.
fn signed_in(name: &str, methods: &[&str], groups: &[&str]) -> Caller {
    let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
    let mut caller = user(name);
    caller.sign_in.methods = set(methods);
    caller.sign_in.groups = set(groups);
    caller
}

/// Somebody of the operations group, with a second factor.
fn operator(name: &str) -> Caller {
    signed_in(name, &["pwd", "mfa"], &[OPERATIONS])
}

struct Told {
    world: World,
    notifier: Arc<FakeNotifier>,
}

impl Told {
    /// `web-1` is protected and tagged as production; alice, bob and carol may ask.
    async fn under(texts: &[&str]) -> Told {
        let mut world = World::new();
        let notifier = world.listen();
        world.ajar.ports.organisation = policies(texts);
        let scope = format!("/subscriptions/{SUBSCRIPTION}");
        world.azure.roles.assign(&user("carol").object_id, "request", &scope, None);
        world.azure.change_machine("web-1", &json!({}), &json!({ "environment": "production" }));
        world.protect("web-1", json!({})).await;
        Told { world, notifier }
    }

    async fn ask(&self, caller: &Caller, more: Value) -> Result<AccessRequest, AccessError> {
        let mut body = json!({ "vm": vm("web-1").as_str(), "duration": "PT1H",
            "ports": [{ "port": 22, "sources": ["203.0.113.7"] }] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let input: RequestInput = serde_json::from_value(body).unwrap();
        let asked = submit::submit(&self.world.ajar, caller, &input).await;
        self.world.deliver().await;
        asked
    }

    /// A request of bob's that waits for two people of operations.
    async fn waiting() -> (Told, AccessRequest) {
        let told = Told::under(&[DEFAULT, TWO]).await;
        let request = told.ask(&operator("bob"), json!({})).await.unwrap();
        (told, request)
    }

    async fn seen(&self, request: &AccessRequest) -> AccessRequest {
        query::request(&self.world.ajar, &user("bob"), &request.id).await.unwrap()
    }

    async fn approve(&self, caller: &Caller, request: &AccessRequest) -> Result<AccessRequest, AccessError> {
        let approved = approval::approve(&self.world.ajar, caller, &request.id, None).await;
        self.world.deliver().await;
        approved
    }

    async fn waits_for(&self, caller: &Caller) -> usize {
        approvals::waiting_for(&self.world.ajar, caller).await.unwrap().len()
    }

    fn is_open(&self) -> bool {
        self.world.azure.allows("203.0.113.7", "10.0.0.4", 22)
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.notifier.names()
    }
}

fn refused(answer: Result<AccessRequest, AccessError>, name: &str) {
    match answer {
        Err(AccessError::Forbidden(reason)) => assert!(reason.contains(name), "{reason}"),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn with_the_set_that_ships_nobody_waits_and_the_history_names_the_policies() {
    let told = Told::under(&[DEFAULT]).await;
    let request = told.ask(&user("bob"), json!({})).await.unwrap();
    assert_eq!(told.seen(&request).await.status, Status::Active);
    let entries = query::request_history(&told.world.ajar, &user("bob"), &request.id).await.unwrap();
    assert!(entries.iter().any(|entry| entry.what.contains("members-may-request, members-are-approved")));
}

#[tokio::test]
async fn production_opens_when_two_of_operations_have_approved() {
    let (told, request) = Told::waiting().await;
    let waits = told.seen(&request).await;
    assert_eq!(waits.status, Status::AwaitingApproval);
    let approval = waits.approval.unwrap();
    assert_eq!(approval.needed, 2);
    assert!(approval.why.contains("`production-needs-two` (two people of the operations group approve it)"));
    assert!(told.kinds().contains(&"access.approvalWanted") && !told.is_open());

    refused(told.approve(&operator("bob"), &request).await, "no-self-approval");
    let outside = signed_in("alice", &["pwd", "mfa"], &[]);
    refused(told.approve(&outside, &request).await, "production-is-approved-by-operations");
    let without_second_factor = signed_in("alice", &["pwd"], &[OPERATIONS]);
    refused(told.approve(&without_second_factor, &request).await, "sign in with multi-factor authentication");
    refused(told.approve(&operator("mallory"), &request).await, "initiate/action");

    assert_eq!(told.waits_for(&operator("alice")).await, 1);
    for other in [operator("bob"), operator("mallory"), outside] {
        assert_eq!(told.waits_for(&other).await, 0, "{}", other.name);
    }
    told.approve(&operator("alice"), &request).await.unwrap();
    told.approve(&operator("alice"), &request).await.unwrap();
    assert_eq!(told.waits_for(&operator("alice")).await, 0, "alice has approved");
    assert!(!told.is_open());
    assert_eq!(told.seen(&request).await.status, Status::AwaitingApproval);

    told.approve(&operator("carol"), &request).await.unwrap();
    assert!(told.is_open());
    assert_eq!(told.seen(&request).await.status, Status::Active);
    assert_eq!(told.waits_for(&operator("carol")).await, 0);
    assert!(told.kinds().contains(&"access.approved"));
    // The end counts from the opening.
    told.world.minutes(62).await;
    assert!(!told.is_open());
}

#[tokio::test]
async fn approvers_see_exactly_what_opens() {
    let (told, request) = Told::waiting().await;
    let (shown, plan) = approvals::plan(&told.world.ajar, &operator("alice"), &request.id).await.unwrap();
    let sentence = approvals::sentence(&shown);
    assert!(
        sentence.contains("port 22/Tcp to 203.0.113.7/32 of web-1")
            || sentence.contains("port 22/Tcp to 203.0.113.7 of web-1"),
        "{sentence}"
    );
    let text = serde_json::to_string(&plan[0].changes).unwrap();
    assert!(text.contains("\"Add\"") && text.contains("SSH to web-1 for bob@contoso.example"), "{text}");
    assert_eq!(plan[0].changes.len(), 1, "nothing else changes");
    refused(
        approvals::plan(&told.world.ajar, &user("mallory"), &request.id).await.map(|(one, _)| one),
        "needs",
    );
}

#[tokio::test]
async fn a_refusal_has_a_reason_and_is_the_end() {
    let (told, request) = Told::waiting().await;
    let deny = |caller: Caller, reason: &'static str| {
        let (ajar, id) = (told.world.ajar.clone(), request.id.clone());
        async move { approval::deny(&ajar, &caller, &id, reason).await }
    };
    assert!(matches!(deny(operator("alice"), " ").await, Err(AccessError::Invalid { .. })));
    refused(deny(signed_in("alice", &[], &[]), "no").await, "production-is-approved-by-operations");
    let denied = deny(operator("alice"), "use the bastion").await.unwrap();
    assert_eq!((denied.status, denied.reason.as_deref()), (Status::Denied, Some("use the bastion")));
    let late = told.approve(&operator("carol"), &request).await.unwrap_err();
    assert!(matches!(late, AccessError::Conflict { code: "NotWaiting", .. }), "{late}");
    told.world.minutes(2).await;
    assert!(!told.is_open() && told.kinds().contains(&"access.refused"));
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let (told, request) = Told::waiting().await;
    told.approve(&operator("alice"), &request).await.unwrap();
    told.world.pass(SignedDuration::from_mins(239)).await;
    assert_eq!(told.seen(&request).await.status, Status::AwaitingApproval);
    // All messages are lost: the sweep sees it.
    told.world.bus.clear();
    told.world.minutes(2).await;
    assert_eq!(told.seen(&request).await.status, Status::TimedOut);
    assert!(told.approve(&operator("carol"), &request).await.is_err());
    assert_eq!(told.waits_for(&operator("carol")).await, 0);
    assert!(told.kinds().contains(&"access.timedOut"));
}

#[tokio::test]
async fn a_request_that_waits_can_be_withdrawn() {
    let (told, request) = Told::waiting().await;
    let cancelled = close::revoke(&told.world.ajar, &user("bob"), &request.id).await.unwrap();
    assert_eq!(cancelled.status, Status::Cancelled);
    assert!(told.approve(&operator("alice"), &request).await.is_err());
    assert_eq!(told.waits_for(&operator("alice")).await, 0);
}

#[tokio::test]
async fn a_policy_that_was_changed_or_a_role_that_was_lost_counts_when_the_last_approval_comes() {
    // The first approver has lost the role: theirs does not count, and a third person is needed.
    let (told, request) = Told::waiting().await;
    told.approve(&operator("carol"), &request).await.unwrap();
    told.world.azure.roles.unassign(&user("carol").object_id);
    let after = told.approve(&operator("alice"), &request).await.unwrap();
    let given: Vec<_> = after.approval.unwrap().given.into_iter().map(|given| given.by.name).collect();
    assert_eq!(
        (after.status, given.as_slice()),
        (Status::AwaitingApproval, &["alice@contoso.example".to_owned()][..])
    );
    assert!(!told.is_open());

    // The requester has lost it: denied.
    let (told, request) = Told::waiting().await;
    told.world.azure.roles.unassign(&user("bob").object_id);
    told.world.pass(SignedDuration::from_mins(2)).await;
    let late = told.approve(&operator("alice"), &request).await.unwrap_err();
    assert!(matches!(late, AccessError::Conflict { code: "NotAllowedAnyMore", .. }), "{late}");
    assert_eq!(told.seen(&request).await.status, Status::Denied);

    // A policy forbids it by now, or wants more people.
    for (text, expected) in [
        (
            "@id(\"closed\") forbid (principal, action == Ajar::Action::\"request\", resource);",
            Status::Denied,
        ),
        (
            "@id(\"three\") @approvals(\"3\") forbid (principal, action == Ajar::Action::\"autoApprove\", resource);",
            Status::AwaitingApproval,
        ),
    ] {
        let (mut told, request) = Told::waiting().await;
        told.approve(&operator("alice"), &request).await.unwrap();
        told.world.ajar.ports.organisation = policies(&[DEFAULT, TWO, text]);
        assert_eq!(told.approve(&operator("carol"), &request).await.is_ok(), expected != Status::Denied);
        let after = told.seen(&request).await;
        assert_eq!(after.status, expected);
        assert!(!told.is_open());
    }
}

#[tokio::test]
async fn what_was_approved_for_later_opens_then_unless_policies_have_changed() {
    for is_changed in [false, true] {
        let mut told = Told::under(&[DEFAULT, TWO]).await;
        let start = told.world.ajar.ports.clock.now() + SignedDuration::from_hours(2);
        let request = told.ask(&user("bob"), json!({ "start": start.to_string() })).await.unwrap();
        told.approve(&operator("alice"), &request).await.unwrap();
        told.approve(&operator("carol"), &request).await.unwrap();
        assert_eq!(told.seen(&request).await.status, Status::Approved);
        told.world.minutes(100).await;
        assert!(!told.is_open());
        if is_changed {
            let three = "@id(\"three\") @approvals(\"3\") forbid (principal, action == Ajar::Action::\"autoApprove\", resource);";
            told.world.ajar.ports.organisation = policies(&[DEFAULT, three]);
        }
        told.world.minutes(22).await;
        assert_eq!(told.is_open(), !is_changed);
        let expected = if is_changed { Status::Denied } else { Status::Active };
        assert_eq!(told.seen(&request).await.status, expected);
    }
}

#[tokio::test]
async fn a_denial_names_the_policy_and_what_would_satisfy_it_and_nothing_is_stored() {
    let told = Told::under(&[DEFAULT, VENDORS]).await;
    let vendor = signed_in("bob", &["pwd"], &[VENDOR_GROUP]);
    // It is Tuesday, 12:00 in UTC.
    refused(
        told.ask(&vendor, json!({ "duration": "PT3H" })).await,
        "`vendors-for-two-hours` (ask for two hours at most)",
    );
    assert_eq!(query::own_requests(&told.world.ajar, &vendor).await.unwrap().len(), 0);
    let request = told.ask(&vendor, json!({})).await.unwrap();
    assert!(told.is_open());
    // Two hours in all at most, however they are asked for.
    let more = serde_json::from_value(json!({ "duration": "PT61M" })).unwrap();
    let refusal = extend::extend(&told.world.ajar, &vendor, &request.id, &more).await;
    refused(refusal, "vendors-for-two-hours");
    told.world.pass(SignedDuration::from_hours(7)).await;
    refused(told.ask(&vendor, json!({})).await, "vendors-in-office-hours");
}

#[tokio::test]
async fn two_narrow_sources_side_by_side_are_one_wider_one() {
    let told = Told::under(&[DEFAULT, VENDORS]).await;
    let vendor = signed_in("bob", &["pwd"], &[VENDOR_GROUP]);
    let pair = json!({ "ports": [{ "port": 22, "sources": ["203.0.113.6", "203.0.113.7"] }] });
    refused(told.ask(&vendor, pair).await, "vendors-from-one-address");
    let apart = json!({ "ports": [{ "port": 22, "sources": ["203.0.113.7", "203.0.113.8"] }] });
    told.ask(&vendor, apart).await.unwrap();
}

#[tokio::test]
async fn who_is_in_too_many_groups_does_not_pass_by_a_policy_about_groups() {
    let told = Told::under(&[DEFAULT, VENDORS]).await;
    let mut caller = user("bob");
    caller.sign_in.groups_left_out = true;
    refused(told.ask(&caller, json!({})).await, "leaves out");
    let told = Told::under(&[DEFAULT]).await;
    assert!(told.ask(&caller, json!({})).await.is_ok(), "no policy asks about groups");
}

#[tokio::test]
async fn an_emergency_opens_at_once_tells_everybody_and_waits_for_a_review() {
    let told = Told::under(&[DEFAULT, TWO]).await;
    let emergency = |why: &str| json!({ "breakGlass": true, "justification": why });
    let silent = told.ask(&operator("bob"), emergency(" ")).await.unwrap_err();
    assert!(matches!(&silent, AccessError::Invalid { field, .. } if field == "justification"), "{silent}");
    refused(told.ask(&user("bob"), emergency("down")).await, "break-glass-with-mfa");
    assert!(!told.is_open());

    let request = told.ask(&operator("bob"), emergency("the site is down")).await.unwrap();
    assert!(told.is_open());
    let received = told.notifier.told();
    let broke = received.iter().find(|one| one.happened.name() == "access.brokeGlass").unwrap();
    assert_eq!(broke.audience.len(), 3);
    assert!(broke.sentence().contains("the site is down"));

    // It stays to be reviewed after it is over, and its owner is no reviewer.
    told.world.minutes(62).await;
    assert_eq!(told.seen(&request).await.status, Status::Closed);
    assert_eq!(told.waits_for(&operator("alice")).await, 1);
    let review = |caller: Caller| {
        let (ajar, id) = (told.world.ajar.clone(), request.id.clone());
        async move { approval::review(&ajar, &caller, &id, "it was down").await }
    };
    refused(review(operator("bob")).await, "no-self-approval");
    let reviewed = review(operator("alice")).await.unwrap();
    assert_eq!(reviewed.review.unwrap().note, "it was down");
    assert_eq!(told.waits_for(&operator("alice")).await, 0);
    let again = review(operator("carol")).await.unwrap_err();
    assert!(matches!(again, AccessError::Conflict { code: "NothingToReview", .. }), "{again}");
}

#[tokio::test]
async fn protection_is_changed_only_by_whom_the_policies_let() {
    let told = Told::under(&[DEFAULT, "@id(\"frozen\") forbid (principal, action == Ajar::Action::\"configure\", resource) when { resource.hasTag(\"frozen\") };"]).await;
    told.world.azure.change_machine("web-1", &json!({}), &json!({ "frozen": "yes" }));
    let off = configure::disable(&told.world.ajar, &user("alice"), &vm("web-1")).await;
    assert!(matches!(&off, Err(AccessError::Forbidden(reason)) if reason.contains("frozen")), "{off:?}");
}
