#![doc = include_str!("../README.md")]

mod namespace;
mod sdk_transport;
mod send_failure;
mod service_bus;

pub use namespace::{Namespace, NamespaceError};
pub use service_bus::ServiceBus;
