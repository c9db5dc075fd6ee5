//! People, groups and service principals, kept as pseudo-resources of the estate.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::catalogue::{GROUPS, SERVICE_PRINCIPALS, USERS};
use crate::estate::Plane;

/// Whoever a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) object_id: String,
    /// Sign-in name of a person, application id of a service principal.
    pub(crate) label: String,
    pub(crate) display_name: String,
    pub(crate) is_application: bool,
}

fn principal(value: &Value, is_application: bool) -> Principal {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let name = text("/name").unwrap_or_default();
    let label = if is_application { "/properties/appId" } else { "/properties/userPrincipalName" };
    Principal {
        object_id: text("/id").unwrap_or_default(),
        label: text(label).unwrap_or_else(|| name.clone()),
        display_name: text("/properties/displayName").unwrap_or(name),
        is_application,
    }
}

fn principals(plane: &Plane) -> impl Iterator<Item = (&Value, Principal)> {
    let users = plane.all(USERS).map(|(_, value)| (value, principal(value, false)));
    users.chain(plane.all(SERVICE_PRINCIPALS).map(|(_, value)| (value, principal(value, true))))
}

/// A person or service principal by name, sign-in name or object id.
pub(crate) fn find(plane: &Plane, wanted: &str) -> Option<Principal> {
    principals(plane)
        .find(|(value, principal)| {
            let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
            [name, &principal.label, &principal.object_id]
                .iter()
                .any(|text| text.eq_ignore_ascii_case(wanted))
        })
        .map(|(_, principal)| principal)
}

/// The managed identity with this application id or, without one, the first service principal.
pub(crate) fn managed_identity(plane: &Plane, application: Option<&str>) -> Option<Principal> {
    plane
        .all(SERVICE_PRINCIPALS)
        .map(|(_, value)| principal(value, true))
        .find(|principal| application.is_none_or(|wanted| principal.label.eq_ignore_ascii_case(wanted)))
}

/// Every group the principal is in, through groups in groups as well (lower-case object ids).
pub(crate) fn groups_of(plane: &Plane, object_id: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![object_id.to_ascii_lowercase()];
    while let Some(member) = open.pop() {
        for (id, group) in plane.all(GROUPS) {
            let members =
                group.pointer("/properties/members").and_then(Value::as_array).into_iter().flatten();
            let is_member =
                members.filter_map(Value::as_str).any(|other| other.eq_ignore_ascii_case(&member));
            if is_member && found.insert(id.to_owned()) {
                open.push(id.to_owned());
            }
        }
    }
    found
}
