//! PUT and DELETE of resources and of the children inside them.

use http::StatusCode;
use http::header::IF_NONE_MATCH;
use serde_json::{Map, Value, json};

use crate::access_control;
use crate::address::Prefix;
use crate::arm::{api_version, check_scope, children_of, no_resource, require, text};
use crate::catalogue::{self, Child, Kind};
use crate::directory::Principal;
use crate::exchange::{Refusal, Request, Response};
use crate::interface_addresses;
use crate::network_security_group;
use crate::operations::{Base, Written};
use crate::references::{Reference, references};
use crate::resource_path::ResourceName;
use crate::security_rule;
use crate::simulator::Simulator;

/// The body as a JSON object.
pub(crate) fn json_body(request: &Request) -> Result<Value, Refusal> {
    let bad = |why: String| {
        Refusal::bad(
            "InvalidRequestContent",
            format!("The request content was invalid and could not be deserialized: '{why}'."),
        )
    };
    let body: Value = serde_json::from_slice(&request.body).map_err(|error| bad(error.to_string()))?;
    if body.is_object() { Ok(body) } else { Err(bad("the body must be a JSON object".to_owned())) }
}

pub(crate) fn put_resource(
    simulator: &mut Simulator,
    request: &Request,
    caller: &Principal,
    kind: &'static Kind,
    name: &ResourceName,
) -> Result<Response, Refusal> {
    let action = format!("{}/write", kind.name);
    require(simulator, caller, &action, &request.path)?;
    check_scope(simulator, &name.subscription, Some(&name.group))?;
    let body = json_body(request)?;
    let base = base(simulator, kind, &name.id())?;
    check_match(simulator, request, kind, &name.id(), base.existing.as_ref())?;
    // The stored case of an existing resource's id and name stays.
    let id =
        base.existing.as_ref().map_or_else(|| canonical_id(kind, name), |old| text(old, "id").to_owned());
    let shown_name = base.existing.as_ref().map_or(name.name.as_str(), |old| text(old, "name"));
    check_location(&body, base.existing.as_ref())?;
    let mut value = if kind.name == catalogue::NETWORK_SECURITY_GROUPS {
        let mut group = network_security_group::from_put(&id, shown_name, &body, base.existing.as_ref())?;
        security_rule::check_group(&mut group)?;
        group
    } else {
        from_put(kind, &id, shown_name, &body, base.existing.as_ref())?
    };
    check_references(simulator, caller, &action, &id, &references(kind.name, &value))?;
    if kind.name == catalogue::NETWORK_INTERFACES {
        interface_addresses::assign(&simulator.estate.control, &mut value)?;
    } else if kind.name == catalogue::PUBLIC_ADDRESSES {
        interface_addresses::assign_public(&simulator.estate.control, &mut value);
    } else if kind.name == catalogue::VIRTUAL_MACHINES && value.pointer("/properties/vmId").is_none() {
        set_property(&mut value, "vmId", json!(simulator.random.guid()));
    }
    if kind.name == catalogue::VIRTUAL_MACHINES && value.pointer("/properties/timeCreated").is_none() {
        set_property(&mut value, "timeCreated", json!(simulator.clock.now()));
    }
    if kind.has_etag() && value.pointer("/properties/resourceGuid").is_none() {
        set_property(&mut value, "resourceGuid", json!(simulator.random.guid()));
    }
    let created = base.existing.is_none();
    let written = write(simulator, kind, &id, &base, Some(value));
    simulator.note_change(&id, false, &action, caller);
    let shown = written.shown.clone().map(|shown| simulator.estate.view(shown)).unwrap_or_default();
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(accepted(simulator, request, name, &written, Response::json(status, shown), false))
}

pub(crate) fn delete_resource(
    simulator: &mut Simulator,
    request: &Request,
    caller: &Principal,
    kind: &'static Kind,
    name: &ResourceName,
) -> Result<Response, Refusal> {
    let action = format!("{}/delete", kind.name);
    require(simulator, caller, &action, &request.path)?;
    check_scope(simulator, &name.subscription, Some(&name.group))?;
    let base = base(simulator, kind, &name.id())?;
    let Some(existing) = &base.existing else { return Ok(Response::empty(StatusCode::NO_CONTENT)) };
    check_match(simulator, request, kind, &name.id(), base.existing.as_ref())?;
    let id = text(existing, "id").to_owned();
    let back = simulator.estate.back_references();
    let in_use = match kind.name {
        catalogue::NETWORK_SECURITY_GROUPS if back.group_in_use(&id) => {
            Some("InUseNetworkSecurityGroupCannotBeDeleted")
        }
        catalogue::NETWORK_INTERFACES if back.machine_of(&id).is_some() => Some("NicInUse"),
        catalogue::PUBLIC_ADDRESSES if back.address_in_use(&id) => Some("PublicIPAddressCannotBeDeleted"),
        _ => None,
    };
    if let Some(code) = in_use {
        return Err(Refusal::bad(code, format!("{id} cannot be deleted because other resources use it.")));
    }
    let written = write(simulator, kind, &id, &base, None);
    simulator.note_change(&id, true, &action, caller);
    Ok(accepted(simulator, request, name, &written, Response::empty(StatusCode::ACCEPTED), true))
}

