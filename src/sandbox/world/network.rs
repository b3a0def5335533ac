//! Private networks and placement groups of the world's Hetzner project.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::selector::Labels;
use super::cloud::Cloud;

/// The address that no network may use: the public interface's gateway.
const PUBLIC_GATEWAY: u32 = u32::from_be_bytes([172, 31, 1, 1]);

/// How many servers a placement group of the type `spread` holds.
pub(crate) const GROUP_MAX: usize = 10;

/// Addresses in CIDR notation, as they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    base: u32,
    prefix: u32,
}

impl Range {
    /// Of `10.0.0.0/16`; none with bits set behind the prefix.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = text.split_once('/')?;
        let base = u32::from(base.parse::<std::net::Ipv4Addr>().ok()?);
        let prefix: u32 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        let range = Self { base, prefix };
        (base & range.hosts() == 0).then_some(range)
    }

    /// The bits of its hosts.
    fn hosts(self) -> u32 {
        u32::MAX.checked_shr(self.prefix).unwrap_or(0)
    }

    pub(crate) fn prefix(self) -> u32 {
        self.prefix
    }

    fn last(self) -> u32 {
        self.base | self.hosts()
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.base <= other.base && other.last() <= self.last()
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.base <= other.last() && other.base <= self.last()
    }

    /// Whether it is of RFC 1918.
    pub(crate) fn is_private(self) -> bool {
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
            .iter()
            .filter_map(|text| Self::parse(text))
            .any(|private| private.contains(self))
    }

    /// An address for a host that is not taken: the one after the highest, or the first free one where that is the last.
    /// Its first address is the gateway's.
    pub(crate) fn free(self, taken: &BTreeMap<u32, u64>) -> Option<u32> {
        let (first, last) = (self.base.checked_add(2)?, self.last().checked_sub(1)?);
        if first > last {
            return None;
        }
        let highest = taken.range(first..=last).next_back();
        let after = highest.map_or(first, |(highest, _)| highest + 1);
        (after..=last)
            .chain(first..after)
            .find(|address| !taken.contains_key(address))
    }

    /// How many addresses [`Range::free`] can give in all.
    pub(crate) fn room(self) -> usize {
        (self.hosts() as usize).saturating_sub(2)
    }

    /// The bits of its prefix, as `255.255.0.0`.
    pub(crate) fn netmask(self) -> String {
        written(!self.hosts())
    }

    /// Its first address: a network's gateway.
    pub(crate) fn gateway(self) -> String {
        written(self.base + 1)
    }

    /// Its /24 parts, in order.
    pub(crate) fn parts(self) -> impl Iterator<Item = Self> {
        (self.base..=self.last())
            .step_by(256)
            .map(|base| Self { base, prefix: 24 })
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", written(self.base), self.prefix)
    }
}

pub(crate) fn written(address: u32) -> String {
    std::net::Ipv4Addr::from(address).to_string()
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// `cloud`, `server` or `vswitch`.
    pub(crate) kind: String,
    pub(crate) ip_range: String,
    pub(crate) zone: String,
    pub(crate) vswitch: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Network {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) ip_range: String,
    pub(crate) parts: Vec<Part>,
    pub(crate) labels: Labels,
    pub(crate) created: Timestamp,
    pub(crate) protected: bool,
    pub(crate) exposes_routes: bool,
    /// The addresses that are taken, each with its server.
    pub(crate) addresses: BTreeMap<u32, u64>,
    /// A change is being performed until then.
    pub(crate) busy: Timestamp,
}

impl Network {
    pub(crate) fn range(&self) -> Option<Range> {
        Range::parse(&self.ip_range)
    }

    /// A free address in a zone: the one after the highest, or the first where that is the last.
    fn free(&self, zone: &str) -> Option<u32> {
        let gateway = self.range()?.base + 1;
        self.parts
            .iter()
            .filter(|part| part.zone == zone && part.kind != "vswitch")
            .filter_map(|part| Range::parse(&part.ip_range))
            .find_map(|range| {
                let (first, last) = (range.base + 1, range.last().checked_sub(1)?);
                let highest = self.addresses.range(first..=last).next_back();
                let after = highest.map_or(first, |(highest, _)| highest + 1);
                let usable = |address: &u32| {
                    *address != gateway && *address != PUBLIC_GATEWAY && !self.addresses.contains_key(address)
                };
                (after..=last).chain(first..after).find(usable)
            })
    }

    /// Whether a server has an address in a subnet.
    pub(crate) fn is_used(&self, part: &Part) -> bool {
        Range::parse(&part.ip_range)
            .is_some_and(|range| self.addresses.range(range.base..=range.last()).next().is_some())
    }

