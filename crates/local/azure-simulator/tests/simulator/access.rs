//! Who may do what: scopes, inheritance, groups in groups, deny assignments, linked access.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::machine::{GROUP, Machine, SAMPLE, SUBSCRIPTION, machine, network, rule};

const BOB: &str = "a0000000-0000-4000-8000-000000000002";
const ON_CALL: &str = "a0000000-0000-4000-8000-000000000011";
const OPERATORS: &str = "a0000000-0000-4000-8000-000000000012";
const IDENTITY: &str = "a0000000-0000-4000-8000-000000000021";

fn status(azure: &mut Machine, who: &str, method: Method, path: &str) -> u16 {
    azure.call_as(who, method, path, Some(rule(json!({})))).status.as_u16()
}

#[test]
fn everybody_may_what_their_roles_say_and_no_more() {
    let mut azure = Machine::new();
    let (group, ssh) = (
        network("networkSecurityGroups/web-nsg"),
        network("networkSecurityGroups/web-nsg/securityRules/new"),
    );
    for (who, method, path, expected) in [
        ("ajar-identity", Method::GET, &group, 200),
        ("ajar-identity", Method::PUT, &ssh, 201),
        ("ajar-identity", Method::DELETE, &group, 403),
        ("ajar-identity", Method::PUT, &machine("web-1"), 403),
        ("alice", Method::GET, &group, 200),
        ("alice", Method::PUT, &ssh, 403),
        ("bob", Method::GET, &machine("web-1"), 200),
        ("bob", Method::GET, &group, 403),
        ("bob", Method::GET, &network("networkInterfaces/web-1-nic"), 403),
        ("bob", Method::GET, &network("networkInterfaces/web-1-nic/ipConfigurations/ipconfig1"), 200),
        ("carol", Method::GET, &group, 200),
        ("carol", Method::PUT, &ssh, 403),
        ("dave", Method::PUT, &ssh, 200),
        (
            "dave",
            Method::DELETE,
            &format!("{GROUP}/providers/Microsoft.Authorization/roleAssignments/x"),
            403,
        ),
        ("mallory", Method::GET, &machine("web-1"), 403),
    ] {
        assert_eq!(status(&mut azure, who, method.clone(), path), expected, "{who} {method} {path}");
    }
}

#[test]
fn a_refusal_names_client_action_and_scope() {
    let mut azure = Machine::new();
    let answer = azure.call_as("mallory", Method::GET, &machine("web-1"), None);
    assert_eq!(answer.error_code(), Some("AuthorizationFailed"));
    let message = answer.value()["error"]["message"].as_str().unwrap();
    for part in ["mallory@contoso.example", "Microsoft.Compute/virtualMachines/read", &machine("web-1")] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn who_may_not_even_read_does_not_learn_what_exists() {
    let mut azure = Machine::new();
    assert_eq!(status(&mut azure, "mallory", Method::GET, &machine("none")), 403);
}

fn assignments(azure: &mut Machine, scope: &str, filter: &str) -> Vec<(String, String)> {
    let filter = filter.replace(' ', "%20");
    let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments?$filter={filter}");
    let answer = azure.get(&path);
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.value());
    let text = |value: &Value, name: &str| value["properties"][name].as_str().unwrap().to_owned();
    let list = answer.value()["value"].as_array().unwrap().clone();
    list.iter().map(|one| (text(one, "principalId"), text(one, "scope"))).collect()
}

#[test]
fn assignments_reach_a_person_through_groups_in_groups_and_from_scopes_above() {
    let mut azure = Machine::new();
    let filter = format!("atScope() and assignedTo('{BOB}')");
    let found = assignments(&mut azure, &machine("web-1"), &filter);
    assert_eq!(found, [(OPERATORS.to_owned(), GROUP.to_owned())]);
    assert!(
        assignments(&mut azure, SUBSCRIPTION, &filter).is_empty(),
        "nothing at or above the subscription"
    );
    let below = assignments(&mut azure, SUBSCRIPTION, &format!("assignedTo('{BOB}')"));
    assert_eq!(below.len(), 1, "without atScope(), what lies below counts");
    let direct = assignments(&mut azure, &machine("web-1"), &format!("principalId eq '{BOB}'"));
    assert!(direct.is_empty(), "principalId eq asks for the principal alone");
    let group = assignments(&mut azure, &machine("web-1"), &format!("principalId eq '{OPERATORS}'"));
    assert_eq!(group.len(), 1);
    let identity =
        assignments(&mut azure, &machine("web-1"), &format!("atScope() and assignedTo('{IDENTITY}')"));
    assert_eq!(identity, [(IDENTITY.to_owned(), SUBSCRIPTION.to_owned())]);
}

