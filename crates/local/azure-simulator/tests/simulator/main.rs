//! The simulator seen from outside: the state machine, the HTTP shell and the sample estate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod access;
mod http_shell;
mod live_groups;
mod machine;
mod operations;
mod packet_probe;
mod paging_and_faults;
mod resources;
mod rule_validation;
mod sample_estate;
mod tokens;
