//! Ports, port sets and protocols.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::intervals::{Intervals, Parts};

/// A TCP or UDP port, 0 to 65535 (Azure accepts 0 in rules).
pub type Port = u16;

/// Why a text is not a port or a range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a port or a range of ports; expected a number from 0 to 65535, a range such as `20-25`, or `*`"
)]
pub struct InvalidPorts {
    /// The text as given.
    pub text: String,
}

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: Port,
    last: Port,
}

impl PortRange {
    /// All ports.
    pub const ALL: Self = Self { first: 0, last: Port::MAX };

    /// One port.
    #[must_use]
    pub const fn single(port: Port) -> Self {
        Self { first: port, last: port }
    }

    /// From the first to the last port, both included.
    ///
    /// # Errors
    /// [`InvalidPorts`] when `first` is after `last`.
    pub fn new(first: Port, last: Port) -> Result<Self, InvalidPorts> {
        if first > last {
            Err(InvalidPorts { text: format!("{first}-{last}") })
        } else {
            Ok(Self { first, last })
        }
    }

    /// Reads `22`, `20-25` or `*`.
    ///
    /// # Errors
    /// [`InvalidPorts`] when the text is none of these.
    pub fn parse(text: &str) -> Result<Self, InvalidPorts> {
        let bad = || InvalidPorts { text: text.to_owned() };
        let port = |t: &str| {
            let t = t.trim();
            if t.is_empty() || !t.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad());
            }
            t.parse::<Port>().map_err(|_| bad())
        };
        match text.trim() {
            "*" => Ok(Self::ALL),
            t => match t.split_once('-') {
                None => port(t).map(Self::single),
                Some((a, b)) => Self::new(port(a)?, port(b)?).map_err(|_| bad()),
            },
        }
    }

    /// The first port.
    #[must_use]
    pub const fn first(self) -> Port {
        self.first
    }

    /// The last port.
    #[must_use]
    pub const fn last(self) -> Port {
        self.last
    }

    /// Whether the port lies in the range.
    #[must_use]
    pub const fn contains(self, port: Port) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else if *self == Self::ALL {
            f.write_str("*")
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl std::str::FromStr for PortRange {
    type Err = InvalidPorts;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    /// Reads a text (`"20-25"`) or a number (`22`).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Number(Port),
            Text(String),
        }
        match Given::deserialize(deserializer)? {
            Given::Number(port) => Ok(Self::single(port)),
            Given::Text(text) => Self::parse(&text).map_err(serde::de::Error::custom),
        }
    }
}

/// A set of ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortSet(Intervals<Port>);

impl PortSet {
    /// All ports.
    #[must_use]
    pub fn all() -> Self {
        Self(Intervals::all())
    }

    /// The ports of these ranges.
    #[must_use]
    pub fn from_ranges(ranges: impl IntoIterator<Item = PortRange>) -> Self {
        Self(Intervals::from_unsorted(ranges.into_iter().map(|r| (r.first, r.last)).collect::<Parts<Port>>()))
    }

    /// The fewest ranges that make up the set, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = PortRange> + '_ {
        self.0.as_slice().iter().map(|&(first, last)| PortRange { first, last })
    }

    /// The lowest and the highest port.
    pub(crate) fn hull(&self) -> Option<(Port, Port)> {
        let ranges = self.0.as_slice();
        Some((ranges.first()?.0, ranges.last()?.1))
    }

    /// Whether no port is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every port is in the set.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_all()
    }

    /// Whether the port is in the set.
    #[must_use]
    pub fn contains(&self, port: Port) -> bool {
        self.0.contains(port)
    }

    /// The ports of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0))
    }

    /// The ports of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0))
    }

    /// The ports of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0))
    }

    /// Whether the sets have a port in common.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.0.intersects(&other.0)
    }
}

