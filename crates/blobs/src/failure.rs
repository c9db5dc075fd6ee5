//! What went wrong with a request, and what that means to a caller.

use ajar_access::ports::store::StoreError;
use jiff::SignedDuration;
use std::error::Error;

/// A request that did not succeed. Holds nothing of a body, a header or a URL but the error code and the service's id of
/// the request: all of it may be logged.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    #[error(
        "Blob Storage answered {status} {}, request {}",
        code.as_deref().unwrap_or("without an error code"),
        request_id.as_deref().unwrap_or("unnamed")
    )]
    Refused {
        status: u16,
        /// <https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes>
        code: Option<String>,
        request_id: Option<String>,
        retry_after: Option<SignedDuration>,
    },
    /// The request may or may not have arrived.
    #[error("no answer from Blob Storage: {0}")]
    NoAnswer(String),
    #[error("no use can be made of what Blob Storage answered: {0}")]
    Unusable(String),
    #[error("no token for Blob Storage: {0}")]
    NoToken(String),
}

impl Failure {
    fn code(&self) -> Option<&str> {
        match self {
            Failure::Refused { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// The container does not exist; nothing was done.
    pub(crate) fn container_missing(&self) -> bool {
        self.code() == Some("ContainerNotFound")
    }

    /// The container to make exists.
    pub(crate) fn container_exists(&self) -> bool {
        self.code() == Some("ContainerAlreadyExists")
    }

    /// The container is there and the blob is not. A 404 without a code of the service is no such answer: it may come
    /// from a proxy.
    pub(crate) fn blob_missing(&self) -> bool {
        self.code() == Some("BlobNotFound")
    }

    /// Trying a read again at once may help.
    pub(crate) fn passing(&self) -> bool {
        match self {
            Failure::Refused { status, retry_after, .. } => {
                matches!(status, 500 | 502 | 503 | 504) && retry_after.is_none()
            }
            Failure::NoAnswer(_) => true,
            Failure::Unusable(_) | Failure::NoToken(_) => false,
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        let is_conflict = failure.blob_missing()
            || failure.code() == Some("BlobAlreadyExists")
            || matches!(failure, Failure::Refused { status: 412, .. });
        if is_conflict {
            return StoreError::Conflict;
        }
        let (advice, retry_after) = match &failure {
            Failure::Refused { status: 401 | 403, retry_after, .. } => (
                "; does the identity have the role Storage Blob Data Contributor on the container, and does the account's \
                 firewall let it in?",
                *retry_after,
            ),
            Failure::Refused { retry_after, .. } => ("", *retry_after),
            _ => ("", None),
        };
        StoreError::Unavailable { reason: format!("{failure}{advice}"), retry_after }
    }
}

impl From<azure_core::Error> for Failure {
    /// Finds the transport's own failure below what the SDK wrapped around it.
    fn from(error: azure_core::Error) -> Failure {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if let Some(failure) = inner.downcast_ref::<Failure>() {
                return failure.clone();
            }
            cause = inner.source();
        }
        Failure::Unusable(loggable(&error))
    }
}

/// The text of `error` and its causes, cut short.
pub(crate) fn loggable(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: Option<&str>) -> Failure {
        Failure::Refused { status, code: code.map(str::to_owned), request_id: None, retry_after: None }
    }

    #[test]
    fn only_answers_of_the_service_itself_are_conflicts() {
        for (status, code) in
            [(412, Some("ConditionNotMet")), (409, Some("BlobAlreadyExists")), (404, Some("BlobNotFound"))]
        {
            assert_eq!(StoreError::from(refused(status, code)), StoreError::Conflict, "{status} {code:?}");
        }
        for (status, code) in [
            (404, None),
            (404, Some("ContainerNotFound")),
            (409, Some("ContainerBeingDeleted")),
            (403, Some("AuthorizationPermissionMismatch")),
            (429, None),
            (503, Some("ServerBusy")),
        ] {
            let error = StoreError::from(refused(status, code));
            assert!(matches!(error, StoreError::Unavailable { .. }), "{status} {code:?}: {error}");
        }
    }

    #[test]
    fn a_refusal_for_lack_of_rights_says_which_role_is_needed() {
        let text = StoreError::from(refused(403, Some("AuthorizationPermissionMismatch"))).to_string();
        assert!(text.contains("Storage Blob Data Contributor"), "{text}");
    }
}
