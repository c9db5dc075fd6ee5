//! `serviceBusTrigger`.

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::envelope::{InvocationRequest, Metadata};
use crate::message_body::{self, UnexpectedJson};
use crate::trigger::{DecodeError, QueueMessage, Trigger};

/// One message of a Service Bus queue or subscription (`cardinality: "one"`). Set `dataType: "binary"` on the
/// trigger: then the payload arrives as the sender wrote it and cannot overwrite the hints.
///
/// A custom handler cannot complete, abandon or dead-letter a message: succeeding completes it, failing
/// abandons it and it comes again at once, up to the queue's `MaxDeliveryCount` times. It can also come again
/// after success, when the lock was lost, so the work must be idempotent.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceBusMessage {
    /// The payload as the sender wrote it, whatever the binding's `dataType`.
    pub body: Bytes,
    /// What the host says about the message: see [`Metadata`] for why these are only hints.
    pub hints: ServiceBusHints,
}

/// What the host says about a Service Bus message; anything absent or unreadable is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceBusHints {
    /// `MessageId`.
    pub message_id: Option<String>,
    /// `SessionId`.
    pub session_id: Option<String>,
    /// `CorrelationId`.
    pub correlation_id: Option<String>,
    /// `Subject`, once called label.
    pub subject: Option<String>,
    /// `ContentType` the sender gave.
    pub content_type: Option<String>,
    /// `DeliveryCount`: 1 on the first attempt.
    pub delivery_count: Option<u32>,
    /// `SequenceNumber`.
    pub sequence_number: Option<i64>,
    /// `EnqueuedTime`; whole seconds.
    pub enqueued_at: Option<Timestamp>,
    /// `ApplicationProperties`; empty when there are none.
    pub application_properties: Map<String, Value>,
}

impl ServiceBusMessage {
    /// A message with this payload and no hints, for a test.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), hints: ServiceBusHints::default() }
    }

    /// The payload read as JSON.
    ///
    /// # Errors
    /// It is not the JSON of a `T`. The message fails, now and on every attempt, until it is dead-lettered.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, UnexpectedJson> {
        message_body::json(&self.body)
    }
}

impl Trigger for ServiceBusMessage {
    const BINDING: &'static str = "serviceBusTrigger";

    fn decode(request: InvocationRequest) -> Result<Self, DecodeError> {
        let body = message_body::decode(request.trigger().ok_or(DecodeError::NoInput)?)?;
        Ok(Self { body, hints: ServiceBusHints::from(&request.metadata) })
    }
}

impl QueueMessage for ServiceBusMessage {}

impl From<&Metadata> for ServiceBusHints {
    fn from(metadata: &Metadata) -> Self {
        Self {
            message_id: metadata.text("MessageId"),
            session_id: metadata.text("SessionId"),
            correlation_id: metadata.text("CorrelationId"),
            subject: metadata.text("Subject"),
            content_type: metadata.text("ContentType"),
            delivery_count: metadata.integer("DeliveryCount").and_then(|count| count.try_into().ok()),
            sequence_number: metadata.integer("SequenceNumber"),
            enqueued_at: metadata.timestamp("EnqueuedTime").or_else(|| metadata.timestamp("EnqueuedTimeUtc")),
            application_properties: metadata.object("ApplicationProperties").cloned().unwrap_or_default(),
        }
    }
}
