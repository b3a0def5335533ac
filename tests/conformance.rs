//! One suite for every backend of a port: what `docs` promise of a port is what these run.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests touch the world, and fail by panicking"
)]

#[path = "support/aws/mod.rs"]
#[cfg(feature = "sandbox")]
mod aws;
#[path = "conformance/aws_layer.rs"]
#[cfg(feature = "sandbox")]
mod aws_layer;
#[path = "conformance/ci.rs"]
#[cfg(feature = "sandbox")]
mod ci;
#[path = "conformance/hetzner.rs"]
#[cfg(all(feature = "hetzner", feature = "sandbox"))]
mod hetzner;
#[path = "conformance/memory.rs"]
mod memory;
#[path = "support/moto.rs"]
#[cfg(feature = "sandbox")]
mod moto;
#[path = "conformance/provider.rs"]
mod provider;
#[path = "conformance/wide.rs"]
#[cfg(feature = "sandbox")]
mod wide;
