//! The desired state of one enforcement point: all that `reconcile` needs, in one partition.

use crate::Ajar;
use crate::correlation::CorrelationId;
use crate::document::{Document, Stored, encode, stored};
use crate::due::DueRef;
use crate::error::AccessError;
use crate::keys::{Key, digest};
use crate::life_cycle::CloseReason;
use crate::policy::{PolicyState, PolicyTerms};
use crate::ports::store::{
    Change, Etag, MAX_BATCH, MAX_BATCH_BYTES, MAX_DOCUMENT_UNITS, Range, Row, StoreError, Table, scan_all,
};
use crate::request::{AccessRequest, RequestedFlow};
use crate::request_id::RequestId;
use ajar_network::plan::{
    Desired, GrantedFlow, OriginalRule, ProtectedPort, Protection, ProtectionState, StandingException,
};
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// More rows than one point can have: an NSG holds 1,000 rules.
const MOST_ROWS: usize = 20_000;

/// No document has more bytes: a UTF-16 unit takes three at most.
const MOST_BYTES_OF_A_ROW: usize = 3 * MAX_DOCUMENT_UNITS;

/// A request's flows on one point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Grant {
    pub(crate) request: RequestId,
    pub(crate) vm: ResourceId,
    /// What people call the requester.
    pub(crate) requester: String,
    pub(crate) flows: Vec<RequestedFlow>,
    /// The VM's private addresses behind this point.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) close_reason: CloseReason,
    /// Which of the request's windows this is: a straggler that read an earlier one changes nothing.
    #[serde(default)]
    pub(crate) window: u32,
    /// What joins it to the request's call: who writes for it may come for another reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) correlation: Option<CorrelationId>,
    /// Whether the point was seen open for it.
    pub(crate) seen_open: bool,
    /// Whether the point was seen shut after its end. The row stays until the second look, so that a late
    /// repeat of its opening finds it and opens nothing.
    pub(crate) seen_shut: bool,
    /// The rows that guard its opening and its end.
    pub(crate) dues: Vec<DueRef>,
}

impl Document for Grant {
    const VERSION: u32 = 1;
    const NAME: &'static str = "grant";
}

/// A policy projected on one point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProjectedPolicy {
    pub(crate) vm: ResourceId,
    pub(crate) addresses: Vec<IpAddr>,
    /// Addresses that the VM had here and gave up.
    pub(crate) released: Vec<IpAddr>,
    pub(crate) state: PolicyState,
    #[serde(flatten)]
    pub(crate) terms: PolicyTerms,
    /// The rows that guard the last change.
    pub(crate) dues: Vec<DueRef>,
    /// When the point was first seen with nothing of a policy that is over here. The row stays until the second
    /// look: a deny that lands late is removed only because a policy says so.
    #[serde(default)]
    pub(crate) seen_off: Option<Timestamp>,
}

impl Document for ProjectedPolicy {
    const VERSION: u32 = 1;
    const NAME: &'static str = "projected policy";
}

/// Rules of other people as they were before Ajar moved them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Originals {
    pub(crate) rules: Vec<OriginalRule>,
    pub(crate) flush_connection: Option<bool>,
}

impl Document for Originals {
    const VERSION: u32 = 1;
    const NAME: &'static str = "originals";
}

/// Everything wanted of one point, as read at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct PointRows {
    pub(crate) grants: Vec<Stored<Grant>>,
    pub(crate) policies: Vec<Stored<ProjectedPolicy>>,
    pub(crate) originals: Option<Stored<Originals>>,
}

/// The partition of a point, in tables `grants` and `points`.
pub(crate) fn partition(point: &ResourceId) -> Key {
    Key::new([point.name().to_ascii_lowercase(), digits(point)])
}

/// What stands for a point where its name may not: hexadecimal digits.
pub(crate) fn digits(point: &ResourceId) -> String {
    digest(&point.to_lowercase(), 20)
}

/// The key that stands for a VM in rows.
pub(crate) fn vm_key(vm: &ResourceId) -> Key {
    Key::new([vm.name().to_ascii_lowercase(), digest(&vm.to_lowercase(), 20)])
}

