#![doc = include_str!("../README.md")]

mod blob_folder;
mod file;
mod rows;

pub use blob_folder::BlobFolder;
pub use file::OpenError;

use ajar_access::keys::Key;
use ajar_access::ports::store::{
    Change, Continuation, Etag, Page, Range, Row, Store, StoreError, Table, check_batch,
};
use async_trait::async_trait;
use redb::Database;
use std::path::Path;
use std::sync::Arc;

/// The store in one file of this machine. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct EmbeddedStore {
    database: Arc<Database>,
}

impl EmbeddedStore {
    /// Opens the file at `path`, and makes it with its folder when it is not there. Takes milliseconds, more
    /// after a crash, when the file is checked and repaired first. Blocks: call it before serving.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way and what to do about it.
    pub fn open(path: impl AsRef<Path>) -> Result<EmbeddedStore, OpenError> {
        Ok(EmbeddedStore { database: Arc::new(file::open(path.as_ref())?) })
    }

    /// Runs `work` where blocking is allowed: every transaction may wait for the disk or another writer.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.database);
        tokio::task::spawn_blocking(move || work(&database)).await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable {
                reason: format!("the store's thread failed: {error}"),
                retry_after: None,
            })
        })
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("EmbeddedStore")
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, table: Table, partition: &Key, row: &Key) -> Result<Option<Row>, StoreError> {
        let (partition, row) = (partition.clone(), row.clone());
        self.blocking(move |database| rows::get(database, table, partition, row)).await
    }

    async fn scan(
        &self,
        table: Table,
        range: &Range,
        from: Option<&Continuation>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let (range, from) = (range.clone(), from.cloned());
        self.blocking(move |database| rows::scan(database, table, &range, from.as_ref(), limit)).await
    }

    async fn commit(
        &self,
        table: Table,
        partition: &Key,
        changes: &[Change],
    ) -> Result<Vec<Option<Etag>>, StoreError> {
        check_batch(changes)?;
        let (partition, changes) = (partition.clone(), changes.to_vec());
        self.blocking(move |database| rows::commit(database, table, &partition, &changes)).await
    }
}
