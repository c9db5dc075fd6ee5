//! The `http` output of a function that is not forwarded.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::answer::{EncodeError, host_reads_as_date};

/// The HTTP answer of a function that is not forwarded. The host knows one value per header name, ASCII only,
/// and text bodies only; for anything richer let the function be forwarded to the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOutput {
    status: StatusCode,
    headers: BTreeMap<String, String>,
    body: String,
}

impl HttpOutput {
    /// A text answer: `text/plain; charset=utf-8` unless a `content-type` header is set.
    #[must_use]
    pub fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, headers: BTreeMap::new(), body: body.into() }
    }

    /// A JSON answer. It is written out here, since the host would indent a JSON value, rewrite the dates in it
    /// and call it plain text.
    #[must_use]
    pub fn json(status: StatusCode, body: &Value) -> Self {
        Self::text(status, body.to_string()).header("content-type", "application/json")
    }

    /// Sets a header, in place of an earlier value. The host replaces the charset of a content type by utf-8.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), value.into());
        self
    }

    pub(crate) fn encode(self, output: &str) -> Result<Value, EncodeError> {
        if host_reads_as_date(&self.body) {
            return Err(EncodeError::ReadAsDate { output: output.to_owned() });
        }
        let mut headers = Map::new();
        for (name, value) in self.headers {
            if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                return Err(EncodeError::Header { output: output.to_owned(), header: name });
            }
            headers.insert(name, Value::String(value));
        }
        // `statusCode`, not `status`, which the host ignores here.
        Ok(json!({ "statusCode": self.status.as_u16(), "headers": headers, "body": self.body }))
    }
}
