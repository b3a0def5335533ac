//! Amazon's clouds: instances of EC2 that we make (`ec2`), Auto Scaling groups whose size we set (`groups`), and tasks of ECS
//! that run once (`ecs`).
//!
//! All go through Amazon's own SDK, with its chain of credentials (environment, profile, SSO, a role, the machine's own),
//! and with the HTTP client and the cryptography that everything else here uses. What an error means is decided in one
//! place, [`failure`].

mod access;
mod calls;
mod clock;
pub mod ec2;
pub mod ecs;
pub mod failure;
pub mod groups;
pub mod prices;

pub use access::{Access, Config};
pub use clock::Clock;
