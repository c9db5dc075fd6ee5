//! Queues, tables and containers of the templates against the code, host.json and each function.json.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use ajar_access::ports::store::Table;
use infrastructure_tests::{EXAMPLES, last_name, repository, resources, snapshot, string, text};
use jiff::{SignedDuration, Span};
use serde_json::Value;

const SENDER: &str = "69a216fc-b8fb-44d8-bc22-1f3c2cd27a39";
const RECEIVERS: [&str; 2] = ["4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0", "090c5cfd-751d-490a-894a-3ce6f1109419"];
/// The only queue that nothing receives from: a person looks at it.
const PARKED: &str = "parked";

fn queues(snapshot: &Value) -> BTreeMap<&str, &Value> {
    let all = resources(snapshot, "Microsoft.ServiceBus/namespaces/queues");
    all.map(|queue| (last_name(queue), &queue["properties"])).collect()
}

/// The names that `Queue::name` gives.
fn queues_sent_to() -> BTreeSet<String> {
    let source = text("crates/access/src/ports/bus.rs");
    let (_, names) = source.split_once("pub fn name(self)").unwrap();
    let (names, _) = names.split_once("\n    }\n").unwrap();
    let names: BTreeSet<_> = names
        .lines()
        .filter(|line| line.contains("=> \""))
        .map(|line| line.split('"').nth(1).unwrap().to_owned())
        .collect();
    assert!(names.len() >= 3, "crates/access/src/ports/bus.rs is no longer read: {names:?}");
    names
}

/// Function, queue and connection of each queue trigger.
fn queue_triggers() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(repository().join("handlers")).unwrap() {
        let folder = folder.unwrap();
        let Ok(json) = std::fs::read_to_string(folder.path().join("function.json")) else { continue };
        let json: Value = serde_json::from_str(&json).unwrap();
        for binding in json["bindings"].as_array().unwrap() {
            if binding["type"] == "serviceBusTrigger" {
                let name = folder.file_name().into_string().unwrap();
                let text = |pointer| string(binding, pointer).to_owned();
                found.push((name, text("/queueName"), text("/connection")));
            }
        }
    }
    assert!(found.len() >= 2, "{found:?}");
    found
}

fn roles_at<'a>(snapshot: &'a Value, queue: &str) -> BTreeSet<&'a str> {
    let place = format!("/queues/{queue}/providers/");
    resources(snapshot, "Microsoft.Authorization/roleAssignments")
        .filter(|one| string(one, "/id").contains(&place))
        .map(|one| string(one, "/properties/roleDefinitionId").rsplit('/').next().unwrap())
        .collect()
}

#[test]
fn every_queue_that_is_sent_to_or_received_from_exists_with_its_roles() {
    for example in EXAMPLES {
        let snapshot = snapshot(example);
        let queues = queues(&snapshot);
        for name in queues_sent_to() {
            assert!(queues.contains_key(&*name), "{example} has no queue {name}, and Ajar sends to it");
            assert!(roles_at(&snapshot, &name).contains(SENDER), "{example}: {name} cannot be sent to");
        }
        for (function, queue, _) in queue_triggers() {
            assert!(
                queues.contains_key(&*queue),
                "{example} has no queue {queue}: {function} receives there"
            );
        }
        for queue in queues.keys() {
            let received = RECEIVERS.iter().any(|role| roles_at(&snapshot, queue).contains(role));
            assert_eq!(received, *queue != PARKED, "{example}: receiving from {queue}");
        }
    }
}

#[test]
fn connections_of_the_triggers_are_set() {
    for example in EXAMPLES {
        let snapshot = snapshot(example);
        let app = resources(&snapshot, "Microsoft.Web/sites").next().unwrap();
        let settings = app["properties"]["siteConfig"]["appSettings"].as_array().unwrap();
        for (function, _, connection) in queue_triggers() {
            for part in ["fullyQualifiedNamespace", "credential", "clientId"] {
                let name = format!("{connection}__{part}");
                assert!(settings.iter().any(|one| one["name"] == *name), "{function} needs {name}");
            }
        }
    }
}

