//! The verdict on a VM.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::address::{AddressSet, ServiceTag, SourceGroup, SourceSet, SourceTerm};
use crate::estate::{Estate, IpConfiguration, NsgLevel, OpenByDefault, VmNetwork};
use crate::nsg::Access;
use crate::ports::{Port, Protocol};
use crate::reachability::{
    Destination, Flow, InboundRules, Level, PathReach, Uncertainty, path_reach_under, public_space,
};
use crate::resource_id::ResourceId;

pub use crate::reachability::Witness;

/// The management ports, with the protocols a client can use on them: SSH, RDP (over UDP too) and WinRM.
pub const MANAGEMENT_PORTS: [(Port, Protocol); 5] = [
    (22, Protocol::Tcp),
    (3389, Protocol::Tcp),
    (3389, Protocol::Udp),
    (5985, Protocol::Tcp),
    (5986, Protocol::Tcp),
];

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

impl Status {
    /// All of them.
    pub const ALL: [Status; 5] =
        [Status::Healthy, Status::Unhealthy, Status::NotApplicable, Status::NotSupported, Status::Unknown];

    /// Its name, in reports and for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Healthy => "Healthy",
            Status::Unhealthy => "Unhealthy",
            Status::NotApplicable => "NotApplicable",
            Status::NotSupported => "NotSupported",
            Status::Unknown => "Unknown",
        }
    }
}

/// Why the verdict is what it is; each reason belongs to one status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all_fields = "camelCase")]
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

impl Reason {
    /// Its name, in reports and for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Reason::JitEnabled { .. } => "JitEnabled",
            Reason::NsgClosed => "NsgClosed",
            Reason::ManagementPortsOpen => "ManagementPortsOpen",
            Reason::NoEnforcementPoint => "NoEnforcementPoint",
            Reason::ClassicVm => "ClassicVm",
            Reason::ScaleSetInstance => "ScaleSetInstance",
            Reason::VmNotFound => "VmNotFound",
            Reason::BehindFirewall { .. } => "BehindFirewall",
            Reason::Unreadable { .. } => "Unreadable",
        }
    }

    /// What there is to say about it, each a sentence or the name of something; mostly nothing.
    pub fn details(&self) -> &[String] {
        match self {
            Reason::BehindFirewall { evidence } => evidence,
            Reason::Unreadable { problems } => problems,
            _ => &[],
        }
    }
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
    /// Who can reach it; where `certain` is false, who may be able to.
    pub sources: SourceSet,
    /// Whether this is so whatever could not be read.
    pub certain: bool,
    /// Whether the rules let the Internet in.
    pub internet: Internet,
    /// Whether the Internet has a way to the address: its own public address, or a load balancer. None: not known.
    pub way_in: Option<bool>,
    /// The deciding rules, in order of the path.
    pub evidence: Vec<Evidence>,
    /// A packet that passes.
    pub witness: Option<Witness>,
}

