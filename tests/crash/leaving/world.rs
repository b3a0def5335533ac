//! The world of one schedule: machines, runners and jobs, which live on while calls take their time.
//!
//! Times are milliseconds since the schedule began. The world is brought up to date whenever somebody looks
//! ([`World::advance`]); nothing in it depends on who looks when. All chance comes from one seeded source.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fmt::Write as _,
};

use runfleet::model::{
    ids::RegistrationId,
    resource::{CordonKind, ResourceRef},
};

use super::{
    super::converge::Dice,
    races::{Hits, Kind, Race, Saver},
};

/// Milliseconds.
pub type Ms = i64;

/// How long after a pause took effect a runner may still be handed a job, and a job that it was handed be listed.
pub const SETTLE: Ms = 5_000;
/// The part of it in which jobs are handed out where the list of what runs lags too (Drone).
const HANDED_LATE: Ms = 2_500;
/// The other part: a stage, or a job, that a runner took is listed as waiting for at most so long.
const LISTED_LATE: Ms = SETTLE - HANDED_LATE;
/// A job that an agent was assigned is received by it after at most so long (Azure DevOps).
const RECEIVED_LATE: Ms = 9_000;
/// Runners ask for jobs at least so often.
const HAND_OUT: Ms = 2_500;

/// A machine's runner, from its registration until it is forgotten.
#[derive(Clone, Debug)]
pub struct Runner {
    pub description: String,
    /// Its machine, while that exists.
    pub machine: Option<ResourceRef>,
    /// Whether the machine has booted and its runner asks for jobs.
    pub up: bool,
    /// Whether its process has ended by itself.
    pub exited: bool,
    pub last_contact: Option<Ms>,
    /// Since when it is paused.
    pub paused: Option<Ms>,
    pub running: BTreeSet<u32>,
    /// When it began or ceased to be busy, and what it was before.
    changed: Ms,
    before: bool,
}

impl Runner {
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Queued,
    Running(RegistrationId),
    Finished(RegistrationId, Ms),
    Killed,
}

#[derive(Clone, Debug)]
pub struct Job {
    pub fate: Fate,
    pub queued: Ms,
    pub started: Ms,
    length: Ms,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Hand,
    Finish(u32),
    Up(RegistrationId),
    /// A runner that asked for a job before the pause is handed one after it.
    Late(RegistrationId),
    /// A runner that has had nothing to do for its time-out ends, if it has not worked since.
    Exit(RegistrationId, Ms),
    Off(RegistrationId),
    /// A delete whose answer was lost takes effect.
    Vanish(ResourceRef),
    /// Whether a machine runs a job now that would have been deleted by now.
    Look(RegistrationId, Race, Saver),
}

/// What the last reading said of a busy runner that was not so.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub busy: bool,
    pub lies: BTreeSet<Race>,
}

/// A machine that the plan retires.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub told: Told,
    /// Whether it goes because it never became ready.
    pub dead: bool,
}

#[derive(Debug)]
pub struct World {
    pub kind: Kind,
    pub now: Ms,
    pub dice: Dice,
    /// Whether anything goes wrong.
    pub lies: bool,
    /// How far the busy flag lags.
    pub lag: Ms,
    pub slots: usize,
    /// Whether a runner ends after one job, and its machine with it (Azure DevOps, in half of the schedules).
    once: bool,
    /// After how long without a job a runner ends (CircleCI).
    idle_out: Ms,
    pub slow_boots: u32,
    pub runners: BTreeMap<RegistrationId, Runner>,
    pub jobs: BTreeMap<u32, Job>,
    pub queue_paused: Option<Ms>,
    pub killed: Vec<String>,
    /// Machines that have switched themselves off, not yet told to the cloud.
    pub off: Vec<ResourceRef>,
    /// Machines that are gone and that the cloud must drop.
    pub vanished: Vec<ResourceRef>,
    pub hits: Hits,
    /// By the last reading.
    pub told: BTreeMap<RegistrationId, Told>,
    /// By the plan that is being carried out.
    pub chosen: BTreeMap<RegistrationId, Chosen>,
    /// Whose pause was made in this apply, and when it took effect.
    pub cordoned: BTreeMap<RegistrationId, Ms>,
    /// What stayed paused since its resume failed, and in which tick that was.
    stuck: BTreeMap<RegistrationId, u32>,
    pub tick: u32,
    /// How many machines were deleted, and how many cordons were asked for.
    pub deleted: u64,
    pub cordons: u64,
    events: BinaryHeap<Reverse<(Ms, u64, Event)>>,
    sequence: u64,
    last_runner: u32,
    /// What happened, folded: the same for the same seed.
    pub trace: u64,
    /// What happened, told; none unless wished for.
    pub log: Option<String>,
}

