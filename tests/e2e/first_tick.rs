//! From five queued jobs to three machines, to none.

use crate::support::{Project, Sandbox};

#[test]
fn five_jobs_at_two_a_machine_become_three_machines_and_the_next_tick_changes_nothing() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(5, "10m");

    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(2)
        .says("5 to create");
    assert!(sandbox.servers().is_empty(), "a plan changes nothing");
    assert!(
        !project.path("stacks/test.json").exists(),
        "a plan writes nothing"
    );

    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers().len(), 3);
    assert_eq!(sandbox.servers(), project.machines_on_record());

    let before = std::fs::read(project.path("stacks/test.json")).unwrap();
    project.run(&["scale"]).exits(0).says("No changes");
    assert_eq!(std::fs::read(project.path("stacks/test.json")).unwrap(), before);
    project.run(&["plan", "--detailed-exitcode"]).exits(0);

    let status = project.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["pools"][0]["runners"].as_array().unwrap().len(), 3);
    assert_eq!(status["pools"][0]["target"], 3);
}

#[test]
fn machines_boot_register_work_and_leave_when_their_paid_hour_ends() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(5, "10m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("1m");
    let status = project.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["pools"][0]["running"], 5, "{status:#}");
    sandbox.advance("12m");
    project.run(&["scale"]).exits(0).says("paid until");
    assert_eq!(sandbox.servers().len(), 3, "their hour is paid");
    sandbox.advance("44m30s");
    project.run(&["scale"]).exits(0).says("3 to delete");
    assert!(sandbox.servers().is_empty());
    let world = sandbox.world();
    assert_eq!(world["jobs_killed"], 0);
    assert_eq!(
        world["runners"].as_array().map_or(0, Vec::len),
        0,
        "registrations are forgotten"
    );
    assert!(project.machines_on_record().is_empty());
    project.run(&["scale"]).exits(0).says("No changes");
}

#[test]
fn destroy_leaves_busy_machines_and_says_so_and_takes_them_when_they_are_idle() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(3, "10m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("1m");
    project.run(&["destroy"]).exits(3);
    assert_eq!(sandbox.world()["jobs_killed"], 0);
    sandbox.advance("15m");
    project.run(&["destroy", "--auto-approve"]).exits(0);
    assert!(sandbox.servers().is_empty());
    assert!(project.state()["resources"].as_object().unwrap().is_empty());
    assert_eq!(sandbox.world()["jobs_killed"], 0);
}

#[test]
fn an_offering_without_capacity_is_left_for_the_next_within_the_tick() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(2, "10m");
    sandbox.fault(&serde_json::json!({
        "path": "/hetzner/v1/servers", "method": "POST", "fault": "no-capacity", "count": 99, "args": {"location": "nbg1"}
    }));
    project.run(&["scale"]).exits(0).says("fsn1");
    assert_eq!(sandbox.servers().len(), 1);
    let text = project.state().to_string();
    assert!(text.contains("fsn1") && !text.contains("\"location\":\"nbg1\""));
}

#[test]
fn a_partial_answer_of_gitlab_never_shrinks_a_pool() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(2, "5m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("10m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("48m");
    sandbox.fault(&serde_json::json!({
        "path": "/gitlab/api/v4/*", "fault": "server-error", "count": 1000, "args": {"status": 502}
    }));
    project.run(&["scale"]).exits(0).says("partial");
    assert_eq!(sandbox.servers().len(), 1);
    project.run(&["scale", "--strict"]).exits(3);
    sandbox.clear_faults();
    project.run(&["scale"]).exits(0);
    assert!(sandbox.servers().is_empty());
}

#[test]
fn a_lost_reply_to_a_create_makes_one_machine_and_not_two() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(2, "10m");
    sandbox.fault(&serde_json::json!({
        "path": "/hetzner/v1/servers", "method": "POST", "fault": "reply-lost", "count": 1
    }));
    project.run(&["scale"]);
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers().len(), 1);
    assert_eq!(sandbox.servers(), project.machines_on_record());
}

#[test]
fn metrics_are_written_after_a_tick_where_the_stack_wants_them() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "");
    project.edit(
        "state = \"file\"",
        "state = \"file\"\nmetrics_file = \"runfleet.prom\"",
    );
    sandbox.jobs(5, "10m");
    project.run(&["scale"]).exits(0);
    let text = std::fs::read_to_string(project.path("stacks/runfleet.prom")).unwrap();
    for line in [
        "runfleet_pool_target_runners{stack=\"test\",pool=\"linux\"} 3.0",
        "runfleet_last_tick_actions{stack=\"test\",verb=\"create\",result=\"done\"} 5.0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn with_its_state_lost_a_stack_says_whose_machines_they_are_and_makes_none() {
    let sandbox = Sandbox::start(&[]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(5, "10m");
    project.run(&["scale"]).exits(0);
    std::fs::rename(project.path("stacks/test.json"), project.path("test.json.away")).unwrap();
    project
        .run(&["scale"])
        .exits(0)
        .says("Foreign")
        .says("state rebuild");
    assert_eq!(sandbox.servers().len(), 3, "none is made, none is touched");
    project.run(&["destroy"]).exits(3);
    assert_eq!(sandbox.servers().len(), 3);
    std::fs::rename(project.path("test.json.away"), project.path("stacks/test.json")).unwrap();
    project.run(&["plan", "--detailed-exitcode"]).exits(0);
}
