//! What is done when something cannot be made: where a machine goes then, and what stays.

use serde_json::json;

use crate::support::{Project, Sandbox, stack_text};

/// Two accounts, each with a firewall of its own: `first` is asked first.
fn two_accounts(first: &Sandbox, second: &Sandbox) -> Project {
    let text = stack_text(first.hetzner(), first.gitlab(), "")
        .replace(
            "[ci.gitlab]",
            &format!(
                "[providers.second]\nkind = \"hetzner\"\ntoken = {{ env = \"HCLOUD_TOKEN\" }}\nendpoint = \"{}\"\n\n[ci.gitlab]",
                second.hetzner()
            ),
        )
        .replace("firewalls = [\"default\"]", "firewalls = [\"default\", \"other\"]")
        .replace(
            "[pools.linux]",
            "[firewalls.other]\nprovider = \"second\"\nrules = []\n\n[pools.linux]",
        )
        + "\n[[pools.linux.offerings]]\nprovider = \"second\"\ntype = \"cx33\"\nlocations = [\"nbg1\"]\nimage = \"debian-12\"\n";
    assert_eq!(first.token(), second.token(), "one token for both");
    Project::with_stack(&text, first.token())
}

#[test]
fn a_rung_whose_firewall_could_not_be_made_is_passed_over_for_the_next_with_a_note() {
    let first = Sandbox::start(&["boot=0s", "action_time=0s"]);
    let second = Sandbox::start(&["boot=0s", "action_time=0s"]);
    let project = two_accounts(&first, &second);
    first.fault(&json!({
        "path": "/hetzner/v1/firewalls", "method": "POST", "fault": "error", "count": 100,
        "args": {"status": 422, "code": "invalid_input", "message": "no more firewalls"}
    }));
    first.jobs(1, "10m");
    let ran = project
        .run(&["scale"])
        .says("hetzner/nbg1 cx33: passed over, firewall/default could not be made");
    assert!(ran.stdout.contains("no more firewalls") || ran.stderr.contains("no more firewalls"));
    assert_eq!((first.servers().len(), second.servers().len()), (0, 1));
    assert_eq!(project.machines_on_record().len(), 1);
    // And where no place is left, it is not made at all.
    first.jobs(4, "10m");
    second.fault(&json!({
        "path": "/hetzner/v1/servers", "method": "POST", "fault": "no-capacity", "count": 100
    }));
    project.run(&["scale"]).says("firewall/default could not be made");
    assert_eq!((first.servers().len(), second.servers().len()), (0, 1));
}

/// The names of the keys that the cloud has, sorted.
fn keys(sandbox: &Sandbox) -> Vec<String> {
    let world = sandbox.world();
    let keys = world["ssh_keys"].as_array().unwrap();
    let mut names: Vec<String> = keys
        .iter()
        .map(|key| key["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_changed_key_is_made_before_the_old_one_goes_and_a_failure_keeps_the_old_one() {
    let sandbox = Sandbox::start(&["boot=0s", "action_time=0s"]);
    let project = Project::new(&sandbox, "");
    sandbox.jobs(1, "10m");
    project.run(&["scale"]).exits(0);
    let before = keys(&sandbox);
    assert_eq!(before.len(), 1);
    project.edit(
        "AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
        "AAAAIFKb61eFlJwEOHHpNhZbAuUltvLQD+cMl4k4sQmZfYNr",
    );
    sandbox.fault(&json!({
        "path": "/hetzner/v1/ssh_keys", "method": "POST", "fault": "error", "count": 2,
        "args": {"status": 422, "code": "invalid_input", "message": "not now"}
    }));
    project.run(&["plan"]).exits(0).says("1 to replace");
    for _ in 0..2 {
        project.run(&["scale"]).says("not now");
        assert_eq!(
            keys(&sandbox),
            before,
            "the old key is there until the new one is"
        );
    }
    project.run(&["scale"]).exits(0);
    let after = keys(&sandbox);
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
    project.run(&["plan"]).exits(0).says("No changes");
    assert_eq!(sandbox.servers(), project.machines_on_record());
    let state = project.state();
    let addresses: Vec<&String> = state["resources"].as_object().unwrap().keys().collect();
    assert!(
        addresses.iter().all(|address| !address.contains('@')),
        "{addresses:?}"
    );
}
