//! The GitLab of the world: projects, runners, their managers, and jobs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::scenario::{Scenario, TokenSpec};
use super::dice;

<<<<<<< HEAD
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Project {
    pub(crate) id: u64,
    /// `group/name`.
    pub(crate) path: String,
    pub(crate) group: u64,
    pub(crate) created: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunnerKind {
    #[serde(rename = "instance_type")]
    Instance,
    #[serde(rename = "group_type")]
    Group,
    #[serde(rename = "project_type")]
    Project,
}

impl RunnerKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Instance => "instance_type",
            Self::Group => "group_type",
            Self::Project => "project_type",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Runner {
    pub(crate) id: u64,
    pub(crate) token: String,
    pub(crate) kind: RunnerKind,
    pub(crate) projects: BTreeSet<u64>,
    pub(crate) group: Option<u64>,
    pub(crate) description: String,
    pub(crate) paused: bool,
    pub(crate) locked: bool,
    pub(crate) run_untagged: bool,
    pub(crate) tags: Vec<String>,
    pub(crate) access_level: String,
    pub(crate) maximum_timeout: Option<i64>,
    pub(crate) maintenance_note: Option<String>,
    pub(crate) creator: u64,
    pub(crate) created: Timestamp,
    /// Of managers that are no more.
    pub(crate) contacted: Option<Timestamp>,
    pub(crate) managers: BTreeSet<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Manager {
    pub(crate) id: u64,
    pub(crate) runner: u64,
    pub(crate) system_id: String,
    pub(crate) address: String,
    pub(crate) created: Timestamp,
    /// Last contact; while polling, that before the polling began.
    pub(crate) contacted: Option<Timestamp>,
    /// Polls at this moment and every interval after it.
    pub(crate) polling: Option<Timestamp>,
    pub(crate) server: Option<u64>,
    pub(crate) concurrent: u32,
    pub(crate) running: BTreeSet<u64>,
    /// A poll that will find work is due then.
    pub(super) woken: bool,
}

impl Manager {
    pub(crate) fn contacted_at(&self, now: Timestamp, every: Duration) -> Option<Timestamp> {
        match self.polling {
            Some(since) if now >= since => Some(add(since, multiple(now.duration_since(since), every))),
            _ => self.contacted,
        }
    }
}

/// The largest multiple of `every` in `passed`.
pub(super) fn multiple(passed: SignedDuration, every: Duration) -> SignedDuration {
    let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
    SignedDuration::from_millis(passed / every * every)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobStatus {
    Pending,
    Running,
    Success,
    Failed,
    Canceled,
}

impl JobStatus {
    pub(crate) const ALL: [Self; 5] = [
        Self::Pending,
        Self::Running,
        Self::Success,
        Self::Failed,
        Self::Canceled,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) project: u64,
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    pub(crate) duration: SignedDuration,
    pub(crate) status: JobStatus,
    pub(crate) created: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) runner: Option<u64>,
    pub(crate) manager: Option<u64>,
    pub(crate) system_id: Option<String>,
    pub(crate) failure: Option<String>,
    /// Of a job that a runner outside the world took; it alone ends it.
    pub(crate) token: Option<String>,
}

impl Job {
    /// The status that the job had at `then`, for lists that lag; `None` where it did not exist.
    pub(crate) fn status_at(&self, then: Timestamp) -> Option<JobStatus> {
        if then < self.created {
            return None;
        }
        Some(match (self.started, self.finished) {
            (_, Some(finished)) if finished <= then => self.status,
            (Some(started), _) if started <= then => JobStatus::Running,
            _ => JobStatus::Pending,
        })
    }
}

/// Whose token it is and what it may do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) username: String,
    pub(crate) admin: bool,
    pub(crate) scopes: Vec<String>,
    /// `None`: a member of every project.
    pub(crate) projects: Option<Vec<String>>,
}
=======
pub(crate) use super::ci::{Job, JobStatus, Manager, Project, Runner, RunnerKind, User};
>>>>>>> h/sandbox

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Forge {
    pub(crate) projects: BTreeMap<u64, Project>,
    pub(crate) groups: BTreeMap<u64, String>,
    pub(crate) runners: BTreeMap<u64, Runner>,
    pub(crate) managers: BTreeMap<u64, Manager>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) users: BTreeMap<String, User>,
    next_runner: u64,
    next_manager: u64,
    pub(super) next_job: u64,
    #[serde(skip)]
    pub(super) by_token: HashMap<String, u64>,
    #[serde(skip)]
    pub(crate) by_status: BTreeMap<(u64, JobStatus), BTreeSet<u64>>,
    #[serde(skip)]
    pub(crate) by_runner: HashMap<u64, BTreeSet<u64>>,
    /// Pending jobs by what a runner must have to take them.
    #[serde(skip)]
    waiting: BTreeMap<(u64, Vec<String>), BTreeSet<u64>>,
}

