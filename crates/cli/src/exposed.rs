//! Who reaches a group's ports: the evaluation, in the form that reports are made from.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ajar_network::address::{SourceGroup, SourceSet};
use ajar_network::assessment::{Internet, Witness, internet_among};
use ajar_network::nsg::{Access, Direction, NetworkSecurityGroup};
use ajar_network::ports::{Port, Protocol};
use ajar_network::reachability::{Destination, Flow, InboundRules, Level, path_reach};
use ajar_network::resource_id::ResourceId;

/// A port that custom rules let someone reach, at some destination behind the group.
pub(crate) struct Exposed {
    pub(crate) port: Port,
    pub(crate) protocol: Protocol,
    /// Who surely gets in; where nobody surely does, who may.
    pub(crate) sources: SourceSet,
    pub(crate) certain: bool,
    pub(crate) internet: Internet,
    /// The rules that let them in, in order of evaluation.
    pub(crate) rules: Vec<String>,
    pub(crate) witness: Option<Witness>,
}

/// More destinations than this are not told apart.
const MOST_DESTINATIONS: usize = 256;

/// What the flows expose.
pub(crate) fn exposed(nsg: &NetworkSecurityGroup, flows: &[(Port, Protocol)]) -> Vec<Exposed> {
    let inbound = InboundRules::of(nsg);
    let destinations = destinations(nsg);
    flows.iter().filter_map(|(port, protocol)| one(nsg, &inbound, &destinations, *port, *protocol)).collect()
}

fn one(
    nsg: &NetworkSecurityGroup,
    inbound: &InboundRules<'_>,
    destinations: &[Destination],
    port: Port,
    protocol: Protocol,
) -> Option<Exposed> {
    let id = nsg.id().cloned().or_else(|| {
        ResourceId::parse(
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/networkSecurityGroups/n",
        )
        .ok()
    })?;
    let levels = [Level::Filtered { nsg: id, rules: inbound.clone() }];
    let (mut certain, mut possible) = (SourceSet::none(), SourceSet::none());
    let (mut rules, mut witness) = (Vec::new(), None);
    for destination in destinations {
        let flow = Flow { destination: destination.clone(), protocol, port };
        let reach = path_reach(&levels, &flow);
        if reach.possible_by_custom_rule.is_empty() {
            continue;
        }
        for decision in reach.points.iter().flat_map(|(_, decisions)| decisions) {
            let lets_in = decision.access != Some(Access::Deny)
                && !decision.is_default
                && !decision.possible.is_empty();
            if lets_in && !rules.contains(&decision.rule) {
                rules.push(decision.rule.clone());
            }
        }
        certain = certain.union(&reach.certain_by_custom_rule);
        possible = possible.union(&reach.possible_by_custom_rule);
        witness = witness.or(reach.witness);
    }
    if possible.is_empty() {
        return None;
    }
    let is_certain = !certain.is_empty();
    let sources = if is_certain { certain } else { possible };
    Some(Exposed {
        port,
        protocol,
        internet: internet_among(&sources),
        sources,
        certain: is_certain,
        rules,
        // Of an uncertain exposure the packet would be one that a default rule lets in.
        witness: witness.filter(|_| is_certain),
    })
}

/// One destination of each kind that the rules tell apart.
fn destinations(nsg: &NetworkSecurityGroup) -> Vec<Destination> {
    let mut addresses: BTreeSet<IpAddr> = BTreeSet::from([
        Ipv4Addr::new(10, 0, 0, 4).into(),
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 4).into(),
    ]);
    let mut groups: BTreeSet<Option<ResourceId>> = BTreeSet::from([None]);
    for rule in nsg.rules().iter().filter(|r| r.direction() != Some(Direction::Outbound)) {
        let side = rule.destination();
        addresses.extend(side.addresses.intervals().take(MOST_DESTINATIONS).map(|(first, _)| first));
        groups.extend(side.groups.iter().filter_map(|g| match g {
            SourceGroup::ApplicationSecurityGroup(id) => Some(Some(id.clone())),
            SourceGroup::Tag(_) => None,
        }));
    }
    let each = |address: IpAddr| {
        groups.iter().map(move |group| Destination { address, groups: Some(group.iter().cloned().collect()) })
    };
    addresses.into_iter().flat_map(each).take(MOST_DESTINATIONS).collect()
}
