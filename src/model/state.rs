//! What runfleet remembers: the state, which must survive, and the history, which may be lost.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{
    demand::Cursor,
    ids::{
        Address, CiName, CloudId, IntentId, JobId, Lineage, PoolName, ProviderName, RegistrationId,
        ResourceKind, Serial, SpecHash, StackName,
    },
    money::{Money, Price},
    offering::OfferingKey,
    resource::{ImageRef, ResourceRef, ResourceSpec},
};

/// The version of the state's format that this program writes.
pub const STATE_VERSION: u32 = 2;

/// How far a resource on record has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// It is there.
    Live,
    /// It takes no new job since `since` (the CI's clock).
    Cordoned {
        /// When the cordon took effect.
        since: Timestamp,
        /// Why, for a person.
        why: String,
    },
}

/// One resource on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it is.
    pub provider: ProviderName,
    /// The cloud's id of it.
    pub id: CloudId,
    /// Its name in the cloud.
    pub name: String,
    /// The attempt that made it.
    pub intent: IntentId,
    /// What it was made from.
    pub hash: SpecHash,
    /// By the cloud's clock.
    pub created_at: Timestamp,
    /// What was asked for; for a diff, and for `state show`.
    pub spec: ResourceSpec,
    /// What an hour costs; none for what costs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// Its CI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<CiName>,
    /// The CI's id of its registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationId>,
    /// How far it has come.
    #[serde(flatten)]
    pub phase: Phase,
}

impl Record {
    /// What to ask the provider for.
    pub fn target(&self) -> ResourceRef {
        ResourceRef {
            provider: self.provider.clone(),
            kind: self.spec.kind(),
            id: self.id.clone(),
        }
    }

    /// What was bought; none for what is neither a machine nor a batch.
    pub fn offering(&self) -> Option<&OfferingKey> {
        self.spec.each().map(|spec| &spec.offering)
    }

    /// What it boots from; none for what is not a machine.
    pub fn image(&self) -> Option<&ImageRef> {
        match &self.spec {
            ResourceSpec::Machine(spec) => Some(&spec.image),
            _ => None,
        }
    }
}

/// Something that we paused and must resume: a Drone queue, a process of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pause {
    /// What: `queue`, or a process's name.
    pub what: String,
    /// Whose: a CI's or a provider's key in the stack file.
    pub owner: String,
    /// Since when.
    pub since: Timestamp,
}

impl Pause {
    /// Whether both are of one thing, whenever they began.
    pub fn is_same(&self, other: &Self) -> bool {
        self.what == other.what && self.owner == other.owner
    }
}

/// Who wrote a state, when and with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// When, by our clock.
    pub at: Timestamp,
    /// `user@host`
    pub by: String,
    /// The verb that ran: `scale`.
    pub operation: String,
    /// The version of runfleet.
    pub version: String,
}

/// The state of a stack: `NAME.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The format's version.
    pub version: u32,
    /// The stack's identity.
    pub lineage: Lineage,
    /// How often it has been written.
    pub serial: Serial,
    /// Whose state it is.
    pub stack: StackName,
    /// Everything on record.
    pub resources: BTreeMap<Address, Record>,
    /// What we paused.
    #[serde(default)]
    pub pauses: Vec<Pause>,
    /// Lineages that a person said are not ours and never will be (`init --new-lineage`): what carries them is shown,
    /// left alone, and does not keep us from creating.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub disowned: BTreeSet<Lineage>,
    /// Resources that a person took off the record (`state rm`) and that stay in the cloud: shown, left alone for ever,
    /// and no reason not to create. One that is taken on record again is not among them any more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub released: BTreeSet<ResourceRef>,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
}

impl State {
    /// The state of a stack that has nothing yet.
    pub fn empty(stack: StackName, lineage: Lineage) -> Self {
        Self {
            version: STATE_VERSION,
            lineage,
            serial: Serial(0),
            stack,
            resources: BTreeMap::new(),
            pauses: Vec::new(),
            disowned: BTreeSet::new(),
            released: BTreeSet::new(),
            written: None,
        }
    }

