//! Asynchronous writes, their operations, and what happens when they overlap.

use std::time::Duration;

use azure_simulator::Overlap;
use http::StatusCode;
use serde_json::json;

use crate::machine::{Machine, machine, network, rule};

const CLIENT: &str = "203.0.113.7";

fn asynchronous(overlap: Overlap) -> Machine {
    let mut azure = Machine::new();
    let switches = azure.azure.switches_mut();
    switches.asynchronous = true;
    switches.operation_latency_ms = 1000;
    switches.overlap = overlap;
    azure
}

fn db_rule(name: &str) -> String {
    network(&format!("networkSecurityGroups/db-subnet-nsg/securityRules/{name}"))
}

/// A rule that opens SSH on db-1.
fn opening(priority: u16) -> serde_json::Value {
    rule(json!({"destinationAddressPrefix": "10.0.2.4", "priority": priority}))
}

fn later(azure: &mut Machine, milliseconds: u64) {
    azure.clock.advance(Duration::from_millis(milliseconds));
}

#[test]
fn packets_meet_a_change_when_its_operation_ends() {
    let mut azure = asynchronous(Overlap::Serialise);
    let accepted = azure.put(&db_rule("open"), opening(1000));
    assert_eq!(accepted.status, StatusCode::CREATED);
    assert_eq!(accepted.value()["properties"]["provisioningState"], "Updating");
    assert_eq!(azure.operation(&accepted)["status"], "InProgress");
    let group = network("networkSecurityGroups/db-subnet-nsg");
    let while_updating = azure.get(&group).value().clone();
    assert_eq!(while_updating["properties"]["provisioningState"], "Updating");
    assert!(!azure.probe(CLIENT, &machine("db-1"), 22, "Tcp").0, "not yet");
    later(&mut azure, 999);
    assert_eq!(azure.operation(&accepted)["status"], "InProgress");
    later(&mut azure, 1);
    assert_eq!(azure.operation(&accepted)["status"], "Succeeded");
    assert!(azure.probe(CLIENT, &machine("db-1"), 22, "Tcp").0);
    let done = azure.get(&group).value().clone();
    assert_eq!(done["properties"]["provisioningState"], "Succeeded");
    assert_ne!(done["etag"], while_updating["etag"], "ending is a change too");
}

#[test]
fn a_deletion_is_followed_at_its_location() {
    let mut azure = asynchronous(Overlap::Serialise);
    azure.azure.switches_mut().asynchronous = false;
    azure.put(&db_rule("open"), opening(1000));
    azure.azure.switches_mut().asynchronous = true;
    let accepted = azure.delete(&db_rule("open"));
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    let location = accepted.headers["location"].to_str().unwrap().to_owned();
    let path = location.strip_prefix("http://127.0.0.1:7072").unwrap().split('?').next().unwrap().to_owned();
    assert_eq!(azure.get(&path).status, StatusCode::ACCEPTED);
    assert!(azure.probe(CLIENT, &machine("db-1"), 22, "Tcp").0, "still open until the operation ends");
    later(&mut azure, 1000);
    assert_eq!(azure.get(&path).status, StatusCode::NO_CONTENT);
    assert!(!azure.probe(CLIENT, &machine("db-1"), 22, "Tcp").0);
}

#[test]
fn overlapping_writes_are_serialised() {
    let mut azure = asynchronous(Overlap::Serialise);
    let first = azure.put(&db_rule("one"), opening(1000));
    later(&mut azure, 500);
    let second = azure.put(
        &db_rule("two"),
        rule(
            json!({"destinationAddressPrefix": "10.0.2.4", "priority": 1001, "destinationPortRange": "3389"}),
        ),
    );
    later(&mut azure, 500);
    assert_eq!(azure.operation(&first)["status"], "Succeeded");
    assert_eq!(azure.operation(&second)["status"], "InProgress");
    assert!(azure.probe(CLIENT, &machine("db-1"), 22, "Tcp").0);
    assert!(!azure.probe(CLIENT, &machine("db-1"), 3389, "Tcp").0, "the second begins when the first ends");
    let group = network("networkSecurityGroups/db-subnet-nsg");
    assert_eq!(azure.get(&group).value()["properties"]["provisioningState"], "Updating");
    later(&mut azure, 1000);
    assert_eq!(azure.operation(&second)["status"], "Succeeded");
    assert!(azure.probe(CLIENT, &machine("db-1"), 3389, "Tcp").0);
}

