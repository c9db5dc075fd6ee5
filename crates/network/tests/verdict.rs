//! Reachability and the verdict on a VM: every row of the design's table and every sentence under it, and the
//! cases that other tools get wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_network::admin::{AdminAction, AdminRules};
use ajar_network::assessment::{Assessment, Internet, JitStatus, Reason, Status, assess};
use ajar_network::estate::Estate;
use ajar_network::ports::Protocol;
use ajar_network::resource_id::ResourceId;
use serde_json::{Value, json};

const GROUP: &str = "/subscriptions/s/resourceGroups/g/providers";

fn net(kind: &str, name: &str) -> String {
    format!("{GROUP}/Microsoft.Network/{kind}/{name}")
}

fn vm_id() -> ResourceId {
    ResourceId::parse(&format!("{GROUP}/Microsoft.Compute/virtualMachines/vm")).unwrap()
}

fn vm(nics: &[&str]) -> Value {
    let nics: Vec<Value> =
        nics.iter().map(|n| json!({"id": net("networkInterfaces", n).to_uppercase()})).collect();
    json!({"id": vm_id(), "properties": {"networkProfile": {"networkInterfaces": nics}}})
}

fn nic(name: &str, address: &str, nsg: Option<&str>, more: Value) -> Value {
    let mut configuration = json!({
        "privateIPAddress": address,
        "subnet": {"id": format!("{}/subnets/{name}", net("virtualNetworks", "v"))},
    });
    for (k, v) in more.as_object().unwrap() {
        configuration[k] = v.clone();
    }
    let mut properties = json!({"ipConfigurations": [{"name": "c", "properties": configuration}]});
    if let Some(nsg) = nsg {
        properties["networkSecurityGroup"] = json!({"id": net("networkSecurityGroups", nsg)});
    }
    json!({"id": net("networkInterfaces", name), "properties": properties})
}

/// A VNet with one subnet per (name, properties).
fn vnet(subnets: &[(&str, Value)]) -> Value {
    let id = net("virtualNetworks", "v");
    let subnets: Vec<Value> = subnets
        .iter()
        .map(|(name, p)| json!({"id": format!("{id}/subnets/{name}"), "name": name, "properties": p}))
        .collect();
    json!({"id": id, "properties": {"subnets": subnets}})
}

fn subnet_nsg(nsg: &str) -> Value {
    json!({"networkSecurityGroup": {"id": net("networkSecurityGroups", nsg)}})
}

fn nsg(name: &str, rules: Vec<Value>) -> Value {
    json!({"id": net("networkSecurityGroups", name), "properties": {"securityRules": rules}})
}

fn rule(name: &str, priority: u16, access: &str, changes: Value) -> Value {
    let mut properties = json!({
        "priority": priority, "access": access, "direction": "Inbound", "protocol": "Tcp",
        "sourceAddressPrefix": "*", "sourcePortRange": "*",
        "destinationAddressPrefix": "*", "destinationPortRange": "22",
    });
    for (k, v) in changes.as_object().unwrap() {
        if v.is_null() {
            properties.as_object_mut().unwrap().remove(k);
        } else {
            properties[k] = v.clone();
        }
    }
    json!({"name": name, "properties": properties})
}

fn judge(resources: Vec<Value>) -> Assessment {
    assess(&Estate::from_resources(resources), &vm_id(), JitStatus::Disabled)
}

/// A VM with one NIC whose NSG has these rules.
fn one(rules: Vec<Value>) -> Assessment {
    judge(vec![
        vm(&["a"]),
        nic("a", "10.0.0.4", Some("n"), json!({})),
        vnet(&[("a", json!({}))]),
        nsg("n", rules),
    ])
}

fn public_ip(sku: &str) -> Value {
    json!({"id": net("publicIPAddresses", "p"), "sku": {"name": sku}, "properties": {"ipAddress": "203.0.113.9"}})
}

fn with_public_ip() -> Value {
    json!({"publicIPAddress": {"id": net("publicIPAddresses", "p")}})
}

fn ports(assessment: &Assessment) -> Vec<(u16, Protocol)> {
    assessment.findings.iter().map(|f| (f.port, f.protocol)).collect()
}

// The table, row by row.

