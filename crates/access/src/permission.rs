//! Azure RBAC: may this principal do this?
//!
//! As Azure decides for Defender for Cloud: role assignments at the scope and above, those of the principal's
//! groups included (Azure Resource Manager answers `assignedTo()` transitively, for users, guests, service
//! principals and managed identities alike), less what deny assignments take away. Assignments that PIM holds
//! ready (eligible ones) are no role assignments until they are activated, so they do not count.
//!
//! What Azure said is used for half a minute (definitions of roles for a minute at most), per process. Before
//! something is opened it is asked anew who has which role and what is denied; what a role permits may be half a minute
//! old then. What cannot be read permits nothing.

mod operation;
mod pattern;
#[cfg(all(test, feature = "testing"))]
mod properties;
mod recent;
mod standing;

pub use operation::{Action, Operation, Scope};

use crate::Ajar;
use crate::error::AccessError;
use crate::ports::azure::RolePermissions;
use crate::ports::identity::Caller;
use ajar_network::resource_id::ResourceId;
use futures::future::{join_all, try_join, try_join_all};
use futures::stream::{self, StreamExt, TryStreamExt};
use recent::Recent;
use standing::{Readings, Standing, Verdict, names_others, role_key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many scopes are asked about at once.
const CONCURRENCY: usize = 8;

/// What was read lately of principals and roles. Cheap to clone: clones share it. One for each process.
#[derive(Clone, Default)]
pub struct RecentPermissions(Arc<Kept>);

#[derive(Default)]
struct Kept {
    standings: Recent<(String, String), Standing>,
    roles: Recent<String, Vec<RolePermissions>>,
    /// The ids of the roles that a principal had last: most likely it has them still, so they are read beside its
    /// assignments and not after them.
    roles_of: Recent<String, Vec<String>>,
}

/// How old a reading may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// As old as [`recent::KEPT`].
    Recent,
    /// Read anew.
    New,
}

/// What an operation is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The VM.
    pub(crate) vm: &'a ResourceId,
    /// Resource id of the policy that the caller named; none where only the VM was named.
    pub(crate) policy: Option<&'a str>,
}

impl Subject<'_> {
    /// Over which of Ajar's interfaces it was named.
    pub(crate) fn channel(&self) -> &'static str {
        if self.policy.is_some() { "azure" } else { "api" }
    }
}

impl<'a> From<&'a ResourceId> for Subject<'a> {
    fn from(vm: &'a ResourceId) -> Subject<'a> {
        Subject { vm, policy: None }
    }
}

/// Checks that `caller` may carry out `operation` on `subject`, by what was read in the last half minute.
///
/// # Errors
/// [`AccessError::Forbidden`] naming the first missing action, its scope and the reason;
/// [`AccessError::Unavailable`] when the assignments could not be read: then nothing is permitted.
pub(crate) async fn require(
    ajar: &Ajar,
    caller: &Caller,
    subject: impl Into<Subject<'_>>,
    operation: Operation,
) -> Result<(), AccessError> {
    require_for(ajar, caller, subject.into(), operation, Age::Recent).await
}

/// The same by what Azure says now: for whatever opens something.
///
/// # Errors
/// As [`require`].
pub(crate) async fn require_now(
    ajar: &Ajar,
    caller: &Caller,
    subject: impl Into<Subject<'_>>,
    operation: Operation,
) -> Result<(), AccessError> {
    require_for(ajar, caller, subject.into(), operation, Age::New).await
}

async fn require_for(
    ajar: &Ajar,
    caller: &Caller,
    Subject { vm, policy }: Subject<'_>,
    operation: Operation,
    age: Age,
) -> Result<(), AccessError> {
    let group = resource_group_scope(vm)?;
    let at_named = async {
        match policy {
            Some(policy) => standing_or_above(ajar, caller, policy, &group, age).await.map(Some),
            None => Ok(None),
        }
    };
    let (at_vm, at_named) =
        try_join(standing_or_above(ajar, caller, vm.as_str(), &group, age), at_named).await?;
    for action in operation.needs() {
        match action.scope() {
            Scope::Vm => check(&at_vm, caller, *action, vm.as_str())?,
            // One reading at the VM holds what is assigned at its resource group as well.
            Scope::Policy => {
                let standing = at_named.as_ref().unwrap_or(&at_vm);
                check(standing, caller, *action, policy.unwrap_or(&group))?;
            }
        }
    }
    Ok(())
}

/// What Azure says about `caller` at `scope`, or at the resource group that it is in where Azure has nothing at
/// `scope`: of a VM that is gone, and of a policy that only this deployment has, there are no assignments of its own,
/// and those above it count.
async fn standing_or_above(
    ajar: &Ajar,
    caller: &Caller,
    scope: &str,
    group: &str,
    age: Age,
) -> Result<Arc<Standing>, AccessError> {
    match standing(ajar, caller, scope, age).await {
        Err(AccessError::NotFound(_)) => standing(ajar, caller, group, age).await,
        other => other,
    }
}

/// Checks that `caller` may do `action` on the policy with the resource id `policy`, which is in `group`.
///
/// # Errors
/// As [`require`].
pub(crate) async fn require_on_policy(
    ajar: &Ajar,
    caller: &Caller,
    (policy, group): (&str, &str),
    action: Action,
) -> Result<(), AccessError> {
    let standing = standing_or_above(ajar, caller, policy, group, Age::Recent).await?;
    check(&standing, caller, action, policy)
}

