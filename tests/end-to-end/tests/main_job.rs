//! The main job through the packaged executable, the local host, the simulated Azure and Azurite. What passes
//! is decided by the simulator's probe, which shares no code with the product.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use end_to_end_tests::{Stack, nsg, vm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const BOB: &str = "203.0.113.7";
const NEIGHBOUR: &str = "203.0.113.8";
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn open_then_shut_then_open_to_one_source_then_shut_by_itself() {
    let stack = Stack::start().await;
    assert!(stack.passes(BOB, "web-1", 22).await, "open at first");
    let path = format!("/api/assessments?vm={}", vm("web-1"));
    let before = stack.call_as("carol", Method::GET, &path, None).await;
    assert_eq!((before.status, &before.body["status"]), (StatusCode::OK, &json!("Unhealthy")), "{before:?}");

    stack.protect("web-1").await;
    for source in [BOB, NEIGHBOUR, "10.0.3.4"] {
        assert!(!stack.passes(source, "web-1", 22).await, "{source}");
    }
    let after = stack.call_as("carol", Method::GET, &path, None).await;
    assert_eq!(after.body["status"], json!("Healthy"), "{after:?}");

    let request = stack.ask("web-1", BOB, "PT6S").await;
    stack
        .eventually("open to bob within two seconds", Duration::from_secs(2), async |stack| {
            stack.passes(BOB, "web-1", 22).await
        })
        .await;
    assert!(!stack.passes(NEIGHBOUR, "web-1", 22).await, "not to a neighbour");
    assert!(!stack.passes(BOB, "web-1", 3389).await, "not on another port");
    assert!(stack.passes(BOB, "web-1", 443).await, "port 443 was never ours");
    assert!(stack.passes(BOB, "web-2", 22).await, "web-2 is as it was");
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;
    let rule = stack
        .rules("web-nsg")
        .into_iter()
        .find(|rule| rule["name"].as_str().unwrap().starts_with("ajar-e2e-allow"))
        .expect("our allow rule");
    let description = rule["properties"]["description"].as_str().unwrap();
    assert!(description.contains("web-1") && description.contains("bob@contoso.example"), "{description}");

    stack
        .eventually("shut again", Duration::from_secs(12), async |stack| {
            !stack.passes(BOB, "web-1", 22).await
        })
        .await;
    stack.eventually("closed", SOON, async |stack| stack.status(&request).await == "Closed").await;
    assert!(stack.passes(BOB, "web-2", 22).await && stack.passes(BOB, "web-1", 443).await);
    assert!(stack.host.queue("parked").unwrap().is_idle(), "nothing was given up");
    stack.stop().await;
}

