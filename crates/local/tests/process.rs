//! The executable itself, with a stub in the application's place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const LONG: Duration = Duration::from_secs(60);

/// A packaged application with one HTTP function and the stub as its handler.
fn package(name: &str) -> PathBuf {
    let dist = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // What an earlier run left behind; there may be nothing.
    let _ = std::fs::remove_dir_all(&dist);
    std::fs::create_dir_all(dist.join("api")).unwrap();
    let host = json!({
        "version": "2.0", "extensions": {"http": {"routePrefix": ""}},
        "customHandler": {"description": {"defaultExecutablePath": "handler"}, "enableForwardingHttpRequest": true},
    });
    std::fs::write(dist.join("host.json"), host.to_string()).unwrap();
    let function = json!({"bindings": [
        {"type": "httpTrigger", "direction": "in", "name": "request", "authLevel": "anonymous", "route": "api/{*path}"},
        {"type": "http", "direction": "out", "name": "response"},
    ]});
    std::fs::write(dist.join("api/function.json"), function.to_string()).unwrap();
    let executable = Path::new(env!("CARGO_BIN_EXE_ajar-local"));
    std::fs::copy(executable.with_file_name("examples").join("stub_handler"), dist.join("handler")).unwrap();
    dist
}

fn command(dist: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ajar-local"));
    let estate = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-estate.json");
    command.arg("--dist").arg(dist).arg("--estate").arg(estate).arg("--state-dir").arg(dist.join("state"));
    command.args(["--port", "0", "--azure-port", "0", "--service-bus-port", "0"]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn ready(child: &mut Child) -> (String, Lines<BufReader<ChildStdout>>) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = tokio::time::timeout(LONG, lines.next_line()).await.unwrap().unwrap().unwrap();
    let url = first.strip_prefix("Ajar is ready: ").unwrap_or_else(|| panic!("{first}")).to_owned();
    (url, lines)
}

#[tokio::test]
async fn the_application_finds_its_azure_and_goes_when_it_is_told_to() {
    let dist = package("story");
    let mut child = command(&dist, &["--env", "AJAR_DEPLOYMENT=test"]).spawn().unwrap();
    let (url, _lines) = ready(&mut child).await;
    let client = reqwest::Client::new();
    let answer: Value = client.get(format!("{url}/api/x")).send().await.unwrap().json().await.unwrap();
    let setting =
        |name: &str| answer["settings"][name].as_str().unwrap_or_else(|| panic!("{name}")).to_owned();
    assert_eq!(setting("AJAR_DEPLOYMENT"), "test");
    assert_eq!(setting("AJAR_TENANT_ID"), "22222222-2222-2222-2222-222222222222");
    assert_eq!(setting("AJAR_SUBSCRIPTIONS"), "11111111-1111-1111-1111-111111111111");
    assert_eq!(setting("AJAR_STORE_FILE"), dist.join("state/ajar.redb").display().to_string());

    let identity = async |resource: &str| {
        let url = format!("{}?resource={resource}&api-version=2019-08-01", setting("IDENTITY_ENDPOINT"));
        let request = client.get(url).header("X-IDENTITY-HEADER", setting("IDENTITY_HEADER"));
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    };
    let arm = identity("https://management.azure.com/").await;
    let list = format!("{}/subscriptions?api-version=2022-12-01", setting("AJAR_ARM_ENDPOINT"));
    let list: Value = client.get(list).bearer_auth(&arm).send().await.unwrap().json().await.unwrap();
    assert_eq!(list["value"].as_array().unwrap().len(), 1);

    let send = async |token: &str| {
        let url = format!("{}/reconcile/messages", setting("AJAR_SERVICE_BUS_ENDPOINT"));
        client.post(url).bearer_auth(token).body("{}").send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(&arm).await, 401, "a token for something else");
    assert_eq!(send(&identity("https://servicebus.azure.net").await).await, 201);

    let handler = PathBuf::from(format!("/proc/{}", answer["pid"]));
    assert!(handler.exists());
    let stop = Command::new("kill").args(["-TERM", &child.id().unwrap().to_string()]).status().await.unwrap();
    assert!(stop.success());
    let status = tokio::time::timeout(LONG, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!handler.exists(), "the handler went with its host");
}

#[tokio::test]
async fn what_cannot_work_is_said_at_once() {
    let dist = package("mistakes");
    for (more, said) in [
        (&["--estate", "/nowhere.json"][..], "/nowhere.json"),
        (&["--dist", "/nowhere"], "scripts/package"),
        (&["--port", "many"], "many"),
    ] {
        let output = tokio::time::timeout(LONG, command(&dist, more).output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(text.contains(said), "{text}");
    }
}
