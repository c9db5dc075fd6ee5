//! What a security rule means: everything that evaluation asks, read straight from JSON without keeping it.
//!
//! There is one reader for all forms: text that streams by and values in memory alike. It never refuses a rule; what
//! it cannot read it leaves open and names.

use std::fmt;
use std::net::IpAddr;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::address::{AddressSet, Prefix, ServiceTag, SourceGroup};
use crate::json;
use crate::ports::{PortRange, PortSet, Protocol};
use crate::resource_id::ResourceId;

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

impl Endpoint {
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

impl PortMatch {
    /// Every port.
    #[must_use]
    pub fn all() -> Self {
        Self { ports: PortSet::all(), unreadable: Vec::new() }
    }
}

/// What a security rule means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMeaning {
    /// The name; empty when it has none.
    pub name: String,
    /// The direction; none when it cannot be read.
    pub direction: Option<Direction>,
    /// Allow or Deny; none when it cannot be read.
    pub access: Option<Access>,
    /// The priority; none when it cannot be read.
    pub priority: Option<u16>,
    /// The protocol; none when it cannot be read.
    pub protocol: Option<Protocol>,
    /// Where packets come from.
    pub source: Endpoint,
    /// The ports they come from.
    pub source_ports: PortMatch,
    /// Where packets go: for inbound rules, private addresses.
    pub destination: Endpoint,
    /// The ports they go to.
    pub destination_ports: PortMatch,
}

impl<'de> Deserialize<'de> for RuleMeaning {
    /// Reads a rule as ARM returns it, leniently: keys and values in any case, `properties` flattened or not, null
    /// and absent alike. Anything that is well-formed JSON is read.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RuleVisitor { inner: false }).map(Fields::finish)
    }
}

impl RuleMeaning {
    /// What the rule means; nothing of it is certain where the JSON is no rule.
    pub(crate) fn of(json: &Value) -> Self {
        Self::deserialize(json).unwrap_or_else(|_| Fields::default().finish())
    }
}

/// Whatever a value is; only one kind of it matters to the reader.
macro_rules! otherwise {
    ($value:ty, $nothing:expr, $other:expr) => {
        type Value = $value;
        fn visit_unit<E>(self) -> Result<$value, E> {
            Ok($nothing)
        }
        fn visit_bool<E>(self, _: bool) -> Result<$value, E> {
            Ok($other)
        }
        fn visit_u64<E>(self, _: u64) -> Result<$value, E> {
            Ok($other)
        }
        fn visit_i64<E>(self, _: i64) -> Result<$value, E> {
            Ok($other)
        }
        fn visit_f64<E>(self, _: f64) -> Result<$value, E> {
            Ok($other)
        }
        fn visit_str<E>(self, _: &str) -> Result<$value, E> {
            Ok($other)
        }
    };
}

pub(crate) use otherwise;

/// A value under a key that may be spelled in several ways: the exact spelling counts, else the first.
pub(crate) struct Slot<T> {
    value: Option<T>,
    seen: bool,
    exact: bool,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { value: None, seen: false, exact: false }
    }
}

impl<T> Slot<T> {
    pub(crate) fn put(&mut self, exact: bool, value: Option<T>) {
        if exact || !self.seen {
            self.value = value;
            self.exact |= exact;
        }
        self.seen = true;
    }

    pub(crate) fn take(self) -> Option<T> {
        self.value
    }
}

#[derive(Default)]
struct SideFields {
    prefix: Slot<Addresses>,
    prefixes: Slot<Addresses>,
    groups: Slot<Addresses>,
    port: Slot<Ports>,
    ports: Slot<Ports>,
}

#[derive(Default)]
struct Fields {
    properties: Slot<Box<Fields>>,
    name: Slot<String>,
    id: Slot<String>,
    direction: Slot<Direction>,
    access: Slot<Access>,
    priority: Slot<u16>,
    protocol: Slot<Protocol>,
    source: SideFields,
    destination: SideFields,
}

