//! What a body refers to, and the permission that it takes to refer to it.

use serde_json::Value;

use crate::catalogue::{
    APPLICATION_GROUPS, NETWORK_INTERFACES, NETWORK_SECURITY_GROUPS, PUBLIC_ADDRESSES, ROUTE_TABLES,
    VIRTUAL_MACHINES, VIRTUAL_NETWORKS,
};

/// One reference in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) id: String,
    /// The action the caller needs at `id`.
    pub(crate) join: String,
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The references of a resource or child of the given type (`Namespace/type[/child]`).
pub(crate) fn references(kind: &str, value: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut note = |target: Option<&Value>, kind: &str, verb: &str| {
        if let Some(id) = target.and_then(|target| target.get("id")).and_then(Value::as_str) {
            found.push(Reference { id: id.to_owned(), join: format!("{kind}/{verb}/action") });
        }
    };
    let rule_groups = |rule: &Value, note: &mut dyn FnMut(Option<&Value>, &str, &str)| {
        for side in ["sourceApplicationSecurityGroups", "destinationApplicationSecurityGroups"] {
            for group in list(rule, &format!("/properties/{side}")) {
                note(Some(group), APPLICATION_GROUPS, "joinNetworkSecurityRule");
            }
        }
    };
    if kind == NETWORK_SECURITY_GROUPS {
        list(value, "/properties/securityRules").for_each(|rule| rule_groups(rule, &mut note));
    } else if kind.starts_with(NETWORK_SECURITY_GROUPS) {
        rule_groups(value, &mut note);
    } else if kind == NETWORK_INTERFACES {
        note(value.pointer("/properties/networkSecurityGroup"), NETWORK_SECURITY_GROUPS, "join");
        for configuration in list(value, "/properties/ipConfigurations") {
            let subnets = format!("{VIRTUAL_NETWORKS}/subnets");
            note(configuration.pointer("/properties/subnet"), &subnets, "join");
            note(configuration.pointer("/properties/publicIPAddress"), PUBLIC_ADDRESSES, "join");
            for group in list(configuration, "/properties/applicationSecurityGroups") {
                note(Some(group), APPLICATION_GROUPS, "joinIpConfiguration");
            }
        }
    } else if kind == VIRTUAL_MACHINES {
        for interface in list(value, "/properties/networkProfile/networkInterfaces") {
            note(Some(interface), NETWORK_INTERFACES, "join");
        }
    } else if kind.starts_with(VIRTUAL_NETWORKS) {
        note(value.pointer("/properties/networkSecurityGroup"), NETWORK_SECURITY_GROUPS, "join");
        note(value.pointer("/properties/routeTable"), ROUTE_TABLES, "join");
    }
    found
}
