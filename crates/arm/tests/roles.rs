//! Role assignments and definitions: what is asked, and what is read from the answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod stub;

use ajar_access::ports::azure::{Azure, AzureError};
use serde_json::json;
use stub::{GROUP, error, fixture, reply};

const PRINCIPAL: &str = "AAAAAAAA-0000-0000-0000-000000000001";

#[tokio::test]
async fn assignments_at_and_above_the_scope_are_asked_for_groups_included() {
    let f = fixture().await;
    let base = f.stub.base.clone();
    f.stub.answers(move |seen| {
        let assignment = |role: &str, condition: Option<&str>| {
            json!({ "id": "x", "properties": {
                "roleDefinitionId": role, "scope": "/subscriptions/s1", "principalId": "p", "condition": condition,
            }})
        };
        if seen.query.contains("page=2") {
            reply(200, json!({ "value": [assignment("role-2", Some("@Resource[x]"))] }))
        } else {
            reply(200, json!({
                "value": [assignment("role-1", None)], "nextLink": format!("{base}/more?page=2"),
            }))
        }
    });
    let scope = format!("{GROUP}/Microsoft.Compute/virtualMachines/web");
    let found = f.azure.role_assignments(&scope, PRINCIPAL).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].role_definition_id.as_str(), found[0].scope.as_str()),
        ("role-1", "/subscriptions/s1")
    );
    assert_eq!(found[0].condition, None);
    assert_eq!(found[1].condition.as_deref(), Some("@Resource[x]"));

    let seen = &f.stub.seen()[0];
    assert_eq!(seen.path, format!("{scope}/providers/Microsoft.Authorization/roleAssignments"));
    assert_eq!(
        seen.query,
        "$filter=atScope()%20and%20assignedTo(%27aaaaaaaa-0000-0000-0000-000000000001%27)&api-version=2022-04-01"
    );
}

#[tokio::test]
async fn nothing_but_a_guid_gets_into_the_filter_and_nothing_but_a_path_into_the_address() {
    let f = fixture().await;
    for principal in ["", "alice", "x') or atScope('", "aaaaaaaa-0000-0000-0000-00000000000'"] {
        assert!(f.azure.role_assignments("/subscriptions/s1", principal).await.is_err(), "{principal}");
    }
    for scope in ["subscriptions/s1", "/subscriptions/s1?x", "/subscriptions/../x", "//evil.example"] {
        assert!(f.azure.role_assignments(scope, PRINCIPAL).await.is_err(), "{scope}");
    }
    assert_eq!(f.stub.seen().len(), 0);
}

#[tokio::test]
async fn an_assignment_that_cannot_be_read_is_an_error() {
    let f = fixture().await;
    f.stub.answers(|_| reply(200, json!({ "value": [{ "id": "x" }] })));
    assert!(f.azure.role_assignments("/subscriptions/s1", PRINCIPAL).await.is_err());
}

#[tokio::test]
async fn a_role_definition_gives_its_permissions() {
    let f = fixture().await;
    f.stub.answers(|_| {
        reply(200, json!({ "properties": { "roleName": "r", "permissions": [
            { "actions": ["*/read"], "notActions": ["a/b/read"], "dataActions": ["c"], "condition": null },
        ]}}))
    });
    for id in [
        "/subscriptions/s1/providers/Microsoft.Authorization/roleDefinitions/r1",
        "/providers/Microsoft.Authorization/roleDefinitions/r1",
    ] {
        let found = f.azure.role_permissions(id).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].actions, ["*/read"]);
        assert_eq!(found[0].not_actions, ["a/b/read"]);
        assert_eq!(f.stub.seen().last().unwrap().path, id);
    }
    f.stub.answers(|_| error(404, "RoleDefinitionDoesNotExist"));
    let gone = f.azure.role_permissions("/providers/Microsoft.Authorization/roleDefinitions/r2").await;
    assert!(matches!(gone, Err(AzureError::NotFound(_))));
    assert!(f.azure.role_permissions("/subscriptions/s1").await.is_err());
}

fn denial(principals: serde_json::Value) -> serde_json::Value {
    json!({ "id": "/subscriptions/s1/providers/Microsoft.Authorization/denyAssignments/d1", "name": "d1",
    "type": "Microsoft.Authorization/denyAssignments", "properties": {
        "denyAssignmentName": "stack", "description": null, "scope": "/subscriptions/s1",
        "permissions": [{ "actions": ["*/write"], "notActions": ["a/b/write"], "dataActions": [],
            "notDataActions": [], "condition": null, "conditionVersion": null }],
        "doNotApplyToChildScopes": true, "isSystemProtected": true, "principals": principals,
        "excludePrincipals": [{ "id": "e1", "type": "ServicePrincipal" }],
    }})
}

