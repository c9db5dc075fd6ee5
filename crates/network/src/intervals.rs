//! Canonical sets of whole numbers: sorted, disjoint, never adjacent inclusive intervals. Addresses and ports
//! are both such sets, so that their algebra is written and tested once.

use smallvec::{SmallVec, smallvec};

/// A number type whose values can be walked one by one.
pub(crate) trait Bound: Copy + Ord {
    const MIN: Self;
    const MAX: Self;
    fn next(self) -> Option<Self>;
    fn previous(self) -> Option<Self>;
}

macro_rules! bound {
    ($($t:ty),*) => {$(
        impl Bound for $t {
            const MIN: Self = <$t>::MIN;
            const MAX: Self = <$t>::MAX;
            fn next(self) -> Option<Self> { self.checked_add(1) }
            fn previous(self) -> Option<Self> { self.checked_sub(1) }
        }
    )*};
}
bound!(u16, u32, u128);

/// Most sets are one interval (a prefix, everything, nothing), which takes no allocation.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Intervals<T>(Parts<T>);

pub(crate) type Parts<T> = SmallVec<[(T, T); 1]>;

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<T: Copy> Clone for Intervals<T> {
    /// As the numbers are copied at once, not one by one.
    fn clone(&self) -> Self {
        Self(SmallVec::from_slice(&self.0))
    }
}

impl<T: Bound> Intervals<T> {
    pub(crate) fn all() -> Self {
        Self(smallvec![(T::MIN, T::MAX)])
    }

    /// Makes it the set of all values, keeping its memory, with room for `cuts` more intervals.
    pub(crate) fn fill(&mut self, cuts: usize) {
        self.0.clear();
        self.0.reserve(cuts + 1);
        self.0.push((T::MIN, T::MAX));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds an interval; [`settle`](Self::settle) makes the set canonical again.
    pub(crate) fn push(&mut self, from: T, to: T) {
        self.make_room();
        self.0.push((from, to));
    }

    /// A set of more than one interval soon has several.
    fn make_room(&mut self) {
        if self.0.len() == 1 && !self.0.spilled() {
            self.0.reserve(7);
        }
    }

    /// Adds the intervals of another set; [`settle`](Self::settle) makes this one canonical again.
    pub(crate) fn extend_from(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// From intervals in any order, overlapping or not. An interval whose start is after its end is empty.
    pub(crate) fn from_unsorted<P: Into<Parts<T>>>(parts: P) -> Self {
        let mut parts = parts.into();
        parts.retain(|(from, to)| from <= to);
        let mut set = Self(parts);
        set.settle();
        set
    }

    /// Adds the intervals of another set; [`settle`](Self::settle) makes this one canonical again.
    pub(crate) fn append(&mut self, mut other: Self) {
        if self.0.is_empty() {
            *self = other;
        } else {
            self.0.append(&mut other.0);
        }
    }

    /// Makes the set canonical: sorted, disjoint, never adjacent.
    pub(crate) fn settle(&mut self) {
        let apart = |pair: &[(T, T)]| match pair {
            [(_, to), (from, _)] => to.next().is_some_and(|after| after < *from),
            _ => true,
        };
        if !self.0.windows(2).all(apart) {
            self.0.sort_unstable();
            self.0.dedup_by(|next, last| {
                let joins = last.1.next().is_none_or(|after| next.0 <= after);
                if joins {
                    last.1 = last.1.max(next.1);
                }
                joins
            });
        }
    }

    pub(crate) fn is_subset(&self, other: &Self) -> bool {
        let mut at = other.0.as_slice();
        self.0.iter().all(|&(from, to)| {
            at = at.get(at.partition_point(|&(_, last)| last < from)..).unwrap_or_default();
            at.first().is_some_and(|&(first, last)| first <= from && to <= last)
        })
    }

    pub(crate) fn as_slice(&self) -> &[(T, T)] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_all(&self) -> bool {
        self.0.first().is_some_and(|&(from, to)| from == T::MIN && to == T::MAX)
    }

    pub(crate) fn contains(&self, value: T) -> bool {
        let after = self.0.partition_point(|&(from, _)| from <= value);
        after.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|&(_, to)| value <= to)
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return other.clone();
        }
        Self::from_unsorted(self.0.iter().chain(&other.0).copied().collect::<Parts<T>>())
    }

