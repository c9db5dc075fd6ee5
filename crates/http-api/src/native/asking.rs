//! What asking for access and waiting for it need beside the request itself: several VMs, and how long to wait.

use super::requests::Request;
use crate::error::{ApiError, Detail};
use crate::query::Query;
use ajar_access::submit_many::Group;
use ajar_access::wait::LONGEST_WAIT;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, StatusCode};
use jiff::SignedDuration;
use serde::Serialize;

/// How long a client does well to wait before it asks again, in seconds: opening takes about that long.
pub(crate) const RETRY_SECONDS: &str = "1";

/// RFC 7240: what a client would like.
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// RFC 7240: which of that was done.
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What became of a request for several VMs.
#[derive(Serialize)]
struct Answers {
    /// What went wrong first, when nothing was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Detail>,
    group: String,
    value: Vec<VmAnswer>,
}

/// One VM's request, or why there is none.
#[derive(Serialize)]
struct VmAnswer {
    vm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Request>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Detail>,
}

/// 202 when any VM's request was accepted; else what the first refusal says, with the others beside it.
pub(crate) fn answers(group: Group) -> Response {
    let mut first = None;
    let mut is_accepted = false;
    let value = group
        .answers
        .into_iter()
        .map(|answer| match answer.answer {
            Ok(request) => {
                is_accepted = true;
                VmAnswer { vm: answer.vm, request: Some(request.into()), error: None }
            }
            Err(error) => {
                let error = ApiError::from(error);
                let detail = error.detail();
                first.get_or_insert(error);
                VmAnswer { vm: answer.vm, request: None, error: Some(detail) }
            }
        })
        .collect();
    let answers = |error| Answers { error, group: group.id, value };
    match first {
        Some(error) if !is_accepted => {
            let body = answers(Some(error.detail()));
            error.with_body(&body)
        }
        _ => (StatusCode::ACCEPTED, [(RETRY_AFTER, RETRY_SECONDS)], Json(answers(None))).into_response(),
    }
}

/// How long a client wants to wait for access: `?wait=20s`, `20` or `PT20S`, else the header `Prefer: wait=20`.
/// More than [`LONGEST_WAIT`] is that.
///
/// # Errors
/// 400 when `wait` is none of these. A preference that cannot be read is ignored, as RFC 7240 says.
pub(crate) fn wait(query: &Query, headers: &HeaderMap) -> Result<Option<Wait>, ApiError> {
    if let Some(text) = query.get("wait")? {
        let wrong = || {
            let message = "wait: say how many seconds to wait, as in ?wait=20s";
            ApiError::bad_request("InvalidQueryParameter", message).at("wait")
        };
        let time = seconds(text)
            .or_else(|| text.starts_with('P').then(|| text.parse().ok()).flatten())
            .filter(|time| !time.is_negative())
            .ok_or_else(wrong)?;
        return Ok(Some(Wait { time: time.min(LONGEST_WAIT), is_preference: false }));
    }
    let preferred = headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|preference| preference.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, value)| seconds(value.trim().trim_matches('"')));
    Ok(preferred.map(|time| Wait { time: time.min(LONGEST_WAIT), is_preference: true }))
}

/// How long to wait, and whether the header asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) time: SignedDuration,
    pub(crate) is_preference: bool,
}

fn seconds(text: &str) -> Option<SignedDuration> {
    let number = text.strip_suffix('s').unwrap_or(text);
    number.parse::<u32>().ok().map(|seconds| SignedDuration::from_secs(i64::from(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, prefer: Option<&str>) -> Result<Option<Wait>, ()> {
        let mut headers = HeaderMap::new();
        if let Some(value) = prefer {
            headers.insert(PREFER, value.parse().unwrap());
        }
        wait(&Query::parse(Some(query)).unwrap(), &headers).map_err(|_| ())
    }

    fn waiting(seconds: i64, is_preference: bool) -> Result<Option<Wait>, ()> {
        Ok(Some(Wait { time: SignedDuration::from_secs(seconds), is_preference }))
    }

    #[test]
    fn a_wait_is_read_from_the_query_or_the_header_and_has_a_bound() {
        assert_eq!(read("", None), Ok(None));
        for text in ["wait=7", "wait=7s", "wait=PT7S", "WAIT=7"] {
            assert_eq!(read(text, None), waiting(7, false), "{text}");
        }
        for text in ["wait=30s", "wait=4294967295", "wait=PT24H"] {
            assert_eq!(read(text, None), waiting(20, false), "{text}");
        }
        for text in ["wait=", "wait=-1", "wait=1.5", "wait=soon", "wait=PT", "wait=-PT1S", "wait=1&wait=2"] {
            assert_eq!(read(text, None), Err(()), "{text}");
        }
        assert_eq!(read("", Some("respond-async, wait=10")), waiting(10, true));
        assert_eq!(read("", Some("Wait=\"10\"; foo")), waiting(10, true));
        assert_eq!(read("wait=3", Some("wait=10")), waiting(3, false));
        assert_eq!(read("", Some("wait=soon")), Ok(None));
    }
}
