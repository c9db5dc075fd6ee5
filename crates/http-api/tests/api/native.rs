//! What the native API does.

use crate::client::{ADA, NEIGHBOUR, Server, WEB_1, ask, encoded, policy};
use ajar_access::testing::{nsg, user, vm};
use jiff::SignedDuration;
use serde_json::{Value, json};

#[tokio::test]
async fn liveness_needs_no_token_and_nothing_else_that_works() {
    let server = Server::new();
    server.world.budget.limit(0, false);
    let request = http::Request::get("/api/health").body(axum::body::Body::empty()).unwrap();
    let answer = server.send(request).await;
    assert_eq!(answer.expect(200), json!({ "status": "ok", "deployment": "test" }));
    assert_eq!(answer.header("cache-control"), None);
}

#[tokio::test]
async fn a_vm_is_assessed_protected_opened_and_shut_over_http() {
    let server = Server::new();
    let one = format!("/api/assessments?vm={}", encoded("web-1"));
    let before = server.get(&one, "carol").await.expect(200);
    assert_eq!((&before["status"], &before["name"]), (&json!("Unhealthy"), &json!("web-1")));
    assert_eq!(before["reason"], json!({ "code": "ManagementPortsOpen" }));
    assert_eq!(before["findings"][0]["port"], 22);
    assert_eq!(before["findings"][0]["internet"], "Everyone");
    assert_eq!(before["findings"][0]["rules"][0]["name"], "AllowSSH");
    assert_eq!(before["summary"], "Open: 22/Tcp to the Internet by AllowSSH. Turn on just-in-time access.");

    let written = server.put("/api/policies", "alice", policy("web-1")).await.expect(200);
    server.world.deliver().await;
    assert!(!server.world.azure.allows(ADA, WEB_1, 22));
    let after = server.get(&one, "carol").await.expect(200);
    assert_eq!(after["status"], "Healthy");
    assert_eq!(after["reason"]["code"], "JitEnabled");
    assert_eq!(
        written,
        json!({
            "vm": vm("web-1").as_str(),
            "ports": [{ "port": 22, "protocol": "Tcp", "allowedSources": ["*"], "maximumDuration": "PT2H" }],
            "standingExceptions": [],
            "existingRules": "supersede",
            "flushConnections": true,
            "minimumDuration": "PT5M",
            "maxSourceAddresses": 65536,
            "whenRoleIsLost": "close",
            "onDrift": "repair",
            "state": "Enabled",
            "location": "westeurope",
            "enforcementPoints": [{ "id": nsg("web-nsg").as_str(), "addresses": [WEB_1] }],
            "configuredBy": { "objectId": user("alice").object_id, "name": "alice@contoso.example" },
            "configuredAt": "2026-11-24T12:00:00Z",
        })
    );

    let answer = server.post("/api/requests", "bob", ask("web-1", ADA)).await;
    let request = answer.expect(202);
    let path = format!("/api/requests/{}", request["id"].as_str().unwrap());
    assert_eq!(answer.header("location"), Some(path.as_str()));
    assert_eq!((&request["status"], &request["start"]), (&json!("Requested"), &Value::Null));
    server.world.deliver().await;
    assert!(server.world.azure.allows(ADA, WEB_1, 22) && !server.world.azure.allows(NEIGHBOUR, WEB_1, 22));
    let open = server.get(&path, "bob").await.expect(200);
    assert_eq!(
        open,
        json!({
            "id": request["id"],
            "vm": vm("web-1").as_str(),
            "status": "Active",
            "reason": null,
            "closeReason": null,
            "requester": { "objectId": user("bob").object_id, "name": "bob@contoso.example" },
            "ports": [{ "port": 22, "protocol": "Tcp", "sources": [ADA] }],
            "duration": "PT1H",
            "justification": "INC-42",
            "requestedAt": "2026-11-24T12:00:00Z",
            "start": "2026-11-24T12:00:00Z",
            "end": "2026-11-24T13:00:00Z",
            "enforcementPoints": [{ "id": nsg("web-nsg").as_str(), "status": "Open" }],
        })
    );
    assert_eq!(server.get("/api/requests", "bob").await.expect(200)["value"], json!([open]));
    assert_eq!(server.get("/api/requests", "alice").await.expect(200)["value"], json!([]));

    let ended = server.delete(&path, "bob").await.expect(202);
    assert_eq!((&ended["status"], &ended["closeReason"]), (&json!("Closing"), &json!("Revoked")));
    server.world.deliver().await;
    assert!(!server.world.azure.allows(ADA, WEB_1, 22));
    assert_eq!(server.delete(&path, "bob").await.expect(200)["status"], "Closed");

    let history = server.get(&format!("{path}/history"), "bob").await.expect(200);
    let steps = history["value"].as_array().unwrap();
    let statuses: Vec<&Value> = steps.iter().map(|step| &step["status"]).collect();
    assert_eq!(statuses, ["Requested", "Opening", "Active", "Closing", "Closed"]);
    assert_eq!(
        steps[0],
        json!({
            "sequence": 1,
            "at": "2026-11-24T12:00:00Z",
            "by": { "objectId": user("bob").object_id, "name": "bob@contoso.example" },
            "status": "Requested",
            "what": "asked for access: INC-42",
        })
    );
    assert!(steps[1].get("by").is_none(), "granted by Ajar itself");
}