#[test]
fn row_1_jit_enabled_is_healthy_whatever_else() {
    let estate = Estate::from_resources([
        vm(&["a"]),
        nic("a", "10.0.0.4", Some("n"), json!({})),
        vnet(&[("a", json!({}))]),
        nsg("n", vec![rule("open", 100, "Allow", json!({}))]),
    ]);
    for (jit, protected_in_part) in [(JitStatus::Enabled, false), (JitStatus::EnabledInPart, true)] {
        let verdict = assess(&estate, &vm_id(), jit);
        assert_eq!(
            (verdict.status, verdict.reason),
            (Status::Healthy, Reason::JitEnabled { protected_in_part })
        );
        assert_eq!(verdict.findings.len(), 1, "what is open is listed all the same");
    }
    let none = Estate::from_resources([
        vm(&["a"]),
        nic("a", "10.0.0.4", None, json!({})),
        vnet(&[("a", json!({}))]),
    ]);
    assert_eq!(assess(&none, &vm_id(), JitStatus::Enabled).status, Status::Healthy);
}

#[test]
fn row_2_neither_nsg_nor_firewall_is_not_applicable_with_findings() {
    let verdict = judge(vec![vm(&["a"]), nic("a", "10.0.0.4", None, json!({})), vnet(&[("a", json!({}))])]);
    assert_eq!((verdict.status, &verdict.reason), (Status::NotApplicable, &Reason::NoEnforcementPoint));
    assert_eq!(verdict.findings.len(), 5);
    assert!(verdict.findings.iter().all(|f| f.internet == Internet::None && f.way_in == Some(false)));
    let public = judge(vec![
        vm(&["a"]),
        nic("a", "10.0.0.4", None, with_public_ip()),
        vnet(&[("a", json!({}))]),
        public_ip("Basic"),
    ]);
    assert_eq!(public.status, Status::NotApplicable);
    assert!(public.findings.iter().all(|f| f.internet == Internet::Everyone && f.way_in == Some(true)));
}

#[test]
fn row_3_an_nsg_without_allow_rule_is_healthy() {
    let verdict = one(vec![]);
    assert_eq!((verdict.status, verdict.reason), (Status::Healthy, Reason::NsgClosed));
    assert_eq!(
        one(vec![rule("web", 100, "Allow", json!({"destinationPortRange": "443"}))]).status,
        Status::Healthy
    );
}

#[test]
fn row_5_otherwise_is_unhealthy_with_rule_sources_and_internet() {
    let verdict = one(vec![rule("open", 300, "Allow", json!({}))]);
    assert_eq!((verdict.status, &verdict.reason), (Status::Unhealthy, &Reason::ManagementPortsOpen));
    let finding = &verdict.findings[0];
    assert_eq!((finding.port, finding.protocol, finding.internet), (22, Protocol::Tcp, Internet::Everyone));
    assert_eq!(finding.evidence[0].rule, "open");
    assert_eq!(finding.evidence[0].enforcement_point.name(), "n");
    let witness = finding.witness.clone().unwrap();
    assert_eq!((witness.destination, witness.port), ("10.0.0.4".parse().unwrap(), 22));
    assert!(witness.within.is_empty() && witness.outside.is_empty());
}

#[test]
fn behind_a_firewall_is_unknown_unless_the_nsg_is_closed_or_there_is_a_way_around() {
    let open = || nsg("n", vec![rule("open", 300, "Allow", json!({}))]);
    let routed = || vnet(&[("a", json!({"routeTable": {"id": net("routeTables", "r")}}))]);
    let route = || {
        json!({"id": net("routeTables", "r"), "properties": {"routes": [{"name": "all",
        "properties": {"addressPrefix": "0.0.0.0/0", "nextHopType": "virtualappliance", "nextHopIpAddress": "10.9.0.4"}}]}})
    };
    let behind = |nic: Value, more: Vec<Value>| {
        let mut all = vec![vm(&["a"]), nic, routed(), route()];
        all.extend(more);
        judge(all)
    };
    let verdict = behind(nic("a", "10.0.0.4", Some("n"), json!({})), vec![open()]);
    assert!(matches!((verdict.status, &verdict.reason), (Status::Unknown, Reason::BehindFirewall { .. })));
    assert_eq!(verdict.findings.len(), 1);
    let no_nsg = behind(nic("a", "10.0.0.4", None, json!({})), vec![]);
    assert!(matches!(no_nsg.reason, Reason::BehindFirewall { .. }));
    let closed = behind(nic("a", "10.0.0.4", Some("n"), json!({})), vec![nsg("n", vec![])]);
    assert_eq!(closed.status, Status::Healthy);
    let around =
        behind(nic("a", "10.0.0.4", Some("n"), with_public_ip()), vec![open(), public_ip("Standard")]);
    assert_eq!(around.status, Status::Unhealthy, "its own public address goes around the firewall");
    let same_network = judge(vec![
        vm(&["a"]),
        nic("a", "10.0.0.4", Some("n"), json!({})),
        open(),
        vnet(&[("a", json!({})), ("AzureFirewallSubnet", json!({}))]),
    ]);
    assert!(matches!(same_network.reason, Reason::BehindFirewall { .. }));
}

