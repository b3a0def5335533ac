//! Droplets: list, read, delete.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::super::{
    api::{Answer, Call, Reply},
    world::{
        World,
        network::{Range, written},
        ocean::{Droplet, Vpc},
        ocean_catalog, seconds,
    },
};
use super::{Around, Page, catalog, not_found};

/// A droplet as the API shows it. What is long and the same for many is encoded once per answer.
#[derive(Serialize)]
struct Body<'a> {
    id: u64,
    name: &'a str,
    memory: u32,
    vcpus: u32,
    disk: u32,
    disk_info: Value,
    locked: bool,
    status: &'static str,
    kernel: Option<()>,
    created_at: String,
    features: Vec<&'static str>,
    backup_ids: [(); 0],
    next_backup_window: Option<()>,
    snapshot_ids: Vec<u64>,
    image: &'a RawValue,
    volume_ids: [(); 0],
    size: &'a RawValue,
    size_slug: &'a str,
    networks: Value,
    region: &'a RawValue,
    tags: &'a BTreeSet<String>,
    vpc_uuid: &'a str,
}

/// The encoded parts that droplets share.
#[derive(Default)]
struct Parts(HashMap<String, Box<RawValue>>);

impl Parts {
    fn collect(world: &World, droplets: &[&Droplet]) -> Self {
        let mut parts = Self::default();
        for droplet in droplets {
            parts.add(&droplet.size, || catalog::size_json(world, &droplet.size));
            parts.add(&droplet.region, || catalog::region_json(world, &droplet.region));
            parts.add(&droplet.image.to_string(), || {
                catalog::image_json(world, droplet.image)
            });
        }
        parts
    }

    fn add(&mut self, key: &str, make: impl FnOnce() -> Value) {
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

/// Its addresses: none before it is active.
fn networks(world: &World, droplet: &Droplet) -> Value {
    if world.now < droplet.active {
        return json!({"v4": [], "v6": []});
    }
    let range = world.ocean.vpcs.get(&droplet.vpc).and_then(Vpc::range);
    let mut four = vec![json!({
        "ip_address": written(droplet.private), "type": "private", "gateway": "nil",
        "netmask": range.map(Range::netmask),
    })];
    if let Some(public) = &droplet.ipv4 {
        let gateway = public.rsplit_once('.').map(|(network, _)| format!("{network}.1"));
        four.push(
            json!({"ip_address": public, "type": "public", "gateway": gateway, "netmask": "255.255.255.0"}),
        );
    }
    let six = droplet.ipv6.as_ref().map(|public| {
        let gateway = public
            .rsplit_once("::")
            .map(|(network, _)| format!("{network}::1"));
        json!({"ip_address": public, "type": "public", "gateway": gateway, "netmask": 64})
    });
    json!({"v4": four, "v6": six.into_iter().collect::<Vec<_>>()})
}

fn features(droplet: &Droplet) -> Vec<&'static str> {
    let all = [
        (true, "droplet_agent"),
        (droplet.ipv6.is_some(), "ipv6"),
        (droplet.monitoring, "monitoring"),
        (true, "private_networking"),
    ];
    all.into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect()
}

fn body<'a>(world: &World, droplet: &'a Droplet, parts: &'a Parts) -> Body<'a> {
    let size = ocean_catalog::size(&droplet.size);
    let disk = size.map_or(0, |size| size.disk);
    let snapshots = world.ocean.snapshots.values();
    Body {
        id: droplet.id,
        name: &droplet.name,
        memory: size.map_or(0, |size| size.memory),
        vcpus: size.map_or(0, |size| size.vcpus),
        disk,
        disk_info: ocean_catalog::disk_info(disk),
        locked: world.now < droplet.active,
        status: droplet.status(world.now),
        kernel: None,
        created_at: seconds(droplet.created),
        features: features(droplet),
        backup_ids: [],
        next_backup_window: None,
        snapshot_ids: snapshots
            .filter(|image| image.of == Some(droplet.id))
            .map(|image| image.id)
            .collect(),
        image: parts.get(&droplet.image.to_string()),
        volume_ids: [],
        size: parts.get(&droplet.size),
        size_slug: &droplet.size,
        networks: networks(world, droplet),
        region: parts.get(&droplet.region),
        tags: &droplet.tags,
        vpc_uuid: &droplet.vpc,
    }
}

/// The answer to a create: one droplet, or several.
pub(super) fn created(world: &World, ids: &[u64], one: bool, links: &[Value]) -> Reply {
    #[derive(Serialize)]
    struct Created<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        droplet: Option<Body<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        droplets: Option<Vec<Body<'a>>>,
        links: Value,
    }
    let droplets: Vec<&Droplet> = ids.iter().filter_map(|id| world.ocean.droplets.get(id)).collect();
    let parts = Parts::collect(world, &droplets);
    let mut all: Vec<Body<'_>> = droplets
        .iter()
        .map(|droplet| body(world, droplet, &parts))
        .collect();
    let links = json!({ "actions": links });
    let created = if one {
        Created {
            droplet: all.pop(),
            droplets: None,
            links,
        }
    } else {
        Created {
            droplet: None,
            droplets: Some(all),
            links,
        }
    };
    Reply::json(202, &created)
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    #[derive(Serialize)]
    struct Listing<'a> {
        droplets: Vec<Body<'a>>,
        #[serde(flatten)]
        around: Around,
    }
    let world = &*world;
    let page = Page::of(call)?;
    let (total, droplets) = match call.twists.as_of(world.now) {
        Some(then) => stale(world, call, &page, then),
        None => picked(world, call, &page),
    };
    let parts = Parts::collect(world, &droplets);
    let listing = Listing {
        droplets: droplets
            .iter()
            .map(|droplet| body(world, droplet, &parts))
            .collect(),
        around: page.around(total, call),
    };
    Ok(Reply::json(200, &listing))
}

