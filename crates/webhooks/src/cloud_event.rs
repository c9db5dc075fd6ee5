//! A notification as a CloudEvents 1.0 event in JSON (structured mode).

use ajar_access::notification::{Notification, Subject};
use serde_json::{Map, Value, json};

/// The event that tells of `notification` in the name of `deployment`.
pub fn event(deployment: &str, notification: &Notification) -> Value {
    json!({
        "specversion": "1.0",
        "id": notification.id,
        "source": format!("/ajar/{deployment}"),
        "type": format!("ajar.{}", notification.happened.name()),
        "subject": notification.vm().as_str(),
        "time": notification.at.to_string(),
        "datacontenttype": "application/json",
        "data": data(notification),
    })
}

fn data(notification: &Notification) -> Value {
    let mut data = Map::new();
    data.insert("message".into(), notification.sentence().into());
    data.insert("audience".into(), json!(notification.audience));
    data.insert("vm".into(), notification.vm().as_str().into());
    // The kind's own fields are told by their own names; the kind itself is the event's type.
    if let Ok(Value::Object(fields)) = serde_json::to_value(&notification.happened) {
        data.extend(fields.into_iter().filter(|(name, _)| name != "kind"));
    }
    if let Subject::Request(request) = &notification.subject {
        let ports: Vec<Value> = request
            .flows
            .iter()
            .map(|flow| {
                json!({
                    "port": flow.ports.to_string(),
                    "protocol": flow.protocol.to_string(),
                    "sources": flow.sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
                })
            })
            .collect();
        let request = json!({
            "id": request.id.as_str(),
            "requester": { "objectId": request.requester.object_id, "name": request.requester.name },
            "ports": ports,
            "justification": request.justification,
            "start": request.start.map(|at| at.to_string()),
            "end": request.end.map(|at| at.to_string()),
        });
        data.insert("request".into(), request);
    }
    Value::Object(data)
}
