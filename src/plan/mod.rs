//! What should be done, and why: a plan that leaves no judgement to apply.
//!
//! [`decide`] makes it, a function of its input alone. Its parts: [`facts`] and [`fleet`] say what is known, `recover`
//! closes unfinished attempts, `pool` and `judge` decide on a pool's machines, `roll` which of them are made anew,
//! [`select`] what a person narrowed it to, [`strays`] what has no record, `creates` what is made, `shared` and `groups`
//! what machines share, `cost` what it costs, [`drift`] what someone else changed. What a person asks for beside a tick is
//! in [`adopt`], [`mod@import`], [`accept`] and [`rebuild`], whose records [`records`] makes. [`guard`] says what
//! refuses a plan as a whole, [`invariants`] what holds of every plan, and [`saved`] whether one that was kept still fits.

pub mod accept;
pub mod adopt;
pub mod batches;
mod ceiling;
pub mod cost;
mod creates;
mod dead;
mod decide;
mod draft;
pub mod drift;
mod expand;
pub mod facts;
pub mod find;
pub mod fleet;
mod groups;
pub mod guard;
mod hooks;
pub mod import;
pub mod invariants;
mod judge;
mod made;
pub mod members;
pub mod moved;
mod names;
mod outdated;
mod pool;
mod purse;
pub mod rebuild;
pub mod records;
mod recover;
mod resize;
mod roll;
pub mod saved;
pub mod select;
mod shared;
pub mod strays;
mod subnets;
mod tally;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod users;

pub use decide::{DecideInput, decide};
pub use tally::Tally;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{
    ids::{
        Address, CiName, IntentId, Lineage, PoolName, ProviderName, RegistrationId, Serial, SpecHash,
        StackName,
    },
    intent::OpenIntent,
    kind::Change,
    money::{Money, Period, Price},
    offering::OfferingKey,
    reason::Reason,
    resource::{ControlProfile, Labels, Observed, ResourceRef, ResourceSpec},
    runner::RunnerState,
    state::{Record, StepMemory},
};
use crate::stack::hooks::Moment;

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Every pool at its target.
    Converge,
    /// Nothing left.
    Destroy,
}

/// What a person asked for beyond the goal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Only these, and what they need; empty: everything.
    pub targets: Vec<Selector>,
    /// These are made anew, as soon as they are idle.
    pub replace: Vec<Address>,
    /// Guards that are told to let it pass.
    pub allow: BTreeSet<GuardRule>,
}

/// Something that is meant by its address, or all of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// One resource.
    Address(Address),
    /// A pool's machines.
    Pool(PoolName),
}

impl Selector {
    /// Whether it means what is at this address.
    pub fn matches(&self, address: &Address) -> bool {
        match self {
            Self::Address(own) => own == address,
            Self::Pool(pool) => address.pool.as_ref() == Some(pool),
        }
    }
}

/// A rule that refuses a plan as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardRule {
    /// `guard.max_delete`
    MaxDelete,
    /// `budget`
    Budget,
}

/// A rule that this plan breaks: it is refused with exit code 5, unless told to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// Which.
    pub rule: GuardRule,
    /// What the plan does, and what is allowed, for a person.
    pub what: String,
    /// Whether `--allow` lets it pass.
    pub allowed: bool,
}

/// An action's place in its plan; others depend on it by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionId(pub u32);

/// One offering that a create may be made on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Which; for a shared resource there is one rung without an offering.
    pub offering: Option<OfferingKey>,
    /// Where.
    pub provider: ProviderName,
    /// What an hour costs; none for what costs nothing.
    pub price: Option<Price>,
    /// What the claim's hash is on this rung.
    pub hash: SpecHash,
    /// What to make on this rung.
    pub spec: ResourceSpec,
    /// The creates of this plan that must have ended well before, on this rung.
    pub needs: Vec<ActionId>,
}

/// What the user data of a machine is rendered from, besides its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The pool whose template and values are rendered.
    pub pool: PoolName,
    /// The CI that the machine registers with.
    pub ci: CiName,
}

