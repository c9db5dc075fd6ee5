//! Network security groups and their rules: read leniently, written back without losing anything.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::address::{AddressSet, Prefix, ServiceTag, SourceGroup};
use crate::json;
use crate::ports::{PortRange, PortSet, Protocol};
use crate::resource_id::ResourceId;

/// The smallest priority a rule may have, which is evaluated first [network-facts, D1].
pub const FIRST_PRIORITY: u16 = 100;
/// The largest priority a rule may have.
pub const LAST_PRIORITY: u16 = 4096;

/// Up to how many destinations are listed one by one; Azure's limit for all rules of an NSG is 4000.
const MAX_LISTED_ADDRESSES: usize = 4000;

/// Which way a rule looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Direction {
    /// Towards the VM.
    Inbound,
    /// From the VM.
    Outbound,
}

/// What a rule does with a packet it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Access {
    /// Lets it pass.
    Allow,
    /// Drops it.
    Deny,
}

/// One side of a rule: the addresses and groups it matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// `*`: every address of both families.
    pub any: bool,
    /// The addresses given as prefixes.
    pub addresses: AddressSet,
    /// Service tags and application security groups.
    pub groups: Vec<SourceGroup>,
    /// What could not be read; the side may match more than the rest says.
    pub unreadable: Vec<String>,
    /// How many prefixes, tags and groups were listed (counts against Azure's limit).
    pub listed: usize,
}

/// The ports of one side of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortMatch {
    /// The ports matched.
    pub ports: PortSet,
    /// What could not be read; the side may match more than `ports`.
    pub unreadable: Vec<String>,
}

/// A security rule as ARM returned it (or as [`RuleSpec`] builds it), together with what it means.
#[derive(Debug, Clone, PartialEq)]
pub struct SecurityRule {
    json: Value,
    name: String,
    description: String,
    direction: Option<Direction>,
    access: Option<Access>,
    priority: Option<u16>,
    protocol: Option<Protocol>,
    source: Endpoint,
    source_ports: PortMatch,
    destination: Endpoint,
    destination_ports: PortMatch,
}

/// The sources of a rule that this product writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleSource {
    /// `*`
    Any,
    /// One service tag, which the API accepts only alone and in the singular property.
    Tag(ServiceTag),
    /// Addresses of one family.
    Addresses(AddressSet),
}

/// What an inbound rule of our own consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSpec {
    /// At most 80 characters, unique in the NSG.
    pub name: String,
    /// At most 140 characters.
    pub description: String,
    /// [`FIRST_PRIORITY`] to [`LAST_PRIORITY`].
    pub priority: u16,
    /// Allow or Deny.
    pub access: Access,
    /// The protocol.
    pub protocol: Protocol,
    /// Who the rule is about.
    pub source: RuleSource,
    /// Private addresses of VMs, of one family.
    pub destination: AddressSet,
    /// The VMs' ports.
    pub destination_ports: PortSet,
}

/// Why JSON is not a network security group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNsg {
    /// Not a JSON object.
    #[error("a network security group must be a JSON object as ARM returns it")]
    NotAnObject,
    /// `securityRules` holds something else than a list.
    #[error("`properties.securityRules` of {nsg} must be a list")]
    RulesNotAList {
        /// The NSG's name or id as far as known.
        nsg: String,
    },
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.trim().to_owned()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// The values of a singular property and its list, with what is neither text nor number put aside.
fn given(properties: &Value, singular: &str, plural: &str) -> (Vec<String>, Vec<String>) {
    let (mut texts, mut odd) = (Vec::new(), Vec::new());
    let one = json::get(properties, singular);
    let many = json::get(properties, plural);
    let values = one.into_iter().chain(match many {
        Some(Value::Array(list)) => list.iter().collect::<Vec<_>>(),
        Some(other) => vec![other],
        None => Vec::new(),
    });
    for value in values {
        match scalar(value) {
            Some(text) => {
                texts.extend(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned))
            }
            None if value.is_null() => {}
            None => odd.push(value.to_string().chars().take(100).collect()),
        }
    }
    (texts, odd)
}

