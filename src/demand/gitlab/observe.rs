//! One reading of all projects: their jobs, their runners, and the jobs that have ended since the last.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, stream};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Gitlab,
    api::{query, segment},
    pages::{Broken, Pager, Pages, list},
    wire::{Project, ProjectJob, Runner},
};
use crate::{
    demand::DemandError,
    model::{
        demand::{Cursor, DemandSnapshot, Job, JobState, PoolSelector, RunnerView, Wanted},
        ids::{JobId, RegistrationId, StackName},
        resource::Completeness,
    },
};

/// How long one observation may take in all: less than the three minutes between two ticks of the timer, and enough
/// for 200 pages of half a second.
pub(super) const OBSERVATION: Duration = Duration::from_secs(120);
/// Pages of finished jobs that are read per project and tick: they only teach lengths.
const FINISHED_PAGES: u32 = 2;
/// Failures that an answer's `why` tells; the rest are counted.
const TOLD: usize = 3;

/// How far the finished jobs of each project have been read: the last end, and the id of the job that ended then.
/// A job that ends later and was told later is newer than both; one that GitLab tells late is missed, which costs a
/// sample of its length.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Position(BTreeMap<String, (Timestamp, u64)>);

impl Position {
    /// Of a cursor; one that is not ours begins anew.
    fn of(cursor: &Cursor) -> Self {
        serde_json::from_str(&cursor.0).unwrap_or_default()
    }

    fn to_cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }
}

/// A project as it is asked for: by id or path, and what it is called.
#[derive(Clone, Debug)]
struct Target {
    key: String,
    name: String,
}

/// What was read of one project.
struct Reading {
    target: Target,
    jobs: Pages<ProjectJob>,
    runners: Pages<Runner>,
    /// None when it could not be read, which is no loss but of lengths.
    finished: Option<Vec<ProjectJob>>,
}

/// What was read of all.
#[derive(Default)]
struct Gathered {
    jobs: BTreeMap<u64, (String, ProjectJob)>,
    finished: BTreeMap<u64, (String, ProjectJob)>,
    runners: BTreeMap<u64, Runner>,
    failures: Vec<(String, DemandError)>,
    /// Projects that nobody named, without CI.
    passed_over: BTreeSet<String>,
    pages: u32,
    date: Option<Timestamp>,
}

impl Gitlab {
    pub(super) async fn observe_projects(
        &self,
        stack: &StackName,
        pools: &[PoolSelector],
        since: &Cursor,
    ) -> Result<DemandSnapshot, DemandError> {
        let calls = self.api.calls();
        let deadline = Instant::now() + OBSERVATION;
        let mut position = Position::of(since);
        let mut all = Gathered::default();
        let targets = self.targets(&mut all, deadline).await?;

        position
            .0
            .retain(|name, _| targets.iter().any(|target| target.name == *name));
        let readings: Vec<Reading> = stream::iter(targets)
            .map(|target| {
                let last = position.0.get(&target.name).copied();
                self.read_project(target, last, deadline)
            })
            .buffered(self.concurrency)
            .collect()
            .await;
        for reading in readings {
            all.take(reading, self.projects.is_empty(), &mut position);
        }
        if let Some(served) = self.served.lock().await.as_mut() {
            served.retain(|project| !all.passed_over.contains(&project.path_with_namespace));
        }

        if all.pages == 0 && !all.failures.is_empty() {
            let (what, error) = all.failures.swap_remove(0);
            return Err(match error {
                DemandError::Rejected { why } => DemandError::Rejected {
                    why: format!("{what}: {why}"),
                },
                error => error,
            });
        }
        let now = all.date.ok_or_else(|| DemandError::Malformed {
            why: "no answer had a Date header, which ages are measured by".to_owned(),
        })?;
        let runners = all.our_runners(stack, now);
        Ok(DemandSnapshot {
            ci: self.profile.ci.clone(),
            completeness: all.completeness(),
            wanted: Wanted::Jobs(all.wanted(pools, &runners, now)),
            runners,
            cursor: position.to_cursor(),
            now,
            calls: self.api.calls().saturating_sub(calls),
            control: self.profile.clone(),
        })
    }

    /// The projects to read: those configured, or those that the token's user maintains.
    async fn targets(&self, all: &mut Gathered, deadline: Instant) -> Result<Vec<Target>, DemandError> {
        if !self.projects.is_empty() {
            return Ok(self
                .projects
                .iter()
                .map(|path| Target {
                    key: segment(path),
                    name: path.clone(),
                })
                .collect());
        }
        let pages = self.maintained(deadline).await;
        all.date = pages.date;
        all.pages += pages.read;
        if let Some(broken) = pages.broken {
            if pages.items.is_empty() {
                return Err(broken.error);
            }
            all.failures
                .push(("the list of projects".to_owned(), broken.error));
        } else {
            let served = pages.items.values().cloned().collect();
            *self.served.lock().await = Some(served);
        }
        Ok(pages
            .items
            .into_values()
            .map(|project| Target {
                key: project.id.to_string(),
                name: project.path_with_namespace,
            })
            .collect())
    }

