//! Actions: what is done to droplets, and what became of it.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    selector::valid_hostname,
    world::{
        World, add,
        host::Power,
        ocean::{Action, Droplet},
        ocean_catalog::Image,
        seconds,
    },
};
use super::{catalog, droplets, invalid, is_shown, listing, not_found};

/// What can be done to all droplets of a tag at once.
const OF_TAGS: [&str; 4] = ["power_cycle", "power_on", "power_off", "shutdown"];

/// An action as it stands now.
fn body(world: &World, action: &Action) -> Value {
    let ended = world.now >= action.ends;
    json!({
        "id": action.id, "type": action.kind,
        "status": match (ended, action.fails) { (false, _) => "in-progress", (true, false) => "completed", (true, true) => "errored" },
        "started_at": seconds(action.started), "completed_at": ended.then(|| seconds(action.ends)),
        "resource_id": action.resource, "resource_type": action.resource_type,
        "region": catalog::region_json(world, &action.region), "region_slug": action.region,
    })
}

/// Records an action on a droplet that ends after the usual time; its id.
pub(super) fn record(world: &mut World, kind: &str, droplet: u64, fails: bool) -> u64 {
    let step = SignedDuration::try_from(world.settings.action_time).unwrap_or_default();
    record_until(world, kind, droplet, add(world.now, step), fails)
}

/// Records an action on a droplet, which is busy until it ends; the action's id.
pub(super) fn record_until(world: &mut World, kind: &str, droplet: u64, ends: Timestamp, fails: bool) -> u64 {
    let id = world.cloud.fresh();
    let region = world.ocean.droplets.get_mut(&droplet).map(|droplet| {
        droplet.busy = ends;
        droplet.region.clone()
    });
    world.ocean.act(Action {
        id,
        kind: kind.to_owned(),
        started: world.now,
        ends,
        resource: droplet,
        resource_type: "droplet".to_owned(),
        region: region.unwrap_or_default(),
        fails,
    });
    id
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    of(world, call, None)
}

pub(super) fn of_droplet(world: &mut World, call: &Call) -> Answer {
    let id = droplets::find(world, call)?.id;
    of(world, call, Some(id))
}

/// The newest first.
fn of(world: &World, call: &Call, droplet: Option<u64>) -> Answer {
    let all = world.ocean.actions.values().rev();
    let all = all
        .filter(|action| droplet.is_none_or(|id| action.resource == id))
        .filter(|action| is_shown(action.started, world, call))
        .map(|action| body(world, action))
        .collect();
    listing("actions", all, call)
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    let action = call.id(0).and_then(|id| world.ocean.actions.get(&id));
    let action = action.ok_or_else(not_found)?;
    Ok(Reply::json(200, &json!({"action": body(world, action)})))
}

pub(super) fn one_of_droplet(world: &mut World, call: &Call) -> Answer {
    let action = call
        .id(1)
        .and_then(|id| world.ocean.actions.get(&id))
        .filter(|action| Some(action.resource) == call.id(0))
        .ok_or_else(not_found)?;
    Ok(Reply::json(200, &json!({"action": body(world, action)})))
}

pub(super) fn act(world: &mut World, call: &Call) -> Answer {
    let droplet = droplets::find(world, call)?;
    let id = droplet.id;
    may_act(world, droplet)?;
    let action = perform(world, id, call)?;
    let action = world.ocean.actions.get(&action).ok_or_else(not_found)?;
    Ok(Reply::json(201, &json!({"action": body(world, action)})))
}

/// Droplets that are busy are passed over.
pub(super) fn act_on_tagged(world: &mut World, call: &Call) -> Answer {
    let kind = call.text("type").unwrap_or_default();
    if !OF_TAGS.contains(&kind) {
        return Err(invalid("This action cannot be performed on tagged Droplets."));
    }
    let tag = call.query("tag_name").unwrap_or_default();
    let mut done = Vec::new();
    for id in world.ocean.tagged(tag).cloned().unwrap_or_default() {
        let droplet = world.ocean.droplets.get(&id);
        if droplet.is_some_and(|droplet| may_act(world, droplet).is_ok()) {
            done.push(perform(world, id, call)?);
        }
    }
    let all: Vec<Value> = done
        .iter()
        .filter_map(|id| world.ocean.actions.get(id))
        .map(|action| body(world, action))
        .collect();
    Ok(Reply::json(201, &json!({ "actions": all })))
}

fn may_act(world: &World, droplet: &Droplet) -> Result<(), Reply> {
    if world.now < droplet.busy {
        return Err(invalid("Droplet already has a pending event."));
    }
    Ok(())
}

fn perform(world: &mut World, id: u64, call: &Call) -> Result<u64, Reply> {
    let kind = call.text("type").unwrap_or_default().to_owned();
    let fails = call.twists.action_error;
    let off = world
        .host(id)
        .is_some_and(|host| matches!(host.power, Power::Off));
    match kind.as_str() {
        "power_on" | "power_off" | "shutdown" | "reboot" | "power_cycle" => {
            if !fails {
                power(world, id, &kind, off);
            }
        }
        "rename" => {
            let name = call.text("name").filter(|name| valid_hostname(name));
            let name =
                name.ok_or_else(|| invalid("Only valid hostnames are allowed. (a-z, A-Z, 0-9, . and -)"))?;
            if !fails {
                world
                    .ocean
                    .change(id, |droplet| name.clone_into(&mut droplet.name));
            }
        }
        "snapshot" => {
            let name = call.text("name").unwrap_or("snapshot").to_owned();
            if !fails {
                snapshot(world, id, &name);
            }
        }
        _ => return Err(invalid("You specified an invalid action type.")),
    }
    Ok(record(world, &kind, id, fails))
}

fn power(world: &mut World, id: u64, kind: &str, off: bool) {
    let step = SignedDuration::try_from(world.settings.action_time).unwrap_or_default();
    let soon = add(world.now, step);
    match kind {
        "power_on" if off => world.power_on(id, soon),
        "power_off" if !off => world.power_off(id),
        "shutdown" => world.begin_shutdown(id),
        // What runs dies.
        "reboot" | "power_cycle" if !off => {
            world.power_off(id);
            world.power_on(id, soon);
        }
        _ => {}
    }
}

fn snapshot(world: &mut World, id: u64, name: &str) {
    let number = world.cloud.fresh() + 200_000_000;
    if let Some(droplet) = world.ocean.droplets.get(&id) {
        let regions = [droplet.region.clone()];
        let mut image = Image::snapshot(number, name, &regions, world.now);
        image.of = Some(id);
        world.ocean.snapshots.insert(number, image);
    }
}
