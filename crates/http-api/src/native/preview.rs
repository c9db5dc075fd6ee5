//! What a policy would do, before it does it.

use super::List;
use crate::Api;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::identity::Authenticated;
use crate::query::Query;
use ajar_access::configure::{self, Preview};
use ajar_access::policy::PolicyInput;
use ajar_network::plan::{Note, RuleChange};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// What a policy would do to one enforcement point.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PointPreview {
    enforcement_point: String,
    addresses: Vec<String>,
    changes: Vec<RuleChange>,
    notes: Vec<Note>,
}

impl From<Preview> for PointPreview {
    fn from(preview: Preview) -> PointPreview {
        PointPreview {
            enforcement_point: preview.point.to_string(),
            addresses: preview.addresses.iter().map(ToString::to_string).collect(),
            changes: preview.changes,
            notes: preview.notes,
        }
    }
}

/// `POST /api/policies/preview`
pub(crate) async fn post(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    JsonBody(input): JsonBody<PolicyInput>,
) -> Result<Response, ApiError> {
    Query::parse(query.as_deref())?.only(&[])?;
    let previews = configure::preview(api.ajar(), &caller, &input).await?;
    Ok(Json(previews.into_iter().map(PointPreview::from).collect::<List<_>>()).into_response())
}
