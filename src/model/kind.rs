//! Each kind of resource, described once: its fields, which of their changes are made in place and which make it anew,
//! what it depends on, and whether it costs. Diffs, drift, plans, the graph and docs/resources.md follow from it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    ids::{CloudId, ResourceKind},
    resource::{Direction, FirewallRule, Observed, ResourceSpec, Subnet},
};

/// What a change of a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnChange {
    /// It is changed where it is.
    InPlace,
    /// It is made anew.
    Replace,
}

/// How a resource is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anew {
    /// The new one is made, under a name of its own, before the old one is removed.
    CreateFirst,
    /// The old one is removed before the new one is made, and only where no machine uses it.
    WhenUnused,
    /// It is not: it is made by somebody else.
    Never,
    /// Machine by machine, each as soon as it is idle, the new one first where `max` and the budget allow it.
    Rolled,
}

/// A field of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in plans and in JSON.
    pub name: &'static str,
    /// What it is, for docs/resources.md.
    pub doc: &'static str,
    /// What a change of it takes.
    pub on_change: OnChange,
    /// What it should be; none where the kind of spec has no such field.
    pub wanted: fn(&ResourceSpec) -> Option<Value>,
    /// What the cloud says it is; none where it does not say.
    pub seen: fn(&Observed) -> Option<Value>,
}

/// A kind of resource.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Which.
    pub kind: ResourceKind,
    /// What it is, for docs/resources.md.
    pub doc: &'static str,
    /// The kinds whose resources it uses: they are made before it and removed after it.
    pub depends_on: &'static [ResourceKind],
    /// Whether it is paid for by itself.
    pub billed: bool,
    /// How it is made anew, where a change takes that.
    pub anew: Anew,
    /// Its fields, in the order in which a person reads them.
    pub fields: &'static [Field],
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub field: String,
    /// What is there.
    pub before: Value,
    /// What should be there.
    pub after: Value,
    /// What the change takes.
    pub on_change: OnChange,
}

