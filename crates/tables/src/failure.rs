//! What went wrong with a request, and what that means to a caller of the store.

use ajar_access::ports::store::StoreError;
use jiff::SignedDuration;
use std::error::Error;

/// A request that did not succeed. Holds nothing of a body, a header or a URL but the error code and the
/// service's id of the request: all of it may be logged.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    #[error(
        "Table Storage answered {status} {}, request {}",
        code.as_deref().unwrap_or("without an error code"),
        request_id.as_deref().unwrap_or("unnamed")
    )]
    Refused {
        status: u16,
        /// <https://learn.microsoft.com/rest/api/storageservices/table-service-error-codes>
        code: Option<String>,
        request_id: Option<String>,
        retry_after: Option<SignedDuration>,
    },
    /// The request may or may not have arrived.
    #[error("no answer from Table Storage: {reason}")]
    NoAnswer {
        reason: String,
        /// Nothing came for so long that trying again would take as long again.
        timed_out: bool,
    },
    #[error("no use can be made of what Table Storage answered: {0}")]
    Unusable(String),
    #[error("no token for Table Storage: {0}")]
    NoToken(String),
}

impl Failure {
    fn code(&self) -> Option<&str> {
        match self {
            Failure::Refused { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// The table does not exist; nothing was done.
    pub(crate) fn table_missing(&self) -> bool {
        self.code() == Some("TableNotFound")
    }

    /// The table to create exists.
    pub(crate) fn table_exists(&self) -> bool {
        self.code() == Some("TableAlreadyExists")
    }

    /// The table is there and the row is not. A 404 without a code of the service is no such answer: it may
    /// come from a proxy, and a row must not seem gone because of that.
    pub(crate) fn row_missing(&self) -> bool {
        matches!(self.code(), Some("ResourceNotFound" | "EntityNotFound"))
    }

    /// Trying a read again at once may help.
    pub(crate) fn passing(&self) -> bool {
        match self {
            Failure::Refused { status, retry_after, .. } => {
                matches!(status, 500 | 502 | 503 | 504) && retry_after.is_none()
            }
            Failure::NoAnswer { timed_out, .. } => !timed_out,
            Failure::Unusable(_) | Failure::NoToken(_) => false,
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        let conflict = failure.row_missing()
            || matches!(
                (&failure, failure.code()),
                (Failure::Refused { status: 412, .. }, _) | (_, Some("EntityAlreadyExists"))
            );
        if conflict {
            return StoreError::Conflict;
        }
        let too_large = matches!(
            failure.code(),
            Some(
                "RequestBodyTooLarge"
                    | "EntityTooLarge"
                    | "PropertyValueTooLarge"
                    | "TooManyProperties"
                    | "KeyValueTooLarge"
                    | "ContentLengthExceeded"
            )
        );
        if too_large || matches!(failure, Failure::Refused { status: 413, .. }) {
            return StoreError::TooLarge { reason: failure.to_string() };
        }
        let advice = match failure {
            Failure::Refused { status: 401 | 403, .. } => {
                "; does the identity have the role Storage Table Data Contributor on the account, and does the \
                 account's firewall let it in?"
            }
            _ => "",
        };
        let retry_after = match failure {
            Failure::Refused { retry_after, .. } => retry_after,
            _ => None,
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
        let reason = loggable(&error);
        match error.kind() {
            azure_core::error::ErrorKind::Credential => Failure::NoToken(reason),
            _ => Failure::Unusable(reason),
        }
    }
}

/// The text of `error` and its causes, without what an HTTP error of the SDK would tell of headers and body.
pub(crate) fn loggable(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        match inner.downcast_ref::<azure_core::error::HttpError>() {
            Some(http) => text.push_str(&format!("HTTP {}", http.status())),
            None => text.push_str(&inner.to_string()),
        }
        cause = inner.source();
    }
    match text.char_indices().nth(500) {
        Some((end, _)) => text.split_at(end).0.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: Option<&str>) -> Failure {
        Failure::Refused { status, code: code.map(str::to_owned), request_id: None, retry_after: None }
    }

    #[test]
    fn answers_mean_what_the_port_says() {
        for (status, code) in [
            (412, Some("UpdateConditionNotSatisfied")),
            (412, Some("ConditionNotMet")),
            (412, None),
            (409, Some("EntityAlreadyExists")),
            (404, Some("ResourceNotFound")),
        ] {
            assert_eq!(StoreError::from(refused(status, code)), StoreError::Conflict, "{status} {code:?}");
        }
        for (status, code) in [(413, Some("RequestBodyTooLarge")), (413, None), (400, Some("EntityTooLarge"))]
        {
            let error = StoreError::from(refused(status, code));
            assert!(matches!(error, StoreError::TooLarge { .. }), "{status} {code:?}: {error}");
        }
        for (status, code) in [
            (404, None),
            (404, Some("TableNotFound")),
            (409, Some("TableBeingDeleted")),
            (409, None),
            (400, Some("InvalidInput")),
            (403, Some("AuthorizationPermissionMismatch")),
            (429, None),
            (500, Some("OperationTimedOut")),
            (503, Some("ServerBusy")),
            (302, None),
        ] {
            let error = StoreError::from(refused(status, code));
            assert!(matches!(error, StoreError::Unavailable { .. }), "{status} {code:?}: {error}");
        }
    }

    #[test]
    fn a_refusal_for_lack_of_rights_says_which_role_is_needed() {
        let text = StoreError::from(refused(403, Some("AuthorizationPermissionMismatch"))).to_string();
        assert!(text.contains("Storage Table Data Contributor"), "{text}");
    }

    #[test]
    fn the_transports_failure_is_found_below_what_wraps_it() {
        let inner = azure_core::Error::new(azure_core::error::ErrorKind::Io, refused(412, None));
        let wrapped = inner.context("one").context("two");
        assert!(matches!(Failure::from(wrapped), Failure::Refused { status: 412, .. }));
    }
}
