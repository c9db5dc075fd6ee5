//! What Azure refuses in rules, by its codes.

use http::StatusCode;
use serde_json::{Value, json};

use crate::machine::{Machine, network, rule};

fn outcome(changes: Value) -> Result<(), String> {
    let mut azure = Machine::new();
    let answer = azure.put(&network("networkSecurityGroups/web-nsg/securityRules/new"), rule(changes));
    match answer.error_code() {
        None => Ok(()),
        Some(code) => {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            Err(code.to_owned())
        }
    }
}

#[test]
fn rules_that_azure_refuses_are_refused_with_its_codes() {
    for (changes, code) in [
        (json!({"priority": 300}), "SecurityRuleConflict"),
        (json!({"priority": 99}), "SecurityRuleInvalidPriority"),
        (json!({"priority": 4097}), "SecurityRuleInvalidPriority"),
        (json!({"destinationPortRange": "65536"}), "SecurityRuleInvalidPortRange"),
        (json!({"destinationPortRange": "30-20"}), "SecurityRuleInvalidPortRange"),
        (json!({"destinationPortRange": "22,23"}), "SecurityRuleInvalidPortRange"),
        (
            json!({"destinationPortRange": null, "destinationPortRanges": ["22", "x"]}),
            "SecurityRuleInvalidPortRange",
        ),
        (json!({"sourcePortRange": "-1"}), "SecurityRuleInvalidPortRange"),
        (json!({"sourceAddressPrefix": "10.0.0.0/42"}), "SecurityRuleInvalidAddressPrefix"),
        (json!({"destinationAddressPrefix": "10.0.0"}), "SecurityRuleInvalidAddressPrefix"),
        (json!({"description": "x".repeat(141)}), "SecurityRuleDescriptionTooLong"),
        (
            json!({"sourceAddressPrefix": null, "sourceAddressPrefixes": ["10.0.0.0/8", "Internet"]}),
            "SecurityRuleParameterContainsUnsupportedValue",
        ),
        (
            json!({"sourceAddressPrefix": null, "sourceAddressPrefixes": ["*"]}),
            "SecurityRuleParameterContainsUnsupportedValue",
        ),
        (
            json!({"sourceAddressPrefix": null, "sourceAddressPrefixes": ["10.0.0.0/8", "fd00::/8"],
                   "destinationAddressPrefix": "*"}),
            "ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies",
        ),
        (
            json!({"sourceAddressPrefix": "2001:db8::/32"}),
            "ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies",
        ),
        (json!({"sourceAddressPrefixes": ["10.0.0.0/8"]}), "SecurityRuleParameterConflict"),
        (json!({"destinationPortRanges": ["22"]}), "SecurityRuleParameterConflict"),
        (json!({"sourceAddressPrefix": null}), "SecurityRuleMissingRequiredParameter"),
        (json!({"protocol": "Sctp"}), "InvalidRequestFormat"),
        (json!({"access": "Maybe"}), "InvalidRequestFormat"),
        (json!({"priority": "1000"}), "InvalidRequestFormat"),
    ] {
        assert_eq!(outcome(changes.clone()), Err(code.to_owned()), "{changes}");
    }
}

#[test]
fn rules_that_azure_takes_are_taken() {
    for changes in [
        json!({}),
        json!({"priority": 100}),
        json!({"priority": 4096}),
        json!({"priority": 300, "direction": "Outbound"}),
        json!({"description": "é".repeat(140)}),
        json!({"protocol": "tcp", "access": "allow", "direction": "INBOUND"}),
        json!({"sourceAddressPrefix": "INTERNET"}),
        json!({"sourceAddressPrefix": "Storage.WestEurope"}),
        json!({"sourceAddressPrefix": "*", "destinationAddressPrefix": "*", "destinationPortRange": "*"}),
        json!({"destinationPortRange": null, "destinationPortRanges": ["22", "5985-5986"], "sourceAddressPrefixes": []}),
        json!({"sourceAddressPrefix": "::/0", "destinationAddressPrefix": "*"}),
        json!({"sourceAddressPrefix": null, "sourceAddressPrefixes": ["0.0.0.0/1", "128.0.0.0/1"]}),
    ] {
        assert_eq!(outcome(changes.clone()), Ok(()), "{changes}");
    }
}

