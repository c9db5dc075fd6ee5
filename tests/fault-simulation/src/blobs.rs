//! What is kept beside the tables. It is as near and as faulty as they are, and has outages of its own.

use crate::mutant::Mutant;
use crate::world::{Kind, NoAnswer, World};
use ajar_access::ports::blobs::{Blob, BlobName, Blobs, check_text};
use ajar_access::ports::store::{Etag, StoreError};
use async_trait::async_trait;
use serde_json::Value;

/// The blobs as one instance reaches them.
pub(crate) struct BesideTables {
    pub world: World,
    pub instance: usize,
}

fn unavailable(_: NoAnswer) -> StoreError {
    StoreError::Unavailable { reason: "a fault".to_owned(), retry_after: None }
}

#[async_trait]
impl Blobs for BesideTables {
    async fn read(&self, name: &BlobName) -> Result<Option<Blob>, StoreError> {
        let name = name.as_str().to_owned();
        self.world
            .call(self.instance, Kind::BlobRead, move |state, _| {
                let (etag, text) = state.blobs.get(&name)?;
                let mut text = text.clone();
                if state.mutant == Mutant::IgnoredGeneration
                    && name == BlobName::generation().as_str()
                    && let Some(generation) = state.generation_of_rows()
                {
                    let mut document: Value = serde_json::from_str(&text).expect("JSON");
                    document["generation"] = generation.into();
                    text = document.to_string();
                }
                Some(Blob { etag: Etag(etag.to_string()), text })
            })
            .await
            .map_err(unavailable)
    }

    async fn write(&self, name: &BlobName, text: &str, before: Option<&Etag>) -> Result<Etag, StoreError> {
        check_text(text)?;
        let (name, text, before) = (name.as_str().to_owned(), text.to_owned(), before.cloned());
        self.world
            .call(self.instance, Kind::BlobWrite, move |state, _| {
                let found = state.blobs.get(&name).map(|(etag, _)| Etag(etag.to_string()));
                if found != before {
                    return Err(StoreError::Conflict);
                }
                state.etags += 1;
                state.blobs.insert(name, (state.etags, text));
                Ok(Etag(state.etags.to_string()))
            })
            .await
            .map_err(unavailable)?
    }
}
