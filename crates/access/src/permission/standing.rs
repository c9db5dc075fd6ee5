//! What Azure says about one principal at one scope, and what follows from it.
//!
//! The rules are Azure's (Microsoft Learn, "What is Azure RBAC", "Understand Azure deny assignments"): roles add
//! up, each giving its `actions` less its `notActions`, at the scope of the assignment and below; a deny
//! assignment takes its own `actions` less `notActions` away again, whatever the roles give. Where Ajar cannot
//! know, it takes what keeps shut: an assignment with a condition gives nothing, a deny assignment with a
//! condition denies, and whoever is excluded from one through a group that cannot be seen is not excluded.

use super::operation::Action;
use super::pattern::{covers, is_same, matches};
use crate::ports::azure::{DenyAssignment, RoleAssignment, RolePermissions};
use std::collections::{BTreeMap, BTreeSet};

/// The principal that stands for everybody in a deny assignment (Microsoft Learn, "Understand Azure deny
/// assignments").
const EVERYBODY: &str = "00000000-0000-0000-0000-000000000000";

/// What a principal may and may not do at a scope and below.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    grants: Vec<Grant>,
    denials: Vec<Denial>,
}

/// What one role assignment gives, and from where downwards.
#[derive(Debug, Clone)]
struct Grant {
    scope: String,
    permissions: Vec<RolePermissions>,
    has_condition: bool,
}

/// A deny assignment that concerns the principal.
#[derive(Debug, Clone)]
pub(super) struct Denial {
    name: String,
    scope: String,
    permissions: Vec<RolePermissions>,
    is_only_here: bool,
    doubt: Option<Doubt>,
}

/// Why a deny assignment counts although it might not in Azure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// It has a condition.
    Condition,
    /// It excludes groups of which the principal may be a member.
    ExcludedGroup,
}

/// Whether something may be done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict<'a> {
    /// It may.
    Permitted,
    /// No role gives it; or only one under a condition.
    NotGranted {
        /// Whether an assignment with a condition would give it.
        but_for_a_condition: bool,
    },
    /// A role gives it and a deny assignment takes it away.
    Denied(&'a Denial),
}

/// What was read about a principal at a scope.
pub(super) struct Readings<'a> {
    /// The principal's object id.
    pub(super) principal: &'a str,
    /// Its role assignments, those of its groups included.
    pub(super) assignments: Vec<RoleAssignment>,
    /// The permissions of their roles, by [`role_key`].
    pub(super) roles: BTreeMap<String, Vec<RolePermissions>>,
    /// All deny assignments, whomever they name.
    pub(super) denials: Vec<DenyAssignment>,
    /// Ids of those that Azure says name the principal, groups included; lower case.
    pub(super) named_in: BTreeSet<String>,
}

/// How role definitions are told apart.
pub(super) fn role_key(role_definition_id: &str) -> String {
    role_definition_id.to_ascii_lowercase()
}

/// Whether a deny assignment names somebody whose groups have to be asked for.
pub(super) fn names_others(denial: &DenyAssignment, principal: &str) -> bool {
    !denial.principals.iter().any(|named| is_everybody(&named.id) || is_id(&named.id, principal))
}

fn is_everybody(id: &str) -> bool {
    id == EVERYBODY
}

fn is_id(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn has_text(condition: Option<&str>) -> bool {
    condition.is_some_and(|text| !text.trim().is_empty())
}

impl Standing {
    /// What follows from the readings.
    pub(super) fn of(readings: Readings<'_>) -> Standing {
        let Readings { principal, assignments, roles, denials, named_in } = readings;
        // A role that reached the principal through a group shows that it is a member.
        let memberships: BTreeSet<String> =
            assignments.iter().map(|assignment| assignment.principal_id.to_ascii_lowercase()).collect();
        let denials = denials
            .into_iter()
            .filter(|denial| {
                !names_others(denial, principal) || named_in.contains(&denial.id.to_ascii_lowercase())
            })
            .filter_map(|denial| {
                let mut excluded = denial.exclude_principals.iter();
                if excluded.any(|one| {
                    is_everybody(&one.id)
                        || is_id(&one.id, principal)
                        || memberships.contains(&one.id.to_ascii_lowercase())
                }) {
                    return None;
                }
                let may_be_member = denial.exclude_principals.iter().any(|one| {
                    !["user", "serviceprincipal"].contains(&one.kind.to_ascii_lowercase().as_str())
                });
                let has_condition = has_text(denial.condition.as_deref())
                    || denial.permissions.iter().any(|one| has_text(one.condition.as_deref()));
                let doubt = match (has_condition, may_be_member) {
                    (true, _) => Some(Doubt::Condition),
                    (false, true) => Some(Doubt::ExcludedGroup),
                    (false, false) => None,
                };
                Some(Denial {
                    name: denial.name,
                    scope: denial.scope,
                    permissions: denial.permissions,
                    is_only_here: denial.do_not_apply_to_child_scopes,
                    doubt,
                })
            })
            .collect();
        let grants = assignments
            .into_iter()
            .map(|assignment| Grant {
                permissions: roles
                    .get(&role_key(&assignment.role_definition_id))
                    .cloned()
                    .unwrap_or_default(),
                scope: assignment.scope,
                has_condition: has_text(assignment.condition.as_deref()),
            })
            .collect();
        Standing { grants, denials }
    }

    /// Whether `action` may be done on `scope`, which is where the standing was read, or above.
    pub(super) fn verdict(&self, action: Action, scope: &str) -> Verdict<'_> {
        let action = action.name();
        let mut but_for_a_condition = false;
        let mut is_granted = false;
        for grant in self.grants.iter().filter(|grant| covers(&grant.scope, scope)) {
            for permissions in grant.permissions.iter().filter(|one| includes(one, action)) {
                if grant.has_condition || has_text(permissions.condition.as_deref()) {
                    but_for_a_condition = true;
                } else {
                    is_granted = true;
                }
            }
        }
        if !is_granted {
            return Verdict::NotGranted { but_for_a_condition };
        }
        self.denials
            .iter()
            .find(|denial| denial.applies_to(action, scope))
            .map_or(Verdict::Permitted, Verdict::Denied)
    }
}

impl Denial {
    fn applies_to(&self, action: &str, scope: &str) -> bool {
        (is_same(&self.scope, scope) || !self.is_only_here && covers(&self.scope, scope))
            && self.permissions.iter().any(|permissions| includes(permissions, action))
    }

    /// What it is and why it counts, for the caller.
    pub(super) fn explanation(&self) -> String {
        let doubt = match self.doubt {
            None => "",
            Some(Doubt::Condition) => {
                " (it has a condition, which Ajar does not evaluate: it counts as denying)"
            }
            Some(Doubt::ExcludedGroup) => {
                " (it excludes a group; Ajar sees only memberships that give a role, so whoever is a member is to \
                 be excluded by name or given a role through that group)"
            }
        };
        format!("the deny assignment `{}` at {} takes it away{doubt}", self.name, self.scope)
    }
}

/// Whether `permissions` hold `action`: `actions` less `notActions`.
fn includes(permissions: &RolePermissions, action: &str) -> bool {
    permissions.actions.iter().any(|pattern| matches(pattern, action))
        && !permissions.not_actions.iter().any(|pattern| matches(pattern, action))
}