impl Change {
    /// For a person: `rules: +in 22/tcp 0.0.0.0/0`, `type: cx33 -> cx43`.
    pub fn words(&self) -> Vec<String> {
        match (&self.before, &self.after) {
            (Value::Array(before), Value::Array(after)) => {
                let gone = before.iter().filter(|item| !after.contains(item));
                let new = after.iter().filter(|item| !before.contains(item));
                new.map(|item| format!("{}: +{}", self.field, plain(item)))
                    .chain(gone.map(|item| format!("{}: -{}", self.field, plain(item))))
                    .collect()
            }
            (before, after) => vec![format!("{}: {} -> {}", self.field, plain(before), plain(after))],
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// The description of a kind.
pub fn describe(kind: ResourceKind) -> &'static Kind {
    // `KINDS` has each kind once, in the order of `ResourceKind::ALL`; a test holds it.
    KINDS.iter().find(|known| known.kind == kind).unwrap_or(&KINDS[0])
}

/// What differs between what is there and what should be. A field that the cloud does not tell never differs.
pub fn differences(seen: &Observed, want: &ResourceSpec) -> Vec<Change> {
    let fields = describe(want.kind()).fields.iter();
    fields
        .filter_map(|field| change(field, (field.seen)(seen)?, (field.wanted)(want)?))
        .collect()
}

/// What differs between two wishes for the same resource.
pub fn spec_differences(have: &ResourceSpec, want: &ResourceSpec) -> Vec<Change> {
    let fields = describe(want.kind()).fields.iter();
    fields
        .filter_map(|field| change(field, (field.wanted)(have)?, (field.wanted)(want)?))
        .collect()
}

fn change(field: &Field, before: Value, after: Value) -> Option<Change> {
    (before != after).then(|| Change {
        field: field.name.to_owned(),
        before,
        after,
        on_change: field.on_change,
    })
}

/// Every kind, in the order of [`ResourceKind::ALL`].
pub const KINDS: [Kind; 7] = [
    Kind {
        kind: ResourceKind::SshKey,
        doc: "A key that may log in to machines.",
        depends_on: &[],
        billed: false,
        anew: Anew::CreateFirst,
        fields: &[Field {
            name: "public_key",
            doc: "Its type and material; the comment does not count.",
            on_change: OnChange::Replace,
            wanted: |spec| match spec {
                ResourceSpec::SshKey(key) => Some(json!(key_material(&key.public_key))),
                _ => None,
            },
            seen: |seen| seen.public_key.as_deref().map(|key| json!(key_material(key))),
        }],
    },
    Kind {
        kind: ResourceKind::Network,
        doc: "A private network with its subnets.",
        depends_on: &[],
        billed: false,
        anew: Anew::WhenUnused,
        fields: &[
            Field {
                name: "ip_range",
                doc: "All its addresses.",
                on_change: OnChange::Replace,
                wanted: |spec| match spec {
                    ResourceSpec::Network(network) => Some(json!(network.ip_range)),
                    _ => None,
                },
                seen: |seen| seen.network.as_ref().map(|(range, _)| json!(range)),
            },
            Field {
                name: "subnets",
                doc: "Parts of its addresses, each in a zone.",
                on_change: OnChange::InPlace,
                wanted: |spec| match spec {
                    ResourceSpec::Network(network) => Some(subnets(&network.subnets)),
                    _ => None,
                },
                seen: |seen| seen.network.as_ref().map(|(_, parts)| subnets(parts)),
            },
        ],
    },
    Kind {
        kind: ResourceKind::Firewall,
        doc: "Rules for traffic to and from machines.",
        depends_on: &[],
        billed: false,
        anew: Anew::WhenUnused,
        fields: &[Field {
            name: "rules",
            doc: "What is let through; their order means nothing.",
            on_change: OnChange::InPlace,
            wanted: |spec| match spec {
                ResourceSpec::Firewall(firewall) => Some(rules(&firewall.rules)),
                _ => None,
            },
            seen: |seen| seen.rules.as_deref().map(rules),
        }],
    },
    Kind {
        kind: ResourceKind::PlacementGroup,
        doc: "Machines that the cloud keeps on different hosts.",
        depends_on: &[],
        billed: false,
        anew: Anew::WhenUnused,
        fields: &[],
    },
    Kind {
        kind: ResourceKind::Machine,
        doc: "A server, a droplet, an instance: one runner.",
        depends_on: &[
            ResourceKind::SshKey,
            ResourceKind::Network,
            ResourceKind::Firewall,
            ResourceKind::PlacementGroup,
        ],
        billed: true,
        anew: Anew::Rolled,
        fields: &[
            machine_field(
                "type",
                "The machine type that is bought.",
                |spec| match spec {
                    ResourceSpec::Machine(machine) => Some(json!(machine.offering.machine_type)),
                    _ => None,
                },
                |seen| seen.offering.as_ref().map(|key| json!(key.machine_type)),
            ),
            machine_field(
                "location",
                "Where it stands.",
                |spec| match spec {
                    ResourceSpec::Machine(machine) => Some(json!(machine.offering.location)),
                    _ => None,
                },
                |seen| seen.offering.as_ref().map(|key| json!(key.location)),
            ),
            machine_field(
                "image",
                "What it boots from.",
                |spec| match spec {
                    ResourceSpec::Machine(machine) => Some(json!(machine.image.to_string())),
                    _ => None,
                },
                |_| None,
            ),
            machine_field(
                "public_ipv4",
                "Whether it has a public IPv4 address.",
                |spec| match spec {
                    ResourceSpec::Machine(machine) => Some(json!(machine.public_ipv4)),
                    _ => None,
                },
                |_| None,
            ),
            machine_field(
                "ssh_keys",
                "Keys that may log in.",
                |spec| match spec {
                    ResourceSpec::Machine(machine) => Some(sorted(&machine.ssh_keys)),
                    _ => None,
                },
                |_| None,
            ),
            machine_field(
                "firewalls",
                "Firewalls that apply.",
                |spec| match spec {
                    ResourceSpec::Machine(machine) => Some(sorted(&machine.firewalls)),
                    _ => None,
                },
                |_| None,
            ),
            machine_field(
                "networks",
                "Networks that it is attached to.",
                |spec| match spec {
                    ResourceSpec::Machine(machine) => Some(sorted(&machine.networks)),
                    _ => None,
                },
                |_| None,
            ),
        ],
    },
    Kind {
        kind: ResourceKind::Group,
        doc: "An Auto Scaling group that is somebody else's: its size, and who of it is protected.",
        depends_on: &[],
        billed: true,
        anew: Anew::Never,
        fields: &[
            Field {
                name: "size",
                doc: "How many members it should have.",
                on_change: OnChange::InPlace,
                wanted: |spec| match spec {
                    ResourceSpec::Group(group) => Some(json!(group.size)),
                    _ => None,
                },
                seen: |seen| seen.size.map(|size| json!(size)),
            },
            Field {
                name: "protected",
                doc: "The members that the cloud may not end by itself, since they run jobs or may.",
                on_change: OnChange::InPlace,
                wanted: |spec| match spec {
                    ResourceSpec::Group(group) => Some(json!(group.protected)),
                    _ => None,
                },
                seen: |seen| {
                    seen.size?;
                    let protected = seen.members.iter().filter(|member| member.protected);
                    let ids: BTreeSet<&CloudId> = protected.map(|member| &member.id).collect();
                    Some(json!(ids))
                },
            },
        ],
    },
    Kind {
        kind: ResourceKind::Batch,
        doc: "Tasks or Jobs that were started together. Each runs once, and goes by itself.",
        depends_on: &[],
        billed: true,
        anew: Anew::Never,
        fields: &[
            Field {
                name: "count",
                doc: "How many were started.",
                on_change: OnChange::InPlace,
                wanted: |spec| match spec {
                    ResourceSpec::Batch(batch) => Some(json!(batch.count)),
                    _ => None,
                },
                seen: |_| None,
            },
            machine_field(
                "type",
                "What each of them is.",
                |spec| match spec {
                    ResourceSpec::Batch(batch) => Some(json!(batch.each.offering.machine_type)),
                    _ => None,
                },
                |seen| seen.offering.as_ref().map(|key| json!(key.machine_type)),
            ),
            machine_field(
                "location",
                "Where they run.",
                |spec| match spec {
                    ResourceSpec::Batch(batch) => Some(json!(batch.each.offering.location)),
                    _ => None,
                },
                |seen| seen.offering.as_ref().map(|key| json!(key.location)),
            ),
        ],
    },
];

const fn machine_field(
    name: &'static str,
    doc: &'static str,
    wanted: fn(&ResourceSpec) -> Option<Value>,
    seen: fn(&Observed) -> Option<Value>,
) -> Field {
    Field {
        name,
        doc,
        on_change: OnChange::Replace,
        wanted,
        seen,
    }
}

/// Type and material of a public key, without its comment.
pub fn key_material(key: &str) -> String {
    key.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// Rules in the words of a plan, sorted: the order of rules and of networks means nothing.
fn rules(rules: &[FirewallRule]) -> Value {
    let mut words: Vec<String> = rules.iter().map(rule).collect();
    words.sort();
    words.dedup();
    json!(words)
}

fn rule(rule: &FirewallRule) -> String {
    let mut networks: Vec<&str> = rule.networks.iter().map(String::as_str).collect();
    networks.sort_unstable();
    networks.dedup();
    let way = match rule.direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    let port = rule
        .port
        .as_deref()
        .map(|port| format!("{port}/"))
        .unwrap_or_default();
    format!("{way} {port}{} {}", rule.protocol, networks.join(","))
}

fn subnets(subnets: &[Subnet]) -> Value {
    let mut words: Vec<String> = subnets
        .iter()
        .map(|subnet| format!("{} in {}", subnet.ip_range, subnet.zone))
        .collect();
    words.sort();
    words.dedup();
    json!(words)
}

fn sorted(names: &[String]) -> Value {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    json!(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_described_once_and_depends_only_on_earlier_ones() {
        for (at, kind) in KINDS.iter().enumerate() {
            assert_eq!(ResourceKind::ALL[at], kind.kind);
            let earlier = &ResourceKind::ALL[..at];
            assert!(kind.depends_on.iter().all(|needed| earlier.contains(needed)));
        }
    }

    #[test]
    fn a_change_of_a_list_says_what_comes_and_what_goes() {
        let change = Change {
            field: "rules".into(),
            before: json!(["in 22/tcp ::/0"]),
            after: json!(["in 80/tcp ::/0"]),
            on_change: OnChange::InPlace,
        };
        assert_eq!(
            change.words(),
            ["rules: +in 80/tcp ::/0", "rules: -in 22/tcp ::/0"]
        );
    }
}
