//! The lease of an enforcement point: one row, never deleted, each change with its ETag, so that at any time
//! one reconciler writes to the point.

use crate::Ajar;
use crate::document::{Document, encode, stored};
use crate::error::AccessError;
use crate::keys::Key;
use crate::point::partition;
use crate::ports::store::{Change, Etag, Row, StoreError, Table};
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a lease lasts from its last renewal.
const LENGTH: SignedDuration = SignedDuration::from_secs(50);

/// How long after its end a lease is left alone: clocks differ by seconds.
const GRACE: SignedDuration = SignedDuration::from_secs(5);

/// The longest one write may take, by the adapter's own time limits (token, request and operation); a write begins
/// only while the lease outlasts it.
const WRITE_LIMIT: SignedDuration = SignedDuration::from_secs(45);

/// How far the moment that is acted for may lie behind the clock: a reconcile takes seconds anyway, and whatever
/// begins or ends meanwhile is looked for.
const SAME_MOMENT: SignedDuration = SignedDuration::from_secs(1);

/// How often a lease is renewed before one write.
const MOST_RENEWALS: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lease {
    /// Who holds it; nobody when empty.
    owner: String,
    until: Timestamp,
    /// The latest moment any holder acted for: time on a point never runs backwards.
    last_now: Timestamp,
    /// An operation in Azure that was still running when last seen.
    operation: Option<String>,
}

impl Document for Lease {
    const VERSION: u32 = 1;
    const NAME: &'static str = "lease";
}

/// A lease that this invocation holds.
pub(crate) struct Held<'a> {
    ajar: &'a Ajar,
    point: &'a ResourceId,
    lease: Lease,
    etag: Etag,
    was_abandoned: bool,
}

fn row() -> Key {
    Key::new(["lease"])
}

/// A point's lease as it was found.
pub(crate) struct Found<'a> {
    ajar: &'a Ajar,
    point: &'a ResourceId,
    row: Option<Row>,
}

/// Looks at the lease of `point`.
pub(crate) async fn find<'a>(ajar: &'a Ajar, point: &'a ResourceId) -> Result<Found<'a>, AccessError> {
    let row = ajar.ports.store.get(Table::Points, &partition(point), &row()).await?;
    Ok(Found { ajar, point, row })
}

