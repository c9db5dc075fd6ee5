//! Where rules go: priorities of managed rules, and the renumbering of other people's rules when there is no room.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::{DeploymentName, Desired, ExistingRules, OriginalRule};
use super::target::{Packets, Target, Wanted, enabled, protected_ports};
use super::{Note, PlanError};
use crate::address::AddressSet;
use crate::nsg::{Direction, FIRST_PRIORITY, LAST_PRIORITY, NetworkSecurityGroup, SecurityRule};

/// How many managed rules superseding makes room for at least, so that it need not be done again with every grant.
const ROOM: usize = 64;

/// One after the last priority: the bound when no rule of others stands in the way.
const NO_BOUND: u16 = LAST_PRIORITY + 1;

/// An inbound rule that is not ours, and the priority it is to have.
pub(super) struct Foreign<'a> {
    pub(super) rule: &'a SecurityRule,
    pub(super) was: u16,
    pub(super) priority: u16,
}

pub(super) struct Layout<'a> {
    pub(super) foreign: Vec<Foreign<'a>>,
    /// Priorities by lower-case name of the wanted rules.
    pub(super) managed: BTreeMap<String, u16>,
    /// Whether rules of others still precede ours and match packets of enabled protections.
    pub(super) partial: bool,
}

/// The inbound rules of others in order of evaluation.
pub(super) fn foreign<'a>(
    current: &'a NetworkSecurityGroup,
    deployment: &DeploymentName,
) -> Result<Vec<Foreign<'a>>, PlanError> {
    let mut foreign = Vec::new();
    for rule in current.rules() {
        if rule.direction() == Some(Direction::Outbound) || deployment.manages(rule.name()) {
            continue;
        }
        let Some(priority) = rule.priority() else {
            return Err(PlanError::UnreadableRule { rule: rule.name().to_owned(), part: "priority" });
        };
        foreign.push(Foreign { rule, was: priority, priority });
    }
    foreign.sort_by_key(|f| f.priority);
    Ok(foreign)
}

/// Whether a rule belongs to another deployment: `ajar-<deployment>-...`.
pub(super) fn of_other_deployment(rule: &SecurityRule, desired: &Desired) -> bool {
    let name = rule.name().to_ascii_lowercase();
    name.strip_prefix("ajar-")
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(other, _)| super::DeploymentName::parse(other).is_ok())
        && !desired.deployment.manages(&name)
}

/// What the protections cover before which rules of others may be moved.
fn superseding(desired: &Desired) -> Vec<Packets> {
    enabled(desired)
        .filter(|p| p.existing_rules == ExistingRules::Supersede && !p.addresses.is_empty())
        .flat_map(|p| {
            let addresses = AddressSet::from_addresses(p.addresses.iter().copied());
            protected_ports(&p.ports).into_iter().map(move |(protocol, ports)| Packets {
                addresses: addresses.clone(),
                protocol,
                ports,
            })
        })
        .collect()
}

/// The smallest priority of a rule that may match some of the packets.
fn bound(foreign: &[Foreign<'_>], packets: &[Packets]) -> u16 {
    foreign
        .iter()
        .find(|f| packets.iter().any(|p| p.may_match(f.rule)))
        .map_or(NO_BOUND, |f| f.priority.clamp(FIRST_PRIORITY, NO_BOUND))
}

fn free_below(foreign: &[Foreign<'_>], bound: u16) -> BTreeSet<u16> {
    let taken: BTreeSet<u16> = foreign.iter().map(|f| f.priority).collect();
    (FIRST_PRIORITY..bound).filter(|p| !taken.contains(p)).collect()
}

/// Finds the place of every wanted rule, moving rules of others only where no place is left and they may be moved.
pub(super) fn layout<'a>(
    current: &'a NetworkSecurityGroup,
    desired: &Desired,
    target: &Target,
) -> Result<Layout<'a>, PlanError> {
    let mut foreign = foreign(current, &desired.deployment)?;
    let needed = target.allows.len() + target.denies.len();
    if needed == 0 {
        return Ok(Layout { foreign, managed: BTreeMap::new(), partial: false });
    }
    let supersede = superseding(desired);

    let mut before = bound(&foreign, &target.closed);
    if free_below(&foreign, before).len() < needed {
        before = bound(&foreign, &supersede);
        if free_below(&foreign, before).len() < needed && before < NO_BOUND {
            let mut moved = make_room(&foreign, before, needed.max(ROOM), desired);
            if moved.is_err() {
                moved = make_room(&foreign, before, needed, desired);
            }
            for (rule, priority) in foreign.iter_mut().zip(moved?) {
                rule.priority = priority;
            }
            before = bound(&foreign, &supersede);
        }
    }
    let partial = bound(&foreign, &target.closed) < before;
    let slots = free_below(&foreign, before);
    if slots.len() < needed {
        return Err(PlanError::NoFreePriority { needed, free: slots.len(), before });
    }
    let held = held(current, desired);
    let managed = if partial { packed(target, &slots, &held) } else { place(target, &slots, &held) };
    Ok(Layout { foreign, managed, partial })
}

