//! Machines made anew while jobs run.

use std::collections::BTreeSet;

use crate::support::{Project, Sandbox};

/// Three machines that are ready, one of them with a job of ten minutes; the busy one's name in the cloud.
fn running(sandbox: &Sandbox, project: &Project) -> String {
    project.edit("min = 0", "min = 3");
    sandbox.jobs(1, "10m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("1m");
    let status = project.run(&["status", "--json"]).exits(0).json();
    let runners = status["pools"][0]["runners"].as_array().unwrap();
    let busy = runners.iter().find(|runner| runner["busy"] == true).unwrap();
    let short = busy["name"].as_str().unwrap();
    let servers = sandbox.servers();
    assert_eq!(servers.len(), 3);
    servers.into_iter().find(|name| name.ends_with(short)).unwrap()
}

/// One tick: how many servers came and which went, and a minute passes.
fn tick(sandbox: &Sandbox, project: &Project) -> (usize, Vec<String>) {
    let before: BTreeSet<String> = sandbox.servers().into_iter().collect();
    project.run(&["scale"]).exits(0);
    let after: BTreeSet<String> = sandbox.servers().into_iter().collect();
    assert!(after.len() >= 3, "never fewer than the target: {after:?}");
    sandbox.advance("1m");
    let gone = before.difference(&after).cloned().collect();
    (after.difference(&before).count(), gone)
}

#[test]
fn another_image_rolls_through_a_fleet_each_machine_after_its_replacement_and_the_busy_one_last() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    let busy = running(&sandbox, &project);
    project.edit("debian-12", "debian-13");
    project
        .run(&["plan"])
        .exits(0)
        .says("takes the place of")
        .says("made from another image");
    assert_eq!(sandbox.servers().len(), 3);

    let mut transcript = Vec::new();
    let mut gone = Vec::new();
    for _ in 0..16 {
        let (came, went) = tick(&sandbox, &project);
        transcript.push((came, went.len()));
        gone.extend(went);
    }
    let turns: Vec<_> = transcript.iter().filter(|turn| **turn != (0, 0)).collect();
    let (create, delete) = (&(1, 0), &(0, 1));
    assert_eq!(
        turns,
        [create, delete, create, delete, create, delete],
        "{transcript:?}"
    );
    assert_eq!(gone.len(), 3);
    assert_eq!(gone[2], busy, "the busy one goes last");
    let state = project.state().to_string();
    assert!(state.contains("debian-13") && !state.contains("debian-12"));
    assert_eq!(sandbox.world()["jobs_killed"], 0);
    project.run(&["scale"]).exits(0).says("No changes");
}

#[test]
fn a_template_that_never_registers_stops_the_roll_at_the_first_machine_and_the_old_ones_serve() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "ready_timeout = \"2m\"");
    running(&sandbox, &project);
    let old = sandbox.servers();
    std::fs::create_dir(project.path("cloud-init")).unwrap();
    std::fs::write(project.path("cloud-init/broken.tera"), "#cloud-config\n").unwrap();
    project.edit(
        "ready_timeout",
        "cloud_init = \"cloud-init/broken.tera\"\nready_timeout",
    );

    let (came, _) = tick(&sandbox, &project);
    assert_eq!(came, 1);
    sandbox.advance("2m");
    let (came, gone) = tick(&sandbox, &project);
    assert_eq!((came, gone.len()), (0, 1), "what never came up goes");
    for _ in 0..3 {
        assert_eq!(tick(&sandbox, &project), (0, Vec::new()));
        assert_eq!(sandbox.servers(), old);
    }
    project
        .run(&["plan"])
        .exits(0)
        .says("the roll stopped: machine.linux/")
        .says("did not become ready");
    project.run(&["scale", "--strict"]).exits(3);
    sandbox.jobs(2, "1m");
    sandbox.advance("30s");
    let status = project.run(&["status", "--json"]).exits(0).json();
    assert!(status["pools"][0]["running"].as_u64().unwrap() >= 2, "{status:#}");
    assert_eq!(sandbox.world()["jobs_killed"], 0);

    project.edit("cloud_init = \"cloud-init/broken.tera\"\n", "");
    project.run(&["scale", "--strict"]).exits(0).says("No changes");
}

#[test]
fn a_machine_that_is_asked_for_is_made_anew_by_this_tick_and_the_next() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    running(&sandbox, &project);
    let status = project.run(&["status", "--json"]).exits(0).json();
    let runners = status["pools"][0]["runners"].as_array().unwrap();
    let idle = runners.iter().find(|runner| runner["busy"] == false).unwrap();
    let name = idle["name"].as_str().unwrap();
    let address = format!("machine.linux/{name}");
    let typo = format!("{address}x");
    project
        .run(&["plan", "--replace", &typo])
        .exits(1)
        .says("is not on record")
        .says(&format!("did you mean {address}"));
    project
        .run(&["scale", "--target", "pools.linxu"])
        .exits(1)
        .says("pools.linux");
    project
        .run(&["scale", "--replace", &address])
        .exits(0)
        .says("takes the place of");
    assert_eq!(sandbox.servers().len(), 4);
    sandbox.advance("1m");
    let (came, gone) = tick(&sandbox, &project);
    assert_eq!((came, gone.len()), (0, 1));
    assert!(gone[0].ends_with(name), "{gone:?} is not {name}");
}

#[test]
fn a_protected_pool_outlives_destroy_which_says_so_and_waits_for_nothing() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "protect = true");
    project.edit("min = 0", "min = 1");
    project.run(&["scale"]).exits(0);
    sandbox.advance("1m");
    project
        .run(&["destroy", "--wait"])
        .exits(3)
        .says("protect = true");
    assert_eq!(sandbox.servers().len(), 1);
}
