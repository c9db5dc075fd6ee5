//! What becomes of open access whose owner loses the role: it is looked at again and again while it is open, by a
//! due row of its own, so that nobody has to look through all of them.

use crate::Ajar;
use crate::close;
use crate::due::{self, Task};
use crate::error::AccessError;
use crate::history::{self, Step};
use crate::keys::digest;
use crate::life_cycle::{CloseReason, Status};
use crate::notification::Happened;
use crate::permission::{self, Operation};
use crate::policy::WhenRoleIsLost;
use crate::policy_store;
use crate::request_id::RequestId;
use jiff::Timestamp;

/// How often the owner of open access is looked at again. What is read for it may be half a minute old, and the
/// sweep comes every minute: so long, at most, does access outlive the role.
const EVERY_SECONDS: i64 = 300;

/// Writes the row for the next look at the owner of a request.
///
/// Each request has moments of its own, five minutes apart: whoever writes the row twice writes one row, and many
/// requests that opened together are not looked at together.
pub(crate) async fn note_next_look(ajar: &Ajar, request: &RequestId) -> Result<(), AccessError> {
    let at = next_look(request, ajar.ports.clock.now());
    due::note(ajar, at, Task::Recheck { request: request.clone() }).await.map(|_| ())
}

fn next_look(request: &RequestId, now: Timestamp) -> Timestamp {
    let own = i64::from_str_radix(&digest(request.as_str(), 8), 16).unwrap_or_default() % EVERY_SECONDS;
    let since = (now.as_second() - own).rem_euclid(EVERY_SECONDS);
    Timestamp::from_second(now.as_second() + EVERY_SECONDS - since).unwrap_or(Timestamp::MAX)
}

/// Looks whether the owner of a request still may have what is open, and ends it if not. The row of the look is
/// done with afterwards.
///
/// # Errors
/// [`AccessError::Unavailable`] when that could not be read: access stays open, and the look is repeated.
pub(crate) async fn look(ajar: &Ajar, id: &RequestId) -> Result<(), AccessError> {
    let Some(found) = history::read(ajar, id).await? else { return Ok(()) };
    let request = found.content;
    if request.status.is_final() || request.status == Status::Closing {
        return Ok(());
    }
    let is_open = matches!(request.status, Status::Opening | Status::Active);
    if is_open && is_closed_then(ajar, &request.wish.vm).await? {
        match permission::require(ajar, &request.requester, request.wish.subject(), Operation::Request).await
        {
            Ok(()) => {}
            Err(AccessError::Forbidden(reason)) => {
                tracing::warn!(request = %id, reason, "the owner of open access has lost the role for it");
                history::update(ajar, id, |request| {
                    let is_open = matches!(request.status, Status::Opening | Status::Active);
                    let told = Happened::RoleLost { reason: reason.clone() };
                    let step = || Step::own(format!("the role was lost: {reason}")).telling(Some(told));
                    Ok(is_open.then(step))
                })
                .await?;
                close::end(ajar, id, None, CloseReason::Revoked, "ended: the role was lost").await?;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    note_next_look(ajar, id).await
}

/// Whether the policy in force has access closed then; without a policy it is.
async fn is_closed_then(
    ajar: &Ajar,
    vm: &ajar_network::resource_id::ResourceId,
) -> Result<bool, AccessError> {
    let policy = policy_store::read(ajar, vm).await?;
    Ok(policy.is_none_or(|policy| policy.content.terms.when_role_is_lost == WhenRoleIsLost::Close))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[test]
    fn the_next_look_is_ahead_and_near_and_the_same_for_all_who_ask_before_it() {
        let vm = ajar_network::resource_id::ResourceId::parse(
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v",
        )
        .unwrap();
        let start = 1_800_000_000;
        let mut moments = std::collections::BTreeSet::new();
        for number in 0..50 {
            let request = RequestId::new(&vm, jiff::Timestamp::UNIX_EPOCH, &format!("{number:032x}"));
            let at = |second: i64| Timestamp::from_second(start + second).unwrap();
            let first = next_look(&request, at(0));
            assert!(first > at(0) && first <= at(300));
            for second in 0..300 {
                let next = next_look(&request, at(second));
                let expected = if at(second) < first { first } else { first + SignedDuration::from_mins(5) };
                assert_eq!(next, expected);
            }
            moments.insert(first);
        }
        assert!(moments.len() > 30, "they are spread");
    }
}
