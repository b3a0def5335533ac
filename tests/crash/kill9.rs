//! `kill -9` at random moments of real processes, the sandbox being another.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use crate::support::{Project, Sandbox};

/// A small generator, so that a failure's seed plays it again.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn kills() -> u32 {
    std::env::var("RUNFLEET_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200)
}

/// Runs a tick, and kills it: mostly a random while after its first intent. Answers whether it died, and whether it
/// died between its first intent and its last outcome.
fn killed_tick(project: &Project, dice: &mut Dice) -> (bool, bool) {
    let journal = project.path("stacks/test.journal");
    let had_journal = journal.exists();
    let mut child = project
        .command(&["scale"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    if dice.roll(8) != 0 && !had_journal {
        while !journal.exists() && begun.elapsed() < Duration::from_secs(5) {
            if child.try_wait().unwrap().is_some() {
                return (false, false);
            }
            std::thread::yield_now();
        }
    }
    let until = Instant::now() + Duration::from_micros(dice.roll(120_000));
    while Instant::now() < until {
        if child.try_wait().unwrap().is_some() {
            return (false, false);
        }
        std::thread::yield_now();
    }
    let died = child.try_wait().unwrap().is_none();
    let _ = child.kill();
    child.wait().unwrap();
    (died, died && journal.exists())
}

/// Lets ticks come to rest, and holds the world to the records. What is condemned once needs a second look.
fn agree(sandbox: &Sandbox, project: &Project, seed: u64) {
    sandbox.clear_faults();
    let registrations = |world: &serde_json::Value| world["runners"].as_array().map_or(0, Vec::len);
    let mut last = String::new();
    for _ in 0..12 {
        sandbox.advance("2m30s");
        last = project.run(&["scale"]).stdout;
        let world = sandbox.world();
        assert_eq!(world["jobs_killed"], 0, "seed {seed}: a job was killed");
        let servers = sandbox.servers();
        let agreed = servers == project.machines_on_record() && registrations(&world) == servers.len();
        if agreed && last.contains("No changes") {
            break;
        }
    }
    let servers = sandbox.servers();
    assert_eq!(servers, project.machines_on_record(), "seed {seed}: {last}");
    assert_eq!(
        registrations(&sandbox.world()),
        servers.len(),
        "seed {seed}: a registration without a machine"
    );
}

#[test]
fn kills_at_random_lose_no_machine_double_none_and_kill_no_job() {
    let wanted = kills();
    let seed = 0x5eed_2026;
    let mut dice = Dice(seed);
    let sandbox = Sandbox::start(&["boot=20s", "latency=3ms", "action_time=0s", "rate_limit=off"]);
    let project = Project::new(&sandbox, "");
    let (mut killed, mut inside) = (0, 0);
    while killed < wanted {
        match dice.roll(3) {
            0 => sandbox.advance(&format!("{}s", 60 + dice.roll(1200))),
            _ => sandbox.jobs(
                1 + u32::try_from(dice.roll(8)).unwrap(),
                &format!("{}s", 60 + dice.roll(600)),
            ),
        }
        let (died, between) = killed_tick(&project, &mut dice);
        killed += u32::from(died);
        inside += u32::from(between);
        if died && killed % 20 == 0 {
            agree(&sandbox, &project, seed);
        }
    }
    agree(&sandbox, &project, seed);
    println!("kills: {killed}, between the first intent and the last outcome: {inside}");
    assert!(
        inside * 2 >= killed,
        "only {inside} of {killed} kills hit an apply"
    );
}
