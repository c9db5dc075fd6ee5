//! Whether a subscription tells Ajar of its events: a pure reading of Event Grid's event subscriptions.

use serde_json::Value;

/// The events that Ajar lives on.
const NEEDED: [&str; 2] =
    ["Microsoft.Resources.ResourceWriteSuccess", "Microsoft.Resources.ResourceDeleteSuccess"];

/// Whether one of a subscription's event subscriptions brings its writes and deletes to queue `queue` of Service Bus
/// namespace `namespace`. Names of namespaces are unique in a cloud. What its advanced filters leave out is not judged.
pub(crate) fn is_watched(event_subscriptions: &[Value], namespace: &str, queue: &str) -> bool {
    let end = format!("/namespaces/{namespace}/queues/{queue}").to_ascii_lowercase();
    event_subscriptions.iter().any(|one| {
        let property = |path: &str| one.pointer(path).and_then(Value::as_str);
        let destination =
            property("/properties/deliveryWithResourceIdentity/destination/properties/resourceId")
                .or_else(|| property("/properties/destination/properties/resourceId"));
        let is_ours = destination.is_some_and(|id| id.to_ascii_lowercase().ends_with(&end));
        // A state that is not shown is that of one that works.
        let works = property("/properties/provisioningState")
            .is_none_or(|state| state.eq_ignore_ascii_case("Succeeded"));
        is_ours && works && tells_all(one)
    })
}

/// Without a list Event Grid delivers every type there is (`includedEventTypes` of an event subscription's filter).
fn tells_all(event_subscription: &Value) -> bool {
    let types = event_subscription.pointer("/properties/filter/includedEventTypes").and_then(Value::as_array);
    types.is_none_or(|types| {
        NEEDED.iter().all(|needed| {
            types.iter().any(|one| {
                one.as_str()
                    .is_some_and(|one| one.eq_ignore_ascii_case(needed) || one.eq_ignore_ascii_case("All"))
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn to(destination: &Value, types: &Value) -> Value {
        json!({ "properties": { "provisioningState": "Succeeded", "destination": destination,
            "filter": { "includedEventTypes": types } } })
    }

    fn queue(name: &str) -> Value {
        let namespaces = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ServiceBus/namespaces";
        json!({ "endpointType": "ServiceBusQueue",
            "properties": { "resourceId": format!("{namespaces}/SB-Ajar/queues/{name}") } })
    }

    #[test]
    fn events_must_reach_our_queue_all_of_them_by_something_that_works() {
        let is = |one: Value| is_watched(&[one], "sb-ajar", "vm-events");
        assert!(is(to(&queue("vm-events"), &json!(NEEDED))));
        assert!(is(to(&queue("vm-events"), &Value::Null)), "no list, every type");
        assert!(!is(to(&queue("vm-events"), &json!([NEEDED[0]]))), "no deletes");
        assert!(!is(to(&queue("others"), &json!(NEEDED))), "another queue");
        let elsewhere =
            json!({ "properties": { "resourceId": "/x/namespaces/my-sb-ajar/queues/vm-events" } });
        assert!(!is(to(&elsewhere, &json!(NEEDED))), "another namespace");
        let mut failed = to(&queue("vm-events"), &json!(NEEDED));
        failed["properties"]["provisioningState"] = json!("Failed");
        assert!(!is(failed));
        let with_identity = json!({ "properties": { "deliveryWithResourceIdentity": {
            "identity": { "type": "UserAssigned" }, "destination": queue("vm-events") } } });
        assert!(is(with_identity), "as infra/modules/subscription-events.bicep makes it");
        assert!(!is_watched(&[], "sb-ajar", "vm-events"));
    }
}
