//! What whoever is on call looks at: readiness, and one id from a request to what is written in Azure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use end_to_end_tests::receiver::Receiver;
use end_to_end_tests::{Stack, sample_estate, vm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

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

#[tokio::test]
async fn an_otlp_receiver_gets_the_metrics_and_the_trace_under_the_requests_id() {
    let receiver = Receiver::start().await;
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.address.as_str()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let stack = Stack::start_with(&sample_estate(), &settings).await;
    stack.protect("web-1").await;
    let request = ask(&stack).await;
    stack.eventually("closed", SOON * 2, async |stack| stack.status(&request).await == "Closed").await;
    stack.host.run_timer("sweep_expired").await.unwrap();

    let has = |path: &str, wanted: &[u8]| {
        let mut posts = receiver.posts().into_iter();
        posts.any(|post| post.path == path && post.body.windows(wanted.len()).any(|part| part == wanted))
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
