//! A firewall's rules as the API has them, and back.
//!
//! A firewall of DigitalOcean's drops what no rule lets through, in both directions; one of ours without rules for `out` lets
//! everything out. So such a firewall is given three rules that do, and those three read back as none. Peers that no firewall of ours
//! can name (tags, droplets, load balancers) are shown with words of their own, so that they differ and are put right.

use serde::{Deserialize, Serialize};

use crate::{
    model::resource::{Direction, FirewallRule},
    provider::ProviderError,
};

/// The API's word for every port, and for no port.
const EVERY_PORT: &str = "0";

/// All ports in our words.
const ALL_PORTS: &str = "1-65535";

/// Every address of IPv4, and of IPv6.
const ANYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The protocols that its firewalls know.
const PROTOCOLS: [&str; 3] = ["icmp", "tcp", "udp"];

/// A rule of either direction, which the list that it stands in says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rule {
    pub(super) protocol: String,
    #[serde(default)]
    ports: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sources: Option<Peers>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destinations: Option<Peers>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Peers {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default, skip_serializing)]
    tags: Option<Vec<String>>,
    #[serde(default, skip_serializing)]
    droplet_ids: Option<Vec<u64>>,
    #[serde(default, skip_serializing)]
    load_balancer_uids: Option<Vec<String>>,
    #[serde(default, skip_serializing)]
    kubernetes_ids: Option<Vec<String>>,
}

impl Peers {
    fn words(&self) -> Vec<String> {
        let named = |kind: &'static str, names: &Option<Vec<String>>| {
            let names = names.clone().unwrap_or_default();
            names.into_iter().map(move |name| format!("{kind} {name}"))
        };
        let droplets = self.droplet_ids.iter().flatten();
        let mut all: Vec<_> = self
            .addresses
            .iter()
            .map(|address| network(address))
            .chain(named("tag", &self.tags))
            .chain(droplets.map(|id| format!("droplet {id}")))
            .chain(named("load balancer", &self.load_balancer_uids))
            .chain(named("cluster", &self.kubernetes_ids))
            .collect();
        all.sort();
        all
    }
}

/// One address is told without its length.
fn network(address: &str) -> String {
    match (address.contains('/'), address.contains(':')) {
        (true, _) => address.to_owned(),
        (false, true) => format!("{address}/128"),
        (false, false) => format!("{address}/32"),
    }
}

/// What these rules are in our words, sorted.
pub(super) fn seen(inbound: &[Rule], outbound: &[Rule]) -> Vec<FirewallRule> {
    let of = |direction: Direction, rules: &[Rule]| -> Vec<FirewallRule> {
        rules.iter().map(|rule| rule.seen(direction)).collect()
    };
    let mut out = of(Direction::Out, outbound);
    out.sort();
    if out == everything() {
        out.clear();
    }
    let mut rules = of(Direction::In, inbound);
    rules.append(&mut out);
    rules.sort();
    rules
}

impl Rule {
    fn seen(&self, direction: Direction) -> FirewallRule {
        let peers = match direction {
            Direction::In => &self.sources,
            Direction::Out => &self.destinations,
        };
        let port = match self.ports.as_str() {
            _ if self.protocol == "icmp" => None,
            EVERY_PORT | "all" | "" => Some(ALL_PORTS.to_owned()),
            ports => Some(ports.to_owned()),
        };
        FirewallRule {
            direction,
            protocol: self.protocol.clone(),
            port,
            networks: peers.as_ref().map(Peers::words).unwrap_or_default(),
        }
    }
}

/// What lets everything out, sorted.
fn everything() -> Vec<FirewallRule> {
    let rules = PROTOCOLS.map(|protocol| FirewallRule {
        direction: Direction::Out,
        protocol: protocol.to_owned(),
        port: (protocol != "icmp").then(|| ALL_PORTS.to_owned()),
        networks: ANYWHERE.map(str::to_owned).to_vec(),
    });
    rules.to_vec()
}

/// The lists for `inbound_rules` and `outbound_rules`.
///
/// # Errors
/// [`ProviderError::Rejected`] for a protocol that DigitalOcean's firewalls do not know.
pub(super) fn wanted(rules: &[FirewallRule]) -> Result<(Vec<Rule>, Vec<Rule>), ProviderError> {
    let (mut inbound, mut outbound) = (Vec::new(), Vec::new());
    for rule in rules {
        let wire = wire(rule)?;
        match rule.direction {
            Direction::In => inbound.push(wire),
            Direction::Out => outbound.push(wire),
        }
    }
    if outbound.is_empty() {
        outbound = everything().iter().map(wire).collect::<Result<_, _>>()?;
    }
    Ok((inbound, outbound))
}

fn wire(rule: &FirewallRule) -> Result<Rule, ProviderError> {
    if !PROTOCOLS.contains(&rule.protocol.as_str()) {
        return Err(ProviderError::Rejected {
            code: "invalid_input".to_owned(),
            why: format!(
                "DigitalOcean's firewalls know tcp, udp and icmp, not {:?}",
                rule.protocol
            ),
        });
    }
    let ports = match rule.port.as_deref() {
        None | Some(ALL_PORTS) => EVERY_PORT,
        Some(port) => port,
    };
    let peers = Some(Peers {
        addresses: rule.networks.clone(),
        ..Peers::default()
    });
    let (sources, destinations) = match rule.direction {
        Direction::In => (peers, None),
        Direction::Out => (None, peers),
    };
    Ok(Rule {
        protocol: rule.protocol.clone(),
        ports: ports.to_owned(),
        sources,
        destinations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(direction: Direction, protocol: &str, port: Option<&str>) -> FirewallRule {
        FirewallRule {
            direction,
            protocol: protocol.to_owned(),
            port: port.map(str::to_owned),
            networks: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
        }
    }

    #[test]
    fn a_firewall_without_rules_for_out_lets_everything_out_and_reads_back_as_it_was_written() {
        for rules in [
            vec![],
            vec![rule(Direction::In, "tcp", Some("22"))],
            vec![
                rule(Direction::In, "icmp", None),
                rule(Direction::In, "udp", Some("1-65535")),
                rule(Direction::Out, "tcp", Some("443")),
            ],
        ] {
            let (inbound, outbound) = wanted(&rules).unwrap();
            assert!(!outbound.is_empty(), "what nothing lets out stays in");
            assert_eq!(seen(&inbound, &outbound), rules);
        }
        let (_, outbound) = wanted(&[]).unwrap();
        assert_eq!(
            serde_json::to_value(&outbound[0]).unwrap(),
            serde_json::json!({"protocol": "icmp", "ports": "0", "destinations": {"addresses": ["0.0.0.0/0", "::/0"]}})
        );
    }

    #[test]
    fn a_peer_that_we_could_not_have_named_is_shown() {
        let json = r#"{"protocol":"tcp","ports":"22","sources":{"addresses":["192.0.2.7"],"tags":["web"],"droplet_ids":[8]}}"#;
        let odd: Rule = serde_json::from_str(json).unwrap();
        let seen = seen(&[odd], &[]);
        assert_eq!(seen[0].networks, ["192.0.2.7/32", "droplet 8", "tag web"]);
    }

    #[test]
    fn a_protocol_that_its_firewalls_do_not_know_is_refused() {
        let error = wanted(&[rule(Direction::In, "gre", None)]).unwrap_err();
        assert!(error.to_string().contains("tcp, udp and icmp"), "{error}");
    }
}
