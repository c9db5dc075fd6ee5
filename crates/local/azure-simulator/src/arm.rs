//! Azure Resource Manager: who may, what exists, one page at a time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::access_control;
use crate::arm_authorization;
use crate::arm_write;
use crate::catalogue::{self, Child, Kind};
use crate::directory::Principal;
use crate::exchange::{Refusal, Request, Response};
use crate::percent;
use crate::resource_graph;
use crate::resource_path::{ResourceName, Target, covers, target};
use crate::simulator::Simulator;

pub(crate) fn answer(
    simulator: &mut Simulator,
    request: &Request,
    caller: &Principal,
) -> Result<Response, Refusal> {
    let target = target(&request.path);
    check_query(request, &target)?;
    throttle(simulator, request, caller)?;
    if request.path.eq_ignore_ascii_case(resource_graph::PATH) {
        return resource_graph::answer(simulator, request, caller);
    }
    match (&request.method, target) {
        (&Method::GET, Target::Subscriptions) => subscriptions(simulator, request, caller),
        (&Method::GET, Target::Subscription(subscription)) => {
            require(simulator, caller, "Microsoft.Resources/subscriptions/read", &request.path)?;
            let found = simulator.estate.subscription(&subscription).cloned();
            found
                .map(|found| Response::json(StatusCode::OK, found))
                .ok_or_else(|| no_subscription(&subscription))
        }
        (&Method::GET, Target::ResourceGroups(subscription)) => {
            resource_groups(simulator, request, caller, &subscription)
        }
        (&Method::GET, Target::ResourceGroup(subscription, group)) => {
            let action = "Microsoft.Resources/subscriptions/resourceGroups/read";
            require(simulator, caller, action, &request.path)?;
            check_scope(simulator, &subscription, Some(&group))?;
            let found = simulator.estate.resource_group(&subscription, &group).cloned();
            found.map(|found| Response::json(StatusCode::OK, found)).ok_or_else(|| no_group(&group))
        }
        (&Method::GET, Target::Collection { subscription, group, namespace, kind }) => {
            let kind = known(request, &namespace, &kind)?;
            collection(simulator, request, caller, kind, &subscription, group.as_deref())
        }
        (&Method::GET, Target::Resource(name)) => {
            let kind = known(request, &name.namespace, &name.kind)?;
            require(simulator, caller, &format!("{}/read", kind.name), &request.path)?;
            let found = resource(simulator, kind, &name)?;
            Ok(Response::json(StatusCode::OK, simulator.estate.view(found)))
        }
        (&Method::GET, Target::ChildCollection(name, children)) => {
            let (kind, child) = known_child(request, &name, &children)?;
            require(simulator, caller, &format!("{}/{}/read", kind.name, child.name), &name.id())?;
            let found = resource(simulator, kind, &name)?;
            let found = simulator.estate.view(found);
            let children: Vec<Value> = children_of(&found, child).cloned().collect();
            let keyed = children.into_iter().map(|child| (text(&child, "name").to_ascii_lowercase(), child));
            page(simulator, request, keyed.collect())
        }
        (&Method::GET, Target::Child(name, children, wanted)) => {
            let (kind, child) = known_child(request, &name, &children)?;
            require(simulator, caller, &format!("{}/{}/read", kind.name, child.name), &request.path)?;
            let found = resource(simulator, kind, &name)?;
            let found = simulator.estate.view(found);
            let one = children_of(&found, child).find(|one| text(one, "name").eq_ignore_ascii_case(&wanted));
            one.map(|one| Response::json(StatusCode::OK, one.clone())).ok_or_else(|| no_child(&request.path))
        }
        (&Method::GET, Target::Operation { id, result }) => {
            let location =
                format!("{}{}?api-version={}", simulator.base_url, request.path, api_version(request));
            simulator.operations.poll(&id, result, &location)
        }
        (&Method::PUT, Target::Resource(name)) => {
            let kind = writable(request, &name)?;
            arm_write::put_resource(simulator, request, caller, kind, &name)
        }
        (&Method::DELETE, Target::Resource(name)) => {
            let kind = writable(request, &name)?;
            arm_write::delete_resource(simulator, request, caller, kind, &name)
        }
        (&Method::PUT, Target::Child(name, children, child_name)) => {
            let (kind, child) = writable_child(request, &name, &children)?;
            arm_write::put_child(simulator, request, caller, kind, &name, child, &child_name)
        }
        (&Method::DELETE, Target::Child(name, children, child_name)) => {
            let (kind, child) = writable_child(request, &name, &children)?;
            arm_write::delete_child(simulator, request, caller, kind, &name, child, &child_name)
        }
        (_, Target::Authorization { scope, kind, name }) => {
            arm_authorization::answer(simulator, request, caller, &scope, &kind, name.as_deref())
        }
        _ => Err(Refusal::not_modelled(&request.method, &request.path, "this path with this method")),
    }
}

