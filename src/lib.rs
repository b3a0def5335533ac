//! `runfleet` keeps the right number of CI runners alive, on whichever cloud is cheapest now.

#[cfg(feature = "sandbox")]
pub mod sandbox;
