//! Kubernetes in the stack file: what is read, and what it says in words of its own.

use super::*;
use crate::model::resource::{ImageRef, TaskSpec};

const CLUSTER: &str = r#"[stack]
name = "prod"

[providers.cluster]
kind = "kubernetes"
namespace = "ci"
kubeconfig = "kube.yaml"
context = "prod"

[ci.circleci]
token = { env = "CIRCLE_TOKEN" }

[pools.linux]
ci = "circleci"
max = 5
tags = ["acme/linux"]
task = "templates/kubernetes/circleci-runner.yaml.tera"

[[pools.linux.offerings]]
provider = "cluster"
type = "small"
cpu = "500m"
memory = "2Gi"
price = "0.02 EUR"
deadline = "6h"
node_selector = { "kubernetes.io/arch" = "amd64" }
tolerations = [{ key = "ci", operator = "Exists", effect = "NoSchedule" }]
"#;

/// What is said of [`CLUSTER`] with one text in place of another.
fn said(from: &str, to: &str) -> String {
    assert!(CLUSTER.contains(from), "{from}");
    match parse(&CLUSTER.replacen(from, to, 1), "stacks/prod.toml") {
        Err(problems) => brief(&problems),
        Ok(_) => panic!("nothing is said of {to}"),
    }
}

fn good(from: &str, to: &str) -> Stack {
    assert!(CLUSTER.contains(from), "{from}");
    let text = CLUSTER.replacen(from, to, 1);
    parse(&text, "stacks/prod.toml").unwrap_or_else(|problems| panic!("{}", brief(&problems)))
}

#[test]
fn a_stack_in_a_cluster_is_read() {
    let stack = good("", "");
    let provider = stack.providers.values().next().unwrap();
    let home = provider.kubernetes.as_ref().unwrap();
    assert_eq!(
        (provider.kind, home.namespace.as_str()),
        (ProviderKind::Kubernetes, "ci")
    );
    assert_eq!(home.context.as_deref(), Some("prod"));
    let pool = &stack.pools[0];
    assert!(pool.runs_tasks());
    assert_eq!(pool.cloud_init, "templates/kubernetes/circleci-runner.yaml.tera");
    let offering = &pool.offerings[0];
    assert_eq!(offering.image, ImageRef::TaskTemplate);
    assert_eq!(offering.price.as_ref().unwrap().to_string(), "0.02 EUR");
    let Some(TaskSpec::Kubernetes(job)) = offering.task.as_deref() else {
        panic!("{offering:?}")
    };
    assert_eq!(
        (job.cpu.as_deref(), job.memory.as_deref()),
        (Some("500m"), Some("2Gi"))
    );
    assert_eq!(job.deadline.unwrap().as_hours(), 6);
    assert_eq!(job.ttl.as_mins(), 10);
    assert_eq!(job.tolerations[0].operator.as_deref(), Some("Exists"));
}

#[test]
fn a_cluster_is_found_in_every_way_that_it_lets_us_in() {
    let config = "kubeconfig = \"kube.yaml\"\ncontext = \"prod\"\n";
    good(config, "in_cluster = true\n");
    good(config, "");
    let stack = good(
        config,
        "endpoint = \"https://10.0.0.1:6443\"\ntoken = { env = \"KUBE_TOKEN\" }\nca_file = \"ca.pem\"\n",
    );
    assert!(stack.providers.values().next().unwrap().token.is_some());
}

#[test]
fn a_cronjob_stands_for_the_template_by_name_or_by_its_labels() {
    let task = "task = \"templates/kubernetes/circleci-runner.yaml.tera\"\n";
    let named = CLUSTER.replacen(task, "", 1).replacen(
        "type = \"small\"",
        "type = \"small\"\ncronjob = \"runner-linux\"",
        1,
    );
    let stack = parse(&named, "stacks/prod.toml").unwrap_or_else(|problems| panic!("{}", brief(&problems)));
    assert_eq!(stack.pools[0].cloud_init, "");
    let found = CLUSTER
        .replacen(task, "discover = { org = \"acme\" }\n", 1)
        .replacen("tags = [\"acme/linux\"]\n", "", 1);
    let stack = parse(&found, "stacks/prod.toml").unwrap_or_else(|problems| panic!("{}", brief(&problems)));
    assert_eq!(stack.pools[0].discover.as_ref().unwrap().org, "acme");
}

