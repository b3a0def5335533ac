//! ECS in the stack file: what is read, and what it says in words of its own.

use super::*;
use crate::model::{
    offering::Market,
    resource::{ImageRef, TaskSpec},
};

const FARGATE: &str = r#"[stack]
name = "prod"

[providers.fargate]
kind = "ecs"
region = "eu-central-1"
cluster = "ci"
log_group = "/runfleet/ci"
create = true

[ci.azure]
kind = "azure-devops"
url = "https://dev.azure.com/acme"
token = { env = "AZURE_DEVOPS_TOKEN" }

[pools.linux]
ci = "azure"
agent_pool = "linux-fargate"
max = 5
task = "templates/ecs/azure-devops-agent.json.tera"

[[pools.linux.offerings]]
provider = "fargate"
type = "0.25vcpu-0.5gb"
market = "spot"
subnets = ["subnet-0a1b2c3d", "subnet-0a1b2c3e"]
security_groups = ["sg-0a1b2c3d"]
platform_version = "1.4.0"
public_ipv4 = false
"#;

/// What is said of [`FARGATE`] with one text in place of another.
fn said(from: &str, to: &str) -> String {
    assert!(FARGATE.contains(from), "{from}");
    match parse(&FARGATE.replacen(from, to, 1), "stacks/prod.toml") {
        Err(problems) => brief(&problems),
        Ok(_) => panic!("nothing is said of {to}"),
    }
}

fn good(from: &str, to: &str) -> Stack {
    assert!(FARGATE.contains(from), "{from}");
    let text = FARGATE.replacen(from, to, 1);
    parse(&text, "stacks/prod.toml").unwrap_or_else(|problems| panic!("{}", brief(&problems)))
}

#[test]
fn a_stack_on_fargate_is_read() {
    let stack = good("", "");
    let provider = stack.providers.values().next().unwrap();
    let home = provider.ecs.as_ref().unwrap();
    assert_eq!(provider.kind, ProviderKind::Ecs);
    assert_eq!((home.cluster.as_str(), home.create), ("ci", true));
    assert_eq!(home.log_group.as_deref(), Some("/runfleet/ci"));
    assert_eq!(provider.aws.region.as_deref(), Some("eu-central-1"));
    let pool = &stack.pools[0];
    assert!(pool.runs_tasks());
    assert_eq!(pool.cloud_init, "templates/ecs/azure-devops-agent.json.tera");
    let offering = &pool.offerings[0];
    assert_eq!(
        (&offering.image, offering.market),
        (&ImageRef::TaskTemplate, Market::Spot)
    );
    let Some(TaskSpec::Ecs(task)) = offering.task.as_deref() else {
        panic!("{offering:?}")
    };
    assert_eq!(task.cluster, "ci");
    assert_eq!(task.subnets, ["subnet-0a1b2c3d", "subnet-0a1b2c3e"]);
    assert_eq!(task.security_groups, ["sg-0a1b2c3d"]);
    assert_eq!(task.platform_version.as_deref(), Some("1.4.0"));
}

#[test]
fn what_is_left_out_of_fargate_has_its_default() {
    let stack = good(
        "cluster = \"ci\"\nlog_group = \"/runfleet/ci\"\ncreate = true\n",
        "",
    );
    let home = stack.providers.values().next().unwrap().ecs.clone().unwrap();
    assert_eq!(
        (home.cluster.as_str(), home.create, home.log_group),
        ("default", false, None)
    );
    for (from, to) in [
        (
            "platform_version = \"1.4.0\"\n",
            "platform_version = \"LATEST\"\n",
        ),
        (
            "security_groups = [\"sg-0a1b2c3d\"]\nplatform_version = \"1.4.0\"\n",
            "",
        ),
        ("type = \"0.25vcpu-0.5gb\"", "type = \"16vcpu-120gb-arm64\""),
        ("type =", "locations = [\"eu-central-1\"]\ntype ="),
    ] {
        good(from, to);
    }
}

#[test]
fn what_fargate_does_not_have_is_told_with_what_to_type() {
    let many: Vec<String> = (0..17).map(|n| format!("\"subnet-{n}\", ")).collect();
    let many = many.concat();
    let subnets = "[\"subnet-0a1b2c3d\", \"subnet-0a1b2c3e\"]";
    let task = "task = \"templates/ecs/azure-devops-agent.json.tera\"\n";
    let cases = [
        (
            "cluster = \"ci\"",
            "cluster = \"arn:aws:ecs:eu-central-1:123456789012:cluster/ci\"",
            "write its name alone: \"ci\"",
        ),
        (
            "cluster = \"ci\"",
            "cluster = \"my cluster\"",
            "\"my cluster\" is no name of a cluster",
        ),
        (
            "\"/runfleet/ci\"",
            "\"/runfleet/ci:1\"",
            "\"/runfleet/ci:1\" is no name of a log group",
        ),
        (
            "create = true",
            "namespace = \"ci\"",
            "`providers.fargate.namespace` says nothing to ecs",
        ),
        (
            "create = true",
            "vpc = \"vpc-0a1b2c3d\"",
            "`providers.fargate.vpc` says nothing to ecs",
        ),
        (
            "create = true",
            "token = { env = \"T\" }",
            "`providers.fargate.token` says nothing to ecs",
        ),
        (
            "create = true",
            "endpoint = \"sandbox\"",
            "the sandbox has no ecs",
        ),
        (
            "\"0.25vcpu-0.5gb\"",
            "\"c6i.large\"",
            "\"c6i.large\" is no size of a task",
        ),
        ("\"0.25vcpu-0.5gb\"", "\"256-512\"", "\"2vcpu-4gb-arm64\""),
        (
            "type =",
            "locations = [\"eu-central-1a\"]\ntype =",
            "\"eu-central-1a\" is no region",
        ),
        (subnets, "[\"private\"]", "write \"subnet-0a1b2c3d\""),
        ("\"subnet-0a1b2c3e\"", many.as_str(), "a task has 16 at most"),
        ("\"sg-0a1b2c3d\"", "\"default\"", "write \"sg-0a1b2c3d\""),
        (
            "\"1.4.0\"",
            "\"1.4\"",
            "\"1.4\" is no version of Fargate's platform",
        ),
        (
            "type =",
            "image = \"debian-12\"\ntype =",
            "image` says nothing to ecs",
        ),
        ("type =", "cpu = \"1\"\ntype =", "cpu` says nothing to ecs"),
        (task, "", "missing key `task` in `pools.linux`"),
        (
            "max = 5",
            "max = 5\ncloud_init = \"cloud-init/machine.yaml.tera\"",
            "`pools.linux.cloud_init` says nothing to containers",
        ),
    ];
    for (from, to, expected) in cases {
        let said = said(from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
    let without = format!("subnets = {subnets}\n");
    assert!(said(&without, "").contains("missing key `subnets`"));
}
