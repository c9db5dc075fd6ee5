//! The host and its handler as processes: conformance cases P1 to P15, and the recorded `proc-*` cases by name.
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

use std::path::Path;
use std::time::{Duration, Instant};

use functions_host::{FunctionsHost, HandlerState, HostError, LogLevel};
use serde_json::json;
use support::{App, eventually, get};

const TIMEOUT: &str = "/customHandler/initializationTimeout";
const STOPPED: &str = "Exceeded http worker restart retry count. Shutting down Functions Host";

async fn stopped(host: &FunctionsHost) -> String {
    let mut state = host.watch_handler_state();
    let state = state.wait_for(|state| matches!(state, HandlerState::Stopped(_)));
    let state =
        tokio::time::timeout(Duration::from_secs(30), state).await.expect("the host did not stop").unwrap();
    match &*state {
        HandlerState::Stopped(reason) => reason.clone(),
        other => panic!("{other:?}"),
    }
}

async fn started(host: &FunctionsHost, count: u32) {
    eventually("the handler was started again", || {
        (host.handler_starts() == count && host.handler_state() == HandlerState::Initialized).then_some(())
    })
    .await;
}

fn is_alive(pid: u32) -> bool {
    // A process that ended and was not waited for yet is a zombie.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn p1_p5_the_handler_starts_in_the_app_root_with_the_hosts_environment() {
    let app = App::new()
        .http("Hello", "hello")
        .setting("FUNCTIONS_CUSTOMHANDLER_PORT", "1")
        .setting("MY_APP_SETTING", "secret")
        .host_json_with("/customHandler/description/arguments", json!(["serve", "a b"]));
    let host = app.start().await.unwrap();
    host.ready().await.unwrap();
    let start = &app.record()[0]["start"];
    let port = host.handler_port().to_string();
    let environment = &start["env"];
    let root = app.root().display().to_string();
    assert_eq!(start["exe"], format!("{root}/handler"));
    assert_eq!(
        Path::new(start["cwd"].as_str().unwrap()).canonicalize().unwrap(),
        app.root().canonicalize().unwrap()
    );
    assert_eq!(start["argv"], json!(["serve", "a", "b"]));
    assert_eq!(environment["FUNCTIONS_CUSTOMHANDLER_PORT"], port);
    assert_eq!(environment["FUNCTIONS_HTTPWORKER_PORT"], port);
    assert_eq!(environment["FUNCTIONS_CUSTOMHANDLER_WORKER_ID"], environment["FUNCTIONS_HTTPWORKER_ID"]);
    assert_eq!(environment["FUNCTIONS_APP_ROOT_PATH"], root);
    assert_eq!(environment["MY_APP_SETTING"], "secret");
    assert_eq!(environment["WEBSITE_HOSTNAME"], format!("localhost:{}", host.http_address().port()));
    assert!(environment["PATH"].is_string(), "the inherited environment is passed on");
    host.stop().await;
}

#[tokio::test]
async fn p2_p3_a_host_json_without_a_handler_is_refused() {
    for (description, message) in [
        (json!(null), "Missing worker Description."),
        (json!({ "defaultExecutablePath": "" }), "WorkerDescription DefaultExecutablePath cannot be empty"),
    ] {
        let app = App::new().http("Hello", "hello").host_json_with("/customHandler/description", description);
        let Err(HostError::Configuration(text)) = app.start().await else {
            panic!("{message}");
        };
        assert_eq!(text, message);
    }
}

#[tokio::test]
async fn p4_custom_handler_wins_over_http_worker() {
    let other = json!({ "description": { "defaultExecutablePath": "other" } });
    let app = App::new().http("Hello", "hello").host_json_with("/httpWorker", other);
    let host = app.start().await.unwrap();
    assert_eq!(get(&host, "/hello?do=ok").await, (200, "ok".to_owned()));
    assert!(app.has_logged("customHandler takes precedence"));
    host.stop().await;
}

#[tokio::test]
async fn p7_a_handler_that_never_listens_is_started_three_times() {
    let app = App::new()
        .http("Hello", "hello")
        .setting("START", "never")
        .host_json_with(TIMEOUT, json!("00:00:00.2"));
    let host = app.start().await.unwrap();
    assert_eq!(stopped(&host).await, STOPPED);
    assert_eq!(host.handler_starts(), 3);
    assert!(app.has_logged("Initializing HttpWorker timed out."));
}

