//! One schedule: a few ticks of the product over a world that goes on and lies, and then some over one that does not.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use runfleet::{
    demand::{Demand, RunnerControl},
    model::{
        ids::{RegistrationId, Serial},
        reason::Reason,
        resource::Observed,
        runner::RunnerState,
        state::State,
    },
    plan::{Action, Goal, Kept, Verb},
    provider::Provider,
    render::TemplateSet,
    stack::{self, Stack},
    state::{StateStore, memory::MemoryStore},
    tick::{Clients, Clock, Event, LoadedStack, Planned, Reporter, Session, Stop},
};

use super::{
    ci::{Blind, Ci},
    cloud::Cloud,
    races::{Hits, Kind, Race, Saver},
    scene::Scene,
    world::{Chosen, Ms, World},
};

/// How long a machine is given to become ready, in the stack of every schedule.
const READY_TIMEOUT: Ms = 60_000;
/// Ticks of a world that lies.
const DISTURBED: u32 = 3;
/// The time between ticks after that, in which the longest job ends.
const CALM_GAP: Ms = 90_000;
/// Ticks after that until everything must be as wished.
const CALM: u32 = 20;

/// Whether the jobs of a machine are read again before it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// They are.
    Sees,
    /// They are taken to be none.
    Blind,
}

/// What every schedule of a CI begins with.
#[derive(Clone, Debug)]
pub struct Template {
    kind: Kind,
    stack: Stack,
    templates: TemplateSet,
    /// A fleet for each number of jobs that a runner may run at once.
    fleets: Vec<Fleet>,
}

/// Machines that the product has made in an earlier tick, so that not every schedule need begin with that.
#[derive(Clone, Debug)]
struct Fleet {
    state: State,
    machines: Vec<Observed>,
    /// With their descriptions.
    runners: Vec<(RegistrationId, String)>,
}

impl Template {
    /// Makes the fleets.
    pub async fn new(kind: Kind) -> Self {
        let mut template = Self::of(kind);
        for slots in 1..=2 {
            let fleet = Fleet::made(&template, slots).await;
            template.fleets.push(fleet);
        }
        template
    }

    fn of(kind: Kind) -> Self {
        let name = kind.as_str();
        let pool = match kind {
            Kind::Gitlab | Kind::Exec => "tags = [\"linux\"]",
            Kind::Drone => "tags = [\"os=linux\"]\nrunner_token = { env = \"DRONE_RPC_SECRET\" }",
            Kind::Azure => "agent_pool = \"linux\"\nrunner_token = { env = \"AZP_TOKEN\" }",
            Kind::Circleci => "tags = [\"acme/linux\"]\nrunner_token = { env = \"CIRCLE_RUNNER_TOKEN\" }",
        };
        let calls = match kind {
            Kind::Exec => "demand = [\"demand\"]\ncordon = [\"cordon\"]\nuncordon = [\"uncordon\"]",
            _ => "",
        };
        let text = format!(
            r#"
[stack]
name = "test"

[providers.hetzner]
token = {{ env = "HCLOUD_TOKEN" }}

[ci.{name}]
url = "https://ci.example.com"
token = {{ env = "CI_TOKEN" }}
{calls}

[pools.linux]
ci = "{name}"
{pool}
max = 4
cloud_init = "cloud-init/runner.tera"
ready_timeout = "60s"
idle_timeout = "0s"

[[pools.linux.offerings]]
provider = "hetzner"
type = "cx33"
locations = ["nbg1"]
image = "debian-12"
"#
        );
        let file = ("cloud-init/runner.tera".to_owned(), "#cloud-config\n".to_owned());
        Self {
            kind,
            stack: stack::parse(&text, "test.toml").unwrap(),
            templates: TemplateSet {
                files: BTreeMap::from([file]),
            },
            fleets: Vec::new(),
        }
    }
}

