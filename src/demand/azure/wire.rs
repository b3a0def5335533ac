//! What Azure DevOps says, of which only the fields that are needed. Agents and pools are those of its published description (7.1,
//! `distributedTask`, taskAgent); job requests have the same shape there (`TaskAgentJobRequest`), though no published path lists them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
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

/// The capability by which an agent says whose it is: the stack's name, from the environment that it was started with.
pub(super) const STACK: &str = "RUNFLEET_STACK";
/// And of which lineage: its beginning suffices.
pub(super) const LINEAGE: &str = "RUNFLEET_LINEAGE";
/// What ends the id of a job that no matrix multiplies.
const DEFAULT: &str = ".__default";

/// A pool of agents.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PoolRow {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) name: String,
    /// Whether its machines are Microsoft's.
    #[serde(default)]
    pub(super) is_hosted: bool,
}

/// An agent.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Agent {
    pub(super) id: u64,
    pub(super) name: String,
    /// Whether it is handed jobs.
    #[serde(default = "yes")]
    pub(super) enabled: bool,
    /// `online` or `offline`.
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) assigned_request: Option<Assigned>,
    #[serde(default)]
    pub(super) status_changed_on: Option<String>,
    #[serde(default)]
    system_capabilities: Option<BTreeMap<String, String>>,
    #[serde(default)]
    user_capabilities: Option<BTreeMap<String, String>>,
}

fn yes() -> bool {
    true
}

impl Agent {
    /// What it says that it can, or was told; case ignored.
    pub(super) fn capability(&self, name: &str) -> Option<&str> {
        let both = [&self.user_capabilities, &self.system_capabilities];
        both.into_iter()
            .flatten()
            .flatten()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether it says that it is this stack's.
    pub(super) fn is_of(&self, stack: &str) -> bool {
        self.capability(STACK) == Some(stack)
    }

    /// Whether it answers; none for a word that is not known.
    pub(super) fn online(&self) -> Option<bool> {
        match self.status.as_str() {
            "online" => Some(true),
            "offline" => Some(false),
            _ => None,
        }
    }

    /// When it came or went.
    pub(super) fn changed_at(&self) -> Option<Timestamp> {
        time(self.status_changed_on.as_deref())
    }
}

/// The job that an agent is given.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Assigned {
    pub(super) request_id: u64,
}

/// What a job demands of its agent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "DemandRow")]
pub(super) struct Needs {
    pub(super) name: String,
    pub(super) test: Test,
}

/// How a capability must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// There.
    Exists,
    /// This, case ignored.
    Equals(String),
    /// This version or a newer one.
    AtLeast(String),
}

/// As it is written (`name`, `name -equals value`), or in parts.
#[derive(Deserialize)]
#[serde(untagged)]
enum DemandRow {
    Text(String),
    Parts {
        name: String,
        #[serde(default)]
        value: Option<String>,
    },
}

impl From<DemandRow> for Needs {
    fn from(row: DemandRow) -> Self {
        match row {
            DemandRow::Text(text) => Self::of(&text),
            DemandRow::Parts { name, value } => Self {
                name,
                test: value.map_or(Test::Exists, Test::Equals),
            },
        }
    }
}

impl Needs {
    /// Of its text.
    pub(super) fn of(text: &str) -> Self {
        let mut parts = text.trim().splitn(3, char::is_whitespace);
        let name = parts.next().unwrap_or_default().to_owned();
        let operator = parts.next().unwrap_or_default().to_ascii_lowercase();
        let value = parts.next().unwrap_or_default().trim().to_owned();
        let test = match operator.as_str() {
            "-equals" => Test::Equals(value),
            "-gtversion" => Test::AtLeast(value),
            _ => Test::Exists,
        };
        Self { name, test }
    }

    /// As it is written in a pipeline.
    fn text(&self) -> String {
        match &self.test {
            Test::Exists => self.name.clone(),
            Test::Equals(value) => format!("{} -equals {value}", self.name),
            Test::AtLeast(value) => format!("{} -gtVersion {value}", self.name),
        }
    }

    /// Whether it is about the agent's own version: it updates itself, so that any agent does.
    pub(super) fn is_of_version(&self) -> bool {
        self.name.eq_ignore_ascii_case("Agent.Version")
    }
}

/// A name, of an agent or of a pipeline.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    pub(super) name: String,
}

