//! Requests, messages and timers reach a real handler process.
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

use std::time::Duration;

use functions_host::ManualClock;
use serde_json::{Value, json};
use support::{App, eventually, get, send_message};

#[tokio::test]
async fn a_forwarded_request_reaches_the_handler_under_its_own_path() {
    let app = App::new()
        .http("Jobs", "jobs/{id}")
        .answers(json!({ "/jobs/42": [{ "status": 418, "type": "text/plain", "body": "short and stout" }] }));
    let host = app.start().await.unwrap();
    assert_eq!(get(&host, "/jobs/42?a=1&a=2").await, (418, "short and stout".to_owned()));
    let request = &app.requests()[0];
    assert_eq!(request["line"], "GET /jobs/42?a=1,2 HTTP/1.1");
    assert_eq!(request["framing"], "none");
    host.stop().await;
}

#[tokio::test]
async fn a_message_reaches_the_handler_chunked_and_is_completed() {
    let app = App::new().queue("Worker", "jobs");
    let host = app.start().await.unwrap();
    let status =
        send_message(&host, "jobs", r#"{"MessageId":"m-1","Label":"job"}"#, r#"{"MessageId":"forged"}"#)
            .await;
    assert_eq!(status, 201);
    let queue = eventually("the message is completed", || {
        host.queue("jobs").ok().filter(|queue| queue.completed == 1)
    })
    .await;
    assert!(queue.is_idle());
    let request = &app.requests()[0];
    assert_eq!(request["line"], "POST /Worker HTTP/1.1");
    assert_eq!(request["framing"], "chunked");
    let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
    // base64 of {"MessageId":"forged"}: a binary trigger is not overlaid.
    assert_eq!(body["Data"]["msg"], "eyJNZXNzYWdlSWQiOiJmb3JnZWQifQ==");
    assert_eq!(body["Metadata"]["MessageId"], "\"m-1\"");
    assert_eq!(body["Metadata"]["DeliveryCount"], "1");
    assert_eq!(body["Metadata"]["Subject"], "\"job\"");
    host.stop().await;
}

#[tokio::test]
async fn a_scheduled_message_waits_for_its_second() {
    let clock = ManualClock::new("2026-06-15T10:00:00Z".parse().unwrap());
    let mut app = App::new().queue("Worker", "jobs");
    app.options.clock = std::sync::Arc::new(clock.clone());
    let host = app.start().await.unwrap();
    let due = r#"{"ScheduledEnqueueTimeUtc":"Mon, 15 Jun 2026 10:05:00 GMT"}"#;
    assert_eq!(send_message(&host, "jobs", due, "x").await, 201);
    clock.advance(Duration::from_millis(299_999));
    let queue = host.queue("jobs").unwrap();
    assert_eq!((queue.scheduled.len(), queue.active.len(), queue.completed), (1, 0, 0));
    clock.advance(Duration::from_millis(1));
    eventually("the message is completed", || host.queue("jobs").ok().filter(|queue| queue.completed == 1))
        .await;
    host.stop().await;
}

#[tokio::test]
async fn a_minute_timer_runs_on_the_minute() {
    let clock = ManualClock::new("2026-06-15T10:00:30Z".parse().unwrap());
    let mut app = App::new().timer("Tick", "0 * * * * *");
    app.options.clock = std::sync::Arc::new(clock.clone());
    let host = app.start().await.unwrap();
    host.ready().await.unwrap();
    clock.advance(Duration::from_millis(29_999));
    assert!(app.requests().is_empty());
    clock.advance(Duration::from_millis(1));
    let request = eventually("the timer ran", || app.requests().into_iter().next()).await;
    assert_eq!(request["line"], "POST /Tick HTTP/1.1");
    let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        body["Data"]["timer"],
        json!({
            "Schedule": { "AdjustForDST": true },
            "ScheduleStatus": {
                "Last": "0001-01-01T00:00:00+00:00",
                "Next": "2026-06-15T10:01:00+00:00",
                "LastUpdated": "0001-01-01T00:00:00+00:00"
            },
            "IsPastDue": false
        })
    );
    host.stop().await;
}

