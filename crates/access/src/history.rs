//! Requests and their history, changed together: every step of a request's life leaves an entry, and each
//! entry holds the hash of the one before it on the same VM, so that a later change of the past is found.

use crate::Ajar;
use crate::chain::{self, Added, Addition, ChainInUse, KnownHead};
use crate::document::{Document, Stored, decode, encode, stored};
use crate::error::AccessError;
use crate::keys::{Key, digest};
use crate::life_cycle::Status;
use crate::notification::{Happened, Notification, Subject};
use crate::outbox::{self, Beside, Noted};
use crate::ports::identity::Caller;
use crate::ports::store::{Change, Range, StoreError, Table, scan_all};
use crate::request::AccessRequest;
use crate::request_id::RequestId;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How often a change is tried again when somebody else changed the same request meanwhile.
const ATTEMPTS: u32 = 20;

/// One step of a request's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Which request.
    pub request: RequestId,
    /// Its place in the request's history, from 1.
    pub sequence: u32,
    /// When.
    pub at: Timestamp,
    /// Who did it; absent when Ajar did it by itself.
    pub by: Option<Caller>,
    /// The state after it.
    pub status: Status,
    /// What happened, in a sentence.
    pub what: String,
    /// SHA-256 of the entry before it on the same VM, hexadecimal; empty for the first.
    pub previous: String,
}

impl Document for Entry {
    const VERSION: u32 = 1;
    const NAME: &'static str = "history entry";
}

/// What every entry of a VM's chain has, of a request or of the VM itself.
#[derive(Debug, Serialize, Deserialize)]
struct Link {
    previous: String,
}

impl Document for Link {
    const VERSION: u32 = 1;
    const NAME: &'static str = "history entry";
}

/// What to write into the history about a change.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) by: Option<Caller>,
    pub(crate) what: String,
    /// What people are told of it.
    pub(crate) tells: Option<Happened>,
}

impl Step {
    pub(crate) fn by(caller: &Caller, what: impl Into<String>) -> Step {
        Step { by: Some(caller.clone()), what: what.into(), tells: None }
    }

    pub(crate) fn own(what: impl Into<String>) -> Step {
        Step { by: None, what: what.into(), tells: None }
    }

    /// Tells people of it, once it has happened.
    pub(crate) fn telling(mut self, happened: impl Into<Option<Happened>>) -> Step {
        self.tells = happened.into();
        self
    }
}

pub(crate) fn partition(id: &RequestId) -> Key {
    Key::new([id.vm_digits()])
}

fn request_row(id: &RequestId) -> Key {
    Key::new(["r", id.as_str()])
}

fn entry_row(id: &RequestId, sequence: u32) -> Key {
    Key::new(["h", id.as_str(), &format!("{sequence:06}")])
}

/// Reads a request.
pub(crate) async fn read(ajar: &Ajar, id: &RequestId) -> Result<Option<Stored<AccessRequest>>, AccessError> {
    let row = ajar.ports.store.get(Table::Requests, &partition(id), &request_row(id)).await?;
    row.as_ref().map(stored).transpose()
}

/// The history of a request, oldest first.
pub(crate) async fn entries(ajar: &Ajar, id: &RequestId) -> Result<Vec<Entry>, AccessError> {
    let range = Range::rows_under(partition(id), &Key::new(["h", id.as_str()]));
    scan_all(ajar.ports.store.as_ref(), Table::Requests, &range, 10_000).await?.iter().map(decode).collect()
}

/// A request that is about to be changed, with what its change needs.
pub(crate) struct Opened<'a> {
    ajar: &'a Ajar,
    id: RequestId,
    chain: ChainInUse<'a>,
    found: Option<Stored<AccessRequest>>,
    head: Option<KnownHead>,
}

/// Reads a request in order to change it.
pub(crate) async fn open<'a>(ajar: &'a Ajar, id: &RequestId) -> Result<Opened<'a>, AccessError> {
    let chain = chain::of(ajar, partition(id));
    let (found, head) = futures::try_join!(read(ajar, id), chain.foresee())?;
    Ok(Opened { ajar, id: id.clone(), chain, found, head })
}

/// Prepares to add a request that has a fresh id.
pub(crate) async fn open_new<'a>(ajar: &'a Ajar, id: &RequestId) -> Result<Opened<'a>, AccessError> {
    let chain = chain::of(ajar, partition(id));
    let head = chain.foresee().await?;
    Ok(Opened { ajar, id: id.clone(), chain, found: None, head })
}

/// Changes a request and writes the step into its history. `step` sees the request as it is, may be called
/// several times, and answers `None` when there is nothing to do.
///
/// Returns the request as it is after it; `None` when there is no such request.
pub(crate) async fn update(
    ajar: &Ajar,
    id: &RequestId,
    step: impl FnMut(&mut AccessRequest) -> Result<Option<Step>, AccessError>,
) -> Result<Option<AccessRequest>, AccessError> {
    open(ajar, id).await?.update(step).await
}

