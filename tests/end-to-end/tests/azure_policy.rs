//! A policy of Azure's API through the packaged executable: PUT shuts, initiate opens once and supersedes, DELETE ends
//! what is open and gives back what stood there before.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use end_to_end_tests::{SUBSCRIPTION, Stack, sample_estate, vm};
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const BOB: &str = "203.0.113.7";
const HOME: &str = "203.0.113.8";
const ANYBODY: &str = "198.51.100.77";
const SOON: Duration = Duration::from_secs(10);

fn policy(name: &str, verb: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/demo-rg/providers/Microsoft.Security/locations/westeurope/\
         jitNetworkAccessPolicies/{name}{verb}?api-version=2020-01-01"
    )
}

/// The sample estate, in which the rule that lets 3389 in to `win-1` stands before everything: the deny needs its place.
fn estate() -> String {
    let mut estate: Value = serde_json::from_str(&sample_estate()).unwrap();
    let all = estate.as_array_mut().unwrap();
    let nsg = all.iter_mut().find(|resource| resource["name"] == "win-nsg").unwrap();
    nsg["properties"]["securityRules"][0]["properties"]["priority"] = json!(100);
    estate.to_string()
}

/// Name and priority of each rule.
fn rules(stack: &Stack) -> Vec<(String, u64)> {
    let rules = stack.rules("win-nsg");
    let of = |rule: &Value| {
        (rule["name"].as_str().unwrap().to_owned(), rule["properties"]["priority"].as_u64().unwrap())
    };
    rules.iter().map(of).collect()
}

/// Has bob ask for 3389 of `win-1` for ten minutes, in a call with this id.
async fn initiate(stack: &Stack, call: &str, source: Option<&str>) -> Value {
    let mut port = json!({ "number": 3389, "duration": "PT10M" });
    if let Some(source) = source {
        port["allowedSourceAddressPrefix"] = json!(source);
    }
    let body =
        json!({ "virtualMachines": [{ "id": vm("win-1"), "ports": [port] }], "justification": "INC-42" });
    let request =
        stack.request(Method::POST, &policy("default", "/initiate")).bearer_auth(stack.token("bob"));
    let request = request.header("x-ms-client-request-id", call);
    // What stands before the last element is what the caller sent itself.
    let request = request.header("x-forwarded-for", format!("{ANYBODY}, {BOB}:51515"));
    let answer = request.json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    answer.json().await.unwrap()
}

/// Source, status and reason of what was asked for under the policy, newest first.
async fn requests(stack: &Stack) -> Vec<(String, String, String)> {
    let shown = stack.call_as("bob", Method::GET, &policy("default", ""), None).await;
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{shown:?}")).to_owned();
    let requests = shown.body["properties"]["requests"].as_array().unwrap();
    let ports = requests.iter().map(|request| &request["virtualMachines"][0]["ports"][0]);
    ports
        .map(|port| {
            let source = text(&port["allowedSourceAddressPrefix"]);
            (source, text(&port["status"]), text(&port["statusReason"]))
        })
        .collect()
}

