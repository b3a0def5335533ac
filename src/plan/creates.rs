//! Machines to be made: on which ladder, within which budget, under which name.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::{
    Bootstrap, Rung,
    draft::Draft,
    facts::Facts,
    fleet::{Machine, Presence},
    groups::Groups,
    made::Made,
    names::Names,
    pool::Wish,
    purse::{Purse, Short},
    recover::InFlight,
    shared::{self, Wished},
};
use crate::{
    model::{
        ids::{Address, PoolName, ProviderName, ResourceKind, RunnerName},
        offering::OfferingKey,
        reason::Reason,
        resource::{Completeness, MachineSpec, ResourceSpec},
        state::Record,
    },
    placement::{self, Breaker, LaunchBudgets, Rated, Refused, Scale},
    render::{TemplateSet, parts, spec_hash},
    stack::{OfferingChoice, Pool, Spread},
};

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
    /// Machines by where they are, those that this plan makes counted at their first rung.
    pub(super) located: HashMap<Located, u32>,
}

/// Whose machines, at which provider, in which location.
pub(super) type Located = (PoolName, ProviderName, String);

fn place_of(pool: &PoolName, offering: &OfferingKey) -> Located {
    (pool.clone(), offering.provider.clone(), offering.location.clone())
}

/// Where each pool's machines are, that are not certainly gone: on record, or perhaps made.
pub(super) fn located(
    machines: &BTreeMap<&PoolName, Vec<Machine<'_>>>,
    in_flight: &InFlight,
) -> HashMap<Located, u32> {
    let mut located = HashMap::new();
    let on_record = machines.iter().flat_map(|(pool, own)| {
        let there = own.iter().filter(|machine| machine.presence != Presence::Gone);
        there.filter_map(|machine| Some(place_of(pool, machine.record.offering()?)))
    });
    let begun = in_flight
        .machines
        .iter()
        .flat_map(|(pool, offerings)| offerings.iter().map(|offering| place_of(pool, offering)));
    for place in on_record.chain(begun) {
        *located.entry(place).or_default() += 1;
    }
    located
}

/// A rung with what keeps its place in the ladder, whatever the pool is spread over.
struct Placed {
    rung: Rung,
    priority: u32,
    sold_out: bool,
}

/// Why one more machine cannot be made now.
#[derive(Clone, Debug)]
pub(super) enum Blocked {
    /// A budget has no room for it: which, and what the money would have bought.
    Budget(Short, String),
    /// What it could be made on has no launches left in this tick.
    Launches(OfferingKey),
    /// Nothing that it could be made on can be bought.
    NoRung,
}

impl Maker<'_, '_> {
    /// The machines of one pool.
    pub(super) fn make(&mut self, wish: &Wish<'_>, draft: &mut Draft) -> Vec<Made> {
        let wanted = count(wish.reasons.len());
        if wanted == 0 {
            return Vec::new();
        }
        let (rungs, refusals) = self.rungs(wish);
        tell(wish.pool, wanted, rungs.is_empty(), refusals, draft);
        let (made, blocked) = self.each(wish, &rungs, 0);
        let pool = &wish.pool.name;
        let left = wanted - count(made.len());
        let made = if wish.pool.runs_tasks() {
            self.batches(made)
        } else {
            made
        };
        match blocked {
            Some(Blocked::Budget(short, offering)) => draft.warn(pool, left, short.reason(left, offering)),
            Some(Blocked::Launches(offering)) => {
                let launches = self.limits.left(&offering).unwrap_or_default();
                draft.hold(pool, left, Reason::SlowStart { offering, launches });
            }
            Some(Blocked::NoRung) | None => {}
        }
        made
    }

    /// Puts containers that are bought alike together, as many in each batch as every cloud of its ladder starts by one call.
    fn batches(&self, made: Vec<Made>) -> Vec<Made> {
        let alike = |a: &Made, b: &Made| {
            let offerings = |made: &Made| {
                made.ladder
                    .iter()
                    .map(|rung| rung.offering.clone())
                    .collect::<Vec<_>>()
            };
            offerings(a) == offerings(b)
        };
        let room = |made: &Made| {
            let clouds = &self.facts.snapshot.clouds;
            let sizes = made.ladder.iter().filter_map(|rung| clouds.get(&rung.provider));
            sizes
                .map(|cloud| cloud.profile.batch_size)
                .min()
                .unwrap_or(1)
                .max(1)
        };
        let mut batches: Vec<(Made, u32)> = Vec::new();
        for one in made {
            match batches.last_mut() {
                Some((batch, many))
                    if alike(batch, &one) && usize::try_from(*many).is_ok_and(|many| many < room(batch)) =>
                {
                    *many += 1;
                }
                _ => batches.push((one, 1)),
            }
        }
        batches.into_iter().map(|(batch, many)| batch.of(many)).collect()
    }

