//! Containers that run once, made in batches: what of them is still to be seen, and when a batch leaves the record.
//!
//! # Expected flow
//! [`super::members`] puts each container that a cloud tells, and that has not ended, into the snapshot as a machine.
//! `count_unseen` adds those that were started and that no listing tells yet, so that nobody makes them again. `settle` drops a
//! batch from the record once all of it has ended.
//!
//! # Guarantees
//! A batch's record makes and ends nothing: its containers go one by one, as machines do, or by themselves.
//!
//! # Assumptions
//! A cloud's listing may lag by its settle time after a create, and tells a container that ended for as long as it likes.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    ActionId, Verb,
    draft::Draft,
    facts::{Facts, Sighting, settled},
    recover::InFlight,
};
use crate::model::{
    ids::{Address, PoolName, RegistrationId, ResourceKind, RunnerName},
    intent::Intent,
    reason::Reason,
    resource::{BatchSpec, CloudStatus, Member, Observed, ResourceSpec},
    state::Record,
};

/// Whether a container is over, by itself or by its cloud: neither missing nor failed.
pub fn is_over(member: &Member) -> bool {
    matches!(member.status, CloudStatus::Ended(_) | CloudStatus::Terminated(_))
}

/// Whether everything that an attempt started is over.
pub fn has_ended(batch: &Observed) -> bool {
    batch.members.iter().all(is_over)
}

/// The runners of our containers that are over, by what their CI calls them, each with the container's address.
pub(super) fn ended(facts: &Facts<'_>) -> BTreeMap<RegistrationId, Address> {
    let mut ended = BTreeMap::new();
    for cloud in facts.snapshot.clouds.values() {
        let batches = cloud.listing.resources.iter();
        for batch in
            batches.filter(|seen| seen.target.kind == ResourceKind::Batch && !facts.is_anothers(seen))
        {
            let Some(pool) = batch.claim().and_then(|claim| claim.pool) else {
                continue;
            };
            for member in batch.members.iter().filter(|member| is_over(member)) {
                if let Some(hostname) = &member.hostname {
                    let address = Address::machine(&pool, &RunnerName::from(member.id.as_str()));
                    ended.insert(RegistrationId::from(hostname.as_str()), address);
                }
            }
        }
    }
    ended
}

/// How many of a batch no listing tells yet: those that were started less than the settle time ago, or any while its cloud's answer is
/// partial.
fn unseen(facts: &Facts<'_>, address: &Address, record: &Record, batch: &BatchSpec) -> u32 {
    let seen = match facts.sighting(address, record) {
        Sighting::Here(seen) => u32::try_from(seen.members.len()).unwrap_or(u32::MAX),
        Sighting::Unseen | Sighting::Lacking => 0,
    };
    let partial = facts.cloud_gap(&record.provider).is_some();
    if partial || !is_settled(facts, record) {
        batch.count.saturating_sub(seen)
    } else {
        0
    }
}

fn is_settled(facts: &Facts<'_>, record: &Record) -> bool {
    let now: Timestamp = facts.cloud_now(&record.provider);
    settled(record.created_at, facts.cloud_settle(&record.provider), now)
}

/// How many containers of a pool were started, or may have been, and are told by no listing: what is on record, and what unfinished
/// attempts may have made.
pub(super) fn unseen_of(facts: &Facts<'_>, pool: &PoolName) -> usize {
    let snapshot = facts.snapshot;
    let recorded = snapshot.state.resources.iter();
    let recorded = recorded.filter(|(address, _)| address.pool.as_ref() == Some(pool));
    let on_record = recorded.filter_map(|(address, record)| match &record.spec {
        ResourceSpec::Batch(batch) => Some(unseen(facts, address, record, batch)),
        _ => None,
    });
    let open = snapshot.open.iter().filter_map(|open| match &open.intent {
        Intent::Create {
            spec: ResourceSpec::Batch(batch),
            ..
        } if open.address.pool.as_ref() == Some(pool) => {
            let recorded = snapshot.state.resources.contains_key(&open.address);
            let made = facts.made_by(&open.id);
            let told = made.first().map_or(0, |seen| seen.members.len());
            (!recorded).then(|| {
                batch
                    .count
                    .saturating_sub(u32::try_from(told).unwrap_or(u32::MAX))
            })
        }
        _ => None,
    });
    let all: u32 = on_record.chain(open).fold(0, u32::saturating_add);
    usize::try_from(all).unwrap_or(usize::MAX)
}

