//! Calls to a router over a world in memory.

use crate::schema;
use ajar_access::ports::bus::{Message, Queue};
use ajar_access::ports::store::Table;
use ajar_access::testing::{FakeAuthenticator, World, vm};
use ajar_http_api::{FrontEnd, router};
use axum::Router;
use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tower::ServiceExt;

pub(crate) const ADA: &str = "203.0.113.7";
pub(crate) const NEIGHBOUR: &str = "203.0.113.8";
pub(crate) const WEB_1: &str = "10.0.0.4";

pub(crate) struct Server {
    pub(crate) world: World,
    router: Router,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// All that a refusal must leave alone.
#[derive(Debug, PartialEq)]
pub(crate) struct State {
    store: BTreeMap<(Table, String, String), String>,
    rules: Vec<Vec<Value>>,
    messages: Vec<(Queue, Message)>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body, having checked the status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self.json()
    }

    /// Checks an error: status, code, and that nothing but the envelope is said. Returns message and target.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, code: &str) -> (String, Option<String>) {
        let body = self.expect(status);
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let error = body["error"].as_object().expect("an error");
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        assert_eq!(error["code"], code, "{body}");
        assert!(error.keys().all(|key| ["code", "message", "target"].contains(&key.as_str())), "{body}");
        let message = error["message"].as_str().unwrap().to_owned();
        assert!(!message.is_empty());
        (message, error.get("target").map(|target| target.as_str().unwrap().to_owned()))
    }
}

impl Server {
    pub(crate) fn new() -> Server {
        Server::behind(FrontEnd::Untrusted)
    }

    pub(crate) fn behind(front_end: FrontEnd) -> Server {
        let world = World::new();
        let router = router(world.ajar.clone(), Arc::new(FakeAuthenticator), front_end);
        Server { world, router }
    }

    /// `web-1` has a policy for port 22, in force.
    pub(crate) async fn protected() -> Server {
        let server = Server::new();
        server.put("/api/policies", "alice", policy("web-1")).await.expect(200);
        server.world.deliver().await;
        server
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        };
        if path.to_lowercase().starts_with("/subscriptions") {
            schema::check(&method, &path, answer.status.as_u16(), &answer.text);
        }
        answer
    }

    pub(crate) async fn call(&self, method: &str, uri: &str, user: &str, body: Option<Value>) -> Answer {
        let request =
            Request::builder().method(method).uri(uri).header(AUTHORIZATION, format!("Bearer {user}"));
        let request = match body {
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send(request.unwrap()).await
    }

    pub(crate) async fn get(&self, uri: &str, user: &str) -> Answer {
        self.call("GET", uri, user, None).await
    }

    pub(crate) async fn put(&self, uri: &str, user: &str, body: Value) -> Answer {
        self.call("PUT", uri, user, Some(body)).await
    }

    pub(crate) async fn post(&self, uri: &str, user: &str, body: Value) -> Answer {
        self.call("POST", uri, user, Some(body)).await
    }

    pub(crate) async fn delete(&self, uri: &str, user: &str) -> Answer {
        self.call("DELETE", uri, user, None).await
    }

    /// A body sent as it is.
    pub(crate) async fn raw(&self, method: &str, uri: &str, kind: Option<&str>, body: Vec<u8>) -> Answer {
        let mut request = Request::builder().method(method).uri(uri).header(AUTHORIZATION, "Bearer alice");
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// Where a table's rows are.
    pub(crate) fn state_keys(&self, table: Table) -> Vec<(Table, String, String)> {
        self.world.store.contents().into_keys().filter(|(of, ..)| *of == table).collect()
    }

    pub(crate) fn state(&self) -> State {
        State {
            store: self.world.store.contents(),
            rules: ["web-nsg", "first-nsg", "second-nsg"].map(|name| self.world.azure.rules(name)).into(),
            messages: self.world.bus.waiting(),
        }
    }
}

pub(crate) fn policy(name: &str) -> Value {
    json!({ "vm": vm(name).as_str(), "ports": [{ "port": 22, "maximumDuration": "PT2H" }] })
}

pub(crate) fn ask(name: &str, source: &str) -> Value {
    json!({
        "vm": vm(name).as_str(),
        "ports": [{ "port": 22, "sources": [source] }],
        "duration": "PT1H",
        "justification": "INC-42",
    })
}

/// A query that names a VM, percent-encoded.
pub(crate) fn encoded(name: &str) -> String {
    vm(name).as_str().replace('/', "%2F")
}
