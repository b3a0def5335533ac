//! Private networks and their subnets.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::{
        World, catalog,
        network::{Network, Part, Range},
        seconds,
    },
};
use super::{
    error, invalid, label_selector, labels, list_actions, listing, not_found, one_action, required_name,
    sort, unique,
};

/// Subnets per network, by the vendor's overview of networks.
const PARTS_MAX: usize = 50;

fn body(network: &Network) -> Value {
    let gateway = network.range().map(Range::gateway);
    let parts: Vec<Value> = network
        .parts
        .iter()
        .map(|part| {
            json!({
                "type": part.kind, "ip_range": part.ip_range, "network_zone": part.zone, "gateway": gateway,
                "vswitch_id": part.vswitch,
            })
        })
        .collect();
    json!({
        "id": network.id, "name": network.name, "ip_range": network.ip_range, "subnets": parts, "routes": [],
        "servers": network.servers(), "load_balancers": [],
        "protection": {"delete": network.protected}, "labels": network.labels, "created": seconds(network.created),
        "expose_routes_to_vswitch": network.exposes_routes,
    })
}

fn id_of(world: &World, call: &Call) -> Result<u64, Reply> {
    call.id(0)
        .filter(|id| world.cloud.networks.contains_key(id))
        .ok_or_else(|| not_found("network"))
}

fn get<'a>(world: &'a World, call: &Call) -> Result<&'a Network, Reply> {
    call.id(0)
        .and_then(|id| world.cloud.networks.get(&id))
        .ok_or_else(|| not_found("network"))
}

/// The network, if no change of it is under way.
fn free(world: &World, call: &Call) -> Result<u64, Reply> {
    let network = get(world, call)?;
    if world.now < network.busy {
        return Err(error(
            409,
            "conflict",
            "a change is being performed on this network",
            Value::Null,
        ));
    }
    Ok(network.id)
}

fn answer_one(world: &World, call: &Call) -> Answer {
    Ok(Reply::json(200, &json!({"network": body(get(world, call)?)})))
}

/// A subnet of a request that fits beside the others.
fn part(given: &Value, whole: Range, others: &[Part]) -> Result<Part, Reply> {
    let text = |key: &str| given.get(key).and_then(Value::as_str);
    let kind = text("type").unwrap_or_default();
    if !["cloud", "server", "vswitch"].contains(&kind) {
        return Err(invalid("type", "must be cloud, server or vswitch"));
    }
    let vswitch = given.get("vswitch_id").and_then(Value::as_u64);
    if (kind == "vswitch") != vswitch.is_some() {
        return Err(invalid(
            "vswitch_id",
            "is for subnets of type vswitch, and needed there",
        ));
    }
    let zone = text("network_zone").unwrap_or_default();
    if !catalog::ZONES.contains(&zone) {
        return Err(invalid("network_zone", "unknown network zone"));
    }
    let taken: Vec<Range> = others
        .iter()
        .filter_map(|other| Range::parse(&other.ip_range))
        .collect();
    let is_free = |range: &Range| !taken.iter().any(|other| other.overlaps(*range));
    let range = match text("ip_range") {
        None => whole
            .parts()
            .find(is_free)
            .ok_or_else(|| invalid("ip_range", "no free range is left in the network"))?,
        Some(text) => Range::parse(text)
            .filter(|range| range.prefix() <= 30)
            .ok_or_else(|| invalid("ip_range", "must be a range of at least /30 in CIDR notation"))?,
    };
    if !whole.contains(range) {
        return Err(invalid("ip_range", "must be within the network's"));
    }
    if !is_free(&range) {
        return Err(invalid("ip_range", "overlaps with another subnet"));
    }
    if others.len() >= PARTS_MAX {
        return Err(error(
            403,
            "resource_limit_exceeded",
            "subnet limit exceeded",
            Value::Null,
        ));
    }
    Ok(Part {
        kind: kind.to_owned(),
        ip_range: range.to_string(),
        zone: zone.to_owned(),
        vswitch,
    })
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let selector = label_selector(call)?;
    let as_of = call.twists.as_of(world.now);
    let mut all: Vec<Value> = world
        .cloud
        .networks
        .values()
        .filter(|network| selector.matches(&network.labels))
        .filter(|network| as_of.is_none_or(|then| network.created <= then))
        .filter(|network| call.query("name").is_none_or(|name| name == network.name))
        .map(body)
        .collect();
    sort(&mut all, call, &["id", "name", "created"])?;
    listing("networks", all, call)
}

