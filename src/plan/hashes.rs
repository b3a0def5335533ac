//! Temporary stand-in for `crate::render`.
use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::{
    model::{
        ids::SpecHash,
        resource::{MachineSpec, ResourceSpec},
    },
    stack::{CiConfig, Pool},
};

/// Templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateSet {
    /// By path.
    pub files: BTreeMap<String, String>,
}

/// Error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RenderError(String);

/// Hash.
pub fn spec_hash(
    templates: &TemplateSet,
    pool: &Pool,
    ci: &CiConfig,
    spec: &MachineSpec,
) -> Result<SpecHash, RenderError> {
    let template = templates
        .files
        .get(&pool.cloud_init)
        .ok_or_else(|| RenderError(format!("no template {}", pool.cloud_init)))?;
    let text = format!(
        "{template}{:?}{:?}{}{:?}{}{:?}{:?}",
        pool.vars, ci.url, spec.offering, spec.image, spec.public_ipv4, spec.ssh_keys, spec.firewalls
    );
    Ok(SpecHash::new(hex::encode(Sha256::digest(text))))
}

/// Hash.
pub fn shared_hash(spec: &ResourceSpec) -> SpecHash {
    SpecHash::new(hex::encode(Sha256::digest(format!("{spec:?}"))))
}
