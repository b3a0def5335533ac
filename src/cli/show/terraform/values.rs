//! Resources in the words of the vendors' Terraform providers.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::kinds;
use crate::{
    model::{
        ids::{Address, ProviderName, ResourceKind},
        resource::{Direction, FirewallRule, MachineSpec, Observed, ResourceRef, ResourceSpec, Subnet},
        snapshot::Snapshot,
        state::{Phase, Record},
    },
    plan::{Drift, Plan},
};

/// Hetzner's provider, by its full name.
const HCLOUD: &str = "registry.terraform.io/hetznercloud/hcloud";
/// Of what no vendor's provider has.
const OWN: &str = "runfleet";

/// A resource's names.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// `hcloud_server.linux["brave-otter"]`
    pub(super) full: String,
    /// `hcloud_server.linux`
    pub(super) block: String,
    /// `hcloud_server`
    pub(super) kind: String,
    /// `linux`
    pub(super) name: String,
    /// `brave-otter`
    pub(super) index: Option<String>,
    /// `registry.terraform.io/hetznercloud/hcloud`
    pub(super) provider: String,
}

impl Named {
    pub(super) fn new(kind: &str, provider: &str, name: &str, index: Option<&str>) -> Self {
        // A name of Terraform's begins with a letter or `_`; ours may begin with a digit.
        let digit = name.starts_with(|first: char| first.is_ascii_digit());
        let name = format!("{}{name}", if digit { "_" } else { "" });
        let block = format!("{kind}.{name}");
        let full = match index {
            Some(index) => format!("{block}[{}]", Value::from(index)),
            None => block.clone(),
        };
        Self {
            full,
            block,
            kind: kind.to_owned(),
            name,
            index: index.map(ToOwned::to_owned),
            provider: provider.to_owned(),
        }
    }

    /// What every mention of a resource has.
    pub(super) fn entry(&self) -> Value {
        let mut entry = json!({
            "address": self.full, "mode": "managed", "type": self.kind, "name": self.name,
        });
        if let Some(index) = &self.index {
            merged(&mut entry, json!({"index": index}));
        }
        merged(&mut entry, json!({"provider_name": self.provider}));
        entry
    }

    pub(super) fn provider_key(&self) -> String {
        let last = self.provider.rsplit('/').next();
        last.unwrap_or(&self.provider).to_owned()
    }
}

/// How things are called, and the ids by which they name each other.
pub(super) struct Naming<'a> {
    plan: &'a Plan,
    kinds: HashMap<&'a ProviderName, &'a str>,
    snapshot: &'a Snapshot,
}

impl<'a> Naming<'a> {
    pub(super) fn of(plan: &'a Plan, snapshot: &'a Snapshot) -> Self {
        Self {
            plan,
            kinds: kinds(snapshot),
            snapshot,
        }
    }

    pub(super) fn address(&self, address: &Address, provider: &ProviderName) -> Named {
        let hetzner = self.kinds.get(provider) == Some(&"hetzner");
        let (kind, of) = match (address.kind, hetzner) {
            (ResourceKind::Machine, true) => ("hcloud_server", HCLOUD),
            (ResourceKind::SshKey, true) => ("hcloud_ssh_key", HCLOUD),
            (ResourceKind::Firewall, true) => ("hcloud_firewall", HCLOUD),
            (ResourceKind::Network, true) => ("hcloud_network", HCLOUD),
            (ResourceKind::PlacementGroup, true) => ("hcloud_placement_group", HCLOUD),
            (kind, _) => (own(kind), OWN),
        };
        match &address.pool {
            Some(pool) => Named::new(kind, of, pool.as_str(), Some(&address.name)),
            None => Named::new(kind, of, &address.name, None),
        }
    }

    pub(super) fn of_record(&self, record: &Record) -> Value {
        let mut value = self.of_spec(&record.spec, &record.provider, Some(record.id.as_str()));
        merged(&mut value, json!({"name": record.name}));
        if let (ResourceSpec::Machine(_), Phase::Cordoned { .. }) = (&record.spec, &record.phase) {
            merged(&mut value, json!({"runfleet_cordoned": true}));
        }
        value
    }

    pub(super) fn of_spec(&self, spec: &ResourceSpec, provider: &ProviderName, id: Option<&str>) -> Value {
        let mut value = Value::Object(Map::new());
        if let Some(id) = id {
            merged(&mut value, json!({"id": id}));
        }
        merged(&mut value, json!({"name": spec.name()}));
        let rest = match spec {
            ResourceSpec::Machine(machine) => self.machine(machine, provider),
            ResourceSpec::SshKey(key) => json!({"public_key": key.public_key}),
            ResourceSpec::Firewall(firewall) => json!({"rule": rules(&firewall.rules)}),
            ResourceSpec::Network(network) => json!({
                "ip_range": network.ip_range,
                "runfleet_subnets": subnets(&network.subnets),
            }),
            ResourceSpec::PlacementGroup(_) => json!({"type": "spread"}),
            ResourceSpec::Group(group) => json!({"desired_capacity": group.size}),
            ResourceSpec::Batch(batch) => json!({"desired_count": batch.count, "pool": batch.each.pool}),
        };
        merged(&mut value, rest);
        value
    }

