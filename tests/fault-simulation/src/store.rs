//! The tables, as Table Storage keeps them.

use crate::mutant::Mutant;
use crate::world::{Event, Kind, NoAnswer, State, World};
use ajar_access::keys::Key;
use ajar_access::ports::store::{
    Change, Continuation, Etag, Page, Range, Row, Store, StoreError, Table, check_batch,
};
use async_trait::async_trait;

/// The store as one instance reaches it.
pub(crate) struct Tables {
    pub world: World,
    pub instance: usize,
}

fn unavailable(_: NoAnswer) -> StoreError {
    StoreError::Unavailable { reason: "a fault".to_owned(), retry_after: None }
}

fn row(partition: &str, key: &str, etag: u64, document: &str) -> Row {
    Row {
        partition: Key::from_stored(partition).expect("a stored key"),
        row: Key::from_stored(key).expect("a stored key"),
        etag: Etag(etag.to_string()),
        document: document.to_owned(),
    }
}

#[async_trait]
impl Store for Tables {
    async fn get(&self, table: Table, partition: &Key, key: &Key) -> Result<Option<Row>, StoreError> {
        let at = (table.name(), partition.as_str().to_owned(), key.as_str().to_owned());
        self.world
            .call(self.instance, Kind::StoreRead, move |state, _| match state.rows.get(&at) {
                Some((etag, document)) => {
                    let mut document = document.clone();
                    if state.mutant == Mutant::NoLeases && at.2 == "lease" {
                        let mut lease: serde_json::Value = serde_json::from_str(&document).expect("JSON");
                        lease["owner"] = "".into();
                        document = lease.to_string();
                    }
                    Some(row(&at.1, &at.2, *etag, &document))
                }
                None => None,
            })
            .await
            .map_err(unavailable)
    }

    async fn scan(
        &self,
        table: Table,
        range: &Range,
        from: Option<&Continuation>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let range = range.clone();
        let from = from.map(|from| from.0.clone());
        self.world
            .call(self.instance, Kind::StoreRead, move |state, _| {
                if state.mutant == Mutant::HiddenDueRows && table == Table::Due {
                    return Page { rows: Vec::new(), next: None };
                }
                let within = |text: &str, first: &Option<Key>, last: &Option<Key>| {
                    first.as_ref().is_none_or(|first| first.as_str() <= text)
                        && last.as_ref().is_none_or(|last| text <= last.as_str())
                };
                let start = range.first_partition.as_ref().map_or("", Key::as_str);
                let first = (table.name(), start.to_owned(), String::new());
                let mut rows = Vec::new();
                for ((name, partition, key), (etag, document)) in state.rows.range(first..) {
                    let is_past =
                        range.last_partition.as_ref().is_some_and(|last| last.as_str() < partition.as_str());
                    if *name != table.name() || is_past {
                        break;
                    }
                    let place = format!("{partition}/{key}");
                    if !within(partition, &range.first_partition, &range.last_partition)
                        || !within(key, &range.first_row, &range.last_row)
                        || from.as_ref().is_some_and(|from| place <= *from)
                    {
                        continue;
                    }
                    if rows.len() == limit {
                        let last: &Row = &rows[limit - 1];
                        let next = format!("{}/{}", last.partition.as_str(), last.row.as_str());
                        return Page { rows, next: Some(Continuation(next)) };
                    }
                    rows.push(row(partition, key, *etag, document));
                }
                Page { rows, next: None }
            })
            .await
            .map_err(unavailable)
    }

    async fn commit(
        &self,
        table: Table,
        partition: &Key,
        changes: &[Change],
    ) -> Result<Vec<Option<Etag>>, StoreError> {
        check_batch(changes)?;
        let partition = partition.as_str().to_owned();
        let changes = changes.to_vec();
        self.world
            .call(self.instance, Kind::StoreWrite, {
                let instance = self.instance;
                move |state, _| commit(state, instance, table, &partition, &changes)
            })
            .await
            .map_err(unavailable)?
    }
}

fn commit(
    state: &mut State,
    instance: usize,
    table: Table,
    partition: &str,
    changes: &[Change],
) -> Result<Vec<Option<Etag>>, StoreError> {
    let place = |row: &Key| (table.name(), partition.to_owned(), row.as_str().to_owned());
    for change in changes {
        let current = state.rows.get(&place(change.row())).map(|(etag, _)| etag.to_string());
        let fits = match change {
            Change::Insert { .. } => current.is_none(),
            Change::Replace { etag, .. } | Change::Delete { etag, .. } => current.as_ref() == Some(&etag.0),
            Change::Put { .. } => true,
        };
        let is_unchecked = matches!(state.mutant, Mutant::UncheckedLeases | Mutant::NoLeases)
            && change.row().as_str() == "lease"
            && current.is_some();
        if !fits && state.mutant != Mutant::IgnoredEtags && !is_unchecked {
            return Err(StoreError::Conflict);
        }
    }
    let mut etags = Vec::new();
    for change in changes {
        let at = place(change.row());
        match change.document() {
            Some(document) => {
                state.etags += 1;
                let mut document = document.to_owned();
                let is_look = at.2.contains("_look_");
                if state.mutant == Mutant::NoSecondLookAfterOff
                    && at.2.starts_with("p_")
                    && document.contains("\"seenOff\":\"")
                {
                    state.rows.remove(&at);
                    etags.push(Some(Etag(state.etags.to_string())));
                    continue;
                }
                let is_late = match state.mutant {
                    Mutant::LateDueRows => table == Table::Due,
                    Mutant::BlobFirst => at.2 == "marker" && state.rows.contains_key(&at),
                    _ => false,
                };
                if is_late {
                    let (etag, lives) = (state.etags, state.deaths.get(&instance).copied());
                    let late = state.now + 5_000;
                    state.plan(
                        late,
                        Event::Land(Box::new(move |state| {
                            if state.deaths.get(&instance).copied() == lives {
                                state.rows.insert(at, (etag, document));
                            }
                        })),
                    );
                    etags.push(Some(Etag(etag.to_string())));
                    continue;
                }
                if state.mutant == Mutant::LostRevocations
                    && let (Some((_, before)), true) = (state.rows.get(&at), at.2.starts_with("g_"))
                {
                    let mut grant: serde_json::Value = serde_json::from_str(&document).expect("JSON");
                    let before: serde_json::Value = serde_json::from_str(before).expect("JSON");
                    grant["end"] = before["end"].clone();
                    document = grant.to_string();
                }
                etags.push(Some(Etag(state.etags.to_string())));
                if !(state.mutant == Mutant::NoSecondLook && is_look) {
                    let now = state.now;
                    state.referee.row_written(now, table, &at.2, &document);
                    state.rows.insert(at, (state.etags, document));
                }
            }
            None => {
                if !(state.mutant == Mutant::KeptDueRows && table == Table::Due) {
                    state.referee.row_removed(table, &at.2);
                    state.rows.remove(&at);
                }
                etags.push(None);
            }
        }
    }
    Ok(etags)
}
