//! Client requests through the host's own server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Recorded, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::replay::{Replay, Seen, answer, answers};
use super::{Check, Differences, cases, normalized};
use crate::clock::SystemClock;
use crate::front::{Front, router};
use crate::functions::{self, Function};
use crate::host_json;
use crate::invocation::Invoker;
use crate::log::{Log, LogLine, LogSource};
use crate::newtonsoft;
use crate::service_bus::{QueueOptions, ServiceBus};
use crate::settings::Settings;
use crate::worker::Worker;

/// The app of the recording.
pub(super) fn functions(custom_handler: &str, prefix: &str) -> Vec<Arc<Function>> {
    let settings = Settings::new(Vec::new(), &[]);
    let root = format!(
        r#"{{"version":"2.0",{custom_handler},"extensions":{{"http":{{"routePrefix":"{prefix}"}}}}}}"#
    );
    let root = newtonsoft::parse_file(&root).unwrap();
    let host = host_json::from_json(&root, std::path::Path::new("/app"), &settings).unwrap();
    let http = |route: &str, outputs: Recorded, methods: Recorded| {
        let mut bindings = vec![
            json!({ "type": "httpTrigger", "direction": "in", "name": "req", "authLevel": "anonymous", "route": route, "methods": methods }),
        ];
        bindings.extend(outputs.as_array().unwrap().clone());
        json!({ "bindings": bindings })
    };
    let res = json!([{ "type": "http", "direction": "out", "name": "res" }]);
    let with_queue = json!([
        { "type": "http", "direction": "out", "name": "res" },
        { "type": "queue", "direction": "out", "name": "outq", "queueName": "outq" }
    ]);
    let mut retry = http("retryhttp", res.clone(), Recorded::Null);
    retry["retry"] = json!({ "strategy": "fixedDelay", "maxRetryCount": 2, "delayInterval": "00:00:00" });
    let trigger = |kind: &str| json!({ "type": kind, "direction": "in", "name": "item", "queueName": "q" });
    let mut retry_queue = json!({ "bindings": [trigger("serviceBusTrigger")] });
    retry_queue["retry"] = retry["retry"].clone();
    let catch_all = if prefix.is_empty() { "{*x}" } else { "c/{*x}" };
    let mut all = vec![
        ("A1", http("jobs/{id}", res.clone(), Recorded::Null)),
        ("Admin", http("über/{x}", res.clone(), Recorded::Null)),
        ("B1", http("jobs/search", res.clone(), Recorded::Null)),
        ("Catch", http(catch_all, res.clone(), Recorded::Null)),
        ("Hello", http("hello/{id?}", res.clone(), Recorded::Null)),
        ("Items", http("items/{id:int}/{*rest}", res.clone(), json!(["get", "post"]))),
        ("Multi", http("multi", with_queue.clone(), Recorded::Null)),
        ("MultiRet", http("multiret", json!([with_queue[1]]), Recorded::Null)),
        ("NoOut", http("noout", json!([]), Recorded::Null)),
        (
            "Ret",
            http("ret", json!([{ "type": "http", "direction": "out", "name": "$return" }]), Recorded::Null),
        ),
        ("Retry", retry_queue),
        ("RetryHttp", retry),
    ];
    if prefix.is_empty() {
        all.retain(|(name, _)| *name == "Catch");
    }
    all.into_iter()
        .map(|(name, source)| {
            let source = newtonsoft::parse_file(&source.to_string()).unwrap();
            Arc::new(functions::function(name, source, &host, &settings).unwrap())
        })
        .collect()
}

pub(super) fn invoker(port: u16, log: Log) -> Invoker {
    let queues = ["outsb", "jobs"].map(|name| (name.to_owned(), QueueOptions::default()));
    Invoker {
        worker: Worker::already_running(port),
        bus: ServiceBus::new(queues, Arc::new(SystemClock)),
        function_timeout: None,
        log,
    }
}

pub(super) fn custom_handler(forwarding: bool) -> String {
    format!(
        r#""customHandler":{{"description":{{"defaultExecutablePath":"handler"}},"enableForwardingHttpRequest":{forwarding}}}"#
    )
}