impl Forge {
    pub(crate) fn new(scenario: &Scenario, now: Timestamp) -> Self {
        let mut forge = Self::default();
        for path in std::iter::once("acme/app").chain(scenario.projects.iter().map(String::as_str)) {
            forge.add_project(path, now);
        }
        for (
            at,
            TokenSpec {
                token,
                username,
                admin,
                scopes,
                projects,
            },
        ) in scenario.tokens.iter().enumerate()
        {
            let user = User {
                id: 10 + at as u64,
                username: username.clone(),
                admin: *admin,
                scopes: scopes.clone(),
                projects: projects.clone(),
            };
            forge.users.insert(token.clone(), user);
        }
        forge
    }

    pub(super) fn add_project(&mut self, path: &str, now: Timestamp) {
        if self.projects.values().any(|project| project.path == path) {
            return;
        }
        let group_path = path.rsplit_once('/').map_or("root", |(group, _)| group);
        let known = self
            .groups
            .iter()
            .find(|(_, known)| *known == group_path)
            .map(|(id, _)| *id);
        let group = known.unwrap_or_else(|| {
            let id = self.groups.len() as u64 + 1;
            self.groups.insert(id, group_path.to_owned());
            id
        });
        let id = self.projects.len() as u64 + 1;
        let project = Project {
            id,
            path: path.to_owned(),
            group,
            created: now,
        };
        self.projects.insert(id, project);
    }

    pub(crate) fn reindex(&mut self) {
        self.by_token = self
            .runners
            .values()
            .map(|runner| (runner.token.clone(), runner.id))
            .collect();
        (self.by_status, self.by_runner, self.waiting) = Default::default();
        let jobs = std::mem::take(&mut self.jobs);
        for job in jobs.into_values() {
            self.put_job(job);
        }
    }

    /// By id or full path.
    pub(crate) fn project(&self, wanted: &str) -> Option<&Project> {
        match wanted.parse::<u64>() {
            Ok(id) => self.projects.get(&id),
            Err(_) => self.projects.values().find(|project| project.path == wanted),
        }
    }

    pub(super) fn put_job(&mut self, job: Job) {
        self.by_status
            .entry((job.project, job.status))
            .or_default()
            .insert(job.id);
        if let Some(runner) = job.runner {
            self.by_runner.entry(runner).or_default().insert(job.id);
        }
        if job.status == JobStatus::Pending {
            self.waiting
                .entry((job.project, job.tags.clone()))
                .or_default()
                .insert(job.id);
        }
        self.jobs.insert(job.id, job);
    }

