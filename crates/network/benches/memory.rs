//! Evaluation and planning in memory: `scripts/bench network-memory`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark fails by panicking"
)]

use std::net::{IpAddr, Ipv4Addr};

use ajar_network::address::Prefix;
use ajar_network::exposure::{NsgInput, exposures};
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::plan::{
    DeploymentName, Desired, ExistingRules, GrantedFlow, ProtectedPort, Protection, ProtectionState, plan,
    verify,
};
use ajar_network::ports::{PortRange, Protocol};
use ajar_network::reachability::{Destination, Flow, InboundRules};
use ajar_network::resource_id::ResourceId;
use divan::{Bencher, black_box};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

fn main() {
    divan::main();
}

const MANAGEMENT: [u16; 4] = [22, 3389, 5985, 5986];

/// Ports, sources and destinations as NSGs of a company have them: most rules are about services, one in five about
/// management, from offices, partners, tags or the whole Internet.
fn rules(count: usize) -> Vec<Value> {
    let ports = ["443", "22", "8080-8090", "1433", "3389", "80", "5985-5986", "5432", "*", "9000"];
    (0..count)
        .map(|i| {
            let office = format!("203.{}.{}.0/24", i / 250 % 250, i % 250);
            let source = match i % 7 {
                0 => json!({"sourceAddressPrefix": "Internet"}),
                1 | 2 => json!({"sourceAddressPrefix": office}),
                3 => json!({"sourceAddressPrefixes": [office, format!("198.51.100.{}", i % 256)]}),
                4 => json!({"sourceAddressPrefix": "VirtualNetwork"}),
                5 => json!({"sourceAddressPrefix": "10.0.0.0/8"}),
                _ => json!({"sourceAddressPrefix": office}),
            };
            let mut properties = json!({
                "provisioningState": "Succeeded", "priority": 1100 + 2 * i, "direction": "Inbound",
                "access": if i % 9 == 8 { "Deny" } else { "Allow" }, "protocol": if i % 4 == 3 { "*" } else { "Tcp" },
                "sourcePortRange": "*", "destinationPortRange": ports[i % ports.len()],
                "destinationAddressPrefix": "*",
            });
            for (key, value) in source.as_object().unwrap() {
                properties[key] = value.clone();
            }
            json!({"name": format!("rule-{i}"), "properties": properties})
        })
        .collect()
}

fn nsg(count: usize) -> Value {
    json!({"id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/networkSecurityGroups/n",
        "name": "n", "properties": {"securityRules": rules(count)}})
}

fn input(count: usize) -> NsgInput {
    serde_json::from_value(nsg(count)).unwrap()
}

#[divan::bench(args = [10, 50, 100, 1000])]
fn four_ports(bencher: Bencher<'_, '_>, count: usize) {
    let input = input(count);
    let rules = InboundRules::from_meanings(&input.rules);
    bencher.bench_local(|| black_box(&rules).exposures(&MANAGEMENT, Protocol::Tcp));
}

/// Rules about addresses only, one in five about management: what most NSGs consist of.
#[divan::bench(args = [10, 50, 100, 1000])]
fn four_ports_addresses_only(bencher: Bencher<'_, '_>, count: usize) {
    let mut json = nsg(count);
    for (i, rule) in json["properties"]["securityRules"].as_array_mut().unwrap().iter_mut().enumerate() {
        let properties = &mut rule["properties"];
        let tag =
            properties["sourceAddressPrefix"].as_str().is_some_and(|t| t.starts_with(char::is_alphabetic));
        if tag {
            properties["sourceAddressPrefix"] = json!(format!("192.0.{}.0/24", i % 250));
        }
        if properties["destinationPortRange"] == "*" {
            properties["destinationPortRange"] = json!("8443");
        }
    }
    let input: NsgInput = serde_json::from_value(json).unwrap();
    let rules = InboundRules::from_meanings(&input.rules);
    bencher.bench_local(|| black_box(&rules).exposures(&MANAGEMENT, Protocol::Tcp));
}

#[divan::bench(args = [10, 50, 100, 1000])]
fn four_ports_and_preparation(bencher: Bencher<'_, '_>, count: usize) {
    let input = input(count);
    bencher.bench_local(|| exposures(black_box(&input), &MANAGEMENT, Protocol::Tcp));
}

/// Everything that an assessment asks: both bounds and the sources that each rule decides.
#[divan::bench(args = [10, 50, 100, 1000])]
fn four_ports_of_one_vm_with_evidence(bencher: Bencher<'_, '_>, count: usize) {
    let nsg = NetworkSecurityGroup::from_json(nsg(count)).unwrap();
    let rules = InboundRules::of(&nsg);
    let destination = Destination::address("10.0.0.4".parse().unwrap());
    let flows =
        MANAGEMENT.map(|port| Flow { destination: destination.clone(), protocol: Protocol::Tcp, port });
    bencher.bench_local(|| flows.iter().map(|f| black_box(&rules).reach(f)).collect::<Vec<_>>());
}

