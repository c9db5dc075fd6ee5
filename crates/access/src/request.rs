//! Access requests: what is asked for, whether a policy allows it, and how far it has come.

use crate::approval::{Approval, Review};
use crate::correlation::CorrelationId;
use crate::document::Document;
use crate::due::DueRef;
use crate::error::AccessError;
use crate::life_cycle::{CloseReason, Event, IllegalTransition, Status};
use crate::permission::Subject;
use crate::policy::{
    AllowedSources, JitPolicy, PolicyTerms, PortInput, parse_duration, parse_list, parse_protocol, parse_vm,
};
use crate::ports::identity::{Caller, SignIn};
use crate::ports::organisation::Person;
use crate::request_id::RequestId;
use ajar_network::address::{AddressSet, Prefix};
use ajar_network::ports::{PortRange, Protocol};
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The longest justification, in characters.
const LONGEST_JUSTIFICATION: usize = 1000;

/// The longest name of a ticket, in characters.
const LONGEST_TICKET: usize = 100;

/// The farthest ahead that access can be asked for: longer plans change, and so do roles.
const FARTHEST_START: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How far in the past a start still means now: clocks differ, and a person typed it.
const START_SLACK: SignedDuration = SignedDuration::from_mins(1);

/// The beginning of the year 9000, in seconds since 1970.
const LAST_SECOND: i64 = 221_845_392_000;

/// The most ports one request may name.
const MOST_PORTS: usize = 20;

/// An access request as a user writes it. Strict: an unknown field is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestInput {
    /// Resource id of the VM.
    pub vm: String,
    /// What to open.
    pub ports: Vec<RequestPortInput>,
    /// For how long, ISO 8601, counted from when access is granted.
    pub duration: String,
    /// When access is to begin, RFC 3339, at most seven days ahead; at once when absent.
    #[serde(default)]
    pub start: Option<String>,
    /// Why, for whoever reads the history.
    #[serde(default)]
    pub justification: Option<String>,
    /// The ticket it is for, such as `OPS-42`, at most 100 characters. Only the organisation's policies look at it.
    #[serde(default)]
    pub ticket: Option<String>,
    /// An emergency: it is opened at once where the organisation's policies let the caller, who has to say why; everybody
    /// is told, and it waits for a review.
    #[serde(default)]
    pub break_glass: bool,
}

/// One port of a [`RequestInput`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestPortInput {
    /// A port or a range inside one of the policy's.
    pub port: PortInput,
    /// `Tcp`, `Udp` or `*`; what the policy says when absent.
    #[serde(default)]
    pub protocol: Option<String>,
    /// Addresses and CIDR blocks to let in.
    pub sources: Vec<String>,
}

/// One flow that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestedFlow {
    /// The port or range.
    pub ports: PortRange,
    /// The protocol.
    pub protocol: Protocol,
    /// Who is let in.
    pub sources: Vec<Prefix>,
}

/// What is asked for, checked in itself but against no policy yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// The VM.
    pub vm: ResourceId,
    /// The flows.
    pub flows: Vec<RequestedFlow>,
    /// For how long from when access is granted.
    pub duration: SignedDuration,
    /// Not before this; at once when absent.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// No later than this, whatever the duration says.
    pub absolute_end: Option<Timestamp>,
    /// Why.
    pub justification: Option<String>,
    /// The shortest duration that the way it was asked allows; the policy's own when absent.
    pub minimum_duration: Option<SignedDuration>,
    /// What all requests that one call of Azure's API became have in common, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiation: Option<String>,
    /// Resource id of the policy of Azure's API that it was asked for through: a role on that resource counts as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The ticket it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Whether it is an emergency.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// Whether one enforcement point was seen in the state a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PointStatus {
    /// Not seen open yet.
    Opening,
    /// Seen open.
    Open,
    /// Seen shut after the end.
    Shut,
}

