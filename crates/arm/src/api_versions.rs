//! The API version asked for, per resource provider: one place to raise it, after reading what changed.

/// `Microsoft.Network`.
pub(crate) const NETWORK: &str = "2024-05-01";
/// `Microsoft.Compute`.
pub(crate) const COMPUTE: &str = "2024-07-01";
/// `Microsoft.Authorization` role assignments and definitions.
pub(crate) const AUTHORIZATION: &str = "2022-04-01";
/// `Microsoft.EventGrid`.
pub(crate) const EVENT_GRID: &str = "2025-02-15";
/// `Microsoft.ResourceGraph`.
pub(crate) const RESOURCE_GRAPH: &str = "2022-10-01";
