#![doc = include_str!("../README.md")]

mod address;
mod cloud_event;
mod signature;
mod webhook;

pub use address::{Address, AddressError};
pub use cloud_event::event;
pub use signature::{SecretError, SigningSecret};
pub use webhook::Webhook;
