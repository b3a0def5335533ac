//! What the listings of one observation come to: jobs and runners in our words, and whether that is all.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use jiff::Timestamp;

use super::{
    observe::{Position, Reading, Target},
    pages::Pages,
    protection::Protection,
    shared::SharedReading,
    wire::{ProjectJob, Runner},
};
use crate::{
    demand::DemandError,
    model::{
        demand::{Job, JobState, PoolSelector, RunnerView},
        ids::{JobId, RegistrationId, StackName},
        resource::Completeness,
    },
};

/// Failures that an answer's `why` tells; the rest are counted.
const TOLD: usize = 3;

/// What was read of all.
#[derive(Default)]
pub(super) struct Gathered {
    pub jobs: BTreeMap<u64, (String, ProjectJob)>,
    pub finished: BTreeMap<u64, (String, ProjectJob)>,
    pub runners: BTreeMap<u64, Runner>,
    /// The runners that machines share, and those machines.
    pub shared: SharedReading,
    pub protection: Protection,
    pub failures: Vec<(String, DemandError)>,
    /// Projects that nobody named, without CI.
    pub passed_over: BTreeSet<String>,
    pub pages: u32,
    pub date: Option<Timestamp>,
}

impl Gathered {
    pub(super) fn take(&mut self, reading: Reading, discovered: bool, position: &mut Position) {
        let Reading {
            target: Target { name, .. },
            jobs,
            runners,
            finished,
        } = reading;
        self.pages += jobs.read + runners.read;
        self.date = self.date.max(jobs.date).max(runners.date);
        match jobs.broken {
            // CI is switched off in a project that nobody named.
            Some(broken) if discovered && broken.status == Some(StatusCode::FORBIDDEN) => {
                tracing::debug!(project = %name, "its jobs may not be read; passed over");
                self.passed_over.insert(name.clone());
            }
            Some(broken) => self.failures.push((format!("{name}: jobs"), broken.error)),
            None => {}
        }
        if let Some(broken) = runners.broken {
            self.failures.push((format!("{name}: runners"), broken.error));
        }
        for (id, job) in jobs.items {
            self.jobs.insert(id, (name.clone(), job));
        }
        self.runners.extend(runners.items);
        let Some(finished) = finished else {
            tracing::debug!(project = %name, "its finished jobs could not be read");
            return;
        };
        for job in finished {
            self.take_finished(&name, &name, job, position);
        }
    }

    /// The runners of a group or of the instance.
    pub(super) fn take_runners(&mut self, whose: &str, runners: Pages<Runner>) {
        self.pages += runners.read;
        self.date = self.date.max(runners.date);
        if let Some(broken) = runners.broken {
            self.failures.push((format!("{whose}: runners"), broken.error));
        }
        self.runners.extend(runners.items);
    }

    /// One job that has ended; `place` is what its listing's position is kept under.
    pub(super) fn take_finished(
        &mut self,
        place: &str,
        project: &str,
        job: ProjectJob,
        position: &mut Position,
    ) {
        if let Some(end) = job.end() {
            let last = position.0.entry(place.to_owned()).or_insert(end);
            *last = end.max(*last);
            self.finished.insert(end.1, (project.to_owned(), job));
        }
    }

    /// Ours of the runners, without copying the others.
    pub(super) fn our_runners(&mut self, stack: &StackName, now: Timestamp) -> Vec<RunnerView> {
        let prefix = format!("{stack}-");
        std::mem::take(&mut self.runners)
            .into_values()
            .filter(|runner| runner.description().starts_with(&prefix))
            .filter(|runner| !self.shared.ids.contains(&runner.id))
            .map(|runner| runner.into_view(now))
            .chain(std::mem::take(&mut self.shared.views))
            .collect()
    }

    /// The jobs that are ours to serve, and those that our runners run or ran. One that ended between the two listings
    /// is told once, as ended.
    pub(super) fn wanted(
        &mut self,
        pools: &[PoolSelector],
        runners: &[RunnerView],
        now: Timestamp,
    ) -> Vec<Job> {
        let ours: BTreeSet<&RegistrationId> = runners.iter().map(|view| &view.registration).collect();
        let mut jobs: BTreeMap<JobId, Job> = BTreeMap::new();
        let live = std::mem::take(&mut self.jobs);
        let finished = std::mem::take(&mut self.finished);
        for (project, wire) in live.into_values().chain(finished.into_values()) {
            let protected = self.protection.covers(&project, &wire);
            let Some(job) = wire.into_job(&project, now, &self.shared.ids, protected) else {
                continue;
            };
            let served = pools.iter().any(|pool| pool.takes(&job));
            let on_ours = job.runner.as_ref().is_some_and(|runner| ours.contains(runner));
            if served || (on_ours && job.state != JobState::Queued) {
                jobs.insert(job.id.clone(), job);
            }
        }
        jobs.into_values().collect()
    }

    pub(super) fn completeness(&self) -> Completeness {
        let failures: Vec<&(String, DemandError)> = self
            .failures
            .iter()
            .chain(&self.shared.failures)
            .chain(&self.protection.failures)
            .collect();
        if failures.is_empty() {
            return Completeness::Complete;
        }
        let mut parts: Vec<String> = failures
            .iter()
            .take(TOLD)
            .map(|(what, error)| format!("{what}: {error}"))
            .collect();
        if failures.len() > TOLD {
            parts.push(format!("and {} more", failures.len() - TOLD));
        }
        Completeness::partial(parts.join("; "))
    }
}
