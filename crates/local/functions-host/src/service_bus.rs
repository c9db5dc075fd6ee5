//! An in-memory Service Bus: queues with peek-lock, delivery counts, scheduled messages and dead letters.
//!
//! Not modelled: topics, sessions, duplicate detection, partitions, auto-forwarding.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;

/// Azure's limit for a message in the Standard tier, body and properties together.
pub(crate) const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// How one queue behaves.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Deliveries after which a message goes to the dead letters. Azure's default is 10.
    pub max_delivery_count: u32,
    /// How long a receiver owns a message before it must renew. Azure's default is one minute.
    pub lock_duration: Duration,
    /// Life time of messages that bring none. Azure's default is 14 days.
    pub default_time_to_live: Duration,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            max_delivery_count: 10,
            lock_duration: Duration::from_secs(60),
            default_time_to_live: Duration::from_secs(14 * 24 * 3600),
        }
    }
}

/// A message to send. Everything but the body is optional.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OutgoingMessage {
    /// The payload.
    pub body: Bytes,
    /// Made up if absent.
    pub message_id: Option<String>,
    /// Not delivered before this moment.
    pub scheduled: Option<Timestamp>,
    /// Dropped when this has passed since the message became active.
    pub time_to_live: Option<Duration>,
    /// Media type of the body.
    pub content_type: Option<String>,
    /// `CorrelationId`.
    pub correlation_id: Option<String>,
    /// `Label`, which newer clients call subject.
    pub label: Option<String>,
    /// `To`.
    pub to: Option<String>,
    /// `ReplyTo`.
    pub reply_to: Option<String>,
    /// `SessionId`; kept and shown, but sessions are not modelled.
    pub session_id: Option<String>,
    /// `ReplyToSessionId`.
    pub reply_to_session_id: Option<String>,
    /// `PartitionKey`.
    pub partition_key: Option<String>,
    /// Custom properties, as strings.
    pub properties: Vec<(String, String)>,
}

/// A message in a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What was sent.
    pub sent: OutgoingMessage,
    /// The id, made up if the sender gave none.
    pub message_id: String,
    /// Position in the queue; unique within it.
    pub sequence_number: u64,
    /// When it became active; for a scheduled message, the scheduled time.
    pub enqueued: Timestamp,
    /// When it will be dropped.
    pub expires: Timestamp,
    /// How often it was handed to a receiver.
    pub delivery_count: u32,
}

/// A message that will not be delivered any more, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The message as it was last seen.
    pub message: Message,
    /// `DeadLetterReason`, e.g. `MaxDeliveryCountExceeded`.
    pub reason: String,
    /// `DeadLetterErrorDescription`.
    pub description: String,
}

/// What is in a queue at one moment, in delivery order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueView {
    /// Waiting for a receiver.
    pub active: Vec<Message>,
    /// In the hands of a receiver until the given moment, unless it renews.
    pub locked: Vec<(Timestamp, Message)>,
    /// Waiting for their time, earliest first.
    pub scheduled: Vec<(Timestamp, Message)>,
    /// Given up.
    pub dead_lettered: Vec<DeadLetter>,
    /// Number of messages ever completed.
    pub completed: u64,
}

impl QueueView {
    /// Whether nothing is waiting, scheduled or being worked on. Dead letters do not count.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.active.is_empty() && self.locked.is_empty() && self.scheduled.is_empty()
    }
}

/// A message a receiver owns until `token` expires.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) message: Message,
    pub(crate) token: Uuid,
    pub(crate) locked_until: Timestamp,
    pub(crate) lock_duration: Duration,
}

/// The receiver no longer owns the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue."
)]
pub(crate) struct LockLost;

/// The queue does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The messaging entity '{0}' could not be found.")]
pub(crate) struct NoSuchQueue(pub(crate) String);

struct Locked {
    message: Message,
    until: Timestamp,
}

