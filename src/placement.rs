//! The ladder: the ordered offerings that a machine may be made on, and its next rung.
//!
//! `decide` orders the ladder; [`next`] picks the rung, in `decide`, in apply and in `simulate` alike.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

use crate::{
    model::{
        ids::{ProviderName, SpecHash},
        money::{Currencies, Currency, Price},
        offering::{Offering, OfferingKey},
        reason::Reason,
        state::{Failure, History, JobLength, Refusal},
    },
    plan::Rung,
    stack::{OfferingChoice, Order, Pool},
};

/// This many alike failures in a row open the breaker.
pub const BREAKER_FAILURES: usize = 3;
/// They count as in a row within this time; and this long after the last one a single machine is tried again.
pub const BREAKER_WINDOW: SignedDuration = SignedDuration::from_mins(30);

/// A job name's length on a machine type is known once so many have run there.
const LEARNT_FROM: u32 = 3;

/// How many launches an offering that said no lately may still be asked for; others are not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchBudgets(HashMap<String, u32>);

impl LaunchBudgets {
    /// From a plan's `launch_budgets`: by an offering's key as text.
    pub fn of(budgets: &BTreeMap<String, u32>) -> Self {
        Self(budgets.clone().into_iter().collect())
    }

    /// How many are left; none: as many as one likes.
    pub fn left(&self, offering: &OfferingKey) -> Option<u32> {
        self.0.get(&offering.to_string()).copied()
    }

    /// Limits an offering, unless it is limited to less already.
    pub fn limit(&mut self, offering: &OfferingKey, launches: u32) {
        let left = self.0.entry(offering.to_string()).or_insert(launches);
        *left = launches.min(*left);
    }

    /// Counts one launch.
    pub fn take(&mut self, offering: &OfferingKey) {
        if let Some(left) = self.0.get_mut(&offering.to_string()) {
            *left = left.saturating_sub(1);
        }
    }

    /// As a plan holds them.
    pub fn to_map(&self) -> BTreeMap<String, u32> {
        self.0.clone().into_iter().collect()
    }
}

/// What has said no in this tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Offerings without a machine to sell, or beyond the account's limit.
    pub offerings: HashSet<OfferingKey>,
    /// Clouds that let us in no more, are throttled or down: nothing was done there, and nothing is asked of them again.
    pub providers: HashSet<ProviderName>,
}

/// The rung to ask next: the first whose offering and cloud have not refused in this tick and that has launches left.
/// A rung without an offering (a shared resource's) can only be refused by its cloud.
pub fn next(ladder: &[Rung], refused: &Refused, budget: &LaunchBudgets) -> Option<usize> {
    ladder.iter().position(|rung| {
        let may = match &rung.offering {
            Some(offering) => !refused.offerings.contains(offering) && budget.left(offering) != Some(0),
            None => true,
        };
        may && !refused.providers.contains(&rung.provider)
    })
}

/// One offering that a pool may buy now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated<'a> {
    /// The stack file's wish that it fulfils.
    pub choice: &'a OfferingChoice,
    /// Which.
    pub offering: &'a Offering,
    /// What an hour costs, by the wished address, in its cloud's currency.
    pub price: &'a Price,
    /// What it is compared by: the price of a machine, of a processor or of the work, in the currency of all that is compared.
    pub cost: Decimal,
}

impl Rated<'_> {
    /// Whether its provider says that there is none. `false` is no promise.
    pub fn is_sold_out(&self) -> bool {
        self.offering.available == Some(false)
    }
}

/// What prices are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Scale<'a> {
    /// What currencies are worth.
    pub currencies: &'a Currencies,
    /// The currency that all is compared in; none: that of the pool's first offering.
    pub currency: Option<&'a Currency>,
    /// What is known of how long jobs run: by job name and [`History::type_key`].
    pub lengths: &'a BTreeMap<String, BTreeMap<String, JobLength>>,
}

/// Everything that a pool may buy, in the order in which it is asked for; with what was passed over.
///
/// First by `priority`; within one priority what is sold out comes last, then the cheaper first ([`Order`]), then as the
/// stack file has them, and its locations (by their names where it lists none). Nothing is told of providers that are
/// `left_out`.
pub fn options<'a>(
    pool: &'a Pool,
    offerings: &BTreeMap<&OfferingKey, &'a Offering>,
    left_out: &BTreeSet<&ProviderName>,
    scale: Scale<'_>,
) -> (Vec<Rated<'a>>, Vec<Reason>) {
    let mut passed = Vec::new();
    let asked = pool.offerings.iter();
    let asked = asked.filter(|choice| !left_out.contains(&choice.provider));
    let found = wished(asked, offerings, &mut passed);
    let first = found.first().map(|found| &found.price.hourly.currency);
    let Some(currency) = scale.currency.or(first).cloned() else {
        return (Vec::new(), passed);
    };
    let mut options = Vec::new();
    for found in found {
        match scale.currencies.convert(&found.price.hourly, &currency) {
            Some(hourly) => options.push(Rated {
                cost: hourly.amount,
                ..found
            }),
            None => passed.push(Reason::NoRate {
                offering: Box::new(found.offering.key.clone()),
                currency: found.price.hourly.currency.clone(),
                base: currency.clone(),
            }),
        }
    }
    if pool.order == Order::Work {
        by_work(&mut options, scale.lengths);
    }
    // Stable: what is equal stays as the stack file has it.
    options.sort_by(|a, b| {
        (a.choice.priority, a.is_sold_out())
            .cmp(&(b.choice.priority, b.is_sold_out()))
            .then(a.cost.cmp(&b.cost))
    });
    (options, passed)
}

