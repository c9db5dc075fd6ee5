//! JIT policies as Azure has them (`Microsoft.Security/locations/jitNetworkAccessPolicies`,
//! `api-version=2020-01-01`): one named resource in a resource group and location, for many VMs.
//!
//! The resource is a view. What is in force is each VM's own policy: a VM whose policy is gone is not shown, and
//! terms that were changed natively are shown as they are. What Azure's shape cannot say (standing exceptions,
//! connections, limits) a PUT leaves as it is on each VM.
//!
//! A VM may be listed by several resources; it stays protected as long as one of them lists it.

mod opening;
mod shape;
mod view;

pub use opening::{InitiateBody, InitiatePort, InitiateVm, initiate};
pub use shape::{PolicyBody, PolicyProperties, PortTerms, VmTerms};
pub use view::{AzurePolicy, AzureRequest, OpenedPort, OpenedVm};

use crate::Ajar;
use crate::configure;
use crate::document::{Document, Stored, encode, stored};
use crate::error::AccessError;
use crate::keys::{Key, digest};
use crate::permission::{self, Action, Operation};
use crate::policy::PolicyTerms;
use crate::policy_store;
use crate::ports::identity::Caller;
use crate::ports::store::{Change, Etag, MAX_DOCUMENT_UNITS, Range, Table, scan_all};
use ajar_network::resource_id::ResourceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The most VMs of one resource: each takes a handful of calls, and a request is answered within minutes.
const MOST_VMS: usize = 100;

/// More resources than one subscription has.
const MOST_RESOURCES: usize = 10_000;

/// The longest kind of a resource; Azure knows `Basic`.
const LONGEST_KIND: usize = 64;

/// The longest name of a resource group (Azure's own limit).
const LONGEST_GROUP: usize = 90;

/// Where a resource is, as the caller spells it. All parts compare without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAddress {
    subscription: String,
    resource_group: String,
    location: String,
    name: String,
}

impl PolicyAddress {
    /// The address of a resource.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] when the parts make no resource id.
    pub fn new(
        subscription: &str,
        resource_group: &str,
        location: &str,
        name: &str,
    ) -> Result<PolicyAddress, AccessError> {
        if resource_group.chars().count() > LONGEST_GROUP {
            return Err(AccessError::invalid(
                "resourceGroupName",
                format!("is longer than {LONGEST_GROUP} characters"),
            ));
        }
        let address = PolicyAddress {
            subscription: subscription.to_owned(),
            resource_group: resource_group.to_owned(),
            location: location.to_owned(),
            name: name.to_owned(),
        };
        ResourceId::parse(&address.id())
            .map_err(|error| AccessError::invalid("jitNetworkAccessPolicyName", error.to_string()))?;
        Ok(address)
    }

    /// The resource's id.
    pub fn id(&self) -> String {
        format!(
            "{}/providers/Microsoft.Security/locations/{}/jitNetworkAccessPolicies/{}",
            self.group_scope(),
            self.location,
            self.name
        )
    }

    /// The resource's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The location in its path.
    pub fn location(&self) -> &str {
        &self.location
    }

    fn group_scope(&self) -> String {
        format!("/subscriptions/{}/resourceGroups/{}", self.subscription, self.resource_group)
    }

    fn partition(&self) -> Key {
        Key::new([lower(&self.subscription), group_part(&self.resource_group), lower(&self.location)])
    }

    fn row(&self) -> Key {
        Key::new([lower(&self.name)])
    }
}

/// Which resources to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListScope {
    /// The subscription.
    pub subscription: String,
    /// Only those of this resource group.
    pub resource_group: Option<String>,
    /// Only those of this location.
    pub location: Option<String>,
}

/// A resource as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    address: PolicyAddress,
    kind: String,
    virtual_machines: Vec<VmTerms>,
    /// VMs that were taken out and whose JIT is still to be turned off, so that a repeat finishes it.
    leaving: Vec<ResourceId>,
}

impl Document for Resource {
    const VERSION: u32 = 1;
    const NAME: &'static str = "Azure-shaped JIT policy";
}

