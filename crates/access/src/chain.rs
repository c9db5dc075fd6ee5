//! Adding to the history of one VM. All entries of a VM hang on one row, the head of its chain, so of several that
//! are added at once only one could be written and the others would have to begin again. Those of one process that
//! come together are therefore written together, in one batch; between processes the head's ETag decides.

use crate::Ajar;
use crate::document::{Document, encode, stored};
use crate::error::AccessError;
use crate::history::Entry;
use crate::keys::{Key, digest};
use crate::ports::store::{Change, Etag, MAX_BATCH, MAX_BATCH_BYTES, StoreError, Table};
use futures::channel::oneshot;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often a batch is tried again when another process added to the same VM's history meanwhile.
const ATTEMPTS: u32 = 60;

/// The most rows of additions in one batch, beside the head.
const MOST_ROWS: usize = MAX_BATCH - 1;

/// What an addition takes of a batch beside its documents and its text: names and hashes of its entry, and the head.
const BYTES_BESIDE: usize = 4096;

/// The end of a VM's chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The hash of the last entry.
    pub(crate) hash: String,
    /// How many entries there are.
    pub(crate) entries: u64,
}

impl Document for Head {
    const VERSION: u32 = 1;
    const NAME: &'static str = "chain head";
}

impl Head {
    /// The head after one more entry, of this text.
    pub(crate) fn after(&self, entry: &str) -> Head {
        Head { hash: digest(entry, 64), entries: self.entries + 1 }
    }

    /// The change that puts it in the place of the one that was read with `before`.
    pub(crate) fn change(&self, before: Option<&Etag>) -> Result<Change, AccessError> {
        let (row, document) = (head_row(), encode(self)?);
        Ok(match before {
            Some(etag) => Change::Replace { row, document, etag: etag.clone() },
            None => Change::Insert { row, document },
        })
    }
}

/// The head as read or written, with the version of its row; none before the first entry.
pub(crate) type KnownHead = (Head, Option<Etag>);

/// The histories that are being added to at present, by VM. Cheap to clone: clones share it.
#[derive(Clone, Default)]
pub struct Chains(Arc<Mutex<BTreeMap<Key, Arc<Chain>>>>);

#[derive(Default)]
struct Chain {
    waiting: Mutex<VecDeque<Waiting>>,
    /// Whoever holds it writes for all who wait. It keeps the head as the last one left it.
    turn: futures::lock::Mutex<Option<KnownHead>>,
}

/// One change of a request and its entry.
#[derive(Clone)]
pub(crate) struct Addition {
    /// The change of the request's row.
    pub(crate) request: Change,
    /// The row of the entry.
    pub(crate) row: Key,
    /// The entry, its `previous` still empty.
    pub(crate) entry: Entry,
    /// Other rows of the partition that are written with it.
    pub(crate) beside: Vec<Change>,
}

/// What became of an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is in the history.
    Written,
    /// It was not written: the request's row has changed since it was read.
    Overtaken,
    /// Nobody knows whether it was written: the caller reads the request again, and sees.
    Unknown,
}

struct Waiting {
    addition: Addition,
    answer: oneshot::Sender<Result<Added, StoreError>>,
}

/// A VM's chain while it is being used: from before the request was read until its change is written.
pub(crate) struct ChainInUse<'a> {
    ajar: &'a Ajar,
    partition: Key,
    chain: Arc<Chain>,
}

fn head_row() -> Key {
    Key::new(["head"])
}

/// Reads the head of the chain in `partition` of table `requests`.
pub(crate) async fn read_head(ajar: &Ajar, partition: &Key) -> Result<KnownHead, AccessError> {
    let found = ajar.ports.store.get(Table::Requests, partition, &head_row()).await?;
    Ok(match found.as_ref().map(stored::<Head>).transpose()? {
        Some(head) => (head.content, Some(head.etag)),
        None => (Head::default(), None),
    })
}

/// Locks for as long as nothing is awaited; nobody panics meanwhile.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The chain in `partition` of table `requests`.
pub(crate) fn of(ajar: &Ajar, partition: Key) -> ChainInUse<'_> {
    let chain = Arc::clone(lock(&ajar.chains.0).entry(partition.clone()).or_default());
    ChainInUse { ajar, partition, chain }
}

impl Drop for ChainInUse<'_> {
    fn drop(&mut self) {
        let mut chains = lock(&self.ajar.chains.0);
        // The map's and this one: nobody else can come by another while the map is locked.
        if Arc::strong_count(&self.chain) <= 2 {
            chains.remove(&self.partition);
        }
    }
}

