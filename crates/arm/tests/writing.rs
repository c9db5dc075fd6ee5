//! Writing: what is sent, how long operations are followed, and what their ends mean.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod stub;

use std::sync::atomic::{AtomicUsize, Ordering};

use ajar_access::ports::azure::{Azure, AzureError, WriteOutcome};
use ajar_network::nsg::{NetworkSecurityGroup, SecurityRule};
use ajar_network::resource_id::ResourceId;
use axum::http::Method;
use jiff::SignedDuration;
use serde_json::{Value, json};
use stub::{Fixture, Reply, Stub, error, fixture, network_id, reply};

fn nsg_id() -> ResourceId {
    ResourceId::parse(&network_id("networkSecurityGroups", "n")).unwrap()
}

fn rule() -> SecurityRule {
    SecurityRule::from_json(json!({ "name": "ajar-x-1", "properties": {
        "priority": 200, "access": "Allow", "direction": "Inbound", "protocol": "Tcp", "sourceAddressPrefix": "192.0.2.7",
        "sourcePortRange": "*", "destinationAddressPrefix": "10.0.0.4", "destinationPortRange": "22",
        "inventedNextYear": true,
    }}))
}

fn nsg(etag: Option<&str>) -> NetworkSecurityGroup {
    let mut json = json!({
        "id": nsg_id().as_str(), "location": "westeurope", "tags": { "a": "b" },
        "properties": { "securityRules": [rule().json()], "inventedNextYear": [1] },
    });
    if let Some(etag) = etag {
        json["etag"] = json!(etag);
    }
    NetworkSecurityGroup::from_json(json).unwrap()
}

/// Writes are answered with `write`, looks at the operation with `looks`, one after the other, the last for ever.
fn operation(f: &Fixture, write: Reply, looks: Vec<Reply>) {
    let turn = AtomicUsize::new(0);
    f.stub.answers(move |seen| {
        if seen.method == Method::GET {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            looks[turn.min(looks.len() - 1)].clone()
        } else {
            write.clone()
        }
    });
}

fn state(status: &str) -> Reply {
    reply(200, json!({ "status": status })).header("Retry-After", "10")
}

fn failed(status: &str, code: &str) -> Reply {
    reply(200, json!({ "status": status, "error": { "code": code, "message": "m" } }))
}

fn accepted(f: &Fixture, status: u16) -> Reply {
    reply(status, json!({ "properties": { "provisioningState": "Updating" } }))
        .header("Azure-AsyncOperation", format!("{}/operations/o?api-version=v", f.stub.base))
        .header("Retry-After", "10")
}

#[tokio::test]
async fn a_rule_is_written_alone_with_everything_it_holds() {
    let f = fixture().await;
    f.stub.answers(|_| reply(200, json!({ "properties": { "provisioningState": "Succeeded" } })));
    assert_eq!(f.azure.put_rule(&nsg_id(), &rule()).await, Ok(WriteOutcome::Done));
    let seen = &f.stub.seen()[0];
    assert_eq!(seen.method, Method::PUT);
    assert_eq!(seen.path, format!("{}/securityRules/ajar-x-1", nsg_id()));
    assert_eq!(seen.query, "api-version=2024-05-01");
    assert_eq!(&seen.body, rule().json());
    assert!(!seen.headers.contains_key("if-match"));
}

#[tokio::test]
async fn an_operation_is_followed_at_our_own_pace() {
    let f = fixture().await;
    let looks = vec![state("InProgress"), state("InProgress"), state("Succeeded")];
    operation(&f, accepted(&f, 201), looks);
    assert_eq!(f.azure.put_rule(&nsg_id(), &rule()).await, Ok(WriteOutcome::Done));
    let seen = f.stub.seen();
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[1].path, "/operations/o");
    // 100 + 150 + 225 milliseconds, not three times the ten seconds of Retry-After.
    assert_eq!(f.clock.since_start(), SignedDuration::from_millis(475));
}

