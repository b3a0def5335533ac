//! A firewall's rules as a security group's permissions, and back.
//!
//! A group lets out everything until somebody says otherwise, as a firewall without rules for `out` does: that one permission
//! stands for "no rules for `out`" both ways. A group that lets nothing out, or holds what no firewall of ours can say (another
//! group as a peer, every protocol), is shown with words of its own, so that it differs and is put right.
//!
//! EC2 keeps one list of networks per direction, protocol and port: of two rules for the same port it could not say
//! afterwards which network was whose, so that two such rules are refused.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, PrefixListId, SecurityGroup, UserIdGroupPair};

use crate::{
    model::resource::{Direction, FirewallRule},
    provider::ProviderError,
};

/// EC2's word for every protocol.
const ALL: &str = "-1";
/// Every address of IPv4, and of IPv6.
const ANYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The first and the last port.
type Ports = Option<(i32, i32)>;

/// One peer that is let through one way: what EC2 keeps, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    direction: Direction,
    /// EC2's word: `tcp`, `icmp`, `icmpv6`, `50`, `-1`.
    protocol: String,
    /// The first and the last port; none where there are none.
    ports: Ports,
    /// A network; or a group `sg-…` or a prefix list `pl-…`.
    peer: String,
}

/// What is there and should not be, and what should be there and is not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) revoke: BTreeSet<Grant>,
    pub(super) authorize: BTreeSet<Grant>,
}

/// What it takes to make a group say this.
///
/// # Errors
/// [`ProviderError::Rejected`] when EC2 could not say it.
pub(super) fn change(group: &SecurityGroup, want: &[FirewallRule]) -> Result<Change, ProviderError> {
    let have = grants(group);
    let mut want = wanted(want)?;
    if want.iter().all(|grant| grant.direction == Direction::In) {
        // Everything out: IPv4 always, IPv6 where the group has it already, as every group of a network with IPv6 has.
        want.insert(everything(ANYWHERE[0]));
        want.extend(
            have.iter()
                .filter(|grant| **grant == everything(ANYWHERE[1]))
                .cloned(),
        );
    }
    Ok(Change {
        revoke: have.difference(&want).cloned().collect(),
        authorize: want.difference(&have).cloned().collect(),
    })
}

fn everything(network: &str) -> Grant {
    Grant {
        direction: Direction::Out,
        protocol: ALL.to_owned(),
        ports: None,
        peer: network.to_owned(),
    }
}

/// As permissions, one per direction, protocol and port.
pub(super) fn permissions(grants: &BTreeSet<Grant>, direction: Direction) -> Vec<IpPermission> {
    let mut peers: BTreeMap<(&str, Ports), Vec<&str>> = BTreeMap::new();
    for grant in grants.iter().filter(|grant| grant.direction == direction) {
        peers
            .entry((&grant.protocol, grant.ports))
            .or_default()
            .push(&grant.peer);
    }
    peers
        .into_iter()
        .map(|((protocol, ports), peers)| {
            let mut permission = IpPermission::builder()
                .ip_protocol(protocol)
                .set_from_port(ports.map(|(first, _)| first))
                .set_to_port(ports.map(|(_, last)| last));
            for peer in peers {
                permission = if peer.starts_with("sg-") {
                    permission.user_id_group_pairs(UserIdGroupPair::builder().group_id(peer).build())
                } else if peer.starts_with("pl-") {
                    permission.prefix_list_ids(PrefixListId::builder().prefix_list_id(peer).build())
                } else if peer.contains(':') {
                    permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(peer).build())
                } else {
                    permission.ip_ranges(IpRange::builder().cidr_ip(peer).build())
                };
            }
            permission.build()
        })
        .collect()
}

