//! Keys and firewalls: made before the machines that need them, changed in place where that can be, and removed
//! after the last machine that uses them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    ActionId, Drift, Goal, Rung, Verb,
    draft::Draft,
    facts::Facts,
    fleet::{self, Presence},
    names,
    recover::InFlight,
    strays::Found,
};
use crate::{
    model::{
        ids::{Address, PoolName, ProviderName, ResourceKind},
        intent::Intent,
        reason::Reason,
        resource::{FirewallRule, FirewallSpec, Observed, ResourceRef, ResourceSpec, SshKeySpec},
        state::Record,
    },
    render::shared_hash,
};

/// A shared resource that the stack wishes for.
#[derive(Clone, Debug)]
pub(super) struct Wished {
    pub(super) provider: ProviderName,
    pub(super) spec: ResourceSpec,
    /// The first pool that names it; none: nobody needs it.
    pub(super) by: Option<PoolName>,
}

/// Every shared resource of the stack file.
pub(super) fn wished(facts: &Facts<'_>) -> BTreeMap<Address, Wished> {
    let stack = facts.stack;
    let mut wished = BTreeMap::new();
    let by = |kind: ResourceKind, name: &String, provider: &ProviderName| {
        let uses = |pool: &&crate::stack::Pool| {
            let names = match kind {
                ResourceKind::SshKey => &pool.ssh_keys,
                _ => &pool.firewalls,
            };
            names.contains(name) && pool.offerings.iter().any(|choice| choice.provider == *provider)
        };
        stack.pools.iter().find(uses).map(|pool| pool.name.clone())
    };
    for (name, key) in &stack.ssh_keys {
        let kind = ResourceKind::SshKey;
        let spec = ResourceSpec::SshKey(SshKeySpec {
            name: names::shared(&stack.name, kind, name, Some(&key.public_key)),
            public_key: key.public_key.clone(),
        });
        let by = by(kind, name, &key.provider);
        let provider = key.provider.clone();
        wished.insert(Address::shared(kind, name), Wished { provider, spec, by });
    }
    for (name, firewall) in &stack.firewalls {
        let kind = ResourceKind::Firewall;
        let spec = ResourceSpec::Firewall(FirewallSpec {
            name: names::shared(&stack.name, kind, name, None),
            rules: firewall.rules.clone(),
        });
        let by = by(kind, name, &firewall.provider);
        let provider = firewall.provider.clone();
        wished.insert(Address::shared(kind, name), Wished { provider, spec, by });
    }
    wished
}

/// The names that apply to a machine of this provider.
pub(super) fn applying(
    wished: &BTreeMap<Address, Wished>,
    kind: ResourceKind,
    names: &[String],
    provider: &ProviderName,
) -> Vec<String> {
    let applies = |name: &&String| {
        wished
            .get(&Address::shared(kind, name))
            .is_some_and(|wish| wish.provider == *provider)
    };
    names.iter().filter(applies).cloned().collect()
}

/// Brings the shared resources in line, makes those in `needed`, and says which action makes each.
pub(super) fn decide(
    facts: &Facts<'_>,
    wished: &BTreeMap<Address, Wished>,
    needed: &BTreeMap<Address, PoolName>,
    in_flight: &InFlight,
    found: &Found<'_>,
    goal: Goal,
    draft: &mut Draft,
) -> HashMap<Address, ActionId> {
    let mut made: HashMap<Address, ActionId> = in_flight
        .adopted
        .iter()
        .map(|(address, id)| (address.clone(), *id))
        .collect();
    let users = Users::of(facts, in_flight, found, draft);
    let mut removals = Vec::new();
    for (address, record) in &facts.snapshot.state.resources {
        if !address.kind.is_shared() || draft.is_touched(address) {
            continue;
        }
        let wish = wished
            .get(address)
            .filter(|wish| wish.provider == record.provider);
        let wish = wish.filter(|wish| wish.by.is_some() && goal == Goal::Converge);
        match fleet::presence(facts, address, record) {
            Presence::Gone => {
                let verb = Verb::Forget { registration: None };
                draft.push(address, verb, Reason::Gone, Vec::new(), Some(record));
            }
            Presence::Missing { since } => {
                draft.hold(address, 1, Reason::MissingOnce { since });
                draft.keep_shared(address, Reason::MissingOnce { since });
            }
            Presence::Unseen => {
                let provider = record.provider.clone();
                let why = facts
                    .cloud_gap(&provider)
                    .unwrap_or_else(|| "it was not listed".to_owned());
                draft.keep_shared(address, Reason::PartialCloud { provider, why });
            }
            Presence::Here(seen) => {
                drift(address, record, seen, draft);
                if let Some(why) = facts.cloud_gap(&record.provider) {
                    let provider = record.provider.clone();
                    draft.keep_shared(address, Reason::PartialCloud { provider, why });
                } else if let Some(wish) = wish {
                    align(facts, address, record, seen, wish, draft);
                } else {
                    removals.push((address, record));
                }
            }
        }
    }
    for (address, by) in needed {
        if let (Some(wish), false) = (wished.get(address), made.contains_key(address)) {
            made.extend(make(facts, address, wish, by, draft).map(|id| (address.clone(), id)));
        }
    }
    for (address, record) in removals {
        remove(address, record, &users, goal, draft);
    }
    made
}

