//! Records that have another address now: by a `moved` block of the stack file, or by `state mv`. Nothing is made anew.
//!
//! # Expected flow
//! [`apply`] renames the records of a snapshot before anything is decided, so that a moved machine counts in its new pool
//! at once, and remembers what each is on record as. `relabel` then gives each its new record, and the cloud's labels
//! after it, in one journalled step; until that has ended the state has the old address, and the next tick begins again.
//! After `state mv` the record has its new address already, and only the labels follow.
//!
//! # Guarantees
//! A move is no change of what runs: names in the cloud, registrations, prices and hashes stay. A machine that is moved
//! is not cordoned or deleted by the same plan. What was not seen by this tick, or has an unfinished attempt, is moved by
//! a later one, and counts in its new pool meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    Goal, Verb,
    draft::Draft,
    facts::Facts,
    fleet::{Machine, Presence},
    judge::Judge,
};
use crate::{
    model::{
        ids::{Address, PoolName, ResourceKind, RunnerName},
        intent::Intent,
        offering::OfferingKey,
        reason::Reason,
        resource::{Labels, ResourceRef, ResourceSpec},
        snapshot::Snapshot,
        state::{MachineMemory, Record},
    },
    stack::{Moved, Stack, StackPath},
};

const POOL: &str = "runfleet-pool";
const ID: &str = "runfleet-id";
const LINEAGE: &str = "runfleet-lineage";

/// Gives the records that `from` names the address that `to` names, where `may` lets them, and answers with each new
/// address and the one before it. A record that only names what was moved (a firewall) is there with its own address.
///
/// A shared resource whose new address is taken stays where it is. A machine whose new name is taken gets a number.
pub fn rename(
    resources: &mut BTreeMap<Address, Record>,
    moved: &Moved,
    may: impl Fn(&Address, &Record) -> bool,
) -> BTreeMap<Address, Address> {
    let mut done = BTreeMap::new();
    match (&moved.from, &moved.to) {
        (StackPath::Pool(from), StackPath::Pool(to)) => {
            let of_pool = |(address, record): &(&Address, &Record)| {
                address.pool.as_ref() == Some(from) && may(address, record)
            };
            let old: Vec<Address> = resources.iter().filter(of_pool).map(|(a, _)| a.clone()).collect();
            for old in old {
                let new = Address {
                    pool: Some(to.clone()),
                    ..old.clone()
                };
                done.extend(readdress(resources, &old, &new).map(|new| (new, old)));
            }
        }
        (StackPath::Shared(kind, from), StackPath::Shared(_, to)) => {
            let (old, new) = (Address::shared(*kind, from), Address::shared(*kind, to));
            if resources.get(&old).is_some_and(|record| may(&old, record)) && !resources.contains_key(&new) {
                done.extend(readdress(resources, &old, &new).map(|new| (new, old)));
            }
            for (address, record) in resources.iter_mut() {
                if may(address, record) && refer(record, *kind, from, to) {
                    done.insert(address.clone(), address.clone());
                }
            }
        }
        _ => {}
    }
    done
}

/// Puts one record at another address of its kind; answers with the address that it got, which has a number where the
/// other was taken. None where there is no such record.
pub fn readdress(resources: &mut BTreeMap<Address, Record>, old: &Address, new: &Address) -> Option<Address> {
    let mut record = resources.remove(old)?;
    let mut free = new.clone();
    let mut number = 1_u32;
    while resources.contains_key(&free) {
        number += 1;
        free.name = format!("{}-{number}", new.name);
    }
    match (&mut record.spec, &free.pool) {
        (ResourceSpec::Machine(spec), Some(pool)) => {
            spec.pool = pool.clone();
            spec.runner = RunnerName::new(free.name.clone());
        }
        (ResourceSpec::Batch(batch), Some(pool)) => batch.each.pool = pool.clone(),
        _ => {}
    }
    resources.insert(free.clone(), record);
    Some(free)
}

