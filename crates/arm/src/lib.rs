#![doc = include_str!("../README.md")]

mod address;
mod api_versions;
mod estate;
mod event_subscriptions;
mod failure;
mod http;
mod long_operation;
mod network_security_groups;
mod own_identity;
mod paging;
mod resource_graph;
mod resource_manager;
mod role_assignments;

pub use address::{EndpointError, PUBLIC_ENDPOINT};
pub use resource_manager::ResourceManager;
