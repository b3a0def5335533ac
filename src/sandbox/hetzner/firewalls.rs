//! Firewalls and what they apply to.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    selector::Selector,
    world::{
        World,
        cloud::{Action, Firewall},
        seconds,
    },
};
use super::{
    error, invalid, label_selector, labels, list_actions, listing, not_found, one_action, required_name,
    sort, unique,
};

/// Rules per firewall, by the description.
const RULES_MAX: usize = 50;

fn body(world: &World, firewall: &Firewall) -> Value {
    let mut applied: Vec<Value> = firewall
        .servers
        .iter()
        .map(|id| json!({"type": "server", "server": {"id": id}}))
        .collect();
    applied.extend(world.cloud.selected_by(firewall).into_iter().map(|(selector, ids)| {
        let servers: Vec<Value> = ids.iter().map(|id| json!({"type": "server", "server": {"id": id}})).collect();
        json!({"type": "label_selector", "label_selector": {"selector": selector}, "applied_to_resources": servers})
    }));
    json!({
        "id": firewall.id, "name": firewall.name, "labels": firewall.labels, "created": seconds(firewall.created),
        "rules": firewall.rules, "applied_to": applied,
    })
}

fn id_of(world: &World, call: &Call) -> Result<u64, Reply> {
    call.id(0)
        .filter(|id| world.cloud.firewalls.contains_key(id))
        .ok_or_else(|| not_found("firewall"))
}

fn answer_one(world: &World, id: u64) -> Answer {
    let firewall = world
        .cloud
        .firewalls
        .get(&id)
        .ok_or_else(|| not_found("firewall"))?;
    Ok(Reply::json(200, &json!({"firewall": body(world, firewall)})))
}

/// The rules of a body, with every key that answers have.
fn rules(body: &Value) -> Result<Option<Vec<Value>>, Reply> {
    let Some(given) = body.get("rules").filter(|given| !given.is_null()) else {
        return Ok(None);
    };
    let given = given
        .as_array()
        .ok_or_else(|| invalid("rules", "must be a list"))?;
    if given.len() > RULES_MAX {
        return Err(invalid("rules", "too many rules"));
    }
    given.iter().map(rule).collect::<Result<_, _>>().map(Some)
}

fn rule(given: &Value) -> Result<Value, Reply> {
    let direction = given["direction"].as_str().unwrap_or_default();
    let protocol = given["protocol"].as_str().unwrap_or_default();
    let ips = |key: &str| {
        given
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let port = given["port"].as_str();
    if !["in", "out"].contains(&direction) {
        return Err(invalid("rules", "direction must be in or out"));
    }
    if !["tcp", "udp", "icmp", "esp", "gre"].contains(&protocol) {
        return Err(invalid("rules", "unknown protocol"));
    }
    if ["tcp", "udp"].contains(&protocol) != port.is_some() {
        return Err(invalid(
            "rules",
            "a port is needed for tcp and udp, and for these only",
        ));
    }
    let (needed, other) = if direction == "in" {
        ("source_ips", "destination_ips")
    } else {
        ("destination_ips", "source_ips")
    };
    if ips(needed).is_empty() || !ips(other).is_empty() {
        return Err(invalid(
            "rules",
            &format!("{needed} is needed for this direction"),
        ));
    }
    Ok(json!({
        "description": given.get("description").cloned().unwrap_or(Value::Null),
        "direction": direction, "source_ips": ips("source_ips"), "destination_ips": ips("destination_ips"),
        "protocol": protocol, "port": port,
    }))
}

/// The servers and selectors that a body names under `key`.
fn resources(world: &World, body: &Value, key: &str) -> Result<(BTreeSet<u64>, BTreeSet<String>), Reply> {
    let (mut servers, mut selectors) = (BTreeSet::new(), BTreeSet::new());
    for entry in body
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice)
    {
        match entry["type"].as_str() {
            Some("server") => {
                let id = entry["server"]["id"]
                    .as_u64()
                    .filter(|id| world.cloud.servers.contains_key(id))
                    .ok_or_else(|| {
                        error(
                            404,
                            "firewall_resource_not_found",
                            "firewall resource not found",
                            Value::Null,
                        )
                    })?;
                servers.insert(id);
            }
            Some("label_selector") => {
                let text = entry["label_selector"]["selector"].as_str().unwrap_or_default();
                if text.is_empty() || Selector::parse(text).is_none() {
                    return Err(invalid(key, "invalid label selector"));
                }
                selectors.insert(text.to_owned());
            }
            _ => return Err(invalid(key, "unknown type")),
        }
    }
    Ok((servers, selectors))
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let selector = label_selector(call)?;
    let as_of = call.twists.as_of(world.now);
    let mut all: Vec<Value> = world
        .cloud
        .firewalls
        .values()
        .filter(|firewall| selector.matches(&firewall.labels))
        .filter(|firewall| as_of.is_none_or(|then| firewall.created <= then))
        .filter(|firewall| call.query("name").is_none_or(|name| name == firewall.name))
        .map(|firewall| body(world, firewall))
        .collect();
    sort(&mut all, call, &["id", "name", "created"])?;
    listing("firewalls", all, call)
}

