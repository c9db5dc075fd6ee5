//! Which VMs are new to a template: those created after it was first at work here.
//!
//! An event of a VM's creation looks like one of its change, and the first event about an old VM may come years after its
//! creation. So the VM's `timeCreated` decides, against the moment at which this deployment first had the template.

use crate::Ajar;
use crate::document::{Document, Stored, encode, stored};
use crate::error::AccessError;
use crate::keys::Key;
use crate::ports::store::{Change, StoreError, Table};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long before a template was first seen a VM may have been created and be new to it: the application starts when
/// it first has something to do, which may be the VM's own event, and clocks differ.
const LEEWAY: SignedDuration = SignedDuration::from_mins(10);

/// How often the row is tried again when others change it at the same time.
const ATTEMPTS: usize = 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TemplateStarts {
    /// When each template was first seen, by its name in lower case.
    starts: BTreeMap<String, Timestamp>,
}

impl Document for TemplateStarts {
    const VERSION: u32 = 1;
    const NAME: &'static str = "start of templates";
}

fn partition() -> Key {
    Key::new(["templates"])
}

fn row() -> Key {
    Key::new(["starts"])
}

/// Notes templates that were not seen before. Costs nothing without templates, else one read.
pub(crate) async fn note(ajar: &Ajar) -> Result<BTreeMap<String, Timestamp>, AccessError> {
    if ajar.settings.templates.iter().next().is_none() {
        return Ok(BTreeMap::new());
    }
    let now = ajar.ports.clock.now();
    for _ in 0..ATTEMPTS {
        let found = ajar.ports.store.get(Table::Cursors, &partition(), &row()).await?;
        let before: Option<Stored<TemplateStarts>> = found.as_ref().map(stored).transpose()?;
        let mut after = before.as_ref().map(|before| before.content.clone()).unwrap_or_default();
        for template in ajar.settings.templates.iter() {
            after.starts.entry(template.name.to_ascii_lowercase()).or_insert(now);
        }
        if before.as_ref().is_some_and(|before| before.content == after) {
            return Ok(after.starts);
        }
        let (row, document) = (row(), encode(&after)?);
        let change = match before {
            Some(before) => Change::Replace { row, document, etag: before.etag },
            None => Change::Insert { row, document },
        };
        match ajar.ports.store.commit(Table::Cursors, &partition(), &[change]).await {
            Ok(_) => return Ok(after.starts),
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Conflict.into())
}

/// Whether a VM that was created then is new to the template. One that does not say when it was created is not.
pub(crate) async fn is_new(
    ajar: &Ajar,
    template: &str,
    created: Option<Timestamp>,
) -> Result<bool, AccessError> {
    let Some(created) = created else { return Ok(false) };
    let starts = note(ajar).await?;
    Ok(starts.get(&template.to_ascii_lowercase()).is_some_and(|start| created + LEEWAY >= *start))
}
