//! CircleCI's self-hosted runners: how many tasks each resource class has, and which runners it knows.
//!
//! # Expected flow
//! A pool's one tag is the resource class that its runners serve. [`Demand::observe`] asks three things of each class: its
//! runners first, then its unclaimed and its running tasks, so that a task that was claimed meanwhile is seen.
//! [`RunnerControl::register`] makes nothing at CircleCI: a runner joins with its class's token and the name that it gives
//! itself, which is the machine's name (or, in a group, the instance's id).
//! Nothing can be done to a runner from outside: it ends by its own idle time-out, and its machine goes once it has.
//!
//! # Guarantees
//! - A class that cannot be read makes the answer partial; only when none can be read it is an error.
//! - A runner is idle only when its whole class runs nothing, by a count that was asked for after the runner was seen.
//!   While the class runs anything, whether this one does is not known.
//! - An answer without `items` or without its count is an error of that class, not a count of zero.
//! - Three calls per class, a few classes at a time: the API's limits are not published.
//! - Times are the answering server's (`Date`, whole seconds).
//!
//! # Assumptions
//! - A runner's name is its machine's name in the cloud, or its instance's id.
//! - One class is one pool's. Of several pools with one class the first has its tasks and runners.
//!
//! # Caveats
//! - Counts are of tasks: a job with parallelism 4 is four.
//! - Jobs have no ids here, so that lengths are not learnt.
//! - What CircleCI answers for a class that does not exist is not documented; an empty one looks the same.
//!
//! # Errors
//! [`DemandError`], from HTTP status in one place (`demand/answer.rs`).

mod check;
mod observe;
mod wire;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Mutex};

use async_trait::async_trait;
use jiff::SignedDuration;
use secrecy::SecretString;

use self::wire::Paths;
use super::{
    Cordoned, Demand, DemandError, Registration, RegistrationRequest, RunnerControl, RunnerReading,
    answer::{Effect, unsent},
};
use crate::{
    model::{
        demand::{Cursor, DemandSnapshot, PoolSelector},
        ids::{CiName, PoolName, RegistrationId, StackName},
        resource::{ControlProfile, CordonKind},
    },
    net::{Client, ClientConfig},
    provider::Problem,
    stack::CircleciApi,
};

/// Where CircleCI's runner API is, and what of it is ours.
pub struct CircleciConfig {
    /// The CI's key in the stack file.
    pub name: CiName,
    /// How it is called; its base is the root, its credential the header `circle-token`.
    pub client: ClientConfig,
    /// The root URL, which machines are told: `https://runner.circleci.com`.
    pub root: String,
    /// Which version of the API is asked.
    pub api: CircleciApi,
    /// How long after a reading a runner may still claim a task.
    pub settle: SignedDuration,
    /// The resource class of each pool that names one; groups that were found by tag tell theirs when they are observed.
    pub classes: BTreeMap<PoolName, String>,
    /// What the runners of a pool join with, by the pool's name.
    pub tokens: BTreeMap<PoolName, SecretString>,
}

/// One CircleCI: see the module's contract.
pub struct Circleci {
    client: Client,
    paths: &'static Paths,
    root: String,
    classes: BTreeMap<PoolName, String>,
    tokens: BTreeMap<PoolName, SecretString>,
    /// The class of each runner that was seen or registered, by its name.
    class_of: Mutex<BTreeMap<RegistrationId, String>>,
    profile: ControlProfile,
}

impl Circleci {
    /// A client for it; nothing is sent yet.
    ///
    /// # Errors
    /// When the address cannot be used, or is neither https nor loopback.
    pub fn new(config: CircleciConfig) -> Result<Self, DemandError> {
        Ok(Self {
            client: Client::new(config.client).map_err(|error| unsent(&error, Effect::Read))?,
            paths: wire::paths(config.api),
            root: config.root.trim_end_matches('/').to_owned(),
            classes: config.classes,
            tokens: config.tokens,
            class_of: Mutex::default(),
            profile: ControlProfile {
                ci: config.name,
                cordon: CordonKind::Leaves,
                settle: config.settle,
                lists_runners: true,
            },
        })
    }

    fn no_cordon(&self) -> DemandError {
        DemandError::Rejected {
            why: format!(
                "{}: CircleCI cannot keep one runner from new tasks; it leaves by its own idle time-out",
                self.profile.ci
            ),
        }
    }
}

impl fmt::Debug for Circleci {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circleci")
            .field("root", &self.root)
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Demand for Circleci {
    async fn observe(
        &self,
        _: &StackName,
        pools: &[PoolSelector],
        _: &Cursor,
    ) -> Result<DemandSnapshot, DemandError> {
        self.observe_classes(pools).await
    }

    async fn check(&self) -> Result<Vec<Problem>, DemandError> {
        self.check_classes().await
    }
}

#[async_trait]
impl RunnerControl for Circleci {
    fn root(&self) -> &str {
        &self.root
    }

    fn profile(&self) -> &ControlProfile {
        &self.profile
    }

    async fn register(&self, request: &RegistrationRequest) -> Result<Registration, DemandError> {
        let pool = &request.selector.pool;
        let token = self.tokens.get(pool).ok_or_else(|| DemandError::Rejected {
            why: format!(
                "pools.{pool}.runner_token is missing: its runners join with the token of their resource class"
            ),
        })?;
        let machine = request.description.split(' ').next().unwrap_or_default();
        let id = RegistrationId::from(machine);
        if let [class] = request.selector.tags.as_slice() {
            self.remember([(id.clone(), class.clone())]);
        }
        Ok(Registration {
            id,
            token: token.clone(),
            url: self.root.clone(),
            system_id: None,
        })
    }

    async fn cordon(&self, _: &RegistrationId) -> Result<Cordoned, DemandError> {
        Err(self.no_cordon())
    }

    async fn uncordon(&self, _: &RegistrationId) -> Result<(), DemandError> {
        Err(self.no_cordon())
    }

    /// No jobs when its class runs nothing; else not known.
    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError> {
        Ok(Some(RunnerReading {
            jobs: self.runs_nothing(runner).await?.then_some(0),
            paused: false,
        }))
    }

    /// There is nothing to remove: CircleCI forgets by itself a runner that does not ask.
    async fn forget(&self, _: &RegistrationId) -> Result<(), DemandError> {
        Ok(())
    }
}
