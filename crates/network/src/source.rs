//! Sets of packet sources in which service tags and application security groups stay symbolic.
//!
//! What a tag stands for is not known here, so a set is a union of *terms*: addresses, on condition that the
//! source lies within some groups and outside others. Rules decide in order, so what is left undecided is always
//! one term, and every set operation stays exact whatever the tags turn out to hold.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::address::{AddressSet, Prefix};
use crate::resource_id::ResourceId;
use crate::source_groups::SourceGroups;

/// Why a text is not a service tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a service tag; expected a name such as VirtualNetwork, Internet or Storage.WestEurope"
)]
pub struct InvalidServiceTag {
    /// The text as given.
    pub text: String,
}

/// A service tag such as `VirtualNetwork`, compared without regard to case.
#[derive(Clone)]
pub struct ServiceTag(Name);

/// The tags of default rules stand in most rules that have one, so they are neither stored nor compared as text.
#[derive(Clone)]
enum Name {
    AzureLoadBalancer,
    Internet,
    VirtualNetwork,
    Other(Arc<str>),
}

impl ServiceTag {
    /// Reads a tag: letters, digits, `.`, `_` and `-`, starting with a letter, at most 80 characters. The three
    /// tags of default rules come out in Azure's spelling, others as given.
    ///
    /// # Errors
    /// [`InvalidServiceTag`] when the text is something else.
    pub fn parse(text: &str) -> Result<Self, InvalidServiceTag> {
        let trimmed = text.trim();
        for known in [Self::virtual_network(), Self::internet(), Self::azure_load_balancer()] {
            if trimmed.eq_ignore_ascii_case(known.as_str()) {
                return Ok(known);
            }
        }
        let fits = trimmed.len() <= 80
            && trimmed.starts_with(|c: char| c.is_ascii_alphabetic())
            && trimmed.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if fits {
            Ok(Self(Name::Other(trimmed.into())))
        } else {
            Err(InvalidServiceTag { text: text.to_owned() })
        }
    }

    /// `VirtualNetwork`: the VNet, its peers, and what is reached through gateways and user-defined routes.
    #[must_use]
    pub const fn virtual_network() -> Self {
        Self(Name::VirtualNetwork)
    }

    /// `Internet`: every public address outside the virtual network.
    #[must_use]
    pub const fn internet() -> Self {
        Self(Name::Internet)
    }

    /// `AzureLoadBalancer`: the health probes, not the traffic they balance.
    #[must_use]
    pub const fn azure_load_balancer() -> Self {
        Self(Name::AzureLoadBalancer)
    }

    /// The tag's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::AzureLoadBalancer => "AzureLoadBalancer",
            Name::Internet => "Internet",
            Name::VirtualNetwork => "VirtualNetwork",
            Name::Other(text) => text,
        }
    }

    /// Whether it is `VirtualNetwork`.
    #[must_use]
    pub const fn is_virtual_network(&self) -> bool {
        matches!(self.0, Name::VirtualNetwork)
    }

    /// Whether it is `Internet`.
    #[must_use]
    pub const fn is_internet(&self) -> bool {
        matches!(self.0, Name::Internet)
    }

    /// Whether it is `AzureLoadBalancer`.
    #[must_use]
    pub const fn is_azure_load_balancer(&self) -> bool {
        matches!(self.0, Name::AzureLoadBalancer)
    }
}

impl fmt::Debug for ServiceTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServiceTag").field(&self.as_str()).finish()
    }
}

impl fmt::Display for ServiceTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ServiceTag {
    type Err = InvalidServiceTag;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl PartialEq for ServiceTag {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Name::Other(a), Name::Other(b)) => Arc::ptr_eq(a, b) || a.eq_ignore_ascii_case(b),
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

impl Eq for ServiceTag {}

impl Hash for ServiceTag {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().to_ascii_lowercase().hash(state);
    }
}

impl Ord for ServiceTag {
    fn cmp(&self, other: &Self) -> Ordering {
        if self == other {
            return Ordering::Equal;
        }
        let [a, b] = [self, other].map(|tag| tag.as_str().bytes().map(|b| b.to_ascii_lowercase()));
        a.cmp(b)
    }
}

impl PartialOrd for ServiceTag {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for ServiceTag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ServiceTag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A set of sources known by name only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceGroup {
    /// The addresses of a service tag.
    Tag(ServiceTag),
    /// The ip configurations that are members of an application security group.
    ApplicationSecurityGroup(ResourceId),
}

impl fmt::Display for SourceGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::ApplicationSecurityGroup(id) => id.fmt(f),
        }
    }
}

