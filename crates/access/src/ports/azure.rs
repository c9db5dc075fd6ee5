//! What Ajar reads and writes in Azure Resource Manager.

use ajar_network::nsg::{NetworkSecurityGroup, SecurityRule};
use ajar_network::resource_id::ResourceId;
use async_trait::async_trait;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// A role assignment as Azure Resource Manager returns it (`Microsoft.Authorization/roleAssignments`,
/// `api-version=2022-04-01`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleAssignment {
    /// Id of the role definition.
    pub role_definition_id: String,
    /// The scope it was made at.
    pub scope: String,
    /// Object id of whoever it was made for: the principal asked about, or a group it is in.
    pub principal_id: String,
    /// A condition (ABAC), if it has one.
    #[serde(default)]
    pub condition: Option<String>,
}

/// Permissions of a role definition or a deny assignment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RolePermissions {
    /// Granted or denied actions, with `*` as wildcard.
    #[serde(deserialize_with = "null_as_default")]
    pub actions: Vec<String>,
    /// Actions taken out of `actions`.
    #[serde(deserialize_with = "null_as_default")]
    pub not_actions: Vec<String>,
    /// A condition (ABAC), if they have one.
    pub condition: Option<String>,
}

/// A deny assignment as Azure Resource Manager returns it (`Microsoft.Authorization/denyAssignments`,
/// `api-version=2022-04-01`), its resource id beside its properties. `isSystemProtected`, which says whether people
/// may remove it, changes nothing about what it denies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DenyAssignment {
    /// Its resource id.
    pub id: String,
    /// What people call it.
    #[serde(rename = "denyAssignmentName", default)]
    pub name: String,
    /// What it denies.
    pub permissions: Vec<RolePermissions>,
    /// The scope it was made at.
    pub scope: String,
    /// Whether it denies at that scope alone and not below.
    #[serde(default, deserialize_with = "null_as_default")]
    pub do_not_apply_to_child_scopes: bool,
    /// Whom it denies.
    pub principals: Vec<DenyPrincipal>,
    /// Whom it does not deny all the same.
    #[serde(default, deserialize_with = "null_as_default")]
    pub exclude_principals: Vec<DenyPrincipal>,
    /// A condition (ABAC), if it has one.
    #[serde(default)]
    pub condition: Option<String>,
}

/// Somebody that a deny assignment names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyPrincipal {
    /// Object id; all zeros for everybody.
    pub id: String,
    /// `User`, `Group`, `ServicePrincipal`, or `SystemDefined` for everybody.
    #[serde(rename = "type", default, deserialize_with = "null_as_default")]
    pub kind: String,
}

impl DenyAssignment {
    /// Reads an element of Azure Resource Manager's list.
    ///
    /// # Errors
    /// When it has no id, scope, principals or permissions: what it denies is not known then.
    pub fn from_json(mut element: serde_json::Value) -> Result<DenyAssignment, serde_json::Error> {
        let id = element.get_mut("id").map(serde_json::Value::take).unwrap_or_default();
        let mut properties = element.get_mut("properties").map(serde_json::Value::take).unwrap_or_default();
        if let Some(properties) = properties.as_object_mut() {
            properties.insert("id".into(), id);
        }
        serde_json::from_value(properties)
    }
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// How a write ended as far as this invocation waited for it (about 20 seconds at most).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum WriteOutcome {
    /// Azure has done it.
    Done,
    /// Azure is still at it; look again at this operation address.
    Running(String),
}

/// Why Azure did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AzureError {
    /// The resource does not exist (404).
    #[error("{0} does not exist")]
    NotFound(String),
    /// Somebody else wrote at the same time, or the write collides with what is there now: read again, plan
    /// again (409, 412, `SecurityRuleConflict`, `CanceledAndSupersededDueToAnotherOperation`).
    #[error("a concurrent change in Azure: {0}")]
    Conflict(String),
    /// Throttled, unreachable, failing or timed out. A write may or may not happen, now or later.
    #[error("Azure Resource Manager is unavailable: {reason}")]
    Unavailable {
        /// What happened, for the log.
        reason: String,
        /// How long Azure asked to be left alone.
        retry_after: Option<SignedDuration>,
    },
    /// Ajar's own identity lacks a permission (401, 403).
    #[error("Ajar's identity is not allowed to do this in Azure: {0}")]
    Forbidden(String),
    /// Azure refuses the content (other 4xx) or answers what cannot be understood; trying again is no use.
    #[error("Azure refuses this: {code}: {message}")]
    Rejected {
        /// Azure's error code.
        code: String,
        /// Azure's message.
        message: String,
    },
}

/// One page of a list of Azure Resource Graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GraphPage {
    /// Resources as ARM JSON with `id`, `name`, `type`, `location`, `tags`, `sku` and `properties`.
    pub resources: Vec<serde_json::Value>,
    /// Where the next page begins, when there is one.
    pub next: Option<String>,
}

