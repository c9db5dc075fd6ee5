//! The custom role against what the code calls. The simulated Azure checks permissions, and its sample estate gives
//! Ajar the actions of `infra/role.json`: so this test, like every end-to-end one, runs with the role that is deployed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use ajar_access::ports::azure::{Azure, WriteOutcome};
use ajar_access::ports::clock::Clock;
use ajar_access::ports::identity::{AuthenticationError, Tokens};
use ajar_arm::ResourceManager;
use ajar_network::nsg::SecurityRule;
use ajar_network::resource_id::ResourceId;
use async_trait::async_trait;
use azure_simulator::{Simulator, SystemClock, serve};
use infrastructure_tests::{EXAMPLES, resources, snapshot, string, text};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const SUBSCRIPTION: &str = "11111111-1111-1111-1111-111111111111";
const AJAR: &str = "a0000000-0000-4000-8000-000000000021";

/// Actions that no request names, and why they are needed nevertheless.
const UNSEEN: [(&str, &str); 3] = [
    (
        "Microsoft.Network/applicationSecurityGroups/joinNetworkSecurityRule/action",
        "writing a rule that names an application security group is checked against that group as well",
    ),
    (
        "Microsoft.Network/locations/operationResults/read",
        "the address in `Location` after a write, where there is no `Azure-AsyncOperation`",
    ),
    (
        "Microsoft.Resources/subscriptions/read",
        "Resource Graph shows the subscriptions below a management group that the caller may read",
    ),
];

/// Takes no action of its own: it shows what the caller may read
/// (learn.microsoft.com/azure/governance/resource-graph/overview, "Permissions in Azure Resource Graph").
const RESOURCE_GRAPH: &str = "/providers/Microsoft.ResourceGraph/resources";

fn role() -> BTreeSet<String> {
    let role: Value = serde_json::from_str(&text("infra/role.json")).unwrap();
    let actions = role["actions"].as_array().unwrap();
    let set: BTreeSet<_> = actions.iter().map(|action| action.as_str().unwrap().to_owned()).collect();
    assert_eq!(set.len(), actions.len(), "an action is listed twice");
    set
}

struct Issued(Arc<Mutex<Simulator>>);

#[async_trait]
impl Tokens for Issued {
    async fn token(&self, resource: &str) -> Result<String, AuthenticationError> {
        Ok(self.0.lock().unwrap().token("ajar-identity", resource).unwrap().unwrap())
    }
}

struct RealClock;

#[async_trait]
impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: SignedDuration) {
        tokio::time::sleep(duration.try_into().unwrap()).await;
    }
}

/// The action that Azure Resource Manager asks for: the last provider's namespace and types, and what is done.
fn action(method: &str, path: &str) -> String {
    let (_, provider) = path.rsplit_once("/providers/").unwrap();
    let parts: Vec<_> = provider.split('/').collect();
    // A location and the ids of operations are names, like every second part.
    let types: Vec<_> = std::iter::once(parts[0]).chain(parts[1..].iter().step_by(2).copied()).collect();
    let verb = match method {
        "GET" => "read",
        "PUT" => "write",
        "DELETE" => "delete",
        other => panic!("{other} {path}: say in this test which action it needs"),
    };
    format!("{}/{verb}", types.join("/"))
}

#[test]
fn paths_name_their_actions() {
    let s = "/subscriptions/s";
    for (method, path, expected) in [
        (
            "PUT",
            "/resourceGroups/g/providers/Microsoft.Network/networkSecurityGroups/n/securityRules/r",
            "Microsoft.Network/networkSecurityGroups/securityRules/write",
        ),
        (
            "GET",
            "/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v/providers/Microsoft.Authorization/roleAssignments",
            "Microsoft.Authorization/roleAssignments/read",
        ),
        (
            "GET",
            "/providers/Microsoft.Network/locations/westeurope/operations/42",
            "Microsoft.Network/locations/operations/read",
        ),
    ] {
        assert_eq!(action(method, &format!("{s}{path}")), expected);
    }
}

