//! The program as its user has it, against a sandbox in another process.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests touch the world, and fail by panicking"
)]

#[path = "../support/moto.rs"]
mod moto;
#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod first_tick;
mod network;
mod reads;
mod remote_state;
mod secrets;
mod signals;
