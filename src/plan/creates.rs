//! Machines to be made: on which ladder, within which budget, under which name.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::{
    ActionId, Bootstrap, Rung, Verb,
    draft::Draft,
    facts::Facts,
    groups::Groups,
    names::Names,
    pool::Wish,
    recover::InFlight,
    shared::{self, Wished},
};
use crate::{
    model::{
        ids::{Address, PoolName, ProviderName, ResourceKind, RunnerName},
        offering::OfferingKey,
        reason::Reason,
        resource::{MachineSpec, ResourceSpec},
    },
    placement::{self, Breaker, LaunchBudgets, Rated},
    render::{TemplateSet, spec_hash},
    stack::Pool,
};

/// A machine to be made, its ladder complete but for the ids of what it needs.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) address: Address,
    pub(super) reason: Reason,
    pub(super) ladder: Vec<Rung>,
    pub(super) bootstrap: Bootstrap,
}

/// What is left of the budget of an hour.
#[derive(Debug)]
pub(super) struct Purse {
    /// None: no limit.
    left: Option<Decimal>,
}

impl Purse {
    /// The budget less what runs already, in the budget's currency.
    pub(super) fn new(facts: &Facts<'_>, running: &[crate::model::money::Money]) -> Self {
        let left = facts.stack.budget.hourly.as_ref().map(|budget| {
            let spent = running.iter().filter(|money| money.currency == budget.currency);
            budget.amount - spent.map(|money| money.amount).sum::<Decimal>()
        });
        Self { left }
    }

    fn affords(&self, rung: &Rung) -> bool {
        match (&self.left, &rung.price) {
            (Some(left), Some(price)) => price.hourly.amount <= *left,
            _ => true,
        }
    }

    /// Sets the dearest rung's price aside.
    fn take(&mut self, ladder: &[Rung]) {
        let dearest = ladder
            .iter()
            .filter_map(|rung| rung.price.as_ref())
            .map(|price| price.hourly.amount)
            .max();
        if let (Some(left), Some(dearest)) = (&mut self.left, dearest) {
            *left -= dearest;
        }
    }
}

/// Everything that making machines draws on.
pub(super) struct Maker<'a, 'f> {
    pub(super) facts: &'f Facts<'a>,
    pub(super) templates: &'f TemplateSet,
    pub(super) wished: &'f BTreeMap<Address, Wished>,
    pub(super) in_flight: &'f InFlight,
    pub(super) names: Names,
    pub(super) groups: Groups,
    pub(super) purse: Purse,
    /// What each offering may still be asked for; consumed here as apply will consume it.
    pub(super) budgets: LaunchBudgets,
    /// The same, as the plan tells it to apply.
    pub(super) limits: LaunchBudgets,
}

impl Maker<'_, '_> {
    /// The machines of one pool.
    pub(super) fn make(&mut self, wish: &Wish<'_>, draft: &mut Draft) -> Vec<Made> {
        let mut made = Vec::new();
        let wanted = u32::try_from(wish.reasons.len()).unwrap_or(u32::MAX);
        if wanted == 0 {
            return made;
        }
        let rungs = self.rungs(wish, wanted, draft);
        if rungs.is_empty() {
            return made;
        }
        let pool = wish.pool;
        for (ordinal, reason) in (0_u32..).zip(&wish.reasons) {
            let left = wanted - ordinal;
            let affordable: Vec<&Rung> = rungs.iter().filter(|rung| self.purse.affords(rung)).collect();
            if affordable.is_empty() {
                if let Some(budget) = self.facts.stack.budget.hourly.clone() {
                    let reason = Reason::BudgetReached { budget, wanted: left };
                    draft.warn(&pool.name, left, reason);
                }
                break;
            }
            let mut ladder: Vec<Rung> = affordable.into_iter().cloned().collect();
            let Some(first) = placement::next(&ladder, &[], &self.budgets) else {
                if let Some(offering) = ladder.swap_remove(0).offering {
                    let until = self.facts.snapshot.now;
                    draft.hold(&pool.name, left, Reason::CapacityRefused { offering, until });
                }
                break;
            };
            if let Some(offering) = ladder.get(first).and_then(|rung| rung.offering.as_ref()) {
                self.budgets.take(offering);
            }
            self.purse.take(&ladder);
            let (runner, name) = self.names.runner(&self.facts.stack.name, &pool.name, ordinal);
            let groups = self.places(pool, &ladder);
            for rung in &mut ladder {
                if let ResourceSpec::Machine(spec) = &mut rung.spec {
                    spec.runner = runner.clone();
                    spec.name.clone_from(&name);
                    spec.placement_group = groups.get(&rung.provider).cloned();
                }
            }
            made.push(Made {
                address: Address::machine(&pool.name, &runner),
                reason: reason.clone(),
                ladder,
                bootstrap: Bootstrap {
                    pool: pool.name.clone(),
                    ci: pool.ci.clone(),
                },
            });
        }
        made
    }

