//! What can be done to a server: power, protection, and the actions that come of it.

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::{World, add, host::Power},
};
use super::{list_actions, not_found, one_action, servers::locked};

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let id = call
        .id(0)
        .filter(|id| world.cloud.servers.contains_key(id))
        .ok_or_else(|| not_found("server"))?;
    list_actions(world, "server", Some(id), call)
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    one_action(world, "server", call)
}

/// The server, if no action holds it.
pub(super) fn free(world: &World, call: &Call) -> Result<u64, Reply> {
    let server = call
        .id(0)
        .and_then(|id| world.cloud.servers.get(&id))
        .ok_or_else(|| not_found("server"))?;
    if world.now < server.initialized {
        Err(locked())
    } else {
        Ok(server.id)
    }
}

pub(super) fn answer(world: &mut World, command: &str, id: u64, call: &Call) -> Reply {
    let action = world.act(command, &[("server", id)], call);
    Reply::json(201, &json!({"action": world.action_json(&action)}))
}

pub(super) fn switch_on(world: &mut World, id: u64) {
    let step = jiff::SignedDuration::try_from(world.settings.action_time).unwrap_or_default();
    world.power_on(id, add(world.now, step));
}

pub(super) fn is_off(world: &World, id: u64) -> bool {
    world
        .cloud
        .servers
        .get(&id)
        .is_some_and(|server| server.host.power == Power::Off)
}

pub(super) fn power_on(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    if is_off(world, id) && !call.twists.action_error {
        switch_on(world, id);
    }
    Ok(answer(world, "start_server", id, call))
}

pub(super) fn power_off(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    if !call.twists.action_error {
        world.power_off(id);
    }
    Ok(answer(world, "stop_server", id, call))
}

pub(super) fn shutdown(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    if !call.twists.action_error {
        world.begin_shutdown(id);
    }
    Ok(answer(world, "shutdown_server", id, call))
}

pub(super) fn reboot(world: &mut World, call: &Call) -> Answer {
    restart(world, call, "reboot_server")
}

pub(super) fn reset(world: &mut World, call: &Call) -> Answer {
    restart(world, call, "reset_server")
}

/// Power off and on; what runs dies.
fn restart(world: &mut World, call: &Call, command: &str) -> Answer {
    let id = free(world, call)?;
    if !is_off(world, id) && !call.twists.action_error {
        world.power_off(id);
        switch_on(world, id);
    }
    Ok(answer(world, command, id, call))
}

pub(super) fn change_protection(world: &mut World, call: &Call) -> Answer {
    let id = free(world, call)?;
    if let Some(protected) = call.body.get("delete").and_then(Value::as_bool)
        && let Some(server) = world.cloud.servers.get_mut(&id)
    {
        server.protected = protected;
    }
    Ok(answer(world, "change_protection", id, call))
}