fn fits(droplet: &Droplet, call: &Call) -> bool {
    call.query("tag_name")
        .is_none_or(|tag| droplet.tags.contains(tag))
        && call.query("name").is_none_or(|name| droplet.name == name)
        && call.query("type") != Some("gpus")
}

/// How many droplets a list has, and those of its page; by an index, so that a page costs no search.
fn picked<'a>(world: &'a World, call: &Call, page: &Page) -> (usize, Vec<&'a Droplet>) {
    let ocean = &world.ocean;
    let of_page = |ids: &mut dyn Iterator<Item = u64>| {
        ids.skip(page.start())
            .take(page.length())
            .filter_map(|id| ocean.droplets.get(&id))
            .collect()
    };
    if call.query("type") == Some("gpus") {
        return (0, Vec::new());
    }
    let empty = BTreeSet::new();
    match (call.query("tag_name"), call.query("name")) {
        (None, None) => (ocean.droplets.len(), of_page(&mut ocean.droplets.keys().copied())),
        (Some(tag), None) => {
            let ids = ocean.tagged(tag).unwrap_or(&empty);
            (ids.len(), of_page(&mut ids.iter().copied()))
        }
        (_, Some(name)) => {
            let ids = ocean.named(name).unwrap_or(&empty);
            let fitting: Vec<u64> = ids
                .iter()
                .copied()
                .filter(|id| ocean.droplets.get(id).is_some_and(|droplet| fits(droplet, call)))
                .collect();
            (fitting.len(), of_page(&mut fitting.iter().copied()))
        }
    }
}

/// The list as it was at `then`: what is younger is missing, what was deleted since is there.
fn stale<'a>(world: &'a World, call: &Call, page: &Page, then: Timestamp) -> (usize, Vec<&'a Droplet>) {
    let dead = world.ocean.graves.iter().filter(|(died, _)| *died > then);
    let mut all: Vec<&Droplet> = world
        .ocean
        .droplets
        .values()
        .chain(dead.map(|(_, droplet)| droplet))
        .filter(|droplet| droplet.created <= then && fits(droplet, call))
        .collect();
    all.sort_unstable_by_key(|droplet| droplet.id);
    let total = all.len();
    (
        total,
        all.into_iter().skip(page.start()).take(page.length()).collect(),
    )
}

pub(super) fn find<'a>(world: &'a World, call: &Call) -> Result<&'a Droplet, Reply> {
    call.id(0)
        .and_then(|id| world.ocean.droplets.get(&id))
        .ok_or_else(not_found)
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    #[derive(Serialize)]
    struct One<'a> {
        droplet: Body<'a>,
    }
    let world = &*world;
    let droplet = find(world, call)?;
    let parts = Parts::collect(world, &[droplet]);
    let one = One {
        droplet: body(world, droplet, &parts),
    };
    Ok(Reply::json(200, &one))
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let id = find(world, call)?.id;
    destroy(world, id);
    Ok(Reply::empty(204))
}

fn destroy(world: &mut World, id: u64) {
    super::actions::record(world, "destroy", id, false);
    world.destroy(id);
}

pub(super) fn delete_tagged(world: &mut World, call: &Call) -> Answer {
    let tag = call
        .query("tag_name")
        .filter(|tag| world.ocean.tags.contains_key(*tag))
        .ok_or_else(not_found)?;
    for id in world.ocean.tagged(tag).cloned().unwrap_or_default() {
        destroy(world, id);
    }
    Ok(Reply::empty(204))
}
