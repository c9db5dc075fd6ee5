//! What is due when: the rows that make sure a thing happens although every message about it is lost.
//!
//! A due row is written before the change it guards and removed (with its ETag) only after a clean read-back
//! that began after it was written. The sweep reads all rows up to now, so a row is found whatever happened.

use crate::Ajar;
use crate::document::{Document, encode};
use crate::error::AccessError;
use crate::keys::{Key, digest};
use crate::outbox::OutboxPlace;
use crate::ports::store::{Change, Etag, MAX_BATCH, StoreError, Table};
use crate::request_id::RequestId;
use ajar_network::resource_id::ResourceId;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long after a change its due row comes up: the message normally does the work before that, and the
/// sweep would only do it twice.
pub(crate) const GUARD_DELAY: SignedDuration = SignedDuration::from_secs(30);

/// How long a row is kept whose subject is not there yet: whoever wrote it may be about to write that.
pub(crate) const ORPHAN_KEPT: SignedDuration = SignedDuration::from_hours(1);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(crate) enum Task {
    /// Decide an access request, or finish opening it.
    Decide {
        /// The request.
        request: RequestId,
    },
    /// Write a policy's projection to its enforcement points.
    Project {
        /// The VM of the policy.
        vm: ResourceId,
    },
    /// Bring an enforcement point to its desired state.
    Reconcile {
        /// The enforcement point.
        point: ResourceId,
    },
    /// A grant's end on one enforcement point.
    Expire {
        /// The enforcement point.
        point: ResourceId,
        /// The request.
        request: RequestId,
    },
    /// The second look at an enforcement point where a grant ended.
    Look {
        /// The enforcement point.
        point: ResourceId,
    },
    /// A look whether the owner of open access still has the role for it.
    Recheck {
        /// The request.
        request: RequestId,
    },
    /// A promised start: check the request again and open it.
    Start {
        /// The request.
        request: RequestId,
    },
    /// The time until which a request waits for people to approve it.
    TimeOut {
        /// The request.
        request: RequestId,
    },
    /// The reminder that access ends soon.
    Remind {
        /// The request.
        request: RequestId,
    },
    /// A notification that still has to be delivered.
    Notify {
        /// Its outbox row.
        place: OutboxPlace,
    },
    /// The sweep over the whole estate that is under way.
    Comply,
    /// A look at a resource that events told about.
    Evaluate {
        /// The resource.
        subject: ResourceId,
    },
}

impl Task {
    fn kind(&self) -> &'static str {
        match self {
            Task::Decide { .. } => "decide",
            Task::Project { .. } => "project",
            Task::Reconcile { .. } => "reconcile",
            Task::Expire { .. } => "expire",
            Task::Look { .. } => "look",
            Task::Recheck { .. } => "recheck",
            Task::Start { .. } => "start",
            Task::TimeOut { .. } => "timeout",
            Task::Remind { .. } => "remind",
            Task::Notify { .. } => "notify",
            Task::Comply => "comply",
            Task::Evaluate { .. } => "evaluate",
        }
    }

    /// The subscription whose limits in Azure the task counts against, where it names one.
    pub(crate) fn subscription(&self) -> Option<String> {
        match self {
            Task::Reconcile { point } | Task::Expire { point, .. } | Task::Look { point } => {
                Some(point.subscription().to_owned())
            }
            Task::Evaluate { subject } => Some(subject.subscription().to_owned()),
            _ => None,
        }
    }

    fn subject(&self) -> String {
        match self {
            Task::Decide { request }
            | Task::Recheck { request }
            | Task::Start { request }
            | Task::TimeOut { request }
            | Task::Remind { request } => request.as_str().to_owned(),
            Task::Project { vm } => digest(&vm.to_lowercase(), 32),
            Task::Comply => "estate".to_owned(),
            Task::Evaluate { subject } => digest(&subject.to_lowercase(), 32),
            Task::Reconcile { point } | Task::Look { point } => digest(&point.to_lowercase(), 32),
            Task::Expire { point, request } => {
                format!("{}-{}", digest(&point.to_lowercase(), 32), request.as_str())
            }
            Task::Notify { place } => digest(&format!("{}/{}", place.partition, place.row), 32),
        }
    }
}

/// A task and when it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Due {
    pub(crate) at: Timestamp,
    #[serde(flatten)]
    pub(crate) task: Task,
}

impl Document for Due {
    const VERSION: u32 = 1;
    const NAME: &'static str = "due row";
}

/// A due row as written, so that it can be removed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DueRef {
    #[serde(flatten)]
    pub(crate) due: Due,
    pub(crate) etag: String,
}

