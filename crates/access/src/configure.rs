//! Turning JIT on and off for a VM.
//!
//! A policy is one row; its projection on each enforcement point is another, in the partition that
//! `reconcile` reads. A due row written first makes sure that the second follows the first.

use crate::Ajar;
use crate::assessment_store;
use crate::close;
use crate::document::Stored;
use crate::due::{self, GUARD_DELAY, Task};
use crate::error::AccessError;
use crate::life_cycle::CloseReason;
use crate::organisation;
use crate::permission::{self, Operation, Subject};
use crate::point::{self, ProjectedPolicy, StoreOrAccess, policy_row};
use crate::policy::{JitPolicy, PolicyInput, PolicyPoint, PolicyState, PolicyTerms};
use crate::policy_store;
use crate::ports::identity::Caller;
use crate::ports::store::StoreError;
use crate::scope;
use crate::send;
use crate::store_marker;
use ajar_network::estate::{Estate, VmNetwork};
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::plan::{self, Note, Plan, RuleChange};
use ajar_network::resource_id::ResourceId;
use jiff::SignedDuration;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How often a change of a policy is tried again when others change it at the same time.
const ATTEMPTS: usize = 20;

/// Turns JIT on for a VM, or changes its policy: the ports are shut but for standing exceptions and grants.
///
/// # Errors
/// [`AccessError::Invalid`] naming the field, [`AccessError::Forbidden`] without both permissions,
/// [`AccessError::NotFound`] for an unknown VM, [`AccessError::Conflict`] with code `NoEnforcementPoint`
/// when no NSG filters the VM, with code `StoreRestored` until the operator resumes. Nothing is changed then.
pub async fn enable(ajar: &Ajar, caller: &Caller, input: &PolicyInput) -> Result<JitPolicy, AccessError> {
    let vm = input.vm()?;
    let terms = input.terms()?;
    enable_with(ajar, caller, (&vm).into(), terms).await
}

/// The same with terms that were read another way.
pub(crate) async fn enable_with(
    ajar: &Ajar,
    caller: &Caller,
    subject: Subject<'_>,
    terms: PolicyTerms,
) -> Result<JitPolicy, AccessError> {
    let vm = subject.vm;
    check_subscription(ajar, vm).await?;
    permission::require(ajar, caller, subject, Operation::Configure).await?;
    organisation::require_configure(ajar, caller.into(), vm, subject.channel()).await?;
    let resources = ajar.ports.azure.vm_estate(vm).await?;
    turn_on(ajar, caller, vm, terms, &resources).await
}

/// Turns JIT on in the name of `by`, whose right to do so was checked.
pub(crate) async fn turn_on(
    ajar: &Ajar,
    by: &Caller,
    vm: &ResourceId,
    terms: PolicyTerms,
    resources: &[Value],
) -> Result<JitPolicy, AccessError> {
    let location = location_of(resources, vm);
    let vm_id = vm_id_of(resources, vm);
    let points = enforcement_points(resources, vm)?;
    store_marker::ensure(ajar).await?;
    let now = ajar.ports.clock.now();
    let guard = due::note(ajar, now + GUARD_DELAY, Task::Project { vm: vm.clone() }).await?;
    let policy = policy_store::change(ajar, vm, |before| {
        let before = before.map(|policy| policy.points).unwrap_or_default();
        Some(Some(JitPolicy {
            vm: vm.clone(),
            location: location.clone(),
            vm_id: vm_id.clone(),
            state: PolicyState::Enabled,
            terms: terms.clone(),
            points: with_left(&points, &before),
            configured_by: by.clone(),
            configured_at: now,
        }))
    })
    .await?
    .ok_or_else(|| AccessError::internal("a policy just written is gone"))?;
    project(ajar, vm).await?;
    let (forgotten, marked) = futures::join!(due::forget(ajar, &guard), store_marker::require(ajar));
    forgotten?;
    marked?;
    tracing::info!(vm = %vm, by = by.object_id, "JIT turned on");
    Ok(policy)
}

