//! The sweep over the whole estate: what it costs, what it leaves alone, and what it does about what it finds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::compliance_report;
use ajar_access::compliance_run::ComplianceFinding;
use ajar_access::error::AccessError;
use ajar_access::ports::azure::Azure;
use ajar_access::ports::bus::{Bus, Message, Queue};
use ajar_access::remediate::{self, AdoptInput, ManyInput, Remedy};
use ajar_access::request::RequestInput;
use ajar_access::template::{Template, Templates};
use ajar_access::testing::{SUBSCRIPTION, World, nsg, user, vm};
use ajar_access::{assess, compliance, configure, heartbeat, query, submit, vm_history};
use ajar_network::assessment::Status;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const BOB: &str = "203.0.113.7";
const STRANGER: &str = "198.51.100.77";

async fn sweep(world: &World) -> compliance_report::ComplianceReport {
    compliance::begin(&world.ajar).await.unwrap();
    world.deliver().await;
    report(world).await
}

async fn report(world: &World) -> compliance_report::ComplianceReport {
    compliance_report::report(&world.ajar, &user("carol")).await.unwrap()
}

fn deny(name: &str, priority: u16, address: &str) -> Value {
    json!({ "name": name, "properties": { "priority": priority, "direction": "Inbound", "access": "Deny",
        "protocol": "Tcp", "sourceAddressPrefix": "*", "sourcePortRange": "*",
        "destinationAddressPrefix": address, "destinationPortRange": "22" } })
}

fn allow(name: &str, priority: u16, source: &str, address: &str) -> Value {
    json!({ "name": name, "properties": { "priority": priority, "direction": "Inbound", "access": "Allow",
        "protocol": "Tcp", "sourceAddressPrefix": source, "sourcePortRange": "*",
        "destinationAddressPrefix": address, "destinationPortRange": "22",
        "description": "Ajar. Ends 2099-01-01T00:00:00Z." } })
}

#[tokio::test]
async fn every_vm_is_judged_and_a_second_sweep_reads_nothing_but_lists() {
    let world = World::new();
    world.protect("web-1", json!({})).await;
    world.minutes(20).await;
    let first = sweep(&world).await;
    let status = |name: &str| {
        let found = first.vms.iter().find(|judged| judged.assessment.vm == vm(name));
        found.unwrap_or_else(|| panic!("{name} was not judged")).assessment.status
    };
    assert_eq!(status("web-1"), Status::Healthy);
    assert_eq!(status("web-2"), Status::Unhealthy);
    assert_eq!(status("bare-1"), Status::NotApplicable);
    let heart = heartbeat::last(&world.ajar, heartbeat::COMPLIANCE_SWEEP).await.unwrap();
    assert!(heart.is_some(), "a heartbeat");

    world.pass(SignedDuration::from_hours(24)).await;
    world.azure.take_reads();
    let second = sweep(&world).await;
    // One for each type of resource; the scripted Azure gives them as lists of the subscription.
    assert_eq!(world.azure.take_reads(), 9, "lists, and no VM and no NSG");
    assert_eq!(second.trend.len(), 2);
    assert_eq!(second.trend[1].verdicts.total(), 4);
    assert!(second.vms.iter().all(|judged| judged.at > first.at), "each was judged anew");
    assert!(second.findings.is_empty(), "{:?}", second.findings);
}

#[tokio::test]
async fn drift_that_no_event_told_of_is_put_right() {
    let world = World::new();
    world.protect("web-1", json!({})).await;
    world.minutes(20).await;
    let mut rules = world.azure.rules("web-nsg");
    rules.retain(|rule| !rule["name"].as_str().unwrap().starts_with("ajar-"));
    world.azure.set_rules("web-nsg", rules);
    assert!(world.azure.allows(STRANGER, "10.0.0.4", 22));
    let found = sweep(&world).await;
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22), "put right");
    assert_eq!(found.findings, [ComplianceFinding::Drift { point: nsg("web-nsg") }]);
}