impl Opened<'_> {
    /// The request as it was read.
    pub(crate) fn request(&self) -> Option<&AccessRequest> {
        self.found.as_ref().map(|stored| &stored.content)
    }

    /// Adds the request with the first entry of its history.
    pub(crate) async fn create(self, request: AccessRequest, step: Step) -> Result<(), AccessError> {
        self.change(|existing| match existing {
            None => Ok(Some((request.clone(), step.clone()))),
            // The answer to an earlier attempt of ours was lost.
            Some(_) => Ok(None),
        })
        .await
        .map(|_| ())
    }

    /// As [`update`].
    pub(crate) async fn update(
        self,
        mut step: impl FnMut(&mut AccessRequest) -> Result<Option<Step>, AccessError>,
    ) -> Result<Option<AccessRequest>, AccessError> {
        self.change(|existing| {
            let Some(mut request) = existing else { return Ok(None) };
            Ok(step(&mut request)?.map(|step| (request, step)))
        })
        .await
    }

    async fn change(
        mut self,
        mut next: impl FnMut(Option<AccessRequest>) -> Result<Option<(AccessRequest, Step)>, AccessError>,
    ) -> Result<Option<AccessRequest>, AccessError> {
        for attempt in 0..ATTEMPTS {
            let existing = self.found.as_ref().map(|stored| stored.content.clone());
            let Some((mut request, step)) = next(existing)? else {
                return Ok(self.found.map(|stored| stored.content));
            };
            request.history += 1;
            let noted = tell(self.ajar, &partition(&self.id), &request, step.tells).await?;
            let (row, document) = (request_row(&self.id), encode(&request)?);
            let addition = Addition {
                request: match &self.found {
                    Some(stored) => Change::Replace { row, document, etag: stored.etag.clone() },
                    None => Change::Insert { row, document },
                },
                row: entry_row(&self.id, request.history),
                entry: Entry {
                    request: self.id.clone(),
                    sequence: request.history,
                    at: self.ajar.ports.clock.now(),
                    by: step.by,
                    status: request.status,
                    what: step.what,
                    previous: String::new(),
                },
                beside: noted.changes.clone(),
            };
            match self.chain.add(addition, self.head.take()).await? {
                Added::Written => {
                    noted.send(self.ajar).await;
                    return Ok(Some(request));
                }
                Added::Overtaken => noted.withdraw(self.ajar).await?,
                // The guards of what may have been written stay.
                Added::Unknown => {}
            }
            let wait = SignedDuration::from_millis(i64::from(attempt % 10) * 5);
            self.ajar.ports.clock.sleep(wait).await;
            self.found = read(self.ajar, &self.id).await?;
        }
        Err(StoreError::Conflict.into())
    }
}

/// Notes what people are told of a step. The id is that of the step, so that no step is ever told twice.
async fn tell(
    ajar: &Ajar,
    partition: &Key,
    request: &AccessRequest,
    happened: Option<Happened>,
) -> Result<Noted, AccessError> {
    let Some(happened) = happened.filter(|_| !ajar.ports.notifiers.is_empty()) else {
        return Ok(Noted::nothing());
    };
    let id = format!("{}-{}", request.id, request.history);
    let notification = Notification::new(id, ajar.ports.clock.now(), happened, Subject::from(request));
    outbox::note(ajar, Beside::Requests, partition, &notification).await
}

/// Checks the chain of a VM's history: every entry's hash is the next one's `previous`, and the last is the
/// head. Entries of one VM are ordered by following the hashes, since requests interleave.
///
/// # Errors
/// [`AccessError::Conflict`] with code `HistoryChanged` naming the first entry that does not fit.
pub async fn verify_chain(ajar: &Ajar, id: &RequestId) -> Result<u64, AccessError> {
    let rows = scan_all(
        ajar.ports.store.as_ref(),
        Table::Requests,
        &Range::rows_under(partition(id), &Key::new(["h"])),
        1_000_000,
    )
    .await?;
    let (head, _) = chain::read_head(ajar, &partition(id)).await?;
    let mut by_hash = std::collections::BTreeMap::new();
    for row in &rows {
        by_hash.insert(digest(&row.document, 64), decode::<Link>(row)?);
    }
    let mut hash = head.hash;
    let mut count = 0;
    while !hash.is_empty() {
        let Some(entry) = by_hash.remove(&hash) else {
            return Err(AccessError::Conflict {
                code: "HistoryChanged",
                message: format!(
                    "an entry of this VM's history was changed or removed after {count} good ones, counted from the end"
                ),
            });
        };
        count += 1;
        hash = entry.previous;
    }
    if count != head.entries || !by_hash.is_empty() {
        return Err(AccessError::Conflict {
            code: "HistoryChanged",
            message: format!("the history has {} entries; its chain has {count}", rows.len()),
        });
    }
    Ok(count)
}
