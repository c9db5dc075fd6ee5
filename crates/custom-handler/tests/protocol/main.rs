//! The crate over real sockets: every recorded request, the conformance cases, attacks, start and end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod answers;
mod conformance;
mod forwarded;
mod invocations;
mod logs;
mod not_replayed;
mod processes;
mod recorded;
mod registration;
mod starting;
mod traces;
mod traversal;
mod wire;
