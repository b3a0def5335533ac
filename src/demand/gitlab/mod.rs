//! GitLab, gitlab.com or self-managed, by projects, by group or as a whole: what its jobs want, and control of the runners
//! that serve them.
//!
//! # Expected flow
//! [`Demand::observe`] reads each project's pending and running jobs in one keyset listing (a job that starts between
//! two pages is not lost), its runners of type `project_type`, and a page or two of finished jobs, for their lengths.
//! Of a group it reads by GraphQL which projects have pipelines that run or wait, a hundred a call, and then the jobs of
//! those; of an instance all jobs, a hundred a call. Groups and the instance have one list of runners each.
//! [`RunnerControl::register`] makes one runner per machine, with a token for it alone, of the type that serves all that
//! the CI's table names (`scope.rs`): pausing a runner pauses every machine (*manager*) that shares its token. A pool with
//! a `runner_token` has such a shared one (`shared.rs`).
//!
//! # Guarantees
//! - What could not be read is said: a page that fails, a time-out, a total that changes between pages, a link that
//!   leads elsewhere or never ends make the answer partial; only when nothing at all could be read it is an error.
//! - The cost is constant plus pages: three listings per named project; for a group its projects' pages, its runners'
//!   pages, and a listing for each project with work; no call per runner or per job.
//! - A listing follows `Link: rel="next"` only where it leads to the host that was asked, and is bounded.
//! - Times are the answering server's (`Date`, whole seconds); this module reads no clock of its own but for its deadlines.
//!
//! # Assumptions
//! - Runner descriptions are ours: `STACK-…` is what [`RegistrationRequest::description`] begins with.
//! - The token's user has the Maintainer role in each project (GitLab shows a project's runners to nobody less); a
//!   `read_api` token is enough to observe, `api` (or `create_runner`, `manage_runner` and `read_api`) to control.
//!
//! # Caveats
//! - GraphQL answers one who is not an administrator with an empty list of the instance's jobs instead of an error, which
//!   reads as "nothing is wanted". So `/user` is asked first, and the answer is partial unless it says `is_admin`.
//! - Of a group's project where group runners are switched off the jobs are counted all the same: no listing tells it.
//! - Which of a group's projects have work follows from the status of their pipelines, which GitLab brings up to date a
//!   moment after that of their jobs: a job may be seen a tick late.
//! - `online` means that the runner asked within the last two hours, not that it lives.
//! - A job being cancelled (`canceling`) still runs its `after_script`, and is not among the running ones; GitLab's
//!   `job_execution_status` counts it, so the two disagree and the runner is kept.
//! - Without configured projects, those where the token's user is at least Maintainer are read; a project whose jobs
//!   answer 403 there has CI switched off, and is passed over.
//!
//! # Errors
//! [`DemandError`], from HTTP status in one place (`demand/answer.rs`).

mod api;
mod check;
mod control;
mod gather;
mod graphql;
mod observe;
mod pages;
mod protection;
mod scope;
mod shared;
mod wire;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use jiff::SignedDuration;
use secrecy::SecretString;

use self::{
    api::Api,
    scope::{Home, Scope},
};
use super::{Cordoned, Demand, DemandError, Registration, RegistrationRequest, RunnerControl, RunnerReading};
use crate::{
    model::{
        demand::{Cursor, DemandSnapshot, PoolSelector},
        ids::{CiName, PoolName, RegistrationId, StackName},
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
    /// Project paths (`acme/app`) or ids; empty, without groups too: every project where the token's user is at least
    /// Maintainer.
    pub projects: Vec<String>,
    /// Full group paths (`acme`): all their projects, those of subgroups too.
    pub groups: Vec<String>,
    /// Every project of the instance.
    pub instance: bool,
    /// Tokens of runners that the machines of a pool share, by the pool's name.
    pub runner_tokens: BTreeMap<PoolName, SecretString>,
    /// How long after a pause a runner may still be handed a job.
    pub settle: SignedDuration,
}

/// One GitLab: see the module's contract.
pub struct Gitlab {
    api: Api,
    root: String,
    scope: Scope,
    /// As configured; empty: to be discovered.
    projects: Vec<String>,
    groups: Vec<String>,
    shared: shared::Tokens,
    /// The ids of the runners that these are the tokens of, once they have been asked for.
    shared_ids: tokio::sync::Mutex<BTreeMap<PoolName, u64>>,
    profile: ControlProfile,
    /// How many projects are read at a time.
    concurrency: usize,
    /// What new runners serve, once it has been read.
    served: tokio::sync::Mutex<Option<Home>>,
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
            scope: Scope::of(&config.projects, &config.groups, config.instance),
            projects: config.projects,
            groups: config.groups,
            shared: config.runner_tokens,
            shared_ids: tokio::sync::Mutex::default(),
            profile: ControlProfile {
                ci: config.name,
                cordon: CordonKind::Pause,
                settle: config.settle,
                lists_runners: true,
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
            .field("scope", &self.scope)
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
        self.observe_all(stack, pools, since).await
    }

    async fn check(&self) -> Result<Vec<Problem>, DemandError> {
        self.check_names().await
    }
}

#[async_trait]
impl RunnerControl for Gitlab {
    fn root(&self) -> &str {
        &self.root
    }

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
        self.forget_runner(runner).await
    }
}
