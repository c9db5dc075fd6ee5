//! Small sorted sets of source groups.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::source::SourceGroup;

/// A set of source groups in ascending order. Sets are mostly of none to two and are copied a lot, so those are kept
/// without allocation.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SourceGroups(SmallVec<[SourceGroup; 2]>);

impl Clone for SourceGroups {
    fn clone(&self) -> Self {
        if self.0.is_empty() { Self::new() } else { Self(self.0.clone()) }
    }
}

impl SourceGroups {
    /// No group.
    #[must_use]
    pub fn new() -> Self {
        Self(SmallVec::new())
    }

    /// One group.
    #[must_use]
    pub fn of(group: SourceGroup) -> Self {
        let mut groups = SmallVec::new();
        groups.push(group);
        Self(groups)
    }

    /// The groups, ascending.
    pub fn iter(&self) -> std::slice::Iter<'_, SourceGroup> {
        self.0.iter()
    }

    /// The lowest group.
    #[must_use]
    pub fn first(&self) -> Option<&SourceGroup> {
        self.0.first()
    }

    /// How many groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the group is among them.
    #[must_use]
    pub fn contains(&self, group: &SourceGroup) -> bool {
        self.0.contains(group)
    }

    /// Whether all groups are among the others too.
    #[must_use]
    pub fn is_subset(&self, others: &Self) -> bool {
        self.len() <= others.len() && self.0.iter().all(|g| others.contains(g))
    }

    /// Adds a group. Whether it was not there before.
    pub fn insert(&mut self, group: SourceGroup) -> bool {
        match self.0.binary_search(&group) {
            Ok(_) => false,
            Err(place) => {
                self.0.insert(place, group);
                true
            }
        }
    }

    /// Keeps the groups that `keep` holds of.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&SourceGroup) -> bool) {
        self.0.retain(|group| keep(group));
    }

    /// The groups of either set.
    #[must_use]
    pub fn union(&self, others: &Self) -> Self {
        let mut union = self.clone();
        union.extend(others.iter().cloned());
        union
    }
}

impl Extend<SourceGroup> for SourceGroups {
    fn extend<I: IntoIterator<Item = SourceGroup>>(&mut self, groups: I) {
        for group in groups {
            self.insert(group);
        }
    }
}

impl FromIterator<SourceGroup> for SourceGroups {
    fn from_iter<I: IntoIterator<Item = SourceGroup>>(groups: I) -> Self {
        let mut groups: SmallVec<[SourceGroup; 2]> = groups.into_iter().collect();
        if groups.len() > 1 {
            groups.sort_unstable();
            groups.dedup();
        }
        Self(groups)
    }
}

impl<const N: usize> From<[SourceGroup; N]> for SourceGroups {
    fn from(groups: [SourceGroup; N]) -> Self {
        groups.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a SourceGroups {
    type Item = &'a SourceGroup;
    type IntoIter = std::slice::Iter<'a, SourceGroup>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for SourceGroups {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for SourceGroups {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<SourceGroup>::deserialize(deserializer)?.into_iter().collect())
    }
}
