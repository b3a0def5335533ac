//! How jobs of Azure DevOps get done: queued, assigned to agents, received, ended, killed with what they ran on.

use jiff::SignedDuration;

use super::{
    super::{
        scenario::JobSpec,
        userdata::{AzureSetup, Removes},
    },
    Event, World, add,
    azure::{Agent, DEFAULT_POOL, REMEMBERED, Request, RequestResult, of_itself},
    dice, sub,
};

impl World {
    pub(super) fn queue_requests(&mut self, spec: &JobSpec) -> Vec<u64> {
        let pool = self
            .azure
            .pool(spec.pool.as_deref().unwrap_or(DEFAULT_POOL), self.now);
        let mut demands = spec.demands.clone();
        demands.push("Agent.Version -gtVersion 2.182.1".to_owned());
        let nobody = !self.azure.agents.values().any(|agent| agent.pool == pool);
        let refused = self.settings.azure_needs_agent && nobody;
        let mut ids = Vec::new();
        for _ in 0..spec.count {
            self.azure.next_request += 1;
            let id = self.azure.next_request;
            ids.push(id);
            let request = Request {
                id,
                pool,
                name: spec.name.clone().unwrap_or_else(|| "job".to_owned()),
                demands: demands.clone(),
                duration: spec.duration,
                queued: self.now,
                assigned: None,
                received: None,
                finished: refused.then_some(self.now),
                result: refused.then_some(RequestResult::Failed),
                agent: None,
                agent_name: None,
                refused,
            };
            self.azure.requests.insert(id, request);
            if !refused {
                self.azure.waiting.insert(id);
            }
        }
        let due = self.after(self.settings.azure_assign);
        if due > self.now {
            self.schedule(due, Event::Assign);
        } else {
            self.assign_requests();
        }
        ids
    }

    /// The agent is there: it registers, in place of one of its name that is offline, and takes jobs.
    pub(super) fn start_agent(&mut self, host: u64, setup: AzureSetup) -> Result<(), String> {
        if !self.azure.urls.contains(&setup.organization_url) {
            return Err(format!(
                "its agent asks {}, which is not this organization",
                setup.organization_url
            ));
        }
        if !self.pat(&setup.pat).is_some_and(|manages| manages) {
            return Err("its agent's token may not register agents here".to_owned());
        }
        let known = self.azure.pools.values().find(|pool| pool.name == setup.pool);
        let pool = known
            .ok_or_else(|| format!("there is no agent pool {}", setup.pool))?
            .id;
        let own = self.with_instance(host, |instance| instance.name.to_owned());
        let name = setup.name.clone().or(own).unwrap_or_default();
        let id = match self.azure.agent_named(pool, &name) {
            Some(agent) if agent.host.is_some() => {
                return Err(format!("there is a session of an agent {name} already"));
            }
            Some(agent) => agent.id,
            None => self.azure.put_agent(pool, &name, self.now),
        };
        if let Some(agent) = self.azure.agents.get_mut(&id) {
            agent.host = Some(host);
            (agent.status_changed, agent.lingers) = (self.now, None);
            agent.system_capabilities = of_itself(&name);
            agent.system_capabilities.extend(setup.capabilities);
            (agent.once, agent.removes, agent.powers_off) = (setup.once, setup.removes, setup.powers_off);
            (agent.draining, agent.leaving) = (false, false);
        }
        self.azure.by_host.insert(host, id);
        self.assign_requests();
        Ok(())
    }

    /// Whether an agent may be given a job now. One that was disabled a moment ago may, by setting.
    fn takes(&self, agent: &Agent) -> bool {
        let noticed = SignedDuration::try_from(self.settings.azure_disable).unwrap_or(SignedDuration::ZERO);
        let disabled = !agent.enabled && add(agent.enabled_changed, noticed) <= self.now;
        agent.host.is_some() && agent.request.is_none() && !agent.draining && !disabled
    }

    /// Assigns what waits to who is free, the oldest first. Which agent is drawn from the seed.
    pub(super) fn assign_requests(&mut self) {
        let lag = SignedDuration::try_from(self.settings.azure_assign).unwrap_or(SignedDuration::ZERO);
        let mut free: Vec<&Agent> = self
            .azure
            .agents
            .values()
            .filter(|agent| self.takes(agent))
            .collect();
        let mut pairs = Vec::new();
        for id in &self.azure.waiting {
            let Some(request) = self.azure.requests.get(id) else {
                continue;
            };
            if free.is_empty() {
                break;
            }
            if add(request.queued, lag) > self.now {
                continue;
            }
            let fits = |agent: &&Agent| {
                agent.pool == request.pool && request.demands.iter().all(|demand| agent.fits(demand))
            };
            let fitting: Vec<u64> = free
                .iter()
                .filter(|agent| fits(agent))
                .map(|agent| agent.id)
                .collect();
            if fitting.is_empty() {
                continue;
            }
            #[expect(clippy::cast_possible_truncation, reason = "below the length of a list")]
            let at = (dice::bits(self.seed, *id, 0xa22e) % fitting.len() as u64) as usize;
            let chosen = fitting[at];
            free.retain(|agent| agent.id != chosen);
            pairs.push((*id, chosen));
        }
        for (request, agent) in pairs {
            self.assign_request(request, agent);
        }
    }

