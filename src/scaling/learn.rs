//! What is remembered from one tick to the next: a pure function of what was remembered and what was seen.
//!
//! Everything here may be lost; then idle clocks begin anew, and what was condemned once is condemned again.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::step;
use crate::{
    model::{
        demand::{DemandSnapshot, JobState, Wanted},
        ids::{Address, CiName, JobId, ResourceKind},
        intent::Intent,
        offering::OfferingKey,
        reason::Reason,
        snapshot::Snapshot,
        state::{Failure, History, JobLength, MachineMemory, NeverReady, Outage, Record},
    },
    placement,
    plan::{
        facts::{Facts, Sighting, Work, has_called, stuck_key},
        fleet::{self, Health, Machine},
        strays,
    },
    stack::{Policy, Stack},
};

/// How long failures and refusals are remembered at most.
pub const BREAKER_MEMORY: SignedDuration = SignedDuration::from_hours(6);
/// A launch budget that has grown to this is no limit any more: larger than any provider's concurrency.
const BUDGET_CAP: u32 = 64;
/// How many job names lengths are kept of.
const JOB_NAMES: usize = 1000;
/// How many jobs are remembered as counted: more than any source tells again at its cursor's edge.
const COUNTED: usize = 10_000;

/// What is remembered after this snapshot. Called before `decide`, whose snapshot holds the answer.
pub fn learn(history: History, snapshot: &Snapshot, stack: &Stack) -> History {
    let facts = Facts::of(snapshot, stack);
    let mut history = history;
    let old = |at: Timestamp| snapshot.now.duration_since(at) > BREAKER_MEMORY;
    history.failures.retain(|failure| !old(failure.at));
    history.refusals.retain(|refusal| !old(refusal.at));
    keep_last(&mut history.refusals, History::EVENTS);
    let newborn = machines(&mut history, &facts);
    condemn(&mut history, &facts);
    attempts(&mut history, &facts);
    budgets(&mut history, &newborn, snapshot.now);
    jobs(&mut history, &facts);
    super::spend::spend(&mut history, &facts);
    ticks(&mut history, snapshot);
    outages(&mut history, snapshot);
    steps(&mut history, &facts);
    keep_last(&mut history.failures, History::EVENTS);
    keep_last(&mut history.decisions, History::DECISIONS);
    history
}

/// Since when each CI does not answer in full. One that does again is forgotten, so that its next failure is told anew.
fn outages(history: &mut History, snapshot: &Snapshot) {
    let whole = |ci: &CiName| {
        let demand = snapshot.demand.get(ci);
        demand.is_none_or(|demand: &DemandSnapshot| demand.completeness.is_complete())
    };
    history.outages.retain(|ci, _| !whole(ci));
    for ci in snapshot.demand.keys().filter(|ci| !whole(ci)) {
        let begun = || Outage {
            since: snapshot.now,
            told: BTreeSet::new(),
        };
        history.outages.entry(ci.clone()).or_insert_with(begun);
    }
}

/// Brings each machine's memory up to date, and returns the offerings of those that were not known before.
fn machines(history: &mut History, facts: &Facts<'_>) -> Vec<OfferingKey> {
    let doubts = fleet::doubts(facts);
    let mut before = std::mem::take(&mut history.machines);
    let mut machines = BTreeMap::new();
    let mut newborn = Vec::new();
    for (address, record) in &facts.snapshot.state.resources {
        let known = before.remove(address);
        if let (None, Some(offering)) = (&known, record.offering()) {
            newborn.push(offering.clone());
        }
        let mut memory = known.unwrap_or_default();
        seen(&mut memory, facts, address, record);
        if record.offering().is_some() {
            let work = fleet::work(facts, address, record);
            let was_ready = memory.ready_at.is_some();
            worked(&mut memory, facts, record, work);
            if let (false, Some(ready)) = (was_ready, memory.ready_at) {
                became_ready(history, record, ready);
            }
        }
        machines.insert(address.clone(), memory);
    }
    history.machines = machines;
    for (address, record) in &facts.snapshot.state.resources {
        let machine = fleet::machine(facts, history, &doubts, address, record);
        if let Health::Failed(reason) = &machine.health {
            failed(history, facts, address, record, reason);
        }
    }
    newborn
}

fn seen(memory: &mut MachineMemory, facts: &Facts<'_>, address: &Address, record: &Record) {
    match facts.sighting(address, record) {
        Sighting::Here(_) => memory.missing_since = None,
        Sighting::Lacking => {
            let now = facts.cloud_now(&record.provider);
            memory.missing_since.get_or_insert(now);
        }
        Sighting::Unseen => {}
    }
}

