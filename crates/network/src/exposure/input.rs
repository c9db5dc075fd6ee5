//! An NSG as evaluation needs it, read as its text streams by.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::meaning::{Key, Properties, RuleMeaning, Slot, Text, otherwise};
use crate::nsg::{InvalidNsg, NetworkSecurityGroup, SecurityRule};
use crate::service_tags::ServiceTags;

/// A network security group reduced to what evaluation needs. Reading it keeps nothing else and builds no JSON
/// values, so that its cost is that of reading the text; it is as lenient as
/// [`NetworkSecurityGroup::from_json`] and means the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NsgInput {
    /// The resource id as given.
    pub id: Option<String>,
    /// The name as given.
    pub name: Option<String>,
    /// The custom rules, in the order of the JSON (not of priority).
    pub rules: Vec<RuleMeaning>,
}

impl NsgInput {
    /// Puts the addresses of known service tags in their place.
    pub fn resolve(&mut self, tags: &ServiceTags) {
        self.rules.iter_mut().for_each(|rule| tags.resolve_rule(rule));
    }
}

impl From<&NetworkSecurityGroup> for NsgInput {
    fn from(nsg: &NetworkSecurityGroup) -> Self {
        Self {
            id: nsg.text("id").map(str::to_owned),
            name: nsg.text("name").map(str::to_owned),
            rules: nsg.rules().iter().map(SecurityRule::meaning).cloned().collect(),
        }
    }
}

impl<'de> Deserialize<'de> for NsgInput {
    /// Reads a JSON object; fails when it is none, or when `securityRules` is no list.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = deserializer.deserialize_map(NsgVisitor { inner: false })?;
        let (id, name) = (fields.id.take(), fields.name.take());
        let rules = fields.properties.take().map_or(fields.rules, |inner| inner.rules);
        let rules = match rules.take() {
            None => Vec::new(),
            Some(Some(rules)) => rules,
            Some(None) => {
                let nsg = id.or(name).unwrap_or_else(|| "the network security group".to_owned());
                return Err(D::Error::custom(InvalidNsg::RulesNotAList { nsg }));
            }
        };
        Ok(Self { id, name, rules })
    }
}

#[derive(Default)]
struct Fields {
    id: Slot<String>,
    name: Slot<String>,
    properties: Slot<Box<Fields>>,
    /// None within: something that is no list.
    rules: Slot<Option<Vec<RuleMeaning>>>,
}

struct NsgVisitor {
    inner: bool,
}

const KEYS: [&str; 4] = ["id", "name", "properties", "securityRules"];

impl<'de> Visitor<'de> for NsgVisitor {
    type Value = Fields;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a network security group: a JSON object as ARM returns it")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key_seed(Key(&KEYS))? {
            match key {
                Some(("id", exact)) => {
                    fields.id.put(exact, map.next_value_seed(Text(|t: &str| Some(t.to_owned())))?);
                }
                Some(("name", exact)) => {
                    fields.name.put(exact, map.next_value_seed(Text(|t: &str| Some(t.to_owned())))?);
                }
                Some(("securityRules", exact)) => fields.rules.put(exact, map.next_value_seed(Rules)?),
                Some(("properties", exact)) if !self.inner => {
                    fields.properties.put(exact, map.next_value_seed(Properties(Self { inner: true }))?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

struct Rules;

impl<'de> DeserializeSeed<'de> for Rules {
    type Value = Option<Option<Vec<RuleMeaning>>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rules {
    otherwise!(Option<Option<Vec<RuleMeaning>>>, None, Some(None));
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of security rules")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut rules = Vec::new();
        while let Some(rule) = list.next_element()? {
            rules.push(rule);
        }
        Ok(Some(Some(rules)))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Some(None))
    }
}
