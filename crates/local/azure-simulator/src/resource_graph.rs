//! Azure Resource Graph, as far as Ajar asks it: one subscription's resources of one type, a thousand a page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::access_control;
use crate::arm_write::json_body;
use crate::catalogue::{self, Kind};
use crate::directory::Principal;
use crate::estate::Plane;
use crate::exchange::{Refusal, Request, Response};
use crate::resource_path::covers;
use crate::simulator::Simulator;

pub(crate) const PATH: &str = "/providers/Microsoft.ResourceGraph/resources";

/// The one query that is modelled, before and after the type.
const QUERY: (&str, &str) = (
    "Resources | where type =~ '",
    "' | project id, name, type, location, tags, sku, properties | order by id asc",
);

/// The other one: the subscriptions below a management group.
const SUBSCRIPTIONS_QUERY: &str = "ResourceContainers | where type =~ 'microsoft.resources/subscriptions' | \
                                   project id, subscriptionId | order by id asc";

/// Azure's own limit for a page.
const MOST_ROWS: u64 = 1000;

/// What Resource Graph shows when it is held back: the control plane as it was then.
#[derive(Debug, Default)]
pub(crate) struct HeldBack(Option<Box<Plane>>);

pub(crate) fn answer(
    simulator: &mut Simulator,
    request: &Request,
    caller: &Principal,
) -> Result<Response, Refusal> {
    let not_modelled = |what: &str| Refusal::not_modelled(&request.method, &request.path, what);
    if request.method != Method::POST {
        return Err(not_modelled("this method"));
    }
    let body = json_body(request)?;
    let query = body.get("query").and_then(Value::as_str).unwrap_or_default();
    if query == SUBSCRIPTIONS_QUERY {
        return subscriptions(simulator, request, &body, caller);
    }
    let kind = query.strip_prefix(QUERY.0).and_then(|rest| rest.strip_suffix(QUERY.1));
    let kind = kind.and_then(Kind::of_type).ok_or_else(|| not_modelled("this query"))?;
    let subscriptions = body.get("subscriptions").and_then(Value::as_array);
    let [Value::String(subscription)] = subscriptions.map_or(&[] as &[Value], Vec::as_slice) else {
        return Err(not_modelled("anything but one subscription"));
    };
    let options = body.get("options").cloned().unwrap_or_default();
    if options.get("resultFormat").and_then(Value::as_str) != Some("objectArray") {
        return Err(not_modelled("a result format other than objectArray"));
    }
    let top = options.get("$top").and_then(Value::as_u64).unwrap_or(100);
    if !(1..=MOST_ROWS).contains(&top) {
        return Err(Refusal::bad("BadRequest", "$top must be between 1 and 1000."));
    }
    let after = match options.get("$skipToken").and_then(Value::as_str) {
        Some(token) => Some(decode(token)?),
        None => None,
    };

    hold_back(simulator);
    let scope = format!("/subscriptions/{subscription}");
    let action = format!("{}/read", kind.name);
    let control = &simulator.estate.control;
    let plane = simulator.graph.0.as_deref().unwrap_or(control);
    // Resource Graph leaves out what the caller may not read, and refuses nobody.
    let mut rows: Vec<(String, Value)> = plane
        .all(kind.name)
        .filter(|(id, _)| covers(&scope, id) && after.as_ref().is_none_or(|after| *id > after.as_str()))
        .filter(|(id, _)| access_control::allows(control, &caller.object_id, &action, id))
        .map(|(id, value)| (id.to_owned(), value.clone()))
        .collect();
    rows.sort_by(|(left, _), (right, _)| left.cmp(right));
    let top = usize::try_from(top).unwrap_or(usize::MAX);
    let more = rows.len() > top;
    let total = rows.len();
    rows.truncate(top);
    let next = rows.last().filter(|_| more).map(|(id, _)| URL_SAFE_NO_PAD.encode(id));
    let is_held_back = simulator.graph.0.is_some();
    let data: Vec<Value> = rows
        .into_iter()
        .map(|(_, value)| row(if is_held_back { value } else { simulator.estate.view(value) }))
        .collect();
    let mut answer = json!({
        "totalRecords": total, "count": data.len(), "data": data, "facets": [],
        "resultTruncated": if more { "true" } else { "false" },
    });
    if let (Some(next), Some(answer)) = (next, answer.as_object_mut()) {
        answer.insert("$skipToken".to_owned(), Value::String(next));
    }
    Ok(Response::json(StatusCode::OK, answer))
}

/// Every subscription that the caller may read, on one page: management groups stand above all of them here.
fn subscriptions(
    simulator: &mut Simulator,
    request: &Request,
    body: &Value,
    caller: &Principal,
) -> Result<Response, Refusal> {
    let groups = body.get("managementGroups").and_then(Value::as_array);
    if groups.is_none_or(|groups| groups.len() != 1) || body.get("subscriptions").is_some() {
        let what = "anything but one management group";
        return Err(Refusal::not_modelled(&request.method, &request.path, what));
    }
    let control = &simulator.estate.control;
    let action = "Microsoft.Resources/subscriptions/read";
    let data: Vec<Value> = control
        .all(catalogue::SUBSCRIPTIONS)
        .filter(|(id, _)| access_control::allows(control, &caller.object_id, action, id))
        .map(|(_, value)| json!({ "id": value["id"], "subscriptionId": value["subscriptionId"] }))
        .collect();
    Ok(Response::json(
        StatusCode::OK,
        json!({ "totalRecords": data.len(), "count": data.len(), "data": data, "facets": [],
            "resultTruncated": "false" }),
    ))
}

/// Keeps the control plane as it is when the switch was turned on, and forgets it when it is turned off.
fn hold_back(simulator: &mut Simulator) {
    if !simulator.switches.resource_graph_held_back {
        simulator.graph.0 = None;
    } else if simulator.graph.0.is_none() {
        simulator.graph.0 = Some(Box::new(simulator.estate.control.clone()));
    }
}

fn decode(token: &str) -> Result<String, Refusal> {
    let bad = || Refusal::bad("BadRequest", format!("The skip token '{token}' is not one of ours."));
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?).map_err(|_| bad())
}

/// The columns that are projected; the type is in lower case, as Resource Graph has it.
fn row(mut resource: Value) -> Value {
    let mut column = |name: &str| resource.get_mut(name).map(Value::take).unwrap_or_default();
    let (id, name, kind) = (column("id"), column("name"), column("type"));
    let kind = kind.as_str().unwrap_or_default().to_ascii_lowercase();
    json!({
        "id": id, "name": name, "type": kind, "location": column("location"), "tags": column("tags"),
        "sku": column("sku"), "properties": column("properties"),
    })
}