/// Every operation of the port, and every address that it calls.
#[tokio::test]
async fn no_action_is_missing_and_none_is_too_much() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sample = text("crates/local/sample-estate.json");
    let running = serve(listener, Simulator::new(&sample, Arc::new(SystemClock), 1).unwrap()).unwrap();
    running.with(|simulator| {
        simulator.switches_mut().asynchronous = true;
        simulator.switches_mut().operation_latency_ms = 20;
    });
    let azure = ResourceManager::new(
        &running.base_url(),
        Arc::new(Issued(running.simulator())),
        ResourceManager::client().unwrap(),
        Arc::new(RealClock),
    )
    .unwrap();

    let estate = azure.subscription_estate(SUBSCRIPTION).await.unwrap();
    let ids = |kind: &str| {
        let of_kind = |one: &&Value| string(one, "/type").eq_ignore_ascii_case(kind);
        let parse = |one: &Value| ResourceId::parse(string(one, "/id")).unwrap();
        estate.iter().filter(of_kind).map(parse).collect::<Vec<_>>()
    };
    let vms = ids("Microsoft.Compute/virtualMachines");
    assert!(vms.len() > 5);
    for vm in &vms {
        azure.vm_estate(vm).await.unwrap();
    }
    // What an event may be about, and what is read on the way from there to the VMs behind it.
    for kind in ["networkInterfaces", "networkSecurityGroups", "virtualNetworks", "publicIPAddresses"] {
        let network = ids(&format!("Microsoft.Network/{kind}"));
        let read = azure.resource(&network[0]).await.unwrap();
        if let Some(subnet) = read.pointer("/properties/subnets/0/id").and_then(Value::as_str) {
            azure.resource(&ResourceId::parse(subnet).unwrap()).await.unwrap();
        }
    }
    azure.own_object_id().await.unwrap();
    let page = azure.graph_page(SUBSCRIPTION, "Microsoft.Compute/virtualMachines", None).await.unwrap();
    assert_eq!(page.resources.len(), vms.len());
    assert_eq!(azure.subscriptions_below("contoso").await.unwrap(), [SUBSCRIPTION]);
    assert_eq!(azure.event_subscriptions(SUBSCRIPTION).await.unwrap().len(), 1);
    let nsgs = azure.network_security_groups(SUBSCRIPTION).await.unwrap();
    let id = nsgs[0].id().unwrap().clone();
    let rule = SecurityRule::from_json(json!({ "name": "ajar-demo-1", "properties": {
        "priority": 1234, "access": "Deny", "direction": "Inbound", "protocol": "Tcp",
        "sourceAddressPrefix": "203.0.113.7", "sourcePortRange": "*",
        "destinationAddressPrefix": "10.0.2.4", "destinationPortRange": "22",
    }}));
    assert_eq!(azure.put_rule(&id, &rule).await, Ok(WriteOutcome::Done));
    assert_eq!(azure.delete_rule(&id, "ajar-demo-1").await, Ok(WriteOutcome::Done));
    for nsg in nsgs {
        let read = azure.network_security_group(nsg.id().unwrap()).await.unwrap();
        assert_eq!(azure.put_network_security_group(&read).await, Ok(WriteOutcome::Done));
    }
    for assignment in azure.role_assignments(vms[0].as_str(), AJAR).await.unwrap() {
        azure.role_permissions(&assignment.role_definition_id).await.unwrap();
    }
    azure.deny_assignments(vms[0].as_str(), Some(AJAR)).await.unwrap();

    let seen: BTreeSet<String> = running.with(|simulator| {
        let answered = |entry: &&azure_simulator::LogEntry| entry.status.is_some_and(|status| status < 400);
        let calls = simulator.log().filter(answered).filter(|entry| entry.path != RESOURCE_GRAPH);
        calls.map(|entry| action(&entry.method, &entry.path)).collect()
    });
    let role = role();
    let missing: Vec<_> = seen.difference(&role).collect();
    assert!(missing.is_empty(), "infra/role.json lacks {missing:?}");
    let unseen: BTreeSet<_> = UNSEEN.iter().map(|(action, _)| (*action).to_owned()).collect();
    let idle: Vec<_> = role.difference(&seen).filter(|action| !unseen.contains(*action)).collect();
    assert!(idle.is_empty(), "nothing calls what needs {idle:?}: take it out of infra/role.json");
}

/// A new operation of the port must be called above, or the role could lack what it needs.
#[test]
fn every_operation_of_the_port_is_called_in_the_test_above() {
    let this = include_str!("role.rs");
    let port = text("crates/access/src/ports/azure.rs");
    let (_, methods) = port.split_once("pub trait Azure").unwrap();
    let names: Vec<_> = methods
        .split("async fn ")
        .skip(1)
        .map(|rest| rest.split(['(', '<']).next().unwrap())
        // What the writes await is read by `operation` too.
        .filter(|name| *name != "operation")
        .collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        assert!(this.contains(&format!("azure.{name}(")), "call {name} in the test above");
    }
}

