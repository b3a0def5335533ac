//! Crash safety: a kill at every boundary of an apply, crossed with faults, and `kill -9` at random.
//!
//! `RUNFLEET_KILLS` says how many random kills there are (200 without it), `RUNFLEET_SCHEDULES` how many schedules of
//! leaving (3,000 of each CI), `RUNFLEET_WATCH_KILLS` how many kills of a watch (50).

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests touch the world, and fail by panicking"
)]

#[path = "../support/moto.rs"]
mod moto;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/watch.rs"]
mod watching;

mod boundaries;
mod converge;
mod kill9;
mod killer;
mod leaving;
mod races;
mod watch;
