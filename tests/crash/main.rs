//! Crash safety: a kill at every boundary of an apply, crossed with faults, and `kill -9` at random.
//!
//! `RUNFLEET_KILLS` says how many random kills there are (200 without it).

#[path = "../support/mod.rs"]
mod support;

mod boundaries;
mod kill9;
mod killer;
