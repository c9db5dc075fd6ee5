//! Many writers at once.

use crate::write::{TABLE, change, document, insert, key, put, replace, rows};
use ajar_access::ports::store::{Store, StoreError};
use futures::future::join_all;
use std::future::Future;
use std::sync::Arc;

/// Runs `task(0)` to `task(count - 1)` on as many tasks; a panic in one is a panic here.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    count: usize,
    task: impl Fn(usize) -> F,
) -> Vec<T> {
    join_all((0..count).map(|number| tokio::spawn(task(number))))
        .await
        .into_iter()
        .map(|joined| joined.expect("the task did not panic"))
        .collect()
}

/// Of twenty tasks inserting the same row, one is told that it did, and its document is there.
pub async fn of_many_inserts_one_wins(store: Arc<dyn Store>) {
    let answers = at_once(20, |number| {
        let store = Arc::clone(&store);
        async move { change(&*store, "p", insert("r", &number.to_string())).await }
    })
    .await;
    let winners: Vec<usize> = (0..20).filter(|number| answers[*number].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    assert!(
        answers.iter().filter_map(|answer| answer.as_ref().err()).all(|error| *error == StoreError::Conflict)
    );
    assert_eq!(document(&*store, "p", "r").await, winners[0].to_string());
}

/// Twenty tasks each add five to a counter by compare and swap: it ends at a hundred.
pub async fn no_update_is_lost(store: Arc<dyn Store>) {
    change(&*store, "p", insert("counter", "0")).await.unwrap();
    at_once(20, |_| {
        let store = Arc::clone(&store);
        async move {
            for _ in 0..5 {
                loop {
                    let row = store.get(TABLE, &key("p"), &key("counter")).await.unwrap().unwrap();
                    let next = (row.document.parse::<u32>().unwrap() + 1).to_string();
                    match change(&*store, "p", replace("counter", &next, &row.etag)).await {
                        Ok(_) => break,
                        Err(StoreError::Conflict) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
    })
    .await;
    assert_eq!(document(&*store, "p", "counter").await, "100");
}

/// The same with a batch that moves two counters and adds a row of its own.
pub async fn no_update_by_batch_is_lost(store: Arc<dyn Store>) {
    let start = [insert("in", "0"), insert("out", "100")];
    store.commit(TABLE, &key("p"), &start).await.unwrap();
    at_once(10, |number| {
        let store = Arc::clone(&store);
        async move {
            for round in 0..3 {
                loop {
                    let a = store.get(TABLE, &key("p"), &key("in")).await.unwrap().unwrap();
                    let b = store.get(TABLE, &key("p"), &key("out")).await.unwrap().unwrap();
                    let batch = [
                        replace("in", &(a.document.parse::<u32>().unwrap() + 1).to_string(), &a.etag),
                        insert(&format!("move-{number}-{round}"), "{}"),
                        replace("out", &(b.document.parse::<u32>().unwrap() - 1).to_string(), &b.etag),
                    ];
                    match store.commit(TABLE, &key("p"), &batch).await {
                        Ok(_) => break,
                        Err(StoreError::Conflict) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
    })
    .await;
    assert_eq!(document(&*store, "p", "in").await, "30");
    assert_eq!(document(&*store, "p", "out").await, "70");
    assert_eq!(rows(&*store, "p").await.len(), 2 + 30);
}

/// Whoever scans a partition sees each batch wholly or not at all.
pub async fn nobody_reads_half_a_batch(store: Arc<dyn Store>) {
    let names: Vec<String> = (0..10).map(|i| format!("r{i}")).collect();
    let batch = |value: usize| names.iter().map(|name| put(name, &value.to_string())).collect::<Vec<_>>();
    store.commit(TABLE, &key("p"), &batch(0)).await.unwrap();
    let writing = async {
        for value in 1..30 {
            store.commit(TABLE, &key("p"), &batch(value)).await.unwrap();
        }
    };
    let reading = at_once(3, |_| {
        let store = Arc::clone(&store);
        async move {
            for _ in 0..30 {
                let seen = rows(&*store, "p").await;
                assert_eq!(seen.len(), 10);
                assert!(seen.iter().all(|row| row.document == seen[0].document), "half a batch: {seen:?}");
            }
        }
    });
    futures::join!(writing, reading);
}

/// Writers that share no row all succeed, also when each is the first to write to the table.
pub async fn writers_of_different_partitions_do_not_disturb_each_other(store: Arc<dyn Store>) {
    let answers = at_once(20, |number| {
        let store = Arc::clone(&store);
        async move {
            let partition = format!("p{number}");
            let mut etag = change(&*store, &partition, insert("r", "0")).await?;
            for value in 1..5 {
                etag = change(&*store, &partition, replace("r", &value.to_string(), &etag)).await?;
            }
            store.commit(TABLE, &key(&partition), &[insert("a", "1"), replace("r", "5", &etag)]).await?;
            Ok::<(), StoreError>(())
        }
    })
    .await;
    assert_eq!(answers, vec![Ok(()); 20]);
    for number in 0..20 {
        assert_eq!(document(&*store, &format!("p{number}"), "r").await, "5");
    }
}
