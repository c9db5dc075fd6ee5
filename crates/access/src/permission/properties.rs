//! The decision, held against a second one that is plain, slow and written in another way: from Azure's documented
//! rules, over a whole tenant that it sees at once, with scopes as explicit chains and patterns matched letter by
//! letter.

#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use super::{Action, Operation, Scope, require, require_now};
use crate::error::AccessError;
use crate::ports::azure::{DenyAssignment, DenyPrincipal, RolePermissions};
use crate::testing::{World, user, vm};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;

/// Principals: bob, somebody else, four groups, everybody.
const SOMEBODY: usize = 1;
const FIRST_GROUP: usize = 2;
const EVERYBODY: usize = 6;
const PRINCIPALS: usize = 7;

fn principal_id(number: usize) -> String {
    match number {
        0 => user("bob").object_id,
        EVERYBODY => "00000000-0000-0000-0000-000000000000".into(),
        number => format!("{number:08}-0000-0000-0000-000000000000"),
    }
}

fn kind(number: usize) -> &'static str {
    match number {
        0 => "User",
        SOMEBODY => "ServicePrincipal",
        EVERYBODY => "SystemDefined",
        _ => "Group",
    }
}

const SUBSCRIPTION: &str = "/subscriptions/11111111-1111-1111-1111-111111111111";

/// Scopes: the first five are a chain from the VM upwards, the others lie beside it.
fn scopes() -> [String; 9] {
    [
        vm("web-1").to_string(),
        format!("{SUBSCRIPTION}/resourceGroups/demo"),
        SUBSCRIPTION.to_owned(),
        "/providers/Microsoft.Management/managementGroups/all".to_owned(),
        "/".to_owned(),
        vm("web-10").to_string(),
        format!("{SUBSCRIPTION}/resourceGroups/demo2"),
        format!("{}/extensions/x", vm("web-1")),
        "/subscriptions/22222222-2222-2222-2222-222222222222".to_owned(),
    ]
}

const PATTERNS: [&str; 16] = [
    "*",
    "*/read",
    "*/write",
    "*/action",
    "Microsoft.Security/*",
    "microsoft.security/LOCATIONS/*/initiate/action",
    "Microsoft.Security/locations/jitNetworkAccessPolicies/*",
    "Microsoft.Security/locations/jitNetworkAccessPolicies/write",
    "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action",
    "Microsoft.Security/locations/jitNetworkAccessPolicies/*/read",
    "Microsoft.Security/locations/jitNetworkAccessPolicies/read",
    "Microsoft.Compute/*",
    "Microsoft.Compute/virtualMachines/*",
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/*/write",
    "Microsoft.Network/*/read",
];

#[derive(Debug, Clone)]
struct Block {
    actions: Vec<usize>,
    not_actions: Vec<usize>,
    has_condition: bool,
}

#[derive(Debug, Clone)]
struct Assigned {
    principal: usize,
    role: usize,
    scope: usize,
    has_condition: bool,
}

#[derive(Debug, Clone)]
struct Denied {
    blocks: Vec<Block>,
    scope: usize,
    is_only_here: bool,
    principals: Vec<usize>,
    excluded: Vec<usize>,
    has_condition: bool,
}

#[derive(Debug, Clone)]
struct Tenant {
    /// Member and group.
    memberships: Vec<(usize, usize)>,
    roles: Vec<Vec<Block>>,
    assignments: Vec<Assigned>,
    denials: Vec<Denied>,
}

fn block() -> impl Strategy<Value = Block> {
    let pattern = 0..PATTERNS.len();
    (vec(pattern.clone(), 1..4), vec(pattern, 0..2), prop::bool::weighted(0.1))
        .prop_map(|(actions, not_actions, has_condition)| Block { actions, not_actions, has_condition })
}

