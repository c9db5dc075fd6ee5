//! The conformance cases of the protocol that concern a handler, by their ids (Q: requests, R: responses),
//! through typed registrations. P6 and P9 are in `starting.rs`, P5, P8 and P10 in `processes.rs`; Q11, Q13, Q15,
//! Q16, R9 and A11 in `forwarded.rs`; R3, R4, R10, R12 to R15, R17 and R18 are unit tests of the answers, R22 is
//! in `answers.rs`. The rest is about the host.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use custom_handler::{
    EventGridEvent, Functions, HttpOutput, HttpRequest, Invocation, InvocationRequest, InvocationResponse,
    RetryHint, ServiceBusMessage, StorageQueueMessage, TimerEvent,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::wire::{Answer, exchange, invocation, invoke, serving};

/// A function that keeps what it is called with.
struct Kept<T>(Arc<Mutex<Vec<(T, Invocation)>>>);

impl<T: Debug> Kept<T> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn keep(&self) -> impl Fn(T, Invocation) -> std::future::Ready<Result<(), String>> + Send + Sync + 'static
    where
        T: Send + 'static,
    {
        let kept = Arc::clone(&self.0);
        move |event, invocation| {
            kept.lock().unwrap().push((event, invocation));
            std::future::ready(Ok(()))
        }
    }

    fn one(self) -> (T, Invocation) {
        let mut kept = self.0.lock().unwrap();
        assert_eq!(kept.len(), 1);
        kept.pop().unwrap()
    }
}

fn minimal(answer: &Answer) {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.text(), r#"{"Outputs":{},"Logs":[],"ReturnValue":null}"#);
}

async fn message(data: Value, metadata: Value) -> ServiceBusMessage {
    let kept = Kept::new();
    let running = serving(Functions::new().service_bus("Worker", kept.keep())).await;
    minimal(&invoke(running.port, "Worker", &json!({ "Data": { "msg": data }, "Metadata": metadata })).await);
    kept.one().0
}

#[tokio::test]
async fn q1_a_queue_message_is_decoded_from_both_levels() {
    let kept = Kept::<StorageQueueMessage>::new();
    let running = serving(Functions::new().queue("QueueFn", kept.keep())).await;
    let body = json!({
        "Data": { "myqueueItem": "\"HelloWorld\"" },
        "Metadata": { "DequeueCount": "4", "InsertionTime": "2019-10-01T00:00:00+00:00", "Id": "\"i-1\"" }
    });
    minimal(&invoke(running.port, "QueueFn", &body).await);
    let (message, invocation) = kept.one();
    assert_eq!(message.body, "HelloWorld");
    assert_eq!(message.hints.dequeue_count, Some(4));
    assert_eq!(message.hints.inserted_at, "2019-10-01T00:00:00Z".parse().ok());
    assert_eq!(message.hints.id.as_deref(), Some("i-1"));
    assert_eq!(invocation.function(), "QueueFn");
}

#[tokio::test]
async fn q2_the_invocation_knows_its_id() {
    let kept = Kept::<StorageQueueMessage>::new();
    let running = serving(Functions::new().queue("QueueFn", kept.keep())).await;
    invoke(running.port, "QueueFn", &json!({ "Data": { "in": "\"x\"" }, "Metadata": {} })).await;
    let (_, invocation) = kept.one();
    assert_eq!(invocation.id(), "1d8d4b5e-0000-0000-0000-000000000001");
    assert_eq!(invocation.traceparent(), None);
}

#[tokio::test]
async fn q3_bytes_are_base64_whatever_they_look_like() {
    assert_eq!(message(json!("AQID"), json!({})).await.body[..], [1, 2, 3]);
    // Base64 that is JSON, too.
    assert_eq!(message(json!("1234"), json!({})).await.body[..], [0xd7, 0x6d, 0xf8]);
    assert_eq!(message(json!("true"), json!({})).await.body[..], [0xb6, 0xbb, 0x9e]);
    assert!(message(json!(""), json!({})).await.body.is_empty());
}

#[tokio::test]
async fn q4_text_and_native_objects() {
    assert_eq!(message(json!("\"stringTest\""), json!({})).await.body, "stringTest");
    let request: InvocationRequest = serde_json::from_value(
        json!({ "Data": { "in": { "Name": "TestName", "Id": 1234 } }, "Metadata": {} }),
    )
    .unwrap();
    assert_eq!(request.input("in"), Some(json!({ "Name": "TestName", "Id": 1234 })));
}

