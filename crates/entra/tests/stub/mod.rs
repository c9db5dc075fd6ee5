//! What the tests of this crate share: a clock set by hand, and a server that answers as it is told.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::{Arc, Mutex};

use ajar_access::ports::clock::Clock;
use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};

pub struct HandClock(Mutex<Timestamp>);

impl HandClock {
    pub fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(HandClock(Mutex::new(now)))
    }

    pub fn advance(&self, by: SignedDuration) {
        *self.0.lock().unwrap() += by;
    }
}

#[async_trait]
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, duration: SignedDuration) {
        self.advance(duration);
    }
}

/// A request as the server got it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
}

type Answer = dyn Fn(&Seen) -> (StatusCode, String) + Send + Sync;

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
            answer: Mutex::new(Arc::new(|_| (StatusCode::NOT_FOUND, String::new()))),
        });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&stub));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        stub
    }

    pub fn answers(&self, answer: impl Fn(&Seen) -> (StatusCode, String) + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path == path).count()
    }
}

async fn serve(State(stub): State<Arc<Stub>>, request: Request) -> (StatusCode, String) {
    let seen = Seen {
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
    };
    stub.seen.lock().unwrap().push(seen.clone());
    let answer = Arc::clone(&stub.answer.lock().unwrap());
    answer(&seen)
}
