//! Azure resource ids, parsed once and compared as Azure compares them: without regard to case.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest id accepted, in bytes. Azure's own limit on a resource id is not documented; names and resource
/// groups are at most 90 characters, so 1024 holds every id of the types this product reads.
pub const MAX_LENGTH: usize = 1024;

/// Why a text is not a resource id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a resource id ({problem}); expected /subscriptions/<id>/resourceGroups/<group>/providers/<namespace>/<type>/<name>"
)]
pub struct InvalidResourceId {
    /// The text, cut to 200 characters.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The id of a resource in a subscription, e.g.
/// `/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/web-1`.
///
/// The text is kept as it was given; `Eq`, `Ord` and `Hash` ignore ASCII case, because Azure returns one id in
/// different case from different APIs.
#[derive(Clone)]
pub struct ResourceId {
    text: Box<str>,
}

impl ResourceId {
    /// Parses an id. A subscription, a resource group and a resource (also a child or an extension resource) are
    /// accepted.
    ///
    /// # Errors
    /// [`InvalidResourceId`] when the text is too long, does not start at a subscription, or has an empty or odd
    /// segment.
    pub fn parse(text: &str) -> Result<Self, InvalidResourceId> {
        let fail = |problem| InvalidResourceId { text: text.chars().take(200).collect(), problem };
        if text.len() > MAX_LENGTH {
            return Err(fail("longer than 1024 bytes"));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(fail("it must start with `/`"));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let segments: Vec<&str> = rest.split('/').collect();
        if segments.iter().any(|s| s.is_empty()) {
            return Err(fail("it has an empty segment"));
        }
        if rest.chars().any(|c| c.is_control() || matches!(c, '?' | '#' | '\\' | '<' | '>' | '%' | '&')) {
            return Err(fail("it has a character that no resource name may hold"));
        }
        if segments.iter().any(|s| *s == "." || *s == "..") {
            return Err(fail("it has a `.` or `..` segment"));
        }
        let mut parts = segments.iter().copied();
        if !parts.next().is_some_and(|s| s.eq_ignore_ascii_case("subscriptions")) || parts.next().is_none() {
            return Err(fail("it must start with /subscriptions/<id>"));
        }
        let mut scope_done = false;
        while let Some(key) = parts.next() {
            if key.eq_ignore_ascii_case("resourceGroups") && !scope_done {
                if parts.next().is_none() {
                    return Err(fail("the resource group has no name"));
                }
                scope_done = true;
            } else if key.eq_ignore_ascii_case("providers") {
                if parts.next().is_none() || parts.next().is_none() || parts.next().is_none() {
                    return Err(fail("after `providers` come a namespace, a type and a name"));
                }
                scope_done = true;
            } else if !scope_done {
                return Err(fail("after the subscription comes resourceGroups or providers"));
            } else if parts.next().is_none() {
                return Err(fail("its last type has no name"));
            }
        }
        let kept = text.strip_suffix('/').unwrap_or(text);
        Ok(Self { text: kept.into() })
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.split('/').skip(1)
    }

    /// The subscription's id.
    #[must_use]
    pub fn subscription(&self) -> &str {
        self.segments().nth(1).unwrap_or_default()
    }

    /// The resource group's name; none for a subscription-level id.
    #[must_use]
    pub fn resource_group(&self) -> Option<&str> {
        let mut parts = self.segments().skip(2);
        parts.next().filter(|s| s.eq_ignore_ascii_case("resourceGroups"))?;
        parts.next()
    }

    /// The full type, e.g. `Microsoft.Compute/virtualMachines` or
    /// `Microsoft.Network/virtualNetworks/subnets`; for an extension resource, its own type. Case as in the id.
    #[must_use]
    pub fn resource_type(&self) -> String {
        let parts: Vec<&str> = self.segments().collect();
        let Some(at) = parts.iter().rposition(|s| s.eq_ignore_ascii_case("providers")) else {
            return if self.resource_group().is_some() {
                "Microsoft.Resources/resourceGroups".to_owned()
            } else {
                "Microsoft.Resources/subscriptions".to_owned()
            };
        };
        let mut out = parts.get(at + 1).copied().unwrap_or_default().to_owned();
        for kind in parts.iter().skip(at + 2).step_by(2) {
            out.push('/');
            out.push_str(kind);
        }
        out
    }

    /// Whether [`resource_type`](Self::resource_type) is this, ignoring case.
    #[must_use]
    pub fn is_type(&self, resource_type: &str) -> bool {
        self.resource_type().eq_ignore_ascii_case(resource_type)
    }

    /// The last name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }

    /// The resource this one is a child of (a subnet's VNet), or else its resource group or subscription.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let mut cut = self.text.rsplitn(3, '/');
        cut.next()?;
        cut.next()?;
        let mut rest = cut.next()?;
        let before_namespace = rest.rsplit_once('/').map(|(head, _)| head);
        if let Some(head) = before_namespace
            && head.rsplit('/').next().is_some_and(|s| s.eq_ignore_ascii_case("providers"))
        {
            rest = head.rsplit_once('/').map_or(head, |(scope, _)| scope);
        }
        (!rest.is_empty()).then(|| Self { text: rest.into() })
    }

    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text in lower case: the same for all spellings of one id.
    #[must_use]
    pub fn to_lowercase(&self) -> String {
        self.text.to_ascii_lowercase()
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceId({})", self.text)
    }
}

impl std::str::FromStr for ResourceId {
    type Err = InvalidResourceId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.text.eq_ignore_ascii_case(&other.text)
    }
}

