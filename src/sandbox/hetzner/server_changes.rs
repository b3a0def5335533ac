//! What somebody changes on a server by hand: its type, its networks, its placement group.

use serde_json::Value;

use super::super::{
    api::{Answer, Call, Reply},
    world::{World, catalog, cloud::Server, network::Range},
};
use super::{
    create::no_capacity,
    error, invalid, not_found, placement_groups,
    server_actions::{answer, free, is_off, switch_on},
};

fn server<'a>(world: &'a World, id: u64) -> Result<&'a Server, Reply> {
    world.cloud.servers.get(&id).ok_or_else(|| not_found("server"))
}

fn must_be_off(world: &World, id: u64) -> Result<(), Reply> {
    if is_off(world, id) {
        return Ok(());
    }
    Err(error(
        422,
        "server_not_stopped",
        "the server must be stopped",
        Value::Null,
    ))
}

/// Its disk is copied, and it is started again.
pub(super) fn change_type(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    let wanted = call
        .text("server_type")
        .and_then(catalog::server_type)
        .ok_or_else(|| invalid("server_type", "server type not found"))?;
    let upgrades = call.body.get("upgrade_disk").and_then(Value::as_bool);
    if upgrades.is_none() {
        return Err(invalid("upgrade_disk", "is required"));
    }
    must_be_off(world, id)?;
    let here = server(world, id)?;
    let fits = catalog::server_type(&here.kind).is_some_and(|kind| {
        kind.architecture == wanted.architecture && kind.disk <= wanted.disk && kind.name != wanted.name
    });
    if !fits || !wanted.locations.contains(&here.location.as_str()) {
        return Err(error(
            422,
            "invalid_server_type",
            "the server type does not fit for the given server or is deprecated",
            Value::Null,
        ));
    }
    if !world.cloud.available(wanted.name, &here.location) {
        return Err(no_capacity());
    }
    if !call.twists.action_error {
        if let Some(server) = world.cloud.servers.get_mut(&id) {
            wanted.name.clone_into(&mut server.kind);
        }
        switch_on(world, id);
    }
    Ok(answer(world, "change_server_type", id, call))
}

/// The zone of a location.
pub(super) fn zone(location: &str) -> &'static str {
    catalog::location(location).map_or("", |location| location.network_zone)
}

/// Networks by their ids, with room for a server in a zone, that do not overlap with each other or with those of `with`.
pub(super) fn networks(world: &World, ids: &[u64], zone: &str, with: &[u64]) -> Result<(), Reply> {
    let range = |id: &u64| world.cloud.networks.get(id).and_then(|network| network.range());
    let mut taken: Vec<Range> = with.iter().filter_map(range).collect();
    for id in ids {
        let wanted = range(id).ok_or_else(|| invalid("networks", "network not found"))?;
        if taken.iter().any(|other| other.overlaps(wanted)) {
            return Err(error(
                422,
                "networks_overlap",
                "the network IP range overlaps with one of the server networks",
                Value::Null,
            ));
        }
        taken.push(wanted);
        if !world.cloud.has_room(*id, zone) {
            return Err(error(
                422,
                "no_subnet_available",
                "no subnet or IP is available for the server within the network",
                Value::Null,
            ));
        }
    }
    Ok(())
}

fn wanted_network(call: &Call) -> Result<u64, Reply> {
    call.body
        .get("network")
        .and_then(Value::as_u64)
        .ok_or_else(|| invalid("network", "is required"))
}

pub(super) fn attach(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    let network = wanted_network(call)?;
    let here = server(world, id)?;
    if here.networks.contains_key(&network) {
        return Err(error(
            422,
            "server_already_attached",
            "the server is already attached to the network",
            Value::Null,
        ));
    }
    let zone = zone(&here.location);
    let with: Vec<u64> = here.networks.keys().copied().collect();
    networks(world, &[network], zone, &with)?;
    if !call.twists.action_error {
        world.cloud.attach(id, network, zone);
    }
    Ok(answer(world, "attach_to_network", id, call))
}

pub(super) fn detach(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    let network = wanted_network(call)?;
    if !server(world, id)?.networks.contains_key(&network) {
        return Err(invalid("network", "the server is not attached to it"));
    }
    if !call.twists.action_error {
        world.cloud.detach(id, network);
    }
    Ok(answer(world, "detach_from_network", id, call))
}

pub(super) fn join_group(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    let group = call
        .body
        .get("placement_group")
        .and_then(Value::as_u64)
        .ok_or_else(|| invalid("placement_group", "is required"))?;
    must_be_off(world, id)?;
    if server(world, id)?.placement_group.is_some() {
        return Err(error(
            422,
            "already_in_placement_group",
            "the server is already part of a placement group",
            Value::Null,
        ));
    }
    let group = placement_groups::with_room(world, group, "placement_group")?;
    if !call.twists.action_error {
        world.cloud.place(id, Some(group));
    }
    Ok(answer(world, "add_to_placement_group", id, call))
}

pub(super) fn leave_group(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    if !call.twists.action_error {
        world.cloud.place(id, None);
    }
    Ok(answer(world, "remove_from_placement_group", id, call))
}
