//! Every recorded request of default mode is accepted, decoded to what was given to the host, and answered as
//! the recorded handler answered.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custom_handler::{
    EventGridEvent, Functions, HttpRequest, Invocation, InvocationRequest, InvocationResponse, RetryHint,
    ServiceBusMessage, StorageQueueMessage, TimerEvent, Trigger,
};
use serde_json::{Value, json};

use crate::recorded::{Case, Kind, of_kind};
use crate::wire::{Answer, exchange, serving};

type Seen = Arc<Mutex<Vec<(InvocationRequest, Invocation)>>>;

/// What the recorded handler answered, as this crate is told to.
fn respond(case: &Case) -> Result<InvocationResponse, String> {
    let succeeded =
        case.respond.is_null() || case.respond["status"].is_null() || case.respond["status"] == 200;
    if !succeeded {
        return Err("failed as recorded".to_owned());
    }
    let mut response = InvocationResponse::new();
    let Some(answer) = recorded_answer(case) else { return Ok(response) };
    for (name, value) in answer["Outputs"].as_object().into_iter().flatten() {
        response = response.as_is(name, value.clone());
    }
    if let Some(value) = answer.get("ReturnValue") {
        response = response.return_value(value.clone());
    }
    Ok(response)
}

fn recorded_answer(case: &Case) -> Option<Value> {
    let answer: Value = serde_json::from_str(case.respond["body"].as_str()?).ok()?;
    if answer.is_object() && case.respond["status"] == 200 { Some(answer) } else { None }
}

