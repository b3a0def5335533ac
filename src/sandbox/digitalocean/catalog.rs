//! What is sold and what can be booted: sizes, regions, images, snapshots.

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::{World, ocean_catalog},
};
use super::{invalid, is_shown, listing, not_found};

/// A size by its slug, with the regions where it is to be had now.
pub(super) fn size_json(world: &World, slug: &str) -> Value {
    let size = ocean_catalog::size(slug);
    size.map_or(Value::Null, |size| {
        size.json(|region| world.cloud.available(slug, region))
    })
}

/// A region by its slug, with the sizes that are to be had there now.
pub(super) fn region_json(world: &World, slug: &str) -> Value {
    let region = ocean_catalog::region(slug);
    region.map_or(Value::Null, |region| {
        region.json(|size| world.cloud.available(size, slug))
    })
}

/// An image by its id, with its tags.
pub(super) fn image_json(world: &World, id: u64) -> Value {
    let image = world.ocean.image(&id.to_string());
    image.map_or(Value::Null, |image| image.json(&world.ocean.tags_of_image(id)))
}

pub(super) fn sizes(world: &mut World, call: &Call) -> Answer {
    let all = ocean_catalog::SIZES.iter();
    let all = all.map(|size| size_json(world, size.slug)).collect();
    listing("sizes", all, call)
}

pub(super) fn regions(world: &mut World, call: &Call) -> Answer {
    let all = ocean_catalog::REGIONS.iter();
    let all = all.map(|region| region_json(world, region.slug)).collect();
    listing("regions", all, call)
}

/// The vendor's images and the snapshots; `type`, `private` and `tag_name` narrow it down.
pub(super) fn images(world: &mut World, call: &Call) -> Answer {
    let private = call.query("private") == Some("true");
    let kind = call.query("type");
    let tag = call.query("tag_name");
    let all = ocean_catalog::images()
        .iter()
        .chain(world.ocean.snapshots.values())
        .filter(|_| !call.twists.gone_image)
        .filter(|image| !(private && image.is_public()))
        .filter(|image| match kind {
            None => true,
            Some("distribution") => image.is_public(),
            // There are no applications.
            Some(_) => false,
        })
        .filter(|image| {
            let bears = |tag| {
                let bearing = world.ocean.tags.get(tag);
                bearing.is_some_and(|ids| ids.contains(&image.id))
            };
            tag.is_none_or(bears)
        })
        .filter(|image| is_shown(image.created, world, call))
        .map(|image| image_json(world, image.id))
        .collect();
    listing("images", all, call)
}

pub(super) fn image(world: &mut World, call: &Call) -> Answer {
    let image = world.ocean.image(call.param(0));
    let image = image.filter(|_| !call.twists.gone_image).ok_or_else(not_found)?;
    Ok(Reply::json(200, &json!({"image": image_json(world, image.id)})))
}

/// A snapshot of the project's own.
fn own(world: &World, call: &Call) -> Result<u64, Reply> {
    call.id(0)
        .filter(|id| world.ocean.snapshots.contains_key(id))
        .ok_or_else(not_found)
}

pub(super) fn update_image(world: &mut World, call: &Call) -> Answer {
    let id = own(world, call)?;
    let image = world.ocean.snapshots.get_mut(&id).ok_or_else(not_found)?;
    if let Some(name) = call.text("name") {
        if name.is_empty() {
            return Err(invalid("Name can't be blank"));
        }
        name.clone_into(&mut image.name);
    }
    if let Some(description) = call.text("description") {
        description.clone_into(&mut image.description);
    }
    Ok(Reply::json(200, &json!({"image": image_json(world, id)})))
}

fn remove(world: &mut World, id: u64) {
    world.ocean.snapshots.remove(&id);
    for bearing in world.ocean.tags.values_mut() {
        bearing.remove(&id);
    }
}

pub(super) fn delete_image(world: &mut World, call: &Call) -> Answer {
    let id = own(world, call)?;
    remove(world, id);
    Ok(Reply::empty(204))
}

pub(super) fn snapshots(world: &mut World, call: &Call) -> Answer {
    let all = world
        .ocean
        .snapshots
        .values()
        // Volumes have none here.
        .filter(|_| call.query("resource_type") != Some("volume"))
        .filter(|image| is_shown(image.created, world, call))
        .map(|image| image.snapshot_json(&world.ocean.tags_of_image(image.id)))
        .collect();
    listing("snapshots", all, call)
}

pub(super) fn snapshot(world: &mut World, call: &Call) -> Answer {
    let id = own(world, call)?;
    let image = world.ocean.snapshots.get(&id).ok_or_else(not_found)?;
    let body = image.snapshot_json(&world.ocean.tags_of_image(id));
    Ok(Reply::json(200, &json!({ "snapshot": body })))
}

pub(super) fn delete_snapshot(world: &mut World, call: &Call) -> Answer {
    let id = own(world, call)?;
    remove(world, id);
    Ok(Reply::empty(204))
}