#[tokio::test]
async fn after_twenty_seconds_the_operation_is_handed_back_and_can_be_looked_at_again() {
    let f = fixture().await;
    operation(&f, accepted(&f, 201), vec![state("InProgress")]);
    let outcome = f.azure.put_rule(&nsg_id(), &rule()).await.unwrap();
    let address = format!("{}/operations/o?api-version=v", f.stub.base);
    assert_eq!(outcome, WriteOutcome::Running(address.clone()));
    let waited = f.clock.since_start();
    assert!(waited > SignedDuration::from_secs(18) && waited <= SignedDuration::from_secs(20), "{waited}");

    let before = f.stub.seen().len();
    assert_eq!(f.azure.operation(&address).await, Ok(WriteOutcome::Running(address.clone())));
    assert_eq!(f.stub.seen().len(), before + 1, "one look");
    f.stub.answers(|_| state("Succeeded"));
    assert_eq!(f.azure.operation(&address).await, Ok(WriteOutcome::Done));
    f.stub.answers(|_| failed("Failed", "SecurityRuleConflict"));
    assert!(matches!(f.azure.operation(&address).await, Err(AzureError::Conflict(_))));
    f.stub.answers(|_| error(404, "NotFound"));
    assert_eq!(f.azure.operation(&address).await, Ok(WriteOutcome::Done), "Azure has forgotten it");
    f.stub.answers(|_| error(503, "ServerBusy"));
    assert!(matches!(f.azure.operation(&address).await, Err(AzureError::Unavailable { .. })));
}

