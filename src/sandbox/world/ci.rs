//! The things of a CI server: projects, runners, the managers that poll for them, jobs, users.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::add;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Project {
    pub(crate) id: u64,
    /// `group/name`.
    pub(crate) path: String,
    pub(crate) group: u64,
    pub(crate) created: Timestamp,
    /// Names of protected branches, with `*` for anything.
    #[serde(default = "main_alone")]
    pub(crate) protected_branches: Vec<String>,
    #[serde(default)]
    pub(crate) protected_tags: Vec<String>,
}

fn main_alone() -> Vec<String> {
    vec![MAIN.to_owned()]
}

/// The default branch of every project; protected, as GitLab does for a new one.
pub(crate) const MAIN: &str = "main";

impl Project {
    /// Whether a branch or tag of this name is protected.
    pub(crate) fn protects(&self, name: &str, tag: bool) -> bool {
        let patterns = if tag {
            &self.protected_tags
        } else {
            &self.protected_branches
        };
        patterns.iter().any(|pattern| fits_pattern(pattern, name))
    }
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn fits_pattern(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|left| {
            let ends = left.char_indices().map(|(at, _)| at).chain([left.len()]);
            ends.into_iter().any(|at| fits_pattern(rest, &left[at..]))
        }),
    }
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
    /// The branch or tag that it is for.
    #[serde(default)]
    pub(crate) git_ref: String,
    #[serde(default)]
    pub(crate) of_tag: bool,
    /// Whether that was protected when the job was made.
    #[serde(default)]
    pub(crate) protected: bool,
    /// Whether its pipeline is another's child.
    #[serde(default)]
    pub(crate) child: bool,
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
    /// The role in groups: 40 is a Maintainer, 50 an Owner.
    #[serde(default)]
    pub(crate) level: u32,
}
