//! The store in memory that use cases are tested with behaves as the real ones do.
#![allow(missing_docs, reason = "the promises are documented where they are written")]

use ajar_access::testing::World;

macro_rules! one_test_each {
    ($($promise:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $promise() {
            store_contract::$promise(World::new().store).await;
        }
    )*};
}
store_contract::for_each_promise!(one_test_each);
