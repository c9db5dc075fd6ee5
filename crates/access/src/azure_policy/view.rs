//! A resource as callers see it: what is in force, and what was asked for under it.

use super::Resource;
use super::shape::VmTerms;
use crate::Ajar;
use crate::document::decode;
use crate::error::AccessError;
use crate::history;
use crate::keys::Key;
use crate::life_cycle::{CloseReason, Status};
use crate::policy::PolicyState;
use crate::policy_store;
use crate::ports::store::{Range, Table, scan_all};
use crate::request::AccessRequest;
use crate::request_id::RequestId;
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use serde::Serialize;

/// How many requests one resource shows, newest first.
const MOST_REQUESTS: usize = 100;

/// More requests than one VM has before old ones are cleared.
const MOST_ROWS: usize = 100_000;

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
    let mut virtual_machines = Vec::new();
    let mut requests = Vec::new();
    for written in &resource.virtual_machines {
        let vm = ResourceId::parse(&written.id)
            .map_err(|error| AccessError::internal(format!("a stored VM id is not one: {error}")))?;
        requests.extend(requests_on(ajar, &vm).await?);
        let policy = policy_store::read(ajar, &vm).await?.map(|stored| stored.content);
        let Some(policy) = policy.filter(|policy| policy.state == PolicyState::Enabled) else { continue };
        let is_as_written = written.terms("").is_ok_and(|terms| terms.ports == policy.terms.ports);
        virtual_machines.push(if is_as_written { written.clone() } else { VmTerms::of(&policy) });
    }
    requests.sort_by_key(|request| std::cmp::Reverse(request.requested_at));
    requests.truncate(MOST_REQUESTS);
    Ok(AzurePolicy {
        id: resource.address.id(),
        name: resource.address.name().to_owned(),
        location: resource.address.location().to_owned(),
        kind: resource.kind.clone(),
        virtual_machines,
        requests: requests.iter().map(AzureRequest::of).collect(),
    })
}

/// Every request on a VM.
pub(super) async fn requests_on(ajar: &Ajar, vm: &ResourceId) -> Result<Vec<AccessRequest>, AccessError> {
    // Any id of a request on the VM leads to the partition of all of them.
    let partition = history::partition(&RequestId::new(vm, ""));
    let range = Range::rows_under(partition, &Key::new(["r"]));
    scan_all(ajar.ports.store.as_ref(), Table::Requests, &range, MOST_ROWS)
        .await?
        .iter()
        .map(decode)
        .collect()
}

impl AzureRequest {
    /// A request on one VM in Azure's shape.
    fn of(request: &AccessRequest) -> AzureRequest {
        let (status, status_reason) = status_of(request);
        AzureRequest {
            virtual_machines: vec![OpenedVm {
                id: request.wish.vm.to_string(),
                ports: ports_of(request, status, status_reason),
            }],
            start_time_utc: request.requested_at,
            requestor: request.requester.name.clone(),
            justification: request.wish.justification.clone(),
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

fn status_of(request: &AccessRequest) -> (&'static str, &'static str) {
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
        Status::Cancelled => ("Revoked", "UserRequested"),
        Status::TimedOut => ("Revoked", "Expired"),
        Status::Denied => ("Revoked", "Denied"),
        Status::Failed => ("Revoked", "Failed"),
    }
}
