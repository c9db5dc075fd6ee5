//! Reading firewalls, firewall policies and IP groups as ARM returns them, leniently: what cannot be read is kept as
//! something that may match, and what is missing is told.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{FirewallRules, Rule};
use crate::address::SourceGroup;
use crate::json;
use crate::meaning::{Access, Direction, Endpoint, PortMatch, RuleMeaning};
use crate::ports::Protocol;
use crate::reachability::Uncertainty;
use crate::resource_id::ResourceId;

const INHERITED_NAT: &str =
    "whether the DNAT rules of a parent policy are inherited is documented in both ways";
const APPLICATION: &str = "an application rule lets HTTP pass by host name, whatever the address; it does not apply to what is forwarded";

/// The address lists that rules refer to, by id.
#[derive(Debug, Clone, Default)]
pub struct IpGroups(HashMap<ResourceId, Vec<Value>>);

impl IpGroups {
    /// From `Microsoft.Network/ipGroups` resources; others are passed over.
    pub fn from_resources<'a>(resources: impl IntoIterator<Item = &'a Value>) -> Self {
        let groups = resources.into_iter().filter_map(|resource| {
            let id = ResourceId::parse(json::text(resource, "id")?).ok()?;
            let addresses = json::list(json::properties(resource), "ipAddresses").to_vec();
            id.is_type("Microsoft.Network/ipGroups").then_some((id, addresses))
        });
        Self(groups.collect())
    }
}

/// A firewall policy and the rule collection groups that are known of it.
#[derive(Debug, Clone, Copy)]
pub struct PolicyLevel<'a> {
    /// The policy.
    pub policy: &'a Value,
    /// Its rule collection groups, in any order.
    pub groups: &'a [Value],
}

/// The order of processing within one kind of rules: how far from the root policy, priority of the group, priority of
/// the collection. A priority that cannot be read is none, which comes first.
type Order = (usize, Option<u64>, Option<u64>);

struct Reader<'a> {
    ip_groups: &'a IpGroups,
    nat: Vec<(Order, Rule)>,
    network: Vec<(Order, Rule)>,
    application: Vec<(Order, Rule)>,
    unread: Vec<Uncertainty>,
}

/// What a collection is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nat,
    Network,
    Application,
}

/// Where a collection stands, and what it does.
struct Collection<'a> {
    path: String,
    order: Order,
    access: Option<Access>,
    inherited: bool,
    rules: &'a [Value],
}

impl FirewallRules {
    /// The rules of a classic firewall: those of its own collections. A firewall with a policy has its rules there, and
    /// none of its own.
    #[must_use]
    pub fn of_classic(firewall: &Value, ip_groups: &IpGroups) -> Self {
        let mut reader = Reader::new(ip_groups);
        let properties = json::properties(firewall);
        let name =
            json::text(firewall, "id").or_else(|| json::text(firewall, "name")).unwrap_or("the firewall");
        if let Some(policy) = json::get(properties, "firewallPolicy") {
            let id = json::text(policy, "id").unwrap_or("a policy that cannot be read");
            reader.missing(name, format!("its rules are those of {id}"));
        }
        for (key, kind) in [
            ("natRuleCollections", Kind::Nat),
            ("networkRuleCollections", Kind::Network),
            ("applicationRuleCollections", Kind::Application),
        ] {
            for collection in reader.list(properties, key, name) {
                let own = json::properties(collection);
                let path = json::text(collection, "name").unwrap_or("without name").to_owned();
                let order = (0, None, json::number(own, "priority"));
                let access = reader.action(own);
                let rules = reader.list(own, "rules", &path);
                let known = Collection { path, order, access, inherited: false, rules };
                for rule in known.rules {
                    reader.rule(&known, rule, kind, "protocols");
                }
            }
        }
        reader.finish()
    }

    /// The rules of a firewall policy, its ancestors before it: the root first, the firewall's own policy last.
    #[must_use]
    pub fn of_policies(levels: &[PolicyLevel<'_>], ip_groups: &IpGroups) -> Self {
        let mut reader = Reader::new(ip_groups);
        let mut parent: Option<&str> = None;
        for (depth, level) in levels.iter().enumerate() {
            let name = json::text(level.policy, "id").unwrap_or("the policy");
            let properties = json::properties(level.policy);
            let base = json::reference(properties, "basePolicy");
            if !base.unwrap_or_default().eq_ignore_ascii_case(parent.unwrap_or_default()) {
                let base = base.unwrap_or("nothing");
                reader.missing(name, format!("its parent is {base}, which is not the policy before it"));
            }
            parent = Some(name);
            reader.groups(depth, depth + 1 < levels.len(), name, properties, level.groups);
        }
        reader.finish()
    }
}

impl<'a> Reader<'a> {
    const fn new(ip_groups: &'a IpGroups) -> Self {
        Self { ip_groups, nat: Vec::new(), network: Vec::new(), application: Vec::new(), unread: Vec::new() }
    }

