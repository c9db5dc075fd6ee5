//! Which subscriptions this deployment looks after: those of its settings, and those below its management groups.
//!
//! Who is below a management group is asked of Azure Resource Graph and kept in a row, so that a request costs no call
//! for it. A subscription that joins is looked after within the hour, or at once when somebody begins a sweep over the
//! estate; one that leaves loses nothing that closes its access: what is due is done wherever it is.

use crate::Ajar;
use crate::cursor;
use crate::document::Document;
use crate::error::AccessError;
use crate::keys::Key;
use crate::ports::azure::AzureError;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long the answer of Azure Resource Graph is used.
const FRESH: SignedDuration = SignedDuration::from_hours(1);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Below {
    /// The management groups that were asked about.
    groups: Vec<String>,
    at: Timestamp,
    subscriptions: Vec<String>,
}

impl Document for Below {
    const VERSION: u32 = 1;
    const NAME: &'static str = "scope";
}

fn place() -> (Key, Key) {
    (Key::new(["scope"]), Key::new(["subscriptions"]))
}

/// The subscriptions, as GUIDs in lower case, in order, those of the settings first.
///
/// # Errors
/// [`AccessError::Unavailable`] when there are management groups and neither the store nor Azure tells who is below.
pub(crate) async fn subscriptions(ajar: &Ajar) -> Result<Vec<String>, AccessError> {
    if ajar.settings.management_groups.is_empty() {
        return Ok(ajar.settings.subscriptions.clone());
    }
    let kept = read(ajar).await;
    let now = ajar.ports.clock.now();
    if let Ok(Some(below)) = &kept
        && now.duration_since(below.at) < FRESH
    {
        return Ok(with_those(ajar, &below.subscriptions));
    }
    match ask(ajar).await {
        Ok(below) => Ok(with_those(ajar, &below)),
        Err(error) => match kept {
            Ok(Some(below)) => {
                tracing::warn!(%error, "who is below the management groups cannot be read; what was last read is used");
                Ok(with_those(ajar, &below.subscriptions))
            }
            _ => Err(error.into()),
        },
    }
}

/// The same, asked anew: at the beginning of a sweep over the estate.
pub(crate) async fn read_anew(ajar: &Ajar) -> Result<Vec<String>, AccessError> {
    if !ajar.settings.management_groups.is_empty()
        && let Err(error) = ask(ajar).await
    {
        tracing::warn!(%error, "who is below the management groups cannot be read");
    }
    subscriptions(ajar).await
}

/// Whether this deployment looks after a subscription.
///
/// # Errors
/// As [`subscriptions`].
pub(crate) async fn holds(ajar: &Ajar, subscription: &str) -> Result<bool, AccessError> {
    let subscription = subscription.to_ascii_lowercase();
    if ajar.settings.subscriptions.contains(&subscription) {
        return Ok(true);
    }
    Ok(subscriptions(ajar).await?.contains(&subscription))
}

fn with_those(ajar: &Ajar, below: &[String]) -> Vec<String> {
    let mut all = ajar.settings.subscriptions.clone();
    all.extend(below.iter().filter(|one| !ajar.settings.subscriptions.contains(one)).cloned());
    all
}

async fn read(ajar: &Ajar) -> Result<Option<Below>, AccessError> {
    let below: Option<Below> = cursor::read(ajar, place()).await?;
    Ok(below.filter(|below| below.groups == ajar.settings.management_groups))
}

/// Asks Azure, and keeps the answer. That it could not be kept costs the next caller a call.
async fn ask(ajar: &Ajar) -> Result<Vec<String>, AzureError> {
    let mut found = Vec::new();
    for group in &ajar.settings.management_groups {
        found.extend(ajar.ports.azure.subscriptions_below(group).await?);
    }
    found.sort_unstable();
    found.dedup();
    let groups = ajar.settings.management_groups.clone();
    let below = Below { groups, at: ajar.ports.clock.now(), subscriptions: found.clone() };
    if let Err(error) = cursor::put(ajar, place(), &below).await {
        tracing::warn!(error = error.log_text(), "who is below the management groups could not be kept");
    }
    Ok(found)
}