struct Queue {
    options: QueueOptions,
    /// Keyed by sequence number: an abandoned message returns to its place.
    active: BTreeMap<u64, Message>,
    scheduled: BTreeMap<(Timestamp, u64), Message>,
    locked: HashMap<Uuid, Locked>,
    dead: Vec<DeadLetter>,
    completed: u64,
    /// Completions still to be lost, so that their messages come again.
    lost_completions: u32,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Faults {
    is_down: bool,
    is_receiving_paused: bool,
}

struct State {
    queues: BTreeMap<String, Queue>,
    last_sequence: u64,
    faults: Faults,
}

/// The bus; clones share it.
#[derive(Clone)]
pub(crate) struct ServiceBus {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
}

impl ServiceBus {
    pub(crate) fn new(
        queues: impl IntoIterator<Item = (String, QueueOptions)>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let queues = queues
            .into_iter()
            .map(|(name, options)| {
                let queue = Queue {
                    options,
                    active: BTreeMap::new(),
                    scheduled: BTreeMap::new(),
                    locked: HashMap::new(),
                    dead: Vec::new(),
                    completed: 0,
                    lost_completions: 0,
                    changed: Arc::new(Notify::new()),
                };
                (name.to_ascii_lowercase(), queue)
            })
            .collect();
        Self {
            state: Arc::new(Mutex::new(State { queues, last_sequence: 0, faults: Faults::default() })),
            clock,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_queue(&self, name: &str) -> bool {
        self.lock().queues.contains_key(&name.to_ascii_lowercase())
    }

    pub(crate) fn is_down(&self) -> bool {
        self.lock().faults.is_down
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.lock().faults.is_down = is_down;
    }

    pub(crate) fn set_receiving_paused(&self, is_paused: bool) {
        let mut state = self.lock();
        state.faults.is_receiving_paused = is_paused;
        for queue in state.queues.values() {
            queue.changed.notify_waiters();
        }
    }

    pub(crate) fn lose_completions(&self, name: &str, count: u32) -> Result<(), NoSuchQueue> {
        let mut state = self.lock();
        queue(&mut state, name)?.lost_completions += count;
        Ok(())
    }

    /// Puts messages into a queue: all of them or, if the queue does not exist, none.
    pub(crate) fn send(&self, name: &str, messages: Vec<OutgoingMessage>) -> Result<(), NoSuchQueue> {
        let now = self.clock.now();
        let mut state = self.lock();
        let first = state.last_sequence + 1;
        state.last_sequence += messages.len() as u64;
        let queue = queue(&mut state, name)?;
        for (sequence_number, sent) in (first..).zip(messages) {
            let due = sent.scheduled.filter(|due| *due > now);
            let enqueued = due.unwrap_or(now);
            let life = sent.time_to_live.unwrap_or(queue.options.default_time_to_live);
            let message = Message {
                message_id: sent.message_id.clone().unwrap_or_else(|| Uuid::new_v4().simple().to_string()),
                sequence_number,
                enqueued,
                expires: later(enqueued, life),
                delivery_count: 0,
                sent,
            };
            match due {
                Some(due) => {
                    queue.scheduled.insert((due, sequence_number), message);
                }
                None => {
                    queue.active.insert(sequence_number, message);
                }
            }
        }
        queue.changed.notify_waiters();
        Ok(())
    }

    /// Waits for the next message and locks it.
    pub(crate) async fn receive(&self, name: &str) -> Result<Delivery, NoSuchQueue> {
        loop {
            let (changed, wake_at) = {
                let now = self.clock.now();
                let mut state = self.lock();
                let is_paused = state.faults.is_receiving_paused;
                let queue = queue(&mut state, name)?;
                queue.settle_time(now);
                if !is_paused && let Some(delivery) = queue.lock_next(now) {
                    return Ok(delivery);
                }
                // Registered while the state is locked, so that no change between here and the wait is missed.
                let changed = Arc::clone(&queue.changed).notified_owned();
                (changed, queue.next_event())
            };
            match wake_at {
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = self.clock.sleep_until(at) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Receives without waiting.
    pub(crate) fn try_receive(&self, name: &str) -> Result<Option<Delivery>, NoSuchQueue> {
        let now = self.clock.now();
        let mut state = self.lock();
        let queue = queue(&mut state, name)?;
        queue.settle_time(now);
        Ok(queue.lock_next(now))
    }

    /// Removes a message for good.
    pub(crate) fn complete(&self, name: &str, token: Uuid) -> Result<(), LockLost> {
        let now = self.clock.now();
        let mut state = self.lock();
        let queue = queue(&mut state, name).map_err(|_| LockLost)?;
        queue.settle_time(now);
        let locked = queue.locked.remove(&token).ok_or(LockLost)?;
        if queue.lost_completions > 0 {
            queue.lost_completions -= 1;
            queue.give_back(locked.message);
            return Err(LockLost);
        }
        queue.completed += 1;
        Ok(())
    }

    /// Returns a message to its place, or to the dead letters when it was delivered too often.
    pub(crate) fn abandon(&self, name: &str, token: Uuid) -> Result<(), LockLost> {
        let now = self.clock.now();
        let mut state = self.lock();
        let queue = queue(&mut state, name).map_err(|_| LockLost)?;
        queue.settle_time(now);
        let locked = queue.locked.remove(&token).ok_or(LockLost)?;
        queue.give_back(locked.message);
        Ok(())
    }

    /// Extends the lock by the queue's lock duration from now.
    pub(crate) fn renew(&self, name: &str, token: Uuid) -> Result<(), LockLost> {
        let now = self.clock.now();
        let mut state = self.lock();
        let queue = queue(&mut state, name).map_err(|_| LockLost)?;
        queue.settle_time(now);
        let until = later(now, queue.options.lock_duration);
        queue.locked.get_mut(&token).ok_or(LockLost)?.until = until;
        Ok(())
    }

    /// What is in the queue now; `None` if it does not exist.
    pub(crate) fn view(&self, name: &str) -> Option<QueueView> {
        let now = self.clock.now();
        let mut state = self.lock();
        let queue = queue(&mut state, name).ok()?;
        queue.settle_time(now);
        let mut locked: Vec<(Timestamp, Message)> =
            queue.locked.values().map(|locked| (locked.until, locked.message.clone())).collect();
        locked.sort_by_key(|(_, message)| message.sequence_number);
        Some(QueueView {
            active: queue.active.values().cloned().collect(),
            locked,
            scheduled: queue.scheduled.iter().map(|((due, _), message)| (*due, message.clone())).collect(),
            dead_lettered: queue.dead.clone(),
            completed: queue.completed,
        })
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

fn queue<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Queue, NoSuchQueue> {
    state.queues.get_mut(&name.to_ascii_lowercase()).ok_or_else(|| NoSuchQueue(name.to_owned()))
}

fn later(from: Timestamp, by: Duration) -> Timestamp {
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}

impl Queue {
    /// Applies what passing time does: due messages become active, expired locks end, expired messages vanish.
    fn settle_time(&mut self, now: Timestamp) {
        while let Some(entry) = self.scheduled.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let message = entry.remove();
            self.active.insert(message.sequence_number, message);
        }
        let expired: Vec<Uuid> =
            self.locked.iter().filter(|(_, locked)| locked.until <= now).map(|(token, _)| *token).collect();
        for token in expired {
            if let Some(locked) = self.locked.remove(&token) {
                self.give_back(locked.message);
            }
        }
        self.active.retain(|_, message| message.expires > now);
    }

    fn lock_next(&mut self, now: Timestamp) -> Option<Delivery> {
        let (_, mut message) = self.active.pop_first()?;
        message.delivery_count += 1;
        let token = Uuid::new_v4();
        let until = later(now, self.options.lock_duration);
        self.locked.insert(token, Locked { message: message.clone(), until });
        Some(Delivery { message, token, locked_until: until, lock_duration: self.options.lock_duration })
    }

    fn give_back(&mut self, message: Message) {
        if message.delivery_count >= self.options.max_delivery_count {
            self.dead.push(DeadLetter {
                reason: "MaxDeliveryCountExceeded".to_owned(),
                description: format!(
                    "Message could not be consumed after {} delivery attempts.",
                    self.options.max_delivery_count
                ),
                message,
            });
        } else {
            self.active.insert(message.sequence_number, message);
        }
        self.changed.notify_waiters();
    }

    /// When time alone changes what can be received.
    fn next_event(&self) -> Option<Timestamp> {
        let due = self.scheduled.keys().next().map(|(due, _)| *due);
        let unlocked = self.locked.values().map(|locked| locked.until).min();
        due.into_iter().chain(unlocked).min()
    }
}
