//! The last verdict on each VM, stored.

use crate::Ajar;
use crate::document::{Document, Stored, encode, stored};
use crate::error::AccessError;
use crate::keys::{Key, digest};
use crate::notification::{Happened, Notification, Subject};
use crate::outbox::{self, Beside, Noted};
use crate::point::vm_key;
use crate::ports::store::{Change, Etag, MAX_BATCH, MAX_BATCH_BYTES, Range, StoreError, Table, scan_all};
use ajar_network::assessment::Assessment;
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How often a row is tried again when others change it at the same time.
const ATTEMPTS: usize = 20;

/// The most verdicts that one subscription's list holds.
const MOST_ROWS: usize = 100_000;

/// A verdict and what else is known of the VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredAssessment {
    /// The VM.
    pub vm: ResourceId,
    /// Azure's `vmId`: another one under the same name is another VM.
    pub vm_id: Option<String>,
    /// The verdict; absent while none was made, as when JIT was turned off before the first.
    pub assessment: Option<Assessment>,
    /// When the verdict became what it is.
    pub since: Timestamp,
    /// When it was last judged and found so.
    pub at: Timestamp,
    /// The template that was found to fit, whatever its mode.
    pub template: Option<String>,
    /// A person turned JIT off on this VM: no template turns it on again.
    pub declined: bool,
}

impl Document for StoredAssessment {
    const VERSION: u32 = 1;
    const NAME: &'static str = "assessment";
}

fn partition(subscription: &str) -> Key {
    Key::new([subscription.to_ascii_lowercase()])
}

pub(crate) async fn read(
    ajar: &Ajar,
    vm: &ResourceId,
) -> Result<Option<Stored<StoredAssessment>>, AccessError> {
    let row = ajar.ports.store.get(Table::Assessments, &partition(vm.subscription()), &vm_key(vm)).await?;
    row.as_ref().map(stored).transpose()
}

/// Every verdict stored for a subscription, in order of VM key.
pub(crate) async fn read_all(ajar: &Ajar, subscription: &str) -> Result<Vec<StoredAssessment>, AccessError> {
    let all = read_all_stored(ajar, subscription).await?;
    Ok(all.into_iter().map(|stored| stored.content).collect())
}

/// The same, with the versions of their rows.
pub(crate) async fn read_all_stored(
    ajar: &Ajar,
    subscription: &str,
) -> Result<Vec<Stored<StoredAssessment>>, AccessError> {
    let range = Range::partition(partition(subscription));
    let rows = scan_all(ajar.ports.store.as_ref(), Table::Assessments, &range, MOST_ROWS).await?;
    // A VM's key has two parts; what waits to be told beside it has three.
    let of_vms = rows.iter().filter(|row| row.row.as_str().matches('_').count() == 1);
    of_vms.map(stored).collect()
}

/// Writes verdicts of one subscription that are nobody's news, each over the version that it was judged with. One that
/// somebody else wrote meanwhile stays as that one has it.
pub(crate) async fn renew(
    ajar: &Ajar,
    subscription: &str,
    verdicts: Vec<(StoredAssessment, Option<Etag>)>,
) -> Result<(), AccessError> {
    let partition = partition(subscription);
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (verdict, etag) in verdicts {
        let (row, document) = (vm_key(&verdict.vm), encode(&verdict)?);
        if batch.len() == MAX_BATCH || bytes + document.len() > MAX_BATCH_BYTES {
            write_batch(ajar, &partition, &std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
        bytes += document.len();
        batch.push(match etag {
            Some(etag) => Change::Replace { row, document, etag },
            None => Change::Insert { row, document },
        });
    }
    write_batch(ajar, &partition, &batch).await
}

async fn write_batch(ajar: &Ajar, partition: &Key, batch: &[Change]) -> Result<(), AccessError> {
    if batch.is_empty() {
        return Ok(());
    }
    let store = ajar.ports.store.as_ref();
    match store.commit(Table::Assessments, partition, batch).await {
        Ok(_) => return Ok(()),
        Err(StoreError::Conflict) => {}
        Err(error) => return Err(error.into()),
    }
    for change in batch {
        match store.commit(Table::Assessments, partition, std::slice::from_ref(change)).await {
            Ok(_) | Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads, changes and writes a VM's row until nobody came between, and tells what happened with it. `next` answers
/// `None` to leave it as it is.
pub(crate) async fn change(
    ajar: &Ajar,
    vm: &ResourceId,
    next: impl Fn(Option<&StoredAssessment>) -> Option<(StoredAssessment, Option<Happened>)>,
) -> Result<(), AccessError> {
    let partition = partition(vm.subscription());
    for _ in 0..ATTEMPTS {
        let before = read(ajar, vm).await?;
        let Some((after, happened)) = next(before.as_ref().map(|before| &before.content)) else {
            return Ok(());
        };
        // The version that the change replaces stands for the change: no other replaces the same.
        let version = before.as_ref().map_or(after.since.to_string(), |before| before.etag.0.clone());
        let noted = match happened.filter(|_| !ajar.ports.notifiers.is_empty()) {
            Some(happened) => {
                let id = format!("verdict-{}", digest(&format!("{} {version}", vm.to_lowercase()), 40));
                let told = Notification::new(id, after.at, happened, Subject::Vm { vm: vm.clone() });
                outbox::note(ajar, Beside::Assessments, &partition, &told).await?
            }
            None => Noted::nothing(),
        };
        let (row, document) = (vm_key(vm), encode(&after)?);
        let mut changes = noted.changes.clone();
        changes.push(match before {
            Some(before) => Change::Replace { row, document, etag: before.etag },
            None => Change::Insert { row, document },
        });
        match ajar.ports.store.commit(Table::Assessments, &partition, &changes).await {
            Ok(_) => {
                noted.send(ajar).await;
                return Ok(());
            }
            Err(StoreError::Conflict) => noted.withdraw(ajar).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

/// Removes the row of a VM that is gone.
pub(crate) async fn remove(ajar: &Ajar, vm: &ResourceId) -> Result<(), AccessError> {
    let Some(before) = read(ajar, vm).await? else { return Ok(()) };
    let change = Change::Delete { row: vm_key(vm), etag: before.etag };
    match ajar.ports.store.commit(Table::Assessments, &partition(vm.subscription()), &[change]).await {
        Ok(_) | Err(StoreError::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Notes that a person turned JIT off on the VM.
pub(crate) async fn decline(ajar: &Ajar, vm: &ResourceId, vm_id: Option<&str>) -> Result<(), AccessError> {
    let now = ajar.ports.clock.now();
    change(ajar, vm, |before| match before {
        Some(before) if before.declined => None,
        Some(before) => Some((StoredAssessment { declined: true, ..before.clone() }, None)),
        None => {
            let declined = StoredAssessment {
                vm: vm.clone(),
                vm_id: vm_id.map(str::to_owned),
                assessment: None,
                since: now,
                at: now,
                template: None,
                declined: true,
            };
            Some((declined, None))
        }
    })
    .await
}
