//! What someone changes or removes by hand is seen, and put back, accepted, or replaced.

use serde_json::json;

use crate::support::{Project, Sandbox};

fn fleet(sandbox: &Sandbox) -> Project {
    let project = Project::new(sandbox, "");
    sandbox.jobs(4, "10h");
    project.run(&["scale"]).exits(0);
    sandbox.advance("1m");
    project.run(&["scale"]).exits(0);
    assert_eq!(sandbox.servers().len(), 2);
    project
        .run(&["refresh"])
        .exits(0)
        .says("no drift: what is there is what is on record");
    project
}

#[test]
fn a_machine_whose_labels_were_taken_off_is_neither_lost_nor_doubled() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = fleet(&sandbox);
    let server = sandbox.server(0);
    let path = format!("/servers/{}", server["id"]);
    sandbox.by_hand("PUT", &path, &json!({"labels": {"team": "ci"}}));

    project
        .run(&["refresh"])
        .exits(0)
        .says("labels: our claim is gone")
        .says("the next tick puts it back");
    let document = project.run(&["refresh", "--json"]).exits(0).json();
    let drift = &document["drift"][0];
    assert_eq!(drift["fate"], "repaired");
    assert_eq!(drift["changes"].as_array().unwrap().len(), 7);
    assert_eq!(drift["changes"][0]["after"], json!(null));

    project.run(&["scale"]).exits(0).says("relabel");
    let labels = sandbox.server(0)["labels"].clone();
    assert_eq!(labels["team"], "ci", "labels of others are left");
    for (key, value) in server["labels"].as_object().unwrap() {
        assert_eq!(&labels[key], value, "{key}");
    }
    project.run(&["scale"]).exits(0).says("No changes");
    project.run(&["refresh"]).exits(0).says("no drift");
    assert_eq!(sandbox.servers().len(), 2);
    assert_eq!(sandbox.world()["jobs_killed"], 0);
}

#[test]
fn an_altered_label_of_one_machine_is_put_back() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = fleet(&sandbox);
    let server = sandbox.server(0);
    let mut labels = server["labels"].clone();
    labels["runfleet-pool"] = json!("somebody-elses");
    sandbox.by_hand(
        "PUT",
        &format!("/servers/{}", server["id"]),
        &json!({"labels": labels}),
    );
    project
        .run(&["scale"])
        .exits(0)
        .says("labels.runfleet-pool")
        .says("somebody-elses");
    assert_eq!(sandbox.server(0)["labels"], server["labels"]);
}

#[test]
fn a_changed_firewall_is_shown_accepted_and_then_an_ordinary_change() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = fleet(&sandbox);
    let walls = sandbox.by_hand("GET", "/firewalls", &json!(null));
    let id = walls["firewalls"][0]["id"].to_string();
    let rules = json!({"rules": [
        {"direction": "in", "protocol": "tcp", "port": "8080", "source_ips": ["0.0.0.0/0"]}
    ]});
    sandbox.by_hand("POST", &format!("/firewalls/{id}/actions/set_rules"), &rules);

    project.run(&["refresh"]).exits(0).says("8080/tcp");
    project
        .run(&["refresh", "--accept"])
        .exits(5)
        .says("--auto-approve");
    let serial = project.state()["serial"].as_u64().unwrap();
    project
        .run(&["refresh", "--accept", "--auto-approve"])
        .exits(0)
        .says("firewall/default");
    let state = project.state();
    assert_eq!(state["serial"].as_u64().unwrap(), serial + 1);
    assert_eq!(
        state["resources"]["firewall/default"]["spec"]["rules"][0]["port"],
        "8080"
    );
    project.run(&["refresh"]).exits(0).says("no drift");
    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(2)
        .says("update")
        .says("22/tcp");
    project
        .run(&["refresh", "--accept", "--auto-approve"])
        .exits(0)
        .says("Nothing to accept");
}

#[test]
fn a_machine_that_someone_removed_is_seen_and_its_record_dropped_when_accepted() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = fleet(&sandbox);
    let server = sandbox.server(0);
    let name = server["name"].as_str().unwrap();
    sandbox.by_hand("DELETE", &format!("/servers/{}", server["id"]), &json!(null));
    project
        .run(&["refresh"])
        .exits(0)
        .says("the cloud does not have it any more");
    let accepted = project
        .run(&["refresh", "--accept", "--auto-approve", "--json"])
        .exits(0)
        .json();
    assert_eq!(accepted["accepted"].as_array().unwrap().len(), 1);
    assert!(!project.machines_on_record().iter().any(|machine| machine == name));
    project.run(&["refresh"]).exits(0).says("no drift");
}

#[test]
fn a_machine_that_someone_switched_off_or_renamed_is_shown() {
    let sandbox = Sandbox::start(&["boot=20s"]);
    let project = fleet(&sandbox);
    let (off, renamed) = (sandbox.server(0), sandbox.server(1));
    sandbox.by_hand(
        "POST",
        &format!("/servers/{}/actions/poweroff", off["id"]),
        &json!({}),
    );
    sandbox.by_hand(
        "PUT",
        &format!("/servers/{}", renamed["id"]),
        &json!({"name": "pet"}),
    );
    project
        .run(&["refresh"])
        .exits(0)
        .says("power: on -> off")
        .says("the next ticks replace it")
        .says("-> pet");
    project
        .run(&["plan"])
        .exits(0)
        .says("Drift")
        .says("power: on -> off");
}
