//! Azure RBAC: may this principal do this?
//!
//! As Defender for Cloud checks it: role assignments at the scope and above, those of the principal's groups
//! included (Azure Resource Manager answers `assignedTo()` transitively), wildcards, `notActions`, several
//! roles added up. A condition that is not evaluated here counts as not granted.

use crate::error::AccessError;
use crate::ports::azure::{Azure, RoleAssignment, RolePermissions};
use crate::ports::identity::Caller;
use ajar_network::resource_id::ResourceId;
use futures::future::try_join_all;
use std::collections::BTreeMap;

/// An action of Azure RBAC that Ajar asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Turn JIT on or off, on the scope of the policy.
    WritePolicy,
    /// See a policy and what happened under it.
    ReadPolicy,
    /// Ask for access.
    Initiate,
    /// Change the VM: the second half of configuring.
    WriteVm,
    /// See the VM.
    ReadVm,
}

impl Action {
    /// The action's name (Microsoft's list for JIT: "Permissions needed to configure and use JIT").
    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::WritePolicy => "Microsoft.Security/locations/jitNetworkAccessPolicies/write",
            Action::ReadPolicy => "Microsoft.Security/locations/jitNetworkAccessPolicies/read",
            Action::Initiate => "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action",
            Action::WriteVm => "Microsoft.Compute/virtualMachines/write",
            Action::ReadVm => "Microsoft.Compute/virtualMachines/read",
        }
    }

    /// Whether the action is asked about on the VM itself or on the policy's scope, the VM's resource group.
    fn is_on_vm(self) -> bool {
        matches!(self, Action::WriteVm | Action::ReadVm)
    }
}

/// Checks that `caller` may do all of `actions` for `vm`.
///
/// # Errors
/// [`AccessError::Forbidden`] naming the first missing action and its scope; [`AccessError::Unavailable`]
/// when the assignments could not be read: then nothing is permitted.
pub(crate) async fn require(
    azure: &dyn Azure,
    caller: &Caller,
    vm: &ResourceId,
    actions: &[Action],
) -> Result<(), AccessError> {
    let group = resource_group_scope(vm)?;
    let grants = match read_grants(azure, caller, vm.as_str()).await {
        // The VM is gone; who may act on its group may still see and end what was done for it.
        Err(AccessError::NotFound(_)) => read_grants(azure, caller, &group).await?,
        other => other?,
    };
    for action in actions {
        let scope = if action.is_on_vm() { vm.as_str() } else { group.as_str() };
        if !is_permitted(&grants, action.name(), scope) {
            return Err(AccessError::Forbidden(format!(
                "{} needs the permission {} on {scope}: ask whoever assigns Azure roles there for a role that \
                 has it",
                caller.name,
                action.name()
            )));
        }
    }
    Ok(())
}

/// Which of `scopes` (resource groups or VMs) `caller` may do `action` on; read once per scope.
pub(crate) async fn permitted_scopes(
    azure: &dyn Azure,
    caller: &Caller,
    scopes: impl IntoIterator<Item = String>,
    action: Action,
) -> Result<Vec<String>, AccessError> {
    let mut permitted = Vec::new();
    for scope in scopes {
        let grants = read_grants(azure, caller, &scope).await?;
        if is_permitted(&grants, action.name(), &scope) {
            permitted.push(scope);
        }
    }
    Ok(permitted)
}

/// The resource group of a VM, as a scope.
pub(crate) fn resource_group_scope(vm: &ResourceId) -> Result<String, AccessError> {
    let group = vm
        .resource_group()
        .ok_or_else(|| AccessError::invalid("vm", format!("{vm} is not in a resource group")))?;
    Ok(format!("/subscriptions/{}/resourceGroups/{group}", vm.subscription()))
}

/// What one assignment grants, and from where downwards.
struct Grant {
    scope: String,
    permissions: Vec<RolePermissions>,
}

