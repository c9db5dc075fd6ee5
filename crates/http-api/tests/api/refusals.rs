//! What is refused, with which words, and that nothing changes then.

use crate::client::{ADA, Server, ask, encoded, policy};
use ajar_access::testing::vm;
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

async fn refused_request(body: Value) -> (String, Option<String>) {
    let server = Server::protected().await;
    let before = server.state();
    let answer = server.post("/api/requests", "bob", body.clone()).await;
    let error = answer.error(400, "InvalidParameter");
    assert_eq!(server.state(), before, "{body}");
    error
}

#[tokio::test]
async fn sources_that_are_too_wide_are_refused_however_they_are_spelled() {
    for (sources, says) in [
        (json!(["0.0.0.0/0"]), "4294967296 IPv4 addresses"),
        (json!(["0.0.0.0/1", "128.0.0.0/1"]), "4294967296 IPv4 addresses"),
        (json!(["*"]), "4294967296 IPv4 addresses"),
        (json!(["Internet"]), "4294967296 IPv4 addresses"),
        (json!(["::/0"]), "IPv6"),
    ] {
        let mut body = ask("web-1", ADA);
        body["ports"][0]["sources"] = sources.clone();
        let (message, target) = refused_request(body).await;
        assert!(message.contains(says), "{sources}: {message}");
        assert_eq!(target.as_deref(), Some("ports[0].sources"), "{sources}");
    }
}

#[tokio::test]
async fn requests_outside_the_policy_name_the_field() {
    for (pointer, value, target, says) in [
        ("/ports/0/sources/0", json!("203.0.113.7/24"), "ports[0].sources[0]", "203.0.113.0/24"),
        ("/ports/0/sources/0", json!("203.0.113"), "ports[0].sources[0]", "203.0.113"),
        ("/ports/0/sources", json!([]), "ports[0].sources", "203.0.113.7"),
        ("/ports/0/port", json!(3389), "ports[0].port", "22/Tcp"),
        ("/ports/0/port", json!("22-23"), "ports[0].port", "22/Tcp"),
        ("/ports/0/port", json!(0), "ports[0].port", "1 to 65535"),
        ("/ports/0/port", json!(65536), "ports[0].port", "1 to 65535"),
        ("/duration", json!("PT2H1S"), "duration", "longer"),
        ("/duration", json!("PT4M59S"), "duration", "shorter"),
        ("/duration", json!("an hour"), "duration", "ISO 8601"),
        ("/vm", json!("web-1"), "vm", "/subscriptions/"),
    ] {
        let mut body = ask("web-1", ADA);
        *body.pointer_mut(pointer).unwrap() = value.clone();
        let (message, named) = refused_request(body).await;
        assert_eq!(named.as_deref(), Some(target), "{value}: {message}");
        assert!(message.contains(says), "{value}: {message}");
    }
}

#[tokio::test]
async fn whoever_has_no_permission_or_no_policy_changes_nothing() {
    let server = Server::protected().await;
    let mine = server.post("/api/requests", "alice", ask("web-1", ADA)).await.expect(202);
    server.world.deliver().await;
    let request = format!("/api/requests/{}", mine["id"].as_str().unwrap());
    let history = format!("{request}/history");
    let before = server.state();
    let web_1 = format!("/api/policies?vm={}", encoded("web-1"));
    let assessment = format!("/api/assessments?vm={}", encoded("web-1"));
    let unknown = format!("/api/requests/{}", "0".repeat(20) + "-" + &"0".repeat(32));
    for (method, uri, user, body, status) in [
        ("PUT", "/api/policies", "bob", Some(policy("web-2")), 403),
        ("PUT", "/api/policies", "carol", Some(policy("web-2")), 403),
        ("PUT", "/api/policies", "alice", Some(policy("nowhere")), 404),
        ("DELETE", web_1.as_str(), "bob", None, 403),
        ("GET", web_1.as_str(), "mallory", None, 403),
        ("GET", assessment.as_str(), "mallory", None, 403),
        ("POST", "/api/requests", "mallory", Some(ask("web-1", ADA)), 403),
        ("POST", "/api/requests", "carol", Some(ask("web-1", ADA)), 403),
        ("POST", "/api/requests", "bob", Some(ask("web-2", ADA)), 404),
        ("GET", request.as_str(), "mallory", None, 403),
        ("GET", history.as_str(), "mallory", None, 403),
        ("DELETE", request.as_str(), "bob", None, 403),
        ("DELETE", unknown.as_str(), "alice", None, 404),
        ("GET", unknown.as_str(), "alice", None, 404),
        ("GET", "/api/requests/nonsense", "alice", None, 404),
        ("GET", "/api/requests/%FF", "alice", None, 404),
    ] {
        let answer = server.call(method, uri, user, body).await;
        answer.error(status, if status == 403 { "AuthorizationFailed" } else { "NotFound" });
        assert_eq!(server.state(), before, "{method} {uri} by {user}");
    }
}

