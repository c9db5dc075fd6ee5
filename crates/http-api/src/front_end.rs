//! What stands between a caller and this API, and what of it can be believed.

use http::HeaderMap;
use http::header::HOST;
use http::uri::Authority;
use std::net::{IpAddr, SocketAddr};

/// Whether a front end that is trusted says where a call came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FrontEnd {
    /// Nothing that a request says about its own origin is believed.
    #[default]
    Untrusted,
    /// The last element of `X-Forwarded-For` is the caller's address, because every call comes through a front end
    /// that puts it there. In Azure Functions that is App Service's (`address:port`, appended to what the caller sent).
    SetsForwardedFor,
}

impl FrontEnd {
    /// The caller's own address, where it is known.
    pub(crate) fn caller_address(self, headers: &HeaderMap) -> Option<IpAddr> {
        match self {
            FrontEnd::Untrusted => None,
            FrontEnd::SetsForwardedFor => {
                // The last of several headers is the one that was added last.
                let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
                parse_address(last.rsplit(',').next()?.trim())
            }
        }
    }
}

/// `203.0.113.7`, `203.0.113.7:47450`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:47450`.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

/// Where the caller reached this API, such as `https://ajar.azurewebsites.net`: what it said itself, for links that
/// only it is shown. Absent when it said nothing usable.
pub(crate) fn origin(headers: &HeaderMap) -> Option<String> {
    let host: Authority = headers.get(HOST)?.to_str().ok()?.parse().ok()?;
    let is_https = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes() == b"https");
    Some(format!("{}://{host}", if is_https { "https" } else { "http" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let pair = |value: &&str| (http::HeaderName::from_static("x-forwarded-for"), value.parse().unwrap());
        values.iter().map(pair).collect()
    }

    #[test]
    fn the_last_element_alone_counts_and_only_where_it_is_trusted() {
        for (values, address) in [
            (&["203.0.113.7"][..], Some("203.0.113.7")),
            (&["203.0.113.7:47450"], Some("203.0.113.7")),
            (&["198.51.100.1, 10.0.0.1 ,203.0.113.7:1"], Some("203.0.113.7")),
            (&["198.51.100.1", "203.0.113.7:1"], Some("203.0.113.7")),
            (&["[2001:db8::1]:443"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["2001:db8::1"], Some("2001:db8::1")),
            (&["::ffff:203.0.113.7"], Some("203.0.113.7")),
            (&["203.0.113.7, unknown"], None),
            (&["203.0.113.7,"], None),
            (&[""], None),
            (&[], None),
        ] {
            let found = FrontEnd::SetsForwardedFor.caller_address(&headers(values));
            assert_eq!(found, address.map(|text| text.parse().unwrap()), "{values:?}");
            assert_eq!(FrontEnd::Untrusted.caller_address(&headers(values)), None);
        }
    }

    #[test]
    fn an_origin_is_a_scheme_and_an_authority_or_nothing() {
        let of = |host: &str, scheme: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(scheme) = scheme {
                headers.insert("x-forwarded-proto", scheme.parse().unwrap());
            }
            origin(&headers)
        };
        assert_eq!(of("127.0.0.1:7071", None).as_deref(), Some("http://127.0.0.1:7071"));
        assert_eq!(of("ajar.example", Some("https")).as_deref(), Some("https://ajar.example"));
        assert_eq!(of("ajar.example", Some("gopher")).as_deref(), Some("http://ajar.example"));
        assert_eq!(of("ajar.example/evil?", None), None);
        assert_eq!(of("", None), None);
    }
}
