#![doc = include_str!("../README.md")]

pub mod approval;
pub mod approvals;
pub mod assess;
pub mod assessment_store;
pub mod azure_policy;
mod behind;
mod chain;
pub mod close;
pub mod compliance;
pub mod compliance_report;
pub mod compliance_run;
pub mod configure;
pub mod correlation;
mod cursor;
pub mod decide;
mod document;
mod drift;
mod due;
pub mod error;
pub mod evaluate;
pub mod event_message;
pub mod extend;
pub mod heartbeat;
pub mod history;
pub mod keys;
mod lease;
pub mod life_cycle;
mod look;
pub mod message;
pub mod metrics;
pub mod notification;
mod organisation;
pub mod originals;
pub mod outbox;
pub mod permission;
mod point;
pub mod policy;
mod policy_store;
pub mod ports;
pub mod query;
mod read_back;
pub mod readiness;
mod recent;
pub mod reconcile;
pub mod remediate;
mod remind;
pub mod request;
pub mod request_id;
pub mod resource_event;
pub mod resume;
mod retire;
mod role_loss;
mod scope;
mod send;
mod settle;
mod shared_read;
pub mod store_marker;
pub mod submit;
pub mod submit_many;
mod supersede;
pub mod sweep;
pub mod template;
pub mod template_approval;
mod template_start;
#[cfg(feature = "testing")]
pub mod testing;
pub mod vm_history;
pub mod wait;
mod waiting;
mod watched;

pub use chain::Chains;

use ajar_network::plan::DeploymentName;
use jiff::SignedDuration;

/// [`Settings::remind_before`] where the deployment does not say.
pub const REMIND_BEFORE: SignedDuration = SignedDuration::from_mins(10);

/// [`Settings::approval_time`] where the deployment does not say.
pub const APPROVAL_TIME: SignedDuration = SignedDuration::from_hours(4);

/// What the use cases know of this deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The deployment's name: part of the name of every rule it owns.
    pub deployment: DeploymentName,
    /// The subscriptions it looks after, as GUIDs in lower case.
    pub subscriptions: Vec<String>,
    /// Management groups, by name, whose subscriptions it looks after as well.
    pub management_groups: Vec<String>,
    /// The name of the Service Bus namespace that events reach; without one it is not judged whether they do.
    pub event_namespace: Option<String>,
    /// What new VMs get by themselves.
    pub templates: template::Templates,
    /// How long before its end people are reminded of access. Of access that is open for less than twice as long
    /// nobody is: whoever asked for so little knows.
    pub remind_before: SignedDuration,
    /// How long a request waits for people to approve it before it is given up.
    pub approval_time: SignedDuration,
}

/// The use cases' view of everything: settings and ports.
#[derive(Clone)]
pub struct Ajar {
    /// What this deployment is.
    pub settings: Settings,
    /// The world.
    pub ports: ports::Ports,
    /// What is being added to VMs' histories: those of one process that come together are written together.
    pub chains: Chains,
    /// What was read of Azure's roles lately; shared by all that runs in one process.
    pub permissions: permission::RecentPermissions,
    /// Who looks whether the store is current; shared likewise.
    pub looks: store_marker::Looks,
}
