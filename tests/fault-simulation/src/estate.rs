//! The estate of a run: VMs in two subnets, behind shared NSGs.

use crate::random::Random;
use crate::script::Script;
use ajar_access::ports::identity::Caller;
use ajar_network::resource_id::ResourceId;
use serde_json::{Value, json};

pub(crate) const SUBSCRIPTION: &str = "11111111-1111-1111-1111-111111111111";
const TENANT: &str = "22222222-2222-2222-2222-222222222222";

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
    Caller { object_id: object_id(number), tenant_id: TENANT.to_owned(), name: name.to_owned() }
}

/// A rule that lets TCP in.
pub(crate) fn rule(name: &str, priority: u64, access: &str, source: &str, ports: &str) -> Value {
    json!({"name": name, "properties": {"priority": priority, "direction": "Inbound", "access": access,
        "protocol": "Tcp", "sourceAddressPrefix": source, "sourcePortRange": "*", "destinationAddressPrefix": "*",
        "destinationPortRange": ports, "description": "people's own"}})
}

/// The NSGs on the way to a VM: its subnet's, its interface's, or both.
pub(crate) fn nsgs_of(script: &Script, vm: usize) -> Vec<usize> {
    let mut random = Random::new(script.seed, 100 + vm as u64);
    let count = script.profile.nsgs;
    let subnet = subnet_nsg(script, subnet_of(vm));
    let own = (subnet.is_none() || random.chance(40)).then(|| random.below(count as u64) as usize);
    let mut all: Vec<usize> = subnet.into_iter().chain(own).collect();
    all.dedup();
    all
}

fn subnet_of(vm: usize) -> usize {
    vm % 2
}

fn subnet_nsg(script: &Script, subnet: usize) -> Option<usize> {
    let mut random = Random::new(script.seed, 50 + subnet as u64);
    // An NSG is a subnet's or interfaces', never both in this estate: subnets take the first two.
    (subnet < script.profile.nsgs && random.chance(60)).then_some(subnet)
}

/// The estate as the simulator reads it.
pub(crate) fn estate(script: &Script) -> String {
    let mut all = vec![
        json!({"id": format!("/tenants/{TENANT}"), "type": "Microsoft.Resources/tenants", "name": TENANT}),
        json!({"id": "/providers/Microsoft.Authorization/roleDefinitions/owner", "name": "owner",
            "type": "Microsoft.Authorization/roleDefinitions", "properties": {"permissions": [{"actions": ["*"]}]}}),
        json!({"id": "a0000000-0000-4000-8000-000000000099", "name": "ajar-identity",
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
    assign(99, "a0000000-0000-4000-8000-000000000099");
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
    let network = id("Microsoft.Network/virtualNetworks", "net");
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
    for number in 0..script.profile.vms {
        let subnet = subnet_of(number);
        let nic = id("Microsoft.Network/networkInterfaces", &format!("nic-{number}"));
        let mut properties = json!({"virtualMachine": {"id": vm(number).as_str()}, "primary": true,
            "ipConfigurations": [{"name": "one", "properties": {"primary": true,
                "privateIPAddress": format!("10.{subnet}.{}.{}", number / 200, 4 + number % 200),
                "privateIPAllocationMethod": "Static", "privateIPAddressVersion": "IPv4",
                "subnet": {"id": format!("{network}/subnets/s{subnet}")}}}]});
        let own = nsgs_of(script, number).into_iter().find(|nsg| Some(*nsg) != subnet_nsg(script, subnet));
        if let Some(own) = own {
            properties["networkSecurityGroup"] = json!({"id": nsg(own)});
        }
        all.push(
            json!({"id": nic, "type": "Microsoft.Network/networkInterfaces", "name": format!("nic-{number}"),
            "location": "westeurope", "properties": properties}),
        );
        all.push(json!({"id": vm(number).as_str(), "type": "Microsoft.Compute/virtualMachines",
            "name": format!("vm-{number}"), "location": "westeurope",
            "properties": {"networkProfile": {"networkInterfaces": [{"id": nic}]}}}));
    }
    Value::Array(all).to_string()
}