pub(crate) fn put_child(
    simulator: &mut Simulator,
    request: &Request,
    caller: &Principal,
    kind: &'static Kind,
    name: &ResourceName,
    child: &'static Child,
    child_name: &str,
) -> Result<Response, Refusal> {
    let action = format!("{}/{}/write", kind.name, child.name);
    require(simulator, caller, &action, &request.path)?;
    check_scope(simulator, &name.subscription, Some(&name.group))?;
    let body = json_body(request)?;
    let base = base(simulator, kind, &name.id())?;
    let Some(mut parent) = base.existing.clone() else { return Err(no_parent(kind, child, name)) };
    let parent_id = text(&parent, "id").to_owned();
    let position =
        children_of(&parent, child).position(|one| text(one, "name").eq_ignore_ascii_case(child_name));
    let stored_name =
        position.and_then(|at| children_of(&parent, child).nth(at)).map(|one| text(one, "name"));
    let shown_name = stored_name.unwrap_or(child_name).to_owned();
    let child_id = format!("{parent_id}/{}/{shown_name}", child.name);
    let fresh = child_from_put(&child_id, &shown_name, &body)?;
    let Some(children) = child_list(&mut parent, child) else { return Err(no_parent(kind, child, name)) };
    match position.and_then(|at| children.get_mut(at)) {
        Some(old) => *old = fresh.clone(),
        None => children.push(fresh.clone()),
    }
    if kind.name == catalogue::NETWORK_SECURITY_GROUPS {
        network_security_group::complete(&mut parent);
        security_rule::check_group(&mut parent)?;
    } else {
        check_subnet(&parent, &fresh)?;
        crate::estate::name_children(kind, &mut parent);
    }
    let mentioned = references(&format!("{}/{}", kind.name, child.name), &fresh);
    check_references(simulator, caller, &action, &child_id, &mentioned)?;
    let written = write(simulator, kind, &parent_id, &base, Some(parent));
    simulator.note_change(&child_id, false, &action, caller);
    let shown = written.shown.clone().map(|shown| simulator.estate.view(shown)).unwrap_or_default();
    let shown = children_of(&shown, child).find(|one| text(one, "name") == shown_name).cloned();
    let status = if position.is_none() { StatusCode::CREATED } else { StatusCode::OK };
    let response = Response::json(status, shown.unwrap_or_default());
    Ok(accepted(simulator, request, name, &written, response, false))
}

pub(crate) fn delete_child(
    simulator: &mut Simulator,
    request: &Request,
    caller: &Principal,
    kind: &'static Kind,
    name: &ResourceName,
    child: &'static Child,
    child_name: &str,
) -> Result<Response, Refusal> {
    let action = format!("{}/{}/delete", kind.name, child.name);
    require(simulator, caller, &action, &request.path)?;
    check_scope(simulator, &name.subscription, Some(&name.group))?;
    let base = base(simulator, kind, &name.id())?;
    let Some(mut parent) = base.existing.clone() else {
        return Ok(Response::empty(StatusCode::NO_CONTENT));
    };
    let parent_id = text(&parent, "id").to_owned();
    let Some(children) = child_list(&mut parent, child) else { return Err(no_parent(kind, child, name)) };
    let Some(at) = children.iter().position(|one| text(one, "name").eq_ignore_ascii_case(child_name)) else {
        return Ok(Response::empty(StatusCode::NO_CONTENT));
    };
    let removed = children.remove(at);
    let child_id = text(&removed, "id").to_owned();
    if simulator.estate.back_references().subnet_in_use(&child_id) {
        let message = format!("Subnet {child_id} is in use and cannot be deleted.");
        return Err(Refusal::bad("InUseSubnetCannotBeDeleted", message));
    }
    let written = write(simulator, kind, &parent_id, &base, Some(parent));
    simulator.note_change(&child_id, true, &action, caller);
    Ok(accepted(simulator, request, name, &written, Response::empty(StatusCode::ACCEPTED), true))
}

