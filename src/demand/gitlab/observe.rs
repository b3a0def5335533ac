//! One reading of all that is served: its jobs, its runners, and the jobs that have ended since the last.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Gitlab,
    api::{Effect, Query, accept, decode, get, query, segment},
    gather::Gathered,
    graphql,
    pages::{Broken, Pager, Pages, list},
    scope::{Home, Scope},
    wire::{Project, ProjectJob, Runner, User},
};
use crate::{
    demand::DemandError,
    model::{
        demand::{Cursor, DemandSnapshot, PoolSelector, Wanted},
        ids::StackName,
    },
};

/// How long one observation may take in all: less than the three minutes between two ticks of the timer, and enough
/// for 200 pages of half a second.
pub(super) const OBSERVATION: Duration = Duration::from_secs(120);
/// Pages of finished jobs that are read per project and tick: they only teach lengths.
const FINISHED_PAGES: u32 = 2;
/// Projects of a group whose finished jobs are read in one tick.
const FINISHED_PROJECTS: usize = 10;
/// Under what name the position in an instance's finished jobs is kept: no project has it.
const INSTANCE: &str = "*";
/// GitLab's access level of a Maintainer, below which a group's pipelines and runners may be hidden.
pub(super) const MAINTAINER: u32 = 40;

/// How far the finished jobs of each project have been read: the last end, and the id of the job that ended then.
/// A job that ends later and was told later is newer than both; one that GitLab tells late is missed, which costs a
/// sample of its length.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Position(pub(super) BTreeMap<String, (Timestamp, u64)>);

impl Position {
    /// Of a cursor; one that is not ours begins anew.
    fn of(cursor: &Cursor) -> Self {
        serde_json::from_str(&cursor.0).unwrap_or_default()
    }

    fn to_cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }
}

/// What is read of a project.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    jobs: bool,
    runners: bool,
    finished: bool,
}

impl Parts {
    const ALL: Self = Self {
        jobs: true,
        runners: true,
        finished: true,
    };
}

/// A project as it is asked for: by id or path, what it is called, and what is wanted of it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    key: String,
    pub(super) name: String,
    parts: Parts,
}

impl Target {
    fn named(path: &str, parts: Parts) -> Self {
        Self {
            key: segment(path),
            name: path.to_owned(),
            parts,
        }
    }
}

/// What was read of one project.
pub(super) struct Reading {
    pub(super) target: Target,
    pub(super) jobs: Pages<ProjectJob>,
    pub(super) runners: Pages<Runner>,
    /// None when it could not be read, which is no loss but of lengths.
    pub(super) finished: Option<Vec<ProjectJob>>,
}

