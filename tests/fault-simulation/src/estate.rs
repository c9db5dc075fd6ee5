//! The estate of a run: VMs in two subnets, behind shared NSGs.

use crate::random::Random;
use crate::script::Script;
use ajar_access::ports::identity::{Caller, SignIn};
use ajar_network::resource_id::ResourceId;
use serde_json::{Value, json};

pub(crate) const SUBSCRIPTION: &str = "11111111-1111-1111-1111-111111111111";
pub(crate) const TENANT: &str = "22222222-2222-2222-2222-222222222222";

/// The object id of Ajar's identity.
pub(crate) const AJAR_OBJECT: &str = "a0000000-0000-4000-8000-000000000099";

/// The people of the estate; the first configures, all may ask.
pub(crate) const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dan"];

fn group() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/demo")
}

fn id(kind: &str, name: &str) -> String {
    format!("{}/providers/{kind}/{name}", group())
}

/// The id of a VM.
pub(crate) fn vm(number: usize) -> ResourceId {
    ResourceId::parse(&id("Microsoft.Compute/virtualMachines", &format!("vm-{number}"))).expect("an id")
}

/// The id of an NSG.
pub(crate) fn nsg(number: usize) -> String {
    id("Microsoft.Network/networkSecurityGroups", &format!("nsg-{number}"))
}

fn object_id(number: usize) -> String {
    format!("a0000000-0000-4000-8000-{number:012}")
}

/// Somebody of the estate.
pub(crate) fn caller(name: &str) -> Caller {
    let number = PEOPLE.iter().position(|known| *known == name).expect("one of the people");
    Caller {
        object_id: object_id(number),
        tenant_id: TENANT.to_owned(),
        name: name.to_owned(),
        sign_in: SignIn::default(),
    }
}

/// A rule that lets TCP in.
pub(crate) fn rule(name: &str, priority: u64, access: &str, source: &str, ports: &str) -> Value {
    json!({"name": name, "properties": {"priority": priority, "direction": "Inbound", "access": access,
        "protocol": "Tcp", "sourceAddressPrefix": source, "sourcePortRange": "*", "destinationAddressPrefix": "*",
        "destinationPortRange": ports, "description": "people's own"}})
}

/// Where the network interface of a VM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub vm: usize,
    pub subnet: usize,
    /// The interface's own NSG.
    pub own: Option<usize>,
}

impl Place {
    /// Where it is at first.
    pub(crate) fn first(script: &Script, vm: usize) -> Place {
        let mut random = Random::new(script.seed, 100 + vm as u64);
        let count = script.profile.nsgs;
        let subnet = vm % 2;
        let of_subnet = subnet_nsg(script, subnet);
        let own = (of_subnet.is_none() || random.chance(40)).then(|| random.below(count as u64) as usize);
        Place { vm, subnet, own: own.filter(|own| Some(*own) != of_subnet) }
    }

    /// The NSGs on the way: the subnet's, the interface's, or both.
    pub(crate) fn nsgs(self, script: &Script) -> Vec<usize> {
        let subnet = subnet_nsg(script, self.subnet);
        subnet.into_iter().chain(self.own.filter(|own| Some(*own) != subnet)).collect()
    }

    /// The interface as people write it.
    pub(crate) fn interface(self) -> Value {
        let Place { vm: number, subnet, own } = self;
        let mut properties = json!({"virtualMachine": {"id": vm(number).as_str()}, "primary": true,
            "ipConfigurations": [{"name": "one", "properties": {"primary": true,
                "privateIPAddress": format!("10.{subnet}.{}.{}", number / 200, 4 + number % 200),
                "privateIPAllocationMethod": "Static", "privateIPAddressVersion": "IPv4",
                "subnet": {"id": format!("{}/subnets/s{subnet}", network())}}}]});
        if let Some(own) = own {
            properties["networkSecurityGroup"] = json!({"id": nsg(own)});
        }
        json!({"id": nic(number), "type": "Microsoft.Network/networkInterfaces", "name": format!("nic-{number}"),
            "location": "westeurope", "properties": properties})
    }
}

/// The NSGs on the way to a VM at first.
pub(crate) fn nsgs_of(script: &Script, vm: usize) -> Vec<usize> {
    Place::first(script, vm).nsgs(script)
}

