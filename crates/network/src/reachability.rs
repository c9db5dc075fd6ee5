//! Exact reachability: which sources reach an address, protocol and port through one NSG and through a path.
//!
//! The answer comes as two bounds. `possible` holds every source that may pass, `certain` every source that does
//! pass whatever could not be read; where everything was readable they are equal. Nothing unreadable is ever taken
//! for closed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::address::{AddressSet, Prefix, SourceGroup, SourceSet, SourceTerm};
use crate::admin::AdminRules;
use crate::nsg::{Access, Direction, Endpoint, NetworkSecurityGroup, RuleMeaning, SecurityRule};
use crate::ports::{Port, PortSet, Protocol};
use crate::resource_id::ResourceId;

/// The inbound rules that every NSG ends with and nobody can remove: `AllowVnetInBound`,
/// `AllowAzureLoadBalancerInBound`, `DenyAllInBound` [network-facts: identical on 53 of 53 live NSGs].
#[must_use]
pub fn default_inbound_rules() -> &'static [SecurityRule] {
    static RULES: LazyLock<Vec<SecurityRule>> = LazyLock::new(|| {
        let rule = |name: &str, priority: u16, source: &str, destination: &str, access: Access| {
            SecurityRule::from_json(json!({ "name": name, "properties": {
                "protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*",
                "sourceAddressPrefix": source, "destinationAddressPrefix": destination,
                "access": access, "priority": priority, "direction": Direction::Inbound,
            }}))
        };
        vec![
            rule("AllowVnetInBound", 65000, "VirtualNetwork", "VirtualNetwork", Access::Allow),
            rule("AllowAzureLoadBalancerInBound", 65001, "AzureLoadBalancer", "*", Access::Allow),
            rule("DenyAllInBound", 65500, "*", "*", Access::Deny),
        ]
    });
    &RULES
}

/// Where a packet goes: a VM's private address, and the application security groups it is a member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The private address.
    pub address: IpAddr,
    /// The application security groups of the ip configuration; none when they are not known, which makes rules
    /// with such destinations uncertain.
    pub groups: Option<BTreeSet<ResourceId>>,
}

impl Destination {
    /// An address whose application security groups are not known.
    #[must_use]
    pub const fn address(address: IpAddr) -> Self {
        Self { address, groups: None }
    }
}

/// What is asked about: a destination, a protocol and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Where to.
    pub destination: Destination,
    /// TCP, UDP, ICMP, ESP or AH. `Any` matches rules of protocol `*` only and is of little use.
    pub protocol: Protocol,
    /// The destination port; has no meaning for protocols without ports.
    pub port: Port,
}

/// What one rule decides of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The rule's name.
    pub rule: String,
    /// The rule's priority.
    pub priority: Option<u16>,
    /// What it does; none when unreadable.
    pub access: Option<Access>,
    /// Whether it is one of the [default rules](default_inbound_rules).
    pub is_default: bool,
    /// The sources that it may decide.
    pub possible: SourceSet,
    /// The sources that it surely decides.
    pub certain: SourceSet,
}

/// Something that could not be read or is not known, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uncertainty {
    /// The rule or resource.
    pub subject: String,
    /// What is wrong, in words.
    pub explanation: String,
}

/// Who passes one NSG.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NsgReach {
    /// Every source that may pass, from some source port.
    pub possible: SourceSet,
    /// Every source that surely passes, from some source port.
    pub certain: SourceSet,
    /// Every source that surely passes, whatever source port it uses.
    pub certain_from_every_port: SourceSet,
    /// The rules that decide, in order of evaluation.
    pub decisions: Vec<Decision>,
    /// Why the two bounds may differ.
    pub uncertainties: Vec<Uncertainty>,
}

