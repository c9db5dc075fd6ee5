//! Queue `access-requests`: decides an access request and writes its grant.

use ajar_access::Ajar;
use ajar_access::message;
use ajar_access::ports::bus::Queue;
use custom_handler::ServiceBusMessage;
use std::convert::Infallible;

/// Never fails: what cannot be done now is sent again by a scheduled copy.
pub(crate) async fn run(ajar: Ajar, message: ServiceBusMessage) -> Result<(), Infallible> {
    match message.json() {
        Ok(request) => message::on_request_message(&ajar, request).await,
        Err(error) => {
            message::park_unreadable(&ajar, Queue::AccessRequests, &message.body, &error.to_string()).await;
        }
    }
    Ok(())
}
