//! Placement groups of pools with `spread`: as many as their machines need, each filled up before the next is made.
//!
//! A group's address is `placement_group/POOL-NUMBER`. A place is taken by every machine on record that is not
//! certainly gone, by unfinished attempts, by orphans that the cloud says are in it, and by the creates of the plan
//! that is being made. How many places a group has is its provider's to say.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    facts::Facts,
    fleet::{self, Presence},
    names,
    recover::InFlight,
    shared::Wished,
    strays::Found,
};
use crate::model::{
    ids::{Address, PoolName, ProviderName, ResourceKind},
    resource::{PlacementGroupSpec, ResourceSpec},
};

/// One group that takes machines.
#[derive(Clone, Debug)]
struct Group {
    provider: ProviderName,
    machines: u32,
    /// Whether one more may be put into it.
    open: bool,
}

/// The groups of all pools.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// By pool and number, and so in the order in which they are filled.
    by_pool: BTreeMap<(PoolName, u32), Group>,
    /// Names in the cloud that something without a record has.
    taken: HashSet<String>,
    /// Those that the plan puts machines into.
    given: BTreeMap<Address, Wished>,
}

impl Groups {
    /// The groups that are there, and who is in them.
    pub(super) fn of(facts: &Facts<'_>, in_flight: &InFlight, found: &Found<'_>) -> Self {
        let mut groups = Self::default();
        let state = &facts.snapshot.state;
        let is_group = |address: &&Address| address.kind == ResourceKind::PlacementGroup;
        for (address, record) in state.resources.iter().filter(|(address, _)| is_group(address)) {
            // One that may be gone, or is, takes nobody; its number stays taken until its record is dropped.
            let open = matches!(fleet::presence(facts, address, record), Presence::Here(_));
            groups.enter(&address.name, &record.provider, open);
        }
        for address in in_flight.adopted.keys().filter(is_group) {
            if let Some(provider) = in_flight.providers.get(address) {
                groups.enter(&address.name, provider, true);
            }
        }
        for address in in_flight.unsettled.iter().filter(is_group) {
            if let Some(provider) = in_flight.providers.get(address) {
                groups.enter(&address.name, provider, false);
            }
        }
        for (address, record) in &state.resources {
            let ResourceSpec::Machine(spec) = &record.spec else {
                continue;
            };
            if let Some(name) = &spec.placement_group
                && fleet::presence(facts, address, record) != Presence::Gone
            {
                groups.count(name);
            }
        }
        for (_, kind, name) in &in_flight.uses {
            if *kind == ResourceKind::PlacementGroup {
                groups.count(name);
            }
        }
        for seen in &found.orphans {
            if seen.target.kind == ResourceKind::PlacementGroup {
                groups.taken.insert(seen.name.clone());
            }
            let uses = seen.uses.as_deref().unwrap_or_default();
            let groups_of = uses
                .iter()
                .filter_map(|used| facts.recorded(used))
                .filter(is_group);
            for address in groups_of {
                groups.count(&address.name);
            }
        }
        groups
    }

    fn enter(&mut self, name: &str, provider: &ProviderName, open: bool) {
        if let Some(key) = parse(name) {
            let provider = provider.clone();
            self.by_pool.entry(key).or_insert(Group {
                provider,
                machines: 0,
                open,
            });
        }
    }

    fn count(&mut self, name: &str) {
        if let Some(group) = parse(name).and_then(|key| self.by_pool.get_mut(&key)) {
            group.machines = group.machines.saturating_add(1);
        }
    }

    /// A place for one more machine of this pool: the name of the first group that has one, a new group's where none
    /// has. None where the provider has no placement groups.
    pub(super) fn place(
        &mut self,
        facts: &Facts<'_>,
        pool: &PoolName,
        provider: &ProviderName,
    ) -> Option<String> {
        let cloud = facts.snapshot.clouds.get(provider)?;
        let size = cloud.profile.group_size.filter(|size| *size > 0)?;
        let own = || (pool.clone(), 0)..=(pool.clone(), u32::MAX);
        let free = self
            .by_pool
            .range_mut(own())
            .find(|(_, group)| group.open && group.provider == *provider && group.machines < size);
        let number = if let Some(((_, number), group)) = free {
            group.machines += 1;
            *number
        } else {
            let used: BTreeSet<u32> = self
                .by_pool
                .range(own())
                .map(|((_, number), _)| *number)
                .collect();
            let is_free = |number: &u32| {
                !used.contains(number) && !self.taken.contains(&cloud_name(facts, &name_of(pool, *number)))
            };
            let number = (1..=u32::MAX).find(is_free)?;
            let group = Group {
                provider: provider.clone(),
                machines: 1,
                open: true,
            };
            self.by_pool.insert((pool.clone(), number), group);
            number
        };
        let name = name_of(pool, number);
        let address = Address::shared(ResourceKind::PlacementGroup, &name);
        self.given.entry(address).or_insert_with(|| Wished {
            provider: provider.clone(),
            spec: ResourceSpec::PlacementGroup(PlacementGroupSpec {
                name: cloud_name(facts, &name),
            }),
            by: Some(pool.clone()),
        });
        Some(name)
    }

    /// The groups that the plan puts machines into, as the stack file's shared resources are wished for.
    pub(super) fn into_wished(self) -> BTreeMap<Address, Wished> {
        self.given
    }
}

fn name_of(pool: &PoolName, number: u32) -> String {
    format!("{pool}-{number}")
}

fn cloud_name(facts: &Facts<'_>, name: &str) -> String {
    names::shared(&facts.stack.name, ResourceKind::PlacementGroup, name, None)
}

/// Pool and number of a group's name. A number has no dash, so that no two pools have a name in common.
fn parse(name: &str) -> Option<(PoolName, u32)> {
    let (pool, number) = name.rsplit_once('-')?;
    let number: u32 = number.parse().ok()?;
    (name_of(&PoolName::from(pool), number) == name).then(|| (PoolName::from(pool), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_name_tells_its_pool_and_its_number() {
        assert_eq!(parse("linux-1"), Some(("linux".into(), 1)));
        assert_eq!(parse("linux-1-12"), Some(("linux-1".into(), 12)));
        for other in ["linux", "linux-", "linux-one", "linux-01", "linux-+1"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
