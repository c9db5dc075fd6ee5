//! Approvals by people: what is kept of them in a request, and the decisions. Whoever decides first has decided: each
//! decision is one conditional write of the request's row.

use crate::Ajar;
use crate::decide;
use crate::due::{self, GUARD_DELAY, Task};
use crate::error::AccessError;
use crate::history::{self, Step};
use crate::life_cycle::{Event, Status};
use crate::notification::Happened;
use crate::organisation;
use crate::permission::{self, Operation};
use crate::ports::identity::{Caller, SignIn};
use crate::ports::organisation::{Judgement, Machine, Person};
use crate::request::{AccessRequest, check_length};
use crate::request_id::{RequestId, no_request};
use crate::send;
use crate::store_marker;
use crate::waiting;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// That a request waits, or has waited, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// How many people have to approve, at least one.
    pub needed: u32,
    /// Which policies want that, in a sentence.
    pub why: String,
    /// When the request is given up if they have not.
    pub until: Timestamp,
    /// Who has approved, in order.
    pub given: Vec<Given>,
}

/// One person's approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Given {
    /// Who.
    pub by: Caller,
    /// How they had signed in: it is judged once more when the last approval comes.
    pub sign_in: SignIn,
    /// When.
    pub at: Timestamp,
}

/// That somebody has looked at what was opened in an emergency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// Who.
    pub by: Caller,
    /// When.
    pub at: Timestamp,
    /// What they found.
    pub note: String,
}

impl Approval {
    /// Whether that person has approved already.
    pub(crate) fn is_given_by(&self, caller: &Caller) -> bool {
        self.given.iter().any(|given| given.by.object_id == caller.object_id)
    }
}

/// Approves a request. The last approval that is needed lets it be opened. Approving twice is harmless.
///
/// Azure's role and the organisation's policies are asked about the approver now; about the requester as well, and with
/// the last approval about the earlier approvers too, so that a role that was lost or a policy that was changed meanwhile
/// counts.
///
/// # Errors
/// [`AccessError::NotFound`] when there is no such request; [`AccessError::Forbidden`] when the caller may not approve
/// it; [`AccessError::Conflict`] with code `NotWaiting` when it does not wait (any more), `NotAllowedAnyMore` when its
/// requester may not have it any more: then it is denied.
pub async fn approve(
    ajar: &Ajar,
    caller: &Caller,
    id: &RequestId,
    note: Option<&str>,
) -> Result<AccessRequest, AccessError> {
    check_length("note", note.unwrap_or_default())?;
    let found = decidable(ajar, caller, id).await?;
    store_marker::refuse_restored(ajar).await?;
    if found.approval.as_ref().is_some_and(|approval| approval.is_given_by(caller)) {
        return Ok(found);
    }
    let others = waiting_approval(&found)?.given.clone();
    let machine = organisation::machine(ajar, &found.wish.vm).await?;
    require_approver(ajar, caller, &found, &machine, others.len())?;
    let permitted = match decide::authorise(ajar, &found).await? {
        Ok(permitted) => permitted,
        Err((_, reason)) => {
            refuse(ajar, id, None, &reason).await?;
            let message = format!("the request is denied: {reason}");
            return Err(AccessError::Conflict { code: "NotAllowedAnyMore", message });
        }
    };
    let needed = permitted.approval.as_ref().map_or(1, |wanted| wanted.needed);
    let enough = usize::try_from(needed).unwrap_or(usize::MAX);
    let mut lost = Vec::new();
    if others.len() + 1 >= enough {
        for (before, given) in others.iter().enumerate() {
            if !still_counts(ajar, &found, given, &machine, before).await? {
                lost.push(given.by.object_id.clone());
            }
        }
    }
    // Written first: from then on the sweep finishes what is stored, whoever dies.
    let now = ajar.ports.clock.now();
    let (guard, at) = match decide::too_early(&found, now) {
        Some(start) => {
            let at = start - decide::lead(id);
            (due::note(ajar, at, Task::Start { request: id.clone() }).await?, Some(at))
        }
        None => (due::note(ajar, now + GUARD_DELAY, Task::Decide { request: id.clone() }).await?, None),
    };
    let mut refused = None;
    let mut is_guarded = false;
    let approved = history::update(ajar, id, |request| {
        (refused, is_guarded) = (None, false);
        let now = ajar.ports.clock.now();
        let (status, until) = match waiting_approval(request) {
            Ok(approval) if approval.is_given_by(caller) => return Ok(None),
            Ok(approval) => (request.status, approval.until),
            Err(error) => {
                refused = Some(error);
                return Ok(None);
            }
        };
        if until <= now {
            refused = Some(not_waiting("the time to approve it ran out"));
            return Ok(None);
        }
        let Some(approval) = request.approval.as_mut() else { return Ok(None) };
        approval.needed = needed;
        approval.given.retain(|given| !lost.contains(&given.by.object_id));
        approval.given.push(Given { by: caller.clone(), sign_in: caller.sign_in.clone(), at: now });
        let given = approval.given.len();
        let names: Vec<String> = approval.given.iter().map(|given| given.by.name.clone()).collect();
        let mut told = None;
        if given >= enough && status.after(Event::Approved).is_ok() {
            request.apply(Event::Approved).map_err(|error| not_waiting(&error.to_string()))?;
            // Named by what it guards, so that the sweep leaves it until that is there.
            request.guard = Some(guard.clone());
            is_guarded = true;
            told = Some(Happened::Approved { by: names });
        }
        let mut what = format!("approved, {given} of {needed}");
        if !lost.is_empty() {
            what += &format!("; {} earlier approvals do not count any more", lost.len());
        }
        if let Some(note) = note {
            what += &format!(": {note}");
        }
        Ok(Some(Step::by(caller, what).telling(told)))
    })
    .await?
    .ok_or_else(|| no_request(id))?;
    if !is_guarded {
        due::forget(ajar, &guard).await?;
    } else {
        tracing::info!(request = %id, by = caller.object_id, "access approved");
        stop_waiting(ajar, &found).await?;
        send::send_request(ajar, id, at).await;
    }
    match refused {
        Some(error) => Err(error),
        None => Ok(approved),
    }
}