#[divan::bench]
fn reading_50_rules(bencher: Bencher<'_, '_>) {
    let text = nsg(50).to_string();
    bencher
        .counter(divan::counter::BytesCount::of_str(&text))
        .bench_local(|| serde_json::from_str::<NsgInput>(black_box(&text)).unwrap());
}

#[divan::bench]
fn reading_50_rules_into_values(bencher: Bencher<'_, '_>) {
    let text = nsg(50).to_string();
    bencher
        .counter(divan::counter::BytesCount::of_str(&text))
        .bench_local(|| serde_json::from_str::<Value>(black_box(&text)).unwrap());
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn address(i: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0004 + u32::try_from(i).unwrap()))
}

/// Many VMs behind one NSG, each protected on two ports, and grants spread over them, each from its own address.
fn desired(vms: usize, grants: usize) -> Desired {
    let vm = |i: usize| {
        ResourceId::parse(&format!(
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm-{i}"
        ))
        .unwrap()
    };
    let port = |port| ProtectedPort { ports: PortRange::single(port), protocol: Protocol::Tcp };
    Desired {
        deployment: DeploymentName::parse("prod").unwrap(),
        protections: (0..vms)
            .map(|i| Protection {
                vm: vm(i),
                addresses: vec![address(i)],
                released: Vec::new(),
                ports: vec![port(22), port(3389)],
                exceptions: Vec::new(),
                existing_rules: ExistingRules::Supersede,
                flush_connection: false,
                state: ProtectionState::Enabled,
            })
            .collect(),
        grants: (0..grants)
            .map(|i| GrantedFlow {
                id: format!("g{i}"),
                vm: vm(i % vms),
                addresses: vec![address(i % vms)],
                ports: PortRange::single(if i % 2 == 0 { 22 } else { 3389 }),
                protocol: Protocol::Tcp,
                sources: vec![Prefix::single(IpAddr::V4(Ipv4Addr::from_bits(
                    0xC633_0000 + u32::try_from(i % 100).unwrap(),
                )))],
                start: now() - SignedDuration::from_hours(1),
                end: now() + SignedDuration::from_hours(2),
                requester: format!("user{i}@contoso.com"),
            })
            .collect(),
        originals: Vec::new(),
        original_flush_connection: None,
    }
}

/// An NSG of 1000 rules less a few to grow by, those of 500 grants on 250 VMs among them.
fn full() -> (NetworkSecurityGroup, Desired) {
    let desired = desired(250, 500);
    let others = NetworkSecurityGroup::from_json(nsg(0)).unwrap();
    let ours = match plan(&others, &desired, now()).unwrap().write {
        ajar_network::plan::Write::Whole(whole) => whole.rules().len(),
        other => panic!("{other:?}"),
    };
    let others = NetworkSecurityGroup::from_json(nsg(995 - ours)).unwrap();
    (others, desired)
}

fn applied(nsg: &NetworkSecurityGroup, desired: &Desired) -> NetworkSecurityGroup {
    match plan(nsg, desired, now()).unwrap().write {
        ajar_network::plan::Write::Whole(whole) => whole,
        other => panic!("{other:?}"),
    }
}

#[divan::bench]
fn plan_1000_rules_500_grants_from_nothing(bencher: Bencher<'_, '_>) {
    let (nsg, desired) = full();
    assert_eq!(applied(&nsg, &desired).rules().len(), 995);
    bencher.bench_local(|| plan(black_box(&nsg), black_box(&desired), now()).unwrap());
}

#[divan::bench]
fn plan_1000_rules_500_grants_again(bencher: Bencher<'_, '_>) {
    let (nsg, desired) = full();
    let nsg = applied(&nsg, &desired);
    bencher.bench_local(|| plan(black_box(&nsg), black_box(&desired), now()).unwrap());
}

#[divan::bench]
fn plan_1000_rules_500_grants_one_ended(bencher: Bencher<'_, '_>) {
    let (nsg, mut desired) = full();
    let nsg = applied(&nsg, &desired);
    desired.grants[17].end = now();
    bencher.bench_local(|| plan(black_box(&nsg), black_box(&desired), now()).unwrap());
}

#[divan::bench(sample_count = 10)]
fn verify_1000_rules_500_grants(bencher: Bencher<'_, '_>) {
    let (nsg, desired) = full();
    let nsg = applied(&nsg, &desired);
    bencher.bench_local(|| verify(black_box(&nsg), black_box(&desired), now()).unwrap());
}
