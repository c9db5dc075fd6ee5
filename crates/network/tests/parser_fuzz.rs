//! Whatever comes in, reading neither panics nor hangs, and what it reads can be evaluated.
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

use ajar_network::address::Prefix;
use ajar_network::estate::Estate;
use ajar_network::exposure::{NsgInput, exposures};
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::ports::{PortRange, Protocol};
use ajar_network::reachability::{Destination, Flow, InboundRules};
use ajar_network::resource_id::ResourceId;
use ajar_network::service_tags::ServiceTags;
use oracle::generate::{Random, nsg};
use serde_json::Value;

const SEED: u64 = 20_261_124;

/// Reads the bytes in every way there is, and evaluates what comes out. Both forms agree on what can be read.
fn read(bytes: &[u8]) {
    let streamed = serde_json::from_slice::<NsgInput>(bytes);
    let _ = ServiceTags::from_json(bytes);
    if let Ok(nsg) = &streamed {
        let _ = exposures(nsg, &[22, 3389], Protocol::Any);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (
            Prefix::parse(text),
            Prefix::parse_lenient(text),
            PortRange::parse(text),
            ResourceId::parse(text),
        );
    }
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    Estate::from_resources([value.clone()]);
    if let Ok(nsg) = NetworkSecurityGroup::from_json(value) {
        let flow = Flow {
            destination: Destination::address("10.0.0.4".parse().unwrap()),
            protocol: Protocol::Tcp,
            port: 22,
        };
        let _ = InboundRules::of(&nsg).reach(&flow);
        assert_eq!(streamed.map(|s| s.rules.len()).ok(), Some(nsg.rules().len()));
    }
}

#[test]
fn random_bytes_do_no_harm() {
    let mut random = Random(SEED);
    for _ in 0..20_000 {
        let length = random.below(64);
        // Half of them from the alphabet of JSON, which gets further.
        let json = random.below(2) == 0;
        let byte = |random: &mut Random| {
            if json {
                random.pick(b"{}[]\":,0123456789eE.-+truefalsn*/ \\u")
            } else {
                random.below(256) as u8
            }
        };
        let bytes: Vec<u8> = (0..length).map(|_| byte(&mut random)).collect();
        read(&bytes);
    }
}

#[test]
fn damaged_nsgs_do_no_harm() {
    let mut random = Random(SEED);
    let odd: [&[u8]; 14] = [
        b"null",
        b"true",
        b"[]",
        b"{}",
        b"\"\"",
        b"-1",
        b"1e308",
        b"1e999",
        b"99999999999999999999999999",
        b"\"0.0.0.0/33\"",
        b"\"::/0\"",
        b"\"\\ud800\"",
        b"[[[[[[]]]]]]",
        b"\"65536-0\"",
    ];
    for _ in 0..3_000 {
        let mut bytes = nsg(&mut random).to_string().into_bytes();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.below(256) as u8,
                1 => bytes.truncate(at.max(1)),
                2 => {
                    let to = (at + random.below(20)).min(bytes.len());
                    let copy = bytes[at..to].to_vec();
                    bytes.splice(at..at, copy);
                }
                // A value in another's place keeps it well-formed: the second quote after a colon ends a text.
                _ => {
                    let Some(colon) = bytes[at..].windows(2).position(|w| w == b":\"").map(|i| at + i) else {
                        continue;
                    };
                    let Some(end) = bytes[colon + 2..].iter().position(|b| *b == b'"') else { continue };
                    bytes.splice(colon + 1..=colon + 2 + end, random.pick(&odd).iter().copied());
                }
            }
        }
        read(&bytes);
    }
}

#[test]
fn a_hundred_thousand_levels_are_passed_over_or_refused() {
    for (open, close) in [("[", "]"), ("{\"properties\":", "}"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        read(deep.as_bytes());
        for place in [
            "PLACE",
            "{\"properties\": PLACE}",
            "{\"properties\": {\"securityRules\": [PLACE]}}",
            "{\"properties\": {\"securityRules\": [{\"properties\": {\"sourceAddressPrefix\": PLACE}}]}}",
            "{\"properties\": {\"securityRules\": [{\"properties\": {\"sourceApplicationSecurityGroups\": PLACE}}]}}",
            "{\"unknown\": PLACE}",
        ] {
            let text = place.replace("PLACE", &deep);
            let read = serde_json::from_str::<NsgInput>(&text);
            let streamed = serde_json::from_reader::<_, NsgInput>(text.as_bytes());
            assert_eq!(read.is_ok(), streamed.is_ok());
            if place.contains("unknown") {
                assert_eq!(read.unwrap(), NsgInput::default(), "passed over level by level, without a stack");
            } else if place.contains("source") {
                assert!(read.unwrap_err().to_string().contains("recursion limit"));
            }
        }
    }
}

#[test]
fn long_lists_and_numbers_take_their_length_and_no_more() {
    let prefixes: Vec<String> =
        (0..40_000u32).map(|i| format!("\"{}\"", std::net::Ipv4Addr::from_bits(i * 7919))).collect();
    let text = format!(
        "{{\"properties\":{{\"securityRules\":[{{\"name\":\"a\",\"properties\":{{\"priority\":{},\"sourceAddressPrefixes\":[{}]}}}}]}}}}",
        "9".repeat(10_000),
        prefixes.join(",")
    );
    // A number beyond every float is no JSON that can be read; it is refused and not rounded.
    assert!(serde_json::from_str::<NsgInput>(&text).is_err());
    let text = text.replace(&"9".repeat(10_000), &"9".repeat(300));
    let nsg: NsgInput = serde_json::from_str(&text).unwrap();
    assert_eq!((nsg.rules[0].priority, nsg.rules[0].source.listed), (None, 40_000));
    assert!(!exposures(&nsg, &[22], Protocol::Tcp)[0].certain);
    read(text.as_bytes());
}
