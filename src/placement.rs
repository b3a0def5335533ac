//! The ladder: the ordered offerings that a machine may be made on, and its next rung.
//!
//! `decide` orders the ladder; [`next`] picks the rung, in `decide`, in apply and in `simulate` alike.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use crate::{
    model::{
        ids::SpecHash,
        money::{Currency, Price},
        offering::{Offering, OfferingKey},
        reason::Reason,
        state::{Failure, History, Refusal},
    },
    plan::Rung,
    stack::{OfferingChoice, Pool},
};

/// This many alike failures in a row open the breaker.
pub const BREAKER_FAILURES: usize = 3;
/// They count as in a row within this time; and this long after the last one a single machine is tried again.
pub const BREAKER_WINDOW: SignedDuration = SignedDuration::from_mins(30);

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

/// The rung to ask next: the first whose offering has not refused in this tick and has launches left.
/// A rung without an offering (a shared resource's) has nothing to refuse.
pub fn next(ladder: &[Rung], refused: &[OfferingKey], budget: &LaunchBudgets) -> Option<usize> {
    ladder.iter().position(|rung| match &rung.offering {
        Some(offering) => !refused.contains(offering) && budget.left(offering) != Some(0),
        None => true,
    })
}

/// One offering that a pool may buy now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated<'a> {
    /// The stack file's wish that it fulfils.
    pub choice: &'a OfferingChoice,
    /// Which.
    pub offering: &'a Offering,
    /// What an hour costs, by the wished address.
    pub price: &'a Price,
}

/// Everything that a pool may buy, cheapest first; what its provider says is sold out, last. With what was passed over.
///
/// At an equal price the order is the stack file's, then that of its locations (of their names where it lists none).
pub fn options<'a>(
    pool: &'a Pool,
    offerings: &BTreeMap<&OfferingKey, &'a Offering>,
    currency: Option<&Currency>,
) -> (Vec<Rated<'a>>, Vec<String>) {
    let mut found = Vec::new();
    let mut passed = Vec::new();
    for (rank, choice) in pool.offerings.iter().enumerate() {
        let places = places(choice, offerings);
        if places.is_empty() {
            passed.push(format!(
                "{} does not sell {}",
                choice.provider, choice.machine_type
            ));
        }
        for (place, location) in places.into_iter().enumerate() {
            let key = OfferingKey {
                provider: choice.provider.clone(),
                location,
                machine_type: choice.machine_type.clone(),
                market: choice.market,
            };
            let Some(offering) = offerings.get(&key).copied() else {
                passed.push(format!("{key} is not sold"));
                continue;
            };
            let price = if choice.public_ipv4 {
                &offering.price
            } else {
                &offering.price_without_ipv4
            };
            let option = Rated {
                choice,
                offering,
                price,
            };
            found.push((option, rank, place));
        }
    }
    let first = found
        .first()
        .map(|(option, ..)| option.price.hourly.currency.clone());
    let currency = currency.cloned().or(first);
    found.retain(|(option, ..)| {
        let priced = &option.price.hourly.currency;
        let fits = currency.as_ref() == Some(priced);
        if let (false, Some(currency)) = (fits, &currency) {
            passed.push(format!(
                "{} is priced in {priced}, not {currency}",
                option.offering.key
            ));
        }
        fits
    });
    found.sort_by(|(a, rank_a, place_a), (b, rank_b, place_b)| {
        let sold_out = |option: &Rated<'_>| option.offering.available == Some(false);
        sold_out(a)
            .cmp(&sold_out(b))
            .then(a.price.hourly.amount.cmp(&b.price.hourly.amount))
            .then(rank_a.cmp(rank_b))
            .then(place_a.cmp(place_b))
    });
    (found.into_iter().map(|(option, ..)| option).collect(), passed)
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
