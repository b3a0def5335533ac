//! A firewall's rules, checked.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::super::{api::Reply, world::World};
use super::{error, invalid};

/// The most rules of a firewall.
const RULES_MAX: usize = 50;

/// Incoming or outgoing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

impl Direction {
    /// Its rules' key in a body.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::In => "inbound_rules",
            Self::Out => "outbound_rules",
        }
    }

    const fn peers(self) -> &'static str {
        match self {
            Self::In => "sources",
            Self::Out => "destinations",
        }
    }
}

/// The rules of a body in one direction, as the API shows them.
pub(super) fn read(world: &World, body: &Value, direction: Direction) -> Result<Vec<Value>, Reply> {
    let rules = match body.get(direction.key()) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(rules)) => rules,
        Some(_) => return Err(error(400, "bad_request", "error parsing request body")),
    };
    if rules.len() > RULES_MAX {
        return Err(invalid("too many rules"));
    }
    rules.iter().map(|rule| one(world, rule, direction)).collect()
}

fn one(world: &World, rule: &Value, direction: Direction) -> Result<Value, Reply> {
    let protocol = rule["protocol"].as_str().unwrap_or_default();
    let ports = match protocol {
        // Always said to be that.
        "icmp" => "0".to_owned(),
        "tcp" | "udp" => ports(&rule["ports"])?,
        _ => return Err(invalid("invalid protocol")),
    };
    let peers = rule.get(direction.peers()).and_then(Value::as_object);
    let peers = peers.ok_or_else(|| invalid("missing addresses"))?;
    check_peers(world, peers)?;
    let mut shown = Map::new();
    shown.insert("protocol".to_owned(), protocol.into());
    shown.insert("ports".to_owned(), ports.into());
    let kept = peers.iter().filter(|(_, all)| !is_empty(all));
    let kept: Map<String, Value> = kept.map(|(key, all)| (key.clone(), all.clone())).collect();
    shown.insert(direction.peers().to_owned(), kept.into());
    Ok(shown.into())
}

/// One port, a range, or all of them, which is shown as `0`.
fn ports(given: &Value) -> Result<String, Reply> {
    let text = given.as_str().unwrap_or_default();
    if matches!(text, "all" | "0") {
        return Ok("0".to_owned());
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(text.to_owned()),
        _ => Err(invalid("invalid port range")),
    }
}

fn is_empty(all: &Value) -> bool {
    all.as_array().is_none_or(Vec::is_empty)
}

fn check_peers(world: &World, peers: &Map<String, Value>) -> Result<(), Reply> {
    if peers.values().all(is_empty) {
        return Err(invalid("missing addresses"));
    }
    let all = |key: &str| peers.get(key).and_then(Value::as_array).into_iter().flatten();
    for address in all("addresses") {
        if !address.as_str().is_some_and(is_address) {
            return Err(invalid("invalid address"));
        }
    }
    for tag in all("tags") {
        if !tag.as_str().is_some_and(|tag| world.ocean.tags.contains_key(tag)) {
            return Err(invalid("tag does not exist"));
        }
    }
    for id in all("droplet_ids") {
        if !id
            .as_u64()
            .is_some_and(|id| world.ocean.droplets.contains_key(&id))
        {
            return Err(invalid("droplet does not exist"));
        }
    }
    Ok(())
}

/// An address, or a range in CIDR notation.
fn is_address(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "0"));
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    prefix.parse::<u8>().is_ok_and(|prefix| prefix <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_a_range_or_all() {
        let read = |text: &str| ports(&text.into()).ok();
        for (text, shown) in [
            ("22", "22"),
            ("8000-9000", "8000-9000"),
            ("all", "0"),
            ("0", "0"),
            ("1-65535", "1-65535"),
        ] {
            assert_eq!(read(text).as_deref(), Some(shown), "{text}");
        }
        for wrong in ["", "65536", "9-8", "22,80", "0-10", "ssh"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_may_be_ranges_of_either_family() {
        for right in ["192.0.2.7", "10.0.0.0/8", "::/0", "2001:db8::1"] {
            assert!(is_address(right), "{right}");
        }
        for wrong in ["", "10.0.0.0/33", "::/129", "office", "10.0.0/8"] {
            assert!(!is_address(wrong), "{wrong}");
        }
    }
}