/// What these name and their clouds sell, in the stack file's order. The cost is not reckoned yet.
fn wished<'a>(
    choices: impl Iterator<Item = &'a OfferingChoice>,
    offerings: &BTreeMap<&OfferingKey, &'a Offering>,
    passed: &mut Vec<Reason>,
) -> Vec<Rated<'a>> {
    let mut found = Vec::new();
    for choice in choices {
        let places = places(choice, offerings);
        if places.is_empty() {
            let why = format!("{} does not sell {}", choice.provider, choice.machine_type);
            passed.push(Reason::NoOffering { why });
        }
        for location in places {
            let key = OfferingKey {
                provider: choice.provider.clone(),
                location,
                machine_type: choice.machine_type.clone(),
                market: choice.market,
            };
            let Some(offering) = offerings.get(&key).copied() else {
                let why = format!("{key} is not sold");
                passed.push(Reason::NoOffering { why });
                continue;
            };
            let price = if choice.public_ipv4 {
                &offering.price
            } else {
                &offering.price_without_ipv4
            };
            found.push(Rated {
                choice,
                offering,
                price,
                cost: Decimal::ZERO,
            });
        }
    }
    found
}

/// Turns each option's cost from an hour's price into the price of the work, one priority after the other.
///
/// A job's price is learnt once some job names are known on every machine type of a priority: then all are compared by
/// what these jobs take there, each name weighed by how often it ran. Until then by the price of a processor.
fn by_work(options: &mut [Rated<'_>], lengths: &BTreeMap<String, BTreeMap<String, JobLength>>) {
    let priorities: BTreeSet<u32> = options.iter().map(|option| option.choice.priority).collect();
    for priority in priorities {
        let of = |option: &&mut Rated<'_>| option.choice.priority == priority;
        let types: BTreeSet<String> = options
            .iter()
            .filter(|option| option.choice.priority == priority)
            .map(|option| History::type_key(&option.offering.key))
            .collect();
        let work = if types.len() > 1 {
            work_on(&types, lengths)
        } else {
            None
        };
        for option in options.iter_mut().filter(of) {
            let learnt = work
                .as_ref()
                .and_then(|work| work.get(&History::type_key(&option.offering.key)));
            option.cost = match learnt {
                Some(seconds) => option.cost * *seconds,
                None => option.cost / Decimal::from(option.offering.cpus.max(1)),
            };
        }
    }
}

/// How long the jobs that all of these types have run take on each, in seconds; none where there are no such jobs.
fn work_on<'t>(
    types: &'t BTreeSet<String>,
    lengths: &BTreeMap<String, BTreeMap<String, JobLength>>,
) -> Option<BTreeMap<&'t String, Decimal>> {
    let known = |length: &&JobLength| length.jobs >= LEARNT_FROM;
    let mut sums: BTreeMap<&String, Decimal> = BTreeMap::new();
    for on in lengths.values() {
        let each: Option<Vec<_>> = types
            .iter()
            .map(|machine_type| Some((machine_type, on.get(machine_type).filter(known)?)))
            .collect();
        let Some(each) = each else { continue };
        let often: u32 = each.iter().map(|(_, length)| length.jobs).sum();
        for (machine_type, length) in each {
            *sums.entry(machine_type).or_default() += length.mean() * Decimal::from(often);
        }
    }
    (!sums.is_empty()).then_some(sums)
}

fn places(choice: &OfferingChoice, offerings: &BTreeMap<&OfferingKey, &Offering>) -> Vec<String> {
    if !choice.locations.is_empty() {
        return choice.locations.clone();
    }
    offerings
        .keys()
        .filter(|key| {
            key.provider == choice.provider
                && key.machine_type == choice.machine_type
                && key.market == choice.market
        })
        .map(|key| key.location.clone())
        .collect()
}

/// Until when an offering that refused is not asked; none when it may be.
pub fn refused_until(refusals: &[Refusal], offering: &OfferingKey, now: Timestamp) -> Option<Timestamp> {
    refusals
        .iter()
        .filter(|refusal| refusal.offering == *offering)
        .map(|refusal| refusal.at + History::REFUSAL_MEMORY)
        .max()
        .filter(|until| now < *until)
}

/// Whether machines may be made on an offering, by how the last ones fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// Yes.
    Closed,
    /// One, to see.
    HalfOpen,
    /// No.
    Open(Reason),
}

/// The breaker of an offering or template. Failures end with the first machine alike that becomes ready (`learn` drops them).
pub fn breaker(failures: &[Failure], offering: &OfferingKey, hash: &SpecHash, now: Timestamp) -> Breaker {
    let mut alike: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for failure in failures {
        if failure.offering == *offering || failure.hash == *hash {
            alike.entry(&failure.what).or_default().push(failure.at);
        }
    }
    let mut breaker = Breaker::Closed;
    for (what, mut at) in alike {
        at.sort_unstable();
        let in_a_row = |run: &[Timestamp]| match run {
            [first, .., last] => last.duration_since(*first) <= BREAKER_WINDOW,
            _ => false,
        };
        let (true, Some(last)) = (at.windows(BREAKER_FAILURES).any(in_a_row), at.last()) else {
            continue;
        };
        let until = *last + BREAKER_WINDOW;
        if now < until {
            return Breaker::Open(Reason::BreakerOpen {
                failures: u32::try_from(at.len()).unwrap_or(u32::MAX),
                what: what.to_owned(),
                until,
            });
        }
        breaker = Breaker::HalfOpen;
    }
    breaker
}

#[cfg(test)]
mod tests;
