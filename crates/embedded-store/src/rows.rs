//! Reading and changing rows, each in one transaction.

use crate::file::{ABOUT, LAST_ETAG};
use ajar_access::keys::Key;
use ajar_access::ports::store::{Change, Continuation, Etag, Page, Range, Row, StoreError, Table};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

/// Partition and row to etag and document. Tuples sort by their first element, strings by bytes.
type Rows = TableDefinition<'static, (&'static str, &'static str), (u64, &'static str)>;

/// A page ends once it holds this many bytes of documents, as it does in Table Storage, so that a scan of
/// large rows stays within memory.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

fn rows(table: Table) -> Rows {
    TableDefinition::new(table.name())
}

pub(crate) fn get(
    database: &Database,
    table: Table,
    partition: Key,
    row: Key,
) -> Result<Option<Row>, StoreError> {
    let read = database.begin_read().map_err(unavailable)?;
    let Some(rows) = existing(read.open_table(rows(table)))? else {
        return Ok(None);
    };
    let found = rows.get((partition.as_str(), row.as_str())).map_err(unavailable)?;
    Ok(found.map(|value| {
        let (etag, document) = value.value();
        Row { etag: etag_of(etag), document: document.to_owned(), partition, row }
    }))
}

pub(crate) fn scan(
    database: &Database,
    table: Table,
    range: &Range,
    from: Option<&Continuation>,
    limit: usize,
) -> Result<Page, StoreError> {
    let limit = limit.clamp(1, 1000);
    let mut page = Page { rows: Vec::new(), next: None };
    let read = database.begin_read().map_err(unavailable)?;
    let Some(rows) = existing(read.open_table(rows(table)))? else {
        return Ok(page);
    };
    let text = |key: &Option<Key>| key.as_ref().map(|key| key.as_str().to_owned());
    let first_row = text(&range.first_row).unwrap_or_default();
    let last_row = text(&range.last_row);
    let last_partition = text(&range.last_partition);
    let mut bytes = 0;
    let mut start = match from {
        Some(from) => place_of(from)?,
        None => (text(&range.first_partition).unwrap_or_default(), first_row.clone()),
    };
    // Each round reads on from `start` and ends where rows must be jumped over: no round ends where it began,
    // so there are at most two for a partition.
    loop {
        let mut jump = None;
        for entry in rows.range((start.0.as_str(), start.1.as_str())..).map_err(unavailable)? {
            let (key, value) = entry.map_err(unavailable)?;
            let (partition, row) = key.value();
            if last_partition.as_deref().is_some_and(|last| partition > last) {
                return Ok(page);
            }
            if last_row.as_deref().is_some_and(|last| row > last) {
                // The smallest text greater than the partition.
                jump = Some((format!("{partition}\0"), first_row.clone()));
                break;
            }
            if row < first_row.as_str() {
                jump = Some((partition.to_owned(), first_row.clone()));
                break;
            }
            if page.rows.len() == limit || bytes >= PAGE_BYTES {
                page.next = Some(continuation_at(partition, row)?);
                return Ok(page);
            }
            let (etag, document) = value.value();
            bytes += document.len();
            page.rows.push(Row {
                partition: stored_key(partition)?,
                row: stored_key(row)?,
                etag: etag_of(etag),
                document: document.to_owned(),
            });
        }
        match jump {
            Some(place) => start = place,
            None => return Ok(page),
        }
    }
}

pub(crate) fn commit(
    database: &Database,
    table: Table,
    partition: &Key,
    changes: &[Change],
) -> Result<Vec<Option<Etag>>, StoreError> {
    // Dropping the transaction without a commit, as every early return does, writes nothing.
    let write = database.begin_write().map_err(unavailable)?;
    let mut etags = Vec::with_capacity(changes.len());
    {
        let mut about = write.open_table(ABOUT).map_err(unavailable)?;
        let mut rows = write.open_table(rows(table)).map_err(unavailable)?;
        let mut last = about.get(LAST_ETAG).map_err(unavailable)?.map_or(0, |etag| etag.value());
        for change in changes {
            let place = (partition.as_str(), change.row().as_str());
            let current = rows.get(place).map_err(unavailable)?.map(|value| etag_of(value.value().0));
            let allowed = match change {
                Change::Insert { .. } => current.is_none(),
                Change::Put { .. } => true,
                Change::Replace { etag, .. } | Change::Delete { etag, .. } => current.as_ref() == Some(etag),
            };
            if !allowed {
                return Err(StoreError::Conflict);
            }
            match change.document() {
                Some(document) => {
                    last += 1;
                    rows.insert(place, (last, document)).map_err(unavailable)?;
                    etags.push(Some(etag_of(last)));
                }
                None => {
                    rows.remove(place).map_err(unavailable)?;
                    etags.push(None);
                }
            }
        }
        about.insert(LAST_ETAG, last).map_err(unavailable)?;
    }
    write.commit().map_err(unavailable)?;
    Ok(etags)
}

fn etag_of(number: u64) -> Etag {
    Etag(number.to_string())
}

fn stored_key(text: &str) -> Result<Key, StoreError> {
    Key::from_stored(text).ok_or_else(|| StoreError::Unavailable {
        reason: format!("the store file holds a row named {text:?}, which Ajar cannot have written"),
        retry_after: None,
    })
}

fn continuation_at(partition: &str, row: &str) -> Result<Continuation, StoreError> {
    serde_json::to_string(&(partition, row)).map(Continuation).map_err(unavailable)
}

fn place_of(from: &Continuation) -> Result<(String, String), StoreError> {
    serde_json::from_str(&from.0).map_err(|_| StoreError::Unavailable {
        reason: "a page was asked for that this store did not announce".to_owned(),
        retry_after: None,
    })
}

/// A table that nobody wrote to is an empty one.
fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, StoreError> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(unavailable(error)),
    }
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable { reason: format!("the store file: {error}"), retry_after: None }
}