pub(crate) fn grant_row(request: &RequestId) -> Key {
    Key::new(["g", request.as_str()])
}

pub(crate) fn policy_row(vm: &ResourceId) -> Key {
    Key::new(["p".to_owned(), vm.name().to_ascii_lowercase(), digest(&vm.to_lowercase(), 20)])
}

fn originals_row() -> Key {
    Key::new(["originals"])
}

/// Reads the point's partition.
pub(crate) async fn read(ajar: &Ajar, point: &ResourceId) -> Result<PointRows, AccessError> {
    let range = Range::partition(partition(point));
    let mut rows = PointRows::default();
    for row in scan_all(ajar.ports.store.as_ref(), Table::Grants, &range, MOST_ROWS).await? {
        match row.row.as_str() {
            key if key.starts_with("g_") => rows.grants.push(stored(&row)?),
            key if key.starts_with("p_") => rows.policies.push(stored(&row)?),
            _ => rows.originals = Some(stored(&row)?),
        }
    }
    Ok(rows)
}

/// Reads one row of the point's partition.
pub(crate) async fn read_row<T: Document>(
    ajar: &Ajar,
    point: &ResourceId,
    row: &Key,
) -> Result<Option<Stored<T>>, AccessError> {
    let row: Option<Row> = ajar.ports.store.get(Table::Grants, &partition(point), row).await?;
    row.as_ref().map(stored).transpose()
}

/// Writes a row that was read with `etag`, or that must not exist.
pub(crate) async fn write_row<T: Document>(
    ajar: &Ajar,
    point: &ResourceId,
    row: Key,
    content: &T,
    etag: Option<Etag>,
) -> Result<(), StoreOrAccess> {
    let document = encode(content).map_err(StoreOrAccess::Access)?;
    let change = match etag {
        Some(etag) => Change::Replace { row, document, etag },
        None => Change::Insert { row, document },
    };
    commit(ajar, point, change).await
}

/// The change that replaces a row.
pub(crate) fn replacement<T: Document>(row: Key, content: &T, etag: Etag) -> Result<Change, AccessError> {
    Ok(Change::Replace { row, document: encode(content)?, etag })
}

async fn commit(ajar: &Ajar, point: &ResourceId, change: Change) -> Result<(), StoreOrAccess> {
    match ajar.ports.store.commit(Table::Grants, &partition(point), &[change]).await {
        Ok(_) => Ok(()),
        Err(StoreError::Conflict) => Err(StoreOrAccess::Conflict),
        Err(error) => Err(StoreOrAccess::Access(error.into())),
    }
}

