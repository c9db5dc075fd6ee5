//! One packet, walked rule by rule over the raw JSON of what packets meet. Written plainly and apart from
//! everything that computes reachability, so that it can contradict it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::address::Prefix;
use crate::catalogue::{
    NETWORK_INTERFACES, NETWORK_SECURITY_GROUPS, PUBLIC_ADDRESSES, ROUTE_TABLES, VIRTUAL_MACHINES,
    VIRTUAL_NETWORKS,
};
use crate::estate::Plane;
use crate::resource_path::ResourceName;
use crate::security_rule::looks_like_tag;
use crate::simulator::Simulator;

/// Azure's virtual public address, the source of load balancer probes.
const HOST: &str = "168.63.129.16";

/// An inbound packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Packet {
    /// The source address.
    pub source: String,
    /// The source port, 0 to 65535. Default 50000, an ephemeral one.
    #[serde(default = "ephemeral")]
    pub source_port: u16,
    /// Service tags the source belongs to, beside those that follow from the estate. A rule with another tag
    /// does not match.
    #[serde(default)]
    pub source_tags: Vec<String>,
    /// A VM's resource id, or a private or public address of one.
    pub destination: String,
    /// The destination port, 0 to 65535; has no meaning for ICMP, ESP and AH.
    pub port: u16,
    /// `Tcp`, `Udp`, `Icmp`, `Esp` or `Ah`, in any case.
    pub protocol: String,
}

fn ephemeral() -> u16 {
    50_000
}

/// Whether the packet arrives, and what decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Whether every enforcement point lets it pass.
    pub allowed: bool,
    /// The deciding rule of each point on the way, in order, up to the one that denies.
    pub by: Vec<Decision>,
    /// The private address it was tested for.
    pub address: String,
}

/// One enforcement point's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The NSG's id; for `noNsg` the network interface's.
    pub enforcement_point: String,
    /// The rule's name; `noNsg` if no NSG filters here.
    pub rule: String,
    /// Whether it lets the packet pass.
    pub allowed: bool,
}

/// What is wrong with a packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// `source` is no address.
    #[error("`source` must be an IP address; {0:?} is none")]
    Source(String),
    /// `protocol` is unknown.
    #[error("`protocol` must be Tcp, Udp, Icmp, Esp or Ah; it is {0:?}")]
    Protocol(String),
    /// `destination` names nothing.
    #[error("`destination` must be a VM's resource id or an address of one; nothing is {0:?}")]
    Destination(String),
    /// `destination` is an address that several networks use.
    #[error("`destination` {0} is an address in several virtual networks; give the VM's resource id")]
    Ambiguous(String),
    /// The VM has no address of the source's family.
    #[error("`source` and `destination` are of different families: {0} has no address of {1}'s family")]
    Family(String, String),
}

/// As `Value::pointer` without escapes, and so without allocating: seeded simulations probe millions of packets.
fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(value, |value, name| value.get(name))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    at(value, pointer).and_then(Value::as_array).into_iter().flatten()
}

fn texts<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    list(value, pointer).filter_map(Value::as_str)
}

/// A NIC's address, with what surrounds it.
struct Endpoint<'a> {
    plane: &'a Plane,
    interface: &'a Value,
    configuration: &'a Value,
    address: IpAddr,
    network: Option<&'a Value>,
    subnet: Option<&'a Value>,
}

impl<'a> Endpoint<'a> {
    fn new(plane: &'a Plane, interface: &'a Value, configuration: &'a Value) -> Option<Self> {
        let address = text(configuration, "/properties/privateIPAddress").parse().ok()?;
        let subnet_id = text(configuration, "/properties/subnet/id");
        let network = ResourceName::parse(subnet_id).and_then(|name| plane.get(VIRTUAL_NETWORKS, &name.id()));
        let subnet = network.and_then(|network| {
            list(network, "/properties/subnets")
                .find(|subnet| text(subnet, "/id").eq_ignore_ascii_case(subnet_id))
        });
        Some(Self { plane, interface, configuration, address, network, subnet })
    }

    /// Address space of the network and its connected peers, prefixes of the subnet's routes (but no default
    /// route), and the host's address: the tag VirtualNetwork.
    fn in_virtual_network(&self, address: IpAddr) -> bool {
        let Some(network) = self.network else { return false };
        let mut prefixes: Vec<&str> = texts(network, "/properties/addressSpace/addressPrefixes").collect();
        for peering in list(network, "/properties/virtualNetworkPeerings") {
            let state = text(peering, "/properties/peeringState");
            if !(state.is_empty() || state.eq_ignore_ascii_case("Connected")) {
                continue;
            }
            let remote = text(peering, "/properties/remoteVirtualNetwork/id");
            match self.plane.get(VIRTUAL_NETWORKS, remote) {
                Some(remote) => prefixes.extend(texts(remote, "/properties/addressSpace/addressPrefixes")),
                None => prefixes.extend(texts(peering, "/properties/remoteAddressSpace/addressPrefixes")),
            }
        }
        let table = self.subnet.map(|subnet| text(subnet, "/properties/routeTable/id")).unwrap_or_default();
        if let Some(table) = self.plane.get(ROUTE_TABLES, table) {
            prefixes.extend(
                list(table, "/properties/routes").map(|route| text(route, "/properties/addressPrefix")),
            );
        }
        prefixes
            .iter()
            .filter_map(|prefix| Prefix::parse(prefix))
            .chain(Prefix::parse(HOST))
            .any(|prefix| !prefix.is_everything() && prefix.contains(address))
    }