fn base(simulator: &mut Simulator, kind: &'static Kind, id: &str) -> Result<Base, Refusal> {
    simulator.operations.base(&simulator.estate, kind, id, &simulator.switches, &mut simulator.random)
}

fn write(
    simulator: &mut Simulator,
    kind: &'static Kind,
    id: &str,
    base: &Base,
    after: Option<Value>,
) -> Written {
    let now = simulator.clock.now();
    let Simulator { operations, estate, random, switches, .. } = simulator;
    operations.write(estate, random, switches, now, kind, id, base, after)
}

/// Adds the headers by which clients follow the operation.
fn accepted(
    simulator: &Simulator,
    request: &Request,
    name: &ResourceName,
    written: &Written,
    response: Response,
    location: bool,
) -> Response {
    let link = |what: &str| {
        format!(
            "{}/subscriptions/{}/providers/{}/locations/westeurope/{what}/{}?api-version={}",
            simulator.base_url,
            name.subscription,
            name.namespace,
            written.operation,
            api_version(request)
        )
    };
    let retry_after = simulator.switches.retry_after_seconds.to_string();
    let response = response
        .with_header("azure-asyncoperation", &link("operations"))
        .with_header("retry-after", &retry_after);
    if location { response.with_header("location", &link("operationResults")) } else { response }
}

/// `If-Match` on a whole resource. Azure's network provider obeys it; it declares nothing of the kind.
fn check_match(
    simulator: &Simulator,
    request: &Request,
    kind: &Kind,
    id: &str,
    existing: Option<&Value>,
) -> Result<(), Refusal> {
    if request.headers.contains_key(IF_NONE_MATCH) {
        return Err(Refusal::not_modelled(&request.method, &request.path, "the header If-None-Match"));
    }
    let wanted = request.header("if-match").filter(|_| simulator.switches.honour_if_match && kind.has_etag());
    let Some(wanted) = wanted else { return Ok(()) };
    let current = existing.map(|existing| text(existing, "etag"));
    if current == Some(wanted) || wanted == "*" && current.is_some() {
        return Ok(());
    }
    let current = current.unwrap_or("(none)");
    Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", "Precondition failed.").with_detail(
        "PreconditionFailedEtagMismatch",
        format!("Etag provided in if-match header {wanted} does not match etag {current} of resource {id} in NRP data store."),
    ))
}

fn check_location(body: &Value, existing: Option<&Value>) -> Result<(), Refusal> {
    let given = text(body, "location");
    if given.is_empty() {
        let message = "The location property is required for this definition.";
        return Err(Refusal::bad("LocationRequired", message));
    }
    let plain = |location: &str| location.replace(' ', "").to_ascii_lowercase();
    match existing.map(|existing| text(existing, "location")) {
        Some(stored) if !stored.is_empty() && plain(stored) != plain(given) => Err(Refusal::new(
            StatusCode::CONFLICT,
            "InvalidResourceLocation",
            format!(
                "The resource already exists in location '{stored}'; it cannot be created in location '{given}'."
            ),
        )),
        _ => Ok(()),
    }
}

/// The id of a new resource: names as the caller spells them, the type as Azure does.
fn canonical_id(kind: &Kind, name: &ResourceName) -> String {
    let ResourceName { subscription, group, name, .. } = name;
    format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/{}/{name}", kind.name)
}

fn no_parent(kind: &Kind, child: &Child, name: &ResourceName) -> Refusal {
    if child.name == "subnets" {
        return no_resource(kind, name);
    }
    Refusal::missing(
        "ParentResourceNotFound",
        format!(
            "Failed to perform 'write' on resource(s) of type '{}/{}', because the parent resource '{}' could not be \
             found.",
            kind.name.rsplit('/').next().unwrap_or_default(),
            child.name,
            name.id()
        ),
    )
}

fn child_list<'a>(parent: &'a mut Value, child: &Child) -> Option<&'a mut Vec<Value>> {
    let properties = parent.get_mut("properties")?.as_object_mut()?;
    properties.entry(child.name).or_insert_with(|| json!([])).as_array_mut()
}

fn child_from_put(id: &str, name: &str, body: &Value) -> Result<Value, Refusal> {
    let mut child = Map::new();
    child.insert("name".to_owned(), json!(name));
    child.insert("id".to_owned(), json!(id));
    for (key, value) in body.as_object().into_iter().flatten() {
        child.entry(key).or_insert_with(|| value.clone());
    }
    match child.get("properties") {
        Some(Value::Object(_)) => Ok(Value::Object(child)),
        _ => Err(Refusal::bad("InvalidRequestFormat", "`properties` must be an object.")),
    }
}

