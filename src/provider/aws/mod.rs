//! Amazon's clouds: instances of EC2 that we make (`ec2`), and Auto Scaling groups whose size we set (`groups`).
//!
//! Both go through Amazon's own SDK, with its chain of credentials (environment, profile, SSO, a role, the machine's own),
//! and with the HTTP client and the cryptography that everything else here uses. What an error means is decided in one
//! place, [`failure`].

mod access;
mod clock;
pub mod ec2;
pub mod failure;
pub mod groups;
pub mod prices;

pub use access::{Access, Config};
pub use clock::Clock;