    pub(crate) fn each_common(&self, other: &Self, mut common: impl FnMut(T, T)) {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
            let (from, to) = (a.max(c), b.min(d));
            if from <= to {
                common(from, to);
            }
            if b < d {
                left.next();
            } else {
                right.next();
            }
        }
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut parts = SmallVec::new();
        self.each_common(other, |from, to| parts.push((from, to)));
        Self(parts)
    }

    pub(crate) fn complement(&self) -> Self {
        let mut parts = SmallVec::with_capacity(self.0.len() + 1);
        let mut start = Some(T::MIN);
        for &(from, to) in &self.0 {
            if let (Some(gap), Some(before)) = (start, from.previous())
                && gap <= before
            {
                parts.push((gap, before));
            }
            start = to.next();
        }
        if let Some(gap) = start {
            parts.push((gap, T::MAX));
        }
        Self(parts)
    }

    pub(crate) fn difference(&self, other: &Self) -> Self {
        if self.is_empty() || other.is_empty() {
            return self.clone();
        }
        self.intersection(&other.complement())
    }

    /// Takes the values from `from` to `to` out of the set and hands those that were in it to `taken`. In place: what
    /// is left beside the cut is not looked at.
    pub(crate) fn take(&mut self, from: T, to: T, mut taken: impl FnMut(T, T)) {
        let start = self.0.partition_point(|&(_, last)| last < from);
        let mut end = start;
        let (mut head, mut tail) = (None, None);
        while let Some(&(first, last)) = self.0.get(end).filter(|&&(first, _)| first <= to) {
            taken(first.max(from), last.min(to));
            head = head.or(from.previous().filter(|before| first <= *before).map(|before| (first, before)));
            tail = to.next().filter(|after| *after <= last).map(|after| (after, last));
            end += 1;
        }
        if let (Some(one), Some(two), 1) = (head, tail, end - start) {
            if let Some(slot) = self.0.get_mut(start) {
                *slot = one;
            }
            self.make_room();
            self.0.insert(start + 1, two);
            return;
        }
        // What is left of the first and the last fits into their places.
        let mut kept = start;
        for part in head.into_iter().chain(tail) {
            if let Some(slot) = self.0.get_mut(kept) {
                *slot = part;
            }
            kept += 1;
        }
        if kept < end {
            self.0.drain(kept..end);
        }
    }

    /// The lowest value of both.
    pub(crate) fn first_common(&self, other: &Self) -> Option<T> {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
            if a.max(c) <= b.min(d) {
                return Some(a.max(c));
            }
            if b < d {
                left.next();
            } else {
                right.next();
            }
        }
        None
    }

    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.first_common(other).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set() -> impl Strategy<Value = Intervals<u16>> {
        let edge = prop_oneof![0u16..40, 65_500u16..=65_535];
        proptest::collection::vec((edge.clone(), edge), 0..6).prop_map(Intervals::from_unsorted::<Vec<_>>)
    }

    fn values() -> impl Iterator<Item = u16> {
        (0..45).chain(65_490..=65_535)
    }

    proptest! {
        #[test]
        fn algebra_agrees_with_membership(a in set(), b in set()) {
            for v in values() {
                prop_assert_eq!(a.union(&b).contains(v), a.contains(v) || b.contains(v));
                prop_assert_eq!(a.intersection(&b).contains(v), a.contains(v) && b.contains(v));
                prop_assert_eq!(a.difference(&b).contains(v), a.contains(v) && !b.contains(v));
                prop_assert_eq!(a.complement().contains(v), !a.contains(v));
            }
            let (mut rest, mut taken) = (a.clone(), Vec::new());
            for &(from, to) in b.as_slice() {
                rest.take(from, to, |x, y| taken.push((x, y)));
            }
            prop_assert_eq!(&rest, &a.difference(&b));
            prop_assert_eq!(Intervals::from_unsorted(taken), a.intersection(&b));
            prop_assert_eq!(a.is_subset(&b), a.difference(&b).is_empty());
            prop_assert_eq!(a.intersects(&b), !a.intersection(&b).is_empty());
            prop_assert_eq!(a.complement().complement(), a);
        }

        #[test]
        fn every_result_is_canonical(a in set(), b in set()) {
            for s in [a.union(&b), a.intersection(&b), a.difference(&b), a.complement()] {
                for pair in s.as_slice().windows(2) {
                    prop_assert!(pair[0].1.checked_add(1).is_some_and(|n| n < pair[1].0));
                }
            }
        }
    }

    #[test]
    fn everything_has_no_complement() {
        assert!(Intervals::<u128>::all().complement().is_empty());
        assert!(Intervals::<u128>::default().complement().is_all());
    }
}
