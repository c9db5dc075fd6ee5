//! The sweep over the whole estate: every verdict, drift, and rules that nobody accounts for.
//!
//! It reads lists of Azure Resource Graph, which may be minutes old. So it opens and closes nothing by what they say:
//! what differs from what is known is looked at in Azure Resource Manager, as after an event, and orphaned allow rules
//! are left to `reconcile`, which reads the point itself. What does not differ costs no call of Azure Resource Manager.
//!
//! A subscription is swept from its lists in memory; where the sweep is, stands in a row, and a message goes on there.

use crate::Ajar;
use crate::assess;
use crate::assessment_store::{self, StoredAssessment};
use crate::compliance_run::{self, ComplianceFinding, ComplianceRun};
use crate::configure;
use crate::document::Stored;
use crate::drift;
use crate::due::{self, GUARD_DELAY, Task};
use crate::error::AccessError;
use crate::evaluate;
use crate::heartbeat;
use crate::message;
use crate::metrics::{self, Metric};
use crate::point;
use crate::policy::{JitPolicy, PolicyState};
use crate::policy_store;
use crate::ports::bus::{ComplianceMessage, Queue};
use crate::ports::store::Etag;
use crate::scope;
use crate::send;
use crate::store_marker::{self, Standing};
use crate::watched;
use ajar_network::assessment::assess;
use ajar_network::estate::Estate;
use ajar_network::nsg::{Access, NetworkSecurityGroup};
use ajar_network::plan::{self, Note, RuleAction};
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How long one invocation sweeps before it hands on what is left.
const LONGEST: SignedDuration = SignedDuration::from_secs(60);

/// How many VMs are done between two writes of where the sweep is.
const CHUNK: usize = 1000;

/// After so many failures a subscription is left out and reported.
const MOST_FAILURES: u32 = 8;

/// A sweep that has not gone on for so long is begun anew.
const ABANDONED: SignedDuration = SignedDuration::from_hours(20);

/// More pages than any subscription has.
const MOST_PAGES: usize = 1000;

/// The types that decide about packets, as in the lists of Azure Resource Manager.
const TYPES: [&str; 9] = [
    "Microsoft.Compute/virtualMachines",
    "Microsoft.Network/networkInterfaces",
    "Microsoft.Network/publicIPAddresses",
    "Microsoft.Network/virtualNetworks",
    "Microsoft.Network/networkSecurityGroups",
    "Microsoft.Network/routeTables",
    "Microsoft.Network/applicationSecurityGroups",
    "Microsoft.Network/azureFirewalls",
    "Microsoft.Network/loadBalancers",
];

/// What a VM has beside its place in the network; most of what a list says of it, and of no use here.
const UNUSED: [&str; 6] =
    ["storageProfile", "osProfile", "diagnosticsProfile", "hardwareProfile", "extended", "instanceView"];

/// How a sweep stands after one invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Done,
    More,
    /// Somebody else goes on with it.
    Elsewhere,
}

/// Begins a sweep, and sweeps for about a minute. One that is under way goes on instead.
///
/// # Errors
/// [`AccessError::Unavailable`] when the store is.
pub async fn begin(ajar: &Ajar) -> Result<(), AccessError> {
    let now = ajar.ports.clock.now();
    let before = compliance_run::read(ajar).await?;
    let is_under_way = |run: &ComplianceRun| run.finished.is_none() && run.started + ABANDONED > now;
    if !before.as_ref().is_some_and(|before| is_under_way(&before.content)) {
        let subscriptions = scope::read_anew(ajar).await?;
        let mut run = ComplianceRun::new(ajar.ports.ids.fresh(), now, subscriptions);
        run.guard = Some(due::note(ajar, now + LONGEST + GUARD_DELAY, Task::Comply).await?);
        compliance_run::write(ajar, &run, before.map(|before| before.etag)).await?;
    }
    go_on(ajar, 0).await;
    Ok(())
}

