//! Access requests.

use super::asking;
use super::policies::PortValue;
use super::{List, Person, duration, moment, no_query, request_id as id};
use crate::Api;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::identity::Authenticated;
use crate::query::Query;
use ajar_access::approval::{Approval, Review};
use ajar_access::extend::{self, ExtensionInput};
use ajar_access::history::Entry;
use ajar_access::life_cycle::{CloseReason, Status};
use ajar_access::request::{AccessRequest, PointStatus, RequestPoint, RequestedFlow};
use ajar_access::submit_many::{self, Asked, RequestsInput};
use ajar_access::{close, query, submit, wait};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

/// A request as those who may see it see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    id: String,
    /// What the requests for several VMs at once share.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    vm: String,
    status: &'static str,
    /// Why it was refused or could not be carried out.
    reason: Option<String>,
    close_reason: Option<&'static str>,
    requester: Person,
    ports: Vec<Port>,
    duration: String,
    justification: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<String>,
    /// Absent unless it is an emergency.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    break_glass: bool,
    /// Absent unless people have to approve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<ApprovalValue>,
    /// Absent until somebody has reviewed an emergency.
    #[serde(skip_serializing_if = "Option::is_none")]
    review: Option<ReviewValue>,
    requested_at: String,
    start: Option<String>,
    end: Option<String>,
    enforcement_points: Vec<Point>,
}

/// The approvals that a request needs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApprovalValue {
    needed: u32,
    why: String,
    until: String,
    given: Vec<GivenValue>,
}

#[derive(Serialize)]
struct GivenValue {
    by: Person,
    at: String,
}

/// What somebody has found of an emergency.
#[derive(Serialize)]
struct ReviewValue {
    by: Person,
    at: String,
    note: String,
}

#[derive(Serialize)]
struct Port {
    port: PortValue,
    protocol: String,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct Point {
    id: String,
    status: &'static str,
}

/// One step of a request's life.
#[derive(Serialize)]
struct Step {
    sequence: u32,
    at: String,
    /// Absent when Ajar did it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Person>,
    status: &'static str,
    what: String,
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Requested => "Requested",
        Status::AwaitingApproval => "AwaitingApproval",
        Status::Approved => "Approved",
        Status::Opening => "Opening",
        Status::Active => "Active",
        Status::Closing => "Closing",
        Status::Closed => "Closed",
        Status::Denied => "Denied",
        Status::Cancelled => "Cancelled",
        Status::TimedOut => "TimedOut",
        Status::Failed => "Failed",
    }
}

fn close_reason_name(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Expired => "Expired",
        CloseReason::Revoked => "Revoked",
        CloseReason::Superseded => "Superseded",
    }
}

impl From<Approval> for ApprovalValue {
    fn from(approval: Approval) -> ApprovalValue {
        let given = approval.given.into_iter();
        ApprovalValue {
            needed: approval.needed,
            why: approval.why,
            until: moment(approval.until),
            given: given.map(|given| GivenValue { by: given.by.into(), at: moment(given.at) }).collect(),
        }
    }
}

impl From<Review> for ReviewValue {
    fn from(review: Review) -> ReviewValue {
        ReviewValue { by: review.by.into(), at: moment(review.at), note: review.note }
    }
}

