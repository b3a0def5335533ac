//! One resource, as it is or will be, in JSON.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::decimal;
use crate::model::{
    money::Price,
    resource::{BatchSpec, FirewallRule, ResourceSpec, Subnet},
    state::Record,
};

/// A resource as it is or will be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ResourceView {
    /// The provider's key in the stack file.
    pub provider: String,
    /// The cloud's id of it; null before it exists.
    pub id: Option<String>,
    /// Its name in the cloud.
    pub name: String,
    /// The machine type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub machine_type: Option<String>,
    /// The location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What it boots from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether it has a public IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_ipv4: Option<bool>,
    /// Names of the keys that may log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_keys: Option<Vec<String>>,
    /// Names of the firewalls that apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewalls: Option<Vec<String>>,
    /// Names of the networks that it is attached to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// The name of the placement group that it is kept apart in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement_group: Option<String>,
    /// A network's addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    /// A network's subnets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnets: Option<Vec<Subnet>>,
    /// A firewall's rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<FirewallRule>>,
    /// A key's public part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// A group's size, or a batch's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// What an hour costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_hourly: Option<String>,
    /// The price's currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<Timestamp>,
    /// What it is made from, as a digest; null where only apply knows.
    pub hash: Option<String>,
}

pub(super) fn of_record(record: &Record) -> ResourceView {
    let mut view = of_spec(&record.spec, record.provider.as_str());
    priced(&mut view, record.price.as_ref());
    view.id = Some(record.id.to_string());
    view.name.clone_from(&record.name);
    view.created_at = Some(record.created_at);
    view.hash = Some(record.hash.to_string());
    view
}

pub(super) fn priced(view: &mut ResourceView, price: Option<&Price>) {
    view.price_hourly = price.map(|price| decimal(price.hourly.amount));
    view.currency = price.map(|price| price.hourly.currency.to_string());
}

pub(super) fn of_spec(spec: &ResourceSpec, provider: &str) -> ResourceView {
    let mut view = ResourceView {
        provider: provider.to_owned(),
        name: spec.name().to_owned(),
        ..ResourceView::default()
    };
    if let ResourceSpec::Batch(batch) = spec {
        view.size = Some(batch.count);
    }
    match spec {
        ResourceSpec::Machine(machine) | ResourceSpec::Batch(BatchSpec { each: machine, .. }) => {
            view.machine_type = Some(machine.offering.machine_type.clone());
            view.location = Some(machine.offering.location.clone());
            view.image = Some(machine.image.to_string());
            view.public_ipv4 = Some(machine.public_ipv4);
            view.ssh_keys = Some(machine.ssh_keys.clone());
            view.firewalls = Some(machine.firewalls.clone());
            view.networks = (!machine.networks.is_empty()).then(|| machine.networks.clone());
            view.placement_group.clone_from(&machine.placement_group);
        }
        ResourceSpec::SshKey(key) => view.public_key = Some(key.public_key.clone()),
        ResourceSpec::Firewall(firewall) => view.rules = Some(firewall.rules.clone()),
        ResourceSpec::Network(network) => {
            view.ip_range = Some(network.ip_range.clone());
            view.subnets = Some(network.subnets.clone());
        }
        ResourceSpec::PlacementGroup(_) => {}
        ResourceSpec::Group(group) => view.size = Some(group.size),
    }
    view
}
