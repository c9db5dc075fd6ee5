//! Real and published data that nobody here wrote; see `data/README.md` for the sources.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_network::assessment::{Internet, internet_among};
use ajar_network::estate::Estate;
use ajar_network::nsg::{NetworkSecurityGroup, SecurityRule};
use ajar_network::ports::Protocol;
use ajar_network::reachability::{Destination, Flow, InboundRules, default_inbound_rules};
use serde_json::{Value, json};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn live_nsgs_are_read_completely_and_written_back_unchanged() {
    let live = lines(include_str!("data/live_nsgs.jsonl"));
    assert_eq!(live.len(), 53);
    let mut rules = 0;
    for line in live {
        let nsg = NetworkSecurityGroup::from_json(line["nsg"].clone()).unwrap();
        assert_eq!(nsg.to_json(), line["nsg"]);
        assert_eq!(nsg.id().unwrap().as_str(), line["nsg"]["id"].as_str().unwrap());
        assert_eq!(nsg.etag(), line["nsg"]["etag"].as_str());
        assert_eq!(nsg.provisioning_state(), line["nsg"]["properties"]["provisioningState"].as_str());
        for rule in nsg.rules() {
            rules += 1;
            let complete = rule.direction().is_some()
                && rule.access().is_some()
                && rule.priority().is_some()
                && rule.protocol().is_some()
                && rule.source().unreadable.is_empty()
                && rule.destination().unreadable.is_empty()
                && rule.source_ports().unreadable.is_empty()
                && rule.destination_ports().unreadable.is_empty();
            assert!(complete, "{}", rule.json());
        }
        let defaults = line["nsg"]["properties"]["defaultSecurityRules"].as_array().unwrap();
        for ours in default_inbound_rules() {
            let live = defaults.iter().find(|d| d["name"] == ours.name()).unwrap();
            let live = SecurityRule::from_json(live.clone());
            assert!(live.same_effect_as(ours) && live.priority() == ours.priority(), "{}", ours.name());
        }
    }
    assert_eq!(rules, 171);
}

fn each_object(value: &Value, visit: &mut dyn FnMut(&Value)) {
    match value {
        Value::Object(map) => {
            visit(value);
            map.values().for_each(|v| each_object(v, visit));
        }
        Value::Array(list) => list.iter().for_each(|v| each_object(v, visit)),
        _ => {}
    }
}

#[test]
fn published_examples_are_read_and_written_back_unchanged() {
    let examples = lines(include_str!("data/restspec_examples.jsonl"));
    assert_eq!(examples.len(), 93);
    let mut nsgs = 0;
    for example in examples {
        each_object(&example, &mut |object| {
            if object["properties"]["securityRules"].is_array() {
                nsgs += 1;
                let nsg = NetworkSecurityGroup::from_json(object.clone()).unwrap();
                assert_eq!(&nsg.to_json(), object);
                assert!(
                    nsg.rules().iter().all(|r| r.priority().is_some() && r.source().unreadable.is_empty())
                );
            }
            // Any object may turn up in an estate without harm.
            let _ = Estate::from_resources([object.clone()]);
        });
    }
    assert!(nsgs >= 5, "{nsgs}");
}

#[test]
fn published_firewalls_do_no_harm_to_an_estate() {
    let firewalls = lines(include_str!("data/firewalls.jsonl"));
    assert_eq!(firewalls.len(), 39);
    for line in firewalls {
        let resource = json!({
            "id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/azureFirewalls/f",
            "properties": line["collections"],
        });
        assert!(Estate::from_resources([resource]).problems().is_empty());
    }
}

/// The Terraform cases hold values as the other scanner saw them: wrapped in lists, or as the text of a list.
fn plain(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().flat_map(plain).collect(),
        Value::String(text) => {
            let inner = text.trim_start_matches('[').trim_end_matches(']');
            inner
                .split(',')
                .map(|t| t.trim().trim_matches('\'').to_owned())
                .filter(|t| !t.is_empty() && t != "None")
                .collect()
        }
        Value::Number(n) => vec![n.to_string()],
        _ => Vec::new(),
    }
}

fn as_arm(rule: &Value) -> SecurityRule {
    let mut properties = json!({});
    for (key, value) in rule["properties"].as_object().unwrap() {
        let values = plain(value);
        if key.ends_with("es") {
            properties[key] = json!(values);
        } else if let Some(one) = values.first() {
            properties[key] = json!(one);
        }
    }
    // What a case leaves out is what it is not about; a template's own expression for the subnet means the VM's.
    for (key, plural) in
        [("destinationAddressPrefix", "destinationAddressPrefixes"), ("sourcePortRange", "sourcePortRanges")]
    {
        let expression = properties[key].as_str().is_some_and(|t| t.starts_with("parameters("));
        if expression || (properties[key].is_null() && properties[plural].is_null()) {
            properties[key] = json!("*");
        }
    }
    SecurityRule::from_json(json!({"name": plain(&rule["name"]).join(""), "properties": properties}))
}

#[test]
fn another_scanners_cases_come_out_as_it_expects() {
    let cases = lines(include_str!("data/checkov_cases.jsonl"));
    assert_eq!(cases.len(), 60);
    let (mut judged, mut dynamic) = (0, 0);
    for case in cases {
        judged += 1;
        let rules: Vec<SecurityRule> = case["rules"].as_array().unwrap().iter().map(as_arm).collect();
        let (protocol, port) = match case["port"].as_u64() {
            Some(port) => (Protocol::Tcp, u16::try_from(port).unwrap()),
            None => (Protocol::Udp, 3389),
        };
        let flow = Flow { destination: Destination::address("10.0.0.4".parse().unwrap()), protocol, port };
        let reach = InboundRules::from_rules(&rules).reach(&flow);
        let open = internet_among(&reach.possible) == Internet::Everyone;
        if case["dynamic"] == true {
            // A `dynamic` block makes its rules out of variables that are not in the case, so Azure would see an NSG
            // without custom rules, and its default rules shut out the Internet. The scanner says the same of two of
            // them; of the third it says what the missing variable would make.
            dynamic += 1;
            assert!(!open && case["rules"] == json!([]), "{case}");
            let by_the_missing_variable = "checkov:tf:HTTP:azurerm_network_security_group.dynamic_nsg_fail";
            assert_eq!(
                case["expected"]["status"] == "FAILED",
                case["id"] == by_the_missing_variable,
                "{case}"
            );
            continue;
        }
        assert_eq!(open, case["expected"]["status"] == "FAILED", "{case}");
        // Sources such as `<nw>/0` are no addresses: they may be anyone, and the answer says so.
        let odd = case.to_string().contains("/0\"");
        assert_eq!(reach.uncertainties.is_empty(), !odd, "{case}");
        assert_eq!(reach.possible == reach.certain, !odd, "{case}");
    }
    assert_eq!((judged, dynamic), (60, 3));
}
