//! Requests and answers as the state machine sees them: no sockets, no time.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use crate::percent;

/// One request, already read whole.
#[derive(Clone, Debug)]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// The path, percent-decoded, starting with `/`.
    pub path: String,
    /// Decoded query parameters, in order.
    pub query: Vec<(String, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, empty if there was none.
    pub body: Bytes,
}

impl Request {
    /// A request without headers or body; `target` is `/path?query`, percent-encoded where needed.
    pub fn new(method: Method, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent::decode(name, true), percent::decode(value, true))
        });
        Self {
            method,
            path: percent::decode(path, false),
            query: pairs.collect(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// The request with a JSON body.
    #[must_use]
    pub fn with_json(mut self, body: &Value) -> Self {
        self.body = Bytes::from(body.to_string());
        self
    }

    /// The request with a bearer token; a token that no header can hold is left out.
    #[must_use]
    pub fn with_bearer(self, token: &str) -> Self {
        self.with_header(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    /// The request with one more header; names and values that HTTP does not allow are left out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            self.headers.insert(name, value);
        }
        self
    }

    /// A query parameter; names compare case-insensitively, as ARM's do.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What an answer carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// `application/json`.
    Json(Value),
    /// `text/plain`.
    Text(String),
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// Headers beside `Content-Type`, which follows from the body.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

impl Response {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Body::Empty }
    }

    /// A JSON answer.
    pub fn json(status: StatusCode, body: Value) -> Self {
        Self { status, headers: HeaderMap::new(), body: Body::Json(body) }
    }

    /// A plain-text answer.
    pub fn text(status: StatusCode, body: String) -> Self {
        Self { status, headers: HeaderMap::new(), body: Body::Text(body) }
    }

    /// The answer with one more header; a value that HTTP does not allow is left out.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// The JSON body; `null` if there is none.
    pub fn value(&self) -> &Value {
        match &self.body {
            Body::Json(value) => value,
            Body::Empty | Body::Text(_) => &Value::Null,
        }
    }

    /// The code of ARM's error envelope, if this is one.
    pub fn error_code(&self) -> Option<&str> {
        self.value().pointer("/error/code").and_then(Value::as_str)
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reaction {
    /// It is answered.
    Answer(Response),
    /// The connection ends without an answer (a fault asked for it). Whether the request took effect
    /// depends on the fault.
    Drop,
}

impl Reaction {
    /// The answer; `None` if the connection was dropped.
    pub fn answer(self) -> Option<Response> {
        match self {
            Self::Answer(response) => Some(response),
            Self::Drop => None,
        }
    }
}

/// An error in ARM's envelope.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<(String, String)>,
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), detail: None, retry_after: None }
    }

    pub(crate) fn bad(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn missing(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// The loud answer for what this simulator does not know: a caller must never mistake it for Azure's.
    pub(crate) fn not_modelled(method: &Method, path: &str, what: &str) -> Self {
        tracing::warn!(%method, path, what, "the Azure simulator does not model this request");
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotModelledBySimulator",
            format!(
                "The local Azure simulator does not model {method} {path} ({what}). Azure itself may well answer it."
            ),
        )
    }

    #[must_use]
    pub(crate) fn with_detail(mut self, code: &str, message: String) -> Self {
        self.detail = Some((code.to_owned(), message));
        self
    }

    #[must_use]
    pub(crate) fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) fn response(&self) -> Response {
        let details: Vec<Value> =
            self.detail.iter().map(|(code, message)| json!({"code": code, "message": message})).collect();
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(error), false) = (error.as_object_mut(), details.is_empty()) {
            error.insert("details".to_owned(), Value::Array(details));
        }
        let response = Response::json(self.status, json!({"error": error}));
        match self.retry_after {
            Some(seconds) => response.with_header("retry-after", &seconds.to_string()),
            None => response,
        }
    }
}