/// What is done to a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
#[expect(
    clippy::large_enum_variant,
    reason = "what an update wants is as large as any spec"
)]
pub enum Verb {
    /// Make it, on the first rung that takes it.
    Create {
        /// Never empty; ordered, cheapest first.
        ladder: Vec<Rung>,
        /// For a machine.
        bootstrap: Option<Bootstrap>,
    },
    /// Take on record what an unfinished attempt made. Writes the journal, calls nobody.
    Adopt {
        /// The record that it becomes.
        record: Box<Record>,
        /// The attempts that it ends: its own, and those that lost.
        intents: Vec<IntentId>,
        /// Registrations that lost and are forgotten.
        losers: Vec<(CiName, RegistrationId)>,
    },
    /// Close an attempt that made nothing, and forget its registration.
    Abandon {
        /// The attempt.
        open: Box<OpenIntent>,
    },
    /// Change it in place.
    Update {
        /// What it is.
        have: Box<Observed>,
        /// What it should be.
        want: ResourceSpec,
        /// What differs, for a person: `rules: +22/tcp`.
        changes: Vec<String>,
    },
    /// Put labels of ours on it, and take it on record at the action's address: adopting, importing, moving, and
    /// putting back what someone took off.
    Relabel {
        /// What it is.
        have: Box<Observed>,
        /// What is put on it; empty: only the record changes.
        labels: Labels,
        /// The record that it gets.
        record: Box<Record>,
        /// The address that it has on record now, where that is another.
        was: Option<Address>,
    },
    /// Keep it from taking new jobs. A later tick deletes it.
    Cordon {
        /// Whose runner.
        ci: CiName,
        /// Which.
        registration: RegistrationId,
    },
    /// Let it take jobs again.
    Uncordon {
        /// Whose runner.
        ci: CiName,
        /// Which.
        registration: RegistrationId,
    },
    /// Cordon, settle, read its jobs again, delete, forget: only when the second reading shows none.
    Retire {
        /// Which.
        target: ResourceRef,
        /// Its runner.
        ci: CiName,
        /// Which.
        registration: RegistrationId,
        /// How the cordon works and how long it takes.
        control: ControlProfile,
        /// What becomes of the cordon when jobs turn up: kept on, or lifted.
        if_busy: IfBusy,
    },
    /// Remove it; nothing that could run a job (a shared resource, a machine without a live registration).
    Delete {
        /// Which.
        target: ResourceRef,
        /// The registration to forget after it.
        registration: Option<(CiName, RegistrationId)>,
    },
    /// Drop the record, and forget the registration: the cloud has no such thing.
    Forget {
        /// The registration to forget.
        registration: Option<(CiName, RegistrationId)>,
    },
    /// Forget a registration that has no machine.
    Unregister {
        /// Whose.
        ci: CiName,
        /// Which.
        registration: RegistrationId,
    },
    /// Run the pool's hooks of this moment for it; changes nothing of it. What it is about is kept.
    Hook {
        /// Which hooks.
        moment: Moment,
    },
}

/// What becomes of a cordon when the second reading shows jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfBusy {
    /// It stays: the machine must go as soon as it is idle (destroy, broken, rolled).
    StayCordoned,
    /// It is lifted: the machine was only surplus, and has work again.
    Uncordon,
}

impl Verb {
    /// The verb's word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Adopt { .. } => "adopt",
            Self::Abandon { .. } => "abandon",
            Self::Update { .. } => "update",
            Self::Relabel { .. } => "relabel",
            Self::Cordon { .. } => "cordon",
            Self::Uncordon { .. } => "uncordon",
            Self::Retire { .. } => "retire",
            Self::Delete { .. } => "delete",
            Self::Forget { .. } => "forget",
            Self::Unregister { .. } => "unregister",
            Self::Hook { .. } => "hook",
        }
    }

    /// How many machines or containers it makes: one, or a batch.
    pub fn count(&self) -> usize {
        let Self::Create { ladder, .. } = self else {
            return 1;
        };
        let made = ladder.first().map_or(1, |rung| rung.spec.count().max(1));
        usize::try_from(made).unwrap_or(usize::MAX)
    }

    /// Whether it decides what becomes of what is at its address: to abandon an attempt made nothing, and a hook changes
    /// nothing, so that what is there is kept, or touched by another action.
    pub fn touches(&self) -> bool {
        !matches!(self, Self::Abandon { .. } | Self::Hook { .. })
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Its place in the plan.
    pub id: ActionId,
    /// What it touches.
    pub address: Address,
    /// What is done.
    #[serde(flatten)]
    pub verb: Verb,
    /// Why.
    pub reason: Reason,
    /// Actions that must have ended well before, whatever the rung.
    pub after: Vec<ActionId>,
    /// The record as it is.
    pub before: Option<Box<Record>>,
}

/// A resource that stays, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Which.
    pub address: Address,
    /// Where it stands; none for shared resources.
    pub state: Option<RunnerState>,
    /// Whether it runs jobs; none where that is unknown.
    pub busy: Option<bool>,
    /// How many jobs it runs.
    pub jobs: u32,
    /// Until when it is paid.
    pub paid_until: Option<Timestamp>,
    /// Why it stays.
    pub reason: Reason,
}

/// A refusal to act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which pool or resource it is about.
    pub about: String,
    /// How many machines it holds back or keeps; zero where it is not about a number.
    pub count: u32,
    /// Why.
    pub reason: Reason,
    /// Whether a person should be told: exit code 3 with `--strict`.
    pub warning: bool,
}

