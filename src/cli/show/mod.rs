//! Turns plans and snapshots into what a person or a program reads.
//!
//! Contract: pure functions from values to a `String` or a value that serde writes. Nothing here prints, asks the
//! time, or knows whether it writes to a terminal: colour is an argument.

pub mod adopt;
pub mod audit;
pub mod document;
pub mod explain;
pub mod graph;
pub mod lines;
pub mod lock;
pub mod outcome;
pub mod plan;
pub mod refresh;
pub mod sources;
pub mod state;
pub mod status;
pub mod strays;
mod style;
mod table;

#[cfg(test)]
mod fixture;

use rust_decimal::Decimal;

use crate::{
    model::money::Money,
    plan::{Action, Verb},
};

pub use style::Paint;

/// The version of every JSON document; it rises when a key changes its meaning.
pub const FORMAT_VERSION: &str = "1.0";

/// What an action amounts to, in the words of Terraform's summary line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Made, or taken on record.
    Create,
    /// Changed in place, or let take jobs again.
    Update,
    /// Removed.
    Delete,
    /// Dropped from the record.
    Forget,
    /// Kept from taking new jobs.
    Cordon,
}

impl Change {
    /// Every change, in the order of the legend.
    pub const ALL: [Self; 5] = [
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Forget,
        Self::Cordon,
    ];

    /// What a verb amounts to; agrees with [`crate::plan::Plan::summary`].
    pub fn of(verb: &Verb) -> Self {
        match verb {
            Verb::Create { .. } | Verb::Adopt { .. } => Self::Create,
            Verb::Update { .. } | Verb::Relabel { .. } | Verb::Uncordon { .. } => Self::Update,
            Verb::Retire { .. } | Verb::Delete { .. } => Self::Delete,
            Verb::Forget { .. } | Verb::Unregister { .. } | Verb::Abandon { .. } => Self::Forget,
            Verb::Cordon { .. } => Self::Cordon,
        }
    }

    /// Its symbol: Terraform's, and `!` for a cordon, which Terraform does not have.
    pub fn symbol(self) -> char {
        match self {
            Self::Create => '+',
            Self::Update => '~',
            Self::Delete => '-',
            Self::Forget => '.',
            Self::Cordon => '!',
        }
    }

    /// Its word, as in JSON's `actions`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Forget => "forget",
            Self::Cordon => "cordon",
        }
    }
}

/// Words for a verb in progress and done: `creating`, `created`.
pub fn progress_words(verb: &Verb) -> (&'static str, &'static str) {
    match verb {
        Verb::Create { .. } => ("creating", "created"),
        Verb::Adopt { .. } => ("adopting", "adopted"),
        Verb::Abandon { .. } => ("closing the attempt", "closed"),
        Verb::Update { .. } => ("updating", "updated"),
        Verb::Relabel { .. } => ("relabelling", "relabelled"),
        Verb::Cordon { .. } => ("cordoning", "cordoned"),
        Verb::Uncordon { .. } => ("uncordoning", "uncordoned"),
        Verb::Retire { .. } => ("retiring", "deleted"),
        Verb::Delete { .. } => ("deleting", "deleted"),
        Verb::Forget { .. } => ("forgetting", "forgotten"),
        Verb::Unregister { .. } => ("unregistering", "unregistered"),
    }
}

/// What an action's machine is or will be bought as, and its hourly price: the first rung of a create, else what is
/// on record.
pub(crate) fn bought(action: &Action) -> (Option<String>, Option<&Money>) {
    match &action.verb {
        Verb::Create { ladder, .. } => ladder.first().map_or((None, None), |rung| {
            let place = match &rung.offering {
                Some(offering) => offering.to_string(),
                None => rung.provider.to_string(),
            };
            (Some(place), rung.price.as_ref().map(|price| &price.hourly))
        }),
        Verb::Adopt { record, .. } => of_record(record),
        _ => action.before.as_deref().map_or((None, None), of_record),
    }
}

fn of_record(record: &crate::model::state::Record) -> (Option<String>, Option<&Money>) {
    let place = record
        .offering()
        .map_or_else(|| record.provider.to_string(), ToString::to_string);
    (Some(place), record.price.as_ref().map(|price| &price.hourly))
}

/// An hourly amount for a person: four decimals, since machines cost cents.
pub(crate) fn hourly(money: &Money) -> String {
    format!("{:.4} {}/h", money.amount.round_dp(4), money.currency)
}

/// A monthly amount for a person: two decimals.
pub(crate) fn monthly(money: &Money) -> String {
    format!("{:.2} {}/month", money.amount.round_dp(2), money.currency)
}

/// A decimal as JSON has it: exact, without trailing zeros.
pub(crate) fn decimal(amount: Decimal) -> String {
    amount.normalize().to_string()
}

/// `1 machine`, `2 machines`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
