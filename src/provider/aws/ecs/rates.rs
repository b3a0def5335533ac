//! What Fargate costs: by the hour of a virtual processor and of a GB, and what that makes of each size.
//!
//! # Guarantees
//! - On demand a rate is the price list's where it is reachable, else that of a table which says its date. None is guessed: a
//!   region and processor that neither knows has none, and what has no price is not sold.
//!
//! # Caveats
//! - Amazon publishes what the spot market costs on a page only, in no API. A task of it is reckoned at [`SPOT`] of the price on
//!   demand, which is what it costs at most by all that was seen: budgets hold, and bills are lower.
//! - What a task's disk costs beyond 20 GB is not reckoned.

use std::collections::BTreeMap;

use aws_sdk_ecs::config::Region;
use aws_sdk_pricing::types::{Filter, FilterType};
use rust_decimal::Decimal;
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    model::{
        money::{Currency, Money, Price},
        offering::{Architecture, Market, Offering, OfferingKey},
        resource::Completeness,
    },
    provider::{
        Offerings, ProviderError,
        aws::{
            Access,
            failure::{self, Kind},
            prices::{ADDRESS_HOURLY, DAY, PATIENCE, SULK, first_price, served_in},
        },
    },
    stack::OfferingChoice,
};

use super::{Ecs, size::Size};

/// What a task on the spot market is reckoned at, as a part of the price on demand.
///
/// Source: the spot prices of 22 regions on Fargate's pricing page, September 2026: 30 to 39 percent.
const SPOT: Decimal = Decimal::from_parts(40, 0, 0, false, 2);

/// Pages of the price list that are read: a region has some dozens of rows of ECS, and a page a hundred.
const PAGES: usize = 5;

/// What the price list calls the hour of a processor and of a GB, behind the region's own sign.
const USAGE: [(Architecture, &str, &str); 2] = [
    (Architecture::X86, "Fargate-vCPU-Hours:perCPU", "Fargate-GB-Hours"),
    (
        Architecture::Arm,
        "Fargate-ARM-vCPU-Hours:perCPU",
        "Fargate-ARM-GB-Hours",
    ),
];

/// Of when the table is.
const AS_OF: &str = "2026-09-11";

/// US dollars for the hour of a processor and of a GB. Source: Amazon's price list of ECS, of that day.
const TABLE: [(&str, Architecture, &str, &str); 24] = [
    ("af-south-1", Architecture::X86, "0.0546", "0.006"),
    ("ap-east-1", Architecture::X86, "0.0556", "0.0061"),
    ("ap-northeast-1", Architecture::X86, "0.05056", "0.00553"),
    ("ap-northeast-2", Architecture::X86, "0.04656", "0.00511"),
    ("ap-south-1", Architecture::X86, "0.04256", "0.004655"),
    ("ap-southeast-1", Architecture::X86, "0.05056", "0.00553"),
    ("ap-southeast-2", Architecture::X86, "0.04856", "0.00532"),
    ("ca-central-1", Architecture::X86, "0.04456", "0.004865"),
    ("eu-central-1", Architecture::X86, "0.04656", "0.00511"),
    ("eu-north-1", Architecture::X86, "0.0445", "0.0049"),
    ("eu-south-1", Architecture::X86, "0.0486", "0.0053"),
    ("eu-west-1", Architecture::Arm, "0.03238", "0.00356"),
    ("eu-west-1", Architecture::X86, "0.04048", "0.004445"),
    ("eu-west-2", Architecture::X86, "0.04656", "0.00511"),
    ("eu-west-3", Architecture::X86, "0.0486", "0.0053"),
    ("me-south-1", Architecture::X86, "0.0526", "0.0058"),
    ("sa-east-1", Architecture::X86, "0.0696", "0.0076"),
    ("us-east-1", Architecture::Arm, "0.03238", "0.00356"),
    ("us-east-1", Architecture::X86, "0.04048", "0.004445"),
    ("us-east-2", Architecture::X86, "0.04048", "0.004445"),
    ("us-gov-east-1", Architecture::X86, "0.0486", "0.0053"),
    ("us-gov-west-1", Architecture::X86, "0.0486", "0.0053"),
    ("us-west-1", Architecture::X86, "0.04656", "0.00511"),
    ("us-west-2", Architecture::X86, "0.04048", "0.004445"),
];

/// The hour of a virtual processor and of a GB, in US dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    processor: Decimal,
    gb: Decimal,
}

/// The rates of one region.
#[derive(Debug)]
pub(super) struct Rates {
    client: aws_sdk_pricing::Client,
    region: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    rates: Vec<(Architecture, Rate)>,
    since: Option<Instant>,
    silent_since: Option<Instant>,
}

impl Rates {
    /// Those of where this access leads.
    pub(super) fn new(access: &Access) -> Self {
        let config = aws_sdk_pricing::config::Builder::from(&access.sdk)
            .region(Region::new(served_in(&access.region)))
            .build();
        Self {
            client: aws_sdk_pricing::Client::from_conf(config),
            region: access.region.clone(),
            known: Mutex::default(),
        }
    }

