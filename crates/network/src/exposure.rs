//! What an NSG lets in by itself, whichever VM it stands before: which sources reach which ports of some destination
//! through which of its custom rules.
//!
//! Made for many NSGs: they are [read](NsgInput) without building JSON values, and what most rules say, certain
//! things about addresses, is evaluated without one allocation a rule. Rules of which something cannot be read take
//! the way of [`InboundRules::reach_from_port`], and both ways give the same answer.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use smallvec::{SmallVec, smallvec};

use crate::address::{AddressSet, Prefix, ServiceTag, SourceGroup, SourceGroups, SourceSet, SourceTerm};
use crate::assessment::{Internet, internet_among};
use crate::nsg::{Access, Endpoint, RuleMeaning};
use crate::ports::{Port, Protocol};
use crate::reachability::{Destination, EPHEMERAL, Flow, InboundRules, Uncertainty, Witness, public_space};
use crate::resource_id::ResourceId;

mod input;

pub use input::NsgInput;

/// One port that an NSG lets somebody reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exposure<'a> {
    /// The port.
    pub port: Port,
    /// The protocol.
    pub protocol: Protocol,
    /// Who can reach it at some destination because a custom rule lets them; where `certain` is false, who may be
    /// able to. Default rules do not count.
    pub sources: SourceSet,
    /// Whether somebody gets in whatever could not be read.
    pub certain: bool,
    /// Whether the Internet is among the sources.
    pub internet: Internet,
    /// The names of the custom rules that let them in, in order of evaluation.
    pub rules: Vec<&'a str>,
    /// A packet that passes.
    pub witness: Option<Witness>,
    /// What could not be read and may change the answer.
    pub uncertainties: Vec<Uncertainty>,
}

impl Exposure<'_> {
    /// The addresses among the sources that get in whatever groups they are in, as the fewest prefixes.
    #[must_use]
    pub fn prefixes(&self) -> Vec<Prefix> {
        self.sources.addresses().to_prefixes()
    }

    /// The service tags whose members get in, all of them or those at certain addresses.
    #[must_use]
    pub fn service_tags(&self) -> BTreeSet<ServiceTag> {
        let groups = self.sources.terms().iter().flat_map(|t| &t.within);
        groups
            .filter_map(|g| match g {
                SourceGroup::Tag(tag) => Some(tag.clone()),
                SourceGroup::ApplicationSecurityGroup(_) => None,
            })
            .collect()
    }

    /// The application security groups whose members get in.
    #[must_use]
    pub fn application_security_groups(&self) -> BTreeSet<ResourceId> {
        let groups = self.sources.terms().iter().flat_map(|t| &t.within);
        groups
            .filter_map(|g| match g {
                SourceGroup::Tag(_) => None,
                SourceGroup::ApplicationSecurityGroup(id) => Some(id.clone()),
            })
            .collect()
    }
}

/// The exposures of an NSG on these ports, in the order of the ports; a port that nobody reaches has none.
///
/// [`Protocol::Any`] asks about TCP and UDP, each by itself.
#[must_use]
pub fn exposures<'a>(nsg: &'a NsgInput, ports: &[Port], protocol: Protocol) -> Vec<Exposure<'a>> {
    InboundRules::from_meanings(&nsg.rules).exposures(ports, protocol)
}