    fn missing(&mut self, subject: &str, explanation: impl Into<String>) {
        self.unread.push(Uncertainty { subject: subject.to_owned(), explanation: explanation.into() });
    }

    /// A list; absent is empty, and anything else is told.
    fn list<'v>(&mut self, value: &'v Value, key: &str, subject: &str) -> &'v [Value] {
        match json::get(value, key) {
            None => &[],
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.missing(subject, format!("{key} is no list"));
                &[]
            }
        }
    }

    fn action(&self, collection: &Value) -> Option<Access> {
        let text = json::get(collection, "action").and_then(|a| json::text(a, "type"))?;
        match text.trim().to_ascii_lowercase().as_str() {
            "allow" | "dnat" => Some(Access::Allow),
            "deny" => Some(Access::Deny),
            _ => None,
        }
    }

    fn groups(&mut self, depth: usize, inherited: bool, policy: &str, properties: &Value, groups: &[Value]) {
        let id_of = |v: &Value| json::text(v, "id").and_then(|t| ResourceId::parse(t).ok());
        let here: Vec<ResourceId> = groups.iter().filter_map(id_of).collect();
        match json::get(properties, "ruleCollectionGroups") {
            Some(Value::Array(list)) => {
                for reference in list {
                    if !id_of(reference).is_some_and(|id| here.contains(&id)) {
                        let id = json::text(reference, "id").unwrap_or("one that cannot be read");
                        self.missing(policy, format!("rule collection group {id} is not here"));
                    }
                }
            }
            _ => self.missing(policy, "it does not say which rule collection groups it has"),
        }
        for group in groups {
            let own = json::properties(group);
            let name = json::text(group, "name").or_else(|| json::text(group, "id")?.rsplit('/').next());
            let name = name.unwrap_or("without name");
            let priority = json::number(own, "priority");
            for collection in self.list(own, "ruleCollections", name) {
                let part = json::text(collection, "name").unwrap_or("without name");
                let path = format!("{name}/{part}");
                let order = (depth, priority, json::number(collection, "priority"));
                let access = self.action(collection);
                let rules = self.list(collection, "rules", &path);
                let kind = json::text(collection, "ruleCollectionType").map(str::to_ascii_lowercase);
                let known = Collection { path, order, access, inherited, rules };
                for rule in known.rules {
                    match kind_of(kind.as_deref(), rule) {
                        Some(kind) => self.rule(&known, rule, kind, "ipProtocols"),
                        None => self.missing(&known.path, "what kind of rules it has cannot be read"),
                    }
                }
            }
        }
    }

    fn rule(&mut self, collection: &Collection<'_>, rule: &Value, kind: Kind, protocols: &str) {
        let properties = json::properties(rule);
        let name = json::text(rule, "name").unwrap_or("without name");
        let path = format!("{}/{name}", collection.path);
        let fqdns = json::list(properties, "destinationFqdns").iter().filter_map(Value::as_str);
        let fqdns = fqdns.map(|fqdn| format!("the addresses of {fqdn}")).collect();
        let (Some(source), Some(mut destination)) =
            (self.side(properties, "source", Vec::new()), self.side(properties, "destination", fqdns))
        else {
            // Azure passes over a rule that refers to an empty IP group.
            return;
        };
        let named = |g: &SourceGroup| matches!(g, SourceGroup::Tag(tag) if tag.is_virtual_network());
        if destination.groups.iter().any(named) {
            destination
                .unreadable
                .push("VirtualNetwork, whose meaning to a firewall is not documented".to_owned());
            destination.groups.retain(|g| !named(g));
        }
        let (given, ports) = match kind {
            Kind::Application => (vec![Some(Protocol::Tcp)], application_ports(properties)),
            _ => (protocols_of(json::list(properties, protocols)), ports_of(properties)),
        };
        if kind == Kind::Application {
            destination = Endpoint::everything();
        }
        let (_, group, priority) = collection.order;
        // Without it, or without that of its group in a policy, the rule may come before any other.
        let is_ordered = priority.is_some() && (protocols == "protocols" || group.is_some());
        let doubt = match kind {
            Kind::Nat if collection.inherited => Some(INHERITED_NAT),
            Kind::Application => Some(APPLICATION),
            _ => None,
        };
        let translated = (
            json::text(properties, "translatedAddress").and_then(|t| t.trim().parse().ok()),
            json::number(properties, "translatedPort").and_then(|n| n.try_into().ok()),
        );
        let ports =
            RuleMeaning::of(&json!({"properties": {"destinationPortRanges": ports}})).destination_ports;
        for protocol in given {
            let meaning = RuleMeaning {
                name: String::new(),
                direction: Some(Direction::Inbound),
                access: if kind == Kind::Nat { Some(Access::Allow) } else { collection.access },
                priority: priority.and_then(|p| p.try_into().ok()).filter(|_| is_ordered),
                protocol,
                source: source.clone(),
                source_ports: PortMatch::all(),
                destination: destination.clone(),
                destination_ports: ports.clone(),
            };
            let rule = Rule { path: path.clone(), meaning, doubt, translated };
            match kind {
                Kind::Nat => self.nat.push((collection.order, rule)),
                Kind::Network => self.network.push((collection.order, rule)),
                Kind::Application => self.application.push((collection.order, rule)),
            }
        }
    }

    /// One side of a rule: addresses, service tags and IP groups, besides what is known to be unread. None when it is an empty IP group and nothing else.
    fn side(&self, properties: &Value, side: &str, mut unread: Vec<String>) -> Option<Endpoint> {
        let mut listed = json::list(properties, &format!("{side}Addresses")).to_vec();
        listed.extend(json::list(properties, &format!("{side}ServiceTags")).iter().cloned());
        let mut empty = Vec::new();
        for reference in json::list(properties, &format!("{side}IpGroups")) {
            let text = reference.as_str().or_else(|| json::text(reference, "id")).unwrap_or_default();
            match ResourceId::parse(text).ok().and_then(|id| self.ip_groups.0.get(&id)) {
                None => unread.push(format!("IP group {text}, which is not here")),
                Some(addresses) if addresses.is_empty() => {
                    empty.push(format!("IP group {text}, which is empty"))
                }
                Some(addresses) => listed.extend(addresses.iter().cloned()),
            }
        }
        if listed.is_empty() && unread.is_empty() && !empty.is_empty() {
            return None;
        }
        unread.extend(empty);
        let anything = listed.is_empty();
        let json = json!({"properties": {"sourceAddressPrefixes": listed}});
        let mut endpoint = RuleMeaning::of(&json).source;
        if anything {
            endpoint.unreadable =
                if unread.is_empty() { vec![format!("no {side} is given")] } else { Vec::new() };
        }
        endpoint.unreadable.extend(unread);
        Some(endpoint)
    }

    fn finish(self) -> FirewallRules {
        let sorted = |mut rules: Vec<(Order, Rule)>| {
            rules.sort_by_key(|(order, _)| *order);
            rules.into_iter().map(|(_, rule)| rule)
        };
        let numbered = |rules: &mut Vec<Rule>| {
            for (place, rule) in rules.iter_mut().enumerate() {
                rule.meaning.name = place.to_string();
            }
        };
        let mut nat: Vec<Rule> = sorted(self.nat).collect();
        let mut filter: Vec<Rule> = sorted(self.network).chain(sorted(self.application)).collect();
        numbered(&mut nat);
        numbered(&mut filter);
        FirewallRules { nat, filter, unread: self.unread }
    }
}