// The sentences under the table.

#[test]
fn the_management_ports_are_these_with_rdp_over_udp_too() {
    let all = one(vec![rule("all", 100, "Allow", json!({"destinationPortRange": "*", "protocol": "*"}))]);
    let tcp = Protocol::Tcp;
    assert_eq!(ports(&all), [(22, tcp), (3389, tcp), (3389, Protocol::Udp), (5985, tcp), (5986, tcp)]);
    let udp = one(vec![rule("udp", 100, "Allow", json!({"destinationPortRange": "*", "protocol": "UDP"}))]);
    assert_eq!(ports(&udp), [(3389, Protocol::Udp)]);
}

#[test]
fn a_source_within_the_virtual_network_counts() {
    let verdict = one(vec![rule("vnet", 100, "Allow", json!({"sourceAddressPrefix": "VirtualNetwork"}))]);
    assert_eq!(verdict.status, Status::Unhealthy);
    assert_eq!(verdict.findings[0].internet, Internet::None);
}

#[test]
fn default_rules_do_not_count_by_themselves() {
    // Everything from the VNet passes by AllowVnetInBound, and yet it is closed for this purpose.
    assert_eq!(
        one(vec![rule("other", 100, "Allow", json!({"destinationPortRange": "80"}))]).status,
        Status::Healthy
    );
}

/// Subnet rules, NIC rules.
fn two(subnet: Vec<Value>, nic_rules: Vec<Value>) -> Assessment {
    judge(vec![
        vm(&["a"]),
        nic("a", "10.0.0.4", Some("n"), json!({})),
        vnet(&[("a", subnet_nsg("s"))]),
        nsg("s", subnet),
        nsg("n", nic_rules),
    ])
}

#[test]
fn both_levels_must_pass_and_a_custom_rule_at_one_is_enough() {
    let allow = || vec![rule("open", 100, "Allow", json!({}))];
    let deny = || vec![rule("shut", 100, "Deny", json!({}))];
    assert_eq!(two(allow(), allow()).status, Status::Unhealthy);
    assert_eq!(two(deny(), allow()).status, Status::Healthy);
    assert_eq!(two(allow(), deny()).status, Status::Healthy);
    // The subnet lets the VNet in by default, the NIC's custom rule decides for the VNet only.
    let verdict = two(vec![], allow());
    assert_eq!(verdict.status, Status::Unhealthy);
    assert_eq!(verdict.findings[0].internet, Internet::None);
    assert_eq!(two(allow(), vec![]).findings[0].internet, Internet::None);
    let disjoint = two(
        vec![
            rule("x", 100, "Allow", json!({"sourceAddressPrefix": "198.51.100.0/24"})),
            rule("no", 200, "Deny", json!({})),
        ],
        vec![
            rule("y", 100, "Allow", json!({"sourceAddressPrefix": "203.0.113.0/24"})),
            rule("no", 200, "Deny", json!({})),
        ],
    );
    assert_eq!(disjoint.status, Status::Healthy);
}

#[test]
fn the_worst_nic_decides_and_one_without_nsg_and_way_in_is_left_out() {
    let base = |second: Value, more: Vec<Value>| {
        let mut all = vec![
            vm(&["a", "b"]),
            nic("a", "10.0.0.4", Some("n"), json!({})),
            second,
            vnet(&[("a", json!({})), ("b", json!({}))]),
            nsg("n", vec![]),
        ];
        all.extend(more);
        judge(all)
    };
    assert_eq!(base(nic("b", "10.0.1.4", None, json!({})), vec![]).status, Status::Healthy);
    let open = nsg("m", vec![rule("open", 100, "Allow", json!({}))]);
    assert_eq!(base(nic("b", "10.0.1.4", Some("m"), json!({})), vec![open]).status, Status::Unhealthy);
    let public = |sku: &str| base(nic("b", "10.0.1.4", None, with_public_ip()), vec![public_ip(sku)]);
    assert_eq!(public("Basic").status, Status::Unhealthy, "open by default");
    assert_eq!(public("Standard").status, Status::Healthy, "closed until an NSG allows");
    assert_eq!(public("").status, Status::Unknown, "treat a missing SKU as unknown");
    assert_eq!(base(nic("b", "10.0.1.4", None, with_public_ip()), vec![]).status, Status::Unknown);
}

