//! The order of two single writes: the state between them opens what neither end opens, and closes nothing that
//! both allow. Proven with the evaluator for every packet that the changed rules are about.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{MAX_PREFIXES, RuleWrite};
use crate::nsg::{Direction, SecurityRule};
use crate::ports::{PortSet, Protocol};
use crate::reachability::{Destination, Flow, InboundRules, port_classes};

fn applied(rules: &[SecurityRule], write: &RuleWrite) -> Vec<SecurityRule> {
    let mut rules = rules.to_vec();
    match write {
        RuleWrite::Put(new) => match rules.iter_mut().find(|r| r.name().eq_ignore_ascii_case(new.name())) {
            Some(slot) => *slot = new.as_ref().clone(),
            None => rules.push(new.as_ref().clone()),
        },
        RuleWrite::Delete(name) => rules.retain(|r| !r.name().eq_ignore_ascii_case(name)),
    }
    rules
}

/// Azure refuses two rules of one direction with one priority.
fn priorities_are_unique(rules: &[SecurityRule]) -> bool {
    let mut seen = BTreeSet::new();
    rules.iter().filter(|r| r.direction() != Some(Direction::Outbound)).all(|r| seen.insert(r.priority()))
}

/// The writes in a safe order; none when there is no such order.
pub(super) fn safe_order(rules: &[SecurityRule], writes: Vec<RuleWrite>) -> Option<Vec<RuleWrite>> {
    let [first, second] = writes.as_slice() else {
        return (writes.len() < 2).then_some(writes);
    };
    let end = applied(&applied(rules, first), second);
    for (one, two) in [(first, second), (second, first)] {
        let between = applied(rules, one);
        if priorities_are_unique(&between) && harmless(rules, &between, &end, &writes) {
            return Some(vec![one.clone(), two.clone()]);
        }
    }
    None
}

fn harmless(
    start: &[SecurityRule],
    between: &[SecurityRule],
    end: &[SecurityRule],
    writes: &[RuleWrite],
) -> bool {
    let changed: Vec<&SecurityRule> = start
        .iter()
        .chain(end)
        .filter(|rule| {
            writes.iter().any(|w| match w {
                RuleWrite::Put(new) => new.name().eq_ignore_ascii_case(rule.name()),
                RuleWrite::Delete(name) => name.eq_ignore_ascii_case(rule.name()),
            })
        })
        .collect();
    let Some(flows) = affected(&changed, start, end) else { return false };
    let [start, between, end] = [start, between, end].map(InboundRules::from_rules);
    flows.iter().all(|flow| {
        let mut source_ports = start.source_ports(flow);
        source_ports.extend(between.source_ports(flow));
        source_ports.extend(end.source_ports(flow));
        source_ports.into_iter().all(|port| {
            let [a, i, b] = [&start, &between, &end].map(|rules| rules.reach_from_port(flow, port));
            i.possible.is_subset(&a.possible.union(&b.possible))
                && a.certain.intersection(&b.certain).is_subset(&i.certain)
        })
    })
}