fn check_unique(world: &World, name: &str, own: u64) -> Result<(), Reply> {
    let mut others = world.cloud.networks.values().filter(|network| network.id != own);
    if others.any(|network| network.name == name) {
        return Err(unique("network name is already used", "name"));
    }
    Ok(())
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let name = required_name(&call.body)?.to_owned();
    let labels = labels(&call.body)?.unwrap_or_default();
    let range = call
        .text("ip_range")
        .and_then(Range::parse)
        .filter(|range| range.prefix() <= 24 && range.is_private())
        .ok_or_else(|| {
            invalid(
                "ip_range",
                "must be a private range of at least /24 in CIDR notation",
            )
        })?;
    let mut parts: Vec<Part> = Vec::new();
    for given in call
        .body
        .get("subnets")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice)
    {
        let part = part(given, range, &parts)?;
        parts.push(part);
    }
    check_unique(world, &name, 0)?;
    let network = Network {
        id: world.cloud.fresh(),
        name,
        ip_range: range.to_string(),
        parts,
        labels,
        created: world.now,
        protected: false,
        exposes_routes: exposes(call).unwrap_or(false),
        addresses: BTreeMap::new(),
        busy: world.now,
    };
    let answer = Reply::json(201, &json!({"network": body(&network)}));
    world.cloud.networks.insert(network.id, network);
    Ok(answer)
}

fn exposes(call: &Call) -> Option<bool> {
    call.body.get("expose_routes_to_vswitch").and_then(Value::as_bool)
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    answer_one(world, call)
}

pub(super) fn update(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    let labels = labels(&call.body)?;
    let name = call.text("name").map(str::to_owned);
    if let Some(name) = &name {
        check_unique(world, name, id)?;
    }
    if let Some(network) = world.cloud.networks.get_mut(&id) {
        network.name = name.unwrap_or_else(|| network.name.clone());
        network.labels = labels.unwrap_or_else(|| network.labels.clone());
        network.exposes_routes = exposes(call).unwrap_or(network.exposes_routes);
    }
    answer_one(world, call)
}

/// Servers that are attached are detached.
pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let network = get(world, call)?;
    if network.protected {
        return Err(error(
            423,
            "protected",
            "network is delete protected",
            Value::Null,
        ));
    }
    let id = network.id;
    world.cloud.remove_network(id);
    Ok(Reply::empty(204))
}

/// Begins a change, and answers with its action. Its effect is seen at once, unless the action is to fail.
fn change(
    world: &mut World,
    command: &str,
    id: u64,
    call: &Call,
    change: impl FnOnce(&mut Network),
) -> Reply {
    let action = world.act(command, &[("network", id)], call);
    if let Some(network) = world.cloud.networks.get_mut(&id) {
        network.busy = action.ends;
        if !call.twists.action_error {
            change(network);
        }
    }
    Reply::json(201, &json!({"action": world.action_json(&action)}))
}

pub(super) fn add_subnet(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    let network = get(world, call)?;
    let whole = network.range().ok_or_else(|| not_found("network"))?;
    let part = part(&call.body, whole, &network.parts)?;
    Ok(change(world, "add_subnet", id, call, |network| {
        network.parts.push(part)
    }))
}

pub(super) fn delete_subnet(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    let wanted = call.text("ip_range").unwrap_or_default();
    let network = get(world, call)?;
    let part = network
        .parts
        .iter()
        .find(|part| part.ip_range == wanted)
        .ok_or_else(|| not_found("subnet"))?;
    if network.is_used(part) {
        // As the API is known to answer: hetznercloud/terraform-provider-hcloud#412.
        return Err(error(
            422,
            "service_error",
            "cannot remove subnet because servers are attached to it",
            Value::Null,
        ));
    }
    let gone = part.clone();
    Ok(change(world, "delete_subnet", id, call, |network| {
        network.parts.retain(|part| *part != gone);
    }))
}

pub(super) fn change_protection(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    let wanted = call.body.get("delete").and_then(Value::as_bool);
    Ok(change(world, "change_protection", id, call, |network| {
        network.protected = wanted.unwrap_or(network.protected);
    }))
}

pub(super) fn all_actions(world: &mut World, call: &Call) -> Answer {
    list_actions(world, "network", None, call)
}

pub(super) fn actions(world: &mut World, call: &Call) -> Answer {
    let id = id_of(world, call)?;
    list_actions(world, "network", Some(id), call)
}

pub(super) fn action(world: &mut World, call: &Call) -> Answer {
    one_action(world, "network", call)
}