#[tokio::test]
async fn an_allow_without_a_grant_is_closed_whatever_end_it_names() {
    let world = World::new();
    world.protect("web-1", json!({})).await;
    let mut rules = world.azure.rules("second-nsg");
    rules.push(allow("ajar-test-allow-x", 101, BOB, "10.0.1.4"));
    rules.push(allow("ajar-other-allow-x", 102, BOB, "10.0.1.4"));
    world.azure.set_rules("second-nsg", rules);
    let found = sweep(&world).await;
    let names: Vec<String> = world
        .azure
        .rules("second-nsg")
        .iter()
        .map(|rule| rule["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(!names.contains(&"ajar-test-allow-x".to_owned()), "{names:?}");
    assert!(names.contains(&"ajar-other-allow-x".to_owned()), "another deployment's: {names:?}");
    let (point, rule) = (nsg("second-nsg"), "ajar-test-allow-x".to_owned());
    assert!(
        found.findings.contains(&ComplianceFinding::OrphanedAllow { point, rule }),
        "{:?}",
        found.findings
    );
    let others = |finding: &ComplianceFinding| matches!(finding, ComplianceFinding::OtherDeployments { .. });
    assert!(found.findings.iter().any(others), "{:?}", found.findings);
}

#[tokio::test]
async fn a_grants_own_allow_is_no_orphan() {
    let world = World::new();
    world.protect("web-1", json!({})).await;
    let input: RequestInput = serde_json::from_value(json!({ "vm": vm("web-1").as_str(), "duration": "PT1H",
        "ports": [{ "port": 22, "sources": [BOB] }] }))
    .unwrap();
    submit::submit(&world.ajar, &user("bob"), &input).await.unwrap();
    world.deliver().await;
    assert!(world.azure.allows(BOB, "10.0.0.4", 22));
    world.azure.take_writes();
    let found = sweep(&world).await;
    assert!(world.azure.allows(BOB, "10.0.0.4", 22));
    assert_eq!(world.azure.take_writes(), Vec::<String>::new());
    assert!(found.findings.is_empty(), "{:?}", found.findings);
}

#[tokio::test]
async fn protection_without_a_policy_stays_is_reported_and_can_be_adopted() {
    let world = World::new();
    world.protect("both-1", json!({})).await;
    let mut rules = world.azure.rules("web-nsg");
    rules.push(deny("ajar-test-deny-tcp-22", 200, "10.0.0.4"));
    world.azure.set_rules("web-nsg", rules);
    let found = sweep(&world).await;
    let expected = ComplianceFinding::OrphanedProtection {
        point: nsg("web-nsg"),
        rule: "ajar-test-deny-tcp-22".into(),
        addresses: vec!["10.0.0.4".into()],
    };
    assert!(found.findings.contains(&expected), "{:?}", found.findings);
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22), "absence never opens");

    let mut input = AdoptInput { enforcement_point: nsg("web-nsg").to_string(), what_if: true };
    let shown = remediate::adopt(&world.ajar, &user("alice"), &input).await.unwrap();
    assert_eq!(shown.len(), 1);
    assert!(query::policy(&world.ajar, &user("alice"), &vm("web-1")).await.is_err(), "only shown");
    assert!(remediate::adopt(&world.ajar, &user("mallory"), &input).await.is_err());
    input.what_if = false;
    let done = remediate::adopt(&world.ajar, &user("alice"), &input).await.unwrap();
    assert!(matches!(done[0].outcome, Ok(Remedy::Enabled(_))), "{done:?}");
    world.deliver().await;
    let policy = query::policy(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap();
    assert_eq!((policy.terms.ports.len(), policy.terms.ports[0].ports.first()), (1, 22));
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22));
    assert!(sweep(&world).await.findings.is_empty(), "it has a policy now");
}

#[tokio::test]
async fn many_vms_are_protected_at_once_after_it_was_shown() {
    let world = World::new();
    let input = |what_if: bool| -> ManyInput {
        serde_json::from_value(
            json!({ "vms": [vm("web-1").as_str(), vm("bare-1").as_str(), vm("web-2").as_str()],
            "policy": { "ports": [{ "port": 22 }] }, "whatIf": what_if }),
        )
        .unwrap()
    };
    let shown = remediate::enable_many(&world.ajar, &user("alice"), &input(true)).await.unwrap();
    let outcomes: Vec<bool> = shown.iter().map(|one| one.outcome.is_ok()).collect();
    assert_eq!(outcomes, [true, false, true], "bare-1 has no enforcement point");
    world.deliver().await;
    assert!(world.azure.allows(STRANGER, "10.0.0.4", 22), "only shown");
    remediate::enable_many(&world.ajar, &user("alice"), &input(false)).await.unwrap();
    world.deliver().await;
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22));
    assert!(!world.azure.allows(STRANGER, "10.0.0.5", 22));
    let refused = remediate::enable_many(&world.ajar, &user("bob"), &input(true)).await.unwrap();
    assert!(refused.iter().all(|one| one.outcome.is_err()), "bob may not configure");
}

#[tokio::test]
async fn a_vm_that_is_gone_is_retired_without_an_event() {
    let world = World::new();
    world.protect("web-1", json!({})).await;
    world.minutes(20).await;
    sweep(&world).await;
    world.azure.delete_machine("web-1", true);
    sweep(&world).await;
    world.minutes(20).await;
    assert!(report(&world).await.vms.iter().all(|judged| judged.assessment.vm != vm("web-1")));
    assert!(query::policy(&world.ajar, &user("alice"), &vm("web-1")).await.is_err(), "retired");
}

#[tokio::test]
async fn a_sweep_whose_messages_are_lost_or_whose_bus_is_down_ends_all_the_same() {
    let world = World::new();
    world.protect("web-1", json!({})).await;
    world.minutes(20).await;
    // The store fails in the middle of the first step, and the message that says so is lost.
    world.budget.limit(14, false);
    let _ = compliance::begin(&world.ajar).await;
    assert!(world.budget.lift(), "it was hindered");
    world.bus.is_down.store(true, Ordering::SeqCst);
    world.bus.clear();
    assert!(report(&world).await.swept.is_none());
    world.minutes(5).await;
    assert!(report(&world).await.swept.is_some(), "the minute sweep went on with it");
}

