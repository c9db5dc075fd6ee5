//! The minute sweep: does what is due, whatever happened to its message.

mod hindrances;
#[cfg(all(test, feature = "testing"))]
mod tests;

use crate::Ajar;
use crate::compliance;
use crate::configure;
use crate::correlation::{self, CorrelationId};
use crate::decide;
use crate::document::{Document, stored};
use crate::due::{self, Due, DueRef, GUARD_DELAY, ORPHAN_KEPT, Task};
use crate::error::AccessError;
use crate::evaluate;
use crate::heartbeat;
use crate::history;
use crate::life_cycle::Status;
use crate::metrics::{self, Metric};
use crate::outbox;
use crate::policy_store;
use crate::ports::store::{Range, Table};
use crate::reconcile::{self, Brought, Outcome};
use crate::request::AccessRequest;
use crate::request_id::RequestId;
use crate::role_loss;
use crate::scope;
use crate::store_marker::{self, Standing};
use crate::template_start;
use ajar_network::resource_id::ResourceId;
use futures::future;
use futures::stream::{self, StreamExt};
use hindrances::Hindrances;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// How many due rows one sweep takes on; the next one takes the rest, oldest first. Rows of work that failed the last time
/// do not count: they may be many, and would keep the others from being read.
const MOST_ROWS: usize = 5_000;

/// How many rows one sweep reads at most, some 20 MB of them.
const MOST_READ: usize = 50_000;

/// How many points or requests are worked on at once.
const CONCURRENCY: usize = 8;

/// After so long a sweep begins nothing new: the next one runs every minute.
const LONGEST: SignedDuration = SignedDuration::from_secs(40);

/// What is due for less than this was not tried often yet.
const FRESH: SignedDuration = SignedDuration::from_mins(3);

/// After five sweeps an end that was not carried out is an alarm.
const ALARM_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// How long after its described end a rule stays while the store cannot be read at present. A rule that several grants
/// share describes the first of their ends, and only the store knows the others: an outage shorter than this cuts
/// nobody's session, a longer one leaves nothing open for longer than this.
const UNREADABLE_PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Rows that were due.
    pub due: usize,
    /// Rows among them whose work a message should have done before: none in the normal case.
    pub missed: usize,
    /// Rows done with and removed.
    pub done: usize,
    /// Rows whose work failed; they stay due.
    pub failed: usize,
    /// Ends of access that were not carried out in five sweeps or more: somebody has to look.
    pub overdue: usize,
    /// Rules closed by their described end because the store is lost, restored or unreadable.
    pub closed_by_description: usize,
}

/// Does what is due.
///
/// # Errors
/// [`AccessError::Unavailable`] when the store cannot be read and Azure neither. When only the store cannot
/// be read, what is five minutes past its described end is closed.
pub async fn sweep(ajar: &Ajar) -> Result<SweepReport, AccessError> {
    if let Err(error) = template_start::note(ajar).await {
        tracing::warn!(
            error = error.log_text(),
            "new templates could not be noted; the next sweep notes them"
        );
    }
    let hindrances = Hindrances::read(ajar).await;
    let found = match store_marker::look(ajar).await {
        Ok(seen) => {
            let standing = seen.standing();
            metrics::measure(Metric::StoreRestored, f64::from(u8::from(standing == Standing::Restored)));
            match standing {
                Standing::Current => {
                    future::join(read_due(ajar, &hindrances), store_marker::raise(ajar, seen)).await.0
                }
                Standing::Empty => {
                    look_at_what_is_due(ajar, &hindrances).await;
                    return close_all_described(ajar, "empty", SignedDuration::ZERO).await;
                }
                Standing::Restored => {
                    return close_all_described(ajar, "restored from a backup", SignedDuration::ZERO).await;
                }
            }
        }
        Err(error) => Err(error),
    };
    let rows = match found {
        Ok(rows) => rows,
        Err(error) => {
            tracing::error!(error = error.log_text(), "the store cannot be read");
            return close_all_described(ajar, "unreadable", UNREADABLE_PATIENCE).await;
        }
    };
    let started = ajar.ports.clock.now();
    let missed = rows.iter().filter(|row| is_missed(&row.due, started)).count();
    let mut report = SweepReport { due: rows.len(), missed, ..SweepReport::default() };
    let oldest = rows.iter().map(|row| row.due.at).min();
    let lag = oldest.map_or(0, |oldest| started.duration_since(oldest).as_secs());
    let groups = group(rows);
    let subjects: Vec<String> = groups.iter().map(|group| group.subject.clone()).collect();
    // What failed has a lane of its own, in which it keeps nothing waiting that can be done; and so has what is old, in
    // which it keeps nothing new waiting.
    let (mut failing, others): (Vec<_>, Vec<_>) =
        groups.into_iter().partition(|group| hindrances.failed_in(&group.subject).is_some());
    // Whatever was tried longest ago comes first: what hangs must not keep others of its kind from being tried.
    failing.sort_by_key(|group| hindrances.failed_in(&group.subject));
    let (fresh, old): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|group| group.rows.iter().any(|row| row.due.at + FRESH > started));
    let lane = |groups| work_through(ajar, groups, started, &hindrances);
    for part in future::join_all([lane(fresh), lane(old), lane(failing)]).await {
        report.add(part);
    }
    hindrances.keep(ajar, subjects.iter(), ajar.ports.clock.now()).await;
    tracing::info!(
        due = report.due,
        missed = report.missed,
        done = report.done,
        failed = report.failed,
        "swept"
    );
    metrics::measure(Metric::SweepMissed, report.missed as f64);
    metrics::measure(Metric::SweepLag, lag as f64);
    metrics::measure(Metric::OverdueGrants, report.overdue as f64);
    metrics::count(Metric::SweepHeartbeat, "");
    heartbeat::leave(ajar, heartbeat::SWEEP_EXPIRED, report.due, report.failed).await;
    Ok(report)
}

