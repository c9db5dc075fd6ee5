//! What rules an NSG should have: the pure function from desired state and current rules to one write.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::SourceSet;
use crate::nsg::{Direction, NetworkSecurityGroup, SecurityRule};
use crate::ports::{PortSet, Protocol};
use crate::resource_id::ResourceId;

mod changes;
mod check;
mod describe;
mod desired;
mod layout;
mod order;
mod target;

pub use changes::{RuleAction, RuleChange};
pub use check::verify;
pub use describe::{MAX_DESCRIPTION, described_end, expired_rules};
pub use desired::{
    DeploymentName, Desired, ExceptionSource, ExistingRules, GrantedFlow, InvalidDeploymentName,
    InvalidExceptionSource, OriginalRule, ProtectedPort, Protection, ProtectionState, StandingException,
    next_boundary,
};

/// The most rules an NSG may have [network-facts, D4].
pub const MAX_RULES: usize = 1000;
/// The most addresses and ranges over all rules of an NSG, counted separately for sources and destinations
/// [network-facts, D4].
pub const MAX_PREFIXES: usize = 4000;

/// What to write, what to store before, and what to tell people.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The write.
    pub write: Write,
    /// The originals to be stored **before** writing. An original that this plan restores is still among them; the
    /// plan made from the result of the write drops it, so that a crash between store and write loses nothing.
    pub originals: Vec<OriginalRule>,
    /// To be stored before writing, as `originals`.
    pub original_flush_connection: Option<bool>,
    /// What people should know.
    pub notes: Vec<Note>,
}

/// One write that brings the NSG to its desired state.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// It is there already.
    Nothing,
    /// One or two rules, in this order: no state in between opens what neither end opens, nor closes what both allow.
    Rules(Vec<RuleWrite>),
    /// The whole NSG, to be written with `If-Match`.
    Whole(NetworkSecurityGroup),
}

/// A write of one rule.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleWrite {
    /// `PUT securityRules/{name}`.
    Put(Box<SecurityRule>),
    /// `DELETE securityRules/{name}`.
    Delete(String),
}

/// What people should know about a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Note {
    /// A deny rule covers addresses that no policy accounts for; it stays.
    OrphanedProtection {
        /// The rule.
        rule: String,
        /// The addresses as prefixes; `*` when the rule covers more than single addresses.
        addresses: Vec<String>,
    },
    /// Other people's rules were left where they precede ours, so the protection is partial.
    RespectedRules {
        /// The address.
        address: IpAddr,
        /// The protocol.
        protocol: Protocol,
        /// The ports.
        ports: PortSet,
        /// The rules.
        rules: Vec<String>,
        /// Who gets in without a grant.
        open: SourceSet,
        /// Who is kept out in spite of a grant or exception.
        closed: SourceSet,
    },
    /// Rules of other deployments are in the NSG; they are left alone.
    OtherDeployments {
        /// Their names.
        rules: Vec<String>,
    },
    /// A grant is for addresses or ports that no enabled protection of its VM covers; it opens nothing here.
    GrantOutsideProtection {
        /// The grant's id.
        grant: String,
    },
    /// Two enabled protections name one address; who is granted access to either VM reaches it.
    AddressClaimedTwice {
        /// The address.
        address: IpAddr,
        /// The VMs.
        vms: Vec<ResourceId>,
    },
    /// A superseded rule could not be put back at its original priority.
    NotRestored {
        /// The rule.
        rule: String,
        /// The priority it had.
        priority: u16,
    },
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too many rules.
    #[error(
        "the network security group would have {count} rules, more than Azure's limit of {MAX_RULES}; remove unused rules or end some grants"
    )]
    TooManyRules {
        /// How many it would have.
        count: usize,
    },
    /// Too many prefixes.
    #[error(
        "the network security group would list {count} {side} addresses and ranges, more than Azure's limit of {MAX_PREFIXES}; widen sources to fewer prefixes or end some grants"
    )]
    TooManyPrefixes {
        /// `source` or `destination`.
        side: &'static str,
        /// How many it would list.
        count: usize,
    },
    /// No room for the rules.
    #[error(
        "there is no room for {needed} rules before priority {before}: {free} priorities are free; remove or renumber rules of the network security group by hand"
    )]
    NoFreePriority {
        /// How many rules must be placed.
        needed: usize,
        /// How many priorities are free.
        free: usize,
        /// The priority they must come before.
        before: u16,
    },
    /// Another deployment's rule sits where ours must go.
    #[error(
        "rule `{rule}` of another deployment matches the same packets and cannot be moved; let one deployment alone protect these addresses"
    )]
    BlockedByOtherDeployment {
        /// The rule.
        rule: String,
    },
    /// A protection or grant that makes no sense.
    #[error("protocol {protocol} has no ports; protect or grant Tcp, Udp or * (policy or grant of {vm})")]
    ProtocolWithoutPorts {
        /// The VM.
        vm: ResourceId,
        /// The protocol.
        protocol: Protocol,
    },
    /// A rule that cannot be understood well enough to plan around it.
    #[error("rule `{rule}` has no readable {part}; correct it in the network security group")]
    UnreadableRule {
        /// The rule.
        rule: String,
        /// `priority` or `direction`.
        part: &'static str,
    },
}

