//! Resources of another lineage: two checkouts of one stack, a lost state file, and what is taken on record by hand.

use serde_json::json;

use crate::support::{Project, Sandbox};

/// Five jobs on three machines, booted and at work.
fn at_work(sandbox: &Sandbox) -> Project {
    let project = Project::new(sandbox, "");
    sandbox.jobs(5, "10h");
    project.run(&["scale"]).exits(0);
    sandbox.advance("1m");
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers().len(), 3);
    project
}

fn lose_state(project: &Project) {
    for file in ["test.json", "test.journal", "test.history", "test.lock"] {
        let _ = std::fs::remove_file(project.path(&format!("stacks/{file}")));
    }
}

#[test]
fn of_two_checkouts_with_separate_states_the_second_creates_nothing_and_says_what_to_type() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let first = at_work(&sandbox);
    let second = Project::new(&sandbox, "");
    sandbox.jobs(10, "10h");
    let before = sandbox.servers();

    second
        .run(&["plan"])
        .exits(0)
        .says("5 resources with our stack's name and another lineage")
        .says("state rebuild")
        .says(" adopt")
        .says("init --new-lineage");
    second.run(&["scale"]).exits(0).says("No changes");
    second.run(&["scale", "--strict"]).exits(3);
    assert_eq!(sandbox.servers(), before, "the second checkout makes nothing");
    second
        .run(&["status"])
        .exits(0)
        .says("Foreign: 5 resources")
        .says("EUR/h");
    second.run(&["explain"]).exits(0).says("Foreign: 5 resources");

    first.run(&["scale"]).exits(0);
    assert!(
        sandbox.servers().len() > 3,
        "the first goes on as if nothing were"
    );
    assert_eq!(sandbox.servers(), first.machines_on_record());
    assert_eq!(sandbox.world()["jobs_killed"], 0);
}

#[test]
fn what_a_second_checkout_adopts_the_first_shows_and_does_not_fight_over() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let first = at_work(&sandbox);
    let second = Project::new(&sandbox, "");
    second
        .run(&["adopt", "--auto-approve"])
        .exits(0)
        .says("stop its ticks first");
    let labels = sandbox.server(0)["labels"].clone();
    sandbox.jobs(10, "10h");
    first
        .run(&["scale"])
        .exits(0)
        .says("adopted elsewhere")
        .says("No changes");
    assert_eq!(sandbox.server(0)["labels"], labels);
    assert_eq!(sandbox.servers().len(), 3);
    second.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers(), second.machines_on_record());
    first.run(&["refresh", "--accept", "--auto-approve"]).exits(0);
    assert!(first.machines_on_record().is_empty());
    assert_eq!(sandbox.world()["jobs_killed"], 0);
}

#[test]
fn a_lost_state_is_made_again_from_labels_and_the_next_tick_doubles_nothing_and_kills_no_job() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = at_work(&sandbox);
    let before = project.state();
    lose_state(&project);

    project
        .run(&["plan"])
        .exits(0)
        .says("Foreign")
        .says("state rebuild");
    project.run(&["state", "rebuild"]).exits(5).says("--auto-approve");
    assert!(!project.path("stacks/test.json").exists());
    project
        .run(&["state", "rebuild", "--auto-approve"])
        .exits(0)
        .says("5 records by their labels");
    let after = project.state();
    assert_eq!(after["lineage"], before["lineage"]);
    for (address, record) in before["resources"].as_object().unwrap() {
        let again = &after["resources"][address];
        for field in [
            "id",
            "name",
            "hash",
            "intent",
            "created_at",
            "price",
            "ci",
            "registration",
        ] {
            assert_eq!(again[field], record[field], "{field} of {address}");
        }
    }

    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(0)
        .says("No changes");
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers().len(), 3);
    let world = sandbox.world();
    assert_eq!(world["jobs_killed"], 0);
    assert_eq!(world["runners"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_state_that_is_there_is_never_rebuilt_over() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = at_work(&sandbox);
    let before = std::fs::read(project.path("stacks/test.json")).unwrap();
    project
        .run(&["state", "rebuild", "--auto-approve"])
        .exits(1)
        .says("5 resources on record")
        .says("runfleet adopt");
    assert_eq!(std::fs::read(project.path("stacks/test.json")).unwrap(), before);
}

#[test]
fn adopting_takes_busy_machines_with_their_registrations_and_they_leave_when_they_are_idle() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = at_work(&sandbox);
    let registrations = |project: &Project| -> Vec<serde_json::Value> {
        let state = project.state();
        let resources = state["resources"].as_object().unwrap().values();
        resources.map(|record| record["registration"].clone()).collect()
    };
    let before = registrations(&project);
    let old = project.state()["lineage"].clone();
    lose_state(&project);

    project.run(&["adopt"]).exits(5);
    let adopted = project
        .run(&["adopt", "--auto-approve", "--json"])
        .exits(0)
        .json();
    assert_eq!(adopted["adopted"].as_array().unwrap().len(), 5);
    assert_eq!(registrations(&project), before);
    assert_ne!(project.state()["lineage"], old);
    let server = sandbox.server(0);
    assert_eq!(server["labels"]["runfleet-lineage"], project.state()["lineage"]);
    project
        .run(&["adopt", "--auto-approve"])
        .exits(0)
        .says("Nothing to adopt");

    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(0)
        .says("No changes");
    project.run(&["destroy"]).exits(3);
    assert_eq!(sandbox.world()["jobs_killed"], 0);
    assert_eq!(sandbox.servers().len(), 3);
    sandbox.advance("11h");
    project.run(&["destroy"]).exits(0);
    let world = sandbox.world();
    assert!(sandbox.servers().is_empty());
    assert_eq!(world["jobs_killed"], 0);
    assert_eq!(
        world["runners"].as_array().map_or(0, Vec::len),
        0,
        "registrations are forgotten"
    );
}

