//! What can be bought, and what is known of it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ids::ProviderName, money::Price};

/// How a machine is bought.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Market {
    /// At the list price, until it is deleted.
    #[default]
    OnDemand,
    /// Cheaper, and may be taken away.
    Spot,
}

/// Names one offering.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct OfferingKey {
    /// The provider's key in the stack file.
    pub provider: ProviderName,
    /// The provider's name of the place: `fsn1`.
    pub location: String,
    /// The provider's name of the machine type: `cx33`.
    #[serde(rename = "type")]
    pub machine_type: String,
    /// How it is bought.
    #[serde(default)]
    pub market: Market,
}

impl fmt::Display for OfferingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spot = match self.market {
            Market::OnDemand => "",
            Market::Spot => " spot",
        };
        f.pad(&format!(
            "{}/{} {}{spot}",
            self.provider, self.location, self.machine_type
        ))
    }
}

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// amd64.
    X86,
    /// aarch64.
    Arm,
}

/// What can be bought now, with its price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Offering {
    /// Which.
    pub key: OfferingKey,
    /// The price with a public IPv4 address, tax included.
    pub price: Price,
    /// The price without one; as `price` where an address costs nothing.
    pub price_without_ipv4: Price,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// What runs on it.
    pub architecture: Architecture,
    /// What the provider says of its stock; none where it does not say. `true` is no promise.
    pub available: Option<bool>,
}

impl Offering {
    /// What an hour costs, with a public IPv4 address or without.
    pub fn price_with(&self, public_ipv4: bool) -> &Price {
        if public_ipv4 {
            &self.price
        } else {
            &self.price_without_ipv4
        }
    }
}
