//! What Azure's refusals mean to the use cases. Pure.

use ajar_access::ports::azure::AzureError;
use jiff::SignedDuration;
use serde_json::Value;

/// An error as Azure Resource Manager writes it: `{"error": {"code", "message", "details": [...]}}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ErrorBody {
    pub(crate) code: String,
    pub(crate) message: String,
    /// Codes of `details`, where some providers put the real reason.
    detail_codes: Vec<String>,
}

impl ErrorBody {
    /// Reads `error` out of a body; empty where there is none.
    pub(crate) fn read(body: &Value) -> Self {
        let Some(error) = body.get("error") else { return ErrorBody::default() };
        let text = |value: &Value, name: &str| {
            value.get(name).and_then(Value::as_str).unwrap_or_default().chars().take(1000).collect::<String>()
        };
        let details = error.get("details").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        ErrorBody {
            code: text(error, "code"),
            message: text(error, "message"),
            detail_codes: details.iter().take(20).map(|detail| text(detail, "code")).collect(),
        }
    }

    fn names(&self, codes: &[&str]) -> bool {
        std::iter::once(&self.code)
            .chain(&self.detail_codes)
            .any(|code| codes.iter().any(|known| known.eq_ignore_ascii_case(code)))
    }

    fn describe(&self) -> String {
        match (self.code.is_empty(), self.message.is_empty()) {
            (false, false) => format!("{}: {}", self.code, self.message),
            (false, true) => self.code.clone(),
            (true, false) => self.message.clone(),
            (true, true) => "no reason given".to_owned(),
        }
    }
}

/// Somebody else's change came between: read and plan again.
const CONFLICTS: [&str; 5] = [
    "CanceledAndSupersededDueToAnotherOperation",
    "SecurityRuleConflict",
    "AnotherOperationInProgress",
    "PreconditionFailed",
    "PreconditionFailedEtagMismatch",
];
/// A failure of Azure's own inside an operation it had accepted.
const OUTAGES: [&str; 7] = [
    "InternalServerError",
    "InternalServerErrorWithDetails",
    "OperationTimedOut",
    "RetryableError",
    "RetryableErrorDueToAnotherOperation",
    "ServerTimeout",
    "ServiceUnavailable",
];
/// A resource lock or an Azure Policy stands in the way: neither reading again nor another role helps.
const OBSTACLES: [&str; 2] = ["ScopeLocked", "RequestDisallowedByPolicy"];

/// There can be no such resource here: the subscription is not registered for the provider, or the provider does not
/// know the type.
const NO_SUCH_TYPE: [&str; 4] = [
    "InvalidResourceNamespace",
    "InvalidResourceType",
    "MissingSubscriptionRegistration",
    "NoRegisteredProviderFound",
];

/// The meaning of a refusal to list what is assigned at `scope`: where there can be no such resource, there is none.
pub(crate) fn of_scope(error: AzureError, scope: &str) -> AzureError {
    match error {
        AzureError::Rejected { code, .. }
            if NO_SUCH_TYPE.iter().any(|known| known.eq_ignore_ascii_case(&code)) =>
        {
            AzureError::NotFound(scope.to_owned())
        }
        other => other,
    }
}

/// The meaning of an answer other than 2xx. `what` names the resource.
pub(crate) fn of_status(
    status: u16,
    body: &ErrorBody,
    retry_after: Option<SignedDuration>,
    what: &str,
) -> AzureError {
    let text = || format!("{what}: status {status}: {}", body.describe());
    match status {
        429 | 408 | 500..=599 => AzureError::Unavailable { reason: text(), retry_after },
        _ if body.names(&OBSTACLES) || body.names(&NO_SUCH_TYPE) => rejected(status, body, what),
        _ if body.names(&CONFLICTS) => AzureError::Conflict(text()),
        404 => AzureError::NotFound(what.to_owned()),
        409 | 412 => AzureError::Conflict(text()),
        401 | 403 => AzureError::Forbidden(text()),
        _ => rejected(status, body, what),
    }
}