/// Checks that `caller` may do `action` on `scope`, a resource group.
///
/// # Errors
/// As [`require`].
pub(crate) async fn require_on(
    ajar: &Ajar,
    caller: &Caller,
    scope: &str,
    action: Action,
) -> Result<(), AccessError> {
    let standing = standing(ajar, caller, scope, Age::Recent).await?;
    check(&standing, caller, action, scope)
}

/// Which of `scopes` (resource groups) `caller` may do `action` on; read once per scope.
///
/// # Errors
/// [`AccessError::Unavailable`] when the assignments could not be read.
pub(crate) async fn permitted_scopes(
    ajar: &Ajar,
    caller: &Caller,
    scopes: impl IntoIterator<Item = String>,
    action: Action,
) -> Result<Vec<String>, AccessError> {
    let permitted: Vec<Option<String>> = stream::iter(scopes.into_iter().collect::<Vec<_>>())
        .map(|scope| async move {
            let standing = standing(ajar, caller, &scope, Age::Recent).await?;
            let is_permitted = matches!(standing.verdict(action, &scope), Verdict::Permitted);
            Ok::<_, AccessError>(is_permitted.then_some(scope))
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(permitted.into_iter().flatten().collect())
}

/// The resource group of a VM, as a scope.
pub(crate) fn resource_group_scope(vm: &ResourceId) -> Result<String, AccessError> {
    let group = vm
        .resource_group()
        .ok_or_else(|| AccessError::invalid("vm", format!("{vm} is not in a resource group")))?;
    Ok(format!("/subscriptions/{}/resourceGroups/{group}", vm.subscription()))
}

fn check(standing: &Standing, caller: &Caller, action: Action, scope: &str) -> Result<(), AccessError> {
    let (who, what) = (&caller.name, action.name());
    let reason = match standing.verdict(action, scope) {
        Verdict::Permitted => return Ok(()),
        Verdict::NotGranted { but_for_a_condition } => {
            let condition = if but_for_a_condition {
                ". A role assignment with a condition has it, but Ajar does not evaluate conditions: it takes an \
                 assignment without one"
            } else {
                ""
            };
            format!(
                "{who} needs the permission {what} on {scope}: ask whoever assigns Azure roles there for a role that \
                 has it{condition}"
            )
        }
        Verdict::Denied(denial) => {
            format!("{who} has no permission {what} on {scope}: {}", denial.explanation())
        }
    };
    Err(AccessError::Forbidden(reason))
}

/// What Azure says about `caller` at `scope` and above.
async fn standing(ajar: &Ajar, caller: &Caller, scope: &str, age: Age) -> Result<Arc<Standing>, AccessError> {
    let kept = &ajar.permissions.0;
    let key = (caller.object_id.to_ascii_lowercase(), scope.to_ascii_lowercase());
    let begun = ajar.ports.clock.now();
    if age == Age::Recent
        && let Some(standing) = kept.standings.get(&key, begun)
    {
        return Ok(standing);
    }
    let standing = read(ajar, &caller.object_id, scope).await?;
    Ok(kept.standings.keep(key, begun, ajar.ports.clock.now(), standing))
}

async fn read(ajar: &Ajar, principal: &str, scope: &str) -> Result<Standing, AccessError> {
    let (azure, kept) = (ajar.ports.azure.as_ref(), &ajar.permissions.0);
    let begun = ajar.ports.clock.now();
    let before = kept.roles_of.last(&principal.to_owned());
    let (read, _) = futures::join!(
        try_join(azure.role_assignments(scope, principal), azure.deny_assignments(scope, None)),
        // One that cannot be read, and is still among them, is asked for again below.
        join_all(before.iter().flat_map(|roles| roles.iter()).map(|id| role(ajar, id))),
    );
    let (assignments, denials) = read?;
    // Deny assignments are rare, and most name everybody; groups are asked about only where they matter.
    let named_in: BTreeSet<String> = if denials.iter().any(|denial| names_others(denial, principal)) {
        let named = azure.deny_assignments(scope, Some(principal)).await?;
        named.into_iter().map(|denial| denial.id.to_ascii_lowercase()).collect()
    } else {
        BTreeSet::new()
    };
    let ids: BTreeMap<String, &str> = assignments
        .iter()
        .map(|assignment| (role_key(&assignment.role_definition_id), assignment.role_definition_id.as_str()))
        .collect();
    let roles = try_join_all(ids.values().map(|id| role(ajar, id))).await?;
    let roles = ids.keys().cloned().zip(roles.iter().map(|role| role.as_ref().clone())).collect();
    let ids = ids.values().map(|id| (*id).to_owned()).collect();
    kept.roles_of.keep(principal.to_owned(), begun, ajar.ports.clock.now(), ids);
    Ok(Standing::of(Readings { principal, assignments, roles, denials, named_in }))
}

async fn role(ajar: &Ajar, id: &str) -> Result<Arc<Vec<RolePermissions>>, AccessError> {
    let (kept, key) = (&ajar.permissions.0.roles, role_key(id));
    let begun = ajar.ports.clock.now();
    if let Some(permissions) = kept.get(&key, begun) {
        return Ok(permissions);
    }
    let permissions = ajar.ports.azure.role_permissions(id).await?;
    Ok(kept.keep(key, begun, ajar.ports.clock.now(), permissions))
}
