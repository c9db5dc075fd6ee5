//! Small documents beside the tables: what tells that the tables are old, and what is needed when they are lost.
//!
//! They are kept apart from the tables so that no restore of these brings them back as well.

use super::store::{Etag, StoreError};
use crate::point;
use ajar_network::resource_id::ResourceId;
use async_trait::async_trait;

/// The most bytes that a blob's text may have: more than any row's document has.
pub const MAX_BLOB_BYTES: usize = 1024 * 1024;

/// The name of a blob: up to 200 of the characters that every adapter takes, `a-z 0-9 . _ - /`, and no part is empty or
/// only dots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobName(String);

impl BlobName {
    /// Where the store's generation is.
    pub fn generation() -> BlobName {
        BlobName("generation.json".to_owned())
    }

    /// Where the originals of the rules that were moved at an enforcement point are.
    pub fn originals(point: &ResourceId) -> BlobName {
        BlobName(format!("originals/{}.json", point::digits(point)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A blob as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Version; it changes with every write.
    pub etag: Etag,
    /// Its text, never empty.
    pub text: String,
}

/// Small documents, each written whole.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// One blob, or `None` when it (or its container) does not exist. A failed read is never `None`.
    async fn read(&self, name: &BlobName) -> Result<Option<Blob>, StoreError>;

    /// Writes a blob that must still be at `before`, or that must not exist. `text` has 1 to [`MAX_BLOB_BYTES`] bytes.
    /// Returns the new version; [`StoreError::Conflict`] when somebody else wrote it first, and nothing was written.
    async fn write(&self, name: &BlobName, text: &str, before: Option<&Etag>) -> Result<Etag, StoreError>;
}

/// Checks a text against the limits that every adapter enforces alike.
///
/// # Errors
/// [`StoreError::TooLarge`] naming the limit.
pub fn check_text(text: &str) -> Result<(), StoreError> {
    if text.is_empty() || text.len() > MAX_BLOB_BYTES {
        let reason = format!("a blob has 1 to {MAX_BLOB_BYTES} bytes, this one {}", text.len());
        return Err(StoreError::TooLarge { reason });
    }
    Ok(())
}
