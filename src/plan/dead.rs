//! Registrations that no machine uses: whose they were, and when they go.

use std::collections::{BTreeMap, HashSet};

use super::{
    Goal, Verb, batches,
    draft::Draft,
    facts::{Facts, Work, settled},
    moved, names,
    strays::{condemned_since, registration_key},
};
use crate::{
    model::{
        demand::{DemandSnapshot, RunnerView},
        ids::{Address, CiName, PoolName, ResourceKind, RunnerName},
        intent::Intent,
        reason::Reason,
        resource::{CordonKind, ResourceSpec},
    },
    stack::CiKind,
};

/// Those of ours that are offline, idle and nobody's.
pub(super) fn dead<'a>(facts: &Facts<'a>, open_names: &HashSet<&str>) -> Vec<(&'a CiName, &'a RunnerView)> {
    let snapshot = facts.snapshot;
    let prefixes = prefixes(facts);
    let ended = batches::ended(facts);
    let mut dead = Vec::new();
    for (ci, demand) in &snapshot.demand {
        if !demand.completeness.is_complete() {
            continue;
        }
        for runner in &demand.runners {
            let id = &runner.registration;
            let by_name = || {
                !open_names.contains(runner.machine())
                    && runner.is_of(&snapshot.state.lineage)
                    && whose(facts, &prefixes, ci, runner).is_some()
            };
            let is_dead = facts.owner(ci, id).is_none()
                && !facts.is_labelled(id)
                && runner.online != Some(true)
                && matches!(facts.work(ci, id, None), Work::Idle)
                && (ended.contains_key(id) && !leaves(demand) || by_name());
            if is_dead {
                dead.push((ci, runner));
            }
        }
    }
    dead.sort_by_key(|(ci, runner)| (*ci, &runner.registration));
    dead
}

/// Whether a CI's runners go by themselves, and are told for a while afterwards.
fn leaves(demand: &DemandSnapshot) -> bool {
    demand.control.cordon == CordonKind::Leaves
}

/// What names of our machines begin with, and whose they are: the stack's pools, those on record, those that had another
/// name, and whatever the machines on record are called, since a moved machine keeps its name in the cloud.
fn prefixes<'a>(facts: &Facts<'a>) -> BTreeMap<String, &'a PoolName> {
    let stack = &facts.snapshot.state.stack;
    let mut prefixes = BTreeMap::new();
    for (address, record) in &facts.snapshot.state.resources {
        if let (ResourceSpec::Machine(spec), Some(pool)) = (&record.spec, &address.pool) {
            let own = record.name.strip_suffix(spec.runner.as_str());
            // A machine that was taken over from elsewhere has a name of its own: nothing begins like it.
            let like_ours = |own: &&str| own.ends_with('-') && own.starts_with(stack.as_str());
            if let Some(prefix) = own.filter(like_ours).filter(|own| !prefixes.contains_key(*own)) {
                prefixes.insert(prefix.to_owned(), pool);
            }
            if !prefixes.values().any(|known| *known == pool) {
                prefixes.insert(names::prefix(stack, pool), pool);
            }
        }
    }
    for pool in facts.stack.pools.iter().map(|pool| &pool.name) {
        for was in moved::former(facts.stack, pool) {
            prefixes.insert(names::prefix(stack, was), pool);
        }
        prefixes.insert(names::prefix(stack, pool), pool);
    }
    prefixes
}

/// The pool whose machine has this name, by what its names begin with.
fn pool_of<'p, 'a>(
    prefixes: &'p BTreeMap<String, &'a PoolName>,
    machine: &str,
) -> Option<(&'p str, &'a PoolName)> {
    let named = |(prefix, _): &(&String, &&PoolName)| names::is_named(prefix, machine);
    prefixes
        .iter()
        .find(named)
        .map(|(prefix, pool)| (prefix.as_str(), *pool))
}

/// Whose a registration was. Containers are named by their cloud, so that their names say nothing: an agent of Azure DevOps itself says
/// that it is of our stack and lineage, which is all that its description holds besides. While the name of any container is not known,
/// or one is being made, an agent that looks dead may be its own.
fn whose<'p, 'a>(
    facts: &Facts<'a>,
    prefixes: &'p BTreeMap<String, &'a PoolName>,
    ci: &CiName,
    runner: &RunnerView,
) -> Option<(&'p str, &'a PoolName)> {
    if let Some(named) = pool_of(prefixes, runner.machine()) {
        return Some(named);
    }
    if runner.online != Some(false) {
        return None;
    }
    let config = facts.stack.ci.get(ci)?;
    let mut own = facts.stack.pools.iter().filter(|pool| pool.ci == *ci);
    let pool = own.find(|pool| pool.runs_tasks() || pool.group.is_some())?;
    let of_ci = |pool: Option<&PoolName>| {
        let pool = pool.and_then(|pool| facts.stack.pool(pool));
        pool.is_some_and(|pool| pool.ci == *ci)
    };
    let snapshot = facts.snapshot;
    let mut records = snapshot.state.resources.iter();
    let unnamed = records.any(|(address, record)| {
        let member = address.kind == ResourceKind::Machine && of_ci(address.pool.as_ref());
        member && record.registration.is_none()
    });
    let mut open = snapshot.open.iter();
    let in_flight =
        open.any(|open| matches!(open.intent, Intent::Create { .. }) && of_ci(open.address.pool.as_ref()));
    (config.kind == CiKind::AzureDevops && !unnamed && !in_flight).then_some(("", &pool.name))
}

/// Decides on one of them: it is removed once two ticks have condemned it.
pub(super) fn dead_registration(
    facts: &Facts<'_>,
    ci: &CiName,
    runner: &RunnerView,
    goal: Goal,
    draft: &mut Draft,
) {
    let now = facts.ci_now(ci);
    let since = condemned_since(facts, &registration_key(ci, &runner.registration), now);
    let settle = facts
        .control(ci)
        .map_or(jiff::SignedDuration::ZERO, |control| control.settle);
    let reason = match goal {
        Goal::Destroy => Reason::Destroy,
        Goal::Converge if settled(since, settle, now) => Reason::DeadRegistration { since },
        Goal::Converge => {
            let about = format!(
                "{ci} registration {} ({})",
                runner.registration, runner.description
            );
            draft.hold(&about, 1, Reason::CondemnedOnce { since });
            return;
        }
    };
    let prefixes = prefixes(facts);
    let mut address = if let Some(address) = batches::ended(facts).remove(&runner.registration) {
        address
    } else if let Some((prefix, pool)) = whose(facts, &prefixes, ci, runner) {
        let name = runner.machine().strip_prefix(prefix).unwrap_or(runner.machine());
        Address::machine(pool, &RunnerName::from(name))
    } else {
        return;
    };
    if facts.snapshot.state.resources.contains_key(&address) || draft.is_touched(&address) {
        address.name = format!("{}-r{}", address.name, runner.registration);
    }
    let verb = Verb::Unregister {
        ci: ci.clone(),
        registration: runner.registration.clone(),
    };
    draft.push(&address, verb, reason, Vec::new(), None);
}
