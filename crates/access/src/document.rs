//! Documents in rows: JSON with the version of its shape.

use crate::error::AccessError;
use crate::ports::store::{Etag, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind of stored document. Each has a version of its own, so that a later release knows what it reads.
pub(crate) trait Document: Serialize + DeserializeOwned {
    /// The version this release writes.
    const VERSION: u32;
    /// What it is called in messages.
    const NAME: &'static str;
}

#[derive(Serialize, serde::Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    content: T,
}

#[derive(serde::Deserialize)]
struct VersionOnly {
    v: u32,
}

/// The text of a document.
pub(crate) fn encode<T: Document>(content: &T) -> Result<String, AccessError> {
    serde_json::to_string(&Versioned { v: T::VERSION, content })
        .map_err(|error| AccessError::internal(format!("cannot write a {}: {error}", T::NAME)))
}

/// Reads a document of the version this release knows.
pub(crate) fn decode<T: Document>(row: &Row) -> Result<T, AccessError> {
    decode_text(&row.document, &format!("{}/{}", row.partition.as_str(), row.row.as_str()))
}

/// The same of a text that stands at `place`.
pub(crate) fn decode_text<T: Document>(text: &str, place: &str) -> Result<T, AccessError> {
    let place = || format!("{} {place}", T::NAME);
    let VersionOnly { v } = serde_json::from_str(text)
        .map_err(|error| AccessError::internal(format!("{} has no version: {error}", place())))?;
    if v != T::VERSION {
        return Err(AccessError::internal(format!(
            "{} has version {v}; this release reads version {}: roll out the release that wrote it",
            place(),
            T::VERSION
        )));
    }
    let versioned: Versioned<T> = serde_json::from_str(text)
        .map_err(|error| AccessError::internal(format!("{} cannot be read: {error}", place())))?;
    Ok(versioned.content)
}

/// A document with the version of its row, to be written back.
#[derive(Debug, Clone)]
pub(crate) struct Stored<T> {
    pub(crate) content: T,
    pub(crate) etag: Etag,
}

/// Reads a row's document and keeps its ETag.
pub(crate) fn stored<T: Document>(row: &Row) -> Result<Stored<T>, AccessError> {
    Ok(Stored { content: decode(row)?, etag: row.etag.clone() })
}
