//! Every request's correlation id: what ties it to what it causes, in the log and in Azure.

use crate::Api;
use ajar_access::correlation::{self, CorrelationId};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Which id a client calls its request by; Azure's clients send a GUID.
const CLIENT_REQUEST: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// The id under which everything is found that a request caused, as Azure Resource Manager answers it.
const CORRELATION: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Runs a request under the client's id, else under that of the trace it belongs to, else under a fresh one, and
/// answers with it. An id decides nothing, so that two callers may well use one.
pub(crate) async fn correlated(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Some(id) = id_of(request.headers(), || api.ajar().ports.ids.fresh()) else {
        return next.run(request).await;
    };
    let mut response = correlation::within(id, "http", next.run(request)).await;
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(CORRELATION, value);
    }
    response
}

fn id_of(headers: &HeaderMap, fresh: impl Fn() -> String) -> Option<CorrelationId> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
    text(&CLIENT_REQUEST)
        .and_then(|id| CorrelationId::parse(id).ok())
        .or_else(|| text(&TRACEPARENT).and_then(|trace| CorrelationId::of_traceparent(trace).ok()))
        .or_else(|| CorrelationId::parse(&fresh()).ok())
}
