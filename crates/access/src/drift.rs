//! Drift: rules at an enforcement point that are not what Ajar left there.

use crate::Ajar;
use crate::due::{self, GUARD_DELAY, Task};
use crate::error::AccessError;
use crate::look::Trace;
use crate::point::{self, PointRows};
use crate::policy::{OnDrift, PolicyState};
use crate::ports::azure::AzureError;
use crate::ports::identity::Caller;
use crate::read_back;
use crate::reconcile::{self, Outcome};
use crate::send;
use crate::store_marker::{self, Standing};
use crate::vm_history;
use ajar_network::nsg::NetworkSecurityGroup;
use ajar_network::plan::{self, DeploymentName, Desired, Plan, PlanError, RuleAction, RuleChange, Write};
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// How many changed rules are told one by one.
const MOST_TOLD: usize = 3;

/// Looks at an NSG that somebody changed, and has it put right where a policy says so. `reported` is what was
/// reported and left the last time; returns what is left now.
pub(crate) async fn look_at_point(
    ajar: &Ajar,
    point: &ResourceId,
    traces: &[Trace],
    reported: Option<&str>,
) -> Result<Option<String>, AccessError> {
    if store_marker::standing(ajar).await? != Standing::Current {
        return Ok(None);
    }
    let rows = point::read(ajar, point).await?;
    if rows.policies.is_empty() && rows.grants.is_empty() {
        return Ok(None);
    }
    let nsg = match ajar.ports.azure.network_security_group(point).await {
        Ok(nsg) => nsg,
        Err(AzureError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let now = ajar.ports.clock.now();
    let desired = rows.desired(ajar);
    let planned = plan::plan(&nsg, &desired, now);
    let is_right = is_as_wanted(&nsg, &desired, &planned, now);
    let author = |changes: &[RuleChange]| author(traces, changes);
    if is_right {
        tell_of_tampering(ajar, &rows, traces).await?;
        let notes = planned.map(|planned| planned.notes).unwrap_or_default();
        read_back::record(ajar, point, now, notes).await?;
        return Ok(None);
    }
    if rows.is_changing(now) {
        // Work under way reads the NSG anyway, and what differs now says nothing about who did what.
        tell_of_tampering(ajar, &rows, traces).await?;
        send::send_reconcile(ajar, point).await;
        return Ok(None);
    }
    let changes = planned.map(|planned| planned.write.changes(&nsg)).unwrap_or_default();
    let what = describe(point, &changes, &nsg, &ajar.settings.deployment);
    let affected = rows.affected(&nsg, ajar, now);
    let repairs = affected.iter().any(|(_, on_drift)| *on_drift == OnDrift::Repair);
    if !repairs && reported == Some(what.as_str()) {
        return Ok(Some(what));
    }
    let by = author(&changes);
    let end = if repairs { "Ajar puts it right" } else { "reported only, as the policy says" };
    tracing::warn!(%point, by = by.as_ref().map(|by| by.name.as_str()), what, end, "drift");
    for (vm, _) in &affected {
        vm_history::tell(ajar, vm, by.as_ref(), &format!("drift at {what}; {end}")).await?;
    }
    if !repairs {
        return Ok(Some(what));
    }
    repair(ajar, point).await?;
    Ok(None)
}

/// Whether an NSG needs no change and lets in what it should; `planned` is what would bring it there.
pub(crate) fn is_as_wanted(
    nsg: &NetworkSecurityGroup,
    desired: &Desired,
    planned: &Result<Plan, PlanError>,
    now: Timestamp,
) -> bool {
    planned.as_ref().is_ok_and(|planned| planned.write == Write::Nothing)
        && plan::verify(nsg, desired, now).is_ok()
}

async fn repair(ajar: &Ajar, point: &ResourceId) -> Result<(), AccessError> {
    let now = ajar.ports.clock.now();
    let at = match reconcile::reconcile(ajar, point).await? {
        Outcome::Clean | Outcome::Blind => return Ok(()),
        Outcome::Busy(back) => back,
        Outcome::Later(wait) => Some(now + wait),
    };
    due::note(ajar, now + GUARD_DELAY, Task::Reconcile { point: point.clone() }).await?;
    if let Some(at) = at {
        send::send_reconcile_at(ajar, point, at).await;
    }
    Ok(())
}

/// A managed rule that somebody else wrote, although the NSG is as it should be by now: another reconcile was faster
/// than the event.
async fn tell_of_tampering(ajar: &Ajar, rows: &PointRows, traces: &[Trace]) -> Result<(), AccessError> {
    for trace in traces {
        let is_rule = trace.resource.is_type("Microsoft.Network/networkSecurityGroups/securityRules");
        if !is_rule || !ajar.settings.deployment.manages(trace.resource.name()) {
            continue;
        }
        let what = format!("rule {} was changed by hand; it is as it should be", trace.resource.name());
        for stored in rows.policies.iter().filter(|row| row.content.state == PolicyState::Enabled) {
            vm_history::tell(ajar, &stored.content.vm, trace.by.as_ref(), &what).await?;
        }
    }
    Ok(())
}

/// Who did it: the author of the event about one of the rules, else of the last event.
fn author(traces: &[Trace], changes: &[RuleChange]) -> Option<Caller> {
    let is_about =
        |trace: &&Trace| changes.iter().any(|change| change.rule.eq_ignore_ascii_case(trace.resource.name()));
    let latest = |traces: &mut dyn Iterator<Item = &Trace>| {
        traces
            .filter(|trace| trace.by.is_some())
            .max_by_key(|trace| trace.at)
            .and_then(|trace| trace.by.clone())
    };
    latest(&mut traces.iter().filter(is_about)).or_else(|| latest(&mut traces.iter()))
}

/// What somebody did, from what putting it right would do.
fn describe(
    point: &ResourceId,
    changes: &[RuleChange],
    nsg: &NetworkSecurityGroup,
    deployment: &DeploymentName,
) -> String {
    let one = |change: &RuleChange| {
        let is_ours = deployment.manages(&change.rule);
        let name = &change.rule;
        match change.action {
            RuleAction::Add => format!("rule {name} was removed"),
            RuleAction::Remove => format!("rule {name} was added"),
            RuleAction::Move if !is_ours => {
                let was = nsg.rules().iter().find(|rule| rule.name().eq_ignore_ascii_case(name));
                let priority =
                    was.and_then(|rule| rule.priority()).map_or(String::new(), |p| format!(" ({p})"));
                format!("rule {name}{priority} was put before Ajar's")
            }
            RuleAction::Move => format!("rule {name} was moved"),
            RuleAction::Change => format!("rule {name} was changed"),
        }
    };
    // Ours move aside for others' and others' for ours: what others did is told first.
    let mut ordered: Vec<&RuleChange> = changes.iter().collect();
    ordered.sort_by_key(|change| (change.action == RuleAction::Move, deployment.manages(&change.rule)));
    let foreign_moves = changes.iter().any(|c| c.action == RuleAction::Move && !deployment.manages(&c.rule));
    if foreign_moves {
        ordered.retain(|c| !(c.action == RuleAction::Move && deployment.manages(&c.rule)));
    }
    let told: Vec<String> = ordered.iter().take(MOST_TOLD).map(|change| one(change)).collect();
    let more = match ordered.len().saturating_sub(MOST_TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let told = if told.is_empty() { "its settings were changed".to_owned() } else { told.join(", ") };
    format!("{}: {told}{more}", point.name())
}

impl PointRows {
    /// Whether something here was not seen done yet, so that the rules are expected to change.
    pub(crate) fn is_changing(&self, now: Timestamp) -> bool {
        let policies = self.policies.iter().map(|stored| &stored.content);
        let mut grants = self.grants.iter().map(|stored| &stored.content);
        policies
            .into_iter()
            .any(|policy| !policy.dues.is_empty() || policy.is_over() && policy.seen_off.is_none())
            || grants.any(|grant| {
                let is_opening = grant.start <= now && now < grant.end && !grant.seen_open;
                is_opening || grant.end <= now && !grant.seen_shut
            })
    }

    /// The VMs whose ports are not as they should be, and what their policies say about it; all of the NSG's when only
    /// the looks of rules differ.
    fn affected(
        &self,
        nsg: &NetworkSecurityGroup,
        ajar: &Ajar,
        now: Timestamp,
    ) -> Vec<(ResourceId, OnDrift)> {
        let enabled = self.policies.iter().map(|stored| &stored.content);
        let enabled: Vec<_> = enabled.filter(|policy| policy.state == PolicyState::Enabled).collect();
        let wrong: BTreeSet<_> = match plan::verify(nsg, &self.desired(ajar), now) {
            Ok(()) => BTreeSet::new(),
            Err(found) => found.into_iter().map(|discrepancy| discrepancy.address).collect(),
        };
        let hit: Vec<_> = enabled
            .iter()
            .filter(|policy| policy.addresses.iter().any(|address| wrong.contains(address)))
            .copied()
            .collect();
        let told = if hit.is_empty() { enabled } else { hit };
        told.into_iter().map(|policy| (policy.vm.clone(), policy.terms.on_drift)).collect()
    }
}
