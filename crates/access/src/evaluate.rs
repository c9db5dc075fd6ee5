//! Looking at what events tell about: verdicts are made anew, templates applied, policies kept where their VMs are,
//! drift put right. Everything is decided from the present state; an event only says where to look, and who was there.

use crate::Ajar;
use crate::assess;
use crate::assessment_store::{self, StoredAssessment};
use crate::behind;
use crate::configure;
use crate::drift;
use crate::due::{self, GUARD_DELAY, Task};
use crate::error::AccessError;
use crate::lease;
use crate::look::{self, Begun, Gone, Noted, Trace};
use crate::notification::Happened;
use crate::policy::{JitPolicy, OnDrift, PolicyPoint, PolicyState};
use crate::policy_store;
use crate::ports::azure::AzureError;
use crate::ports::bus::{LookMessage, Queue};
use crate::ports::identity::Caller;
use crate::read_back;
use crate::resource_event::ResourceEvent;
use crate::retire::{self, Retired};
use crate::scope;
use crate::send;
use crate::store_marker;
use crate::template::{Template, TemplateMode};
use crate::template_start;
use crate::vm_history;
use ajar_network::assessment::{Assessment, Reason, Status, assess};
use ajar_network::estate::Estate;
use ajar_network::resource_id::ResourceId;
use futures::stream::{self, StreamExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How long Ajar's own write may take until it was read back; only then is there something to look at.
const OWN_WAIT: SignedDuration = SignedDuration::from_secs(15);

/// How long after a write's read-back began its event's time may lie: what the provider takes to tell of it, and the
/// difference of the clocks.
const OWN_SKEW: SignedDuration = SignedDuration::from_secs(30);

/// How many VMs are evaluated at once.
const CONCURRENCY: usize = 8;

/// A verdict that did not change is written again after so long, so that its time says that somebody looks.
const RENEWED_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// The shortest and longest wait until a deleted VM is looked at again whose address is still held.
const GONE_WAIT: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(5), SignedDuration::from_hours(1));

const VIRTUAL_MACHINE: &str = "Microsoft.Compute/virtualMachines";
const NETWORK_SECURITY_GROUP: &str = "Microsoft.Network/networkSecurityGroups";

/// Takes note of an event; the resource to look at now, if any. A later look is sent word of.
///
/// # Errors
/// [`AccessError::Unavailable`] when the store is: the event is to be handled again.
pub(crate) async fn on_event(ajar: &Ajar, event: &ResourceEvent) -> Result<Option<ResourceId>, AccessError> {
    let Some(subject) = event.subject() else { return Ok(None) };
    if !scope::holds(ajar, subject.subscription()).await? {
        return Ok(None);
    }
    let mut wait = SignedDuration::ZERO;
    if subject.is_type(NETWORK_SECURITY_GROUP) && is_own(ajar, event.author.as_ref()).await {
        if was_read_back(ajar, &subject, event.at).await? || lease::is_held(ajar, &subject).await? {
            return Ok(None);
        }
        wait = OWN_WAIT;
    }
    plan_look(ajar, &subject, Some(event), wait).await
}

/// Plans a look; the subject when it is to be looked at now.
async fn plan_look(
    ajar: &Ajar,
    subject: &ResourceId,
    event: Option<&ResourceEvent>,
    wait: SignedDuration,
) -> Result<Option<ResourceId>, AccessError> {
    match look::note(ajar, subject, event, wait).await? {
        Noted::Covered => Ok(None),
        Noted::Planned(at) if at <= ajar.ports.clock.now() => Ok(Some(subject.clone())),
        Noted::Planned(at) => {
            let message = LookMessage { look: subject.clone(), attempt: 0 };
            send::send_at(ajar, Queue::VmEvents, &message, Some(at)).await;
            Ok(None)
        }
    }
}

/// Plans a look at a VM or NSG that does not seem to be as it was last seen, and sends word of it.
pub(crate) async fn look_later(ajar: &Ajar, subject: &ResourceId) -> Result<(), AccessError> {
    if let Some(subject) = plan_look(ajar, subject, None, SignedDuration::ZERO).await? {
        send::send_at(ajar, Queue::VmEvents, &LookMessage { look: subject, attempt: 0 }, None).await;
    }
    Ok(())
}

