//! The HTTP face of the bus, as Azure's REST API and `azure_messaging_servicebus` speak it.
//!
//! | Request | Effect |
//! |---|---|
//! | `POST /{queue}/messages` | send one message, or a batch with `application/vnd.microsoft.servicebus.json` |
//! | `DELETE /{queue}/messages/head` | receive and delete; 204 when empty |
//! | `POST /{queue}/messages/head` | peek-lock; 201 with `Location`, 204 when empty |
//! | `DELETE`, `PUT`, `POST /{queue}/messages/{id}/{lock}` | complete, unlock, renew |
//!
//! The real API has no request that cancels a scheduled message (only AMQP has), so this one has none either.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use bytes::Bytes;
use http_body_util::BodyExt;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::service_bus::{Delivery, LockLost, MAX_MESSAGE_BYTES, NoSuchQueue, OutgoingMessage, ServiceBus};

const BATCH_TYPE: &str = "application/vnd.microsoft.servicebus.json";
const BROKER_PROPERTIES: &str = "brokerproperties";
/// How long a receive waits when the request does not say, as the real API does.
const DEFAULT_RECEIVE_TIMEOUT: Duration = Duration::from_secs(60);

/// Decides whether a bearer token may use the bus. It gets the token without `Bearer `.
pub type TokenCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

#[derive(Clone)]
struct Surface {
    bus: ServiceBus,
    is_token_valid: TokenCheck,
}

pub(crate) fn router(bus: ServiceBus, is_token_valid: TokenCheck) -> Router {
    Router::new()
        .route("/{queue}/messages", post(send))
        .route("/{queue}/messages/head", delete(receive_and_delete).post(peek_lock))
        .route("/{queue}/messages/{id}/{lock}", delete(complete).put(unlock).post(renew))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "no such resource"))
        .layer(DefaultBodyLimit::disable())
        .with_state(Surface { bus, is_token_valid })
}

/// An error answer in the API's XML form.
struct Refusal {
    status: StatusCode,
    detail: String,
}

impl Refusal {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let detail = self.detail.replace('&', "&amp;").replace('<', "&lt;");
        let code = self.status.as_u16();
        let body = format!("<Error><Code>{code}</Code><Detail>{detail}</Detail></Error>");
        (self.status, [(header::CONTENT_TYPE, "application/xml; charset=utf-8")], body).into_response()
    }
}

impl Surface {
    /// The checks every request passes: the bus is up, the caller is known, the queue exists.
    fn admit(&self, headers: &HeaderMap, queue: &str) -> Result<(), Refusal> {
        if self.bus.is_down() {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The server was unable to process the request; please retry the operation.",
            ));
        }
        let is_admitted = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .is_some_and(|(_, token)| (self.is_token_valid)(token.trim()));
        if !is_admitted {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "InvalidToken: send 'Authorization: Bearer' with a token for https://servicebus.azure.net",
            ));
        }
        if !self.bus.has_queue(queue) {
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                format!("The messaging entity '{queue}' could not be found."),
            ));
        }
        Ok(())
    }
}

async fn send(
    State(surface): State<Surface>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    surface.admit(request.headers(), &queue)?;
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?
        .to_bytes();
    if body.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format!("The message is larger than {MAX_MESSAGE_BYTES} bytes, the limit of the Standard tier."),
        ));
    }
    let content_type = text_header(&parts.headers, header::CONTENT_TYPE.as_str());
    let is_batch = content_type.as_deref().is_some_and(|value| {
        value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(BATCH_TYPE)
    });
    let messages = if is_batch { batch(&body)? } else { vec![single(&parts.headers, content_type, body)?] };
    surface
        .bus
        .send(&queue, messages)
        .map_err(|error| Refusal::new(StatusCode::NOT_FOUND, error.to_string()))?;
    let created = (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/xml; charset=utf-8")]);
    Ok(created.into_response())
}

