//! Whether the store is as this deployment left it. A store that was wiped has no marker; one that was restored from a
//! backup has an older generation than the blob beside it.
//!
//! Absence never opens, nor does the past: unless the store is current, its rows say nothing about what is wanted, so
//! nothing is planned from them; only what is past its described end is closed.
//!
//! Each sweep raises the generation by one, first in the marker's row and then in the blob. So the row of a store that
//! was never put back is as high as the blob or one higher, whenever it is read after the blob.

use crate::Ajar;
use crate::document::{Document, Stored, decode_text, encode, stored};
use crate::error::AccessError;
use crate::keys::Key;
use crate::ports::blobs::{Blob, BlobName, Blobs};
use crate::ports::store::{Change, Etag, Row, Store, StoreError, Table};
use crate::shared_read::SharedRead;
use futures::future;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The code of the error that says that nothing is taken on until the operator resumes.
pub(crate) const RESTORED: &str = "StoreRestored";

#[derive(Serialize, Deserialize)]
struct Marker {
    since: Timestamp,
    /// 0 in the row of a release that had none.
    #[serde(default)]
    generation: u64,
}

impl Document for Marker {
    const VERSION: u32 = 1;
    const NAME: &'static str = "store marker";
}

/// What the blob holds.
#[derive(Serialize, Deserialize)]
struct Generation {
    generation: u64,
}

impl Document for Generation {
    const VERSION: u32 = 1;
    const NAME: &'static str = "store generation";
}

/// How far the store's rows can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They are what this deployment wrote last.
    Current,
    /// There are none: the deployment is new, or its tables were emptied.
    Empty,
    /// They were put back from a backup, or the blob that would show that they were not is gone.
    Restored,
}

/// The generation in both places.
pub(crate) struct Seen {
    row: Option<Stored<Marker>>,
    blob: Option<Stored<Generation>>,
}

impl Seen {
    pub(crate) fn standing(&self) -> Standing {
        let Some(row) = &self.row else { return Standing::Empty };
        match &self.blob {
            Some(blob) if row.content.generation < blob.content.generation => Standing::Restored,
            // The row is not raised further before the blob has followed.
            None if row.content.generation > 1 => Standing::Restored,
            _ => Standing::Current,
        }
    }

    fn of_blob(&self) -> u64 {
        self.blob.as_ref().map_or(0, |blob| blob.content.generation)
    }
}

fn partition() -> Key {
    Key::new(["store"])
}

fn row() -> Key {
    Key::new(["marker"])
}

type RowRead = Result<Option<Row>, StoreError>;
type BlobRead = Result<Option<Blob>, StoreError>;

/// Where those of one process meet who look at the generation at the same time: each VM and each enforcement point has one
/// of its own to do with, but the store is the same.
#[derive(Clone, Default)]
pub struct Looks(SharedRead<(RowRead, BlobRead)>);

async fn read_row(store: Arc<dyn Store>) -> RowRead {
    store.get(Table::Cursors, &partition(), &row()).await
}

async fn read_blob(blobs: Arc<dyn Blobs>) -> BlobRead {
    blobs.read(&BlobName::generation()).await
}

fn row_read(read: RowRead) -> Result<Option<Stored<Marker>>, AccessError> {
    read?.as_ref().map(stored).transpose()
}

fn blob_read(read: BlobRead) -> Result<Option<Stored<Generation>>, AccessError> {
    let Some(blob) = read? else { return Ok(None) };
    Ok(Some(Stored { content: decode_text(&blob.text, BlobName::generation().as_str())?, etag: blob.etag }))
}

/// Reads the generation in both places, at once.
///
/// # Errors
/// [`AccessError::Unavailable`] when either cannot be read: a store that cannot be told to be current is not read.
pub(crate) async fn look(ajar: &Ajar) -> Result<Seen, AccessError> {
    let (store, blobs) = (&ajar.ports.store, &ajar.ports.blobs);
    let both = future::join(read_row(Arc::clone(store)), read_blob(Arc::clone(blobs)));
    let (row, blob) = ajar.looks.0.turn(both).await;
    let mut seen = Seen { row: row_read(row)?, blob: blob_read(blob)? };
    if seen.standing() == Standing::Restored {
        // A sweep may have raised both between the two reads. Whichever seems to lag is read once more, after the other.
        match seen.blob {
            Some(_) => seen.row = row_read(read_row(Arc::clone(store)).await)?,
            None => seen.blob = blob_read(read_blob(Arc::clone(blobs)).await)?,
        }
    }
    Ok(seen)
}

/// How far the store's rows can be believed.
///
/// # Errors
/// As [`look`].
pub(crate) async fn standing(ajar: &Ajar) -> Result<Standing, AccessError> {
    Ok(look(ajar).await?.standing())
}

