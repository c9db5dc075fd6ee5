//! Waiting for access: a client asks once and is answered when there is something to say.

use crate::Ajar;
use crate::error::AccessError;
use crate::history;
use crate::life_cycle::Status;
use crate::ports::identity::Caller;
use crate::query;
use crate::request::AccessRequest;
use crate::request_id::RequestId;
use jiff::SignedDuration;

/// The longest wait: what stands between a client and Ajar may cut an answer that takes much longer, and an
/// invocation should not wait longer for anything.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(20);

/// How long from one look at the request to the next.
const PACE: SignedDuration = SignedDuration::from_secs(1);

/// The request once it is open, refused, withdrawn or ended, or as it is after `wait` (at most [`LONGEST_WAIT`]).
/// The role is checked once, the request read about once a second.
///
/// # Errors
/// As [`query::request`].
pub async fn until_granted(
    ajar: &Ajar,
    caller: &Caller,
    id: &RequestId,
    wait: SignedDuration,
) -> Result<AccessRequest, AccessError> {
    let clock = ajar.ports.clock.as_ref();
    let until = clock.now() + wait.min(LONGEST_WAIT);
    let mut request = query::request(ajar, caller, id).await?;
    loop {
        let left = until.duration_since(clock.now());
        if !is_pending(request.status) || left <= SignedDuration::ZERO {
            return Ok(request);
        }
        clock.sleep(left.min(PACE)).await;
        if let Some(found) = history::read(ajar, id).await? {
            request = found.content;
        }
    }
}

/// Whether access may still be granted.
fn is_pending(status: Status) -> bool {
    match status {
        Status::Requested | Status::AwaitingApproval | Status::Approved | Status::Opening => true,
        Status::Active
        | Status::Closing
        | Status::Closed
        | Status::Denied
        | Status::Cancelled
        | Status::TimedOut
        | Status::Failed => false,
    }
}
