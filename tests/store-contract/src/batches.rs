//! Batches: all changes or none.

use crate::write::{TABLE, change, delete, document, get, insert, key, put, replace, rows};
use ajar_access::ports::store::{Change, MAX_BATCH, MAX_BATCH_BYTES, MAX_DOCUMENT_UNITS, Store, StoreError};
use std::sync::Arc;

/// Every kind of change in one batch, each answered in its place.
pub async fn a_batch_applies_every_change_and_answers_in_order(store: Arc<dyn Store>) {
    let one = change(&*store, "p", insert("replaced", "1")).await.unwrap();
    let two = change(&*store, "p", insert("deleted", "1")).await.unwrap();
    change(&*store, "p", insert("put-over", "1")).await.unwrap();
    let batch = [
        insert("inserted", "a"),
        delete("deleted", &two),
        replace("replaced", "b", &one),
        put("put-over", "c"),
        put("put-new", "d"),
    ];
    let etags = store.commit(TABLE, &key("p"), &batch).await.unwrap();
    assert_eq!(etags.len(), batch.len());
    for (change, etag) in batch.iter().zip(&etags) {
        let row = store.get(TABLE, &key("p"), change.row()).await.unwrap();
        assert_eq!(row.as_ref().map(|row| &row.etag), etag.as_ref(), "{change:?}");
        assert_eq!(row.as_ref().map(|row| row.document.as_str()), change.document(), "{change:?}");
    }
}

/// Whatever change fails, wherever it stands, nothing of the batch is written.
pub async fn a_batch_that_fails_anywhere_writes_nothing(store: Arc<dyn Store>) {
    let stale = change(&*store, "p", insert("changed", "1")).await.unwrap();
    change(&*store, "p", put("changed", "2")).await.unwrap();
    let a = change(&*store, "p", insert("a", "1")).await.unwrap();
    let b = change(&*store, "p", insert("b", "1")).await.unwrap();
    change(&*store, "p", insert("c", "1")).await.unwrap();
    let good =
        [insert("new", "2"), replace("a", "2", &a), delete("b", &b), put("c", "2"), put("put-new", "2")];
    let before = rows(&*store, "p").await;
    assert_eq!(before.len(), 4);
    for failing in [
        insert("changed", "3"),
        replace("changed", "3", &stale),
        replace("missing", "3", &stale),
        delete("changed", &stale),
        delete("missing", &stale),
    ] {
        for place in 0..=good.len() {
            let mut batch = good.to_vec();
            batch.insert(place, failing.clone());
            let answer = store.commit(TABLE, &key("p"), &batch).await;
            assert_eq!(answer, Err(StoreError::Conflict), "{failing:?} at {place}");
            assert_eq!(rows(&*store, "p").await, before, "{failing:?} at {place}");
        }
    }
    store.commit(TABLE, &key("p"), &good).await.expect("without the failing change it goes through");
}

/// The first write to a table may be a batch.
pub async fn a_batch_of_rows_in_a_table_never_written_makes_the_table(store: Arc<dyn Store>) {
    store.commit(TABLE, &key("p"), &[insert("a", "1"), put("b", "2")]).await.unwrap();
    assert_eq!(document(&*store, "p", "a").await, "1");
    assert_eq!(document(&*store, "p", "b").await, "2");
}

/// Changing a row of a table that does not exist yet is a conflict like that of any missing row.
pub async fn a_conflict_in_a_table_never_written_is_still_a_conflict(store: Arc<dyn Store>) {
    // An etag of the store's own making, from another table.
    let etags = store
        .commit(ajar_access::ports::store::Table::Policies, &key("p"), &[insert("r", "1")])
        .await
        .unwrap();
    let etag = etags[0].clone().unwrap();
    for batch in [
        vec![replace("r", "2", &etag)],
        vec![delete("r", &etag)],
        vec![insert("s", "1"), replace("r", "2", &etag)],
        vec![insert("s", "1"), delete("r", &etag)],
    ] {
        assert_eq!(store.commit(TABLE, &key("p"), &batch).await, Err(StoreError::Conflict), "{batch:?}");
        assert_eq!(rows(&*store, "p").await, vec![], "{batch:?}");
    }
}

