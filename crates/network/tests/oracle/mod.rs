//! A second opinion: decides one packet at a time, straight from the JSON of the rules, with masks and comparisons
//! instead of sets. Shares no code with the crate but the NSG's JSON.

use std::net::IpAddr;

use serde_json::Value;

pub mod differential;
pub mod generate;

/// A packet with everything that a rule can ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub in_virtual_network: bool,
    pub in_internet: bool,
    pub source_port: u16,
    pub destination: IpAddr,
    pub protocol: &'static str,
    pub port: u16,
    /// The application security group that the source is in.
    pub source_group: Option<&'static str>,
    /// The one that the destination is in.
    pub destination_group: Option<&'static str>,
}

#[derive(Debug, Clone)]
pub struct Rule {
    pub name: String,
    pub priority: u64,
    allow: bool,
    protocol: String,
    sources: Vec<String>,
    destinations: Vec<String>,
    source_ports: Vec<(u16, u16)>,
    ports: Vec<(u16, u16)>,
    masks: Vec<Vec<(bool, u128, u128)>>,
}

fn both(properties: &Value, singular: &str, plural: &str) -> Vec<String> {
    let mut out: Vec<String> = properties[singular].as_str().map(str::to_owned).into_iter().collect();
    out.extend(properties[plural].as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()));
    out
}

fn groups(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|g| g["id"].as_str().unwrap().to_owned()).collect()
}

fn ports(texts: &[String]) -> Vec<(u16, u16)> {
    texts
        .iter()
        .map(|t| match (t.as_str(), t.split_once('-')) {
            ("*", _) => (0, 65535),
            (_, Some((a, b))) => (a.parse().unwrap(), b.parse().unwrap()),
            (one, None) => (one.parse().unwrap(), one.parse().unwrap()),
        })
        .collect()
}

fn every_port(ranges: &[(u16, u16)]) -> bool {
    let mut next = 0;
    while next <= 65535 {
        match ranges.iter().find(|(a, b)| (u32::from(*a)..=u32::from(*b)).contains(&next)) {
            Some((_, last)) => next = u32::from(*last) + 1,
            None => return false,
        }
    }
    true
}

fn bits(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(a) => (true, u128::from(a.to_bits())),
        IpAddr::V6(a) => (false, a.to_bits()),
    }
}

/// (is IPv4, mask, masked value) of each text that is an address or prefix.
fn masks(texts: &[String]) -> Vec<(bool, u128, u128)> {
    texts
        .iter()
        .filter_map(|t| {
            let (address, length) = t.split_once('/').map_or((t.as_str(), None), |(a, l)| (a, Some(l)));
            let (v4, value) = bits(address.parse().ok()?);
            let width = if v4 { 32 } else { 128 };
            let length: u32 = length.map_or(width, |l| l.parse().unwrap());
            let host = if width == length { 0 } else { u128::MAX >> (128 - (width - length)) };
            Some((v4, !host, value & !host))
        })
        .collect()
}

/// The inbound rules of an NSG, in order.
pub fn rules(nsg: &Value) -> Vec<Rule> {
    let mut rules: Vec<Rule> = nsg["properties"]["securityRules"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|r| r["properties"]["direction"] == "Inbound")
        .map(|r| {
            let p = &r["properties"];
            let mut sources = both(p, "sourceAddressPrefix", "sourceAddressPrefixes");
            let mut destinations = both(p, "destinationAddressPrefix", "destinationAddressPrefixes");
            sources.extend(groups(&p["sourceApplicationSecurityGroups"]));
            destinations.extend(groups(&p["destinationApplicationSecurityGroups"]));
            Rule {
                name: r["name"].as_str().unwrap().to_owned(),
                priority: p["priority"].as_u64().unwrap(),
                allow: p["access"] == "Allow",
                protocol: p["protocol"].as_str().unwrap().to_owned(),
                masks: vec![masks(&sources), masks(&destinations)],
                sources,
                destinations,
                source_ports: ports(&both(p, "sourcePortRange", "sourcePortRanges")),
                ports: ports(&both(p, "destinationPortRange", "destinationPortRanges")),
            }
        })
        .collect();
    rules.sort_by_key(|r| r.priority);
    rules
}

fn side(
    texts: &[String],
    masks: &[(bool, u128, u128)],
    address: IpAddr,
    (vnet, internet): (bool, bool),
    group: Option<&str>,
) -> bool {
    let (v4, value) = bits(address);
    texts.iter().any(|t| {
        t == "*"
            || (t == "VirtualNetwork" && vnet)
            || (t == "Internet" && internet)
            || group.is_some_and(|g| t == g)
    }) || masks.iter().any(|(family, mask, masked)| *family == v4 && value & mask == *masked)
}

impl Rule {
    fn matches(&self, p: &Packet) -> bool {
        let has_ports = p.protocol != "Icmp";
        let hit = |list: &[(u16, u16)], port: u16| list.iter().any(|(a, b)| *a <= port && port <= *b);
        let ports = if has_ports {
            hit(&self.ports, p.port) && hit(&self.source_ports, p.source_port)
        } else {
            self.protocol == "Icmp" || every_port(&self.ports)
        };
        (self.protocol == "*" || self.protocol == p.protocol)
            && ports
            && side(
                &self.sources,
                &self.masks[0],
                p.source,
                (p.in_virtual_network, p.in_internet),
                p.source_group,
            )
            && side(&self.destinations, &self.masks[1], p.destination, (true, false), p.destination_group)
    }
}

/// Whether the packet passes, and the name of the custom rule that decides.
pub fn decide<'a>(rules: &'a [Rule], packet: &Packet) -> (bool, Option<&'a str>) {
    for rule in rules {
        if rule.matches(packet) {
            return (rule.allow, Some(&rule.name));
        }
    }
    // AllowVnetInBound, then DenyAllInBound; no packet here is a load balancer's probe.
    (packet.in_virtual_network, None)
}
