#![doc = include_str!("../README.md")]

mod failure;
mod service;
mod transport;

pub use service::{BlobStore, ConfigError};
