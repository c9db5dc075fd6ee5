//! `ajar policy`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking; not every test file uses all of the support"
)]

mod support;

use support::ajar;

const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/policies");

#[test]
fn policies_are_checked_and_tested() {
    let default = format!("{POLICIES}/default.cedar");
    let cases = format!("{POLICIES}/default.cases.json");
    let run = ajar(&["policy", "check", &default], "");
    assert_eq!((run.code, run.out.as_str()), (0, "5 policies, each of what there is\n"));
    let run = ajar(&["policy", "test", "--cases", &cases, &default], "");
    assert_eq!((run.code, run.out.as_str()), (0, "8 of 8 cases answered as expected\n"));

    // The samples' table without the samples: nothing forbids what it expects to be forbidden.
    let others = format!("{POLICIES}/samples/samples.cases.json");
    let run = ajar(&["policy", "test", "--cases", &others, &default], "");
    assert_eq!(run.code, 1);
    assert!(run.out.contains("production needs two approvals: expected denied"), "{}", run.out);
}

#[test]
fn what_cannot_be_read_is_told_by_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.cedar");
    let shown = file.display().to_string();
    std::fs::write(&file, "\n@id(\"one\")\npermit (principal, action == Ajar::Action::\"ask\", resource);")
        .unwrap();
    let run = ajar(&["policy", "check", &shown], "");
    assert_eq!(run.code, 2);
    assert!(run.out.starts_with(&format!("{shown}:2: ")) && run.out.contains("ask"), "{}", run.out);

    let default = format!("{POLICIES}/default.cedar");
    let cases = folder.path().join("cases.json");
    std::fs::write(&cases, "{\"cases\": [{\"nam\": 1}]}").unwrap();
    let run = ajar(&["policy", "test", "--cases", cases.to_str().unwrap(), &default], "");
    assert_eq!(run.code, 2);
    assert!(run.out.contains("cases.json: unknown field `nam`"), "{}", run.out);

    let run = ajar(&["policy", "check", "/no/such.cedar"], "");
    assert_eq!(run.code, 2);
    assert!(run.err.contains("/no/such.cedar"), "{}", run.err);
}
