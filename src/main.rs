//! The `runfleet` program.
fn main() {}
