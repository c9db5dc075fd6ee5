//! The blobs in memory that use cases are tested with behave as the real ones do.

use ajar_access::testing::World;

/// As every adapter does.
#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_every_promise_of_blobs() {
    store_contract::keeps_every_promise_of_blobs(World::new().blobs).await;
}
