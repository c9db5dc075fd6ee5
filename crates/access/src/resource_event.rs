//! Events about resources, as Event Grid sends them: the Event Grid schema and CloudEvents 1.0, one event or a list.
//!
//! An event is a hint and never a fact: who handles it reads the present state. So reading is lenient about everything
//! but what the hint is about.

use crate::ports::identity::{Caller, SignIn};
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use serde_json::Value;

/// What happened to the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `Microsoft.Resources.ResourceWriteSuccess`: created or changed.
    Write,
    /// `Microsoft.Resources.ResourceDeleteSuccess`.
    Delete,
    /// `Microsoft.Resources.ResourceActionSuccess`: a POST such as starting a VM. It changes no rule and no address.
    Action,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceEvent {
    /// The event's id: the same for every delivery of it. Empty when it has none.
    pub id: String,
    /// What happened.
    pub kind: EventKind,
    /// The resource it happened to.
    pub resource: ResourceId,
    /// The permission it took, e.g. `Microsoft.Network/networkSecurityGroups/write`; empty when not said.
    pub operation: String,
    /// When, by Azure's clock; absent when not said.
    pub at: Option<Timestamp>,
    /// Who did it, by the claims of their token. For people to read, never an authority.
    pub author: Option<Caller>,
    /// The id under which the activity log keeps the operation; empty when not said.
    pub correlation: String,
}

/// An event that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What was sent, as JSON where it is some.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a message holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The events, in their order.
    pub events: Vec<ResourceEvent>,
    /// What could not be read; the events beside it are not lost.
    pub unreadable: Vec<Unreadable>,
    /// Events that say that nothing changed: failed and cancelled operations.
    pub passed_over: usize,
}

/// The claim that names the object id of whoever did it.
const OBJECT_ID: &str = "http://schemas.microsoft.com/identity/claims/objectidentifier";
/// The claim that names their tenant.
const TENANT_ID: &str = "http://schemas.microsoft.com/identity/claims/tenantid";
/// Claims for what people call them, best first: sign-in name, name, application.
const NAMES: [&str; 4] = [
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
    "name",
    "appid",
];

/// Reads the body of a message.
#[must_use]
pub fn read(body: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let content: Value = match serde_json::from_slice(body) {
        Ok(content) => content,
        Err(error) => {
            let text = String::from_utf8_lossy(body).into_owned();
            reading.unreadable.push(Unreadable { text, reason: format!("it is not JSON: {error}") });
            return reading;
        }
    };
    let events = match content {
        Value::Array(events) => events,
        one => vec![one],
    };
    for event in events {
        match read_one(&event) {
            Ok(Some(event)) => reading.events.push(event),
            Ok(None) => reading.passed_over += 1,
            Err(reason) => reading.unreadable.push(Unreadable { text: event.to_string(), reason }),
        }
    }
    reading
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// An object that some publishers send as the text of one.
fn object(value: &Value, name: &str) -> Value {
    match value.get(name) {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::Null),
        Some(other) => other.clone(),
        None => Value::Null,
    }
}

/// `None` for an event that says that nothing changed.
fn read_one(event: &Value) -> Result<Option<ResourceEvent>, String> {
    if !event.is_object() {
        return Err("it is no event: neither an object nor a list of them".to_owned());
    }
    // CloudEvents 1.0 says `type` and `time`, Event Grid's own schema `eventType` and `eventTime`.
    let kind = text(event, "eventType").or_else(|| text(event, "type")).ok_or(
        "it has neither `eventType` (Event Grid schema) nor `type` (CloudEvents 1.0): it is no event",
    )?;
    let kind = match kind {
        "Microsoft.Resources.ResourceWriteSuccess" => EventKind::Write,
        "Microsoft.Resources.ResourceDeleteSuccess" => EventKind::Delete,
        "Microsoft.Resources.ResourceActionSuccess" => EventKind::Action,
        other if other.starts_with("Microsoft.Resources.Resource") => return Ok(None),
        other => {
            return Err(format!(
                "`{other}` is no event about a resource; the event subscription should send \
                 Microsoft.Resources.ResourceWriteSuccess, ResourceDeleteSuccess and ResourceActionSuccess"
            ));
        }
    };
    let data = object(event, "data");
    let resource = text(&data, "resourceUri")
        .or_else(|| text(event, "subject"))
        .ok_or("it names no resource: `data.resourceUri` and `subject` are missing")?;
    let resource = ResourceId::parse(resource).map_err(|error| error.to_string())?;
    let claims = object(&data, "claims");
    let authorization = object(&data, "authorization");
    let operation = text(&data, "operationName").or_else(|| text(&authorization, "action"));
    Ok(Some(ResourceEvent {
        id: text(event, "id").unwrap_or_default().to_owned(),
        kind,
        resource,
        operation: operation.unwrap_or_default().to_owned(),
        at: text(event, "eventTime").or_else(|| text(event, "time")).and_then(|time| time.parse().ok()),
        author: author(&claims, &authorization),
        correlation: text(&data, "correlationId").unwrap_or_default().to_owned(),
    }))
}

/// Who did it: by the claims, else by the role assignment that allowed it.
fn author(claims: &Value, authorization: &Value) -> Option<Caller> {
    let evidence = authorization.get("evidence").unwrap_or(&Value::Null);
    let object_id = text(claims, OBJECT_ID)
        .or_else(|| text(claims, "oid"))
        .or_else(|| text(evidence, "principalId"))?
        .to_ascii_lowercase();
    let name = NAMES.iter().find_map(|claim| text(claims, claim)).unwrap_or(&object_id).to_owned();
    let tenant = text(claims, TENANT_ID).or_else(|| text(claims, "tid")).unwrap_or_default();
    Some(Caller { tenant_id: tenant.to_ascii_lowercase(), name, object_id, sign_in: SignIn::default() })
}

/// The types whose changes may change a verdict or undo a protection.
const WATCHED: [&str; 8] = [
    "Microsoft.Compute/virtualMachines",
    "Microsoft.Network/networkInterfaces",
    "Microsoft.Network/networkSecurityGroups",
    "Microsoft.Network/virtualNetworks/subnets",
    "Microsoft.Network/virtualNetworks",
    "Microsoft.Network/publicIPAddresses",
    "Microsoft.Network/loadBalancers",
    "Microsoft.Network/routeTables",
];

/// Children that change nothing about their parent's packets, and come in numbers.
const UNRELATED_CHILDREN: [&str; 2] =
    ["Microsoft.Compute/virtualMachines/extensions", "Microsoft.Compute/virtualMachines/runCommands"];

impl ResourceEvent {
    /// What is to be looked at because of the event: the resource itself, or the one it is a part of (an NSG for its
    /// rule). `None` when no verdict and no protection depends on it.
    #[must_use]
    pub fn subject(&self) -> Option<ResourceId> {
        if self.kind == EventKind::Action || UNRELATED_CHILDREN.iter().any(|kind| self.resource.is_type(kind))
        {
            return None;
        }
        let mut part = Some(self.resource.clone());
        while let Some(resource) = part {
            if WATCHED.iter().any(|kind| resource.is_type(kind)) {
                return Some(resource);
            }
            // A resource group or subscription is the parent of last resort, and watches nothing.
            part = resource.parent().filter(|parent| parent.as_str().contains("/providers/"));
        }
        None
    }
}
