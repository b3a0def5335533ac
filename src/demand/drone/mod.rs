//! Drone, Enterprise edition: what its queue wants, and the pause of that queue under which a machine leaves.
//!
//! # Expected flow
//! [`Demand::observe`] reads the queue, one call: every stage that waits or runs, in order of id. A stage is given to the
//! runner that asks first and fits (`fit.rs`); those that the server holds back itself are no demand (`held.rs`).
//! [`RunnerControl::register`] makes nothing at Drone: a runner joins with the server's RPC secret and is known by the name
//! that it gives itself, which is the machine's name (or, in a group, the instance's id).
//! [`RunnerControl::cordon`] pauses the whole queue, whatever runner it is asked for; see `apply/pause_all.rs`.
//!
//! # Guarantees
//! - An answer that is no queue is an error, never an empty queue: an open-source build (501), a token that is no
//!   administrator's (403), a page of somebody else's.
//! - A row that cannot be understood makes the answer partial, and a reading of one runner's jobs unknown: it may have
//!   been that runner's.
//! - A stage that a runner has accepted and not begun counts as running on it: its status is `pending` still.
//! - Times are the answering server's (`Date`, whole seconds).
//!
//! # Assumptions
//! - A runner's `DRONE_RUNNER_NAME` is its machine's name in the cloud, or its instance's id.
//! - A stage that was handed out is accepted within the settle time: the server hands it over before it knows by whom it is
//!   run, and a pause does not take that back.
//!
//! # Caveats
//! - Drone lists no runners: one is ready when its machine runs.
//! - Nothing tells whether the queue is paused, nor by whom: resuming it lifts somebody else's pause too.
//! - The pause is in the server's memory: a restart of the server lifts it, and of several servers only the one that was
//!   asked is paused (harness/drone `scheduler/queue/queue.go`).
//! - A stage that has ended is in no list, so that lengths are not learnt.
//! - Stages that wait for others of their build (`depends_on`) are in no list either, until those have ended.
//!
//! # Errors
//! [`DemandError`], from HTTP status in one place (`demand/answer.rs`).

mod fit;
mod held;
mod wire;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use self::{
    fit::Offer,
    wire::{Queue, Stage},
};
use super::{
    Cordoned, Demand, DemandError, Registration, RegistrationRequest, RunnerControl, RunnerReading,
    answer::{self, Effect, accept, date, unsent},
};
use crate::{
    model::{
        demand::{Cursor, DemandSnapshot, Job, PassedOver, PoolSelector, Wanted},
        ids::{CiName, PoolName, RegistrationId, StackName},
        resource::{Completeness, ControlProfile, CordonKind},
    },
    net::{Client, ClientConfig, Priority, Reply, Request},
    provider::Problem,
};

/// The queue: read by GET, paused by DELETE, resumed by POST (harness/drone `handler/api/api.go`).
const QUEUE: &str = "/api/queue";

/// Where a Drone server is.
pub struct DroneConfig {
    /// The CI's key in the stack file.
    pub name: CiName,
    /// How it is called; its base is the root, its credential an administrator's token.
    pub client: ClientConfig,
    /// The root URL, which machines are told: `https://drone.example.com`.
    pub root: String,
    /// A stage that has waited for this long is no demand; none: no limit.
    pub pending_max: Option<SignedDuration>,
    /// A stage that has run for this long is stuck; none: no limit.
    pub running_max: Option<SignedDuration>,
    /// How long after a pause a stage may still turn up on a runner.
    pub settle: SignedDuration,
    /// What the runners of a pool join with, by the pool's name.
    pub rpc_secrets: BTreeMap<PoolName, SecretString>,
}

/// One Drone server: see the module's contract.
pub struct Drone {
    client: Client,
    root: String,
    limits: Limits,
    rpc_secrets: BTreeMap<PoolName, SecretString>,
    profile: ControlProfile,
}

/// How long a stage may wait and run.
#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    pending: Option<SignedDuration>,
    running: Option<SignedDuration>,
}

