//! The Drone of the world: builds of stages, the queue that hands them out, the runners that wait for them.
//!
//! It hands out as the server does (`scheduler/queue/queue.go`): whenever something changes, through the incomplete
//! stages in the order of their ids, to any runner that fits. A stage whose runner is gone stays in the queue as it is
//! until the server gives it up.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    super::{
        scenario::{JobSpec, Scenario},
        userdata::DroneSetup,
    },
    Event, World, add, dice,
    stage::{Need, Stage, StageStatus},
};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Drone {
    /// No stage is handed out.
    pub(crate) paused: bool,
    /// What runners authenticate with; without, it follows from the world's token.
    secret: Option<String>,
    /// Every address that this Drone has had.
    pub(crate) urls: BTreeSet<String>,
    /// Ids by `owner/name`.
    repos: BTreeMap<String, u64>,
    /// Runners, by the number of their machine.
    pub(crate) agents: BTreeMap<u64, Agent>,
    pub(crate) stages: BTreeMap<u64, Stage>,
    /// Builds by repository and the name that they were given.
    builds: BTreeMap<String, u64>,
    next_stage: u64,
    pub(crate) next_build: u64,
    /// Stages that the server lists: pending or running.
    #[serde(skip)]
    incomplete: BTreeSet<u64>,
    #[serde(skip)]
    by_build: BTreeMap<u64, Vec<u64>>,
}

/// A runner that waits for stages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) setup: DroneSetup,
    /// Takes no more; its machine is shutting down.
    draining: bool,
    /// What it was handed and has not finished.
    pub(crate) running: BTreeSet<u64>,
}

impl Agent {
    fn has_slot(&self) -> bool {
        !self.draining && self.running.len() < self.setup.capacity as usize
    }
}

