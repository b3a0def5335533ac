//! Reading agent pools: who is in them, and what they have to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::{
    Azure,
    ask::Listed,
    fit::Offer,
    wire::{Agent, JobRequest, LINEAGE},
};
use crate::{
    demand::DemandError,
    model::{
        demand::{
            AgentPool, Cursor, DemandSnapshot, Job, JobState, PassedOver, PoolSelector, RunnerView, Wanted,
            description,
        },
        ids::{Lineage, RegistrationId, StackName},
        resource::Completeness,
    },
    net::Priority,
};

/// How long one observation may take in all: less than the three minutes between two ticks of the timer.
pub(super) const OBSERVATION: Duration = Duration::from_secs(120);
/// Agent pools that are read at a time. What a call costs is not published; two of them at a time stay far below the limit.
pub(super) const POOLS_AT_ONCE: usize = 2;
/// Words of failures that a partial answer repeats.
const TOLD: usize = 3;

/// Where an agent was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    /// The agent pool's id.
    pub(super) pool: u64,
    /// Whether it says that it is our stack's.
    pub(super) ours: bool,
}

/// The pools of the stack that one agent pool serves.
type Served<'a> = Vec<(&'a PoolSelector, &'a AgentPool)>;

/// What was read of one agent pool.
struct Reading {
    pool: u64,
    agents: Listed<Agent>,
    jobs: Listed<JobRequest>,
}

/// The parts of a snapshot, while it is put together.
#[derive(Default)]
struct Gathered {
    jobs: Vec<Job>,
    no_pool: u32,
    runners: BTreeMap<RegistrationId, RunnerView>,
    seats: BTreeMap<RegistrationId, BTreeSet<Seat>>,
    now: Option<Timestamp>,
    failures: Vec<(String, DemandError)>,
}

impl Gathered {
    /// The part, if it was read, with the time of its answer noted.
    fn part<T>(&mut self, key: &str, what: &str, part: Listed<T>) -> Option<(Vec<T>, Timestamp)> {
        match part {
            Ok((part, at)) => {
                self.now = self.now.max(Some(at));
                if let Some(why) = part.broken {
                    self.failures
                        .push((format!("{key}: {what}"), DemandError::Malformed { why }));
                }
                Some((part.rows, at))
            }
            Err(error) => {
                self.failures.push((format!("{key}: {what}"), error));
                None
            }
        }
    }

    fn take(&mut self, key: &str, served: &Served<'_>, reading: Reading, stack: &StackName) {
        let pool = reading.pool;
        let agents = self.part(key, "agents", reading.agents);
        let jobs = self.part(key, "jobs", reading.jobs);
        let (agents, seen) = agents.map_or((Vec::new(), None), |(agents, at)| (agents, Some(at)));
        let offers: Vec<Offer<'_>> = served
            .iter()
            .map(|(selector, agents)| Offer::of(selector, agents))
            .collect();
        for request in jobs.into_iter().flat_map(|(jobs, _)| jobs) {
            self.job(&request, &offers, &agents);
        }
        for agent in agents {
            let id = RegistrationId::from(agent.name.as_str());
            let ours = agent.is_of(stack.as_str());
            let (view, seat) = (view(&id, &agent, ours, seen), Seat { pool, ours });
            let others = self.seats.entry(id.clone()).or_default();
            let alone = others.is_empty();
            let known_ours = others.iter().any(|seat| seat.ours);
            others.insert(seat);
            if alone || (ours && !known_ours) {
                self.runners.insert(id, view);
            } else if ours == known_ours
                && let Some(known) = self.runners.get_mut(&id)
            {
                merge(known, &view);
            }
        }
    }