impl<'a> Found<'a> {
    /// Takes it; `None` when another holds it.
    pub(crate) async fn take(self) -> Result<Option<Held<'a>>, AccessError> {
        let Found { ajar, point, row: found } = self;
        let now = ajar.ports.clock.now();
        let before = found.as_ref().map(stored::<Lease>).transpose()?;
        if let Some(before) = &before
            && !before.content.owner.is_empty()
            && now < before.content.until + GRACE
        {
            return Ok(None);
        }
        let lease = Lease {
            owner: ajar.ports.ids.fresh(),
            until: now + LENGTH,
            last_now: before.as_ref().map_or(now, |before| before.content.last_now.max(now)),
            operation: before.as_ref().and_then(|before| before.content.operation.clone()),
        };
        let was_abandoned = before.as_ref().is_some_and(|before| !before.content.owner.is_empty());
        let document = encode(&lease)?;
        let change = match before {
            Some(before) => Change::Replace { row: row(), document, etag: before.etag },
            None => Change::Insert { row: row(), document },
        };
        match ajar.ports.store.commit(Table::Points, &partition(point), &[change]).await {
            Ok(etags) => Ok(Some(Held { ajar, point, lease, etag: first(etags)?, was_abandoned })),
            Err(StoreError::Conflict) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn first(etags: Vec<Option<Etag>>) -> Result<Etag, AccessError> {
    etags
        .into_iter()
        .next()
        .flatten()
        .ok_or_else(|| AccessError::internal("the store gave no ETag for a lease"))
}

impl Held<'_> {
    /// The moment to act for: the later of the own clock and the last holder's.
    pub(crate) fn now(&self) -> Timestamp {
        self.ajar.ports.clock.now().max(self.lease.last_now)
    }

    /// The moment that the row names as acted for, if it is as good as [`Held::now`]: acting for a later one takes a
    /// write of the row. Whether anything begins or ends in between, the caller has to see.
    pub(crate) fn recorded_now(&self) -> Option<Timestamp> {
        (self.now().duration_since(self.lease.last_now) < SAME_MOMENT).then_some(self.lease.last_now)
    }

    /// Whether the holder before ran out of time instead of freeing it.
    pub(crate) fn was_abandoned(&self) -> bool {
        self.was_abandoned
    }

    /// The operation that was still running when last seen.
    pub(crate) fn operation(&self) -> Option<&str> {
        self.lease.operation.as_deref()
    }

    /// Makes sure that the lease outlasts a write that begins now on behalf of moment `now`.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] when somebody took the lease over, or the store takes longer to renew it than it
    /// lasts: nothing may be written then.
    pub(crate) async fn before_write(&mut self, now: Timestamp) -> Result<(), AccessError> {
        for _ in 0..MOST_RENEWALS {
            let clock = self.ajar.ports.clock.now();
            if clock <= self.lease.until - WRITE_LIMIT && now <= self.lease.last_now {
                return Ok(());
            }
            // Looked at again afterwards: the renewal itself may have stood still for longer than it is good for.
            self.lease.until = clock + LENGTH;
            self.lease.last_now = now.max(self.lease.last_now);
            self.save().await?;
        }
        Err(AccessError::Unavailable {
            what: "the lease of an enforcement point",
            retry_after: SignedDuration::from_secs(1),
            reason: format!("{} could not be renewed fast enough to write under it", self.point),
        })
    }

    /// Records an operation that is still running, or that none is.
    pub(crate) async fn set_operation(&mut self, operation: Option<String>) -> Result<(), AccessError> {
        self.lease.operation = operation;
        self.save().await
    }

    /// Frees the lease. When that fails it runs out by itself.
    pub(crate) async fn free(self) {
        let point = self.point;
        if let Err(error) = self.free_with(None).await {
            tracing::warn!(%point, error = error.log_text(), "a lease was not freed and will run out");
        }
    }

    /// Frees the lease and makes another change of the point's partition with it, which only its holder may.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] when somebody took the lease over, or the store is not there: the change may
    /// not have been made.
    pub(crate) async fn free_with(mut self, also: Option<Change>) -> Result<(), AccessError> {
        self.lease.owner = String::new();
        self.save_with(also).await
    }

    async fn save(&mut self) -> Result<(), AccessError> {
        self.save_with(None).await
    }

    async fn save_with(&mut self, also: Option<Change>) -> Result<(), AccessError> {
        let own = Change::Replace { row: row(), document: encode(&self.lease)?, etag: self.etag.clone() };
        let changes: Vec<Change> = std::iter::once(own).chain(also).collect();
        let etags = self.ajar.ports.store.commit(Table::Points, &partition(self.point), &changes).await?;
        self.etag = first(etags)?;
        Ok(())
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::ports::store::{Continuation, Page, Range, Store};
    use crate::testing::{ManualClock, MemoryStore, World, nsg};
    use async_trait::async_trait;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex, PoisonError};

    /// A store whose writes take their time before they are answered.
    struct Slow {
        inner: Arc<MemoryStore>,
        clock: Arc<ManualClock>,
        waits: Mutex<VecDeque<SignedDuration>>,
    }

    #[async_trait]
    impl Store for Slow {
        async fn get(&self, table: Table, partition: &Key, row: &Key) -> Result<Option<Row>, StoreError> {
            self.inner.get(table, partition, row).await
        }

        async fn scan(
            &self,
            table: Table,
            range: &Range,
            from: Option<&Continuation>,
            limit: usize,
        ) -> Result<Page, StoreError> {
            self.inner.scan(table, range, from, limit).await
        }

        async fn commit(
            &self,
            table: Table,
            partition: &Key,
            changes: &[Change],
        ) -> Result<Vec<Option<Etag>>, StoreError> {
            let written = self.inner.commit(table, partition, changes).await;
            let wait = self.waits.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            self.clock.advance(wait.unwrap_or_default());
            written
        }
    }

    async fn take<'a>(ajar: &'a Ajar, point: &'a ResourceId) -> Result<Option<Held<'a>>, AccessError> {
        find(ajar, point).await?.take().await
    }

    #[tokio::test]
    async fn one_holds_it_until_it_is_freed() {
        let (world, point) = (World::new(), nsg("web-nsg"));
        let held = take(&world.ajar, &point).await.unwrap().unwrap();
        assert!(take(&world.ajar, &point).await.unwrap().is_none());
        held.free().await;
        assert!(!take(&world.ajar, &point).await.unwrap().unwrap().was_abandoned());
    }

    #[tokio::test]
    async fn it_is_taken_over_five_seconds_after_it_ran_out_and_the_holder_then_writes_nothing() {
        let (world, point) = (World::new(), nsg("web-nsg"));
        let mut dead = take(&world.ajar, &point).await.unwrap().unwrap();
        world.clock.advance(LENGTH + GRACE - SignedDuration::from_secs(1));
        assert!(take(&world.ajar, &point).await.unwrap().is_none(), "clocks differ by seconds");
        world.clock.advance(SignedDuration::from_secs(1));
        assert!(take(&world.ajar, &point).await.unwrap().unwrap().was_abandoned());
        let now = dead.now();
        assert!(dead.before_write(now).await.is_err());
    }

    #[tokio::test]
    async fn a_write_begins_only_while_the_lease_outlasts_it() {
        let (world, point) = (World::new(), nsg("web-nsg"));
        let mut held = take(&world.ajar, &point).await.unwrap().unwrap();
        world.clock.advance(LENGTH - SignedDuration::from_secs(1));
        let now = held.now();
        held.before_write(now).await.unwrap();
        // The write may take its whole limit: nobody takes the lease over meanwhile.
        world.clock.advance(WRITE_LIMIT);
        assert!(take(&world.ajar, &point).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_renewal_that_stood_still_is_not_written_under() {
        let (world, point) = (World::new(), nsg("web-nsg"));
        let long = LENGTH - WRITE_LIMIT + SignedDuration::from_secs(1);
        for (slow, is_renewed) in [(1, true), (MOST_RENEWALS, false)] {
            let mut ajar = world.ajar.clone();
            // The first write takes the lease.
            let waits = std::iter::once(long).chain(std::iter::repeat_n(long, slow)).collect();
            let (inner, clock) = (world.store.clone(), world.clock.clone());
            ajar.ports.store = Arc::new(Slow { inner, clock, waits: Mutex::new(waits) });
            let mut held = take(&ajar, &point).await.unwrap().unwrap();
            let now = held.now();
            assert_eq!(held.before_write(now).await.is_ok(), is_renewed, "{slow} slow renewals");
            assert_eq!(is_renewed, ajar.ports.clock.now() + WRITE_LIMIT <= held.lease.until);
            held.free().await;
        }
    }

    #[tokio::test]
    async fn time_on_a_point_never_runs_backwards() {
        let (world, point) = (World::new(), nsg("web-nsg"));
        let mut ahead = take(&world.ajar, &point).await.unwrap().unwrap();
        let later = ahead.now() + SignedDuration::from_secs(3);
        ahead.before_write(later).await.unwrap();
        ahead.free().await;
        assert_eq!(take(&world.ajar, &point).await.unwrap().unwrap().now(), later);
    }
}
