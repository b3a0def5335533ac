//! What the API answers, as far as it is used, and what that means.
//!
//! Only the fields that are needed are decoded, and words that may grow (a status) are text: an unknown one must not fail a listing.
//! Shapes from DigitalOcean's OpenAPI document.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};

use crate::model::{
    ids::{CloudId, ProviderName, ResourceKind},
    offering::{Market, OfferingKey},
    resource::{CloudStatus, Labels, Observed, ResourceRef, Subnet},
};

use super::{rules, tags};

/// A row of a listing.
pub(super) trait Row: DeserializeOwned + Send {
    /// What tells it from the others.
    fn id(&self) -> String;
}

/// A row that stands for a resource that we may have made.
pub(super) trait Resource: Row {
    /// What it is.
    const KIND: ResourceKind;
    /// As the rest of the program sees it; what a droplet uses is not known from its row alone.
    fn observed(self, provider: &ProviderName) -> Observed;
}

/// The path of a kind's collection; none for kinds that DigitalOcean does not have.
pub(super) fn collection(kind: ResourceKind) -> Option<&'static str> {
    match kind {
        ResourceKind::Machine => Some("/droplets"),
        ResourceKind::SshKey => Some("/account/keys"),
        ResourceKind::Firewall => Some("/firewalls"),
        ResourceKind::Network => Some("/vpcs"),
        ResourceKind::PlacementGroup | ResourceKind::Group | ResourceKind::Batch => None,
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    #[serde(
        alias = "droplets",
        alias = "ssh_keys",
        alias = "firewalls",
        alias = "vpcs",
        alias = "sizes",
        alias = "regions",
        alias = "images",
        alias = "members",
        alias = "actions"
    )]
    pub(super) rows: Vec<T>,
    pub(super) meta: Meta,
}

#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    #[serde(default)]
    pub(super) total: Option<u64>,
}

/// One resource under its own key.
#[derive(Debug, Deserialize)]
pub(super) struct One<T> {
    #[serde(
        alias = "droplet",
        alias = "ssh_key",
        alias = "firewall",
        alias = "vpc",
        alias = "image",
        alias = "action",
        alias = "account"
    )]
    pub(super) row: T,
}

/// What a create of droplets answers: one under `droplet`, several under `droplets`.
#[derive(Debug, Deserialize)]
pub(super) struct Made {
    #[serde(default)]
    droplet: Option<Droplet>,
    #[serde(default)]
    droplets: Vec<Droplet>,
    #[serde(default)]
    links: Links,
}

#[derive(Debug, Default, Deserialize)]
struct Links {
    #[serde(default)]
    actions: Vec<LinkedAction>,
}

#[derive(Debug, Deserialize)]
struct LinkedAction {
    id: u64,
}

