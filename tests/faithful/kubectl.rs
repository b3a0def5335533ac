//! The real `kubectl` against the sandbox's Kubernetes, over TLS, with the kubeconfig that the sandbox writes.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::support::eventually;

const MANIFEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: ci
---
apiVersion: v1
kind: Secret
metadata:
  name: runner
  namespace: ci
stringData:
  token: "SECRET"
---
apiVersion: batch/v1
kind: CronJob
metadata:
  name: linux
  namespace: ci
  labels:
    resource-class-org: acme
    resource-class-name: linux
spec:
  schedule: "0 0 1 1 *"
  suspend: true
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: runner
              image: circleci/runner-agent:machine-3
---
apiVersion: batch/v1
kind: Job
metadata:
  name: one
  namespace: ci
  labels:
    app: one
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: runner
          image: circleci/runner-agent:machine-3
          env:
            - name: CIRCLECI_RUNNER_API_URL
              value: "CIRCLECI"
            - name: CIRCLECI_RUNNER_API_AUTH_TOKEN
              valueFrom:
                secretKeyRef:
                  name: runner
                  key: token
"#;

const ROLE: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata:
  name: runfleet
  namespace: ci
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: runfleet
  namespace: ci
rules:
  - apiGroups: ["batch"]
    resources: ["jobs"]
    verbs: ["get", "list", "create", "delete"]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: runfleet
  namespace: ci
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: runfleet
subjects:
  - kind: ServiceAccount
    name: runfleet
    namespace: ci
"#;

