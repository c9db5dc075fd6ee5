//! Notifications on their way: a row beside the state they tell of, written in the same batch, so that nothing
//! is told that did not happen and nothing that happened goes untold, whatever becomes of the bus.
//!
//! There is one row for each channel. It is removed once the channel has taken the notification. A due row
//! written before guards it: the sweep sends word again of what is left.

use crate::Ajar;
use crate::document::{Document, Stored, encode, stored};
use crate::due::{self, DueRef, GUARD_DELAY, ORPHAN_KEPT, Task};
use crate::error::AccessError;
use crate::keys::Key;
use crate::notification::Notification;
use crate::ports::bus::{Message, NotificationMessage, Queue};
use crate::ports::notifier::NotifierError;
use crate::ports::store::{Change, StoreError, Table};
use crate::send;
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Seconds from one attempt to the next, half a day in all: a receiver may be down over night. After the last
/// one the notification is parked.
const WAITS: [i64; 10] = [5, 30, 120, 300, 900, 1800, 3600, 7200, 14_400, 14_400];

/// How long after it sent word the sweep looks whether that had any effect.
const SENT_AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// The tables that have outbox rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Beside {
    /// Beside an access request, in its VM's partition.
    Requests,
    /// Beside a VM's verdict, in its subscription's partition.
    Assessments,
}

impl Beside {
    fn table(self) -> Table {
        match self {
            Beside::Requests => Table::Requests,
            Beside::Assessments => Table::Assessments,
        }
    }
}

/// Where an outbox row is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutboxPlace {
    /// The table.
    pub beside: Beside,
    /// The text of the partition key.
    pub partition: String,
    /// The text of the row key.
    pub row: String,
}

impl OutboxPlace {
    fn keys(&self) -> Result<(Key, Key), AccessError> {
        let wrong = || AccessError::NotFound("there is no such outbox row".to_owned());
        // A message must not make anything of another kind of row.
        if !self.row.starts_with("o_") {
            return Err(wrong());
        }
        Key::from_stored(&self.partition).zip(Key::from_stored(&self.row)).ok_or_else(wrong)
    }
}

/// One notification for one channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    channel: String,
    notification: Notification,
    /// How many attempts have failed.
    failed: u32,
    /// The row that guards it.
    guard: DueRef,
}

impl Document for Waiting {
    const VERSION: u32 = 1;
    const NAME: &'static str = "outbox row";
}

/// A notification that is guarded and ready to be written with the change it tells of.
///
/// Write [`Noted::changes`] in the same batch as that change, then call [`Noted::send`]; when the batch was
/// not written, call [`Noted::withdraw`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Noted {
    /// What to add to the batch: one new row for each channel. Empty when no channel is configured.
    pub(crate) changes: Vec<Change>,
    guards: Vec<DueRef>,
    places: Vec<OutboxPlace>,
}

/// Guards `notification`, to be written in a batch of `partition` in the table `beside`.
pub(crate) async fn note(
    ajar: &Ajar,
    beside: Beside,
    partition: &Key,
    notification: &Notification,
) -> Result<Noted, AccessError> {
    let at = ajar.ports.clock.now() + GUARD_DELAY;
    let rows = try_join_all(ajar.ports.notifiers.iter().map(|notifier| async move {
        let row = Key::new(["o", notification.id.as_str(), notifier.channel()]);
        let place =
            OutboxPlace { beside, partition: partition.as_str().to_owned(), row: row.as_str().to_owned() };
        let guard = due::note(ajar, at, Task::Notify { place: place.clone() }).await?;
        let waiting = Waiting {
            channel: notifier.channel().to_owned(),
            notification: notification.clone(),
            failed: 0,
            guard: guard.clone(),
        };
        let change = Change::Insert { row, document: encode(&waiting)? };
        Ok::<_, AccessError>((change, guard, place))
    }))
    .await?;
    let mut noted = Noted { changes: Vec::new(), guards: Vec::new(), places: Vec::new() };
    for (change, guard, place) in rows {
        noted.changes.push(change);
        noted.guards.push(guard);
        noted.places.push(place);
    }
    Ok(noted)
}

impl Noted {
    /// Nothing to tell.
    pub(crate) fn nothing() -> Noted {
        Noted { changes: Vec::new(), guards: Vec::new(), places: Vec::new() }
    }

    /// Sends word, once the batch is written.
    pub(crate) async fn send(self, ajar: &Ajar) {
        for place in self.places {
            send_word(ajar, place, None).await;
        }
    }

    /// Removes the guards, since the batch was not written.
    pub(crate) async fn withdraw(self, ajar: &Ajar) -> Result<(), AccessError> {
        for guard in &self.guards {
            due::forget(ajar, guard).await?;
        }
        Ok(())
    }
}

async fn send_word(ajar: &Ajar, place: OutboxPlace, at: Option<Timestamp>) {
    send::send_at(ajar, Queue::Notifications, &NotificationMessage { place }, at).await;
}

async fn read(ajar: &Ajar, place: &OutboxPlace) -> Result<Option<Stored<Waiting>>, AccessError> {
    let (partition, row) = place.keys()?;
    let found = ajar.ports.store.get(place.beside.table(), &partition, &row).await?;
    found.as_ref().map(stored).transpose()
}

