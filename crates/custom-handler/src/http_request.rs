//! `httpTrigger` of a function that is not forwarded.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::envelope::InvocationRequest;
use crate::trigger::{DecodeError, Trigger};

/// An HTTP request in the shape the host gives to functions that are not forwarded: those whose bindings are
/// anything but exactly one `httpTrigger` and one `http` output. It holds keys and tokens of the caller: do
/// not log it.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HttpRequest {
    /// The full URL the client used, query included, and with it a function key given as `code`.
    pub url: String,
    /// The method, in upper case.
    pub method: String,
    /// Decoded query parameters; the values of a repeated one are joined with commas.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Headers with every value, named as the client wrote them. See [`HttpRequest::header`].
    #[serde(default)]
    pub headers: BTreeMap<String, Vec<String>>,
    /// Route parameters; an absent optional one is `None`.
    #[serde(default)]
    pub params: BTreeMap<String, Option<String>>,
    /// The identities the host established, as .NET serialises them. An entry of Easy Auth is only there when
    /// `WEBSITE_AUTH_ENABLED` is set; without it the `X-MS-CLIENT-PRINCIPAL` header is the client's own word.
    #[serde(default)]
    pub identities: Value,
    /// The body; empty when there was none, or when the client sent it chunked, which the host loses. Bytes
    /// that are not UTF-8 survive only as `application/octet-stream` or `multipart/*`.
    #[serde(skip)]
    pub body: Bytes,
}

impl HttpRequest {
    /// The first value of a header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, values) = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        values.first().map(String::as_str)
    }
}

impl std::fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpRequest").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Trigger for HttpRequest {
    const BINDING: &'static str = "httpTrigger";

    fn decode(request: InvocationRequest) -> Result<Self, DecodeError> {
        let value = request.trigger().ok_or(DecodeError::NoInput)?;
        let mut http = Self::deserialize(value)
            .map_err(|source| DecodeError::Shape { event: "HTTP request", source })?;
        if let Some(text) = value.get("Body").and_then(Value::as_str) {
            http.body = if http.header("content-type").is_some_and(sent_as_base64) {
                STANDARD.decode(text).map_err(|_| DecodeError::Body)?.into()
            } else {
                text.to_owned().into()
            };
        }
        Ok(http)
    }
}

fn sent_as_base64(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/octet-stream" || essence.starts_with("multipart/")
}
