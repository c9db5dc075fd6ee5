//! Azure Firewall: which packets its rules forward to a VM or let through to it.
//!
//! A firewall has two ways to let a packet reach a VM. A DNAT rule *forwards* what is sent to one of the firewall's
//! addresses, and that allows it outright: network rules are not asked any more [network-facts, D5 of 2026]. A network
//! rule *allows* what is routed through the firewall to the VM's own address; what no rule allows is denied. DNAT rules
//! come first, then network rules, then application rules, over all collections; in each of these, the rules of a parent
//! policy come first, then those of the rule collection groups and collections by priority.
//!
//! The VM sees an address of `AzureFirewallSubnet` as the source of what is forwarded, so an NSG behind the firewall
//! knows nothing of the sources here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{AddressSet, SourceSet};
use crate::nsg::{Endpoint, RuleMeaning};
use crate::ports::{Port, PortSet};
use crate::reachability::{
    Decision, Destination, EPHEMERAL, Flow, Match, NsgReach, Relevant, Uncertainty, Witness, matching,
    port_classes, reach_over,
};

mod read;

pub use read::{IpGroups, PolicyLevel};

/// The rules of one firewall, each kind in the order in which it is processed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FirewallRules {
    nat: Vec<Rule>,
    /// Network rules, and after them application rules.
    filter: Vec<Rule>,
    /// What is missing. Rules that are not here may allow or deny anything.
    unread: Vec<Uncertainty>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// `collection/rule`, in a policy `group/collection/rule`.
    path: String,
    /// The name is the rule's place in the order, which names in Azure need not be.
    meaning: RuleMeaning,
    /// Why it may not apply although it matches.
    doubt: Option<&'static str>,
    /// Where a DNAT rule sends packets; parts that cannot be read are none.
    translated: (Option<IpAddr>, Option<Port>),
}

/// What a DNAT rule forwards to a VM's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// `collection/rule`, in a policy `group/collection/rule`.
    pub rule: String,
    /// The addresses of the firewall at which it does.
    pub destinations: AddressSet,
    /// The ports of these addresses at which it does.
    pub ports: PortSet,
    /// Every source that may be forwarded.
    pub possible: SourceSet,
    /// Every source that surely is.
    pub certain: SourceSet,
    /// A packet to the firewall that is forwarded; one that may be, where none surely is.
    pub witness: Option<Witness>,
}

/// Who reaches a VM's port through a firewall.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FirewallReach {
    /// What DNAT rules forward to it, rule by rule in order.
    pub forwarded: Vec<Forwarding>,
    /// Every source that may be forwarded to it.
    pub forwarded_possible: SourceSet,
    /// Every source that surely is.
    pub forwarded_certain: SourceSet,
    /// Every source that may be let through to the VM's own address.
    pub allowed_possible: SourceSet,
    /// Every source that surely is.
    pub allowed_certain: SourceSet,
    /// The network and application rules that decide about the VM's own address, in order.
    pub decisions: Vec<Decision>,
    /// Why bounds may differ.
    pub uncertainties: Vec<Uncertainty>,
}

impl FirewallReach {
    /// Whether the firewall surely neither forwards nor lets through anything.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.forwarded_possible.is_empty() && self.allowed_possible.is_empty()
    }

    /// Whether the firewall surely forwards or lets through something.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.forwarded_certain.is_empty() || !self.allowed_certain.is_empty()
    }
}

impl FirewallRules {
    /// What is missing of the rules; empty: they are complete.
    #[must_use]
    pub fn unread(&self) -> &[Uncertainty] {
        &self.unread
    }

    /// How many rules there are: one for each protocol that a rule of Azure lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nat.len() + self.filter.len()
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who reaches a VM's private address, protocol and port. Application security groups of the destination mean
    /// nothing to a firewall.
    #[must_use]
    pub fn reach(&self, flow: &Flow) -> FirewallReach {
        let mut own = walk(&self.filter, flow);
        for decision in &mut own.decisions {
            if let Some(rule) = at_place(&self.filter, &decision.rule) {
                decision.rule.clone_from(&rule.path);
            }
        }
        let mut reach = FirewallReach {
            allowed_possible: own.possible,
            allowed_certain: own.certain,
            decisions: own.decisions,
            uncertainties: explained(&self.filter, own.uncertainties),
            ..FirewallReach::default()
        };
        for (place, rule) in self.nat.iter().enumerate().filter(|(_, r)| may_lead_to(r, flow)) {
            self.forward(place, rule, flow, &mut reach);
        }
        for forwarding in &reach.forwarded {
            reach.forwarded_possible = reach.forwarded_possible.union(&forwarding.possible);
            reach.forwarded_certain = reach.forwarded_certain.union(&forwarding.certain);
        }
        if !self.unread.is_empty() {
            let everybody = SourceSet::from_addresses(AddressSet::family_of(flow.destination.address));
            reach.allowed_possible = everybody;
            reach.forwarded_possible = SourceSet::any();
            reach.allowed_certain = SourceSet::none();
            reach.forwarded_certain = SourceSet::none();
            for forwarding in &mut reach.forwarded {
                forwarding.certain = SourceSet::none();
            }
            reach.uncertainties.extend(self.unread.iter().cloned());
        }
        let mut seen = BTreeSet::new();
        reach.uncertainties.retain(|u| seen.insert(u.clone()));
        reach
    }

