//! What a failed send means for its sender.

use std::error::Error;

use ajar_access::ports::bus::BusError;
use jiff::SignedDuration;

/// A failure on its way through the SDK, whose error type has no room for a wait.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct SendFailure {
    pub(crate) again: Again,
    pub(crate) reason: String,
}

/// Whether the same message may be taken later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It may, after this pause if the broker named one.
    Later(Option<SignedDuration>),
    /// It will be refused again.
    Never,
}

impl SendFailure {
    /// The meaning of a status other than success.
    pub(crate) fn of_status(status: u16, retry_after: Option<&str>, queue_path: &str) -> Self {
        let again = match status {
            408 | 429 | 500..=599 => Again::Later(retry_after.and_then(seconds)),
            _ => Again::Never,
        };
        let hint = match status {
            401 | 403 => ": Ajar's identity needs the role Azure Service Bus Data Sender there",
            404 => ": the queue or the namespace does not exist",
            _ => "",
        };
        SendFailure { again, reason: format!("status {status} for {queue_path}{hint}") }
    }

    /// No answer at all.
    pub(crate) fn of_transport(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            reason.push_str(": ");
            reason.push_str(&inner.to_string());
            cause = inner.source();
        }
        SendFailure { again: Again::Later(None), reason }
    }
}

impl From<SendFailure> for BusError {
    fn from(failure: SendFailure) -> Self {
        match failure.again {
            Again::Later(retry_after) => BusError::Unavailable { reason: failure.reason, retry_after },
            Again::Never => BusError::Refused { reason: failure.reason },
        }
    }
}

/// `Retry-After` in its form of whole seconds, which is the one Azure uses; an hour at most.
fn seconds(value: &str) -> Option<SignedDuration> {
    value.trim().parse::<u32>().ok().map(|seconds| SignedDuration::from_secs(i64::from(seconds.min(3600))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_mean_later_or_never() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(SendFailure::of_status(status, None, "q").again, Again::Later(None), "{status}");
        }
        for status in [302, 400, 401, 403, 404, 410, 413] {
            assert_eq!(SendFailure::of_status(status, Some("5"), "q").again, Again::Never, "{status}");
        }
    }

    #[test]
    fn the_brokers_wish_to_be_left_alone_is_kept_within_an_hour() {
        let again = |value| SendFailure::of_status(503, Some(value), "q").again;
        assert_eq!(again("7"), Again::Later(Some(SignedDuration::from_secs(7))));
        assert_eq!(again("999999"), Again::Later(Some(SignedDuration::from_secs(3600))));
        assert_eq!(again("Wed, 21 Oct 2026 07:28:00 GMT"), Again::Later(None));
    }
}
