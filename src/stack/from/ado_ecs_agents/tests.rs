use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::{
    model::resource::TaskSpec,
    stack::{Endpoint, Mode, Policy, ProviderKind, SecretRef},
};

const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ado-pat-AbCdEf";

/// A file of the first version.
fn queue_file(id: &str) -> String {
    format!(
        r#"{{
  "ado_pool_id": "{id}",
  "ado_secret_arn": "{SECRET}",
  "ecs_service_arn": "arn:aws:ecs:eu-west-1:123456789012:service/agents/ado",
  "Namespace": "ADOAgentQueue",
  "MetricData": [
    {{ "MetricName": "Queue1_waiting_jobs", "Value": 0, "Unit": "Count" }},
    {{ "MetricName": "Queue1_unassigned_agents" }}
  ]
}}
"#
    )
}

const VARIABLES: &str = r#"{
  "ado_org_name": "acme",
  "ado_pat": "verysecret",
  "ado_pool_name": "Linux builds",
  "ado_pool_id": 12,
  "subnet": "subnet-0a1b2c3d",
  "agent_security_group": "sg-0a1b2c3d",
  "agent_cluster_name": "ado-agents",
  "agent_cw_metric_prefix": "Queue",
  "agent_cw_namespace": "ADOAgentQueue",
  "assign_public_ip": "ENABLED",
  "image_name": "adoagent",
  "function_timeout_seconds": 60
}
"#;

fn files(all: &[(&str, &str)]) -> Vec<File> {
    all.iter()
        .map(|(name, text)| File {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        })
        .collect()
}

fn made(all: &[(&str, &str)]) -> Converted {
    convert(&files(all), "agents", &|_| None).unwrap_or_else(|error| panic!("{error} {error:?}"))
}

fn refused(text: &str) -> String {
    let error = convert(&files(&[("a.json", text)]), "agents", &|_| None).unwrap_err();
    let help = match &error {
        FromError::InFile { help, .. } => help.clone(),
        _ => String::new(),
    };
    format!("{error} = {help}")
}

fn left(converted: &Converted) -> Vec<&str> {
    converted.left.iter().map(|left| left.key.as_str()).collect()
}

#[test]
fn terraforms_variables_become_a_pool_that_behaves_the_same() {
    let made = made(&[("terraform.tfvars.json", VARIABLES)]);
    let stack = &made.stack;
    assert_eq!(stack.interval, SignedDuration::from_mins(2));
    let ci = &stack.ci["azure"];
    assert_eq!(ci.url, Endpoint::Url("https://dev.azure.com/acme".to_owned()));
    assert_eq!(ci.max, Some(20));
    let Some(SecretRef::Command(words)) = &ci.token else {
        panic!("{:?}", ci.token);
    };
    assert!(
        words.starts_with(&["aws".to_owned(), "ssm".to_owned()]),
        "{words:?}"
    );
    assert!(words.contains(&"ado-agents-PAT".to_owned()), "{words:?}");
    let provider = &stack.providers["fargate"];
    assert_eq!(provider.kind, ProviderKind::Ecs);
    assert_eq!(provider.ecs.as_ref().unwrap().cluster, "ado-agents");
    let pool = &stack.pools[0];
    assert_eq!(pool.name.as_str(), "linux-builds");
    assert_eq!(pool.agents.as_ref().unwrap().pool, "Linux builds");
    assert_eq!(pool.policy, Policy::AdoDelta);
    assert_eq!(
        (pool.mode, pool.min, pool.max, pool.jobs_per_runner),
        (Mode::Advise, 0, 20, 1)
    );
    assert_eq!(pool.idle_timeout, SignedDuration::ZERO);
    assert_eq!(pool.cloud_init, "templates/ecs/azure-devops-agent.json.tera");
    let offering = &pool.offerings[0];
    assert!(offering.public_ipv4);
    let Some(TaskSpec::Ecs(task)) = offering.task.as_deref() else {
        panic!("{offering:?}");
    };
    assert_eq!(
        (task.subnets.as_slice(), task.security_groups.as_slice()),
        (
            &["subnet-0a1b2c3d".to_owned()][..],
            &["sg-0a1b2c3d".to_owned()][..]
        )
    );
    assert_eq!(
        left(&made),
        [
            "ado_pat",
            "agent_cw_namespace",
            "agent_cw_metric_prefix",
            "function_timeout_seconds",
            "executionRoleArn"
        ]
    );
    assert_eq!(
        pool.vars["image"],
        "ACCOUNT.dkr.ecr.REGION.amazonaws.com/adoagent:latest"
    );
    assert!(!format!("{} {:?}", made.text, made.left).contains("verysecret"));
}

