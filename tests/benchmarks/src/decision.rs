//! `decision`: how long it takes in process to decide what somebody asks for, when the role of the caller and the
//! policy were read before: permission, policy and check of the question, with tables in memory. What is asked for is
//! refused, so that nothing is written.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot be carried out ends"
)]

use ajar_access::testing::{World, user, vm};
use ajar_access::{configure, submit};
use serde_json::json;
use std::time::{Duration, Instant};

const RUNS: usize = 20_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let world = World::new();
    let policy = json!({ "vm": vm("web-1").as_str(), "ports": [{ "port": 22 }] });
    configure::enable(&world.ajar, &user("alice"), &serde_json::from_value(policy).unwrap()).await.unwrap();
    world.deliver().await;
    let question = json!({ "vm": vm("web-1").as_str(), "duration": "PT1H",
        "ports": [{ "port": 3389, "sources": ["203.0.113.7"] }] });
    let question = serde_json::from_value(question).unwrap();
    let caller = user("bob");
    let mut took: Vec<Duration> = Vec::with_capacity(RUNS);
    for _ in 0..=RUNS {
        let started = Instant::now();
        assert!(submit::submit(&world.ajar, &caller, &question).await.is_err());
        took.push(started.elapsed());
    }
    // The first one reads the role.
    took.remove(0);
    took.sort_unstable();
    println!(
        "warm decision in process, {RUNS} times: p50 {:.1} µs, p99 {:.1} µs",
        took[RUNS / 2].as_secs_f64() * 1e6,
        took[RUNS * 99 / 100].as_secs_f64() * 1e6
    );
}
