//! A bounded set of seeds. `scripts/bench faults` runs as many as one likes.

use fault_simulation::{Mutant, Script, run};

/// What failing seeds say, with the commands that tell their stories.
fn violations(seeds: impl IntoIterator<Item = u64>) -> Vec<String> {
    seeds
        .into_iter()
        .filter_map(|seed| {
            let violation = run(&Script::new(seed), Mutant::None, None, false).violation?;
            Some(format!("{violation}\n    scripts/bench faults replay {seed}"))
        })
        .collect()
}

#[test]
fn the_same_seed_is_the_same_run() {
    let script = Script::new(1);
    let (one, other) = (run(&script, Mutant::None, None, true), run(&script, Mutant::None, None, true));
    assert!(one.granted > 0, "nothing was granted, so nothing was tried");
    assert_eq!(one.trace, other.trace);
    assert_eq!(one.struck, other.struck);
}

#[test]
fn some_seeds_hold() {
    assert_eq!(violations(2..7), Vec::<String>::new());
}

/// The tables are put back from a backup that is older than a revocation, and the administrator resumes.
#[test]
fn a_seed_with_old_tables_holds() {
    assert_eq!(violations([21]), Vec::<String>::new());
    let old = run(&Script::new(21), Mutant::IgnoredGeneration, None, false);
    assert!(old.violation.is_some_and(|what| what.contains("(5)")), "the tables are not put back any more");
}

/// 18 and 114: a policy turned on again while the last reconcile of its turning off was being recorded. 349: a deny that
/// landed after JIT was turned off. 557 and 585: a shared rule that went while the store could not be read. 1566: a VM made anew.
#[test]
fn seeds_that_once_failed_hold() {
    assert_eq!(violations([18, 114, 349, 557, 585, 1566]), Vec::<String>::new());
}
