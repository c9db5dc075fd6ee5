//! JIT policies.

use super::{List, Person, duration, moment};
use crate::Api;
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::identity::Authenticated;
use crate::query::Query;
use ajar_access::policy::{
    AllowedSources, JitPolicy, OnDrift, PolicyInput, PolicyPoint, PolicyPort, PolicyState, WhenRoleIsLost,
};
use ajar_access::{configure, query};
use ajar_network::plan::ExistingRules;
use ajar_network::ports::PortRange;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

/// A policy as callers see it. Its first nine fields can be sent back as they are.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    vm: String,
    ports: Vec<Port>,
    standing_exceptions: Vec<String>,
    existing_rules: &'static str,
    flush_connections: bool,
    minimum_duration: String,
    max_source_addresses: u32,
    when_role_is_lost: &'static str,
    on_drift: &'static str,
    state: &'static str,
    location: String,
    enforcement_points: Vec<Point>,
    configured_by: Person,
    configured_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    port: PortValue,
    protocol: String,
    allowed_sources: Vec<String>,
    maximum_duration: String,
}

/// `22` or `"5985-5986"`, as in the input.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum PortValue {
    One(u16),
    Range(String),
}

#[derive(Serialize)]
struct Point {
    id: String,
    addresses: Vec<String>,
}

impl From<PortRange> for PortValue {
    fn from(ports: PortRange) -> PortValue {
        if ports.first() == ports.last() {
            PortValue::One(ports.first())
        } else {
            PortValue::Range(format!("{}-{}", ports.first(), ports.last()))
        }
    }
}

impl From<PolicyPort> for Port {
    fn from(port: PolicyPort) -> Port {
        Port {
            port: port.ports.into(),
            protocol: port.protocol.to_string(),
            allowed_sources: match port.allowed_sources {
                AllowedSources::Any => vec!["*".to_owned()],
                AllowedSources::Only(prefixes) => prefixes.iter().map(ToString::to_string).collect(),
            },
            maximum_duration: duration(port.maximum_duration),
        }
    }
}

impl From<PolicyPoint> for Point {
    fn from(point: PolicyPoint) -> Point {
        Point {
            id: point.point.to_string(),
            addresses: point.addresses.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<JitPolicy> for Policy {
    fn from(policy: JitPolicy) -> Policy {
        let terms = policy.terms;
        Policy {
            vm: policy.vm.to_string(),
            ports: terms.ports.into_iter().map(Port::from).collect(),
            standing_exceptions: terms.standing_exceptions.iter().map(ToString::to_string).collect(),
            existing_rules: match terms.existing_rules {
                ExistingRules::Supersede => "supersede",
                ExistingRules::Respect => "respect",
            },
            flush_connections: terms.flush_connections,
            minimum_duration: duration(terms.minimum_duration),
            max_source_addresses: terms.max_source_addresses,
            when_role_is_lost: match terms.when_role_is_lost {
                WhenRoleIsLost::Close => "close",
                WhenRoleIsLost::Keep => "keep",
            },
            on_drift: match terms.on_drift {
                OnDrift::Repair => "repair",
                OnDrift::Report => "report",
            },
            state: match policy.state {
                PolicyState::Enabled => "Enabled",
                PolicyState::Disabling => "Disabling",
                PolicyState::Retired => "Retired",
            },
            location: policy.location,
            enforcement_points: policy.points.into_iter().map(Point::from).collect(),
            configured_by: policy.configured_by.into(),
            configured_at: moment(policy.configured_at),
        }
    }
}

/// `PUT /api/policies`
pub(crate) async fn put(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    JsonBody(input): JsonBody<PolicyInput>,
) -> Result<Response, ApiError> {
    Query::parse(query.as_deref())?.only(&[])?;
    let policy = configure::enable(api.ajar(), &caller, &input).await?;
    Ok(Json(Policy::from(policy)).into_response())
}

/// The body of an approval of a template.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApproveTemplateInput {
    vm: String,
}

/// `POST /api/policies/approve-template`
pub(crate) async fn approve_template(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
    JsonBody(input): JsonBody<ApproveTemplateInput>,
) -> Result<Response, ApiError> {
    Query::parse(query.as_deref())?.only(&[])?;
    let policy = ajar_access::template_approval::approve(api.ajar(), &caller, &input.vm).await?;
    Ok(Json(Policy::from(policy)).into_response())
}

/// `GET /api/policies[?vm=]`
pub(crate) async fn get(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref())?;
    query.only(&["vm"])?;
    Ok(match query.vm()? {
        Some(vm) => Json(Policy::from(query::policy(api.ajar(), &caller, &vm).await?)).into_response(),
        None => {
            let policies = query::policies(api.ajar(), &caller).await?;
            Json(policies.into_iter().map(Policy::from).collect::<List<_>>()).into_response()
        }
    })
}

/// `DELETE /api/policies?vm=`
pub(crate) async fn delete(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref())?;
    query.only(&["vm"])?;
    let policy = configure::disable(api.ajar(), &caller, &query.required_vm()?).await?;
    Ok((StatusCode::ACCEPTED, Json(Policy::from(policy))).into_response())
}
