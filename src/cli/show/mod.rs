//! Turns plans and snapshots into what a person or a program reads.
//!
//! Contract: pure functions from values to a `String` or a value that serde writes. Nothing here prints, asks the
//! time, or knows whether it writes to a terminal: colour is an argument.

pub mod adopt;
pub mod audit;
pub mod document;
pub mod explain;
pub mod gitlab;
pub mod graph;
pub mod lines;
pub mod lock;
pub mod markdown;
pub mod outcome;
pub mod plan;
pub mod refresh;
pub mod resource;
pub mod sections;
pub mod sources;
pub mod state;
pub mod status;
pub mod strays;
mod style;
mod table;
pub mod terraform;
pub mod watch;

#[cfg(test)]
mod fixture;

use std::collections::HashMap;

use rust_decimal::Decimal;

use crate::{
    model::{money::Money, offering::OfferingKey, reason::Reason, resource::ResourceSpec},
    plan::{Action, ActionId, Plan, Verb},
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
    /// A half of making something anew: first made, then the old one removed.
    CreateFirst,
    /// A half of making something anew: first removed, then made.
    DeleteFirst,
    /// Removed.
    Delete,
    /// Dropped from the record.
    Forget,
    /// Kept from taking new jobs.
    Cordon,
    /// Its pool's hooks are run; nothing of it is changed.
    Hook,
}

impl Change {
    /// Every change, in the order of the legend.
    pub const ALL: [Self; 8] = [
        Self::Create,
        Self::Update,
        Self::CreateFirst,
        Self::DeleteFirst,
        Self::Delete,
        Self::Forget,
        Self::Cordon,
        Self::Hook,
    ];

    /// What a verb amounts to by itself.
    pub fn of(verb: &Verb) -> Self {
        match verb {
            Verb::Create { .. } | Verb::Adopt { .. } => Self::Create,
            Verb::Update { .. } | Verb::Relabel { .. } | Verb::Uncordon { .. } => Self::Update,
            Verb::Retire { .. } | Verb::Delete { .. } => Self::Delete,
            Verb::Forget { .. } | Verb::Unregister { .. } | Verb::Abandon { .. } => Self::Forget,
            Verb::Cordon { .. } => Self::Cordon,
            Verb::Hook { .. } => Self::Hook,
        }
    }

    /// What each action of a plan amounts to, by position: a create of what the plan also removes, or that takes the
    /// place of something, is one half of making it anew, and that removal is the other.
    pub fn of_plan(plan: &Plan) -> Vec<Self> {
        let replaced = replaced(plan);
        let mut changes: Vec<Self> = plan.actions.iter().map(|action| Self::of(&action.verb)).collect();
        for (create, removal) in replaced {
            let half = if removal.is_some_and(|removal| is_after(plan, create, removal)) {
                Self::DeleteFirst
            } else {
                Self::CreateFirst
            };
            for at in std::iter::once(create).chain(removal) {
                if let Some(change) = changes.get_mut(at) {
                    *change = half;
                }
            }
        }
        changes
    }

    /// Its symbol: Terraform's, and `!` for a cordon and `>` for a hook, which Terraform does not have.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Update => "~",
            Self::CreateFirst => "+/-",
            Self::DeleteFirst => "-/+",
            Self::Delete => "-",
            Self::Forget => ".",
            Self::Cordon => "!",
            Self::Hook => ">",
        }
    }

    /// Its word, as in JSON's `actions`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::CreateFirst | Self::DeleteFirst => "replace",
            Self::Delete => "delete",
            Self::Forget => "forget",
            Self::Cordon => "cordon",
            Self::Hook => "hook",
        }
    }
}

/// Whether a create waits for a removal.
fn is_after(plan: &Plan, create: usize, removal: usize) -> bool {
    match (plan.actions.get(create), plan.actions.get(removal)) {
        (Some(create), Some(removal)) => create.after.contains(&removal.id),
        _ => false,
    }
}

/// The positions of the creates that make something anew, each with that of the removal of what they replace, where
/// this plan removes it too; the old one may be at work still.
fn replaced(plan: &Plan) -> Vec<(usize, Option<usize>)> {
    let mut removals: HashMap<String, usize> = HashMap::new();
    for (at, action) in plan.actions.iter().enumerate() {
        match &action.verb {
            Verb::Retire { .. } | Verb::Delete { .. } | Verb::Cordon { .. } => {
                removals.insert(action.address.to_string(), at);
            }
            // What is moved out of the way, so that its successor can have its address.
            Verb::Relabel { was: Some(was), .. } => {
                removals.insert(was.to_string(), at);
            }
            _ => {}
        }
    }
    let creates = plan.actions.iter().enumerate();
    creates
        .filter(|(_, action)| matches!(action.verb, Verb::Create { .. }))
        .filter_map(
            |(at, action)| match (&action.reason, removals.get(&action.address.to_string())) {
                (_, Some(removal)) => Some((at, Some(*removal))),
                (Reason::Replacement { of }, None) => Some((at, removals.get(of).copied())),
                _ => None,
            },
        )
        .collect()
}

/// What each create that makes something anew takes the place of.
pub(crate) fn replaces(plan: &Plan) -> HashMap<ActionId, String> {
    let replaced = replaced(plan).into_iter();
    replaced
        .filter_map(|(create, removal)| {
            let action = plan.actions.get(create)?;
            let of = match (&action.reason, removal) {
                (Reason::Replacement { of }, _) => of.clone(),
                _ => action.address.to_string(),
            };
            Some((action.id, of))
        })
        .collect()
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
        Verb::Hook { .. } => ("running hooks", "hooks run"),
    }
}

/// What an action's machine is or will be bought as, and its hourly price: the first rung of a create, else what is
/// on record.
pub(crate) fn bought(action: &Action) -> (Option<String>, Option<&Money>) {
    match &action.verb {
        Verb::Create { ladder, .. } => ladder.first().map_or((None, None), |rung| {
            let place = match &rung.offering {
                Some(offering) => times(&rung.spec, offering),
                None => rung.provider.to_string(),
            };
            (Some(place), rung.price.as_ref().map(|price| &price.hourly))
        }),
        Verb::Adopt { record, .. } => of_record(record),
        _ => action.before.as_deref().map_or((None, None), of_record),
    }
}

fn of_record(record: &crate::model::state::Record) -> (Option<String>, Option<&Money>) {
    let place = record.offering().map_or_else(
        || record.provider.to_string(),
        |offering| times(&record.spec, offering),
    );
    (Some(place), record.price.as_ref().map(|price| &price.hourly))
}

/// What is bought, and of a batch how often: `10 × fargate/eu-central-1 0.25vcpu-0.5gb`.
fn times(spec: &ResourceSpec, offering: &OfferingKey) -> String {
    match spec {
        ResourceSpec::Batch(batch) if batch.count != 1 => format!("{} × {offering}", batch.count),
        _ => offering.to_string(),
    }
}

/// What things cost together per hour, one sum per currency; none where nothing that has a price is among them.
pub(crate) fn together<'a>(prices: impl Iterator<Item = &'a Money>) -> Option<String> {
    let mut sums: Vec<Money> = Vec::new();
    for price in prices {
        match sums.iter_mut().find(|sum| sum.currency == price.currency) {
            Some(sum) => sum.amount += price.amount,
            None => sums.push(price.clone()),
        }
    }
    let words: Vec<String> = sums.iter().map(hourly).collect();
    (!words.is_empty()).then(|| words.join(" and "))
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