impl SweepReport {
    /// Adds what became of some of the rows.
    fn add(&mut self, part: SweepReport) {
        self.done += part.done;
        self.failed += part.failed;
        self.overdue += part.overdue;
    }
}

/// Whether a message should have done it by now. Second looks and looks at roles have none: they are the sweep's own.
fn is_missed(due: &Due, now: Timestamp) -> bool {
    match due.task {
        Task::Look { .. } | Task::Recheck { .. } => false,
        // Their message comes at the same moment, and takes a little; the others' rows wait for theirs as it is.
        Task::Expire { .. } | Task::Start { .. } | Task::TimeOut { .. } | Task::Remind { .. } => {
            due.at + GUARD_DELAY <= now
        }
        _ => true,
    }
}

/// Does groups, in their order. What is not begun in time, or while Azure wants to be left alone, stays for the next sweep.
async fn work_through(
    ajar: &Ajar,
    groups: Vec<Group>,
    started: Timestamp,
    hindrances: &Hindrances,
) -> SweepReport {
    let mut results = stream::iter(groups)
        .map(|group| async move {
            let now = ajar.ports.clock.now();
            let subscription = group.rows.first().and_then(|row| row.due.task.subscription());
            let is_paused = subscription.as_deref().is_some_and(|name| hindrances.pauses(name, now));
            if now.duration_since(started) > LONGEST || is_paused {
                return SweepReport { overdue: overdue(&group.rows, now), ..SweepReport::default() };
            }
            let id = CorrelationId::parse(&ajar.ports.ids.fresh()).ok();
            match correlation::within(id, "sweep", Box::pin(work(ajar, &group.rows))).await {
                Ok(done) => {
                    hindrances.succeed(&group.subject);
                    SweepReport { done, ..SweepReport::default() }
                }
                Err(error) => {
                    let now = ajar.ports.clock.now();
                    match subscription.zip(error.asked_to_wait()) {
                        Some((name, wait)) => {
                            tracing::warn!(name, "Azure wants to be left alone");
                            hindrances.pause(&name, now, wait);
                        }
                        None => hindrances.fail(&group.subject, started),
                    }
                    let overdue = overdue(&group.rows, now);
                    let task = group.rows.first().map(|due| &due.due.task);
                    tracing::error!(
                        ?task,
                        overdue,
                        error = error.log_text(),
                        "due work failed and stays due"
                    );
                    SweepReport { failed: group.rows.len(), overdue, ..SweepReport::default() }
                }
            }
        })
        .buffer_unordered(CONCURRENCY);
    let mut all = SweepReport::default();
    while let Some(worked) = results.next().await {
        all.add(worked);
    }
    all
}

/// Ends of access that several sweeps could not carry out: an alarm.
fn overdue(group: &[DueRef], now: Timestamp) -> usize {
    let is_overdue =
        |row: &&DueRef| matches!(row.due.task, Task::Expire { .. }) && row.due.at + ALARM_AFTER <= now;
    group.iter().filter(is_overdue).count()
}

