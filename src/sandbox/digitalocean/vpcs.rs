//! VPCs: private networks, each of one region and with one range.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::{World, network::Range, ocean::Vpc, ocean_catalog, seconds},
};
use super::{error, invalid, is_shown, listing, not_found};

/// The smallest and the largest range, by their prefixes.
const PREFIXES: std::ops::RangeInclusive<u32> = 16..=28;
/// The prefix of a range that nobody asked for.
const PREFIX: u32 = 20;
/// The longest description.
const DESCRIPTION_MAX: usize = 255;

fn body(vpc: &Vpc) -> Value {
    json!({
        "id": vpc.id, "urn": format!("do:vpc:{}", vpc.id), "name": vpc.name, "description": vpc.description,
        "region": vpc.region, "ip_range": vpc.ip_range, "default": vpc.default, "created_at": seconds(vpc.created),
    })
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let mut all: Vec<&Vpc> = world
        .ocean
        .vpcs
        .values()
        .filter(|vpc| is_shown(vpc.created, world, call))
        .collect();
    all.sort_by_key(|vpc| (vpc.created, &vpc.id));
    listing("vpcs", all.into_iter().map(body).collect(), call)
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

/// A name that no other VPC has.
fn name(world: &World, call: &Call, own: &str) -> Result<String, Reply> {
    let name = call.text("name").filter(|name| is_name(name));
    let name = name.ok_or_else(|| invalid("invalid name"))?;
    let mut others = world.ocean.vpcs.values().filter(|vpc| vpc.id != own);
    if others.any(|vpc| vpc.name == name) {
        return Err(error(409, "conflict", "a VPC with this name already exists"));
    }
    Ok(name.to_owned())
}

fn description(call: &Call) -> Result<String, Reply> {
    let description = call.text("description").unwrap_or_default();
    if description.len() > DESCRIPTION_MAX {
        return Err(invalid("description is too long (maximum is 255 characters)"));
    }
    Ok(description.to_owned())
}

fn range(world: &World, call: &Call) -> Result<String, Reply> {
    let Some(text) = call.text("ip_range").filter(|text| !text.is_empty()) else {
        return Ok(world.ocean.free_range(PREFIX));
    };
    let range = Range::parse(text)
        .filter(|range| PREFIXES.contains(&range.prefix()))
        .filter(|range| range.is_private())
        .ok_or_else(|| invalid("This IP range is not valid for a VPC network."))?;
    let mut others = world.ocean.vpcs.values().filter_map(Vpc::range);
    if others.any(|other| other.overlaps(range)) {
        return Err(invalid(
            "This range/size overlaps with another VPC network in your account.",
        ));
    }
    Ok(range.to_string())
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let name = name(world, call, "")?;
    let description = description(call)?;
    let region = call.text("region").and_then(ocean_catalog::region);
    let region = region.ok_or_else(|| invalid("invalid region"))?;
    let ip_range = range(world, call)?;
    let vpc = Vpc {
        id: world.ocean.uuid(world.seed),
        name,
        description,
        region: region.slug.to_owned(),
        ip_range,
        default: false,
        created: world.now,
        addresses: BTreeMap::new(),
    };
    let answer = Reply::json(201, &json!({"vpc": body(&vpc)}));
    world.ocean.vpcs.insert(vpc.id.clone(), vpc);
    Ok(answer)
}

fn find<'a>(world: &'a World, call: &Call) -> Result<&'a Vpc, Reply> {
    world.ocean.vpcs.get(call.param(0)).ok_or_else(not_found)
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    let vpc = find(world, call)?;
    Ok(Reply::json(200, &json!({"vpc": body(vpc)})))
}

/// What the body leaves out is emptied; the name is required.
pub(super) fn replace(world: &mut World, call: &Call) -> Answer {
    let id = find(world, call)?.id.clone();
    let name = name(world, call, &id)?;
    let description = description(call)?;
    change(world, call, &id, Some(name), Some(description))
}

pub(super) fn update(world: &mut World, call: &Call) -> Answer {
    let id = find(world, call)?.id.clone();
    let given = |key: &str| call.body.get(key).is_some();
    let name = given("name").then(|| name(world, call, &id)).transpose()?;
    let described = given("description").then(|| description(call)).transpose()?;
    change(world, call, &id, name, described)
}

fn change(
    world: &mut World,
    call: &Call,
    id: &str,
    name: Option<String>,
    described: Option<String>,
) -> Answer {
    let region = find(world, call)?.region.clone();
    if call.body.get("default").and_then(Value::as_bool) == Some(true) {
        for vpc in world.ocean.vpcs.values_mut() {
            if vpc.region == region {
                vpc.default = vpc.id == id;
            }
        }
    }
    let vpc = world.ocean.vpcs.get_mut(id).ok_or_else(not_found)?;
    if let Some(name) = name {
        vpc.name = name;
    }
    if let Some(described) = described {
        vpc.description = described;
    }
    Ok(Reply::json(200, &json!({"vpc": body(vpc)})))
}

/// The default of a region, and one that has members, stay.
pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let vpc = find(world, call)?;
    if vpc.default {
        return Err(error(403, "forbidden", "Can not delete default VPCs"));
    }
    if !vpc.addresses.is_empty() {
        return Err(error(403, "forbidden", "Can not delete VPC with members"));
    }
    let id = vpc.id.clone();
    world.ocean.vpcs.remove(&id);
    Ok(Reply::empty(204))
}

pub(super) fn members(world: &mut World, call: &Call) -> Answer {
    let vpc = find(world, call)?;
    let wanted = call.query("resource_type").unwrap_or("droplet");
    let all = vpc
        .addresses
        .values()
        .filter(|_| wanted == "droplet")
        .filter_map(|id| world.ocean.droplets.get(id))
        .map(|droplet| {
            json!({
                "name": droplet.name, "urn": format!("do:droplet:{}", droplet.id), "created_at": seconds(droplet.created),
            })
        })
        .collect();
    listing("members", all, call)
}
