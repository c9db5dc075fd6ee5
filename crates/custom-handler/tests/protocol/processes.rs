//! The example as a process, the way the host starts it.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::wire::{exchange, invoke};

fn hello() -> Command {
    // Test executables are in `deps`, examples beside it.
    let deps = PathBuf::from(std::env::current_exe().unwrap().parent().unwrap());
    let mut command = Command::new(deps.parent().unwrap().join("examples/hello"));
    command.env_remove("FUNCTIONS_CUSTOMHANDLER_PORT").env_remove("RUST_LOG").env_remove("GREETING");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A port that was free a moment ago.
fn port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

async fn fails_with(command: &mut Command, message: &str) {
    let output = command.output().await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with(message), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// Conformance cases P8 and P10: an error ends with 1 and never with 0, after which the host would not start
/// the app again.
#[tokio::test]
async fn p8_and_p10_configuration_errors_end_with_1_and_say_why() {
    fails_with(&mut hello(), "FUNCTIONS_CUSTOMHANDLER_PORT is not set").await;
    fails_with(hello().env("FUNCTIONS_CUSTOMHANDLER_PORT", "http"), "FUNCTIONS_CUSTOMHANDLER_PORT is `http`")
        .await;
    let port = port().to_string();
    fails_with(
        hello().env("FUNCTIONS_CUSTOMHANDLER_PORT", port).env("GREETING", ""),
        "initialisation failed: GREETING is empty",
    )
    .await;
}

#[tokio::test]
async fn p5_the_port_of_the_environment_is_served_and_stdout_has_one_json_record_a_line() {
    let port = port();
    let mut child = hello().env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string()).spawn().unwrap();
    // The host's own way to wait for a handler.
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        tokio::task::yield_now().await;
    }
    let forwarded = format!("GET /api/hello HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
    assert_eq!(exchange(port, forwarded.as_bytes()).await.text(), "hello");
    let answer = invoke(port, "greet", &json!({ "Data": { "msg": "\"Ada\"" } })).await;
    assert_eq!(answer.json()["Logs"], json!(["hello, Ada"]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let record: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!((&record["message"], &record["function"]), (&json!("succeeded"), &json!("greet")));
    child.kill().await.unwrap();
}
