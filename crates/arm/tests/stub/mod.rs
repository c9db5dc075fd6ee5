//! What the tests of this crate share: a server that answers as it is told, a clock that jumps instead of waiting,
//! and a token.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::{Arc, Mutex};

use ajar_access::ports::clock::Clock;
use ajar_access::ports::identity::{AuthenticationError, Tokens};
use ajar_arm::ResourceManager;
use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub const TOKEN: &str = "open-sesame";
pub const GROUP: &str = "/subscriptions/s1/resourceGroups/rg/providers";

pub fn network_id(kind: &str, name: &str) -> String {
    format!("{GROUP}/Microsoft.Network/{kind}/{name}")
}

/// Time passes only by sleeping.
pub struct JumpingClock(Mutex<Timestamp>);

impl JumpingClock {
    pub fn new() -> Self {
        JumpingClock(Mutex::new(Timestamp::UNIX_EPOCH))
    }

    pub fn since_start(&self) -> SignedDuration {
        self.now().duration_since(Timestamp::UNIX_EPOCH)
    }
}

#[async_trait]
impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, duration: SignedDuration) {
        *self.0.lock().unwrap() += duration;
    }
}

pub struct OneToken;

#[async_trait]
impl Tokens for OneToken {
    async fn token(&self, _: &str) -> Result<String, AuthenticationError> {
        Ok(TOKEN.to_owned())
    }
}

/// A request as the server got it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Value,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

pub fn reply(status: u16, body: Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    Reply { status, headers: Vec::new(), body }
}

pub fn error(status: u16, code: &str) -> Reply {
    reply(status, json!({ "error": { "code": code, "message": format!("message of {code}") } }))
}

impl Reply {
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

type Answer = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A server on this machine; its behaviour can be exchanged while it runs.
pub struct Stub {
    pub base: String,
    seen: Mutex<Vec<Seen>>,
    answer: Mutex<Arc<Answer>>,
}

impl Stub {
    pub async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stub = Arc::new(Stub {
            base: format!("http://{}", listener.local_addr().unwrap()),
            seen: Mutex::default(),
            answer: Mutex::new(Arc::new(|_| error(404, "ResourceNotFound"))),
        });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&stub));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        stub
    }

    pub fn answers(&self, answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self, method: &Method) -> usize {
        self.seen().iter().filter(|seen| seen.method == method).count()
    }
}

async fn serve(State(stub): State<Arc<Stub>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let seen = Seen {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    };
    stub.seen.lock().unwrap().push(seen.clone());
    let answer = Arc::clone(&stub.answer.lock().unwrap());
    let reply = answer(&seen);
    let mut response = Response::builder().status(StatusCode::from_u16(reply.status).unwrap());
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(reply.body)).unwrap()
}

pub struct Fixture {
    pub stub: Arc<Stub>,
    pub clock: Arc<JumpingClock>,
    pub azure: ResourceManager,
}

pub fn azure_at(base: &str) -> (ResourceManager, Arc<JumpingClock>) {
    let clock = Arc::new(JumpingClock::new());
    let client = ResourceManager::client().unwrap();
    (ResourceManager::new(base, Arc::new(OneToken), client, clock.clone()).unwrap(), clock)
}

pub async fn fixture() -> Fixture {
    let stub = Stub::start().await;
    let (azure, clock) = azure_at(&stub.base);
    Fixture { stub, clock, azure }
}
