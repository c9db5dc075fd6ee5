//! The embedded store keeps the store contract.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::ports::store::Store;
use ajar_embedded_store::EmbeddedStore;
use std::sync::Arc;

macro_rules! one_test_each {
    ($($promise:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $promise() {
            let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
                .join(format!("contract-{}-{}", std::process::id(), stringify!($promise)));
            let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&path).unwrap());
            store_contract::$promise(store).await;
            std::fs::remove_file(path).unwrap();
        }
    )*};
}
store_contract::for_each_promise!(one_test_each);