#[tokio::test]
async fn a_message_without_a_run_begins_a_sweep() {
    let world = World::new();
    let message = Message { id: "1".into(), body: "{}".into(), at: None };
    world.bus.send(Queue::Compliance, message).await.unwrap();
    world.deliver().await;
    assert!(report(&world).await.swept.is_some());
}

#[tokio::test]
async fn a_template_protects_what_is_new_and_only_tells_about_what_is_older() {
    let mut world = World::new();
    let template = json!({ "name": "all", "mode": "protect", "policy": { "ports": [{ "port": 22 }] } });
    let template = Template::parse(&template.to_string()).unwrap();
    world.ajar.settings.templates = Templates::new(vec![template]).unwrap();
    world.azure.change_machine("web-1", &json!({ "timeCreated": "2024-01-01T00:00:00Z" }), &json!({}));
    world.azure.change_machine("both-1", &json!({ "timeCreated": null }), &json!({}));
    world.sweep().await.unwrap();
    // Two hours later web-2, which is the youngest, is seen for the first time by the sweep over the estate.
    world.pass(SignedDuration::from_hours(2)).await;
    sweep(&world).await;
    assert!(world.azure.allows(STRANGER, "10.0.0.4", 22), "web-1 was there before");
    assert!(world.azure.allows(STRANGER, "10.0.1.4", 22), "both-1 does not say");
    assert!(!world.azure.allows(STRANGER, "10.0.0.5", 22), "web-2 is new");
    let told = vm_history::entries(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].what.contains("older than the template"), "{told:?}");
    world.pass(SignedDuration::from_hours(24)).await;
    sweep(&world).await;
    assert_eq!(vm_history::entries(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap().len(), 1);
    let stored = assess::stored(&world.ajar, &user("carol")).await.unwrap();
    let web = stored.iter().find(|stored| stored.vm == vm("web-1")).unwrap();
    assert_eq!(web.template.as_deref(), Some("all"));
    assert!(world.azure.network_security_group(&nsg("web-nsg")).await.is_ok());
}

/// A deployment that is told of nothing but a management group.
fn below_a_group() -> World {
    let mut world = World::new();
    world.ajar.settings.subscriptions.clear();
    world.ajar.settings.management_groups = vec!["corp".into()];
    world
}

#[tokio::test]
async fn what_is_below_a_management_group_is_looked_after_and_nothing_else() {
    let world = below_a_group();
    world.azure.put_below("corp", &["33333333-3333-3333-3333-333333333333"]);
    let policy = json!({ "vm": vm("web-1").as_str(), "ports": [{ "port": 22 }] });
    let policy = serde_json::from_value(policy).unwrap();
    let refused = configure::enable(&world.ajar, &user("alice"), &policy).await;
    assert!(matches!(refused, Err(AccessError::NotFound(_))), "{refused:?}");

    // It joins: a sweep over the estate notices at once.
    world.azure.put_below("corp", &[SUBSCRIPTION]);
    assert_eq!(sweep(&world).await.vms.len(), 4);
    world.protect("web-1", json!({})).await;
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22));

    // Azure is asked once an hour at most, and not at all needed for what is known.
    world.azure.put_below("corp", &[]);
    world.pass(SignedDuration::from_mins(59)).await;
    assert!(query::policy(&world.ajar, &user("alice"), &vm("web-1")).await.is_ok());
    assert_eq!(query::policies(&world.ajar, &user("alice")).await.unwrap().len(), 1);
    world.pass(SignedDuration::from_mins(1)).await;
    assert_eq!(query::policies(&world.ajar, &user("alice")).await.unwrap().len(), 0, "it left");
}

#[tokio::test]
async fn without_a_store_what_is_below_a_management_group_is_closed_by_description() {
    let world = below_a_group();
    world.azure.put_below("corp", &[SUBSCRIPTION]);
    let mut rules = world.azure.rules("second-nsg");
    let mut old = allow("ajar-test-allow-x", 101, BOB, "10.0.1.4");
    old["properties"]["description"] = json!("Ajar: SSH to both-1 for bob until 2026-11-24T11:00:00Z");
    rules.push(old);
    world.azure.set_rules("second-nsg", rules);
    assert_eq!(world.sweep().await.unwrap().closed_by_description, 1);
}

#[tokio::test]
async fn a_subscription_that_tells_of_no_events_is_reported_until_it_does() {
    let mut world = World::new();
    world.ajar.settings.event_namespace = Some("sb-ajar".into());
    let queue = |namespace: &str| {
        let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/ajar/providers");
        format!("{group}/Microsoft.ServiceBus/namespaces/{namespace}/queues/vm-events")
    };
    world.azure.watch(SUBSCRIPTION, &queue("sb-another"));
    let unwatched = ComplianceFinding::Unwatched { subscription: SUBSCRIPTION.into() };
    assert_eq!(sweep(&world).await.findings, [unwatched]);
    world.azure.watch(SUBSCRIPTION, &queue("SB-Ajar"));
    world.pass(SignedDuration::from_hours(24)).await;
    assert_eq!(sweep(&world).await.findings, []);
}
