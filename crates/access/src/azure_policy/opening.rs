//! Asking for access in Azure's shape (`JitNetworkAccessPolicies_Initiate`).

use super::shape::{SHORTEST, Written, in_azure_words, one_or_many};
use super::view::{AzureRequest, OpenedVm, ports_of, requests_on};
use super::{MOST_VMS, PolicyAddress, check_group, existing, is_same};
use crate::Ajar;
use crate::error::AccessError;
use crate::life_cycle::Status;
use crate::permission::Action;
use crate::policy::{JitPolicy, PortInput, parse_duration, parse_vm};
use crate::ports::identity::Caller;
use crate::request::{AccessRequest, RequestedFlow, Wish, check_justification, parse_sources};
use crate::submit;
use ajar_network::ports::{PortRange, Protocol};
use ajar_network::resource_id::ResourceId;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

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
    /// The source to let in.
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

/// The ports of one VM that end together: one request.
struct Group {
    wish: Wish,
    written: Vec<Written>,
    vm_field: String,
    end_field: &'static str,
    policy: JitPolicy,
}

/// Takes a request for ports of the resource's VMs. It is decided and opened through the queue, VM by VM. Doing
/// it again with the same ends while the first is under way adds nothing, so a client may repeat it.
///
/// # Errors
/// [`AccessError::Forbidden`] without the permission to initiate, [`AccessError::NotFound`] when there is no
/// such resource, [`AccessError::Invalid`] when a VM is not in it or its policy does not allow a port. Nothing
/// is stored then.
pub async fn initiate(
    ajar: &Ajar,
    caller: &Caller,
    address: &PolicyAddress,
    body: &InitiateBody,
) -> Result<AzureRequest, AccessError> {
    check_group(ajar, caller, address, Action::Initiate).await?;
    let resource = existing(ajar, address).await?;
    let now = ajar.ports.clock.now();
    let justification = check_justification(body.justification.as_deref())?;
    if body.virtual_machines.is_empty() || body.virtual_machines.len() > MOST_VMS {
        return Err(AccessError::invalid(
            "virtualMachines",
            format!("name 1 to {MOST_VMS} virtual machines"),
        ));
    }
    let mut groups: Vec<Group> = Vec::new();
    for (index, written) in body.virtual_machines.iter().enumerate() {
        let field = format!("virtualMachines[{index}]");
        let vm = parse_vm(&format!("{field}.id"), &written.id)?;
        if !resource.virtual_machines.iter().any(|listed| is_same(&vm, listed)) {
            return Err(AccessError::invalid(
                format!("{field}.id"),
                format!("{} is not in the JIT policy {}", vm.name(), address.name()),
            ));
        }
        if groups.iter().any(|group| group.wish.vm == vm) {
            return Err(AccessError::invalid(format!("{field}.id"), format!("{} is named twice", vm.name())));
        }
        let policy = submit::authorised_policy(ajar, caller, &vm).await?;
        for mut group in group_by_end(&vm, &written.ports, &field, &policy, now)? {
            group.wish.justification.clone_from(&justification);
            group.wish.check_against(&policy).map_err(|error| group.in_azure_words(error))?;
            groups.push(group);
        }
    }

    let mut opened: Vec<OpenedVm> = Vec::new();
    for group in groups {
        let vm_id = group.wish.vm.to_string();
        let request = submit_once(ajar, caller, group).await?;
        // The specification names Initiated and Revoked; the service answers Initiating.
        let ports = ports_of(&request, "Initiating", "UserRequested");
        match opened.iter_mut().find(|vm| vm.id == vm_id) {
            Some(vm) => vm.ports.extend(ports),
            None => opened.push(OpenedVm { id: vm_id, ports }),
        }
    }
    Ok(AzureRequest {
        virtual_machines: opened,
        start_time_utc: now,
        requestor: caller.name.clone(),
        justification,
    })
}

impl Group {
    fn in_azure_words(&self, error: AccessError) -> AccessError {
        in_azure_words(error, &self.vm_field, &self.written, self.end_field)
    }
}

fn group_by_end(
    vm: &ResourceId,
    ports: &[InitiatePort],
    vm_field: &str,
    policy: &JitPolicy,
    now: Timestamp,
) -> Result<Vec<Group>, AccessError> {
    if ports.is_empty() || ports.len() > MOST_PORTS {
        return Err(AccessError::invalid(
            format!("{vm_field}.ports"),
            format!("name 1 to {MOST_PORTS} ports"),
        ));
    }
    let mut groups: Vec<Group> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("{vm_field}.ports[{index}]");
        let range = PortInput::Number(port.number).parse(&format!("{field}.number"))?;
        let end = End::of(port, &field, longest(policy, range), now)?;
        let written = Written { index, has_list: port.allowed_source_address_prefix.is_none() };
        let sources = port.sources(&field)?;
        let flows = protocols(policy, range).into_iter().map(|protocol| RequestedFlow {
            ports: range,
            protocol,
            sources: sources.clone(),
        });
        let position = groups
            .iter()
            .position(|group| (group.wish.duration, group.wish.absolute_end) == (end.duration, end.absolute));
        let position = position.unwrap_or_else(|| {
            groups.push(Group {
                wish: Wish {
                    vm: vm.clone(),
                    flows: Vec::new(),
                    duration: end.duration,
                    absolute_end: end.absolute,
                    justification: None,
                    minimum_duration: Some(SHORTEST - CLOCK_SLACK),
                },
                written: Vec::new(),
                vm_field: vm_field.to_owned(),
                end_field: end.field,
                policy: policy.clone(),
            });
            groups.len() - 1
        });
        let Some(group) = groups.get_mut(position) else { continue };
        for flow in flows {
            group.wish.flows.push(flow);
            group.written.push(written);
        }
    }
    Ok(groups)
}

impl InitiatePort {
    fn sources(&self, field: &str) -> Result<Vec<ajar_network::address::Prefix>, AccessError> {
        let one = self.allowed_source_address_prefix.as_ref();
        let texts = one_or_many(field, one, self.allowed_source_address_prefixes.as_ref())?;
        let name = if one.is_some() || texts.is_empty() {
            "allowedSourceAddressPrefix"
        } else {
            "allowedSourceAddressPrefixes"
        };
        parse_sources(&format!("{field}.{name}"), texts)
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

fn is_under_way(status: Status) -> bool {
    !status.is_final() && status != Status::Closing
}

/// Submits a request unless the same caller already has one under way that opens the same until the same end:
/// clients repeat an initiate whose answer was lost, and a repeat must not look like a second wish.
async fn submit_once(ajar: &Ajar, caller: &Caller, group: Group) -> Result<AccessRequest, AccessError> {
    if group.wish.absolute_end.is_some() {
        let same = requests_on(ajar, &group.wish.vm).await?.into_iter().find(|earlier| {
            earlier.requester.object_id == caller.object_id
                && is_under_way(earlier.status)
                && earlier.wish.absolute_end == group.wish.absolute_end
                && earlier.wish.flows == group.wish.flows
        });
        if let Some(same) = same {
            return Ok(same);
        }
    }
    submit::submit_wish(ajar, caller, group.wish.clone(), &group.policy)
        .await
        .map_err(|error| group.in_azure_words(error))
}
