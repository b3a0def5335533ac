//! A CI of one's own: told, and controlled, by commands (`exec`) or at URLs (`http`).
//!
//! # Expected flow
//! [`Demand::observe`] asks for jobs or counts, and perhaps for runners, in one call; `answer.rs` says what may be
//! answered, and is published as docs/schemas/ci-demand.json. [`RunnerControl`] calls what the stack file names:
//! `register`, `cordon`, `uncordon`, `forget`, each optional. A reading of one runner's jobs is a demand that is asked for anew.
//! A command is handed the request as JSON on its input (docs/schemas/ci-request.json) and prints the answer; a URL is
//! asked for demand by GET, with `stack` and `cursor` in its query, and is sent all else by POST.
//!
//! # Guarantees
//! - An answer that is not what it should be is an error that names the place, never an empty queue.
//! - With a `cordon` the kind is [`CordonKind::Pause`]; without one it is [`CordonKind::Leaves`], and a machine goes only once it
//!   is switched off or has ended.
//! - A running job that names no runner keeps every runner that could run it.
//! - Where the answer tells no runners, one is ready when its machine runs, as with Drone.
//! - No secret is in a command's arguments: the CI's token is in its environment, `RUNFLEET_TOKEN`.
//! - What may have been done is [`DemandError::Ambiguous`]: a command that was killed for its time, or failed without a
//!   code that says that nothing was done.
//!
//! # Assumptions
//! - Without `register` a runner's id is its machine's name (in a group, its instance's id).
//! - `cordon`, `uncordon` and `forget` may be repeated, and what they are asked for may be gone already.
//! - Runners are read before jobs, so that a job that began meanwhile is seen.
//!
//! # Caveats
//! - A command has no clock but this computer's, unless its answer says `now`.
//! - A job that ended between two answers is told by neither, unless the program reads on from `cursor`.
//!
//! # Errors
//! [`DemandError`], from exit codes (`command.rs`) or HTTP status (`demand/answer.rs`).

mod answer;
mod command;
mod request;
mod seen;
mod web;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde_json::Value;

pub use self::web::resolve;
use self::{
    answer::DemandAnswer,
    command::Commands,
    request::{Act, Call, PoolWords, Request},
    seen::Rules,
    web::Web,
};
use super::{
    Cordoned, Demand, DemandError, Registration, RegistrationRequest, RunnerControl, RunnerReading,
    answer::Effect,
};
use crate::{
    model::{
        demand::{Cursor, DemandSnapshot, PoolSelector},
        ids::{CiName, PoolName, RegistrationId, StackName},
        resource::{ControlProfile, CordonKind},
    },
    net::ClientConfig,
    provider::Problem,
    stack::source,
};

/// Where it says what an answer looks like.
const GUIDE: &str = "docs/guides/any-ci.md says what it should answer";

/// How a CI of one's own is asked.
pub struct ProgramConfig {
    /// The CI's key in the stack file.
    pub name: CiName,
    /// The stack, whose name begins its machines' names.
    pub stack: StackName,
    /// The pools that it serves.
    pub pools: Vec<PoolSelector>,
    /// What is called.
    pub calls: source::Program,
    /// Its root, which machines are told and relative URLs begin with; empty where it has none.
    pub root: String,
    /// The stack file's folder, which commands run in.
    pub folder: PathBuf,
    /// How URLs are called; its base is not used.
    pub client: ClientConfig,
    /// Handed to commands as `RUNFLEET_TOKEN`.
    pub token: Option<SecretString>,
    /// How long after a cordon a runner may still be handed a job.
    pub settle: SignedDuration,
    /// What the runners of a pool join with, by the pool's name, where nothing registers them.
    pub tokens: BTreeMap<PoolName, SecretString>,
}

/// An answer, and when it was given.
#[derive(Clone, Debug)]
struct Reply {
    /// What was printed, or the body; may hold a secret, and nothing shows it.
    body: Body,
    /// By the answering server's clock; by ours for a command.
    at: Option<Timestamp>,
}

