//! Lists page by page, throttling, ordered faults, the log and the switches.

use std::time::Duration;

use azure_simulator::{Bucket, Reaction, Request};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::machine::{APP, GROUP, Machine, SUBSCRIPTION, machine, network, rule};

fn sim(azure: &mut Machine, method: Method, path: &str, body: Option<Value>) -> azure_simulator::Response {
    let mut request = Request::new(method, path);
    if let Some(body) = body {
        request = request.with_json(&body);
    }
    azure.azure.handle(&request).answer().unwrap()
}

#[test]
fn pages_together_hold_everything_once() {
    let mut azure = Machine::new();
    azure.azure.switches_mut().page_size = 4;
    let mut next =
        format!("{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines?api-version=2024-07-01");
    let mut names = Vec::new();
    let mut sizes = Vec::new();
    loop {
        let page = azure.azure.handle_as(APP, &Request::new(Method::GET, &next)).answer().unwrap();
        let value = page.value()["value"].as_array().unwrap().clone();
        sizes.push(value.len());
        names.extend(value.iter().map(|one| one["name"].as_str().unwrap().to_owned()));
        match page.value().get("nextLink") {
            Some(link) => {
                next = link.as_str().unwrap().strip_prefix("http://127.0.0.1:7072").unwrap().to_owned()
            }
            None => break,
        }
    }
    assert_eq!(sizes, [4, 4, 3]);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 11);
}

#[test]
fn a_filter_survives_the_next_link() {
    let mut azure = Machine::new();
    azure.azure.switches_mut().page_size = 1;
    let path = format!("{GROUP}/providers/Microsoft.Authorization/roleAssignments?$filter=atScope()");
    let first = azure.get(&path);
    let link = first.value()["nextLink"].as_str().unwrap().to_owned();
    let link = link.strip_prefix("http://127.0.0.1:7072").unwrap();
    let second = azure.azure.handle_as(APP, &Request::new(Method::GET, link)).answer().unwrap();
    assert_eq!(second.status, StatusCode::OK);
    assert!(link.contains("filter=atScope"), "{link}");
    assert_ne!(first.value()["value"][0]["id"], second.value()["value"][0]["id"]);
}

#[test]
fn a_made_up_skip_token_is_refused() {
    let mut azure = Machine::new();
    let path = format!("{GROUP}/providers/Microsoft.Compute/virtualMachines?$skiptoken=%21");
    assert_eq!(azure.get(&path).status, StatusCode::BAD_REQUEST);
}

#[test]
fn an_empty_bucket_refills_with_time() {
    let mut azure = Machine::new();
    azure.azure.switches_mut().throttle.reads = Bucket { capacity: 2, per_second: 1 };
    let read = |azure: &mut Machine, who: &str| azure.call_as(who, Method::GET, &machine("web-1"), None);
    assert_eq!(read(&mut azure, APP).status, StatusCode::OK);
    assert_eq!(read(&mut azure, APP).status, StatusCode::OK);
    let refused = read(&mut azure, APP);
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(read(&mut azure, "carol").status, StatusCode::OK, "another principal has its own bucket");
    let write = azure.put(&network("networkSecurityGroups/web-nsg/securityRules/new"), rule(json!({})));
    assert_eq!(write.status, StatusCode::CREATED, "writes have their own bucket");
    azure.clock.advance(Duration::from_secs(1));
    assert_eq!(read(&mut azure, APP).status, StatusCode::OK);
    assert_eq!(read(&mut azure, APP).status, StatusCode::TOO_MANY_REQUESTS);
}

#[test]
fn an_ordered_error_befalls_what_it_matches_as_often_as_ordered() {
    let mut azure = Machine::new();
    let fault = json!({"match": {"method": "put", "pathContains": "SECURITYRULES"}, "kind": "error", "status": 503,
                       "code": "ServerBusy", "retryAfter": 3, "times": 2});
    assert_eq!(sim(&mut azure, Method::POST, "/sim/faults", Some(fault)).status, StatusCode::NO_CONTENT);
    let path = network("networkSecurityGroups/web-nsg/securityRules/new");
    assert_eq!(azure.get(&path).status, StatusCode::NOT_FOUND, "another method");
    for _ in 0..2 {
        let refused = azure.put(&path, rule(json!({})));
        assert_eq!((refused.status.as_u16(), refused.error_code()), (503, Some("ServerBusy")));
        assert_eq!(refused.headers["retry-after"], "3");
    }
    assert_eq!(azure.put(&path, rule(json!({}))).status, StatusCode::CREATED);
}

