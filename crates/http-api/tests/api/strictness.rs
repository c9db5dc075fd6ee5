//! How requests are read: bodies, queries, paths and methods.

use crate::client::{ADA, Server, ask, encoded, policy};
use ajar_access::testing::{SUBSCRIPTION, vm};
use serde_json::json;

const JSON: Option<&str> = Some("application/json");

#[tokio::test]
async fn a_value_of_the_wrong_type_names_its_field() {
    let server = Server::protected().await;
    let before = server.state();
    for (pointer, value, target) in [
        ("/ports/0/sources", json!(ADA), "ports[0].sources"),
        ("/ports/0/sources/0", json!(7), "ports[0].sources[0]"),
        ("/ports/0/port", json!(22.5), "ports[0].port"),
        ("/ports/0/port", json!(-1), "ports[0].port"),
        ("/ports/0/port", json!({}), "ports[0].port"),
        ("/ports", json!({}), "ports"),
        ("/duration", json!(60), "duration"),
        ("/vm", json!(7), "vm"),
        ("/justification", json!(["x"]), "justification"),
    ] {
        let mut body = ask("web-1", ADA);
        *body.pointer_mut(pointer).unwrap() = value.clone();
        let (message, named) =
            server.post("/api/requests", "bob", body).await.error(400, "InvalidRequestContent");
        assert_eq!(named.as_deref(), Some(target), "{value}: {message}");
        assert!(message.contains("expected"), "{message}");
        for internal in ["PortInput", "untagged", "variant"] {
            assert!(!message.contains(internal), "{message}");
        }
    }
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn unknown_and_missing_fields_are_named() {
    let server = Server::protected().await;
    let before = server.state();
    let mut misspelled = ask("web-1", ADA);
    misspelled["ports"][0]["source"] = json!(ADA);
    let mut missing = ask("web-1", ADA);
    missing.as_object_mut().unwrap().remove("duration");
    for (body, field) in [(misspelled, "source"), (missing, "duration")] {
        let (message, _) =
            server.post("/api/requests", "bob", body).await.error(400, "InvalidRequestContent");
        assert!(message.contains(&format!("`{field}`")), "{message}");
    }
    let mut policy = policy("web-2");
    policy["guard"] = json!(1);
    let (message, _) = server.put("/api/policies", "alice", policy).await.error(400, "InvalidRequestContent");
    assert!(message.contains("`guard`"), "{message}");
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn text_that_is_not_json_is_refused_with_its_place() {
    let server = Server::protected().await;
    let before = server.state();
    let twice = format!("{} {{}}", ask("web-1", ADA));
    let doubled =
        ask("web-1", ADA).to_string().replacen("{\"vm\"", "{\"vm\":\"/subscriptions/other\",\"vm\"", 1);
    for (body, says) in [
        (b"{\n  \"vm\": ,".to_vec(), "line 2 column 9"),
        (b"{".to_vec(), "line 1 column 1"),
        (b"{\n\"vm\": \"\xff\"}".to_vec(), "UTF-8 at line 2 column 8"),
        (b"".to_vec(), "missing"),
        (twice.into_bytes(), "one JSON value"),
        (doubled.into_bytes(), "duplicate field `vm`"),
        (b"[]".to_vec(), "line 1"),
        ([b"[".repeat(10_000), b"]".repeat(10_000)].concat(), "line 1"),
    ] {
        let answer = server.raw("POST", "/api/requests", JSON, body).await;
        let (message, _) = answer.error(400, "InvalidRequestContent");
        assert!(message.contains(says), "{message}");
    }
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn a_body_of_another_kind_is_refused() {
    let server = Server::protected().await;
    let before = server.state();
    let body = || policy("web-2").to_string().into_bytes();
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/json; charset=utf-16"),
        Some("application/jsonp"),
    ] {
        let answer = server.raw("PUT", "/api/policies", kind, body()).await;
        answer.error(415, "UnsupportedMediaType");
    }
    assert_eq!(server.state(), before);
    for kind in ["application/json", "Application/JSON; charset=\"UTF-8\"", "application/merge-patch+json"] {
        server.raw("PUT", "/api/policies", Some(kind), body()).await.expect(200);
    }
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_refused() {
    let server = Server::protected().await;
    let before = server.state();
    let padded = |size: usize| {
        let mut body = ask("web-1", ADA);
        body["justification"] = json!("");
        let base = body.to_string().len();
        body["justification"] = json!("x".repeat(size - base));
        body.to_string().into_bytes()
    };
    let limit = 1024 * 1024;
    for size in [limit + 1, 5_000_000, 20_000_000] {
        let answer = server.raw("POST", "/api/requests", JSON, padded(size)).await;
        answer.error(413, "RequestContentTooLarge");
    }
    let (_, target) =
        server.raw("POST", "/api/requests", JSON, padded(limit)).await.error(400, "InvalidParameter");
    assert_eq!(target.as_deref(), Some("justification"), "the largest body is read");
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_answered_with_those_it_does() {
    let server = Server::protected().await;
    let before = server.state();
    let azure =
        format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/jitNetworkAccessPolicies");
    let one = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/demo/providers/Microsoft.Security/locations/westeurope\
         /jitNetworkAccessPolicies/default"
    );
    let initiate = format!("{one}/initiate");
    for (method, uri, allow) in [
        ("POST", "/api/health", "GET,HEAD"),
        ("DELETE", "/api/assessments", "GET,HEAD"),
        ("POST", "/api/policies", "PUT,GET,HEAD,DELETE"),
        ("PUT", "/api/requests", "GET,HEAD,POST"),
        ("PATCH", "/api/requests/x", "GET,HEAD,DELETE"),
        ("DELETE", "/api/requests/x/history", "GET,HEAD"),
        ("POST", azure.as_str(), "GET"),
        ("PATCH", one.as_str(), "GET,PUT,DELETE"),
        ("GET", initiate.as_str(), "POST"),
    ] {
        let answer = server.call(method, uri, "alice", None).await;
        let allowed = answer.header("allow").map(str::to_owned);
        assert_eq!(answer.status, 405, "{method} {uri}");
        let body = answer.json();
        assert_eq!(body["error"]["code"], "MethodNotAllowed");
        assert_eq!(allowed.as_deref(), Some(allow), "{method} {uri}");
    }
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn unknown_paths_are_json_too() {
    let server = Server::new();
    for path in
        ["/", "/api", "/api/", "/api/nothing", "/api/requests/a/b", "/subscriptions/x", "/favicon.ico"]
    {
        server.get(path, "alice").await.error(404, "NotFound");
    }
}

#[tokio::test]
async fn odd_queries_are_refused() {
    let server = Server::protected().await;
    let before = server.state();
    let id = vm("web-1").to_string();
    for (query, target) in [
        (format!("vm={id}&vm={id}"), Some("vm")),
        (format!("vm={id}&VM={id}"), Some("vm")),
        (format!("vm={id},{id}"), Some("vm")),
        ("vm=".to_owned(), Some("vm")),
        ("vm".to_owned(), Some("vm")),
        ("vm=web-1".to_owned(), Some("vm")),
        ("vm=%FF".to_owned(), None),
        ("vm=/subscriptions/s/resourceGroups/g".to_owned(), Some("vm")),
        (format!("vm={}", encoded("web-1").replace('%', "%25")), Some("vm")),
        (format!("vm={id}&force=true"), Some("force")),
        (format!("vm={id}%00"), Some("vm")),
    ] {
        for method in ["GET", "DELETE"] {
            let answer = server.call(method, &format!("/api/policies?{query}"), "alice", None).await;
            let (_, named) = answer.error(400, "InvalidQueryParameter");
            assert_eq!(named.as_deref(), target, "{method} {query}");
        }
    }
    server.delete("/api/policies", "alice").await.error(400, "InvalidQueryParameter");
    server.get("/api/requests?vm=x", "alice").await.error(400, "InvalidQueryParameter");
    assert_eq!(server.state(), before);
}
