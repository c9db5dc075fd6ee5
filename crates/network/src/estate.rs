//! An estate: ARM resources as JSON, joined into what filters the packets to each VM.
//!
//! Tolerant of anything: what cannot be read becomes a [`Problem`] of the estate, and where a VM's network depends
//! on it, a problem of that VM.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::AdminRules;
use crate::json;
use crate::nsg::NetworkSecurityGroup;
use crate::ports::{Port, Protocol};
use crate::resource_id::ResourceId;
use crate::service_tags::ServiceTags;

/// Something of an estate that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The resource's id, as far as it has one.
    pub subject: String,
    /// What is wrong, in words.
    pub explanation: String,
}

/// The NSG at one level of a path.
#[derive(Debug, Clone)]
pub enum NsgLevel {
    /// No NSG: no filtering.
    None,
    /// An NSG of the estate.
    Known {
        /// Its id.
        id: ResourceId,
        /// The NSG.
        nsg: Arc<NetworkSecurityGroup>,
    },
    /// There is or may be an NSG, but the estate does not have it.
    Unreadable {
        /// The NSG or subnet.
        subject: String,
        /// What is wrong.
        explanation: String,
    },
}

impl NsgLevel {
    /// Whether there is, or may be, an NSG.
    #[must_use]
    pub const fn filters(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The NSG's id, when it is known that there is one.
    #[must_use]
    pub const fn id(&self) -> Option<&ResourceId> {
        match self {
            Self::Known { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// Whether an address without NSG is open to the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenByDefault {
    /// A Basic public address or load balancer leads to it.
    Yes,
    /// Nothing leads to it, or Standard resources only.
    No,
    /// The SKU of what leads to it is not known.
    Unknown,
}

/// The SKU of a public address or load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sku {
    /// Open by default (retired).
    Basic,
    /// Closed until an NSG allows.
    Standard,
}

/// The public address of an ip configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicIp {
    /// Its id; the network interface's where the reference cannot be read.
    pub id: ResourceId,
    /// The address, when assigned and known.
    pub address: Option<IpAddr>,
    /// Its SKU, when known.
    pub sku: Option<Sku>,
}

/// A load balancer that an ip configuration is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balancer {
    /// Its id.
    pub id: ResourceId,
    /// Whether it has a public frontend; none when the estate does not have it.
    pub is_public: Option<bool>,
    /// Its SKU, when known.
    pub sku: Option<Sku>,
    /// The VM's ports that its rules lead to from public frontends; port 0 with protocol Any means all.
    pub ports: Vec<(Port, Protocol)>,
}

/// An ip configuration of a network interface.
#[derive(Debug, Clone)]
pub struct IpConfiguration {
    /// Its id, or the interface's id and its name.
    pub name: String,
    /// Its private address; none when not known.
    pub address: Option<IpAddr>,
    /// Its subnet.
    pub subnet: Option<ResourceId>,
    /// The NSG of its subnet.
    pub subnet_nsg: NsgLevel,
    /// Its application security groups; none when one of them cannot be read.
    pub application_security_groups: Option<BTreeSet<ResourceId>>,
    /// Its own public address.
    pub public_ip: Option<PublicIp>,
    /// The load balancers it is behind.
    pub load_balancers: Vec<Balancer>,
    /// The security admin rules of its VNet, as far as the estate has them.
    pub admin_rules: Option<Arc<AdminRules>>,
    /// What shows that a firewall or virtual appliance stands before it; empty: nothing does.
    pub firewall: Vec<String>,
}

impl IpConfiguration {
    fn leads(balancer: &Balancer, port: Port, protocol: Protocol) -> Option<bool> {
        let leads = |(p, proto): &(Port, Protocol)| {
            (*p == 0 || *p == port) && (*proto == Protocol::Any || *proto == protocol)
        };
        balancer.is_public.map(|public| public && balancer.ports.iter().any(leads))
    }

    /// Whether the Internet has a way to the port: the public address, or a rule of a public load balancer. None:
    /// a load balancer is not known.
    #[must_use]
    pub fn way_in(&self, port: Port, protocol: Protocol) -> Option<bool> {
        if self.public_ip.is_some() {
            return Some(true);
        }
        let ways: Vec<_> = self.load_balancers.iter().map(|b| Self::leads(b, port, protocol)).collect();
        match () {
            () if ways.contains(&Some(true)) => Some(true),
            () if ways.contains(&None) => None,
            () => Some(false),
        }
    }