fn check_unique(world: &World, name: &str, own: u64) -> Result<(), Reply> {
    if world
        .cloud
        .firewalls
        .values()
        .any(|firewall| firewall.name == name && firewall.id != own)
    {
        return Err(unique("firewall name is already used", "name"));
    }
    Ok(())
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let name = required_name(&call.body)?.to_owned();
    let labels = labels(&call.body)?.unwrap_or_default();
    let rules = rules(&call.body)?.unwrap_or_default();
    let (servers, selectors) = resources(world, &call.body, "apply_to")?;
    check_unique(world, &name, 0)?;
    let id = world.cloud.fresh();
    let firewall = Firewall {
        id,
        name,
        labels,
        created: world.now,
        rules,
        servers: BTreeSet::new(),
        selectors: BTreeSet::new(),
    };
    world.cloud.firewalls.insert(id, firewall);
    let mut actions = vec![world.act("set_firewall_rules", &[("firewall", id)], call)];
    actions.extend(apply(world, id, servers, selectors, call));
    let actions: Vec<Value> = actions.iter().map(|action| world.action_json(action)).collect();
    let firewall = world
        .cloud
        .firewalls
        .get(&id)
        .ok_or_else(|| not_found("firewall"))?;
    Ok(Reply::json(
        201,
        &json!({"firewall": body(world, firewall), "actions": actions}),
    ))
}

fn apply(
    world: &mut World,
    id: u64,
    servers: BTreeSet<u64>,
    selectors: BTreeSet<String>,
    call: &Call,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for server in servers {
        if let Some(server) = world.cloud.servers.get_mut(&server) {
            server.firewalls.insert(id);
        }
        if let Some(firewall) = world.cloud.firewalls.get_mut(&id) {
            firewall.servers.insert(server);
        }
        actions.push(world.act("apply_firewall", &[("firewall", id), ("server", server)], call));
    }
    for selector in selectors {
        if let Some(firewall) = world.cloud.firewalls.get_mut(&id) {
            firewall.selectors.insert(selector);
        }
        actions.push(world.act("apply_firewall", &[("firewall", id)], call));
    }
    actions
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    answer_one(world, id_of(world, call)?)
}

pub(super) fn update(world: &mut World, call: &Call) -> Answer {
    let id = id_of(world, call)?;
    let labels = labels(&call.body)?;
    let name = call.text("name").map(str::to_owned);
    if let Some(name) = &name {
        check_unique(world, name, id)?;
    }
    if let Some(firewall) = world.cloud.firewalls.get_mut(&id) {
        if let Some(name) = name {
            firewall.name = name;
        }
        if let Some(labels) = labels {
            firewall.labels = labels;
        }
    }
    answer_one(world, id)
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let id = id_of(world, call)?;
    let in_use = world.cloud.firewalls.get(&id).is_some_and(|firewall| {
        !firewall.servers.is_empty()
            || world
                .cloud
                .selected_by(firewall)
                .values()
                .any(|ids| !ids.is_empty())
    });
    if in_use {
        return Err(error(
            422,
            "resource_in_use",
            "firewall is still in use",
            Value::Null,
        ));
    }
    world.cloud.firewalls.remove(&id);
    Ok(Reply::empty(204))
}

fn answer_actions(world: &World, actions: &[Action]) -> Reply {
    let actions: Vec<Value> = actions.iter().map(|action| world.action_json(action)).collect();
    Reply::json(201, &json!({"actions": actions}))
}

pub(super) fn set_rules(world: &mut World, call: &Call) -> Answer {
    let id = id_of(world, call)?;
    let rules = rules(&call.body)?.ok_or_else(|| invalid("rules", "is required"))?;
    let mut actions = vec![world.act("set_firewall_rules", &[("firewall", id)], call)];
    let mut servers = BTreeSet::new();
    if let Some(firewall) = world.cloud.firewalls.get_mut(&id) {
        firewall.rules = rules;
        servers.clone_from(&firewall.servers);
    }
    for server in servers {
        actions.push(world.act("apply_firewall", &[("firewall", id), ("server", server)], call));
    }
    Ok(answer_actions(world, &actions))
}

pub(super) fn apply_to(world: &mut World, call: &Call) -> Answer {
    let id = id_of(world, call)?;
    let (servers, selectors) = resources(world, &call.body, "apply_to")?;
    let actions = apply(world, id, servers, selectors, call);
    Ok(answer_actions(world, &actions))
}

pub(super) fn remove_from(world: &mut World, call: &Call) -> Answer {
    let id = id_of(world, call)?;
    let (servers, selectors) = resources(world, &call.body, "remove_from")?;
    let mut actions = Vec::new();
    for server in servers {
        if let Some(server) = world.cloud.servers.get_mut(&server) {
            server.firewalls.remove(&id);
        }
        if let Some(firewall) = world.cloud.firewalls.get_mut(&id) {
            firewall.servers.remove(&server);
        }
        actions.push(world.act("remove_firewall", &[("firewall", id), ("server", server)], call));
    }
    for selector in selectors {
        if let Some(firewall) = world.cloud.firewalls.get_mut(&id) {
            firewall.selectors.remove(&selector);
        }
        actions.push(world.act("remove_firewall", &[("firewall", id)], call));
    }
    Ok(answer_actions(world, &actions))
}

pub(super) fn actions(world: &mut World, call: &Call) -> Answer {
    let id = id_of(world, call)?;
    list_actions(world, "firewall", Some(id), call)
}

pub(super) fn action(world: &mut World, call: &Call) -> Answer {
    one_action(world, "firewall", call)
}
