//! The rows of JIT policies: read, listed, and changed until nobody came between.

use crate::Ajar;
use crate::document::{Stored, encode, stored};
use crate::error::AccessError;
use crate::keys::Key;
use crate::point::vm_key;
use crate::policy::{JitPolicy, PolicyPoint, PolicyState};
use crate::ports::store::{Change, Range, StoreError, Table, scan_all};
use ajar_network::resource_id::ResourceId;

/// How often a change of a policy is tried again when others change it at the same time.
const ATTEMPTS: usize = 20;

/// The most policies that one subscription's list holds.
const MOST_POLICIES: usize = 100_000;

/// Takes note that `point` no longer has anything of the policy of `vm`; the last one removes the policy. A policy
/// that was turned on again meanwhile keeps the point: it is about to be projected there.
pub(crate) async fn released_by(ajar: &Ajar, vm: &ResourceId, point: &ResourceId) -> Result<(), AccessError> {
    change(ajar, vm, |before| {
        let mut policy = before?;
        let is_wanted =
            |place: &PolicyPoint| policy.state == PolicyState::Enabled && !place.addresses.is_empty();
        policy.points.retain(|place| place.point != *point || is_wanted(place));
        let is_over = policy.state != PolicyState::Enabled && policy.points.is_empty();
        Some(if is_over { None } else { Some(policy) })
    })
    .await
    .map(|_| ())
}

/// Reads, changes and writes a policy until nobody came between. `next` answers `None` to leave it as it is,
/// `Some(None)` to remove it. Returns the policy as it is then.
pub(crate) async fn change(
    ajar: &Ajar,
    vm: &ResourceId,
    next: impl Fn(Option<JitPolicy>) -> Option<Option<JitPolicy>>,
) -> Result<Option<JitPolicy>, AccessError> {
    for _ in 0..ATTEMPTS {
        let before = read(ajar, vm).await?;
        let etag = before.as_ref().map(|before| before.etag.clone());
        let before = before.map(|before| before.content);
        let Some(after) = next(before.clone()) else { return Ok(before) };
        let row = vm_key(vm);
        let change = match (&after, etag) {
            (Some(policy), Some(etag)) => Change::Replace { row, document: encode(policy)?, etag },
            (Some(policy), None) => Change::Insert { row, document: encode(policy)? },
            (None, Some(etag)) => Change::Delete { row, etag },
            (None, None) => return Ok(None),
        };
        match ajar.ports.store.commit(Table::Policies, &partition(vm.subscription()), &[change]).await {
            Ok(_) => return Ok(after),
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

fn partition(subscription: &str) -> Key {
    Key::new([subscription.to_ascii_lowercase()])
}

/// Reads the policy of a VM.
pub(crate) async fn read(ajar: &Ajar, vm: &ResourceId) -> Result<Option<Stored<JitPolicy>>, AccessError> {
    let row = ajar.ports.store.get(Table::Policies, &partition(vm.subscription()), &vm_key(vm)).await?;
    row.as_ref().map(stored).transpose()
}

/// Reads all policies of a subscription.
pub(crate) async fn read_all(ajar: &Ajar, subscription: &str) -> Result<Vec<JitPolicy>, AccessError> {
    let range = Range::partition(partition(subscription));
    let rows = scan_all(ajar.ports.store.as_ref(), Table::Policies, &range, MOST_POLICIES).await?;
    rows.iter().map(|row| stored(row).map(|stored: Stored<JitPolicy>| stored.content)).collect()
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::configure;
    use crate::testing::{World, nsg, user, vm};
    use serde_json::json;

    /// A reconcile that read the policy while it was being turned off, and records that after it was turned on again.
    #[tokio::test]
    async fn a_policy_that_was_turned_on_again_keeps_its_points() {
        let world = World::new();
        let policy = json!({ "vm": vm("web-1").as_str(), "ports": [{ "port": 22 }] });
        let policy = serde_json::from_value(policy).unwrap();
        configure::enable(&world.ajar, &user("alice"), &policy).await.unwrap();
        configure::disable(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap();
        configure::enable(&world.ajar, &user("alice"), &policy).await.unwrap();

        released_by(&world.ajar, &vm("web-1"), &nsg("web-nsg")).await.unwrap();
        let kept = read(&world.ajar, &vm("web-1")).await.unwrap().unwrap().content;
        assert_eq!(kept.points.len(), 1);

        configure::disable(&world.ajar, &user("alice"), &vm("web-1")).await.unwrap();
        released_by(&world.ajar, &vm("web-1"), &nsg("web-nsg")).await.unwrap();
        assert!(read(&world.ajar, &vm("web-1")).await.unwrap().is_none());
    }
}