/// Creates or replaces a resource: turns JIT on for each VM it lists, off for each it no longer lists.
/// Everything is checked for every VM before the first change; what fails later is finished by a repeat.
///
/// # Errors
/// [`AccessError::Invalid`] naming the field, [`AccessError::Forbidden`] without both permissions on every VM,
/// [`AccessError::NotFound`] for an unknown VM, [`AccessError::Conflict`] with code `NoEnforcementPoint`.
pub async fn put(
    ajar: &Ajar,
    caller: &Caller,
    address: &PolicyAddress,
    body: &PolicyBody,
) -> Result<AzurePolicy, AccessError> {
    check_group(ajar, caller, address, Action::WritePolicy).await?;
    let before = read(ajar, address).await?;
    let listed = shape::check_vms(&body.properties.virtual_machines, |vm| is_in_group(address, vm))?;
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
        permission::require(ajar, caller, &vm, Operation::Configure).await?;
        configure::enforcement_points(&ajar.ports.azure.vm_estate(&vm).await?, &vm)?;
        let existing = policy_store::read(ajar, &vm).await?;
        enabling.push((vm, shape::keeping(terms, existing.map(|existing| existing.content))));
    }
    let mut leaving = members(before.as_ref().map(|before| &before.content));
    leaving.retain(|vm| !wanted.iter().any(|wanted| is_same(vm, wanted)));
    let leaving = only_here(ajar, address, leaving).await?;
    for vm in &leaving {
        permission::require(ajar, caller, vm, Operation::Configure).await?;
    }

    let address = before.as_ref().map_or(address, |before| &before.content.address).clone();
    let etag = before.as_ref().map(|before| before.etag.clone());
    let mut resource = Resource {
        address,
        kind: body.kind.clone().unwrap_or_else(|| "Basic".to_owned()),
        virtual_machines: wanted,
        leaving,
    };
    check_size(&resource)?;
    let etag = write(ajar, &resource, etag).await?;
    for (vm, terms) in enabling {
        configure::enable_with(ajar, caller, &vm, terms).await?;
    }
    if !resource.leaving.is_empty() {
        turn_off(ajar, caller, &resource.leaving).await?;
        resource.leaving.clear();
        write(ajar, &resource, Some(etag)).await?;
    }
    view::show(ajar, &resource).await
}

/// Removes a resource and turns JIT off for its VMs. Answers whether there was one.
///
/// # Errors
/// [`AccessError::Forbidden`] without both permissions on every VM; nothing is changed then.
pub async fn delete(ajar: &Ajar, caller: &Caller, address: &PolicyAddress) -> Result<bool, AccessError> {
    check_group(ajar, caller, address, Action::WritePolicy).await?;
    let Some(before) = read(ajar, address).await? else { return Ok(false) };
    let leaving = only_here(ajar, address, members(Some(&before.content))).await?;
    for vm in &leaving {
        permission::require(ajar, caller, vm, Operation::Configure).await?;
    }
    let resource = Resource { virtual_machines: Vec::new(), leaving, ..before.content };
    let etag = write(ajar, &resource, Some(before.etag)).await?;
    turn_off(ajar, caller, &resource.leaving).await?;
    let change = Change::Delete { row: address.row(), etag };
    ajar.ports.store.commit(Table::AzurePolicies, &address.partition(), &[change]).await?;
    Ok(true)
}

/// One resource.
///
/// # Errors
/// [`AccessError::Forbidden`] without the permission to read policies in the resource group,
/// [`AccessError::NotFound`] when there is none of that name.
pub async fn get(ajar: &Ajar, caller: &Caller, address: &PolicyAddress) -> Result<AzurePolicy, AccessError> {
    check_group(ajar, caller, address, Action::ReadPolicy).await?;
    view::show(ajar, &existing(ajar, address).await?).await
}

/// The resources of a subscription, resource group or location that the caller may read.
///
/// # Errors
/// [`AccessError::NotFound`] for a subscription that this deployment does not look after,
/// [`AccessError::Forbidden`] when one resource group is named and the caller may not read policies there.
pub async fn list(ajar: &Ajar, caller: &Caller, scope: &ListScope) -> Result<Vec<AzurePolicy>, AccessError> {
    let group = scope.resource_group.as_deref();
    check_subscription(ajar, &scope.subscription)?;
    if let Some(group) = group {
        // The name does not matter: what is asked about is the resource group.
        let address = PolicyAddress::new(&scope.subscription, group, "any", "any")?;
        check_group(ajar, caller, &address, Action::ReadPolicy).await?;
    }
    let mut resources = read_all(ajar, &scope.subscription, group).await?;
    resources.retain(|resource| {
        scope.location.as_deref().is_none_or(|location| lower(location) == lower(&resource.address.location))
    });
    let groups: BTreeSet<String> =
        resources.iter().map(|resource| lower(&resource.address.group_scope())).collect();
    let readable = permission::permitted_scopes(ajar, caller, groups, Action::ReadPolicy).await?;
    let mut policies = Vec::new();
    for resource in resources {
        if readable.contains(&lower(&resource.address.group_scope())) {
            policies.push(view::show(ajar, &resource).await?);
        }
    }
    Ok(policies)
}

/// What is compared: Azure's names and locations, of which `West Europe` and `westeurope` are one.
fn lower(text: &str) -> String {
    text.to_lowercase().replace(' ', "")
}

