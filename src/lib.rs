//! `runfleet` keeps the right number of CI runners alive, on whichever cloud is cheapest now.
//!
//! `ARCHITECTURE.md` tells the shape; this file only names the modules, lowest rung first.

// -- words
pub mod model;

// -- core: pure and synchronous
pub mod plan;
pub mod stack;

// -- ports: traits and their errors
pub mod demand;
pub mod provider;
pub mod state;

// -- shell: everything that touches the world
pub mod secrets;