#[tokio::test]
async fn a_vm_without_an_nsg_cannot_be_protected() {
    let server = Server::new();
    let before = server.state();
    let answer = server.put("/api/policies", "alice", policy("bare-1")).await;
    let (message, _) = answer.error(409, "NoEnforcementPoint");
    assert!(message.contains("bare-1"), "{message}");
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn nobody_gets_past_the_door_without_a_good_token() {
    let server = Server::protected().await;
    let before = server.state();
    let azure = "/subscriptions/s/providers/Microsoft.Security/jitNetworkAccessPolicies";
    let policies = format!("/api/policies?vm={}", encoded("web-1"));
    for header in [
        &[][..],
        &["Bearer expired"],
        &["Bearer"],
        &["Bearer "],
        &["Basic YWxpY2U6eA=="],
        &["alice"],
        &["Bearer alice, Bearer alice"],
        &["Bearer alice", "Bearer alice"],
    ] {
        for (method, uri) in [
            ("GET", "/api/assessments"),
            ("PUT", "/api/policies"),
            ("GET", "/api/policies?nonsense=1"),
            ("DELETE", policies.as_str()),
            ("POST", "/api/requests"),
            ("GET", "/api/requests"),
            ("GET", "/api/requests/nonsense"),
            ("GET", "/api/requests/nonsense/history"),
            ("DELETE", "/api/requests/nonsense"),
            ("GET", azure),
        ] {
            let mut request = Request::builder().method(method).uri(uri);
            for value in header {
                request = request.header("authorization", *value);
            }
            // Neither the body nor the query is looked at: both are wrong here and nothing is said about it.
            let answer = server.send(request.body(Body::from("{")).unwrap()).await;
            let (message, target) = answer.error(401, "AuthenticationFailed");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{method} {uri} {header:?}");
            assert!(message.contains("token") && target.is_none(), "{message}");
        }
    }
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn the_scheme_may_be_written_in_any_case() {
    let server = Server::new();
    let request = Request::get("/api/requests").header("authorization", "bearer  bob");
    server.send(request.body(Body::empty()).unwrap()).await.expect(200);
}

#[tokio::test]
async fn a_policy_that_breaks_a_rule_is_refused_by_field() {
    let server = Server::new();
    let before = server.state();
    for (ports, more, target) in [
        (json!([]), json!({}), "ports"),
        (json!([{ "port": 22 }, { "port": "20-30" }]), json!({}), "ports[1].port"),
        (json!([{ "port": 22, "protocol": "Icmp" }]), json!({}), "ports[0].protocol"),
        (json!([{ "port": 22, "maximumDuration": "P2D" }]), json!({}), "ports[0].maximumDuration"),
        (json!([{ "port": 22, "allowedSources": ["x"] }]), json!({}), "ports[0].allowedSources[0]"),
        (json!([{ "port": 22 }]), json!({ "standingExceptions": ["Internet"] }), "standingExceptions[0]"),
        (json!([{ "port": 22 }]), json!({ "standingExceptions": ["0.0.0.0/0"] }), "standingExceptions[0]"),
        (json!([{ "port": 22 }]), json!({ "existingRules": "delete" }), "existingRules"),
        (json!([{ "port": 22 }]), json!({ "minimumDuration": "PT4H" }), "minimumDuration"),
    ] {
        let mut body = json!({ "vm": vm("web-1").as_str(), "ports": ports });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = server.put("/api/policies", "alice", body.clone()).await;
        let (_, named) = answer.error(400, "InvalidParameter");
        assert_eq!(named.as_deref(), Some(target), "{body}");
        assert_eq!(server.state(), before, "{body}");
    }
}
