//! Jobs, by project and by runner.

use super::super::{
    api::{Answer, Call, Reply},
    world::{
        World,
        forge::{Job, JobStatus},
    },
};
use super::{bad, json as shape, listing, not_found, projects, reader, runners, writer};

/// Every status that the API knows; the world uses some of them.
const STATUSES: [&str; 13] = [
    "created",
    "waiting_for_resource",
    "preparing",
    "waiting_for_callback",
    "pending",
    "running",
    "success",
    "failed",
    "canceling",
    "canceled",
    "skipped",
    "manual",
    "scheduled",
];

fn statuses(call: &Call, key: &str) -> Result<Vec<JobStatus>, Reply> {
    let wanted = call.all(key);
    if wanted.iter().any(|status| !STATUSES.contains(status)) {
        return Err(bad(key, "does not have a valid value"));
    }
    Ok(JobStatus::ALL
        .into_iter()
        .filter(|status| wanted.is_empty() || wanted.contains(&status.name()))
        .collect())
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let project = projects::visible(world, &user, call.param(0))?.id;
    let statuses = statuses(call, "scope")?;
    let as_of = call.twists.jobs_as_of(world.now);
    let ids: Vec<u64> = if let Some(then) = as_of {
        lagging(world, call, |job| job.project == project, &statuses, then)
    } else {
        let mut ids: Vec<u64> = statuses
            .iter()
            .filter_map(|status| world.forge.by_status.get(&(project, *status)))
            .flatten()
            .copied()
            .collect();
        ids.sort_unstable();
        ids
    };
    listing(call, ids, false, |id| {
        let job = world.forge.jobs.get(&id)?;
        Some(shape::job(world, job, as_of, true, call))
    })
}

/// Jobs by the status that they had at `then`; with a busy flag that lags alone, new ones are there, as pending.
fn lagging(
    world: &World,
    call: &Call,
    fits: impl Fn(&Job) -> bool,
    statuses: &[JobStatus],
    then: jiff::Timestamp,
) -> Vec<u64> {
    world
        .forge
        .jobs
        .values()
        .filter(|job| fits(job))
        .filter(|job| {
            let status = job
                .status_at(then)
                .or(call.twists.stale.is_none().then_some(JobStatus::Pending));
            status.is_some_and(|status| statuses.contains(&status))
        })
        .map(|job| job.id)
        .collect()
}

fn of_path<'a>(world: &'a World, call: &Call, project: u64) -> Result<&'a Job, Reply> {
    call.id(1)
        .and_then(|id| world.forge.jobs.get(&id))
        .filter(|job| job.project == project)
        .ok_or_else(|| not_found("Job"))
}

pub(super) fn read(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let project = projects::visible(world, &user, call.param(0))?.id;
    let job = of_path(world, call, project)?;
    Ok(Reply::json(
        200,
        &shape::job(world, job, call.twists.jobs_as_of(world.now), true, call),
    ))
}

pub(super) fn cancel(world: &mut World, call: &Call) -> Answer {
    let user = writer(world, call, "api")?;
    let project = projects::visible(world, &user, call.param(0))?.id;
    let job = of_path(world, call, project)?;
    let id = job.id;
    if matches!(job.status, JobStatus::Pending | JobStatus::Running) {
        world.end_job(id, JobStatus::Canceled, None);
    }
    let job = world.forge.jobs.get(&id).ok_or_else(|| not_found("Job"))?;
    Ok(Reply::json(201, &shape::job(world, job, None, true, call)))
}

/// The jobs of a runner, of one of its systems where that is named; with `status=running`, what keeps it busy.
pub(super) fn of_runner(world: &mut World, call: &Call) -> Answer {
    let user = reader(world, call)?;
    let runner = runners::visible(world, &user, call)?.id;
    let statuses = statuses(call, "status")?;
    let system = call.query("system_id");
    let as_of = call.twists.jobs_as_of(world.now);
    let fits = |job: &Job| {
        job.runner == Some(runner) && system.is_none_or(|system| job.system_id.as_deref() == Some(system))
    };
    let ids: Vec<u64> = match as_of {
        Some(then) => lagging(world, call, fits, &statuses, then),
        None => world
            .forge
            .by_runner
            .get(&runner)
            .into_iter()
            .flatten()
            .filter_map(|id| world.forge.jobs.get(id))
            .filter(|job| fits(job) && statuses.contains(&job.status))
            .map(|job| job.id)
            .collect(),
    };
    listing(call, ids, false, |id| {
        let job = world.forge.jobs.get(&id)?;
        Some(shape::job(world, job, as_of, false, call))
    })
}
