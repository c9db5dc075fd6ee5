//! Queue `reconcile`: brings one enforcement point to its desired state.

use ajar_access::Ajar;
use ajar_access::message;
use ajar_access::ports::bus::Queue;
use custom_handler::ServiceBusMessage;
use std::convert::Infallible;

/// Never fails: what cannot be done now is sent again by a scheduled copy.
pub(crate) async fn run(ajar: Ajar, message: ServiceBusMessage) -> Result<(), Infallible> {
    let read = message::readable(&ajar, Queue::Reconcile, &message.body, message.json()).await;
    if let Some(point) = read {
        message::on_reconcile_message(&ajar, point).await;
    }
    Ok(())
}
