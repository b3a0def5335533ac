//! What Azure DevOps tells: agents, each with the job that it is assigned, which is said late; and job requests, of which one that
//! is assigned is received a while later. What has ended is not told.

use runfleet::{
    demand::RunnerReading,
    model::{
        demand::{Job, JobState, PoolSelector, RunnerView, Wanted},
        ids::{JobId, RegistrationId},
    },
};

use super::{
    ci::{flag, lie},
    races::Race,
    scene::timestamp,
    world::{self, Fate, World},
};

/// Every job request that has not ended, as the client tells it: with the agent that it is reserved for, where that agent is told to
/// be at it. A list that cannot be read is missing as a whole, and known to be.
pub fn requests(world: &mut World, pool: &PoolSelector) -> (Wanted, bool) {
    let is_lost = world.chance(12);
    let mut told = Vec::new();
    let jobs: Vec<(u32, world::Job)> = world.jobs.iter().map(|(id, job)| (*id, job.clone())).collect();
    for (id, job) in jobs {
        let (state, runner) = match &job.fate {
            Fate::Finished(..) | Fate::Killed => continue,
            Fate::Running(runner) if is_lost => {
                lie(world, runner, Race::PageMissing);
                continue;
            }
            Fate::Queued => (JobState::Queued, None),
            Fate::Running(runner) if world.is_unlisted(&job) => {
                lie(world, runner, Race::FlagLags);
                (JobState::Queued, None)
            }
            Fate::Running(runner) if world.is_not_received(&job) => {
                lie(world, runner, Race::NotReceived);
                let own = world.runners.get(runner);
                let is_told = own.is_some_and(|own| world.lagging_flag(own));
                (JobState::Queued, is_told.then(|| runner.clone()))
            }
            Fate::Running(runner) => (JobState::Running, Some(runner.clone())),
        };
        if is_lost {
            continue;
        }
        told.push(Job {
            id: JobId::from(id.to_string()),
            name: "build".to_owned(),
            project: "acme".to_owned(),
            tags: Vec::new(),
            state,
            queued_at: Some(timestamp(job.queued)),
            started_at: (state == JobState::Running).then(|| timestamp(job.started)),
            finished_at: None,
            runner,
            protected: false,
            pools: Some(vec![pool.pool.clone()]),
            stuck: false,
        });
    }
    (Wanted::Jobs(told), is_lost)
}

/// The agents that have ever registered, or were registered disabled, and were not removed.
pub fn agents(world: &mut World) -> (Vec<RunnerView>, bool) {
    if world.chance(12) {
        let busy: Vec<RegistrationId> = world
            .runners
            .iter()
            .filter(|(_, runner)| runner.is_busy())
            .map(|(id, _)| id.clone())
            .collect();
        for id in busy {
            lie(world, &id, Race::PageMissing);
        }
        return (Vec::new(), true);
    }
    let known = world.runners.keys().filter(|id| !world.is_absent(id));
    let known: Vec<RegistrationId> = known.cloned().collect();
    let mut views = Vec::new();
    for id in known {
        let busy = flag(world, &id);
        let Some(runner) = world.runners.get(&id) else {
            continue;
        };
        let online = runner.up && !runner.exited && runner.machine.is_some();
        views.push(RunnerView {
            registration: id,
            description: runner.description.clone(),
            online: Some(online),
            paused: runner.paused.is_some(),
            last_contact: runner.last_contact.map(timestamp),
            busy: Some(busy),
        });
    }
    (views, false)
}

/// The jobs that are reserved for it, received or not, unless the agent says that it has one which is not listed. Of an agent that
/// is not registered nothing is known.
pub fn reading(world: &mut World, id: &RegistrationId) -> Option<RunnerReading> {
    let busy = flag(world, id);
    let runner = world.runners.get(id).filter(|_| !world.is_absent(id))?;
    let reserved = |job: &&world::Job| matches!(&job.fate, Fate::Running(on) if on == id);
    let listed = world
        .jobs
        .values()
        .filter(reserved)
        .filter(|job| !world.is_unlisted(job));
    let jobs = u32::try_from(listed.count()).unwrap();
    Some(RunnerReading {
        jobs: (jobs > 0 || !busy).then_some(jobs),
        paused: runner.paused.is_some(),
    })
}