/// The host leaves out what ends in "trigger": typed triggers do not count on it.
#[tokio::test]
async fn q5_a_message_needs_no_metadata() {
    assert_eq!(message(json!("\"x\""), json!({})).await.hints, custom_handler::ServiceBusHints::default());
}

#[tokio::test]
async fn q6_an_input_that_found_nothing_is_null() {
    let request: InvocationRequest =
        serde_json::from_value(json!({ "Data": { "in": "\"x\"", "tbl": "null" }, "Metadata": {} })).unwrap();
    assert_eq!(request.input("tbl"), Some(Value::Null));
    assert_eq!(request.metadata.get("absent"), None);
}

fn http_envelope(url: &str, query: Value, body: Option<&str>, content_type: &str) -> Value {
    let mut request = json!({
        "Url": url, "Method": "POST", "Query": query,
        "Headers": { "Host": ["localhost:7071"], "Content-Type": [content_type] },
        "Params": { "id": null }, "Identities": []
    });
    if let Some(body) = body {
        request["Body"] = body.into();
    }
    json!({ "Data": { "req": request }, "Metadata": { "name": "\"test\"" } })
}

async fn http_request(envelope: &Value) -> HttpRequest {
    let kept = Kept::new();
    let running = serving(Functions::new().http_function("SimpleHttpTrigger", kept.keep())).await;
    minimal(&invoke(running.port, "SimpleHttpTrigger", envelope).await);
    kept.one().0
}

#[tokio::test]
async fn q7_an_http_request_in_default_mode() {
    let url = "http://localhost:7071/api/SimpleHttpTrigger?name=test";
    let request = http_request(&http_envelope(url, json!({ "name": "test" }), None, "text/plain")).await;
    assert_eq!(request.url, url);
    assert_eq!(request.query["name"], "test");
    assert_eq!(request.header("host"), Some("localhost:7071"));
    assert_eq!(request.params["id"], None);
    assert!(request.body.is_empty());
}

#[tokio::test]
async fn q8_a_key_in_the_query_does_not_show_in_debug_output() {
    let url = "http://localhost:7071/api/SimpleHttpTrigger?code=topsecret";
    let request = http_request(&http_envelope(url, json!({ "code": "topsecret" }), None, "text/plain")).await;
    assert_eq!(request.query["code"], "topsecret");
    assert!(!format!("{request:?}").contains("topsecret"));
}

#[tokio::test]
async fn q9_a_json_body_stays_raw_text() {
    let body = r#"{"a":1,"b":[1],"c":null,"d":{"x":1}}"#;
    let request = http_request(&http_envelope("http://h/", json!({}), Some(body), "application/json")).await;
    assert_eq!(request.body, body);
}

#[tokio::test]
async fn q10_multipart_and_octet_stream_bodies_are_base64() {
    for content_type in ["application/octet-stream", "Multipart/Form-Data; boundary=x"] {
        let request =
            http_request(&http_envelope("http://h/", json!({}), Some("AAEC/w=="), content_type)).await;
        assert_eq!(request.body[..], [0, 1, 2, 255], "{content_type}");
    }
}

#[tokio::test]
async fn q14_and_r2_an_http_function_with_more_outputs_is_answered_through_them() {
    let answer = |_: HttpRequest, _: Invocation| async {
        let response = InvocationResponse::new()
            .http("res", HttpOutput::text(StatusCode::CREATED, "my world"))
            .output("outq", json!({ "id": 1 }));
        Ok::<_, String>(response)
    };
    let running = serving(Functions::new().http_function("Multi", answer)).await;
    let envelope = http_envelope("http://h/api/multi", json!({}), None, "text/plain");
    let answer = invoke(running.port, "Multi", &envelope).await;
    assert_eq!(
        answer.json(),
        json!({
            "Outputs": { "res": { "statusCode": 201, "headers": {}, "body": "my world" }, "outq": { "id": 1 } },
            "Logs": [], "ReturnValue": null
        })
    );
}

const Q17: &str = r#"{"jobId":"j-1","n":5,"ok":true,"tags":["a"],"inner":{"x":1},"none":null}"#;

#[tokio::test]
async fn q17_a_service_bus_body_decodes_once_to_exactly_the_text() {
    let message = message(json!(json!(Q17).to_string()), json!({ "jobId": "\"j-1\"", "n": "\"5\"" })).await;
    assert_eq!(message.body, Q17);
    assert_eq!(message.json::<Value>().unwrap()["n"], 5);
}