/// The points of a VM now, and those that it has left: they stay on record until they are released there.
pub(crate) fn with_left(now: &[PolicyPoint], before: &[PolicyPoint]) -> Vec<PolicyPoint> {
    let is_left = |place: &&PolicyPoint| !now.iter().any(|other| other.point == place.point);
    let left = before
        .iter()
        .filter(is_left)
        .map(|place| PolicyPoint { point: place.point.clone(), addresses: Vec::new() });
    now.iter().cloned().chain(left).collect()
}

/// What a policy would do to one enforcement point.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Resource id of the NSG.
    pub point: ResourceId,
    /// The VM's private addresses behind it.
    pub addresses: Vec<IpAddr>,
    /// What becomes of each rule.
    pub changes: Vec<RuleChange>,
    /// What people should know, for example rules that are left and keep the protection partial.
    pub notes: Vec<Note>,
}

impl Preview {
    /// What `planned` would do to the NSG at `place`.
    pub(crate) fn of(place: PolicyPoint, nsg: &NetworkSecurityGroup, planned: Plan) -> Preview {
        let changes = planned.write.changes(nsg);
        Preview { point: place.point, addresses: place.addresses, changes, notes: planned.notes }
    }
}

/// What [`enable`] would do now, rule by rule. Nothing is written.
///
/// # Errors
/// As [`enable`]; and [`AccessError::Conflict`] with code `CannotBePlanned` when an NSG has no room for it.
pub async fn preview(ajar: &Ajar, caller: &Caller, input: &PolicyInput) -> Result<Vec<Preview>, AccessError> {
    let vm = input.vm()?;
    let terms = input.terms()?;
    check_subscription(ajar, &vm).await?;
    permission::require(ajar, caller, &vm, Operation::Configure).await?;
    let resources = ajar.ports.azure.vm_estate(&vm).await?;
    let mut previews = Vec::new();
    for place in enforcement_points(&resources, &vm)? {
        let nsg = ajar.ports.azure.network_security_group(&place.point).await?;
        let mut rows = point::read(ajar, &place.point).await?;
        let before =
            rows.policies.iter().position(|row| row.content.vm == vm).map(|at| rows.policies.remove(at));
        let projected = ProjectedPolicy {
            vm: vm.clone(),
            addresses: place.addresses.clone(),
            released: released(before.as_ref(), &place.addresses),
            state: PolicyState::Enabled,
            terms: terms.clone(),
            dues: Vec::new(),
            seen_off: None,
        };
        let desired = rows.desired_with(ajar, projected);
        let planned =
            plan::plan(&nsg, &desired, ajar.ports.clock.now()).map_err(|error| AccessError::Conflict {
                code: "CannotBePlanned",
                message: format!("{} cannot be protected: {error}", place.point.name()),
            })?;
        previews.push(Preview::of(place, &nsg, planned));
    }
    Ok(previews)
}

/// Turns JIT off for a VM: live access ends, the denies go, rules that were moved come back.
///
/// # Errors
/// [`AccessError::Forbidden`] without both permissions, [`AccessError::NotFound`] when it is not on.
pub async fn disable(ajar: &Ajar, caller: &Caller, vm: &ResourceId) -> Result<JitPolicy, AccessError> {
    disable_on(ajar, caller, vm.into()).await
}

