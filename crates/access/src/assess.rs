//! The verdict on VMs, for callers who may see them.

use crate::Ajar;
use crate::assessment_store::{self, StoredAssessment};
use crate::configure;
use crate::error::AccessError;
use crate::permission::{self, Action, Operation};
use crate::policy::{JitPolicy, PolicyState};
use crate::policy_store;
use crate::ports::identity::Caller;
use crate::read_back;
use crate::scope;
use ajar_network::assessment::{Assessment, JitStatus, assess};
use ajar_network::estate::Estate;
use ajar_network::resource_id::ResourceId;
use std::collections::{BTreeMap, BTreeSet};

/// The verdict on one VM.
///
/// # Errors
/// [`AccessError::Forbidden`] without the permission to read the VM, [`AccessError::NotFound`] when it does
/// not exist.
pub async fn assess_vm(ajar: &Ajar, caller: &Caller, vm: &ResourceId) -> Result<Assessment, AccessError> {
    configure::check_subscription(ajar, vm).await?;
    permission::require(ajar, caller, vm, Operation::Assess).await?;
    let policy = policy_store::read(ajar, vm).await?.map(|stored| stored.content);
    let estate = Estate::from_resources(ajar.ports.azure.vm_estate(vm).await?);
    let jit = jit_status(ajar, policy.as_ref(), &estate).await?;
    Ok(assess(&estate, vm, jit))
}

/// The verdict on every VM of the deployment's subscriptions that the caller may read, in order of id.
///
/// # Errors
/// [`AccessError::Unavailable`] when Azure or the store is.
pub async fn assess_all(ajar: &Ajar, caller: &Caller) -> Result<Vec<Assessment>, AccessError> {
    let mut assessments = Vec::new();
    for subscription in &scope::subscriptions(ajar).await? {
        let estate = Estate::from_resources(ajar.ports.azure.subscription_estate(subscription).await?);
        let policies: BTreeMap<ResourceId, JitPolicy> = policy_store::read_all(ajar, subscription)
            .await?
            .into_iter()
            .map(|policy| (policy.vm.clone(), policy))
            .collect();
        for vm in readable(ajar, caller, estate.vms(), Action::ReadVm).await? {
            let jit = jit_status(ajar, policies.get(&vm), &estate).await?;
            assessments.push(assess(&estate, &vm, jit));
        }
    }
    Ok(assessments)
}

/// The verdicts as events and sweeps last stored them, of VMs that the caller may read; cheaper than
/// [`assess_all`], and as old as their times say.
///
/// # Errors
/// [`AccessError::Unavailable`] when Azure or the store is.
pub async fn stored(ajar: &Ajar, caller: &Caller) -> Result<Vec<StoredAssessment>, AccessError> {
    let mut all = Vec::new();
    for subscription in &scope::subscriptions(ajar).await? {
        let found = assessment_store::read_all(ajar, subscription).await?;
        let vms = found.iter().map(|stored| &stored.vm);
        let visible: BTreeSet<ResourceId> =
            readable(ajar, caller, vms, Action::ReadVm).await?.into_iter().collect();
        all.extend(found.into_iter().filter(|stored| visible.contains(&stored.vm)));
    }
    all.sort_by(|one, other| one.vm.cmp(&other.vm));
    Ok(all)
}

/// Those of `vms` whose resource group the caller may do `action` on.
pub(crate) async fn readable<'a>(
    ajar: &Ajar,
    caller: &Caller,
    vms: impl Iterator<Item = &'a ResourceId>,
    action: Action,
) -> Result<Vec<ResourceId>, AccessError> {
    let mut by_scope: BTreeMap<String, Vec<ResourceId>> = BTreeMap::new();
    for vm in vms {
        let scope = permission::resource_group_scope(vm)?.to_ascii_lowercase();
        by_scope.entry(scope).or_default().push(vm.clone());
    }
    let scopes: BTreeSet<String> = by_scope.keys().cloned().collect();
    let permitted = permission::permitted_scopes(ajar, caller, scopes, action).await?;
    Ok(permitted.into_iter().filter_map(|scope| by_scope.remove(&scope)).flatten().collect())
}

/// What JIT does for a VM whose policy is known: in part where rules are respected, or where the policy is not at all
/// the NSGs that filter the VM now.
pub(crate) async fn jit_status(
    ajar: &Ajar,
    policy: Option<&JitPolicy>,
    estate: &Estate,
) -> Result<JitStatus, AccessError> {
    let Some(policy) = policy.filter(|policy| policy.state == PolicyState::Enabled) else {
        return Ok(JitStatus::Disabled);
    };
    let present = estate.vm(&policy.vm).map(|network| network.enforcement_points()).unwrap_or_default();
    let is_at = |point: &ResourceId| policy.points.iter().any(|place| place.point == *point);
    if !present.keys().all(is_at) {
        return Ok(JitStatus::EnabledInPart);
    }
    let in_part = read_back::is_protected_in_part(ajar, policy).await?;
    Ok(if in_part { JitStatus::EnabledInPart } else { JitStatus::Enabled })
}
