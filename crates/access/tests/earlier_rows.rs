//! Rows that an earlier release wrote, and rows of a later one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::life_cycle::Status;
use ajar_access::ports::store::Table;
use ajar_access::request::AccessRequest;
use ajar_access::testing::{self, World, user};
use ajar_access::{query, submit};
use serde_json::{Value, json};

/// What releases after the first shape added to a request, each absent in older rows.
const ADDED: [&str; 6] = ["correlation", "window", "group", "reminder", "reminded", "notBefore"];

async fn asked() -> (World, AccessRequest) {
    let world = World::new();
    world.protect("web-1", json!({})).await;
    let ask = testing::ask("web-1", "203.0.113.7", "PT1H");
    let request = submit::submit(&world.ajar, &user("bob"), &ask).await.unwrap();
    (world, request)
}

/// Changes the request's stored row.
fn rewrite(world: &World, request: &AccessRequest, change: impl Fn(&mut Value)) {
    let rows = world.store.contents();
    let id = request.id.as_str();
    let is_it =
        |table: Table, row: &str| table == Table::Requests && row.starts_with('r') && row.contains(id);
    let ((table, partition, row), document) =
        rows.into_iter().find(|((table, _, row), _)| is_it(*table, row)).unwrap();
    let mut document = serde_json::from_str(&document).unwrap();
    change(&mut document);
    world.store.overwrite(table, &partition, &row, document.to_string());
}

#[tokio::test]
async fn a_request_without_what_later_releases_added_is_read_decided_and_opened() {
    let (world, request) = asked().await;
    rewrite(&world, &request, |row| {
        assert_eq!(row["v"], 1);
        for field in ADDED {
            row.as_object_mut().unwrap().remove(field);
        }
    });
    world.deliver().await;
    let read = query::request(&world.ajar, &user("bob"), &request.id).await.unwrap();
    assert_eq!(read.status, Status::Active);
    assert!(world.azure.allows("203.0.113.7", "10.0.0.4", 22));
}

#[tokio::test]
async fn a_row_of_a_later_version_is_refused_by_table_and_version_and_opens_nothing() {
    let (world, request) = asked().await;
    rewrite(&world, &request, |row| row["v"] = json!(2));
    world.deliver().await;
    let error = query::request(&world.ajar, &user("bob"), &request.id).await.unwrap_err();
    let log = error.log_text();
    assert!(log.contains("access request") && log.contains("has version 2"), "{log}");
    assert!(!error.to_string().contains("version"), "callers are told nothing of the inside");
    world.minutes(3).await;
    assert!(!world.azure.allows("203.0.113.7", "10.0.0.4", 22));
}