impl Serialize for SourceGroup {
    /// The tag, or the application security group's id (which starts with `/`).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SourceGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.starts_with('/') {
            ResourceId::parse(&text).map(Self::ApplicationSecurityGroup).map_err(serde::de::Error::custom)
        } else {
            ServiceTag::parse(&text).map(Self::Tag).map_err(serde::de::Error::custom)
        }
    }
}

/// Addresses, on condition that the source lies within all of some groups and outside all of others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceTerm {
    /// The addresses that the condition selects from.
    pub addresses: AddressSet,
    /// The source is in each of these.
    #[serde(default, skip_serializing_if = "SourceGroups::is_empty")]
    pub within: SourceGroups,
    /// The source is in none of these.
    #[serde(default, skip_serializing_if = "SourceGroups::is_empty")]
    pub outside: SourceGroups,
}

impl SourceTerm {
    /// These addresses, without condition.
    #[must_use]
    pub fn unconditional(addresses: AddressSet) -> Self {
        Self { addresses, within: SourceGroups::new(), outside: SourceGroups::new() }
    }

    /// Whether no source can satisfy it. `Internet` lies outside `VirtualNetwork` by definition (network-facts, D3).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is = |f: fn(&ServiceTag) -> bool| {
            self.within.iter().any(|g| matches!(g, SourceGroup::Tag(tag) if f(tag)))
        };
        self.addresses.is_empty()
            || self.within.iter().any(|g| self.outside.contains(g))
            || (is(ServiceTag::is_internet) && is(ServiceTag::is_virtual_network))
    }

    /// Drops conditions that follow from others: what is in `Internet` is outside `VirtualNetwork`, and the other way
    /// round.
    fn drop_redundancy(&mut self) {
        if self.within.is_empty() || self.outside.is_empty() {
            return;
        }
        type Is = fn(&ServiceTag) -> bool;
        let is = |group: &SourceGroup, f: Is| matches!(group, SourceGroup::Tag(t) if f(t));
        let pair: [Is; 2] = [ServiceTag::is_internet, ServiceTag::is_virtual_network];
        let [internet, network] = pair;
        for (inner, outer) in [(internet, network), (network, internet)] {
            if self.within.iter().any(|g| is(g, inner)) {
                self.outside.retain(|g| !is(g, outer));
            }
        }
    }

    /// Whether the condition is always met.
    #[must_use]
    pub fn is_unconditional(&self) -> bool {
        self.within.is_empty() && self.outside.is_empty()
    }

    fn intersection(&self, other: &Self) -> Self {
        Self {
            addresses: self.addresses.intersection(&other.addresses),
            within: self.within.union(&other.within),
            outside: self.outside.union(&other.outside),
        }
    }

    fn implies(&self, other: &Self) -> bool {
        other.within.is_subset(&self.within)
            && other.outside.is_subset(&self.outside)
            && self.addresses.is_subset(&other.addresses)
    }

    /// This term without the other: outside its addresses, or inside them but failing one of its conditions.
    fn difference(&self, other: &Self) -> Vec<Self> {
        let meet = self.intersection(other);
        if meet.is_empty() {
            return vec![self.clone()];
        }
        let mut left = vec![Self { addresses: self.addresses.difference(&other.addresses), ..self.clone() }];
        let mut inside = Self { addresses: meet.addresses, ..self.clone() };
        for group in &other.within {
            let mut failing = inside.clone();
            failing.outside.insert(group.clone());
            left.push(failing);
            inside.within.insert(group.clone());
        }
        for group in &other.outside {
            let mut failing = inside.clone();
            failing.within.insert(group.clone());
            left.push(failing);
            inside.outside.insert(group.clone());
        }
        left.retain(|t| !t.is_empty());
        left
    }
}

impl fmt::Display for SourceTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let everything = self.addresses.is_all_v4() || self.addresses.is_all_v6();
        match (everything, self.within.is_empty()) {
            (true, false) => {}
            _ => write!(f, "{}", self.addresses)?,
        }
        for (i, group) in self.within.iter().enumerate() {
            let joint = if i == 0 && everything { "" } else { " within " };
            write!(f, "{joint}{group}")?;
        }
        for group in &self.outside {
            write!(f, " outside {group}")?;
        }
        Ok(())
    }
}

/// An exact set of sources: a union of [terms](SourceTerm).
///
/// Two sets are equal when they hold the same sources whatever the groups in them stand for. In JSON a set is
/// `{"addresses": [...], "tags": [...], "conditional": [{"addresses", "within", "outside"}]}`.
#[derive(Debug, Clone, Default)]
pub struct SourceSet {
    terms: Vec<SourceTerm>,
}

impl SourceSet {
    /// No source.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Every source of both families, members of every group included.
    #[must_use]
    pub fn any() -> Self {
        Self::from_addresses(AddressSet::all())
    }

