//! The port, put together.

use std::sync::Arc;
use std::time::Duration;

use ajar_access::ports::azure::{
    Azure, AzureError, DenyAssignment, GraphPage, RoleAssignment, RolePermissions, WriteOutcome,
};
use ajar_access::ports::clock::Clock;
use ajar_access::ports::identity::Tokens;
use ajar_network::nsg::{NetworkSecurityGroup, SecurityRule};
use ajar_network::resource_id::ResourceId;
use async_trait::async_trait;
use serde_json::Value;

use crate::address::{Endpoint, EndpointError};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an unused connection is kept: Azure's front ends close theirs after a minute or more.
const POOL_IDLE: Duration = Duration::from_secs(50);

/// How often an unused connection is probed, so that one that a balancer dropped is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Azure Resource Manager, spoken to as Ajar's own identity.
#[derive(Clone)]
pub struct ResourceManager {
    pub(crate) endpoint: Endpoint,
    pub(crate) tokens: Arc<dyn Tokens>,
    pub(crate) client: reqwest::Client,
    pub(crate) clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for ResourceManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResourceManager").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl ResourceManager {
    /// Azure Resource Manager at `endpoint`, [`crate::PUBLIC_ENDPOINT`] as a rule. Tokens are sent
    /// to this origin only and asked for with it as their resource (a stand-in on this machine gets the public
    /// endpoint's). `clock` paces the wait for long operations.
    ///
    /// # Errors
    /// When the endpoint is not an https origin.
    pub fn new(
        endpoint: &str,
        tokens: Arc<dyn Tokens>,
        client: reqwest::Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EndpointError> {
        Ok(ResourceManager { endpoint: Endpoint::parse(endpoint)?, tokens, client, clock })
    }

    /// A client as this adapter wants it: 2 seconds to connect, and no redirects, which Azure Resource Manager does
    /// not send. It may be shared with the other adapters. Each request has its own time-out of 15 seconds.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn client() -> Result<reqwest::Client, reqwest::Error> {
        reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_keepalive(KEEPALIVE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("ajar/", env!("CARGO_PKG_VERSION")))
            .build()
    }
}

#[async_trait]
impl Azure for ResourceManager {
    async fn vm_estate(&self, vm: &ResourceId) -> Result<Vec<Value>, AzureError> {
        self.read_vm_estate(vm).await
    }

    async fn subscription_estate(&self, subscription: &str) -> Result<Vec<Value>, AzureError> {
        self.read_subscription_estate(subscription).await
    }

    async fn resource(&self, id: &ResourceId) -> Result<Value, AzureError> {
        self.read_resource(id).await
    }

    async fn graph_page(
        &self,
        subscription: &str,
        resource_type: &str,
        from: Option<&str>,
    ) -> Result<GraphPage, AzureError> {
        self.read_graph_page(subscription, resource_type, from).await
    }

    async fn subscriptions_below(&self, management_group: &str) -> Result<Vec<String>, AzureError> {
        self.read_subscriptions_below(management_group).await
    }

    async fn event_subscriptions(&self, subscription: &str) -> Result<Vec<Value>, AzureError> {
        self.read_event_subscriptions(subscription).await
    }

    async fn own_object_id(&self) -> Result<Option<String>, AzureError> {
        self.read_own_object_id().await
    }

    async fn network_security_group(&self, nsg: &ResourceId) -> Result<NetworkSecurityGroup, AzureError> {
        self.read_nsg(nsg).await
    }

    async fn network_security_groups(
        &self,
        subscription: &str,
    ) -> Result<Vec<NetworkSecurityGroup>, AzureError> {
        self.list_nsgs(subscription).await
    }

    async fn put_rule(&self, nsg: &ResourceId, rule: &SecurityRule) -> Result<WriteOutcome, AzureError> {
        self.write_rule(nsg, rule).await
    }

    async fn delete_rule(&self, nsg: &ResourceId, name: &str) -> Result<WriteOutcome, AzureError> {
        self.remove_rule(nsg, name).await
    }

    async fn put_network_security_group(
        &self,
        nsg: &NetworkSecurityGroup,
    ) -> Result<WriteOutcome, AzureError> {
        self.write_nsg(nsg).await
    }

    async fn operation(&self, operation: &str) -> Result<WriteOutcome, AzureError> {
        self.look_again(operation).await
    }

    async fn role_assignments(
        &self,
        scope: &str,
        principal: &str,
    ) -> Result<Vec<RoleAssignment>, AzureError> {
        self.list_role_assignments(scope, principal).await
    }

    async fn deny_assignments(
        &self,
        scope: &str,
        principal: Option<&str>,
    ) -> Result<Vec<DenyAssignment>, AzureError> {
        self.list_deny_assignments(scope, principal).await
    }

    async fn role_permissions(&self, role_definition_id: &str) -> Result<Vec<RolePermissions>, AzureError> {
        self.read_role_permissions(role_definition_id).await
    }
}
