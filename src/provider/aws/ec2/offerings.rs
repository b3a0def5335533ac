//! What EC2 sells of what the stack may buy: types by zone and market, with their prices.
//!
//! On demand a price is the price list's; on the spot market it is the zone's of this moment. A type of which no price is to be
//! had is left out, and named as the reason why the answer is partial: a machine whose price nobody knows is not bought.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::{
    primitives::DateTime,
    types::{InstanceType, InstanceTypeInfo, LocationType, MemoryInfo, SpotPrice, VCpuInfo},
};
use futures::future;
use rust_decimal::Decimal;

use crate::{
    model::{
        ids::ProviderName,
        money::{Currency, Money, Price},
        offering::{Market, Offering, OfferingKey},
        resource::Completeness,
    },
    provider::{Offerings, ProviderError, aws::clock::Clock, aws::prices::ADDRESS_HOURLY},
    stack::OfferingChoice,
};

use super::{
    Ec2,
    api::{Failed, PAGE, filter, pages},
    catalog::{Place, architecture, whole},
};

/// What the spot market's history calls Linux.
const LINUX: &str = "Linux/UNIX";

/// What is bought, in the zones where it may be: none: every zone.
type Wanted = BTreeMap<(String, Market), Option<BTreeSet<String>>>;

/// All that offerings are made from.
#[derive(Debug, Default)]
struct Shelf {
    types: Vec<InstanceTypeInfo>,
    /// Type and zone.
    sold: BTreeSet<(String, String)>,
    on_demand: BTreeMap<String, Decimal>,
    /// By type and zone.
    spot: BTreeMap<(String, String), Decimal>,
}

impl Ec2 {
    pub(super) async fn read_offerings(&self) -> Result<Offerings, ProviderError> {
        let names: BTreeSet<String> = self
            .choices
            .iter()
            .map(|choice| choice.machine_type.clone())
            .collect();
        if names.is_empty() {
            return Ok(Offerings {
                offerings: Vec::new(),
                completeness: Completeness::Complete,
                calls: 0,
            });
        }
        let clock = Clock::default();
        let spot: BTreeSet<String> = self
            .choices
            .iter()
            .filter(|choice| choice.market == Market::Spot)
            .map(|choice| choice.machine_type.clone())
            .collect();
        let (types, sold, on_demand) = future::join3(
            self.types(&names, &clock),
            self.sold(&names, &clock),
            self.prices.on_demand(&names),
        )
        .await;
        let (types, sold) = (types?, sold?);
        let spot = self.spot_prices(&spot, &clock).await;
        let mut flaw = None;
        let wanted = self.wanted(&clock).await?;
        let market = Shelf {
            types,
            sold,
            on_demand: on_demand.hourly,
            spot: spot.unwrap_or_else(|error| {
                flaw = Some(format!("the spot market's prices could not be read: {error}"));
                BTreeMap::new()
            }),
        };
        if let Some(as_of) = on_demand.as_of {
            tracing::info!(
                as_of,
                "on-demand prices are of a table, since the price list did not answer"
            );
        }
        let (offerings, unpriced) = market.offerings(self.name(), &wanted);
        if flaw.is_none() && !unpriced.is_empty() {
            flaw = Some(format!("no price is known for {}", unpriced.join(", ")));
        }
        Ok(Offerings {
            offerings,
            completeness: flaw.map_or(Completeness::Complete, Completeness::partial),
            calls: clock.calls() + on_demand.calls,
        })
    }

    /// What the pools may buy, and where: where a pool names subnets and no zones, in the subnets' zones.
    async fn wanted(&self, clock: &Clock) -> Result<Wanted, ProviderError> {
        let mut wanted = Wanted::new();
        for choice in &self.choices {
            let zones = self.zones(choice, clock).await?;
            let all = wanted
                .entry((choice.machine_type.clone(), choice.market))
                .or_insert_with(|| Some(BTreeSet::new()));
            match (all.as_mut(), zones) {
                (Some(all), Some(zones)) => all.extend(zones),
                _ => *all = None,
            }
        }
        Ok(wanted)
    }

    async fn zones(
        &self,
        choice: &OfferingChoice,
        clock: &Clock,
    ) -> Result<Option<BTreeSet<String>>, ProviderError> {
        if !choice.locations.is_empty() {
            return Ok(Some(choice.locations.iter().cloned().collect()));
        }
        let subnets = choice
            .ec2
            .as_ref()
            .map(|how| how.subnets.as_slice())
            .unwrap_or_default();
        if subnets.is_empty() {
            return Ok(None);
        }
        let places: Vec<Place> = self.places_heard(subnets, clock).await?;
        Ok(Some(places.into_iter().map(|place| place.zone).collect()))
    }