/// How a pool's target came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Which.
    pub name: PoolName,
    /// The size that it should have.
    pub target: u32,
    /// Jobs that wait for it.
    pub queued: u32,
    /// Jobs that run on it.
    pub running: u32,
    /// Machines that serve or will: booting ones too, those that leave not.
    pub serving: u32,
    /// How the target was computed, for a person: `ceil((5 + 0) / 2) + 0 = 3`.
    pub formula: String,
    /// What each step of its policy comes to, as declared; empty with another policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepReport>,
    /// What is remembered of its steps once this plan is carried out ([`crate::scaling::remember`]); none: as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Box<StepMemory>>,
}

/// What a step of a pool's policy comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// Whether its conditions hold; none where that is not known.
    pub holds: Option<bool>,
    /// What was measured and what it is held against, for a person: `mean(node_load1) = 3.1 >= 2`.
    pub reading: String,
}

/// Something of ours without a record, or with our name and another lineage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// Which.
    pub target: ResourceRef,
    /// Its name in the cloud.
    pub name: String,
    /// Its lineage.
    pub lineage: Option<Lineage>,
    /// What an hour costs, where that is known.
    pub price: Option<Money>,
    /// What becomes of it.
    pub reason: Reason,
}

/// Something that someone else changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Which.
    pub address: Address,
    /// What differs from the record, for a person.
    pub what: String,
    /// The fields that differ: `before` is what the record says, `after` what is there.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// What becomes of it.
    #[serde(default)]
    pub fate: DriftFate,
}

/// What becomes of a drift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftFate {
    /// This plan changes it back.
    Repaired,
    /// This plan, or a later one, replaces the resource.
    Replaced,
    /// It is only shown; `refresh --accept` makes it the record's.
    #[default]
    Shown,
}

/// A plan's cost per hour and month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// What runs now, per hour; one sum per currency.
    pub before_hourly: Vec<Money>,
    /// What would run after it, per hour, creates at their dearest rung.
    pub after_hourly: Vec<Money>,
    /// Now, per month of 730 hours, caps respected.
    pub before_monthly: Vec<Money>,
    /// After, per month.
    pub after_monthly: Vec<Money>,
    /// What each budget of a day or month comes to by the end of the one that goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projected: Vec<Projection>,
}

/// What a budget of a day or month comes to by its end, if nothing changes but by this plan. In the currency that all is
/// counted in, but for the budget as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Projection {
    /// Of what.
    pub per: Period,
    /// As it is written.
    pub budget: Money,
    /// The same, counted.
    pub allowed: Money,
    /// What is owed so far.
    pub spent: Money,
    /// With what runs now.
    pub before: Money,
    /// With what would run after the plan, creates at their dearest rung.
    pub after: Money,
}

/// What applying costs in requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiUse {
    /// Requests that observing took.
    pub observed: u32,
    /// Requests that applying will take, about.
    pub calls: u32,
    /// Seconds that applying will take, about, by concurrency and settle times.
    pub seconds: u32,
    /// The share of the hour's quota of the provider that is used most, in per cent; none without a quota.
    pub quota_share: Option<f64>,
}

/// What should be done, and what was decided not to do. Valid only for the snapshot that it was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose.
    pub stack: StackName,
    /// Whose state.
    pub lineage: Lineage,
    /// The state's serial when this was decided.
    pub serial: Serial,
    /// When, by our clock.
    pub made_at: Timestamp,
    /// In an order that respects every dependency; ids are positions.
    pub actions: Vec<Action>,
    /// What stays, and why.
    pub kept: Vec<Kept>,
    /// What is refused, and why.
    pub held: Vec<Held>,
    /// By pool, as declared.
    pub pools: Vec<PoolReport>,
    /// What someone else changed.
    pub drift: Vec<Drift>,
    /// Of our lineage, without a record.
    pub orphans: Vec<Stray>,
    /// Our stack's name, another lineage.
    pub foreign: Vec<Stray>,
    /// Taken off the record by a person, and left alone.
    #[serde(default)]
    pub released: Vec<Stray>,
    /// What it costs.
    pub cost: Cost,
    /// What it takes.
    pub api: ApiUse,
    /// Guards that it breaks.
    #[serde(default)]
    pub breaches: Vec<Breach>,
    /// Whether every source answered in full.
    pub complete: bool,
    /// At most this many launches at once, per offering that refused lately.
    #[serde(default)]
    pub launch_budgets: BTreeMap<String, u32>,
    /// The longest that observing may be repeated after: a saved plan is refused later than this.
    pub expires_in: SignedDuration,
}

/// How many of each, as in Terraform's summary line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Made, adopted ones too.
    pub create: u32,
    /// Changed in place, or let take jobs again.
    pub update: u32,
    /// Made anew.
    pub replace: u32,
    /// Removed: retired ones too.
    pub delete: u32,
    /// Dropped from the record, or registrations removed.
    pub forget: u32,
    /// Kept from taking new jobs.
    pub cordon: u32,
    /// Hooks run for machines that became ready: these change no resource.
    #[serde(default)]
    pub hook: u32,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_noop(&self) -> bool {
        self.actions.is_empty()
    }
}
