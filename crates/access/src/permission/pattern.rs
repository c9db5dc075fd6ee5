//! Scopes and action patterns, as Azure compares them: without regard to case.

/// Whether `outer` is `inner` or a scope above it.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    let mut inner = segments(inner);
    segments(outer).all(|segment| inner.next().is_some_and(|other| other.eq_ignore_ascii_case(segment)))
        // Management groups stand above every subscription that Azure reports their assignments for.
        || outer.to_ascii_lowercase().starts_with("/providers/microsoft.management/managementgroups/")
}

/// Whether both are the same scope.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    let (one, other): (Vec<&str>, Vec<&str>) = (segments(one).collect(), segments(other).collect());
    one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| one.eq_ignore_ascii_case(other))
}

fn segments(scope: &str) -> impl Iterator<Item = &str> {
    scope.split('/').filter(|segment| !segment.is_empty())
}

/// Whether an action pattern, in which `*` stands for any text, matches `action`.
pub(super) fn matches(pattern: &str, action: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let action = action.to_ascii_lowercase();
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| action.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            // `find` gives the start of a match, so what follows it is in the text.
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIATE: &str = "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action";

    #[test]
    fn wildcards_stand_for_any_text_and_case_does_not_count() {
        for pattern in
            ["*", INITIATE, "microsoft.security/*", "*/action", "Microsoft.Security/*/initiate/*", "M*n"]
        {
            assert!(matches(pattern, INITIATE), "{pattern}");
        }
        for pattern in ["", "*/read", "Microsoft.Security", "Microsoft.Security/*/read", "*initiate", "a*"] {
            assert!(!matches(pattern, INITIATE), "{pattern}");
        }
        // An overlap of prefix and suffix is not a match.
        assert!(!matches("ab*ba", "aba"));
    }

    #[test]
    fn a_scope_covers_itself_and_what_is_below_and_nothing_beside() {
        let group = "/subscriptions/s/resourceGroups/g";
        for above in [
            "/",
            "/subscriptions/S",
            "/subscriptions/s/resourcegroups/G/",
            "/providers/Microsoft.Management/managementGroups/m",
        ] {
            assert!(covers(above, group), "{above}");
        }
        for beside in ["/subscriptions/s/resourceGroups/g2", "/subscriptions/s/resourceGroups/g/providers/x"]
        {
            assert!(!covers(beside, group), "{beside}");
        }
        assert!(is_same("/subscriptions/S/", "/subscriptions/s") && !is_same("/", "/subscriptions/s"));
    }
}
