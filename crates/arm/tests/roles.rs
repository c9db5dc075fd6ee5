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