/// A sandbox over TLS, and kubectl that knows it. Its own, since the others' helper speaks plain http to the controls.
struct Stage {
    child: std::process::Child,
    addresses: Value,
    home: tempfile::TempDir,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage {
    /// None where there is no kubectl.
    fn set() -> Option<Self> {
        let found = Command::new("kubectl")
            .args(["version", "--client"])
            .stderr(Stdio::null())
            .output();
        if !found.is_ok_and(|found| found.status.success()) {
            eprintln!("skipped: there is no kubectl");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_runfleet"))
            .args([
                "sandbox",
                "--listen",
                "127.0.0.1:0",
                "--set",
                "tls=on",
                "--set",
                "speed=0",
                "--data",
            ])
            .arg(home.path().join("world"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut first = String::new();
        let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut reader, &mut first).unwrap();
        let addresses: Value = serde_json::from_str(&first).unwrap();
        let pem = std::fs::read(addresses["ca_file"].as_str().unwrap()).unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .add_root_certificate(reqwest::Certificate::from_pem(&pem).unwrap())
            .build()
            .unwrap();
        Some(Self {
            child,
            addresses,
            home,
            http,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        })
    }

    fn address(&self, party: &str) -> &str {
        self.addresses[party].as_str().unwrap()
    }

    fn control(&self, path: &str, body: &Value) -> Value {
        let request = self
            .http
            .post(format!("{}{path}", self.address("control")))
            .json(body);
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            assert!(answer.status().is_success(), "{answer:?}");
            answer.json().await.unwrap()
        })
    }

    fn advance(&self, by: &str) {
        self.control("/clock", &json!({"advance": by}));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["60", "kubectl"])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("KUBECACHEDIR", self.home.path().join("cache"))
            .env("KUBECONFIG", self.address("kubeconfig"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn ran(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn given(&self, arguments: &[&str], input: &str) -> String {
        let output = self.ran(arguments, input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "kubectl {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.given(arguments, "")
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.ran(arguments, "");
        assert!(!output.status.success(), "kubectl {arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn apply(&self) -> String {
        let manifest = MANIFEST
            .replace("SECRET", self.address("token"))
            .replace("\"CIRCLECI\"", &format!("\"{}\"", self.address("circleci")));
        self.given(&["apply", "-f", "-"], &manifest)
    }
}

#[test]
fn the_kubeconfig_has_the_token_and_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(stage) = Stage::set() else { return };
    let path = stage.address("kubeconfig");
    assert_eq!(
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(stage.kubectl(&["version"]).contains("Server Version: v1.32"));
    let text = std::fs::read_to_string(path).unwrap();
    let other = text.replace(stage.address("token"), "another");
    std::fs::write(path, other).unwrap();
    assert!(
        stage.refused(&["get", "pods"]).contains("Unauthorized")
            || stage.refused(&["get", "pods"]).contains("logged in")
    );
}

#[test]
fn kubectl_applies_gets_and_deletes() {
    let Some(stage) = Stage::set() else { return };
    let said = stage.apply();
    for line in [
        "namespace/ci created",
        "secret/runner created",
        "cronjob.batch/linux created",
        "job.batch/one created",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let again = stage.apply();
    assert!(
        again.contains("cronjob.batch/linux unchanged") && again.contains("job.batch/one unchanged"),
        "{again}"
    );
    stage.advance("30s");
    assert_eq!(
        stage.kubectl(&["get", "-n", "ci", "jobs", "-l", "app=one", "-o", "name"]),
        "job.batch/one\n"
    );
    assert_eq!(
        stage.kubectl(&[
            "get",
            "-n",
            "ci",
            "cj",
            "-l",
            "resource-class-org=acme,resource-class-name in (linux)",
            "-o",
            "name"
        ]),
        "cronjob.batch/linux\n"
    );
    assert_eq!(
        stage.kubectl(&["get", "-n", "ci", "jobs", "-l", "app!=one", "-o", "name"]),
        ""
    );
    let table = stage.kubectl(&["get", "-n", "ci", "pods"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        table
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    );
    assert_eq!(row[1..4], ["1/1", "Running", "0"], "{table}");
    assert!(
        stage
            .kubectl(&["get", "-n", "ci", "job", "one", "-o", "yaml"])
            .contains("\nkind: Job\n")
    );
    let path = [
        "get",
        "-n",
        "ci",
        "pod",
        row[0],
        "-o",
        "jsonpath={.metadata.ownerReferences[0].name} {.status.phase}",
    ];
    assert_eq!(stage.kubectl(&path), "one Running");
    let described = stage.kubectl(&["describe", "-n", "ci", "job", "one"]);
    assert!(
        described.contains("Pods Statuses:")
            && described.contains("1 Active (1 Ready) / 0 Succeeded / 0 Failed"),
        "{described}"
    );
    let log = stage.kubectl(&["logs", "-n", "ci", row[0]]);
    assert!(log.contains(" connected to "), "{log}");
    assert_eq!(
        stage.kubectl(&["label", "-n", "ci", "job", "one", "more=yes"]),
        "job.batch/one labeled\n"
    );
    assert_eq!(
        stage.kubectl(&[
            "patch",
            "-n",
            "ci",
            "cronjob",
            "linux",
            "-p",
            r#"{"spec":{"suspend":false}}"#
        ]),
        "cronjob.batch/linux patched\n"
    );
    assert_eq!(
        stage.kubectl(&["delete", "-n", "ci", "job", "one"]),
        "job.batch \"one\" deleted\n"
    );
    stage.advance("2s");
    assert!(
        stage
            .kubectl(&["get", "-n", "ci", "pods"])
            .contains("Terminating")
    );
    stage.advance("30s");
    assert_eq!(stage.kubectl(&["get", "-n", "ci", "pods", "-o", "name"]), "");
    let gone = stage.refused(&["get", "-n", "ci", "job", "one"]);
    assert!(gone.contains("jobs.batch \"one\" not found"), "{gone}");
    let strict = MANIFEST
        .rsplit("---")
        .next()
        .unwrap()
        .replace("backoffLimit", "backofLimit");
    let output = stage.ran(&["apply", "-f", "-"], &strict);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("unknown field \"spec.backofLimit\""), "{said}");
}

#[test]
fn kubectl_waits_for_what_is_deleted_and_watches() {
    let Some(stage) = Stage::set() else { return };
    stage.apply();
    stage.advance("30s");
    let pod = stage.kubectl(&["get", "-n", "ci", "pods", "-o", "name"]);
    let pod = pod.trim().trim_start_matches("pod/").to_owned();
    let mut watch = stage
        .command(&["get", "-n", "ci", "pods", "-w", "-o", "name"])
        .spawn()
        .unwrap();
    let mut waits = stage
        .command(&["delete", "-n", "ci", "pod", &pod])
        .spawn()
        .unwrap();
    eventually("the pod is leaving", std::time::Duration::from_secs(30), || {
        stage
            .kubectl(&["get", "-n", "ci", "pods"])
            .contains("Terminating")
    });
    assert!(
        waits.try_wait().unwrap().is_none(),
        "it waits until the pod is gone"
    );
    stage.advance("31s");
    let deleted = waits.wait_with_output().unwrap();
    assert!(deleted.status.success(), "{deleted:?}");
    assert!(
        !stage
            .kubectl(&["get", "-n", "ci", "pods", "-o", "name"])
            .contains(&pod)
    );
    watch.kill().unwrap();
    assert!(watch.wait().is_ok());
    // A Job whose pod was taken has failed.
    stage.advance("2s");
    let failed = stage.kubectl(&[
        "wait",
        "-n",
        "ci",
        "--for=condition=Failed",
        "job/one",
        "--timeout=20s",
    ]);
    assert_eq!(failed, "job.batch/one condition met\n");
}

#[test]
fn kubectl_asks_what_an_account_may_do() {
    let Some(stage) = Stage::set() else { return };
    stage.apply();
    assert_eq!(
        stage.kubectl(&["auth", "can-i", "create", "jobs", "-n", "ci"]),
        "yes\n"
    );
    stage.given(&["apply", "-f", "-"], ROLE);
    let made = "/kubernetes/api/v1/namespaces/ci/serviceaccounts/runfleet/token";
    let token = stage.given(&["create", "--raw", made, "-f", "-"], "{}");
    let token: Value = serde_json::from_str(&token).unwrap();
    let token = token["status"]["token"].as_str().unwrap().to_owned();
    let path = stage.address("kubeconfig");
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, text.replace(stage.address("token"), &token)).unwrap();
    for (verb, what, may) in [
        ("create", "jobs", true),
        ("delete", "jobs", true),
        ("patch", "jobs", false),
        ("list", "secrets", false),
    ] {
        let output = stage.ran(&["auth", "can-i", verb, what, "-n", "ci"], "");
        assert_eq!(
            output.stdout,
            if may { b"yes\n".to_vec() } else { b"no\n".to_vec() },
            "{verb} {what}"
        );
    }
    assert_eq!(
        stage.kubectl(&["get", "-n", "ci", "jobs", "-o", "name"]),
        "job.batch/one\n"
    );
    let refused = stage.refused(&["get", "-n", "ci", "secrets"]);
    assert!(
        refused.contains("User \"system:serviceaccount:ci:runfleet\" cannot list resource \"secrets\""),
        "{refused}"
    );
}
