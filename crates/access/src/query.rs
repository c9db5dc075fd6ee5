//! Showing policies and requests to callers who may see them.

use crate::Ajar;
use crate::assess::readable;
use crate::configure;
use crate::error::AccessError;
use crate::history::{self, Entry};
use crate::permission::{self, Action, Operation};
use crate::policy::JitPolicy;
use crate::policy_store;
use crate::ports::identity::Caller;
use crate::ports::store::{Range, Table, scan_all};
use crate::request::AccessRequest;
use crate::request_id::{RequestId, no_request};
use crate::scope;
use crate::submit::{group_partition, inbox_partition};
use crate::submit_many::{CONCURRENCY, MOST_VMS};
use ajar_network::resource_id::ResourceId;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeSet;

/// How many of a person's requests one list shows, newest first.
const MOST_REQUESTS: usize = 200;

/// The hexadecimal digits of a group's id.
const GROUP_DIGITS: usize = 32;

/// More requests than a person makes before old ones are cleared.
const MOST_INBOX_ROWS: usize = 50_000;

/// The JIT policy of a VM.
///
/// # Errors
/// [`AccessError::Forbidden`] without the permission to read policies, [`AccessError::NotFound`] when the VM
/// has none.
pub async fn policy(ajar: &Ajar, caller: &Caller, vm: &ResourceId) -> Result<JitPolicy, AccessError> {
    permission::require(ajar, caller, vm, Operation::ReadPolicy).await?;
    policy_store::read(ajar, vm).await?.map(|stored| stored.content).ok_or_else(|| configure::no_policy(vm))
}

/// All JIT policies that the caller may read, in order of VM.
///
/// # Errors
/// [`AccessError::Unavailable`] when Azure or the store is.
pub async fn policies(ajar: &Ajar, caller: &Caller) -> Result<Vec<JitPolicy>, AccessError> {
    let mut all = Vec::new();
    for subscription in &scope::subscriptions(ajar).await? {
        let policies = policy_store::read_all(ajar, subscription).await?;
        let vms = policies.iter().map(|policy| &policy.vm);
        let visible: BTreeSet<ResourceId> =
            readable(ajar, caller, vms, Action::ReadPolicy).await?.into_iter().collect();
        all.extend(policies.into_iter().filter(|policy| visible.contains(&policy.vm)));
    }
    Ok(all)
}

/// A request: the requester may see it, and whoever may read policies.
///
/// # Errors
/// [`AccessError::NotFound`] when there is no such request, [`AccessError::Forbidden`] when it is not the
/// caller's to see.
pub async fn request(ajar: &Ajar, caller: &Caller, id: &RequestId) -> Result<AccessRequest, AccessError> {
    let found = history::read(ajar, id).await?.ok_or_else(|| no_request(id))?.content;
    if found.requester.object_id != caller.object_id {
        permission::require(ajar, caller, found.wish.subject(), Operation::FollowAnother).await?;
    }
    Ok(found)
}

/// What happened to a request, oldest first; for those who may see it.
///
/// # Errors
/// As [`request`].
pub async fn request_history(
    ajar: &Ajar,
    caller: &Caller,
    id: &RequestId,
) -> Result<Vec<Entry>, AccessError> {
    request(ajar, caller, id).await?;
    history::entries(ajar, id).await
}

/// The requests that were made in one go for several VMs and share `group`, in order of VM: all of them for their
/// requester, for others those that they may see as with [`request`].
///
/// # Errors
/// [`AccessError::Invalid`] when `group` is no id of a group, [`AccessError::NotFound`] when there is no such group,
/// [`AccessError::Forbidden`] when the caller may see none of its requests.
pub async fn group_requests(
    ajar: &Ajar,
    caller: &Caller,
    group: &str,
) -> Result<Vec<AccessRequest>, AccessError> {
    if group.len() != GROUP_DIGITS || !group.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let rule = format!("is not the id of a group, {GROUP_DIGITS} hexadecimal digits");
        return Err(AccessError::invalid("group", rule));
    }
    let range = Range::partition(group_partition(&group.to_ascii_lowercase()));
    let rows = scan_all(ajar.ports.store.as_ref(), Table::Inbox, &range, MOST_VMS).await?;
    let ids: Vec<RequestId> = rows.iter().filter_map(|row| RequestId::parse(row.row.as_str()).ok()).collect();
    let seen: Vec<Result<AccessRequest, AccessError>> = stream::iter(ids)
        .map(|id| async move {
            match request(ajar, caller, &id).await {
                // Of one whose making broke off there is only the row.
                Err(AccessError::NotFound(_)) => Ok(None),
                Err(error @ AccessError::Forbidden(_)) => Ok(Some(Err(error))),
                other => other.map(|request| Some(Ok(request))),
            }
        })
        .buffered(CONCURRENCY)
        .try_filter_map(|seen| async move { Ok::<_, AccessError>(seen) })
        .try_collect()
        .await?;
    let mut requests = Vec::new();
    let mut refused = None;
    for seen in seen {
        match seen {
            Ok(request) => requests.push(request),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    if requests.is_empty() {
        let missing = || AccessError::NotFound(format!("there is no group of requests `{group}`"));
        return Err(refused.unwrap_or_else(missing));
    }
    requests.sort_by(|one, other| one.wish.vm.cmp(&other.wish.vm));
    Ok(requests)
}

/// The caller's own requests, newest first, the last 200.
///
/// # Errors
/// [`AccessError::Unavailable`] when the store is.
pub async fn own_requests(ajar: &Ajar, caller: &Caller) -> Result<Vec<AccessRequest>, AccessError> {
    let range = Range::partition(inbox_partition(&caller.object_id));
    let rows = scan_all(ajar.ports.store.as_ref(), Table::Inbox, &range, MOST_INBOX_ROWS).await?;
    let mut requests = Vec::new();
    for row in rows {
        let Ok(id) = RequestId::parse(row.row.as_str()) else { continue };
        if let Some(found) = history::read(ajar, &id).await? {
            requests.push(found.content);
        }
    }
    requests.sort_by_key(|request| std::cmp::Reverse(request.requested_at));
    requests.truncate(MOST_REQUESTS);
    Ok(requests)
}
