//! The main job, use case by use case, in a world in memory. What passes is decided by the referee of
//! `FakeAzure::allows`, which shares no code with the planner.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::error::AccessError;
use ajar_access::life_cycle::{CloseReason, Status};
use ajar_access::originals::OriginalsCopy;
use ajar_access::policy::{PolicyInput, PolicyState};
use ajar_access::ports::clock::Clock;
use ajar_access::ports::store::Table;
use ajar_access::request::{AccessRequest, RequestInput};
use ajar_access::testing::{World, nsg, user, vm};
use ajar_access::{assess, close, configure, decide, history, query, reconcile, submit};
use ajar_network::assessment;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::sync::atomic::Ordering;

const ADA: &str = "203.0.113.7";
const NEIGHBOUR: &str = "203.0.113.8";
const WEB_1: &str = "10.0.0.4";
const WEB_2: &str = "10.0.0.5";

fn policy(name: &str) -> PolicyInput {
    serde_json::from_value(json!({
        "vm": vm(name).as_str(),
        "ports": [{ "port": 22 }, { "port": 3389, "protocol": "*", "maximumDuration": "PT30M" }],
        "minimumDuration": "PT1S",
    }))
    .unwrap()
}

fn ask(name: &str, source: &str, duration: &str) -> RequestInput {
    serde_json::from_value(json!({
        "vm": vm(name).as_str(),
        "ports": [{ "port": 22, "sources": [source] }],
        "duration": duration,
        "justification": "INC-42",
    }))
    .unwrap()
}

async fn protected() -> World {
    let world = World::new();
    configure::enable(&world.ajar, &user("alice"), &policy("web-1")).await.unwrap();
    world.deliver().await;
    world
}

async fn granted(world: &World, name: &str, source: &str, duration: &str) -> AccessRequest {
    let request = submit::submit(&world.ajar, &user("bob"), &ask(name, source, duration)).await.unwrap();
    world.deliver().await;
    read(world, &request).await
}

async fn read(world: &World, request: &AccessRequest) -> AccessRequest {
    query::request(&world.ajar, &user("bob"), &request.id).await.unwrap()
}

#[tokio::test]
async fn a_port_opens_for_one_source_and_shuts_by_itself() {
    let world = World::new();
    assert!(world.azure.allows(ADA, WEB_1, 22), "open to the Internet at first");
    let before = assess::assess_vm(&world.ajar, &user("carol"), &vm("web-1")).await.unwrap();
    assert_eq!(before.status, assessment::Status::Unhealthy);

    configure::enable(&world.ajar, &user("alice"), &policy("web-1")).await.unwrap();
    world.deliver().await;
    for source in [ADA, NEIGHBOUR, "10.9.9.9"] {
        assert!(!world.azure.allows(source, WEB_1, 22), "{source} is shut out");
    }
    assert!(world.azure.allows(ADA, WEB_1, 443), "another port of the VM is as it was");
    assert!(world.azure.allows(ADA, WEB_2, 22), "another VM is as it was");
    assert_eq!(world.azure.property("web-nsg", "flushConnection"), Some(json!(true)));
    let after = assess::assess_vm(&world.ajar, &user("carol"), &vm("web-1")).await.unwrap();
    assert_eq!(after.status, assessment::Status::Healthy);

    let request = granted(&world, "web-1", ADA, "PT10M").await;
    assert_eq!(request.status, Status::Active);
    assert!(world.azure.allows(ADA, WEB_1, 22), "open to who asked");
    assert!(!world.azure.allows(NEIGHBOUR, WEB_1, 22), "not to a neighbour");
    assert!(!world.azure.allows(ADA, WEB_1, 3389), "not on another port");

    world.pass(SignedDuration::from_secs(599)).await;
    assert!(world.azure.allows(ADA, WEB_1, 22), "open until the end");
    world.pass(SignedDuration::from_secs(1)).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22), "shut at the end");
    let request = read(&world, &request).await;
    assert_eq!((request.status, request.close_reason), (Status::Closed, Some(CloseReason::Expired)));
    assert!(world.azure.allows(ADA, WEB_2, 22) && world.azure.allows(ADA, WEB_1, 443));
}

