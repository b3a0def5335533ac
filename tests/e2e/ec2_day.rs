//! A pool of instances from nothing to busy to nothing: EC2 is moto's with the layer in front, which reports each launch to the
//! sandbox's world, where the machine registers with GitLab from its own user data, works and is retired.

use std::time::Duration;

use serde_json::json;

use crate::{
    aws::{Layer, Options, Refusal, Rule, SpotPrice, market},
    moto,
    support::{Project, Ran, Sandbox},
};

const ZONE: &str = "eu-central-1a";

fn stack(layer: &Layer, gitlab: &str, image: &str) -> String {
    let offering = |market: &str| {
        format!(
            r#"
[[pools.linux.offerings]]
provider  = "ec2"
type      = "c6i.large"
locations = ["{ZONE}"]
image     = "{image}"
{market}
"#
        )
    };
    format!(
        r#"[stack]
name = "test"

[providers.ec2]
region   = "eu-central-1"
endpoint = "{}"

[firewalls.closed]
provider = "ec2"

[ci.gitlab]
url      = "{gitlab}"
token    = {{ env = "GITLAB_API_TOKEN" }}
projects = ["acme/app"]
settle   = "50ms"

[pools.linux]
ci              = "gitlab"
tags            = ["linux"]
jobs_per_runner = 2
max             = 3
idle_timeout    = "0s"
firewalls       = ["closed"]
{}{}"#,
        layer.endpoint,
        offering("market = \"spot\"\nmax_price = \"0.09 USD\""),
        offering(""),
    )
}

#[test]
fn a_pool_of_instances_goes_from_nothing_to_busy_to_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let Some(moto) = runtime.block_on(moto::endpoint()) else {
        return;
    };
    let sandbox = Sandbox::start_with(&["speed=0", "boot=20s", "action_time=0s"], &[]);
    let options = Options {
        control: Some(sandbox.addresses["control"].as_str().unwrap().to_owned()),
        ..Options::default()
    };
    let layer = runtime.block_on(Layer::start(&moto, options));
    layer.set_products(Some(vec![market::product(
        "c6i.large",
        "eu-central-1",
        "0.0970000000",
    )]));
    layer.set_spot_prices(vec![SpotPrice::new(
        "c6i.large",
        ZONE,
        "0.034500",
        "2026-11-27T00:00:00Z",
    )]);
    let image = runtime.block_on(layer.image());
    let project = Project::with_stack(&stack(&layer, sandbox.gitlab(), &image), sandbox.token());
    let run = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        command
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        Ran::of(&command.output().unwrap())
    };
    let advance = |minutes: u64| {
        sandbox.advance(&format!("{minutes}m"));
        runtime.block_on(async {
            layer.advance(Duration::from_secs(minutes * 60)).await;
            layer.sync_world().await;
        });
    };
    let alive = || {
        let machines = runtime.block_on(layer.instances());
        machines.iter().filter(|machine| !machine.dead()).count()
    };

    // Five jobs want three machines, and the spot market has none: the next rung answers within the same tick.
    sandbox.post(
        "/jobs",
        &json!({"project": "acme/app", "name": "build", "tags": ["linux"], "count": 5, "duration": "20m"}),
    );
    layer.rule(
        Rule::refuse("RunInstances", Refusal::insufficient_capacity("c6i.large", ZONE))
            .when("market", "spot")
            .times(9),
    );
    let ran = run(&["scale"]).exits(0);
    assert!(ran.stdout.contains("machine.linux/"), "{}", ran.stdout);
    assert_eq!(alive(), 3);
    let state = project.state();
    let resources = state["resources"].as_object().unwrap();
    let markets: Vec<&str> = resources
        .values()
        .filter_map(|record| record["spec"]["offering"]["market"].as_str())
        .collect();
    assert_eq!(markets, ["on-demand"; 3]);

    // They boot, register with the token in their user data, and take the jobs.
    advance(2);
    let status = run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["pools"][0]["running"], 5, "{status}");
    let plan = run(&["plan", "--json"]).exits(0).json();
    assert_eq!(plan["changes"], json!([]), "{plan}");

    // The jobs end; idle machines are paused, read once more and terminated.
    advance(30);
    run(&["scale"]).exits(0);
    advance(2);
    run(&["scale"]).exits(0);
    assert_eq!(alive(), 0);
    assert_eq!(sandbox.world()["jobs_killed"], json!(0));
    let state = project.state();
    let left: Vec<&String> = state["resources"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|address| address.starts_with("machine."))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // And the security group, made for the stack, goes with the rest of it.
    run(&["destroy"]).exits(0);
    assert_eq!(project.state()["resources"], json!({}));
}
