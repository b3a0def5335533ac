//! Safe leaving, played out: in random schedules of what a CI's lies and its bad moments can be, no job is killed.
//!
//! Each schedule is a few ticks of the product's own [`Session`](runfleet::tick::Session) over a world in virtual time that
//! goes on while calls are under way. Its seed decides everything: `RUNFLEET_SEED=… cargo test --test crash leaving` plays
//! that one again and tells its steps. `RUNFLEET_SCHEDULES` says how many there are of each CI.

mod azure;
mod ci;
mod cloud;
mod races;
mod scene;
mod schedule;
mod world;

use tokio::runtime::{Builder, Runtime};

use self::{
    races::{Hits, Kind, Race},
    schedule::{Outcome, Sight, Template, play},
};

/// How many schedules of a CI are played.
const SCHEDULES: u64 = 10_000;
/// The least that each race must have happened and mattered in so many, or more.
const HITS: u64 = 100;
/// How many of the first are played without the second reading too, and how many twice.
const BLIND: u64 = 300;
const TWICE: u64 = 20;
/// The schedules are dealt out to so many threads, each with a virtual time of its own.
const THREADS: u64 = 2;

/// What came of many schedules.
#[derive(Debug, Default)]
struct Sum {
    hits: Hits,
    ticks: u64,
    deleted: u64,
    cordons: u64,
    /// Jobs killed where the second reading was disabled.
    blind: usize,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.hits.merge(&outcome.hits);
        self.ticks += u64::from(outcome.ticks);
        self.deleted += outcome.deleted;
        self.cordons += outcome.cordons;
    }

    fn merge(mut self, other: &Self) -> Self {
        self.hits.merge(&other.hits);
        self.ticks += other.ticks;
        self.deleted += other.deleted;
        self.cordons += other.cordons;
        self.blind += other.blind;
        self
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

/// What is wrong with a schedule's outcome.
fn wrong(outcome: &Outcome) -> Option<String> {
    match (&outcome.unsettled, outcome.killed.as_slice()) {
        (None, []) => None,
        (Some(what), []) => Some(format!("not at rest: {what}")),
        (_, killed) => Some(format!("killed: {}", killed.join(", "))),
    }
}

/// Plays these schedules; `Err` with the story of the first in which something is wrong.
fn play_all(template: &Template, seeds: impl Iterator<Item = u64>) -> Result<Sum, String> {
    let runtime = runtime();
    let play = |seed, sight, log| runtime.block_on(play(template, seed, sight, log));
    let mut sum = Sum::default();
    for seed in seeds {
        let outcome = play(seed, Sight::Sees, false);
        if let Some(wrong) = wrong(&outcome) {
            let story = play(seed, Sight::Sees, true).log;
            return Err(format!(
                "{wrong}\nRUNFLEET_SEED={seed} plays this again:\n{story}"
            ));
        }
        sum.add(&outcome);
        if seed < TWICE && play(seed, Sight::Sees, false).trace != outcome.trace {
            return Err(format!("seed {seed} does not decide everything"));
        }
        if seed < BLIND {
            sum.blind += play(seed, Sight::Blind, false).killed.len();
        }
    }
    Ok(sum)
}

/// Plays all schedules of a CI, tells what came of them, and holds the races against what is asked of them.
fn leave(kind: Kind, tell: fn(String)) {
    let template = runtime().block_on(Template::new(kind));
    if let Some(seed) = number("RUNFLEET_SEED") {
        let outcome = runtime().block_on(play(&template, seed, Sight::Sees, true));
        tell(format!("{}, seed {seed}:\n{}", kind.as_str(), outcome.log));
        assert_eq!(wrong(&outcome), None);
        return;
    }
    let schedules = number("RUNFLEET_SCHEDULES").unwrap_or(SCHEDULES);
    let sums: Vec<Result<Sum, String>> = std::thread::scope(|scope| {
        let template = &template;
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let seeds = (0..schedules).filter(move |seed| seed % THREADS == thread);
                scope.spawn(move || play_all(template, seeds))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut sum = Sum::default();
    for part in sums {
        match part {
            Ok(part) => sum = sum.merge(&part),
            Err(story) => panic!("{}: {story}", kind.as_str()),
        }
    }
    tell(format!(
        "{}: {schedules} schedules, {} ticks, {} pauses asked for, {} machines deleted, 0 jobs killed; without the second \
         reading {} in the first {}\n{}",
        kind.as_str(),
        sum.ticks,
        sum.cordons,
        sum.deleted,
        sum.blind,
        schedules.min(BLIND),
        sum.hits.table(kind),
    ));
    for race in Race::ALL {
        let count = sum.hits.of(race);
        if race.impossible(kind).is_some() {
            assert_eq!(count, 0, "{race:?} cannot happen, and did");
        } else {
            let enough = HITS * schedules.min(SCHEDULES) / SCHEDULES;
            assert!(
                count >= enough,
                "{race:?} happened {count} times, which shows little"
            );
        }
    }
    if kind == Kind::Circleci {
        assert_eq!(
            (sum.cordons, sum.blind),
            (0, 0),
            "nothing is paused, nor read again"
        );
    } else {
        assert!(sum.blind > 0, "it is not the second reading that saves the jobs");
    }
}

#[test]
fn no_job_is_killed_by_leaving_a_gitlab_that_lies() {
    leave(Kind::Gitlab, |text| println!("{text}"));
}

#[test]
fn no_job_is_killed_by_leaving_a_drone_that_lies() {
    leave(Kind::Drone, |text| println!("{text}"));
}

#[test]
fn no_job_is_killed_by_leaving_a_circleci_that_lies() {
    leave(Kind::Circleci, |text| println!("{text}"));
}

#[test]
fn no_job_is_killed_by_leaving_an_azure_devops_that_lies() {
    leave(Kind::Azure, |text| println!("{text}"));
}

#[test]
fn no_job_is_killed_by_leaving_a_program_that_lies() {
    leave(Kind::Exec, |text| println!("{text}"));
}
