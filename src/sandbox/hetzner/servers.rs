//! Servers: create, list, read, change, delete.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::super::{
    api::{Answer, Call, Reply},
    selector::{Selector, valid_hostname},
    world::{World, catalog, cloud::Server, network::written, seconds},
};
use super::{
    Page, error, invalid, label_selector, labels, not_found, placement_groups, required_name, unique,
};

/// A server as the API shows it. What is long and the same for many is encoded once per answer.
#[derive(Serialize)]
struct Body<'a> {
    id: u64,
    name: &'a str,
    status: &'static str,
    created: String,
    public_net: Value,
    private_net: Vec<Value>,
    server_type: &'a RawValue,
    location: &'a RawValue,
    image: Option<&'a RawValue>,
    iso: Option<()>,
    rescue_enabled: bool,
    locked: bool,
    backup_window: Option<()>,
    outgoing_traffic: Option<u64>,
    ingoing_traffic: Option<u64>,
    included_traffic: u64,
    protection: Protection,
    labels: &'a super::super::selector::Labels,
    volumes: [(); 0],
    load_balancers: [(); 0],
    primary_disk_size: u32,
    placement_group: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Protection {
    delete: bool,
    rebuild: bool,
}

/// The encoded parts that servers share.
#[derive(Default)]
struct Parts(HashMap<String, Box<RawValue>>);

impl Parts {
    fn collect(world: &World, servers: &[&Server]) -> Self {
        let mut parts = Self::default();
        for server in servers {
            parts.add(&server.kind, || {
                catalog::server_type(&server.kind)
                    .map(|kind| kind.json(|place| world.cloud.available(kind.name, place)))
            });
            parts.add(&server.location, || {
                catalog::location(&server.location).map(catalog::Location::json)
            });
            if let Some(id) = server.placement_group {
                let group = world.cloud.placement_groups.get(&id);
                parts.add(&group_key(id), || group.map(placement_groups::body));
            }
            if let Some(id) = server.image {
                parts.add(&id.to_string(), || {
                    world.cloud.images.get(&id).map(catalog::Image::json)
                });
            }
        }
        parts
    }

    fn add(&mut self, key: &str, make: impl FnOnce() -> Option<Value>) {
        if !self.0.contains_key(key)
            && let Ok(raw) = serde_json::value::to_raw_value(&make())
        {
            self.0.insert(key.to_owned(), raw);
        }
    }

    fn get(&self, key: &str) -> &RawValue {
        self.0.get(key).map_or(RawValue::NULL, |raw| raw)
    }
}

fn group_key(group: u64) -> String {
    format!("group {group}")
}

/// Networks that a server is attached to: nothing before it is initialized.
fn private_net(server: &Server, now: Timestamp) -> Vec<Value> {
    let attached = server.networks.iter().filter(|_| now >= server.initialized);
    attached
        .map(|(network, address)| {
            json!({
                "network": network, "ip": written(*address), "alias_ips": [],
                "mac_address": mac_address(server.id, *network),
            })
        })
        .collect()
}

fn mac_address(server: u64, network: u64) -> String {
    let [.., a, b, c] = (server ^ (network << 12)).to_be_bytes();
    format!("86:00:00:{a:02x}:{b:02x}:{c:02x}")
}

fn body<'a>(server: &'a Server, parts: &'a Parts, now: Timestamp) -> Body<'a> {
    let kind = catalog::server_type(&server.kind);
    Body {
        id: server.id,
        name: &server.name,
        status: server.status(now),
        created: seconds(server.created),
        public_net: json!({
            "ipv4": server.ipv4.as_ref().map(|four| json!({
                "id": four.id, "ip": four.ip, "blocked": false, "dns_ptr": format!("static.{}.clients.example", four.ip),
            })),
            "ipv6": server.ipv6.as_ref().map(|six| json!({"id": six.id, "ip": six.ip, "blocked": false, "dns_ptr": []})),
            "floating_ips": [],
            "firewalls": server.firewalls.iter().map(|id| json!({"id": id, "status": "applied"})).collect::<Vec<_>>(),
        }),
        private_net: private_net(server, now),
        server_type: parts.get(&server.kind),
        location: parts.get(&server.location),
        image: server.image.map(|id| parts.get(&id.to_string())),
        iso: None,
        rescue_enabled: false,
        locked: now < server.initialized,
        backup_window: None,
        outgoing_traffic: Some(0),
        ingoing_traffic: Some(0),
        included_traffic: 21_990_232_555_520,
        protection: Protection {
            delete: server.protected,
            rebuild: server.protected,
        },
        labels: &server.labels,
        volumes: [],
        load_balancers: [],
        primary_disk_size: kind.map_or(40, |kind| kind.disk),
        placement_group: server.placement_group.map(|id| parts.get(&group_key(id))),
    }
}

fn answer_one(world: &World, id: u64) -> Answer {
    #[derive(Serialize)]
    struct One<'a> {
        server: Body<'a>,
    }
    let server = world.cloud.servers.get(&id).ok_or_else(|| not_found("server"))?;
    let parts = Parts::collect(world, &[server]);
    Ok(Reply::json(
        200,
        &One {
            server: body(server, &parts, world.now),
        },
    ))
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    #[derive(Serialize)]
    struct Listing<'a> {
        servers: Vec<Body<'a>>,
        meta: Value,
    }
    let page = Page::of(call)?;
    let selector = label_selector(call)?;
    let (ids, old) = match call.twists.as_of(world.now) {
        Some(then) => stale(world, &selector, call, then),
        None => (picked(world, &selector, call)?, Vec::new()),
    };
    let total = ids.len();
    let ids = &ids[page.start().min(total)..];
    let servers: Vec<&Server> = ids
        .iter()
        .take(usize::try_from(page.per_page).unwrap_or(usize::MAX))
        .filter_map(|id| {
            world
                .cloud
                .servers
                .get(id)
                .or_else(|| old.iter().find(|server| server.id == *id))
        })
        .collect();
    let parts = Parts::collect(world, &servers);
    let listing = Listing {
        servers: servers
            .iter()
            .map(|server| body(server, &parts, world.now))
            .collect(),
        meta: page.meta(total, call),
    };
    Ok(Reply::json(200, &listing))
}