    /// One place in a placement group at every provider of a ladder, for a pool that is spread over hosts: it is not known yet on
    /// which rung the machine will be.
    fn places(&mut self, pool: &Pool, ladder: &[Rung]) -> BTreeMap<ProviderName, String> {
        let mut places = BTreeMap::new();
        for rung in ladder.iter().filter(|_| pool.spread == Spread::Hosts) {
            if !places.contains_key(&rung.provider)
                && let Some(group) = self.groups.place(self.facts, &pool.name, &rung.provider)
            {
                places.insert(rung.provider.clone(), group);
            }
        }
        places
    }

    /// Machines that take the place of others, after those of [`Self::make`], which were `before` many; with what kept
    /// more from being made. What the pool may not buy now is said by `make` where it says something.
    pub(super) fn replace(
        &mut self,
        wish: &Wish<'_>,
        before: u32,
        draft: &mut Draft,
    ) -> (Vec<Made>, Option<Blocked>) {
        if wish.reasons.is_empty() {
            return (Vec::new(), None);
        }
        let (rungs, refusals) = self.rungs(wish);
        if before == 0 {
            tell(wish.pool, 0, rungs.is_empty(), refusals, draft);
        }
        self.each(wish, &rungs, before)
    }

    /// Whether a machine of this pool could be made, now, with what the end of this one frees; then that much of what is
    /// left is set aside for it.
    pub(super) fn frees(&mut self, wish: &Wish<'_>, old: &Record) -> bool {
        let (rungs, _) = self.rungs(wish);
        let rungs: Vec<Rung> = rungs.into_iter().map(|placed| placed.rung).collect();
        if placement::next(&rungs, &Refused::default(), &self.budgets).is_none() {
            return false;
        }
        let prices = rungs.iter().filter_map(|rung| rung.price.as_ref());
        let cheapest = prices.min_by_key(|price| {
            self.facts
                .worth(&price.hourly)
                .map_or(price.hourly.amount, |money| money.amount)
        });
        self.purse.swap(self.facts, old, cheapest)
    }

