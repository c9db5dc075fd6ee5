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
