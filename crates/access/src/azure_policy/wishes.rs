//! What an initiate asks for, read against the policies of its VMs.

use super::shape::{SHORTEST, Written, in_azure_words, one_or_many};
use crate::error::AccessError;
use crate::policy::{JitPolicy, PortInput, parse_duration};
use crate::request::{RequestedFlow, Wish, check_justification, parse_sources};
use ajar_network::address::Prefix;
use ajar_network::ports::{PortRange, Protocol};
use ajar_network::resource_id::ResourceId;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How far the caller's clock and the way here may put an end from where the caller meant it. An end is absolute
/// here, so five minutes are less when they arrive, and three hours by a fast clock are more.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(1);

/// The most ports of one VM in one request.
const MOST_PORTS: usize = 20;

/// The body of an initiate (`JitNetworkAccessPolicyInitiateRequest`). Unknown fields are ignored, as Azure does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitiateBody {
    /// The VMs and ports to open.
    pub virtual_machines: Vec<InitiateVm>,
    /// Why, for whoever reads the history.
    #[serde(default)]
    pub justification: Option<String>,
}

/// `JitNetworkAccessPolicyInitiateVirtualMachine`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitiateVm {
    /// Resource id of the VM.
    pub id: String,
    /// The ports to open.
    pub ports: Vec<InitiatePort>,
}

/// `JitNetworkAccessPolicyInitiatePort`, with two fields outside the specification that clients send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitiatePort {
    /// The port.
    pub number: u32,
    /// The source to let in; the caller's own address when this and the list are absent.
    #[serde(default)]
    pub allowed_source_address_prefix: Option<String>,
    /// Several sources to let in; not in the specification.
    #[serde(default)]
    pub allowed_source_address_prefixes: Option<Vec<String>>,
    /// When access is to end, RFC 3339; UTC when no offset is given.
    #[serde(default)]
    pub end_time_utc: Option<String>,
    /// For how long, ISO 8601; not in the specification. With both, the earlier end counts.
    #[serde(default)]
    pub duration: Option<String>,
}

/// One port of one VM: one request, so that a newer one can take its place and leave the other ports alone.
pub(super) struct Wanted {
    pub(super) wish: Wish,
    pub(super) policy: JitPolicy,
    written: Vec<Written>,
    vm_field: String,
    end_field: &'static str,
}

impl Wanted {
    /// An error about the wish, naming the field as the caller wrote it.
    pub(super) fn in_azure_words(&self, error: AccessError) -> AccessError {
        in_azure_words(error, &self.vm_field, &self.written, self.end_field)
    }
}

/// What a call was at, and who made it.
pub(super) struct Asked<'a> {
    /// When it came.
    pub(super) at: Timestamp,
    /// Where from, if that is known.
    pub(super) caller_address: Option<IpAddr>,
    /// What the requests that it becomes have in common.
    pub(super) initiation: &'a str,
    /// Resource id of the policy.
    pub(super) policy: &'a str,
}

/// Every port that `body` asks for, allowed by the policy of its VM; `policies` has them in the body's order.
pub(super) fn read(
    body: &InitiateBody,
    policies: &[JitPolicy],
    asked: &Asked<'_>,
) -> Result<Vec<Wanted>, AccessError> {
    let justification = check_justification(body.justification.as_deref())?;
    let mut all = Vec::new();
    for (index, (written, policy)) in body.virtual_machines.iter().zip(policies).enumerate() {
        let field = format!("virtualMachines[{index}]");
        for mut wanted in read_vm(&policy.vm, &written.ports, &field, policy, asked)? {
            wanted.wish.justification.clone_from(&justification);
            wanted.wish.check_against(policy).map_err(|error| wanted.in_azure_words(error))?;
            all.push(wanted);
        }
    }
    Ok(all)
}

fn read_vm(
    vm: &ResourceId,
    ports: &[InitiatePort],
    vm_field: &str,
    policy: &JitPolicy,
    asked: &Asked<'_>,
) -> Result<Vec<Wanted>, AccessError> {
    if ports.is_empty() || ports.len() > MOST_PORTS {
        return Err(AccessError::invalid(
            format!("{vm_field}.ports"),
            format!("name 1 to {MOST_PORTS} ports"),
        ));
    }
    let mut all: Vec<Wanted> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("{vm_field}.ports[{index}]");
        let range = PortInput::Number(port.number).parse(&format!("{field}.number"))?;
        if all.iter().any(|earlier| earlier.wish.flows.iter().any(|flow| flow.ports == range)) {
            return Err(AccessError::invalid(
                format!("{field}.number"),
                format!(
                    "{range} is named twice: give a port one end, and its sources as allowedSourceAddressPrefixes"
                ),
            ));
        }
        let end = End::of(port, &field, longest(policy, range), asked.at)?;
        let sources = port.sources(&field, asked.caller_address)?;
        let flows: Vec<RequestedFlow> = protocols(policy, range)
            .into_iter()
            .map(|protocol| RequestedFlow { ports: range, protocol, sources: sources.clone() })
            .collect();
        let written = Written { index, has_list: port.names_a_list() };
        all.push(Wanted {
            written: vec![written; flows.len()],
            wish: Wish {
                vm: vm.clone(),
                flows,
                duration: end.duration,
                not_before: None,
                absolute_end: end.absolute,
                justification: None,
                minimum_duration: Some(SHORTEST - CLOCK_SLACK),
                initiation: Some(asked.initiation.to_owned()),
                policy: Some(asked.policy.to_owned()),
                ticket: None,
                break_glass: false,
            },
            policy: policy.clone(),
            vm_field: vm_field.to_owned(),
            end_field: end.field,
        });
    }
    Ok(all)
}

