//! SARIF 2.1.0 (OASIS), for code scanning and security dashboards.

use super::{ComplianceReport, open_ports, told};
use crate::keys::digest;
use ajar_network::assessment::Status;
use serde_json::{Value, json};

/// The rules, with the level of their results.
const RULES: [(&str, &str, &str); 7] = [
    ("management-ports-open", "error", "Management ports of a VM are open without just-in-time access"),
    ("orphaned-allow", "error", "A rule lets somebody in without a grant"),
    ("drift", "warning", "An enforcement point is not as its policies want it"),
    ("orphaned-protection", "note", "A rule shuts ports and no policy accounts for it"),
    ("other-deployments", "note", "Another deployment has rules at the same enforcement point"),
    ("subscription-unwatched", "warning", "A subscription tells Ajar of no events"),
    ("subscription-not-listed", "warning", "A subscription could not be listed"),
];

/// One result for each VM with open ports, and for each finding of the last sweep.
#[must_use]
pub fn sarif(report: &ComplianceReport) -> Value {
    let open = report.vms.iter().filter(|judged| judged.assessment.status == Status::Unhealthy);
    let vms = open.map(|judged| {
        let text = format!("Open: {}.", open_ports(&judged.assessment));
        result("management-ports-open", judged.assessment.vm.as_str(), &text)
    });
    let findings = report.findings.iter().map(|finding| {
        let (rule, subject, text) = told(finding);
        result(rule, &subject, &text)
    });
    let results: Vec<Value> = vms.chain(findings).collect();
    let rules: Vec<Value> = RULES
        .iter()
        .map(|(id, level, text)| {
            json!({ "id": id, "shortDescription": { "text": text }, "defaultConfiguration": { "level": level } })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "Ajar", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "results": results,
        }],
    })
}

fn result(rule: &str, subject: &str, text: &str) -> Value {
    let level = RULES.iter().find(|(id, ..)| *id == rule).map_or("warning", |(_, level, _)| level);
    json!({
        "ruleId": rule, "level": level, "message": { "text": text },
        "locations": [{ "logicalLocations": [{ "fullyQualifiedName": subject, "kind": "resource" }] }],
        "partialFingerprints": { "subject/v1": digest(&format!("{rule} {}", subject.to_lowercase()), 32) },
    })
}
