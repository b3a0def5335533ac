//! Jobs as they are made, and what Jobs and pods say of runners. The calls are tested against others' servers: tests/kube-fake, the
//! conformance suite.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, PodTemplateSpec},
};
use serde_json::{Value, json};

use super::{
    jobs::{Blueprint, job_name},
    list::by_hand,
    members::{self, Seen},
};
use crate::{
    model::{
        ids::ResourceKind,
        resource::{BatchSpec, ClaimLabels, CloudStatus, KubernetesJob, MachineSpec, TaskSpec, Toleration},
    },
    provider::ProviderError,
    render::{self, Join},
    stack,
};

fn claim(intent: &str) -> ClaimLabels {
    ClaimLabels {
        stack: "prod".into(),
        lineage: "l1".into(),
        pool: Some("linux".into()),
        id: "brave-otter".into(),
        hash: "abc".into(),
        intent: intent.into(),
        registration: None,
    }
}

fn batch(task: KubernetesJob) -> BatchSpec {
    let each = MachineSpec {
        pool: "linux".into(),
        runner: "brave-otter".into(),
        name: "prod-linux-brave-otter".to_owned(),
        offering: crate::model::offering::OfferingKey {
            provider: "cluster".into(),
            location: "prod".to_owned(),
            machine_type: "small".to_owned(),
            market: crate::model::offering::Market::OnDemand,
        },
        image: crate::model::resource::ImageRef::TaskTemplate,
        public_ipv4: false,
        ssh_keys: Vec::new(),
        firewalls: Vec::new(),
        networks: Vec::new(),
        placement_group: None,
        ec2: None,
        task: Some(Box::new(TaskSpec::Kubernetes(task))),
        parts: std::collections::BTreeMap::new(),
    };
    BatchSpec { each, count: 3 }
}

fn task() -> KubernetesJob {
    KubernetesJob {
        namespace: "ci".to_owned(),
        cronjob: None,
        ttl: jiff::SignedDuration::from_mins(10),
        deadline: Some(jiff::SignedDuration::from_hours(6)),
        node_selector: [("kubernetes.io/arch".to_owned(), "arm64".to_owned())].into(),
        tolerations: vec![Toleration {
            key: Some("ci".to_owned()),
            operator: Some("Exists".to_owned()),
            value: None,
            effect: Some("NoSchedule".to_owned()),
        }],
        cpu: Some("500m".to_owned()),
        memory: Some("2Gi".to_owned()),
    }
}

fn made(blueprint: &Blueprint) -> Value {
    let batch = batch(task());
    let name = job_name(&batch.each.name, &claim("i1"), 0);
    blueprint.job(&name, "ci", &claim("i1"), &batch, &task())
}

