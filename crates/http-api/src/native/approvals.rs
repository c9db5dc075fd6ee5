//! Approvals: what waits for the caller, and their decisions.

use super::preview::PointPreview;
use super::requests::{self, Request};
use super::{List, no_query, request_id};
use crate::Api;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::identity::Authenticated;
use ajar_access::approvals;
use ajar_access::request::AccessRequest;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// Something that waits for the caller.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    /// `approve` or `review`.
    wanted: &'static str,
    /// What it opens, in a sentence.
    sentence: String,
    request: Request,
}

/// The same with what would change.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Planned {
    sentence: String,
    request: Request,
    plan: Vec<PointPreview>,
}

/// The body of an approval.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApproveInput {
    #[serde(default)]
    note: Option<String>,
}

/// The body of a refusal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DenyInput {
    reason: String,
}

/// The body of a review.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReviewInput {
    note: String,
}

impl From<AccessRequest> for Waiting {
    fn from(request: AccessRequest) -> Waiting {
        let wanted = if request.wants_review() { "review" } else { "approve" };
        Waiting { wanted, sentence: approvals::sentence(&request), request: request.into() }
    }
}

/// `GET /api/approvals`
pub(crate) async fn list(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    no_query(query.as_deref())?;
    let waiting = approvals::waiting_for(api.ajar(), &caller).await?;
    Ok(Json(waiting.into_iter().map(Waiting::from).collect::<List<_>>()).into_response())
}

/// `GET /api/approvals/{id}`
pub(crate) async fn get(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    no_query(query.as_deref())?;
    let (request, plan) = approvals::plan(api.ajar(), &caller, &request_id(path)?).await?;
    let plan = plan.into_iter().map(PointPreview::from).collect();
    let planned = Planned { sentence: approvals::sentence(&request), request: request.into(), plan };
    Ok(Json(planned).into_response())
}

/// `POST /api/requests/{id}/approve`
pub(crate) async fn approve(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    path: Result<Path<String>, PathRejection>,
    JsonBody(input): JsonBody<ApproveInput>,
) -> Result<Response, ApiError> {
    no_query(query.as_deref())?;
    let id = request_id(path)?;
    let request = ajar_access::approval::approve(api.ajar(), &caller, &id, input.note.as_deref()).await?;
    Ok(requests::shown(request))
}

/// `POST /api/requests/{id}/deny`
pub(crate) async fn deny(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    path: Result<Path<String>, PathRejection>,
    JsonBody(input): JsonBody<DenyInput>,
) -> Result<Response, ApiError> {
    no_query(query.as_deref())?;
    let id = request_id(path)?;
    Ok(requests::shown(ajar_access::approval::deny(api.ajar(), &caller, &id, &input.reason).await?))
}

/// `POST /api/requests/{id}/review`
pub(crate) async fn review(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    path: Result<Path<String>, PathRejection>,
    JsonBody(input): JsonBody<ReviewInput>,
) -> Result<Response, ApiError> {
    no_query(query.as_deref())?;
    let id = request_id(path)?;
    Ok(requests::shown(ajar_access::approval::review(api.ajar(), &caller, &id, &input.note).await?))
}
