//! Checks of firewalls' rules.

use std::net::IpAddr;

use super::{
    StackProblem,
    parse::{Check, dotted},
    raw::{Protocol, RawRule},
};
use crate::model::resource::FirewallRule;

/// What Hetzner takes (API reference, "Create a Firewall"), and enough for anybody.
const RULES_MAX: usize = 50;

impl Check<'_> {
    /// The rules of a firewall.
    pub(super) fn rules(&mut self, firewall: &str, raw: Vec<RawRule>) -> Vec<FirewallRule> {
        let path = ["firewalls", firewall, "rules"];
        if raw.len() > RULES_MAX {
            let what = format!("`{}` has {} rules", dotted(&path), raw.len());
            self.bad(
                &path,
                what,
                "too many",
                format!("a firewall has at most {RULES_MAX}"),
            );
        }
        let mut rules: Vec<FirewallRule> = Vec::new();
        for (index, raw) in raw.into_iter().enumerate() {
            let index = index.to_string();
            let path = ["firewalls", firewall, "rules", index.as_str()];
            if let Some(protocol) = raw.protocol {
                self.port(&path, protocol, raw.port.as_deref());
            }
            for (at, network) in raw.networks.iter().flatten().enumerate() {
                let at = at.to_string();
                self.network(&[&path[..], &["networks", &at]].concat(), network);
            }
            let (Some(direction), Some(protocol), Some(networks)) =
                (raw.direction, raw.protocol, raw.networks)
            else {
                continue;
            };
            let rule = FirewallRule {
                direction,
                protocol: protocol.as_str().to_owned(),
                port: raw.port,
                networks,
            };
            if let Some(first) = rules.iter().position(|other| *other == rule) {
                let problem = StackProblem::new(
                    "stack::duplicate",
                    self.span(&path),
                    "the same rule stands twice",
                    "again",
                )
                .also(
                    self.span(&["firewalls", firewall, "rules", &first.to_string()]),
                    "first here",
                )
                .help("take one out");
                self.report(problem);
            }
            rules.push(rule);
        }
        rules
    }

    fn port(&mut self, rule: &[&str; 4], protocol: Protocol, port: Option<&str>) {
        let path = [&rule[..], &["port"]].concat();
        let word = protocol.as_str();
        match port {
            None if protocol.has_ports() && !self.written(&path) => {
                let problem = StackProblem::new(
                    "stack::missing_key",
                    self.span(rule),
                    format!("missing key `port` in a rule for {word}"),
                    "needs `port`",
                )
                .help("add port = \"22\", or a range: port = \"8000-8999\"");
                self.report(problem);
            }
            Some(_) if !protocol.has_ports() => {
                let problem = StackProblem::new(
                    "stack::contradiction",
                    self.span(&path),
                    format!("{word} has no ports"),
                    "a port",
                )
                .help("take `port` out");
                self.report(problem);
            }
            Some(text) => {
                let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
                let good = match text.split_once('-') {
                    Some((low, high)) => {
                        matches!((number(low), number(high)), (Some(low), Some(high)) if low <= high)
                    }
                    None => number(text).is_some(),
                };
                if !good {
                    let what = format!("\"{text}\" is not a port");
                    self.bad(
                        &path,
                        what,
                        "not a port",
                        "1 to 65535, or a range: \"22\", \"8000-8999\"",
                    );
                }
            }
            None => {}
        }
    }

    pub(super) fn network(&mut self, path: &[&str], text: &str) {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            Some((address.parse::<IpAddr>().ok()?, length.parse::<u32>().ok()?))
        });
        let problem = match parsed {
            None => {
                Some("write it as address and length: \"10.0.0.0/8\", \"192.0.2.7/32\", \"::/0\"".to_owned())
            }
            Some((address, length)) => {
                let (bits, value) = match address {
                    IpAddr::V4(address) => (32, u128::from(address.to_bits())),
                    IpAddr::V6(address) => (128, address.to_bits()),
                };
                if length > bits {
                    Some(format!("the length is at most {bits}"))
                } else {
                    // Hetzner: a network has empty host bits.
                    let host = bits - length;
                    let mask = u128::MAX.checked_shl(host).unwrap_or(0);
                    let network = value & mask;
                    (network != value).then(|| {
                        let network = if bits == 32 {
                            // `value` came from 32 bits.
                            IpAddr::from(u32::try_from(network).unwrap_or_default().to_be_bytes())
                        } else {
                            IpAddr::from(network.to_be_bytes())
                        };
                        format!("it has bits beyond its length: write \"{network}/{length}\", or \"{address}/{bits}\" for the one address")
                    })
                }
            }
        };
        if let Some(help) = problem {
            self.bad(
                path,
                format!("\"{text}\" is not a network"),
                "not a network",
                help,
            );
        }
    }
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Esp => "esp",
            Self::Gre => "gre",
        }
    }

    fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }
}
