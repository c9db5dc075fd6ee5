//! The native API: one VM, one request at a time, in Ajar's own words.

mod approvals;
mod asking;
mod assessments;
mod compliance;
mod history;
mod policies;
mod preview;
mod remediation;
mod requests;
mod store;

use crate::Api;
use crate::error::ApiError;
use crate::query::Query;
use ajar_access::ports::identity::Caller;
use ajar_access::request_id::RequestId;
use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::routing::{get, post, put};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/api/approvals", get(approvals::list))
        .route("/api/approvals/{id}", get(approvals::get))
        .route("/api/assessments", get(assessments::get))
        .route("/api/compliance", get(compliance::get))
        .route("/api/history", get(history::get))
        .route("/api/policies/adopt", post(remediation::adopt))
        .route("/api/policies/approve-template", post(policies::approve_template))
        .route("/api/policies/enable-many", post(remediation::enable_many))
        .route("/api/policies/preview", post(preview::post))
        .route("/api/policies", put(policies::put).get(policies::get).delete(policies::delete))
        .route("/api/requests", get(requests::list).post(requests::post))
        .route("/api/requests/{id}", get(requests::get).delete(requests::delete))
        .route("/api/requests/{id}/approve", post(approvals::approve))
        .route("/api/requests/{id}/deny", post(approvals::deny))
        .route("/api/requests/{id}/review", post(approvals::review))
        .route("/api/requests/{id}/extend", post(requests::extend))
        .route("/api/requests/{id}/history", get(requests::history))
        .route("/api/store/resume", post(store::resume))
}

/// The id of a request in the path. One that cannot be decoded names nothing.
fn request_id(path: Result<Path<String>, PathRejection>) -> Result<RequestId, ApiError> {
    let Ok(Path(text)) = path else { return Ok(RequestId::parse("")?) };
    Ok(RequestId::parse(&text)?)
}

fn no_query(query: Option<&str>) -> Result<(), ApiError> {
    Query::parse(query)?.only(&[])
}

/// A list, in the shape of Azure's lists.
#[derive(Serialize)]
struct List<T> {
    value: Vec<T>,
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> List<T> {
        List { value: items.into_iter().collect() }
    }
}

/// A person or an application.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Person {
    object_id: String,
    name: String,
}

impl From<Caller> for Person {
    fn from(caller: Caller) -> Person {
        Person { object_id: caller.object_id, name: caller.name }
    }
}

/// ISO 8601.
fn duration(duration: SignedDuration) -> String {
    duration.to_string()
}

/// RFC 3339 in UTC.
fn moment(at: Timestamp) -> String {
    at.to_string()
}