/// One flow of each class that all rules treat alike; none when the changed rules are about more than a list of
/// addresses.
fn affected(changed: &[&SecurityRule], start: &[SecurityRule], end: &[SecurityRule]) -> Option<Vec<Flow>> {
    let mut addresses: BTreeSet<IpAddr> = BTreeSet::new();
    let mut ports = PortSet::default();
    for rule in changed {
        let side = rule.destination();
        if side.any || !side.groups.is_empty() || !side.unreadable.is_empty() {
            return None;
        }
        addresses.extend(side.addresses.to_addresses(MAX_PREFIXES)?);
        ports = ports.union(&rule.destination_ports().ports);
    }
    let all = || start.iter().chain(end);
    let mut classes: BTreeMap<Vec<bool>, IpAddr> = BTreeMap::new();
    for address in addresses {
        let mut signature: Vec<bool> = all().map(|r| r.destination().addresses.contains(address)).collect();
        signature.push(address.is_ipv4());
        classes.entry(signature).or_insert(address);
    }
    let mut protocols = vec![Protocol::Tcp, Protocol::Udp];
    if ports.is_all() {
        protocols.extend([Protocol::Icmp, Protocol::Esp, Protocol::Ah]);
    }
    let port_classes = port_classes(all().map(SecurityRule::meaning), &ports);
    let mut flows = Vec::new();
    for address in classes.values() {
        for protocol in &protocols {
            for class in &port_classes {
                let port = class.ranges().next().map_or(0, |r| r.first());
                flows.push(Flow { destination: Destination::address(*address), protocol: *protocol, port });
            }
        }
    }
    Some(flows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{AddressSet, Prefix};
    use crate::nsg::{Access, RuleSource, RuleSpec};
    use crate::ports::PortRange;

    fn rule(name: &str, priority: u16, access: Access, source: &str, ports: &[u16]) -> SecurityRule {
        RuleSpec {
            name: name.to_owned(),
            description: String::new(),
            priority,
            access,
            protocol: Protocol::Tcp,
            source: match source {
                "*" => RuleSource::Any,
                text => RuleSource::Addresses(Prefix::parse(text).unwrap().into()),
            },
            destination: AddressSet::from_addresses(["10.0.0.4".parse().unwrap()]),
            destination_ports: PortSet::from_ranges(ports.iter().map(|p| PortRange::single(*p))),
        }
        .build()
    }

    fn put(rule: SecurityRule) -> RuleWrite {
        RuleWrite::Put(Box::new(rule))
    }

    fn names(writes: &[RuleWrite]) -> Vec<&str> {
        writes
            .iter()
            .map(|w| match w {
                RuleWrite::Put(rule) => rule.name(),
                RuleWrite::Delete(name) => name,
            })
            .collect()
    }

    #[test]
    fn a_deny_is_added_before_another_narrows() {
        let open = rule("open", 1000, Access::Allow, "*", &[22, 80]);
        let start = [rule("wide", 200, Access::Deny, "*", &[22, 80]), open];
        let narrow = put(rule("wide", 200, Access::Deny, "*", &[80]));
        let add = put(rule("own", 201, Access::Deny, "*", &[22]));
        let order = safe_order(&start, vec![narrow, add]).unwrap();
        assert_eq!(names(&order), ["own", "wide"], "the other way round 22 would be open for a moment");
    }

    #[test]
    fn an_allow_is_added_before_another_goes() {
        let start = [
            rule("old", 100, Access::Allow, "203.0.113.7", &[22]),
            rule("shut", 200, Access::Deny, "*", &[22]),
        ];
        let add = put(rule("new", 101, Access::Allow, "203.0.113.0/24", &[22]));
        let order = safe_order(&start, vec![RuleWrite::Delete("old".to_owned()), add]).unwrap();
        assert_eq!(names(&order), ["new", "old"], "the other way round a session would be cut");
    }

    #[test]
    fn a_priority_is_freed_before_it_is_taken() {
        let start = [
            rule("old", 100, Access::Allow, "203.0.113.7", &[22]),
            rule("shut", 200, Access::Deny, "*", &[22, 80]),
        ];
        let add = put(rule("new", 100, Access::Allow, "203.0.113.7", &[80]));
        let order = safe_order(&start, vec![add, RuleWrite::Delete("old".to_owned())]).unwrap();
        assert_eq!(names(&order), ["old", "new"]);
    }

    #[test]
    fn where_each_order_cuts_somebody_off_there_is_none() {
        let start = [
            rule("a", 100, Access::Allow, "203.0.113.1", &[22]),
            rule("b", 101, Access::Allow, "203.0.113.2", &[22]),
            rule("shut", 200, Access::Deny, "*", &[22]),
        ];
        let swap = vec![
            put(rule("a", 100, Access::Allow, "203.0.113.2", &[22])),
            put(rule("b", 101, Access::Allow, "203.0.113.1", &[22])),
        ];
        assert_eq!(safe_order(&start, swap), None);
    }
}