    /// Every project where the token's user is at least Maintainer: nobody less may see its runners or make one.
    pub(super) async fn maintained(&self, deadline: Instant) -> Pages<Project> {
        let wanted = query(&[
            ("membership", "true"),
            ("simple", "true"),
            ("archived", "false"),
            ("min_access_level", "40"),
            ("pagination", "keyset"),
            ("order_by", "id"),
            ("sort", "asc"),
            ("per_page", "100"),
        ]);
        list(&self.api, "/projects", wanted, deadline).await
    }

    async fn read_project(
        &self,
        target: Target,
        last: Option<(Timestamp, u64)>,
        deadline: Instant,
    ) -> Reading {
        let jobs_path = format!("/projects/{}/jobs", target.key);
        let runners_path = format!("/projects/{}/runners", target.key);
        let live = jobs_query(&["pending", "running"]);
        let ours = query(&[("type", "project_type"), ("per_page", "100")]);
        let (jobs, runners, finished) = tokio::join!(
            list(&self.api, &jobs_path, live, deadline),
            list(&self.api, &runners_path, ours, deadline),
            self.finished(&jobs_path, last, deadline),
        );
        Reading {
            jobs,
            runners,
            finished: finished.ok(),
            target,
        }
    }

    /// The jobs that ended after `last`, from the newest back; without `last`, a page of them.
    async fn finished(
        &self,
        path: &str,
        last: Option<(Timestamp, u64)>,
        deadline: Instant,
    ) -> Result<Vec<ProjectJob>, Broken> {
        let ended = jobs_query(&["success", "failed", "canceled"]);
        let mut pager = Pager::new(&self.api, path, ended, deadline);
        let mut jobs = Vec::new();
        while let Some(page) = pager.page::<ProjectJob>().await? {
            let before = jobs.len();
            jobs.extend(page.into_iter().filter(|job| job.end() > last));
            if last.is_none() || jobs.len() == before || pager.read() >= FINISHED_PAGES {
                break;
            }
        }
        Ok(jobs)
    }
}

/// A query for jobs in these states, newest first.
fn jobs_query(scopes: &[&str]) -> super::api::Query {
    let mut pairs: Vec<(&str, &str)> = scopes.iter().map(|scope| ("scope[]", *scope)).collect();
    pairs.extend([
        ("per_page", "100"),
        ("pagination", "keyset"),
        ("order_by", "id"),
        ("sort", "desc"),
    ]);
    query(&pairs)
}

impl Gathered {
    fn take(&mut self, reading: Reading, discovered: bool, position: &mut Position) {
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
            if let Some(end) = job.end() {
                let last = position.0.entry(name.clone()).or_insert(end);
                *last = end.max(*last);
                self.finished.insert(end.1, (name.clone(), job));
            }
        }
    }

    /// Ours of the runners, without copying the others.
    fn our_runners(&mut self, stack: &StackName, now: Timestamp) -> Vec<RunnerView> {
        let prefix = format!("{stack}-");
        std::mem::take(&mut self.runners)
            .into_values()
            .filter(|runner| runner.description().starts_with(&prefix))
            .map(|runner| runner.into_view(now))
            .collect()
    }

    /// The jobs that are ours to serve, and those that our runners run or ran. One that ended between the two listings
    /// is told once, as ended.
    fn wanted(&mut self, pools: &[PoolSelector], runners: &[RunnerView], now: Timestamp) -> Vec<Job> {
        let ours: BTreeSet<&RegistrationId> = runners.iter().map(|view| &view.registration).collect();
        let mut jobs: BTreeMap<JobId, Job> = BTreeMap::new();
        let live = std::mem::take(&mut self.jobs);
        let finished = std::mem::take(&mut self.finished);
        for (project, wire) in live.into_values().chain(finished.into_values()) {
            let Some(job) = wire.into_job(&project, now) else {
                continue;
            };
            let served = pools.iter().any(|pool| pool.matches(&job.tags));
            let on_ours = job.runner.as_ref().is_some_and(|runner| ours.contains(runner));
            if served || (on_ours && job.state != JobState::Queued) {
                jobs.insert(job.id.clone(), job);
            }
        }
        jobs.into_values().collect()
    }

    fn completeness(&self) -> Completeness {
        if self.failures.is_empty() {
            return Completeness::Complete;
        }
        let mut parts: Vec<String> = self
            .failures
            .iter()
            .take(TOLD)
            .map(|(what, error)| format!("{what}: {error}"))
            .collect();
        if self.failures.len() > TOLD {
            parts.push(format!("and {} more", self.failures.len() - TOLD));
        }
        Completeness::partial(parts.join("; "))
    }
}