#[test]
fn the_message_of_a_bad_priority_is_the_recorded_one() {
    let mut azure = Machine::new();
    let path = network("networkSecurityGroups/web-nsg/securityRules/new");
    let answer = azure.put(&path, rule(json!({"priority": 99})));
    assert_eq!(
        answer.value()["error"]["message"],
        "Security rule has invalid Priority. Value provided: 99 Allowed range 100-4096."
    );
}

#[test]
fn names_have_up_to_80_word_characters() {
    let mut azure = Machine::new();
    let mut put = |name: &str| {
        let path = network(&format!("networkSecurityGroups/web-nsg/securityRules/{name}"));
        azure.put(&path, rule(json!({}))).error_code().map(str::to_owned)
    };
    assert_eq!(put(&"a".repeat(80)), None);
    for name in [&"a".repeat(81), "-x", "x-", "a%20b", "a.b."] {
        assert_eq!(put(name).as_deref(), Some("InvalidResourceName"), "{name}");
    }
}

fn whole_group(rules: Vec<Value>) -> Option<String> {
    let mut azure = Machine::new();
    let body = json!({"location": "westeurope", "properties": {"securityRules": rules}});
    azure.put(&network("networkSecurityGroups/web-nsg"), body).error_code().map(str::to_owned)
}

fn named(name: &str, changes: Value) -> Value {
    let mut rule = rule(changes);
    rule["name"] = json!(name);
    rule
}

#[test]
fn a_whole_group_is_checked_like_its_rules() {
    assert_eq!(
        whole_group(vec![named("a", json!({})), named("b", json!({}))]).as_deref(),
        Some("SecurityRuleConflict")
    );
    assert_eq!(
        whole_group(vec![named("a", json!({})), named("A", json!({"priority": 1001}))]).as_deref(),
        Some("DuplicateResourceName")
    );
    assert_eq!(
        whole_group(vec![rule(json!({}))]).as_deref(),
        Some("InvalidResourceName"),
        "a rule without a name"
    );
}

#[test]
fn a_group_holds_1000_rules_and_4000_prefixes_a_side() {
    let rules =
        |count: u64| (0..count).map(|n| named(&format!("r{n}"), json!({"priority": 100 + n}))).collect();
    assert_eq!(whole_group(rules(1000)), None);
    assert!(whole_group(rules(1001)).is_some());
    let wide = |count: usize| {
        let prefixes: Vec<String> = (0..count).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
        vec![named("wide", json!({"sourceAddressPrefix": null, "sourceAddressPrefixes": prefixes}))]
    };
    assert_eq!(whole_group(wide(4000)), None);
    assert!(whole_group(wide(4001)).is_some());
}

#[test]
fn what_was_read_can_be_written_back() {
    let mut azure = Machine::new();
    for name in ["web-nsg", "win-nsg", "both-nic-nsg", "v6-nsg"] {
        let path = network(&format!("networkSecurityGroups/{name}"));
        let group = azure.get(&path).value().clone();
        let rules = group["properties"]["securityRules"].clone();
        let answer = azure.put(&path, group);
        assert_eq!(answer.status, StatusCode::OK, "{name}");
        let without_etag = |rules: &Value| -> Vec<Value> {
            rules.as_array().unwrap().iter().map(|rule| rule["properties"].clone()).collect()
        };
        assert_eq!(without_etag(&answer.value()["properties"]["securityRules"]), without_etag(&rules));
    }
}

#[test]
fn case_of_access_and_direction_is_azures_and_protocol_stays_as_written() {
    let mut azure = Machine::new();
    let path = network("networkSecurityGroups/web-nsg/securityRules/new");
    azure.put(&path, rule(json!({"protocol": "TCP", "access": "allow", "direction": "inbound"})));
    let shown = azure.get(&path).value()["properties"].clone();
    assert_eq!(
        (&shown["protocol"], &shown["access"], &shown["direction"]),
        (&json!("TCP"), &json!("Allow"), &json!("Inbound"))
    );
}
