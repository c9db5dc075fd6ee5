//! What the Azure-compatible API does.

use crate::client::{ADA, NEIGHBOUR, Server, WEB_1};
use ajar_access::ports::store::Table;
use ajar_access::testing::{SUBSCRIPTION, vm};
use jiff::SignedDuration;
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

fn body(names: &[&str]) -> Value {
    json!({ "kind": "Basic", "properties": {
        "virtualMachines": names.iter().map(|name| machine(name)).collect::<Vec<_>>() } })
}

fn open(name: &str, ports: Value) -> Value {
    json!({ "virtualMachines": [{ "id": vm(name).as_str(), "ports": ports }], "justification": "INC-42" })
}

async fn protected(names: &[&str]) -> Server {
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
async fn access_is_opened_shown_and_ends() {
    let server = protected(&["web-1"]).await;
    let ports = json!([
        { "number": 22, "allowedSourceAddressPrefix": ADA, "endTimeUtc": "2026-11-24T12:30:00.1234567Z" },
        { "number": 3389, "allowedSourceAddressPrefixes": ["203.0.113.7", "198.51.100.9"],
          "endTimeUtc": "2026-11-24T12:30:00.1234567Z" },
    ]);
    let answer = server.post(&initiate("default"), "bob", open("web-1", ports)).await;
    let shown = |status: &str, reason: &str| {
        json!({
            "virtualMachines": [{ "id": vm("web-1").as_str(), "ports": [
                { "number": 22, "allowedSourceAddressPrefix": ADA,
                  "endTimeUtc": "2026-11-24T12:30:00.1234567Z", "status": status, "statusReason": reason },
                { "number": 3389, "allowedSourceAddressPrefixes": ["203.0.113.7", "198.51.100.9"],
                  "endTimeUtc": "2026-11-24T12:30:00.1234567Z", "status": status, "statusReason": reason },
            ] }],
            "startTimeUtc": "2026-11-24T12:00:00Z",
            "requestor": "bob@contoso.example",
            "justification": "INC-42",
        })
    };
    assert_eq!(answer.expect(202), shown("Initiating", "UserRequested"));
    server.world.deliver().await;
    assert!(
        server.world.azure.allows(ADA, WEB_1, 22) && server.world.azure.allows("198.51.100.9", WEB_1, 3389)
    );
    assert!(!server.world.azure.allows(NEIGHBOUR, WEB_1, 22));
    let requests =
        async || server.get(&one("default"), "carol").await.expect(200)["properties"]["requests"].clone();
    assert_eq!(requests().await, json!([shown("Initiated", "UserRequested")]));
    server.world.pass(SignedDuration::from_secs(1801)).await;
    assert!(!server.world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(requests().await, json!([shown("Revoked", "Expired")]));
}

#[tokio::test]
async fn revoked_access_is_shown_as_revoked_by_a_user() {
    let server = protected(&["web-1"]).await;
    let ports = json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "duration": "PT1H" }]);
    let opened = server.post(&initiate("default"), "bob", open("web-1", ports)).await.expect(202);
    assert_eq!(opened["virtualMachines"][0]["ports"][0]["endTimeUtc"], "2026-11-24T13:00:00Z");
    server.world.deliver().await;
    let own = server.get("/api/requests", "bob").await.expect(200);
    server
        .delete(&format!("/api/requests/{}", own["value"][0]["id"].as_str().unwrap()), "bob")
        .await
        .expect(202);
    let shown = server.get(&one("default"), "carol").await.expect(200);
    let port = &shown["properties"]["requests"][0]["virtualMachines"][0]["ports"][0];
    assert_eq!((&port["status"], &port["statusReason"]), (&json!("Revoked"), &json!("UserRequested")));
}

#[tokio::test]
async fn ports_with_different_ends_are_separate_requests_and_a_repeat_adds_none() {
    let server = protected(&["web-1"]).await;
    let ports = json!([
        { "number": 22, "allowedSourceAddressPrefix": ADA, "endTimeUtc": "2026-11-24T12:30:00Z" },
        { "number": 3389, "allowedSourceAddressPrefix": ADA, "endTimeUtc": "2026-11-24T12:40:00Z" },
    ]);
    let first = server.post(&initiate("default"), "bob", open("web-1", ports.clone())).await.expect(202);
    assert_eq!(first["virtualMachines"].as_array().unwrap().len(), 1);
    assert_eq!(first["virtualMachines"][0]["ports"].as_array().unwrap().len(), 2);
    server.world.pass(SignedDuration::from_secs(5)).await;
    server.post(&initiate("default"), "bob", open("web-1", ports.clone())).await.expect(202);
    let count = async |user: &str| {
        server.get("/api/requests", user).await.expect(200)["value"].as_array().unwrap().len()
    };
    assert_eq!(count("bob").await, 2);
    server.post(&initiate("default"), "alice", open("web-1", ports)).await.expect(202);
    assert_eq!(count("alice").await, 2, "another person's wish is another request");
}