#[tokio::test]
async fn the_ends_of_an_operation_mean_what_a_refusal_would() {
    let f = fixture().await;
    for (end, expected) in [
        (failed("Canceled", "CanceledAndSupersededDueToAnotherOperation"), "conflict"),
        (failed("Failed", "SecurityRuleConflict"), "conflict"),
        (failed("Failed", "InternalServerError"), "unavailable"),
        (failed("Failed", "SecurityRuleInvalidAddressPrefix"), "rejected"),
    ] {
        operation(&f, accepted(&f, 200), vec![end]);
        let found = match f.azure.put_rule(&nsg_id(), &rule()).await.unwrap_err() {
            AzureError::Conflict(_) => "conflict",
            AzureError::Unavailable { .. } => "unavailable",
            AzureError::Rejected { .. } => "rejected",
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_look_that_fails_says_nothing_about_the_write() {
    let f = fixture().await;
    let looks = vec![error(500, "x"), error(429, "y").header("Retry-After", "3"), state("Succeeded")];
    operation(&f, accepted(&f, 201), looks);
    assert_eq!(f.azure.put_rule(&nsg_id(), &rule()).await, Ok(WriteOutcome::Done));
    // 100 + 150 milliseconds, then the three seconds that Azure asked for.
    assert_eq!(f.clock.since_start(), SignedDuration::from_millis(3250));
    assert_eq!(f.stub.count(&Method::PUT), 1);

    operation(&f, accepted(&f, 201), vec![error(429, "y").header("Retry-After", "60")]);
    assert!(matches!(f.azure.put_rule(&nsg_id(), &rule()).await, Ok(WriteOutcome::Running(_))));
}

#[tokio::test]
async fn a_delete_follows_its_location_and_is_done_when_nothing_is_there() {
    let f = fixture().await;
    let location = format!("{}/operationResults/o", f.stub.base);
    let looks = vec![reply(202, Value::Null), reply(204, Value::Null)];
    operation(&f, reply(202, Value::Null).header("Location", location), looks);
    assert_eq!(f.azure.delete_rule(&nsg_id(), "ajar-x-1").await, Ok(WriteOutcome::Done));
    let seen = f.stub.seen();
    assert_eq!(seen[0].method, Method::DELETE);
    assert_eq!(seen[0].path, format!("{}/securityRules/ajar-x-1", nsg_id()));
    assert_eq!((seen.len(), seen[2].path.as_str()), (3, "/operationResults/o"));

    for nothing in [reply(204, Value::Null), error(404, "NotFound")] {
        f.stub.answers(move |_| nothing.clone());
        assert_eq!(f.azure.delete_rule(&nsg_id(), "ajar-x-1").await, Ok(WriteOutcome::Done));
    }
}

#[tokio::test]
async fn without_an_operation_address_the_resource_itself_is_watched() {
    let f = fixture().await;
    let updating = reply(200, json!({ "properties": { "provisioningState": "Updating" } }));
    let done = reply(200, json!({ "properties": { "provisioningState": "Succeeded" } }));
    operation(&f, updating.clone(), vec![updating, done]);
    assert_eq!(f.azure.put_rule(&nsg_id(), &rule()).await, Ok(WriteOutcome::Done));
    assert_eq!(f.stub.seen()[2].path, format!("{}/securityRules/ajar-x-1", nsg_id()));
}

#[tokio::test]
async fn a_write_that_failed_at_once_is_not_done() {
    let f = fixture().await;
    f.stub.answers(|_| reply(200, json!({ "properties": { "provisioningState": "Failed" } })));
    let outcome = f.azure.put_rule(&nsg_id(), &rule()).await;
    assert!(matches!(outcome, Err(AzureError::Unavailable { .. })), "{outcome:?}");
}

#[tokio::test]
async fn an_operation_elsewhere_gets_no_token() {
    let f = fixture().await;
    let foreign = Stub::start().await;
    let address = format!("{}/operations/o", foreign.base);
    let done = reply(200, json!({ "properties": { "provisioningState": "Succeeded" } }));
    operation(&f, reply(201, Value::Null).header("Azure-AsyncOperation", address.clone()), vec![done]);
    assert_eq!(f.azure.put_rule(&nsg_id(), &rule()).await, Ok(WriteOutcome::Done));
    assert!(matches!(f.azure.operation(&address).await, Err(AzureError::Rejected { .. })));
    assert_eq!(foreign.seen().len(), 0);
}

#[tokio::test]
async fn a_whole_nsg_is_replaced_only_as_it_was_read() {
    let f = fixture().await;
    f.stub.answers(|_| reply(200, json!({ "properties": { "provisioningState": "Succeeded" } })));
    let read = nsg(Some("W/\"0815\""));
    assert_eq!(f.azure.put_network_security_group(&read).await, Ok(WriteOutcome::Done));
    let seen = &f.stub.seen()[0];
    assert_eq!((&seen.method, seen.path.as_str()), (&Method::PUT, nsg_id().as_str()));
    assert_eq!(seen.headers["if-match"], "W/\"0815\"");
    assert_eq!(seen.body, read.to_json());

    f.stub.answers(|_| error(412, "PreconditionFailed"));
    assert!(matches!(f.azure.put_network_security_group(&read).await, Err(AzureError::Conflict(_))));

    let asked = f.stub.seen().len();
    assert!(f.azure.put_network_security_group(&nsg(None)).await.is_err(), "a blind PUT is not sent");
    assert_eq!(f.stub.seen().len(), asked);
}

#[tokio::test]
async fn refusals_of_a_write_are_told_apart_and_never_repeated() {
    let f = fixture().await;
    for (status, code, expected) in [
        (400, "SecurityRuleInvalidPriority", "rejected"),
        (400, "SecurityRuleConflict", "conflict"),
        (403, "AuthorizationFailed", "forbidden"),
        (404, "ResourceNotFound", "not found"),
        (409, "AnotherOperationInProgress", "conflict"),
        (429, "TooManyRequests", "unavailable"),
        (503, "ServerBusy", "unavailable"),
    ] {
        let before = f.stub.seen().len();
        f.stub.answers(move |_| error(status, code).header("Retry-After", "17"));
        let found = match f.azure.put_rule(&nsg_id(), &rule()).await.unwrap_err() {
            AzureError::NotFound(_) => "not found",
            AzureError::Conflict(_) => "conflict",
            AzureError::Forbidden(_) => "forbidden",
            AzureError::Rejected { code: found, .. } => {
                assert_eq!(found, code);
                "rejected"
            }
            AzureError::Unavailable { retry_after, .. } => {
                assert_eq!(retry_after, Some(SignedDuration::from_secs(17)));
                "unavailable"
            }
        };
        assert_eq!(found, expected, "{status} {code}");
        assert_eq!(f.stub.seen().len(), before + 1);
    }
}

#[tokio::test]
async fn a_rule_name_cannot_change_the_address() {
    let f = fixture().await;
    for bad in ["", "a/b", "../x", "a?b", "a b", &"x".repeat(81)] {
        assert!(f.azure.delete_rule(&nsg_id(), bad).await.is_err(), "{bad}");
    }
    assert_eq!(f.stub.seen().len(), 0);
}
