//! Clients that steer a forwarded request onto the path of a function.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use custom_handler::{Functions, Invocation, ServiceBusMessage};
use serde_json::{Value, json};

use crate::recorded::{Case, Kind, cases, of_kind};
use crate::wire::{Answer, Logged, exchange, invocation, logged, serving};

/// `Worker`, which counts how often it runs, behind a router as the recorded app had it.
fn worker(runs: &Arc<AtomicUsize>) -> Functions {
    let runs = Arc::clone(runs);
    Functions::new().http(Router::new().route("/api/hello", get(|| async { "hello" }))).service_bus(
        "Worker",
        move |_: ServiceBusMessage, _: Invocation| {
            runs.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, String>(()) }
        },
    )
}

async fn attack(request: impl FnOnce(u16) -> Vec<u8>) -> (Answer, usize, Logged) {
    let logged = logged();
    let runs = Arc::default();
    let running = serving(worker(&runs)).await;
    let answer = exchange(running.port, &request(running.port)).await;
    (answer, runs.load(Ordering::Relaxed), logged)
}

fn attacks(logged: &Logged) -> Vec<Value> {
    let is_attack = |record: &Value| record["message"].as_str().unwrap().starts_with("attack");
    logged.records().into_iter().filter(is_attack).collect()
}

async fn refused(name: &str, expected_evidence: Option<&str>) {
    let case = of_kind(Kind::Traversal).into_iter().find(|case| case.name == name).unwrap();
    let (answer, runs, logged) = attack(|port| case.bytes(port)).await;
    assert_eq!((answer.status, runs), (404, 0), "{name}");
    let evidence: Vec<_> = attacks(&logged).iter().map(|record| record["evidence"].clone()).collect();
    assert_eq!(evidence, expected_evidence.map(Value::from).into_iter().collect::<Vec<_>>(), "{name}");
}

/// A request that the recorded host refused itself: as another host might pass it on.
fn as_if_passed_on(case: &Case, port: u16) -> Vec<u8> {
    let given = &case.given;
    let body = given["clientBody"].as_str().unwrap();
    let headers: String = given["clientHeaders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| format!("{}\r\n", line.as_str().unwrap()))
        .collect();
    format!(
        "{}\r\nHost: 127.0.0.1:{port}\r\n{headers}User-Agent: Azure-Functions-Host/4.1037.0.0\r\n\
         Content-Length: {}\r\n\r\n{body}",
        given["clientLine"].as_str().unwrap(),
        body.len()
    )
    .into_bytes()
}

async fn refused_if_passed_on(name: &str) {
    let case = of_kind(Kind::Traversal).into_iter().find(|case| case.name == name).unwrap();
    assert_eq!(case.outcome["handlerRequests"], 0);
    let (answer, runs, _) = attack(|port| as_if_passed_on(&case, port)).await;
    assert_eq!((answer.status, runs), (404, 0), "{name}");
}

#[tokio::test]
async fn forward_traversal_backslash_param() {
    refused("forward-traversal-backslash-param", Some("framing")).await;
}

#[tokio::test]
async fn forward_traversal_backslash_catchall() {
    refused("forward-traversal-backslash-catchall", Some("framing")).await;
}

#[tokio::test]
async fn forward_traversal_double_encoded_dots() {
    refused("forward-traversal-double-encoded-dots", Some("framing")).await;
}

#[tokio::test]
async fn forward_traversal_double_encoded_mixed() {
    refused("forward-traversal-double-encoded-mixed", Some("framing")).await;
}

/// Lands on `/api/`, which the router does not know.
#[tokio::test]
async fn forward_traversal_double_encoded_dots_param() {
    refused("forward-traversal-double-encoded-dots-param", None).await;
}

/// Lands on `POST /`, which is not the probe.
#[tokio::test]
async fn forward_traversal_backslash_ping() {
    refused("forward-traversal-backslash-ping", None).await;
}

#[tokio::test]
async fn forward_traversal_encoded_dots() {
    refused_if_passed_on("forward-traversal-encoded-dots").await;
}

#[tokio::test]
async fn forward_traversal_plain_dots() {
    refused_if_passed_on("forward-traversal-plain-dots").await;
}

#[test]
fn there_are_no_further_traversal_cases() {
    assert_eq!(of_kind(Kind::Traversal).len(), 8);
}

/// What the whole defence rests on.
#[test]
fn the_recorded_host_never_forwarded_a_chunked_request_and_never_invoked_otherwise() {
    for case in of_kind(Kind::Forwarded).iter().chain(&of_kind(Kind::Traversal)) {
        if case.request.is_object() {
            assert!(
                case.headers(1).iter().all(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding")),
                "{}",
                case.name
            );
        }
    }
    let chunked_client = cases().into_iter().find(|case| case.name == "forward-chunked-body").unwrap();
    assert_eq!(chunked_client.outcome["handlerRequests"], 0);
    assert_eq!(chunked_client.outcome["clientStatus"], 500);
}

/// The best a client could do if its every header reached the handler unchanged and alone.
#[tokio::test]
async fn an_otherwise_perfect_forgery_with_a_content_length_is_refused() {
    let (answer, runs, logged) = attack(|port| {
        let forged =
            String::from_utf8(invocation(port, "Worker", &json!({ "Data": { "msg": "\"x\"" } }))).unwrap();
        let (head, _) = forged.split_once("\r\n\r\n").unwrap();
        let head = head.replace("Transfer-Encoding: chunked", "Content-Length: 2");
        format!("{head}\r\n\r\n{{}}").into_bytes()
    })
    .await;
    assert_eq!((answer.status, runs), (404, 0));
    assert_eq!(answer.text(), "");
    let [record] = &attacks(&logged)[..] else { panic!("one attack is one record") };
    assert_eq!(record["level"], "WARN");
    assert_eq!(record["function"], "Worker");
    assert_eq!(record["evidence"], "framing");
}

/// hyper takes Transfer-Encoding over Content-Length, as it must, and hides the latter: such a request is
/// chunked, which no forwarded request is, so it passes. Noticed here if that ever changes.
#[tokio::test]
async fn a_content_length_beside_chunked_does_not_change_the_framing() {
    let (answer, runs, _) = attack(|port| {
        let request =
            String::from_utf8(invocation(port, "Worker", &json!({ "Data": { "msg": "\"x\"" } }))).unwrap();
        request
            .replace("Transfer-Encoding: chunked", "Content-Length: 2\r\nTransfer-Encoding: chunked")
            .into_bytes()
    })
    .await;
    assert_eq!((answer.status, runs), (200, 1));
}

#[tokio::test]
async fn other_spellings_of_a_functions_path_do_not_reach_it() {
    for path in ["/worker", "/Worker/", "//Worker", "/%57orker", "/./Worker", "/Worker%20"] {
        let (answer, runs, _) = attack(|port| {
            let request =
                String::from_utf8(invocation(port, "Worker", &json!({ "Data": { "msg": "\"x\"" } })))
                    .unwrap();
            request.replacen("/Worker", path, 1).into_bytes()
        })
        .await;
        assert_eq!((answer.status, runs), (404, 0), "{path}");
    }
}

/// The probe and the router are open to everybody, a function's path to nobody else, whatever the method.
#[tokio::test]
async fn other_methods_on_a_functions_path_are_refused() {
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let (answer, runs, logged) = attack(|port| {
            format!("{method} /Worker HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").into_bytes()
        })
        .await;
        assert_eq!((answer.status, runs), (404, 0), "{method}");
        assert_eq!(attacks(&logged).len(), 1, "{method}");
    }
}