    fn machine(&self, machine: &MachineSpec, provider: &ProviderName) -> Value {
        let mut value = json!({
            "server_type": machine.offering.machine_type,
            "location": machine.offering.location,
            "image": machine.image.to_string(),
            "ssh_keys": machine.ssh_keys,
            "public_net": [{"ipv4_enabled": machine.public_ipv4}],
            "labels": {"runfleet-stack": self.plan.stack, "runfleet-pool": machine.pool},
            "runfleet_cordoned": false,
        });
        let ids = |kind: ResourceKind, names: &[String]| -> Option<Vec<Value>> {
            let ids = names.iter().map(|name| self.id(kind, name, provider));
            ids.collect()
        };
        // Known where all of them are there; else in `after_unknown`.
        if let Some(ids) = ids(ResourceKind::Firewall, &machine.firewalls) {
            merged(&mut value, json!({"firewall_ids": ids}));
        }
        if let Some(ids) = ids(ResourceKind::Network, &machine.networks) {
            let networks: Vec<Value> = ids.into_iter().map(|id| json!({"network_id": id})).collect();
            merged(&mut value, json!({"network": networks}));
        }
        if let Some(group) = &machine.placement_group {
            merged(&mut value, json!({"runfleet_placement_group": group}));
        }
        value
    }

    /// The cloud's id of a shared resource; a number where the cloud's are.
    fn id(&self, kind: ResourceKind, name: &str, provider: &ProviderName) -> Option<Value> {
        let record = self.snapshot.state.resources.get(&Address::shared(kind, name))?;
        let id = (record.provider == *provider).then(|| record.id.to_string())?;
        Some(id.parse::<u64>().map_or_else(|_| json!(id), |id| json!(id)))
    }

    /// What is known of something without a record.
    pub(super) fn of_stray(&self, target: &ResourceRef) -> Value {
        let strays = self.plan.orphans.iter().chain(&self.plan.foreign);
        let name = strays
            .filter(|stray| stray.target == *target)
            .map(|stray| stray.name.as_str())
            .next();
        json!({"id": target.id, "name": name})
    }
}

fn own(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Machine => "runfleet_machine",
        ResourceKind::SshKey => "runfleet_ssh_key",
        ResourceKind::Firewall => "runfleet_firewall",
        ResourceKind::Network => "runfleet_network",
        ResourceKind::PlacementGroup => "runfleet_placement_group",
        ResourceKind::Group => "runfleet_group",
        ResourceKind::Batch => "runfleet_batch",
    }
}

fn rules(rules: &[FirewallRule]) -> Vec<Value> {
    let rule = |rule: &FirewallRule| {
        let (direction, sources, destinations) = match rule.direction {
            Direction::In => ("in", rule.networks.clone(), Vec::new()),
            Direction::Out => ("out", Vec::new(), rule.networks.clone()),
        };
        json!({
            "direction": direction, "protocol": rule.protocol, "port": rule.port,
            "source_ips": sources, "destination_ips": destinations,
        })
    };
    rules.iter().map(rule).collect()
}

fn subnets(subnets: &[Subnet]) -> Vec<Value> {
    let subnet = |subnet: &Subnet| json!({"ip_range": subnet.ip_range, "network_zone": subnet.zone});
    subnets.iter().map(subnet).collect()
}

/// What the cloud says of a resource that is changed in place.
pub(super) fn seen(seen: &Observed) -> Value {
    let mut value = json!({"name": seen.name});
    if let Some(found) = &seen.rules {
        merged(&mut value, json!({"rule": rules(found)}));
    }
    if let Some(key) = &seen.public_key {
        merged(&mut value, json!({"public_key": key}));
    }
    if let Some((range, parts)) = &seen.network {
        merged(
            &mut value,
            json!({"ip_range": range, "runfleet_subnets": subnets(parts)}),
        );
    }
    if let Some(size) = seen.size {
        merged(&mut value, json!({"desired_capacity": size}));
    }
    value
}

/// What only the cloud, or apply, will know.
pub(super) fn unknown(spec: &ResourceSpec, after: &Value) -> Value {
    let mut value = json!({"id": true});
    if let ResourceSpec::Machine(machine) = spec {
        merged(
            &mut value,
            json!({"ipv4_address": true, "ipv6_address": true, "status": true, "user_data": true}),
        );
        if after.get("firewall_ids").is_none() {
            merged(&mut value, json!({"firewall_ids": true}));
        }
        if after.get("network").is_none() {
            merged(&mut value, json!({"network": true}));
        }
        if machine.placement_group.is_some() {
            merged(&mut value, json!({"placement_group_id": true}));
        }
    }
    value
}

/// A resource as it is on record, and as someone else left it.
pub(super) fn drifted(record: &Value, drift: &Drift) -> (Value, Value) {
    let (mut before, mut after) = (record.clone(), record.clone());
    for change in &drift.changes {
        let field = match change.field.as_str() {
            "type" => "server_type",
            "rules" => "runfleet_rules",
            "subnets" => "runfleet_subnets",
            field => field,
        };
        merged(&mut before, json!({field: change.before}));
        merged(&mut after, json!({field: change.after}));
    }
    merged(&mut after, json!({"runfleet_drift": drift.what}));
    (before, after)
}

/// Puts the keys of the second object into the first.
pub(super) fn merged(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
