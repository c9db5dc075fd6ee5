//! Azure's paths, whose segments compare without regard to case.

use ajar_access::azure_policy::{ListScope, PolicyAddress};
use ajar_access::error::AccessError;
use http::Method;
use percent_encoding::percent_decode_str;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Policies of a subscription, resource group or location.
    List(ListScope),
    /// One policy.
    Policy(PolicyPath),
    /// Asking for access under one policy.
    Initiate(PolicyPath),
}

/// The parts of a path that names one policy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PolicyPath {
    subscription: String,
    resource_group: String,
    location: String,
    name: String,
}

impl PolicyPath {
    /// The policy's address.
    pub(crate) fn address(&self) -> Result<PolicyAddress, AccessError> {
        PolicyAddress::new(&self.subscription, &self.resource_group, &self.location, &self.name)
    }
}

impl Route {
    /// What a path names; `None` when it is none of this API's.
    pub(crate) fn parse(path: &str) -> Option<Route> {
        let path = path.strip_prefix('/')?;
        let mut rest = path
            .strip_suffix('/')
            .unwrap_or(path)
            .split('/')
            .map(|segment| Some(percent_decode_str(segment).decode_utf8().ok()?.into_owned()))
            .map(|segment| segment.filter(|segment| !segment.is_empty() && !segment.contains('/')))
            .collect::<Option<Vec<String>>>()?
            .into_iter()
            .peekable();
        let subscription = rest.next_if(is("subscriptions")).and_then(|_| rest.next())?;
        let resource_group = match rest.next_if(is("resourceGroups")) {
            Some(_) => Some(rest.next()?),
            None => None,
        };
        rest.next_if(is("providers"))?;
        rest.next_if(is("Microsoft.Security"))?;
        let location = match rest.next_if(is("locations")) {
            Some(_) => Some(rest.next()?),
            None => None,
        };
        rest.next_if(is("jitNetworkAccessPolicies"))?;
        let Some(name) = rest.next() else {
            return Some(Route::List(ListScope { subscription, resource_group, location }));
        };
        let path = PolicyPath { subscription, resource_group: resource_group?, location: location?, name };
        match (rest.next(), rest.next()) {
            (None, _) => Some(Route::Policy(path)),
            (Some(verb), None) if verb.eq_ignore_ascii_case("initiate") => Some(Route::Initiate(path)),
            _ => None,
        }
    }

    /// Whether the path takes the method.
    pub(crate) fn takes(&self, method: &Method) -> bool {
        self.allow().split(',').any(|allowed| allowed == method.as_str())
    }

    /// The methods it takes, as header `Allow` has them.
    pub(crate) fn allow(&self) -> &'static str {
        match self {
            Route::List(_) => "GET",
            Route::Policy(_) => "GET,PUT,DELETE",
            Route::Initiate(_) => "POST",
        }
    }
}

fn is(word: &'static str) -> impl Fn(&String) -> bool {
    move |segment| segment.eq_ignore_ascii_case(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROVIDER: &str = "providers/Microsoft.Security";

    fn list(resource_group: Option<&str>, location: Option<&str>) -> Option<Route> {
        Some(Route::List(ListScope {
            subscription: "S".into(),
            resource_group: resource_group.map(str::to_owned),
            location: location.map(str::to_owned),
        }))
    }

    fn path() -> PolicyPath {
        PolicyPath {
            subscription: "S".into(),
            resource_group: "G".into(),
            location: "L".into(),
            name: "N".into(),
        }
    }

    #[test]
    fn the_six_paths_are_known_in_any_case() {
        for (text, route) in [
            (format!("/subscriptions/S/{PROVIDER}/jitNetworkAccessPolicies"), list(None, None)),
            (
                format!("/subscriptions/S/{PROVIDER}/locations/L/jitNetworkAccessPolicies"),
                list(None, Some("L")),
            ),
            (
                format!("/subscriptions/S/resourceGroups/G/{PROVIDER}/jitNetworkAccessPolicies"),
                list(Some("G"), None),
            ),
            (
                "/SUBSCRIPTIONS/S/resourcegroups/G/PROVIDERS/microsoft.security/LOCATIONS/L/JITNETWORKACCESSPOLICIES/"
                    .to_owned(),
                list(Some("G"), Some("L")),
            ),
            (
                format!(
                    "/subscriptions/S/resourceGroups/G/{PROVIDER}/locations/L/jitNetworkAccessPolicies/N"
                ),
                Some(Route::Policy(path())),
            ),
            (
                format!(
                    "/subscriptions/S/resourceGroups/G/{PROVIDER}/locations/L/jitNetworkAccessPolicies/N/Initiate"
                ),
                Some(Route::Initiate(path())),
            ),
        ] {
            assert_eq!(Route::parse(&text), route, "{text}");
        }
    }

    #[test]
    fn other_paths_are_not() {
        for text in [
            "/",
            "/subscriptions",
            "/subscriptions/S",
            "/subscriptions//providers/Microsoft.Security/jitNetworkAccessPolicies",
            "/subscriptions/S/providers/Microsoft.Compute/jitNetworkAccessPolicies",
            "/subscriptions/S/providers/Microsoft.Security/jitNetworkAccessPolicies/N",
            "/subscriptions/S/providers/Microsoft.Security/locations/L/jitNetworkAccessPolicies/N",
            "/subscriptions/S/resourceGroups/G/providers/Microsoft.Security/locations/L/jitNetworkAccessPolicies/N/delete",
            "/subscriptions/S/resourceGroups/G/providers/Microsoft.Security/locations/L/jitNetworkAccessPolicies/N/initiate/x",
            "/subscriptions/S/resourceGroups/a%2Fb/providers/Microsoft.Security/jitNetworkAccessPolicies",
            "/subscriptions/S/resourceGroups/%FF/providers/Microsoft.Security/jitNetworkAccessPolicies",
            "subscriptions/S/providers/Microsoft.Security/jitNetworkAccessPolicies",
        ] {
            assert_eq!(Route::parse(text), None, "{text}");
        }
    }
}