async fn read_grants(azure: &dyn Azure, caller: &Caller, scope: &str) -> Result<Vec<Grant>, AccessError> {
    let assignments: Vec<RoleAssignment> = azure
        .role_assignments(scope, &caller.object_id)
        .await?
        .into_iter()
        .filter(|assignment| assignment.condition.as_deref().is_none_or(|text| text.trim().is_empty()))
        .collect();
    let roles: BTreeMap<String, String> = assignments
        .iter()
        .map(|assignment| {
            (assignment.role_definition_id.to_ascii_lowercase(), assignment.role_definition_id.clone())
        })
        .collect();
    let permissions: BTreeMap<String, Vec<RolePermissions>> =
        try_join_all(roles.into_iter().map(|(key, id)| async move {
            azure.role_permissions(&id).await.map(|permissions| (key, permissions))
        }))
        .await?
        .into_iter()
        .collect();
    Ok(assignments
        .into_iter()
        .map(|assignment| Grant {
            permissions: permissions
                .get(&assignment.role_definition_id.to_ascii_lowercase())
                .cloned()
                .unwrap_or_default(),
            scope: assignment.scope,
        })
        .collect())
}

fn is_permitted(grants: &[Grant], action: &str, scope: &str) -> bool {
    grants.iter().filter(|grant| covers(&grant.scope, scope)).any(|grant| {
        grant.permissions.iter().any(|permissions| {
            permissions.actions.iter().any(|pattern| matches(pattern, action))
                && !permissions.not_actions.iter().any(|pattern| matches(pattern, action))
        })
    })
}

/// Whether `outer` is `inner` or a scope above it. Scopes compare without regard to case, segment by segment.
fn covers(outer: &str, inner: &str) -> bool {
    let mut inner = inner.split('/').filter(|segment| !segment.is_empty());
    outer
        .split('/')
        .filter(|segment| !segment.is_empty())
        .all(|segment| inner.next().is_some_and(|other| other.eq_ignore_ascii_case(segment)))
        // Management groups stand above every subscription that Azure reports their assignments for.
        || outer.to_ascii_lowercase().starts_with("/providers/microsoft.management/managementgroups/")
}

/// Whether an action pattern, in which `*` stands for any text, matches `action`, without regard to case.
fn matches(pattern: &str, action: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let action = action.to_ascii_lowercase();
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| action.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            // `find` gives the start of a match, so what follows it is in the text.
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIATE: &str = "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action";

    fn grant(scope: &str, actions: &[&str], not_actions: &[&str]) -> Grant {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Grant {
            scope: scope.into(),
            permissions: vec![RolePermissions { actions: owned(actions), not_actions: owned(not_actions) }],
        }
    }

    #[test]
    fn wildcards_stand_for_any_text_and_case_does_not_count() {
        for pattern in
            ["*", INITIATE, "microsoft.security/*", "*/action", "Microsoft.Security/*/initiate/*", "M*n"]
        {
            assert!(matches(pattern, INITIATE), "{pattern}");
        }
        for pattern in ["", "*/read", "Microsoft.Security", "Microsoft.Security/*/read", "*initiate", "a*"] {
            assert!(!matches(pattern, INITIATE), "{pattern}");
        }
        // An overlap of prefix and suffix is not a match.
        assert!(!matches("ab*ba", "aba"));
    }

    #[test]
    fn roles_add_up_and_not_actions_take_only_from_their_own_role() {
        let vm = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v";
        let narrowed = grant("/subscriptions/s", &["*"], &["Microsoft.Security/*/action"]);
        assert!(!is_permitted(&[narrowed], INITIATE, vm));
        let narrowed = grant("/subscriptions/s", &["*"], &["Microsoft.Security/*/action"]);
        let other = grant(vm, &[INITIATE], &[]);
        assert!(is_permitted(&[narrowed, other], INITIATE, vm));
    }

    #[test]
    fn an_assignment_counts_at_its_scope_and_below_and_nowhere_else() {
        let group = "/subscriptions/s/resourceGroups/g";
        for above in [
            "/",
            "/subscriptions/S",
            "/subscriptions/s/resourcegroups/G",
            "/providers/Microsoft.Management/managementGroups/m",
        ] {
            assert!(is_permitted(&[grant(above, &["*"], &[])], INITIATE, group), "{above}");
        }
        for beside in [
            "/subscriptions/s/resourceGroups/g2",
            "/subscriptions/s/resourceGroups/g/providers/x/y/z",
            "/subscriptions/s/resourceGroups",
        ] {
            let permitted = is_permitted(&[grant(beside, &["*"], &[])], INITIATE, group);
            assert_eq!(permitted, beside.ends_with("resourceGroups"), "{beside}");
        }
    }
}