impl Limits {
    /// Whether a stage that waits has done so for too long.
    fn is_too_old(self, stage: &Stage, now: Timestamp) -> bool {
        is_past(self.pending, stage.waits_since(), now)
    }

    /// Whether a stage that runs has done so for too long.
    fn is_stuck(self, stage: &Stage, now: Timestamp) -> bool {
        is_past(self.running, stage.runs_since(), now)
    }
}

fn is_past(limit: Option<SignedDuration>, since: Option<Timestamp>, now: Timestamp) -> bool {
    limit
        .zip(since)
        .is_some_and(|(limit, since)| now.duration_since(since) >= limit)
}

impl Drone {
    /// A client for it; nothing is sent yet.
    ///
    /// # Errors
    /// When the address cannot be used, or is neither https nor loopback.
    pub fn new(config: DroneConfig) -> Result<Self, DemandError> {
        let client = Client::new(config.client).map_err(|error| unsent(&error, Effect::Read))?;
        Ok(Self {
            client,
            root: config.root.trim_end_matches('/').to_owned(),
            limits: Limits {
                pending: config.pending_max,
                running: config.running_max,
            },
            rpc_secrets: config.rpc_secrets,
            profile: ControlProfile {
                ci: config.name,
                cordon: CordonKind::PauseAll,
                settle: config.settle,
                lists_runners: false,
            },
        })
    }

    /// The queue as it is now, and the server's time.
    async fn queue(&self, priority: Priority) -> Result<(Queue, Timestamp), DemandError> {
        let mut request = Request::get(QUEUE);
        request.priority = priority;
        let reply = accept(answer::send(&self.client, request).await?, Effect::Read)?;
        let now = date(&reply)?;
        Ok((Queue::of(&reply)?, now))
    }

    /// Pauses or resumes; either may be repeated. All of these lead to a delete or end its pause, so they share its
    /// priority.
    async fn turn(&self, method: Method) -> Result<Reply, DemandError> {
        let mut request = Request::new(method, QUEUE);
        request.idempotent = true;
        request.priority = Priority::Delete;
        accept(answer::send(&self.client, request).await?, Effect::Write)
    }

    fn problem(&self, key: &str, what: String, hint: &str) -> Problem {
        Problem {
            place: format!("ci.{}.{key}", self.profile.ci),
            what,
            hint: Some(hint.to_owned()),
        }
    }
}

impl fmt::Debug for Drone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drone")
            .field("root", &self.root)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What a queue wants of these pools, and what it does not want though it waits.
fn wanted(
    queue: &Queue,
    limits: Limits,
    pools: &[PoolSelector],
    now: Timestamp,
) -> (Vec<Job>, BTreeMap<PassedOver, u32>) {
    let offers: Vec<Offer<'_>> = pools.iter().map(Offer::of).collect();
    let held = held::held(&queue.stages);
    let mut passed_over = BTreeMap::new();
    let mut jobs = Vec::with_capacity(queue.stages.len());
    for stage in &queue.stages {
        let fitting = offers.iter().filter(|offer| offer.takes(stage));
        let pools: Vec<PoolName> = fitting.map(|offer| offer.pool.clone()).collect();
        let why = if stage.is_taken() {
            None
        } else if held.contains(&stage.id) {
            Some(PassedOver::HeldBack)
        } else if limits.is_too_old(stage, now) {
            Some(PassedOver::TooOld)
        } else {
            pools.is_empty().then_some(PassedOver::NoPool)
        };
        match why {
            Some(why) => *passed_over.entry(why).or_default() += 1,
            None => jobs.push(stage.job(pools, stage.is_taken() && limits.is_stuck(stage, now))),
        }
    }
    (jobs, passed_over)
}