/// One enforcement point of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestPoint {
    /// Resource id of the NSG.
    pub point: ResourceId,
    /// The VM's private addresses behind it.
    pub addresses: Vec<IpAddr>,
    /// How far it has come.
    pub status: PointStatus,
}

/// An access request, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRequest {
    /// Its id: the VM's key and a random part.
    pub id: RequestId,
    /// Who asks.
    pub requester: Caller,
    /// What for.
    #[serde(flatten)]
    pub wish: Wish,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// Where it is in its life.
    pub status: Status,
    /// Why it is denied or failed, in a sentence for the requester.
    pub reason: Option<String>,
    /// Why it ended, once it has.
    pub close_reason: Option<CloseReason>,
    /// When access begins; fixed on entering [`Status::Opening`].
    pub start: Option<Timestamp>,
    /// When access ends; fixed on entering [`Status::Opening`], brought forward by a revocation, moved later by an
    /// extension.
    pub end: Option<Timestamp>,
    /// How often the end was fixed or moved: of two ends the one with the higher number counts.
    #[serde(default)]
    pub(crate) window: u32,
    /// The id that the requests for several VMs at once share.
    #[serde(default)]
    pub group: Option<String>,
    /// The row that brings the reminder of the end.
    #[serde(default)]
    pub(crate) reminder: Option<DueRef>,
    /// The end that the requester was reminded of.
    #[serde(default)]
    pub(crate) reminded: Option<Timestamp>,
    /// Its enforcement points; fixed on entering [`Status::Opening`].
    pub points: Vec<RequestPoint>,
    /// How many entries its history has.
    pub history: u32,
    /// What joins it to the call that made it and to what it causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<CorrelationId>,
    /// How the requester had signed in when they asked.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub sign_in: SignIn,
    /// The approvals that it needs, if it needs any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Who has looked at it since, when it was opened in an emergency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// The row that guards its decision.
    pub(crate) guard: Option<DueRef>,
}

impl Document for AccessRequest {
    const VERSION: u32 = 1;
    const NAME: &'static str = "access request";
}

impl RequestInput {
    /// Checks the request in itself.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] naming the first field that breaks a rule, and the rule.
    pub fn wish(&self, policy: &PolicyTerms) -> Result<Wish, AccessError> {
        let mut flows = Vec::new();
        if self.ports.is_empty() || self.ports.len() > MOST_PORTS {
            return Err(AccessError::invalid("ports", format!("name 1 to {MOST_PORTS} ports")));
        }
        for (index, input) in self.ports.iter().enumerate() {
            let field = format!("ports[{index}]");
            let ports = input.port.parse(&format!("{field}.port"))?;
            let protocol = parse_protocol(&format!("{field}.protocol"), input.protocol.as_deref())?;
            flows.push(RequestedFlow {
                ports,
                protocol: protocol.unwrap_or_else(|| protocol_of(policy, ports)),
                sources: parse_sources(&format!("{field}.sources"), &input.sources)?,
            });
        }
        let duration = parse_duration("duration", Some(&self.duration), SignedDuration::ZERO)?;
        let start = self.start.as_deref().map(|text| parse_moment("start", text)).transpose()?;
        self.check_emergency()?;
        let ticket = self.ticket.as_deref().map(check_ticket).transpose()?;
        Ok(Wish {
            vm: parse_vm("vm", &self.vm)?,
            flows,
            duration,
            not_before: start,
            // A window that was asked for by the clock does not move when it opens late.
            absolute_end: start.map(|start| start + duration),
            justification: check_justification(self.justification.as_deref())?,
            minimum_duration: None,
            initiation: None,
            policy: None,
            ticket,
            break_glass: self.break_glass,
        })
    }

    /// An emergency has a reason and begins now.
    fn check_emergency(&self) -> Result<(), AccessError> {
        let is_silent = self.justification.as_deref().is_none_or(|why| why.trim().is_empty());
        if self.break_glass && is_silent {
            return Err(AccessError::invalid("justification", "say why: an emergency needs a reason"));
        }
        if self.break_glass && self.start.is_some() {
            return Err(AccessError::invalid("start", "leave it out: an emergency begins at once"));
        }
        Ok(())
    }
}

