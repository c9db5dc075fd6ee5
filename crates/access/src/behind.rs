//! From a resource to the network interfaces and VMs behind it, by the references that Azure keeps on the referred-to
//! side.

use crate::Ajar;
use crate::error::AccessError;
use crate::ports::azure::AzureError;
use ajar_network::resource_id::ResourceId;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// More interfaces than this are read from the lists of the subscription instead of one by one.
const MOST_READS: usize = 40;

/// What is behind a resource.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// The network interfaces, as ARM JSON.
    pub(crate) interfaces: Vec<Value>,
    /// All of the subscription's resources, when there were so many interfaces that they had to be read.
    pub(crate) estate: Option<Vec<Value>>,
}

impl Behind {
    /// The VMs of the interfaces. Instances of scale sets have interfaces of another type and are not among them.
    pub(crate) fn vms(&self) -> BTreeSet<ResourceId> {
        let is_vm = |id: &ResourceId| id.is_type("Microsoft.Compute/virtualMachines");
        self.interfaces.iter().filter_map(machine_of).filter(is_vm).collect()
    }

    /// The private addresses of the interfaces.
    pub(crate) fn addresses(&self) -> BTreeSet<IpAddr> {
        self.interfaces.iter().flat_map(addresses_of).collect()
    }

    /// What the interface that holds a private address belongs to.
    pub(crate) fn holder(&self, address: IpAddr) -> Option<ResourceId> {
        let mut interfaces = self.interfaces.iter();
        machine_of(interfaces.find(|interface| addresses_of(interface).any(|own| own == address))?)
    }
}

fn machine_of(interface: &Value) -> Option<ResourceId> {
    ResourceId::parse(interface.pointer("/properties/virtualMachine/id")?.as_str()?).ok()
}

fn addresses_of(interface: &Value) -> impl Iterator<Item = IpAddr> {
    let configurations = interface.pointer("/properties/ipConfigurations").and_then(Value::as_array);
    let address = |one: &Value| one.pointer("/properties/privateIPAddress")?.as_str()?.parse().ok();
    configurations.into_iter().flatten().filter_map(address)
}

/// Reads what is behind an NSG, subnet, VNet, route table, public address, load balancer or network interface; `None`
/// when Azure does not know it.
pub(crate) async fn read(ajar: &Ajar, subject: &ResourceId) -> Result<Option<Behind>, AccessError> {
    let Some(resource) = read_one(ajar, subject).await? else { return Ok(None) };
    if subject.is_type("Microsoft.Network/networkInterfaces") {
        return Ok(Some(Behind { interfaces: vec![resource], estate: None }));
    }
    let mut interfaces = BTreeSet::new();
    let mut subnets = BTreeSet::new();
    collect(&resource, &mut interfaces, &mut subnets);
    // A VNet shows its subnets with what is in them; an NSG or route table only names them.
    if !subject.is_type("Microsoft.Network/virtualNetworks") {
        for subnet in subnets.iter().filter(|subnet| *subnet != subject) {
            if let Some(subnet) = read_one(ajar, subnet).await? {
                collect(&subnet, &mut interfaces, &mut BTreeSet::new());
            }
        }
    }
    if interfaces.len() > MOST_READS {
        let estate = ajar.ports.azure.subscription_estate(subject.subscription()).await?;
        let is_behind = |resource: &&Value| own_id(resource).is_some_and(|id| interfaces.contains(&id));
        let interfaces = estate.iter().filter(is_behind).cloned().collect();
        return Ok(Some(Behind { interfaces, estate: Some(estate) }));
    }
    let mut behind = Behind::default();
    for interface in &interfaces {
        behind.interfaces.extend(read_one(ajar, interface).await?);
    }
    Ok(Some(behind))
}

async fn read_one(ajar: &Ajar, id: &ResourceId) -> Result<Option<Value>, AccessError> {
    match ajar.ports.azure.resource(id).await {
        Ok(resource) => Ok(Some(resource)),
        Err(AzureError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn own_id(resource: &Value) -> Option<ResourceId> {
    ResourceId::parse(resource.get("id")?.as_str()?).ok()
}

/// Gathers the interfaces and subnets that a resource names anywhere: each type of resource has a place of its own for
/// them, and whatever else it names is of other types.
fn collect(value: &Value, interfaces: &mut BTreeSet<ResourceId>, subnets: &mut BTreeSet<ResourceId>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, interfaces, subnets)),
        Value::Object(fields) => {
            let mut part = own_id(value);
            while let Some(id) = part {
                if id.is_type("Microsoft.Network/networkInterfaces") {
                    interfaces.insert(id);
                    break;
                }
                if id.is_type("Microsoft.Network/virtualNetworks/subnets") {
                    subnets.insert(id);
                    break;
                }
                // The address of an interface is a child of it.
                part = id
                    .is_type("Microsoft.Network/networkInterfaces/ipConfigurations")
                    .then(|| id.parent())
                    .flatten();
            }
            fields.values().for_each(|field| collect(field, interfaces, subnets));
        }
        _ => {}
    }
}