/// Azure Resource Manager.
#[async_trait]
pub trait Azure: Send + Sync {
    /// Everything on the path to one VM, as ARM JSON: the VM, its NICs, their public addresses, VNets, NSGs
    /// (of subnets and NICs), route tables and application security groups. [`AzureError::NotFound`] only
    /// when the VM itself does not exist; something on its path that cannot be found is left out.
    async fn vm_estate(&self, vm: &ResourceId) -> Result<Vec<serde_json::Value>, AzureError>;

    /// The same for every VM of a subscription, from lists.
    async fn subscription_estate(&self, subscription: &str) -> Result<Vec<serde_json::Value>, AzureError>;

    /// One resource, as ARM JSON with the references that Azure keeps on it: a network interface, NSG, subnet, VNet,
    /// public address, load balancer or route table. By default it is looked up among the subscription's.
    async fn resource(&self, id: &ResourceId) -> Result<serde_json::Value, AzureError> {
        let has_id = |resource: &serde_json::Value| {
            let own = resource.get("id").and_then(serde_json::Value::as_str);
            own.is_some_and(|own| own.eq_ignore_ascii_case(id.as_str()))
        };
        let all = self.subscription_estate(id.subscription()).await?;
        let subnets = |resource: &serde_json::Value| {
            resource.pointer("/properties/subnets").and_then(serde_json::Value::as_array).cloned()
        };
        let inside: Vec<_> = all.iter().filter_map(subnets).flatten().collect();
        all.into_iter().chain(inside).find(has_id).ok_or_else(|| AzureError::NotFound(id.to_string()))
    }

    /// One page, of at most 1,000 in order of id, of a subscription's resources of one type, from Azure Resource Graph.
    /// What it says may be minutes old. By default the type is picked from the subscription's lists.
    async fn graph_page(
        &self,
        subscription: &str,
        resource_type: &str,
        _from: Option<&str>,
    ) -> Result<GraphPage, AzureError> {
        let is_of_type = |resource: &serde_json::Value| {
            let own = resource.get("type").and_then(serde_json::Value::as_str);
            own.is_some_and(|own| own.eq_ignore_ascii_case(resource_type))
        };
        let all = self.subscription_estate(subscription).await?;
        Ok(GraphPage { resources: all.into_iter().filter(is_of_type).collect(), next: None })
    }

    /// The subscriptions below a management group, at any depth, as GUIDs in lower case, as far as Ajar's identity may
    /// read them. From Azure Resource Graph, and so minutes old. By default nobody knows the group.
    async fn subscriptions_below(&self, management_group: &str) -> Result<Vec<String>, AzureError> {
        Err(AzureError::NotFound(format!("management group {management_group}")))
    }

    /// The Event Grid event subscriptions of a subscription's own system topics (those whose source is the subscription),
    /// as ARM JSON. By default there are none.
    async fn event_subscriptions(&self, _subscription: &str) -> Result<Vec<serde_json::Value>, AzureError> {
        Ok(Vec::new())
    }

    /// The object id of Ajar's own identity, lower case, by which it knows its own writes among events. `None` when
    /// it cannot be told: then every event counts as somebody else's.
    async fn own_object_id(&self) -> Result<Option<String>, AzureError> {
        Ok(None)
    }

    /// One NSG, as it is now.
    async fn network_security_group(&self, nsg: &ResourceId) -> Result<NetworkSecurityGroup, AzureError>;

    /// Every NSG of a subscription.
    async fn network_security_groups(
        &self,
        subscription: &str,
    ) -> Result<Vec<NetworkSecurityGroup>, AzureError>;

    /// Creates or replaces one rule of an NSG.
    async fn put_rule(&self, nsg: &ResourceId, rule: &SecurityRule) -> Result<WriteOutcome, AzureError>;

    /// Removes one rule of an NSG; done when it is not there.
    async fn delete_rule(&self, nsg: &ResourceId, name: &str) -> Result<WriteOutcome, AzureError>;

    /// Replaces a whole NSG, with `If-Match` on the ETag it was read with.
    async fn put_network_security_group(
        &self,
        nsg: &NetworkSecurityGroup,
    ) -> Result<WriteOutcome, AzureError>;

    /// How a write that was still running stands now. An operation that Azure no longer knows is done.
    async fn operation(&self, operation: &str) -> Result<WriteOutcome, AzureError>;

    /// The role assignments at `scope` and above that count for a principal, its groups included.
    async fn role_assignments(&self, scope: &str, principal: &str)
    -> Result<Vec<RoleAssignment>, AzureError>;

    /// The deny assignments at `scope` and above: all of them, or those that name `principal` or a group it is in,
    /// directly or through other groups.
    async fn deny_assignments(
        &self,
        scope: &str,
        principal: Option<&str>,
    ) -> Result<Vec<DenyAssignment>, AzureError>;

    /// The permissions of a role definition.
    async fn role_permissions(&self, role_definition_id: &str) -> Result<Vec<RolePermissions>, AzureError>;
}
