//! A resource as callers see it: what is in force, and what was asked for under it.

use super::do_all;
use super::resource::Resource;
use super::shape::VmTerms;
use crate::Ajar;
use crate::error::AccessError;
use crate::life_cycle::{CloseReason, Status};
use crate::point::{self, ProjectedPolicy};
use crate::policy::{JitPolicy, PolicyState};
use crate::policy_store;
use crate::recent;
use crate::request::AccessRequest;
use ajar_network::resource_id::ResourceId;
use futures::future::try_join;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many requests one resource shows, newest first.
const MOST_REQUESTS: usize = 100;

/// The most numbers that a range of ports, which Azure's shape does not have, is written out as.
const MOST_NUMBERS: usize = 20;

/// A resource as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzurePolicy {
    /// Its resource id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The location in its id.
    pub location: String,
    /// Its kind.
    pub kind: String,
    /// The VMs with JIT in force.
    pub virtual_machines: Vec<VmTerms>,
    /// What was asked for on them, newest first, the last 100.
    pub requests: Vec<AzureRequest>,
    /// `Updating` until every rule is seen to be as the policy wants it, then `Succeeded`.
    pub provisioning_state: &'static str,
}

/// `JitNetworkAccessRequest`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AzureRequest {
    /// The VMs and ports.
    pub virtual_machines: Vec<OpenedVm>,
    /// When it was asked.
    pub start_time_utc: Timestamp,
    /// Who asked.
    pub requestor: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub justification: Option<String>,
}

/// `JitNetworkAccessRequestVirtualMachine`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenedVm {
    /// Resource id of the VM.
    pub id: String,
    /// The ports.
    pub ports: Vec<OpenedPort>,
}

/// `JitNetworkAccessRequestPort`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenedPort {
    /// The port.
    pub number: u16,
    /// The source, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_source_address_prefix: Option<String>,
    /// The sources, when they are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_source_address_prefixes: Option<Vec<String>>,
    /// When access ends.
    pub end_time_utc: Timestamp,
    /// `Initiating`, `Initiated` or `Revoked`.
    pub status: &'static str,
    /// Why the status is what it is: `UserRequested`, `Expired` or `NewerRequestInitiated`; of our own, as the
    /// specification leaves the list open, `Denied` and `Failed`.
    pub status_reason: &'static str,
}

/// A resource with what is in force for its VMs.
pub(super) async fn show(ajar: &Ajar, resource: &Resource) -> Result<AzurePolicy, AccessError> {
    let seen = do_all(resource.virtual_machines.iter().map(|written| see(ajar, written)).collect()).await?;
    let is_settled = resource.leaving.is_empty() && seen.iter().all(|vm| vm.is_settled);
    let mut virtual_machines = Vec::new();
    let mut requests = Vec::new();
    for vm in seen {
        virtual_machines.extend(vm.terms);
        requests.extend(vm.requests);
    }
    Ok(AzurePolicy {
        id: resource.address.id(),
        name: resource.address.name().to_owned(),
        location: resource.address.location().to_owned(),
        kind: resource.kind.clone(),
        virtual_machines,
        requests: grouped(requests),
        provisioning_state: if is_settled { "Succeeded" } else { "Updating" },
    })
}

/// What there is of one VM.
struct SeenVm {
    /// Absent when JIT is off.
    terms: Option<VmTerms>,
    requests: Vec<AccessRequest>,
    /// Whether every enforcement point was seen as the policy wants it.
    is_settled: bool,
}

async fn see(ajar: &Ajar, written: &VmTerms) -> Result<SeenVm, AccessError> {
    let vm = ResourceId::parse(&written.id)
        .map_err(|error| AccessError::internal(format!("a stored VM id is not one: {error}")))?;
    let (requests, policy) =
        try_join(recent::requests(ajar, &vm, MOST_REQUESTS), policy_store::read(ajar, &vm)).await?;
    let Some(policy) = policy.map(|stored| stored.content) else {
        return Ok(SeenVm { terms: None, requests, is_settled: true });
    };
    let is_settled = is_settled(ajar, &policy).await?;
    if policy.state != PolicyState::Enabled {
        return Ok(SeenVm { terms: None, requests, is_settled });
    }
    let is_as_written = written.terms("").is_ok_and(|terms| terms.ports == policy.terms.ports);
    let terms = if is_as_written { written.clone() } else { VmTerms::of(&policy) };
    Ok(SeenVm { terms: Some(terms), requests, is_settled })
}