#[tokio::test]
async fn q18_forged_metadata_reach_hints_only() {
    let body = r#"{"MessageId":"evil"}"#;
    let message =
        message(json!(json!(body).to_string()), json!({ "MessageId": "\"evil\"", "DeliveryCount": "\"0\"" }))
            .await;
    assert_eq!(message.body, body);
    assert_eq!(message.hints.message_id.as_deref(), Some("evil"));
    assert_eq!(message.hints.delivery_count, Some(0));
}

#[tokio::test]
async fn q18_metadata_forged_into_other_types_are_absent_and_no_error() {
    let forged = json!({
        "MessageId": { "x": 1 }, "DeliveryCount": "\"-1\"", "EnqueuedTime": "\"06/15/2026 10:00:00\"",
        "ApplicationProperties": "\"x\"", "SequenceNumber": "\"x\"", "RetryContext": "\"x\""
    });
    let message = message(json!("\"{}\""), forged).await;
    assert_eq!(message.hints, custom_handler::ServiceBusHints::default());
}

#[tokio::test]
async fn q19_a_body_that_is_not_json_stays_what_it_is() {
    assert_eq!(message(json!("\"not json\""), json!({})).await.body, "not json");
    assert_eq!(message(json!("\"[1,2]\""), json!({})).await.body, "[1,2]");
    // Encoded once, as older hosts and some fixtures have it.
    assert_eq!(message(json!("not json"), json!({})).await.body, "not json");
}

#[tokio::test]
async fn q20_a_binary_binding_delivers_the_bytes() {
    let message = message(json!("eyJNZXNzYWdlSWQiOiJldmlsIn0="), json!({ "MessageId": "\"m-1\"" })).await;
    assert_eq!(message.body, r#"{"MessageId":"evil"}"#);
    assert_eq!(message.hints.message_id.as_deref(), Some("m-1"));
}

#[tokio::test]
async fn q21_delivery_count_time_and_properties() {
    let metadata = json!({
        "DeliveryCount": "3", "EnqueuedTimeUtc": "2026-06-15T10:00:00", "ApplicationProperties": { "tenant": "acme", "n": 5 }
    });
    let hints = message(json!("\"x\""), metadata).await.hints;
    assert_eq!(hints.delivery_count, Some(3));
    assert_eq!(hints.enqueued_at, "2026-06-15T10:00:00Z".parse().ok());
    assert_eq!(Value::Object(hints.application_properties), json!({ "tenant": "acme", "n": 5 }));
}

async fn tick(timer: Value) -> TimerEvent {
    let kept = Kept::new();
    let running = serving(Functions::new().timer("Tick", kept.keep())).await;
    minimal(&invoke(running.port, "Tick", &json!({ "Data": { "timer": timer }, "Metadata": {} })).await);
    kept.one().0
}

#[tokio::test]
async fn q22_a_timer_event_with_its_status() {
    let event = tick(json!({
        "Schedule": { "AdjustForDST": true },
        "ScheduleStatus": {
            "Last": "2026-06-15T09:55:00.0009+00:00", "Next": "2026-06-15T10:00:00+00:00",
            "LastUpdated": "2026-06-15T09:55:00.0009+00:00"
        },
        "IsPastDue": false
    }))
    .await;
    assert!(!event.is_past_due);
    let status = event.schedule_status.unwrap();
    assert_eq!(status.last, "2026-06-15T09:55:00.0009Z".parse().ok());
    assert_eq!(status.next, "2026-06-15T10:00:00Z".parse().ok());
}

#[tokio::test]
async fn q23_a_timer_event_without_status() {
    assert_eq!(tick(json!({ "ScheduleStatus": null, "IsPastDue": false })).await, TimerEvent::default());
}

#[tokio::test]
async fn q24_a_missed_occurrence_is_past_due() {
    assert!(tick(json!({ "ScheduleStatus": null, "IsPastDue": true })).await.is_past_due);
}

#[tokio::test]
async fn q25_retries_are_counted_by_the_host() {
    let kept = Kept::<StorageQueueMessage>::new();
    let running = serving(Functions::new().queue("Retry", kept.keep())).await;
    let retry =
        json!({ "RetryCount": 1, "MaxRetryCount": 2, "Exception": null, "Instance": null, "State": {} });
    invoke(
        running.port,
        "Retry",
        &json!({ "Data": { "in": "\"x\"" }, "Metadata": { "RetryContext": retry } }),
    )
    .await;
    assert_eq!(kept.one().1.retry(), Some(RetryHint { count: 1, max: Some(2) }));
}

#[tokio::test]
async fn q27_an_event_grid_event_native_or_as_text() {
    let event = json!({ "id": "e1", "eventType": "x.y", "topic": "/t", "subject": "s", "data": { "k": 1 } });
    let encoded_once = json!(event.to_string());
    let encoded_twice = json!(json!(event.to_string()).to_string());
    for data in [event.clone(), encoded_once, encoded_twice] {
        let kept = Kept::<EventGridEvent>::new();
        let running = serving(Functions::new().event_grid("Events", kept.keep())).await;
        minimal(&invoke(running.port, "Events", &json!({ "Data": { "event": data }, "Metadata": {} })).await);
        assert_eq!(kept.one().0.0, event);
    }
}

#[tokio::test]
async fn r1_outputs_logs_and_return_value() {
    let answer = |_: ServiceBusMessage, invocation: Invocation| async move {
        invocation.logs().push("invocation log1");
        invocation.logs().push("invocation log2");
        Ok::<_, String>(
            InvocationResponse::new().output("output1", "output one!").return_value("Hello return"),
        )
    };
    let running = serving(Functions::new().service_bus("Worker", answer)).await;
    let answer = invoke(running.port, "Worker", &json!({ "Data": { "msg": "\"x\"" } })).await;
    assert_eq!(
        answer.json(),
        json!({
            "Outputs": { "output1": "output one!" }, "Logs": ["invocation log1", "invocation log2"],
            "ReturnValue": "Hello return"
        })
    );
}

/// The trap of R1: `output1Value` is base64, too.
#[tokio::test]
async fn r1_an_output_that_would_become_bytes_fails_the_invocation() {
    let answer = |_: ServiceBusMessage, _: Invocation| async {
        Ok::<_, String>(InvocationResponse::new().output("output1", "output1Value"))
    };
    let running = serving(Functions::new().service_bus("Worker", answer)).await;
    let answer = invoke(running.port, "Worker", &json!({ "Data": { "msg": "\"x\"" } })).await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("`output1` as base64"), "{}", answer.text());
}

