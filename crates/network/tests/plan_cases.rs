//! The planner, case by case: what it writes and where, what it leaves alone, and what it says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::net::IpAddr;

use ajar_network::address::Prefix;
use ajar_network::nsg::{Access, NetworkSecurityGroup, SecurityRule};
use ajar_network::plan::{
    DeploymentName, Desired, ExceptionSource, ExistingRules, GrantedFlow, Note, Plan, PlanError,
    ProtectedPort, Protection, ProtectionState, RuleWrite, StandingException, Write, expired_rules, plan,
    verify,
};
use ajar_network::ports::{PortRange, Protocol};
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn vm(name: &str) -> ResourceId {
    ResourceId::parse(&format!(
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/{name}"
    ))
    .unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|t| t.parse().unwrap()).collect()
}

fn tcp(port: u16) -> ProtectedPort {
    ProtectedPort { ports: PortRange::single(port), protocol: Protocol::Tcp }
}

fn protection(name: &str, addresses: &[&str], ports: &[ProtectedPort]) -> Protection {
    Protection {
        vm: vm(name),
        addresses: ips(addresses),
        released: Vec::new(),
        ports: ports.to_vec(),
        exceptions: Vec::new(),
        existing_rules: ExistingRules::Supersede,
        flush_connection: false,
        state: ProtectionState::Enabled,
    }
}

fn grant(name: &str, addresses: &[&str], port: u16, sources: &[&str], hours: i64) -> GrantedFlow {
    GrantedFlow {
        id: format!("grant-{name}-{port}-{hours}"),
        vm: vm(name),
        addresses: ips(addresses),
        ports: PortRange::single(port),
        protocol: Protocol::Tcp,
        sources: sources.iter().map(|s| Prefix::parse(s).unwrap()).collect(),
        start: now() - SignedDuration::from_hours(1),
        end: now() + SignedDuration::from_hours(hours),
        requester: "alice@contoso.com".to_owned(),
    }
}

fn desired(protections: Vec<Protection>, grants: Vec<GrantedFlow>) -> Desired {
    Desired {
        deployment: DeploymentName::parse("prod").unwrap(),
        protections,
        grants,
        originals: Vec::new(),
        original_flush_connection: None,
    }
}

fn rule(name: &str, priority: u16, access: &str, port: &str) -> Value {
    json!({"name": name, "properties": {
        "priority": priority, "access": access, "direction": "Inbound", "protocol": "Tcp",
        "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": "*",
        "destinationPortRange": port, "unknown": [1, {"x": null}],
    }})
}

fn nsg(rules: Vec<Value>) -> NetworkSecurityGroup {
    NetworkSecurityGroup::from_json(json!({"name": "n", "etag": "W/\"1\"", "tags": {"a": "b"},
        "properties": {"securityRules": rules, "futureProperty": {"kept": true}}}))
    .unwrap()
}

fn apply(at: &NetworkSecurityGroup, write: &Write) -> NetworkSecurityGroup {
    match write {
        Write::Nothing => at.clone(),
        Write::Whole(whole) => whole.clone(),
        Write::Rules(writes) => {
            let mut rules = at.rules().to_vec();
            for write in writes {
                match write {
                    RuleWrite::Put(new) => {
                        rules.retain(|r| r.name() != new.name());
                        rules.push(new.as_ref().clone());
                    }
                    RuleWrite::Delete(name) => rules.retain(|r| r.name() != name),
                }
            }
            at.with_rules(rules)
        }
    }
}

/// Plans and applies, and stores what is to be stored.
fn bring(at: &NetworkSecurityGroup, desired: &mut Desired) -> (NetworkSecurityGroup, Plan) {
    let planned = plan(at, desired, now()).unwrap();
    desired.originals = planned.originals.clone();
    desired.original_flush_connection = planned.original_flush_connection;
    let result = apply(at, &planned.write);
    assert_eq!(plan(&result, desired, now()).unwrap().write, Write::Nothing);
    (result, planned)
}

fn ours(nsg: &NetworkSecurityGroup, access: Access) -> Vec<&SecurityRule> {
    let mut rules: Vec<_> = nsg
        .rules()
        .iter()
        .filter(|r| r.name().starts_with("ajar-prod-") && r.access() == Some(access))
        .collect();
    rules.sort_by_key(|r| r.priority());
    rules
}

fn priority(nsg: &NetworkSecurityGroup, name: &str) -> Option<u16> {
    nsg.rules().iter().find(|r| r.name() == name).and_then(SecurityRule::priority)
}

