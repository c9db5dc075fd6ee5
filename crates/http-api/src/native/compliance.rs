//! The compliance report, in the formats that people and programs read.

use super::assessments::Known;
use super::moment;
use crate::Api;
use crate::error::ApiError;
use crate::identity::Authenticated;
use crate::query::Query;
use ajar_access::compliance_report::{self, ComplianceReport, TrendPoint};
use ajar_access::compliance_run::{ComplianceFinding, VerdictCounts};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use serde::Serialize;

/// The page runs nothing and loads nothing, whatever the names in it hold.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    deployment: String,
    at: String,
    swept: Option<String>,
    verdicts: VerdictCounts,
    vms: Vec<Known>,
    findings: Vec<ComplianceFinding>,
    more_findings: u64,
    trend: Vec<TrendPoint>,
}

impl From<ComplianceReport> for Report {
    fn from(report: ComplianceReport) -> Report {
        Report {
            verdicts: report.verdicts(),
            deployment: report.deployment,
            at: moment(report.at),
            swept: report.swept.map(moment),
            vms: report.vms.into_iter().map(Known::from).collect(),
            findings: report.findings,
            more_findings: report.more_findings,
            trend: report.trend,
        }
    }
}

/// `GET /api/compliance[?format=json|csv|html|sarif|ocsf]`
pub(crate) async fn get(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref())?;
    query.only(&["format"])?;
    let format = query.get("format")?.unwrap_or("json");
    if !["json", "csv", "html", "sarif", "ocsf"].contains(&format) {
        let message = "format: write json, csv, html, sarif or ocsf";
        return Err(ApiError::bad_request("InvalidQueryParameter", message).at("format"));
    }
    let report = compliance_report::report(api.ajar(), &caller).await?;
    Ok(match format {
        "csv" => {
            let headers = [
                (CONTENT_TYPE, "text/csv; charset=utf-8"),
                (CONTENT_DISPOSITION, "attachment; filename=\"compliance.csv\""),
            ];
            (headers, compliance_report::csv(&report)).into_response()
        }
        "html" => {
            let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, POLICY)];
            (headers, compliance_report::html(&report)).into_response()
        }
        "sarif" => {
            let headers = [(CONTENT_TYPE, "application/sarif+json")];
            (headers, compliance_report::sarif(&report).to_string()).into_response()
        }
        "ocsf" => Json(compliance_report::ocsf(&report)).into_response(),
        _ => Json(Report::from(report)).into_response(),
    })
}