    /// These addresses, whatever groups they are in.
    #[must_use]
    pub fn from_addresses(addresses: AddressSet) -> Self {
        Self::from_terms([SourceTerm::unconditional(addresses)])
    }

    /// The addresses of one prefix.
    #[must_use]
    pub fn from_prefix(prefix: Prefix) -> Self {
        Self::from_addresses(prefix.into())
    }

    /// Every source in a group.
    #[must_use]
    pub fn from_group(group: SourceGroup) -> Self {
        Self::from_terms([SourceTerm {
            addresses: AddressSet::all(),
            within: SourceGroups::from([group]),
            outside: SourceGroups::new(),
        }])
    }

    /// Every source of a service tag.
    #[must_use]
    pub fn from_tag(tag: ServiceTag) -> Self {
        Self::from_group(SourceGroup::Tag(tag))
    }

    /// The union of these terms.
    #[must_use]
    pub fn from_terms(terms: impl IntoIterator<Item = SourceTerm>) -> Self {
        Self::from_vec(terms.into_iter().collect())
    }

    /// The union of these terms, in the memory they are in.
    pub(crate) fn from_vec(mut terms: Vec<SourceTerm>) -> Self {
        terms.retain(|t| !t.is_empty());
        terms.iter_mut().for_each(SourceTerm::drop_redundancy);
        if terms.len() < 2 {
            return Self { terms };
        }
        terms.sort_by(|a, b| (&a.within, &a.outside).cmp(&(&b.within, &b.outside)));
        terms.dedup_by(|next, last| {
            let same = next.within == last.within && next.outside == last.outside;
            if same {
                last.addresses.append(std::mem::take(&mut next.addresses));
            }
            same
        });
        for term in &mut terms {
            term.addresses.settle();
        }
        // No two conditions are the same any more, so of two terms one at most implies the other, and what goes is
        // in something that stays.
        for at in (0..terms.len()).rev() {
            let implied =
                |term: &SourceTerm| terms.iter().enumerate().any(|(i, other)| i != at && term.implies(other));
            if terms.get(at).is_some_and(implied) {
                terms.remove(at);
            }
        }
        Self { terms }
    }

    /// The terms whose union the set is.
    #[must_use]
    pub fn terms(&self) -> &[SourceTerm] {
        &self.terms
    }

    /// The addresses that are in the set without any condition.
    #[must_use]
    pub fn addresses(&self) -> AddressSet {
        self.terms
            .iter()
            .filter(|t| t.is_unconditional())
            .fold(AddressSet::empty(), |sum, t| sum.union(&t.addresses))
    }

    /// The service tags that are in the set as a whole (for at least one address family).
    #[must_use]
    pub fn tags(&self) -> BTreeSet<ServiceTag> {
        self.terms.iter().filter_map(|t| whole_tag(t).cloned()).collect()
    }

    /// Whether no source is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The sources of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::from_terms(self.terms.iter().chain(&other.terms).cloned())
    }

    /// The sources of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self::from_terms(self.terms.iter().flat_map(|a| other.terms.iter().map(|b| a.intersection(b))))
    }

    /// The sources of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = self.terms.clone();
        for taken in &other.terms {
            left = left.iter().flat_map(|t| t.difference(taken)).collect();
        }
        Self::from_terms(left)
    }

    /// Whether every source of this set is in the other, whatever the groups stand for.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.difference(other).is_empty()
    }

    /// The sources of the set with addresses of the same family as this one.
    #[must_use]
    pub fn of_family(&self, address: IpAddr) -> Self {
        self.intersection(&Self::from_addresses(AddressSet::family_of(address)))
    }
}

fn whole_tag(term: &SourceTerm) -> Option<&ServiceTag> {
    let whole = term.addresses.is_all_v4() || term.addresses.is_all_v6();
    match (whole && term.outside.is_empty() && term.within.len() == 1).then(|| term.within.first()).flatten()
    {
        Some(SourceGroup::Tag(tag)) => Some(tag),
        _ => None,
    }
}

impl PartialEq for SourceSet {
    fn eq(&self, other: &Self) -> bool {
        self.terms == other.terms || (self.is_subset(other) && other.is_subset(self))
    }
}

impl Eq for SourceSet {}

