//! From a failing run to a short one that still fails.

use crate::mutant::Mutant;
use crate::run::run;
use crate::script::{Planned, Script};
use crate::world::{Fault, Faults};
use std::time::{Duration, Instant};

/// A short run that still fails.
pub struct Shrunk {
    pub planned: Vec<Planned>,
    pub faults: Faults,
    pub violation: String,
    pub trace: Vec<String>,
}

/// Drops actions and faults, in ever smaller pieces, while some violation remains, for at most `patience`.
pub fn shrink(script: &Script, mutant: Mutant, struck: &Faults, patience: Duration) -> Option<Shrunk> {
    let started = Instant::now();
    let fails = |planned: &[Planned], faults: &[(u64, Fault)]| {
        let script = Script { planned: planned.to_vec(), ..script.clone() };
        let faults: Faults = faults.iter().copied().collect();
        run(&script, mutant, Some(&faults), false).violation.is_some()
    };
    let mut planned = script.planned.clone();
    let mut faults: Vec<(u64, Fault)> = struck.iter().map(|(call, fault)| (*call, *fault)).collect();
    if !fails(&planned, &faults) {
        return None;
    }
    for _ in 0..3 {
        let before = (planned.len(), faults.len());
        faults = reduce(faults, |fewer| started.elapsed() < patience && fails(&planned, fewer));
        planned = reduce(planned, |fewer| started.elapsed() < patience && fails(fewer, &faults));
        if before == (planned.len(), faults.len()) {
            break;
        }
    }
    let script = Script { planned: planned.clone(), ..script.clone() };
    let faults: Faults = faults.into_iter().collect();
    let outcome = run(&script, mutant, Some(&faults), true);
    Some(Shrunk { planned, faults, violation: outcome.violation?, trace: outcome.trace })
}

fn reduce<T: Clone>(mut items: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut piece = items.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        while from < items.len() {
            let mut fewer = items.clone();
            fewer.drain(from..(from + piece).min(items.len()));
            if fails(&fewer) {
                items = fewer;
            } else {
                from += piece;
            }
        }
        if piece == 1 {
            return items;
        }
        piece = piece.div_ceil(2);
    }
}
