//! The simulated world: a cloud's project, machines from outside and CI servers, advanced by discrete events.
//!
//! Pure and synchronous: nothing here reads a clock, a file or a network. [`World::advance`] is told the time and
//! plays everything that falls due until then, in order; the same seed and the same calls at the same times give the
//! same world.

pub(crate) mod azure;
pub(crate) mod catalog;
mod ci;
pub(crate) mod circleci;
pub(crate) mod cloud;
pub(crate) mod cluster;
pub(crate) mod drone;
pub(crate) mod forge;
pub(crate) mod host;
mod machine;
pub(crate) mod meter;
pub(crate) mod network;
pub(crate) mod ocean;
pub(crate) mod ocean_catalog;
mod requests;
pub(crate) mod stage;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    clock::Clock,
    dice,
    faults::Faults,
    scenario::{JobSpec, KubernetesSpec, Scenario},
    settings::Settings,
};
use azure::Azure;
use circleci::Circle;
use cloud::Cloud;
use cluster::{Act, Cluster};
use drone::Drone;
use forge::Forge;
use host::Outside;
use meter::{Directory, Meter};
use ocean::Ocean;

/// The version of the world's file; another is refused.
pub(crate) const FORMAT: u32 = 1;

/// What is to happen at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// A server's operating system is up. Void when its power was cycled since (`epoch`).
    Booted { server: u64, epoch: u32 },
    /// A server that was asked to shut down goes off, whatever still runs.
    ShutDown { server: u64, epoch: u32 },
    /// A machine's watchdog looks whether its runner came up.
    BootTimeout { server: u64, epoch: u32 },
    /// A GitLab runner asks for jobs.
    Poll { manager: u64 },
    /// A GitLab job's time is over.
    JobDone { job: u64 },
    /// A Drone stage that was handed out goes on: it is accepted, then it runs, then it is done.
    Stage { stage: u64 },
    /// Drone gives up a stage whose runner is gone.
    StageLost { stage: u64 },
    /// A CircleCI task's time is over.
    TaskDone { task: u64 },
    /// A CircleCI runner that claimed nothing since its `turn` ends.
    RunnerIdle { server: u64, turn: u32 },
    /// Jobs of Azure DevOps that wait may be assigned.
    Assign,
    /// An agent of Azure DevOps has received its job.
    Received { request: u64 },
    /// The time of a job of Azure DevOps is over.
    RequestDone { request: u64 },
    /// A droplet that was accepted cannot be placed, and vanishes.
    Vanish { droplet: u64 },
    /// Something happens to an object of the cluster.
    Cluster { uid: String, act: Act },
    /// Jobs are queued.
    Arrive { spec: Box<JobSpec> },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct World {
    pub(crate) format: u32,
    pub(crate) seed: u64,
    /// The one token that is accepted by all parties.
    pub(crate) token: String,
    pub(crate) clock: Clock,
    pub(crate) now: Timestamp,
    #[serde(with = "pairs")]
    queue: BTreeMap<(Timestamp, u64), Event>,
    sequence: u64,
    pub(crate) cloud: Cloud,
    #[serde(default)]
    pub(crate) ocean: Ocean,
    pub(crate) forge: Forge,
    #[serde(default)]
    pub(crate) drone: Drone,
    #[serde(default)]
    pub(crate) circle: Circle,
    #[serde(default)]
    pub(crate) azure: Azure,
    #[serde(default)]
    pub(crate) outside: Outside,
    #[serde(default)]
    pub(crate) cluster: Cluster,
    /// What machines tell of themselves, by number.
    #[serde(default)]
    pub(crate) meters: BTreeMap<u64, Meter>,
    #[serde(skip)]
    directory: Directory,
    pub(crate) faults: Faults,
    pub(crate) jobs_killed: u64,
    pub(crate) api_calls: BTreeMap<String, u64>,
    /// Every address that this world's GitLab has had: a machine born before a restart still knows its own.
    pub(crate) gitlab_urls: BTreeSet<String>,
    #[serde(skip)]
    pub(crate) settings: Settings,
}