#[test]
fn the_first_protection_is_one_deny_at_the_highest_priority_below_other_rules() {
    let mut wish = desired(vec![protection("web-1", &["10.0.0.4"], &[tcp(22)])], vec![]);
    let (after, planned) =
        bring(&nsg(vec![rule("ssh", 1000, "Allow", "22"), rule("web", 300, "Allow", "443")]), &mut wish);
    assert!(matches!(&planned.write, Write::Rules(w) if w.len() == 1));
    let denies = ours(&after, Access::Deny);
    assert_eq!(denies.len(), 1);
    assert_eq!(denies[0].priority(), Some(999));
    let p = &denies[0].json()["properties"];
    assert_eq!(p["sourceAddressPrefix"], "*");
    assert_eq!(p["destinationAddressPrefix"], "10.0.0.4");
    assert_eq!(p["destinationPortRange"], "22");
    assert_eq!(p["protocol"], "Tcp");
    assert_eq!(p["description"], "Ajar: closed; opens by approved request only");
}

#[test]
fn a_grant_is_one_rule_at_100_and_goes_with_its_end() {
    let mut wish = desired(vec![protection("web-1", &["10.0.0.4"], &[tcp(22)])], vec![]);
    let (shut, _) = bring(&nsg(vec![rule("ssh", 1000, "Allow", "22")]), &mut wish);
    wish.grants.push(grant("web-1", &["10.0.0.4"], 22, &["203.0.113.7"], 2));
    let (open, planned) = bring(&shut, &mut wish);
    let Write::Rules(writes) = &planned.write else { panic!("{:?}", planned.write) };
    let [RuleWrite::Put(put)] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!(put.priority(), Some(100));
    assert!(put.name().starts_with("ajar-prod-allow-ssh-"));
    assert_eq!(put.description(), "Ajar: SSH to web-1 for alice@contoso.com until 2026-11-24T14:00:00Z");
    assert_eq!(put.json()["properties"]["sourceAddressPrefix"], "203.0.113.7");

    let end = now() + SignedDuration::from_hours(2);
    let just_before = plan(&open, &wish, end - SignedDuration::from_nanos(1)).unwrap();
    assert_eq!(just_before.write, Write::Nothing);
    let at_end = plan(&open, &wish, end).unwrap();
    assert_eq!(at_end.write, Write::Rules(vec![RuleWrite::Delete(put.name().to_owned())]));
    // When the store is lost, the description alone closes it.
    assert_eq!(expired_rules(&open, &wish.deployment, end), [put.name()]);
    assert!(expired_rules(&open, &wish.deployment, end - SignedDuration::from_secs(1)).is_empty());
    assert!(expired_rules(&open, &DeploymentName::parse("pro").unwrap(), end).is_empty());
    // An extension changes the rule in place.
    wish.grants[0].end = now() + SignedDuration::from_hours(5);
    let longer = plan(&open, &wish, now()).unwrap();
    let Write::Rules(writes) = &longer.write else { panic!() };
    assert!(
        matches!(writes.as_slice(), [RuleWrite::Put(r)] if r.name() == put.name() && r.priority() == Some(100))
    );
}

#[test]
fn equal_sources_share_a_rule_and_different_ones_never_mix() {
    let vms = || {
        vec![
            protection("a", &["10.0.0.4"], &[tcp(22)]),
            protection("b", &["10.0.0.5"], &[tcp(22)]),
            protection("c", &["10.0.0.6", "fd00::6"], &[tcp(22)]),
        ]
    };
    let mut wish = desired(
        vms(),
        vec![
            grant("a", &["10.0.0.4"], 22, &["203.0.113.0/25"], 1),
            grant("a", &["10.0.0.4"], 22, &["203.0.113.128/25"], 2),
            grant("b", &["10.0.0.5"], 22, &["203.0.113.0/24"], 3),
            grant("c", &["10.0.0.6"], 22, &["198.51.100.7"], 1),
        ],
    );
    let (after, _) = bring(&nsg(vec![]), &mut wish);
    let allows = ours(&after, Access::Allow);
    assert_eq!(allows.len(), 2, "a and b share one, c has its own");
    let shared = allows.iter().find(|r| r.destination().addresses.v4_count() == 2).unwrap();
    assert_eq!(shared.json()["properties"]["sourceAddressPrefix"], "203.0.113.0/24");
    assert_eq!(shared.json()["properties"]["destinationAddressPrefixes"], json!(["10.0.0.4", "10.0.0.5"]));
    assert!(
        shared.description().ends_with("until 2026-11-24T13:00:00Z"),
        "the earliest end: {}",
        shared.description()
    );
    assert!(shared.description().contains("a and 1 more"));
    // One deny per family for all alike.
    assert_eq!(ours(&after, Access::Deny).len(), 2);
    verify(&after, &wish, now()).unwrap();
}