/// Shards of one minute: enough that a burst of ends in one minute does not meet one partition's limit
/// (2,000 entities a second in Table Storage), few enough that an empty sweep stays one small read.
const SHARD_DIGITS: usize = 1;

impl Due {
    pub(crate) fn partition(&self) -> Key {
        Key::new([minute(self.at), digest(&self.task.subject(), SHARD_DIGITS)])
    }

    pub(crate) fn row(&self) -> Key {
        let moment = self.at.strftime("%H%M%S%3f").to_string();
        Key::new([moment.as_str(), self.task.kind(), &self.task.subject()])
    }
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y%m%d%H%M").to_string()
}

/// A key after every partition that holds rows due at `now` or before.
pub(crate) fn last_partition(now: Timestamp) -> Key {
    Key::new([minute(now).as_str(), "~"])
}

/// Writes a due row; again the same one when it exists.
pub(crate) async fn note(ajar: &Ajar, at: Timestamp, task: Task) -> Result<DueRef, AccessError> {
    let due = Due { at, task };
    let change = Change::Put { row: due.row(), document: encode(&due)? };
    let etags = ajar.ports.store.commit(Table::Due, &due.partition(), &[change]).await?;
    let etag = etags
        .into_iter()
        .next()
        .flatten()
        .ok_or_else(|| AccessError::internal("the store gave no ETag for a due row"))?;
    Ok(DueRef { due, etag: etag.0 })
}

/// Removes a due row unless somebody wrote it again since.
pub(crate) async fn forget(ajar: &Ajar, due: &DueRef) -> Result<(), AccessError> {
    let change = Change::Delete { row: due.due.row(), etag: Etag(due.etag.clone()) };
    match ajar.ports.store.commit(Table::Due, &due.due.partition(), &[change]).await {
        Ok(_) | Err(StoreError::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How many batches of due rows are removed at once.
const MOST_AT_ONCE: usize = 8;

/// Removes due rows, each unless somebody wrote it again since: those of one partition together.
pub(crate) async fn forget_all(
    ajar: &Ajar,
    dues: impl IntoIterator<Item = DueRef>,
) -> Result<(), AccessError> {
    let mut by_partition: BTreeMap<Key, BTreeMap<Key, DueRef>> = BTreeMap::new();
    for due in dues {
        by_partition.entry(due.due.partition()).or_default().insert(due.due.row(), due);
    }
    let mut batches = Vec::new();
    for rows in by_partition.into_values() {
        let rows: Vec<DueRef> = rows.into_values().collect();
        for batch in rows.chunks(MAX_BATCH) {
            batches.push(forget_batch(ajar, batch.to_vec()));
        }
    }
    stream::iter(batches).buffer_unordered(MOST_AT_ONCE).try_collect().await
}

async fn forget_batch(ajar: &Ajar, batch: Vec<DueRef>) -> Result<(), AccessError> {
    let Some(first) = batch.first() else { return Ok(()) };
    let partition = first.due.partition();
    let changes: Vec<Change> =
        batch.iter().map(|due| Change::Delete { row: due.due.row(), etag: Etag(due.etag.clone()) }).collect();
    match ajar.ports.store.commit(Table::Due, &partition, &changes).await {
        Ok(_) => Ok(()),
        Err(StoreError::Conflict) if batch.len() > 1 => {
            // One of them is gone or was written again, which keeps none of the others.
            for due in &batch {
                forget(ajar, due).await?;
            }
            Ok(())
        }
        Err(StoreError::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::store::Range;

    fn due(at: &str) -> Due {
        let point = ResourceId::parse(
            "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.Network/networkSecurityGroups/n",
        )
        .unwrap();
        Due { at: at.parse().unwrap(), task: Task::Reconcile { point } }
    }

    #[test]
    fn a_read_up_to_now_holds_every_row_due_by_now_and_no_later_minute() {
        let now: Timestamp = "2026-11-24T12:30:15Z".parse().unwrap();
        let Range { last_partition: Some(last), .. } = Range::up_to(last_partition(now)) else {
            unreachable!("up_to sets the last partition")
        };
        for at in ["1999-01-01T00:00:00Z", "2026-11-24T12:29:59.999Z", "2026-11-24T12:30:15Z"] {
            assert!(due(at).partition() <= last, "{at}");
        }
        for at in ["2026-11-24T12:31:00Z", "2026-11-25T00:00:00Z", "2027-01-01T00:00:00Z"] {
            assert!(due(at).partition() > last, "{at}");
        }
    }

    #[test]
    fn rows_of_a_partition_are_in_order_of_time() {
        assert!(due("2026-11-24T12:30:15.100Z").row() < due("2026-11-24T12:30:15.200Z").row());
        assert!(due("2026-11-24T12:30:09Z").row() < due("2026-11-24T12:30:10Z").row());
    }
}
