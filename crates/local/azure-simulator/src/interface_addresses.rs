//! Addresses that Azure assigns: private ones to NICs, public ones to public IP address resources.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::address::Prefix;
use crate::catalogue::{NETWORK_INTERFACES, PUBLIC_ADDRESSES, VIRTUAL_NETWORKS};
use crate::estate::Plane;
use crate::exchange::Refusal;
use crate::resource_path::ResourceName;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The prefixes of a subnet, by its id.
fn subnet_prefixes(plane: &Plane, id: &str) -> Vec<Prefix> {
    let network = ResourceName::parse(id).and_then(|name| plane.get(VIRTUAL_NETWORKS, &name.id()));
    let subnet = network.and_then(|network| {
        list(network, "/properties/subnets").find(|subnet| text(subnet, "/id").eq_ignore_ascii_case(id))
    });
    let Some(subnet) = subnet else { return Vec::new() };
    let many = list(subnet, "/properties/addressPrefixes");
    let one = subnet.pointer("/properties/addressPrefix").into_iter();
    one.chain(many).filter_map(Value::as_str).filter_map(Prefix::parse).collect()
}

/// Gives every IPv4 configuration without an address the first free one of its subnet.
pub(crate) fn assign(plane: &Plane, interface: &mut Value) -> Result<(), Refusal> {
    let own = text(interface, "/id").to_ascii_lowercase();
    let others = plane.all(NETWORK_INTERFACES).filter(|(id, _)| *id != own).map(|(_, other)| other);
    let mut taken: HashSet<(String, String)> = HashSet::new();
    let key = |configuration: &Value| {
        let subnet = text(configuration, "/properties/subnet/id").to_ascii_lowercase();
        (subnet, text(configuration, "/properties/privateIPAddress").to_owned())
    };
    for other in others {
        taken.extend(list(other, "/properties/ipConfigurations").map(key));
    }
    let Some(configurations) =
        interface.pointer_mut("/properties/ipConfigurations").and_then(Value::as_array_mut)
    else {
        return Err(Refusal::bad("InvalidRequestFormat", "A network interface needs `ipConfigurations`."));
    };
    for configuration in configurations {
        let (subnet, address) = key(configuration);
        let address = if address.is_empty() {
            let v6 = text(configuration, "/properties/privateIPAddressVersion").eq_ignore_ascii_case("IPv6");
            let free = subnet_prefixes(plane, &subnet)
                .into_iter()
                .filter(|prefix| prefix.v6 == v6)
                .flat_map(|prefix| prefix.assignable_v4())
                .map(|address| address.to_string())
                .find(|address| !taken.contains(&(subnet.clone(), address.clone())));
            free.ok_or_else(|| {
                Refusal::bad(
                    "SubnetIsFull",
                    format!("Subnet {subnet} has no address to give (the simulator gives IPv4 only)."),
                )
            })?
        } else {
            let inside = address.parse().is_ok_and(|address: IpAddr| {
                subnet_prefixes(plane, &subnet).iter().any(|prefix| prefix.contains(address))
            });
            if !inside {
                return Err(Refusal::bad(
                    "PrivateIPAddressNotInSubnet",
                    format!(
                        "Private static IP address {address} does not belong to the range of subnet {subnet}."
                    ),
                ));
            }
            if taken.contains(&(subnet.clone(), address.clone())) {
                let message = format!("IP address {address} is already allocated in subnet {subnet}.");
                return Err(Refusal::bad("PrivateIPAddressIsAllocated", message));
            }
            address
        };
        taken.insert((subnet, address.clone()));
        if let Some(Value::Object(properties)) = configuration.get_mut("properties") {
            properties.insert("privateIPAddress".to_owned(), json!(address));
        }
    }
    Ok(())
}

/// Gives a public address resource without an address the first free one of 198.51.100.0/24.
pub(crate) fn assign_public(plane: &Plane, resource: &mut Value) {
    if !text(resource, "/properties/ipAddress").is_empty() {
        return;
    }
    let own = text(resource, "/id").to_ascii_lowercase();
    let kept = plane.get(PUBLIC_ADDRESSES, &own).map(|old| text(old, "/properties/ipAddress").to_owned());
    let taken: HashSet<&str> =
        plane.all(PUBLIC_ADDRESSES).map(|(_, other)| text(other, "/properties/ipAddress")).collect();
    let free = Prefix::parse("198.51.100.0/24").into_iter().flat_map(|prefix| prefix.assignable_v4());
    let fresh = free.map(|address| address.to_string()).find(|address| !taken.contains(address.as_str()));
    let address = kept.filter(|kept| !kept.is_empty()).or(fresh);
    if let (Some(address), Some(Value::Object(properties))) = (address, resource.get_mut("properties")) {
        properties.insert("ipAddress".to_owned(), json!(address));
    }
}
