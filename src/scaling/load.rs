//! Which jobs are whose: each to one pool, the first declared that it fits, the next when that is full.

use std::collections::{BTreeMap, HashMap};

use crate::{
    model::{
        demand::{DemandSnapshot, Job, JobState, Wanted},
        ids::{JobId, PoolName},
        snapshot::Snapshot,
    },
    plan::facts::Facts,
    stack::{Mode, Pool},
};

/// The jobs of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// That wait for it.
    pub queued: u32,
    /// That run on it.
    pub running: u32,
}

/// The load of every pool of the stack.
///
/// A running job counts for the pool whose machine runs it, and so does one that waits but is handed to a machine already; one that runs
/// on somebody else's runner, or is handed to it, counts for nobody.
/// A queued job counts for the first declared pool that it fits (those that act before those that are only advised on),
/// the next while that has `max * jobs_per_runner`.
/// When all that it fits are full it counts for the first, so that the report says what is wanted.
pub fn loads<'a>(facts: &Facts<'a>) -> BTreeMap<&'a PoolName, Load> {
    let pools = &facts.stack.pools;
    let mut loads: BTreeMap<&PoolName, Load> =
        pools.iter().map(|pool| (&pool.name, Load::default())).collect();
    let snapshot: &Snapshot = facts.snapshot;
    for demand in snapshot.demand.values() {
        match &demand.wanted {
            Wanted::Counts(counts) => {
                for (pool, count) in counts {
                    if let Some(load) = loads.get_mut(pool) {
                        load.queued = load.queued.saturating_add(count.queued);
                        load.running = load.running.saturating_add(count.running);
                    }
                }
            }
            Wanted::Jobs(jobs) => assign(facts, demand, jobs, &mut loads),
        }
    }
    loads
}

/// What decides which pools could run a job.
type Likeness<'j> = (&'j [String], Option<&'j [PoolName]>, bool);

fn assign<'a>(
    facts: &Facts<'a>,
    demand: &DemandSnapshot,
    jobs: &[Job],
    loads: &mut BTreeMap<&'a PoolName, Load>,
) {
    let pools: Vec<&Pool> = facts
        .stack
        .pools
        .iter()
        .filter(|pool| pool.ci == demand.ci)
        .collect();
    let selectors: Vec<_> = pools.iter().map(|pool| pool.selector()).collect();
    let mut fits: HashMap<Likeness<'_>, Vec<&'a Pool>> = HashMap::new();
    // One that runs for ever is no demand: nothing would ever be enough for it.
    for job in unique(jobs).into_iter().filter(|job| !job.stuck) {
        let pool = if let Some(runner) = &job.runner {
            facts
                .owner(&demand.ci, runner)
                .and_then(|address| address.pool.as_ref())
        } else {
            let fitting = fits
                .entry((job.tags.as_slice(), job.pools.as_deref(), job.protected))
                .or_insert_with(|| {
                    let matching = selectors
                        .iter()
                        .enumerate()
                        .filter(|(_, selector)| selector.takes(job));
                    let mut fitting: Vec<&Pool> =
                        matching.filter_map(|(at, _)| pools.get(at).copied()).collect();
                    // What is only advised on runs no job: it is shown what those that act leave.
                    fitting.sort_by_key(|pool| pool.mode == Mode::Advise);
                    fitting
                });
            place(fitting, loads)
        };
        let Some(load) = pool.and_then(|pool| loads.get_mut(pool)) else {
            continue;
        };
        // `unique` has no finished ones.
        if job.state == JobState::Running || job.runner.is_some() {
            load.running = load.running.saturating_add(1);
        } else {
            load.queued = load.queued.saturating_add(1);
        }
    }
}

/// Each unfinished job once, those that run first: a job that moved between two pages is told twice.
fn unique(jobs: &[Job]) -> Vec<&Job> {
    let mut at: HashMap<&JobId, usize> = HashMap::with_capacity(jobs.len());
    let mut unique: Vec<&Job> = Vec::with_capacity(jobs.len());
    for job in jobs.iter().filter(|job| job.state != JobState::Finished) {
        match at.get(&job.id) {
            Some(index) if job.state == JobState::Running => unique[*index] = job,
            Some(_) => {}
            None => {
                at.insert(&job.id, unique.len());
                unique.push(job);
            }
        }
    }
    unique.sort_by_key(|job| job.state != JobState::Running);
    unique
}

/// The first pool with room, or the first.
fn place<'a>(fitting: &[&'a Pool], loads: &BTreeMap<&'a PoolName, Load>) -> Option<&'a PoolName> {
    let has_room = |pool: &&&Pool| {
        let capacity = u64::from(pool.max) * u64::from(pool.jobs_per_runner);
        loads
            .get(&pool.name)
            .is_some_and(|load| u64::from(load.queued) + u64::from(load.running) < capacity)
    };
    fitting
        .iter()
        .find(has_room)
        .or(fitting.first())
        .map(|pool| &pool.name)
}