/// A job, as it waits for an agent or runs on one.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobRequest {
    pub(super) request_id: u64,
    #[serde(default)]
    queue_time: Option<String>,
    #[serde(default)]
    assign_time: Option<String>,
    #[serde(default)]
    receive_time: Option<String>,
    #[serde(default)]
    finish_time: Option<String>,
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    reserved_agent: Option<Named>,
    #[serde(default)]
    demands: Option<Vec<Needs>>,
    #[serde(default)]
    definition: Option<Named>,
    #[serde(default)]
    job_name: Option<String>,
    #[serde(default)]
    orchestration_id: Option<String>,
    #[serde(default)]
    plan_type: Option<String>,
    #[serde(default)]
    scope_id: Option<String>,
}

impl JobRequest {
    /// Where it stands: one with a result has ended, cancelled or not; one that an agent has received runs; all others wait, those
    /// that were assigned to an agent that has not asked for them too.
    pub(super) fn state(&self) -> JobState {
        if self.result.is_some() || time(self.finish_time.as_deref()).is_some() {
            JobState::Finished
        } else if time(self.receive_time.as_deref()).is_some() {
            JobState::Running
        } else {
            JobState::Queued
        }
    }

    /// Whether this agent is meant to run it, or does.
    pub(super) fn is_reserved_for(&self, agent: &Agent) -> bool {
        let reserved = self.reserved_agent.as_ref();
        reserved.is_some_and(|reserved| match reserved.id {
            Some(id) => id == agent.id,
            None => reserved.name.eq_ignore_ascii_case(&agent.name),
        })
    }

    /// The agent that it is reserved for.
    pub(super) fn agent(&self) -> Option<&str> {
        let name = &self.reserved_agent.as_ref()?.name;
        (!name.is_empty()).then_some(name.as_str())
    }

    /// What it demands.
    pub(super) fn demands(&self) -> &[Needs] {
        self.demands.as_deref().unwrap_or_default()
    }

    /// By what its length is learnt: the pipeline and its job in it.
    fn name(&self) -> String {
        let of = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        // `PLAN.STAGE.JOB.__default`
        let place = self.orchestration_id.as_deref().and_then(|id| {
            let place = id.split_once('.')?.1;
            let place = place.strip_suffix(DEFAULT).unwrap_or(place);
            (!place.is_empty() && place != "__default").then(|| place.to_owned())
        });
        let pipeline = self.definition.as_ref().map(|of| of.name.clone());
        let pipeline = pipeline.filter(|name| !name.is_empty()).or(of(&self.plan_type));
        let words = [pipeline, place.or(of(&self.job_name))];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// The request as a job that these pools could run; `on` is the agent that has it, where one has.
    pub(super) fn job(&self, pools: Vec<PoolName>, on: Option<RegistrationId>) -> Job {
        let state = self.state();
        let at = |text: &Option<String>| time(text.as_deref());
        let needs = self.demands().iter().filter(|needs| !needs.is_of_version());
        Job {
            id: JobId::new(self.request_id.to_string()),
            name: self.name(),
            project: self.scope_id.clone().unwrap_or_default(),
            tags: needs.map(Needs::text).collect(),
            state,
            queued_at: at(&self.queue_time),
            started_at: at(&self.receive_time).or_else(|| {
                let ended = state == JobState::Finished;
                ended.then(|| at(&self.assign_time)).flatten()
            }),
            finished_at: at(&self.finish_time),
            runner: on,
            protected: false,
            pools: Some(pools),
            stuck: false,
        }
    }
}

/// A list, in the envelope that the service puts around it, or bare as its description has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum List {
    Counted { value: Vec<Value> },
    Bare(Vec<Value>),
}

/// The rows of an answer, as far as they can be understood.
#[derive(Debug)]
pub(super) struct Rows<T> {
    pub(super) rows: Vec<T>,
    /// Why it is not whole: what is wrong with the first row that could not be understood. None when it is.
    pub(super) broken: Option<String>,
}

impl<T: DeserializeOwned> Rows<T> {
    pub(super) fn of(reply: &Reply) -> Result<Self, DemandError> {
        let rows = match decode::<List>(reply)? {
            List::Counted { value } | List::Bare(value) => value,
        };
        let mut good = Vec::with_capacity(rows.len());
        let mut odd: Option<(usize, String)> = None;
        for row in rows {
            match serde_json::from_value(row) {
                Ok(row) => good.push(row),
                Err(error) => {
                    odd.get_or_insert_with(|| (0, cut(&error.to_string()))).0 += 1;
                }
            }
        }
        Ok(Self {
            rows: good,
            broken: odd.map(|(count, why)| {
                format!("{count} of its rows could not be understood, of the first: {why}")
            }),
        })
    }
}

/// A time; none for the first day of year one, which stands for none there.
fn time(text: Option<&str>) -> Option<Timestamp> {
    let text = text.filter(|text| !text.starts_with("0001-"))?;
    text.parse().ok().or_else(|| format!("{text}Z").parse().ok())
}