    /// What is known, and how many requests that took. Never fails: the table is what remains.
    async fn rates(&self) -> (Vec<(Architecture, Rate)>, u32) {
        // Held while asking, so that two who want to know ask once.
        let mut known = self.known.lock().await;
        let young = known.since.is_some_and(|since| since.elapsed() < DAY);
        let silent = known.silent_since.is_some_and(|since| since.elapsed() < SULK);
        let mut calls = 0;
        if !young && !silent {
            let asked = tokio::time::timeout(PATIENCE, self.ask(&mut calls)).await;
            match asked {
                Ok(Ok(rates)) => {
                    *known = Known {
                        rates,
                        since: Some(Instant::now()),
                        silent_since: None,
                    };
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the price list did not answer: prices are of a table");
                    known.silent_since = Some(Instant::now());
                }
                Err(_) => {
                    tracing::warn!("the price list did not answer in time: prices are of a table");
                    known.silent_since = Some(Instant::now());
                }
            }
        }
        let mut rates = known.rates.clone();
        for (architecture, ..) in USAGE {
            if rates.iter().all(|(other, _)| *other != architecture)
                && let Some(rate) = tabled(&self.region, architecture)
            {
                tracing::info!(as_of = AS_OF, "prices of Fargate are of a table");
                rates.push((architecture, rate));
            }
        }
        (rates, calls)
    }

    async fn ask(&self, calls: &mut u32) -> Result<Vec<(Architecture, Rate)>, ProviderError> {
        let filter = Filter::builder()
            .r#type(FilterType::TermMatch)
            .field("regionCode")
            .value(&self.region)
            .build()
            .map_err(|error| ProviderError::Malformed {
                why: error.to_string(),
            })?;
        let (mut hours, mut token) = (BTreeMap::new(), None);
        for _ in 0..PAGES {
            let call = self.client.get_products().service_code("AmazonECS");
            let call = call
                .filters(filter.clone())
                .max_results(100)
                .set_next_token(token);
            *calls += 1;
            let answer = Box::pin(call.send()).await;
            let answer = answer.map_err(|error| failure::of(Kind::Read, &error))?;
            hours.extend(answer.price_list().iter().filter_map(|item| decode(item)));
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        Ok(of_hours(&hours))
    }
}

/// Which usage an item of the list is about, without the region's sign, and what its hour costs.
fn decode(item: &str) -> Option<(String, Decimal)> {
    let item: Value = serde_json::from_str(item).ok()?;
    let usage = item.pointer("/product/attributes/usagetype")?.as_str()?;
    // `EUC1-Fargate-GB-Hours`; in the first of all regions some have no sign.
    let (sign, rest) = usage.split_once("Fargate-")?;
    let known = sign.is_empty() || sign.matches('-').count() == 1 && sign.ends_with('-');
    let price = first_price(&item, |unit| unit.to_ascii_lowercase().contains("hour"))?;
    known.then(|| (format!("Fargate-{rest}"), price))
}

fn of_hours(hours: &BTreeMap<String, Decimal>) -> Vec<(Architecture, Rate)> {
    let rates = USAGE.iter().filter_map(|(architecture, processor, gb)| {
        let rate = Rate {
            processor: *hours.get(*processor)?,
            gb: *hours.get(*gb)?,
        };
        Some((*architecture, rate))
    });
    rates.collect()
}

fn tabled(region: &str, architecture: Architecture) -> Option<Rate> {
    let row = TABLE
        .iter()
        .find(|row| (row.0, row.1) == (region, architecture))?;
    Some(Rate {
        processor: row.2.parse().ok()?,
        gb: row.3.parse().ok()?,
    })
}

impl Ecs {
    /// What the pools may buy, in this region: each size and market once.
    pub(super) async fn read_offerings(&self) -> Result<Offerings, ProviderError> {
        if self.choices.is_empty() {
            return Ok(Offerings {
                offerings: Vec::new(),
                completeness: Completeness::Complete,
                calls: 0,
            });
        }
        let (rates, calls) = self.rates.rates().await;
        let mut unpriced = Vec::new();
        let mut wanted: Vec<(Size, OfferingKey)> = self
            .choices
            .iter()
            .filter_map(|choice| self.key(choice))
            .collect();
        wanted.sort_by(|a, b| a.1.cmp(&b.1));
        wanted.dedup();
        let mut offerings = Vec::new();
        for (size, key) in wanted {
            let rate = rates
                .iter()
                .find(|(architecture, _)| *architecture == size.architecture);
            match rate {
                Some((_, rate)) => offerings.push(offering(size, key, *rate)),
                None => unpriced.push(key.to_string()),
            }
        }
        Ok(Offerings {
            offerings,
            completeness: match unpriced.as_slice() {
                [] => Completeness::Complete,
                some => Completeness::partial(format!("no price is known for {}", some.join(", "))),
            },
            calls,
        })
    }

