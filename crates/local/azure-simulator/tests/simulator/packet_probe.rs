//! The probe on hand-made cases: each is something that other tools get wrong.

use azure_simulator::ProbeError;
use serde_json::{Value, json};

use crate::machine::{Machine, machine, network};

const INTERNET: &str = "203.0.113.7";

/// One VM `vm` at 10.1.0.4 (a member of the group `app`), another `other` at 10.1.0.5, in a network that is
/// peered with 10.2.0.0/16; the NIC's NSG has the given rules: (name, priority, access, changed properties).
fn estate(rules: &[(&str, u64, &str, Value)]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(name, priority, access, changes)| {
            let mut properties = json!({"protocol": "Tcp", "sourcePortRange": "*", "destinationPortRange": "22",
                "sourceAddressPrefix": "*", "destinationAddressPrefix": "*", "access": access, "priority": priority,
                "direction": "Inbound"});
            for (key, value) in changes.as_object().unwrap() {
                properties[key] = value.clone();
            }
            json!({"name": name, "properties": properties})
        })
        .collect();
    let interface = |name: &str, address: &str, groups: Value, guarded: bool| {
        let mut properties = json!({"ipConfigurations": [{"name": "one", "properties": {"privateIPAddress": address,
            "primary": true, "subnet": {"id": network("virtualNetworks/net/subnets/a")}, "applicationSecurityGroups": groups}}]});
        if guarded {
            properties["networkSecurityGroup"] = json!({"id": network("networkSecurityGroups/NSG")});
        }
        json!({"id": network(&format!("networkInterfaces/{name}")), "type": "Microsoft.Network/networkInterfaces",
               "name": name, "location": "westeurope", "properties": properties})
    };
    let vm = |name: &str, interface: &str| {
        json!({"id": machine(name), "type": "Microsoft.Compute/virtualMachines", "name": name, "location": "westeurope",
               "properties": {"networkProfile": {"networkInterfaces": [{"id": network(&format!("networkInterfaces/{interface}"))}]}}})
    };
    json!([
        {"id": network("virtualNetworks/net"), "type": "Microsoft.Network/virtualNetworks", "name": "net", "location": "westeurope",
         "properties": {"addressSpace": {"addressPrefixes": ["10.1.0.0/16"]},
            "subnets": [{"name": "a", "properties": {"addressPrefix": "10.1.0.0/24"}}],
            "virtualNetworkPeerings": [
                {"name": "hub", "properties": {"peeringState": "Connected", "remoteAddressSpace": {"addressPrefixes": ["10.2.0.0/16"]}}},
                {"name": "gone", "properties": {"peeringState": "Disconnected", "remoteAddressSpace": {"addressPrefixes": ["10.3.0.0/16"]}}}]}},
        {"id": network("networkSecurityGroups/nsg"), "type": "Microsoft.Network/networkSecurityGroups", "name": "nsg",
         "location": "westeurope", "properties": {"securityRules": rules}},
        {"id": network("applicationSecurityGroups/app"), "type": "Microsoft.Network/applicationSecurityGroups", "name": "app",
         "location": "westeurope", "properties": {}},
        interface("vm-nic", "10.1.0.4", json!([{"id": network("applicationSecurityGroups/APP")}]), true),
        interface("other-nic", "10.1.0.5", json!([]), false),
        vm("vm", "vm-nic"),
        vm("other", "other-nic"),
    ])
}

/// Whether TCP 22 from `source` reaches the VM, and the deciding rule.
fn ssh(rules: &[(&str, u64, &str, Value)], source: &str) -> (bool, String) {
    let mut azure = Machine::of(&estate(rules).to_string());
    let (allowed, mut by) = azure.probe(source, &machine("vm"), 22, "tcp");
    (allowed, by.remove(0))
}

const DEFAULT: &str = "DenyAllInBound";

#[track_caller]
fn assert_ssh(rules: &[(&str, u64, &str, Value)], source: &str, allowed: bool, by: &str) {
    assert_eq!(ssh(rules, source), (allowed, by.to_owned()));
}