/// Whether it was Ajar's own identity. When that cannot be told, it was somebody else.
async fn is_own(ajar: &Ajar, author: Option<&Caller>) -> bool {
    let Some(author) = author else { return false };
    match ajar.ports.azure.own_object_id().await {
        Ok(own) => own.is_some_and(|own| own.eq_ignore_ascii_case(&author.object_id)),
        Err(error) => {
            tracing::warn!(%error, "Ajar's own object id cannot be told; its writes are looked at like others'");
            false
        }
    }
}

/// Whether the point was read back clean after Ajar's write of that time. Reconcile reads back whatever it writes and
/// leaves a due row where it could not, so its event adds nothing, and nothing either while a reconcile is at it.
async fn was_read_back(
    ajar: &Ajar,
    point: &ResourceId,
    written: Option<Timestamp>,
) -> Result<bool, AccessError> {
    let Some(written) = written else { return Ok(false) };
    Ok(read_back::at(ajar, point).await?.is_some_and(|at| at + OWN_SKEW >= written))
}

/// Does a look that was planned. Nothing when somebody else has begun it.
///
/// # Errors
/// [`AccessError::Unavailable`] when the store or Azure is: the look stays due.
pub async fn look(ajar: &Ajar, subject: &ResourceId) -> Result<(), AccessError> {
    do_look(ajar, subject, false).await
}

/// Does a look that is overdue: its message was lost, or whoever began it did not end it.
pub(crate) async fn look_overdue(ajar: &Ajar, subject: &ResourceId) -> Result<(), AccessError> {
    do_look(ajar, subject, true).await
}

async fn do_look(ajar: &Ajar, subject: &ResourceId, is_overdue: bool) -> Result<(), AccessError> {
    let Some(begun) = look::begin(ajar, subject, is_overdue).await? else { return Ok(()) };
    let Begun { look, traces } = begun;
    let mut others = Vec::new();
    for trace in &traces {
        if !is_own(ajar, trace.by.as_ref()).await {
            others.push(trace.clone());
        }
    }
    let mut reported = look.reported.clone();
    let mut gone = None;
    if subject.is_type(VIRTUAL_MACHINE) {
        gone = look_at_vm(ajar, subject, &others, look.gone.clone()).await?;
    } else {
        let is_point = subject.is_type(NETWORK_SECURITY_GROUP);
        let last = traces.iter().filter_map(|trace| trace.at).max();
        let is_known = is_point && !traces.is_empty() && others.is_empty();
        if !(is_known && was_read_back(ajar, subject, last).await?) {
            if is_point {
                reported = drift::look_at_point(ajar, subject, &others, look.reported.as_deref()).await?;
            }
            look_behind(ajar, subject, &others).await?;
        }
    }
    look::end(ajar, &look, |look| {
        look.reported.clone_from(&reported);
        look.gone.clone_from(&gone);
    })
    .await?;
    if let Some(gone) = gone {
        let age = ajar.ports.clock.now().duration_since(gone.since);
        let wait = age.clamp(GONE_WAIT.0, GONE_WAIT.1);
        plan_look(ajar, subject, None, wait).await?;
    }
    Ok(())
}

