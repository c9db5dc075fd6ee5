//! Network security groups and their rules: read leniently, written back without losing anything.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::address::{AddressSet, ServiceTag};
use crate::json;
use crate::ports::{PortSet, Protocol};
use crate::resource_id::ResourceId;
use crate::service_tags::ServiceTags;

pub use crate::meaning::{Access, Direction, Endpoint, PortMatch, RuleMeaning};

/// The smallest priority a rule may have, which is evaluated first [network-facts, D1].
pub const FIRST_PRIORITY: u16 = 100;
/// The largest priority a rule may have.
pub const LAST_PRIORITY: u16 = 4096;

/// Up to how many destinations are listed one by one; Azure's limit for all rules of an NSG is 4000.
const MAX_LISTED_ADDRESSES: usize = 4000;

/// A security rule as ARM returned it (or as [`RuleSpec`] builds it), together with what it means.
#[derive(Debug, Clone, PartialEq)]
pub struct SecurityRule {
    // Shared, because planning copies NSGs of a thousand rules and changes few of them.
    json: Arc<Value>,
    meaning: Arc<RuleMeaning>,
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

impl SecurityRule {
    /// Reads a rule; what cannot be read is left open and makes the evaluation of the rule uncertain.
    #[must_use]
    pub fn from_json(json: Value) -> Self {
        Self { meaning: Arc::new(RuleMeaning::of(&json)), json: Arc::new(json) }
    }

    /// What the rule means.
    #[must_use]
    pub fn meaning(&self) -> &RuleMeaning {
        &self.meaning
    }

    /// The rule as ARM returned it, or as it is to be written.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The name; empty when it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.meaning.name
    }

    /// The description; empty when it has none.
    #[must_use]
    pub fn description(&self) -> &str {
        json::text(json::properties(&self.json), "description").unwrap_or_default()
    }

    /// The direction; none when it cannot be read.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        self.meaning.direction
    }

    /// Allow or Deny; none when it cannot be read.
    #[must_use]
    pub fn access(&self) -> Option<Access> {
        self.meaning.access
    }

    /// The priority; none when it cannot be read.
    #[must_use]
    pub fn priority(&self) -> Option<u16> {
        self.meaning.priority
    }

    /// The protocol; none when it cannot be read.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        self.meaning.protocol
    }

    /// Where packets come from.
    #[must_use]
    pub fn source(&self) -> &Endpoint {
        &self.meaning.source
    }

    /// The ports they come from.
    #[must_use]
    pub fn source_ports(&self) -> &PortMatch {
        &self.meaning.source_ports
    }

    /// Where packets go: for inbound rules, private addresses.
    #[must_use]
    pub fn destination(&self) -> &Endpoint {
        &self.meaning.destination
    }

    /// The ports they go to.
    #[must_use]
    pub fn destination_ports(&self) -> &PortMatch {
        &self.meaning.destination_ports
    }

    /// The same rule at another priority; nothing else changes.
    #[must_use]
    pub fn with_priority(&self, priority: u16) -> Self {
        let mut rule = self.clone();
        Arc::make_mut(&mut rule.meaning).priority = Some(priority);
        if let Value::Object(map) = Arc::make_mut(&mut rule.json) {
            *json::slot(json::properties_mut(map), "priority") = json!(priority);
        }
        rule
    }

    /// Whether both rules match the same packets and treat them alike, whatever their names, priorities and texts.
    #[must_use]
    pub fn same_effect_as(&self, other: &Self) -> bool {
        let (a, b) = (&self.meaning, &other.meaning);
        a.direction == b.direction
            && a.access == b.access
            && a.protocol == b.protocol
            && a.source.same_as(&b.source)
            && a.source_ports == b.source_ports
            && a.destination.same_as(&b.destination)
            && a.destination_ports == b.destination_ports
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
            let list = self.rules.iter().map(|r| r.json().clone()).collect();
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

    /// A text beside the properties.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        let exact = self.frame.get(key);
        exact
            .or_else(|| self.frame.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v))
            .and_then(Value::as_str)
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
        Self { frame: self.frame.clone(), had_list: self.had_list, id: self.id.clone(), rules }
    }

    /// The same NSG with the addresses of known service tags in their place, for evaluation. The JSON of its rules
    /// keeps the tags; plan from the NSG as it was read.
    #[must_use]
    pub fn with_service_tags(&self, tags: &ServiceTags) -> Self {
        let mut nsg = self.clone();
        for rule in &mut nsg.rules {
            tags.resolve_rule(Arc::make_mut(&mut rule.meaning));
        }
        nsg
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
