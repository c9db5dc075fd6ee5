//! A store that counts what is asked of it.

use ajar_access::keys::Key;
use ajar_access::ports::store::{Change, Continuation, Etag, Page, Range, Row, Store, StoreError, Table};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Each call of the port is one request on Table Storage.
pub(crate) struct CountedStore {
    pub(crate) store: Arc<dyn Store>,
    calls: AtomicUsize,
}

impl CountedStore {
    pub(crate) fn of(store: Arc<dyn Store>) -> CountedStore {
        CountedStore { store, calls: AtomicUsize::new(0) }
    }

    /// The calls since the last time.
    pub(crate) fn take(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }

    fn count(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Store for CountedStore {
    async fn get(&self, table: Table, partition: &Key, row: &Key) -> Result<Option<Row>, StoreError> {
        self.count();
        self.store.get(table, partition, row).await
    }

    async fn scan(
        &self,
        table: Table,
        range: &Range,
        from: Option<&Continuation>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.count();
        self.store.scan(table, range, from, limit).await
    }

    async fn commit(
        &self,
        table: Table,
        partition: &Key,
        changes: &[Change],
    ) -> Result<Vec<Option<Etag>>, StoreError> {
        self.count();
        self.store.commit(table, partition, changes).await
    }
}