fn tenant() -> impl Strategy<Value = Tenant> {
    let group = FIRST_GROUP..EVERYBODY;
    let assigned = (0..EVERYBODY, 0..4_usize, 0..9_usize, prop::bool::weighted(0.15)).prop_map(
        |(principal, role, scope, has_condition)| Assigned { principal, role, scope, has_condition },
    );
    let denied = (
        vec(block(), 1..3),
        0..9_usize,
        any::<bool>(),
        vec(0..PRINCIPALS, 1..3),
        vec(0..EVERYBODY, 0..3),
        prop::bool::weighted(0.15),
    )
        .prop_map(|(blocks, scope, is_only_here, principals, excluded, has_condition)| Denied {
            blocks,
            scope,
            is_only_here,
            principals,
            excluded,
            has_condition,
        });
    (vec((0..EVERYBODY, group), 0..7), vec(vec(block(), 1..3), 4), vec(assigned, 1..9), vec(denied, 0..3))
        .prop_map(|(memberships, roles, assignments, denials)| Tenant {
            memberships,
            roles,
            assignments,
            denials,
        })
}

fn permissions(blocks: &[Block]) -> Vec<RolePermissions> {
    let texts = |list: &[usize]| list.iter().map(|number| PATTERNS[*number].to_owned()).collect();
    blocks
        .iter()
        .map(|block| RolePermissions {
            actions: texts(&block.actions),
            not_actions: texts(&block.not_actions),
            condition: block.has_condition.then(|| "@Resource[x]".to_owned()),
        })
        .collect()
}

fn world(tenant: &Tenant) -> World {
    let world = World::new();
    let roles = &world.azure.roles;
    roles.unassign(&user("bob").object_id);
    for (number, blocks) in tenant.roles.iter().enumerate() {
        roles.define_with(&format!("role-{number}"), permissions(blocks));
    }
    for (member, group) in &tenant.memberships {
        roles.join(&principal_id(*member), &principal_id(*group));
    }
    for one in &tenant.assignments {
        let condition = one.has_condition.then_some("@Resource[x]");
        let role = format!("role-{}", one.role);
        roles.assign(&principal_id(one.principal), &role, &scopes()[one.scope], condition);
    }
    for (number, one) in tenant.denials.iter().enumerate() {
        let named = |list: &[usize]| {
            let one =
                |number: &usize| DenyPrincipal { id: principal_id(*number), kind: kind(*number).into() };
            list.iter().map(one).collect()
        };
        roles.deny(DenyAssignment {
            id: format!("/denials/{number}"),
            name: format!("denial {number}"),
            permissions: permissions(&one.blocks),
            scope: scopes()[one.scope].clone(),
            do_not_apply_to_child_scopes: one.is_only_here,
            principals: named(&one.principals),
            exclude_principals: named(&one.excluded),
            condition: one.has_condition.then(|| "@Resource[x]".to_owned()),
        });
    }
    world
}

/// Letter by letter, trying every length for each star.
fn fits(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|taken| fits(rest, &text[taken..])),
        Some((first, rest)) => {
            text.first().is_some_and(|letter| letter.eq_ignore_ascii_case(first)) && fits(rest, &text[1..])
        }
    }
}

impl Block {
    fn holds(&self, action: &str) -> bool {
        let action: Vec<char> = action.chars().collect();
        let is_in = |list: &[usize]| {
            list.iter()
                .filter(|number| fits(&PATTERNS[**number].chars().collect::<Vec<_>>(), &action))
                .count()
                > 0
        };
        if is_in(&self.not_actions) { false } else { is_in(&self.actions) }
    }
}

/// How much a judge knows of whom a deny assignment excludes.
#[derive(Clone, Copy, PartialEq)]
enum Knows {
    AllGroups,
    /// Groups through which a role reaches the VM.
    GroupsWithRoles,
}

