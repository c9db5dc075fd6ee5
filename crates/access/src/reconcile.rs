//! Bringing one enforcement point to its desired state: read, plan, write, read back, until there is nothing
//! left to do. Opening, closing, expiry, revocation and repair are all this one path.

use crate::Ajar;
use crate::correlation::{self, CorrelationId};
use crate::due::{self, DueRef, Task};
use crate::error::AccessError;
use crate::history::{self, Step};
use crate::lease::{self, Found, Freed, Held, Taking};
use crate::life_cycle::Status;
use crate::metrics::{self, Metric};
use crate::notification::Happened;
use crate::originals;
use crate::point::{self, PointRows};
use crate::ports::azure::{AzureError, WriteOutcome};
use crate::ports::store::Change;
use crate::read_back;
use crate::settle;
use crate::store_marker::{self, Standing};
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::plan::{self, PlanError, RuleWrite, Write};
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

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
pub(crate) const SECOND_LOOK: SignedDuration = SignedDuration::from_mins(15);

/// How a reconcile ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The point was read back and is as it should be.
    Clean,
    /// Another invocation holds the point's lease, and a look of it is to come that sees all that is written by now. Come
    /// back at this moment, lest it dies or fails; never mind where there is none, since somebody else does.
    Busy(Option<Timestamp>),
    /// Something is still under way: look again after so long.
    Later(SignedDuration),
    /// The store is not as this deployment left it: only what is past its described end was closed.
    Blind,
}

/// Brings `point` to its desired state.
///
/// # Errors
/// [`AccessError::Unavailable`] when the store or Azure is: the same call later goes on from there.
/// [`AccessError::Internal`] when Azure refuses: the point is as it was.
pub async fn reconcile(ajar: &Ajar, point: &ResourceId) -> Result<Outcome, AccessError> {
    reconcile_for(ajar, point, None).await
}

/// The same for a start or end that was known well before, if any: a clean read-back for that moment or a later one has
/// done it already.
///
/// # Errors
/// As [`reconcile`].
pub(crate) async fn reconcile_for(
    ajar: &Ajar,
    point: &ResourceId,
    moment: Option<Timestamp>,
) -> Result<Outcome, AccessError> {
    match take_turn(ajar, point, moment).await? {
        Turn::Done(brought) => Ok(brought.outcome),
        Turn::InVain(found) => Ok(Outcome::Busy(found.leave_word().await?)),
    }
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

/// For whoever comes again anyway: leaves no word when another holds the lease.
pub(crate) async fn bring(ajar: &Ajar, point: &ResourceId) -> Result<Brought, AccessError> {
    match take_turn(ajar, point, None).await? {
        Turn::Done(brought) => Ok(brought),
        Turn::InVain(_) => Ok(Outcome::Busy(None).into()),
    }
}

enum Turn<'a> {
    Done(Brought),
    InVain(Found<'a>),
}

async fn take_turn<'a>(
    ajar: &'a Ajar,
    point: &'a ResourceId,
    moment: Option<Timestamp>,
) -> Result<Turn<'a>, AccessError> {
    let (standing, found) = futures::join!(store_marker::standing(ajar), lease::find(ajar, point));
    if standing? != Standing::Current {
        close_described(ajar, point).await?;
        return Ok(Turn::Done(Outcome::Blind.into()));
    }
    let found = found?;
    if moment.is_some_and(|moment| found.was_clean_at(moment)) {
        return Ok(Turn::Done(Outcome::Clean.into()));
    }
    match found.take().await? {
        Taking::Taken(lease) => Ok(Turn::Done(hold(ajar, point, lease).await?)),
        Taking::InVain(found) => Ok(Turn::InVain(found)),
        Taking::Overtaken => Ok(Turn::Done(Outcome::Busy(None).into())),
    }
}

/// Works on the point until nobody waits for a look that began later.
async fn hold(ajar: &Ajar, point: &ResourceId, mut lease: Held<'_>) -> Result<Brought, AccessError> {
    let started = ajar.ports.clock.now();
    if lease.was_abandoned() {
        // Its holder died or hangs, perhaps with a write on its way.
        look_again(ajar, point, lease.now()).await?;
    }
    let mut seen = Vec::new();
    loop {
        let worked = match work(ajar, point, &mut lease, started).await {
            Ok(worked) => worked,
            Err(error) => {
                lease.free().await;
                return Err(error);
            }
        };
        if let Next::Rest { now, .. } = &worked.next {
            lease.note_clean(*now);
        }
        let freed = lease.free_with(worked.read_back).await?;
        let outcome = match worked.next {
            Next::Rest { seen: now_seen, .. } => {
                seen.extend(now_seen);
                Outcome::Clean
            }
            Next::Later(wait) => Outcome::Later(wait),
        };
        // Whoever came in vain meanwhile relies on a look that begins now.
        lease = match freed {
            Freed::Yes => return Ok(Brought { outcome, seen }),
            Freed::Awaited(held) => held,
        };
        if ajar.ports.clock.now().duration_since(started) > LONGEST_HOLD {
            lease.free().await;
            return Ok(Brought { outcome: Outcome::Later(SignedDuration::ZERO), seen });
        }
    }
}

/// What came of holding the lease once.
struct Worked {
    next: Next,
    /// What a clean read-back has shown, to be recorded when the lease is freed.
    read_back: Option<Change>,
}

