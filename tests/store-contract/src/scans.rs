//! Reading ranges of rows, page by page.

use crate::write::{TABLE, change, delete, insert, key, put, replace, rows};
use ajar_access::keys::Key;
use ajar_access::ports::store::{Change, Range, Row, Store, scan_all};
use std::collections::BTreeSet;
use std::sync::Arc;

const EVERYTHING: Range =
    Range { first_partition: None, last_partition: None, first_row: None, last_row: None };

/// Partition and row as text, in the order given.
fn names(rows: &[Row]) -> Vec<(String, String)> {
    rows.iter().map(|row| (row.partition.as_str().to_owned(), row.row.as_str().to_owned())).collect()
}

async fn scan(store: &dyn Store, range: &Range) -> Vec<(String, String)> {
    names(&scan_all(store, TABLE, range, 100_000).await.unwrap())
}

/// Adds a row in each of `partitions` for each of `rows`.
async fn grid(store: &dyn Store, partitions: &[&str], rows: &[&str]) {
    for partition in partitions {
        let changes: Vec<Change> = rows.iter().map(|row| insert(row, "{}")).collect();
        store.commit(TABLE, &key(partition), &changes).await.unwrap();
    }
}

fn pairs(partitions: &[&str], rows: &[&str]) -> Vec<(String, String)> {
    partitions.iter().flat_map(|p| rows.iter().map(move |r| ((*p).to_owned(), (*r).to_owned()))).collect()
}

/// A table never written, an empty partition and an empty table give no rows and no next page.
pub async fn a_scan_of_nothing_is_empty_and_ends(store: Arc<dyn Store>) {
    for range in [EVERYTHING, Range::partition(key("p"))] {
        let page = store.scan(TABLE, &range, None, 10).await.unwrap();
        assert_eq!((page.rows, page.next), (vec![], None), "in a table that was never written");
    }
    let etag = change(&*store, "p", insert("r", "{}")).await.unwrap();
    let page = store.scan(TABLE, &Range::partition(key("q")), None, 10).await.unwrap();
    assert_eq!((page.rows, page.next), (vec![], None), "in another partition");
    change(&*store, "p", delete("r", &etag)).await.unwrap();
    assert_eq!(scan(&*store, &EVERYTHING).await, vec![], "after the last row was deleted");
}

/// Partitions, and rows in them, come in order of their keys' bytes, whatever order they were written in:
/// not as numbers, not regardless of case, not by a language's rules.
pub async fn a_scan_is_in_order_of_bytes(store: Arc<dyn Store>) {
    // Each part is one key; the two-part keys hold the separator.
    let mut keys: Vec<Key> =
        ["10", "9", "1", "01", "a", "B", "A", "b", "-", ".", "z", "Z", "~", "é", "a-", "a.", "aa"]
            .iter()
            .map(|part| key(part))
            .collect();
    keys.push(Key::new(["a", "b"]));
    keys.push(Key::new(["a", ""]));
    for partition in keys.iter().rev() {
        let changes: Vec<Change> =
            keys.iter().map(|row| Change::Insert { row: row.clone(), document: "{}".to_owned() }).collect();
        store.commit(TABLE, partition, &changes).await.unwrap();
    }
    keys.sort_by(|a, b| a.as_str().as_bytes().cmp(b.as_str().as_bytes()));
    let expected: Vec<(String, String)> = keys
        .iter()
        .flat_map(|p| keys.iter().map(move |r| (p.as_str().to_owned(), r.as_str().to_owned())))
        .collect();
    assert_eq!(scan(&*store, &EVERYTHING).await, expected);
}