fn is_empty(sign_in: &SignIn) -> bool {
    *sign_in == SignIn::default()
}

/// Checks the name of a ticket.
fn check_ticket(text: &str) -> Result<String, AccessError> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > LONGEST_TICKET || text.chars().any(char::is_control) {
        let rule = format!("write the ticket's number or key, 1 to {LONGEST_TICKET} characters");
        return Err(AccessError::invalid("ticket", rule));
    }
    Ok(text.to_owned())
}

/// Parses a moment, RFC 3339 with its offset from UTC, in the years from 1970 to 9000: far from both ends of what
/// can be counted, so that a duration can be added.
pub(crate) fn parse_moment(field: &str, text: &str) -> Result<Timestamp, AccessError> {
    text.trim()
        .parse::<Timestamp>()
        .ok()
        .filter(|moment| (0..LAST_SECOND).contains(&moment.as_second()))
        .ok_or_else(|| {
            AccessError::invalid(field, format!("`{text}` is not a time such as 2026-11-24T15:00:00Z"))
        })
}

/// Checks a justification's length.
pub(crate) fn check_justification(text: Option<&str>) -> Result<Option<String>, AccessError> {
    if let Some(text) = text {
        check_length("justification", text)?;
    }
    Ok(text.map(str::to_owned))
}

/// Checks the length of what somebody writes for people to read.
pub(crate) fn check_length(field: &str, text: &str) -> Result<(), AccessError> {
    if text.chars().count() > LONGEST_JUSTIFICATION {
        return Err(AccessError::invalid(
            field,
            format!("is longer than {LONGEST_JUSTIFICATION} characters"),
        ));
    }
    Ok(())
}

/// Parses the sources of a request: addresses and CIDR blocks. Words for everything are read as everything,
/// so that they are refused as too wide and not as a typing error.
pub(crate) fn parse_sources(field: &str, texts: &[String]) -> Result<Vec<Prefix>, AccessError> {
    if texts.is_empty() {
        return Err(AccessError::invalid(
            field,
            "name the address you connect from, for example 203.0.113.7",
        ));
    }
    let expanded: Vec<String> = texts
        .iter()
        .flat_map(|text| match text.trim().to_ascii_lowercase().as_str() {
            "*" | "any" | "internet" => vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
            other => vec![other.to_owned()],
        })
        .collect();
    parse_list(field, &expanded, Prefix::parse)
}

/// The protocol that a policy has for a port; TCP where it has none, which the subset check then refuses.
fn protocol_of(policy: &PolicyTerms, ports: PortRange) -> Protocol {
    policy.ports.iter().find(|port| contains(port.ports, ports)).map_or(Protocol::Tcp, |port| port.protocol)
}

fn contains(outer: PortRange, inner: PortRange) -> bool {
    outer.first() <= inner.first() && inner.last() <= outer.last()
}

