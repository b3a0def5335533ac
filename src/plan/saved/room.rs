//! Whether there is room for what a saved plan adds, and whether the rules of every plan hold of it now.

use std::collections::{BTreeMap, HashSet};

use rust_decimal::Decimal;

use super::{Difference, fits::Checker};
use crate::{
    model::{
        ids::{Address, PoolName},
        money::{Money, Price},
        reason::Reason,
    },
    plan::{Plan, Rung, Verb, fleet, invariants, strays},
};

impl<'a> Checker<'a> {
    fn creates(&self) -> impl Iterator<Item = (&'a Address, &'a Vec<Rung>)> {
        let planned: &'a Plan = self.planned;
        planned.actions.iter().filter_map(|action| match &action.verb {
            Verb::Create { ladder, .. } => Some((&action.address, ladder)),
            _ => None,
        })
    }

    /// Machines that are there or being made, with those that the plan makes, per pool: as many as `max` at most.
    pub(super) fn max(&mut self) {
        let mut planned: BTreeMap<&PoolName, u32> = BTreeMap::new();
        for (address, _) in self.creates() {
            if let Some(pool) = &address.pool {
                *planned.entry(pool).or_default() += 1;
            }
        }
        let found = strays::find(&self.facts);
        let snapshot = self.facts.snapshot;
        let mut over = Vec::new();
        for (name, planned) in planned {
            let Some(pool) = self.facts.stack.pool(name) else {
                over.push(Difference::Halted {
                    about: format!("pools.{name}"),
                    why: "it is not in the stack file any more".to_owned(),
                });
                continue;
            };
            let alive = snapshot.state.machines_of(name).filter(|(address, record)| {
                fleet::presence(&self.facts, address, record) != fleet::Presence::Gone
            });
            let begun = self.begun.iter().filter(|address| {
                address.pool.as_ref() == Some(name) && !snapshot.state.resources.contains_key(address)
            });
            let there = alive.count() + begun.count();
            let there = u32::try_from(there).unwrap_or(u32::MAX);
            let there = there.saturating_add(found.machines_of(name));
            if there.saturating_add(planned) > pool.max {
                over.push(Difference::Max {
                    pool: name.clone(),
                    max: pool.max,
                    there,
                    planned,
                });
            }
        }
        for difference in over {
            self.differs(difference);
        }
    }

    pub(super) fn budget(&mut self, fresh: &Plan) {
        let Some(budget) = &self.facts.stack.budget.hourly else {
            return;
        };
        let dearest = |ladder: &[Rung]| {
            let prices = ladder.iter().filter_map(|rung| rung.price.as_ref());
            prices.map(|price: &Price| price.hourly.amount).max()
        };
        let planned: Decimal = self.creates().filter_map(|(_, ladder)| dearest(ladder)).sum();
        let spent: Decimal = fresh
            .cost
            .before_hourly
            .iter()
            .filter(|money| money.currency == budget.currency)
            .map(|money| money.amount)
            .sum();
        if planned > Decimal::ZERO && spent + planned > budget.amount {
            let money = |amount: Decimal| Money {
                amount,
                currency: budget.currency.clone(),
            };
            let difference = Difference::Budget {
                budget: budget.clone(),
                spent: money(spent),
                planned: money(planned),
            };
            self.differs(difference);
        }
    }

    /// Rules that keep from making anything, or anything in a pool, and that are in force now.
    pub(super) fn halted(&mut self, fresh: &Plan) {
        let pools: HashSet<String> = self
            .creates()
            .filter_map(|(address, _)| address.pool.as_ref())
            .map(ToString::to_string)
            .collect();
        let creates = self.creates().next().is_some();
        for held in &fresh.held {
            let halts = match &held.reason {
                Reason::ForeignPresent { .. } => creates,
                Reason::BreakerOpen { .. } => pools.contains(&held.about),
                _ => false,
            };
            if halts {
                self.differs(Difference::Halted {
                    about: held.about.clone(),
                    why: held.reason.to_string(),
                });
            }
        }
    }

    /// The rules of every plan, as a last net. That each record has one fate, and each attempt an end, is for a plan
    /// that decides on all; this one decides on what it touches.
    pub(super) fn rules(&mut self, plan: &Plan) {
        const OF_ALL: [u8; 2] = [10, 11];
        let broken = invariants::check(plan, self.facts.snapshot, self.facts.stack);
        for violation in broken {
            if OF_ALL.contains(&violation.number) {
                continue;
            }
            let rules = invariants::INVARIANTS.iter();
            let rule = rules
                .filter(|(number, _)| *number == violation.number)
                .map(|(_, words)| (*words).to_owned())
                .next();
            self.differs(Difference::Rule {
                about: violation.what,
                rule: rule.unwrap_or_default(),
            });
        }
    }
}