/// Makes a shared resource that is not there, or will not be once this plan has replaced it.
fn make(
    facts: &Facts<'_>,
    address: &Address,
    wish: &Wished,
    by: &PoolName,
    draft: &mut Draft,
) -> Option<ActionId> {
    let after = draft.removal_of(address);
    if after.is_none() && facts.snapshot.state.resources.contains_key(address) {
        return None;
    }
    let rung = Rung {
        offering: None,
        provider: wish.provider.clone(),
        price: None,
        hash: shared_hash(&wish.spec),
        spec: wish.spec.clone(),
        needs: Vec::new(),
    };
    let verb = Verb::Create {
        ladder: vec![rung],
        bootstrap: None,
    };
    let reason = Reason::Needed { by: by.clone() };
    draft.push(address, verb, reason, after.into_iter().collect(), None)
}

/// Updates, replaces or keeps a shared resource that is wished for.
fn align(
    facts: &Facts<'_>,
    address: &Address,
    record: &Record,
    seen: &Observed,
    wish: &Wished,
    draft: &mut Draft,
) {
    let interrupted = facts
        .snapshot
        .open
        .iter()
        .any(|open| open.address == *address && matches!(open.intent, Intent::Update { .. }));
    let changes = differences(&wish.spec, seen);
    match &wish.spec {
        ResourceSpec::SshKey(_) if !changes.is_empty() || record.name != wish.spec.name() => {
            let verb = Verb::Delete {
                target: record.target(),
                registration: None,
            };
            let what = "public key".to_owned();
            draft.push(address, verb, Reason::Differs { what }, Vec::new(), Some(record));
        }
        ResourceSpec::Firewall(_) if !changes.is_empty() || interrupted || is_stale(record, &wish.spec) => {
            // Where only our record lags (an answer was lost), the change is made again: it changes nothing, and
            // its answer brings the record up to date.
            let reason = if changes.is_empty() {
                Reason::Unfinished
            } else {
                let what = changes.join(", ");
                Reason::Differs { what }
            };
            let verb = Verb::Update {
                have: Box::new(seen.clone()),
                want: wish.spec.clone(),
                changes,
            };
            draft.push(address, verb, reason, Vec::new(), Some(record));
        }
        _ => {
            let by = wish.by.clone().unwrap_or_else(|| PoolName::new(""));
            draft.keep_shared(address, Reason::Needed { by });
        }
    }
}

/// Whether the record of a firewall says other rules than are wished for.
fn is_stale(record: &Record, want: &ResourceSpec) -> bool {
    match (&record.spec, want) {
        (ResourceSpec::Firewall(have), ResourceSpec::Firewall(want)) => {
            rules(&have.rules) != rules(&want.rules)
        }
        _ => false,
    }
}

fn remove(address: &Address, record: &Record, users: &Users, goal: Goal, draft: &mut Draft) {
    let key = (record.provider.clone(), address.kind, address.name.clone());
    if let Some(by) = users.staying.get(&key) {
        draft.keep_shared(address, Reason::Needed { by: by.clone() });
        return;
    }
    let mut after: Vec<ActionId> = users.leaving.get(&key).into_iter().flatten().copied().collect();
    if let Some((by, ids)) = users.orphans.get(&record.provider) {
        if ids.contains(&None) {
            draft.keep_shared(address, Reason::Needed { by: by.clone() });
            return;
        }
        after.extend(ids.iter().flatten());
    }
    let verb = Verb::Delete {
        target: record.target(),
        registration: None,
    };
    let reason = match goal {
        Goal::Destroy => Reason::Destroy,
        Goal::Converge => Reason::NotInStack,
    };
    draft.push(address, verb, reason, after, Some(record));
}

type Use = (ProviderName, ResourceKind, String);

/// Which machines use which shared resources, once this plan is done.
#[derive(Debug, Default)]
struct Users {
    staying: BTreeMap<Use, PoolName>,
    leaving: BTreeMap<Use, BTreeSet<ActionId>>,
    /// What orphans use is not known: nothing goes before them.
    orphans: BTreeMap<ProviderName, (PoolName, Vec<Option<ActionId>>)>,
}