/// Idle clocks and first contact, by the CI's clock. What is not certain changes nothing.
fn worked(memory: &mut MachineMemory, facts: &Facts<'_>, record: &Record, work: Work) {
    let (Some(ci), Some(registration)) = (&record.ci, &record.registration) else {
        return;
    };
    let now = facts.ci_now(ci);
    let runner = facts.runner(ci, registration);
    let called = runner.filter(|runner| has_called(runner));
    if memory.ready_at.is_none() && (called.is_some() || matches!(work, Work::Busy(_))) {
        memory.ready_at = Some(called.and_then(|runner| runner.last_contact).unwrap_or(now));
    }
    match work {
        Work::Busy(_) => memory.idle_since = None,
        Work::Idle if memory.ready_at.is_some() => {
            let finished = facts.last_finished(ci, registration);
            let since = memory.idle_since.or(finished).unwrap_or(now);
            memory.idle_since = Some(finished.map_or(since, |at| at.max(since)));
        }
        _ => {}
    }
}

/// Since when each unfinished create has been absent from complete listings. A listing that is partial says nothing.
fn attempts(history: &mut History, facts: &Facts<'_>) {
    let before = std::mem::take(&mut history.absent);
    for open in &facts.snapshot.open {
        let Intent::Create { provider, .. } = &open.intent else {
            continue;
        };
        if !facts.made_by(&open.id).is_empty() {
            continue;
        }
        let since = before.get(&open.id).copied();
        let now = facts
            .cloud_gap(provider)
            .is_none()
            .then(|| facts.cloud_now(provider));
        if let Some(since) = since.or(now) {
            history.absent.insert(open.id.clone(), since);
        }
    }
}

/// A machine that came up ends the row of failures of those like it.
fn became_ready(history: &mut History, record: &Record, ready: Timestamp) {
    let Some(offering) = record.offering() else {
        return;
    };
    history
        .failures
        .retain(|failure| failure.offering != *offering && failure.hash != record.hash);
    history.never_ready.remove(&record.hash);
    let key = format!("{offering} {}", record.hash);
    if history.boot_seconds.len() >= History::EVENTS && !history.boot_seconds.contains_key(&key) {
        history.boot_seconds.pop_first();
    }
    let lengths = history.boot_seconds.entry(key).or_default();
    lengths.push(ready.duration_since(record.created_at).as_secs().max(0));
    keep_last(lengths, History::LENGTHS);
}

/// Counts a machine that never became ready, once.
fn failed(history: &mut History, facts: &Facts<'_>, address: &Address, record: &Record, reason: &Reason) {
    let (Some(memory), Some(offering), Some(pool)) = (
        history.machines.get_mut(address),
        record.offering(),
        &address.pool,
    ) else {
        return;
    };
    if memory.ready_at.is_none() && memory.failed_at.is_none() {
        memory.failed_at = Some(facts.snapshot.now);
        history.failures.push(Failure {
            pool: pool.clone(),
            offering: offering.clone(),
            hash: record.hash.clone(),
            at: facts.snapshot.now,
            what: reason.to_string(),
        });
        let at = record
            .ci
            .as_ref()
            .map_or(facts.snapshot.now, |ci| facts.ci_now(ci));
        let machine = address.clone();
        history
            .never_ready
            .insert(record.hash.clone(), NeverReady { machine, at });
        if history.never_ready.len() > History::EVENTS {
            let oldest = history.never_ready.iter().min_by_key(|(_, failed)| failed.at);
            let oldest = oldest.map(|(hash, _)| hash.clone());
            oldest.and_then(|hash| history.never_ready.remove(&hash));
        }
    }
}

/// Condemns what has no record, and pardons what has one again or is gone.
fn condemn(history: &mut History, facts: &Facts<'_>) {
    let found = strays::find(facts);
    let mut condemned = BTreeMap::new();
    let mut add = |key: String, now: Timestamp| {
        let since = history.condemned.get(&key).copied().unwrap_or(now);
        condemned.insert(key, since);
    };
    for orphan in &found.orphans {
        add(
            orphan.target.to_string(),
            facts.cloud_now(&orphan.target.provider),
        );
    }
    for (ci, runner) in &found.dead {
        add(
            strays::registration_key(ci, &runner.registration),
            facts.ci_now(ci),
        );
    }
    for demand in facts.snapshot.demand.values() {
        let Wanted::Jobs(jobs) = &demand.wanted else {
            continue;
        };
        for job in jobs
            .iter()
            .filter(|job| job.stuck && job.state == JobState::Running)
        {
            add(stuck_key(&demand.ci, &job.id), demand.now);
        }
    }
    for (key, since) in &history.condemned {
        if found.is_unread(facts, key) && condemned.len() < COUNTED {
            condemned.entry(key.clone()).or_insert(*since);
        }
    }
    history.condemned = condemned;
}

/// Slow start for offerings that refused: 1 while the refusal is remembered, doubled by each tick with a success,
/// no limit any more once it has grown large.
fn budgets(history: &mut History, newborn: &[OfferingKey], now: Timestamp) {
    let succeeded: BTreeSet<&OfferingKey> = newborn.iter().collect();
    let refusals = &mut history.refusals;
    for refusal in refusals.iter() {
        history
            .launch_budgets
            .entry(refusal.offering.clone())
            .or_insert(1);
    }
    for (offering, budget) in &mut history.launch_budgets {
        if placement::refused_until(refusals, offering, now).is_some() {
            *budget = 1;
        } else if succeeded.contains(offering) {
            *budget = budget.saturating_mul(2);
        }
    }
    let budgets = &mut history.launch_budgets;
    budgets.retain(|_, budget| *budget < BUDGET_CAP);
    refusals.retain(|refusal| budgets.contains_key(&refusal.offering));
    budgets.retain(|offering, _| refusals.iter().any(|refusal| refusal.offering == *offering));
}