impl Fleet {
    /// Lets the product make as many machines as a pool may have.
    async fn made(template: &Template, slots: usize) -> Self {
        let mut world = World::new(template.kind, 0, false);
        world.lies = false;
        world.slots = slots;
        world.jobs_come(8, 1);
        let mut play = Play::of(template, world, Sight::Sees);
        play.tick().await;
        let state = play.store.load().await.unwrap().state.unwrap();
        let mut machines = play.cloud.resources().await;
        machines.sort_by_key(|seen| seen.target.id.as_str().parse::<u32>().unwrap());
        let runners = play.scene.at(|world| {
            let runners = world.runners.iter();
            runners
                .map(|(id, runner)| (id.clone(), runner.description.clone()))
                .collect()
        });
        Self {
            state,
            machines,
            runners,
        }
    }

    /// The first of them, made at the beginning of the schedule.
    async fn move_in(&self, count: usize, play: &Play) {
        let mut state = self.state.clone();
        let machines = &self.machines[..count];
        let made_at = play.scene.now();
        state.resources.retain(|_, record| {
            record.created_at = made_at;
            machines.iter().any(|seen| seen.target == record.target())
        });
        play.store.save(&state, Serial(0)).await.unwrap();
        for machine in machines {
            let mut seen = machine.clone();
            seen.created_at = made_at;
            let registration = seen.claim().and_then(|claim| claim.registration).unwrap();
            let target = play.cloud.put(seen);
            assert_eq!(target, machine.target, "an id that its record does not have");
            let known = self.runners.iter().find(|(id, _)| *id == registration);
            let (id, description) = known.unwrap();
            play.scene.at(|world| {
                world.know(id, description);
                world.made(id, &target, READY_TIMEOUT);
            });
        }
    }
}

/// What came of a schedule.
#[derive(Debug)]
pub struct Outcome {
    pub hits: Hits,
    pub killed: Vec<String>,
    /// What was not as wished in the end; none where all was.
    pub unsettled: Option<String>,
    pub ticks: u32,
    pub deleted: u64,
    pub cordons: u64,
    pub trace: u64,
    pub log: String,
}

/// The whole of one schedule.
struct Play {
    scene: Scene,
    cloud: Arc<Cloud>,
    store: MemoryStore,
    session: Session,
    min: u32,
    ticks: u32,
}

/// Plays the schedule of this seed.
pub async fn play(template: &Template, seed: u64, sight: Sight, log: bool) -> Outcome {
    let play = Play::new(template, seed, sight, log).await;
    play.run(sight).await
}

impl Play {
    async fn new(template: &Template, seed: u64, sight: Sight, log: bool) -> Self {
        let mut world = World::new(template.kind, seed, log);
        let count = 1 + usize::try_from(world.dice.below(4)).unwrap();
        let fleet = &template.fleets[world.slots - 1];
        let play = Self::of(template, world, sight);
        fleet.move_in(count, &play).await;
        play
    }

    /// A stage with nothing on record.
    fn of(template: &Template, mut world: World, sight: Sight) -> Self {
        let kind = template.kind;
        let mut stack = template.stack.clone();
        let pool = &mut stack.pools[0];
        pool.jobs_per_runner = u32::try_from(world.slots).unwrap();
        // Where runners leave by themselves, a pool with a minimum is never at rest.
        pool.min = match kind {
            Kind::Circleci => 0,
            _ => u32::try_from(world.dice.below(2)).unwrap(),
        };
        let min = pool.min;
        let scene = Scene::new(world);
        let cloud = Arc::new(Cloud::new(scene.clone(), READY_TIMEOUT));
        let ci = Arc::new(Ci::new(kind, scene.clone()));
        let store = MemoryStore::new(&stack.name).keeping(0);
        let mut control: Arc<dyn RunnerControl> = Arc::<Ci>::clone(&ci);
        if sight == Sight::Blind {
            control = Arc::new(Blind(control));
        }
        let clients = Clients {
            providers: BTreeMap::from([("hetzner".into(), Arc::<Cloud>::clone(&cloud) as Arc<dyn Provider>)]),
            demand: BTreeMap::from([(kind.as_str().into(), ci as Arc<dyn Demand>)]),
            control: BTreeMap::from([(kind.as_str().into(), control)]),
            store: Arc::new(store.clone()),
        };
        let loaded = LoadedStack {
            stack,
            file: PathBuf::from("test.toml"),
            root: PathBuf::from("."),
            templates: template.templates.clone(),
        };
        let clock = scene.clone();
        let session = Session::new(loaded, clients, Clock::of(move || clock.now()));
        Self {
            scene,
            cloud,
            store,
            session,
            min,
            ticks: 0,
        }
    }