impl Finding {
    /// What is open, for whom and by which rules, in words: `22/Tcp to the Internet by AllowSSH`.
    pub fn summary(&self) -> String {
        let whom = match self.internet {
            Internet::Everyone => "the Internet",
            Internet::Some => "some Internet addresses",
            Internet::None => "private addresses",
        };
        let rules: Vec<&str> = self.evidence.iter().map(|evidence| evidence.rule.as_str()).collect();
        format!("{}/{} to {whom} by {}", self.port, self.protocol, rules.join(" and "))
    }
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

/// Judges a VM by the table in the design, section 5: a port is open when a *custom* inbound rule lets someone in
/// and every other NSG on the path passes it. Never Healthy when something needed could not be read.
#[must_use]
pub fn assess(estate: &Estate, vm: &ResourceId, jit: JitStatus) -> Assessment {
    let verdict = |status, reason, findings| Assessment { vm: vm.clone(), status, reason, findings };
    let resource_type = vm.resource_type();
    if resource_type.eq_ignore_ascii_case("Microsoft.ClassicCompute/virtualMachines") {
        return verdict(Status::NotSupported, Reason::ClassicVm, Vec::new());
    }
    if resource_type.eq_ignore_ascii_case("Microsoft.Compute/virtualMachineScaleSets/virtualMachines") {
        return verdict(Status::NotSupported, Reason::ScaleSetInstance, Vec::new());
    }
    let Some(network) = estate.vm(vm) else {
        return verdict(Status::Unknown, Reason::VmNotFound, Vec::new());
    };
    let has_nsg = network
        .nics
        .iter()
        .any(|nic| nic.nsg.filters() || nic.ip_configurations.iter().any(|c| c.subnet_nsg.filters()));
    let examined = examine(&network, has_nsg);
    let protected_in_part = match jit {
        JitStatus::Disabled => None,
        JitStatus::Enabled => Some(examined.overruled),
        JitStatus::EnabledInPart => Some(true),
    };
    if let Some(protected_in_part) = protected_in_part {
        return verdict(Status::Healthy, Reason::JitEnabled { protected_in_part }, examined.findings());
    }
    let (status, reason) = decide(&network, has_nsg, &examined);
    verdict(status, reason, examined.findings())
}

/// What was found out about a VM, each finding with the index of where it belongs.
struct Examined {
    found: Vec<Found>,
    /// Whether a security admin rule lets somebody in over the head of every NSG.
    overruled: bool,
    problems: Vec<String>,
}

struct Found {
    finding: Finding,
    /// What shows that a firewall stands in the only way in; empty: none does.
    firewall: Vec<String>,
}

impl Examined {
    fn findings(&self) -> Vec<Finding> {
        self.found.iter().map(|f| f.finding.clone()).collect()
    }
}

fn decide(network: &VmNetwork, has_nsg: bool, examined: &Examined) -> (Status, Reason) {
    let unreadable = || Reason::Unreadable { problems: examined.problems.clone() };
    if !has_nsg {
        if !examined.problems.is_empty() {
            return (Status::Unknown, unreadable());
        }
        let configurations = || network.nics.iter().flat_map(|n| &n.ip_configurations);
        let evidence: Vec<String> =
            configurations().filter(|c| !has_way_around(c)).flat_map(|c| c.firewall.clone()).collect();
        let no_way_around = configurations().all(|c| !has_way_around(c));
        return if !evidence.is_empty() && no_way_around {
            (Status::Unknown, Reason::BehindFirewall { evidence: distinct(evidence) })
        } else {
            (Status::NotApplicable, Reason::NoEnforcementPoint)
        };
    }
    let certain = |f: &&Found| f.finding.certain;
    if examined.found.iter().filter(certain).any(|f| f.firewall.is_empty()) {
        return (Status::Unhealthy, Reason::ManagementPortsOpen);
    }
    if !examined.problems.is_empty() {
        return (Status::Unknown, unreadable());
    }
    let evidence: Vec<String> = examined.found.iter().flat_map(|f| f.firewall.clone()).collect();
    if evidence.is_empty() {
        (Status::Healthy, Reason::NsgClosed)
    } else {
        (Status::Unknown, Reason::BehindFirewall { evidence: distinct(evidence) })
    }
}

fn distinct(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts.dedup();
    texts
}

/// Whether the Internet can get to the address without passing a firewall: what makes the firewall count for
/// nothing. A load balancer that cannot be read is no proof of such a way.
fn has_way_around(configuration: &IpConfiguration) -> bool {
    configuration.public_ip.is_some()
        || configuration.load_balancers.iter().any(|b| b.is_public == Some(true))
}

fn examine(network: &VmNetwork, vm_has_nsg: bool) -> Examined {
    let mut examined = Examined { found: Vec::new(), overruled: false, problems: network.problems.clone() };
    for nic in &network.nics {
        for configuration in &nic.ip_configurations {
            let filtered = nic.nsg.filters() || configuration.subnet_nsg.filters();
            if !filtered && vm_has_nsg && !may_have_way_in(configuration) {
                continue;
            }
            let Some(address) = configuration.address else {
                examined.problems.push(format!("the private address of {} is not known", configuration.name));
                continue;
            };
            let firewall =
                if has_way_around(configuration) { Vec::new() } else { configuration.firewall.clone() };
            let destination =
                Destination { address, groups: configuration.application_security_groups.clone() };
            let levels: Vec<Level<'_>> =
                [&configuration.subnet_nsg, &nic.nsg].into_iter().filter_map(level).collect();
            let admin = configuration.admin_rules.as_deref();
            if let Some(rules) = admin.filter(|a| !a.complete) {
                examined
                    .problems
                    .push(format!("the list of security admin rules of {} is cut off", rules.network));
            }
            for (port, protocol) in MANAGEMENT_PORTS {
                let flow = Flow { destination: destination.clone(), protocol, port };
                let judged = if levels.is_empty() {
                    unfiltered(configuration, &flow, vm_has_nsg)
                } else {
                    let reach = path_reach_under(admin, &levels, &flow);
                    examined.overruled |= !reach.always_allowed.is_empty();
                    filtered_finding(configuration, &flow, &reach)
                };
                examined.problems.extend(judged.problems);
                examined
                    .found
                    .extend(judged.finding.map(|finding| Found { finding, firewall: firewall.clone() }));
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    examined.problems.retain(|p| seen.insert(p.clone()));
    examined
}

fn level(nsg: &NsgLevel) -> Option<Level<'_>> {
    match nsg {
        NsgLevel::None => None,
        NsgLevel::Known { id, nsg } => {
            Some(Level::Filtered { nsg: id.clone(), rules: InboundRules::of(nsg) })
        }
        NsgLevel::Unreadable { subject, explanation } => Some(Level::Unreadable(Uncertainty {
            subject: subject.clone(),
            explanation: explanation.clone(),
        })),
    }
}

struct Judged {
    finding: Option<Finding>,
    problems: Vec<String>,
}

fn filtered_finding(configuration: &IpConfiguration, flow: &Flow, reach: &PathReach) -> Judged {
    let certain = !reach.certain_by_custom_rule.is_empty();
    let sources =
        if certain { reach.certain_by_custom_rule.clone() } else { reach.possible_by_custom_rule.clone() };
    if sources.is_empty() {
        return Judged { finding: None, problems: Vec::new() };
    }
    let evidence = reach
        .points
        .iter()
        .flat_map(|(nsg, decisions)| {
            decisions.iter().filter(|d| d.access != Some(Access::Deny)).map(move |d| (nsg, d))
        })
        .map(|(nsg, d)| Evidence {
            enforcement_point: nsg.clone(),
            rule: d.rule.clone(),
            priority: d.priority,
            sources: d.possible.intersection(&sources),
        })
        .filter(|e| !e.sources.is_empty())
        .collect();
    let problems = if certain {
        Vec::new()
    } else {
        reach.uncertainties.iter().map(|u| format!("{}: {}", u.subject, u.explanation)).collect()
    };
    let finding = Finding {
        address: flow.destination.address,
        port: flow.port,
        protocol: flow.protocol,
        internet: internet_among(&sources),
        way_in: configuration.way_in(flow.port, flow.protocol),
        witness: reach.witness.clone(),
        sources,
        certain,
        evidence,
    };
    Judged { finding: Some(finding), problems }
}

/// An address without any NSG: the virtual network gets in, and the Internet if its way in is open by default
/// (Basic public addresses and load balancers; Standard ones are closed until an NSG allows).
fn unfiltered(configuration: &IpConfiguration, flow: &Flow, vm_has_nsg: bool) -> Judged {
    let address = flow.destination.address;
    let mut sources = SourceSet::from_tag(ServiceTag::virtual_network()).of_family(address);
    let open = configuration.open_without_nsg(flow.port, flow.protocol);
    let way_in = configuration.way_in(flow.port, flow.protocol);
    let mut problems = Vec::new();
    let mut certain = true;
    match open {
        OpenByDefault::Yes => sources = SourceSet::from_addresses(AddressSet::family_of(address)),
        OpenByDefault::No if vm_has_nsg => return Judged { finding: None, problems },
        OpenByDefault::No => {}
        OpenByDefault::Unknown if vm_has_nsg => {
            sources = SourceSet::from_addresses(AddressSet::family_of(address));
            certain = false;
            problems.push(format!(
                "{} has no NSG, and whether its public address or load balancer is open by default (SKU) is not known",
                configuration.name
            ));
        }
        OpenByDefault::Unknown => {}
    }
    if let Some(rules) = &configuration.admin_rules {
        sources = sources.difference(&rules.surely_denied(flow));
        if sources.is_empty() {
            return Judged { finding: None, problems };
        }
    }
    let finding = Finding {
        address,
        port: flow.port,
        protocol: flow.protocol,
        internet: internet_among(&sources),
        way_in,
        evidence: Vec::new(),
        witness: path_reach_under(configuration.admin_rules.as_deref(), &[], flow)
            .witness
            .filter(|_| open == OpenByDefault::Yes),
        sources,
        certain,
    };
    Judged { finding: Some(finding), problems }
}

fn may_have_way_in(configuration: &IpConfiguration) -> bool {
    configuration.public_ip.is_some()
        || configuration.load_balancers.iter().any(|b| b.is_public != Some(false))
}

/// Whether the Internet is among the sources, judged by addresses: `0.0.0.0/0`, two halves, `*` and `Internet` are
/// the same to it. A known tag whose addresses anyone can rent (`AzureCloud`) counts as some of the Internet.
#[must_use]
pub fn internet_among(sources: &SourceSet) -> Internet {
    let public = public_space();
    let is_most = |(v4, v6): (u64, u128)| v4 * 2 >= public.v4_count() || v6 >= public.v6_count() / 2;
    let mut at_large: SmallVec<[&AddressSet; 4]> = SmallVec::new();
    let mut some = false;
    for term in sources.terms() {
        let (at_most, only_internet) = conditions_on_internet(term);
        if !at_most {
            continue;
        }
        let counts = term.addresses.common_counts(public);
        if counts == (0, 0) {
            continue;
        }
        if !only_internet {
            some = true;
        } else if is_most(counts) {
            return Internet::Everyone;
        } else {
            at_large.push(&term.addresses);
        }
    }
    // Each is less than most; all of them together may be.
    if at_large.len() > 1 && is_most(AddressSet::union_of(at_large.iter().copied()).common_counts(public)) {
        Internet::Everyone
    } else if some || !at_large.is_empty() {
        Internet::Some
    } else {
        Internet::None
    }
}

/// Whether a public address can meet the conditions of a term, and whether all public addresses of the Internet do.
fn conditions_on_internet(term: &SourceTerm) -> (bool, bool) {
    if term.outside.iter().any(|g| matches!(g, SourceGroup::Tag(tag) if tag.is_internet())) {
        return (false, false);
    }
    let mut all = true;
    for group in &term.within {
        match group {
            SourceGroup::Tag(tag) if tag.is_internet() => {}
            SourceGroup::Tag(tag) if !tag.is_virtual_network() && !tag.is_azure_load_balancer() => {
                all = false
            }
            SourceGroup::Tag(_) | SourceGroup::ApplicationSecurityGroup(_) => return (false, false),
        }
    }
    (true, all)
}