#[test]
fn each_ip_configuration_is_judged_by_its_own_subnet_and_address() {
    let two_configurations = |second_rules: Vec<Value>| {
        let subnet = |name: &str| format!("{}/subnets/{name}", net("virtualNetworks", "v"));
        let configuration = |name: &str, address: &str, subnet_id: String| json!({"name": name, "properties": {"privateIPAddress": address, "subnet": {"id": subnet_id}}});
        judge(vec![
            vm(&["a"]),
            json!({"id": net("networkInterfaces", "a"), "properties": {"ipConfigurations": [
                configuration("first", "10.0.0.4", subnet("a")),
                configuration("second", "10.0.1.4", subnet("b")),
            ]}}),
            vnet(&[("a", subnet_nsg("shut")), ("b", subnet_nsg("second"))]),
            nsg("shut", vec![]),
            nsg("second", second_rules),
        ])
    };
    assert_eq!(two_configurations(vec![]).status, Status::Healthy);
    let verdict = two_configurations(vec![rule("open", 100, "Allow", json!({}))]);
    assert_eq!(verdict.status, Status::Unhealthy);
    assert_eq!(verdict.findings.len(), 1);
    assert_eq!(verdict.findings[0].address.to_string(), "10.0.1.4");
    let other = json!({"destinationAddressPrefix": "10.0.0.4"});
    let elsewhere = two_configurations(vec![rule("open", 100, "Allow", other)]);
    assert_eq!(
        elsewhere.status,
        Status::Healthy,
        "the rule is for an address that its NSG does not stand before"
    );
}

#[test]
fn an_allow_that_is_shadowed_in_part_is_found_with_the_rest_of_its_sources() {
    let verdict = one(vec![
        rule("shut", 100, "Deny", json!({"sourceAddressPrefix": "203.0.113.0/25"})),
        rule("open", 200, "Allow", json!({"sourceAddressPrefix": "203.0.113.0/24"})),
    ]);
    assert_eq!(verdict.status, Status::Unhealthy);
    assert_eq!(verdict.findings[0].sources.to_string(), "203.0.113.128/25");
    assert_eq!(verdict.findings[0].evidence.len(), 1);
}

#[test]
fn a_load_balancer_is_a_way_in_for_the_ports_it_leads_to() {
    let lb = net("loadBalancers", "lb");
    let frontend = format!("{lb}/frontendIPConfigurations/f");
    let nat = format!("{lb}/inboundNatRules/ssh");
    let balancer = |public: bool| {
        let mut front = json!({"id": frontend, "properties": {}});
        if public {
            front["properties"]["publicIPAddress"] = json!({"id": net("publicIPAddresses", "p")});
        }
        json!({"id": lb, "sku": {"name": "Standard"}, "properties": {"frontendIPConfigurations": [front],
            "inboundNatRules": [{"id": nat, "properties": {"frontendIPConfiguration": {"id": frontend.to_uppercase()},
                "protocol": "Tcp", "frontendPort": 50001, "backendPort": 22}}]}})
    };
    let way_in = |more: Vec<Value>| {
        let mut all = vec![
            vm(&["a"]),
            vnet(&[("a", json!({}))]),
            nic("a", "10.0.0.4", Some("n"), json!({"loadBalancerInboundNatRules": [{"id": nat}]})),
            nsg(
                "n",
                vec![rule(
                    "open",
                    100,
                    "Allow",
                    json!({"destinationPortRanges": ["22", "3389"], "destinationPortRange": null}),
                )],
            ),
        ];
        all.extend(more);
        let verdict = judge(all);
        verdict.findings.iter().map(|f| (f.port, f.way_in)).collect::<Vec<_>>()
    };
    assert_eq!(way_in(vec![balancer(true)]), [(22, Some(true)), (3389, Some(false))]);
    assert_eq!(way_in(vec![balancer(false)]), [(22, Some(false)), (3389, Some(false))]);
    assert_eq!(way_in(vec![]), [(22, None), (3389, None)]);
}

#[test]
fn scale_sets_and_classic_vms_are_not_supported() {
    let estate = Estate::default();
    for (text, reason) in [
        ("Microsoft.ClassicCompute/virtualMachines/x", Reason::ClassicVm),
        ("microsoft.compute/virtualmachinescalesets/s/virtualmachines/0", Reason::ScaleSetInstance),
    ] {
        let verdict =
            assess(&estate, &ResourceId::parse(&format!("{GROUP}/{text}")).unwrap(), JitStatus::Enabled);
        assert_eq!((verdict.status, verdict.reason), (Status::NotSupported, reason));
    }
}

