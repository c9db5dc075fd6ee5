//! Tables that are emptied while JIT is being turned on: whoever is told that it is on is protected.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::configure;
use ajar_access::keys::Key;
use ajar_access::policy::PolicyInput;
use ajar_access::ports::store::{Change, Continuation, Etag, Page, Range, Row, Store, StoreError, Table};
use ajar_access::testing::{MemoryStore, World, user, vm};
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A store that is emptied before its call number `at`.
struct Emptied {
    inner: Arc<MemoryStore>,
    at: usize,
    calls: AtomicUsize,
}

impl Emptied {
    fn count(&self) -> &MemoryStore {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.at {
            self.inner.wipe();
        }
        &self.inner
    }
}

#[async_trait]
impl Store for Emptied {
    async fn get(&self, table: Table, partition: &Key, row: &Key) -> Result<Option<Row>, StoreError> {
        self.count().get(table, partition, row).await
    }

    async fn scan(
        &self,
        table: Table,
        range: &Range,
        from: Option<&Continuation>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.count().scan(table, range, from, limit).await
    }

    async fn commit(
        &self,
        table: Table,
        partition: &Key,
        changes: &[Change],
    ) -> Result<Vec<Option<Etag>>, StoreError> {
        self.count().commit(table, partition, changes).await
    }
}

/// The tables are emptied before every call in turn.
#[tokio::test]
async fn jit_that_is_said_to_be_on_has_a_store_that_is_believed() {
    for at in 0.. {
        let mut world = World::new();
        let emptied = Arc::new(Emptied { inner: Arc::clone(&world.store), at, calls: AtomicUsize::new(0) });
        let store: Arc<dyn Store> = Arc::clone(&emptied) as _;
        world.ajar.ports.store = store;
        let policy = json!({ "vm": vm("web-1").as_str(), "ports": [{ "port": 22 }] });
        let policy: PolicyInput = serde_json::from_value(policy).unwrap();
        let first = configure::enable(&world.ajar, &user("alice"), &policy).await;
        let (partition, row) = (Key::new(["store"]), Key::new(["marker"]));
        if first.is_ok() && emptied.calls.load(Ordering::SeqCst) > at {
            let marker = world.store.get(Table::Cursors, &partition, &row).await.unwrap();
            assert!(marker.is_some(), "emptied before call {at}, and nothing is planned");
        } else if let Err(error) = &first {
            assert!(error.is_temporary(), "emptied before call {at}: {error:?}");
            configure::enable(&world.ajar, &user("alice"), &policy).await.unwrap();
            world.minutes(2).await;
            assert!(!world.azure.allows("203.0.113.7", "10.0.0.4", 22), "emptied before call {at}");
        }
        if emptied.calls.load(Ordering::SeqCst) <= at {
            assert!(at > 5);
            break;
        }
    }
}
