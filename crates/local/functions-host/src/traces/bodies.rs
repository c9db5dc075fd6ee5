//! Requests built from recorded inputs.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value as Recorded;
use uuid::Uuid;

use super::front::{custom_handler, functions};
use super::replay::answer;
use super::{Check, Differences, TRACES, cases, normalized};
use crate::envelope::{self, BindingData, Value};
use crate::front::called_with;
use crate::functions::Function;
use crate::invocation::{Trigger, request_body};
use crate::newtonsoft::{self, Json, STRICT_END};
use crate::outgoing::{default_request, probe_request, redirected};
use crate::queue_trigger;
use crate::service_bus::{Delivery, Message, OutgoingMessage};
use crate::timer_trigger::{Status, timer_info};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn parsed(text: &str) -> Value {
    Value::Json(newtonsoft::parse(text, STRICT_END).unwrap().unwrap())
}

/// The value of a `default-value-*` case, if this host has values of its kind.
pub(super) fn value_of(case: &str) -> Option<Value> {
    let described = TRACES[case]["given"]["value"].as_str()?;
    if let Some(text) = described.strip_prefix("string: ") {
        return Some(Value::Text(text.to_owned()));
    }
    Some(match case.strip_prefix("default-value-")? {
        "bytes" => Value::Bytes(vec![1, 2, 3]),
        "bytes-empty" => Value::Bytes(Vec::new()),
        "null" => Value::Null,
        "int" => Value::Number(4),
        "long-max" => Value::Number(i64::MAX),
        "uint" => Value::Number(7),
        "bool" => parsed("true"),
        "double" => parsed("1.5"),
        "double-integral" => parsed("1.0"),
        "double-big" => parsed("1e300"),
        "datetime-utc" => Value::DateTime(at("2026-06-15T10:00:00.1234567Z")),
        "datetime-unspecified" => Value::DateTime(at("2026-06-15T10:00:00Z")),
        "datetimeoffset-utc" => Value::DateTimeOffset(at("2026-06-15T10:00:00Z")),
        "timespan" => Value::Text("01:30:00".to_owned()),
        "guid" => Value::Text("0f8fad5b-d9cb-469f-a165-70867728950e".to_owned()),
        "string-array" => parsed(r#"["a","b"]"#),
        "list-mixed" => parsed(r#"[1,"x",null,true,"2026-06-15T10:00:00Z"]"#),
        "dictionary" => parsed(r#"{"tenant":"acme","n":5,"d":"2026-06-15T10:00:00Z","x":null}"#),
        "poco-empty" => parsed("{}"),
        "jobject" => parsed(r#"{"a":{"b":[1,2.50,null,"2026-06-15T10:00:00Z"]}}"#),
        "jarray" => parsed(r#"[1,{"a":2}]"#),
        "jvalue-string" => parsed("\"x\""),
        "jvalue-int" => parsed("5"),
        "expando" => parsed(r#"{"a":1}"#),
        _ => return None,
    })
}

fn text_binding(name: &str, value: &str) -> (String, Value) {
    (name.to_owned(), Value::Text(value.to_owned()))
}

fn binding_data(entries: &[(&str, Value)]) -> BindingData {
    let mut data = BindingData::default();
    for (name, value) in entries {
        data.set(name, value.clone());
    }
    data
}

/// Function name and body as this host sends them for a case.
fn default_body(case: &str, trace: &Recorded) -> Option<String> {
    if let Some(value) = value_of(case) {
        return Some(envelope::body(&[("in".to_owned(), value.clone())], &binding_data(&[("v", value)])));
    }
    let given = &trace["given"];
    let input = [text_binding("in", "x")];
    let retry = || {
        Value::Json(Json::object([
            ("RetryCount", Json::Integer(given["RetryCount"].to_string())),
            ("MaxRetryCount", Json::Integer(given["MaxRetryCount"].to_string())),
            ("Exception", Json::Null),
            ("Instance", Json::Null),
            ("State", Json::Object(Vec::new())),
        ]))
    };
    Some(match case {
        "default-bytes-datatype-binary"
        | "default-bytes-datatype-stream"
        | "default-bytes-datatype-undefined" => {
            envelope::body(&[("in".to_owned(), Value::Bytes(vec![1, 2, 3]))], &BindingData::default())
        }
        "default-metadata-filter" => {
            let v = || Value::Text("v".to_owned());
            let metadata = binding_data(&[
                ("QueueTrigger", v()),
                ("EventHubTrigger", v()),
                ("myTRIGGER", v()),
                ("trigger", v()),
                ("triggerX", v()),
                ("Triggers", v()),
                ("nullOne", Value::Null),
            ]);
            envelope::body(&[text_binding("in", "x"), ("tbl".to_owned(), Value::Null)], &metadata)
        }
        "default-empty-envelope" => envelope::body(&[], &BindingData::default()),
        "default-retrycontext-first" | "default-retrycontext-with-instance-and-state" => {
            envelope::body(&input, &binding_data(&[("RetryContext", retry())]))
        }
        "q1-test-context" => envelope::body(
            &[text_binding("myqueueItem", "HelloWorld")],
            &binding_data(&[
                ("dequeueCount", Value::Number(4)),
                ("VisibleTime", Value::DateTime(at("2019-10-01T00:00:00Z"))),
                ("VisibleTimeOffset", Value::DateTimeOffset(at("2019-10-01T00:00:00Z"))),
                ("helloString", Value::Text("helloMetadata".to_owned())),
            ]),
        ),
        _ if case.starts_with("overlay-") => {
            let text = given["triggerValue"].as_str().unwrap();
            let mut metadata = binding_data(&[
                ("MessageId", Value::Text("m-1".to_owned())),
                ("DeliveryCount", Value::Number(1)),
                ("sys", parsed(r#"{"MethodName":"Worker"}"#)),
                ("LockToken", Value::Text("b2a1".to_owned())),
            ]);
            metadata.overlay(text);
            envelope::body(&[text_binding("msg", text)], &metadata)
        }
        _ => return None,
    })
}

/// The function of a trigger case; its bindings differ only in what is set here.
fn function(name: &str, trigger_name: &str, is_binary: bool) -> Function {
    let all = functions(&custom_handler(false), "api");
    let mut function = Function::clone(all.iter().find(|function| function.name == "Retry").unwrap());
    function.name = name.to_owned();
    function.trigger_name = trigger_name.to_owned();
    function.trigger_is_binary = is_binary;
    function.retry = None;
    function
}

/// The recorded message: binding data of section 2.7.
fn delivery(body: &str) -> Delivery {
    let text = |text: &str| Some(text.to_owned());
    Delivery {
        message: Message {
            sent: OutgoingMessage {
                body: Bytes::from(body.to_owned()),
                content_type: text("application/json"),
                label: text("job"),
                correlation_id: text("c-1"),
                session_id: text("s-1"),
                ..OutgoingMessage::default()
            },
            message_id: "m-1".to_owned(),
            sequence_number: 17,
            enqueued: at("2026-06-15T10:00:00Z"),
            expires: at("2026-06-16T10:00:00Z"),
            delivery_count: 1,
        },
        token: Uuid::nil(),
        locked_until: at("2026-06-15T10:01:00Z"),
        lock_duration: std::time::Duration::from_secs(60),
    }
}

/// Namespace, lock token and typed properties of the recording are its own.
fn service_bus_trigger(function: &Function, body: &str) -> Trigger {
    let mut trigger = queue_trigger::trigger(function, &delivery(body));
    let data = &mut trigger.binding_data;
    data.set(
        "Client",
        parsed(
            r#"{"FullyQualifiedNamespace":"ns.servicebus.windows.net","IsClosed":false,"TransportType":0,"Identifier":"id"}"#,
        ),
    );
    data.set("LockToken", Value::Text("b2a1".to_owned()));
    let properties = r#"{"tenant":"acme","n":5,"b":true,"t":"2026-06-15T10:00:00.0000005Z","g":"00000000-0000-0000-0000-000000000000","by":"AQI="}"#;
    for name in ["ApplicationProperties", "UserProperties"] {
        data.set(name, parsed(properties));
    }
    trigger
}

fn trigger_body(case: &str, trace: &Recorded) -> Option<String> {
    let given = &trace["given"];
    let now = Timestamp::UNIX_EPOCH;
    if case.starts_with("servicebus-shape-") {
        let text = given["triggerValue"].as_str().unwrap();
        let function = function("Worker", "msg", given["dataType"] == "binary");
        let mut trigger = service_bus_trigger(&function, text);
        trigger.binding_data.set_system("Worker", now, Uuid::nil());
        if given["overlayApplied"] == true {
            trigger.binding_data.overlay(text);
        }
        return Some(envelope::body(&[("msg".to_owned(), trigger.value)], &trigger.binding_data));
    }
    if case.starts_with("sb-host-") {
        let name = given["function"].as_str().unwrap();
        let parameter = if name == "Retry" { "item" } else { "msg" };
        let function = function(name, parameter, name == "WorkerBin");
        let mut trigger = service_bus_trigger(&function, given["body"].as_str().unwrap());
        if case == "sb-host-sys-collision" {
            trigger.binding_data.set("sys", parsed(r#"{"own":1}"#));
        }
        let context = r#"{"RetryCount":0,"MaxRetryCount":2,"Exception":null,"Instance":null,"State":{}}"#;
        if case == "sb-host-retrycontext-key" {
            // The recorded trigger brought an entry of this name, which the retry policy overwrote.
            trigger.binding_data.set("RetryContext", parsed(context));
        }
        return Some(request_body(&function, &trigger, None, now, Uuid::nil()));
    }
    if case.starts_with("timer-") || case.starts_with("callasync-tick") {
        let recorded: Recorded = serde_json::from_str(trace["request"]["body"].as_str().unwrap()).unwrap();
        let name = recorded["Metadata"]["sys"]["MethodName"].as_str().unwrap();
        let info = &recorded["Data"]["timer"];
        let status = info["ScheduleStatus"].as_object().map(|status| Status {
            last: status["Last"]
                .as_str()
                .unwrap()
                .parse()
                .ok()
                .filter(|last: &Timestamp| *last > at("1970-01-01T00:00:00Z")),
            next: at(status["Next"].as_str().unwrap()),
        });
        let function = function(name, "timer", false);
        let mut data = BindingData::default();
        if let Some(input) = given["value"].as_str() {
            data.set("timer", Value::Text(input.to_owned()));
        }
        let trigger = Trigger {
            value: Value::Json(timer_info(status, info["IsPastDue"] == true)),
            binding_data: data,
            new_id_for_each_attempt: false,
        };
        return Some(request_body(&function, &trigger, None, now, Uuid::nil()));
    }
    if case == "callasync-worker" {
        let function = function("Worker", "msg", false);
        let trigger = called_with(&function, given["value"].as_str().unwrap());
        return Some(request_body(&function, &trigger, None, now, Uuid::nil()));
    }
    None
}

#[test]
fn bodies_are_built_as_recorded() {
    let mut differences = Differences::default();
    let mut compared = 0;
    for (case, trace) in cases(&Check::Body) {
        let ours = default_body(case, trace).or_else(|| trigger_body(case, trace));
        let (Some(ours), Some(recorded)) = (ours, trace["request"]["body"].as_str()) else {
            continue;
        };
        compared += 1;
        differences.same(case, "body", recorded.to_owned(), normalized(&ours, 0));
        let name = trace["request"]["line"].as_str().unwrap().split(['/', ' ']).nth(2).unwrap();
        let request = default_request(8080, name, "00000000-0000-0000-0000-000000000001", ours);
        let line = format!("{} {} HTTP/1.1", request.method, request.target);
        differences.same(case, "line", trace["request"]["line"].as_str().unwrap(), line.as_str());
        let headers: Vec<(String, String)> = trace["request"]["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned()))
            .collect();
        differences.same(case, "headers", headers, request.headers);
    }
    differences.none();
    assert_eq!(compared, 77);
}

#[test]
fn one_recorded_request_is_equal_byte_for_byte() {
    let body = default_body("q1-test-context", &TRACES["q1-test-context"]).unwrap();
    let request = default_request(8080, "QueueFn", "00000000-0000-0000-0000-000000000001", body);
    let recorded = TRACES["q1-raw-bytes"]["request"]["raw"].as_str().unwrap();
    assert_eq!(String::from_utf8(request.to_bytes()).unwrap(), recorded);
}

#[test]
fn large_bodies_are_chunked_as_recorded() {
    let recorded = &TRACES["default-large-5mb-binary"]["request"]["chunkSizes"];
    let body =
        envelope::body(&[("in".to_owned(), Value::Bytes(vec![0; 5_000_000]))], &BindingData::default());
    let wire = default_request(8080, "F", "id", body).to_bytes();
    let text = String::from_utf8(wire).unwrap();
    let sizes: Vec<&str> = text
        .split_once("\r\n\r\n")
        .unwrap()
        .1
        .split("\r\n")
        .step_by(2)
        .filter(|size| !size.is_empty())
        .collect();
    // The recorded count includes the final, empty chunk.
    assert_eq!(sizes.len() as u64, recorded["count"].as_u64().unwrap());
    assert_eq!(sizes[0], format!("{:X}", recorded["first"].as_u64().unwrap()));
    assert_eq!(sizes[sizes.len() - 2], format!("{:X}", recorded["lastData"].as_u64().unwrap()));
}

#[test]
fn redirected_requests_are_as_recorded() {
    for (case, trace) in cases(&Check::Body) {
        if !case.starts_with("redirected-") {
            continue;
        }
        let status = u16::try_from(trace["given"]["afterStatus"].as_u64().unwrap()).unwrap();
        let body = r#"{"Data":{"in":"\"x\""},"Metadata":{}}"#.to_owned();
        let first = default_request(8080, "Fn", "00000000-0000-0000-0000-000000000001", body);
        let next = redirected(&first, status, "/other").unwrap();
        let wire = String::from_utf8(next.to_bytes()).unwrap();
        let recorded = &trace["request"];
        assert!(wire.starts_with(&format!("{}\r\n", recorded["line"].as_str().unwrap())), "{case}: {wire}");
        for header in recorded["headers"].as_array().unwrap() {
            let line = format!("\r\n{}: {}\r\n", header[0].as_str().unwrap(), header[1].as_str().unwrap());
            assert!(wire.contains(&line), "{case}: {line}");
        }
        assert_eq!(next.headers.len(), recorded["headers"].as_array().unwrap().len(), "{case}");
        assert!(wire.contains(recorded["body"].as_str().unwrap()), "{case}");
    }
    // Without a Location there is nowhere to go; the caller then judges the answer itself.
    assert!(!answer(302, &[], b"").is_empty());
}

#[test]
fn the_probe_is_as_recorded() {
    let recorded = &TRACES["ready-probe-request"]["request"];
    let probe = probe_request(8080);
    assert_eq!(recorded["line"], format!("{} {} HTTP/1.1", probe.method, probe.target));
    assert_eq!(recorded["headers"].as_array().unwrap().len(), probe.headers.len());
    assert_eq!(recorded["headers"][0][1], probe.headers[0].1);
}
