//! The lease of an enforcement point: one row, never deleted, each change with its ETag, so that at any time
//! one reconciler writes to the point.

use crate::Ajar;
use crate::document::{Document, Stored, encode, stored};
use crate::error::AccessError;
use crate::keys::Key;
use crate::point::{StoreOrAccess, partition};
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

/// When whoever came in vain looks whether the holder has done what it came for: a holder may die, or fail.
const COME_BACK: SignedDuration = SignedDuration::from_secs(5);

/// How often word is left again when the holder changes the row at the same time.
const ATTEMPTS: usize = 8;

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
    /// When the first of those who came in vain comes back. It stands for all who come before: the holder looks once
    /// more before it frees the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    awaited: Option<Timestamp>,
    /// The latest moment for which the point was read back clean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clean_at: Option<Timestamp>,
}

impl Lease {
    fn is_held(&self, now: Timestamp) -> bool {
        !self.owner.is_empty() && now < self.until + GRACE
    }
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
    found: Option<Stored<Lease>>,
}

/// What came of taking a lease.
pub(crate) enum Taking<'a> {
    Taken(Held<'a>),
    /// Somebody else has had it for a while.
    InVain(Found<'a>),
    /// Somebody else took it after it was found free, and so sees whatever this one came for.
    Overtaken,
}

/// Looks at the lease of `point`.
pub(crate) async fn find<'a>(ajar: &'a Ajar, point: &'a ResourceId) -> Result<Found<'a>, AccessError> {
    Ok(Found { ajar, point, found: read(ajar, point).await? })
}

async fn read(ajar: &Ajar, point: &ResourceId) -> Result<Option<Stored<Lease>>, AccessError> {
    let row: Option<Row> = ajar.ports.store.get(Table::Points, &partition(point), &row()).await?;
    row.as_ref().map(stored).transpose()
}

/// Whether somebody is at work on `point`: what is written to it now is read back by them, or guarded by due rows.
pub(crate) async fn is_held(ajar: &Ajar, point: &ResourceId) -> Result<bool, AccessError> {
    let now = ajar.ports.clock.now();
    Ok(read(ajar, point).await?.is_some_and(|found| found.content.is_held(now)))
}

impl<'a> Found<'a> {
    /// Whether the point was read back clean for `moment` or a later one.
    pub(crate) fn was_clean_at(&self, moment: Timestamp) -> bool {
        self.found.as_ref().and_then(|found| found.content.clean_at).is_some_and(|at| moment <= at)
    }

    /// Takes it, unless another holds it.
    pub(crate) async fn take(self) -> Result<Taking<'a>, AccessError> {
        let now = self.ajar.ports.clock.now();
        if self.found.as_ref().is_some_and(|before| before.content.is_held(now)) {
            return Ok(Taking::InVain(self));
        }
        let Found { ajar, point, found: before } = self;
        let lease = Lease {
            owner: ajar.ports.ids.fresh(),
            until: now + LENGTH,
            last_now: before.as_ref().map_or(now, |before| before.content.last_now.max(now)),
            operation: before.as_ref().and_then(|before| before.content.operation.clone()),
            awaited: None,
            clean_at: before.as_ref().and_then(|before| before.content.clean_at),
        };
        let was_abandoned = before.as_ref().is_some_and(|before| !before.content.owner.is_empty());
        let document = encode(&lease)?;
        let change = match before {
            Some(before) => Change::Replace { row: row(), document, etag: before.etag },
            None => Change::Insert { row: row(), document },
        };
        match ajar.ports.store.commit(Table::Points, &partition(point), &[change]).await {
            Ok(etags) => Ok(Taking::Taken(Held { ajar, point, lease, etag: first(etags)?, was_abandoned })),
            // The row of a free lease is changed by nothing but its being taken; that of an abandoned one by a holder who
            // is only slow as well.
            Err(StoreError::Conflict) if was_abandoned => Ok(Taking::InVain(find(ajar, point).await?)),
            Err(StoreError::Conflict) => Ok(Taking::Overtaken),
            Err(error) => Err(error.into()),
        }
    }

    /// Leaves word for the holder, who then looks once more. Returns when to come back, lest the holder dies or fails;
    /// `None` when somebody who came before does that.
    pub(crate) async fn leave_word(self) -> Result<Option<Timestamp>, AccessError> {
        let Found { ajar, point, mut found } = self;
        let mut now = ajar.ports.clock.now();
        for _ in 0..ATTEMPTS {
            now = ajar.ports.clock.now();
            // Free by now.
            let Some(held) = found.filter(|found| found.content.is_held(now)) else { return Ok(Some(now)) };
            if held.content.awaited.is_some_and(|at| now < at) {
                return Ok(None);
            }
            let back = now + COME_BACK;
            let lease = Lease { awaited: Some(back), ..held.content };
            let change = Change::Replace { row: row(), document: encode(&lease)?, etag: held.etag };
            match ajar.ports.store.commit(Table::Points, &partition(point), &[change]).await {
                Ok(_) => return Ok(Some(back)),
                Err(StoreError::Conflict) => found = read(ajar, point).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(now + COME_BACK))
    }
}

fn first(etags: Vec<Option<Etag>>) -> Result<Etag, AccessError> {
    etags
        .into_iter()
        .next()
        .flatten()
        .ok_or_else(|| AccessError::internal("the store gave no ETag for a lease"))
}

/// What became of a lease that was to be freed.
pub(crate) enum Freed<'a> {
    Yes,
    /// Somebody came in vain meanwhile: the lease is kept, for a look that begins after that.
    Awaited(Held<'a>),
}

impl<'a> Held<'a> {
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

    /// Notes that the point was read back clean for the moment `now`, to be recorded when the lease is freed.
    pub(crate) fn note_clean(&mut self, now: Timestamp) {
        self.lease.clean_at = self.lease.clean_at.max(Some(now));
    }

    /// Frees the lease, whoever waits for it. When that fails it runs out by itself.
    pub(crate) async fn free(mut self) {
        let point = self.point;
        if let Err(error) = self.let_go().await {
            tracing::warn!(%point, error = error.log_text(), "a lease was not freed and will run out");
        }
    }

    async fn let_go(&mut self) -> Result<(), AccessError> {
        self.lease.awaited = None;
        let owner = std::mem::take(&mut self.lease.owner);
        match self.commit(None).await {
            Err(StoreOrAccess::Conflict) => {
                self.lease.owner = owner;
                self.refresh().await?;
                self.lease.awaited = None;
                self.lease.owner = String::new();
                Ok(self.commit(None).await?)
            }
            freed => Ok(freed?),
        }
    }

    /// Frees the lease, unless somebody came in vain, and makes another change of the point's partition with it, which
    /// only its holder may.
    ///
    /// # Errors
    /// [`AccessError::Unavailable`] when somebody took the lease over, or the store is not there: the change may
    /// not have been made.
    pub(crate) async fn free_with(mut self, also: Option<Change>) -> Result<Freed<'a>, AccessError> {
        if self.lease.awaited.is_none() {
            let owner = std::mem::take(&mut self.lease.owner);
            match self.commit(also.as_ref()).await {
                Ok(()) => return Ok(Freed::Yes),
                Err(StoreOrAccess::Conflict) => {
                    self.lease.owner = owner;
                    self.refresh().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        // From here on others leave word anew: the look that follows begins after this write.
        self.lease.awaited = None;
        self.lease.until = self.ajar.ports.clock.now() + LENGTH;
        self.was_abandoned = false;
        self.save_with(also).await?;
        Ok(Freed::Awaited(self))
    }

    async fn save(&mut self) -> Result<(), AccessError> {
        self.save_with(None).await
    }

    async fn save_with(&mut self, also: Option<Change>) -> Result<(), AccessError> {
        match self.commit(also.as_ref()).await {
            Err(StoreOrAccess::Conflict) => {
                self.refresh().await?;
                Ok(self.commit(also.as_ref()).await?)
            }
            saved => Ok(saved?),
        }
    }

    async fn commit(&mut self, also: Option<&Change>) -> Result<(), StoreOrAccess> {
        let document = encode(&self.lease).map_err(StoreOrAccess::Access)?;
        let own = Change::Replace { row: row(), document, etag: self.etag.clone() };
        let changes: Vec<Change> = std::iter::once(own).chain(also.cloned()).collect();
        match self.ajar.ports.store.commit(Table::Points, &partition(self.point), &changes).await {
            Ok(etags) => {
                self.etag = first(etags).map_err(StoreOrAccess::Access)?;
                Ok(())
            }
            Err(StoreError::Conflict) => Err(StoreOrAccess::Conflict),
            Err(error) => Err(StoreOrAccess::Access(error.into())),
        }
    }

    /// Takes over what others changed of the row: word that they left.
    async fn refresh(&mut self) -> Result<(), AccessError> {
        match read(self.ajar, self.point).await? {
            Some(found) if found.content.owner == self.lease.owner => {
                self.etag = found.etag;
                self.lease.awaited = found.content.awaited;
                Ok(())
            }
            // Somebody took the lease over.
            _ => Err(StoreError::Conflict.into()),
        }
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
        Ok(match find(ajar, point).await?.take().await? {
            Taking::Taken(held) => Some(held),
            Taking::InVain(_) | Taking::Overtaken => None,
        })
    }

    /// Comes while somebody holds it, and leaves word.
    async fn come_in_vain(ajar: &Ajar, point: &ResourceId) -> Result<Option<Timestamp>, AccessError> {
        find(ajar, point).await?.leave_word().await
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

    #[tokio::test]
    async fn the_first_who_comes_in_vain_comes_back_for_all_and_the_holder_looks_once_more() {
        let (world, point) = (World::new(), nsg("web-nsg"));
        let mut held = take(&world.ajar, &point).await.unwrap().unwrap();
        let back = come_in_vain(&world.ajar, &point).await.unwrap();
        assert_eq!(back, Some(world.ajar.ports.clock.now() + COME_BACK));
        assert_eq!(come_in_vain(&world.ajar, &point).await.unwrap(), None);
        // Word that others left is no reason to believe that somebody took the lease over.
        let now = held.now() + SignedDuration::from_secs(1);
        held.before_write(now).await.unwrap();
        let Freed::Awaited(held) = held.free_with(None).await.unwrap() else { panic!("somebody waits") };
        assert!(take(&world.ajar, &point).await.unwrap().is_none(), "it is still held");
        // Who comes now may have changed what the look that begins now has read by then.
        assert!(come_in_vain(&world.ajar, &point).await.unwrap().is_some());
        let Freed::Awaited(held) = held.free_with(None).await.unwrap() else { panic!("somebody waits") };
        assert!(matches!(held.free_with(None).await.unwrap(), Freed::Yes));
        assert!(take(&world.ajar, &point).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn who_comes_back_while_it_is_held_still_leaves_word_again() {
        let (world, point) = (World::new(), nsg("web-nsg"));
        let _dead = take(&world.ajar, &point).await.unwrap().unwrap();
        assert!(come_in_vain(&world.ajar, &point).await.unwrap().is_some());
        world.clock.advance(COME_BACK);
        assert!(come_in_vain(&world.ajar, &point).await.unwrap().is_some());
        world.clock.advance(LENGTH);
        let now = world.ajar.ports.clock.now();
        assert_eq!(
            come_in_vain(&world.ajar, &point).await.unwrap(),
            Some(now),
            "it has run out: come at once"
        );
    }

    #[tokio::test]
    async fn a_clean_read_back_is_remembered_for_its_moment() {
        let (world, point) = (World::new(), nsg("web-nsg"));
        let mut held = take(&world.ajar, &point).await.unwrap().unwrap();
        let now = held.now();
        held.note_clean(now);
        held.note_clean(now - SignedDuration::from_secs(9));
        held.free_with(None).await.unwrap();
        let found = find(&world.ajar, &point).await.unwrap();
        assert!(found.was_clean_at(now) && !found.was_clean_at(now + SignedDuration::from_secs(1)));
    }
}
