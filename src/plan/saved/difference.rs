//! What may keep a saved plan from being applied, each thing with the resource that it is about.

use jiff::Timestamp;

use crate::model::{
    ids::{Address, CiName, Lineage, PoolName, RegistrationId, Serial},
    money::{Money, Period},
    offering::OfferingKey,
};

/// One thing that is not as it was when the plan was made, or that leaves the plan no room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Difference {
    /// The state is another stack's, or was begun anew.
    #[error("the state's lineage is {ours}, and the plan was made for {found}")]
    Lineage {
        /// The plan's.
        found: Lineage,
        /// The state's.
        ours: Lineage,
    },
    /// The state is older than the one that was planned on: it was put back.
    #[error("the state's serial is {ours}, and the plan was made from {found}: an older state was put back")]
    Serial {
        /// The plan's.
        found: Serial,
        /// The state's.
        ours: Serial,
    },
    /// It has been done already.
    #[error("it has been applied already, at {at}")]
    Applied {
        /// When.
        at: Timestamp,
    },
    /// A machine that should go works.
    #[error("{address} runs {} now", if *.jobs == 1 { "a job".to_owned() } else if *.jobs == 0 { "jobs".to_owned() } else { format!("{jobs} jobs") })]
    Busy {
        /// Which.
        address: Address,
        /// How many; zero where only a flag says so.
        jobs: u32,
    },
    /// Whether a machine that should go works is not known.
    #[error("whether {address} runs jobs is not certain now")]
    WorkUnknown {
        /// Which.
        address: Address,
    },
    /// Someone took it off the record.
    #[error("{address} is not on record any more")]
    NotOnRecord {
        /// Which.
        address: Address,
    },
    /// Someone put it on record.
    #[error("{address} is on record already")]
    OnRecord {
        /// Which.
        address: Address,
    },
    /// A part of it is another one now.
    #[error("{what} of {address} changed since")]
    Changed {
        /// Which.
        address: Address,
        /// What of it.
        what: String,
    },
    /// The cloud does not list it now.
    #[error("{address} is not seen in the cloud now")]
    NotSeen {
        /// Which.
        address: Address,
    },
    /// The cloud has it, though the plan was to forget it.
    #[error("{address} is in the cloud again")]
    Back {
        /// Which.
        address: Address,
    },
    /// The cloud has something of that name.
    #[error("{address} cannot be made: the cloud has a {name} already")]
    NameTaken {
        /// What was to be made.
        address: Address,
        /// The name.
        name: String,
    },
    /// An attempt at it has been begun and not ended.
    #[error("an attempt at {address} has no known end")]
    Unfinished {
        /// Which.
        address: Address,
    },
    /// An attempt that the plan closes is closed.
    #[error("the attempt at {address} has ended since")]
    Ended {
        /// Which.
        address: Address,
    },
    /// Something that it uses is gone.
    #[error("{address} needs {needed}, which is not there any more")]
    Needs {
        /// Which.
        address: Address,
        /// What it needs.
        needed: Address,
    },
    /// Something that is to go is used.
    #[error("{address} is used by {by} now")]
    Used {
        /// Which.
        address: Address,
        /// By what.
        by: Address,
    },
    /// What machines are made from is not what the plan was made with.
    #[error(
        "what machines of pools.{pool} are made from changed since: {template}, or a part that it includes"
    )]
    Template {
        /// Whose.
        pool: PoolName,
        /// The pool's template.
        template: String,
    },
    /// No room for what is added.
    #[error("max = {max} of pools.{pool} leaves no room: {there} are there, and the plan makes {planned}")]
    Max {
        /// Which pool.
        pool: PoolName,
        /// Its `max`.
        max: u32,
        /// Machines that are there or being made.
        there: u32,
        /// Machines that the plan makes.
        planned: u32,
    },
    /// No money for what is added.
    #[error(
        "the budget of {budget} {per} leaves no room: {spent} is spent, and the plan adds up to {planned}"
    )]
    Budget {
        /// The budget.
        budget: Money,
        /// Of what period.
        per: Period,
        /// What runs now; of a day or month: what it comes to without the plan.
        spent: Money,
        /// What the plan adds, at the dearest rungs.
        planned: Money,
    },
    /// Another price than was shown.
    #[error("an hour of {offering} costs {now} now, and cost {was}")]
    Price {
        /// Of what.
        offering: OfferingKey,
        /// In the plan.
        was: Money,
        /// Now.
        now: Money,
    },
    /// Not sold any more.
    #[error("{offering} is not sold any more")]
    NotSold {
        /// What.
        offering: OfferingKey,
    },
    /// A source that the plan relies on did not answer in full.
    #[error("{place} did not answer in full: {why}")]
    Partial {
        /// `providers.hetzner`
        place: String,
        /// Why.
        why: String,
    },
    /// Nothing may be made now, by a rule that came into force since.
    #[error("nothing is made in {about} now: {why}")]
    Halted {
        /// Which pool or stack.
        about: String,
        /// By which rule.
        why: String,
    },
    /// A registration that was without a machine has one.
    #[error("the registration {registration} at {ci} belongs to a machine now")]
    Owned {
        /// Whose.
        ci: CiName,
        /// Which.
        registration: RegistrationId,
    },
    /// A rule of every plan does not hold of it now.
    #[error("{about}: it would break the rule that {rule}")]
    Rule {
        /// What it is about.
        about: String,
        /// The rule.
        rule: String,
    },
}