    /// The servers that are attached.
    pub(crate) fn servers(&self) -> BTreeSet<u64> {
        self.addresses.values().copied().collect()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PlacementGroup {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) created: Timestamp,
    pub(crate) servers: BTreeSet<u64>,
}

impl Cloud {
    /// Whether a network has room for a server in a zone.
    pub(crate) fn has_room(&self, network: u64, zone: &str) -> bool {
        let network = self.networks.get(&network);
        network.is_some_and(|network| network.free(zone).is_some())
    }

    /// Gives a server an address in a network.
    pub(crate) fn attach(&mut self, server: u64, network: u64, zone: &str) {
        self.revision += 1;
        if let Some(network) = self.networks.get_mut(&network)
            && let Some(address) = network.free(zone)
        {
            network.addresses.insert(address, server);
            if let Some(server) = self.servers.get_mut(&server) {
                server.networks.insert(network.id, address);
            }
        }
    }

    pub(crate) fn detach(&mut self, server: u64, network: u64) {
        self.revision += 1;
        let here = self.servers.get_mut(&server);
        let address = here.and_then(|server| server.networks.remove(&network));
        if let Some((address, network)) = address.zip(self.networks.get_mut(&network)) {
            network.addresses.remove(&address);
        }
    }

    /// Puts a server in a placement group, or in none.
    pub(crate) fn place(&mut self, server: u64, group: Option<u64>) {
        let before = self
            .servers
            .get_mut(&server)
            .and_then(|server| std::mem::replace(&mut server.placement_group, group));
        if let Some(before) = before.and_then(|id| self.placement_groups.get_mut(&id)) {
            before.servers.remove(&server);
        }
        if let Some(group) = group.and_then(|id| self.placement_groups.get_mut(&id)) {
            group.servers.insert(server);
        }
    }

    /// Removes a network; its servers are detached.
    pub(crate) fn remove_network(&mut self, id: u64) {
        let network = self.networks.remove(&id);
        for server in network
            .into_iter()
            .flat_map(|network| network.addresses.into_values())
        {
            if let Some(server) = self.servers.get_mut(&server) {
                server.networks.remove(&id);
            }
        }
    }

    /// Removes a placement group; its servers stay where they are.
    pub(crate) fn remove_group(&mut self, id: u64) {
        let group = self.placement_groups.remove(&id);
        for server in group.into_iter().flat_map(|group| group.servers) {
            if let Some(server) = self.servers.get_mut(&server) {
                server.placement_group = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(parts: &[(&str, &str)]) -> Network {
        let part = |(range, zone): &(&str, &str)| Part {
            kind: "cloud".to_owned(),
            ip_range: (*range).to_owned(),
            zone: (*zone).to_owned(),
            vswitch: None,
        };
        Network {
            id: 1,
            name: "n".to_owned(),
            ip_range: "10.0.0.0/16".to_owned(),
            parts: parts.iter().map(part).collect(),
            labels: Labels::new(),
            created: Timestamp::UNIX_EPOCH,
            protected: false,
            exposes_routes: false,
            addresses: BTreeMap::new(),
            busy: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_range_has_no_bits_behind_its_prefix() {
        let shown = |text: &str| Range::parse(text).map(|range| range.to_string());
        assert_eq!(shown("10.0.0.0/16").as_deref(), Some("10.0.0.0/16"));
        for wrong in ["10.0.0.1/16", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/0", ""] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
        let range = |text: &str| Range::parse(text).unwrap();
        assert!(range("10.0.0.0/8").contains(range("10.255.255.0/24")));
        assert!(!range("10.0.0.0/24").overlaps(range("10.0.1.0/24")));
        assert!(range("172.31.0.0/16").is_private() && !range("172.32.0.0/16").is_private());
    }

    #[test]
    fn servers_get_addresses_in_their_zone_until_it_is_full() {
        let mut network = network(&[("10.0.1.0/30", "us-east"), ("10.0.0.0/30", "eu-central")]);
        let first = network.free("eu-central").unwrap();
        assert_eq!(written(first), "10.0.0.2", "the first is the gateway");
        network.addresses.insert(first, 7);
        assert_eq!(network.free("eu-central"), None);
        assert_eq!(network.free("us-east").map(written).as_deref(), Some("10.0.1.1"));
        assert_eq!(network.free("us-west"), None);
        assert!(network.is_used(&network.parts[1]) && !network.is_used(&network.parts[0]));
    }

    #[test]
    fn an_address_that_was_given_back_is_given_again_when_the_others_are_gone() {
        let mut network = network(&[("10.0.1.0/29", "eu-central")]);
        for server in 0..6 {
            let address = network.free("eu-central").unwrap();
            network.addresses.insert(address, server);
        }
        assert_eq!(network.free("eu-central"), None);
        let gone = *network.addresses.keys().nth(2).unwrap();
        network.addresses.remove(&gone);
        assert_eq!(network.free("eu-central"), Some(gone));
    }
}