impl Tenant {
    /// Whether bob is a principal, or in it, by a path through groups of any length.
    fn is_bob(&self, principal: usize) -> bool {
        let mut reach = [[false; PRINCIPALS]; PRINCIPALS];
        for (member, group) in &self.memberships {
            reach[*member][*group] = true;
        }
        for over in 0..PRINCIPALS {
            for from in 0..PRINCIPALS {
                for to in 0..PRINCIPALS {
                    reach[from][to] |= reach[from][over] && reach[over][to];
                }
            }
        }
        principal == 0 || reach[0][principal]
    }

    /// `target` is 0 for the VM and 1 for its resource group; what is on the chain from there upwards counts.
    fn allows(&self, action: &str, target: usize, knows: Knows) -> bool {
        let mut is_granted = false;
        for one in &self.assignments {
            let applies = one.scope >= target && one.scope <= 4 && self.is_bob(one.principal);
            for block in &self.roles[one.role] {
                is_granted |= applies && !one.has_condition && !block.has_condition && block.holds(action);
            }
        }
        let is_excluded = |principal: usize| {
            self.is_bob(principal)
                && (principal == 0
                    || knows == Knows::AllGroups
                    || self.assignments.iter().any(|one| one.principal == principal && one.scope <= 4))
        };
        for one in &self.denials {
            let applies = one.scope == target || one.scope > target && one.scope <= 4 && !one.is_only_here;
            let is_named = one.principals.iter().any(|number| *number == EVERYBODY || self.is_bob(*number));
            let is_let_off = one.excluded.iter().any(|number| is_excluded(*number));
            if applies && is_named && !is_let_off && one.blocks.iter().any(|block| block.holds(action)) {
                return false;
            }
        }
        is_granted
    }

    fn permits(&self, operation: Operation, knows: Knows) -> bool {
        operation.needs().iter().all(|action: &Action| {
            let target = usize::from(action.scope() == Scope::Policy);
            self.allows(action.name(), target, knows)
        })
    }
}

#[test]
fn two_readings_of_azures_rules_agree() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (permitted, denied, unsure) = (Cell::new(0_u32), Cell::new(0_u32), Cell::new(0_u32));
    let mut runner = TestRunner::new(Config { cases: 2000, failure_persistence: None, ..Config::default() });
    runner
        .run(&tenant(), |tenant| {
            let world = world(&tenant);
            for operation in Operation::ALL {
                let (bob, vm) = (user("bob"), vm("web-1"));
                let answer = runtime.block_on(require(&world.ajar, &bob, &vm, operation));
                let anew = runtime.block_on(require_now(&world.ajar, &bob, &vm, operation));
                prop_assert_eq!(&answer, &anew, "what is kept is what is read");
                if let Err(error) = &answer {
                    prop_assert!(matches!(error, AccessError::Forbidden(_)), "{error:?}");
                }
                let is_permitted = answer.is_ok();
                let truth = tenant.permits(operation, Knows::AllGroups);
                let seen = tenant.permits(operation, Knows::GroupsWithRoles);
                prop_assert!(truth || !is_permitted, "{operation:?} is permitted against Azure's rules");
                // Where an exclusion through a group is out of sight, either answer is within the rules.
                prop_assert!(is_permitted || !seen, "{operation:?} is refused against Azure's rules");
                let without_denials = Tenant { denials: Vec::new(), ..tenant.clone() };
                let counter = match (truth == seen, truth) {
                    (false, _) => &unsure,
                    (true, true) => &permitted,
                    (true, false) if without_denials.permits(operation, Knows::AllGroups) => &denied,
                    (true, false) => continue,
                };
                counter.set(counter.get() + 1);
            }
            Ok(())
        })
        .unwrap();
    // The tenants are such that each case occurs often.
    assert!(permitted.get() > 500 && denied.get() > 100, "{permitted:?} {denied:?} {unsure:?}");
    assert!(unsure.get() > 0 && unsure.get() < permitted.get(), "{permitted:?} {denied:?} {unsure:?}");
}
