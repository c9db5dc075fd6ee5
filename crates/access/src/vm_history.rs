//! What happened to a VM beside its requests: turned on by a template, drift and who caused it, retired. The entries
//! stand in the VM's hash chain with those of its requests.

use crate::Ajar;
use crate::chain;
use crate::document::{Document, decode, encode};
use crate::error::AccessError;
use crate::keys::Key;
use crate::notification::{Happened, Notification, Subject};
use crate::outbox::{self, Beside, Noted};
use crate::permission::{self, Operation};
use crate::ports::identity::Caller;
use crate::ports::store::{Change, Range, StoreError, Table, scan_all};
use crate::request_id;
use ajar_network::resource_id::ResourceId;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How often an entry is tried again when somebody else writes the same VM's history.
const ATTEMPTS: u32 = 60;

/// The most entries that one list shows.
const MOST_ENTRIES: usize = 100_000;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VmEntry {
    /// When it was written.
    pub at: Timestamp,
    /// Who did what it tells of, as the event says or as far as is known; absent when nobody is known.
    pub by: Option<Caller>,
    /// What happened, in a sentence.
    pub what: String,
    /// SHA-256 of the entry before it on the same VM, hexadecimal; empty for the first.
    pub previous: String,
}

impl Document for VmEntry {
    const VERSION: u32 = 1;
    const NAME: &'static str = "entry of a VM's history";
}

fn partition(vm: &ResourceId) -> Key {
    Key::new([request_id::vm_digits(vm)])
}

/// Writes an entry.
pub(crate) async fn note(
    ajar: &Ajar,
    vm: &ResourceId,
    by: Option<&Caller>,
    what: &str,
) -> Result<(), AccessError> {
    write(ajar, vm, by, what, None).await
}

/// Writes an entry about drift and has it told to people.
pub(crate) async fn tell(
    ajar: &Ajar,
    vm: &ResourceId,
    by: Option<&Caller>,
    what: &str,
) -> Result<(), AccessError> {
    let whom = by.map_or(String::new(), |by| format!(" (by {})", by.name));
    let happened = Happened::Drifted { what: format!("{what}{whom}") };
    write(ajar, vm, by, what, Some(happened)).await
}

/// Writes an entry about a template that waits for somebody to approve it, and has it told to people.
pub(crate) async fn want_approval(
    ajar: &Ajar,
    vm: &ResourceId,
    by: &Caller,
    what: &str,
) -> Result<(), AccessError> {
    let happened = Happened::ProtectionWanted { what: what.to_owned() };
    write(ajar, vm, Some(by), what, Some(happened)).await
}

async fn write(
    ajar: &Ajar,
    vm: &ResourceId,
    by: Option<&Caller>,
    what: &str,
    told: Option<Happened>,
) -> Result<(), AccessError> {
    let store = ajar.ports.store.as_ref();
    for attempt in 0..ATTEMPTS {
        let (head, version) = chain::read_head(ajar, &partition(vm)).await?;
        let entry = encode(&VmEntry {
            at: ajar.ports.clock.now(),
            by: by.cloned(),
            what: what.to_owned(),
            previous: head.hash.clone(),
        })?;
        let after = head.after(&entry).change(version.as_ref())?;
        let row = Key::new(["h", "vm", &format!("{:010}", head.entries)]);
        let told = told.clone().filter(|_| !ajar.ports.notifiers.is_empty());
        let noted = if let Some(happened) = told {
            let id = format!("{}-vm-{}", request_id::vm_digits(vm), head.entries);
            let subject = Subject::Vm { vm: vm.clone() };
            let told = Notification::new(id, ajar.ports.clock.now(), happened, subject);
            outbox::note(ajar, Beside::Requests, &partition(vm), &told).await?
        } else {
            Noted::nothing()
        };
        let mut changes = noted.changes.clone();
        changes.push(Change::Insert { row, document: entry });
        changes.push(after);
        match store.commit(Table::Requests, &partition(vm), &changes).await {
            Ok(_) => {
                noted.send(ajar).await;
                return Ok(());
            }
            Err(StoreError::Conflict) => {
                noted.withdraw(ajar).await?;
                ajar.ports.clock.sleep(SignedDuration::from_millis(i64::from(attempt % 10) * 5)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

/// The entries of a VM, oldest first, for callers who may read its policy. Those of a VM that was deleted stay.
///
/// # Errors
/// [`AccessError::Forbidden`] without the permission to read policies.
pub async fn entries(ajar: &Ajar, caller: &Caller, vm: &ResourceId) -> Result<Vec<VmEntry>, AccessError> {
    permission::require(ajar, caller, vm, Operation::ReadPolicy).await?;
    let range = Range::rows_under(partition(vm), &Key::new(["h", "vm"]));
    let rows = scan_all(ajar.ports.store.as_ref(), Table::Requests, &range, MOST_ENTRIES).await?;
    rows.iter().map(decode).collect()
}

/// The newest entry of a VM.
pub(crate) async fn last(ajar: &Ajar, vm: &ResourceId) -> Result<Option<VmEntry>, AccessError> {
    let range = Range::rows_under(partition(vm), &Key::new(["h", "vm"]));
    let rows = scan_all(ajar.ports.store.as_ref(), Table::Requests, &range, MOST_ENTRIES).await?;
    rows.last().map(decode).transpose()
}
