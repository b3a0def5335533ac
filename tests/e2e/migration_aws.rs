//! Coming from drone-autoscaler and circleci-runner-autoscaler: their environment becomes a stack file.

#[cfg(feature = "aws")]
mod day;

use crate::support::Project;

const DRONE: &str = "\
# /etc/drone-autoscaler.env
SCALER_PROBE_INTERVAL=30s
SCALER_LOG_FORMAT=text
SCALER_DRY=true
DRONE_AGENT_MAX_BUILDS=2
DRONE_AGENT_AUTOSCALING_GROUP=drone-agents
DRONE_SERVER_HOST=drone.example.com
DRONE_SERVER_PROTO=https
DRONE_SERVER_AUTH_TOKEN=verysecret
DRONE_AGENT_COLOUR=blue
";

const CIRCLECI: &str = "\
export APP_CIRCLE_TOKEN='verysecret'
export APP_CIRCLE_RESOURCE_NAMESPACE=acme
";

fn project(file: &str, text: &str) -> Project {
    let project = Project::with_stack("", "t");
    std::fs::remove_file(project.path("stacks/test.toml")).unwrap();
    std::fs::write(project.path(file), text).unwrap();
    project
}

#[test]
fn drone_autoscalers_environment_is_taken_over_and_what_has_no_equivalent_is_named() {
    let project = project("scaler.env", DRONE);
    let told = project
        .run(&["init", "--from", "drone-autoscaler", "scaler.env"])
        .exits(0)
        .says("SCALER_LOG_FORMAT: how logs are written is said when it is run")
        .says("DRONE_AGENT_COLOUR: drone-autoscaler knows no such variable either")
        .says("Wrote stacks/drone.toml");
    let text = std::fs::read_to_string(project.path("stacks/drone.toml")).unwrap();
    for line in [
        "interval = \"30s\"",
        "token       = { env = \"DRONE_SERVER_AUTH_TOKEN\" }",
        "mode            = \"advise\"",
        "jobs_per_runner = 2",
        "name = \"drone-agents\"",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!format!("{text}{}{}", told.stdout, told.stderr).contains("verysecret"));
    project.run(&["-s", "drone", "validate"]).exits(0);
    project
        .run(&["init", "--from", "drone-autoscaler", "scaler.env"])
        .exits(1)
        .says("is there already");
}

#[test]
fn circleci_runner_autoscalers_environment_is_taken_over_and_what_has_no_equivalent_is_named() {
    let project = project("scaler.env", CIRCLECI);
    let arguments = [
        "--json",
        "init",
        "--from",
        "circleci-runner-autoscaler",
        "scaler.env",
        "--out",
        "stacks/runners.toml",
    ];
    let told = project.run(&arguments).exits(0).json();
    assert_eq!(told["stack"], "runners");
    assert_eq!(told["left"], serde_json::json!([]));
    let text = std::fs::read_to_string(project.path("stacks/runners.toml")).unwrap();
    assert!(
        text.contains("namespace = \"acme\"")
            && text.contains("org = \"acme\"")
            && text.contains("in_cluster = true")
            && !text.contains("verysecret"),
        "{text}"
    );
    project.run(&["-s", "runners", "validate"]).exits(0);
}

/// The variables of ado-ecs-agents's Terraform.
const VARIABLES: &str = r#"{
  "ado_org_name": "acme", "ado_pat": "verysecret", "ado_pool_name": "Linux", "ado_pool_id": "12",
  "subnet": "subnet-0a1b2c3d", "agent_security_group": "sg-0a1b2c3d", "agent_cluster_name": "agents"
}"#;

/// A queue of its first version.
fn queue(id: u32) -> String {
    format!(
        r#"{{"ado_pool_id": "{id}", "ado_secret_arn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:pat-AbCdEf",
            "ecs_service_arn": "arn:aws:ecs:eu-west-1:123456789012:service/agents/ado", "Namespace": "ADOAgentQueue",
            "MetricData": [{{"MetricName": "Q_waiting_jobs"}}, {{"MetricName": "Q_unassigned_agents"}}]}}"#
    )
}

