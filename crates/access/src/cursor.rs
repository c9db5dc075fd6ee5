//! What Ajar remembers in table `cursors` for itself: one document in one row, which the last writer wins.

use crate::Ajar;
use crate::document::{Document, decode, encode};
use crate::error::AccessError;
use crate::keys::Key;
use crate::ports::store::{Change, Table};

/// What was left at a place.
pub(crate) async fn read<T: Document>(
    ajar: &Ajar,
    (partition, row): (Key, Key),
) -> Result<Option<T>, AccessError> {
    let row = ajar.ports.store.get(Table::Cursors, &partition, &row).await?;
    row.as_ref().map(decode).transpose()
}

/// Leaves something at a place.
pub(crate) async fn put<T: Document>(
    ajar: &Ajar,
    (partition, row): (Key, Key),
    content: &T,
) -> Result<(), AccessError> {
    let change = Change::Put { row, document: encode(content)? };
    ajar.ports.store.commit(Table::Cursors, &partition, &[change]).await?;
    Ok(())
}
