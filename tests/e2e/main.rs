//! The program as its user has it, against a sandbox in another process.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests touch the world, and fail by panicking"
)]

#[cfg(feature = "aws")]
#[path = "../support/aws/mod.rs"]
#[allow(unused_imports, reason = "each test binary uses a part of it")]
mod aws;
#[path = "../support/moto.rs"]
mod moto;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/watch.rs"]
mod watching;

mod adopt;
mod any_ci;
#[cfg(feature = "aws")]
mod azure_day;
mod bad_input;
mod clouds;
#[cfg(feature = "kubernetes")]
mod cluster_day;
mod drift;
#[cfg(feature = "aws")]
mod ec2;
#[cfg(feature = "aws")]
mod ec2_day;
mod first_tick;
mod graphs;
mod hooks;
mod ladders;
mod migration;
mod migration_aws;
mod migration_droplets;
#[cfg(feature = "aws")]
mod mixed;
mod network;
mod plans;
mod reads;
mod remote_state;
mod roll;
mod secrets;
mod signals;
mod ssh;
mod state;
mod watch;
mod wide;
