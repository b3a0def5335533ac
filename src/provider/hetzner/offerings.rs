//! What Hetzner sells, where, and for how much: address and tax included.

use std::collections::BTreeMap;

use futures::future;
use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::{
    model::{
        ids::ProviderName,
        money::{Currency, Money, Price},
        offering::{Market, Offering, OfferingKey},
        resource::Completeness,
    },
    net::Request,
    provider::{Offerings, ProviderError},
};

use super::{
    Hetzner,
    api::Failed,
    machines::architecture,
    pages::{self, Pages},
    wire_catalog::{Amount, LocationPrice, Pricing, PricingAnswer, ServerType},
};

impl Hetzner {
    pub(super) async fn read_offerings(&self) -> Result<Offerings, ProviderError> {
        let (types, pricing) = future::join(
            pages::all::<ServerType>(&self.api, "/server_types", &[]),
            self.api.get::<PricingAnswer>(Request::get("/pricing")),
        )
        .await;
        let types = types.map_err(Failed::of_read)?;
        let pricing = pricing.map_err(Failed::of_read)?.pricing;
        self.learn_architectures(&types.rows).await;
        Ok(offerings(self.name(), types, &pricing))
    }

    pub(super) async fn learn_architectures(&self, types: &[ServerType]) {
        let mut known = self.architectures.lock().await;
        for row in types {
            if let Some(architecture) = architecture(&row.architecture) {
                known.insert(row.name.clone(), architecture);
            }
        }
    }
}

/// Every type in every location where it is sold.
fn offerings(provider: &ProviderName, types: Pages<ServerType>, pricing: &Pricing) -> Offerings {
    let currency = Currency::new(&pricing.currency);
    let addresses: BTreeMap<&str, &LocationPrice> = pricing
        .primary_ips
        .iter()
        .filter(|ip| ip.kind == "ipv4")
        .flat_map(|ip| &ip.prices)
        .map(|price| (price.location.as_str(), price))
        .collect();
    let mut flaw = match types.completeness {
        Completeness::Complete => None,
        Completeness::Partial { why } => Some(why),
    };
    let mut offerings = Vec::new();
    for row in &types.rows {
        let Some(architecture) = architecture(&row.architecture) else {
            // Another instruction set than runners have: not for us.
            continue;
        };
        for price in &row.prices {
            let Some(available) = sold(row, &price.location, types.now) else {
                continue;
            };
            let Some(address) = addresses.get(price.location.as_str()) else {
                flaw.get_or_insert(format!("no price for an IPv4 address in {}", price.location));
                continue;
            };
            let (Ok(cpus), Some(memory_mib)) = (u32::try_from(row.cores), mebibytes(row.memory)) else {
                flaw.get_or_insert(format!("{}: its size cannot be understood", row.name));
                continue;
            };
            offerings.push(Offering {
                key: OfferingKey {
                    provider: provider.clone(),
                    location: price.location.clone(),
                    machine_type: row.name.clone(),
                    market: Market::OnDemand,
                },
                price: total(&currency, price, Some(*address)),
                price_without_ipv4: total(&currency, price, None),
                cpus,
                memory_mib,
                architecture,
                available,
            });
        }
    }
    offerings.sort_by(|a, b| a.key.cmp(&b.key));
    Offerings {
        offerings,
        completeness: flaw.map_or(Completeness::Complete, Completeness::partial),
        calls: types.calls + 1,
    }
}

/// Whether a type is sold in a location: none if not, else what is said of its stock.
#[expect(
    clippy::option_option,
    reason = "sold at all, and then: said to be in stock, said not to be, not said"
)]
pub(super) fn sold(row: &ServerType, location: &str, now: Option<Timestamp>) -> Option<Option<bool>> {
    let Some(locations) = &row.locations else {
        // An API that does not say where: the price list does.
        return row
            .prices
            .iter()
            .any(|price| price.location == location)
            .then_some(None);
    };
    let place = locations.iter().find(|place| place.name == location)?;
    if let Some(deprecation) = &place.deprecation {
        let over = now.is_some_and(|now| deprecation.unavailable_after <= now);
        if over || place.available == Some(false) {
            return None;
        }
    }
    Some(place.available)
}

fn total(currency: &Currency, machine: &LocationPrice, address: Option<&LocationPrice>) -> Price {
    let sum = |of: fn(&LocationPrice) -> Amount| Money {
        amount: (of(machine).gross + address.map_or(Decimal::ZERO, |a| of(a).gross)).normalize(),
        currency: currency.clone(),
    };
    Price {
        hourly: sum(|price| price.price_hourly),
        monthly_cap: Some(sum(|price| price.price_monthly)),
    }
}

