//! What is refused, with which status and which words, and that nothing changed: over real HTTP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use end_to_end_tests::{Answer, Stack, dist, settings, vm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

const BOB: &str = "203.0.113.7";

fn ask(vm: &str, ports: Value, duration: &str) -> Value {
    json!({ "vm": vm, "ports": ports, "duration": duration })
}

fn port_22(sources: &[&str]) -> Value {
    json!([{ "port": 22, "sources": sources }])
}

#[track_caller]
fn check(answer: &Answer, status: StatusCode, words: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let error = &answer.body["error"];
    assert!(error["code"].is_string() && error["message"].is_string(), "{answer:?}");
    assert!(error.to_string().contains(words), "`{words}` is not in {answer:?}");
}

#[tokio::test]
async fn bad_requests_get_their_status_and_name_the_field_and_change_nothing() {
    let stack = Stack::start().await;
    stack.protect("web-1").await;
    stack.eventually("at rest", std::time::Duration::from_secs(10), async |stack| stack.is_at_rest()).await;
    let (rules, writes) = (stack.rules("web-nsg"), stack.writes().len());
    let web = vm("web-1");

    let bad = StatusCode::BAD_REQUEST;
    for (body, status, words) in [
        (ask(&vm("web-9"), port_22(&[BOB]), "PT10M"), StatusCode::NOT_FOUND, "web-9"),
        (ask("web-1", port_22(&[BOB]), "PT10M"), bad, "vm"),
        (ask(&web, json!([{ "port": 23, "sources": [BOB] }]), "PT10M"), bad, "ports[0].port"),
        (ask(&web, port_22(&[BOB]), "PT4H"), bad, "duration"),
        (ask(&web, port_22(&["203.0.113.7/33"]), "PT10M"), bad, "ports[0].sources[0]"),
        (ask(&web, port_22(&["0.0.0.0/0"]), "PT10M"), bad, "maxSourceAddresses"),
        (ask(&web, port_22(&["0.0.0.0/1", "128.0.0.0/1"]), "PT10M"), bad, "maxSourceAddresses"),
        (ask(&web, port_22(&["*"]), "PT10M"), bad, "maxSourceAddresses"),
        (ask(&web, port_22(&["Internet"]), "PT10M"), bad, "maxSourceAddresses"),
        (ask(&web, port_22(&["::/0"]), "PT10M"), bad, "/48"),
        (ask(&web, json!("22"), "PT10M"), bad, "ports"),
        (json!({ "vm": web, "ports": port_22(&[BOB]), "duration": 600 }), bad, "duration"),
        (json!({ "vm": web, "ports": port_22(&[BOB]), "duration": "PT10M", "color": "red" }), bad, "color"),
    ] {
        let answer = stack.call_as("bob", Method::POST, "/api/requests", Some(body)).await;
        check(&answer, status, words);
    }

    let good = ask(&web, port_22(&[BOB]), "PT10M");
    for (user, status) in [("carol", StatusCode::FORBIDDEN), ("mallory", StatusCode::FORBIDDEN)] {
        let answer = stack.call_as(user, Method::POST, "/api/requests", Some(good.clone())).await;
        check(&answer, status, "initiate/action");
    }
    let expired: String = reqwest::get(format!("{}/dev/token?user=bob&expired=1", stack.azure.base_url()))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let arm = stack.token_for("bob", "https://management.azure.com");
    let foreign = stack.token_for("bob", "api://somebody-else");
    for (token, words) in [
        (None, "Bearer"),
        (Some("nonsense"), ""),
        (Some(expired.trim()), "expired"),
        (Some(arm.as_str()), "Azure Resource Manager"),
        (Some(foreign.as_str()), "api://somebody-else"),
    ] {
        let answer = stack.call(Method::POST, "/api/requests", token, Some(good.clone())).await;
        check(&answer, StatusCode::UNAUTHORIZED, words);
        assert!(answer.headers.contains_key("www-authenticate"), "{answer:?}");
    }

    let method = stack.call_as("bob", Method::PATCH, "/api/requests", Some(good.clone())).await;
    check(&method, StatusCode::METHOD_NOT_ALLOWED, "PATCH");
    let path = stack.call_as("bob", Method::GET, "/api/nothing", None).await;
    check(&path, StatusCode::NOT_FOUND, "/api/nothing");
    let big = ask(&web, port_22(&[&"1".repeat(5 * 1024 * 1024)]), "PT10M");
    let big = stack.call_as("bob", Method::POST, "/api/requests", Some(big)).await;
    assert_eq!(big.status, StatusCode::PAYLOAD_TOO_LARGE, "{:?}", big.headers);

    assert_eq!(stack.rules("web-nsg"), rules);
    assert_eq!(stack.writes().len(), writes);
    let own = stack.call_as("bob", Method::GET, "/api/requests", None).await;
    assert_eq!(own.body["value"], json!([]), "nothing was kept of any of them");
    stack.stop().await;
}

#[tokio::test]
async fn tokens_go_on_working_when_the_signing_key_changes() {
    let stack = Stack::start().await;
    let before = stack.token("carol");
    let path = format!("/api/assessments?vm={}", vm("web-1"));
    let read =
        async |stack: &Stack, token: &str| stack.call(Method::GET, &path, Some(token), None).await.status;
    assert_eq!(read(&stack, &before).await, StatusCode::OK);
    stack.azure.with(|azure| azure.rotate_keys()).unwrap();
    let after = stack.token("carol");
    // Unknown keys are looked up at most every ten seconds, and one was looked up just now.
    stack
        .eventually("the new key is known", std::time::Duration::from_secs(20), async |stack| {
            read(stack, &after).await == StatusCode::OK
        })
        .await;
    assert_eq!(read(&stack, &before).await, StatusCode::OK, "the key before stays published");
    stack.stop().await;
}

#[test]
fn a_wrong_setting_stops_the_start_and_is_named() {
    let good = settings(
        "http://127.0.0.1:1",
        "http://127.0.0.1:1",
        "http://127.0.0.1:1/devstoreaccount1",
        "http://127.0.0.1:1/devstoreaccount1",
    );
    for (name, value, words) in [
        ("AJAR_DEPLOYMENT", "", "1 to 12 lower-case letters"),
        ("AJAR_DEPLOYMENT", "Prod!", "1 to 12 lower-case letters"),
        ("AJAR_SUBSCRIPTIONS", "mine", "GUIDs"),
        ("AJAR_TENANT_ID", "contoso.com", "GUID"),
        ("AJAR_AUDIENCE", "https://management.azure.com", "AJAR_AUDIENCE"),
        ("AJAR_TABLES_ENDPOINT", "", "AJAR_STORE_FILE"),
        ("AJAR_TABLES_ENDPOINT", "ftp://somewhere", "core.windows.net"),
        ("AJAR_BLOBS_ENDPOINT", "", "core.windows.net"),
        ("AJAR_BLOBS_ENDPOINT", "ftp://somewhere", "core.windows.net"),
        ("AJAR_ARM_ENDPOINT", "http://management.example", "AJAR_ARM_ENDPOINT"),
        ("ServiceBusConnection__fullyQualifiedNamespace", "contoso", "contoso.servicebus.windows.net"),
        ("IDENTITY_ENDPOINT", "", "managed identity"),
    ] {
        let output = Command::new(dist().join("handler"))
            .env_clear()
            .envs(good.iter().cloned())
            .env(name, value)
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", free_port().to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{name}={value}: {said}");
        assert!(said.contains(name) && said.contains(words), "{name}={value}: {said}");
        assert!(!said.contains("end-to-end"), "the identity header is a secret: {said}");
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