#[tokio::test]
async fn p8_a_handler_that_always_crashes_is_started_three_times_and_then_the_host_stops() {
    let app = App::new()
        .http("Hello", "hello")
        .setting("START", "exit1")
        .setting("STDERR", "one\ntwo\nthree\nfour");
    let host = app.start().await.unwrap();
    assert_eq!(stopped(&host).await, STOPPED);
    assert_eq!(host.handler_starts(), 3);
    assert!(app.has_logged("exited with code 1 (0x1) two,three,four"));
    assert_eq!(get(&host, "/hello").await, (503, "Function host is not running.".to_owned()));
}

#[tokio::test]
async fn exit_0_before_ready_ends_in_the_timeout() {
    let app = App::new()
        .http("Hello", "hello")
        .setting("START", "exit0")
        .host_json_with(TIMEOUT, json!("00:00:00.2"));
    let host = app.start().await.unwrap();
    assert_eq!(stopped(&host).await, STOPPED);
    assert_eq!(host.handler_starts(), 3);
}

#[tokio::test]
async fn p9_exit_200_restarts_without_end() {
    let app = App::new().http("Hello", "hello");
    let host = app.start().await.unwrap();
    for starts in 1..=5 {
        started(&host, starts).await;
        assert_eq!(get(&host, "/hello?do=exit200").await, (200, "exit200".to_owned()));
    }
    started(&host, 6).await;
    assert_eq!(get(&host, "/hello?do=ok").await.0, 200);
    host.stop().await;
}

#[tokio::test]
async fn p10_exit_0_after_ready_leaves_the_app_dead() {
    let app = App::new().http("Hello", "hello");
    let host = app.start().await.unwrap();
    assert_eq!(get(&host, "/hello?do=exit0").await.0, 200);
    eventually("the process has gone", || host.handler_pid().is_none().then_some(())).await;
    assert_eq!(get(&host, "/hello?do=ok").await, (500, String::new()));
    assert_eq!(host.handler_starts(), 1);
    assert_eq!(host.handler_state(), HandlerState::Initialized);
    host.stop().await;
}

#[tokio::test]
async fn p11_stopping_and_dropping_kill_the_handler() {
    for is_dropped in [false, true] {
        let app = App::new().http("Hello", "hello");
        let host = app.start().await.unwrap();
        host.ready().await.unwrap();
        let pid = host.handler_pid().unwrap();
        assert!(is_alive(pid));
        if is_dropped {
            drop(host);
        } else {
            host.stop().await;
            assert!(!is_alive(pid), "stop waits for the end of the process");
        }
        eventually("the handler is dead", || (!is_alive(pid)).then_some(())).await;
    }
}

#[tokio::test]
async fn p12_output_is_ranked_and_passed_on() {
    let app = App::new()
        .http("Hello", "hello")
        .setting("STDOUT", "plain")
        .setting("STDERR", "Test Warning Message\nno keyword\nLanguageWorkerConsoleLog[x]");
    let host = app.start().await.unwrap();
    host.ready().await.unwrap();
    eventually("all lines are there", || (app.has_logged("plain") && app.has_logged("[x]")).then_some(()))
        .await;
    let logs = app.logs.lock().unwrap().clone();
    let level = |text: &str| logs.iter().find(|line| line.text == text).map(|line| line.level);
    assert_eq!(level("plain"), Some(LogLevel::Information));
    assert_eq!(level("Test Warning Message"), Some(LogLevel::Warning));
    assert_eq!(level("no keyword"), Some(LogLevel::Error));
    host.stop().await;
}

#[tokio::test]
async fn p13_a_timeout_kills_the_handler_and_every_running_invocation() {
    let app = App::new().http("Hello", "hello").host_json_with("/functionTimeout", json!("00:00:02"));
    let host = app.start().await.unwrap();
    host.ready().await.unwrap();
    let start = Instant::now();
    let late = async {
        // Inside its own limit when the first one is killed.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        get(&host, "/hello?do=sleep1900").await
    };
    let (first, second) = tokio::join!(get(&host, "/hello?do=sleep20000"), late);
    assert_eq!(first, (500, String::new()));
    assert_eq!(second, (500, String::new()));
    assert!(start.elapsed() >= Duration::from_secs(4), "the caller hears of it after the grace of 2 s");
    started(&host, 2).await;
    assert_eq!(get(&host, "/hello?do=ok").await.0, 200);
    host.stop().await;
}