/// What a whole PUT of anything but a security group leaves behind.
fn from_put(
    kind: &Kind,
    id: &str,
    name: &str,
    body: &Value,
    existing: Option<&Value>,
) -> Result<Value, Refusal> {
    let mut resource = Map::new();
    resource.insert("name".to_owned(), json!(name));
    resource.insert("id".to_owned(), json!(id));
    resource.insert("type".to_owned(), json!(kind.name));
    for (key, value) in body.as_object().into_iter().flatten() {
        resource.entry(key).or_insert_with(|| value.clone());
    }
    match resource.entry("properties").or_insert_with(|| json!({})) {
        Value::Object(properties) => {
            for read_only in ["resourceGuid", "vmId", "timeCreated"] {
                let kept = existing.and_then(|old| old.pointer(&format!("/properties/{read_only}")));
                match kept {
                    Some(kept) => properties.insert(read_only.to_owned(), kept.clone()),
                    None => properties.shift_remove(read_only),
                };
            }
        }
        _ => return Err(Refusal::bad("InvalidRequestFormat", "`properties` must be an object.")),
    }
    let mut resource = Value::Object(resource);
    crate::estate::name_children(kind, &mut resource);
    Ok(resource)
}

fn set_property(resource: &mut Value, name: &str, value: Value) {
    if let Some(Value::Object(properties)) = resource.get_mut("properties") {
        properties.insert(name.to_owned(), value);
    }
}

fn check_subnet(network: &Value, subnet: &Value) -> Result<(), Refusal> {
    let prefixes = |value: &Value, one: &str, many: &str| -> Vec<String> {
        let many = value.pointer(many).and_then(Value::as_array).into_iter().flatten();
        let one = value.pointer(one).into_iter();
        one.chain(many).filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let own = |value: &Value| prefixes(value, "/properties/addressPrefix", "/properties/addressPrefixes");
    let space = prefixes(network, "", "/properties/addressSpace/addressPrefixes");
    let space: Vec<Prefix> = space.iter().filter_map(|prefix| Prefix::parse(prefix)).collect();
    let name = text(subnet, "name");
    let wanted = own(subnet);
    if wanted.is_empty() {
        return Err(Refusal::bad("InvalidRequestFormat", format!("Subnet {name} needs an `addressPrefix`.")));
    }
    for prefix in wanted {
        let parsed = Prefix::parse(&prefix);
        if !parsed.is_some_and(|parsed| space.iter().any(|whole| whole.covers(&parsed))) {
            return Err(Refusal::bad(
                "NetcfgSubnetRangeOutsideVnet",
                format!(
                    "Subnet '{name}' is not valid because its IP address range {prefix} is outside the IP address range of the virtual network."
                ),
            ));
        }
    }
    Ok(())
}

/// What a body refers to must exist, and the caller must be allowed to join it.
fn check_references(
    simulator: &Simulator,
    caller: &Principal,
    action: &str,
    scope: &str,
    mentioned: &[Reference],
) -> Result<(), Refusal> {
    let plane = &simulator.estate.control;
    for Reference { id, join } in mentioned {
        let name = ResourceName::parse(id);
        let kind = name.as_ref().and_then(|name| Kind::find(&name.namespace, &name.kind));
        let found = name.zip(kind).and_then(|(name, kind)| plane.get(kind.name, &name.id()));
        let child = found.and_then(|parent| {
            let inner = kind?.children.iter().flat_map(|child| children_of(parent, child));
            let is_parent = text(parent, "id").eq_ignore_ascii_case(id);
            let is_child = inner.into_iter().any(|child| text(child, "id").eq_ignore_ascii_case(id));
            (is_parent || is_child).then_some(())
        });
        if child.is_none() {
            return Err(Refusal::bad(
                "InvalidResourceReference",
                format!(
                    "Resource {id} referenced by resource {scope} was not found. Please make sure that the referenced \
                     resource exists, and that both resources are in the same region."
                ),
            ));
        }
        if !access_control::allows(plane, &caller.object_id, join, id) {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "LinkedAuthorizationFailed",
                format!(
                    "The client '{}' with object id '{}' has permission to perform action '{action}' on scope '{scope}'; \
                     however, it does not have permission to perform action(s) '{join}' on the linked scope(s) '{id}' \
                     or the linked scope(s) are invalid.",
                    caller.label, caller.object_id
                ),
            ));
        }
    }
    Ok(())
}