#[test]
fn ado_ecs_agents_files_are_taken_over_and_what_has_no_equivalent_is_named() {
    let project = project("terraform.tfvars.json", VARIABLES);
    let told = project
        .run(&["init", "--from", "ado-ecs-agents", "terraform.tfvars.json"])
        .exits(0)
        .says("ado_pat: a secret that stands in a file is not copied")
        .says("executionRoleArn: ")
        .says("Wrote stacks/agents.toml");
    let text = std::fs::read_to_string(project.path("stacks/agents.toml")).unwrap();
    assert!(!format!("{text}{}{}", told.stdout, told.stderr).contains("verysecret"));
    project.run(&["-s", "agents", "validate"]).exits(0);
    // A folder of queues, one of them alone, and what is none.
    std::fs::create_dir(project.path("config")).unwrap();
    for (name, id) in [("linux", 7), ("windows", 8)] {
        std::fs::write(project.path(&format!("config/{name}.json")), queue(id)).unwrap();
    }
    let from = |paths: &[&str], out: &str| {
        let words = [&["init", "--from", "ado-ecs-agents"], paths, &["--out", out]].concat();
        project.run(&words)
    };
    from(&["config"], "stacks/queues.toml")
        .exits(0)
        .says("ado_org_name: no file names");
    let text = std::fs::read_to_string(project.path("stacks/queues.toml")).unwrap();
    assert!(
        text.contains("[pools.linux]") && text.contains("[pools.windows]"),
        "{text}"
    );
    project.run(&["-s", "queues", "validate"]).exits(0);
    from(&["config/linux.json", "config/windows.json"], "stacks/both.toml").exits(0);
    project.run(&["-s", "both", "validate"]).exits(0);
    std::fs::write(
        project.path("config/linux.json"),
        queue(7).replace("Namespace", "namespace"),
    )
    .unwrap();
    from(&["config"], "stacks/none.toml")
        .exits(1)
        .says("linux.json: Namespace is missing")
        .says("nothing was written");
    std::fs::create_dir(project.path("empty")).unwrap();
    from(&["empty"], "stacks/none.toml")
        .exits(1)
        .says("there is no file of JSON there");
    assert!(!project.path("stacks/none.toml").exists());
    project
        .run(&["init", "--from", "do-scaler", "config", "empty"])
        .exits(1)
        .says("empty is a second");
}

#[test]
fn an_environment_that_lacks_something_writes_nothing_and_says_what_to_type() {
    let project = project("scaler.env", "SCALER_DRY=true\nDRONE_SERVER_HOST=\n");
    let from = |kind: &str, path: &str| project.run(&["init", "--from", kind, path]).exits(1);
    from("drone-autoscaler", "scaler.env")
        .says("line 3: DRONE_AGENT_MAX_BUILDS is missing")
        .says("DRONE_SERVER_HOST is missing")
        .says("DRONE_AGENT_MAX_BUILDS=2")
        .says("DRONE_SERVER_HOST=drone.example.com");
    from("circleci-runner-autoscaler", "scaler.env").says("none of the variables");
    std::fs::write(project.path("wrong.env"), DRONE.replace("=30s", "=verysecret")).unwrap();
    let told =
        from("drone-autoscaler", "wrong.env").says("line 2: SCALER_PROBE_INTERVAL is not a length of time");
    assert!(!format!("{}{}", told.stdout, told.stderr).contains("verysecret"));
    from("drone-autoscaler", "missing.env").says("missing.env");
    project
        .run(&["init", "--from", "drone-autoscaler"])
        .exits(1)
        .says("runfleet init --from drone-autoscaler drone-autoscaler.env");
    assert!(!project.path("stacks/drone.toml").exists());
}
