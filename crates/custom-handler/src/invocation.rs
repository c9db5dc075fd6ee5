//! What a function is told about the invocation it serves.

use std::sync::{Arc, Mutex, PoisonError};

use crate::envelope::Metadata;

/// How many log lines one invocation can attach to its answer; further ones are counted, not kept.
pub const MAX_LOG_LINES: usize = 1000;

/// The invocation a function serves. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Invocation {
    function: Arc<str>,
    id: Arc<str>,
    traceparent: Option<Arc<str>>,
    retry: Option<RetryHint>,
    logs: Logs,
}

/// Which attempt of the host's own retry policy this is. A hint, like all [`Metadata`]: without a policy,
/// whoever writes the payload of a string trigger can make it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryHint {
    /// 0 on the first attempt.
    pub count: u64,
    /// How many retries the policy allows; `None` for no limit.
    pub max: Option<u64>,
}

/// Collects lines that the host attaches to the invocation, all at level Information, once the answer has
/// arrived. Of a failed invocation the host drops them, so they are then written to the process log instead.
#[derive(Debug, Clone, Default)]
pub struct Logs(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    kept: Vec<String>,
    dropped: usize,
}

impl Invocation {
    /// An invocation outside any host: to call a function from a test, or by hand.
    #[must_use]
    pub fn detached(function: &str, id: &str) -> Self {
        Self {
            function: function.into(),
            id: id.into(),
            traceparent: None,
            retry: None,
            logs: Logs::default(),
        }
    }

    pub(crate) fn new(
        function: Arc<str>,
        id: Arc<str>,
        traceparent: Option<&str>,
        metadata: &Metadata,
    ) -> Self {
        let retry = metadata.object("RetryContext").and_then(|retry| {
            let max = retry.get("MaxRetryCount")?.as_i64()?;
            Some(RetryHint { count: retry.get("RetryCount")?.as_u64()?, max: max.try_into().ok() })
        });
        Self { function, id, traceparent: traceparent.map(Into::into), retry, logs: Logs::default() }
    }

    /// The name of the function.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The id the host gave the invocation: a guid. For queue triggers all attempts of a retry policy share
    /// one; a message delivered again has a new one.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The W3C trace context the host sent, when it traces.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// Which attempt of a retry policy this is, when there is one.
    #[must_use]
    pub fn retry(&self) -> Option<RetryHint> {
        self.retry
    }

    /// Where lines for the host's log of this invocation go.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.logs
    }
}

impl Logs {
    /// Adds a line, up to [`MAX_LOG_LINES`].
    pub fn push(&self, line: impl Into<String>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.kept.len() < MAX_LOG_LINES {
            lines.kept.push(line.into());
        } else {
            lines.dropped = lines.dropped.saturating_add(1);
        }
    }

    /// The lines so far, and a last one that says how many were too many.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = lines.kept.clone();
        if lines.dropped > 0 {
            all.push(format!("{} more lines were dropped", lines.dropped));
        }
        all
    }
}
