//! The parts of GitLab's answers that are read, and what they mean; every other field is skipped while decoding.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::model::{
    demand::{Job, JobState, RunnerView},
    ids::{JobId, RegistrationId},
};

/// GitLab shows a runner as offline when it has not asked for this long (its `ONLINE_CONTACT_TIMEOUT`).
const OFFLINE_AFTER: SignedDuration = SignedDuration::from_hours(2);

/// Something that a listing lists.
pub(super) trait Listed {
    /// What tells it from the others of its listing.
    fn id(&self) -> u64;
}

/// A project, as `/projects` lists it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Project {
    pub id: u64,
    pub path_with_namespace: String,
}

impl Listed for Project {
    fn id(&self) -> u64 {
        self.id
    }
}

/// A job of a project: `API_Entities_Ci_Job`.
#[derive(Debug, Deserialize)]
pub(super) struct ProjectJob {
    id: u64,
    name: String,
    status: String,
    /// Required: a job without it would seem to be untagged.
    tag_list: Vec<String>,
    created_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    queued_duration: Option<f64>,
    /// Only GraphQL tells it.
    #[serde(skip)]
    queued_at: Option<Timestamp>,
    runner: Option<RunnerRef>,
    runner_manager: Option<ManagerRef>,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    #[serde(default)]
    tag: bool,
}

#[derive(Debug, Deserialize)]
struct RunnerRef {
    id: u64,
}

#[derive(Debug, Deserialize)]
struct ManagerRef {
    system_id: String,
}

/// A job as GraphQL's `jobs` tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobNode {
    id: String,
    name: Option<String>,
    status: String,
    tags: Vec<String>,
    created_at: Option<Timestamp>,
    queued_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    ref_name: Option<String>,
    created_by_tag: Option<bool>,
    runner: Option<NodeId>,
    runner_manager: Option<ManagerNode>,
    project: Option<ProjectNode>,
}

#[derive(Debug, Deserialize)]
struct NodeId {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagerNode {
    system_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProjectNode {
    full_path: String,
    shared_runners_enabled: Option<bool>,
}

/// The number at the end of a global id: `gid://gitlab/Ci::Build/42`.
pub(super) fn number_of(gid: &str) -> Option<u64> {
    gid.rsplit('/').next()?.parse().ok()
}

impl JobNode {
    /// Its project and the job as REST would tell it; none where instance runners are switched off, which could never
    /// run it.
    ///
    /// # Errors
    /// What is missing, or not as it should be.
    pub(super) fn into_job(self) -> Result<Option<(String, ProjectJob)>, String> {
        let odd = |what: &str| format!("a job ({}) {what}", self.id);
        let id = number_of(&self.id).ok_or_else(|| odd("whose id has no number"))?;
        let runner = match &self.runner {
            Some(runner) => {
                let id = number_of(&runner.id).ok_or_else(|| odd("whose runner's id has no number"))?;
                Some(RunnerRef { id })
            }
            None => None,
        };
        let Some(project) = self.project else {
            return Err(odd("without a project"));
        };
        if project.shared_runners_enabled == Some(false) && runner.is_none() {
            return Ok(None);
        }
        let job = ProjectJob {
            id,
            name: self.name.unwrap_or_default(),
            status: self.status.to_lowercase(),
            tag_list: self.tags,
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            queued_duration: None,
            queued_at: self.queued_at,
            runner,
            runner_manager: self.runner_manager.map(|manager| ManagerRef {
                system_id: manager.system_id,
            }),
            git_ref: self.ref_name,
            tag: self.created_by_tag.unwrap_or(false),
        };
        Ok(Some((project.full_path, job)))
    }
}

/// A protected branch.
#[derive(Debug, Deserialize)]
pub(super) struct Protected {
    /// A name, or a pattern with `*`.
    pub name: String,
}

impl Listed for Protected {
    /// Tags have none; a name stands once in its list.
    fn id(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};

        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        hasher.finish()
    }
}

/// A group, as `/groups/:id` tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Group {
    pub id: u64,
}

