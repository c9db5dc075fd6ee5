//! Reading and writing resources: shapes, case, back-references, etags.

use azure_simulator::Request;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::machine::{APP, GROUP, Machine, SUBSCRIPTION, machine, network, rule};

#[test]
fn ids_compare_in_any_case_and_come_back_as_stored() {
    let mut azure = Machine::new();
    let stored = network("networkSecurityGroups/web-nsg");
    let shouted = stored.to_uppercase().replace("/SUBSCRIPTIONS", "/Subscriptions");
    let found = azure.get(&shouted);
    assert_eq!(found.status, StatusCode::OK);
    assert_eq!(found.value()["id"], stored);
}

#[test]
fn a_group_shows_what_azure_always_shows() {
    let mut azure = Machine::new();
    let group = azure.get(&network("networkSecurityGroups/web-nsg")).value().clone();
    assert!(group["etag"].as_str().unwrap().starts_with("W/\""));
    assert_eq!(group["properties"]["provisioningState"], "Succeeded");
    let defaults: Vec<(&str, u64)> = group["properties"]["defaultSecurityRules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["name"].as_str().unwrap(), rule["properties"]["priority"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        defaults,
        [
            ("AllowVnetInBound", 65000),
            ("AllowAzureLoadBalancerInBound", 65001),
            ("DenyAllInBound", 65500),
            ("AllowVnetOutBound", 65000),
            ("AllowInternetOutBound", 65001),
            ("DenyAllOutBound", 65500)
        ]
    );
    let first = &group["properties"]["securityRules"][0];
    assert_eq!(first["id"], network("networkSecurityGroups/web-nsg/securityRules/AllowSSH"));
    assert_eq!(first["properties"]["sourceAddressPrefixes"], json!([]), "the unused list is shown empty");
}

#[test]
fn references_are_shown_on_the_other_side_too() {
    let mut azure = Machine::new();
    let ids = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let group = azure.get(&network("networkSecurityGroups/web-nsg")).value().clone();
    assert_eq!(
        ids(&group["properties"]["networkInterfaces"]),
        [network("networkInterfaces/web-1-nic"), network("networkInterfaces/web-2-nic")]
    );
    assert_eq!(group["properties"].get("subnets"), None, "no subnet uses it: the property is absent");
    let group = azure.get(&network("networkSecurityGroups/db-subnet-nsg")).value().clone();
    assert_eq!(ids(&group["properties"]["subnets"]), [network("virtualNetworks/demo-vnet/subnets/db")]);
    let interface = azure.get(&network("networkInterfaces/web-1-nic")).value().clone();
    assert_eq!(interface["properties"]["virtualMachine"]["id"], machine("web-1"));
    let subnet = azure.get(&network("virtualNetworks/demo-vnet/subnets/db")).value().clone();
    assert_eq!(
        ids(&subnet["properties"]["ipConfigurations"]),
        [network("networkInterfaces/db-1-nic/ipConfigurations/ipconfig1")]
    );
    let address = azure.get(&network("publicIPAddresses/web-1-ip")).value().clone();
    let configuration = network("networkInterfaces/web-1-nic/ipConfigurations/ipconfig1");
    assert_eq!(address["properties"]["ipConfiguration"]["id"], configuration);
}

#[test]
fn a_written_group_keeps_what_nobody_knows_and_drops_what_callers_cannot_set() {
    let mut azure = Machine::new();
    let path = network("networkSecurityGroups/web-nsg");
    let mut group = azure.get(&path).value().clone();
    group["tags"] = json!({"team": "web"});
    group["properties"]["futureSetting"] = json!({"depth": [1, 2]});
    group["properties"]["networkInterfaces"] = json!([{"id": "/made/up"}]);
    group["properties"]["defaultSecurityRules"] = json!([]);
    group["properties"]["securityRules"][0]["properties"]["futureRuleSetting"] = json!("kept");
    let answer = azure.put(&path, group);
    assert_eq!(answer.status, StatusCode::OK);
    let group = azure.get(&path).value().clone();
    assert_eq!(group["tags"]["team"], "web");
    assert_eq!(group["properties"]["futureSetting"]["depth"], json!([1, 2]));
    assert_eq!(group["properties"]["securityRules"][0]["properties"]["futureRuleSetting"], "kept");
    assert_eq!(group["properties"]["networkInterfaces"].as_array().unwrap().len(), 2);
    assert_eq!(group["properties"]["defaultSecurityRules"].as_array().unwrap().len(), 6);
}