impl Endpoint {
    fn read(properties: &Value, side: &str) -> Self {
        let (texts, unreadable) =
            given(properties, &format!("{side}AddressPrefix"), &format!("{side}AddressPrefixes"));
        let mut endpoint = Self { unreadable, listed: texts.len(), ..Self::default() };
        let mut prefixes = Vec::new();
        for text in texts {
            if text == "*" || text.eq_ignore_ascii_case("any") {
                endpoint.any = true;
            } else if let Ok(prefix) = Prefix::parse_lenient(&text) {
                prefixes.push(prefix);
            } else if let Some(range) = address_range(&text) {
                endpoint.addresses = endpoint.addresses.union(&range);
            } else if let Ok(tag) = ServiceTag::parse(&text) {
                endpoint.groups.push(SourceGroup::Tag(tag));
            } else {
                endpoint.unreadable.push(text);
            }
        }
        endpoint.addresses = endpoint.addresses.union(&AddressSet::from_prefixes(prefixes));
        for group in json::list(properties, &format!("{side}ApplicationSecurityGroups")) {
            endpoint.listed += 1;
            match json::text(group, "id").map(ResourceId::parse) {
                Some(Ok(id)) => endpoint.groups.push(SourceGroup::ApplicationSecurityGroup(id)),
                _ => endpoint.unreadable.push(group.to_string().chars().take(100).collect()),
            }
        }
        if endpoint.listed == 0 && endpoint.unreadable.is_empty() {
            endpoint.unreadable.push(format!("no {side} is given"));
        }
        endpoint
    }

    /// Everything, groups included.
    #[must_use]
    pub fn everything() -> Self {
        Self { any: true, listed: 1, ..Self::default() }
    }

    /// Whether both match the same, however it is written.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let sorted = |groups: &[SourceGroup]| {
            let mut groups = groups.to_vec();
            groups.sort();
            groups
        };
        self.any == other.any
            && self.addresses == other.addresses
            && sorted(&self.groups) == sorted(&other.groups)
            && self.unreadable == other.unreadable
    }
}

/// `10.0.0.4-10.0.0.9`: firewalls write ranges so.
fn address_range(text: &str) -> Option<AddressSet> {
    let (from, to) = text.split_once('-')?;
    let (from, to): (IpAddr, IpAddr) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    Some(AddressSet::range(from, to)).filter(|s| !s.is_empty())
}

impl PortMatch {
    fn read(properties: &Value, side: &str) -> Self {
        let (texts, mut unreadable) =
            given(properties, &format!("{side}PortRange"), &format!("{side}PortRanges"));
        if texts.is_empty() && unreadable.is_empty() {
            unreadable.push(format!("no {side} port is given"));
        }
        let mut ranges = Vec::new();
        for text in texts {
            match PortRange::parse(&text) {
                Ok(range) => ranges.push(range),
                Err(_) if text.eq_ignore_ascii_case("any") => ranges.push(PortRange::ALL),
                Err(_) => unreadable.push(text),
            }
        }
        Self { ports: PortSet::from_ranges(ranges), unreadable }
    }

    /// Every port.
    #[must_use]
    pub fn all() -> Self {
        Self { ports: PortSet::all(), unreadable: Vec::new() }
    }
}

impl SecurityRule {
    /// Reads a rule; what cannot be read is left open and makes the evaluation of the rule uncertain.
    #[must_use]
    pub fn from_json(json: Value) -> Self {
        let properties = json::properties(&json);
        let is = |key: &str, text: &str| {
            json::text(properties, key).is_some_and(|t| t.trim().eq_ignore_ascii_case(text))
        };
        let direction = match () {
            () if is("direction", "inbound") => Some(Direction::Inbound),
            () if is("direction", "outbound") => Some(Direction::Outbound),
            () => None,
        };
        let access = match () {
            () if is("access", "allow") => Some(Access::Allow),
            () if is("access", "deny") => Some(Access::Deny),
            () => None,
        };
        let name = json::text(&json, "name")
            .or_else(|| json::text(&json, "id").and_then(|id| id.rsplit('/').next()))
            .unwrap_or_default()
            .to_owned();
        Self {
            name,
            description: json::text(properties, "description").unwrap_or_default().to_owned(),
            direction,
            access,
            priority: json::number(properties, "priority").and_then(|n| u16::try_from(n).ok()),
            protocol: json::text(properties, "protocol").and_then(|t| Protocol::parse(t).ok()),
            source: Endpoint::read(properties, "source"),
            source_ports: PortMatch::read(properties, "source"),
            destination: Endpoint::read(properties, "destination"),
            destination_ports: PortMatch::read(properties, "destination"),
            json,
        }
    }