/// Handles a message on [`Queue::Compliance`]: one without a run begins a sweep, one with a run goes on with it.
pub async fn on_message(ajar: &Ajar, message: ComplianceMessage) {
    if message.run.is_some() {
        return go_on(ajar, message.attempt).await;
    }
    if let Err(error) = begin(ajar).await {
        let next = ComplianceMessage { run: None, attempt: message.attempt + 1 };
        message::again(ajar, Queue::Compliance, &next, next.attempt, &error).await;
    }
}

/// Goes on with a sweep whose message was lost, as the minute sweep finds; sends word, and does the work itself when
/// that is not possible.
pub(crate) async fn go_on_overdue(ajar: &Ajar) -> Result<(), AccessError> {
    let Some(before) = compliance_run::read(ajar).await? else { return Ok(()) };
    if before.content.finished.is_some() {
        return Ok(());
    }
    let now = ajar.ports.clock.now();
    due::note(ajar, now + LONGEST + GUARD_DELAY, Task::Comply).await?;
    let message = ComplianceMessage { run: Some(before.content.id.clone()), attempt: 0 };
    if send::send_at(ajar, Queue::Compliance, &message, None).await {
        return Ok(());
    }
    sweep(ajar, SignedDuration::from_secs(15)).await.map(|_| ())
}

async fn go_on(ajar: &Ajar, attempt: u32) {
    let run = match compliance_run::read(ajar).await {
        Ok(found) => found.map(|found| found.content.id),
        Err(_) => None,
    };
    match sweep(ajar, LONGEST).await {
        Ok(Progress::Done | Progress::Elsewhere) => {}
        Ok(Progress::More) => {
            send::send_at(ajar, Queue::Compliance, &ComplianceMessage { run, attempt: 0 }, None).await;
        }
        Err(error) => {
            let next = ComplianceMessage { run, attempt: attempt + 1 };
            message::again(ajar, Queue::Compliance, &next, next.attempt, &error).await;
        }
    }
}

async fn sweep(ajar: &Ajar, longest: SignedDuration) -> Result<Progress, AccessError> {
    let Some(Stored { content: mut run, mut etag }) = compliance_run::read(ajar).await? else {
        return Ok(Progress::Done);
    };
    if run.finished.is_some() {
        return Ok(Progress::Done);
    }
    let started = ajar.ports.clock.now();
    while let Some(subscription) = run.left.first().cloned() {
        if ajar.ports.clock.now().duration_since(started) > longest {
            return Ok(Progress::More);
        }
        let swept = sweep_subscription(ajar, &subscription, &mut run, etag.clone(), started + longest).await;
        match swept {
            Ok(Some((new, is_done))) => {
                etag = new;
                if !is_done {
                    return Ok(Progress::More);
                }
            }
            Ok(None) => return Ok(Progress::Elsewhere),
            Err(error) => {
                // What was done of it so far is done again, which changes nothing.
                let Some(Stored { content, etag: present }) = compliance_run::read(ajar).await? else {
                    return Ok(Progress::Done);
                };
                run = content;
                run.failures += 1;
                let is_given_up = run.failures > MOST_FAILURES || !error.is_temporary();
                if is_given_up {
                    tracing::error!(subscription, error = error.log_text(), "a subscription is left out");
                    run.found(ComplianceFinding::Unlisted {
                        subscription: subscription.clone(),
                        reason: error.to_string(),
                    });
                    next_subscription(&mut run);
                }
                let Some(new) = compliance_run::write(ajar, &run, Some(present)).await? else {
                    return Ok(Progress::Elsewhere);
                };
                etag = new;
                if !is_given_up {
                    return Err(error);
                }
            }
        }
    }
    run.finished = Some(ajar.ports.clock.now());
    let guard = run.guard.take();
    if compliance_run::write(ajar, &run, Some(etag)).await?.is_none() {
        return Ok(Progress::Elsewhere);
    }
    if let Some(guard) = guard {
        due::forget(ajar, &guard).await?;
    }
    compliance_run::forget_old(ajar).await?;
    if ajar.settings.event_namespace.is_some() {
        metrics::measure(Metric::UnwatchedSubscriptions, run.unwatched as f64);
    }
    let findings = run.findings.len();
    heartbeat::leave(ajar, heartbeat::COMPLIANCE_SWEEP, findings, 0).await;
    tracing::info!(
        vms = run.verdicts.total(),
        unhealthy = run.verdicts.unhealthy,
        looked_at = run.looked_at,
        findings,
        "the estate was swept"
    );
    Ok(Progress::Done)
}

