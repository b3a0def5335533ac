//! What the actions of a plan amount to, in the words of Terraform's summary line.
//!
//! Actions that together make a resource anew count as one replacement: the create of what this plan removes or moves
//! out of the way, with that removal and that move.

use std::collections::HashSet;

use super::{Action, Plan, Summary, Verb};
use crate::model::{ids::Address, reason::Reason};

/// What one action counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// Made, or taken on record.
    Create,
    /// Changed in place, or let take jobs again.
    Update,
    /// Made anew.
    Replace,
    /// Removed.
    Delete,
    /// Dropped from the record, or a registration removed.
    Forget,
    /// Kept from taking new jobs.
    Cordon,
    /// Its pool's hooks are run, and nothing is changed.
    Hook,
    /// A part of a replacement, which is counted by its create.
    Part,
}

impl Summary {
    /// Counts so many.
    pub fn add(&mut self, tally: Tally, many: u32) {
        let count = match tally {
            Tally::Create => &mut self.create,
            Tally::Update => &mut self.update,
            Tally::Replace => &mut self.replace,
            Tally::Delete => &mut self.delete,
            Tally::Forget => &mut self.forget,
            Tally::Cordon => &mut self.cordon,
            Tally::Hook => &mut self.hook,
            Tally::Part => return,
        };
        *count = count.saturating_add(many);
    }
}

impl Plan {
    /// What each action counts as, by position.
    pub fn tallies(&self) -> Vec<Tally> {
        let made: HashSet<&Address> = self
            .actions
            .iter()
            .filter(|action| matches!(action.verb, Verb::Create { .. }))
            .map(|action| &action.address)
            .collect();
        let mut cleared: HashSet<&Address> = HashSet::new();
        let mut aside: HashSet<&Address> = HashSet::new();
        for action in &self.actions {
            match &action.verb {
                Verb::Delete { .. } if made.contains(&action.address) => {
                    cleared.insert(&action.address);
                }
                Verb::Relabel { was: Some(was), .. } if made.contains(was) => {
                    cleared.insert(was);
                    aside.insert(&action.address);
                }
                _ => {}
            }
        }
        let tally = |action: &Action| match &action.verb {
            Verb::Create { .. } if cleared.contains(&action.address) => Tally::Replace,
            Verb::Create { .. } if matches!(action.reason, Reason::Replacement { .. }) => Tally::Replace,
            Verb::Delete { .. } | Verb::Relabel { .. }
                if cleared.contains(&action.address) || aside.contains(&action.address) =>
            {
                Tally::Part
            }
            Verb::Create { .. } | Verb::Adopt { .. } => Tally::Create,
            Verb::Update { .. } | Verb::Relabel { .. } | Verb::Uncordon { .. } => Tally::Update,
            Verb::Retire { .. } | Verb::Delete { .. } => Tally::Delete,
            Verb::Forget { .. } | Verb::Unregister { .. } | Verb::Abandon { .. } => Tally::Forget,
            Verb::Cordon { .. } => Tally::Cordon,
            Verb::Hook { .. } => Tally::Hook,
        };
        self.actions.iter().map(tally).collect()
    }

    /// Counts the actions.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for (tally, action) in self.tallies().into_iter().zip(&self.actions) {
            summary.add(tally, u32::try_from(action.verb.count()).unwrap_or(u32::MAX));
        }
        summary
    }
}
