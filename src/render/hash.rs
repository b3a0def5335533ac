//! Hashes of what a resource is made from: equal inputs give equal hashes, whatever order they were written in.
//!
//! They never cover tokens, nonces, or the name of one machine.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{RenderError, TemplateSet};
use crate::{
    model::{
        ids::{PoolName, SpecHash},
        resource::{Ec2Launch, MachineSpec, ResourceSpec},
    },
    stack::{CiConfig, Part, Pool},
};

/// Written into every hash: rises when the same inputs come to mean something else.
const VERSION: u32 = 1;
/// How many characters a part's digest has: a mistake of one in four thousand million is no more than a roll too few.
const PART: usize = 8;

/// What a machine of this pool with this offering is made from.
///
/// Covers the template and every partial that it may include, the pool's inputs to it, where the CI is, offering,
/// image, network, and the names of its keys, firewalls and networks. The spec's own name and runner are not covered,
/// so one call serves all machines of a pool on an offering.
pub fn spec_hash(
    templates: &TemplateSet,
    pool: &Pool,
    ci: &CiConfig,
    spec: &MachineSpec,
) -> Result<SpecHash, RenderError> {
    spec_hash_as(templates, pool, &pool.name, ci, spec)
}

/// As [`spec_hash`], had the pool this name: what a machine was made from under a name that its pool had before.
///
/// # Errors
/// As [`spec_hash`].
pub fn spec_hash_as(
    templates: &TemplateSet,
    pool: &Pool,
    name: &PoolName,
    ci: &CiConfig,
    spec: &MachineSpec,
) -> Result<SpecHash, RenderError> {
    let mut runner = runner(pool);
    runner.insert("name".to_owned(), json!(name));
    runner.insert("vars".to_owned(), json!(pool.vars));
    let mut inputs = json!({
        "version": VERSION,
        "templates": texts(templates, pool)?,
        "pool": runner,
        "ci": address(ci),
        "offering": spec.offering,
        "image": spec.image,
        "public_ipv4": spec.public_ipv4,
        "ssh_keys": sorted(&spec.ssh_keys),
        "firewalls": sorted(&spec.firewalls),
    });
    // Only where there are some, so that machines from before there were networks keep their hash.
    if let (Value::Object(inputs), false) = (&mut inputs, spec.networks.is_empty()) {
        inputs.insert("networks".to_owned(), json!(sorted(&spec.networks)));
    }
    if let (Value::Object(inputs), Some(launch)) = (&mut inputs, &spec.ec2) {
        // A price cap says what may be bought, not what was.
        let launch = Ec2Launch {
            max_price: None,
            ..(**launch).clone()
        };
        inputs.insert("ec2".to_owned(), json!(launch));
    }
    if let (Value::Object(inputs), Some(task)) = (&mut inputs, &spec.task) {
        inputs.insert("task".to_owned(), json!(task));
    }
    Ok(digest(inputs))
}

/// Short digests of what a machine's hash covers and its spec does not hold, by part: what a record keeps, so that what
/// differs later can be named. The pool's name is in none of them.
///
/// # Errors
/// As [`spec_hash`].
pub fn parts(
    templates: &TemplateSet,
    pool: &Pool,
    ci: &CiConfig,
) -> Result<BTreeMap<String, String>, RenderError> {
    let of = |part: Part, value: Value| {
        let digest: String = digest(value).as_str().chars().take(PART).collect();
        (part.to_string(), digest)
    };
    Ok(BTreeMap::from([
        of(Part::Template, json!(texts(templates, pool)?)),
        of(Part::Vars, json!(pool.vars)),
        of(Part::Runner, json!(runner(pool))),
        of(Part::Ci, address(ci)),
    ]))
}

fn texts(templates: &TemplateSet, pool: &Pool) -> Result<Map<String, Value>, RenderError> {
    // What a CronJob is the template of has none here.
    if pool.cloud_init.is_empty() {
        return Ok(Map::new());
    }
    Ok(templates
        .with_partials(&pool.cloud_init)?
        .into_iter()
        .map(|(path, text)| (path.to_owned(), json!(text)))
        .collect())
}

/// What a runner is registered with. What came later joins only where it is used, so that hashes stay as they were.
fn runner(pool: &Pool) -> Map<String, Value> {
    let mut inputs = Map::from_iter([
        ("tags".to_owned(), json!(sorted(&pool.tags))),
        ("run_untagged".to_owned(), json!(pool.run_untagged)),
        ("jobs_per_runner".to_owned(), json!(pool.jobs_per_runner)),
    ]);
    if let Some(agents) = &pool.agents {
        inputs.insert("agents".to_owned(), json!(agents));
    }
    if pool.registering.protected_refs {
        inputs.insert("protected_refs".to_owned(), json!(true));
    }
    if pool.registering.runner_token.is_some() {
        inputs.insert("shared_token".to_owned(), json!(true));
    }
    inputs
}

fn address(ci: &CiConfig) -> Value {
    json!({"kind": ci.kind, "url": ci.url})
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
        ResourceSpec::Batch(batch) => json!({"pool": batch.each.pool, "offering": batch.each.offering}),
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