#[test]
fn an_unknown_filter_is_not_guessed_at() {
    let mut azure = Machine::new();
    let path =
        format!("{GROUP}/providers/Microsoft.Authorization/roleAssignments?$filter=canDelegate%20eq%20true");
    assert_eq!(azure.get(&path).status, StatusCode::NOT_IMPLEMENTED);
}

#[test]
fn role_definitions_are_found_by_id_and_by_name() {
    let mut azure = Machine::new();
    let reader = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
    for scope in ["", SUBSCRIPTION, GROUP] {
        let path = format!("{scope}/providers/Microsoft.Authorization/roleDefinitions/{reader}");
        // At the root the identity, whose role begins at the subscription, may read nothing.
        let expected = if scope.is_empty() { StatusCode::FORBIDDEN } else { StatusCode::OK };
        let answer = azure.get(&path);
        assert_eq!(answer.status, expected, "{path}");
        if expected == StatusCode::OK {
            assert_eq!(answer.value()["properties"]["permissions"][0]["actions"], json!(["*/read"]));
        }
    }
    let path = format!(
        "{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions?$filter=roleName%20eq%20'Security%20Admin'"
    );
    let found = azure.get(&path).value()["value"].as_array().unwrap().clone();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["name"], "fb1c8493-542b-48eb-b624-b4c8fea62acd");
}

#[test]
fn not_actions_take_away_and_other_roles_give_back() {
    let mut estate: Value = serde_json::from_str(SAMPLE).unwrap();
    let role = json!({
        "id": "/providers/Microsoft.Authorization/roleDefinitions/narrow", "name": "narrow",
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {"permissions": [{"actions": ["Microsoft.Compute/*"], "notActions": ["*/virtualMachines/read"]}]},
    });
    let assignment = |name: &str, definition: &str| {
        json!({
            "id": format!("{GROUP}/providers/Microsoft.Authorization/roleAssignments/{name}"), "name": name,
            "type": "Microsoft.Authorization/roleAssignments",
            "properties": {"principalId": "a0000000-0000-4000-8000-000000000004", "roleDefinitionId": definition},
        })
    };
    let list = estate.as_array_mut().unwrap();
    list.push(role);
    list.push(assignment("one", "/providers/Microsoft.Authorization/roleDefinitions/narrow"));
    let mut azure = Machine::of(&estate.to_string());
    assert_eq!(status(&mut azure, "mallory", Method::GET, &machine("web-1")), 403);
    let list = estate.as_array_mut().unwrap();
    list.push(assignment(
        "two",
        "/x/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7",
    ));
    let mut azure = Machine::of(&estate.to_string());
    assert_eq!(
        status(&mut azure, "mallory", Method::GET, &machine("web-1")),
        200,
        "another role's grant counts"
    );
}

#[test]
fn a_deny_assignment_outweighs_roles_except_for_the_excluded() {
    let mut estate: Value = serde_json::from_str(SAMPLE).unwrap();
    estate.as_array_mut().unwrap().push(json!({
        "id": format!("{GROUP}/providers/Microsoft.Authorization/denyAssignments/lock"), "name": "lock",
        "type": "Microsoft.Authorization/denyAssignments",
        "properties": {
            "permissions": [{"actions": ["Microsoft.Compute/virtualMachines/read"]}], "scope": GROUP,
            "principals": [{"id": "00000000-0000-0000-0000-000000000000", "type": "SystemDefined"}],
            "excludePrincipals": [{"id": ON_CALL, "type": "Group"}],
        },
    }));
    let mut azure = Machine::of(&estate.to_string());
    assert_eq!(status(&mut azure, "carol", Method::GET, &machine("web-1")), 403);
    assert_eq!(status(&mut azure, "carol", Method::GET, &network("networkSecurityGroups/web-nsg")), 200);
    assert_eq!(status(&mut azure, "bob", Method::GET, &machine("web-1")), 200, "excluded through a group");
    let path =
        format!("{}/providers/Microsoft.Authorization/denyAssignments?$filter=atScope()", machine("web-1"));
    let listed = azure.get(&path).value()["value"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 1);
}

