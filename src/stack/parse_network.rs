//! Checks of networks, guards and shares.

use std::collections::BTreeMap;

use super::{
    Guard, Network, Share,
    parse::{Check, Declared, dotted},
    raw::{RawGuard, RawNetwork, RawShare},
};
use crate::model::resource::Subnet;

impl Check<'_> {
    /// Private networks.
    pub(super) fn networks(&mut self, raw: BTreeMap<String, RawNetwork>) -> BTreeMap<String, Network> {
        let mut networks = BTreeMap::new();
        for (name, raw) in raw {
            let path = ["networks", name.as_str()];
            self.name(self.key_span(&path), &name, "a network");
            if let Some(provider) = &raw.provider {
                self.reference(&["networks", &name, "provider"], provider, Declared::Providers);
            }
            if let Some(range) = &raw.ip_range {
                self.network(&["networks", &name, "ip_range"], range);
            }
            let mut subnets = Vec::new();
            for (at, subnet) in raw.subnets.into_iter().flatten().enumerate() {
                let at = at.to_string();
                let path = ["networks", name.as_str(), "subnets", at.as_str(), "ip_range"];
                if let Some(range) = &subnet.ip_range {
                    self.network(&path, range);
                }
                if let (Some(ip_range), Some(zone)) = (subnet.ip_range, subnet.zone) {
                    subnets.push(Subnet { ip_range, zone });
                }
            }
            let (Some(provider), Some(ip_range)) = (raw.provider, raw.ip_range) else {
                continue;
            };
            networks.insert(
                name.clone(),
                Network {
                    name,
                    provider: provider.into(),
                    ip_range,
                    subnets,
                },
            );
        }
        networks
    }

    /// What refuses a plan.
    pub(super) fn guard(&mut self, raw: &RawGuard) -> Guard {
        let max_delete = raw.max_delete.as_ref();
        Guard {
            max_delete: max_delete.and_then(|share| self.share(&["guard", "max_delete"], share)),
        }
    }

    /// A number, or a share of a hundred.
    pub(super) fn share(&mut self, path: &[&str], raw: &RawShare) -> Option<Share> {
        match raw {
            RawShare::Number(number) => Some(Share::Number(*number)),
            RawShare::Percent(text) => {
                let percent = text
                    .trim()
                    .strip_suffix('%')
                    .and_then(|number| number.trim().parse().ok());
                let share = percent.filter(|percent| *percent <= 100).map(Share::Percent);
                if share.is_none() {
                    let what = format!("`{}` cannot be \"{text}\"", dotted(path));
                    self.bad(
                        path,
                        what,
                        "no share",
                        "write a number (5) or a share of a hundred (\"25%\")",
                    );
                }
                share
            }
        }
    }
}
