#![doc = include_str!("../README.md")]

pub mod address;
pub mod admin;
pub mod assessment;
pub mod estate;
pub mod exposure;
pub mod firewall;
mod intervals;
mod json;
mod meaning;
pub mod nsg;
pub mod plan;
pub mod ports;
pub mod reachability;
pub mod resource_id;
pub mod service_tags;
mod source;
mod source_groups;