    /// In which zones of the region which of these types are sold.
    pub(super) async fn sold(
        &self,
        names: &BTreeSet<String>,
        clock: &Clock,
    ) -> Result<BTreeSet<(String, String)>, ProviderError> {
        let ask = |token: Option<String>| {
            let call = self.api.ec2.describe_instance_type_offerings();
            let call = call
                .location_type(LocationType::AvailabilityZone)
                .filters(filter("instance-type", names))
                .max_results(1000)
                .set_next_token(token);
            async {
                let answer = self
                    .api
                    .read(call.customize().interceptor(clock.clone()).send())
                    .await?;
                let rows = answer.instance_type_offerings().iter().filter_map(|row| {
                    let pair = (
                        row.instance_type()?.as_str().to_owned(),
                        row.location()?.to_owned(),
                    );
                    Some((format!("{} {}", pair.0, pair.1), pair))
                });
                Ok::<_, Failed>((rows.collect(), answer.next_token.clone()))
            }
        };
        Ok(whole(pages(ask).await)?.into_iter().collect())
    }

    /// The price of each of these types on the spot market, by zone.
    async fn spot_prices(
        &self,
        names: &BTreeSet<String>,
        clock: &Clock,
    ) -> Result<BTreeMap<(String, String), Decimal>, ProviderError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        // A history that begins now has each price that holds now, and no other.
        let now = DateTime::from_secs(clock.now()?.as_second());
        let ask = |token: Option<String>| {
            let types = names
                .iter()
                .map(|name| InstanceType::from(name.as_str()))
                .collect();
            let call = self.api.ec2.describe_spot_price_history();
            let call = call
                .set_instance_types(Some(types))
                .product_descriptions(LINUX)
                .start_time(now)
                .max_results(PAGE)
                .set_next_token(token);
            async {
                let answer = self
                    .api
                    .read(call.customize().interceptor(clock.clone()).send())
                    .await?;
                let rows = answer.spot_price_history().iter().cloned();
                let rows = rows.map(|row| {
                    (
                        format!(
                            "{:?} {:?} {:?}",
                            row.instance_type, row.availability_zone, row.timestamp
                        ),
                        row,
                    )
                });
                Ok::<_, Failed>((rows.collect(), answer.next_token.clone()))
            }
        };
        Ok(latest(&whole(pages(ask).await)?))
    }
}

/// The newest price by type and zone.
fn latest(history: &[SpotPrice]) -> BTreeMap<(String, String), Decimal> {
    let mut rows: Vec<_> = history
        .iter()
        .filter_map(|row| {
            let key = (
                row.instance_type()?.as_str().to_owned(),
                row.availability_zone()?.to_owned(),
            );
            let at = row.timestamp().map(|at| (at.secs(), at.subsec_nanos()));
            Some((at, key, row.spot_price()?.parse::<Decimal>().ok()?))
        })
        .filter(|(_, _, price)| *price > Decimal::ZERO)
        .collect();
    rows.sort();
    rows.into_iter()
        .map(|(_, key, price)| (key, price.normalize()))
        .collect()
}

impl Shelf {
    /// The offerings, and what is sold and has no price.
    fn offerings(&self, provider: &ProviderName, wanted: &Wanted) -> (Vec<Offering>, Vec<String>) {
        let (mut offerings, mut unpriced) = (Vec::new(), BTreeSet::new());
        for ((name, market), zones) in wanted {
            let info = self
                .types
                .iter()
                .find(|info| info.instance_type().is_some_and(|it| it.as_str() == name));
            let Some(info) = info else {
                // Not of this region: `check` says so.
                continue;
            };
            let here = self
                .sold
                .iter()
                .filter(|(sold, _)| sold == name)
                .map(|(_, zone)| zone);
            for zone in here.filter(|zone| zones.as_ref().is_none_or(|zones| zones.contains(*zone))) {
                let price = match market {
                    Market::OnDemand => self.on_demand.get(name),
                    Market::Spot => self.spot.get(&(name.clone(), zone.clone())),
                };
                let key = OfferingKey {
                    provider: provider.clone(),
                    location: zone.clone(),
                    machine_type: name.clone(),
                    market: *market,
                };
                let Some(price) = price else {
                    unpriced.insert(key.to_string());
                    continue;
                };
                offerings.extend(offering(key, info, *price));
            }
        }
        offerings.sort_by(|a, b| a.key.cmp(&b.key));
        (offerings, unpriced.into_iter().collect())
    }
}

