//! Queue `vm-events`: looks at what Event Grid says was changed.

use ajar_access::Ajar;
use ajar_access::event_message;
use custom_handler::ServiceBusMessage;

/// Fails only when an event can be noted neither in the store nor on the bus, so that it is delivered again: nothing
/// else would bring it back.
pub(crate) async fn run(ajar: Ajar, message: ServiceBusMessage) -> Result<(), String> {
    event_message::on_event_message(&ajar, &message.body).await.map_err(|error| error.log_text())
}