fn text_header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn single(
    headers: &HeaderMap,
    content_type: Option<String>,
    body: Bytes,
) -> Result<OutgoingMessage, Refusal> {
    let properties = match text_header(headers, BROKER_PROPERTIES) {
        Some(text) => serde_json::from_str(&text).map_err(|error| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                format!("BrokerProperties is not the expected JSON: {error}"),
            )
        })?,
        None => BrokerProperties::default(),
    };
    let mut message = properties.into_message(body)?;
    message.content_type = content_type;
    message.properties = headers
        .iter()
        .filter(|(name, _)| is_custom(name.as_str()))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?)))
        .map(|(name, value)| (name, value.trim_matches('"').to_owned()))
        .collect();
    Ok(message)
}

/// Headers that are neither HTTP's own nor a client library's; the API takes them as custom properties.
fn is_custom(name: &str) -> bool {
    const STANDARD: [&str; 14] = [
        "accept",
        "accept-encoding",
        "authorization",
        "brokerproperties",
        "connection",
        "content-length",
        "content-type",
        "date",
        "expect",
        "host",
        "traceparent",
        "tracestate",
        "transfer-encoding",
        "user-agent",
    ];
    !STANDARD.contains(&name) && !name.starts_with("x-ms-")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchItem {
    body: String,
    #[serde(default)]
    broker_properties: BrokerProperties,
    #[serde(default)]
    user_properties: Map<String, Value>,
}

fn batch(body: &[u8]) -> Result<Vec<OutgoingMessage>, Refusal> {
    let items: Vec<BatchItem> = serde_json::from_slice(body).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("the batch is not the expected JSON array: {error}"))
    })?;
    items
        .into_iter()
        .map(|item| {
            let mut message = item.broker_properties.into_message(Bytes::from(item.body))?;
            message.properties = item
                .user_properties
                .into_iter()
                .map(|(name, value)| match value {
                    Value::String(text) => (name, text),
                    other => (name, other.to_string()),
                })
                .collect();
            Ok(message)
        })
        .collect()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BrokerProperties {
    message_id: Option<String>,
    correlation_id: Option<String>,
    session_id: Option<String>,
    label: Option<String>,
    reply_to: Option<String>,
    to: Option<String>,
    reply_to_session_id: Option<String>,
    partition_key: Option<String>,
    content_type: Option<String>,
    /// Seconds.
    time_to_live: Option<f64>,
    /// RFC 1123.
    scheduled_enqueue_time_utc: Option<String>,
}

impl BrokerProperties {
    fn into_message(self, body: Bytes) -> Result<OutgoingMessage, Refusal> {
        let scheduled = self
            .scheduled_enqueue_time_utc
            .map(|text| {
                parse_rfc1123(&text).ok_or_else(|| {
                    Refusal::new(
                        StatusCode::BAD_REQUEST,
                        format!("ScheduledEnqueueTimeUtc '{text}' is not an RFC 1123 date"),
                    )
                })
            })
            .transpose()?;
        let time_to_live = self
            .time_to_live
            .map(|seconds| {
                Duration::try_from_secs_f64(seconds)
                    .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("TimeToLive: {error}")))
            })
            .transpose()?;
        Ok(OutgoingMessage {
            body,
            message_id: self.message_id,
            scheduled,
            time_to_live,
            content_type: self.content_type,
            correlation_id: self.correlation_id,
            label: self.label,
            to: self.to,
            reply_to: self.reply_to,
            session_id: self.session_id,
            reply_to_session_id: self.reply_to_session_id,
            partition_key: self.partition_key,
            properties: Vec::new(),
        })
    }
}