    fn in_tag(&self, address: IpAddr, tag: &str) -> bool {
        let is = |name: &str| tag.eq_ignore_ascii_case(name);
        if is("VirtualNetwork") {
            self.in_virtual_network(address)
        } else if is("Internet") {
            is_public(address) && !self.in_virtual_network(address)
        } else if is("AzureLoadBalancer") {
            Prefix::parse(HOST).is_some_and(|host| host.contains(address))
        } else {
            false
        }
    }

    fn is_member(&self, configuration: &Value, group: &str) -> bool {
        list(configuration, "/properties/applicationSecurityGroups")
            .any(|member| text(member, "/id").eq_ignore_ascii_case(group))
    }

    /// Whether an address of this network belongs to an application security group.
    fn has_member(&self, address: IpAddr, group: &str) -> bool {
        let network = self.network.map(|network| text(network, "/id")).unwrap_or_default();
        self.plane.all(NETWORK_INTERFACES).any(|(_, interface)| {
            list(interface, "/properties/ipConfigurations").any(|configuration| {
                let subnet = text(configuration, "/properties/subnet/id");
                let own = ResourceName::parse(subnet).map(|name| name.id()).unwrap_or_default();
                own.eq_ignore_ascii_case(network)
                    && text(configuration, "/properties/privateIPAddress").parse() == Ok(address)
                    && self.is_member(configuration, group)
            })
        })
    }

    fn public_address(&self) -> Option<&'a Value> {
        self.plane.get(PUBLIC_ADDRESSES, text(self.configuration, "/properties/publicIPAddress/id"))
    }
}

/// Publicly routable, as far as that can be said without Azure's lists.
fn is_public(address: IpAddr) -> bool {
    const NOT_PUBLIC: [&str; 14] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
        HOST,
        "::/127",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ];
    !NOT_PUBLIC.iter().filter_map(|prefix| Prefix::parse(prefix)).any(|prefix| prefix.contains(address))
}

impl Simulator {
    /// Walks a packet through the subnet's and the NIC's NSG, over what the data plane holds now.
    ///
    /// # Errors
    /// If the packet makes no sense; the error names the field.
    pub fn probe(&mut self, packet: &Packet) -> Result<Verdict, ProbeError> {
        self.settle();
        let plane = &self.estate.data;
        let source: IpAddr = packet.source.parse().map_err(|_| ProbeError::Source(packet.source.clone()))?;
        if !["tcp", "udp", "icmp", "esp", "ah"].contains(&packet.protocol.to_ascii_lowercase().as_str()) {
            return Err(ProbeError::Protocol(packet.protocol.clone()));
        }
        let endpoint = find_endpoint(plane, packet, source)?;
        Ok(walk(&endpoint, packet, source))
    }
}

fn find_endpoint<'a>(plane: &'a Plane, packet: &Packet, source: IpAddr) -> Result<Endpoint<'a>, ProbeError> {
    let unknown = || ProbeError::Destination(packet.destination.clone());
    let family = || ProbeError::Family(packet.destination.clone(), packet.source.clone());
    let Ok(address) = packet.destination.parse::<IpAddr>() else {
        let machine = plane.get(VIRTUAL_MACHINES, &packet.destination).ok_or_else(unknown)?;
        return machine_endpoints(plane, machine)
            .into_iter()
            .find(|endpoint| endpoint.address.is_ipv4() == source.is_ipv4())
            .ok_or_else(family);
    };
    let mut found = Vec::new();
    for (_, interface) in plane.all(NETWORK_INTERFACES) {
        for configuration in list(interface, "/properties/ipConfigurations") {
            let Some(endpoint) = Endpoint::new(plane, interface, configuration) else { continue };
            let public = endpoint.public_address().map(|public| text(public, "/properties/ipAddress"));
            if endpoint.address == address || public.is_some_and(|public| public.parse() == Ok(address)) {
                found.push(endpoint);
            }
        }
    }
    let endpoint = found.pop().ok_or_else(unknown)?;
    if !found.is_empty() {
        return Err(ProbeError::Ambiguous(packet.destination.clone()));
    }
    if endpoint.address.is_ipv4() == source.is_ipv4() { Ok(endpoint) } else { Err(family()) }
}

