//! Reminding people before their access ends. Only where somebody listens.

use crate::Ajar;
use crate::due::{self, DueRef, Task};
use crate::error::AccessError;
use crate::history::{self, Step};
use crate::life_cycle::Status;
use crate::notification::Happened;
use crate::request::AccessRequest;
use crate::request_id::RequestId;
use crate::send;
use jiff::Timestamp;

/// Writes the row that brings the reminder of the end of `window`, which was fixed at `now`; none when nobody
/// listens, the window is short or its end near.
pub(crate) async fn note(
    ajar: &Ajar,
    id: &RequestId,
    (start, end): (Timestamp, Timestamp),
    now: Timestamp,
) -> Result<Option<DueRef>, AccessError> {
    let ahead = ajar.settings.remind_before;
    let is_short = end.duration_since(start) < ahead.saturating_mul(2);
    if ajar.ports.notifiers.is_empty() || is_short || end - ahead <= now {
        return Ok(None);
    }
    due::note(ajar, end - ahead, Task::Remind { request: id.clone() }).await.map(Some)
}

/// Sends the message that brings the reminder on time.
pub(crate) async fn schedule(ajar: &Ajar, request: &AccessRequest) {
    if let Some(reminder) = &request.reminder {
        send::send_request(ajar, &request.id, Some(reminder.due.at)).await;
    }
}

/// Reminds of the end when it is time, once for each end.
pub(crate) async fn remind(ajar: &Ajar, request: &AccessRequest) -> Result<(), AccessError> {
    let now = ajar.ports.clock.now();
    if wants(request, now).is_none() {
        return Ok(());
    }
    history::update(ajar, &request.id, |request| {
        let Some(end) = wants(request, now) else { return Ok(None) };
        request.reminded = Some(end);
        let step = Step::own(format!("reminded that access ends at {end:.0}"));
        Ok(Some(step.telling(Happened::AboutToEnd { end })))
    })
    .await?;
    match &request.reminder {
        Some(reminder) => due::forget(ajar, reminder).await,
        None => Ok(()),
    }
}

/// The end to remind of now.
fn wants(request: &AccessRequest, now: Timestamp) -> Option<Timestamp> {
    let end = request.end.filter(|_| request.status == Status::Active)?;
    let reminder = request.reminder.as_ref()?;
    (reminder.due.at <= now && now < end && request.reminded != Some(end)).then_some(end)
}
