//! What waits for a person: requests to approve, and emergencies to review, with what would open and what is open.

use crate::Ajar;
use crate::approval;
use crate::configure::Preview;
use crate::error::AccessError;
use crate::history;
use crate::life_cycle::Status;
use crate::organisation;
use crate::permission::{self, Operation};
use crate::point::{self, Grant};
use crate::policy_store;
use crate::ports::identity::Caller;
use crate::ports::organisation::Judgement;
use crate::request::AccessRequest;
use crate::request_id::RequestId;
use crate::submit;
use crate::waiting;
use ajar_network::plan;
use futures::stream::{self, StreamExt, TryStreamExt};

/// How many requests are looked at at once.
const CONCURRENCY: usize = 8;

/// How many the list shows, those that were asked first.
const MOST_SHOWN: usize = 200;

/// What waits for `caller`, in the order in which it was asked: what they may decide on, by their Azure role and the
/// organisation's policies, and have not yet.
///
/// # Errors
/// [`AccessError::Unavailable`] when Azure or the store is.
pub async fn waiting_for(ajar: &Ajar, caller: &Caller) -> Result<Vec<AccessRequest>, AccessError> {
    let ids = waiting::all(ajar).await?;
    let mut found: Vec<AccessRequest> = stream::iter(ids)
        .map(|id| async move { waits_for(ajar, caller, &id).await })
        .buffered(CONCURRENCY)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await?;
    found.sort_by_key(|request| request.requested_at);
    found.truncate(MOST_SHOWN);
    Ok(found)
}

async fn waits_for(
    ajar: &Ajar,
    caller: &Caller,
    id: &RequestId,
) -> Result<Option<AccessRequest>, AccessError> {
    let Some(request) = history::read(ajar, id).await?.map(|found| found.content) else { return Ok(None) };
    let waits = request.status == Status::AwaitingApproval || request.wants_review();
    if !waits {
        if request.status.is_final() {
            // Whoever ended it stopped before the row was gone.
            waiting::remove(ajar, id).await?;
        }
        return Ok(None);
    }
    let approval = request.approval.as_ref();
    if approval.is_some_and(|approval| approval.is_given_by(caller)) {
        return Ok(None);
    }
    let given = approval.map_or(0, |approval| approval.given.len());
    match permission::require(ajar, caller, request.wish.subject(), Operation::Approve).await {
        Ok(()) => {}
        Err(AccessError::Forbidden(_)) => return Ok(None),
        Err(error) => return Err(error),
    }
    let machine = match organisation::machine(ajar, &request.wish.vm).await {
        Err(AccessError::NotFound(_)) => return Ok(None),
        machine => machine?,
    };
    let judgement = organisation::judge_approval(ajar, caller.into(), &request, &machine, given);
    Ok(matches!(judgement, Judgement::Allowed { .. }).then_some(request))
}

/// What approving a request would change at each enforcement point if it were opened now, rule by rule. Nothing is
/// written.
///
/// # Errors
/// [`AccessError::NotFound`] when there is no such request or its VM has no JIT policy any more,
/// [`AccessError::Forbidden`] when it is not the caller's to decide on, [`AccessError::Conflict`] with code
/// `CannotBePlanned` when an NSG has no room for it.
pub async fn plan(
    ajar: &Ajar,
    caller: &Caller,
    id: &RequestId,
) -> Result<(AccessRequest, Vec<Preview>), AccessError> {
    let request = approval::decidable(ajar, caller, id).await?;
    let policy = submit::in_force(&request.wish.vm, policy_store::read(ajar, &request.wish.vm).await?)?;
    let now = ajar.ports.clock.now();
    let mut previews = Vec::new();
    for place in policy.points.iter().filter(|place| !place.addresses.is_empty()) {
        let nsg = ajar.ports.azure.network_security_group(&place.point).await?;
        let rows = point::read(ajar, &place.point).await?;
        let mut desired = rows.desired(ajar);
        if !request.status.is_final() && request.start.is_none() {
            let end = now + request.wish.duration;
            desired.grants.extend(Grant::of(&request, &place.addresses, now, end).flows());
        }
        let planned = plan::plan(&nsg, &desired, now).map_err(|error| AccessError::Conflict {
            code: "CannotBePlanned",
            message: format!("{} cannot be opened: {error}", place.point.name()),
        })?;
        previews.push(Preview::of(place.clone(), &nsg, planned));
    }
    Ok((request, previews))
}

/// What a request opens, in a sentence for whoever decides on it.
pub fn sentence(request: &AccessRequest) -> String {
    let wish = &request.wish;
    let flows: Vec<String> = wish
        .flows
        .iter()
        .map(|flow| {
            let sources: Vec<String> = flow.sources.iter().map(ToString::to_string).collect();
            format!("port {}/{} to {}", flow.ports, flow.protocol, sources.join(", "))
        })
        .collect();
    let when = wish.not_before.map_or_else(|| "at once".to_owned(), |start| format!("from {start:.0}"));
    format!(
        "opens {} of {} for {}, {when}, for {:#} at most, and nothing else",
        flows.join(" and "),
        wish.vm.name(),
        request.requester.name,
        wish.duration,
    )
}
