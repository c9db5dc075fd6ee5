//! `Microsoft.Authorization`: role assignments, role definitions and deny assignments at any scope.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::access_control::{self, concerns, identities, scope_of};
use crate::arm::{no_child, page, require, text};
use crate::arm_write::json_body;
use crate::catalogue::{DENY_ASSIGNMENTS, ROLE_ASSIGNMENTS, ROLE_DEFINITIONS};
use crate::directory::Principal;
use crate::exchange::{Refusal, Request, Response};
use crate::resource_path::covers;
use crate::simulator::Simulator;

pub(crate) fn answer(
    simulator: &mut Simulator,
    request: &Request,
    caller: &Principal,
    scope: &str,
    kind: &str,
    name: Option<&str>,
) -> Result<Response, Refusal> {
    let known = [ROLE_ASSIGNMENTS, ROLE_DEFINITIONS, DENY_ASSIGNMENTS]
        .into_iter()
        .find(|known| known.rsplit('/').next().is_some_and(|known| known.eq_ignore_ascii_case(kind)));
    let unknown = |what: &str| Refusal::not_modelled(&request.method, &request.path, what);
    let kind = known.ok_or_else(|| unknown(&format!("the type Microsoft.Authorization/{kind}")))?;
    match (&request.method, name) {
        (&Method::GET, None) => {
            require(simulator, caller, &format!("{kind}/read"), scope)?;
            list(simulator, request, scope, kind)
        }
        (&Method::GET, Some(name)) => {
            require(simulator, caller, &format!("{kind}/read"), scope)?;
            find(simulator, scope, kind, name)
                .map(|found| Response::json(StatusCode::OK, found))
                .ok_or_else(|| no(kind, name, &request.path))
        }
        (&Method::PUT, Some(name)) if kind == ROLE_ASSIGNMENTS => {
            require(simulator, caller, &format!("{kind}/write"), scope)?;
            assign(simulator, request, scope, name)
        }
        (&Method::DELETE, Some(name)) if kind == ROLE_ASSIGNMENTS => {
            require(simulator, caller, &format!("{kind}/delete"), scope)?;
            match find(simulator, scope, kind, name) {
                Some(found) => {
                    simulator.estate.put_control(kind, text(&found, "id"), None);
                    Ok(Response::json(StatusCode::OK, found))
                }
                None => Ok(Response::empty(StatusCode::NO_CONTENT)),
            }
        }
        _ => Err(unknown(&format!("this method on {kind}"))),
    }
}

fn no(kind: &str, name: &str, path: &str) -> Refusal {
    match kind {
        ROLE_DEFINITIONS => Refusal::missing(
            "RoleDefinitionDoesNotExist",
            format!("The specified role definition with ID '{name}' does not exist."),
        ),
        ROLE_ASSIGNMENTS => {
            Refusal::missing("RoleAssignmentNotFound", format!("The role assignment '{name}' is not found."))
        }
        _ => no_child(path),
    }
}

fn find(simulator: &Simulator, scope: &str, kind: &str, name: &str) -> Option<Value> {
    let plane = &simulator.estate.control;
    if kind == ROLE_DEFINITIONS {
        return access_control::definition(plane, name).cloned();
    }
    plane
        .all(kind)
        .map(|(_, value)| value)
        .find(|value| {
            text(value, "name").eq_ignore_ascii_case(name) && scope_of(value).eq_ignore_ascii_case(scope)
        })
        .cloned()
}

/// One condition of a `$filter`.
enum Condition {
    AtScope,
    AssignedTo(String),
    PrincipalIs(String),
    RoleNameIs(String),
    TypeIs(String),
}

fn conditions(request: &Request) -> Result<Vec<Condition>, Refusal> {
    let filter = request.parameter("$filter").unwrap_or_default();
    let lower = filter.to_ascii_lowercase();
    // Values are GUIDs and role names; " and " in a role name would be cut, so names keep to their case here.
    let mut conditions = Vec::new();
    for part in lower.split(" and ").map(str::trim).filter(|part| !part.is_empty()) {
        let equals = |field: &str| {
            let value = part.strip_prefix(field)?.trim_start().strip_prefix("eq")?.trim();
            value.strip_prefix('\'')?.strip_suffix('\'').map(str::to_owned)
        };
        let condition = if part == "atscope()" {
            Condition::AtScope
        } else if let Some(id) = part.strip_prefix("assignedto('").and_then(|rest| rest.strip_suffix("')")) {
            Condition::AssignedTo(id.to_owned())
        } else if let Some(id) = equals("principalid") {
            Condition::PrincipalIs(id)
        } else if let Some(name) = equals("rolename") {
            Condition::RoleNameIs(name)
        } else if let Some(kind) = equals("type") {
            Condition::TypeIs(kind)
        } else {
            let what = format!("the filter {filter}");
            return Err(Refusal::not_modelled(&request.method, &request.path, &what));
        };
        conditions.push(condition);
    }
    Ok(conditions)
}

fn list(simulator: &mut Simulator, request: &Request, scope: &str, kind: &str) -> Result<Response, Refusal> {
    let conditions = conditions(request)?;
    let plane = &simulator.estate.control;
    let holds = |value: &Value, condition: &Condition| {
        let property =
            |name: &str| text(value.get("properties").unwrap_or(&Value::Null), name).to_ascii_lowercase();
        match condition {
            Condition::AtScope => kind == ROLE_DEFINITIONS || covers(&scope_of(value), scope),
            Condition::AssignedTo(id) => {
                let identities = identities(plane, id);
                identities.contains(&property("principalId")) || concerns(value, &identities)
            }
            Condition::PrincipalIs(id) => {
                property("principalId") == *id || concerns(value, &std::iter::once(id.clone()).collect())
            }
            Condition::RoleNameIs(name) => property("roleName") == *name,
            Condition::TypeIs(name) => property("type") == *name,
        }
    };
    let found: Vec<(String, Value)> = plane
        .all(kind)
        .filter(|(_, value)| {
            let own = scope_of(value);
            kind == ROLE_DEFINITIONS || covers(&own, scope) || covers(scope, &own)
        })
        .filter(|(_, value)| conditions.iter().all(|condition| holds(value, condition)))
        .map(|(id, value)| (id.to_owned(), value.clone()))
        .collect();
    page(simulator, request, found)
}

fn assign(
    simulator: &mut Simulator,
    request: &Request,
    scope: &str,
    name: &str,
) -> Result<Response, Refusal> {
    let body = json_body(request)?;
    let property = |name: &str| {
        let value = body.pointer(&format!("/properties/{name}")).and_then(Value::as_str);
        value.map(str::to_owned).ok_or_else(|| {
            Refusal::bad("InvalidRequestContent", format!("The role assignment needs `properties.{name}`."))
        })
    };
    let (definition, principal) = (property("roleDefinitionId")?, property("principalId")?);
    if access_control::definition(&simulator.estate.control, &definition).is_none() {
        return Err(no(ROLE_DEFINITIONS, &definition, &request.path));
    }
    let id = format!("{scope}/providers/{ROLE_ASSIGNMENTS}/{name}");
    let value = json!({
        "id": id, "name": name, "type": ROLE_ASSIGNMENTS,
        "properties": {
            "roleDefinitionId": definition, "principalId": principal, "scope": scope,
            "principalType": body.pointer("/properties/principalType").cloned().unwrap_or_else(|| json!("User")),
        },
    });
    simulator.estate.put_control(ROLE_ASSIGNMENTS, &id, Some(value.clone()));
    Ok(Response::json(StatusCode::CREATED, value))
}
