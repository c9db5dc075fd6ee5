//! What the Azure-compatible API does.

use crate::client::{ADA, Server, WEB_1};
use ajar_access::ports::store::Table;
use ajar_access::testing::{SUBSCRIPTION, vm};
use serde_json::{Value, json};

const VERSION: &str = "?api-version=2020-01-01";

pub(crate) fn list(group: bool, location: Option<&str>) -> String {
    let group = if group { "/resourceGroups/demo" } else { "" };
    let location = location.map(|location| format!("/locations/{location}")).unwrap_or_default();
    format!(
        "/subscriptions/{SUBSCRIPTION}{group}/providers/Microsoft.Security{location}/jitNetworkAccessPolicies{VERSION}"
    )
}

pub(crate) fn one(name: &str) -> String {
    format!("{}{VERSION}", id(name))
}

fn id(name: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/demo/providers/Microsoft.Security/locations/westeurope\
         /jitNetworkAccessPolicies/{name}"
    )
}

pub(crate) fn initiate(name: &str) -> String {
    format!("{}/initiate{VERSION}", id(name))
}

fn machine(name: &str) -> Value {
    json!({ "id": vm(name).as_str(), "ports": [
        { "number": 22, "protocol": "TCP", "allowedSourceAddressPrefix": "*", "maxRequestAccessDuration": "PT3H" },
        { "number": 3389, "protocol": "*", "allowedSourceAddressPrefixes": ["203.0.113.0/24", "198.51.100.9"],
          "maxRequestAccessDuration": "PT1H" },
    ] })
}

pub(crate) fn body(names: &[&str]) -> Value {
    json!({ "kind": "Basic", "properties": {
        "virtualMachines": names.iter().map(|name| machine(name)).collect::<Vec<_>>() } })
}

pub(crate) async fn protected(names: &[&str]) -> Server {
    let server = Server::new();
    server.put(&one("default"), "alice", body(names)).await.expect(200);
    server.world.deliver().await;
    server
}

fn listed(policy: &Value) -> Vec<&str> {
    let vms = policy["properties"]["virtualMachines"].as_array().unwrap();
    vms.iter().map(|vm| vm["id"].as_str().unwrap().rsplit('/').next().unwrap()).collect()
}

#[tokio::test]
async fn the_resource_is_shown_as_it_was_written_from_every_list() {
    let server = protected(&["web-1", "both-1"]).await;
    let shown = server.get(&one("default"), "carol").await.expect(200);
    assert_eq!(
        shown,
        json!({
            "kind": "Basic",
            "properties": {
                "virtualMachines": [machine("web-1"), machine("both-1")],
                "requests": [],
                "provisioningState": "Succeeded",
            },
            "id": id("default"),
            "name": "default",
            "type": "Microsoft.Security/locations/jitNetworkAccessPolicies",
            "location": "westeurope",
        })
    );
    for uri in
        [list(false, None), list(true, None), list(false, Some("WestEurope")), list(true, Some("westeurope"))]
    {
        assert_eq!(server.get(&uri, "carol").await.expect(200), json!({ "value": [shown] }), "{uri}");
    }
    for uri in [list(false, Some("northeurope")), list(true, Some("northeurope"))] {
        assert_eq!(server.get(&uri, "carol").await.expect(200), json!({ "value": [] }), "{uri}");
    }
    assert_eq!(
        server
            .get(&one("DEFAULT").to_uppercase().replace("API-VERSION", "api-version"), "carol")
            .await
            .expect(200),
        shown
    );
}

