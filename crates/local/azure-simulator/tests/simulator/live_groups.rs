//! Groups as the real API returned them come through unchanged. Each was chosen because it shows something that the
//! others do not; each line of the data names its source, a public recording.

use std::collections::HashSet;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::machine::Machine;

const LIVE: &str = include_str!("live_groups.jsonl");

/// An estate of the live groups and what their rules refer to, in which `root` may do everything.
fn estate(groups: &[Value]) -> Value {
    let role = "/providers/Microsoft.Authorization/roleDefinitions/owner";
    let mut resources = vec![
        json!({"id": "root", "type": "Microsoft.Graph/users", "name": "root"}),
        json!({"id": role, "name": "owner", "type": "Microsoft.Authorization/roleDefinitions",
               "properties": {"permissions": [{"actions": ["*"]}]}}),
        json!({"id": "/providers/Microsoft.Authorization/roleAssignments/1", "name": "1",
               "type": "Microsoft.Authorization/roleAssignments",
               "properties": {"principalId": "root", "roleDefinitionId": role, "scope": "/"}}),
    ];
    let mut known = HashSet::new();
    for group in groups {
        for rule in group["properties"]["securityRules"].as_array().unwrap() {
            for side in ["sourceApplicationSecurityGroups", "destinationApplicationSecurityGroups"] {
                for reference in rule["properties"][side].as_array().into_iter().flatten() {
                    let id = reference["id"].as_str().unwrap();
                    if known.insert(id.to_lowercase()) {
                        resources.push(json!({"id": id, "name": "x", "location": "x", "properties": {},
                                              "type": "Microsoft.Network/applicationSecurityGroups"}));
                    }
                }
            }
        }
    }
    resources.extend(groups.iter().cloned());
    Value::Array(resources)
}

fn properties(group: &Value, list: &str) -> Vec<Value> {
    group["properties"][list].as_array().unwrap().iter().map(|rule| rule["properties"].clone()).collect()
}

#[test]
fn live_groups_are_read_and_written_back_as_they_are() {
    let mut seen = HashSet::new();
    let groups: Vec<Value> = LIVE
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["nsg"].clone())
        .filter(|group| seen.insert(group["id"].as_str().unwrap().to_lowercase()))
        .collect();
    assert!(groups.len() >= 10);
    let mut azure = Machine::of(&estate(&groups).to_string());
    for group in &groups {
        let id = group["id"].as_str().unwrap();
        let shown = azure.call_as("root", Method::GET, id, None);
        assert_eq!(properties(shown.value(), "securityRules"), properties(group, "securityRules"), "{id}");
        let written = azure.call_as("root", Method::PUT, id, Some(group.clone()));
        assert_eq!(written.status, StatusCode::OK, "{id}: {:?}", written.value());
        assert_eq!(properties(written.value(), "securityRules"), properties(group, "securityRules"), "{id}");
        // A new group gets the default rules that the real API gave this one.
        let new = azure.call_as("root", Method::PUT, &format!("{id}-copy"), Some(group.clone()));
        assert_eq!(new.status, StatusCode::CREATED, "{id}");
        let defaults = "defaultSecurityRules";
        assert_eq!(properties(new.value(), defaults), properties(group, defaults), "{id}");
    }
}
