//! Timer, every day: sweeps the whole estate.

use ajar_access::Ajar;
use ajar_access::compliance;
use custom_handler::TimerEvent;

/// Fails when the store cannot be reached; the host tells, and the next day or a message begins another.
pub(crate) async fn run(ajar: Ajar, _: TimerEvent) -> Result<(), String> {
    compliance::begin(&ajar).await.map_err(|error| error.log_text())
}
