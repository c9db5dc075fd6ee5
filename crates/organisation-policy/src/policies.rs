//! The policies: read, checked whole, and asked.

use std::str::FromStr;

use cedar_policy::{
    ActionConstraint, AuthorizationError, Authorizer, Decision, Effect, Policy, PolicyId, PolicySet, Request,
    Response, Schema, ValidationMode, Validator,
};
use miette::Diagnostic;

use crate::answer::{Answer, Denial, Named};
use crate::entities;
use crate::question::{Question, Undecidable, Want};
use crate::scope;

/// What policies may speak of; the source of `infra/policies/ajar.cedarschema` in a package.
pub const SCHEMA: &str = include_str!("../../../infra/policies/ajar.cedarschema");

/// The annotations that mean something.
const ANNOTATIONS: [&str; 4] = ["id", "advice", "approvals", "selfApproval"];

/// The most approvals that a policy can want.
const MOST_APPROVALS: u32 = 10;

/// Who says so when somebody approves their own request.
const NO_SELF_APPROVAL: &str = "no-self-approval";

/// Something wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {message}", line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

/// A set of policies that was found to be whole.
#[derive(Debug)]
pub struct Policies {
    set: PolicySet,
    schema: Schema,
}

impl Policies {
    /// Reads policy files, given as name and text.
    ///
    /// # Errors
    /// Everything that is wrong: what is no Cedar, what the schema does not know, policies without `@id` or with one that
    /// another has, unknown annotations. A policy that can never apply is an error too: it is not what its author meant.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Vec<Problem>> {
        let schema = match Schema::from_cedarschema_str(SCHEMA) {
            Ok((schema, _)) => schema,
            Err(error) => {
                let message = error.to_string();
                return Err(vec![Problem { file: "ajar.cedarschema".to_owned(), line: None, message }]);
            }
        };
        let mut problems = Vec::new();
        let mut set = PolicySet::new();
        let mut origins: std::collections::BTreeMap<String, (&str, &str)> = std::collections::BTreeMap::new();
        for (file, text) in files {
            match PolicySet::from_str(text) {
                Ok(read) => {
                    if read.templates().next().is_some() {
                        problems.push(problem(
                            file,
                            None,
                            "policy templates (`?principal`) are not used: write the policy out",
                        ));
                    }
                    for policy in read.policies() {
                        match named(policy) {
                            Ok(policy) => {
                                let id = policy.id().to_string();
                                if let Some((other, _)) = origins.get(&id) {
                                    let message = format!(
                                        "@id(\"{id}\") is taken by a policy in {other}: ids are unique"
                                    );
                                    problems.push(problem(file, line_of_id(text, &id), &message));
                                } else if let Err(error) = set.add(policy) {
                                    problems.push(problem(file, None, &error.to_string()));
                                } else {
                                    origins.insert(id, (file, text));
                                }
                            }
                            Err(message) => {
                                let id = policy.annotation("id").unwrap_or_default();
                                problems.push(problem(file, line_of_id(text, id), &message));
                            }
                        }
                    }
                }
                Err(errors) => problems.extend(errors.iter().map(|error| {
                    let offset =
                        error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
                    problem(file, offset.map(|offset| line_at(text, offset)), &error.to_string())
                })),
            }
        }
        let validated = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        let mut found: Vec<(&PolicyId, String)> =
            validated.validation_errors().map(|error| (error.policy_id(), error.to_string())).collect();
        if found.is_empty() {
            // What is wrong with a policy has warnings in its train that say nothing more.
            found.extend(validated.validation_warnings().map(|one| (one.policy_id(), one.to_string())));
        }
        for (id, message) in found {
            let id: &str = id.as_ref();
            let (file, text) = origins.get(id).copied().unwrap_or_default();
            problems.push(problem(file, line_of_id(text, id), &message));
        }
        if problems.is_empty() { Ok(Self { set, schema }) } else { Err(problems) }
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.num_of_policies()
    }

    /// Whether there is none, so that nothing is permitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any policy speaks of a VM's tags or location. May say yes of one that only has such a word in a text.
    #[must_use]
    pub fn look_at_machines(&self) -> bool {
        self.mention(&["hasTag", "getTag", "location"])
    }

    /// Whether any policy names a group.
    #[must_use]
    pub fn name_groups(&self) -> bool {
        self.mention(&["Group::"])
    }

    fn mention(&self, words: &[&str]) -> bool {
        self.set.policies().any(|policy| {
            let text = policy.to_string();
            words.iter().any(|word| text.contains(word))
        })
    }

    /// Asks. Forbidden when any policy forbids it or cannot be evaluated; else permitted when one permits it.
    ///
    /// # Errors
    /// [`Undecidable`] for a question that the schema does not know; treat it as denied.
    pub fn decide(&self, question: &Question) -> Result<Answer, Undecidable> {
        let (request, entities) = entities::of(question, &self.schema)?;
        let response = Authorizer::new().is_authorized(&request, &self.set, &entities);
        let action = question.want.action();
        let failed = self.failed(&response);
        // Cedar leaves out a policy that it cannot evaluate. That must not let through what the policy may forbid.
        if !failed.is_empty() {
            return Ok(Answer::Denied(Denial { action, by: failed, would_permit: Vec::new() }));
        }
        let by: Vec<&Policy> = self.reasons(&response).collect();
        match response.decision() {
            Decision::Allow if is_self_approval(question) && !by.iter().any(|p| allows_self_approval(p)) => {
                Ok(Answer::Denied(Denial { action, by: vec![no_self_approval()], would_permit: Vec::new() }))
            }
            Decision::Allow => Ok(Answer::Allowed(sorted(by.into_iter()))),
            Decision::Deny => {
                let by = sorted(by.into_iter());
                let would_permit =
                    if by.is_empty() { self.would_permit(&request, &entities) } else { Vec::new() };
                Ok(Answer::Denied(Denial { action, by, would_permit }))
            }
        }
    }

    fn reasons<'a>(&'a self, response: &'a Response) -> impl Iterator<Item = &'a Policy> {
        response.diagnostics().reason().filter_map(|id| self.set.policy(id))
    }

    fn failed(&self, response: &Response) -> Vec<Named> {
        let ids = response.diagnostics().errors().map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
        });
        sorted(ids.filter_map(|id| self.set.policy(id)))
    }

    fn would_permit(&self, request: &Request, entities: &cedar_policy::Entities) -> Vec<Named> {
        let permits = self.set.policies().filter(|policy| policy.effect() == Effect::Permit);
        sorted(permits.filter(|policy| scope::fits(policy, request, entities)))
    }
}