    /// Whether the port would be open to the Internet without any NSG.
    #[must_use]
    pub fn open_without_nsg(&self, port: Port, protocol: Protocol) -> OpenByDefault {
        let by_sku = |sku: Option<Sku>| match sku {
            Some(Sku::Basic) => OpenByDefault::Yes,
            Some(Sku::Standard) => OpenByDefault::No,
            None => OpenByDefault::Unknown,
        };
        let balancers = self.load_balancers.iter().map(|b| match Self::leads(b, port, protocol) {
            Some(true) => by_sku(b.sku),
            Some(false) => OpenByDefault::No,
            None => OpenByDefault::Unknown,
        });
        let ways: Vec<_> = self.public_ip.iter().map(|p| by_sku(p.sku)).chain(balancers).collect();
        match () {
            () if ways.contains(&OpenByDefault::Yes) => OpenByDefault::Yes,
            () if ways.contains(&OpenByDefault::Unknown) => OpenByDefault::Unknown,
            () => OpenByDefault::No,
        }
    }
}

/// A network interface of a VM.
#[derive(Debug, Clone)]
pub struct Nic {
    /// Its id.
    pub id: ResourceId,
    /// The NSG on it.
    pub nsg: NsgLevel,
    /// Its ip configurations.
    pub ip_configurations: Vec<IpConfiguration>,
}

/// What is known of one VM's network.
#[derive(Debug, Clone)]
pub struct VmNetwork {
    /// The VM.
    pub vm: ResourceId,
    /// Its network interfaces, as far as the estate has them.
    pub nics: Vec<Nic>,
    /// What is missing or could not be read.
    pub problems: Vec<String>,
}

impl VmNetwork {
    /// The NSGs that filter the VM, each with the VM's addresses behind it, in order of id.
    #[must_use]
    pub fn enforcement_points(&self) -> BTreeMap<ResourceId, Vec<IpAddr>> {
        let mut points: BTreeMap<ResourceId, Vec<IpAddr>> = BTreeMap::new();
        for nic in &self.nics {
            for configuration in &nic.ip_configurations {
                for id in [configuration.subnet_nsg.id(), nic.nsg.id()].into_iter().flatten() {
                    let addresses = points.entry(id.clone()).or_default();
                    if let Some(address) = configuration.address.filter(|a| !addresses.contains(a)) {
                        addresses.push(address);
                    }
                }
            }
        }
        points
    }
}

#[derive(Debug, Clone, Default)]
struct Subnet {
    nsg: Option<String>,
    route_table: Option<String>,
}

#[derive(Debug, Clone)]
struct LoadBalancer {
    sku: Option<Sku>,
    is_public: bool,
    /// Ports by what leads there: a backend pool's or an inbound NAT rule's id, lower case.
    ports: HashMap<String, Vec<(Port, Protocol)>>,
}

/// ARM resources, indexed. Firewall rules are not looked into yet: where one stands in the way is noted.
#[derive(Debug, Clone, Default)]
pub struct Estate {
    vms: BTreeMap<ResourceId, Value>,
    nics: HashMap<ResourceId, Value>,
    public_ips: HashMap<ResourceId, PublicIp>,
    subnets: HashMap<ResourceId, Subnet>,
    nsgs: HashMap<ResourceId, Arc<NetworkSecurityGroup>>,
    unreadable_nsgs: HashMap<ResourceId, String>,
    /// Route tables, with the routes that lead to a virtual appliance.
    route_tables: HashMap<ResourceId, Vec<String>>,
    load_balancers: HashMap<ResourceId, LoadBalancer>,
    /// Firewalls by the VNet they are in.
    firewalls: HashMap<ResourceId, Vec<String>>,
    /// Security admin rules by the VNet they are in force on.
    admin_rules: HashMap<ResourceId, Arc<AdminRules>>,
    problems: Vec<Problem>,
}

/// The operation whose answer lists a VNet's security admin rules.
const ADMIN_RULES: &str = "/listNetworkManagerEffectiveSecurityAdminRules";

/// Whether resources of this type can say something about packets to VMs.
fn decides_packets(resource_type: &str) -> bool {
    let resource_type = resource_type.to_ascii_lowercase();
    ["microsoft.compute/", "microsoft.network/", "microsoft.classiccompute/"]
        .iter()
        .any(|namespace| resource_type.starts_with(namespace))
}

impl Estate {
    /// Builds an estate from resources as ARM or Resource Graph return them, in any order and of any type; types it
    /// has no use for are ignored. Of two resources with one id the later counts.
    ///
    /// Security admin rules are no resources. What `POST <VNet id>/listNetworkManagerEffectiveSecurityAdminRules`
    /// answers is taken when its URL path is put in as `id`; several pages under one id are joined.
    pub fn from_resources(resources: impl IntoIterator<Item = Value>) -> Self {
        let mut estate = Self::default();
        for resource in resources {
            estate.add(resource);
        }
        estate
    }