impl Made {
    /// The droplets, and the actions that make them, in no known order.
    pub(super) fn parts(self) -> (Vec<Droplet>, Vec<u64>) {
        let droplets = self.droplet.into_iter().chain(self.droplets).collect();
        let actions = self.links.actions.iter().map(|action| action.id).collect();
        (droplets, actions)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Slug {
    pub(super) slug: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Droplet {
    pub(super) id: u64,
    pub(super) name: String,
    status: String,
    created_at: Timestamp,
    size_slug: String,
    region: Slug,
    #[serde(default)]
    networks: Networks,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) vpc_uuid: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Networks {
    #[serde(default)]
    v4: Vec<Interface>,
    #[serde(default)]
    v6: Vec<Interface>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    #[serde(default)]
    ip_address: Option<String>,
    #[serde(default, rename = "type")]
    kind: String,
}

impl Networks {
    /// Public ones first, those of IPv4 before those of IPv6.
    fn addresses(&self) -> Vec<IpAddr> {
        let of = |public: bool| {
            let all = self.v4.iter().chain(&self.v6);
            all.filter(move |one| (one.kind == "public") == public)
                .filter_map(|one| one.ip_address.as_deref()?.parse().ok())
        };
        of(true).chain(of(false)).collect()
    }
}

impl Row for Droplet {
    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl Droplet {
    /// Whether it is still being made.
    pub(super) fn is_coming_up(&self) -> bool {
        self.status == "new"
    }

    /// The labels that its tags say.
    pub(super) fn labels(&self) -> Labels {
        tags::labels(self.tags.iter().map(String::as_str))
    }
}

impl Resource for Droplet {
    const KIND: ResourceKind = ResourceKind::Machine;

    fn observed(self, provider: &ProviderName) -> Observed {
        Observed {
            addresses: self.networks.addresses(),
            labels: self.labels(),
            offering: Some(OfferingKey {
                provider: provider.clone(),
                location: self.region.slug,
                machine_type: self.size_slug,
                market: Market::OnDemand,
            }),
            status: status(self.status),
            ..plain(
                provider,
                Self::KIND,
                &self.id.to_string(),
                self.name,
                self.created_at,
            )
        }
    }
}

fn status(word: String) -> CloudStatus {
    match word.as_str() {
        "active" => CloudStatus::Running,
        "new" => CloudStatus::Pending,
        "off" => CloudStatus::Off,
        "archive" => CloudStatus::Deleting,
        _ => CloudStatus::Unknown(word),
    }
}

pub(super) fn reference(provider: &ProviderName, kind: ResourceKind, id: &str) -> ResourceRef {
    ResourceRef {
        provider: provider.clone(),
        kind,
        id: CloudId::new(id),
    }
}

fn plain(
    provider: &ProviderName,
    kind: ResourceKind,
    id: &str,
    name: String,
    created_at: Timestamp,
) -> Observed {
    Observed {
        target: reference(provider, kind, id),
        name,
        labels: Labels::new(),
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

/// The label under which a key's age is kept beside its claim, in seconds since 1970: the API tells no key's age.
pub(super) const CREATED: &str = "runfleet-created";

#[derive(Debug, Deserialize)]
pub(super) struct SshKey {
    pub(super) id: u64,
    name: String,
    pub(super) public_key: String,
}

impl Row for SshKey {
    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl SshKey {
    /// Its name without what is kept behind it, and that: its labels, its age among them.
    pub(super) fn parts(&self) -> (&str, Labels) {
        match self.name.rsplit_once(' ') {
            Some((name, text)) => match tags::labels_of_text(text) {
                Some(labels) => (name, labels),
                None => (&self.name, Labels::new()),
            },
            None => (&self.name, Labels::new()),
        }
    }
}

impl Resource for SshKey {
    const KIND: ResourceKind = ResourceKind::SshKey;

    fn observed(self, provider: &ProviderName) -> Observed {
        let (name, mut labels) = self.parts();
        let created = labels
            .remove(CREATED)
            .and_then(|seconds| Timestamp::from_second(seconds.parse().ok()?).ok());
        let (name, id) = (name.to_owned(), self.id.to_string());
        Observed {
            labels,
            public_key: Some(self.public_key),
            ..plain(
                provider,
                Self::KIND,
                &id,
                name,
                created.unwrap_or(Timestamp::UNIX_EPOCH),
            )
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Firewall {
    pub(super) id: String,
    pub(super) name: String,
    created_at: Timestamp,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) droplet_ids: Option<Vec<u64>>,
    #[serde(default)]
    pub(super) inbound_rules: Option<Vec<rules::Rule>>,
    #[serde(default)]
    pub(super) outbound_rules: Option<Vec<rules::Rule>>,
}

impl Row for Firewall {
    fn id(&self) -> String {
        self.id.clone()
    }
}

impl Firewall {
    pub(super) fn tags(&self) -> &[String] {
        self.tags.as_deref().unwrap_or_default()
    }

    /// The tag by which it finds its droplets.
    pub(super) fn covering(&self) -> Option<&str> {
        let mut tags = self.tags().iter().map(String::as_str);
        tags.find(|tag| tags::is_covering(tag))
    }

    pub(super) fn labels(&self) -> Labels {
        let text = self.tags().iter().find_map(|tag| tags::labels_of_text(tag));
        text.unwrap_or_default()
    }

    /// Whether its rules hold for a droplet.
    pub(super) fn covers(&self, droplet: u64, carried: &[String]) -> bool {
        let assigned = self.droplet_ids.iter().flatten().any(|id| *id == droplet);
        assigned || self.tags().iter().any(|tag| carried.contains(tag))
    }
}

impl Resource for Firewall {
    const KIND: ResourceKind = ResourceKind::Firewall;

    fn observed(self, provider: &ProviderName) -> Observed {
        let rules = rules::seen(
            self.inbound_rules.as_deref().unwrap_or_default(),
            self.outbound_rules.as_deref().unwrap_or_default(),
        );
        Observed {
            labels: self.labels(),
            rules: Some(rules),
            ..plain(provider, Self::KIND, &self.id, self.name, self.created_at)
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Vpc {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    description: Option<String>,
    pub(super) region: String,
    pub(super) ip_range: String,
    created_at: Timestamp,
    /// Whether droplets of its region that name none come into it: then it cannot be deleted.
    #[serde(default)]
    pub(super) default: bool,
}

impl Row for Vpc {
    fn id(&self) -> String {
        self.id.clone()
    }
}

impl Vpc {
    pub(super) fn labels(&self) -> Labels {
        let text = self.description.as_deref().and_then(tags::labels_of_text);
        text.unwrap_or_default()
    }
}

impl Resource for Vpc {
    const KIND: ResourceKind = ResourceKind::Network;

    fn observed(self, provider: &ProviderName) -> Observed {
        let labels = self.labels();
        let subnet = Subnet {
            ip_range: self.ip_range.clone(),
            zone: self.region,
        };
        Observed {
            labels,
            network: Some((self.ip_range, vec![subnet])),
            ..plain(provider, Self::KIND, &self.id, self.name, self.created_at)
        }
    }
}

/// A member of a VPC.
#[derive(Debug, Deserialize)]
pub(super) struct Member {
    #[serde(default)]
    urn: String,
}

impl Row for Member {
    fn id(&self) -> String {
        self.urn.clone()
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Action {
    pub(super) id: u64,
    pub(super) status: String,
    #[serde(default)]
    pub(super) resource_id: Option<u64>,
}

impl Row for Action {
    fn id(&self) -> String {
        self.id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROPLET: &str = r#"{"id":3164494,"name":"n","status":"levitating","created_at":"2026-07-21T18:37:44Z",
        "size_slug":"s-1vcpu-1gb","region":{"name":"Frankfurt 1","slug":"fra1","available":true},
        "tags":["runfleet-stack:prod","web"],"vpc_uuid":"760e09ef-dc84-11e8-981e-3cfdfeaae000",
        "networks":{"v4":[{"ip_address":"10.0.0.2","netmask":"255.255.0.0","type":"private"},
                          {"ip_address":"203.0.113.7","netmask":"255.255.240.0","gateway":"203.0.113.1","type":"public"}],
                    "v6":[{"ip_address":"2001:db8::1","netmask":64,"type":"public"}]}}"#;

    #[test]
    fn a_word_that_this_version_does_not_know_does_not_fail_a_row() {
        let seen = serde_json::from_str::<Droplet>(DROPLET)
            .unwrap()
            .observed(&"do".into());
        assert_eq!(seen.status, CloudStatus::Unknown("levitating".into()));
        assert_eq!(seen.offering.unwrap().to_string(), "do/fra1 s-1vcpu-1gb");
        let addresses: Vec<_> = seen.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["203.0.113.7", "2001:db8::1", "10.0.0.2"]);
        assert_eq!(seen.labels["runfleet-stack"], "prod");
        assert_eq!(seen.uses, None);
    }

    #[test]
    fn what_a_create_answers_is_one_droplet_or_several() {
        let one = format!(
            r#"{{"droplet":{DROPLET},"links":{{"actions":[{{"id":7,"rel":"create","href":"h"}}]}}}}"#
        );
        let (droplets, actions) = serde_json::from_str::<Made>(&one).unwrap().parts();
        assert_eq!((droplets.len(), actions), (1, vec![7]));
        let many =
            format!(r#"{{"droplets":[{DROPLET},{DROPLET}],"links":{{"actions":[{{"id":7}},{{"id":8}}]}}}}"#);
        let (droplets, actions) = serde_json::from_str::<Made>(&many).unwrap().parts();
        assert_eq!((droplets.len(), actions), (2, vec![7, 8]));
    }

    #[test]
    fn a_key_tells_its_labels_and_its_age_behind_its_name() {
        let key = |name: &str| SshKey {
            id: 1,
            name: name.to_owned(),
            public_key: "ssh-ed25519 A".to_owned(),
        };
        let ours = key("prod-default runfleet:stack:prod:created:1800000000").observed(&"do".into());
        assert_eq!(ours.name, "prod-default");
        assert_eq!(ours.created_at.as_second(), 1_800_000_000);
        assert_eq!(
            ours.labels,
            Labels::from([("runfleet-stack".to_owned(), "prod".to_owned())])
        );
        let theirs = key("Ada's laptop").observed(&"do".into());
        assert_eq!((theirs.name.as_str(), theirs.labels.len()), ("Ada's laptop", 0));
    }

    #[test]
    fn a_firewall_covers_what_it_is_assigned_to_and_what_carries_one_of_its_tags() {
        let json = r#"{"id":"bb4b2611","name":"prod-default","status":"succeeded","created_at":"2026-05-23T21:24:00Z",
            "tags":["runfleet-firewall:prod-default:i","runfleet:stack:prod:id:default"],"droplet_ids":[9],
            "inbound_rules":[],"outbound_rules":[]}"#;
        let wall: Firewall = serde_json::from_str(json).unwrap();
        let tag = "runfleet-firewall:prod-default:i".to_owned();
        assert!(wall.covers(1, std::slice::from_ref(&tag)) && wall.covers(9, &[]));
        assert!(!wall.covers(1, &["runfleet-stack:prod".to_owned()]));
        assert_eq!(wall.covering(), Some(tag.as_str()));
        assert_eq!(wall.labels()["runfleet-id"], "default");
    }
}