#[test]
fn what_cannot_be_read_is_unknown_and_never_healthy() {
    let unknown = |resources: Vec<Value>| {
        let verdict = judge(resources);
        assert_eq!(verdict.status, Status::Unknown, "{verdict:?}");
    };
    unknown(vec![]);
    unknown(vec![vm(&[])]);
    unknown(vec![vm(&["a"])]);
    // The subnet is missing, so there may be an NSG on it that allows.
    unknown(vec![vm(&["a"]), nic("a", "10.0.0.4", Some("n"), json!({})), nsg("n", vec![])]);
    // The NSG is missing.
    unknown(vec![vm(&["a"]), nic("a", "10.0.0.4", Some("n"), json!({})), vnet(&[("a", json!({}))])]);
    unknown(vec![
        vm(&["a"]),
        nic("a", "no address", Some("n"), json!({})),
        vnet(&[("a", json!({}))]),
        nsg("n", vec![]),
    ]);
    let broken = json!({"id": net("networkSecurityGroups", "n"), "properties": {"securityRules": "?"}});
    unknown(vec![vm(&["a"]), nic("a", "10.0.0.4", Some("n"), json!({})), vnet(&[("a", json!({}))]), broken]);
    // But a level that is known to be shut decides, whatever the other is.
    let shut = judge(vec![
        vm(&["a"]),
        nic("a", "10.0.0.4", Some("missing"), json!({})),
        vnet(&[("a", subnet_nsg("s"))]),
        nsg("s", vec![rule("shut", 100, "Deny", json!({"protocol": "*", "destinationPortRange": "*"}))]),
    ]);
    assert_eq!(shut.status, Status::Healthy);
}

#[test]
fn an_unreadable_part_of_a_rule_is_explained_and_never_closed() {
    for part in [
        "access",
        "direction",
        "priority",
        "protocol",
        "sourceAddressPrefix",
        "destinationAddressPrefix",
        "destinationPortRange",
    ] {
        let verdict = one(vec![rule("odd", 100, "Allow", json!({part: "[variables('x')]"}))]);
        assert_eq!(verdict.status, Status::Unknown, "{part}");
        let Reason::Unreadable { problems } = &verdict.reason else { panic!("{verdict:?}") };
        assert!(problems.iter().any(|p| p.starts_with("odd: ")), "{part}: {problems:?}");
        // A deny that may not match does not protect either.
        let verdict = one(vec![
            rule("odd", 100, "Deny", json!({part: "[variables('x')]"})),
            rule("open", 200, "Allow", json!({})),
        ]);
        assert_ne!(verdict.status, Status::Healthy, "{part}");
    }
    // What a certain deny precedes does no harm.
    let verdict =
        one(vec![rule("shut", 100, "Deny", json!({})), rule("odd", 200, "Allow", json!({"protocol": "?"}))]);
    assert_eq!(verdict.status, Status::Healthy);
}

// What other tools get wrong (network-semantics, section 5).

#[test]
fn priority_decides() {
    let shadowed = one(vec![rule("open", 200, "Allow", json!({})), rule("shut", 100, "Deny", json!({}))]);
    assert_eq!(shadowed.status, Status::Healthy);
    let late = one(vec![rule("open", 100, "Allow", json!({})), rule("shut", 200, "Deny", json!({}))]);
    assert_eq!(late.status, Status::Unhealthy);
}

#[test]
fn a_narrow_deny_does_not_protect() {
    for changes in [
        json!({"sourceAddressPrefix": "198.51.100.0/24"}),
        json!({"protocol": "Udp"}),
        json!({"destinationAddressPrefix": "10.0.0.5"}),
        json!({"destinationPortRange": "23-65535"}),
        json!({"sourcePortRange": "1-1023"}),
        json!({"direction": "Outbound"}),
    ] {
        let verdict =
            one(vec![rule("shut", 100, "Deny", changes.clone()), rule("open", 200, "Allow", json!({}))]);
        assert_eq!(
            (verdict.status, verdict.findings[0].internet),
            (Status::Unhealthy, Internet::Everyone),
            "{changes}"
        );
    }
    // Only together do the two halves shut it.
    let halves = one(vec![
        rule("low", 100, "Deny", json!({"sourceAddressPrefix": "0.0.0.0/1"})),
        rule("high", 101, "Deny", json!({"sourceAddressPrefix": "128.0.0.0/1"})),
        rule("open", 200, "Allow", json!({})),
    ]);
    assert_eq!(halves.status, Status::Healthy);
}

