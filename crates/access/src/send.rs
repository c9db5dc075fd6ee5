//! Sending word through the bus. A message that is lost only makes its work late: a due row was written before.

use crate::Ajar;
use crate::ports::bus::{Message, Queue, ReconcileMessage, RequestMessage};
use crate::request_id::RequestId;
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// How long before a start or end its message has to be sent for a look at that moment to have seen what it is about,
/// whoever took it: clocks differ by seconds.
const WELL_BEFORE: SignedDuration = SignedDuration::from_secs(10);

/// Sends word that `point` is to be brought to its desired state now.
pub(crate) async fn send_reconcile(ajar: &Ajar, point: &ResourceId) {
    let message = ReconcileMessage { point: point.clone(), moment: None, attempt: 0 };
    send_at(ajar, Queue::Reconcile, &message, None).await;
}

/// Sends word that `point` is to be brought to its desired state at `at`, for what is written there by now: something
/// starts or ends then.
pub(crate) async fn send_reconcile_at(ajar: &Ajar, point: &ResourceId, at: Timestamp) {
    let moment = (ajar.ports.clock.now() + WELL_BEFORE <= at).then_some(at);
    let message = ReconcileMessage { point: point.clone(), moment, attempt: 0 };
    send_at(ajar, Queue::Reconcile, &message, Some(at)).await;
}

/// Sends word that `request` is to be looked at, now or at `at`: decided, opened or reminded of.
pub(crate) async fn send_request(ajar: &Ajar, request: &RequestId, at: Option<Timestamp>) {
    let message = RequestMessage { request: request.as_str().to_owned(), attempt: 0 };
    send_at(ajar, Queue::AccessRequests, &message, at).await;
}

/// Sends, and only logs a failure: the due row written before makes the sweep do it. Returns whether it was sent.
pub(crate) async fn send_at(
    ajar: &Ajar,
    queue: Queue,
    content: &impl Serialize,
    at: Option<Timestamp>,
) -> bool {
    let body = match serde_json::to_string(content) {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, queue = queue.name(), "a message could not be written");
            return false;
        }
    };
    let message = Message { id: ajar.ports.ids.fresh(), body, at };
    let sent = ajar.ports.bus.send(queue, message).await;
    if let Err(error) = &sent {
        tracing::warn!(%error, queue = queue.name(), "a message was not sent; the sweep does its work");
    }
    sent.is_ok()
}