#[test]
fn the_earliest_rule_decides_whatever_the_order_in_the_list() {
    let rules = [("allow", 300, "Allow", json!({})), ("deny", 200, "Deny", json!({}))];
    assert_ssh(&rules, INTERNET, false, "deny");
    let narrow = [
        ("allow", 300, "Allow", json!({})),
        ("deny", 200, "Deny", json!({"sourceAddressPrefix": "198.51.100.0/24"})),
    ];
    assert_ssh(&narrow, INTERNET, true, "allow");
    assert_ssh(&narrow, "198.51.100.1", false, "deny");
}

#[test]
fn lists_of_ports_and_prefixes_count() {
    let ports = [(
        "a",
        300,
        "Allow",
        json!({"destinationPortRange": null, "destinationPortRanges": ["80", "20-25"]}),
    )];
    assert_ssh(&ports, INTERNET, true, "a");
    let prefixes = [(
        "a",
        300,
        "Allow",
        json!({"sourceAddressPrefix": "", "sourceAddressPrefixes": ["192.0.2.0/24", "203.0.113.7"]}),
    )];
    assert_ssh(&prefixes, INTERNET, true, "a");
    assert_ssh(&prefixes, "203.0.113.8", false, DEFAULT);
}

#[test]
fn all_ports_are_spelled_in_two_ways() {
    for ports in ["*", "0-65535"] {
        assert_ssh(&[("a", 300, "Allow", json!({"destinationPortRange": ports}))], INTERNET, true, "a");
    }
}

#[test]
fn source_ports_count() {
    let mut azure =
        Machine::of(&estate(&[("a", 300, "Allow", json!({"sourcePortRange": "1000-1010"}))]).to_string());
    let mut probe = |port: u16| {
        let packet = json!({"source": INTERNET, "sourcePort": port, "destination": machine("vm"), "port": 22, "protocol": "Tcp"});
        azure.azure.probe(&serde_json::from_value(packet).unwrap()).unwrap().allowed
    };
    assert!(probe(1010));
    assert!(!probe(1011));
}

#[test]
fn halves_of_the_internet_are_the_internet() {
    let one_rule = [(
        "a",
        300,
        "Allow",
        json!({"sourceAddressPrefix": null, "sourceAddressPrefixes": ["0.0.0.0/1", "128.0.0.0/1"]}),
    )];
    let two_rules = [
        ("low", 300, "Allow", json!({"sourceAddressPrefix": "0.0.0.0/1"})),
        ("high", 310, "Allow", json!({"sourceAddressPrefix": "128.0.0.0/1"})),
    ];
    assert_ssh(&one_rule, "1.2.3.4", true, "a");
    assert_ssh(&one_rule, INTERNET, true, "a");
    assert_ssh(&two_rules, "1.2.3.4", true, "low");
    assert_ssh(&two_rules, INTERNET, true, "high");
}

#[test]
fn the_ipv6_default_is_not_the_ipv4_one() {
    let v6 = [("a", 300, "Allow", json!({"sourceAddressPrefix": "::/0"}))];
    assert_ssh(&v6, INTERNET, false, DEFAULT);
    // See `v6-1` of the sample estate for the packet that it does let in.
}

#[test]
fn case_matters_nowhere() {
    for tag in ["INTERNET", "internet", "Internet"] {
        let rules = [(
            "a",
            300,
            "allow",
            json!({"sourceAddressPrefix": tag, "protocol": "TCP", "direction": "inbound"}),
        )];
        assert_ssh(&rules, INTERNET, true, "a");
    }
}

#[test]
fn internet_is_neither_the_network_nor_private_space() {
    let rules = [("a", 4000, "Deny", json!({"sourceAddressPrefix": "Internet"}))];
    assert_ssh(&rules, INTERNET, false, "a");
    assert_ssh(&rules, "10.1.9.9", true, "AllowVnetInBound");
    assert_ssh(&rules, "192.168.1.1", false, DEFAULT);
}

#[test]
fn peers_belong_to_the_network_while_they_are_connected() {
    assert_ssh(&[], "10.2.3.4", true, "AllowVnetInBound");
    assert_ssh(&[], "10.3.3.4", false, DEFAULT);
    assert_ssh(&[], "168.63.129.16", true, "AllowVnetInBound");
}

