//! A bounded set of seeds. `scripts/bench faults` runs as many as one likes.

use fault_simulation::{Mutant, Script, run};

/// What a failing seed says, with the command that tells its story.
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
fn the_first_seeds_hold() {
    assert_eq!(violations(0..0), Vec::<String>::new());
}