/// New priorities for the rules of others such that `needed` priorities are free before the one at `first`; order
/// kept, each moved as little as possible.
fn make_room(
    foreign: &[Foreign<'_>],
    first: u16,
    needed: usize,
    desired: &Desired,
) -> Result<Vec<u16>, PlanError> {
    let before = foreign.iter().filter(|f| f.priority < first).count();
    let start = usize::from(FIRST_PRIORITY) + before + needed;
    let mut least = start;
    let mut priorities = Vec::with_capacity(foreign.len());
    for rule in foreign {
        let old = usize::from(rule.priority);
        if rule.priority < first {
            priorities.push(rule.priority);
            continue;
        }
        let new = old.max(least);
        least = new + 1;
        if new != old && of_other_deployment(rule.rule, desired) {
            return Err(PlanError::BlockedByOtherDeployment { rule: rule.rule.name().to_owned() });
        }
        match u16::try_from(new) {
            Ok(new) if new <= LAST_PRIORITY => priorities.push(new),
            _ => {
                let free = free_below(foreign, first).len();
                return Err(PlanError::NoFreePriority { needed, free, before: first });
            }
        }
    }
    Ok(priorities)
}

fn key(wanted: &Wanted) -> String {
    wanted.name().to_ascii_lowercase()
}

/// The priorities of the managed rules there are, by lower-case name.
fn held(current: &NetworkSecurityGroup, desired: &Desired) -> BTreeMap<String, u16> {
    current
        .rules()
        .iter()
        .filter(|r| desired.deployment.manages(r.name()) && r.direction() != Some(Direction::Outbound))
        .filter_map(|r| Some((r.name().to_ascii_lowercase(), r.priority()?)))
        .collect()
}

/// Everything at the lowest free priorities, allows first. Denies that no protection accounts for stay where they are:
/// what has lost its row must not slip behind a rule that is respected. They are about nothing that an allow is about,
/// but for denies whose addresses cannot be listed, which are the first after the allows.
fn packed(target: &Target, slots: &BTreeSet<u16>, held: &BTreeMap<String, u16>) -> BTreeMap<String, u16> {
    let mut free = slots.clone();
    let stays = |name: &String| Some((name.clone(), *held.get(name)?));
    let mut placed: BTreeMap<String, u16> =
        target.orphaned.iter().filter_map(stays).filter(|(_, priority)| free.remove(priority)).collect();
    let mut names: Vec<String> = target.allows.iter().map(key).collect();
    names.sort();
    let mut denies: Vec<(bool, String)> =
        target.denies.iter().map(|deny| (!matches!(deny, Wanted::Kept(_)), key(deny))).collect();
    denies.sort();
    let denies = denies.into_iter().map(|(_, name)| name);
    let rest: Vec<String> =
        names.into_iter().chain(denies).filter(|name| !placed.contains_key(name)).collect();
    placed.extend(rest.into_iter().zip(free));
    placed
}

/// Which existing priorities of wanted rules are kept.
#[derive(Clone, Copy, PartialEq)]
enum Keep {
    All,
    Allows,
    Nothing,
}

/// Allows at the lowest free priorities, denies at the highest, every rule staying where it is as long as all
/// allows precede all denies. A priority that a managed rule holds now is given to another only when there is no
/// other, because a single write cannot swap two rules.
fn place(target: &Target, slots: &BTreeSet<u16>, held: &BTreeMap<String, u16>) -> BTreeMap<String, u16> {
    for (keep, avoid_held) in [
        (Keep::All, true),
        (Keep::All, false),
        (Keep::Allows, true),
        (Keep::Allows, false),
        (Keep::Nothing, true),
    ] {
        if let Some(placed) = try_place(target, slots, held, keep, avoid_held) {
            return placed;
        }
    }
    try_place(target, slots, held, Keep::Nothing, false).unwrap_or_else(|| packed(target, slots, held))
}

fn try_place(
    target: &Target,
    slots: &BTreeSet<u16>,
    held: &BTreeMap<String, u16>,
    keep: Keep,
    avoid_held: bool,
) -> Option<BTreeMap<String, u16>> {
    let mut allows: Vec<String> = target.allows.iter().map(key).collect();
    allows.sort();
    let mut denies: Vec<String> = target.denies.iter().map(key).collect();
    denies.sort();
    let mut free = slots.clone();
    let mut placed = BTreeMap::new();
    let kept: [&[String]; 2] = match keep {
        Keep::All => [&allows, &denies],
        Keep::Allows => [&allows, &[]],
        Keep::Nothing => [&[], &[]],
    };
    for name in kept.into_iter().flatten() {
        if let Some(priority) = held.get(name)
            && free.remove(priority)
        {
            placed.insert(name.clone(), *priority);
        }
    }
    if avoid_held {
        for priority in held.values() {
            free.remove(priority);
        }
    }
    let new_denies: Vec<&String> = denies.iter().filter(|n| !placed.contains_key(*n)).collect();
    for name in new_denies.into_iter().rev() {
        placed.insert(name.clone(), free.pop_last()?);
    }
    let new_allows: Vec<&String> = allows.iter().filter(|n| !placed.contains_key(*n)).collect();
    for name in new_allows {
        placed.insert(name.clone(), free.pop_first()?);
    }
    let last_allow = allows.iter().filter_map(|n| placed.get(n)).max();
    let first_deny = denies.iter().filter_map(|n| placed.get(n)).min();
    match (last_allow, first_deny) {
        (Some(allow), Some(deny)) if allow >= deny => None,
        _ => Some(placed),
    }
}

/// Gives superseded rules their original priorities back, as far as the order among all rules of others stays as
/// it is. Returns the originals that cannot be restored.
pub(super) fn restore(foreign: &mut [Foreign<'_>], originals: &[OriginalRule]) -> Vec<Note> {
    let mut back: BTreeMap<usize, u16> = BTreeMap::new();
    for (index, rule) in foreign.iter().enumerate() {
        let original = originals.iter().find(|o| o.name.eq_ignore_ascii_case(rule.rule.name()));
        if let Some(original) = original.filter(|o| o.priority != rule.priority) {
            back.insert(index, original.priority);
        }
    }
    let mut notes = Vec::new();
    // Each round drops at least one rule, so it ends.
    while let Some(stuck) = first_out_of_order(foreign, &back) {
        if let Some(priority) = back.remove(&stuck)
            && let Some(rule) = foreign.get(stuck)
        {
            notes.push(Note::NotRestored { rule: rule.rule.name().to_owned(), priority });
        }
    }
    for (index, priority) in back {
        if let Some(rule) = foreign.get_mut(index) {
            rule.priority = priority;
        }
    }
    notes
}

/// The rules that move, in an order in which they can do so one at a time: no two have one priority at any moment. There
/// always is one while the order among them stays: those that rise go from the first on, those that sink from the last.
pub(super) fn one_at_a_time<'f, 'a>(foreign: &'f [Foreign<'a>]) -> Vec<&'f Foreign<'a>> {
    let up = foreign.iter().filter(|f| f.priority < f.was);
    let down = foreign.iter().rev().filter(|f| f.priority > f.was);
    up.chain(down).collect()
}

fn first_out_of_order(foreign: &[Foreign<'_>], back: &BTreeMap<usize, u16>) -> Option<usize> {
    let new = |i: usize| back.get(&i).copied().or_else(|| foreign.get(i).map(|f| f.priority));
    (1..foreign.len()).find_map(|i| {
        let in_order = new(i - 1) < new(i);
        if in_order {
            return None;
        }
        [i, i - 1].into_iter().find(|j| back.contains_key(j))
    })
}
