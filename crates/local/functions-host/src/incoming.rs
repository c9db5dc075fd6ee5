//! A client's request as the host holds it.

use axum::http::{HeaderMap, Method, Uri};
use bytes::Bytes;

use crate::request_target::{decode_path, parse_query};

/// Names the web server spells in its own way, in the order in which it enumerates them. Everything else follows in
/// the client's order.
const KNOWN_HEADERS: [&str; 43] = [
    "Accept",
    "Connection",
    "Host",
    "User-Agent",
    "Accept-Charset",
    "Accept-Encoding",
    "Accept-Language",
    "Access-Control-Request-Headers",
    "Access-Control-Request-Method",
    "Authorization",
    "Cache-Control",
    "Content-Type",
    "Cookie",
    "Date",
    "Expect",
    "From",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Keep-Alive",
    "Max-Forwards",
    "Origin",
    "Pragma",
    "Proxy-Authorization",
    "Range",
    "Referer",
    "TE",
    "Trailer",
    "traceparent",
    "tracestate",
    "Transfer-Encoding",
    "Upgrade",
    "Upgrade-Insecure-Requests",
    "Via",
    "Warning",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Location",
    "Content-MD5",
    "Content-Length",
];

/// One request from a client.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    pub(crate) method: String,
    /// Path as sent, still encoded.
    pub(crate) raw_path: String,
    /// Path as routes see it.
    pub(crate) path: String,
    /// Query as sent, without `?`.
    pub(crate) raw_query: String,
    pub(crate) query: Vec<(String, Vec<String>)>,
    /// Headers in the web server's order; several values of one name are kept apart.
    pub(crate) headers: Vec<(String, Vec<String>)>,
    /// Empty unless the client announced a length: the host does not read chunked bodies in either mode.
    pub(crate) body: Bytes,
}

/// Why a request is answered before it reaches a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The target holds an encoded NUL.
    Target,
    /// A header value is not UTF-8.
    Header,
}

impl Incoming {
    /// Reads the parts of a request; `body` is what followed them.
    pub(crate) fn new(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Self, Malformed> {
        let mut named: Vec<(String, Vec<String>)> = Vec::new();
        for name in headers.keys() {
            let mut values = Vec::new();
            for value in headers.get_all(name) {
                values.push(std::str::from_utf8(value.as_bytes()).map_err(|_| Malformed::Header)?.to_owned());
            }
            named.push((name.as_str().to_owned(), values));
        }
        Self::from_parts(method.as_str(), uri.path(), uri.query().unwrap_or_default(), named, body)
    }

    pub(crate) fn from_parts(
        method: &str,
        raw_path: &str,
        raw_query: &str,
        headers: Vec<(String, Vec<String>)>,
        body: Bytes,
    ) -> Result<Self, Malformed> {
        let mut headers = headers;
        for (name, _) in &mut headers {
            if let Some(known) = KNOWN_HEADERS.iter().find(|known| known.eq_ignore_ascii_case(name)) {
                *name = (*known).to_owned();
            }
        }
        headers.sort_by_key(|(name, _)| {
            KNOWN_HEADERS.iter().position(|known| known == name).unwrap_or(KNOWN_HEADERS.len())
        });
        let has_length = headers
            .iter()
            .any(|(name, values)| name == "Content-Length" && values.iter().any(|value| value != "0"));
        Ok(Self {
            method: method.to_owned(),
            raw_path: raw_path.to_owned(),
            path: decode_path(raw_path).ok_or(Malformed::Target)?,
            raw_query: raw_query.to_owned(),
            query: parse_query(raw_query),
            headers,
            body: if has_length { body } else { Bytes::new() },
        })
    }

    /// The first value of a header, letter case ignored.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .and_then(|(_, values)| values.first())
            .map(String::as_str)
    }

    /// The last value of a query parameter, name compared ignoring case.
    pub(crate) fn query_value(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .and_then(|(_, values)| values.last())
            .map(String::as_str)
    }
}