impl Users {
    fn of(facts: &Facts<'_>, in_flight: &InFlight, found: &Found<'_>, draft: &Draft) -> Self {
        let mut users = Self::default();
        for (address, record) in &facts.snapshot.state.resources {
            let (ResourceSpec::Machine(spec), Some(pool)) = (&record.spec, &address.pool) else {
                continue;
            };
            let keys = spec.ssh_keys.iter().map(|name| (ResourceKind::SshKey, name));
            let walls = spec.firewalls.iter().map(|name| (ResourceKind::Firewall, name));
            for (kind, name) in keys.chain(walls) {
                let key = (record.provider.clone(), kind, name.clone());
                match draft.removal_of(address) {
                    Some(id) => {
                        users.leaving.entry(key).or_default().insert(id);
                    }
                    None => {
                        users.staying.entry(key).or_insert_with(|| pool.clone());
                    }
                }
            }
        }
        for key in &in_flight.uses {
            let unknown = || PoolName::new("an unfinished attempt");
            users.staying.entry(key.clone()).or_insert_with(unknown);
        }
        let removals: HashMap<&ResourceRef, ActionId> = draft
            .actions
            .iter()
            .filter_map(|action| match &action.verb {
                Verb::Retire { target, .. } | Verb::Delete { target, .. } => Some((target, action.id)),
                _ => None,
            })
            .collect();
        let machines = found.orphans.iter().filter(|seen| !seen.target.kind.is_shared());
        for seen in machines {
            let provider = seen.target.provider.clone();
            let pool = seen
                .labels
                .get("runfleet-pool")
                .map_or("an orphan", String::as_str);
            let (_, ids) = users
                .orphans
                .entry(provider)
                .or_insert_with(|| (pool.into(), Vec::new()));
            ids.push(removals.get(&seen.target).copied());
        }
        users
    }
}

/// What differs between a wish and what is there, for a person.
fn differences(want: &ResourceSpec, seen: &Observed) -> Vec<String> {
    match want {
        ResourceSpec::SshKey(key) => {
            let same = seen
                .public_key
                .as_ref()
                .is_none_or(|have| names::key_material(have) == names::key_material(&key.public_key));
            if same {
                Vec::new()
            } else {
                vec!["public key".to_owned()]
            }
        }
        ResourceSpec::Firewall(firewall) => {
            let have = rules(seen.rules.as_deref().unwrap_or_default());
            let want = rules(&firewall.rules);
            let missing = want.difference(&have).map(|rule| format!("rules: +{rule}"));
            let extra = have.difference(&want).map(|rule| format!("rules: -{rule}"));
            missing.chain(extra).collect()
        }
        _ => Vec::new(),
    }
}

/// What someone else changed: what is there against what is on record.
fn drift(address: &Address, record: &Record, seen: &Observed, draft: &mut Draft) {
    let changes = differences(&record.spec, seen);
    if !changes.is_empty() {
        draft.drift.push(Drift {
            address: address.clone(),
            what: changes.join(", "),
            changes: Vec::new(),
            fate: super::DriftFate::Shown,
        });
    }
}

/// Rules as a set of words: order of rules and of networks means nothing.
fn rules(rules: &[FirewallRule]) -> BTreeSet<String> {
    rules
        .iter()
        .map(|rule| {
            let networks: BTreeSet<&str> = rule.networks.iter().map(String::as_str).collect();
            let networks: Vec<&str> = networks.into_iter().collect();
            let port = rule
                .port
                .as_deref()
                .map(|port| format!("{port}/"))
                .unwrap_or_default();
            let way = match rule.direction {
                crate::model::resource::Direction::In => "in",
                crate::model::resource::Direction::Out => "out",
            };
            format!("{way} {port}{} {}", rule.protocol, networks.join(","))
        })
        .collect()
}

/// The shared resources that a ladder needs, by rung.
pub(super) fn needs_of(rung: &Rung) -> Vec<Address> {
    let ResourceSpec::Machine(spec) = &rung.spec else {
        return Vec::new();
    };
    let keys = spec
        .ssh_keys
        .iter()
        .map(|name| Address::shared(ResourceKind::SshKey, name));
    let walls = spec
        .firewalls
        .iter()
        .map(|name| Address::shared(ResourceKind::Firewall, name));
    keys.chain(walls).collect()
}

/// Shared resources whose making is in doubt: nothing that needs them is made meanwhile.
pub(super) fn in_doubt(needs: &[Address], unsettled: &HashSet<Address>) -> bool {
    needs.iter().any(|address| unsettled.contains(address))
}
