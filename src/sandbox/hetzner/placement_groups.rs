//! Placement groups: their servers stand on different hosts.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::{
        World,
        network::{GROUP_MAX, PlacementGroup},
        seconds,
    },
};
use super::{error, invalid, label_selector, labels, listing, not_found, required_name, sort, unique};

/// Groups per project, by the vendor's overview of placement groups.
const GROUPS_MAX: usize = 50;

pub(super) fn body(group: &PlacementGroup) -> Value {
    json!({
        "id": group.id, "name": group.name, "labels": group.labels, "type": "spread",
        "created": seconds(group.created), "servers": group.servers,
    })
}

/// A group by its id, as a refusal where there is no room in it.
///
/// The code is the API's, though its description does not have it: hetznercloud/terraform-provider-hcloud#1170. Its
/// status is not told there.
pub(super) fn with_room(world: &World, id: u64, field: &str) -> Result<u64, Reply> {
    let group = world
        .cloud
        .placement_groups
        .get(&id)
        .ok_or_else(|| invalid(field, "placement group not found"))?;
    if group.servers.len() >= GROUP_MAX {
        return Err(error(
            422,
            "placement_group_member_limit_reached",
            format!("placement group with ID {id} contains already {GROUP_MAX} servers"),
            Value::Null,
        ));
    }
    Ok(id)
}

fn get<'a>(world: &'a World, call: &Call) -> Result<&'a PlacementGroup, Reply> {
    call.id(0)
        .and_then(|id| world.cloud.placement_groups.get(&id))
        .ok_or_else(|| not_found("placement_group"))
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let selector = label_selector(call)?;
    let as_of = call.twists.as_of(world.now);
    let types = call.all("type");
    let mut all: Vec<Value> = world
        .cloud
        .placement_groups
        .values()
        .filter(|group| selector.matches(&group.labels))
        .filter(|group| as_of.is_none_or(|then| group.created <= then))
        .filter(|group| call.query("name").is_none_or(|name| name == group.name))
        .filter(|_| types.is_empty() || types.contains(&"spread"))
        .map(body)
        .collect();
    sort(&mut all, call, &["id", "name", "created"])?;
    listing("placement_groups", all, call)
}

fn check_unique(world: &World, name: &str, own: u64) -> Result<(), Reply> {
    let mut others = world.cloud.placement_groups.values();
    if others.any(|group| group.id != own && group.name == name) {
        return Err(unique("placement group name is already used", "name"));
    }
    Ok(())
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let name = required_name(&call.body)?.to_owned();
    let labels = labels(&call.body)?.unwrap_or_default();
    if call.text("type") != Some("spread") {
        return Err(invalid("type", "must be spread"));
    }
    check_unique(world, &name, 0)?;
    if world.cloud.placement_groups.len() >= GROUPS_MAX {
        return Err(error(
            403,
            "resource_limit_exceeded",
            "placement group limit exceeded",
            json!({"limits": [{"name": "placement_group_limit"}]}),
        ));
    }
    let group = PlacementGroup {
        id: world.cloud.fresh(),
        name,
        labels,
        created: world.now,
        servers: BTreeSet::new(),
    };
    let answer = Reply::json(201, &json!({"placement_group": body(&group), "action": null}));
    world.cloud.placement_groups.insert(group.id, group);
    Ok(answer)
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    Ok(Reply::json(
        200,
        &json!({"placement_group": body(get(world, call)?)}),
    ))
}

pub(super) fn update(world: &mut World, call: &Call) -> Answer {
    let id = get(world, call)?.id;
    let labels = labels(&call.body)?;
    let name = call.text("name").map(str::to_owned);
    if let Some(name) = &name {
        check_unique(world, name, id)?;
    }
    if let Some(group) = world.cloud.placement_groups.get_mut(&id) {
        group.name = name.unwrap_or_else(|| group.name.clone());
        group.labels = labels.unwrap_or_else(|| group.labels.clone());
    }
    read(world, call)
}

/// Its servers stay, in no group.
pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let id = get(world, call)?.id;
    world.cloud.remove_group(id);
    Ok(Reply::empty(204))
}
