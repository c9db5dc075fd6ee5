//! All resources, as JSON, by type and id.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::back_references::BackReferences;
use crate::catalogue::{self, Kind};
use crate::network_security_group;
use crate::resource_path::{self, ResourceName};

/// Why an estate could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EstateError {
    /// The text is not JSON.
    #[error("the estate is not JSON: {0}")]
    NotJson(String),
    /// The top level is not an array.
    #[error("the estate must be a JSON array of ARM resources")]
    NotAnArray,
    /// A resource lacks a property, or it is not a string.
    #[error("resource {index} of the estate needs a string `{field}`")]
    Missing {
        /// Its place in the array, from 0.
        index: usize,
        /// The property.
        field: &'static str,
    },
    /// An id that is none of a top-level ARM resource, or does not fit the resource's type.
    #[error("resource {index} of the estate: `{id}` is not the id of a top-level {kind}")]
    BadId {
        /// Its place in the array, from 0.
        index: usize,
        /// The id given.
        id: String,
        /// The type given.
        kind: String,
    },
    /// Two resources have one id.
    #[error("the estate holds {0} twice")]
    Duplicate(String),
}

type Shelf = BTreeMap<String, Value>;

/// One plane's resources: type (lower case) -> id (lower case) -> JSON in the stored case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plane(BTreeMap<String, Shelf>);

impl Plane {
    pub(crate) fn get(&self, kind: &str, id: &str) -> Option<&Value> {
        self.0.get(&kind.to_ascii_lowercase())?.get(&id.to_ascii_lowercase())
    }

    /// All of a type, in the order of their ids.
    pub(crate) fn all(&self, kind: &str) -> impl Iterator<Item = (&str, &Value)> {
        let shelf = self.0.get(&kind.to_ascii_lowercase());
        shelf.into_iter().flatten().map(|(id, value)| (id.as_str(), value))
    }

    pub(crate) fn put(&mut self, kind: &str, id: &str, value: Option<Value>) {
        let shelf = self.0.entry(kind.to_ascii_lowercase()).or_default();
        match value {
            Some(value) => shelf.insert(id.to_ascii_lowercase(), value),
            None => shelf.remove(&id.to_ascii_lowercase()),
        };
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        self.0.values().flat_map(BTreeMap::values)
    }
}

/// What ARM shows (control plane) and what packets meet (data plane); they differ while an operation runs.
#[derive(Debug, Default)]
pub(crate) struct Estate {
    pub(crate) control: Plane,
    pub(crate) data: Plane,
    back_references: Option<BackReferences>,
}

impl Estate {
    pub(crate) fn parse(text: &str, mut guid: impl FnMut() -> String) -> Result<Self, EstateError> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| EstateError::NotJson(error.to_string()))?;
        let Value::Array(resources) = value else { return Err(EstateError::NotAnArray) };
        let mut plane = Plane::default();
        for (index, mut resource) in resources.into_iter().enumerate() {
            let field = |field: &'static str| {
                let text = resource.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
                text.map(str::to_owned).ok_or(EstateError::Missing { index, field })
            };
            let (id, kind, _name) = (field("id")?, field("type")?, field("name")?);
            if let Some(known) = Kind::of_type(&kind) {
                let fits = ResourceName::parse(&id).is_some_and(|name| {
                    name.id().eq_ignore_ascii_case(&id)
                        && Kind::find(&name.namespace, &name.kind).is_some_and(|kind| kind.name == known.name)
                });
                if !fits {
                    return Err(EstateError::BadId { index, id, kind });
                }
                complete(known, &mut resource, &mut guid);
            }
            if plane.get(&kind, &id).is_some() {
                return Err(EstateError::Duplicate(id));
            }
            plane.put(&kind, &id, Some(resource));
        }
        add_implied_scopes(&mut plane);
        Ok(Self { data: plane.clone(), control: plane, back_references: None })
    }

    /// Every resource as ARM shows it.
    pub(crate) fn save(&mut self) -> Value {
        let all: Vec<Value> = self.control.values().cloned().collect();
        all.into_iter().map(|value| self.view(value)).collect()
    }

    /// A stored resource with the references that others hold to it.
    pub(crate) fn view(&mut self, mut value: Value) -> Value {
        let control = &self.control;
        self.back_references.get_or_insert_with(|| BackReferences::collect(control)).write_into(&mut value);
        value
    }

    /// Replaces a resource on the control plane.
    pub(crate) fn put_control(&mut self, kind: &str, id: &str, value: Option<Value>) {
        // A security group refers to nothing that refers back to it, so that frequent writes of rules keep
        // the index.
        if !kind.eq_ignore_ascii_case(catalogue::NETWORK_SECURITY_GROUPS) {
            self.back_references = None;
        }
        self.control.put(kind, id, value);
    }

    pub(crate) fn back_references(&mut self) -> &BackReferences {
        let control = &self.control;
        self.back_references.get_or_insert_with(|| BackReferences::collect(control))
    }

    pub(crate) fn subscription(&self, subscription: &str) -> Option<&Value> {
        self.control.get(catalogue::SUBSCRIPTIONS, &format!("/subscriptions/{subscription}"))
    }

    pub(crate) fn resource_group(&self, subscription: &str, group: &str) -> Option<&Value> {
        let id = format!("/subscriptions/{subscription}/resourceGroups/{group}");
        self.control.get(catalogue::RESOURCE_GROUPS, &id)
    }

    /// The tenant: what the estate says, or the sample's.
    pub(crate) fn tenant(&self) -> String {
        let tenant = self.control.all(catalogue::TENANTS).next();
        let named = tenant.and_then(|(_, value)| value.get("name")).and_then(Value::as_str);
        named.unwrap_or("22222222-2222-2222-2222-222222222222").to_owned()
    }
}

