//! A signal while applying: what is in flight ends or is recorded, and the next tick goes on.

use std::{process::Stdio, time::Duration};

use crate::support::{Project, Ran, Sandbox, eventually};

fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill")
        .args([name, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

#[test]
fn after_a_signal_nothing_new_begins_and_the_next_tick_finishes() {
    let sandbox = Sandbox::start(&["latency=50ms", "action_time=2s"]);
    let project = Project::new(&sandbox, "");
    project.edit("endpoint = ", "concurrency = 2\nendpoint = ");
    sandbox.jobs(20, "30m");
    let child = project
        .command(&["scale"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("a machine is being made", Duration::from_secs(30), || {
        !sandbox.servers().is_empty()
    });
    signal(child.id(), "-INT");
    let ran = Ran::of(&child.wait_with_output().unwrap()).exits(3);
    let made = sandbox.servers().len();
    assert!(made < 10, "all 10 were made: {}", ran.stdout);
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers().len(), 10);
    assert_eq!(sandbox.servers(), project.machines_on_record());
}

#[test]
fn a_second_signal_stops_at_once_and_loses_nothing() {
    let sandbox = Sandbox::start(&["latency=50ms", "action_time=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(6, "30m");
    let child = project
        .command(&["scale"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("a machine is being made", Duration::from_secs(30), || {
        !sandbox.servers().is_empty()
    });
    signal(child.id(), "-TERM");
    let pid = child.id();
    let mut waiting = child;
    // The first signal may take a moment to be noticed; the second must still end it.
    eventually("it ends", Duration::from_secs(10), || {
        let _ = std::process::Command::new("kill")
            .args(["-TERM", &pid.to_string()])
            .stderr(Stdio::null())
            .status();
        waiting.try_wait().unwrap().is_some()
    });
    sandbox.advance("10m");
    for _ in 0..4 {
        project.run(&["scale"]);
        sandbox.advance("3m");
    }
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers(), project.machines_on_record());
    assert_eq!(sandbox.servers().len(), 3);
}