impl NsgReach {
    /// Who passes because a custom rule lets them: at least, or at most.
    pub(crate) fn custom_allow(&self, certain: bool) -> SourceSet {
        let allows = self.decisions.iter().filter(|d| !d.is_default && d.access != Some(Access::Deny));
        if certain {
            let sure = allows.filter(|d| d.access.is_some()).flat_map(|d| d.certain.terms().to_vec());
            SourceSet::from_terms(sure).intersection(&self.certain)
        } else {
            SourceSet::from_terms(allows.flat_map(|d| d.possible.terms().to_vec()))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Match {
    No,
    Maybe,
    Yes,
}

/// A rule that may match a flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relevant<'a> {
    rule: &'a RuleMeaning,
    /// How far it matches, its source and source port aside.
    matches: Match,
    is_default: bool,
}

impl<'a> Relevant<'a> {
    /// A custom rule.
    pub(crate) const fn of(rule: &'a RuleMeaning, matches: Match) -> Self {
        Self { rule, matches, is_default: false }
    }

    pub(crate) fn may_match(&self) -> bool {
        self.matches != Match::No
    }
}

/// The custom inbound rules of an NSG in order of evaluation.
#[derive(Debug, Clone)]
pub struct InboundRules<'a> {
    rules: Vec<&'a RuleMeaning>,
    gates: Vec<Gate>,
}

/// What of a rule is looked at first, close together in memory: most rules are about other ports or protocols.
#[derive(Debug, Clone, Copy)]
struct Gate {
    /// The lowest and highest port that it may match.
    ports: (Port, Port),
    /// The protocol that it matches; all when it cannot be read.
    protocol: Protocol,
}

impl Gate {
    fn of(rule: &RuleMeaning) -> Self {
        let ports = &rule.destination_ports;
        let ports = match ports.ports.hull() {
            Some(hull) if ports.unreadable.is_empty() => hull,
            None if ports.unreadable.is_empty() => (1, 0),
            _ => (0, Port::MAX),
        };
        Self { ports, protocol: rule.protocol.unwrap_or(Protocol::Any) }
    }

    fn lets(self, protocol: Protocol, port: Port) -> bool {
        (self.protocol == Protocol::Any || self.protocol == protocol)
            && (!protocol.has_ports() || (self.ports.0 <= port && port <= self.ports.1))
    }
}

impl<'a> InboundRules<'a> {
    /// Of an NSG.
    #[must_use]
    pub fn of(nsg: &'a NetworkSecurityGroup) -> Self {
        Self::from_rules(nsg.rules())
    }

    /// Of these rules; outbound ones are left out. Rules without a readable priority come first, as uncertain.
    #[must_use]
    pub fn from_rules(rules: impl IntoIterator<Item = &'a SecurityRule>) -> Self {
        Self::from_meanings(rules.into_iter().map(SecurityRule::meaning))
    }

    /// As [`from_rules`](Self::from_rules), of what the rules mean.
    #[must_use]
    pub fn from_meanings(rules: impl IntoIterator<Item = &'a RuleMeaning>) -> Self {
        let mut rules: Vec<_> =
            rules.into_iter().filter(|r| r.direction != Some(Direction::Outbound)).collect();
        rules.sort_by_key(|r| r.priority);
        let gates = rules.iter().map(|r| Gate::of(r)).collect();
        Self { rules, gates }
    }

    /// The rules in order of evaluation.
    #[must_use]
    pub fn rules(&self) -> &[&'a RuleMeaning] {
        &self.rules
    }

    /// The rules that may match packets of the protocol to the port, as far as the first look tells.
    pub(crate) fn about(&self, protocol: Protocol, port: Port) -> impl Iterator<Item = &'a RuleMeaning> {
        self.gates.iter().zip(&self.rules).filter(move |(g, _)| g.lets(protocol, port)).map(|(_, r)| *r)
    }

    fn relevant(&self, flow: &Flow) -> Vec<Relevant<'a>> {
        let custom = self.about(flow.protocol, flow.port).map(|r| Relevant::of(r, matching(r, flow)));
        let default = default_inbound_rules().iter().map(SecurityRule::meaning).map(|rule| Relevant {
            rule,
            matches: matching(rule, flow),
            is_default: true,
        });
        custom.chain(default).filter(Relevant::may_match).collect()
    }

    /// One source port of each class that the NSG's rules treat alike for this flow, an ephemeral one first.
    pub(crate) fn source_ports(&self, flow: &Flow) -> BTreeSet<Port> {
        source_ports(&self.relevant(flow), flow)
    }

    /// Who passes, from any source port.
    #[must_use]
    pub fn reach(&self, flow: &Flow) -> NsgReach {
        let relevant = self.relevant(flow);
        let parts = source_ports(&relevant, flow).into_iter().map(|port| reach_over(&relevant, flow, port));
        parts.reduce(merge).unwrap_or_default()
    }

    /// Who passes, from this source port.
    #[must_use]
    pub fn reach_from_port(&self, flow: &Flow, source_port: Port) -> NsgReach {
        reach_over(&self.relevant(flow), flow, source_port)
    }
}