impl<'a> InboundRules<'a> {
    /// As [`exposures`], of rules that are prepared already.
    #[must_use]
    pub fn exposures(&self, ports: &[Port], protocol: Protocol) -> Vec<Exposure<'a>> {
        let protocols: &[Protocol] = match &protocol {
            Protocol::Any => &[Protocol::Tcp, Protocol::Udp],
            one => std::slice::from_ref(one),
        };
        let mut found = Vec::with_capacity(ports.len() * protocols.len());
        let mut candidates = Vec::with_capacity(self.rules().len());
        for port in ports {
            for protocol in protocols {
                candidates.clear();
                candidates.extend(self.candidates(*port, *protocol));
                found.extend(self.exposure(&candidates, *port, *protocol));
            }
        }
        found
    }

    fn candidates(&self, port: Port, protocol: Protocol) -> impl Iterator<Item = &'a RuleMeaning> {
        self.about(protocol, port)
            .filter(move |r| !protocol.has_ports() || !surely_other_ports(r, port))
            .filter(move |r| protocol.has_ports() || !portless_mismatch(r))
    }

    fn exposure(
        &self,
        candidates: &[&'a RuleMeaning],
        port: Port,
        protocol: Protocol,
    ) -> Option<Exposure<'a>> {
        if candidates.iter().all(|r| r.access == Some(Access::Deny)) {
            return None;
        }
        if candidates.iter().all(|r| is_clear(r)) {
            certain_exposure(candidates, port, protocol)
        } else {
            self.uncertain_exposure(candidates, port, protocol)
        }
    }

    /// The general way: each class of destinations by itself, both bounds.
    fn uncertain_exposure(
        &self,
        candidates: &[&'a RuleMeaning],
        port: Port,
        protocol: Protocol,
    ) -> Option<Exposure<'a>> {
        let (mut certain, mut possible) = (SourceSet::none(), SourceSet::none());
        let mut rules: Vec<&'a str> = Vec::new();
        let mut witnesses: [Option<Witness>; 2] = [None, None];
        let mut uncertainties: Vec<Uncertainty> = Vec::new();
        for class in classes(candidates) {
            for v4 in [true, false] {
                let Some(address) = (if v4 { class.v4 } else { class.v6 }) else { continue };
                let groups = Some(class.group.iter().map(|id| (*id).clone()).collect());
                let flow = Flow { destination: Destination { address, groups }, protocol, port };
                for source_port in self.source_ports(&flow) {
                    let reach = self.reach_from_port(&flow, source_port);
                    let allowed = [reach.custom_allow(true), reach.custom_allow(false)];
                    for (witness, set) in witnesses.iter_mut().zip(&allowed) {
                        if witness.is_none() {
                            *witness = Witness::from_set(set, &flow, source_port);
                        }
                    }
                    let [sure, at_most] = allowed;
                    certain = certain.union(&sure);
                    possible = possible.union(&at_most);
                    for uncertainty in reach.uncertainties {
                        if !uncertainties.contains(&uncertainty) {
                            uncertainties.push(uncertainty);
                        }
                    }
                    for decision in reach.decisions {
                        if !decision.is_default && decision.access != Some(Access::Deny) {
                            let named = candidates.iter().find(|r| r.name == decision.rule);
                            rules.extend(named.map(|r| r.name.as_str()));
                        }
                    }
                }
            }
        }
        if possible.is_empty() {
            return None;
        }
        let names = candidates.iter().map(|r| r.name.as_str()).filter(|n| rules.contains(n));
        let sources = possible;
        Some(Exposure {
            port,
            protocol,
            certain: !certain.is_empty(),
            internet: internet_among(&sources),
            rules: names.collect(),
            witness: witnesses.into_iter().flatten().next(),
            sources,
            uncertainties,
        })
    }
}

fn surely_other_ports(rule: &RuleMeaning, port: Port) -> bool {
    rule.destination_ports.unreadable.is_empty() && !rule.destination_ports.ports.contains(port)
}

/// A rule of protocol `*` with certain ports does not match packets without ports.
fn portless_mismatch(rule: &RuleMeaning) -> bool {
    let ports = &rule.destination_ports;
    rule.protocol == Some(Protocol::Any) && ports.unreadable.is_empty() && !ports.ports.is_all()
}

/// Whether everything about the rule is known, as far as inbound packets to private addresses go.
fn is_clear(rule: &RuleMeaning) -> bool {
    let destination = &rule.destination;
    rule.direction.is_some()
        && rule.access.is_some()
        && rule.priority.is_some()
        && rule.protocol.is_some()
        && rule.source.unreadable.is_empty()
        && rule.source_ports.unreadable.is_empty()
        && rule.destination_ports.unreadable.is_empty()
        && destination.unreadable.is_empty()
        && !destination.groups.iter().any(is_prefix_tag)
}

/// Whether a tag stands for published prefixes, which a private address may or may not lie in.
fn is_prefix_tag(group: &SourceGroup) -> bool {
    matches!(group, SourceGroup::Tag(tag)
        if !tag.is_virtual_network() && !tag.is_internet() && !tag.is_azure_load_balancer())
}

fn covers_everything(side: &Endpoint) -> bool {
    side.any || side.groups.iter().any(|g| matches!(g, SourceGroup::Tag(tag) if tag.is_virtual_network()))
}

