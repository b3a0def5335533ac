//! What the API answers, as far as it is used, and what that means.
//!
//! Only the fields that are needed are decoded, and words that may grow (a status, a CPU's kind) are text: an unknown one must not
//! fail a listing. Shapes from Hetzner's OpenAPI document.

use std::net::{IpAddr, Ipv6Addr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use crate::model::{
    ids::{CloudId, ProviderName, ResourceKind},
    offering::{Market, OfferingKey},
    resource::{CloudStatus, Direction, FirewallRule, Labels, Observed, ResourceRef},
};

/// A row of a listing.
pub(super) trait Row: DeserializeOwned + Send {
    fn id(&self) -> u64;
}

/// Its number alone.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Numbered {
    id: u64,
}

/// A row that stands for a resource that we may have made.
pub(super) trait Resource: Row {
    /// What it is.
    const KIND: ResourceKind;
    /// Its name in the cloud.
    fn name(&self) -> &str;
    /// As the rest of the program sees it.
    fn observed(self, provider: &ProviderName) -> Observed;
}

/// The path of a kind's collection; none for kinds that Hetzner does not have.
pub(super) fn collection(kind: ResourceKind) -> Option<&'static str> {
    match kind {
        ResourceKind::Machine => Some("/servers"),
        ResourceKind::SshKey => Some("/ssh_keys"),
        ResourceKind::Firewall => Some("/firewalls"),
        ResourceKind::Network => Some("/networks"),
        ResourceKind::PlacementGroup => Some("/placement_groups"),
        ResourceKind::Group | ResourceKind::Batch => None,
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    #[serde(
        alias = "servers",
        alias = "ssh_keys",
        alias = "firewalls",
        alias = "networks",
        alias = "placement_groups",
        alias = "server_types",
        alias = "images"
    )]
    pub(super) rows: Vec<T>,
    pub(super) meta: Meta,
}

#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    pub(super) pagination: Pagination,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Pagination {
    pub(super) page: u64,
    pub(super) next_page: Option<u64>,
    pub(super) last_page: Option<u64>,
    pub(super) total_entries: Option<u64>,
}

/// One resource under its own key.
#[derive(Debug, Deserialize)]
pub(super) struct One<T> {
    #[serde(
        alias = "server",
        alias = "ssh_key",
        alias = "firewall",
        alias = "network",
        alias = "placement_group"
    )]
    pub(super) row: T,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the API's names")]
pub(super) struct Server {
    id: u64,
    name: String,
    pub(super) status: String,
    created: Timestamp,
    #[serde(default)]
    labels: Option<Labels>,
    server_type: Named,
    location: Named,
    #[serde(default)]
    public_net: Option<PublicNet>,
    #[serde(default)]
    private_net: Option<Vec<PrivateNet>>,
    /// None: the API does not say; empty: it is in no group.
    #[serde(default, deserialize_with = "told")]
    placement_group: Option<Vec<Numbered>>,
}

#[derive(Debug, Deserialize)]
struct PublicNet {
    #[serde(default)]
    ipv4: Option<PublicIp>,
    #[serde(default)]
    ipv6: Option<PublicIp>,
    #[serde(default)]
    firewalls: Option<Vec<Numbered>>,
}

#[derive(Debug, Deserialize)]
struct PrivateNet {
    network: u64,
    #[serde(default)]
    ip: Option<String>,
}

/// Tells a null from a field that is not there.
fn told<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    Option::<T>::deserialize(from).map(|one| Some(one.into_iter().collect()))
}

#[derive(Debug, Deserialize)]
struct PublicIp {
    ip: String,
}

impl Row for Server {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Server {
    /// Whether the actions that follow its creation are still under way.
    pub(super) fn is_coming_up(&self) -> bool {
        matches!(self.status.as_str(), "initializing" | "starting")
    }

    /// The shared resources that it uses, sorted; none unless the answer tells of every kind.
    fn uses(&self, provider: &ProviderName) -> Option<Vec<ResourceRef>> {
        let firewalls = self.public_net.as_ref()?.firewalls.as_ref()?;
        let networks = self.private_net.as_ref()?;
        let group = self.placement_group.as_ref()?;
        let firewalls = firewalls.iter().map(|it| (ResourceKind::Firewall, it.id));
        let networks = networks.iter().map(|it| (ResourceKind::Network, it.network));
        let group = group.iter().map(|it| (ResourceKind::PlacementGroup, it.id));
        let mut uses: Vec<_> = firewalls
            .chain(networks)
            .chain(group)
            .map(|(kind, id)| reference(provider, kind, id))
            .collect();
        uses.sort();
        uses.dedup();
        Some(uses)
    }
}

impl Resource for Server {
    const KIND: ResourceKind = ResourceKind::Machine;