/// A VM's addresses: the primary NIC's before others, its primary configuration's before others.
fn machine_endpoints<'a>(plane: &'a Plane, machine: &'a Value) -> Vec<Endpoint<'a>> {
    let primary = |value: &Value| value.pointer("/properties/primary") == Some(&Value::Bool(true));
    let mut interfaces: Vec<&Value> = list(machine, "/properties/networkProfile/networkInterfaces").collect();
    interfaces.sort_by_key(|reference| !primary(reference));
    let mut endpoints = Vec::new();
    for reference in interfaces {
        let Some(interface) = plane.get(NETWORK_INTERFACES, text(reference, "/id")) else { continue };
        let mut configurations: Vec<&Value> = list(interface, "/properties/ipConfigurations").collect();
        configurations.sort_by_key(|configuration| !primary(configuration));
        endpoints.extend(configurations.into_iter().filter_map(|one| Endpoint::new(plane, interface, one)));
    }
    endpoints
}

fn walk(endpoint: &Endpoint<'_>, packet: &Packet, source: IpAddr) -> Verdict {
    let reference = "/properties/networkSecurityGroup/id";
    let levels =
        [endpoint.subnet.map(|subnet| text(subnet, reference)), Some(text(endpoint.interface, reference))];
    let mut by = Vec::new();
    for id in levels.into_iter().flatten().filter(|id| !id.is_empty()) {
        let decision = match endpoint.plane.get(NETWORK_SECURITY_GROUPS, id) {
            Some(group) => decide(endpoint, group, packet, source),
            // A reference to what is not there: nothing is known to let the packet pass.
            None => {
                Decision { enforcement_point: id.to_owned(), rule: "nsgNotFound".to_owned(), allowed: false }
            }
        };
        let stop = !decision.allowed;
        by.push(decision);
        if stop {
            break;
        }
    }
    if by.is_empty() {
        let basic = endpoint
            .public_address()
            .is_some_and(|public| text(public, "/sku/name").eq_ignore_ascii_case("Basic"));
        by.push(Decision {
            enforcement_point: text(endpoint.interface, "/id").to_owned(),
            rule: "noNsg".to_owned(),
            allowed: endpoint.in_virtual_network(source) || basic,
        });
    }
    Verdict { allowed: by.iter().all(|decision| decision.allowed), by, address: endpoint.address.to_string() }
}

fn decide(endpoint: &Endpoint<'_>, group: &Value, packet: &Packet, source: IpAddr) -> Decision {
    let custom = list(group, "/properties/securityRules");
    let mut rules: Vec<&Value> = custom
        .chain(list(group, "/properties/defaultSecurityRules"))
        .filter(|rule| text(rule, "/properties/direction").eq_ignore_ascii_case("Inbound"))
        .collect();
    rules.sort_by_key(|rule| at(rule, "/properties/priority").and_then(Value::as_u64).unwrap_or(u64::MAX));
    let decider = rules.into_iter().find(|rule| rule_matches(endpoint, rule, packet, source));
    let id = text(group, "/id").to_owned();
    match decider {
        Some(rule) => Decision {
            enforcement_point: id,
            rule: text(rule, "/name").to_owned(),
            allowed: text(rule, "/properties/access").eq_ignore_ascii_case("Allow"),
        },
        None => Decision { enforcement_point: id, rule: "noRule".to_owned(), allowed: false },
    }
}

fn rule_matches(endpoint: &Endpoint<'_>, rule: &Value, packet: &Packet, source: IpAddr) -> bool {
    let protocol = text(rule, "/properties/protocol");
    if protocol != "*" && !protocol.eq_ignore_ascii_case(&packet.protocol) {
        return false;
    }
    let has_ports = ["tcp", "udp"].contains(&packet.protocol.to_ascii_lowercase().as_str());
    if has_ports
        && !(port_matches(rule, "source", packet.source_port)
            && port_matches(rule, "destination", packet.port))
    {
        return false;
    }
    side_matches(endpoint, rule, "source", source, &packet.source_tags)
        && side_matches(endpoint, rule, "destination", endpoint.address, &[])
}

fn port_matches(rule: &Value, side: &str, port: u16) -> bool {
    let one = text(rule, &format!("/properties/{side}PortRange"));
    let many = texts(rule, &format!("/properties/{side}PortRanges"));
    std::iter::once(one).chain(many).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bounds = first.trim().parse::<u16>().ok().zip(last.trim().parse::<u16>().ok());
        range == "*" || bounds.is_some_and(|(first, last)| (first..=last).contains(&port))
    })
}

fn side_matches(endpoint: &Endpoint<'_>, rule: &Value, side: &str, address: IpAddr, tags: &[String]) -> bool {
    let one = text(rule, &format!("/properties/{side}AddressPrefix"));
    let many = texts(rule, &format!("/properties/{side}AddressPrefixes"));
    let prefixes = std::iter::once(one).chain(many).any(|prefix| match Prefix::parse(prefix) {
        Some(parsed) => parsed.contains(address),
        None if prefix == "*" => true,
        None => {
            looks_like_tag(prefix)
                && (endpoint.in_tag(address, prefix)
                    || tags.iter().any(|tag| tag.eq_ignore_ascii_case(prefix)))
        }
    });
    let groups = list(rule, &format!("/properties/{side}ApplicationSecurityGroups"));
    let mut groups = groups.map(|group| text(group, "/id"));
    prefixes
        || groups.any(|group| match side {
            "destination" => endpoint.is_member(endpoint.configuration, group),
            _ => endpoint.has_member(address, group),
        })
}
