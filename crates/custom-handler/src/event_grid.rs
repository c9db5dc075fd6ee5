//! `eventGridTrigger`.

use serde_json::Value;

use crate::envelope::{InvocationRequest, decoded};
use crate::trigger::{DecodeError, Trigger};

/// One event of Event Grid, kept as the JSON it is. It has either of two schemas, Event Grid's own or
/// CloudEvents 1.0; the accessors read both. Hosts of some versions reformat timestamps inside `data`.
///
/// The host verifies the subscription handshake and the key of the webhook; each event of a delivery is one
/// invocation, and if any fails the whole delivery comes again.
#[derive(Debug, Clone, PartialEq)]
pub struct EventGridEvent(pub Value);

impl EventGridEvent {
    /// `id`.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.text("id")
    }

    /// `eventType`, which CloudEvents calls `type`.
    #[must_use]
    pub fn event_type(&self) -> Option<&str> {
        self.text("eventType").or_else(|| self.text("type"))
    }

    /// `topic`, which CloudEvents calls `source`.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.text("topic").or_else(|| self.text("source"))
    }

    /// `subject`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.text("subject")
    }

    /// `eventTime`, which CloudEvents calls `time`.
    #[must_use]
    pub fn time(&self) -> Option<&str> {
        self.text("eventTime").or_else(|| self.text("time"))
    }

    /// `data`.
    #[must_use]
    pub fn data(&self) -> Option<&Value> {
        self.0.get("data")
    }

    fn text(&self, member: &str) -> Option<&str> {
        self.0.get(member)?.as_str()
    }
}

impl Trigger for EventGridEvent {
    const BINDING: &'static str = "eventGridTrigger";

    fn decode(request: InvocationRequest) -> Result<Self, DecodeError> {
        let value = match request.trigger().ok_or(DecodeError::NoInput)? {
            Value::String(text) => {
                // A string trigger value is encoded twice; the event is behind both.
                let inner = match decoded(&Value::String(text.clone())) {
                    Value::String(inner) => inner,
                    Value::Array(_) => return Err(DecodeError::Batch),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => text.clone(),
                };
                serde_json::from_str(&inner)
                    .map_err(|source| DecodeError::Shape { event: "Event Grid event", source })?
            }
            native => native.clone(),
        };
        match value {
            Value::Object(_) => Ok(Self(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(DecodeError::NotAMessage)
            }
        }
    }
}