fn problem(file: &str, line: Option<usize>, message: &str) -> Problem {
    Problem { file: file.to_owned(), line, message: message.to_owned() }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Where a policy begins, by its `@id`.
fn line_of_id(text: &str, id: &str) -> Option<usize> {
    text.find(&format!("@id(\"{id}\")")).map(|offset| line_at(text, offset))
}

/// The policy under the name of its `@id`.
fn named(policy: &Policy) -> Result<Policy, String> {
    let id = policy.annotation("id").unwrap_or_default();
    if id.is_empty()
        || !id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        return Err(format!(
            "a policy needs @id(\"...\") of lower-case letters, digits and hyphens before it, by which denials name it; \
             it has `{id}`"
        ));
    }
    if id == NO_SELF_APPROVAL {
        return Err(format!("@id(\"{id}\") is what Ajar calls its own rule: take another"));
    }
    if let Some((name, _)) = policy.annotations().find(|(name, _)| !ANNOTATIONS.contains(name)) {
        return Err(format!("`{id}`: @{name} means nothing here; there are @{}", ANNOTATIONS.join(", @")));
    }
    if let Some(text) = policy.annotation("approvals") {
        let is_in_range = text.parse().is_ok_and(|wanted: u32| (1..=MOST_APPROVALS).contains(&wanted));
        if !is_in_range || policy.effect() != Effect::Forbid || !is_about(policy, "autoApprove") {
            return Err(format!(
                "`{id}`: @approvals is a number from 1 to {MOST_APPROVALS} on a `forbid` of \"autoApprove\""
            ));
        }
    }
    if let Some(text) = policy.annotation("selfApproval")
        && (text != "allowed" || policy.effect() != Effect::Permit || !is_about(policy, "approve"))
    {
        return Err(format!("`{id}`: @selfApproval is \"allowed\", on a `permit` of \"approve\""));
    }
    Ok(policy.new_id(PolicyId::new(id)))
}

fn is_about(policy: &Policy, action: &str) -> bool {
    let named = |uid: &cedar_policy::EntityUid| uid.id().unescaped() == action;
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::In(actions) => actions.iter().any(named),
        ActionConstraint::Eq(one) => named(&one),
    }
}

fn is_self_approval(question: &Question) -> bool {
    matches!(&question.want, Want::Approve { requester, .. } if requester.id.eq_ignore_ascii_case(&question.person.id))
}

fn allows_self_approval(policy: &Policy) -> bool {
    policy.annotation("selfApproval").is_some()
}

fn no_self_approval() -> Named {
    let advice = Some("somebody else approves it".to_owned());
    Named { id: NO_SELF_APPROVAL.to_owned(), advice, approvals: None }
}

fn sorted<'a>(policies: impl Iterator<Item = &'a Policy>) -> Vec<Named> {
    let mut named: Vec<Named> = policies
        .map(|policy| Named {
            id: policy.id().to_string(),
            advice: policy.annotation("advice").map(str::to_owned),
            approvals: policy.annotation("approvals").and_then(|text| text.parse().ok()),
        })
        .collect();
    named.sort();
    named
}
