//! No recorded case is skipped silently.

use std::collections::{BTreeMap, BTreeSet};

use crate::not_replayed::NOT_REPLAYED;
use crate::recorded::{Kind, cases};

#[test]
fn every_recorded_case_is_replayed_or_listed_with_a_reason() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut not_replayed = BTreeSet::new();
    for case in cases() {
        *counts.entry(format!("{:?}", case.kind())).or_default() += 1;
        if case.kind() == Kind::NotReplayed {
            not_replayed.insert(case.name);
        }
    }
    let expected = [
        ("Answer", 158),
        ("Forwarded", 100),
        ("Invocation", 257),
        ("NotReplayed", 82),
        ("Probe", 1),
        ("Traversal", 8),
    ];
    assert_eq!(counts, expected.map(|(kind, count)| (kind.to_owned(), count)).into());
    assert_eq!(counts.values().sum::<usize>(), 606);
    let listed: BTreeSet<_> =
        NOT_REPLAYED.iter().flat_map(|(_, names)| *names).map(|name| (*name).to_owned()).collect();
    assert_eq!(not_replayed, listed);
}