    fn problem(&mut self, subject: impl Into<String>, explanation: impl Into<String>) {
        self.problems.push(Problem { subject: subject.into(), explanation: explanation.into() });
    }

    fn add(&mut self, resource: Value) {
        let Some(text) = json::text(&resource, "id") else {
            let start: String = resource.to_string().chars().take(80).collect();
            return self.problem(start, "a resource without an id is ignored");
        };
        let operation = text.len().checked_sub(ADMIN_RULES.len()).and_then(|at| text.split_at_checked(at));
        let network =
            operation.filter(|(_, end)| end.eq_ignore_ascii_case(ADMIN_RULES)).map(|(start, _)| start);
        let id = match ResourceId::parse(network.unwrap_or(text)) {
            Ok(id) => id,
            // Users, tenants and role definitions have ids of other forms, and decide no packet.
            Err(_) if json::text(&resource, "type").is_some_and(|kind| !decides_packets(kind)) => return,
            Err(error) => return self.problem(text.to_owned(), error.to_string()),
        };
        if network.is_some() {
            return self.add_admin_rules(id, &resource);
        }
        match id.resource_type().to_ascii_lowercase().as_str() {
            "microsoft.compute/virtualmachines" => {
                self.vms.insert(id, resource);
            }
            "microsoft.network/networkinterfaces" => {
                self.nics.insert(id, resource);
            }
            "microsoft.network/publicipaddresses" => {
                let address =
                    json::text(json::properties(&resource), "ipAddress").and_then(|t| t.parse().ok());
                self.public_ips.insert(id.clone(), PublicIp { id, address, sku: sku(&resource) });
            }
            "microsoft.network/virtualnetworks" => {
                for subnet in json::list(json::properties(&resource), "subnets") {
                    self.add_subnet(&id, subnet);
                }
            }
            "microsoft.network/virtualnetworks/subnets" => {
                if let Some(network) = id.parent() {
                    self.add_subnet(&network, &resource);
                }
            }
            "microsoft.network/networksecuritygroups" => match NetworkSecurityGroup::from_json(resource) {
                Ok(nsg) => {
                    self.nsgs.insert(id, Arc::new(nsg));
                }
                Err(error) => {
                    self.unreadable_nsgs.insert(id.clone(), error.to_string());
                    self.problem(id.to_string(), error.to_string());
                }
            },
            "microsoft.network/routetables" => {
                let routes = json::list(json::properties(&resource), "routes")
                    .iter()
                    .filter(|r| {
                        json::text(json::properties(r), "nextHopType")
                            .is_some_and(|t| t.eq_ignore_ascii_case("VirtualAppliance"))
                    })
                    .map(|r| format!("route {} of {id}", json::text(r, "name").unwrap_or("without name")))
                    .collect();
                self.route_tables.insert(id, routes);
            }
            "microsoft.network/loadbalancers" => {
                let balancer = load_balancer(&resource);
                self.load_balancers.insert(id, balancer);
            }
            "microsoft.network/azurefirewalls" => self.add_firewall(&id, &resource),
            _ => {}
        }
    }

    fn add_subnet(&mut self, network: &ResourceId, subnet: &Value) {
        let given = json::text(subnet, "id").map(str::to_owned);
        let text =
            given.or_else(|| json::text(subnet, "name").map(|name| format!("{network}/subnets/{name}")));
        let Some(id) = text.as_deref().and_then(|t| ResourceId::parse(t).ok()) else {
            return self.problem(network.to_string(), "it has a subnet without id or name");
        };
        if id.name().eq_ignore_ascii_case("AzureFirewallSubnet") {
            self.firewalls.entry(network.clone()).or_default().push(format!("subnet {id}"));
        }
        let properties = json::properties(subnet);
        self.subnets.insert(
            id,
            Subnet {
                nsg: json::reference(properties, "networkSecurityGroup").map(str::to_owned),
                route_table: json::reference(properties, "routeTable").map(str::to_owned),
            },
        );
    }

    /// Adds what `listNetworkManagerEffectiveSecurityAdminRules` of the VNet answered, one page or all of it.
    pub fn add_admin_rules(&mut self, network: ResourceId, answer: &Value) {
        let page = AdminRules::from_json(network.clone(), answer);
        let rules = match self.admin_rules.remove(&network) {
            Some(before) => Arc::unwrap_or_clone(before).joined(page),
            None => page,
        };
        self.admin_rules.insert(network, Arc::new(rules));
    }

