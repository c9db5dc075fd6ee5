//! Where messages go.

use reqwest::Url;

/// A Service Bus namespace: its address, checked once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    endpoint: Url,
}

/// Why a namespace cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// Not a host name.
    #[error(
        "{0:?} is not a Service Bus namespace: give its full host name, such as \
         contoso.servicebus.windows.net, without https:// and without a path"
    )]
    HostName(String),
    /// Not an endpoint.
    #[error("{0:?} is not a broker's address: give an absolute http or https URL without a query")]
    Endpoint(String),
}

impl Namespace {
    /// A namespace in Azure, by its full host name (the setting `...__fullyQualifiedNamespace` holds it).
    ///
    /// # Errors
    /// When it is not a host name of two labels or more.
    pub fn azure(host_name: &str) -> Result<Self, NamespaceError> {
        let plain = host_name.contains('.')
            && host_name.split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            });
        let endpoint = if plain { Url::parse(&format!("https://{host_name}/")).ok() } else { None };
        endpoint
            .map(|endpoint| Namespace { endpoint })
            .ok_or_else(|| NamespaceError::HostName(host_name.to_owned()))
    }

    /// A broker elsewhere that speaks Service Bus over HTTP, such as a local one in development.
    ///
    /// # Errors
    /// When it is not an absolute http or https URL.
    pub fn at(endpoint: &str) -> Result<Self, NamespaceError> {
        Url::parse(endpoint)
            .ok()
            .filter(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.query().is_none()
                    && url.fragment().is_none()
            })
            .map(|endpoint| Namespace { endpoint })
            .ok_or_else(|| NamespaceError::Endpoint(endpoint.to_owned()))
    }

    /// This namespace's address for a path such as `/queue/messages`.
    pub(crate) fn address(&self, path: &str) -> Url {
        let mut address = self.endpoint.clone();
        let base = address.path().trim_end_matches('/').to_owned();
        address.set_path(&format!("{base}{path}"));
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_azure_namespace_is_a_host_name_and_nothing_more() {
        let namespace = Namespace::azure("contoso.servicebus.windows.net").unwrap();
        assert_eq!(
            namespace.address("/reconcile/messages").as_str(),
            "https://contoso.servicebus.windows.net/reconcile/messages"
        );
        for bad in
            ["", "contoso", "https://contoso.servicebus.windows.net", "a.b/c", "a..b", "user@a.b", "a.b:1"]
        {
            assert!(Namespace::azure(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_local_broker_may_have_a_base_path() {
        let broker = Namespace::at("http://127.0.0.1:5300/bus/").unwrap();
        assert_eq!(broker.address("/q/messages").as_str(), "http://127.0.0.1:5300/bus/q/messages");
        for bad in ["", "127.0.0.1:5300", "ftp://x/", "http://x/?a=b"] {
            assert!(Namespace::at(bad).is_err(), "{bad:?}");
        }
    }
}
