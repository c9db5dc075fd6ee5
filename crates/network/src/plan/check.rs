//! The check after a write: with the evaluator, and without anything the planner computed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;

use super::desired::{Desired, ExceptionSource, ExistingRules, Protection, ProtectionState};
use super::{Discrepancy, MAX_PREFIXES};
use crate::address::{AddressSet, SourceSet};
use crate::nsg::{Access, Direction, Endpoint, NetworkSecurityGroup, SecurityRule};
use crate::ports::{Port, PortSet, Protocol};
use crate::reachability::{Decision, Destination, Flow, InboundRules, port_classes};

/// Who is meant to reach one port of one address now: active grants and standing exceptions of the enabled
/// protections that cover it.
fn wanted(desired: &Desired, covering: &[&Protection], flow: &Flow, now: Timestamp) -> SourceSet {
    let address = flow.destination.address;
    let mut sources = SourceSet::none();
    for protection in covering {
        for exception in &protection.exceptions {
            sources = sources.union(&match &exception.source {
                ExceptionSource::Prefix(prefix) => SourceSet::from_prefix(*prefix),
                ExceptionSource::Tag(tag) => SourceSet::from_tag(tag.clone()),
            });
        }
        let grants = desired.grants.iter().filter(|g| {
            g.vm == protection.vm
                && g.is_active(now)
                && g.addresses.contains(&address)
                && g.ports.contains(flow.port)
                && g.protocol.intersection(flow.protocol).is_some()
        });
        for grant in grants {
            sources = sources
                .union(&SourceSet::from_addresses(AddressSet::from_prefixes(grant.sources.iter().copied())));
        }
    }
    sources.of_family(address)
}

/// The priority of a managed rule that denies everyone the flow; none when there is none.
fn covering_deny(nsg: &NetworkSecurityGroup, desired: &Desired, flow: &Flow) -> Option<u16> {
    nsg.rules()
        .iter()
        .filter(|r| desired.deployment.manages(r.name()) && r.access() == Some(Access::Deny))
        .filter(|r| r.source().any && r.source_ports().ports.is_all())
        .filter(|r| r.protocol().is_some_and(|p| p.intersection(flow.protocol).is_some()))
        .filter(|r| r.destination().addresses.contains(flow.destination.address))
        .filter(|r| r.destination_ports().ports.contains(flow.port))
        .filter_map(SecurityRule::priority)
        .min()
}

/// A managed port set where reality differs from what is wanted, or differs as far as rules were respected.
pub(super) struct Difference {
    pub(super) discrepancy: Discrepancy,
    /// The rules of others that decide before our deny.
    pub(super) foreign: Vec<Decision>,
    /// Whether a protection here respects such rules.
    pub(super) respects: bool,
}

/// Compares reality with what is wanted on every managed address, port and protocol.
pub(super) fn differences(
    current: &NetworkSecurityGroup,
    desired: &Desired,
    now: Timestamp,
) -> Vec<Difference> {
    let enabled: Vec<&Protection> =
        desired.protections.iter().filter(|p| p.state == ProtectionState::Enabled).collect();
    let mut by_address: BTreeMap<IpAddr, Vec<&Protection>> = BTreeMap::new();
    for protection in &enabled {
        for address in &protection.addresses {
            let list = by_address.entry(*address).or_default();
            if !list.iter().any(|p| std::ptr::eq(*p, *protection)) {
                list.push(protection);
            }
        }
    }
    let rules = InboundRules::of(current);
    let mut differences = Vec::new();
    for (address, protections) in by_address {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let of_protocol = |p: &Protection| -> PortSet {
                PortSet::from_ranges(
                    p.ports.iter().filter(|q| q.protocol.intersection(protocol).is_some()).map(|q| q.ports),
                )
            };
            let managed = protections.iter().fold(PortSet::default(), |set, p| set.union(&of_protocol(p)));
            for class in classes(desired, &rules, &protections, &managed) {
                let Some(port) = class.ranges().next().map(|r| r.first()) else { continue };
                let flow = Flow { destination: Destination::address(address), protocol, port };
                let covering: Vec<&Protection> =
                    protections.iter().filter(|p| of_protocol(p).contains(port)).copied().collect();
                differences.extend(difference(current, desired, &rules, &covering, &flow, class, now));
            }
        }
    }
    differences
}