/// One source port of each class that the rules treat alike for this flow, an ephemeral one among them.
pub(crate) fn source_ports(relevant: &[Relevant<'_>], flow: &Flow) -> BTreeSet<Port> {
    let mut ports = BTreeSet::from([EPHEMERAL]);
    if flow.protocol.has_ports() {
        for Relevant { rule, .. } in relevant {
            for range in rule.source_ports.ports.ranges().filter(|r| r.last() - r.first() < Port::MAX) {
                ports.insert(range.first());
                ports.insert(range.last());
                ports.extend(range.first().checked_sub(1));
                ports.extend(range.last().checked_add(1));
            }
        }
    }
    ports
}

pub(crate) fn reach_over(relevant: &[Relevant<'_>], flow: &Flow, source_port: Port) -> NsgReach {
    let mut reach = NsgReach::default();
    let mut maybe_left = SourceTerm::unconditional(AddressSet::family_of(flow.destination.address));
    // None: the same as `maybe_left`, as long as everything was clear.
    let mut surely_left: Option<SourceTerm> = None;
    let (mut possible, mut certain) = (Vec::new(), Vec::new());
    for &Relevant { rule, matches, is_default } in relevant {
        if maybe_left.is_empty() {
            break;
        }
        let port_match = match &rule.source_ports {
            _ if !flow.protocol.has_ports() => Match::Yes,
            p if p.ports.contains(source_port) => Match::Yes,
            p if !p.unreadable.is_empty() => Match::Maybe,
            _ => Match::No,
        };
        let order = if rule.priority.is_some() { Match::Yes } else { Match::Maybe };
        let overall = matches.min(port_match).min(order);
        if overall == Match::No {
            continue;
        }
        let source = &rule.source;
        let readable = source.unreadable.is_empty();
        let at_most =
            if readable { meet(&maybe_left, source) } else { SourceSet::from_terms([maybe_left.clone()]) };
        if at_most.is_empty() {
            continue;
        }
        if overall == Match::Maybe || !readable {
            surely_left.get_or_insert_with(|| maybe_left.clone());
        }
        let at_least = match &surely_left {
            _ if overall == Match::Maybe => SourceSet::none(),
            None => at_most.clone(),
            Some(left) => meet(left, source),
        };
        if overall == Match::Maybe || !readable || rule.access.is_none() {
            reach.uncertainties.push(explain(rule, flow));
        }
        if rule.access != Some(Access::Deny) {
            possible.extend_from_slice(at_most.terms());
        }
        if rule.access == Some(Access::Allow) {
            certain.extend_from_slice(at_least.terms());
        }
        match &mut surely_left {
            None => {}
            Some(left) if readable => subtract(left, source),
            Some(left) => left.addresses = AddressSet::empty(),
        }
        if overall == Match::Yes {
            subtract(&mut maybe_left, source);
        }
        reach.decisions.push(Decision {
            rule: rule.name.clone(),
            priority: rule.priority,
            access: rule.access,
            is_default,
            possible: at_most,
            certain: at_least,
        });
    }
    reach.possible = SourceSet::from_terms(possible);
    reach.certain = SourceSet::from_terms(certain);
    reach.certain_from_every_port = reach.certain.clone();
    reach
}

/// The source port tried first: clients use ephemeral ones.
pub(crate) const EPHEMERAL: Port = 50_000;

fn merge(mut a: NsgReach, b: NsgReach) -> NsgReach {
    a.possible = a.possible.union(&b.possible);
    a.certain = a.certain.union(&b.certain);
    a.certain_from_every_port = a.certain_from_every_port.intersection(&b.certain_from_every_port);
    for decision in b.decisions {
        let same = a.decisions.iter_mut().find(|d| {
            d.rule == decision.rule && d.priority == decision.priority && d.is_default == decision.is_default
        });
        match same {
            Some(d) => {
                d.possible = d.possible.union(&decision.possible);
                d.certain = d.certain.union(&decision.certain);
            }
            None => a.decisions.push(decision),
        }
    }
    a.decisions.sort_by_key(|d| d.priority);
    for uncertainty in b.uncertainties {
        if !a.uncertainties.contains(&uncertainty) {
            a.uncertainties.push(uncertainty);
        }
    }
    a
}

fn meet(left: &SourceTerm, side: &Endpoint) -> SourceSet {
    if side.any {
        return SourceSet::from_terms([left.clone()]);
    }
    let by_address = SourceTerm { addresses: left.addresses.intersection(&side.addresses), ..left.clone() };
    let by_group = side.groups.iter().map(|group| {
        let mut term = left.clone();
        term.within.insert(group.clone());
        term
    });
    SourceSet::from_terms(std::iter::once(by_address).chain(by_group))
}

/// Takes what a rule decides away. What is left is one term again: fewer addresses, outside more groups.
fn subtract(left: &mut SourceTerm, side: &Endpoint) {
    if side.any {
        left.addresses = AddressSet::empty();
        return;
    }
    left.addresses.take(&side.addresses);
    left.outside.extend(side.groups.iter().cloned());
}

/// Addresses that no published service tag holds: private, link-local and shared ones.
fn private_space() -> &'static AddressSet {
    static SPACE: LazyLock<AddressSet> = LazyLock::new(|| {
        [
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "fc00::/7",
            "fe80::/10",
        ]
        .iter()
        .filter_map(|t| Prefix::parse(t).ok())
        .collect()
    });
    &SPACE
}

/// How far a rule matches a flow, its source aside.
///
/// Ports have no meaning for ICMP, ESP and AH: a rule of such a protocol matches whatever ports it lists, and a
/// rule of protocol `*` with certain ports is taken not to match them (not documented by Azure).
pub(crate) fn matching(rule: &RuleMeaning, flow: &Flow) -> Match {
    let direction = match rule.direction {
        Some(Direction::Inbound) => Match::Yes,
        Some(Direction::Outbound) => return Match::No,
        None => Match::Maybe,
    };
    let protocol = match rule.protocol {
        None => Match::Maybe,
        Some(p) if p == Protocol::Any || p == flow.protocol => Match::Yes,
        Some(_) => return Match::No,
    };
    let ports = &rule.destination_ports;
    let port = if flow.protocol.has_ports() {
        if ports.ports.contains(flow.port) {
            Match::Yes
        } else if ports.unreadable.is_empty() {
            return Match::No;
        } else {
            Match::Maybe
        }
    } else if rule.protocol == Some(Protocol::Any) && !ports.ports.is_all() {
        if ports.unreadable.is_empty() {
            return Match::No;
        }
        Match::Maybe
    } else {
        Match::Yes
    };
    direction.min(protocol).min(port).min(destination_match(&rule.destination, &flow.destination))
}

fn destination_match(side: &Endpoint, destination: &Destination) -> Match {
    if side.any || side.addresses.contains(destination.address) {
        return Match::Yes;
    }
    let by_group = side.groups.iter().map(|group| match (group, &destination.groups) {
        (SourceGroup::Tag(tag), _) if tag.is_virtual_network() => Match::Yes,
        (SourceGroup::Tag(tag), _) if tag.is_internet() || tag.is_azure_load_balancer() => Match::No,
        (SourceGroup::Tag(_), _) if private_space().contains(destination.address) => Match::No,
        (SourceGroup::Tag(_), _) | (SourceGroup::ApplicationSecurityGroup(_), None) => Match::Maybe,
        (SourceGroup::ApplicationSecurityGroup(id), Some(groups)) => {
            if groups.contains(id) {
                Match::Yes
            } else {
                Match::No
            }
        }
    });
    let best = by_group.max().unwrap_or(Match::No);
    if side.unreadable.is_empty() { best } else { best.max(Match::Maybe) }
}

fn explain(rule: &RuleMeaning, flow: &Flow) -> Uncertainty {
    let mut problems = Vec::new();
    if rule.priority.is_none() {
        problems.push("its priority cannot be read, so it may come before any other".to_owned());
    }
    if rule.direction.is_none() {
        problems.push("its direction cannot be read".to_owned());
    }
    if rule.access.is_none() {
        problems.push("whether it allows or denies cannot be read".to_owned());
    }
    if rule.protocol.is_none() {
        problems.push("its protocol cannot be read".to_owned());
    }
    let parts = [
        ("source", &rule.source.unreadable),
        ("destination", &rule.destination.unreadable),
        ("source port", &rule.source_ports.unreadable),
        ("destination port", &rule.destination_ports.unreadable),
    ];
    for (part, unreadable) in parts {
        if !unreadable.is_empty() {
            problems.push(format!("its {part} cannot be read: {}", unreadable.join(", ")));
        }
    }
    if problems.is_empty() {
        problems.push(format!("whether {} is among its destinations is not known", flow.destination.address));
    }
    Uncertainty { subject: rule.name.clone(), explanation: problems.join("; ") }
}

/// A packet that passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Witness {
    /// Where it comes from.
    pub source: IpAddr,
    /// The groups its source must lie in for the packet to pass; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<SourceGroup>,
    /// The groups its source must not lie in; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<SourceGroup>,
    /// The port it comes from.
    pub source_port: Port,
    /// The VM's private address.
    pub destination: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// The VM's port.
    pub port: Port,
}

