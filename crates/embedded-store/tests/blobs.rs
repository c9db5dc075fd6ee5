//! The folder of documents beside the embedded store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::ports::blobs::{BlobName, Blobs};
use ajar_access::ports::store::StoreError;
use ajar_embedded_store::BlobFolder;
use std::path::PathBuf;
use std::sync::Arc;

fn fresh(test: &str) -> (BlobFolder, PathBuf) {
    let file =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("blobs-{}-{test}", std::process::id()));
    let folder = file.with_extension("blobs");
    let _ = std::fs::remove_dir_all(&folder);
    (BlobFolder::beside(&file), folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_every_promise_of_blobs() {
    let (blobs, folder) = fresh("contract");
    store_contract::keeps_every_promise_of_blobs(Arc::new(blobs)).await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_for_its_owner_alone() {
    let (blobs, folder) = fresh("restart");
    let etag = blobs.write(&BlobName::generation(), "seven", None).await.unwrap();
    let again = BlobFolder::new(&folder).read(&BlobName::generation()).await.unwrap().unwrap();
    assert_eq!((again.text.as_str(), again.etag), ("seven", etag));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.join("generation.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_unreadable_and_not_missing() {
    let (blobs, folder) = fresh("damaged");
    std::fs::create_dir_all(&folder).unwrap();
    for damaged in ["", "seven", "x\n{}"] {
        std::fs::write(folder.join("generation.json"), damaged).unwrap();
        let read = blobs.read(&BlobName::generation()).await;
        assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{damaged:?}: {read:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