#[tokio::test]
async fn both_nsgs_on_the_way_are_shut_and_opened() {
    let world = World::new();
    configure::enable(&world.ajar, &user("alice"), &policy("both-1")).await.unwrap();
    world.deliver().await;
    assert!(!world.azure.allows(ADA, "10.0.1.4", 22));
    let request = granted(&world, "both-1", ADA, "PT10M").await;
    assert_eq!(request.status, Status::Active);
    assert_eq!(request.points.len(), 2);
    assert!(world.azure.allows(ADA, "10.0.1.4", 22));
    assert!(!world.azure.allows(NEIGHBOUR, "10.0.1.4", 22));
    world.pass(SignedDuration::from_mins(10)).await;
    assert!(!world.azure.allows(ADA, "10.0.1.4", 22));
    assert_eq!(read(&world, &request).await.status, Status::Closed);
}

#[tokio::test]
async fn a_rule_in_the_way_is_moved_and_comes_back_when_jit_is_turned_off() {
    let world = World::new();
    let before = world.azure.rules("first-nsg");
    configure::enable(&world.ajar, &user("alice"), &policy("both-1")).await.unwrap();
    world.deliver().await;
    let moved = world.azure.rules("first-nsg");
    let theirs = moved.iter().find(|rule| rule["name"] == "AllowMgmt").unwrap();
    assert_ne!(theirs["properties"]["priority"], 100, "it sat where ours must go");
    assert!(world.azure.allows(ADA, "10.0.0.4", 22), "others are not touched");

    let request = granted(&world, "both-1", ADA, "PT10M").await;
    let off = configure::disable(&world.ajar, &user("alice"), &vm("both-1")).await.unwrap();
    assert_eq!(off.state, PolicyState::Disabling);
    world.deliver().await;
    let request = read(&world, &request).await;
    assert_eq!((request.status, request.close_reason), (Status::Closed, Some(CloseReason::Revoked)));
    assert_eq!(world.azure.rules("first-nsg"), before, "as it was");
    assert!(copies(&world).iter().all(|copy| copy.rules.is_empty() && copy.flush_connection.is_none()));
    assert_ne!(world.azure.property("first-nsg", "flushConnection"), Some(json!(true)));
    let gone = query::policy(&world.ajar, &user("alice"), &vm("both-1")).await;
    assert!(matches!(gone, Err(AccessError::NotFound(_))), "{gone:?}");
}

fn copies(world: &World) -> Vec<OriginalsCopy> {
    let texts = world.blobs.contents();
    let copies = texts.iter().filter(|(name, _)| name.starts_with("originals/"));
    copies.map(|(_, text)| OriginalsCopy::parse(text).unwrap()).collect()
}

/// `ajar drain` puts rules back by it.
#[tokio::test]
async fn the_copy_of_originals_outlives_the_tables() {
    let world = World::new();
    configure::enable(&world.ajar, &user("alice"), &policy("both-1")).await.unwrap();
    world.deliver().await;
    let kept = copies(&world);
    let of_first = kept.iter().find(|copy| copy.point.name() == "first-nsg").unwrap();
    let moved: Vec<_> = of_first.rules.iter().map(|rule| (rule.name.as_str(), rule.priority)).collect();
    assert_eq!((&moved[..], of_first.flush_connection), (&[("AllowMgmt", 100)][..], Some(false)));

    world.store.wipe();
    configure::enable(&world.ajar, &user("alice"), &policy("both-1")).await.unwrap();
    world.deliver().await;
    assert_eq!(copies(&world), kept, "what the new tables found moved is not where it was first");
    configure::disable(&world.ajar, &user("alice"), &vm("both-1")).await.unwrap();
    world.deliver().await;
    assert_eq!(copies(&world), kept, "nobody has put it back");
}

/// Nothing is moved whose original nobody would know.
#[tokio::test]
async fn nothing_is_moved_before_its_original_is_kept() {
    let world = World::new();
    let before = world.azure.rules("first-nsg");
    configure::enable(&world.ajar, &user("alice"), &policy("both-1")).await.unwrap();
    world.blobs.is_down.store(true, std::sync::atomic::Ordering::SeqCst);
    world.deliver().await;
    assert_eq!(world.azure.rules("first-nsg"), before);
    world.blobs.is_down.store(false, std::sync::atomic::Ordering::SeqCst);
    world.pass(SignedDuration::from_mins(2)).await;
    assert!(!world.azure.allows(ADA, "10.0.1.4", 22));
}