fn mebibytes(gibibytes: Decimal) -> Option<u64> {
    u64::try_from(gibibytes.checked_mul(Decimal::from(1024))?.trunc()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES: &str = r#"[
        {"id":1,"name":"cx33","cores":4,"memory":8.0,"architecture":"x86","prices":[
            {"location":"fsn1","price_hourly":{"net":"0.0080000000","gross":"0.0095200000000000"},"price_monthly":{"net":"4.99","gross":"5.9400000000000000"}},
            {"location":"hel1","price_hourly":{"net":"0.0080","gross":"0.0100"},"price_monthly":{"net":"4.99","gross":"5.94"}}],
         "locations":[{"id":1,"name":"fsn1","deprecation":null,"recommended":true,"available":true},
                      {"id":2,"name":"hel1","deprecation":null,"recommended":false,"available":false}]},
        {"id":2,"name":"cx11","cores":1,"memory":2,"architecture":"x86","prices":[
            {"location":"fsn1","price_hourly":{"net":"1","gross":"1"},"price_monthly":{"net":"1","gross":"1"}},
            {"location":"hel1","price_hourly":{"net":"1","gross":"1"},"price_monthly":{"net":"1","gross":"1"}}],
         "locations":[{"id":1,"name":"fsn1","deprecation":{"announced":"2025-01-01T00:00:00Z","unavailable_after":"2026-01-01T00:00:00Z"},"available":true},
                      {"id":2,"name":"hel1","deprecation":{"announced":"2025-01-01T00:00:00Z","unavailable_after":"2027-01-01T00:00:00Z"},"available":true}]},
        {"id":3,"name":"q1","cores":1,"memory":2,"architecture":"quantum","prices":[],"locations":[]}]"#;

    const PRICING: &str = r#"{"currency":"EUR","vat_rate":"19.00","primary_ips":[
        {"type":"ipv6","prices":[{"location":"fsn1","price_hourly":{"net":"9","gross":"9"},"price_monthly":{"net":"9","gross":"9"}}]},
        {"type":"ipv4","prices":[
            {"location":"fsn1","price_hourly":{"net":"0.0008","gross":"0.0010"},"price_monthly":{"net":"0.5","gross":"0.595"}},
            {"location":"hel1","price_hourly":{"net":"0.0008","gross":"0.0010"},"price_monthly":{"net":"0.5","gross":"0.595"}}]}]}"#;

    fn read(pricing: &str) -> Offerings {
        let types = Pages {
            rows: serde_json::from_str(TYPES).unwrap(),
            completeness: Completeness::Complete,
            now: Some("2026-06-01T00:00:00Z".parse().unwrap()),
            calls: 1,
        };
        offerings(&"hetzner".into(), types, &serde_json::from_str(pricing).unwrap())
    }

    #[test]
    fn a_price_includes_address_and_tax_exactly() {
        let all = read(PRICING);
        let cx33 = &all.offerings[0];
        assert_eq!(cx33.key.to_string(), "hetzner/fsn1 cx33");
        assert_eq!(cx33.price.hourly.to_string(), "0.01052 EUR");
        assert_eq!(cx33.price_without_ipv4.hourly.to_string(), "0.00952 EUR");
        assert_eq!(cx33.price.monthly_cap.as_ref().unwrap().to_string(), "6.535 EUR");
        assert_eq!(
            (cx33.cpus, cx33.memory_mib, cx33.available),
            (4, 8192, Some(true))
        );
        assert!(all.completeness.is_complete());
    }

    #[test]
    fn what_is_no_longer_sold_is_left_out_and_what_is_out_of_stock_is_marked() {
        let all = read(PRICING);
        let named: Vec<_> = all
            .offerings
            .iter()
            .map(|o| (o.key.to_string(), o.available))
            .collect();
        let expected = [
            ("hetzner/fsn1 cx33".to_owned(), Some(true)),
            ("hetzner/hel1 cx11".to_owned(), Some(true)),
            ("hetzner/hel1 cx33".to_owned(), Some(false)),
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn without_a_price_for_the_address_there_is_no_price() {
        let all = read(r#"{"currency":"EUR","primary_ips":[]}"#);
        assert!(all.offerings.is_empty());
        assert!(!all.completeness.is_complete());
    }
}