/// Counts the containers that are on record and in no listing yet among what is being made.
pub(super) fn count_unseen(facts: &Facts<'_>, in_flight: &mut InFlight) {
    for (address, record) in &facts.snapshot.state.resources {
        let (ResourceSpec::Batch(batch), Some(pool)) = (&record.spec, &address.pool) else {
            continue;
        };
        for _ in 0..unseen(facts, address, record, batch) {
            let offerings = in_flight.machines.entry(pool.clone()).or_default();
            offerings.push(batch.each.offering.clone());
            let price = facts.price(&batch.each.offering, batch.each.public_ipv4);
            in_flight.prices.extend(price.cloned());
        }
    }
}

/// Drops every batch that is over from the record, and keeps the others.
pub(super) fn settle(facts: &Facts<'_>, draft: &mut Draft) {
    waiting(facts, draft);
    let recorded = facts.snapshot.state.resources.iter();
    let batches = recorded.filter(|(address, _)| address.kind == ResourceKind::Batch);
    for (address, record) in batches {
        if draft.is_touched(address) {
            continue;
        }
        match fate(facts, draft, address, record) {
            Ok((reason, after)) => {
                let verb = Verb::Forget { registration: None };
                let pushed = draft.push(address, verb, reason, after, Some(record));
                if pushed.is_none() {
                    let advised = address.pool.as_ref().is_some_and(|pool| draft.is_advised(pool));
                    let stays = if advised {
                        Reason::Advise
                    } else {
                        Reason::NotTargeted
                    };
                    draft.keep_shared(address, stays);
                }
            }
            Err(reason) => draft.keep_shared(address, reason),
        }
    }
}

/// Says once for each pool why containers of it wait for their cloud, where that says so.
fn waiting(facts: &Facts<'_>, draft: &mut Draft) {
    let mut waiting: BTreeMap<(PoolName, &str), u32> = BTreeMap::new();
    for cloud in facts.snapshot.clouds.values() {
        let batches = cloud.listing.resources.iter();
        for batch in
            batches.filter(|seen| seen.target.kind == ResourceKind::Batch && !facts.is_anothers(seen))
        {
            let Some(pool) = batch.claim().and_then(|claim| claim.pool) else {
                continue;
            };
            for member in batch
                .members
                .iter()
                .filter(|member| member.status == CloudStatus::Pending)
            {
                // `Unschedulable: 0/3 nodes are available`, and not a bare `PENDING`.
                if member.lifecycle.contains(": ") {
                    *waiting.entry((pool.clone(), &member.lifecycle)).or_default() += 1;
                }
            }
        }
    }
    for ((pool, why), count) in waiting {
        draft.hold(&pool, count, Reason::TasksWait { why: why.to_owned() });
    }
}

/// Why a batch leaves the record, and after which actions; or why it stays.
fn fate(
    facts: &Facts<'_>,
    draft: &Draft,
    address: &Address,
    record: &Record,
) -> Result<(Reason, Vec<ActionId>), Reason> {
    let provider = record.provider.clone();
    if let Some(why) = facts.cloud_gap(&provider) {
        return Err(Reason::PartialCloud { provider, why });
    }
    if !is_settled(facts, record) {
        return Err(Reason::TasksRun);
    }
    match facts.sighting(address, record) {
        Sighting::Unseen => Err(Reason::TasksRun),
        // It was asked for by its id, too, and its cloud forgets what ended.
        Sighting::Lacking => Ok((Reason::TasksEnded, Vec::new())),
        Sighting::Here(seen) => {
            let left = seen.members.iter().filter(|member| !is_over(member));
            let removals = left.map(|member| removal(draft, seen, member));
            let removals: Option<Vec<ActionId>> = removals.collect();
            removals
                .map(|after| (Reason::TasksEnded, after))
                .ok_or(Reason::TasksRun)
        }
    }
}

/// The action that removes a container, where there is one.
fn removal(draft: &Draft, batch: &Observed, member: &Member) -> Option<ActionId> {
    let removes = |verb: &Verb| match verb {
        Verb::Retire { target, .. } | Verb::Delete { target, .. } => {
            target.kind == ResourceKind::Machine
                && target.provider == batch.target.provider
                && target.id == member.id
        }
        _ => false,
    };
    let mut actions = draft.actions.iter();
    actions
        .find(|action| removes(&action.verb))
        .map(|action| action.id)
}