impl Eq for ResourceId {}

impl Hash for ResourceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.text.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
        state.write_u8(0xff);
    }
}

impl Ord for ResourceId {
    fn cmp(&self, other: &Self) -> Ordering {
        // Ids of one resource group share a long start, mostly in the same case.
        let (a, b) = (self.text.as_bytes(), other.text.as_bytes());
        let same = a.chunks_exact(16).zip(b.chunks_exact(16)).take_while(|(x, y)| x == y).count() * 16;
        let [a, b] = [a, b].map(|text| text.iter().skip(same).map(u8::to_ascii_lowercase));
        a.cmp(b)
    }
}

impl PartialOrd for ResourceId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for ResourceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ResourceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: &str = "/subscriptions/S1/resourceGroups/Rg/providers/Microsoft.Compute/virtualMachines/web-1";
    const SUBNET: &str =
        "/subscriptions/s1/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/v/subnets/a";

    #[test]
    fn parts_of_an_id() {
        let id = ResourceId::parse(VM).unwrap();
        assert_eq!(id.subscription(), "S1");
        assert_eq!(id.resource_group(), Some("Rg"));
        assert_eq!(id.resource_type(), "Microsoft.Compute/virtualMachines");
        assert_eq!(id.name(), "web-1");
        assert_eq!(id.as_str(), VM);
        assert_eq!(id.parent().unwrap().as_str(), "/subscriptions/S1/resourceGroups/Rg");
    }

    #[test]
    fn a_child_names_its_parent() {
        let id = ResourceId::parse(SUBNET).unwrap();
        assert_eq!(id.resource_type(), "Microsoft.Network/virtualNetworks/subnets");
        let vnet = id.parent().unwrap();
        assert_eq!(vnet.resource_type(), "Microsoft.Network/virtualNetworks");
        assert_eq!(vnet.name(), "v");
    }

    #[test]
    fn an_extension_resource_has_its_own_type() {
        let id =
            ResourceId::parse(&format!("{VM}/providers/Microsoft.Insights/diagnosticSettings/d")).unwrap();
        assert_eq!(id.resource_type(), "Microsoft.Insights/diagnosticSettings");
        assert_eq!(id.parent().unwrap(), ResourceId::parse(VM).unwrap());
    }

    #[test]
    fn case_does_not_distinguish() {
        use std::collections::{BTreeSet, HashSet};
        let (a, b) = (ResourceId::parse(VM).unwrap(), ResourceId::parse(&VM.to_uppercase()).unwrap());
        assert_eq!(a, b);
        assert_eq!(HashSet::from([a.clone(), b.clone()]).len(), 1);
        assert_eq!(BTreeSet::from([a.clone(), b.clone()]).len(), 1);
        assert_eq!(a.to_lowercase(), b.to_lowercase());
    }

    #[test]
    fn what_is_not_an_id_is_refused_with_the_expected_form() {
        let long = format!("{VM}{}", "x".repeat(1024));
        for bad in [
            "",
            "web-1",
            "/",
            "/subscriptions",
            "/subscriptions/",
            "/subscriptions/s/resourceGroups",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines",
            "/subscriptions/s//resourceGroups/g",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/..",
            "/subscriptions/s/resourceGroups/g?x",
            "/subscriptions/s/things/g",
            long.as_str(),
        ] {
            let error = ResourceId::parse(bad).unwrap_err().to_string();
            assert!(error.contains("expected /subscriptions/"), "{bad}: {error}");
        }
    }

    #[test]
    fn serde_validates() {
        let id: ResourceId = serde_json::from_str(&format!("\"{VM}\"")).unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{VM}\""));
        assert!(serde_json::from_str::<ResourceId>("\"web-1\"").is_err());
    }
}
