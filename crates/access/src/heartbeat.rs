//! When each sweep last did its work, for alerts on one that is missing.

use crate::Ajar;
use crate::cursor;
use crate::document::Document;
use crate::error::AccessError;
use crate::keys::Key;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the last run of a sweep left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// When it ended.
    pub at: Timestamp,
    /// How many things it found to do; none in the normal case.
    pub due: usize,
    /// How many of them failed and stay.
    pub failed: usize,
}

impl Document for Heartbeat {
    const VERSION: u32 = 1;
    const NAME: &'static str = "heartbeat";
}

/// The function name of the minute sweep, under which its heartbeat is kept.
pub const SWEEP_EXPIRED: &str = "sweep_expired";

/// The function name of the daily sweep, under which its heartbeat is kept.
pub const COMPLIANCE_SWEEP: &str = "compliance_sweep";

fn place(sweep: &str) -> (Key, Key) {
    (Key::new(["heartbeat"]), Key::new([sweep]))
}

/// Leaves a heartbeat. That it could not be left is what its absence says.
pub(crate) async fn leave(ajar: &Ajar, sweep: &str, due: usize, failed: usize) {
    let heartbeat = Heartbeat { at: ajar.ports.clock.now(), due, failed };
    tracing::info!(sweep, due, failed, "a sweep ended");
    if let Err(error) = cursor::put(ajar, place(sweep), &heartbeat).await {
        tracing::error!(sweep, error = error.log_text(), "a sweep's heartbeat could not be left");
    }
}

/// The last heartbeat of a sweep.
///
/// # Errors
/// [`AccessError::Unavailable`] when the store is.
pub async fn last(ajar: &Ajar, sweep: &str) -> Result<Option<Heartbeat>, AccessError> {
    cursor::read(ajar, place(sweep)).await
}