const LEGACY: &str = r#""httpWorker":{"description":{"defaultExecutablePath":"handler"}}"#;

async fn start_front(case: &str, port: u16, log: Log) -> std::net::SocketAddr {
    let kind = case.split('-').next().unwrap();
    let handler = match kind {
        "forward" => custom_handler(true),
        "legacy" => LEGACY.to_owned(),
        _ => custom_handler(false),
    };
    let prefix = if case.starts_with("forward-root") { "" } else { "api" };
    let front = Front {
        functions: functions(&handler, prefix),
        timers: Vec::new(),
        invoker: invoker(port, log),
        keys: None,
        has_homepage: !prefix.is_empty(),
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router(Arc::new(front))).await });
    address
}

fn client_bytes(given: &Recorded) -> Vec<u8> {
    // Header text was recorded as Latin-1: one character per byte.
    let latin1 = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<u8>>();
    let headers: Vec<&str> =
        given["clientHeaders"].as_array().unwrap().iter().map(|h| h.as_str().unwrap()).collect();
    let mut out = latin1(given["clientLine"].as_str().unwrap());
    out.extend_from_slice(b"\r\n");
    let has = |name: &str| headers.iter().any(|header| header.to_lowercase().starts_with(name));
    if !has("host:") {
        out.extend_from_slice(b"Host: localhost:7071\r\n");
    }
    for header in &headers {
        out.extend_from_slice(&latin1(header));
        out.extend_from_slice(b"\r\n");
    }
    let body = match (&given["clientBody"], &given["clientBodyBase64"], &given["clientBodyBytes"]) {
        (Recorded::String(text), _, _) => text.clone().into_bytes(),
        (_, Recorded::String(base64), _) => STANDARD.decode(base64).unwrap(),
        (_, _, Recorded::Number(length)) => vec![b'x'; length.as_u64().unwrap() as usize],
        _ => Vec::new(),
    };
    if given["clientFraming"] == "content-length" && !has("content-length:") {
        out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    if !has("connection:") {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
    out
}

#[derive(Debug)]
struct Answered {
    status: u64,
    headers: Vec<(String, String)>,
    body: String,
}

fn parse_answer(bytes: &[u8]) -> Answered {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    Answered {
        status,
        headers: lines
            .map(|header| header.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: String::from_utf8_lossy(&bytes[end + 4..]).into_owned(),
    }
}

/// Framing and connection headers are each server's own business.
fn comparable(mut headers: Vec<(String, String)>) -> Vec<(String, String)> {
    headers.retain(|(name, _)| {
        !["content-length", "transfer-encoding", "connection", "date"].contains(&name.as_str())
    });
    headers.sort_by(|left, right| left.0.cmp(&right.0));
    headers
}

fn recorded_headers(list: &Recorded) -> Vec<(String, String)> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|pair| (pair[0].as_str().unwrap().to_ascii_lowercase(), pair[1].as_str().unwrap().to_owned()))
        .collect()
}

/// Every identifier but the client's own becomes the recording's first one.
fn with_invocation_id(value: &str) -> String {
    value
        .split(", ")
        .map(|part| match uuid::Uuid::parse_str(part) {
            Ok(_) if !part.starts_with("11111111-") => "00000000-0000-0000-0000-000000000001",
            _ => part,
        })
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn compare_request(
    differences: &mut Differences,
    case: &str,
    recorded: &Recorded,
    ours: &Seen,
    port: u16,
) {
    differences.same(case, "line", recorded["line"].as_str().unwrap(), ours.line.as_str());
    // The HTTP library hands names over in lower case, so the case of names it does not know is lost.
    let headers = ours
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), with_invocation_id(&normalized(value, port))))
        .collect::<Vec<_>>();
    differences.same(case, "headers", recorded_headers(&recorded["headers"]), headers);
    differences.same(case, "framing", recorded["framing"].as_str().unwrap(), ours.framing);
    if let Some(sizes) = recorded["chunkSizes"].as_array() {
        let sizes: Vec<usize> = sizes.iter().map(|size| size.as_u64().unwrap() as usize).collect();
        // The last chunk varies with the digits of the time in it.
        let full = |sizes: &[usize]| (sizes.len(), sizes[..sizes.len() - 2].to_vec());
        differences.same(case, "chunk sizes", full(&sizes), full(&ours.chunk_sizes));
    }
    if let Some(body) = recorded["body"].as_str() {
        let ours = normalized(&String::from_utf8_lossy(&ours.body), port);
        differences.same(case, "body", lowercase_header_names(body), lowercase_header_names(&ours));
    }
    if let Some(body) = recorded["bodyBase64"].as_str() {
        differences.same(case, "body", body.to_owned(), STANDARD.encode(&ours.body));
    }
    if let Some(length) = recorded["bodyBytes"].as_u64() {
        differences.same(case, "body length", length, ours.body.len() as u64);
    }
}

