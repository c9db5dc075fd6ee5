//! Addresses: CIDR prefixes, exact sets of addresses, and (re-exported here) service tags and source sets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::intervals::{Intervals, Parts};

pub use crate::source::{InvalidServiceTag, ServiceTag, SourceGroup, SourceSet, SourceTerm};
pub use crate::source_groups::SourceGroups;

/// Why a text is not an address or a CIDR prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrefix {
    /// Neither an address nor `address/length`.
    #[error(
        "`{text}` is not an IP address or a CIDR prefix; expected e.g. 203.0.113.7, 10.1.0.0/16 or 2001:db8::/32"
    )]
    Syntax {
        /// The text as given.
        text: String,
    },
    /// The length is not a number the family allows.
    #[error("`{text}` has a bad prefix length; expected 0 to {max} after the `/`")]
    Length {
        /// The text as given.
        text: String,
        /// 32 for IPv4, 128 for IPv6.
        max: u8,
    },
    /// Bits after the prefix length are set, so it is unclear whether one address or a range was meant.
    #[error(
        "`{text}` has bits set after its prefix length; write `{network}` for the range or `{address}` for the one address"
    )]
    HostBits {
        /// The text as given.
        text: String,
        /// The range that the length asks for.
        network: Prefix,
        /// The address alone.
        address: IpAddr,
    },
}

/// An IPv4 or IPv6 CIDR prefix without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    network: IpAddr,
    length: u8,
}

const fn max_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn host_mask4(length: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(length)).unwrap_or(0)
}

fn host_mask6(length: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(length)).unwrap_or(0)
}

impl Prefix {
    /// The prefix of `length` bits that holds the address; a length beyond the family's means the one address.
    #[must_use]
    pub fn containing(address: IpAddr, length: u8) -> Self {
        let length = length.min(max_length(address));
        let network = match address {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & !host_mask4(length))),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & !host_mask6(length))),
        };
        Self { network, length }
    }

    /// The prefix that holds one address only.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        Self::containing(address, max_length(address))
    }

    fn split(text: &str) -> Result<(IpAddr, u8), InvalidPrefix> {
        let trimmed = text.trim();
        let syntax = || InvalidPrefix::Syntax { text: text.to_owned() };
        let (address, length) = match trimmed.split_once('/') {
            None => (trimmed, None),
            Some((a, l)) => (a, Some(l)),
        };
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        let max = max_length(address);
        let length = match length {
            None => max,
            Some(l) => Some(l)
                .filter(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|l| l.parse::<u8>().ok())
                .filter(|l| *l <= max)
                .ok_or_else(|| InvalidPrefix::Length { text: text.to_owned(), max })?,
        };
        Ok((address, length))
    }

    /// Reads what a person wrote: an address, or a prefix without host bits.
    ///
    /// # Errors
    /// [`InvalidPrefix`], which says how to write what was probably meant.
    pub fn parse(text: &str) -> Result<Self, InvalidPrefix> {
        let (address, length) = Self::split(text)?;
        let prefix = Self::containing(address, length);
        if prefix.network == address {
            Ok(prefix)
        } else {
            Err(InvalidPrefix::HostBits { text: text.to_owned(), network: prefix, address })
        }
    }

    /// Reads what Azure returned: host bits are dropped, as Azure does when it matches.
    ///
    /// # Errors
    /// [`InvalidPrefix`] when it is no address or prefix at all.
    pub fn parse_lenient(text: &str) -> Result<Self, InvalidPrefix> {
        let (address, length) = Self::split(text)?;
        Ok(Self::containing(address, length))
    }

    /// The lowest address.
    #[must_use]
    pub const fn network(self) -> IpAddr {
        self.network
    }

    /// The prefix length in bits.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// The highest address.
    #[must_use]
    pub fn last(self) -> IpAddr {
        match self.network {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() | host_mask4(self.length))),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() | host_mask6(self.length))),
        }
    }

    /// Whether it is an IPv4 prefix.
    #[must_use]
    pub const fn is_ipv4(self) -> bool {
        self.network.is_ipv4()
    }

    /// Whether it holds one address only.
    #[must_use]
    pub const fn is_single(self) -> bool {
        self.length == max_length(self.network)
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4() && Self::containing(address, self.length) == self
    }
}

