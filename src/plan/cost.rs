//! What a plan costs: in money, before and after, and in requests.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{
    Action, ApiUse, Cost, Verb,
    facts::Facts,
    purse::{Purse, Running},
    recover::InFlight,
    resize,
    strays::Found,
};
use crate::model::{
    ids::{ProviderName, ResourceKind},
    money::{Currencies, Currency, Money, Price},
    resource::ResourceSpec,
};

/// Hours of a month, as providers reckon it.
const MONTH: u32 = 730;
/// Seconds that one call takes, about.
const CALL_SECONDS: u64 = 1;

/// Sums: one in the base currency of all that converts, and one of each other currency.
#[derive(Clone, Debug)]
struct Sum<'a> {
    currencies: &'a Currencies,
    sums: BTreeMap<Currency, Decimal>,
}

impl<'a> Sum<'a> {
    fn new(facts: &Facts<'a>) -> Self {
        Self {
            currencies: &facts.stack.currency,
            sums: BTreeMap::new(),
        }
    }

    fn add(&mut self, money: &Money, many: Decimal) {
        let money = self.currencies.in_base(money);
        *self.sums.entry(money.currency).or_default() += money.amount * many;
    }

    fn list(self) -> Vec<Money> {
        let money = |(currency, amount): (Currency, Decimal)| Money {
            amount: amount.normalize(),
            currency,
        };
        self.sums.into_iter().map(money).collect()
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

/// Everything that runs: on record, being made, orphans.
pub(super) fn running<'a>(facts: &Facts<'a>, in_flight: &'a InFlight, found: &Found<'a>) -> Vec<Running<'a>> {
    let snapshot = facts.snapshot;
    // A batch's containers are machines of the snapshot, and those that nobody tells yet are in flight.
    let recorded = snapshot.state.resources.iter();
    let recorded = recorded.filter(|(address, _)| address.kind != ResourceKind::Batch);
    let recorded = recorded.filter_map(|(address, record)| {
        let memory = snapshot.history.machines.get(address);
        Some(Running {
            price: record
                .price
                .as_ref()
                .or_else(|| facts.price(record.offering()?, true))?,
            created: record.created_at,
            charged: memory.and_then(|memory| memory.charged_until),
        })
    });
    let orphans = found.orphans.iter().filter_map(|seen| {
        Some(Running {
            price: facts.price(seen.offering.as_ref()?, true)?,
            created: seen.created_at,
            charged: None,
        })
    });
    let begun = in_flight.prices.iter().map(|price| Running {
        price,
        created: snapshot.now,
        charged: None,
    });
    recorded.chain(orphans).chain(begun).collect()
}

/// What a plan adds to what runs, and what it ends.
#[derive(Default)]
struct Changes<'p> {
    made: Vec<(&'p Price, u32)>,
    ended: Vec<Running<'p>>,
}

fn changes<'p>(facts: &Facts<'p>, actions: &'p [Action]) -> Changes<'p> {
    let now = facts.snapshot.now;
    let mut changes = Changes::default();
    for action in actions {
        let recorded = || {
            let record = action.before.as_ref()?;
            if action.address.kind == ResourceKind::Batch {
                return None;
            }
            Some((record.price.as_ref()?, record.created_at))
        };
        let orphan = |target| {
            let seen = facts.resource(target)?;
            Some((facts.price(seen.offering.as_ref()?, true)?, seen.created_at))
        };
        let ended = match &action.verb {
            Verb::Create { ladder, .. } => {
                let prices = ladder.iter().filter_map(|rung| rung.price.as_ref());
                changes.made.extend(facts.dearest(prices).map(|price| (price, 1)));
                continue;
            }
            Verb::Update {
                want: ResourceSpec::Group(group),
                ..
            } => {
                let more = group.size.saturating_sub(group.from);
                let price = resize::price_of(facts, &action.address);
                changes.made.extend(price.map(|price| (price, more)));
                continue;
            }
            Verb::Retire { target, .. } | Verb::Delete { target, .. } => {
                recorded().or_else(|| orphan(target))
            }
            Verb::Forget { .. } => recorded(),
            _ => None,
        };
        changes.ended.extend(ended.map(|(price, created)| Running {
            price,
            created,
            charged: Some(now),
        }));
    }
    changes
}

/// What runs before and after the plan, creates at their dearest rung.
pub(super) fn cost(facts: &Facts<'_>, in_flight: &InFlight, found: &Found<'_>, actions: &[Action]) -> Cost {
    let (mut hour, mut month) = (Sum::new(facts), Sum::new(facts));
    let running = running(facts, in_flight, found);
    for one in &running {
        hour.add(&one.price.hourly, Decimal::ONE);
        month.add(&monthly(one.price), Decimal::ONE);
    }
    let (before_hourly, before_monthly) = (hour.clone().list(), month.clone().list());
    let Changes { made, ended } = changes(facts, actions);
    for (price, many) in &made {
        hour.add(&price.hourly, Decimal::from(*many));
        month.add(&monthly(price), Decimal::from(*many));
    }
    for one in &ended {
        hour.add(&one.price.hourly, Decimal::NEGATIVE_ONE);
        month.add(&monthly(one.price), Decimal::NEGATIVE_ONE);
    }
    Cost {
        before_hourly,
        after_hourly: hour.list(),
        before_monthly,
        after_monthly: month.list(),
        projected: Purse::new(facts, &running).projected(facts, &made, &ended),
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
