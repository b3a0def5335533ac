//! What a plan costs: in money, before and after, and in requests.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{Action, ApiUse, Cost, Verb, facts::Facts, recover::InFlight, resize, strays::Found};
use crate::model::{
    ids::{ProviderName, ResourceKind},
    money::{Currency, Money, Price},
    resource::ResourceSpec,
};

/// Hours of a month, as providers reckon it.
const MONTH: u32 = 730;
/// Seconds that one call takes, about.
const CALL_SECONDS: u64 = 1;

/// Sums by currency.
#[derive(Clone, Debug, Default)]
struct Sum(BTreeMap<Currency, Decimal>);

impl Sum {
    fn add(&mut self, money: &Money, sign: Decimal) {
        *self.0.entry(money.currency.clone()).or_default() += money.amount * sign;
    }

    fn list(self) -> Vec<Money> {
        let money = |(currency, amount): (Currency, Decimal)| Money {
            amount: amount.normalize(),
            currency,
        };
        self.0.into_iter().map(money).collect()
    }
}

/// What a month costs: 730 hours, or the provider's cap.
pub fn monthly(price: &Price) -> Money {
    let whole = Money {
        amount: price.hourly.amount * Decimal::from(MONTH),
        currency: price.hourly.currency.clone(),
    };
    match &price.monthly_cap {
        Some(cap) if cap.currency == whole.currency && cap.amount < whole.amount => cap.clone(),
        _ => whole,
    }
}

/// The prices of everything that runs: on record, being made, orphans.
fn running<'a>(facts: &Facts<'a>, in_flight: &'a InFlight, found: &Found<'a>) -> Vec<&'a Price> {
    let recorded = facts.snapshot.state.resources.values().filter_map(|record| {
        record
            .price
            .as_ref()
            .or_else(|| facts.price(record.offering()?, true))
    });
    let orphans = found
        .orphans
        .iter()
        .filter_map(|seen| facts.price(seen.offering.as_ref()?, true));
    recorded.chain(orphans).chain(&in_flight.prices).collect()
}

/// What an hour of everything that runs costs, a sum for each currency.
pub(super) fn hourly(facts: &Facts<'_>, in_flight: &InFlight, found: &Found<'_>) -> Vec<Money> {
    let mut sum = Sum::default();
    for price in running(facts, in_flight, found) {
        sum.add(&price.hourly, Decimal::ONE);
    }
    sum.list()
}

/// What runs before and after the plan, creates at their dearest rung.
pub(super) fn cost(facts: &Facts<'_>, in_flight: &InFlight, found: &Found<'_>, actions: &[Action]) -> Cost {
    let (mut hour, mut month) = (Sum::default(), Sum::default());
    for price in running(facts, in_flight, found) {
        hour.add(&price.hourly, Decimal::ONE);
        month.add(&monthly(price), Decimal::ONE);
    }
    let (before_hourly, before_monthly) = (hour.clone().list(), month.clone().list());
    for action in actions {
        if let Verb::Update {
            want: ResourceSpec::Group(group),
            ..
        } = &action.verb
        {
            if let Some(price) = resize::price_of(facts, &action.address) {
                let more = Decimal::from(group.size.saturating_sub(group.from));
                hour.add(&price.hourly, more);
                month.add(&monthly(price), more);
            }
            continue;
        }
        let (price, sign) = match &action.verb {
            Verb::Create { ladder, .. } => {
                let prices = ladder.iter().filter_map(|rung| rung.price.as_ref());
                (prices.max_by_key(|price| price.hourly.amount), Decimal::ONE)
            }
            Verb::Retire { target, .. } | Verb::Delete { target, .. } => {
                let orphan = || facts.price(facts.resource(target)?.offering.as_ref()?, true);
                let recorded = action.before.as_ref().and_then(|record| record.price.as_ref());
                (recorded.or_else(orphan), Decimal::NEGATIVE_ONE)
            }
            Verb::Forget { .. } => {
                let recorded = action.before.as_ref().and_then(|record| record.price.as_ref());
                (recorded, Decimal::NEGATIVE_ONE)
            }
            _ => continue,
        };
        if let Some(price) = price {
            hour.add(&price.hourly, sign);
            month.add(&monthly(price), sign);
        }
    }
    Cost {
        before_hourly,
        after_hourly: hour.list(),
        before_monthly,
        after_monthly: month.list(),
    }
}

/// How many requests a verb takes of its cloud and of its CI, follow-up readings included, about.
fn calls(verb: &Verb) -> (u32, u32) {
    match verb {
        Verb::Create { bootstrap, .. } => (2, u32::from(bootstrap.is_some())),
        Verb::Adopt { losers, .. } => (0, u32::try_from(losers.len()).unwrap_or(u32::MAX)),
        Verb::Abandon { open } => (0, u32::from(open.registration.is_some())),
        Verb::Update { .. } => (2, 0),
        Verb::Relabel { .. } => (1, 0),
        Verb::Cordon { .. } | Verb::Uncordon { .. } | Verb::Unregister { .. } => (0, 1),
        Verb::Retire { .. } => (2, 4),
        Verb::Delete { registration, .. } => (2, u32::from(registration.is_some())),
        Verb::Forget { registration } => (0, u32::from(registration.is_some())),
        Verb::Hook { .. } => (0, 0),
    }
}

fn provider(verb: &Verb) -> Option<&ProviderName> {
    match verb {
        Verb::Create { ladder, .. } => ladder.first().map(|rung| &rung.provider),
        Verb::Adopt { record, .. } => Some(&record.provider),
        Verb::Update { have, .. } | Verb::Relabel { have, .. } => Some(&have.target.provider),
        Verb::Retire { target, .. } | Verb::Delete { target, .. } => Some(&target.provider),
        _ => None,
    }
}

/// What applying takes in requests and time.
pub(super) fn api(facts: &Facts<'_>, actions: &[Action]) -> ApiUse {
    let snapshot = facts.snapshot;
    let clouds = snapshot.clouds.values().map(|cloud| cloud.listing.calls);
    let observed: u32 = clouds
        .chain(snapshot.demand.values().map(|demand| demand.calls))
        .sum();
    let mut by_provider: BTreeMap<&ProviderName, u32> = BTreeMap::new();
    let (mut total, mut settle, mut machines) = (0_u32, 0_i64, 0_u32);
    for action in actions {
        let (cloud, ci) = calls(&action.verb);
        total = total.saturating_add(cloud + ci);
        if let Some(provider) = provider(&action.verb) {
            *by_provider.entry(provider).or_default() += cloud;
        }
        if let Verb::Retire { control, .. } = &action.verb {
            settle = settle.max(control.settle.as_secs());
        }
        machines += u32::from(action.address.kind == ResourceKind::Machine);
    }
    let mut seconds = u64::try_from(settle).unwrap_or_default() + u64::from(machines > 0);
    let mut share: Option<f64> = None;
    for (name, cloud) in &snapshot.clouds {
        let own = by_provider.get(name).copied().unwrap_or_default();
        let lanes = u64::try_from(cloud.profile.concurrency.max(1)).unwrap_or(1);
        seconds = seconds
            .max(u64::try_from(settle).unwrap_or_default() + u64::from(own).div_ceil(lanes) * CALL_SECONDS);
        if let Some(limit) = cloud.profile.requests_per_hour.filter(|limit| *limit > 0) {
            let used = f64::from(own + cloud.listing.calls) * 100.0 / f64::from(limit);
            share = Some(share.map_or(used, |most: f64| most.max(used)));
        }
    }
    ApiUse {
        observed,
        calls: total,
        seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        quota_share: share,
    }
}