impl Listed for ProjectJob {
    fn id(&self) -> u64 {
        self.id
    }
}

impl ProjectJob {
    /// Where it stands; none for what was not asked for.
    fn state(&self) -> Option<JobState> {
        match self.status.as_str() {
            "pending" => Some(JobState::Queued),
            "running" => Some(JobState::Running),
            "success" | "failed" | "canceled" => Some(JobState::Finished),
            _ => None,
        }
    }

    /// When it ended, and its id, which tells apart those that ended together.
    pub(super) fn end(&self) -> Option<(Timestamp, u64)> {
        self.finished_at.map(|at| (at, self.id))
    }

    pub(super) fn number(&self) -> u64 {
        self.id
    }

    /// Whether it waits for a runner.
    pub(super) fn waits(&self) -> bool {
        self.state() == Some(JobState::Queued)
    }

    pub(super) fn tags(&self) -> &[String] {
        &self.tag_list
    }

    /// Its branch or tag, and whether it is a tag.
    pub(super) fn git_ref(&self) -> (Option<&str>, bool) {
        (self.git_ref.as_deref(), self.tag)
    }

    /// Who runs or ran it: where that is a runner that machines share, the machine; none where GitLab does not say which.
    fn registration(&self, shared: &BTreeSet<u64>) -> Option<RegistrationId> {
        let runner = self.runner.as_ref()?;
        if !shared.contains(&runner.id) {
            return Some(registration(runner.id));
        }
        let manager = self.runner_manager.as_ref()?;
        Some(RegistrationId::of_shared(
            &runner.id.to_string(),
            &manager.system_id,
        ))
    }

    /// The job in our words. REST tells no `queued_at`, only how long a job has waited: until it started, or until `now`.
    pub(super) fn into_job(
        self,
        project: &str,
        now: Timestamp,
        shared: &BTreeSet<u64>,
        protected: bool,
    ) -> Option<Job> {
        let state = self.state()?;
        let runner = self.registration(shared);
        let waited_until = self.started_at.unwrap_or(now);
        let waited_since = self
            .queued_duration
            .and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok())
            .and_then(|waited| waited_until.checked_sub(waited).ok())
            .or(self.created_at);
        let queued_at = self.queued_at.or(waited_since);
        Some(Job {
            id: JobId::new(self.id.to_string()),
            name: self.name,
            project: project.to_owned(),
            tags: self.tag_list,
            state,
            queued_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            runner,
            protected,
            pools: None,
            stuck: false,
        })
    }
}

/// A job of a runner: `API_Entities_Ci_JobBasicWithProject`.
#[derive(Debug, Deserialize)]
pub(super) struct RunnerJob {
    id: u64,
}

impl Listed for RunnerJob {
    fn id(&self) -> u64 {
        self.id
    }
}

/// A runner: `API_Entities_Ci_Runner`; its details have these fields too.
#[derive(Debug, Deserialize)]
pub(super) struct Runner {
    pub id: u64,
    description: Option<String>,
    paused: Option<bool>,
    /// The opposite of `paused`, deprecated: the only one before GitLab 14.8.
    active: Option<bool>,
    online: Option<bool>,
    status: Option<String>,
    job_execution_status: Option<String>,
}

impl Listed for Runner {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Runner {
    pub(super) fn description(&self) -> &str {
        self.description.as_deref().unwrap_or_default()
    }

    /// Whether it takes no new job; a GitLab that does not say makes it one that does.
    pub(super) fn paused(&self) -> bool {
        self.paused.or(self.active.map(|active| !active)).unwrap_or(false)
    }

    /// Whether it runs a job, where GitLab says so (since 16.x).
    pub(super) fn busy(&self) -> Option<bool> {
        busy(self.job_execution_status.as_deref())
    }

    /// Whether it has never asked for anything. `status` may say `stale` of such a runner instead; `online` is null
    /// for it in any case.
    pub(super) fn never_contacted(&self) -> bool {
        match self.status.as_deref() {
            Some("never_contacted" | "not_connected") => true,
            Some("online" | "offline") => false,
            _ => self.online.is_none(),
        }
    }