impl Fields {
    fn finish(self) -> RuleMeaning {
        let mut outer = self;
        let last_of = |id: String| id.rsplit('/').next().map(str::to_owned);
        let id = std::mem::take(&mut outer.id).take();
        let name = std::mem::take(&mut outer.name).take().or_else(|| id.and_then(last_of));
        let properties = std::mem::take(&mut outer.properties).take().map_or(outer, |inner| *inner);
        let (source, source_ports) = properties.source.finish("source");
        let (destination, destination_ports) = properties.destination.finish("destination");
        RuleMeaning {
            name: name.unwrap_or_default(),
            direction: properties.direction.take(),
            access: properties.access.take(),
            priority: properties.priority.take(),
            protocol: properties.protocol.take(),
            source,
            source_ports,
            destination,
            destination_ports,
        }
    }
}

impl SideFields {
    fn finish(self, side: &str) -> (Endpoint, PortMatch) {
        let mut given = self.prefix.take().unwrap_or_default();
        for more in [self.prefixes.take(), self.groups.take()].into_iter().flatten() {
            given.any |= more.any;
            given.v4.extend(more.v4);
            given.v6.extend(more.v6);
            given.groups.extend(more.groups);
            given.unreadable.extend(more.unreadable);
            given.listed += more.listed;
        }
        if given.listed == 0 && given.unreadable.is_empty() {
            given.unreadable.push(format!("no {side} is given"));
        }
        let mut ports = self.port.take().unwrap_or_default();
        if let Some(more) = self.ports.take() {
            ports.ranges.extend(more.ranges);
            ports.unreadable.extend(more.unreadable);
        }
        if ports.ranges.is_empty() && ports.unreadable.is_empty() {
            ports.unreadable.push(format!("no {side} port is given"));
        }
        let endpoint = Endpoint {
            any: given.any,
            addresses: AddressSet::from_bits(given.v4, given.v6),
            groups: given.groups,
            unreadable: given.unreadable,
            listed: given.listed,
        };
        (endpoint, PortMatch { ports: PortSet::from_ranges(ports.ranges), unreadable: ports.unreadable })
    }
}

/// What one property lists of addresses and groups.
#[derive(Default)]
struct Addresses {
    any: bool,
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
    groups: Vec<SourceGroup>,
    unreadable: Vec<String>,
    listed: usize,
}

impl Addresses {
    fn push(&mut self, first: IpAddr, last: IpAddr) {
        match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => self.v4.push((a.to_bits(), b.to_bits())),
            (IpAddr::V6(a), IpAddr::V6(b)) => self.v6.push((a.to_bits(), b.to_bits())),
            _ => {}
        }
    }
}

/// `10.0.0.4-10.0.0.9`: firewalls write ranges so.
fn address_range(text: &str) -> Option<(IpAddr, IpAddr)> {
    let (from, to) = text.split_once('-')?;
    let (from, to): (IpAddr, IpAddr) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    Some((from, to)).filter(|(a, b)| a.is_ipv4() == b.is_ipv4() && a <= b)
}

/// What one property lists of ports.
#[derive(Default)]
struct Ports {
    ranges: Vec<PortRange>,
    unreadable: Vec<String>,
}

/// What the texts of a property are collected into.
trait Collect: Default {
    fn text(&mut self, text: &str);
    /// A value that is neither text nor number.
    fn odd(&mut self, text: String);
}

impl Collect for Addresses {
    fn text(&mut self, text: &str) {
        self.listed += 1;
        if text == "*" || text.eq_ignore_ascii_case("any") {
            self.any = true;
        } else if let Ok(prefix) = Prefix::parse_lenient(text) {
            self.push(prefix.network(), prefix.last());
        } else if let Some((first, last)) = address_range(text) {
            self.push(first, last);
        } else if let Ok(tag) = ServiceTag::parse(text) {
            self.groups.push(SourceGroup::Tag(tag));
        } else {
            self.unreadable.push(text.to_owned());
        }
    }

    fn odd(&mut self, text: String) {
        self.unreadable.push(text);
    }
}

