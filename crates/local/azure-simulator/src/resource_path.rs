//! ARM paths, taken apart.

/// What a path below `/subscriptions` or `/providers` names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Subscriptions,
    Subscription(String),
    ResourceGroups(String),
    ResourceGroup(String, String),
    /// All resources of a type in a subscription or, with the group, in a resource group.
    Collection {
        subscription: String,
        group: Option<String>,
        namespace: String,
        kind: String,
    },
    Resource(ResourceName),
    ChildCollection(ResourceName, String),
    Child(ResourceName, String, String),
    /// `operations/{id}` (status document) or `operationResults/{id}` (`Location`).
    Operation {
        id: String,
        result: bool,
    },
    /// `{scope}/providers/Microsoft.Authorization/{kind}[/{name}]`; the scope of the root is empty.
    Authorization {
        scope: String,
        kind: String,
        name: Option<String>,
    },
    Unknown,
}

/// A top-level resource's name, as the path spells it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResourceName {
    pub(crate) subscription: String,
    pub(crate) group: String,
    pub(crate) namespace: String,
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl ResourceName {
    pub(crate) fn id(&self) -> String {
        let Self { subscription, group, namespace, kind, name } = self;
        format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/{namespace}/{kind}/{name}")
    }

    pub(crate) fn parse(id: &str) -> Option<Self> {
        match target(id) {
            Target::Resource(name) | Target::ChildCollection(name, _) | Target::Child(name, _, _) => {
                Some(name)
            }
            _ => None,
        }
    }
}

/// Takes a path apart; keywords compare case-insensitively.
pub(crate) fn target(path: &str) -> Target {
    if let Some(authorization) = authorization(path) {
        return authorization;
    }
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let keywords: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let keywords: Vec<&str> = keywords.iter().map(String::as_str).collect();
    let text = |segment: &&str| (*segment).to_owned();
    match (keywords.as_slice(), segments.as_slice()) {
        (["subscriptions"], _) => Target::Subscriptions,
        (["subscriptions", _], [_, s]) => Target::Subscription(text(s)),
        (["subscriptions", _, "resourcegroups"], [_, s, _]) => Target::ResourceGroups(text(s)),
        (["subscriptions", _, "resourcegroups", _], [_, s, _, g]) => Target::ResourceGroup(text(s), text(g)),
        (["subscriptions", _, "providers", _, "locations", _, operation, _], [.., id])
            if ["operations", "operationresults"].contains(operation) =>
        {
            Target::Operation { id: text(id), result: *operation == "operationresults" }
        }
        (["subscriptions", _, "providers", _, _], [_, s, _, namespace, kind]) => Target::Collection {
            subscription: text(s),
            group: None,
            namespace: text(namespace),
            kind: text(kind),
        },
        (["subscriptions", _, "resourcegroups", _, "providers", _, _], [_, s, _, g, _, namespace, kind]) => {
            Target::Collection {
                subscription: text(s),
                group: Some(text(g)),
                namespace: text(namespace),
                kind: text(kind),
            }
        }
        (
            ["subscriptions", _, "resourcegroups", _, "providers", _, _, _, ..],
            [_, s, _, g, _, namespace, kind, name, rest @ ..],
        ) => {
            let resource = ResourceName {
                subscription: text(s),
                group: text(g),
                namespace: text(namespace),
                kind: text(kind),
                name: text(name),
            };
            match rest {
                [] => Target::Resource(resource),
                [children] => Target::ChildCollection(resource, text(children)),
                [children, child] => Target::Child(resource, text(children), text(child)),
                _ => Target::Unknown,
            }
        }
        _ => Target::Unknown,
    }
}

fn authorization(path: &str) -> Option<Target> {
    const MARK: &str = "/providers/microsoft.authorization/";
    let start = path.to_ascii_lowercase().rfind(MARK)?;
    let scope = path.get(..start)?.to_owned();
    let mut rest = path.get(start + MARK.len()..)?.trim_end_matches('/').split('/');
    let kind = rest.next()?.to_owned();
    let name = rest.next().map(str::to_owned);
    rest.next().is_none().then_some(Target::Authorization { scope, kind, name })
}

/// Whether `scope` is `id` or above it; both in any case.
pub(crate) fn covers(scope: &str, id: &str) -> bool {
    let scope = scope.trim_end_matches('/').to_ascii_lowercase();
    let id = id.trim_end_matches('/').to_ascii_lowercase();
    // The simulator knows one tenant: every management group stands above every subscription.
    if scope.is_empty() || scope.starts_with("/providers/microsoft.management/managementgroups/") {
        return true;
    }
    id.strip_prefix(&scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_they_name_in_any_case() {
        let rule = "/SUBSCRIPTIONS/s/resourcegroups/G/providers/microsoft.network/NetworkSecurityGroups/n/securityrules/R";
        let Target::Child(name, children, child) = target(rule) else { panic!("{rule}") };
        assert_eq!((name.group.as_str(), children.as_str(), child.as_str()), ("G", "securityrules", "R"));
        assert_eq!(
            target("/subscriptions/s/providers/Microsoft.Network/locations/westeurope/operations/42"),
            Target::Operation { id: "42".into(), result: false }
        );
        assert_eq!(
            target("/subscriptions/s/resourceGroups/g/providers/Microsoft.Authorization/roleAssignments"),
            Target::Authorization {
                scope: "/subscriptions/s/resourceGroups/g".into(),
                kind: "roleAssignments".into(),
                name: None
            }
        );
        assert_eq!(target("/subscriptions/s/deployments"), Target::Unknown);
    }

    #[test]
    fn a_scope_covers_whole_segments_only() {
        assert!(covers("/subscriptions/S", "/subscriptions/s/resourceGroups/g"));
        assert!(covers("/", "/subscriptions/s"));
        assert!(!covers("/subscriptions/s/resourceGroups/demo", "/subscriptions/s/resourceGroups/demo-rg"));
        assert!(!covers("/subscriptions/s/resourceGroups/g", "/subscriptions/s"));
    }
}
