//! Tags, and what bears them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::World,
};
use super::{error, listing, not_found};

/// The longest name of a tag.
const NAME_MAX: usize = 255;

/// Letters, digits, `:`, `-` and `_`.
pub(super) fn is_valid(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_'))
}

pub(super) fn problem(name: &str) -> String {
    format!("Error validating resource tag: \"tag-name {name:?} contains invalid characters\"")
}

/// How many bear it, by kind, and the last of them.
fn body(world: &World, name: &str, call: &Call) -> Value {
    let uri =
        |kind: &str, id: Option<u64>| id.map(|id| format!("{}/digitalocean/v2/{kind}/{id}", call.origin));
    let counted = |count: usize, last: Option<String>| match last {
        Some(last) => json!({"count": count, "last_tagged_uri": last}),
        None => json!({ "count": count }),
    };
    let droplets = world.ocean.tagged(name);
    let images = world.ocean.tags.get(name);
    let of_droplets = droplets.map_or(0, BTreeSet::len);
    let of_images = images.map_or(0, BTreeSet::len);
    let droplet = uri("droplets", droplets.and_then(|ids| ids.last().copied()));
    let image = uri("images", images.and_then(|ids| ids.last().copied()));
    let mut all = counted(of_droplets + of_images, droplet.clone().or_else(|| image.clone()));
    all["droplets"] = counted(of_droplets, droplet);
    all["images"] = counted(of_images, image);
    for kind in ["volumes", "volume_snapshots", "databases"] {
        all[kind] = counted(0, None);
    }
    json!({"name": name, "resources": all})
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let all = world.ocean.tags.keys();
    let all = all.map(|name| body(world, name, call)).collect();
    listing("tags", all, call)
}

/// 201, also where there is one of this name.
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let name = call.text("name").unwrap_or_default();
    if !is_valid(name) {
        let problem = problem(name);
        let cause = format!("rpc error: code = InvalidArgument desc = {problem}");
        return Err(Reply::json(
            400,
            &json!({"error": problem, "messages": null, "root_causes": [cause]}),
        ));
    }
    let name = world.ocean.tag(name);
    Ok(Reply::json(201, &json!({"tag": body(world, &name, call)})))
}

fn find(world: &World, call: &Call) -> Result<String, Reply> {
    let name = call.param(0);
    if world.ocean.tags.contains_key(name) {
        Ok(name.to_owned())
    } else {
        Err(not_found())
    }
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    let name = find(world, call)?;
    Ok(Reply::json(200, &json!({"tag": body(world, &name, call)})))
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let name = find(world, call)?;
    world.ocean.remove_tag(&name);
    Ok(Reply::empty(204))
}

/// What a call tags.
enum Resource {
    Droplet(u64),
    Image(u64),
}

/// All resources of a body, each of which must exist.
fn resources(world: &World, call: &Call) -> Result<Vec<Resource>, Reply> {
    let given = call.body.get("resources").and_then(Value::as_array);
    let given = given.ok_or_else(|| error(400, "bad_request", "error parsing request body"))?;
    given
        .iter()
        .map(|resource| {
            let id = match resource.get("resource_id") {
                Some(Value::String(id)) => id.parse().ok(),
                Some(id) => id.as_u64(),
                None => None,
            };
            let found = match (resource["resource_type"].as_str(), id) {
                (Some("droplet"), Some(id)) if world.ocean.droplets.contains_key(&id) => {
                    Some(Resource::Droplet(id))
                }
                (Some("image"), Some(id)) if world.ocean.snapshots.contains_key(&id) => {
                    Some(Resource::Image(id))
                }
                _ => None,
            };
            found.ok_or_else(not_found)
        })
        .collect()
}

pub(super) fn tag(world: &mut World, call: &Call) -> Answer {
    let name = find(world, call)?;
    for resource in resources(world, call)? {
        match resource {
            Resource::Droplet(id) => world.ocean.change(id, |droplet| {
                droplet.tags.insert(name.clone());
            }),
            Resource::Image(id) => {
                world.ocean.tags.entry(name.clone()).or_default().insert(id);
            }
        }
    }
    Ok(Reply::empty(204))
}

pub(super) fn untag(world: &mut World, call: &Call) -> Answer {
    let name = find(world, call)?;
    for resource in resources(world, call)? {
        match resource {
            Resource::Droplet(id) => world.ocean.change(id, |droplet| {
                droplet.tags.remove(&name);
            }),
            Resource::Image(id) => {
                world.ocean.tags.entry(name.clone()).or_default().remove(&id);
            }
        }
    }
    Ok(Reply::empty(204))
}
