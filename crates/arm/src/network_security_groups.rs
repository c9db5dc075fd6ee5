//! Reading and writing NSGs and their rules.

use ajar_access::ports::azure::{AzureError, WriteOutcome};
use ajar_network::nsg::{NetworkSecurityGroup, SecurityRule};
use ajar_network::resource_id::ResourceId;
use reqwest::{Method, Url};

use crate::api_versions::NETWORK;
use crate::failure::unreadable;
use crate::http::Call;
use crate::resource_manager::ResourceManager;

impl ResourceManager {
    pub(crate) async fn read_nsg(&self, nsg: &ResourceId) -> Result<NetworkSecurityGroup, AzureError> {
        let url = self.endpoint.of(nsg.as_str(), NETWORK)?;
        let json = self.get(url, nsg.as_str()).await?;
        NetworkSecurityGroup::from_json(json).map_err(|error| unreadable(nsg.as_str(), &error.to_string()))
    }

    pub(crate) async fn list_nsgs(
        &self,
        subscription: &str,
    ) -> Result<Vec<NetworkSecurityGroup>, AzureError> {
        const TYPE: &str = "Microsoft.Network/networkSecurityGroups";
        let listed = self.list_all(subscription, TYPE, NETWORK).await?;
        listed
            .into_iter()
            .map(|json| {
                NetworkSecurityGroup::from_json(json).map_err(|error| unreadable(TYPE, &error.to_string()))
            })
            .collect()
    }

    pub(crate) async fn write_rule(
        &self,
        nsg: &ResourceId,
        rule: &SecurityRule,
    ) -> Result<WriteOutcome, AzureError> {
        let path = rule_path(nsg, rule.name())?;
        let mut call = Call::new(Method::PUT, self.endpoint.of(&path, NETWORK)?, &path);
        call.body = Some(rule.json());
        self.write(call).await
    }

    pub(crate) async fn remove_rule(&self, nsg: &ResourceId, name: &str) -> Result<WriteOutcome, AzureError> {
        let path = rule_path(nsg, name)?;
        let call = Call::new(Method::DELETE, self.endpoint.of(&path, NETWORK)?, &path);
        match self.write(call).await {
            Err(AzureError::NotFound(_)) => Ok(WriteOutcome::Done),
            outcome => outcome,
        }
    }

    pub(crate) async fn write_nsg(&self, nsg: &NetworkSecurityGroup) -> Result<WriteOutcome, AzureError> {
        let what = nsg.id().map_or("the network security group", ResourceId::as_str);
        let url: Url = match nsg.id() {
            Some(id) => self.endpoint.of(id.as_str(), NETWORK)?,
            None => return Err(unreadable(what, "it has no id")),
        };
        // Without If-Match the PUT would silently take back whatever others wrote since it was read.
        let etag = nsg.etag().ok_or_else(|| unreadable(what, "it has no etag; read it before writing it"))?;
        let body = nsg.to_json();
        let mut call = Call::new(Method::PUT, url, what);
        call.body = Some(&body);
        call.if_match = Some(etag);
        self.write(call).await
    }
}

/// The path of a rule. Azure's names hold letters, digits, `_`, `.` and `-`, 80 at most.
fn rule_path(nsg: &ResourceId, name: &str) -> Result<String, AzureError> {
    let plain = !name.is_empty()
        && name.len() <= 80
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if plain {
        Ok(format!("{nsg}/securityRules/{name}"))
    } else {
        Err(AzureError::Rejected {
            code: "InvalidRuleName".to_owned(),
            message: format!("{name:?} cannot be the name of a security rule"),
        })
    }
}