/// R5 to R7: success has no other form than a JSON object with its content type.
#[tokio::test]
async fn r5_to_r7_success_is_a_json_object() {
    let kept = Kept::<ServiceBusMessage>::new();
    let running = serving(Functions::new().service_bus("Worker", kept.keep())).await;
    minimal(&invoke(running.port, "Worker", &json!({ "Data": { "msg": "\"x\"" } })).await);
}

/// R8 and R21: failure is a status that is not 2xx; the host then abandons the message.
#[tokio::test]
async fn r8_and_r21_an_error_is_500_with_its_text() {
    let fail = |_: ServiceBusMessage, _: Invocation| async { Err::<(), _>("the store is away") };
    let running = serving(Functions::new().service_bus("Worker", fail)).await;
    let answer = invoke(running.port, "Worker", &json!({ "Data": { "msg": "\"x\"" } })).await;
    assert_eq!((answer.status, answer.text()), (500, "the store is away"));
}

#[tokio::test]
async fn a_panic_is_500_and_the_next_invocation_is_served() {
    let panic = |message: ServiceBusMessage, _: Invocation| async move {
        assert!(message.body != "panic", "on purpose");
        Ok::<_, String>(())
    };
    let running = serving(Functions::new().service_bus("Worker", panic)).await;
    let answer = invoke(running.port, "Worker", &json!({ "Data": { "msg": "\"panic\"" } })).await;
    assert_eq!((answer.status, answer.text()), (500, "the function panicked"));
    minimal(&invoke(running.port, "Worker", &json!({ "Data": { "msg": "\"x\"" } })).await);
}

#[tokio::test]
async fn what_no_host_sends_is_400_and_nothing_runs() {
    let kept = Kept::<ServiceBusMessage>::new();
    let running = serving(Functions::new().service_bus("Worker", kept.keep())).await;
    for body in [json!([]), json!({ "Data": 5 }), json!({ "Data": {} }), json!({ "Data": { "msg": 5 } })] {
        assert_eq!(invoke(running.port, "Worker", &body).await.status, 400, "{body}");
    }
    assert!(kept.0.lock().unwrap().is_empty());
}

/// Such errors are logged, and payloads must not be.
#[test]
fn an_error_about_a_payload_does_not_quote_it() {
    let message = ServiceBusMessage::new(r#"{"n":"topsecret"}"#);
    let error = message.json::<std::collections::BTreeMap<String, u8>>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the message is not the expected JSON (other members or types, line 1, column 16)"
    );
}