/// Looks that events asked for, in a store that holds no policy yet: the first may come of them.
async fn look_at_what_is_due(ajar: &Ajar, hindrances: &Hindrances) {
    let rows = match read_due(ajar, hindrances).await {
        Ok(rows) => rows,
        Err(error) => return tracing::error!(error = error.log_text(), "due looks cannot be read"),
    };
    for row in rows.into_iter().filter(|row| matches!(row.due.task, Task::Evaluate { .. })) {
        if let Err(error) = work(ajar, std::slice::from_ref(&row)).await {
            tracing::error!(task = ?row.due.task, error = error.log_text(), "due work failed and stays due");
        }
    }
}

async fn read_due(ajar: &Ajar, hindrances: &Hindrances) -> Result<Vec<DueRef>, AccessError> {
    let now = ajar.ports.clock.now();
    let range = Range::up_to(due::last_partition(now));
    let (mut rows, mut counted) = (Vec::new(), 0);
    let mut from = None;
    loop {
        let page = ajar.ports.store.scan(Table::Due, &range, from.as_ref(), 1000).await?;
        for row in &page.rows {
            match stored::<Due>(row) {
                Ok(due) if due.content.at <= now => {
                    counted += usize::from(hindrances.failed_in(&subject(&due.content.task)).is_none());
                    rows.push(DueRef { due: due.content, etag: due.etag.0 });
                }
                Ok(_) => {}
                // One row that cannot be read must not keep the others from being done.
                Err(error) => tracing::error!(error = error.log_text(), "a {} cannot be read", Due::NAME),
            }
        }
        match page.next {
            Some(next) if counted < MOST_ROWS && rows.len() < MOST_READ => from = Some(next),
            _ => return Ok(rows),
        }
    }
}

/// Rows that are done at once.
struct Group {
    /// What they are about.
    subject: String,
    rows: Vec<DueRef>,
}

/// What does a task together with others: all of one point at once, every other task by itself.
fn subject(task: &Task) -> String {
    match task {
        Task::Decide { request }
        | Task::Start { request }
        | Task::TimeOut { request }
        | Task::Remind { request } => request.as_str().to_owned(),
        Task::Recheck { request } => format!("role of {request}"),
        Task::Project { vm } => vm.to_lowercase(),
        Task::Notify { place } => format!("{}/{}", place.partition, place.row),
        Task::Comply => "the estate".to_owned(),
        Task::Evaluate { subject } => format!("evaluate {}", subject.to_lowercase()),
        Task::Reconcile { point } | Task::Expire { point, .. } | Task::Look { point } => point.to_lowercase(),
    }
}

/// Rows by subject, oldest first: what has been open too long is shut before anything else. Looks at roles and the whole
/// estate come last: when Azure does not answer them, they must not keep anything from being shut.
fn group(rows: Vec<DueRef>) -> Vec<Group> {
    let mut by_subject: BTreeMap<String, Vec<DueRef>> = BTreeMap::new();
    for row in rows {
        by_subject.entry(subject(&row.due.task)).or_default().push(row);
    }
    let mut groups: Vec<Group> =
        by_subject.into_iter().map(|(subject, rows)| Group { subject, rows }).collect();
    let is_last = |row: &DueRef| matches!(row.due.task, Task::Recheck { .. } | Task::Comply);
    groups
        .sort_by_key(|group| (group.rows.iter().any(is_last), group.rows.iter().map(|row| row.due.at).min()));
    groups
}

/// Does one group; returns how many of its rows are done with.
async fn work(ajar: &Ajar, group: &[DueRef]) -> Result<usize, AccessError> {
    let Some(first) = group.first() else { return Ok(0) };
    match &first.due.task {
        Task::Decide { request }
        | Task::Start { request }
        | Task::TimeOut { request }
        | Task::Remind { request } => {
            decide::decide(ajar, request).await?;
            let found = history::read(ajar, request).await?;
            let is_there =
                |row: &DueRef| found.as_ref().is_some_and(|found| is_request_done(&found.content, row));
            forget_done(ajar, group, is_there).await
        }
        Task::Project { vm } => {
            configure::project(ajar, vm).await?;
            let found = policy_store::read(ajar, vm).await?;
            let is_there = |row: &DueRef| {
                found.as_ref().is_some_and(|found| found.content.configured_at + GUARD_DELAY == row.due.at)
            };
            forget_done(ajar, group, is_there).await
        }
        Task::Recheck { request } => {
            role_loss::look(ajar, request).await?;
            forget_done(ajar, group, |_| true).await
        }
        Task::Notify { place } => {
            let mut done = 0;
            for row in group {
                if outbox::send_again(ajar, row, place).await? {
                    due::forget(ajar, row).await?;
                    done += 1;
                }
            }
            Ok(done)
        }
        Task::Comply => {
            compliance::go_on_overdue(ajar).await?;
            forget_done(ajar, group, |_| true).await
        }
        Task::Evaluate { subject } => {
            evaluate::look_overdue(ajar, subject).await?;
            forget_done(ajar, group, |_| true).await
        }
        Task::Reconcile { point } | Task::Expire { point, .. } | Task::Look { point } => {
            reconcile_due(ajar, point, group).await
        }
    }
}

