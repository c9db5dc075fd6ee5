//! A promise that nobody lists is checked by nobody.

/// Each public async function of the promises' files is in the list that adapters instantiate.
#[test]
fn every_promise_is_listed() {
    let sources = [
        include_str!("../src/batches.rs"),
        include_str!("../src/changes.rs"),
        include_str!("../src/concurrency.rs"),
        include_str!("../src/documents.rs"),
        include_str!("../src/keys.rs"),
        include_str!("../src/reads.rs"),
        include_str!("../src/scans.rs"),
    ];
    let listed: Vec<&str> = store_contract::PROMISES.iter().map(|promise| promise.name).collect();
    let mut written: Vec<&str> = sources
        .iter()
        .flat_map(|source| source.lines())
        .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
        .collect();
    written.sort_unstable();
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, written);
}