    /// The rungs in the order of their ladder; for a pool that is spread over locations those first, within one priority,
    /// whose location has the fewest of its machines.
    fn spread_out<'r>(&self, pool: &Pool, rungs: &'r [Placed]) -> Vec<&'r Rung> {
        let mut order: Vec<&Placed> = rungs.iter().collect();
        if pool.spread == Spread::Locations {
            let there = |placed: &Placed| {
                let place = placed.rung.offering.as_ref().map(|key| place_of(&pool.name, key));
                place
                    .and_then(|place| self.located.get(&place))
                    .copied()
                    .unwrap_or_default()
            };
            order.sort_by_key(|placed| (placed.priority, placed.sold_out, there(placed)));
        }
        order.into_iter().map(|placed| &placed.rung).collect()
    }

    fn each(&mut self, wish: &Wish<'_>, rungs: &[Placed], before: u32) -> (Vec<Made>, Option<Blocked>) {
        let mut made = Vec::new();
        for (ordinal, reason) in (before..).zip(&wish.reasons) {
            match self.one(wish.pool, rungs, ordinal, reason) {
                Ok(machine) => made.push(machine),
                Err(blocked) => return (made, Some(blocked)),
            }
        }
        (made, None)
    }

    fn one(&mut self, pool: &Pool, rungs: &[Placed], ordinal: u32, reason: &Reason) -> Result<Made, Blocked> {
        let mut short = None;
        let mut ladder: Vec<Rung> = Vec::new();
        for rung in self.spread_out(pool, rungs) {
            match self.purse.affords(self.facts, rung.price.as_ref()) {
                Ok(()) => ladder.push(rung.clone()),
                Err(why) if short.is_none() => short = Some((why, rung_name(rung))),
                Err(_) => {}
            }
        }
        if ladder.is_empty() {
            return Err(short.map_or(Blocked::NoRung, |(why, offering)| Blocked::Budget(why, offering)));
        }
        let Some(first) = placement::next(&ladder, &Refused::default(), &self.budgets) else {
            let offering = ladder.swap_remove(0).offering;
            return Err(offering.map_or(Blocked::NoRung, Blocked::Launches));
        };
        if let Some(offering) = ladder.get(first).and_then(|rung| rung.offering.as_ref()) {
            self.budgets.take(offering);
            *self.located.entry(place_of(&pool.name, offering)).or_default() += 1;
        }
        let prices: Vec<_> = ladder.iter().filter_map(|rung| rung.price.as_ref()).collect();
        self.purse.take(self.facts, &prices);
        let (runner, name) = self.names.runner(&self.facts.stack.name, &pool.name, ordinal);
        let groups = self.places(pool, &ladder);
        for rung in &mut ladder {
            if let ResourceSpec::Machine(spec) = &mut rung.spec {
                spec.runner = runner.clone();
                spec.name.clone_from(&name);
                spec.placement_group = groups.get(&rung.provider).cloned();
            }
        }
        Ok(Made {
            address: Address::machine(&pool.name, &runner),
            reason: reason.clone(),
            ladder,
            bootstrap: Bootstrap {
                pool: pool.name.clone(),
                ci: pool.ci.clone(),
            },
        })
    }

    /// The pool's ladder, without names, and what is passed over.
    fn rungs(&mut self, wish: &Wish<'_>) -> (Vec<Placed>, Vec<Reason>) {
        let facts = self.facts;
        let pool = wish.pool;
        let scale = Scale {
            currencies: &facts.stack.currency,
            currency: facts.stack.counted_in(),
            lengths: &facts.snapshot.history.job_lengths,
        };
        let silent = silent(facts, pool);
        let left_out = silent.keys().copied().collect();
        let (rated, mut refusals) = placement::options(pool, &facts.offerings, &left_out, scale);
        refusals.extend(silent.into_iter().map(|(provider, why)| Reason::CloudPassedOver {
            provider: provider.clone(),
            why,
        }));
        let mut rungs = Vec::new();
        if rated.is_empty() && refusals.is_empty() {
            let why = "the pool lists none".to_owned();
            refusals.push(Reason::NoOffering { why });
        }
        let ci = facts.stack.ci.get(&pool.ci);
        let parts = ci.and_then(|ci| parts(self.templates, pool, ci).ok());
        let parts = parts.unwrap_or_default();
        for option in rated {
            match self.rung(wish, &option, &parts, facts.snapshot.now) {
                Ok(rung) => rungs.push(Placed {
                    rung,
                    priority: option.choice.priority,
                    sold_out: option.is_sold_out(),
                }),
                Err(reason) => refusals.push(reason),
            }
        }
        (rungs, refusals)
    }

    fn rung(
        &mut self,
        wish: &Wish<'_>,
        option: &Rated<'_>,
        parts: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Rung, Reason> {
        let facts = self.facts;
        let pool = wish.pool;
        let offering: &OfferingKey = &option.offering.key;
        if let Some(until) = placement::refused_until(&facts.snapshot.history.refusals, offering, now) {
            let offering = offering.clone();
            return Err(Reason::CapacityRefused { offering, until });
        }
        let cap = option
            .choice
            .ec2
            .as_ref()
            .and_then(|launch| launch.max_price.clone());
        // Written in its cloud's currency, or converted to it.
        if let Some(cap) = cap
            && facts
                .stack
                .currency
                .convert(&cap, &option.price.hourly.currency)
                .is_some_and(|cap| option.price.hourly.amount > cap.amount)
        {
            let offering = offering.clone();
            return Err(Reason::AbovePriceCap { offering, cap });
        }
        let spec = blueprint(self.wished, pool, option.choice, offering, parts);
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
            provider: offering.provider.clone(),
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

/// The clouds of which a pool buys nothing in this tick, and why: what is there, or what is sold, was not told in full. One
/// that tells some of what it sells is asked for that.
fn silent<'p>(facts: &Facts<'_>, pool: &'p Pool) -> BTreeMap<&'p ProviderName, String> {
    let mut silent = BTreeMap::new();
    for choice in &pool.offerings {
        let provider = &choice.provider;
        let why = facts.cloud_gap(provider).or_else(|| {
            let cloud = facts.snapshot.clouds.get(provider)?;
            match &cloud.offerings_complete {
                Completeness::Partial { why } if cloud.offerings.is_empty() => Some(why.clone()),
                _ => None,
            }
        });
        silent.extend(why.map(|why| (provider, why)));
    }
    silent
}

/// What a machine of a pool on an offering is asked for, without its names.
pub(super) fn blueprint(
    wished: &BTreeMap<Address, Wished>,
    pool: &Pool,
    choice: &OfferingChoice,
    offering: &OfferingKey,
    parts: &BTreeMap<String, String>,
) -> MachineSpec {
    let provider = &offering.provider;
    MachineSpec {
        pool: pool.name.clone(),
        runner: RunnerName::new(""),
        name: String::new(),
        offering: offering.clone(),
        image: choice.image.clone(),
        public_ipv4: choice.public_ipv4,
        ssh_keys: shared::applying(wished, ResourceKind::SshKey, pool, provider),
        firewalls: shared::applying(wished, ResourceKind::Firewall, pool, provider),
        networks: shared::applying(wished, ResourceKind::Network, pool, provider),
        placement_group: None,
        ec2: choice.ec2.clone(),
        task: choice.task.clone(),
        parts: parts.clone(),
    }
}

/// Says what a pool may not buy now; `alone`: it may buy nothing else.
fn tell(pool: &Pool, wanted: u32, alone: bool, refusals: Vec<Reason>, draft: &mut Draft) {
    for reason in refusals {
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
}

/// What a rung buys, for a person.
fn rung_name(rung: &Rung) -> String {
    match &rung.offering {
        Some(offering) => offering.to_string(),
        None => rung.provider.to_string(),
    }
}

fn count(many: usize) -> u32 {
    u32::try_from(many).unwrap_or(u32::MAX)
}
