//! What becomes of events: few reads for many of them, templates, deleted and moved VMs, drift.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::error::AccessError;
use ajar_access::ports::bus::Queue;
use ajar_access::ports::store::Table;

use ajar_access::template::{Template, Templates};
use ajar_access::testing::{self, OWN_OBJECT_ID, SUBSCRIPTION, World, nsg, user, vm};
use ajar_access::{configure, history, query, submit, vm_history};
use ajar_network::assessment::Status;
use ajar_network::resource_id::ResourceId;
use jiff::SignedDuration;
use serde_json::{Value, json};

const BOB: &str = "203.0.113.7";
const STRANGER: &str = "198.51.100.77";

struct Events<'a> {
    world: &'a World,
    made: std::cell::Cell<u32>,
}

impl<'a> Events<'a> {
    fn of(world: &'a World) -> Events<'a> {
        Events { world, made: std::cell::Cell::new(0) }
    }

    /// An event at this moment, with an id of its own.
    fn make(&self, kind: &str, resource: &str, by: &str) -> Value {
        self.made.set(self.made.get() + 1);
        let object_id = if by == "ajar" { OWN_OBJECT_ID.to_owned() } else { user(by).object_id };
        json!({ "id": format!("event-{}", self.made.get()), "subject": resource,
            "eventType": format!("Microsoft.Resources.Resource{kind}Success"),
            "eventTime": ajar_access::ports::clock::Clock::now(self.world.clock.as_ref()).to_string(),
            "data": { "resourceUri": resource, "claims": {
                "http://schemas.microsoft.com/identity/claims/objectidentifier": object_id, "name": by } } })
    }

    async fn tell(&self, kind: &str, resource: &ResourceId, by: &str) {
        let event = self.make(kind, resource.as_str(), by);
        self.world.handle(Queue::VmEvents, &event.to_string()).await;
        self.world.deliver().await;
    }

    async fn tell_of_rule(&self, name: &str, rule: &str, by: &str) {
        let event = self.make("Write", &format!("{}/securityRules/{rule}", nsg(name)), by);
        self.world.handle(Queue::VmEvents, &event.to_string()).await;
        self.world.deliver().await;
    }
}

fn nic(name: &str) -> ResourceId {
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/demo/providers");
    ResourceId::parse(&format!("{group}/Microsoft.Network/networkInterfaces/{name}-nic")).unwrap()
}

async fn protect(world: &World, name: &str) {
    world.protect(name, json!({})).await;
    assert!(!world.azure.allows(STRANGER, address(name), 22));
}

fn address(name: &str) -> &'static str {
    match name {
        "web-1" => "10.0.0.4",
        "web-2" => "10.0.0.5",
        _ => "10.0.1.4",
    }
}

async fn ask(world: &World, name: &str) -> ajar_access::request_id::RequestId {
    let input = testing::ask(name, BOB, "PT1H");
    let request = submit::submit(&world.ajar, &user("bob"), &input).await.unwrap();
    world.deliver().await;
    request.id
}

async fn told(world: &World, name: &str) -> Vec<(Option<String>, String)> {
    let entries = vm_history::entries(&world.ajar, &user("alice"), &vm(name)).await.unwrap();
    entries.into_iter().map(|entry| (entry.by.map(|by| by.name), entry.what)).collect()
}

fn with_templates(world: &mut World, templates: &[Value]) {
    let templates = templates.iter().map(|one| Template::parse(&one.to_string()).unwrap()).collect();
    world.ajar.settings.templates = Templates::new(templates).unwrap();
}

fn template(mode: &str) -> Value {
    json!({ "name": "web", "mode": mode, "tags": { "env": "prod" }, "policy": { "ports": [{ "port": 22 }] } })
}

/// What `GET /api/assessments?stored=true` shows of a VM.
async fn stored_status(world: &World, name: &str) -> Option<Status> {
    let all = ajar_access::assess::stored(&world.ajar, &user("alice")).await.unwrap();
    all.into_iter().find(|stored| stored.vm == vm(name))?.assessment.map(|assessment| assessment.status)
}