    /// The rule as ARM returned it, or as it is to be written.
    #[must_use]
    pub const fn json(&self) -> &Value {
        &self.json
    }

    /// The name; empty when it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The description; empty when it has none.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The direction; none when it cannot be read.
    #[must_use]
    pub const fn direction(&self) -> Option<Direction> {
        self.direction
    }

    /// Allow or Deny; none when it cannot be read.
    #[must_use]
    pub const fn access(&self) -> Option<Access> {
        self.access
    }

    /// The priority; none when it cannot be read.
    #[must_use]
    pub const fn priority(&self) -> Option<u16> {
        self.priority
    }

    /// The protocol; none when it cannot be read.
    #[must_use]
    pub const fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// Where packets come from.
    #[must_use]
    pub const fn source(&self) -> &Endpoint {
        &self.source
    }

    /// The ports they come from.
    #[must_use]
    pub const fn source_ports(&self) -> &PortMatch {
        &self.source_ports
    }

    /// Where packets go: for inbound rules, private addresses.
    #[must_use]
    pub const fn destination(&self) -> &Endpoint {
        &self.destination
    }

    /// The ports they go to.
    #[must_use]
    pub const fn destination_ports(&self) -> &PortMatch {
        &self.destination_ports
    }

    /// The same rule at another priority; nothing else changes.
    #[must_use]
    pub fn with_priority(&self, priority: u16) -> Self {
        let mut rule = self.clone();
        rule.priority = Some(priority);
        if let Value::Object(map) = &mut rule.json {
            *json::slot(json::properties_mut(map), "priority") = json!(priority);
        }
        rule
    }

    /// Whether both rules match the same packets and treat them alike, whatever their names, priorities and texts.
    #[must_use]
    pub fn same_effect_as(&self, other: &Self) -> bool {
        self.direction == other.direction
            && self.access == other.access
            && self.protocol == other.protocol
            && self.source.same_as(&other.source)
            && self.source_ports == other.source_ports
            && self.destination.same_as(&other.destination)
            && self.destination_ports == other.destination_ports
    }
}

impl Serialize for SecurityRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SecurityRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_json(Value::deserialize(deserializer)?))
    }
}

/// One value goes into the singular property, several into the list; the other of the two is left out.
fn put(map: &mut Map<String, Value>, singular: &str, plural: &str, mut values: Vec<String>) {
    if values.len() == 1 {
        map.insert(singular.to_owned(), Value::String(values.remove(0)));
    } else {
        map.insert(plural.to_owned(), json!(values));
    }
}

impl RuleSpec {
    /// The rule in the form the API accepts.
    #[must_use]
    pub fn build(&self) -> SecurityRule {
        let texts = |set: &AddressSet| set.to_prefixes().iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut properties = Map::new();
        properties.insert("description".to_owned(), json!(self.description));
        properties.insert("protocol".to_owned(), json!(self.protocol));
        properties.insert("sourcePortRange".to_owned(), json!("*"));
        let ports = self.destination_ports.ranges().map(|r| r.to_string()).collect();
        put(&mut properties, "destinationPortRange", "destinationPortRanges", ports);
        let sources = match &self.source {
            RuleSource::Any => vec!["*".to_owned()],
            RuleSource::Tag(tag) => vec![tag.to_string()],
            RuleSource::Addresses(set) => texts(set),
        };
        put(&mut properties, "sourceAddressPrefix", "sourceAddressPrefixes", sources);
        // Single addresses one by one, because people look for a VM's address and not for a range that holds it.
        let destinations = self.destination.to_addresses(MAX_LISTED_ADDRESSES).map_or_else(
            || texts(&self.destination),
            |addresses| addresses.iter().map(ToString::to_string).collect(),
        );
        put(&mut properties, "destinationAddressPrefix", "destinationAddressPrefixes", destinations);
        properties.insert("access".to_owned(), json!(self.access));
        properties.insert("priority".to_owned(), json!(self.priority));
        properties.insert("direction".to_owned(), json!(Direction::Inbound));
        SecurityRule::from_json(json!({ "name": self.name, "properties": properties }))
    }
}

