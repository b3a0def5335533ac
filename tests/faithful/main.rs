//! The sandbox is faithful: the vendors' own SDKs work with it, and a validating proxy between runfleet and the
//! sandbox, held to the vendors' own API descriptions, sees no violation in either direction.
//!
//! What cannot be had here (Python's or npm's packages, the descriptions) is skipped with a word on stderr. Where the
//! descriptions are present and the proxy is not, the test fails.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, tells what it skips, and is no part of the program"
)]

mod agents;
mod descriptions;
mod droplets;
mod kubectl;
mod operations;
mod prism;
mod proxy;
mod relay;
mod sdk;
#[path = "../support/mod.rs"]
mod support;