#[tokio::test]
async fn it_is_updating_until_every_rule_is_seen() {
    let server = Server::new();
    let answer = server.put(&one("default"), "alice", body(&["web-1", "both-1"])).await.expect(200);
    assert_eq!(answer["properties"]["provisioningState"], "Updating");
    assert_eq!(answer["properties"]["appendMode"], false);
    let state = async || {
        let shown = server.get(&one("default"), "carol").await.expect(200);
        assert_eq!(shown["properties"].get("appendMode"), None, "in answers to PUT alone");
        shown["properties"]["provisioningState"].as_str().unwrap().to_owned()
    };
    assert_eq!(state().await, "Updating");
    assert!(server.world.azure.allows(ADA, WEB_1, 22), "it is open still");
    server.world.deliver().await;
    assert_eq!(state().await, "Succeeded");
    let mut tighter = body(&["web-1", "both-1"]);
    tighter["properties"]["virtualMachines"][1]["ports"].as_array_mut().unwrap().pop();
    server.put(&one("default"), "alice", tighter).await.expect(200);
    assert_eq!(state().await, "Updating");
    server.world.deliver().await;
    assert_eq!(state().await, "Succeeded");
}

#[tokio::test]
async fn a_vm_in_several_policies_has_the_terms_that_were_written_last() {
    let server = protected(&["web-1"]).await;
    let mut second = body(&["web-1"]);
    second["properties"]["virtualMachines"][0]["ports"] =
        json!([{ "number": 5986, "protocol": "TCP", "maxRequestAccessDuration": "PT1H" }]);
    server.put(&one("second"), "alice", second.clone()).await.expect(200);
    server.world.deliver().await;
    for name in ["default", "second"] {
        let shown = server.get(&one(name), "carol").await.expect(200);
        let numbers: Vec<&Value> = shown["properties"]["virtualMachines"][0]["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|port| &port["number"])
            .collect();
        assert_eq!(numbers, [&json!(5986)], "{name}");
        let ports = json!([{ "number": 5986, "allowedSourceAddressPrefix": ADA, "duration": "PT5M" }]);
        let ask = json!({ "virtualMachines": [{ "id": vm("web-1").as_str(), "ports": ports }] });
        server.post(&initiate(name), "bob", ask).await.expect(202);
    }
    server.world.deliver().await;
    assert!(server.world.azure.allows(ADA, WEB_1, 22), "the earlier terms are gone");
    assert!(
        server.world.azure.allows(ADA, WEB_1, 5986) && !server.world.azure.allows("203.0.113.8", WEB_1, 5986)
    );
    // Letting go of it in the policy that was written last leaves its terms with the other.
    server.delete(&one("second"), "alice").await;
    server.world.deliver().await;
    assert!(
        server.world.azure.allows(ADA, WEB_1, 5986) && !server.world.azure.allows("203.0.113.8", WEB_1, 5986)
    );
    let shown = server.get(&one("default"), "carol").await.expect(200);
    assert_eq!(shown["properties"]["virtualMachines"][0]["ports"][0]["number"], 5986);
}

#[tokio::test]
async fn deleting_ends_what_is_open_before_the_denies_go() {
    let server = protected(&["web-1"]).await;
    let ports = json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "duration": "PT1H" }]);
    let ask = json!({ "virtualMachines": [{ "id": vm("web-1").as_str(), "ports": ports }] });
    server.post(&initiate("default"), "bob", ask).await.expect(202);
    server.world.deliver().await;
    let own = async || server.get("/api/requests", "bob").await.expect(200)["value"][0].clone();
    assert_eq!(own().await["status"], "Active");
    assert_eq!(server.delete(&one("default"), "alice").await.status, 200);
    let ended = own().await;
    assert_eq!((&ended["status"], &ended["closeReason"]), (&json!("Closing"), &json!("Revoked")));
    assert!(!server.world.azure.allows("203.0.113.8", WEB_1, 22), "the deny stands until reconcile");
    server.world.deliver().await;
    assert_eq!(own().await["status"], "Closed");
    assert!(server.world.azure.allows("203.0.113.8", WEB_1, 22), "the rule that was moved is back");
    let rules = server.world.azure.rules("web-nsg");
    assert!(rules.iter().all(|rule| !rule["name"].as_str().unwrap().starts_with("ajar-")), "{rules:?}");
}