fn next_subscription(run: &mut ComplianceRun) {
    run.left.remove(0);
    run.after = None;
    run.failures = 0;
}

/// What is known of a subscription before it is judged.
struct Known {
    estate: Estate,
    machines: BTreeMap<ResourceId, Machine>,
    policies: BTreeMap<ResourceId, JitPolicy>,
    assessments: BTreeMap<ResourceId, Stored<StoredAssessment>>,
}

/// What is asked about a VM beside its network.
struct Machine {
    vm_id: Option<String>,
    tags: BTreeMap<String, String>,
}

/// Sweeps one subscription from where `run` is. Returns the version of the row and whether the subscription is done;
/// `None` when somebody else goes on with it.
async fn sweep_subscription(
    ajar: &Ajar,
    subscription: &str,
    run: &mut ComplianceRun,
    mut etag: Etag,
    until: Timestamp,
) -> Result<Option<(Etag, bool)>, AccessError> {
    let (estate, machines, nsgs) = read_lists(ajar, subscription).await?;
    let policies = policy_store::read_all(ajar, subscription).await?;
    let known = Known {
        estate,
        machines,
        policies: policies.into_iter().map(|policy| (policy.vm.clone(), policy)).collect(),
        assessments: assessment_store::read_all_stored(ajar, subscription)
            .await?
            .into_iter()
            .map(|stored| (stored.content.vm.clone(), stored))
            .collect(),
    };
    if run.after.is_none() {
        look_at_points(ajar, &known, &nsgs, run).await?;
        look_for_gone(ajar, &known, run).await?;
        look_whether_watched(ajar, subscription, run).await;
    }
    drop(nsgs);
    let left: Vec<&ResourceId> =
        known.machines.keys().filter(|vm| run.after.as_ref().is_none_or(|after| *vm > after)).collect();
    let mut chunks = left.chunks(CHUNK).peekable();
    while let Some(chunk) = chunks.next() {
        judge(ajar, subscription, &known, chunk, run).await?;
        run.after = chunk.last().map(|vm| (*vm).clone());
        run.failures = 0;
        if chunks.peek().is_none() {
            break;
        }
        let Some(new) = compliance_run::write(ajar, run, Some(etag)).await? else { return Ok(None) };
        etag = new;
        if ajar.ports.clock.now() > until {
            return Ok(Some((etag, false)));
        }
    }
    next_subscription(run);
    let written = compliance_run::write(ajar, run, Some(etag)).await?;
    Ok(written.map(|etag| (etag, true)))
}

type Lists = (Estate, BTreeMap<ResourceId, Machine>, Vec<ResourceId>);

async fn read_lists(ajar: &Ajar, subscription: &str) -> Result<Lists, AccessError> {
    let mut resources = Vec::new();
    let (mut machines, mut nsgs) = (BTreeMap::new(), Vec::new());
    for resource_type in TYPES {
        let (mut from, mut pages) = (None, 0);
        loop {
            let page = ajar.ports.azure.graph_page(subscription, resource_type, from.as_deref()).await?;
            for mut resource in page.resources {
                let id = resource.get("id").and_then(Value::as_str).and_then(|id| ResourceId::parse(id).ok());
                let Some(id) = id else { continue };
                if resource_type == "Microsoft.Compute/virtualMachines" {
                    machines.insert(id, machine(&mut resource));
                } else if resource_type == "Microsoft.Network/networkSecurityGroups" {
                    nsgs.push(id);
                }
                resources.push(resource);
            }
            from = page.next;
            pages += 1;
            if from.is_none() {
                break;
            }
            if pages >= MOST_PAGES {
                return Err(AccessError::internal(format!("the list of {resource_type} does not end")));
            }
        }
    }
    Ok((Estate::from_resources(resources), machines, nsgs))
}

