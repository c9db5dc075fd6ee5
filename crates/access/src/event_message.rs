//! What the function of the queue `vm-events` does with a message.

use crate::Ajar;
use crate::error::AccessError;
use crate::evaluate;
use crate::message;
use crate::ports::bus::{LookMessage, Queue};
use crate::resource_event;
use crate::send;
use jiff::SignedDuration;

/// How long after a failure an event that could not be noted is looked into again.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// Handles a message on [`Queue::VmEvents`]: events as Event Grid sends them, or word of a look that was planned.
/// What cannot be read is parked with the reason, and loses nothing beside it.
///
/// # Errors
/// When an event could be noted neither in the store nor on the bus: the host should deliver the message again.
pub async fn on_event_message(ajar: &Ajar, body: &[u8]) -> Result<(), AccessError> {
    if let Ok(planned) = serde_json::from_slice::<LookMessage>(body) {
        look(ajar, planned).await;
        return Ok(());
    }
    let reading = resource_event::read(body);
    for bad in &reading.unreadable {
        message::park_unreadable(ajar, Queue::VmEvents, bad.text.as_bytes(), &bad.reason).await;
    }
    let mut lost = None;
    for event in &reading.events {
        match evaluate::on_event(ajar, event).await {
            Ok(Some(subject)) => look(ajar, LookMessage { look: subject, attempt: 0 }).await,
            Ok(None) => {}
            Err(error) => {
                // Who did it is lost with the store down; that something happened is not.
                let Some(subject) = event.subject() else { continue };
                let again = LookMessage { look: subject, attempt: 1 };
                let at = ajar.ports.clock.now() + AGAIN;
                tracing::warn!(error = error.log_text(), look = %again.look, "an event could not be noted");
                if !send::send_at(ajar, Queue::VmEvents, &again, Some(at)).await {
                    lost = Some(error);
                }
            }
        }
    }
    lost.map_or(Ok(()), Err)
}

async fn look(ajar: &Ajar, planned: LookMessage) {
    // A repeated try was begun by somebody who could not end it.
    let done = if planned.attempt == 0 {
        evaluate::look(ajar, &planned.look).await
    } else {
        evaluate::look_overdue(ajar, &planned.look).await
    };
    if let Err(error) = done {
        let next = LookMessage { attempt: planned.attempt + 1, ..planned };
        message::again(ajar, Queue::VmEvents, &next, next.attempt, &error).await;
    }
}