/// A resource group in a partition's key. A name that is not ASCII may be so long in a key that the key is cut,
/// and would then not be found under its group.
fn group_part(group: &str) -> String {
    let group = lower(group);
    if group.is_ascii() { group } else { digest(&group, 40) }
}

fn is_same(vm: &ResourceId, written: &VmTerms) -> bool {
    vm.as_str().eq_ignore_ascii_case(written.id.trim_end_matches('/'))
}

fn is_in_group(address: &PolicyAddress, vm: &ResourceId) -> bool {
    vm.subscription().eq_ignore_ascii_case(&address.subscription)
        && vm.resource_group().is_some_and(|group| group.eq_ignore_ascii_case(&address.resource_group))
}

/// Every VM of a resource, those included that were being taken out of it.
fn members(resource: Option<&Resource>) -> Vec<ResourceId> {
    let Some(resource) = resource else { return Vec::new() };
    let listed = resource.virtual_machines.iter().filter_map(|vm| ResourceId::parse(&vm.id).ok());
    let all: BTreeSet<ResourceId> = listed.chain(resource.leaving.iter().cloned()).collect();
    all.into_iter().collect()
}

/// Those of `vms` that no other resource lists.
async fn only_here(
    ajar: &Ajar,
    address: &PolicyAddress,
    mut vms: Vec<ResourceId>,
) -> Result<Vec<ResourceId>, AccessError> {
    if vms.is_empty() {
        return Ok(vms);
    }
    // A resource lists VMs of its own resource group alone, so no other group needs to be read.
    for other in read_all(ajar, &address.subscription, Some(&address.resource_group)).await? {
        if other.address.partition() != address.partition() || other.address.row() != address.row() {
            vms.retain(|vm| !other.virtual_machines.iter().any(|listed| is_same(vm, listed)));
        }
    }
    Ok(vms)
}

/// Checks that a resource can be kept: its body may have been larger than a row may be.
fn check_size(resource: &Resource) -> Result<(), AccessError> {
    if resource.kind.chars().count() > LONGEST_KIND {
        return Err(AccessError::invalid("kind", format!("is longer than {LONGEST_KIND} characters")));
    }
    if encode(resource)?.encode_utf16().count() > MAX_DOCUMENT_UNITS {
        return Err(AccessError::invalid(
            "properties.virtualMachines",
            "is too large for one policy: use several policies, each with fewer virtual machines or sources",
        ));
    }
    Ok(())
}

async fn turn_off(ajar: &Ajar, caller: &Caller, vms: &[ResourceId]) -> Result<(), AccessError> {
    for vm in vms {
        match configure::disable(ajar, caller, vm).await {
            Ok(_) | Err(AccessError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn check_subscription(ajar: &Ajar, subscription: &str) -> Result<(), AccessError> {
    let id = ResourceId::parse(&format!("/subscriptions/{subscription}"))
        .map_err(|error| AccessError::invalid("subscriptionId", error.to_string()))?;
    configure::check_subscription(ajar, &id)
}

/// Checks that the caller may do `action` in the resource group, before anything is said about what is there.
async fn check_group(
    ajar: &Ajar,
    caller: &Caller,
    address: &PolicyAddress,
    action: Action,
) -> Result<(), AccessError> {
    check_subscription(ajar, &address.subscription)?;
    permission::require_on(ajar, caller, &address.group_scope(), action).await
}

async fn read(ajar: &Ajar, address: &PolicyAddress) -> Result<Option<Stored<Resource>>, AccessError> {
    let row = ajar.ports.store.get(Table::AzurePolicies, &address.partition(), &address.row()).await?;
    row.as_ref().map(stored).transpose()
}

async fn existing(ajar: &Ajar, address: &PolicyAddress) -> Result<Resource, AccessError> {
    let found = read(ajar, address).await?;
    found
        .map(|found| found.content)
        .ok_or_else(|| AccessError::NotFound(format!("there is no JIT policy {}", address.id())))
}

async fn read_all(
    ajar: &Ajar,
    subscription: &str,
    group: Option<&str>,
) -> Result<Vec<Resource>, AccessError> {
    let parts: Vec<String> = std::iter::once(lower(subscription)).chain(group.map(group_part)).collect();
    let range = Range::partitions_under(&Key::new(&parts));
    let rows = scan_all(ajar.ports.store.as_ref(), Table::AzurePolicies, &range, MOST_RESOURCES).await?;
    rows.iter().map(|row| stored(row).map(|stored: Stored<Resource>| stored.content)).collect()
}

/// Writes a resource that was read with `etag`, or that must not exist. Whoever loses to another writer is told
/// to come back, and its repeat starts from what the other wrote.
async fn write(ajar: &Ajar, resource: &Resource, etag: Option<Etag>) -> Result<Etag, AccessError> {
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