impl Collect for Ports {
    fn text(&mut self, text: &str) {
        match PortRange::parse(text) {
            Ok(range) => self.ranges.push(range),
            Err(_) if text.eq_ignore_ascii_case("any") => self.ranges.push(PortRange::ALL),
            Err(_) => self.unreadable.push(text.to_owned()),
        }
    }

    fn odd(&mut self, text: String) {
        self.unreadable.push(text);
    }
}

fn excerpt(value: &Value) -> String {
    value.to_string().chars().take(100).collect()
}

/// Reads a property, or an element of its list, into `C`; none for null.
struct Texts<'c, C> {
    into: &'c mut C,
    list: bool,
}

impl<C: Collect> Texts<'_, C> {
    fn scalar(self, text: &str) -> bool {
        for part in text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
            self.into.text(part);
        }
        true
    }
}

impl<'de, C: Collect> DeserializeSeed<'de> for Texts<'_, C> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, C: Collect> Visitor<'de> for Texts<'_, C> {
    /// Whether there was anything but null.
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, or a list of them")
    }
    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_bool<E>(self, given: bool) -> Result<bool, E> {
        self.into.odd(given.to_string());
        Ok(true)
    }
    fn visit_u64<E>(self, given: u64) -> Result<bool, E> {
        Ok(self.scalar(&given.to_string()))
    }
    fn visit_i64<E>(self, given: i64) -> Result<bool, E> {
        Ok(self.scalar(&given.to_string()))
    }
    fn visit_f64<E>(self, given: f64) -> Result<bool, E> {
        Ok(Number::from_f64(given).is_some_and(|n| self.scalar(&n.to_string())))
    }
    fn visit_str<E>(self, given: &str) -> Result<bool, E> {
        Ok(self.scalar(given))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        if self.list {
            while list.next_element_seed(Texts { into: &mut *self.into, list: false })?.is_some() {}
        } else {
            self.into.odd(excerpt(&Value::deserialize(SeqAccessDeserializer::new(list))?));
        }
        Ok(true)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        self.into.odd(excerpt(&Value::deserialize(MapAccessDeserializer::new(map))?));
        Ok(true)
    }
}

/// Reads a list of references to application security groups; anything but a list holds none.
struct Groups;

impl<'de> DeserializeSeed<'de> for Groups {
    type Value = Option<Addresses>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let Value::Array(list) = Value::deserialize(deserializer)? else { return Ok(None) };
        let mut given = Addresses { listed: list.len(), ..Addresses::default() };
        for group in list {
            match json::text(&group, "id").map(ResourceId::parse) {
                Some(Ok(id)) => given.groups.push(SourceGroup::ApplicationSecurityGroup(id)),
                _ => given.unreadable.push(excerpt(&group)),
            }
        }
        Ok(Some(given))
    }
}

/// Reads a text with a function; anything else is none.
pub(crate) struct Text<F>(pub(crate) F);

impl<'de, T, F: FnOnce(&str) -> Option<T>> DeserializeSeed<'de> for Text<F> {
    type Value = Option<T>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T, F: FnOnce(&str) -> Option<T>> Visitor<'de> for Text<F> {
    type Value = Option<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok((self.0)(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Reads a priority: a whole number, also one that came as text.
struct Priority;

impl<'de> DeserializeSeed<'de> for Priority {
    type Value = Option<u16>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Priority {
    type Value = Option<u16>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a priority")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E>(self, given: u64) -> Result<Self::Value, E> {
        Ok(u16::try_from(given).ok())
    }
    fn visit_i64<E>(self, given: i64) -> Result<Self::Value, E> {
        Ok(u16::try_from(given).ok())
    }
    fn visit_f64<E>(self, given: f64) -> Result<Self::Value, E> {
        let whole = given.fract() == 0.0 && (0.0..=f64::from(u16::MAX)).contains(&given);
        // In range and whole, so the conversion is exact.
        Ok(whole.then_some(given as u16))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.trim().parse().ok())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Text(|_: &str| None).visit_seq(list)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Text(|_: &str| None).visit_map(map)
    }
}

/// A key's place in `NAMES`, in any case, and whether it is spelled exactly so.
pub(crate) struct Key(pub(crate) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<(&'static str, bool)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<(&'static str, bool)>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|name| name.eq_ignore_ascii_case(text)).map(|name| (*name, *name == text)))
    }
}

