//! 10,000 grants over 100 NSGs that end in one second, all their messages lost: the writes that close them.

use crate::open_vms::{open_vms, vm};
use crate::simulated::{Simulated, person};
use ajar_access::testing::World;
use ajar_access::{configure, submit};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::time::Instant;

const NSGS: usize = 100;
const GRANTS: usize = 10_000;

/// Sweeps in a row, fifteen seconds apart, after which nothing more is to come.
const MOST_IDLE: usize = 20;

/// The estate: VMs, each behind an NSG of its own that lets everybody in.
pub(crate) fn resources() -> Vec<Value> {
    open_vms(NSGS)
}

pub(crate) async fn measure() {
    let simulated = Simulated::start("closing").await;
    let mut world = World::new();
    world.ajar.ports.azure = simulated.resource_manager().await;
    let (alice, bob) = (person("alice"), person("bob"));
    for index in 0..NSGS {
        let policy = json!({ "vm": vm(index), "ports": [{ "port": 22 }], "minimumDuration": "PT1S" });
        configure::enable(&world.ajar, &alice, &serde_json::from_value(policy).unwrap()).await.unwrap();
    }
    world.deliver().await;
    let start = world.ajar.ports.clock.now() + SignedDuration::from_mins(10);
    for index in 0..GRANTS {
        let number = index / NSGS;
        let question = json!({ "vm": vm(index % NSGS), "duration": "PT30M", "start": start.to_string(),
            "ports": [{ "port": 22, "sources": [format!("198.18.{}.{}", index % NSGS, number + 1)] }] });
        submit::submit(&world.ajar, &bob, &serde_json::from_value(question).unwrap()).await.unwrap();
    }
    world.deliver().await;
    world.bus.clear();
    world.clock.advance(SignedDuration::from_mins(9));
    println!("\n{GRANTS} grants over {NSGS} NSGs that begin and end together, by the minute sweep alone:");
    println!("| what | sweeps | s | NSG writes | bar |");
    println!("|---|---|---|---|---|");
    for (what, at, bar) in [("begin", start, "600"), ("end", start + SignedDuration::from_mins(30), "200")] {
        world.clock.advance(at.duration_since(world.ajar.ports.clock.now()));
        let (started, before, mut sweeps) = (Instant::now(), simulated.nsg_writes().await, 0);
        let mut written = before;
        // Until nothing was done about rules for longer than Azure wants to be left alone when it throttles.
        let mut idle = 0;
        while idle < MOST_IDLE {
            let report = world.sweep().await.unwrap();
            // Ten thousand roles are read anew before anything opens; what Azure throttles is done by a later sweep.
            assert!(what == "begin" || report.failed == 0, "{report:?}");
            world.bus.clear();
            let now = simulated.nsg_writes().await;
            idle = if now == written { idle + 1 } else { 0 };
            written = now;
            sweeps += 1;
            world.clock.advance(SignedDuration::from_secs(15));
            assert!(sweeps < 80, "no end");
        }
        println!(
            "| {what} | {} | {:.1} | {} | {bar} |",
            sweeps - idle,
            started.elapsed().as_secs_f64(),
            written - before
        );
    }
}
