//! What a look costs in requests: pages, and a constant.

use std::collections::BTreeMap;

use crate::support::{Project, Sandbox};

/// Requests that a plan of an unchanged fleet makes, by operation.
fn requests_of_a_plan(machines: u64) -> BTreeMap<String, u64> {
    let sandbox = Sandbox::start(&["boot=0s", "action_time=0s"]);
    let project = Project::new(&sandbox, "");
    project.edit("min = 0", &format!("min = {machines}"));
    project.edit("max = 20", &format!("max = {machines}"));
    project.edit("[providers.hetzner]", "[providers.hetzner]\nconcurrency = 50");
    project.run(&["scale"]).exits(0);
    let before = calls(&sandbox);
    project
        .run(&["plan", "--detailed-exitcode"])
        .exits(0)
        .says("No changes");
    let mut requests = calls(&sandbox);
    for (operation, count) in before {
        *requests.entry(operation).or_default() -= count;
    }
    requests.retain(|_, count| *count > 0);
    requests
}

fn calls(sandbox: &Sandbox) -> BTreeMap<String, u64> {
    serde_json::from_value(sandbox.world()["api_calls"].clone()).expect("counts")
}

#[test]
fn a_look_costs_the_pages_of_each_kind_and_a_constant_and_nothing_for_each_machine() {
    let few = requests_of_a_plan(20);
    let many = requests_of_a_plan(320);
    let pages = [
        ("hetzner GET /servers", 50),
        ("gitlab GET /api/v4/projects/{id}/runners", 100),
    ];
    for (requests, machines) in [(&few, 20_u64), (&many, 320)] {
        for (operation, page) in pages {
            let expected = machines.div_ceil(page);
            assert_eq!(
                requests.get(operation),
                Some(&expected),
                "{operation} with {machines} machines: {requests:#?}"
            );
        }
    }
    let rest = |mut requests: BTreeMap<String, u64>| {
        requests.retain(|operation, _| !pages.iter().any(|(paged, _)| operation == paged));
        requests
    };
    assert_eq!(rest(few), rest(many));
}
