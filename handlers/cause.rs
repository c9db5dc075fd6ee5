//! The correlation id of an invocation.

use ajar_access::correlation::{self, CorrelationId};
use custom_handler::{Invocation, ServiceBusMessage};
use std::future::Future;

/// Handles a message under the id that it brings, which is that of whoever sent it; else under that of the host's
/// trace; else under the invocation's own.
pub(crate) async fn of_message<F: Future>(
    message: ServiceBusMessage,
    invocation: Invocation,
    kind: &'static str,
    work: impl FnOnce(ServiceBusMessage) -> F,
) -> F::Output {
    let brought = message.hints.correlation_id.as_deref().and_then(|id| CorrelationId::parse(id).ok());
    let id = brought
        .or_else(|| invocation.traceparent().and_then(|trace| CorrelationId::of_traceparent(trace).ok()))
        .or_else(|| CorrelationId::parse(invocation.id()).ok());
    correlation::within(id, kind, work(message)).await
}