/// Refuses a request that waits for approvals.
///
/// # Errors
/// As [`approve`]; [`AccessError::Invalid`] without a reason.
pub async fn deny(
    ajar: &Ajar,
    caller: &Caller,
    id: &RequestId,
    reason: &str,
) -> Result<AccessRequest, AccessError> {
    check_reason("reason", reason)?;
    let found = decidable(ajar, caller, id).await?;
    let others = waiting_approval(&found)?.given.len();
    let machine = organisation::machine(ajar, &found.wish.vm).await?;
    require_approver(ajar, caller, &found, &machine, others)?;
    let denied = refuse(ajar, id, Some(caller), reason).await?;
    if denied.status == Status::Denied {
        tracing::info!(request = %id, by = caller.object_id, "access denied by a person");
        Ok(denied)
    } else {
        Err(not_waiting(&format!("it is {:?}", denied.status)))
    }
}

/// Records that somebody other than its owner has looked at access that was opened in an emergency.
///
/// # Errors
/// As [`approve`]; [`AccessError::Invalid`] without a note, [`AccessError::Conflict`] with code `NothingToReview`.
pub async fn review(
    ajar: &Ajar,
    caller: &Caller,
    id: &RequestId,
    note: &str,
) -> Result<AccessRequest, AccessError> {
    check_reason("note", note)?;
    let found = decidable(ajar, caller, id).await?;
    if !found.wants_review() {
        return Err(AccessError::Conflict {
            code: "NothingToReview",
            message: "only access that was opened in an emergency is reviewed, and once".into(),
        });
    }
    let machine = organisation::machine(ajar, &found.wish.vm).await?;
    require_approver(ajar, caller, &found, &machine, 0)?;
    let reviewed = history::update(ajar, id, |request| {
        if !request.wants_review() {
            return Ok(None);
        }
        let at = ajar.ports.clock.now();
        request.review = Some(Review { by: caller.clone(), at, note: note.to_owned() });
        Ok(Some(Step::by(caller, format!("reviewed: {note}"))))
    })
    .await?
    .ok_or_else(|| no_request(id))?;
    waiting::remove(ajar, id).await?;
    Ok(reviewed)
}

