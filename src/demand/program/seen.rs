//! From an answer to a snapshot, and to what one runner has to do.

use std::collections::BTreeMap;

use super::answer::{CountsAnswer, DemandAnswer, JobAnswer, RunnerAnswer, malformed};
use crate::{
    demand::{DemandError, RunnerReading},
    model::{
        demand::{
            Counts, Cursor, DemandSnapshot, Job, JobState, PassedOver, PoolSelector, RunnerView, Wanted,
        },
        ids::{JobId, PoolName, RegistrationId, StackName},
        resource::Completeness,
    },
};

/// What an answer is read by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) stack: &'a StackName,
    pub(super) pools: &'a [PoolSelector],
    /// Whether runners are registered before their machines are there.
    pub(super) registers: bool,
    /// Whether runners can be kept from new jobs.
    pub(super) cordons: bool,
}

/// An answer, understood.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) wanted: Wanted,
    pub(super) runners: Vec<RunnerView>,
    pub(super) completeness: Completeness,
    pub(super) cursor: Cursor,
    pub(super) passed_over: BTreeMap<PassedOver, u32>,
}

impl Rules<'_> {
    pub(super) fn seen(self, answer: DemandAnswer) -> Result<Seen, DemandError> {
        let mut passed_over = BTreeMap::new();
        let wanted = match (answer.jobs, answer.counts) {
            (Some(jobs), _) => Wanted::Jobs(self.jobs(jobs, &mut passed_over)),
            (None, counts) => Wanted::Counts(self.counts(counts.unwrap_or_default())?),
        };
        let mut runners = Vec::new();
        for (index, runner) in answer.runners.unwrap_or_default().into_iter().enumerate() {
            runners.extend(self.runner(index, runner, &wanted)?);
        }
        let why = || answer.why.unwrap_or_else(|| "its answer says so".to_owned());
        Ok(Seen {
            wanted,
            runners,
            completeness: if answer.complete {
                Completeness::Complete
            } else {
                Completeness::partial(why())
            },
            cursor: Cursor(answer.cursor.unwrap_or_default()),
            passed_over,
        })
    }

    /// Every job but those that wait for a runner that no pool has.
    fn jobs(self, told: Vec<JobAnswer>, passed_over: &mut BTreeMap<PassedOver, u32>) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(told.len());
        for job in told.into_iter().map(job) {
            let waits = job.state == JobState::Queued;
            if waits && !self.pools.iter().any(|pool| pool.takes(&job)) {
                *passed_over.entry(PassedOver::NoPool).or_default() += 1;
            } else {
                jobs.push(job);
            }
        }
        jobs
    }

    /// A pool that is not named has none; a name that is no pool's is a slip of the pen.
    fn counts(self, told: BTreeMap<String, CountsAnswer>) -> Result<BTreeMap<PoolName, Counts>, DemandError> {
        let names = self.pools.iter().map(|pool| pool.pool.clone());
        let mut counts: BTreeMap<PoolName, Counts> = names.map(|name| (name, Counts::default())).collect();
        for (name, told) in told {
            let Some(count) = counts.get_mut(&PoolName::from(name.as_str())) else {
                let names: Vec<&str> = self.pools.iter().map(|pool| pool.pool.as_str()).collect();
                return Err(malformed(&format!(
                    "counts.{name}: the stack has no such pool of this CI; there is {}",
                    names.join(", ")
                )));
            };
            *count = Counts {
                queued: told.queued,
                running: told.running,
            };
        }
        Ok(counts)
    }

    /// A runner, unless it was registered by somebody else.
    fn runner(
        self,
        index: usize,
        told: RunnerAnswer,
        wanted: &Wanted,
    ) -> Result<Option<RunnerView>, DemandError> {
        let missing = |key: &str, other: &str| {
            malformed(&format!(
                "runners[{index}].{key} is missing: where the stack has `{other}`, each runner says it"
            ))
        };
        let description = told.name.unwrap_or_else(|| told.id.0.clone());
        let own = format!("{}-", self.stack);
        if self.registers && !description.starts_with(&own) {
            return Ok(None);
        }
        let registration = RegistrationId::from(told.id.0.as_str());
        let online = match (told.online, told.last_contact) {
            (Some(online), _) => Some(online),
            (None, Some(_)) => None,
            (None, None) if self.registers => return Err(missing("online", "register")),
            // Nobody but itself made it known.
            (None, None) => Some(true),
        };
        let paused = match told.paused {
            Some(paused) => paused,
            None if self.cordons => return Err(missing("paused", "cordon")),
            None => false,
        };
        let idle = nothing_runs(wanted, self.stack, self.pools, &description).then_some(false);
        Ok(Some(RunnerView {
            registration,
            description,
            online,
            paused,
            last_contact: told.last_contact,
            busy: told.busy.or(idle),
        }))
    }
}

