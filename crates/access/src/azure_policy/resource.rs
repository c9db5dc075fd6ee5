//! The resource as stored, and which VMs it speaks for.

use super::address::{ListScope, PolicyAddress, group_part, lower};
use super::shape::VmTerms;
use crate::Ajar;
use crate::configure;
use crate::document::{Document, Stored, encode, stored};
use crate::error::AccessError;
use crate::keys::Key;
use crate::permission::{self, Action};
use crate::ports::identity::Caller;
use crate::ports::store::{Change, Etag, MAX_DOCUMENT_UNITS, Range, Table, scan_all};
use ajar_network::resource_id::ResourceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// More resources than one resource group has.
const MOST_RESOURCES: usize = 10_000;

/// The longest kind of a resource; Azure knows `Basic`.
const LONGEST_KIND: usize = 64;

/// A resource as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resource {
    pub(super) address: PolicyAddress,
    pub(super) kind: String,
    pub(super) virtual_machines: Vec<VmTerms>,
    /// VMs that were taken out and whose JIT is still to be turned off, so that a repeat finishes it.
    pub(super) leaving: Vec<ResourceId>,
}

impl Document for Resource {
    const VERSION: u32 = 1;
    const NAME: &'static str = "Azure-shaped JIT policy";
}

impl Resource {
    /// Every VM of the resource, those included that are being taken out of it.
    pub(super) fn members(&self) -> Vec<ResourceId> {
        let listed = self.virtual_machines.iter().filter_map(|vm| ResourceId::parse(&vm.id).ok());
        let all: BTreeSet<ResourceId> = listed.chain(self.leaving.iter().cloned()).collect();
        all.into_iter().collect()
    }

    /// Whether it lists a VM.
    pub(super) fn lists(&self, vm: &ResourceId) -> bool {
        self.virtual_machines.iter().any(|listed| is_same(vm, listed))
    }

    /// Checks that it can be kept: the body it came in may have been larger than a row may be.
    pub(super) fn check_size(&self) -> Result<(), AccessError> {
        if self.kind.chars().count() > LONGEST_KIND {
            return Err(AccessError::invalid("kind", format!("is longer than {LONGEST_KIND} characters")));
        }
        if encode(self)?.encode_utf16().count() > MAX_DOCUMENT_UNITS {
            return Err(AccessError::invalid(
                "properties.virtualMachines",
                "is too large for one policy: use several policies, each with fewer virtual machines or sources",
            ));
        }
        Ok(())
    }
}

/// Whether a VM's id as it was written names `vm`.
pub(super) fn is_same(vm: &ResourceId, written: &VmTerms) -> bool {
    vm.as_str().eq_ignore_ascii_case(written.id.trim_end_matches('/'))
}

/// Those of `vms` that no resource but the one at `address` lists. What others list stays protected.
pub(super) async fn listed_nowhere_else(
    ajar: &Ajar,
    address: &PolicyAddress,
    mut vms: Vec<ResourceId>,
) -> Result<Vec<ResourceId>, AccessError> {
    if vms.is_empty() {
        return Ok(vms);
    }
    // A resource lists VMs of its own resource group alone, so no other group needs to be read.
    let group = Key::new([lower(address.subscription()), group_part(address.resource_group())]);
    let rows = scan_all(
        ajar.ports.store.as_ref(),
        Table::AzurePolicies,
        &Range::partitions_under(&group),
        MOST_RESOURCES,
    )
    .await?;
    for row in &rows {
        if row.partition != address.partition() || row.row != address.row() {
            let other = stored::<Resource>(row)?.content;
            vms.retain(|vm| !other.lists(vm));
        }
    }
    Ok(vms)
}

/// Reads the resource at `address`.
pub(super) async fn read(
    ajar: &Ajar,
    address: &PolicyAddress,
) -> Result<Option<Stored<Resource>>, AccessError> {
    let row = ajar.ports.store.get(Table::AzurePolicies, &address.partition(), &address.row()).await?;
    row.as_ref().map(stored).transpose()
}

/// The answer when there is no such resource.
pub(super) fn no_such(address: &PolicyAddress) -> AccessError {
    AccessError::NotFound(format!("there is no JIT policy {}", address.id()))
}

/// Where the resources of a scope are.
pub(super) fn range_of(scope: &ListScope) -> Range {
    let group = scope.resource_group.as_deref().map(group_part);
    let parts: Vec<String> = std::iter::once(lower(&scope.subscription)).chain(group).collect();
    Range::partitions_under(&Key::new(&parts))
}

/// Writes a resource that was read with `etag`, or that must not exist. Whoever loses to another writer is told
/// to come back, and its repeat starts from what the other wrote.
pub(super) async fn write(ajar: &Ajar, resource: &Resource, etag: Option<Etag>) -> Result<Etag, AccessError> {
    let (row, document) = (resource.address.row(), encode(resource)?);
    let change = match etag {
        Some(etag) => Change::Replace { row, document, etag },
        None => Change::Insert { row, document },
    };
    let etags =
        ajar.ports.store.commit(Table::AzurePolicies, &resource.address.partition(), &[change]).await?;
    etags
        .into_iter()
        .next()
        .flatten()
        .ok_or_else(|| AccessError::internal("the store gave no ETag for an Azure-shaped policy"))
}

/// Checks that this deployment looks after a subscription.
pub(super) async fn check_subscription(ajar: &Ajar, subscription: &str) -> Result<(), AccessError> {
    let id = ResourceId::parse(&format!("/subscriptions/{subscription}"))
        .map_err(|error| AccessError::invalid("subscriptionId", error.to_string()))?;
    configure::check_subscription(ajar, &id).await
}

/// Checks that the caller may do `action` on the resource, before anything is said about what is there.
pub(super) async fn check_policy(
    ajar: &Ajar,
    caller: &Caller,
    address: &PolicyAddress,
    action: Action,
) -> Result<(), AccessError> {
    check_subscription(ajar, address.subscription()).await?;
    permission::require_on_policy(ajar, caller, (&address.scope(), &address.group_scope()), action).await
}

/// Checks that the caller may do `action` in the resource group, before anything is said about what is there.
pub(super) async fn check_group(
    ajar: &Ajar,
    caller: &Caller,
    address: &PolicyAddress,
    action: Action,
) -> Result<(), AccessError> {
    check_subscription(ajar, address.subscription()).await?;
    permission::require_on(ajar, caller, &address.group_scope(), action).await
}
