//! The Japanese README says what the English one says: as far as a program can tell.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use infrastructure_tests::text;

/// What a translation leaves as it is, or has as many of.
#[derive(Debug, PartialEq)]
struct Outline {
    headings: usize,
    tables: Vec<usize>,
    commands: Vec<String>,
    code: BTreeSet<String>,
    links: BTreeSet<String>,
}

fn outline(page: &str) -> Outline {
    let page = text(page);
    let mut tables = Vec::new();
    let mut before = "";
    for line in page.lines() {
        if line.starts_with('|') {
            match tables.last_mut() {
                Some(rows) if before.starts_with('|') => *rows += 1,
                _ => tables.push(1),
            }
        }
        before = line;
    }
    let prose = page.split("```mermaid").next().unwrap().to_owned() + page.rsplit("```").next().unwrap();
    Outline {
        headings: page.lines().filter(|line| line.starts_with('#')).count(),
        tables,
        commands: page.lines().filter(|line| line.starts_with("    ")).map(str::to_owned).collect(),
        code: prose.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")).collect(),
        links: page
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap().to_owned())
            .filter(|link| !link.starts_with("README"))
            .collect(),
    }
}

#[test]
fn both_readmes_have_the_same_headings_tables_commands_settings_and_links() {
    let (english, japanese) = (outline("README.md"), outline("README.ja.md"));
    assert!(english.headings > 8 && english.commands.len() > 5 && english.code.len() > 40, "{english:?}");
    let missing: Vec<_> = english.code.symmetric_difference(&japanese.code).collect();
    assert!(missing.is_empty(), "in one of both only: {missing:?}");
    let links: Vec<_> = english.links.symmetric_difference(&japanese.links).collect();
    assert!(links.is_empty(), "in one of both only: {links:?}");
    assert_eq!(english, japanese);
}
