//! `events`: what events cost and how soon they are acted on, in the whole stack: the packaged executable in the local
//! Functions host, Azurite and the simulated Azure.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot be carried out ends"
)]

use end_to_end_tests::{Stack, id, nsg, sample_estate, vm};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Events about one NSG.
const STORM: usize = 10_000;

/// VMs that are created, one after the other.
const CREATED: usize = 20;

/// Where strangers come from.
const STRANGER: &str = "198.51.100.77";

#[tokio::main]
async fn main() {
    println!("load {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    storm().await;
    new_vms().await;
}

/// An event that a rule of `web-nsg` was written, by nobody that can be told.
fn event(number: usize) -> Value {
    let rule = format!("{}/securityRules/r{}", nsg("web-nsg"), number % 50);
    json!({ "id": format!("event-{number}"), "subject": rule, "topic": "", "dataVersion": "2",
        "metadataVersion": "1", "eventType": "Microsoft.Resources.ResourceWriteSuccess",
        "eventTime": Timestamp::now().to_string(),
        "data": { "resourceUri": rule, "operationName": "Microsoft.Network/networkSecurityGroups/securityRules/write",
            "correlationId": "", "claims": {} } })
}

async fn storm() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    // Until everything that turning JIT on has caused is done, so that only the storm is counted.
    let quiet = async |stack: &Stack| stack.is_at_rest() && stack.host.queue("vm-events").unwrap().is_idle();
    tokio::time::sleep(Duration::from_secs(15)).await;
    stack.eventually("at rest", Duration::from_secs(60), quiet).await;
    let reads = |stack: &Stack| stack.azure.with(|azure| azure.log().count());
    let before = reads(&stack);
    let started = Instant::now();
    let url = format!("http://{}/vm-events/messages", stack.host.service_bus_address());
    let token = stack.token_for("ajar-identity", "https://servicebus.azure.net");
    let client = reqwest::Client::new();
    let mut sending = tokio::task::JoinSet::new();
    for number in 0..STORM {
        let request = client.post(&url).bearer_auth(&token).body(event(number).to_string());
        sending.spawn(async move { request.send().await.unwrap().error_for_status().unwrap() });
        while sending.len() >= 16 {
            sending.join_next().await.unwrap().unwrap();
        }
    }
    while sending.join_next().await.is_some() {}
    let sent = started.elapsed();
    let done = async |stack: &Stack| stack.host.queue("vm-events").unwrap().active.is_empty();
    stack.eventually("every event is handled", Duration::from_secs(900), done).await;
    let handled = started.elapsed();
    stack.eventually("the last look is done", Duration::from_secs(900), quiet).await;
    println!(
        "\n| events for one NSG | sent within, s | handled within, s | calls of Azure Resource Manager |"
    );
    println!("|---|---|---|---|");
    println!(
        "| {STORM} | {:.1} | {:.1} | {} |",
        sent.as_secs_f64(),
        handled.as_secs_f64(),
        reads(&stack) - before
    );
    assert!(stack.host.queue("parked").unwrap().is_idle(), "nothing was given up");
    stack.stop().await;
}

async fn put(stack: &Stack, path: &str, body: Value) {
    let version = if path.contains("Microsoft.Compute") { "2024-07-01" } else { "2024-05-01" };
    let answer =
        stack.arm_as("dave", Method::PUT, &format!("{path}?api-version={version}"), Some(body)).await;
    assert!(answer.status.is_success(), "{answer:?}");
}

async fn new_vms() {
    let folder = tempfile::tempdir().unwrap();
    let template = json!({ "name": "all", "mode": "protect", "tags": { "env": "prod" },
        "policy": { "ports": [{ "port": 22 }] } });
    std::fs::write(folder.path().join("template.json"), template.to_string()).unwrap();
    let path = folder.path().display().to_string();
    let stack = Stack::start_with(&sample_estate(), &[("AJAR_TEMPLATES", &path)]).await;
    let subnet = format!("{}/subnets/web", id("Microsoft.Network/virtualNetworks", "demo-vnet"));
    let mut took: Vec<Duration> = Vec::new();
    for index in 0..CREATED {
        let name = format!("new-{index}");
        let nic = id("Microsoft.Network/networkInterfaces", &format!("{name}-nic"));
        let interface = json!({ "location": "westeurope", "properties": {
            "networkSecurityGroup": { "id": nsg("web-nsg") },
            "ipConfigurations": [{ "name": "ipconfig1", "properties": { "primary": true,
                "privateIPAddress": format!("10.0.1.{}", 100 + index), "privateIPAllocationMethod": "Static",
                "privateIPAddressVersion": "IPv4", "subnet": { "id": subnet } } }] } });
        put(&stack, &nic, interface).await;
        let machine = json!({ "location": "westeurope", "tags": { "env": "prod" }, "properties": {
            "hardwareProfile": { "vmSize": "Standard_B2s" },
            "networkProfile": { "networkInterfaces": [{ "id": nic, "properties": { "primary": true } }] } } });
        put(&stack, &vm(&name), machine).await;
        let written = Instant::now();
        let shut = async |stack: &Stack| !stack.passes(STRANGER, &name, 22).await;
        stack.eventually("the new VM is shut", Duration::from_secs(60), shut).await;
        took.push(written.elapsed());
    }
    took.sort_unstable();
    let [fastest, median, slowest] =
        [took[0], took[took.len() / 2], took[took.len() - 1]].map(|took| took.as_secs_f64());
    println!("\n| VMs created with an open port | shut after, s: fastest | median | slowest | bar |");
    println!("|---|---|---|---|---|");
    println!("| {CREATED} | {fastest:.2} | {median:.2} | {slowest:.2} | 10 |");
    stack.stop().await;
}
