//! What the last clean read-back of an enforcement point showed, for whoever judges or shows it.

use crate::Ajar;
use crate::document::{Document, decode, encode};
use crate::error::AccessError;
use crate::keys::Key;
use crate::point::partition;
use crate::policy::JitPolicy;
use crate::ports::store::{Change, Table};
use ajar_network::plan::{ExistingRules, Note};
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct ReadBack {
    at: Timestamp,
    notes: Vec<Note>,
}

impl Document for ReadBack {
    const VERSION: u32 = 1;
    const NAME: &'static str = "read-back";
}

fn row() -> Key {
    Key::new(["state"])
}

/// Records a clean read-back by itself.
pub(crate) async fn record(
    ajar: &Ajar,
    point: &ResourceId,
    at: Timestamp,
    notes: Vec<Note>,
) -> Result<(), AccessError> {
    ajar.ports.store.commit(Table::Points, &partition(point), &[change(at, notes)?]).await?;
    Ok(())
}

/// A clean read-back as a change of the point's partition in table `points`. The last one to be recorded wins: each
/// describes a state that was seen.
pub(crate) fn change(at: Timestamp, notes: Vec<Note>) -> Result<Change, AccessError> {
    Ok(Change::Put { row: row(), document: encode(&ReadBack { at, notes })? })
}

/// When the last clean read-back of a point began; `None` before the first.
pub(crate) async fn at(ajar: &Ajar, point: &ResourceId) -> Result<Option<Timestamp>, AccessError> {
    let found = ajar.ports.store.get(Table::Points, &partition(point), &row()).await?;
    Ok(found.as_ref().map(decode::<ReadBack>).transpose()?.map(|seen| seen.at))
}

/// Whether rules that a policy respects were last seen to keep it from being fully effective.
pub(crate) async fn is_protected_in_part(ajar: &Ajar, policy: &JitPolicy) -> Result<bool, AccessError> {
    if policy.terms.existing_rules == ExistingRules::Supersede {
        return Ok(false);
    }
    for place in &policy.points {
        let found = ajar.ports.store.get(Table::Points, &partition(&place.point), &row()).await?;
        let Some(seen) = found.as_ref().map(decode::<ReadBack>).transpose()? else { continue };
        let is_respected = seen.notes.iter().any(
            |note| matches!(note, Note::RespectedRules { address, .. } if place.addresses.contains(address)),
        );
        if is_respected {
            return Ok(true);
        }
    }
    Ok(false)
}
