//! The directory and the roles of the scripted Azure: groups in groups, role definitions, role and deny assignments,
//! and Azure Resource Manager's answers about them.

use super::lock;
use crate::ports::azure::{DenyAssignment, RoleAssignment, RolePermissions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

const EVERYBODY: &str = "00000000-0000-0000-0000-000000000000";

/// Who may do what in the scripted Azure.
#[derive(Debug, Default)]
pub struct FakeRoles {
    groups: Mutex<BTreeMap<String, BTreeSet<String>>>,
    definitions: Mutex<BTreeMap<String, Vec<RolePermissions>>>,
    assignments: Mutex<Vec<RoleAssignment>>,
    denials: Mutex<Vec<DenyAssignment>>,
}

impl FakeRoles {
    /// Three roles: `configure`, `request` and `read`.
    pub(super) fn new() -> FakeRoles {
        let roles = FakeRoles::default();
        roles.define(
            "configure",
            &[
                "Microsoft.Security/locations/jitNetworkAccessPolicies/*",
                "Microsoft.Compute/virtualMachines/write",
                "*/read",
            ],
        );
        roles.define(
            "request",
            &[
                "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action",
                "Microsoft.Compute/virtualMachines/read",
            ],
        );
        roles.define("read", &["*/read"]);
        roles
    }

    /// Defines a role of these actions.
    pub fn define(&self, role: &str, actions: &[&str]) {
        let actions = actions.iter().map(|action| (*action).to_owned()).collect();
        self.define_with(role, vec![RolePermissions { actions, ..RolePermissions::default() }]);
    }

    /// Defines a role.
    pub fn define_with(&self, role: &str, permissions: Vec<RolePermissions>) {
        lock(&self.definitions).insert(role.to_owned(), permissions);
    }

    /// Gives a role to a principal or group.
    pub fn assign(&self, principal: &str, role: &str, scope: &str, condition: Option<&str>) {
        lock(&self.assignments).push(RoleAssignment {
            role_definition_id: role.to_owned(),
            scope: scope.to_owned(),
            principal_id: principal.to_owned(),
            condition: condition.map(str::to_owned),
        });
    }

    /// Takes all its own roles from a principal or group.
    pub fn unassign(&self, principal: &str) {
        lock(&self.assignments).retain(|assignment| assignment.principal_id != principal);
    }

    /// Makes a principal or a group a member of a group.
    pub fn join(&self, member: &str, group: &str) {
        lock(&self.groups).entry(group.to_owned()).or_default().insert(member.to_owned());
    }

    /// Adds a deny assignment.
    pub fn deny(&self, denial: DenyAssignment) {
        lock(&self.denials).push(denial);
    }

    /// Removes all deny assignments.
    pub fn allow_again(&self) {
        lock(&self.denials).clear();
    }

    /// The principal and every group it is in.
    fn identities(&self, principal: &str) -> BTreeSet<String> {
        let groups = lock(&self.groups);
        let mut found = BTreeSet::from([principal.to_owned()]);
        loop {
            let more: Vec<String> = groups
                .iter()
                .filter(|(group, members)| !found.contains(*group) && !found.is_disjoint(members))
                .map(|(group, _)| group.clone())
                .collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    pub(super) fn assignments_at(&self, scope: &str, principal: &str) -> Vec<RoleAssignment> {
        let identities = self.identities(principal);
        let all = lock(&self.assignments);
        let found =
            all.iter().filter(|one| identities.contains(&one.principal_id) && is_above(&one.scope, scope));
        found.cloned().collect()
    }

    /// Lists as little as the documentation allows: with a principal, neither what names everybody nor what
    /// excludes it.
    pub(super) fn denials_at(&self, scope: &str, principal: Option<&str>) -> Vec<DenyAssignment> {
        let identities = principal.map(|principal| self.identities(principal));
        let all = lock(&self.denials);
        let found = all.iter().filter(|one| {
            is_above(&one.scope, scope)
                && identities.as_ref().is_none_or(|identities| {
                    let is_among = |list: &[crate::ports::azure::DenyPrincipal]| {
                        list.iter().any(|one| one.id != EVERYBODY && identities.contains(&one.id))
                    };
                    is_among(&one.principals) && !is_among(&one.exclude_principals)
                })
        });
        found.cloned().collect()
    }

    pub(super) fn permissions_of(&self, role: &str) -> Option<Vec<RolePermissions>> {
        lock(&self.definitions).get(role).cloned()
    }
}

/// Whether a scope is another or above it; management groups stand above all of the scripted subscription.
fn is_above(outer: &str, inner: &str) -> bool {
    let (outer, inner) = (outer.to_lowercase(), inner.to_lowercase());
    let outer = outer.trim_end_matches('/');
    outer.is_empty()
        || outer.starts_with("/providers/microsoft.management/")
        || inner == outer
        || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}
