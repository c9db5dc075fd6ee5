//! Reading everything on the path to a VM, or all VMs.

use std::collections::HashSet;

use ajar_access::ports::azure::AzureError;
use ajar_network::resource_id::ResourceId;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;

use crate::api_versions::{COMPUTE, NETWORK};
use crate::failure::unreadable;
use crate::resource_manager::ResourceManager;

/// Reads under way at once. Azure Resource Manager refills 25 reads a second per subscription and principal; a VM has
/// rarely more than a dozen resources.
const PARALLEL_READS: usize = 8;

/// The types of a subscription's estate and the API version they are listed with.
const LISTED: [(&str, &str); 9] = [
    ("Microsoft.Compute/virtualMachines", COMPUTE),
    ("Microsoft.Network/networkInterfaces", NETWORK),
    ("Microsoft.Network/publicIPAddresses", NETWORK),
    ("Microsoft.Network/virtualNetworks", NETWORK),
    ("Microsoft.Network/networkSecurityGroups", NETWORK),
    ("Microsoft.Network/routeTables", NETWORK),
    ("Microsoft.Network/applicationSecurityGroups", NETWORK),
    ("Microsoft.Network/azureFirewalls", NETWORK),
    ("Microsoft.Network/loadBalancers", NETWORK),
];

/// The path of a subscription-wide list.
///
/// # Errors
/// When the subscription is not an id: it goes into a URL.
pub(crate) fn subscription_list(subscription: &str, resource_type: &str) -> Result<String, AzureError> {
    let plain = !subscription.is_empty()
        && subscription.len() <= 64
        && subscription.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if plain {
        Ok(format!("/subscriptions/{subscription}/providers/{resource_type}"))
    } else {
        Err(AzureError::Rejected {
            code: "InvalidSubscription".to_owned(),
            message: format!("{subscription:?} is not a subscription id"),
        })
    }
}