    /// One place in a placement group at every provider of a ladder, for a pool that is spread: it is not known yet on
    /// which rung the machine will be.
    fn places(&mut self, pool: &Pool, ladder: &[Rung]) -> BTreeMap<ProviderName, String> {
        let mut places = BTreeMap::new();
        for rung in ladder.iter().filter(|_| pool.spread) {
            if !places.contains_key(&rung.provider)
                && let Some(group) = self.groups.place(self.facts, &pool.name, &rung.provider)
            {
                places.insert(rung.provider.clone(), group);
            }
        }
        places
    }

    /// The pool's ladder, without names; what is passed over is said.
    fn rungs(&mut self, wish: &Wish<'_>, wanted: u32, draft: &mut Draft) -> Vec<Rung> {
        let facts = self.facts;
        let pool = wish.pool;
        let currency = facts.stack.budget.hourly.as_ref().map(|budget| &budget.currency);
        let (rated, passed) = placement::options(pool, &facts.offerings, currency);
        let mut rungs = Vec::new();
        let mut refusals: Vec<Reason> = passed.into_iter().map(|why| Reason::NoOffering { why }).collect();
        if rated.is_empty() && refusals.is_empty() {
            let why = "the pool lists none".to_owned();
            refusals.push(Reason::NoOffering { why });
        }
        for option in rated {
            match self.rung(wish, &option, facts.snapshot.now) {
                Ok(rung) => rungs.push(rung),
                Err(reason) => refusals.push(reason),
            }
        }
        for reason in refusals {
            let alone = rungs.is_empty();
            let count = if alone { wanted } else { 0 };
            match reason {
                Reason::CapacityRefused { .. } | Reason::Unsettled { .. } => {
                    draft.hold(&pool.name, count, reason);
                }
                _ if alone => draft.warn(&pool.name, count, reason),
                Reason::BreakerOpen { .. } => draft.warn(&pool.name, 0, reason),
                _ => draft.hold(&pool.name, 0, reason),
            }
        }
        rungs
    }

    fn rung(&mut self, wish: &Wish<'_>, option: &Rated<'_>, now: Timestamp) -> Result<Rung, Reason> {
        let facts = self.facts;
        let pool = wish.pool;
        let offering: &OfferingKey = &option.offering.key;
        if let Some(until) = placement::refused_until(&facts.snapshot.history.refusals, offering, now) {
            let offering = offering.clone();
            return Err(Reason::CapacityRefused { offering, until });
        }
        let provider = &offering.provider;
        let spec = MachineSpec {
            pool: pool.name.clone(),
            runner: RunnerName::new(""),
            name: String::new(),
            offering: offering.clone(),
            image: option.choice.image.clone(),
            public_ipv4: option.choice.public_ipv4,
            ssh_keys: shared::applying(self.wished, ResourceKind::SshKey, pool, provider),
            firewalls: shared::applying(self.wished, ResourceKind::Firewall, pool, provider),
            networks: shared::applying(self.wished, ResourceKind::Network, pool, provider),
            placement_group: None,
            parts: BTreeMap::new(),
        };
        let Some(ci) = facts.stack.ci.get(&pool.ci) else {
            let why = format!("{} is not in the stack file", pool.ci);
            return Err(Reason::NoOffering { why });
        };
        let hash = spec_hash(self.templates, pool, ci, &spec).map_err(|error| Reason::NoOffering {
            why: error.to_string(),
        })?;
        match placement::breaker(&facts.snapshot.history.failures, offering, &hash, now) {
            Breaker::Closed => {}
            Breaker::Open(reason) => return Err(reason),
            Breaker::HalfOpen => {
                let booting = wish.booting.get(offering).copied().unwrap_or_default();
                self.budgets.limit(offering, 1_u32.saturating_sub(booting));
                self.limits.limit(offering, 1_u32.saturating_sub(booting));
            }
        }
        let rung = Rung {
            offering: Some(offering.clone()),
            provider: provider.clone(),
            price: Some(option.price.clone()),
            hash,
            spec: ResourceSpec::Machine(spec),
            needs: Vec::new(),
        };
        if shared::in_doubt(&shared::needs_of(&rung), &self.in_flight.unsettled) {
            return Err(Reason::Unsettled { since: now });
        }
        Ok(rung)
    }
}

/// The shared resources that these machines need, with the first pool that does.
pub(super) fn needed(made: &[Made]) -> BTreeMap<Address, PoolName> {
    let mut needed = BTreeMap::new();
    for machine in made {
        for address in machine.ladder.iter().flat_map(shared::needs_of) {
            needed
                .entry(address)
                .or_insert_with(|| machine.bootstrap.pool.clone());
        }
    }
    needed
}

/// Adds the machines to the plan, after what they need.
pub(super) fn push(made: Vec<Made>, shared: &HashMap<Address, ActionId>, draft: &mut Draft) {
    for machine in made {
        let mut ladder = machine.ladder;
        for rung in &mut ladder {
            rung.needs = shared::needs_of(rung)
                .iter()
                .filter_map(|address| shared.get(address).copied())
                .collect();
        }
        let verb = Verb::Create {
            ladder,
            bootstrap: Some(machine.bootstrap),
        };
        draft.push(&machine.address, verb, machine.reason, Vec::new(), None);
    }
}
