//! `queueTrigger` of Azure Storage.

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::envelope::{InvocationRequest, Metadata};
use crate::message_body::{self, UnexpectedJson};
use crate::trigger::{DecodeError, QueueMessage, Trigger};

/// One message of a Storage queue. Failing makes it visible again; after `maxDequeueCount` attempts
/// (5 unless host.json says otherwise) the host moves it to `<queue>-poison`.
#[derive(Debug, Clone, PartialEq)]
pub struct StorageQueueMessage {
    /// The payload as the sender wrote it, whatever the binding's `dataType`.
    pub body: Bytes,
    /// What the host says about the message: see [`Metadata`] for why these are only hints.
    pub hints: StorageQueueHints,
}

/// What the host says about a Storage queue message; anything absent or unreadable is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StorageQueueHints {
    /// `Id`.
    pub id: Option<String>,
    /// `DequeueCount`: 1 on the first attempt.
    pub dequeue_count: Option<u32>,
    /// `InsertionTime`; whole seconds.
    pub inserted_at: Option<Timestamp>,
    /// `ExpirationTime`; whole seconds.
    pub expires_at: Option<Timestamp>,
}

impl StorageQueueMessage {
    /// A message with this payload and no hints, for a test.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), hints: StorageQueueHints::default() }
    }

    /// The payload read as JSON.
    ///
    /// # Errors
    /// It is not the JSON of a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, UnexpectedJson> {
        message_body::json(&self.body)
    }
}

impl Trigger for StorageQueueMessage {
    const BINDING: &'static str = "queueTrigger";

    fn decode(request: InvocationRequest) -> Result<Self, DecodeError> {
        let body = message_body::decode(request.trigger().ok_or(DecodeError::NoInput)?)?;
        Ok(Self { body, hints: StorageQueueHints::from(&request.metadata) })
    }
}

impl QueueMessage for StorageQueueMessage {}

impl From<&Metadata> for StorageQueueHints {
    fn from(metadata: &Metadata) -> Self {
        Self {
            id: metadata.text("Id"),
            dequeue_count: metadata.integer("DequeueCount").and_then(|count| count.try_into().ok()),
            inserted_at: metadata.timestamp("InsertionTime"),
            expires_at: metadata.timestamp("ExpirationTime"),
        }
    }
}
