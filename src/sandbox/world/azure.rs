//! The Azure DevOps of the world: an organisation with agent pools, the agents of each, and the requests for jobs.
//!
//! A request waits, is assigned to an agent that is online, enabled, free and fits its demands, is received by it, runs and
//! is finished. An agent runs one job at a time; one that runs once ends after it. Its registration outlives its process,
//! unless its set-up removes it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        scenario::{AgentPoolSpec, PatSpec, Scenario},
        userdata::Removes,
    },
    World,
};

/// The pool that every organisation has, and jobs are for that name none.
pub(super) const DEFAULT_POOL: &str = "Default";
/// The version that agents say they have.
pub(crate) const VERSION: &str = "4.261.0";
/// Agents that were removed are told of by lists that lag for so long.
pub(super) const REMEMBERED: SignedDuration = SignedDuration::from_mins(10);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Azure {
    pub(crate) organization: String,
    /// By id.
    pub(crate) pools: BTreeMap<u64, AgentPool>,
    pub(crate) agents: BTreeMap<u64, Agent>,
    /// Those that were removed lately.
    pub(super) removed: Vec<(Timestamp, Agent)>,
    pub(crate) requests: BTreeMap<u64, Request>,
    /// Requests that are assigned to nobody, the oldest first.
    pub(super) waiting: BTreeSet<u64>,
    /// Which agent runs on which machine.
    pub(super) by_host: BTreeMap<u64, u64>,
    /// Tokens besides the world's.
    pub(crate) tokens: Vec<PatSpec>,
    /// Every address that this organisation has had.
    pub(crate) urls: BTreeSet<String>,
    /// How much of the rate limit is used up, and when that was so.
    pub(crate) used: Option<(f64, Timestamp)>,
    next_agent: u64,
    pub(super) next_request: u64,
}

impl Default for Azure {
    fn default() -> Self {
        Self::new(&Scenario::default(), Timestamp::UNIX_EPOCH)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AgentPool {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Agent {
    pub(crate) id: u64,
    pub(crate) pool: u64,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    /// Its machine, while its process lives.
    pub(crate) host: Option<u64>,
    /// When that last began or ended.
    pub(crate) status_changed: Timestamp,
    /// It ended without a word, and is told to be online until then.
    pub(super) lingers: Option<Timestamp>,
    pub(crate) enabled: bool,
    pub(super) enabled_changed: Timestamp,
    pub(crate) system_capabilities: BTreeMap<String, String>,
    pub(crate) user_capabilities: BTreeMap<String, String>,
    pub(super) once: bool,
    pub(super) removes: Removes,
    pub(super) powers_off: bool,
    /// Takes no more jobs: it has been asked to end, or its one job is done.
    pub(super) draining: bool,
    /// It ends by itself.
    pub(super) leaving: bool,
    pub(crate) request: Option<u64>,
    pub(crate) last_request: Option<u64>,
}

impl Agent {
    pub(crate) fn is_online(&self, then: Timestamp) -> bool {
        self.lingers.is_some_and(|until| until > then)
            || if self.status_changed > then {
                self.host.is_none() && self.created <= then
            } else {
                self.host.is_some()
            }
    }

    pub(crate) fn was_enabled(&self, then: Timestamp) -> bool {
        self.enabled != (self.enabled_changed > then)
    }

    /// What a demand may ask of it: its capabilities, and what it says of itself.
    pub(crate) fn capability(&self, name: &str) -> Option<&str> {
        let own = self.system_capabilities.iter().chain(&self.user_capabilities);
        own.into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether it fits `NAME`, `NAME -equals VALUE` and `NAME -gtVersion VERSION`.
    pub(crate) fn fits(&self, demand: &str) -> bool {
        let mut words = demand.splitn(3, char::is_whitespace);
        let (name, how, value) = (words.next().unwrap_or_default(), words.next(), words.next());
        let Some(own) = self.capability(name) else {
            return false;
        };
        match (how, value.unwrap_or_default().trim()) {
            (None, _) => true,
            (Some("-equals"), value) => own.eq_ignore_ascii_case(value),
            (Some("-gtVersion"), value) => numbers(own) >= numbers(value),
            _ => false,
        }
    }
}

/// What every agent tells of itself.
pub(super) fn of_itself(name: &str) -> BTreeMap<String, String> {
    let told = [
        ("Agent.Name", name),
        ("Agent.ComputerName", name),
        ("Agent.Version", VERSION),
        ("Agent.OS", "Linux"),
        ("Agent.OSArchitecture", "X64"),
    ];
    told.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// `2.182.1` as numbers that compare.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RequestResult {
    Succeeded,
    Failed,
    Canceled,
    Abandoned,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) pool: u64,
    pub(crate) name: String,
    pub(crate) demands: Vec<String>,
    pub(crate) duration: SignedDuration,
    pub(crate) queued: Timestamp,
    pub(crate) assigned: Option<Timestamp>,
    pub(crate) received: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) result: Option<RequestResult>,
    pub(crate) agent: Option<u64>,
    /// The agent's name, which outlives it.
    pub(crate) agent_name: Option<String>,
    /// It was never queued: no agent of its pool could have run it.
    pub(crate) refused: bool,
}

impl Request {
    /// `pending`, `running`, `success`, `failed` or `canceled`, for the world's report.
    pub(crate) fn status(&self) -> &'static str {
        match (self.result, self.received) {
            (None, None) => "pending",
            (None, Some(_)) => "running",
            (Some(RequestResult::Succeeded), _) => "success",
            (Some(RequestResult::Canceled), _) => "canceled",
            (Some(RequestResult::Failed | RequestResult::Abandoned), _) => "failed",
        }
    }

    /// Whether an agent was reserved for it at `then`.
    pub(crate) fn held(&self, then: Timestamp) -> bool {
        self.assigned.is_some_and(|at| at <= then) && self.finished.is_none_or(|at| at > then)
    }
}

impl Azure {
    pub(crate) fn new(scenario: &Scenario, now: Timestamp) -> Self {
        let spec = &scenario.azure;
        let mut azure = Self {
            organization: spec.organization.clone(),
            pools: BTreeMap::new(),
            agents: BTreeMap::new(),
            removed: Vec::new(),
            requests: BTreeMap::new(),
            waiting: BTreeSet::new(),
            by_host: BTreeMap::new(),
            tokens: spec.tokens.clone(),
            urls: BTreeSet::new(),
            used: None,
            next_agent: 0,
            next_request: 0,
        };
        azure.pool(DEFAULT_POOL, now);
        for AgentPoolSpec { name, agents } in &spec.agent_pools {
            let pool = azure.pool(name, now);
            for agent in agents {
                let known = azure.put_agent(pool, &agent.name, now);
                if let Some(known) = azure.agents.get_mut(&known) {
                    known.user_capabilities.clone_from(&agent.capabilities);
                }
            }
        }
        azure
    }

