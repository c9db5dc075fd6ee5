//! Routes, keys and admin endpoints: conformance cases A1 to A11, Q28 to Q30 and neighbours.
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

use functions_host::{FunctionsHost, Keys};
use serde_json::{Value, json};
use support::{App, eventually, get};

fn http(level: &str, route: &str) -> Value {
    json!([
        { "type": "httpTrigger", "direction": "in", "name": "req", "authLevel": level, "route": route },
        { "type": "http", "direction": "out", "name": "res" }
    ])
}

fn with_keys() -> App {
    let mut app = App::new()
        .function("Admin", http("admin", "adm"))
        .function("Closed", http("function", "closed"))
        .function("Open", http("anonymous", "open"))
        .function("Other", http("function", "other"))
        .function_json("Off", json!({ "disabled": true, "bindings": http("function", "off") }))
        .timer("Tick", "0 0 0 1 1 *");
    app.options.keys = Some(Keys {
        master: "master".to_owned(),
        host: vec![("default".to_owned(), "host".to_owned())],
        function: vec![("Closed".to_owned(), "default".to_owned(), "closed".to_owned())],
        system: vec![("eventgrid_extension".to_owned(), "system".to_owned())],
    });
    app
}

async fn status(host: &FunctionsHost, target: &str, key: Option<&str>) -> u16 {
    let mut request = reqwest::Client::new().get(format!("http://{}{target}", host.http_address()));
    if let Some(key) = key {
        request = request.header("x-functions-key", key);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a1_to_a10_keys_open_what_they_should() {
    let app = with_keys();
    let host = app.start().await.unwrap();
    assert_eq!(status(&host, "/closed", None).await, 401, "A1");
    assert!(app.requests().is_empty(), "A1: the handler hears nothing");
    assert_eq!(status(&host, "/closed?code=closed", None).await, 200, "A2");
    assert_eq!(status(&host, "/closed", Some("closed")).await, 200, "A3");
    assert_eq!(status(&host, "/closed?code=closed", Some("wrong")).await, 401, "A4");
    assert_eq!(status(&host, "/closed", Some("host")).await, 200, "A5");
    assert_eq!(status(&host, "/other", Some("closed")).await, 401, "A6");
    assert_eq!(status(&host, "/adm", Some("host")).await, 401, "A7");
    assert_eq!(status(&host, "/adm", Some("master")).await, 200, "A7");
    assert_eq!(status(&host, "/open", Some("wrong")).await, 200, "A8");
    assert_eq!(status(&host, "/nowhere", None).await, 404, "A9");
    assert_eq!(status(&host, "/off", Some("host")).await, 404, "A10");
    assert_eq!(status(&host, "/off", None).await, 401, "the key is checked before the switch");
    assert_eq!(status(&host, "/off", Some("master")).await, 200, "the master key opens disabled functions");
    assert_eq!(status(&host, "/closed", Some("system")).await, 401, "A10b");
    host.stop().await;
}

#[tokio::test]
async fn a11_principal_headers_of_a_client_are_not_stripped() {
    let app = App::new().http("Open", "open");
    let host = app.start().await.unwrap();
    let request = reqwest::Client::new()
        .get(format!("http://{}/open?code=secret", host.http_address()))
        .header("X-MS-CLIENT-PRINCIPAL", "eyJ9");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
    let request = &app.requests()[0];
    assert_eq!(request["line"], "GET /open?code=secret HTTP/1.1");
    let headers = request["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["x-ms-client-principal", "eyJ9"])));
    host.stop().await;
}

#[tokio::test]
async fn without_keys_everybody_is_let_in() {
    let app = App::new().function("Closed", http("function", "closed"));
    let host = app.start().await.unwrap();
    assert_eq!(status(&host, "/closed", None).await, 200);
    assert_eq!(status(&host, "/admin/host/status", None).await, 200);
    host.stop().await;
}

#[tokio::test]
async fn admin_endpoints_want_the_master_key_but_for_ping() {
    let app = with_keys();
    let host = app.start().await.unwrap();
    assert_eq!(status(&host, "/admin/host/ping", None).await, 200);
    for target in ["/admin/host/status", "/admin/functions"] {
        assert_eq!(status(&host, target, Some("host")).await, 401, "{target}");
        assert_eq!(status(&host, target, Some("master")).await, 200, "{target}");
    }
    let (_, list) = get(&host, "/admin/functions?code=master").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|function| function["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Admin", "Closed", "Off", "Open", "Other", "Tick"]);
    host.stop().await;
}

#[tokio::test]
async fn q28_a_timer_is_started_by_hand() {
    let app = with_keys();
    let host = app.start().await.unwrap();
    let post = |name: &str, key: &str, body: &'static str| {
        reqwest::Client::new()
            .post(format!("http://{}/admin/functions/{name}", host.http_address()))
            .header("x-functions-key", key)
            .body(body)
            .send()
    };
    assert_eq!(post("Tick", "host", r#"{"input":""}"#).await.unwrap().status().as_u16(), 401);
    assert_eq!(post("Nothing", "master", r#"{"input":""}"#).await.unwrap().status().as_u16(), 404);
    assert_eq!(post("Tick", "master", "").await.unwrap().status().as_u16(), 400);
    assert_eq!(post("Tick", "master", r#"{"input":""}"#).await.unwrap().status().as_u16(), 202);
    let request = eventually("the timer ran", || app.requests().into_iter().next()).await;
    assert_eq!(request["line"], "POST /Tick HTTP/1.1");
    host.run_timer("tick").await.unwrap();
    assert_eq!(app.requests().len(), 2);
    assert!(host.run_timer("Open").await.is_err());
    host.stop().await;
}

#[tokio::test]
async fn q30_a_wrong_method_is_not_found_unless_a_later_function_takes_it() {
    let mut only_get = http("anonymous", "jobs/{id}");
    only_get[0]["methods"] = json!(["get"]);
    let app = App::new().function("B", http("anonymous", "jobs/search")).function("A", only_get);
    let host = app.start().await.unwrap();
    assert_eq!(host.functions(), ["A", "B"]);
    let delete = |target: &str| {
        reqwest::Client::new().delete(format!("http://{}{target}", host.http_address())).send()
    };
    assert_eq!(delete("/jobs/42").await.unwrap().status().as_u16(), 404);
    assert!(app.requests().is_empty());
    assert_eq!(delete("/jobs/search").await.unwrap().status().as_u16(), 200);
    assert_eq!(get(&host, "/").await.0, 200, "the homepage");
    host.stop().await;
}

#[tokio::test]
async fn q29_the_first_function_by_name_wins_although_a_later_one_is_literal() {
    let mut app = App::new()
        .function("B", http("anonymous", "jobs/search"))
        .function("A", http("function", "jobs/{id}"));
    app.options.keys = Some(Keys::default());
    let host = app.start().await.unwrap();
    // A wants a key, B does not.
    assert_eq!(status(&host, "/jobs/search", None).await, 401);
    host.stop().await;
}

#[tokio::test]
async fn a_wrong_function_is_left_out_and_named() {
    let app = App::new()
        .http("Good", "good")
        .http("Twin", "good")
        .function("NoBindings", json!([]))
        .function("Unset", json!([{ "type": "serviceBusTrigger", "name": "msg", "queueName": "%NOT_SET%" }]))
        .function(
            "bad_name",
            json!([{ "type": "timerTrigger", "name": "my_timer", "schedule": "0 * * * * *" }]),
        )
        .http("Reserved", "admin/x");
    let host = app.start().await.unwrap();
    assert_eq!(host.functions(), ["Good"]);
    let errors = host.load_errors().join("\n");
    for part in [
        "'Twin' function is in error: The route specified conflicts with the route defined by function 'Good'",
        "'NoBindings' function is in error: At least one binding must be declared.",
        "'%NOT_SET%' does not resolve to a value",
        "The binding name my_timer is invalid",
        "The specified route conflicts with one or more built in routes",
    ] {
        assert!(errors.contains(part), "{part}\n{errors}");
    }
    host.stop().await;
}

#[tokio::test]
async fn settings_override_host_json_and_local_settings_give_way() {
    let app = App::new()
        .http("Hello", "hello")
        .setting("AzureFunctionsJobHost__extensions__http__routePrefix", "v1")
        .setting("FROM_BOTH", "options");
    let values = json!({ "IsEncrypted": false, "Values": { "FROM_FILE": "file", "FROM_BOTH": "file" } });
    std::fs::write(app.root().join("local.settings.json"), values.to_string()).unwrap();
    let host = app.start().await.unwrap();
    assert_eq!(get(&host, "/hello").await.0, 404);
    assert_eq!(get(&host, "/v1/hello").await.0, 200);
    let environment = &app.record()[0]["start"]["env"];
    assert_eq!(environment["FROM_FILE"], "file");
    assert_eq!(environment["FROM_BOTH"], "options");
    host.stop().await;
}

#[tokio::test]
async fn an_occupied_address_is_an_error_that_names_it() {
    let mut app = App::new().http("Hello", "hello");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    app.options.listen = taken.local_addr().unwrap();
    let error = app.start().await.err().unwrap().to_string();
    assert!(error.contains(&taken.local_addr().unwrap().to_string()), "{error}");
}