#[tokio::test]
async fn every_sample_vm_gets_the_verdict_that_its_rules_give() {
    let stack = Stack::start().await;
    let answer = stack.call_as("carol", Method::GET, "/api/assessments", None).await;
    let verdicts: Vec<(&str, &str)> = answer.body["value"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer:?}"))
        .iter()
        .map(|verdict| (verdict["name"].as_str().unwrap(), verdict["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        verdicts,
        [
            ("bare-1", "NotApplicable"),  // no NSG at all
            ("both-1", "Unhealthy"),      // the subnet's NSG and the NIC's both allow 22
            ("db-1", "Healthy"),          // its NSG allows 5432 alone
            ("fw-1", "Unknown"),          // behind a firewall, which is not understood yet
            ("shadowed-1", "Healthy"),    // an earlier deny shadows its allow
            ("two-nics-1", "Unhealthy"),  // the worse NIC decides
            ("v6-1", "Unhealthy"),        // open to ::/0
            ("vnet-only-1", "Unhealthy"), // from the VNet only, which counts
            ("web-1", "Unhealthy"),
            ("web-2", "Unhealthy"),
            ("win-1", "Unhealthy"), // 3389 lies in its range of ports
        ]
    );
    stack.stop().await;
}

#[tokio::test]
async fn a_dual_stack_vm_opens_to_one_ipv6_source() {
    let stack = Stack::start().await;
    let (bob, neighbour) = ("2001:db8:ffff::7", "2001:db8:ffff::8");
    assert!(stack.passes(bob, "v6-1", 22).await, "open at first");
    let policy = json!({ "vm": vm("v6-1"), "ports": [{ "port": 22, "protocol": "*" }] });
    let answer = stack.call_as("alice", Method::PUT, "/api/policies", Some(policy)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    stack.eventually("shut", SOON, async |stack| !stack.passes(bob, "v6-1", 22).await).await;
    let request = stack.ask("v6-1", bob, "PT1H").await;
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;
    assert!(stack.passes(bob, "v6-1", 22).await);
    assert!(!stack.passes(neighbour, "v6-1", 22).await && !stack.passes(BOB, "v6-1", 22).await);

    let path = format!("/api/requests/{}", request["id"].as_str().unwrap());
    let revoked = stack.call_as("bob", Method::DELETE, &path, None).await;
    assert_eq!(revoked.status, StatusCode::ACCEPTED, "{revoked:?}");
    stack.eventually("shut again", SOON, async |stack| !stack.passes(bob, "v6-1", 22).await).await;
    stack.eventually("closed", SOON, async |stack| stack.status(&request).await == "Closed").await;
    stack.stop().await;
}

#[tokio::test]
async fn a_killed_handler_comes_back_and_shuts_what_is_open() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    let request = stack.ask("web-1", BOB, "PT8S").await;
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;
    stack.eventually("at rest", SOON, async |stack| stack.is_at_rest()).await;
    let starts = stack.host.handler_starts();
    stack.host.kill_handler();
    stack.eventually("restarted", SOON, async |stack| stack.host.handler_starts() > starts).await;
    stack
        .eventually("shut", Duration::from_secs(15), async |stack| !stack.passes(BOB, "web-1", 22).await)
        .await;
    stack.eventually("closed", SOON, async |stack| stack.status(&request).await == "Closed").await;
    stack.stop().await;
}

#[tokio::test]
async fn the_same_message_twice_opens_once() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    stack.host.deliver_again("access-requests", 1).unwrap();
    stack.host.deliver_again("reconcile", 2).unwrap();
    let request = stack.ask("web-1", BOB, "PT1H").await;
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;
    stack.eventually("at rest", SOON, async |stack| stack.is_at_rest()).await;
    let ours = stack
        .rules("web-nsg")
        .into_iter()
        .filter(|rule| rule["name"].as_str().unwrap().starts_with("ajar-e2e-allow"));
    assert_eq!(ours.count(), 1);
    let path = format!("/api/requests/{}/history", request["id"].as_str().unwrap());
    let history = stack.call_as("bob", Method::GET, &path, None).await;
    let granted =
        history.body["value"].as_array().unwrap().iter().filter(|entry| entry["status"] == "Opening");
    assert_eq!(granted.count(), 1, "{history:?}");
    stack.stop().await;
}

#[tokio::test]
async fn twenty_concurrent_requests_on_one_nsg_take_few_writes() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    let before = stack.writes().len();
    let sources: Vec<String> = (1..=20).map(|number| format!("203.0.113.{number}")).collect();
    let asked = sources.iter().map(|source| stack.ask("web-1", source, "PT20S"));
    let requests = join_all(asked).await;
    for source in &sources {
        stack.eventually("open", SOON, async |stack| stack.passes(source, "web-1", 22).await).await;
    }
    for request in &requests {
        stack.eventually("active", SOON, async |stack| stack.status(request).await == "Active").await;
    }
    assert!(!stack.passes("203.0.113.21", "web-1", 22).await);
    let writes = stack.writes().split_off(before);
    assert!(writes.len() <= 10, "{} writes for twenty requests: {writes:#?}", writes.len());
    for source in &sources {
        stack
            .eventually("shut", Duration::from_secs(40), async |stack| {
                !stack.passes(source, "web-1", 22).await
            })
            .await;
    }
    stack.stop().await;
}

#[tokio::test]
async fn with_the_bus_down_the_sweep_still_shuts() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    let request = stack.ask("web-1", BOB, "PT5S").await;
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;
    stack.host.set_bus_down(true);
    stack.host.set_receiving_paused(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(stack.passes(BOB, "web-1", 22).await, "no message comes any more");
    stack.host.run_timer("sweep_expired").await.unwrap();
    assert!(!stack.passes(BOB, "web-1", 22).await, "{}", stack.log());
    assert_eq!(stack.status(&request).await, "Closed");

    // Asking still works, and the sweep opens; the row that guards the request comes up after half a minute.
    let answer = stack.ask("web-1", NEIGHBOUR, "PT1H").await;
    assert_eq!(answer["status"], json!("Requested"));
    stack.stop().await;
}

