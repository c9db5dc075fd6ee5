//! Verdicts on VMs.

use super::{List, moment};
use crate::Api;
use crate::error::ApiError;
use crate::identity::Authenticated;
use crate::query::Query;
use ajar_access::assess;
use ajar_access::compliance_report::JudgedVm;
use ajar_access::error::AccessError;
use ajar_network::address::SourceSet;
use ajar_network::assessment::{Assessment, Evidence, Finding, Internet, Reason, Status, Witness};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A verdict as callers see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    vm: String,
    name: String,
    status: &'static str,
    reason: Why,
    /// The verdict in a sentence.
    summary: String,
    findings: Vec<Open>,
}

/// A short name and whatever details there are.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Why {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    protected_in_part: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
}

/// A management port that somebody can reach.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    address: String,
    port: u16,
    protocol: String,
    sources: SourceSet,
    internet: &'static str,
    public_way_in: Option<bool>,
    certain: bool,
    rules: Vec<Rule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    witness: Option<Witness>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    enforcement_point: String,
    name: String,
    priority: Option<u16>,
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Why {
        let protected_in_part = match reason {
            Reason::JitEnabled { protected_in_part } => Some(protected_in_part),
            _ => None,
        };
        Why { code: reason.code(), protected_in_part, details: reason.details().to_vec() }
    }
}

impl From<Evidence> for Rule {
    fn from(evidence: Evidence) -> Rule {
        Rule {
            enforcement_point: evidence.enforcement_point.to_string(),
            name: evidence.rule,
            priority: evidence.priority,
        }
    }
}

impl From<Finding> for Open {
    fn from(finding: Finding) -> Open {
        Open {
            address: finding.address.to_string(),
            port: finding.port,
            protocol: finding.protocol.to_string(),
            sources: finding.sources,
            internet: match finding.internet {
                Internet::None => "None",
                Internet::Some => "Some",
                Internet::Everyone => "Everyone",
            },
            public_way_in: finding.way_in,
            certain: finding.certain,
            rules: finding.evidence.into_iter().map(Rule::from).collect(),
            witness: finding.witness,
        }
    }
}

impl From<Assessment> for Verdict {
    fn from(assessment: Assessment) -> Verdict {
        Verdict {
            summary: summary(&assessment),
            name: assessment.vm.name().to_owned(),
            vm: assessment.vm.to_string(),
            status: assessment.status.name(),
            reason: assessment.reason.into(),
            findings: assessment.findings.into_iter().map(Open::from).collect(),
        }
    }
}

fn summary(assessment: &Assessment) -> String {
    match &assessment.reason {
        Reason::JitEnabled { protected_in_part: false } => "Just-in-time access is on.".to_owned(),
        Reason::JitEnabled { protected_in_part: true } => {
            "Just-in-time access is on; rules that were left in place still let others in.".to_owned()
        }
        Reason::NsgClosed => "No rule opens a management port.".to_owned(),
        Reason::ManagementPortsOpen => {
            let open: Vec<String> = assessment.findings.iter().map(Finding::summary).collect();
            format!("Open: {}. Turn on just-in-time access.", open.join("; "))
        }
        Reason::NoEnforcementPoint => {
            "No network security group filters this VM, so just-in-time access cannot be turned on."
                .to_owned()
        }
        Reason::ClassicVm => "Classic VMs are not supported.".to_owned(),
        Reason::ScaleSetInstance => "Instances of scale sets are not supported.".to_owned(),
        Reason::VmNotFound => "This VM was not found.".to_owned(),
        Reason::BehindFirewall { .. } => {
            "A firewall or appliance is on the way to this VM, and its rules are not judged yet.".to_owned()
        }
        Reason::Unreadable { problems } => format!("Not everything could be read: {}", problems.join("; ")),
    }
}

/// A verdict as it was stored, and since when it has been so.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Known {
    #[serde(flatten)]
    verdict: Verdict,
    since: String,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
}

impl From<JudgedVm> for Known {
    fn from(judged: JudgedVm) -> Known {
        Known {
            verdict: judged.assessment.into(),
            since: moment(judged.since),
            at: moment(judged.at),
            template: judged.template,
        }
    }
}

/// The verdict that `status` asks for.
fn wanted(query: &Query) -> Result<Option<Status>, ApiError> {
    let Some(name) = query.get("status")? else { return Ok(None) };
    let found = Status::ALL.into_iter().find(|status| status.name().eq_ignore_ascii_case(name));
    found.map(Some).ok_or_else(|| {
        let names: Vec<&str> = Status::ALL.into_iter().map(Status::name).collect();
        let message = format!("status: write one of {}", names.join(", "));
        ApiError::bad_request("InvalidQueryParameter", message).at("status")
    })
}

/// `GET /api/assessments[?vm=]`, `GET /api/assessments[?stored=true][&status=]`
pub(crate) async fn get(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref())?;
    query.only(&["vm", "stored", "status"])?;
    let is_stored = query.flag("stored")?;
    let status = wanted(&query)?;
    let is_wanted = |assessment: &Assessment| status.is_none_or(|status| assessment.status == status);
    Ok(match query.vm()? {
        Some(_) if is_stored => {
            return Err(AccessError::invalid("stored", "goes without `vm`: one VM is judged at once").into());
        }
        Some(_) if status.is_some() => {
            return Err(AccessError::invalid("status", "goes without `vm`: it filters lists").into());
        }
        None if is_stored => {
            let all = assess::stored(api.ajar(), &caller).await?;
            let all = all.into_iter().filter_map(JudgedVm::of);
            let all = all.filter(|judged| is_wanted(&judged.assessment));
            Json(all.map(Known::from).collect::<List<_>>()).into_response()
        }
        Some(vm) => Json(Verdict::from(assess::assess_vm(api.ajar(), &caller, &vm).await?)).into_response(),
        None => {
            let all = assess::assess_all(api.ajar(), &caller).await?;
            let all = all.into_iter().filter(is_wanted);
            Json(all.map(Verdict::from).collect::<List<_>>()).into_response()
        }
    })
}
