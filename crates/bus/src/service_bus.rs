//! The bus port over Service Bus.

use std::sync::Arc;

use ajar_access::correlation;
use ajar_access::ports::bus::{Bus, BusError, Message, Queue};
use ajar_access::ports::identity::Tokens;
use async_trait::async_trait;
use azure_core::HttpClient;
use azure_messaging_servicebus::service_bus::{QueueClient, SendMessageOptions, SettableBrokerProperties};
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

use crate::namespace::Namespace;
use crate::sdk_transport::SdkTransport;
use crate::send_failure::SendFailure;

/// Longest body that is sent, in bytes: the port's promise, far below Service Bus's own limit.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Service Bus takes message ids of at most 128 characters.
const MAX_ID_CHARACTERS: usize = 128;

/// Sends to the queues of one Service Bus namespace, as Ajar's own identity.
#[derive(Debug, Clone)]
pub struct ServiceBus {
    transport: Arc<SdkTransport>,
}

impl ServiceBus {
    /// A sender. `client` should have a short connect time-out and follow no redirects; a whole send takes at most
    /// 5 seconds plus the time to get a token.
    pub fn new(namespace: Namespace, tokens: Arc<dyn Tokens>, client: reqwest::Client) -> Self {
        ServiceBus { transport: Arc::new(SdkTransport { namespace, tokens, client }) }
    }
}

#[async_trait]
impl Bus for ServiceBus {
    async fn send(&self, queue: Queue, message: Message) -> Result<(), BusError> {
        check(&message)?;
        // The SDK panics on years before 1900; whatever is that far past is due at once.
        let scheduled = match message.at.filter(|at| *at > Timestamp::UNIX_EPOCH) {
            Some(at) => Some(
                azure_core::date::parse_rfc3339(&whole_second(at)?.to_string())
                    .map_err(|error| refused(error.to_string()))?,
            ),
            None => None,
        };
        let options = SendMessageOptions {
            content_type: Some("application/json".to_owned()),
            broker_properties: Some(SettableBrokerProperties {
                message_id: Some(message.id),
                correlation_id: correlation::current().map(|id| id.to_string()),
                scheduled_enqueue_time_utc: scheduled,
                ..SettableBrokerProperties::default()
            }),
            custom_properties: None,
        };
        // The namespace, policy and key are what the SDK wants for an address and a signature of its own; the
        // transport replaces both.
        let transport: Arc<dyn HttpClient> = self.transport.clone();
        QueueClient::new(transport, "replaced", queue.name(), "unused", "unused")
            .map_err(|error| refused(error.to_string()))?
            .send_message(&message.body, Some(options))
            .await
            .map_err(|error| match error.into_downcast::<SendFailure>() {
                Ok(failure) => failure.into(),
                Err(other) => refused(other.to_string()),
            })
    }

    async fn reach(&self) -> Result<(), BusError> {
        self.transport.reach().await.map_err(BusError::from)
    }
}

fn check(message: &Message) -> Result<(), BusError> {
    if message.body.len() > MAX_BODY_BYTES {
        return Err(refused(format!(
            "the body has {} bytes, {MAX_BODY_BYTES} are the limit",
            message.body.len()
        )));
    }
    // The id travels in a header: anything but visible ASCII would be refused there, or worse, understood.
    let visible = message.id.bytes().all(|byte| byte.is_ascii_graphic());
    if message.id.is_empty() || message.id.len() > MAX_ID_CHARACTERS || !visible {
        return Err(refused(format!(
            "the message id must be 1 to {MAX_ID_CHARACTERS} visible ASCII characters"
        )));
    }
    Ok(())
}

/// A time in whole seconds, which is all that the broker's format holds. Rounded up: a message that comes before
/// the end it was scheduled for would find nothing to close.
fn whole_second(at: Timestamp) -> Result<Timestamp, BusError> {
    at.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil))
        .map_err(|error| refused(error.to_string()))
}

fn refused(reason: String) -> BusError {
    BusError::Refused { reason }
}
