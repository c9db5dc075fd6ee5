//! The whole estate: swept on demand, reported, put right in bulk; and what an operator does without Ajar.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use end_to_end_tests::{Stack, nsg, sample_estate, vm};
use functions_host::OutgoingMessage;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const BOB: &str = "203.0.113.7";
const STRANGER: &str = "198.51.100.77";
const SOON: Duration = Duration::from_secs(30);

/// The report as carol sees it, who may read everything.
async fn report(stack: &Stack) -> Value {
    let answer = stack.call_as("carol", Method::GET, "/api/compliance", None).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.body
}

/// Begins a sweep, and waits until one more has ended.
async fn sweep(stack: &Stack) -> Value {
    let before = report(stack).await["trend"].as_array().unwrap().len();
    stack
        .host
        .send("compliance", OutgoingMessage { body: "{}".into(), ..OutgoingMessage::default() })
        .unwrap();
    stack
        .eventually("the estate was swept", SOON, async |stack| {
            report(stack).await["trend"].as_array().unwrap().len() > before
        })
        .await;
    report(stack).await
}

async fn text(stack: &Stack, format: &str) -> (String, String) {
    let path = format!("/api/compliance?format={format}");
    let request = stack.request(Method::GET, &path).bearer_auth(stack.token("carol"));
    let answer = request.send().await.unwrap().error_for_status().unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (kind, answer.text().await.unwrap())
}

fn status<'a>(report: &'a Value, name: &str) -> &'a str {
    let vms = report["vms"].as_array().unwrap();
    let found = vms.iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {report}"))["status"].as_str().unwrap()
}

/// Waits until no event and no message is left, so that later calls are a sweep's own.
async fn at_rest(stack: &Stack) {
    stack
        .eventually("at rest", SOON, async |stack| {
            let events = stack.host.queue("vm-events").unwrap();
            stack.is_at_rest() && events.active.is_empty() && events.locked.is_empty()
        })
        .await;
}

#[tokio::test]
async fn the_estate_is_swept_on_demand_and_reported_in_each_format() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    sweep(&stack).await;
    // What is open and was not known is looked at in Azure first.
    let estate: Vec<Value> = serde_json::from_str(&sample_estate()).unwrap();
    let vms = estate.iter().filter(|one| one["type"] == "Microsoft.Compute/virtualMachines").count();
    stack
        .eventually("every VM is judged", SOON, async |stack| {
            report(stack).await["vms"].as_array().unwrap().len() == vms
        })
        .await;
    at_rest(&stack).await;
    let first = report(&stack).await;
    for (name, expected) in
        [("web-1", "Healthy"), ("web-2", "Unhealthy"), ("db-1", "Healthy"), ("bare-1", "NotApplicable")]
    {
        assert_eq!(status(&first, name), expected, "{name}");
    }
    assert_eq!(first["findings"], json!([]), "nothing is wrong beside open ports");
    assert!(stack.log().contains("ajar.subscriptions.unwatched"), "the metric of the alert rule");

    let before = stack.azure.with(|azure| azure.log().count());
    sweep(&stack).await;
    let asked: Vec<String> = stack.azure.with(|azure| {
        let own = |entry: &&azure_simulator::LogEntry| {
            !["ResourceGraph", "EventGrid", "Authorization"].iter().any(|list| entry.path.contains(list))
        };
        azure.log().skip(before).filter(own).map(|entry| entry.path.clone()).collect()
    });
    assert_eq!(asked, Vec::<String>::new(), "what is as it was costs no call but for lists");

    let (kind, csv) = text(&stack, "csv").await;
    assert!(kind.starts_with("text/csv"), "{kind}");
    let row = csv.lines().find(|line| line.contains("virtualMachines/web-2\"")).expect("a row for web-2");
    assert!(row.contains("Unhealthy"), "{row}");
    let (kind, html) = text(&stack, "html").await;
    assert!(kind.starts_with("text/html") && html.starts_with("<!doctype html>"), "{kind}");
    assert!(html.contains("web-2") && html.contains("<svg"), "with the trend");
    let (kind, sarif) = text(&stack, "sarif").await;
    assert_eq!(kind, "application/sarif+json");
    let sarif: Value = serde_json::from_str(&sarif).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let names = |name: &str| {
        let is_it = |result: &&Value| result["locations"].to_string().contains(&format!("/{name}\""));
        results.iter().filter(is_it).count()
    };
    assert_eq!((names("web-1"), names("web-2")), (0, 1), "{sarif}");
    let (_, ocsf) = text(&stack, "ocsf").await;
    let ocsf: Value = serde_json::from_str(&ocsf).unwrap();
    assert_eq!(ocsf.as_array().unwrap().len(), first["vms"].as_array().unwrap().len());
    assert!(ocsf.as_array().unwrap().iter().all(|event| event["class_uid"] == 2003), "{ocsf}");

    let path = "/api/assessments?stored=true&status=Unhealthy";
    let recommended = stack.call_as("carol", Method::GET, path, None).await;
    let recommended: Vec<&str> = recommended.body["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(recommended.contains(&"web-2") && !recommended.contains(&"web-1"), "{recommended:?}");
    let nothing = stack.call_as("mallory", Method::GET, "/api/compliance", None).await;
    assert_eq!(nothing.body["vms"], json!([]), "mallory may read no VM");
    stack.stop().await;
}

