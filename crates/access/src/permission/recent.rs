//! What was read lately, so that a burst of questions is one read. Failed reads are never kept.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long a reading may be used. What is taken away in Azure meanwhile still counts so long.
pub(super) const KEPT: SignedDuration = SignedDuration::from_secs(30);

/// The most readings that are kept; the oldest go first.
const MOST: usize = 4096;

/// Readings by key, each with the moment before it was begun.
pub(super) struct Recent<K, V>(Mutex<BTreeMap<K, (Timestamp, Arc<V>)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Recent(Mutex::default())
    }
}

impl<K: Ord + Clone, V> Recent<K, V> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, (Timestamp, Arc<V>)>> {
        // Every change is a single insertion or removal, so whoever panicked left a whole map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read less than [`KEPT`] ago.
    pub(super) fn get(&self, key: &K, now: Timestamp) -> Option<Arc<V>> {
        self.lock().get(key).filter(|(begun, _)| is_fresh(*begun, now)).map(|(_, value)| Arc::clone(value))
    }

    /// What was read last, however long ago: a hint at what to read again.
    pub(super) fn last(&self, key: &K) -> Option<Arc<V>> {
        self.lock().get(key).map(|(_, value)| Arc::clone(value))
    }

    /// Keeps what was read; `begun` is the moment before the read, `now` the present one.
    pub(super) fn keep(&self, key: K, begun: Timestamp, now: Timestamp, value: V) -> Arc<V> {
        let value = Arc::new(value);
        let mut kept = self.lock();
        if kept.get(&key).is_some_and(|(other, _)| *other > begun && is_fresh(*other, now)) {
            // A read that began later was faster; what it saw is newer.
            return value;
        }
        if kept.len() >= MOST && !kept.contains_key(&key) {
            kept.retain(|_, (begun, _)| is_fresh(*begun, now));
            let oldest = kept.iter().min_by_key(|(_, (begun, _))| *begun).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest.filter(|_| kept.len() >= MOST) {
                kept.remove(&oldest);
            }
        }
        kept.insert(key, (begun, Arc::clone(&value)));
        value
    }
}

/// Whether a reading may be used. One from the future is not: the clock was set back.
fn is_fresh(begun: Timestamp, now: Timestamp) -> bool {
    let age = now.duration_since(begun);
    SignedDuration::ZERO <= age && age < KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_reading_is_used_for_its_time_and_not_before_it_was_made() {
        let recent = Recent::default();
        recent.keep("a", at(0), at(2), 1);
        assert_eq!(recent.get(&"a", at(29)).as_deref(), Some(&1));
        assert!(recent.get(&"a", at(30)).is_none(), "its time counts from before it was read");
        assert!(recent.get(&"a", at(-1)).is_none());
        assert!(recent.get(&"b", at(1)).is_none());
    }

    #[test]
    fn an_older_reading_that_comes_late_replaces_no_newer_one() {
        let recent = Recent::default();
        recent.keep("a", at(5), at(6), 2);
        recent.keep("a", at(1), at(7), 1);
        assert_eq!(recent.get(&"a", at(8)).as_deref(), Some(&2));
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let recent = Recent::default();
        for number in 0..MOST {
            recent.keep(number, at(if number == 7 { 0 } else { 1 }), at(1), ());
        }
        recent.keep(MOST, at(2), at(2), ());
        assert_eq!(recent.lock().len(), MOST);
        assert!(recent.get(&7, at(2)).is_none());
        assert!(recent.get(&8, at(2)).is_some() && recent.get(&MOST, at(2)).is_some());
    }
}