fn wanted(rules: &[FirewallRule]) -> Result<BTreeSet<Grant>, ProviderError> {
    let mut grants = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for rule in rules {
        if !seen.insert((rule.direction, &rule.protocol, &rule.port)) {
            let port = rule
                .port
                .as_deref()
                .map(|port| format!(" {port}"))
                .unwrap_or_default();
            return Err(invalid(format!(
                "EC2 keeps one list of networks for {}{port}: write both rules' networks into one",
                rule.protocol
            )));
        }
        let ports = match &rule.port {
            Some(port) => Some(range(port)?),
            None => None,
        };
        for network in &rule.networks {
            let v6 = network.contains(':');
            let (protocol, ports) = match (rule.protocol.as_str(), v6) {
                ("tcp" | "udp", _) => (rule.protocol.as_str(), ports),
                // Every type of message.
                ("icmp", false) => ("icmp", Some((-1, -1))),
                ("icmp", true) => ("icmpv6", Some((-1, -1))),
                // By their numbers (IANA).
                ("esp", _) => ("50", None),
                ("gre", _) => ("47", None),
                (other, _) => return Err(invalid(format!("security groups have no word for {other:?}"))),
            };
            grants.insert(Grant {
                direction: rule.direction,
                protocol: protocol.to_owned(),
                ports,
                peer: network.clone(),
            });
        }
    }
    Ok(grants)
}

fn range(port: &str) -> Result<(i32, i32), ProviderError> {
    let number = |text: &str| text.trim().parse::<u16>().ok().map(i32::from);
    let (first, last) = port.split_once('-').unwrap_or((port, port));
    number(first)
        .zip(number(last))
        .ok_or_else(|| invalid(format!("{port:?} is neither a port nor a range")))
}

fn invalid(why: String) -> ProviderError {
    ProviderError::Rejected {
        code: "invalid_input".to_owned(),
        why,
    }
}

fn grants(group: &SecurityGroup) -> BTreeSet<Grant> {
    let ways = [
        (Direction::In, group.ip_permissions()),
        (Direction::Out, group.ip_permissions_egress()),
    ];
    let mut grants = BTreeSet::new();
    for (direction, permissions) in ways {
        for permission in permissions {
            let protocol = permission.ip_protocol().unwrap_or(ALL);
            let ports = permission
                .from_port()
                .zip(permission.to_port())
                .filter(|_| ["tcp", "udp", "icmp", "icmpv6"].contains(&protocol));
            let v4 = permission.ip_ranges().iter().filter_map(|range| range.cidr_ip());
            let v6 = permission
                .ipv6_ranges()
                .iter()
                .filter_map(|range| range.cidr_ipv6());
            let groups = permission.user_id_group_pairs().iter();
            let lists = permission.prefix_list_ids().iter();
            let peers = v4
                .chain(v6)
                .chain(groups.filter_map(|pair| pair.group_id()))
                .chain(lists.filter_map(|list| list.prefix_list_id()));
            grants.extend(peers.map(|peer| Grant {
                direction,
                protocol: protocol.to_owned(),
                ports,
                peer: peer.to_owned(),
            }));
        }
    }
    grants
}