/// Lengths of jobs that ended, each job once, how many each machine has ended, and how far they have been read.
fn jobs(history: &mut History, facts: &Facts<'_>) {
    let snapshot = facts.snapshot;
    let counted: HashSet<JobId> = history.counted_jobs.iter().cloned().collect();
    let mut told: HashSet<&JobId> = HashSet::new();
    let mut names: HashSet<&str> = HashSet::new();
    for demand in snapshot.demand.values() {
        if demand.completeness.is_complete() && !demand.cursor.0.is_empty() {
            history.cursors.insert(demand.ci.clone(), demand.cursor.clone());
        }
        let Wanted::Jobs(jobs) = &demand.wanted else {
            continue;
        };
        for job in jobs.iter().filter(|job| job.state == JobState::Finished) {
            names.insert(&job.name);
            let (Some(start), Some(end)) = (job.started_at, job.finished_at) else {
                continue;
            };
            if counted.contains(&job.id) || !told.insert(&job.id) {
                continue;
            }
            let lengths = history.job_seconds.entry(job.name.clone()).or_default();
            lengths.push(end.duration_since(start).as_secs().max(0));
            keep_last(lengths, History::LENGTHS);
            history.counted_jobs.push(job.id.clone());
            let machine = job
                .runner
                .as_ref()
                .and_then(|runner| facts.owner(&demand.ci, runner));
            let record = machine.and_then(|address| snapshot.state.resources.get(address));
            if let Some(offering) = record.and_then(Record::offering) {
                let on = history.job_lengths.entry(job.name.clone()).or_default();
                ran(on, offering, end.duration_since(start));
            }
            if let Some(memory) = machine.and_then(|address| history.machines.get_mut(address)) {
                memory.jobs = memory.jobs.saturating_add(1);
            }
        }
    }
    keep_last(&mut history.counted_jobs, COUNTED);
    for _ in JOB_NAMES..history.job_seconds.len() {
        let unused = history
            .job_seconds
            .keys()
            .find(|name| !names.contains(name.as_str()))
            .or(history.job_seconds.keys().next())
            .cloned();
        unused.and_then(|name| history.job_seconds.remove(&name));
    }
    let known = &history.job_seconds;
    history.job_lengths.retain(|name, _| known.contains_key(name));
}

/// Counts a job's length on a machine type. Of too many types, the one that ran the fewest gives way.
fn ran(on: &mut BTreeMap<String, JobLength>, offering: &OfferingKey, length: SignedDuration) {
    let key = History::type_key(offering);
    if on.len() >= History::TYPES && !on.contains_key(&key) {
        let fewest = on.iter().min_by_key(|(_, length)| length.jobs);
        let fewest = fewest.map(|(key, _)| key.clone());
        fewest.and_then(|key| on.remove(&key));
    }
    on.entry(key).or_default().add(length.as_secs());
}

/// When each cloud was read, by its own clock: how far apart ticks really are. A partial reading is none, since nothing
/// can go by it. A clock that went back begins anew.
fn ticks(history: &mut History, snapshot: &Snapshot) {
    history
        .ticks
        .retain(|provider, _| snapshot.clouds.contains_key(provider));
    for (provider, cloud) in &snapshot.clouds {
        if cloud.listing.completeness.is_complete() {
            let now = cloud.listing.now;
            let ticks = history.ticks.entry(provider.clone()).or_default();
            ticks.retain(|tick| *tick < now);
            ticks.push(now);
            keep_last(ticks, History::TICKS);
        }
    }
}

/// Since when the conditions of each pool's steps have held, by its source's clock.
fn steps(history: &mut History, facts: &Facts<'_>) {
    let before = std::mem::take(&mut history.steps);
    let doubts = fleet::doubts(facts);
    for pool in &facts.stack.pools {
        let Policy::Step(policy) = &pool.policy else {
            continue;
        };
        let records = facts.snapshot.state.machines_of(&pool.name);
        let machines: Vec<Machine<'_>> = records
            .filter(|(_, record)| record.spec.kind() == ResourceKind::Machine)
            .map(|(address, record)| fleet::machine(facts, history, &doubts, address, record))
            .collect();
        let known = before.get(&pool.name).cloned().unwrap_or_default();
        let memory = step::held(
            policy,
            &fleet::ready(&machines),
            facts.metrics(pool),
            &known,
            facts.ci_now(&pool.ci),
        );
        history.steps.insert(pool.name.clone(), memory);
    }
}

fn keep_last<T>(list: &mut Vec<T>, count: usize) {
    list.drain(..list.len().saturating_sub(count));
}

#[cfg(test)]
mod tests;