impl Witness {
    /// A packet of the flow from one of these sources: from an unconditional term if there is one, from a public
    /// address if there is one.
    pub(crate) fn from_set(sources: &SourceSet, flow: &Flow, source_port: Port) -> Option<Self> {
        let term = sources.terms().iter().min_by_key(|t| t.within.len() + t.outside.len())?;
        let source = term.addresses.first_common(public_space()).or_else(|| term.addresses.first())?;
        Some(Self {
            source,
            within: term.within.iter().cloned().collect(),
            outside: term.outside.iter().cloned().collect(),
            source_port,
            destination: flow.destination.address,
            protocol: flow.protocol,
            port: flow.port,
        })
    }
}

/// Public unicast addresses (RFC 6890, less Azure's virtual host address); documentation ranges count as public.
pub(crate) fn public_space() -> &'static AddressSet {
    static SPACE: LazyLock<AddressSet> = LazyLock::new(|| {
        let special: AddressSet = [
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "224.0.0.0/3",
        ]
        .iter()
        .filter_map(|t| Prefix::parse(t).ok())
        .collect();
        let v6: AddressSet = Prefix::parse("2000::/3").into_iter().collect();
        AddressSet::all_v4().difference(&special).union(&v6)
    });
    &SPACE
}

/// What filters a packet at one level of its path.
#[derive(Debug, Clone)]
pub enum Level<'a> {
    /// An NSG whose rules are known.
    Filtered {
        /// The NSG.
        nsg: ResourceId,
        /// Its rules.
        rules: InboundRules<'a>,
    },
    /// Something that may filter, but cannot be read.
    Unreadable(Uncertainty),
}

