//! What callers see when something else fails, and what only the log holds.

use crate::client::{ADA, Server, ask, encoded, policy};
use ajar_access::ports::identity::{AuthenticationError, Authenticator, Caller};
use ajar_access::ports::store::Table;
use ajar_access::testing::World;
use async_trait::async_trait;
use axum::body::Body;
use http::Request;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use tower::ServiceExt;
use tracing_subscriber::fmt::MakeWriter;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;
    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn an_outage_is_503_with_a_time_to_come_back_and_its_reason_only_in_the_log() {
    let server = Server::protected().await;
    let before = server.state();
    server.world.azure.is_down.store(true, Ordering::SeqCst);
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let answer = server.post("/api/requests", "bob", ask("web-1", ADA)).await;
    drop(guard);
    let (message, _) = answer.error(503, "ServiceUnavailable");
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(message.contains("Azure Resource Manager") && !message.contains("made to fail"), "{message}");
    let log = log.text();
    assert_eq!(log.matches("made to fail").count(), 1, "{log}");
    assert!(log.contains("/api/requests") && log.contains("POST") && log.contains("503"), "{log}");
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn a_store_or_role_outage_is_503_as_well() {
    let server = Server::protected().await;
    let before = server.state();
    server.world.store.is_down.store(true, Ordering::SeqCst);
    for uri in ["/api/requests", "/api/policies"] {
        let answer = server.get(uri, "carol").await;
        answer.error(503, "ServiceUnavailable");
        assert!(answer.header("retry-after").is_some());
    }
    server.world.store.is_down.store(false, Ordering::SeqCst);
    server.world.azure.hides_roles.store(true, Ordering::SeqCst);
    server.put("/api/policies", "alice", policy("web-2")).await.error(503, "ServiceUnavailable");
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn a_defect_is_500_and_gives_nothing_away() {
    let server = Server::protected().await;
    let (_, partition, row) =
        server.state_keys(Table::Policies).into_iter().next().expect("the policy of web-1");
    server.world.store.overwrite(Table::Policies, &partition, &row, "{\"secret\":true}".into());
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let answer = server.get(&format!("/api/policies?vm={}", encoded("web-1")), "carol").await;
    drop(guard);
    let (message, target) = answer.error(500, "InternalError");
    assert!(message.contains("log") && !message.contains("version") && target.is_none(), "{message}");
    let log = log.text();
    assert_eq!(log.matches("has no version").count(), 1, "{log}");
    assert!(log.contains("ERROR") && log.contains("/api/policies"), "{log}");
}

struct NoKeys;

#[async_trait]
impl Authenticator for NoKeys {
    async fn authenticate(&self, _: &str) -> Result<Caller, AuthenticationError> {
        Err(AuthenticationError::Unavailable("10.9.9.9 refused the connection".into()))
    }

    async fn ready(&self) -> Result<(), AuthenticationError> {
        self.authenticate("").await.map(drop)
    }
}

#[tokio::test]
async fn without_keys_to_check_tokens_nobody_is_let_in_and_all_are_told_to_come_back() {
    let world = World::new();
    let router = ajar_http_api::router(world.ajar.clone(), Arc::new(NoKeys), Default::default());
    let request = Request::get("/api/requests").header("authorization", "Bearer alice");
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "5");
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    assert!(!String::from_utf8_lossy(&body).contains("10.9.9.9"));
}