#[test]
fn an_assignment_can_be_taken_away_while_running() {
    let mut estate: Value = serde_json::from_str(SAMPLE).unwrap();
    estate.as_array_mut().unwrap().push(json!({
        "id": format!("{SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments/owner"), "name": "owner",
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {"principalId": "a0000000-0000-4000-8000-000000000003",
                       "roleDefinitionId": "/x/8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "scope": SUBSCRIPTION},
    }));
    let mut azure = Machine::of(&estate.to_string());
    let path = format!(
        "{GROUP}/providers/Microsoft.Authorization/roleAssignments/d0000000-0000-4000-8000-000000000003"
    );
    assert_eq!(status(&mut azure, "bob", Method::GET, &machine("web-1")), 200);
    assert_eq!(azure.call_as("bob", Method::DELETE, &path, None).status, StatusCode::FORBIDDEN);
    assert_eq!(azure.call_as("carol", Method::DELETE, &path, None).status, StatusCode::OK);
    assert_eq!(status(&mut azure, "bob", Method::GET, &machine("web-1")), 403);
    let body = json!({"properties": {"principalId": BOB, "principalType": "User",
        "roleDefinitionId": format!("{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7")}});
    let path = format!("{}/providers/Microsoft.Authorization/roleAssignments/fresh", machine("web-1"));
    assert_eq!(azure.call_as("carol", Method::PUT, &path, Some(body)).status, StatusCode::CREATED);
    assert_eq!(status(&mut azure, "bob", Method::GET, &machine("web-1")), 200);
    assert_eq!(status(&mut azure, "bob", Method::GET, &machine("web-2")), 403, "at this machine only");
}

#[test]
fn lists_show_what_the_caller_may_read() {
    let mut azure = Machine::new();
    let count = |azure: &mut Machine, who: &str, path: &str| {
        let answer = azure.call_as(who, Method::GET, path, None);
        answer.value()["value"].as_array().map(Vec::len).ok_or(answer.status.as_u16())
    };
    let machines = "providers/Microsoft.Compute/virtualMachines";
    assert_eq!(count(&mut azure, "ajar-identity", &format!("{SUBSCRIPTION}/{machines}")), Ok(11));
    assert_eq!(
        count(&mut azure, "bob", &format!("{SUBSCRIPTION}/{machines}")),
        Ok(11),
        "all are in his group"
    );
    assert_eq!(
        count(&mut azure, "bob", &format!("{SUBSCRIPTION}/providers/Microsoft.Network/routeTables")),
        Ok(0)
    );
    assert_eq!(count(&mut azure, "mallory", &format!("{SUBSCRIPTION}/{machines}")), Err(403));
    assert_eq!(count(&mut azure, "mallory", "/subscriptions"), Ok(0));
    assert_eq!(count(&mut azure, "ajar-identity", "/subscriptions"), Ok(1));
    assert_eq!(count(&mut azure, "ajar-identity", &format!("{SUBSCRIPTION}/resourceGroups")), Ok(1));
    let one = azure.get(SUBSCRIPTION);
    assert_eq!(one.value()["subscriptionId"], "11111111-1111-1111-1111-111111111111");
}

#[test]
fn naming_an_application_group_in_a_rule_takes_the_right_to_join_it() {
    let mut estate: Value = serde_json::from_str(SAMPLE).unwrap();
    let asg = network("applicationSecurityGroups/servers");
    let list = estate.as_array_mut().unwrap();
    list.push(json!({"id": asg, "type": "Microsoft.Network/applicationSecurityGroups", "name": "servers",
                     "location": "westeurope", "properties": {}}));
    let body = || {
        rule(json!({"destinationAddressPrefix": null, "destinationApplicationSecurityGroups": [{"id": asg}]}))
    };
    let path = network("networkSecurityGroups/web-nsg/securityRules/new");
    assert_eq!(Machine::of(&estate.to_string()).put(&path, body()).status, StatusCode::CREATED);
    for resource in estate.as_array_mut().unwrap() {
        if let Some(actions) = resource.pointer_mut("/properties/permissions/0/actions") {
            let kept = |action: &&Value| !action.as_str().unwrap().contains("joinNetworkSecurityRule");
            *actions = actions.as_array().unwrap().iter().filter(kept).cloned().collect();
        }
    }
    let refused = Machine::of(&estate.to_string()).put(&path, body());
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(refused.error_code(), Some("LinkedAuthorizationFailed"));
}