/// Renames what a machine's record says that it uses; says whether that changed anything.
pub fn refer(record: &mut Record, kind: ResourceKind, from: &str, to: &str) -> bool {
    let ResourceSpec::Machine(spec) = &mut record.spec else {
        return false;
    };
    let names = match kind {
        ResourceKind::SshKey => &mut spec.ssh_keys,
        ResourceKind::Firewall => &mut spec.firewalls,
        ResourceKind::Network => &mut spec.networks,
        _ => return false,
    };
    let mut changed = false;
    for name in names.iter_mut().filter(|name| *name == from) {
        to.clone_into(name);
        changed = true;
    }
    changed
}

/// Renames what is remembered with the records: a machine's idle time does not begin anew.
pub fn remember(memories: &mut BTreeMap<Address, MachineMemory>, moves: &BTreeMap<Address, Address>) {
    for (new, old) in moves.iter().filter(|(new, old)| new != old) {
        if let Some(memory) = memories.remove(old) {
            memories.entry(new.clone()).or_insert(memory);
        }
    }
}

/// Whether [`apply`] would change anything: most ticks move nothing, and need no copy of what they saw.
pub fn is_needed(snapshot: &Snapshot, stack: &Stack, goal: Goal) -> bool {
    let resources = &snapshot.state.resources;
    let begun = snapshot.open.iter().any(
        |open| matches!(&open.intent, Intent::Relabel { was: Some(was), .. } if resources.contains_key(was)),
    );
    let declared = goal == Goal::Converge
        && stack.moved.iter().any(|moved| match &moved.from {
            StackPath::Pool(pool) => resources
                .keys()
                .any(|address| address.pool.as_ref() == Some(pool)),
            StackPath::Shared(kind, name) => {
                resources.contains_key(&Address::shared(*kind, name))
                    || resources.values().any(|record| uses(record, *kind, name))
            }
        });
    begun || declared
}

fn uses(record: &Record, kind: ResourceKind, name: &str) -> bool {
    let ResourceSpec::Machine(spec) = &record.spec else {
        return false;
    };
    let names = match kind {
        ResourceKind::SshKey => &spec.ssh_keys,
        ResourceKind::Firewall => &spec.firewalls,
        ResourceKind::Network => &spec.networks,
        _ => return false,
    };
    names.iter().any(|own| own == name)
}

/// Renames the records of a snapshot as the stack's `moved` blocks say, and as moves that were begun say. What it changed
/// is in [`Snapshot::moved`]; done again, it changes nothing.
///
/// A stack that is being destroyed moves nothing but what was begun: it all goes from where it is.
pub fn apply(snapshot: &mut Snapshot, stack: &Stack, goal: Goal) {
    let here: HashSet<ResourceRef> = snapshot
        .clouds
        .values()
        .flat_map(|cloud| {
            let listed = cloud.listing.resources.iter();
            listed
                .chain(cloud.reread.values().flatten())
                .map(|seen| seen.target.clone())
        })
        .collect();
    let resources = &mut snapshot.state.resources;
    let mut moves = BTreeMap::new();
    let mut busy: BTreeSet<Address> = BTreeSet::new();
    for open in &snapshot.open {
        if let Intent::Relabel {
            target,
            record,
            was: Some(was),
            ..
        } = &open.intent
        {
            let same = resources.get(was).is_some_and(|old| old.target() == *target);
            if same && here.contains(target) && !resources.contains_key(&open.address) {
                resources.remove(was);
                resources.insert(open.address.clone(), (**record).clone());
                moves.insert(open.address.clone(), was.clone());
            }
        }
        busy.insert(open.address.clone());
    }
    if goal == Goal::Converge {
        for moved in &stack.moved {
            let done = rename(resources, moved, |address, record| {
                here.contains(&record.target()) && !busy.contains(address)
            });
            for (new, old) in done {
                // A machine that was moved may be renamed a firewall of, too: what counts is what the state has.
                let first = moves.remove(&old).unwrap_or(old);
                moves.insert(new, first);
            }
        }
    }
    remember(&mut snapshot.history.machines, &moves);
    let steps = &mut snapshot.history.steps;
    for moved in &stack.moved {
        if let (StackPath::Pool(from), StackPath::Pool(to)) = (&moved.from, &moved.to)
            && !steps.contains_key(to)
            && let Some(memory) = steps.remove(from)
        {
            steps.insert(to.clone(), memory);
        }
    }
    snapshot.moved.extend(moves);
}

