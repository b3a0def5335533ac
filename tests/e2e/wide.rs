//! Wider GitLab through whole ticks: a runner that a pool's machines share, groups, registrations left behind.

use serde_json::{Value, json};

use crate::support::{Project, Sandbox};

/// A stack whose pool shares a runner that a person made, and that runner's id.
fn shared(sandbox: &Sandbox) -> (Project, u64) {
    let runner = json!({"runner_type": "project_type", "project_id": 1, "tag_list": ["docker", "linux"], "description": "fleet"});
    let made = sandbox.gitlab_post("/user/runners", &runner);
    let project = Project::new(sandbox, "runner_token = { file = \"fleet.token\" }");
    std::fs::write(
        project.path("stacks/fleet.token"),
        made["token"].as_str().unwrap(),
    )
    .unwrap();
    (project, made["id"].as_u64().unwrap())
}

fn only_runner(sandbox: &Sandbox) -> Value {
    let world = sandbox.world();
    let runners = world["runners"].as_array().unwrap().clone();
    assert_eq!(runners.len(), 1, "{runners:#?}");
    runners[0].clone()
}

#[test]
fn machines_that_share_a_runner_come_work_and_go_and_the_runner_stays_as_it_was() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let (project, id) = shared(&sandbox);
    sandbox.jobs(5, "10m");
    project.run(&["validate", "--online"]).exits(0);
    project.run(&["scale"]).exits(0);
    sandbox.advance("1m");
    let status = project.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["pools"][0]["running"], 5, "{status:#}");
    let names = status["pools"][0]["runners"].as_array().unwrap();
    assert_eq!(names.len(), 3);
    assert!(
        names.iter().all(|runner| runner["busy"] == true),
        "each by its own manager: {status:#}"
    );

    // One goes on working when the others' hour ends.
    sandbox.jobs(1, "3h");
    sandbox.advance("56m30s");
    project.run(&["scale"]).exits(0).says("2 to delete");
    assert_eq!(sandbox.servers().len(), 1);
    let runner = only_runner(&sandbox);
    assert_eq!(runner["id"], id);
    assert_eq!(runner["paused"], false, "the pause is lifted");
    assert_eq!(
        runner["managers"].as_array().unwrap().len(),
        1,
        "with a machine goes its manager"
    );
    assert_eq!(sandbox.world()["jobs_killed"], 0);
    assert_eq!(project.state()["pauses"], json!([]));
    sandbox.advance("3h");
    project.run(&["destroy", "--auto-approve"]).exits(0);
    assert_eq!(only_runner(&sandbox)["paused"], false);
    assert!(
        !crate::support::everything_in(&project.path("stacks")).contains("glrt-")
            || !project.state().to_string().contains("glrt-")
    );
    assert_eq!(sandbox.world()["jobs_killed"], 0);
}

#[test]
fn a_pause_of_all_that_could_not_be_lifted_stays_on_record_and_the_next_tick_lifts_it() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let (project, id) = shared(&sandbox);
    sandbox.jobs(2, "5m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("57m30s");
    let path = format!("/gitlab/api/v4/runners/{id}");
    let fault = json!({"path": path, "method": "PUT", "fault": "server-error", "skip": 1, "count": 100});
    sandbox.fault(&fault);
    project.run(&["scale"]).exits(0);
    assert!(sandbox.servers().is_empty());
    assert_eq!(only_runner(&sandbox)["paused"], true);
    assert_eq!(project.state()["pauses"].as_array().unwrap().len(), 1);
    sandbox.clear_faults();
    project.run(&["scale"]).exits(0);
    assert_eq!(only_runner(&sandbox)["paused"], false);
    assert_eq!(project.state()["pauses"], json!([]));
    project.run(&["scale"]).exits(0).says("No changes");
}

