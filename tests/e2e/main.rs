//! The program as its user has it, against a sandbox in another process.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod first_tick;
mod reads;
mod secrets;
mod signals;
