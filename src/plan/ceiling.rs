//! What a CI is licensed for: how many runners it may have over all its pools (`ci.NAME.max`).
//!
//! Whatever exists counts: machines that serve, boot or leave, attempts without an outcome, orphans of its pools, machines of pools
//! that the stack file does not have any more. Pools take what is left in the order in which they are declared; what one could not buy
//! is left for the next.

use std::collections::BTreeMap;

use super::{
    draft::Draft,
    facts::Facts,
    fleet::{Machine, Presence},
    moved,
    pool::{Standing, Wish},
};
use crate::model::{
    ids::{CiName, PoolName},
    reason::Reason,
};

/// How many more runners each CI that has a ceiling may have.
#[derive(Debug)]
pub(super) struct Ceilings<'a> {
    left: BTreeMap<&'a CiName, Left>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    max: u32,
    more: u32,
}

impl<'a> Ceilings<'a> {
    pub(super) fn of<'s>(
        facts: &Facts<'a>,
        pools: impl Iterator<Item = &'s Standing<'a, 's>>,
        machines: &BTreeMap<&PoolName, Vec<Machine<'_>>>,
    ) -> Self
    where
        'a: 's,
    {
        let mut existing: BTreeMap<&CiName, u32> = BTreeMap::new();
        for standing in pools {
            let count = existing.entry(&standing.pool.ci).or_default();
            *count = count.saturating_add(standing.room.existing);
        }
        for (name, own) in machines {
            // Those of a pool that was renamed count there.
            if facts.stack.pool(name).is_some() || moved::present(facts.stack, name).is_some() {
                continue;
            }
            for machine in own.iter().filter(|m| m.presence != Presence::Gone) {
                if let Some(ci) = &machine.record.ci
                    && let Some(count) = existing.get_mut(ci)
                {
                    *count = count.saturating_add(1);
                }
            }
        }
        let limited = facts.stack.ci.iter().filter_map(|(ci, config)| {
            let max = config.max?;
            let count = existing.get(ci).copied().unwrap_or_default();
            let more = max.saturating_sub(count);
            Some((ci, Left { max, more }))
        });
        Self {
            left: limited.collect(),
        }
    }

    /// Takes out of a wish what its CI has no room for, and says so. How many more the CI may have; none: any number.
    pub(super) fn trim(&self, wish: &mut Wish<'_>, draft: &mut Draft) -> Option<u32> {
        let Left { max, more } = self.left.get(&wish.pool.ci).copied()?;
        let wanted = u32::try_from(wish.reasons.len()).unwrap_or(u32::MAX);
        let beyond = wanted.saturating_sub(more);
        if beyond > 0 {
            wish.reasons.truncate(usize::try_from(more).unwrap_or(usize::MAX));
            let reason = Reason::LicenceCeiling {
                ci: wish.pool.ci.clone(),
                max,
                wanted: beyond,
            };
            draft.hold(&wish.pool.name, beyond, reason);
        }
        Some(more)
    }

    /// So many more are made for this CI.
    pub(super) fn take(&mut self, ci: &CiName, count: u32) {
        if let Some(left) = self.left.get_mut(ci) {
            left.more = left.more.saturating_sub(count);
        }
    }
}