/// Whether the policy has reached all its enforcement points: a clean read-back there removes the rows that guard it.
async fn is_settled(ajar: &Ajar, policy: &JitPolicy) -> Result<bool, AccessError> {
    for place in &policy.points {
        let row = point::policy_row(&policy.vm);
        let projected = point::read_row::<ProjectedPolicy>(ajar, &place.point, &row).await?;
        if projected.is_none_or(|projected| !projected.content.dues.is_empty()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Requests as callers know them, newest first: those that one call became are one.
fn grouped(mut requests: Vec<AccessRequest>) -> Vec<AzureRequest> {
    requests.sort_by(|one, other| {
        other.requested_at.cmp(&one.requested_at).then_with(|| one.wish.vm.cmp(&other.wish.vm))
    });
    let mut shown: Vec<AzureRequest> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for request in requests {
        let call = request.wish.initiation.as_ref();
        match call.and_then(|call| places.get(call)).and_then(|place| shown.get_mut(*place)) {
            Some(shown) => shown.add(&request),
            None => {
                places.extend(call.map(|call| (call.clone(), shown.len())));
                shown.push(AzureRequest::of(&request));
            }
        }
    }
    shown.truncate(MOST_REQUESTS);
    shown
}

impl AzureRequest {
    /// A request on one VM in Azure's shape.
    fn of(request: &AccessRequest) -> AzureRequest {
        let mut shown = AzureRequest {
            virtual_machines: Vec::new(),
            start_time_utc: request.requested_at,
            requestor: request.requester.name.clone(),
            justification: request.wish.justification.clone(),
        };
        shown.add(request);
        shown
    }

    /// Adds a request that came of the same call.
    fn add(&mut self, request: &AccessRequest) {
        let (status, status_reason) = status_of(request);
        let ports = ports_of(request, status, status_reason);
        self.start_time_utc = self.start_time_utc.min(request.requested_at);
        match self.virtual_machines.iter_mut().find(|vm| request.wish.vm.as_str() == vm.id) {
            Some(vm) => {
                vm.ports.extend(ports);
                vm.ports.sort_by_key(|port| port.number);
            }
            None => self.virtual_machines.push(OpenedVm { id: request.wish.vm.to_string(), ports }),
        }
    }
}

/// The ports of a request, each with the same status.
pub(super) fn ports_of(
    request: &AccessRequest,
    status: &'static str,
    status_reason: &'static str,
) -> Vec<OpenedPort> {
    let planned = request.requested_at.saturating_add(request.wish.duration).unwrap_or(Timestamp::MAX);
    let planned = request.wish.absolute_end.map_or(planned, |end| end.min(planned));
    let end_time_utc = request.end.unwrap_or(planned);
    let mut ports: Vec<OpenedPort> = Vec::new();
    for flow in &request.wish.flows {
        let sources: Vec<String> = flow.sources.iter().map(ToString::to_string).collect();
        let (one, many) = match sources.as_slice() {
            [one] => (Some(one.clone()), None),
            _ => (None, Some(sources)),
        };
        for number in (flow.ports.first()..=flow.ports.last()).take(MOST_NUMBERS) {
            let port = OpenedPort {
                number,
                allowed_source_address_prefix: one.clone(),
                allowed_source_address_prefixes: many.clone(),
                end_time_utc,
                status,
                status_reason,
            };
            // One number over TCP and over UDP are two flows here and one port in Azure's shape.
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    ports
}

pub(super) fn status_of(request: &AccessRequest) -> (&'static str, &'static str) {
    let closed = match request.close_reason {
        Some(CloseReason::Revoked) => "UserRequested",
        Some(CloseReason::Superseded) => "NewerRequestInitiated",
        Some(CloseReason::Expired) | None => "Expired",
    };
    match request.status {
        Status::Requested | Status::AwaitingApproval | Status::Approved | Status::Opening => {
            ("Initiating", "UserRequested")
        }
        Status::Active => ("Initiated", "UserRequested"),
        Status::Closing | Status::Closed => ("Revoked", closed),
        Status::Cancelled if request.close_reason == Some(CloseReason::Superseded) => ("Revoked", closed),
        Status::Cancelled => ("Revoked", "UserRequested"),
        Status::TimedOut => ("Revoked", "Expired"),
        Status::Denied => ("Revoked", "Denied"),
        Status::Failed => ("Revoked", "Failed"),
    }
}
