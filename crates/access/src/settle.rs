//! What a clean read-back of a point has shown is recorded in the requests, and the rows that guarded it go. All
//! that shares a partition is written together, and what does not depend on each other at once.

use crate::Ajar;
use crate::document::{Stored, encode};
use crate::due::{self, DueRef, Task};
use crate::error::AccessError;
use crate::history::{self, Step};
use crate::life_cycle::{Event, Status};
use crate::metrics::{self, Metric};
use crate::notification::Happened;
use crate::point::{self, Grant, PointRows, ProjectedPolicy, grant_row, policy_row};
use crate::policy_store;
use crate::ports::store::Change;
use crate::reconcile::{SECOND_LOOK, look_again};
use crate::request::PointStatus;
use ajar_network::plan::Note;
use ajar_network::resource_id::ResourceId;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;

/// How many requests are recorded in at once: those of one VM go into one batch anyway.
const MOST_AT_ONCE: usize = 64;

/// What a read-back means for one row of the point.
struct Settled {
    change: Change,
    /// The due rows that are done with once the change is made.
    dues: Vec<DueRef>,
}

/// Records what a clean read-back has shown, and removes the rows that guarded it.
pub(crate) async fn settle(
    ajar: &Ajar,
    point: &ResourceId,
    rows: &PointRows,
    now: Timestamp,
    notes: &[Note],
) -> Result<(), AccessError> {
    let mut settled = Vec::new();
    let mut news = Vec::new();
    for stored in &rows.grants {
        let grant = &stored.content;
        let opens_nothing = notes.iter().any(|note| {
            matches!(note, Note::GrantOutsideProtection { grant: flow } if flow.starts_with(grant.request.as_str()))
        });
        if opens_nothing && now < grant.end {
            // No protection covers it here (yet), so what was read back says nothing about it.
            continue;
        }
        if grant.seen_shut {
            if now >= grant.end + SECOND_LOOK {
                let change = Change::Delete { row: grant_row(&grant.request), etag: stored.etag.clone() };
                settled.push(Settled { change, dues: Vec::new() });
            }
        } else if grant.end <= now {
            news.push(record(ajar, stored, point, PointStatus::Shut));
        } else if grant.start <= now && (!grant.seen_open || !grant.dues.iter().all(|due| is_end(grant, due)))
        {
            if !grant.seen_open {
                let since = now.duration_since(grant.start);
                metrics::measure(Metric::TimeToOpen, since.as_secs_f64());
            }
            news.push(record(ajar, stored, point, PointStatus::Open));
        }
    }
    let mut failed = None;
    let mut recorded = stream::iter(news).buffer_unordered(MOST_AT_ONCE);
    let mut has_closed = false;
    while let Some(result) = recorded.next().await {
        match result {
            Ok(Some((status, after))) => {
                has_closed |= status == PointStatus::Shut;
                settled.push(after);
            }
            // The end was moved later; whoever did that is about to write it here, and guards that.
            Ok(None) => {}
            // The others are recorded all the same; this one's rows stay for the next look.
            Err(error) => failed = Some(error),
        }
    }
    drop(recorded);
    for stored in &rows.policies {
        has_closed |= stored.content.is_over() && stored.content.seen_off.is_none();
        settled.extend(policy_after(ajar, point, stored, now).await?);
    }
    if has_closed {
        // Written before the ends' own rows go, so that at every moment one of them is there.
        look_again(ajar, point, now).await?;
    }
    if !settled.is_empty() {
        let (changes, dues): (Vec<Change>, Vec<Vec<DueRef>>) =
            settled.into_iter().map(|row| (row.change, row.dues)).unzip();
        let made = point::settle_rows(ajar, point, &changes).await?;
        // What was changed meanwhile keeps its due rows: they bring the next look.
        let done = dues.into_iter().zip(made).filter(|(_, is_made)| *is_made).flat_map(|(dues, _)| dues);
        due::forget_all(ajar, done).await?;
    }
    failed.map_or(Ok(()), Err)
}

/// The grant's row once the point was seen open or shut for it.
fn grant_after(stored: &Stored<Grant>, status: PointStatus) -> Result<Settled, AccessError> {
    let mut grant = stored.content.clone();
    let (kept, dues) = if status == PointStatus::Shut {
        grant.seen_shut = true;
        (Vec::new(), std::mem::take(&mut grant.dues))
    } else {
        grant.seen_open = true;
        let dues = std::mem::take(&mut grant.dues);
        dues.into_iter().partition(|due| is_end(&grant, due))
    };
    grant.dues = kept;
    let change = Change::Replace {
        row: grant_row(&grant.request),
        document: encode(&grant)?,
        etag: stored.etag.clone(),
    };
    Ok(Settled { change, dues })
}

/// Whether a row guards the grant's end as it is now, and not an earlier one or a change that has been seen.
fn is_end(grant: &Grant, row: &DueRef) -> bool {
    matches!(row.due.task, Task::Expire { .. }) && row.due.at == grant.end
}

/// The projected policy's row once the point was seen as it wants it; none when it stays as it is.
async fn policy_after(
    ajar: &Ajar,
    point: &ResourceId,
    stored: &Stored<ProjectedPolicy>,
    now: Timestamp,
) -> Result<Option<Settled>, AccessError> {
    let policy = &stored.content;
    let (row, etag) = (policy_row(&policy.vm), stored.etag.clone());
    let mut settled = ProjectedPolicy { dues: Vec::new(), ..policy.clone() };
    let change = match policy.seen_off {
        Some(at) if policy.is_over() && at + SECOND_LOOK <= now => Change::Delete { row, etag },
        None if policy.is_over() => {
            policy_store::released_by(ajar, &policy.vm, point).await?;
            settled.seen_off = Some(now);
            Change::Replace { row, document: encode(&settled)?, etag }
        }
        _ if policy.dues.is_empty() => return Ok(None),
        _ => Change::Replace { row, document: encode(&settled)?, etag },
    };
    Ok(Some(Settled { change, dues: policy.dues.clone() }))
}

/// Records in the request that `point` was seen open or shut for it; the grant's row follows. Nothing when it was seen
/// shut for an end that has been moved later meanwhile: of expiry and extension the one that changed the request first
/// has happened.
async fn record(
    ajar: &Ajar,
    stored: &Stored<Grant>,
    point: &ResourceId,
    status: PointStatus,
) -> Result<Option<(PointStatus, Settled)>, AccessError> {
    let grant = &stored.content;
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
    Ok(if is_outdated { None } else { Some((status, grant_after(stored, status)?)) })
}