/// Makes changes of the point's partition, all at once where nobody came between. Returns for each whether it was
/// made: one that somebody else overtook keeps none of the others.
pub(crate) async fn settle_rows(
    ajar: &Ajar,
    point: &ResourceId,
    changes: &[Change],
) -> Result<Vec<bool>, AccessError> {
    let partition = partition(point);
    let store = ajar.ports.store.as_ref();
    let mut made = Vec::with_capacity(changes.len());
    let mut bytes = 0;
    let batches = changes.chunk_by(|before, _| {
        bytes += before.document().map_or(0, str::len);
        let fits = bytes + MOST_BYTES_OF_A_ROW < MAX_BATCH_BYTES;
        if !fits {
            bytes = 0;
        }
        fits
    });
    for batch in batches.flat_map(|batch| batch.chunks(MAX_BATCH)) {
        match store.commit(Table::Grants, &partition, batch).await {
            Ok(_) => made.extend(batch.iter().map(|_| true)),
            Err(StoreError::Conflict) => {
                for change in batch {
                    match store.commit(Table::Grants, &partition, std::slice::from_ref(change)).await {
                        Ok(_) => made.push(true),
                        Err(StoreError::Conflict) => made.push(false),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(made)
}

/// The outcome of a conditional write that the caller tells apart.
#[derive(Debug)]
pub(crate) enum StoreOrAccess {
    /// Somebody changed the row first.
    Conflict,
    /// Anything else.
    Access(AccessError),
}

impl From<StoreOrAccess> for AccessError {
    fn from(error: StoreOrAccess) -> AccessError {
        match error {
            StoreOrAccess::Conflict => StoreError::Conflict.into(),
            StoreOrAccess::Access(error) => error,
        }
    }
}

/// Writes the originals of a point.
pub(crate) async fn write_originals(
    ajar: &Ajar,
    point: &ResourceId,
    originals: &Originals,
    before: Option<Etag>,
) -> Result<(), AccessError> {
    Ok(write_row(ajar, point, originals_row(), originals, before).await?)
}

impl PointRows {
    /// The due rows whose changes are among these rows.
    pub(crate) fn guards(&self) -> Vec<DueRef> {
        let grants = self.grants.iter().flat_map(|stored| &stored.content.dues);
        grants.chain(self.policies.iter().flat_map(|stored| &stored.content.dues)).cloned().collect()
    }

    /// What the planner has to reach.
    pub(crate) fn desired(&self, ajar: &Ajar) -> Desired {
        let originals = self.originals.as_ref().map(|stored| stored.content.clone()).unwrap_or_default();
        Desired {
            deployment: ajar.settings.deployment.clone(),
            protections: self.policies.iter().map(|stored| stored.content.protection()).collect(),
            grants: self
                .grants
                .iter()
                .filter(|stored| !stored.content.seen_shut)
                .flat_map(|stored| stored.content.flows())
                .collect(),
            originals: originals.rules,
            original_flush_connection: originals.flush_connection,
        }
    }
}

impl PointRows {
    /// What the planner would have to reach with one more policy.
    pub(crate) fn desired_with(&self, ajar: &Ajar, policy: ProjectedPolicy) -> Desired {
        let mut desired = self.desired(ajar);
        desired.protections.push(policy.protection());
        desired
    }
}

impl ProjectedPolicy {
    /// Whether nothing of it is to be left on the point: it was turned off or retired, or the VM has gone
    /// elsewhere.
    pub(crate) fn is_over(&self) -> bool {
        self.state != PolicyState::Enabled || self.addresses.is_empty()
    }

    fn protection(&self) -> Protection {
        let (mut addresses, mut released) = (self.addresses.clone(), self.released.clone());
        if self.state == PolicyState::Retired {
            // Everything is given up: what had been moved for it stays where it is.
            released.append(&mut addresses);
        }
        Protection {
            vm: self.vm.clone(),
            addresses,
            released,
            ports: self
                .terms
                .ports
                .iter()
                .map(|port| ProtectedPort { ports: port.ports, protocol: port.protocol })
                .collect(),
            exceptions: self
                .terms
                .standing_exceptions
                .iter()
                .map(|source| StandingException { source: source.clone() })
                .collect(),
            existing_rules: self.terms.existing_rules,
            flush_connection: self.terms.flush_connections && self.state != PolicyState::Retired,
            state: match self.state {
                PolicyState::Enabled | PolicyState::Retired => ProtectionState::Enabled,
                PolicyState::Disabling => ProtectionState::Disabling,
            },
        }
    }
}

impl Grant {
    /// What a request opens at a point, on these addresses, from `start` to `end`. Nothing guards it yet.
    pub(crate) fn of(
        request: &AccessRequest,
        addresses: &[IpAddr],
        start: Timestamp,
        end: Timestamp,
    ) -> Grant {
        Grant {
            request: request.id.clone(),
            vm: request.wish.vm.clone(),
            requester: request.requester.name.clone(),
            flows: request.wish.flows.clone(),
            addresses: addresses.to_vec(),
            start,
            end,
            close_reason: request.close_reason.unwrap_or(CloseReason::Expired),
            window: request.window,
            correlation: request.correlation,
            seen_open: false,
            seen_shut: false,
            dues: Vec::new(),
        }
    }

    pub(crate) fn flows(&self) -> impl Iterator<Item = GrantedFlow> + '_ {
        self.flows.iter().enumerate().map(|(index, flow)| GrantedFlow {
            id: format!("{}/{index}", self.request),
            vm: self.vm.clone(),
            addresses: self.addresses.clone(),
            ports: flow.ports,
            protocol: flow.protocol,
            sources: flow.sources.clone(),
            start: self.start,
            end: self.end,
            requester: self.requester.clone(),
        })
    }
}