fn parse_rfc1123(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

fn rfc1123(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn receive_timeout(query: Option<&str>) -> Duration {
    query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == "timeout")
        .and_then(|(_, value)| value.parse().ok())
        .map_or(DEFAULT_RECEIVE_TIMEOUT, Duration::from_secs)
}

async fn receive(
    surface: &Surface,
    queue: &str,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Option<Delivery>, Refusal> {
    surface.admit(headers, queue)?;
    let not_found = |error: NoSuchQueue| Refusal::new(StatusCode::NOT_FOUND, error.to_string());
    if let Some(delivery) = surface.bus.try_receive(queue).map_err(not_found)? {
        return Ok(Some(delivery));
    }
    match tokio::time::timeout(receive_timeout(query), surface.bus.receive(queue)).await {
        Ok(delivery) => delivery.map(Some).map_err(not_found),
        Err(_) => Ok(None),
    }
}

async fn receive_and_delete(
    State(surface): State<Surface>,
    Path(queue): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    match receive(&surface, &queue, &headers, query.as_deref()).await? {
        Some(delivery) => {
            // A lost completion is an injected fault; the message then comes again, as the fault wants.
            let _ = surface.bus.complete(&queue, delivery.token);
            Ok(message_answer(StatusCode::OK, &delivery, None))
        }
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

async fn peek_lock(
    State(surface): State<Surface>,
    Path(queue): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let host = text_header(&headers, header::HOST.as_str()).unwrap_or_default();
    match receive(&surface, &queue, &headers, query.as_deref()).await? {
        Some(delivery) => {
            let location = format!(
                "http://{host}/{queue}/messages/{}/{}",
                delivery.message.sequence_number, delivery.token
            );
            Ok(message_answer(StatusCode::CREATED, &delivery, Some(location)))
        }
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

fn message_answer(status: StatusCode, delivery: &Delivery, location: Option<String>) -> Response {
    let message = &delivery.message;
    let life = message.expires.duration_since(message.enqueued).as_secs_f64();
    let properties = serde_json::json!({
        "DeliveryCount": message.delivery_count,
        "EnqueuedSequenceNumber": 0,
        "EnqueuedTimeUtc": rfc1123(message.enqueued),
        "LockToken": delivery.token.to_string(),
        "LockedUntilUtc": rfc1123(delivery.locked_until),
        "MessageId": message.message_id,
        "SequenceNumber": message.sequence_number,
        "State": "Active",
        "TimeToLive": life,
    });
    let mut response = Response::builder().status(status).header("BrokerProperties", properties.to_string());
    if let Some(location) = location {
        response = response.header(header::LOCATION, location);
    }
    if let Some(content_type) = &message.sent.content_type {
        response = response.header(header::CONTENT_TYPE, content_type);
    }
    for (name, value) in &message.sent.properties {
        response = response.header(name, format!("\"{value}\""));
    }
    response.body(Body::from(message.sent.body.clone())).unwrap_or_else(|error| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
    })
}

/// Queue, sequence number or message id (not looked at, as in Azure the lock decides), lock token.
type LockPath = Path<(String, String, String)>;

fn settle(
    surface: &Surface,
    headers: &HeaderMap,
    (queue, lock): (&str, &str),
    act: impl FnOnce(&ServiceBus, &str, Uuid) -> Result<(), LockLost>,
) -> Result<StatusCode, Refusal> {
    surface.admit(headers, queue)?;
    Uuid::parse_str(lock)
        .map_err(|_| LockLost)
        .and_then(|lock| act(&surface.bus, queue, lock))
        .map(|()| StatusCode::OK)
        .map_err(|error| Refusal::new(StatusCode::NOT_FOUND, error.to_string()))
}

async fn complete(
    State(surface): State<Surface>,
    Path((queue, _, lock)): LockPath,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    settle(&surface, &headers, (&queue, &lock), ServiceBus::complete)
}

async fn unlock(
    State(surface): State<Surface>,
    Path((queue, _, lock)): LockPath,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    settle(&surface, &headers, (&queue, &lock), ServiceBus::abandon)
}

async fn renew(
    State(surface): State<Surface>,
    Path((queue, _, lock)): LockPath,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    settle(&surface, &headers, (&queue, &lock), ServiceBus::renew)
}
