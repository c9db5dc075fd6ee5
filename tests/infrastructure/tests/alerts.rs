//! What the alerts look at, against the code that says it and the page that tells what to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::Path;

use ajar_access::metrics::Metric;
use infrastructure_tests::{EXAMPLES, last_name, repository, resources, snapshot, string, text};
use serde_json::Value;

fn rules(snapshot: &Value) -> impl Iterator<Item = &Value> {
    let kinds = ["Microsoft.Insights/scheduledQueryRules", "Microsoft.Insights/metricAlerts"];
    kinds.into_iter().flat_map(|kind| resources(snapshot, kind))
}

fn query(rule: &Value) -> Option<&str> {
    rule.pointer("/properties/criteria/allOf/0/query").and_then(Value::as_str)
}

#[test]
fn every_alert_has_a_way_out_and_somebody_to_tell() {
    let page = text("docs/operations.md");
    for example in EXAMPLES {
        let snapshot = snapshot(example);
        let prefix = string(resources(&snapshot, "Microsoft.Insights/actionGroups").next().unwrap(), "/name")
            .replacen("ag-", "", 1);
        let mut names = BTreeSet::new();
        for rule in rules(&snapshot) {
            let name = last_name(rule).strip_prefix(&format!("{prefix}-")).unwrap().to_owned();
            assert!(page.contains(&format!("`{name}`")), "docs/operations.md says nothing of alert {name}");
            assert_eq!(rule["properties"]["enabled"], true, "{name}");
            assert!(rule["properties"]["actions"].to_string().contains("actionGroups/ag-"), "{name}");
            names.insert(name);
        }
        let wanted = [
            "grant-overdue",
            "heartbeat-missing",
            "messages-parked",
            "dead-letters",
            "sweep-failing",
            "reconcile-slow",
            "role-lost",
            "subscription-unwatched",
        ];
        for name in wanted {
            assert!(names.contains(name), "{example} has no alert {name}");
        }
    }
}

#[test]
fn metrics_are_named_where_the_code_finds_them() {
    let page = text("docs/operations.md");
    let snapshot = snapshot("everything");
    let mut seen = BTreeSet::new();
    for query in rules(&snapshot).filter_map(query) {
        assert!(!query.contains("{metric}"), "{query}");
        for word in query.split('\'').filter(|word| word.starts_with("ajar.")) {
            assert!(page.contains(&format!("`{word}`")), "docs/operations.md does not list {word}");
            seen.insert(word.to_owned());
        }
    }
    assert!(seen.contains("ajar.grants.overdue") && seen.contains("ajar.sweep.heartbeat"), "{seen:?}");
}

/// Names of metrics in quotes.
fn metrics_in(text: &str, quote: char) -> BTreeSet<String> {
    text.split(quote)
        .filter(|word| word.starts_with("ajar.") && !word.ends_with('.'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn alerts_workbook_and_page_look_at_what_the_code_reports() {
    let reported: BTreeSet<String> = Metric::ALL.into_iter().map(|metric| metric.name().to_owned()).collect();
    let snapshot = snapshot("everything");
    let alerts: String = rules(&snapshot).filter_map(query).collect();
    let page = text("docs/operations.md");
    let workbook: Value = serde_json::from_str(&text("infra/workbook.json")).unwrap();
    let workbook: String = workbook["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item["content"]["query"].as_str())
        .collect();
    let unknown = |seen: &BTreeSet<String>| -> Vec<String> { seen.difference(&reported).cloned().collect() };
    assert_eq!(unknown(&metrics_in(&alerts, '\'')), Vec::<String>::new());
    assert_eq!(unknown(&metrics_in(&page, '`')), Vec::<String>::new());
    assert_eq!(metrics_in(&workbook, '\''), reported, "the workbook shows each metric and no other");
    for metric in &reported {
        assert!(page.contains(&format!("| `{metric}` |")), "docs/operations.md does not list {metric}");
    }
    for example in EXAMPLES {
        let shown = infrastructure_tests::snapshot(example);
        let shown = resources(&shown, "Microsoft.Insights/workbooks").next().unwrap();
        let data: Value = serde_json::from_str(string(shown, "/properties/serializedData")).unwrap();
        assert_eq!(data["version"], "Notebook/1.0", "{example}");
    }
}

/// Every Rust source below `folder`.
fn sources(folder: &Path, found: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn log_lines_that_queries_look_for_are_written_by_the_code() {
    let mut code = String::new();
    sources(&repository().join("crates/access/src"), &mut code);
    let mut phrases = 0;
    for query in std::fs::read_dir(repository().join("infra/queries")).unwrap() {
        let query = std::fs::read_to_string(query.unwrap().path()).unwrap();
        for rest in query.split("Message has '").skip(1) {
            let phrase = rest.split('\'').next().unwrap();
            if phrase != "{metric}" {
                assert!(code.contains(phrase), "nothing logs {phrase:?}");
                phrases += 1;
            }
        }
        for rest in query.split("OperationName == '").skip(1) {
            let function = rest.split('\'').next().unwrap();
            assert!(repository().join("handlers").join(function).is_dir(), "no function {function}");
        }
    }
    assert!(phrases >= 2);
}