fn timer_value(request: &Value) -> Value {
    let body: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
    body["Data"]["timer"].clone()
}

#[tokio::test]
async fn q24_a_missed_occurrence_is_caught_up_once() {
    let mut app = App::new().timer("Tick", "0 0 * * * *");
    app.options.timer_status_file = Some(app.root().join("timers.json"));
    let first = ManualClock::new("2026-06-15T10:30:00Z".parse().unwrap());
    app.options.clock = std::sync::Arc::new(first.clone());
    let host = app.start().await.unwrap();
    eventually("the status is written", || app.root().join("timers.json").exists().then_some(())).await;
    host.stop().await;
    assert!(app.requests().is_empty(), "the first start ever catches nothing up");

    // The occurrence of 11:00 passed while no host was running.
    let second = ManualClock::new("2026-06-15T12:30:00Z".parse().unwrap());
    app.options.clock = std::sync::Arc::new(second.clone());
    let host = app.start().await.unwrap();
    let request = eventually("the timer ran", || app.requests().into_iter().next()).await;
    assert_eq!(timer_value(&request)["IsPastDue"], true);
    assert_eq!(timer_value(&request)["ScheduleStatus"]["Next"], "2026-06-15T11:00:00+00:00");
    eventually("the run is over", || app.has_logged("Executed 'Functions.Tick' (Succeeded").then_some(()))
        .await;
    // The schedule sleeps until 13:00 as soon as the catch-up is over.
    let request = eventually("the next regular run came", || {
        second.advance(Duration::from_secs(60));
        app.requests().into_iter().nth(1)
    })
    .await;
    assert_eq!(timer_value(&request)["IsPastDue"], false);
    assert_eq!(timer_value(&request)["ScheduleStatus"]["Last"], "2026-06-15T12:30:00+00:00");
    assert_eq!(timer_value(&request)["ScheduleStatus"]["Next"], "2026-06-15T13:00:00+00:00");
    host.stop().await;
}

#[tokio::test]
async fn q23_a_fast_timer_has_no_status_and_run_on_startup_runs_at_once() {
    let bindings = json!([{
        "type": "timerTrigger", "direction": "in", "name": "timer", "schedule": "*/10 * * * * *", "runOnStartup": true
    }]);
    let mut app = App::new().function("Fast", bindings);
    let clock = ManualClock::new("2026-06-15T10:00:01Z".parse().unwrap());
    app.options.clock = std::sync::Arc::new(clock);
    let host = app.start().await.unwrap();
    let request = eventually("the timer ran", || app.requests().into_iter().next()).await;
    assert_eq!(timer_value(&request)["ScheduleStatus"], Value::Null);
    assert_eq!(timer_value(&request)["IsPastDue"], false);
    host.stop().await;
}

#[tokio::test]
async fn a_long_run_skips_occurrences_and_never_overlaps() {
    let mut app =
        App::new().timer("Tick", "0 * * * * *").answers(json!({ "/Tick": [{ "delay": 2000 }, {}] }));
    let clock = ManualClock::new("2026-06-15T10:00:30Z".parse().unwrap());
    app.options.clock = std::sync::Arc::new(clock.clone());
    let host = app.start().await.unwrap();
    host.ready().await.unwrap();
    clock.advance(Duration::from_secs(30));
    eventually("the first run began", || app.requests().into_iter().next()).await;
    // Three occurrences pass during the run.
    clock.advance(Duration::from_secs(200));
    eventually("the first run ended", || {
        app.has_logged("Executed 'Functions.Tick' (Succeeded").then_some(())
    })
    .await;
    assert_eq!(app.requests().len(), 1);
    let request = eventually("the next run came", || {
        clock.advance(Duration::from_secs(1));
        app.requests().into_iter().nth(1)
    })
    .await;
    assert_eq!(timer_value(&request)["ScheduleStatus"]["Last"], "2026-06-15T10:01:00+00:00");
    host.stop().await;
}
