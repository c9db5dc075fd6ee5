//! What a document may hold.

use crate::write::{TABLE, change, document, get, insert, key, put, rows};
use ajar_access::ports::store::{Change, MAX_DOCUMENT_UNITS, Store, StoreError};
use std::sync::Arc;

/// `value` as JSON text, as callers write documents.
fn json(value: &str) -> String {
    serde_json::Value::String(value.to_owned()).to_string()
}

/// Writes `documents` alone and in batches, and reads each with `get` and by scanning.
async fn come_back(store: &dyn Store, documents: &[String]) {
    for (number, text) in documents.iter().enumerate() {
        let row = format!("r{number:04}");
        change(store, "alone", insert(&row, text)).await.unwrap();
        let back = document(store, "alone", &row).await;
        assert!(back == *text, "document {number}, inserted alone: {}", difference(text, &back));
        change(store, "alone", put(&row, text)).await.unwrap();
        let back = document(store, "alone", &row).await;
        assert!(back == *text, "document {number}, put alone: {}", difference(text, &back));
    }
    // Four to a batch stays within a batch's bytes.
    for (batch, texts) in documents.chunks(4).enumerate() {
        let changes: Vec<Change> = texts
            .iter()
            .enumerate()
            .map(|(i, text)| {
                let row = format!("r{:04}", batch * 4 + i);
                if i % 2 == 0 { insert(&row, text) } else { put(&row, text) }
            })
            .collect();
        store.commit(TABLE, &key("batch"), &changes).await.unwrap();
    }
    for partition in ["alone", "batch"] {
        let found = rows(store, partition).await;
        assert_eq!(found.len(), documents.len());
        for (number, (row, text)) in found.iter().zip(documents).enumerate() {
            assert!(
                row.document == *text,
                "document {number}, scanned in {partition}: {}",
                difference(text, &row.document)
            );
        }
    }
}

/// Where two texts part, short enough to print.
fn difference(wanted: &str, found: &str) -> String {
    let place = wanted.chars().zip(found.chars()).take_while(|(a, b)| a == b).count();
    let near = |text: &str| text.chars().skip(place.saturating_sub(3)).take(20).collect::<String>();
    format!(
        "{} bytes became {}, from character {place} on: {:?} became {:?}",
        wanted.len(),
        found.len(),
        near(wanted),
        near(found)
    )
}

/// Every character that some layer might take for its own comes back as it was.
pub async fn documents_with_awkward_content_come_back(store: Arc<dyn Store>) {
    let mut texts: Vec<String> = [
        "",
        " ",
        "'",
        "''",
        "\"",
        "\\",
        "\\\"",
        "\\\\",
        "/",
        "{}",
        "{",
        "}",
        "}}{{",
        "<a>&amp;</a>",
        "%27%00",
        "\t",
        "\r",
        "\n",
        "\r\n\r\n",
        "\0",
        "a\0b",
        "\u{1}\u{1f}",
        "\u{7f}",
        "\u{80}\u{9f}",
        "\u{a0}",
        "é",
        "e\u{301}",
        "ß",
        "日本語",
        "\u{202e}rtl",
        "\u{2028}",
        "\u{2029}",
        "{\u{2028}}",
        "\u{feff}",
        "\u{fffd}",
        "\u{ffff}",
        "😀",
        "👩\u{200d}👩\u{200d}👧",
        "\u{10ffff}",
        "\\u0000",
        "\\ud83d",
        "null",
        "  padded  ",
        "$batch",
        "--changeset_x",
        "\n--changesetresponse_x\nHTTP/1.1 412 No\n",
        "PUT http://127.0.0.1/x HTTP/1.1",
        "DELETE MERGE PATCH",
        "HTTP/1.1 500 x",
        "ETag: \"x\"",
        "odata.error",
        "@odata.type",
        "datetime'2026'",
    ]
    .iter()
    .map(|value| json(value))
    .collect();
    texts.extend(
        [
            "{}",
            "[]",
            "null",
            "0",
            r#"{"a":{"b":[1,2,{"c":null}]}}"#,
            r#"{"PartitionKey":"x","RowKey":"y","odata.etag":"z","Timestamp":1}"#,
            r#"{"d0":"x","v":9}"#,
            r#"{"n":9007199254740993,"f":1.0e400}"#,
            "{ \"spaced\" :\t1,\n \"lines\":\r\n2 }",
            "\"\\u0000\\ud83d\\ude00\"",
            "\"2026-11-24T12:00:00Z\"",
        ]
        .map(str::to_owned),
    );
    let every_control: String = (0u8..0x20).map(char::from).collect();
    texts.push(json(&every_control));
    come_back(&*store, &texts).await;
}