#[test]
fn rules_are_written_read_and_deleted_one_by_one() {
    let mut azure = Machine::new();
    let path = network("networkSecurityGroups/web-nsg/securityRules/ajar-test");
    assert_eq!(azure.get(&path).status, StatusCode::NOT_FOUND);
    let created = azure.put(&path, rule(json!({})));
    assert_eq!(created.status, StatusCode::CREATED);
    assert!(created.headers.contains_key("azure-asyncoperation"));
    assert_eq!(created.value()["name"], "ajar-test");
    assert_eq!(
        azure
            .put(
                &path.to_uppercase().replace("/SUBSCRIPTIONS", "/subscriptions"),
                rule(json!({"priority": 1001}))
            )
            .status,
        StatusCode::OK
    );
    let shown = azure.get(&path).value().clone();
    assert_eq!(
        (shown["name"].as_str().unwrap(), &shown["properties"]["priority"]),
        ("ajar-test", &json!(1001))
    );
    let group = azure.get(&network("networkSecurityGroups/web-nsg")).value().clone();
    assert_eq!(group["properties"]["securityRules"].as_array().unwrap().len(), 3, "the others are untouched");
    let deleted = azure.delete(&path);
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    assert!(deleted.headers.contains_key("location"));
    assert_eq!(azure.get(&path).status, StatusCode::NOT_FOUND);
    assert_eq!(azure.delete(&path).status, StatusCode::NO_CONTENT);
}

#[test]
fn every_write_changes_the_etag_of_group_and_rules() {
    let mut azure = Machine::new();
    let group = network("networkSecurityGroups/web-nsg");
    let before = azure.get(&group).value()["etag"].clone();
    azure.put(&format!("{group}/securityRules/ajar-test"), rule(json!({})));
    let after = azure.get(&group).value().clone();
    assert_ne!(after["etag"], before);
    assert!(
        after["properties"]["securityRules"]
            .as_array()
            .unwrap()
            .iter()
            .all(|rule| rule["etag"] == after["etag"])
    );
}

fn put_with_etag(azure: &mut Machine, path: &str, body: &Value, etag: &str) -> azure_simulator::Response {
    let request = Request::new(Method::PUT, &format!("{path}?api-version=2024-05-01"));
    let request = request.with_json(body).with_header("If-Match", etag);
    azure.azure.handle_as(APP, &request).answer().unwrap()
}

#[test]
fn if_match_guards_whole_groups_only() {
    let mut azure = Machine::new();
    let path = network("networkSecurityGroups/web-nsg");
    let group = azure.get(&path).value().clone();
    let stale = group["etag"].as_str().unwrap().to_owned();
    assert_eq!(put_with_etag(&mut azure, &path, &group, &stale).status, StatusCode::OK);
    let refused = put_with_etag(&mut azure, &path, &group, &stale);
    assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(refused.error_code(), Some("PreconditionFailed"));
    assert_eq!(refused.value()["error"]["details"][0]["code"], "PreconditionFailedEtagMismatch");
    assert_eq!(put_with_etag(&mut azure, &path, &group, "*").status, StatusCode::OK);
    let single = format!("{path}/securityRules/ajar-test");
    let answer = put_with_etag(&mut azure, &single, &rule(json!({})), &stale);
    assert_eq!(answer.status, StatusCode::CREATED, "on a single rule the header has no effect");
    azure.azure.switches_mut().honour_if_match = false;
    assert_eq!(put_with_etag(&mut azure, &path, &group, &stale).status, StatusCode::OK);
}

#[test]
fn what_is_missing_is_missing_in_azures_words() {
    let mut azure = Machine::new();
    let code = |azure: &mut Machine, path: &str| {
        let answer = azure.call_as("carol", Method::GET, path, None);
        (answer.status.as_u16(), answer.error_code().map(str::to_owned))
    };
    let missing = |code: &str| (404, Some(code.to_owned()));
    assert_eq!(code(&mut azure, &network("networkSecurityGroups/none")), missing("ResourceNotFound"));
    assert_eq!(
        code(&mut azure, &network("networkSecurityGroups/web-nsg/securityRules/none")),
        missing("NotFound")
    );
    let group =
        format!("{SUBSCRIPTION}/resourceGroups/none/providers/Microsoft.Network/networkSecurityGroups");
    assert_eq!(code(&mut azure, &group), missing("ResourceGroupNotFound"));
    assert_eq!(
        azure.put(&network("networkSecurityGroups/none/securityRules/r"), rule(json!({}))).error_code(),
        Some("ParentResourceNotFound")
    );
}

#[test]
fn what_is_not_modelled_says_so_loudly() {
    let mut azure = Machine::new();
    for (method, path) in [
        (Method::GET, format!("{GROUP}/providers/Microsoft.Storage/storageAccounts")),
        (Method::PATCH, network("networkSecurityGroups/web-nsg")),
        (Method::PUT, network("azureFirewalls/demo-fw")),
        (Method::POST, network("networkInterfaces/web-1-nic/effectiveNetworkSecurityGroups")),
        (Method::POST, "/providers/Microsoft.ResourceGraph/resources".to_owned()),
        (Method::GET, format!("{}?$expand=instanceView", machine("web-1"))),
    ] {
        let answer = azure.call(method.clone(), &path, Some(json!({})));
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED, "{method} {path}");
        let message = answer.value()["error"]["message"].as_str().unwrap();
        assert!(
            message.contains(method.as_str()) && message.contains(path.split('?').next().unwrap()),
            "{message}"
        );
    }
}

