//! The Table Storage adapter against a real Azurite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

use ajar_access::keys::Key;
use ajar_access::ports::store::{Change, Store, Table};
use ajar_tables::TableStore;
use std::sync::Arc;

/// A store whose tables no other test sees, also on an Azurite that outlives the tests.
fn fresh(endpoint: &str) -> TableStore {
    let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
    TableStore::azurite(endpoint).unwrap().with_table_prefix(&prefix).unwrap()
}

/// One test for all promises, so that all share one Azurite; each is named when it is broken.
#[tokio::test(flavor = "multi_thread")]
async fn table_storage_keeps_every_promise_of_a_store() {
    let azurite = azurite::azurite().await;
    store_contract::keeps_every_promise(|| async { Arc::new(fresh(&azurite.endpoint)) as Arc<dyn Store> })
        .await;

    // What the contract does not speak of: deployments that share an account do not see each other.
    let (one, other) = (fresh(&azurite.endpoint), fresh(&azurite.endpoint));
    let key = Key::new(["k"]);
    let insert = [Change::Insert { row: key.clone(), document: "{}".to_owned() }];
    one.commit(Table::Due, &key, &insert).await.unwrap();
    assert_eq!(other.get(Table::Due, &key, &key).await.unwrap(), None);
    other.commit(Table::Due, &key, &insert).await.unwrap();
}
