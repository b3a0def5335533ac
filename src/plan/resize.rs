//! A group's size and who of its members is protected: the one change that is made to a group as a whole.
//!
//! # Guarantees
//! - The size is an absolute number, above the one that was read and within the group's own limits; members leave one by one,
//!   and never by a smaller number.
//! - One plan never raises a group and lets members of it leave.
//! - A group whose size somebody else sets (a scaling policy, an instance refresh) is not touched.
//! - Who runs jobs, or may, is protected from what the cloud does by itself (a scheduled action, rebalancing); a partial answer
//!   takes no protection away.

use std::collections::BTreeSet;

use super::{
    Verb,
    draft::Draft,
    facts::Facts,
    fleet::Machine,
    members::{self, DETACHED},
    purse::Purse,
};
use crate::{
    model::{
        ids::{Address, CloudId, ResourceKind},
        money::Price,
        reason::Reason,
        resource::{CloudStatus, GroupSpec, GroupView, Member, Observed, ResourceSpec},
    },
    stack::{GroupSelector, Pool},
};

/// How many members may leave a group by one plan, and why no more may.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    left: u32,
    reason: Reason,
}

impl Gate {
    /// The gate of a pool's group; none for a pool without one, and where it is not listed.
    pub(super) fn of(facts: &Facts<'_>, pool: &Pool) -> Option<Self> {
        let group = members::group(pool, &facts.snapshot.clouds)?;
        let view = group.group.as_deref()?;
        let (left, reason) = match (&view.governed, &view.waits) {
            (Some(by), _) => (0, Reason::GroupGoverned { by: by.clone() }),
            (None, Some(why)) => (0, Reason::GroupWaits { why: why.clone() }),
            (None, None) => {
                let left = group.size.unwrap_or_default().saturating_sub(view.min);
                (left, Reason::GroupMinimum { min: view.min })
            }
        };
        Some(Self { left, reason })
    }

    /// One more leaves.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn pass(&self, machine: &Machine<'_>, facts: &Facts<'_>) -> Result<(), Reason> {
        if self.left == 0 && !is_detached(machine, facts) {
            return Err(self.reason.clone());
        }
        Ok(())
    }

    pub(super) fn count(&mut self, machine: &Machine<'_>, facts: &Facts<'_>) {
        if !is_detached(machine, facts) {
            self.left = self.left.saturating_sub(1);
        }
    }
}

/// Whether a member has left its group already, so that the group's size has nothing to do with it.
fn is_detached(machine: &Machine<'_>, facts: &Facts<'_>) -> bool {
    let group = facts.snapshot.members.get(machine.address);
    let listed = group.and_then(|group| facts.resource(group));
    let mut members = listed.into_iter().flat_map(|group| &group.members);
    members.any(|member| member.id == machine.record.id && member.lifecycle == DETACHED)
}

/// Members that the group's size counts and that are not listed yet: it is bringing them up.
pub(super) fn coming(facts: &Facts<'_>, pool: &Pool) -> u32 {
    let Some(group) = members::group(pool, &facts.snapshot.clouds) else {
        return 0;
    };
    let there = group.members.iter().filter(|member| counts(member)).count();
    let there = u32::try_from(there).unwrap_or(u32::MAX);
    group.size.unwrap_or_default().saturating_sub(there)
}

/// Whether a group's size counts this member: one on its way out is made up for.
fn counts(member: &Member) -> bool {
    member.lifecycle != DETACHED && member.status != CloudStatus::Deleting
}

/// The group's address in the stack.
pub(super) fn address(pool: &Pool, group: &Observed) -> Address {
    Address {
        kind: ResourceKind::Group,
        pool: Some(pool.name.clone()),
        name: group.name.clone(),
    }
}

