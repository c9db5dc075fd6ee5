//! From desired state to the rules that should exist, priorities aside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use super::describe;
use super::desired::{DeploymentName, Desired, ExceptionSource, ProtectedPort, Protection, ProtectionState};
use super::{MAX_PREFIXES, Note, PlanError};
use crate::address::{AddressSet, Prefix, ServiceTag};
use crate::nsg::{Access, Direction, NetworkSecurityGroup, RuleSource, RuleSpec, SecurityRule};
use crate::ports::{PortSet, Protocol};
use crate::resource_id::ResourceId;

/// A rule that should exist; its priority is found later.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    Generated(Box<RuleSpec>),
    /// A managed deny rule that covers more than a list of addresses: it stays as it is, wherever it came from.
    Kept(Box<SecurityRule>),
}

impl Wanted {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Generated(spec) => &spec.name,
            Self::Kept(rule) => rule.name(),
        }
    }

    pub(super) fn at(&self, priority: u16) -> SecurityRule {
        match self {
            Self::Generated(spec) => RuleSpec { priority, ..RuleSpec::clone(spec) }.build(),
            Self::Kept(rule) => rule.with_priority(priority),
        }
    }
}

/// Packets: addresses, protocol and ports.
#[derive(Debug, Clone)]
pub(super) struct Packets {
    pub(super) addresses: AddressSet,
    pub(super) protocol: Protocol,
    pub(super) ports: PortSet,
}

impl Packets {
    /// Whether an inbound rule may match some of the packets; yes when unsure.
    pub(super) fn may_match(&self, rule: &SecurityRule) -> bool {
        let side = rule.destination();
        let ports = rule.destination_ports();
        rule.direction() != Some(Direction::Outbound)
            && rule.protocol().is_none_or(|p| p.intersection(self.protocol).is_some())
            && (!ports.unreadable.is_empty() || ports.ports.intersects(&self.ports))
            && (side.any
                || !side.groups.is_empty()
                || !side.unreadable.is_empty()
                || side.addresses.intersects(&self.addresses))
    }
}

pub(super) struct Target {
    pub(super) allows: Vec<Wanted>,
    pub(super) denies: Vec<Wanted>,
    /// What enabled protections and orphaned denies cover.
    pub(super) closed: Vec<Packets>,
    /// Names of the denies that shut only what no protection accounts for.
    pub(super) orphaned: BTreeSet<String>,
    pub(super) notes: Vec<Note>,
}

/// Ports by protocol, none of them twice: what `Any` has is not in TCP or UDP as well.
pub(super) type PortsByProtocol = BTreeMap<Protocol, PortSet>;

fn add_ports(map: &mut PortsByProtocol, protocol: Protocol, ports: &PortSet) {
    let slot = map.entry(protocol).or_default();
    *slot = slot.union(ports);
}

fn without_overlap(mut map: PortsByProtocol) -> PortsByProtocol {
    if let Some(any) = map.get(&Protocol::Any).cloned() {
        for (protocol, ports) in &mut map {
            if *protocol != Protocol::Any {
                *ports = ports.difference(&any);
            }
        }
    }
    map.retain(|_, ports| !ports.is_empty());
    map
}

pub(super) fn protected_ports(ports: &[ProtectedPort]) -> PortsByProtocol {
    let mut map = PortsByProtocol::new();
    for port in ports {
        add_ports(&mut map, port.protocol, &port.ports.into());
    }
    without_overlap(map)
}

pub(super) fn enabled(desired: &Desired) -> impl Iterator<Item = &Protection> {
    desired.protections.iter().filter(|p| p.state == ProtectionState::Enabled)
}