#[test]
fn lists_wildcards_halves_and_case_are_seen() {
    for changes in [
        json!({"destinationPortRange": null, "destinationPortRanges": ["443", "20-25"]}),
        json!({"destinationPortRange": "", "destinationPortRanges": ["22"]}),
        json!({"destinationPortRange": "*"}),
        json!({"destinationPortRange": "0-65535"}),
        json!({"sourceAddressPrefix": "", "sourceAddressPrefixes": ["0.0.0.0/1", "128.0.0.0/1"]}),
        json!({"sourceAddressPrefix": "0.0.0.0/0"}),
        json!({"sourceAddressPrefix": "8.8.8.8/0"}),
        json!({"sourceAddressPrefix": "INTERNET"}),
        json!({"protocol": "TCP", "access": "allow", "direction": "inbound"}),
        json!({"protocol": "*"}),
        json!({"priority": "100"}),
        json!({"destinationPortRange": 22}),
        json!({"sourcePortRange": "53"}),
        json!({"destinationAddressPrefix": "VirtualNetwork"}),
    ] {
        let verdict = one(vec![rule("open", 100, "Allow", changes.clone())]);
        assert_eq!(verdict.status, Status::Unhealthy, "{changes}");
        assert_eq!(verdict.findings[0].internet, Internet::Everyone, "{changes}");
    }
    let two_rules = one(vec![
        rule("low", 100, "Allow", json!({"sourceAddressPrefix": "0.0.0.0/1"})),
        rule("high", 101, "Allow", json!({"sourceAddressPrefix": "128.0.0.0/1"})),
    ]);
    assert_eq!(two_rules.findings[0].internet, Internet::Everyone);
    assert_eq!(two_rules.findings[0].evidence.len(), 2);
}

#[test]
fn only_the_packets_own_protocol_address_and_family_count() {
    for changes in [
        json!({"protocol": "Icmp", "destinationPortRange": "*"}),
        json!({"protocol": "Udp"}),
        json!({"destinationAddressPrefix": "10.0.0.5"}),
        json!({"sourceAddressPrefix": "::/0"}),
        json!({"direction": "Outbound"}),
    ] {
        assert_eq!(one(vec![rule("r", 100, "Allow", changes.clone())]).status, Status::Healthy, "{changes}");
    }
    let v6 = judge(vec![
        vm(&["a"]),
        nic("a", "fd00::4", Some("n"), json!({})),
        vnet(&[("a", json!({}))]),
        nsg("n", vec![rule("open", 100, "Allow", json!({"sourceAddressPrefix": "::/0"}))]),
    ]);
    assert_eq!((v6.status, v6.findings[0].internet), (Status::Unhealthy, Internet::Everyone));
}

#[test]
fn sources_that_are_not_the_whole_internet_are_told_apart() {
    for (source, internet) in [
        (json!({"sourceAddressPrefix": "AzureCloud"}), Internet::Some),
        (json!({"sourceAddressPrefix": "203.0.113.7"}), Internet::Some),
        (json!({"sourceAddressPrefix": "10.0.0.0/8"}), Internet::None),
        (json!({"sourceAddressPrefix": "AzureLoadBalancer"}), Internet::None),
        (
            json!({"sourceAddressPrefix": null, "sourceApplicationSecurityGroups":
            [{"id": net("applicationSecurityGroups", "jump")}]}),
            Internet::None,
        ),
    ] {
        let verdict = one(vec![rule("r", 100, "Allow", source.clone())]);
        assert_eq!((verdict.status, verdict.findings[0].internet), (Status::Unhealthy, internet), "{source}");
    }
    let no_internet = one(vec![
        rule("shut", 100, "Deny", json!({"sourceAddressPrefix": "Internet"})),
        rule("open", 200, "Allow", json!({})),
    ]);
    assert_eq!((no_internet.status, no_internet.findings[0].internet), (Status::Unhealthy, Internet::None));
}

#[test]
fn a_destination_group_matches_its_members_only() {
    let group = net("applicationSecurityGroups", "web");
    let verdict = |member: Value| {
        judge(vec![
            vm(&["a"]),
            nic("a", "10.0.0.4", Some("n"), member),
            vnet(&[("a", json!({}))]),
            nsg(
                "n",
                vec![rule(
                    "open",
                    100,
                    "Allow",
                    json!({"destinationAddressPrefix": null,
            "destinationApplicationSecurityGroups": [{"id": group}]}),
                )],
            ),
        ])
    };
    assert_eq!(verdict(json!({})).status, Status::Healthy);
    assert_eq!(verdict(json!({"applicationSecurityGroups": [{"id": "?"}]})).status, Status::Unknown);
    let member = json!({"applicationSecurityGroups": [{"id": group.to_uppercase()}]});
    assert_eq!(verdict(member).status, Status::Unhealthy);
}

