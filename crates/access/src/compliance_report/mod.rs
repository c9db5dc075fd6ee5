//! The compliance report: what was last known of every VM a caller may see, what the last sweep found, and the trend.
//!
//! The texts are pure functions of the report, so that the same report reads the same in every format.

mod csv;
mod html;
mod ocsf;
mod sarif;

pub use csv::csv;
pub use html::html;
pub use ocsf::ocsf;
pub use sarif::sarif;

use crate::Ajar;
use crate::assess;
use crate::assessment_store::StoredAssessment;
use crate::compliance_run::{self, ComplianceFinding, VerdictCounts};
use crate::error::AccessError;
use crate::permission::Action;
use crate::ports::identity::Caller;
use ajar_network::assessment::{Assessment, Finding};
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;

/// What is known of the estate, as far as a caller may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComplianceReport {
    /// The deployment.
    pub deployment: String,
    /// When the report was made.
    pub at: Timestamp,
    /// When the last sweep over the whole estate ended.
    pub swept: Option<Timestamp>,
    /// The VMs that the caller may read and that were judged, in order of id.
    pub vms: Vec<JudgedVm>,
    /// What the last sweep found beside verdicts, at enforcement points whose resource group the caller may read.
    pub findings: Vec<ComplianceFinding>,
    /// How many findings the last sweep did not keep.
    pub more_findings: u64,
    /// The whole deployment's verdicts at the end of each sweep, oldest first: numbers without names.
    pub trend: Vec<TrendPoint>,
}

/// A VM with its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedVm {
    /// The verdict.
    pub assessment: Assessment,
    /// Since when it is so.
    pub since: Timestamp,
    /// When it was last found so.
    pub at: Timestamp,
    /// The template that fits.
    pub template: Option<String>,
}

impl JudgedVm {
    /// What is stored of a VM; none while no verdict was made.
    #[must_use]
    pub fn of(stored: StoredAssessment) -> Option<JudgedVm> {
        Some(JudgedVm {
            assessment: stored.assessment?,
            since: stored.since,
            at: stored.at,
            template: stored.template,
        })
    }
}

/// The verdicts at the end of one sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrendPoint {
    /// When it ended.
    pub at: Timestamp,
    /// How many VMs had which verdict.
    #[serde(flatten)]
    pub verdicts: VerdictCounts,
}

impl ComplianceReport {
    /// How many of the report's VMs have which verdict.
    #[must_use]
    pub fn verdicts(&self) -> VerdictCounts {
        let mut counts = VerdictCounts::default();
        self.vms.iter().for_each(|vm| counts.count(vm.assessment.status));
        counts
    }
}

/// Makes the report for a caller, from what is stored.
///
/// # Errors
/// [`AccessError::Unavailable`] when the store or Azure's roles are.
pub async fn report(ajar: &Ajar, caller: &Caller) -> Result<ComplianceReport, AccessError> {
    let stored = assess::stored(ajar, caller).await?;
    let runs = compliance_run::finished(ajar).await?;
    let last = runs.last();
    let found = last.map(|run| run.findings.as_slice()).unwrap_or_default();
    let points: BTreeSet<&ResourceId> = found.iter().filter_map(ComplianceFinding::point).collect();
    let visible: BTreeSet<ResourceId> =
        assess::readable(ajar, caller, points.into_iter(), Action::ReadVm).await?.into_iter().collect();
    // What is said of a whole subscription concerns whoever sees one of its VMs.
    let subscriptions: BTreeSet<String> =
        stored.iter().map(|stored| stored.vm.subscription().to_ascii_lowercase()).collect();
    let is_visible = |finding: &&ComplianceFinding| match finding {
        ComplianceFinding::Unlisted { subscription, .. } | ComplianceFinding::Unwatched { subscription } => {
            subscriptions.contains(&subscription.to_ascii_lowercase())
        }
        other => other.point().is_some_and(|point| visible.contains(point)),
    };
    let trend =
        |run: &compliance_run::ComplianceRun| Some(TrendPoint { at: run.finished?, verdicts: run.verdicts });
    Ok(ComplianceReport {
        deployment: ajar.settings.deployment.to_string(),
        at: ajar.ports.clock.now(),
        swept: last.and_then(|run| run.finished),
        vms: stored.into_iter().filter_map(JudgedVm::of).collect(),
        findings: found.iter().filter(is_visible).cloned().collect(),
        more_findings: last.map_or(0, |run| run.more_findings),
        trend: runs.iter().filter_map(trend).collect(),
    })
}

/// What is open on a VM, in words.
fn open_ports(assessment: &Assessment) -> String {
    let open: Vec<String> = assessment.findings.iter().map(Finding::summary).collect();
    open.join("; ")
}

