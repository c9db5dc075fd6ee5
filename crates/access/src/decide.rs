//! Deciding a request, and writing its grant to every enforcement point of its VM.
//!
//! Each step can be repeated: whoever finds a request half done goes on from where it is.

use crate::Ajar;
use crate::approval::{self, Approval};
use crate::close;
use crate::correlation;
use crate::due::{self, DueRef, GUARD_DELAY, Task};
use crate::error::AccessError;
use crate::history::{self, Opened, Step};
use crate::keys::digest;
use crate::life_cycle::{CloseReason, Event, Status};
use crate::metrics::{self, Metric};
use crate::notification::Happened;
use crate::organisation::{self, ApprovalWanted, Verdict};
use crate::permission::{self, Operation};
use crate::point::{self, Grant, StoreOrAccess, grant_row};
use crate::policy::{JitPolicy, PolicyState};
use crate::policy_store;
use crate::ports::store::StoreError;
use crate::remind;
use crate::request::{AccessRequest, PointStatus, RequestPoint};
use crate::request_id::RequestId;
use crate::role_loss;
use crate::send;
use crate::supersede;
use crate::waiting;
use ajar_network::resource_id::ResourceId;
use futures::future::try_join_all;
use futures::stream::{FuturesUnordered, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// How many seconds before a promised start the role and the policy are checked again and the grant is written, at least
/// and at most. Each request has its own moment in between, so that of a thousand that start together all are written by
/// then, and open with one write.
const LEAD_SECONDS: (i64, i64) = (3, 30);

/// A start so near that whoever holds the point's lease waits for it.
const NEAR: SignedDuration = SignedDuration::from_secs(2);

/// How often a grant is written again when others change it at the same time.
const ATTEMPTS: usize = 20;

/// Decides a request and brings its grant to where it has to be. A request that is not stored (yet) is left alone.
///
/// # Errors
/// [`AccessError::Unavailable`] when something could not be read or written: nothing is opened for it, and
/// the same call later goes on from there.
pub async fn decide(ajar: &Ajar, id: &RequestId) -> Result<(), AccessError> {
    let opened = history::open(ajar, id).await?;
    let Some(request) = opened.request().cloned() else { return Ok(()) };
    let work_correlation = request.correlation;
    // The sweep comes without the id that the message would have had.
    // Boxed, as the largest of its parts are: all that is awaited in a row lies in one another, and stacks are small.
    let work = Box::pin(decide_opened(ajar, id, opened, request));
    correlation::within(work_correlation, "decide", work).await
}

async fn decide_opened(
    ajar: &Ajar,
    id: &RequestId,
    opened: Opened<'_>,
    mut request: AccessRequest,
) -> Result<(), AccessError> {
    let mut prepared = Prepared::default();
    let guard = request.guard.clone();
    let early = too_early(&request, ajar.ports.clock.now());
    if request.status == Status::Requested || (request.status == Status::Approved && early.is_none()) {
        request = match (authorise(ajar, &request).await?, early) {
            (Ok(permitted), early) => match (permitted.missing(&request), early) {
                (Some(wanted), _) => Box::pin(wait_for_people(ajar, opened, request, wanted)).await?,
                (None, Some(start)) => promise(ajar, opened, request, start).await?,
                (None, None) => {
                    let (begun, noted) = Box::pin(begin(ajar, opened, request, &permitted)).await?;
                    prepared = noted;
                    begun
                }
            },
            (Err((by, reason)), _) => deny(opened, by, reason).await?.unwrap_or(request),
        };
    } else if request.status == Status::AwaitingApproval {
        request = Box::pin(time_out(ajar, opened, request)).await?;
    } else {
        drop(opened);
    }
    project_to(ajar, &request, prepared).await?;
    match overtaken(ajar, &request).await? {
        Some(reason) => {
            Box::pin(close::end(ajar, id, None, CloseReason::Revoked, &reason)).await?;
        }
        None => supersede::others(ajar, &request).await?,
    }
    remind::remind(ajar, &request).await?;
    // The row of a promised start stays until then, and that of the time to approve.
    let waits = matches!(request.status, Status::Approved | Status::AwaitingApproval);
    let is_waiting = waits && request.guard == guard;
    if let Some(guard) = guard.filter(|_| !is_waiting) {
        due::forget(ajar, &guard).await?;
    }
    Ok(())
}

/// Why what was just granted must end at once: whoever turns JIT off writes that first and then ends what is granted,
/// and whoever grants writes the grant first and then looks at the policy once more. So one of them sees the other.
async fn overtaken(ajar: &Ajar, request: &AccessRequest) -> Result<Option<String>, AccessError> {
    if !matches!(request.status, Status::Opening | Status::Active) {
        return Ok(None);
    }
    Ok(match policy_store::read(ajar, &request.wish.vm).await? {
        Some(stored) if stored.content.state == PolicyState::Enabled => {
            let refused = request.wish.check_against(&stored.content).err();
            // What is open already stays so when a policy becomes narrower.
            let refused = refused.filter(|_| request.status == Status::Opening);
            refused.map(|error| format!("ended: the JIT policy does not allow it any more: {error}"))
        }
        _ => Some("ended: JIT was turned off".to_owned()),
    })
}

/// The start that was asked for, while it is still too far ahead to be granted.
pub(crate) fn too_early(request: &AccessRequest, now: Timestamp) -> Option<Timestamp> {
    request.wish.not_before.filter(|start| now < *start - lead(&request.id))
}

/// How long before its start a request is decided.
pub(crate) fn lead(request: &RequestId) -> SignedDuration {
    let (least, most) = LEAD_SECONDS;
    let own = i64::from_str_radix(&digest(request.as_str(), 8), 16).unwrap_or_default();
    SignedDuration::from_secs(least + own % (most - least + 1))
}

/// What allows a request now.
#[derive(Debug)]
pub(crate) struct Permitted {
    /// The JIT policy of its VM.
    policy: JitPolicy,
    /// The approvals that the organisation's policies want, if any.
    pub(crate) approval: Option<ApprovalWanted>,
    /// The policies of the organisation that permit it.
    by: Vec<String>,
}

impl Permitted {
    /// The approvals that are wanted, while too few are given.
    fn missing(&self, request: &AccessRequest) -> Option<&ApprovalWanted> {
        let given = request.approval.as_ref().map_or(0, |approval| approval.given.len());
        self.approval.as_ref().filter(|wanted| u32::try_from(given).unwrap_or(u32::MAX) < wanted.needed)
    }

    /// Why it is granted, for the history.
    fn why(&self) -> String {
        let mut why = "the role and the JIT policy allow it".to_owned();
        if !self.by.is_empty() {
            why += &format!(", and of the organisation's policies {}", self.by.join(", "));
        }
        why
    }
}

/// What allows the request now, or what refuses it and why.
pub(crate) async fn authorise(
    ajar: &Ajar,
    request: &AccessRequest,
) -> Result<Result<Permitted, (&'static str, String)>, AccessError> {
    let vm = &request.wish.vm;
    let (permitted, policy) = futures::join!(
        permission::require_now(ajar, &request.requester, request.wish.subject(), Operation::Request),
        policy_store::read(ajar, vm),
    );
    match permitted {
        Ok(()) => {}
        Err(AccessError::Forbidden(reason)) => return Ok(Err(("role", reason))),
        Err(error) => return Err(error),
    }
    let policy = match policy? {
        Some(stored) if stored.content.state == PolicyState::Enabled => stored.content,
        _ => return Ok(Err(("policy", format!("{} has no JIT policy in force any more", vm.name())))),
    };
    if let Err(error) = request.wish.check_against(&policy) {
        return Ok(Err(("policy", format!("the JIT policy does not allow it any more: {error}"))));
    }
    Ok(match organisation::judge_request(ajar, request).await? {
        Verdict::Allowed { approval, by } => Ok(Permitted { policy, approval, by }),
        Verdict::Denied(reason) => Err(("organisation", reason)),
    })
}

/// Lets a request wait for people. One that has waited already and now lacks approvals, because policies have changed
/// since, is denied: whoever approved it has not approved that.
async fn wait_for_people(
    ajar: &Ajar,
    opened: Opened<'_>,
    request: AccessRequest,
    wanted: &ApprovalWanted,
) -> Result<AccessRequest, AccessError> {
    if request.status != Status::Requested {
        let reason = format!("policies have changed since it was approved; ask anew. {}", wanted.why);
        return Ok(deny(opened, "organisation", reason).await?.unwrap_or(request));
    }
    let now = ajar.ports.clock.now();
    let latest = now + ajar.settings.approval_time;
    let until = request.wish.absolute_end.map_or(latest, |end| end.min(latest));
    if until <= now {
        let reason = "the end that was asked for is past".to_owned();
        return Ok(deny(opened, "past", reason).await?.unwrap_or(request));
    }
    let id = &request.id;
    let (guard, ()) = futures::try_join!(
        due::note(ajar, until, Task::TimeOut { request: id.clone() }),
        waiting::list(ajar, id)
    )?;
    let updated = opened
        .update(|request| {
            if request.status != Status::Requested || request.apply(Event::ApprovalWanted).is_err() {
                return Ok(None);
            }
            request.approval =
                Some(Approval { needed: wanted.needed, why: wanted.why.clone(), until, given: Vec::new() });
            request.guard = Some(guard.clone());
            let step =
                format!("waits until {until:.0} for {} to approve: {}", people(wanted.needed), wanted.why);
            Ok(Some(Step::own(step).telling(Happened::ApprovalWanted)))
        })
        .await?;
    send::send_request(ajar, id, Some(until)).await;
    metrics::count(Metric::Decisions, "approval wanted");
    Ok(updated.unwrap_or(request))
}

fn people(number: u32) -> String {
    if number == 1 { "one person".to_owned() } else { format!("{number} people") }
}

/// Gives up a request that nobody has approved in time.
async fn time_out(
    ajar: &Ajar,
    opened: Opened<'_>,
    request: AccessRequest,
) -> Result<AccessRequest, AccessError> {
    let now = ajar.ports.clock.now();
    let is_over =
        |request: &AccessRequest| request.approval.as_ref().is_none_or(|approval| approval.until <= now);
    if !is_over(&request) {
        return Ok(request);
    }
    let updated = opened
        .update(|request| {
            if !is_over(request) || request.apply(Event::TimedOut).is_err() {
                return Ok(None);
            }
            request.reason = Some("nobody approved it in time".to_owned());
            Ok(Some(Step::own("given up: nobody approved it in time").telling(Happened::TimedOut)))
        })
        .await?
        .unwrap_or_else(|| request.clone());
    if updated.status == Status::TimedOut {
        approval::stop_waiting(ajar, &request).await?;
        metrics::count(Metric::Decisions, "timed out");
        tracing::info!(request = %request.id, "access was not approved in time");
    }
    Ok(updated)
}

async fn deny(
    opened: Opened<'_>,
    by: &'static str,
    reason: String,
) -> Result<Option<AccessRequest>, AccessError> {
    let denied = opened
        .update(|request| {
            if request.apply(Event::Denied).is_err() {
                return Ok(None);
            }
            request.reason = Some(reason.clone());
            let told = Happened::Refused { reason: reason.clone() };
            Ok(Some(Step::own(format!("denied: {reason}")).telling(told)))
        })
        .await?;
    if let Some(request) = &denied {
        metrics::count(Metric::Decisions, by);
        tracing::info!(request = %request.id, reason, "access denied");
    }
    Ok(denied)
}

/// Promises access from `start` on. Nothing is granted yet.
async fn promise(
    ajar: &Ajar,
    opened: Opened<'_>,
    request: AccessRequest,
    start: Timestamp,
) -> Result<AccessRequest, AccessError> {
    let id = &request.id;
    let at = start - lead(id);
    let guard = due::note(ajar, at, Task::Start { request: id.clone() }).await?;
    let updated = opened
        .update(|request| {
            if request.status != Status::Requested || request.apply(Event::Allowed).is_err() {
                return Ok(None);
            }
            request.guard = Some(guard.clone());
            let step = format!(
                "approved to open at {start:.0}: role and JIT policy allow it and are checked again shortly before"
            );
            Ok(Some(Step::own(step).telling(Happened::Scheduled { start })))
        })
        .await?;
    send::send_request(ajar, id, Some(at)).await;
    Ok(updated.unwrap_or(request))
}

/// What was written ahead of the grants of a request.
#[derive(Debug, Default)]
struct Prepared {
    /// Whether this very call began the opening: then the grants are hardly there yet, and only another that has read the
    /// request since can have written them.
    has_begun: bool,
    /// The rows that guard the opening and the end, by enforcement point.
    guards: BTreeMap<ResourceId, [DueRef; 2]>,
}

/// Fixes start and end. Nothing is open yet: the rows that guard opening and end are written before.
async fn begin(
    ajar: &Ajar,
    opened: Opened<'_>,
    request: AccessRequest,
    permitted: &Permitted,
) -> Result<(AccessRequest, Prepared), AccessError> {
    let id = &request.id;
    let now = ajar.ports.clock.now();
    let start = request.wish.not_before.map_or(now, |start| start.max(now));
    let end = request
        .wish
        .absolute_end
        .map_or(start + request.wish.duration, |absolute| absolute.min(start + request.wish.duration));
    if end <= start {
        let reason = "the end that was asked for is past".to_owned();
        return Ok((deny(opened, "past", reason).await?.unwrap_or(request), Prepared::default()));
    }
    // A point that the VM has left has no address to open.
    let places = permitted.policy.points.iter().filter(|place| !place.addresses.is_empty());
    let places: Vec<RequestPoint> = places
        .map(|place| RequestPoint {
            point: place.point.clone(),
            addresses: place.addresses.clone(),
            status: PointStatus::Opening,
        })
        .collect();
    let guards = places.iter().map(|place| async {
        let guards = note_window(ajar, id, &place.point, start, end).await?;
        Ok::<_, AccessError>((place.point.clone(), guards))
    });
    let (_, reminder, guards) = futures::try_join!(
        role_loss::note_next_look(ajar, id),
        remind::note(ajar, id, (start, end), now),
        try_join_all(guards),
    )?;
    let mut prepared = Prepared { has_begun: false, guards: guards.into_iter().collect() };
    let updated = opened
        .update(|request| {
            prepared.has_begun = false;
            if request.status == Status::Requested && request.apply(Event::Allowed).is_err() {
                return Ok(None);
            }
            if request.apply(Event::OpeningStarted).is_err() {
                return Ok(None);
            }
            prepared.has_begun = true;
            request.start = Some(start);
            request.move_end(end);
            request.reminder = reminder.clone();
            request.points.clone_from(&places);
            let told = request.wish.break_glass.then(|| Happened::BrokeGlass {
                reason: request.wish.justification.clone().unwrap_or_default(),
            });
            Ok(Some(Step::own(format!("granted until {end:.0}: {}", permitted.why())).telling(told)))
        })
        .await?;
    if let Some(updated) = &updated {
        remind::schedule(ajar, updated).await;
        metrics::count(Metric::Decisions, "granted");
        tracing::info!(request = %id, vm = %updated.wish.vm, %end, "access granted");
    }
    Ok((updated.unwrap_or(request), prepared))
}

/// Writes the rows that guard the opening and the end of a grant on a point.
async fn note_window(
    ajar: &Ajar,
    request: &RequestId,
    point: &ResourceId,
    start: Timestamp,
    end: Timestamp,
) -> Result<[DueRef; 2], AccessError> {
    let opening = start.max(ajar.ports.clock.now()) + GUARD_DELAY;
    let (guard, expire) = futures::try_join!(
        due::note(ajar, opening, Task::Reconcile { point: point.clone() }),
        due::note(ajar, end, Task::Expire { point: point.clone(), request: request.clone() }),
    )?;
    Ok([guard, expire])
}

/// Writes what the request says to its enforcement points: adds the grant where it is missing, moves its end where
/// the request's was moved since.
pub(crate) async fn project(ajar: &Ajar, request: &AccessRequest) -> Result<(), AccessError> {
    project_to(ajar, request, Prepared::default()).await
}

async fn project_to(ajar: &Ajar, request: &AccessRequest, mut prepared: Prepared) -> Result<(), AccessError> {
    let (Some(start), Some(end)) = (request.start, request.end) else { return Ok(()) };
    if request.status.is_final() {
        return Ok(());
    }
    // A VM has a handful of enforcement points.
    let under_way = FuturesUnordered::new();
    for place in &request.points {
        if place.status != PointStatus::Shut {
            let guards = prepared.guards.remove(&place.point);
            let (guards, in_vain) = if prepared.has_begun { (guards, None) } else { (None, guards) };
            under_way.push(project_on(ajar, request, place, (guards, in_vain), start, end));
        }
    }
    under_way.try_collect().await
}

async fn project_on(
    ajar: &Ajar,
    request: &AccessRequest,
    place: &RequestPoint,
    (mut guards, in_vain): (Option<[DueRef; 2]>, Option<[DueRef; 2]>),
    start: Timestamp,
    end: Timestamp,
) -> Result<(), AccessError> {
    let point = &place.point;
    let row = grant_row(&request.id);
    let mut in_vain: Vec<DueRef> = in_vain.into_iter().flatten().collect();
    // Whoever loses looks again: the winner may have written an end from before a revocation or an extension.
    for _ in 0..ATTEMPTS {
        // A row that is there although the opening was only just begun makes the write below fail, and is read then.
        let existing = match &guards {
            Some(_) => None,
            None => point::read_row::<Grant>(ajar, point, &row).await?,
        };
        if !in_vain.is_empty() {
            // A row of the same moment and subject is one row, so what the winner names must stay.
            let named = existing.as_ref().map(|stored| stored.content.dues.as_slice()).unwrap_or_default();
            in_vain.retain(|row: &DueRef| !named.iter().any(|other| other.due == row.due));
            due::forget_all(ajar, std::mem::take(&mut in_vain)).await?;
        }
        let is_written = |grant: &Grant| grant.seen_shut || grant.window >= request.window;
        if existing.as_ref().is_some_and(|stored| is_written(&stored.content)) {
            // Nothing to move; but whoever wrote it may have stopped before sending word.
            send_word(ajar, point, start, end).await;
            return Ok(());
        }
        let noted = match guards.take() {
            Some(noted) => noted,
            None => note_window(ajar, &request.id, point, start, end).await?,
        };
        let (grant, etag) = match existing {
            Some(mut stored) => {
                stored.content.end = end;
                stored.content.window = request.window;
                stored.content.close_reason = request.close_reason.unwrap_or(CloseReason::Expired);
                stored.content.dues.extend(noted.clone());
                (stored.content, Some(stored.etag))
            }
            None => {
                let mut grant = Grant::of(request, &place.addresses, start, end);
                grant.dues = noted.to_vec();
                (grant, None)
            }
        };
        match point::write_row(ajar, point, row.clone(), &grant, etag).await {
            Ok(()) => {}
            Err(StoreOrAccess::Conflict) => {
                // Nothing was written for these rows to guard.
                in_vain.extend(noted);
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        let send_end = async {
            if ajar.ports.clock.now() < end {
                send::send_reconcile_at(ajar, point, end).await;
            }
        };
        futures::join!(send_word(ajar, point, start, end), send_end);
        return Ok(());
    }
    Err(StoreError::Conflict.into())
}

/// Sends word that a point is to be changed for what starts and ends then: now, or at a start that is still ahead.
async fn send_word(ajar: &Ajar, point: &ResourceId, start: Timestamp, end: Timestamp) {
    let now = ajar.ports.clock.now();
    if now + NEAR < start && now < end {
        send::send_reconcile_at(ajar, point, start).await;
    } else {
        send::send_reconcile(ajar, point).await;
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::{self, World, user, vm};
    use crate::{close, configure, submit};
    use jiff::SignedDuration;
    use serde_json::json;

    /// A world in which bob has been let into `web-1` for an hour, and his request as it is then.
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    async fn active() -> (World, AccessRequest) {
        let world = World::new();
        world.protect("web-1", json!({})).await;
        let ask = testing::ask("web-1", "203.0.113.7", "PT1H");
        let request = submit::submit(&world.ajar, &user("bob"), &ask).await.unwrap();
        world.deliver().await;
        let as_read = history::read(&world.ajar, &request.id).await.unwrap().unwrap().content;
        (world, as_read)
    }

    /// An invocation that read the request before an extension, slept, and writes after it.
    #[tokio::test]
    async fn a_straggler_that_read_before_an_extension_does_not_take_it_back() {
        let (world, as_read) = active().await;
        let hour = crate::extend::ExtensionInput { duration: Some("PT1H".into()), ..Default::default() };
        crate::extend::extend(&world.ajar, &user("bob"), &as_read.id, &hour).await.unwrap();
        project(&world.ajar, &as_read).await.unwrap();
        world.pass(SignedDuration::from_mins(70)).await;
        assert!(world.azure.allows("203.0.113.7", "10.0.0.4", 22));
        world.pass(SignedDuration::from_mins(51)).await;
        assert!(!world.azure.allows("203.0.113.7", "10.0.0.4", 22));
    }

    /// An invocation that read the request while it was active, slept, and writes after it was revoked.
    #[tokio::test]
    async fn a_straggler_that_read_before_a_revocation_opens_nothing_after_it() {
        let (world, as_read) = active().await;
        assert_eq!(as_read.status, Status::Active);

        close::revoke(&world.ajar, &user("bob"), &as_read.id).await.unwrap();
        world.deliver().await;
        // Ten minutes are longer than any invocation lives.
        world.pass(SignedDuration::from_mins(10)).await;
        project(&world.ajar, &as_read).await.unwrap();
        world.deliver().await;
        assert!(!world.azure.allows("203.0.113.7", "10.0.0.4", 22));
    }

    /// A decision that read the policy before JIT was turned off, and writes after it is off everywhere.
    #[tokio::test]
    async fn a_decision_overtaken_by_turning_off_opens_nothing_when_jit_is_on_again() {
        let world = World::new();
        world.protect("web-1", json!({})).await;
        let ask = testing::ask("web-1", "203.0.113.7", "PT1H");
        let request = submit::submit(&world.ajar, &user("bob"), &ask).await.unwrap();
        let permitted = authorise(&world.ajar, &request).await.unwrap().unwrap();
        world.bus.clear();
        configure::disable(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap();
        world.deliver().await;
        let opened = history::open(&world.ajar, &request.id).await.unwrap();
        begin(&world.ajar, opened, request.clone(), &permitted).await.unwrap();
        // The invocation dies; the sweep goes on from there.
        world.minutes(2).await;
        world.protect("web-1", json!({})).await;
        world.minutes(2).await;
        assert!(!world.azure.allows("203.0.113.7", "10.0.0.4", 22));
        let after = history::read(&world.ajar, &request.id).await.unwrap().unwrap().content;
        assert_eq!(after.status, Status::Closed);
    }
}