/// The request, for a caller whose Azure role lets them decide on it, as Azure says now.
pub(crate) async fn decidable(
    ajar: &Ajar,
    caller: &Caller,
    id: &RequestId,
) -> Result<AccessRequest, AccessError> {
    let found = history::read(ajar, id).await?.ok_or_else(|| no_request(id))?.content;
    permission::require_now(ajar, caller, found.wish.subject(), Operation::Approve).await?;
    Ok(found)
}

/// Checks that the organisation's policies let `caller` decide.
fn require_approver(
    ajar: &Ajar,
    caller: &Caller,
    request: &AccessRequest,
    machine: &Machine,
    others: usize,
) -> Result<(), AccessError> {
    organisation::require(organisation::judge_approval(ajar, caller.into(), request, machine, others))
}

/// Whether an approval that was given before is one now.
async fn still_counts(
    ajar: &Ajar,
    request: &AccessRequest,
    given: &Given,
    machine: &Machine,
    before: usize,
) -> Result<bool, AccessError> {
    match permission::require_now(ajar, &given.by, request.wish.subject(), Operation::Approve).await {
        Ok(()) => {}
        Err(AccessError::Forbidden(_)) => return Ok(false),
        Err(error) => return Err(error),
    }
    let person = Person { caller: &given.by, sign_in: &given.sign_in };
    let judgement = organisation::judge_approval(ajar, person, request, machine, before);
    Ok(matches!(judgement, Judgement::Allowed { .. }))
}

/// Denies what waits, on behalf of `by` or by itself. Returns the request as it is after it, denied or not.
async fn refuse(
    ajar: &Ajar,
    id: &RequestId,
    by: Option<&Caller>,
    reason: &str,
) -> Result<AccessRequest, AccessError> {
    let mut before = None;
    let after = history::update(ajar, id, |request| {
        before = None;
        if request.status != Status::AwaitingApproval {
            return Ok(None);
        }
        before = Some(request.clone());
        request.apply(Event::Denied).map_err(|error| not_waiting(&error.to_string()))?;
        request.reason = Some(reason.to_owned());
        let told = Happened::Refused { reason: reason.to_owned() };
        Ok(Some(Step { by: by.cloned(), ..Step::own(format!("denied: {reason}")) }.telling(told)))
    })
    .await?
    .ok_or_else(|| no_request(id))?;
    if let Some(before) = before {
        stop_waiting(ajar, &before).await?;
    }
    Ok(after)
}

/// Removes what was kept for a request while it waited.
pub(crate) async fn stop_waiting(ajar: &Ajar, waited: &AccessRequest) -> Result<(), AccessError> {
    if let Some(guard) = &waited.guard
        && matches!(guard.due.task, Task::TimeOut { .. })
    {
        due::forget(ajar, guard).await?;
    }
    waiting::remove(ajar, &waited.id).await
}

fn waiting_approval(request: &AccessRequest) -> Result<&Approval, AccessError> {
    match &request.approval {
        Some(approval) if request.status == Status::AwaitingApproval => Ok(approval),
        _ => Err(not_waiting(&format!("it is {:?}", request.status))),
    }
}

fn not_waiting(why: &str) -> AccessError {
    AccessError::Conflict {
        code: "NotWaiting",
        message: format!("the request does not wait for an approval: {why}"),
    }
}

fn check_reason(field: &str, text: &str) -> Result<(), AccessError> {
    if text.trim().is_empty() {
        return Err(AccessError::invalid(field, "say why, in a sentence"));
    }
    check_length(field, text)
}
