//! Asking for access through the Azure-compatible API.

use crate::azure::{body, initiate, one, protected};
use crate::client::{ADA, NEIGHBOUR, Server, WEB_1};
use ajar_access::ports::store::Table;
use ajar_access::testing::vm;
use ajar_http_api::FrontEnd;
use axum::body::Body;
use http::Request;
use jiff::SignedDuration;
use serde_json::{Value, json};

fn open(name: &str, ports: Value) -> Value {
    json!({ "virtualMachines": [{ "id": vm(name).as_str(), "ports": ports }], "justification": "INC-42" })
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

/// Azure has no word for waiting: it is on its way, or it has ended.
#[tokio::test]
async fn what_people_have_to_approve_is_on_its_way_until_they_have_or_refuse() {
    for is_approved in [true, false] {
        let server = protected(&["web-1"]).await;
        server.world.policies.approvals.store(1, std::sync::atomic::Ordering::SeqCst);
        let ports = json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "duration": "PT1H" }]);
        server.post(&initiate("default"), "bob", open("web-1", ports)).await.expect(202);
        server.world.deliver().await;
        let shown = async || {
            let shown = server.get(&one("default"), "carol").await.expect(200);
            let port = &shown["properties"]["requests"][0]["virtualMachines"][0]["ports"][0];
            (port["status"].clone(), port["statusReason"].clone())
        };
        assert_eq!(shown().await, (json!("Initiating"), json!("UserRequested")));
        assert!(!server.world.azure.allows(ADA, WEB_1, 22));
        let waiting = server.get("/api/approvals", "alice").await.expect(200);
        let path = format!("/api/requests/{}", waiting["value"][0]["request"]["id"].as_str().unwrap());
        if is_approved {
            server.post(&format!("{path}/approve"), "alice", json!({})).await.expect(200);
        } else {
            server.post(&format!("{path}/deny"), "alice", json!({ "reason": "not today" })).await.expect(200);
        }
        server.world.deliver().await;
        let expected = if is_approved { ("Initiated", "UserRequested") } else { ("Revoked", "Denied") };
        assert_eq!(shown().await, (json!(expected.0), json!(expected.1)));
        assert_eq!(server.world.azure.allows(ADA, WEB_1, 22), is_approved);
    }
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

