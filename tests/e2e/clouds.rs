//! One pool on two clouds: what one refuses as a whole is made at the other within the same tick, and told.

use serde_json::{Value, json};

use crate::support::{Project, Sandbox, stack_text};

/// Two accounts, one pool: `hetzner` is asked first, and `second` sells the same at the same price.
fn two_clouds() -> (Sandbox, Sandbox, Project) {
    let first = Sandbox::start(&["boot=0s", "action_time=0s"]);
    let second = Sandbox::start(&["boot=0s", "action_time=0s"]);
    let text = stack_text(first.hetzner(), first.gitlab(), "").replace(
        "[ci.gitlab]",
        &format!(
            "[providers.second]\nkind = \"hetzner\"\ntoken = {{ env = \"HCLOUD_TOKEN\" }}\nendpoint = \"{}\"\n\n[ci.gitlab]",
            second.hetzner()
        ),
    ) + "\n[[pools.linux.offerings]]\nprovider = \"second\"\ntype = \"cx33\"\nlocations = [\"nbg1\"]\nimage = \"debian-12\"\n";
    assert_eq!(first.token(), second.token(), "one token for both");
    let project = Project::with_stack(&text, first.token());
    (first, second, project)
}

fn on_servers(method: &str, fault: &str, args: &Value) -> Value {
    json!({"path": "/hetzner/v1/servers", "method": method, "fault": fault, "count": 100, "args": args})
}

fn made(first: &Sandbox, second: &Sandbox) -> (usize, usize) {
    (first.servers().len(), second.servers().len())
}

#[test]
fn a_cloud_that_lets_us_in_no_more_while_applying_is_left_for_the_next_within_the_tick() {
    let (first, second, project) = two_clouds();
    first.fault(&on_servers("POST", "unauthorized", &json!({})));
    first.jobs(5, "10m");
    project
        .run(&["scale"])
        .exits(0)
        .says("hetzner is left for this tick");
    assert_eq!(made(&first, &second), (0, 3));
    assert_eq!(project.machines_on_record().len(), 3);
}

#[test]
fn a_cloud_that_is_down_is_left_and_one_that_is_sold_out_too_and_where_none_is_left_it_is_a_failure() {
    let (first, second, project) = two_clouds();
    let down = json!({"status": 423, "code": "maintenance", "message": "back at noon"});
    first.fault(&on_servers("POST", "error", &down));
    first.jobs(1, "10m");
    project.run(&["scale"]).exits(0).says("back at noon");
    assert_eq!(made(&first, &second), (0, 1));
    second.fault(&on_servers("POST", "no-capacity", &json!({})));
    first.jobs(2, "10m");
    project.run(&["scale"]).says("back at noon");
    assert_eq!(made(&first, &second), (0, 1));
    // As soon as it is up again it is asked: that it was down is no refusal to be remembered.
    first.clear_faults();
    project.run(&["scale"]).exits(0);
    assert_eq!(made(&first, &second), (1, 1));
}

#[test]
fn a_create_whose_answer_is_lost_is_not_made_again_elsewhere() {
    let (first, second, project) = two_clouds();
    first.fault(&on_servers("POST", "reply-lost", &json!({})));
    first.jobs(1, "10m");
    project.run(&["scale"]);
    first.clear_faults();
    project.run(&["scale"]).exits(0);
    assert_eq!(made(&first, &second), (1, 0));
}

#[test]
fn a_cloud_that_cannot_be_listed_keeps_the_pool_from_shrinking_and_not_from_growing() {
    let (first, second, project) = two_clouds();
    first.jobs(1, "10m");
    project.run(&["scale"]).exits(0);
    assert_eq!(made(&first, &second), (1, 0));
    for kind in ["servers", "ssh_keys", "firewalls", "networks", "placement_groups"] {
        let path = format!("/hetzner/v1/{kind}");
        first.fault(&json!({"path": path, "method": "GET", "fault": "unauthorized", "count": 100}));
    }
    first.jobs(4, "10m");
    // Refused by a source: that is an error, after what the others allowed was done.
    project
        .run(&["scale"])
        .exits(1)
        .says("nothing is bought of hetzner now");
    assert_eq!(made(&first, &second), (1, 2));
    assert_eq!(project.machines_on_record().len(), 3);
}
