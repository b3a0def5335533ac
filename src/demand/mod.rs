//! The ports of a CI system: what it wants (read-only), and what may be done to its runners.

mod answer;
pub mod azure;
pub mod circleci;
pub mod drone;
pub mod gitlab;
pub mod program;
pub mod prometheus;
#[cfg(test)]
pub(crate) mod testing;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    model::{
        demand::{Cursor, DemandSnapshot, PoolSelector},
        ids::{RegistrationId, StackName},
        resource::ControlProfile,
    },
    provider::Problem,
};

/// What went wrong at a CI system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemandError {
    /// The token is not accepted, or may not do this.
    #[error("not authorised: {why}")]
    Unauthorized {
        /// The CI's words.
        why: String,
    },
    /// Too many requests, retries included.
    #[error("throttled")]
    Throttled {
        /// When to ask again.
        retry_after: Option<Duration>,
    },
    /// The request is wrong, or names what does not exist.
    #[error("rejected: {why}")]
    Rejected {
        /// The CI's words.
        why: String,
    },
    /// No answer, or a server's error, after retries. A write was certainly not done.
    #[error("unavailable: {why}")]
    Unavailable {
        /// What happened.
        why: String,
    },
    /// A write may have been done.
    #[error("the outcome is unknown: {why}")]
    Ambiguous {
        /// What happened.
        why: String,
    },
    /// The answer could not be understood.
    #[error("an answer that could not be understood: {why}")]
    Malformed {
        /// What, and where.
        why: String,
    },
}

/// What a CI system wants and which runners it knows. Read-only, so nothing on the plan's path can cordon.
#[async_trait]
pub trait Demand: fmt::Debug + Send + Sync {
    /// Reads jobs and runners. A part that fails makes the answer partial; errors only when nothing could be read.
    /// `stack` tells our runners by their description's beginning (`STACK-`).
    async fn observe(
        &self,
        stack: &StackName,
        pools: &[PoolSelector],
        since: &Cursor,
    ) -> Result<DemandSnapshot, DemandError>;

    /// Checks the token's rights and the names that the stack uses, for `validate --online`.
    async fn check(&self) -> Result<Vec<Problem>, DemandError>;
}

/// What a runner is registered as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationRequest {
    /// The machine's name in the cloud; unique, and how a lost answer's registration is found again.
    pub description: String,
    /// What it offers, and whether it takes jobs without tags.
    pub selector: PoolSelector,
}

/// A registration, fresh from the CI. The token is not kept anywhere but in the machine's user data.
#[derive(Debug)]
pub struct Registration {
    /// The CI's id of it.
    pub id: RegistrationId,
    /// What the machine joins with.
    pub token: SecretString,
    /// Where the machine finds the CI: the root URL.
    pub url: String,
    /// What the machine must call itself, where it shares the registration with others.
    pub system_id: Option<String>,
}

/// A cordon that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cordoned {
    /// When, by the CI's clock. A reading of jobs counts only if it began `settle` later.
    pub since: Timestamp,
}

/// What a reading of one runner's jobs said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerReading {
    /// How many jobs it runs; none when sources disagree or none says.
    pub jobs: Option<u32>,
    /// Whether it is paused, as the CI says.
    pub paused: bool,
}

/// What may be done to runners. All but `register` are idempotent.
#[async_trait]
pub trait RunnerControl: fmt::Debug + Send + Sync {
    /// How its cordon works.
    fn profile(&self) -> &ControlProfile;

    /// Where a runner finds the CI: the root URL, for what starts without a registration of ours (a container).
    fn root(&self) -> &str;

    /// Makes a registration for one machine, with a token for it alone.
    async fn register(&self, request: &RegistrationRequest) -> Result<Registration, DemandError>;

    /// Keeps a runner from taking new jobs.
    async fn cordon(&self, runner: &RegistrationId) -> Result<Cordoned, DemandError>;

    /// Lets it take jobs again.
    async fn uncordon(&self, runner: &RegistrationId) -> Result<(), DemandError>;

    /// Its jobs, read anew; none when the CI does not know the runner.
    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError>;

    /// Removes the registration. `Ok` when there is none.
    async fn forget(&self, runner: &RegistrationId) -> Result<(), DemandError>;
}
