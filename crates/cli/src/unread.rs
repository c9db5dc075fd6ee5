//! What in a group could not be read and matters to the question asked: which rule, which property, and where.

use ajar_network::nsg::{Direction, NetworkSecurityGroup, RuleMeaning, SecurityRule};
use ajar_network::ports::{Port, Protocol};
use serde_json::Value;

use crate::place::Step;
use crate::resources::{NsgJson, get, kind};

/// A property that could not be read.
pub(crate) struct Unread {
    /// Where it is in the element.
    pub(crate) path: Vec<Step>,
    pub(crate) rule: String,
    pub(crate) property: &'static str,
    pub(crate) explanation: String,
}

/// Where the rule of this index is in the element.
pub(crate) fn rule_path(found: &NsgJson, nsg: &NetworkSecurityGroup, index: usize) -> Vec<Step> {
    let own = nsg.rules().len() - found.more_rules.len().min(nsg.rules().len());
    if let Some(path) = index.checked_sub(own).and_then(|more| found.more_rules.get(more)) {
        return path.clone();
    }
    let mut path = found.path.clone();
    if get(&found.json, "properties").is_some_and(Value::is_object) {
        path.push(Step::key("properties"));
    }
    path.extend([Step::key("securityRules"), Step::Item(index)]);
    path
}

/// What cannot be read in rules that may concern the ports.
pub(crate) fn unread(
    found: &NsgJson,
    nsg: &NetworkSecurityGroup,
    ports: &[Port],
    protocol: Protocol,
) -> Vec<Unread> {
    let mut all = Vec::new();
    for (index, rule) in nsg.rules().iter().enumerate() {
        if is_plain(rule.meaning(), ports, protocol) {
            continue;
        }
        let properties = get(rule.json(), "properties").filter(|p| p.is_object()).unwrap_or(rule.json());
        let nested = get(rule.json(), "properties").is_some_and(Value::is_object);
        for (property, explanation) in of_rule(rule, properties) {
            let mut path = rule_path(found, nsg, index);
            if nested {
                path.push(Step::key("properties"));
            }
            path.push(Step::key(property));
            all.push(Unread { path, rule: rule.name().to_owned(), property, explanation });
        }
    }
    all
}

/// Whether everything in the rule can be read, or it is about other packets anyway.
pub(crate) fn is_plain(rule: &RuleMeaning, ports: &[Port], protocol: Protocol) -> bool {
    let readable = rule.direction.is_some()
        && rule.access.is_some()
        && rule.priority.is_some()
        && rule.protocol.is_some()
        && rule.source.unreadable.is_empty()
        && rule.source_ports.unreadable.is_empty()
        && rule.destination.unreadable.is_empty()
        && rule.destination_ports.unreadable.is_empty();
    let other_ports = || {
        let of_rule = &rule.destination_ports;
        of_rule.unreadable.is_empty() && !ports.iter().any(|port| of_rule.ports.contains(*port))
    };
    readable
        || rule.direction == Some(Direction::Outbound)
        || rule.protocol.is_some_and(|p| p != Protocol::Any && p != protocol)
        || other_ports()
}

fn of_rule(rule: &SecurityRule, properties: &Value) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let mut single = |readable: bool, property: &'static str, wanted: &str| {
        if !readable {
            all.push((property, told(get(properties, property), wanted)));
        }
    };
    single(rule.direction().is_some(), "direction", "Inbound or Outbound");
    single(rule.access().is_some(), "access", "Allow or Deny");
    single(rule.priority().is_some(), "priority", "a whole number from 100 to 4096");
    single(rule.protocol().is_some(), "protocol", "Tcp, Udp, Icmp, Esp, Ah or *");
    let lists: [(&[String], &[&'static str], &str); 4] = [
        (
            &rule.source().unreadable,
            &["sourceAddressPrefix", "sourceAddressPrefixes", "sourceApplicationSecurityGroups"],
            "an address, a prefix, a service tag or *",
        ),
        (&rule.source_ports().unreadable, &["sourcePortRange", "sourcePortRanges"], "a port, a range or *"),
        (
            &rule.destination().unreadable,
            &[
                "destinationAddressPrefix",
                "destinationAddressPrefixes",
                "destinationApplicationSecurityGroups",
            ],
            "an address, a prefix, a service tag or *",
        ),
        (
            &rule.destination_ports().unreadable,
            &["destinationPortRange", "destinationPortRanges"],
            "a port, a range or *",
        ),
    ];
    for (texts, names, wanted) in lists {
        for text in texts {
            let holds = |name: &&&'static str| {
                get(properties, name).is_some_and(|v| match v {
                    Value::String(s) => s.contains(text.as_str()),
                    other => other.to_string().contains(text.as_str()),
                })
            };
            match names.iter().find(holds) {
                Some(name) => {
                    all.push((name, told(Some(&Value::String(text.clone())), wanted)));
                }
                None => all.extend(names.first().map(|name| (*name, told(None, wanted)))),
            }
        }
    }
    all
}

fn told(value: Option<&Value>, wanted: &str) -> String {
    match value {
        None => format!("is missing; expected {wanted}"),
        Some(Value::String(text)) if text.trim_start().starts_with('[') && text.trim_end().ends_with(']') => {
            format!(
                "`{text}` is a template expression, whose value is not known here; judge the deployed group, or write {wanted}"
            )
        }
        Some(Value::String(text)) => format!("`{text}` is not {wanted}"),
        Some(Value::Number(number)) => format!("{number} is not {wanted}"),
        Some(other) => format!("expected {wanted}, found {}", kind(other)),
    }
}
