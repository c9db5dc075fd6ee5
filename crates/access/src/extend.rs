//! Moving the end of live access later, within what the policy allows.

use crate::Ajar;
use crate::decide;
use crate::due::{self, GUARD_DELAY, Task};
use crate::error::AccessError;
use crate::history::{self, Step};
use crate::life_cycle::Event;
use crate::notification::Happened;
use crate::organisation;
use crate::permission::{self, Operation};
use crate::policy::{JitPolicy, parse_duration};
use crate::policy_store;
use crate::ports::identity::Caller;
use crate::ports::organisation::Machine;
use crate::remind;
use crate::request::{AccessRequest, check_justification, parse_moment};
use crate::request_id::{RequestId, no_request};
use crate::store_marker;
use crate::submit;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How an extension is asked for: one of `duration` and `until`. Strict: an unknown field is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtensionInput {
    /// How much later access is to end than it does now, ISO 8601.
    #[serde(default)]
    pub duration: Option<String>,
    /// When access is to end, RFC 3339. Asking twice for the same moment is harmless.
    #[serde(default)]
    pub until: Option<String>,
    /// The end that the caller knows of. With it a repeated extension by `duration` moves the end once, and
    /// of two people who extend at the same time one is told.
    #[serde(default)]
    pub expected_end: Option<String>,
    /// Why, for whoever reads the history.
    #[serde(default)]
    pub justification: Option<String>,
}

enum Wanted {
    By(SignedDuration),
    Until(Timestamp),
}

/// What becomes of a request that is to be extended.
enum Verdict {
    MoveTo(Timestamp),
    /// It ends then already.
    Done,
}

impl ExtensionInput {
    fn wanted(&self) -> Result<Wanted, AccessError> {
        match (self.duration.as_deref(), self.until.as_deref()) {
            (Some(text), None) => {
                parse_duration("duration", Some(text), SignedDuration::ZERO).map(Wanted::By)
            }
            (None, Some(text)) => parse_moment("until", text).map(Wanted::Until),
            _ => Err(AccessError::invalid(
                "duration",
                "say either how much longer (`duration`, such as PT1H) or the new end (`until`)",
            )),
        }
    }
}

/// Moves the end of live access later. Only the requester may; the role and the policy are checked again, and the
/// whole window from its start must be within the policy's longest access.
///
/// # Errors
/// [`AccessError::NotFound`] when there is no such request, [`AccessError::Forbidden`] when it is another's or the
/// role is gone, [`AccessError::Invalid`] when the policy does not allow so much, [`AccessError::Conflict`] with code
/// `NotLive` when nothing is open to extend, `EndMoved` when the end is not the expected one, `StoreRestored` while the
/// tables are those of a backup. The end is as it was then.
pub async fn extend(
    ajar: &Ajar,
    caller: &Caller,
    id: &RequestId,
    input: &ExtensionInput,
) -> Result<AccessRequest, AccessError> {
    let wanted = input.wanted()?;
    let expected = input.expected_end.as_deref().map(|text| parse_moment("expectedEnd", text)).transpose()?;
    let justification = check_justification(input.justification.as_deref())?;
    let missing = || no_request(id);
    let found = history::read(ajar, id).await?.ok_or_else(missing)?.content;
    if found.requester.object_id != caller.object_id {
        return Err(AccessError::Forbidden(format!(
            "only {} can extend this access; ask for your own",
            found.requester.name
        )));
    }
    store_marker::refuse_restored(ajar).await?;
    let now = ajar.ports.clock.now();
    if let Verdict::Done = judge(&found, &wanted, expected, now)? {
        // Whoever moved it may have stopped before its enforcement points knew.
        decide::project(ajar, &found).await?;
        return Ok(found);
    }
    let (policy, machine) = match authorise(ajar, caller, &found).await {
        Ok(permitted) => permitted,
        Err(error) => return Err(record_refusal(ajar, caller, id, error).await?),
    };
    // Written first: from then on the sweep finishes what is stored, whoever dies.
    let guard = due::note(ajar, now + GUARD_DELAY, Task::Decide { request: id.clone() }).await?;
    let mut refused = None;
    let mut reminder = None;
    if let Verdict::MoveTo(end) = judge(&found, &wanted, expected, now)? {
        let window = (found.start.unwrap_or(now), end);
        reminder = remind::note(ajar, id, window, now).await?.map(|due| (end, due));
    }
    let extended = history::update(ajar, id, |request| {
        refused = None;
        let end = match judge(request, &wanted, expected, ajar.ports.clock.now()) {
            Ok(Verdict::MoveTo(end)) => end,
            Ok(Verdict::Done) => return Ok(None),
            Err(error) => {
                refused = Some(error);
                return Ok(None);
            }
        };
        let allowed = request
            .check_window(&policy, end)
            .and_then(|()| check_organisation(ajar, caller, request, &machine, end));
        if let Err(error) = allowed {
            refused = Some(error);
            return Ok(None);
        }
        request.apply(Event::Extended).map_err(|error| not_live(error.to_string()))?;
        request.move_end(end);
        // Named by what it guards, so that the sweep leaves it until that is there.
        request.guard = Some(guard.clone());
        request.reminder = reminder.as_ref().filter(|(noted, _)| *noted == end).map(|(_, due)| due.clone());
        let why = justification.as_deref().unwrap_or("no justification given");
        let step = format!("extended until {end:.0}, the role and the JIT policy allow it: {why}");
        Ok(Some(Step::by(caller, step).telling(Happened::Extended { end })))
    })
    .await?
    .ok_or_else(missing)?;
    if refused.is_none() {
        decide::project(ajar, &extended).await?;
        remind::schedule(ajar, &extended).await;
        tracing::info!(request = %id, end = ?extended.end, "access extended");
    }
    due::forget(ajar, &guard).await?;
    match refused {
        Some(error) => Err(record_refusal(ajar, caller, id, error).await?),
        None => Ok(extended),
    }
}

