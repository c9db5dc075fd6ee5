//! The official examples, sent to the router and compared with its answers.

use crate::azure::{initiate, list, one};
use crate::client::Server;
use ajar_access::testing::{EPOCH, SUBSCRIPTION};
use jiff::Timestamp;
use serde_json::{Value, json};

macro_rules! example {
    ($name:literal) => {
        include_str!(concat!("../data/jit-api/examples/", $name, "_example.json"))
    };
}

const CREATE: &str = example!("CreateJitNetworkAccessPolicy");
const DELETE: &str = example!("DeleteJitNetworkAccessPolicy");
const GET: &str = example!("GetJitNetworkAccessPolicy");
const INITIATE: &str = example!("InitiateJitNetworkAccessPolicy");
const INITIATE_TYPESPEC: &str =
    include_str!("../data/jit-api/examples/InitiateJitNetworkAccessPolicy_example.typespec-folder.json");
const LIST: &str = example!("GetJitNetworkAccessPoliciesSubscription");
const LIST_BY_REGION: &str = example!("GetJitNetworkAccessPoliciesSubscriptionLocation");
const LIST_BY_GROUP: &str = example!("GetJitNetworkAccessPoliciesResourceGroup");
const LIST_BY_GROUP_AND_REGION: &str = example!("GetJitNetworkAccessPoliciesResourceGroupLocation");

/// An example with the names of the sample world. The answer of the official Initiate example names another
/// subscription than its request, by mistake.
pub(crate) fn example(text: &str) -> Value {
    let text = text
        .replace("20ff7fc3-e762-44dd-bd96-b71116dcdc23", SUBSCRIPTION)
        .replace("3eeab341-f466-499c-a8be-85427e154baf", SUBSCRIPTION)
        .replace("myRg1", "demo")
        .replace("virtualMachines/vm1", "virtualMachines/web-1")
        .replace("virtualMachines/vm2", "virtualMachines/web-2")
        .replace("barbara@contoso.com", "bob@contoso.example");
    serde_json::from_str(&text).unwrap()
}

/// Moves the world's clock from its beginning to a moment, before or after it.
pub(crate) fn at(server: &Server, moment: &str) {
    let (epoch, moment): (Timestamp, Timestamp) = (EPOCH.parse().unwrap(), moment.parse().unwrap());
    server.world.clock.advance(moment.duration_since(epoch));
}

async fn created(moment: &str) -> Server {
    let server = Server::new();
    at(&server, moment);
    let answer =
        server.put(&one("default"), "alice", example(CREATE)["parameters"]["body"].clone()).await.expect(200);
    let mut wanted = example(CREATE)["responses"]["200"]["body"].clone();
    // The example's requests are part of its request as well; nobody asked for them here. Its state, and that there is
    // no appendMode, is not what the service answers (recordings/put_and_initiate_2022.json).
    wanted["properties"]["requests"] = json!([]);
    wanted["properties"]["provisioningState"] = json!("Updating");
    wanted["properties"]["appendMode"] = json!(false);
    assert_eq!(answer, wanted);
    server.world.deliver().await;
    server
}

#[tokio::test]
async fn create_and_initiate_answer_as_the_examples_do() {
    for text in [INITIATE, INITIATE_TYPESPEC] {
        let server = created("2018-07-12T08:53:03.3658798Z").await;
        let body = example(text)["parameters"]["body"].clone();
        let answer = server.post(&initiate("default"), "bob", body).await;
        assert_eq!(answer.expect(202), example(text)["responses"]["202"]["body"]);
        for header in ["location", "azure-asyncoperation", "retry-after"] {
            assert_eq!(answer.header(header), None);
        }
    }
}

#[tokio::test]
async fn get_and_the_four_lists_answer_as_the_examples_do() {
    let server = created("2018-05-17T08:06:45.5691611Z").await;
    let wanted = |text: &str| example(text)["responses"]["200"]["body"].clone();
    let body = json!({
        "virtualMachines": [{
            "id": wanted(GET)["properties"]["virtualMachines"][0]["id"],
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
    for (uri, text) in [
        (one("default"), GET),
        (list(false, None), LIST),
        (list(false, Some("westeurope")), LIST_BY_REGION),
        (list(true, None), LIST_BY_GROUP),
        (list(true, Some("westeurope")), LIST_BY_GROUP_AND_REGION),
    ] {
        assert_eq!(server.get(&uri, "carol").await.expect(200), wanted(text), "{uri}");
    }
}

#[tokio::test]
async fn delete_answers_as_the_example_does() {
    let server = created(EPOCH).await;
    for status in ["200", "204"] {
        assert_eq!(example(DELETE)["responses"][status], json!({}), "an answer without a body");
        let answer = server.delete(&one("default"), "alice").await;
        assert_eq!((answer.status.as_str(), answer.text.as_str()), (status, ""));
    }
}
