//! Queues: settlement, dead letters, schedules, locks, faults, and the HTTP surface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use functions_host::{FunctionsHost, ManualClock, OutgoingMessage, QueueOptions, QueueView, SystemClock};
use serde_json::{Value, json};
use support::{App, eventually, send_message};

fn text(body: &str) -> OutgoingMessage {
    OutgoingMessage { body: body.to_owned().into(), ..OutgoingMessage::default() }
}

async fn queue_where(host: &FunctionsHost, name: &str, check: impl Fn(&QueueView) -> bool) -> QueueView {
    eventually("the queue is as wanted", || host.queue(name).ok().filter(|queue| check(queue))).await
}

fn delivery_counts(app: &App) -> Vec<String> {
    app.requests()
        .iter()
        .map(|request| serde_json::from_str::<Value>(request["body"].as_str().unwrap()).unwrap())
        .map(|body| body["Metadata"]["DeliveryCount"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn r21_a_failing_message_comes_ten_times_at_once_and_is_then_dead() {
    let app = App::new().queue("Worker", "jobs").answers(json!({ "/Worker": [{ "status": 500 }] }));
    let host = app.start().await.unwrap();
    assert_eq!(send_message(&host, "jobs", r#"{"MessageId":"m-1"}"#, "x").await, 201);
    let queue = queue_where(&host, "jobs", |queue| !queue.dead_lettered.is_empty()).await;
    assert!(queue.is_idle());
    assert_eq!(queue.dead_lettered[0].reason, "MaxDeliveryCountExceeded");
    assert_eq!(queue.dead_lettered[0].message.message_id, "m-1");
    let counts: Vec<String> = (1..=10).map(|count| count.to_string()).collect();
    assert_eq!(delivery_counts(&app), counts);
    host.stop().await;
}

#[tokio::test]
async fn the_delivery_limit_is_the_queues_own_and_a_late_success_completes() {
    let answers = json!({ "/Worker": [{ "status": 500 }, { "status": 200 }], "/Once": [{ "status": 500 }] });
    let mut app = App::new().queue("Worker", "jobs").queue("Once", "once").answers(answers);
    let options = QueueOptions { max_delivery_count: 1, ..QueueOptions::default() };
    app.options.queue_options.push(("once".to_owned(), options));
    let host = app.start().await.unwrap();
    host.send("once", text("x")).unwrap();
    queue_where(&host, "once", |queue| queue.dead_lettered.len() == 1).await;
    host.send("jobs", text("x")).unwrap();
    queue_where(&host, "jobs", |queue| queue.completed == 1).await;
    host.stop().await;
}

#[tokio::test]
async fn a_crash_of_the_handler_abandons_its_message() {
    let app = App::new().queue("Worker", "jobs").answers(json!({ "/Worker": [{ "delay": 60_000 }] }));
    let host = app.start().await.unwrap();
    host.send("jobs", text("x")).unwrap();
    eventually("the message is with the handler", || app.requests().into_iter().next()).await;
    host.kill_handler();
    eventually("the message came again", || (app.requests().len() == 2).then_some(())).await;
    assert_eq!(delivery_counts(&app), ["1", "2"]);
    host.stop().await;
}

#[tokio::test]
async fn a_stopped_host_leaves_messages_alone() {
    let app = App::new().queue("Worker", "jobs").setting("START", "exit1");
    let host = app.start().await.unwrap();
    let mut state = host.watch_handler_state();
    state.wait_for(|state| matches!(state, functions_host::HandlerState::Stopped(_))).await.unwrap();
    eventually("the listener has ended", || {
        host.send("jobs", text("x")).unwrap();
        let queue = host.queue("jobs").unwrap();
        (queue.active.len() > 1).then_some(())
    })
    .await;
    host.stop().await;
}

#[tokio::test]
async fn no_more_calls_run_at_once_than_host_json_allows() {
    let app = App::new()
        .host_json_with("/extensions/serviceBus", json!({ "maxConcurrentCalls": 2 }))
        .queue("Worker", "jobs")
        .answers(json!({ "/Worker": [{ "delay": 60_000 }] }));
    let host = app.start().await.unwrap();
    for _ in 0..5 {
        host.send("jobs", text("x")).unwrap();
    }
    eventually("two are running", || (app.requests().len() == 2).then_some(())).await;
    let queue = host.queue("jobs").unwrap();
    assert_eq!((queue.locked.len(), queue.active.len()), (2, 3));
    host.stop().await;
}

#[tokio::test]
async fn a_lost_completion_delivers_again() {
    let app = App::new().queue("Worker", "jobs");
    let host = app.start().await.unwrap();
    host.deliver_again("jobs", 1).unwrap();
    host.send("jobs", text("x")).unwrap();
    queue_where(&host, "jobs", |queue| queue.completed == 1).await;
    assert_eq!(delivery_counts(&app), ["1", "2"]);
    host.stop().await;
}

#[tokio::test]
async fn a_lock_is_renewed_up_to_the_limit_and_then_lost() {
    let clock = ManualClock::new("2026-06-15T10:00:00Z".parse().unwrap());
    let mut app = App::new()
        .host_json_with("/extensions/serviceBus", json!({ "maxAutoLockRenewalDuration": "00:02:00" }))
        .queue("Worker", "jobs")
        .answers(json!({ "/Worker": [{ "delay": 60_000 }] }));
    app.options.clock = Arc::new(clock.clone());
    let host = app.start().await.unwrap();
    host.send("jobs", text("x")).unwrap();
    eventually("the message is with the handler", || app.requests().into_iter().next()).await;
    // Locks last a minute and are renewed every half minute, four times within two minutes.
    let lock_end = || host.queue("jobs").unwrap().locked.first().map(|(until, _)| *until);
    for end in ["10:01:30", "10:02:00", "10:02:30", "10:03:00"] {
        clock.advance(Duration::from_secs(30));
        let end = format!("2026-06-15T{end}Z").parse().unwrap();
        eventually("the lock was renewed", || (lock_end() == Some(end)).then_some(())).await;
    }
    assert_eq!(app.requests().len(), 1);
    clock.advance(Duration::from_secs(59));
    assert!(lock_end().is_some());
    clock.advance(Duration::from_secs(1));
    eventually("the message came again", || (app.requests().len() == 2).then_some(())).await;
    assert_eq!(delivery_counts(&app), ["1", "2"]);
    host.stop().await;
}

#[tokio::test]
async fn a_message_scheduled_in_real_time_comes_no_sooner_and_hardly_later() {
    let mut app = App::new().queue("Worker", "jobs");
    app.options.clock = Arc::new(SystemClock);
    let host = app.start().await.unwrap();
    host.ready().await.unwrap();
    let due = jiff::Timestamp::now() + Duration::from_millis(400);
    host.send("jobs", OutgoingMessage { scheduled: Some(due), ..text("x") }).unwrap();
    assert_eq!(host.queue("jobs").unwrap().scheduled.len(), 1);
    let mut arrived = None;
    eventually("the message arrived", || {
        let is_active = host.queue("jobs").unwrap().scheduled.is_empty();
        is_active.then(|| arrived = Some(jiff::Timestamp::now()))
    })
    .await;
    assert!(arrived.unwrap() >= due);
    queue_where(&host, "jobs", |queue| queue.completed == 1).await;
    // A whole second would mean polling.
    assert!(jiff::Timestamp::now().duration_since(due) < jiff::SignedDuration::from_millis(900));
    host.stop().await;
}

#[tokio::test]
async fn an_expired_message_is_not_delivered() {
    let clock = ManualClock::new("2026-06-15T10:00:00Z".parse().unwrap());
    let mut app = App::new().queue("Worker", "jobs");
    app.options.clock = Arc::new(clock.clone());
    let host = app.start().await.unwrap();
    host.set_receiving_paused(true);
    assert_eq!(send_message(&host, "jobs", r#"{"TimeToLive":1.5}"#, "x").await, 201);
    assert_eq!(host.queue("jobs").unwrap().active.len(), 1);
    clock.advance(Duration::from_millis(1500));
    assert!(host.queue("jobs").unwrap().is_idle());
    host.set_receiving_paused(false);
    host.send("jobs", text("y")).unwrap();
    queue_where(&host, "jobs", |queue| queue.completed == 1).await;
    assert_eq!(app.requests().len(), 1);
    host.stop().await;
}

#[tokio::test]
async fn paused_receiving_holds_messages_back() {
    let app = App::new().queue("Worker", "jobs");
    let host = app.start().await.unwrap();
    host.ready().await.unwrap();
    host.set_receiving_paused(true);
    host.send("jobs", text("x")).unwrap();
    assert_eq!(host.queue("jobs").unwrap().active.len(), 1);
    host.set_receiving_paused(false);
    queue_where(&host, "jobs", |queue| queue.completed == 1).await;
    host.stop().await;
}

#[tokio::test]
async fn the_surface_answers_as_azures() {
    let mut app = App::new().queue("Worker", "jobs");
    app.options.extra_queues.push("parked".to_owned());
    app.options.token_check = Arc::new(|token| token == "right");
    let host = app.start().await.unwrap();
    let base = format!("http://{}", host.service_bus_address());
    let client = reqwest::Client::new();
    let send = |queue: &str, token: Option<&str>| {
        let request = client.post(format!("{base}/{queue}/messages")).body("x");
        let request = match token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        };
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(send("parked", Some("right")).await, 201);
    assert_eq!(send("parked", Some("wrong")).await, 401);
    assert_eq!(send("parked", None).await, 401);
    assert_eq!(send("nosuch", Some("right")).await, 404);
    host.set_bus_down(true);
    assert_eq!(send("parked", Some("right")).await, 503);
    host.set_bus_down(false);
    assert_eq!(host.queue("PARKED").unwrap().active.len(), 1);
    let malformed = client
        .post(format!("{base}/parked/messages"))
        .header("Authorization", "Bearer right")
        .header("BrokerProperties", r#"{"ScheduledEnqueueTimeUtc":"tomorrow"}"#)
        .body("x");
    assert_eq!(malformed.send().await.unwrap().status().as_u16(), 400);
    let large = client.post(format!("{base}/parked/messages")).header("Authorization", "Bearer right");
    assert_eq!(large.body(vec![b'x'; 256 * 1024 + 1]).send().await.unwrap().status().as_u16(), 403);
    host.stop().await;
}

#[tokio::test]
async fn a_batch_is_several_messages_with_their_own_properties() {
    let mut app = App::new();
    app.options.extra_queues.push("parked".to_owned());
    let clock = ManualClock::new("2026-06-15T10:00:00Z".parse().unwrap());
    app.options.clock = Arc::new(clock);
    let host = app.start().await.unwrap();
    let batch = json!([
        { "Body": "one", "BrokerProperties": { "MessageId": "1", "Label": "l" }, "UserProperties": { "a": "b", "n": 5 } },
        // The form azure_messaging_servicebus writes.
        { "Body": "two", "BrokerProperties": { "ScheduledEnqueueTimeUtc": "Mon, 15 Jun 2026 10:00:01 +0000" } }
    ]);
    let status = reqwest::Client::new()
        .post(format!("http://{}/parked/messages", host.service_bus_address()))
        .header("Authorization", "Bearer t")
        .header("Content-Type", "application/vnd.microsoft.servicebus.json")
        .body(batch.to_string())
        .send()
        .await
        .unwrap()
        .status();
    assert_eq!(status.as_u16(), 201);
    let queue = host.queue("parked").unwrap();
    assert_eq!(queue.active[0].sent.body, "one");
    assert_eq!(queue.active[0].message_id, "1");
    assert_eq!(
        queue.active[0].sent.properties,
        [("a".to_owned(), "b".to_owned()), ("n".to_owned(), "5".to_owned())]
    );
    assert_eq!(queue.scheduled[0].0, "2026-06-15T10:00:01Z".parse().unwrap());
    assert_eq!(queue.scheduled[0].1.sent.body, "two");
    host.stop().await;
}

#[tokio::test]
async fn receiving_over_http_locks_renews_unlocks_and_completes() {
    let mut app = App::new();
    app.options.extra_queues.push("parked".to_owned());
    let host = app.start().await.unwrap();
    let head = format!("http://{}/parked/messages/head?timeout=0", host.service_bus_address());
    let client = reqwest::Client::new();
    let call = |method: reqwest::Method, url: String| {
        client.request(method, url).header("Authorization", "Bearer t").header("Content-Length", "0").send()
    };
    assert_eq!(call(reqwest::Method::POST, head.clone()).await.unwrap().status().as_u16(), 204);
    host.send("parked", text("x")).unwrap();
    let answer = call(reqwest::Method::POST, head.clone()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    let lock = answer.headers()["location"].to_str().unwrap().to_owned();
    let properties: Value =
        serde_json::from_str(answer.headers()["brokerproperties"].to_str().unwrap()).unwrap();
    assert_eq!(properties["DeliveryCount"], 1);
    assert_eq!(answer.text().await.unwrap(), "x");
    assert_eq!(call(reqwest::Method::POST, lock.clone()).await.unwrap().status().as_u16(), 200);
    assert_eq!(call(reqwest::Method::PUT, lock.clone()).await.unwrap().status().as_u16(), 200);
    assert_eq!(call(reqwest::Method::DELETE, lock).await.unwrap().status().as_u16(), 404);
    let answer = call(reqwest::Method::DELETE, head.clone()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, "x".to_owned()));
    assert_eq!(host.queue("parked").unwrap().completed, 1);
    host.stop().await;
}

#[tokio::test]
async fn an_output_of_a_function_goes_to_its_queue() {
    let app = App::new()
        .function(
            "Fan",
            json!([
                { "type": "serviceBusTrigger", "direction": "in", "name": "msg", "queueName": "%SOURCE%" },
                { "type": "serviceBus", "direction": "out", "name": "next", "queueName": "next" }
            ]),
        )
        .setting("SOURCE", "jobs")
        .answers(json!({ "/Fan": [{ "body": r#"{"Outputs":{"next":["a",{"b":1}]}}"# }] }));
    let host = app.start().await.unwrap();
    host.send("jobs", text(r#"{"MessageId":"evil"}"#)).unwrap();
    let queue = queue_where(&host, "next", |queue| queue.active.len() == 2).await;
    assert_eq!(queue.active[0].sent.body, "a");
    assert_eq!(queue.active[1].sent.body, "{\n  \"b\": 1\n}");
    // Q18: a text trigger lets a body forge Metadata.
    let body: Value = serde_json::from_str(app.requests()[0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["Metadata"]["MessageId"], "\"evil\"");
    host.stop().await;
}
