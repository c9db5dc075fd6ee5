//! Changes of single rows, and the etags that guard them.

use crate::write::{change, delete, document, get, insert, put, replace};
use ajar_access::ports::store::{Etag, Store, StoreError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// An insert does not touch a row that exists.
pub async fn an_insert_of_a_row_that_exists_conflicts(store: Arc<dyn Store>) {
    change(&*store, "p", insert("r", "1")).await.unwrap();
    let before = get(&*store, "p", "r").await;
    assert_eq!(change(&*store, "p", insert("r", "2")).await, Err(StoreError::Conflict));
    assert_eq!(get(&*store, "p", "r").await, before);
}

/// A replace with an older etag of the row, or another row's, does nothing.
pub async fn a_replace_needs_the_current_etag(store: Arc<dyn Store>) {
    let first = change(&*store, "p", insert("r", "1")).await.unwrap();
    let second = change(&*store, "p", replace("r", "2", &first)).await.unwrap();
    let elsewhere = change(&*store, "p", insert("s", "x")).await.unwrap();
    let before = get(&*store, "p", "r").await;
    for stale in [&first, &elsewhere] {
        assert_eq!(change(&*store, "p", replace("r", "3", stale)).await, Err(StoreError::Conflict));
        assert_eq!(get(&*store, "p", "r").await, before);
    }
    change(&*store, "p", replace("r", "3", &second)).await.unwrap();
    assert_eq!(document(&*store, "p", "r").await, "3");
}

/// A replace does not bring back a row that is gone, nor make one that never was.
pub async fn a_replace_of_a_missing_row_conflicts(store: Arc<dyn Store>) {
    let etag = change(&*store, "p", insert("r", "1")).await.unwrap();
    change(&*store, "p", delete("r", &etag)).await.unwrap();
    for missing in ["r", "never"] {
        assert_eq!(change(&*store, "p", replace(missing, "2", &etag)).await, Err(StoreError::Conflict));
        assert_eq!(get(&*store, "p", missing).await, None);
    }
}

/// A delete with an older etag of the row, or another row's, does nothing.
pub async fn a_delete_needs_the_current_etag(store: Arc<dyn Store>) {
    let first = change(&*store, "p", insert("r", "1")).await.unwrap();
    let second = change(&*store, "p", replace("r", "2", &first)).await.unwrap();
    let elsewhere = change(&*store, "p", insert("s", "x")).await.unwrap();
    let before = get(&*store, "p", "r").await;
    for stale in [&first, &elsewhere] {
        assert_eq!(change(&*store, "p", delete("r", stale)).await, Err(StoreError::Conflict));
        assert_eq!(get(&*store, "p", "r").await, before);
    }
    change(&*store, "p", delete("r", &second)).await.unwrap();
    assert_eq!(get(&*store, "p", "r").await, None);
}

/// Whoever deletes second learns that the row was gone already.
pub async fn a_delete_of_a_missing_row_conflicts(store: Arc<dyn Store>) {
    let etag = change(&*store, "p", insert("r", "1")).await.unwrap();
    change(&*store, "p", delete("r", &etag)).await.unwrap();
    for missing in ["r", "never"] {
        assert_eq!(change(&*store, "p", delete(missing, &etag)).await, Err(StoreError::Conflict));
    }
}

/// A key is free again once its row was deleted.
pub async fn a_deleted_row_is_gone_and_may_be_inserted_again(store: Arc<dyn Store>) {
    for round in 0..3 {
        let etag = change(&*store, "p", insert("r", &round.to_string())).await.unwrap();
        assert_eq!(document(&*store, "p", "r").await, round.to_string());
        change(&*store, "p", delete("r", &etag)).await.unwrap();
        assert_eq!(get(&*store, "p", "r").await, None);
    }
}

/// A put needs to know nothing of what is there.
pub async fn a_put_adds_and_replaces(store: Arc<dyn Store>) {
    change(&*store, "p", put("r", "1")).await.unwrap();
    assert_eq!(document(&*store, "p", "r").await, "1");
    let etag = change(&*store, "p", put("r", "2")).await.unwrap();
    let row = get(&*store, "p", "r").await.unwrap();
    assert_eq!((row.document.as_str(), &row.etag), ("2", &etag));
}

/// An etag that did not come from the store, a wildcard or a text that would break a header included, is
/// a version that no row is at: never a condition that always holds, and never an error of another kind.
pub async fn an_etag_that_no_row_ever_had_matches_nothing(store: Arc<dyn Store>) {
    let real = change(&*store, "p", insert("r", "1")).await.unwrap();
    let before = get(&*store, "p", "r").await;
    let quoted = format!("\"{}\"", real.0);
    let spaced = format!(" {} ", real.0);
    let listed = format!("{}, {}", real.0, "W/\"x\"");
    let injected = format!("{}\r\nIf-Match: *", real.0);
    for foreign in [
        "*",
        "",
        "0",
        "-1",
        "1",
        "99999999999999999999999",
        "\"",
        "W/\"\"",
        "W/\"*\"",
        "a\nb",
        "a\r\n\r\nb",
        "é",
        "\0",
        &quoted,
        &spaced,
        &listed,
        &injected,
    ] {
        // A store whose etags are small numbers may have given out just this one.
        if foreign == real.0 {
            continue;
        }
        let etag = Etag(foreign.to_owned());
        for attempt in [replace("r", "2", &etag), delete("r", &etag), replace("s", "2", &etag)] {
            let one = change(&*store, "p", attempt.clone()).await;
            assert_eq!(one, Err(StoreError::Conflict), "{foreign:?} in {attempt:?}");
            let batch = [insert("t", "1"), attempt.clone()];
            let two = store.commit(crate::write::TABLE, &crate::write::key("p"), &batch).await;
            assert_eq!(two, Err(StoreError::Conflict), "{foreign:?} in a batch with {attempt:?}");
        }
        assert_eq!(get(&*store, "p", "r").await, before, "after {foreign:?}");
        assert_eq!(get(&*store, "p", "t").await, None, "after {foreign:?}");
    }
}

/// Each write of a row gives an etag that the row never had, also when the document stays the same.
pub async fn every_write_makes_a_new_etag(store: Arc<dyn Store>) {
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        let inserted = change(&*store, "p", insert("r", "{}")).await.unwrap();
        let put = change(&*store, "p", put("r", "{}")).await.unwrap();
        let replaced = change(&*store, "p", replace("r", "{}", &put)).await.unwrap();
        change(&*store, "p", delete("r", &replaced)).await.unwrap();
        for etag in [inserted, put, replaced] {
            assert!(seen.insert(etag.0.clone()), "{etag:?} was given twice");
        }
    }
}

/// A row deleted and inserted again with the same document is another row: who read the first cannot change
/// the second.
pub async fn an_etag_of_a_deleted_row_does_not_fit_its_successor(store: Arc<dyn Store>) {
    let old = change(&*store, "p", insert("r", "{}")).await.unwrap();
    change(&*store, "p", delete("r", &old)).await.unwrap();
    change(&*store, "p", insert("r", "{}")).await.unwrap();
    let before = get(&*store, "p", "r").await;
    assert_eq!(change(&*store, "p", replace("r", "2", &old)).await, Err(StoreError::Conflict));
    assert_eq!(change(&*store, "p", delete("r", &old)).await, Err(StoreError::Conflict));
    assert_eq!(get(&*store, "p", "r").await, before);
}
