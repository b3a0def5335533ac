//! Checks of networks, guards, shares and of what was moved.

use std::collections::BTreeMap;

use super::{
    Guard, Moved, Network, Share, StackPath,
    parse::{Check, Declared, dotted},
    raw::{RawGuard, RawMoved, RawNetwork, RawShare},
};
use crate::model::{ids::ResourceKind, resource::Subnet};

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

    /// What had other names.
    pub(super) fn moved(&mut self, raw: Vec<RawMoved>) -> Vec<Moved> {
        let mut moved: Vec<Moved> = Vec::new();
        for (at, raw) in raw.into_iter().enumerate() {
            let at = at.to_string();
            let from = raw
                .from
                .and_then(|text| self.stack_path(&["moved", &at, "from"], &text));
            let to = raw
                .to
                .and_then(|text| self.stack_path(&["moved", &at, "to"], &text));
            if let (Some(from), Some(to)) = (from, to) {
                moved.push(Moved { from, to });
            }
        }
        moved
    }

    fn stack_path(&mut self, path: &[&str], text: &str) -> Option<StackPath> {
        let parsed = text.split_once('.').and_then(|(table, name)| {
            let shared = |kind| StackPath::Shared(kind, name.to_owned());
            match table {
                _ if name.is_empty() || name.contains('.') => None,
                "pools" => Some(StackPath::Pool(name.into())),
                "ssh_keys" => Some(shared(ResourceKind::SshKey)),
                "networks" => Some(shared(ResourceKind::Network)),
                "firewalls" => Some(shared(ResourceKind::Firewall)),
                _ => None,
            }
        });
        if parsed.is_none() {
            let what = format!("\"{text}\" is no table of a stack file that can be moved");
            self.bad(
                path,
                what,
                "not a table",
                "write \"pools.linux\", \"firewalls.default\", \"networks.lan\" or \"ssh_keys.ops\"",
            );
        }
        parsed
    }
}
