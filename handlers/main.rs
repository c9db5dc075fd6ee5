//! The custom handler executable.
fn main() {}
