//! Whether there is room for what a saved plan adds, and whether the rules of every plan hold of it now.

use std::collections::{BTreeMap, HashSet};

use rust_decimal::Decimal;

use super::{Difference, fits::Checker};
use crate::{
    model::{
        ids::{Address, PoolName, ResourceKind},
        money::{Money, Period, Price},
        reason::Reason,
    },
    plan::{Plan, Rung, Verb, batches, fleet, invariants, strays},
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
        for (address, ladder) in self.creates() {
            if let Some(pool) = &address.pool {
                let made = ladder.first().map_or(1, |rung| rung.spec.count());
                *planned.entry(pool).or_default() += made;
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
                address.kind != ResourceKind::Batch
                    && address.pool.as_ref() == Some(name)
                    && !snapshot.state.resources.contains_key(address)
            });
            let there = alive.count() + begun.count() + batches::unseen_of(&self.facts, name);
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

    /// What the plan makes, at its dearest rungs, beside what runs and what is spent now.
    pub(super) fn budget(&mut self, fresh: &Plan) {
        let (stack, facts) = (self.facts.stack, &self.facts);
        let Some(counted) = stack.counted_in().cloned() else {
            return;
        };
        let dearest: Vec<&Price> = self
            .creates()
            .filter_map(|(_, ladder)| facts.dearest(ladder.iter().filter_map(|rung| rung.price.as_ref())))
            .collect();
        let money = |amount: Decimal| Money {
            amount,
            currency: counted.clone(),
        };
        let mut over = Vec::new();
        for (period, budget) in stack.budget.limits() {
            let (from, to) = period.around(facts.snapshot.now);
            let month = Period::Month.around(facts.snapshot.now).0;
            let cost = |price: &&Price| match period {
                Period::Hour => facts.worth(&price.hourly),
                Period::Day | Period::Month => {
                    let now = facts.snapshot.now;
                    facts.worth(&price.charge(now, month, now.max(from), to))
                }
            };
            let planned: Decimal = dearest.iter().filter_map(cost).map(|money| money.amount).sum();
            let projected = fresh
                .cost
                .projected
                .iter()
                .find(|projected| projected.per == period);
            let runs = || -> Decimal {
                let sums = fresh.cost.before_hourly.iter();
                sums.filter_map(|sum| facts.worth(sum))
                    .map(|sum| sum.amount)
                    .sum()
            };
            let spent = projected.map_or_else(runs, |projected| projected.before.amount);
            let allowed = facts.worth(budget).map_or(Decimal::ZERO, |money| money.amount);
            if planned > Decimal::ZERO && spent + planned > allowed {
                over.push(Difference::Budget {
                    budget: budget.clone(),
                    per: period,
                    spent: money(spent),
                    planned: money(planned.round_dp(4)),
                });
            }
        }
        for difference in over {
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
