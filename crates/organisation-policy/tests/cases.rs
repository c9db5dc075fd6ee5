//! The tables of cases beside the policies that ship and the samples.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use ajar_organisation_policy::{Cases, Policies};

fn policies(folders: &[&str]) -> Policies {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/policies");
    let mut files = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "cedar") {
                files.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    Policies::parse(files.iter().map(|(name, text)| (name.as_str(), text.as_str()))).unwrap()
}

fn cases(text: &str) -> Cases {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_set_that_ships_answers_as_its_table_says() {
    let table = cases(include_str!("../../../infra/policies/default.cases.json"));
    assert!(table.cases.len() >= 8);
    assert_eq!(table.run(&policies(&["."])), []);
}

#[test]
fn the_samples_with_it_answer_as_their_table_says() {
    let table = cases(include_str!("../../../infra/policies/samples/samples.cases.json"));
    assert!(table.cases.len() >= 19);
    assert_eq!(table.run(&policies(&[".", "samples"])), []);
}

#[test]
fn a_table_that_expects_otherwise_is_told_what_came() {
    let mut table = cases(include_str!("../../../infra/policies/samples/samples.cases.json"));
    table.cases.truncate(1);
    let two = &mut table.cases[0];
    assert_eq!(two.expect.approvals, Some(2));
    for (approvals, by, allowed, said) in [
        (Some(1), None, false, "expected 1 approvals, but 2 are needed"),
        (None, Some(vec!["another".to_owned()]), false, "expected to be decided by [another]"),
        (None, None, true, "expected allowed, but it is: the organisation's policy forbids `autoApprove`"),
    ] {
        two.expect = ajar_organisation_policy::Expected { allowed, by, approvals };
        let problem = Cases { cases: vec![two.clone()] }.run(&policies(&[".", "samples"])).remove(0);
        assert!(problem.message.starts_with(said), "{problem}");
    }
}
