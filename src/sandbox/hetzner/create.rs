//! Creating a server: what is asked for is checked as a whole before anything comes to be.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    dice,
    selector::{Labels, valid_hostname},
    world::{
        World, add, catalog,
        cloud::{Address, Server},
        host::Host,
    },
};
use super::{
    error, invalid, labels, placement_groups, required_name, server_changes,
    servers::{answer_created, checked_name},
};

/// User data may have this many bytes (32 KiB, by the description).
const USER_DATA_MAX: usize = 32 * 1024;

/// What a request to create a server asks for, checked.
struct Wish {
    name: String,
    server_type: &'static catalog::ServerType,
    location: &'static catalog::Location,
    image: u64,
    labels: Labels,
    firewalls: Vec<u64>,
    networks: Vec<u64>,
    placement_group: Option<u64>,
    ipv4: bool,
    ipv6: bool,
    user_data: Option<String>,
    start: bool,
    has_keys: bool,
}

/// Checks in the order in which the API is known to complain: the input first, then the name, limits, then capacity.
fn wish(world: &World, call: &Call) -> Result<Wish, Reply> {
    let body = &call.body;
    let name = required_name(body)?;
    if !valid_hostname(name) {
        return Err(invalid("name", "must be a valid hostname"));
    }
    if body.get("datacenter").is_some_and(|given| !given.is_null()) {
        return Err(invalid("datacenter", "was removed, use location"));
    }
    let server_type = call
        .text("server_type")
        .and_then(catalog::server_type)
        .ok_or_else(|| invalid("server_type", "server type not found"))?;
    let location = match call.text("location") {
        Some(wanted) => catalog::location(wanted).ok_or_else(|| invalid("location", "location not found"))?,
        None => catalog::location(server_type.locations.first().copied().unwrap_or_default())
            .ok_or_else(|| invalid("location", "location not found"))?,
    };
    let image = image(world, call, server_type)?;
    let labels = labels(body)?.unwrap_or_default();
    let user_data = match body.get("user_data").filter(|given| !given.is_null()) {
        None => None,
        Some(Value::String(data)) if data.len() > USER_DATA_MAX => {
            return Err(invalid("user_data", "is too long (maximum is 32768 bytes)"));
        }
        Some(Value::String(data)) => Some(data.clone()),
        Some(_) => return Err(invalid("user_data", "must be a string")),
    };
    let has_keys = check_keys(world, body)?;
    let firewalls = check_firewalls(world, body)?;
    let networks = check_networks(world, body, location)?;
    let net = |key: &str| {
        body.pointer(&format!("/public_net/{key}"))
            .and_then(Value::as_bool)
            .unwrap_or(true)
    };
    let name = checked_name(world, body, None)?;
    let placement_group = match body.get("placement_group").and_then(Value::as_u64) {
        Some(id) => Some(placement_groups::with_room(world, id, "placement_group")?),
        None => None,
    };
    if world.cloud.servers.len() >= world.settings.server_limit as usize {
        return Err(quota());
    }
    if !server_type.locations.contains(&location.name) || !server_type.orderable(world.now) {
        return Err(invalid("location", "unsupported location for server type"));
    }
    if !world.cloud.available(server_type.name, location.name) {
        return Err(no_capacity());
    }
    Ok(Wish {
        name,
        server_type,
        location,
        image,
        labels,
        firewalls,
        networks,
        placement_group,
        ipv4: net("enable_ipv4"),
        ipv6: net("enable_ipv6"),
        user_data,
        start: body
            .get("start_after_create")
            .and_then(Value::as_bool)
            .unwrap_or(true),
        has_keys,
    })
}

pub(crate) fn quota() -> Reply {
    error(
        403,
        "resource_limit_exceeded",
        "server limit exceeded",
        json!({"limits": [{"name": "server_limit"}]}),
    )
}

pub(crate) fn no_capacity() -> Reply {
    error(412, "resource_unavailable", "error during placement", Value::Null)
}

