//! The organisation's policies, through the packaged executable: several people, two of whom have to approve what opens in
//! production; a denial that names its policy; an emergency; and a start that a broken policy stops.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use end_to_end_tests::{Answer, SUBSCRIPTION, Stack, dist, repository, sample_estate, settings, vm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
const BOB: &str = "a0000000-0000-4000-8000-000000000002";
const CAROL: &str = "a0000000-0000-4000-8000-000000000003";
const DAVE: &str = "a0000000-0000-4000-8000-000000000005";
/// The group that the sample policies name.
const OPERATIONS: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const REQUESTER: &str = "c0000000-0000-4000-8000-000000000001";
const ADA: &str = "203.0.113.7";

/// A folder of policies that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, String)]) -> Folder {
        let folder = std::env::temp_dir().join(format!("ajar-e2e-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            std::fs::write(folder.join(file), text).unwrap();
        }
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn shipped(file: &str) -> String {
    std::fs::read_to_string(repository().join("infra/policies").join(file)).unwrap()
}

/// The sample estate with production on web-1, a ticket wanted on web-2, and operations: bob, carol and dave, who may
/// all ask. Alice may as well, and is no member.
fn estate() -> String {
    let mut estate: Vec<Value> = serde_json::from_str(&sample_estate()).unwrap();
    for resource in &mut estate {
        if resource["type"] == "Microsoft.Compute/virtualMachines" {
            match resource["name"].as_str() {
                Some("web-1") => resource["tags"] = json!({ "environment": "production" }),
                Some("web-2") => resource["tags"] = json!({ "ticket": "required" }),
                _ => {}
            }
        }
    }
    estate.push(json!({ "id": OPERATIONS, "type": "Microsoft.Graph/groups", "name": "operations",
        "properties": { "displayName": "Operations", "members": [BOB, CAROL, DAVE] } }));
    let scope = format!("/subscriptions/{SUBSCRIPTION}");
    for (index, person) in [ALICE, CAROL, DAVE].into_iter().enumerate() {
        let name = format!("d0000000-0000-4000-8000-0000000000a{index}");
        estate.push(json!({
            "id": format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"),
            "type": "Microsoft.Authorization/roleAssignments", "name": name,
            "properties": { "principalId": person, "scope": scope, "roleDefinitionId":
                format!("{scope}/providers/Microsoft.Authorization/roleDefinitions/{REQUESTER}") },
        }));
    }
    serde_json::to_string(&estate).unwrap()
}

/// Calls Ajar as somebody who has signed in with a second factor.
async fn call(stack: &Stack, person: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let url = format!("{}/dev/token?user={person}&mfa=1", stack.azure.base_url());
    let token = reqwest::get(url).await.unwrap().text().await.unwrap();
    stack.call(method, path, Some(&token), body).await
}

async fn post(stack: &Stack, person: &str, path: &str, body: Value) -> Answer {
    call(stack, person, Method::POST, path, Some(body)).await
}

fn message(answer: &Answer, status: StatusCode) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    answer.body["error"]["message"].as_str().unwrap().to_owned()
}

async fn waiting_for(stack: &Stack, person: &str) -> Vec<Value> {
    let answer = call(stack, person, Method::GET, "/api/approvals", None).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.body["value"].as_array().unwrap().clone()
}