/// Destinations that the candidates treat alike, with one address of each family that has some.
#[derive(Clone)]
struct Class<'a> {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
    /// The one application security group that the destination is in. A packet is decided by one rule, which
    /// matches through one group at most; fewer groups take no earlier rule's place, so no two are needed.
    group: Option<&'a ResourceId>,
}

const SOME_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4));
const SOME_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 4));

fn classes<'a>(candidates: &[&'a RuleMeaning]) -> SmallVec<[Class<'a>; 1]> {
    let whole = Class { v4: Some(SOME_V4), v6: Some(SOME_V6), group: None };
    if candidates.iter().all(|r| covers_everything(&r.destination)) {
        return smallvec![whole];
    }
    let mut addresses: Vec<IpAddr> = vec![SOME_V4, SOME_V6];
    addresses.extend([IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]);
    for rule in candidates {
        let (v4, v6) = rule.destination.addresses.bits();
        for &(from, to) in v4 {
            let edges = [Some(from), to.checked_add(1)];
            addresses.extend(edges.into_iter().flatten().map(|a| IpAddr::V4(Ipv4Addr::from_bits(a))));
        }
        for &(from, to) in v6 {
            let edges = [Some(from), to.checked_add(1)];
            addresses.extend(edges.into_iter().flatten().map(|a| IpAddr::V6(Ipv6Addr::from_bits(a))));
        }
    }
    let groups: BTreeSet<&ResourceId> = candidates
        .iter()
        .flat_map(|r| &r.destination.groups)
        .filter_map(|g| match g {
            SourceGroup::ApplicationSecurityGroup(id) => Some(id),
            SourceGroup::Tag(_) => None,
        })
        .collect();
    let groups: Vec<Option<&ResourceId>> =
        std::iter::once(None).chain(groups.into_iter().map(Some)).collect();
    let mut seen: BTreeSet<(bool, Vec<bool>)> = BTreeSet::new();
    let mut classes = SmallVec::new();
    for address in addresses {
        for group in &groups {
            let signature = candidates.iter().map(|r| applies(r, address, *group)).collect();
            if seen.insert((address.is_ipv4(), signature)) {
                let address_of = |v4: bool| (address.is_ipv4() == v4).then_some(address);
                classes.push(Class { v4: address_of(true), v6: address_of(false), group: *group });
            }
        }
    }
    classes
}

fn applies(rule: &RuleMeaning, address: IpAddr, group: Option<&ResourceId>) -> bool {
    let side = &rule.destination;
    covers_everything(side)
        || side.addresses.contains(address)
        || side.groups.iter().any(|g| match g {
            SourceGroup::ApplicationSecurityGroup(id) => group == Some(id),
            SourceGroup::Tag(_) => false,
        })
}

/// One walk through the candidates, for one class of destinations and one source port.
struct Walk<'a> {
    /// The addresses that no rule has decided. Its memory serves one walk after the other.
    left: &'a mut AddressSet,
    /// The groups that rules have decided, whatever the address.
    decided: SourceGroups,
    /// What rules have let in, in their order; addresses are not settled.
    let_in: &'a mut Vec<SourceTerm>,
    /// Where this walk's terms start.
    start: usize,
}

impl Walk<'_> {
    /// Lets one rule decide. Whether it let anybody in.
    fn rule(&mut self, rule: &RuleMeaning) -> bool {
        let Self { left, decided, let_in, start } = self;
        let allow = rule.access == Some(Access::Allow);
        let source = &rule.source;
        let mut hit = false;
        if source.any {
            hit = allow && !left.is_empty();
            if hit {
                by_address(let_in, *start, decided).extend_from(left);
            }
            left.clear();
            return hit;
        }
        if !source.addresses.is_empty() {
            if allow {
                hit = left.move_to(by_address(let_in, *start, decided), &source.addresses);
            } else {
                left.take(&source.addresses);
            }
        }
        if source.groups.is_empty() || left.is_empty() {
            return hit;
        }
        let outside = decided.clone();
        for group in &source.groups {
            if decided.insert(group.clone()) && allow {
                let within = SourceGroups::of(group.clone());
                let_in.push(SourceTerm { addresses: left.clone(), within, outside: outside.clone() });
                hit = true;
            }
        }
        hit
    }
}

