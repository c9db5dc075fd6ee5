//! Queue `compliance`: begins a sweep over the whole estate on demand, or goes on with one.

use ajar_access::Ajar;
use ajar_access::compliance;
use ajar_access::message;
use ajar_access::ports::bus::Queue;
use custom_handler::ServiceBusMessage;
use std::convert::Infallible;

/// Never fails: what cannot be done now is sent again by a scheduled copy.
pub(crate) async fn run(ajar: Ajar, message: ServiceBusMessage) -> Result<(), Infallible> {
    let read = message::readable(&ajar, Queue::Compliance, &message.body, message.json()).await;
    if let Some(step) = read {
        compliance::on_message(&ajar, step).await;
    }
    Ok(())
}
