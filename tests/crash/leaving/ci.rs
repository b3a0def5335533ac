//! The CI systems of the schedules: what each tells and lets be done, as the real one does, and its lies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use jiff::SignedDuration;
use runfleet::{
    demand::{
        Cordoned, Demand, DemandError, Registration, RegistrationRequest, RunnerControl, RunnerReading,
    },
    model::{
        demand::{Counts, Cursor, DemandSnapshot, Job, JobState, PoolSelector, RunnerView, Wanted},
        ids::{JobId, RegistrationId, StackName},
        resource::{Completeness, ControlProfile, CordonKind},
    },
    provider::Problem,
};

use super::{
    azure,
    races::{Kind, Race},
    scene::{Scene, timestamp},
    world::{Fate, Ms, SETTLE, World},
};

/// A CI in memory, with the semantics of one of the real ones.
#[derive(Debug)]
pub struct Ci {
    kind: Kind,
    scene: Scene,
    profile: ControlProfile,
}

impl Ci {
    pub fn new(kind: Kind, scene: Scene) -> Self {
        let (cordon, lists_runners) = match kind {
            Kind::Gitlab | Kind::Azure => (CordonKind::Pause, true),
            Kind::Drone => (CordonKind::PauseAll, false),
            Kind::Circleci => (CordonKind::Leaves, true),
            Kind::Exec => (CordonKind::Pause, false),
        };
        let profile = ControlProfile {
            ci: kind.as_str().into(),
            cordon,
            settle: SignedDuration::from_millis(SETTLE),
            lists_runners,
        };
        Self { kind, scene, profile }
    }

    /// What is wanted, as one request reads it: what it says, and whether a part is missing and that is known.
    fn wanted(&self, pool: &PoolSelector, since: Ms) -> (Wanted, bool) {
        self.scene.at(|world| match self.kind {
            Kind::Gitlab | Kind::Drone | Kind::Exec => jobs(world, pool, since),
            Kind::Circleci => (counts(world, pool), false),
            Kind::Azure => azure::requests(world, pool),
        })
    }

    fn runners(&self, wanted: &Wanted) -> (Vec<RunnerView>, bool) {
        self.scene.at(|world| match self.kind {
            Kind::Gitlab => gitlab_runners(world),
            Kind::Drone | Kind::Exec => (Vec::new(), false),
            Kind::Circleci => circleci_runners(world, wanted),
            Kind::Azure => azure::agents(world),
        })
    }
}

#[async_trait]
impl Demand for Ci {
    async fn observe(
        &self,
        _stack: &StackName,
        pools: &[PoolSelector],
        since: &Cursor,
    ) -> Result<DemandSnapshot, DemandError> {
        let since = since.0.parse().unwrap_or(-1);
        self.scene.travel().await;
        let fails = self.scene.at(|world| {
            world.told.clear();
            world.chance(3)
        });
        if fails {
            return Err(unavailable());
        }
        let ((wanted, some_lost), (runners, more_lost)) = if self.kind == Kind::Azure {
            // Agents first: what one is assigned meanwhile is listed then.
            let runners = self.runners(&Wanted::Jobs(Vec::new()));
            self.scene.travel().await;
            (self.wanted(&pools[0], since), runners)
        } else {
            let wanted = self.wanted(&pools[0], since);
            self.scene.travel().await;
            let runners = self.runners(&wanted.0);
            (wanted, runners)
        };
        let now = self.scene.at(|world| {
            note_truth(world);
            world.now
        });
        self.scene.travel().await;
        let completeness = if some_lost || more_lost {
            Completeness::partial("a page is missing")
        } else {
            Completeness::Complete
        };
        Ok(DemandSnapshot {
            ci: self.profile.ci.clone(),
            wanted,
            runners,
            completeness,
            cursor: Cursor(now.to_string()),
            now: timestamp(now),
            calls: 2,
            control: self.profile.clone(),
            passed_over: BTreeMap::new(),
            metrics: BTreeMap::new(),
        })
    }

    async fn check(&self) -> Result<Vec<Problem>, DemandError> {
        Ok(Vec::new())
    }
}