#[test]
fn a_queue_of_the_first_version_names_its_cluster_and_its_secret_and_lacks_the_rest() {
    let made = made(&[("config/queue1.json", &queue_file("7"))]);
    let stack = &made.stack;
    let provider = &stack.providers["fargate"];
    assert_eq!(provider.aws.region.as_deref(), Some("eu-west-1"));
    assert_eq!(provider.ecs.as_ref().unwrap().cluster, "agents");
    let Some(SecretRef::Command(words)) = &stack.ci["azure"].token else {
        panic!();
    };
    assert_eq!(words[0..2], ["sh", "-c"]);
    assert!(words[2].contains(&format!("--secret-id '{SECRET}'")), "{words:?}");
    let pool = &stack.pools[0];
    assert_eq!(
        (pool.name.as_str(), pool.agents.as_ref().unwrap().pool.as_str()),
        ("queue1", "7")
    );
    let expected = json!({
        "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/adoagent:latest",
        "execution_role": "arn:aws:iam::123456789012:role/ROLE",
        "token_from": "arn:aws:ssm:eu-west-1:123456789012:parameter/agents-PAT",
    });
    assert_eq!(json!(pool.vars), expected);
    assert!(made.text.contains("https://dev.azure.com/ORGANISATION"));
    assert_eq!(
        left(&made),
        [
            "Namespace",
            "MetricData",
            "ado_org_name",
            "subnet",
            "ado_pool_id",
            "executionRoleArn"
        ]
    );
}

#[test]
fn each_queue_is_a_pool_and_variables_beside_them_hold_for_all() {
    let common = r#"{"ado_org_name": "https://dev.azure.com/acme/", "ado_pool_name": "Linux", "subnet": ["subnet-1", "subnet-2"],
                     "assign_public_ip": "ENABLED"}"#;
    let made = made(&[
        ("config/queue1.json", &queue_file("7")),
        ("config/queue2.json", &queue_file("8")),
        ("terraform.tfvars.json", common),
    ]);
    let pools: Vec<(&str, &str, Mode)> = made
        .stack
        .pools
        .iter()
        .map(|pool| {
            (
                pool.name.as_str(),
                pool.agents.as_ref().unwrap().pool.as_str(),
                pool.mode,
            )
        })
        .collect();
    assert_eq!(
        pools,
        [("queue1", "7", Mode::Advise), ("queue2", "8", Mode::Advise)]
    );
    assert_eq!((made.stack.ci.len(), made.stack.providers.len()), (1, 1));
    assert!(made.stack.pools.iter().all(|pool| pool.offerings[0].public_ipv4));
    assert_eq!(
        left(&made),
        ["Namespace", "MetricData", "ado_pool_id", "executionRoleArn"]
    );
}

#[test]
fn with_one_queue_the_variables_name_its_pool() {
    let common = "# the first version\nado_org_name  = \"acme\"\nado_pool_name = \"Linux\" // its agents\n";
    let error = convert(
        &files(&[("q.json", &queue_file("7")), ("terraform.tfvars", common)]),
        "agents",
        &|_| None,
    );
    // A comment behind a value is Terraform's own, and no TOML.
    assert!(
        error
            .unwrap_err()
            .to_string()
            .starts_with("terraform.tfvars, line 3:")
    );
    let common = "// the first version\nado_org_name  = \"acme\"\nado_pool_name = \"Linux\"   # its agents\n";
    let made = made(&[("q.json", &queue_file("7")), ("terraform.tfvars", common)]);
    assert_eq!(made.stack.pools[0].agents.as_ref().unwrap().pool, "Linux");
    assert_eq!(
        left(&made),
        ["Namespace", "MetricData", "subnet", "executionRoleArn"]
    );
}

#[test]
fn modules_of_several_accounts_and_clusters_are_kept_apart() {
    let other = VARIABLES
        .replace("\"acme\"", "\"umbrella\"")
        .replace("ado-agents", "other")
        .replace("ENABLED", "DISABLED");
    let made = made(&[("one.json", VARIABLES), ("two.json", &other)]);
    let stack = &made.stack;
    assert_eq!(
        stack.ci["azure-2"].url,
        Endpoint::Url("https://dev.azure.com/umbrella".to_owned())
    );
    assert_eq!(
        stack.providers["fargate-2"].ecs.as_ref().unwrap().cluster,
        "other"
    );
    let second = &stack.pools[1];
    assert_eq!(
        (
            second.name.as_str(),
            second.ci.as_str(),
            second.offerings[0].provider.as_str()
        ),
        ("linux-builds-2", "azure-2", "fargate-2")
    );
    assert!(!second.offerings[0].public_ipv4);
}

#[test]
fn names_of_pools_are_cut_to_what_fits_and_stay_apart() {
    let named = |name: &str| VARIABLES.replace("Linux builds", name);
    let long = "Überlange Namen für Agenten, die Linux bauen";
    let made = made(&[
        ("one.json", &named(long)),
        ("two.json", &named(long)),
        ("three.json", &named("1")),
    ]);
    let names: Vec<&str> = made.stack.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "berlange-namen-f-r-agenten-di",
            "berlange-namen-f-r-agenten-2",
            "pool-1"
        ]
    );
}