/// A hundred changes go in, none and a hundred and one do not.
pub async fn a_batch_has_one_to_a_hundred_changes(store: Arc<dyn Store>) {
    let many =
        |count: usize| -> Vec<Change> { (0..count).map(|i| insert(&format!("r{i:03}"), "{}")).collect() };
    for wrong in [0, MAX_BATCH + 1] {
        let answer = store.commit(TABLE, &key("p"), &many(wrong)).await;
        assert!(matches!(answer, Err(StoreError::TooLarge { .. })), "{wrong} changes: {answer:?}");
        assert_eq!(rows(&*store, "p").await.len(), 0);
    }
    let etags = store.commit(TABLE, &key("p"), &many(MAX_BATCH)).await.unwrap();
    assert_eq!(etags.len(), MAX_BATCH);
    let written = rows(&*store, "p").await;
    assert_eq!(written.iter().map(|row| Some(row.etag.clone())).collect::<Vec<_>>(), etags);
    let delete_all: Vec<Change> =
        written.into_iter().map(|row| Change::Delete { row: row.row, etag: row.etag }).collect();
    assert_eq!(store.commit(TABLE, &key("p"), &delete_all).await.unwrap(), vec![None; MAX_BATCH]);
    assert_eq!(rows(&*store, "p").await.len(), 0);
}

/// What two changes of one row in one batch would mean is left to nobody's imagination.
pub async fn a_batch_may_not_name_a_row_twice(store: Arc<dyn Store>) {
    let etag = change(&*store, "p", insert("r", "1")).await.unwrap();
    for batch in [
        vec![insert("s", "1"), insert("s", "1")],
        vec![put("s", "1"), insert("t", "1"), put("s", "2")],
        vec![replace("r", "2", &etag), delete("r", &etag)],
        vec![delete("r", &etag), insert("r", "2")],
    ] {
        let answer = store.commit(TABLE, &key("p"), &batch).await;
        assert!(matches!(answer, Err(StoreError::TooLarge { .. })), "{batch:?}: {answer:?}");
        assert_eq!(rows(&*store, "p").await.len(), 1);
        assert_eq!(document(&*store, "p", "r").await, "1");
    }
}

/// A batch may carry its limit in documents, with inserts, replaces and puts alike, and not a byte more.
pub async fn a_batch_holds_two_mebibytes_of_documents(store: Arc<dyn Store>) {
    let full = MAX_BATCH_BYTES / MAX_DOCUMENT_UNITS;
    let text = format!("\"{}\"", "x".repeat(MAX_DOCUMENT_UNITS - 2));
    let inserts: Vec<Change> = (0..full).map(|i| insert(&format!("r{i}"), &text)).collect();
    let etags = store.commit(TABLE, &key("p"), &inserts).await.unwrap();
    let replaces: Vec<Change> = etags
        .iter()
        .enumerate()
        .map(|(i, etag)| match etag {
            Some(etag) if i % 2 == 0 => replace(&format!("r{i}"), &text.replace('x', "y"), etag),
            _ => put(&format!("r{i}"), &text.replace('x', "y")),
        })
        .collect();
    store.commit(TABLE, &key("p"), &replaces).await.unwrap();
    for i in 0..full {
        assert_eq!(document(&*store, "p", &format!("r{i}")).await, text.replace('x', "y"));
    }
    let mut over = inserts;
    over.push(insert("one-more", "1"));
    let answer = store.commit(TABLE, &key("q"), &over).await;
    assert!(matches!(answer, Err(StoreError::TooLarge { .. })), "{answer:?}");
    assert_eq!(get(&*store, "q", "one-more").await, None);
    assert_eq!(get(&*store, "q", "r0").await, None);
}