#[test]
fn load_balancer_probes_pass_by_their_own_tag() {
    let closed =
        [("a", 300, "Deny", json!({"sourceAddressPrefix": "VirtualNetwork", "sourcePortRange": "1"}))];
    assert_ssh(&closed, "168.63.129.16", true, "AllowVnetInBound");
    let rules = [
        ("lb", 300, "Allow", json!({"sourceAddressPrefix": "AzureLoadBalancer"})),
        ("rest", 310, "Deny", json!({})),
    ];
    assert_ssh(&rules, "168.63.129.16", true, "lb");
    assert_ssh(&rules, "10.1.0.9", false, "rest");
}

#[test]
fn a_tag_without_known_addresses_matches_only_sources_said_to_be_in_it() {
    let estate = estate(&[("cloud", 300, "Allow", json!({"sourceAddressPrefix": "AzureCloud"}))]).to_string();
    let mut azure = Machine::of(&estate);
    assert_eq!(azure.probe(INTERNET, &machine("vm"), 22, "Tcp").1, [DEFAULT]);
    let packet = json!({"source": INTERNET, "sourceTags": ["azurecloud"], "destination": machine("vm"), "port": 22, "protocol": "Tcp"});
    let verdict = azure.azure.probe(&serde_json::from_value(packet).unwrap()).unwrap();
    assert!(verdict.allowed);
}

#[test]
fn udp_and_icmp_rules_open_no_tcp_port() {
    for protocol in ["Udp", "Icmp", "Esp", "Ah"] {
        assert_ssh(&[("a", 300, "Allow", json!({"protocol": protocol}))], INTERNET, false, DEFAULT);
    }
    let any = [("a", 300, "Allow", json!({"protocol": "*"}))];
    assert_ssh(&any, INTERNET, true, "a");
}

#[test]
fn denies_of_another_protocol_or_destination_protect_nothing() {
    let allow = ("allow", 300, "Allow", json!({}));
    assert_ssh(&[("deny", 200, "Deny", json!({"protocol": "Udp"})), allow.clone()], INTERNET, true, "allow");
    let other = json!({"destinationAddressPrefix": "10.1.0.5"});
    assert_ssh(&[("deny", 200, "Deny", other), allow], INTERNET, true, "allow");
}

#[test]
fn an_allow_for_another_machine_is_none_for_this_one() {
    assert_ssh(
        &[("a", 300, "Allow", json!({"destinationAddressPrefix": "10.1.0.5"}))],
        INTERNET,
        false,
        DEFAULT,
    );
    assert_ssh(
        &[("a", 300, "Allow", json!({"destinationAddressPrefix": "10.1.0.0/29"}))],
        INTERNET,
        true,
        "a",
    );
    assert_ssh(
        &[("a", 300, "Allow", json!({"destinationAddressPrefix": "VirtualNetwork"}))],
        INTERNET,
        true,
        "a",
    );
}

#[test]
fn application_groups_stand_for_their_members() {
    let groups = json!([{"id": network("applicationSecurityGroups/app").to_uppercase()}]);
    let destination =
        json!({"destinationAddressPrefix": null, "destinationApplicationSecurityGroups": groups.clone()});
    assert_ssh(&[("a", 300, "Allow", destination)], INTERNET, true, "a");
    let elsewhere = json!([{"id": network("applicationSecurityGroups/none")}]);
    let destination =
        json!({"destinationAddressPrefix": null, "destinationApplicationSecurityGroups": elsewhere});
    assert_ssh(&[("a", 300, "Allow", destination)], INTERNET, false, DEFAULT);
    let source = json!({"sourceAddressPrefix": null, "sourceApplicationSecurityGroups": groups});
    let rules = [("members", 300, "Allow", source), ("rest", 310, "Deny", json!({}))];
    assert_ssh(&rules, "10.1.0.4", true, "members");
    assert_ssh(&rules, "10.1.0.5", false, "rest");
    assert_ssh(&rules, INTERNET, false, "rest");
}

#[test]
fn outbound_rules_do_not_count() {
    assert_ssh(&[("a", 300, "Allow", json!({"direction": "Outbound"}))], INTERNET, false, DEFAULT);
}