#[test]
fn what_kubernetes_does_not_know_is_told_with_what_to_type() {
    let task = "task = \"templates/kubernetes/circleci-runner.yaml.tera\"\n";
    let cases = [
        ("namespace = \"ci\"", "namespace = \"CI_jobs\""),
        ("context = \"prod\"", "in_cluster = true"),
        ("context = \"prod\"", "token = { env = \"T\" }"),
        ("context = \"prod\"", "endpoint = \"https://10.0.0.1:6443\""),
        ("context = \"prod\"", "region = \"eu-central-1\""),
        (task, ""),
        (task, "cloud_init = \"cloud-init/circleci-runner.yaml.tera\"\n"),
        (task, "discover = { org = \"acme/linux\" }\n"),
        ("cpu = \"500m\"", "cpu = \"0.5 cores\""),
        ("memory = \"2Gi\"", "memory = \"512m\""),
        ("memory = \"2Gi\"", "memory = \"2GB\""),
        ("price = \"0.02 EUR\"", "locations = [\"fsn1\"]"),
        ("price = \"0.02 EUR\"", "image = \"debian-12\""),
        ("price = \"0.02 EUR\"", "market = \"spot\""),
        ("price = \"0.02 EUR\"", "cronjob = \"Runner\""),
        ("kubernetes.io/arch", "arch of node"),
        ("\"amd64\"", "\"amd 64\""),
        ("operator = \"Exists\"", "operator = \"exists\""),
        ("operator = \"Exists\"", "operator = \"Exists\", value = \"x\""),
        ("key = \"ci\", operator = \"Exists\"", "value = \"x\""),
        ("effect = \"NoSchedule\"", "effect = \"NoRun\""),
    ];
    let all: String = cases.iter().map(|(from, to)| said(from, to)).collect();
    insta::assert_snapshot!(all, @r#"
    6:13 stack::bad_value "CI_jobs" is no name of a namespace
      = at most 63 lower-case letters, digits and `-`, a letter or digit at either end
    7:1 stack::contradiction `providers.cluster.kubeconfig` says nothing to a provider with in_cluster
      = take `kubeconfig` out
    8:1 stack::contradiction `providers.cluster.token` says nothing to a provider without `endpoint`
      = take `token` out
    4:1 stack::missing_key missing key `token` in `providers.cluster`
      = add token = { env = "KUBE_TOKEN" }
    7:1 stack::contradiction `providers.cluster.kubeconfig` says nothing to an address with a token
      = take `kubeconfig` out
    8:1 stack::contradiction `providers.cluster.region` says nothing to kubernetes
      = take `region` out
    13:1 stack::missing_key missing key `task` in `pools.linux`
      = say what runs: add task = "templates/kubernetes/circleci-runner.yaml.tera", or let every offering name its `cronjob`
    13:1 stack::missing_key missing key `task` in `pools.linux`
      = say what runs: add task = "templates/kubernetes/circleci-runner.yaml.tera", or let every offering name its `cronjob`
    17:1 stack::contradiction `pools.linux.cloud_init` says nothing to containers
      = take `cloud_init` out
    16:1 stack::contradiction `pools.linux.tags` says nothing to what is discovered
      = take `tags` out
    17:20 stack::bad_value "acme/linux" cannot be a label's value here
      = write what stands before the slash of the resource class: "acme"
    22:7 stack::bad_value `pools.linux.offerings.cpu` cannot be "0.5 cores"
      = write whole processors or thousandths: "2", "500m"
    23:10 stack::bad_value `pools.linux.offerings.memory` cannot be "512m"
      = `m` is a thousandth of a byte here; write "512Mi"
    23:10 stack::bad_value `pools.linux.offerings.memory` cannot be "2GB"
      = write bytes, or with Mi or Gi behind: "512Mi", "4Gi"
    24:1 stack::contradiction `pools.linux.offerings.locations` says nothing to kubernetes
      = take `locations` out
    24:1 stack::contradiction `pools.linux.offerings.image` says nothing to kubernetes
      = take `image` out
    24:10 stack::contradiction Kubernetes has no spot market
      = take `market` out, or write market = "on-demand"
    17:1 stack::contradiction `pools.linux.task` says nothing to a pool whose template is a CronJob
      = take `task` out
    24:11 stack::bad_value "Runner" is no name of a CronJob
      = at most 52 lower-case letters, digits, `-` and `.`: `kubectl get cronjobs` lists them
    26:19 stack::bad_value "arch of node" is no label of a node
      = write it as `kubectl get nodes --show-labels` does: "kubernetes.io/arch" = "amd64"
    26:42 stack::bad_value "amd 64" is no value of a label
      = at most 63 letters, digits, `-`, `_` and `.`
    27:41 stack::bad_value there is no operator "exists"
      = write "Equal" or "Exists"
    27:51 stack::contradiction `pools.linux.offerings.tolerations.value` says nothing to the operator Exists
      = take `value` out
    27:16 stack::contradiction `pools.linux.offerings.tolerations` names no taint
      = add its `key`, or operator = "Exists" for every taint
    27:60 stack::bad_value there is no effect "NoRun"
      = write one of NoSchedule, PreferNoSchedule, NoExecute
    "#);
}

#[test]
fn words_of_kubernetes_say_nothing_elsewhere() {
    let text = SMALL.replacen(
        "image = \"debian-12\"",
        "image = \"debian-12\"\ncpu = \"2\"\ncronjob = \"x\"",
        1,
    );
    let text = text.replacen(
        "token = { env = \"HCLOUD_TOKEN\" }",
        "token = { env = \"HCLOUD_TOKEN\" }\nnamespace = \"ci\"",
        1,
    );
    insta::assert_snapshot!(brief(&parse(&text, "stacks/prod.toml").unwrap_err()), @r"
    6:1 stack::contradiction `providers.hetzner.namespace` says nothing to hetzner
      = take `namespace` out
    33:1 stack::contradiction `pools.linux.offerings.cpu` says nothing to hetzner
      = take `cpu` out
    34:1 stack::contradiction `pools.linux.offerings.cronjob` says nothing to hetzner
      = take `cronjob` out
    ");
}
