//! What an initiate became the first time, so that its repeat becomes the same: clients repeat an initiate whose
//! answer was lost or was a 500 (`jit-network-access-policies` clients retry POST as well).
//!
//! A row of table `idempotency` holds the moment and the random part that the ids of all its requests are made
//! from. It is written before the first of them, so whoever repeats the call makes the same requests again.

use super::address::PolicyAddress;
use super::opening::Circumstances;
use super::wishes::InitiateBody;
use crate::Ajar;
use crate::document::{Document, encode, stored};
use crate::error::AccessError;
use crate::keys::{self, digest};
use crate::ports::identity::Caller;
use crate::ports::store::{Change, Etag, MAX_BATCH, Range, StoreError, Table};
use crate::request_id::RequestId;
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a call with a client request id of its own is known.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// How long a call without one is: a client repeats within a minute or two; a person who asks for the same again
/// later means it.
const KEPT_WITHOUT_ID: SignedDuration = SignedDuration::from_mins(5);

/// The moment of a call and the random part of the ids of its requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FirstAnswer {
    pub(super) at: Timestamp,
    /// Also what the requests of one call have in common.
    pub(super) initiation: String,
}

impl Document for FirstAnswer {
    const VERSION: u32 = 1;
    const NAME: &'static str = "first answer";
}

impl FirstAnswer {
    /// The id of the request that the port at `index` of the call becomes.
    pub(super) fn request_id(&self, vm: &ResourceId, index: usize) -> RequestId {
        RequestId::new(vm, self.at, &digest(&format!("{}/{index}", self.initiation), 32))
    }
}

/// What makes two calls one.
pub(super) struct Key {
    caller: String,
    row: keys::Key,
    kept: SignedDuration,
}

impl Key {
    /// The key of a call: caller, policy, body, the address it came from, and the client's own id if there is one.
    /// An id alone does not count: some clients send one id with every call of a session.
    pub(super) fn of(
        caller: &Caller,
        address: &PolicyAddress,
        body: &InitiateBody,
        circumstances: &Circumstances,
    ) -> Result<Key, AccessError> {
        let id = circumstances.client_request_id.as_deref();
        let whole =
            serde_json::to_string(&(address.id().to_lowercase(), body, circumstances.caller_address, id))
                .map_err(|error| AccessError::internal(format!("an initiate cannot be written: {error}")))?;
        Ok(Key {
            caller: caller.object_id.to_ascii_lowercase(),
            row: keys::Key::new([digest(&whole, 40)]),
            kept: if id.is_some() { KEPT } else { KEPT_WITHOUT_ID },
        })
    }

    /// The rows of one day: a whole day of them is cleared at a time.
    fn partition(&self, at: Timestamp) -> keys::Key {
        keys::Key::new([self.caller.as_str(), &at.strftime("%Y%m%d").to_string()])
    }
}

/// A call that was made before.
pub(super) struct Known {
    pub(super) answer: FirstAnswer,
    /// Whether a new call takes its place.
    pub(super) is_over: bool,
    partition: keys::Key,
    etag: Etag,
}

/// The call of this key, if it was made within the time that such calls are known.
pub(super) async fn find(ajar: &Ajar, key: &Key) -> Result<Option<Known>, AccessError> {
    let now = ajar.ports.clock.now();
    let partitions = [key.partition(now), key.partition(earlier(now, KEPT))];
    let [today, yesterday] =
        partitions.each_ref().map(|partition| ajar.ports.store.get(Table::Idempotency, partition, &key.row));
    let (today, yesterday) = futures::try_join!(today, yesterday)?;
    let Some((row, partition)) =
        [today, yesterday].into_iter().zip(partitions).find_map(|(row, partition)| Some((row?, partition)))
    else {
        return Ok(None);
    };
    let found = stored::<FirstAnswer>(&row)?;
    let is_over = now.duration_since(found.content.at) >= key.kept;
    Ok(Some(Known { answer: found.content, is_over, partition, etag: found.etag }))
}

/// Keeps a call, in the place of an earlier one that is over.
pub(super) async fn keep(
    ajar: &Ajar,
    key: &Key,
    first: &FirstAnswer,
    before: Option<&Known>,
) -> Result<(), StoreError> {
    let document = encode(first).map_err(|error| StoreError::TooLarge { reason: error.log_text() })?;
    let (partition, row) = (key.partition(first.at), key.row.clone());
    let change = match before.filter(|before| before.partition == partition) {
        Some(before) => Change::Replace { row, document, etag: before.etag.clone() },
        None => Change::Insert { row, document },
    };
    ajar.ports.store.commit(Table::Idempotency, &partition, &[change]).await.map(|_| ())
}

/// Removes some of the caller's rows of the days before yesterday. That they stay longer harms nobody, so a failure
/// is only logged.
pub(super) async fn clear(ajar: &Ajar, key: &Key) {
    let last = key.partition(earlier(ajar.ports.clock.now(), KEPT + KEPT));
    let range = Range {
        last_partition: Some(last),
        ..Range::partitions_under(&keys::Key::new([key.caller.as_str()]))
    };
    let cleared = async {
        let store = ajar.ports.store.as_ref();
        let page = store.scan(Table::Idempotency, &range, None, MAX_BATCH).await?;
        for rows in page.rows.chunk_by(|one, other| one.partition == other.partition) {
            let Some(partition) = rows.first().map(|row| &row.partition) else { continue };
            let changes: Vec<Change> = rows
                .iter()
                .map(|row| Change::Delete { row: row.row.clone(), etag: row.etag.clone() })
                .collect();
            store.commit(Table::Idempotency, partition, &changes).await?;
        }
        Ok::<_, StoreError>(())
    };
    if let Err(error) = cleared.await {
        tracing::info!(%error, "old rows of repeated calls were not cleared; the next call does it");
    }
}

fn earlier(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_sub(by).unwrap_or(Timestamp::MIN)
}
