//! Coming from gitlab-runners-fleet: its configuration becomes a stack file, and its day is played with that.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use serde::Deserialize;
use serde_json::Value;

use crate::support::{Project, Sandbox};

const SCENARIO: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/scenarios/gitlab_runners_fleet.toml"
);
const TRANSCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/scenarios/gitlab_runners_fleet.txt"
);

/// Minutes between two ticks.
const EVERY: i64 = 5;

#[derive(Deserialize)]
struct Day {
    config: String,
    step: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    at: String,
    say: String,
    jobs: Option<Value>,
    fault: Option<Value>,
}

/// Minutes of `59m`, `6h59m`.
pub fn minutes(text: &str) -> i64 {
    let length: jiff::SignedDuration = text.parse().unwrap();
    length.as_mins()
}

/// A folder with the stack file that is made from this configuration, then told where the sandbox is.
fn migrated(sandbox: &Sandbox, config: &str) -> Project {
    let project = Project::with_stack("", sandbox.token());
    std::fs::write(project.path("scale.config"), config).unwrap();
    std::fs::remove_file(project.path("stacks/test.toml")).unwrap();
    project
        .run(&[
            "init",
            "--from",
            "gitlab-runners-fleet",
            "scale.config",
            "--out",
            "stacks/test.toml",
        ])
        .exits(0);
    project.run(&["validate"]).exits(0);
    project.edit(
        "token = { env = \"HCLOUD_TOKEN\" }",
        &format!(
            "token = {{ env = \"HCLOUD_TOKEN\" }}\nendpoint = \"{}\"",
            sandbox.hetzner()
        ),
    );
    project.edit(
        "[ci.gitlab]\n",
        &format!("[ci.gitlab]\nurl = \"{}\"\nsettle = \"50ms\"\n", sandbox.gitlab()),
    );
    project
}

/// A machine by its pool alone: names are drawn anew in each run.
fn nameless(address: &str) -> &str {
    match address.split_once('/') {
        Some((kind, _)) if kind.starts_with("machine.") || kind.starts_with("batch.") => kind,
        _ => address,
    }
}

