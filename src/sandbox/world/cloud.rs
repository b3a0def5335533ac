//! The Hetzner project of the world: servers, keys, firewalls, networks, groups, actions, and the indices that keep them fast.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{
    scenario::{Scenario, UnavailableSpec},
    selector::{Labels, Selector, Term},
};
use super::{
    add,
    catalog::{self, Image},
    host::{Host, Power},
    network::{Network, PlacementGroup},
    sub,
};

/// Deleted servers are remembered this long, for lists that lag behind.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);
/// Ended actions are kept this long.
const ACTIONS_KEPT: SignedDuration = SignedDuration::from_hours(48);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) id: u64,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) location: String,
    pub(crate) image: Option<u64>,
    pub(crate) created: Timestamp,
    /// `initializing` until then.
    pub(crate) initialized: Timestamp,
    pub(crate) labels: Labels,
    pub(crate) ipv4: Option<Address>,
    pub(crate) ipv6: Option<Address>,
    pub(crate) firewalls: BTreeSet<u64>,
    /// Those that it is attached to, from when it is initialized, each with its address.
    #[serde(default)]
    pub(crate) networks: BTreeMap<u64, u32>,
    #[serde(default)]
    pub(crate) placement_group: Option<u64>,
    pub(crate) protected: bool,
    #[serde(flatten)]
    pub(crate) host: Host,
}

/// A primary address.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) id: u64,
    pub(crate) ip: String,
}

