//! The policy's shape in Azure's API and what it means in a VM's own policy.
//!
//! Unknown fields are ignored, as Azure does: clients send back what they were given.

use super::address::PolicyAddress;
use crate::error::AccessError;
use crate::policy::{
    AllowedSources, JitPolicy, PolicyInput, PolicyPort, PolicyPortInput, PolicyState, PolicyTerms, PortInput,
    parse_duration, parse_vm,
};
use ajar_network::ports::Protocol;
use ajar_network::resource_id::ResourceId;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// The shortest access in Azure's API: "Minimum 5 minutes, maximum 1 day" (`JitNetworkAccessPortRule`).
pub(super) const SHORTEST: SignedDuration = SignedDuration::from_mins(5);

/// The longest name of a policy and of one of its VMs together, in characters (Microsoft's limit for JIT).
const LONGEST_NAMES: usize = 56;

/// The most numbers that a range of ports, which Azure's shape does not have, is written out as.
const MOST_NUMBERS: usize = 20;

/// The body of a PUT (`JitNetworkAccessPolicy`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyBody {
    /// Kind of the resource; `Basic` when absent.
    #[serde(default)]
    pub kind: Option<String>,
    /// What it says.
    pub properties: PolicyProperties,
}

/// `JitNetworkAccessPolicyProperties`, as far as a caller decides it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyProperties {
    /// The VMs.
    pub virtual_machines: Vec<VmTerms>,
    /// Whether VMs that are not named stay in the policy. Not in the specification; clients send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_mode: Option<bool>,
}

/// `JitNetworkAccessPolicyVirtualMachine`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmTerms {
    /// Resource id of the VM.
    pub id: String,
    /// The ports that are kept shut and may be asked for.
    pub ports: Vec<PortTerms>,
}

/// `JitNetworkAccessPortRule`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortTerms {
    /// The port.
    pub number: u32,
    /// `TCP`, `UDP` or `*`.
    pub protocol: String,
    /// The one source that may be asked for; any when this and the list are absent, or `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_source_address_prefix: Option<String>,
    /// Several such sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_source_address_prefixes: Option<Vec<String>>,
    /// The longest access, ISO 8601, from `PT5M` to `P1D`.
    pub max_request_access_duration: String,
}

/// How the caller wrote the port that the native shape has at some place, to name it in an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// The port's index in the caller's list.
    pub(super) index: usize,
    /// Whether its sources are a list.
    pub(super) has_list: bool,
}

/// Checks what a body says about each VM in itself.
pub(super) fn check_vms(
    vms: &[VmTerms],
    address: &PolicyAddress,
) -> Result<Vec<(ResourceId, PolicyTerms)>, AccessError> {
    let mut checked: Vec<(ResourceId, PolicyTerms)> = Vec::new();
    for (index, written) in vms.iter().enumerate() {
        let field = format!("properties.virtualMachines[{index}]");
        let id = format!("{field}.id");
        let vm = parse_vm(&id, &written.id)?;
        if !address.is_group_of(&vm) {
            return Err(AccessError::invalid(id, "is not in the resource group of this policy"));
        }
        let characters = address.name().chars().count() + vm.name().chars().count();
        if characters > LONGEST_NAMES {
            return Err(AccessError::invalid(
                id,
                format!(
                    "the names of the policy and of the VM may have {LONGEST_NAMES} characters together; {} and {} \
                     have {characters}: give the policy a shorter name",
                    address.name(),
                    vm.name()
                ),
            ));
        }
        if checked.iter().any(|(other, _)| *other == vm) {
            return Err(AccessError::invalid(id, format!("{} is named twice", vm.name())));
        }
        let terms = written.terms(&field)?;
        checked.push((vm, terms));
    }
    Ok(checked)
}

impl VmTerms {
    /// What it means in the VM's own policy; `field` is where the caller wrote it.
    pub(super) fn terms(&self, field: &str) -> Result<PolicyTerms, AccessError> {
        let mut ports = Vec::new();
        let mut written = Vec::new();
        for (index, port) in self.ports.iter().enumerate() {
            let field = format!("{field}.ports[{index}]");
            check_duration(&field, &port.max_request_access_duration)?;
            let sources = one_or_many(
                &field,
                port.allowed_source_address_prefix.as_ref(),
                port.allowed_source_address_prefixes.as_ref(),
            )?;
            let is_any = sources.iter().any(|source| matches!(source.trim(), "*" | "Any" | "any"));
            written.push(Written { index, has_list: port.allowed_source_address_prefix.is_none() });
            ports.push(PolicyPortInput {
                port: PortInput::Number(port.number),
                protocol: Some(port.protocol.clone()),
                allowed_sources: (!is_any).then(|| sources.to_vec()),
                maximum_duration: Some(port.max_request_access_duration.clone()),
            });
        }
        let input = PolicyInput {
            vm: self.id.clone(),
            ports,
            standing_exceptions: Vec::new(),
            existing_rules: None,
            flush_connections: None,
            minimum_duration: None,
            max_source_addresses: None,
            when_role_is_lost: None,
            on_drift: None,
        };
        input.terms().map_err(|error| in_azure_words(error, field, &written, "maxRequestAccessDuration"))
    }