#[tokio::test]
async fn an_end_that_the_way_here_moved_a_little_is_taken() {
    let server = protected(&["web-1"]).await;
    for (end, opened) in [
        // Five minutes that took a second to arrive, and three hours by a clock that is ten seconds fast.
        ("2026-11-24T12:04:59Z", "2026-11-24T12:04:59Z"),
        ("2026-11-24T15:00:10Z", "2026-11-24T15:00:00Z"),
        ("2026-11-24T12:30:00", "2026-11-24T12:30:00Z"),
        ("2026-11-24T13:30:00+01:00", "2026-11-24T12:30:00Z"),
    ] {
        let ports = json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "endTimeUtc": end }]);
        let answer = server.post(&initiate("default"), "bob", open("web-1", ports)).await.expect(202);
        assert_eq!(answer["virtualMachines"][0]["ports"][0]["endTimeUtc"], opened, "{end}");
    }
}

#[tokio::test]
async fn an_initiate_that_is_not_allowed_names_the_field_in_azures_words() {
    let server = protected(&["web-1"]).await;
    let before = server.state();
    let good =
        json!({ "number": 22, "allowedSourceAddressPrefix": ADA, "endTimeUtc": "2026-11-24T12:30:00Z" });
    let port = "virtualMachines[0].ports[1]";
    for (change, target) in [
        (json!({ "allowedSourceAddressPrefix": null }), format!("{port}.allowedSourceAddressPrefix")),
        (json!({ "allowedSourceAddressPrefix": "0.0.0.0/0" }), format!("{port}.allowedSourceAddressPrefix")),
        (json!({ "allowedSourceAddressPrefix": "*" }), format!("{port}.allowedSourceAddressPrefix")),
        (
            json!({ "allowedSourceAddressPrefix": null, "allowedSourceAddressPrefixes": ["0.0.0.0/1", "128.0.0.0/1"] }),
            format!("{port}.allowedSourceAddressPrefixes"),
        ),
        (
            json!({ "allowedSourceAddressPrefixes": ["203.0.113.8"] }),
            format!("{port}.allowedSourceAddressPrefixes"),
        ),
        (json!({ "number": 443 }), format!("{port}.number")),
        (json!({ "number": 70000 }), format!("{port}.number")),
        (
            json!({ "number": 3389, "allowedSourceAddressPrefix": "192.0.2.1" }),
            format!("{port}.allowedSourceAddressPrefix"),
        ),
        (json!({ "endTimeUtc": "2026-11-24T15:02:00Z" }), format!("{port}.endTimeUtc")),
        (json!({ "endTimeUtc": "2026-11-24T12:03:00Z" }), format!("{port}.endTimeUtc")),
        (json!({ "endTimeUtc": "2020-01-01T00:00:00Z" }), format!("{port}.endTimeUtc")),
        (json!({ "endTimeUtc": "soon" }), format!("{port}.endTimeUtc")),
        (json!({ "endTimeUtc": null }), format!("{port}.endTimeUtc")),
        (json!({ "endTimeUtc": null, "duration": "PT4M" }), format!("{port}.duration")),
        (json!({ "endTimeUtc": null, "duration": "PT4H" }), format!("{port}.duration")),
    ] {
        let mut second = good.clone();
        second.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let mut first = good.clone();
        first["endTimeUtc"] = json!("2026-11-24T12:20:00Z");
        let answer = server.post(&initiate("default"), "bob", open("web-1", json!([first, second]))).await;
        let (message, named) = answer.error(400, "InvalidParameter");
        assert_eq!(named.as_deref(), Some(target.as_str()), "{change}: {message}");
        assert_eq!(server.state(), before, "{change}");
    }
    let (_, target) = server
        .post(&initiate("default"), "bob", open("web-2", json!([good])))
        .await
        .error(400, "InvalidParameter");
    assert_eq!(target.as_deref(), Some("virtualMachines[0].id"));
    server
        .post(&initiate("default"), "mallory", open("web-1", json!([good])))
        .await
        .error(403, "AuthorizationFailed");
    server
        .post(&initiate("default"), "carol", open("web-1", json!([good])))
        .await
        .error(403, "AuthorizationFailed");
    server.post(&initiate("other"), "bob", open("web-1", json!([good]))).await.error(404, "NotFound");
    assert_eq!(server.state(), before);
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
