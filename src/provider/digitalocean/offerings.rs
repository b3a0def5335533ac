//! What DigitalOcean sells, where, and for how much: the public IPv4 address included, tax not.

use digitalocean_api::api::{Region as RegionBuilder, Size as SizeBuilder};
use futures::future;
use rust_decimal::Decimal;

use crate::{
    model::{
        ids::ProviderName,
        money::{Currency, Money, Price},
        offering::{Architecture, Market, Offering, OfferingKey},
        resource::Completeness,
    },
    provider::{Offerings, ProviderError},
};

use super::{
    Digitalocean,
    api::Failed,
    pages::{self, Pages},
    requests,
    wire_catalog::{Region, Size},
};

/// What DigitalOcean asks to be paid in. Source: the API's description of a size.
const CURRENCY: &str = "USD";

/// The API's prices are binary fractions of few digits: `0.00743999984115362` for 0.00744. The least price per hour has five.
const DIGITS: u32 = 6;

impl Digitalocean {
    /// Sizes, and regions.
    pub(super) async fn catalog(&self) -> Result<(Pages<Size>, Pages<Region>), ProviderError> {
        let (sizes, regions) = future::join(
            pages::all::<Size>(&self.api, requests::of(&SizeBuilder::list())),
            pages::all::<Region>(&self.api, requests::of(&RegionBuilder::list())),
        )
        .await;
        Ok((sizes.map_err(Failed::of_read)?, regions.map_err(Failed::of_read)?))
    }

    pub(super) async fn read_offerings(&self) -> Result<Offerings, ProviderError> {
        let (sizes, regions) = self.catalog().await?;
        Ok(offerings(self.name(), sizes, regions))
    }
}

/// Every size in every region where it can be had. A size that is out of stock in a region is not told there.
fn offerings(provider: &ProviderName, sizes: Pages<Size>, regions: Pages<Region>) -> Offerings {
    let open = |slug: &str| {
        let region = regions.rows.iter().find(|region| region.slug == slug);
        region.map(|region| region.available)
    };
    let money = |amount: Decimal| Money {
        amount: amount.round_dp(DIGITS).normalize(),
        currency: Currency::new(CURRENCY),
    };
    let mut offerings = Vec::new();
    for size in sizes.rows.iter().filter(|size| size.is_for_runners()) {
        let price = Price {
            hourly: money(size.price_hourly),
            monthly_cap: Some(money(size.price_monthly)),
        };
        offerings.extend(size.regions.iter().map(|region| Offering {
            key: OfferingKey {
                provider: provider.clone(),
                location: region.clone(),
                machine_type: size.slug.clone(),
                market: Market::OnDemand,
            },
            price: price.clone(),
            price_without_ipv4: price.clone(),
            cpus: size.vcpus,
            memory_mib: size.memory,
            architecture: Architecture::X86,
            available: open(region).map(|open| open && size.available),
        }));
    }
    offerings.sort_by(|a, b| a.key.cmp(&b.key));
    let flaw = [sizes.completeness, regions.completeness]
        .into_iter()
        .find(|part| !part.is_complete());
    Offerings {
        offerings,
        completeness: flaw.unwrap_or(Completeness::Complete),
        calls: sizes.calls + regions.calls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: &str = r#"[
        {"slug":"s-1vcpu-1gb","memory":1024,"vcpus":1,"disk":25,"transfer":1,"price_monthly":6,"price_hourly":0.00892857,
         "regions":["fra1","nyc1"],"available":true,"description":"Basic"},
        {"slug":"s-2vcpu-4gb","memory":4096,"vcpus":2,"disk":80,"transfer":4,"price_monthly":24,"price_hourly":0.03571000024676323,
         "regions":["fra1"],"available":false,"description":"Basic"},
        {"slug":"gpu-h100x1-80gb","memory":245760,"vcpus":20,"disk":720,"transfer":15,"price_monthly":2522,"price_hourly":3.39,
         "regions":["fra1"],"available":true,"description":"H100","gpu_info":{"count":1,"model":"nvidia_h100"}}]"#;

    const REGIONS: &str = r#"[{"slug":"fra1","name":"Frankfurt 1","available":true,"features":[],"sizes":[]},
        {"slug":"nyc1","name":"New York 1","available":false,"features":[],"sizes":[]}]"#;

    fn whole<T: serde::de::DeserializeOwned>(json: &str) -> Pages<T> {
        Pages {
            rows: serde_json::from_str(json).unwrap(),
            completeness: Completeness::Complete,
            now: None,
            calls: 1,
        }
    }

    #[test]
    fn each_size_is_sold_where_it_can_be_had_and_a_price_is_the_decimal_that_was_meant() {
        let all = offerings(&"do".into(), whole(SIZES), whole(REGIONS));
        let told: Vec<_> = all
            .offerings
            .iter()
            .map(|o| (o.key.to_string(), o.price.hourly.to_string(), o.available))
            .collect();
        let expected = [
            ("do/fra1 s-1vcpu-1gb", "0.008929 USD", Some(true)),
            ("do/fra1 s-2vcpu-4gb", "0.03571 USD", Some(false)),
            ("do/nyc1 s-1vcpu-1gb", "0.008929 USD", Some(false)),
        ];
        assert_eq!(
            told,
            expected.map(|(key, price, there)| (key.to_owned(), price.to_owned(), there))
        );
        let small = &all.offerings[0];
        assert_eq!((small.cpus, small.memory_mib), (1, 1024));
        assert_eq!(small.price.monthly_cap.as_ref().unwrap().to_string(), "6 USD");
        assert_eq!((all.calls, all.completeness.is_complete()), (2, true));
    }
}
