//! What Ajar does by itself when Azure changes: the packaged executable, with events of the simulated Azure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use end_to_end_tests::{Stack, id, nsg, sample_estate, vm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const BOB: &str = "203.0.113.7";
const STRANGER: &str = "198.51.100.77";
const SOON: Duration = Duration::from_secs(20);

/// A folder with one template, gone with the test.
fn templates(template: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("template.json"), template.to_string()).unwrap();
    folder
}

async fn put(stack: &Stack, path: &str, body: Value) {
    let version = if path.contains("Microsoft.Compute") { "2024-07-01" } else { "2024-05-01" };
    let path = format!("{path}?api-version={version}");
    let answer = stack.arm_as("dave", Method::PUT, &path, Some(body)).await;
    assert!(answer.status.is_success(), "{answer:?}");
}

async fn delete(stack: &Stack, path: &str) {
    let version = if path.contains("Microsoft.Compute") { "2024-07-01" } else { "2024-05-01" };
    let answer = stack.arm_as("dave", Method::DELETE, &format!("{path}?api-version={version}"), None).await;
    assert!(answer.status.is_success(), "{answer:?}");
}

fn nic(name: &str) -> String {
    id("Microsoft.Network/networkInterfaces", &format!("{name}-nic"))
}

async fn create_nic(stack: &Stack, name: &str, address: &str, group: &str) {
    let subnet = format!("{}/subnets/web", id("Microsoft.Network/virtualNetworks", "demo-vnet"));
    let interface = json!({ "location": "westeurope", "properties": {
        "networkSecurityGroup": { "id": nsg(group) },
        "ipConfigurations": [{ "name": "ipconfig1", "properties": { "primary": true,
            "privateIPAddress": address, "privateIPAllocationMethod": "Static",
            "privateIPAddressVersion": "IPv4", "subnet": { "id": subnet } } }] } });
    put(stack, &nic(name), interface).await;
}

async fn create_vm(stack: &Stack, name: &str, tags: Value) {
    let machine = json!({ "location": "westeurope", "tags": tags, "properties": {
        "hardwareProfile": { "vmSize": "Standard_B2s" },
        "networkProfile": { "networkInterfaces": [{ "id": nic(name), "properties": { "primary": true } }] } } });
    put(stack, &vm(name), machine).await;
}

