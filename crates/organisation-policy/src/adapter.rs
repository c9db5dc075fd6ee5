//! The policies as the use cases ask them.

use std::collections::BTreeSet;

use ajar_access::ports::organisation::{self as port, Judgement, OrganisationPolicy};
use ajar_access::request::Wish;
use ajar_network::address::{AddressSet, Prefix};
use ajar_network::ports::PortRange;
use jiff::tz::TimeZone;

use crate::answer::Answer;
use crate::policies::Policies;
use crate::question::{Asked, Authentication, Circumstances, Clock, Machine, Person, Question, Ticket, Want};

/// Policies, and the zone in which they tell the time.
#[derive(Debug)]
pub struct OrganisationPolicies {
    policies: Policies,
    zone: TimeZone,
    look_at_machines: bool,
    name_groups: bool,
}

impl OrganisationPolicies {
    /// Policies that are asked by the clock of `zone`.
    #[must_use]
    pub fn new(policies: Policies, zone: TimeZone) -> Self {
        let (look_at_machines, name_groups) = (policies.look_at_machines(), policies.name_groups());
        Self { policies, zone, look_at_machines, name_groups }
    }

    /// The question in the policies' words.
    fn question(&self, question: &port::Question<'_>) -> Question {
        let sign_in = question.person.sign_in;
        Question {
            person: person(question.person),
            vm: Machine {
                id: question.vm.to_string(),
                location: question.machine.location.clone(),
                tags: question.machine.tags.clone(),
            },
            by: Circumstances {
                authentication: Authentication {
                    methods: sign_in.methods.clone(),
                    contexts: sign_in.contexts.clone(),
                },
                clock: Clock::at(question.at, &self.zone),
                // Nobody tells Ajar yet.
                on_call: false,
                channel: question.channel.to_owned(),
            },
            want: match question.want {
                port::Want::Request(wish) => Want::Request { asked: asked(wish) },
                port::Want::AutoApprove(wish) => Want::AutoApprove { asked: asked(wish) },
                port::Want::BreakGlass(wish) => Want::BreakGlass { asked: asked(wish) },
                port::Want::Approve { wish, requester, approvals } => {
                    Want::Approve { asked: asked(wish), requester: person(requester), approvals }
                }
                port::Want::Configure => Want::Configure,
            },
        }
    }
}

impl OrganisationPolicy for OrganisationPolicies {
    fn looks_at_machines(&self) -> bool {
        self.look_at_machines
    }

    fn judge(&self, question: &port::Question<'_>) -> Judgement {
        // A policy that forbids something to a group must not be passed by in ignorance.
        if question.person.sign_in.groups_left_out && self.name_groups {
            let reason = "the organisation's policies ask about groups, and the sign-in token leaves out those of \
                          somebody who is in so many: whoever runs Ajar can have tokens carry the groups that are \
                          assigned to its application"
                .to_owned();
            return Judgement::Denied { reason, approvals: 1 };
        }
        match self.policies.decide(&self.question(question)) {
            Ok(answer @ Answer::Allowed(_)) => {
                Judgement::Allowed { by: answer.by().into_iter().map(str::to_owned).collect() }
            }
            Ok(Answer::Denied(denial)) => {
                Judgement::Denied { reason: denial.to_string(), approvals: denial.approvals() }
            }
            Err(undecidable) => Judgement::Denied { reason: undecidable.to_string(), approvals: 1 },
        }
    }
}

fn person(person: port::Person<'_>) -> Person {
    Person {
        id: person.caller.object_id.clone(),
        name: person.caller.name.clone(),
        groups: person.sign_in.groups.clone(),
    }
}

/// What a wish would open.
fn asked(wish: &Wish) -> Asked {
    let flows = || wish.flows.iter();
    let texts = |all: &mut dyn Iterator<Item = String>| all.collect::<BTreeSet<String>>();
    Asked {
        ports: texts(&mut flows().map(|flow| flow.ports.to_string())),
        lowest_port: flows().map(|flow| PortRange::first(flow.ports)).min().unwrap_or_default(),
        highest_port: flows().map(|flow| PortRange::last(flow.ports)).max().unwrap_or_default(),
        protocols: texts(&mut flows().map(|flow| flow.protocol.to_string())),
        sources: texts(&mut flows().flat_map(|flow| flow.sources.iter().map(Prefix::to_string))),
        widest_source_bits: widest(wish),
        duration_seconds: u32::try_from(wish.duration.as_secs()).unwrap_or(u32::MAX),
        justification: wish.justification.clone(),
        ticket: wish.ticket.clone().map(|id| Ticket { id, state: None }),
    }
}

/// How many bits of an address the widest source leaves free. Sources are judged as a set: two halves are the whole.
fn widest(wish: &Wish) -> u8 {
    let all = AddressSet::from_prefixes(wish.flows.iter().flat_map(|flow| flow.sources.iter().copied()));
    all.to_prefixes().iter().map(free_bits).max().unwrap_or_default()
}

fn free_bits(source: &Prefix) -> u8 {
    let width = if source.is_ipv4() { 32 } else { 128 };
    width - source.length()
}