const KEYS: [&str; 17] = [
    "name",
    "id",
    "properties",
    "direction",
    "access",
    "priority",
    "protocol",
    "sourceAddressPrefix",
    "sourceAddressPrefixes",
    "sourceApplicationSecurityGroups",
    "sourcePortRange",
    "sourcePortRanges",
    "destinationAddressPrefix",
    "destinationAddressPrefixes",
    "destinationApplicationSecurityGroups",
    "destinationPortRange",
    "destinationPortRanges",
];

/// Reads the keys of a rule, or of its `properties`.
struct RuleVisitor {
    inner: bool,
}

fn owned(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn direction(text: &str) -> Option<Direction> {
    match text.trim() {
        t if t.eq_ignore_ascii_case("inbound") => Some(Direction::Inbound),
        t if t.eq_ignore_ascii_case("outbound") => Some(Direction::Outbound),
        _ => None,
    }
}

fn access(text: &str) -> Option<Access> {
    match text.trim() {
        t if t.eq_ignore_ascii_case("allow") => Some(Access::Allow),
        t if t.eq_ignore_ascii_case("deny") => Some(Access::Deny),
        _ => None,
    }
}

impl<'de> Visitor<'de> for RuleVisitor {
    otherwise!(Fields, Fields::default(), Fields::default());
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a security rule")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fields, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Fields::default())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key_seed(Key(&KEYS))? {
            let Some((name, exact)) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let side = if name.starts_with('s') { &mut fields.source } else { &mut fields.destination };
            match name {
                "name" => fields.name.put(exact, map.next_value_seed(Text(owned))?),
                "id" => fields.id.put(exact, map.next_value_seed(Text(owned))?),
                "properties" if self.inner => {
                    map.next_value::<IgnoredAny>()?;
                }
                "properties" => {
                    fields.properties.put(exact, map.next_value_seed(Properties(Self { inner: true }))?)
                }
                "direction" => fields.direction.put(exact, map.next_value_seed(Text(direction))?),
                "access" => fields.access.put(exact, map.next_value_seed(Text(access))?),
                "protocol" => {
                    let read = Text(|t: &str| Protocol::parse(t).ok());
                    fields.protocol.put(exact, map.next_value_seed(read)?);
                }
                "priority" => fields.priority.put(exact, map.next_value_seed(Priority)?),
                "sourceAddressPrefix" | "destinationAddressPrefix" => {
                    side.prefix.put(exact, texts(&mut map, false)?);
                }
                "sourceAddressPrefixes" | "destinationAddressPrefixes" => {
                    side.prefixes.put(exact, texts(&mut map, true)?);
                }
                "sourceApplicationSecurityGroups" | "destinationApplicationSecurityGroups" => {
                    side.groups.put(exact, map.next_value_seed(Groups)?);
                }
                "sourcePortRange" | "destinationPortRange" => side.port.put(exact, texts(&mut map, false)?),
                _ => side.ports.put(exact, texts(&mut map, true)?),
            }
        }
        Ok(fields)
    }
}

fn texts<'de, A: MapAccess<'de>, C: Collect>(map: &mut A, list: bool) -> Result<Option<C>, A::Error> {
    let mut given = C::default();
    let something = map.next_value_seed(Texts { into: &mut given, list })?;
    Ok(something.then_some(given))
}

/// Reads `properties` with the visitor of what they belong to; none when they are no object, which leaves the keys
/// beside them.
pub(crate) struct Properties<V>(pub(crate) V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Properties<V> {
    type Value = Option<Box<V::Value>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Properties<V> {
    otherwise!(Option<Box<V::Value>>, None, None);
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the properties of a resource")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        self.0.visit_map(map).map(|fields| Some(Box::new(fields)))
    }
}
