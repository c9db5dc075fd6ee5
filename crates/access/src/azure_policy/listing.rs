//! Showing resources: one, or those of a subscription, resource group or location, page by page.

use super::address::{ListScope, PolicyAddress, lower};
use super::do_all;
use super::resource::{self, Resource, check_group, check_policy, check_subscription};
use super::view::{self, AzurePolicy};
use crate::Ajar;
use crate::document::decode;
use crate::error::AccessError;
use crate::keys::Key;
use crate::permission::{self, Action};
use crate::ports::identity::Caller;
use crate::ports::store::{Row, Table};
use std::collections::BTreeMap;

/// A page ends with the resource that brings its VMs to this many: each is looked up.
const VMS_OF_A_PAGE: usize = 200;

/// The most resources of a page.
const RESOURCES_OF_A_PAGE: usize = 100;

/// How many rows one page is made from; what the caller may not see is passed over, but not without end.
const ROWS_OF_A_PAGE: usize = 1000;

/// The resource that a page ended with: the next page begins after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageEnd {
    partition: Key,
    row: Key,
}

impl PageEnd {
    /// Reads what [`PageEnd`]'s `Display` wrote; `None` when it is something else.
    pub fn parse(text: &str) -> Option<PageEnd> {
        let (partition, row) = text.split_once(':')?;
        Some(PageEnd { partition: Key::from_stored(partition)?, row: Key::from_stored(row)? })
    }

    fn of(row: &Row) -> PageEnd {
        PageEnd { partition: row.partition.clone(), row: row.row.clone() }
    }

    fn is_before(&self, row: &Row) -> bool {
        (&self.partition, &self.row) < (&row.partition, &row.row)
    }
}

impl std::fmt::Display for PageEnd {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.partition.as_str(), self.row.as_str())
    }
}

/// Some of the resources of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyPage {
    /// The resources.
    pub policies: Vec<AzurePolicy>,
    /// Where the next page begins; absent on the last.
    pub next: Option<PageEnd>,
}

/// One resource.
///
/// # Errors
/// [`AccessError::Forbidden`] without the permission to read it, [`AccessError::NotFound`] when there is none of that name.
pub async fn get(ajar: &Ajar, caller: &Caller, address: &PolicyAddress) -> Result<AzurePolicy, AccessError> {
    check_policy(ajar, caller, address, Action::ReadPolicy).await?;
    let found = resource::read(ajar, address).await?.ok_or_else(|| resource::no_such(address))?;
    view::show(ajar, &found.content).await
}

/// The resources of a subscription, resource group or location that the caller may read, one page of them: from
/// the beginning, or after where another page ended. A page may be empty although more follow.
///
/// # Errors
/// [`AccessError::NotFound`] for a subscription that this deployment does not look after,
/// [`AccessError::Forbidden`] when one resource group is named and the caller may not read policies there.
pub async fn list(
    ajar: &Ajar,
    caller: &Caller,
    scope: &ListScope,
    after: Option<&PageEnd>,
) -> Result<PolicyPage, AccessError> {
    check_subscription(ajar, &scope.subscription).await?;
    if let Some(group) = scope.resource_group.as_deref() {
        // The name does not matter: what is asked about is the resource group.
        let address = PolicyAddress::new(&scope.subscription, group, "any", "any")?;
        check_group(ajar, caller, &address, Action::ReadPolicy).await?;
    }
    let (resources, next) = read_page(ajar, caller, scope, after).await?;
    let policies = do_all(resources.iter().map(|resource| view::show(ajar, resource)).collect()).await?;
    Ok(PolicyPage { policies, next })
}

async fn read_page(
    ajar: &Ajar,
    caller: &Caller,
    scope: &ListScope,
    after: Option<&PageEnd>,
) -> Result<(Vec<Resource>, Option<PageEnd>), AccessError> {
    let mut range = resource::range_of(scope);
    if let Some(after) = after {
        // Nobody is led out of the scope by a made-up place.
        range.first_partition = range.first_partition.max(Some(after.partition.clone()));
    }
    let mut readable: BTreeMap<String, bool> = BTreeMap::new();
    let mut resources: Vec<Resource> = Vec::new();
    let (mut vms, mut seen) = (0, 0);
    let mut from = None;
    loop {
        let store = ajar.ports.store.as_ref();
        let page = store.scan(Table::AzurePolicies, &range, from.as_ref(), RESOURCES_OF_A_PAGE).await?;
        for row in page.rows.iter().filter(|row| after.is_none_or(|after| after.is_before(row))) {
            seen += 1;
            let resource: Resource = decode(row)?;
            if is_in(scope, &resource) && may_read(ajar, caller, &mut readable, &resource).await? {
                vms += resource.virtual_machines.len();
                resources.push(resource);
            }
            let is_full = vms >= VMS_OF_A_PAGE || resources.len() >= RESOURCES_OF_A_PAGE;
            if is_full || seen >= ROWS_OF_A_PAGE {
                let is_last = page.next.is_none() && page.rows.last() == Some(row);
                return Ok((resources, (!is_last).then(|| PageEnd::of(row))));
            }
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok((resources, None)),
        }
    }
}

fn is_in(scope: &ListScope, resource: &Resource) -> bool {
    scope.location.as_deref().is_none_or(|location| lower(location) == lower(resource.address.location()))
}

async fn may_read(
    ajar: &Ajar,
    caller: &Caller,
    readable: &mut BTreeMap<String, bool>,
    resource: &Resource,
) -> Result<bool, AccessError> {
    let group = lower(&resource.address.group_scope());
    if let Some(known) = readable.get(&group) {
        return Ok(*known);
    }
    let permitted = permission::permitted_scopes(ajar, caller, [group.clone()], Action::ReadPolicy).await?;
    readable.insert(group, !permitted.is_empty());
    Ok(!permitted.is_empty())
}