#[test]
fn when_a_shared_rule_narrows_the_new_rule_comes_first() {
    let mut wish = desired(
        vec![protection("a", &["10.0.0.4"], &[tcp(22)]), protection("b", &["10.0.0.5"], &[tcp(22)])],
        vec![
            grant("a", &["10.0.0.4"], 22, &["203.0.113.7"], 2),
            grant("b", &["10.0.0.5"], 22, &["203.0.113.7"], 1),
        ],
    );
    let (both, _) = bring(&nsg(vec![]), &mut wish);
    let later = plan(&both, &wish, now() + SignedDuration::from_mins(90)).unwrap();
    let Write::Rules(writes) = later.write else { panic!() };
    assert!(
        matches!(writes.as_slice(), [RuleWrite::Put(_), RuleWrite::Delete(_)]),
        "add, then remove: {writes:?}"
    );
}

#[test]
fn tags_stand_alone_and_exceptions_have_no_end() {
    let mut p = protection("web-1", &["10.0.0.4", "fd00::4"], &[tcp(22), tcp(3389)]);
    p.exceptions = ["VirtualNetwork", "10.9.0.0/26", "2001:db8::/64"]
        .iter()
        .map(|t| StandingException { source: ExceptionSource::parse(t).unwrap() })
        .collect();
    let mut wish = desired(vec![p], vec![]);
    let (after, _) = bring(&nsg(vec![]), &mut wish);
    let allows = ours(&after, Access::Allow);
    assert_eq!(allows.len(), 4, "a prefix and the tag for each family");
    for rule in &allows {
        assert_eq!(rule.description(), "Ajar: ports 22,3389 to web-1: standing exception, no end");
        assert!(rule.json()["properties"]["sourceAddressPrefix"].is_string());
    }
    assert!(expired_rules(&after, &wish.deployment, Timestamp::MAX).is_empty());
    verify(&after, &wish, now()).unwrap();
}

#[test]
fn superseding_makes_room_keeps_order_and_remembers_the_originals() {
    let before = nsg(vec![
        rule("first", 100, "Allow", "22"),
        rule("second", 101, "Deny", "*"),
        rule("far", 2000, "Allow", "80"),
    ]);
    let mut wish = desired(vec![protection("web-1", &["10.0.0.4"], &[tcp(22)])], vec![]);
    let (after, planned) = bring(&before, &mut wish);
    let Write::Whole(whole) = &planned.write else { panic!("{:?}", planned.write) };
    assert_eq!(whole.etag(), Some("W/\"1\""));
    assert_eq!(whole.to_json()["properties"]["futureProperty"], json!({"kept": true}));
    assert_eq!(priority(&after, "first"), Some(164), "64 priorities are free before it");
    assert_eq!(priority(&after, "second"), Some(165));
    assert_eq!(priority(&after, "far"), Some(2000), "moved only as far as needed");
    let names: Vec<_> = planned.originals.iter().map(|o| (o.name.as_str(), o.priority)).collect();
    assert_eq!(names, [("first", 100), ("second", 101)]);
    assert_eq!(&planned.originals[0].rule, before.rules()[0].json());
    assert_eq!(whole.rules()[0].json()["properties"]["unknown"], json!([1, {"x": null}]));
    // A grant now fits without another move.
    wish.grants.push(grant("web-1", &["10.0.0.4"], 22, &["203.0.113.7"], 1));
    let (_, planned) = bring(&after, &mut wish);
    assert!(matches!(planned.write, Write::Rules(_)));
    assert_eq!(planned.originals.len(), 2);
}

#[test]
fn turning_off_restores_priorities_and_keeps_edits_while_retiring_restores_nothing() {
    let before = nsg(vec![rule("first", 100, "Allow", "22"), rule("second", 101, "Allow", "3389")]);
    let mut wish = desired(vec![protection("web-1", &["10.0.0.4"], &[tcp(22), tcp(3389)])], vec![]);
    let (on, _) = bring(&before, &mut wish);
    let mut edited = on.rules().to_vec();
    let at = edited.iter().position(|r| r.name() == "first").unwrap();
    let mut json = edited[at].json().clone();
    json["properties"]["sourceAddressPrefix"] = json!("198.51.100.0/24");
    edited[at] = SecurityRule::from_json(json);
    let edited = on.with_rules(edited);

    let mut retired = wish.clone();
    retired.protections[0].state = ProtectionState::Retired;
    let (gone, _) = bring(&edited, &mut retired);
    assert!(ours(&gone, Access::Deny).is_empty());
    assert_eq!(priority(&gone, "first"), Some(164));
    assert_eq!(retired.originals.len(), 2);

    let mut off = wish.clone();
    off.protections[0].state = ProtectionState::Disabling;
    let planned = plan(&edited, &off, now()).unwrap();
    assert_eq!(planned.originals.len(), 2, "an original is dropped only once it is seen restored");
    let (back, _) = bring(&edited, &mut off);
    assert_eq!((priority(&back, "first"), priority(&back, "second")), (Some(100), Some(101)));
    assert_eq!(back.rules()[0].json()["properties"]["sourceAddressPrefix"], "198.51.100.0/24");
    assert!(plan(&back, &off, now()).unwrap().originals.is_empty());

    // Not while another VM is still protected.
    let mut other = wish.clone();
    other.protections[0].state = ProtectionState::Disabling;
    other.protections.push(protection("web-2", &["10.0.0.5"], &[tcp(22)]));
    let (kept, _) = bring(&edited, &mut other);
    assert_eq!(priority(&kept, "first"), Some(164));
}