/// Applies one change to an outbox row; whether it was as it had been read.
async fn commit(ajar: &Ajar, place: &OutboxPlace, change: Change) -> Result<bool, AccessError> {
    let (partition, _) = place.keys()?;
    match ajar.ports.store.commit(place.beside.table(), &partition, &[change]).await {
        Ok(_) => Ok(true),
        Err(StoreError::Conflict) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Delivers what waits at `place`. What was delivered before is not there any more, and nothing is done then.
///
/// # Errors
/// When the store is unavailable: what is not delivered stays due. A receiver that is unavailable is no error:
/// a scheduled message tries again, and after the last attempt the notification goes to the `parked` queue.
pub async fn deliver(ajar: &Ajar, place: &OutboxPlace) -> Result<(), AccessError> {
    let Some(waiting) = read(ajar, place).await? else { return Ok(()) };
    let content = &waiting.content;
    let notifier = ajar.ports.notifiers.iter().find(|notifier| notifier.channel() == content.channel);
    let sent = match notifier {
        Some(notifier) => notifier.send(&content.notification).await,
        None => Err(NotifierError::Refused { reason: "this channel is not configured any more".into() }),
    };
    match sent {
        Ok(()) => {
            tracing::info!(
                notification = content.notification.id,
                channel = content.channel,
                kind = content.notification.happened.name(),
                "notified"
            );
            done_with(ajar, place, waiting).await
        }
        Err(NotifierError::Unavailable { reason, retry_after }) => {
            let wait = usize::try_from(content.failed).ok().and_then(|failed| WAITS.get(failed));
            match wait {
                Some(seconds) => {
                    let wait = SignedDuration::from_secs(*seconds).max(retry_after.unwrap_or_default());
                    let last = SignedDuration::from_secs(WAITS.iter().copied().max().unwrap_or_default());
                    later(ajar, place, waiting, wait.min(last), &reason).await
                }
                None => give_up(ajar, place, waiting, &reason).await,
            }
        }
        Err(NotifierError::Refused { reason }) => give_up(ajar, place, waiting, &reason).await,
    }
}

async fn done_with(ajar: &Ajar, place: &OutboxPlace, waiting: Stored<Waiting>) -> Result<(), AccessError> {
    let (_, row) = place.keys()?;
    // Of two deliveries at once the later may find another guard: that one goes when its time comes.
    commit(ajar, place, Change::Delete { row, etag: waiting.etag }).await?;
    due::forget(ajar, &waiting.content.guard).await
}

async fn later(
    ajar: &Ajar,
    place: &OutboxPlace,
    waiting: Stored<Waiting>,
    wait: SignedDuration,
    reason: &str,
) -> Result<(), AccessError> {
    tracing::warn!(
        notification = waiting.content.notification.id,
        channel = waiting.content.channel,
        failed = waiting.content.failed + 1,
        reason,
        "a notification is delivered again later"
    );
    let at = ajar.ports.clock.now() + wait;
    if guard_again(ajar, place, waiting, at + GUARD_DELAY, 1).await? {
        send_word(ajar, place.clone(), Some(at)).await;
    }
    Ok(())
}

/// Moves the guard of what still waits to `at`; whether nobody came between.
async fn guard_again(
    ajar: &Ajar,
    place: &OutboxPlace,
    waiting: Stored<Waiting>,
    at: Timestamp,
    failures: u32,
) -> Result<bool, AccessError> {
    let (_, row) = place.keys()?;
    let guard = due::note(ajar, at, Task::Notify { place: place.clone() }).await?;
    let mut content = waiting.content;
    let before = std::mem::replace(&mut content.guard, guard.clone());
    content.failed += failures;
    let change = Change::Replace { row, document: encode(&content)?, etag: waiting.etag };
    let is_moved = commit(ajar, place, change).await?;
    due::forget(ajar, if is_moved { &before } else { &guard }).await?;
    Ok(is_moved)
}

async fn give_up(
    ajar: &Ajar,
    place: &OutboxPlace,
    waiting: Stored<Waiting>,
    reason: &str,
) -> Result<(), AccessError> {
    #[derive(Serialize)]
    struct Parked<'a> {
        channel: &'a str,
        notification: &'a Notification,
        reason: &'a str,
    }
    let content = &waiting.content;
    tracing::error!(
        notification = content.notification.id,
        channel = content.channel,
        reason,
        "a notification was given up and parked"
    );
    let parked = Parked { channel: &content.channel, notification: &content.notification, reason };
    let body = serde_json::to_string(&parked)
        .map_err(|error| AccessError::internal(format!("a notification cannot be written: {error}")))?;
    let message = Message { id: ajar.ports.ids.fresh(), body, at: None };
    match ajar.ports.bus.send(Queue::Parked, message).await {
        Ok(()) => done_with(ajar, place, waiting).await,
        // It stays due, and is parked when the bus is back.
        Err(error) => {
            tracing::warn!(%error, "a notification that was given up could not be parked yet");
            Ok(())
        }
    }
}

/// What the sweep does with the guard of an outbox row: sends word again while the row is there. Returns whether
/// this guard is done with.
pub(crate) async fn send_again(
    ajar: &Ajar,
    guard: &DueRef,
    place: &OutboxPlace,
) -> Result<bool, AccessError> {
    let now = ajar.ports.clock.now();
    let Some(waiting) = read(ajar, place).await? else {
        // Whoever wrote the guard may be about to write the row.
        return Ok(now >= guard.due.at + ORPHAN_KEPT);
    };
    if waiting.content.guard.due != guard.due {
        // An earlier guard that was not removed; the row has another one.
        return Ok(true);
    }
    if guard_again(ajar, place, waiting, now + SENT_AGAIN, 0).await? {
        send_word(ajar, place.clone(), None).await;
    }
    Ok(true)
}