/// What happened to a VM: who, and what.
async fn history(stack: &Stack, name: &str) -> Vec<(String, String)> {
    let answer = stack.call_as("alice", Method::GET, &format!("/api/history?vm={}", vm(name)), None).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let entries = answer.body["value"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    entries.iter().map(|entry| (text(&entry["by"]["name"]), text(&entry["what"]))).collect()
}

fn deny(stack: &Stack, group: &str) -> Option<Value> {
    let is_deny = |rule: &Value| rule["name"].as_str().unwrap().starts_with("ajar-e2e-deny");
    stack.rules(group).into_iter().find(is_deny)
}

#[tokio::test]
async fn a_vm_created_with_an_open_port_is_shut_in_the_templates_name() {
    let folder = templates(&json!({ "name": "production", "mode": "protect", "tags": { "env": "prod" },
        "policy": { "ports": [{ "port": 22 }] } }));
    let path = folder.path().display().to_string();
    let stack = Stack::start_with(&sample_estate(), &[("AJAR_TEMPLATES", &path)]).await;
    stack.azure.with(|azure| {
        azure.switches_mut().event_delay_ms = 500;
        azure.switches_mut().event_doubled_probability = 0.5;
    });
    create_nic(&stack, "new-1", "10.0.1.77", "web-nsg").await;
    create_vm(&stack, "new-1", json!({ "env": "prod" })).await;
    assert!(stack.passes(STRANGER, "new-1", 22).await, "open at first");
    stack
        .eventually("shut within ten seconds", Duration::from_secs(10), async |stack| {
            !stack.passes(STRANGER, "new-1", 22).await
        })
        .await;
    assert!(stack.passes(STRANGER, "web-1", 22).await, "web-1 has another tag, and is as it was");
    let path = format!("/api/policies?vm={}", vm("new-1"));
    let policy = stack.call_as("alice", Method::GET, &path, None).await;
    assert_eq!(policy.body["configuredBy"]["name"], json!("template production"), "{policy:?}");
    stack
        .eventually("told in the history", SOON, async |stack| {
            history(stack, "new-1").await.iter().any(|(by, _)| by == "template production")
        })
        .await;
    stack
        .eventually("the verdict is stored", SOON, async |stack| {
            let all = stack.call_as("carol", Method::GET, "/api/assessments?stored=true", None).await;
            let mut all = all.body["value"].as_array().unwrap().iter();
            all.any(|one| {
                one["name"] == "new-1" && one["status"] == "Healthy" && one["template"] == "production"
            })
        })
        .await;
    assert!(stack.host.queue("parked").unwrap().is_idle(), "nothing was given up");
    stack.stop().await;
}

/// Waits for the end of the invocation that wrote last. An edit that comes while it still works is put right by it, and
/// nobody sees then whose it was.
async fn written(stack: &Stack) {
    let ended = async |stack: &Stack| {
        let log = stack.log().to_string().replace('\\', "");
        let (_, last) = log.rsplit_once("\"message\":\"writing").expect("something was written");
        let (_, rest) = last.split_once("\"invocation_id\":\"").expect("every line names its invocation");
        let (invocation, rest) = rest.split_once('"').expect("an id ends");
        rest.contains(&format!("Id={invocation})"))
    };
    stack.eventually("written", SOON, ended).await;
}

#[tokio::test]
async fn a_rule_edited_by_dave_is_put_right_and_laid_to_him() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    written(&stack).await;
    let ours = deny(&stack, "web-nsg").expect("our deny rule");
    let name = ours["name"].as_str().unwrap().to_owned();
    let mut edited = ours.clone();
    edited["properties"]["access"] = json!("Allow");
    put(&stack, &format!("{}/securityRules/{name}", nsg("web-nsg")), edited).await;
    stack.eventually("put right", SOON, async |stack| !stack.passes(STRANGER, "web-1", 22).await).await;
    stack
        .eventually("laid to dave", SOON, async |stack| {
            let told = history(stack, "web-1").await;
            told.iter().any(|(by, what)| by == "dave@contoso.example" && what.contains(&name))
        })
        .await;

    written(&stack).await;

    // An allow above ours.
    let open = json!({ "properties": { "priority": 100, "direction": "Inbound", "access": "Allow",
        "protocol": "Tcp", "sourceAddressPrefix": "*", "sourcePortRange": "*",
        "destinationAddressPrefix": "*", "destinationPortRange": "22" } });
    put(&stack, &format!("{}/securityRules/mine", nsg("web-nsg")), open).await;
    stack
        .eventually("told", SOON, async |stack| {
            let told = history(stack, "web-1").await;
            told.iter().any(|(by, what)| by == "dave@contoso.example" && what.contains("rule mine"))
        })
        .await;
    stack.eventually("shut", SOON, async |stack| !stack.passes(STRANGER, "web-1", 22).await).await;
    stack.stop().await;
}

#[tokio::test]
async fn a_vm_given_another_nsg_is_protected_there_and_released_here() {
    let stack = Stack::start().await;
    create_nic(&stack, "new-1", "10.0.1.77", "web-nsg").await;
    create_vm(&stack, "new-1", json!({})).await;
    stack.protect("new-1").await;
    create_nic(&stack, "new-1", "10.0.1.77", "fw-nsg").await;
    stack.eventually("shut there", SOON, async |stack| !stack.passes(STRANGER, "new-1", 22).await).await;
    stack.eventually("released here", SOON, async |stack| deny(stack, "web-nsg").is_none()).await;
    let told = history(&stack, "new-1").await;
    assert!(
        told.iter().any(|(by, what)| by == "dave@contoso.example" && what.contains("fw-nsg filters the VM")),
        "{told:?}"
    );
    stack.stop().await;
}

#[tokio::test]
async fn a_deleted_vm_leaves_no_rule_and_one_of_its_name_inherits_nothing() {
    let stack = Stack::start().await;
    create_nic(&stack, "new-1", "10.0.1.77", "web-nsg").await;
    create_vm(&stack, "new-1", json!({})).await;
    stack.protect("new-1").await;
    stack.protect("web-1").await;
    let request = stack.ask("new-1", BOB, "PT1H").await;
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;

    // Replaced at once, as Terraform does: the access was to the former.
    delete(&stack, &vm("new-1")).await;
    create_vm(&stack, "new-1", json!({})).await;
    stack.eventually("shut", SOON, async |stack| !stack.passes(BOB, "new-1", 22).await).await;
    stack.eventually("closed", SOON, async |stack| stack.status(&request).await == "Closed").await;
    assert!(!stack.passes(STRANGER, "new-1", 22).await, "the name stays protected");

    delete(&stack, &vm("new-1")).await;
    delete(&stack, &nic("new-1")).await;
    stack
        .eventually("no rule names its address", Duration::from_secs(60), async |stack| {
            !json!(stack.rules("web-nsg")).to_string().contains("10.0.1.77")
        })
        .await;
    assert!(!stack.passes(STRANGER, "web-1", 22).await, "its neighbour behind the NSG is as it was");
    stack.stop().await;
}