impl World {
    pub(crate) fn new(
        seed: u64,
        token: Option<String>,
        scenario: &Scenario,
        settings: Settings,
        wall: Timestamp,
    ) -> Self {
        let clock = Clock::new(wall, settings.speed);
        let now = clock.at(wall);
        let mut world = Self {
            format: FORMAT,
            seed,
            token: token.unwrap_or_else(|| dice::text(seed, dice::bits(seed, 0, 0), 64)),
            now,
            clock,
            queue: BTreeMap::new(),
            sequence: 0,
            cloud: Cloud::new(scenario, now),
            ocean: Ocean::new(&scenario.droplet_snapshots, now),
            forge: Forge::new(scenario, now),
            drone: Drone::new(scenario),
            circle: Circle::new(scenario),
            azure: Azure::new(scenario, now),
            outside: Outside::default(),
            cluster: Cluster::default(),
            meters: BTreeMap::new(),
            directory: Directory::default(),
            faults: Faults::default(),
            jobs_killed: 0,
            api_calls: BTreeMap::new(),
            gitlab_urls: BTreeSet::new(),
            settings,
        };
        world.found_cluster(&scenario.kubernetes);
        for spec in &scenario.jobs {
            world.submit(spec.clone());
        }
        world
    }

    /// What a world read from its file lacks: the indices, and this run's settings.
    pub(crate) fn revive(&mut self, settings: Settings, wall: Timestamp) {
        self.clock.set_speed(settings.speed, wall);
        self.settings = settings;
        self.cloud.reindex();
        self.ocean.reindex();
        self.forge.reindex();
        self.drone.reindex();
        self.circle.reindex();
        self.cluster.reindex();
        // In a world of before there was one.
        self.found_cluster(&KubernetesSpec::default());
    }

    /// Plays everything due until `to`.
    pub(crate) fn advance(&mut self, to: Timestamp) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > to {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.play(event);
        }
        self.now = self.now.max(to);
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Booted { server, epoch } => self.booted(server, epoch),
            Event::ShutDown { server, epoch } => self.shut_down(server, epoch),
            Event::BootTimeout { server, epoch } => self.boot_timeout(server, epoch),
            Event::Poll { manager } => self.poll(manager),
            Event::JobDone { job } => self.job_done(job),
            Event::Stage { stage } => self.stage_goes_on(stage),
            Event::StageLost { stage } => self.stage_is_given_up(stage),
            Event::TaskDone { task } => self.task_done(task),
            Event::RunnerIdle { server, turn } => self.runner_idle(server, turn),
            Event::Assign => self.assign_requests(),
            Event::Received { request } => self.request_received(request),
            Event::RequestDone { request } => self.request_done(request),
            Event::Vanish { droplet } => self.destroy(droplet),
            Event::Cluster { uid, act } => self.cluster_acts(&uid, act),
            Event::Arrive { spec } => {
                self.queue_jobs(&spec);
            }
        }
    }

    /// Schedules `event` at `at`, after everything already due then.
    pub(crate) fn schedule(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    fn after(&self, length: std::time::Duration) -> Timestamp {
        add(
            self.now,
            SignedDuration::try_from(length).unwrap_or(SignedDuration::ZERO),
        )
    }

    /// Queues jobs, now or at their offset. Returns the ids of those queued now.
    pub(crate) fn submit(&mut self, spec: JobSpec) -> Vec<u64> {
        if spec.at.is_positive() {
            let at = add(self.now, spec.at);
            let spec = Box::new(spec);
            self.schedule(at, Event::Arrive { spec });
            Vec::new()
        } else {
            self.queue_jobs(&spec)
        }
    }
}

pub(crate) fn add(time: Timestamp, length: SignedDuration) -> Timestamp {
    time.checked_add(length).unwrap_or(Timestamp::MAX)
}

pub(crate) fn sub(time: Timestamp, length: SignedDuration) -> Timestamp {
    time.checked_sub(length).unwrap_or(Timestamp::MIN)
}

/// A time as Hetzner writes it: whole seconds.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time as GitLab writes it: milliseconds.
pub(crate) fn millis(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A map with keys that JSON has not, as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }
}