/// See `compare_request`; the envelope repeats header names.
fn lowercase_header_names(body: &str) -> String {
    ["X-Multi", "X-Forwarded-For", "X-MS-CLIENT-PRINCIPAL-NAME", "X-Azure-Functions-InvocationId"]
        .iter()
        .fold(body.to_owned(), |body, name| {
            body.replace(&format!("\"{name}\":"), &format!("\"{}\":", name.to_ascii_lowercase()))
        })
}

/// Deliberate: the real host hangs until functionTimeout here.
fn is_reported_at_once(case: &str) -> bool {
    case == "client-handler-204-hangs" || case == "client-handler-empty-200-hangs"
}

#[tokio::test(flavor = "multi_thread")]
async fn client_requests_reach_the_handler_as_recorded_and_its_answers_the_client() {
    let mut differences = Differences::default();
    let mut replayed = 0;
    let mut respond = json!({ "status": 200, "headers": ["Content-Type", "application/json"],
        "body": r#"{"Outputs":{"res":{"body":"ok"}}}"# });
    for (case, trace) in cases(&Check::Front) {
        let given = &trace["given"];
        if !given["clientLine"].is_string() {
            continue;
        }
        replayed += 1;
        if !trace["respond"].is_null() {
            respond = trace["respond"].clone();
        } else if case.starts_with("http-") {
            respond = json!({ "status": 200, "headers": ["Content-Type", "application/json"],
                "body": r#"{"Outputs":{"res":{"body":"ok"}}}"# });
        }
        if case == "legacy-multi" {
            // Recorded as `{..}`.
            respond["body"] = json!(r#"{"Outputs":{"res":{"body":"ok"}}}"#);
        }
        let replay = Replay::start(answers(&respond)).await;
        let lines = Arc::new(Mutex::new(Vec::<LogLine>::new()));
        let sink = Arc::clone(&lines);
        let log = Log::new(Some(Arc::new(move |line| sink.lock().unwrap().push(line))));
        let front = start_front(case, replay.port, log).await;
        let mut client = TcpStream::connect(front).await.unwrap();
        client.write_all(&client_bytes(given)).await.unwrap();
        // Where the recorded client keeps its connection open, the answer's length tells its end.
        let mut bytes = Vec::new();
        let whole = tokio::time::timeout(Duration::from_secs(10), async {
            while client.read_buf(&mut bytes).await.unwrap() > 0 {
                if case == "forward-connection-keepalive" && bytes.ends_with(b"ok") {
                    break;
                }
            }
        });
        whole.await.unwrap_or_else(|_| panic!("{case}: no answer"));
        // Both servers announce that they want the body when the client asks first.
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        let answered = parse_answer(bytes.strip_prefix(interim.as_slice()).unwrap_or(&bytes));
        let outcome = &trace["outcome"];
        if is_reported_at_once(case) {
            differences.same(case, "status", 500, answered.status);
            continue;
        }
        let seen = replay.seen();
        if trace["request"].is_object() {
            match seen.first() {
                Some(ours) => compare_request(&mut differences, case, &trace["request"], ours, replay.port),
                None => differences.0.push(format!("{case}: the handler got no request")),
            }
        }
        if let Some(count) = outcome["handlerRequests"].as_u64() {
            differences.same(case, "handler requests", count, seen.len() as u64);
        }
        differences.same(case, "status", outcome["clientStatus"].as_u64().unwrap(), answered.status);
        differences.same(
            case,
            "client body",
            outcome["clientBody"].as_str().unwrap_or_default(),
            answered.body.as_str(),
        );
        let mut recorded = comparable(recorded_headers(&outcome["clientHeaders"]));
        if case == "client-header-types" {
            // The real host had written two headers before it gave up; this one decides first.
            recorded.clear();
        }
        differences.same(case, "client headers", recorded, comparable(answered.headers));
        if case == "client-logs-category" {
            let lines = lines.lock().unwrap();
            let logged: Vec<&str> = lines
                .iter()
                .filter(|line| line.source == LogSource::Function)
                .map(|line| line.text.as_str())
                .collect();
            differences.same(case, "logs", vec!["user-line-1", "user-line-2"], logged);
        }
    }
    differences.none();
    assert_eq!(replayed, 219);
}

#[tokio::test]
async fn an_answer_without_content_ends_the_clients_connection() {
    for (case, trace) in cases(&Check::Front) {
        if !case.starts_with("forward-keepalive") {
            continue;
        }
        let replay = Replay::start(answers(&trace["respond"])).await;
        let front = start_front(case, replay.port, Log::new(None)).await;
        let mut client = TcpStream::connect(front).await.unwrap();
        let mut statuses = 0;
        for _ in 0..2 {
            // The second write or read fails when the server has closed.
            if client.write_all(b"GET /api/hello HTTP/1.1\r\nHost: localhost:7071\r\n\r\n").await.is_err() {
                break;
            }
            let mut buffer = [0; 4096];
            match client.read(&mut buffer).await {
                Ok(length) if buffer[..length].starts_with(b"HTTP/1.1 ") => statuses += 1,
                _ => break,
            }
        }
        let recorded = trace["outcome"]["statusLinesReceived"].as_array().unwrap().len();
        assert_eq!(statuses, recorded, "{case}");
    }
}

#[tokio::test]
async fn attempts_of_a_retry_policy_carry_the_recorded_ids_and_counts() {
    for (case, function, is_http) in
        [("retry-http-default-requests", "RetryHttp", true), ("retry-trigger-requests", "Retry", false)]
    {
        let trace = &super::TRACES[case];
        let replay = Replay::start(vec![
            answer(500, &[], b""),
            answer(500, &[], b""),
            answer(200, &[("Content-Type", "application/json")], b"{}"),
        ])
        .await;
        let functions = functions(&custom_handler(false), "api");
        let function = functions.iter().find(|known| known.name == function).unwrap();
        let trigger = crate::invocation::Trigger {
            value: crate::envelope::Value::Text("x".to_owned()),
            binding_data: crate::envelope::BindingData::default(),
            new_id_for_each_attempt: is_http,
        };
        invoker(replay.port, Log::new(None)).invoke(function, &trigger).await.unwrap();
        let seen = replay.seen();
        let recorded = trace["outcome"]["requests"].as_array().unwrap();
        assert_eq!(seen.len(), recorded.len(), "{case}");
        if !is_http {
            let mut differences = Differences::default();
            let recorded = &super::TRACES["retry-trigger"]["request"];
            compare_request(&mut differences, "retry-trigger", recorded, &seen[0], replay.port);
            differences.none();
        }
        let mut ids = Vec::new();
        for (ours, recorded) in seen.iter().zip(recorded) {
            let body: Recorded = serde_json::from_slice(&ours.body).unwrap();
            let context = &body["Metadata"]["RetryContext"];
            for name in ["RetryCount", "MaxRetryCount", "Instance", "State"] {
                assert_eq!(context[name], recorded["RetryContext"][name], "{case} {name}");
            }
            assert_eq!(
                context["Exception"]["ClassName"], recorded["RetryContext"]["Exception"]["ClassName"],
                "{case}"
            );
            ids.push(ours.headers.iter().find(|(name, _)| name.ends_with("InvocationId")).unwrap().1.clone());
        }
        ids.dedup();
        assert_eq!(ids.len(), if is_http { 3 } else { 1 }, "{case}");
    }
}