/// The policy that is in force, for a caller who still has the role: as Azure says now, not as it said a moment ago.
async fn authorise(
    ajar: &Ajar,
    caller: &Caller,
    found: &AccessRequest,
) -> Result<(JitPolicy, Machine), AccessError> {
    let vm = &found.wish.vm;
    let (permitted, policy) = futures::join!(
        permission::require_now(ajar, caller, found.wish.subject(), Operation::Request),
        policy_store::read(ajar, vm),
    );
    permitted?;
    Ok((submit::in_force(vm, policy?)?, organisation::machine(ajar, vm).await?))
}

/// Checks that the organisation's policies allow the whole window from its start to `end` without people: whoever approved
/// it approved the end that it had.
fn check_organisation(
    ajar: &Ajar,
    caller: &Caller,
    request: &AccessRequest,
    machine: &Machine,
    end: Timestamp,
) -> Result<(), AccessError> {
    let wish = request.wish_until(end);
    match organisation::judge_wish(ajar, caller.into(), &wish, machine) {
        organisation::Verdict::Allowed { approval: None, .. } => Ok(()),
        organisation::Verdict::Allowed { approval: Some(wanted), .. } => Err(AccessError::Forbidden(
            format!("access that people have to approve is not extended; ask anew. {}", wanted.why),
        )),
        organisation::Verdict::Denied(reason) => Err(AccessError::Forbidden(reason)),
    }
}

/// Writes into the history of live access that and why it was not extended, where role or policy decided that.
async fn record_refusal(
    ajar: &Ajar,
    caller: &Caller,
    id: &RequestId,
    error: AccessError,
) -> Result<AccessError, AccessError> {
    if matches!(error, AccessError::Forbidden(_) | AccessError::NotFound(_) | AccessError::Invalid { .. }) {
        history::update(ajar, id, |request| {
            let is_live = request.status.after(Event::Extended).is_ok();
            Ok(is_live.then(|| Step::by(caller, format!("not extended: {error}"))))
        })
        .await?;
    }
    Ok(error)
}

fn judge(
    request: &AccessRequest,
    wanted: &Wanted,
    expected: Option<Timestamp>,
    now: Timestamp,
) -> Result<Verdict, AccessError> {
    let present = match (request.status.after(Event::Extended), request.end) {
        (Ok(_), Some(end)) if now < end => end,
        (Ok(_), _) => return Err(not_live("its time is up")),
        (Err(error), _) => return Err(not_live(error.to_string())),
    };
    let end = match wanted {
        Wanted::Until(end) => *end,
        Wanted::By(duration) => expected.unwrap_or(present) + *duration,
    };
    if end == present {
        return Ok(Verdict::Done);
    }
    if expected.is_some_and(|expected| expected != present) {
        return Err(AccessError::Conflict {
            code: "EndMoved",
            message: format!("access ends at {present}, not at the expected end: look at it again"),
        });
    }
    if end < present {
        return Err(AccessError::invalid(
            "until",
            format!("access ends at {present} already; to end it sooner, delete the request"),
        ));
    }
    Ok(Verdict::MoveTo(end))
}

fn not_live(why: impl std::fmt::Display) -> AccessError {
    AccessError::Conflict {
        code: "NotLive",
        message: format!("only access that is being opened or open can be extended: {why}. Ask anew"),
    }
}
