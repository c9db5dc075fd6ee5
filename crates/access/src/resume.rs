//! Going on with tables that were restored from a backup, once somebody has checked them.
//!
//! Until then nothing is opened by what they say ([`store_marker`]). What they say was under way is ended first: the grants
//! may have been revoked since, the requests withdrawn or refused. What they say may go, goes: only policies that protect are
//! kept, so a deny that they would have removed stays and is reported as orphaned.

use crate::Ajar;
use crate::close;
use crate::document::stored;
use crate::due::{self, Task};
use crate::error::AccessError;
use crate::keys::Key;
use crate::life_cycle::CloseReason;
use crate::permission::{self, Operation};
use crate::point::{self, Grant, ProjectedPolicy};
use crate::policy::{JitPolicy, PolicyState};
use crate::policy_store;
use crate::ports::identity::Caller;
use crate::ports::store::{Change, Continuation, Page, Range, Row, StoreError, Table};
use crate::request::AccessRequest;
use crate::scope;
use crate::send;
use crate::store_marker::{self, Standing};
use ajar_network::resource_id::ResourceId;
use std::collections::BTreeSet;

/// What was done with restored tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Requests and grants that the tables said were under way, now ended.
    pub ended: usize,
    /// Policies that the tables said were being turned off, now forgotten: their denies stay and are reported.
    pub forgotten: usize,
    /// Policies that protect from now on.
    pub policies: usize,
    /// The store's new generation.
    pub generation: u64,
}

/// Ends what restored tables say is under way, then takes them for the current ones. Takes the right to configure in every
/// subscription of the deployment. Whoever is cut off half-way does it again: until the last step nothing is opened.
///
/// # Errors
/// [`AccessError::Forbidden`] naming what is missing, [`AccessError::Conflict`] with code `StoreNotRestored` when there is
/// nothing to resume, [`AccessError::Unavailable`] when something could not be read or written.
pub async fn resume(ajar: &Ajar, caller: &Caller) -> Result<Resumed, AccessError> {
    for subscription in &scope::read_anew(ajar).await? {
        let scope = format!("/subscriptions/{subscription}");
        for action in Operation::Configure.needs() {
            permission::require_on(ajar, caller, &scope, *action).await?;
        }
    }
    if store_marker::standing(ajar).await? != Standing::Restored {
        return Err(AccessError::Conflict {
            code: "StoreNotRestored",
            message: "the tables are not older than what is kept beside them: there is nothing to resume"
                .to_owned(),
        });
    }
    tracing::warn!(by = caller.object_id, "resuming with restored tables");
    let mut resumed = Resumed::default();
    let points = forget_releases(ajar, &mut resumed).await?;
    end_requests(ajar, caller, &mut resumed).await?;
    end_grants(ajar, &mut resumed).await?;
    let now = ajar.ports.clock.now();
    for point in &points {
        due::note(ajar, now, Task::Reconcile { point: point.clone() }).await?;
    }
    // Read again: whoever else resumed meanwhile has done all of the above as well.
    let seen = store_marker::look(ajar).await?;
    if seen.standing() != Standing::Restored {
        return Err(StoreError::Conflict.into());
    }
    resumed.generation = store_marker::accept(ajar, seen).await?;
    for point in &points {
        send::send_reconcile(ajar, point).await;
    }
    tracing::warn!(by = caller.object_id, ?resumed, "restored tables are current from now on");
    Ok(resumed)
}

