//! Sending work to queues. Receiving is the Functions host's part.

use crate::outbox::OutboxPlace;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// The queues that Ajar sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Access requests to be decided: [`RequestMessage`].
    AccessRequests,
    /// Enforcement points to be brought to their desired state: [`ReconcileMessage`].
    Reconcile,
    /// What people are to be told: [`NotificationMessage`].
    Notifications,
    /// Events about resources, as Event Grid sends them, and Ajar's own [`LookMessage`]s among them.
    VmEvents,
    /// Sweeps over the whole estate: [`ComplianceMessage`].
    Compliance,
    /// Work that was given up, for a person to look at.
    Parked,
}

impl Queue {
    /// The queue's name on Service Bus.
    pub fn name(self) -> &'static str {
        match self {
            Queue::AccessRequests => "access-requests",
            Queue::Reconcile => "reconcile",
            Queue::Notifications => "notifications",
            Queue::VmEvents => "vm-events",
            Queue::Compliance => "compliance",
            Queue::Parked => "parked",
        }
    }
}

/// Body of a message on [`Queue::AccessRequests`]: which stored request to decide. It carries no authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestMessage {
    /// Id of the stored request.
    pub request: String,
    /// How often this work has been tried before; 0 at first.
    #[serde(default)]
    pub attempt: u32,
}

/// Body of a message on [`Queue::Reconcile`]: which enforcement point to look at. It carries no authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReconcileMessage {
    /// Resource id of the enforcement point.
    pub point: ajar_network::resource_id::ResourceId,
    /// The start or end that it was sent for well before: a clean read-back for this moment or a later one has done what
    /// it comes for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<Timestamp>,
    /// How often this work has been tried before; 0 at first.
    #[serde(default)]
    pub attempt: u32,
}

/// Body of a message on [`Queue::Notifications`]: which stored notification to deliver. It carries no authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationMessage {
    /// Where it is stored.
    pub place: OutboxPlace,
}

/// Body of Ajar's own messages on [`Queue::VmEvents`]: which resource to look at. It carries no authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookMessage {
    /// Resource id of a VM, or of something that decides its packets.
    pub look: ajar_network::resource_id::ResourceId,
    /// How often this work has been tried before; 0 at first.
    #[serde(default)]
    pub attempt: u32,
}

/// Body of a message on [`Queue::Compliance`]: `{}` begins a sweep over the whole estate. It carries no authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComplianceMessage {
    /// The sweep to go on with; a new one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// How often this work has been tried before; 0 at first.
    #[serde(default)]
    pub attempt: u32,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Message id, for logs and duplicate detection.
    pub id: String,
    /// JSON text, at most 64 KiB.
    pub body: String,
    /// When the message becomes visible; at once when absent or past.
    pub at: Option<Timestamp>,
}

/// Why a message was not sent. What it was about is in the store, so the sweep does it later.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Throttled, unreachable or failing.
    #[error("the message bus is unavailable: {reason}")]
    Unavailable {
        /// What happened, for the log.
        reason: String,
        /// How long the bus asked to be left alone.
        retry_after: Option<SignedDuration>,
    },
    /// The bus refused it and will refuse it again: wrong queue name, missing permission, too large.
    #[error("the message bus refused the message: {reason}")]
    Refused {
        /// What happened, for the log.
        reason: String,
    },
}

/// Service Bus, or something that behaves like it.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Sends one message, with the [current](crate::correlation::current) correlation id beside it.
    async fn send(&self, queue: Queue, message: Message) -> Result<(), BusError>;

    /// Whether the bus answers, without sending anything.
    async fn reach(&self) -> Result<(), BusError>;
}
