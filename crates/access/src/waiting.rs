//! What waits for people: one partition of table `inbox` that holds the ids of requests which wait for an approval, and
//! of access opened in an emergency that nobody has reviewed. Who may decide what is asked when somebody looks, so a
//! person who joins a group sees what waits for it at once.

use crate::Ajar;
use crate::error::AccessError;
use crate::keys::Key;
use crate::ports::store::{Change, Range, StoreError, Table, scan_all};
use crate::request_id::RequestId;

/// More than people would ever look through.
const MOST_ROWS: usize = 10_000;

/// No person's: an object id has no second part.
fn partition() -> Key {
    Key::new(["waiting", "people"])
}

fn row(id: &RequestId) -> Key {
    Key::new([id.as_str()])
}

/// Lists a request. Written before the request waits: a row too many shows nothing.
pub(crate) async fn list(ajar: &Ajar, id: &RequestId) -> Result<(), AccessError> {
    let put = Change::Put { row: row(id), document: "{\"v\":1}".into() };
    ajar.ports.store.commit(Table::Inbox, &partition(), &[put]).await?;
    Ok(())
}

/// Takes a request off the list.
pub(crate) async fn remove(ajar: &Ajar, id: &RequestId) -> Result<(), AccessError> {
    let Some(found) = ajar.ports.store.get(Table::Inbox, &partition(), &row(id)).await? else {
        return Ok(());
    };
    let change = Change::Delete { row: row(id), etag: found.etag };
    match ajar.ports.store.commit(Table::Inbox, &partition(), &[change]).await {
        Ok(_) | Err(StoreError::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The ids of all that waits.
pub(crate) async fn all(ajar: &Ajar) -> Result<Vec<RequestId>, AccessError> {
    let range = Range::partition(partition());
    let rows = scan_all(ajar.ports.store.as_ref(), Table::Inbox, &range, MOST_ROWS).await?;
    Ok(rows.iter().filter_map(|row| RequestId::parse(row.row.as_str()).ok()).collect())
}