/// The ports of the resource's requests, newest request first: number, status, reason.
async fn shown(server: &Server) -> Vec<Vec<(u64, String, String)>> {
    let policy = server.get(&one("default"), "carol").await.expect(200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let port =
        |port: &Value| (port["number"].as_u64().unwrap(), text(&port["status"]), text(&port["statusReason"]));
    let requests = policy["properties"]["requests"].as_array().unwrap();
    let vms = requests.iter().map(|request| request["virtualMachines"].as_array().unwrap());
    vms.map(|vms| vms.iter().flat_map(|vm| vm["ports"].as_array().unwrap()).map(port).collect()).collect()
}

fn port(number: u64, status: &str, reason: &str) -> (u64, String, String) {
    (number, status.to_owned(), reason.to_owned())
}

async fn ask(server: &Server, user: &str, id: Option<&str>, body: &Value) -> Value {
    let mut request = Request::post(initiate("default"))
        .header("authorization", format!("Bearer {user}"))
        .header("content-type", "application/json");
    if let Some(id) = id {
        request = request.header("x-ms-client-request-id", id);
    }
    server.send(request.body(Body::from(body.to_string())).unwrap()).await.expect(202)
}

async fn count(server: &Server, user: &str) -> usize {
    server.get("/api/requests", user).await.expect(200)["value"].as_array().unwrap().len()
}

const HALF_PAST: &str = "2026-11-24T12:30:00Z";

#[tokio::test]
async fn several_vms_and_ports_are_shown_as_the_one_request_they_were() {
    let server = protected(&["web-1", "both-1"]).await;
    let wanted = |name: &str| {
        json!({ "id": vm(name).as_str(), "ports": [
            { "number": 22, "allowedSourceAddressPrefix": ADA, "endTimeUtc": HALF_PAST },
            { "number": 3389, "allowedSourceAddressPrefix": ADA, "endTimeUtc": "2026-11-24T12:40:00Z" } ] })
    };
    let body = json!({ "virtualMachines": [wanted("both-1"), wanted("web-1")] });
    let answer = server.post(&initiate("default"), "bob", body).await.expect(202);
    let ids: Vec<&str> =
        answer["virtualMachines"].as_array().unwrap().iter().map(|vm| vm["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [vm("both-1").as_str(), vm("web-1").as_str()], "in the caller's order");
    assert_eq!(answer["virtualMachines"][0]["ports"].as_array().unwrap().len(), 2);
    server.world.deliver().await;
    for address in [WEB_1, "10.0.1.4"] {
        assert!(server.world.azure.allows(ADA, address, 22) && server.world.azure.allows(ADA, address, 3389));
    }
    let initiated = |number| port(number, "Initiated", "UserRequested");
    assert_eq!(shown(&server).await, [[initiated(22), initiated(3389), initiated(22), initiated(3389)]]);
    server.world.pass(SignedDuration::from_mins(31)).await;
    let expired = port(22, "Revoked", "Expired");
    assert_eq!(shown(&server).await, [[expired.clone(), initiated(3389), expired, initiated(3389)]]);
}

#[tokio::test]
async fn a_repeat_adds_nothing_with_or_without_a_client_request_id() {
    let absolute = json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "endTimeUtc": HALF_PAST }]);
    let relative = json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "duration": "PT1H" }]);
    for ports in [absolute, relative] {
        for id in [None, Some("a5a1cbb0-5e2c-11ef-9454-0242ac120002")] {
            let server = protected(&["web-1"]).await;
            let body = open("web-1", ports.clone());
            let first = ask(&server, "bob", id, &body).await;
            server.world.clock.advance(SignedDuration::from_secs(5));
            assert_eq!(ask(&server, "bob", id, &body).await, first, "{id:?}: before it is decided");
            server.world.pass(SignedDuration::from_secs(60)).await;
            let mut later = ask(&server, "bob", id, &body).await;
            let port = &mut later["virtualMachines"][0]["ports"][0];
            assert_eq!(port["status"], "Initiated", "how it stands now");
            port["status"] = json!("Initiating");
            // A duration counts from when access is granted, which is a little later than the asking.
            let end = &first["virtualMachines"][0]["ports"][0]["endTimeUtc"];
            if port["endTimeUtc"] != *end {
                assert_eq!(port["endTimeUtc"], "2026-11-24T13:01:05Z");
                port["endTimeUtc"] = end.clone();
            }
            assert_eq!(later, first, "{id:?}");
            assert_eq!(count(&server, "bob").await, 1, "{id:?}");
            ask(&server, "alice", id, &body).await;
            assert_eq!(count(&server, "alice").await, 1, "another person's wish is another request");
        }
    }
}

#[tokio::test]
async fn a_call_that_is_no_repeat_is_a_new_request() {
    let ports =
        |duration: &str| json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "duration": duration }]);
    let body = open("web-1", ports("PT1H"));
    let server = protected(&["web-1"]).await;
    ask(&server, "bob", Some("one"), &body).await;
    ask(&server, "bob", Some("two"), &body).await;
    assert_eq!(count(&server, "bob").await, 2, "another id");
    // Some clients send one id with every call of a session.
    ask(&server, "bob", Some("two"), &open("web-1", ports("PT2H"))).await;
    assert_eq!(count(&server, "bob").await, 3, "another body");
    ask(&server, "bob", None, &body).await;
    assert_eq!(count(&server, "bob").await, 4, "no id");
    server.world.pass(SignedDuration::from_mins(5)).await;
    ask(&server, "bob", None, &body).await;
    assert_eq!(count(&server, "bob").await, 5, "five minutes later");
    let day = SignedDuration::from_hours(24);
    server.world.clock.advance(day - SignedDuration::from_mins(6));
    ask(&server, "bob", Some("two"), &body).await;
    assert_eq!(count(&server, "bob").await, 5, "an id is known for a day");
    server.world.clock.advance(SignedDuration::from_mins(2));
    ask(&server, "bob", Some("two"), &body).await;
    assert_eq!(count(&server, "bob").await, 6, "and not longer");
}

#[tokio::test]
async fn the_same_wish_after_the_first_was_ended_is_a_new_one() {
    let server = protected(&["web-1"]).await;
    let body =
        open("web-1", json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "endTimeUtc": HALF_PAST }]));
    ask(&server, "bob", None, &body).await;
    server.world.deliver().await;
    let own = server.get("/api/requests", "bob").await.expect(200);
    let path = format!("/api/requests/{}", own["value"][0]["id"].as_str().unwrap());
    server.delete(&path, "bob").await.expect(202);
    server.world.deliver().await;
    assert!(!server.world.azure.allows(ADA, WEB_1, 22));
    server.world.clock.advance(SignedDuration::from_secs(10));
    ask(&server, "bob", None, &body).await;
    server.world.deliver().await;
    assert!(server.world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(
        shown(&server).await,
        [[port(22, "Initiated", "UserRequested")], [port(22, "Revoked", "UserRequested")]]
    );
}