    /// Changes a job with the indices kept.
    pub(crate) fn change_job(&mut self, id: u64, change: impl FnOnce(&mut Job)) {
        let Some(mut job) = self.jobs.remove(&id) else {
            return;
        };
        if let Some(ids) = self.by_status.get_mut(&(job.project, job.status)) {
            ids.remove(&id);
        }
        if job.status == JobStatus::Pending {
            let key = (job.project, job.tags.clone());
            if let Some(ids) = self.waiting.get_mut(&key) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.waiting.remove(&key);
                }
            }
        }
        change(&mut job);
        self.put_job(job);
    }

    pub(crate) fn add_runner(&mut self, seed: u64, make: impl FnOnce(u64, String) -> Runner) -> u64 {
        self.next_runner += 1;
        let id = self.next_runner;
        let token = format!("glrt-t1_{}", dice::text(seed, id ^ 0x676c_7274, 20));
        self.by_token.insert(token.clone(), id);
        self.runners.insert(id, make(id, token));
        id
    }

    pub(crate) fn runner_of_token(&self, token: &str) -> Option<u64> {
        self.by_token.get(token).copied()
    }

    /// A runner process shows up: a known system keeps its manager.
    pub(crate) fn register(
        &mut self,
        runner: u64,
        system_id: &str,
        server: Option<u64>,
        concurrent: u32,
        address: &str,
        now: Timestamp,
    ) -> u64 {
        let known = self.manager_of(runner, system_id);
        let id = known.unwrap_or_else(|| {
            self.next_manager += 1;
            self.next_manager
        });
        let manager = self.managers.entry(id).or_insert_with(|| Manager {
            id,
            runner,
            system_id: system_id.to_owned(),
            address: address.to_owned(),
            created: now,
            contacted: None,
            polling: None,
            server,
            concurrent,
            running: BTreeSet::new(),
            woken: false,
        });
        manager.contacted = Some(now);
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.managers.insert(id);
        }
        id
    }

    pub(crate) fn manager_of(&self, runner: u64, system_id: &str) -> Option<u64> {
        self.runners.get(&runner)?.managers.iter().copied().find(|id| {
            self.managers
                .get(id)
                .is_some_and(|manager| manager.system_id == system_id)
        })
    }

    pub(super) fn start_polling(&mut self, manager: u64, now: Timestamp) {
        if let Some(manager) = self.managers.get_mut(&manager) {
            manager.polling = Some(now);
        }
    }

    /// Whether jobs still run there.
    pub(super) fn stop_polling(&mut self, manager: u64, now: Timestamp, every: Duration) -> bool {
        self.managers.get_mut(&manager).is_some_and(|manager| {
            manager.contacted = manager.contacted_at(now, every);
            manager.polling = None;
            !manager.running.is_empty()
        })
    }

    pub(crate) fn remove_manager(&mut self, id: u64) {
        if let Some(manager) = self.managers.remove(&id)
            && let Some(runner) = self.runners.get_mut(&manager.runner)
        {
            runner.managers.remove(&id);
            runner.contacted = runner.contacted.max(manager.contacted);
        }
    }

    /// When the runner was last heard of, over all its managers.
    pub(crate) fn contacted_at(&self, runner: &Runner, now: Timestamp, every: Duration) -> Option<Timestamp> {
        runner
            .managers
            .iter()
            .filter_map(|id| self.managers.get(id)?.contacted_at(now, every))
            .max()
            .max(runner.contacted)
    }

    /// The oldest waiting job that this runner may take.
    pub(crate) fn next_job(&self, runner: &Runner) -> Option<u64> {
        self.waiting
            .iter()
            .filter(|((project, tags), _)| self.fits(runner, *project, tags))
            .filter_map(|(_, ids)| ids.first())
            .min()
            .copied()
    }

    fn fits(&self, runner: &Runner, project: u64, tags: &[String]) -> bool {
        let in_scope = match runner.kind {
            RunnerKind::Instance => true,
            RunnerKind::Group => self.projects.get(&project).map(|project| project.group) == runner.group,
            RunnerKind::Project => runner.projects.contains(&project),
        };
        in_scope
            && !runner.paused
            && (runner.run_untagged || !tags.is_empty())
            && tags.iter().all(|tag| runner.tags.contains(tag))
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Forge {
    /// Changes whenever a job might be had; a runner sends it back.
    pub(crate) fn update_mark(&self) -> String {
        hex::encode(self.next_job.to_be_bytes())
    }
}