impl InitiatePort {
    fn names_a_list(&self) -> bool {
        self.allowed_source_address_prefix.is_none()
            && self.allowed_source_address_prefixes.as_ref().is_some_and(|list| !list.is_empty())
    }

    fn sources(&self, field: &str, caller_address: Option<IpAddr>) -> Result<Vec<Prefix>, AccessError> {
        let texts = one_or_many(
            field,
            self.allowed_source_address_prefix.as_ref(),
            self.allowed_source_address_prefixes.as_ref(),
        )?;
        let name =
            if self.names_a_list() { "allowedSourceAddressPrefixes" } else { "allowedSourceAddressPrefix" };
        let field = format!("{field}.{name}");
        match (texts, caller_address) {
            ([], Some(address)) => parse_sources(&field, &[address.to_string()]),
            ([], None) => Err(AccessError::invalid(
                field,
                "name the address you connect from, for example 203.0.113.7: this deployment does not fill it in, \
                 because no front end that it trusts says it (app setting AJAR_TRUST_FORWARDED_FOR)",
            )),
            (texts, _) => parse_sources(&field, texts),
        }
    }
}

/// The policy's protocols for a port, which Azure's shape does not ask for; TCP where the policy does not have
/// the port, which the check against the policy then refuses.
fn protocols(policy: &JitPolicy, range: PortRange) -> Vec<Protocol> {
    let protocols: Vec<Protocol> = ports_for(policy, range).map(|port| port.protocol).collect();
    if protocols.is_empty() { vec![Protocol::Tcp] } else { protocols }
}

fn longest(policy: &JitPolicy, range: PortRange) -> Option<SignedDuration> {
    ports_for(policy, range).map(|port| port.maximum_duration).min()
}

fn ports_for(policy: &JitPolicy, range: PortRange) -> impl Iterator<Item = &crate::policy::PolicyPort> {
    policy
        .terms
        .ports
        .iter()
        .filter(move |port| port.ports.first() <= range.first() && range.last() <= port.ports.last())
}

/// When a port is to shut.
struct End {
    duration: SignedDuration,
    absolute: Option<Timestamp>,
    /// The field that says so.
    field: &'static str,
}

impl End {
    fn of(
        port: &InitiatePort,
        field: &str,
        longest: Option<SignedDuration>,
        now: Timestamp,
    ) -> Result<End, AccessError> {
        let duration = port
            .duration
            .as_deref()
            .map(|text| {
                let field = format!("{field}.duration");
                let duration = parse_duration(&field, Some(text), SHORTEST)?;
                if duration < SHORTEST {
                    return Err(AccessError::invalid(
                        field,
                        format!("`{text}` is shorter than five minutes"),
                    ));
                }
                Ok(duration)
            })
            .transpose()?;
        let Some(text) = port.end_time_utc.as_deref() else {
            let duration = duration.ok_or_else(|| {
                AccessError::invalid(
                    format!("{field}.endTimeUtc"),
                    "say when access is to end, for example 2026-11-24T15:00:00Z",
                )
            })?;
            return Ok(End { duration, absolute: None, field: "duration" });
        };
        let end_field = format!("{field}.endTimeUtc");
        let end = parse_end(text).ok_or_else(|| {
            AccessError::invalid(
                end_field.as_str(),
                format!("`{text}` is not a time such as 2026-11-24T15:00:00Z"),
            )
        })?;
        let left = end.duration_since(now);
        if left < SHORTEST - CLOCK_SLACK {
            return Err(AccessError::invalid(
                end_field,
                format!("`{text}` is less than five minutes ahead; it is {now:.0} now"),
            ));
        }
        let left = match longest {
            Some(longest) if left > longest && left <= longest + CLOCK_SLACK => longest,
            _ => left,
        };
        let duration = duration.map_or(left, |duration| duration.min(left));
        Ok(End { duration, absolute: Some(end), field: "endTimeUtc" })
    }
}

fn parse_end(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse::<Timestamp>().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    })
}