impl Drone {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            secret: scenario.drone.rpc_secret.clone(),
            ..Self::default()
        }
    }

    pub(crate) fn reindex(&mut self) {
        let listed = self.stages.values().filter(|stage| stage.status.is_listed());
        self.incomplete = listed.map(|stage| stage.id).collect();
        self.by_build.clear();
        for stage in self.stages.values() {
            self.by_build.entry(stage.build).or_default().push(stage.id);
        }
    }

    pub(crate) fn repo_count(&self) -> usize {
        self.repos.len()
    }

    pub(crate) fn running_on(&self, host: u64) -> usize {
        self.agents.get(&host).map_or(0, |agent| agent.running.len())
    }

    /// The runner takes no more stages.
    pub(super) fn drain(&mut self, host: u64) {
        if let Some(agent) = self.agents.get_mut(&host) {
            agent.draining = true;
        }
    }

    /// The stages that the server lists at `then`, ascending by id; without, those of now.
    pub(crate) fn listed(&self, then: Option<Timestamp>) -> Vec<(&Stage, StageStatus)> {
        let Some(then) = then else {
            let now = self.incomplete.iter().filter_map(|id| self.stages.get(id));
            return now.map(|stage| (stage, stage.status)).collect();
        };
        self.stages
            .values()
            .filter_map(|stage| Some((stage, stage.status_at(then)?)))
            .filter(|(_, status)| status.is_listed())
            .collect()
    }

    /// Changes a stage with the index kept.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Stage)) {
        let Some(stage) = self.stages.get_mut(&id) else {
            return;
        };
        change(stage);
        stage.version += 1;
        if stage.status.is_listed() {
            self.incomplete.insert(id);
        } else {
            self.incomplete.remove(&id);
        }
    }

    /// Whether the stage's own limit, or its repository's, leaves room for it. Stages that were made before it count
    /// although they wait.
    fn has_room(&self, stage: &Stage) -> bool {
        if stage.limit == 0 && stage.throttle == 0 {
            return true;
        }
        let (mut alike, mut earlier) = (0, 0);
        let others = self.incomplete.iter().filter_map(|id| self.stages.get(id));
        for other in others.filter(|other| other.repo_id == stage.repo_id && other.id != stage.id) {
            let counts = other.id < stage.id || other.status == StageStatus::Running;
            alike += u32::from(counts && other.name == stage.name);
            earlier += u32::from(other.id < stage.id);
        }
        (stage.limit == 0 || alike < stage.limit) && (stage.throttle == 0 || earlier < stage.throttle)
    }

    /// The build that a new stage is of: the named one; the newest of its repository where it depends on another stage;
    /// else its own.
    fn build_of(&mut self, spec: &JobSpec, repo: &str) -> u64 {
        let newest = || {
            let of_repo = self.stages.values().filter(|stage| stage.repo == repo);
            of_repo.map(|stage| stage.build).max()
        };
        let joined = match &spec.build {
            Some(name) => self.builds.get(&format!("{repo}#{name}")).copied(),
            None if !spec.depends_on.is_empty() => newest(),
            None => None,
        };
        let build = joined.unwrap_or_else(|| {
            self.next_build += 1;
            self.next_build
        });
        if let Some(name) = &spec.build {
            self.builds.insert(format!("{repo}#{name}"), build);
        }
        build
    }

    fn put(&mut self, spec: &JobSpec, now: Timestamp) -> (u64, u64) {
        let repo = spec.repo.clone().unwrap_or_else(|| "acme/app".to_owned());
        let build = self.build_of(spec, &repo);
        let fresh = self.repos.len() as u64 + 1;
        let repo_id = *self.repos.entry(repo.clone()).or_insert(fresh);
        self.next_stage += 1;
        let id = self.next_stage;
        let of_build = self.by_build.entry(build).or_default();
        of_build.push(id);
        let number = of_build.len() as u64;
        let or = |text: &Option<String>, default: &str| text.clone().unwrap_or_else(|| default.to_owned());
        let stage = Stage {
            id,
            repo,
            repo_id,
            build,
            number,
            name: or(&spec.name, "default"),
            need: Need {
                kind: or(&spec.kind, "docker"),
                os: or(&spec.os, "linux"),
                arch: or(&spec.arch, "amd64"),
                variant: or(&spec.variant, ""),
                kernel: or(&spec.kernel, ""),
                labels: spec.labels.clone(),
            },
            limit: spec.limit,
            throttle: spec.throttle,
            depends_on: spec.depends_on.clone(),
            duration: spec.duration,
            status: StageStatus::WaitingOnDependencies,
            created: now,
            queued: None,
            accepted: None,
            started: None,
            stopped: None,
            version: 1,
            host: None,
            lost: None,
        };
        self.stages.insert(id, stage);
        (id, build)
    }

    /// The waiting stages of a build whose dependencies are all done become pending, or are skipped where a stage of the
    /// build failed.
    fn release(&mut self, build: u64, now: Timestamp) {
        let ids = self.by_build.get(&build).into_iter().flatten();
        let of_build: Vec<&Stage> = ids.filter_map(|id| self.stages.get(id)).collect();
        let failed = of_build.iter().any(|stage| stage.status == StageStatus::Killed);
        let ready: Vec<u64> = of_build
            .iter()
            .filter(|stage| stage.status == StageStatus::WaitingOnDependencies)
            .filter(|stage| {
                of_build
                    .iter()
                    .all(|other| !stage.depends_on.contains(&other.name) || other.is_done())
            })
            .map(|stage| stage.id)
            .collect();
        for id in ready {
            self.change(id, |stage| {
                if failed && !stage.depends_on.is_empty() {
                    stage.status = StageStatus::Skipped;
                    (stage.started, stage.stopped) = (Some(now), Some(now));
                } else {
                    stage.status = StageStatus::Pending;
                    stage.queued = Some(now);
                }
            });
        }
    }

    /// The stages that can be handed out now, each with its machine. Which of those that fit is drawn from the seed: the
    /// server walks a map without order.
    fn matches(&self, seed: u64) -> Vec<(u64, u64)> {
        let mut free: BTreeMap<u64, usize> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.has_slot())
            .map(|(host, agent)| (*host, agent.setup.capacity as usize - agent.running.len()))
            .collect();
        let mut found = Vec::new();
        let mut hopeless: HashSet<&Need> = HashSet::new();
        for stage in self.incomplete.iter().filter_map(|id| self.stages.get(id)) {
            if free.is_empty() {
                break;
            }
            let waits = stage.status == StageStatus::Pending && stage.host.is_none();
            if !waits || hopeless.contains(&stage.need) || !self.has_room(stage) {
                continue;
            }
            let fits = |host: &&u64| {
                self.agents
                    .get(*host)
                    .is_some_and(|agent| stage.need.fits(&agent.setup))
            };
            let fitting: Vec<u64> = free.keys().filter(fits).copied().collect();
            if fitting.is_empty() {
                hopeless.insert(&stage.need);
                continue;
            }
            #[expect(clippy::cast_possible_truncation, reason = "below the length of a list")]
            let host = fitting[(dice::bits(seed, stage.id, 0xd20e) % fitting.len() as u64) as usize];
            found.push((stage.id, host));
            if let Some(slots) = free.get_mut(&host) {
                *slots -= 1;
                if *slots == 0 {
                    free.remove(&host);
                }
            }
        }
        found
    }
}

