//! The words that everything else is said in: values only, no behaviour that touches the world.

pub mod demand;
pub mod ids;
pub mod intent;
pub mod invariants;
pub mod kind;
pub mod metrics;
pub mod money;
pub mod offering;
pub mod reason;
pub mod resource;
pub mod runner;
pub mod snapshot;
pub mod state;
pub mod task;
pub mod upgrade;
