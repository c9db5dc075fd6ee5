//! Queue `compliance`: begins a sweep over the whole estate on demand, or goes on with one.

use ajar_access::Ajar;
use ajar_access::compliance;
use ajar_access::message;
use ajar_access::ports::bus::Queue;
use custom_handler::ServiceBusMessage;
use std::convert::Infallible;

/// Never fails: what cannot be done now is sent again by a scheduled copy.
pub(crate) async fn run(ajar: Ajar, message: ServiceBusMessage) -> Result<(), Infallible> {
    match message.json() {
        Ok(step) => compliance::on_message(&ajar, step).await,
        Err(error) => {
            message::park_unreadable(&ajar, Queue::Compliance, &message.body, &error.to_string()).await;
        }
    }
    Ok(())
}