/// The meaning of an operation that ended as `Failed` or `Canceled`.
pub(crate) fn of_operation(status: &str, body: &ErrorBody) -> AzureError {
    let text = || format!("the operation ended as {status}: {}", body.describe());
    if body.names(&OBSTACLES) {
        AzureError::Rejected { code: body.code.clone(), message: body.message.clone() }
    } else if body.names(&CONFLICTS) || status.eq_ignore_ascii_case("Canceled") {
        AzureError::Conflict(text())
    } else if body.code.is_empty() || body.names(&OUTAGES) {
        AzureError::Unavailable { reason: text(), retry_after: None }
    } else {
        AzureError::Rejected { code: body.code.clone(), message: body.message.clone() }
    }
}

fn rejected(status: u16, body: &ErrorBody, what: &str) -> AzureError {
    let code = if body.code.is_empty() { format!("Status{status}") } else { body.code.clone() };
    let message = if body.message.is_empty() { "no reason given".to_owned() } else { body.message.clone() };
    AzureError::Rejected { code, message: format!("{what}: {message}") }
}

/// An answer that does not hold what the API promises.
pub(crate) fn unreadable(what: &str, problem: &str) -> AzureError {
    AzureError::Rejected { code: "UnreadableAnswer".to_owned(), message: format!("{what}: {problem}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(code: &str) -> ErrorBody {
        ErrorBody::read(&json!({ "error": { "code": code, "message": "text" } }))
    }

    #[test]
    fn a_status_decides_what_the_caller_does_next() {
        let pause = Some(SignedDuration::from_secs(9));
        for (status, code, expected) in [
            (400, "SecurityRuleConflict", "conflict"),
            (400, "SecurityRuleInvalidPriority", "rejected"),
            (401, "ExpiredAuthenticationToken", "forbidden"),
            (403, "AuthorizationFailed", "forbidden"),
            (403, "RequestDisallowedByPolicy", "rejected"),
            (404, "ResourceNotFound", "not found"),
            (408, "", "unavailable"),
            (409, "AnotherOperationInProgress", "conflict"),
            (409, "ScopeLocked", "rejected"),
            (409, "MissingSubscriptionRegistration", "rejected"),
            (412, "PreconditionFailed", "conflict"),
            (429, "RetryableErrorDueToAnotherOperation", "unavailable"),
            (429, "", "unavailable"),
            (500, "", "unavailable"),
            (503, "ServerBusy", "unavailable"),
            (302, "", "rejected"),
        ] {
            let found = match of_status(status, &body(code), pause, "x") {
                AzureError::NotFound(_) => "not found",
                AzureError::Conflict(_) => "conflict",
                AzureError::Forbidden(_) => "forbidden",
                AzureError::Rejected { .. } => "rejected",
                AzureError::Unavailable { retry_after, .. } => {
                    assert_eq!(retry_after, pause);
                    "unavailable"
                }
            };
            assert_eq!(found, expected, "{status} {code}");
        }
    }

    #[test]
    fn a_reason_among_the_details_counts() {
        let body = ErrorBody::read(&json!({ "error": {
            "code": "BadRequest", "message": "m", "details": [{ "code": "SecurityRuleConflict", "message": "d" }],
        }}));
        assert!(matches!(of_status(400, &body, None, "x"), AzureError::Conflict(_)));
    }

    #[test]
    fn a_superseded_operation_is_a_conflict_and_an_outage_is_none_of_ours() {
        let superseded = body("CanceledAndSupersededDueToAnotherOperation");
        assert!(matches!(of_operation("Failed", &superseded), AzureError::Conflict(_)));
        assert!(matches!(of_operation("Canceled", &ErrorBody::default()), AzureError::Conflict(_)));
        assert!(matches!(
            of_operation("Failed", &body("InternalServerError")),
            AzureError::Unavailable { .. }
        ));
        assert!(matches!(of_operation("Failed", &ErrorBody::default()), AzureError::Unavailable { .. }));
        assert!(matches!(
            of_operation("Failed", &body("SecurityRuleInvalidAddressPrefix")),
            AzureError::Rejected { .. }
        ));
    }
}