#[tokio::test]
async fn two_policies_that_let_go_of_a_vm_at_once_turn_it_off() {
    let server = protected(&["web-1"]).await;
    server.put(&one("second"), "alice", body(&["web-1"])).await.expect(200);
    let (first, second) = (one("default"), one("second"));
    let (first, second) =
        futures::future::join(server.delete(&first, "alice"), server.delete(&second, "alice")).await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    server.world.deliver().await;
    assert!(server.world.azure.allows(ADA, WEB_1, 22));
}

#[tokio::test]
async fn the_names_of_policy_and_vm_have_a_length_together() {
    let server = Server::new();
    // "web-1" has five characters.
    let fits = "p".repeat(51);
    server.put(&one(&fits), "alice", body(&["web-1"])).await.expect(200);
    let before = server.state();
    let answer = server.put(&one(&"p".repeat(52)), "alice", body(&["web-1"])).await;
    let (message, target) = answer.error(400, "InvalidParameter");
    assert_eq!(target.as_deref(), Some("properties.virtualMachines[0].id"));
    assert!(message.contains("56") && message.contains("57"), "{message}");
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn every_error_of_these_paths_has_azures_envelope() {
    let server = protected(&["web-1"]).await;
    let before = server.state();
    let json = Some("application/json");
    let (put, post) = (one("default"), initiate("default"));
    let unknown = put.replace("jitNetworkAccessPolicies", "jitPolicies");
    let huge = format!("{{\"kind\": \"{}\"}}", "x".repeat(1024 * 1024)).into_bytes();
    for (method, uri, kind, body, status, code, target) in [
        ("GET", &unknown, None, &b""[..], 404, "NotFound", None),
        ("PATCH", &put, json, b"{}", 405, "MethodNotAllowed", None),
        ("GET", &post, None, b"", 405, "MethodNotAllowed", None),
        ("PUT", &put, json, b"", 400, "InvalidRequestContent", None),
        ("PUT", &put, json, b"{", 400, "InvalidRequestContent", None),
        ("PUT", &put, json, b"{}", 400, "InvalidRequestContent", None),
        (
            "PUT",
            &put,
            json,
            br#"{"properties": {"virtualMachines": {}}}"#,
            400,
            "InvalidRequestContent",
            Some("properties.virtualMachines"),
        ),
        (
            "POST",
            &post,
            json,
            br#"{"virtualMachines": [{"id": 7, "ports": []}]}"#,
            400,
            "InvalidRequestContent",
            Some("virtualMachines[0].id"),
        ),
        (
            "POST",
            &post,
            json,
            br#"{"virtualMachines": []}"#,
            400,
            "InvalidParameter",
            Some("virtualMachines"),
        ),
        ("POST", &post, Some("text/plain"), b"{}", 415, "UnsupportedMediaType", None),
        ("PUT", &put, json, &huge, 413, "RequestContentTooLarge", None),
        ("POST", &post, json, &huge, 413, "RequestContentTooLarge", None),
    ] {
        let answer = server.raw(method, uri, kind, body.to_vec()).await;
        let (_, named) = answer.error(status, code);
        assert_eq!(named.as_deref(), target, "{method} {uri}: {}", answer.text);
    }
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn a_group_whose_name_another_begins_with_is_not_listed_with_it() {
    let server = Server::new();
    server.put(&one("default"), "alice", body(&[])).await.expect(200);
    let other = one("default").replace("/demo/", "/demo-2/");
    server.world.azure.assign(
        "alice",
        "configure",
        &format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/demo-2"),
    );
    server.put(&other, "alice", body(&[])).await.expect(200);
    let found = server.get(&list(true, None), "alice").await.expect(200);
    assert_eq!(found["value"].as_array().unwrap().len(), 1);
    let all = server.get(&list(false, None), "alice").await.expect(200);
    assert_eq!(all["value"].as_array().unwrap().len(), 2);
    let carols = server.get(&list(false, None), "carol").await.expect(200);
    assert_eq!(carols["value"].as_array().unwrap().len(), 1, "only what she may read");
}

#[tokio::test]
async fn a_put_protects_new_vms_and_lets_go_of_those_it_no_longer_lists() {
    let server = protected(&["web-1"]).await;
    assert!(!server.world.azure.allows(ADA, WEB_1, 22));
    let answer = server.put(&one("default"), "alice", body(&["both-1"])).await.expect(200);
    assert_eq!(listed(&answer), ["both-1"]);
    server.world.deliver().await;
    assert!(server.world.azure.allows(ADA, WEB_1, 22) && !server.world.azure.allows(ADA, "10.0.1.4", 22));

    let mut more = body(&["web-1"]);
    more["properties"]["appendMode"] = json!(true);
    let answer = server.put(&one("default"), "alice", more).await.expect(200);
    assert_eq!(listed(&answer), ["web-1", "both-1"]);
    server.world.deliver().await;
    assert!(!server.world.azure.allows(ADA, WEB_1, 22) && !server.world.azure.allows(ADA, "10.0.1.4", 22));
}

#[tokio::test]
async fn a_delete_lets_go_of_every_vm_that_no_other_policy_lists() {
    let server = protected(&["web-1", "both-1"]).await;
    server.put(&one("second"), "alice", body(&["both-1"])).await.expect(200);
    let answer = server.delete(&one("default"), "alice").await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
    server.world.deliver().await;
    assert!(server.world.azure.allows(ADA, WEB_1, 22));
    assert!(!server.world.azure.allows(ADA, "10.0.1.4", 22), "the second policy lists it");
    server.get(&one("default"), "alice").await.error(404, "NotFound");
    assert_eq!(server.delete(&one("default"), "alice").await.status, 204);
    assert_eq!(server.delete(&one("second"), "alice").await.status, 200);
    server.world.deliver().await;
    assert!(server.world.azure.allows(ADA, "10.0.1.4", 22));
    assert_eq!(server.world.store.count(Table::AzurePolicies), 0);
}

#[tokio::test]
async fn a_put_keeps_what_azures_shape_cannot_say() {
    let server = Server::new();
    let native = json!({ "vm": vm("web-1").as_str(), "ports": [{ "port": 22 }],
        "standingExceptions": ["10.1.0.0/26"], "flushConnections": false, "maxSourceAddresses": 64,
        "whenRoleIsLost": "keep" });
    server.put("/api/policies", "alice", native).await.expect(200);
    server.put(&one("default"), "alice", body(&["web-1"])).await.expect(200);
    let policy = server.get(&format!("/api/policies?vm={}", vm("web-1")), "alice").await.expect(200);
    assert_eq!(policy["standingExceptions"], json!(["10.1.0.0/26"]));
    assert_eq!((&policy["flushConnections"], &policy["maxSourceAddresses"]), (&json!(false), &json!(64)));
    assert_eq!(policy["whenRoleIsLost"], "keep");
    assert_eq!(policy["ports"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn terms_changed_natively_are_shown_as_they_are() {
    let server = protected(&["web-1"]).await;
    let native = json!({ "vm": vm("web-1").as_str(),
        "ports": [{ "port": "5985-5986", "allowedSources": ["203.0.113.0/24"], "maximumDuration": "PT30M" }] });
    server.put("/api/policies", "alice", native).await.expect(200);
    let port = |number: u16| {
        json!({ "number": number, "protocol": "TCP",
        "allowedSourceAddressPrefix": "203.0.113.0/24", "maxRequestAccessDuration": "PT30M" })
    };
    let shown = server.get(&one("default"), "alice").await.expect(200);
    assert_eq!(shown["properties"]["virtualMachines"][0]["ports"], json!([port(5985), port(5986)]));
    server.delete(&format!("/api/policies?vm={}", vm("web-1")), "alice").await.expect(202);
    let shown = server.get(&one("default"), "alice").await.expect(200);
    assert_eq!(shown["properties"]["virtualMachines"], json!([]), "JIT is off there");
}

#[tokio::test]
async fn a_put_that_is_wrong_for_one_vm_changes_none() {
    let server = Server::new();
    let before = server.state();
    let at = |pointer: &str, value: Value| {
        let mut body = body(&["web-1", "web-2"]);
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    let second = "properties.virtualMachines[1]";
    let port = format!("{second}.ports[0]");
    for (body, target) in [
        (at("/properties/virtualMachines/1/id", json!("web-2")), format!("{second}.id")),
        (at("/properties/virtualMachines/1/id", json!(vm("web-1").as_str())), format!("{second}.id")),
        (
            at("/properties/virtualMachines/1/id", json!(vm("web-2").as_str().replace("/demo/", "/other/"))),
            format!("{second}.id"),
        ),
        (at("/properties/virtualMachines/1/ports", json!([])), format!("{second}.ports")),
        (at("/properties/virtualMachines/1/ports/0/number", json!(0)), format!("{port}.number")),
        (
            at("/properties/virtualMachines/1/ports/0/number", json!(3389)),
            format!("{second}.ports[1].number"),
        ),
        (at("/properties/virtualMachines/1/ports/0/protocol", json!("ICMP")), format!("{port}.protocol")),
        (
            at("/properties/virtualMachines/1/ports/0/allowedSourceAddressPrefix", json!("nowhere")),
            format!("{port}.allowedSourceAddressPrefix"),
        ),
        (
            at("/properties/virtualMachines/1/ports/1/allowedSourceAddressPrefixes/1", json!("nowhere")),
            format!("{second}.ports[1].allowedSourceAddressPrefixes[1]"),
        ),
        (
            at("/properties/virtualMachines/1/ports/0/maxRequestAccessDuration", json!("PT4M")),
            format!("{port}.maxRequestAccessDuration"),
        ),
        (
            at("/properties/virtualMachines/1/ports/0/maxRequestAccessDuration", json!("P2D")),
            format!("{port}.maxRequestAccessDuration"),
        ),
    ] {
        let answer = server.put(&one("default"), "alice", body.clone()).await;
        let (message, named) = answer.error(400, "InvalidParameter");
        assert_eq!(named.as_deref(), Some(target.as_str()), "{body}: {message}");
        assert_eq!(server.state(), before, "{body}");
    }
    let wrong_type = at("/properties/virtualMachines/1/ports/0/number", json!("22"));
    let (_, named) =
        server.put(&one("default"), "alice", wrong_type).await.error(400, "InvalidRequestContent");
    assert_eq!(named, Some(format!("{port}.number")));
    server.put(&one("default"), "alice", body(&["web-1", "bare-1"])).await.error(409, "NoEnforcementPoint");
    server.put(&one("default"), "alice", body(&["web-1", "nowhere"])).await.error(404, "NotFound");
    server.put(&one("default"), "bob", body(&["web-1"])).await.error(403, "AuthorizationFailed");
    server.put(&one("default"), "bob", body(&[])).await.error(403, "AuthorizationFailed");
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn whoever_may_not_is_refused_before_learning_what_is_there() {
    let server = protected(&["web-1"]).await;
    let before = server.state();
    for name in ["default", "other"] {
        server.get(&one(name), "mallory").await.error(403, "AuthorizationFailed");
        server.delete(&one(name), "bob").await.error(403, "AuthorizationFailed");
        server.put(&one(name), "carol", body(&["web-1"])).await.error(403, "AuthorizationFailed");
    }
    server.get(&list(true, None), "mallory").await.error(403, "AuthorizationFailed");
    assert_eq!(server.get(&list(false, None), "mallory").await.expect(200), json!({ "value": [] }));
    let elsewhere = list(false, None).replace(SUBSCRIPTION, "99999999-9999-9999-9999-999999999999");
    server.get(&elsewhere, "alice").await.error(404, "NotFound");
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn the_api_version_is_required_and_one() {
    let server = protected(&["web-1"]).await;
    let before = server.state();
    for (query, code) in [
        ("", "MissingApiVersionParameter"),
        ("?api-version=", "MissingApiVersionParameter"),
        ("?api-version=2015-06-01-preview", "InvalidApiVersionParameter"),
        ("?api-version=2020-01-01,2020-01-01", "InvalidApiVersionParameter"),
        ("?api-version=2020-01-01&api-version=2020-01-01", "InvalidQueryParameter"),
    ] {
        for (method, path) in [
            ("GET", list(false, None)),
            ("GET", one("default")),
            ("PUT", one("default")),
            ("DELETE", one("default")),
            ("POST", initiate("default")),
        ] {
            let uri = path.replace(VERSION, query);
            let (_, target) = server.call(method, &uri, "alice", None).await.error(400, code);
            assert_eq!(target.as_deref(), Some("api-version"), "{method} {uri}");
        }
    }
    assert_eq!(server.state(), before);
    server.get(&one("default").replace("api-version", "API-Version"), "alice").await.expect(200);
}

#[tokio::test]
async fn a_put_that_broke_off_is_finished_by_its_repeat() {
    for calls in 0..400 {
        let server = protected(&["web-1"]).await;
        server.world.budget.limit(calls, false);
        let first = server.put(&one("default"), "alice", body(&["both-1"])).await;
        let has_failed = server.world.budget.lift();
        assert_eq!(
            first.status.as_u16(),
            if has_failed && first.status != 200 { 503 } else { 200 },
            "{calls}"
        );
        server.put(&one("default"), "alice", body(&["both-1"])).await.expect(200);
        server.world.deliver().await;
        assert!(server.world.azure.allows(ADA, WEB_1, 22), "{calls}: web-1 was let go of");
        assert!(!server.world.azure.allows(ADA, "10.0.1.4", 22), "{calls}: both-1 is protected");
        if !has_failed {
            return;
        }
    }
    panic!("more calls than the test expects");
}

#[tokio::test]
async fn a_policy_that_is_too_large_to_keep_is_refused() {
    let server = Server::new();
    let before = server.state();
    let mut long = body(&["web-1"]);
    long["kind"] = json!("x".repeat(65));
    let (_, target) = server.put(&one("default"), "alice", long).await.error(400, "InvalidParameter");
    assert_eq!(target.as_deref(), Some("kind"));

    // 20 ports of 100 long sources each, on one VM under as many spellings of trailing blanks as it takes.
    let sources: Vec<String> =
        (0..100).map(|i| format!("{}2001:db8::{i:x}{}", " ".repeat(80), " ".repeat(80))).collect();
    let ports: Vec<Value> = (1..=20)
        .map(|number| {
            json!({ "number": number, "protocol": "TCP", "allowedSourceAddressPrefixes": sources,
            "maxRequestAccessDuration": "PT3H" })
        })
        .collect();
    let large =
        json!({ "properties": { "virtualMachines": [{ "id": vm("web-1").as_str(), "ports": ports }] } });
    assert!(large.to_string().len() < 1024 * 1024);
    let (message, target) = server.put(&one("default"), "alice", large).await.error(400, "InvalidParameter");
    assert_eq!(target.as_deref(), Some("properties.virtualMachines"), "{message}");
    assert_eq!(server.state(), before);
}

#[tokio::test]
async fn a_group_with_a_long_name_outside_ascii_is_listed() {
    let server = Server::new();
    server.world.azure.assign("alice", "configure", &format!("/subscriptions/{SUBSCRIPTION}"));
    let in_group = |uri: String| uri.replace("/demo/", &format!("/{}/", "%C3%BC".repeat(90)));
    server.put(&in_group(one("default")), "alice", body(&[])).await.expect(200);
    let found = server.get(&in_group(list(true, None)), "alice").await.expect(200);
    assert_eq!(found["value"].as_array().unwrap().len(), 1);
    let too_long = one("default").replace("/demo/", &format!("/{}/", "g".repeat(91)));
    let (_, target) = server.put(&too_long, "alice", body(&[])).await.error(400, "InvalidParameter");
    assert_eq!(target.as_deref(), Some("resourceGroupName"));
}
