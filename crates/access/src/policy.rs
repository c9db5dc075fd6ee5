//! JIT policies: what may be asked for on one VM, as users write it and as it is stored.

use crate::document::Document;
use crate::error::AccessError;
use crate::ports::identity::Caller;
use ajar_network::address::{AddressSet, Prefix};
use ajar_network::plan::{ExceptionSource, ExistingRules};
use ajar_network::ports::{PortRange, Protocol};
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::net::IpAddr;

/// The longest a policy may allow: a day, as in Azure's API.
pub const LONGEST_DURATION: SignedDuration = SignedDuration::from_hours(24);

/// The longest access when a policy does not say: three hours, as Defender for Cloud suggests.
pub const DEFAULT_MAXIMUM_DURATION: SignedDuration = SignedDuration::from_hours(3);

/// The shortest access when a policy does not say: Azure's five minutes.
pub const DEFAULT_MINIMUM_DURATION: SignedDuration = SignedDuration::from_mins(5);

/// The most IPv4 addresses one request may open when a policy does not say.
pub const DEFAULT_MAX_SOURCE_ADDRESSES: u32 = 65_536;

/// The widest IPv6 source of one request: one /48, the size of a site.
const WIDEST_IPV6_PREFIX: u8 = 48;

/// The most ports one policy may name: each becomes a rule.
const MOST_PORTS: usize = 20;

/// The most sources in one list.
const MOST_SOURCES: usize = 100;

/// A JIT policy as a user writes it. Strict: an unknown field is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyInput {
    /// Resource id of the VM.
    pub vm: String,
    /// The ports that are kept shut and may be asked for.
    pub ports: Vec<PolicyPortInput>,
    /// Sources that are always let through, as addresses, CIDR blocks or service tags: a Bastion subnet, a
    /// jump host.
    #[serde(default)]
    pub standing_exceptions: Vec<String>,
    /// What happens to existing rules where the deny must go: `supersede` (the default) or `respect`.
    #[serde(default)]
    pub existing_rules: Option<String>,
    /// Whether closing also cuts established connections (NSG property `flushConnection`); true by default.
    #[serde(default)]
    pub flush_connections: Option<bool>,
    /// The shortest duration of a native request, ISO 8601; `PT5M` by default, at least one second.
    #[serde(default)]
    pub minimum_duration: Option<String>,
    /// The most IPv4 addresses one request may open; 65536 by default.
    #[serde(default)]
    pub max_source_addresses: Option<u32>,
    /// What becomes of open access whose owner loses the role: `close` (the default) or `keep`.
    #[serde(default)]
    pub when_role_is_lost: Option<String>,
    /// What happens when somebody undoes the protection by hand: `repair` (the default) or `report`.
    #[serde(default)]
    pub on_drift: Option<String>,
}

/// One port of a [`PolicyInput`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyPortInput {
    /// A port or a range: `22` or `"5985-5986"`.
    pub port: PortInput,
    /// `Tcp` (the default), `Udp` or `*`.
    #[serde(default)]
    pub protocol: Option<String>,
    /// Addresses and CIDR blocks that a request may name; any when absent, empty or `*`.
    #[serde(default)]
    pub allowed_sources: Option<Vec<String>>,
    /// The longest access, ISO 8601; `PT3H` by default, at most `PT24H`.
    #[serde(default)]
    pub maximum_duration: Option<String>,
}

/// A port as people write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a port such as 22 or a range such as \"5985-5986\"")]
pub enum PortInput {
    /// `22`
    Number(u32),
    /// `"22"` or `"5985-5986"`
    Text(String),
}

impl PortInput {
    /// Parses the port or range.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] naming `field`.
    pub fn parse(&self, field: &str) -> Result<PortRange, AccessError> {
        let text = match self {
            PortInput::Number(number) => number.to_string(),
            PortInput::Text(text) => text.trim().to_owned(),
        };
        let rule = || {
            AccessError::invalid(
                field,
                format!("`{text}` is not a port from 1 to 65535 or a range such as 5985-5986"),
            )
        };
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let parse = |part: &str| part.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(rule);
        PortRange::new(parse(first)?, parse(last)?).map_err(|_| rule())
    }
}