/// The image named by id, or by name and the type's architecture.
fn image(world: &World, call: &Call, server_type: &catalog::ServerType) -> Result<u64, Reply> {
    let wanted = match call.body.get("image") {
        Some(Value::String(wanted)) => wanted.clone(),
        Some(Value::Number(wanted)) => wanted.to_string(),
        _ => return Err(invalid("image", "is required")),
    };
    let found = world
        .cloud
        .images
        .values()
        .filter(|_| !call.twists.gone_image)
        .filter(|image| image.id.to_string() == wanted || image.name.as_deref() == Some(wanted.as_str()))
        .collect::<Vec<_>>();
    if found.is_empty() {
        return Err(invalid("image", "image not found"));
    }
    found
        .iter()
        .find(|image| image.architecture == server_type.architecture)
        .map(|image| image.id)
        .ok_or_else(|| invalid("image", "image architecture does not match the server type"))
}

fn check_keys(world: &World, body: &Value) -> Result<bool, Reply> {
    let keys = body
        .get("ssh_keys")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    for wanted in keys {
        let known = world.cloud.ssh_keys.values().any(|key| {
            wanted.as_u64() == Some(key.id)
                || wanted
                    .as_str()
                    .is_some_and(|text| text == key.name || text == key.id.to_string())
        });
        if !known {
            return Err(invalid("ssh_keys", "ssh key not found"));
        }
    }
    Ok(!keys.is_empty())
}

fn check_firewalls(world: &World, body: &Value) -> Result<Vec<u64>, Reply> {
    let wanted = body
        .get("firewalls")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    wanted
        .iter()
        .map(|entry| {
            entry["firewall"]
                .as_u64()
                .filter(|id| world.cloud.firewalls.contains_key(id))
                .ok_or_else(|| invalid("firewalls", "firewall not found"))
        })
        .collect()
}

fn check_networks(world: &World, body: &Value, location: &catalog::Location) -> Result<Vec<u64>, Reply> {
    let wanted: Vec<u64> = body
        .get("networks")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|id| id.as_u64().ok_or_else(|| invalid("networks", "must be ids")))
        .collect::<Result<_, _>>()?;
    server_changes::networks(world, &wanted, location.network_zone, &[])?;
    Ok(wanted)
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let wish = wish(world, call)?;
    let id = world.cloud.fresh();
    let step = SignedDuration::try_from(world.settings.action_time).unwrap_or_default();
    let (initialized, running) = (add(world.now, step), add(add(world.now, step), step));
    let fails = call.twists.create_fails;
    let address = |world: &mut World, wanted: bool, four: bool| -> Option<Address> {
        wanted.then(|| world.cloud.address(four))
    };
    let (ipv4, ipv6) = (address(world, wish.ipv4, true), address(world, wish.ipv6, false));
    for firewall in &wish.firewalls {
        if let Some(firewall) = world.cloud.firewalls.get_mut(firewall) {
            firewall.servers.insert(id);
        }
    }
    world.cloud.insert(Server {
        id,
        name: wish.name,
        kind: wish.server_type.name.to_owned(),
        location: wish.location.name.to_owned(),
        image: Some(wish.image),
        created: world.now,
        initialized,
        labels: wish.labels,
        ipv4,
        ipv6,
        firewalls: wish.firewalls.into_iter().collect(),
        networks: BTreeMap::new(),
        placement_group: None,
        protected: false,
        host: Host::new(wish.user_data, call.twists.mute),
    });
    for network in &wish.networks {
        world.cloud.attach(id, *network, wish.location.network_zone);
    }
    world.cloud.place(id, wish.placement_group);
    let mut action = world.act_until(
        "create_server",
        initialized,
        &[("server", id), ("image", wish.image)],
        call,
    );
    let mut next = Vec::new();
    if fails {
        action.error = Some((
            "server_error".to_owned(),
            "the server could not be created".to_owned(),
        ));
        world.cloud.actions.insert(action.id, action.clone());
    } else {
        for network in &wish.networks {
            let resources = [("server", id), ("network", *network)];
            next.push(world.act_until("attach_to_network", initialized, &resources, call));
        }
    }
    if !fails && wish.start {
        next.push(world.act_until("start_server", running, &[("server", id)], call));
        world.power_on(id, running);
    }
    let password = (!wish.has_keys).then(|| dice::text(world.seed, id, 20));
    answer_created(world, id, &action, &next, password)
}
