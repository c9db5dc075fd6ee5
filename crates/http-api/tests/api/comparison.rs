//! docs/defender-compatibility.md, held against the specification: it speaks of every operation with its statuses, and
//! of every field.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!("../../../../docs/defender-compatibility.md");
const SWAGGER: &str = include_str!("../data/jit-api/swagger.json");

fn section(name: &str) -> &'static str {
    PAGE.split(&format!("\n## {name}\n")).nth(1).unwrap().split("\n## ").next().unwrap()
}

/// The cells of each row of a section's table.
fn rows(section_name: &str) -> Vec<Vec<&'static str>> {
    let lines = section(section_name).lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn every_operation_is_there_with_the_statuses_that_the_specification_has() {
    let swagger: Value = serde_json::from_str(SWAGGER).unwrap();
    let paths = swagger["paths"].as_object().unwrap().values();
    let specified: BTreeMap<String, BTreeSet<String>> = paths
        .flat_map(|methods| methods.as_object().unwrap().values())
        .map(|operation| {
            let name = operation["operationId"].as_str().unwrap().rsplit('_').next().unwrap();
            let statuses = operation["responses"].as_object().unwrap().keys();
            (name.to_owned(), statuses.filter(|status| *status != "default").cloned().collect())
        })
        .collect();
    let mut described = BTreeMap::new();
    for row in rows("Operations") {
        let words = row[1].split(|c: char| !c.is_ascii_digit());
        let statuses: BTreeSet<String> = words.filter(|word| word.len() == 3).map(str::to_owned).collect();
        described.extend(row[0].split(", ").map(|name| (name.to_owned(), statuses.clone())));
    }
    assert_eq!(specified.len(), 8);
    assert_eq!(described, specified);
}

#[test]
fn every_field_is_there() {
    let swagger: Value = serde_json::from_str(SWAGGER).unwrap();
    let definitions = swagger["definitions"].as_object().unwrap().values();
    let specified: BTreeSet<&str> = definitions
        .filter_map(|definition| definition["properties"].as_object())
        .flat_map(|properties| properties.keys().map(String::as_str))
        .filter(|field| !["value", "nextLink"].contains(field))
        .collect();
    let quoted = rows("Fields").into_iter().flat_map(|row| [row[1], row[2]]);
    let described: BTreeSet<&str> = quoted
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .flat_map(|field| field.split('.'))
        .map(|part| part.trim_end_matches("[]"))
        .collect();
    assert!(specified.len() > 15, "{specified:?}");
    let missing: Vec<_> = specified.difference(&described).collect();
    assert!(missing.is_empty(), "the page does not speak of {missing:?}");
}