#[test]
fn what_is_adopted_from_a_pool_that_the_stack_file_lacks_leaves_by_the_ordinary_way() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = at_work(&sandbox);
    lose_state(&project);
    project.edit("pools.linux", "pools.docker");
    project
        .run(&["adopt", "--auto-approve"])
        .exits(0)
        .says("Pool linux is not in the stack file: its machines leave as soon as they are idle.");
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.world()["jobs_killed"], 0);
    sandbox.advance("11h");
    project.run(&["scale"]).exits(0);
    assert!(
        !sandbox
            .servers()
            .iter()
            .any(|name| name.starts_with("test-linux-"))
    );
    assert_eq!(sandbox.world()["jobs_killed"], 0);
}

#[test]
fn a_new_lineage_leaves_the_old_one_alone_and_creates_beside_it() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let first = at_work(&sandbox);
    let before = sandbox.servers();
    let second = Project::new(&sandbox, "");
    second.edit("ssh_keys = [\"ops\"]", "");
    sandbox.jobs(4, "10h");
    second
        .run(&["init", "--new-lineage"])
        .exits(0)
        .says("3 machines, 2 shared")
        .says("EUR/h");
    second
        .run(&["init", "--new-lineage"])
        .exits(0)
        .says("nothing is disowned");
    second.run(&["plan"]).exits(0).says("disowned");
    second.run(&["scale"]).exits(0);
    let own = second.machines_on_record();
    assert!(!own.is_empty());
    assert!(own.iter().all(|name| !before.contains(name)));
    second.run(&["scale"]).exits(0);
    second.run(&["destroy"]);
    assert!(before.iter().all(|name| sandbox.servers().contains(name)));
    assert_eq!(first.machines_on_record(), before);
    assert_eq!(sandbox.world()["jobs_killed"], 0);
}

#[test]
fn a_server_made_by_hand_is_imported_and_kept_since_nobody_can_say_whether_it_works() {
    let sandbox = Sandbox::start(&["boot=0s"]);
    let project = Project::new(&sandbox, "");
    let made = sandbox.by_hand(
        "POST",
        "/servers",
        &json!({"name": "pet", "server_type": "cx33", "image": "debian-12", "location": "nbg1"}),
    );
    let id = made["server"]["id"].to_string();
    project
        .run(&["state", "import", "machine.linux/pet", &id])
        .exits(0)
        .says("no registration is known")
        .says("On record: machine.linux/pet");
    assert_eq!(sandbox.server(0)["labels"]["runfleet-id"], "pet");
    assert_eq!(project.machines_on_record(), ["pet"]);
    project
        .run(&["state", "import", "machine.linux/other", &id])
        .exits(1)
        .says("on record already, at machine.linux/pet");
    project
        .run(&["state", "import", "machine.linux/other", "999999"])
        .exits(1)
        .says("there is no hetzner machine 999999");
    sandbox.advance("5h");
    project.run(&["scale"]).exits(0);
    project.run(&["destroy"]).exits(3);
    assert_eq!(sandbox.servers(), ["pet"]);
}

#[test]
fn an_audit_tells_everything_with_our_label_whose_it_is_and_what_it_costs() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = at_work(&sandbox);
    sandbox.by_hand(
        "POST",
        "/servers",
        &json!({"name": "theirs", "server_type": "cx33", "image": "debian-12", "location": "nbg1",
                "labels": {"runfleet-stack": "other", "runfleet-lineage": "l9"}}),
    );
    sandbox.by_hand(
        "POST",
        "/servers",
        &json!({"name": "stranger", "server_type": "cx33", "image": "debian-12", "location": "nbg1",
                "labels": {"runfleet-stack": "test", "runfleet-lineage": "l8"}}),
    );
    sandbox.by_hand(
        "POST",
        "/servers",
        &json!({"name": "pet", "server_type": "cx33", "image": "debian-12", "location": "nbg1"}),
    );
    project
        .run(&["audit"])
        .exits(0)
        .says("On record: 5")
        .says("Foreign: our stack's name, another lineage: 1")
        .says("Other stacks': 1")
        .says("EUR/month");
    let audit = project.run(&["audit", "--json"]).exits(0).json();
    let resources = audit["resources"].as_array().unwrap();
    let of = |standing: &str| resources.iter().filter(|one| one["standing"] == standing).count();
    assert_eq!((of("on_record"), of("foreign"), of("other_stack")), (5, 1, 1));
    let sum: f64 = resources
        .iter()
        .filter_map(|one| one["price_hourly"].as_str())
        .map(|price| price.parse::<f64>().unwrap())
        .sum();
    let said: f64 = audit["hourly"][0]["amount"].as_str().unwrap().parse().unwrap();
    assert!((sum - said).abs() < 1e-9 && said > 0.0, "{sum} {said}");
    assert!(
        resources
            .iter()
            .all(|one| one["age_seconds"].as_i64().unwrap() >= 0)
    );
}