fn job(told: JobAnswer) -> Job {
    Job {
        id: JobId::from(told.id.0.as_str()),
        name: told.name.unwrap_or_default(),
        project: told.project.unwrap_or_default(),
        tags: told.tags.unwrap_or_default(),
        state: told.state.into(),
        queued_at: told.queued_at,
        started_at: told.started_at,
        finished_at: told.finished_at,
        runner: told.runner.map(|id| RegistrationId::from(id.0.as_str())),
        protected: false,
        pools: told.pool.map(|pool| vec![PoolName::from(pool.as_str())]),
        stuck: false,
    }
}

/// What a fresh answer says of one runner; none where it tells runners, and not this one.
pub(super) fn reading(
    snapshot: &DemandSnapshot,
    stack: &StackName,
    pools: &[PoolSelector],
    runner: &RegistrationId,
) -> Option<RunnerReading> {
    let view = snapshot.runners.iter().find(|view| view.registration == *runner);
    let complete = snapshot.completeness.is_complete();
    let name = view.map_or(runner.as_str(), |view| view.machine());
    let running = || {
        let jobs = match &snapshot.wanted {
            Wanted::Jobs(jobs) => jobs.as_slice(),
            Wanted::Counts(_) => &[],
        };
        jobs.iter().filter(|job| job.state == JobState::Running)
    };
    let own = running()
        .filter(|job| job.runner.as_ref() == Some(runner))
        .count();
    let own = u32::try_from(own).unwrap_or(u32::MAX);
    if own == 0 && view.is_none() && complete && snapshot.control.lists_runners {
        return None;
    }
    let busy = view.and_then(|view| view.busy);
    let jobs = match (&snapshot.wanted, busy) {
        _ if own > 0 => Some(own),
        _ if !complete => None,
        (Wanted::Jobs(_), Some(busy)) => (!busy).then_some(0),
        (Wanted::Jobs(_), None) => {
            let could = candidates(stack, pools, name);
            let adrift = |job: &Job| job.runner.is_none() && could.iter().any(|pool| pool.fits(job));
            (!running().any(adrift)).then_some(0)
        }
        (Wanted::Counts(_), Some(busy)) => Some(u32::from(busy)),
        (Wanted::Counts(_), None) => nothing_runs(&snapshot.wanted, stack, pools, name).then_some(0),
    };
    Some(RunnerReading {
        jobs,
        paused: view.is_some_and(|view| view.paused),
    })
}

/// Whether the pool of a runner runs nothing, by a count.
fn nothing_runs(wanted: &Wanted, stack: &StackName, pools: &[PoolSelector], name: &str) -> bool {
    let Wanted::Counts(counts) = wanted else {
        return false;
    };
    let mut could = candidates(stack, pools, name).into_iter();
    could.all(|pool| counts.get(&pool.pool).is_some_and(|count| count.running == 0))
}

/// The pools that a machine of this name may be of; all of them for a name that says nothing (an instance's id).
fn candidates<'a>(stack: &StackName, pools: &'a [PoolSelector], name: &str) -> Vec<&'a PoolSelector> {
    let begins = |pool: &&PoolSelector| name.starts_with(&format!("{stack}-{}-", pool.pool));
    let named: Vec<&PoolSelector> = pools.iter().filter(begins).collect();
    if named.is_empty() {
        pools.iter().collect()
    } else {
        named
    }
}
