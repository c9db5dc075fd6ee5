//! Bringing one enforcement point to its desired state: read, plan, write, read back, until there is nothing
//! left to do. Opening, closing, expiry, revocation and repair are all this one path.

use crate::Ajar;
use crate::due::{self, DueRef, Task};
use crate::error::AccessError;
use crate::history::{self, Step};
use crate::lease::{self, Held};
use crate::life_cycle::{Event, Status};
use crate::notification::Happened;
use crate::point::{self, Grant, Originals, PointRows, StoreOrAccess, grant_row, policy_row};
use crate::policy_store;
use crate::ports::azure::{AzureError, WriteOutcome};
use crate::read_back;
use crate::request::PointStatus;
use crate::store_marker;
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::plan::{self, Desired, Note, PlanError, RuleWrite, Write};
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};

/// How long one invocation works on a point before it hands on what is left.
const LONGEST_HOLD: SignedDuration = SignedDuration::from_secs(60);

/// How often one invocation writes before it hands on: each round normally is the last.
const MOST_ROUNDS: usize = 12;

/// A start or end so near that waiting for it is cheaper than coming back.
const NEAR: SignedDuration = SignedDuration::from_secs(2);

/// A start so near that its message comes back for it: clocks differ by seconds, and the sweep is slower.
const SOON: SignedDuration = SignedDuration::from_mins(1);

/// How long to leave alone an operation that Azure has not finished.
const OPERATION_WAIT: SignedDuration = SignedDuration::from_secs(5);

/// How long to leave alone an NSG that somebody else's change keeps `Updating`.
const UPDATING_WAIT: SignedDuration = SignedDuration::from_secs(2);

/// How long to wait for room in an NSG that is full: until somebody removes rules, or something ends.
const NO_ROOM_WAIT: SignedDuration = SignedDuration::from_secs(30);

/// How long after an end the point is looked at again: later than the longest invocation (the function
/// time-out, five minutes) and a straggling write of it can live.
const SECOND_LOOK: SignedDuration = SignedDuration::from_mins(15);

/// How a reconcile ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The point was read back and is as it should be.
    Clean,
    /// Another invocation holds the point's lease: it, or a later look, does the work.
    Busy,
    /// Something is still under way: look again after so long.
    Later(SignedDuration),
    /// The store is not the one this deployment wrote: only what is past its described end was closed.
    Blind,
}

/// Brings `point` to its desired state.
///
/// # Errors
/// [`AccessError::Unavailable`] when the store or Azure is: the same call later goes on from there.
/// [`AccessError::Internal`] when Azure refuses: the point is as it was.
pub async fn reconcile(ajar: &Ajar, point: &ResourceId) -> Result<Outcome, AccessError> {
    bring(ajar, point).await.map(|brought| brought.outcome)
}

/// How a reconcile ended, and the due rows whose changes it has seen.
pub(crate) struct Brought {
    pub(crate) outcome: Outcome,
    pub(crate) seen: Vec<DueRef>,
}

impl From<Outcome> for Brought {
    fn from(outcome: Outcome) -> Brought {
        Brought { outcome, seen: Vec::new() }
    }
}

pub(crate) async fn bring(ajar: &Ajar, point: &ResourceId) -> Result<Brought, AccessError> {
    if !store_marker::is_present(ajar).await? {
        close_described(ajar, point).await?;
        return Ok(Outcome::Blind.into());
    }
    let started = ajar.ports.clock.now();
    let mut seen = Vec::new();
    loop {
        let Some(mut lease) = lease::take(ajar, point).await? else { return Ok(Outcome::Busy.into()) };
        if lease.was_abandoned() {
            // Its holder died or hangs, perhaps with a write on its way.
            look_again(ajar, point, lease.now()).await?;
        }
        let worked = work(ajar, point, &mut lease, started).await;
        lease.free().await;
        let done_for = match worked? {
            Worked::Clean { desired, seen: now_seen } => {
                seen.extend(now_seen);
                desired
            }
            Worked::Later(wait) => return Ok(Outcome::Later(wait).into()),
        };
        // What arrived between the last read and the freeing found the lease held and waits for a second;
        // looking once more saves it the wait.
        if point::read(ajar, point).await?.desired(ajar) == *done_for {
            return Ok(Brought { outcome: Outcome::Clean, seen });
        }
        if ajar.ports.clock.now().duration_since(started) > LONGEST_HOLD {
            return Ok(Outcome::Later(SignedDuration::ZERO).into());
        }
    }
}

