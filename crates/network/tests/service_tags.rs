//! Service tags with published prefixes are resolved exactly; others stay symbolic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_network::address::{AddressSet, Prefix, ServiceTag};
use ajar_network::assessment::{Internet, JitStatus, assess};
use ajar_network::estate::Estate;
use ajar_network::exposure::{NsgInput, exposures};
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::ports::Protocol;
use ajar_network::reachability::InboundRules;
use ajar_network::resource_id::ResourceId;
use ajar_network::service_tags::ServiceTags;
use serde_json::{Value, json};

fn published() -> Value {
    json!({"changeNumber": 300, "cloud": "Public", "values": [
        {"name": "AzureCloud.westeurope", "id": "AzureCloud.westeurope", "properties": {
            "changeNumber": 40, "region": "westeurope", "platform": "Azure", "systemService": "",
            "addressPrefixes": ["20.50.0.0/18", "2603:1020:206::/48"]}},
        {"name": "Storage", "properties": {"addressPrefixes": ["20.38.98.0/24"]}},
        {"name": "Internet", "properties": {"addressPrefixes": ["0.0.0.0/0"]}},
    ]})
}

fn tags() -> ServiceTags {
    ServiceTags::from_json(published().to_string().as_bytes()).unwrap()
}

fn rules() -> Value {
    let rule = |name: &str, priority: u16, access: &str, source: &str| {
        json!({"name": name, "properties": {"priority": priority, "access": access, "direction": "Inbound",
            "protocol": "Tcp", "sourceAddressPrefix": source, "sourcePortRange": "*",
            "destinationAddressPrefix": "*", "destinationPortRange": "22"}})
    };
    json!([
        rule("storage", 100, "Deny", "storage"),
        rule("cloud", 200, "Allow", "AZURECLOUD.WestEurope"),
        rule("part", 300, "Allow", "20.38.0.0/16"),
        rule("gateways", 400, "Allow", "GatewayManager"),
    ])
}

#[test]
fn known_tags_become_addresses_and_unknown_ones_stay() {
    let mut nsg: NsgInput =
        serde_json::from_value(json!({"properties": {"securityRules": rules()}})).unwrap();
    nsg.resolve(&tags());
    let found = exposures(&nsg, &[22], Protocol::Tcp);
    let expected: AddressSet = ["20.50.0.0/18", "2603:1020:206::/48", "20.38.0.0/16"]
        .iter()
        .map(|p| Prefix::parse(p).unwrap())
        .collect::<AddressSet>()
        .difference(&Prefix::parse("20.38.98.0/24").unwrap().into());
    assert_eq!(found[0].sources.addresses(), expected);
    assert_eq!(
        found[0].service_tags().iter().map(ServiceTag::as_str).collect::<Vec<_>>(),
        ["GatewayManager"]
    );
    assert_eq!(found[0].internet, Internet::Some);

    let whole = NetworkSecurityGroup::from_json(json!({"properties": {"securityRules": rules()}})).unwrap();
    let resolved = whole.with_service_tags(&tags());
    assert_eq!(InboundRules::of(&resolved).exposures(&[22], Protocol::Tcp), found);
    assert_eq!(resolved.to_json(), whole.to_json(), "what is written back keeps the tags");
}

#[test]
fn an_estate_is_assessed_with_the_addresses() {
    let net = |kind: &str, name: &str| {
        format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/{kind}/{name}")
    };
    let vm = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm";
    let (nic, nsg, vnet) =
        (net("networkInterfaces", "n"), net("networkSecurityGroups", "n"), net("virtualNetworks", "v"));
    let subnet = format!("{vnet}/subnets/a");
    let mut estate = Estate::from_resources([
        json!({"id": vm, "properties": {"networkProfile": {"networkInterfaces": [{"id": nic}]}}}),
        json!({"id": nic, "properties": {"networkSecurityGroup": {"id": nsg}, "ipConfigurations": [
            {"name": "c", "properties": {"privateIPAddress": "10.0.0.4", "subnet": {"id": subnet}}}]}}),
        json!({"id": vnet, "properties": {"subnets": [{"id": subnet, "properties": {}}]}}),
        json!({"id": nsg, "properties": {"securityRules": rules()}}),
    ]);
    let id = ResourceId::parse(vm).unwrap();
    let open_to = |estate: &Estate, address: &str| {
        let sources = &assess(estate, &id, JitStatus::Disabled).findings[0].sources;
        sources.addresses().contains(address.parse().unwrap())
    };
    assert!(!open_to(&estate, "20.50.0.1"));
    estate.resolve_service_tags(&tags());
    assert!(open_to(&estate, "20.50.0.1"));
    assert!(!open_to(&estate, "20.38.98.1"), "the deny of the tag comes first");
}

#[test]
fn tags_that_differ_by_network_are_never_resolved() {
    assert_eq!(tags().len(), 2);
    assert!(tags().addresses(&ServiceTag::internet()).is_none());
    assert!(tags().addresses(&ServiceTag::parse("STORAGE").unwrap()).is_some());
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let mut bad = published();
    bad["values"][1]["properties"]["addressPrefixes"][0] = json!("20.38.98.0/240");
    let error = ServiceTags::from_json(bad.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "service tag Storage");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("20.38.98.0/240"));
    bad["values"][1]["name"] = json!("a b");
    let error = ServiceTags::from_json(bad.to_string().as_bytes()).unwrap_err();
    assert!(error.to_string().contains("values[1].name"));
    assert!(ServiceTags::from_json(b"[]").unwrap_err().to_string().contains("Service Tags file"));
}