/// Who passes a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathReach {
    /// Every source that may pass.
    pub possible: SourceSet,
    /// Every source that surely passes.
    pub certain: SourceSet,
    /// The sources that may pass because a custom rule lets them, at one level at least.
    pub possible_by_custom_rule: SourceSet,
    /// The sources that surely pass because a custom rule lets them, at one level at least.
    pub certain_by_custom_rule: SourceSet,
    /// The sources that may pass because a security admin rule lets them, whatever the NSGs say.
    pub always_allowed: SourceSet,
    /// The deciding rules of each NSG, in order of the path; those of security admin rules first, under their VNet.
    pub points: Vec<(ResourceId, Vec<Decision>)>,
    /// A packet that surely passes, through a custom rule if one lets it; or else one that may.
    pub witness: Option<Witness>,
    /// Why the bounds may differ.
    pub uncertainties: Vec<Uncertainty>,
}

/// Who passes all levels (subnet NSG first, then NIC NSG). No level: everybody passes.
#[must_use]
pub fn path_reach(levels: &[Level<'_>], flow: &Flow) -> PathReach {
    path_reach_under(None, levels, flow)
}

/// As [`path_reach`], with the security admin rules of the VNet before all levels.
#[must_use]
pub fn path_reach_under(admin: Option<&AdminRules>, levels: &[Level<'_>], flow: &Flow) -> PathReach {
    let mut ports = BTreeSet::from([EPHEMERAL]);
    ports.extend(admin.into_iter().flat_map(|a| a.source_ports(flow)));
    for level in levels {
        if let Level::Filtered { rules, .. } = level {
            ports.extend(rules.source_ports(flow));
        }
    }
    let mut ports: Vec<Port> = ports.into_iter().collect();
    ports.sort_by_key(|p| *p != EPHEMERAL);
    let everything = SourceSet::from_addresses(AddressSet::family_of(flow.destination.address));
    let mut whole = PathReach::default();
    let mut merged: BTreeMap<usize, NsgReach> = BTreeMap::new();
    let mut above: Option<NsgReach> = None;
    let mut witnesses: [Option<Witness>; 4] = [None, None, None, None];
    for port in ports {
        let mut possible = everything.clone();
        let mut certain = everything.clone();
        let (mut custom_possible, mut custom_certain) = (SourceSet::none(), SourceSet::none());
        for (index, level) in levels.iter().enumerate() {
            let reach = match level {
                Level::Filtered { rules, .. } => rules.reach_from_port(flow, port),
                Level::Unreadable(uncertainty) => NsgReach {
                    possible: everything.clone(),
                    uncertainties: vec![uncertainty.clone()],
                    ..NsgReach::default()
                },
            };
            let by_custom = match level {
                Level::Filtered { .. } => reach.custom_allow(false),
                Level::Unreadable(_) => everything.clone(),
            };
            custom_possible =
                custom_possible.intersection(&reach.possible).union(&possible.intersection(&by_custom));
            custom_certain = custom_certain
                .intersection(&reach.certain)
                .union(&certain.intersection(&reach.custom_allow(true)));
            possible = possible.intersection(&reach.possible);
            certain = certain.intersection(&reach.certain);
            let before = merged.remove(&index);
            merged.insert(index, before.map_or_else(|| reach.clone(), |b| merge(b, reach.clone())));
        }
        if let Some(rules) = admin {
            let reach = rules.reach_from_port(flow, port);
            custom_possible = reach.over_possible(&custom_possible);
            custom_certain = reach.over_certain(&custom_certain);
            possible = reach.over_possible(&possible);
            certain = reach.over_certain(&certain);
            whole.always_allowed = whole.always_allowed.union(&reach.always_possible);
            let part = NsgReach {
                decisions: reach.decisions,
                uncertainties: reach.uncertainties,
                ..NsgReach::default()
            };
            above = Some(match above {
                Some(before) => merge(before, part),
                None => part,
            });
        }
        for (slot, set) in witnesses.iter_mut().zip([&custom_certain, &certain, &custom_possible, &possible])
        {
            if slot.is_none() {
                *slot = Witness::from_set(set, flow, port);
            }
        }
        whole.possible = whole.possible.union(&possible);
        whole.certain = whole.certain.union(&certain);
        whole.possible_by_custom_rule = whole.possible_by_custom_rule.union(&custom_possible);
        whole.certain_by_custom_rule = whole.certain_by_custom_rule.union(&custom_certain);
    }
    whole.witness = witnesses.into_iter().flatten().next();
    if let (Some(rules), Some(reach)) = (admin, above) {
        whole.points.push((rules.network.clone(), reach.decisions));
        whole.uncertainties.extend(reach.uncertainties);
    }
    for (level, reach) in levels.iter().zip(merged.into_values()) {
        if let Level::Filtered { nsg, .. } = level {
            whole.points.push((nsg.clone(), reach.decisions));
        }
        whole.uncertainties.extend(reach.uncertainties);
    }
    whole
}

/// The port sets that the rules treat alike within `ports`: one port of each is enough to know them all.
#[must_use]
pub fn port_classes<'a>(rules: impl IntoIterator<Item = &'a RuleMeaning>, ports: &PortSet) -> Vec<PortSet> {
    let mut starts: BTreeSet<Port> = ports.ranges().map(|r| r.first()).collect();
    for rule in rules {
        for range in rule.destination_ports.ports.ranges() {
            starts.insert(range.first());
            starts.extend(range.last().checked_add(1));
        }
    }
    let mut classes = Vec::new();
    for range in ports.ranges() {
        let inside: Vec<Port> = starts.range(range.first()..=range.last()).copied().collect();
        for (i, first) in inside.iter().enumerate() {
            let last = inside.get(i + 1).map_or(range.last(), |next| next - 1);
            classes.extend(crate::ports::PortRange::new(*first, last).map(PortSet::from));
        }
    }
    classes
}