    fn add_firewall(&mut self, id: &ResourceId, resource: &Value) {
        let networks: BTreeSet<ResourceId> = json::list(json::properties(resource), "ipConfigurations")
            .iter()
            .filter_map(|c| json::reference(json::properties(c), "subnet"))
            .filter_map(|t| ResourceId::parse(t).ok()?.parent())
            .collect();
        for network in networks {
            self.firewalls.entry(network).or_default().push(format!("firewall {id}"));
        }
    }

    /// Puts the addresses of known service tags in their place in all NSGs: for assessments, not for planning.
    pub fn resolve_service_tags(&mut self, tags: &ServiceTags) {
        for nsg in self.nsgs.values_mut() {
            *nsg = Arc::new(nsg.with_service_tags(tags));
        }
    }

    /// What could not be read, in order of the input.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
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

    /// A VM's network; none when the estate has no such VM.
    #[must_use]
    pub fn vm(&self, id: &ResourceId) -> Option<VmNetwork> {
        let (id, vm) = self.vms.get_key_value(id)?;
        let mut network = VmNetwork { vm: id.clone(), nics: Vec::new(), problems: Vec::new() };
        let interfaces = json::get(json::properties(vm), "networkProfile")
            .and_then(|p| json::get(p, "networkInterfaces"))
            .and_then(Value::as_array);
        let interfaces = interfaces.map_or(&[][..], Vec::as_slice);
        if interfaces.is_empty() {
            network.problems.push(format!("{id} lists no network interface"));
        }
        for interface in interfaces {
            let text = json::text(interface, "id").unwrap_or_default();
            let known = ResourceId::parse(text).ok().and_then(|nic| self.nics.get_key_value(&nic));
            match known {
                Some((nic_id, nic)) => network.nics.push(self.nic(nic_id, nic, &mut network.problems)),
                None => network.problems.push(format!("network interface `{text}` is not in the estate")),
            }
        }
        Some(network)
    }

    fn nsg_level(&self, reference: Option<&str>) -> NsgLevel {
        let Some(text) = reference else { return NsgLevel::None };
        let unreadable = |explanation: &str| NsgLevel::Unreadable {
            subject: text.to_owned(),
            explanation: explanation.to_owned(),
        };
        match ResourceId::parse(text) {
            Err(_) => unreadable("the reference to this network security group cannot be read"),
            Ok(id) => match (self.nsgs.get(&id), self.unreadable_nsgs.get(&id)) {
                (Some(nsg), _) => NsgLevel::Known { id, nsg: Arc::clone(nsg) },
                (None, Some(error)) => unreadable(error),
                (None, None) => unreadable("this network security group is not in the estate"),
            },
        }
    }

    fn nic(&self, id: &ResourceId, nic: &Value, problems: &mut Vec<String>) -> Nic {
        let properties = json::properties(nic);
        let configurations = json::list(properties, "ipConfigurations");
        if configurations.is_empty() {
            problems.push(format!("network interface {id} lists no ip configuration"));
        }
        Nic {
            id: id.clone(),
            nsg: self.nsg_level(json::reference(properties, "networkSecurityGroup")),
            ip_configurations: configurations.iter().map(|c| self.ip_configuration(id, c)).collect(),
        }
    }

    fn ip_configuration(&self, nic: &ResourceId, configuration: &Value) -> IpConfiguration {
        let properties = json::properties(configuration);
        let name = json::text(configuration, "id").map_or_else(
            || {
                format!(
                    "{nic}/ipConfigurations/{}",
                    json::text(configuration, "name").unwrap_or("without name")
                )
            },
            str::to_owned,
        );
        let subnet_text = json::reference(properties, "subnet").unwrap_or_default();
        let subnet = ResourceId::parse(subnet_text).ok();
        let known = subnet.as_ref().and_then(|id| self.subnets.get(id));
        let subnet_nsg = known.map_or_else(
            || NsgLevel::Unreadable {
                subject: if subnet_text.is_empty() { name.clone() } else { subnet_text.to_owned() },
                explanation:
                    "this subnet is not in the estate, so whether it has a network security group is not \
                              known"
                        .to_owned(),
            },
            |s| self.nsg_level(s.nsg.as_deref()),
        );
        let mut firewall = Vec::new();
        if let Some(routes) = known
            .and_then(|s| s.route_table.as_deref())
            .map(|t| ResourceId::parse(t).ok().and_then(|id| self.route_tables.get(&id)).ok_or(t))
        {
            match routes {
                Ok(routes) => firewall.extend(routes.iter().cloned()),
                Err(text) => firewall.push(format!("route table {text}, which is not in the estate")),
            }
        }
        if let Some(found) = subnet.as_ref().and_then(ResourceId::parent).and_then(|n| self.firewalls.get(&n))
        {
            firewall.extend(found.iter().cloned());
        }
        let admin_rules = subnet.as_ref().and_then(ResourceId::parent).and_then(|n| self.admin_rules.get(&n));
        let groups = json::list(properties, "applicationSecurityGroups");
        IpConfiguration {
            address: json::text(properties, "privateIPAddress").and_then(|t| t.trim().parse().ok()),
            subnet_nsg,
            application_security_groups: groups
                .iter()
                .map(|g| json::text(g, "id").and_then(|t| ResourceId::parse(t).ok()))
                .collect(),
            public_ip: json::get(properties, "publicIPAddress").map(|given| {
                // A reference that cannot be read is still a public address, of unknown SKU.
                let id = json::text(given, "id").and_then(|t| ResourceId::parse(t).ok());
                let known = id.as_ref().and_then(|id| self.public_ips.get(id)).cloned();
                known.unwrap_or_else(|| PublicIp {
                    id: id.unwrap_or_else(|| nic.clone()),
                    address: None,
                    sku: None,
                })
            }),
            load_balancers: self.balancers(properties),
            admin_rules: admin_rules.cloned(),
            firewall,
            subnet,
            name,
        }
    }