#[test]
fn a_jobs_name_follows_from_its_claim_and_leaves_room_for_its_pods() {
    let name = |batch: &str, intent: &str, index| job_name(batch, &claim(intent), index);
    assert_eq!(
        name("prod-linux-brave-otter", "i1", 0),
        name("prod-linux-brave-otter", "i1", 0)
    );
    let all = [
        name("prod-linux-brave-otter", "i1", 0),
        name("prod-linux-brave-otter", "i1", 1),
        name("prod-linux-brave-otter", "i2", 0),
        name(&"long-".repeat(20), "i1", 9),
        name("Prod_Linux", "i1", 0),
        name("--", "i1", 0),
    ];
    for name in &all {
        assert!(name.len() <= 57, "{name}");
        assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        assert!(
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
            "{name}"
        );
        assert!(!name.contains("--"), "{name}");
    }
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn a_job_of_a_cronjob_says_whose_it_is_and_keeps_what_we_do_not_know() {
    let cronjob = json!({
        "metadata": {"name": "runner-linux", "uid": "u-1", "labels": {
            "resource-class-org": "acme", "resource-class-name": "linux", "team": "blue"}},
        "spec": {"suspend": true, "schedule": "0 0 31 2 *", "jobTemplate": {
            "metadata": {"labels": {"own": "1"}},
            "spec": {
                "backoffLimit": 6, "completions": 5, "parallelism": 5, "suspend": true, "completionMode": "Indexed",
                "template": {
                    "metadata": {"labels": {"app": "runner", "controller-uid": "other"}},
                    "spec": {
                        "restartPolicy": "OnFailure",
                        "aFieldOfTomorrow": {"kept": true},
                        "nodeSelector": {"disk": "ssd"},
                        "tolerations": [{"key": "own"}],
                        "containers": [{"name": "runner", "image": "r:1", "resources": {"limits": {"cpu": "4", "gpu": "1"}}}]}}}}}
    });
    let job = made(&Blueprint::of_cronjob(&cronjob).unwrap());
    insta::assert_json_snapshot!(job, @r#"
    {
      "apiVersion": "batch/v1",
      "kind": "Job",
      "metadata": {
        "name": "prod-linux-brave-otter-4cd9b767-0",
        "namespace": "ci",
        "labels": {
          "own": "1",
          "resource-class-name": "linux",
          "resource-class-org": "acme",
          "runfleet-hash": "abc",
          "runfleet-id": "brave-otter",
          "runfleet-intent": "i1",
          "runfleet-lineage": "l1",
          "runfleet-pool": "linux",
          "runfleet-stack": "prod"
        },
        "annotations": {
          "cronjob.kubernetes.io/instantiate": "manual",
          "runfleet/location": "prod",
          "runfleet/name": "prod-linux-brave-otter",
          "runfleet/type": "small"
        },
        "ownerReferences": [
          {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "name": "runner-linux",
            "uid": "u-1"
          }
        ]
      },
      "spec": {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "template": {
          "metadata": {
            "labels": {
              "app": "runner",
              "resource-class-name": "linux",
              "resource-class-org": "acme",
              "runfleet-hash": "abc",
              "runfleet-id": "brave-otter",
              "runfleet-intent": "i1",
              "runfleet-lineage": "l1",
              "runfleet-pool": "linux",
              "runfleet-stack": "prod"
            },
            "annotations": {
              "runfleet/location": "prod",
              "runfleet/name": "prod-linux-brave-otter",
              "runfleet/type": "small"
            }
          },
          "spec": {
            "restartPolicy": "OnFailure",
            "aFieldOfTomorrow": {
              "kept": true
            },
            "nodeSelector": {
              "disk": "ssd",
              "kubernetes.io/arch": "arm64"
            },
            "tolerations": [
              {
                "key": "own"
              },
              {
                "key": "ci",
                "operator": "Exists",
                "effect": "NoSchedule"
              }
            ],
            "containers": [
              {
                "name": "runner",
                "image": "r:1",
                "resources": {
                  "limits": {
                    "cpu": "500m",
                    "gpu": "1",
                    "memory": "2Gi"
                  },
                  "requests": {
                    "cpu": "500m",
                    "memory": "2Gi"
                  }
                }
              }
            ]
          }
        },
        "ttlSecondsAfterFinished": 600,
        "activeDeadlineSeconds": 21600
      }
    }
    "#);
}

#[test]
fn a_template_is_a_job_a_pod_template_or_what_stands_in_one() {
    let pod = "spec: {containers: [{name: runner, image: 'r:1'}]}";
    let texts = [
        pod.to_owned(),
        format!("kind: PodTemplate\ntemplate: {{{pod}}}"),
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: x, labels: {{a: b}}}}\nspec: {{template: {{{pod}}}}}"
        ),
    ];
    for text in &texts {
        let job = made(&Blueprint::of_text(text).unwrap());
        assert_eq!(
            job["spec"]["template"]["spec"]["restartPolicy"], "Never",
            "{text}"
        );
        assert_eq!(job["spec"]["backoffLimit"], 0);
        let labels = &job["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels["runfleet-intent"], "i1");
        let _: Job = serde_json::from_value(job).unwrap();
    }
    let refused = |text: &str| match Blueprint::of_text(text) {
        Err(ProviderError::Rejected { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let all = [
        "a: [",
        "- a",
        "kind: Pod\nspec: {}",
        "spec: {containers: []}",
        "a: 1\n---\nb: 2",
    ];
    insta::assert_snapshot!(all.map(refused).join("\n"), @r#"
    the pod template: it is not one document of YAML, line 1
    the pod template: it is no object
    the pod template: its kind is "Pod"; write a Job, a PodTemplate, or a pod template without a kind
    the pod template: it names no container
    the pod template: it is not one document of YAML, line 3
    "#);
}

#[test]
fn no_error_quotes_the_template() {
    let text = "env: [{name: T, value: 's3cret'}]\nbroken: [s3cret";
    let error = Blueprint::of_text(text).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

/// A built-in template, rendered as for a pool of these lines.
fn rendered(ci: &str, template: &str, more: &str) -> String {
    let text = format!(
        "[stack]\nname = \"prod\"\n[providers.cluster]\nkind = \"kubernetes\"\n[ci.it]\nkind = \"{ci}\"\ntoken = {{ env = \"T\" }}\n{more}\n\
         [pools.linux]\nci = \"it\"\nmax = 3\ntask = \"{template}\"\nvars = {{ image = \"r:1\", user = 1000, pull_secret = \"pull\" }}\n"
    );
    let pool = match ci {
        "circleci" => "tags = [\"acme/linux\"]\n",
        _ => "agent_pool = \"linux\"\ncapabilities = { docker = \"/usr/bin/docker\" }\n",
    };
    let text = format!("{text}{pool}[[pools.linux.offerings]]\nprovider = \"cluster\"\ntype = \"small\"\n");
    let stack = stack::parse(&text, "stacks/prod.toml").unwrap_or_else(|problems| panic!("{problems:?}"));
    let pool = &stack.pools[0];
    let join = Join {
        url: "https://ci.example.com".to_owned(),
        token: "s3cret".into(),
        system_id: None,
    };
    let each = batch(task()).each;
    let data = render::user_data(&render::builtin(), &stack, pool, &each, &join);
    let data = data.unwrap_or_else(|error| panic!("{error}"));
    secrecy::ExposeSecret::expose_secret(&data).to_owned()
}

const TEMPLATES: [(&str, &str, &str); 2] = [
    ("circleci", "templates/kubernetes/circleci-runner.yaml.tera", ""),
    (
        "azure-devops",
        "templates/kubernetes/azure-devops-agent.yaml.tera",
        "url = \"https://dev.azure.com/acme\"",
    ),
];

#[test]
fn our_own_templates_are_pods_that_hold_no_secret() {
    for (ci, template, more) in TEMPLATES {
        let text = rendered(ci, template, more);
        assert!(!text.contains("s3cret"), "{text}");
        let parsed: PodTemplateSpec = serde_saphyr::from_str(&text).unwrap();
        let pod = parsed.spec.unwrap();
        assert_eq!(pod.security_context.unwrap().run_as_non_root, Some(true));
        assert_eq!(pod.automount_service_account_token, Some(false));
        let container = &pod.containers[0];
        assert_eq!(container.image.as_deref(), Some("r:1"));
        let env = container.env.as_ref().unwrap();
        let by_reference = |name: &str| {
            let one = env.iter().find(|one| one.name == name).unwrap();
            one.value_from.clone().unwrap()
        };
        let (token, name) = match ci {
            "circleci" => ("CIRCLECI_RUNNER_API_AUTH_TOKEN", "CIRCLECI_RUNNER_NAME"),
            _ => ("AZP_TOKEN", "AZP_AGENT_NAME"),
        };
        assert!(by_reference(token).secret_key_ref.is_some());
        assert_eq!(by_reference(name).field_ref.unwrap().field_path, "metadata.name");
    }
}

/// Everything of `ours` that `theirs` lacks or has otherwise, by its path.
fn lost(at: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(_)) => {
            for (key, value) in ours {
                lost(&format!("{at}.{key}"), value, &theirs[key], found);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            for (index, value) in ours.iter().enumerate() {
                lost(
                    &format!("{at}[{index}]"),
                    value,
                    theirs.get(index).unwrap_or(&Value::Null),
                    found,
                );
            }
        }
        _ if ours == theirs => {}
        _ => found.push(format!("{at}: {ours} became {theirs}")),
    }
}

/// kubectl reads a Job into Kubernetes's own types, without a server, and writes it again: what those do not have is gone.
#[test]
fn kubectl_knows_every_word_of_our_jobs() {
    if Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .output()
        .is_err()
    {
        crate::demand::testing::skipped("there is no kubectl here");
        return;
    }
    for (ci, template, more) in TEMPLATES {
        let job = made(&Blueprint::of_text(&rendered(ci, template, more)).unwrap());
        let mut kubectl = Command::new("kubectl")
            .args([
                "set",
                "env",
                "--local",
                "-f",
                "-",
                "--all",
                "RUNFLEET_READ=1",
                "-o",
                "json",
            ])
            .env("KUBECONFIG", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        kubectl
            .stdin
            .take()
            .unwrap()
            .write_all(job.to_string().as_bytes())
            .unwrap();
        let output = kubectl.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{template}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
        let env = &theirs["spec"]["template"]["spec"]["containers"][0]["env"];
        assert!(
            env.to_string().contains("RUNFLEET_READ"),
            "it was read as a Job: {theirs}"
        );
        let mut found = Vec::new();
        lost("", &job, &theirs, &mut found);
        assert!(found.is_empty(), "{template}: {found:#?}");
    }
}

fn told(job: Value, pod: Option<Value>) -> (CloudStatus, String) {
    let job: Job = serde_json::from_value(job).unwrap();
    let pod: Option<Pod> = pod.map(|pod| serde_json::from_value(pod).unwrap());
    let seen = Seen {
        pod: pod.as_ref(),
        unread: false,
    };
    members::status(&job, seen)
}

fn waits(reason: &str, message: &str) -> Value {
    json!({"status": {"phase": "Pending", "containerStatuses": [{"name": "runner", "image": "r", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}}]}})
}

fn ended(phase: &str, code: i32, reason: &str) -> Value {
    json!({"status": {"phase": phase, "containerStatuses": [{"name": "runner", "image": "r", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"terminated": {"exitCode": code, "reason": reason}}}]}})
}

fn condition(kind: &str, reason: &str, message: &str) -> Value {
    json!({"status": {"conditions": [{"type": kind, "status": "True", "reason": reason, "message": message}]}})
}

#[test]
fn where_a_runner_stands_follows_from_its_job_and_its_pod() {
    let unschedulable = json!({"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient cpu."}]}});
    let going =
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}});
    let evicted = json!({"status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}});
    let drained = json!({"status": {"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True",
        "reason": "DeletionByTaintManager", "message": "Taint manager: deleting due to NoExecute taint"}]}});
    let running = || json!({"status": {"phase": "Running"}});
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let table = [
        ("new", told(json!({}), None)),
        ("no node", told(json!({}), Some(unschedulable))),
        ("pulling", told(json!({}), Some(waits("ContainerCreating", "")))),
        (
            "no image",
            told(
                json!({}),
                Some(waits("ImagePullBackOff", "Back-off pulling image \"r:1\"")),
            ),
        ),
        (
            "no secret",
            told(
                json!({}),
                Some(waits("CreateContainerConfigError", "secret \"ci\" not found")),
            ),
        ),
        ("runs", told(json!({}), Some(running()))),
        (
            "lost",
            told(
                json!({}),
                Some(json!({"status": {"phase": "Unknown", "reason": "NodeLost"}})),
            ),
        ),
        ("leaves", told(json!({}), Some(going))),
        ("deleted", told(deleted, Some(running()))),
        (
            "done",
            told(
                condition("Complete", "", ""),
                Some(ended("Succeeded", 0, "Completed")),
            ),
        ),
        (
            "done, untold",
            told(json!({}), Some(ended("Succeeded", 0, "Completed"))),
        ),
        (
            "failed",
            told(
                condition("Failed", "BackoffLimitExceeded", "Job has reached it"),
                Some(ended("Failed", 3, "Error")),
            ),
        ),
        (
            "failed, no pod",
            told(
                condition("Failed", "BackoffLimitExceeded", "Job has reached it"),
                None,
            ),
        ),
        (
            "out of memory",
            told(json!({}), Some(ended("Failed", 137, "OOMKilled"))),
        ),
        ("evicted", told(json!({}), Some(evicted))),
        ("drained", told(json!({}), Some(drained))),
        (
            "too long",
            told(
                condition(
                    "Failed",
                    "DeadlineExceeded",
                    "Job was active longer than specified deadline",
                ),
                None,
            ),
        ),
    ];
    let lines: Vec<String> = table
        .iter()
        .map(|(what, (status, word))| format!("{what:<15} {status:?} | {word}"))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    new             Pending | it has no pod yet
    no node         Pending | Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.
    pulling         Pending | ContainerCreating
    no image        Failed("its image cannot be pulled: ImagePullBackOff: Back-off pulling image \"r:1\"") | ImagePullBackOff: Back-off pulling image "r:1"
    no secret       Failed("its container cannot be made: CreateContainerConfigError: secret \"ci\" not found") | CreateContainerConfigError: secret "ci" not found
    runs            Running | Running
    lost            Unknown("Unknown: NodeLost") | Unknown: NodeLost
    leaves          Deleting | Terminating
    deleted         Deleting | Terminating
    done            Ended(Some(0)) | Complete
    done, untold    Ended(Some(0)) | Succeeded
    failed          Ended(Some(3)) | Failed: Error
    failed, no pod  Ended(None) | BackoffLimitExceeded: Job has reached it
    out of memory   Ended(Some(137)) | Failed: OOMKilled
    evicted         Terminated("evicted: Evicted: The node was low on resource: memory.") | Evicted: The node was low on resource: memory.
    drained         Terminated("evicted: DeletionByTaintManager: Taint manager: deleting due to NoExecute taint") | DeletionByTaintManager: Taint manager: deleting due to NoExecute taint
    too long        Terminated("evicted: DeadlineExceeded: Job was active longer than specified deadline") | DeadlineExceeded: Job was active longer than specified deadline
    "#);
}

