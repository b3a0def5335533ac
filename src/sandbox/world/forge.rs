//! The GitLab of the world: projects, runners, their managers, and jobs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::gitlab::terraform_state::TerraformState;
use super::super::scenario::{Scenario, TokenSpec};
use super::dice;

pub(crate) use super::ci::{Job, JobStatus, MAIN, Manager, Project, Runner, RunnerKind, User};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Forge {
    pub(crate) projects: BTreeMap<u64, Project>,
    pub(crate) groups: BTreeMap<u64, String>,
    pub(crate) runners: BTreeMap<u64, Runner>,
    pub(crate) managers: BTreeMap<u64, Manager>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) users: BTreeMap<String, User>,
    /// By project and name.
    #[serde(default)]
    pub(crate) states: BTreeMap<String, TerraformState>,
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
    waiting: BTreeMap<Need, BTreeSet<u64>>,
}

/// What a runner must have to take a job: its project, its tags, whether its ref is protected.
type Need = (u64, Vec<String>, bool);

fn need(job: &Job) -> Need {
    (job.project, job.tags.clone(), job.protected)
}

impl Forge {
    pub(crate) fn new(scenario: &Scenario, now: Timestamp) -> Self {
        let mut forge = Self::default();
        for path in std::iter::once("acme/app").chain(scenario.projects.iter().map(String::as_str)) {
            forge.add_project(path, now);
        }
        for (path, branches) in &scenario.protected_branches {
            if let Some(project) = forge.projects.values_mut().find(|project| project.path == *path) {
                project.protected_branches.clone_from(branches);
            }
        }
        for (
            at,
            TokenSpec {
                token,
                username,
                admin,
                scopes,
                projects,
                access_level,
            },
        ) in scenario.tokens.iter().enumerate()
        {
            let user = User {
                id: 10 + at as u64,
                username: username.clone(),
                admin: *admin,
                scopes: scopes.clone(),
                projects: projects.clone(),
                level: *access_level,
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
        let group = self.add_group(group_path);
        let id = self.projects.len() as u64 + 1;
        let project = Project {
            id,
            path: path.to_owned(),
            group,
            created: now,
            protected_branches: vec![MAIN.to_owned()],
            protected_tags: Vec::new(),
        };
        self.projects.insert(id, project);
    }

    /// The group of this path; it comes to be, after those above it.
    fn add_group(&mut self, path: &str) -> u64 {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.add_group(above);
        }
        let known = self.groups.iter().find(|(_, known)| *known == path);
        if let Some((id, _)) = known {
            return *id;
        }
        let id = self.groups.len() as u64 + 1;
        self.groups.insert(id, path.to_owned());
        id
    }

    /// Whether the group of a project, or one above it, is this one.
    pub(crate) fn is_below(&self, project: &Project, group: u64) -> bool {
        let Some(above) = self.groups.get(&group) else {
            return false;
        };
        let rest = project.path.strip_prefix(above.as_str());
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether a group is this one or above it.
    pub(crate) fn is_at_or_above(&self, upper: u64, lower: u64) -> bool {
        let (Some(upper), Some(lower)) = (self.groups.get(&upper), self.groups.get(&lower)) else {
            return false;
        };
        let rest = lower.strip_prefix(upper.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
            self.waiting.entry(need(&job)).or_default().insert(job.id);
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
            let key = need(&job);
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
            .filter(|(need, _)| self.fits(runner, need))
            .filter_map(|(_, ids)| ids.first())
            .min()
            .copied()
    }

    fn fits(&self, runner: &Runner, (project, tags, protected): &Need) -> bool {
        let in_scope = match runner.kind {
            RunnerKind::Instance => true,
            RunnerKind::Group => {
                let project = self.projects.get(project);
                let both = project.zip(runner.group);
                both.is_some_and(|(project, group)| self.is_below(project, group))
            }
            RunnerKind::Project => runner.projects.contains(project),
        };
        in_scope
            && !runner.paused
            && (*protected || runner.access_level != "ref_protected")
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