    fn balancers(&self, properties: &Value) -> Vec<Balancer> {
        let mut balancers: BTreeMap<ResourceId, Balancer> = BTreeMap::new();
        for list in ["loadBalancerBackendAddressPools", "loadBalancerInboundNatRules"] {
            for text in json::list(properties, list).iter().filter_map(|v| json::text(v, "id")) {
                let Some(id) = ResourceId::parse(text).ok().and_then(|id| id.parent()) else { continue };
                let known = self.load_balancers.get(&id);
                let balancer = balancers.entry(id.clone()).or_insert_with(|| Balancer {
                    id,
                    is_public: known.map(|b| b.is_public),
                    sku: known.and_then(|b| b.sku),
                    ports: Vec::new(),
                });
                let ports = known.and_then(|b| b.ports.get(&text.to_ascii_lowercase()));
                balancer.ports.extend(ports.into_iter().flatten());
            }
        }
        balancers.into_values().collect()
    }
}

fn sku(resource: &Value) -> Option<Sku> {
    let name = json::get(resource, "sku").and_then(|s| json::text(s, "name"))?;
    match name.to_ascii_lowercase().as_str() {
        "basic" => Some(Sku::Basic),
        "standard" | "standardv2" => Some(Sku::Standard),
        _ => None,
    }
}

fn load_balancer(resource: &Value) -> LoadBalancer {
    let properties = json::properties(resource);
    let public: BTreeSet<String> = json::list(properties, "frontendIPConfigurations")
        .iter()
        .filter(|f| {
            let p = json::properties(f);
            json::get(p, "publicIPAddress").is_some() || json::get(p, "publicIPPrefix").is_some()
        })
        .filter_map(|f| json::text(f, "id"))
        .map(str::to_ascii_lowercase)
        .collect();
    let mut ports: HashMap<String, Vec<(Port, Protocol)>> = HashMap::new();
    let target = |rule: &Value| {
        let p = json::properties(rule);
        let from_public = json::reference(p, "frontendIPConfiguration")
            .is_some_and(|f| public.contains(&f.to_ascii_lowercase()));
        let protocol =
            json::text(p, "protocol").and_then(|t| Protocol::parse(t).ok()).unwrap_or(Protocol::Any);
        // With a floating address the packet keeps the frontend's port.
        let key =
            if json::boolean(p, "enableFloatingIP") == Some(true) { "frontendPort" } else { "backendPort" };
        let port = json::number(p, key).and_then(|n| Port::try_from(n).ok()).unwrap_or(0);
        from_public.then_some((port, protocol))
    };
    for rule in json::list(properties, "loadBalancingRules") {
        let p = json::properties(rule);
        let pools = json::list(p, "backendAddressPools").iter().filter_map(|v| json::text(v, "id"));
        for pool in json::reference(p, "backendAddressPool").into_iter().chain(pools) {
            ports.entry(pool.to_ascii_lowercase()).or_default().extend(target(rule));
        }
    }
    for rule in json::list(properties, "inboundNatRules") {
        let pool = json::reference(json::properties(rule), "backendAddressPool");
        for key in json::text(rule, "id").into_iter().chain(pool) {
            ports.entry(key.to_ascii_lowercase()).or_default().extend(target(rule));
        }
    }
    LoadBalancer { sku: sku(resource), is_public: !public.is_empty(), ports }
}