    /// When it last asked, as exactly as the list tells: now for one that is online, and for any other that ever asked
    /// the latest time that it can have been.
    fn last_contact(&self, now: Timestamp) -> Option<Timestamp> {
        if self.never_contacted() {
            None
        } else if self.is_online() {
            Some(now)
        } else {
            Some(now.checked_sub(OFFLINE_AFTER).unwrap_or(now))
        }
    }

    fn is_online(&self) -> bool {
        self.online.unwrap_or(self.status.as_deref() == Some("online"))
    }

    /// The runner in our words.
    pub(super) fn into_view(self, now: Timestamp) -> RunnerView {
        RunnerView {
            registration: registration(self.id),
            online: Some(self.is_online()),
            paused: self.paused(),
            last_contact: self.last_contact(now),
            busy: self.busy(),
            description: self.description.unwrap_or_default(),
        }
    }
}

/// A runner's projects, as its details tell them.
#[derive(Debug, Deserialize)]
pub(super) struct RunnerProjects {
    #[serde(default)]
    pub projects: Vec<Project>,
}

/// A machine that shares a runner's token: `API_Entities_Ci_RunnerManager`.
#[derive(Debug, Deserialize)]
pub(super) struct Manager {
    id: u64,
    #[serde(default)]
    pub system_id: String,
    status: Option<String>,
    contacted_at: Option<Timestamp>,
    job_execution_status: Option<String>,
}

impl Listed for Manager {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Manager {
    /// Whether it runs a job, where GitLab says so.
    pub(super) fn busy(&self) -> Option<bool> {
        busy(self.job_execution_status.as_deref())
    }

    /// One of the machines that share a runner, in our words. Its description is what it calls itself: whose it is only
    /// our records tell, so none is ever taken for a registration that its machine left behind.
    pub(super) fn into_view(self, runner: u64, paused: bool) -> RunnerView {
        RunnerView {
            registration: RegistrationId::of_shared(&runner.to_string(), &self.system_id),
            online: self.status.as_deref().map(|status| status == "online"),
            paused,
            last_contact: self.contacted_at,
            busy: self.busy(),
            description: self.system_id,
        }
    }
}

/// A project in full, for the rights that the token has in it.
#[derive(Debug, Deserialize)]
pub(super) struct ProjectDetails {
    permissions: Option<Permissions>,
}

#[derive(Debug, Deserialize)]
struct Permissions {
    project_access: Option<Access>,
    group_access: Option<Access>,
}

#[derive(Debug, Deserialize)]
struct Access {
    access_level: u32,
}

impl ProjectDetails {
    /// The token's user's access level (40: Maintainer); none when GitLab does not say, as to an administrator.
    pub(super) fn access_level(&self) -> Option<u32> {
        let permissions = self.permissions.as_ref()?;
        [&permissions.project_access, &permissions.group_access]
            .into_iter()
            .flatten()
            .map(|access| access.access_level)
            .max()
    }
}

/// The token itself, as `/personal_access_tokens/self` tells it.
#[derive(Debug, Deserialize)]
pub(super) struct TokenDetails {
    #[serde(default)]
    pub scopes: Vec<String>,
}

/// The token's user, as `/user` tells them.
#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub username: String,
    pub state: Option<String>,
    /// Shown to administrators only, and with `admin_mode` on only to a token that has that scope.
    is_admin: Option<bool>,
}

impl User {
    /// Whether the token may do an administrator's things.
    pub(super) fn is_admin(&self) -> bool {
        self.is_admin == Some(true)
    }
}

pub(super) fn registration(id: u64) -> RegistrationId {
    RegistrationId::new(id.to_string())
}

fn busy(status: Option<&str>) -> Option<bool> {
    match status? {
        "active" => Some(true),
        "idle" => Some(false),
        _ => None,
    }
}
