//! The file of the embedded store: what survives, and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::keys::Key;
use ajar_access::ports::store::{Change, Range, Store, StoreError, Table, scan_all};
use ajar_embedded_store::{EmbeddedStore, OpenError};
use std::path::PathBuf;
use std::process::Command;

/// A file name of the test's own, and no file of an earlier run.
fn fresh_path(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("file-{}-{test}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

fn key(part: &str) -> Key {
    Key::new([part])
}

#[tokio::test]
async fn rows_and_etags_survive_a_restart() {
    let path = fresh_path("restart");
    let insert = [Change::Insert { row: key("r"), document: "1".to_owned() }];
    let store = EmbeddedStore::open(&path).unwrap();
    let first = store.commit(Table::Points, &key("p"), &insert).await.unwrap()[0].clone().unwrap();
    drop(store);

    let store = EmbeddedStore::open(&path).unwrap();
    let row = store.get(Table::Points, &key("p"), &key("r")).await.unwrap().unwrap();
    assert_eq!((row.document.as_str(), &row.etag), ("1", &first));
    let delete = [Change::Delete { row: key("r"), etag: first.clone() }];
    store.commit(Table::Points, &key("p"), &delete).await.unwrap();
    drop(store);

    // The counter is remembered although no row is left that shows it.
    let store = EmbeddedStore::open(&path).unwrap();
    let second = store.commit(Table::Points, &key("p"), &insert).await.unwrap()[0].clone().unwrap();
    assert_ne!(first, second);
    let stale = [Change::Replace { row: key("r"), document: "2".to_owned(), etag: first }];
    assert_eq!(store.commit(Table::Points, &key("p"), &stale).await, Err(StoreError::Conflict));
}

/// Names the file to the other process, which is this test started again.
const WRITER: &str = "EMBEDDED_STORE_TEST_WRITES_TO";

/// Writes batches until it is killed: what the other process of the next test does.
async fn write_until_killed(path: &std::ffi::OsStr) {
    let store = EmbeddedStore::open(path).unwrap();
    for number in 0.. {
        let batch: Vec<Change> = ["a", "b", "c"]
            .iter()
            .map(|row| Change::Put { row: key(row), document: number.to_string() })
            .collect();
        store.commit(Table::Grants, &key("p"), &batch).await.unwrap();
        if number == 20 {
            println!("\nTWENTY DONE");
        }
    }
}

/// A process killed while it writes loses nothing that `commit` had answered and leaves no half batch; while
/// it lives, nobody else gets the file.
#[tokio::test]
async fn a_kill_loses_no_answered_batch_and_a_second_process_is_refused() {
    use std::io::BufRead;
    if let Some(path) = std::env::var_os(WRITER) {
        return write_until_killed(&path).await;
    }
    let path = fresh_path("kill");
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_kill_loses_no_answered_batch_and_a_second_process_is_refused", "--nocapture"])
        .env(WRITER, &path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(writer.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap() == "TWENTY DONE"), "the writer ended early");
    let refused = EmbeddedStore::open(&path).unwrap_err();
    writer.kill().unwrap();
    writer.wait().unwrap();

    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains(path.to_str().unwrap()) && text.contains("stop the other one"), "{text}");
    let store = EmbeddedStore::open(&path).unwrap();
    let rows = scan_all(&store, Table::Grants, &Range::partition(key("p")), 10).await.unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.document == rows[0].document), "half a batch: {rows:?}");
    assert!(rows[0].document.parse::<u32>().unwrap() >= 20, "an answered batch is lost: {rows:?}");
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let path = fresh_path("foreign");
    let foreign = b"not a store\n".repeat(2000);
    std::fs::write(&path, &foreign).unwrap();
    let refused = EmbeddedStore::open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Unreadable { .. }), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), foreign);
}

/// A file cut short, or with a page overwritten, is an error and not a panic or a silent loss.
#[tokio::test]
async fn a_damaged_file_is_refused() {
    let path = fresh_path("damaged");
    let store = EmbeddedStore::open(&path).unwrap();
    for number in 0..50 {
        let put = [Change::Put { row: key(&number.to_string()), document: "x".repeat(10_000) }];
        store.commit(Table::Grants, &key("p"), &put).await.unwrap();
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let refused = EmbeddedStore::open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Unreadable { .. }), "cut short: {refused}");

    let mut scribbled = whole.clone();
    scribbled[4096..].chunks_mut(4096).step_by(2).for_each(|page| page.fill(0x5a));
    std::fs::write(&path, &scribbled).unwrap();
    let refused = EmbeddedStore::open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Unreadable { .. }), "overwritten: {refused}");
}

#[test]
fn missing_folders_are_made_and_impossible_ones_named() {
    let folder = fresh_path("folder");
    let _ = std::fs::remove_dir_all(&folder);
    drop(EmbeddedStore::open(folder.join("a").join("store")).unwrap());
    let inside_a_file = folder.join("a").join("store").join("b");
    let refused = EmbeddedStore::open(&inside_a_file).unwrap_err();
    assert!(matches!(refused, OpenError::Inaccessible { .. }), "{refused}");
    assert!(refused.to_string().contains(inside_a_file.to_str().unwrap()), "{refused}");
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let path = fresh_path("mode");
    drop(EmbeddedStore::open(&path).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A page ends by bytes too, and the scan still gives every row.
#[tokio::test]
async fn a_page_of_large_rows_ends_early() {
    let store = EmbeddedStore::open(fresh_path("large")).unwrap();
    for number in 10..50 {
        let put = [Change::Put { row: key(&number.to_string()), document: "x".repeat(250_000) }];
        store.commit(Table::Grants, &key("p"), &put).await.unwrap();
    }
    let page = store.scan(Table::Grants, &Range::partition(key("p")), None, 1000).await.unwrap();
    assert!(page.rows.len() < 20 && page.next.is_some(), "{} rows in one page", page.rows.len());
    let rows = scan_all(&store, Table::Grants, &Range::partition(key("p")), 100).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.row.as_str().to_owned()).collect();
    assert_eq!(names, (10..50).map(|number| number.to_string()).collect::<Vec<_>>());
}