/// Notes that a source said of a busy runner what is not so.
pub fn lie(world: &mut World, runner: &RegistrationId, race: Race) {
    world.told.entry(runner.clone()).or_default().lies.insert(race);
}

/// Notes who was busy when all had been read.
fn note_truth(world: &mut World) {
    for (id, runner) in &world.runners {
        if runner.machine.is_some() {
            let told = world.told.entry(id.clone()).or_default();
            told.busy = runner.is_busy();
        }
    }
}

/// Each job that waits, runs or has ended lately.
fn jobs(world: &mut World, pool: &PoolSelector, since: Ms) -> (Wanted, bool) {
    let page_lost = world.chance(15);
    let is_told = page_lost && (world.kind.lists_late() || world.dice.below(2) == 0);
    let mut told = Vec::new();
    let mut lies = Vec::new();
    let ids: Vec<u32> = world.jobs.keys().copied().collect();
    for id in ids {
        let Some(job) = world.jobs.get(&id).cloned() else {
            continue;
        };
        let (state, runner, finished) = match &job.fate {
            Fate::Queued => (JobState::Queued, None, None),
            Fate::Running(runner) if world.kind.lists_late() && world.is_unlisted(&job) => {
                lies.push((runner.clone(), Race::FlagLags));
                (JobState::Queued, None, None)
            }
            Fate::Running(runner) => (JobState::Running, Some(runner.clone()), None),
            Fate::Finished(runner, at) if *at > since && world.kind == Kind::Gitlab => {
                (JobState::Finished, Some(runner.clone()), Some(*at))
            }
            Fate::Finished(..) | Fate::Killed => continue,
        };
        if page_lost && world.dice.below(2) == 0 {
            if let (JobState::Running, Some(runner)) = (state, runner) {
                lies.push((runner, Race::PageMissing));
            }
            continue;
        }
        let started = (state != JobState::Queued).then(|| timestamp(job.started));
        told.push(Job {
            id: JobId::from(id.to_string()),
            name: "build".to_owned(),
            project: "acme/app".to_owned(),
            tags: pool.tags.clone(),
            state,
            queued_at: Some(timestamp(job.queued)),
            started_at: started,
            finished_at: finished.map(timestamp),
            runner,
            protected: false,
            pools: (world.kind == Kind::Drone).then(|| vec![pool.pool.clone()]),
            stuck: false,
        });
    }
    // A runner with another job that is told is told to be busy.
    let shown: BTreeSet<&RegistrationId> = told
        .iter()
        .filter(|job| job.state == JobState::Running)
        .filter_map(|job| job.runner.as_ref())
        .collect();
    lies.retain(|(runner, _)| !shown.contains(runner));
    for (runner, race) in lies {
        lie(world, &runner, race);
    }
    (Wanted::Jobs(told), is_told)
}

/// GitLab's own account of its runners, with the busy flag.
fn gitlab_runners(world: &mut World) -> (Vec<RunnerView>, bool) {
    let page_lost = world.chance(12);
    let is_told = page_lost && world.dice.below(2) == 0;
    let ids: Vec<RegistrationId> = world.runners.keys().cloned().collect();
    let mut views = Vec::new();
    for id in ids {
        let Some(runner) = world.runners.get(&id).cloned() else {
            continue;
        };
        if page_lost && world.dice.below(2) == 0 {
            if runner.is_busy() {
                lie(world, &id, Race::PageMissing);
            }
            continue;
        }
        let busy = flag(world, &id);
        views.push(RunnerView {
            registration: id,
            description: runner.description,
            online: Some(runner.up && runner.machine.is_some()),
            paused: runner.paused.is_some(),
            last_contact: runner.last_contact.map(timestamp),
            busy: Some(busy),
        });
    }
    (views, is_told)
}

/// The busy flag of a runner: late, and wrong now and then.
pub fn flag(world: &mut World, id: &RegistrationId) -> bool {
    let flips = world.chance(8);
    let Some(runner) = world.runners.get(id) else {
        return false;
    };
    let (busy, flag) = (runner.is_busy(), world.lagging_flag(runner));
    if busy && !flag {
        lie(world, id, Race::FlagLags);
    } else if busy && flips {
        lie(world, id, Race::FlagFlips);
        return false;
    }
    flag
}

