//! How GitLab shows its things. Every field that the description requires is there.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use jiff::{SignedDuration, Timestamp};

use super::super::{
    api::Call,
    world::{
        World, add,
        forge::{Job, JobStatus, Manager, Project, Runner, RunnerKind, User},
        millis,
    },
};

/// A runner not heard of for this long is offline.
const OFFLINE_AFTER: SignedDuration = SignedDuration::from_hours(2);
/// A runner not heard of for this long is stale.
const STALE_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The version that the world's runners say they have.
const RUNNER_VERSION: &str = "18.6.0";

pub(super) fn base(call: &Call) -> String {
    format!("{}/gitlab", call.origin)
}

pub(super) fn user_basic(id: u64, username: &str, call: &Call) -> Value {
    json!({
        "id": id, "username": username, "public_email": "", "name": username, "state": "active", "locked": false,
        "avatar_url": format!("{}/uploads/-/system/user/avatar/{id}/avatar.png", base(call)),
        "web_url": format!("{}/{username}", base(call)),
    })
}

/// A user as in a job.
fn user(id: u64, username: &str, created: Timestamp, call: &Call) -> Value {
    let mut body = user_basic(id, username, call);
    let more = json!({
        "created_at": millis(created), "bio": "", "location": "", "linkedin": "", "twitter": "", "discord": "",
        "website_url": "", "github": "", "job_title": "", "pronouns": "", "organization": "", "bot": false,
        "work_information": "", "local_time": "",
    });
    merge(&mut body, more);
    body
}

/// The token's own user, as `GET /user` shows it.
pub(super) fn current_user(user_is: &User, created: Timestamp, call: &Call) -> Value {
    let mut body = user(user_is.id, &user_is.username, created, call);
    merge(
        &mut body,
        json!({
            "email": format!("{}@example.com", user_is.username), "commit_email": format!("{}@example.com", user_is.username),
            "is_admin": user_is.admin, "confirmed_at": millis(created), "two_factor_enabled": true, "external": false,
            "can_create_group": true, "can_create_project": true, "identities": [], "projects_limit": 100_000,
            "last_sign_in_at": millis(created), "current_sign_in_at": millis(created), "private_profile": false,
        }),
    );
    // Whether somebody is an administrator is shown to administrators only.
    if !user_is.admin
        && let Some(body) = body.as_object_mut()
    {
        body.remove("is_admin");
    }
    body
}

pub(super) fn merge(body: &mut Value, more: Value) {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
}

pub(super) fn project_identity(project: &Project) -> Value {
    let (group, name) = project.path.rsplit_once('/').unwrap_or(("root", &project.path));
    json!({
        "id": project.id, "description": "", "name": name, "name_with_namespace": format!("{group} / {name}"), "path": name,
        "path_with_namespace": project.path, "created_at": millis(project.created),
    })
}

pub(super) fn project(project: &Project, now: Timestamp, call: &Call) -> Value {
    let (group, _) = project.path.rsplit_once('/').unwrap_or(("root", &project.path));
    let address = format!("{}/{}", base(call), project.path);
    let mut body = project_identity(project);
    merge(
        &mut body,
        json!({
            "default_branch": "main", "tag_list": [], "topics": [], "ssh_url_to_repo": format!("git@127.0.0.1:{}.git", project.path),
            "http_url_to_repo": format!("{address}.git"), "web_url": address, "readme_url": format!("{address}/-/blob/main/README.md"),
            "forks_count": 0, "avatar_url": null, "star_count": 0, "last_activity_at": millis(now), "visibility": "private",
            "namespace": {
                "id": project.group, "name": group, "path": group.rsplit('/').next(), "kind": "group", "full_path": group,
                "parent_id": null, "avatar_url": null, "web_url": format!("{}/groups/{group}", base(call)),
            },
            "archived": false, "jobs_enabled": true, "builds_access_level": "enabled", "shared_runners_enabled": true,
            "group_runners_enabled": true, "empty_repo": false, "creator_id": 1,
        }),
    );
    body
}

