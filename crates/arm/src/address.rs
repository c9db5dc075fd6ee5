//! Where requests may go. Ajar's token is only ever sent to one origin, whatever an answer asks for.

use ajar_access::ports::azure::AzureError;
use reqwest::Url;

/// Azure Resource Manager in the public cloud.
pub const PUBLIC_ENDPOINT: &str = "https://management.azure.com";

/// An endpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an address of Azure Resource Manager: give an https URL without a path, such as \
     https://management.azure.com (http is accepted on this machine only)"
)]
pub struct EndpointError(pub String);

/// Azure Resource Manager's origin.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    base: Url,
}

impl Endpoint {
    pub(crate) fn parse(text: &str) -> Result<Self, EndpointError> {
        Url::parse(text)
            .ok()
            .filter(|url| {
                let loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
                (url.scheme() == "https" || (url.scheme() == "http" && loopback))
                    && url.path() == "/"
                    && url.query().is_none()
                    && url.fragment().is_none()
                    && url.username().is_empty()
                    && url.password().is_none()
            })
            .map(|base| Endpoint { base })
            .ok_or_else(|| EndpointError(text.to_owned()))
    }

    /// What tokens are asked for: in every cloud the endpoint's own origin; for a stand-in on this machine, which
    /// checks tokens as the public cloud does, the public endpoint.
    pub(crate) fn audience(&self) -> String {
        if self.base.scheme() == "http" {
            PUBLIC_ENDPOINT.to_owned()
        } else {
            self.base.origin().ascii_serialization()
        }
    }

    /// The address of a resource id or a path below one.
    ///
    /// # Errors
    /// When the path could be understood as something else than it looks: it came from outside and goes into a
    /// URL.
    pub(crate) fn of(&self, path: &str, api_version: &str) -> Result<Url, AzureError> {
        self.filtered(path, None, api_version)
    }

    /// The same with an OData filter, whose text the caller vouches for.
    pub(crate) fn filtered(
        &self,
        path: &str,
        filter: Option<&str>,
        api_version: &str,
    ) -> Result<Url, AzureError> {
        let plain = path.starts_with('/')
            && path.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | ".."))
            && !path.chars().any(|c| c.is_control() || matches!(c, '?' | '#' | '%' | '\\'));
        if !plain {
            return Err(AzureError::Rejected {
                code: "InvalidResourceId".to_owned(),
                message: format!("{path:?} cannot be the path of a resource"),
            });
        }
        let mut url = self.base.clone();
        url.set_path(path);
        let filter = filter.map(|filter| format!("$filter={filter}&")).unwrap_or_default();
        url.set_query(Some(&format!("{filter}api-version={api_version}")));
        Ok(url)
    }

    /// An address that Azure Resource Manager handed out (`nextLink`, `Azure-AsyncOperation`, `Location`), or one
    /// stored from such.
    ///
    /// # Errors
    /// When it lies on another origin.
    pub(crate) fn handed_out(&self, address: &str) -> Result<Url, AzureError> {
        Url::parse(address)
            .ok()
            .filter(|url| {
                url.origin() == self.base.origin() && url.username().is_empty() && url.password().is_none()
            })
            .ok_or_else(|| AzureError::Rejected {
                code: "ForeignAddress".to_owned(),
                message:
                    "Azure Resource Manager names an address outside its own origin; Ajar does not send its \
                          token there"
                        .to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn azure() -> Endpoint {
        Endpoint::parse(PUBLIC_ENDPOINT).unwrap()
    }

    #[test]
    fn an_endpoint_is_an_https_origin_or_this_machine() {
        for good in
            ["https://management.azure.com/", "https://management.usgovcloudapi.net", "http://127.0.0.1:8080"]
        {
            assert!(Endpoint::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "management.azure.com",
            "http://management.azure.com",
            "https://a/b",
            "https://u:p@a/",
            "https://a/?x",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
        let audience = |endpoint| Endpoint::parse(endpoint).unwrap().audience();
        assert_eq!(audience("https://management.azure.com/"), "https://management.azure.com");
        assert_eq!(audience("https://management.usgovcloudapi.net"), "https://management.usgovcloudapi.net");
        assert_eq!(audience("http://127.0.0.1:8080"), "https://management.azure.com");
    }

    #[test]
    fn a_path_cannot_leave_its_place() {
        let url = azure().of("/subscriptions/s/resourceGroups/a (b)", "v").unwrap();
        assert_eq!(
            url.as_str(),
            "https://management.azure.com/subscriptions/s/resourceGroups/a%20(b)?api-version=v"
        );
        for bad in [
            "",
            "subscriptions/s",
            "//evil.example/x",
            "/a/../b",
            "/a/./b",
            "/a?x=1",
            "/a#b",
            "/a%2e",
            "/a\\b",
        ] {
            assert!(azure().of(bad, "v").is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_own_origin_gets_the_token() {
        assert!(
            azure()
                .handed_out("https://MANAGEMENT.azure.com:443/subscriptions/s/operations/o?api-version=v")
                .is_ok()
        );
        for foreign in [
            "https://management.azure.com.evil.example/x",
            "http://management.azure.com/x",
            "https://management.azure.com:8443/x",
            "https://user@management.azure.com/x",
            "/relative",
            "",
        ] {
            assert!(azure().handed_out(foreign).is_err(), "{foreign}");
        }
    }
}
