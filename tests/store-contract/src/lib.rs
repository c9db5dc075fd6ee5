#![doc = include_str!("../README.md")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a promise fails by panicking"
)]

mod batches;
mod blobs;
mod changes;
mod concurrency;
mod documents;
mod keys;
mod reads;
mod scans;
mod write;

pub use batches::*;
pub use blobs::keeps_every_promise_of_blobs;
pub use changes::*;
pub use concurrency::*;
pub use documents::*;
pub use keys::*;
pub use reads::*;
pub use scans::*;

use ajar_access::ports::store::Store;
use futures::future::BoxFuture;
use std::future::Future;
use std::sync::Arc;

/// One promise: its name and the check that panics when it is broken.
pub struct Promise {
    /// The function's name.
    pub name: &'static str,
    /// Checks the promise on a fresh, empty store.
    pub check: fn(Arc<dyn Store>) -> BoxFuture<'static, ()>,
}

/// Calls the macro `$use` with the names of all promises, separated by commas.
#[macro_export]
macro_rules! for_each_promise {
    ($use:ident) => {
        $use! {
            a_row_never_written_is_none,
            a_row_reads_back_as_it_was_written,
            reading_changes_nothing,
            tables_are_apart,
            partitions_are_apart,
            an_insert_of_a_row_that_exists_conflicts,
            a_replace_needs_the_current_etag,
            a_replace_of_a_missing_row_conflicts,
            a_delete_needs_the_current_etag,
            a_delete_of_a_missing_row_conflicts,
            a_deleted_row_is_gone_and_may_be_inserted_again,
            a_put_adds_and_replaces,
            an_etag_that_no_row_ever_had_matches_nothing,
            every_write_makes_a_new_etag,
            an_etag_of_a_deleted_row_does_not_fit_its_successor,
            a_batch_applies_every_change_and_answers_in_order,
            a_batch_that_fails_anywhere_writes_nothing,
            a_batch_of_rows_in_a_table_never_written_makes_the_table,
            a_conflict_in_a_table_never_written_is_still_a_conflict,
            a_batch_has_one_to_a_hundred_changes,
            a_batch_may_not_name_a_row_twice,
            a_batch_holds_two_mebibytes_of_documents,
            a_scan_of_nothing_is_empty_and_ends,
            a_scan_is_in_order_of_bytes,
            the_bounds_of_a_scan_are_inclusive,
            row_bounds_hold_in_every_partition,
            a_range_that_ends_before_it_begins_is_empty,
            prefixes_select_what_is_under_them,
            pages_join_to_the_whole,
            pages_go_on_while_rows_come_and_go,
            a_scan_of_thousands_of_rows_ends,
            a_scan_gives_the_etags_that_changes_need,
            of_many_inserts_one_wins,
            no_update_is_lost,
            no_update_by_batch_is_lost,
            nobody_reads_half_a_batch,
            writers_of_different_partitions_do_not_disturb_each_other,
            documents_with_awkward_content_come_back,
            documents_of_every_length_around_a_storage_boundary_come_back,
            the_largest_document_is_kept_and_a_larger_one_refused,
            a_shorter_document_leaves_nothing_of_the_longer_one,
            awkward_names_make_distinct_usable_keys,
            long_names_make_distinct_usable_keys,
            keys_that_look_like_numbers_are_text
        }
    };
}

macro_rules! list {
    ($($name:ident),* $(,)?) => {
        &[$(Promise { name: stringify!($name), check: |store| Box::pin($name(store)) }),*]
    };
}

/// Every promise.
pub const PROMISES: &[Promise] = for_each_promise!(list);

/// Checks every promise, each on a store of its own from `fresh`, one after the other.
///
/// # Panics
/// When promises are broken, after all were checked, naming them; each one's own panic is printed before.
pub async fn keeps_every_promise<F: Future<Output = Arc<dyn Store>>>(fresh: impl Fn() -> F) {
    let mut broken = Vec::new();
    for promise in PROMISES {
        let store = fresh().await;
        if tokio::spawn((promise.check)(store)).await.is_err() {
            broken.push(promise.name);
        }
    }
    assert!(broken.is_empty(), "broken promises: {broken:#?}");
}