#[test]
fn a_restricted_source_port_is_an_opening_from_that_port() {
    let verdict = one(vec![rule("open", 100, "Allow", json!({"sourcePortRange": "53"}))]);
    assert_eq!(verdict.findings[0].witness.as_ref().unwrap().source_port, 53);
    // The NIC passes other source ports than the subnet: no packet has both.
    let apart = two(
        vec![rule("a", 100, "Allow", json!({"sourcePortRange": "53"})), rule("no", 200, "Deny", json!({}))],
        vec![rule("b", 100, "Allow", json!({"sourcePortRange": "54"})), rule("no", 200, "Deny", json!({}))],
    );
    assert_eq!(apart.status, Status::Healthy);
}

#[test]
fn the_assessment_reads_back_from_its_json() {
    let verdict = one(vec![rule("open", 300, "Allow", json!({"sourceAddressPrefix": "203.0.113.0/24"}))]);
    let json = serde_json::to_value(&verdict).unwrap();
    assert_eq!(json["status"], "unhealthy");
    assert_eq!(json["reason"]["code"], "ManagementPortsOpen");
    assert_eq!(json["findings"][0]["sources"]["addresses"], json!(["203.0.113.0/24"]));
    assert_eq!(json["findings"][0]["evidence"][0]["enforcementPoint"], net("networkSecurityGroups", "n"));
    assert_eq!(json["findings"][0]["witness"]["sourcePort"], 50_000);
    assert_eq!(serde_json::from_value::<Assessment>(json).unwrap(), verdict);
}

// Security admin rules, evaluated before the NSGs.

fn admin(rules: Vec<Value>) -> Value {
    let id = format!("{}/listNetworkManagerEffectiveSecurityAdminRules", net("virtualNetworks", "v"));
    json!({"id": id, "value": rules})
}

fn admin_rule(name: &str, priority: u16, access: &str, source: &str, ports: &[&str]) -> Value {
    json!({"id": net("networkManagers/m/securityAdminConfigurations/c/ruleCollections/r/rules", name),
        "kind": "Custom", "properties": {
            "protocol": "Tcp", "direction": "Inbound", "access": access, "priority": priority,
            "sources": [{"addressPrefixType": "IPPrefix", "addressPrefix": source}],
            "destinations": [{"addressPrefixType": "IPPrefix", "addressPrefix": "*"}],
            "sourcePortRanges": ["0-65535"], "destinationPortRanges": ports}})
}

fn under_admin_rules(admin_rules: Vec<Value>, rules: Vec<Value>) -> Estate {
    Estate::from_resources([
        vm(&["a"]),
        nic("a", "10.0.0.4", Some("n"), json!({})),
        vnet(&[("a", json!({}))]),
        nsg("n", rules),
        admin(admin_rules),
    ])
}

#[test]
fn a_security_admin_deny_ends_it_before_the_nsg() {
    let open = || vec![rule("open", 100, "Allow", json!({}))];
    let estate = under_admin_rules(vec![admin_rule("shut", 1, "Deny", "*", &["22"])], open());
    let verdict = assess(&estate, &vm_id(), JitStatus::Disabled);
    assert_eq!((verdict.status, verdict.reason), (Status::Healthy, Reason::NsgClosed));

    let estate = under_admin_rules(vec![admin_rule("shut", 1, "Deny", "0.0.0.0/1", &["22"])], open());
    let verdict = assess(&estate, &vm_id(), JitStatus::Disabled);
    assert_eq!(verdict.status, Status::Unhealthy);
    let sources = verdict.findings[0].sources.addresses();
    assert!(
        !sources.contains("8.8.8.8".parse().unwrap()) && sources.contains("203.0.113.7".parse().unwrap())
    );
    assert!(!verdict.findings[0].witness.as_ref().unwrap().source.to_string().starts_with("8."));
}

#[test]
fn a_security_admin_allow_hands_on_to_the_nsg() {
    let handed_on = |rules| {
        let first = admin_rule("ours", 1, "Allow", "203.0.113.0/24", &["22"]);
        let rest = admin_rule("shut", 2, "Deny", "*", &["22"]);
        assess(&under_admin_rules(vec![rest, first], rules), &vm_id(), JitStatus::Disabled)
    };
    assert_eq!(handed_on(vec![]).status, Status::Healthy, "the NSG does not let it pass");
    let verdict = handed_on(vec![rule("open", 100, "Allow", json!({}))]);
    assert_eq!(verdict.status, Status::Unhealthy);
    assert_eq!(verdict.findings[0].sources.to_string(), "203.0.113.0/24", "the rest was dropped before");
}