fn check_protocols(desired: &Desired, now: Timestamp) -> Result<(), PlanError> {
    let policies = enabled(desired).flat_map(|p| p.ports.iter().map(|port| (&p.vm, port.protocol)));
    let grants = desired.grants.iter().filter(|g| g.is_active(now)).map(|g| (&g.vm, g.protocol));
    match policies.chain(grants).find(|(_, p)| !matches!(p, Protocol::Tcp | Protocol::Udp | Protocol::Any)) {
        Some((vm, protocol)) => Err(PlanError::ProtocolWithoutPorts { vm: vm.clone(), protocol }),
        None => Ok(()),
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum SourceKey {
    Addresses(AddressSet),
    Tag(ServiceTag),
}

/// What allow rules for grants and for exceptions are told apart by, so that an end never cuts an exception off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Grant,
    Exception,
}

#[derive(Default, Clone)]
struct About {
    vms: BTreeSet<String>,
    requesters: BTreeSet<String>,
    end: Option<Timestamp>,
}

impl About {
    fn join(&mut self, other: Self) {
        self.vms.extend(other.vms);
        self.requesters.extend(other.requesters);
        self.end = match (self.end, other.end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// What an allow rule opens to whom, VMs aside.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Opening {
    ports: PortSet,
    protocol: Protocol,
    kind: Kind,
}

/// Allowed flows on their way to becoming few rules.
#[derive(Default)]
struct Flows {
    /// Per VM, its addresses of one family, and opening: sources are united.
    by_vm: BTreeMap<(ResourceId, AddressSet, Opening), (AddressSet, About)>,
    /// Tags stand alone.
    by_tag: Vec<(AddressSet, Opening, ServiceTag, About)>,
}

fn families(addresses: &AddressSet) -> impl Iterator<Item = AddressSet> {
    [addresses.v4_only(), addresses.v6_only()].into_iter().filter(|s| !s.is_empty())
}

fn of_same_family(sources: &AddressSet, addresses: &AddressSet) -> AddressSet {
    if addresses.v4_only().is_empty() { sources.v6_only() } else { sources.v4_only() }
}

impl Flows {
    fn add(
        &mut self,
        vm: &ResourceId,
        addresses: &AddressSet,
        opening: &Opening,
        sources: &AddressSet,
        about: &About,
    ) {
        for family in families(addresses) {
            let sources = of_same_family(sources, &family);
            if sources.is_empty() {
                continue;
            }
            let slot = self.by_vm.entry((vm.clone(), family, opening.clone())).or_default();
            slot.0 = slot.0.union(&sources);
            slot.1.join(about.clone());
        }
    }

    /// VMs with equal sources and openings share a rule; then equal destinations share it too, which happens only
    /// when two VMs claim one address. Both unions are exact: one factor of the product is equal.
    fn rules(self, deployment: &DeploymentName) -> Vec<Wanted> {
        let mut shared: BTreeMap<(SourceKey, Opening, bool), (AddressSet, About)> = BTreeMap::new();
        let mut join = |source, addresses: AddressSet, opening, about| {
            let v4 = !addresses.v4_only().is_empty();
            let slot = shared.entry((source, opening, v4)).or_default();
            slot.0 = slot.0.union(&addresses);
            slot.1.join(about);
        };
        for ((_, addresses, opening), (sources, about)) in self.by_vm {
            join(SourceKey::Addresses(sources), addresses, opening, about);
        }
        for (addresses, opening, tag, about) in self.by_tag {
            for family in families(&addresses) {
                join(SourceKey::Tag(tag.clone()), family, opening.clone(), about.clone());
            }
        }
        let mut last: BTreeMap<(AddressSet, Opening, Option<ServiceTag>), (AddressSet, About)> =
            BTreeMap::new();
        for ((source, opening, _), (destination, about)) in shared {
            let (sources, tag) = match source {
                SourceKey::Addresses(set) => (set, None),
                SourceKey::Tag(tag) => (AddressSet::empty(), Some(tag)),
            };
            let slot = last.entry((destination, opening, tag)).or_default();
            slot.0 = slot.0.union(&sources);
            slot.1.join(about);
        }
        last.into_iter()
            .map(|((destination, opening, tag), (sources, about))| {
                let source = tag.map_or(RuleSource::Addresses(sources), RuleSource::Tag);
                allow_rule(deployment, destination, opening, source, &about)
            })
            .collect()
    }
}

fn allow_rule(
    deployment: &DeploymentName,
    destination: AddressSet,
    Opening { ports, protocol, kind }: Opening,
    source: RuleSource,
    about: &About,
) -> Wanted {
    let kind_text = match (kind, &source) {
        (Kind::Grant, _) => "grant".to_owned(),
        (Kind::Exception, RuleSource::Tag(tag)) => {
            format!("exception for {}", tag.as_str().to_ascii_lowercase())
        }
        (Kind::Exception, _) => "exception".to_owned(),
    };
    let family = if destination.v4_only().is_empty() { "v6" } else { "v4" };
    let identity = format!("{kind_text}|{destination}|{ports}|{protocol}|{family}");
    let vms: Vec<String> = about.vms.iter().cloned().collect();
    let requesters: Vec<String> = about.requesters.iter().cloned().collect();
    let description = match (kind, about.end) {
        (Kind::Grant, Some(end)) => describe::grant(&ports, &vms, &requesters, end),
        _ => describe::exception(&ports, &vms),
    };
    Wanted::Generated(Box::new(RuleSpec {
        name: describe::rule_name(deployment, "allow", &ports, &identity),
        description,
        priority: 0,
        access: Access::Allow,
        protocol,
        source,
        destination,
        destination_ports: ports,
    }))
}

fn allowed_flows(desired: &Desired, now: Timestamp, notes: &mut Vec<Note>) -> Flows {
    let mut flows = Flows::default();
    for protection in enabled(desired) {
        let about = About { vms: BTreeSet::from([protection.vm.name().to_owned()]), ..About::default() };
        let addresses = AddressSet::from_addresses(protection.addresses.iter().copied());
        let prefixes: Vec<Prefix> = protection
            .exceptions
            .iter()
            .filter_map(|e| match e.source {
                ExceptionSource::Prefix(prefix) => Some(prefix),
                ExceptionSource::Tag(_) => None,
            })
            .collect();
        let sources = AddressSet::from_prefixes(prefixes);
        for (protocol, ports) in protected_ports(&protection.ports) {
            let opening = Opening { ports, protocol, kind: Kind::Exception };
            flows.add(&protection.vm, &addresses, &opening, &sources, &about);
            for exception in &protection.exceptions {
                if let ExceptionSource::Tag(tag) = &exception.source {
                    flows.by_tag.push((addresses.clone(), opening.clone(), tag.clone(), about.clone()));
                }
            }
        }
    }
    for grant in desired.grants.iter().filter(|g| g.is_active(now)) {
        let about = About {
            vms: BTreeSet::from([grant.vm.name().to_owned()]),
            requesters: BTreeSet::from([grant.requester.clone()]),
            end: Some(grant.end),
        };
        let granted = AddressSet::from_addresses(grant.addresses.iter().copied());
        let sources = AddressSet::from_prefixes(grant.sources.iter().copied());
        let mut opens = false;
        for protection in enabled(desired).filter(|p| p.vm == grant.vm) {
            let own = AddressSet::from_addresses(protection.addresses.iter().copied());
            let addresses = granted.intersection(&own);
            for (protocol, ports) in protected_ports(&protection.ports) {
                let ports = ports.intersection(&grant.ports.into());
                if let Some(protocol) = protocol.intersection(grant.protocol)
                    && !ports.is_empty()
                    && !addresses.is_empty()
                {
                    opens = true;
                    let opening = Opening { ports, protocol, kind: Kind::Grant };
                    flows.add(&grant.vm, &addresses, &opening, &sources, &about);
                }
            }
        }
        if !opens {
            notes.push(Note::GrantOutsideProtection { grant: grant.id.clone() });
        }
    }
    flows
}

/// The deny rules that exist: named so, or denying. Someone may have turned one into an allow by hand.
fn existing_denies<'a>(
    current: &'a NetworkSecurityGroup,
    deployment: &DeploymentName,
) -> impl Iterator<Item = &'a SecurityRule> {
    let prefix = format!("{}deny-", deployment.rule_prefix());
    let deployment = deployment.clone();
    current.rules().iter().filter(move |r| {
        let named = r.name().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(&prefix));
        deployment.manages(r.name()) && (named || r.access() == Some(Access::Deny))
    })
}

