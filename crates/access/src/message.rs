//! What the queues' functions do with a message: call the use case, and decide what becomes of the message.
//!
//! A message is never failed on purpose, since the bus would deliver it again at once: what is to be tried
//! again is sent as a scheduled copy, what is given up goes to the `parked` queue. Whatever happens to
//! messages, due rows bring the work back.

use crate::Ajar;
use crate::decide;
use crate::error::AccessError;
use crate::outbox;
use crate::ports::bus::{NotificationMessage, Queue, ReconcileMessage, RequestMessage};
use crate::reconcile::{self, Outcome};
use crate::request_id::RequestId;
use crate::send;
use jiff::SignedDuration;
use serde::Serialize;
use std::fmt::Display;

/// After so many failures a message is parked; what it was about stays due and the sweep goes on.
const MOST_ATTEMPTS: u32 = 8;

/// Handles a message on [`Queue::AccessRequests`].
pub async fn on_request_message(ajar: &Ajar, message: RequestMessage) {
    let Ok(id) = RequestId::parse(&message.request) else {
        return park(ajar, &message, "it names no request").await;
    };
    if let Err(error) = decide::decide(ajar, &id).await {
        let next = RequestMessage { attempt: message.attempt + 1, ..message };
        again(ajar, Queue::AccessRequests, &next, next.attempt, &error).await;
    }
}

/// Handles a message on [`Queue::Reconcile`].
pub async fn on_reconcile_message(ajar: &Ajar, message: ReconcileMessage) {
    match reconcile::reconcile_for(ajar, &message.point, message.moment).await {
        Ok(Outcome::Clean | Outcome::Blind | Outcome::Busy(None)) => {}
        Ok(Outcome::Busy(Some(at))) => {
            send::send_at(ajar, Queue::Reconcile, &message, Some(at)).await;
        }
        Ok(Outcome::Later(wait)) => {
            // It comes for another reason than this one did.
            let next = ReconcileMessage { moment: None, ..message };
            send_or_log(ajar, Queue::Reconcile, &next, Some(wait)).await;
        }
        Err(error) => {
            let next = ReconcileMessage { attempt: message.attempt + 1, ..message };
            again(ajar, Queue::Reconcile, &next, next.attempt, &error).await;
        }
    }
}

/// Handles a message on [`Queue::Notifications`].
pub async fn on_notification_message(ajar: &Ajar, message: NotificationMessage) {
    match outbox::deliver(ajar, &message.place).await {
        Ok(()) => {}
        // Its guard brings it back: a copy now would be one more thing to send while something is down.
        Err(error) if error.is_temporary() => {
            tracing::warn!(error = error.log_text(), "a notification waits for the sweep");
        }
        Err(error) => park(ajar, &message, &error.log_text()).await,
    }
}

/// What was read of a message; one that could not be read is parked and gives nothing.
pub async fn readable<T, E: Display>(
    ajar: &Ajar,
    queue: Queue,
    body: &[u8],
    read: Result<T, E>,
) -> Option<T> {
    match read {
        Ok(message) => Some(message),
        Err(error) => {
            park_unreadable(ajar, queue, body, &error.to_string()).await;
            None
        }
    }
}

/// Parks a message that could not be read: its text is kept for a person to look at.
pub(crate) async fn park_unreadable(ajar: &Ajar, queue: Queue, body: &[u8], reason: &str) {
    #[derive(Serialize)]
    struct Unreadable<'a> {
        queue: &'a str,
        body: String,
    }
    let shown = body.get(..body.len().min(4096)).unwrap_or_default();
    let body = String::from_utf8_lossy(shown).into_owned();
    park(ajar, &Unreadable { queue: queue.name(), body }, reason).await;
}

pub(crate) async fn again(
    ajar: &Ajar,
    queue: Queue,
    next: &impl Serialize,
    attempt: u32,
    error: &AccessError,
) {
    let wait = match error {
        AccessError::Unavailable { retry_after, .. } if attempt <= MOST_ATTEMPTS => {
            // 1, 2, 4 ... seconds, or what was asked for, a minute at most.
            let doubling = SignedDuration::from_secs(1 << attempt.saturating_sub(1).min(6));
            doubling.max(*retry_after).min(SignedDuration::from_mins(1))
        }
        error => return park(ajar, next, &error.log_text()).await,
    };
    tracing::warn!(queue = queue.name(), attempt, error = error.log_text(), "work is tried again later");
    send_or_log(ajar, queue, next, Some(wait)).await;
}

async fn park(ajar: &Ajar, content: &impl Serialize, reason: &str) {
    #[derive(Serialize)]
    struct Parked<'a, T> {
        message: &'a T,
        reason: &'a str,
    }
    tracing::error!(reason, "work was given up and parked; the sweep goes on trying what is still due");
    send_or_log(ajar, Queue::Parked, &Parked { message: content, reason }, None).await;
}

async fn send_or_log(ajar: &Ajar, queue: Queue, content: &impl Serialize, wait: Option<SignedDuration>) {
    send::send_at(ajar, queue, content, wait.map(|wait| ajar.ports.clock.now() + wait)).await;
}
