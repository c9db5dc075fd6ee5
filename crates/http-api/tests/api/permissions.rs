//! docs/permissions.md, held against the code and against what the routes refuse.

use crate::azure::{initiate, list, one};
use crate::client::{ADA, Answer, NEIGHBOUR, Server, WEB_1, ask, encoded, policy};
use ajar_access::permission::{Operation, Scope};
use ajar_access::testing::{SUBSCRIPTION, user, vm};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

const PAGE: &str = include_str!("../../../../docs/permissions.md");
const README: &str = include_str!("../../README.md");

/// What takes no role.
const FREE: [&str; 4] = ["GET /api/health", "GET /api/ready", "GET /api/requests", "GET /api/approvals"];

/// What is only for the requester, whose role is checked again (`native::an_extension_takes_the_role`).
const OWN: [&str; 1] = ["POST /api/requests/{id}/extend"];

/// What is asked about on subscriptions (`restored_store::a_resume_takes_...` of `ajar-access`).
const ON_SUBSCRIPTIONS: [&str; 1] = ["POST /api/store/resume"];

/// What configures a VM without a policy (`events::a_template_that_waits_...` of `ajar-access`).
const WITHOUT_POLICY: [&str; 1] = ["POST /api/policies/approve-template"];

/// A row of the page's first table.
struct Row {
    operation: &'static str,
    calls: Vec<&'static str>,
    on_policy: Vec<&'static str>,
    on_vm: Vec<&'static str>,
}

/// What stands in backquotes.
fn quoted(text: &'static str) -> Vec<&'static str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn rows() -> Vec<Row> {
    let table = PAGE.split("| operation |").nth(1).expect("the table").split("\n\n").next().unwrap();
    let rows = table.lines().skip(2).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        Row {
            operation: cells[0],
            calls: quoted(cells[1]),
            on_policy: quoted(cells[2]),
            on_vm: quoted(cells[3]),
        }
    });
    rows.collect()
}

#[test]
fn the_page_says_of_each_operation_what_the_code_asks() {
    let rows = rows();
    assert_eq!(rows.len(), Operation::ALL.len());
    for (row, operation) in rows.iter().zip(Operation::ALL) {
        assert_eq!(row.operation, operation.name());
        let at = |scope: Scope| {
            let needs = operation.needs().iter().filter(|action| action.scope() == scope);
            needs.map(|action| action.name()).collect::<Vec<_>>()
        };
        assert_eq!(row.on_policy, at(Scope::Policy), "{}", row.operation);
        assert_eq!(row.on_vm, at(Scope::Vm), "{}", row.operation);
    }
}

#[test]
fn every_native_route_is_on_the_page() {
    let listed: BTreeSet<&str> = rows()
        .into_iter()
        .flat_map(|row| row.calls)
        .chain(FREE)
        .chain(OWN)
        .chain(ON_SUBSCRIPTIONS)
        .chain(WITHOUT_POLICY)
        .collect();
    let table = README.split("## Native routes").nth(1).unwrap().split("\n## ").next().unwrap();
    let routes: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '?']).next())
        .filter(|route| route.contains(" /api/"))
        .collect();
    assert!(routes.len() > 9, "{routes:?}");
    let missing: Vec<_> = routes.difference(&listed).collect();
    assert!(missing.is_empty(), "docs/permissions.md does not say what these take: {missing:?}");
}

/// A request of bob's: its path, and the group it was made in.
struct Asked {
    path: String,
    group: String,
    /// The path of one that waits for an approval.
    waiting: String,
    /// The path of one that was opened in an emergency.
    emergency: String,
}