/// The id of a VM's network interface.
pub(crate) fn nic(number: usize) -> String {
    id("Microsoft.Network/networkInterfaces", &format!("nic-{number}"))
}

fn network() -> String {
    id("Microsoft.Network/virtualNetworks", "net")
}

fn subnet_nsg(script: &Script, subnet: usize) -> Option<usize> {
    let mut random = Random::new(script.seed, 50 + subnet as u64);
    // An NSG is a subnet's or interfaces', never both in this estate: subnets take the first two.
    (subnet < script.profile.nsgs && random.chance(60)).then_some(subnet)
}

/// The estate as the simulator reads it.
pub(crate) fn estate(script: &Script) -> String {
    let places: Vec<Place> = (0..script.profile.vms).map(|vm| Place::first(script, vm)).collect();
    estate_with(script, &places)
}

/// The same with VMs in these places, nothing else changed.
pub(crate) fn estate_with(script: &Script, places: &[Place]) -> String {
    let mut all = vec![
        json!({"id": format!("/tenants/{TENANT}"), "type": "Microsoft.Resources/tenants", "name": TENANT}),
        json!({"id": "/providers/Microsoft.Authorization/roleDefinitions/owner", "name": "owner",
            "type": "Microsoft.Authorization/roleDefinitions", "properties": {"permissions": [{"actions": ["*"]}]}}),
        json!({"id": AJAR_OBJECT, "name": "ajar-identity",
            "type": "Microsoft.Graph/servicePrincipals", "properties": {"displayName": "Ajar",
            "appId": "b0000000-0000-4000-8000-000000000001"}}),
    ];
    let mut assign = |number: usize, principal: &str| {
        all.push(json!({"id": format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments/{number}"),
            "type": "Microsoft.Authorization/roleAssignments", "name": number.to_string(), "properties": {
            "principalId": principal,
            "roleDefinitionId": format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/owner"),
            "scope": format!("/subscriptions/{SUBSCRIPTION}")}}));
    };
    assign(99, AJAR_OBJECT);
    for number in 0..PEOPLE.len() {
        assign(number, &object_id(number));
    }
    for (number, name) in PEOPLE.iter().enumerate() {
        all.push(json!({"id": object_id(number), "type": "Microsoft.Graph/users", "name": name,
            "properties": {"displayName": name, "userPrincipalName": name}}));
    }
    for number in 0..script.profile.nsgs {
        let mut random = Random::new(script.seed, 10 + number as u64);
        let mut rules = vec![rule("AllowWeb", 310, "Allow", "*", "443")];
        if random.chance(80) {
            rules.push(rule("AllowManagement", random.between(100, 300), "Allow", "*", "22-3389"));
        } else {
            rules.push(rule("AllowSsh", random.between(100, 300), "Allow", "Internet", "22"));
        }
        if random.chance(30) {
            rules.push(rule("DenyRest", 4096, "Deny", "*", "*"));
        }
        all.push(json!({"id": nsg(number), "type": "Microsoft.Network/networkSecurityGroups",
            "name": format!("nsg-{number}"), "location": "westeurope", "tags": {"owner": "ops"},
            "properties": {"securityRules": rules}}));
    }
    let network = network();
    let subnets: Vec<Value> = (0..2)
        .map(|subnet| {
            let mut properties = json!({"addressPrefix": format!("10.{subnet}.0.0/16")});
            if let Some(number) = subnet_nsg(script, subnet) {
                properties["networkSecurityGroup"] = json!({"id": nsg(number)});
            }
            json!({"id": format!("{network}/subnets/s{subnet}"), "name": format!("s{subnet}"), "properties": properties})
        })
        .collect();
    all.push(json!({"id": network, "type": "Microsoft.Network/virtualNetworks", "name": "net", "location": "westeurope",
        "properties": {"addressSpace": {"addressPrefixes": ["10.0.0.0/8"]}, "subnets": subnets}}));
    for place in places {
        let number = place.vm;
        all.push(place.interface());
        all.push(json!({"id": vm(number).as_str(), "type": "Microsoft.Compute/virtualMachines",
            "name": format!("vm-{number}"), "location": "westeurope",
            "properties": {"vmId": format!("c0000000-0000-4000-8000-{number:012}"),
                "networkProfile": {"networkInterfaces": [{"id": nic(number)}]}}}));
    }
    Value::Array(all).to_string()
}