/// Whether a row of a request has nothing more to bring, now that the request was looked at.
fn is_request_done(request: &AccessRequest, row: &DueRef) -> bool {
    request.status.is_final()
        || match row.due.task {
            // A writer that has stood still until minutes before the end is not waited for.
            Task::Remind { .. } => true,
            Task::Start { .. } => !matches!(request.status, Status::Requested | Status::Approved),
            Task::TimeOut { .. } => !matches!(request.status, Status::Requested | Status::AwaitingApproval),
            _ => request.guard.as_ref() == Some(row),
        }
}

/// Removes the rows whose change is there, and those that waited for theirs too long. A writer that stands still
/// between its row and its change finds the row again when it goes on.
async fn forget_done(
    ajar: &Ajar,
    group: &[DueRef],
    is_there: impl Fn(&DueRef) -> bool,
) -> Result<usize, AccessError> {
    let now = ajar.ports.clock.now();
    let done = group.iter().filter(|row| is_there(row) || row.due.at + ORPHAN_KEPT <= now);
    let done: Vec<DueRef> = done.cloned().collect();
    let number = done.len();
    due::forget_all(ajar, done).await?;
    Ok(number)
}

async fn reconcile_due(ajar: &Ajar, point: &ResourceId, group: &[DueRef]) -> Result<usize, AccessError> {
    let Brought { outcome, seen } = reconcile::bring(ajar, point).await?;
    if outcome != Outcome::Clean {
        // Held by another, still under way or blind: the rows stay for the next sweep.
        return Ok(0);
    }
    let is_there = |row: &DueRef| matches!(row.due.task, Task::Look { .. }) || seen.contains(row);
    if group.iter().any(|row| matches!(row.due.task, Task::Expire { .. }) && is_there(row)) {
        reconcile::look_again(ajar, point, ajar.ports.clock.now()).await?;
    }
    for row in group.iter().filter(|row| !seen.contains(row)) {
        if let Task::Expire { request, .. } = &row.due.task {
            write_lost_grant(ajar, request).await?;
        }
    }
    forget_done(ajar, group, is_there).await
}

/// Writes the grants of a request again whose end has come without one of them: its row was lost, or whoever is to write
/// it stands still. The next look at the point sees it shut and ends the request, which would stay open on paper for
/// ever.
async fn write_lost_grant(ajar: &Ajar, request: &RequestId) -> Result<(), AccessError> {
    let Some(found) = history::read(ajar, request).await? else { return Ok(()) };
    let now = ajar.ports.clock.now();
    if found.content.end.is_some_and(|end| end <= now) {
        decide::project(ajar, &found.content).await?;
    }
    Ok(())
}

/// Closes every managed allow rule whose described end is past for longer than `patience`, in all subscriptions. No
/// deny rule goes.
async fn close_all_described(
    ajar: &Ajar,
    state: &str,
    patience: SignedDuration,
) -> Result<SweepReport, AccessError> {
    let mut report = SweepReport::default();
    let ended_by = ajar.ports.clock.now() - patience;
    let subscriptions = match scope::subscriptions(ajar).await {
        Err(error) if !ajar.settings.subscriptions.is_empty() => {
            tracing::error!(error = error.log_text(), "only the subscriptions of the settings are looked at");
            ajar.settings.subscriptions.clone()
        }
        found => found?,
    };
    for subscription in &subscriptions {
        for nsg in ajar.ports.azure.network_security_groups(subscription).await? {
            let Some(point) = nsg.id() else { continue };
            match reconcile::close_described_in(ajar, point, &nsg, ended_by).await {
                Ok(closed) => report.closed_by_description += closed,
                Err(error) => {
                    report.failed += 1;
                    tracing::error!(%point, error = error.log_text(), "rules past their end could not be closed");
                }
            }
        }
    }
    heartbeat::leave(ajar, heartbeat::SWEEP_EXPIRED, 0, report.failed).await;
    // A deployment that has never had a policy has an empty store, and nothing to close: no reason for alarm.
    if report.closed_by_description > 0 || report.failed > 0 {
        tracing::warn!(
            closed = report.closed_by_description,
            failed = report.failed,
            "the store is {state}: only rules past their described end were closed"
        );
    }
    Ok(report)
}
