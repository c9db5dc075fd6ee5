//! Ending access before its time.

use crate::Ajar;
use crate::decide;
use crate::due::{self, GUARD_DELAY, Task};
use crate::error::AccessError;
use crate::history::{self, Step};
use crate::life_cycle::{CloseReason, Event, Status};
use crate::notification::Happened;
use crate::permission::{self, Operation};
use crate::ports::identity::Caller;
use crate::request::AccessRequest;
use crate::request_id::{RequestId, no_request};
use crate::waiting;

/// Withdraws a request or ends its access now. The requester may, and whoever may configure JIT on the VM.
/// Doing it twice is harmless.
///
/// # Errors
/// [`AccessError::NotFound`] when there is no such request, [`AccessError::Forbidden`] when it is not the
/// caller's to end.
pub async fn revoke(ajar: &Ajar, caller: &Caller, id: &RequestId) -> Result<AccessRequest, AccessError> {
    let missing = || no_request(id);
    let found = history::read(ajar, id).await?.ok_or_else(missing)?.content;
    if found.requester.object_id != caller.object_id {
        permission::require(ajar, caller, found.wish.subject(), Operation::EndAnother).await?;
    }
    end(ajar, id, caller, CloseReason::Revoked, "ended").await?.ok_or_else(missing)
}

/// Ends a request for `reason`, on behalf of `by` or by itself; `None` when there is no such request.
pub(crate) async fn end<'a>(
    ajar: &Ajar,
    id: &RequestId,
    by: impl Into<Option<&'a Caller>>,
    reason: CloseReason,
    what: &str,
) -> Result<Option<AccessRequest>, AccessError> {
    let by = by.into();
    let now = ajar.ports.clock.now();
    let guard = due::note(ajar, now + GUARD_DELAY, Task::Decide { request: id.clone() }).await?;
    let mut promised = None;
    let ended = history::update(ajar, id, |request| {
        let is_ahead = |task: &Task| matches!(task, Task::Start { .. } | Task::TimeOut { .. });
        promised = request.guard.clone().filter(|row| is_ahead(&row.due.task));
        // Named by what it guards, so that the sweep leaves it until that is there.
        request.guard = Some(guard.clone());
        let step = match request.status {
            Status::Requested | Status::AwaitingApproval | Status::Approved => {
                if reason == CloseReason::Superseded {
                    request.close_reason = Some(reason);
                }
                request.apply(Event::Cancelled).is_ok()
            }
            Status::Opening | Status::Active => {
                request.move_end(request.end.map_or(now, |end| end.min(now)));
                request.apply(Event::Ended(reason)).is_ok()
            }
            _ => false,
        };
        let told = (request.status == Status::Cancelled).then_some(Happened::Cancelled);
        let by = by.cloned();
        Ok(step.then(|| Step { by, ..Step::own(what) }.telling(told)))
    })
    .await?;
    if let Some(request) = &ended {
        decide::project(ajar, request).await?;
        tracing::info!(request = %id, by = by.map(|by| by.object_id.as_str()), status = ?request.status, "access ended early");
    }
    // What was to bring the start or the reminder has nothing to do any more.
    if let Some(request) = &ended {
        for row in promised.iter().chain(&request.reminder) {
            due::forget(ajar, row).await?;
        }
    }
    if let Some(request) = &ended
        && request.approval.is_some()
    {
        waiting::remove(ajar, id).await?;
    }
    due::forget(ajar, &guard).await?;
    Ok(ended)
}