    async fn run(mut self, sight: Sight) -> Outcome {
        let gap = self.scene.at(|world| {
            let first = 1 + world.dice.below(6);
            world.jobs_come(first, 25_000);
            world.between(20_000, 50_000)
        });
        self.scene.pass(gap).await;
        for _ in 0..DISTURBED {
            self.tick().await;
            let gap = self.scene.at(|world| {
                let gap = world.between(10_000, 60_000);
                let (now, count) = (world.now, world.dice.below(4));
                world.jobs_come(count, now + gap + 2_000);
                gap
            });
            self.scene.pass(gap).await;
        }
        self.scene.at(|world| {
            world.lies = false;
            world.say(|| "from here on nothing goes wrong".to_owned());
        });
        let mut unsettled = None;
        if sight == Sight::Sees {
            for _ in 0..CALM {
                self.scene.pass(CALM_GAP).await;
                let rests = self.tick().await;
                unsettled = self.unsettled(rests).await;
                if unsettled.is_none() {
                    break;
                }
            }
        }
        let ticks = self.ticks;
        self.scene.at(|world| Outcome {
            hits: std::mem::take(&mut world.hits),
            killed: std::mem::take(&mut world.killed),
            unsettled,
            ticks,
            deleted: world.deleted,
            cordons: world.cordons,
            trace: world.trace,
            log: world.log.take().unwrap_or_default(),
        })
    }

    /// One tick as `scale` makes it. Says whether it had nothing to do.
    async fn tick(&mut self) -> bool {
        self.ticks += 1;
        self.scene.at(|world| {
            world.tick += 1;
            world.say(|| "a tick begins".to_owned());
        });
        let planned = self.session.observe_and_decide(Goal::Converge).await.unwrap();
        judge(&self.scene, &planned);
        let notes = Notes(self.scene.clone());
        self.session.apply(&planned, &notes, &Stop::new()).await.unwrap();
        planned.plan.is_noop() && planned.snapshot.open.is_empty()
    }

    /// What is not as wished.
    async fn unsettled(&self, rests: bool) -> Option<String> {
        let loaded = self.store.load().await.unwrap();
        let state = loaded.state.unwrap();
        let there = self.cloud.resources().await.len();
        let on_record = state.resources.len();
        self.scene.at(|world| {
            let min = usize::try_from(self.min).unwrap();
            let waiting = world.waiting().count();
            let registered = match world.kind {
                // An agent registers itself when it comes up.
                Kind::Azure => world.runners.keys().filter(|id| !world.is_absent(id)).count(),
                _ => world.runners.len(),
            };
            let tells_registrations = matches!(world.kind, Kind::Gitlab | Kind::Azure);
            let whole = there == min && on_record == min && world.machines() == min;
            let wrong = [
                (!rests, "the last tick had something to do".to_owned()),
                (waiting > 0, format!("{waiting} jobs wait")),
                (world.stands_paused(), "a pause stands".to_owned()),
                (!state.pauses.is_empty(), "a pause is on record".to_owned()),
                (!loaded.entries.is_empty(), "the journal is not closed".to_owned()),
                (
                    !whole,
                    format!("{there} machines, {on_record} on record, and not {min}"),
                ),
                (
                    tells_registrations && registered != min,
                    format!("{registered} registrations, and not {min}"),
                ),
            ];
            let wrong = wrong.into_iter().filter(|(wrong, _)| *wrong);
            let wrong: Vec<String> = wrong.map(|(_, what)| what).collect();
            (!wrong.is_empty()).then(|| wrong.join("; "))
        })
    }
}

