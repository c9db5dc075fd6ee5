//! The recent ARM requests, and how many writes each resource was asked for.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;

const REMEMBERED: usize = 10_000;

/// One ARM request as it arrived and was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// When it took effect.
    pub time: Timestamp,
    /// The method.
    pub method: String,
    /// The decoded path, without the query.
    pub path: String,
    /// The status it was answered with; `None` if the connection was dropped.
    pub status: Option<u16>,
    /// The error code, if it was refused.
    pub code: Option<String>,
    /// The object id of the caller; `None` if it never got that far.
    pub caller: Option<String>,
    /// The header `x-ms-correlation-request-id`, if it had one.
    pub correlation: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    recent: VecDeque<LogEntry>,
    /// By the resource's id in lower case; never forgotten, however many requests come.
    writes: BTreeMap<String, u64>,
}

impl RequestLog {
    pub(crate) fn note(&mut self, entry: LogEntry) {
        if !["GET", "HEAD"].contains(&entry.method.as_str())
            && let Some(resource) = top_level(&entry.path)
        {
            *self.writes.entry(resource).or_default() += 1;
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(entry);
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &LogEntry> {
        self.recent.iter()
    }

    pub(crate) fn writes(&self) -> &BTreeMap<String, u64> {
        &self.writes
    }

    pub(crate) fn clear(&mut self) {
        self.recent.clear();
    }
}

/// The id of the resource that a path is about or below, in lower case: `/subscriptions/S/resourceGroups/G/providers/N/K/R`.
fn top_level(path: &str) -> Option<String> {
    let path = path.to_ascii_lowercase();
    let segments: Vec<&str> = path.split('/').take(9).collect();
    (segments.len() == 9 && segments.get(5) == Some(&"providers")).then(|| segments.join("/"))
}