    fn job(&mut self, request: &JobRequest, offers: &[Offer<'_>], agents: &[Agent]) {
        let fitting = offers.iter().filter(|offer| offer.takes(request));
        let pools: Vec<_> = fitting.map(|offer| offer.pool.clone()).collect();
        let on = match request.state() {
            JobState::Queued => {
                // One that an agent is about to ask for: where that agent is gone it waits for another.
                let about_to = |agent: &&Agent| {
                    request.is_reserved_for(agent)
                        && agent.online() == Some(true)
                        && agent
                            .assigned_request
                            .as_ref()
                            .is_some_and(|given| given.request_id == request.request_id)
                };
                let on = agents.iter().find(about_to).map(|agent| agent.name.as_str());
                if pools.is_empty() && on.is_none() {
                    self.no_pool = self.no_pool.saturating_add(1);
                    return;
                }
                on
            }
            JobState::Running | JobState::Finished => {
                // By the list of agents where that has it: what is told with the job may be an old name.
                let known = agents.iter().find(|agent| request.is_reserved_for(agent));
                known.map(|agent| agent.name.as_str()).or(request.agent())
            }
        };
        self.jobs.push(request.job(pools, on.map(RegistrationId::from)));
    }

    fn completeness(&self) -> Completeness {
        if self.failures.is_empty() {
            return Completeness::Complete;
        }
        let told = self.failures.iter().take(TOLD);
        let mut words: Vec<String> = told.map(|(what, error)| format!("{what}: {error}")).collect();
        if let Some(more) = self.failures.len().checked_sub(TOLD).filter(|more| *more > 0) {
            words.push(format!("and {more} more"));
        }
        Completeness::partial(words.join("; "))
    }

    /// The first failure, as that of all.
    fn failure(mut self) -> DemandError {
        let (what, error) = self.failures.swap_remove(0);
        match error {
            DemandError::Rejected { why } => DemandError::Rejected {
                why: format!("{what}: {why}"),
            },
            error => error,
        }
    }
}

fn view(id: &RegistrationId, agent: &Agent, ours: bool, seen: Option<Timestamp>) -> RunnerView {
    let lineage = agent
        .capability(LINEAGE)
        .filter(|lineage| ours && !lineage.is_empty());
    let online = agent.online();
    RunnerView {
        registration: id.clone(),
        description: match lineage {
            Some(lineage) => description(&agent.name, &Lineage::from(lineage)),
            None => agent.name.clone(),
        },
        online,
        paused: !agent.enabled,
        last_contact: if online == Some(true) {
            seen
        } else {
            agent.changed_at()
        },
        busy: Some(agent.assigned_request.is_some()),
    }
}

/// Two agents of one name, of which it is not known which is meant: only what holds for both is said of them.
fn merge(known: &mut RunnerView, other: &RunnerView) {
    known.busy = match (known.busy, other.busy) {
        (Some(false), Some(false)) => Some(false),
        (Some(true), _) | (_, Some(true)) => Some(true),
        _ => None,
    };
    known.online = if known.online == Some(true) || other.online == Some(true) {
        Some(true)
    } else {
        known.online.and(other.online)
    };
    known.paused &= other.paused;
    known.last_contact = known.last_contact.max(other.last_contact);
    if known.description != other.description {
        known.description = known.machine().to_owned();
    }
}

impl Azure {
    pub(super) async fn observe_pools(
        &self,
        stack: &StackName,
        pools: &[PoolSelector],
    ) -> Result<DemandSnapshot, DemandError> {
        let calls = self.client.calls();
        let deadline = Instant::now() + OBSERVATION;
        let mut all = Gathered::default();
        let agent_pools = self.agent_pools_of(pools, deadline, &mut all).await;
        let ids: Vec<u64> = agent_pools.keys().copied().collect();
        let readings: Vec<Reading> = stream::iter(ids)
            .map(|pool| self.read_pool(pool, deadline))
            .buffered(POOLS_AT_ONCE)
            .collect()
            .await;
        for (reading, (key, served)) in readings.into_iter().zip(agent_pools.values()) {
            if matches!(&reading.agents, Err(DemandError::Rejected { .. })) {
                self.unlearn(key);
            }
            all.take(key, served, reading, stack);
        }
        self.remember(std::mem::take(&mut all.seats));
        let now = match all.now {
            Some(now) => now,
            None if all.failures.is_empty() => self.server_time(deadline).await?,
            None => return Err(all.failure()),
        };
        Ok(DemandSnapshot {
            ci: self.profile.ci.clone(),
            completeness: all.completeness(),
            wanted: Wanted::Jobs(all.jobs),
            runners: all.runners.into_values().collect(),
            cursor: Cursor::default(),
            now,
            calls: self.client.calls().saturating_sub(calls),
            control: self.profile.clone(),
            passed_over: match all.no_pool {
                0 => BTreeMap::new(),
                jobs => BTreeMap::from([(PassedOver::NoPool, jobs)]),
            },
            metrics: BTreeMap::new(),
        })
    }

    /// The agent pools that these pools name, by id, each with the pools that it serves in their order.
    async fn agent_pools_of<'a>(
        &self,
        pools: &'a [PoolSelector],
        deadline: Instant,
        all: &mut Gathered,
    ) -> BTreeMap<u64, (&'a str, Served<'a>)> {
        let mut known: BTreeMap<u64, (&str, Served<'_>)> = BTreeMap::new();
        for selector in pools {
            let Some(agents) = selector.agents.as_deref() else {
                let why = "it names no agent pool".to_owned();
                all.failures
                    .push((format!("pool {}", selector.pool), DemandError::Rejected { why }));
                continue;
            };
            let id = timeout_at(deadline, self.pool_id(&agents.pool)).await;
            match id.unwrap_or_else(|_| Err(late())) {
                Ok(id) => {
                    let served = known.entry(id).or_insert_with(|| (&agents.pool, Vec::new()));
                    served.1.push((selector, agents));
                }
                Err(error) => all.failures.push((agents.pool.clone(), error)),
            }
        }
        known
    }

    /// Agents first: a job that one is handed after they were seen is reserved for it in the list of jobs.
    async fn read_pool(&self, pool: u64, deadline: Instant) -> Reading {
        let agents = timeout_at(deadline, self.agents(pool, None, Priority::Normal)).await;
        let jobs = timeout_at(deadline, self.job_requests(pool, Priority::Normal)).await;
        Reading {
            pool,
            agents: agents.unwrap_or_else(|_| Err(late())),
            jobs: jobs.unwrap_or_else(|_| Err(late())),
        }
    }

    /// The server's clock, where there is no agent pool to ask for.
    async fn server_time(&self, deadline: Instant) -> Result<Timestamp, DemandError> {
        let asked = timeout_at(deadline, self.pools(None, false)).await;
        asked.map_err(|_| late())?.map(|(_, at)| at)
    }

    /// Notes where agents were seen.
    pub(super) fn remember(&self, seats: BTreeMap<RegistrationId, BTreeSet<Seat>>) {
        let mut known = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(seats);
    }
}

fn late() -> DemandError {
    DemandError::Unavailable {
        why: "the time that one observation may take is over".to_owned(),
    }
}