#[tokio::test]
async fn access_that_ran_out_is_closed() {
    let server = Server::protected().await;
    let request = server.post("/api/requests", "bob", ask("web-1", ADA)).await.expect(202);
    server.world.deliver().await;
    server.world.pass(SignedDuration::from_hours(1)).await;
    let path = format!("/api/requests/{}", request["id"].as_str().unwrap());
    let closed = server.get(&path, "bob").await.expect(200);
    assert_eq!((&closed["status"], &closed["closeReason"]), (&json!("Closed"), &json!("Expired")));
}

#[tokio::test]
async fn a_preview_shows_what_becomes_of_each_rule_and_writes_nothing() {
    let server = Server::new();
    let before = (server.world.store.contents(), server.world.azure.rules("first-nsg"));
    let shown = server.post("/api/policies/preview", "alice", policy("both-1")).await.expect(200);
    assert_eq!((server.world.store.contents(), server.world.azure.rules("first-nsg")), before);
    let first = &shown["value"][0];
    assert!(first["enforcementPoint"].as_str().unwrap().ends_with("/first-nsg"), "{shown}");
    let actions: Vec<(&str, &str)> = first["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["action"].as_str().unwrap(), change["rule"].as_str().unwrap()))
        .collect();
    assert!(actions.contains(&("Move", "AllowMgmt")), "it sits at 100, where the deny must go: {shown}");
    assert!(actions.iter().any(|(action, rule)| *action == "Add" && rule.starts_with("ajar-test-deny")));

    // What was shown is what is done.
    server.put("/api/policies", "alice", policy("both-1")).await.expect(200);
    server.world.deliver().await;
    let after = server.world.azure.rules("first-nsg");
    for change in first["changes"].as_array().unwrap() {
        let rule = after.iter().find(|rule| rule["name"] == change["rule"]).unwrap();
        assert_eq!(rule["properties"]["priority"], change["priority"]);
    }
    server.post("/api/policies/preview", "bob", policy("both-1")).await.error(403, "AuthorizationFailed");
}

#[tokio::test]
async fn policies_are_listed_and_turned_off() {
    let server = Server::protected().await;
    server.put("/api/policies", "alice", policy("both-1")).await.expect(200);
    server.world.deliver().await;
    let all = server.get("/api/policies", "carol").await.expect(200);
    let names: Vec<&Value> = all["value"].as_array().unwrap().iter().map(|policy| &policy["vm"]).collect();
    assert_eq!(names, [vm("both-1").as_str(), vm("web-1").as_str()]);
    assert_eq!(server.get("/api/policies", "mallory").await.expect(200)["value"], json!([]));

    let one = format!("/api/policies?vm={}", encoded("web-1"));
    assert_eq!(server.get(&one, "carol").await.expect(200), all["value"][1]);
    assert_eq!(server.delete(&one, "alice").await.expect(202)["state"], "Disabling");
    server.world.deliver().await;
    server.get(&one, "carol").await.error(404, "NotFound");
    assert!(server.world.azure.allows(ADA, WEB_1, 22), "the rule that was there is back");
    server.delete(&one, "alice").await.error(404, "NotFound");
}

#[tokio::test]
async fn every_vm_that_the_caller_may_read_is_assessed() {
    let server = Server::protected().await;
    let all = server.get("/api/assessments", "carol").await.expect(200);
    let verdicts: Vec<(&str, &str)> = all["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vm| (vm["name"].as_str().unwrap(), vm["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        verdicts,
        [("bare-1", "NotApplicable"), ("both-1", "Unhealthy"), ("web-1", "Healthy"), ("web-2", "Unhealthy")]
    );
    assert_eq!(server.get("/api/assessments", "mallory").await.expect(200)["value"], json!([]));
}

#[tokio::test]
async fn a_vm_may_be_named_plain_encoded_or_as_the_functions_host_writes_it() {
    let server = Server::protected().await;
    let plain = vm("web-1").to_string();
    for text in
        [plain.clone(), encoded("web-1"), plain.to_uppercase(), format!("{plain}&code=a-function-key")]
    {
        server.get(&format!("/api/policies?vm={text}"), "carol").await.expect(200);
        server.get(&format!("/api/policies?VM={text}"), "carol").await.expect(200);
    }
}

#[tokio::test]
async fn a_policy_can_be_sent_back_as_it_came() {
    let server = Server::protected().await;
    let input = json!({
        "vm": vm("both-1").as_str(),
        "ports": [
            { "port": "5985-5986", "protocol": "*", "allowedSources": ["203.0.113.0/24", "2001:db8::/48"],
              "maximumDuration": "PT30M" },
        ],
        "standingExceptions": ["10.1.0.0/26", "AzureLoadBalancer"],
        "existingRules": "respect",
        "flushConnections": false,
        "minimumDuration": "PT1M",
        "maxSourceAddresses": 64,
        "whenRoleIsLost": "keep",
    });
    let mut output = server.put("/api/policies", "alice", input.clone()).await.expect(200);
    output.as_object_mut().unwrap().retain(|field, _| input.get(field).is_some());
    assert_eq!(output, input);
}

#[tokio::test]
async fn an_extension_takes_the_role() {
    let server = Server::protected().await;
    let request = server.post("/api/requests", "bob", ask("web-1", ADA)).await.expect(202);
    server.world.deliver().await;
    let path = format!("/api/requests/{}", request["id"].as_str().unwrap());
    let extend = format!("{path}/extend");
    let open = server.get(&path, "bob").await.expect(200);
    let more = || json!({ "duration": "PT10M", "expectedEnd": open["end"] });
    let extended = server.post(&extend, "bob", more()).await.expect(200);
    assert_eq!(server.post(&extend, "bob", more()).await.expect(200)["end"], extended["end"], "moved once");
    assert_ne!(extended["end"], open["end"]);
    let moved = json!({ "duration": "PT20M", "expectedEnd": open["end"] });
    server.post(&extend, "bob", moved).await.error(409, "EndMoved");
    server.post(&extend, "bob", json!({ "longer": true })).await.error(400, "InvalidRequestContent");
    server.post(&extend, "bob", json!({ "duration": "PT24H" })).await.error(400, "InvalidParameter");
    server.post(&extend, "alice", json!({ "duration": "PT10M" })).await.error(403, "AuthorizationFailed");
    server.world.azure.unassign("bob");
    let (message, _) =
        server.post(&extend, "bob", json!({ "duration": "PT10M" })).await.error(403, "AuthorizationFailed");
    assert!(message.contains("initiate/action"), "{message}");
    assert_eq!(server.get(&path, "alice").await.expect(200)["end"], extended["end"]);
}

#[tokio::test]
async fn several_vms_are_answered_one_by_one_and_a_later_start_is_shown() {
    let server = Server::protected().await;
    let mut several = ask("web-1", ADA);
    several.as_object_mut().unwrap().remove("vm");
    several["vms"] = json!([vm("web-1").as_str(), vm("both-1").as_str()]);
    several["start"] = json!("2026-11-24T13:00:00Z");
    let answer = server.post("/api/requests", "bob", several.clone()).await;
    let body = answer.expect(202);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let (taken, refused) = (&body["value"][0], &body["value"][1]);
    assert_eq!((&taken["vm"], &taken["request"]["group"]), (&json!(vm("web-1").as_str()), &body["group"]));
    assert_eq!((&refused["error"]["code"], &refused["request"]), (&json!("NotFound"), &Value::Null));
    assert_eq!(taken["request"]["start"], "2026-11-24T13:00:00Z");
    server.world.deliver().await;
    let path = format!("/api/requests/{}", taken["request"]["id"].as_str().unwrap());
    let waiting = server.get(&path, "bob").await.expect(200);
    assert_eq!((&waiting["status"], &waiting["end"]), (&json!("Approved"), &Value::Null));

    several["vms"] = json!([vm("both-1").as_str()]);
    let none = server.post("/api/requests", "bob", several).await;
    assert_eq!(none.status, 404);
    let body: Value = serde_json::from_str(&none.text).unwrap();
    assert_eq!(body["error"]["code"], "NotFound");
    assert_eq!(body["value"][0]["vm"], vm("both-1").as_str());
}

#[tokio::test]
async fn a_group_lists_the_requests_of_one_go_for_those_who_may_see_them() {
    let server = Server::protected().await;
    server.put("/api/policies", "alice", policy("both-1")).await.expect(200);
    server.world.deliver().await;
    server.post("/api/requests", "bob", ask("web-1", ADA)).await.expect(202);
    let mut several = ask("web-1", ADA);
    several.as_object_mut().unwrap().remove("vm");
    several["vms"] = json!([vm("web-1").as_str(), vm("bare-1").as_str(), vm("both-1").as_str()]);
    let asked = server.post("/api/requests", "bob", several).await.expect(202);
    let id = asked["group"].as_str().unwrap();
    let path = format!("/api/requests?group={id}");
    let vms = |list: &Value| -> Vec<String> {
        let all = list["value"].as_array().unwrap();
        assert!(all.iter().all(|one| one["group"] == id), "{list}");
        all.iter().map(|one| one["vm"].as_str().unwrap().to_owned()).collect()
    };
    for who in ["bob", "carol"] {
        let listed = server.get(&path, who).await.expect(200);
        assert_eq!(
            vms(&listed),
            [vm("both-1").to_string(), vm("web-1").to_string()],
            "{who}: in order of VM"
        );
    }
    server.get(&path, "mallory").await.error(403, "AuthorizationFailed");
    server.world.azure.assign("mallory", "read", "/subscriptions/11111111-1111-1111-1111-111111111111");
    server.world.pass(SignedDuration::from_secs(31)).await;
    assert_eq!(vms(&server.get(&path, "mallory").await.expect(200)).len(), 2);

    let (_, target) = server.get("/api/requests?group=all", "bob").await.error(400, "InvalidParameter");
    assert_eq!(target.as_deref(), Some("group"));
    server.get(&format!("/api/requests?group={}", "0".repeat(32)), "bob").await.error(404, "NotFound");
    server.get(&format!("{path}&group={id}"), "bob").await.error(400, "InvalidQueryParameter");
    server.get("/api/requests?groups=x", "bob").await.error(400, "InvalidQueryParameter");
}

#[tokio::test]
async fn a_wait_is_bounded_and_says_what_was_done() {
    let server = Server::protected().await;
    let request = server.post("/api/requests", "bob", ask("web-1", ADA)).await.expect(202);
    let path = format!("/api/requests/{}", request["id"].as_str().unwrap());
    let before = server.world.ajar.ports.clock.now();
    let answer = server.get(&format!("{path}?wait=5s"), "bob").await.expect(200);
    assert_eq!(answer["status"], "Requested");
    assert_eq!(server.world.ajar.ports.clock.now().duration_since(before).as_secs(), 5);
    server.get(&format!("{path}?wait=soon"), "bob").await.error(400, "InvalidQueryParameter");
    server.world.deliver().await;
    assert_eq!(server.get(&format!("{path}?wait=20"), "bob").await.expect(200)["status"], "Active");
    assert_eq!(server.world.ajar.ports.clock.now().duration_since(before).as_secs(), 5);
}
