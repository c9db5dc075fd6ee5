//! What a use case answers when it does not do what was asked.

use crate::ports::azure::AzureError;
use crate::ports::store::StoreError;
use jiff::SignedDuration;

/// Why a use case did not do what was asked. `Display` is written for the caller and gives nothing away;
/// what only the log may hold is in the sources of [`AccessError::Unavailable`] and [`AccessError::Internal`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The input breaks a rule.
    #[error("{field}: {rule}")]
    Invalid {
        /// The field, as the caller spells it, for example `ports[0].sources[1]`.
        field: String,
        /// The rule it breaks and what would satisfy it.
        rule: String,
    },
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// What was named does not exist, or the caller may not know that it does.
    #[error("{0}")]
    NotFound(String),
    /// The present state does not allow it.
    #[error("{message}")]
    Conflict {
        /// Short machine-readable name of the reason, for example `NoEnforcementPoint`.
        code: &'static str,
        /// What the state is and what to do.
        message: String,
    },
    /// Something Ajar needs is unavailable. Nothing was opened; try again.
    #[error("{what} is unavailable at the moment; nothing was opened. Try again in {} seconds.", retry_after.as_secs().max(1))]
    Unavailable {
        /// What is unavailable, for the caller.
        what: &'static str,
        /// When to try again.
        retry_after: SignedDuration,
        /// What happened, for the log.
        reason: String,
    },
    /// A defect or a refusal by Azure that trying again does not mend.
    #[error("this could not be done; the operator finds the reason in the log")]
    Internal {
        /// What happened, for the log.
        reason: String,
    },
}

/// How long a caller is asked to wait when nobody said how long.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// What is unavailable when Azure asked to be left alone for a while.
const THROTTLED: &str = "Azure Resource Manager, which asked to be left alone,";

impl AccessError {
    /// An error about one field of the input.
    pub fn invalid(field: impl Into<String>, rule: impl Into<String>) -> AccessError {
        AccessError::Invalid { field: field.into(), rule: rule.into() }
    }

    /// A defect: the reason goes to the log alone.
    pub fn internal(reason: impl Into<String>) -> AccessError {
        AccessError::Internal { reason: reason.into() }
    }

    /// Whether trying the same again later can succeed.
    pub fn is_temporary(&self) -> bool {
        matches!(self, AccessError::Unavailable { .. })
    }

    /// How long Azure asked to be left alone, when it did.
    pub fn asked_to_wait(&self) -> Option<SignedDuration> {
        match self {
            AccessError::Unavailable { what, retry_after, .. } if *what == THROTTLED => Some(*retry_after),
            _ => None,
        }
    }

    /// What kind of answer it is, in one word, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            AccessError::Invalid { .. } => "invalid",
            AccessError::Forbidden(_) => "forbidden",
            AccessError::NotFound(_) => "not_found",
            AccessError::Conflict { .. } => "conflict",
            AccessError::Unavailable { .. } => "unavailable",
            AccessError::Internal { .. } => "internal",
        }
    }

    /// The whole story, for the log.
    pub fn log_text(&self) -> String {
        match self {
            AccessError::Unavailable { what, reason, .. } => format!("{what} is unavailable: {reason}"),
            AccessError::Internal { reason } => reason.clone(),
            other => other.to_string(),
        }
    }
}

impl From<StoreError> for AccessError {
    fn from(error: StoreError) -> AccessError {
        match error {
            StoreError::Unavailable { reason, retry_after } => AccessError::Unavailable {
                what: "Ajar's store",
                retry_after: retry_after.unwrap_or(RETRY_AFTER),
                reason,
            },
            StoreError::Conflict => AccessError::Unavailable {
                what: "a record that several callers are changing at once",
                retry_after: SignedDuration::from_secs(1),
                reason: "a row kept changing under a bounded number of attempts".into(),
            },
            StoreError::TooLarge { reason } => AccessError::Internal { reason },
        }
    }
}

impl From<AzureError> for AccessError {
    fn from(error: AzureError) -> AccessError {
        match error {
            AzureError::Unavailable { reason, retry_after } => AccessError::Unavailable {
                what: if retry_after.is_some() { THROTTLED } else { "Azure Resource Manager" },
                retry_after: retry_after.unwrap_or(RETRY_AFTER),
                reason,
            },
            AzureError::Conflict(reason) => AccessError::Unavailable {
                what: "an Azure resource that is being changed",
                retry_after: SignedDuration::from_secs(1),
                reason,
            },
            AzureError::NotFound(what) => AccessError::NotFound(format!("{what} does not exist")),
            other @ (AzureError::Forbidden(_) | AzureError::Rejected { .. }) => {
                AccessError::Internal { reason: other.to_string() }
            }
        }
    }
}
