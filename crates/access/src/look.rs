//! Looking at a resource because of events about it: few looks for many events.
//!
//! One row for each resource says when the last look began, whether another is planned, and who the events say
//! changed it. An event that a look covers costs one read of that row and nothing else.

use crate::Ajar;
use crate::document::{Document, Stored, encode, stored};
use crate::due::{self, DueRef, GUARD_DELAY, Task};
use crate::error::AccessError;
use crate::keys::{Key, digest};
use crate::ports::identity::Caller;
use crate::ports::store::{Change, StoreError, Table};
use crate::resource_event::ResourceEvent;
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How often a row is tried again when other events change it at the same time.
const ATTEMPTS: u32 = 60;

/// The shortest time between the beginnings of two looks at one resource.
const SHORTEST_INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// The longest: under a storm the interval doubles up to here, and so the present state is seen within it.
const LONGEST_INTERVAL: SignedDuration = SignedDuration::from_secs(40);

/// How far Azure's clock and ours may be apart: a look covers an event only if it began so long after it.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// How many events' authors a row keeps until the next look.
const MOST_TRACES: usize = 16;

/// How many events' ids a row remembers, to know a repeated delivery.
const MOST_IDS: usize = 32;

/// What an event says of one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trace {
    /// The resource that was changed: a rule, where the look is at its NSG.
    pub(crate) resource: ResourceId,
    pub(crate) by: Option<Caller>,
    pub(crate) at: Option<Timestamp>,
    pub(crate) correlation: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Look {
    pub(crate) subject: ResourceId,
    /// When the last look began, by our clock.
    began: Option<Timestamp>,
    /// When the next one is to begin.
    next: Option<Timestamp>,
    interval: SignedDuration,
    traces: Vec<Trace>,
    ids: Vec<String>,
    /// The row that guards the look that is planned or under way.
    due: Option<DueRef>,
    /// A difference that was reported and left, so that it is not reported again.
    pub(crate) reported: Option<String>,
    /// Set while Azure does not know the VM and its protection cannot go yet.
    pub(crate) gone: Option<Gone>,
}

/// A VM that was deleted while something holds its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gone {
    pub(crate) since: Timestamp,
    /// Who deleted it.
    pub(crate) by: Option<Caller>,
}

impl Document for Look {
    const VERSION: u32 = 1;
    const NAME: &'static str = "look";
}

fn partition(subject: &ResourceId) -> Key {
    Key::new(["look".to_owned(), digest(&subject.to_lowercase(), 2)])
}

fn row(subject: &ResourceId) -> Key {
    Key::new([subject.name().to_ascii_lowercase(), digest(&subject.to_lowercase(), 20)])
}

async fn read(ajar: &Ajar, subject: &ResourceId) -> Result<Option<Stored<Look>>, AccessError> {
    let row = ajar.ports.store.get(Table::Cursors, &partition(subject), &row(subject)).await?;
    row.as_ref().map(stored).transpose()
}