/// The ids that a list shows, in its order; kept for the next page of the same list.
fn picked(world: &mut World, selector: &Selector, call: &Call) -> Result<Arc<Vec<u64>>, Reply> {
    let statuses = call.all("status");
    let name = call.query("name");
    let mut key = String::new();
    for (field, value) in call
        .query
        .iter()
        .filter(|(field, _)| !matches!(field.as_str(), "page" | "per_page"))
    {
        key.extend([field.as_str(), "=", value.as_str(), "&"]);
    }
    if let Some((known, revision, ids)) = &world.cloud.last_list
        && *known == key
        && *revision == world.cloud.revision
        && statuses.is_empty()
    {
        return Ok(Arc::clone(ids));
    }
    let mut ids = match name {
        Some(name) => world.cloud.named(name).into_iter().collect(),
        None => world.cloud.select(selector),
    };
    let cloud = &world.cloud;
    if name.is_some() || !statuses.is_empty() {
        ids.retain(|id| {
            cloud.servers.get(id).is_some_and(|server| {
                selector.matches(&server.labels)
                    && (statuses.is_empty() || statuses.contains(&server.status(world.now)))
            })
        });
    }
    if call.query("sort").is_some() || call.query("sort[]").is_some() {
        let mut rows: Vec<Value> = ids
            .iter()
            .filter_map(|id| cloud.servers.get(id))
            .map(
                |server| json!({"id": server.id, "name": server.name, "created": server.created.to_string()}),
            )
            .collect();
        super::sort(&mut rows, call, &["id", "name", "created"])?;
        ids = rows.iter().filter_map(|row| row["id"].as_u64()).collect();
    }
    let ids = Arc::new(ids);
    world.cloud.last_list = Some((key, world.cloud.revision, Arc::clone(&ids)));
    Ok(ids)
}

/// The list as it was at `then`: what is younger is missing, what was deleted since is there.
fn stale(world: &World, selector: &Selector, call: &Call, then: Timestamp) -> (Arc<Vec<u64>>, Vec<Server>) {
    let fits = |server: &Server| {
        server.created <= then
            && selector.matches(&server.labels)
            && call.query("name").is_none_or(|name| name == server.name)
    };
    let old: Vec<Server> = world
        .cloud
        .graves
        .iter()
        .filter(|(died, server)| *died > then && fits(server))
        .map(|(_, server)| server.clone())
        .collect();
    let mut ids: Vec<u64> = world
        .cloud
        .servers
        .values()
        .filter(|server| fits(server))
        .map(|server| server.id)
        .collect();
    ids.extend(old.iter().map(|server| server.id));
    ids.sort_unstable();
    (Arc::new(ids), old)
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    answer_one(world, call.id(0).ok_or_else(|| not_found("server"))?)
}

pub(super) fn update(world: &mut World, call: &Call) -> Answer {
    let id = call
        .id(0)
        .filter(|id| world.cloud.servers.contains_key(id))
        .ok_or_else(|| not_found("server"))?;
    let labels = labels(&call.body)?;
    let name = match call.body.get("name").filter(|name| !name.is_null()) {
        Some(_) => Some(checked_name(world, &call.body, Some(id))?),
        None => None,
    };
    world.cloud.relabel(id, name, labels);
    answer_one(world, id)
}

/// A server's name: a hostname that no other server has.
pub(super) fn checked_name(world: &World, body: &Value, own: Option<u64>) -> Result<String, Reply> {
    let name = required_name(body)?;
    if !valid_hostname(name) {
        return Err(invalid("name", "must be a valid hostname"));
    }
    match world.cloud.named(name) {
        Some(other) if Some(other) != own => Err(unique("server name is already used", "name")),
        _ => Ok(name.to_owned()),
    }
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let id = call.id(0).ok_or_else(|| not_found("server"))?;
    let server = world.cloud.servers.get(&id).ok_or_else(|| not_found("server"))?;
    if server.protected {
        return Err(error(423, "protected", "server is delete protected", Value::Null));
    }
    world.destroy(id);
    let action = world.act("delete_server", &[("server", id)], call);
    Ok(Reply::json(200, &json!({"action": world.action_json(&action)})))
}

pub(super) fn locked() -> Reply {
    error(
        423,
        "locked",
        "server is locked: an action is running",
        Value::Null,
    )
}

/// The answer to a create.
pub(super) fn answer_created(
    world: &World,
    id: u64,
    action: &super::super::world::cloud::Action,
    next: &[super::super::world::cloud::Action],
    root_password: Option<String>,
) -> Answer {
    #[derive(Serialize)]
    struct Created<'a> {
        server: Body<'a>,
        action: Value,
        next_actions: Vec<Value>,
        root_password: Option<String>,
    }
    let server = world.cloud.servers.get(&id).ok_or_else(|| not_found("server"))?;
    let parts = Parts::collect(world, &[server]);
    let created = Created {
        server: body(server, &parts, world.now),
        action: world.action_json(action),
        next_actions: next.iter().map(|action| world.action_json(action)).collect(),
        root_password,
    };
    Ok(Reply::json(201, &created))
}
