//! An estate: ARM resources as JSON, joined into what filters the packets to each VM.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::nsg::NetworkSecurityGroup;
use crate::resource_id::ResourceId;

/// ARM resources, indexed.
#[derive(Debug, Clone, Default)]
pub struct Estate {
    vms: BTreeMap<ResourceId, Arc<Value>>,
    nsgs: BTreeMap<ResourceId, Arc<NetworkSecurityGroup>>,
}

/// What is known of one VM's network.
#[derive(Debug, Clone)]
pub struct VmNetwork {
    /// The VM.
    pub vm: ResourceId,
    /// Its network interfaces.
    pub nics: Vec<Nic>,
}

/// A network interface.
#[derive(Debug, Clone)]
pub struct Nic {
    /// Its id.
    pub id: ResourceId,
    /// The NSG on it.
    pub nsg: Option<ResourceId>,
    /// Its ip configurations.
    pub ip_configurations: Vec<IpConfiguration>,
}

/// An ip configuration.
#[derive(Debug, Clone)]
pub struct IpConfiguration {
    /// Its private address.
    pub address: Option<IpAddr>,
    /// The NSG on its subnet.
    pub subnet_nsg: Option<ResourceId>,
}

impl Estate {
    /// Builds an estate from resources as ARM or Resource Graph return them, in any order.
    pub fn from_resources(resources: impl IntoIterator<Item = Value>) -> Self {
        let _ = resources;
        Self::default()
    }

    /// The VMs, in order of id.
    pub fn vms(&self) -> impl Iterator<Item = &ResourceId> {
        self.vms.keys()
    }

    /// An NSG of the estate.
    #[must_use]
    pub fn nsg(&self, id: &ResourceId) -> Option<&Arc<NetworkSecurityGroup>> {
        self.nsgs.get(id)
    }

    /// A VM's network.
    #[must_use]
    pub fn vm(&self, id: &ResourceId) -> Option<VmNetwork> {
        self.vms.get(id).map(|_| VmNetwork { vm: id.clone(), nics: Vec::new() })
    }
}
