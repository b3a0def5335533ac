//! No CI: machines that are scaled by what they tell of themselves.
//!
//! # Expected flow
//! [`Demand::observe`] is told the machines that the clouds list. It scrapes the exporter of each (do-agent, `node_exporter`,
//! whatever speaks Prometheus' text or OpenMetrics) and does the pool's health check, once; it asks a Prometheus server the
//! pools' questions in PromQL, each once. Each machine is its own runner: [`RunnerControl::register`] makes nothing, and the
//! registration is the machine's name.
//!
//! # Guarantees
//! - One machine that does not answer, or nonsense, is [`MachineMetrics::Unreachable`] and stops no other; the answer stays
//!   complete, since all machines are in it. It is not well then, and not idle where jobs are counted.
//! - A sample is one number or none: where several series have its name and labels, none of them is taken for it. The sample that
//!   counts jobs is the sum over all of its series.
//! - A question's answer is one number, or says why there is none.
//! - An observation ends within a minute, whatever does not answer.
//! - Exporters are asked over http without anything secret. A server's token goes over https or to this host only.
//!
//! # Assumptions
//! - The clouds' clock dates what is seen, since the machines have none that can be trusted; where no cloud answered, the
//!   server's, an exporter's, or ours.
//! - Nobody can be asked to keep work from such a machine. Its cordon is a note of ours, and what protects its jobs is the
//!   second reading of the sample that counts them, begun `settle` later. Where there is no such sample a machine
//!   runs no jobs that anybody knows of.
//!
//! # Caveats
//! - A load balancer that goes on sending work to a machine between that reading and its end sends it into nothing.
//! - An exporter that leaves a series out while its value is zero makes its machine's jobs unknown, and keeps the machine.
//!
//! # Errors
//! [`DemandError`], where there is only the server and it answers none of the questions. The scrape's are in the answer.
//!
//! [`MachineMetrics::Unreachable`]: crate::model::metrics::MachineMetrics::Unreachable

mod exporter;
mod observe;
mod query;
mod text;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::time::Instant;

use super::{
    Cordoned, Demand, DemandError, Registration, RegistrationRequest, RunnerControl, RunnerReading,
    answer::{Effect, unsent},
};
use crate::{
    apply::Clock,
    model::{
        demand::{Cursor, DemandSnapshot, PoolSelector},
        ids::{CiName, PoolName, RegistrationId, StackName},
        metrics::{MachineSeen, Measured},
        resource::{ControlProfile, CordonKind},
    },
    net::{Client, ClientConfig, plain::Plain},
    provider::Problem,
    stack::source::Scrape,
};

/// Machines asked at once: with the largest answer that is read, 128 MB.
const MACHINES_AT_ONCE: usize = 32;

/// How machines are asked.
pub struct PrometheusConfig {
    /// The source's key in the stack file.
    pub name: CiName,
    /// How each machine's exporter is asked; none: only the server is.
    pub scrape: Option<Scrape>,
    /// How the server is called, its base the root; none: there is none.
    pub server: Option<ClientConfig>,
    /// The root URL, which templates are told; may be empty.
    pub root: String,
    /// The pools' questions, for [`Demand::check`].
    pub questions: Vec<(PoolName, String)>,
    /// How long after a cordon a machine's jobs are read again.
    pub settle: SignedDuration,
    /// Our own clock, for when nobody else's is known.
    pub clock: Clock,
}

/// Machines without a CI: see the module's contract.
pub struct Prometheus {
    plain: Plain,
    scrape: Option<Scrape>,
    server: Option<Client>,
    root: String,
    questions: Vec<(PoolName, String)>,
    profile: ControlProfile,
    clock: Clock,
    known: Mutex<Known>,
}

/// What is remembered between two calls.
#[derive(Debug, Default)]
struct Known {
    /// The machines of the last observation.
    machines: BTreeMap<RegistrationId, MachineSeen>,
    /// Those that were cordoned and not uncordoned since.
    cordoned: BTreeSet<RegistrationId>,
    /// The time of the last observation, and when that was by a clock that is never set.
    observed: Option<(Timestamp, Instant)>,
}

impl Prometheus {
    /// A source; nothing is sent yet.
    ///
    /// # Errors
    /// When the server's or the proxy's address cannot be used, or a token would go over plain http.
    pub fn new(config: PrometheusConfig) -> Result<Self, DemandError> {
        let refused = |error| unsent(&error, Effect::Read);
        let proxy = config.scrape.as_ref().and_then(|scrape| scrape.proxy.as_deref());
        Ok(Self {
            plain: Plain::new(proxy, MACHINES_AT_ONCE).map_err(refused)?,
            server: config
                .server
                .map(Client::without_secret)
                .transpose()
                .map_err(refused)?,
            scrape: config.scrape,
            root: config.root,
            questions: config.questions,
            profile: ControlProfile {
                ci: config.name,
                cordon: CordonKind::Pause,
                settle: config.settle,
                lists_runners: true,
            },
            clock: config.clock,
            known: Mutex::default(),
        })
    }