    /// None of a size that Fargate has not: `check` says so.
    fn key(&self, choice: &OfferingChoice) -> Option<(Size, OfferingKey)> {
        let key = OfferingKey {
            provider: self.profile.name.clone(),
            location: self.region.clone(),
            machine_type: choice.machine_type.clone(),
            market: choice.market,
        };
        Some((Size::parse(&choice.machine_type)?, key))
    }
}

fn offering(size: Size, key: OfferingKey, rate: Rate) -> Offering {
    let on_demand = size.hourly(rate.processor, rate.gb);
    let hourly = match key.market {
        Market::OnDemand => on_demand,
        Market::Spot => on_demand * SPOT,
    };
    let price = |amount: Decimal| Price {
        hourly: Money {
            amount: amount.normalize(),
            currency: Currency::new("USD"),
        },
        monthly_cap: None,
    };
    Offering {
        price: price(hourly + ADDRESS_HOURLY),
        price_without_ipv4: price(hourly),
        cpus: size.processors(),
        memory_mib: size.memory.into(),
        architecture: size.architecture,
        // Fargate says nothing of its stock.
        available: None,
        key,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn item(usage: &str, price: &str) -> String {
        serde_json::json!({
            "product": {"attributes": {"usagetype": usage, "regionCode": "eu-central-1"}},
            "terms": {"OnDemand": {"A.B": {"priceDimensions": {
                "A.B.C": {"unit": "hours", "pricePerUnit": {"USD": price}},
            }}}},
        })
        .to_string()
    }

    #[test]
    fn rates_are_read_out_of_the_list_by_usage_alone() {
        let list = [
            item("EUC1-Fargate-vCPU-Hours:perCPU", "0.0465600000"),
            item("EUC1-Fargate-GB-Hours", "0.0051100000"),
            item("EUC1-Fargate-ARM-vCPU-Hours:perCPU", "0.0372500000"),
            item("EUC1-Fargate-Windows-vCPU-Hours:perCPU", "0.0535440000"),
            item("EUC1-Fargate-EphemeralStorage-GB-Hours", "0.0001280000"),
            item("EUC1-ECS-Anywhere-Instance-hours", "0.0102500000"),
            item("EUC1-A-Fargate-GB-Hours", "9"),
            "no JSON".to_owned(),
        ];
        let hours: BTreeMap<_, _> = list.iter().filter_map(|item| decode(item)).collect();
        let rates = of_hours(&hours);
        // Arm's GB is missing, and half a rate is none.
        let expected = tabled("eu-central-1", Architecture::X86).unwrap();
        assert_eq!(rates, [(Architecture::X86, expected)]);
        assert_eq!(
            decode(&item("Fargate-GB-Hours", "0.1")).unwrap().0,
            "Fargate-GB-Hours"
        );
        assert_eq!(
            decode(&item("EUC1-Fargate-GB-Hours", "0")),
            None,
            "a price of nothing is no price"
        );
    }

    #[test]
    fn each_row_of_the_table_is_there_once_and_costs_and_the_table_is_dated() {
        let keys: BTreeSet<_> = TABLE.iter().map(|row| (row.0, row.1)).collect();
        assert_eq!(keys.len(), TABLE.len());
        for (region, architecture, ..) in TABLE {
            let rate = tabled(region, architecture).unwrap();
            assert!(rate.processor > rate.gb && rate.gb > Decimal::ZERO, "{region}");
        }
        AS_OF.parse::<jiff::civil::Date>().unwrap();
        assert_eq!(tabled("eu-central-1", Architecture::Arm), None, "none is guessed");
    }

    #[test]
    fn an_offering_has_the_address_on_top_and_spot_a_share() {
        let rate = tabled("us-east-1", Architecture::X86).unwrap();
        let priced = |name: &str, market| {
            let size = Size::parse(name).unwrap();
            let key = OfferingKey {
                provider: "ecs".into(),
                location: "us-east-1".to_owned(),
                machine_type: name.to_owned(),
                market,
            };
            let offering = offering(size, key, rate);
            let price = |price: &Price| price.hourly.to_string();
            (
                price(&offering.price_without_ipv4),
                price(&offering.price),
                offering.cpus,
                offering.memory_mib,
            )
        };
        // The example of a public comparison of September 2026: 4 virtual processors and 8 GB.
        let large = ("0.19748 USD".to_owned(), "0.20248 USD".to_owned(), 4, 8192);
        assert_eq!(priced("4vcpu-8gb", Market::OnDemand), large);
        let spot = priced("4vcpu-8gb", Market::Spot);
        assert_eq!(spot.0, "0.078992 USD");
        assert_eq!(
            priced("0.25vcpu-0.5gb", Market::OnDemand).2,
            1,
            "a part of a processor is one"
        );
    }
}
