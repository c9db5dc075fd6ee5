//! Whether the store is the one this deployment has been writing: a store that was wiped has no marker.
//!
//! Absence never opens: without the marker, missing rows say nothing about what is wanted, so nothing is
//! planned from them; only what is past its described end is closed.

use crate::Ajar;
use crate::document::{Document, encode};
use crate::error::AccessError;
use crate::keys::Key;
use crate::ports::store::{Change, StoreError, Table};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Marker {
    since: Timestamp,
}

impl Document for Marker {
    const VERSION: u32 = 1;
    const NAME: &'static str = "store marker";
}

fn partition() -> Key {
    Key::new(["store"])
}

fn row() -> Key {
    Key::new(["marker"])
}

/// Whether the marker is there.
pub(crate) async fn is_present(ajar: &Ajar) -> Result<bool, AccessError> {
    Ok(ajar.ports.store.get(Table::Cursors, &partition(), &row()).await?.is_some())
}

/// Writes the marker if it is missing: called before the first desired state is.
pub(crate) async fn ensure(ajar: &Ajar) -> Result<(), AccessError> {
    if is_present(ajar).await? {
        return Ok(());
    }
    let document = encode(&Marker { since: ajar.ports.clock.now() })?;
    match ajar
        .ports
        .store
        .commit(Table::Cursors, &partition(), &[Change::Insert { row: row(), document }])
        .await
    {
        Ok(_) | Err(StoreError::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
