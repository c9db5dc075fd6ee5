//! The same machine over real HTTP.

use std::sync::Arc;
use std::time::Duration;

use azure_simulator::{Running, Simulator, SystemClock, serve};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::machine::{SAMPLE, machine, network, rule};

async fn start() -> (Running, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let simulator = Simulator::new(SAMPLE, Arc::new(SystemClock), 1).unwrap();
    (serve(listener, simulator).unwrap(), Client::new())
}

async fn token(azure: &Running, client: &Client, user: &str) -> String {
    let url = format!("{}/dev/token?user={user}&audience=arm", azure.base_url());
    client.get(url).send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
}

fn url(azure: &Running, path: &str) -> String {
    format!("{}{path}?api-version=2024-05-01", azure.base_url())
}

#[tokio::test]
async fn a_rule_is_opened_probed_and_closed() {
    let (azure, client) = start().await;
    let token = token(&azure, &client, "dave").await;
    let path = url(&azure, &network("networkSecurityGroups/db-subnet-nsg/securityRules/ajar-1"));
    let probe = async || {
        let body =
            json!({"source": "203.0.113.7", "destination": machine("db-1"), "port": 22, "protocol": "Tcp"});
        let answer = client.post(format!("{}/sim/probe", azure.base_url())).json(&body).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    assert_eq!(probe().await["allowed"], false);
    let body = rule(json!({"destinationAddressPrefix": "10.0.2.4"}));
    let answer = client.put(&path).bearer_auth(&token).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let operation = answer.headers()["azure-asyncoperation"].to_str().unwrap().to_owned();
    let operation: Value =
        client.get(operation).bearer_auth(&token).send().await.unwrap().json().await.unwrap();
    assert_eq!(operation["status"], "Succeeded");
    let verdict = probe().await;
    assert_eq!(verdict["allowed"], true);
    assert_eq!(verdict["by"][0]["rule"], "ajar-1");
    assert_eq!(verdict["by"][0]["enforcementPoint"], network("networkSecurityGroups/db-subnet-nsg"));
    let answer = client.delete(&path).bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(probe().await["allowed"], false);
    azure.shut_down().await;
}

#[tokio::test]
async fn without_a_token_nothing_is_shown() {
    let (azure, client) = start().await;
    let answer = client.get(url(&azure, &machine("web-1"))).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(answer.headers().contains_key("www-authenticate"));
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "AuthenticationFailed");
}

#[tokio::test]
async fn a_dropped_connection_has_no_answer_and_its_effect_stays() {
    let (azure, client) = start().await;
    let token = token(&azure, &client, "dave").await;
    let path = url(&azure, &network("networkSecurityGroups/web-nsg/securityRules/ajar-1"));
    let fault = json!({"match": {"method": "PUT"}, "kind": "drop_after"});
    client.post(format!("{}/sim/faults", azure.base_url())).json(&fault).send().await.unwrap();
    let broken = client.put(&path).bearer_auth(&token).json(&rule(json!({}))).send().await;
    assert!(broken.is_err(), "{broken:?}");
    let answer = client.get(&path).bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    azure.with(|azure| {
        let statuses: Vec<Option<u16>> = azure.log().map(|entry| entry.status).collect();
        assert_eq!(statuses, [None, Some(200)]);
    });
}

#[tokio::test]
async fn what_a_client_gave_up_on_still_happens() {
    let (azure, client) = start().await;
    let token = token(&azure, &client, "dave").await;
    let path = url(&azure, &network("networkSecurityGroups/web-nsg/securityRules/ajar-1"));
    let fault = json!({"match": {"method": "PUT"}, "kind": "delay", "delayMs": 200});
    client.post(format!("{}/sim/faults", azure.base_url())).json(&fault).send().await.unwrap();
    let body = rule(json!({}));
    let request = client.put(&path).bearer_auth(&token).json(&body).timeout(Duration::from_millis(50));
    assert!(request.send().await.unwrap_err().is_timeout());
    let landed = tokio::time::timeout(Duration::from_secs(10), async {
        while azure.with(|azure| azure.log().next().is_none()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    landed.await.expect("the delayed write lands");
    let answer = client.get(&path).bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_probe_that_makes_no_sense_is_told_which_field() {
    let (azure, client) = start().await;
    let post = async |body: Value| {
        let answer = client.post(format!("{}/sim/probe", azure.base_url())).json(&body).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let good = json!({"source": "203.0.113.7", "destination": "10.0.1.4", "port": 22, "protocol": "Tcp"});
    for (field, value) in [
        ("source", json!("x")),
        ("destination", json!("x")),
        ("port", json!(65536)),
        ("protocol", json!("x")),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let (status, text) = post(bad).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        if field != "port" {
            assert!(text.contains(field), "{text}");
        }
    }
    assert_eq!(post(good).await.0, StatusCode::OK);
}