/// Evaluates every VM behind a resource. One that fails keeps none of the others from being evaluated.
async fn look_behind(ajar: &Ajar, subject: &ResourceId, traces: &[Trace]) -> Result<(), AccessError> {
    let Some(behind) = behind::read(ajar, subject).await? else { return Ok(()) };
    let vms = behind.vms();
    let shared =
        behind.estate.map(|resources| (Estate::from_resources(resources.iter().cloned()), resources));
    let mut failed = None;
    let mut done = stream::iter(vms)
        .map(|vm| {
            let shared = &shared;
            async move {
                let evaluated = match shared {
                    Some((estate, resources)) => evaluate(ajar, &vm, estate, resources, traces).await,
                    None => look_at_vm(ajar, &vm, traces, None).await.map(|_| ()),
                };
                evaluated.map_err(|error| (vm, error))
            }
        })
        .buffer_unordered(CONCURRENCY);
    while let Some(outcome) = done.next().await {
        if let Err((vm, error)) = outcome {
            tracing::error!(%vm, error = error.log_text(), "a VM could not be evaluated");
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Reads a VM and evaluates it. Returns what is remembered of one that is gone while its protection cannot go.
async fn look_at_vm(
    ajar: &Ajar,
    vm: &ResourceId,
    traces: &[Trace],
    before: Option<Gone>,
) -> Result<Option<Gone>, AccessError> {
    match ajar.ports.azure.vm_estate(vm).await {
        Ok(resources) => {
            let estate = Estate::from_resources(resources.iter().cloned());
            evaluate(ajar, vm, &estate, &resources, traces).await?;
            Ok(None)
        }
        Err(AzureError::NotFound(_)) => {
            let mut deletions = traces.iter().rev().filter(|trace| trace.resource == *vm);
            let by = deletions.find_map(|trace| trace.by.clone());
            let mut gone = before.unwrap_or_else(|| Gone { since: ajar.ports.clock.now(), by: None });
            gone.by = gone.by.or(by);
            Ok(match retire::vm_is_gone(ajar, vm, gone.by.as_ref()).await? {
                Retired::Yes => None,
                Retired::NotYet => Some(gone),
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Evaluates a VM from resources that were read just now.
async fn evaluate(
    ajar: &Ajar,
    vm: &ResourceId,
    estate: &Estate,
    resources: &[Value],
    traces: &[Trace],
) -> Result<(), AccessError> {
    let vm_id = configure::vm_id_of(resources, vm);
    let before = assessment_store::read(ajar, vm).await?.map(|stored| stored.content);
    let known = before.filter(|before| before.vm_id == vm_id);
    let mut template = known.as_ref().and_then(|known| known.template.clone());
    let mut policy = policy_store::read(ajar, vm).await?.map(|stored| stored.content);
    match &policy {
        Some(found) if found.state == PolicyState::Enabled => {
            policy = Some(keep_up(ajar, found, vm_id.as_deref(), estate, traces).await?);
        }
        None if template.is_none() && !known.as_ref().is_some_and(|known| known.declined) => {
            let machine = configure::machine(resources, vm);
            if let Some(fits) = ajar.settings.templates.best(vm, &machine.map(tags).unwrap_or_default()) {
                let is_new = template_start::is_new(ajar, &fits.name, machine.and_then(created)).await?;
                let (is_applied, turned_on) = apply(ajar, fits, is_new, vm, resources).await?;
                policy = turned_on;
                template = is_applied.then(|| fits.name.clone());
            }
        }
        _ => {}
    }
    let jit = assess::jit_status(ajar, policy.as_ref(), estate).await?;
    let assessment = assess(estate, vm, jit);
    let status = known.and_then(|known| known.assessment).map(|assessment| assessment.status);
    store(ajar, vm, vm_id, assessment, template, status).await
}

/// Keeps an enabled policy where its VM is now.
async fn keep_up(
    ajar: &Ajar,
    policy: &JitPolicy,
    vm_id: Option<&str>,
    estate: &Estate,
    traces: &[Trace],
) -> Result<JitPolicy, AccessError> {
    let vm = &policy.vm;
    let by = traces.iter().rev().find_map(|trace| trace.by.as_ref());
    let is_another = policy.vm_id.as_deref().zip(vm_id).is_some_and(|(old, new)| old != new);
    if is_another {
        retire::end_access_to_former(ajar, policy, by).await?;
    }
    let present = configure::points_in(estate, vm)?;
    let wanted = configure::with_left(&present, &policy.points);
    let has_moved = !same_points(&wanted, &policy.points);
    let is_new_vm_id = vm_id.is_some() && policy.vm_id.as_deref() != vm_id;
    if !has_moved && !is_new_vm_id {
        return Ok(policy.clone());
    }
    let swapped = has_moved.then(|| swap(&policy.points, &present)).flatten();
    if let Some(what) = &swapped {
        let is_left = policy.terms.on_drift == OnDrift::Report && !is_another;
        let end = if is_left { "reported only, as the policy says" } else { "Ajar protects it there" };
        let told = format!("drift: {what}; {end}");
        if is_left {
            let told_last = vm_history::last(ajar, vm).await?;
            if told_last.is_none_or(|last| last.what != told) {
                vm_history::tell(ajar, vm, by, &told).await?;
            }
            return Ok(policy.clone());
        }
        vm_history::tell(ajar, vm, by, &told).await?;
    }
    let now = ajar.ports.clock.now();
    let guard = due::note(ajar, now + GUARD_DELAY, Task::Project { vm: vm.clone() }).await?;
    let after = policy_store::change(ajar, vm, |before| {
        let before = before.filter(|before| before.state == PolicyState::Enabled)?;
        let points = configure::with_left(&present, &before.points);
        Some(Some(JitPolicy { points, vm_id: vm_id.map(str::to_owned).or(before.vm_id.clone()), ..before }))
    })
    .await?;
    configure::project(ajar, vm).await?;
    due::forget(ajar, &guard).await?;
    tracing::info!(%vm, has_moved, is_another, "a policy was moved to where its VM is now");
    Ok(after.unwrap_or_else(|| policy.clone()))
}

/// Whether an enabled policy is not where its VM is, as far as that can be told.
pub(crate) fn has_moved(estate: &Estate, policy: &JitPolicy, vm_id: Option<&str>) -> bool {
    let is_another = vm_id.is_some() && policy.vm_id.as_deref() != vm_id;
    let has_moved = configure::points_in(estate, &policy.vm)
        .map(|present| !same_points(&configure::with_left(&present, &policy.points), &policy.points));
    is_another || has_moved.unwrap_or(false)
}

fn same_points(one: &[PolicyPoint], other: &[PolicyPoint]) -> bool {
    let set = |points: &[PolicyPoint]| -> BTreeSet<(ResourceId, BTreeSet<std::net::IpAddr>)> {
        points.iter().map(|place| (place.point.clone(), place.addresses.iter().copied().collect())).collect()
    };
    set(one) == set(other)
}

/// What became of the NSGs in front of a VM; `None` when they are the same.
fn swap(before: &[PolicyPoint], now: &[PolicyPoint]) -> Option<String> {
    let names = |points: &[PolicyPoint], others: &[PolicyPoint]| -> Vec<String> {
        let is_there = |place: &PolicyPoint| {
            others.iter().any(|other| other.point == place.point && !other.addresses.is_empty())
        };
        let here = points.iter().filter(|place| !place.addresses.is_empty() && !is_there(place));
        here.map(|place| place.point.name().to_owned()).collect()
    };
    let (left, come) = (names(before, now), names(now, before));
    match (left.is_empty(), come.is_empty()) {
        (true, true) => None,
        (false, true) => Some(format!("{} does not filter the VM any more", left.join(", "))),
        (true, false) => Some(format!("{} filters the VM now", come.join(", "))),
        (false, false) => {
            Some(format!("{} filters the VM in the place of {}", come.join(", "), left.join(", ")))
        }
    }
}

/// A VM's tags.
pub(crate) fn tags(machine: &Value) -> BTreeMap<String, String> {
    let tags = machine.get("tags").and_then(Value::as_object);
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    tags.into_iter().flatten().filter_map(text).collect()
}

/// When a VM was created.
fn created(machine: &Value) -> Option<Timestamp> {
    machine.pointer("/properties/timeCreated")?.as_str()?.parse().ok()
}

/// Applies a template to a VM that has no policy; one that was there before the template is only told about. Whether it was applied, and the policy if it turned JIT on.
async fn apply(
    ajar: &Ajar,
    template: &Template,
    is_new: bool,
    vm: &ResourceId,
    resources: &[Value],
) -> Result<(bool, Option<JitPolicy>), AccessError> {
    let by = template.as_configurer();
    if template.mode == TemplateMode::Report || !is_new {
        let ports: Vec<String> = template.terms.ports.iter().map(|port| port.ports.to_string()).collect();
        let old = if is_new { "" } else { "; the VM is older than the template, so people turn JIT on" };
        let what = format!("template {} fits and would shut ports {}{old}", template.name, ports.join(", "));
        vm_history::note(ajar, vm, Some(&by), &what).await?;
        return Ok((true, None));
    }
    if template.mode == TemplateMode::ProtectAfterApproval {
        let ports: Vec<String> = template.terms.ports.iter().map(|port| port.ports.to_string()).collect();
        let what = format!(
            "template {} shuts ports {} once somebody approves it (POST /api/policies/approve-template)",
            template.name,
            ports.join(", ")
        );
        vm_history::want_approval(ajar, vm, &by, &what).await?;
        return Ok((true, None));
    }
    match configure::turn_on(ajar, &by, vm, template.terms.clone(), resources).await {
        Ok(policy) => {
            let what = format!("JIT was turned on by template {}", template.name);
            vm_history::note(ajar, vm, Some(&by), &what).await?;
            Ok((true, Some(policy)))
        }
        // It gets its policy when an NSG is put before it: that is an event too.
        Err(AccessError::Conflict { code: "NoEnforcementPoint", .. }) => Ok((false, None)),
        // The next sweep over the estate looks at it again.
        Err(AccessError::Conflict { code: store_marker::RESTORED, .. }) => Ok((true, None)),
        Err(error) => Err(error),
    }
}

/// Stores a verdict, and tells of one that changed.
async fn store(
    ajar: &Ajar,
    vm: &ResourceId,
    vm_id: Option<String>,
    assessment: Assessment,
    template: Option<String>,
    before: Option<Status>,
) -> Result<(), AccessError> {
    let now = ajar.ports.clock.now();
    assessment_store::change(ajar, vm, |stored| {
        let known = stored.filter(|stored| stored.vm_id == vm_id);
        let verdict = known.and_then(|known| known.assessment.as_ref());
        let is_same = verdict == Some(&assessment) && known.is_some_and(|known| known.template == template);
        if is_same && known.is_some_and(|known| now.duration_since(known.at) < RENEWED_AFTER) {
            return None;
        }
        let since = known
            .filter(|_| verdict.is_some_and(|verdict| verdict.status == assessment.status))
            .map_or(now, |known| known.since);
        let after = StoredAssessment {
            vm: vm.clone(),
            vm_id: vm_id.clone(),
            assessment: Some(assessment.clone()),
            since,
            at: now,
            template: template.clone(),
            declined: known.is_some_and(|known| known.declined),
        };
        let was = verdict.map(|verdict| verdict.status);
        Some((after, told(was, &assessment)))
    })
    .await?;
    if before != Some(assessment.status) {
        tracing::info!(%vm, ?before, now = ?assessment.status, "a verdict changed");
    }
    Ok(())
}

/// What is told of a verdict: that it is another one, or that a new VM is open.
fn told(before: Option<Status>, now: &Assessment) -> Option<Happened> {
    is_news(before, now.status).then(|| Happened::VerdictChanged {
        before: before.map(|before| before.name().to_owned()),
        after: now.status.name().to_owned(),
        reason: why(&now.reason).to_owned(),
    })
}

/// Whether people are to hear of a verdict: it is another one, or that of a new VM that is open.
pub(crate) fn is_news(before: Option<Status>, now: Status) -> bool {
    before.map_or(now == Status::Unhealthy, |before| before != now)
}

fn why(reason: &Reason) -> &'static str {
    match reason {
        Reason::JitEnabled { protected_in_part: false } => "just-in-time access is on",
        Reason::JitEnabled { protected_in_part: true } => "just-in-time access is on, in part",
        Reason::NsgClosed => "no rule opens a management port",
        Reason::ManagementPortsOpen => "management ports are open",
        Reason::NoEnforcementPoint => "no network security group filters it",
        Reason::ClassicVm | Reason::ScaleSetInstance => "this kind of VM is not supported",
        Reason::VmNotFound => "it was not found",
        Reason::BehindFirewall { .. } => "a firewall or appliance is on the way to it",
        Reason::Unreadable { .. } => "not everything could be read",
    }
}
