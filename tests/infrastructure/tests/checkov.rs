//! checkov over what each example would make. It cannot read compiled templates with named resources and
//! parameters, so it gets the resources of the snapshots, in which every value is there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::process::Command;

use infrastructure_tests::{EXAMPLES, snapshot, string, text, tool};
use serde_json::{Value, json};

/// What checkov finds: check, name, resource, example.
fn findings(program: &std::path::Path, templates: &[(String, Value)]) -> (u64, Vec<[String; 4]>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, resources) in templates {
        let template = json!({
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "contentVersion": "1.0.0.0",
            "resources": resources,
        });
        std::fs::write(folder.path().join(format!("{name}.json")), template.to_string()).unwrap();
    }
    let answer = Command::new(program)
        .args([
            "--framework",
            "arm",
            "--compact",
            "--quiet",
            "--skip-download",
            "--output",
            "json",
            "--directory",
        ])
        .arg(folder.path())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&answer.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&answer.stderr)));
    let failed = report["results"]["failed_checks"].as_array().unwrap().iter().map(|check| {
        let example = string(check, "/file_path").trim_start_matches('/').trim_end_matches(".json");
        [string(check, "/check_id"), string(check, "/check_name"), string(check, "/resource"), example]
            .map(str::to_owned)
    });
    (report["summary"]["passed"].as_u64().unwrap(), failed.collect())
}

#[test]
fn every_finding_is_mended_or_has_a_reason() {
    let Some(program) = tool("CHECKOV", "checkov") else { return };
    let suppressions: Value = serde_json::from_str(&text("infra/checkov.json")).unwrap();
    let suppressions = suppressions.as_array().unwrap();
    let mut unused: BTreeSet<usize> = (0..suppressions.len()).collect();
    let templates = EXAMPLES.map(|name| (name.to_owned(), snapshot(name)["predictedResources"].clone()));
    let (passed, findings) = findings(&program, &templates);
    assert!(passed > 100, "checkov understood little: {passed} checks passed");
    let mut open = Vec::new();
    for [check, name, resource, example] in findings {
        let reason = suppressions.iter().position(|one| {
            one["check"] == check.as_str()
                && one["resource"].as_str().is_none_or(|part| resource.contains(part))
                && (one["where"] == "everywhere"
                    || one["where"].as_array().is_some_and(|places| places.contains(&json!(example))))
        });
        match reason {
            Some(index) => {
                unused.remove(&index);
            }
            None => open.push(format!("{check} {name}: {resource} in {example}")),
        }
    }
    assert!(open.is_empty(), "mend or give a reason in infra/checkov.json:\n{}", open.join("\n"));
    assert!(unused.is_empty(), "suppressions that nothing needs: {unused:?}");
    for one in suppressions {
        assert!(!string(one, "/reason").trim().is_empty(), "no reason: {one}");
    }
}

#[test]
fn a_fault_is_found() {
    let Some(program) = tool("CHECKOV", "checkov") else { return };
    let mut resources = snapshot("private-network")["predictedResources"].clone();
    for resource in resources.as_array_mut().unwrap() {
        if resource["type"] == "Microsoft.Storage/storageAccounts" {
            resource["properties"]["supportsHttpsTrafficOnly"] = json!(false);
        }
    }
    let (_, findings) = findings(&program, &[("broken".to_owned(), resources)]);
    assert!(findings.iter().any(|[check, ..]| check == "CKV_AZURE_3"), "{findings:?}");
}