/// Bounds belong to the range, need not exist, and may be left out on either side.
pub async fn the_bounds_of_a_scan_are_inclusive(store: Arc<dyn Store>) {
    let all = ["b", "d", "f", "h"];
    grid(&*store, &all, &["r"]).await;
    grid(&*store, &["one"], &all).await;
    let bounds: [(Option<&str>, Option<&str>, &[&str]); 9] = [
        (Some("d"), Some("f"), &["d", "f"]),
        (Some("c"), Some("g"), &["d", "f"]),
        (Some("d"), Some("d"), &["d"]),
        (None, Some("d"), &["b", "d"]),
        (Some("f"), None, &["f", "h"]),
        (Some("e"), Some("e"), &[]),
        (Some("i"), Some("j"), &[]),
        (None, Some("a"), &[]),
        (None, None, &all),
    ];
    for (first, last, expected) in bounds {
        let partitions = Range {
            first_partition: Some(key(first.unwrap_or("a"))),
            last_partition: Some(key(last.unwrap_or("i"))),
            ..EVERYTHING
        };
        assert_eq!(
            scan(&*store, &partitions).await,
            pairs(expected, &["r"]),
            "partitions {first:?} to {last:?}"
        );
        let rows =
            Range { first_row: first.map(key), last_row: last.map(key), ..Range::partition(key("one")) };
        assert_eq!(scan(&*store, &rows).await, pairs(&["one"], expected), "rows {first:?} to {last:?}");
    }
    let from = Range { first_partition: Some(key("h")), ..EVERYTHING };
    let mut expected = pairs(&["h"], &["r"]);
    expected.extend(pairs(&["one"], &all));
    assert_eq!(scan(&*store, &from).await, expected, "partitions from h on");
    assert_eq!(
        scan(&*store, &Range::up_to(key("d"))).await,
        pairs(&["b", "d"], &["r"]),
        "partitions up to d"
    );
}

