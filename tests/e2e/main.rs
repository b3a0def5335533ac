//! The program as its user has it, against a sandbox in another process.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests touch the world, and fail by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod first_tick;
mod network;
mod plans;
mod reads;
mod secrets;
mod signals;
