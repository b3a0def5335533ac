//! Images, machine types and prices as the API answers them.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Deserialize;

use super::wire::Row;

#[derive(Debug, Deserialize)]
pub(super) struct Image {
    id: u64,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) status: Option<String>,
    pub(super) architecture: String,
    pub(super) created: Option<Timestamp>,
}

impl Row for Image {
    fn id(&self) -> u64 {
        self.id
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ServerType {
    id: u64,
    pub(super) name: String,
    pub(super) cores: Decimal,
    /// In GB, as Hetzner says; its GB are GiB.
    pub(super) memory: Decimal,
    pub(super) architecture: String,
    pub(super) prices: Vec<LocationPrice>,
    #[serde(default)]
    pub(super) locations: Option<Vec<TypeLocation>>,
}

impl Row for ServerType {
    fn id(&self) -> u64 {
        self.id
    }
}

/// Where a type is sold, and whether there is stock.
#[derive(Debug, Deserialize)]
pub(super) struct TypeLocation {
    pub(super) name: String,
    #[serde(default)]
    pub(super) available: Option<bool>,
    #[serde(default)]
    pub(super) deprecation: Option<Deprecation>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Deprecation {
    pub(super) unavailable_after: Timestamp,
}

#[derive(Debug, Deserialize)]
pub(super) struct LocationPrice {
    pub(super) location: String,
    pub(super) price_hourly: Amount,
    pub(super) price_monthly: Amount,
}

/// An amount; `net` is without tax and not used.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Amount {
    pub(super) gross: Decimal,
}

#[derive(Debug, Deserialize)]
pub(super) struct PricingAnswer {
    pub(super) pricing: Pricing,
}

#[derive(Debug, Deserialize)]
pub(super) struct Pricing {
    pub(super) currency: String,
    pub(super) primary_ips: Vec<IpPricing>,
}

#[derive(Debug, Deserialize)]
pub(super) struct IpPricing {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) prices: Vec<LocationPrice>,
}
