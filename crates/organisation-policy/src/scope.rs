//! Whether a policy is about a question at all: its scope without its conditions.

use cedar_policy::{
    ActionConstraint, Entities, EntityUid, Policy, PrincipalConstraint, Request, ResourceConstraint,
};

/// Whether the policy's principal, action and resource fit.
pub(crate) fn fits(policy: &Policy, request: &Request, entities: &Entities) -> bool {
    let within = |one: &EntityUid, other: &EntityUid| one == other || entities.is_ancestor_of(other, one);
    let (Some(person), Some(action), Some(vm)) = (request.principal(), request.action(), request.resource())
    else {
        return false;
    };
    let person_fits = match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::In(group) => within(person, &group),
        PrincipalConstraint::Eq(one) => *person == one,
        PrincipalConstraint::Is(kind) => *person.type_name() == kind,
        PrincipalConstraint::IsIn(kind, group) => *person.type_name() == kind && within(person, &group),
    };
    let action_fits = match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::In(actions) => actions.contains(action),
        ActionConstraint::Eq(one) => *action == one,
    };
    let vm_fits = match policy.resource_constraint() {
        ResourceConstraint::Any => true,
        ResourceConstraint::In(group) => within(vm, &group),
        ResourceConstraint::Eq(one) => *vm == one,
        ResourceConstraint::Is(kind) => *vm.type_name() == kind,
        ResourceConstraint::IsIn(kind, group) => *vm.type_name() == kind && within(vm, &group),
    };
    person_fits && action_fits && vm_fits
}
