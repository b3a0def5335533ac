//! The parts of GitLab's answers that are read, and what they mean; every other field is skipped while decoding.

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
    runner: Option<RunnerRef>,
}

#[derive(Debug, Deserialize)]
struct RunnerRef {
    id: u64,
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

    /// The job in our words. GitLab tells no `queued_at`, only how long a job has waited: until it started, or until `now`.
    pub(super) fn into_job(self, project: &str, now: Timestamp) -> Option<Job> {
        let state = self.state()?;
        let waited_until = self.started_at.unwrap_or(now);
        let queued_at = self
            .queued_duration
            .and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok())
            .and_then(|waited| waited_until.checked_sub(waited).ok())
            .or(self.created_at);
        Some(Job {
            id: JobId::new(self.id.to_string()),
            name: self.name,
            project: project.to_owned(),
            tags: self.tag_list,
            state,
            queued_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            runner: self.runner.map(|runner| registration(runner.id)),
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

/// A machine that shares a runner's token: `API_Entities_Ci_RunnerManager`.
#[derive(Debug, Deserialize)]
pub(super) struct Manager {
    id: u64,
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
