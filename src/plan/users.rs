//! Which machines use which shared resources, once a plan is done: nothing shared goes before the last of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    ActionId, Verb,
    draft::Draft,
    facts::Facts,
    recover::{InFlight, Use},
    strays::Found,
};
use crate::model::{
    ids::{Address, PoolName, ProviderName, ResourceKind},
    resource::{Observed, ResourceRef, ResourceSpec},
    state::Record,
};

/// What stands between a shared resource and its removal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hindrance {
    /// The first pool with a machine that uses it and stays.
    pub(super) stays: Option<PoolName>,
    /// How many machines use it now, those that leave too.
    pub(super) machines: u32,
    /// The removals of those that leave.
    pub(super) leaving: BTreeSet<ActionId>,
}

/// The users of every shared resource.
#[derive(Debug, Default)]
pub(super) struct Users<'a> {
    /// By what the records of machines name.
    named: HashMap<(&'a ProviderName, ResourceKind, &'a str), Hindrance>,
    /// By what the clouds say that machines use, where they say so.
    seen: HashMap<&'a ResourceRef, Hindrance>,
    /// Orphans of which it is not known what they use: nothing of their cloud goes before them.
    unknown: BTreeMap<&'a ProviderName, Hindrance>,
    unfinished: &'a [Use],
}

impl<'a> Users<'a> {
    /// As this draft, its machines decided on, leaves them.
    pub(super) fn of(facts: &Facts<'a>, in_flight: &'a InFlight, found: &Found<'a>, draft: &Draft) -> Self {
        let mut users = Self {
            unfinished: &in_flight.uses,
            ..Self::default()
        };
        for (address, record) in &facts.snapshot.state.resources {
            let (ResourceSpec::Machine(spec), Some(pool)) = (&record.spec, &address.pool) else {
                continue;
            };
            let removal = draft.removal_of(address);
            for (kind, name) in spec.uses() {
                let key = (&record.provider, kind, name);
                users.named.entry(key).or_default().add(pool, removal);
            }
            let seen = facts.resource(&record.target());
            for used in seen.and_then(|seen| seen.uses.as_deref()).unwrap_or_default() {
                users.seen.entry(used).or_default().add(pool, removal);
            }
        }
        let removals: HashMap<&ResourceRef, ActionId> = draft
            .actions
            .iter()
            .filter_map(|action| match &action.verb {
                Verb::Retire { target, .. } | Verb::Delete { target, .. } => Some((target, action.id)),
                _ => None,
            })
            .collect();
        for seen in found.orphans.iter().filter(|seen| !seen.target.kind.is_shared()) {
            users.add_orphan(seen, removals.get(&seen.target).copied());
        }
        users
    }

    fn add_orphan(&mut self, seen: &'a Observed, removal: Option<ActionId>) {
        let pool = seen
            .labels
            .get("runfleet-pool")
            .map_or("an orphan", String::as_str);
        let pool = PoolName::from(pool);
        let Some(uses) = &seen.uses else {
            let provider = &seen.target.provider;
            self.unknown.entry(provider).or_default().add(&pool, removal);
            return;
        };
        for used in uses {
            self.seen.entry(used).or_default().add(&pool, removal);
        }
    }

    /// What stands between this resource and its removal.
    pub(super) fn hindrance(&self, address: &Address, record: &Record) -> Hindrance {
        let mut all = Hindrance::default();
        let named = self
            .named
            .get(&(&record.provider, address.kind, address.name.as_str()));
        let seen = self.seen.get(&record.target());
        for part in [named, seen, self.unknown.get(&record.provider)]
            .into_iter()
            .flatten()
        {
            all.stays = all.stays.or_else(|| part.stays.clone());
            // A machine may be named by its record and seen by its cloud: the larger number is nearer the truth.
            all.machines = all.machines.max(part.machines);
            all.leaving.extend(&part.leaving);
        }
        let unfinished = self.unfinished.iter().filter(|(provider, kind, name)| {
            *provider == record.provider && *kind == address.kind && *name == address.name
        });
        let unfinished = u32::try_from(unfinished.count()).unwrap_or(u32::MAX);
        if unfinished > 0 {
            all.machines = all.machines.saturating_add(unfinished);
            all.stays = all.stays.or_else(|| Some(PoolName::new("an unfinished attempt")));
        }
        all
    }
}

impl Hindrance {
    fn add(&mut self, pool: &PoolName, removal: Option<ActionId>) {
        self.machines += 1;
        match removal {
            Some(id) => {
                self.leaving.insert(id);
            }
            None => {
                self.stays.get_or_insert_with(|| pool.clone());
            }
        }
    }
}