fn kind_of(collection: Option<&str>, rule: &Value) -> Option<Kind> {
    let kind = json::text(rule, "ruleType").map(str::to_ascii_lowercase);
    match (kind.as_deref(), collection) {
        (Some("natrule"), _) | (None, Some("firewallpolicynatrulecollection")) => Some(Kind::Nat),
        (Some("networkrule"), _) => Some(Kind::Network),
        (Some("applicationrule"), _) => Some(Kind::Application),
        _ => None,
    }
}

/// The protocols of a rule, each once; one that cannot be read is none. With `Any` no other counts.
fn protocols_of(listed: &[Value]) -> Vec<Option<Protocol>> {
    let read = |v: &Value| v.as_str().and_then(|t| Protocol::parse(t).ok());
    let mut protocols: Vec<Option<Protocol>> = listed.iter().map(read).collect();
    protocols.sort_unstable();
    protocols.dedup();
    match () {
        () if protocols.is_empty() => vec![None],
        () if protocols.contains(&Some(Protocol::Any)) => vec![Some(Protocol::Any)],
        () => protocols,
    }
}

fn ports_of(properties: &Value) -> Vec<Value> {
    json::list(properties, "destinationPorts").to_vec()
}

/// The ports of `{"protocolType", "port"}`; FQDN tags stand for HTTP and HTTPS.
fn application_ports(properties: &Value) -> Vec<Value> {
    let listed = json::list(properties, "protocols");
    if listed.is_empty() && !json::list(properties, "fqdnTags").is_empty() {
        return vec![json!(80), json!(443)];
    }
    listed.iter().map(|p| json::get(p, "port").cloned().unwrap_or_else(|| json!("a port"))).collect()
}