#[test]
fn the_sample_estate_has_the_deployed_role() {
    let sample: Value = serde_json::from_str(&text("crates/local/sample-estate.json")).unwrap();
    let mine = sample.as_array().unwrap().iter().find(|one| one["properties"]["roleName"] == "Ajar").unwrap();
    let actions = mine["properties"]["permissions"][0]["actions"].as_array().unwrap();
    let actions: BTreeSet<_> = actions.iter().map(|action| action.as_str().unwrap().to_owned()).collect();
    assert_eq!(actions, role());
}

#[test]
fn the_role_is_defined_once_and_assigned_where_ajar_looks() {
    for (example, assignable, assigned) in [
        ("smallest", json!([format!("/subscriptions/{SUBSCRIPTION}")]), 1),
        (
            "everything",
            json!([
                format!("/subscriptions/{SUBSCRIPTION}"),
                "/subscriptions/22222222-2222-2222-2222-222222222222"
            ]),
            2,
        ),
        ("management-group", json!(["/providers/Microsoft.Management/managementGroups/contoso"]), 1),
    ] {
        let snapshot = snapshot(example);
        let definitions: Vec<_> = resources(&snapshot, "Microsoft.Authorization/roleDefinitions").collect();
        assert_eq!(definitions.len(), 1, "{example}");
        assert_eq!(definitions[0]["properties"]["assignableScopes"], assignable, "{example}");
        let permissions = definitions[0]["properties"]["permissions"].as_array().unwrap();
        let actions = permissions[0]["actions"].as_array().unwrap().iter();
        assert_eq!(actions.map(|one| one.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), role());
        assert_eq!((permissions.len(), &permissions[0]["dataActions"]), (1, &json!([])));
        let definition = string(definitions[0], "/name");
        let here = resources(&snapshot, "Microsoft.Authorization/roleAssignments")
            .filter(|one| string(one, "/properties/roleDefinitionId").ends_with(definition))
            .count();
        assert_eq!(here, assigned, "{example}");
    }
}

/// Every other role: a built-in one, given at the one thing that it is needed for.
#[test]
fn no_built_in_role_reaches_further_than_its_purpose() {
    // Where, which, for what.
    let allowed = [
        (
            "storageAccounts/ajar*host",
            "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
            "the host's own blobs: Storage Blob Data Owner",
        ),
        (
            "storageAccounts/ajar*data",
            "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
            "the tables: Storage Table Data Contributor",
        ),
        (
            "containers/audit",
            "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
            "anchors: Storage Blob Data Contributor",
        ),
        ("containers/state", "ba92f5b4-2d11-453d-a403-e96b0029c9fe", "copies: Storage Blob Data Contributor"),
        ("queues/", "69a216fc-b8fb-44d8-bc22-1f3c2cd27a39", "sending: Service Bus Data Sender"),
        ("queues/", "4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0", "the triggers: Service Bus Data Receiver"),
        ("vaults/", "4633458b-17de-408a-b874-0445c86b69e6", "integrations: Key Vault Secrets User"),
        ("components/", "3913510d-42f4-4e42-8a64-420c390055eb", "telemetry: Monitoring Metrics Publisher"),
    ];
    // Only where somebody chose to let the scale controller read queue lengths.
    let chosen = ("queues/", "090c5cfd-751d-490a-894a-3ce6f1109419", "Service Bus Data Owner");
    for example in EXAMPLES {
        let snapshot = snapshot(example);
        let definition = resources(&snapshot, "Microsoft.Authorization/roleDefinitions").next().unwrap();
        let own = string(definition, "/name");
        let mut used = BTreeSet::new();
        for one in resources(&snapshot, "Microsoft.Authorization/roleAssignments") {
            let role = string(one, "/properties/roleDefinitionId").rsplit('/').next().unwrap();
            if role == own {
                continue;
            }
            let id = string(one, "/id");
            let (scope, _) = id.split_once("/providers/Microsoft.Authorization/").unwrap();
            let fits = |place: &str| match place.split_once('*') {
                // The account itself, not a part of it.
                Some((begin, end)) => scope.rsplit_once('/').is_some_and(|(parent, name)| {
                    let (kind, stem) = begin.split_once('/').unwrap();
                    parent.ends_with(kind) && name.starts_with(stem) && name.contains(end)
                }),
                None => scope.contains(place),
            };
            let known = allowed.iter().chain((example == "everything").then_some(&chosen));
            let purpose = known.into_iter().find(|(place, wanted, _)| *wanted == role && fits(place));
            used.insert(purpose.unwrap_or_else(|| panic!("{example}: {role} at {scope} has no purpose")).2);
        }
        // Where Data Owner was chosen, it stands for Data Receiver.
        assert_eq!(used.len(), allowed.len(), "{example}: {used:?}");
    }
}
