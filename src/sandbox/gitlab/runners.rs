//! Runners: list, create, pause, delete. Pausing a runner pauses every machine that uses its token.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::{
        World,
        forge::{Runner, RunnerKind, User},
    },
};
use super::{
    bad, forbidden, given, given_bool, given_list, json as shape, listing, not_found, projects, reader,
    writer,
};

/// GitLab's access levels of a Maintainer, who sees a group's runners, and of an Owner, who makes them.
const MAINTAINER: u32 = 40;
const OWNER: u32 = 50;

fn may_see(world: &World, user: &User, runner: &Runner) -> bool {
    let member_of = |id: &u64| {
        world
            .forge
            .projects
            .get(id)
            .is_some_and(|project| user.is_member(&project.path))
    };
    user.admin
        || runner.creator == user.id
        || runner.projects.iter().any(member_of)
        || runner.group.is_some_and(|group| {
            world
                .forge
                .projects
                .values()
                .any(|project| world.forge.is_below(project, group) && user.is_member(&project.path))
        })
}

/// The runner of the call's path, if the user may see it.
pub(super) fn visible<'a>(world: &'a World, user: &User, call: &Call) -> Result<&'a Runner, Reply> {
    let runner = call
        .id(0)
        .and_then(|id| world.forge.runners.get(&id))
        .ok_or_else(|| not_found("Runner"))?;
    if may_see(world, user, runner) {
        Ok(runner)
    } else {
        Err(message_no_access())
    }
}

fn message_no_access() -> Reply {
    super::message(403, "403 Forbidden - No access granted")
}

fn page(world: &World, call: &Call, fits: impl Fn(&Runner) -> bool) -> Answer {
    let as_of = call.twists.as_of(world.now);
    let tags = call.all("tag_list");
    let paused = given_bool(call, "paused")?;
    let mut wanted = Vec::new();
    for key in ["status", "scope", "type"] {
        match call.query(key) {
            Some(value) if !known(value) => return Err(bad(key, "does not have a valid value")),
            value => wanted.extend(value),
        }
    }
    let ids: Vec<u64> = world
        .forge
        .runners
        .values()
        .filter(|runner| fits(runner))
        .filter(|runner| as_of.is_none_or(|then| runner.created <= then))
        .filter(|runner| paused.is_none_or(|paused| paused == runner.paused))
        .filter(|runner| {
            tags.iter()
                .all(|tag| runner.tags.iter().any(|known| known == tag))
        })
        .filter(|runner| wanted.iter().all(|wanted| has(world, runner, wanted)))
        .map(|runner| runner.id)
        .collect();
    listing(call, ids, false, |id| {
        let runner = world.forge.runners.get(&id)?;
        Some(shape::runner(world, runner, call))
    })
}

fn known(wanted: &str) -> bool {
    [
        "specific",
        "shared",
        "instance_type",
        "group_type",
        "project_type",
        "active",
        "paused",
        "online",
        "offline",
        "never_contacted",
        "stale",
    ]
    .contains(&wanted)
}

fn has(world: &World, runner: &Runner, wanted: &str) -> bool {
    match wanted {
        "shared" => runner.kind == RunnerKind::Instance,
        "specific" => runner.kind != RunnerKind::Instance,
        "active" => !runner.paused,
        "paused" => runner.paused,
        kind if kind.ends_with("_type") => runner.kind.name() == kind,
        status => shape::runner_status(world, runner) == status,
    }
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let member = User { admin: false, ..user };
    page(world, call, |runner| may_see(world, &member, runner))
}

pub(super) fn all(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    if !user.admin {
        return Err(forbidden());
    }
    page(world, call, |_| true)
}

pub(super) fn of_project(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let project = projects::visible(world, &user, call.param(0))?;
    page(world, call, |runner| match runner.kind {
        RunnerKind::Instance => true,
        RunnerKind::Group => runner
            .group
            .is_some_and(|group| world.forge.is_below(project, group)),
        RunnerKind::Project => runner.projects.contains(&project.id),
    })
}

