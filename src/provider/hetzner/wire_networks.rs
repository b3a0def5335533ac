//! Networks and placement groups as the API answers them.

use jiff::Timestamp;
use serde::Deserialize;

use crate::model::{
    ids::{ProviderName, ResourceKind},
    resource::{Labels, Observed, Subnet},
};

use super::wire::{Resource, Row, plain};

/// A resource that the cloud takes from under its servers when it is deleted.
pub(super) trait Shared: Resource {
    /// How many servers use it.
    fn servers(&self) -> usize;
}

#[derive(Debug, Deserialize)]
pub(super) struct Network {
    id: u64,
    name: String,
    created: Timestamp,
    #[serde(default)]
    labels: Option<Labels>,
    pub(super) ip_range: String,
    #[serde(rename = "subnets")]
    parts: Vec<Part>,
    /// Those that are attached.
    servers: Vec<u64>,
}

#[derive(Clone, Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    ip_range: Option<String>,
    network_zone: String,
}

impl Network {
    /// Its subnets of cloud servers, sorted. Those of a vSwitch are made with dedicated servers, and are not ours to change.
    pub(super) fn subnets(&self) -> Vec<Subnet> {
        let ours = self.parts.iter().filter(|part| part.kind != "vswitch");
        let mut subnets: Vec<_> = ours
            .filter_map(|part| {
                Some(Subnet {
                    ip_range: part.ip_range.clone()?,
                    zone: part.network_zone.clone(),
                })
            })
            .collect();
        subnets.sort();
        subnets
    }
}

impl Row for Network {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Resource for Network {
    const KIND: ResourceKind = ResourceKind::Network;

    fn name(&self) -> &str {
        &self.name
    }

    fn observed(self, provider: &ProviderName) -> Observed {
        Observed {
            network: Some((self.ip_range.clone(), self.subnets())),
            ..plain(
                provider,
                Self::KIND,
                self.id,
                self.name,
                self.labels,
                self.created,
            )
        }
    }
}

impl Shared for Network {
    fn servers(&self) -> usize {
        self.servers.len()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct PlacementGroup {
    id: u64,
    name: String,
    created: Timestamp,
    #[serde(default)]
    labels: Option<Labels>,
    /// Those that are in it.
    servers: Vec<u64>,
}

impl Row for PlacementGroup {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Resource for PlacementGroup {
    const KIND: ResourceKind = ResourceKind::PlacementGroup;

    fn name(&self) -> &str {
        &self.name
    }

    fn observed(self, provider: &ProviderName) -> Observed {
        plain(
            provider,
            Self::KIND,
            self.id,
            self.name,
            self.labels,
            self.created,
        )
    }
}

impl Shared for PlacementGroup {
    fn servers(&self) -> usize {
        self.servers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_sorted_and_those_of_a_vswitch_are_not_ours() {
        let json = r#"{"id":1,"name":"n","created":"2026-01-30T23:55:00Z","labels":{},"ip_range":"10.0.0.0/16","servers":[1],
            "subnets":[{"type":"cloud","ip_range":"10.0.2.0/24","network_zone":"us-east","gateway":"10.0.0.1"},
            {"type":"vswitch","ip_range":"10.0.3.0/24","network_zone":"eu-central","gateway":"10.0.0.1","vswitch_id":4},
            {"type":"server","ip_range":"10.0.1.0/24","network_zone":"eu-central","gateway":"10.0.0.1"}]}"#;
        let network: Network = serde_json::from_str(json).unwrap();
        assert_eq!(network.servers(), 1);
        let (range, subnets) = network.observed(&"hetzner".into()).network.unwrap();
        let ranges: Vec<_> = subnets.iter().map(|subnet| subnet.ip_range.as_str()).collect();
        assert_eq!(
            (range.as_str(), &ranges[..]),
            ("10.0.0.0/16", &["10.0.1.0/24", "10.0.2.0/24"][..])
        );
    }
}