impl Server {
    pub(crate) fn status(&self, now: Timestamp) -> &'static str {
        match self.host.power {
            _ if now < self.initialized => "initializing",
            Power::Off => "off",
            Power::On { running } if now < running => "starting",
            Power::On { .. } | Power::ShuttingDown => "running",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SshKey {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) public_key: String,
    pub(crate) labels: Labels,
    pub(crate) created: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Firewall {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) created: Timestamp,
    pub(crate) rules: Vec<Value>,
    pub(crate) servers: BTreeSet<u64>,
    pub(crate) selectors: BTreeSet<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Action {
    pub(crate) id: u64,
    pub(crate) command: String,
    pub(crate) started: Timestamp,
    pub(crate) ends: Timestamp,
    pub(crate) resources: Vec<(String, u64)>,
    /// Code and message, where it ends in error.
    pub(crate) error: Option<(String, String)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cloud {
    pub(crate) servers: BTreeMap<u64, Server>,
    pub(crate) ssh_keys: BTreeMap<u64, SshKey>,
    pub(crate) firewalls: BTreeMap<u64, Firewall>,
    #[serde(default)]
    pub(crate) networks: BTreeMap<u64, Network>,
    #[serde(default)]
    pub(crate) placement_groups: BTreeMap<u64, PlacementGroup>,
    pub(crate) actions: BTreeMap<u64, Action>,
    pub(crate) images: BTreeMap<u64, Image>,
    pub(crate) unavailable: Vec<UnavailableSpec>,
    pub(crate) graves: VecDeque<(Timestamp, Server)>,
    /// Tokens left in the rate limit's bucket, and when that was so.
    pub(crate) bucket: Option<(f64, Timestamp)>,
    next: u64,
    addresses: u64,
    #[serde(skip)]
    by_name: HashMap<String, u64>,
    #[serde(skip)]
    by_label: HashMap<String, BTreeMap<String, BTreeSet<u64>>>,
    /// Rises with every change of a server that a list could show.
    #[serde(skip)]
    pub(crate) revision: u64,
    /// The ids of the last list asked for, so that its next page costs no search.
    #[serde(skip)]
    pub(crate) last_list: Option<(String, u64, std::sync::Arc<Vec<u64>>)>,
}

impl Cloud {
    pub(crate) fn new(scenario: &Scenario, now: Timestamp) -> Self {
        let mut cloud = Self {
            next: 1000,
            unavailable: scenario.unavailable.clone(),
            ..Self::default()
        };
        for image in catalog::system_images() {
            cloud.images.insert(image.id, image);
        }
        for spec in &scenario.images {
            let id = 350_000_000 + cloud.fresh();
            let image = Image {
                id,
                name: None,
                description: spec.description.clone(),
                architecture: spec.architecture.clone(),
                os_flavor: "debian".to_owned(),
                os_version: Some("12".to_owned()),
                created: sub(now, spec.age),
                labels: spec.labels.clone(),
            };
            cloud.images.insert(id, image);
        }
        cloud
    }

    pub(crate) fn reindex(&mut self) {
        self.by_name.clear();
        self.by_label.clear();
        let servers = std::mem::take(&mut self.servers);
        for server in servers.into_values() {
            self.insert(server);
        }
    }

    /// An id that no resource of any kind has had.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A new address pair's number; addresses are of 198.18.0.0/15 and 2001:db8::/32, which nobody routes.
    pub(crate) fn address(&mut self, four: bool) -> Address {
        self.addresses += 1;
        let n = self.addresses;
        let ip = if four {
            format!("198.{}.{}.{}", 18 + (n >> 16) % 2, (n >> 8) % 256, n % 256)
        } else {
            format!("2001:db8:{:x}:{:x}::/64", n >> 16, n & 0xffff)
        };
        Address { id: self.fresh(), ip }
    }

    pub(crate) fn insert(&mut self, server: Server) {
        self.revision += 1;
        self.by_name.insert(server.name.clone(), server.id);
        for (key, value) in &server.labels {
            self.by_label
                .entry(key.clone())
                .or_default()
                .entry(value.clone())
                .or_default()
                .insert(server.id);
        }
        self.servers.insert(server.id, server);
    }

    /// Takes a server out of the world and its indices; its grave stays for a while.
    pub(crate) fn remove(&mut self, id: u64, now: Timestamp) -> Option<Server> {
        let server = self.unlink(id)?;
        for firewall in &server.firewalls {
            if let Some(firewall) = self.firewalls.get_mut(firewall) {
                firewall.servers.remove(&id);
            }
        }
        for (network, address) in &server.networks {
            if let Some(network) = self.networks.get_mut(network) {
                network.addresses.remove(address);
            }
        }
        let group = server.placement_group;
        if let Some(group) = group.and_then(|group| self.placement_groups.get_mut(&group)) {
            group.servers.remove(&id);
        }
        while self
            .graves
            .front()
            .is_some_and(|(died, _)| add(*died, REMEMBERED) < now)
        {
            self.graves.pop_front();
        }
        self.graves.push_back((now, server.clone()));
        Some(server)
    }

    /// Changes a server's name and labels with the indices kept.
    pub(crate) fn relabel(&mut self, id: u64, name: Option<String>, labels: Option<Labels>) {
        if let Some(mut server) = self.unlink(id) {
            server.name = name.unwrap_or(server.name);
            server.labels = labels.unwrap_or(server.labels);
            self.insert(server);
        }
    }

    fn unlink(&mut self, id: u64) -> Option<Server> {
        let server = self.servers.remove(&id)?;
        self.revision += 1;
        self.by_name.remove(&server.name);
        for (key, value) in &server.labels {
            if let Some(values) = self.by_label.get_mut(key) {
                if let Some(ids) = values.get_mut(value) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        values.remove(value);
                    }
                }
                if values.is_empty() {
                    self.by_label.remove(key);
                }
            }
        }
        Some(server)
    }

    pub(crate) fn named(&self, name: &str) -> Option<u64> {
        self.by_name.get(name).copied()
    }

    /// The ids of the servers that a selector picks, ascending; by the index where a term allows it.
    pub(crate) fn select(&self, selector: &Selector) -> Vec<u64> {
        let narrowest = selector
            .terms
            .iter()
            .filter_map(|term| match term {
                Term::In(key, values) => Some(self.ids_of(key, values)),
                Term::Present(_) | Term::Absent(_) | Term::NotIn(..) => None,
            })
            .min_by_key(|sets| sets.iter().map(|set| set.len()).sum::<usize>());
        match narrowest {
            Some(sets) => {
                let mut ids: Vec<u64> = sets
                    .into_iter()
                    .flatten()
                    .copied()
                    .filter(|id| {
                        selector.terms.len() == 1
                            || self
                                .servers
                                .get(id)
                                .is_some_and(|server| selector.matches(&server.labels))
                    })
                    .collect();
                ids.sort_unstable();
                ids.dedup();
                ids
            }
            None => self
                .servers
                .values()
                .filter(|server| selector.matches(&server.labels))
                .map(|server| server.id)
                .collect(),
        }
    }

    fn ids_of(&self, key: &str, values: &[String]) -> Vec<&BTreeSet<u64>> {
        let known = self.by_label.get(key);
        values
            .iter()
            .filter_map(|value| known.and_then(|known| known.get(value)))
            .collect()
    }

    /// Records an action that runs until `ends`.
    pub(crate) fn act(
        &mut self,
        command: &str,
        started: Timestamp,
        ends: Timestamp,
        resources: &[(&str, u64)],
    ) -> Action {
        while let Some(oldest) = self.actions.first_entry() {
            if add(oldest.get().ends, ACTIONS_KEPT) >= started {
                break;
            }
            oldest.remove();
        }
        let action = Action {
            id: self.fresh(),
            command: command.to_owned(),
            started,
            ends,
            resources: resources
                .iter()
                .map(|(kind, id)| ((*kind).to_owned(), *id))
                .collect(),
            error: None,
        };
        self.actions.insert(action.id, action.clone());
        action
    }

    /// Whether a type is to be had in a location.
    pub(crate) fn available(&self, server_type: &str, location: &str) -> bool {
        !self.unavailable.iter().any(|gap| {
            gap.server_type == server_type && gap.location.as_deref().is_none_or(|place| place == location)
        })
    }

    /// Servers to which a firewall applies by a selector.
    pub(crate) fn selected_by(&self, firewall: &Firewall) -> BTreeMap<String, Vec<u64>> {
        firewall
            .selectors
            .iter()
            .map(|text| {
                let ids = Selector::parse(text)
                    .map(|selector| self.select(&selector))
                    .unwrap_or_default();
                (text.clone(), ids)
            })
            .collect()
    }
}
