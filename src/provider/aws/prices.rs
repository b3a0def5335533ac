//! What an hour on demand costs: from Amazon's price list where it is reachable, else from a table that says its date.
//!
//! # Guarantees
//! - A price of the list is used for a day. A list that did not answer is left alone for an hour, so that no tick waits for it
//!   again and again.
//! - All prices are US dollars, for Linux, without tax: Amazon's are. None is guessed: a type that neither knows has none.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_ec2::config::Region;
use aws_sdk_pricing::types::{Filter, FilterType};
use futures::{StreamExt as _, stream};
use rust_decimal::Decimal;
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use super::{
    Access,
    failure::{self, Kind},
};
use crate::provider::ProviderError;

/// How long a price of the list is used.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a list that did not answer is left alone.
pub(super) const SULK: Duration = Duration::from_secs(3600);
/// How long all questions of one moment may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Questions at once.
const AT_ONCE: usize = 4;

/// An hour of a public IPv4 address, in US dollars, in every region, since 2024-02-01. Source: Amazon's "VPC pricing".
pub const ADDRESS_HOURLY: Decimal = Decimal::from_parts(5, 0, 0, false, 3);

/// On-demand prices of one region.
#[derive(Debug)]
pub struct Prices {
    client: aws_sdk_pricing::Client,
    region: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    hourly: BTreeMap<String, (Instant, Option<Decimal>)>,
    silent_since: Option<Instant>,
}

/// What types cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnDemand {
    /// US dollars an hour, without an address, by type. What is not here has no known price.
    pub hourly: BTreeMap<String, Decimal>,
    /// Of when the oldest price of the table is that was used; none: all are today's.
    pub as_of: Option<&'static str>,
    /// Requests it took.
    pub calls: u32,
}

impl Prices {
    /// The prices of where this access leads.
    pub fn new(access: &Access) -> Self {
        let config = aws_sdk_pricing::config::Builder::from(&access.sdk)
            .region(Region::new(served_in(&access.region)))
            .build();
        Self {
            client: aws_sdk_pricing::Client::from_conf(config),
            region: access.region.clone(),
            known: Mutex::default(),
        }
    }

    /// What these types cost. Never fails: the table is what remains.
    pub async fn on_demand(&self, types: &BTreeSet<String>) -> OnDemand {
        // Held while asking, so that two who want to know ask once.
        let mut known = self.known.lock().await;
        known.hourly.retain(|_, (at, _)| at.elapsed() < DAY);
        let mut found = OnDemand::default();
        let unknown: Vec<&String> = types
            .iter()
            .filter(|name| !known.hourly.contains_key(*name))
            .collect();
        if !unknown.is_empty() && known.silent_since.is_none_or(|since| since.elapsed() >= SULK) {
            let (calls, answer) = self.ask(&unknown).await;
            found.calls = calls;
            let now = Instant::now();
            known.silent_since = match answer {
                Ok(prices) => {
                    known
                        .hourly
                        .extend(prices.into_iter().map(|(name, price)| (name, (now, price))));
                    None
                }
                Err(error) => {
                    tracing::warn!(%error, "the price list did not answer: prices are of a table");
                    Some(now)
                }
            };
        }
        for name in types {
            if let Some((_, Some(price))) = known.hourly.get(name) {
                found.hourly.insert(name.clone(), *price);
            } else if let Some((price, as_of)) = tabled(&self.region, name) {
                found.hourly.insert(name.clone(), price);
                found.as_of = Some(found.as_of.map_or(as_of, |other| other.min(as_of)));
            }
        }
        found
    }

    async fn ask(&self, names: &[&String]) -> (u32, Result<Vec<(String, Option<Decimal>)>, ProviderError>) {
        let mut calls = 0;
        let all = async {
            let mut prices = Vec::new();
            let questions: Vec<_> = names.iter().map(|name| self.ask_one((*name).clone())).collect();
            let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
            while let Some(answer) = answers.next().await {
                calls += 1;
                prices.push(answer?);
            }
            Ok(prices)
        };
        let answer = tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| {
            Err(ProviderError::Unavailable {
                why: format!("no answer within {} s", PATIENCE.as_secs()),
            })
        });
        (calls.max(1), answer)
    }

    async fn ask_one(&self, name: String) -> Result<(String, Option<Decimal>), ProviderError> {
        // Each narrows a type's hundred prices down to one. Source: the price list's attributes of AmazonEC2.
        let filters = [
            ("instanceType", name.as_str()),
            ("regionCode", &self.region),
            ("operatingSystem", "Linux"),
            ("tenancy", "Shared"),
            ("capacitystatus", "Used"),
            ("preInstalledSw", "NA"),
        ];
        let mut call = self
            .client
            .get_products()
            .service_code("AmazonEC2")
            .max_results(10);
        for (field, value) in filters {
            let filter = Filter::builder()
                .r#type(FilterType::TermMatch)
                .field(field)
                .value(value);
            call = call.filters(filter.build().map_err(|error| ProviderError::Malformed {
                why: error.to_string(),
            })?);
        }
        let answer = Box::pin(call.send()).await;
        let answer = answer.map_err(|error| failure::of(Kind::Read, &error))?;
        let price = answer.price_list().iter().find_map(|item| decode(item));
        Ok((name, price))
    }
}

/// The price list is served in three regions: the one nearest. Source: AWS general reference, "Price List endpoints".
pub(super) fn served_in(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("eu" | "me" | "af" | "il") => "eu-central-1",
        Some("ap") => "ap-south-1",
        _ => "us-east-1",
    }
}