#[async_trait]
impl Demand for Drone {
    async fn observe(
        &self,
        _: &StackName,
        pools: &[PoolSelector],
        _: &Cursor,
    ) -> Result<DemandSnapshot, DemandError> {
        let calls = self.client.calls();
        let (queue, now) = self.queue(Priority::Normal).await?;
        let (jobs, passed_over) = wanted(&queue, self.limits, pools, now);
        Ok(DemandSnapshot {
            ci: self.profile.ci.clone(),
            wanted: Wanted::Jobs(jobs),
            runners: Vec::new(),
            completeness: match queue.broken() {
                Some(why) => Completeness::partial(why),
                None => Completeness::Complete,
            },
            cursor: Cursor::default(),
            now,
            calls: self.client.calls().saturating_sub(calls),
            control: self.profile.clone(),
            passed_over,
            metrics: BTreeMap::new(),
        })
    }

    async fn check(&self) -> Result<Vec<Problem>, DemandError> {
        let reply = answer::send(&self.client, Request::get(QUEUE)).await?;
        let said = reply.status;
        let problem = match said {
            StatusCode::UNAUTHORIZED => self.problem(
                "token",
                "the server does not accept the token".to_owned(),
                "copy an administrator's token from their account page in Drone",
            ),
            StatusCode::FORBIDDEN => self.problem(
                "token",
                "the token's user is no administrator, and only those may see and pause the queue".to_owned(),
                "use an administrator's token, or make the user one: drone user update NAME --admin",
            ),
            StatusCode::NOT_IMPLEMENTED => self.problem(
                "url",
                "the server is an open-source build, whose queue can be neither read nor paused".to_owned(),
                "run the Enterprise edition, as the image drone/drone has it",
            ),
            StatusCode::NOT_FOUND => self.problem(
                "url",
                format!("there is no Drone server: {QUEUE} answers 404"),
                "write the server's root, as a browser opens it",
            ),
            _ => match accept(reply, Effect::Read).map(|reply| Queue::of(&reply)) {
                Ok(Ok(_)) => return Ok(Vec::new()),
                Ok(Err(error)) => self.problem(
                    "url",
                    format!("what answers at {QUEUE} is no Drone server: {error}"),
                    "write the server's root, as a browser opens it",
                ),
                Err(error) => return Err(error),
            },
        };
        Ok(vec![problem])
    }
}

#[async_trait]
impl RunnerControl for Drone {
    fn root(&self) -> &str {
        &self.root
    }

    fn profile(&self) -> &ControlProfile {
        &self.profile
    }

    async fn register(&self, request: &RegistrationRequest) -> Result<Registration, DemandError> {
        let pool = &request.selector.pool;
        let token = self.rpc_secrets.get(pool).ok_or_else(|| DemandError::Rejected {
            why: format!("pools.{pool}.runner_token is missing: its runners join with Drone's RPC secret"),
        })?;
        let machine = request.description.split(' ').next().unwrap_or_default();
        Ok(Registration {
            id: RegistrationId::from(machine),
            token: token.clone(),
            url: self.root.clone(),
            system_id: None,
        })
    }

    async fn cordon(&self, _: &RegistrationId) -> Result<Cordoned, DemandError> {
        let reply = self.turn(Method::DELETE).await?;
        Ok(Cordoned { since: date(&reply)? })
    }

    async fn uncordon(&self, _: &RegistrationId) -> Result<(), DemandError> {
        self.turn(Method::POST).await.map(drop)
    }

    /// The stages that this runner has accepted, without those that are stuck: a machine with only such is let go once it
    /// was condemned twice. It is never said to be paused, since Drone does not tell.
    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError> {
        let (queue, now) = self.queue(Priority::Delete).await?;
        let own = queue.stages.iter().filter(|stage| {
            stage.machine == runner.as_str() && stage.is_taken() && !self.limits.is_stuck(stage, now)
        });
        let jobs = u32::try_from(own.count()).unwrap_or(u32::MAX);
        // What cannot be understood may be one of its own.
        let known = jobs > 0 || queue.broken().is_none();
        Ok(Some(RunnerReading {
            jobs: known.then_some(jobs),
            paused: false,
        }))
    }

    /// There is nothing to remove: a runner that does not ask is not known.
    async fn forget(&self, _: &RegistrationId) -> Result<(), DemandError> {
        Ok(())
    }
}
