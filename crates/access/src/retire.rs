//! VMs that were deleted: their access ends at once, their protection goes when nothing holds their addresses.

use crate::Ajar;
use crate::assessment_store;
use crate::behind;
use crate::configure;
use crate::due::{self, GUARD_DELAY, Task};
use crate::error::AccessError;
use crate::policy::{JitPolicy, PolicyPoint, PolicyState};
use crate::policy_store;
use crate::ports::identity::{Caller, SignIn};
use crate::vm_history;
use ajar_network::resource_id::ResourceId;

/// Whether a deleted VM's protection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retired {
    /// It is, or going.
    Yes,
    /// A network interface still holds an address that is protected: look again later.
    NotYet,
}

/// Ajar itself, where nobody else is known to have done something.
fn ajar_itself() -> Caller {
    Caller {
        object_id: String::new(),
        tenant_id: String::new(),
        name: "Ajar".to_owned(),
        sign_in: SignIn::default(),
    }
}

/// Does what is to be done for a VM that Azure answered 404 for.
pub(crate) async fn vm_is_gone(
    ajar: &Ajar,
    vm: &ResourceId,
    by: Option<&Caller>,
) -> Result<Retired, AccessError> {
    let Some(policy) = policy_store::read(ajar, vm).await?.map(|stored| stored.content) else {
        assessment_store::remove(ajar, vm).await?;
        return Ok(Retired::Yes);
    };
    if policy.state == PolicyState::Enabled {
        let by = by.cloned().unwrap_or_else(ajar_itself);
        let ending = JitPolicy { configured_by: by.clone(), ..policy.clone() };
        configure::end_access(ajar, &ending, "ended: the VM was deleted").await?;
        // Absence never opens: an interface that outlives its VM may be given to another, with its address.
        for place in &policy.points {
            if is_held(ajar, place).await? {
                return Ok(Retired::NotYet);
            }
        }
        retire(ajar, vm, &by).await?;
    }
    assessment_store::remove(ajar, vm).await?;
    Ok(Retired::Yes)
}

async fn is_held(ajar: &Ajar, place: &PolicyPoint) -> Result<bool, AccessError> {
    if place.addresses.is_empty() {
        return Ok(false);
    }
    let Some(behind) = behind::read(ajar, &place.point).await? else { return Ok(false) };
    let held = behind.addresses();
    Ok(place.addresses.iter().any(|address| held.contains(address)))
}

async fn retire(ajar: &Ajar, vm: &ResourceId, by: &Caller) -> Result<(), AccessError> {
    let now = ajar.ports.clock.now();
    let guard = due::note(ajar, now + GUARD_DELAY, Task::Project { vm: vm.clone() }).await?;
    let after = policy_store::change(ajar, vm, |before| {
        let policy = before.filter(|policy| policy.state == PolicyState::Enabled)?;
        let points = configure::with_left(&[], &policy.points);
        let (configured_by, configured_at) = (by.clone(), now);
        Some(Some(JitPolicy { state: PolicyState::Retired, points, configured_by, configured_at, ..policy }))
    })
    .await?;
    if after.is_some_and(|policy| policy.state == PolicyState::Retired) {
        vm_history::note(ajar, vm, Some(by), "the VM was deleted; its JIT policy was retired").await?;
        configure::project(ajar, vm).await?;
        tracing::info!(%vm, "a deleted VM's policy was retired");
    }
    due::forget(ajar, &guard).await
}

/// Ends the access that was granted to the VM of this name that is no more: the one there now is another.
pub(crate) async fn end_access_to_former(
    ajar: &Ajar,
    policy: &JitPolicy,
    by: Option<&Caller>,
) -> Result<(), AccessError> {
    let by = by.cloned().unwrap_or_else(ajar_itself);
    let ending = JitPolicy { configured_by: by.clone(), ..policy.clone() };
    configure::end_access(ajar, &ending, "ended: the VM was created anew").await?;
    let what = "the VM was created anew under its name; access granted before does not apply to it";
    vm_history::note(ajar, &policy.vm, Some(&by), what).await
}
