//! One request to Azure Resource Manager and its answer.

use std::error::Error;
use std::time::Duration;

use ajar_access::correlation;
use ajar_access::metrics::{self, Metric};
use ajar_access::ports::azure::AzureError;
use ajar_access::ports::identity::AuthenticationError;
use jiff::SignedDuration;
use reqwest::header::{HeaderName, IF_MATCH, LOCATION, RETRY_AFTER};
use reqwest::{Method, Url};
use serde_json::Value;
use tracing::Instrument as _;

use crate::failure::{ErrorBody, of_status, unreadable};
use crate::resource_manager::ResourceManager;

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Longest answer that is read: a page of large NSGs is a few MiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
const CORRELATION: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");
const ASYNC_OPERATION: HeaderName = HeaderName::from_static("azure-asyncoperation");

/// A request. It has no retries of its own: whether to repeat depends on what it does.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Sent as JSON.
    pub(crate) body: Option<&'a Value>,
    pub(crate) if_match: Option<&'a str>,
    pub(crate) timeout: Duration,
    /// The resource, for messages.
    pub(crate) what: &'a str,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, url: Url, what: &'a str) -> Self {
        Call { method, url, body: None, if_match: None, timeout: TIMEOUT, what }
    }
}

/// A 2xx answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Null when the body is empty.
    pub(crate) body: Value,
    /// `Azure-AsyncOperation`.
    pub(crate) async_operation: Option<String>,
    /// `Location`.
    pub(crate) location: Option<String>,
}

/// Why there is no 2xx answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The connection failed before an answer began, so a read may be sent again at once.
    unanswered: bool,
    pub(crate) error: AzureError,
}

impl ResourceManager {
    /// Sends `call` once.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Answer, Refusal> {
        let span = tracing::info_span!("arm", method = %call.method, resource = call.what);
        self.exchange(call).instrument(span).await
    }

    async fn exchange(&self, call: &Call<'_>) -> Result<Answer, Refusal> {
        let answered = |error| Refusal { unanswered: false, error };
        let token = self.tokens.token(&self.endpoint.audience()).await.map_err(|error| {
            answered(match error {
                AuthenticationError::Rejected(reason) => AzureError::Forbidden(reason),
                AuthenticationError::Unavailable(reason) => {
                    AzureError::Unavailable { reason, retry_after: None }
                }
            })
        })?;
        let mut request = self
            .client
            .request(call.method.clone(), call.url.clone())
            .timeout(call.timeout)
            .bearer_auth(token);
        if let Some(body) = call.body {
            request = request.json(body);
        }
        if let Some(etag) = call.if_match {
            request = request.header(IF_MATCH, etag);
        }
        // Azure's activity log shows it beside what the request did.
        if let Some(id) = correlation::current() {
            request = request.header(CORRELATION, id.to_string());
        }
        let mut response = request.send().await.map_err(|error| Refusal {
            unanswered: !error.is_timeout() && (error.is_connect() || error.is_request()),
            error: no_answer(call.what, error),
        })?;

        let header = |name: &HeaderName| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (async_operation, location) = (header(&ASYNC_OPERATION), header(&LOCATION));
        let retry_after = header(&RETRY_AFTER).as_deref().and_then(seconds);
        let status = response.status().as_u16();
        match status {
            429 => metrics::count(Metric::ArmThrottled, ""),
            401 | 403 => metrics::count(Metric::ArmForbidden, ""),
            _ => {}
        }

        let mut bytes = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| answered(no_answer(call.what, error)))?
        {
            if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(answered(unreadable(call.what, "the answer is longer than 64 MiB")));
            }
            bytes.extend_from_slice(&chunk);
        }
        let success = (200..300).contains(&status);
        let body = match serde_json::from_slice(&bytes) {
            Ok(body) => body,
            Err(_) if bytes.iter().all(u8::is_ascii_whitespace) || !success => Value::Null,
            Err(_) => return Err(answered(unreadable(call.what, "the answer is not JSON"))),
        };
        if success {
            Ok(Answer { status, body, async_operation, location })
        } else {
            Err(answered(of_status(status, &ErrorBody::read(&body), retry_after, call.what)))
        }
    }

    /// Reads, and reads once more if the connection failed. `what` names the resource in messages.
    pub(crate) async fn get(&self, url: Url, what: &str) -> Result<Value, AzureError> {
        self.send_read(&Call::new(Method::GET, url, what)).await
    }

    /// Sends a call that only reads, and once more if the connection failed.
    pub(crate) async fn send_read(&self, call: &Call<'_>) -> Result<Value, AzureError> {
        let answer = match self.send(call).await {
            Err(refusal) if refusal.unanswered => {
                tracing::debug!(error = %refusal.error, "a read is sent again");
                self.send(call).await
            }
            answer => answer,
        };
        answer.map(|answer| answer.body).map_err(|refusal| refusal.error)
    }
}

/// A transport error with its causes and without its URL, which may carry a signature.
fn no_answer(what: &str, error: reqwest::Error) -> AzureError {
    let error = error.without_url();
    let mut reason = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        reason.push_str(": ");
        reason.push_str(&inner.to_string());
        cause = inner.source();
    }
    AzureError::Unavailable { reason, retry_after: None }
}

/// `Retry-After` in whole seconds, the form Azure Resource Manager uses; an hour at most.
fn seconds(value: &str) -> Option<SignedDuration> {
    value.trim().parse::<u32>().ok().map(|seconds| SignedDuration::from_secs(i64::from(seconds.min(3600))))
}