    fn name(&self) -> &str {
        &self.name
    }

    fn observed(self, provider: &ProviderName) -> Observed {
        let uses = self.uses(provider);
        let public = self.public_net.into_iter().flat_map(|net| {
            let v4 = net.ipv4.and_then(|ip| ip.ip.parse().ok());
            v4.into_iter()
                .chain(net.ipv6.and_then(|ip| first_of_network(&ip.ip)))
        });
        let private = self.private_net.into_iter().flatten();
        let private = private.filter_map(|net| net.ip?.parse::<IpAddr>().ok());
        Observed {
            uses,
            addresses: public.chain(private).collect(),
            offering: Some(OfferingKey {
                provider: provider.clone(),
                location: self.location.name,
                machine_type: self.server_type.name,
                market: Market::OnDemand,
            }),
            status: status(self.status),
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

/// A server is given a /64 and configures its first address: `2001:db8::/64` answers at `2001:db8::1`.
fn first_of_network(network: &str) -> Option<IpAddr> {
    let base: Ipv6Addr = network.split('/').next()?.parse().ok()?;
    Some(IpAddr::from(Ipv6Addr::from(u128::from(base) | 1)))
}

fn status(word: String) -> CloudStatus {
    match word.as_str() {
        "running" | "migrating" => CloudStatus::Running,
        "initializing" | "starting" | "rebuilding" => CloudStatus::Pending,
        "off" => CloudStatus::Off,
        "deleting" => CloudStatus::Deleting,
        // `stopping` among them: it may still run a job's last steps.
        _ => CloudStatus::Unknown(word),
    }
}

fn reference(provider: &ProviderName, kind: ResourceKind, id: u64) -> ResourceRef {
    ResourceRef {
        provider: provider.clone(),
        kind,
        id: CloudId::new(id.to_string()),
    }
}

pub(super) fn plain(
    provider: &ProviderName,
    kind: ResourceKind,
    id: u64,
    name: String,
    labels: Option<Labels>,
    created_at: Timestamp,
) -> Observed {
    Observed {
        target: reference(provider, kind, id),
        name,
        labels: labels.unwrap_or_default(),
        status: CloudStatus::Running,
        created_at,
        offering: None,
        addresses: Vec::new(),
        rules: None,
        network: None,
        uses: None,
        public_key: None,
        size: None,
        members: Vec::new(),
        group: None,
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct SshKey {
    id: u64,
    name: String,
    pub(super) public_key: String,
    created: Timestamp,
    #[serde(default)]
    labels: Option<Labels>,
}

impl Row for SshKey {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Resource for SshKey {
    const KIND: ResourceKind = ResourceKind::SshKey;

    fn name(&self) -> &str {
        &self.name
    }

    fn observed(self, provider: &ProviderName) -> Observed {
        Observed {
            public_key: Some(self.public_key),
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

#[derive(Debug, Deserialize)]
pub(super) struct Firewall {
    id: u64,
    name: String,
    created: Timestamp,
    #[serde(default)]
    labels: Option<Labels>,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    direction: Direction,
    protocol: String,
    #[serde(default)]
    port: Option<String>,
    #[serde(default)]
    source_ips: Vec<String>,
    #[serde(default)]
    destination_ips: Vec<String>,
}

impl Row for Firewall {
    fn id(&self) -> u64 {
        self.id
    }
}

impl Resource for Firewall {
    const KIND: ResourceKind = ResourceKind::Firewall;

    fn name(&self) -> &str {
        &self.name
    }

    fn observed(self, provider: &ProviderName) -> Observed {
        let mut rules: Vec<_> = self.rules.into_iter().map(FirewallRule::from).collect();
        rules.sort();
        Observed {
            rules: Some(rules),
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

impl From<Rule> for FirewallRule {
    fn from(rule: Rule) -> Self {
        let mut networks = match rule.direction {
            Direction::In => rule.source_ips,
            Direction::Out => rule.destination_ips,
        };
        networks.sort();
        Self {
            direction: rule.direction,
            protocol: rule.protocol,
            port: rule.port,
            networks,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Action {
    pub(super) id: u64,
    pub(super) status: String,
    #[serde(default)]
    pub(super) error: Option<ActionError>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ActionError {
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

/// An answer that may carry actions.
#[derive(Debug, Default, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the API's names")]
pub(super) struct Actions {
    #[serde(default)]
    action: Option<Action>,
    #[serde(default)]
    actions: Option<Vec<Action>>,
    #[serde(default)]
    next_actions: Option<Vec<Action>>,
}

impl Actions {
    pub(super) fn all(self) -> Vec<Action> {
        let lists = [self.actions, self.next_actions].into_iter().flatten().flatten();
        self.action.into_iter().chain(lists).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_this_version_does_not_know_does_not_fail_a_row() {
        let json = r#"{"id":1,"name":"n","status":"levitating","created":"2026-01-30T23:55:00+00:00","labels":{"a":"b"},
            "server_type":{"name":"cx33","cpu_type":"quantum"},"location":{"name":"fsn1"},"datacenter":null,
            "public_net":{"ipv4":{"ip":"1.2.3.4"},"ipv6":{"ip":"2001:db8:1::/64"},"floating_ips":[]}}"#;
        let seen = serde_json::from_str::<Server>(json)
            .unwrap()
            .observed(&"hetzner".into());
        assert_eq!(seen.status, CloudStatus::Unknown("levitating".into()));
        assert_eq!(seen.offering.unwrap().to_string(), "hetzner/fsn1 cx33");
        assert_eq!(seen.addresses[0].to_string(), "1.2.3.4");
        assert_eq!(seen.addresses[1].to_string(), "2001:db8:1::1");
    }

    #[test]
    fn a_server_without_an_ipv4_address_has_its_ipv6_one() {
        let json = r#"{"id":1,"name":"n","status":"off","created":"2026-01-30T23:55:00Z","labels":null,
            "server_type":{"name":"cx33"},"location":{"name":"fsn1"},
            "public_net":{"ipv4":null,"ipv6":{"ip":"2001:db8::/64"}}}"#;
        let seen = serde_json::from_str::<Server>(json)
            .unwrap()
            .observed(&"hetzner".into());
        assert_eq!(seen.addresses.len(), 1);
        assert_eq!(seen.status, CloudStatus::Off);
    }

    #[test]
    fn what_a_server_uses_is_told_whole_or_not_at_all() {
        let json = r#"{"id":1,"name":"n","status":"running","created":"2026-01-30T23:55:00Z","labels":{},
            "server_type":{"name":"cx33"},"location":{"name":"fsn1"},"placement_group":{"id":9,"name":"g"},
            "private_net":[{"network":7,"ip":"10.0.0.2","alias_ips":[]}],
            "public_net":{"ipv4":{"ip":"1.2.3.4"},"ipv6":null,"firewalls":[{"id":5,"status":"applied"}]}}"#;
        let seen = |json: &str| {
            let server: Server = serde_json::from_str(json).unwrap();
            server.observed(&"hetzner".into())
        };
        let whole = seen(json);
        let told: Vec<_> = whole.uses.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "hetzner network 7",
                "hetzner firewall 5",
                "hetzner placement_group 9"
            ]
        );
        let addresses: Vec<_> = whole.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["1.2.3.4", "10.0.0.2"]);
        let without = seen(&json.replace(r#"{"id":9,"name":"g"}"#, "null"));
        assert_eq!(without.uses.unwrap().len(), 2);
        for field in ["placement_group", "private_net", "firewalls"] {
            assert_eq!(seen(&json.replace(field, "something_else")).uses, None, "{field}");
        }
    }

    #[test]
    fn rules_are_sorted_so_that_they_compare_as_a_set() {
        let json = r#"{"id":1,"name":"n","created":"2026-01-30T23:55:00Z","labels":{},"rules":[
            {"direction":"in","protocol":"tcp","port":"443","source_ips":["::/0","0.0.0.0/0"],"destination_ips":[]},
            {"direction":"in","protocol":"icmp","port":null,"source_ips":["0.0.0.0/0"],"destination_ips":[],"description":null}]}"#;
        let seen = serde_json::from_str::<Firewall>(json)
            .unwrap()
            .observed(&"hetzner".into());
        let rules = seen.rules.unwrap();
        assert_eq!(rules[0].protocol, "icmp");
        assert_eq!(rules[1].networks, ["0.0.0.0/0", "::/0"]);
    }
}
