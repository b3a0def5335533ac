//! GitLab, gitlab.com or self-managed, by projects: what its jobs want, and control of the runners that serve them.
//!
//! # Expected flow
//! [`Demand::observe`] reads each project's pending and running jobs in one keyset listing (a job that starts between
//! two pages is not lost), its runners of type `project_type`, and a page or two of finished jobs, for their lengths.
//! [`RunnerControl::register`] makes one runner per machine, with a token for it alone: pausing a runner pauses every
//! machine (*manager*) that shares its token, so a shared one could not be drained machine by machine.
//!
//! # Guarantees
//! - What could not be read is said: a page that fails, a time-out, a total that changes between pages, a link that
//!   leads elsewhere or never ends make the answer partial; only when nothing at all could be read it is an error.
//! - The cost is constant plus pages: three listings per project, no call per runner or per job.
//! - A listing follows `Link: rel="next"` only where it leads to the host that was asked, and is bounded.
//! - Times are the answering server's (`Date`, whole seconds); this module reads no clock of its own but for its deadlines.
//!
//! # Assumptions
//! - Runner descriptions are ours: `STACK-…` is what [`RegistrationRequest::description`] begins with.
//! - The token's user has the Maintainer role in each project (GitLab shows a project's runners to nobody less); a
//!   `read_api` token is enough to observe, `api` (or `create_runner`, `manage_runner` and `read_api`) to control.
//!
//! # Caveats
//! - REST only. GraphQL could list an instance's jobs in one query, but answers one who is not an administrator with an
//!   empty list instead of an error, which reads as "nothing is wanted": a fleet would be scaled in by a missing right.
//! - `online` means that the runner asked within the last two hours, not that it lives.
//! - A job being cancelled (`canceling`) still runs its `after_script`, and is not among the running ones; GitLab's
//!   `job_execution_status` counts it, so the two disagree and the runner is kept.
//! - Without configured projects, those where the token's user is at least Maintainer are read; a project whose jobs
//!   answer 403 there has CI switched off, and is passed over.
//!
//! # Errors
//! [`DemandError`], from HTTP status in one place (`api.rs`).

mod api;
mod check;
mod control;
mod observe;
mod pages;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;

use async_trait::async_trait;
use jiff::SignedDuration;

use self::{api::Api, wire::Project};
use super::{Cordoned, Demand, DemandError, Registration, RegistrationRequest, RunnerControl, RunnerReading};
use crate::{
    model::{
        demand::{Cursor, DemandSnapshot, PoolSelector},
        ids::{CiName, RegistrationId, StackName},
        resource::{ControlProfile, CordonKind},
    },
    net::ClientConfig,
    provider::Problem,
};

/// Where a GitLab is, and which part of it is ours.
pub struct GitlabConfig {
    /// The CI's key in the stack file.
    pub name: CiName,
    /// How it is called; its base is the root with `/api/v4` behind it, its credential the API token.
    pub client: ClientConfig,
    /// The root URL, which machines are told: `https://gitlab.example.com`.
    pub root: String,
    /// Project paths (`acme/app`) or ids; empty: every project where the token's user is at least Maintainer.
    pub projects: Vec<String>,
    /// How long after a pause a runner may still be handed a job.
    pub settle: SignedDuration,
}

/// One GitLab: see the module's contract.
pub struct Gitlab {
    api: Api,
    root: String,
    /// As configured; empty: to be discovered.
    projects: Vec<String>,
    profile: ControlProfile,
    /// How many projects are read at a time.
    concurrency: usize,
    /// The projects that new runners serve, once they have been read.
    served: tokio::sync::Mutex<Option<Vec<Project>>>,
}

impl Gitlab {
    /// A client for it; nothing is sent yet.
    ///
    /// # Errors
    /// When the address cannot be used, or is neither https nor loopback.
    pub fn new(config: GitlabConfig) -> Result<Self, DemandError> {
        let concurrency = config.client.concurrency.max(1);
        Ok(Self {
            api: Api::new(config.client)?,
            root: config.root.trim_end_matches('/').to_owned(),
            projects: config.projects,
            profile: ControlProfile {
                ci: config.name,
                cordon: CordonKind::Pause,
                settle: config.settle,
            },
            concurrency,
            served: tokio::sync::Mutex::new(None),
        })
    }
}

impl fmt::Debug for Gitlab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gitlab")
            .field("root", &self.root)
            .field("projects", &self.projects)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Demand for Gitlab {
    async fn observe(
        &self,
        stack: &StackName,
        pools: &[PoolSelector],
        since: &Cursor,
    ) -> Result<DemandSnapshot, DemandError> {
        self.observe_projects(stack, pools, since).await
    }

    async fn check(&self) -> Result<Vec<Problem>, DemandError> {
        self.check_names().await
    }
}

#[async_trait]
impl RunnerControl for Gitlab {
    fn profile(&self) -> &ControlProfile {
        &self.profile
    }

    async fn register(&self, request: &RegistrationRequest) -> Result<Registration, DemandError> {
        self.register_runner(request).await
    }

    async fn cordon(&self, runner: &RegistrationId) -> Result<Cordoned, DemandError> {
        self.pause(runner).await
    }

    async fn uncordon(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.resume(runner).await
    }

    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError> {
        self.read_runner(runner).await
    }

    async fn forget(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.delete_runner(runner).await
    }
}
