//! What a CI system wants, and which runners it knows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ids::{CiName, JobId, Lineage, PoolName, RegistrationId},
    metrics::{Metering, PoolMetrics},
    resource::{Completeness, ControlProfile},
};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a runner.
    Queued,
    /// Runs on one.
    Running,
    /// Has ended, well or not.
    Finished,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The CI's id of it.
    pub id: JobId,
    /// Its name, which lengths are learnt by.
    pub name: String,
    /// The project that it belongs to.
    pub project: String,
    /// What its runner must have.
    pub tags: Vec<String>,
    /// Where it stands.
    pub state: JobState,
    /// Since when it waits or waited.
    pub queued_at: Option<Timestamp>,
    /// Since when it runs.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The registration that runs or ran it.
    pub runner: Option<RegistrationId>,
    /// Whether its branch or tag is a protected one. Read only where a pool asks for it, else false.
    #[serde(default)]
    pub protected: bool,
    /// The pools whose runners could run it, where the CI has rules of its own (Drone); none: its tags say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<PoolName>>,
    /// Whether it has been running for longer than any job of this CI is let to: it is no demand, and its runner is busy until it is
    /// condemned twice.
    #[serde(default)]
    pub stuck: bool,
}

/// Jobs that wait and are no demand, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassedOver {
    /// The CI holds them back itself: a limit of its own, or another job that must end first.
    HeldBack,
    /// They have waited for longer than the CI's `pending_max`.
    TooOld,
    /// No pool of the stack could run them.
    NoPool,
}

/// Numbers where a CI gives no jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Jobs that wait.
    pub queued: u32,
    /// Jobs that run.
    pub running: u32,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Each job: queued, running, and those finished since the cursor.
    Jobs(Vec<Job>),
    /// Only numbers, by pool.
    Counts(BTreeMap<PoolName, Counts>),
}

/// A registration as the CI tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerView {
    /// The CI's id of it.
    pub registration: RegistrationId,
    /// What it was described as when it was registered: see [`description`] for one of ours.
    pub description: String,
    /// Whether it answers; none where the CI does not say.
    pub online: Option<bool>,
    /// Whether it takes no new job.
    pub paused: bool,
    /// When it last asked for a job, by the CI's clock.
    pub last_contact: Option<Timestamp>,
    /// Whether it runs a job; none where the CI does not say.
    pub busy: Option<bool>,
}

/// What a machine is registered as: its name in the cloud and the beginning of its lineage, so that of two stacks that
/// share a name, or one whose state was lost, neither takes the other's registrations for its own.
pub fn description(machine: &str, lineage: &Lineage) -> String {
    let mark: String = lineage.as_str().chars().take(LINEAGE_MARK).collect();
    format!("{machine} {mark}")
}

/// How much of a lineage a description holds: 32 bits of a random number tell the few lineages of a name apart.
const LINEAGE_MARK: usize = 8;

impl RunnerView {
    /// The machine's name in the cloud, for a registration of ours.
    pub fn machine(&self) -> &str {
        self.description.split(' ').next().unwrap_or_default()
    }

    /// Whether it was registered by this lineage.
    pub fn is_of(&self, lineage: &Lineage) -> bool {
        self.description == description(self.machine(), lineage)
    }
}

/// How far finished jobs have been read; opaque to all but its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// A CI's part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemandSnapshot {
    /// Which CI.
    pub ci: CiName,
    /// What it wants.
    pub wanted: Wanted,
    /// Which runners of this stack it knows (found by description or id).
    pub runners: Vec<RunnerView>,
    /// Whether both are all.
    pub completeness: Completeness,
    /// Where the next reading of finished jobs begins.
    pub cursor: Cursor,
    /// The answering server's clock.
    pub now: Timestamp,
    /// Requests it took.
    pub calls: u32,
    /// How its runners are controlled.
    pub control: ControlProfile,
    /// Jobs that wait and are not in `wanted`, by why.
    #[serde(default)]
    pub passed_over: BTreeMap<PassedOver, u32>,
    /// What was measured, by pool, where the source measures.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<PoolName, PoolMetrics>,
}

/// What a source needs to know of a pool to find its jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSelector {
    /// The pool.
    pub pool: PoolName,
    /// What its runners offer.
    pub tags: Vec<String>,
    /// Whether they take jobs without tags.
    pub run_untagged: bool,
    /// Whether they take only jobs of protected branches and tags.
    #[serde(default)]
    pub protected_refs: bool,
    /// What is measured of it, where its source measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metering: Option<Box<Metering>>,
    /// The agent pool whose jobs it takes, where its CI has such pools (Azure DevOps).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<Box<AgentPool>>,
}

/// A pool of agents of Azure DevOps, and what our agents in it can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPool {
    /// Its name, or its id.
    pub pool: String,
    /// What an agent of ours says that it can, by name, case ignored: a job's demands are matched against these.
    pub capabilities: BTreeMap<String, String>,
}

impl PoolSelector {
    /// Whether the pool's runners could run this job.
    pub fn takes(&self, job: &Job) -> bool {
        self.fits(job) && (job.protected || !self.protected_refs)
    }

    /// Whether a job is of the kind that the pool's runners run, on whatever branch.
    pub fn fits(&self, job: &Job) -> bool {
        match &job.pools {
            Some(pools) => pools.contains(&self.pool),
            None => self.matches(&job.tags),
        }
    }

    /// Whether the pool's runners could run a job with these tags.
    pub fn matches(&self, tags: &[String]) -> bool {
        if tags.is_empty() {
            return self.run_untagged;
        }
        tags.iter().all(|tag| self.tags.contains(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_fits_when_all_its_tags_are_the_pools() {
        let pool = PoolSelector {
            agents: None,
            pool: "linux".into(),
            tags: vec!["docker".into(), "linux".into()],
            run_untagged: false,
            protected_refs: false,
            metering: None,
        };
        assert!(pool.matches(&["linux".into()]));
        assert!(!pool.matches(&["linux".into(), "gpu".into()]));
        assert!(!pool.matches(&[]));
    }
}