enum Next {
    /// Read back clean for this moment and for rows that hold the changes that these due rows guard.
    Rest {
        now: Timestamp,
        seen: Vec<DueRef>,
    },
    Later(SignedDuration),
}

impl From<Next> for Worked {
    fn from(next: Next) -> Worked {
        Worked { next, read_back: None }
    }
}

async fn work(
    ajar: &Ajar,
    point: &ResourceId,
    lease: &mut Held<'_>,
    started: Timestamp,
) -> Result<Worked, AccessError> {
    if let Some(operation) = lease.operation().map(str::to_owned) {
        match ajar.ports.azure.operation(&operation).await {
            Ok(WriteOutcome::Running(_)) => return Ok(Next::Later(OPERATION_WAIT).into()),
            // However it ended, the read below shows what it left.
            Ok(WriteOutcome::Done)
            | Err(AzureError::NotFound(_) | AzureError::Conflict(_) | AzureError::Rejected { .. }) => {
                lease.set_operation(None).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    for _ in 0..MOST_ROUNDS {
        // Both at once, in whatever order: what is concluded, and which due rows go, rests on the rows and the point
        // agreeing with each other, and as long as the lease is held nobody else of Ajar's changes the point. What a
        // straggler leaves later is found by the second look whichever was read first.
        let (rows, nsg) =
            futures::join!(point::read(ajar, point), ajar.ports.azure.network_security_group(point));
        let (mut rows, mut nsg) = (rows?, nsg);
        let mut desired = rows.desired(ajar);
        let mut now = lease.now();
        if let Some(recorded) = lease.recorded_now()
            && plan::next_boundary(&desired, recorded).is_none_or(|boundary| now < boundary)
        {
            // Nothing began or ended since: acting for that moment comes to the same.
            now = recorded;
        }
        if let Some(boundary) = plan::next_boundary(&desired, now)
            && boundary.duration_since(now) < NEAR
        {
            ajar.ports.clock.sleep(boundary.duration_since(ajar.ports.clock.now())).await;
            now = now.max(boundary);
            // The rows as well: an end that was moved while it was waited for is not the end.
            let (read, found) =
                futures::join!(point::read(ajar, point), ajar.ports.azure.network_security_group(point));
            (rows, nsg) = (read?, found);
            desired = rows.desired(ajar);
        }
        let nsg = match nsg {
            Ok(nsg) => nsg,
            Err(AzureError::NotFound(_)) => {
                tracing::warn!(%point, "an enforcement point does not exist any more");
                settle::settle(ajar, point, &rows, now, &[]).await?;
                return Ok(Next::Rest { now, seen: rows.guards() }.into());
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
                return Ok(Next::Later(UPDATING_WAIT).into());
            }
            if let Err(found) = plan::verify(&nsg, &desired, now) {
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                return Err(AccessError::internal(format!(
                    "{point} was planned but does not verify: {}",
                    found.join("; ")
                )));
            }
            originals::keep_what_is_still_moved(ajar, point, &rows, &planned).await?;
            settle::settle(ajar, point, &rows, now, &planned.notes).await?;
            let read_back = Some(read_back::change(now, planned.notes)?);
            let next = if has_no_room {
                Next::Later(NO_ROOM_WAIT)
            } else if let Some(wait) = opens_soon(&rows, now) {
                Next::Later(wait)
            } else {
                Next::Rest { now, seen: rows.guards() }
            };
            return Ok(Worked { next, read_back });
        }
        originals::keep_before_a_write(ajar, point, &rows, &planned).await?;
        let writing = write(ajar, point, &planned.write, lease, now);
        match correlation::within(cause(point, &rows, now), "write", writing).await {
            Ok(None) => {}
            Ok(Some(operation)) => {
                lease.set_operation(Some(operation)).await?;
                return Ok(Next::Later(OPERATION_WAIT).into());
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
    Ok(Next::Later(SignedDuration::from_secs(1)).into())
}

/// The id to write under: that of a request whose opening or closing is not seen yet, whoever it is that comes to write
/// it. One write may do several of them; the log then says which others.
fn cause(point: &ResourceId, rows: &PointRows, now: Timestamp) -> Option<CorrelationId> {
    let grants = rows.grants.iter().map(|stored| &stored.content);
    let pending = grants.filter(|grant| {
        if grant.end <= now { !grant.seen_shut } else { !grant.seen_open && grant.start <= now }
    });
    let causes: BTreeSet<CorrelationId> = pending.filter_map(|grant| grant.correlation).collect();
    let own = correlation::current().filter(|own| causes.contains(own));
    let chosen = own.or_else(|| causes.first().copied())?;
    for other in causes.iter().filter(|other| **other != chosen) {
        tracing::info!(%point, correlation_id = %other, together_with = %chosen, "written together with another request");
    }
    Some(chosen)
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
            metrics::count(Metric::ReconcileConflicts, "");
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

/// Makes sure that `point` is looked at once more when every straggler of this moment is gone.
pub(crate) async fn look_again(ajar: &Ajar, point: &ResourceId, now: Timestamp) -> Result<(), AccessError> {
    due::note(ajar, now + SECOND_LOOK, Task::Look { point: point.clone() }).await.map(|_| ())
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
