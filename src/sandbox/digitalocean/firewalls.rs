//! Firewalls: their rules, and the droplets and tags behind them.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::{World, add, ocean::Firewall, seconds},
};
use super::{
    droplets, error, invalid, is_shown, listing, not_found, numbers,
    rules::{self, Direction},
    texts,
};

fn body(world: &World, firewall: &Firewall) -> Value {
    let waiting = world.now < firewall.applied;
    let pending: Vec<Value> = firewall
        .droplets
        .iter()
        .filter(|_| waiting)
        .map(|id| json!({"droplet_id": id, "removing": false, "status": "waiting"}))
        .collect();
    json!({
        "id": firewall.id, "name": firewall.name, "created_at": seconds(firewall.created),
        "status": if waiting { "waiting" } else { "succeeded" }, "pending_changes": pending,
        "inbound_rules": firewall.inbound, "outbound_rules": firewall.outbound,
        "droplet_ids": firewall.droplets, "tags": firewall.tags,
    })
}

fn is_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    name.len() >= 2 && name.bytes().all(rest) && name.as_bytes()[0].is_ascii_alphanumeric()
}

/// When a change of now is in force everywhere.
fn applied(world: &World) -> jiff::Timestamp {
    let step = SignedDuration::try_from(world.settings.action_time).unwrap_or_default();
    add(world.now, step)
}

fn droplets(world: &World, call: &Call) -> Result<BTreeSet<u64>, Reply> {
    let ids = numbers(&call.body, "droplet_ids")?;
    if ids.iter().all(|id| world.ocean.droplets.contains_key(id)) {
        Ok(ids.into_iter().collect())
    } else {
        Err(invalid("droplet does not exist"))
    }
}

fn tags(world: &World, call: &Call) -> Result<BTreeSet<String>, Reply> {
    let tags = texts(&call.body, "tags")?;
    if tags.iter().all(|tag| world.ocean.tags.contains_key(tag)) {
        Ok(tags.into_iter().collect())
    } else {
        Err(invalid("tag does not exist"))
    }
}

/// What a create or a replacement says, whole.
fn given(world: &World, call: &Call, id: &str) -> Result<Firewall, Reply> {
    let name = call.text("name").filter(|name| is_name(name));
    let name = name.ok_or_else(|| error(400, "bad_request", "invalid name"))?;
    let inbound = rules::read(world, &call.body, Direction::In)?;
    let outbound = rules::read(world, &call.body, Direction::Out)?;
    if inbound.is_empty() && outbound.is_empty() {
        return Err(error(400, "bad_request", "at least one rule is required"));
    }
    let others = world.ocean.firewalls.values();
    if others
        .filter(|other| other.id != id)
        .any(|other| other.name == name)
    {
        return Err(error(409, "conflict", "duplicate name"));
    }
    Ok(Firewall {
        id: id.to_owned(),
        name: name.to_owned(),
        created: world.now,
        applied: applied(world),
        inbound,
        outbound,
        droplets: droplets(world, call)?,
        tags: tags(world, call)?,
    })
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let mut all: Vec<&Firewall> = world
        .ocean
        .firewalls
        .values()
        .filter(|firewall| is_shown(firewall.created, world, call))
        .collect();
    all.sort_by_key(|firewall| (firewall.created, &firewall.id));
    let all = all.into_iter().map(|firewall| body(world, firewall)).collect();
    listing("firewalls", all, call)
}

/// Those that a droplet is behind, by itself or by a tag.
pub(super) fn of_droplet(world: &mut World, call: &Call) -> Answer {
    let world = &*world;
    let droplet = droplets::find(world, call)?;
    let all = world
        .ocean
        .firewalls
        .values()
        .filter(|firewall| {
            firewall.droplets.contains(&droplet.id) || !firewall.tags.is_disjoint(&droplet.tags)
        })
        .map(|firewall| body(world, firewall))
        .collect();
    listing("firewalls", all, call)
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let mut firewall = given(world, call, "")?;
    firewall.id = world.ocean.uuid(world.seed);
    let answer = Reply::json(202, &json!({"firewall": body(world, &firewall)}));
    world.ocean.firewalls.insert(firewall.id.clone(), firewall);
    Ok(answer)
}

fn find<'a>(world: &'a World, call: &Call) -> Result<&'a Firewall, Reply> {
    world.ocean.firewalls.get(call.param(0)).ok_or_else(not_found)
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    let firewall = find(world, call)?;
    Ok(Reply::json(200, &json!({"firewall": body(world, firewall)})))
}

/// What the body leaves out is emptied.
pub(super) fn update(world: &mut World, call: &Call) -> Answer {
    let known = find(world, call)?;
    let mut firewall = given(world, call, &known.id)?;
    firewall.created = known.created;
    let answer = Reply::json(200, &json!({"firewall": body(world, &firewall)}));
    world.ocean.firewalls.insert(firewall.id.clone(), firewall);
    Ok(answer)
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let id = find(world, call)?.id.clone();
    world.ocean.firewalls.remove(&id);
    Ok(Reply::empty(204))
}

/// Changes a firewall of which the body is checked already.
fn change(world: &mut World, call: &Call, change: impl FnOnce(&mut Firewall)) -> Answer {
    let applied = applied(world);
    let firewall = world.ocean.firewalls.get_mut(call.param(0));
    let firewall = firewall.ok_or_else(not_found)?;
    change(firewall);
    firewall.applied = applied;
    Ok(Reply::empty(204))
}

pub(super) fn add_droplets(world: &mut World, call: &Call) -> Answer {
    find(world, call)?;
    let ids = droplets(world, call)?;
    change(world, call, |firewall| firewall.droplets.extend(ids))
}

pub(super) fn remove_droplets(world: &mut World, call: &Call) -> Answer {
    let ids = numbers(&call.body, "droplet_ids")?;
    change(world, call, |firewall| {
        firewall.droplets.retain(|id| !ids.contains(id));
    })
}

pub(super) fn add_tags(world: &mut World, call: &Call) -> Answer {
    find(world, call)?;
    let tags = tags(world, call)?;
    change(world, call, |firewall| firewall.tags.extend(tags))
}

pub(super) fn remove_tags(world: &mut World, call: &Call) -> Answer {
    let tags = texts(&call.body, "tags")?;
    change(world, call, |firewall| {
        firewall.tags.retain(|tag| !tags.contains(tag));
    })
}

fn both(world: &World, call: &Call) -> Result<(Vec<Value>, Vec<Value>), Reply> {
    find(world, call)?;
    let both = (
        rules::read(world, &call.body, Direction::In)?,
        rules::read(world, &call.body, Direction::Out)?,
    );
    if both.0.is_empty() && both.1.is_empty() {
        return Err(error(400, "bad_request", "at least one rule is required"));
    }
    Ok(both)
}

pub(super) fn add_rules(world: &mut World, call: &Call) -> Answer {
    let (inbound, outbound) = both(world, call)?;
    change(world, call, |firewall| {
        for (known, new) in [
            (&mut firewall.inbound, inbound),
            (&mut firewall.outbound, outbound),
        ] {
            let fresh: Vec<Value> = new.into_iter().filter(|rule| !known.contains(rule)).collect();
            known.extend(fresh);
        }
    })
}

pub(super) fn remove_rules(world: &mut World, call: &Call) -> Answer {
    let (inbound, outbound) = both(world, call)?;
    change(world, call, |firewall| {
        firewall.inbound.retain(|rule| !inbound.contains(rule));
        firewall.outbound.retain(|rule| !outbound.contains(rule));
    })
}