#[tokio::test]
async fn ten_thousand_events_for_one_nsg_take_few_reads() {
    let world = World::new();
    protect(&world, "web-1").await;
    let events = Events::of(&world);
    world.azure.take_reads();
    // A hundred a second, out of order, some twice, and messages delivered as they come.
    let mut batch: Vec<String> = Vec::new();
    for number in 0..10_000 {
        let event = events.make("Write", &format!("{}/securityRules/r{number}", nsg("web-nsg")), "carol");
        batch.push(event.to_string());
        if batch.len() == 100 {
            batch.reverse();
            for body in batch.drain(..) {
                world.handle(Queue::VmEvents, &body).await;
                if body.len() % 7 == 0 {
                    world.handle(Queue::VmEvents, &body).await;
                }
            }
            world.pass(SignedDuration::from_secs(1)).await;
        }
    }
    world.minutes(5).await;
    let reads = world.azure.take_reads();
    // Looks begin 0, 5, 15, 35 and 75 seconds after the first event and once after the last; each reads the NSG, what
    // is behind it and two VMs.
    assert!(reads <= 60, "{reads} reads");
    assert!(reads >= 5, "the present state is seen: {reads} reads");
    assert_eq!(world.store.count(Table::Due), 0, "nothing stays due");
}

#[tokio::test]
async fn what_was_changed_last_is_seen_however_the_events_come() {
    let world = World::new();
    protect(&world, "web-1").await;
    let events = Events::of(&world);
    let early = events.make("Write", nsg("web-nsg").as_str(), "carol").to_string();
    world.clock.advance(SignedDuration::from_secs(2));
    world.handle(Queue::VmEvents, &events.make("Write", nsg("web-nsg").as_str(), "carol").to_string()).await;
    // The rule is opened after the look; its event comes before an older one, and the older one twice.
    let mut rules = world.azure.rules("web-nsg");
    rules.push(json!({ "name": "mine", "properties": { "priority": 100, "direction": "Inbound",
        "access": "Allow", "protocol": "Tcp", "sourceAddressPrefix": "*", "sourcePortRange": "*",
        "destinationAddressPrefix": "*", "destinationPortRange": "22" } }));
    world.azure.set_rules("web-nsg", rules);
    assert!(world.azure.allows(STRANGER, "10.0.0.4", 22));
    let last = events.make("Write", &format!("{}/securityRules/mine", nsg("web-nsg")), "mallory").to_string();
    for body in [&last, &early, &early] {
        world.handle(Queue::VmEvents, body).await;
    }
    for _ in 0..50 {
        world.pass(SignedDuration::from_secs(1)).await;
    }
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22), "{:?}", world.azure.rules("web-nsg"));
}

#[tokio::test]
async fn ajars_own_writes_that_were_read_back_cause_no_read() {
    let world = World::new();
    protect(&world, "web-1").await;
    ask(&world, "web-1").await;
    let events = Events::of(&world);
    world.azure.take_reads();
    for _ in 0..20 {
        events.tell("Write", &nsg("web-nsg"), "ajar").await;
    }
    assert_eq!(world.azure.take_reads(), 0);
    // One that no read-back covers is looked at, though not at once.
    world.clock.advance(SignedDuration::from_mins(10));
    events.tell("Write", &nsg("web-nsg"), "ajar").await;
    assert_eq!(world.azure.take_reads(), 0);
    world.pass(SignedDuration::from_secs(20)).await;
    assert!(world.azure.take_reads() > 0);
}

