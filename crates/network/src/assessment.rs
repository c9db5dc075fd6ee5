//! The verdict on a VM.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::{SourceGroup, SourceSet};
use crate::estate::Estate;
use crate::ports::{Port, Protocol};
use crate::resource_id::ResourceId;

/// Whether just-in-time access is enabled on the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JitStatus {
    /// No policy, or one that is being or was turned off.
    Disabled,
    /// A policy whose denies are effective on every managed port.
    Enabled,
    /// A policy whose denies something is known to precede: respected rules, or a security admin rule.
    EnabledInPart,
}

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// Management ports are protected.
    Healthy,
    /// Some management port is open to someone.
    Unhealthy,
    /// Nothing filters the VM, so just-in-time access cannot be enabled on it.
    NotApplicable,
    /// A kind of VM that this product does not handle.
    NotSupported,
    /// The truth depends on something that could not be read or is not understood yet.
    Unknown,
}

/// Why the verdict is what it is; each reason belongs to one status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Reason {
    /// Healthy: just-in-time access is enabled.
    JitEnabled {
        /// Whether rules that were left in place, or a security admin rule, still let others in.
        protected_in_part: bool,
    },
    /// Healthy: no custom rule allows a management port.
    NsgClosed,
    /// Unhealthy: see the findings.
    ManagementPortsOpen,
    /// NotApplicable: neither an NSG nor a firewall.
    NoEnforcementPoint,
    /// NotSupported: a classic (Azure Service Management) VM.
    ClassicVm,
    /// NotSupported: an instance of a scale set.
    ScaleSetInstance,
    /// Unknown: the estate has no such VM.
    VmNotFound,
    /// Unknown: the way to the VM leads through a firewall or appliance, and its rules decide.
    BehindFirewall {
        /// The firewall, route table or subnet that shows it.
        evidence: Vec<String>,
    },
    /// Unknown: something needed could not be read.
    Unreadable {
        /// What, and what it means.
        problems: Vec<String>,
    },
}

/// Whether the sources of a finding include the Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Internet {
    /// No public address.
    None,
    /// Some public addresses, or a tag such as `AzureCloud` whose addresses anyone can rent.
    Some,
    /// The Internet at large: at least half of the public addresses of a family.
    Everyone,
}

/// The rule that decides, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The NSG.
    pub enforcement_point: ResourceId,
    /// The rule's name; default rules under their own names.
    pub rule: String,
    /// The rule's priority.
    pub priority: Option<u16>,
    /// The sources that this rule decides.
    pub sources: SourceSet,
}

/// A packet that shows a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Witness {
    /// Where it comes from.
    pub source: IpAddr,
    /// The groups its source must lie in for the packet to pass; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<SourceGroup>,
    /// The groups its source must not lie in; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<SourceGroup>,
    /// The port it comes from.
    pub source_port: Port,
    /// The VM's private address.
    pub destination: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// The VM's port.
    pub port: Port,
}

/// A management port that someone can reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The VM's private address.
    pub address: IpAddr,
    /// The port.
    pub port: Port,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Who can reach it.
    pub sources: SourceSet,
    /// Whether the rules let the Internet in.
    pub internet: Internet,
    /// Whether the Internet has a way to the address: its own public address, or a load balancer. None: not known.
    pub way_in: Option<bool>,
    /// The deciding rules, in order of the path.
    pub evidence: Vec<Evidence>,
    /// A packet that passes.
    pub witness: Option<Witness>,
}

/// The verdict on a VM, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assessment {
    /// The VM.
    pub vm: ResourceId,
    /// The verdict.
    pub status: Status,
    /// Why.
    pub reason: Reason,
    /// The open management ports.
    pub findings: Vec<Finding>,
}

/// Judges a VM by the table in the design, section 5.
#[must_use]
pub fn assess(estate: &Estate, vm: &ResourceId, jit: JitStatus) -> Assessment {
    let _ = (estate, jit);
    Assessment { vm: vm.clone(), status: Status::Unknown, reason: Reason::VmNotFound, findings: Vec::new() }
}
