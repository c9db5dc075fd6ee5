//! The recent ARM requests, for tests that count writes.

use std::collections::VecDeque;

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
pub(crate) struct RequestLog(VecDeque<LogEntry>);

impl RequestLog {
    pub(crate) fn note(&mut self, entry: LogEntry) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &LogEntry> {
        self.0.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