/// Lets a project's runner serve another project too.
pub(super) fn assign(world: &mut World, call: &Call) -> Answer {
    let user = writer(world, call, "manage_runner")?;
    let project = projects::visible(world, &user, call.param(0))?.id;
    let id = given(call, "runner_id")
        .ok_or_else(|| bad("runner_id", "is missing"))?
        .parse::<u64>()
        .map_err(|_| bad("runner_id", "is invalid"))?;
    let found = world.forge.runners.get(&id);
    let runner = found.ok_or_else(|| not_found("Runner"))?;
    if !may_see(world, &user, runner) {
        return Err(message_no_access());
    }
    if runner.kind != RunnerKind::Project || runner.locked {
        return Err(forbidden());
    }
    if runner.projects.contains(&project) {
        let why = "Runner is already assigned to the project";
        return Err(super::message(400, why));
    }
    if let Some(runner) = world.forge.runners.get_mut(&id) {
        runner.projects.insert(project);
    }
    world.wake_all();
    let found = world.forge.runners.get(&id);
    let runner = found.ok_or_else(|| not_found("Runner"))?;
    Ok(Reply::json(201, &shape::runner(world, runner, call)))
}

/// Takes a project's runner away from it; its last project is not left without a word.
pub(super) fn unassign(world: &mut World, call: &Call) -> Answer {
    let user = writer(world, call, "manage_runner")?;
    let project = projects::visible(world, &user, call.param(0))?.id;
    let found = call.id(1).and_then(|id| world.forge.runners.get_mut(&id));
    let runner = found
        .filter(|runner| runner.projects.contains(&project))
        .ok_or_else(|| not_found("Runner"))?;
    if runner.projects.len() == 1 {
        return Err(super::message(
            403,
            "403 Forbidden - Only one project associated with the runner. Please remove the runner instead",
        ));
    }
    runner.projects.remove(&project);
    Ok(Reply::empty(204))
}

pub(super) fn of_group(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let group = projects::group(world, call.param(0))?;
    if !projects::sees_group(world, &user, group) {
        return Err(not_found("Group"));
    }
    if !user.admin && user.level < MAINTAINER {
        return Err(forbidden());
    }
    page(world, call, |runner| {
        runner.kind == RunnerKind::Instance
            || runner
                .group
                .is_some_and(|of| world.forge.is_at_or_above(of, group))
    })
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let runner = visible(world, &user, call)?;
    Ok(Reply::json(200, &shape::runner_details(world, runner, call)))
}

pub(super) fn managers(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let runner = visible(world, &user, call)?;
    let ids: Vec<u64> = runner.managers.iter().copied().collect();
    listing(call, ids, false, |id| {
        let manager = world.forge.managers.get(&id)?;
        Some(shape::manager(world, manager))
    })
}

