//! The official Python SDK (`azure-mgmt-security`) against the packaged executable, unchanged.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "a test fails by panicking"
)]

use end_to_end_tests::{SUBSCRIPTION, Stack, repository, vm};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

const BOB: &str = "203.0.113.7";
const NEIGHBOUR: &str = "203.0.113.8";
const SOON: Duration = Duration::from_secs(10);

/// A Python with the SDK in it, made once under target/; `None` where there is no Python that can make one.
async fn python() -> Option<PathBuf> {
    let has_python = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output()
        .await
        .is_ok_and(|output| output.status.success());
    if !has_python {
        let missing = "python3 with venv is missing: the official SDK was NOT tried against Ajar";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("{missing}");
        return None;
    }
    let requirements = repository().join("tests/end-to-end/azure-sdk/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).unwrap();
    let environment = repository().join("target/azure-sdk");
    let python = environment.join("bin/python");
    let installed = environment.join("installed.txt");
    if std::fs::read_to_string(&installed).ok().as_ref() != Some(&wanted) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment)).await;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-compile"])
            .args(["--disable-pip-version-check", "--requirement"])
            .arg(&requirements))
        .await;
        std::fs::write(&installed, wanted).unwrap();
    }
    Some(python)
}

async fn run(command: &mut Command) {
    let output = command.output().await.unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn operations(python: &Path, stack: &Stack, phase: &str) {
    let mut command = Command::new(python);
    command
        .arg(repository().join("tests/end-to-end/azure-sdk/operations.py"))
        .arg(phase)
        .env("AJAR_URL", stack.url())
        .env("SUBSCRIPTION", SUBSCRIPTION)
        .env("VM", vm("web-1"))
        .env("NO_PROXY", "127.0.0.1")
        .kill_on_drop(true);
    for user in ["alice", "bob", "carol"] {
        command.env(format!("TOKEN_{}", user.to_uppercase()), stack.token(user));
    }
    run(&mut command).await;
}

#[tokio::test]
async fn the_official_sdk_does_all_eight_operations() {
    let Some(python) = python().await else { return };
    let stack = Stack::start().await;
    assert!(stack.passes(BOB, "web-1", 22).await, "open at first");
    operations(&python, &stack, "open").await;
    assert!(stack.passes(BOB, "web-1", 22).await, "open to bob");
    assert!(!stack.passes(NEIGHBOUR, "web-1", 22).await && !stack.passes(BOB, "web-1", 3389).await);
    operations(&python, &stack, "close").await;
    stack
        .eventually("as it was before", SOON, async |stack| stack.passes(NEIGHBOUR, "web-1", 22).await)
        .await;
    assert!(stack.rules("web-nsg").iter().all(|rule| !rule["name"].as_str().unwrap().starts_with("ajar-")));
    stack.stop().await;
}
