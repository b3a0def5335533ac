//! Hashes of what a resource is made from: equal inputs give equal hashes, whatever order they were written in.
//!
//! They never cover tokens, nonces, or the name of one machine.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{RenderError, TemplateSet};
use crate::{
    model::{
        ids::SpecHash,
        resource::{MachineSpec, ResourceSpec},
    },
    stack::{CiConfig, Pool},
};

/// Written into every hash: rises when the same inputs come to mean something else.
const VERSION: u32 = 1;

/// What a machine of this pool with this offering is made from.
///
/// Covers the template and every partial that it may include, the pool's inputs to it, where the CI is, offering,
/// image, network, and the names of its keys and firewalls. The spec's own name and runner are not covered, so one
/// call serves all machines of a pool on an offering.
pub fn spec_hash(
    templates: &TemplateSet,
    pool: &Pool,
    ci: &CiConfig,
    spec: &MachineSpec,
) -> Result<SpecHash, RenderError> {
    let texts: Map<String, Value> = templates
        .with_partials(&pool.cloud_init)?
        .into_iter()
        .map(|(path, text)| (path.to_owned(), json!(text)))
        .collect();
    let mut runner = json!({
        "name": pool.name,
        "tags": sorted(&pool.tags),
        "run_untagged": pool.run_untagged,
        "jobs_per_runner": pool.jobs_per_runner,
        "vars": pool.vars,
    });
    // Only where they are set, so that a hash from before there were these keys is still the same.
    if pool.registering.protected_refs {
        runner["protected_refs"] = json!(true);
    }
    if pool.registering.runner_token.is_some() {
        runner["shared"] = json!(true);
    }
    Ok(digest(json!({
        "version": VERSION,
        "templates": texts,
        "pool": runner,
        "ci": {"kind": ci.kind, "url": ci.url},
        "offering": spec.offering,
        "image": spec.image,
        "public_ipv4": spec.public_ipv4,
        "ssh_keys": sorted(&spec.ssh_keys),
        "firewalls": sorted(&spec.firewalls),
    })))
}

/// What a resource without a template is made from: all of its spec but its names.
pub fn shared_hash(spec: &ResourceSpec) -> SpecHash {
    let inputs = match spec {
        ResourceSpec::SshKey(key) => json!({"public_key": key.public_key}),
        ResourceSpec::Firewall(firewall) => {
            let mut rules = firewall.rules.clone();
            for rule in &mut rules {
                rule.networks.sort();
                rule.networks.dedup();
            }
            rules.sort();
            rules.dedup();
            json!({"rules": rules})
        }
        ResourceSpec::Network(network) => {
            let mut subnets = network.subnets.clone();
            subnets.sort();
            subnets.dedup();
            json!({"ip_range": network.ip_range, "subnets": subnets})
        }
        ResourceSpec::PlacementGroup(_) | ResourceSpec::Group(_) => json!({}),
        ResourceSpec::Batch(batch) => json!({"template": batch.name, "pool": batch.pool}),
        ResourceSpec::Machine(machine) => json!({
            "pool": machine.pool,
            "offering": machine.offering,
            "image": machine.image,
            "public_ipv4": machine.public_ipv4,
            "ssh_keys": sorted(&machine.ssh_keys),
            "firewalls": sorted(&machine.firewalls),
        }),
    };
    digest(json!({"version": VERSION, "kind": spec.kind(), "inputs": inputs}))
}

fn sorted(names: &[String]) -> Vec<&str> {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Half of a SHA-256, in hex: 32 characters, which every cloud takes as a label's value.
fn digest(value: Value) -> SpecHash {
    let text = canonical(value).to_string();
    SpecHash::new(hex::encode(&Sha256::digest(text.as_bytes())[..16]))
}

/// The same with every object's keys in order.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, canonical(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        other => other,
    }
}
