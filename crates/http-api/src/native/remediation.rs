//! Turning JIT on for many VMs, and adopting protection that outlived its policy.

use super::List;
use super::preview::PointPreview;
use crate::Api;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::identity::Authenticated;
use crate::query::Query;
use ajar_access::remediate::{self, AdoptInput, ManyInput, Remediated, Remedy};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// What became, or would become, of one VM.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    vm: String,
    /// `WouldChange`, `Enabled` or `Failed`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    enforcement_points: Option<Vec<PointPreview>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<Remediated> for Outcome {
    fn from(remediated: Remediated) -> Outcome {
        let vm = remediated.vm;
        match remediated.outcome {
            Ok(Remedy::WouldChange(previews)) => {
                let points = Some(previews.into_iter().map(PointPreview::from).collect());
                Outcome { vm, outcome: "WouldChange", enforcement_points: points, reason: None }
            }
            Ok(Remedy::Enabled(_)) => {
                Outcome { vm, outcome: "Enabled", enforcement_points: None, reason: None }
            }
            Err(error) => {
                tracing::warn!(
                    vm,
                    error = error.log_text(),
                    "JIT could not be turned on for one of many VMs"
                );
                let reason = Some(error.to_string());
                Outcome { vm, outcome: "Failed", enforcement_points: None, reason }
            }
        }
    }
}

/// `POST /api/policies/enable-many`
pub(crate) async fn enable_many(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    JsonBody(input): JsonBody<ManyInput>,
) -> Result<Response, ApiError> {
    Query::parse(query.as_deref())?.only(&[])?;
    let all = remediate::enable_many(api.ajar(), &caller, &input).await?;
    Ok(Json(all.into_iter().map(Outcome::from).collect::<List<_>>()).into_response())
}

/// `POST /api/policies/adopt`
pub(crate) async fn adopt(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    JsonBody(input): JsonBody<AdoptInput>,
) -> Result<Response, ApiError> {
    Query::parse(query.as_deref())?.only(&[])?;
    let all = remediate::adopt(api.ajar(), &caller, &input).await?;
    Ok(Json(all.into_iter().map(Outcome::from).collect::<List<_>>()).into_response())
}