/// The hourly price of an item of the list, which is a document of its own.
fn decode(item: &str) -> Option<Decimal> {
    first_price(&serde_json::from_str(item).ok()?, |unit| unit == "Hrs")
}

/// The first price on demand by such a unit that costs.
pub(super) fn first_price(item: &Value, by: impl Fn(&str) -> bool) -> Option<Decimal> {
    let terms = item.pointer("/terms/OnDemand")?.as_object()?;
    let dimensions = terms
        .values()
        .filter_map(|term| term.get("priceDimensions")?.as_object());
    let mut prices = dimensions
        .flat_map(|dimensions| dimensions.values())
        .filter(|dimension| dimension.get("unit").and_then(Value::as_str).is_some_and(&by))
        .filter_map(|dimension| {
            dimension
                .pointer("/pricePerUnit/USD")?
                .as_str()?
                .parse::<Decimal>()
                .ok()
        });
    prices
        .find(|price| *price > Decimal::ZERO)
        .map(|price| price.normalize())
}

/// A family's price of `large`, by region, and of when it is. Larger sizes cost in proportion.
///
/// Sources: Karpenter's table of on-demand prices for us-east-1 of 2026-01-19; for eu-central-1 Karpenter's of 2026-07-20,
/// which agrees with Amazon's feed of 2026-08-14.
const TABLE: [(&str, &str, &str, &str); 11] = [
    ("us-east-1", "c6g", "0.068", "2026-01-19"),
    ("us-east-1", "c6i", "0.085", "2026-01-19"),
    ("us-east-1", "c7g", "0.0725", "2026-01-19"),
    ("us-east-1", "c7i", "0.08925", "2026-01-19"),
    ("us-east-1", "m6i", "0.096", "2026-01-19"),
    ("us-east-1", "m7g", "0.0816", "2026-01-19"),
    ("us-east-1", "m7i", "0.1008", "2026-01-19"),
    ("us-east-1", "t3", "0.0832", "2026-01-19"),
    ("us-east-1", "t4g", "0.0672", "2026-01-19"),
    ("eu-central-1", "c6i", "0.097", "2026-07-20"),
    ("eu-central-1", "t3", "0.096", "2026-07-20"),
];

/// Sizes as multiples of `large`.
const SIZES: [(&str, u32); 4] = [("large", 1), ("xlarge", 2), ("2xlarge", 4), ("4xlarge", 8)];

fn tabled(region: &str, name: &str) -> Option<(Decimal, &'static str)> {
    let (family, size) = name.split_once('.')?;
    let (_, times) = SIZES.iter().find(|(other, _)| *other == size)?;
    let (_, _, large, as_of) = TABLE.iter().find(|row| (row.0, row.1) == (region, family))?;
    let large: Decimal = large.parse().ok()?;
    Some(((large * Decimal::from(*times)).normalize(), as_of))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: &str = r#"{"product":{"productFamily":"Compute Instance","attributes":{"instanceType":"c6i.large"}},
        "serviceCode":"AmazonEC2","terms":{"OnDemand":{"SKU.JRTCKXETXF":{"priceDimensions":{
            "SKU.JRTCKXETXF.2":{"unit":"Quantity","pricePerUnit":{"USD":"9.0000000000"}},
            "SKU.JRTCKXETXF.6YS6EN2CT7":{"unit":"Hrs","pricePerUnit":{"USD":"0.0970000000"}}}}}}}"#;

    #[test]
    fn the_hourly_price_is_read_out_of_its_nest() {
        assert_eq!(decode(ITEM).unwrap().to_string(), "0.097");
        let free = ITEM.replace("0.0970000000", "0.0000000000");
        assert_eq!(decode(&free), None, "a price of nothing is no price");
        assert_eq!(decode("{}"), None);
        assert_eq!(decode("no JSON"), None);
    }

    #[test]
    fn the_table_agrees_with_the_prices_that_were_published_for_larger_sizes() {
        let price = |region, name| tabled(region, name).map(|(price, _)| price.to_string());
        // Of the same sources, and not used to make the table.
        for (name, published) in [
            ("c6i.4xlarge", "0.68"),
            ("c7i.xlarge", "0.1785"),
            ("m7i.4xlarge", "0.8064"),
            ("t3.2xlarge", "0.3328"),
            ("t4g.xlarge", "0.1344"),
            ("c7g.4xlarge", "0.58"),
            ("m7g.2xlarge", "0.3264"),
        ] {
            assert_eq!(price("us-east-1", name).as_deref(), Some(published), "{name}");
        }
        assert_eq!(price("eu-central-1", "c6i.large").as_deref(), Some("0.097"));
        assert_eq!(price("eu-central-1", "c6i.metal"), None);
        assert_eq!(price("sa-east-1", "c6i.large"), None);
        assert_eq!(ADDRESS_HOURLY.to_string(), "0.005");
    }

    #[test]
    fn each_row_of_the_table_is_there_once_and_dated() {
        let keys: BTreeSet<_> = TABLE.iter().map(|row| (row.0, row.1)).collect();
        assert_eq!(keys.len(), TABLE.len());
        for (_, _, price, as_of) in TABLE {
            assert!(price.parse::<Decimal>().unwrap() > Decimal::ZERO);
            as_of.parse::<jiff::civil::Date>().unwrap();
        }
    }

    #[test]
    fn the_list_is_asked_where_it_is_served() {
        assert_eq!(served_in("eu-west-1"), "eu-central-1");
        assert_eq!(served_in("ap-northeast-2"), "ap-south-1");
        assert_eq!(served_in("sa-east-1"), "us-east-1");
    }
}