/// Times of day left out: what transcripts of two runs have in common.
fn without_times(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let bare = word.trim_end_matches([',', ')']);
        let time = bare.len() == 9 && bare.ends_with('Z') && bare.as_bytes()[2] == b':';
        if time {
            word.replace(bare, "TIME")
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

pub fn told(plan: &Value) -> String {
    let mut lines: BTreeMap<String, u32> = BTreeMap::new();
    for change in plan["changes"].as_array().unwrap() {
        let address = nameless(change["address"].as_str().unwrap());
        let reason = without_times(change["reason"].as_str().unwrap());
        let line = format!("{} {address}: {reason}", change["verb"].as_str().unwrap());
        *lines.entry(line).or_default() += 1;
    }
    for held in plan["held"].as_array().unwrap() {
        let about = nameless(held["about"].as_str().unwrap());
        let reason = without_times(held["reason"].as_str().unwrap());
        *lines.entry(format!("held {about}: {reason}")).or_default() += 1;
    }
    let mut text = String::new();
    for (line, count) in lines {
        let times = if count > 1 {
            format!("{count} x ")
        } else {
            String::new()
        };
        let _ = writeln!(text, "  {times}{line}");
    }
    text
}

#[test]
fn a_day_of_the_fleet_goes_as_its_transcript_says() {
    let day: Day = toml::from_str(&std::fs::read_to_string(SCENARIO).unwrap()).unwrap();
    let sandbox = Sandbox::start(&["speed=0", "boot=20s", "action_time=0s"]);
    let project = migrated(&sandbox, &day.config);
    let mut text = String::new();
    let mut now = 0;
    for step in &day.step {
        let at = minutes(&step.at);
        while at > now {
            let next = at.min(now + EVERY);
            sandbox.advance(&format!("{}m", next - now));
            now = next;
            if now < at {
                let plan = project.run(&["plan", "--json"]).exits(0).json();
                project.run(&["scale"]).exits(0);
                let told = told(&plan);
                if !told.is_empty() {
                    let _ = writeln!(text, "{now}m\n{told}");
                }
            }
        }
        if let Some(jobs) = &step.jobs {
            let mut jobs = jobs.clone();
            jobs["tags"] = serde_json::json!(["gitlab_runner_fleet"]);
            sandbox.post("/jobs", &jobs);
        }
        sandbox.clear_faults();
        if let Some(fault) = &step.fault {
            sandbox.fault(fault);
        }
        let _ = writeln!(text, "{}  {}", step.at, step.say);
        let plan = project.run(&["plan", "--json"]).exits(0).json();
        project.run(&["scale"]).exits(0);
        text.push_str(&told(&plan));
        let world = sandbox.world();
        let jobs = world["jobs"].as_array().unwrap();
        let count = |status: &str| jobs.iter().filter(|job| job["status"] == status).count();
        let _ = writeln!(
            text,
            "  = {} machines, {} jobs wait, {} run, {} killed\n",
            sandbox.servers().len(),
            count("pending"),
            count("running"),
            world["jobs_killed"]
        );
    }
    assert_eq!(sandbox.world()["jobs_killed"], 0);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(TRANSCRIPT, &text).unwrap();
    }
    let golden = std::fs::read_to_string(Path::new(TRANSCRIPT)).unwrap_or_default();
    assert!(
        golden == text,
        "the transcript differs; BLESS=1 writes this one:\n{text}"
    );
}

#[test]
fn a_configuration_is_taken_over_and_what_has_no_equivalent_is_named() {
    let project = Project::with_stack("", "t");
    let config =
        "[scaling]\njobs_per_instance = 2\n[gitlab]\napi_token = \"env:TOKEN\"\n[pulumi]\nstack = \"s\"\n";
    std::fs::write(project.path("config.toml"), config).unwrap();
    project
        .run(&["init", "--from", "gitlab-runners-fleet", "config.toml"])
        .exits(0)
        .says("pulumi.stack: there is no Pulumi")
        .says("Wrote stacks/fleet.toml");
    let text = std::fs::read_to_string(project.path("stacks/fleet.toml")).unwrap();
    assert!(
        text.contains("{ env = \"TOKEN\" }") && text.contains("jobs_per_runner = 2"),
        "{text}"
    );
    project.run(&["-s", "fleet", "validate"]).exits(0);
    project
        .run(&["init", "--from", "gitlab-runners-fleet", "config.toml"])
        .exits(1)
        .says("is there already");
    let told = project
        .run(&[
            "--json",
            "init",
            "--from",
            "gitlab-runners-fleet",
            "config.toml",
            "--out",
            "stacks/b.toml",
        ])
        .exits(0)
        .json();
    assert_eq!(told["left"][0]["key"], "pulumi.stack");
}

#[test]
fn a_configuration_that_is_none_writes_nothing_and_says_where_it_fails() {
    let project = Project::with_stack("", "t");
    std::fs::write(
        project.path("broken.json"),
        "{\n  \"runner_tag\": \"x\",\n  oops\n}",
    )
    .unwrap();
    std::fs::write(project.path("other.toml"), "[package]\nname = \"x\"\n").unwrap();
    let from = |path: &str| {
        let arguments = ["init", "--from", "gitlab-runners-fleet", path];
        project.run(&arguments).exits(1)
    };
    from("broken.json").says("line 3");
    from("other.toml").says("none of the keys");
    from("missing.json").says("missing.json");
    project
        .run(&["init", "--from", "gitlab-runners-fleet"])
        .exits(1)
        .says("needs the path");
    project
        .run(&["init", "--from", "hetzner", "other.toml"])
        .exits(1)
        .says("other.toml is not asked for");
    assert!(!project.path("stacks/fleet.toml").exists() && !project.path("stacks/dev.toml").exists());
}