#[test]
fn a_dropped_connection_may_come_before_or_after_the_effect() {
    let mut azure = Machine::new();
    let path = network("networkSecurityGroups/web-nsg/securityRules/new");
    let request =
        Request::new(Method::PUT, &format!("{path}?api-version=2024-05-01")).with_json(&rule(json!({})));
    sim(&mut azure, Method::POST, "/sim/faults", Some(json!({"kind": "drop_before"})));
    assert_eq!(azure.azure.handle_as(APP, &request), Reaction::Drop);
    assert_eq!(azure.get(&path).status, StatusCode::NOT_FOUND);
    sim(&mut azure, Method::POST, "/sim/faults", Some(json!({"kind": "drop_after"})));
    assert_eq!(azure.azure.handle_as(APP, &request), Reaction::Drop);
    assert_eq!(azure.get(&path).status, StatusCode::OK);
}

#[test]
fn a_delay_holds_the_request() {
    let mut azure = Machine::new();
    azure.azure.switches_mut().read_latency_ms = 20;
    sim(&mut azure, Method::POST, "/sim/faults", Some(json!({"kind": "delay", "delayMs": 300})));
    let request = Request::new(Method::GET, &machine("web-1"));
    assert_eq!(azure.azure.admit(&request).hold, Duration::from_millis(320));
    assert_eq!(azure.azure.admit(&request).hold, Duration::from_millis(20));
    assert_eq!(azure.azure.admit(&Request::new(Method::GET, "/sim/log")).hold, Duration::ZERO);
}

#[test]
fn faults_are_deleted_together_and_bad_ones_refused() {
    let mut azure = Machine::new();
    sim(&mut azure, Method::POST, "/sim/faults", Some(json!({"kind": "error", "times": 0})));
    assert_eq!(azure.get(&machine("web-1")).status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(azure.get(&machine("web-1")).status, StatusCode::INTERNAL_SERVER_ERROR);
    sim(&mut azure, Method::DELETE, "/sim/faults", None);
    assert_eq!(azure.get(&machine("web-1")).status, StatusCode::OK);
    for bad in [
        json!({"kind": "explode"}),
        json!({"kind": "error", "status": 7}),
        json!({"kind": "error", "matches": {}}),
    ] {
        assert_eq!(sim(&mut azure, Method::POST, "/sim/faults", Some(bad)).status, StatusCode::BAD_REQUEST);
    }
}

#[test]
fn the_log_tells_every_arm_request_and_its_end() {
    let mut azure = Machine::new();
    let path = network("networkSecurityGroups/web-nsg/securityRules/new");
    azure.put(&path, rule(json!({})));
    azure.put(&path, rule(json!({"priority": 1})));
    azure.call_as("mallory", Method::GET, &path, None);
    let log = sim(&mut azure, Method::GET, "/sim/log", None);
    let lines: Vec<(&str, u64, Option<&str>)> = log
        .value()
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            assert_eq!(entry["path"], path);
            assert_eq!(entry["time"], "2026-11-24T12:00:00Z");
            (entry["method"].as_str().unwrap(), entry["status"].as_u64().unwrap(), entry["code"].as_str())
        })
        .collect();
    assert_eq!(
        lines,
        [
            ("PUT", 201, None),
            ("PUT", 400, Some("SecurityRuleInvalidPriority")),
            ("GET", 403, Some("AuthorizationFailed"))
        ]
    );
    let writes = sim(&mut azure, Method::GET, "/sim/writes", None);
    let counts: Vec<&Value> = writes.value().as_object().unwrap().values().collect();
    assert_eq!(counts, [&json!(2)], "two were asked for, of one NSG");
    sim(&mut azure, Method::DELETE, "/sim/log", None);
    assert_eq!(sim(&mut azure, Method::GET, "/sim/log", None).value(), &json!([]));
    assert_eq!(sim(&mut azure, Method::GET, "/sim/writes", None).value(), writes.value(), "counted for ever");
}

#[test]
fn switches_are_turned_one_by_one() {
    let mut azure = Machine::new();
    let answer = sim(
        &mut azure,
        Method::PUT,
        "/sim/switches",
        Some(json!({"asynchronous": true, "overlap": "supersedeAndLose"})),
    );
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.value()["pageSize"], 100, "the others stay");
    assert!(azure.azure.switches().asynchronous);
    let refused = sim(&mut azure, Method::PUT, "/sim/switches", Some(json!({"asynchron": true})));
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.value()["error"]["message"].as_str().unwrap().contains("asynchron"));
}

#[test]
fn the_same_seed_gives_the_same_answers() {
    let run = || {
        let mut azure = Machine::new();
        azure.put(&network("networkSecurityGroups/web-nsg/securityRules/new"), rule(json!({})));
        azure.azure.estate()
    };
    assert_eq!(run(), run());
}