pub(super) fn group(world: &World, id: u64, path: &str, call: &Call) -> Value {
    let name = path.rsplit('/').next();
    let above = path.rsplit_once('/').map(|(above, _)| above);
    let parent = above.and_then(|above| world.forge.groups.iter().find(|(_, known)| *known == above));
    json!({
        "id": id, "web_url": format!("{}/groups/{path}", base(call)), "name": name, "path": name, "description": "",
        "visibility": "private", "full_name": path.replace('/', " / "), "full_path": path,
        "parent_id": parent.map(|(id, _)| id), "avatar_url": null, "created_at": millis(world.now),
    })
}

/// `online`, `offline`, `stale` or `never_contacted`.
pub(super) fn contact_status(
    contacted: Option<Timestamp>,
    created: Timestamp,
    now: Timestamp,
) -> &'static str {
    match contacted {
        None if now > add(created, STALE_AFTER) => "stale",
        None => "never_contacted",
        Some(at) if now > add(at, STALE_AFTER) => "stale",
        Some(at) if now > add(at, OFFLINE_AFTER) => "offline",
        Some(_) => "online",
    }
}

pub(super) fn runner_status(world: &World, runner: &Runner) -> &'static str {
    let contacted = world.forge.contacted_at(runner, world.now, world.settings.poll);
    contact_status(contacted, runner.created, world.now)
}

fn busy(world: &World, runner: &Runner) -> bool {
    runner.managers.iter().any(|id| {
        world
            .forge
            .managers
            .get(id)
            .is_some_and(|manager| !manager.running.is_empty())
    })
}

fn execution(busy: bool) -> &'static str {
    if busy { "active" } else { "idle" }
}

pub(super) fn runner(world: &World, runner: &Runner, call: &Call) -> Value {
    let status = runner_status(world, runner);
    let address = runner
        .managers
        .last()
        .and_then(|id| world.forge.managers.get(id))
        .map_or("", |manager| manager.address.as_str());
    json!({
        "id": runner.id, "description": runner.description, "ip_address": address, "active": !runner.paused, "paused": runner.paused,
        "is_shared": runner.kind == RunnerKind::Instance, "runner_type": runner.kind.name(), "name": "gitlab-runner",
        "online": status == "online", "created_by": user_basic(runner.creator, &username(world, runner.creator), call),
        "created_at": millis(runner.created), "status": status, "job_execution_status": execution(busy(world, runner)),
    })
}

fn username(world: &World, id: u64) -> String {
    let known = world.forge.users.values().find(|user| user.id == id);
    known.map_or_else(|| "root".to_owned(), |user| user.username.clone())
}

pub(super) fn runner_details(world: &World, of: &Runner, call: &Call) -> Value {
    let contacted = world.forge.contacted_at(of, world.now, world.settings.poll);
    let known = contacted.is_some();
    let projects: Vec<Value> = of
        .projects
        .iter()
        .filter_map(|id| world.forge.projects.get(id))
        .map(|found| project(found, world.now, call))
        .collect();
    let groups: Vec<Value> = of
        .group
        .and_then(|id| Some((id, world.forge.groups.get(&id)?)))
        .map(|(id, path)| json!({"id": id, "web_url": format!("{}/groups/{path}", base(call)), "name": path}))
        .into_iter()
        .collect();
    let mut body = runner(world, of, call);
    merge(
        &mut body,
        json!({
            "tag_list": of.tags, "run_untagged": of.run_untagged, "locked": of.locked, "maximum_timeout": of.maximum_timeout,
            "access_level": of.access_level, "version": known.then_some(RUNNER_VERSION), "revision": known.then_some("8b4f083c"),
            "platform": known.then_some("linux"), "architecture": known.then_some("amd64"), "contacted_at": contacted.map(millis),
            "maintenance_note": of.maintenance_note, "projects": projects, "groups": groups,
        }),
    );
    body
}