#[test]
fn a_security_admin_always_allow_goes_over_the_head_of_the_nsg() {
    let estate = under_admin_rules(
        vec![admin_rule("always", 1, "AlwaysAllow", "203.0.113.0/24", &["22"])],
        vec![rule("shut", 100, "Deny", json!({}))],
    );
    let verdict = assess(&estate, &vm_id(), JitStatus::Disabled);
    assert_eq!(verdict.status, Status::Unhealthy);
    assert_eq!(ports(&verdict), [(22, Protocol::Tcp)]);
    let evidence = &verdict.findings[0].evidence;
    assert_eq!(evidence[0].enforcement_point, ResourceId::parse(&net("virtualNetworks", "v")).unwrap());
    assert!(evidence[0].rule.ends_with("/rules/always"), "{evidence:?}");

    let verdict = assess(&estate, &vm_id(), JitStatus::Enabled);
    assert_eq!(verdict.reason, Reason::JitEnabled { protected_in_part: true });
    let elsewhere = under_admin_rules(vec![admin_rule("always", 1, "AlwaysAllow", "*", &["443"])], vec![]);
    let verdict = assess(&elsewhere, &vm_id(), JitStatus::Enabled);
    assert_eq!(verdict.reason, Reason::JitEnabled { protected_in_part: false });
}

#[test]
fn security_admin_rules_that_cannot_be_read_are_unknown() {
    let odd = admin_rule("odd", 1, "Sometimes", "*", &["22"]);
    let verdict = assess(&under_admin_rules(vec![odd], vec![]), &vm_id(), JitStatus::Disabled);
    assert_eq!(verdict.status, Status::Unknown);
    assert!(!verdict.findings[0].certain);

    let mut cut_off = admin(vec![]);
    cut_off["skipToken"] = json!("more");
    let estate = |last: Vec<Value>| {
        let closed = [
            vm(&["a"]),
            nic("a", "10.0.0.4", Some("n"), json!({})),
            vnet(&[("a", json!({}))]),
            nsg("n", vec![]),
            cut_off.clone(),
        ];
        Estate::from_resources(closed.into_iter().chain(last))
    };
    let verdict = assess(&estate(vec![]), &vm_id(), JitStatus::Disabled);
    assert_eq!(verdict.status, Status::Unknown);
    let verdict = assess(&estate(vec![admin(vec![])]), &vm_id(), JitStatus::Disabled);
    assert_eq!(verdict.status, Status::Healthy, "the last page came");
}

#[test]
fn the_published_example_of_security_admin_rules_is_read() {
    let examples = include_str!("data/restspec_examples.jsonl");
    let line =
        examples.lines().find(|l| l.contains("spec:NetworkManagerEffectiveSecurityAdminRulesList")).unwrap();
    let example: Value = serde_json::from_str(line).unwrap();
    let network = ResourceId::parse(&net("virtualNetworks", "v")).unwrap();
    let read = AdminRules::from_json(network, &example["responses"]["200"]["body"]);
    assert_eq!(read.rules.len(), 1);
    assert!(!read.complete, "the example has a skip token");
    let rule = &read.rules[0];
    assert_eq!((rule.action, rule.meaning.priority), (Some(AdminAction::Deny), Some(1)));
    assert!(rule.meaning.source.any && rule.meaning.source.unreadable.is_empty());
    assert!(rule.meaning.destination_ports.ports.contains(22));
    assert!(!rule.meaning.destination_ports.ports.contains(23));
}

#[test]
fn resources_that_decide_no_packet_are_no_problem_whatever_their_ids_look_like() {
    let estate = Estate::from_resources([
        json!({ "id": "/tenants/t", "type": "Microsoft.Resources/tenants" }),
        json!({ "id": "/providers/Microsoft.Authorization/roleDefinitions/r", "type": "Microsoft.Authorization/roleDefinitions" }),
    ]);
    assert!(estate.problems().is_empty(), "{:?}", estate.problems());
    let broken =
        Estate::from_resources([json!({ "id": "nsg", "type": "Microsoft.Network/networkSecurityGroups" })]);
    assert_eq!(broken.problems().len(), 1, "an NSG that cannot be placed is one");
}