impl ResourceManager {
    pub(crate) async fn read_subscription_estate(
        &self,
        subscription: &str,
    ) -> Result<Vec<Value>, AzureError> {
        let reads: Vec<_> = LISTED
            .iter()
            .map(|(resource_type, api_version)| self.list_all(subscription, resource_type, api_version))
            .collect();
        let lists: Vec<Vec<Value>> = stream::iter(reads).buffered(PARALLEL_READS).try_collect().await?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// One resource of `Microsoft.Network` or `Microsoft.Compute`.
    pub(crate) async fn read_resource(&self, id: &ResourceId) -> Result<Value, AzureError> {
        let is_compute = id.resource_type().to_ascii_lowercase().starts_with("microsoft.compute/");
        let api_version = if is_compute { COMPUTE } else { NETWORK };
        self.get(self.endpoint.of(id.as_str(), api_version)?, id.as_str()).await
    }

    /// Every resource of one type in a subscription.
    pub(crate) async fn list_all(
        &self,
        subscription: &str,
        resource_type: &str,
        api_version: &str,
    ) -> Result<Vec<Value>, AzureError> {
        let path = subscription_list(subscription, resource_type)?;
        self.list(self.endpoint.of(&path, api_version)?, &path).await
    }

    /// In four rounds, each in parallel: the VM; its NICs; what they name and the VNets of their subnets; what those
    /// subnets name.
    pub(crate) async fn read_vm_estate(&self, vm: &ResourceId) -> Result<Vec<Value>, AzureError> {
        let machine = self.get(self.endpoint.of(vm.as_str(), COMPUTE)?, vm.as_str()).await?;
        let mut seen = HashSet::new();

        let mut nics = Wanted::new(&mut seen);
        for nic in items(&machine, &["properties", "networkProfile", "networkInterfaces"]) {
            nics.add(nic)?;
        }
        let nics = self.read_all(nics.ids).await?;

        let mut around = Wanted::new(&mut seen);
        let mut subnets = HashSet::new();
        for nic in &nics {
            around.add_under(nic, &["properties", "networkSecurityGroup"])?;
            for configuration in items(nic, &["properties", "ipConfigurations"]) {
                around.add_under(configuration, &["properties", "publicIPAddress"])?;
                for group in items(configuration, &["properties", "applicationSecurityGroups"]) {
                    around.add(group)?;
                }
                // A pool and a NAT rule are children of the load balancer that makes the VM reachable.
                for list in ["loadBalancerBackendAddressPools", "loadBalancerInboundNatRules"] {
                    for child in items(configuration, &["properties", list]) {
                        if let Some(balancer) = own_id(child)?.and_then(|id| id.parent())
                            && balancer.is_type("Microsoft.Network/loadBalancers")
                        {
                            around.push(balancer);
                        }
                    }
                }
                if let Some(subnet) = reference(configuration, &["properties", "subnet"])? {
                    let network = subnet
                        .parent()
                        .filter(|network| network.is_type("Microsoft.Network/virtualNetworks"))
                        .ok_or_else(|| unreadable(subnet.as_str(), "it is no subnet of a virtual network"))?;
                    around.push(network);
                    subnets.insert(subnet);
                }
            }
        }
        let around = self.read_all(around.ids).await?;

        let mut filters = Wanted::new(&mut seen);
        for network in &around {
            for subnet in items(network, &["properties", "subnets"]) {
                if own_id(subnet)?.is_some_and(|id| subnets.contains(&id)) {
                    filters.add_under(subnet, &["properties", "networkSecurityGroup"])?;
                    filters.add_under(subnet, &["properties", "routeTable"])?;
                }
            }
        }
        let filters = self.read_all(filters.ids).await?;

        Ok(std::iter::once(machine).chain(nics).chain(around).chain(filters).collect())
    }

    /// The resources that exist, in the order of `ids`. All are of `Microsoft.Network`.
    async fn read_all(&self, ids: Vec<ResourceId>) -> Result<Vec<Value>, AzureError> {
        let reads: Vec<_> = ids.iter().map(|id| self.read_if_there(id)).collect();
        let found: Vec<Option<Value>> = stream::iter(reads).buffered(PARALLEL_READS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn read_if_there(&self, id: &ResourceId) -> Result<Option<Value>, AzureError> {
        match self.get(self.endpoint.of(id.as_str(), NETWORK)?, id.as_str()).await {
            Ok(resource) => Ok(Some(resource)),
            Err(AzureError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Ids to be read next, each once, however it is spelled.
struct Wanted<'a> {
    seen: &'a mut HashSet<ResourceId>,
    ids: Vec<ResourceId>,
}

impl<'a> Wanted<'a> {
    fn new(seen: &'a mut HashSet<ResourceId>) -> Self {
        Wanted { seen, ids: Vec::new() }
    }

    fn push(&mut self, id: ResourceId) {
        if self.seen.insert(id.clone()) {
            self.ids.push(id);
        }
    }

    /// Adds the resource that `{"id": ...}` names.
    fn add(&mut self, reference: &Value) -> Result<(), AzureError> {
        if let Some(id) = own_id(reference)? {
            self.push(id);
        }
        Ok(())
    }

    fn add_under(&mut self, value: &Value, path: &[&str]) -> Result<(), AzureError> {
        if let Some(id) = reference(value, path)? {
            self.push(id);
        }
        Ok(())
    }
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn reference(value: &Value, path: &[&str]) -> Result<Option<ResourceId>, AzureError> {
    match at(value, path) {
        Some(reference) => own_id(reference),
        None => Ok(None),
    }
}

/// The id of `{"id": ...}`. One that cannot be read is an error and not an absence: an NSG that is overlooked would
/// make a VM look open or, worse, closed.
fn own_id(value: &Value) -> Result<Option<ResourceId>, AzureError> {
    match value.get("id").and_then(Value::as_str) {
        Some(text) => ResourceId::parse(text)
            .map(Some)
            .map_err(|error| unreadable("a resource reference", &error.to_string())),
        None => Ok(None),
    }
}