#[test]
fn a_rule_that_cannot_go_back_is_noted() {
    let mut wish = desired(vec![protection("web-1", &["10.0.0.4"], &[tcp(22)])], vec![]);
    let (on, _) = bring(&nsg(vec![rule("first", 100, "Allow", "22")]), &mut wish);
    // Somebody put another rule where the original was, in front.
    let mut rules = on.rules().to_vec();
    rules.push(SecurityRule::from_json(rule("new", 100, "Deny", "80")));
    let taken = on.with_rules(rules);
    wish.protections[0].state = ProtectionState::Disabling;
    let planned = plan(&taken, &wish, now()).unwrap();
    assert!(planned.notes.contains(&Note::NotRestored { rule: "first".to_owned(), priority: 100 }));
    assert_eq!(priority(&apply(&taken, &planned.write), "first"), Some(164));
    assert_eq!(planned.originals.len(), 1);
}

#[test]
fn respecting_leaves_rules_and_says_what_stays_open() {
    let mut p = protection("web-1", &["10.0.0.4"], &[tcp(22)]);
    p.existing_rules = ExistingRules::Respect;
    let mut wish = desired(vec![p], vec![]);
    let before = nsg(vec![rule("first", 100, "Allow", "22")]);
    let (after, planned) = bring(&before, &mut wish);
    assert_eq!(priority(&after, "first"), Some(100));
    assert_eq!(ours(&after, Access::Deny)[0].priority(), Some(101), "as high as possible");
    let [Note::RespectedRules { rules, open, .. }] = planned.notes.as_slice() else {
        panic!("{:?}", planned.notes)
    };
    assert_eq!(rules, &["first"]);
    assert!(open.addresses().is_all_v4());
    verify(&after, &wish, now()).unwrap();
    // What the note declares is accepted, a missing deny is not.
    assert!(verify(&before, &wish, now()).is_err());
    let mut strict = wish.clone();
    strict.protections[0].existing_rules = ExistingRules::Supersede;
    assert!(verify(&after, &strict, now()).is_err());
}