/// Raises a pool's group by as many as are wanted, and protects those of its members that work.
pub(super) fn decide(
    facts: &Facts<'_>,
    pool: &Pool,
    machines: &[Machine<'_>],
    wanted: &[Reason],
    purse: &mut Purse,
    draft: &mut Draft,
) {
    let Some(choice) = &pool.group else { return };
    let mut left = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
    if facts.cloud_gap(&choice.provider).is_some() {
        return;
    }
    let Some(group) = members::group(pool, &facts.snapshot.clouds) else {
        let name = match &choice.which {
            GroupSelector::Named(name) => name.clone(),
            GroupSelector::Tagged { key, namespace } => format!("{key} = {namespace}/…"),
        };
        draft.warn(&pool.name, left, Reason::GroupMissing { name });
        return;
    };
    let (Some(view), Some(from)) = (group.group.as_deref(), group.size) else {
        return;
    };
    if let Some(by) = &view.governed {
        draft.warn(&pool.name, left, Reason::GroupGoverned { by: by.clone() });
        return;
    }
    if let (Some(stays), true) = (blocked(pool, view, draft), left > 0) {
        draft.hold(&pool.name, left, stays);
        left = 0;
    }
    let price = price_of(facts, &address(pool, group));
    let mut add = 0;
    while add < left && from.saturating_add(add) < view.max {
        if let Err(short) = purse.affords(facts, price) {
            let wanted = left - add;
            let what = format!("one more of {}", group.name);
            draft.warn(&pool.name, wanted, short.reason(wanted, what));
            break;
        }
        purse.take(facts, &price.into_iter().collect::<Vec<_>>());
        add += 1;
    }
    let want = GroupSpec {
        name: group.name.clone(),
        size: from + add,
        from,
        protected: protected(facts, pool, group, machines),
    };
    let changes = changes(group, &want);
    if changes.is_empty() {
        return;
    }
    let reason = match wanted.first().filter(|_| add > 0) {
        Some(reason) => reason.clone(),
        None => Reason::Protection {
            members: u32::try_from(want.protected.len()).unwrap_or(u32::MAX),
        },
    };
    let verb = Verb::Update {
        have: Box::new(group.clone()),
        want: ResourceSpec::Group(want),
        changes,
    };
    draft.push(&address(pool, group), verb, reason, Vec::new(), None);
}

/// Why a group is not raised now.
fn blocked(pool: &Pool, view: &GroupView, draft: &Draft) -> Option<Reason> {
    let leaves = draft.actions.iter().any(|action| {
        action.address.pool.as_ref() == Some(&pool.name)
            && matches!(action.verb, Verb::Retire { .. } | Verb::Delete { .. })
    });
    match &view.waits {
        Some(why) => Some(Reason::GroupWaits { why: why.clone() }),
        None if leaves => Some(Reason::GroupLeaves),
        None => None,
    }
}

/// What one more member of the group at this address costs an hour: as much as the dearest that is there, or that its
/// provider could make.
pub(super) fn price_of<'a>(facts: &Facts<'a>, group: &Address) -> Option<&'a Price> {
    let pool = facts.stack.pool(group.pool.as_ref()?)?;
    let provider = &pool.group.as_ref()?.provider;
    let own = facts.snapshot.state.machines_of(&pool.name);
    let there = own.filter_map(|(_, record)| record.price.as_ref());
    facts.dearest(there).or_else(|| {
        let sold = facts.offerings.values();
        let own = sold.filter(|offering| offering.key.provider == *provider);
        facts.dearest(own.map(|offering| &offering.price))
    })
}

/// Who is to be protected: members in service that run jobs or may.
fn protected(
    facts: &Facts<'_>,
    pool: &Pool,
    group: &Observed,
    machines: &[Machine<'_>],
) -> BTreeSet<CloudId> {
    let partial = facts.demand_gap(&pool.ci).is_some();
    let in_service = |member: &&Member| member.status == CloudStatus::Running && counts(member);
    let works = |member: &&Member| {
        let machine = machines.iter().find(|machine| machine.record.id == member.id);
        let busy = machine.and_then(|machine| machine.work.busy());
        busy != Some(false) || (partial && member.protected)
    };
    group
        .members
        .iter()
        .filter(in_service)
        .filter(works)
        .map(|member| member.id.clone())
        .collect()
}

/// What is changed, for a person.
fn changes(group: &Observed, want: &GroupSpec) -> Vec<String> {
    let mut changes = Vec::new();
    if want.size != want.from {
        changes.push(format!("size: {} -> {}", want.from, want.size));
    }
    let in_service = group
        .members
        .iter()
        .filter(|member| member.status == CloudStatus::Running && counts(member));
    for member in in_service {
        match (member.protected, want.protected.contains(&member.id)) {
            (false, true) => changes.push(format!("protected: +{}", member.id)),
            (true, false) => changes.push(format!("protected: -{}", member.id)),
            _ => {}
        }
    }
    changes
}
