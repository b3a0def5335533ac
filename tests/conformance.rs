//! One suite for every backend of a port: what `docs` promise of a port is what these run.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests touch the world, tell what they skip, and fail by panicking"
)]

#[path = "conformance/asg.rs"]
#[cfg(feature = "aws")]
mod asg;
#[path = "support/aws/mod.rs"]
#[cfg(feature = "sandbox")]
mod aws;
#[path = "conformance/aws_layer.rs"]
#[cfg(feature = "sandbox")]
mod aws_layer;
#[path = "conformance/azure.rs"]
mod azure;
#[path = "conformance/batches.rs"]
mod batches;
#[path = "conformance/cases.rs"]
mod cases;
#[path = "conformance/ci.rs"]
mod ci;
#[path = "conformance/circleci.rs"]
mod circleci;
#[path = "conformance/claims.rs"]
mod claims;
#[path = "conformance/control.rs"]
mod control;
#[path = "conformance/demand.rs"]
mod demand;
#[path = "conformance/digitalocean.rs"]
#[cfg(feature = "digitalocean")]
mod digitalocean;
#[path = "conformance/drone.rs"]
mod drone;
#[path = "conformance/ec2.rs"]
#[cfg(feature = "aws")]
mod ec2;
#[path = "conformance/ecs.rs"]
#[cfg(feature = "aws")]
mod ecs;
#[path = "conformance/gitlab.rs"]
mod gitlab;
#[path = "conformance/groups.rs"]
#[cfg(feature = "aws")]
mod groups;
#[path = "conformance/hetzner.rs"]
mod hetzner;
#[path = "conformance/kubernetes.rs"]
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[path = "conformance/memory.rs"]
mod memory;
#[path = "conformance/memory_groups.rs"]
mod memory_groups;
#[path = "conformance/memory_tasks.rs"]
mod memory_tasks;
#[path = "support/moto.rs"]
#[cfg(feature = "sandbox")]
mod moto;
#[path = "conformance/named.rs"]
mod named;
#[path = "conformance/program.rs"]
mod program;
#[path = "conformance/prometheus.rs"]
mod prometheus;
#[path = "conformance/provider.rs"]
mod provider;
#[path = "conformance/report.rs"]
mod report;
#[path = "conformance/sizes.rs"]
mod sizes;
#[path = "conformance/wide.rs"]
mod wide;