/// The same for a VM of the policy resource that the caller named.
pub(crate) async fn disable_on(
    ajar: &Ajar,
    caller: &Caller,
    subject: Subject<'_>,
) -> Result<JitPolicy, AccessError> {
    let vm = subject.vm;
    check_subscription(ajar, vm).await?;
    permission::require(ajar, caller, subject, Operation::Configure).await?;
    organisation::require_configure(ajar, caller.into(), vm, subject.channel()).await?;
    store_marker::refuse_restored(ajar).await?;
    let now = ajar.ports.clock.now();
    let guard = due::note(ajar, now + GUARD_DELAY, Task::Project { vm: vm.clone() }).await?;
    let policy = policy_store::change(ajar, vm, |before| {
        before.map(|policy| {
            Some(JitPolicy {
                state: PolicyState::Disabling,
                configured_by: caller.clone(),
                configured_at: now,
                ..policy
            })
        })
    })
    .await?;
    if let Some(policy) = &policy {
        assessment_store::decline(ajar, vm, policy.vm_id.as_deref()).await?;
        project(ajar, vm).await?;
        tracing::info!(vm = %vm, by = caller.object_id, "JIT turned off");
    }
    due::forget(ajar, &guard).await?;
    policy.ok_or_else(|| no_policy(vm))
}

/// The answer when a VM has no policy.
pub(crate) fn no_policy(vm: &ResourceId) -> AccessError {
    AccessError::NotFound(format!("{} has no JIT policy", vm.name()))
}

/// Writes the policy of `vm` to its enforcement points and sends word. Repeating it is harmless, and so is being
/// late: whoever finds that the policy changed meanwhile projects what it has become.
pub(crate) async fn project(ajar: &Ajar, vm: &ResourceId) -> Result<(), AccessError> {
    let mut projected: Option<Stored<JitPolicy>> = None;
    for _ in 0..ATTEMPTS {
        let found = policy_store::read(ajar, vm).await?;
        let policy = match (found, &projected) {
            (None, None) => return Ok(()),
            // It was turned off or retired and is over: what was just written must go the same way.
            (None, Some(last)) => {
                let state = match last.content.state {
                    PolicyState::Enabled | PolicyState::Disabling => PolicyState::Disabling,
                    PolicyState::Retired => PolicyState::Retired,
                };
                let over = JitPolicy { state, ..last.content.clone() };
                return project_to_points(ajar, &over).await;
            }
            (Some(found), Some(last)) if found.etag == last.etag => return Ok(()),
            (Some(found), _) => found,
        };
        project_to_points(ajar, &policy.content).await?;
        projected = Some(policy);
    }
    Err(StoreError::Conflict.into())
}

async fn project_to_points(ajar: &Ajar, policy: &JitPolicy) -> Result<(), AccessError> {
    match policy.state {
        PolicyState::Enabled => {}
        PolicyState::Disabling => end_access(ajar, policy, "ended: JIT was turned off").await?,
        PolicyState::Retired => end_access(ajar, policy, "ended: the VM was deleted").await?,
    }
    for place in &policy.points {
        project_on(ajar, policy, place).await?;
        send::send_reconcile(ajar, &place.point).await;
    }
    Ok(())
}

