//! Two `watch` processes on one stack, one killed with `kill -9` at random moments: the other takes over within the lease,
//! nothing is doubled, nothing is lost, and no job is killed.
//!
//! `RUNFLEET_WATCH_KILLS` says how many kills there are (50 without it).

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{kill9::Dice, moto, watching::Watch};
use crate::support::{Project, Sandbox, stack_text};

/// A takeover on one host is a matter of the pause between two tries; this is far less than any lease, and enough for a
/// machine that is busy with other tests.
const TAKEOVER: Duration = Duration::from_secs(20);

const TICK: &str = "\"event\":\"tick\"";
const LEADS: &str = "\"event\":\"leads\"";
const STANDS_BY: &str = "\"event\":\"stands_by\"";

fn kills() -> u32 {
    std::env::var("RUNFLEET_WATCH_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(50)
}

/// The cloud names of the machines on record, wherever the record is.
fn on_record(project: &Project) -> Vec<String> {
    let ran = project.run(&["state", "pull"]);
    let state: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let resources = state["resources"].as_object().unwrap();
    let mut names: Vec<String> = resources
        .iter()
        .filter(|(address, _)| address.starts_with("machine."))
        .map(|(_, record)| record["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Lets the leader come to rest, and holds the world to the records. What is condemned once needs a second look.
fn agree(sandbox: &Sandbox, project: &Project, leader: &mut Watch, seed: u64) {
    let registrations = |world: &Value| world["runners"].as_array().map_or(0, Vec::len);
    let mut seen = (Vec::new(), Vec::new(), 0);
    for _ in 0..12 {
        sandbox.advance("2m30s");
        // The first may have begun before.
        leader.heard();
        leader.says(TICK);
        leader.says(TICK);
        let world = sandbox.world();
        assert_eq!(world["jobs_killed"], 0, "seed {seed}: a job was killed");
        seen = (sandbox.servers(), on_record(project), registrations(&world));
        if seen.0 == seen.1 && seen.2 == seen.0.len() {
            return;
        }
    }
    panic!(
        "seed {seed}: there is {:?}, on record {:?}, registered {}\n{}",
        seen.0,
        seen.1,
        seen.2,
        leader.heard().join("\n")
    );
}

/// Waits for a random moment: mostly one after an intent, where the journal can be seen.
fn moment(journal: Option<&Path>, dice: &mut Dice) {
    let begun = Instant::now();
    let mut wait = Duration::from_millis(dice.roll(1300));
    if let Some(journal) = journal
        && dice.roll(4) != 0
    {
        while !journal.exists() && begun.elapsed() < Duration::from_secs(3) {
            std::thread::yield_now();
        }
        wait = begun.elapsed() + Duration::from_millis(dice.roll(150));
    }
    while begun.elapsed() < wait {
        std::thread::yield_now();
    }
}

/// Kills the leader again and again; the longest time without one, and how many kills hit an apply.
fn killed_in_turn(
    sandbox: &Sandbox,
    project: &Project,
    journal: Option<&Path>,
    seed: u64,
) -> (Duration, u32) {
    let mut dice = Dice(seed);
    let mut inside = 0;
    let mut longest = Duration::ZERO;
    let mut leader = Watch::start(project, &["--json"]);
    leader.says(LEADS);
    let mut other = Watch::start(project, &["--json"]);
    other.says(STANDS_BY);
    for kill in 1..=kills() {
        match dice.roll(3) {
            0 => sandbox.advance(&format!("{}s", 60 + dice.roll(1200))),
            _ => sandbox.jobs(
                1 + u32::try_from(dice.roll(8)).unwrap(),
                &format!("{}s", 60 + dice.roll(600)),
            ),
        }
        moment(journal, &mut dice);
        leader.kill();
        inside += u32::from(journal.is_some_and(Path::exists));
        let begun = Instant::now();
        other.says(LEADS);
        longest = longest.max(begun.elapsed());
        leader = other;
        other = Watch::start(project, &["--json"]);
        other.says(STANDS_BY);
        if kill % 10 == 0 {
            agree(sandbox, project, &mut leader, seed);
        }
    }
    agree(sandbox, project, &mut leader, seed);
    for mut watch in [other, leader] {
        watch.signal("-TERM");
        let code = watch.ends();
        assert!(matches!(code, Some(0 | 3)), "{code:?}\n{}", watch.said.join("\n"));
    }
    (longest, inside)
}

fn project(sandbox: &Sandbox, state: &str) -> Project {
    let text = stack_text(sandbox.hetzner(), sandbox.gitlab(), "")
        .replace("interval = \"3m\"", "interval = \"1s\"")
        // Hetzner's 3,600 would stretch the second.
        .replace("endpoint = ", "requests_per_hour = 1000000\nendpoint = ")
        .replace("state = \"file\"", state);
    Project::with_stack(&text, sandbox.token())
}

fn sandbox() -> Sandbox {
    Sandbox::start(&["boot=20s", "latency=5ms", "action_time=0s", "rate_limit=off"])
}

#[test]
fn of_two_watches_over_one_folder_one_may_be_killed_at_any_moment() {
    let sandbox = sandbox();
    let project = project(&sandbox, "state = \"file\"");
    let journal = project.path("stacks/test.journal");
    let (longest, inside) = killed_in_turn(&sandbox, &project, Some(&journal), 0x5eed_0006);
    println!(
        "{} kills, {inside} of them in an apply, the longest time without a leader: {longest:?}",
        kills()
    );
    assert!(longest < TAKEOVER, "{longest:?}");
    assert!(inside > 0, "no kill hit an apply");
}

#[test]
fn of_two_watches_over_one_bucket_one_may_be_killed_at_any_moment() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some((endpoint, bucket)) = runtime.block_on(moto::bucket()) else {
        return;
    };
    let sandbox = sandbox();
    let state = format!(
        "state = {{ address = \"s3://{bucket}/ci\", endpoint = \"{endpoint}\", access_key = {{ env = \"HCLOUD_TOKEN\" }}, \
         secret_key = {{ env = \"GITLAB_API_TOKEN\" }} }}"
    );
    let project = project(&sandbox, &state);
    let (longest, _) = killed_in_turn(&sandbox, &project, None, 0x5eed_1006);
    println!(
        "{} kills, the longest time without a leader: {longest:?}",
        kills()
    );
    assert!(longest < TAKEOVER, "{longest:?}");
}
