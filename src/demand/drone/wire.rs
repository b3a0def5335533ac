//! What Drone's queue says, of which only the fields that are needed (harness/drone `core/stage.go`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    demand::{
        DemandError,
        answer::{cut, decode},
    },
    model::{
        demand::{Job, JobState},
        ids::{JobId, PoolName, RegistrationId},
    },
    net::Reply,
};

/// Where a stage of the queue stands. The list holds the first two; the others are understood since they mean the same
/// wherever they turn up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Pending,
    Running,
    /// For stages of its build.
    WaitingOnDependencies,
    /// For somebody's approval.
    Blocked,
}

/// One stage: what a runner is given at once. Go leaves out what is empty.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Stage {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) repo_id: i64,
    #[serde(default)]
    pub(super) build_id: i64,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) kind: String,
    #[serde(default, rename = "type")]
    pub(super) type_: String,
    pub(super) status: Status,
    /// The runner that has accepted it.
    #[serde(default)]
    pub(super) machine: String,
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) arch: String,
    #[serde(default)]
    pub(super) variant: String,
    #[serde(default)]
    pub(super) kernel: String,
    /// How many of its name may run in its repository at once; zero: any number.
    #[serde(default)]
    pub(super) limit: i64,
    /// How many stages may run in its repository at once; zero: any number.
    #[serde(default)]
    pub(super) throttle: i64,
    /// Seconds; zero: not yet.
    #[serde(default)]
    started: i64,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    updated: i64,
    #[serde(default)]
    depends_on: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl Stage {
    /// Whether a runner has it: it runs, or was accepted and is about to.
    pub(super) fn is_taken(&self) -> bool {
        self.status == Status::Running || !self.machine.is_empty()
    }

    pub(super) fn labels(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let labels = self.labels.as_ref().unwrap_or(&NONE);
        labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    pub(super) fn depends_on(&self) -> &[String] {
        self.depends_on.as_deref().unwrap_or_default()
    }

    /// Since when it waits for a runner: one that waited for others of its build does so since they ended, which Drone
    /// notes as its last change.
    pub(super) fn waits_since(&self) -> Option<Timestamp> {
        second(self.created.max(self.updated))
    }

    /// Since when it runs, or has been accepted.
    pub(super) fn runs_since(&self) -> Option<Timestamp> {
        second(self.started).or_else(|| second(self.updated))
    }

    /// The stage as a job.
    pub(super) fn job(&self, pools: Vec<PoolName>, stuck: bool) -> Job {
        let taken = self.is_taken();
        Job {
            id: JobId::new(self.id.to_string()),
            name: self.name.clone(),
            project: self.repo_id.to_string(),
            tags: self.needs(),
            state: if taken {
                JobState::Running
            } else {
                JobState::Queued
            },
            queued_at: if taken {
                second(self.created)
            } else {
                self.waits_since()
            },
            started_at: if taken { self.runs_since() } else { None },
            finished_at: None,
            runner: (taken && !self.machine.is_empty()).then(|| RegistrationId::from(self.machine.as_str())),
            protected: false,
            pools: Some(pools),
            stuck,
        }
    }

    /// What its runner must be, in the words of a pool's tags.
    fn needs(&self) -> Vec<String> {
        let fixed = [
            ("os", self.os.as_str()),
            ("arch", &self.arch),
            ("type", &self.type_),
            ("variant", &self.variant),
            ("kernel", &self.kernel),
        ];
        let stated = fixed.into_iter().filter(|(_, value)| !value.is_empty());
        stated
            .chain(self.labels())
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Queue {
    /// In order of id.
    pub(super) stages: Vec<Stage>,
    /// Rows that are no stages: how many, and what is wrong with the first.
    odd: Option<(usize, String)>,
}

impl Queue {
    /// The rows of an answer, as far as they can be understood.
    pub(super) fn of(reply: &Reply) -> Result<Self, DemandError> {
        let rows: Vec<Value> = decode(reply)?;
        let mut odd: Option<(usize, String)> = None;
        let mut stages = Vec::with_capacity(rows.len());
        for row in rows {
            match serde_json::from_value::<Stage>(row) {
                Ok(stage) => stages.push(stage),
                Err(error) => {
                    odd.get_or_insert_with(|| (0, cut(&error.to_string()))).0 += 1;
                }
            }
        }
        stages.sort_by_key(|stage| stage.id);
        stages.dedup_by_key(|stage| stage.id);
        Ok(Self { stages, odd })
    }

    /// Why it is not whole; none when it is.
    pub(super) fn broken(&self) -> Option<String> {
        let (count, why) = self.odd.as_ref()?;
        Some(format!(
            "{count} stages of the queue could not be understood, of the first: {why}"
        ))
    }
}

/// A time in seconds, where zero stands for none.
fn second(seconds: i64) -> Option<Timestamp> {
    (seconds > 0)
        .then(|| Timestamp::from_second(seconds).ok())
        .flatten()
}
