//! Queue `access-requests`: decides an access request and writes its grant.

use ajar_access::Ajar;
use ajar_access::message;
use ajar_access::ports::bus::Queue;
use custom_handler::ServiceBusMessage;
use std::convert::Infallible;

/// Never fails: what cannot be done now is sent again by a scheduled copy.
pub(crate) async fn run(ajar: Ajar, message: ServiceBusMessage) -> Result<(), Infallible> {
    let read = message::readable(&ajar, Queue::AccessRequests, &message.body, message.json()).await;
    if let Some(request) = read {
        message::on_request_message(&ajar, request).await;
    }
    Ok(())
}
