//! Against the local Azure: an independent model of Resource Manager, so that a misunderstanding shows.
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

use std::sync::{Arc, Mutex};

use ajar_access::ports::azure::{Azure, AzureError, WriteOutcome};
use ajar_access::ports::identity::{AuthenticationError, Tokens};
use ajar_arm::ResourceManager;
use ajar_network::nsg::SecurityRule;
use ajar_network::resource_id::ResourceId;
use async_trait::async_trait;
use azure_simulator::{Overlap, Running, Simulator, SystemClock, serve};
use serde_json::json;
use stub::JumpingClock;

const SAMPLE: &str = include_str!("../../local/sample-estate.json");
const SUBSCRIPTION: &str = "11111111-1111-1111-1111-111111111111";
const GROUP: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/demo-rg/providers";

struct Issued(Arc<Mutex<Simulator>>);

#[async_trait]
impl Tokens for Issued {
    async fn token(&self, resource: &str) -> Result<String, AuthenticationError> {
        Ok(self.0.lock().unwrap().token("ajar-identity", resource).unwrap().unwrap())
    }
}

async fn start() -> (Running, ResourceManager) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let running = serve(listener, Simulator::new(SAMPLE, Arc::new(SystemClock), 1).unwrap()).unwrap();
    let tokens = Arc::new(Issued(running.simulator()));
    let clock = Arc::new(JumpingClock::new());
    let azure =
        ResourceManager::new(&running.base_url(), tokens, ResourceManager::client().unwrap(), clock).unwrap();
    (running, azure)
}

fn nsg_id() -> ResourceId {
    ResourceId::parse(&format!("{GROUP}/Microsoft.Network/networkSecurityGroups/db-subnet-nsg")).unwrap()
}

fn rule(priority: u16) -> SecurityRule {
    SecurityRule::from_json(json!({ "name": "ajar-demo-1", "properties": {
        "priority": priority, "access": "Allow", "direction": "Inbound", "protocol": "Tcp",
        "sourceAddressPrefix": "203.0.113.7", "sourcePortRange": "*",
        "destinationAddressPrefix": "10.0.2.4", "destinationPortRange": "22",
    }}))
}

#[tokio::test]
async fn a_rule_is_written_read_and_removed() {
    let (running, azure) = start().await;
    for asynchronous in [false, true] {
        running.with(|simulator| simulator.switches_mut().asynchronous = asynchronous);
        running.with(|simulator| simulator.switches_mut().operation_latency_ms = 20);
        let outcome = azure.put_rule(&nsg_id(), &rule(1000)).await.unwrap();
        settle(&azure, outcome).await;
        let nsg = azure.network_security_group(&nsg_id()).await.unwrap();
        let written = nsg.rules().iter().find(|found| found.name() == "ajar-demo-1").unwrap();
        assert!(written.same_effect_as(&rule(1000)));

        let outcome = azure.delete_rule(&nsg_id(), "ajar-demo-1").await.unwrap();
        settle(&azure, outcome).await;
        let nsg = azure.network_security_group(&nsg_id()).await.unwrap();
        assert!(nsg.rules().iter().all(|found| found.name() != "ajar-demo-1"));
    }
    assert_eq!(azure.delete_rule(&nsg_id(), "ajar-demo-1").await, Ok(WriteOutcome::Done));
}

/// The clock jumps, so the twenty seconds may be over before the simulator's milliseconds are.
async fn settle(azure: &ResourceManager, mut outcome: WriteOutcome) {
    while let WriteOutcome::Running(operation) = outcome {
        outcome = azure.operation(&operation).await.unwrap();
    }
}

#[tokio::test]
async fn a_whole_nsg_is_replaced_once_per_reading() {
    let (_running, azure) = start().await;
    let read = azure.network_security_group(&nsg_id()).await.unwrap();
    let mut rules = read.rules().to_vec();
    rules.push(rule(1000));
    let wanted = read.with_rules(rules).with_flush_connection(true);
    assert_eq!(azure.put_network_security_group(&wanted).await, Ok(WriteOutcome::Done));
    let after = azure.network_security_group(&nsg_id()).await.unwrap();
    assert_eq!(after.rules().len(), read.rules().len() + 1);
    assert_eq!(after.flush_connection(), Some(true));
    let again = azure.put_network_security_group(&wanted).await;
    assert!(matches!(again, Err(AzureError::Conflict(_))), "the ETag is used up: {again:?}");
}

#[tokio::test]
async fn what_azure_refuses_is_told_apart() {
    let (running, azure) = start().await;
    let taken = azure.network_security_group(&nsg_id()).await.unwrap();
    let taken = taken.rules().iter().find_map(SecurityRule::priority).unwrap();
    let outcome = azure.put_rule(&nsg_id(), &rule(taken)).await;
    assert!(matches!(outcome, Err(AzureError::Conflict(_))), "{outcome:?}");
    let outcome = azure.put_rule(&nsg_id(), &rule(99)).await;
    assert!(matches!(outcome, Err(AzureError::Rejected { .. })), "{outcome:?}");
    let nowhere =
        ResourceId::parse(&format!("{GROUP}/Microsoft.Network/networkSecurityGroups/none")).unwrap();
    let outcome = azure.put_rule(&nowhere, &rule(1000)).await;
    assert!(matches!(outcome, Err(AzureError::NotFound(_))), "{outcome:?}");

    running.with(|simulator| {
        let switches = simulator.switches_mut();
        switches.asynchronous = true;
        switches.operation_latency_ms = 60_000;
        switches.overlap = Overlap::Supersede;
    });
    let Ok(WriteOutcome::Running(first)) = azure.put_rule(&nsg_id(), &rule(1000)).await else { panic!() };
    let _second = azure.put_rule(&nsg_id(), &rule(1001)).await.unwrap();
    let outcome = azure.operation(&first).await;
    assert!(matches!(outcome, Err(AzureError::Conflict(_))), "superseded: {outcome:?}");
}

