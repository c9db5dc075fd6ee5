//! Recorded traffic of the service, and requests as command-line clients make them.

use crate::azure::{initiate, one};
use crate::client::Server;
use crate::examples::{at, example};
use ajar_access::testing::{SUBSCRIPTION, vm};
use ajar_http_api::FrontEnd;
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

const IN_2022: &str = include_str!("../data/jit-api/recordings/put_and_initiate_2022.json");
const WITHOUT_SOURCE: &str = include_str!("../data/jit-api/recordings/initiate_no_source_2018.json");
const CLIENTS: [&str; 4] = [
    include_str!("../data/clients/az_rest_put.json"),
    include_str!("../data/clients/az_rest_initiate.json"),
    include_str!("../data/clients/powershell_set.json"),
    include_str!("../data/clients/powershell_start.json"),
];

/// A recording with the names of the sample world.
fn recording(text: &str) -> Value {
    let text = text
        .replace("487bb485-b5b0-471e-9c0d-10717612f869", SUBSCRIPTION)
        .replace("myService1", "demo")
        .replace("centralus", "westeurope")
        .replace("\".../virtualMachines/testService1\"", &json!(vm("web-1").as_str()).to_string())
        .replace("\".../virtualMachines/testService\"", &json!(vm("web-1").as_str()).to_string())
        .replace("virtualMachines/testService1", "virtualMachines/web-1");
    serde_json::from_str(&text).unwrap()
}

/// The service answered with an empty requestor to the service principal that was recorded; ours has a name.
fn of_bob(mut response: Value) -> Value {
    assert_eq!(response["requestor"], "");
    response["requestor"] = json!("bob@contoso.example");
    response
}

#[tokio::test]
async fn the_exchange_of_2022_is_answered_as_the_service_answered() {
    let recorded = recording(IN_2022);
    let [put, post, delete] = recorded["entries"].as_array().unwrap().as_slice() else { panic!("three") };
    let server = Server::new();
    at(&server, post["response"]["startTimeUtc"].as_str().unwrap());
    let answer = server.put(put["uri"].as_str().unwrap(), "alice", put["request"].clone()).await;
    assert_eq!(answer.expect(200), put["response"]);
    server.world.deliver().await;
    let answer = server.post(&initiate("default"), "bob", post["request"].clone()).await;
    assert_eq!(answer.expect(202), of_bob(post["response"].clone()));
    let answer = server.delete(&one("default"), "alice").await;
    assert_eq!(json!(answer.status.as_u16()), delete["status"]);
    assert_eq!(json!(answer.text), delete["response"]);
}

#[tokio::test]
async fn a_source_that_is_left_out_is_the_callers_own_address() {
    let recorded = recording(WITHOUT_SOURCE);
    let server = Server::behind(FrontEnd::SetsForwardedFor);
    at(&server, recorded["response"]["startTimeUtc"].as_str().unwrap());
    let policy = json!({ "properties": { "virtualMachines": [{ "id": vm("web-1").as_str(), "ports": [
        { "number": 3389, "protocol": "*", "maxRequestAccessDuration": "PT3H" }] }] } });
    server.put(&one("default"), "alice", policy).await.expect(200);
    server.world.deliver().await;
    let request = Request::post(initiate("default"))
        .header("authorization", "Bearer bob")
        .header("content-type", "application/json")
        // What the caller claims, then what App Service appends.
        .header("x-forwarded-for", "198.51.100.1, 167.220.196.64:47450")
        .body(Body::from(recorded["request"].to_string()))
        .unwrap();
    let answer = server.send(request).await;
    assert_eq!(answer.expect(202), of_bob(recorded["response"].clone()));
    server.world.deliver().await;
    assert!(server.world.azure.allows("167.220.196.64", "10.0.0.4", 3389));
    assert!(!server.world.azure.allows("198.51.100.1", "10.0.0.4", 3389));
}

#[tokio::test]
async fn requests_of_command_line_clients_are_understood() {
    for text in CLIENTS {
        let client = example(text);
        let path = client["path"].as_str().unwrap();
        let server = Server::new();
        let is_put = client["method"] == "PUT";
        if !is_put {
            let vms = ["web-1", "web-2"].map(|name| {
                json!({ "id": vm(name).as_str(), "ports": [
                    { "number": 22, "protocol": "TCP", "maxRequestAccessDuration": "PT3H" },
                    { "number": 3389, "protocol": "TCP", "maxRequestAccessDuration": "PT3H" }] })
            });
            let policy = json!({ "properties": { "virtualMachines": vms } });
            server.put(&one("default"), "alice", policy).await.expect(200);
            server.world.deliver().await;
        }
        let uri = one("").replace("/jitNetworkAccessPolicies/?api-version=2020-01-01", path);
        let mut request = Request::builder()
            .method(client["method"].as_str().unwrap())
            .uri(uri)
            .header("authorization", if is_put { "Bearer alice" } else { "Bearer bob" });
        for (name, value) in client["headers"].as_object().unwrap() {
            request = request.header(name, value.as_str().unwrap());
        }
        let body = &client["body"];
        let answer = server.send(request.body(Body::from(body.to_string())).unwrap()).await;
        let status = u16::try_from(client["status"].as_u64().unwrap()).unwrap();
        let answer = answer.expect(status);
        if is_put {
            assert_eq!(answer["properties"]["virtualMachines"], body["properties"]["virtualMachines"]);
        }
        server.world.deliver().await;
        let asked = if is_put { &answer["properties"] } else { body };
        for vm in asked["virtualMachines"].as_array().unwrap() {
            let address = if vm["id"].as_str().unwrap().ends_with("web-1") { "10.0.0.4" } else { "10.0.0.5" };
            assert_eq!(
                server.world.azure.allows("203.0.113.7", address, 22),
                !is_put,
                "{}",
                client["source"]
            );
        }
    }
}
