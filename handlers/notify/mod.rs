//! Queue `notifications`: tells one channel of one thing that happened.

use ajar_access::Ajar;
use ajar_access::message;
use ajar_access::ports::bus::Queue;
use custom_handler::ServiceBusMessage;
use std::convert::Infallible;

/// Never fails: what cannot be delivered now is sent again by a scheduled copy.
pub(crate) async fn run(ajar: Ajar, message: ServiceBusMessage) -> Result<(), Infallible> {
    let read = message::readable(&ajar, Queue::Notifications, &message.body, message.json()).await;
    if let Some(notification) = read {
        message::on_notification_message(&ajar, notification).await;
    }
    Ok(())
}
