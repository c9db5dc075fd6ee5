//! Reading answers of the identity endpoints within bounds, and describing failures without secrets.

use std::error::Error;

/// Why an answer could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// No answer, or one that breaks off.
    #[error("{0}")]
    Transport(String),
    /// More bytes than any honest answer has.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// Another status than 200.
    #[error("the answer is {status}{detail}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// Start of the endpoint's own message, with a leading `: `, or empty.
        detail: String,
    },
}

/// The body of a 200 answer of at most `limit` bytes.
pub(crate) async fn body_of(
    response: Result<reqwest::Response, reqwest::Error>,
    limit: usize,
) -> Result<Vec<u8>, FetchError> {
    let mut response = response.map_err(|error| FetchError::Transport(describe(error)))?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::Transport(describe(error)))? {
        if body.len() + chunk.len() > limit {
            return Err(FetchError::TooLong(limit));
        }
        body.extend_from_slice(&chunk);
    }
    if status == 200 { Ok(body) } else { Err(FetchError::Status { status, detail: message_in(&body) }) }
}

/// The message of an error body in one of the forms that Entra ID (`error_description`) and App Service
/// (`message`) use. Nothing else of a body is repeated: it might hold what must not be logged.
fn message_in(body: &[u8]) -> String {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else { return String::new() };
    let message = ["message", "error_description"].iter().find_map(|name| json.get(name)?.as_str());
    match message {
        Some(message) => format!(": {}", shorten(message, 200)),
        None => String::new(),
    }
}

/// At most `limit` characters of `text`, without control characters: fit for a log line.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(limit).collect()
}

/// A transport error with its causes and without its URL.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
