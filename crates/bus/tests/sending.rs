//! Sending through the SDK to a broker on this machine: what arrives there, and what its refusals mean.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

use std::sync::{Arc, Mutex};

use ajar_access::ports::bus::{Bus, BusError, Message, Queue};
use ajar_access::ports::identity::{AuthenticationError, Tokens};
use ajar_bus::{Namespace, ServiceBus};
use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

const TOKEN: &str = "open-sesame";

/// Hands out one token for Service Bus, or an error.
struct OneToken(Result<(), fn(String) -> AuthenticationError>);

#[async_trait]
impl Tokens for OneToken {
    async fn token(&self, resource: &str) -> Result<String, AuthenticationError> {
        assert_eq!(resource, "https://servicebus.azure.net");
        match self.0 {
            Ok(()) => Ok(TOKEN.to_owned()),
            Err(error) => Err(error("no token".to_owned())),
        }
    }
}

#[derive(Debug, Clone)]
struct Seen {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: String,
}

struct Broker {
    base: String,
    status: Mutex<u16>,
    seen: Mutex<Vec<Seen>>,
}

impl Broker {
    async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = Arc::new(Broker {
            base: format!("http://{}", listener.local_addr().unwrap()),
            status: Mutex::new(201),
            seen: Mutex::default(),
        });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&broker));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        broker
    }

    fn answers(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn bus(&self) -> ServiceBus {
        self.bus_with(OneToken(Ok(())))
    }

    fn bus_with(&self, tokens: OneToken) -> ServiceBus {
        ServiceBus::new(Namespace::at(&self.base).unwrap(), Arc::new(tokens), reqwest::Client::new())
    }
}