/// Bytes that no text shows.
#[derive(Clone)]
struct Body(Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

/// The way to whoever answers.
#[async_trait]
trait Transport: fmt::Debug + Send + Sync {
    /// Calls, and returns what was answered to a call that was done.
    async fn call(&self, request: &Request<'_>) -> Result<Reply, DemandError>;

    /// What can be told to be wrong with what is not called to look: the key that names it, and what is wrong.
    async fn faults(&self) -> Vec<(String, String)>;

    /// The key of a call in the stack file: `cordon`, `cordon_url`.
    fn key(&self, call: Call) -> String;
}

/// A CI that is asked by commands or at URLs: see the module's contract.
pub struct Program {
    name: CiName,
    stack: StackName,
    way: Box<dyn Transport>,
    has: Has,
    root: String,
    tokens: BTreeMap<PoolName, SecretString>,
    /// The pools as they were asked for last: those of groups that were found are known only then.
    pools: Mutex<Vec<PoolSelector>>,
    /// How far the clock that its answers are dated by is ahead of the transport's.
    ahead: Mutex<SignedDuration>,
    calls: AtomicU32,
    /// Whether the last answer told runners.
    lists: AtomicBool,
    listing: ControlProfile,
    silent: ControlProfile,
}

/// What can be called besides demand.
#[derive(Clone, Copy, Debug)]
struct Has {
    cordon: bool,
    register: bool,
    forget: bool,
}

impl Program {
    /// A client of it; nothing is called yet.
    ///
    /// # Errors
    /// When a URL cannot be used, or is neither https nor loopback.
    pub fn new(config: ProgramConfig) -> Result<Self, DemandError> {
        let calls = config.calls;
        let has = Has {
            cordon: calls.cordon.is_some(),
            register: calls.register.is_some(),
            forget: calls.forget.is_some(),
        };
        let way: Box<dyn Transport> = match &calls.demand {
            source::Call::Command(_) => Box::new(Commands::new(
                &config.name,
                &calls,
                config.folder,
                config.token.clone(),
            )),
            source::Call::Url(_) => Box::new(Web::new(&calls, &config.root, &config.client)?),
        };
        let listing = ControlProfile {
            ci: config.name.clone(),
            cordon: if has.cordon {
                CordonKind::Pause
            } else {
                CordonKind::Leaves
            },
            settle: config.settle,
            lists_runners: true,
        };
        let silent = ControlProfile {
            lists_runners: false,
            ..listing.clone()
        };
        Ok(Self {
            name: config.name,
            stack: config.stack,
            way,
            has,
            root: config.root.trim_end_matches('/').to_owned(),
            tokens: config.tokens,
            pools: Mutex::new(config.pools),
            ahead: Mutex::default(),
            calls: AtomicU32::new(0),
            lists: AtomicBool::new(false),
            listing,
            silent,
        })
    }

    async fn call(&self, act: Act<'_>) -> Result<Reply, DemandError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.way.call(&Request::new(&self.stack, act)).await
    }

    /// What is wanted now.
    async fn demand(
        &self,
        pools: &[PoolSelector],
        since: &Cursor,
        leaving: bool,
    ) -> Result<DemandSnapshot, DemandError> {
        let calls = self.calls.load(Ordering::Relaxed);
        let act = Act::Demand {
            pools: pools.iter().map(PoolWords::of).collect(),
            cursor: Some(since.0.as_str()).filter(|cursor| !cursor.is_empty()),
            leaving,
        };
        let reply = self.call(act).await?;
        let answer = DemandAnswer::read(&reply.body.0)?;
        let now = self.dated(answer.now, reply.at)?;
        let rules = Rules {
            stack: &self.stack,
            pools,
            registers: self.has.register,
            cordons: self.has.cordon,
        };
        let lists = answer.runners.is_some();
        let seen = rules.seen(answer)?;
        self.lists.store(lists, Ordering::Relaxed);
        Ok(DemandSnapshot {
            ci: self.name.clone(),
            wanted: seen.wanted,
            runners: seen.runners,
            completeness: seen.completeness,
            cursor: seen.cursor,
            now,
            calls: self.calls.load(Ordering::Relaxed).saturating_sub(calls),
            control: self.profile().clone(),
            passed_over: seen.passed_over,
            metrics: BTreeMap::new(),
        })
    }

    /// The time of an answer: its own, or else the transport's.
    fn dated(&self, said: Option<Timestamp>, at: Option<Timestamp>) -> Result<Timestamp, DemandError> {
        let now = said.or(at).ok_or_else(|| DemandError::Malformed {
            why: "an answer with neither `now` nor a Date header, which ages are measured by".to_owned(),
        })?;
        if let (Some(said), Some(at)) = (said, at) {
            *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = said.duration_since(at);
        }
        Ok(now)
    }

    /// A cordon's time by the clock that demand is dated by, where its own answer does not say it.
    fn since(&self, reply: &Reply) -> Result<Timestamp, DemandError> {
        let said = answer::done(&reply.body.0)?;
        let ahead = *self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let by_transport = reply.at.and_then(|at| at.checked_add(ahead).ok());
        said.or(by_transport).ok_or_else(|| DemandError::Ambiguous {
            why: "an answer with neither `now` nor a Date header".to_owned(),
        })
    }

    fn no_cordon(&self) -> DemandError {
        DemandError::Rejected {
            why: format!(
                "ci.{} has no `{}`: a runner of it leaves by itself",
                self.name,
                self.way.key(Call::Cordon)
            ),
        }
    }

    fn asked_pools(&self) -> Vec<PoolSelector> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn problem(&self, key: &str, what: String, hint: &str) -> Problem {
        Problem {
            place: format!("ci.{}.{key}", self.name),
            what,
            hint: Some(hint.to_owned()),
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.name)
            .field("way", &self.way)
            .field("has", &self.has)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Demand for Program {
    async fn observe(
        &self,
        _: &StackName,
        pools: &[PoolSelector],
        since: &Cursor,
    ) -> Result<DemandSnapshot, DemandError> {
        pools.clone_into(&mut self.pools.lock().unwrap_or_else(PoisonError::into_inner));
        self.demand(pools, since, false).await
    }

    async fn check(&self) -> Result<Vec<Problem>, DemandError> {
        let mut problems: Vec<Problem> = self
            .way
            .faults()
            .await
            .into_iter()
            .map(|(key, what)| {
                let hint = "a program with a `/` is looked for from the stack file's folder, others in $PATH";
                self.problem(&key, what, hint)
            })
            .collect();
        let key = self.way.key(Call::Demand);
        if problems
            .iter()
            .any(|problem| problem.place.ends_with(&format!(".{key}")))
        {
            return Ok(problems);
        }
        match self.demand(&self.asked_pools(), &Cursor::default(), false).await {
            Ok(_) => {}
            Err(DemandError::Unauthorized { why }) => {
                let hint = "look at `token`, and at what the environment holds for it";
                problems.push(self.problem("token", format!("`{key}` is not let in: {why}"), hint));
            }
            Err(DemandError::Rejected { why } | DemandError::Malformed { why }) => {
                problems.push(self.problem(&key, why, GUIDE));
            }
            Err(error) => return Err(error),
        }
        Ok(problems)
    }
}

#[async_trait]
impl RunnerControl for Program {
    fn root(&self) -> &str {
        &self.root
    }

    fn profile(&self) -> &ControlProfile {
        if self.lists.load(Ordering::Relaxed) {
            &self.listing
        } else {
            &self.silent
        }
    }

    async fn register(&self, request: &RegistrationRequest) -> Result<Registration, DemandError> {
        let pool = &request.selector.pool;
        let machine = request.description.split(' ').next().unwrap_or_default();
        let own = self.tokens.get(pool).cloned();
        if !self.has.register {
            return Ok(Registration {
                id: RegistrationId::from(machine),
                token: own.unwrap_or_default(),
                url: self.root.clone(),
                system_id: None,
            });
        }
        let act = Act::Register {
            pool: PoolWords::of(&request.selector),
            machine,
            description: &request.description,
        };
        let reply = self.call(act).await?;
        let made = answer::registration(&reply.body.0)?;
        Ok(Registration {
            id: made.id,
            token: made.token.or(own).unwrap_or_default(),
            url: made.url.unwrap_or_else(|| self.root.clone()),
            system_id: None,
        })
    }

    async fn cordon(&self, runner: &RegistrationId) -> Result<Cordoned, DemandError> {
        if !self.has.cordon {
            return Err(self.no_cordon());
        }
        let reply = self.call(Act::Cordon { runner }).await?;
        Ok(Cordoned {
            since: self.since(&reply)?,
        })
    }

    async fn uncordon(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        if !self.has.cordon {
            return Err(self.no_cordon());
        }
        self.call(Act::Uncordon { runner }).await.map(drop)
    }

    /// From demand that is asked for anew. None where it tells runners, and not this one.
    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError> {
        let pools = self.asked_pools();
        let snapshot = self.demand(&pools, &Cursor::default(), true).await?;
        Ok(seen::reading(&snapshot, &self.stack, &pools, runner))
    }

    async fn forget(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        if !self.has.forget {
            return Ok(());
        }
        self.call(Act::Forget { runner }).await.map(drop)
    }
}

/// The published schemas of what is asked and answered, by name.
pub fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("ci-request", request::schema()),
        ("ci-demand", answer::demand_schema()),
        ("ci-registration", answer::registration_schema()),
        ("ci-done", answer::done_schema()),
    ]
}

/// Whether a call changes something.
fn effect(call: Call) -> Effect {
    match call {
        Call::Demand => Effect::Read,
        Call::Register | Call::Cordon | Call::Uncordon | Call::Forget => Effect::Write,
    }
}