#[tokio::test]
async fn p15_without_functions_the_handler_is_not_started() {
    let app = App::new();
    let host = app.start().await.unwrap();
    assert_eq!(host.handler_state(), HandlerState::NotStarted);
    assert_eq!(host.handler_starts(), 0);
    host.stop().await;
}

#[tokio::test]
async fn r24_a_crash_fails_what_is_running_and_the_third_stops_the_host() {
    let app = App::new().http("Hello", "hello");
    let host = app.start().await.unwrap();
    started(&host, 1).await;
    let (slow, crash) = tokio::join!(get(&host, "/hello?do=sleep20000"), async {
        eventually("the first request is with the handler", || app.requests().into_iter().next()).await;
        get(&host, "/hello?do=crash").await
    });
    assert_eq!((slow.0, crash.0), (500, 500));
    started(&host, 2).await;
    assert_eq!(get(&host, "/hello?do=ok").await.0, 200);
    // Killed from outside, as a test of an integrator does it.
    host.kill_handler();
    started(&host, 3).await;
    assert!(app.has_logged("exited with code 137 (0x89)"));
    assert_eq!(get(&host, "/hello?do=crash").await.0, 500);
    assert_eq!(stopped(&host).await, STOPPED);
}

#[tokio::test]
async fn a_handler_that_cannot_be_started_stops_the_host_at_the_first_invocation() {
    let app = App::new()
        .http("Hello", "hello")
        .host_json_with("/customHandler/description/defaultExecutablePath", json!("nosuchexe"))
        .host_json_with(TIMEOUT, json!("00:00:00.1"));
    let host = app.start().await.unwrap();
    assert_eq!(host.handler_state(), HandlerState::Initializing);
    assert_eq!(get(&host, "/hello").await, (500, String::new()));
    assert!(stopped(&host).await.contains("Initialization timed out"));
    assert_eq!(host.handler_starts(), 0);
    assert!(app.has_logged("Failed to start Worker Channel. Process fileName: nosuchexe"));
}

#[tokio::test]
async fn a_file_without_execute_bits_is_not_started() {
    use std::os::unix::fs::PermissionsExt;

    let app = App::new().http("Hello", "hello");
    let handler = app.root().join("handler");
    std::fs::remove_file(&handler).unwrap();
    std::fs::write(&handler, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&handler, std::fs::Permissions::from_mode(0o644)).unwrap();
    let host = app.start().await.unwrap();
    eventually("the failure is logged", || app.has_logged("Failed to start Worker Channel").then_some(()))
        .await;
    assert_eq!((host.handler_state(), host.handler_starts()), (HandlerState::Initializing, 0));
    host.stop().await;
}

#[tokio::test]
async fn a_request_waits_for_a_slow_start() {
    let app = App::new().http("Hello", "hello").setting("START", "late500");
    let host = app.start().await.unwrap();
    assert_eq!(host.handler_state(), HandlerState::Initializing);
    assert_eq!(get(&host, "/hello?do=ok").await.0, 200);
    assert_eq!(host.handler_starts(), 1);
    host.stop().await;
}

#[tokio::test]
async fn r22_an_empty_answer_is_reported_at_once() {
    let app = App::new()
        .host_json_with("/customHandler/enableForwardingHttpRequest", json!(false))
        .http("Hello", "hello")
        .answers(json!({ "/Hello": [{ "status": 200, "body": "" }] }));
    let host = app.start().await.unwrap();
    assert_eq!(get(&host, "/hello").await, (500, String::new()));
    assert!(app.has_logged("would hang until functionTimeout"));
    assert_eq!(host.handler_starts(), 1);
    host.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_cancel_its_invocation() {
    let app = App::new().http("Hello", "hello");
    let host = app.start().await.unwrap();
    host.ready().await.unwrap();
    let url = format!("http://{}/hello?do=sleep1500", host.http_address());
    let left = reqwest::Client::new().get(url).timeout(Duration::from_millis(500)).send().await;
    assert!(left.unwrap_err().is_timeout());
    eventually("the invocation ends well", || {
        app.has_logged("Executed 'Functions.Hello' (Succeeded").then_some(())
    })
    .await;
    host.stop().await;
}