fn machine(resource: &mut Value) -> Machine {
    let read = Machine { vm_id: configure::vm_id(resource), tags: evaluate::tags(resource) };
    if let Some(properties) = resource.get_mut("properties").and_then(Value::as_object_mut) {
        for unused in UNUSED {
            properties.remove(unused);
        }
    }
    read
}

/// Judges VMs from the lists: verdicts that are as they were are stored anew, everything else is looked at.
async fn judge(
    ajar: &Ajar,
    subscription: &str,
    known: &Known,
    vms: &[&ResourceId],
    run: &mut ComplianceRun,
) -> Result<(), AccessError> {
    let now = ajar.ports.clock.now();
    let mut renewed = Vec::new();
    for vm in vms {
        let Some(machine) = known.machines.get(*vm) else { continue };
        let policy = known.policies.get(*vm);
        let jit = assess::jit_status(ajar, policy, &known.estate).await?;
        let found = assess(&known.estate, vm, jit);
        run.verdicts.count(found.status);
        let before = known.assessments.get(*vm);
        let same_vm = before.filter(|before| before.content.vm_id == machine.vm_id);
        let was = same_vm.and_then(|before| before.content.assessment.as_ref()).map(|was| was.status);
        let is_new_vm = before.is_some() && same_vm.is_none();
        let has_moved = policy
            .filter(|policy| policy.state == PolicyState::Enabled)
            .is_some_and(|policy| evaluate::has_moved(&known.estate, policy, machine.vm_id.as_deref()));
        let content = same_vm.map(|before| &before.content);
        let may_get_template = policy.is_none()
            && content.is_none_or(|content| content.template.is_none() && !content.declined)
            && ajar.settings.templates.best(vm, &machine.tags).is_some();
        let is_news = evaluate::is_news(was, found.status);
        if is_new_vm || has_moved || may_get_template || is_news {
            evaluate::look_later(ajar, vm).await?;
            run.looked_at += 1;
            continue;
        }
        let after = StoredAssessment {
            vm: (*vm).clone(),
            vm_id: machine.vm_id.clone(),
            since: content.filter(|content| content.assessment.is_some()).map_or(now, |known| known.since),
            assessment: Some(found),
            at: now,
            template: content.and_then(|content| content.template.clone()),
            declined: content.is_some_and(|content| content.declined),
        };
        renewed.push((after, before.map(|before| before.etag.clone())));
    }
    assessment_store::renew(ajar, subscription, renewed).await
}

/// Compares every NSG with what is wanted of it.
async fn look_at_points(
    ajar: &Ajar,
    known: &Known,
    nsgs: &[ResourceId],
    run: &mut ComplianceRun,
) -> Result<(), AccessError> {
    let has_store = store_marker::standing(ajar).await? == Standing::Current;
    let protected: BTreeSet<&ResourceId> =
        known.policies.values().flat_map(|policy| &policy.points).map(|place| &place.point).collect();
    for id in nsgs {
        let Some(nsg) = known.estate.nsg(id) else { continue };
        let has_ours = nsg.rules().iter().any(|rule| is_of_ajar(rule.name()));
        if has_ours || protected.contains(id) {
            look_at_point(ajar, id, nsg, has_store, run).await?;
        }
    }
    Ok(())
}

/// Whether a rule bears the name of some deployment of Ajar.
fn is_of_ajar(rule: &str) -> bool {
    rule.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("ajar-"))
}