#[tokio::test]
async fn respected_rules_are_left_and_the_verdict_says_so() {
    let world = World::new();
    let before = world.azure.rules("first-nsg");
    let input = PolicyInput { existing_rules: Some("respect".into()), ..policy("both-1") };
    configure::enable(&world.ajar, &user("alice"), &input).await.unwrap();
    world.deliver().await;
    let theirs: Vec<_> = world
        .azure
        .rules("first-nsg")
        .into_iter()
        .filter(|rule| !rule["name"].as_str().unwrap().starts_with("ajar-"))
        .collect();
    assert_eq!(theirs, before);
    let verdict = assess::assess_vm(&world.ajar, &user("carol"), &vm("both-1")).await.unwrap();
    assert_eq!(verdict.reason, assessment::Reason::JitEnabled { protected_in_part: true });
    let input = PolicyInput { existing_rules: None, ..input };
    configure::enable(&world.ajar, &user("alice"), &input).await.unwrap();
    world.deliver().await;
    assert!(!world.azure.allows(ADA, "10.0.1.4", 22));
    let verdict = assess::assess_vm(&world.ajar, &user("carol"), &vm("both-1")).await.unwrap();
    assert_eq!(verdict.reason, assessment::Reason::JitEnabled { protected_in_part: false });
}

