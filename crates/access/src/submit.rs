//! Asking for access: check, store, and leave the decision to the queue.

use crate::Ajar;
use crate::correlation;
use crate::document::Stored;
use crate::due::{self, GUARD_DELAY, Task};
use crate::error::AccessError;
use crate::history::{self, Step};
use crate::keys::Key;
use crate::life_cycle::Status;
use crate::metrics::{self, Metric};
use crate::notification::Happened;
use crate::organisation;
use crate::permission::{self, Operation, Subject};
use crate::policy;
use crate::policy::{JitPolicy, PolicyState};
use crate::policy_store;
use crate::ports::identity::Caller;
use crate::ports::store::{Change, Table};
use crate::request::{AccessRequest, RequestInput, Wish};
use crate::request_id::RequestId;
use crate::send;
use crate::store_marker;
use crate::waiting;
use ajar_network::resource_id::ResourceId;

/// Takes a request: the caller learns at once whether it can be granted; it is decided and opened through
/// the queue.
///
/// # Errors
/// [`AccessError::Forbidden`] without the permission to initiate, [`AccessError::NotFound`] when the VM has
/// no JIT policy, [`AccessError::Invalid`] when the policy does not allow it, [`AccessError::Forbidden`] naming the
/// organisation's policies that forbid it. Nothing is stored then.
pub async fn submit(
    ajar: &Ajar,
    caller: &Caller,
    input: &RequestInput,
) -> Result<AccessRequest, AccessError> {
    submit_in(ajar, caller, input, None).await
}

/// The same for one VM of a group.
pub(crate) async fn submit_in(
    ajar: &Ajar,
    caller: &Caller,
    input: &RequestInput,
    group: Option<String>,
) -> Result<AccessRequest, AccessError> {
    let taken = async {
        let vm = policy::parse_vm("vm", &input.vm)?;
        let policy = authorised_policy(ajar, caller, (&vm).into()).await?;
        let wish = input.wish(&policy.terms)?;
        let now = ajar.ports.clock.now();
        wish.check_start(now)?;
        let id = RequestId::new(&wish.vm, now, &ajar.ports.ids.fresh());
        store(ajar, caller, id, wish, &policy, group).await
    }
    .await;
    if let Err(error) = &taken {
        metrics::count(Metric::Requests, error.kind());
    }
    taken
}

/// The same for a wish that was made another way and has an id; `policy` is the VM's, as [`authorised_policy`]
/// gave it. Doing it again with the same id and wish adds nothing and finishes what broke off.
pub(crate) async fn submit_wish(
    ajar: &Ajar,
    caller: &Caller,
    id: RequestId,
    wish: Wish,
    policy: &JitPolicy,
) -> Result<AccessRequest, AccessError> {
    store(ajar, caller, id, wish, policy, None).await
}

async fn store(
    ajar: &Ajar,
    caller: &Caller,
    id: RequestId,
    wish: Wish,
    policy: &JitPolicy,
    group: Option<String>,
) -> Result<AccessRequest, AccessError> {
    wish.check_against(policy)?;
    organisation::require_wish(ajar, caller.into(), &wish).await?;
    let now = ajar.ports.clock.now();
    // The rows of the inbox come before the request: a row without its request shows nothing, but a request whose
    // row is missing would be opened for somebody who was told that it failed.
    let review = async { if wish.break_glass { waiting::list(ajar, &id).await } else { Ok(()) } };
    let (guard, opened, (), ()) = futures::try_join!(
        due::note(ajar, now + GUARD_DELAY, Task::Decide { request: id.clone() }),
        history::open_new(ajar, &id),
        list(ajar, &id, caller, group.as_deref()),
        review,
    )?;
    let what = wish.justification.clone().unwrap_or_else(|| "no justification given".into());
    let request = AccessRequest {
        id: id.clone(),
        requester: caller.clone(),
        wish,
        requested_at: now,
        status: Status::Requested,
        reason: None,
        close_reason: None,
        start: None,
        end: None,
        window: 0,
        group,
        reminder: None,
        reminded: None,
        points: Vec::new(),
        history: 0,
        correlation: correlation::current(),
        sign_in: caller.sign_in.clone(),
        approval: None,
        review: None,
        guard: Some(guard),
    };
    let asked =
        if request.wish.break_glass { "asked for access in an emergency" } else { "asked for access" };
    let step = Step::by(caller, format!("{asked}: {what}")).telling(Happened::Asked);
    opened.create(request.clone(), step).await?;
    send::send_request(ajar, &id, None).await;
    metrics::count(Metric::Requests, "accepted");
    tracing::info!(request = %id, requester = caller.object_id, vm = %request.wish.vm, "access requested");
    Ok(request)
}

/// Lists a request among those of its requester and of its group.
async fn list(ajar: &Ajar, id: &RequestId, caller: &Caller, group: Option<&str>) -> Result<(), AccessError> {
    let row = [Change::Put { row: Key::new([id.as_str()]), document: "{\"v\":1}".into() }];
    let put = async |partition: Key| ajar.ports.store.commit(Table::Inbox, &partition, &row).await;
    let of_group = async {
        match group {
            Some(group) => put(group_partition(group)).await.map(|_| ()),
            None => Ok(()),
        }
    };
    futures::try_join!(put(inbox_partition(&caller.object_id)), of_group)?;
    Ok(())
}

/// The partition of the requests of a group in table `inbox`. No person's: an object id has no second part.
pub(crate) fn group_partition(group: &str) -> Key {
    Key::new(["group", group])
}

/// The partition of a person's requests in table `inbox`.
pub(crate) fn inbox_partition(object_id: &str) -> Key {
    Key::new([object_id.to_ascii_lowercase()])
}

/// The policy of a VM, for a caller who may ask for access under it.
pub(crate) async fn authorised_policy(
    ajar: &Ajar,
    caller: &Caller,
    subject: Subject<'_>,
) -> Result<JitPolicy, AccessError> {
    let vm = subject.vm;
    let (permitted, refused, policy) = futures::join!(
        permission::require(ajar, caller, subject, Operation::Request),
        store_marker::refuse_restored(ajar),
        policy_store::read(ajar, vm),
    );
    // Who may not ask does not learn whether there is anything to ask for.
    permitted?;
    refused?;
    in_force(vm, policy?)
}

/// The policy that was read for `vm`, if it is in force.
pub(crate) fn in_force(vm: &ResourceId, found: Option<Stored<JitPolicy>>) -> Result<JitPolicy, AccessError> {
    match found {
        Some(stored) if stored.content.state == PolicyState::Enabled => Ok(stored.content),
        _ => Err(AccessError::NotFound(format!(
            "{} has no JIT policy in force: nothing is kept shut there, and nothing can be asked for. Whoever \
             may configure it can turn JIT on",
            vm.name()
        ))),
    }
}