/// Which sources a request may name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllowedSources {
    /// Any, within `max_source_addresses`.
    Any,
    /// These and their parts.
    Only(Vec<Prefix>),
}

/// One port that a policy keeps shut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyPort {
    /// The port or range.
    pub ports: PortRange,
    /// The protocol; `*` is all of them.
    pub protocol: Protocol,
    /// Who may be let in.
    pub allowed_sources: AllowedSources,
    /// For how long at most.
    pub maximum_duration: SignedDuration,
}

/// What becomes of open access whose owner loses the role for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WhenRoleIsLost {
    /// It is ended when the loss is noticed.
    #[default]
    Close,
    /// It stays open to its end.
    Keep,
}

/// What a policy says, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTerms {
    /// The ports, none covering another's packets.
    pub ports: Vec<PolicyPort>,
    /// Sources always let through.
    pub standing_exceptions: Vec<ExceptionSource>,
    /// What happens to existing rules.
    pub existing_rules: ExistingRules,
    /// Whether closing cuts established connections.
    pub flush_connections: bool,
    /// The shortest native request.
    pub minimum_duration: SignedDuration,
    /// The most IPv4 addresses of one request.
    pub max_source_addresses: u32,
    /// What becomes of open access whose owner loses the role; rows from before this was asked say nothing.
    #[serde(default)]
    pub when_role_is_lost: WhenRoleIsLost,
    /// What happens when somebody undoes the protection by hand.
    #[serde(default)]
    pub on_drift: OnDrift,
}

/// What happens when the rules at an enforcement point are not what Ajar left there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnDrift {
    /// They are put right at once.
    #[default]
    Repair,
    /// It is told in the VM's history. The next write for another reason, such as a grant, puts them right.
    Report,
}

/// Whether a policy is in force. Absence of a policy is neither: nothing is opened for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PolicyState {
    /// JIT is on.
    Enabled,
    /// A person turned it off: denies go, originals come back, then the policy is removed.
    Disabling,
    /// Azure does not know the VM any more, and no network interface holds its address: denies go, nothing comes back,
    /// then the policy is removed.
    Retired,
}

/// An enforcement point of a VM and the addresses it filters there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyPoint {
    /// Resource id of the NSG.
    pub point: ResourceId,
    /// The VM's private addresses behind it.
    pub addresses: Vec<IpAddr>,
}

/// The JIT policy of one VM, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JitPolicy {
    /// The VM.
    pub vm: ResourceId,
    /// The VM's Azure region, where Azure's API places the policy.
    pub location: String,
    /// Azure's `vmId`, by which a VM that was created anew under the same name is told apart.
    #[serde(default)]
    pub vm_id: Option<String>,
    /// Whether it is in force.
    pub state: PolicyState,
    /// What it says.
    #[serde(flatten)]
    pub terms: PolicyTerms,
    /// Where it is enforced, as far as it has been projected.
    pub points: Vec<PolicyPoint>,
    /// Who wrote it last.
    pub configured_by: Caller,
    /// When.
    pub configured_at: Timestamp,
}

impl Document for JitPolicy {
    const VERSION: u32 = 1;
    const NAME: &'static str = "JIT policy";
}

impl PolicyInput {
    /// The VM this policy is for.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] naming `vm`.
    pub fn vm(&self) -> Result<ResourceId, AccessError> {
        parse_vm("vm", &self.vm)
    }

