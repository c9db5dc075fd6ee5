//! The newest of a person's requests for a port takes the place of the others, as Azure's API has it
//! (`NewerRequestInitiated`).

use crate::Ajar;
use crate::close;
use crate::error::AccessError;
use crate::life_cycle::{CloseReason, Status};
use crate::recent;
use crate::request::AccessRequest;

/// How far back a VM's requests are looked through. What is older has long ended unless a hundred others came after.
const MOST_REQUESTS: usize = 200;

/// Once a request that was made through Azure's API is granted, ends what else its requester has on the same VM and
/// on no other port. If a newer one was granted meanwhile, this one ends. What it replaces ends no sooner: a session
/// goes on through the change, and a request that is refused leaves the earlier one alone.
pub(crate) async fn others(ajar: &Ajar, request: &AccessRequest) -> Result<(), AccessError> {
    if request.wish.initiation.is_none() || !is_granted(request) {
        return Ok(());
    }
    let order = |request: &AccessRequest| (request.requested_at, request.id.clone());
    let mut superseded = Vec::new();
    for other in recent::requests(ajar, &request.wish.vm, MOST_REQUESTS).await? {
        if other.id == request.id || other.requester.object_id != request.requester.object_id {
            continue;
        }
        if order(&other) < order(request) && is_under_way(&other) && covers(request, &other) {
            superseded.push(other);
        } else if order(&other) > order(request)
            && other.wish.initiation.is_some()
            && is_granted(&other)
            && covers(&other, request)
        {
            superseded.push(request.clone());
        }
    }
    for old in superseded {
        let what = "ended: a newer request of the same person for the same port took its place";
        close::end(ajar, &old.id, Some(&old.requester), CloseReason::Superseded, what).await?;
    }
    Ok(())
}

fn is_granted(request: &AccessRequest) -> bool {
    matches!(request.status, Status::Opening | Status::Active)
}

/// What was promised for later stays promised: access now does not take its place.
fn is_under_way(request: &AccessRequest) -> bool {
    let is_promised = request.wish.not_before.is_some() && !is_granted(request);
    !request.status.is_final() && request.status != Status::Closing && !is_promised
}

/// Whether every port of `old` is one of `new`.
fn covers(new: &AccessRequest, old: &AccessRequest) -> bool {
    old.wish.flows.iter().all(|old| {
        new.wish
            .flows
            .iter()
            .any(|new| new.ports.first() <= old.ports.first() && old.ports.last() <= new.ports.last())
    })
}
