//! The local development process.
fn main() {}