/// A whole number of seconds that a constant of a source file holds.
fn constant(path: &str, name: &str) -> SignedDuration {
    let source = text(path);
    let (_, rest) =
        source.split_once(&format!("const {name}: SignedDuration = SignedDuration::from_secs(")).unwrap();
    SignedDuration::from_secs(rest.split(')').next().unwrap().parse().unwrap())
}

fn iso(value: &Value) -> SignedDuration {
    let span: Span = value.as_str().unwrap().parse().unwrap();
    span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).unwrap()
}

fn clock_time(value: &Value) -> SignedDuration {
    let parts: Vec<i64> = value.as_str().unwrap().split(':').map(|part| part.parse().unwrap()).collect();
    SignedDuration::from_secs((parts[0] * 60 + parts[1]) * 60 + parts[2])
}

#[test]
fn locks_outlast_leases_and_are_renewed_as_long_as_an_invocation_may_run() {
    let lease =
        constant("crates/access/src/lease.rs", "LENGTH") + constant("crates/access/src/lease.rs", "GRACE");
    let host: Value = serde_json::from_str(&text("host.json")).unwrap();
    let bus = &host["extensions"]["serviceBus"];
    assert!(clock_time(&bus["maxAutoLockRenewalDuration"]) >= clock_time(&host["functionTimeout"]));
    assert_eq!(bus["autoCompleteMessages"], true);
    for example in EXAMPLES {
        for (name, queue) in queues(&snapshot(example)) {
            let lock = iso(&queue["lockDuration"]);
            assert!(lock >= lease, "{example}: {name} gives a message out again before its lease is free");
            assert!(lock <= SignedDuration::from_mins(5), "{name}: Service Bus knows no longer lock");
            assert_eq!(queue["requiresSession"], false, "{name}: the triggers use no sessions");
            assert_eq!(queue["requiresDuplicateDetection"], false, "{name}: a retry must not be swallowed");
            // Redelivery is for crashes only; the local Functions host counts to ten as well.
            assert_eq!(queue["maxDeliveryCount"], 10, "{example}: {name}");
            let life = iso(&queue["defaultMessageTimeToLive"]);
            assert!(life > clock_time(&host["functionTimeout"]), "{example}: {name}");
            if name == PARKED {
                assert!(life >= SignedDuration::from_hours(24 * 30), "a person may be on holiday");
            }
        }
    }
}

#[test]
fn the_tables_are_those_that_the_store_knows() {
    let known: BTreeSet<_> = Table::ALL.iter().map(|table| table.name().to_owned()).collect();
    for example in EXAMPLES {
        let snapshot = snapshot(example);
        let made = resources(&snapshot, "Microsoft.Storage/storageAccounts/tableServices/tables");
        assert_eq!(
            made.map(|table| last_name(table).to_owned()).collect::<BTreeSet<_>>(),
            known,
            "{example}"
        );
    }
}

#[test]
fn anchors_cannot_be_changed_and_the_host_does_not_own_them() {
    for (example, days) in
        [("smallest", 365), ("private-network", 365), ("management-group", 365), ("everything", 2555)]
    {
        let snapshot = snapshot(example);
        let policies: Vec<_> = resources(
            &snapshot,
            "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies",
        )
        .collect();
        assert_eq!(policies.len(), 1);
        let id = string(policies[0], "/id");
        assert!(id.contains("/containers/audit/"), "{id}");
        assert_eq!(policies[0]["properties"]["immutabilityPeriodSinceCreationInDays"], days);
        assert_eq!(policies[0]["properties"]["allowProtectedAppendWrites"], false);
        // Who owns blobs may take an immutability policy away.
        let account = id.split("/blobServices/").next().unwrap();
        let owners = resources(&snapshot, "Microsoft.Authorization/roleAssignments").filter(|one| {
            string(one, "/properties/roleDefinitionId").ends_with("b7e6dc6d-f1e8-4753-8033-0f276bb0955b")
        });
        for owner in owners {
            assert!(
                !string(owner, "/id").starts_with(account),
                "{example}: Ajar owns the blobs of its state"
            );
        }
    }
}