/// `web-1` under a policy of the Azure-compatible API, and a request of bob's.
async fn prepared() -> (Server, Asked) {
    let server = Server::new();
    server.put(&one("default"), "alice", azure_policy()).await.expect(200);
    server.world.deliver().await;
    let mut several = ask("web-1", ADA);
    let one = several.as_object_mut().unwrap().remove("vm").unwrap();
    several["vms"] = json!([one]);
    let answer = server.post("/api/requests", "bob", several).await.expect(202);
    server.world.deliver().await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let path = |request: &Value| format!("/api/requests/{}", text(&request["id"]));
    server.world.policies.approvals.store(1, Ordering::SeqCst);
    let waiting = path(&server.post("/api/requests", "bob", ask("web-1", NEIGHBOUR)).await.expect(202));
    server.world.deliver().await;
    server.world.policies.approvals.store(0, Ordering::SeqCst);
    let mut urgent = ask("web-1", ADA);
    urgent["breakGlass"] = json!(true);
    urgent["justification"] = json!("the site is down");
    let emergency = path(&server.post("/api/requests", "bob", urgent).await.expect(202));
    server.world.deliver().await;
    let path = path(&answer["value"][0]["request"]);
    (server, Asked { path, group: text(&answer["group"]), waiting, emergency })
}

fn azure_policy() -> Value {
    json!({ "kind": "Basic", "properties": { "virtualMachines": [{ "id": vm("web-1").as_str(), "ports": [
        { "number": 22, "protocol": "TCP", "allowedSourceAddressPrefix": "*", "maxRequestAccessDuration": "PT3H" },
    ] }] } })
}

/// Makes a call of the page as mallory.
async fn call(server: &Server, request: &Asked, call: &str) -> Answer {
    let (method, path) = call.split_once(' ').unwrap();
    let of_vm = format!("{path}?vm={}", encoded("web-1"));
    let opening = json!({ "virtualMachines": [{ "id": vm("web-1").as_str(), "ports": [
        { "number": 22, "allowedSourceAddressPrefix": NEIGHBOUR, "endTimeUtc": "2026-11-24T13:00:00Z" },
    ] }] });
    let (uri, body) = match call {
        "PUT /api/policies" | "POST /api/policies/preview" => (path.to_owned(), Some(policy("web-1"))),
        "DELETE /api/policies" | "GET /api/policies" | "GET /api/history" | "GET /api/assessments" => {
            (of_vm, None)
        }
        "POST /api/requests" => (path.to_owned(), Some(ask("web-1", NEIGHBOUR))),
        "GET /api/requests/{id}" | "DELETE /api/requests/{id}" => (request.path.clone(), None),
        "GET /api/requests/{id}/history" => (format!("{}/history", request.path), None),
        "GET /api/requests?group={group}" => (format!("/api/requests?group={}", request.group), None),
        "GET /api/approvals/{id}" => (request.waiting.replace("requests", "approvals"), None),
        "POST /api/requests/{id}/approve" => (format!("{}/approve", request.waiting), Some(json!({}))),
        "POST /api/requests/{id}/deny" => {
            (format!("{}/deny", request.waiting), Some(json!({ "reason": "not today" })))
        }
        "POST /api/requests/{id}/review" => {
            (format!("{}/review", request.emergency), Some(json!({ "note": "it was down" })))
        }
        "PUT .../jitNetworkAccessPolicies/{name}" => (one("default"), Some(azure_policy())),
        "DELETE .../jitNetworkAccessPolicies/{name}" | "GET .../jitNetworkAccessPolicies/{name}" => {
            (one("default"), None)
        }
        "GET .../jitNetworkAccessPolicies" => (list(true, None), None),
        "POST .../jitNetworkAccessPolicies/{name}/initiate" => (initiate("default"), Some(opening)),
        other => panic!("docs/permissions.md names {other}: add an example of it here"),
    };
    server.call(method, &uri, "mallory", body).await
}

#[tokio::test]
async fn each_call_takes_exactly_what_the_page_says() {
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/demo");
    for row in rows() {
        let needed: Vec<(&str, String)> = (row.on_policy.iter().map(|action| (*action, group.clone())))
            .chain(row.on_vm.iter().map(|action| (*action, vm("web-1").to_string())))
            .collect();
        for name in &row.calls {
            for without in (0..needed.len()).map(Some).chain([None]) {
                let (server, request) = prepared().await;
                let roles = &server.world.azure.roles;
                for (index, (action, scope)) in needed.iter().enumerate() {
                    if Some(index) != without {
                        roles.define(action, &[action]);
                        roles.assign(&user("mallory").object_id, action, scope, None);
                    }
                }
                let before = server.state();
                let answer = call(&server, &request, name).await;
                match without {
                    None => assert!(answer.status.is_success(), "{name}: {answer:?}"),
                    Some(index) => {
                        assert_eq!(answer.status, 403, "{name} without {:?}: {answer:?}", needed[index]);
                        assert!(answer.text.contains(needed[index].0), "{name}: {answer:?}");
                        assert_eq!(server.state(), before, "{name} changed something");
                    }
                }
            }
        }
    }
}