async fn project_on(ajar: &Ajar, policy: &JitPolicy, place: &PolicyPoint) -> Result<(), AccessError> {
    let row = policy_row(&policy.vm);
    let at = ajar.ports.clock.now() + GUARD_DELAY;
    for _ in 0..ATTEMPTS {
        let before = point::read_row::<ProjectedPolicy>(ajar, &place.point, &row).await?;
        let mut wanted = ProjectedPolicy {
            vm: policy.vm.clone(),
            addresses: place.addresses.clone(),
            released: released(before.as_ref(), &place.addresses),
            state: policy.state,
            terms: policy.terms.clone(),
            dues: before.as_ref().map(|before| before.content.dues.clone()).unwrap_or_default(),
            seen_off: before.as_ref().and_then(|before| before.content.seen_off),
        };
        if before.as_ref().is_some_and(|before| before.content == wanted) {
            return Ok(());
        }
        wanted.seen_off = None;
        let guard = due::note(ajar, at, Task::Reconcile { point: place.point.clone() }).await?;
        wanted.dues.push(guard.clone());
        match point::write_row(ajar, &place.point, row.clone(), &wanted, before.map(|before| before.etag))
            .await
        {
            Ok(()) => return Ok(()),
            // Nothing was written for this row to guard.
            Err(StoreOrAccess::Conflict) => due::forget(ajar, &guard).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

/// The addresses that a VM had behind a point and has no more.
fn released(before: Option<&Stored<ProjectedPolicy>>, now: &[IpAddr]) -> Vec<IpAddr> {
    let Some(before) = before else { return Vec::new() };
    let gone: BTreeSet<IpAddr> =
        before.content.addresses.iter().chain(&before.content.released).copied().collect();
    gone.into_iter().filter(|address| !now.contains(address)).collect()
}

/// Ends what is open on a VM in the name of whoever configured its policy last.
pub(crate) async fn end_access(ajar: &Ajar, policy: &JitPolicy, what: &str) -> Result<(), AccessError> {
    let mut live = BTreeSet::new();
    for place in &policy.points {
        for grant in point::read(ajar, &place.point).await?.grants {
            if grant.content.vm == policy.vm && !grant.content.seen_shut {
                live.insert(grant.content.request);
            }
        }
    }
    for request in live {
        let by = &policy.configured_by;
        close::end(ajar, &request, by, CloseReason::Revoked, what).await?;
    }
    Ok(())
}

/// Checks that this deployment looks after the VM's subscription.
pub(crate) async fn check_subscription(ajar: &Ajar, vm: &ResourceId) -> Result<(), AccessError> {
    let subscription = vm.subscription().to_ascii_lowercase();
    if scope::holds(ajar, &subscription).await? {
        return Ok(());
    }
    Err(AccessError::NotFound(format!(
        "this deployment does not look after subscription {subscription}; the operator adds it to \
         AJAR_SUBSCRIPTIONS or puts it below one of AJAR_MANAGEMENT_GROUPS"
    )))
}

/// The VM among the resources around it.
pub(crate) fn machine<'a>(resources: &'a [Value], vm: &ResourceId) -> Option<&'a Value> {
    resources.iter().find(|resource| {
        resource.get("id").and_then(Value::as_str).is_some_and(|id| id.eq_ignore_ascii_case(vm.as_str()))
    })
}

/// Azure's `vmId`, another one for each VM that was created.
pub(crate) fn vm_id_of(resources: &[Value], vm: &ResourceId) -> Option<String> {
    vm_id(machine(resources, vm)?)
}

/// The same of one VM.
pub(crate) fn vm_id(machine: &Value) -> Option<String> {
    machine.pointer("/properties/vmId")?.as_str().map(str::to_ascii_lowercase)
}

fn location_of(resources: &[Value], vm: &ResourceId) -> String {
    machine(resources, vm)
        .and_then(|resource| resource.get("location").and_then(Value::as_str))
        .unwrap_or_default()
        .to_ascii_lowercase()
        .replace(' ', "")
}

/// Every NSG on the way to the VM, with the addresses it filters.
pub(crate) fn enforcement_points(
    resources: &[Value],
    vm: &ResourceId,
) -> Result<Vec<PolicyPoint>, AccessError> {
    let points = points_in(&Estate::from_resources(resources.iter().cloned()), vm)?;
    if points.is_empty() {
        return Err(AccessError::Conflict {
            code: "NoEnforcementPoint",
            message: format!(
                "no network security group filters traffic to {}: put one on its subnet or its network \
                 interface first",
                vm.name()
            ),
        });
    }
    Ok(points)
}

/// The same, which may be none.
pub(crate) fn points_in(estate: &Estate, vm: &ResourceId) -> Result<Vec<PolicyPoint>, AccessError> {
    let network: VmNetwork =
        estate.vm(vm).ok_or_else(|| AccessError::NotFound(format!("{vm} does not exist")))?;
    if !network.problems.is_empty() {
        return Err(AccessError::Unavailable {
            what: "a part of the VM's network configuration",
            retry_after: SignedDuration::from_secs(10),
            reason: network.problems.join("; "),
        });
    }
    let points = network.enforcement_points();
    Ok(points.into_iter().map(|(point, addresses)| PolicyPoint { point, addresses }).collect())
}