#[tokio::test]
async fn a_call_that_broke_off_anywhere_is_finished_by_its_repeat_and_doubled_by_none() {
    for after_effect in [false, true] {
        for calls in 0..200 {
            let server = protected(&["web-1", "both-1"]).await;
            let ports = json!([
                { "number": 22, "allowedSourceAddressPrefix": ADA, "duration": "PT1H" },
                { "number": 3389, "allowedSourceAddressPrefix": ADA, "duration": "PT30M" },
            ]);
            let mut body = open("web-1", ports.clone());
            body["virtualMachines"]
                .as_array_mut()
                .unwrap()
                .push(json!({ "id": vm("both-1").as_str(), "ports": ports }));
            server.world.budget.limit(calls, after_effect);
            server.post(&initiate("default"), "bob", body.clone()).await;
            let has_failed = server.world.budget.lift();
            server.world.clock.advance(SignedDuration::from_secs(2));
            server.post(&initiate("default"), "bob", body).await.expect(202);
            server.world.minutes(2).await;
            assert_eq!(count(&server, "bob").await, 4, "{calls}");
            for address in [WEB_1, "10.0.1.4"] {
                for number in [22, 3389] {
                    assert!(server.world.azure.allows(ADA, address, number), "{calls}: {address} {number}");
                }
            }
            if !has_failed {
                break;
            }
            assert!(calls < 199, "more calls than the test expects");
        }
    }
}

#[tokio::test]
async fn rows_of_old_calls_are_cleared() {
    let server = protected(&["web-1"]).await;
    let body =
        open("web-1", json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "duration": "PT5M" }]));
    for day in 0..6 {
        for call in 0..3 {
            ask(&server, "bob", Some(&format!("{day}-{call}")), &body).await;
        }
        server.world.clock.advance(SignedDuration::from_hours(24));
    }
    assert_eq!(server.world.store.count(Table::Idempotency), 6, "those of today and yesterday");
}

#[tokio::test]
async fn a_newer_request_takes_the_place_of_the_same_persons_earlier_one() {
    let server = protected(&["web-1"]).await;
    let both = |source: &str| {
        json!([
            { "number": 22, "allowedSourceAddressPrefix": source, "endTimeUtc": HALF_PAST },
            { "number": 3389, "allowedSourceAddressPrefix": source, "endTimeUtc": HALF_PAST },
        ])
    };
    ask(&server, "bob", None, &open("web-1", both(ADA))).await;
    server.world.clock.advance(SignedDuration::from_secs(1));
    ask(&server, "alice", None, &open("web-1", both("203.0.113.9"))).await;
    server.world.pass(SignedDuration::from_secs(5)).await;
    let later = json!([{ "number": 22, "allowedSourceAddressPrefix": NEIGHBOUR, "duration": "PT10M" }]);
    ask(&server, "bob", None, &open("web-1", later)).await;
    server.world.deliver().await;
    let initiated = |number| port(number, "Initiated", "UserRequested");
    assert_eq!(
        shown(&server).await,
        [
            vec![initiated(22)],
            vec![initiated(22), initiated(3389)],
            vec![port(22, "Revoked", "NewerRequestInitiated"), initiated(3389)],
        ],
        "bob's newer, alice's, bob's earlier"
    );
    let allows = |source: &str, number: u16| server.world.azure.allows(source, WEB_1, number);
    assert!(allows(NEIGHBOUR, 22) && !allows(ADA, 22), "bob's newer and no longer his earlier");
    assert!(allows(ADA, 3389), "bob's earlier on the port that the newer does not name");
    assert!(allows("203.0.113.9", 22) && allows("203.0.113.9", 3389), "alice's");
}

#[tokio::test]
async fn replacing_a_request_leaves_no_moment_without_access() {
    let server = protected(&["web-1"]).await;
    let ports = |end: &str| json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "endTimeUtc": end }]);
    ask(&server, "bob", None, &open("web-1", ports(HALF_PAST))).await;
    server.world.deliver().await;
    server.world.clock.advance(SignedDuration::from_secs(1));
    ask(&server, "bob", None, &open("web-1", ports("2026-11-24T13:00:00Z"))).await;
    assert!(server.world.azure.allows(ADA, WEB_1, 22), "before the new one is decided");
    // Message by message, so that every state in between is seen.
    while let Some((queue, message)) =
        server.world.bus.waiting().into_iter().find(|(_, message)| message.at.is_none())
    {
        server.world.bus.clear();
        server.world.handle(queue, &message.body).await;
        assert!(server.world.azure.allows(ADA, WEB_1, 22), "{message:?}");
    }
    server.world.minutes(31).await;
    assert!(server.world.azure.allows(ADA, WEB_1, 22), "past the end of the first");
}

