//! The Blob Storage adapter against a real Azurite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::ports::blobs::{BlobName, Blobs};
use ajar_access::ports::store::StoreError;
use ajar_blobs::BlobStore;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn blob_storage_keeps_every_promise_of_blobs() {
    let mut azurite = azurite::start_blobs().await;
    let store = |container: &str| BlobStore::azurite(&azurite.endpoint, container).unwrap();
    let (blobs, other) = (store("one"), store("other"));
    store_contract::keeps_every_promise_of_blobs(Arc::new(blobs.clone())).await;

    // What the contract does not speak of: containers are apart, and an outage is no absence.
    let name = BlobName::generation();
    blobs.write(&name, "mine", None).await.unwrap();
    assert_eq!(other.read(&name).await, Ok(None));
    azurite.stop().await;
    assert!(matches!(blobs.read(&name).await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(blobs.write(&name, "x", None).await, Err(StoreError::Unavailable { .. })));
}