impl World {
    /// What this Drone's runners authenticate with.
    pub(crate) fn drone_secret(&self) -> String {
        let derived = || hex::encode(&Sha256::digest(format!("drone rpc {}", self.token))[..16]);
        self.drone.secret.clone().unwrap_or_else(derived)
    }

    pub(super) fn queue_stages(&mut self, spec: &JobSpec) -> Vec<u64> {
        let mut ids = Vec::new();
        for _ in 0..spec.count {
            let (id, build) = self.drone.put(spec, self.now);
            self.drone.release(build, self.now);
            ids.push(id);
        }
        self.hand_out();
        ids
    }

    /// The runner is there and waits for stages.
    pub(super) fn start_drone_runner(&mut self, host: u64, setup: DroneSetup) -> Result<(), String> {
        if !self.drone.urls.contains(&setup.url) {
            return Err(format!("its runner asks {}, which is not this Drone", setup.url));
        }
        if setup.rpc_secret != self.drone_secret() {
            return Err("its runner's RPC secret is not this Drone's".to_owned());
        }
        let own = self.with_instance(host, |instance| instance.name.to_owned());
        let agent = Agent {
            name: setup.name.clone().or(own).unwrap_or_default(),
            setup,
            draining: false,
            running: BTreeSet::new(),
        };
        self.drone.agents.insert(host, agent);
        self.hand_out();
        Ok(())
    }

    /// Hands out what can be handed out, unless the queue is paused.
    pub(crate) fn hand_out(&mut self) {
        if self.drone.paused {
            return;
        }
        for (stage, host) in self.drone.matches(self.seed) {
            if let Some(agent) = self.drone.agents.get_mut(&host) {
                agent.running.insert(stage);
            }
            self.drone.change(stage, |stage| stage.host = Some(host));
            let at = self.after(self.settings.drone_accept);
            self.stage_after(at, stage);
        }
    }

    /// At once where it takes no time, so that nobody sees the step.
    fn stage_after(&mut self, at: Timestamp, stage: u64) {
        if at <= self.now {
            self.stage_goes_on(stage);
        } else {
            self.schedule(at, Event::Stage { stage });
        }
    }

    /// The next step of a stage that was handed out. Void when its runner is gone.
    pub(super) fn stage_goes_on(&mut self, id: u64) {
        let now = self.now;
        let Some(stage) = self.drone.stages.get(&id) else {
            return;
        };
        let agent = stage.host.and_then(|host| self.drone.agents.get(&host));
        let Some(name) = agent
            .filter(|agent| agent.running.contains(&id) && stage.lost.is_none())
            .map(|agent| agent.name.clone())
        else {
            return;
        };
        if stage.accepted.is_none() {
            self.drone.change(id, |stage| stage.accepted = Some((name, now)));
            self.stage_after(self.after(self.settings.drone_start), id);
        } else if stage.started.is_none() {
            let ends = add(now, stage.duration);
            self.drone.change(id, |stage| {
                stage.status = StageStatus::Running;
                stage.started = Some(now);
            });
            self.schedule(ends, Event::Stage { stage: id });
        } else {
            self.end_stage(id, StageStatus::Success);
        }
    }

    fn end_stage(&mut self, id: u64, status: StageStatus) {
        let now = self.now;
        self.drone.change(id, |stage| {
            stage.status = status;
            stage.stopped = Some(now);
        });
        let Some((host, build)) = self.drone.stages.get(&id).map(|stage| (stage.host, stage.build)) else {
            return;
        };
        self.drone.release(build, now);
        let agent = host.and_then(|host| self.drone.agents.get_mut(&host));
        let idle = agent.is_some_and(|agent| agent.running.remove(&id) && agent.running.is_empty());
        self.hand_out();
        if let Some(host) = host.filter(|_| idle) {
            self.shutdown_may_end(host);
        }
    }

    /// The runner is gone. What it only was handed is handed out again; what it had accepted dies and is counted, and the
    /// server goes on listing it.
    pub(super) fn halt_drone(&mut self, host: u64) {
        let Some(agent) = self.drone.agents.remove(&host) else {
            return;
        };
        let now = self.now;
        let given_up = self.after(self.settings.drone_give_up);
        for id in agent.running {
            let accepted = self
                .drone
                .stages
                .get(&id)
                .is_some_and(|stage| stage.accepted.is_some());
            if accepted {
                self.jobs_killed += 1;
                self.drone.change(id, |stage| stage.lost = Some(now));
                self.schedule(given_up, Event::StageLost { stage: id });
            } else {
                self.drone.change(id, |stage| stage.host = None);
            }
        }
        self.hand_out();
    }

    pub(super) fn stage_is_given_up(&mut self, id: u64) {
        self.end_stage(id, StageStatus::Killed);
    }
}