/// The single addresses that a rule of ours could have listed, its protocol and ports; none when it covers more or
/// other than that.
fn listed_coverage(rule: &SecurityRule) -> Option<(Vec<IpAddr>, Protocol, PortSet)> {
    let side = rule.destination();
    let protocol = rule.protocol().filter(|p| matches!(p, Protocol::Tcp | Protocol::Udp | Protocol::Any))?;
    let ports = rule.destination_ports();
    if side.any || !side.groups.is_empty() || !side.unreadable.is_empty() || !ports.unreadable.is_empty() {
        return None;
    }
    Some((side.addresses.to_addresses(MAX_PREFIXES)?, protocol, ports.ports.clone()))
}

/// Where the addresses go that deny rules shut and no protection accounts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Orphans {
    /// Into one rule with whatever else has the same ports shut.
    Joined,
    /// They stay alone in the rules that have them, which can so stay where they are.
    Apart,
}

/// Computes the rules that should exist.
pub(super) fn target(
    current: &NetworkSecurityGroup,
    desired: &Desired,
    now: Timestamp,
    orphans_go: Orphans,
) -> Result<Target, PlanError> {
    check_protocols(desired, now)?;
    let mut notes = Vec::new();
    let allows = allowed_flows(desired, now, &mut notes).rules(&desired.deployment);

    let mut closed: BTreeMap<IpAddr, PortsByProtocol> = BTreeMap::new();
    let mut claims: BTreeMap<IpAddr, BTreeSet<ResourceId>> = BTreeMap::new();
    for protection in enabled(desired) {
        for address in &protection.addresses {
            claims.entry(*address).or_default().insert(protection.vm.clone());
            for port in &protection.ports {
                add_ports(closed.entry(*address).or_default(), port.protocol, &port.ports.into());
            }
        }
    }
    for (address, vms) in claims {
        if vms.len() > 1 {
            notes.push(Note::AddressClaimedTwice { address, vms: vms.into_iter().collect() });
        }
    }

    let accounted: BTreeSet<IpAddr> =
        desired.protections.iter().flat_map(|p| p.addresses.iter().chain(&p.released)).copied().collect();
    let mut kept = Vec::new();
    let mut denies: Vec<Wanted> = Vec::new();
    let mut packets = Vec::new();
    for rule in existing_denies(current, &desired.deployment) {
        match listed_coverage(rule) {
            Some((addresses, protocol, ports)) => {
                let orphans: Vec<IpAddr> = addresses.into_iter().filter(|a| !accounted.contains(a)).collect();
                if orphans_go == Orphans::Joined {
                    for address in &orphans {
                        add_ports(closed.entry(*address).or_default(), protocol, &ports);
                    }
                } else if !orphans.is_empty() {
                    let addresses = AddressSet::from_addresses(orphans.iter().copied());
                    packets.push(Packets { addresses, protocol, ports });
                    denies.extend(packets.last().map(|shut| deny_rule(rule.name().to_owned(), shut)));
                }
                if !orphans.is_empty() {
                    let addresses = orphans.iter().map(ToString::to_string).collect();
                    notes.push(Note::OrphanedProtection { rule: rule.name().to_owned(), addresses });
                }
            }
            None if rule.access() != Some(Access::Allow) && rule.direction() != Some(Direction::Outbound) => {
                notes.push(Note::OrphanedProtection {
                    rule: rule.name().to_owned(),
                    addresses: vec!["*".to_owned()],
                });
                kept.push(Box::new(rule.clone()));
            }
            None => {}
        }
    }

    let mut groups: BTreeMap<(Protocol, PortSet, bool), AddressSet> = BTreeMap::new();
    for (address, ports) in closed {
        for (protocol, ports) in without_overlap(ports) {
            let slot = groups.entry((protocol, ports, address.is_ipv4())).or_default();
            *slot = slot.union(&AddressSet::from_addresses([address]));
        }
    }
    let orphaned: BTreeSet<String> = denies.iter().map(|deny| deny.name().to_ascii_lowercase()).collect();
    for ((protocol, ports, v4), addresses) in groups {
        let identity = format!("{ports}|{protocol}|{}", if v4 { "v4" } else { "v6" });
        let mut name = describe::rule_name(&desired.deployment, "deny", &ports, &identity);
        let is_taken = |name: &str| {
            orphaned.contains(&name.to_ascii_lowercase())
                || kept.iter().any(|rule| rule.name().eq_ignore_ascii_case(name))
        };
        while is_taken(&name) {
            name.push_str("-again");
        }
        packets.push(Packets { addresses, protocol, ports });
        denies.extend(packets.last().map(|shut| deny_rule(name, shut)));
    }
    denies.extend(kept.into_iter().map(Wanted::Kept));
    Ok(Target { allows, denies, closed: packets, orphaned, notes })
}

fn deny_rule(name: String, shut: &Packets) -> Wanted {
    Wanted::Generated(Box::new(RuleSpec {
        name,
        description: describe::CLOSED.to_owned(),
        priority: 0,
        access: Access::Deny,
        protocol: shut.protocol,
        source: RuleSource::Any,
        destination: shut.addresses.clone(),
        destination_ports: shut.ports.clone(),
    }))
}