#[test]
fn both_levels_must_allow_and_the_subnet_comes_first() {
    let with_subnet_group = |access: &str| {
        let mut estate = estate(&[("nic", 300, "Allow", json!({}))]);
        let group = json!({"id": network("networkSecurityGroups/outer"), "type": "Microsoft.Network/networkSecurityGroups",
            "name": "outer", "location": "westeurope", "properties": {"securityRules": [{"name": "outer", "properties": {
                "protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*", "sourceAddressPrefix": "*",
                "destinationAddressPrefix": "*", "access": access, "priority": 100, "direction": "Inbound"}}]}});
        estate.as_array_mut().unwrap().push(group);
        estate[0]["properties"]["subnets"][0]["properties"]["networkSecurityGroup"] =
            json!({"id": network("networkSecurityGroups/outer")});
        Machine::of(&estate.to_string()).probe(INTERNET, &machine("vm"), 22, "Tcp")
    };
    assert_eq!(with_subnet_group("Allow"), (true, vec!["outer".to_owned(), "nic".to_owned()]));
    assert_eq!(with_subnet_group("Deny"), (false, vec!["outer".to_owned()]));
}

#[test]
fn without_a_group_only_neighbours_and_basic_addresses_get_in() {
    let mut azure = Machine::of(&estate(&[]).to_string());
    assert_eq!(azure.probe("10.1.0.77", &machine("other"), 22, "Tcp"), (true, vec!["noNsg".to_owned()]));
    assert_eq!(azure.probe(INTERNET, &machine("other"), 22, "Tcp"), (false, vec!["noNsg".to_owned()]));
    for (sku, expected) in [("Basic", true), ("Standard", false)] {
        let mut estate = estate(&[]);
        let address = network("publicIPAddresses/ip");
        estate[4]["properties"]["ipConfigurations"][0]["properties"]["publicIPAddress"] =
            json!({"id": address});
        estate
            .as_array_mut()
            .unwrap()
            .push(json!({"id": address, "type": "Microsoft.Network/publicIPAddresses", "name": "ip",
            "location": "westeurope", "sku": {"name": sku}, "properties": {"ipAddress": "198.51.100.9"}}));
        let mut azure = Machine::of(&estate.to_string());
        assert_eq!(azure.probe(INTERNET, &machine("other"), 22, "Tcp").0, expected, "{sku}");
        assert_eq!(
            azure.probe(INTERNET, "198.51.100.9", 22, "Tcp").0,
            expected,
            "{sku}, by the public address"
        );
    }
}

#[test]
fn routes_bring_their_prefixes_into_the_network_but_not_the_default_route() {
    let mut estate = estate(&[]);
    let table = network("routeTables/rt");
    estate[0]["properties"]["subnets"][0]["properties"]["routeTable"] = json!({"id": table});
    estate.as_array_mut().unwrap().push(json!({"id": table, "type": "Microsoft.Network/routeTables", "name": "rt", "location": "westeurope",
        "properties": {"routes": [
            {"name": "site", "properties": {"addressPrefix": "172.20.0.0/16", "nextHopType": "VirtualAppliance"}},
            {"name": "all", "properties": {"addressPrefix": "0.0.0.0/0", "nextHopType": "VirtualAppliance"}}]}}));
    let mut azure = Machine::of(&estate.to_string());
    assert!(azure.probe("172.20.1.1", &machine("vm"), 22, "Tcp").0);
    assert!(!azure.probe(INTERNET, &machine("vm"), 22, "Tcp").0);
}

#[test]
fn nonsense_is_refused_by_field() {
    let mut azure = Machine::new();
    let mut probe = |source: &str, destination: &str, protocol: &str| {
        let packet = json!({"source": source, "destination": destination, "port": 22, "protocol": protocol});
        azure.azure.probe(&serde_json::from_value(packet).unwrap()).unwrap_err()
    };
    assert!(matches!(probe("Internet", &machine("web-1"), "Tcp"), ProbeError::Source(_)));
    assert!(matches!(probe(INTERNET, &machine("none"), "Tcp"), ProbeError::Destination(_)));
    assert!(matches!(probe(INTERNET, "10.9.9.9", "Tcp"), ProbeError::Destination(_)));
    assert!(matches!(probe(INTERNET, &machine("web-1"), "http"), ProbeError::Protocol(_)));
    assert!(matches!(probe("2001:db8::1", &machine("web-1"), "Tcp"), ProbeError::Family(_, _)));
}