/// A network security group as ARM returned it, together with what its rules mean.
///
/// The original JSON is kept, unknown properties included, so that a read-modify-write loses nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSecurityGroup {
    /// The resource, its `securityRules` taken out into `rules`.
    frame: Map<String, Value>,
    had_list: bool,
    id: Option<ResourceId>,
    rules: Vec<SecurityRule>,
}

impl NetworkSecurityGroup {
    /// Reads an NSG.
    ///
    /// # Errors
    /// [`InvalidNsg`] when the JSON is no object or its rules are no list. Rules that cannot be read in part are
    /// no error: they make what they may match uncertain.
    pub fn from_json(json: Value) -> Result<Self, InvalidNsg> {
        let Value::Object(mut frame) = json else { return Err(InvalidNsg::NotAnObject) };
        let id = frame
            .iter()
            .find(|(k, _)| k.eq_ignore_ascii_case("id"))
            .and_then(|(_, v)| v.as_str())
            .and_then(|t| ResourceId::parse(t).ok());
        let inner = json::properties_mut(&mut frame);
        let key = inner.keys().find(|k| k.eq_ignore_ascii_case("securityRules")).cloned();
        let mut had_list = false;
        let mut rules = Vec::new();
        if let Some(slot) = key.and_then(|k| inner.get_mut(&k)) {
            match slot {
                Value::Null => {}
                Value::Array(list) => {
                    had_list = true;
                    rules = std::mem::take(list).into_iter().map(SecurityRule::from_json).collect();
                }
                _ => {
                    let nsg = id.map_or_else(|| "the network security group".to_owned(), |id| id.to_string());
                    return Err(InvalidNsg::RulesNotAList { nsg });
                }
            }
        }
        Ok(Self { frame, had_list, id, rules })
    }

    /// The NSG as it is to be written: what was read, with the rules as they are now.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut frame = self.frame.clone();
        if self.had_list || !self.rules.is_empty() {
            let list = self.rules.iter().map(|r| r.json.clone()).collect();
            *json::slot(json::properties_mut(&mut frame), "securityRules") = Value::Array(list);
        }
        Value::Object(frame)
    }

    fn property(&self, key: &str) -> Option<&Value> {
        let inner = self
            .frame
            .iter()
            .find(|(k, v)| k.eq_ignore_ascii_case("properties") && v.is_object())
            .and_then(|(_, v)| v.as_object())
            .unwrap_or(&self.frame);
        inner.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v).filter(|v| !v.is_null())
    }

    /// The resource id, when the JSON has a valid one.
    #[must_use]
    pub const fn id(&self) -> Option<&ResourceId> {
        self.id.as_ref()
    }

    /// The custom rules, in the order of the JSON (not of priority).
    #[must_use]
    pub fn rules(&self) -> &[SecurityRule] {
        &self.rules
    }

    /// The etag, for `If-Match`.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.frame.iter().find(|(k, _)| k.eq_ignore_ascii_case("etag")).and_then(|(_, v)| v.as_str())
    }

    /// `Succeeded`, `Updating`, `Failed` ... as ARM says.
    #[must_use]
    pub fn provisioning_state(&self) -> Option<&str> {
        self.property("provisioningState").and_then(Value::as_str)
    }

    /// Whether Azure re-evaluates established flows when rules change; none when the property is absent, which
    /// means no.
    #[must_use]
    pub fn flush_connection(&self) -> Option<bool> {
        match self.property("flushConnection")? {
            Value::Bool(b) => Some(*b),
            Value::String(s) => s.trim().to_ascii_lowercase().parse().ok(),
            _ => None,
        }
    }

    /// The same NSG with other custom rules.
    #[must_use]
    pub fn with_rules(&self, rules: Vec<SecurityRule>) -> Self {
        Self { rules, ..self.clone() }
    }

    /// The same NSG with `flushConnection` set.
    #[must_use]
    pub fn with_flush_connection(&self, flush: bool) -> Self {
        let mut nsg = self.clone();
        *json::slot(json::properties_mut(&mut nsg.frame), "flushConnection") = json!(flush);
        nsg
    }
}

impl Serialize for NetworkSecurityGroup {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NetworkSecurityGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
