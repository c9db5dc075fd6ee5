//! One case of evaluator against oracle: the same packet, asked of both.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ajar_network::address::{SourceGroup, SourceSet};
use ajar_network::exposure::{Exposure, NsgInput, exposures};
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::ports::Protocol;
use ajar_network::reachability::{Destination, Flow, InboundRules};
use ajar_network::resource_id::ResourceId;
use serde_json::Value;

use super::generate::{
    DESTINATION_ADDRESSES, DESTINATION_PORTS, GROUPS, Random, SOURCE_ADDRESSES, SOURCE_PORT_NUMBERS, nsg,
    packet,
};
use super::{Packet, Rule, decide, rules};

/// Whether the packet's source is in the set.
pub fn is_in(set: &SourceSet, packet: &Packet) -> bool {
    let member = |g: &SourceGroup| match g {
        SourceGroup::Tag(tag) if tag.is_virtual_network() => packet.in_virtual_network,
        SourceGroup::Tag(tag) if tag.is_internet() => packet.in_internet,
        SourceGroup::Tag(_) => false,
        SourceGroup::ApplicationSecurityGroup(id) => {
            packet.source_group.is_some_and(|g| *id == ResourceId::parse(g).unwrap())
        }
    };
    set.terms().iter().any(|t| {
        t.addresses.contains(packet.source) && t.within.iter().all(member) && !t.outside.iter().any(member)
    })
}

fn flow(packet: &Packet) -> Flow {
    Flow {
        destination: Destination {
            address: packet.destination,
            groups: Some(packet.destination_group.iter().map(|g| ResourceId::parse(g).unwrap()).collect()),
        },
        protocol: Protocol::parse(packet.protocol).unwrap(),
        port: packet.port,
    }
}

/// A random NSG, and `packets` random packets through it.
pub fn reach_case(random: &mut Random, packets: usize) {
    let json = nsg(random);
    let rules = rules(&json);
    let nsg = NetworkSecurityGroup::from_json(json).unwrap();
    let inbound = InboundRules::of(&nsg);
    for _ in 0..packets {
        let packet = packet(random);
        let (passes, by) = decide(&rules, &packet);
        let reach = inbound.reach_from_port(&flow(&packet), packet.source_port);
        assert_eq!(is_in(&reach.possible, &packet), passes, "{packet:?} through {}", nsg.to_json());
        assert_eq!(is_in(&reach.certain, &packet), passes, "{packet:?} through {}", nsg.to_json());
        let decides: Vec<&str> =
            reach.decisions.iter().filter(|d| is_in(&d.possible, &packet)).map(|d| d.rule.as_str()).collect();
        if let Some(by) = by {
            assert_eq!(decides, [by], "{packet:?} through {}", nsg.to_json());
        }
    }
}

/// Every packet from the source to the port, whatever its destination and source port.
fn some_packet_passes(rules: &[Rule], from: &Packet) -> BTreeSet<String> {
    let mut by = BTreeSet::new();
    for address in DESTINATION_ADDRESSES {
        let destination: IpAddr = address.parse().unwrap();
        if destination.is_ipv4() != from.source.is_ipv4() {
            continue;
        }
        for destination_group in [None, Some(GROUPS[0]), Some(GROUPS[1])] {
            for source_port in SOURCE_PORT_NUMBERS {
                let packet = Packet { destination, destination_group, source_port, ..*from };
                if let (true, Some(rule)) = decide(rules, &packet) {
                    by.insert(rule.to_owned());
                }
            }
        }
    }
    by
}

/// A random NSG and its exposures on two ports, against every packet.
pub fn exposure_case(random: &mut Random) {
    let json = nsg(random);
    let rules = rules(&json);
    let input: NsgInput = serde_json::from_str(&json.to_string()).unwrap();
    let protocol = random.pick(&[Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Icmp]);
    let port = random.pick(&DESTINATION_PORTS);
    let found = exposures(&input, &[port], protocol).pop();
    check_exposure(&json, &rules, found.as_ref(), protocol, port);
}

fn check_exposure(json: &Value, rules: &[Rule], found: Option<&Exposure<'_>>, protocol: Protocol, port: u16) {
    let mut named: BTreeSet<String> = BTreeSet::new();
    for source in SOURCE_ADDRESSES {
        for (in_virtual_network, in_internet) in [(true, false), (false, true), (false, false)] {
            for source_group in [None, Some(GROUPS[0])] {
                let from = Packet {
                    source: source.parse().unwrap(),
                    in_virtual_network,
                    in_internet,
                    source_port: 0,
                    destination: "10.0.0.4".parse().unwrap(),
                    protocol: protocol.as_str(),
                    port,
                    source_group,
                    destination_group: None,
                };
                let by = some_packet_passes(rules, &from);
                let exposed = found.is_some_and(|e| is_in(&e.sources, &from));
                assert_eq!(exposed, !by.is_empty(), "{from:?} by {by:?} through {json}, found {found:?}");
                named.extend(by);
            }
        }
    }
    if let Some(exposure) = found {
        assert!(exposure.certain && exposure.uncertainties.is_empty());
        assert!(
            named.iter().all(|n| exposure.rules.contains(&n.as_str())),
            "{named:?} and {:?}",
            exposure.rules
        );
        let witness = exposure.witness.as_ref().expect("a packet that passes");
        let in_tag = |f: fn(&ajar_network::address::ServiceTag) -> bool| {
            witness.within.iter().any(|g| matches!(g, SourceGroup::Tag(tag) if f(tag)))
        };
        let group = witness.within.iter().find_map(|g| match g {
            SourceGroup::ApplicationSecurityGroup(id) => {
                GROUPS.into_iter().find(|g| ResourceId::parse(g).unwrap() == *id)
            }
            SourceGroup::Tag(_) => None,
        });
        let packet = |destination_group| Packet {
            source: witness.source,
            in_virtual_network: in_tag(|t| t.is_virtual_network()),
            in_internet: in_tag(|t| t.is_internet()),
            source_port: witness.source_port,
            destination: witness.destination,
            protocol: protocol.as_str(),
            port,
            source_group: group,
            destination_group,
        };
        let passes = [None, Some(GROUPS[0]), Some(GROUPS[1])]
            .into_iter()
            .any(|g| decide(rules, &packet(g)).0 && decide(rules, &packet(g)).1.is_some());
        assert!(passes, "the witness passes: {witness:?} through {json}");
    }
}