/// Finds out what a plan makes of what it was told: which lies came to nothing, and why.
fn judge(scene: &Scene, planned: &Planned) {
    let plan = &planned.plan;
    let surplus = plan.pools.iter().any(|pool| pool.serving > pool.target);
    let records = &planned.snapshot.state.resources;
    scene.at(|world| {
        for action in &plan.actions {
            world.say(|| {
                format!(
                    "plan: {} {}: {}",
                    action.verb.as_str(),
                    action.address,
                    action.reason
                )
            });
        }
        for held in &plan.held {
            world.say(|| format!("plan: held {}: {}", held.about, held.reason));
        }
        world.chosen.clear();
        world.cordoned.clear();
        for action in &plan.actions {
            if let Verb::Retire { registration, .. } = &action.verb {
                let told = world.told.get(registration).cloned().unwrap_or_default();
                let dead = matches!(action.reason, Reason::NeverReady { .. });
                world.chosen.insert(registration.clone(), Chosen { told, dead });
            }
        }
        for kept in &plan.kept {
            world.say(|| format!("plan: kept {}: {}", kept.address, kept.reason));
            let registration = records
                .get(&kept.address)
                .and_then(|record| record.registration.clone());
            if let Some(registration) = registration {
                stays(world, &registration, kept, surplus);
            }
        }
    });
}

/// Counts the lies that a plan did not go by, and the races that a delete would have lost where nothing is deleted.
fn stays(world: &mut World, runner: &RegistrationId, kept: &Kept, surplus: bool) {
    let dead = kept.state == Some(RunnerState::Failed);
    if !surplus && !dead {
        return;
    }
    let saver = match &kept.reason {
        Reason::LeavesByItself => Saver::Leaves,
        // Its runner is not told: it is on its way out.
        Reason::Unfinished if world.kind == Kind::Circleci => Saver::Leaves,
        Reason::BusyUnknown => Saver::Doubt,
        Reason::Busy { .. } => Saver::Jobs,
        Reason::PartialDemand { .. } => Saver::Partial,
        _ => return,
    };
    let Some(told) = world.told.get(runner).cloned() else {
        return;
    };
    if told.busy {
        for lie in told.lies {
            world.hits.add(lie, saver);
        }
    } else if kept.reason == Reason::LeavesByItself {
        if world.chance(25) {
            world.land(runner);
        }
        let race = if dead {
            Race::LateRegistration
        } else {
            Race::LandsBeforePause
        };
        world.look_later(runner, race, saver);
    }
}

/// Notes what kept a machine that was to be retired.
struct Notes(Scene);

impl Reporter for Notes {
    fn event(&self, event: &Event<'_>) {
        self.0.at(|world| match event {
            Event::Held { action, reason } => {
                world.say(|| format!("apply: held {}: {reason}", action.address));
                if let Some(runner) = retired(action) {
                    held(world, runner, reason);
                }
            }
            Event::Errored { action, why, .. } => {
                world.say(|| format!("apply: failed {}: {why}", action.address));
            }
            Event::Complete { action, .. } => {
                world.say(|| format!("apply: done {} {}", action.verb.as_str(), action.address));
            }
            _ => {}
        });
    }
}

fn retired(action: &Action) -> Option<&RegistrationId> {
    match &action.verb {
        Verb::Retire { registration, .. } => Some(registration),
        _ => None,
    }
}

/// Counts the races that a machine was in which the apply did not delete.
fn held(world: &mut World, runner: &RegistrationId, reason: &Reason) {
    let (Some(chosen), Some(own)) = (world.chosen.get(runner), world.runners.get(runner)) else {
        return;
    };
    let paused = world.paused_for(runner);
    let saver = match (reason, paused) {
        (Reason::BusyAfterCordon | Reason::BusyUnknown, Some(_)) => Saver::SecondReading,
        (Reason::BusyAfterCordon | Reason::BusyUnknown, None) => Saver::FirstLook,
        (Reason::CordonFailed { .. }, Some(_)) => Saver::ReadingFailed,
        // Counted when it is certain that it mattered.
        _ => return,
    };
    if !own.is_busy() {
        return;
    }
    let mut races = chosen.told.lies.clone();
    if chosen.dead {
        races.insert(Race::LateRegistration);
    } else if !chosen.told.busy {
        let late = paused.is_some_and(|paused| {
            let started = own.running.iter().filter_map(|job| world.jobs.get(job));
            started.map(|job| job.started).all(|started| started > paused)
        });
        races.insert(if late {
            Race::LandsAfterPause
        } else {
            Race::LandsBeforePause
        });
    }
    for race in races {
        world.hits.add(race, saver);
    }
}