fn lines(answer: &Value) -> Vec<String> {
    answer["Logs"].as_array().into_iter().flatten().map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// One function that keeps what it gets; everything is registered undecoded, as the recorded app used the
/// same names for values of every type. The typed triggers are checked on what was kept.
fn keeping(case: &Case, name: &str, seen: &Seen) -> Functions {
    let (seen, response) = (Arc::clone(seen), respond(case));
    let logs = recorded_answer(case).map(|answer| lines(&answer)).unwrap_or_default();
    Functions::new().other(name, "anyTrigger", move |request, invocation: Invocation| {
        for line in &logs {
            invocation.logs().push(line.clone());
        }
        seen.lock().unwrap().push((request, invocation));
        let response = response.clone();
        async move { response }
    })
}

fn path_of(case: &Case) -> String {
    let line = case.request["raw"].as_str().or(case.request["line"].as_str()).unwrap();
    line.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned()
}

async fn replay(case: &Case) -> (InvocationRequest, Invocation, Answer) {
    let seen = Seen::default();
    let name = path_of(case);
    let running = serving(keeping(case, &name, &seen)).await;
    let answer = exchange(running.port, &case.bytes(running.port)).await;
    running.task.abort();
    let (request, invocation) =
        seen.lock().unwrap().pop().unwrap_or_else(|| panic!("{} did not run", case.name));
    assert_eq!(invocation.function(), name);
    (request, invocation, answer)
}

/// Recorded answers whose return value the host turned into bytes or a date, which is refused.
const REFUSED: [&str; 3] = ["client-return-date", "client-return-string-base64", "out-host-return-base64"];

#[tokio::test]
async fn every_recorded_invocation_is_accepted_and_answered_as_recorded() {
    let (mut replayed, mut refused) = (0, BTreeSet::new());
    for case in of_kind(Kind::Invocation) {
        let (_, invocation, answer) = replay(&case).await;
        replayed += 1;
        assert!(invocation.id().starts_with("00000000-0000-0000-0000-"), "{}", case.name);
        if respond(&case).is_err() {
            assert_eq!((answer.status, answer.text()), (500, "failed as recorded"), "{}", case.name);
            continue;
        }
        if answer.status != 200 {
            assert!(answer.text().starts_with("the host would re"), "{}: {}", case.name, answer.text());
            refused.insert(case.name);
            continue;
        }
        assert_eq!(answer.header("content-type"), Some("application/json"), "{}", case.name);
        let recorded = recorded_answer(&case).unwrap_or_default();
        let or = |member: &str, default: Value| match recorded.get(member) {
            None | Some(Value::Null) => default,
            Some(value) => value.clone(),
        };
        let expected = json!({
            "Outputs": or("Outputs", json!({})), "Logs": or("Logs", json!([])), "ReturnValue": or("ReturnValue", Value::Null)
        });
        assert_eq!(answer.json(), expected, "{}", case.name);
    }
    assert_eq!(replayed, 257);
    assert_eq!(refused, REFUSED.map(str::to_owned).into());
}

/// What each recorded request was made from, where the recording says so.
#[tokio::test]
async fn every_recorded_invocation_is_decoded_to_what_was_given() {
    let mut checked = 0;
    for case in of_kind(Kind::Invocation) {
        let (request, invocation, _) = replay(&case).await;
        check(&case, &request, &invocation);
        checked += 1;
    }
    assert_eq!(checked, 257);
}

fn check(case: &Case, request: &InvocationRequest, invocation: &Invocation) {
    let (name, given) = (case.name.as_str(), &case.given);
    if given["clientLine"].is_string() {
        check_http(name, given, request);
    } else if let Some(value) = name.strip_prefix("default-value-") {
        check_value(value, given["value"].as_str().unwrap(), request);
    } else if given["function"].is_string() && given.get("body").is_some() {
        check_body(name, &given["body"], request);
    } else if name.starts_with("eventgrid-shape-") {
        let event = EventGridEvent::decode(request.clone()).unwrap();
        let original: Value = serde_json::from_str(given["triggerValue"].as_str().unwrap()).unwrap();
        assert_eq!(event.id(), original["id"].as_str(), "{name}");
        assert_eq!(event.id(), Some("e1"));
    } else if let Some(text) = given["triggerValue"].as_str() {
        assert_eq!(ServiceBusMessage::decode(request.clone()).unwrap().body, text, "{name}");
        check_overlay(name, request);
    } else if name.starts_with("eventgrid-") {
        check_event_grid(name, given, request);
    } else if name.starts_with("timer-") {
        check_timer(name, request);
    } else if given.get("RetryCount").is_some() {
        let max = given["MaxRetryCount"].as_i64().unwrap();
        let hint = RetryHint { count: given["RetryCount"].as_u64().unwrap(), max: u64::try_from(max).ok() };
        assert_eq!(invocation.retry(), Some(hint), "{name}");
    } else {
        check_single(name, request, invocation);
    }
}

fn check_single(name: &str, request: &InvocationRequest, invocation: &Invocation) {
    let text = || StorageQueueMessage::decode(request.clone()).unwrap().body;
    match name {
        "q1-raw-bytes" | "q1-test-context" => {
            assert_eq!(text(), "HelloWorld");
            assert_eq!(request.metadata.integer("dequeueCount"), Some(4));
            let first_of_october = "2019-10-01T00:00:00Z".parse().ok();
            assert_eq!(request.metadata.timestamp("VisibleTime"), first_of_october);
            assert_eq!(request.metadata.timestamp("VisibleTimeOffset"), first_of_october);
            assert_eq!(request.metadata.text("helloString").as_deref(), Some("helloMetadata"));
        }
        "default-bytes-datatype-binary"
        | "default-bytes-datatype-stream"
        | "default-bytes-datatype-undefined" => {
            assert_eq!(ServiceBusMessage::decode(request.clone()).unwrap().body[..], [1, 2, 3]);
        }
        "default-metadata-filter" => {
            assert_eq!(text(), "x");
            assert_eq!(request.input("tbl"), Some(Value::Null));
            let kept: Vec<_> = request.metadata.entries().keys().collect();
            assert_eq!(kept, ["triggerX", "Triggers"]);
        }
        "default-empty-envelope" => {
            assert!(request.data.is_empty() && request.metadata.entries().is_empty());
            assert!(ServiceBusMessage::decode(request.clone()).is_err());
        }
        "default-large-5mb-binary" => {
            assert_eq!(ServiceBusMessage::decode(request.clone()).unwrap().body, vec![0; 5_000_000]);
        }
        "redirected-request-307" | "redirected-request-308" | "cookie-not-stored" => assert_eq!(text(), "x"),
        "traceparent-with-activity" => assert_eq!(
            invocation.traceparent(),
            Some("00-0123456789abcdef0123456789abcdef-0123456789abcdef-00")
        ),
        "callasync-worker" => assert_eq!(text(), r#"{"input":1}"#),
        "callasync-events" => {
            assert_eq!(EventGridEvent::decode(request.clone()).unwrap().data(), Some(&json!({ "k": 1 })))
        }
        "callasync-tick5" | "callasync-tick5-null" => {
            let status = TimerEvent::decode(request.clone()).unwrap().schedule_status.unwrap();
            assert_eq!(status.next, "2026-06-15T11:20:00Z".parse().ok());
        }
        other => panic!("{other} is not checked"),
    }
}

/// `enc(v)` of section 2.3: the CLR value in words, and what it decodes to.
fn check_value(case: &str, words: &str, request: &InvocationRequest) {
    let decoded = request.input("in").unwrap();
    if let Some(text) = words.strip_prefix("string: ") {
        assert_eq!(decoded, text, "{case}");
        assert_eq!(StorageQueueMessage::decode(request.clone()).unwrap().body, text, "{case}");
        assert_eq!(request.metadata.text("v").as_deref(), Some(text), "{case}");
        return;
    }
    let expected = match case {
        "null" => Value::Null,
        "bytes" | "bytes-empty" => {
            let expected: &[u8] = if case == "bytes" { &[1, 2, 3] } else { &[] };
            assert_eq!(request.bytes("in").unwrap(), expected, "{case}");
            return;
        }
        "string-empty" => json!(""),
        "int" => json!(4),
        "long-max" => json!(i64::MAX),
        "bool" => json!(true),
        "double" => json!(1.5),
        "double-integral" => json!(1.0),
        "double-big" => json!(1e300),
        "double-nan" => json!("NaN"),
        "decimal" => json!(1.1),
        "char" => json!("x"),
        "enum" => json!(1),
        "uint" => json!(7),
        "datetime-utc" | "datetime-unspecified" | "datetime-local" => json!("2026-06-15T10:00:00"),
        "datetimeoffset" => json!("2026-06-15T10:00:00+02:00"),
        "datetimeoffset-utc" => json!("2026-06-15T10:00:00+00:00"),
        "timespan" => json!("01:30:00"),
        "guid" => json!("0f8fad5b-d9cb-469f-a165-70867728950e"),
        "uri" => json!("https://example.org/a?b=1"),
        "string-array" => json!(["a", "b"]),
        "list-mixed" => json!([1, "x", null, true, "2026-06-15T10:00:00Z"]),
        "list-poco" => json!([{
            "Name": "n", "Id": 1, "When": "0001-01-01T00:00:00", "Raw": null, "Nothing": null,
            "G": "00000000-0000-0000-0000-000000000000"
        }]),
        "bytes-array-array" => json!(["AQI=", "Aw=="]),
        "datetime-array" => json!(["2026-06-15T10:00:00.1234567Z"]),
        "poco" => json!({
            "Name": "TestName", "Id": 1234, "When": "2026-06-15T10:00:00.1234567Z", "Raw": "AQID", "Nothing": null,
            "G": "00000000-0000-0000-0000-000000000000"
        }),
        "poco-empty" => json!({}),
        "dictionary" => json!({ "tenant": "acme", "n": 5, "d": "2026-06-15T10:00:00Z", "x": null }),
        "jobject" => json!({ "a": { "b": [1, 2.5, null, "2026-06-15T10:00:00Z"] } }),
        "jarray" => json!([1, { "a": 2 }]),
        "jvalue-string" => json!("x"),
        "jvalue-int" => json!(5),
        "expando" => json!({ "a": 1 }),
        "anonymous" => json!({ "A": 1, "b": "x" }),
        "exception" => {
            assert_eq!(decoded["ClassName"], "System.InvalidOperationException");
            assert_eq!(decoded["Message"], "boom");
            return;
        }
        "kvp" => json!({ "Key": "k", "Value": 1 }),
        "tuple" => json!({ "Item1": "a", "Item2": 1 }),
        other => panic!("{other} ({words}) is not checked"),
    };
    assert_eq!(decoded, expected, "{case}");
}

/// A message given as text, or several as a list, whatever the `dataType` of the trigger.
fn check_body(name: &str, body: &Value, request: &InvocationRequest) {
    if let Some(text) = body.as_str() {
        assert_eq!(ServiceBusMessage::decode(request.clone()).unwrap().body, text, "{name}");
        return;
    }
    let Value::Array(batch) = decoded_trigger(request) else { panic!("{name} is no batch") };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let batch: Vec<_> = match name {
        "sb-host-workermanybin" => batch
            .iter()
            .map(|value| String::from_utf8(STANDARD.decode(text(value)).unwrap()).unwrap())
            .collect(),
        _ => batch.iter().map(text).collect(),
    };
    assert_eq!(json!(batch), *body, "{name}");
    assert!(ServiceBusMessage::decode(request.clone()).is_err(), "{name}: a batch is not one message");
}

fn decoded_trigger(request: &InvocationRequest) -> Value {
    request.input(request.data.keys().next().unwrap()).unwrap()
}

/// What the host writes over the metadata from the payload.
fn check_overlay(name: &str, request: &InvocationRequest) {
    let metadata = &request.metadata;
    match name {
        "overlay-typical" => {
            assert_eq!(metadata.text("jobId").as_deref(), Some("j-1"));
            assert_eq!(metadata.integer("n"), Some(5));
            assert_eq!(metadata.text("ok").as_deref(), Some("True"));
            assert_eq!(metadata.object("inner").unwrap()["x"], 1);
            assert_eq!(metadata.get("tags"), None);
            assert_eq!(metadata.get("none"), None);
        }
        "overlay-forge" => {
            assert_eq!(metadata.text("MessageId").as_deref(), Some("evil"));
            assert_eq!(metadata.integer("DeliveryCount"), Some(7));
        }
        "servicebus-shape-string-overlay-on" => {
            assert_eq!(
                ServiceBusMessage::decode(request.clone()).unwrap().hints.message_id.as_deref(),
                Some("evil")
            );
        }
        "servicebus-shape-string-overlay-off" | "servicebus-shape-binary-overlay-off" => {
            let hints = ServiceBusMessage::decode(request.clone()).unwrap().hints;
            assert_eq!(hints.message_id.as_deref(), Some("m-1"));
            assert_eq!(hints.delivery_count, Some(1));
            assert_eq!(hints.sequence_number, Some(17));
            assert_eq!(hints.session_id.as_deref(), Some("s-1"));
            assert_eq!(hints.correlation_id.as_deref(), Some("c-1"));
            assert_eq!(hints.subject.as_deref(), Some("job"));
            assert_eq!(hints.content_type.as_deref(), Some("application/json"));
            assert_eq!(hints.enqueued_at, "2026-06-15T10:00:00Z".parse().ok());
            assert_eq!(hints.application_properties["tenant"], "acme");
        }
        "queue-shape" => {
            let hints = StorageQueueMessage::decode(request.clone()).unwrap().hints;
            assert_eq!(hints.id.as_deref(), Some("52d5"));
            assert_eq!(hints.dequeue_count, Some(1));
            assert_eq!(hints.inserted_at, "2025-02-18T03:06:19Z".parse().ok());
            assert_eq!(hints.expires_at, "2025-02-25T03:06:19Z".parse().ok());
        }
        _ => assert!(name.starts_with("overlay-"), "{name} is not checked"),
    }
}

fn check_event_grid(name: &str, given: &Value, request: &InvocationRequest) {
    let delivered: Value = serde_json::from_str(given["body"].as_str().unwrap()).unwrap();
    if name == "eventgrid-cardinality-many" {
        assert_eq!(decoded_trigger(request).as_array().unwrap().len(), delivered.as_array().unwrap().len());
        assert!(EventGridEvent::decode(request.clone()).is_err());
        return;
    }
    let delivered = match delivered {
        Value::Array(events) => events,
        single => vec![single],
    };
    let event = EventGridEvent::decode(request.clone()).unwrap();
    let original = delivered.iter().find(|original| original["id"].as_str() == event.id()).unwrap();
    let either =
        |one: &str, other: &str| original[one].as_str().or(original[other].as_str()).map(str::to_owned);
    assert_eq!(event.event_type().map(str::to_owned), either("eventType", "type"), "{name}");
    assert_eq!(event.source().map(str::to_owned), either("topic", "source"), "{name}");
    assert_eq!(event.time().map(str::to_owned), either("eventTime", "time"), "{name}");
    assert_eq!(event.subject(), original["subject"].as_str(), "{name}");
    // The host reformats the timestamp in `data`, so only `k` is compared.
    assert_eq!(event.data().unwrap()["k"], original["data"]["k"], "{name}");
}

fn check_timer(name: &str, request: &InvocationRequest) {
    let event = TimerEvent::decode(request.clone()).unwrap();
    assert_eq!(event.is_past_due, name == "timer-tickpast-at-start", "{name}");
    let (last, next) = match name {
        // `useMonitor: false`, and a schedule of seconds.
        "timer-ticknomon-at-start" | "timer-tickfast-at-start" | "timer-tickfast-regular" => {
            assert_eq!(event.schedule_status, None, "{name}");
            return;
        }
        "timer-tickpast-at-start" => (Some("2026-06-15T08:00:00Z"), "2026-06-15T09:00:00Z"),
        "timer-tickstart-at-start" => (None, "2027-01-01T00:00:00Z"),
        "timer-tick5-at-start" | "timer-tick1m-at-start" => (None, "2026-06-15T11:15:00Z"),
        "timer-tick1m-regular" => (Some("2026-06-15T11:15:00.0102822Z"), "2026-06-15T11:16:00Z"),
        other => panic!("{other} is not checked"),
    };
    let status = event.schedule_status.unwrap();
    assert_eq!(status.last, last.map(|time| time.parse().unwrap()), "{name}");
    assert_eq!(status.last_updated, status.last, "{name}");
    assert_eq!(status.next, next.parse().ok(), "{name}");
}

fn check_http(name: &str, given: &Value, request: &InvocationRequest) {
    let http = HttpRequest::decode(request.clone()).unwrap();
    let [method, target, _] = given["clientLine"].as_str().unwrap().split(' ').collect::<Vec<_>>()[..] else {
        panic!("{name}")
    };
    assert_eq!(http.method, method, "{name}");
    assert_eq!(http.url, format!("http://localhost:7071{target}"), "{name}");
    for line in given["clientHeaders"].as_array().unwrap() {
        let (header, value) = line.as_str().unwrap().split_once(": ").unwrap();
        let (_, values) = http.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(header)).unwrap();
        assert!(values.iter().any(|got| got == value), "{name}: {header}");
    }
    if name == "http-default-get-route-optional" {
        assert_eq!(http.query["a"], "1,2");
        assert_eq!(http.params["id"].as_deref(), Some("42"));
        assert_eq!(http.header("X-FUNCTIONS-KEY"), Some("k1"));
    }
    let base64 = given["clientBodyBase64"].as_str().map(|base64| STANDARD.decode(base64).unwrap());
    let sent = base64.unwrap_or_else(|| given["clientBody"].as_str().unwrap_or_default().into());
    match name {
        // The host loses a chunked body.
        "http-default-post-chunked" => assert!(http.body.is_empty()),
        // The host has read the bytes as UTF-8, as far as that goes.
        "http-default-post-binary-as-text" => {
            assert_eq!(http.body, String::from_utf8_lossy(&sent).as_bytes())
        }
        _ => assert_eq!(http.body, sent, "{name}"),
    }
}