    /// The id of the pool of this name; one that is not known comes to be.
    pub(super) fn pool(&mut self, name: &str, now: Timestamp) -> u64 {
        let known = self.pools.values().find(|pool| pool.name == name);
        if let Some(pool) = known {
            return pool.id;
        }
        let id = self.pools.len() as u64 + 1;
        let pool = AgentPool {
            id,
            name: name.to_owned(),
            created: now,
        };
        self.pools.insert(id, pool);
        id
    }

    pub(crate) fn agent_named(&self, pool: u64, name: &str) -> Option<&Agent> {
        let own = |agent: &&Agent| agent.pool == pool && agent.name.eq_ignore_ascii_case(name);
        self.agents.values().find(own)
    }

    /// Registers an agent that is not online.
    pub(crate) fn put_agent(&mut self, pool: u64, name: &str, now: Timestamp) -> u64 {
        self.next_agent += 1;
        let id = self.next_agent;
        let agent = Agent {
            id,
            pool,
            name: name.to_owned(),
            created: now,
            host: None,
            status_changed: now,
            lingers: None,
            enabled: true,
            enabled_changed: now,
            system_capabilities: of_itself(name),
            user_capabilities: BTreeMap::new(),
            once: false,
            removes: Removes::Never,
            powers_off: false,
            draining: false,
            leaving: false,
            request: None,
            last_request: None,
        };
        self.agents.insert(id, agent);
        id
    }

    /// The agents of a pool at `then`, ascending by id; those that were removed since then too.
    pub(crate) fn listed(&self, pool: u64, then: Timestamp) -> Vec<&Agent> {
        let gone = self.removed.iter().filter(|(at, _)| *at > then);
        let all = self.agents.values().chain(gone.map(|(_, agent)| agent));
        let mut listed: Vec<&Agent> = all
            .filter(|agent| agent.pool == pool && agent.created <= then)
            .collect();
        listed.sort_by_key(|agent| agent.id);
        listed
    }

    /// What an agent had to do at `then`.
    pub(crate) fn assigned(&self, agent: &Agent, then: Timestamp) -> Option<&Request> {
        let current = agent.request.and_then(|id| self.requests.get(&id));
        if let Some(request) = current.filter(|request| request.held(then)) {
            return Some(request);
        }
        let own = |request: &&Request| request.agent == Some(agent.id) && request.held(then);
        self.requests.values().rev().find(own)
    }

    pub(crate) fn is_connected(&self, host: u64) -> bool {
        self.by_host.contains_key(&host)
    }

    pub(crate) fn agent_of(&self, host: u64) -> Option<&Agent> {
        self.agents.get(self.by_host.get(&host)?)
    }

    pub(crate) fn running_on(&self, host: u64) -> usize {
        usize::from(self.agent_of(host).is_some_and(|agent| agent.request.is_some()))
    }

    /// The agent takes no more jobs.
    pub(super) fn drain(&mut self, host: u64) {
        let id = self.by_host.get(&host);
        if let Some(agent) = id.and_then(|id| self.agents.get_mut(id)) {
            agent.draining = true;
        }
    }

    pub(super) fn finish(&mut self, id: u64, result: RequestResult, now: Timestamp) {
        self.waiting.remove(&id);
        if let Some(request) = self.requests.get_mut(&id) {
            request.result = Some(result);
            request.finished = Some(now);
        }
    }
}

impl World {
    /// Whether a token is known, and whether it may manage agents.
    pub(crate) fn pat(&self, token: &str) -> Option<bool> {
        if token == self.token {
            return Some(true);
        }
        let known = self.azure.tokens.iter().find(|known| known.token == token)?;
        Some(known.manages())
    }
}
