//! What a project protects: branches and tags, by name or by a pattern with `*`.

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call},
    world::{World, forge::Project},
};
use super::{listing, projects, reader};

pub(super) fn branches(world: &mut World, call: &Call) -> Answer {
    names(
        world,
        call,
        |project| &project.protected_branches,
        |id, name| {
            let level = json!([{"id": id, "access_level": 40, "access_level_description": "Maintainers"}]);
            json!({
                "id": id, "name": name, "push_access_levels": level, "merge_access_levels": level, "allow_force_push": false,
            })
        },
    )
}

pub(super) fn tags(world: &mut World, call: &Call) -> Answer {
    names(
        world,
        call,
        |project| &project.protected_tags,
        |id, name| {
            let level = json!([{"id": id, "access_level": 40, "access_level_description": "Maintainers"}]);
            json!({"name": name, "create_access_levels": level})
        },
    )
}

/// A page of them, in the order of their names.
fn names(
    world: &World,
    call: &Call,
    of: fn(&Project) -> &Vec<String>,
    shape: impl Fn(u64, &str) -> Value,
) -> Answer {
    let user = reader(world, call)?;
    let names = of(projects::visible(world, &user, call.param(0))?);
    let ids = (1..=names.len() as u64).collect();
    listing(call, ids, true, |id| {
        let at = usize::try_from(id).ok()?.checked_sub(1)?;
        Some(shape(id, names.get(at)?))
    })
}