/// CircleCI's numbers of a resource class: tasks that nobody has claimed, and that run. What runs is said late, or for a
/// moment not at all.
fn counts(world: &mut World, pool: &PoolSelector) -> Wanted {
    let flips = world.chance(12);
    let mut count = Counts::default();
    let mut lies = Vec::new();
    for job in world.jobs.values() {
        match &job.fate {
            Fate::Queued => count.queued += 1,
            Fate::Running(runner) if world.lies && world.now - job.started < world.lag => {
                lies.push((runner.clone(), Race::FlagLags));
            }
            Fate::Running(runner) if flips => lies.push((runner.clone(), Race::FlagFlips)),
            Fate::Running(_) => count.running += 1,
            Fate::Finished(..) | Fate::Killed => {}
        }
    }
    // Only when nothing seems to run does anybody seem idle.
    if count.running == 0 {
        for (runner, race) in lies {
            lie(world, &runner, race);
        }
    }
    Wanted::Counts(BTreeMap::from([(pool.pool.clone(), count)]))
}

/// CircleCI's list of a resource class's runners: those that have ever connected, by name.
fn circleci_runners(world: &mut World, wanted: &Wanted) -> (Vec<RunnerView>, bool) {
    let page_lost = world.chance(15);
    let is_told = page_lost && world.dice.below(2) == 0;
    let none_runs = match wanted {
        Wanted::Counts(counts) => counts.values().all(|count| count.running == 0),
        Wanted::Jobs(_) => false,
    };
    let ids: Vec<RegistrationId> = world.runners.keys().cloned().collect();
    let mut views = Vec::new();
    for id in ids {
        let Some(runner) = world.runners.get(&id).cloned() else {
            continue;
        };
        if !runner.up {
            continue;
        }
        if page_lost && world.dice.below(2) == 0 {
            if runner.is_busy() {
                lie(world, &id, Race::PageMissing);
            }
            continue;
        }
        views.push(RunnerView {
            registration: id,
            description: runner.description,
            online: Some(!runner.exited && runner.machine.is_some()),
            paused: false,
            last_contact: runner.last_contact.map(timestamp),
            busy: none_runs.then_some(false),
        });
    }
    (views, is_told)
}

#[async_trait]
impl RunnerControl for Ci {
    fn root(&self) -> &'static str {
        ""
    }

    fn profile(&self) -> &ControlProfile {
        &self.profile
    }

    async fn register(&self, request: &RegistrationRequest) -> Result<Registration, DemandError> {
        self.scene.travel().await;
        if self.scene.at(|world| world.chance(2)) {
            return Err(unavailable());
        }
        let machine = request.description.split(' ').next().unwrap();
        let own = (self.kind != Kind::Gitlab).then_some(machine);
        let id = self.scene.at(|world| world.register(own, &request.description));
        self.scene.travel().await;
        Ok(Registration {
            id,
            token: "glrt-0".into(),
            url: "https://ci.example.com".to_owned(),
            system_id: None,
        })
    }

    async fn cordon(&self, runner: &RegistrationId) -> Result<Cordoned, DemandError> {
        self.scene.travel().await;
        let how = self.profile.cordon;
        let answer = self.scene.at(|world| {
            world.cordons += 1;
            if how == CordonKind::Leaves {
                return Err(no_cordon());
            }
            if world.chance(20) {
                world.land(runner);
            }
            if world.chance(12) {
                world.pause_failed(runner);
                let lost = world.dice.below(3);
                if lost == 0 {
                    world.pause(runner, how);
                }
                return Err(if lost < 2 { ambiguous() } else { unavailable() });
            }
            world.pause(runner, how);
            Ok(Cordoned {
                since: timestamp(world.now),
            })
        });
        self.scene.travel().await;
        answer
    }

    async fn uncordon(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.scene.travel().await;
        let how = self.profile.cordon;
        let answer = self.scene.at(|world| {
            if how == CordonKind::Leaves {
                return Err(no_cordon());
            }
            if how == CordonKind::Pause && (!world.runners.contains_key(runner) || world.is_absent(runner)) {
                return Err(rejected("404 Not Found"));
            }
            if world.chance(25) {
                let lost = world.dice.below(3);
                if lost == 0 {
                    world.resume(runner, how);
                } else {
                    world.resume_failed(runner, how);
                }
                return Err(if lost < 2 { ambiguous() } else { unavailable() });
            }
            world.resume(runner, how);
            Ok(())
        });
        self.scene.travel().await;
        answer
    }

    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError> {
        self.scene.travel().await;
        let answer = self.scene.at(|world| {
            let reading = match self.kind {
                Kind::Gitlab => gitlab_reading(world, runner),
                Kind::Drone | Kind::Exec => Some(listed_reading(world, runner)),
                Kind::Circleci => Some(circleci_reading(world)),
                Kind::Azure => azure::reading(world, runner),
            };
            if world.chance(4) {
                Err(unavailable())
            } else {
                Ok(reading)
            }
        });
        self.scene.travel().await;
        answer
    }

    async fn forget(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.scene.travel().await;
        if self.scene.at(|world| world.chance(5)) {
            return Err(unavailable());
        }
        self.scene.at(|world| world.forget(runner));
        self.scene.travel().await;
        Ok(())
    }
}