async fn write(ajar: &Ajar, look: &Look, before: Option<&Stored<Look>>) -> Result<bool, AccessError> {
    let (row, document) = (row(&look.subject), encode(look)?);
    let change = match before {
        Some(before) => Change::Replace { row, document, etag: before.etag.clone() },
        None => Change::Insert { row, document },
    };
    match ajar.ports.store.commit(Table::Cursors, &partition(&look.subject), &[change]).await {
        Ok(_) => Ok(true),
        Err(StoreError::Conflict) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is to be done about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// Nothing: a look that began after it, or one that is planned, covers it.
    Covered,
    /// A look was planned for this moment: send word, or look at once when it is not ahead.
    Planned(Timestamp),
}

/// Takes note of an event about `subject`. `wait` puts off a first look.
pub(crate) async fn note(
    ajar: &Ajar,
    subject: &ResourceId,
    event: Option<&ResourceEvent>,
    wait: SignedDuration,
) -> Result<Noted, AccessError> {
    for attempt in 0..ATTEMPTS {
        let now = ajar.ports.clock.now();
        let before = read(ajar, subject).await?;
        let mut look = before.as_ref().map_or_else(|| Look::at(subject), |stored| stored.content.clone());
        if event.is_some_and(|event| look.knows(event)) {
            return Ok(Noted::Covered);
        }
        let noted = if look.next.is_some() {
            // Few enough to say who did what, and no more: under a storm nothing is written here.
            if event.is_none() || look.traces.len() >= MOST_TRACES {
                return Ok(Noted::Covered);
            }
            Noted::Covered
        } else {
            look.plan(now, wait)
        };
        if let Some(event) = event {
            look.remember(event);
        }
        if let Noted::Planned(at) = noted {
            let task = Task::Evaluate { subject: subject.clone() };
            look.due = Some(due::note(ajar, at.max(now) + GUARD_DELAY, task).await?);
        }
        if write(ajar, &look, before.as_ref()).await? {
            return Ok(noted);
        }
        if let (Noted::Planned(_), Some(guard)) = (noted, &look.due) {
            due::forget(ajar, guard).await?;
        }
        ajar.ports.clock.sleep(SignedDuration::from_millis(i64::from(attempt % 10) * 3)).await;
    }
    Err(StoreError::Conflict.into())
}

impl Look {
    fn at(subject: &ResourceId) -> Look {
        Look {
            subject: subject.clone(),
            began: None,
            next: None,
            interval: SHORTEST_INTERVAL,
            traces: Vec::new(),
            ids: Vec::new(),
            due: None,
            reported: None,
            gone: None,
        }
    }

    /// Whether a look has covered the event, or it was delivered before.
    fn knows(&self, event: &ResourceEvent) -> bool {
        let is_repeated = !event.id.is_empty() && self.ids.contains(&event.id);
        let is_older = event.at.zip(self.began).is_some_and(|(at, began)| at + SKEW < began);
        is_repeated || is_older
    }

    fn plan(&mut self, now: Timestamp, wait: SignedDuration) -> Noted {
        let earliest = match self.began {
            // Events that follow a look closely are a storm, until there is a pause.
            Some(began) if now < began + self.interval * 2 => {
                let at = began + self.interval;
                self.interval = (self.interval * 2).min(LONGEST_INTERVAL);
                at
            }
            _ => {
                self.interval = SHORTEST_INTERVAL;
                now
            }
        };
        let at = earliest.max(now + wait);
        self.next = Some(at);
        Noted::Planned(at)
    }

    fn remember(&mut self, event: &ResourceEvent) {
        if self.traces.len() < MOST_TRACES {
            self.traces.push(Trace {
                resource: event.resource.clone(),
                by: event.author.clone(),
                at: event.at,
                correlation: event.correlation.clone(),
            });
        }
        if !event.id.is_empty() {
            self.ids.push(event.id.clone());
            if self.ids.len() > MOST_IDS {
                self.ids.remove(0);
            }
        }
    }
}

/// A look that was begun.
pub(crate) struct Begun {
    pub(crate) look: Look,
    /// What the events since the last look say.
    pub(crate) traces: Vec<Trace>,
}

/// Begins the planned look; `None` when somebody else has. `is_overdue`: the sweep found that the one who began it
/// did not end it.
pub(crate) async fn begin(
    ajar: &Ajar,
    subject: &ResourceId,
    is_overdue: bool,
) -> Result<Option<Begun>, AccessError> {
    for _ in 0..ATTEMPTS {
        let before = read(ajar, subject).await?;
        let mut look = before.as_ref().map_or_else(|| Look::at(subject), |stored| stored.content.clone());
        if look.next.is_none() && !is_overdue {
            return Ok(None);
        }
        look.next = None;
        look.began = Some(ajar.ports.clock.now());
        let traces = std::mem::take(&mut look.traces);
        if write(ajar, &look, before.as_ref()).await? {
            return Ok(Some(Begun { look, traces }));
        }
    }
    Err(StoreError::Conflict.into())
}

/// Ends a look that was done: its guard goes, and `keep` says what is remembered until the next.
pub(crate) async fn end(ajar: &Ajar, begun: &Look, keep: impl Fn(&mut Look)) -> Result<(), AccessError> {
    let mut kept = begun.clone();
    keep(&mut kept);
    let is_new = (&kept.reported, &kept.gone) != (&begun.reported, &begun.gone);
    for _ in 0..ATTEMPTS {
        if !is_new {
            break;
        }
        let Some(before) = read(ajar, &begun.subject).await? else { break };
        let mut look = before.content.clone();
        keep(&mut look);
        if write(ajar, &look, Some(&before)).await? {
            break;
        }
    }
    match &begun.due {
        Some(guard) => due::forget(ajar, guard).await,
        None => Ok(()),
    }
}