    /// The machines of a pool on record, in order of address.
    pub fn machines_of<'a>(&'a self, pool: &'a PoolName) -> impl Iterator<Item = (&'a Address, &'a Record)> {
        self.resources.iter().filter(move |(address, _)| {
            address.kind == ResourceKind::Machine && address.pool.as_ref() == Some(pool)
        })
    }
}

/// An offering that said no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which.
    pub offering: OfferingKey,
    /// When, by our clock.
    pub at: Timestamp,
    /// Whether it was the account's quota rather than the cloud's stock.
    pub quota: bool,
}

/// What is remembered of a machine between ticks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineMemory {
    /// Since when it has been seen idle without a break.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Timestamp>,
    /// When the CI first heard from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// When a complete listing first lacked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// When it was counted as failed before it became ready; once per machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Timestamp>,
    /// How many jobs it has ended, since this has been remembered.
    #[serde(default, skip_serializing_if = "is_none")]
    pub jobs: u32,
    /// Until when what it costs is in [`History::spend`]: all that is owed for it by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged_until: Option<Timestamp>,
    /// Since when a person wants it made anew (`--replace`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_asked: Option<Timestamp>,
    /// When its `after_ready` hooks had run, by our clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooked_at: Option<Timestamp>,
    /// When the `on_error` hooks were told that it never became ready or broke, by our clock; once per machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_told_at: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(count: &u32) -> bool {
    *count == 0
}

/// How long jobs of one name run on one machine type: of the last ones, about, so that what has changed is forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLength {
    /// How many jobs are counted.
    pub jobs: u32,
    /// Seconds that they ran, all together.
    pub seconds: i64,
}

impl JobLength {
    /// Counts one more. Of many, half of the past is let go of.
    pub fn add(&mut self, seconds: i64) {
        if self.jobs >= History::JOBS_COUNTED {
            self.jobs /= 2;
            self.seconds /= 2;
        }
        self.jobs += 1;
        self.seconds = self.seconds.saturating_add(seconds.max(0));
    }

    /// Seconds that one runs, on average; zero where none is counted.
    pub fn mean(&self) -> Decimal {
        Decimal::from(self.seconds) / Decimal::from(self.jobs.max(1))
    }
}

/// What has been paid, or is owed, since a day or month began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// When it began.
    pub since: Timestamp,
    /// How much, a sum for each currency.
    pub sums: Vec<Money>,
}

impl Spent {
    /// Nothing yet.
    pub fn since(since: Timestamp) -> Self {
        Self {
            since,
            sums: Vec::new(),
        }
    }

    /// Adds an amount to the sum of its currency.
    pub fn add(&mut self, money: &Money) {
        if money.amount.is_zero() {
            return;
        }
        match self.sums.iter_mut().find(|sum| sum.currency == money.currency) {
            Some(sum) => sum.amount += money.amount,
            None => self.sums.push(money.clone()),
        }
    }
}

/// What has been spent in the day and the month of UTC that go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// Today.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<Spent>,
    /// This month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<Spent>,
}

/// An attempt that failed, for the breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose machine.
    pub pool: PoolName,
    /// On what.
    pub offering: OfferingKey,
    /// From what.
    pub hash: SpecHash,
    /// When, by our clock.
    pub at: Timestamp,
    /// Alike failures have alike words.
    pub what: String,
}

/// The last machine with a hash that did not become ready: a roll stops at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeverReady {
    /// Which.
    pub machine: Address,
    /// When that was seen, by its CI's clock.
    pub at: Timestamp,
}

/// What a past tick decided, for `explain` and `state history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastDecision {
    /// When.
    pub at: Timestamp,
    /// One line for each pool.
    pub lines: Vec<String>,
}

/// A saved plan that was applied, in full or in part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedPlan {
    /// The file's digest.
    pub digest: String,
    /// When, by our clock.
    pub at: Timestamp,
}