#[tokio::test]
async fn a_refused_request_takes_nobodys_place() {
    let server = protected(&["web-1"]).await;
    let ports = |end: &str| json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "endTimeUtc": end }]);
    ask(&server, "bob", None, &open("web-1", ports(HALF_PAST))).await;
    server.world.deliver().await;
    server.world.clock.advance(SignedDuration::from_secs(1));
    ask(&server, "bob", None, &open("web-1", ports("2026-11-24T13:00:00Z"))).await;
    // Between asking and deciding the policy stops allowing it.
    let native = json!({ "vm": vm("web-1").as_str(), "ports": [{ "port": 22, "maximumDuration": "PT30M" }] });
    server.put("/api/policies", "alice", native).await.expect(200);
    server.world.deliver().await;
    assert_eq!(
        shown(&server).await,
        [[port(22, "Revoked", "Denied")], [port(22, "Initiated", "UserRequested")]]
    );
    assert!(server.world.azure.allows(ADA, WEB_1, 22));
}

#[tokio::test]
async fn one_that_nobody_has_decided_yet_is_replaced_as_well() {
    let server = protected(&["web-1"]).await;
    let ports = |end: &str| json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "endTimeUtc": end }]);
    ask(&server, "bob", None, &open("web-1", ports(HALF_PAST))).await;
    server.world.bus.clear();
    server.world.clock.advance(SignedDuration::from_secs(1));
    ask(&server, "bob", None, &open("web-1", ports("2026-11-24T13:00:00Z"))).await;
    server.world.deliver().await;
    let newer = port(22, "Initiated", "UserRequested");
    assert_eq!(shown(&server).await, [[newer.clone()], [port(22, "Revoked", "NewerRequestInitiated")]]);
    server.world.minutes(2).await;
    assert_eq!(shown(&server).await, [[newer], [port(22, "Revoked", "NewerRequestInitiated")]]);
}

#[tokio::test]
async fn what_is_shown_costs_the_same_however_long_the_past_is() {
    let server = protected(&["web-1"]).await;
    for minute in 0..120 {
        let end = format!("2026-11-24T{}:{:02}:00Z", 13 + minute / 60, minute % 60);
        let ports = json!([{ "number": 22, "allowedSourceAddressPrefix": ADA, "endTimeUtc": end }]);
        server.world.clock.advance(SignedDuration::from_secs(1));
        ask(&server, "bob", None, &open("web-1", ports)).await;
    }
    let policy = server.get(&one("default"), "carol").await.expect(200);
    let requests = policy["properties"]["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 100);
    let starts: Vec<&str> =
        requests.iter().map(|request| request["startTimeUtc"].as_str().unwrap()).collect();
    assert_eq!((starts[0], starts[99]), ("2026-11-24T12:02:00Z", "2026-11-24T12:00:21Z"));
}

#[tokio::test]
async fn a_source_that_is_left_out_is_an_error_where_no_front_end_is_trusted() {
    let port = json!({ "number": 22, "endTimeUtc": HALF_PAST });
    for (front_end, forwarded) in [
        (FrontEnd::Untrusted, Some("203.0.113.7")),
        (FrontEnd::SetsForwardedFor, None),
        (FrontEnd::SetsForwardedFor, Some("unknown")),
    ] {
        let server = Server::behind(front_end);
        server.put(&one("default"), "alice", body(&["web-1"])).await.expect(200);
        let before = server.state();
        let mut request = Request::post(initiate("default"))
            .header("authorization", "Bearer bob")
            .header("content-type", "application/json");
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        let body = Body::from(open("web-1", json!([port])).to_string());
        let answer = server.send(request.body(body).unwrap()).await;
        let (message, target) = answer.error(400, "InvalidParameter");
        assert_eq!(target.as_deref(), Some("virtualMachines[0].ports[0].allowedSourceAddressPrefix"));
        assert!(message.contains("AJAR_TRUST_FORWARDED_FOR"), "{message}");
        assert_eq!(server.state(), before);
    }
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
        // The first port is not the one that is wrong.
        let mut first = good.clone();
        first["number"] = json!(3389);
        if second["number"] == 3389 {
            first["number"] = json!(22);
        }
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