pub(super) fn update(world: &mut World, call: &Call) -> Answer {
    let user = writer(world, call, "manage_runner")?;
    let id = visible(world, &user, call)?.id;
    let paused = match given_bool(call, "paused")? {
        Some(paused) => Some(paused),
        None => given_bool(call, "active")?.map(|active| !active),
    };
    let (locked, run_untagged) = (given_bool(call, "locked")?, given_bool(call, "run_untagged")?);
    let timeout = given(call, "maximum_timeout").map(|text| {
        text.parse::<i64>()
            .map_err(|_| bad("maximum_timeout", "is invalid"))
    });
    let timeout = timeout.transpose()?;
    let tags = given_list(call, "tag_list");
    let texts = ["description", "maintenance_note", "access_level"]
        .map(|key| given(call, key).map(std::borrow::Cow::into_owned));
    let runner = world
        .forge
        .runners
        .get_mut(&id)
        .ok_or_else(|| not_found("Runner"))?;
    if !run_untagged.unwrap_or(runner.run_untagged) && tags.as_ref().unwrap_or(&runner.tags).is_empty() {
        return Err(Reply::json(
            400,
            &json!({"message": {"tags_list": ["can not be empty when runner is not allowed to pick untagged jobs"]}}),
        ));
    }
    let [description, note, level] = texts;
    runner.paused = paused.unwrap_or(runner.paused);
    runner.locked = locked.unwrap_or(runner.locked);
    runner.run_untagged = run_untagged.unwrap_or(runner.run_untagged);
    runner.maximum_timeout = timeout.or(runner.maximum_timeout);
    if let Some(tags) = tags {
        runner.tags = tags;
    }
    if let Some(description) = description {
        runner.description = description;
    }
    runner.maintenance_note = note.or(runner.maintenance_note.take());
    if let Some(level) = level {
        runner.access_level = level;
    }
    world.wake_all();
    let runner = world.forge.runners.get(&id).ok_or_else(|| not_found("Runner"))?;
    Ok(Reply::json(200, &shape::runner_details(world, runner, call)))
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let user = writer(world, call, "manage_runner")?;
    let runner = visible(world, &user, call)?;
    // Other projects would lose it too: only an administrator may do that at once.
    if !user.admin && runner.projects.len() > 1 {
        return Err(super::message(
            403,
            "403 Forbidden - Runner associated with more than one project",
        ));
    }
    let id = runner.id;
    world.remove_runner(id);
    Ok(Reply::empty(204))
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let user = writer(world, call, "create_runner")?;
    let kind = match given(call, "runner_type").as_deref() {
        Some("instance_type") => RunnerKind::Instance,
        Some("group_type") => RunnerKind::Group,
        Some("project_type") => RunnerKind::Project,
        Some(_) => return Err(bad("runner_type", "does not have a valid value")),
        None => return Err(bad("runner_type", "is missing")),
    };
    let (project, group) = scope(world, &user, kind, call)?;
    let tags = given_list(call, "tag_list").unwrap_or_default();
    let run_untagged = given_bool(call, "run_untagged")?.unwrap_or(true);
    if tags.is_empty() && !run_untagged {
        return Err(super::message(
            400,
            "Tags list can not be empty when runner is not allowed to pick untagged jobs",
        ));
    }
    let (paused, locked) = (
        given_bool(call, "paused")?.unwrap_or(false),
        given_bool(call, "locked")?.unwrap_or(false),
    );
    let text = |key: &str| given(call, key).map(std::borrow::Cow::into_owned);
    let timeout = text("maximum_timeout").and_then(|text| text.parse().ok());
    let now = world.now;
    let seed = world.seed;
    let id = world.forge.add_runner(seed, |id, token| Runner {
        id,
        token,
        kind,
        projects: project.into_iter().collect::<BTreeSet<_>>(),
        group,
        description: text("description").unwrap_or_default(),
        paused,
        locked,
        run_untagged,
        tags,
        access_level: text("access_level").unwrap_or_else(|| "not_protected".to_owned()),
        maximum_timeout: timeout,
        maintenance_note: text("maintenance_note"),
        creator: user.id,
        created: now,
        contacted: None,
        managers: BTreeSet::new(),
    });
    let token = world.forge.runners.get(&id).map(|runner| runner.token.clone());
    Ok(Reply::json(
        201,
        &json!({"id": id, "token": token, "token_expires_at": Value::Null}),
    ))
}

/// What the new runner is to serve.
fn scope(
    world: &World,
    user: &User,
    kind: RunnerKind,
    call: &Call,
) -> Result<(Option<u64>, Option<u64>), Reply> {
    match kind {
        RunnerKind::Instance if user.admin => Ok((None, None)),
        RunnerKind::Instance => Err(forbidden()),
        RunnerKind::Group => {
            let wanted = given(call, "group_id").ok_or_else(|| bad("group_id", "is missing"))?;
            let group = projects::group(world, &wanted)?;
            if !user.admin && (user.level < OWNER || !projects::sees_group(world, user, group)) {
                return Err(forbidden());
            }
            Ok((None, Some(group)))
        }
        RunnerKind::Project => {
            let wanted = given(call, "project_id").ok_or_else(|| bad("project_id", "is missing"))?;
            Ok((Some(projects::visible(world, user, &wanted)?.id), None))
        }
    }
}

pub(super) fn reset_token(world: &mut World, call: &Call) -> Answer {
    let user = writer(world, call, "manage_runner")?;
    let id = visible(world, &user, call)?.id;
    let token = world.renew_token(id).ok_or_else(|| not_found("Runner"))?;
    Ok(Reply::json(
        201,
        &json!({"token": token, "token_expires_at": null}),
    ))
}
