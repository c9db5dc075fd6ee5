//! Approving what a template proposes for a VM.

use crate::Ajar;
use crate::configure;
use crate::error::AccessError;
use crate::evaluate;
use crate::organisation;
use crate::permission::{self, Operation};
use crate::policy::{self, JitPolicy};
use crate::policy_store;
use crate::ports::identity::Caller;
use crate::vm_history;
use serde_json::Value;

/// Turns JIT on for a VM as the template that fits it best says: the one that proposed it, whatever its mode is. The
/// caller takes what configuring takes, and stands in the history and in the policy.
///
/// # Errors
/// As [`configure::enable`], with `vm` as the caller wrote it; [`AccessError::NotFound`] when no template fits, [`AccessError::Conflict`] with code
/// `HasPolicy` when the VM has a policy already.
pub async fn approve(ajar: &Ajar, caller: &Caller, vm: &str) -> Result<JitPolicy, AccessError> {
    let vm = &policy::parse_vm("vm", vm)?;
    configure::check_subscription(ajar, vm).await?;
    permission::require(ajar, caller, vm, Operation::Configure).await?;
    organisation::require_configure(ajar, caller.into(), vm, "api").await?;
    if policy_store::read(ajar, vm).await?.is_some() {
        return Err(AccessError::Conflict {
            code: "HasPolicy",
            message: format!("{} has a JIT policy: change that instead", vm.name()),
        });
    }
    let resources = ajar.ports.azure.vm_estate(vm).await?;
    let is_it = |resource: &&Value| {
        let id = resource.get("id").and_then(Value::as_str);
        id.is_some_and(|id| id.eq_ignore_ascii_case(vm.as_str()))
    };
    let tags = resources.iter().find(is_it).map(evaluate::tags).unwrap_or_default();
    let template = ajar.settings.templates.best(vm, &tags).ok_or_else(|| {
        AccessError::NotFound(format!("no template fits {}: turn JIT on with a policy of its own", vm.name()))
    })?;
    let policy = configure::turn_on(ajar, caller, vm, template.terms.clone(), &resources).await?;
    let what = format!("JIT was turned on as template {} proposes", template.name);
    vm_history::note(ajar, vm, Some(caller), &what).await?;
    Ok(policy)
}