async fn serve(State(broker): State<Arc<Broker>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    broker.seen.lock().unwrap().push(Seen {
        method: parts.method,
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    Response::builder()
        .status(*broker.status.lock().unwrap())
        .header("Retry-After", "7")
        .body(Body::from("<Error><Detail>x</Detail></Error>"))
        .unwrap()
}

fn message(at: Option<&str>) -> Message {
    Message {
        id: "m-1".to_owned(),
        body: r#"{"point":"p","attempt":0}"#.to_owned(),
        at: at.map(|at| at.parse::<Timestamp>().unwrap()),
    }
}

fn properties(seen: &Seen) -> Value {
    serde_json::from_str(seen.headers["brokerproperties"].to_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_message_arrives_with_a_bearer_token_and_no_signature() {
    let broker = Broker::start().await;
    broker.bus().send(Queue::Reconcile, message(None)).await.unwrap();
    let seen = &broker.seen()[0];
    assert_eq!((&seen.method, seen.path.as_str()), (&Method::POST, "/reconcile/messages"));
    let authorization: Vec<_> = seen.headers.get_all("authorization").iter().collect();
    assert_eq!(authorization, [&format!("Bearer {TOKEN}")]);
    assert_eq!(seen.headers["content-type"], "application/json");
    assert_eq!(seen.body, message(None).body);
    assert_eq!(properties(seen), serde_json::json!({ "MessageId": "m-1" }));
}

#[tokio::test]
async fn each_queue_has_its_own_address() {
    let broker = Broker::start().await;
    for queue in [Queue::AccessRequests, Queue::Reconcile, Queue::Notifications, Queue::Parked] {
        broker.bus().send(queue, message(None)).await.unwrap();
    }
    let paths: Vec<_> = broker.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(
        paths,
        ["/access-requests/messages", "/reconcile/messages", "/notifications/messages", "/parked/messages"]
    );
}

#[tokio::test]
async fn a_scheduled_time_is_gmt_in_whole_seconds_and_never_early() {
    let broker = Broker::start().await;
    for (at, expected) in [
        ("2026-11-24T12:00:01Z", "Tue, 24 Nov 2026 12:00:01 GMT"),
        ("2026-11-24T12:00:01.000000001Z", "Tue, 24 Nov 2026 12:00:02 GMT"),
        ("2026-12-31T23:59:59.5Z", "Fri, 01 Jan 2027 00:00:00 GMT"),
    ] {
        broker.bus().send(Queue::Reconcile, message(Some(at))).await.unwrap();
        assert_eq!(properties(broker.seen().last().unwrap())["ScheduledEnqueueTimeUtc"], expected, "{at}");
    }
}

#[tokio::test]
async fn a_time_out_of_all_reason_does_not_panic() {
    let broker = Broker::start().await;
    broker.bus().send(Queue::Reconcile, message(Some("-000500-01-01T00:00:00Z"))).await.unwrap();
    assert!(properties(&broker.seen()[0]).get("ScheduledEnqueueTimeUtc").is_none(), "long past is now");
    let far = Message { at: Some(Timestamp::MAX), ..message(None) };
    let _sent_or_refused = broker.bus().send(Queue::Reconcile, far).await;
}

#[tokio::test]
async fn refusals_are_told_from_outages_and_nothing_is_sent_twice() {
    let broker = Broker::start().await;
    for status in [400, 401, 403, 404, 413] {
        broker.answers(status);
        let outcome = broker.bus().send(Queue::Reconcile, message(None)).await;
        assert!(matches!(outcome, Err(BusError::Refused { .. })), "{status}: {outcome:?}");
    }
    for status in [429, 500, 503] {
        broker.answers(status);
        match broker.bus().send(Queue::Reconcile, message(None)).await {
            Err(BusError::Unavailable { retry_after, reason }) => {
                assert_eq!(retry_after, Some(SignedDuration::from_secs(7)));
                assert!(!reason.contains(TOKEN));
            }
            other => panic!("{status}: {other:?}"),
        }
    }
    assert_eq!(broker.seen().len(), 8);
}

#[tokio::test]
async fn nobody_there_is_an_outage() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let bus =
        ServiceBus::new(Namespace::at(&base).unwrap(), Arc::new(OneToken(Ok(()))), reqwest::Client::new());
    let outcome = bus.send(Queue::Reconcile, message(None)).await;
    assert!(matches!(outcome, Err(BusError::Unavailable { retry_after: None, .. })), "{outcome:?}");
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let broker = Broker::start().await;
    let outcome = broker
        .bus_with(OneToken(Err(AuthenticationError::Unavailable)))
        .send(Queue::Reconcile, message(None))
        .await;
    assert!(matches!(outcome, Err(BusError::Unavailable { .. })), "{outcome:?}");
    let outcome = broker
        .bus_with(OneToken(Err(AuthenticationError::Rejected)))
        .send(Queue::Reconcile, message(None))
        .await;
    assert!(matches!(outcome, Err(BusError::Refused { .. })), "{outcome:?}");
    assert_eq!(broker.seen().len(), 0);
}

#[tokio::test]
async fn what_service_bus_would_refuse_or_misread_is_not_sent() {
    let broker = Broker::start().await;
    let bad = [
        Message { body: "x".repeat(64 * 1024 + 1), ..message(None) },
        Message { id: String::new(), ..message(None) },
        Message { id: "x".repeat(129), ..message(None) },
        Message { id: "a\r\nb".to_owned(), ..message(None) },
        Message { id: "ä".to_owned(), ..message(None) },
    ];
    for message in bad {
        let outcome = broker.bus().send(Queue::Reconcile, message).await;
        assert!(matches!(outcome, Err(BusError::Refused { .. })), "{outcome:?}");
    }
    assert_eq!(broker.seen().len(), 0);
    broker
        .bus()
        .send(Queue::Reconcile, Message { body: "x".repeat(64 * 1024), ..message(None) })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_waited_for_five_seconds() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let bus =
        ServiceBus::new(Namespace::at(&base).unwrap(), Arc::new(OneToken(Ok(()))), reqwest::Client::new());
    let started = tokio::time::Instant::now();
    let send = bus.send(Queue::Reconcile, message(None));
    let outcome = tokio::time::timeout(std::time::Duration::from_secs(60), send).await.unwrap();
    assert!(matches!(outcome, Err(BusError::Unavailable { .. })), "{outcome:?}");
    let waited = started.elapsed().as_secs_f64();
    assert!((4.9..5.5).contains(&waited), "{waited}");
    drop(listener);
}
