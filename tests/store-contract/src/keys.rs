//! Whatever a row is named after, its key works.

use crate::write::TABLE;
use ajar_access::keys::Key;
use ajar_access::ports::store::{Change, Range, Store, scan_all};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Uses every key as a partition and as a row, in every operation, and checks that no two are the same row.
async fn usable(store: &dyn Store, keys: &[Key]) {
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "two names made the same key");
    let one = Key::new(["one"]);
    for (number, key) in keys.iter().enumerate() {
        for (partition, row) in [(key, key), (&one, key), (key, &one)] {
            let change = Change::Insert { row: row.clone(), document: number.to_string() };
            store
                .commit(TABLE, partition, &[change])
                .await
                .unwrap_or_else(|error| panic!("{key:?}: {error}"));
        }
    }
    for (number, key) in keys.iter().enumerate() {
        for (partition, row) in [(key, key), (&one, key), (key, &one)] {
            let found =
                store.get(TABLE, partition, row).await.unwrap().unwrap_or_else(|| panic!("no {key:?}"));
            assert_eq!((&found.partition, &found.row), (partition, row));
            assert_eq!(found.document, number.to_string());
        }
        let exactly = Range {
            first_row: Some(key.clone()),
            last_row: Some(key.clone()),
            ..Range::partition(key.clone())
        };
        let found = scan_all(store, TABLE, &exactly, 10).await.unwrap();
        assert_eq!(found.len(), 1, "{key:?}");
        assert_eq!((&found[0].partition, &found[0].row), (key, key));
    }
    let found = scan_all(store, TABLE, &Range::partition(one.clone()), 10_000).await.unwrap();
    let mut sorted: Vec<&Key> = keys.iter().collect();
    sorted.sort_by_key(|key| key.as_str().as_bytes());
    assert_eq!(found.iter().map(|row| &row.row).collect::<Vec<_>>(), sorted);
    for part in found.chunks(50) {
        let batch: Vec<Change> = part
            .iter()
            .enumerate()
            .map(|(i, row)| match i % 3 {
                0 => Change::Delete { row: row.row.clone(), etag: row.etag.clone() },
                1 => Change::Put { row: row.row.clone(), document: "\"put\"".to_owned() },
                _ => Change::Replace {
                    row: row.row.clone(),
                    document: "\"put\"".to_owned(),
                    etag: row.etag.clone(),
                },
            })
            .collect();
        store.commit(TABLE, &one, &batch).await.unwrap();
    }
    for row in &found {
        match store.get(TABLE, &one, &row.row).await.unwrap() {
            None => {}
            Some(left) => {
                assert_eq!(left.document, "\"put\"");
                let deletion = Change::Delete { row: left.row, etag: left.etag };
                store.commit(TABLE, &one, &[deletion]).await.unwrap();
            }
        }
    }
    assert_eq!(scan_all(store, TABLE, &Range::partition(one), 10).await.unwrap(), vec![]);
}

/// Resource ids, quotes, separators, control characters and other alphabets.
pub async fn awkward_names_make_distinct_usable_keys(store: Arc<dyn Store>) {
    let names = [
        "'",
        "''",
        "\"",
        "\\",
        "/",
        "#",
        "?",
        "%",
        "%27",
        "%2F",
        "&",
        "+",
        " ",
        "  ",
        "(",
        ")",
        "()",
        "a=b",
        "a,b",
        ";",
        ":",
        "@",
        "$",
        "*",
        "~",
        "~27",
        "_",
        "__",
        "-",
        ".",
        "..",
        "...",
        "!",
        "`",
        "|",
        "<",
        ">",
        "\t",
        "\r",
        "\n",
        "\r\n",
        "\0",
        "\u{1}",
        "\u{1f}",
        "\u{7f}",
        "\u{85}",
        "\u{9f}",
        "\u{a0}",
        "é",
        "e\u{301}",
        "É",
        "ß",
        "日本語",
        "\u{2028}",
        "\u{feff}",
        "\u{ffff}",
        "😀",
        "a",
        "A",
        "ab",
        "a'b",
        "' or '1' eq '1",
        "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/Büro's/providers/Microsoft.Compute/\
         virtualMachines/vm#1?x=%20",
        "/SUBSCRIPTIONS/00000000-0000-0000-0000-000000000001/resourceGroups/Büro's/providers/Microsoft.Compute/\
         virtualMachines/vm#1?x=%20",
        "true",
        "null",
        "datetime'2026-01-01'",
        "$batch",
        "a\u{0}b",
    ];
    let mut keys: Vec<Key> = names.iter().map(|name| Key::new([name])).collect();
    keys.push(Key::new(["a", "b"]));
    keys.push(Key::new(["a", "", "b"]));
    keys.push(Key::new(["", "a"]));
    keys.push(Key::new(["a", ""]));
    usable(&*store, &keys).await;
}

/// Names beyond a key's length differ still, however late.
pub async fn long_names_make_distinct_usable_keys(store: Arc<dyn Store>) {
    let mut keys = Vec::new();
    for length in [500, 510, 511, 512, 513, 600, 2000, 20_000] {
        keys.push(Key::new([format!("{}a", "x".repeat(length - 1))]));
        keys.push(Key::new([format!("{}b", "x".repeat(length - 1))]));
        keys.push(Key::new([format!("{}/", "x".repeat(length - 1))]));
    }
    keys.push(Key::new(["/".repeat(170)]));
    keys.push(Key::new(["/".repeat(171)]));
    keys.push(Key::new(["日".repeat(300)]));
    keys.push(Key::new(["x".repeat(300), "y".repeat(300)]));
    keys.push(Key::new(["x".repeat(300), "y".repeat(299), "z".to_owned()]));
    assert!(keys.iter().all(|key| key.as_str().len() <= 512));
    usable(&*store, &keys).await;
}

/// `1`, `01`, `1.0` and `1e0` are four rows.
pub async fn keys_that_look_like_numbers_are_text(store: Arc<dyn Store>) {
    let names = [
        "0",
        "00",
        "-0",
        "1",
        "01",
        "001",
        "1.0",
        "1.",
        "1e0",
        "1E0",
        "0x1",
        "10",
        "9",
        "-1",
        "Infinity",
        "NaN",
        "9007199254740992",
        "9007199254740993",
        "1e999",
        ".5",
        "0.5",
        "true",
        "false",
        "undefined",
    ];
    usable(&*store, &names.map(|name| Key::new([name]))).await;
}