#[tokio::test]
async fn a_batch_for_a_function_that_takes_one_message_is_400() {
    let kept = Kept::<ServiceBusMessage>::new();
    let running = serving(Functions::new().service_bus("Worker", kept.keep())).await;
    let answer = invoke(running.port, "Worker", &json!({ "Data": { "msg": r#"["a","b"]"# } })).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("cardinality"), "{}", answer.text());
}

#[tokio::test]
async fn an_invocation_of_just_the_limit_runs_and_one_byte_more_is_413() {
    let kept = Kept::<ServiceBusMessage>::new();
    let body = json!({ "Data": { "msg": "\"x\"" }, "Metadata": {} });
    let size = body.to_string().len();
    let running = serving(Functions::new().service_bus("Worker", kept.keep()).invocation_limit(size)).await;
    minimal(&invoke(running.port, "Worker", &body).await);
    let longer = json!({ "Data": { "msg": "\"xy\"" }, "Metadata": {} });
    let answer = invoke(running.port, "Worker", &longer).await;
    assert_eq!(
        (answer.status, answer.text()),
        (413, &*format!("The request body must not be larger than {size} bytes."))
    );
    kept.one();
}

/// A function the host knows and the handler does not is a mistake in deployment, and not the router's.
#[tokio::test]
async fn an_invocation_of_an_unregistered_function_is_404() {
    let router = axum::Router::new().fallback(|| async { "the router" });
    let running = serving(Functions::new().http(router)).await;
    assert_eq!(invoke(running.port, "Worker", &json!({ "Data": {} })).await.status, 404);
}

/// Case `concurrency-200`: the host sends without limit, on a connection each.
#[tokio::test]
async fn two_hundred_parallel_invocations_run_at_once() {
    let all = Arc::new(tokio::sync::Barrier::new(200));
    let wait_for_all = move |_: ServiceBusMessage, _: Invocation| {
        let all = Arc::clone(&all);
        async move {
            all.wait().await;
            Ok::<_, String>(())
        }
    };
    let running = serving(Functions::new().service_bus("Worker", wait_for_all)).await;
    let body = json!({ "Data": { "msg": "\"x\"" } });
    let mut invocations = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (port, body) = (running.port, body.clone());
        invocations.spawn(async move { invoke(port, "Worker", &body).await.status });
    }
    assert_eq!(invocations.join_all().await, vec![200; 200]);
}

/// The host gives up on a connection when it stops; what was begun is finished all the same.
#[tokio::test]
async fn an_invocation_whose_connection_closes_runs_to_its_end() {
    use tokio::io::AsyncWriteExt;
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
    let (go_on, may_go_on) = tokio::sync::watch::channel(false);
    let (done, mut is_done) = tokio::sync::mpsc::channel(1);
    let work = move |_: ServiceBusMessage, _: Invocation| {
        let (begun, done, mut may_go_on) = (begun.clone(), done.clone(), may_go_on.clone());
        async move {
            begun.send(()).await.map_err(|error| error.to_string())?;
            may_go_on.wait_for(|go_on| *go_on).await.map_err(|error| error.to_string())?;
            done.send(()).await.map_err(|error| error.to_string())
        }
    };
    let running = serving(Functions::new().service_bus("Worker", work)).await;
    let request = invocation(running.port, "Worker", &json!({ "Data": { "msg": "\"x\"" } }));
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", running.port)).await.unwrap();
    stream.write_all(&request).await.unwrap();
    has_begun.recv().await.unwrap();
    drop(stream);
    // Round trips in which the server notices the closed connection.
    for _ in 0..3 {
        assert_eq!(exchange(running.port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.status, 200);
    }
    go_on.send(true).unwrap();
    is_done.recv().await.unwrap();
}

#[tokio::test]
async fn the_host_may_keep_its_connection() {
    use tokio::io::AsyncWriteExt;
    let kept = Kept::<ServiceBusMessage>::new();
    let running = serving(Functions::new().service_bus("Worker", kept.keep())).await;
    let request = invocation(running.port, "Worker", &json!({ "Data": { "msg": "\"x\"" } }));
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", running.port)).await.unwrap();
    for _ in 0..3 {
        stream.write_all(&request).await.unwrap();
        minimal(&crate::wire::read_answer(&mut stream, false).await);
    }
    assert_eq!(kept.0.lock().unwrap().len(), 3);
    assert_eq!(exchange(running.port, &request).await.status, 200);
}
