//! What runners themselves call, with their own tokens.

use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    dice,
    world::{
        World,
        forge::{Job, JobStatus},
    },
};
use super::{bad, forbidden, given, not_found};

/// The system id of a runner that names none.
const LEGACY_SYSTEM: &str = "<legacy>";

/// Registration tokens are gone; runners are created by a user.
pub(super) fn register(_: &mut World, _: &Call) -> Answer {
    Err(super::message(410, "410 Gone"))
}

fn runner_of(world: &World, call: &Call) -> Result<u64, Reply> {
    let token = given(call, "token").ok_or_else(|| bad("token", "is missing"))?;
    world.forge.runner_of_token(&token).ok_or_else(forbidden)
}

pub(super) fn unregister(world: &mut World, call: &Call) -> Answer {
    let runner = runner_of(world, call)?;
    world.remove_runner(runner);
    Ok(Reply::empty(204))
}

pub(super) fn remove_manager(world: &mut World, call: &Call) -> Answer {
    let system = given(call, "system_id").ok_or_else(|| bad("system_id", "is missing"))?;
    let runner = runner_of(world, call)?;
    let manager = world
        .forge
        .manager_of(runner, &system)
        .ok_or_else(|| not_found("Runner manager"))?;
    world.drop_manager(manager);
    Ok(Reply::empty(204))
}

/// The manager of the runner that calls; it shows up if it is new.
fn caller(world: &mut World, call: &Call, runner: u64) -> u64 {
    let system = given(call, "system_id").unwrap_or(LEGACY_SYSTEM.into());
    let now = world.now;
    world
        .forge
        .register(runner, &system, None, u32::MAX, "127.0.0.1", now)
}

pub(super) fn verify(world: &mut World, call: &Call) -> Answer {
    let runner = runner_of(world, call)?;
    if given(call, "system_id").is_some() {
        caller(world, call, runner);
    }
    let token = given(call, "token").unwrap_or_default();
    Ok(Reply::json(
        200,
        &json!({"id": runner, "token": token, "token_expires_at": null}),
    ))
}

pub(super) fn request_job(world: &mut World, call: &Call) -> Answer {
    let runner = runner_of(world, call)?;
    let manager = caller(world, call, runner);
    let job = world
        .forge
        .runners
        .get(&runner)
        .and_then(|runner| world.forge.next_job(runner));
    let Some(id) = job else {
        return Ok(Reply::empty(204).header("X-GitLab-Last-Update", world.forge.update_mark()));
    };
    let token = format!("glcbt-64_{}", dice::text(world.seed, id ^ 0x676c_6362, 20));
    world.take(manager, id, Some(token));
    let job = world.forge.jobs.get(&id).ok_or_else(|| not_found("Job"))?;
    Ok(Reply::json(201, &payload(world, job, call)))
}

/// What a runner needs to run a job.
fn payload(world: &World, job: &Job, call: &Call) -> Value {
    let project = world.forge.projects.get(&job.project);
    let path = project.map_or("", |project| project.path.as_str());
    let sha = super::json::sha(job.project);
    let seconds = job.duration.as_secs();
    let variable = |key: &str, value: String| json!({"key": key, "value": value, "public": true, "masked": false, "file": false, "raw": false});
    json!({
        "id": job.id, "token": job.token, "allow_git_fetch": true,
        "job_info": {
            "id": job.id, "name": job.name, "stage": "test", "project_id": job.project, "project_name": path.rsplit('/').next(),
            "project_full_path": path, "time_in_queue_seconds": 0.0, "project_jobs_running_on_instance_runners_count": "0",
        },
        "git_info": {
            "repo_url": format!("{}/{path}.git", super::json::base(call)), "ref": job.git_ref, "sha": sha, "before_sha": "0".repeat(40),
            "ref_type": if job.of_tag { "tag" } else { "branch" }, "refspecs": [format!("+refs/heads/{0}:refs/remotes/origin/{0}", job.git_ref)], "depth": 20,
        },
        "runner_info": {"timeout": 3600, "runner_session_url": null},
        "inputs": [], "variables": [
            variable("CI", "true".to_owned()),
            variable("CI_JOB_ID", job.id.to_string()),
            variable("CI_JOB_NAME", job.name.clone()),
            variable("GIT_STRATEGY", "none".to_owned()),
        ],
        "steps": [{"name": "script", "script": [format!("sleep {seconds}")], "timeout": 3600, "when": "on_success", "allow_failure": false}],
        "hooks": [], "image": {"name": "alpine"}, "services": [], "artifacts": null, "cache": [], "credentials": [], "dependencies": [],
        "features": {"trace_sections": true, "failure_reasons": ["script_failure", "runner_system_failure"]}, "run": null,
    })
}

/// The job of the call's path, if the call has its token and it still runs.
fn own_job(world: &World, call: &Call) -> Result<u64, Reply> {
    let job = call
        .id(0)
        .and_then(|id| world.forge.jobs.get(&id))
        .ok_or_else(|| not_found("Job"))?;
    let token = given(call, "token")
        .map(std::borrow::Cow::into_owned)
        .or_else(|| call.token.clone());
    if job.token.is_none() || job.token != token {
        return Err(forbidden());
    }
    if job.status != JobStatus::Running {
        // A runner reads here that the job was canceled or is over.
        return Err(
            super::message(403, "403 Forbidden - Job is not running").header("Job-Status", job.status.name())
        );
    }
    Ok(job.id)
}

pub(super) fn update_job(world: &mut World, call: &Call) -> Answer {
    let id = own_job(world, call)?;
    match given(call, "state").as_deref() {
        Some("success") => world.end_job(id, JobStatus::Success, None),
        Some("failed") => {
            let reason = given(call, "failure_reason")
                .map_or_else(|| "script_failure".to_owned(), std::borrow::Cow::into_owned);
            world.end_job(id, JobStatus::Failed, Some(reason));
        }
        None | Some("running") => {}
        Some(_) => return Err(super::message(400, "400 Bad request - Unknown parameters")),
    }
    let status = world
        .forge
        .jobs
        .get(&id)
        .map_or("running", |job| job.status.name());
    Ok(Reply::json(200, &json!(200))
        .header("Job-Status", status)
        .header("X-GitLab-Trace-Update-Interval", "60"))
}

/// Logs are not kept; their length is, by the range that the runner says.
pub(super) fn append_trace(world: &mut World, call: &Call) -> Answer {
    own_job(world, call)?;
    let range = call.query("range").unwrap_or("0-0").to_owned();
    Ok(Reply::empty(202)
        .header("Job-Status", "running")
        .header("Range", range)
        .header("X-GitLab-Trace-Update-Interval", "60"))
}