/// Where moved rules go when nothing of the deployment is left in the NSG.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutBack {
    /// Each rule with the priority that it has and the one that it had before, in an order in which they can be written one
    /// at a time once the deployment's rules are gone.
    pub moves: Vec<Move>,
    /// What cannot be put back: the order among other people's rules would change.
    pub notes: Vec<Note>,
}

/// A rule that gets its original priority back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The rule.
    pub rule: String,
    /// Its priority now.
    pub from: u16,
    /// Its original priority.
    pub to: u16,
}

/// Where rules go back to that the deployment moved, by its `originals`; one that is not there any more is left out.
///
/// # Errors
/// [`PlanError::UnreadableRule`] for a rule of others without a readable priority.
pub fn put_back(
    current: &NetworkSecurityGroup,
    deployment: &DeploymentName,
    originals: &[OriginalRule],
) -> Result<PutBack, PlanError> {
    let mut foreign = layout::foreign(current, deployment)?;
    let notes = layout::restore(&mut foreign, originals);
    let moves = layout::one_at_a_time(&foreign)
        .into_iter()
        .map(|f| Move { rule: f.rule.name().to_owned(), from: f.was, to: f.priority })
        .collect();
    Ok(PutBack { moves, notes })
}

/// Where an NSG is not as desired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "{address} {protocol} {ports}: open without a grant to {unexpected}; closed in spite of a grant to {missing}"
)]
#[serde(rename_all = "camelCase")]
pub struct Discrepancy {
    /// The address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: PortSet,
    /// Who may get in without a grant or exception.
    pub unexpected: SourceSet,
    /// Who may be kept out in spite of a grant or exception.
    pub missing: SourceSet,
}

/// Computes the one write that brings the NSG to its desired state.
///
/// Managed rules are those named `ajar-<deployment>-...`; of other people's rules only priorities change, and only
/// where a protection supersedes. A managed deny rule goes only for addresses that some protection, of any state,
/// accounts for.
///
/// # Errors
/// [`PlanError`] when Azure's limits or the NSG's other rules leave no way.
pub fn plan(current: &NetworkSecurityGroup, desired: &Desired, now: Timestamp) -> Result<Plan, PlanError> {
    let mut target = target::target(current, desired, now, target::Orphans::Joined)?;
    let mut layout = layout::layout(current, desired, &target)?;
    if layout.partial {
        // Places before a respected rule are few, and whoever is in one by a deny that lost its row keeps it.
        target = target::target(current, desired, now, target::Orphans::Apart)?;
        layout = layout::layout(current, desired, &target)?;
    }
    let mut notes = target.notes.clone();

    let turned_off =
        target.denies.is_empty() && desired.protections.iter().any(|p| p.state == ProtectionState::Disabling);
    if turned_off {
        notes.extend(layout::restore(&mut layout.foreign, &desired.originals));
    }
    let originals = originals_after(desired, &layout.foreign, turned_off);
    let (flush, original_flush_connection) = flush_after(current, desired, turned_off);

    let rules = rules_after(current, desired, &target, &layout);
    check_limits(current, &rules)?;
    let result = current.with_rules(rules);
    let others: Vec<String> = current
        .rules()
        .iter()
        .filter(|r| layout::of_other_deployment(r, desired))
        .map(|r| r.name().to_owned())
        .collect();
    if !others.is_empty() {
        notes.push(Note::OtherDeployments { rules: others });
    }
    if layout.partial {
        notes.extend(respected(&result, desired, now));
    }

    let moved = layout.foreign.iter().any(|f| f.was != f.priority);
    let writes = changes(current, &result, desired);
    let write = if let Some(flush) = flush {
        Write::Whole(result.with_flush_connection(flush))
    } else if moved || writes.len() > 2 {
        Write::Whole(result)
    } else if writes.is_empty() {
        Write::Nothing
    } else {
        order::safe_order(current.rules(), writes).map_or(Write::Whole(result), Write::Rules)
    };
    Ok(Plan { write, originals, original_flush_connection, notes })
}

/// The rules after the write: those of others where they were, ours replaced in place or added at the end.
fn rules_after(
    current: &NetworkSecurityGroup,
    desired: &Desired,
    target: &target::Target,
    layout: &layout::Layout<'_>,
) -> Vec<SecurityRule> {
    let mut wanted: BTreeMap<String, SecurityRule> = BTreeMap::new();
    for rule in target.allows.iter().chain(&target.denies) {
        let name = rule.name().to_ascii_lowercase();
        if let Some(priority) = layout.managed.get(&name) {
            wanted.insert(name, rule.at(*priority));
        }
    }
    let moved: BTreeMap<String, u16> = layout
        .foreign
        .iter()
        .filter(|f| f.was != f.priority)
        .map(|f| (f.rule.name().to_ascii_lowercase(), f.priority))
        .collect();
    let mut rules = Vec::with_capacity(current.rules().len() + wanted.len());
    for rule in current.rules() {
        let name = rule.name().to_ascii_lowercase();
        if !desired.deployment.manages(rule.name()) {
            let priority = moved.get(&name).filter(|_| rule.direction() != Some(Direction::Outbound));
            rules.push(priority.map_or_else(|| rule.clone(), |p| rule.with_priority(*p)));
        } else if let Some(new) = wanted.remove(&name) {
            rules.push(if same_rule(rule, &new) { rule.clone() } else { new });
        }
    }
    rules.extend(wanted.into_values());
    rules
}