/// `api-version` is required; any other parameter changes the answer in a way that must be modelled.
fn check_query(request: &Request, target: &Target) -> Result<(), Refusal> {
    if api_version(request).is_empty() {
        return Err(Refusal::bad(
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        ));
    }
    let filtered = matches!(target, Target::Authorization { .. });
    let unknown = request.query.iter().map(|(name, _)| name.to_ascii_lowercase()).find(|name| {
        let known = ["api-version", "$skiptoken"].contains(&name.as_str()) || filtered && name == "$filter";
        !known
    });
    match unknown {
        Some(name) => {
            Err(Refusal::not_modelled(&request.method, &request.path, &format!("the query parameter {name}")))
        }
        None => Ok(()),
    }
}

pub(crate) fn api_version(request: &Request) -> &str {
    request.parameter("api-version").unwrap_or_default()
}

fn throttle(simulator: &mut Simulator, request: &Request, caller: &Principal) -> Result<(), Refusal> {
    let subscription = request.path.split('/').nth(2).unwrap_or_default().to_owned();
    let now = simulator.clock.now();
    let limits = simulator.switches.throttle;
    simulator.buckets.take(&limits, &subscription, &caller.object_id, &request.method, now).map_err(|seconds| {
        Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "SubscriptionRequestsThrottled",
            format!(
                "Number of requests for subscription '{subscription}' exceeded the limit. Please try again after \
                 '{seconds}' seconds."
            ),
        )
        .with_retry_after(seconds)
    })
}

/// Refuses unless the caller may perform `action` at `scope`.
pub(crate) fn require(
    simulator: &Simulator,
    caller: &Principal,
    action: &str,
    scope: &str,
) -> Result<(), Refusal> {
    if access_control::allows(&simulator.estate.control, &caller.object_id, action, scope) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "AuthorizationFailed",
        format!(
            "The client '{}' with object id '{}' does not have authorization to perform action '{action}' over scope \
             '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
            caller.label, caller.object_id
        ),
    ))
}

fn known(request: &Request, namespace: &str, kind: &str) -> Result<&'static Kind, Refusal> {
    Kind::find(namespace, kind).ok_or_else(|| {
        Refusal::not_modelled(&request.method, &request.path, &format!("the type {namespace}/{kind}"))
    })
}

fn known_child(
    request: &Request,
    name: &ResourceName,
    child: &str,
) -> Result<(&'static Kind, &'static Child), Refusal> {
    let kind = known(request, &name.namespace, &name.kind)?;
    let found = kind.child(child).ok_or_else(|| {
        Refusal::not_modelled(&request.method, &request.path, &format!("{child} of {}", kind.name))
    })?;
    Ok((kind, found))
}

fn writable(request: &Request, name: &ResourceName) -> Result<&'static Kind, Refusal> {
    let kind = known(request, &name.namespace, &name.kind)?;
    if kind.writable {
        return Ok(kind);
    }
    Err(Refusal::not_modelled(&request.method, &request.path, &format!("writing {}", kind.name)))
}

fn writable_child(
    request: &Request,
    name: &ResourceName,
    child: &str,
) -> Result<(&'static Kind, &'static Child), Refusal> {
    let (kind, child) = known_child(request, name, child)?;
    if child.writable {
        return Ok((kind, child));
    }
    let what = format!("writing {} of {}", child.name, kind.name);
    Err(Refusal::not_modelled(&request.method, &request.path, &what))
}

pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn children_of<'a>(resource: &'a Value, child: &Child) -> impl Iterator<Item = &'a Value> {
    let children = resource.pointer(&format!("/properties/{}", child.name)).and_then(Value::as_array);
    children.into_iter().flatten()
}

fn no_subscription(subscription: &str) -> Refusal {
    Refusal::missing("SubscriptionNotFound", format!("The subscription '{subscription}' could not be found."))
}

fn no_group(group: &str) -> Refusal {
    Refusal::missing("ResourceGroupNotFound", format!("Resource group '{group}' could not be found."))
}

pub(crate) fn no_child(path: &str) -> Refusal {
    Refusal::missing("NotFound", format!("Resource {path} not found."))
}

/// The subscription and, if given, the resource group must exist.
pub(crate) fn check_scope(
    simulator: &Simulator,
    subscription: &str,
    group: Option<&str>,
) -> Result<(), Refusal> {
    if simulator.estate.subscription(subscription).is_none() {
        return Err(no_subscription(subscription));
    }
    match group {
        Some(group) if simulator.estate.resource_group(subscription, group).is_none() => Err(no_group(group)),
        _ => Ok(()),
    }
}

fn resource(simulator: &Simulator, kind: &Kind, name: &ResourceName) -> Result<Value, Refusal> {
    check_scope(simulator, &name.subscription, Some(&name.group))?;
    let found = simulator.estate.control.get(kind.name, &name.id()).cloned();
    found.ok_or_else(|| no_resource(kind, name))
}

pub(crate) fn no_resource(kind: &Kind, name: &ResourceName) -> Refusal {
    Refusal::missing(
        "ResourceNotFound",
        format!(
            "The Resource '{}/{}' under resource group '{}' was not found. For more details please go to \
             https://aka.ms/ARMResourceNotFoundFix",
            kind.name, name.name, name.group
        ),
    )
}