    /// Calls so far: to machines, and to the server.
    fn calls(&self) -> u32 {
        self.plain.calls() + self.server.as_ref().map_or(0, Client::calls)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cordoned(&self, runner: &RegistrationId) -> bool {
        self.known().cordoned.contains(runner)
    }

    /// Notes where the machines are, for the reading of their jobs, and what time it is.
    fn remember(&self, pools: &[PoolSelector], now: Timestamp) {
        let metered = pools.iter().filter_map(|pool| pool.metering.as_ref());
        let machines = metered.flat_map(|metering| &metering.machines);
        let mut known = self.known();
        known.machines = machines
            .map(|machine| (machine.registration.clone(), machine.clone()))
            .collect();
        known.observed = Some((now, Instant::now()));
    }

    /// The time by the clock that dates observations.
    fn now(&self) -> Timestamp {
        let observed = self.known().observed;
        let now = observed.and_then(|(then, at)| {
            let since = SignedDuration::try_from(at.elapsed()).ok()?;
            then.checked_add(since).ok()
        });
        now.unwrap_or_else(|| self.clock.now())
    }
}

fn problem(place: String, what: String, hint: &str) -> Problem {
    Problem {
        place,
        what,
        hint: Some(hint.to_owned()),
    }
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus")
            .field("root", &self.root)
            .field("scrape", &self.scrape)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Demand for Prometheus {
    async fn observe(
        &self,
        _: &StackName,
        pools: &[PoolSelector],
        _: &Cursor,
    ) -> Result<DemandSnapshot, DemandError> {
        self.observe_pools(pools).await
    }

    /// Whether the server lets us in and understands the pools' questions. Machines there may be none yet.
    async fn check(&self) -> Result<Vec<Problem>, DemandError> {
        let Some(server) = &self.server else {
            return Ok(Vec::new());
        };
        let ci = &self.profile.ci;
        match query::ask(server, "vector(1)").await {
            Ok(_) => {}
            Err(DemandError::Unauthorized { why }) => {
                let what = format!("the server does not let us in: {why}");
                let hint = "give the token that its proxy wants: token = { env = \"PROMETHEUS_TOKEN\" }";
                return Ok(vec![problem(format!("ci.{ci}.token"), what, hint)]);
            }
            Err(DemandError::Rejected { why } | DemandError::Malformed { why }) => {
                let what = format!("what answers at {} is no Prometheus server: {why}", query::QUERY);
                let hint = "write the server's root, as a browser opens it, without /api/v1";
                return Ok(vec![problem(format!("ci.{ci}.url"), what, hint)]);
            }
            Err(error) => return Err(error),
        }
        let mut problems = Vec::new();
        for (pool, question) in &self.questions {
            if let (Measured::Missing { why }, _) = query::ask(server, question).await? {
                let what = format!("{question:?} has no number for an answer: {why}");
                let hint = "try it in the server's own page until it shows one number";
                problems.push(problem(format!("pools.{pool}.steps"), what, hint));
            }
        }
        Ok(problems)
    }
}

#[async_trait]
impl RunnerControl for Prometheus {
    fn root(&self) -> &str {
        &self.root
    }

    fn profile(&self) -> &ControlProfile {
        &self.profile
    }

    /// Nothing is made anywhere: a machine is known by its name, and joins nothing.
    async fn register(&self, request: &RegistrationRequest) -> Result<Registration, DemandError> {
        let machine = request.description.split(' ').next().unwrap_or_default();
        Ok(Registration {
            id: RegistrationId::from(machine),
            token: SecretString::default(),
            url: self.root.clone(),
            system_id: None,
        })
    }

    async fn cordon(&self, runner: &RegistrationId) -> Result<Cordoned, DemandError> {
        let since = self.now();
        self.known().cordoned.insert(runner.clone());
        Ok(Cordoned { since })
    }

    async fn uncordon(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.known().cordoned.remove(runner);
        Ok(())
    }

    /// The jobs that its machine tells now. They are not known where it does not answer or was never seen; there are none where
    /// no sample counts them.
    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError> {
        let (machine, paused) = {
            let known = self.known();
            let machine = known.machines.get(runner).cloned();
            (machine, known.cordoned.contains(runner))
        };
        let counted = self
            .scrape
            .as_ref()
            .and_then(|scrape| Some((scrape, scrape.jobs.as_deref()?)));
        let jobs = match (counted, machine) {
            (None, _) => Some(0),
            (Some((scrape, jobs)), Some(machine)) => {
                exporter::jobs(&self.plain, scrape, jobs, &machine).await
            }
            (Some(_), None) => None,
        };
        Ok(Some(RunnerReading { jobs, paused }))
    }

    /// There is nothing to remove.
    async fn forget(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.known().cordoned.remove(runner);
        Ok(())
    }
}