/// An offering; none where no runner runs on it.
fn offering(key: OfferingKey, info: &InstanceTypeInfo, hourly: Decimal) -> Option<Offering> {
    let cpus = info.v_cpu_info().and_then(VCpuInfo::default_v_cpus)?;
    let memory = info.memory_info().and_then(MemoryInfo::size_in_mib)?;
    let price = |amount: Decimal| Price {
        hourly: Money {
            amount: amount.normalize(),
            currency: Currency::new("USD"),
        },
        monthly_cap: None,
    };
    Some(Offering {
        key,
        price: price(hourly + ADDRESS_HOURLY),
        price_without_ipv4: price(hourly),
        cpus: u32::try_from(cpus).ok()?,
        memory_mib: u64::try_from(memory).ok()?,
        architecture: architecture(info)?,
        // EC2 says nothing of its stock.
        available: None,
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{ArchitectureType, ProcessorInfo};

    use super::*;
    use crate::model::offering::Architecture;

    fn info(name: &str, architecture: ArchitectureType) -> InstanceTypeInfo {
        InstanceTypeInfo::builder()
            .instance_type(InstanceType::from(name))
            .processor_info(
                ProcessorInfo::builder()
                    .supported_architectures(architecture)
                    .build(),
            )
            .v_cpu_info(VCpuInfo::builder().default_v_cpus(2).build())
            .memory_info(MemoryInfo::builder().size_in_mib(4096).build())
            .build()
    }

    fn pair(name: &str, zone: &str) -> (String, String) {
        (name.to_owned(), zone.to_owned())
    }

    fn market() -> Shelf {
        Shelf {
            types: vec![
                info("c6i.large", ArchitectureType::X8664),
                info("c7g.large", ArchitectureType::Arm64),
            ],
            sold: [
                pair("c6i.large", "a"),
                pair("c6i.large", "b"),
                pair("c7g.large", "b"),
            ]
            .into(),
            on_demand: [("c6i.large".to_owned(), Decimal::new(97, 3))].into(),
            spot: [
                (pair("c6i.large", "a"), Decimal::new(31, 3)),
                (pair("c7g.large", "b"), Decimal::new(25, 3)),
            ]
            .into(),
        }
    }

    #[test]
    fn each_type_is_sold_by_zone_and_market_with_the_address_on_top() {
        let wanted = Wanted::from([
            (("c6i.large".to_owned(), Market::OnDemand), None),
            (
                ("c6i.large".to_owned(), Market::Spot),
                Some(BTreeSet::from(["a".to_owned()])),
            ),
            (("c7g.large".to_owned(), Market::Spot), None),
            (("no-such.type".to_owned(), Market::OnDemand), None),
        ]);
        let (offerings, unpriced) = market().offerings(&"aws".into(), &wanted);
        let said: Vec<_> = offerings
            .iter()
            .map(|o| (o.key.to_string(), o.price.hourly.to_string()))
            .collect();
        let expected = [
            ("aws/a c6i.large", "0.102 USD"),
            ("aws/a c6i.large spot", "0.036 USD"),
            ("aws/b c6i.large", "0.102 USD"),
            ("aws/b c7g.large spot", "0.03 USD"),
        ];
        assert_eq!(
            said,
            expected.map(|(key, price)| (key.to_owned(), price.to_owned()))
        );
        assert_eq!(offerings[3].price_without_ipv4.hourly.to_string(), "0.025 USD");
        assert_eq!(offerings[3].architecture, Architecture::Arm);
        assert_eq!((offerings[0].cpus, offerings[0].memory_mib), (2, 4096));
        assert_eq!(unpriced, [] as [String; 0]);
    }

    #[test]
    fn what_has_no_price_is_left_out_and_named() {
        let wanted = Wanted::from([
            (("c7g.large".to_owned(), Market::OnDemand), None),
            (("c6i.large".to_owned(), Market::Spot), None),
        ]);
        let (offerings, unpriced) = market().offerings(&"aws".into(), &wanted);
        assert_eq!(offerings.len(), 1);
        assert_eq!(unpriced, ["aws/b c6i.large spot", "aws/b c7g.large"]);
    }

    #[test]
    fn of_the_spot_markets_history_the_newest_price_holds() {
        let row = |price: &str, at: i64| {
            SpotPrice::builder()
                .instance_type(InstanceType::C6iLarge)
                .availability_zone("a")
                .spot_price(price)
                .timestamp(DateTime::from_secs(at))
                .build()
        };
        let history = [row("0.0400", 3), row("0.0300", 1), row("0.0350", 2), row("0", 9)];
        let prices = latest(&history);
        assert_eq!(prices[&pair("c6i.large", "a")].to_string(), "0.04");
    }
}
