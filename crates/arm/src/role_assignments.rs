//! Who holds which role, what a role permits, and what is denied whatever the roles.

use ajar_access::ports::azure::{AzureError, DenyAssignment, RoleAssignment, RolePermissions};
use serde_json::Value;
use uuid::Uuid;

use crate::api_versions::AUTHORIZATION;
use crate::failure::{of_scope, unreadable};
use crate::resource_manager::ResourceManager;

impl ResourceManager {
    /// `assignedTo` includes the assignments of the groups that the principal is in, transitively; `atScope` those at
    /// `scope` and above, not those below.
    pub(crate) async fn list_role_assignments(
        &self,
        scope: &str,
        principal: &str,
    ) -> Result<Vec<RoleAssignment>, AzureError> {
        let (path, found) = self.list_assignments(scope, "roleAssignments", Some(principal)).await?;
        found
            .into_iter()
            .map(|mut assignment| {
                let properties = assignment.get_mut("properties").map(Value::take).unwrap_or_default();
                serde_json::from_value(properties).map_err(|error| unreadable(&path, &error.to_string()))
            })
            .collect()
    }

    /// The filters are those of role assignments (Microsoft Learn, "List Azure deny assignments": `assignedTo` is
    /// "transitive for groups"). Whether it also lists those that name everybody, and how it treats exclusions, is
    /// not documented, so callers do not rely on either.
    pub(crate) async fn list_deny_assignments(
        &self,
        scope: &str,
        principal: Option<&str>,
    ) -> Result<Vec<DenyAssignment>, AzureError> {
        let (path, found) = self.list_assignments(scope, "denyAssignments", principal).await?;
        found
            .into_iter()
            .map(|element| {
                DenyAssignment::from_json(element).map_err(|error| unreadable(&path, &error.to_string()))
            })
            .collect()
    }

    /// The assignments of one kind at `scope` and above, and the path they were read from.
    async fn list_assignments(
        &self,
        scope: &str,
        kind: &str,
        principal: Option<&str>,
    ) -> Result<(String, Vec<Value>), AzureError> {
        let filter = match principal {
            None => "atScope()".to_owned(),
            // It goes into a filter: anything but a GUID could widen it.
            Some(principal) => match Uuid::try_parse(principal) {
                Ok(principal) => format!("atScope() and assignedTo('{principal}')"),
                Err(_) => {
                    return Err(AzureError::Rejected {
                        code: "InvalidPrincipal".to_owned(),
                        message: format!("{principal:?} is not an object id (a GUID)"),
                    });
                }
            },
        };
        let scope = scope.trim_end_matches('/');
        let path = format!("{scope}/providers/Microsoft.Authorization/{kind}");
        let url = self.endpoint.filtered(&path, Some(&filter), AUTHORIZATION)?;
        let found = self.list(url, &path).await.map_err(|error| of_scope(error, scope))?;
        Ok((path, found))
    }

    pub(crate) async fn read_role_permissions(&self, id: &str) -> Result<Vec<RolePermissions>, AzureError> {
        let is_role = id.rsplit('/').nth(1).is_some_and(|kind| kind.eq_ignore_ascii_case("roleDefinitions"));
        if !is_role {
            return Err(AzureError::Rejected {
                code: "InvalidRoleDefinition".to_owned(),
                message: format!("{id:?} is not the id of a role definition"),
            });
        }
        let mut definition = self.get(self.endpoint.of(id, AUTHORIZATION)?, id).await?;
        let permissions = definition
            .get_mut("properties")
            .and_then(|properties| properties.get_mut("permissions"))
            .map(Value::take)
            .ok_or_else(|| unreadable(id, "it has no permissions"))?;
        serde_json::from_value(permissions).map_err(|error| unreadable(id, &error.to_string()))
    }
}
