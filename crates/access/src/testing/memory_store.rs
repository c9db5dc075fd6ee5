//! The store in memory.

use super::{Budget, Verdict, lock};
use crate::keys::Key;
use crate::ports::store::{
    Change, Continuation, Etag, Page, Range, Row, Store, StoreError, Table, check_batch,
};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

type Rows = BTreeMap<(Table, Key, Key), (Etag, String)>;

/// All tables as they were at a moment.
#[derive(Debug, Clone)]
pub struct Backup(Rows);

/// A store that forgets everything at the end of the test.
#[derive(Debug)]
pub struct MemoryStore {
    budget: Arc<Budget>,
    rows: Mutex<Rows>,
    etags: AtomicU64,
    /// While set, every call fails.
    pub is_down: AtomicBool,
}

impl MemoryStore {
    pub(super) fn new(budget: Arc<Budget>) -> MemoryStore {
        MemoryStore {
            budget,
            rows: Mutex::default(),
            etags: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
        }
    }

    /// Removes every row of every table.
    pub fn wipe(&self) {
        lock(&self.rows).clear();
    }

    /// Removes every row of one table.
    pub fn wipe_table(&self, table: Table) {
        lock(&self.rows).retain(|(of, ..), _| *of != table);
    }

    /// A backup of all tables.
    pub fn back_up(&self) -> Backup {
        Backup(lock(&self.rows).clone())
    }

    /// Puts a backup in the place of all tables, as a tool that writes its rows anew: their ETags are others.
    pub fn restore(&self, backup: &Backup) {
        let fresh = |(place, (_, document)): (&(Table, Key, Key), &(Etag, String))| {
            let etag = Etag(self.etags.fetch_add(1, Ordering::SeqCst).to_string());
            (place.clone(), (etag, document.clone()))
        };
        *lock(&self.rows) = backup.0.iter().map(fresh).collect();
    }

    /// All rows, to compare states; ETags are left out.
    pub fn contents(&self) -> BTreeMap<(Table, String, String), String> {
        lock(&self.rows)
            .iter()
            .map(|((table, partition, row), (_, document))| {
                ((*table, partition.as_str().to_owned(), row.as_str().to_owned()), document.clone())
            })
            .collect()
    }

    /// Changes a document behind the back of whoever wrote it.
    pub fn overwrite(&self, table: Table, partition: &str, row: &str, document: String) {
        for ((of, in_partition, key), (_, content)) in lock(&self.rows).iter_mut() {
            if *of == table && in_partition.as_str() == partition && key.as_str() == row {
                content.clone_from(&document);
            }
        }
    }

    /// How many rows a table has.
    pub fn count(&self, table: Table) -> usize {
        lock(&self.rows).keys().filter(|(of, ..)| *of == table).count()
    }

    fn begin(&self) -> Result<Verdict, StoreError> {
        let verdict = self.budget.spend();
        if verdict == Verdict::Fail || self.is_down.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        Ok(verdict)
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { reason: "made to fail".into(), retry_after: None }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, table: Table, partition: &Key, row: &Key) -> Result<Option<Row>, StoreError> {
        if self.begin()? == Verdict::LoseTheAnswer {
            return Err(unavailable());
        }
        let rows = lock(&self.rows);
        Ok(rows.get(&(table, partition.clone(), row.clone())).map(|(etag, document)| Row {
            partition: partition.clone(),
            row: row.clone(),
            etag: etag.clone(),
            document: document.clone(),
        }))
    }

    async fn scan(
        &self,
        table: Table,
        range: &Range,
        from: Option<&Continuation>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        if self.begin()? == Verdict::LoseTheAnswer {
            return Err(unavailable());
        }
        // A place and not a count: rows come and go between the pages.
        let place = from.and_then(|from| {
            let (partition, row) = from.0.split_once(' ')?;
            Some((Key::from_stored(partition)?, Key::from_stored(row)?))
        });
        let lowest = Key::new([""]);
        let (first, first_row) = place.unwrap_or_else(|| {
            (range.first_partition.clone().unwrap_or_else(|| lowest.clone()), lowest.clone())
        });
        let rows = lock(&self.rows);
        let mut found = rows
            .range((Bound::Included((table, first, first_row)), Bound::Unbounded))
            .take_while(|((of, partition, _), _)| {
                *of == table && range.last_partition.as_ref().is_none_or(|last| partition <= last)
            })
            .filter(|((_, _, row), _)| {
                range.first_row.as_ref().is_none_or(|first| row >= first)
                    && range.last_row.as_ref().is_none_or(|last| row <= last)
            });
        let page: Vec<Row> = found
            .by_ref()
            .take(limit)
            .map(|((_, partition, row), (etag, document))| Row {
                partition: partition.clone(),
                row: row.clone(),
                etag: etag.clone(),
                document: document.clone(),
            })
            .collect();
        let next = found
            .next()
            .map(|((_, partition, row), _)| Continuation(format!("{} {}", partition.as_str(), row.as_str())));
        Ok(Page { rows: page, next })
    }

    async fn commit(
        &self,
        table: Table,
        partition: &Key,
        changes: &[Change],
    ) -> Result<Vec<Option<Etag>>, StoreError> {
        check_batch(changes)?;
        let verdict = self.begin()?;
        let mut rows = lock(&self.rows);
        let key = |row: &Key| (table, partition.clone(), row.clone());
        for change in changes {
            let current = rows.get(&key(change.row())).map(|(etag, _)| etag);
            let fits = match change {
                Change::Insert { .. } => current.is_none(),
                Change::Replace { etag, .. } | Change::Delete { etag, .. } => current == Some(etag),
                Change::Put { .. } => true,
            };
            if !fits {
                return Err(StoreError::Conflict);
            }
        }
        let mut etags = Vec::new();
        for change in changes {
            match change.document() {
                Some(document) => {
                    let etag = Etag(self.etags.fetch_add(1, Ordering::SeqCst).to_string());
                    rows.insert(key(change.row()), (etag.clone(), document.to_owned()));
                    etags.push(Some(etag));
                }
                None => {
                    rows.remove(&key(change.row()));
                    etags.push(None);
                }
            }
        }
        if verdict == Verdict::LoseTheAnswer { Err(unavailable()) } else { Ok(etags) }
    }
}