    /// Adds what the DNAT rule at a place forwards, one entry for each kind of destination that the rules tell apart.
    fn forward(&self, place: usize, rule: &Rule, flow: &Flow, reach: &mut FirewallReach) {
        let leads = rule.translated == (Some(flow.destination.address), Some(flow.port));
        let given = &rule.meaning.destination_ports;
        let ports = if given.unreadable.is_empty() { given.ports.clone() } else { PortSet::all() };
        let meanings = || self.nat.iter().map(|r| &r.meaning);
        let place = place.to_string();
        for destinations in destination_classes(&rule.meaning.destination, meanings()) {
            let Some(address) = destinations.first() else { continue };
            for ports in port_classes(meanings(), &ports) {
                let Some(port) = ports.ranges().next().map(|r| r.first()) else { continue };
                let destination = Destination { address, groups: Some(BTreeSet::new()) };
                let arriving = Flow { destination, protocol: flow.protocol, port };
                let walked = walk(&self.nat, &arriving);
                let Some(decision) = walked.decisions.iter().find(|d| d.rule == place) else { continue };
                let possible = decision.possible.clone();
                let certain = if leads { decision.certain.clone() } else { SourceSet::none() };
                if !leads {
                    let explanation = "where it sends packets cannot be read".to_owned();
                    reach.uncertainties.push(Uncertainty { subject: rule.path.clone(), explanation });
                }
                reach.uncertainties.extend(explained(&self.nat, walked.uncertainties));
                reach.forwarded.push(Forwarding {
                    rule: rule.path.clone(),
                    destinations: destinations.clone(),
                    ports,
                    witness: Witness::from_set(&certain, &arriving, EPHEMERAL)
                        .or_else(|| Witness::from_set(&possible, &arriving, EPHEMERAL)),
                    possible,
                    certain,
                });
            }
        }
    }
}

/// Walks rules of one kind for a packet as it arrives. Decisions and uncertainties are under the rules' places.
fn walk(rules: &[Rule], flow: &Flow) -> NsgReach {
    let relevant: Vec<Relevant<'_>> = rules
        .iter()
        .map(|rule| {
            let matches = matching(&rule.meaning, flow);
            Relevant::of(
                &rule.meaning,
                if rule.doubt.is_none() { matches } else { matches.min(Match::Maybe) },
            )
        })
        .filter(Relevant::may_match)
        .collect();
    // Rules of a firewall match packets from every source port.
    reach_over(&relevant, flow, EPHEMERAL)
}

fn at_place<'a>(rules: &'a [Rule], place: &str) -> Option<&'a Rule> {
    place.parse::<usize>().ok().and_then(|at| rules.get(at))
}

/// Uncertainties under the rules' paths, each with its reason.
fn explained(rules: &[Rule], mut uncertainties: Vec<Uncertainty>) -> Vec<Uncertainty> {
    for uncertainty in &mut uncertainties {
        if let Some(rule) = at_place(rules, &uncertainty.subject) {
            uncertainty.subject.clone_from(&rule.path);
            if let Some(doubt) = rule.doubt {
                doubt.clone_into(&mut uncertainty.explanation);
            }
        }
    }
    uncertainties
}

/// Whether a DNAT rule sends packets to the VM's port, as far as it can be read.
fn may_lead_to(rule: &Rule, flow: &Flow) -> bool {
    let (address, port) = rule.translated;
    let protocol = rule.meaning.protocol.is_none_or(|p| p.intersection(flow.protocol).is_some());
    protocol && address.is_none_or(|a| a == flow.destination.address) && port.is_none_or(|p| p == flow.port)
}

/// The destinations of a rule in parts that all rules treat alike.
fn destination_classes<'a>(side: &Endpoint, rules: impl Iterator<Item = &'a RuleMeaning>) -> Vec<AddressSet> {
    let readable = !side.any && side.groups.is_empty() && side.unreadable.is_empty();
    let whole = if readable { side.addresses.clone() } else { AddressSet::all() };
    let (mut v4, mut v6) = (BTreeSet::new(), BTreeSet::new());
    for rule in rules {
        let (four, six) = rule.destination.addresses.bits();
        v4.extend(four.iter().flat_map(|&(from, to)| [Some(from), to.checked_add(1)]).flatten());
        v6.extend(six.iter().flat_map(|&(from, to)| [Some(from), to.checked_add(1)]).flatten());
    }
    let mut classes = Vec::new();
    let (four, six) = whole.bits();
    for &(from, to) in four {
        let mut start = from;
        let cuts = v4.range(from..=to).copied().filter(|cut| *cut > from).map(|cut| (cut - 1, cut));
        for (end, next) in cuts.chain([(to, to)]) {
            let [a, b] = [start, end].map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
            classes.push(AddressSet::range(a, b));
            start = next;
        }
    }
    for &(from, to) in six {
        let mut start = from;
        let cuts = v6.range(from..=to).copied().filter(|cut| *cut > from).map(|cut| (cut - 1, cut));
        for (end, next) in cuts.chain([(to, to)]) {
            let [a, b] = [start, end].map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)));
            classes.push(AddressSet::range(a, b));
            start = next;
        }
    }
    classes
}
