//! What is only read: types, locations, images, prices, actions, primary IPs.

#![expect(clippy::unnecessary_wraps, reason = "handlers have one signature")]

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::{
        World, catalog,
        cloud::{Address, Server},
        seconds,
    },
};
use super::{error, invalid, label_selector, list_actions, listing, not_found, sort};

pub(super) fn server_types(world: &mut World, call: &Call) -> Answer {
    let all = catalog::SERVER_TYPES
        .iter()
        .filter(|kind| call.query("name").is_none_or(|name| name == kind.name))
        .map(|kind| type_json(world, kind))
        .collect();
    listing("server_types", all, call)
}

fn type_json(world: &World, kind: &catalog::ServerType) -> Value {
    kind.json(|place| kind.orderable(world.now) && world.cloud.available(kind.name, place))
}

pub(super) fn server_type(world: &mut World, call: &Call) -> Answer {
    let kind = call
        .id(0)
        .and_then(|id| catalog::SERVER_TYPES.iter().find(|kind| kind.id == id))
        .ok_or_else(|| not_found("server_type"))?;
    Ok(Reply::json(200, &json!({"server_type": type_json(world, kind)})))
}

pub(super) fn locations(_: &mut World, call: &Call) -> Answer {
    let mut all: Vec<Value> = catalog::LOCATIONS
        .iter()
        .filter(|location| call.query("name").is_none_or(|name| name == location.name))
        .map(catalog::Location::json)
        .collect();
    sort(&mut all, call, &["id", "name"])?;
    listing("locations", all, call)
}

pub(super) fn location(_: &mut World, call: &Call) -> Answer {
    let location = call
        .id(0)
        .and_then(|id| catalog::LOCATIONS.iter().find(|location| location.id == id))
        .ok_or_else(|| not_found("location"))?;
    Ok(Reply::json(200, &json!({"location": location.json()})))
}

pub(super) fn images(world: &mut World, call: &Call) -> Answer {
    let selector = label_selector(call)?;
    let one_of = |key: &str, value: &str| {
        let wanted = call.all(key);
        wanted.is_empty() || wanted.contains(&value)
    };
    let mut all: Vec<Value> = world
        .cloud
        .images
        .values()
        .filter(|_| !call.twists.gone_image)
        .filter(|image| selector.matches(&image.labels))
        .filter(|image| one_of("type", image.kind()) && one_of("architecture", &image.architecture))
        .filter(|_| one_of("status", "available") && call.all("bound_to").is_empty())
        .filter(|image| {
            call.query("name")
                .is_none_or(|name| image.name.as_deref() == Some(name))
        })
        .map(catalog::Image::json)
        .collect();
    sort(&mut all, call, &["id", "name", "created"])?;
    listing("images", all, call)
}

pub(super) fn image(world: &mut World, call: &Call) -> Answer {
    let image = call
        .id(0)
        .filter(|_| !call.twists.gone_image)
        .and_then(|id| world.cloud.images.get(&id))
        .ok_or_else(|| not_found("image"))?;
    Ok(Reply::json(200, &json!({"image": image.json()})))
}

pub(super) fn pricing(_: &mut World, _: &Call) -> Answer {
    Ok(Reply::json(200, &catalog::pricing()))
}

/// Several actions by their ids; an unknown one is left out.
pub(super) fn actions(world: &mut World, call: &Call) -> Answer {
    let ids = call.all("id");
    if ids.is_empty() {
        return Err(invalid("id", "is required"));
    }
    let all: Vec<Value> = ids
        .iter()
        .filter_map(|id| world.cloud.actions.get(&id.parse().ok()?))
        .map(|action| world.action_json(action))
        .collect();
    // Not paged, and without `meta`, by the description.
    Ok(Reply::json(200, &json!({"actions": all})))
}

pub(super) fn action(world: &mut World, call: &Call) -> Answer {
    let action = call
        .id(0)
        .and_then(|id| world.cloud.actions.get(&id))
        .ok_or_else(|| not_found("action"))?;
    Ok(Reply::json(200, &json!({"action": world.action_json(action)})))
}

pub(super) fn server_actions(world: &mut World, call: &Call) -> Answer {
    list_actions(world, "server", None, call)
}

pub(super) fn firewall_actions(world: &mut World, call: &Call) -> Answer {
    list_actions(world, "firewall", None, call)
}

/// The addresses of a server with their kinds.
fn addresses(server: &Server) -> impl Iterator<Item = (&'static str, &Address)> {
    let four = server.ipv4.iter().map(|address| ("ipv4", address));
    four.chain(server.ipv6.iter().map(|address| ("ipv6", address)))
}

fn primary_ip_json(server: &Server, kind: &str, address: &Address) -> Value {
    json!({
        "id": address.id, "name": format!("primary_ip-{}", address.id), "labels": {}, "created": seconds(server.created),
        "blocked": false, "location": catalog::location(&server.location).map(catalog::Location::json),
        "ip": address.ip, "dns_ptr": [], "protection": {"delete": false}, "type": kind, "auto_delete": true,
        "assignee_type": "server", "assignee_id": server.id,
    })
}

/// Each belongs to a server and goes with it.
pub(super) fn primary_ips(world: &mut World, call: &Call) -> Answer {
    let selector = label_selector(call)?;
    let bare = selector.matches(&super::super::selector::Labels::new());
    let mut all: Vec<Value> = world
        .cloud
        .servers
        .values()
        .filter(|_| bare)
        .flat_map(|server| addresses(server).map(move |(kind, address)| (server, kind, address)))
        .filter(|(_, _, address)| call.query("ip").is_none_or(|ip| ip == address.ip))
        .filter(|(_, _, address)| {
            call.query("name")
                .is_none_or(|name| name == format!("primary_ip-{}", address.id))
        })
        .map(|(server, kind, address)| primary_ip_json(server, kind, address))
        .collect();
    sort(&mut all, call, &["id", "created"])?;
    listing("primary_ips", all, call)
}

pub(super) fn primary_ip(world: &mut World, call: &Call) -> Answer {
    let id = call.id(0);
    world
        .cloud
        .servers
        .values()
        .flat_map(|server| addresses(server).map(move |(kind, address)| (server, kind, address)))
        .find(|(_, _, address)| Some(address.id) == id)
        .map(|(server, kind, address)| {
            Reply::json(
                200,
                &json!({"primary_ip": primary_ip_json(server, kind, address)}),
            )
        })
        .ok_or_else(|| not_found("primary_ip"))
}

pub(super) fn datacenters(_: &mut World, _: &Call) -> Answer {
    Err(error(
        410,
        "deprecated_api_endpoint",
        "API functionality was removed",
        json!({"announcement": "https://docs.hetzner.cloud/changelog"}),
    ))
}
