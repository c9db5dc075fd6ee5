//! Durable state: tables of partitions of rows, as Table Storage has them.
//!
//! A row holds one JSON document. Rows of one partition change together, atomically. Every change of a row
//! that exists names the ETag it was read with, so that of two writers one learns that it lost.

use crate::keys::Key;
use async_trait::async_trait;
use jiff::SignedDuration;

/// The tables of the design, section 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// JIT policies, by subscription and VM.
    Policies,
    /// Azure-shaped policy resources, by place and name.
    AzurePolicies,
    /// Access requests with their history, by VM.
    Requests,
    /// Who may see or decide what, by person.
    Inbox,
    /// Projected flows and policies, by enforcement point.
    Grants,
    /// Leases and last read-backs, by enforcement point.
    Points,
    /// What is due when, by minute.
    Due,
    /// Last verdicts, by subscription and VM.
    Assessments,
    /// First answers, by caller.
    Idempotency,
    /// Where a job is, by job.
    Cursors,
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 10] = [
        Table::Policies,
        Table::AzurePolicies,
        Table::Requests,
        Table::Inbox,
        Table::Grants,
        Table::Points,
        Table::Due,
        Table::Assessments,
        Table::Idempotency,
        Table::Cursors,
    ];

    /// The table's name in Table Storage.
    pub fn name(self) -> &'static str {
        match self {
            Table::Policies => "policies",
            Table::AzurePolicies => "azurepolicies",
            Table::Requests => "requests",
            Table::Inbox => "inbox",
            Table::Grants => "grants",
            Table::Points => "points",
            Table::Due => "due",
            Table::Assessments => "assessments",
            Table::Idempotency => "idempotency",
            Table::Cursors => "cursors",
        }
    }
}

/// The version of a row, opaque; it changes with every write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Etag(pub String);

/// A row as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Partition key.
    pub partition: Key,
    /// Row key, unique in its partition.
    pub row: Key,
    /// Version.
    pub etag: Etag,
    /// JSON text.
    pub document: String,
}

/// The most UTF-16 code units that a row's document may have: an entity may be 1 MiB in Table Storage, where
/// text takes two bytes a unit, and half is left to keys, names and growth. As ASCII JSON, in which it travels,
/// an entity must fit 1 MiB and a batch 4 MiB as well; a store that finds more answers `TooLarge`.
pub const MAX_DOCUMENT_UNITS: usize = 256 * 1024;

/// The most changes in one batch (Table Storage's own limit).
pub const MAX_BATCH: usize = 100;

/// The most bytes of documents in one batch; Table Storage takes 4 MiB with everything around them.
pub const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;

/// One change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a row that must not exist.
    Insert {
        /// Row key.
        row: Key,
        /// JSON text.
        document: String,
    },
    /// Replaces a row that must still be at `etag`.
    Replace {
        /// Row key.
        row: Key,
        /// JSON text.
        document: String,
        /// The version it was read with.
        etag: Etag,
    },
    /// Adds or replaces a row, whatever is there: only for rows whose content follows from their key.
    Put {
        /// Row key.
        row: Key,
        /// JSON text.
        document: String,
    },
    /// Removes a row that must still be at `etag`.
    Delete {
        /// Row key.
        row: Key,
        /// The version it was read with.
        etag: Etag,
    },
}

impl Change {
    /// The key of the row that changes.
    pub fn row(&self) -> &Key {
        match self {
            Change::Insert { row, .. }
            | Change::Replace { row, .. }
            | Change::Put { row, .. }
            | Change::Delete { row, .. } => row,
        }
    }

    /// The document written, if any.
    pub fn document(&self) -> Option<&str> {
        match self {
            Change::Insert { document, .. }
            | Change::Replace { document, .. }
            | Change::Put { document, .. } => Some(document),
            Change::Delete { .. } => None,
        }
    }
}

/// Which rows to read: partitions from `first_partition` to `last_partition`, and in each of them rows from
/// `first_row` to `last_row`, all inclusive, in order of partition and row key (bytes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// First partition, inclusive; from the beginning when absent.
    pub first_partition: Option<Key>,
    /// Last partition, inclusive; to the end when absent.
    pub last_partition: Option<Key>,
    /// First row, inclusive; from the beginning when absent.
    pub first_row: Option<Key>,
    /// Last row, inclusive; to the end when absent.
    pub last_row: Option<Key>,
}

