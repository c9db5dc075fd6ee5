//! Errors as callers see them. What only the log may hold travels beside the response and is written once.

use ajar_access::error::AccessError;
use ajar_access::ports::identity::AuthenticationError;
use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Serialize;

/// How long a caller is asked to wait while the keys that tokens are checked with cannot be read.
const KEYS_RETRY_SECONDS: i64 = 5;

/// The longest part of a caller's own text that an error repeats, in characters.
const LONGEST_ECHO: usize = 200;

/// A refusal or failure on its way to the caller, in the shape that Azure Resource Manager uses
/// (`ErrorResponse` of Azure's common types); empty fields are left out, as Azure does.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    target: Option<String>,
    header: Option<Header>,
    log: Option<String>,
}

/// The one header that some errors come with.
#[derive(Debug)]
enum Header {
    /// The methods that the path takes.
    Allow(&'static str),
    /// Seconds to wait.
    RetryAfter(i64),
    /// How to authenticate.
    Bearer,
}

impl Header {
    fn to_pair(&self) -> (HeaderName, HeaderValue) {
        match self {
            Header::Allow(methods) => (ALLOW, HeaderValue::from_static(methods)),
            Header::RetryAfter(seconds) => (RETRY_AFTER, HeaderValue::from(*seconds)),
            Header::Bearer => (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        }
    }
}

#[derive(Serialize)]
struct Envelope {
    error: Detail,
}

/// What is said about one error.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Detail {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// What the log is to say about a response.
#[derive(Clone)]
struct ForTheLog(String);

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into(), target: None, header: None, log: None }
    }

    /// The request breaks a rule.
    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn no_such_route(path: &str) -> ApiError {
        let message =
            format!("there is nothing at {}; the routes begin with /api/ or /subscriptions/", echo(path));
        ApiError::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// The `Allow` header is added by the router that knows the methods.
    pub(crate) fn wrong_method(method: &Method, path: &str) -> ApiError {
        let message = format!("{} does not take {}; see the header Allow", echo(path), echo(method.as_str()));
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub(crate) fn allowing(self, methods: &'static str) -> ApiError {
        self.with_header(Header::Allow(methods))
    }

    pub(crate) fn unauthenticated(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "AuthenticationFailed", message).with_header(Header::Bearer)
    }

    /// What the caller is told.
    pub(crate) fn detail(&self) -> Detail {
        Detail { code: self.code, message: self.message.clone(), target: self.target.clone() }
    }

    /// The response with another body, which tells of the error as well.
    pub(crate) fn with_body(self, body: &impl Serialize) -> Response {
        let (mut parts, _) = self.into_response().into_parts();
        parts.headers.remove(http::header::CONTENT_LENGTH);
        (parts, Json(body)).into_response()
    }

    /// Names the field that is wrong.
    pub(crate) fn at(mut self, target: impl Into<String>) -> ApiError {
        self.target = Some(target.into());
        self
    }

    fn with_header(mut self, header: Header) -> ApiError {
        self.header = Some(header);
        self
    }

    fn logged(mut self, log: String) -> ApiError {
        self.log = Some(log);
        self
    }

    fn unavailable(message: String, seconds: i64, log: String) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
            .with_header(Header::RetryAfter(seconds.max(1)))
            .logged(log)
    }
}

/// As much of a caller's text as an error may repeat.
pub(crate) fn echo(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(LONGEST_ECHO).collect()
}

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> ApiError {
        let message = error.to_string();
        let log = error.log_text();
        match error {
            AccessError::Invalid { field, .. } => {
                ApiError::bad_request("InvalidParameter", message).at(field)
            }
            AccessError::Forbidden(_) => {
                ApiError::new(StatusCode::FORBIDDEN, "AuthorizationFailed", message).logged(log)
            }
            AccessError::NotFound(_) => ApiError::new(StatusCode::NOT_FOUND, "NotFound", message),
            AccessError::Conflict { code, .. } => ApiError::new(StatusCode::CONFLICT, code, message),
            AccessError::Unavailable { retry_after, .. } => {
                // A caller that comes back early only comes back again.
                let round_up = i64::from(retry_after.subsec_nanos() > 0);
                ApiError::unavailable(message, retry_after.as_secs() + round_up, log)
            }
            AccessError::Internal { .. } => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message).logged(log)
            }
        }
    }
}

impl From<AuthenticationError> for ApiError {
    fn from(error: AuthenticationError) -> ApiError {
        match error {
            AuthenticationError::Rejected(reason) => ApiError::unauthenticated(reason.clone()).logged(reason),
            AuthenticationError::Unavailable(reason) => ApiError::unavailable(
                format!(
                    "sign-in cannot be checked at the moment. Try again in {KEYS_RETRY_SECONDS} seconds."
                ),
                KEYS_RETRY_SECONDS,
                format!("sign-in keys are unavailable: {reason}"),
            ),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let detail = Detail { code: self.code, message: self.message, target: self.target };
        let mut response = (self.status, Json(Envelope { error: detail })).into_response();
        if let Some((name, value)) = self.header.as_ref().map(Header::to_pair) {
            response.headers_mut().insert(name, value);
        }
        if let Some(log) = self.log {
            response.extensions_mut().insert(ForTheLog(log));
        }
        response
    }
}

/// Runs outside every route: writes what the log is to hold, and forbids caches to keep what only this caller
/// may see.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    let status = response.status();
    if let Some(ForTheLog(reason)) = response.extensions_mut().remove() {
        let code = status.as_u16();
        match status {
            StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!(%method, path, status = code, reason, "a request failed");
            }
            status if status.is_server_error() => {
                tracing::warn!(%method, path, status = code, reason, "a request failed for now");
            }
            _ => tracing::info!(%method, path, status = code, reason, "a request was refused"),
        }
    }
    if path != "/api/health" {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
