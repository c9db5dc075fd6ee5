//! What an NSG should be like: protections, grants, and what was there before.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::address::{InvalidPrefix, InvalidServiceTag, Prefix, ServiceTag};
use crate::ports::{PortRange, Protocol};
use crate::resource_id::ResourceId;

/// The name of one installation of the product; rules named `ajar-<deployment>-...` are its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeploymentName(String);

/// Why a text is not a deployment name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a deployment name; expected 1 to 12 characters from a-z and 0-9, e.g. `prod`")]
pub struct InvalidDeploymentName {
    /// The text as given.
    pub text: String,
}

impl DeploymentName {
    /// Reads a name of 1 to 12 characters from a-z and 0-9. It has no `-`, so no deployment's prefix is the start
    /// of another's.
    ///
    /// # Errors
    /// [`InvalidDeploymentName`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidDeploymentName> {
        let fits = (1..=12).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidDeploymentName { text: text.to_owned() }) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `ajar-<deployment>-`, with which the names of managed rules start.
    #[must_use]
    pub fn rule_prefix(&self) -> String {
        format!("ajar-{}-", self.0)
    }

    /// Whether a rule of this name is managed by this deployment. Azure compares names without regard to case.
    #[must_use]
    pub fn manages(&self, rule_name: &str) -> bool {
        let prefix = self.rule_prefix();
        rule_name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(&prefix))
    }
}

impl fmt::Display for DeploymentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for DeploymentName {
    type Err = InvalidDeploymentName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for DeploymentName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DeploymentName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What one NSG should be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// Whose rules to manage.
    pub deployment: DeploymentName,
    /// The policies of VMs behind the NSG, in any state.
    pub protections: Vec<Protection>,
    /// The grants on these VMs, past and future ones included.
    pub grants: Vec<GrantedFlow>,
    /// The superseded rules as they were, as stored.
    #[serde(default)]
    pub originals: Vec<OriginalRule>,
    /// `flushConnection` as it was before it was first set; none while it has not been set.
    #[serde(default)]
    pub original_flush_connection: Option<bool>,
}

/// The policy of one VM, as far as an NSG is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protection {
    /// The VM.
    pub vm: ResourceId,
    /// Its private addresses behind this NSG.
    pub addresses: Vec<IpAddr>,
    /// Addresses that the VM explicitly gave up: their deny rules may go.
    #[serde(default)]
    pub released: Vec<IpAddr>,
    /// The ports that stay shut without a grant.
    pub ports: Vec<ProtectedPort>,
    /// Sources that are always let through to these ports.
    #[serde(default)]
    pub exceptions: Vec<StandingException>,
    /// What to do about rules that sit where the deny must go.
    #[serde(default)]
    pub existing_rules: ExistingRules,
    /// Whether established connections are to end with the rule that allowed them.
    #[serde(default)]
    pub flush_connection: bool,
    /// Whether the policy is in force.
    pub state: ProtectionState,
}

/// Ports of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProtectedPort {
    /// The ports.
    pub ports: PortRange,
    /// TCP, UDP or Any; others have no ports and are refused.
    pub protocol: Protocol,
}

/// A source that a policy always lets through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StandingException {
    /// The source.
    pub source: ExceptionSource,
}

/// The source of a standing exception; a text in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExceptionSource {
    /// Addresses.
    Prefix(Prefix),
    /// A service tag.
    Tag(ServiceTag),
}

/// Why a text is not the source of an exception.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExceptionSource {
    /// It looks like an address.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    /// It does not.
    #[error(transparent)]
    Tag(#[from] InvalidServiceTag),
}

impl ExceptionSource {
    /// Reads an address, a prefix or a service tag.
    ///
    /// # Errors
    /// [`InvalidExceptionSource`] when the text is none of them.
    pub fn parse(text: &str) -> Result<Self, InvalidExceptionSource> {
        if text.starts_with(|c: char| c.is_ascii_digit()) || text.contains(':') {
            Ok(Self::Prefix(Prefix::parse(text)?))
        } else {
            Ok(Self::Tag(ServiceTag::parse(text)?))
        }
    }
}

impl fmt::Display for ExceptionSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

impl Serialize for ExceptionSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ExceptionSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What to do about other people's rules that sit where a deny must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExistingRules {
    /// Renumber them to after the deny, keeping their order and their originals.
    #[default]
    Supersede,
    /// Leave them, put the deny as high as possible, and report what stays open.
    Respect,
}

/// Whether a policy is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProtectionState {
    /// In force.
    Enabled,
    /// A person turned it off: denies go, and what was superseded comes back.
    Disabling,
    /// The VM is gone for good: denies go, nothing is restored.
    Retired,
}

/// An approved request's flow through this NSG; active while `start <= now < end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantedFlow {
    /// The grant's id.
    pub id: String,
    /// The VM.
    pub vm: ResourceId,
    /// The VM's private addresses that are opened.
    pub addresses: Vec<IpAddr>,
    /// The ports.
    pub ports: PortRange,
    /// TCP, UDP or Any.
    pub protocol: Protocol,
    /// Who may come in.
    pub sources: Vec<Prefix>,
    /// The first instant.
    pub start: Timestamp,
    /// The first instant after.
    pub end: Timestamp,
    /// Who asked, for people to read.
    pub requester: String,
}

impl GrantedFlow {
    /// Whether the grant is open at that time.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.start <= now && now < self.end
    }
}

/// A rule as it was before it was superseded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OriginalRule {
    /// Its name.
    pub name: String,
    /// Its priority.
    pub priority: u16,
    /// The whole rule as ARM returned it.
    pub rule: Value,
}

/// The next instant after `now` at which a grant starts or ends; none when nothing changes by itself any more.
#[must_use]
pub fn next_boundary(desired: &Desired, now: Timestamp) -> Option<Timestamp> {
    desired
        .grants
        .iter()
        .filter(|g| g.start < g.end)
        .flat_map(|g| [g.start, g.end])
        .filter(|t| *t > now)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_deployment_never_manages_the_rules_of_another() {
        let prod = DeploymentName::parse("prod").unwrap();
        assert!(prod.manages("ajar-prod-allow-ssh-1"));
        assert!(prod.manages("AJAR-PROD-allow-ssh-1"));
        assert!(!prod.manages("ajar-prod2-allow-ssh-1"));
        assert!(!prod.manages("ajar-pro-d-allow"));
        assert!(!prod.manages("ajar-prod"));
        assert!(!prod.manages("ärger"));
        for bad in ["", "Prod", "a-b", "abcdefghijklm", "prod "] {
            assert!(DeploymentName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_exception_is_a_prefix_or_a_tag() {
        assert!(matches!(ExceptionSource::parse("10.0.1.0/26").unwrap(), ExceptionSource::Prefix(_)));
        assert!(matches!(ExceptionSource::parse("fd00::/8").unwrap(), ExceptionSource::Prefix(_)));
        assert!(matches!(ExceptionSource::parse("VirtualNetwork").unwrap(), ExceptionSource::Tag(_)));
        assert!(ExceptionSource::parse("10.0.1.1/26").unwrap_err().to_string().contains("10.0.1.0/26"));
        assert!(ExceptionSource::parse("*").is_err());
    }
}
