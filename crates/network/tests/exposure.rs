//! What NSGs let in: against the oracle, and read from streaming text as from values.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "each test uses its part of the oracle")]
mod oracle;

use ajar_network::assessment::Internet;
use ajar_network::exposure::{Exposure, NsgInput, exposures};
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::ports::Protocol;
use ajar_network::reachability::InboundRules;
use oracle::differential::{exposure_case, reach_case};
use oracle::generate::{Random, nsg};
use serde_json::{Value, json};

const SEED: u64 = 20_261_124;
const MANAGEMENT: [u16; 4] = [22, 3389, 5985, 5986];

#[test]
fn evaluator_and_oracle_agree_packet_by_packet() {
    let mut random = Random(SEED);
    (0..3_000).for_each(|_| reach_case(&mut random, 8));
}

#[test]
fn exposures_are_what_some_packet_to_some_destination_does() {
    let mut random = Random(SEED);
    (0..600).for_each(|_| exposure_case(&mut random));
}

/// The same JSON with keys in another case, numbers as text, `properties` flattened, nulls and unknown things.
fn disguised(value: &Value, random: &mut Random) -> Value {
    match value {
        Value::Object(map) => {
            let mut out = serde_json::Map::new();
            for (key, value) in map {
                let key = match random.below(4) {
                    0 => key.to_ascii_uppercase(),
                    1 => key.to_ascii_lowercase(),
                    _ => key.clone(),
                };
                out.insert(key, disguised(value, random));
                if random.below(6) == 0 {
                    let odd =
                        random.pick(&[json!(null), json!({"a": [1, {"b": 2.5}]}), json!([[]]), json!("x")]);
                    out.insert(format!("unknown{}", random.below(100)), odd);
                }
            }
            Value::Object(out)
        }
        Value::Array(list) => Value::Array(list.iter().map(|v| disguised(v, random)).collect()),
        Value::Number(n) if random.below(2) == 0 => Value::String(format!(" {n} ")),
        Value::String(text) if random.below(12) == 0 => random
            .pick(&[
                json!(null),
                json!(22),
                json!(-1),
                json!(1e300),
                json!(22.5),
                json!(true),
                json!({"a": 1}),
                json!(["*"]),
                json!(text.to_lowercase()),
            ])
            .clone(),
        other => other.clone(),
    }
}

fn from_values(json: &Value) -> NsgInput {
    NsgInput::from(&NetworkSecurityGroup::from_json(json.clone()).unwrap())
}

#[test]
fn streaming_text_reads_as_values_do() {
    let mut random = Random(SEED);
    for _ in 0..800 {
        let plain = nsg(&mut random);
        let json = disguised(&plain, &mut random);
        let Ok(values) = NetworkSecurityGroup::from_json(json.clone()) else { continue };
        let streamed: NsgInput = serde_json::from_str(&json.to_string()).unwrap();
        assert_eq!(streamed, NsgInput::from(&values), "{json}");
        let read = serde_json::from_reader::<_, NsgInput>(json.to_string().as_bytes()).unwrap();
        assert_eq!(read, streamed);
        assert_eq!(
            exposures(&streamed, &MANAGEMENT, Protocol::Any),
            InboundRules::of(&values).exposures(&MANAGEMENT, Protocol::Any)
        );
    }
}

#[test]
fn real_nsgs_read_alike_from_text_and_from_values() {
    for line in include_str!("data/live_nsgs.jsonl").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let streamed: NsgInput = serde_json::from_str(&line["nsg"].to_string()).unwrap();
        assert_eq!(streamed, from_values(&line["nsg"]));
        assert!(streamed.id.is_some() && streamed.name.is_some());
    }
}