/// Stores cut long texts in pieces of 32 Ki UTF-16 units or of 64 KiB: none loses or breaks a character at
/// such a place, least of all one of two units.
pub async fn documents_of_every_length_around_a_storage_boundary_come_back(store: Arc<dyn Store>) {
    let mut texts = Vec::new();
    for boundary in [32 * 1024, 64 * 1024, 3 * 32 * 1024] {
        for length in boundary - 2..=boundary + 2 {
            texts.push(json(&"x".repeat(length - 2)));
            // A pair of units begins at every place around the boundary.
            texts.push(json(&format!("{}😀{}", "x".repeat(length - 3), "y".repeat(10))));
        }
        texts.push(json(&"é".repeat(boundary)));
        texts.push(json(&"😀".repeat(boundary / 2)));
        texts.push(json(&format!("a{}", "😀".repeat(boundary / 2))));
        texts.push(json(&"\"\\".repeat(boundary / 4)));
    }
    come_back(&*store, &texts).await;
}

/// The limit is in UTF-16 units; one unit more is refused and not written. Half of it may lie beyond ASCII,
/// where a store may need several bytes a unit.
pub async fn the_largest_document_is_kept_and_a_larger_one_refused(store: Arc<dyn Store>) {
    let inner = MAX_DOCUMENT_UNITS - 2;
    let half = inner / 2;
    for (name, text) in [
        ("ascii", "x".repeat(inner)),
        ("quotes", "\\\"".repeat(half)),
        ("three-bytes", format!("{}{}", "x".repeat(inner - half), "語".repeat(half))),
        ("pairs", format!("{}{}", "😀".repeat(half / 2), "x".repeat(inner - half / 2 * 2))),
    ] {
        let largest = format!("\"{text}\"");
        assert_eq!(largest.encode_utf16().count(), MAX_DOCUMENT_UNITS);
        change(&*store, "p", insert(name, &largest)).await.unwrap();
        assert!(document(&*store, "p", name).await == largest, "{name}, inserted");
        change(&*store, "p", put(name, &largest)).await.unwrap();
        assert!(document(&*store, "p", name).await == largest, "{name}, put");
        let larger = format!("{largest} ");
        for attempt in [insert("larger", &larger), put("larger", &larger)] {
            let answer = change(&*store, "p", attempt).await;
            assert!(matches!(answer, Err(StoreError::TooLarge { .. })), "{name}: {answer:?}");
        }
        assert_eq!(get(&*store, "p", "larger").await, None);
    }
}

/// A document that shrinks from many pieces to one is only the one.
pub async fn a_shorter_document_leaves_nothing_of_the_longer_one(store: Arc<dyn Store>) {
    let long = json(&"x".repeat(200 * 1024));
    for short in ["{}", "\"short\""] {
        change(&*store, "p", put("r", &long)).await.unwrap();
        change(&*store, "p", put("r", short)).await.unwrap();
        assert_eq!(document(&*store, "p", "r").await, short, "put");
        let etag = change(&*store, "p", put("r", &long)).await.unwrap();
        change(&*store, "p", crate::write::replace("r", short, &etag)).await.unwrap();
        assert_eq!(document(&*store, "p", "r").await, short, "replaced");
    }
}
