//! What may still be spent: every budget less what is spent in its period and what runs until the period's end.
//!
//! A budget of an hour bounds what runs at once. One of a day or a month of UTC bounds what its period comes to: what
//! [`History::spend`](crate::model::state::History) says is owed so far, what all that runs will cost until its end, a
//! cloud's cap on a month respected, and what this plan adds. Nothing is ever deleted for money: a budget keeps machines
//! from being made, and that is all.

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::{Projection, facts::Facts};
use crate::model::{
    money::{Currency, Money, Period, Price},
    reason::Reason,
    state::Record,
};

/// Something that costs money until it is deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running<'a> {
    pub(super) price: &'a Price,
    /// Since when it costs something.
    pub(super) created: Timestamp,
    /// Until when it is in the history's sums; none: not at all.
    pub(super) charged: Option<Timestamp>,
}

/// A budget, as it is reckoned.
#[derive(Clone, Debug)]
struct Limit {
    period: Period,
    /// As it is written.
    budget: Money,
    now: Timestamp,
    /// When the period began and ends.
    from: Timestamp,
    to: Timestamp,
    /// When the month of it began.
    month: Timestamp,
    /// In the currency that all is counted in, as the two below.
    amount: Decimal,
    spent: Decimal,
    /// What is spent, and what runs costs until the end.
    before: Decimal,
    left: Decimal,
}

impl Limit {
    fn of(facts: &Facts<'_>, period: Period, budget: &Money, running: &[Running<'_>]) -> Option<Self> {
        let now = facts.snapshot.now;
        let (from, to) = period.around(now);
        let amount = facts.worth(budget)?.amount;
        let spend = &facts.snapshot.history.spend;
        let spent = match period {
            Period::Hour => None,
            Period::Day => spend.day.as_ref(),
            Period::Month => spend.month.as_ref(),
        };
        let sums = spent
            .filter(|spent| spent.since == from)
            .map(|spent| spent.sums.iter());
        let spent = sums
            .into_iter()
            .flatten()
            .filter_map(|sum| facts.worth(sum))
            .map(|sum| sum.amount)
            .sum();
        let mut limit = Self {
            period,
            budget: budget.clone(),
            now,
            from,
            to,
            month: Period::Month.around(now).0,
            amount,
            spent,
            before: spent,
            left: Decimal::ZERO,
        };
        for one in running {
            limit.before += limit.rest(facts, one).unwrap_or_default();
        }
        limit.left = limit.amount - limit.before;
        Some(limit)
    }

    /// What something that runs still adds to the period; none where its currency does not convert.
    fn rest(&self, facts: &Facts<'_>, one: &Running<'_>) -> Option<Decimal> {
        let cost = match self.period {
            Period::Hour => one.price.hourly.clone(),
            Period::Day | Period::Month => {
                let from = one.charged.map_or(self.from, |until| until.max(self.from));
                one.price.charge(one.created, self.month, from, self.to)
            }
        };
        facts.worth(&cost).map(|money| money.amount)
    }

    /// What a machine that is made now adds to the period.
    fn cost(&self, facts: &Facts<'_>, price: &Price) -> Option<Decimal> {
        self.rest(facts, &self.anew(price))
    }

    fn anew<'p>(&self, price: &'p Price) -> Running<'p> {
        Running {
            price,
            created: self.now,
            charged: Some(self.now),
        }
    }

    fn money(&self, facts: &Facts<'_>, amount: Decimal) -> Money {
        Money {
            amount: amount.round_dp(4).normalize(),
            currency: facts.stack.counted_in().unwrap_or(&self.budget.currency).clone(),
        }
    }
}

/// Why there is no money for a machine.
#[derive(Clone, Debug)]
pub(super) enum Short {
    /// This budget has no room for it.
    Budget {
        budget: Box<Money>,
        per: Period,
        left: Box<Money>,
        price: Box<Money>,
    },
    /// Something that runs, or the machine itself, is priced in a currency that does not convert.
    Blind { currency: Currency, base: Currency },
}

impl Short {
    /// In words, for so many machines on this offering.
    pub(super) fn reason(self, wanted: u32, offering: String) -> Reason {
        match self {
            Self::Budget {
                budget,
                per,
                left,
                price,
            } => Reason::BudgetReached {
                budget,
                per,
                left,
                wanted,
                offering,
                price,
            },
            Self::Blind { currency, base } => Reason::BudgetBlind { currency, base },
        }
    }
}