#[test]
fn what_is_no_nsg_is_said_so() {
    let no_list = serde_json::from_str::<NsgInput>(r#"{"name": "web", "properties": {"securityRules": {}}}"#);
    assert!(no_list.unwrap_err().to_string().contains("`properties.securityRules` of web must be a list"));
    assert!(
        serde_json::from_str::<NsgInput>("[]").unwrap_err().to_string().contains("network security group")
    );
    let empty = serde_json::from_str::<NsgInput>(r#"{"properties": {"securityRules": null}}"#).unwrap();
    assert!(exposures(&empty, &MANAGEMENT, Protocol::Tcp).is_empty());
}

fn exposed(nsg: &NsgInput) -> Vec<Exposure<'_>> {
    exposures(nsg, &MANAGEMENT, Protocol::Tcp)
}

fn nsg_of(rules: Value) -> NsgInput {
    serde_json::from_value(json!({"properties": {"securityRules": rules}})).unwrap()
}

fn rule(name: &str, priority: u16, access: &str, source: &str, ports: &str) -> Value {
    json!({"name": name, "properties": {"priority": priority, "access": access, "direction": "Inbound",
        "protocol": "Tcp", "sourceAddressPrefix": source, "sourcePortRange": "*",
        "destinationAddressPrefix": "*", "destinationPortRange": ports}})
}

#[test]
fn an_exposure_says_who_through_what_with_a_packet() {
    let nsg = nsg_of(json!([
        rule("partner", 100, "Deny", "203.0.113.0/24", "22"),
        rule("halves", 200, "Allow", "0.0.0.0/1,128.0.0.0/1", "20-25"),
        rule("rdp", 300, "Allow", "VirtualNetwork", "3389"),
        rule("late", 400, "Allow", "203.0.113.7", "22"),
    ]));
    let found = exposed(&nsg);
    assert_eq!(found.iter().map(|e| e.port).collect::<Vec<_>>(), [22, 3389]);
    let ssh = &found[0];
    assert_eq!(ssh.rules, ["halves"], "the late rule is for a source that was decided before");
    assert_eq!(ssh.internet, Internet::Everyone);
    assert!(!ssh.sources.addresses().contains("203.0.113.7".parse().unwrap()));
    assert!(ssh.prefixes().len() > 20 && ssh.service_tags().is_empty());
    let witness = ssh.witness.as_ref().unwrap();
    assert_eq!((witness.port, witness.source_port >= 49152), (22, true));
    let rdp = &found[1];
    assert_eq!((rdp.internet, rdp.prefixes().len()), (Internet::None, 0));
    assert_eq!(rdp.service_tags().iter().map(ToString::to_string).collect::<Vec<_>>(), ["VirtualNetwork"]);
}

#[test]
fn a_rule_that_cannot_be_read_may_expose() {
    let mut odd = rule("odd", 100, "Allow", "*", "22");
    odd["properties"]["access"] = json!("Audit");
    let nsg = nsg_of(json!([odd, rule("open", 200, "Allow", "10.0.0.0/8", "22")]));
    let found = exposed(&nsg);
    assert_eq!(found.len(), 1);
    assert!(!found[0].certain);
    assert_eq!(found[0].internet, Internet::Everyone);
    assert!(found[0].uncertainties[0].explanation.contains("whether it allows or denies"));
    assert_eq!(found[0].rules, ["odd"], "it decides everything, one way or the other");
}

#[test]
fn the_general_way_gives_the_same_answer_as_the_fast_one() {
    let mut random = Random(SEED);
    let mut exposed = 0;
    for _ in 0..400 {
        let plain = nsg(&mut random);
        let mut general = plain.clone();
        // Last of all, a deny of which it is not known whether it matches: nothing changes but the way.
        general["properties"]["securityRules"].as_array_mut().unwrap().push(json!({
            "name": "last", "properties": {"priority": 4096, "access": "Deny", "direction": "Inbound", "protocol": "*",
            "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": "Storage",
            "destinationPortRange": "*"}}));
        let [plain, general] = [plain, general].map(|json| serde_json::from_value::<NsgInput>(json).unwrap());
        for protocol in [Protocol::Tcp, Protocol::Icmp] {
            let fast = exposures(&plain, &[22, 3389], protocol);
            let slow = exposures(&general, &[22, 3389], protocol);
            assert_eq!(fast.len(), slow.len(), "{plain:?}");
            for (fast, slow) in fast.iter().zip(&slow) {
                exposed += 1;
                assert_eq!(fast.sources, slow.sources, "{plain:?}");
                assert_eq!((fast.certain, slow.certain), (true, true));
                assert_eq!((fast.internet, &fast.rules), (slow.internet, &slow.rules), "{plain:?}");
            }
        }
    }
    assert!(exposed > 200, "{exposed}");
}
