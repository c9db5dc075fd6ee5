//! Where a resource is, and how the parts of its id compare.

use crate::error::AccessError;
use crate::keys::{Key, digest};
use ajar_network::resource_id::ResourceId;
use serde::{Deserialize, Serialize};

/// The longest name of a resource group (Azure's own limit).
const LONGEST_GROUP: usize = 90;

/// Where a resource is, as the caller spells it. All parts compare without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAddress {
    subscription: String,
    resource_group: String,
    location: String,
    name: String,
}

impl PolicyAddress {
    /// The address of a resource.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] when the parts make no resource id.
    pub fn new(
        subscription: &str,
        resource_group: &str,
        location: &str,
        name: &str,
    ) -> Result<PolicyAddress, AccessError> {
        if resource_group.chars().count() > LONGEST_GROUP {
            return Err(AccessError::invalid(
                "resourceGroupName",
                format!("is longer than {LONGEST_GROUP} characters"),
            ));
        }
        let address = PolicyAddress {
            subscription: subscription.to_owned(),
            resource_group: resource_group.to_owned(),
            location: location.to_owned(),
            name: name.to_owned(),
        };
        ResourceId::parse(&address.id())
            .map_err(|error| AccessError::invalid("jitNetworkAccessPolicyName", error.to_string()))?;
        Ok(address)
    }

    /// The resource's id.
    pub fn id(&self) -> String {
        format!(
            "{}/providers/Microsoft.Security/locations/{}/jitNetworkAccessPolicies/{}",
            self.group_scope(),
            self.location,
            self.name
        )
    }

    /// The resource's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The location in its path.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The resource as a scope of Azure's roles: its id, with the location as Azure spells it.
    pub(super) fn scope(&self) -> String {
        PolicyAddress { location: lower(&self.location), ..self.clone() }.id()
    }

    /// The resource group, as a scope.
    pub(super) fn group_scope(&self) -> String {
        format!("/subscriptions/{}/resourceGroups/{}", self.subscription, self.resource_group)
    }

    pub(super) fn partition(&self) -> Key {
        Key::new([lower(&self.subscription), group_part(&self.resource_group), lower(&self.location)])
    }

    pub(super) fn row(&self) -> Key {
        Key::new([lower(&self.name)])
    }

    pub(super) fn subscription(&self) -> &str {
        &self.subscription
    }

    pub(super) fn resource_group(&self) -> &str {
        &self.resource_group
    }

    /// Whether a VM is in the resource's own resource group.
    pub(super) fn is_group_of(&self, vm: &ResourceId) -> bool {
        vm.subscription().eq_ignore_ascii_case(&self.subscription)
            && vm.resource_group().is_some_and(|group| group.eq_ignore_ascii_case(&self.resource_group))
    }
}

/// Which resources to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListScope {
    /// The subscription.
    pub subscription: String,
    /// Only those of this resource group.
    pub resource_group: Option<String>,
    /// Only those of this location.
    pub location: Option<String>,
}

/// What is compared: Azure's names and locations, of which `West Europe` and `westeurope` are one.
pub(super) fn lower(text: &str) -> String {
    text.to_lowercase().replace(' ', "")
}

/// A resource group in a partition's key. A name that is not ASCII may be so long in a key that the key is cut,
/// and would then not be found under its group.
pub(super) fn group_part(group: &str) -> String {
    let group = lower(group);
    if group.is_ascii() { group } else { digest(&group, 40) }
}