/// Gives each record that was moved its new address, and each resource the labels that its record's address wants.
pub(super) fn relabel(facts: &Facts<'_>, draft: &mut Draft) {
    let snapshot = facts.snapshot;
    for (address, record) in &snapshot.state.resources {
        let was = snapshot.moved.get(address);
        let target = record.target();
        let Some(seen) = facts.resource(&target).filter(|_| !draft.is_touched(address)) else {
            continue;
        };
        let ours = |seen: &crate::model::resource::Observed| {
            seen.labels.get(LINEAGE).map(String::as_str) == Some(snapshot.state.lineage.as_str())
        };
        let label = |key: &str| seen.labels.get(key).map(String::as_str);
        let pool = address.pool.as_ref().map(PoolName::as_str);
        // What is at an address of passage (`ssh_key/ops@41`, on its way out) has the labels that it had.
        let lags = !address.name.contains('@')
            && (label(ID) != Some(address.name.as_str()) || label(POOL) != pool)
            && ours(seen)
            && label(ID).is_some();
        if was.is_none() && !lags {
            continue;
        }
        let mut labels = Labels::new();
        if lags {
            labels.insert(ID.to_owned(), address.name.clone());
            labels.extend(pool.map(|pool| (POOL.to_owned(), pool.to_owned())));
        }
        let from = match (was, seen.claim()) {
            (Some(was), _) => was.to_string(),
            (None, Some(claim)) => claim.address(address.kind).to_string(),
            (None, None) => address.to_string(),
        };
        let verb = Verb::Relabel {
            have: Box::new(seen.clone()),
            labels,
            record: Box::new(record.clone()),
            was: was.filter(|was| *was != address).cloned(),
        };
        draft.push(address, verb, Reason::Moved { from }, Vec::new(), Some(record));
    }
}

/// The pools that this one was, by the stack's `moved` blocks.
pub(super) fn former<'a>(stack: &'a Stack, pool: &'a PoolName) -> impl Iterator<Item = &'a PoolName> {
    stack
        .moved
        .iter()
        .filter_map(move |moved| match (&moved.from, &moved.to) {
            (StackPath::Pool(from), StackPath::Pool(to)) if to == pool => Some(from),
            _ => None,
        })
}

/// The pool that this one is now, by the stack's `moved` blocks.
pub(super) fn present<'a>(stack: &'a Stack, pool: &PoolName) -> Option<&'a PoolName> {
    stack
        .moved
        .iter()
        .find_map(|moved| match (&moved.from, &moved.to) {
            (StackPath::Pool(from), StackPath::Pool(to)) if from == pool => Some(to),
            _ => None,
        })
}

/// What machines that could not be moved yet stand on: they count where they belong.
pub(super) fn waiting(machines: &[Machine<'_>]) -> Vec<OfferingKey> {
    let there = machines
        .iter()
        .filter(|machine| machine.presence != Presence::Gone);
    there
        .filter_map(|machine| machine.record.offering().cloned())
        .collect()
}

/// Decides on machines that could not be moved yet: those that are gone are dropped, the others wait.
pub(super) fn wait<'a>(facts: &Facts<'a>, name: &PoolName, machines: &[Machine<'a>], draft: &mut Draft) {
    let Some(first) = machines.first() else {
        return;
    };
    let blocked = Reason::PartialCloud {
        provider: first.record.provider.clone(),
        why: "not seen, or begun on: moved by a later tick".to_owned(),
    };
    let mut judge = Judge::sort(facts, draft, machines, Some(&blocked), false, None);
    judge.keep_all(&blocked);
    judge
        .draft
        .hold(name, u32::try_from(machines.len()).unwrap_or(u32::MAX), blocked);
}

#[cfg(test)]
mod tests;
