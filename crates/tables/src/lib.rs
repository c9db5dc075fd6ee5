#![doc = include_str!("../README.md")]

mod entity;
mod failure;
mod service;
mod transport;

pub use service::{ConfigError, TableStore};
