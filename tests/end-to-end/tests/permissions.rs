//! Who is let in by Azure RBAC, through the packaged executable: guests, managed identities, deny assignments, and a
//! role that is lost while access is open.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use end_to_end_tests::{Answer, SUBSCRIPTION, Stack, sample_estate, vm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const CAROL: &str = "a0000000-0000-4000-8000-000000000003";
const ERIN: &str = "a0000000-0000-4000-8000-000000000006";
const FRANK: &str = "a0000000-0000-4000-8000-000000000007";
const GRACE: &str = "a0000000-0000-4000-8000-000000000008";
const HEIDI: &str = "a0000000-0000-4000-8000-000000000009";
const ON_CALL: &str = "a0000000-0000-4000-8000-000000000011";
const AJAR: &str = "a0000000-0000-4000-8000-000000000021";
const DEPLOYER: &str = "a0000000-0000-4000-8000-000000000022";
const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
const REQUESTER: &str = "c0000000-0000-4000-8000-000000000001";
const NO_REQUESTER: &str = "c0000000-0000-4000-8000-000000000009";
const VM_READER: &str = "c0000000-0000-4000-8000-00000000000a";

fn subscription() -> String {
    format!("/subscriptions/{SUBSCRIPTION}")
}

fn group() -> String {
    format!("{}/resourceGroups/demo-rg", subscription())
}

fn assignment(name: &str, principal: &str, role: &str) -> Value {
    json!({
        "id": format!("{}/providers/Microsoft.Authorization/roleAssignments/{name}", subscription()),
        "type": "Microsoft.Authorization/roleAssignments", "name": name,
        "properties": {
            "principalId": principal, "scope": subscription(),
            "roleDefinitionId": format!("{}/providers/Microsoft.Authorization/roleDefinitions/{role}", subscription()),
        },
    })
}