#[tokio::test]
async fn deny_assignments_are_read_all_of_them_or_those_of_one_principal() {
    let f = fixture().await;
    f.stub.answers(|_| {
        let everybody = json!([{ "id": "00000000-0000-0000-0000-000000000000", "type": "SystemDefined" }]);
        reply(200, json!({ "value": [denial(everybody)] }))
    });
    let found = f.azure.deny_assignments("/subscriptions/s1", None).await.unwrap();
    let [denial] = &found[..] else { panic!("{found:?}") };
    assert!(denial.id.ends_with("/denyAssignments/d1"));
    assert_eq!((denial.name.as_str(), denial.scope.as_str()), ("stack", "/subscriptions/s1"));
    assert_eq!(denial.permissions[0].actions, ["*/write"]);
    assert_eq!(denial.permissions[0].not_actions, ["a/b/write"]);
    assert!(denial.do_not_apply_to_child_scopes);
    assert_eq!(
        (denial.principals[0].kind.as_str(), denial.exclude_principals[0].id.as_str()),
        ("SystemDefined", "e1")
    );
    assert_eq!(denial.condition, None);

    f.azure.deny_assignments("/subscriptions/s1", Some(PRINCIPAL)).await.unwrap();
    let seen = f.stub.seen();
    let path = "/subscriptions/s1/providers/Microsoft.Authorization/denyAssignments";
    assert!(seen.iter().all(|seen| seen.path == path));
    assert_eq!(seen[0].query, "$filter=atScope()&api-version=2022-04-01");
    assert_eq!(
        seen[1].query,
        "$filter=atScope()%20and%20assignedTo(%27aaaaaaaa-0000-0000-0000-000000000001%27)&api-version=2022-04-01"
    );
    assert!(f.azure.deny_assignments("/subscriptions/s1", Some("x') or ('")).await.is_err());
}

#[tokio::test]
async fn a_deny_assignment_that_cannot_be_read_is_an_error_and_denies_nobody_by_silence() {
    let f = fixture().await;
    for missing in ["permissions", "scope", "principals"] {
        f.stub.answers(move |_| {
            let mut denial = denial(json!([]));
            denial["properties"].as_object_mut().unwrap().remove(missing);
            reply(200, json!({ "value": [denial] }))
        });
        assert!(f.azure.deny_assignments("/subscriptions/s1", None).await.is_err(), "{missing}");
    }
    f.stub.answers(|_| error(403, "AuthorizationFailed"));
    let refused = f.azure.deny_assignments("/subscriptions/s1", None).await;
    assert!(matches!(refused, Err(AzureError::Forbidden(_))), "{refused:?}");
}

#[tokio::test]
async fn what_azure_writes_as_null_is_read_as_nothing() {
    let f = fixture().await;
    f.stub.answers(|_| {
        let mut denial = denial(json!([]));
        denial["properties"]["excludePrincipals"] = json!(null);
        denial["properties"]["doNotApplyToChildScopes"] = json!(null);
        denial["properties"]["permissions"][0]["notActions"] = json!(null);
        reply(200, json!({ "value": [denial] }))
    });
    let found = f.azure.deny_assignments("/subscriptions/s1", None).await.unwrap();
    assert!(found[0].exclude_principals.is_empty() && !found[0].do_not_apply_to_child_scopes);
    assert!(found[0].permissions[0].not_actions.is_empty());
}

/// A policy of Azure's API may be this deployment's alone, in a subscription that never had Defender for Cloud.
#[tokio::test]
async fn at_a_scope_that_cannot_be_there_is_nothing_and_a_refusal_is_none() {
    let f = fixture().await;
    let scope = format!("{GROUP}/Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies/default");
    for (status, code, is_nothing) in [
        (404, "ResourceNotFound", true),
        (409, "MissingSubscriptionRegistration", true),
        (404, "InvalidResourceType", true),
        (400, "NoRegisteredProviderFound", true),
        (403, "AuthorizationFailed", false),
        (400, "InvalidFilter", false),
    ] {
        f.stub.answers(move |_| error(status, code));
        let assigned = f.azure.role_assignments(&scope, PRINCIPAL).await;
        let denied = f.azure.deny_assignments(&scope, None).await;
        assert_eq!(matches!(assigned, Err(AzureError::NotFound(_))), is_nothing, "{code}: {assigned:?}");
        assert_eq!(matches!(denied, Err(AzureError::NotFound(_))), is_nothing, "{code}: {denied:?}");
        assert!(assigned.is_err() && denied.is_err(), "{code}");
    }
}
