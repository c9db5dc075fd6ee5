//! Where a compliance sweep is, what it has found, and what earlier ones found.

use crate::Ajar;
use crate::document::{Document, Stored, decode, encode, stored};
use crate::due::DueRef;
use crate::error::AccessError;
use crate::keys::Key;
use crate::ports::store::{Change, Etag, Range, StoreError, Table, scan_all};
use ajar_network::assessment::Status;
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many findings a run keeps; more are counted.
const MOST_FINDINGS: usize = 500;

/// How many runs are kept for the trend: a year of daily ones.
const MOST_RUNS: usize = 366;

/// How many VMs have which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VerdictCounts {
    /// Protected, or not open.
    pub healthy: u64,
    /// Open, and JIT is not on.
    pub unhealthy: u64,
    /// Nothing filters it, so JIT cannot be turned on.
    pub not_applicable: u64,
    /// Of a kind that is not supported.
    pub not_supported: u64,
    /// Not everything could be read.
    pub unknown: u64,
}

impl VerdictCounts {
    /// Counts one more.
    pub fn count(&mut self, status: Status) {
        let slot = match status {
            Status::Healthy => &mut self.healthy,
            Status::Unhealthy => &mut self.unhealthy,
            Status::NotApplicable => &mut self.not_applicable,
            Status::NotSupported => &mut self.not_supported,
            Status::Unknown => &mut self.unknown,
        };
        *slot += 1;
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.healthy + self.unhealthy + self.not_applicable + self.not_supported + self.unknown
    }
}

/// Something a sweep found beside verdicts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ComplianceFinding {
    /// An enforcement point that seems to differ from what is wanted; it is looked at anew and put right where its
    /// policies say so.
    Drift {
        /// The enforcement point.
        point: ResourceId,
    },
    /// An allow rule of this deployment without a live grant; it is closed.
    OrphanedAllow {
        /// The enforcement point.
        point: ResourceId,
        /// The rule.
        rule: String,
    },
    /// A deny rule of this deployment that no policy accounts for. It stays until it is adopted.
    OrphanedProtection {
        /// The enforcement point.
        point: ResourceId,
        /// The rule.
        rule: String,
        /// What it protects: addresses, or `*`.
        addresses: Vec<String>,
    },
    /// Rules of other deployments; they are left alone.
    OtherDeployments {
        /// The enforcement point.
        point: ResourceId,
        /// Their names.
        rules: Vec<String>,
    },
    /// A subscription whose events do not reach Ajar: new VMs and drift there are seen by the sweep alone.
    Unwatched {
        /// The subscription.
        subscription: String,
    },
    /// A subscription that could not be listed.
    Unlisted {
        /// The subscription.
        subscription: String,
        /// Why, in short.
        reason: String,
    },
}

impl ComplianceFinding {
    /// The enforcement point it is about, if it is about one.
    #[must_use]
    pub fn point(&self) -> Option<&ResourceId> {
        match self {
            Self::Drift { point }
            | Self::OrphanedAllow { point, .. }
            | Self::OrphanedProtection { point, .. }
            | Self::OtherDeployments { point, .. } => Some(point),
            Self::Unlisted { .. } | Self::Unwatched { .. } => None,
        }
    }
}

/// One sweep over the estate, finished or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComplianceRun {
    /// Its id.
    pub id: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; absent while it goes on.
    pub finished: Option<Timestamp>,
    /// What the VMs' verdicts were, from lists that may be minutes old.
    pub verdicts: VerdictCounts,
    /// How many VMs and enforcement points were looked at in Azure Resource Manager, because the lists differed from
    /// what was known.
    pub looked_at: u64,
    /// What was found beside verdicts.
    pub findings: Vec<ComplianceFinding>,
    /// How many more were found than are kept.
    pub more_findings: u64,
    /// How many subscriptions tell Ajar of no events.
    #[serde(default)]
    pub unwatched: u64,
    /// Subscriptions still to be swept, the first of which is under way.
    pub(crate) left: Vec<String>,
    /// The last VM that was done in the first of them; its enforcement points are done then.
    pub(crate) after: Option<ResourceId>,
    /// How often the present subscription could not be read.
    pub(crate) failures: u32,
    /// The row that brings it back when its message is lost.
    pub(crate) guard: Option<DueRef>,
}

impl Document for ComplianceRun {
    const VERSION: u32 = 1;
    const NAME: &'static str = "compliance run";
}

impl ComplianceRun {
    pub(crate) fn new(id: String, started: Timestamp, subscriptions: Vec<String>) -> ComplianceRun {
        ComplianceRun {
            id,
            started,
            finished: None,
            verdicts: VerdictCounts::default(),
            looked_at: 0,
            findings: Vec::new(),
            more_findings: 0,
            unwatched: 0,
            left: subscriptions,
            after: None,
            failures: 0,
            guard: None,
        }
    }

    pub(crate) fn found(&mut self, finding: ComplianceFinding) {
        if self.findings.contains(&finding) {
            return;
        }
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }
}

fn partition() -> Key {
    Key::new(["compliance"])
}

fn cursor() -> Key {
    Key::new(["cursor"])
}

fn finished_row(run: &ComplianceRun) -> Key {
    Key::new(["run".to_owned(), run.started.strftime("%Y%m%d%H%M%S").to_string(), run.id.clone()])
}

/// The sweep that is under way, or the last one.
pub(crate) async fn read(ajar: &Ajar) -> Result<Option<Stored<ComplianceRun>>, AccessError> {
    let row = ajar.ports.store.get(Table::Cursors, &partition(), &cursor()).await?;
    row.as_ref().map(stored).transpose()
}

/// Writes where the sweep is; `None` when somebody else went on with it.
pub(crate) async fn write(
    ajar: &Ajar,
    run: &ComplianceRun,
    before: Option<Etag>,
) -> Result<Option<Etag>, AccessError> {
    let (row, document) = (cursor(), encode(run)?);
    let change = match before {
        Some(etag) => Change::Replace { row, document, etag },
        None => Change::Insert { row, document },
    };
    let mut changes = vec![change];
    if run.finished.is_some() {
        changes.push(Change::Put { row: finished_row(run), document: encode(run)? });
    }
    match ajar.ports.store.commit(Table::Cursors, &partition(), &changes).await {
        Ok(etags) => Ok(etags.into_iter().next().flatten()),
        Err(StoreError::Conflict) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The finished sweeps, oldest first.
pub(crate) async fn finished(ajar: &Ajar) -> Result<Vec<ComplianceRun>, AccessError> {
    let range = Range::rows_under(partition(), &Key::new(["run"]));
    let rows = scan_all(ajar.ports.store.as_ref(), Table::Cursors, &range, MOST_RUNS * 4).await?;
    rows.iter().map(decode).collect()
}

/// Forgets the sweeps that are older than the trend shows.
pub(crate) async fn forget_old(ajar: &Ajar) -> Result<(), AccessError> {
    let range = Range::rows_under(partition(), &Key::new(["run"]));
    let rows = scan_all(ajar.ports.store.as_ref(), Table::Cursors, &range, MOST_RUNS * 4).await?;
    let surplus = rows.len().saturating_sub(MOST_RUNS);
    for row in rows.into_iter().take(surplus) {
        let change = Change::Delete { row: row.row, etag: row.etag };
        match ajar.ports.store.commit(Table::Cursors, &partition(), &[change]).await {
            Ok(_) | Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