impl From<PortRange> for PortSet {
    fn from(range: PortRange) -> Self {
        Self::from_ranges([range])
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.ranges().enumerate() {
            write!(f, "{}{range}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Serialize for PortSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ranges())
    }
}

impl<'de> Deserialize<'de> for PortSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_ranges(Vec::<PortRange>::deserialize(deserializer)?))
    }
}

/// The protocol of a packet, or of a rule (where [`Any`](Self::Any) stands for all).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP; ports have no meaning.
    Icmp,
    /// IPsec ESP; ports have no meaning.
    Esp,
    /// IPsec AH; ports have no meaning.
    Ah,
    /// Every protocol: `*` in Azure's spelling.
    Any,
}

/// Why a text is not a protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a protocol; expected Tcp, Udp, Icmp, Esp, Ah or *")]
pub struct InvalidProtocol {
    /// The text as given.
    pub text: String,
}

impl Protocol {
    /// Reads Azure's spelling in any case; `Any` and `All` (as effective rules say) mean `*`.
    ///
    /// # Errors
    /// [`InvalidProtocol`] when the text is none of them.
    pub fn parse(text: &str) -> Result<Self, InvalidProtocol> {
        Ok(match text.trim().to_ascii_lowercase().as_str() {
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "icmp" => Self::Icmp,
            "esp" => Self::Esp,
            "ah" => Self::Ah,
            "*" | "any" | "all" => Self::Any,
            _ => return Err(InvalidProtocol { text: text.to_owned() }),
        })
    }

    /// Azure's spelling: `Tcp`, `Udp`, `Icmp`, `Esp`, `Ah` or `*`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "Tcp",
            Self::Udp => "Udp",
            Self::Icmp => "Icmp",
            Self::Esp => "Esp",
            Self::Ah => "Ah",
            Self::Any => "*",
        }
    }

    /// Whether packets of the protocol carry ports.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }

    /// The protocol that both stand for; none when they exclude each other.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, p) | (p, Self::Any) => Some(p),
            (a, b) => (a == b).then_some(a),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Protocol {
    type Err = InvalidProtocol;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_and_print_as_azure_spells_them() {
        for (text, first, last) in [("22", 22, 22), ("20-25", 20, 25), ("*", 0, 65535), ("0-65535", 0, 65535)]
        {
            let range = PortRange::parse(text).unwrap();
            assert_eq!((range.first(), range.last()), (first, last));
        }
        assert_eq!(PortRange::parse("5985-5986").unwrap().to_string(), "5985-5986");
        assert_eq!(PortRange::ALL.to_string(), "*");
        for bad in ["", "65536", "-1", "25-20", "a", "1-2-3", "+22", "22,23"] {
            assert!(PortRange::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_is_a_port_in_json_too() {
        let ranges: Vec<PortRange> = serde_json::from_str(r#"[22, "3389", "5985-5986"]"#).unwrap();
        assert_eq!(serde_json::to_string(&ranges).unwrap(), r#"["22","3389","5985-5986"]"#);
    }

    #[test]
    fn protocols_read_in_any_case() {
        for (text, protocol) in
            [("TCP", Protocol::Tcp), ("udp", Protocol::Udp), ("Any", Protocol::Any), ("*", Protocol::Any)]
        {
            assert_eq!(Protocol::parse(text).unwrap(), protocol);
        }
        assert_eq!(serde_json::to_string(&Protocol::Any).unwrap(), "\"*\"");
        assert!(Protocol::parse("sctp").unwrap_err().to_string().contains("Tcp, Udp"));
    }

    #[test]
    fn any_meets_each_protocol_and_others_only_themselves() {
        assert_eq!(Protocol::Any.intersection(Protocol::Udp), Some(Protocol::Udp));
        assert_eq!(Protocol::Tcp.intersection(Protocol::Tcp), Some(Protocol::Tcp));
        assert_eq!(Protocol::Tcp.intersection(Protocol::Udp), None);
    }
}