/// A group's rules, sorted.
pub(super) fn seen(group: &SecurityGroup) -> Vec<FirewallRule> {
    let grants = grants(group);
    let out: Vec<_> = grants
        .iter()
        .filter(|grant| grant.direction == Direction::Out)
        .collect();
    let everything_out = !out.is_empty()
        && out
            .iter()
            .all(|grant| ANYWHERE.iter().any(|network| **grant == everything(network)));
    let mut networks: BTreeMap<(Direction, String, Option<String>), Vec<String>> = BTreeMap::new();
    for grant in &grants {
        if grant.direction == Direction::Out && everything_out {
            continue;
        }
        let protocol = match grant.protocol.as_str() {
            "icmpv6" | "58" => "icmp",
            "50" => "esp",
            "47" => "gre",
            ALL => "all",
            other => other,
        };
        let port = match (protocol, grant.ports) {
            ("tcp" | "udp", Some((first, last))) if first == last => Some(first.to_string()),
            ("tcp" | "udp", Some((first, last))) => Some(format!("{first}-{last}")),
            // Single messages, which no firewall of ours names.
            ("icmp", Some((kind, code))) if (kind, code) != (-1, -1) => Some(format!("{kind}/{code}")),
            _ => None,
        };
        networks
            .entry((grant.direction, protocol.to_owned(), port))
            .or_default()
            .push(grant.peer.clone());
    }
    if out.is_empty() {
        // Nothing gets out, which no firewall of ours says.
        networks.insert((Direction::Out, "all".to_owned(), None), Vec::new());
    }
    let mut rules: Vec<FirewallRule> = networks
        .into_iter()
        .map(|((direction, protocol, port), mut networks)| {
            networks.sort();
            FirewallRule {
                direction,
                protocol,
                port,
                networks,
            }
        })
        .collect();
    rules.sort();
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(direction: Direction, protocol: &str, port: Option<&str>, networks: &[&str]) -> FirewallRule {
        FirewallRule {
            direction,
            protocol: protocol.to_owned(),
            port: port.map(str::to_owned),
            networks: networks.iter().map(|network| (*network).to_owned()).collect(),
        }
    }

    /// A group as EC2 makes it.
    fn fresh() -> SecurityGroup {
        with(&BTreeSet::from([everything(ANYWHERE[0])]))
    }

    fn with(grants: &BTreeSet<Grant>) -> SecurityGroup {
        SecurityGroup::builder()
            .set_ip_permissions(Some(permissions(grants, Direction::In)))
            .set_ip_permissions_egress(Some(permissions(grants, Direction::Out)))
            .build()
    }

    /// The group after the change.
    fn changed(group: &SecurityGroup, want: &[FirewallRule]) -> SecurityGroup {
        let change = change(group, want).unwrap();
        let kept = grants(group)
            .difference(&change.revoke)
            .cloned()
            .collect::<BTreeSet<_>>();
        with(&kept.union(&change.authorize).cloned().collect())
    }

    #[test]
    fn what_is_written_reads_back_whatever_was_there() {
        let wishes = [
            vec![],
            vec![rule(Direction::In, "tcp", Some("22"), &["0.0.0.0/0", "::/0"])],
            vec![
                rule(Direction::In, "tcp", Some("22"), &["198.51.100.0/24"]),
                rule(Direction::In, "tcp", Some("8000-8999"), &["0.0.0.0/0"]),
                rule(Direction::In, "icmp", None, &["0.0.0.0/0", "::/0"]),
                rule(Direction::Out, "udp", Some("53"), &["10.0.0.0/8"]),
                rule(Direction::Out, "esp", None, &["::/0"]),
                rule(Direction::Out, "gre", None, &["0.0.0.0/0"]),
            ],
        ];
        for before in &wishes {
            for after in &wishes {
                let group = changed(&changed(&fresh(), before), after);
                let mut sorted = after.clone();
                sorted.sort();
                assert_eq!(seen(&group), sorted, "from {before:?}");
                assert_eq!(
                    change(&group, after).unwrap(),
                    Change::default(),
                    "nothing is left to do"
                );
            }
        }
    }

    #[test]
    fn without_rules_for_out_everything_gets_out_and_with_one_nothing_else_does() {
        assert_eq!(seen(&fresh()), []);
        let want = [rule(Direction::Out, "tcp", Some("443"), &["0.0.0.0/0"])];
        let change = change(&fresh(), &want).unwrap();
        assert_eq!(change.revoke, BTreeSet::from([everything(ANYWHERE[0])]));
    }

    #[test]
    fn a_group_that_lets_nothing_out_or_that_trusts_another_differs_and_is_put_right() {
        let shut = with(&BTreeSet::new());
        assert_eq!(seen(&shut), [rule(Direction::Out, "all", None, &[])]);
        assert_eq!(seen(&changed(&shut, &[])), []);

        let mut trusting = grants(&fresh());
        trusting.insert(Grant {
            direction: Direction::In,
            protocol: ALL.to_owned(),
            ports: None,
            peer: "sg-1".to_owned(),
        });
        let trusting = with(&trusting);
        assert_eq!(seen(&trusting), [rule(Direction::In, "all", None, &["sg-1"])]);
        assert_eq!(seen(&changed(&trusting, &[])), []);
    }

    #[test]
    fn what_ec2_cannot_say_is_refused() {
        let twice = [
            rule(Direction::In, "tcp", Some("22"), &["10.0.0.0/8"]),
            rule(Direction::In, "tcp", Some("22"), &["192.0.2.0/24"]),
        ];
        for bad in [&twice[..], &[rule(Direction::In, "sctp", None, &["::/0"])]] {
            assert!(matches!(
                change(&fresh(), bad),
                Err(ProviderError::Rejected { .. })
            ));
        }
    }
}