#[test]
fn an_api_version_is_required() {
    let mut azure = Machine::new();
    let answer = azure.azure.handle_as(APP, &Request::new(Method::GET, &machine("web-1"))).answer().unwrap();
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.error_code(), Some("MissingApiVersionParameter"));
}

/// An estate in which `root` may do everything.
fn owned() -> Machine {
    let mut estate: Value = serde_json::from_str(crate::machine::SAMPLE).unwrap();
    let resources = estate.as_array_mut().unwrap();
    resources.push(json!({"id": "a0000000-0000-4000-8000-000000000099", "type": "Microsoft.Graph/users", "name": "root"}));
    let name = "d0000000-0000-4000-8000-000000000099";
    resources.push(json!({
        "id": format!("{SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments/{name}"),
        "type": "Microsoft.Authorization/roleAssignments", "name": name,
        "properties": {
            "roleDefinitionId": "/providers/Microsoft.Authorization/roleDefinitions/8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
            "principalId": "a0000000-0000-4000-8000-000000000099", "scope": SUBSCRIPTION,
        },
    }));
    Machine::of(&estate.to_string())
}

#[test]
fn a_machine_can_be_built_from_nothing_and_taken_down_again() {
    let mut azure = owned();
    let mut put = |path: &str, body: Value| azure.call_as("root", Method::PUT, path, Some(body));
    let subnet = network("virtualNetworks/demo-vnet/subnets/new");
    let (address, interface) = (network("publicIPAddresses/new-ip"), network("networkInterfaces/new-nic"));
    let group = network("networkSecurityGroups/new-nsg");
    assert_eq!(put(&group, json!({"location": "westeurope"})).status, StatusCode::CREATED);
    let outside = put(&subnet, json!({"properties": {"addressPrefix": "192.168.0.0/24"}}));
    assert_eq!(outside.error_code(), Some("NetcfgSubnetRangeOutsideVnet"));
    let body = json!({"properties": {"addressPrefix": "10.0.9.0/24", "networkSecurityGroup": {"id": group}}});
    assert_eq!(put(&subnet, body).status, StatusCode::CREATED);
    let given = put(&address, json!({"location": "westeurope", "properties": {}}));
    assert!(given.value()["properties"]["ipAddress"].is_string());
    let configuration = |subnet: &str| {
        json!({"location": "westeurope", "properties": {"ipConfigurations": [{"name": "one", "properties": {
            "subnet": {"id": subnet}, "publicIPAddress": {"id": address}}}]}})
    };
    let dangling = put(&interface, configuration(&network("virtualNetworks/demo-vnet/subnets/none")));
    assert_eq!(dangling.error_code(), Some("InvalidResourceReference"));
    let created = put(&interface, configuration(&subnet));
    assert_eq!(
        created.value()["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"],
        "10.0.9.4"
    );
    let body = json!({"location": "westeurope", "properties": {"networkProfile": {"networkInterfaces": [{"id": interface}]}}});
    assert_eq!(put(&machine("new"), body).status, StatusCode::CREATED);

    let mut delete = |path: &str| azure.call_as("root", Method::DELETE, path, None);
    for (path, code) in [
        (&group, "InUseNetworkSecurityGroupCannotBeDeleted"),
        (&interface, "NicInUse"),
        (&subnet, "InUseSubnetCannotBeDeleted"),
        (&address, "PublicIPAddressCannotBeDeleted"),
    ] {
        assert_eq!(delete(path).error_code(), Some(code));
    }
    for path in [&machine("new"), &interface, &address, &subnet, &group] {
        assert_eq!(delete(path).status, StatusCode::ACCEPTED, "{path}");
    }
    assert_eq!(azure.get(&machine("new")).status, StatusCode::NOT_FOUND);
}

#[test]
fn the_estate_is_saved_and_loaded_whole() {
    let mut azure = Machine::new();
    azure.put(&network("networkSecurityGroups/web-nsg/securityRules/ajar-test"), rule(json!({})));
    let saved = azure.azure.estate();
    let mut again = Machine::of(&saved.to_string());
    assert_eq!(again.azure.estate(), saved);
    assert_eq!(again.probe("203.0.113.7", &machine("web-1"), 22, "Tcp").1, ["AllowSSH"]);
}

