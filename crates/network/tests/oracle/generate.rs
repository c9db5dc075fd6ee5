//! Random NSGs and packets from a seed: small worlds in which rules, boundaries and packets meet often.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::Packet;

/// SplitMix64: small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

pub const GROUPS: [&str; 2] = [
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/applicationSecurityGroups/web",
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/applicationSecurityGroups/db",
];

const SOURCES: [&str; 16] = [
    "*",
    "*",
    "Internet",
    "VirtualNetwork",
    "0.0.0.0/0",
    "::/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "203.0.113.0/24",
    "203.0.113.128/25",
    "203.0.113.7",
    "10.0.0.0/24",
    "2001:db8::/32",
    "2001:db8::1",
    "255.255.255.255",
    "0.0.0.0",
];

const DESTINATIONS: [&str; 9] = [
    "*",
    "*",
    "VirtualNetwork",
    "10.0.0.4",
    "10.0.0.4/31",
    "10.0.0.0/16",
    "fd00::/8",
    "0.0.0.0/0",
    "Internet",
];

const PORTS: [&str; 8] = ["*", "22", "22", "20-25", "23-65535", "0-21", "0-65535", "3389"];
const SOURCE_PORTS: [&str; 7] = ["*", "*", "*", "*", "53", "49152-65535", "0-52"];
const PROTOCOLS: [&str; 5] = ["*", "Tcp", "Tcp", "Udp", "Icmp"];

fn values(random: &mut Random, properties: &mut Value, singular: &str, plural: &str, from: &[&str]) {
    if random.below(3) == 0 {
        let list: Vec<&str> =
            (0..=random.below(3)).map(|_| random.pick(from)).filter(|t| !t.is_empty()).collect();
        properties[plural] = json!(list);
    } else {
        properties[singular] = json!(random.pick(from));
    }
}

fn side(random: &mut Random, properties: &mut Value, side: &str, from: &[&str]) {
    if random.below(8) == 0 {
        properties[format!("{side}ApplicationSecurityGroups")] = json!([{"id": random.pick(&GROUPS)}]);
    } else {
        values(random, properties, &format!("{side}AddressPrefix"), &format!("{side}AddressPrefixes"), from);
    }
}

/// An NSG of up to eight rules that can all be read.
pub fn nsg(random: &mut Random) -> Value {
    let mut rules = Vec::new();
    let mut priority = 100;
    for i in 0..random.below(9) {
        priority += 1 + random.below(3);
        let mut properties = json!({
            "priority": priority,
            "access": random.pick(&["Allow", "Deny"]),
            "direction": random.pick(&["Inbound", "Inbound", "Inbound", "Outbound"]),
            "protocol": random.pick(&PROTOCOLS),
        });
        side(random, &mut properties, "source", &SOURCES);
        side(random, &mut properties, "destination", &DESTINATIONS);
        values(random, &mut properties, "sourcePortRange", "sourcePortRanges", &SOURCE_PORTS);
        values(random, &mut properties, "destinationPortRange", "destinationPortRanges", &PORTS);
        rules.push(json!({"name": format!("r{i}"), "properties": properties}));
    }
    // The order of the list means nothing.
    for i in (1..rules.len()).rev() {
        rules.swap(i, random.below(i + 1));
    }
    json!({"name": "n", "properties": {"securityRules": rules}})
}

pub const SOURCE_ADDRESSES: [&str; 16] = [
    "0.0.0.0",
    "0.0.0.1",
    "10.0.0.0",
    "10.0.0.255",
    "10.0.1.0",
    "127.255.255.255",
    "128.0.0.0",
    "203.0.112.255",
    "203.0.113.7",
    "203.0.113.127",
    "203.0.113.128",
    "203.0.114.0",
    "255.255.255.255",
    "2001:db8::1",
    "2001:db9::",
    "ffff::",
];

pub const DESTINATION_ADDRESSES: [&str; 10] = [
    "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.1.0.0", "11.0.0.0", "fd00::4", "fe00::", "fc00::",
    "10.0.0.0",
];

pub const DESTINATION_PORTS: [u16; 9] = [0, 19, 20, 21, 22, 23, 25, 3389, 65535];
const PACKET_PROTOCOLS: [&str; 4] = ["Tcp", "Tcp", "Udp", "Icmp"];
pub const SOURCE_PORT_NUMBERS: [u16; 6] = [0, 52, 53, 54, 49151, 50000];

pub fn packet(random: &mut Random) -> Packet {
    let source: IpAddr = random.pick(&SOURCE_ADDRESSES).parse().unwrap();
    let destination = loop {
        let destination: IpAddr = random.pick(&DESTINATION_ADDRESSES).parse().unwrap();
        if destination.is_ipv4() == source.is_ipv4() {
            break destination;
        }
    };
    let (in_virtual_network, in_internet) = random.pick(&[(true, false), (false, true), (false, false)]);
    let group = |random: &mut Random| random.pick(&[None, None, Some(GROUPS[0]), Some(GROUPS[1])]);
    Packet {
        source,
        in_virtual_network,
        in_internet,
        source_port: random.pick(&SOURCE_PORT_NUMBERS),
        destination,
        protocol: random.pick(&PACKET_PROTOCOLS),
        port: random.pick(&DESTINATION_PORTS),
        source_group: group(random),
        destination_group: group(random),
    }
}
