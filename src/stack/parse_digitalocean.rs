//! Checks of what DigitalOcean says in words of its own: images, networks, firewalls.

use std::collections::BTreeMap;

use super::{
    Firewall, Network, OfferingChoice, Pool, ProviderConfig, ProviderKind, Spread,
    parse::{Check, dotted},
};
use crate::model::{ids::ProviderName, resource::ImageRef};

/// The protocols that its firewalls know. Source: the API's description of a firewall's rule.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "icmp"];
/// How long the prefix of a VPC's range is: no smaller than a /28, no larger than a /16. Source: the API's description of a VPC.
const PREFIXES: std::ops::RangeInclusive<u8> = 16..=28;
/// The most characters of a tag. Source: the API's description of a tag.
const TAG_MAX: usize = 255;
/// How an image is named.
const IMAGE: &str = "write a slug, \"debian-12-x64\", an image's id, or the newest with a tag: { selector = \"runner\", newest = true }";

impl Check<'_> {
    /// What belongs to providers of this kind.
    pub(super) fn digitalocean(
        &mut self,
        providers: &BTreeMap<ProviderName, ProviderConfig>,
        firewalls: &BTreeMap<String, Firewall>,
        networks: &BTreeMap<String, Network>,
        pools: &[Pool],
    ) {
        let is_its = |name: &ProviderName| {
            let config = providers.get(name);
            config.is_some_and(|config| config.kind == ProviderKind::Digitalocean)
        };
        for firewall in firewalls.values().filter(|wall| is_its(&wall.provider)) {
            self.digitalocean_firewall(firewall);
        }
        for network in networks.values().filter(|network| is_its(&network.provider)) {
            self.digitalocean_network(network);
        }
        for pool in pools {
            let offerings = pool.offerings.iter().enumerate();
            let mut its = offerings
                .filter(|(_, offering)| is_its(&offering.provider))
                .peekable();
            // Over locations anything is spread, and over hosts those machines of the pool that a cloud with groups has.
            let grouped = pool.offerings.iter().any(|offering| {
                let config = providers.get(&offering.provider);
                config.is_some_and(|config| config.kind == ProviderKind::Hetzner)
            });
            if its.peek().is_some() && pool.spread == Spread::Hosts && !grouped {
                self.only_for(
                    &["pools", pool.name.as_str()],
                    "digitalocean",
                    &["spread"],
                    "hetzner",
                );
            }
            for (index, offering) in its {
                let index = index.to_string();
                let path = ["pools", pool.name.as_str(), "offerings", index.as_str()];
                self.digitalocean_image(&path, &offering.image);
                let used = pool.networks.iter().filter_map(|name| networks.get(name));
                let used: Vec<_> = used.filter(|used| used.provider == offering.provider).collect();
                self.digitalocean_place(&path, pool, offering, &used);
            }
        }
    }

    fn digitalocean_firewall(&mut self, firewall: &Firewall) {
        for (index, rule) in firewall.rules.iter().enumerate() {
            if PROTOCOLS.contains(&rule.protocol.as_str()) {
                continue;
            }
            let index = index.to_string();
            let path = ["firewalls", firewall.name.as_str(), "rules", &index, "protocol"];
            self.bad(
                &path,
                format!("DigitalOcean's firewalls do not know {}", rule.protocol),
                "not known there",
                "write \"tcp\", \"udp\" or \"icmp\", or take the rule out",
            );
        }
    }

    fn digitalocean_network(&mut self, network: &Network) {
        let range = network.ip_range.as_str();
        let path = ["networks", network.name.as_str(), "ip_range"];
        let prefix = range.split_once('/').and_then(|(_, prefix)| prefix.parse().ok());
        if prefix.is_some_and(|prefix| !PREFIXES.contains(&prefix)) {
            let (least, most) = (PREFIXES.start(), PREFIXES.end());
            self.bad(
                &path,
                format!("\"{range}\" is no range for a VPC of DigitalOcean"),
                "too large or too small",
                format!("it has from /{least} to /{most}: \"10.20.0.0/20\""),
            );
        }
        let whole = matches!(network.subnets.as_slice(), [one] if one.ip_range == range);
        if !whole && !network.subnets.is_empty() {
            let path = ["networks", network.name.as_str(), "subnets"];
            self.bad(
                &path,
                format!("`{}` divides a VPC of DigitalOcean, which has one range", dotted(&path)),
                "not the whole range",
                format!("name its region with all of it: subnets = [{{ ip_range = \"{range}\", zone = \"fra1\" }}]"),
            );
        }
    }

    fn digitalocean_image(&mut self, offering: &[&str; 4], image: &ImageRef) {
        let path = [&offering[..], &["image"]].concat();
        match image {
            ImageRef::Name(name) => {
                let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
                if !name.chars().all(letter) {
                    let what = format!("\"{name}\" is no slug of an image");
                    self.bad(&path, what, "not a slug", IMAGE);
                }
            }
            ImageRef::NewestOf(tag) => {
                let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_');
                if !tag.chars().all(letter) || tag.len() > TAG_MAX {
                    let path = [&path[..], &["selector"]].concat();
                    let what = format!("\"{tag}\" is no tag of DigitalOcean");
                    let fitting: String = tag.chars().map(|c| if letter(c) { c } else { ':' }).collect();
                    self.bad(
                        &path,
                        what,
                        "not a tag",
                        format!("a tag has letters, digits, `:`, `-` and `_`: selector = \"{fitting}\""),
                    );
                }
            }
            ImageRef::Id(_)
            | ImageRef::Owned { .. }
            | ImageRef::Parameter(_)
            | ImageRef::LaunchTemplate
            | ImageRef::TaskTemplate => {}
        }
    }

    /// A droplet is in one VPC, and that is in one region.
    fn digitalocean_place(
        &mut self,
        offering: &[&str; 4],
        pool: &Pool,
        choice: &OfferingChoice,
        used: &[&Network],
    ) {
        let [network] = used else {
            if used.len() > 1 {
                let path = ["pools", pool.name.as_str(), "networks"];
                let what = format!(
                    "`{}` names {} networks of {}",
                    dotted(&path),
                    used.len(),
                    choice.provider
                );
                self.bad(&path, what, "a droplet is in one", "leave one of them");
            }
            return;
        };
        let Some(subnet) = network.subnets.first() else {
            return;
        };
        let zone = subnet.zone.as_str();
        if choice.locations.len() == 1 && choice.locations[0] == zone {
            return;
        }
        let (name, pool) = (&network.name, &pool.name);
        let locations = [&offering[..], &["locations"]].concat();
        let path = if choice.locations.is_empty() {
            &offering[..]
        } else {
            &locations
        };
        self.bad(
            path,
            format!("the network `{name}` of the pool `{pool}` is in {zone} alone"),
            "also elsewhere",
            format!("write locations = [\"{zone}\"], or take the network out of the pool"),
        );
    }
}
