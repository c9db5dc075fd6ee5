//! Telling an invocation of the host from a request that a client steered onto the same path.
//!
//! With forwarding on, a client reaches `POST /<function>` by `..%5C` or `%252E%252E` in the path of any route
//! with a parameter, so the path proves nothing, and every header the host adds can be sent by the client too.
//! What the client cannot bring about is the framing: the host forwards bodies with a Content-Length and
//! answers chunked ones with 500 itself, while its own invocations are always chunked.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderMap, Method, Version, request};

/// The header with the id of an invocation.
pub(crate) const INVOCATION_ID: &str = "x-azure-functions-invocationid";

/// What a request on the path of a function shows that an invocation by the host never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTheHost {
    /// Another method than POST, a query, an absolute request target, or another version than HTTP/1.1.
    #[error("request line")]
    RequestLine,
    /// Not chunked, or a Content-Length. (hyper drops the Content-Length of a chunked request before it can be
    /// seen here; such a request is chunked all the same, which a forwarded one never is.)
    #[error("framing")]
    Framing,
    /// `Host` is not `127.0.0.1:{port}`.
    #[error("host")]
    Host,
    /// Not exactly one invocation id.
    #[error("invocation id")]
    InvocationId,
    /// The user agent is not the host's alone.
    #[error("user agent")]
    UserAgent,
    /// A header only a client or the front end sends.
    #[error("client header")]
    ClientHeader,
}

/// The invocation id of a request that only the host can have framed this way.
pub(crate) fn invocation_id(head: &request::Parts, port: u16) -> Result<&str, NotTheHost> {
    let headers = &head.headers;
    if head.method != Method::POST
        || head.version != Version::HTTP_11
        || head.uri.query().is_some()
        || head.uri.authority().is_some()
    {
        return Err(NotTheHost::RequestLine);
    }
    let coding = only(headers, TRANSFER_ENCODING.as_str()).ok_or(NotTheHost::Framing)?;
    if !coding.eq_ignore_ascii_case("chunked") || headers.contains_key(CONTENT_LENGTH) {
        return Err(NotTheHost::Framing);
    }
    let host = only(headers, HOST.as_str()).ok_or(NotTheHost::Host)?;
    if host.strip_prefix("127.0.0.1:").is_none_or(|of_host| of_host != port.to_string()) {
        return Err(NotTheHost::Host);
    }
    let id = only(headers, INVOCATION_ID).ok_or(NotTheHost::InvocationId)?;
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(NotTheHost::InvocationId);
    }
    let agent = only(headers, USER_AGENT.as_str()).ok_or(NotTheHost::UserAgent)?;
    if agent.strip_prefix("Azure-Functions-Host/").is_none_or(|version| {
        version.is_empty()
            || !version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte))
    }) {
        return Err(NotTheHost::UserAgent);
    }
    const CLIENTS: [&str; 4] = ["x-forwarded-", "x-arr-", "x-original-", "x-ms-"];
    let client = |name: &str| CLIENTS.iter().any(|prefix| name.starts_with(prefix));
    if headers.contains_key(COOKIE)
        || headers.contains_key(AUTHORIZATION)
        || headers.keys().any(|name| client(name.as_str()))
    {
        return Err(NotTheHost::ClientHeader);
    }
    Ok(id)
}

/// The value of a header that occurs exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(change: impl FnOnce(&mut request::Parts)) -> request::Parts {
        let (mut head, ()) = http::Request::post("/Worker")
            .header("Host", "127.0.0.1:8080")
            .header("X-Azure-Functions-HostVersion", "4.1037.0.0")
            .header("X-Azure-Functions-InvocationId", "00000000-0000-0000-0000-000000000001")
            .header("User-Agent", "Azure-Functions-Host/4.1037.0.0")
            .header("Transfer-Encoding", "chunked")
            .header("traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00")
            .body(())
            .unwrap()
            .into_parts();
        change(&mut head);
        head
    }

    fn verdict(change: impl FnOnce(&mut request::Parts)) -> Option<NotTheHost> {
        invocation_id(&head(change), 8080).err()
    }

    fn with(name: &'static str, value: &'static str) -> Option<NotTheHost> {
        verdict(|head| {
            head.headers.insert(name, value.parse().unwrap());
        })
    }

    #[test]
    fn the_hosts_own_framing_is_believed() {
        assert_eq!(verdict(|_| ()), None);
        assert_eq!(invocation_id(&head(|_| ()), 8080), Ok("00000000-0000-0000-0000-000000000001"));
    }

    #[test]
    fn each_single_deviation_is_refused() {
        use NotTheHost::*;
        let refused = [
            ("method", verdict(|head| head.method = Method::GET), RequestLine),
            ("version", verdict(|head| head.version = Version::HTTP_10), RequestLine),
            ("query", verdict(|head| head.uri = "/Worker?a".parse().unwrap()), RequestLine),
            (
                "absolute",
                verdict(|head| head.uri = "http://127.0.0.1:8080/Worker".parse().unwrap()),
                RequestLine,
            ),
            (
                "no coding",
                verdict(|head| {
                    head.headers.remove("transfer-encoding");
                }),
                Framing,
            ),
            ("two codings", with("transfer-encoding", "gzip, chunked"), Framing),
            ("length", with("content-length", "2"), Framing),
            ("outer host", with("host", "localhost:7071"), Host),
            ("other port", with("host", "127.0.0.1:8081"), Host),
            ("port prefix", with("host", "127.0.0.1:80800"), Host),
            (
                "no id",
                verdict(|head| {
                    head.headers.remove(INVOCATION_ID);
                }),
                InvocationId,
            ),
            ("joined ids", with(INVOCATION_ID, "1, 2"), InvocationId),
            (
                "two ids",
                verdict(|head| {
                    head.headers.append(INVOCATION_ID, "2".parse().unwrap());
                }),
                InvocationId,
            ),
            ("joined agents", with("user-agent", "a/1 Azure-Functions-Host/4.1037.0.0"), UserAgent),
            ("agents joined after", with("user-agent", "Azure-Functions-Host/4.1037.0.0 a/1"), UserAgent),
            ("bare agent", with("user-agent", "Azure-Functions-Host/"), UserAgent),
            ("forwarded", with("x-forwarded-for", "1.2.3.4"), ClientHeader),
            ("arr", with("x-arr-log-id", "1"), ClientHeader),
            ("original", with("x-original-url", "/"), ClientHeader),
            ("easy auth", with("x-ms-client-principal-id", "1"), ClientHeader),
            ("cookie", with("cookie", "a=1"), ClientHeader),
            ("authorization", with("authorization", "Bearer a"), ClientHeader),
        ];
        for (name, verdict, expected) in refused {
            assert_eq!(verdict, Some(expected), "{name}");
        }
    }
}
