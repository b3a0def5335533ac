//! `stacks/azure-ecs.toml` as it is shipped, from nothing to busy to nothing: ECS is moto's with the layer in front, which reports
//! each task to the sandbox's world, where its container's variables make it an agent of Azure DevOps.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    aws::{Layer, Options, wire::Service},
    moto,
    support::{Project, Ran, Sandbox},
};

/// Somebody else's agents: one that is offline, and one at work.
const WORLD: &str =
    "[[azure.agent_pools]]\nname = \"linux-fargate\"\n[[azure.agent_pools.agents]]\nname = \"old-agent\"\n";
const TOKEN_FROM: &str = "arn:aws:ssm:eu-central-1:123456789012:parameter/ci/azp-token";

struct Stage {
    sandbox: Sandbox,
    layer: Layer,
    project: Project,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    /// None where there is no moto.
    fn set() -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let moto = runtime.block_on(moto::endpoint())?;
        let shipped =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/stacks/azure-ecs.toml")).unwrap();
        let project = Project::with_stack(&shipped, "t");
        std::fs::write(project.path("world.toml"), WORLD).unwrap();
        let file = project.path("world.toml").display().to_string();
        let sandbox = Sandbox::start_with(&["speed=0", "boot=20s", "action_time=0s"], &["--scenario", &file]);
        let options = Options {
            pending: Duration::from_secs(30),
            control: Some(sandbox.addresses["control"].as_str().unwrap().to_owned()),
            ..Options::default()
        };
        let (layer, subnet, group) = runtime.block_on(async {
            let layer = Layer::start(&moto, options).await;
            let subnets = layer.furnish(Service::Ec2, "DescribeSubnets", &[]).await;
            let subnet = subnets.list("subnetSet")[0].text_at("subnetId").to_owned();
            let groups = layer.furnish(Service::Ec2, "DescribeSecurityGroups", &[]).await;
            let group = groups.list("securityGroupInfo")[0].text_at("groupId").to_owned();
            (layer, subnet, group)
        });
        // The built-in prices do: no list is asked.
        layer.set_products(Some(Vec::new()));
        layer.hold_secret(TOKEN_FROM, sandbox.token());
        project.edit("subnet-0a1b2c3d", &subnet);
        project.edit("sg-0a1b2c3d", &group);
        let endpoint = format!("endpoint = \"{}\"\nregion ", layer.endpoint);
        project.edit("region ", &endpoint);
        let azure = sandbox.addresses["azure"].as_str().unwrap();
        project.edit(
            "https://dev.azure.com/acme\"",
            &format!("{azure}\"\nsettle = \"50ms\""),
        );
        Some(Self {
            sandbox,
            layer,
            project,
            runtime,
        })
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = self
            .project
            .command(arguments)
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AZURE_DEVOPS_TOKEN", self.sandbox.token())
            .output()
            .unwrap();
        Ran::of(&output)
    }

    fn tick(&self) {
        let ran = self.run(&["scale"]);
        // 3: what is idle by one reading has a job by the next.
        assert!(matches!(ran.code, 0 | 3), "{}\n{}", ran.stdout, ran.stderr);
    }

    fn advance(&self, minutes: u64) {
        self.sandbox.advance(&format!("{minutes}m"));
        self.runtime.block_on(async {
            self.layer.advance(Duration::from_secs(minutes * 60)).await;
            self.layer.sync_world().await;
        });
    }

    fn queue(&self, count: u32, duration: &str) -> Vec<u64> {
        let made = self.sandbox.post(
            "/jobs",
            &json!({"ci": "azure", "pool": "linux-fargate", "demands": ["docker"], "count": count, "duration": duration}),
        );
        made["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_u64)
            .collect()
    }

    /// Tasks that have not ended.
    fn alive(&self) -> usize {
        self.layer
            .tasks()
            .iter()
            .filter(|task| task.end.is_none())
            .count()
    }

    fn jobs(&self, status: &str) -> usize {
        let world = self.sandbox.world();
        let jobs = world["jobs"].as_array().unwrap().iter();
        jobs.filter(|job| job["status"] == status).count()
    }

    /// The names of all agents that are registered.
    fn agents(&self) -> Vec<String> {
        let world = self.sandbox.world();
        let agents = world["agents"].as_array().unwrap().iter();
        let mut names: Vec<String> = agents
            .map(|agent| agent["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    /// The stack is called as it is shipped, and so is its state.
    fn resources(&self) -> Value {
        let text = std::fs::read_to_string(self.project.path("stacks/azure-ecs.json")).unwrap();
        let state: Value = serde_json::from_str(&text).unwrap();
        state["resources"].clone()
    }

    fn created(&self) -> usize {
        let plan = self.run(&["plan", "--json"]).exits(0).json();
        let changes = plan["changes"].as_array().unwrap().iter();
        changes
            .filter(|change| change["actions"] == json!(["create"]))
            .count()
    }
}

#[test]
fn a_day_of_agents_on_fargate() {
    let Some(stage) = Stage::set() else { return };
    // Somebody else's agent in the same pool, which goes on all day.
    let variables = json!({
        "AZP_URL": stage.sandbox.addresses["azure"], "AZP_TOKEN": stage.sandbox.token(), "AZP_POOL": "linux-fargate",
        "AZP_ONCE": "false", "docker": "1",
    });
    stage.sandbox.post(
        "/machines",
        &json!({"id": "theirs", "name": "theirs", "address": "10.9.9.9", "environment": variables}),
    );
    stage.advance(2);
    assert_eq!(stage.agents(), ["old-agent", "theirs"]);
    stage.run(&["validate"]).exits(0);

    // Nothing waits: nothing is done, whatever is free of others.
    stage.tick();
    assert_eq!(stage.alive(), 0);

    // Thirteen jobs: one is taken by the other's agent, twelve want tasks, in two calls.
    stage.queue(13, "20m");
    stage.tick();
    assert_eq!(stage.alive(), 12);
    assert_eq!(stage.layer.calls_of("RunTask").len(), 2);
    // While they boot the same jobs wait, and start nothing again.
    assert_eq!(stage.created(), 0);
    stage.tick();
    assert_eq!(stage.alive(), 12);

    stage.advance(2);
    assert_eq!(stage.jobs("running"), 13);
    let status = stage.run(&["status", "--json"]).exits(0).json();
    // The one that somebody else's agent runs is none of ours.
    let pool = &status["pools"][0];
    assert_eq!(
        (&pool["queued"], &pool["running"]),
        (&json!(0), &json!(12)),
        "{status}"
    );
    stage.tick();
    assert_eq!(stage.alive(), 12, "nobody who works is sent away");

    // They end with their jobs, and leave their registrations behind, offline.
    stage.advance(25);
    assert_eq!((stage.jobs("success"), stage.agents().len()), (13, 14));
    stage.tick();
    assert_eq!(stage.alive(), 0);

    // Jobs that are cancelled leave agents with nothing to do: they are disabled, read again, deregistered and stopped.
    let jobs = stage.queue(4, "10m");
    stage.tick();
    for job in &jobs[1..] {
        stage.sandbox.post(&format!("/jobs/{job}/cancel"), &json!({}));
    }
    for _ in 0..14 {
        stage.advance(2);
        stage.tick();
    }
    assert_eq!(stage.alive(), 0);
    assert_eq!((stage.jobs("success"), stage.jobs("canceled")), (14, 3));
    assert_eq!(stage.sandbox.world()["jobs_killed"], json!(0));

    // What is left is what others have.
    assert_eq!(stage.agents(), ["old-agent", "theirs"]);
    assert_eq!(stage.resources(), json!({}));
    stage.run(&["destroy"]).exits(0);
    assert_eq!(stage.resources(), json!({}));
}
