//! Azure DevOps: the jobs of its agent pools, and the agents in them.
//!
//! # Expected flow
//! A pool of the stack names one agent pool (`agent_pool`) and what its agents can do (`capabilities`); several may name the same.
//! [`Demand::observe`] asks two things of each agent pool: its agents first, then its unfinished job requests, so that a job that an
//! agent was handed meanwhile is seen. [`RunnerControl::register`] makes nothing: an agent registers itself with a token that it shares
//! with others, under its machine's name or its container's. It is retired by the cordon `Pause`: disabled, and once the job requests
//! and the agent itself say that it has nothing, its machine is deleted and its registration removed.
//!
//! # Guarantees
//! - A registration's id is the agent's name, which is unique in its agent pool. Where two agent pools have one of that name, the one
//!   that says that it is this stack's (capability `RUNFLEET_STACK`) is meant; if none does, nothing is done to either.
//! - An agent is idle only when it says so itself and no job request is reserved for it.
//! - Waiting and running jobs are told apart by whether an agent has received them; what has a result is finished, cancelled or not.
//! - An agent that is at work is not removed: what the service would do to its job is not documented.
//! - An agent pool that cannot be read makes the answer partial; only when none can be read it is an error.
//! - Where the service slows us down (`X-RateLimit-Delay`, `Retry-After`, `X-RateLimit-Remaining: 0`) the next calls wait as it asks.
//! - A page to sign in on, which is how a bad token is answered, is [`DemandError::Unauthorized`].
//! - Times are the answering server's (`Date`, whole seconds).
//!
//! # Assumptions
//! - Agents run one job at a time, as all of them do.
//! - Ours say in the environment variables that they are started with whose they are; the agent tells these as capabilities.
//!
//! # Caveats
//! - `jobrequests` is in no published description. It is asked as others do that have lived on it for years (KEDA; the replaced
//!   system), with `completedRequestCount=0`, which leaves out what has ended: lengths of jobs are not learnt.
//! - A job is matched by what the stack file says, not by what agents said: a demand that the stack file does not name is passed over.
//! - An agent that has not registered yet is disabled by a registration of its name that is disabled and that it takes over. That the
//!   service takes a registration without a key of its agent's is not documented; where it does not, such an agent could be handed
//!   a job in the moment in which its machine, which never became ready in time, is deleted.
//!
//! # Errors
//! [`DemandError`], from HTTP status in one place (`demand/answer.rs`).

mod ask;
mod check;
mod control;
mod fit;
mod observe;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Mutex,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::SignedDuration;
use secrecy::{ExposeSecret as _, SecretString};

use self::observe::Seat;
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
    net::{Auth, Client, ClientConfig},
    provider::Problem,
    stack::AzureAuth,
};

/// Where an organisation of Azure DevOps is, and what of it is ours.
pub struct AzureConfig {
    /// The CI's key in the stack file.
    pub name: CiName,
    /// The stack's name, by which our agents are told from others.
    pub stack: StackName,
    /// How it is called; its base is the root, its credential made by [`auth`].
    pub client: ClientConfig,
    /// The organisation's root, which machines are told: `https://dev.azure.com/acme`.
    pub root: String,
    /// How long after it was disabled an agent may still be handed a job.
    pub settle: SignedDuration,
    /// The agent pool of each pool of the stack, by name or id.
    pub agent_pools: BTreeMap<PoolName, String>,
    /// What the machines of a pool register with, by the pool's name.
    pub tokens: BTreeMap<PoolName, SecretString>,
}

/// How a token is sent: a personal access token as the password of nobody, one of Entra ID as bearer.
pub fn auth(kind: AzureAuth, token: SecretString) -> Auth {
    match kind {
        AzureAuth::Pat => Auth::Header {
            name: "authorization",
            value: SecretString::from(format!(
                "Basic {}",
                STANDARD.encode(format!(":{}", token.expose_secret()))
            )),
        },
        AzureAuth::Entra => Auth::Bearer(token),
    }
}

/// One organisation of Azure DevOps: see the module's contract.
pub struct Azure {
    client: Client,
    stack: StackName,
    root: String,
    agent_pools: BTreeMap<PoolName, String>,
    tokens: BTreeMap<PoolName, SecretString>,
    /// The ids of agent pools, by what the stack file calls them.
    ids: Mutex<BTreeMap<String, u64>>,
    /// In which agent pools each agent was seen last, by its name.
    seats: Mutex<BTreeMap<RegistrationId, BTreeSet<Seat>>>,
    profile: ControlProfile,
}

impl Azure {
    /// A client for it; nothing is sent yet.
    ///
    /// # Errors
    /// When the address cannot be used, or is neither https nor loopback.
    pub fn new(config: AzureConfig) -> Result<Self, DemandError> {
        Ok(Self {
            client: Client::new(config.client).map_err(|error| unsent(&error, Effect::Read))?,
            stack: config.stack,
            root: config.root.trim_end_matches('/').to_owned(),
            agent_pools: config.agent_pools,
            tokens: config.tokens,
            ids: Mutex::default(),
            seats: Mutex::default(),
            profile: ControlProfile {
                ci: config.name,
                cordon: CordonKind::Pause,
                settle: config.settle,
                lists_runners: true,
            },
        })
    }
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Azure")
            .field("root", &self.root)
            .field("agent_pools", &self.agent_pools)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Demand for Azure {
    async fn observe(
        &self,
        stack: &StackName,
        pools: &[PoolSelector],
        _: &Cursor,
    ) -> Result<DemandSnapshot, DemandError> {
        self.observe_pools(stack, pools).await
    }

    async fn check(&self) -> Result<Vec<Problem>, DemandError> {
        self.check_pools().await
    }
}

#[async_trait]
impl RunnerControl for Azure {
    fn root(&self) -> &str {
        &self.root
    }

    fn profile(&self) -> &ControlProfile {
        &self.profile
    }

    async fn register(&self, request: &RegistrationRequest) -> Result<Registration, DemandError> {
        let pool = &request.selector.pool;
        let token = self.tokens.get(pool).ok_or_else(|| DemandError::Rejected {
            why: format!("pools.{pool}.runner_token is missing: its machines' agents register with a token of their own"),
        })?;
        let machine = request.description.split(' ').next().unwrap_or_default();
        Ok(Registration {
            id: RegistrationId::from(machine),
            token: token.clone(),
            url: self.root.clone(),
            system_id: None,
        })
    }

    async fn cordon(&self, runner: &RegistrationId) -> Result<Cordoned, DemandError> {
        self.disable(runner).await
    }

    /// # Errors
    /// [`DemandError::Rejected`] too where there is no such agent.
    async fn uncordon(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.enable(runner).await
    }

    /// What is reserved for it, by the job requests and by itself; none where they disagree, or where it is not certain which agent
    /// is meant.
    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError> {
        self.read_agent(runner).await
    }

    /// Removes the agent, unless it is at work.
    ///
    /// # Errors
    /// [`DemandError::Rejected`] too where it has a job.
    async fn forget(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.remove(runner).await
    }
}