async fn look_at_point(
    ajar: &Ajar,
    id: &ResourceId,
    nsg: &NetworkSecurityGroup,
    has_store: bool,
    run: &mut ComplianceRun,
) -> Result<(), AccessError> {
    let now = ajar.ports.clock.now();
    let rows = point::read(ajar, id).await?;
    let desired = rows.desired(ajar);
    let planned = plan::plan(nsg, &desired, now);
    let notes = planned.as_ref().map(|planned| planned.notes.as_slice()).unwrap_or_default();
    for note in notes {
        match note {
            Note::OrphanedProtection { rule, addresses } => {
                run.found(ComplianceFinding::OrphanedProtection {
                    point: id.clone(),
                    rule: rule.clone(),
                    addresses: addresses.clone(),
                });
            }
            Note::OtherDeployments { rules } => {
                let (point, rules) = (id.clone(), rules.clone());
                run.found(ComplianceFinding::OtherDeployments { point, rules });
            }
            _ => {}
        }
    }
    // A store that was emptied or restored says nothing about what is wanted; the minute sweep closes by description then.
    if !has_store {
        return Ok(());
    }
    let changes = planned.as_ref().map(|planned| planned.write.changes(nsg)).unwrap_or_default();
    let is_allow = |name: &str| {
        let mut rules = nsg.rules().iter();
        rules.any(|rule| rule.name().eq_ignore_ascii_case(name) && rule.access() == Some(Access::Allow))
    };
    let orphans: Vec<&str> = changes
        .iter()
        .filter(|change| change.action == RuleAction::Remove)
        .map(|change| change.rule.as_str())
        .filter(|rule| ajar.settings.deployment.manages(rule) && is_allow(rule))
        .collect();
    let is_changing = rows.is_changing(now);
    for rule in &orphans {
        if !is_changing {
            let (point, rule) = (id.clone(), (*rule).to_owned());
            run.found(ComplianceFinding::OrphanedAllow { point, rule });
        }
    }
    if !orphans.is_empty() {
        // `reconcile` reads the point itself, so a list that is behind closes nothing that is wanted.
        due::note(ajar, now + GUARD_DELAY, Task::Reconcile { point: id.clone() }).await?;
        send::send_reconcile(ajar, id).await;
        run.looked_at += 1;
        return Ok(());
    }
    if !drift::is_as_wanted(nsg, &desired, &planned, now) {
        if !is_changing {
            run.found(ComplianceFinding::Drift { point: id.clone() });
        }
        evaluate::look_later(ajar, id).await?;
        run.looked_at += 1;
    }
    Ok(())
}

/// Whether the subscription tells Ajar of its events. What cannot be read says nothing about that, and is no finding.
async fn look_whether_watched(ajar: &Ajar, subscription: &str, run: &mut ComplianceRun) {
    let Some(namespace) = &ajar.settings.event_namespace else { return };
    match ajar.ports.azure.event_subscriptions(subscription).await {
        Ok(found) if watched::is_watched(&found, namespace, Queue::VmEvents.name()) => {}
        Ok(_) => {
            run.unwatched += 1;
            run.found(ComplianceFinding::Unwatched { subscription: subscription.to_owned() });
        }
        Err(error) => {
            tracing::warn!(subscription, %error, "whether the subscription tells of its events cannot be read");
        }
    }
}

/// VMs that are known and not in the lists are looked at: only Azure Resource Manager can say that one is gone.
async fn look_for_gone(ajar: &Ajar, known: &Known, run: &mut ComplianceRun) -> Result<(), AccessError> {
    let all: BTreeSet<&ResourceId> = known.assessments.keys().chain(known.policies.keys()).collect();
    for vm in all.into_iter().filter(|vm| !known.machines.contains_key(*vm)) {
        evaluate::look_later(ajar, vm).await?;
        run.looked_at += 1;
    }
    Ok(())
}