impl World {
    pub fn new(kind: Kind, seed: u64, log: bool) -> Self {
        let mut dice = Dice(seed);
        let lag = *dice.pick(&[0, 4_000, 15_000, 40_000]);
        let slots = *dice.pick(&[1, 2]);
        // Its agents run one job at a time.
        let (slots, once) = match kind {
            Kind::Azure => (1, dice.below(2) == 0),
            _ => (slots, false),
        };
        let idle_out = 15_000 + 1_000 * i64::try_from(dice.below(45)).unwrap();
        Self {
            kind,
            now: 0,
            dice,
            lies: true,
            lag,
            slots,
            once,
            idle_out,
            slow_boots: 0,
            runners: BTreeMap::new(),
            jobs: BTreeMap::new(),
            queue_paused: None,
            killed: Vec::new(),
            off: Vec::new(),
            vanished: Vec::new(),
            hits: Hits::default(),
            told: BTreeMap::new(),
            chosen: BTreeMap::new(),
            cordoned: BTreeMap::new(),
            stuck: BTreeMap::new(),
            tick: 0,
            deleted: 0,
            cordons: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            last_runner: 0,
            trace: seed,
            log: log.then(String::new),
        }
    }

    /// Whether something of this chance in a hundred goes wrong now.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.dice.below(100) < percent && self.lies
    }

    pub fn between(&mut self, from: Ms, to: Ms) -> Ms {
        from + i64::try_from(self.dice.below(u64::try_from(to - from).unwrap())).unwrap()
    }

    pub fn say(&mut self, what: impl FnOnce() -> String) {
        self.trace = (self.trace ^ u64::try_from(self.now).unwrap()).wrapping_mul(0x0100_0000_01b3);
        if let Some(log) = &mut self.log {
            let _ = writeln!(log, "  {:>9.3}  {}", self.now as f64 / 1000.0, what());
        }
    }

    fn at(&mut self, when: Ms, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((when, self.sequence, event)));
    }

    /// Lets everything happen that does until then.
    pub fn advance(&mut self, to: Ms) {
        while let Some(Reverse((when, ..))) = self.events.peek() {
            if *when > to {
                break;
            }
            let Some(Reverse((when, _, event))) = self.events.pop() else {
                break;
            };
            self.now = self.now.max(when);
            self.happen(event);
        }
        self.now = self.now.max(to);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => {
                let job = self.job();
                self.say(|| format!("job {job} comes"));
                self.hand_out_soon();
            }
            Event::Hand => self.hand_out(),
            Event::Finish(job) => self.finish(job),
            Event::Up(runner) => self.come_up(&runner),
            Event::Late(runner) => {
                if self.can_take(&runner) {
                    let job = self.job();
                    self.say(|| format!("job {job} was on its way to {runner}"));
                    self.give(&runner, job);
                }
            }
            Event::Exit(runner, since) => {
                let now = self.now;
                if let Some(own) = self.runners.get_mut(&runner)
                    && own.machine.is_some()
                    && !own.is_busy()
                    && own.changed == since
                {
                    own.exited = true;
                    self.say(|| format!("{runner} ends by itself"));
                    let off = now + self.between(500, 8_000);
                    self.at(off, Event::Off(runner));
                }
            }
            Event::Off(runner) => {
                let machine = self.runners.get(&runner).and_then(|own| own.machine.clone());
                self.off.extend(machine);
                self.say(|| format!("the machine of {runner} is off"));
            }
            Event::Vanish(machine) => {
                self.vanish(&machine);
                self.vanished.push(machine);
            }
            Event::Look(runner, race, saver) => {
                if self.runners.get(&runner).is_some_and(Runner::is_busy) {
                    self.hits.add(race, saver);
                }
            }
        }
    }

    /// So many jobs come, some time before then.
    pub fn jobs_come(&mut self, count: u64, until: Ms) {
        for _ in 0..count {
            let when = self.between(self.now, until.max(self.now + 1));
            self.at(when, Event::Arrive);
        }
    }

    fn job(&mut self) -> u32 {
        let id = u32::try_from(self.jobs.len()).unwrap();
        let length = self.between(3_000, 45_000);
        self.jobs.insert(
            id,
            Job {
                fate: Fate::Queued,
                queued: self.now,
                started: self.now,
                length,
            },
        );
        id
    }

    fn hand_out_soon(&mut self) {
        let when = self.now + self.between(1, HAND_OUT);
        self.at(when, Event::Hand);
    }

    /// Gives what waits to who asks.
    fn hand_out(&mut self) {
        let waiting: Vec<u32> = self.waiting().collect();
        for job in waiting {
            let asking: Vec<RegistrationId> = self
                .runners
                .keys()
                .filter(|runner| self.can_take(runner) && self.paused_since(runner).is_none())
                .cloned()
                .collect();
            if asking.is_empty() {
                return;
            }
            let taken = self.dice.pick(&asking).clone();
            self.give(&taken, job);
        }
    }

    pub fn waiting(&self) -> impl Iterator<Item = u32> {
        let queued = self.jobs.iter().filter(|(_, job)| job.fate == Fate::Queued);
        queued.map(|(id, _)| *id)
    }

    /// Whether it has a machine that works, and a place.
    fn can_take(&self, runner: &RegistrationId) -> bool {
        self.runners.get(runner).is_some_and(|own| {
            own.up && !own.exited && own.machine.is_some() && own.running.len() < self.slots
        })
    }

    fn paused_since(&self, runner: &RegistrationId) -> Option<Ms> {
        self.queue_paused.or(self.runners.get(runner)?.paused)
    }

    fn give(&mut self, runner: &RegistrationId, job: u32) {
        let now = self.now;
        let (Some(own), Some(given)) = (self.runners.get_mut(runner), self.jobs.get_mut(&job)) else {
            return;
        };
        if own.running.is_empty() {
            (own.changed, own.before) = (now, false);
        }
        own.running.insert(job);
        own.last_contact = Some(now);
        given.started = now;
        given.fate = Fate::Running(runner.clone());
        let ends = now + given.length;
        self.say(|| format!("{runner} takes job {job}"));
        self.at(ends, Event::Finish(job));
    }

    fn finish(&mut self, id: u32) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Fate::Running(runner) = job.fate.clone() else {
            return;
        };
        job.fate = Fate::Finished(runner.clone(), now);
        if let Some(own) = self.runners.get_mut(&runner) {
            own.running.remove(&id);
            own.last_contact = Some(now);
            if own.running.is_empty() {
                (own.changed, own.before) = (now, true);
            }
        }
        self.say(|| format!("{runner} has done job {id}"));
        if self.once {
            let off = now + self.between(500, 8_000);
            if let Some(own) = self.runners.get_mut(&runner) {
                own.exited = true;
            }
            self.at(off, Event::Off(runner.clone()));
        }
        self.idle(&runner);
        self.hand_out_soon();
    }

    /// Where runners leave by themselves, one that has nothing to do will.
    fn idle(&mut self, runner: &RegistrationId) {
        let Some(own) = self.runners.get(runner) else {
            return;
        };
        if self.kind == Kind::Circleci && !own.is_busy() {
            let since = own.changed;
            self.at(self.now + self.idle_out, Event::Exit(runner.clone(), since));
        }
    }

    pub fn register(&mut self, id: Option<&str>, description: &str) -> RegistrationId {
        self.last_runner += 1;
        let id = match id {
            Some(id) => RegistrationId::from(id),
            None => RegistrationId::from(self.last_runner.to_string()),
        };
        let runner = Runner {
            description: description.to_owned(),
            machine: None,
            up: false,
            exited: false,
            last_contact: None,
            paused: None,
            running: BTreeSet::new(),
            changed: self.now,
            before: false,
        };
        self.runners.insert(id.clone(), runner);
        id
    }

    pub fn forget(&mut self, runner: &RegistrationId) {
        if self.runners.get(runner).is_some_and(|own| own.machine.is_none()) {
            self.runners.remove(runner);
        }
    }

    /// A runner that was registered before the schedule began.
    pub fn know(&mut self, id: &RegistrationId, description: &str) {
        let known = self.register(Some(id.as_str()), description);
        let number: u32 = known.as_str().parse().unwrap_or_default();
        self.last_runner = self.last_runner.max(number);
    }

    /// A machine was made: it boots, a few take longer than they are given.
    pub fn made(&mut self, runner: &RegistrationId, machine: &ResourceRef, ready_timeout: Ms) {
        let slow = self.slow_boots < 2 && self.chance(20);
        let boot = if slow {
            self.slow_boots += 1;
            ready_timeout + self.between(5_000, 60_000)
        } else {
            self.between(4_000, 25_000)
        };
        if let Some(own) = self.runners.get_mut(runner) {
            own.machine = Some(machine.clone());
            let up = self.now + boot;
            self.say(|| format!("{machine} is made for {runner}, up in {boot} ms"));
            self.at(up, Event::Up(runner.clone()));
        }
    }

    fn come_up(&mut self, runner: &RegistrationId) {
        let now = self.now;
        let Some(own) = self.runners.get_mut(runner) else {
            return;
        };
        if own.machine.is_none() || own.up {
            return;
        }
        own.up = true;
        own.last_contact = Some(now);
        own.changed = now;
        self.say(|| format!("{runner} registers"));
        self.idle(runner);
        self.hand_out_soon();
    }

    /// A delete takes effect: what runs on the machine dies.
    pub fn vanish(&mut self, machine: &ResourceRef) {
        let owner = self
            .runners
            .iter()
            .find(|(_, own)| own.machine.as_ref() == Some(machine));
        let Some(runner) = owner.map(|(runner, _)| runner.clone()) else {
            return;
        };
        self.deleted += 1;
        self.say(|| format!("{machine} of {runner} is gone"));
        if let Some(own) = self.runners.get_mut(&runner) {
            own.machine = None;
            for job in std::mem::take(&mut own.running) {
                let killed = format!("job {job} on {runner} at {} ms", self.now);
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.fate = Fate::Killed;
                }
                self.killed.push(killed);
            }
        }
        if self.stuck.remove(&runner).is_some() {
            self.hits.add(Race::ResumeFails, Saver::Left);
        }
    }

    pub fn vanish_later(&mut self, machine: &ResourceRef) {
        let when = self.now + self.between(1, 5_000);
        self.at(when, Event::Vanish(machine.clone()));
    }

    // -- what the CI does

    /// A job comes to this very runner, before anything keeps it from it; one that was thought dead awakes for it.
    pub fn land(&mut self, runner: &RegistrationId) {
        if self.runners.get(runner).is_some_and(|own| !own.up) {
            self.come_up(runner);
        }
        if self.can_take(runner) && self.paused_since(runner).is_none() {
            let job = self.job();
            self.give(runner, job);
        }
    }

    pub fn pause(&mut self, runner: &RegistrationId, how: CordonKind) {
        let now = self.now;
        let is_absent = self.is_absent(runner);
        self.cordoned.insert(runner.clone(), now);
        match how {
            CordonKind::PauseAll => {
                self.queue_paused.get_or_insert(now);
            }
            _ => {
                if let Some(own) = self.runners.get_mut(runner) {
                    own.paused.get_or_insert(now);
                }
            }
        }
        self.say(|| format!("{runner} is paused"));
        // What registers disabled was never to be handed anything.
        if self.chance(20) && !is_absent {
            let late = match self.kind {
                Kind::Drone | Kind::Exec | Kind::Azure => HANDED_LATE,
                _ => SETTLE,
            };
            let when = now + self.between(0, late);
            self.at(when, Event::Late(runner.clone()));
        }
    }

    /// The pause was not made, or nobody knows: had the machine been deleted all the same, would a job have been killed?
    pub fn pause_failed(&mut self, runner: &RegistrationId) {
        self.say(|| format!("the pause of {runner} fails"));
        let when = self.now + SETTLE;
        self.at(
            when,
            Event::Look(runner.clone(), Race::PauseFails, Saver::NoPause),
        );
    }

    pub fn look_later(&mut self, runner: &RegistrationId, race: Race, saver: Saver) {
        let when = self.now + SETTLE;
        self.at(when, Event::Look(runner.clone(), race, saver));
    }

    pub fn resume(&mut self, runner: &RegistrationId, how: CordonKind) {
        match how {
            CordonKind::PauseAll => self.queue_paused = None,
            _ => {
                if let Some(own) = self.runners.get_mut(runner) {
                    own.paused = None;
                }
            }
        }
        self.say(|| format!("{runner} is resumed"));
        if let Some(tick) = self.stuck.remove(&paused_as(runner, how)) {
            let saver = if tick == self.tick {
                Saver::Again
            } else {
                Saver::LaterTick
            };
            self.hits.add(Race::ResumeFails, saver);
        }
        self.hand_out_soon();
    }

    pub fn resume_failed(&mut self, runner: &RegistrationId, how: CordonKind) {
        self.say(|| format!("the resume of {runner} fails"));
        let tick = self.tick;
        self.stuck.entry(paused_as(runner, how)).or_insert(tick);
    }

    /// Since when a runner of this apply's is paused, alone or with all others.
    pub fn paused_for(&self, runner: &RegistrationId) -> Option<Ms> {
        self.queue_paused.or(self.cordoned.get(runner).copied())
    }

    /// The busy flag, as late as it is.
    pub fn lagging_flag(&self, runner: &Runner) -> bool {
        if self.lies && self.now - runner.changed < self.lag {
            return runner.before;
        }
        runner.is_busy()
    }

    /// Whether a stage that a runner took is not yet listed as running (Drone).
    pub fn is_unlisted(&self, job: &Job) -> bool {
        self.lies && self.now - job.started < self.lag.min(LISTED_LATE)
    }

    /// Whether a job is assigned to a runner that has not received it yet (Azure DevOps).
    pub fn is_not_received(&self, job: &Job) -> bool {
        self.lies && self.now - job.started < self.lag.min(RECEIVED_LATE)
    }

    /// Whether nothing is registered by that name yet, where runners register themselves (Azure DevOps). A pause registers one that
    /// is disabled.
    pub fn is_absent(&self, runner: &RegistrationId) -> bool {
        let is_known = |own: &Runner| own.up || own.paused.is_some();
        self.kind == Kind::Azure && !self.runners.get(runner).is_some_and(is_known)
    }

    /// Whether a pause stands that nobody needs.
    pub fn stands_paused(&self) -> bool {
        let paused = |own: &Runner| own.machine.is_some() && own.paused.is_some();
        self.queue_paused.is_some() || self.runners.values().any(paused)
    }

    pub fn machines(&self) -> usize {
        let there = self.runners.values().filter(|own| own.machine.is_some());
        there.count()
    }
}

/// What a pause is of: one runner, or all.
fn paused_as(runner: &RegistrationId, how: CordonKind) -> RegistrationId {
    match how {
        CordonKind::PauseAll => RegistrationId::from("all"),
        _ => runner.clone(),
    }
}
