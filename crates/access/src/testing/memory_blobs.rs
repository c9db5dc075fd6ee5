//! The documents beside the store, in memory.

use super::{Budget, Verdict, lock};
use crate::ports::blobs::{Blob, BlobName, Blobs, check_text};
use crate::ports::store::{Etag, StoreError};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Blobs that are forgotten at the end of the test.
#[derive(Debug)]
pub struct MemoryBlobs {
    budget: Arc<Budget>,
    blobs: Mutex<BTreeMap<BlobName, Blob>>,
    etags: AtomicU64,
    /// While set, every call fails.
    pub is_down: AtomicBool,
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { reason: "made to fail".into(), retry_after: None }
}

impl MemoryBlobs {
    pub(super) fn new(budget: Arc<Budget>) -> MemoryBlobs {
        let (blobs, etags) = (Mutex::default(), AtomicU64::new(0));
        MemoryBlobs { budget, blobs, etags, is_down: AtomicBool::new(false) }
    }

    /// Removes every blob.
    pub fn wipe(&self) {
        lock(&self.blobs).clear();
    }

    /// All texts by name, to compare states; ETags are left out.
    pub fn contents(&self) -> BTreeMap<String, String> {
        let blobs = lock(&self.blobs);
        blobs.iter().map(|(name, blob)| (name.as_str().to_owned(), blob.text.clone())).collect()
    }

    fn begin(&self) -> Result<Verdict, StoreError> {
        match self.budget.spend() {
            _ if self.is_down.load(Ordering::SeqCst) => Err(unavailable()),
            Verdict::Fail => Err(unavailable()),
            verdict => Ok(verdict),
        }
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn read(&self, name: &BlobName) -> Result<Option<Blob>, StoreError> {
        match self.begin()? {
            Verdict::LoseTheAnswer => Err(unavailable()),
            _ => Ok(lock(&self.blobs).get(name).cloned()),
        }
    }

    async fn write(&self, name: &BlobName, text: &str, before: Option<&Etag>) -> Result<Etag, StoreError> {
        check_text(text)?;
        let verdict = self.begin()?;
        let mut blobs = lock(&self.blobs);
        if blobs.get(name).map(|blob| &blob.etag) != before {
            return Err(StoreError::Conflict);
        }
        let etag = Etag(self.etags.fetch_add(1, Ordering::SeqCst).to_string());
        blobs.insert(name.clone(), Blob { etag: etag.clone(), text: text.to_owned() });
        if verdict == Verdict::LoseTheAnswer { Err(unavailable()) } else { Ok(etag) }
    }
}
