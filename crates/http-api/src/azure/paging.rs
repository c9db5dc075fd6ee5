//! `nextLink`, and the `$skipToken` in it.

use super::API_VERSION;
use crate::error::ApiError;
use crate::front_end::origin;
use crate::query::Query;
use ajar_access::azure_policy::PageEnd;
use axum::extract::Request;

const SKIP_TOKEN: &str = "$skipToken";

/// Where the page that is asked for begins; absent for the first.
pub(super) fn place(query: &Query) -> Result<Option<PageEnd>, ApiError> {
    let Some(text) = query.get(SKIP_TOKEN)? else { return Ok(None) };
    PageEnd::parse(text).map(Some).ok_or_else(|| {
        let message = format!("{SKIP_TOKEN} is none that a nextLink had: begin again without it");
        ApiError::bad_request("InvalidQueryParameter", message).at(SKIP_TOKEN)
    })
}

/// The address of the next page, on the host and path that the caller used.
pub(super) fn link(request: &Request, next: &PageEnd) -> String {
    let origin = origin(request.headers()).unwrap_or_default();
    let path = request.uri().path();
    // A place is made of characters that stand for themselves in a query.
    format!("{origin}{path}?api-version={API_VERSION}&{SKIP_TOKEN}={next}")
}
