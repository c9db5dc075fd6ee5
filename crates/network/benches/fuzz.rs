//! Evaluator against oracle, as many random cases as asked for: `scripts/bench network-fuzz [cases] [seed]`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark fails by panicking"
)]

#[path = "../tests/oracle/mod.rs"]
#[allow(dead_code, reason = "the oracle serves several tests")]
mod oracle;

use std::time::Instant;

use oracle::differential::{exposure_case, reach_case};
use oracle::generate::Random;

/// Packets sent through each NSG.
const PACKETS: usize = 16;
/// One in so many NSGs has its exposures checked against every packet of its small world.
const EXPOSURES: u64 = 50;

fn main() {
    // Cargo adds `--bench`.
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .map(|a| a.parse().expect("[cases] [seed]: whole numbers"))
        .collect();
    let cases = numbers.first().copied().unwrap_or(2_000_000);
    let seed = numbers.get(1).copied().unwrap_or(20_261_124);
    eprintln!("seed {seed}, {cases} cases");
    let start = Instant::now();
    let nsgs = cases.div_ceil(PACKETS as u64);
    let mut exposures = 0;
    for nsg in 0..nsgs {
        // Each NSG has a seed of its own, so that a failure is reproduced without what came before.
        let mut random = Random(seed.wrapping_add(nsg));
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            reach_case(&mut random, PACKETS);
            if nsg % EXPOSURES == 0 {
                exposure_case(&mut random);
            }
        }));
        exposures += u64::from(nsg % EXPOSURES == 0);
        if failed.is_err() {
            let again = seed.wrapping_add(nsg);
            eprintln!("reproduce with: scripts/bench network-fuzz {PACKETS} {again}");
            std::process::exit(1);
        }
    }
    let cases = nsgs * PACKETS as u64;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{cases} packets through {nsgs} NSGs and {exposures} NSGs packet by packet in {seconds:.1} s: {:.0} cases/s, no disagreement (seed {seed})",
        cases as f64 / seconds
    );
}