/// In the Azure-compatible API the policy is a resource: a role on that resource alone is enough, one on another or on
/// the VM is not, and what it lets in is opened, extended and kept by it.
#[tokio::test]
async fn a_role_on_the_policy_resource_counts_for_that_resource() {
    let provider = "providers/Microsoft.Security/locations";
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/demo");
    let resource = |name: &str| format!("{group}/{provider}/westeurope/jitNetworkAccessPolicies/{name}");
    for row in rows() {
        let azure = row.calls.iter().filter(|call| call.contains("jitNetworkAccessPolicies/{name}"));
        for name in azure {
            for (scope, counts) in [
                (resource("default"), true),
                (resource("DEFAULT"), true),
                (resource("default-2"), false),
                (vm("web-1").to_string(), false),
            ] {
                let (server, request) = prepared().await;
                let roles = &server.world.azure.roles;
                let mallory = user("mallory").object_id;
                let on_policy = row.on_policy.iter().map(|action| (*action, scope.clone()));
                let on_vm = row.on_vm.iter().map(|action| (*action, vm("web-1").to_string()));
                for (action, scope) in on_policy.chain(on_vm) {
                    roles.define(action, &[action]);
                    roles.assign(&mallory, action, &scope, None);
                }
                let answer = call(&server, &request, name).await;
                assert_eq!(answer.status.is_success(), counts, "{name} with a role at {scope}: {answer:?}");
                assert!(counts || answer.status == 403, "{name}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn access_asked_for_by_a_role_on_the_policy_resource_opens_and_goes_with_it() {
    let (server, _) = prepared().await;
    let roles = &server.world.azure.roles;
    let mallory = user("mallory").object_id;
    let resource = format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/demo/providers/Microsoft.Security/locations/westeurope/\
         jitNetworkAccessPolicies/default"
    );
    let initiating = "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action";
    let reading = "Microsoft.Compute/virtualMachines/read";
    for (action, scope) in [(initiating, resource.as_str()), (reading, vm("web-1").as_str())] {
        roles.define(action, &[action]);
        roles.assign(&mallory, action, scope, None);
    }
    let ports = json!([{ "number": 22, "allowedSourceAddressPrefix": NEIGHBOUR, "duration": "PT30M" }]);
    let body = json!({ "virtualMachines": [{ "id": vm("web-1").as_str(), "ports": ports }] });
    server.post(&initiate("default"), "mallory", body).await.expect(202);
    server.world.deliver().await;
    assert!(server.world.azure.allows(NEIGHBOUR, WEB_1, 22));
    let own = server.get("/api/requests", "mallory").await.expect(200);
    let path = format!("/api/requests/{}", own["value"][0]["id"].as_str().unwrap());
    let longer = json!({ "duration": "PT30M" });
    server.post(&format!("{path}/extend"), "mallory", longer.clone()).await.expect(200);
    // Natively the policy is not named, and the role is not at the resource group.
    server.post("/api/requests", "mallory", ask("web-1", NEIGHBOUR)).await.expect(403);
    server.world.minutes(20).await;
    assert!(server.world.azure.allows(NEIGHBOUR, WEB_1, 22), "looked at four times, and kept");

    roles.unassign(&mallory);
    server.post(&format!("{path}/extend"), "mallory", longer).await.expect(403);
    server.world.minutes(7).await;
    assert!(!server.world.azure.allows(NEIGHBOUR, WEB_1, 22), "the role was lost");
}

/// Azure has no resource of that name, and says so: what is assigned above it counts.
#[tokio::test]
async fn a_policy_that_azure_does_not_know_is_asked_about_above_it() {
    let (server, _) = prepared().await;
    server.world.azure.has_no_policies.store(true, Ordering::SeqCst);
    server.get(&one("default"), "carol").await.expect(200);
    server.get(&one("default"), "mallory").await.expect(403);
}
