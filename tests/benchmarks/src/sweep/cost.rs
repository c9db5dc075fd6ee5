//! A sweep with one due grant, among few and among many live ones.

use crate::counted_store::CountedStore;
use ajar_access::keys::Key;
use ajar_access::ports::store::{Change, Range, Row, Store, Table, scan_all};
use ajar_access::submit;
use ajar_access::testing::{World, ask, user};
use ajar_embedded_store::EmbeddedStore;
use ajar_tables::TableStore;
use jiff::SignedDuration;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sweeps that are measured.
const SWEEPS: usize = 31;

/// Rows of one partition that are written together.
const TOGETHER: usize = 100;

struct Cost {
    /// Median, fastest and slowest sweep.
    took: [Duration; 3],
    /// Calls to the store, the same in every sweep.
    calls: Vec<usize>,
}

pub(crate) async fn measure() {
    println!("\nA sweep with one due grant among live ones; median (fastest to slowest) of {SWEEPS}:");
    println!("| store | live grants | ms | calls to the store |");
    println!("|---|---|---|---|");
    let mut medians = Vec::new();
    for live in [1_000, 1_000_000] {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path().join("store")).unwrap();
        let cost = among(Arc::new(store), live).await;
        tell("embedded", live, &cost);
        medians.push(cost.took[0].as_secs_f64());
    }
    println!("ratio: {:.2} (bar 1.2)", medians[1] / medians[0]);
    for live in [1_000, 10_000] {
        let azurite = azurite::start().await;
        let store = TableStore::azurite(&azurite.endpoint).unwrap();
        tell("Table Storage (Azurite)", live, &among(Arc::new(store), live).await);
    }
}

fn tell(store: &str, live: usize, cost: &Cost) {
    let [median, fastest, slowest] = cost.took.map(|took| took.as_secs_f64() * 1e3);
    println!("| {store} | {live} | {median:.2} ({fastest:.2} to {slowest:.2}) | {:?} |", cost.calls);
}

async fn among(store: Arc<dyn Store>, live: usize) -> Cost {
    let counted = Arc::new(CountedStore::of(store));
    let mut world = World::new();
    world.ajar.ports.store = counted.clone();
    world.protect("web-1", json!({ "minimumDuration": "PT1S" })).await;
    let open = async |world: &World| {
        let question = ask("web-1", "203.0.113.7", "PT10S");
        submit::submit(&world.ajar, &user("bob"), &question).await.unwrap();
        world.deliver().await;
        world.bus.clear();
    };
    open(&world).await;
    fill(counted.as_ref(), live).await;
    let (mut took, mut calls) = (Vec::new(), Vec::new());
    let mut is_first = true;
    while took.len() < SWEEPS {
        world.clock.advance(SignedDuration::from_secs(10));
        counted.take();
        let started = Instant::now();
        let report = world.sweep().await.unwrap();
        let elapsed = started.elapsed();
        assert_eq!((report.done, report.failed), (report.due, 0));
        // The first one is left out: it reads the file's pages. So are those in which its role is due to be looked at too.
        if !is_first && report.due == 1 {
            took.push(elapsed);
            calls.push(counted.take());
        }
        is_first = false;
        // The second look, and nothing after it.
        for _ in 0..3 {
            world.clock.advance(SignedDuration::from_mins(10));
            world.sweep().await.unwrap();
        }
        open(&world).await;
    }
    took.sort_unstable();
    calls.dedup();
    Cost { took: [took[took.len() / 2], took[0], took[took.len() - 1]], calls }
}

/// Adds rows of so many more live grants, modelled on those of the one there is: on points of a hundred grants each,
/// with ends in ten days.
async fn fill(store: &dyn Store, live: usize) {
    let all = async |table: Table| {
        let range = Range { first_partition: None, last_partition: None, first_row: None, last_row: None };
        scan_all(store, table, &range, 1000).await.unwrap()
    };
    let find = |rows: Vec<Row>, what: &str| -> String {
        let found = rows.iter().find(|row| row.row.as_str().contains(what));
        found.unwrap_or_else(|| panic!("no row {what}")).document.clone()
    };
    let grant = find(all(Table::Grants).await, "g_");
    let end = find(all(Table::Due).await, "_expire_");
    let request = find(all(Table::Requests).await, "r_");
    for batch in 0..live.div_ceil(TOGETHER) {
        let numbers = batch * TOGETHER..live.min((batch + 1) * TOGETHER);
        let point = format!("live-{batch}");
        let rows = |prefix: [&str; 2], document: &str| -> Vec<Change> {
            numbers
                .clone()
                .map(|number| {
                    let row = Key::new([prefix[0], prefix[1], &format!("{number:032x}")]);
                    Change::Put { row, document: document.to_owned() }
                })
                .collect()
        };
        let (hour, minute) = (batch / 60 % 3, batch % 60);
        let minute = format!("20261204{:02}{minute:02}", 12 + hour);
        let shard = format!("{:x}", batch % 16);
        store
            .commit(Table::Grants, &Key::new([point.as_str(), "0"]), &rows(["g", "0"], &grant))
            .await
            .unwrap();
        store
            .commit(Table::Due, &Key::new([minute, shard]), &rows(["120000000", "expire"], &end))
            .await
            .unwrap();
        store
            .commit(Table::Requests, &Key::new([point.as_str(), "1"]), &rows(["r", "0"], &request))
            .await
            .unwrap();
    }
}
