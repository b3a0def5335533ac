//! Projects, the user and what the token may do.

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::{
        World,
        forge::{Project, User},
        millis,
    },
};
use super::{json as shape, listing, not_found, reader};

pub(super) fn user(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let created = world
        .forge
        .projects
        .values()
        .next()
        .map_or(world.now, |project| project.created);
    Ok(Reply::json(200, &shape::current_user(&user, created, call)))
}

pub(super) fn token(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    Ok(Reply::json(
        200,
        &json!({
            "id": user.id, "name": "sandbox", "revoked": false, "created_at": millis(world.now), "description": "",
            "scopes": user.scopes, "user_id": user.id, "last_used_at": millis(world.now), "active": true, "expires_at": null,
        }),
    ))
}

pub(super) fn version(world: &mut World, call: &Call) -> Answer {
    reader(world, call)?;
    Ok(Reply::json(
        200,
        &json!({
            "version": super::VERSION, "revision": "c401a659d0c",
            "kas": {"enabled": false, "externalUrl": "", "externalK8sProxyUrl": "", "version": ""},
            "enterprise": false,
        }),
    ))
}

/// The project of the call's path, if the user may see it.
pub(super) fn visible<'a>(world: &'a World, user: &User, wanted: &str) -> Result<&'a Project, Reply> {
    world
        .forge
        .project(wanted)
        .filter(|project| user.sees(&project.path))
        .ok_or_else(|| not_found("Project"))
}

fn page(world: &World, call: &Call, user: &User, fits: impl Fn(&Project) -> bool) -> Answer {
    let ids: Vec<u64> = world
        .forge
        .projects
        .values()
        .filter(|project| user.sees(&project.path) && fits(project))
        .filter(|project| {
            call.query("search")
                .is_none_or(|text| project.path.contains(text))
        })
        .map(|project| project.id)
        .collect();
    listing(call, ids, false, |id| {
        let project = world.forge.projects.get(&id)?;
        Some(shape::project(project, world.now, call))
    })
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let membership = call.query("membership") == Some("true");
    page(world, call, &user, |project| {
        !membership || user.is_member(&project.path)
    })
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let project = visible(world, &user, call.param(0))?;
    Ok(Reply::json(200, &shape::project(project, world.now, call)))
}

/// The group of the call's path, by id or full path.
pub(super) fn group(world: &World, wanted: &str) -> Result<u64, Reply> {
    world
        .forge
        .groups
        .iter()
        .find(|(id, path)| *path == wanted || id.to_string() == wanted)
        .map(|(id, _)| *id)
        .ok_or_else(|| not_found("Group"))
}

/// Whether the user sees a group: an administrator, and who is a member of one of its projects.
pub(super) fn sees_group(world: &World, user: &User, group: u64) -> bool {
    let mut below = world
        .forge
        .projects
        .values()
        .filter(|project| world.forge.is_below(project, group));
    user.admin || below.any(|project| user.is_member(&project.path))
}

pub(super) fn read_group(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let id = group(world, call.param(0))?;
    if !sees_group(world, &user, id) {
        return Err(not_found("Group"));
    }
    let path = world.forge.groups.get(&id).cloned().unwrap_or_default();
    Ok(Reply::json(200, &shape::group(world, id, &path, call)))
}

pub(super) fn of_group(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let group = group(world, call.param(0))?;
    let below = call.query("include_subgroups") == Some("true");
    page(world, call, &user, |project| {
        project.group == group || (below && world.forge.is_below(project, group))
    })
}

pub(super) fn of_runner(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let runner = super::runners::visible(world, &user, call)?;
    let ids: Vec<u64> = runner.projects.iter().copied().collect();
    listing(call, ids, false, |id| -> Option<Value> {
        let project = world.forge.projects.get(&id)?;
        Some(shape::project(project, world.now, call))
    })
}