fn port(source: &str, status: &str, reason: &str) -> (String, String, String) {
    (source.to_owned(), status.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn put_shuts_initiate_opens_once_and_supersedes_and_delete_gives_everything_back() {
    let stack = Stack::start_with(&estate(), &[("AJAR_TRUST_FORWARDED_FOR", "true")]).await;
    let before = rules(&stack);
    assert!(stack.passes(ANYBODY, "win-1", 3389).await && stack.passes(ANYBODY, "web-2", 22).await);
    let ports = |number: u16| {
        json!([{ "number": number, "protocol": "*", "allowedSourceAddressPrefix": "*",
            "maxRequestAccessDuration": "PT3H" }])
    };
    let body = json!({ "kind": "Basic", "properties": { "virtualMachines": [
        { "id": vm("win-1"), "ports": ports(3389) }, { "id": vm("web-2"), "ports": ports(22) },
    ] } });
    let refused = stack.call_as("bob", Method::PUT, &policy("default", ""), Some(body.clone())).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "bob may request, not configure: {refused:?}");
    let put = stack.call_as("alice", Method::PUT, &policy("default", ""), Some(body)).await;
    assert_eq!(put.status, StatusCode::OK, "{put:?}");
    stack
        .eventually("the policy has succeeded", SOON, async |stack| {
            let shown = stack.call_as("carol", Method::GET, &policy("default", ""), None).await;
            shown.body["properties"]["provisioningState"] == "Succeeded"
        })
        .await;
    assert!(!stack.passes(ANYBODY, "win-1", 3389).await && !stack.passes(ANYBODY, "web-2", 22).await);
    assert!(stack.passes(ANYBODY, "win-1", 8443).await, "what else the rule let in passes as before");
    let moved = rules(&stack);
    assert!(moved.iter().any(|(name, at)| name == "AllowRemoteTools" && *at > 100), "{moved:?}");

    // A repeat is the same call, and the source that is left out is the caller's own.
    let first = initiate(&stack, "call-1", None).await;
    let opened = &first["virtualMachines"][0]["ports"][0];
    assert_eq!(
        (&opened["status"], &opened["allowedSourceAddressPrefix"]),
        (&json!("Initiating"), &json!(BOB))
    );
    assert_eq!(initiate(&stack, "call-1", None).await["startTimeUtc"], first["startTimeUtc"]);
    let initiated = |source| port(source, "Initiated", "UserRequested");
    stack.eventually("open", SOON, async |stack| requests(stack).await == [initiated(BOB)]).await;
    assert!(stack.passes(BOB, "win-1", 3389).await && !stack.passes(HOME, "win-1", 3389).await);

    // A newer one takes its place.
    initiate(&stack, "call-2", Some(HOME)).await;
    let superseded = port(BOB, "Revoked", "NewerRequestInitiated");
    stack
        .eventually("superseded", SOON, async |stack| {
            requests(stack).await == [initiated(HOME), superseded.clone()]
                && !stack.passes(BOB, "win-1", 3389).await
        })
        .await;
    assert!(stack.passes(HOME, "win-1", 3389).await);

    // Live access is ended before a rule is touched; then what was moved comes back.
    let live = stack.call_as("bob", Method::GET, "/api/requests", None).await.body["value"][0].clone();
    let path = format!("/api/requests/{}", live["id"].as_str().unwrap());
    let deleted_at = Timestamp::now();
    let deleted = stack.call_as("alice", Method::DELETE, &policy("default", ""), None).await;
    assert_eq!(deleted.status, StatusCode::OK, "{deleted:?}");
    stack.eventually("as it was", SOON, async |stack| rules(stack) == before).await;
    stack
        .eventually("closed", SOON, async |stack| {
            stack.call_as("bob", Method::GET, &path, None).await.body["status"] == "Closed"
        })
        .await;
    assert!(stack.passes(ANYBODY, "win-1", 3389).await);
    stack.eventually("web-2 as it was", SOON, async |stack| stack.passes(ANYBODY, "web-2", 22).await).await;
    let history = stack.call_as("bob", Method::GET, &format!("{path}/history"), None).await.body;
    let ended = history["value"].as_array().unwrap().iter().find(|step| step["status"] == "Closing").unwrap();
    assert_eq!(ended["what"], "ended: JIT was turned off", "{history}");
    let ended_at: Timestamp = ended["at"].as_str().unwrap().parse().unwrap();
    let first_write = stack.azure.with(|azure| {
        let mut writes = azure.log().filter(|entry| entry.method != "GET" && entry.path.contains("win-nsg"));
        writes.find(|entry| entry.time > deleted_at).map(|entry| entry.time)
    });
    assert!(first_write.unwrap() >= ended_at, "{first_write:?} {ended_at}");

    let shown = stack.call_as("carol", Method::GET, &policy("default", ""), None).await;
    assert_eq!(shown.status, StatusCode::NOT_FOUND, "{shown:?}");
    let again = stack.call_as("alice", Method::DELETE, &policy("default", ""), None).await;
    assert_eq!(again.status, StatusCode::NO_CONTENT, "{again:?}");
    stack.stop().await;
}