/// Port sets that rules, policies and grants treat alike.
fn classes(
    desired: &Desired,
    rules: &InboundRules<'_>,
    protections: &[&Protection],
    managed: &PortSet,
) -> Vec<PortSet> {
    let of_policies = protections.iter().flat_map(|p| p.ports.iter().map(|q| q.ports));
    let cuts = of_policies.chain(desired.grants.iter().map(|g| g.ports));
    let mut starts: Vec<Port> =
        cuts.flat_map(|r| [Some(r.first()), r.last().checked_add(1)]).flatten().collect();
    starts.sort_unstable();
    starts.dedup();
    let mut classes = port_classes(rules.rules().iter().copied(), managed);
    for start in starts {
        let below =
            crate::ports::PortRange::new(0, start.saturating_sub(1)).map(PortSet::from).unwrap_or_default();
        let below = if start == 0 { PortSet::default() } else { below };
        classes = classes
            .into_iter()
            .flat_map(|c| [c.intersection(&below), c.difference(&below)])
            .filter(|c| !c.is_empty())
            .collect();
    }
    classes
}

fn difference(
    current: &NetworkSecurityGroup,
    desired: &Desired,
    rules: &InboundRules<'_>,
    covering: &[&Protection],
    flow: &Flow,
    ports: PortSet,
    now: Timestamp,
) -> Option<Difference> {
    let reach = rules.reach(flow);
    let wanted = wanted(desired, covering, flow, now);
    let unexpected = reach.possible.difference(&wanted);
    // Granted is granted from every source port; open is open from any.
    let missing = wanted.difference(&reach.certain_from_every_port);
    if unexpected.is_empty() && missing.is_empty() {
        return None;
    }
    let deny = covering_deny(current, desired, flow);
    let foreign = reach
        .decisions
        .into_iter()
        .filter(|d| !d.is_default && !desired.deployment.manages(&d.rule))
        .filter(|d| deny.is_some_and(|deny| d.priority.is_none_or(|p| p < deny)))
        .collect();
    Some(Difference {
        discrepancy: Discrepancy {
            address: flow.destination.address,
            protocol: flow.protocol,
            ports,
            unexpected,
            missing,
        },
        foreign,
        respects: covering.iter().any(|p| p.existing_rules == ExistingRules::Respect),
    })
}

/// Where a managed allow rule reaches beyond managed packets, e.g. because someone widened it by hand. A rule whose
/// destination is no list of addresses is reported under the unspecified address.
fn beyond(current: &NetworkSecurityGroup, desired: &Desired) -> Vec<Discrepancy> {
    let enabled = || desired.protections.iter().filter(|p| p.state == ProtectionState::Enabled);
    let mut found = Vec::new();
    let allows = current.rules().iter().filter(|r| {
        desired.deployment.manages(r.name())
            && r.access() != Some(Access::Deny)
            && r.direction() != Some(Direction::Outbound)
    });
    for rule in allows {
        let side = rule.destination();
        let listed = if side.any || !side.groups.is_empty() || !side.unreadable.is_empty() {
            None
        } else {
            side.addresses.to_addresses(MAX_PREFIXES)
        };
        let ports = if rule.destination_ports().unreadable.is_empty() {
            rule.destination_ports().ports.clone()
        } else {
            PortSet::all()
        };
        for address in listed.unwrap_or_else(|| vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)]) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                if rule.protocol().is_some_and(|p| p.intersection(protocol).is_none()) {
                    continue;
                }
                let managed = PortSet::from_ranges(
                    enabled()
                        .filter(|p| p.addresses.contains(&address))
                        .flat_map(|p| &p.ports)
                        .filter(|p| p.protocol.intersection(protocol).is_some())
                        .map(|p| p.ports),
                );
                let excess = ports.difference(&managed);
                if !excess.is_empty() {
                    let unexpected = sources_of(rule.source()).of_family(address);
                    found.push(Discrepancy {
                        address,
                        protocol,
                        ports: excess,
                        unexpected,
                        missing: SourceSet::none(),
                    });
                }
            }
        }
    }
    found
}

fn sources_of(side: &Endpoint) -> SourceSet {
    if side.any || !side.unreadable.is_empty() {
        return SourceSet::any();
    }
    side.groups.iter().fold(SourceSet::from_addresses(side.addresses.clone()), |set, group| {
        set.union(&SourceSet::from_group(group.clone()))
    })
}

/// Checks with the evaluator that exactly the granted and excepted sources reach each managed port, and that no
/// managed allow rule opens anything else. Where a protection respects existing rules, what those rules decide
/// before our deny is accepted; without our deny nothing is.
///
/// # Errors
/// Each managed address, protocol and port set where that is not so.
pub fn verify(
    current: &NetworkSecurityGroup,
    desired: &Desired,
    now: Timestamp,
) -> Result<(), Vec<Discrepancy>> {
    let mut found = beyond(current, desired);
    for difference in differences(current, desired, now) {
        let mut discrepancy = difference.discrepancy;
        if difference.respects {
            for decision in &difference.foreign {
                discrepancy.unexpected = discrepancy.unexpected.difference(&decision.possible);
                discrepancy.missing = discrepancy.missing.difference(&decision.possible);
            }
        }
        if !discrepancy.unexpected.is_empty() || !discrepancy.missing.is_empty() {
            found.push(discrepancy);
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}
