//! `faults [SEEDS [FIRST]]` runs seeds; `faults replay SEED` tells the story of one; `faults mutants [SEEDS [NAME...]]`
//! checks that each broken variant is caught, or those that are named.

#![allow(clippy::print_stdout, reason = "it prints its findings")]

use fault_simulation::{Mutant, Outcome, Script, run, shrink};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long one failing seed is shrunk.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(Some(default), |text| text.parse().ok());
    match arguments.first().map(String::as_str) {
        Some("replay") => number(1, 0).map_or_else(usage, replay),
        Some("mutants") => {
            number(1, 300).map_or_else(usage, |seeds| mutants(seeds, arguments.get(2..).unwrap_or_default()))
        }
        _ => match (number(0, 1000), number(1, 0)) {
            (Some(seeds), Some(first)) => many(first, seeds),
            _ => usage(),
        },
    }
}

fn usage() -> ExitCode {
    println!("usage: faults [SEEDS [FIRST]] | faults replay SEED | faults mutants [SEEDS [NAME...]]");
    ExitCode::from(2)
}

fn many(first: u64, seeds: u64) -> ExitCode {
    let started = Instant::now();
    let next = AtomicU64::new(first);
    let [failed, calls, faults, granted, minutes] = [const { AtomicU64::new(0) }; 5];
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let outcome = run(&Script::new(seed), Mutant::None, None, false);
                    calls.fetch_add(outcome.calls, Ordering::Relaxed);
                    faults.fetch_add(outcome.struck.len() as u64, Ordering::Relaxed);
                    granted.fetch_add(outcome.granted, Ordering::Relaxed);
                    minutes.fetch_add(outcome.lasted / 60_000, Ordering::Relaxed);
                    if let Some(violation) = outcome.violation {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!("seed {seed}: {violation}\n    scripts/bench faults replay {seed}");
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!(
        "{seeds} seeds from {first}: {failed} failed; {} calls, {} faults, {} accesses granted, {} simulated hours, {:.0} s",
        calls.into_inner(),
        faults.into_inner(),
        granted.into_inner(),
        minutes.into_inner() / 60,
        started.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64) -> ExitCode {
    let script = Script::new(seed);
    let Outcome { violation, struck, trace, .. } = run(&script, Mutant::None, None, true);
    let Some(violation) = violation else {
        println!("{}\nseed {seed} holds", trace.join("\n"));
        return ExitCode::SUCCESS;
    };
    println!("seed {seed}: {violation}\n{:?}", script.profile);
    match shrink(&script, Mutant::None, &struck, PATIENCE) {
        Some(shrunk) => {
            println!("{}", shrunk.trace.join("\n"));
            println!("\nshortened to {} actions and {} faults:", shrunk.planned.len(), shrunk.faults.len());
            for planned in &shrunk.planned {
                println!("  {:>9.3} {:?}", planned.at as f64 / 1000.0, planned.action);
            }
            for (call, fault) in &shrunk.faults {
                println!("  call {call}: {fault:?}");
            }
            println!("{}", shrunk.violation);
        }
        None => println!("{}\nit does not fail again with the recorded faults alone", trace.join("\n")),
    }
    ExitCode::FAILURE
}

fn mutants(seeds: u64, names: &[String]) -> ExitCode {
    let mut survivors = 0;
    let is_meant = |mutant: &Mutant| names.is_empty() || names.contains(&format!("{mutant:?}"));
    for mutant in Mutant::ALL.into_iter().filter(is_meant) {
        let caught = (0..seeds).find_map(|seed| {
            let script = Script::new(seed);
            let violation = run(&script, mutant, None, false).violation?;
            // A seed that fails as it is proves nothing.
            run(&script, Mutant::None, None, false).violation.is_none().then_some((seed, violation))
        });
        match caught {
            Some((seed, what)) => println!("{mutant:?}: caught by seed {seed}: {what}"),
            None => {
                survivors += 1;
                println!("{mutant:?}: SURVIVES {seeds} seeds");
            }
        }
    }
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