#[tokio::test]
async fn many_are_protected_and_rules_without_a_policy_adopted_after_it_was_shown() {
    let stack = Stack::start().await;
    let many = |what_if: Option<bool>| {
        let mut body = json!({ "vms": [vm("web-1"), vm("bare-1"), vm("both-1")],
            "policy": { "ports": [{ "port": 22 }] } });
        what_if.into_iter().for_each(|what_if| body["whatIf"] = json!(what_if));
        body
    };
    let outcomes = |body: &Value| -> Vec<String> {
        let all = body["value"].as_array().unwrap_or_else(|| panic!("{body}"));
        all.iter().map(|one| one["outcome"].as_str().unwrap().to_owned()).collect()
    };
    let path = "/api/policies/enable-many";
    let shown = stack.call_as("alice", Method::POST, path, Some(many(None))).await;
    assert_eq!(outcomes(&shown.body), ["WouldChange", "Failed", "WouldChange"], "{shown:?}");
    assert_eq!(stack.writes(), Vec::<String>::new(), "only shown");
    let done = stack.call_as("alice", Method::POST, path, Some(many(Some(false)))).await;
    assert_eq!(outcomes(&done.body), ["Enabled", "Failed", "Enabled"], "{done:?}");
    stack
        .eventually("both are shut", SOON, async |stack| {
            !stack.passes(STRANGER, "web-1", 22).await && !stack.passes(STRANGER, "both-1", 22).await
        })
        .await;

    // A deny that outlived its policy: written by another installation of the same name, long ago.
    let orphan = json!({ "properties": { "priority": 150, "direction": "Inbound", "access": "Deny",
        "protocol": "Tcp", "sourceAddressPrefix": "*", "sourcePortRange": "*",
        "destinationAddressPrefix": address(&stack, "win-1"), "destinationPortRange": "3389" } });
    let group = group_of(&stack, "win-1");
    let rule = format!("{group}/securityRules/ajar-e2e-deny-rdp-orphan?api-version=2024-05-01");
    let put = stack.arm_as("dave", Method::PUT, &rule, Some(orphan)).await;
    assert!(put.status.is_success(), "{put:?}");
    let found = sweep(&stack).await;
    let is_orphan = |finding: &&Value| finding["code"] == "orphanedProtection";
    let orphans: Vec<&Value> = found["findings"].as_array().unwrap().iter().filter(is_orphan).collect();
    assert_eq!(orphans.len(), 1, "{found}");
    assert_eq!(orphans[0]["rule"], "ajar-e2e-deny-rdp-orphan");
    assert!(!stack.passes(STRANGER, "win-1", 3389).await, "absence never opens");
    let adopt = async |what_if: bool| {
        let body = json!({ "enforcementPoint": group, "whatIf": what_if });
        let answer = stack.call_as("alice", Method::POST, "/api/policies/adopt", Some(body)).await;
        outcomes(&answer.body)
    };
    assert_eq!(adopt(true).await, ["WouldChange"]);
    assert_eq!(adopt(false).await, ["Enabled"]);
    let path = format!("/api/policies?vm={}", vm("win-1"));
    let policy = stack.call_as("alice", Method::GET, &path, None).await;
    assert_eq!(policy.body["ports"][0]["port"], json!(3389), "{policy:?}");
    at_rest(&stack).await;
    assert!(!stack.passes(STRANGER, "win-1", 3389).await);
    stack.stop().await;
}