impl Wish {
    /// What roles are asked about.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { vm: &self.vm, policy: self.policy.as_deref() }
    }

    /// Over which of Ajar's interfaces it was asked for.
    pub(crate) fn channel(&self) -> &'static str {
        self.subject().channel()
    }

    /// Checks that the start is neither past nor too far ahead.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] naming `start`.
    pub(crate) fn check_start(&self, now: Timestamp) -> Result<(), AccessError> {
        let Some(start) = self.not_before else { return Ok(()) };
        if start < now - START_SLACK {
            return Err(AccessError::invalid(
                "start",
                format!("{start} is past; leave it out to begin at once"),
            ));
        }
        if start > now + FARTHEST_START {
            return Err(AccessError::invalid(
                "start",
                format!("{start} is more than {} days ahead", FARTHEST_START.as_hours() / 24),
            ));
        }
        Ok(())
    }

    /// Checks that a policy allows all of it: port, protocol, source and duration.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] naming the field and what the policy allows.
    pub fn check_against(&self, policy: &JitPolicy) -> Result<(), AccessError> {
        let terms = &policy.terms;
        let minimum = self.minimum_duration.unwrap_or(terms.minimum_duration);
        if self.duration < minimum {
            return Err(AccessError::invalid(
                "duration",
                format!("{:#} is shorter than the shortest allowed, {minimum:#}", self.duration),
            ));
        }
        let mut all = AddressSet::empty();
        for (index, flow) in self.flows.iter().enumerate() {
            let field = format!("ports[{index}]");
            let allowed = terms
                .ports
                .iter()
                .find(|port| {
                    contains(port.ports, flow.ports)
                        && (port.protocol == flow.protocol || port.protocol == Protocol::Any)
                })
                .ok_or_else(|| {
                    let list: Vec<String> =
                        terms.ports.iter().map(|port| format!("{}/{}", port.ports, port.protocol)).collect();
                    AccessError::invalid(
                        format!("{field}.port"),
                        format!(
                            "{}/{} is not in the JIT policy of {}, which has {}",
                            flow.ports,
                            flow.protocol,
                            self.vm.name(),
                            list.join(", ")
                        ),
                    )
                })?;
            if self.duration > allowed.maximum_duration {
                return Err(AccessError::invalid(
                    "duration",
                    format!(
                        "{:#} is longer than the {:#} that the policy allows for port {}",
                        self.duration, allowed.maximum_duration, allowed.ports
                    ),
                ));
            }
            let sources = AddressSet::from_prefixes(flow.sources.iter().copied());
            terms.check_width(&format!("{field}.sources"), &sources)?;
            if let AllowedSources::Only(prefixes) = &allowed.allowed_sources {
                let beyond = sources.difference(&AddressSet::from_prefixes(prefixes.iter().copied()));
                if let Some(first) = beyond.to_prefixes().first() {
                    let list: Vec<String> = prefixes.iter().map(Prefix::to_string).collect();
                    return Err(AccessError::invalid(
                        format!("{field}.sources"),
                        format!("{first} is outside the sources the policy allows: {}", list.join(", ")),
                    ));
                }
            }
            all = all.union(&sources);
        }
        // Several narrow flows are judged together as well: what counts is how many addresses are let in.
        terms.check_width("ports", &all)
    }
}

impl AccessRequest {
    /// Fixes the end or moves it.
    pub(crate) fn move_end(&mut self, end: Timestamp) {
        self.end = Some(end);
        self.window += 1;
    }

    /// Checks that a policy allows the whole window from its start to `end`.
    ///
    /// # Errors
    /// As [`Wish::check_against`].
    pub(crate) fn check_window(&self, policy: &JitPolicy, end: Timestamp) -> Result<(), AccessError> {
        self.wish_until(end).check_against(policy)
    }

    /// What it would have asked for if it had asked for the whole window from its start to `end`.
    pub(crate) fn wish_until(&self, end: Timestamp) -> Wish {
        let start = self.start.unwrap_or(self.requested_at);
        Wish { duration: end.duration_since(start), ..self.wish.clone() }
    }

    /// Whoever asks, as they had signed in then.
    pub(crate) fn person(&self) -> Person<'_> {
        Person { caller: &self.requester, sign_in: &self.sign_in }
    }

    /// Whether it was opened in an emergency and nobody has looked at it since.
    pub fn wants_review(&self) -> bool {
        self.wish.break_glass && self.start.is_some() && self.review.is_none()
    }

    /// Moves the request on.
    pub(crate) fn apply(&mut self, event: Event) -> Result<(), IllegalTransition> {
        self.status = self.status.after(event)?;
        if let Event::Ended(reason) = event {
            self.close_reason = Some(reason);
        }
        Ok(())
    }
}