#[tokio::test]
async fn with_the_store_down_nothing_opens_and_every_deny_stands() {
    let mut stack = Stack::start().await;
    stack.protect("web-1").await;
    let request = stack.ask("web-1", BOB, "PT5S").await;
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;
    stack.azurite.stop().await;
    let body =
        json!({ "vm": vm("web-1"), "ports": [{ "port": 22, "sources": [NEIGHBOUR] }], "duration": "PT1H" });
    let refused = stack.call_as("bob", Method::POST, "/api/requests", Some(body)).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    assert!(!stack.passes(NEIGHBOUR, "web-1", 22).await);
    // The sweep says that it could not do all its work. What is past its described end it shuts five minutes after
    // it, so that a short outage cuts nobody: `ajar-access` tests that under a clock of its own.
    let _ = stack.host.run_timer("sweep_expired").await;
    assert!(!stack.passes(NEIGHBOUR, "web-1", 22).await, "the deny stands");
    stack.stop().await;
}

#[tokio::test]
async fn with_every_table_wiped_no_deny_goes_and_what_has_ended_is_shut() {
    let mut stack = Stack::start().await;
    stack.protect("web-1").await;
    let request = stack.ask("web-1", BOB, "PT5S").await;
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;
    stack.azurite.wipe().await;
    stack.host.run_timer("sweep_expired").await.unwrap();
    assert!(!stack.passes(NEIGHBOUR, "web-1", 22).await, "the deny stays");
    stack
        .eventually("shut by its described end", Duration::from_secs(12), async |stack| {
            stack.host.run_timer("sweep_expired").await.unwrap();
            !stack.passes(BOB, "web-1", 22).await
        })
        .await;
    assert!(!stack.passes(NEIGHBOUR, "web-1", 22).await, "the deny stays");
    stack.stop().await;
}

#[tokio::test]
async fn a_managed_rule_edited_by_hand_is_repaired_by_the_next_reconcile() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    let deny = stack
        .rules("web-nsg")
        .into_iter()
        .find(|rule| rule["name"].as_str().unwrap().starts_with("ajar-e2e-deny"))
        .expect("our deny rule");
    let mut edited = deny.clone();
    edited["properties"]["access"] = json!("Allow");
    let path =
        format!("{}/securityRules/{}?api-version=2024-05-01", nsg("web-nsg"), deny["name"].as_str().unwrap());
    let written =
        stack.arm_as("a0000000-0000-4000-8000-000000000021", Method::PUT, &path, Some(edited)).await;
    assert!(written.status.is_success(), "{written:?}");
    stack.eventually("opened by hand", SOON, async |stack| stack.passes(NEIGHBOUR, "web-1", 22).await).await;
    // Any request on the NSG reconciles it.
    let request = stack.ask("web-1", BOB, "PT1H").await;
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;
    assert!(!stack.passes(NEIGHBOUR, "web-1", 22).await && stack.passes(BOB, "web-1", 22).await);
    stack.stop().await;
}

#[tokio::test]
async fn turning_jit_off_ends_access_and_restores_what_was() {
    let stack = Stack::start().await;
    let essence = |stack: &Stack| -> Vec<Value> {
        let mut rules = stack.rules("both-subnet-nsg");
        for rule in &mut rules {
            for changing in ["etag", "provisioningState"] {
                rule.as_object_mut().unwrap().remove(changing);
                rule["properties"].as_object_mut().unwrap().remove(changing);
            }
        }
        rules
    };
    let before = essence(&stack);
    stack.protect("both-1").await;
    let request = stack.ask("both-1", BOB, "PT1H").await;
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;
    assert!(stack.passes(BOB, "both-1", 22).await && !stack.passes(NEIGHBOUR, "both-1", 22).await);

    let path = format!("/api/policies?vm={}", vm("both-1"));
    let off = stack.call_as("alice", Method::DELETE, &path, None).await;
    assert_eq!(off.status, StatusCode::ACCEPTED, "{off:?}");
    stack.eventually("closed", SOON, async |stack| stack.status(&request).await == "Closed").await;
    stack
        .eventually("gone", SOON, async |stack| {
            stack.call_as("alice", Method::GET, &path, None).await.status == StatusCode::NOT_FOUND
        })
        .await;
    assert_eq!(essence(&stack), before);
    stack.stop().await;
}

async fn join_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    // Polled together: twenty requests are under way at once.
    let mut pending: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (slot, future) in done.iter_mut().zip(&mut pending) {
            if slot.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *slot = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