/// The addresses of the walk's term for those let in outside all groups decided so far.
fn by_address<'t>(
    let_in: &'t mut Vec<SourceTerm>,
    start: usize,
    decided: &SourceGroups,
) -> &'t mut AddressSet {
    let fits = |t: &SourceTerm| t.within.is_empty() && t.outside.len() == decided.len();
    if let_in.len() == start || !let_in.last().is_some_and(fits) {
        let addresses = AddressSet::empty();
        let_in.push(SourceTerm { addresses, within: SourceGroups::new(), outside: decided.clone() });
    }
    let last = let_in.len() - 1;
    #[expect(clippy::indexing_slicing, reason = "a term was pushed unless there is one")]
    &mut let_in[last].addresses
}

/// One source port of each kind that the candidates tell apart, an ephemeral one first.
fn source_ports(candidates: &[&RuleMeaning], protocol: Protocol) -> SmallVec<[Port; 4]> {
    let mut ports = smallvec![EPHEMERAL];
    if protocol.has_ports() {
        for range in candidates.iter().map(|r| &r.source_ports.ports).filter(|p| !p.is_all()) {
            for range in range.ranges() {
                ports.extend([Some(range.first()), range.last().checked_add(1)].into_iter().flatten());
                ports.push(0);
            }
        }
        if ports.len() > 1 {
            ports.sort_unstable_by_key(|p| (*p != EPHEMERAL, *p));
            ports.dedup();
        }
    }
    ports
}

fn certain_exposure<'a>(
    candidates: &[&'a RuleMeaning],
    port: Port,
    protocol: Protocol,
) -> Option<Exposure<'a>> {
    let mut hits: SmallVec<[bool; 64]> = smallvec![false; candidates.len()];
    let mut terms: Vec<SourceTerm> = Vec::with_capacity(8);
    let mut left = AddressSet::empty();
    let mut witness: Option<Witness> = None;
    let mut witness_is_public = false;
    let source_ports = source_ports(candidates, protocol);
    for class in classes(candidates) {
        for source_port in &source_ports {
            let start = terms.len();
            left.fill(class.v4.is_some(), class.v6.is_some(), 2 * candidates.len());
            let mut walk = Walk { left: &mut left, decided: SourceGroups::new(), let_in: &mut terms, start };
            for (rule, hit) in candidates.iter().copied().zip(&mut hits) {
                if walk.left.is_empty() {
                    break;
                }
                if protocol.has_ports() && !rule.source_ports.ports.contains(*source_port) {
                    continue;
                }
                if class.v4.or(class.v6).is_some_and(|address| applies(rule, address, class.group)) {
                    *hit |= walk.rule(rule);
                }
            }
            terms.iter_mut().skip(start).for_each(|t| t.addresses.settle());
            if !witness_is_public {
                let found = terms.get(start..).unwrap_or_default();
                if let Some((packet, public)) = witness_of(found, &class, *source_port, protocol, port)
                    && (public || witness.is_none())
                {
                    (witness, witness_is_public) = (Some(packet), public);
                }
            }
        }
    }
    let sources = SourceSet::from_vec(terms);
    if sources.is_empty() {
        return None;
    }
    let mut rules = Vec::with_capacity(candidates.len());
    rules.extend(candidates.iter().zip(hits).filter(|(_, hit)| *hit).map(|(r, _)| r.name.as_str()));
    Some(Exposure {
        port,
        protocol,
        certain: true,
        internet: internet_among(&sources),
        rules,
        witness,
        sources,
        uncertainties: Vec::new(),
    })
}

/// A packet of these terms, and whether it comes from a public address on no condition: the best there is.
fn witness_of(
    terms: &[SourceTerm],
    class: &Class<'_>,
    source_port: Port,
    protocol: Protocol,
    port: Port,
) -> Option<(Witness, bool)> {
    let conditions = |t: &SourceTerm| t.within.len() + t.outside.len();
    let terms = || terms.iter().filter(|t| !t.is_empty());
    let fewest = terms().map(conditions).min()?;
    let mut best = terms().filter(|t| conditions(t) == fewest);
    let first = best.clone().next()?;
    let public = best.find_map(|t| Some((t, t.addresses.first_common(public_space())?)));
    let (term, source) = match public {
        Some(found) => found,
        None => (first, first.addresses.first()?),
    };
    let destination = if source.is_ipv4() { class.v4 } else { class.v6 }?;
    let witness = Witness {
        source,
        within: term.within.iter().cloned().collect(),
        outside: term.outside.iter().cloned().collect(),
        source_port,
        destination,
        protocol,
        port,
    };
    Some((witness, public.is_some() && term.is_unconditional()))
}