    fn assign_request(&mut self, id: u64, agent: u64) {
        let now = self.now;
        let (Some(request), Some(agent)) = (
            self.azure.requests.get_mut(&id),
            self.azure.agents.get_mut(&agent),
        ) else {
            return;
        };
        agent.request = Some(id);
        request.assigned = Some(now);
        (request.agent, request.agent_name) = (Some(agent.id), Some(agent.name.clone()));
        self.azure.waiting.remove(&id);
        let received = self.after(self.settings.azure_receive);
        if received > now {
            self.schedule(received, Event::Received { request: id });
        } else {
            self.request_received(id);
        }
    }

    pub(super) fn request_received(&mut self, id: u64) {
        let now = self.now;
        let Some(request) = self.azure.requests.get_mut(&id) else {
            return;
        };
        if request.result.is_none() {
            request.received = Some(now);
            let ends = add(now, request.duration);
            self.schedule(ends, Event::RequestDone { request: id });
        }
    }

    pub(super) fn request_done(&mut self, id: u64) {
        self.end_request(id, RequestResult::Succeeded);
    }

    /// Cancels a request that waits or runs; false where there is none.
    pub(crate) fn cancel_request(&mut self, id: u64) -> bool {
        self.end_request(id, RequestResult::Canceled)
    }

    /// Ends a request and frees its agent, which may end with it.
    fn end_request(&mut self, id: u64, result: RequestResult) -> bool {
        let Some(request) = self.azure.requests.get(&id) else {
            return false;
        };
        if request.result.is_some() {
            return false;
        }
        let agent = request.agent;
        self.azure.finish(id, result, self.now);
        let Some(agent) = agent.and_then(|agent| self.azure.agents.get_mut(&agent)) else {
            return true;
        };
        (agent.request, agent.last_request) = (None, Some(id));
        let (host, draining, once) = (agent.host, agent.draining, agent.once);
        match host {
            Some(host) if draining => self.shutdown_may_end(host),
            Some(host) if once => self.agent_ends(host),
            _ => self.assign_requests(),
        }
        true
    }

    /// The agent's process ends by itself. Its machine goes off with it, or starts it again.
    fn agent_ends(&mut self, host: u64) {
        let Some(id) = self.azure.by_host.get(&host).copied() else {
            return;
        };
        let Some(agent) = self.azure.agents.get_mut(&id) else {
            return;
        };
        if !agent.powers_off {
            self.assign_requests();
            return;
        }
        (agent.draining, agent.leaving) = (true, true);
        self.begin_shutdown(host);
    }

    /// Removes a registration; false where a job holds it. An agent that lives ends by that.
    pub(crate) fn remove_agent(&mut self, id: u64) -> bool {
        let Some(agent) = self.azure.agents.get(&id) else {
            return true;
        };
        if agent.request.is_some() {
            return false;
        }
        let host = agent.host.filter(|_| agent.powers_off);
        self.drop_agent(id);
        if let Some(host) = host {
            self.begin_shutdown(host);
        }
        true
    }

    fn drop_agent(&mut self, id: u64) {
        let Some(agent) = self.azure.agents.remove(&id) else {
            return;
        };
        if let Some(host) = agent.host {
            self.azure.by_host.remove(&host);
        }
        let remembered = sub(self.now, REMEMBERED);
        self.azure.removed.retain(|(at, _)| *at > remembered);
        self.azure.removed.push((self.now, agent));
    }

    /// Lets an agent take jobs, or not.
    pub(crate) fn enable_agent(&mut self, id: u64, enabled: bool) {
        let now = self.now;
        if let Some(agent) = self
            .azure
            .agents
            .get_mut(&id)
            .filter(|agent| agent.enabled != enabled)
        {
            (agent.enabled, agent.enabled_changed) = (enabled, now);
        }
        self.assign_requests();
    }

    /// The agent's process is gone, and its job with it. One that was asked to end says so, and removes itself where its
    /// set-up does; of one whose power was cut nothing is heard, and it is told to be online for a while.
    pub(super) fn halt_agent(&mut self, host: u64, asked: bool) {
        let Some(id) = self.azure.by_host.remove(&host) else {
            return;
        };
        let now = self.now;
        let lingers = self.after(self.settings.azure_offline);
        let Some(agent) = self.azure.agents.get_mut(&id) else {
            return;
        };
        agent.host = None;
        agent.status_changed = now;
        agent.lingers = (!asked && lingers > now).then_some(lingers);
        let request = agent.request.take();
        let removes = match agent.removes {
            Removes::Never => false,
            Removes::Asked => asked && !agent.leaving,
            Removes::Ends => asked,
        };
        if let Some(request) = request {
            self.jobs_killed += 1;
            self.azure.finish(request, RequestResult::Abandoned, now);
        }
        if removes {
            self.drop_agent(id);
        }
    }
}
