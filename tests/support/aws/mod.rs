//! AWS to test against: moto, and a layer of ours in front of it that does what moto does not.
//!
//! moto is a stateful emulator, and not like AWS in places: it launches two machines for one client token, has capacity
//! for everything, is consistent at once, loses no reply, interrupts no spot machine. [`Layer`] stands between the program
//! under test and moto. It lets through what moto does well, and says the rest itself in AWS's own words; its record
//! ([`Layer::calls`]) tells for each call which of the two spoke.
//!
//! Guarantees
//! - A layer has a world of its own, whatever others use the same moto: it sends its own `x-moto-account-id`, and moto
//!   keeps accounts apart. That costs 4 MB of moto's memory and 40 ms for a first call, so that one moto process serves all
//!   tests of a binary in parallel. A test that goes round the layer sends [`Layer::account`] in that header.
//! - Time is the layer's own and stands still but for [`Layer::advance`]: machines that are held `pending`, hidden or leaving,
//!   cool-downs and lifecycle hooks follow it.
//!
//! Assumptions
//! - One region per layer ([`Options::region`]); calls for another reach moto and are not watched.
//! - Server and test share a tokio runtime: a test that blocks (on a child process, say) wants one with worker threads.
//!
//! Caveats
//! - Words of AWS's that could not be looked up are marked `[unverified]` in `errors.rs`; codes and statuses are AWS's.
//! - Scaling in by a lower desired capacity is moto's choice of machines, and passes no lifecycle hook.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod activities;
pub mod bend;
pub mod client;
pub mod errors;
pub mod flow;
pub mod groups;
pub mod layer;
pub mod look;
pub mod market;
pub mod refuse_ec2;
pub mod refuse_groups;
pub mod rules;
pub mod server;
pub mod state;
pub mod tasks;
pub mod wire;
pub mod world;
pub mod xml;

pub use client::{GroupShape, TemplateShape};
pub use errors::Refusal;
pub use layer::{Layer, Options};
pub use market::SpotPrice;
pub use rules::Rule;
pub use state::{Activity, Spoke};
