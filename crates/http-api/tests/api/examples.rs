//! The official examples, sent to the router and compared with its answers.

use crate::azure::{initiate, one};
use crate::client::Server;
use ajar_access::testing::{EPOCH, SUBSCRIPTION};
use jiff::Timestamp;
use serde_json::{Value, json};

const CREATE: &str = include_str!("../data/CreateJitNetworkAccessPolicy_example.json");
const GET: &str = include_str!("../data/GetJitNetworkAccessPolicy_example.json");
const INITIATE: &str = include_str!("../data/InitiateJitNetworkAccessPolicy_example.json");

/// An example with the names of the sample world. The answer of the official Initiate example names another
/// subscription than its request, by mistake.
fn example(text: &str) -> Value {
    let text = text
        .replace("20ff7fc3-e762-44dd-bd96-b71116dcdc23", SUBSCRIPTION)
        .replace("3eeab341-f466-499c-a8be-85427e154baf", SUBSCRIPTION)
        .replace("myRg1", "demo")
        .replace("virtualMachines/vm1", "virtualMachines/web-1")
        .replace("barbara@contoso.com", "bob@contoso.example");
    serde_json::from_str(&text).unwrap()
}

async fn created(at: &str) -> Server {
    let server = Server::new();
    let epoch: Timestamp = EPOCH.parse().unwrap();
    let at: Timestamp = at.parse().unwrap();
    server.world.clock.advance(at.duration_since(epoch));
    let answer =
        server.put(&one("default"), "alice", example(CREATE)["parameters"]["body"].clone()).await.expect(200);
    let mut wanted = example(CREATE)["responses"]["200"]["body"].clone();
    // The example's requests are part of its request as well; nobody asked for them here.
    wanted["properties"]["requests"] = json!([]);
    assert_eq!(answer, wanted);
    server.world.deliver().await;
    server
}

#[tokio::test]
async fn create_and_initiate_answer_as_the_examples_do() {
    let server = created("2018-07-12T08:53:03.3658798Z").await;
    let body = example(INITIATE)["parameters"]["body"].clone();
    let answer = server.post(&initiate("default"), "bob", body).await.expect(202);
    assert_eq!(answer, example(INITIATE)["responses"]["202"]["body"]);
}

#[tokio::test]
async fn get_answers_as_the_example_does() {
    let server = created("2018-05-17T08:06:45.5691611Z").await;
    let wanted = example(GET)["responses"]["200"]["body"].clone();
    let body = json!({
        "virtualMachines": [{
            "id": wanted["properties"]["virtualMachines"][0]["id"],
            "ports": [{
                "number": 3389,
                "allowedSourceAddressPrefix": "192.127.0.2",
                "endTimeUtc": "2018-05-17T09:06:45.5691611Z",
            }],
        }],
        "justification": "testing a new version of the product",
    });
    server.post(&initiate("default"), "bob", body).await.expect(202);
    server.world.deliver().await;
    assert_eq!(server.get(&one("default"), "carol").await.expect(200), wanted);
}
