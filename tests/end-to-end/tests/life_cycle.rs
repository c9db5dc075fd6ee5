//! A request's life through the packaged executable: waited for, extended, reminded of, told to a webhook, promised
//! for later, asked for several VMs at once, ended early; and what its history says afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use end_to_end_tests::receiver::{Post, Receiver};
use end_to_end_tests::{Answer, Stack, sample_estate, vm};
use hmac::{Hmac, Mac};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::time::Duration;

const BOB: &str = "203.0.113.7";
const NEIGHBOUR: &str = "203.0.113.8";
const SOON: Duration = Duration::from_secs(10);
const KEY: [u8; 32] = [0x5a; 32];

fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}

fn moment(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

/// Asks as bob for port 22 of `web-1`, with `more` fields beside.
async fn ask(stack: &Stack, more: Value) -> Answer {
    let mut body = json!({ "vm": vm("web-1"), "ports": [{ "port": 22, "sources": [BOB] }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    stack.call_as("bob", Method::POST, "/api/requests", Some(body)).await
}

async fn get(stack: &Stack, path: &str) -> Value {
    let answer = stack.call_as("bob", Method::GET, path, None).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    answer.body
}

/// Each step of a request's history: its status and what it says. The steps are numbered without a gap.
async fn history(stack: &Stack, path: &str) -> Vec<(String, String)> {
    let body = get(stack, &format!("{path}/history")).await;
    let steps = body["value"].as_array().unwrap();
    let numbers: Vec<u64> = steps.iter().map(|step| step["sequence"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{body}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    steps.iter().map(|step| (text(&step["status"]), text(&step["what"]))).collect()
}

/// The event in a post whose signature is as Standard Webhooks has it, made a moment ago.
fn verified(post: &Post) -> Value {
    let header = |name: &str| post.headers[name].as_str();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY).unwrap();
    mac.update(format!("{id}.{at}.").as_bytes());
    mac.update(&post.body);
    let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    mac.verify_slice(&signature).expect("the signature holds");
    let age = Timestamp::now().as_second() - at.parse::<i64>().unwrap();
    assert!((0..300).contains(&age), "{post:?}");
    let event: Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!(event["id"], id);
    event
}

#[tokio::test]
async fn access_is_waited_for_extended_reminded_of_and_its_history_stays() {
    let receiver = Receiver::start().await;
    let (url, secret) = (format!("{}/hook", receiver.address), format!("whsec_{}", STANDARD.encode(KEY)));
    let settings = [
        ("AJAR_WEBHOOK_URL", url.as_str()),
        ("AJAR_WEBHOOK_SECRET", secret.as_str()),
        ("AJAR_REMIND_BEFORE", "PT2S"),
    ];
    let stack = Stack::start_with(&sample_estate(), &settings).await;
    stack.protect("web-1").await;

    let asked = ask(&stack, json!({ "duration": "PT8S", "justification": "INC-42" })).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{asked:?}");
    assert!(asked.headers.contains_key("retry-after"), "{asked:?}");
    let path = asked.headers["location"].to_str().unwrap();
    let open = get(&stack, &format!("{path}?wait=20s")).await;
    assert_eq!(open["status"], "Active", "answered when it is open, and not before");
    assert!(stack.passes(BOB, "web-1", 22).await && !stack.passes(NEIGHBOUR, "web-1", 22).await);

    let end = moment(&open["end"]);
    let extend = format!("{path}/extend");
    let longer = |duration: &str| Some(json!({ "duration": duration, "expectedEnd": end.to_string() }));
    let beyond = stack.call_as("bob", Method::POST, &extend, longer("PT4H")).await;
    assert_eq!(beyond.status, StatusCode::BAD_REQUEST, "{beyond:?}");
    assert_eq!(beyond.body["error"]["target"], "duration", "{beyond:?}");
    let others = stack.call_as("alice", Method::POST, &extend, longer("PT2S")).await;
    assert_eq!(others.status, StatusCode::FORBIDDEN, "{others:?}");
    for _ in 0..2 {
        let extended = stack.call_as("bob", Method::POST, &extend, longer("PT2S")).await;
        assert_eq!(extended.status, StatusCode::OK, "{extended:?}");
        assert_eq!(moment(&extended.body["end"]), end + seconds(2), "once, however often it is asked");
    }

    let past_the_old_end = end + SignedDuration::from_millis(500);
    stack.eventually("past the old end", SOON, async |_| Timestamp::now() > past_the_old_end).await;
    assert!(stack.passes(BOB, "web-1", 22).await, "still open");
    stack.eventually("shut", SOON, async |stack| !stack.passes(BOB, "web-1", 22).await).await;
    assert!(Timestamp::now() >= end + seconds(2), "not before the new end");
    stack.eventually("closed", SOON, async |stack| get(stack, path).await["status"] == "Closed").await;
    assert_eq!(get(&stack, path).await["closeReason"], "Expired");

    // One that is delivered twice has the same id.
    let events = || -> BTreeMap<String, Value> {
        let all = receiver.posts();
        all.iter().map(verified).map(|event| (event["id"].as_str().unwrap().to_owned(), event)).collect()
    };
    stack.eventually("all is told", SOON, async |_| events().len() >= 5).await;
    let mut events: Vec<Value> = events().into_values().collect();
    events.sort_by_key(|event| moment(&event["time"]));
    let told: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected =
        ["asked", "opened", "extended", "aboutToEnd", "closed"].map(|kind| format!("ajar.access.{kind}"));
    assert_eq!(told, expected, "one reminder, of the end that counts");
    let reminder = &events[3];
    assert_eq!(moment(&reminder["data"]["end"]), end + seconds(2), "{reminder}");
    assert!(moment(&reminder["time"]) >= end, "two seconds before: {reminder}");
    assert_eq!(reminder["data"]["request"]["justification"], "INC-42");

    let steps = history(&stack, path).await;
    for said in ["asked for access: INC-42", "not extended: ", "extended until ", "reminded that access ends"]
    {
        assert_eq!(steps.iter().filter(|(_, what)| what.starts_with(said)).count(), 1, "{said}: {steps:#?}");
    }
    assert_eq!(steps.last().unwrap().0, "Closed", "{steps:#?}");
    stack.stop().await;
}

#[tokio::test]
async fn a_later_start_opens_at_its_time_and_ends_by_the_clock() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    stack.protect("both-1").await;
    // Far ahead it is promised. It is granted some 3 to 30 seconds before its start, and opens then.
    let hour = Timestamp::now() + SignedDuration::from_hours(1);
    let far = json!({ "vm": vm("both-1"), "duration": "PT1M", "start": hour.to_string() });
    let far = ask(&stack, far).await;
    assert_eq!(far.status, StatusCode::ACCEPTED, "{far:?}");
    let far = far.headers["location"].to_str().unwrap();
    stack.eventually("promised", SOON, async |stack| get(stack, far).await["status"] == "Approved").await;
    let steps = history(&stack, far).await;
    assert!(steps.iter().any(|(_, what)| what.starts_with("approved to open at ")), "{steps:#?}");

    let start = Timestamp::from_second(Timestamp::now().as_second() + 5).unwrap();
    let asked = ask(&stack, json!({ "duration": "PT3S", "start": start.to_string() })).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{asked:?}");
    let path = asked.headers["location"].to_str().unwrap();
    let is_decided = async |stack: &Stack| get(stack, path).await["status"] != "Requested";
    stack.eventually("decided", SOON, is_decided).await;
    let is_open = stack.passes(BOB, "web-1", 22).await;
    assert!(!is_open || Timestamp::now() >= start, "not before its time");

    stack.eventually("open", SOON, async |stack| stack.passes(BOB, "web-1", 22).await).await;
    assert!(Timestamp::now() >= start, "not before its time");
    let open = get(&stack, &format!("{path}?wait=20s")).await;
    assert_eq!((moment(&open["start"]), moment(&open["end"])), (start, start + seconds(3)), "{open}");
    stack.eventually("shut", SOON, async |stack| !stack.passes(BOB, "web-1", 22).await).await;
    assert!(Timestamp::now() >= start + seconds(3), "not before its end");
    stack.eventually("closed", SOON, async |stack| get(stack, path).await["status"] == "Closed").await;
    assert!(!stack.passes(BOB, "both-1", 22).await, "an hour is not over");
    stack.stop().await;
}

#[tokio::test]
async fn several_vms_are_decided_one_by_one_and_each_is_ended_by_itself() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    stack.protect("both-1").await;
    let body = json!({
        "vms": [vm("web-1"), vm("web-2"), vm("both-1")], "duration": "PT10M", "justification": "INC-42",
        "ports": [{ "port": 22, "sources": [BOB] }, { "port": 3389, "sources": [BOB] }],
    });
    let asked = stack.call_as("bob", Method::POST, "/api/requests", Some(body)).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{asked:?}");
    let answers = asked.body["value"].as_array().unwrap();
    let of: Vec<&str> = answers.iter().map(|answer| answer["vm"].as_str().unwrap()).collect();
    assert_eq!(of, [vm("web-1"), vm("web-2"), vm("both-1")], "in the caller's order");
    assert_eq!(answers[1]["error"]["code"], "NotFound", "web-2 has no policy: {answers:#?}");
    assert!(answers[1]["request"].is_null(), "{answers:#?}");
    let path = |index: usize| format!("/api/requests/{}", answers[index]["request"]["id"].as_str().unwrap());
    for (index, name) in [(0, "web-1"), (2, "both-1")] {
        assert_eq!(get(&stack, &format!("{}?wait=20s", path(index))).await["status"], "Active", "{name}");
        assert!(stack.passes(BOB, name, 22).await && !stack.passes(NEIGHBOUR, name, 22).await, "{name}");
    }
    // What stood behind the NSGs before lets 3389 in on neither, so that it passes is the request's doing.
    assert!(stack.passes(BOB, "web-1", 3389).await);

    let group = format!("/api/requests?group={}", asked.body["group"].as_str().unwrap());
    let listed = async || -> Vec<(String, String, Value)> {
        let list = get(&stack, &group).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = list["value"].as_array().unwrap();
        all.iter().map(|one| (text(&one["vm"]), text(&one["status"]), one["closeReason"].clone())).collect()
    };
    let active = |name: &str| (vm(name), "Active".to_owned(), Value::Null);
    assert_eq!(listed().await, [active("both-1"), active("web-1")]);

    let refused = stack.call_as("carol", Method::DELETE, &path(0), None).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "carol may only read: {refused:?}");
    let ended = stack.call_as("bob", Method::DELETE, &path(0), None).await;
    assert_eq!(ended.status, StatusCode::ACCEPTED, "{ended:?}");
    stack.eventually("web-1 is shut", SOON, async |stack| !stack.passes(BOB, "web-1", 22).await).await;
    assert!(!stack.passes(BOB, "web-1", 3389).await);
    stack.eventually("closed", SOON, async |stack| get(stack, &path(0)).await["status"] == "Closed").await;
    let closed = (vm("web-1"), "Closed".to_owned(), json!("Revoked"));
    assert_eq!(listed().await, [active("both-1"), closed.clone()], "the other goes on");
    assert!(stack.passes(BOB, "both-1", 22).await);

    let ended = stack.call_as("alice", Method::DELETE, &path(2), None).await;
    assert_eq!(ended.status, StatusCode::ACCEPTED, "who may configure may end another's: {ended:?}");
    stack.eventually("both-1 is shut", SOON, async |stack| !stack.passes(BOB, "both-1", 22).await).await;
    let again = stack.call_as("alice", Method::DELETE, &path(0), None).await;
    assert_eq!(again.status, StatusCode::OK, "ending twice is harmless: {again:?}");
    assert_eq!(listed().await[1], closed);
    stack.stop().await;
}
