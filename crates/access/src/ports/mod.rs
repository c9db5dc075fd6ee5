//! The traits through which the use cases reach the world: one adapter crate implements each.

pub mod azure;
pub mod blobs;
pub mod bus;
pub mod clock;
pub mod identity;
pub mod notifier;
pub mod organisation;
pub mod store;

use std::sync::Arc;

/// Everything outside the use cases, gathered once at start.
#[derive(Clone)]
pub struct Ports {
    /// Durable state.
    pub store: Arc<dyn store::Store>,
    /// What is kept beside the store, and is not restored with it.
    pub blobs: Arc<dyn blobs::Blobs>,
    /// Azure Resource Manager.
    pub azure: Arc<dyn azure::Azure>,
    /// Queued work.
    pub bus: Arc<dyn bus::Bus>,
    /// The channels on which people and other systems are told what happens; none when empty.
    pub notifiers: Vec<Arc<dyn notifier::Notifier>>,
    /// The organisation's own policies.
    pub organisation: Arc<dyn organisation::OrganisationPolicy>,
    /// Time.
    pub clock: Arc<dyn clock::Clock>,
    /// Fresh identifiers.
    pub ids: Arc<dyn clock::Ids>,
}
