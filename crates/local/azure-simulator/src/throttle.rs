//! Token buckets.

use std::collections::HashMap;

use http::Method;
use jiff::Timestamp;

use crate::switches::{Bucket, Throttle};

#[derive(Debug, Default)]
pub(crate) struct Buckets(HashMap<String, Level>);

#[derive(Clone, Copy, Debug)]
struct Level {
    calls: f64,
    at: Timestamp,
}

impl Buckets {
    /// Takes one call, or says after how many seconds to come again.
    pub(crate) fn take(
        &mut self,
        throttle: &Throttle,
        subscription: &str,
        principal: &str,
        method: &Method,
        now: Timestamp,
    ) -> Result<(), u64> {
        let (kind, bucket) = match *method {
            Method::GET | Method::HEAD => ("reads", throttle.reads),
            Method::DELETE => ("deletes", throttle.deletes),
            _ => ("writes", throttle.writes),
        };
        let key = format!("{kind} {subscription} {principal}").to_ascii_lowercase();
        let Bucket { capacity, per_second } = bucket;
        let level = self.0.entry(key).or_insert(Level { calls: f64::from(capacity), at: now });
        let elapsed = now.duration_since(level.at).as_secs_f64().max(0.0);
        level.calls = (level.calls + elapsed * f64::from(per_second)).min(f64::from(capacity));
        level.at = now;
        if level.calls >= 1.0 {
            level.calls -= 1.0;
            return Ok(());
        }
        let missing = 1.0 - level.calls;
        let wait = (1..=60).find(|seconds| *seconds as f64 * f64::from(per_second) >= missing);
        Err(wait.unwrap_or(60))
    }
}