pub(super) fn manager(world: &World, manager: &Manager) -> Value {
    let contacted = manager.contacted_at(world.now, world.settings.poll);
    json!({
        "id": manager.id, "system_id": manager.system_id, "version": RUNNER_VERSION, "revision": "8b4f083c", "platform": "linux",
        "architecture": "amd64", "created_at": millis(manager.created), "contacted_at": contacted.map(millis),
        "ip_address": manager.address, "status": contact_status(contacted, manager.created, world.now),
        "job_execution_status": execution(!manager.running.is_empty()),
    })
}

/// Forty hexadecimal digits, as of a commit.
pub(super) fn sha(of: u64) -> String {
    hex::encode(&Sha256::digest(of.to_be_bytes())[..20])
}

fn elapsed(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// A job as it stood at `as_of`, or now. `full` is the project's view, else the runner's.
pub(super) fn job(world: &World, job: &Job, as_of: Option<Timestamp>, full: bool, call: &Call) -> Value {
    let then = as_of.unwrap_or(world.now);
    let status = as_of.map_or(job.status, |then| {
        job.status_at(then).unwrap_or(JobStatus::Pending)
    });
    let started = job.started.filter(|at| *at <= then);
    let finished = job
        .finished
        .filter(|at| *at <= then && !matches!(status, JobStatus::Pending | JobStatus::Running));
    let queued = elapsed(job.created, started.or(finished).unwrap_or(then));
    let project = world.forge.projects.get(&job.project);
    let address = format!("{}/{}", base(call), project.map_or("", |project| &project.path));
    let mut body = json!({
        "id": job.id, "status": status.name(), "stage": "test", "name": job.name, "ref": job.git_ref, "tag": job.of_tag, "coverage": null,
        "allow_failure": false, "created_at": millis(job.created), "started_at": started.map(millis), "finished_at": finished.map(millis),
        "erased_at": null, "duration": started.map(|from| elapsed(from, finished.unwrap_or(then))), "queued_duration": queued,
        "user": user(1, "root", project.map_or(world.now, |project| project.created), call),
        "commit": commit(job, &address), "pipeline": pipeline(job, status, &address),
    });
    if let Some(reason) = job.failure.as_ref().filter(|_| status == JobStatus::Failed) {
        merge(&mut body, json!({"failure_reason": reason}));
    }
    merge(
        &mut body,
        json!({"web_url": format!("{address}/-/jobs/{}", job.id)}),
    );
    if full {
        let runner_of = job
            .runner
            .filter(|_| started.is_some())
            .and_then(|id| world.forge.runners.get(&id));
        let manager_of = job
            .manager
            .filter(|_| started.is_some())
            .and_then(|id| world.forge.managers.get(&id));
        merge(
            &mut body,
            json!({
                "project": {"ci_job_token_scope_enabled": false}, "artifacts": [], "runner": runner_of.map(|found| runner(world, found, call)),
                "runner_manager": manager_of.map(|found| manager(world, found)), "artifacts_expire_at": null, "archived": false,
                "tag_list": job.tags,
            }),
        );
    } else {
        merge(&mut body, json!({"project": project.map(project_identity)}));
    }
    body
}

fn commit(job: &Job, address: &str) -> Value {
    let id = sha(job.project);
    let at = millis(job.created);
    json!({
        "short_id": &id[..8], "created_at": at, "parent_ids": [], "title": "Change", "message": "Change\n", "author_name": "Root",
        "author_email": "root@example.com", "authored_date": at, "committer_name": "Root", "committer_email": "root@example.com",
        "committed_date": at, "trailers": {}, "extended_trailers": {}, "web_url": format!("{address}/-/commit/{id}"), "id": id,
    })
}

fn pipeline(job: &Job, status: JobStatus, address: &str) -> Value {
    json!({
        "id": job.id, "iid": job.id, "project_id": job.project, "sha": sha(job.project), "ref": job.git_ref, "status": status.name(),
        "source": if job.child { "parent_pipeline" } else { "push" }, "created_at": millis(job.created), "updated_at": millis(job.finished.or(job.started).unwrap_or(job.created)),
        "web_url": format!("{address}/-/pipelines/{}", job.id),
    })
}