#[tokio::test]
async fn estates_hold_the_same_resources_whichever_way_they_are_read() {
    let (running, azure) = start().await;
    running.with(|simulator| simulator.switches_mut().page_size = 2);
    let ids = |resources: Vec<serde_json::Value>| {
        let mut ids: Vec<_> = resources.iter().map(|r| r["id"].as_str().unwrap().to_lowercase()).collect();
        ids.sort();
        ids
    };
    let whole = azure.subscription_estate(SUBSCRIPTION).await.unwrap();
    let vms: Vec<_> = whole
        .iter()
        .filter_map(|r| ResourceId::parse(r["id"].as_str()?).ok())
        .filter(|id| id.is_type("Microsoft.Compute/virtualMachines"))
        .collect();
    let whole = ids(whole);
    assert!(vms.len() > 1, "the sample has several VMs");
    for vm in vms {
        let estate = ids(azure.vm_estate(&vm).await.unwrap());
        assert!(estate.contains(&vm.to_lowercase()));
        assert!(estate.iter().any(|id| id.contains("/networkinterfaces/")), "{vm}");
        let strangers: Vec<_> = estate.iter().filter(|id| !whole.contains(id)).collect();
        assert!(strangers.is_empty(), "{vm}: {strangers:?}");
    }
    assert!(!azure.network_security_groups(SUBSCRIPTION).await.unwrap().is_empty());
}

#[tokio::test]
async fn roles_are_read_through_groups() {
    let (_running, azure) = start().await;
    // Bob of the sample estate.
    let bob = "a0000000-0000-4000-8000-000000000002";
    let scope = format!("{GROUP}/Microsoft.Compute/virtualMachines/web-1");
    let assignments = azure.role_assignments(&scope, bob).await.unwrap();
    assert!(!assignments.is_empty());
    for assignment in assignments {
        let permissions = azure.role_permissions(&assignment.role_definition_id).await.unwrap();
        assert!(permissions.iter().any(|permission| !permission.actions.is_empty()));
    }
}

#[tokio::test]
async fn resource_graph_is_read_a_thousand_at_a_time_and_may_be_behind() {
    const TYPE: &str = "Microsoft.Network/networkSecurityGroups";
    let (running, azure) = start().await;
    let simulator = running.simulator();
    let mut estate: Vec<serde_json::Value> =
        serde_json::from_value(simulator.lock().unwrap().estate()).unwrap();
    let before = estate.iter().filter(|resource| resource["type"] == TYPE).count();
    for index in 0..1100 {
        let id = format!("{GROUP}/{TYPE}/many-{index:04}");
        estate.push(json!({ "id": id, "name": format!("many-{index:04}"), "type": TYPE,
            "location": "westeurope", "properties": { "securityRules": [] } }));
    }
    simulator.lock().unwrap().load_estate(&json!(estate).to_string()).unwrap();
    let read = async || {
        let (mut ids, mut from, mut sizes) = (Vec::new(), None, Vec::new());
        loop {
            let page = azure.graph_page(SUBSCRIPTION, TYPE, from.as_deref()).await.unwrap();
            sizes.push(page.resources.len());
            ids.extend(page.resources.iter().map(|one| one["id"].as_str().unwrap().to_lowercase()));
            from = page.next;
            if from.is_none() {
                return (ids, sizes);
            }
        }
    };
    let (ids, sizes) = read().await;
    assert_eq!(sizes, [1000, 100 + before]);
    let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), 1100 + before, "no row twice, none left out");

    simulator.lock().unwrap().switches_mut().resource_graph_held_back = true;
    assert!(rules_in_graph(&azure).await.is_empty(), "the graph is held back from here on");
    let _ = azure.put_rule(&nsg_id(), &rule(321)).await.unwrap();
    assert!(rules_in_graph(&azure).await.is_empty(), "the rule is there, and the graph does not show it");
    let present = azure.network_security_group(&nsg_id()).await.unwrap();
    assert!(present.rules().iter().any(|rule| rule.name() == "ajar-demo-1"));
    simulator.lock().unwrap().switches_mut().resource_graph_held_back = false;
    assert_eq!(rules_in_graph(&azure).await, ["ajar-demo-1"]);

    let other = azure.graph_page(SUBSCRIPTION, "Microsoft.Sql/servers", None).await.unwrap_err();
    assert!(other.to_string().contains("NotModelled"), "only what Ajar asks for is modelled: {other}");
}

async fn rules_in_graph(azure: &ResourceManager) -> Vec<String> {
    let type_ = "Microsoft.Network/networkSecurityGroups";
    let page = azure.graph_page(SUBSCRIPTION, type_, None).await.unwrap();
    let found = page.resources.iter().find(|one| one["name"] == "db-subnet-nsg").unwrap();
    let rules = found["properties"]["securityRules"].as_array().unwrap();
    let names = rules.iter().map(|rule| rule["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("ajar-")).collect()
}