#[test]
fn a_bad_estate_is_refused_by_name() {
    let load = |text: &str| {
        azure_simulator::Simulator::new(text, std::sync::Arc::new(azure_simulator::SystemClock), 1)
            .err()
            .unwrap()
            .to_string()
    };
    assert!(load("{}").contains("array"));
    assert!(
        load(r#"[{"id": "/x", "type": "t"}]"#).contains("resource 0 of the estate needs a string `name`")
    );
    let vm = json!({"id": "/subscriptions/s/virtualMachines/x", "type": "Microsoft.Compute/virtualMachines", "name": "x"});
    assert!(load(&json!([vm]).to_string()).contains("/subscriptions/s/virtualMachines/x"));
    let user = json!({"id": "1", "type": "Microsoft.Graph/users", "name": "x"});
    assert!(load(&json!([user, user]).to_string()).contains("twice"));
}

#[test]
fn changes_are_told_once() {
    let mut azure = Machine::new();
    let path = network("networkSecurityGroups/web-nsg/securityRules/ajar-test");
    azure.put(&path, rule(json!({})));
    azure.put(&path, rule(json!({"priority": 99})));
    azure.delete(&path);
    let changes: Vec<(String, &str)> =
        azure.azure.take_changes().into_iter().map(|change| (change.resource, change.event_type)).collect();
    assert_eq!(
        changes,
        [
            (path.clone(), "Microsoft.Resources.ResourceWriteSuccess"),
            (path, "Microsoft.Resources.ResourceDeleteSuccess")
        ]
    );
    assert!(azure.azure.take_changes().is_empty());
}

#[test]
fn events_say_who_did_what_and_come_late_doubled_and_out_of_order_by_seed() {
    let run = |delay_ms: u64, doubled: f64| {
        let mut azure = Machine::new();
        azure.azure.switches_mut().event_delay_ms = delay_ms;
        azure.azure.switches_mut().event_doubled_probability = doubled;
        for priority in 1000..1020 {
            let path = network(&format!("networkSecurityGroups/web-nsg/securityRules/r{priority}"));
            let body = rule(json!({ "priority": priority }));
            assert_eq!(azure.call_as("dave", Method::PUT, &path, Some(body)).status, StatusCode::CREATED);
        }
        let at_once = azure.azure.take_events();
        azure.clock.advance(std::time::Duration::from_millis(delay_ms));
        let later = azure.azure.take_events();
        (at_once, later)
    };
    let (events, rest) = run(0, 0.0);
    assert_eq!((events.len(), rest.len()), (20, 0));
    let first = &events[0];
    assert_eq!(first["eventType"], "Microsoft.Resources.ResourceWriteSuccess");
    assert_eq!(first["subject"], json!(network("networkSecurityGroups/web-nsg/securityRules/r1000")));
    assert_eq!(first["data"]["operationName"], "Microsoft.Network/networkSecurityGroups/securityRules/write");
    let claims = &first["data"]["claims"];
    assert_eq!(claims["http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn"], "dave@contoso.example");
    assert_eq!(
        claims["http://schemas.microsoft.com/identity/claims/objectidentifier"],
        first["data"]["authorization"]["evidence"]["principalId"]
    );

    let subjects =
        |events: &[Value]| events.iter().map(|event| event["subject"].to_string()).collect::<Vec<_>>();
    let (at_once, late) = run(60_000, 1.0);
    assert!(at_once.len() < 5, "hardly any is delivered at once");
    let all = [at_once, late].concat();
    assert_eq!(all.len(), 40, "each comes twice");
    let mut sorted = subjects(&all);
    sorted.sort();
    assert_ne!(subjects(&all), sorted, "out of order");
    sorted.dedup();
    assert_eq!(sorted.len(), 20);
    let (again, rest) = run(60_000, 1.0);
    assert_eq!([again, rest].concat(), all, "the seed decides");
}

#[test]
fn writes_are_counted_by_resource_whatever_the_log_forgets() {
    let mut azure = Machine::new();
    let group = network("networkSecurityGroups/web-nsg");
    for number in 0..3 {
        let body = rule(json!({ "priority": 1000 + number }));
        assert_eq!(azure.put(&format!("{group}/securityRules/r{number}"), body).status, StatusCode::CREATED);
    }
    azure.delete(&format!(
        "{}/securityRules/r0",
        group.to_uppercase().replace("/SUBSCRIPTIONS", "/subscriptions")
    ));
    for _ in 0..10_001 {
        azure.get(&group);
    }
    assert!(azure.azure.log().all(|entry| entry.method == "GET"), "the log has forgotten the writes");
    let counted: Vec<(&str, u64)> =
        azure.azure.writes().iter().map(|(id, count)| (id.as_str(), *count)).collect();
    assert_eq!(counted, [(group.to_lowercase().as_str(), 4)]);
}