/// Two priorities are free before a rule that is respected. A standing exception that is new takes neither from the
/// denies of a VM whose row is missing.
#[test]
fn an_orphaned_deny_does_not_slip_behind_a_respected_rule() {
    let respecting = |name: &str, addresses: &[&str], port: u16| Protection {
        existing_rules: ExistingRules::Respect,
        ..protection(name, addresses, &[tcp(port)])
    };
    let (a, b) = (respecting("a", &["10.0.0.4"], 22), respecting("b", &["10.0.0.5", "fd00::5"], 3389));
    let mut wish = desired(vec![a.clone(), b], vec![]);
    let (before, _) = bring(&nsg(vec![rule("first", 102, "Allow", "*")]), &mut wish);
    let early = |nsg: &NetworkSecurityGroup| -> Vec<String> {
        let denies = ours(nsg, Access::Deny).into_iter();
        let early = denies.filter(|deny| deny.priority().unwrap() < 102);
        let mut names: Vec<String> = early.map(|deny| deny.name().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(early(&before).len(), 2, "{before:?}");
    assert!(early(&before).iter().all(|name| name.contains("-deny-rdp-")), "{:?}", early(&before));

    let open = StandingException { source: ExceptionSource::Prefix(Prefix::parse("0.0.0.0/1").unwrap()) };
    let mut wish = desired(vec![Protection { exceptions: vec![open], ..a }], vec![]);
    let (after, _) = bring(&before, &mut wish);
    assert_eq!(early(&after), early(&before));
}

/// The same where the rule that is respected is about nobody but the VM whose row is missing.
#[test]
fn an_orphaned_deny_stays_before_a_rule_that_only_it_is_about() {
    let respecting = |name: &str, addresses: &[&str], ports: &[ProtectedPort]| Protection {
        existing_rules: ExistingRules::Respect,
        ..protection(name, addresses, ports)
    };
    let udp = ProtectedPort { ports: PortRange::new(20, 25).unwrap(), protocol: Protocol::Udp };
    let (a, b) =
        (respecting("a", &["10.0.0.4"], &[tcp(22)]), respecting("b", &["10.0.0.5", "fd00::5"], &[udp]));
    let mut wish = desired(vec![a.clone(), b], vec![]);
    let mut first = rule("first", 103, "Allow", "*");
    first["properties"]["protocol"] = json!("Udp");
    let (before, _) = bring(&nsg(vec![first]), &mut wish);
    assert!(ours(&before, Access::Deny).iter().all(|deny| deny.priority().unwrap() < 103), "{before:?}");

    let open = StandingException { source: ExceptionSource::Prefix(Prefix::parse("0.0.0.0/1").unwrap()) };
    let mut wish = desired(vec![Protection { exceptions: vec![open], ..a }], vec![]);
    let (after, _) = bring(&before, &mut wish);
    let orphaned = |nsg: &NetworkSecurityGroup| -> Vec<Option<u16>> {
        let denies = ours(nsg, Access::Deny).into_iter();
        denies.filter(|deny| deny.name().contains("20-25")).map(|deny| deny.priority()).collect()
    };
    assert_eq!(orphaned(&before).len(), 2, "{before:?}");
    assert_eq!(orphaned(&after), orphaned(&before));
}

#[test]
fn absence_never_opens() {
    let two = || vec![protection("a", &["10.0.0.4"], &[tcp(22)]), protection("b", &["10.0.0.5"], &[tcp(22)])];
    let mut wish = desired(two(), vec![]);
    let (shut, _) = bring(&nsg(vec![]), &mut wish);

    let planned = plan(&shut, &desired(vec![], vec![]), now()).unwrap();
    assert_eq!(planned.write, Write::Nothing, "an empty store changes nothing");
    let [Note::OrphanedProtection { addresses, .. }] = planned.notes.as_slice() else { panic!() };
    assert_eq!(addresses, &["10.0.0.4", "10.0.0.5"]);

    // The row of b is missing: its address stays shut although a's is turned off.
    let mut partly =
        desired(vec![Protection { state: ProtectionState::Disabling, ..two()[0].clone() }], vec![]);
    let (after, planned) = bring(&shut, &mut partly);
    assert_eq!(ours(&after, Access::Deny)[0].json()["properties"]["destinationAddressPrefix"], "10.0.0.5");
    assert!(matches!(&planned.write, Write::Rules(w) if w.len() == 1));

    // An address is given up only when a row says so.
    let mut moved = two();
    moved[1].addresses = ips(&["10.0.0.9"]);
    let (kept, _) = bring(&shut, &mut desired(moved.clone(), vec![]));
    assert!(ours(&kept, Access::Deny)[0].destination().addresses.contains("10.0.0.5".parse().unwrap()));
    moved[1].released = ips(&["10.0.0.5"]);
    let (released, _) = bring(&kept, &mut desired(moved, vec![]));
    assert!(!ours(&released, Access::Deny)[0].destination().addresses.contains("10.0.0.5".parse().unwrap()));
}

#[test]
fn an_allow_without_a_grant_goes_even_when_everything_else_is_lost() {
    let mut wish = desired(
        vec![protection("a", &["10.0.0.4"], &[tcp(22)])],
        vec![grant("a", &["10.0.0.4"], 22, &["203.0.113.7"], 1)],
    );
    let (open, _) = bring(&nsg(vec![]), &mut wish);
    let (after, _) = bring(&open, &mut desired(vec![], vec![]));
    assert!(ours(&after, Access::Allow).is_empty());
    assert_eq!(ours(&after, Access::Deny).len(), 1);
}

#[test]
fn what_was_edited_or_removed_by_hand_is_repaired() {
    let mut wish = desired(
        vec![protection("a", &["10.0.0.4"], &[tcp(22)])],
        vec![grant("a", &["10.0.0.4"], 22, &["203.0.113.7"], 1)],
    );
    let (good, _) = bring(&nsg(vec![rule("ssh", 1000, "Allow", "22")]), &mut wish);
    for (access, key, value) in [
        (Access::Deny, "access", json!("Allow")),
        (Access::Deny, "priority", json!(2000)),
        (Access::Deny, "sourceAddressPrefix", json!("10.0.0.0/8")),
        (Access::Deny, "sourcePortRange", json!("1-1023")),
        (Access::Deny, "destinationPortRange", json!("23")),
        (Access::Deny, "protocol", json!("Udp")),
        (Access::Allow, "sourceAddressPrefix", json!("*")),
        (Access::Allow, "destinationPortRange", json!("*")),
        (Access::Allow, "priority", json!(3000)),
        (Access::Allow, "description", json!("mine now")),
    ] {
        let name = ours(&good, access)[0].name().to_owned();
        let rules = good.rules().iter().map(|r| {
            let mut json = r.json().clone();
            if r.name() == name {
                json["properties"][key] = value.clone();
            }
            SecurityRule::from_json(json)
        });
        let edited = good.with_rules(rules.collect());
        if key != "description" {
            assert!(verify(&edited, &wish, now()).is_err(), "{access:?} {key} goes unseen");
        }
        let (repaired, _) = bring(&edited, &mut wish);
        verify(&repaired, &wish, now()).unwrap();
        assert_eq!(ours(&repaired, access)[0].name(), name);
        let removed = good.with_rules(good.rules().iter().filter(|r| r.name() != name).cloned().collect());
        verify(&bring(&removed, &mut wish).0, &wish, now()).unwrap();
    }
    // Azure's own spelling of the same rule is no edit.
    let rules = good.rules().iter().map(|r| {
        let mut json = r.json().clone();
        json["etag"] = json!("W/\"2\"");
        json["properties"]["protocol"] = json!("TCP");
        json["properties"]["sourceAddressPrefixes"] = json!([]);
        json["properties"]["provisioningState"] = json!("Succeeded");
        SecurityRule::from_json(json)
    });
    assert_eq!(plan(&good.with_rules(rules.collect()), &wish, now()).unwrap().write, Write::Nothing);
}

#[test]
fn a_deny_widened_by_hand_stays_and_is_noted() {
    let mut wish = desired(vec![protection("a", &["10.0.0.4"], &[tcp(22)])], vec![]);
    let (good, _) = bring(&nsg(vec![]), &mut wish);
    let mut json = ours(&good, Access::Deny)[0].json().clone();
    json["properties"]["destinationAddressPrefix"] = json!("*");
    let wide = good.with_rules(vec![SecurityRule::from_json(json)]);
    let (after, planned) = bring(&wide, &mut wish);
    assert!(after.rules().iter().any(|r| r.destination().any), "nobody knows what else it protects");
    assert!(
        planned
            .notes
            .iter()
            .any(|n| matches!(n, Note::OrphanedProtection { addresses, .. } if addresses == &["*"]))
    );
    verify(&after, &wish, now()).unwrap();
}

#[test]
fn another_deployments_rules_are_left_alone_and_noted() {
    let other = rule("ajar-prod2-deny-ssh-1", 200, "Deny", "8080");
    let mut wish = desired(vec![protection("a", &["10.0.0.4"], &[tcp(22)])], vec![]);
    let (after, planned) = bring(&nsg(vec![other.clone()]), &mut wish);
    assert_eq!(after.rules()[0].json(), &other);
    assert!(
        planned.notes.contains(&Note::OtherDeployments { rules: vec!["ajar-prod2-deny-ssh-1".to_owned()] })
    );
    let blocking = nsg(vec![rule("ajar-prod2-deny-ssh-1", 100, "Deny", "22")]);
    let error = plan(&blocking, &wish, now()).unwrap_err();
    assert_eq!(error, PlanError::BlockedByOtherDeployment { rule: "ajar-prod2-deny-ssh-1".to_owned() });
}

#[test]
fn a_policy_on_one_protocol_leaves_the_other() {
    let mut wish = desired(vec![protection("a", &["10.0.0.4"], &[tcp(22)])], vec![]);
    let (after, _) = bring(&nsg(vec![]), &mut wish);
    assert_eq!(ours(&after, Access::Deny)[0].protocol(), Some(Protocol::Tcp));
    let mut any = wish.clone();
    any.protections[0].ports[0].protocol = Protocol::Any;
    let (after, planned) = bring(&after, &mut any);
    assert_eq!(ours(&after, Access::Deny)[0].protocol(), Some(Protocol::Any));
    let Write::Rules(writes) = planned.write else { panic!() };
    assert!(matches!(writes.as_slice(), [RuleWrite::Put(_), RuleWrite::Delete(_)]), "never without a deny");
    let mut icmp = wish;
    icmp.protections[0].ports[0].protocol = Protocol::Icmp;
    assert!(matches!(plan(&nsg(vec![]), &icmp, now()), Err(PlanError::ProtocolWithoutPorts { .. })));
}

#[test]
fn flush_connection_is_set_with_the_whole_nsg_and_goes_back() {
    let mut p = protection("a", &["10.0.0.4"], &[tcp(22)]);
    p.flush_connection = true;
    let mut wish = desired(vec![p], vec![]);
    let (on, planned) = bring(&nsg(vec![]), &mut wish);
    assert!(matches!(planned.write, Write::Whole(_)));
    assert_eq!((on.flush_connection(), wish.original_flush_connection), (Some(true), Some(false)));
    wish.grants.push(grant("a", &["10.0.0.4"], 22, &["203.0.113.7"], 1));
    assert!(matches!(plan(&on, &wish, now()).unwrap().write, Write::Rules(_)), "set once");
    wish.protections[0].state = ProtectionState::Disabling;
    let (off, _) = bring(&on, &mut wish);
    assert_eq!(off.flush_connection(), Some(false));
    assert_eq!(plan(&off, &wish, now()).unwrap().original_flush_connection, None);

    // Where its owner had set it, it stays.
    let mut wish = desired(vec![wish.protections[0].clone()], vec![]);
    wish.protections[0].state = ProtectionState::Enabled;
    let (on, _) = bring(&nsg(vec![]).with_flush_connection(true), &mut wish);
    assert_eq!(wish.original_flush_connection, None);
    wish.protections[0].state = ProtectionState::Disabling;
    assert_eq!(bring(&on, &mut wish).0.flush_connection(), Some(true));
}

#[test]
fn grants_outside_a_protection_and_addresses_claimed_twice_are_noted() {
    let wish = desired(
        vec![protection("a", &["10.0.0.4"], &[tcp(22)]), protection("b", &["10.0.0.4"], &[tcp(22)])],
        vec![
            grant("a", &["10.0.0.4"], 3389, &["203.0.113.7"], 1),
            grant("c", &["10.0.0.4"], 22, &["203.0.113.7"], 1),
        ],
    );
    let planned = plan(&nsg(vec![]), &wish, now()).unwrap();
    let outside = planned.notes.iter().filter(|n| matches!(n, Note::GrantOutsideProtection { .. })).count();
    assert_eq!(outside, 2);
    assert!(
        planned.notes.iter().any(|n| matches!(n, Note::AddressClaimedTwice { vms, .. } if vms.len() == 2))
    );
    assert!(ours(&apply(&nsg(vec![]), &planned.write), Access::Allow).is_empty());
}

#[test]
fn limits_are_typed_errors_that_say_what_to_do() {
    let full: Vec<Value> = (0..1000).map(|i| rule(&format!("r{i}"), 1000 + i, "Allow", "80")).collect();
    let wish = desired(vec![protection("a", &["10.0.0.4"], &[tcp(22)])], vec![]);
    let error = plan(&nsg(full), &wish, now()).unwrap_err();
    assert_eq!(error, PlanError::TooManyRules { count: 1001 });
    assert!(error.to_string().contains("remove unused rules"));

    let sources: Vec<String> = (0..4001u32).map(|i| format!("11.{}.{}.1", i / 256, i % 256)).collect();
    let texts: Vec<&str> = sources.iter().map(String::as_str).collect();
    let many = desired(wish.protections.clone(), vec![grant("a", &["10.0.0.4"], 22, &texts, 1)]);
    let error = plan(&nsg(vec![]), &many, now()).unwrap_err();
    assert_eq!(error, PlanError::TooManyPrefixes { side: "source", count: 4002 });

    // 100 to 4096 is 3997 priorities; this many rules of others in a row leave no room to move them.
    let packed: Vec<Value> = (0..998).map(|i| rule(&format!("r{i}"), 3099 + i, "Allow", "22")).collect();
    let mut low: Vec<Value> = packed.clone();
    low.push(rule("low", 100, "Allow", "22"));
    plan(&nsg(low), &wish, now()).unwrap();
    let mut unreadable = rule("odd", 100, "Allow", "22");
    unreadable["properties"]["priority"] = json!("?");
    let error = plan(&nsg(vec![unreadable]), &wish, now()).unwrap_err();
    assert_eq!(error, PlanError::UnreadableRule { rule: "odd".to_owned(), part: "priority" });
}

#[test]
fn rules_that_may_match_through_groups_count_as_in_the_way() {
    let mut group = rule("group", 500, "Allow", "22");
    group["properties"]["destinationAddressPrefix"] = Value::Null;
    group["properties"]["destinationApplicationSecurityGroups"] = json!([{"id":
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/applicationSecurityGroups/web"}]);
    let mut wish = desired(vec![protection("a", &["10.0.0.4"], &[tcp(22)])], vec![]);
    let (after, _) = bring(&nsg(vec![group]), &mut wish);
    assert_eq!(ours(&after, Access::Deny)[0].priority(), Some(499));
    verify(&after, &wish, now()).unwrap();
}

#[test]
fn priorities_are_stable_while_other_grants_come_and_go() {
    let mut wish = desired(
        vec![
            protection("a", &["10.0.0.4"], &[tcp(22), tcp(3389)]),
            protection("b", &["10.0.0.5"], &[tcp(22)]),
        ],
        vec![
            grant("a", &["10.0.0.4"], 22, &["203.0.113.7"], 1),
            grant("a", &["10.0.0.4"], 3389, &["203.0.113.7"], 5),
        ],
    );
    let (one, _) = bring(&nsg(vec![rule("all", 1000, "Allow", "*")]), &mut wish);
    let rdp = ours(&one, Access::Allow).into_iter().find(|r| r.name().contains("-rdp-")).unwrap().clone();
    let denies: Vec<_> = ours(&one, Access::Deny).into_iter().cloned().collect();
    wish.grants.remove(0);
    wish.grants.push(grant("b", &["10.0.0.5"], 22, &["198.51.100.0/24"], 2));
    let (two, _) = bring(&one, &mut wish);
    assert_eq!(priority(&two, rdp.name()), rdp.priority());
    assert_eq!(ours(&two, Access::Deny).into_iter().cloned().collect::<Vec<_>>(), denies);
}

#[test]
fn desired_state_reads_back_from_its_json() {
    let mut wish = desired(
        vec![protection("a", &["10.0.0.4"], &[tcp(22)])],
        vec![grant("a", &["10.0.0.4"], 22, &["203.0.113.7"], 1)],
    );
    wish.protections[0].exceptions =
        vec![StandingException { source: ExceptionSource::parse("VirtualNetwork").unwrap() }];
    bring(&nsg(vec![rule("first", 100, "Allow", "22")]), &mut wish);
    let json = serde_json::to_value(&wish).unwrap();
    assert_eq!(json["protections"][0]["exceptions"][0]["source"], "VirtualNetwork");
    assert_eq!(json["protections"][0]["ports"][0], json!({"ports": "22", "protocol": "Tcp"}));
    assert_eq!(json["originals"][0]["name"], "first");
    assert_eq!(serde_json::from_value::<Desired>(json).unwrap(), wish);
}

#[test]
fn a_deny_of_some_source_ports_before_a_grant_is_seen() {
    let mut deny = rule("first", 100, "Deny", "22");
    deny["properties"]["sourcePortRange"] = json!("53");
    let mut p = protection("a", &["10.0.0.4"], &[tcp(22)]);
    p.existing_rules = ExistingRules::Respect;
    let mut wish = desired(vec![p], vec![grant("a", &["10.0.0.4"], 22, &["203.0.113.7"], 1)]);
    let (after, planned) = bring(&nsg(vec![deny]), &mut wish);
    let [Note::RespectedRules { rules, closed, .. }] = planned.notes.as_slice() else {
        panic!("{:?}", planned.notes)
    };
    assert_eq!(rules, &["first"]);
    assert_eq!(closed.addresses().v4_count(), 1, "the grant works, but not from source port 53");
    wish.protections[0].existing_rules = ExistingRules::Supersede;
    assert!(verify(&after, &wish, now()).is_err());
}

#[test]
fn an_allow_that_was_moved_behind_the_deny_comes_before_it_again() {
    let mut wish = desired(
        vec![protection("a", &["10.0.0.4"], &[tcp(22)])],
        vec![grant("a", &["10.0.0.4"], 22, &["203.0.113.7"], 1)],
    );
    let (good, _) = bring(&nsg(vec![rule("ssh", 1000, "Allow", "22")]), &mut wish);
    let moved = good.rules().iter().map(|r| match r.access() {
        Some(Access::Allow) if r.name().starts_with("ajar-") => r.with_priority(700),
        Some(Access::Deny) => r.with_priority(600),
        _ => r.clone(),
    });
    let moved = good.with_rules(moved.collect());
    assert!(verify(&moved, &wish, now()).is_err());
    verify(&bring(&moved, &mut wish).0, &wish, now()).unwrap();
}

#[test]
fn a_thousand_vms_in_one_nsg_are_planned_in_reasonable_time() {
    let name = |i: u16| (format!("vm{i}"), format!("10.1.{}.{}", i / 256, i % 256));
    let protections =
        (0..1000).map(|i| protection(&name(i).0, &[&name(i).1], &[tcp(22), tcp(3389)])).collect();
    let grants = (0..200).map(|i| grant(&name(i).0, &[&name(i).1], 22, &["203.0.113.7"], 1)).collect();
    let mut wish = desired(protections, grants);
    let (after, planned) = bring(&nsg(vec![rule("ssh", 1000, "Allow", "22")]), &mut wish);
    assert!(matches!(&planned.write, Write::Rules(w) if w.len() == 2), "one deny for all, one allow for all");
    verify(&after, &wish, now()).unwrap();
}
