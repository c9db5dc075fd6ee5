//! Creating, replacing and removing a resource (`JitNetworkAccessPolicies_CreateOrUpdate`, `_Delete`): JIT is
//! turned on and off for its VMs, and reconcile makes the rules follow.

use super::address::PolicyAddress;
use super::resource::{self, Resource, check_policy, is_same, listed_nowhere_else};
use super::shape::{self, PolicyBody};
use super::view::{self, AzurePolicy};
use super::{MOST_VMS, do_all};
use crate::Ajar;
use crate::configure;
use crate::error::AccessError;
use crate::permission::{self, Action, Operation, Subject};
use crate::policy::PolicyTerms;
use crate::policy_store;
use crate::ports::identity::Caller;
use crate::ports::store::{Change, Table};
use ajar_network::resource_id::ResourceId;

/// Creates or replaces a resource: turns JIT on for each VM it lists, off for each it no longer lists and that no
/// other resource lists. Everything is checked for every VM before the first change; what fails later is finished
/// by a repeat.
///
/// # Errors
/// [`AccessError::Invalid`] naming the field, [`AccessError::Forbidden`] without both permissions on every VM,
/// those included that leave, [`AccessError::NotFound`] for an unknown VM, [`AccessError::Conflict`] with code
/// `NoEnforcementPoint`.
pub async fn put(
    ajar: &Ajar,
    caller: &Caller,
    address: &PolicyAddress,
    body: &PolicyBody,
) -> Result<AzurePolicy, AccessError> {
    check_policy(ajar, caller, address, Action::WritePolicy).await?;
    let scope = address.scope();
    let before = resource::read(ajar, address).await?;
    let listed = shape::check_vms(&body.properties.virtual_machines, address)?;
    let mut wanted = body.properties.virtual_machines.clone();
    if body.properties.append_mode == Some(true) {
        let earlier = before.iter().flat_map(|before| &before.content.virtual_machines);
        wanted.extend(earlier.filter(|earlier| !listed.iter().any(|(vm, _)| is_same(vm, earlier))).cloned());
    }
    if wanted.len() > MOST_VMS {
        return Err(AccessError::invalid(
            "properties.virtualMachines",
            format!("name at most {MOST_VMS} virtual machines; use several policies for more"),
        ));
    }
    let mut enabling: Vec<(ResourceId, PolicyTerms)> = Vec::new();
    for (vm, terms) in listed {
        let subject = Subject { vm: &vm, policy: Some(&scope) };
        permission::require(ajar, caller, subject, Operation::Configure).await?;
        configure::enforcement_points(&ajar.ports.azure.vm_estate(&vm).await?, &vm)?;
        let existing = policy_store::read(ajar, &vm).await?;
        enabling.push((vm, shape::keeping(terms, existing.map(|existing| existing.content))));
    }
    let mut leaving = before.as_ref().map(|before| before.content.members()).unwrap_or_default();
    leaving.retain(|vm| !wanted.iter().any(|wanted| is_same(vm, wanted)));
    check_leaving(ajar, caller, &scope, &leaving).await?;

    let address = before.as_ref().map_or(address, |before| &before.content.address).clone();
    let etag = before.as_ref().map(|before| before.etag.clone());
    let mut resource = Resource {
        address,
        kind: body.kind.clone().unwrap_or_else(|| "Basic".to_owned()),
        virtual_machines: wanted,
        leaving,
    };
    resource.check_size()?;
    let etag = resource::write(ajar, &resource, etag).await?;
    let enabling = enabling.iter().map(|(vm, terms)| {
        let subject = Subject { vm, policy: Some(&scope) };
        configure::enable_with(ajar, caller, subject, terms.clone())
    });
    do_all(enabling.collect()).await?;
    if !resource.leaving.is_empty() {
        let_go(ajar, caller, &resource).await?;
        resource.leaving.clear();
        resource::write(ajar, &resource, Some(etag)).await?;
    }
    view::show(ajar, &resource).await
}

/// Removes a resource and turns JIT off for those of its VMs that no other resource lists: live access ends, then
/// the denies go and rules that were moved come back. Answers whether there was one.
///
/// # Errors
/// [`AccessError::Forbidden`] without both permissions on every VM; nothing is changed then.
pub async fn delete(ajar: &Ajar, caller: &Caller, address: &PolicyAddress) -> Result<bool, AccessError> {
    check_policy(ajar, caller, address, Action::WritePolicy).await?;
    let Some(before) = resource::read(ajar, address).await? else { return Ok(false) };
    let leaving = before.content.members();
    check_leaving(ajar, caller, &address.scope(), &leaving).await?;
    let resource = Resource { virtual_machines: Vec::new(), leaving, ..before.content };
    let etag = resource::write(ajar, &resource, Some(before.etag)).await?;
    let_go(ajar, caller, &resource).await?;
    let change = Change::Delete { row: address.row(), etag };
    ajar.ports.store.commit(Table::AzurePolicies, &address.partition(), &[change]).await?;
    Ok(true)
}

async fn check_leaving(
    ajar: &Ajar,
    caller: &Caller,
    policy: &str,
    leaving: &[ResourceId],
) -> Result<(), AccessError> {
    for vm in leaving {
        permission::require(ajar, caller, Subject { vm, policy: Some(policy) }, Operation::Configure).await?;
    }
    Ok(())
}

/// Turns JIT off for the VMs that a resource has let go of, and no other resource lists. The others are read after
/// this one was written: of two resources that let go of a VM at the same time, the later one turns it off.
async fn let_go(ajar: &Ajar, caller: &Caller, resource: &Resource) -> Result<(), AccessError> {
    let alone = listed_nowhere_else(ajar, &resource.address, resource.leaving.clone()).await?;
    let scope = resource.address.scope();
    let off = alone.iter().map(|vm| turn_off(ajar, caller, Subject { vm, policy: Some(&scope) }));
    do_all(off.collect()).await.map(|_| ())
}

async fn turn_off(ajar: &Ajar, caller: &Caller, subject: Subject<'_>) -> Result<(), AccessError> {
    match configure::disable_on(ajar, caller, subject).await {
        Ok(_) | Err(AccessError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