    /// A VM's own policy in Azure's shape.
    pub(super) fn of(policy: &JitPolicy) -> VmTerms {
        VmTerms {
            id: policy.vm.to_string(),
            ports: policy.terms.ports.iter().flat_map(PortTerms::of).collect(),
        }
    }
}

impl PortTerms {
    fn of(port: &PolicyPort) -> Vec<PortTerms> {
        let prefixes: Vec<String> = match &port.allowed_sources {
            AllowedSources::Any => vec!["*".to_owned()],
            AllowedSources::Only(prefixes) => prefixes.iter().map(ToString::to_string).collect(),
        };
        let (one, many) = match prefixes.as_slice() {
            [one] => (Some(one.clone()), None),
            _ => (None, Some(prefixes)),
        };
        (port.ports.first()..=port.ports.last())
            .take(MOST_NUMBERS)
            .map(|number| PortTerms {
                number: u32::from(number),
                protocol: match port.protocol {
                    Protocol::Tcp => "TCP".to_owned(),
                    Protocol::Udp => "UDP".to_owned(),
                    other => other.to_string(),
                },
                allowed_source_address_prefix: one.clone(),
                allowed_source_address_prefixes: many.clone(),
                max_request_access_duration: port.maximum_duration.to_string(),
            })
            .collect()
    }
}

fn check_duration(field: &str, text: &str) -> Result<(), AccessError> {
    let field = format!("{field}.maxRequestAccessDuration");
    if parse_duration(&field, Some(text), SHORTEST)? < SHORTEST {
        return Err(AccessError::invalid(field, format!("`{text}` is shorter than five minutes")));
    }
    Ok(())
}

/// The sources of a port, which Azure's shape has as one or as a list.
pub(super) fn one_or_many<'a>(
    field: &str,
    one: Option<&'a String>,
    many: Option<&'a Vec<String>>,
) -> Result<&'a [String], AccessError> {
    match (one, many) {
        (Some(_), Some(many)) if !many.is_empty() => Err(AccessError::invalid(
            format!("{field}.allowedSourceAddressPrefixes"),
            "give either this or allowedSourceAddressPrefix",
        )),
        (Some(one), _) => Ok(std::slice::from_ref(one)),
        (None, Some(many)) => Ok(many),
        (None, None) => Ok(&[]),
    }
}

/// Terms from Azure's shape, with what that shape cannot say as the VM's policy has it.
pub(super) fn keeping(terms: PolicyTerms, existing: Option<JitPolicy>) -> PolicyTerms {
    let Some(existing) = existing.filter(|existing| existing.state == PolicyState::Enabled) else {
        return terms;
    };
    let shortest_maximum = terms.ports.iter().map(|port| port.maximum_duration).min();
    let minimum = existing.terms.minimum_duration;
    PolicyTerms {
        ports: terms.ports,
        minimum_duration: shortest_maximum.map_or(minimum, |shortest| minimum.min(shortest)),
        ..existing.terms
    }
}

/// An error about the native shape, naming the field as the caller of Azure's API wrote it: `vm_field` is the
/// VM's place in the body, `ports` says how the ports were written, `duration_field` what limits the duration.
pub(super) fn in_azure_words(
    error: AccessError,
    vm_field: &str,
    ports: &[Written],
    duration_field: &str,
) -> AccessError {
    let AccessError::Invalid { field, rule } = error else { return error };
    let port_field = |port: &Written| format!("{vm_field}.ports[{}]", port.index);
    let place = field.strip_prefix("ports[").and_then(|rest| {
        let (position, rest) = rest.split_once(']')?;
        Some((ports.get(position.parse::<usize>().ok()?)?, rest))
    });
    let field = match place {
        Some((port, rest)) => {
            let sources = rest.strip_prefix(".allowedSources").or_else(|| rest.strip_prefix(".sources"));
            let name = match (sources, rest) {
                (Some(index), _) if port.has_list => format!(".allowedSourceAddressPrefixes{index}"),
                (Some(_), _) => ".allowedSourceAddressPrefix".to_owned(),
                (None, ".port") => ".number".to_owned(),
                (None, ".maximumDuration") => ".maxRequestAccessDuration".to_owned(),
                (None, other) => other.to_owned(),
            };
            port_field(port) + &name
        }
        None => match (field.as_str(), ports.first()) {
            ("duration" | "minimumDuration", Some(first)) => {
                format!("{}.{duration_field}", port_field(first))
            }
            ("justification", _) => field,
            _ => format!("{vm_field}.{field}"),
        },
    };
    AccessError::Invalid { field, rule }
}
