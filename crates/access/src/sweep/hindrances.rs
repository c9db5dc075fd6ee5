//! What keeps the work of sweeps from being done, remembered from one sweep to the next: subscriptions that Azure wants
//! to be left alone, and work that failed.

use crate::Ajar;
use crate::cursor;
use crate::document::Document;
use crate::keys::{Key, digest};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// However long Azure asks to be left alone, what is due is tried again after so long: an open port must not stay open
/// for an hour because of a number in an answer.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// How much failing work is remembered; more of it is treated as if it had not failed.
const MOST_FAILING: usize = 1_000;

/// What one sweep leaves to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    /// Until when Azure wants to be left alone, by subscription: its limits are per subscription.
    paused_until: BTreeMap<String, Timestamp>,
    /// When the last sweep began that tried in vain, by digest of what was tried.
    failing: BTreeMap<String, Timestamp>,
}

impl Document for Remembered {
    const VERSION: u32 = 1;
    const NAME: &'static str = "memory of the sweep";
}

/// What hinders a sweep: what the last one left, and what comes up.
pub(super) struct Hindrances {
    before: Remembered,
    present: Mutex<Remembered>,
}

fn place() -> (Key, Key) {
    (Key::new(["sweep"]), Key::new(["hindrances"]))
}

fn key(subject: &str) -> String {
    digest(subject, 16)
}

impl Hindrances {
    /// What the last sweep left. When that cannot be told, nothing: the worst is a call too many.
    pub(super) async fn read(ajar: &Ajar) -> Hindrances {
        let before = match cursor::read::<Remembered>(ajar, place()).await {
            Ok(before) => before.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(error = error.log_text(), "what hindered the last sweep cannot be read");
                Remembered::default()
            }
        };
        Hindrances { present: Mutex::new(before.clone()), before }
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether Azure wants to be left alone with a subscription.
    pub(super) fn pauses(&self, subscription: &str, now: Timestamp) -> bool {
        self.lock().paused_until.get(&subscription.to_ascii_lowercase()).is_some_and(|until| *until > now)
    }

    /// Azure wants to be left alone with a subscription for so long.
    pub(super) fn pause(&self, subscription: &str, now: Timestamp, wait: SignedDuration) {
        let until = now + wait.min(LONGEST_PAUSE);
        self.lock().paused_until.insert(subscription.to_ascii_lowercase(), until);
    }

    /// When work was last tried in vain; `None` when it did not fail the last time.
    pub(super) fn failed_in(&self, subject: &str) -> Option<Timestamp> {
        self.before.failing.get(&key(subject)).copied()
    }

    /// Work failed in the sweep that began at `started`.
    pub(super) fn fail(&self, subject: &str, started: Timestamp) {
        let mut present = self.lock();
        if present.failing.len() < MOST_FAILING {
            present.failing.insert(key(subject), started);
        }
    }

    /// Work did not fail.
    pub(super) fn succeed(&self, subject: &str) {
        self.lock().failing.remove(&key(subject));
    }

    /// Leaves to the next sweep what concerns the work of `subjects`; without a difference nothing is written.
    pub(super) async fn keep<'a>(
        &self,
        ajar: &Ajar,
        subjects: impl Iterator<Item = &'a String>,
        now: Timestamp,
    ) {
        let mut present = self.lock().clone();
        present.paused_until.retain(|_, until| *until > now);
        let due: std::collections::BTreeSet<String> = subjects.map(|subject| key(subject)).collect();
        present.failing.retain(|subject, _| due.contains(subject));
        if present == self.before {
            return;
        }
        if let Err(error) = cursor::put(ajar, place(), &present).await {
            tracing::warn!(error = error.log_text(), "what hindered this sweep cannot be kept");
        }
    }
}
