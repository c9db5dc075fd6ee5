//! Where a webhook goes.

use reqwest::Url;

/// A receiver's address, checked once: https, or this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

/// Why an address cannot be used. The address itself is left out: its path may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an absolute URL.
    #[error("is not an absolute URL such as https://hooks.contoso.com/ajar")]
    NotAnUrl,
    /// Neither https nor this machine.
    #[error("must begin with https:// (http:// only to this machine's own addresses)")]
    NotHttps,
    /// A user name or password in the address would be logged by whatever stands between.
    #[error("must not hold a user name or password, nor a fragment (#)")]
    Credentials,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// [`AddressError`] naming the rule it breaks.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let url = Url::parse(text).ok().filter(Url::has_host).ok_or(AddressError::NotAnUrl)?;
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            return Err(AddressError::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(AddressError::Credentials);
        }
        Ok(Address(url))
    }

    pub(crate) fn url(&self) -> Url {
        self.0.clone()
    }

    /// The host, which may be logged.
    pub(crate) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Address({})", self.host())
    }
}

/// Only literal addresses: a name may be pointed elsewhere.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_spoken_to() {
        for good in ["https://hooks.contoso.com/ajar?x=1", "http://127.0.0.1:8080/", "http://[::1]:9/"] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for (bad, error) in [
            ("", AddressError::NotAnUrl),
            ("hooks.contoso.com", AddressError::NotAnUrl),
            ("http://hooks.contoso.com/", AddressError::NotHttps),
            ("http://localhost.contoso.com/", AddressError::NotHttps),
            ("http://127.0.0.1.contoso.com/", AddressError::NotHttps),
            ("http://10.0.0.4/", AddressError::NotHttps),
            ("http://169.254.169.254/metadata", AddressError::NotHttps),
            ("ftp://127.0.0.1/", AddressError::NotHttps),
            ("https://user:pass@hooks.contoso.com/", AddressError::Credentials),
            ("https://hooks.contoso.com/#part", AddressError::Credentials),
        ] {
            assert_eq!(Address::parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn the_path_is_not_shown() {
        let address = Address::parse("https://hooks.contoso.com/services/T0/secret").unwrap();
        assert_eq!(format!("{address:?}"), "Address(hooks.contoso.com)");
    }
}