    /// Checks everything but the VM.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] naming the first field that breaks a rule, and the rule.
    pub fn terms(&self) -> Result<PolicyTerms, AccessError> {
        if self.ports.is_empty() || self.ports.len() > MOST_PORTS {
            return Err(AccessError::invalid("ports", format!("name 1 to {MOST_PORTS} ports")));
        }
        let mut ports: Vec<PolicyPort> = Vec::new();
        for (index, input) in self.ports.iter().enumerate() {
            let port = input.check(&format!("ports[{index}]"))?;
            if let Some(other) = ports.iter().find(|other| {
                ports_overlap(other.ports, port.ports) && protocols_overlap(other.protocol, port.protocol)
            }) {
                return Err(AccessError::invalid(
                    format!("ports[{index}].port"),
                    format!("{} is named twice: {} covers it already", port.ports, other.ports),
                ));
            }
            ports.push(port);
        }
        let minimum_duration =
            parse_duration("minimumDuration", self.minimum_duration.as_deref(), DEFAULT_MINIMUM_DURATION)?;
        if let Some(port) = ports.iter().find(|port| port.maximum_duration < minimum_duration) {
            return Err(AccessError::invalid(
                "minimumDuration",
                format!("is longer than the longest access to port {}", port.ports),
            ));
        }
        let terms = PolicyTerms {
            ports,
            standing_exceptions: parse_list(
                "standingExceptions",
                &self.standing_exceptions,
                ExceptionSource::parse,
            )?,
            existing_rules: match self.existing_rules.as_deref() {
                None | Some("supersede") => ExistingRules::Supersede,
                Some("respect") => ExistingRules::Respect,
                Some(other) => {
                    return Err(AccessError::invalid(
                        "existingRules",
                        format!("`{other}` is neither `supersede` nor `respect`"),
                    ));
                }
            },
            flush_connections: self.flush_connections.unwrap_or(true),
            minimum_duration,
            max_source_addresses: self.max_source_addresses.unwrap_or(DEFAULT_MAX_SOURCE_ADDRESSES),
            when_role_is_lost: match self.when_role_is_lost.as_deref() {
                None | Some("close") => WhenRoleIsLost::Close,
                Some("keep") => WhenRoleIsLost::Keep,
                Some(other) => {
                    return Err(AccessError::invalid(
                        "whenRoleIsLost",
                        format!("`{other}` is neither `close` nor `keep`"),
                    ));
                }
            },
            on_drift: match self.on_drift.as_deref() {
                None | Some("repair") => OnDrift::Repair,
                Some("report") => OnDrift::Report,
                Some(other) => {
                    return Err(AccessError::invalid(
                        "onDrift",
                        format!("`{other}` is neither `repair` nor `report`"),
                    ));
                }
            },
        };
        terms.check_exceptions()?;
        Ok(terms)
    }
}

impl PolicyPortInput {
    fn check(&self, field: &str) -> Result<PolicyPort, AccessError> {
        let allowed_sources = match self.allowed_sources.as_deref() {
            None | Some([]) => AllowedSources::Any,
            Some([only]) if only == "*" => AllowedSources::Any,
            Some(list) => {
                AllowedSources::Only(parse_list(&format!("{field}.allowedSources"), list, Prefix::parse)?)
            }
        };
        Ok(PolicyPort {
            ports: self.port.parse(&format!("{field}.port"))?,
            protocol: parse_protocol(&format!("{field}.protocol"), self.protocol.as_deref())?
                .unwrap_or(Protocol::Tcp),
            allowed_sources,
            maximum_duration: parse_duration(
                &format!("{field}.maximumDuration"),
                self.maximum_duration.as_deref(),
                DEFAULT_MAXIMUM_DURATION,
            )?,
        })
    }
}

impl PolicyTerms {
    /// Checks that what is always let through leaves something shut.
    fn check_exceptions(&self) -> Result<(), AccessError> {
        for (index, exception) in self.standing_exceptions.iter().enumerate() {
            let field = format!("standingExceptions[{index}]");
            match exception {
                ExceptionSource::Prefix(prefix) => self.check_width(&field, &AddressSet::from(*prefix))?,
                ExceptionSource::Tag(tag) if tag.is_internet() => {
                    return Err(AccessError::invalid(
                        field,
                        "would leave the ports open to the whole Internet",
                    ));
                }
                ExceptionSource::Tag(_) => {}
            }
        }
        Ok(())
    }