/// Lets nothing new be taken on in a store that was restored.
///
/// # Errors
/// [`AccessError::Conflict`] with code `StoreRestored` then; else as [`look`].
pub(crate) async fn refuse_restored(ajar: &Ajar) -> Result<(), AccessError> {
    match standing(ajar).await? {
        Standing::Current | Standing::Empty => Ok(()),
        Standing::Restored => Err(restored()),
    }
}

fn restored() -> AccessError {
    AccessError::Conflict {
        code: RESTORED,
        message: "Ajar's tables were restored from a backup: nothing is opened, and no policy changed, until the operator \
                  has checked them and resumed (docs/operations.md, Restored tables)"
            .to_owned(),
    }
}

/// Writes the marker if it is missing: called before the first desired state is.
///
/// # Errors
/// As [`refuse_restored`].
pub(crate) async fn ensure(ajar: &Ajar) -> Result<(), AccessError> {
    let seen = look(ajar).await?;
    match seen.standing() {
        Standing::Current => return Ok(()),
        Standing::Restored => return Err(restored()),
        Standing::Empty => {}
    }
    // Above what the blob holds of a store that was emptied: whatever is put in this one's place later is older.
    let marker = Marker { since: ajar.ports.clock.now(), generation: seen.of_blob() + 1 };
    let insert = Change::Insert { row: row(), document: encode(&marker)? };
    match ajar.ports.store.commit(Table::Cursors, &partition(), &[insert]).await {
        Ok(_) | Err(StoreError::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Looks whether the marker is still there after desired state was written: without it nothing is planned from what was.
///
/// # Errors
/// [`AccessError::Unavailable`] when the tables were emptied meanwhile, so that the same has to be done again, or when the
/// marker cannot be read.
pub(crate) async fn require(ajar: &Ajar) -> Result<(), AccessError> {
    match read_row(Arc::clone(&ajar.ports.store)).await? {
        Some(_) => Ok(()),
        None => Err(AccessError::Unavailable {
            what: "the store",
            retry_after: SignedDuration::from_secs(1),
            reason: "the tables were emptied while they were written to".to_owned(),
        }),
    }
}

/// Raises the generation of a current store, or brings the blob to it if a raise broke off. What fails is done by the
/// next sweep.
pub(crate) async fn raise(ajar: &Ajar, seen: Seen) {
    if let Err(error) = try_to_raise(ajar, seen).await {
        tracing::warn!(
            error = error.log_text(),
            "the store's generation was not raised; the next sweep does it"
        );
    }
}

async fn try_to_raise(ajar: &Ajar, seen: Seen) -> Result<(), AccessError> {
    let of_blob = seen.of_blob();
    let Some(marker) = seen.row else { return Ok(()) };
    let generation = if of_blob < marker.content.generation {
        marker.content.generation
    } else {
        let next = marker.content.generation + 1;
        if !replace(ajar, marker, next).await? {
            return Ok(());
        }
        next
    };
    write_blob(ajar, generation, seen.blob.map(|blob| blob.etag)).await
}

/// Takes a restored store for the current one from now on: row first, then blob. Returns the new generation.
///
/// # Errors
/// [`AccessError::Unavailable`] when somebody came between or either cannot be written: the store may stay restored, and
/// the same again goes on from there.
pub(crate) async fn accept(ajar: &Ajar, seen: Seen) -> Result<u64, AccessError> {
    let of_blob = seen.of_blob();
    let marker = seen.row.ok_or_else(|| AccessError::internal("a restored store has a marker"))?;
    let next = marker.content.generation.max(of_blob) + 1;
    if !replace(ajar, marker, next).await? {
        return Err(StoreError::Conflict.into());
    }
    write_blob(ajar, next, seen.blob.map(|blob| blob.etag)).await?;
    Ok(next)
}

/// Whether the row was still there as it had been read.
async fn replace(ajar: &Ajar, marker: Stored<Marker>, generation: u64) -> Result<bool, AccessError> {
    let document = encode(&Marker { generation, ..marker.content })?;
    let change = Change::Replace { row: row(), document, etag: marker.etag };
    match ajar.ports.store.commit(Table::Cursors, &partition(), &[change]).await {
        Ok(_) => Ok(true),
        Err(StoreError::Conflict) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Nothing is written when somebody else wrote since: that was no lower.
async fn write_blob(ajar: &Ajar, generation: u64, before: Option<Etag>) -> Result<(), AccessError> {
    let text = encode(&Generation { generation })?;
    match ajar.ports.blobs.write(&BlobName::generation(), &text, before.as_ref()).await {
        Ok(_) | Err(StoreError::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