/// Its jobs, unless its flag contradicts them.
fn gitlab_reading(world: &mut World, id: &RegistrationId) -> Option<RunnerReading> {
    let busy = flag(world, id);
    let runner = world.runners.get(id)?;
    let jobs = u32::try_from(runner.running.len()).unwrap();
    Some(RunnerReading {
        jobs: (busy == (jobs > 0)).then_some(jobs),
        paused: runner.paused.is_some(),
    })
}

/// The jobs that are listed as running on that machine. Nothing tells of a pause.
fn listed_reading(world: &mut World, id: &RegistrationId) -> RunnerReading {
    if world.queue_paused.is_none() && world.chance(10) {
        world.land(id);
    }
    let runs = |job: &&super::world::Job| matches!(&job.fate, Fate::Running(on) if on == id);
    let listed = world
        .jobs
        .values()
        .filter(runs)
        .filter(|job| !world.is_unlisted(job));
    RunnerReading {
        jobs: Some(u32::try_from(listed.count()).unwrap()),
        paused: false,
    }
}

/// CircleCI tells only whether anything runs at all.
fn circleci_reading(world: &World) -> RunnerReading {
    let any = world.runners.values().any(super::world::Runner::is_busy);
    RunnerReading {
        jobs: (!any).then_some(0),
        paused: false,
    }
}

/// The test's switch for the second reading: every reading of a runner's jobs says that it has none. What it is wrapped
/// around is told the pause by, so that nothing else changes.
#[derive(Debug)]
pub struct Blind(pub Arc<dyn RunnerControl>);

#[async_trait]
impl RunnerControl for Blind {
    fn root(&self) -> &'static str {
        ""
    }

    fn profile(&self) -> &ControlProfile {
        self.0.profile()
    }

    async fn register(&self, request: &RegistrationRequest) -> Result<Registration, DemandError> {
        self.0.register(request).await
    }

    async fn cordon(&self, runner: &RegistrationId) -> Result<Cordoned, DemandError> {
        self.0.cordon(runner).await
    }

    async fn uncordon(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.0.uncordon(runner).await
    }

    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError> {
        let reading = self.0.read(runner).await?;
        Ok(reading.map(|reading| RunnerReading {
            jobs: Some(0),
            ..reading
        }))
    }

    async fn forget(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.0.forget(runner).await
    }
}

fn unavailable() -> DemandError {
    DemandError::Unavailable {
        why: "502 Bad Gateway".to_owned(),
    }
}

fn ambiguous() -> DemandError {
    DemandError::Ambiguous {
        why: "the answer was lost".to_owned(),
    }
}

fn rejected(why: &str) -> DemandError {
    DemandError::Rejected { why: why.to_owned() }
}

fn no_cordon() -> DemandError {
    rejected("nothing keeps a runner from taking tasks")
}
