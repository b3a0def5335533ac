//! What the journal holds: intents before each call, outcomes after it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ids::{Address, CiName, IntentId, RegistrationId},
    money::Price,
    offering::OfferingKey,
    resource::{ClaimLabels, Labels, ResourceRef, ResourceSpec},
    state::{Pause, Record},
};

/// What is about to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
#[expect(clippy::large_enum_variant, reason = "creates are the rule")]
pub enum Intent {
    /// Make a resource. A machine's registration follows as [`Step::Registered`], before the call to the cloud.
    Create {
        /// Its claim, without a registration.
        claim: ClaimLabels,
        /// What it should be, on the rung that is being tried.
        spec: ResourceSpec,
        /// Where.
        provider: super::ids::ProviderName,
        /// What an hour costs.
        price: Option<Price>,
        /// Whose runner it will be.
        ci: Option<CiName>,
    },
    /// Change it in place.
    Update {
        /// Which.
        target: ResourceRef,
        /// What it should be.
        spec: ResourceSpec,
    },
    /// Put labels of ours on a resource, and take it on record at the entry's address.
    Relabel {
        /// Which.
        target: ResourceRef,
        /// What is put on it; empty: only the record changes.
        labels: Labels,
        /// What its record will be.
        record: Box<Record>,
        /// The address that it had on record; its record there is dropped.
        was: Option<Address>,
    },
    /// Keep a runner from taking new jobs.
    Cordon {
        /// Whose runner.
        ci: CiName,
        /// Which.
        registration: RegistrationId,
        /// Why, for a person.
        why: String,
    },
    /// Let it take jobs again.
    Uncordon {
        /// Whose runner.
        ci: CiName,
        /// Which.
        registration: RegistrationId,
    },
    /// Remove a resource from the cloud. Its registration is forgotten after it.
    Delete {
        /// Which.
        target: ResourceRef,
        /// Its registration, where it has one.
        registration: Option<(CiName, RegistrationId)>,
    },
    /// Drop the record of what is gone, and its registration.
    Forget {
        /// Its registration, where it has one.
        registration: Option<(CiName, RegistrationId)>,
    },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It is there: made, adopted or changed.
    Present(Box<Record>),
    /// It takes no new job, since then by the CI's clock.
    Cordoned {
        /// When.
        since: Timestamp,
        /// Why, for a person.
        why: String,
    },
    /// It takes jobs again.
    Uncordoned,
    /// It was done, and nothing of it is on record: a group has the size that was asked for.
    Done,
    /// It is gone, record and all.
    Absent,
    /// Definitely not done, and nothing was left behind.
    Refused {
        /// The offering that said no, where one did.
        offering: Option<OfferingKey>,
        /// Whether that was a quota.
        quota: bool,
        /// Why, for a person; without secrets.
        why: String,
    },
}

/// One line of the journal's meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
#[expect(clippy::large_enum_variant, reason = "beginnings of creates are the rule")]
pub enum Step {
    /// Before the first call.
    Begin {
        /// What is about to be done. Another key in JSON, where an entry's own `intent` is beside it.
        #[serde(rename = "what")]
        intent: Intent,
    },
    /// The CI has a registration for this create, with this id.
    Registered {
        /// Whose.
        ci: CiName,
        /// Which.
        registration: RegistrationId,
    },
    /// After the last answer.
    End {
        /// How it ended.
        outcome: Outcome,
    },
    /// A pause of ours, recorded before it is made.
    Paused {
        /// What.
        pause: Pause,
    },
    /// It is lifted.
    Resumed {
        /// What.
        pause: Pause,
    },
}

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was written, by our clock.
    pub at: Timestamp,
    /// The attempt that it belongs to.
    pub intent: IntentId,
    /// What it touches.
    pub address: Address,
    /// What happened.
    #[serde(flatten)]
    pub step: Step,
}

/// An intent without an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIntent {
    /// The attempt.
    pub id: IntentId,
    /// What it touches.
    pub address: Address,
    /// When it began, by our clock.
    pub at: Timestamp,
    /// What was about to be done.
    pub intent: Intent,
    /// The registration that was made for it, where one was.
    pub registration: Option<(CiName, RegistrationId)>,
}