/// Row bounds are not a corner of a two-dimensional range: they cut every partition alike.
pub async fn row_bounds_hold_in_every_partition(store: Arc<dyn Store>) {
    grid(&*store, &["p1", "p2", "p3", "p4"], &["a", "b", "c", "d"]).await;
    grid(&*store, &["p2a"], &["a", "d"]).await;
    let range = Range {
        first_partition: Some(key("p2")),
        last_partition: Some(key("p3")),
        first_row: Some(key("b")),
        last_row: Some(key("c")),
    };
    assert_eq!(scan(&*store, &range).await, pairs(&["p2", "p3"], &["b", "c"]));
    let open = Range { first_row: Some(key("c")), ..EVERYTHING };
    let mut expected = pairs(&["p1", "p2"], &["c", "d"]);
    expected.extend(pairs(&["p2a"], &["d"]));
    expected.extend(pairs(&["p3", "p4"], &["c", "d"]));
    assert_eq!(scan(&*store, &open).await, expected);
    // The same, one row a page: a page may end anywhere.
    let mut paged = Vec::new();
    let mut from = None;
    loop {
        let page = store.scan(TABLE, &open, from.as_ref(), 1).await.unwrap();
        paged.extend(names(&page.rows));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(paged, expected);
}

/// First after last selects nothing, of partitions and of rows.
pub async fn a_range_that_ends_before_it_begins_is_empty(store: Arc<dyn Store>) {
    grid(&*store, &["a", "b", "c"], &["a", "b", "c"]).await;
    let partitions = Range { first_partition: Some(key("c")), last_partition: Some(key("a")), ..EVERYTHING };
    assert_eq!(scan(&*store, &partitions).await, vec![]);
    let in_one = Range { first_row: Some(key("c")), last_row: Some(key("a")), ..Range::partition(key("b")) };
    assert_eq!(scan(&*store, &in_one).await, vec![]);
    let in_all = Range { first_row: Some(key("c")), last_row: Some(key("a")), ..EVERYTHING };
    assert_eq!(scan(&*store, &in_all).await, vec![]);
}

/// The ranges made from prefixes hold what begins with the prefix and `_`, whatever follows, and not what
/// sorts after it.
pub async fn prefixes_select_what_is_under_them(store: Arc<dyn Store>) {
    let under =
        [Key::new(["p", ""]), Key::new(["p", "1"]), Key::new(["p", "z", "z"]), Key::new(["p", "~\u{7f}"])];
    let beside = [Key::new(["o", "1"]), Key::new(["pa"]), Key::new(["p~"]), Key::new(["q"])];
    for k in under.iter().chain(&beside) {
        let change = Change::Insert { row: k.clone(), document: "{}".to_owned() };
        store.commit(TABLE, k, std::slice::from_ref(&change)).await.unwrap();
        store.commit(TABLE, &key("all"), std::slice::from_ref(&change)).await.unwrap();
    }
    let expected: BTreeSet<&str> = under.iter().map(Key::as_str).collect();
    let partitions = scan(&*store, &Range::partitions_under(&key("p"))).await;
    assert_eq!(partitions.iter().map(|(p, _)| p.as_str()).collect::<BTreeSet<_>>(), expected);
    let rows = scan(&*store, &Range::rows_under(key("all"), &key("p"))).await;
    assert_eq!(rows.iter().map(|(_, r)| r.as_str()).collect::<BTreeSet<_>>(), expected);
}

/// Pages of any size, one after the other, give each row once, in order, and end.
pub async fn pages_join_to_the_whole(store: Arc<dyn Store>) {
    let rows = ["a", "b", "c", "d", "e"];
    let partitions = ["p", "q", "s"];
    grid(&*store, &partitions, &rows).await;
    grid(&*store, &["r"], &["only"]).await;
    let mut expected = pairs(&["p", "q"], &rows);
    expected.extend(pairs(&["r"], &["only"]));
    expected.extend(pairs(&["s"], &rows));
    for limit in [1, 2, 3, 5, 7, 15, 16, 17, 1000] {
        let mut joined = Vec::new();
        let mut from = None;
        let mut pages = 0;
        loop {
            let page = store.scan(TABLE, &EVERYTHING, from.as_ref(), limit).await.unwrap();
            assert!(page.rows.len() <= limit, "a page of {} rows with limit {limit}", page.rows.len());
            joined.extend(names(&page.rows));
            pages += 1;
            assert!(pages <= 100, "no end of pages with limit {limit}");
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        assert_eq!(joined, expected, "limit {limit}");
    }
}

/// Rows that are there throughout are seen exactly once although others come and go between the pages, even
/// the very row at which a page ended or the next would begin.
pub async fn pages_go_on_while_rows_come_and_go(store: Arc<dyn Store>) {
    let stay = ["b", "d", "f", "h", "j"];
    let go = ["a", "c", "e", "g", "i"];
    grid(&*store, &["p", "q"], &stay).await;
    grid_put(&*store, &["p", "q"], &go).await;
    let mut seen = Vec::new();
    let mut from = None;
    let mut present = true;
    loop {
        let page = store.scan(TABLE, &EVERYTHING, from.as_ref(), 1).await.unwrap();
        seen.extend(names(&page.rows));
        if present {
            for partition in ["p", "q"] {
                let deletions: Vec<Change> = rows(&*store, partition)
                    .await
                    .into_iter()
                    .filter(|row| go.contains(&row.row.as_str()))
                    .map(|row| Change::Delete { row: row.row, etag: row.etag })
                    .collect();
                store.commit(TABLE, &key(partition), &deletions).await.unwrap();
            }
        } else {
            grid_put(&*store, &["p", "q"], &go).await;
        }
        present = !present;
        match page.next {
            Some(next) => from = Some(next),
            None => break,
        }
        assert!(seen.len() <= 20, "rows are given again and again: {seen:?}");
    }
    let mut stayed = seen.clone();
    stayed.retain(|(_, row)| stay.contains(&row.as_str()));
    assert_eq!(stayed, pairs(&["p", "q"], &stay));
    assert!(seen.is_sorted(), "out of order: {seen:?}");
}

async fn grid_put(store: &dyn Store, partitions: &[&str], rows: &[&str]) {
    for partition in partitions {
        let changes: Vec<Change> = rows.iter().map(|row| put(row, "{}")).collect();
        store.commit(TABLE, &key(partition), &changes).await.unwrap();
    }
}

/// More rows than a page may have come in full, and no more than asked for.
pub async fn a_scan_of_thousands_of_rows_ends(store: Arc<dyn Store>) {
    for hundred in 0..23 {
        let changes: Vec<Change> = (0..100).map(|i| insert(&format!("{hundred:02}{i:02}"), "{}")).collect();
        store.commit(TABLE, &key("p"), &changes).await.unwrap();
    }
    let expected: Vec<(String, String)> = (0..2300).map(|i| ("p".to_owned(), format!("{i:04}"))).collect();
    assert_eq!(scan(&*store, &Range::partition(key("p"))).await, expected);
    let first = store.scan(TABLE, &Range::partition(key("p")), None, 1000).await.unwrap();
    assert!(first.rows.len() <= 1000 && first.next.is_some());
    let most = scan_all(&*store, TABLE, &Range::partition(key("p")), 2299).await;
    assert!(most.is_err(), "scan_all gives no more rows than its caller can hold");
}

/// A row found by scanning can be changed and deleted without reading it again.
pub async fn a_scan_gives_the_etags_that_changes_need(store: Arc<dyn Store>) {
    grid(&*store, &["p"], &["a", "b"]).await;
    let found = rows(&*store, "p").await;
    for row in &found {
        assert_eq!(store.get(TABLE, &row.partition, &row.row).await.unwrap().as_ref(), Some(row));
    }
    change(&*store, "p", replace("a", "2", &found[0].etag)).await.unwrap();
    change(&*store, "p", delete("b", &found[1].etag)).await.unwrap();
}
