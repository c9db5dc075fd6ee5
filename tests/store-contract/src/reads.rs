//! Reading single rows.

use crate::write::{TABLE, change, get, insert, key, put};
use ajar_access::ports::store::{Change, Store, Table};
use std::sync::Arc;

/// A row of a table, partition or name that nobody wrote is `None`, not an error.
pub async fn a_row_never_written_is_none(store: Arc<dyn Store>) {
    assert_eq!(get(&*store, "p", "r").await, None, "in a table that was never written");
    change(&*store, "p", insert("r", "{}")).await.unwrap();
    assert_eq!(get(&*store, "p", "other").await, None, "beside a row that exists");
    assert_eq!(get(&*store, "other", "r").await, None, "in another partition");
}

/// A row has the keys and document it was written with, and the etag that the write answered.
pub async fn a_row_reads_back_as_it_was_written(store: Arc<dyn Store>) {
    let etag = change(&*store, "p", insert("r", r#"{"a":1}"#)).await.unwrap();
    let row = get(&*store, "p", "r").await.unwrap();
    assert_eq!(row.partition, key("p"));
    assert_eq!(row.row, key("r"));
    assert_eq!(row.etag, etag);
    assert_eq!(row.document, r#"{"a":1}"#);
}

/// Reading a row any number of times leaves its etag alone.
pub async fn reading_changes_nothing(store: Arc<dyn Store>) {
    change(&*store, "p", insert("r", "{}")).await.unwrap();
    let first = get(&*store, "p", "r").await;
    for _ in 0..3 {
        assert_eq!(get(&*store, "p", "r").await, first);
    }
}

/// Equal keys in different tables are different rows.
pub async fn tables_are_apart(store: Arc<dyn Store>) {
    for table in Table::ALL {
        let change = Change::Insert { row: key("r"), document: format!("{:?}", table.name()) };
        store.commit(table, &key("p"), &[change]).await.unwrap();
    }
    for table in Table::ALL {
        let row = store.get(table, &key("p"), &key("r")).await.unwrap().unwrap();
        assert_eq!(row.document, format!("{:?}", table.name()));
    }
    let etag = store.get(TABLE, &key("p"), &key("r")).await.unwrap().unwrap().etag;
    store.commit(TABLE, &key("p"), &[Change::Delete { row: key("r"), etag }]).await.unwrap();
    for table in Table::ALL {
        let left = store.get(table, &key("p"), &key("r")).await.unwrap();
        assert_eq!(left.is_none(), table == TABLE, "after a deletion in {}", TABLE.name());
    }
}

/// Equal row keys in different partitions are different rows.
pub async fn partitions_are_apart(store: Arc<dyn Store>) {
    change(&*store, "p", insert("r", "1")).await.unwrap();
    change(&*store, "q", insert("r", "2")).await.unwrap();
    change(&*store, "q", put("r", "3")).await.unwrap();
    assert_eq!(get(&*store, "p", "r").await.unwrap().document, "1");
    assert_eq!(get(&*store, "q", "r").await.unwrap().document, "3");
}