#[tokio::test]
async fn a_new_vm_with_an_open_port_is_protected_in_the_name_of_the_template() {
    let mut world = World::new();
    with_templates(&mut world, &[template("protect")]);
    let events = Events::of(&world);
    world.azure.change_machine("web-1", &json!({ "vmId": "one" }), &json!({ "ENV": "prod" }));
    events.tell("Write", &vm("web-1"), "carol").await;
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22));
    assert!(world.azure.allows(STRANGER, "10.0.0.5", 22), "web-2 has no such tag");
    let policy = query::policy(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap();
    assert_eq!(policy.configured_by.name, "template web");
    assert_eq!(told(&world, "web-1").await.len(), 1);
    assert_eq!(stored_status(&world, "web-1").await, Some(Status::Healthy));

    // A person's word is final for this VM; another VM of the same name is asked nothing.
    configure::disable(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap();
    world.deliver().await;
    world.pass(SignedDuration::from_mins(5)).await;
    events.tell("Write", &vm("web-1"), "carol").await;
    assert!(world.azure.allows(STRANGER, "10.0.0.4", 22), "it stays off");
    world.azure.change_machine("web-1", &json!({ "vmId": "two" }), &json!({ "env": "prod" }));
    world.pass(SignedDuration::from_mins(5)).await;
    events.tell("Write", &vm("web-1"), "carol").await;
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22), "a new VM gets the template's policy");
}

#[tokio::test]
async fn a_template_that_reports_changes_nothing() {
    let mut world = World::new();
    with_templates(&mut world, &[template("report")]);
    world.azure.change_machine("web-1", &json!({ "vmId": "one" }), &json!({ "env": "prod" }));
    let events = Events::of(&world);
    for _ in 0..3 {
        events.tell("Write", &vm("web-1"), "carol").await;
        world.pass(SignedDuration::from_mins(2)).await;
    }
    assert!(world.azure.allows(STRANGER, "10.0.0.4", 22) && world.azure.take_writes().is_empty());
    let told = told(&world, "web-1").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.contains("would shut ports 22"), "{told:?}");
    assert_eq!(stored_status(&world, "web-1").await, Some(Status::Unhealthy));
}

#[tokio::test]
async fn a_deleted_vm_leaves_its_nsg_and_its_grants_close() {
    let world = World::new();
    protect(&world, "web-1").await;
    protect(&world, "web-2").await;
    let request = ask(&world, "web-1").await;
    assert!(world.azure.allows(BOB, "10.0.0.4", 22));
    world.azure.delete_machine("web-1", false);
    let events = Events::of(&world);
    events.tell("Delete", &vm("web-1"), "carol").await;
    assert!(!world.azure.allows(BOB, "10.0.0.4", 22), "the grant ends at once");
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22), "the interface still holds the address");

    world.azure.delete_machine("web-1", true);
    world.minutes(2).await;
    let text = json!(world.azure.rules("web-nsg")).to_string();
    let ours: Vec<Value> = world.azure.rules("web-nsg");
    let denies = ours.iter().filter(|rule| rule["name"].as_str().unwrap().starts_with("ajar-test-deny"));
    for deny in denies {
        assert!(!deny.to_string().contains("10.0.0.4"), "{text}");
    }
    assert!(!world.azure.allows(STRANGER, "10.0.0.5", 22), "web-2 is as it was");
    let gone = query::policy(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap_err();
    assert!(matches!(gone, AccessError::NotFound(_)), "{gone}");
    let found = query::request(&world.ajar, &user("bob"), &request).await.unwrap();
    assert_eq!(format!("{:?}", found.status), "Closed");
    // Nothing was restored: the rule that had been moved for web-1 is still behind web-2's deny.
    assert!(
        told(&world, "web-1")
            .await
            .iter()
            .any(|(by, what)| by.as_deref() == Some("carol") && what.contains("retired"))
    );
    history::verify_chain(&world.ajar, &request).await.unwrap();
    world.minutes(40).await;
    assert_eq!(world.store.count(Table::Due), 0);
}

#[tokio::test]
async fn a_vm_that_only_seems_gone_keeps_its_deny() {
    let world = World::new();
    protect(&world, "web-1").await;
    let events = Events::of(&world);
    world.azure.delete_machine("web-1", false);
    events.tell("Delete", &vm("web-1"), "carol").await;
    world.minutes(120).await;
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22));
}

