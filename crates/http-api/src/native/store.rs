//! Ajar's own state, for its operator.

use crate::Api;
use crate::error::ApiError;
use crate::identity::Authenticated;
use crate::query::Query;
use ajar_access::resume;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// What was done with restored tables.
#[derive(Serialize)]
struct Resumed {
    /// Requests and grants that were under way, now ended.
    ended: usize,
    /// Policies that were being turned off, now forgotten.
    forgotten: usize,
    /// Policies that protect from now on.
    policies: usize,
    /// The store's new generation.
    generation: u64,
}

/// `POST /api/store/resume`
pub(crate) async fn resume(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    Query::parse(query.as_deref())?.only(&[])?;
    let resume::Resumed { ended, forgotten, policies, generation } =
        resume::resume(api.ajar(), &caller).await?;
    Ok(Json(Resumed { ended, forgotten, policies, generation }).into_response())
}