/// Fills in what ARM always shows and hand-written estates leave out. Nothing given is changed.
fn complete(kind: &Kind, resource: &mut Value, guid: &mut impl FnMut() -> String) {
    let Some(object) = resource.as_object_mut() else { return };
    if kind.has_etag() && !object.contains_key("etag") {
        object.insert("etag".to_owned(), json!(format!("W/\"{}\"", guid())));
    }
    if let Value::Object(properties) = object.entry("properties").or_insert_with(|| json!({})) {
        properties.entry("provisioningState").or_insert_with(|| json!("Succeeded"));
    }
    if kind.name == catalogue::NETWORK_SECURITY_GROUPS {
        network_security_group::complete(resource);
    } else {
        name_children(kind, resource);
    }
}

/// Gives embedded children the `id`, `etag` and state that ARM shows on them.
pub(crate) fn name_children(kind: &Kind, resource: &mut Value) {
    let id = resource.get("id").cloned().unwrap_or_default();
    let etag = resource.get("etag").cloned();
    for child in kind.children {
        let children =
            resource.pointer_mut(&format!("/properties/{}", child.name)).and_then(Value::as_array_mut);
        for entry in children.into_iter().flatten().filter_map(Value::as_object_mut) {
            let Some(name) = entry.get("name").and_then(Value::as_str) else { continue };
            let child_id = format!("{}/{}/{name}", id.as_str().unwrap_or_default(), child.name);
            entry.entry("id").or_insert(Value::String(child_id));
            if let Some(etag) = &etag {
                entry.insert("etag".to_owned(), etag.clone());
            }
            if let Value::Object(properties) = entry.entry("properties").or_insert_with(|| Map::new().into())
            {
                properties.entry("provisioningState").or_insert_with(|| json!("Succeeded"));
            }
        }
    }
}

/// Subscriptions and resource groups that only occur in ids exist as well.
fn add_implied_scopes(plane: &mut Plane) {
    let names: Vec<ResourceName> = plane
        .values()
        .filter_map(|value| value.get("id").and_then(Value::as_str))
        .filter(|id| !id.to_ascii_lowercase().contains("/providers/microsoft.authorization/"))
        .filter_map(resource_path::ResourceName::parse)
        .collect();
    for ResourceName { subscription, group, .. } in names {
        let id = format!("/subscriptions/{subscription}/resourceGroups/{group}");
        if plane.get(catalogue::RESOURCE_GROUPS, &id).is_none() {
            let value = json!({
                "id": id, "name": group, "type": catalogue::RESOURCE_GROUPS, "location": "westeurope",
                "properties": {"provisioningState": "Succeeded"},
            });
            plane.put(catalogue::RESOURCE_GROUPS, &id, Some(value));
        }
    }
    let groups: Vec<String> = plane.all(catalogue::RESOURCE_GROUPS).map(|(id, _)| id.to_owned()).collect();
    for group in groups {
        let Some(subscription) = group.split('/').nth(2) else { continue };
        let id = format!("/subscriptions/{subscription}");
        if plane.get(catalogue::SUBSCRIPTIONS, &id).is_none() {
            let value = json!({
                "id": id, "name": subscription, "type": catalogue::SUBSCRIPTIONS, "subscriptionId": subscription,
                "displayName": subscription, "state": "Enabled",
            });
            plane.put(catalogue::SUBSCRIPTIONS, &id, Some(value));
        }
    }
}