#[tokio::test]
async fn a_vm_of_the_same_name_gets_nothing_that_the_former_was_granted() {
    let world = World::new();
    world.azure.change_machine("web-1", &json!({ "vmId": "one" }), &json!({}));
    protect(&world, "web-1").await;
    ask(&world, "web-1").await;
    assert!(world.azure.allows(BOB, "10.0.0.4", 22));
    world.azure.change_machine("web-1", &json!({ "vmId": "two" }), &json!({}));
    let events = Events::of(&world);
    events.tell("Write", &vm("web-1"), "carol").await;
    assert!(!world.azure.allows(BOB, "10.0.0.4", 22), "granted on another machine");
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22), "the name stays protected");
    ask(&world, "web-1").await;
    world.pass(SignedDuration::from_mins(5)).await;
    events.tell("Write", &vm("web-1"), "carol").await;
    assert!(world.azure.allows(BOB, "10.0.0.4", 22), "access to the new one is its own");
}

#[tokio::test]
async fn a_vm_with_another_nsg_or_address_is_protected_there() {
    let world = World::new();
    protect(&world, "web-1").await;
    let events = Events::of(&world);
    world.azure.set_machine("web-1", "10.0.0.4", Some("second-nsg"), None);
    events.tell("Write", &nic("web-1"), "mallory").await;
    let denies = |name: &str, address: &str| {
        let denies = world.azure.rules(name).into_iter().filter(|rule| {
            rule["name"].as_str().unwrap().starts_with("ajar-test-deny") && rule.to_string().contains(address)
        });
        denies.count()
    };
    assert_eq!((denies("second-nsg", "10.0.0.4"), denies("web-nsg", "10.0.0.4")), (1, 0));
    let told = told(&world, "web-1").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0.as_deref(), Some("mallory"));
    assert!(told[0].1.contains("second-nsg filters the VM in the place of web-nsg"), "{told:?}");

    world.azure.set_machine("web-1", "10.0.0.9", Some("second-nsg"), None);
    world.pass(SignedDuration::from_mins(2)).await;
    events.tell("Write", &nic("web-1"), "mallory").await;
    assert_eq!((denies("second-nsg", "10.0.0.9"), denies("second-nsg", "10.0.0.4")), (1, 0));
    world.minutes(20).await;
    assert_eq!(world.store.count(Table::Due), 0);
}

#[tokio::test]
async fn drift_is_repaired_and_laid_to_whoever_did_it() {
    let open = |priority: u16| {
        json!({ "name": "mine", "properties": { "priority": priority, "direction": "Inbound",
            "access": "Allow", "protocol": "Tcp", "sourceAddressPrefix": "*", "sourcePortRange": "*",
            "destinationAddressPrefix": "*", "destinationPortRange": "22" } })
    };
    let deny_of = |rules: &[Value]| {
        rules.iter().position(|rule| rule["name"].as_str().unwrap().starts_with("ajar-test-deny")).unwrap()
    };
    for what in ["removed", "changed", "put before"] {
        let world = World::new();
        protect(&world, "web-1").await;
        let mut rules = world.azure.rules("web-nsg");
        let at = deny_of(&rules);
        let mut touched = rules[at]["name"].as_str().unwrap().to_owned();
        match what {
            "removed" => drop(rules.remove(at)),
            "changed" => rules[at]["properties"]["access"] = json!("Allow"),
            _ => {
                rules.push(open(100));
                touched = "mine".into();
            }
        }
        world.azure.set_rules("web-nsg", rules);
        assert!(world.azure.allows(STRANGER, "10.0.0.4", 22));
        let events = Events::of(&world);
        // Somebody else was there too, about another rule.
        let other = events.make("Write", &format!("{}/securityRules/AllowHTTPS", nsg("web-nsg")), "carol");
        let event = events.make("Write", &format!("{}/securityRules/{touched}", nsg("web-nsg")), "mallory");
        let later = events.make("Write", &format!("{}/securityRules/AllowHTTPS", nsg("web-nsg")), "carol");
        world.clock.advance(SignedDuration::from_secs(1));
        world.handle(Queue::VmEvents, &json!([other, event, later]).to_string()).await;
        for _ in 0..30 {
            world.pass(SignedDuration::from_secs(1)).await;
        }
        assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22), "{what}");
        let told = told(&world, "web-1").await;
        assert!(told.iter().any(|(_, text)| text.contains(&touched)), "{what}: {told:?}");
        assert!(told[0].1.contains("web-nsg"), "{what}: {told:?}");
    }
}

