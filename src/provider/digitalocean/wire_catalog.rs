//! Sizes, regions, images and the account as the API answers them.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;

use super::wire::Row;

#[derive(Debug, Deserialize)]
pub(super) struct Size {
    pub(super) slug: String,
    /// In MiB.
    pub(super) memory: u64,
    pub(super) vcpus: u32,
    /// In US dollars, its public IPv4 address included.
    pub(super) price_hourly: Decimal,
    /// As much at most in a month.
    pub(super) price_monthly: Decimal,
    /// Where it can be had now.
    pub(super) regions: Vec<String>,
    pub(super) available: bool,
    #[serde(default)]
    pub(super) gpu_info: Option<Value>,
}

impl Row for Size {
    fn id(&self) -> String {
        self.slug.clone()
    }
}

impl Size {
    /// Whether runners can be made of it: see the caveats of the provider.
    pub(super) fn is_for_runners(&self) -> bool {
        self.gpu_info.is_none()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Region {
    pub(super) slug: String,
    pub(super) available: bool,
}

impl Row for Region {
    fn id(&self) -> String {
        self.slug.clone()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Image {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) regions: Vec<String>,
    #[serde(default)]
    pub(super) created_at: Option<Timestamp>,
}

impl Row for Image {
    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl Image {
    /// Whether a droplet in this region can boot it; in any, where none is named.
    pub(super) fn is_usable(&self, region: Option<&str>) -> bool {
        let ready = self.status.as_deref().is_none_or(|status| status == "available");
        ready && region.is_none_or(|region| self.regions.iter().any(|there| there == region))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Account {
    /// `active`, `warning` or `locked`.
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) status_message: String,
}