impl fmt::Display for Prefix {
    /// One address prints without a length, as Azure writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() { self.network.fmt(f) } else { write!(f, "{}/{}", self.network, self.length) }
    }
}

impl std::str::FromStr for Prefix {
    type Err = InvalidPrefix;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self::single(address)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    /// Strict, as [`Prefix::parse`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Inclusive ranges, ascending.
pub(crate) type Ranges<'a, T> = &'a [(T, T)];

/// An exact set of IPv4 and IPv6 addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct AddressSet {
    v4: Intervals<u32>,
    v6: Intervals<u128>,
}

impl AddressSet {
    /// No address.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Every address of both families.
    #[must_use]
    pub fn all() -> Self {
        Self { v4: Intervals::all(), v6: Intervals::all() }
    }

    /// Every IPv4 address.
    #[must_use]
    pub fn all_v4() -> Self {
        Self { v4: Intervals::all(), v6: Intervals::default() }
    }

    /// Every IPv6 address.
    #[must_use]
    pub fn all_v6() -> Self {
        Self { v4: Intervals::default(), v6: Intervals::all() }
    }

    /// Every address of the family that this address belongs to.
    #[must_use]
    pub fn family_of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::all_v4() } else { Self::all_v6() }
    }

    /// The addresses from first to last, both included; empty when they are of different families or in the
    /// wrong order.
    #[must_use]
    pub fn range(first: IpAddr, last: IpAddr) -> Self {
        match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                Self { v4: Intervals::from_unsorted([(a.to_bits(), b.to_bits())]), ..Self::default() }
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                Self { v6: Intervals::from_unsorted([(a.to_bits(), b.to_bits())]), ..Self::default() }
            }
            _ => Self::default(),
        }
    }

    /// The addresses of these prefixes.
    #[must_use]
    pub fn from_prefixes(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match (prefix.network(), prefix.last()) {
                (IpAddr::V4(a), IpAddr::V4(b)) => v4.push((a.to_bits(), b.to_bits())),
                (IpAddr::V6(a), IpAddr::V6(b)) => v6.push((a.to_bits(), b.to_bits())),
                _ => {}
            }
        }
        Self { v4: Intervals::from_unsorted(v4), v6: Intervals::from_unsorted(v6) }
    }

    /// From the inclusive ranges of both families, in any order.
    pub(crate) fn from_bits(v4: impl Into<Parts<u32>>, v6: impl Into<Parts<u128>>) -> Self {
        Self { v4: Intervals::from_unsorted(v4), v6: Intervals::from_unsorted(v6) }
    }

    /// These addresses.
    #[must_use]
    pub fn from_addresses(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::from_prefixes(addresses.into_iter().map(Prefix::single))
    }

    /// Whether the set has no address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether the set has every IPv4 address.
    #[must_use]
    pub fn is_all_v4(&self) -> bool {
        self.v4.is_all()
    }

    /// Whether the set has every IPv6 address.
    #[must_use]
    pub fn is_all_v6(&self) -> bool {
        self.v6.is_all()
    }

    /// Whether the address is in the set.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self.v4.contains(a.to_bits()),
            IpAddr::V6(a) => self.v6.contains(a.to_bits()),
        }
    }

    /// The addresses of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    /// The addresses of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self { v4: self.v4.intersection(&other.v4), v6: self.v6.intersection(&other.v6) }
    }

    /// The addresses of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self { v4: self.v4.difference(&other.v4), v6: self.v6.difference(&other.v6) }
    }

    /// Whether the sets have an address in common.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.v4.intersects(&other.v4) || self.v6.intersects(&other.v6)
    }

    /// The lowest address that both sets have, IPv4 first.
    pub(crate) fn first_common(&self, other: &Self) -> Option<IpAddr> {
        let v4 = self.v4.first_common(&other.v4).map(|a| IpAddr::V4(Ipv4Addr::from_bits(a)));
        v4.or_else(|| self.v6.first_common(&other.v6).map(|a| IpAddr::V6(Ipv6Addr::from_bits(a))))
    }

    /// How many IPv4 and IPv6 addresses the sets have in common; the whole IPv6 space counts as `u128::MAX`.
    pub(crate) fn common_counts(&self, other: &Self) -> (u64, u128) {
        let (mut v4, mut v6) = (0u64, 0u128);
        self.v4.each_common(&other.v4, |a, b| v4 += u64::from(b - a) + 1);
        self.v6.each_common(&other.v6, |a, b| v6 = v6.saturating_add((b - a).saturating_add(1)));
        (v4, v6)
    }

    /// The addresses of all these sets.
    pub(crate) fn union_of<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for set in sets {
            v4.extend_from_slice(set.v4.as_slice());
            v6.extend_from_slice(set.v6.as_slice());
        }
        Self::from_bits(v4, v6)
    }

    /// Adds another set's addresses; [`settle`](Self::settle) makes the set canonical again.
    pub(crate) fn append(&mut self, other: Self) {
        self.v4.append(other.v4);
        self.v6.append(other.v6);
    }

    /// As [`append`](Self::append), of a set that is needed still.
    pub(crate) fn extend_from(&mut self, other: &Self) {
        self.v4.extend_from(&other.v4);
        self.v6.extend_from(&other.v6);
    }

    /// As [`take`](Self::take), adding what was in this set to `taken`, which is to be [settled](Self::settle). Whether
    /// there was any.
    pub(crate) fn move_to(&mut self, taken: &mut Self, other: &Self) -> bool {
        let mut any = false;
        for &(from, to) in other.v4.as_slice() {
            self.v4.take(from, to, |a, b| {
                any = true;
                taken.v4.push(a, b);
            });
        }
        for &(from, to) in other.v6.as_slice() {
            self.v6.take(from, to, |a, b| {
                any = true;
                taken.v6.push(a, b);
            });
        }
        any
    }

    /// Makes it every address of these families, keeping its memory, with room for cutting IPv4 into `cuts` more
    /// intervals.
    pub(crate) fn fill(&mut self, v4: bool, v6: bool, cuts: usize) {
        self.clear();
        if v4 {
            self.v4.fill(cuts);
        }
        if v6 {
            self.v6.fill(0);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
    }

    /// Makes the set canonical after [`append`](Self::append).
    pub(crate) fn settle(&mut self) {
        self.v4.settle();
        self.v6.settle();
    }

    /// Takes what the other set has out of this one, in place.
    pub(crate) fn take(&mut self, other: &Self) {
        for &(from, to) in other.v4.as_slice() {
            self.v4.take(from, to, |_, _| {});
        }
        for &(from, to) in other.v6.as_slice() {
            self.v6.take(from, to, |_, _| {});
        }
    }

    /// The inclusive ranges of each family.
    pub(crate) fn bits(&self) -> (Ranges<'_, u32>, Ranges<'_, u128>) {
        (self.v4.as_slice(), self.v6.as_slice())
    }

    /// Whether every address of this set is in the other.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.v4.is_subset(&other.v4) && self.v6.is_subset(&other.v6)
    }

    /// How many IPv4 addresses: 0 to 2^32.
    #[must_use]
    pub fn v4_count(&self) -> u64 {
        self.v4.as_slice().iter().map(|&(a, b)| u64::from(b) - u64::from(a) + 1).sum()
    }

    /// How many IPv6 addresses; the whole space, 2^128, is given as `u128::MAX`.
    #[must_use]
    pub fn v6_count(&self) -> u128 {
        self.v6.as_slice().iter().fold(0, |sum: u128, &(a, b)| sum.saturating_add((b - a).saturating_add(1)))
    }

    /// The IPv4 addresses of the set.
    #[must_use]
    pub fn v4_only(&self) -> Self {
        Self { v4: self.v4.clone(), v6: Intervals::default() }
    }

    /// The IPv6 addresses of the set.
    #[must_use]
    pub fn v6_only(&self) -> Self {
        Self { v4: Intervals::default(), v6: self.v6.clone() }
    }

    /// The inclusive intervals of the set, IPv4 first, ascending.
    pub fn intervals(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        let v4 = self
            .v4
            .as_slice()
            .iter()
            .map(|&(a, b)| (IpAddr::V4(Ipv4Addr::from_bits(a)), IpAddr::V4(Ipv4Addr::from_bits(b))));
        let v6 = self
            .v6
            .as_slice()
            .iter()
            .map(|&(a, b)| (IpAddr::V6(Ipv6Addr::from_bits(a)), IpAddr::V6(Ipv6Addr::from_bits(b))));
        v4.chain(v6)
    }

    /// The lowest address, IPv4 first.
    #[must_use]
    pub fn first(&self) -> Option<IpAddr> {
        self.intervals().next().map(|(first, _)| first)
    }

    /// The addresses one by one when there are at most `limit` of them, else none.
    #[must_use]
    pub fn to_addresses(&self, limit: usize) -> Option<Vec<IpAddr>> {
        let count = u128::from(self.v4_count()).saturating_add(self.v6_count());
        if count > limit as u128 {
            return None;
        }
        let v4 =
            self.v4.as_slice().iter().flat_map(|&(a, b)| (a..=b).map(|x| IpAddr::V4(Ipv4Addr::from_bits(x))));
        let v6 =
            self.v6.as_slice().iter().flat_map(|&(a, b)| (a..=b).map(|x| IpAddr::V6(Ipv6Addr::from_bits(x))));
        Some(v4.chain(v6).collect())
    }

    /// The fewest prefixes that make up the set, IPv4 first, ascending.
    #[must_use]
    pub fn to_prefixes(&self) -> Vec<Prefix> {
        let mut prefixes = Vec::new();
        for &(from, to) in self.v4.as_slice() {
            cover(u128::from(from), u128::from(to), 32, |start, length| {
                if let Ok(bits) = u32::try_from(start) {
                    prefixes.push(Prefix { network: IpAddr::V4(Ipv4Addr::from_bits(bits)), length });
                }
            });
        }
        for &(from, to) in self.v6.as_slice() {
            cover(from, to, 128, |start, length| {
                prefixes.push(Prefix { network: IpAddr::V6(Ipv6Addr::from_bits(start)), length });
            });
        }
        prefixes
    }
}

