//! What whoever is on call looks at: readiness, and one id from a request to what is written in Azure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use end_to_end_tests::{Stack, sample_estate, vm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const BOB: &str = "203.0.113.7";
const ID: &str = "0af76519-16cd-43dd-8448-eb211c80319c";
const SOON: Duration = Duration::from_secs(10);

/// Asks for port 22 of `web-1` as bob, under [`ID`].
async fn ask(stack: &Stack) -> Value {
    let body = json!({ "vm": vm("web-1"), "ports": [{ "port": 22, "sources": [BOB] }], "duration": "PT3S",
        "justification": "INC-42" });
    let call = stack.request(Method::POST, "/api/requests").bearer_auth(stack.token("bob"));
    let answer = call.header("x-ms-client-request-id", ID).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(answer.headers()["x-ms-correlation-request-id"], ID);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn readiness_names_the_store_when_it_is_down() {
    let mut stack = Stack::start().await;
    let ready = stack.call(Method::GET, "/api/ready", None, None).await;
    assert_eq!(ready.status, StatusCode::OK, "{ready:?}\n{}", stack.log());
    let ok = json!({ "azure": "ok", "bus": "ok", "signingKeys": "ok", "store": "ok" });
    assert_eq!(ready.body["dependencies"], ok);

    stack.azurite.stop().await;
    stack
        .eventually("an answer is not given for longer than seconds", SOON, async |stack| {
            stack.call(Method::GET, "/api/ready", None, None).await.status != StatusCode::OK
        })
        .await;
    let down = stack.call(Method::GET, "/api/ready", None, None).await;
    assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE);
    let rest = json!({ "azure": "ok", "bus": "ok", "signingKeys": "ok", "store": "failed" });
    assert_eq!(down.body, json!({ "status": "failed", "dependencies": rest }), "names, and no more");
    assert!(stack.log().contains("a dependency is not ready"), "the reason is in the log");
    assert_eq!(stack.call(Method::GET, "/api/health", None, None).await.status, StatusCode::OK);
    stack.stop().await;
}

#[tokio::test]
async fn one_id_leads_from_the_request_to_both_writes_in_azure_and_no_secret_is_logged() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    let request = ask(&stack).await;
    stack.eventually("closed", SOON * 2, async |stack| stack.status(&request).await == "Closed").await;

    let writes: Vec<String> = stack.azure.with(|azure| {
        let of_request =
            azure.log().filter(|entry| entry.method != "GET" && entry.correlation.as_deref() == Some(ID));
        of_request.map(|entry| entry.method.clone()).collect()
    });
    assert_eq!(
        writes,
        ["PUT", "DELETE"],
        "the rule that opened, and the same one removed by the message at the end"
    );
    let log = stack.log();
    for said in ["access requested", "access granted", "writing a rule", "removing a rule"] {
        let line = log.lines().find(|line| line.contains(said) && line.contains(ID));
        assert!(line.is_some(), "no line {said:?} has the id\n{log}");
    }
    // Compact form of every token here: header, payload and signature, in base64.
    assert!(!log.contains("eyJ"), "a token is in the log");
    assert!(!log.contains("end-to-end\""), "the identity endpoint's secret is in the log");
    stack.stop().await;
}

/// What was posted: paths and bodies.
type Posted = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Takes what is posted to it and answers 200: an OTLP receiver that only looks at bytes.
async fn receiver() -> (String, Posted) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(receive(stream, Arc::clone(&kept)));
        }
    });
    (address, received)
}

async fn receive(mut stream: TcpStream, kept: Posted) {
    let mut bytes = Vec::new();
    while let Ok(count @ 1..) = stream.read_buf(&mut bytes).await {
        let _ = count;
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |length| length.trim().parse().unwrap());
        if bytes.len() < end + 4 + length {
            continue;
        }
        let path = head.split(' ').nth(1).unwrap().to_owned();
        kept.lock().unwrap().push((path, bytes[end + 4..end + 4 + length].to_vec()));
        bytes.drain(..end + 4 + length);
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn an_otlp_receiver_gets_the_metrics_and_the_trace_under_the_requests_id() {
    let (endpoint, received) = receiver().await;
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let stack = Stack::start_with(&sample_estate(), &settings).await;
    stack.protect("web-1").await;
    let request = ask(&stack).await;
    stack.eventually("closed", SOON * 2, async |stack| stack.status(&request).await == "Closed").await;
    stack.host.run_timer("sweep_expired").await.unwrap();

    let has = |path: &str, wanted: &[u8]| {
        let received = received.lock().unwrap();
        received.iter().any(|(of, body)| of == path && body.windows(wanted.len()).any(|part| part == wanted))
    };
    let metrics =
        ["ajar.requests", "ajar.decisions", "ajar.time_to_open", "ajar.sweep.heartbeat", "ajar.sweep.lag"];
    for metric in metrics.into_iter().chain(["ajar.grants.overdue"]) {
        stack.eventually(metric, SOON, async |_| has("/v1/metrics", metric.as_bytes())).await;
    }
    // A trace id travels as its sixteen bytes, a span's name as text.
    let id: Vec<u8> = (0..32)
        .step_by(2)
        .map(|at| u8::from_str_radix(&ID.replace('-', "")[at..at + 2], 16).unwrap())
        .collect();
    stack.eventually("a trace of the request", SOON, async |_| has("/v1/traces", &id)).await;
    stack.eventually("the writes in it", SOON, async |_| has("/v1/traces", b"securityRules")).await;
    stack.stop().await;
}
