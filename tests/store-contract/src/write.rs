//! Short ways to write changes, so that a promise reads as what it promises.

use ajar_access::keys::Key;
use ajar_access::ports::store::{Change, Etag, Range, Row, Store, StoreError, Table, scan_all};

/// The table of promises that need only one.
pub(crate) const TABLE: Table = Table::Grants;

pub(crate) fn key(part: &str) -> Key {
    Key::new([part])
}

pub(crate) fn insert(row: &str, document: &str) -> Change {
    Change::Insert { row: key(row), document: document.to_owned() }
}

pub(crate) fn replace(row: &str, document: &str, etag: &Etag) -> Change {
    Change::Replace { row: key(row), document: document.to_owned(), etag: etag.clone() }
}

pub(crate) fn put(row: &str, document: &str) -> Change {
    Change::Put { row: key(row), document: document.to_owned() }
}

pub(crate) fn delete(row: &str, etag: &Etag) -> Change {
    Change::Delete { row: key(row), etag: etag.clone() }
}

/// Applies one change to partition `partition` of [`TABLE`]; the new etag, or an empty one for a deletion.
pub(crate) async fn change(store: &dyn Store, partition: &str, change: Change) -> Result<Etag, StoreError> {
    let deletes = matches!(change, Change::Delete { .. });
    let etags = store.commit(TABLE, &key(partition), &[change]).await?;
    assert_eq!(etags.len(), 1, "one change has one answer");
    assert_eq!(etags[0].is_none(), deletes, "exactly deletions answer no etag");
    Ok(etags.into_iter().flatten().next().unwrap_or(Etag(String::new())))
}

pub(crate) async fn get(store: &dyn Store, partition: &str, row: &str) -> Option<Row> {
    store.get(TABLE, &key(partition), &key(row)).await.unwrap()
}

/// The document of a row that must exist.
pub(crate) async fn document(store: &dyn Store, partition: &str, row: &str) -> String {
    get(store, partition, row).await.expect("the row exists").document
}

/// Every row of `partition`.
pub(crate) async fn rows(store: &dyn Store, partition: &str) -> Vec<Row> {
    scan_all(store, TABLE, &Range::partition(key(partition)), 100_000).await.unwrap()
}
