//! Telling people and other systems what happened.

use crate::notification::Notification;
use async_trait::async_trait;
use jiff::SignedDuration;

/// Why a notification did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifierError {
    /// Throttled, unreachable or failing: the same later may arrive. It may have arrived already.
    #[error("the receiver is unavailable: {reason}")]
    Unavailable {
        /// What happened, for the log.
        reason: String,
        /// How long the receiver asked to be left alone.
        retry_after: Option<SignedDuration>,
    },
    /// The receiver does not want it and will not want it later.
    #[error("the receiver refused: {reason}")]
    Refused {
        /// What happened, for the log.
        reason: String,
    },
}

/// One channel to people or to another system.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// The channel's name: lower-case letters, digits and dashes, at most 40. What was noted for a channel is
    /// delivered to the channel of the same name, so it stays the same from release to release.
    fn channel(&self) -> &str;

    /// Delivers one notification, within about ten seconds. The same one may be delivered again: the receiver
    /// tells repeats by [`Notification::id`].
    async fn send(&self, notification: &Notification) -> Result<(), NotifierError>;
}