#[tokio::test]
async fn revoking_shuts_at_once_and_tells_why() {
    let world = protected().await;
    let request = granted(&world, "web-1", ADA, "PT10M").await;
    let stranger = close::revoke(&world.ajar, &user("carol"), &request.id).await;
    assert!(matches!(stranger, Err(AccessError::Forbidden(_))), "{stranger:?}");
    assert!(world.azure.allows(ADA, WEB_1, 22));

    close::revoke(&world.ajar, &user("bob"), &request.id).await.unwrap();
    world.deliver().await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    let request = read(&world, &request).await;
    assert_eq!((request.status, request.close_reason), (Status::Closed, Some(CloseReason::Revoked)));
    // The message for the original end comes late and finds nothing to do.
    world.azure.take_writes();
    world.pass(SignedDuration::from_mins(11)).await;
    assert_eq!(world.azure.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn access_to_a_vm_that_is_gone_can_still_be_seen_and_ended() {
    let world = protected().await;
    let request = granted(&world, "web-1", ADA, "PT10M").await;
    world.azure.has_lost_vms.store(true, Ordering::SeqCst);
    let seen = query::request(&world.ajar, &user("carol"), &request.id).await;
    assert!(seen.is_ok(), "{seen:?}");
    let stranger = query::request(&world.ajar, &user("mallory"), &request.id).await;
    assert!(matches!(stranger, Err(AccessError::Forbidden(_))), "{stranger:?}");
    close::revoke(&world.ajar, &user("alice"), &request.id).await.unwrap();
    world.deliver().await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
}

#[tokio::test]
async fn nobody_without_the_role_gets_anything_and_nothing_is_stored_for_them() {
    let world = protected().await;
    let rows = world.store.contents();
    for name in ["carol", "mallory"] {
        let asked = submit::submit(&world.ajar, &user(name), &ask("web-1", ADA, "PT10M")).await;
        assert!(matches!(asked, Err(AccessError::Forbidden(_))), "{name}: {asked:?}");
    }
    for name in ["bob", "carol", "mallory"] {
        let on = configure::enable(&world.ajar, &user(name), &policy("web-2")).await;
        assert!(matches!(on, Err(AccessError::Forbidden(_))), "{name}: {on:?}");
        let off = configure::disable(&world.ajar, &user(name), &vm("web-1")).await;
        assert!(matches!(off, Err(AccessError::Forbidden(_))), "{name}: {off:?}");
    }
    assert_eq!(world.store.contents(), rows);
    world.azure.hides_roles.store(true, Ordering::SeqCst);
    let asked = submit::submit(&world.ajar, &user("alice"), &ask("web-2", ADA, "PT10M")).await;
    assert!(matches!(asked, Err(AccessError::Unavailable { .. })), "{asked:?}");
    assert_eq!(world.store.contents(), rows);
}

#[tokio::test]
async fn the_role_is_checked_again_when_the_request_is_decided() {
    let world = protected().await;
    let request = submit::submit(&world.ajar, &user("bob"), &ask("web-1", ADA, "PT10M")).await.unwrap();
    world.azure.unassign("bob");
    world.deliver().await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    let request = read(&world, &request).await;
    assert_eq!(request.status, Status::Denied);
    assert!(request.reason.unwrap().contains("initiate/action"));
}

#[tokio::test]
async fn with_the_bus_down_the_sweep_opens_and_shuts() {
    let world = protected().await;
    world.bus.is_down.store(true, Ordering::SeqCst);
    let request = submit::submit(&world.ajar, &user("bob"), &ask("web-1", ADA, "PT10M")).await.unwrap();
    world.clock.advance(SignedDuration::from_mins(1));
    world.sweep().await.unwrap();
    world.clock.advance(SignedDuration::from_mins(1));
    world.sweep().await.unwrap();
    assert!(world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(read(&world, &request).await.status, Status::Active);
    world.clock.advance(SignedDuration::from_mins(11));
    let report = world.sweep().await.unwrap();
    assert!(report.done > 0 && report.failed == 0, "{report:?}");
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(read(&world, &request).await.status, Status::Closed);
}

#[tokio::test]
async fn the_same_message_twice_changes_nothing() {
    let world = protected().await;
    let request = submit::submit(&world.ajar, &user("bob"), &ask("web-1", ADA, "PT10M")).await.unwrap();
    let (queue, sent) = world.bus.waiting().into_iter().next_back().unwrap();
    world.deliver().await;
    let opened = read(&world, &request).await;
    world.azure.take_writes();
    world.clock.advance(SignedDuration::from_secs(5));
    world.handle(queue, &sent.body).await;
    world.deliver().await;
    assert_eq!(read(&world, &request).await, opened, "start and end stay as they were fixed");
    assert_eq!(world.azure.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_message_that_comes_after_a_revocation_does_not_open_again() {
    let world = protected().await;
    let request = submit::submit(&world.ajar, &user("bob"), &ask("web-1", ADA, "PT10M")).await.unwrap();
    let (queue, sent) = world.bus.waiting().into_iter().next_back().unwrap();
    world.deliver().await;
    close::revoke(&world.ajar, &user("bob"), &request.id).await.unwrap();
    world.deliver().await;
    world.handle(queue, &sent.body).await;
    world.deliver().await;
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(read(&world, &request).await.status, Status::Closed);
}

#[tokio::test]
async fn twenty_requests_on_one_nsg_take_few_writes() {
    let world = protected().await;
    world.azure.take_writes();
    for number in 1..=20 {
        let input = ask("web-1", &format!("203.0.113.{number}"), "PT10M");
        submit::submit(&world.ajar, &user("bob"), &input).await.unwrap();
    }
    world.deliver().await;
    for number in 1..=20 {
        assert!(world.azure.allows(&format!("203.0.113.{number}"), WEB_1, 22), "{number}");
    }
    assert!(!world.azure.allows("203.0.113.21", WEB_1, 22));
    let opening = world.azure.take_writes().len();
    assert!(opening <= 20, "{opening} writes to open");
    world.pass(SignedDuration::from_mins(11)).await;
    assert!((1..=20).all(|number| !world.azure.allows(&format!("203.0.113.{number}"), WEB_1, 22)));
    let closing = world.azure.take_writes();
    assert_eq!(closing.len(), 1, "all ended at once: {closing:?}");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_looked_at_again_when_stragglers_are_gone() {
    let world = protected().await;
    let looks = |world: &World| {
        world
            .store
            .contents()
            .into_keys()
            .filter(|(table, _, row)| *table == Table::Due && row.contains("_look_"))
            .count()
    };
    assert_eq!(looks(&world), 0);
    world.azure.loses_answers.store(true, Ordering::SeqCst);
    let request = submit::submit(&world.ajar, &user("bob"), &ask("web-1", ADA, "PT1H")).await.unwrap();
    world.deliver().await;
    assert!(world.azure.allows(ADA, WEB_1, 22), "it was done all the same");
    assert_eq!(looks(&world), 1);
    world.azure.loses_answers.store(false, Ordering::SeqCst);
    world.pass(SignedDuration::from_secs(5)).await;
    assert_eq!(read(&world, &request).await.status, Status::Active);
    assert_eq!(looks(&world), 1, "a straggler may still be on its way");
    world.minutes(16).await;
    assert_eq!(looks(&world), 0);
}

#[tokio::test]
async fn a_rule_edited_or_removed_by_hand_is_repaired_by_the_next_reconcile() {
    let world = protected().await;
    granted(&world, "web-1", ADA, "PT10M").await;
    let good = world.azure.rules("web-nsg");
    let mut edited = good.clone();
    for rule in &mut edited {
        if rule["name"].as_str().unwrap().starts_with("ajar-test-allow") {
            rule["properties"]["sourceAddressPrefix"] = json!("*");
        }
    }
    assert_ne!(edited, good);
    world.azure.set_rules("web-nsg", edited);
    assert!(world.azure.allows(NEIGHBOUR, WEB_1, 22));
    reconcile::reconcile(&world.ajar, &nsg("web-nsg")).await.unwrap();
    assert!(!world.azure.allows(NEIGHBOUR, WEB_1, 22));
    assert!(world.azure.allows(ADA, WEB_1, 22));

    let kept = good.iter().filter(|rule| !rule["name"].as_str().unwrap().contains("deny")).cloned().collect();
    world.azure.set_rules("web-nsg", kept);
    assert!(world.azure.allows(NEIGHBOUR, WEB_1, 22));
    reconcile::reconcile(&world.ajar, &nsg("web-nsg")).await.unwrap();
    assert!(!world.azure.allows(NEIGHBOUR, WEB_1, 22));
}

#[tokio::test]
async fn with_every_table_wiped_no_deny_goes_and_allows_end_as_described() {
    let world = protected().await;
    granted(&world, "web-1", ADA, "PT10M").await;
    world.store.wipe();
    world.bus.clear();
    reconcile::reconcile(&world.ajar, &nsg("web-nsg")).await.unwrap();
    world.sweep().await.unwrap();
    assert!(!world.azure.allows(NEIGHBOUR, WEB_1, 22), "the deny stays");
    assert!(world.azure.allows(ADA, WEB_1, 22), "what the description still allows stays");
    world.clock.advance(SignedDuration::from_mins(10));
    let report = world.sweep().await.unwrap();
    assert_eq!(report.closed_by_description, 1);
    assert!(!world.azure.allows(ADA, WEB_1, 22) && !world.azure.allows(NEIGHBOUR, WEB_1, 22));

    // Turning JIT on again adopts the deny and writes nothing that opens.
    configure::enable(&world.ajar, &user("alice"), &policy("web-1")).await.unwrap();
    world.deliver().await;
    assert!(!world.azure.allows(ADA, WEB_1, 22) && !world.azure.allows(NEIGHBOUR, WEB_1, 22));
}

#[tokio::test]
async fn with_one_table_wiped_nothing_opens() {
    for table in Table::ALL {
        let world = protected().await;
        granted(&world, "web-1", ADA, "PT10M").await;
        world.store.wipe_table(table);
        world.minutes(30).await;
        let _ = reconcile::reconcile(&world.ajar, &nsg("web-nsg")).await;
        for source in [ADA, NEIGHBOUR] {
            assert!(!world.azure.allows(source, WEB_1, 22), "{table:?} wiped, {source}");
        }
    }
}

/// 315 of `tests/fault-simulation`.
#[tokio::test]
async fn access_whose_grant_was_lost_ends_all_the_same() {
    let world = protected().await;
    let expired = granted(&world, "web-1", ADA, "PT10M").await;
    let revoked = granted(&world, "web-1", NEIGHBOUR, "PT30M").await;
    close::revoke(&world.ajar, &user("bob"), &revoked.id).await.unwrap();
    world.bus.clear();
    world.store.wipe_table(Table::Grants);
    world.minutes(13).await;
    for (request, reason) in [(expired, CloseReason::Expired), (revoked, CloseReason::Revoked)] {
        let request = read(&world, &request).await;
        assert_eq!((request.status, request.close_reason), (Status::Closed, Some(reason)));
    }
    assert!(!world.azure.allows(ADA, WEB_1, 22) && !world.azure.allows(NEIGHBOUR, WEB_1, 22));
    // A due row whose change is not there is kept for an hour.
    world.minutes(80).await;
    assert_eq!(world.store.count(Table::Due), 0, "{:?}", world.store.contents());
}

#[tokio::test]
async fn with_the_store_down_nothing_is_opened_and_what_has_ended_is_shut() {
    let world = protected().await;
    granted(&world, "web-1", ADA, "PT10M").await;
    world.store.is_down.store(true, Ordering::SeqCst);
    let asked = submit::submit(&world.ajar, &user("bob"), &ask("web-1", NEIGHBOUR, "PT10M")).await;
    assert!(matches!(asked, Err(AccessError::Unavailable { .. })), "{asked:?}");
    world.minutes(16).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22) && !world.azure.allows(NEIGHBOUR, WEB_1, 22));
}

#[tokio::test]
async fn a_short_outage_of_the_store_cuts_nobody_who_shares_a_rule_with_what_has_ended() {
    let world = protected().await;
    granted(&world, "web-1", ADA, "PT10M").await;
    granted(&world, "web-1", NEIGHBOUR, "PT1H").await;
    world.minutes(9).await;
    world.store.is_down.store(true, Ordering::SeqCst);
    world.minutes(5).await;
    assert!(world.azure.allows(NEIGHBOUR, WEB_1, 22), "cut by an outage of five minutes");
    world.store.is_down.store(false, Ordering::SeqCst);
    world.minutes(2).await;
    assert!(world.azure.allows(NEIGHBOUR, WEB_1, 22) && !world.azure.allows(ADA, WEB_1, 22));
}

#[tokio::test]
async fn a_deny_that_lands_after_jit_was_turned_off_is_removed_by_the_second_look() {
    let world = World::new();
    let untouched = world.azure.rules("web-nsg");
    configure::enable(&world.ajar, &user("alice"), &policy("web-1")).await.unwrap();
    world.deliver().await;
    let is_deny = |rule: &serde_json::Value| rule["name"].as_str().unwrap().contains("-deny-ssh-");
    let deny = world.azure.rules("web-nsg").into_iter().find(is_deny);
    configure::disable(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap();
    world.minutes(2).await;
    assert_eq!(world.azure.rules("web-nsg"), untouched);
    let late = untouched.iter().cloned().chain(deny.map(|mut rule| {
        rule["properties"]["priority"] = 200.into();
        rule
    }));
    world.azure.set_rules("web-nsg", late.collect());
    assert!(!world.azure.allows(ADA, WEB_1, 22));
    world.minutes(20).await;
    assert_eq!(world.azure.rules("web-nsg"), untouched);
    let mut policies = world.store.contents().into_keys().filter(|(_, _, row)| row.starts_with("p_"));
    assert_eq!(policies.next(), None, "a projected policy is left");
    assert_eq!(world.store.count(Table::Due), 0);
}

/// The present as an instance has it whose clock is ahead.
struct Ahead(std::sync::Arc<dyn Clock>, SignedDuration);

#[async_trait::async_trait]
impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now() + self.1
    }

    async fn sleep(&self, duration: SignedDuration) {
        self.0.sleep(duration).await;
    }
}

#[tokio::test]
async fn what_an_instance_with_a_clock_ahead_granted_opens_at_its_start_and_not_at_the_next_sweep() {
    let world = protected().await;
    let request = submit::submit(&world.ajar, &user("bob"), &ask("web-1", ADA, "PT10M")).await.unwrap();
    let mut ahead = world.ajar.clone();
    ahead.ports.clock =
        std::sync::Arc::new(Ahead(world.ajar.ports.clock.clone(), SignedDuration::from_secs(9)));
    decide::decide(&ahead, &request.id).await.unwrap();
    world.deliver().await;
    assert!(!world.azure.allows(ADA, WEB_1, 22), "opened before its start");
    world.pass(SignedDuration::from_secs(9)).await;
    assert!(world.azure.allows(ADA, WEB_1, 22));
}

#[tokio::test]
async fn a_fortnight_later_nothing_is_left_due_and_nothing_is_written() {
    let world = protected().await;
    for source in [ADA, NEIGHBOUR] {
        granted(&world, "web-1", source, "PT10M").await;
    }
    world.minutes(90).await;
    assert_eq!(world.store.count(Table::Due), 0, "{:?}", world.store.contents());
    world.azure.take_writes();
    world.clock.advance(SignedDuration::from_hours(24 * 14));
    world.deliver().await;
    assert_eq!(world.sweep().await.unwrap(), ajar_access::sweep::SweepReport::default());
    assert_eq!(world.azure.take_writes(), Vec::<String>::new());
    let grants = world
        .store
        .contents()
        .into_keys()
        .filter(|(table, _, row)| *table == Table::Grants && row.starts_with("g_"));
    assert_eq!(grants.count(), 0, "ended grants are cleared after the second look");
}

#[tokio::test]
async fn history_tells_the_story_and_its_chain_holds() {
    let world = protected().await;
    let request = granted(&world, "web-1", ADA, "PT10M").await;
    granted(&world, "web-1", NEIGHBOUR, "PT10M").await;
    world.pass(SignedDuration::from_mins(11)).await;
    let story: Vec<Status> = query::request_history(&world.ajar, &user("bob"), &request.id)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| entry.status)
        .collect();
    assert_eq!(story, [Status::Requested, Status::Opening, Status::Active, Status::Closed]);
    assert_eq!(history::verify_chain(&world.ajar, &request.id).await.unwrap(), 8);

    // An entry changed behind Ajar's back breaks the chain.
    let contents = world.store.contents();
    let ((_, partition, row), document) = contents
        .iter()
        .find(|((table, _, row), _)| *table == Table::Requests && row.starts_with("h_"))
        .unwrap();
    let forged = document.replace("asked for access", "was given access");
    assert_ne!(&forged, document);
    world.store.overwrite(Table::Requests, partition, row, forged);
    let checked = history::verify_chain(&world.ajar, &request.id).await;
    assert!(matches!(checked, Err(AccessError::Conflict { code: "HistoryChanged", .. })), "{checked:?}");
}

#[tokio::test]
async fn what_the_policy_does_not_allow_is_refused_by_field() {
    let world = protected().await;
    let rows = world.store.contents();
    let ask = |ports: serde_json::Value, duration: &str| -> RequestInput {
        serde_json::from_value(json!({ "vm": vm("web-1").as_str(), "ports": ports, "duration": duration }))
            .unwrap()
    };
    let cases = [
        (ask(json!([{ "port": 23, "sources": [ADA] }]), "PT10M"), "ports[0].port"),
        (ask(json!([{ "port": "22-23", "sources": [ADA] }]), "PT10M"), "ports[0].port"),
        (ask(json!([{ "port": 22, "protocol": "Udp", "sources": [ADA] }]), "PT10M"), "ports[0].port"),
        (ask(json!([{ "port": 0, "sources": [ADA] }]), "PT10M"), "ports[0].port"),
        (ask(json!([{ "port": 22, "sources": [ADA] }]), "PT4H"), "duration"),
        (ask(json!([{ "port": 22, "sources": [ADA] }]), "soon"), "duration"),
        (ask(json!([{ "port": 22, "sources": [ADA] }]), "PT0S"), "duration"),
        (ask(json!([{ "port": 22, "sources": [] }]), "PT10M"), "ports[0].sources"),
        (ask(json!([{ "port": 22, "sources": ["203.0.113.7/33"] }]), "PT10M"), "ports[0].sources[0]"),
        (ask(json!([{ "port": 22, "sources": ["203.0.113.7/24"] }]), "PT10M"), "ports[0].sources[0]"),
        (ask(json!([{ "port": 22, "sources": ["0.0.0.0/0"] }]), "PT10M"), "ports[0].sources"),
        (ask(json!([{ "port": 22, "sources": ["0.0.0.0/1", "128.0.0.0/1"] }]), "PT10M"), "ports[0].sources"),
        (ask(json!([{ "port": 22, "sources": ["*"] }]), "PT10M"), "ports[0].sources"),
        (ask(json!([{ "port": 22, "sources": ["Internet"] }]), "PT10M"), "ports[0].sources"),
        (ask(json!([{ "port": 22, "sources": ["::/0"] }]), "PT10M"), "ports[0].sources"),
        (ask(json!([]), "PT10M"), "ports"),
        // Each is narrow enough by itself; together they let too many in.
        (
            ask(
                json!([{ "port": 22, "sources": ["10.1.0.0/16"] }, { "port": 3389, "sources": ["10.2.0.0/16"] }]),
                "PT10M",
            ),
            "ports",
        ),
    ];
    for (input, expected) in cases {
        match submit::submit(&world.ajar, &user("bob"), &input).await {
            Err(AccessError::Invalid { field, .. }) => assert_eq!(field, expected, "{input:?}"),
            other => panic!("{input:?}: {other:?}"),
        }
    }
    let unknown = submit::submit(&world.ajar, &user("bob"), &self::ask("web-9", ADA, "PT10M")).await;
    assert!(matches!(unknown, Err(AccessError::NotFound(_))), "{unknown:?}");
    assert_eq!(world.store.contents(), rows);
}

#[tokio::test]
async fn what_cannot_be_opened_is_explained_and_keeps_nothing_from_being_shut() {
    let world = World::new();
    let rule = |name: String, priority: u32, port: &str| {
        json!({ "name": name, "properties": { "priority": priority, "direction": "Inbound", "access": "Allow",
            "protocol": "Tcp", "sourceAddressPrefix": "*", "sourcePortRange": "*",
            "destinationAddressPrefix": "*", "destinationPortRange": port } })
    };
    // 998 rules of other people: an NSG holds 1,000, so there is room for a deny and one allow.
    let mut rules: Vec<_> = (0..997).map(|index| rule(format!("Web{index}"), 1000 + index, "443")).collect();
    rules.push(rule("AllowManagement".into(), 4000, "22-3389"));
    world.azure.set_rules("web-nsg", rules);
    let only_tcp = serde_json::from_value(json!({
        "vm": vm("web-1").as_str(), "ports": [{ "port": 22 }, { "port": 3389 }], "minimumDuration": "PT1S" }));
    configure::enable(&world.ajar, &user("alice"), &only_tcp.unwrap()).await.unwrap();
    world.deliver().await;
    let first = granted(&world, "web-1", ADA, "PT10M").await;
    assert_eq!(first.status, Status::Active);
    let second: RequestInput =
        serde_json::from_value(json!({ "vm": vm("web-1").as_str(), "duration": "PT1H",
        "ports": [{ "port": 3389, "sources": [NEIGHBOUR] }] }))
        .unwrap();
    let second = submit::submit(&world.ajar, &user("bob"), &second).await.unwrap();
    world.deliver().await;
    let waiting = read(&world, &second).await;
    assert_eq!(waiting.status, Status::Opening);
    assert!(waiting.reason.unwrap().contains("1000"), "the limit is named");
    assert!(!world.azure.allows(NEIGHBOUR, WEB_1, 3389) && world.azure.allows(ADA, WEB_1, 22));

    // The first one's end makes room for the second.
    world.minutes(12).await;
    assert!(!world.azure.allows(ADA, WEB_1, 22), "shut although something else could not be opened");
    assert!(world.azure.allows(NEIGHBOUR, WEB_1, 3389));
    let opened = read(&world, &second).await;
    assert_eq!((opened.status, opened.reason), (Status::Active, None));
}

#[tokio::test]
async fn a_vm_that_nothing_filters_cannot_be_protected() {
    let world = World::new();
    let refused = configure::enable(&world.ajar, &user("alice"), &policy("bare-1")).await;
    assert!(matches!(refused, Err(AccessError::Conflict { code: "NoEnforcementPoint", .. })), "{refused:?}");
    let unknown = configure::enable(&world.ajar, &user("alice"), &policy("web-9")).await;
    assert!(matches!(unknown, Err(AccessError::NotFound(_))), "{unknown:?}");
    assert_eq!(world.store.contents().len(), 0);
}