impl ChainInUse<'_> {
    /// Reads the head, unless others of this process are at the same chain: then what is read would be out of date
    /// before it is used.
    pub(crate) async fn foresee(&self) -> Result<Option<KnownHead>, AccessError> {
        // The map's and this one.
        if Arc::strong_count(&self.chain) > 2 {
            return Ok(None);
        }
        read_head(self.ajar, &self.partition).await.map(Some)
    }

    /// Adds to the chain. `foreseen` is the head as [`ChainInUse::foresee`] gave it.
    pub(crate) async fn add(
        &self,
        addition: Addition,
        foreseen: Option<KnownHead>,
    ) -> Result<Added, AccessError> {
        let (answer, mut answered) = oneshot::channel();
        lock(&self.chain.waiting).push_back(Waiting { addition, answer });
        let mut head = self.chain.turn.lock().await;
        if head.is_none() {
            *head = foreseen;
        }
        loop {
            match answered.try_recv() {
                Ok(Some(result)) => return result.map_err(AccessError::from),
                // Nobody has written it yet: this one's turn.
                Ok(None) => self.write_waiting(&mut head).await?,
                // Whoever was writing it was dropped half way.
                Err(oneshot::Canceled) => return Ok(Added::Unknown),
            }
        }
    }

    /// Writes for those who wait, the first of them at least.
    async fn write_waiting(&self, head: &mut Option<KnownHead>) -> Result<(), AccessError> {
        let mut batch = self.take_waiting();
        let mut attempt = 0;
        while !batch.is_empty() {
            let used = match head.take() {
                Some(known) => known,
                None => read_head(self.ajar, &self.partition).await?,
            };
            let additions = batch.iter().map(|waiting| &waiting.addition);
            let (changes, after) = changes(&used, additions)?;
            match self.ajar.ports.store.commit(Table::Requests, &self.partition, &changes).await {
                Ok(etags) => {
                    // The head's is the last. A store that gives none is asked again next time.
                    *head = etags.into_iter().next_back().flatten().map(|etag| (after, Some(etag)));
                    answer(batch, &Ok(Added::Written));
                    return Ok(());
                }
                Err(StoreError::Conflict) if attempt < ATTEMPTS => {
                    let now = read_head(self.ajar, &self.partition).await?;
                    let is_head_moved = now.1 != used.1;
                    *head = Some(now);
                    if is_head_moved {
                        // Other processes that lost as well come back one after another.
                        let wait = SignedDuration::from_millis(i64::from(attempt % 10) * 5);
                        self.ajar.ports.clock.sleep(wait).await;
                        attempt += 1;
                    } else if batch.len() == 1 {
                        answer(batch, &Ok(Added::Overtaken));
                        return Ok(());
                    } else {
                        // A request of the batch has changed; which one shows when each is written by itself.
                        let rest = batch.split_off(1);
                        let mut waiting = lock(&self.chain.waiting);
                        rest.into_iter().rev().for_each(|one| waiting.push_front(one));
                    }
                }
                Err(error) => {
                    answer(batch, &Err(error));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn take_waiting(&self) -> Vec<Waiting> {
        let mut waiting = lock(&self.chain.waiting);
        let mut batch = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while let Some(next) = waiting.pop_front() {
            rows += 2 + next.addition.beside.len();
            bytes += next.addition.bytes();
            if (rows > MOST_ROWS || bytes > MAX_BATCH_BYTES) && !batch.is_empty() {
                waiting.push_front(next);
                break;
            }
            batch.push(next);
        }
        batch
    }
}

impl Addition {
    /// At least what it takes of a batch.
    fn bytes(&self) -> usize {
        let beside = self.beside.iter().chain([&self.request]).filter_map(Change::document);
        beside.map(str::len).sum::<usize>() + self.entry.what.len() + BYTES_BESIDE
    }
}

/// The batch that adds `additions` after `head`, and the head after it, whose change is the last.
fn changes<'a>(
    (head, etag): &KnownHead,
    additions: impl Iterator<Item = &'a Addition>,
) -> Result<(Vec<Change>, Head), AccessError> {
    let mut changes = Vec::new();
    let mut after = head.clone();
    for addition in additions {
        let entry = Entry { previous: after.hash.clone(), ..addition.entry.clone() };
        let document = encode(&entry)?;
        after = after.after(&document);
        changes.push(addition.request.clone());
        changes.push(Change::Insert { row: addition.row.clone(), document });
        changes.extend(addition.beside.iter().cloned());
    }
    changes.push(after.change(etag.as_ref())?);
    Ok((changes, after))
}

/// Tells each of `batch` how it went; who has gone away meanwhile is told in vain.
fn answer(batch: Vec<Waiting>, result: &Result<Added, StoreError>) {
    for waiting in batch {
        let _ = waiting.answer.send(result.clone());
    }
}