fn resource(stack: &Stack, id: &str) -> Value {
    stack.azure.with(|azure| azure.resource(id)).unwrap_or_else(|| panic!("no {id}"))
}

fn interface(stack: &Stack, name: &str) -> Value {
    let machine = resource(stack, &vm(name));
    let id = machine["properties"]["networkProfile"]["networkInterfaces"][0]["id"].as_str().unwrap();
    resource(stack, id)
}

fn address(stack: &Stack, name: &str) -> String {
    let interface = interface(stack, name);
    let address = &interface["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"];
    address.as_str().unwrap().to_owned()
}

fn group_of(stack: &Stack, name: &str) -> String {
    interface(stack, name)["properties"]["networkSecurityGroup"]["id"].as_str().unwrap().to_owned()
}

/// The estate is given as a management group alone, and its only subscription tells nobody of its events.
#[tokio::test]
async fn what_is_below_a_management_group_is_swept_and_told_of_when_it_is_not_watched() {
    let estate: Vec<Value> = serde_json::from_str(&sample_estate()).unwrap();
    let is_topic = |resource: &Value| resource["type"] == "Microsoft.EventGrid/systemTopics";
    assert!(estate.iter().any(is_topic));
    let unwatched: Vec<Value> = estate.into_iter().filter(|resource| !is_topic(resource)).collect();
    let settings = [("AJAR_SUBSCRIPTIONS", ""), ("AJAR_MANAGEMENT_GROUPS", "contoso")];
    let stack = Stack::start_with(&json!(unwatched).to_string(), &settings).await;
    stack.protect("web-1").await;
    let found = sweep(&stack).await;
    assert_eq!(status(&found, "web-1"), "Healthy");
    let expected = json!([{ "code": "unwatched", "subscription": end_to_end_tests::SUBSCRIPTION }]);
    assert_eq!(found["findings"], expected);
    let request = stack.ask("web-1", BOB, "PT1H").await;
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;
    stack.stop().await;
}

/// What `ajar` says of the NSGs as `az network nsg list` gives them.
fn ajar(stack: &Stack, arguments: &[&str]) -> (i32, String) {
    // Beside the tests' own folder: `scripts/test` builds it first.
    let program = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("ajar");
    let list = json!([resource(stack, &nsg("web-nsg"))]).to_string();
    let mut child = Command::new(&program)
        .args(arguments)
        .args(["--deployment", "e2e", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo build -p ajar-cli`", program.display()));
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Ajar and its tables are gone; the rules it left say what they are.
#[tokio::test]
async fn an_operator_sees_what_to_close_and_to_remove_when_ajar_is_gone() {
    let mut stack = Stack::start().await;
    stack.protect("web-1").await;
    let request = stack.ask("web-1", BOB, "PT2M").await;
    stack.eventually("active", SOON, async |stack| stack.status(&request).await == "Active").await;
    stack.host.kill_handler();
    stack.azurite.stop().await;
    let ours = |access: &str| -> Vec<String> {
        let all = stack.rules("web-nsg");
        let is_ours = |rule: &&Value| {
            rule["name"].as_str().unwrap().starts_with("ajar-e2e-") && rule["properties"]["access"] == access
        };
        all.iter().filter(is_ours).map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    };
    let (allows, denies) = (ours("Allow"), ours("Deny"));
    assert_eq!(allows.len(), 1);
    assert!(!denies.is_empty());
    assert_eq!(ajar(&stack, &["close-expired"]).0, 0, "its end is not past");
    let later = ["close-expired", "--now", "2099-01-01T00:00:00Z"];
    let (code, shown) = ajar(&stack, &later);
    assert!(code == 1 && shown.contains(&allows[0]) && !shown.contains(&denies[0]), "{shown}");
    let (_, commands) = ajar(&stack, &["drain", "--format", "commands"]);
    assert!(commands.contains(&format!("/securityRules/{}'", allows[0])), "{commands}");
    assert!(!commands.contains(&denies[0]), "absence never opens: {commands}");
    let (_, commands) = ajar(&stack, &["drain", "--remove-deny", "--format", "commands"]);
    assert!(denies.iter().all(|deny| commands.contains(deny)), "{commands}");
    stack.stop().await;
}