#[test]
fn a_superseded_write_is_cancelled_and_carried_out_by_the_next() {
    let mut azure = asynchronous(Overlap::Supersede);
    let first = azure.put(&db_rule("one"), opening(1000));
    let second = azure.put(&db_rule("two"), opening(1001));
    let canceled = azure.operation(&first);
    assert_eq!(canceled["status"], "Canceled");
    assert_eq!(canceled["error"]["code"], "CanceledAndSupersededDueToAnotherOperation");
    later(&mut azure, 1000);
    assert_eq!(azure.operation(&second)["status"], "Succeeded");
    assert_eq!(azure.get(&db_rule("one")).status, StatusCode::OK);
}

#[test]
fn a_superseded_write_can_be_lost() {
    let mut azure = asynchronous(Overlap::SupersedeAndLose);
    azure.put(&db_rule("one"), opening(1000));
    azure.put(
        &db_rule("two"),
        rule(
            json!({"destinationAddressPrefix": "10.0.2.4", "priority": 1001, "destinationPortRange": "3389"}),
        ),
    );
    later(&mut azure, 1000);
    assert_eq!(azure.get(&db_rule("one")).status, StatusCode::NOT_FOUND);
    assert!(!azure.probe(CLIENT, &machine("db-1"), 22, "Tcp").0);
    assert!(azure.probe(CLIENT, &machine("db-1"), 3389, "Tcp").0);
}

#[test]
fn an_overlapping_write_can_be_refused() {
    let mut azure = asynchronous(Overlap::Refuse);
    let first = azure.put(&db_rule("one"), opening(1000));
    let refused = azure.put(&db_rule("two"), opening(1001));
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.error_code(), Some("RetryableErrorDueToAnotherOperation"));
    assert!(refused.headers.contains_key("retry-after"));
    let other = azure.put(&network("networkSecurityGroups/web-nsg/securityRules/two"), rule(json!({})));
    assert_eq!(other.status, StatusCode::CREATED, "another group is not locked");
    azure.azure.switches_mut().overlap_probability = 0.0;
    assert_eq!(azure.put(&db_rule("two"), opening(1001)).status, StatusCode::CREATED);
    assert_eq!(azure.operation(&first)["status"], "InProgress");
}

#[test]
fn a_refused_write_cancels_nothing() {
    let mut azure = asynchronous(Overlap::Supersede);
    let first = azure.put(&db_rule("one"), opening(1000));
    assert_eq!(azure.put(&db_rule("two"), opening(1000)).error_code(), Some("SecurityRuleConflict"));
    assert_eq!(azure.operation(&first)["status"], "InProgress");
}

#[test]
fn a_synchronous_write_is_true_when_answered() {
    let mut azure = Machine::new();
    let answer = azure.put(&db_rule("open"), opening(1000));
    assert_eq!(answer.value()["properties"]["provisioningState"], "Succeeded");
    assert_eq!(azure.operation(&answer)["status"], "Succeeded");
    assert!(azure.probe(CLIENT, &machine("db-1"), 22, "Tcp").0);
}

#[test]
fn a_synchronous_write_ends_what_is_still_running() {
    let mut azure = asynchronous(Overlap::Serialise);
    let first = azure.put(&db_rule("one"), opening(1000));
    azure.azure.switches_mut().asynchronous = false;
    azure.delete(&db_rule("one"));
    assert_eq!(azure.operation(&first)["status"], "Succeeded");
    later(&mut azure, 5000);
    assert!(!azure.probe(CLIENT, &machine("db-1"), 22, "Tcp").0, "the older write does not come back");
}

#[test]
fn an_unknown_operation_is_not_found() {
    let mut azure = Machine::new();
    let path = format!(
        "{}/providers/Microsoft.Network/locations/westeurope/operations/none",
        crate::machine::SUBSCRIPTION
    );
    assert_eq!(azure.get(&path).error_code(), Some("OperationNotFound"));
}