/// Calls `emit` with the start and length of each prefix of the minimal cover: from the left, always the largest
/// aligned block that still fits.
fn cover(from: u128, to: u128, width: u32, mut emit: impl FnMut(u128, u8)) {
    let mut start = from;
    loop {
        let aligned = start.trailing_zeros().min(width);
        let left = to - start;
        let fitting = if left == u128::MAX { 128 } else { (left + 1).ilog2() };
        let block = aligned.min(fitting);
        emit(start, u8::try_from(width - block).unwrap_or(0));
        let step = 1u128.checked_shl(block);
        match step.and_then(|s| start.checked_add(s)) {
            Some(next) if next <= to => start = next,
            _ => return,
        }
    }
}

impl FromIterator<Prefix> for AddressSet {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        Self::from_prefixes(prefixes)
    }
}

impl From<Prefix> for AddressSet {
    fn from(prefix: Prefix) -> Self {
        Self::from_prefixes([prefix])
    }
}

impl fmt::Display for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, prefix) in self.to_prefixes().iter().enumerate() {
            write!(f, "{}{prefix}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Serialize for AddressSet {
    /// A list of the fewest prefixes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.to_prefixes())
    }
}

impl<'de> Deserialize<'de> for AddressSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_prefixes(Vec::<Prefix>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(texts: &[&str]) -> AddressSet {
        texts.iter().map(|t| Prefix::parse(t).unwrap()).collect()
    }

    #[test]
    fn what_a_person_writes_is_read_strictly() {
        assert_eq!(Prefix::parse("203.0.113.7").unwrap().to_string(), "203.0.113.7");
        assert_eq!(Prefix::parse("10.1.0.0/16").unwrap().to_string(), "10.1.0.0/16");
        assert_eq!(Prefix::parse("2001:DB8::/32").unwrap().to_string(), "2001:db8::/32");
        let error = Prefix::parse("10.1.2.3/16").unwrap_err().to_string();
        assert!(error.contains("`10.1.0.0/16`") && error.contains("`10.1.2.3`"), "{error}");
        assert!(matches!(Prefix::parse("10.0.0.0/33"), Err(InvalidPrefix::Length { max: 32, .. })));
        assert!(matches!(Prefix::parse("::/129"), Err(InvalidPrefix::Length { max: 128, .. })));
        for bad in ["", "*", "10.0.0", "10.0.0.0/", "10.0.0.0/+8", "010.0.0.1", "Internet", "10.0.0.0/8/8"] {
            assert!(Prefix::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_bits_from_azure_are_dropped() {
        assert_eq!(Prefix::parse_lenient("10.1.2.3/16").unwrap(), Prefix::parse("10.1.0.0/16").unwrap());
        assert_eq!(Prefix::parse_lenient("2001:db8::1/32").unwrap(), Prefix::parse("2001:db8::/32").unwrap());
    }

    #[test]
    fn halves_are_the_whole() {
        assert_eq!(set(&["0.0.0.0/1", "128.0.0.0/1"]), AddressSet::all_v4());
        assert_eq!(set(&["::/1", "8000::/1"]), AddressSet::all_v6());
        assert_eq!(
            AddressSet::all().to_prefixes(),
            vec![Prefix::parse("0.0.0.0/0").unwrap(), Prefix::parse("::/0").unwrap()]
        );
    }

    #[test]
    fn counts_reach_the_whole_space() {
        assert_eq!(AddressSet::all_v4().v4_count(), 1 << 32);
        assert_eq!(AddressSet::all_v6().v6_count(), u128::MAX);
        assert_eq!(set(&["10.0.0.0/24", "2001:db8::/64"]).v4_count(), 256);
        assert_eq!(set(&["10.0.0.0/24", "2001:db8::/64"]).v6_count(), 1 << 64);
    }

    #[test]
    fn families_do_not_mix() {
        assert!(!Prefix::parse("0.0.0.0/0").unwrap().contains("::1".parse().unwrap()));
        assert!(!AddressSet::all_v4().contains("::1".parse().unwrap()));
        assert!(AddressSet::range("10.0.0.1".parse().unwrap(), "::1".parse().unwrap()).is_empty());
    }

    proptest! {
        #[test]
        fn prefixes_make_up_the_set_and_none_can_be_merged(ranges in proptest::collection::vec((0u32..300, 0u32..300), 0..5)) {
            let base = 0xffff_fe00u32;
            let mut all = AddressSet::empty();
            for (a, b) in ranges {
                let at = |x: u32| IpAddr::V4(Ipv4Addr::from_bits(base.saturating_add(x)));
                all = all.union(&AddressSet::range(at(a), at(b)));
            }
            let prefixes = all.to_prefixes();
            prop_assert_eq!(&AddressSet::from_prefixes(prefixes.iter().copied()), &all);
            for pair in prefixes.windows(2) {
                let (a, b) = (pair[0], pair[1]);
                let twins = a.length() == b.length() && a.length() > 0
                    && Prefix::containing(a.network(), a.length() - 1) == Prefix::containing(b.network(), b.length() - 1);
                prop_assert!(!twins, "{} and {} are one prefix", a, b);
            }
        }

        #[test]
        fn text_round_trips(bits in any::<u128>(), v6 in any::<bool>(), length in 0u8..=128) {
            let address = if v6 { IpAddr::V6(Ipv6Addr::from_bits(bits)) } else { IpAddr::V4(Ipv4Addr::from_bits(bits as u32)) };
            let prefix = Prefix::containing(address, length);
            prop_assert_eq!(Prefix::parse(&prefix.to_string()).unwrap(), prefix);
            prop_assert!(prefix.contains(address) && prefix.contains(prefix.last()));
        }
    }
}