#[test]
fn a_pod_whose_job_is_gone_is_on_its_way_out_unless_it_is_over() {
    let labels = json!({"runfleet-stack": "prod", "runfleet-lineage": "l1", "runfleet-pool": "linux", "runfleet-id": "brave-otter",
        "runfleet-hash": "abc", "runfleet-intent": "i1"});
    let pod = |name: &str, job: &str, phase: &str| {
        json!({"metadata": {"name": name, "labels": labels, "ownerReferences": [{"kind": "Job", "name": job, "uid": "u",
            "apiVersion": "batch/v1", "controller": true}]}, "status": {"phase": phase}})
    };
    let job = |name: &str| json!({"metadata": {"name": name, "labels": labels}, "spec": {"template": {}}});
    let jobs = json!([job("a"), job("b")]);
    let pods = json!([
        pod("a-1", "a", "Running"),
        pod("gone-1", "gone", "Running"),
        pod("over-1", "over", "Succeeded")
    ]);
    let seen = by_hand("cluster", jobs.clone(), pods.clone(), true);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].target.kind, ResourceKind::Batch);
    assert_eq!((seen[0].target.id.as_str(), seen[0].size), ("i1", Some(3)));
    let told: Vec<_> = seen[0]
        .members
        .iter()
        .map(|member| {
            (
                member.id.as_str(),
                member.status.clone(),
                member.hostname.as_deref(),
            )
        })
        .collect();
    let expected = [
        ("a", CloudStatus::Running, Some("a-1")),
        ("b", CloudStatus::Pending, None),
        ("gone", CloudStatus::Deleting, Some("gone-1")),
    ];
    assert_eq!(told, expected);
    // Where not all Jobs were read, a pod without one is nothing to go by.
    let seen = by_hand("cluster", jobs, pods, false);
    assert_eq!(seen[0].members.len(), 2);
}
