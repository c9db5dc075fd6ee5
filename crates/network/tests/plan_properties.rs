//! The planner's guarantees, against an oracle that decides packet by packet.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "each test uses its part of the oracle")]
mod oracle;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ajar_network::address::Prefix;
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::plan::{
    DeploymentName, Desired, ExceptionSource, ExistingRules, GrantedFlow, Note, PlanError, ProtectedPort,
    Protection, ProtectionState, RuleWrite, StandingException, Write, next_boundary, plan, verify,
};
use ajar_network::ports::{PortRange, Protocol};
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use oracle::{Packet, decide, rules};
use proptest::prelude::*;
use serde_json::{Value, json};

const VMS: [(&str, &[&str]); 4] = [
    ("a", &["10.0.0.4"]),
    ("b", &["10.0.0.5", "fd00::5"]),
    ("c", &["10.0.0.255"]),
    ("d", &["10.0.1.0", "10.0.0.7"]),
];

fn id(name: &str) -> ResourceId {
    ResourceId::parse(&format!(
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/{name}"
    ))
    .unwrap()
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses(vm: usize) -> Vec<IpAddr> {
    VMS[vm].1.iter().map(|t| ip(t)).collect()
}

const SOURCES: [&str; 9] = [
    "198.51.100.7",
    "198.51.100.0/24",
    "203.0.113.128/25",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "0.0.0.0/0",
    "10.0.0.0/24",
    "2001:db8::/32",
    "::/0",
];

fn port_range() -> impl Strategy<Value = PortRange> {
    prop_oneof![
        4 => Just(PortRange::single(22)),
        2 => Just(PortRange::single(3389)),
        1 => Just(PortRange::new(5985, 5986).unwrap()),
        1 => Just(PortRange::new(20, 25).unwrap()),
        1 => Just(PortRange::ALL),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![3 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp), 1 => Just(Protocol::Any)]
}

fn foreign_rule() -> impl Strategy<Value = Value> {
    let priority = prop_oneof![3 => 100u16..110, 2 => 160u16..170, 1 => 290u16..310, 1 => 4090u16..=4096];
    let source = prop_oneof![
        2 => Just(json!({"sourceAddressPrefix": "*"})),
        1 => Just(json!({"sourceAddressPrefix": "Internet"})),
        1 => Just(json!({"sourceAddressPrefix": "VirtualNetwork"})),
        1 => Just(json!({"sourceAddressPrefixes": ["0.0.0.0/1", "203.0.113.128/25"]})),
        1 => Just(json!({"sourceAddressPrefix": "198.51.100.0/24"})),
    ];
    let destination = prop_oneof![
        2 => Just(json!({"destinationAddressPrefix": "*"})),
        1 => Just(json!({"destinationAddressPrefix": "VirtualNetwork"})),
        1 => Just(json!({"destinationAddressPrefix": "10.0.0.4"})),
        1 => Just(json!({"destinationAddressPrefixes": ["10.0.0.4/31", "10.0.1.0/24"]})),
        1 => Just(json!({"destinationAddressPrefix": "fd00::/8"})),
        1 => Just(json!({"destinationAddressPrefix": "10.0.0.99"})),
    ];
    let ports = prop_oneof![
        2 => Just(json!({"destinationPortRange": "*"})),
        2 => Just(json!({"destinationPortRange": "22"})),
        1 => Just(json!({"destinationPortRanges": ["20-22", "3389"]})),
        1 => Just(json!({"destinationPortRange": "80"})),
    ];
    let source_port = prop_oneof![5 => Just("*"), 1 => Just("53")];
    let protocol = prop_oneof![2 => Just("*"), 2 => Just("Tcp"), 1 => Just("Udp"), 1 => Just("Icmp")];
    (priority, source, destination, ports, source_port, protocol, any::<bool>(), 0u8..8).prop_map(
        |(priority, source, destination, ports, source_port, protocol, allow, outbound)| {
            let mut properties = json!({
                "priority": priority, "protocol": protocol, "sourcePortRange": source_port,
                "access": if allow { "Allow" } else { "Deny" },
                "direction": if outbound == 0 { "Outbound" } else { "Inbound" },
                "somethingUnknown": {"kept": true},
            });
            for part in [source, destination, ports] {
                for (k, v) in part.as_object().unwrap() {
                    properties[k] = v.clone();
                }
            }
            json!({"properties": properties})
        },
    )
}

fn nsg() -> impl Strategy<Value = NetworkSecurityGroup> {
    proptest::collection::vec(foreign_rule(), 0..7).prop_map(|rules| {
        let mut seen = BTreeSet::new();
        let rules: Vec<Value> = rules
            .into_iter()
            .filter(|r| {
                seen.insert((
                    r["properties"]["direction"].to_string(),
                    r["properties"]["priority"].to_string(),
                ))
            })
            .enumerate()
            .map(|(i, mut r)| {
                r["name"] = json!(format!("rule-{i}"));
                r
            })
            .collect();
        NetworkSecurityGroup::from_json(
            json!({"name": "nsg", "etag": "W/\"1\"", "properties": {"securityRules": rules}}),
        )
        .unwrap()
    })
}

fn exceptions() -> impl Strategy<Value = Vec<StandingException>> {
    let source = prop_oneof![
        Just("10.0.9.0/26"),
        Just("VirtualNetwork"),
        Just("2001:db8::/32"),
        Just("0.0.0.0/1"),
        Just("Internet"),
    ];
    proptest::collection::vec(source, 0..2).prop_map(|texts| {
        texts.iter().map(|t| StandingException { source: ExceptionSource::parse(t).unwrap() }).collect()
    })
}

fn protection(vm: usize, respect: bool) -> impl Strategy<Value = Option<Protection>> {
    let ports = proptest::collection::vec(
        (port_range(), protocol()).prop_map(|(ports, protocol)| ProtectedPort { ports, protocol }),
        1..3,
    );
    let state = prop_oneof![
        6 => Just(Some(ProtectionState::Enabled)),
        1 => Just(Some(ProtectionState::Disabling)),
        1 => Just(Some(ProtectionState::Retired)),
        1 => Just(None),
    ];
    (ports, exceptions(), state, any::<bool>()).prop_map(move |(ports, exceptions, state, flush)| {
        Some(Protection {
            vm: id(VMS[vm].0),
            addresses: addresses(vm),
            released: Vec::new(),
            ports,
            exceptions,
            existing_rules: if respect { ExistingRules::Respect } else { ExistingRules::Supersede },
            flush_connection: flush,
            state: state?,
        })
    })
}

fn grant() -> impl Strategy<Value = GrantedFlow> {
    let sources = proptest::collection::vec(proptest::sample::select(SOURCES.to_vec()), 1..3);
    (0..VMS.len(), port_range(), protocol(), sources, -2i64..2, 1i64..3, 0u32..1000).prop_map(
        |(vm, ports, protocol, sources, start, length, id_number)| {
            let start = now() + SignedDuration::from_hours(start);
            GrantedFlow {
                id: format!("g{id_number}"),
                vm: id(VMS[vm].0),
                addresses: addresses(vm),
                ports,
                protocol,
                sources: sources.iter().map(|s| Prefix::parse(s).unwrap()).collect(),
                start,
                end: start + SignedDuration::from_hours(length),
                requester: "alice@contoso.com".to_owned(),
            }
        },
    )
}

fn desired(respect: bool) -> impl Strategy<Value = Desired> {
    let protections =
        (protection(0, respect), protection(1, respect), protection(2, respect), protection(3, respect));
    (protections, proptest::collection::vec(grant(), 0..5)).prop_map(|((a, b, c, d), grants)| Desired {
        deployment: DeploymentName::parse("prod").unwrap(),
        protections: [a, b, c, d].into_iter().flatten().collect(),
        grants,
        originals: Vec::new(),
        original_flush_connection: None,
    })
}

fn packets() -> Vec<Packet> {
    let mut sources: BTreeSet<IpAddr> = [
        "8.8.8.8",
        "10.0.0.99",
        "fd00::1",
        "0.0.0.0",
        "255.255.255.255",
        "::",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ]
    .iter()
    .map(|t| ip(t))
    .collect();
    for text in SOURCES.iter().chain(&["10.0.9.0/26"]) {
        let prefix = Prefix::parse(text).unwrap();
        for edge in [prefix.network(), prefix.last()] {
            sources.insert(edge);
            match edge {
                IpAddr::V4(a) => {
                    sources.insert(IpAddr::V4(a.to_bits().wrapping_sub(1).into()));
                    sources.insert(IpAddr::V4(a.to_bits().wrapping_add(1).into()));
                }
                IpAddr::V6(a) => {
                    sources.insert(IpAddr::V6(a.to_bits().wrapping_sub(1).into()));
                    sources.insert(IpAddr::V6(a.to_bits().wrapping_add(1).into()));
                }
            }
        }
    }
    let destinations = [
        "10.0.0.3",
        "10.0.0.4",
        "10.0.0.5",
        "10.0.0.6",
        "10.0.0.7",
        "10.0.0.255",
        "10.0.1.0",
        "10.0.0.99",
        "fd00::5",
        "fd00::6",
    ];
    let mut packets = Vec::new();
    for source in sources {
        for destination in destinations.iter().map(|t| ip(t)).filter(|d| d.is_ipv4() == source.is_ipv4()) {
            for (in_virtual_network, in_internet) in [(true, false), (false, true), (false, false)] {
                for protocol in ["Tcp", "Udp", "Icmp"] {
                    let ports: &[u16] = if protocol == "Icmp" {
                        &[0]
                    } else {
                        &[0, 20, 21, 22, 23, 80, 3389, 5984, 5986, 65535]
                    };
                    for port in ports {
                        for source_port in if protocol == "Icmp" { &[50_000][..] } else { &[50_000, 53][..] }
                        {
                            packets.push(Packet {
                                source,
                                in_virtual_network,
                                in_internet,
                                source_port: *source_port,
                                destination,
                                protocol,
                                port: *port,
                                source_group: None,
                                destination_group: None,
                            });
                        }
                    }
                }
            }
        }
    }
    packets
}

fn covers(port: PortRange, protocol: Protocol, packet: &Packet) -> bool {
    packet.protocol != "Icmp"
        && port.contains(packet.port)
        && (protocol == Protocol::Any || protocol.as_str() == packet.protocol)
}

/// What the desired state says of a packet: none when it is not managed, else whether someone may send it.
fn wish(desired: &Desired, packet: &Packet) -> Option<bool> {
    let covering: Vec<&Protection> = desired
        .protections
        .iter()
        .filter(|p| p.state == ProtectionState::Enabled && p.addresses.contains(&packet.destination))
        .filter(|p| {
            p.ports.iter().any(|q| covers(q.ports, q.protocol, packet))
                // A protection of every port of every protocol has a rule that matches ICMP as well.
                || (packet.protocol == "Icmp" && all_ports_any(p))
        })
        .collect();
    if covering.is_empty() {
        return None;
    }
    Some(covering.iter().any(|p| {
        let excepted = p.exceptions.iter().any(|e| match &e.source {
            ExceptionSource::Prefix(prefix) => prefix.contains(packet.source),
            ExceptionSource::Tag(tag) if tag.is_internet() => packet.in_internet,
            ExceptionSource::Tag(_) => packet.in_virtual_network,
        });
        let granted = desired.grants.iter().any(|g| {
            g.vm == p.vm
                && g.start <= now()
                && now() < g.end
                && g.addresses.contains(&packet.destination)
                && (covers(g.ports, g.protocol, packet)
                    || (packet.protocol == "Icmp"
                        && g.ports == PortRange::ALL
                        && g.protocol == Protocol::Any))
                && g.sources.iter().any(|s| s.contains(packet.source))
        });
        excepted || granted
    }))
}

fn all_ports_any(p: &Protection) -> bool {
    p.ports.iter().any(|q| q.ports == PortRange::ALL && q.protocol == Protocol::Any)
}

fn without_ours(nsg: &Value) -> Vec<oracle::Rule> {
    rules(nsg).into_iter().filter(|r| !r.name.starts_with("ajar-prod-")).collect()
}

fn ours(nsg: &Value) -> Vec<oracle::Rule> {
    rules(nsg).into_iter().filter(|r| r.name.starts_with("ajar-prod-")).collect()
}

fn apply_one(nsg: &NetworkSecurityGroup, write: &RuleWrite) -> NetworkSecurityGroup {
    let mut list = nsg.rules().to_vec();
    match write {
        RuleWrite::Put(rule) => {
            list.retain(|r| r.name() != rule.name());
            list.push(rule.as_ref().clone());
        }
        RuleWrite::Delete(name) => list.retain(|r| r.name() != name),
    }
    nsg.with_rules(list)
}

/// The states that a write goes through, the last being the result.
fn states(nsg: &NetworkSecurityGroup, write: &Write) -> Vec<NetworkSecurityGroup> {
    match write {
        Write::Nothing => vec![nsg.clone()],
        Write::Whole(whole) => vec![whole.clone()],
        Write::Rules(writes) => {
            assert!((1..=2).contains(&writes.len()));
            let mut states = Vec::new();
            let mut at = nsg.clone();
            for write in writes {
                at = apply_one(&at, write);
                states.push(at.clone());
            }
            states
        }
    }
}

fn accepted_by_azure(nsg: &Value) {
    let mut seen = BTreeSet::new();
    for rule in nsg["properties"]["securityRules"].as_array().unwrap() {
        let p = &rule["properties"];
        assert!((100..=4096).contains(&p["priority"].as_u64().unwrap()), "{rule}");
        assert!(seen.insert((p["direction"].to_string(), p["priority"].to_string())), "two at {rule}");
        assert!(p["description"].as_str().unwrap_or_default().chars().count() <= 140);
        assert!(rule["name"].as_str().unwrap().len() <= 80);
        if !rule["name"].as_str().unwrap().starts_with("ajar-") {
            continue;
        }
        for (one, many) in [
            ("sourceAddressPrefix", "sourceAddressPrefixes"),
            ("destinationAddressPrefix", "destinationAddressPrefixes"),
            ("destinationPortRange", "destinationPortRanges"),
        ] {
            assert!(p[one].is_null() != p[many].is_null(), "one of {one} and {many}: {rule}");
            let list: Vec<&str> =
                p[many].as_array().into_iter().flatten().map(|v| v.as_str().unwrap()).collect();
            assert!(p[many].is_null() || list.len() > 1);
            if many.contains("Address") {
                for text in &list {
                    assert!(
                        text.parse::<IpAddr>().is_ok() || Prefix::parse(text).is_ok(),
                        "{text} in a list"
                    );
                }
                assert!(
                    list.iter().all(|t| t.contains(':')) || list.iter().all(|t| !t.contains(':')),
                    "mixed families"
                );
            }
        }
    }
}

/// Other people's rules: none lost, none added, nothing but priorities changed, order kept.
fn others_keep_order(before: &Value, after: &Value) {
    let list = |nsg: &Value| {
        let mut rules: Vec<Value> = nsg["properties"]["securityRules"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|r| !r["name"].as_str().unwrap().starts_with("ajar-prod-"))
            .cloned()
            .collect();
        rules.sort_by_key(|r| {
            (r["properties"]["direction"].to_string(), r["properties"]["priority"].as_u64())
        });
        for rule in &mut rules {
            rule["properties"].as_object_mut().unwrap().remove("priority");
        }
        rules
    };
    assert_eq!(list(before), list(after));
}

struct Step {
    result: NetworkSecurityGroup,
    desired: Desired,
    notes: Vec<Note>,
}

/// Plans, applies and checks everything that holds in every mode; none when Azure's numbers leave no room.
fn step(nsg: &NetworkSecurityGroup, mut desired: Desired, all: &[Packet]) -> Option<Step> {
    let before_json = nsg.to_json();
    let planned = match plan(nsg, &desired, now()) {
        Ok(planned) => planned,
        Err(PlanError::NoFreePriority { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    desired.originals = planned.originals;
    desired.original_flush_connection = planned.original_flush_connection;
    let states = states(nsg, &planned.write);
    let result = states.last().unwrap().clone();
    let result_json = result.to_json();
    for state in &states {
        accepted_by_azure(&state.to_json());
        others_keep_order(&before_json, &state.to_json());
    }

    let (before, after, others) = (rules(&before_json), rules(&result_json), without_ours(&before_json));
    let denied_by_us = ours(&before_json);
    let between: Vec<Vec<oracle::Rule>> =
        states[..states.len() - 1].iter().map(|s| rules(&s.to_json())).collect();
    let accounted: BTreeSet<IpAddr> =
        desired.protections.iter().flat_map(|p| p.addresses.iter().chain(&p.released)).copied().collect();
    for packet in all {
        let was = decide(&before, packet);
        let is = decide(&after, packet).0;
        for rules in &between {
            let passing = decide(rules, packet).0;
            assert!(!passing || was.0 || is, "opened on the way: {packet:?}");
            assert!(!(was.0 && is) || passing, "closed on the way: {packet:?}");
        }
        let orphan = !accounted.contains(&packet.destination) && decide(&denied_by_us, packet).1.is_some();
        if orphan {
            let denied = was.1.is_some_and(|name| name.contains("-deny-"));
            assert!(!denied || !is, "absence opened {packet:?}");
        } else if wish(&desired, packet).is_none() {
            assert_eq!(is, decide(&others, packet).0, "not managed, yet changed: {packet:?}");
        }
    }

    let again = plan(&result, &desired, now()).unwrap();
    assert_eq!(again.write, Write::Nothing, "planning again from {result_json}");
    verify(&result, &desired, now()).unwrap();
    Some(Step { result, desired, notes: planned.notes })
}

/// A rule that the grouping of the design gives: family, protocol, whether for exceptions, ports, and sources (or a
/// tag), ports and sources by those of the packets that are in them. VMs of equal groups share a rule.
type Group = (bool, Protocol, bool, BTreeSet<u16>, BTreeSet<IpAddr>, Option<String>);

fn groups(desired: &Desired, all: &[Packet]) -> BTreeSet<Group> {
    let sources: BTreeSet<IpAddr> = all.iter().map(|p| p.source).collect();
    let ports: BTreeSet<u16> = all.iter().map(|p| p.port).chain([5985]).collect();
    let mut groups = BTreeSet::new();
    for protection in desired.protections.iter().filter(|p| p.state == ProtectionState::Enabled) {
        let listed = |protocol: Protocol, port: u16| {
            protection.ports.iter().any(|q| q.protocol == protocol && q.ports.contains(port))
        };
        for of_policy in [Protocol::Tcp, Protocol::Udp, Protocol::Any] {
            let managed = |port: &u16| {
                listed(of_policy, *port) && (of_policy == Protocol::Any || !listed(Protocol::Any, *port))
            };
            let mut united: std::collections::BTreeMap<
                (bool, Protocol, bool, BTreeSet<u16>),
                BTreeSet<IpAddr>,
            > = std::collections::BTreeMap::new();
            let mut add = |protocol: Protocol, exception: bool, ports: BTreeSet<u16>, prefixes: &[Prefix]| {
                for v4 in [true, false] {
                    let behind = protection.addresses.iter().any(|a| a.is_ipv4() == v4);
                    let from = sources.iter().filter(|s| s.is_ipv4() == v4);
                    let from: BTreeSet<IpAddr> =
                        from.filter(|s| prefixes.iter().any(|p| p.contains(**s))).copied().collect();
                    if behind && !ports.is_empty() && !from.is_empty() {
                        united.entry((v4, protocol, exception, ports.clone())).or_default().extend(from);
                    }
                }
            };
            let own: BTreeSet<u16> = ports.iter().filter(|p| managed(p)).copied().collect();
            let mut tags = Vec::new();
            for exception in &protection.exceptions {
                match &exception.source {
                    ExceptionSource::Prefix(prefix) => add(of_policy, true, own.clone(), &[*prefix]),
                    ExceptionSource::Tag(tag) => tags.push(tag.to_string()),
                }
            }
            for grant in desired.grants.iter().filter(|g| g.vm == protection.vm && g.is_active(now())) {
                let granted = own.iter().filter(|p| grant.ports.contains(**p)).copied().collect();
                if let Some(protocol) = of_policy.intersection(grant.protocol) {
                    add(protocol, false, granted, &grant.sources);
                }
            }
            groups.extend(united.into_iter().map(|((v4, protocol, exception, ports), from)| {
                (v4, protocol, exception, ports, from, None)
            }));
            for tag in tags.into_iter().filter(|_| !own.is_empty()) {
                for v4 in protection.addresses.iter().map(IpAddr::is_ipv4) {
                    groups.insert((v4, of_policy, true, own.clone(), BTreeSet::new(), Some(tag.clone())));
                }
            }
        }
    }
    groups
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn superseding_opens_exactly_what_is_granted(start in nsg(), wishes in proptest::collection::vec(desired(false), 1..4)) {
        let all = packets();
        let mut at = start;
        let (mut originals, mut flush) = (Vec::new(), None);
        for mut desired in wishes {
            desired.originals = originals.clone();
            desired.original_flush_connection = flush;
            let Some(step) = step(&at, desired, &all) else { return Ok(()) };
            let after = rules(&step.result.to_json());
            for packet in &all {
                if let Some(allowed) = wish(&step.desired, packet) {
                    prop_assert_eq!(decide(&after, packet).0, allowed, "{:?}", packet);
                }
            }
            let respected = step.notes.iter().any(|n| matches!(n, Note::RespectedRules { .. }));
            prop_assert!(!respected, "superseding leaves nothing open");
            (at, originals, flush) = (step.result, step.desired.originals, step.desired.original_flush_connection);
        }
    }

    #[test]
    fn respecting_opens_nothing_that_other_rules_do_not(start in nsg(), wishes in proptest::collection::vec(desired(true), 1..3)) {
        let all = packets();
        let mut at = start;
        for desired in wishes {
            let Some(step) = step(&at, desired, &all) else { return Ok(()) };
            let json = step.result.to_json();
            let after = rules(&json);
            let noted: BTreeSet<String> = step.notes.iter().flat_map(|n| match n {
                Note::RespectedRules { rules, .. } => rules.clone(),
                _ => Vec::new(),
            }).collect();
            for packet in &all {
                let Some(allowed) = wish(&step.desired, packet) else { continue };
                let (is, by) = decide(&after, packet);
                if is != allowed && packet.protocol != "Icmp" {
                    let by = by.expect("a custom rule decides managed packets");
                    prop_assert!(noted.contains(by), "{} decides {:?} and is not noted", by, packet);
                }
            }
            prop_assert_eq!(&step.desired.originals, &Vec::new(), "respect moves nothing");
            at = step.result;
        }
    }

    #[test]
    fn protections_that_supersede_are_exact_beside_ones_that_respect(start in nsg(), mut wish_now in desired(false), modes in any::<[bool; 4]>()) {
        for (protection, respect) in wish_now.protections.iter_mut().zip(modes) {
            protection.existing_rules = if respect { ExistingRules::Respect } else { ExistingRules::Supersede };
        }
        let all = packets();
        let Some(step) = step(&start, wish_now, &all) else { return Ok(()) };
        let after = rules(&step.result.to_json());
        let mut strict = step.desired.clone();
        strict.protections.retain(|p| p.existing_rules == ExistingRules::Supersede);
        for packet in &all {
            if let Some(allowed) = wish(&strict, packet) {
                prop_assert_eq!(decide(&after, packet).0, allowed, "{:?}", packet);
            }
        }
    }

    #[test]
    fn small_changes_are_made_in_a_safe_order(start in nsg(), first in desired(false), gone in any::<proptest::sample::Index>(), new in grant(), change in 0u8..4) {
        let all = packets();
        let Some(one) = step(&start, first, &all) else { return Ok(()) };
        let mut next = one.desired;
        if change != 1 && !next.grants.is_empty() {
            next.grants.remove(gone.index(next.grants.len()));
        }
        if change != 2 {
            next.grants.push(new);
        }
        if change == 3 && !next.protections.is_empty() {
            let at = gone.index(next.protections.len());
            next.protections[at].state = ProtectionState::Retired;
        }
        // Checks every state on the way.
        step(&one.result, next, &all);
    }

    #[test]
    fn turning_off_brings_everything_back(start in nsg(), mut wish in desired(false)) {
        for protection in &mut wish.protections {
            protection.state = ProtectionState::Enabled;
        }
        prop_assume!(!wish.protections.is_empty());
        let Some(on) = step(&start, wish.clone(), &packets()) else { return Ok(()) };
        let mut off = on.desired;
        for protection in &mut off.protections {
            protection.state = ProtectionState::Disabling;
        }
        let planned = plan(&on.result, &off, now()).unwrap();
        let back = states(&on.result, &planned.write).last().unwrap().clone();
        prop_assert_eq!(back.rules(), start.rules());
        prop_assert_eq!(back.flush_connection().unwrap_or(false), start.flush_connection().unwrap_or(false));
        off.originals = planned.originals;
        off.original_flush_connection = planned.original_flush_connection;
        let again = plan(&back, &off, now()).unwrap();
        prop_assert_eq!(again.write, Write::Nothing);
        prop_assert_eq!((again.originals.len(), again.original_flush_connection), (0, None));
    }

    #[test]
    fn no_more_rules_than_the_grouping_gives_and_none_opens_an_ungranted_pair(start in nsg(), wish_now in desired(false)) {
        let all = packets();
        let Some(step) = step(&start, wish_now, &all) else { return Ok(()) };
        let allows: Vec<oracle::Rule> = ours(&step.result.to_json())
            .into_iter()
            .filter(|r| r.name.starts_with("ajar-prod-allow-"))
            .collect();
        let most = groups(&step.desired, &all).len();
        prop_assert!(allows.len() <= most, "{} rules where {most} do", allows.len());
        for rule in &allows {
            for packet in &all {
                if decide(std::slice::from_ref(rule), packet) == (true, Some(&rule.name)) {
                    prop_assert_eq!(wish(&step.desired, packet), Some(true), "{} opens {:?}", rule.name, packet);
                }
            }
        }
    }

    #[test]
    fn the_next_boundary_is_when_something_changes(wish in desired(false)) {
        let active = |t: Timestamp| wish.grants.iter().map(|g| g.is_active(t)).collect::<Vec<_>>();
        if let Some(next) = next_boundary(&wish, now()) {
            prop_assert!(next > now());
            prop_assert_eq!(active(next - SignedDuration::from_secs(1)), active(now()));
            prop_assert_ne!(active(next), active(now()));
        } else {
            prop_assert!(wish.grants.iter().all(|g| g.end <= now()));
        }
    }
}