fn same_rule(existing: &SecurityRule, new: &SecurityRule) -> bool {
    existing.same_effect_as(new)
        && existing.priority() == new.priority()
        && existing.description() == new.description()
}

/// The single writes that lead from one NSG to the other, as far as managed rules are concerned; adding first.
fn changes(
    current: &NetworkSecurityGroup,
    result: &NetworkSecurityGroup,
    desired: &Desired,
) -> Vec<RuleWrite> {
    let managed = |r: &&SecurityRule| desired.deployment.manages(r.name());
    let by_name = |nsg: &'_ NetworkSecurityGroup| -> HashMap<String, usize> {
        let mut names = HashMap::new();
        for (i, rule) in nsg.rules().iter().enumerate() {
            names.entry(rule.name().to_ascii_lowercase()).or_insert(i);
        }
        names
    };
    let (before, after) = (by_name(current), by_name(result));
    let named = |rule: &SecurityRule, names: &HashMap<String, usize>| {
        names.get(&rule.name().to_ascii_lowercase()).copied()
    };
    let puts = result
        .rules()
        .iter()
        .filter(managed)
        .filter(|r| named(r, &before).and_then(|i| current.rules().get(i)) != Some(*r))
        .map(|r| RuleWrite::Put(Box::new(r.clone())));
    let deletes = current
        .rules()
        .iter()
        .filter(managed)
        .filter(|r| named(r, &after).is_none())
        .map(|r| RuleWrite::Delete(r.name().to_owned()));
    puts.chain(deletes).collect()
}

fn originals_after(
    desired: &Desired,
    foreign: &[layout::Foreign<'_>],
    turned_off: bool,
) -> Vec<OriginalRule> {
    let mut originals = desired.originals.clone();
    let named = |o: &OriginalRule| foreign.iter().find(|f| o.name.eq_ignore_ascii_case(f.rule.name()));
    if turned_off {
        // Gone by its owner's hand, or back where it was.
        originals.retain(|o| named(o).is_some_and(|f| f.was != o.priority));
        return originals;
    }
    for rule in foreign.iter().filter(|f| f.was != f.priority) {
        if !originals.iter().any(|o| o.name.eq_ignore_ascii_case(rule.rule.name())) {
            originals.push(OriginalRule {
                name: rule.rule.name().to_owned(),
                priority: rule.was,
                rule: rule.rule.json().clone(),
            });
        }
    }
    originals
}

/// What to set `flushConnection` to, if anything, and the original to store.
fn flush_after(
    current: &NetworkSecurityGroup,
    desired: &Desired,
    turned_off: bool,
) -> (Option<bool>, Option<bool>) {
    let is = current.flush_connection().unwrap_or(false);
    let original = desired.original_flush_connection;
    if target::enabled(desired).any(|p| p.flush_connection) {
        return if is { (None, original) } else { (Some(true), original.or(Some(false))) };
    }
    match original {
        Some(was) if turned_off && was != is => (Some(was), original),
        Some(_) if turned_off => (None, None),
        _ => (None, original),
    }
}

fn check_limits(current: &NetworkSecurityGroup, rules: &[SecurityRule]) -> Result<(), PlanError> {
    let count = rules.len();
    if count > MAX_RULES && count > current.rules().len() {
        return Err(PlanError::TooManyRules { count });
    }
    let listed = |rules: &[SecurityRule]| {
        rules.iter().fold((0, 0), |(s, d), r| (s + r.source().listed, d + r.destination().listed))
    };
    let (before, after) = (listed(current.rules()), listed(rules));
    for (side, before, count) in [("source", before.0, after.0), ("destination", before.1, after.1)] {
        if count > MAX_PREFIXES && count > before {
            return Err(PlanError::TooManyPrefixes { side, count });
        }
    }
    Ok(())
}

/// What stays open or closed against the wishes because other people's rules precede ours.
fn respected(result: &NetworkSecurityGroup, desired: &Desired, now: Timestamp) -> Vec<Note> {
    check::differences(result, desired, now)
        .into_iter()
        .map(|d| Note::RespectedRules {
            address: d.discrepancy.address,
            protocol: d.discrepancy.protocol,
            ports: d.discrepancy.ports,
            rules: d.foreign.into_iter().map(|f| f.rule).collect(),
            open: d.discrepancy.unexpected,
            closed: d.discrepancy.missing,
        })
        .collect()
}
