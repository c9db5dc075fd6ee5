//! Azure role-based access control over the estate's role assignments, definitions and deny assignments.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::catalogue::{DENY_ASSIGNMENTS, ROLE_ASSIGNMENTS, ROLE_DEFINITIONS};
use crate::directory::groups_of;
use crate::estate::Plane;
use crate::resource_path::covers;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn texts<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    value.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The principal and all its groups (lower case).
pub(crate) fn identities(plane: &Plane, object_id: &str) -> BTreeSet<String> {
    let mut identities = groups_of(plane, object_id);
    identities.insert(object_id.to_ascii_lowercase());
    identities
}

/// Where an assignment applies: its `properties.scope`, or what its id says.
pub(crate) fn scope_of(assignment: &Value) -> String {
    let stated = text(assignment, "/properties/scope");
    if !stated.is_empty() {
        return stated.to_owned();
    }
    let id = text(assignment, "/id");
    let end = id.to_ascii_lowercase().rfind("/providers/microsoft.authorization/").unwrap_or(id.len());
    id.get(..end).unwrap_or_default().to_owned()
}

/// A role definition by its GUID, whatever scope the reference to it is spelled with.
pub(crate) fn definition<'a>(plane: &'a Plane, reference: &str) -> Option<&'a Value> {
    let guid = reference.rsplit('/').next().unwrap_or_default();
    let named = |value: &Value| text(value, "/name").eq_ignore_ascii_case(guid);
    plane.all(ROLE_DEFINITIONS).map(|(_, value)| value).find(|value| named(value))
}

/// Whether the principal may perform `action` at `scope`.
pub(crate) fn allows(plane: &Plane, object_id: &str, action: &str, scope: &str) -> bool {
    let identities = identities(plane, object_id);
    let mut granted = plane
        .all(ROLE_ASSIGNMENTS)
        .map(|(_, assignment)| assignment)
        .filter(|assignment| {
            identities.contains(&text(assignment, "/properties/principalId").to_ascii_lowercase())
        })
        .filter(|assignment| covers(&scope_of(assignment), scope))
        .filter_map(|assignment| definition(plane, text(assignment, "/properties/roleDefinitionId")));
    granted.any(|definition| permits(definition, action)) && !denied(plane, &identities, action, scope)
}

/// Whether a role holds an action: `actions` less `notActions`, permission by permission.
fn permits(definition: &Value, action: &str) -> bool {
    let permissions = definition.pointer("/properties/permissions").and_then(Value::as_array);
    permissions.into_iter().flatten().any(|permission| {
        texts(permission, "actions").any(|pattern| matches(pattern, action))
            && !texts(permission, "notActions").any(|pattern| matches(pattern, action))
    })
}

fn denied(plane: &Plane, identities: &BTreeSet<String>, action: &str, scope: &str) -> bool {
    plane.all(DENY_ASSIGNMENTS).any(|(_, assignment)| {
        let own = scope_of(assignment);
        let here = own.trim_end_matches('/').eq_ignore_ascii_case(scope.trim_end_matches('/'));
        let only_here = assignment.pointer("/properties/doNotApplyToChildScopes") == Some(&Value::Bool(true));
        (here || !only_here && covers(&own, scope))
            && concerns(assignment, identities)
            && permits(assignment, action)
    })
}

/// Whether a deny assignment's principals (the all-zero GUID is everyone), less the excluded ones, include one
/// of `identities`.
pub(crate) fn concerns(assignment: &Value, identities: &BTreeSet<String>) -> bool {
    let among = |list: &str| {
        let principals = assignment.pointer(list).and_then(Value::as_array).into_iter().flatten();
        principals
            .map(|principal| text(principal, "/id").to_ascii_lowercase())
            .any(|id| id == "00000000-0000-0000-0000-000000000000" || identities.contains(&id))
    };
    among("/properties/principals") && !among("/properties/excludePrincipals")
}

/// Action patterns: `*` stands for any characters, slashes included; case does not matter.
fn matches(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = action.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_azure_documents_them() {
        for (pattern, action, expected) in [
            ("*", "Microsoft.Network/networkSecurityGroups/read", true),
            ("*/read", "Microsoft.Network/networkSecurityGroups/read", true),
            ("*/read", "Microsoft.Network/networkSecurityGroups/write", false),
            ("Microsoft.Network/*/read", "microsoft.network/networkinterfaces/ipConfigurations/read", true),
            ("Microsoft.Network/*/read", "Microsoft.Network/read", false),
            ("Microsoft.Network/networkInterfaces/*/read", "Microsoft.Network/networkInterfaces/read", false),
            ("Microsoft.Authorization/*/read", "Microsoft.Authorization/roleAssignments/read", true),
            ("Microsoft.Compute/virtualMachines/read", "Microsoft.Compute/virtualMachines/readX", false),
        ] {
            assert_eq!(matches(pattern, action), expected, "{pattern} {action}");
        }
    }
}
