//! A grant as people write it for a plan: a request, with times.

use ajar_access::policy::PolicyTerms;
use ajar_access::request::{RequestInput, RequestPortInput, Wish};
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// A grant to plan with. Strict: an unknown field is an error.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GrantInput {
    /// Resource id of the VM.
    pub(crate) vm: String,
    /// What is opened, to whom.
    ports: Vec<RequestPortInput>,
    /// For how long, ISO 8601; or else `end`.
    #[serde(default)]
    duration: Option<String>,
    /// From when, RFC 3339; the time of the plan when absent.
    #[serde(default)]
    start: Option<Timestamp>,
    /// Until when, RFC 3339; or else `duration`.
    #[serde(default)]
    end: Option<Timestamp>,
    /// Who asks, for the description of the rule.
    #[serde(default)]
    requester: Option<String>,
    /// Why; taken so that a request body can be used as it is.
    #[serde(default)]
    justification: Option<String>,
}

/// A grant, checked.
pub(crate) struct CheckedGrant {
    pub(crate) wish: Wish,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) requester: String,
}

/// The field that is wrong, and what would satisfy it.
pub(crate) type Wrong = (String, String);

impl GrantInput {
    pub(crate) fn vm(&self) -> Result<ResourceId, Wrong> {
        ResourceId::parse(&self.vm).map_err(|error| ("vm".to_owned(), error.to_string()))
    }

    /// Checks the grant in itself; whether the policy allows it is the caller's to ask.
    pub(crate) fn check(&self, terms: &PolicyTerms, now: Timestamp) -> Result<CheckedGrant, Wrong> {
        let start = self.start.unwrap_or(now);
        let (duration, given_end) = match (&self.duration, self.end) {
            (Some(text), None) => (text.clone(), None),
            (None, Some(end)) => {
                let length = end.duration_since(start);
                if length < SignedDuration::from_secs(1) {
                    return Err(("end".to_owned(), format!("is not after the start, {start}")));
                }
                (length.to_string(), Some(end))
            }
            _ => {
                return Err(("end".to_owned(), "say either `end` or `duration`, and one of them".to_owned()));
            }
        };
        let request = RequestInput {
            vm: self.vm.clone(),
            ports: self.ports.clone(),
            duration,
            // The grant has a start of its own, which may lie anywhere.
            start: None,
            justification: self.justification.clone(),
            ticket: None,
            break_glass: false,
        };
        let wish = request.wish(terms).map_err(|error| wrong(&error, "duration"))?;
        let end = match given_end {
            Some(end) => end,
            None => start
                .checked_add(wish.duration)
                .map_err(|error| ("duration".to_owned(), error.to_string()))?,
        };
        let requester = self.requester.clone().unwrap_or_else(|| "somebody".to_owned());
        Ok(CheckedGrant { wish, start, end, requester })
    }
}

/// The field of an error about input; another where the error names none.
pub(crate) fn wrong(error: &ajar_access::error::AccessError, otherwise: &str) -> Wrong {
    match error {
        ajar_access::error::AccessError::Invalid { field, rule } => (field.clone(), rule.clone()),
        other => (otherwise.to_owned(), other.to_string()),
    }
}
