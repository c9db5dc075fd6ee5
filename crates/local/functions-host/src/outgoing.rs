//! The two requests the host makes of an invocation: the DEFAULT envelope and the forwarded client request
//! (protocol page, sections 2.2 and 2.4).

use bytes::Bytes;

use crate::incoming::Incoming;
use crate::request_target::{forwarded_path, forwarded_query};
use crate::wire::{Body, WireRequest};

/// The host version this crate behaves like.
pub const HOST_VERSION: &str = "4.1037.0.0";

const VERSION_HEADER: &str = "X-Azure-Functions-HostVersion";
const INVOCATION_HEADER: &str = "X-Azure-Functions-InvocationId";

fn user_agent() -> String {
    format!("Azure-Functions-Host/{HOST_VERSION}")
}

/// The request of a function that is not forwarded.
pub(crate) fn default_request(port: u16, function: &str, invocation: &str, body: String) -> WireRequest {
    WireRequest {
        method: "POST".to_owned(),
        target: format!("/{function}"),
        headers: vec![
            ("Host".to_owned(), format!("127.0.0.1:{port}")),
            (VERSION_HEADER.to_owned(), HOST_VERSION.to_owned()),
            (INVOCATION_HEADER.to_owned(), invocation.to_owned()),
            ("User-Agent".to_owned(), user_agent()),
            ("Transfer-Encoding".to_owned(), "chunked".to_owned()),
            ("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned()),
        ],
        body: Body::Chunked(Bytes::from(body)),
    }
}

/// The readiness probe.
pub(crate) fn probe_request(port: u16) -> WireRequest {
    WireRequest {
        method: "GET".to_owned(),
        target: "/".to_owned(),
        headers: vec![("Host".to_owned(), format!("127.0.0.1:{port}"))],
        body: Body::None,
    }
}

/// Where a redirect leads in DEFAULT mode: `HttpClient` repeats the request for 307 and 308 and turns it into a GET
/// for 301, 302 and 303.
pub(crate) fn redirected(request: &WireRequest, status: u16, location: &str) -> Option<WireRequest> {
    let target = match location.split_once("://") {
        Some((_, rest)) => format!("/{}", rest.split_once('/').map_or("", |(_, path)| path)),
        None => location.to_owned(),
    };
    match status {
        301..=303 => Some(WireRequest {
            method: "GET".to_owned(),
            target,
            headers: request
                .headers
                .iter()
                .filter(|(name, _)| name != "Transfer-Encoding" && name != "Content-Type")
                .cloned()
                .collect(),
            body: Body::None,
        }),
        307 | 308 => Some(WireRequest { target, ..request.clone() }),
        _ => None,
    }
}

/// Why a forwarded request cannot be sent; the client gets 500 and the handler nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotForwardable {
    /// A header value has characters outside ASCII.
    #[error("Request headers must contain only ASCII characters.")]
    NonAsciiHeader,
    /// The Content-Type of a request with a body is no media type.
    #[error("The format of value '{0}' is invalid.")]
    ContentType(String),
    /// The chunked coding was copied as a header of a request without content.
    #[error("'Transfer-Encoding: chunked' header can not be used when content object is not specified.")]
    Chunked,
}

/// Headers .NET counts as content headers: none is copied with the others.
const CONTENT_HEADERS: [&str; 11] = [
    "allow",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "expires",
    "last-modified",
];

/// A client's request passed on. `target_path` replaces the path for a legacy `httpWorker`, which gets
/// `/{FunctionName}`.
pub(crate) fn forwarded_request(
    incoming: &Incoming,
    invocation: &str,
    target_path: Option<&str>,
) -> Result<WireRequest, NotForwardable> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, values) in &incoming.headers {
        if CONTENT_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            continue;
        }
        let separator = if name == "Cookie" { "; " } else { ", " };
        let mut value = values.join(separator);
        // `ConnectionClose` is all the host's client keeps of such a value.
        if name == "Connection" && value.split(',').any(|token| token.trim().eq_ignore_ascii_case("close")) {
            value = "close".to_owned();
        }
        if !value.is_ascii() {
            return Err(NotForwardable::NonAsciiHeader);
        }
        headers.push((name.clone(), value));
    }
    append(&mut headers, VERSION_HEADER, ", ", HOST_VERSION);
    append(&mut headers, INVOCATION_HEADER, ", ", invocation);
    append(&mut headers, "User-Agent", " ", &user_agent());

    let body = if incoming.body.is_empty() {
        if headers.iter().any(|(name, _)| name == "Transfer-Encoding") {
            return Err(NotForwardable::Chunked);
        }
        if matches!(incoming.method.as_str(), "GET" | "HEAD" | "DELETE" | "OPTIONS" | "CONNECT") {
            Body::None
        } else {
            headers.push(("Content-Length".to_owned(), "0".to_owned()));
            Body::Length(Bytes::new())
        }
    } else {
        headers.push(("Content-Length".to_owned(), incoming.body.len().to_string()));
        if let Some(content_type) = incoming.header("Content-Type") {
            if !is_media_type(content_type) {
                return Err(NotForwardable::ContentType(content_type.to_owned()));
            }
            headers.push(("Content-Type".to_owned(), content_type.to_owned()));
        }
        Body::Length(incoming.body.clone())
    };
    let path = target_path.map_or_else(|| forwarded_path(&incoming.path), str::to_owned);
    Ok(WireRequest {
        method: incoming.method.clone(),
        target: format!("{path}{}", forwarded_query(&incoming.query)),
        headers,
        body,
    })
}

/// The host adds its headers without removing the client's: both values arrive, the client's first.
fn append(headers: &mut Vec<(String, String)>, name: &str, separator: &str, value: &str) {
    match headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some((_, known)) => {
            known.push_str(separator);
            known.push_str(value);
        }
        None => headers.push((name.to_owned(), value.to_owned())),
    }
}

fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}
