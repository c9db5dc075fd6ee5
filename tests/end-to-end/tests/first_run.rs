//! The first run as a new user has it: what `scripts/run` starts, and the lines it prints, pasted into a shell.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use end_to_end_tests::{dist, repository};
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

#[tokio::test]
async fn the_printed_lines_show_open_shut_open_to_one_and_shut_again() {
    let state = std::env::temp_dir().join(format!("ajar-first-run-{}", std::process::id()));
    // Built by scripts/test beside the package.
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), Into::into);
    let local = target.join("debug/ajar-local");
    assert!(local.exists(), "there is no {}: run `cargo build -p ajar-local`", local.display());
    let mut child = Command::new(local)
        .current_dir(repository())
        .arg("--dist")
        .arg(dist())
        .arg("--state-dir")
        .arg(&state)
        .args(["--port", "0", "--azure-port", "0", "--service-bus-port", "0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut commands = String::new();
    let told = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(command) = line.strip_prefix("  ") {
                commands.push_str(command);
                commands.push('\n');
            }
            if line.contains("Ctrl-C") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("a ready prompt within a minute");

    let pasted = Command::new("bash").arg("-c").arg(&commands).output();
    let output = tokio::time::timeout(Duration::from_secs(90), pasted).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers: Vec<Value> = said
        .lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}\n{commands}"))
        })
        .collect();
    let allowed: Vec<bool> = answers.iter().filter_map(|answer| answer["allowed"].as_bool()).collect();
    assert_eq!(allowed, [true, false, true, false, false], "{said}");
    assert_eq!(answers[1]["status"], "Unhealthy", "{said}");
    assert_eq!(answers[2]["state"], "Enabled", "{said}");
    assert_eq!(answers[4]["status"], "Requested", "{said}");

    let stop = Command::new("kill").args(["-INT", &child.id().unwrap().to_string()]).status().await.unwrap();
    assert!(stop.success());
    let status = tokio::time::timeout(Duration::from_secs(10), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "it stops cleanly on Ctrl-C");
    std::fs::remove_dir_all(state).unwrap();
}
