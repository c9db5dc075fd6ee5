//! Asking the organisation's policies about access: may it be asked for, does it need people, may this person approve.

use crate::Ajar;
use crate::error::AccessError;
use crate::evaluate;
use crate::ports::azure::AzureError;
use crate::ports::organisation::{Judgement, Machine, Person, Question, Want};
use crate::request::{AccessRequest, Wish};
use ajar_network::resource_id::ResourceId;
use serde_json::Value;

/// How many people have to approve, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApprovalWanted {
    pub(crate) needed: u32,
    pub(crate) why: String,
}

/// What the policies say about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may be opened, once as many people have approved it as are wanted, if any.
    Allowed {
        approval: Option<ApprovalWanted>,
        /// The policies that permit it.
        by: Vec<String>,
    },
    /// It may not; in a sentence for the requester.
    Denied(String),
}

/// What policies may know of a VM. Azure is asked only where one of them speaks of that.
///
/// # Errors
/// [`AccessError::Unavailable`] when Azure is: then nothing is allowed.
pub(crate) async fn machine(ajar: &Ajar, vm: &ResourceId) -> Result<Machine, AccessError> {
    if !ajar.ports.organisation.looks_at_machines() {
        return Ok(Machine::default());
    }
    let found = match ajar.ports.azure.resource(vm).await {
        Err(AzureError::NotFound(_)) => {
            return Err(AccessError::NotFound(format!("{} does not exist in Azure any more", vm.name())));
        }
        found => found?,
    };
    let location = found.get("location").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Machine { location, tags: evaluate::tags(&found) })
}

/// Asks one question.
pub(crate) fn judge(
    ajar: &Ajar,
    person: Person<'_>,
    vm: &ResourceId,
    machine: &Machine,
    channel: &str,
    want: Want<'_>,
) -> Judgement {
    let at = ajar.ports.clock.now();
    ajar.ports.organisation.judge(&Question { person, vm, machine, at, channel, want })
}

/// Asks about a wish: whether it may be asked for and whether it needs people, or whether the emergency may be called.
pub(crate) fn judge_wish(ajar: &Ajar, person: Person<'_>, wish: &Wish, machine: &Machine) -> Verdict {
    let ask = |want| judge(ajar, person, &wish.vm, machine, wish.channel(), want);
    if wish.break_glass {
        return match ask(Want::BreakGlass(wish)) {
            Judgement::Allowed { by } => Verdict::Allowed { approval: None, by },
            Judgement::Denied { reason, .. } => Verdict::Denied(reason),
        };
    }
    let by = match ask(Want::Request(wish)) {
        Judgement::Allowed { by } => by,
        Judgement::Denied { reason, .. } => return Verdict::Denied(reason),
    };
    match ask(Want::AutoApprove(wish)) {
        Judgement::Allowed { by: approved } => {
            Verdict::Allowed { approval: None, by: by.into_iter().chain(approved).collect() }
        }
        Judgement::Denied { reason, approvals } => {
            let approval = ApprovalWanted { needed: approvals.max(1), why: reason };
            Verdict::Allowed { approval: Some(approval), by }
        }
    }
}

/// The same for a stored request.
///
/// # Errors
/// As [`machine`].
pub(crate) async fn judge_request(ajar: &Ajar, request: &AccessRequest) -> Result<Verdict, AccessError> {
    let machine = match machine(ajar, &request.wish.vm).await {
        Err(AccessError::NotFound(reason)) => return Ok(Verdict::Denied(reason)),
        machine => machine?,
    };
    Ok(judge_wish(ajar, request.person(), &request.wish, &machine))
}

/// Checks that a wish may be asked for.
///
/// # Errors
/// [`AccessError::Forbidden`] naming the policies that forbid it and what would satisfy them.
pub(crate) async fn require_wish(ajar: &Ajar, person: Person<'_>, wish: &Wish) -> Result<(), AccessError> {
    let machine = machine(ajar, &wish.vm).await?;
    match judge_wish(ajar, person, wish, &machine) {
        Verdict::Allowed { .. } => Ok(()),
        Verdict::Denied(reason) => Err(AccessError::Forbidden(reason)),
    }
}

/// Checks that somebody may change how a VM is protected.
///
/// # Errors
/// As [`require_wish`].
pub(crate) async fn require_configure(
    ajar: &Ajar,
    person: Person<'_>,
    vm: &ResourceId,
    channel: &str,
) -> Result<(), AccessError> {
    let machine = machine(ajar, vm).await?;
    require(judge(ajar, person, vm, &machine, channel, Want::Configure))
}

/// Makes an error of a denial.
///
/// # Errors
/// As [`require_wish`].
pub(crate) fn require(judgement: Judgement) -> Result<(), AccessError> {
    match judgement {
        Judgement::Allowed { .. } => Ok(()),
        Judgement::Denied { reason, .. } => Err(AccessError::Forbidden(reason)),
    }
}

/// Whether `person` may approve a request that `approvals` others have approved already.
pub(crate) fn judge_approval(
    ajar: &Ajar,
    person: Person<'_>,
    request: &AccessRequest,
    machine: &Machine,
    approvals: usize,
) -> Judgement {
    let wish = &request.wish;
    let approvals = u32::try_from(approvals).unwrap_or(u32::MAX);
    let want = Want::Approve { wish, requester: request.person(), approvals };
    judge(ajar, person, &wish.vm, machine, "api", want)
}