/// The rows of a table, all or those whose key begins with a prefix, page after page.
struct Pages<'a> {
    ajar: &'a Ajar,
    table: Table,
    range: Range,
    from: Option<Continuation>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    fn of(ajar: &'a Ajar, table: Table, prefix: Option<&str>) -> Pages<'a> {
        let prefix = prefix.map(|prefix| Key::new([prefix]));
        let range = Range {
            first_partition: None,
            last_partition: None,
            first_row: prefix.as_ref().map(Key::first_under),
            last_row: prefix.as_ref().map(Key::last_under),
        };
        Pages { ajar, table, range, from: None, is_over: false }
    }

    /// The next page; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<Row>>, AccessError> {
        if self.is_over {
            return Ok(None);
        }
        let Page { rows, next } =
            self.ajar.ports.store.scan(self.table, &self.range, self.from.as_ref(), 1000).await?;
        self.is_over = next.is_none();
        self.from = next;
        Ok(Some(rows))
    }
}

/// Ends every request that is not over. A request whose chain or policy is damaged is not: the caller learns of it.
async fn end_requests(ajar: &Ajar, caller: &Caller, resumed: &mut Resumed) -> Result<(), AccessError> {
    let mut pages = Pages::of(ajar, Table::Requests, Some("r"));
    while let Some(rows) = pages.next().await? {
        for row in rows {
            let request = stored::<AccessRequest>(&row)?.content;
            if !request.status.is_final() {
                let what =
                    "ended: the tables were restored from a backup, which may be older than a revocation";
                close::end(ajar, &request.id, caller, CloseReason::Revoked, what).await?;
                resumed.ended += 1;
            }
        }
    }
    Ok(())
}

/// Removes grants that are to be open although no request says so any more: the tables of a backup need not be of one moment.
async fn end_grants(ajar: &Ajar, resumed: &mut Resumed) -> Result<(), AccessError> {
    let now = ajar.ports.clock.now();
    let mut pages = Pages::of(ajar, Table::Grants, Some("g"));
    while let Some(rows) = pages.next().await? {
        for row in rows {
            let grant = stored::<Grant>(&row)?;
            if now < grant.content.end {
                let delete = Change::Delete { row: row.row.clone(), etag: grant.etag };
                ajar.ports.store.commit(Table::Grants, &row.partition, &[delete]).await?;
                resumed.ended += 1;
            }
        }
    }
    Ok(())
}

/// Forgets what would let a deny go. Has the rest projected anew, and returns the points of all policies.
async fn forget_releases(ajar: &Ajar, resumed: &mut Resumed) -> Result<BTreeSet<ResourceId>, AccessError> {
    let mut pages = Pages::of(ajar, Table::Grants, Some("p"));
    while let Some(rows) = pages.next().await? {
        for row in rows {
            if let Some(change) = without_release(&row)? {
                ajar.ports.store.commit(Table::Grants, &row.partition, &[change]).await?;
            }
        }
    }
    let now = ajar.ports.clock.now();
    let mut points = BTreeSet::new();
    // Of every subscription, also of one that is not looked after any more.
    let mut pages = Pages::of(ajar, Table::Policies, None);
    while let Some(rows) = pages.next().await? {
        for row in rows {
            let policy = stored::<JitPolicy>(&row)?.content;
            points.extend(policy.points.iter().map(|place| place.point.clone()));
            if policy.state == PolicyState::Enabled {
                due::note(ajar, now, Task::Project { vm: policy.vm }).await?;
                resumed.policies += 1;
            } else {
                policy_store::change(ajar, &policy.vm, |before| {
                    let is_over = before.is_some_and(|policy| policy.state != PolicyState::Enabled);
                    is_over.then_some(None)
                })
                .await?;
                resumed.forgotten += 1;
            }
        }
    }
    Ok(points)
}

/// What makes a policy's projection let nothing go, if it would.
fn without_release(row: &Row) -> Result<Option<Change>, AccessError> {
    let mut policy = stored::<ProjectedPolicy>(row)?;
    if policy.content.state != PolicyState::Enabled {
        return Ok(Some(Change::Delete { row: row.row.clone(), etag: policy.etag }));
    }
    if policy.content.released.is_empty() {
        return Ok(None);
    }
    policy.content.released.clear();
    point::replacement(row.row.clone(), &policy.content, policy.etag).map(Some)
}