#[tokio::test]
async fn drift_is_only_reported_where_the_policy_says_so() {
    let world = World::new();
    world.protect("web-1", json!({ "onDrift": "report" })).await;
    let mut rules = world.azure.rules("web-nsg");
    rules.retain(|rule| !rule["name"].as_str().unwrap().starts_with("ajar-test-deny"));
    world.azure.set_rules("web-nsg", rules);
    let events = Events::of(&world);
    for _ in 0..3 {
        events.tell_of_rule("web-nsg", "ajar-test-deny-ssh-x", "mallory").await;
        world.pass(SignedDuration::from_mins(3)).await;
    }
    assert!(world.azure.allows(STRANGER, "10.0.0.4", 22), "it is left");
    let told = told(&world, "web-1").await;
    assert_eq!(told.len(), 1, "told once: {told:?}");
    assert_eq!(told[0].0.as_deref(), Some("mallory"));
    assert!(told[0].1.contains("was removed") && told[0].1.contains("reported only"), "{told:?}");
}

#[tokio::test]
async fn an_unreadable_event_is_parked_and_the_one_beside_it_handled() {
    let world = World::new();
    let events = Events::of(&world);
    let good = events.make("Write", vm("web-1").as_str(), "carol");
    world.handle(Queue::VmEvents, &json!([{ "nonsense": 1 }, good]).to_string()).await;
    assert_eq!(stored_status(&world, "web-1").await, Some(Status::Unhealthy));
    let parked: Vec<_> =
        world.bus.waiting().into_iter().filter(|(queue, _)| *queue == Queue::Parked).collect();
    assert_eq!(parked.len(), 1);
    assert!(parked[0].1.body.contains("nonsense") && parked[0].1.body.contains("no event"), "{parked:?}");
}

#[tokio::test]
async fn an_event_outlives_every_failure() {
    for after_effect in [false, true] {
        for calls in 0..60 {
            let mut world = World::new();
            with_templates(&mut world, &[template("protect")]);
            world.azure.change_machine("web-1", &json!({ "vmId": "one" }), &json!({ "env": "prod" }));
            let event = Events::of(&world).make("Write", vm("web-1").as_str(), "carol").to_string();
            world.budget.limit(calls, after_effect);
            world.handle(Queue::VmEvents, &event).await;
            let has_failed = world.budget.lift();
            world.minutes(5).await;
            assert!(
                !world.azure.allows(STRANGER, "10.0.0.4", 22),
                "{calls} calls, after effect: {after_effect}"
            );
            if !has_failed {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_template_that_waits_for_approval_protects_once_somebody_who_may_says_so() {
    let mut world = World::new();
    let notifier = world.listen();
    with_templates(&mut world, &[template("protectAfterApproval")]);
    world.azure.change_machine("web-1", &json!({ "vmId": "one" }), &json!({ "env": "prod" }));
    Events::of(&world).tell("Write", &vm("web-1"), "carol").await;
    world.minutes(2).await;
    assert!(world.azure.allows(STRANGER, "10.0.0.4", 22));
    assert!(notifier.names().contains(&"vm.protectionWanted"), "{:?}", notifier.names());
    let before = told(&world, "web-1").await;
    assert_eq!(before.len(), 1, "{before:?}");
    assert!(before[0].1.contains("template web shuts ports 22 once somebody approves it"), "{before:?}");

    let approve = async |name: &str| {
        ajar_access::template_approval::approve(&world.ajar, &user(name), vm("web-1").as_str()).await
    };
    assert!(matches!(approve("bob").await, Err(AccessError::Forbidden(_))));
    let policy = approve("alice").await.unwrap();
    assert_eq!(policy.configured_by.name, user("alice").name);
    world.deliver().await;
    assert!(!world.azure.allows(STRANGER, "10.0.0.4", 22));
    assert!(matches!(approve("alice").await, Err(AccessError::Conflict { code: "HasPolicy", .. })));
}
