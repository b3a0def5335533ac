//! Invariants 13 to 15: what holds of every plan about what machines share.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Checker;
use crate::{
    model::{
        ids::{Address, ProviderName, ResourceKind},
        resource::{MachineSpec, ResourceSpec},
        state::Record,
    },
    plan::{ActionId, Verb, fleet},
};

impl Checker<'_> {
    /// The machines on record that are not certainly gone, with what they use.
    fn users(&self) -> impl Iterator<Item = (&Address, &Record, &MachineSpec)> {
        let resources = self.facts.snapshot.state.resources.iter();
        resources.filter_map(|(address, record)| match &record.spec {
            ResourceSpec::Machine(spec)
                if fleet::presence(&self.facts, address, record) != fleet::Presence::Gone =>
            {
                Some((address, record, spec))
            }
            _ => None,
        })
    }

    pub(super) fn groups(&mut self) {
        let mut places: BTreeMap<(&ProviderName, &str), u32> = BTreeMap::new();
        for (_, record, spec) in self.users() {
            if let Some(group) = &spec.placement_group {
                *places.entry((&record.provider, group)).or_default() += 1;
            }
        }
        let there = places.clone();
        for action in &self.plan.actions {
            let Verb::Create { ladder, .. } = &action.verb else {
                continue;
            };
            let mut own = BTreeSet::new();
            for rung in ladder {
                if let ResourceSpec::Machine(spec) = &rung.spec
                    && let Some(group) = &spec.placement_group
                {
                    own.insert((&rung.provider, group.as_str()));
                }
            }
            for group in own {
                *places.entry(group).or_default() += 1;
            }
        }
        let clouds = &self.facts.snapshot.clouds;
        let size = |provider| clouds.get(provider).and_then(|cloud| cloud.profile.group_size);
        let over: Vec<String> = places
            .iter()
            .filter(|(group, count)| there.get(*group) != Some(count))
            .filter(|((provider, _), count)| Some(**count) > size(*provider))
            .map(|((provider, group), count)| format!("{provider} {group}: {count}"))
            .collect();
        for what in over {
            self.broken(13, &what);
        }
    }

    pub(super) fn shared(&mut self) {
        let mut removals: HashMap<&Address, ActionId> = HashMap::new();
        for action in &self.plan.actions {
            if matches!(
                action.verb,
                Verb::Retire { .. } | Verb::Delete { .. } | Verb::Forget { .. }
            ) {
                removals.insert(&action.address, action.id);
            }
        }
        let mut users: HashMap<(&ProviderName, ResourceKind, &str), Vec<Option<ActionId>>> = HashMap::new();
        for (address, record, spec) in self.users() {
            for (kind, name) in spec.uses() {
                let key = (&record.provider, kind, name);
                users.entry(key).or_default().push(removals.get(address).copied());
            }
        }
        let mut early = Vec::new();
        for action in &self.plan.actions {
            let (Verb::Delete { target, .. }, Some(record)) = (&action.verb, &action.before) else {
                continue;
            };
            let is_key = target.kind == ResourceKind::SshKey;
            let anew =
                self.plan.actions.iter().any(|other| {
                    other.address == action.address && matches!(other.verb, Verb::Create { .. })
                });
            if !target.kind.is_shared() || (is_key && anew) {
                continue;
            }
            let key = (&record.provider, target.kind, action.address.name.as_str());
            let own = users.get(&key).map(Vec::as_slice).unwrap_or_default();
            let waits = |removal: &Option<ActionId>| removal.is_some_and(|id| action.after.contains(&id));
            if !own.iter().all(waits) {
                early.push(&action.address);
            }
        }
        for address in early {
            self.broken(14, address);
        }
    }

    pub(super) fn prerequisites(&mut self) {
        let mut made: HashMap<&Address, ActionId> = HashMap::new();
        let mut removed: HashSet<&Address> = HashSet::new();
        for action in &self.plan.actions {
            match &action.verb {
                Verb::Create { .. } | Verb::Adopt { .. } => {
                    made.insert(&action.address, action.id);
                }
                Verb::Delete { .. } | Verb::Forget { .. } => {
                    removed.insert(&action.address);
                }
                Verb::Relabel { was: Some(was), .. } => {
                    removed.insert(was);
                }
                _ => {}
            }
        }
        for action in &self.plan.actions {
            let Verb::Create { ladder, .. } = &action.verb else {
                continue;
            };
            let lacking = ladder.iter().any(|rung| {
                let ResourceSpec::Machine(spec) = &rung.spec else {
                    return false;
                };
                spec.uses().any(|(kind, name)| {
                    let address = Address::shared(kind, name);
                    let recorded = self.facts.snapshot.state.resources.contains_key(&address);
                    match made.get(&address) {
                        Some(id) => !rung.needs.contains(id),
                        None => !recorded || removed.contains(&address),
                    }
                })
            });
            if lacking {
                self.broken(15, &action.address);
            }
        }
    }
}