impl Gitlab {
    pub(super) async fn observe_all(
        &self,
        stack: &StackName,
        pools: &[PoolSelector],
        since: &Cursor,
    ) -> Result<DemandSnapshot, DemandError> {
        let calls = self.api.calls();
        let deadline = Instant::now() + OBSERVATION;
        let mut position = Position::of(since);
        let mut all = Gathered::default();
        let targets = self.targets(&mut all, &mut position, deadline).await?;

        position
            .0
            .retain(|name, _| name == INSTANCE || targets.iter().any(|target| target.name == *name));
        let (live, ended): (Vec<&Target>, Vec<&Target>) =
            targets.iter().partition(|target| target.parts.jobs);
        let names = |targets: Vec<&Target>| -> Vec<String> {
            targets.into_iter().map(|target| target.name.clone()).collect()
        };
        let (live, ended) = (names(live), names(ended));
        let readings: Vec<Reading> = stream::iter(targets)
            .map(|target| {
                let last = position.0.get(&target.name).copied();
                self.read_project(target, last, deadline)
            })
            .buffered(self.concurrency)
            .collect()
            .await;
        for reading in readings {
            all.take(reading, self.scope != Scope::Projects, &mut position);
        }
        position.0.retain(|name, _| !ended.contains(name));
        if let Some(Home::Projects(served)) = self.served.lock().await.as_mut() {
            served.retain(|project| !all.passed_over.contains(&project.path_with_namespace));
        }
        all.shared = self.read_shared(pools, deadline).await;
        let jobs = all.jobs.values().map(|(project, job)| (project.as_str(), job));
        all.protection = self.read_protection(jobs, pools, deadline).await;

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
        if matches!(self.scope, Scope::Group(_)) {
            // Once they have no work any more, what ended in them since now is read.
            for name in live {
                position.0.entry(name).or_insert((now, 0));
            }
        }
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
            passed_over: BTreeMap::new(),
            metrics: BTreeMap::new(),
        })
    }

    /// The projects to read one by one; what is read in fewer calls is in `all` already.
    async fn targets(
        &self,
        all: &mut Gathered,
        position: &mut Position,
        deadline: Instant,
    ) -> Result<Vec<Target>, DemandError> {
        let named = |paths: &[String]| {
            let targets = paths.iter().map(|path| Target::named(path, Parts::ALL));
            targets.collect()
        };
        match &self.scope {
            Scope::Projects => Ok(named(&self.projects)),
            Scope::Union => Ok(named(&self.union(deadline).await?)),
            Scope::Maintained => self.maintained_targets(all, deadline).await,
            Scope::Group(group) => Ok(self.group_targets(group, all, position, deadline).await),
            Scope::Instance => {
                self.read_instance(all, position, deadline).await;
                Ok(Vec::new())
            }
        }
    }

    async fn maintained_targets(
        &self,
        all: &mut Gathered,
        deadline: Instant,
    ) -> Result<Vec<Target>, DemandError> {
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
            *self.served.lock().await = Some(Home::Projects(served));
        }
        Ok(pages
            .items
            .into_values()
            .map(|project| Target {
                key: project.id.to_string(),
                name: project.path_with_namespace,
                parts: Parts::ALL,
            })
            .collect())
    }

    /// A group's projects with work, and those that had some at the last reading, whose jobs may have ended since.
    async fn group_targets(
        &self,
        group: &str,
        all: &mut Gathered,
        position: &Position,
        deadline: Instant,
    ) -> Vec<Target> {
        let path = format!("/groups/{}/runners", segment(group));
        let ours = runners_query("group_type");
        let (read, runners): (_, Pages<Runner>) = tokio::join!(
            graphql::group(&self.api, group, deadline),
            list(&self.api, &path, ours, deadline),
        );
        all.pages += read.read;
        all.date = all.date.max(read.date);
        all.take_runners(&format!("group {group}"), runners);
        if let Some(error) = read.broken {
            all.failures.push((format!("group {group}: projects"), error));
        } else if read.level.is_some_and(|level| level < MAINTAINER) {
            // An administrator sees everything without being a member.
            match self.user().await {
                Ok((user, _)) if user.is_admin() => {}
                Ok((user, _)) => {
                    let why = format!(
                        "{} is not Maintainer of it, and may not see all of its jobs",
                        user.username
                    );
                    all.failures
                        .push((format!("group {group}"), DemandError::Unauthorized { why }));
                }
                Err(error) => all.failures.push(("the token's user".to_owned(), error)),
            }
        }
        let live: BTreeSet<&str> = read
            .projects
            .values()
            .filter(|project| project.live)
            .map(|project| project.path.as_str())
            .collect();
        let ended = position.0.keys().map(String::as_str);
        let ended = ended.filter(|name| *name != INSTANCE && !live.contains(name));
        let parts = |jobs, finished| Parts {
            jobs,
            runners: false,
            finished,
        };
        let mut targets: Vec<Target> = ended
            .take(FINISHED_PROJECTS)
            .map(|name| Target::named(name, parts(false, true)))
            .collect();
        let room = FINISHED_PROJECTS - targets.len();
        let live = live
            .into_iter()
            .enumerate()
            .map(|(at, name)| Target::named(name, parts(true, at < room)));
        targets.extend(live);
        targets
    }

    /// All jobs and runners of the instance. GitLab shows these to administrators only, and to others no error but
    /// nothing: so the token's user is asked first.
    async fn read_instance(&self, all: &mut Gathered, position: &mut Position, deadline: Instant) {
        let user = match self.user().await {
            Ok((user, date)) => {
                all.pages += 1;
                all.date = date;
                user
            }
            Err(error) => {
                all.failures.push(("the token's user".to_owned(), error));
                return;
            }
        };
        if !user.is_admin() {
            let why = format!(
                "instance = true needs an administrator's token, and {} is none: GitLab would show no jobs",
                user.username
            );
            all.failures
                .push(("the instance".to_owned(), DemandError::Unauthorized { why }));
            return;
        }
        let last = position.0.get(INSTANCE).copied();
        let pages = if last.is_some() { FINISHED_PAGES } else { 1 };
        let (live, ended, runners): (_, _, Pages<Runner>) = tokio::join!(
            graphql::jobs(&self.api, &["PENDING", "RUNNING"], None, deadline),
            graphql::jobs(
                &self.api,
                &["SUCCESS", "FAILED", "CANCELED"],
                Some(pages),
                deadline
            ),
            list(
                &self.api,
                "/runners/all",
                runners_query("instance_type"),
                deadline
            ),
        );
        all.pages += live.read;
        all.date = all.date.max(live.date);
        if let Some(error) = live.broken {
            all.failures.push(("the instance's jobs".to_owned(), error));
        }
        all.jobs.extend(live.jobs);
        all.take_runners("the instance", runners);
        if let Some(error) = ended.broken {
            tracing::debug!(%error, "the instance's finished jobs could not be read");
        }
        for (project, job) in ended.jobs.into_values() {
            if job.end() > last {
                all.take_finished(INSTANCE, &project, job, position);
            }
        }
    }

    /// The token's user.
    pub(super) async fn user(&self) -> Result<(User, Option<Timestamp>), DemandError> {
        let reply = accept(self.api.send(get("/user", Query::new())).await?, Effect::Read)?;
        Ok((decode(&reply)?, reply.date))
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
        let ours = runners_query("project_type");
        let parts = target.parts;
        let (jobs, runners, finished) = tokio::join!(
            async {
                if parts.jobs {
                    list(&self.api, &jobs_path, live, deadline).await
                } else {
                    Pages::none()
                }
            },
            async {
                if parts.runners {
                    list(&self.api, &runners_path, ours, deadline).await
                } else {
                    Pages::none()
                }
            },
            async {
                if parts.finished {
                    self.finished(&jobs_path, last, deadline).await
                } else {
                    Ok(Vec::new())
                }
            },
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

/// A query for runners of a type.
fn runners_query(kind: &str) -> Query {
    query(&[("type", kind), ("per_page", "100")])
}

/// A query for jobs in these states, newest first.
fn jobs_query(scopes: &[&str]) -> Query {
    let mut pairs: Vec<(&str, &str)> = scopes.iter().map(|scope| ("scope[]", *scope)).collect();
    pairs.extend([
        ("per_page", "100"),
        ("pagination", "keyset"),
        ("order_by", "id"),
        ("sort", "desc"),
    ]);
    query(&pairs)
}