    /// Checks that `sources` are few enough to be opened at once, however they are spelled.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] naming `field`.
    pub(crate) fn check_width(&self, field: &str, sources: &AddressSet) -> Result<(), AccessError> {
        let (v4, v6) = (sources.v4_count(), sources.v6_count());
        if v4 > u64::from(self.max_source_addresses) {
            return Err(AccessError::invalid(
                field,
                format!(
                    "opens {v4} IPv4 addresses; this policy allows at most {} (maxSourceAddresses). Name the \
                     address you connect from, for example 203.0.113.7",
                    self.max_source_addresses
                ),
            ));
        }
        if v6 > 1_u128 << (128 - WIDEST_IPV6_PREFIX) {
            return Err(AccessError::invalid(
                field,
                format!(
                    "opens more than one /{WIDEST_IPV6_PREFIX} of IPv6 addresses. Name the address you connect from"
                ),
            ));
        }
        Ok(())
    }
}

fn ports_overlap(one: PortRange, other: PortRange) -> bool {
    one.first() <= other.last() && other.first() <= one.last()
}

/// Whether some packet is of both protocols.
fn protocols_overlap(one: Protocol, other: Protocol) -> bool {
    one == other || one == Protocol::Any || other == Protocol::Any
}

/// Parses the resource id of a VM.
pub(crate) fn parse_vm(field: &str, text: &str) -> Result<ResourceId, AccessError> {
    let id = ResourceId::parse(text).map_err(|error| AccessError::invalid(field, error.to_string()))?;
    if !id.resource_type().eq_ignore_ascii_case("Microsoft.Compute/virtualMachines") {
        return Err(AccessError::invalid(
            field,
            format!("{text} is a {}, not a Microsoft.Compute/virtualMachines", id.resource_type()),
        ));
    }
    Ok(id)
}

/// Parses `Tcp`, `Udp` or `*`; anything else that Azure knows has no ports.
pub(crate) fn parse_protocol(field: &str, text: Option<&str>) -> Result<Option<Protocol>, AccessError> {
    let Some(text) = text else { return Ok(None) };
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Some(Protocol::Tcp)),
        "udp" => Ok(Some(Protocol::Udp)),
        "*" | "any" | "all" => Ok(Some(Protocol::Any)),
        _ => Err(AccessError::invalid(field, format!("`{text}` is none of Tcp, Udp and *"))),
    }
}

/// Parses an ISO 8601 duration of one second to 24 hours.
pub(crate) fn parse_duration(
    field: &str,
    text: Option<&str>,
    default: SignedDuration,
) -> Result<SignedDuration, AccessError> {
    let Some(text) = text else { return Ok(default) };
    text.starts_with(['P', 'p'])
        .then(|| text.parse::<SignedDuration>().ok())
        .flatten()
        .filter(|duration| *duration >= SignedDuration::from_secs(1) && *duration <= LONGEST_DURATION)
        .ok_or_else(|| {
            AccessError::invalid(
                field,
                format!("`{text}` is not an ISO 8601 duration from PT1S to PT24H, such as PT1H30M"),
            )
        })
}

/// Parses addresses and CIDR blocks, or whatever else a list of sources may hold.
pub(crate) fn parse_list<T, E: Display>(
    field: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, AccessError> {
    if texts.len() > MOST_SOURCES {
        return Err(AccessError::invalid(field, format!("name at most {MOST_SOURCES} sources")));
    }
    texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            parse(text).map_err(|error| {
                AccessError::invalid(format!("{field}[{index}]"), format!("`{text}`: {error}"))
            })
        })
        .collect()
}