/// The same at another scope, with `more` properties.
fn assignment_at(scope: &str, name: &str, principal: &str, role: &str, more: &Value) -> Value {
    let mut assignment = assignment(name, principal, role);
    assignment["id"] = json!(format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"));
    assignment["properties"]["scope"] = json!(scope);
    assignment["properties"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assignment
}

fn role(id: &str, actions: &[&str], not_actions: &[&str]) -> Value {
    json!({
        "id": format!("{}/providers/Microsoft.Authorization/roleDefinitions/{id}", subscription()),
        "type": "Microsoft.Authorization/roleDefinitions", "name": id,
        "properties": {
            "roleName": id, "type": "CustomRole", "assignableScopes": [subscription()],
            "permissions": [{ "actions": actions, "notActions": not_actions }],
        },
    })
}

fn user(id: &str, name: &str) -> Value {
    json!({ "id": id, "type": "Microsoft.Graph/users", "name": name,
        "properties": { "displayName": name, "userPrincipalName": format!("{name}@contoso.example") } })
}

/// The path of the policy `default` of Azure's API, without its query.
fn policy() -> String {
    format!("{}/providers/Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies/default", group())
}

fn denial(name: &str, scope: &str, is_only_here: bool) -> Value {
    json!({
        "id": format!("{scope}/providers/Microsoft.Authorization/denyAssignments/{name}"),
        "type": "Microsoft.Authorization/denyAssignments", "name": name,
        "properties": {
            "denyAssignmentName": name, "scope": scope, "isSystemProtected": true,
            "doNotApplyToChildScopes": is_only_here,
            "permissions": [{ "actions": ["Microsoft.Compute/virtualMachines/*"], "notActions": ["*/write"] }],
            "principals": [{ "id": "00000000-0000-0000-0000-000000000000", "type": "SystemDefined" }],
            "excludePrincipals": [{ "id": AJAR, "type": "ServicePrincipal" }, { "id": ERIN, "type": "User" }],
        },
    })
}

/// The sample estate with a guest who is on call (a group in the group that has the role), a managed identity with a
/// role of its own, carol as owner, three whose roles are not plain ones, and two deny assignments: one on `web-2`, one on
/// the group that does not reach the VMs in it.
fn estate() -> String {
    let mut estate: Value = serde_json::from_str(&sample_estate()).unwrap();
    let all = estate.as_array_mut().unwrap();
    let on_call = all.iter_mut().find(|resource| resource["id"] == ON_CALL).unwrap();
    on_call["properties"]["members"].as_array_mut().unwrap().push(json!(ERIN));
    all.push(json!({ "id": ERIN, "type": "Microsoft.Graph/users", "name": "erin", "properties": {
        "displayName": "Erin (Fabrikam)", "userType": "Guest",
        "userPrincipalName": "erin_fabrikam.example#EXT#@contoso.example" } }));
    all.push(json!({ "id": DEPLOYER, "type": "Microsoft.Graph/servicePrincipals", "name": "deployer",
        "properties": { "displayName": "Deployer", "appId": "b0000000-0000-4000-8000-000000000002",
            "servicePrincipalType": "ManagedIdentity" } }));
    all.push(assignment("deployer", DEPLOYER, REQUESTER));
    all.push(assignment("owner", CAROL, OWNER));
    // A role with a condition, a custom role that takes out what its wildcard gives, and a role on one policy alone.
    all.extend([user(FRANK, "frank"), user(GRACE, "grace"), user(HEIDI, "heidi")]);
    let initiate = "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action";
    let reading = "Microsoft.Compute/virtualMachines/read";
    all.push(role(NO_REQUESTER, &["Microsoft.Security/*", reading], &[initiate]));
    all.push(role(VM_READER, &[reading], &[]));
    let condition = json!({ "condition": "@Resource[...] StringEquals 'x'", "conditionVersion": "2.0" });
    all.push(assignment_at(&group(), "conditional", FRANK, REQUESTER, &condition));
    all.push(assignment_at(&group(), "wildcard", GRACE, NO_REQUESTER, &json!({})));
    all.push(assignment_at(&policy(), "on-the-policy", HEIDI, REQUESTER, &json!({})));
    all.push(assignment_at(&vm("web-1"), "on-the-vm", HEIDI, VM_READER, &json!({})));
    all.push(denial("web-2 is locked", &vm("web-2"), false));
    all.push(denial("the group is locked", &group(), true));
    estate.to_string()
}

async fn ask(stack: &Stack, who: &str, name: &str, source: &str) -> Answer {
    let body = json!({ "vm": vm(name), "ports": [{ "port": 22, "sources": [source] }], "duration": "PT10M" });
    stack.call_as(who, Method::POST, "/api/requests", Some(body)).await
}

#[tokio::test]
async fn guests_and_managed_identities_are_let_in_and_a_deny_assignment_keeps_out() {
    let stack = Stack::start_on(&estate()).await;
    stack.protect("web-1").await;
    stack.protect("web-2").await;
    for (who, name, source) in [
        ("erin", "web-1", "203.0.113.7"),
        ("deployer", "web-1", "203.0.113.8"),
        ("erin", "web-2", "203.0.113.7"),
    ] {
        let answer = ask(&stack, who, name, source).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{who} {name}: {answer:?}");
        stack
            .eventually("it opens", Duration::from_secs(10), async |stack| {
                stack.passes(source, name, 22).await
            })
            .await;
    }
    for who in ["bob", "deployer"] {
        let answer = ask(&stack, who, "web-2", "203.0.113.9").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{who}: {answer:?}");
        assert!(
            answer.body["error"]["message"].as_str().unwrap().contains("`web-2 is locked`"),
            "{answer:?}"
        );
    }
    assert!(!stack.passes("203.0.113.9", "web-2", 22).await);

    for (who, why) in [("frank", "does not evaluate conditions"), ("grace", "initiate/action")] {
        let answer = ask(&stack, who, "web-1", "203.0.113.9").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{who}: {answer:?}");
        assert!(answer.body["error"]["message"].as_str().unwrap().contains(why), "{who}: {answer:?}");
    }
    assert!(!stack.passes("203.0.113.9", "web-1", 22).await);
    stack.stop().await;
}

#[tokio::test]
async fn a_role_on_a_policy_of_azures_api_lets_in_through_that_policy() {
    let stack = Stack::start_on(&estate()).await;
    let port = json!({ "number": 22, "protocol": "TCP", "maxRequestAccessDuration": "PT3H" });
    let body = json!({ "properties": { "virtualMachines": [{ "id": vm("web-1"), "ports": [port] }] } });
    let path = |verb: &str| format!("{}{verb}?api-version=2020-01-01", policy());
    let put = stack.call_as("alice", Method::PUT, &path(""), Some(body)).await;
    assert_eq!(put.status, StatusCode::OK, "{put:?}");
    let natively = ask(&stack, "heidi", "web-1", "203.0.113.9").await;
    assert_eq!(natively.status, StatusCode::FORBIDDEN, "the group is asked about natively: {natively:?}");
    let port = json!({ "number": 22, "allowedSourceAddressPrefix": "203.0.113.9", "duration": "PT10M" });
    let body = json!({ "virtualMachines": [{ "id": vm("web-1"), "ports": [port] }] });
    let asked = stack.call_as("heidi", Method::POST, &path("/initiate"), Some(body)).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{asked:?}");
    stack
        .eventually("it opens", Duration::from_secs(10), async |stack| {
            stack.passes("203.0.113.9", "web-1", 22).await && !stack.passes("203.0.113.10", "web-1", 22).await
        })
        .await;
    stack.stop().await;
}

#[tokio::test]
async fn losing_the_role_closes_open_access() {
    let stack = Stack::start_on(&estate()).await;
    stack.protect("web-1").await;
    // The owner of each is looked at every five minutes, each at a moment of its own: of so many one comes soon.
    let mut open = Vec::new();
    for number in 0..40 {
        let source = format!("203.0.113.{number}");
        let answer = ask(&stack, "deployer", "web-1", &source).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        open.push((source, answer.body["id"].as_str().unwrap().to_owned()));
    }
    stack
        .eventually("all are open", Duration::from_secs(60), async |stack| {
            for (source, _) in &open {
                if !stack.passes(source, "web-1", 22).await {
                    return false;
                }
            }
            true
        })
        .await;
    let path = format!(
        "{}/providers/Microsoft.Authorization/roleAssignments/deployer?api-version=2022-04-01",
        subscription()
    );
    assert_eq!(stack.arm_as("carol", Method::DELETE, &path, None).await.status, StatusCode::OK);
    stack
        .eventually("one is shut", Duration::from_secs(180), async |stack| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stack.host.run_timer("sweep_expired").await.unwrap();
            for (source, _) in &open {
                if !stack.passes(source, "web-1", 22).await {
                    return true;
                }
            }
            false
        })
        .await;
    let mut told = String::new();
    for (source, id) in &open {
        if !stack.passes(source, "web-1", 22).await {
            let path = format!("/api/requests/{id}/history");
            told = stack.call_as("deployer", Method::GET, &path, None).await.body.to_string();
        }
    }
    assert!(told.contains("the role was lost") && told.contains("initiate/action"), "{told}");
    stack.stop().await;
}