#[tokio::test]
async fn production_takes_two_people_and_an_emergency_none() {
    let folder = Folder::new(
        "policies",
        &[
            ("default.cedar", shipped("default.cedar")),
            ("production.cedar", shipped("samples/production-needs-two.cedar")),
            ("tickets.cedar", shipped("samples/tickets.cedar")),
        ],
    );
    let stack = Stack::start_with(
        &estate(),
        &[("AJAR_ORGANISATION_POLICIES", folder.0.to_str().unwrap()), ("AJAR_TIME_ZONE", "Europe/Berlin")],
    )
    .await;
    stack.protect("web-1").await;
    stack.protect("web-2").await;

    // Denied, with the policy's name and what would satisfy it.
    let ask = |name: &str| json!({ "vm": vm(name), "ports": [{ "port": 22, "sources": [ADA] }], "duration": "PT10M" });
    let denied = message(&post(&stack, "bob", "/api/requests", ask("web-2")).await, StatusCode::FORBIDDEN);
    assert!(denied.contains("`ticket-in-progress` (name a ticket that is in progress)"), "{denied}");

    // Production waits for two of operations.
    let request = stack.ask("web-1", ADA, "PT10M").await;
    let path = format!("/api/requests/{}", request["id"].as_str().unwrap());
    stack
        .eventually("the request waits", Duration::from_secs(10), async |stack| {
            stack.status(&request).await == "AwaitingApproval"
        })
        .await;
    let approve = format!("{path}/approve");
    let own = message(&post(&stack, "bob", &approve, json!({})).await, StatusCode::FORBIDDEN);
    assert!(own.contains("`no-self-approval`"), "{own}");
    let outsider = message(&post(&stack, "alice", &approve, json!({})).await, StatusCode::FORBIDDEN);
    assert!(outsider.contains("`production-is-approved-by-operations`"), "{outsider}");
    let one_factor = stack.call_as("carol", Method::POST, &approve, Some(json!({}))).await;
    assert!(message(&one_factor, StatusCode::FORBIDDEN).contains("multi-factor"));
    let nobody = message(&post(&stack, "mallory", &approve, json!({})).await, StatusCode::FORBIDDEN);
    assert!(nobody.contains("initiate/action"), "{nobody}");

    assert!(waiting_for(&stack, "alice").await.is_empty() && waiting_for(&stack, "bob").await.is_empty());
    let waiting = waiting_for(&stack, "carol").await;
    assert_eq!((waiting.len(), &waiting[0]["wanted"]), (1, &json!("approve")));
    let sentence = waiting[0]["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("22/Tcp") && sentence.contains(ADA) && sentence.contains("web-1"),
        "{sentence}"
    );
    let detail = path.replace("requests", "approvals");
    let planned = call(&stack, "carol", Method::GET, &detail, None).await;
    assert_eq!(planned.status, StatusCode::OK, "{planned:?}");
    assert_eq!(planned.body["plan"][0]["changes"][0]["action"], "Add", "{planned:?}");

    let first = post(&stack, "carol", &approve, json!({ "note": "seen" })).await;
    assert_eq!((first.status, &first.body["status"]), (StatusCode::OK, &json!("AwaitingApproval")));
    assert!(!stack.passes(ADA, "web-1", 22).await);
    let second = post(&stack, "dave", &approve, json!({})).await;
    assert_eq!((second.status, &second.body["status"]), (StatusCode::OK, &json!("Approved")));
    stack
        .eventually("it is open", Duration::from_secs(10), async |stack| {
            stack.passes(ADA, "web-1", 22).await && stack.status(&request).await == "Active"
        })
        .await;
    let late = post(&stack, "dave", &format!("{path}/deny"), json!({ "reason": "changed my mind" })).await;
    assert_eq!((late.status, &late.body["error"]["code"]), (StatusCode::CONFLICT, &json!("NotWaiting")));
    let history = call(&stack, "bob", Method::GET, &format!("{path}/history"), None).await;
    let what: Vec<&str> = history.body["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["what"].as_str().unwrap())
        .collect();
    for expected in
        ["`production-needs-two`", "approved, 1 of 2: seen", "approved, 2 of 2", "members-may-request"]
    {
        assert!(what.iter().any(|what| what.contains(expected)), "{expected}: {what:?}");
    }

    // An emergency waits for nobody, but to be reviewed.
    let neighbour = "203.0.113.8";
    let mut urgent = ask("web-1");
    urgent["ports"][0]["sources"] = json!([neighbour]);
    urgent["breakGlass"] = json!(true);
    let silent = post(&stack, "bob", "/api/requests", urgent.clone()).await;
    assert_eq!(
        (silent.status, &silent.body["error"]["target"]),
        (StatusCode::BAD_REQUEST, &json!("justification"))
    );
    urgent["justification"] = json!("the site is down");
    let emergency = post(&stack, "bob", "/api/requests", urgent).await;
    assert_eq!(emergency.status, StatusCode::ACCEPTED, "{emergency:?}");
    stack
        .eventually("it is open", Duration::from_secs(10), async |stack| {
            stack.passes(neighbour, "web-1", 22).await
        })
        .await;
    let waiting = waiting_for(&stack, "dave").await;
    assert_eq!((waiting.len(), &waiting[0]["wanted"]), (1, &json!("review")));
    let review = format!("/api/requests/{}/review", emergency.body["id"].as_str().unwrap());
    let own = message(&post(&stack, "bob", &review, json!({ "note": "fine" })).await, StatusCode::FORBIDDEN);
    assert!(own.contains("`no-self-approval`"), "{own}");
    let reviewed = post(&stack, "dave", &review, json!({ "note": "it was down" })).await;
    assert_eq!((reviewed.status, &reviewed.body["review"]["note"]), (StatusCode::OK, &json!("it was down")));
    assert!(waiting_for(&stack, "dave").await.is_empty());
    stack.stop().await;
}

#[test]
fn a_policy_that_is_wrong_stops_the_start_with_file_and_line() {
    let wrong = "// ours\n@id(\"mine\")\npermit (principal, action == Ajar::Action::\"requst\", resource);\n";
    let folder = Folder::new("broken", &[("mine.cedar", wrong.to_owned())]);
    let mut handler = Command::new(dist().join("handler"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    handler.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string()).current_dir(dist());
    let nowhere = "http://127.0.0.1:9";
    handler.envs(settings(
        nowhere,
        nowhere,
        "http://127.0.0.1:9/devstoreaccount1",
        "http://127.0.0.1:9/devstoreaccount1",
    ));
    handler.env("AJAR_ORGANISATION_POLICIES", &folder.0);
    let output = handler.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("mine.cedar:2:") && said.contains("requst"), "{said}");
}