#[test]
fn a_shared_runner_that_a_person_paused_stays_paused() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let (project, _) = shared(&sandbox);
    sandbox.jobs(2, "5m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("10m");
    let world = sandbox.world();
    let id = world["runners"][0]["id"].as_u64().unwrap();
    sandbox.gitlab_put(&format!("/runners/{id}"), &json!({"paused": true}));
    sandbox.advance("47m30s");
    project.run(&["scale"]).exits(0);
    assert!(sandbox.servers().is_empty());
    assert_eq!(only_runner(&sandbox)["paused"], true);
}

fn grouped(sandbox: &Sandbox, scope: &str) -> Project {
    let project = Project::new(sandbox, "");
    project.edit("projects = [\"acme/app\"]", scope);
    project
}

/// The mark of a stack's lineage, as its registrations carry it.
fn mark(project: &Project) -> String {
    project.state()["lineage"]
        .as_str()
        .unwrap()
        .chars()
        .take(8)
        .collect()
}

#[test]
fn registrations_that_this_stack_left_behind_are_removed_and_nobody_elses() {
    for (scope, kind) in [
        (
            "groups = [\"acme\"]",
            json!({"runner_type": "group_type", "group_id": 1}),
        ),
        ("instance = true", json!({"runner_type": "instance_type"})),
    ] {
        let sandbox = Sandbox::start(&["boot=20s"]);
        let project = grouped(&sandbox, scope);
        sandbox.jobs(2, "5m");
        project.run(&["scale"]).exits(0);
        let made = |description: &str| {
            let mut body = kind.clone();
            body["tag_list"] = json!(["linux"]);
            body["description"] = json!(description);
            sandbox.gitlab_post("/user/runners", &body)["id"]
                .as_u64()
                .unwrap()
        };
        let mark = mark(&project);
        let ours = made(&format!("test-linux-patient-sparrow-2 {mark}"));
        let others = [
            made("test-linux-patient-sparrow-2 00000000"),
            made("test-linux-patient-sparrow-2"),
            made(&format!("prod-linux-patient-sparrow-2 {mark}")),
            made("a person's own"),
        ];
        sandbox.advance("1m");
        project.run(&["scale"]).exits(0);
        sandbox.advance("1m");
        project.run(&["scale"]).exits(0);
        let world = sandbox.world();
        let left: Vec<u64> = world["runners"]
            .as_array()
            .unwrap()
            .iter()
            .map(|runner| runner["id"].as_u64().unwrap())
            .collect();
        assert!(!left.contains(&ours), "{scope}: {world:#}");
        assert!(others.iter().all(|id| left.contains(id)), "{scope}: {left:?}");
        assert_eq!(left.len(), others.len() + 1, "{scope}: and the machine's own");
    }
}

#[test]
fn an_instance_without_an_administrators_token_is_held_and_never_shrinks() {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/two_users.toml");
    let sandbox = Sandbox::start_with(&["boot=20s"], &["--scenario", scenario]);
    let mut project = grouped(&sandbox, "instance = true");
    sandbox.jobs(2, "5m");
    project.run(&["scale"]).exits(0);
    sandbox.advance("57m30s");
    project.gitlab_token = "glpat-joe".to_owned();
    project
        .run(&["scale"])
        .says("needs an administrator's token, and joe is none");
    assert_eq!(sandbox.servers().len(), 1, "its hour ends, and it stays");
    project
        .run(&["validate", "--online"])
        .exits(1)
        .says("ci.gitlab.instance")
        .says("administrator");
    project.gitlab_token = sandbox.token().to_owned();
    project.run(&["scale"]).exits(0);
    assert!(sandbox.servers().is_empty());
}

#[test]
fn an_instance_leaves_nothing_to_name() {
    let sandbox = Sandbox::start(&[]);
    let project = grouped(&sandbox, "instance = true\ngroups = [\"acme\"]");
    project
        .run(&["validate"])
        .exits(1)
        .says("serves the whole instance, and names groups too");
    let project = grouped(&sandbox, "groups = [\"acme/\", \"acme\", \"acme\"]");
    project.run(&["validate"]).exits(1).says("is not a group");
}
