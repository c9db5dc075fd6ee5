//! Events as Microsoft publishes them, in every shape they come in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::resource_event::{EventKind, ResourceEvent, read};
use serde_json::{Value, json};

const WRITE: &str = include_str!("resource_events/write.json");
const DELETE: &str = include_str!("resource_events/delete.json");
const ACTION: &str = include_str!("resource_events/action.json");

const GROUP: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers";

fn only(body: &str) -> ResourceEvent {
    let reading = read(body.as_bytes());
    assert!(reading.unreadable.is_empty(), "{:?}", reading.unreadable);
    assert_eq!(reading.events.len(), 1);
    reading.events[0].clone()
}

/// The same event in CloudEvents 1.0, as the renaming in Microsoft's description has it.
fn as_cloud_event(body: &str) -> String {
    let mut event = serde_json::from_str::<Value>(body).unwrap()[0].clone();
    let fields = event.as_object_mut().unwrap();
    for (old, new) in [("eventType", "type"), ("eventTime", "time"), ("topic", "source")] {
        let value = fields.remove(old).unwrap();
        fields.insert(new.into(), value);
    }
    fields.remove("dataVersion");
    fields.remove("metadataVersion");
    fields.insert("specversion".into(), json!("1.0"));
    event.to_string()
}

fn event(kind: &str, resource: &str) -> Value {
    json!({ "id": "1", "eventType": format!("Microsoft.Resources.Resource{kind}Success"),
        "eventTime": "2026-11-24T12:00:00Z", "subject": resource, "data": {} })
}

#[test]
fn microsofts_examples_are_read() {
    let write = only(WRITE);
    assert_eq!(write.kind, EventKind::Write);
    assert!(write.resource.is_type("Microsoft.Storage/storageAccounts"));
    assert_eq!(write.operation, "Microsoft.Storage/storageAccounts/write");
    assert_eq!(write.at, Some("2018-07-19T18:38:04.6117357Z".parse().unwrap()));
    let author = write.author.unwrap();
    // The printed placeholders: `{ID}` for the object id, `{user-name}` for the sign-in name.
    assert_eq!((author.object_id.as_str(), author.name.as_str()), ("{id}", "{user-name}"));

    assert_eq!(only(DELETE).kind, EventKind::Delete);
    let action = only(ACTION);
    assert_eq!(action.kind, EventKind::Action);
    // No sign-in name: a service principal is called by its application.
    assert_eq!(action.author.unwrap().name, "{ID}");
}

#[test]
fn both_schemas_and_both_framings_say_the_same() {
    for sample in [WRITE, DELETE, ACTION] {
        let plain = only(sample);
        let one = serde_json::from_str::<Value>(sample).unwrap()[0].to_string();
        assert_eq!(only(&one), plain, "one event without a list");
        assert_eq!(only(&as_cloud_event(sample)), plain, "CloudEvents");
        assert_eq!(only(&format!("[{}]", as_cloud_event(sample))), plain, "a list of CloudEvents");
        let mut older = serde_json::from_str::<Value>(sample).unwrap();
        for name in ["claims", "authorization"] {
            let text = older[0]["data"][name].to_string();
            older[0]["data"][name] = json!(text);
        }
        assert_eq!(only(&older.to_string()), plain, "objects as texts");
    }
}

#[test]
fn what_cannot_be_read_is_told_and_loses_nothing_beside_it() {
    let good = event("Write", &format!("{GROUP}/Microsoft.Compute/virtualMachines/v"));
    let bad = [
        (json!(7), "no event"),
        (json!({}), "neither `eventType`"),
        (json!({ "eventType": "Microsoft.Storage.BlobCreated" }), "event subscription"),
        (json!({ "eventType": "Microsoft.Resources.ResourceWriteSuccess" }), "names no resource"),
        (event("Write", "not/an/id"), "not a resource id"),
    ];
    for (bad, reason) in bad {
        let reading = read(json!([good, bad, good]).to_string().as_bytes());
        assert_eq!((reading.events.len(), reading.unreadable.len()), (2, 1), "{bad}");
        assert!(reading.unreadable[0].reason.contains(reason), "{:?}", reading.unreadable);
        assert_eq!(reading.unreadable[0].text, bad.to_string());
    }
    let reading = read(b"\xff{");
    assert!(reading.unreadable[0].reason.contains("not JSON"), "{reading:?}");
}

#[test]
fn failed_operations_changed_nothing() {
    let mut failed = event("Write", &format!("{GROUP}/Microsoft.Compute/virtualMachines/v"));
    failed["eventType"] = json!("Microsoft.Resources.ResourceWriteFailure");
    let reading = read(failed.to_string().as_bytes());
    assert_eq!((reading.events.len(), reading.unreadable.len(), reading.passed_over), (0, 0, 1));
}

#[test]
fn an_event_about_a_part_is_a_hint_about_the_whole() {
    let cases = [
        ("Microsoft.Compute/virtualMachines/v", Some("Microsoft.Compute/virtualMachines/v")),
        ("Microsoft.Compute/virtualMachines/v/extensions/e", None),
        (
            "microsoft.network/networksecuritygroups/n/securityRules/r",
            Some("microsoft.network/networksecuritygroups/n"),
        ),
        ("Microsoft.Network/networkSecurityGroups/n", Some("Microsoft.Network/networkSecurityGroups/n")),
        (
            "Microsoft.Network/virtualNetworks/v/subnets/s",
            Some("Microsoft.Network/virtualNetworks/v/subnets/s"),
        ),
        ("Microsoft.Network/virtualNetworks/v", Some("Microsoft.Network/virtualNetworks/v")),
        ("Microsoft.Network/routeTables/t/routes/r", Some("Microsoft.Network/routeTables/t")),
        ("Microsoft.Network/loadBalancers/l/inboundNatRules/r", Some("Microsoft.Network/loadBalancers/l")),
        ("Microsoft.Network/publicIPAddresses/p", Some("Microsoft.Network/publicIPAddresses/p")),
        ("Microsoft.Network/networkInterfaces/n", Some("Microsoft.Network/networkInterfaces/n")),
        ("Microsoft.Storage/storageAccounts/a", None),
        ("Microsoft.Compute/virtualMachineScaleSets/s/virtualMachines/0", None),
    ];
    for (resource, subject) in cases {
        let event = only(&event("Write", &format!("{GROUP}/{resource}")).to_string());
        let wanted = subject.map(|subject| format!("{GROUP}/{subject}"));
        assert_eq!(event.subject().map(|id| id.to_string()), wanted, "{resource}");
    }
    let started = only(&event("Action", &format!("{GROUP}/Microsoft.Compute/virtualMachines/v")).to_string());
    assert_eq!(started.subject(), None, "starting a VM changes no rule");
}