impl From<RequestedFlow> for Port {
    fn from(flow: RequestedFlow) -> Port {
        Port {
            port: flow.ports.into(),
            protocol: flow.protocol.to_string(),
            sources: flow.sources.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<RequestPoint> for Point {
    fn from(point: RequestPoint) -> Point {
        let status = match point.status {
            PointStatus::Opening => "Opening",
            PointStatus::Open => "Open",
            PointStatus::Shut => "Shut",
        };
        Point { id: point.point.to_string(), status }
    }
}

impl From<AccessRequest> for Request {
    fn from(request: AccessRequest) -> Request {
        Request {
            id: request.id.to_string(),
            group: request.group,
            vm: request.wish.vm.to_string(),
            status: status_name(request.status),
            reason: request.reason,
            close_reason: request.close_reason.map(close_reason_name),
            requester: request.requester.into(),
            ports: request.wish.flows.into_iter().map(Port::from).collect(),
            duration: duration(request.wish.duration),
            justification: request.wish.justification,
            ticket: request.wish.ticket,
            break_glass: request.wish.break_glass,
            approval: request.approval.map(ApprovalValue::from),
            review: request.review.map(ReviewValue::from),
            requested_at: moment(request.requested_at),
            // One that was promised for later begins then.
            start: request.start.or(request.wish.not_before).map(moment),
            end: request.end.map(moment),
            enforcement_points: request.points.into_iter().map(Point::from).collect(),
        }
    }
}

impl From<Entry> for Step {
    fn from(entry: Entry) -> Step {
        Step {
            sequence: entry.sequence,
            at: moment(entry.at),
            by: entry.by.map(Person::from),
            status: status_name(entry.status),
            what: entry.what,
        }
    }
}

/// `POST /api/requests`
pub(crate) async fn post(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    JsonBody(input): JsonBody<RequestsInput>,
) -> Result<Response, ApiError> {
    no_query(query.as_deref())?;
    let input = match input.asked()? {
        Asked::One(input) => input,
        Asked::Several(inputs) => {
            return Ok(asking::answers(submit_many::submit_many(api.ajar(), &caller, inputs).await));
        }
    };
    let request = submit::submit(api.ajar(), &caller, &input).await?;
    Ok(accepted(request))
}

/// The request as it is now.
pub(super) fn shown(request: AccessRequest) -> Response {
    Json(Request::from(request)).into_response()
}

/// 202, and where and when to look.
fn accepted(request: AccessRequest) -> Response {
    let headers =
        [(LOCATION, format!("/api/requests/{}", request.id)), (RETRY_AFTER, asking::RETRY_SECONDS.into())];
    (StatusCode::ACCEPTED, headers, Json(Request::from(request))).into_response()
}

/// `POST /api/requests/{id}/extend`
pub(crate) async fn extend(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    path: Result<Path<String>, PathRejection>,
    JsonBody(input): JsonBody<ExtensionInput>,
) -> Result<Response, ApiError> {
    no_query(query.as_deref())?;
    let request = extend::extend(api.ajar(), &caller, &id(path)?, &input).await?;
    Ok(Json(Request::from(request)).into_response())
}

/// `GET /api/requests`: the caller's own, or with `?group=` those that one request for several VMs became.
pub(crate) async fn list(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref())?;
    query.only(&["group"])?;
    let requests = match query.get("group")? {
        Some(group) => query::group_requests(api.ajar(), &caller, group).await?,
        None => query::own_requests(api.ajar(), &caller).await?,
    };
    Ok(Json(requests.into_iter().map(Request::from).collect::<List<_>>()).into_response())
}

/// `GET /api/requests/{id}`, at once or, with `?wait=20s` or `Prefer: wait=20`, once there is something to say.
pub(crate) async fn get(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref())?;
    query.only(&["wait"])?;
    let id = id(path)?;
    let Some(wait) = asking::wait(&query, &headers)? else {
        let request = query::request(api.ajar(), &caller, &id).await?;
        return Ok(Json(Request::from(request)).into_response());
    };
    let request = wait::until_granted(api.ajar(), &caller, &id, wait.time).await?;
    let mut response = Json(Request::from(request)).into_response();
    if wait.is_preference {
        let applied = HeaderValue::from_str(&format!("wait={}", wait.time.as_secs()));
        response.headers_mut().extend(applied.ok().map(|value| (asking::PREFERENCE_APPLIED, value)));
    }
    Ok(response)
}

/// `GET /api/requests/{id}/history`
pub(crate) async fn history(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    no_query(query.as_deref())?;
    let entries = query::request_history(api.ajar(), &caller, &id(path)?).await?;
    Ok(Json(entries.into_iter().map(Step::from).collect::<List<_>>()).into_response())
}

/// `DELETE /api/requests/{id}`: 202 while rules are still to be removed, else 200.
pub(crate) async fn delete(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    no_query(query.as_deref())?;
    let request = close::revoke(api.ajar(), &caller, &id(path)?).await?;
    let status = if request.status.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(Request::from(request))).into_response())
}
