//! The life of an access request: one total function from state and event to state.

use serde::{Deserialize, Serialize};

/// Where a request is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Asked for; nobody has decided.
    Requested,
    /// Waits for people to approve.
    AwaitingApproval,
    /// Allowed; nothing is open.
    Approved,
    /// Its rules are being written; its end is fixed.
    Opening,
    /// All its enforcement points were seen open.
    Active,
    /// Its end has come or was brought forward; its rules are being removed.
    Closing,
    /// All its enforcement points were seen shut.
    Closed,
    /// Refused.
    Denied,
    /// Withdrawn by the requester before it opened.
    Cancelled,
    /// Nobody approved in time.
    TimedOut,
    /// Could not be carried out.
    Failed,
}

/// Why access ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CloseReason {
    /// Its time was up.
    Expired,
    /// A person closed it early, or protection was turned off.
    Revoked,
    /// A newer request of the same person took its place.
    Superseded,
}

/// What can happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// The policies in force allow it without a person.
    Allowed,
    /// A person has to approve.
    ApprovalWanted,
    /// The last approval that was needed.
    Approved,
    /// A decision against it.
    Denied,
    /// The requester withdrew it.
    Cancelled,
    /// The time to approve ran out.
    TimedOut,
    /// Its window begins.
    OpeningStarted,
    /// Its end was moved later.
    Extended,
    /// Every enforcement point was seen open.
    SeenOpen,
    /// Its end has come.
    Ended(CloseReason),
    /// Every enforcement point was seen shut.
    SeenShut,
    /// It was given up.
    GivenUp,
}

/// An event that makes no sense in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request that is {status:?} cannot take {event:?}")]
pub struct IllegalTransition {
    /// Where the request was.
    pub status: Status,
    /// What was said to happen.
    pub event: Event,
}

impl Status {
    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when the event makes no sense here; nothing changes then.
    pub fn after(self, event: Event) -> Result<Status, IllegalTransition> {
        use Status as S;
        let next = match (self, event) {
            (S::Requested, Event::ApprovalWanted) => S::AwaitingApproval,
            (S::Requested, Event::Allowed) | (S::AwaitingApproval, Event::Approved) => S::Approved,
            (S::Requested | S::AwaitingApproval | S::Approved, Event::Denied) => S::Denied,
            (S::Requested | S::AwaitingApproval | S::Approved, Event::Cancelled) => S::Cancelled,
            (S::AwaitingApproval, Event::TimedOut) => S::TimedOut,
            (S::Approved, Event::OpeningStarted) => S::Opening,
            (S::Opening, Event::SeenOpen) => S::Active,
            (S::Opening | S::Active, Event::Extended) => self,
            (S::Opening | S::Active, Event::Ended(_)) => S::Closing,
            (S::Closing, Event::SeenShut) => S::Closed,
            // Only what opened nothing may fail outright: what may be open has to be seen shut.
            (S::Requested | S::AwaitingApproval | S::Approved, Event::GivenUp) => S::Failed,
            (status, event) => return Err(IllegalTransition { status, event }),
        };
        Ok(next)
    }

    /// Whether nothing more can happen to the request.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Status::Closed | Status::Denied | Status::Cancelled | Status::TimedOut | Status::Failed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [Status; 11] = [
        Status::Requested,
        Status::AwaitingApproval,
        Status::Approved,
        Status::Opening,
        Status::Active,
        Status::Closing,
        Status::Closed,
        Status::Denied,
        Status::Cancelled,
        Status::TimedOut,
        Status::Failed,
    ];
    const EVENTS: [Event; 14] = [
        Event::Allowed,
        Event::ApprovalWanted,
        Event::Approved,
        Event::Denied,
        Event::Cancelled,
        Event::TimedOut,
        Event::OpeningStarted,
        Event::Extended,
        Event::SeenOpen,
        Event::Ended(CloseReason::Expired),
        Event::Ended(CloseReason::Revoked),
        Event::Ended(CloseReason::Superseded),
        Event::SeenShut,
        Event::GivenUp,
    ];

    #[test]
    fn final_states_take_no_event() {
        for status in STATUSES.into_iter().filter(|status| status.is_final()) {
            for event in EVENTS {
                assert_eq!(status.after(event), Err(IllegalTransition { status, event }));
            }
        }
    }

    #[test]
    fn every_state_is_reached_and_every_unfinished_one_can_end() {
        let mut reached = vec![Status::Requested];
        let mut next = 0;
        while let Some(status) = reached.get(next).copied() {
            next += 1;
            for event in EVENTS {
                if let Ok(after) = status.after(event)
                    && !reached.contains(&after)
                {
                    reached.push(after);
                }
            }
            assert!(
                status.is_final() || EVENTS.iter().any(|event| status.after(*event).is_ok()),
                "{status:?}"
            );
        }
        assert_eq!(reached.len(), STATUSES.len());
    }

    #[test]
    fn what_may_be_open_leaves_only_through_being_seen_shut() {
        for status in [Status::Opening, Status::Active, Status::Closing] {
            for event in EVENTS {
                if let Ok(after) = status.after(event) {
                    assert!(!after.is_final() || event == Event::SeenShut, "{status:?} {event:?}");
                }
            }
        }
    }

    #[test]
    fn only_what_may_be_open_is_extended_and_stays_what_it_is() {
        for status in STATUSES {
            let expected = matches!(status, Status::Opening | Status::Active).then_some(status);
            assert_eq!(status.after(Event::Extended).ok(), expected);
        }
    }

    #[test]
    fn nothing_opens_undecided() {
        for status in [Status::Requested, Status::AwaitingApproval] {
            assert!(status.after(Event::OpeningStarted).is_err());
        }
    }
}
