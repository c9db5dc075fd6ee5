//! The HTTP API over the real use cases, in a world in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod azure;
mod client;
mod comparison;
mod examples;
mod failures;
mod initiate;
mod native;
mod operations;
mod paging;
mod permissions;
mod recordings;
mod refusals;
mod schema;
mod sockets;
mod strictness;