enum Worked {
    /// Read back clean for this desired state, which holds the changes that these due rows guard.
    Clean {
        desired: Box<Desired>,
        seen: Vec<DueRef>,
    },
    Later(SignedDuration),
}

async fn work(
    ajar: &Ajar,
    point: &ResourceId,
    lease: &mut Held<'_>,
    started: Timestamp,
) -> Result<Worked, AccessError> {
    if let Some(operation) = lease.operation().map(str::to_owned) {
        match ajar.ports.azure.operation(&operation).await {
            Ok(WriteOutcome::Running(_)) => return Ok(Worked::Later(OPERATION_WAIT)),
            // However it ended, the read below shows what it left.
            Ok(WriteOutcome::Done)
            | Err(AzureError::NotFound(_) | AzureError::Conflict(_) | AzureError::Rejected { .. }) => {
                lease.set_operation(None).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    for _ in 0..MOST_ROUNDS {
        let mut now = lease.now();
        let mut rows = point::read(ajar, point).await?;
        let mut desired = rows.desired(ajar);
        if let Some(boundary) = plan::next_boundary(&desired, now)
            && boundary.duration_since(now) < NEAR
        {
            ajar.ports.clock.sleep(boundary.duration_since(ajar.ports.clock.now())).await;
            now = now.max(boundary);
        }
        let nsg = match ajar.ports.azure.network_security_group(point).await {
            Ok(nsg) => nsg,
            Err(AzureError::NotFound(_)) => {
                tracing::warn!(%point, "an enforcement point does not exist any more");
                settle(ajar, point, &rows, now, &[]).await?;
                return Ok(Worked::Clean { desired: Box::new(desired), seen: rows.guards() });
            }
            Err(error) => return Err(error.into()),
        };
        let mut has_no_room = false;
        let planned = match plan::plan(&nsg, &desired, now) {
            Ok(planned) => planned,
            Err(error) => {
                // What cannot be opened must not keep anything from being shut.
                refuse_openings(ajar, &rows, now, &error).await?;
                has_no_room = true;
                rows.grants.retain(|grant| grant.content.seen_open || grant.content.end <= now);
                desired = rows.desired(ajar);
                plan::plan(&nsg, &desired, now)
                    .map_err(|error| AccessError::internal(format!("{point} cannot be planned: {error}")))?
            }
        };
        for note in &planned.notes {
            tracing::info!(%point, ?note, "noticed on an enforcement point");
        }
        if planned.write == Write::Nothing {
            if nsg.provisioning_state().is_some_and(|state| state.eq_ignore_ascii_case("Updating")) {
                return Ok(Worked::Later(UPDATING_WAIT));
            }
            if let Err(found) = plan::verify(&nsg, &desired, now) {
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                return Err(AccessError::internal(format!(
                    "{point} was planned but does not verify: {}",
                    found.join("; ")
                )));
            }
            keep_originals(ajar, point, &rows, &planned, true).await?;
            settle(ajar, point, &rows, now, &planned.notes).await?;
            read_back::record(ajar, point, now, planned.notes).await?;
            if has_no_room {
                return Ok(Worked::Later(NO_ROOM_WAIT));
            }
            if let Some(wait) = opens_soon(&rows, now) {
                return Ok(Worked::Later(wait));
            }
            return Ok(Worked::Clean { desired: Box::new(desired), seen: rows.guards() });
        }
        keep_originals(ajar, point, &rows, &planned, false).await?;
        match write(ajar, point, &planned.write, lease, now).await {
            Ok(None) => {}
            Ok(Some(operation)) => {
                lease.set_operation(Some(operation)).await?;
                return Ok(Worked::Later(OPERATION_WAIT));
            }
            Err(error) => {
                // Whether it was done, or will be, nobody knows: what it leaves late is looked at again.
                look_again(ajar, point, now).await?;
                return Err(error);
            }
        }
        if ajar.ports.clock.now().duration_since(started) > LONGEST_HOLD {
            break;
        }
    }
    Ok(Worked::Later(SignedDuration::from_secs(1)))
}

/// Writes what was planned, one rule after the other where there are few, each only while the lease outlasts it.
/// Returns the operation that goes on, if one does; what was not written then, the next look plans again.
async fn write(
    ajar: &Ajar,
    point: &ResourceId,
    write: &Write,
    lease: &mut Held<'_>,
    now: Timestamp,
) -> Result<Option<String>, AccessError> {
    let azure = ajar.ports.azure.as_ref();
    let rules = match write {
        Write::Nothing => return Ok(None),
        Write::Whole(nsg) => {
            lease.before_write(now).await?;
            tracing::info!(%point, "writing an NSG whole");
            return goes_on(point, azure.put_network_security_group(nsg).await).map(Written::operation);
        }
        Write::Rules(rules) => rules,
    };
    for rule in rules {
        lease.before_write(now).await?;
        let outcome = match rule {
            RuleWrite::Put(rule) => {
                tracing::info!(%point, rule = rule.name(), description = rule.description(), "writing a rule");
                azure.put_rule(point, rule).await
            }
            RuleWrite::Delete(name) => {
                tracing::info!(%point, rule = name, "removing a rule");
                azure.delete_rule(point, name).await
            }
        };
        match goes_on(point, outcome)? {
            Written::Done => {}
            other => return Ok(other.operation()),
        }
    }
    Ok(None)
}

/// How one write ended.
enum Written {
    Done,
    /// Azure is still at it.
    Running(String),
    /// Somebody else came between: the point is read and planned again.
    Superseded,
}

impl Written {
    fn operation(self) -> Option<String> {
        match self {
            Written::Running(operation) => Some(operation),
            Written::Done | Written::Superseded => None,
        }
    }
}

fn goes_on(point: &ResourceId, outcome: Result<WriteOutcome, AzureError>) -> Result<Written, AccessError> {
    match outcome {
        Ok(WriteOutcome::Done) => Ok(Written::Done),
        Ok(WriteOutcome::Running(operation)) => Ok(Written::Running(operation)),
        Err(AzureError::Conflict(reason)) => {
            tracing::info!(%point, reason, "somebody else changed the point; it is read and planned again");
            Ok(Written::Superseded)
        }
        Err(error) => Err(error.into()),
    }
}

/// How long until the next start that is soon: whoever granted it may have a clock that is ahead.
fn opens_soon(rows: &PointRows, now: Timestamp) -> Option<SignedDuration> {
    let starts = rows.grants.iter().map(|stored| stored.content.start.duration_since(now));
    starts.filter(|wait| wait.is_positive() && *wait < SOON).min()
}

/// Keeps the originals of moved rules: more of them before a write, those that are still moved after it.
async fn keep_originals(
    ajar: &Ajar,
    point: &ResourceId,
    rows: &PointRows,
    planned: &plan::Plan,
    is_written: bool,
) -> Result<(), AccessError> {
    let before = rows.originals.as_ref().map(|stored| stored.content.clone()).unwrap_or_default();
    let mut wanted =
        Originals { rules: planned.originals.clone(), flush_connection: planned.original_flush_connection };
    if !is_written {
        let known: Vec<_> = before
            .rules
            .iter()
            .filter(|old| !wanted.rules.iter().any(|rule| rule.name == old.name))
            .cloned()
            .collect();
        wanted.rules.extend(known);
        wanted.flush_connection = wanted.flush_connection.or(before.flush_connection);
    }
    if wanted == before {
        return Ok(());
    }
    point::write_originals(ajar, point, &wanted, rows.originals.as_ref().map(|stored| stored.etag.clone()))
        .await
}

/// Tells the requesters of what is not open yet why it cannot be.
async fn refuse_openings(
    ajar: &Ajar,
    rows: &PointRows,
    now: Timestamp,
    error: &PlanError,
) -> Result<(), AccessError> {
    let reason = format!("cannot be opened at present: {error}");
    for grant in rows.grants.iter().map(|stored| &stored.content) {
        if grant.seen_open || grant.end <= now {
            continue;
        }
        history::update(ajar, &grant.request, |request| {
            if request.status != Status::Opening || request.reason.as_deref() == Some(&reason) {
                return Ok(None);
            }
            request.reason = Some(reason.clone());
            let told = Happened::Hindered { reason: reason.clone() };
            Ok(Some(Step::own(reason.clone()).telling(told)))
        })
        .await?;
    }
    tracing::error!(%error, "an enforcement point has no room for what was granted");
    Ok(())
}

/// Records what a clean read-back has shown, and removes the rows that guarded it.
async fn settle(
    ajar: &Ajar,
    point: &ResourceId,
    rows: &PointRows,
    now: Timestamp,
    notes: &[Note],
) -> Result<(), AccessError> {
    for stored in &rows.grants {
        let grant = &stored.content;
        let opens_nothing = notes.iter().any(|note| {
            matches!(note, Note::GrantOutsideProtection { grant: flow } if flow.starts_with(grant.request.as_str()))
        });
        if opens_nothing && now < grant.end {
            // No protection covers it here (yet), so what was read back says nothing about it.
            continue;
        }
        settle_grant(ajar, point, stored, now).await?;
    }
    for stored in &rows.policies {
        let policy = &stored.content;
        let row = policy_row(&policy.vm);
        let mut settled = policy.clone();
        settled.dues.clear();
        let written = match policy.seen_off {
            Some(at) if policy.is_over() && at + SECOND_LOOK <= now => {
                point::delete_row(ajar, point, row, stored.etag.clone()).await
            }
            None if policy.is_over() => {
                policy_store::released_by(ajar, &policy.vm, point).await?;
                look_again(ajar, point, now).await?;
                settled.seen_off = Some(now);
                point::write_row(ajar, point, row, &settled, Some(stored.etag.clone())).await
            }
            _ if policy.dues.is_empty() => continue,
            _ => point::write_row(ajar, point, row, &settled, Some(stored.etag.clone())).await,
        };
        match written {
            Ok(()) => {
                for due in &policy.dues {
                    due::forget(ajar, due).await?;
                }
            }
            // It was changed meanwhile: its new due row brings the next look.
            Err(StoreOrAccess::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn settle_grant(
    ajar: &Ajar,
    point: &ResourceId,
    stored: &crate::document::Stored<Grant>,
    now: Timestamp,
) -> Result<(), AccessError> {
    let grant = &stored.content;
    let row = grant_row(&grant.request);
    let mut settled = grant.clone();
    let forgotten;
    if grant.seen_shut {
        if now < grant.end + SECOND_LOOK {
            return Ok(());
        }
        return match point::delete_row(ajar, point, row, stored.etag.clone()).await {
            Ok(()) | Err(StoreOrAccess::Conflict) => Ok(()),
            Err(error) => Err(error.into()),
        };
    } else if grant.end <= now {
        if !seen(ajar, grant, point, PointStatus::Shut).await? {
            // The end was moved later; whoever did that is about to write it here, and guards that.
            return Ok(());
        }
        // Written before the end's own row goes, so that at every moment one of them is there.
        look_again(ajar, point, now).await?;
        settled.seen_shut = true;
        forgotten = std::mem::take(&mut settled.dues);
    } else if grant.start <= now && (!grant.seen_open || !grant.dues.iter().all(|due| is_end(grant, due))) {
        seen(ajar, grant, point, PointStatus::Open).await?;
        settled.seen_open = true;
        let (ends, others): (Vec<_>, Vec<_>) = settled.dues.into_iter().partition(|due| is_end(grant, due));
        settled.dues = ends;
        forgotten = others;
    } else {
        return Ok(());
    }
    match point::write_row(ajar, point, row, &settled, Some(stored.etag.clone())).await {
        Ok(()) => {
            for due in &forgotten {
                due::forget(ajar, due).await?;
            }
            Ok(())
        }
        Err(StoreOrAccess::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a row guards the grant's end as it is now, and not an earlier one or a change that has been seen.
fn is_end(grant: &Grant, row: &DueRef) -> bool {
    matches!(row.due.task, Task::Expire { .. }) && row.due.at == grant.end
}

/// Makes sure that `point` is looked at once more when every straggler of this moment is gone.
pub(crate) async fn look_again(ajar: &Ajar, point: &ResourceId, now: Timestamp) -> Result<(), AccessError> {
    due::note(ajar, now + SECOND_LOOK, Task::Look { point: point.clone() }).await.map(|_| ())
}

/// Records in the request that `point` was seen open or shut for it. `false` when it was seen shut for an end that
/// has been moved later meanwhile: of expiry and extension the one that changed the request first has happened.
async fn seen(
    ajar: &Ajar,
    grant: &Grant,
    point: &ResourceId,
    status: PointStatus,
) -> Result<bool, AccessError> {
    let mut is_outdated = false;
    history::update(ajar, &grant.request, |request| {
        is_outdated = status == PointStatus::Shut
            && matches!(request.status, Status::Opening | Status::Active)
            && request.end.is_some_and(|end| end > grant.end);
        if is_outdated {
            return Ok(None);
        }
        let Some(place) = request.points.iter_mut().find(|place| place.point == *point) else {
            return Ok(None);
        };
        if place.status == status || place.status == PointStatus::Shut {
            return Ok(None);
        }
        place.status = status;
        let mut told = None;
        let step = match status {
            PointStatus::Shut => {
                if matches!(request.status, Status::Opening | Status::Active) {
                    // The arm above guarantees that the event is legal.
                    let _ = request.apply(Event::Ended(grant.close_reason));
                }
                if request.points.iter().all(|place| place.status == PointStatus::Shut) {
                    let _ = request.apply(Event::SeenShut);
                    told = request.close_reason.map(|reason| Happened::Closed { reason });
                }
                format!("seen shut at {}", point.name())
            }
            PointStatus::Open | PointStatus::Opening => {
                if request.points.iter().all(|place| place.status == PointStatus::Open)
                    && request.apply(Event::SeenOpen).is_ok()
                {
                    request.reason = None;
                    told = request.end.map(|end| Happened::Opened { end });
                }
                format!("seen open at {}", point.name())
            }
        };
        Ok(Some(Step::own(step).telling(told)))
    })
    .await?;
    Ok(!is_outdated)
}

/// Closes what is past its described end on `point`: all that can be done when the store is lost.
pub(crate) async fn close_described(ajar: &Ajar, point: &ResourceId) -> Result<usize, AccessError> {
    let nsg = match ajar.ports.azure.network_security_group(point).await {
        Ok(nsg) => nsg,
        Err(AzureError::NotFound(_)) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    close_described_in(ajar, point, &nsg, ajar.ports.clock.now()).await
}

/// Closes what describes `ended_by` or an earlier end, in an NSG that was just read.
pub(crate) async fn close_described_in(
    ajar: &Ajar,
    point: &ResourceId,
    nsg: &NetworkSecurityGroup,
    ended_by: Timestamp,
) -> Result<usize, AccessError> {
    let expired = plan::expired_rules(nsg, &ajar.settings.deployment, ended_by);
    for name in &expired {
        tracing::warn!(%point, rule = name, "closing a rule by its described end: the store knows nothing of it");
        // A delete that is still running is finished by Azure; the next sweep looks again.
        let _ = ajar.ports.azure.delete_rule(point, name).await?;
    }
    Ok(expired.len())
}
