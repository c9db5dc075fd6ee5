//! Who holds which role, and what a role permits.

use ajar_access::ports::azure::{AzureError, RoleAssignment, RolePermissions};
use serde_json::Value;
use uuid::Uuid;

use crate::api_versions::AUTHORIZATION;
use crate::failure::unreadable;
use crate::resource_manager::ResourceManager;

impl ResourceManager {
    /// `assignedTo` includes the assignments of the groups that the principal is in, transitively; `atScope` those at
    /// `scope` and above, not those below.
    pub(crate) async fn list_role_assignments(
        &self,
        scope: &str,
        principal: &str,
    ) -> Result<Vec<RoleAssignment>, AzureError> {
        // It goes into a filter: anything but a GUID could widen it.
        let principal = Uuid::try_parse(principal).map_err(|_| AzureError::Rejected {
            code: "InvalidPrincipal".to_owned(),
            message: format!("{principal:?} is not an object id (a GUID)"),
        })?;
        let scope = scope.trim_end_matches('/');
        let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments");
        let filter = format!("atScope() and assignedTo('{principal}')");
        let url = self.endpoint.filtered(&path, Some(&filter), AUTHORIZATION)?;
        self.list(url, &path)
            .await?
            .into_iter()
            .map(|mut assignment| {
                let properties = assignment.get_mut("properties").map(Value::take).unwrap_or_default();
                serde_json::from_value(properties).map_err(|error| unreadable(&path, &error.to_string()))
            })
            .collect()
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