impl fmt::Display for SourceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("nothing");
        }
        for (i, term) in self.terms.iter().enumerate() {
            write!(f, "{}{term}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SourceSetJson {
    #[serde(default)]
    addresses: AddressSet,
    #[serde(default)]
    tags: BTreeSet<ServiceTag>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    conditional: Vec<SourceTerm>,
}

impl Serialize for SourceSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let addresses = self.addresses();
        // A tag restricted to the family of the destination reads best as the tag itself; which family it is
        // follows from the destination beside it.
        let conditional =
            self.terms.iter().filter(|t| !t.is_unconditional() && whole_tag(t).is_none()).cloned().collect();
        SourceSetJson { addresses, tags: self.tags(), conditional }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SourceSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = SourceSetJson::deserialize(deserializer)?;
        let tags = json.tags.into_iter().map(|tag| SourceTerm {
            addresses: AddressSet::all(),
            within: SourceGroups::from([SourceGroup::Tag(tag)]),
            outside: SourceGroups::new(),
        });
        Ok(Self::from_terms(
            std::iter::once(SourceTerm::unconditional(json.addresses)).chain(tags).chain(json.conditional),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn group(i: usize) -> SourceGroup {
        SourceGroup::Tag(ServiceTag::parse(["Alpha", "Beta", "Gamma"][i]).unwrap())
    }

    /// A source for the model: an address of 16 and which of three groups it is in.
    fn member(set: &SourceSet, address: u32, groups: u8) -> bool {
        let ip = IpAddr::V4(std::net::Ipv4Addr::from_bits(address));
        let is_in = |g: &SourceGroup| (0..3).any(|i| *g == group(i) && groups & (1 << i) != 0);
        set.terms()
            .iter()
            .any(|t| t.addresses.contains(ip) && t.within.iter().all(is_in) && !t.outside.iter().any(is_in))
    }

    fn term() -> impl Strategy<Value = SourceTerm> {
        let groups = proptest::collection::btree_set((0usize..3).prop_map(group), 0..3);
        (0u32..16, 0u32..16, groups.clone(), groups).prop_map(|(a, b, within, outside)| SourceTerm {
            addresses: AddressSet::range(
                IpAddr::V4(std::net::Ipv4Addr::from_bits(a.min(b))),
                IpAddr::V4(std::net::Ipv4Addr::from_bits(a.max(b))),
            ),
            within: within.into_iter().collect(),
            outside: outside.into_iter().collect(),
        })
    }

    fn sources() -> impl Strategy<Value = SourceSet> {
        proptest::collection::vec(term(), 0..4).prop_map(SourceSet::from_terms)
    }

    proptest! {
        #[test]
        fn algebra_agrees_with_membership_whatever_the_groups_hold(a in sources(), b in sources()) {
            let (union, meet, rest) = (a.union(&b), a.intersection(&b), a.difference(&b));
            let (mut subset, mut same) = (true, true);
            for address in 0..16 {
                for groups in 0..8 {
                    let (x, y) = (member(&a, address, groups), member(&b, address, groups));
                    prop_assert_eq!(member(&union, address, groups), x || y);
                    prop_assert_eq!(member(&meet, address, groups), x && y);
                    prop_assert_eq!(member(&rest, address, groups), x && !y);
                    subset &= !x || y;
                    same &= x == y;
                }
            }
            prop_assert_eq!(a.is_subset(&b), subset);
            prop_assert_eq!(a == b, same);
        }

        #[test]
        fn json_round_trips(a in sources()) {
            let back: SourceSet = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
            prop_assert_eq!(back, a);
        }
    }

    #[test]
    fn a_tag_is_neither_lost_in_nor_equal_to_addresses() {
        let tag = SourceSet::from_tag(ServiceTag::internet());
        let some = SourceSet::from_prefix(Prefix::parse("203.0.113.0/24").unwrap());
        assert!(tag.is_subset(&SourceSet::any()));
        assert!(!some.is_subset(&tag) && !tag.is_subset(&some));
        assert!(!SourceSet::any().difference(&tag).is_empty());
        assert_eq!(SourceSet::any().difference(&tag).union(&tag), SourceSet::any());
    }

    #[test]
    fn internet_and_virtual_network_exclude_each_other() {
        let internet = SourceSet::from_tag(ServiceTag::parse("INTERNET").unwrap());
        let vnet = SourceSet::from_tag(ServiceTag::parse("virtualnetwork").unwrap());
        assert!(internet.intersection(&vnet).is_empty());
        assert_eq!(internet.difference(&vnet), internet);
        assert_eq!(internet.union(&vnet.difference(&internet)).tags().len(), 2, "both are whole tags still");
        assert!(internet.difference(&vnet).terms()[0].outside.is_empty());
    }

    #[test]
    fn tag_text_is_checked() {
        assert_eq!(ServiceTag::parse("internet").unwrap().as_str(), "Internet");
        assert_eq!(
            ServiceTag::parse("Storage.WestEurope").unwrap(),
            ServiceTag::parse("storage.westeurope").unwrap()
        );
        for bad in ["", "*", "10.0.0.0/8", "[variables('x')]", "a b"] {
            assert!(ServiceTag::parse(bad).is_err(), "{bad}");
        }
    }
}
