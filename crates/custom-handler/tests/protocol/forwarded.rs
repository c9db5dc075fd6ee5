//! Forwarded HTTP requests reach the router as the host sent them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request};
use axum::response::Response;
use axum::routing::{get, post};
use custom_handler::Functions;
use serde_json::Value;

use crate::recorded::{Case, Kind, of_kind};
use crate::wire::{exchange, logged, serving};

type Headers = Vec<(String, String)>;
type Seen = Arc<Mutex<Option<(String, Headers, Bytes)>>>;

/// A router that keeps what it gets and answers what the recorded handler did.
fn recording(seen: &Seen, case: &Case) -> Router {
    let (seen, respond) = (Arc::clone(seen), case.respond.clone());
    Router::new().fallback(move |request: Request| {
        let (seen, respond) = (Arc::clone(&seen), respond.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let headers = head.headers.iter();
            let headers =
                headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
            *seen.lock().unwrap() =
                Some((format!("{} {} {:?}", head.method, head.uri, head.version), headers, body));
            answer(&respond)
        }
    })
}

fn answer(respond: &Value) -> Response {
    let Some((status, headers, body)) = plain(respond) else { return Response::new(Body::empty()) };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Body::from(body)).unwrap()
}

/// Recorded answers that are a status, headers and a body; the others are about connections.
fn plain(respond: &Value) -> Option<(u16, Headers, String)> {
    let status = u16::try_from(respond["status"].as_u64()?).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let headers = match respond["headers"].as_array().map(Vec::as_slice) {
        None => Vec::new(),
        Some([Value::String(name), Value::String(value)]) => vec![(name.clone(), value.clone())],
        Some(pairs) => {
            pairs.iter().map(|pair| Some((text(&pair[0])?, text(&pair[1])?))).collect::<Option<_>>()?
        }
    };
    Some((status, headers, respond["body"].as_str().unwrap_or_default().to_owned()))
}

#[tokio::test]
async fn every_recorded_forwarded_request_reaches_the_router_unchanged() {
    let (mut replayed, mut answered) = (0, 0);
    for case in of_kind(Kind::Forwarded) {
        let seen = Seen::default();
        let functions = Functions::new().http(recording(&seen, &case)).http_limit(4 * 1024 * 1024);
        let running = serving(functions).await;
        let got = exchange(running.port, &case.bytes(running.port)).await;
        let (line, headers, body) =
            seen.lock().unwrap().take().unwrap_or_else(|| panic!("{} is lost", case.name));
        assert_eq!(line, case.line(), "{}", case.name);
        assert_eq!(body, case.body(), "{}", case.name);
        for (name, value) in case.headers(running.port) {
            assert!(headers.contains(&(name.to_ascii_lowercase(), value)), "{}: {name}", case.name);
        }
        replayed += 1;
        if let Some((status, expected, body)) = plain(&case.respond) {
            assert_eq!(got.status, status, "{}", case.name);
            for (name, value) in expected {
                assert_eq!(got.header(&name), Some(&*value), "{}", case.name);
            }
            if !case.line().starts_with("HEAD") && status != 204 && status != 304 {
                assert_eq!(got.text(), body, "{}", case.name);
            }
            answered += 1;
        }
        running.task.abort();
    }
    assert_eq!(replayed, 100);
    assert_eq!(answered, 72);
}

fn post_of(length: usize) -> Vec<u8> {
    let mut request =
        format!("POST /api/hello HTTP/1.1\r\nHost: localhost:7071\r\nContent-Length: {length}\r\n\r\n")
            .into_bytes();
    request.resize(request.len() + length, b'x');
    request
}

fn counting() -> Router {
    Router::new().route("/api/hello", post(|body: Bytes| async move { body.len().to_string() })).route(
        "/api/small",
        post(|body: Bytes| async move { body.len().to_string() }).layer(DefaultBodyLimit::max(10)),
    )
}

#[tokio::test]
async fn a_body_of_just_the_limit_passes_and_one_byte_more_is_413_with_a_message() {
    let running = serving(Functions::new().http(counting())).await;
    let got = exchange(running.port, &post_of(1024 * 1024)).await;
    assert_eq!((got.status, got.text()), (200, "1048576"));
    let got = exchange(running.port, &post_of(1024 * 1024 + 1)).await;
    assert_eq!((got.status, got.text()), (413, "The request body must not be larger than 1048576 bytes."));
}

/// axum's own limit of 2 MiB does not get in the way of a higher one.
#[tokio::test]
async fn a_higher_limit_holds_for_extractors_too() {
    let running = serving(Functions::new().http(counting()).http_limit(5_000_000)).await;
    assert_eq!(exchange(running.port, &post_of(5_000_000)).await.text(), "5000000");
    assert_eq!(exchange(running.port, &post_of(5_000_001)).await.status, 413);
}

/// Not something the host does, but a local tool may.
#[tokio::test]
async fn a_chunked_body_above_the_limit_is_413() {
    let running = serving(Functions::new().http(counting()).http_limit(100)).await;
    let mut request =
        b"POST /api/hello HTTP/1.1\r\nHost: localhost:7071\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    request.extend(crate::wire::chunked(&[b'x'; 101], &[60, 41]));
    assert_eq!(exchange(running.port, &request).await.status, 413);
}

#[tokio::test]
async fn a_route_can_have_a_lower_limit() {
    let running = serving(Functions::new().http(counting())).await;
    let request =
        b"POST /api/small HTTP/1.1\r\nHost: localhost:7071\r\nContent-Length: 11\r\n\r\n01234567890";
    assert_eq!(exchange(running.port, request).await.status, 413);
}

#[tokio::test]
async fn without_a_router_a_forwarded_request_is_404() {
    let running = serving(Functions::new()).await;
    assert_eq!(exchange(running.port, &post_of(1)).await.status, 404);
}

#[tokio::test]
async fn a_panicking_route_is_500_and_the_next_request_is_served() {
    let logged = logged();
    let router = Router::new()
        .route(
            "/api/panics",
            get(|| async {
                if true {
                    panic!("on purpose")
                }
            }),
        )
        .route("/api/works", get(|| async { "works" }));
    let running = serving(Functions::new().http(router)).await;
    let request = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-Azure-Functions-InvocationId: client, host-id\r\n\r\n")
            .into_bytes()
    };
    assert_eq!(exchange(running.port, &request("/api/panics")).await.status, 500);
    assert_eq!(exchange(running.port, &request("/api/works")).await.text(), "works");
    let failed: Vec<_> = logged.records().into_iter().filter(|record| record["level"] == "ERROR").collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["invocation_id"], "host-id");
}
