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
    let body = respond["body"].as_str().unwrap_or_default().to_owned();
    if let Some(head) = respond["head"].as_str() {
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut headers: Headers = lines.filter_map(header).collect();
        if headers.iter().any(|(name, _)| name == "Transfer-Encoding") {
            return None;
        }
        // Said by the server, not by the router.
        headers.retain(|(name, _)| !["Content-Length", "Connection", "Keep-Alive"].contains(&name.as_str()));
        return Some((status, headers, body));
    }
    let status = u16::try_from(respond["status"].as_u64()?).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let headers = match respond["headers"].as_array().map(Vec::as_slice) {
        None => Vec::new(),
        Some([Value::String(name), Value::String(value)]) => vec![(name.clone(), value.clone())],
        Some(pairs) => {
            pairs.iter().map(|pair| Some((text(&pair[0])?, text(&pair[1])?))).collect::<Option<_>>()?
        }
    };
    Some((status, headers, body))
}

/// Replays a case and compares what arrives and what goes back; whether the recorded answer is one that can be
/// compared.
async fn replay(case: &Case) -> bool {
    let seen = Seen::default();
    let functions = Functions::new().http(recording(&seen, case)).http_limit(4 * 1024 * 1024);
    let running = serving(functions).await;
    let got = exchange(running.port, &case.bytes(running.port)).await;
    let (line, headers, body) =
        seen.lock().unwrap().take().unwrap_or_else(|| panic!("{} is lost", case.name));
    assert_eq!(line, case.line(), "{}", case.name);
    assert_eq!(body, case.body(), "{}", case.name);
    for (name, value) in case.headers(running.port) {
        assert!(headers.contains(&(name.to_ascii_lowercase(), value)), "{}: {name}", case.name);
    }
    running.task.abort();
    let Some((status, expected, body)) = plain(&case.respond) else { return false };
    assert_eq!(got.status, status, "{}", case.name);
    for (name, value) in expected {
        let header = (name.to_ascii_lowercase(), value);
        assert!(got.headers.contains(&header), "{}: {header:?} is not among {:?}", case.name, got.headers);
    }
    if !case.line().starts_with("HEAD") && status != 204 && status != 304 {
        assert_eq!(got.text(), body, "{}", case.name);
    }
    true
}

async fn replay_named(name: &str) {
    let case = of_kind(Kind::Forwarded).into_iter().find(|case| case.name == name).unwrap();
    assert!(replay(&case).await);
}

#[tokio::test]
async fn every_recorded_forwarded_request_reaches_the_router_unchanged() {
    let (mut replayed, mut answered) = (0, 0);
    for case in of_kind(Kind::Forwarded) {
        answered += usize::from(replay(&case).await);
        replayed += 1;
    }
    assert_eq!((replayed, answered), (100, 88));
}

#[tokio::test]
async fn q11_path_query_and_headers() {
    replay_named("forward-q11").await;
}

#[tokio::test]
async fn q13_the_root_of_an_app_without_prefix() {
    replay_named("forward-root-slash").await;
}

#[tokio::test]
async fn q15_repeated_query_keys_are_joined_by_the_host() {
    replay_named("forward-query-repeated").await;
}

#[tokio::test]
async fn q16_a_body_with_its_length_and_type() {
    replay_named("forward-body-post").await;
}

#[tokio::test]
async fn r9_a_status_of_500_passes_with_its_headers_and_body() {
    replay_named("forward-answer-500").await;
}

/// The router sees it, and must not believe it unless the deployment says that Easy Auth is on.
#[tokio::test]
async fn a11_the_client_principal_header_reaches_the_router_as_it_is() {
    let principal = |request: Request| async move {
        request.headers()["x-ms-client-principal"].to_str().unwrap().to_owned()
    };
    let running = serving(Functions::new().http(Router::new().route("/api/hello", get(principal)))).await;
    let request = b"GET /api/hello HTTP/1.1\r\nHost: h\r\nX-MS-CLIENT-PRINCIPAL: e30=\r\n\r\n";
    assert_eq!(exchange(running.port, request).await.text(), "e30=");
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