/// A finding's rule id, its subject, and what it is in a sentence.
fn told(finding: &ComplianceFinding) -> (&'static str, String, String) {
    match finding {
        ComplianceFinding::Drift { point } => {
            ("drift", point.to_string(), format!("{} is not as its JIT policies want it.", point.name()))
        }
        ComplianceFinding::OrphanedAllow { point, rule } => (
            "orphaned-allow",
            point.to_string(),
            format!("Rule {rule} of {} lets somebody in without a grant; Ajar closes it.", point.name()),
        ),
        ComplianceFinding::OrphanedProtection { point, rule, addresses } => (
            "orphaned-protection",
            point.to_string(),
            format!(
                "Rule {rule} of {} shuts ports of {} and no policy accounts for it: turn JIT on there, or remove it.",
                point.name(),
                addresses.join(", ")
            ),
        ),
        ComplianceFinding::OtherDeployments { point, rules } => (
            "other-deployments",
            point.to_string(),
            format!("{} has rules of another deployment of Ajar: {}.", point.name(), rules.join(", ")),
        ),
        ComplianceFinding::Unwatched { subscription } => (
            "subscription-unwatched",
            format!("/subscriptions/{subscription}"),
            format!(
                "Subscription {subscription} tells Ajar of no events: new VMs and drift are seen by the daily sweep alone."
            ),
        ),
        ComplianceFinding::Unlisted { subscription, reason } => (
            "subscription-not-listed",
            format!("/subscriptions/{subscription}"),
            format!("Subscription {subscription} could not be listed: {reason}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ajar_network::assessment::{Reason, Status};
    use serde_json::{Value, json};

    fn id(kind: &str, name: &str) -> ResourceId {
        let group = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/web/providers";
        ResourceId::parse(&format!("{group}/{kind}/{name}")).unwrap()
    }

    fn report_of(name: &str) -> ComplianceReport {
        let vm = id("Microsoft.Compute/virtualMachines", name);
        let at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let assessment = |status, reason| Assessment { vm: vm.clone(), status, reason, findings: Vec::new() };
        let judged = |status, reason| JudgedVm {
            assessment: assessment(status, reason),
            since: at,
            at,
            template: Some("=cmd|' /C calc'!A0".into()),
        };
        let point = id("Microsoft.Network/networkSecurityGroups", "web-nsg");
        let rule = "<script>alert(1)</script>".to_owned();
        ComplianceReport {
            deployment: "test".into(),
            at,
            swept: Some(at),
            vms: vec![
                judged(Status::Unhealthy, Reason::ManagementPortsOpen),
                judged(Status::Healthy, Reason::JitEnabled { protected_in_part: false }),
            ],
            findings: vec![ComplianceFinding::OrphanedAllow { point, rule }],
            more_findings: 0,
            trend: vec![TrendPoint {
                at,
                verdicts: VerdictCounts { healthy: 1, unhealthy: 1, ..Default::default() },
            }],
        }
    }

    /// A spreadsheet takes a cell that begins with one of these for a formula.
    #[test]
    fn no_cell_of_the_csv_is_a_formula_and_each_row_has_every_column() {
        let text = csv(&report_of("web-1"));
        let rows: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(rows.len(), 3);
        for row in &rows {
            let cells: Vec<&str> =
                row.strip_prefix('"').unwrap().strip_suffix('"').unwrap().split("\",\"").collect();
            assert_eq!(cells.len(), 10, "{row}");
            assert!(!cells.iter().any(|cell| cell.starts_with(['=', '+', '-', '@', '\t', '\r'])), "{row}");
        }
        assert!(rows[1].contains("'=cmd"), "{}", rows[1]);
    }

    #[test]
    fn the_page_needs_nothing_else_and_runs_nothing_that_a_name_holds() {
        let page = html(&report_of("web-1"));
        assert!(page.starts_with("<!doctype html>"));
        assert!(!page.contains("<script"), "names are text");
        assert!(page.contains("&lt;script&gt;"));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
        assert!(page.contains("<svg"), "the trend is drawn");
    }

    #[test]
    fn sarif_has_a_result_for_what_is_wrong_and_none_for_what_is_not() {
        let log: Value = sarif(&report_of("web-1"));
        assert_eq!(log["version"], "2.1.0");
        let results = log["runs"][0]["results"].as_array().unwrap();
        let rules: Vec<&str> = results.iter().map(|result| result["ruleId"].as_str().unwrap()).collect();
        assert_eq!(rules, ["management-ports-open", "orphaned-allow"]);
        let declared = log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
        for rule in rules {
            assert!(declared.iter().any(|declared| declared["id"] == rule), "{rule}");
        }
    }

    #[test]
    fn ocsf_has_one_compliance_finding_for_each_vm() {
        let events = ocsf(&report_of("web-1"));
        let events = events.as_array().unwrap();
        assert_eq!(events.len(), 2);
        let of = |index: usize, field: &str| events[index].pointer(field).unwrap().clone();
        assert_eq!(of(0, "/class_uid"), json!(2003));
        assert_eq!((of(0, "/compliance/status_id"), of(1, "/compliance/status_id")), (json!(3), json!(1)));
    }
}