fn subscriptions(
    simulator: &mut Simulator,
    request: &Request,
    caller: &Principal,
) -> Result<Response, Refusal> {
    let plane = &simulator.estate.control;
    let visible: Vec<(String, Value)> = plane
        .all(catalogue::SUBSCRIPTIONS)
        .filter(|(id, _)| has_any_assignment(simulator, caller, id))
        .map(|(id, value)| (id.to_owned(), value.clone()))
        .collect();
    page(simulator, request, visible)
}

/// Whether the caller holds a role at, above or below the scope.
fn has_any_assignment(simulator: &Simulator, caller: &Principal, scope: &str) -> bool {
    let plane = &simulator.estate.control;
    let identities = access_control::identities(plane, &caller.object_id);
    plane.all(catalogue::ROLE_ASSIGNMENTS).any(|(_, assignment)| {
        let principal = assignment.pointer("/properties/principalId").and_then(Value::as_str);
        let own = access_control::scope_of(assignment);
        identities.contains(&principal.unwrap_or_default().to_ascii_lowercase())
            && (covers(&own, scope) || covers(scope, &own))
    })
}

fn resource_groups(
    simulator: &mut Simulator,
    request: &Request,
    caller: &Principal,
    subscription: &str,
) -> Result<Response, Refusal> {
    let scope = format!("/subscriptions/{subscription}");
    let action = "Microsoft.Resources/subscriptions/resourceGroups/read";
    let everywhere = list_scope(simulator, caller, action, &scope)?;
    check_scope(simulator, subscription, None)?;
    let plane = &simulator.estate.control;
    let groups: Vec<(String, Value)> = plane
        .all(catalogue::RESOURCE_GROUPS)
        .filter(|(id, _)| covers(&scope, id))
        .filter(|(id, _)| everywhere || access_control::allows(plane, &caller.object_id, action, id))
        .map(|(id, value)| (id.to_owned(), value.clone()))
        .collect();
    page(simulator, request, groups)
}

/// True if the caller may read at the whole scope, false if only below it; refused if not even there.
fn list_scope(simulator: &Simulator, caller: &Principal, action: &str, scope: &str) -> Result<bool, Refusal> {
    match require(simulator, caller, action, scope) {
        Ok(()) => Ok(true),
        Err(_) if has_any_assignment(simulator, caller, scope) => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

fn collection(
    simulator: &mut Simulator,
    request: &Request,
    caller: &Principal,
    kind: &Kind,
    subscription: &str,
    group: Option<&str>,
) -> Result<Response, Refusal> {
    let action = format!("{}/read", kind.name);
    let (scope, everywhere) = match group {
        Some(group) => {
            let scope = format!("/subscriptions/{subscription}/resourceGroups/{group}");
            require(simulator, caller, &action, &scope)?;
            (scope, true)
        }
        None => {
            let scope = format!("/subscriptions/{subscription}");
            let everywhere = list_scope(simulator, caller, &action, &scope)?;
            (scope, everywhere)
        }
    };
    check_scope(simulator, subscription, group)?;
    let plane = &simulator.estate.control;
    let found: Vec<(String, Value)> = plane
        .all(kind.name)
        .filter(|(id, _)| covers(&scope, id))
        .filter(|(id, _)| everywhere || access_control::allows(plane, &caller.object_id, &action, id))
        .map(|(id, value)| (id.to_owned(), value.clone()))
        .collect();
    page(simulator, request, found)
}

/// One page of `(key, resource)` in the order of their keys. A link names the last key shown, so that what
/// changes between two pages neither repeats nor hides anything else.
pub(crate) fn page(
    simulator: &mut Simulator,
    request: &Request,
    mut all: Vec<(String, Value)>,
) -> Result<Response, Refusal> {
    all.sort_by(|(left, _), (right, _)| left.cmp(right));
    if let Some(token) = request.parameter("$skiptoken") {
        let bad =
            || Refusal::bad("InvalidSkipToken", format!("The skip token '{token}' is not one of ours."));
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
        let after = String::from_utf8(bytes).map_err(|_| bad())?;
        all.retain(|(key, _)| *key > after);
    }
    let size = simulator.switches.page_size.max(1);
    let more = all.len() > size;
    all.truncate(size);
    let next = all.last().filter(|_| more).map(|(key, _)| {
        let filter =
            request.parameter("$filter").map(|filter| format!("&$filter={}", percent::encode(filter)));
        let path: Vec<String> = request.path.split('/').map(percent::encode).collect();
        format!(
            "{}{}?api-version={}{}&$skiptoken={}",
            simulator.base_url,
            path.join("/"),
            percent::encode(api_version(request)),
            filter.unwrap_or_default(),
            URL_SAFE_NO_PAD.encode(key)
        )
    });
    let value: Vec<Value> = all.into_iter().map(|(_, value)| simulator.estate.view(value)).collect();
    let mut body = json!({"value": value});
    if let (Some(next), Some(body)) = (next, body.as_object_mut()) {
        body.insert("nextLink".to_owned(), Value::String(next));
    }
    Ok(Response::json(StatusCode::OK, body))
}