/// What is left of the budgets.
#[derive(Clone, Debug)]
pub(super) struct Purse {
    limits: Vec<Limit>,
    /// A currency of something that runs, which no budget can count.
    blind: Option<Currency>,
}

impl Purse {
    /// The budgets less what is spent and what runs.
    pub(super) fn new(facts: &Facts<'_>, running: &[Running<'_>]) -> Self {
        let limits: Vec<Limit> = facts
            .stack
            .budget
            .limits()
            .filter_map(|(period, budget)| Limit::of(facts, period, budget, running))
            .collect();
        // Only where there is a budget that could not count it.
        let counted = running.iter().filter(|_| !limits.is_empty());
        let unknown = counted
            .map(|one| &one.price.hourly)
            .find(|money| facts.worth(money).is_none());
        Self {
            blind: unknown.map(|money| money.currency.clone()),
            limits,
        }
    }

    /// Whether every budget has room for a machine at this price.
    ///
    /// # Errors
    /// Why not: the shortest period's budget first.
    pub(super) fn affords(&self, facts: &Facts<'_>, price: Option<&Price>) -> Result<(), Short> {
        self.affords_after(facts, None, price)
    }

    fn affords_after(
        &self,
        facts: &Facts<'_>,
        freed: Option<&Running<'_>>,
        price: Option<&Price>,
    ) -> Result<(), Short> {
        let Some(price) = price else { return Ok(()) };
        let blind = |currency: &Currency| Short::Blind {
            currency: currency.clone(),
            base: facts.stack.counted_in().unwrap_or(currency).clone(),
        };
        if let Some(currency) = &self.blind {
            return Err(blind(currency));
        }
        for limit in &self.limits {
            let Some(cost) = limit.cost(facts, price) else {
                return Err(blind(&price.hourly.currency));
            };
            let freed = freed.and_then(|one| limit.rest(facts, one)).unwrap_or_default();
            if cost > limit.left + freed {
                return Err(Short::Budget {
                    budget: Box::new(limit.budget.clone()),
                    per: limit.period,
                    left: Box::new(limit.money(facts, limit.left.max(Decimal::ZERO))),
                    price: Box::new(limit.money(facts, cost)),
                });
            }
        }
        Ok(())
    }

    /// Sets aside what the dearest of these prices costs in each budget.
    pub(super) fn take(&mut self, facts: &Facts<'_>, prices: &[&Price]) {
        for limit in &mut self.limits {
            let dearest = prices.iter().filter_map(|price| limit.cost(facts, price)).max();
            limit.left -= dearest.unwrap_or_default();
        }
    }

    /// Whether what is left, and what the end of a machine on record frees, pays for one at this price; then the
    /// difference is set aside.
    pub(super) fn swap(&mut self, facts: &Facts<'_>, old: &Record, new: Option<&Price>) -> bool {
        let now = facts.snapshot.now;
        let freed = old.price.as_ref().map(|price| Running {
            price,
            created: old.created_at,
            charged: Some(now),
        });
        if self.affords_after(facts, freed.as_ref(), new).is_err() {
            return false;
        }
        for limit in &mut self.limits {
            let freed = freed
                .as_ref()
                .and_then(|one| limit.rest(facts, one))
                .unwrap_or_default();
            let cost = new.and_then(|price| limit.cost(facts, price)).unwrap_or_default();
            limit.left -= (cost - freed).max(Decimal::ZERO);
        }
        true
    }

    /// What each budget of a day or month comes to: now, and with what a plan adds and ends.
    pub(super) fn projected(
        &self,
        facts: &Facts<'_>,
        made: &[(&Price, u32)],
        ended: &[Running<'_>],
    ) -> Vec<Projection> {
        let project = |limit: &Limit| {
            let made = made
                .iter()
                .filter_map(|(price, many)| Some(limit.cost(facts, price)? * Decimal::from(*many)));
            let ended = ended.iter().filter_map(|one| limit.rest(facts, one));
            let after = limit.before + made.sum::<Decimal>() - ended.sum::<Decimal>();
            Projection {
                per: limit.period,
                budget: limit.budget.clone(),
                allowed: limit.money(facts, limit.amount),
                spent: limit.money(facts, limit.spent),
                before: limit.money(facts, limit.before),
                after: limit.money(facts, after),
            }
        };
        let longer = self.limits.iter().filter(|limit| limit.period != Period::Hour);
        longer.map(project).collect()
    }
}
