#![doc = include_str!("../README.md")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "a simulation that cannot go on fails by panicking; the modules say what their fields hold"
)]

mod azure;
mod blobs;
mod bus;
mod estate;
mod mutant;
mod random;
mod referee;
mod run;
mod script;
mod shrink;
mod store;
mod world;

pub use mutant::Mutant;
pub use run::{Outcome, run};
pub use script::Script;
pub use shrink::{Shrunk, shrink};
pub use world::{Fault, Faults};
