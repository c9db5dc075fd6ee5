//! What every adapter of `ajar_access::ports::blobs::Blobs` promises.

use ajar_access::ports::blobs::{BlobName, Blobs, MAX_BLOB_BYTES};
use ajar_access::ports::store::{Etag, StoreError};
use ajar_access::testing::nsg;
use futures::future::join_all;
use std::sync::Arc;

fn name(of: &str) -> BlobName {
    BlobName::originals(&nsg(of))
}

/// Checks every promise on `blobs`, in which nothing was written yet.
///
/// # Panics
/// When one is broken.
pub async fn keeps_every_promise_of_blobs(blobs: Arc<dyn Blobs>) {
    what_was_never_written_is_none(&*blobs).await;
    a_blob_reads_back_with_the_etag_of_its_last_write(&*blobs).await;
    of_two_writers_who_read_the_same_one_wins(&*blobs).await;
    an_etag_of_nothing_conflicts(&*blobs).await;
    texts_of_every_kind_come_back(&*blobs).await;
    a_text_beyond_the_limit_is_refused(&*blobs).await;
    of_many_first_writers_one_wins(&blobs).await;
    no_update_is_lost(&blobs).await;
}

async fn what_was_never_written_is_none(blobs: &dyn Blobs) {
    // Neither container nor folder is there yet.
    assert_eq!(blobs.read(&BlobName::generation()).await, Ok(None));
    blobs.write(&name("other"), "{}", None).await.unwrap();
    assert_eq!(blobs.read(&BlobName::generation()).await, Ok(None));
}

async fn a_blob_reads_back_with_the_etag_of_its_last_write(blobs: &dyn Blobs) {
    let name = name("reads-back");
    let first = blobs.write(&name, "one", None).await.unwrap();
    let found = blobs.read(&name).await.unwrap().unwrap();
    assert_eq!((found.text.as_str(), &found.etag), ("one", &first));
    // The same text again is another version all the same.
    let second = blobs.write(&name, "one", Some(&first)).await.unwrap();
    assert_ne!(first, second);
    let found = blobs.read(&name).await.unwrap().unwrap();
    assert_eq!((found.text.as_str(), &found.etag), ("one", &second));
}

async fn of_two_writers_who_read_the_same_one_wins(blobs: &dyn Blobs) {
    let name = name("two-writers");
    let first = blobs.write(&name, "one", None).await.unwrap();
    assert_eq!(blobs.write(&name, "again", None).await, Err(StoreError::Conflict));
    blobs.write(&name, "two", Some(&first)).await.unwrap();
    assert_eq!(blobs.write(&name, "three", Some(&first)).await, Err(StoreError::Conflict));
    assert_eq!(blobs.read(&name).await.unwrap().unwrap().text, "two");
}

async fn an_etag_of_nothing_conflicts(blobs: &dyn Blobs) {
    let etag = blobs.write(&name("somewhere"), "here", None).await.unwrap();
    for etag in [etag, Etag("*".to_owned()), Etag(String::new())] {
        let written = blobs.write(&name("nowhere"), "text", Some(&etag)).await;
        assert_eq!(written, Err(StoreError::Conflict), "{etag:?}");
    }
    assert_eq!(blobs.read(&name("nowhere")).await, Ok(None));
}

async fn texts_of_every_kind_come_back(blobs: &dyn Blobs) {
    let largest = "x".repeat(MAX_BLOB_BYTES);
    let texts = ["\n", "1\n2\r\n3", "{\"name\":\"é語😀\u{2028}\u{0}\"}", " ", "\u{feff}x", &largest, "short"];
    let name = name("texts");
    let mut etag = None;
    for text in texts {
        etag = Some(blobs.write(&name, text, etag.as_ref()).await.unwrap());
        let found = blobs.read(&name).await.unwrap().unwrap().text;
        assert!(found == text, "{} bytes became {}", text.len(), found.len());
    }
}

async fn a_text_beyond_the_limit_is_refused(blobs: &dyn Blobs) {
    for text in [String::new(), "x".repeat(MAX_BLOB_BYTES + 1)] {
        let written = blobs.write(&name("limit"), &text, None).await;
        assert!(matches!(written, Err(StoreError::TooLarge { .. })), "{written:?}");
    }
    assert_eq!(blobs.read(&name("limit")).await, Ok(None));
}

async fn of_many_first_writers_one_wins(blobs: &Arc<dyn Blobs>) {
    let writers = (0..8).map(|number| {
        let blobs = Arc::clone(blobs);
        tokio::spawn(async move {
            let text = number.to_string();
            blobs.write(&name("first"), &text, None).await.map(|_| text)
        })
    });
    let written: Vec<_> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
    let winners: Vec<_> = written.iter().filter_map(|one| one.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1, "{written:?}");
    assert!(written.iter().all(|one| matches!(one, Ok(_) | Err(StoreError::Conflict))), "{written:?}");
    assert_eq!(blobs.read(&name("first")).await.unwrap().unwrap().text, *winners[0]);
}

async fn no_update_is_lost(blobs: &Arc<dyn Blobs>) {
    const EACH: u32 = 5;
    blobs.write(&name("counter"), "0", None).await.unwrap();
    let writers = (0..4).map(|_| {
        let blobs = Arc::clone(blobs);
        tokio::spawn(async move {
            let mut done = 0;
            while done < EACH {
                let found = blobs.read(&name("counter")).await.unwrap().unwrap();
                let next = (found.text.parse::<u32>().unwrap() + 1).to_string();
                match blobs.write(&name("counter"), &next, Some(&found.etag)).await {
                    Ok(_) => done += 1,
                    Err(StoreError::Conflict) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    join_all(writers).await.into_iter().for_each(Result::unwrap);
    assert_eq!(blobs.read(&name("counter")).await.unwrap().unwrap().text, (4 * EACH).to_string());
}
