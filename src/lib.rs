//! `runfleet` keeps the right number of CI runners alive, on whichever cloud is cheapest now.
//!
//! `ARCHITECTURE.md` tells the shape; this file only names the modules, lowest rung first.

// -- words
pub mod model;

// -- core: pure and synchronous
pub mod drain;
pub mod graph;
pub mod journal;
pub mod placement;
pub mod plan;
pub mod render;
pub mod scaling;
pub mod stack;

// -- ports: traits and their errors
pub mod demand;
pub mod provider;
pub mod state;

// -- shell: everything that touches the world
pub mod apply;
pub mod hooks;
pub mod net;
pub mod observe;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod secrets;
pub mod ssh;
pub mod telemetry;

// -- composition
pub mod cli;
pub mod tick;
pub mod watch;
