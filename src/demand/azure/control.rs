//! What is done to one agent: disable, enable, read, remove. It is looked up by its name each time, since its number may be another's
//! by now.

use std::{collections::BTreeSet, sync::PoisonError};

use jiff::Timestamp;

use super::{Azure, wire::Agent};
use crate::{
    demand::{Cordoned, DemandError, RunnerReading},
    model::{
        demand::JobState,
        ids::{PoolName, RegistrationId},
    },
    net::Priority,
};

/// The agents that a name means.
struct Meant {
    /// With their agent pool's id. More than one only where all say that they are ours.
    agents: Vec<(u64, Agent)>,
    /// Whether there are several, of which none says that it is ours.
    unclear: bool,
    /// The time of the first answer.
    now: Timestamp,
}

impl Azure {
    pub(super) async fn disable(&self, runner: &RegistrationId) -> Result<Cordoned, DemandError> {
        let mut meant = self.certain(runner).await?;
        if meant.agents.is_empty() {
            // It may be about to register itself, between our last look at it and the end of its machine. What it finds then is a
            // registration of its name that is disabled, which it takes over as it is.
            for key in self.pools_of(runner) {
                let pool = self.pool_id(key).await?;
                self.register_disabled(pool, runner.as_str()).await?;
            }
            meant = self.certain(runner).await?;
        }
        let mut since = meant.now;
        for (pool, agent) in meant.agents {
            since = since.max(self.turn(pool, agent.id, false).await?);
        }
        Ok(Cordoned { since })
    }

    pub(super) async fn enable(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        let meant = self.certain(runner).await?;
        if meant.agents.is_empty() {
            return Err(DemandError::Rejected {
                why: format!("there is no agent {runner}"),
            });
        }
        for (pool, agent) in meant.agents {
            self.turn(pool, agent.id, true).await?;
        }
        Ok(())
    }

    pub(super) async fn read_agent(
        &self,
        runner: &RegistrationId,
    ) -> Result<Option<RunnerReading>, DemandError> {
        let meant = self.meant(runner).await?;
        if meant.agents.is_empty() {
            return Ok(None);
        }
        let paused = meant.agents.iter().all(|(_, agent)| !agent.enabled);
        let mut jobs = Some(0_u32);
        for (pool, agent) in &meant.agents {
            // After the agent was read: what it was handed meanwhile is reserved for it here.
            let (requests, _) = self.job_requests(*pool, Priority::Delete).await?;
            let unfinished = requests
                .rows
                .iter()
                .filter(|request| request.state() != JobState::Finished && request.is_reserved_for(agent));
            let count = u32::try_from(unfinished.count()).unwrap_or(u32::MAX);
            // What cannot be understood may be its own.
            let known = count > 0 || (agent.assigned_request.is_none() && requests.broken.is_none());
            jobs = jobs.filter(|_| known).map(|jobs| jobs.saturating_add(count));
        }
        Ok(Some(RunnerReading {
            jobs: jobs.filter(|jobs| *jobs > 0 || !meant.unclear),
            paused: paused && !meant.unclear,
        }))
    }

    pub(super) async fn remove(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        let meant = self.certain(runner).await?;
        let several = meant.agents.len() > 1;
        for (pool, agent) in meant.agents {
            // Of several of one name the one that may be handed jobs lives: a name came back with a container's address.
            if several && agent.enabled && agent.online() != Some(false) {
                continue;
            }
            if let Some(request) = &agent.assigned_request {
                return Err(DemandError::Rejected {
                    why: format!(
                        "agent {runner} has job request {}, and is not removed before that has ended",
                        request.request_id
                    ),
                });
            }
            self.delete(pool, agent.id).await?;
        }
        Ok(())
    }

    /// The agent pools that an agent of this name would register in: that of its machine's pool, where its name begins with that
    /// pool's; else any of ours.
    fn pools_of(&self, runner: &RegistrationId) -> BTreeSet<&str> {
        let own = |pool: &PoolName| runner.as_str().starts_with(&format!("{}-{pool}-", self.stack));
        let keys = |all: bool| {
            let pools = self.agent_pools.iter();
            pools
                .filter(|(pool, _)| all || own(pool))
                .map(|(_, key)| key.as_str())
                .collect::<BTreeSet<_>>()
        };
        Some(keys(false))
            .filter(|own| !own.is_empty())
            .unwrap_or_else(|| keys(true))
    }

    /// The agents that a name means, where that is certain.
    async fn certain(&self, runner: &RegistrationId) -> Result<Meant, DemandError> {
        let meant = self.meant(runner).await?;
        if meant.unclear {
            return Err(DemandError::Rejected {
                why: format!(
                    "several agent pools have an agent {runner}, and none of them says by RUNFLEET_STACK that it is ours"
                ),
            });
        }
        Ok(meant)
    }

    /// The agents of this name: in the agent pools where it was seen last, else in all of ours.
    async fn meant(&self, runner: &RegistrationId) -> Result<Meant, DemandError> {
        let seats = {
            let known = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(runner).cloned().unwrap_or_default()
        };
        let ours = seats.iter().any(|seat| seat.ours);
        let seen = seats.iter().filter(|seat| seat.ours || !ours);
        let mut pools: BTreeSet<u64> = seen.map(|seat| seat.pool).collect();
        if pools.is_empty() {
            for key in self.agent_pools.values() {
                pools.insert(self.pool_id(key).await?);
            }
        }
        let mut all: Vec<(u64, Agent)> = Vec::new();
        let mut now = None;
        for pool in pools {
            let (found, at) = self.agents(pool, Some(runner.as_str()), Priority::Delete).await?;
            if let Some(why) = found.broken {
                return Err(DemandError::Malformed { why });
            }
            now = now.or(Some(at));
            let named = found.rows.into_iter();
            let named = named.filter(|agent| agent.name.eq_ignore_ascii_case(runner.as_str()));
            all.extend(named.map(|agent| (pool, agent)));
        }
        if all.iter().any(|(_, agent)| agent.is_of(self.stack.as_str())) {
            all.retain(|(_, agent)| agent.is_of(self.stack.as_str()));
            return self.with(all, false, now);
        }
        let unclear = all.len() > 1;
        self.with(all, unclear, now)
    }

    fn with(
        &self,
        agents: Vec<(u64, Agent)>,
        unclear: bool,
        now: Option<Timestamp>,
    ) -> Result<Meant, DemandError> {
        let now = now.ok_or_else(|| DemandError::Rejected {
            why: format!("ci.{}: no pool of the stack names an agent pool", self.profile.ci),
        })?;
        Ok(Meant { agents, unclear, now })
    }
}
