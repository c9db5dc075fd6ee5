//! The scripted Azure, with calls about NSGs that take their time, hang or are throttled.

use crate::ports::azure::{Azure, AzureError, DenyAssignment, RoleAssignment, RolePermissions, WriteOutcome};
use crate::testing::FakeAzure;
use ajar_network::nsg::{NetworkSecurityGroup, SecurityRule};
use ajar_network::resource_id::ResourceId;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) struct SlowAzure {
    azure: Arc<FakeAzure>,
    takes: Mutex<Duration>,
    answers: Mutex<BTreeMap<String, (Duration, AzureError)>>,
    read: Mutex<Vec<String>>,
}

impl SlowAzure {
    pub(super) fn of(azure: Arc<FakeAzure>) -> SlowAzure {
        SlowAzure { azure, takes: Mutex::default(), answers: Mutex::default(), read: Mutex::default() }
    }

    /// How long a read of an NSG takes.
    pub(super) fn takes(&self, time: Duration) {
        *self.takes.lock().unwrap() = time;
    }

    /// What every read of an NSG answers, after the usual time.
    pub(super) fn answer(&self, name: &str, answer: AzureError) {
        let takes = *self.takes.lock().unwrap();
        self.hang(name, takes, answer);
    }

    /// What every read of an NSG answers, after so long.
    pub(super) fn hang(&self, name: &str, time: Duration, answer: AzureError) {
        self.answers.lock().unwrap().insert(name.to_owned(), (time, answer));
    }

    /// Reads of an NSG succeed again.
    pub(super) fn forget(&self, name: &str) {
        self.answers.lock().unwrap().remove(name);
    }

    /// The names of the NSGs that were asked for since the last call, in order.
    pub(super) fn take_read(&self) -> Vec<String> {
        std::mem::take(&mut self.read.lock().unwrap())
    }
}

#[async_trait]
impl Azure for SlowAzure {
    async fn network_security_group(&self, id: &ResourceId) -> Result<NetworkSecurityGroup, AzureError> {
        self.read.lock().unwrap().push(id.name().to_owned());
        let scripted = self.answers.lock().unwrap().get(id.name()).cloned();
        if let Some((time, answer)) = scripted {
            tokio::time::sleep(time).await;
            return Err(answer);
        }
        let takes = *self.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        self.azure.network_security_group(id).await
    }

    async fn vm_estate(&self, vm: &ResourceId) -> Result<Vec<Value>, AzureError> {
        self.azure.vm_estate(vm).await
    }

    async fn subscription_estate(&self, subscription: &str) -> Result<Vec<Value>, AzureError> {
        self.azure.subscription_estate(subscription).await
    }

    async fn network_security_groups(
        &self,
        subscription: &str,
    ) -> Result<Vec<NetworkSecurityGroup>, AzureError> {
        self.azure.network_security_groups(subscription).await
    }

    async fn put_rule(&self, nsg: &ResourceId, rule: &SecurityRule) -> Result<WriteOutcome, AzureError> {
        self.azure.put_rule(nsg, rule).await
    }

    async fn delete_rule(&self, nsg: &ResourceId, name: &str) -> Result<WriteOutcome, AzureError> {
        self.azure.delete_rule(nsg, name).await
    }

    async fn put_network_security_group(
        &self,
        nsg: &NetworkSecurityGroup,
    ) -> Result<WriteOutcome, AzureError> {
        self.azure.put_network_security_group(nsg).await
    }

    async fn operation(&self, operation: &str) -> Result<WriteOutcome, AzureError> {
        self.azure.operation(operation).await
    }

    async fn role_assignments(
        &self,
        scope: &str,
        principal: &str,
    ) -> Result<Vec<RoleAssignment>, AzureError> {
        self.azure.role_assignments(scope, principal).await
    }

    async fn deny_assignments(
        &self,
        scope: &str,
        principal: Option<&str>,
    ) -> Result<Vec<DenyAssignment>, AzureError> {
        self.azure.deny_assignments(scope, principal).await
    }

    async fn role_permissions(&self, role: &str) -> Result<Vec<RolePermissions>, AzureError> {
        self.azure.role_permissions(role).await
    }
}
