//! The read-only references ARM shows on the referred-to side: which NICs and subnets an NSG protects, which
//! VM a NIC belongs to, and so on.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::catalogue::{
    NETWORK_INTERFACES, NETWORK_SECURITY_GROUPS, PUBLIC_ADDRESSES, ROUTE_TABLES, VIRTUAL_MACHINES,
    VIRTUAL_NETWORKS,
};
use crate::estate::Plane;

/// Referred-to id (lower case) -> ids that refer to it.
#[derive(Debug, Default)]
pub(crate) struct BackReferences {
    group_interfaces: HashMap<String, Vec<String>>,
    group_subnets: HashMap<String, Vec<String>>,
    interface_machine: HashMap<String, Vec<String>>,
    subnet_configurations: HashMap<String, Vec<String>>,
    address_configuration: HashMap<String, Vec<String>>,
    table_subnets: HashMap<String, Vec<String>>,
}

fn id_of<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn note(map: &mut HashMap<String, Vec<String>>, to: Option<&str>, from: &str) {
    if let Some(to) = to {
        map.entry(to.to_ascii_lowercase()).or_default().push(from.to_owned());
    }
}

impl BackReferences {
    pub(crate) fn collect(plane: &Plane) -> Self {
        let mut found = Self::default();
        for (_, interface) in plane.all(NETWORK_INTERFACES) {
            let Some(id) = id_of(interface, "/id") else { continue };
            note(&mut found.group_interfaces, id_of(interface, "/properties/networkSecurityGroup/id"), id);
            for configuration in list(interface, "/properties/ipConfigurations") {
                let Some(id) = id_of(configuration, "/id") else { continue };
                note(&mut found.subnet_configurations, id_of(configuration, "/properties/subnet/id"), id);
                let public = id_of(configuration, "/properties/publicIPAddress/id");
                note(&mut found.address_configuration, public, id);
            }
        }
        for (_, network) in plane.all(VIRTUAL_NETWORKS) {
            for subnet in list(network, "/properties/subnets") {
                let Some(id) = id_of(subnet, "/id") else { continue };
                note(&mut found.group_subnets, id_of(subnet, "/properties/networkSecurityGroup/id"), id);
                note(&mut found.table_subnets, id_of(subnet, "/properties/routeTable/id"), id);
            }
        }
        for (_, machine) in plane.all(VIRTUAL_MACHINES) {
            let Some(id) = id_of(machine, "/id") else { continue };
            for interface in list(machine, "/properties/networkProfile/networkInterfaces") {
                note(&mut found.interface_machine, id_of(interface, "/id"), id);
            }
        }
        found
    }

    /// Replaces whatever back-references a resource carries by the true ones.
    pub(crate) fn write_into(&self, resource: &mut Value) {
        let kind = id_of(resource, "/type").unwrap_or_default().to_ascii_lowercase();
        let id = id_of(resource, "/id").unwrap_or_default().to_ascii_lowercase();
        let Some(Value::Object(properties)) = resource.get_mut("properties") else { return };
        let is = |name: &str| kind.eq_ignore_ascii_case(name);
        if is(NETWORK_SECURITY_GROUPS) {
            set_list(properties, "networkInterfaces", self.group_interfaces.get(&id));
            set_list(properties, "subnets", self.group_subnets.get(&id));
        } else if is(NETWORK_INTERFACES) {
            set_one(properties, "virtualMachine", self.interface_machine.get(&id));
        } else if is(PUBLIC_ADDRESSES) {
            // An address may also belong to something else than a NIC (a firewall, a bastion), whose own
            // reference the estate gives: then it stays.
            if let Some(configuration) = self.address_configuration.get(&id) {
                set_one(properties, "ipConfiguration", Some(configuration));
            }
        } else if is(ROUTE_TABLES) {
            set_list(properties, "subnets", self.table_subnets.get(&id));
        } else if is(VIRTUAL_NETWORKS) {
            let subnets = properties.get_mut("subnets").and_then(Value::as_array_mut);
            for subnet in subnets.into_iter().flatten() {
                let id = id_of(subnet, "/id").unwrap_or_default().to_ascii_lowercase();
                if let Some(Value::Object(properties)) = subnet.get_mut("properties") {
                    set_list(properties, "ipConfigurations", self.subnet_configurations.get(&id));
                }
            }
        }
    }

    /// Whether any NIC or subnet uses the security group.
    pub(crate) fn group_in_use(&self, id: &str) -> bool {
        let id = id.to_ascii_lowercase();
        self.group_interfaces.contains_key(&id) || self.group_subnets.contains_key(&id)
    }

    /// The VM a NIC belongs to.
    pub(crate) fn machine_of(&self, interface: &str) -> Option<&str> {
        self.interface_machine.get(&interface.to_ascii_lowercase())?.first().map(String::as_str)
    }

    pub(crate) fn subnet_in_use(&self, id: &str) -> bool {
        self.subnet_configurations.contains_key(&id.to_ascii_lowercase())
    }

    pub(crate) fn address_in_use(&self, id: &str) -> bool {
        self.address_configuration.contains_key(&id.to_ascii_lowercase())
    }
}

fn set_list(properties: &mut Map<String, Value>, name: &str, ids: Option<&Vec<String>>) {
    match ids {
        Some(ids) => {
            let references = ids.iter().map(|id| json!({"id": id})).collect();
            properties.insert(name.to_owned(), references);
        }
        None => {
            properties.shift_remove(name);
        }
    }
}

fn set_one(properties: &mut Map<String, Value>, name: &str, ids: Option<&Vec<String>>) {
    match ids.and_then(|ids| ids.first()) {
        Some(id) => {
            properties.insert(name.to_owned(), json!({"id": id}));
        }
        None => {
            properties.shift_remove(name);
        }
    }
}