/// What is remembered of a pool with the policy `step`. Times are by the clock of the pool's source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepMemory {
    /// The size that was decided on last; none: what serves is the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// When a step last added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown_at: Option<Timestamp>,
    /// When a step last removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrunk_at: Option<Timestamp>,
    /// When more than the size were last seen to serve: what was removed had not left yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surplus_at: Option<Timestamp>,
    /// Since when the conditions of each step have held without a break, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<String, Timestamp>,
}

/// What makes decisions better and may be lost: `NAME.history`. Bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// By machine.
    #[serde(default)]
    pub machines: BTreeMap<Address, MachineMemory>,
    /// Resources without a record (by `ResourceRef` as text) and registrations without a machine
    /// (`CI registration ID`), condemned once, since when.
    #[serde(default)]
    pub condemned: BTreeMap<String, Timestamp>,
    /// Unfinished creates that a complete listing lacked, since when by the cloud's clock.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub absent: BTreeMap<IntentId, Timestamp>,
    /// Offerings that said no, newest last.
    #[serde(default)]
    pub refusals: Vec<Refusal>,
    /// How many launches an offering that said no may be asked for at once.
    #[serde(default, with = "pairs")]
    pub launch_budgets: BTreeMap<OfferingKey, u32>,
    /// Machines that never became ready, newest last.
    #[serde(default)]
    pub failures: Vec<Failure>,
    /// What machines were made from that did not become ready, until one made from the same does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub never_ready: BTreeMap<SpecHash, NeverReady>,
    /// How far finished jobs have been read.
    #[serde(default)]
    pub cursors: BTreeMap<CiName, Cursor>,
    /// Seconds from create to ready, the last ones per offering and hash.
    #[serde(default)]
    pub boot_seconds: BTreeMap<String, Vec<i64>>,
    /// Seconds that jobs ran, the last ones per job name.
    #[serde(default)]
    pub job_seconds: BTreeMap<String, Vec<i64>>,
    /// How long they ran on each machine type (by [`History::type_key`]), for the price of the work.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub job_lengths: BTreeMap<String, BTreeMap<String, JobLength>>,
    /// What has been spent today and this month.
    #[serde(default)]
    pub spend: Spend,
    /// Jobs counted in `job_seconds` already, at the cursor's edge.
    #[serde(default)]
    pub counted_jobs: Vec<JobId>,
    /// What past ticks decided, newest last.
    #[serde(default)]
    pub decisions: Vec<PastDecision>,
    /// Saved plans that were applied, newest last; kept until they would have expired, and longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub applied: Vec<AppliedPlan>,
    /// When each provider was last listed as a whole, by its own clock, newest last.
    #[serde(default)]
    pub ticks: BTreeMap<ProviderName, Vec<Timestamp>>,
    /// By pool with the policy `step`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<PoolName, StepMemory>,
    /// CI systems whose answer is not whole, until it is again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outages: BTreeMap<CiName, Outage>,
}

/// A CI system that does not answer, or not in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// Since when.
    pub since: Timestamp,
    /// The pools whose `on_error` hooks have been told.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub told: BTreeSet<PoolName>,
}

impl History {
    /// How many past decisions are kept.
    pub const DECISIONS: usize = 200;
    /// How many refusals and failures are kept.
    pub const EVENTS: usize = 100;
    /// How many lengths are kept per job name or offering.
    pub const LENGTHS: usize = 50;
    /// How many jobs a mean length goes by.
    pub const JOBS_COUNTED: u32 = 50;
    /// On how many machine types the lengths of a job name are kept.
    pub const TYPES: usize = 16;
    /// How many ticks are kept per provider.
    pub const TICKS: usize = 4;
    /// How long an offering that answered `NoCapacity` is remembered.
    pub const REFUSAL_MEMORY: SignedDuration = SignedDuration::from_mins(5);

    /// A machine type, wherever and however it is bought: what jobs' lengths depend on.
    pub fn type_key(offering: &OfferingKey) -> String {
        format!("{} {}", offering.provider, offering.machine_type)
    }
}

/// A map with structured keys as a list of pairs, since JSON's keys are text.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::OfferingKey;

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<OfferingKey, u32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<OfferingKey, u32>, D::Error> {
        Ok(Vec::<(OfferingKey, u32)>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}
