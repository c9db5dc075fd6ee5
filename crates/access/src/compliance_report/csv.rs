//! Comma-separated values (RFC 4180), for spreadsheets.

use super::{ComplianceReport, open_ports};

const COLUMNS: [&str; 10] =
    ["vm", "name", "subscription", "resourceGroup", "status", "reason", "since", "at", "template", "open"];

/// One row for each VM. A cell that a spreadsheet would take for a formula begins with an apostrophe.
#[must_use]
pub fn csv(report: &ComplianceReport) -> String {
    let mut text = row(COLUMNS.iter().map(|column| (*column).to_owned()));
    for judged in &report.vms {
        let vm = &judged.assessment.vm;
        text.push_str(&row([
            vm.to_string(),
            vm.name().to_owned(),
            vm.subscription().to_owned(),
            vm.resource_group().unwrap_or_default().to_owned(),
            judged.assessment.status.name().to_owned(),
            judged.assessment.reason.code().to_owned(),
            judged.since.to_string(),
            judged.at.to_string(),
            judged.template.clone().unwrap_or_default(),
            open_ports(&judged.assessment),
        ]));
    }
    text
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().map(|text| cell(&text)).collect();
    format!("{}\r\n", cells.join(","))
}

fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let guard = if is_formula { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}
