//! Timer, every minute: does what is due, whatever happened to its message.

use ajar_access::Ajar;
use ajar_access::sweep;
use custom_handler::TimerEvent;

/// Fails when neither the store nor Azure can be reached; the next minute tries again.
pub(crate) async fn run(ajar: Ajar, event: TimerEvent) -> Result<(), String> {
    if event.is_past_due {
        tracing::warn!("this sweep is late: the application was not running when it was due");
    }
    sweep::sweep(&ajar).await.map(|_| ()).map_err(|error| error.log_text())
}