impl Range {
    /// All rows of one partition.
    pub fn partition(partition: Key) -> Range {
        Range {
            first_partition: Some(partition.clone()),
            last_partition: Some(partition),
            first_row: None,
            last_row: None,
        }
    }

    /// The rows of one partition whose key is `prefix` and at least one more part.
    pub fn rows_under(partition: Key, prefix: &Key) -> Range {
        Range {
            first_row: Some(prefix.first_under()),
            last_row: Some(prefix.last_under()),
            ..Range::partition(partition)
        }
    }

    /// All rows of all partitions up to `partition`, inclusive.
    pub fn up_to(partition: Key) -> Range {
        Range { first_partition: None, last_partition: Some(partition), first_row: None, last_row: None }
    }

    /// All rows of the partitions whose key is `prefix` and at least one more part.
    pub fn partitions_under(prefix: &Key) -> Range {
        Range {
            first_partition: Some(prefix.first_under()),
            last_partition: Some(prefix.last_under()),
            first_row: None,
            last_row: None,
        }
    }
}

/// Where the next page begins; only the adapter that made it understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation(pub String);

/// One page of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The rows, in order. May be empty although more follow.
    pub rows: Vec<Row>,
    /// Set when more may follow.
    pub next: Option<Continuation>,
}

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A row to insert exists, or a row to replace or delete is gone or was changed; nothing was written.
    #[error("a row was changed by someone else")]
    Conflict,
    /// Throttled, unreachable or failing. A write may or may not have happened.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// What happened, for the log; never shown to a caller.
        reason: String,
        /// How long the store asked to be left alone.
        retry_after: Option<SignedDuration>,
    },
    /// A document, batch or key beyond the limits above, or a batch that names a row twice; nothing was written.
    #[error("the store cannot hold this: {reason}")]
    TooLarge {
        /// Which limit.
        reason: String,
    },
}

/// Durable state, as Table Storage offers it.
#[async_trait]
pub trait Store: Send + Sync {
    /// One row, or `None` when it (or its table) does not exist.
    async fn get(&self, table: Table, partition: &Key, row: &Key) -> Result<Option<Row>, StoreError>;

    /// One page of at most `limit` rows (1 to 1,000) of `range`, beginning at `from`.
    async fn scan(
        &self,
        table: Table,
        range: &Range,
        from: Option<&Continuation>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// Applies 1 to [`MAX_BATCH`] changes of different rows of one partition: all or none. Returns the new
    /// ETag of each changed row in order, `None` for a deleted one.
    async fn commit(
        &self,
        table: Table,
        partition: &Key,
        changes: &[Change],
    ) -> Result<Vec<Option<Etag>>, StoreError>;
}

/// All rows of `range`, page after page.
///
/// # Errors
/// [`StoreError::TooLarge`] when there are more than `most`: the caller asked for something it could not hold.
pub async fn scan_all(
    store: &dyn Store,
    table: Table,
    range: &Range,
    most: usize,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    let mut from = None;
    loop {
        let page = store.scan(table, range, from.as_ref(), 1000).await?;
        rows.extend(page.rows);
        if rows.len() > most {
            return Err(StoreError::TooLarge {
                reason: format!("more than {most} rows in one read of table {}", table.name()),
            });
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(rows),
        }
    }
}

/// Checks `changes` against the limits that every adapter enforces alike.
///
/// # Errors
/// [`StoreError::TooLarge`] naming the limit.
pub fn check_batch(changes: &[Change]) -> Result<(), StoreError> {
    let too_large = |reason: String| Err(StoreError::TooLarge { reason });
    if changes.is_empty() || changes.len() > MAX_BATCH {
        return too_large(format!("a batch has 1 to {MAX_BATCH} changes, this one {}", changes.len()));
    }
    let mut rows = std::collections::BTreeSet::new();
    let mut bytes = 0;
    for change in changes {
        if !rows.insert(change.row()) {
            return too_large(format!("a batch names row {} twice", change.row().as_str()));
        }
        if let Some(document) = change.document() {
            bytes += document.len();
            if document.encode_utf16().count() > MAX_DOCUMENT_UNITS {
                return too_large(format!("a document has at most {MAX_DOCUMENT_UNITS} UTF-16 units"));
            }
        }
    }
    if bytes > MAX_BATCH_BYTES {
        return too_large(format!("the documents of a batch have at most {MAX_BATCH_BYTES} bytes"));
    }
    Ok(())
}