#[test]
fn the_environments_organisation_counts_where_no_file_has_it() {
    let env = |name: &str| (name == "TF_VAR_ado_org_name").then(|| "acme".to_owned());
    let without = VARIABLES.replace("\"ado_org_name\": \"acme\",", "");
    let made = convert(&files(&[("a.json", &without)]), "agents", &env).unwrap();
    assert_eq!(
        made.stack.ci["azure"].url,
        Endpoint::Url("https://dev.azure.com/acme".to_owned())
    );
    let queue = convert(&files(&[("a.json", &queue_file("7"))]), "agents", &env).unwrap();
    assert!(!left(&queue).contains(&"ado_org_name"));
}

#[test]
fn what_is_missing_or_wrong_is_told_with_its_file_its_line_and_what_to_type() {
    let without = |key: &str| {
        let text = queue_file("7");
        let lines = text.lines().filter(|line| !line.contains(key));
        lines
            .collect::<Vec<_>>()
            .join("\n")
            .replace("service/agents/ado\",\n}", "service/agents/ado\"\n}")
    };
    let told = refused(&without("ado_secret_arn"));
    assert!(
        told.starts_with(
            "a.json: ado_secret_arn is missing = add \"ado_secret_arn\": \"arn:aws:secretsmanager:"
        ),
        "{told}"
    );
    let told = refused("{\"ado_pool_id\": \"7\", \"Namespace\": \"\"}");
    assert!(
        told.starts_with("a.json: ado_secret_arn, ecs_service_arn, Namespace, MetricData are missing"),
        "{told}"
    );
    for (from, to, expected) in [
        (
            "\"7\"",
            "\"seven\"",
            "a.json, line 2: ado_pool_id is not the number of an agent pool",
        ),
        (
            "\"7\"",
            "-1",
            "a.json, line 2: ado_pool_id is not the number of an agent pool",
        ),
        (
            ":secret:",
            ":",
            "a.json, line 3: ado_secret_arn is not the ARN of a secret",
        ),
        (
            "AbCdEf",
            "'; id; '",
            "a.json, line 3: ado_secret_arn is not the ARN of a secret",
        ),
        (
            ":service/",
            ":task/",
            "a.json, line 4: ecs_service_arn is not the ARN of a service of ECS",
        ),
        (
            "\"MetricName\": \"Queue1_unassigned_agents\"",
            "\"Value\": 0",
            "a.json, line 6: MetricData is not two metrics with a MetricName each",
        ),
        (
            "\"Namespace\"",
            "Namespace",
            "a.json, line 5: it is no JSON: key must be a string",
        ),
    ] {
        let told = refused(&queue_file("7").replace(from, to));
        assert!(told.starts_with(expected), "{told}");
    }
    for (from, to, expected) in [
        (
            "\"acme\"",
            "\"a/b\"",
            "a.json, line 2: ado_org_name is not the name of an organisation",
        ),
        (
            "\"subnet-0a1b2c3d\"",
            "\"vpc-1\"",
            "a.json, line 6: subnet is not an id that begins with subnet-",
        ),
        (
            "\"sg-0a1b2c3d\"",
            "7",
            "a.json, line 7: agent_security_group is not an id that begins with sg-",
        ),
        (
            "ENABLED",
            "yes",
            "a.json, line 11: assign_public_ip is not ENABLED or DISABLED",
        ),
        (
            "\"Linux builds\"",
            "\"${var.x}\"",
            "a.json, line 4: ado_pool_name is not written out",
        ),
        ("\"subnet-0a1b2c3d\"", "\"\"", "a.json: subnet is missing"),
        ("\"ado_org_name\"", "\"org\"", "a.json: ado_org_name is missing"),
    ] {
        let told = refused(&VARIABLES.replace(from, to));
        assert!(told.starts_with(expected), "{told}");
        assert!(!told.contains("verysecret"), "{told}");
    }
    assert!(refused("{\"a\": 1}").starts_with("a.json: it has none of the keys of ado-ecs-agents"));
    assert!(refused("[1]").starts_with("a.json, line 1: it is no JSON object"));
    assert!(
        refused("resource \"aws_ecs_cluster\" {")
            .starts_with("a.json, line 1: it is neither JSON nor KEY = VALUE")
    );
    assert_eq!(
        convert(&[], "agents", &|_| None).unwrap_err().to_string(),
        "there is no file of JSON there"
    );
    assert!(matches!(
        convert(&files(&[("a.json", VARIABLES)]), "Agents", &|_| None),
        Err(FromError::Stack(_))
    ));
}

#[test]
fn keys_that_nobody_knows_are_named_and_their_values_are_not() {
    let text = VARIABLES.replace("\"ado_pat\"", "\"ado_pta\"");
    let made = made(&[("a.json", &text)]);
    assert!(left(&made).contains(&"ado_pta"));
    assert!(!format!("{} {:?}", made.text, made.left).contains("verysecret"));
}
