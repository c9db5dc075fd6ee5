//! Queue `notifications`: tells one channel of one thing that happened.

use ajar_access::Ajar;
use ajar_access::message;
use ajar_access::ports::bus::Queue;
use custom_handler::ServiceBusMessage;
use std::convert::Infallible;

/// Never fails: what cannot be delivered now is sent again by a scheduled copy.
pub(crate) async fn run(ajar: Ajar, message: ServiceBusMessage) -> Result<(), Infallible> {
    match message.json() {
        Ok(notification) => message::on_notification_message(&ajar, notification).await,
        Err(error) => {
            message::park_unreadable(&ajar, Queue::Notifications, &message.body, &error.to_string()).await;
        }
    }
    Ok(())
}
