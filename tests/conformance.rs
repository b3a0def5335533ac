//! One suite for every backend of a port: what `docs` promise of a port is what these run.

#[path = "conformance/ci.rs"]
#[cfg(feature = "sandbox")]
mod ci;
#[path = "conformance/hetzner.rs"]
#[cfg(all(feature = "hetzner", feature = "sandbox"))]
mod hetzner;
#[path = "conformance/memory.rs"]
mod memory;
#[path = "conformance/provider.rs"]
mod provider;
