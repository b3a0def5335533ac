//! What runfleet itself is packed into: the container's file and its context, the manifests of kustomize, Helm's chart.
//!
//! Each is read by its own tool where that can be had (hadolint, kubectl, Helm's engine). Manifests are read strictly, too: by
//! the types of Kubernetes's own description, and back, so that a key that Kubernetes does not know is seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use super::{assert_ran, root, tool, yaml};

const CHART: &str = "packaging/helm/runfleet";
const STACK: &str = "packaging/kubernetes/base/stacks/prod.toml";

#[test]
fn the_containers_file_passes_its_linter() {
    if let Some(output) = tool("hadolint.sh", &["packaging/container/Containerfile"]) {
        assert_ran(&output);
    }
}

/// What `.dockerignore` lets in: everything is shut out but what it names.
fn context() -> Vec<String> {
    let text = fs_err::read_to_string(root().join(".dockerignore")).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert_eq!(lines[0], "*", "nothing gets in unless it is named");
    lines[1..]
        .iter()
        .map(|line| line.strip_prefix('!').unwrap().to_owned())
        .collect()
}

/// The project's files that a container is built from.
fn files_of_context() -> BTreeSet<PathBuf> {
    fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    walk(&path, found);
                }
            } else {
                found.insert(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    for entry in context() {
        match entry.split_once('*') {
            Some((folder, ending)) => {
                let mut all = BTreeSet::new();
                walk(&root().join(folder), &mut all);
                let direct = all.into_iter().filter(|path| {
                    path.parent() == Some(root().join(folder.trim_end_matches('/')).as_path())
                        && path.to_string_lossy().ends_with(ending)
                });
                found.extend(direct);
            }
            None if root().join(&entry).is_dir() => walk(&root().join(&entry), &mut found),
            None => {
                found.insert(root().join(&entry));
            }
        }
    }
    found
}

#[test]
fn a_container_is_built_from_what_its_context_lets_in_and_no_state_or_secret_is_among_it() {
    let files = files_of_context();
    let folder = tempfile::tempdir().unwrap();
    for file in &files {
        let relative = file.strip_prefix(root()).unwrap();
        let ends_alike = |end: &str| relative.to_string_lossy().ends_with(end);
        let in_stacks = relative.starts_with("stacks");
        assert!(!in_stacks || ends_alike(".toml"), "{}", relative.display());
        let to = folder.path().join(relative);
        fs_err::create_dir_all(to.parent().unwrap()).unwrap();
        fs_err::copy(file, to).unwrap();
    }
    // Every target and every member of the workspace is there.
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--locked",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_ran(&output);
    // And so is what the sources take in when they are compiled.
    for (file, line) in taken_in() {
        let path = root().join(&line);
        assert!(
            files.contains(&path),
            "{} is not in the context, and {file} takes it in",
            line.display()
        );
    }
}

/// What the crate takes in when it is compiled without its tests, by the file that does.
fn taken_in() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for file in files_of_context() {
        let relative = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        if !relative.starts_with("src/")
            || Path::new(&relative).extension().is_none_or(|kind| kind != "rs")
            || relative.contains("tests")
        {
            continue;
        }
        let text = fs_err::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
        for part in text.split("include_str!(\"").skip(1) {
            let named = part.split('"').next().unwrap();
            let mut path = file.parent().unwrap().to_path_buf();
            for step in named.split('/') {
                if step == ".." {
                    path.pop();
                } else {
                    path.push(step);
                }
            }
            found.push((relative.clone(), path.strip_prefix(root()).unwrap().to_owned()));
        }
        // The project's own templates are a list.
        if relative == "src/render/builtin.rs" {
            for word in text
                .split('"')
                .filter(|word| Path::new(word).extension().is_some_and(|kind| kind == "tera"))
            {
                found.push((relative.clone(), PathBuf::from(word)));
            }
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

#[test]
fn what_a_container_runs_is_the_program_as_a_numbered_user() {
    let text = fs_err::read_to_string(root().join("packaging/container/Containerfile")).unwrap();
    let last = text.rsplit("\nFROM ").next().unwrap();
    for line in [
        "USER 65532:65532",
        "ENTRYPOINT [\"/usr/bin/runfleet\"]",
        "WORKDIR /etc/runfleet",
    ] {
        assert!(last.lines().any(|each| each == line), "{line}");
    }
    // Its features are all there are, but the sandbox.
    let manifest: toml::Table = fs_err::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let all: BTreeSet<&str> = manifest["features"]["default"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(toml::Value::as_str)
        .filter(|feature| *feature != "sandbox")
        .collect();
    let features = text
        .split("\nARG FEATURES=")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    assert_eq!(features.split(',').collect::<BTreeSet<_>>(), all);
}

/// The documents of a text of YAML.
fn documents(text: &str) -> Vec<Value> {
    text.split("\n---")
        .map(|part| part.trim_start_matches("---"))
        .filter(|part| {
            part.lines()
                .any(|line| !line.trim().is_empty() && !line.starts_with('#'))
        })
        .map(yaml)
        .collect()
}

fn kind<'a>(all: &'a [Value], kind: &str) -> &'a Value {
    let mut found = all.iter().filter(|document| document["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("no {kind}"))
}

/// What `kubectl kustomize` makes of a folder; none where there is no kubectl.
fn kustomized(folder: &str) -> Option<Vec<Value>> {
    let output = Command::new("kubectl")
        .args(["kustomize", folder])
        .current_dir(root())
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: no kubectl here");
        return None;
    };
    assert_ran(&output);
    Some(documents(&String::from_utf8(output.stdout).unwrap()))
}

/// Helm, with these values on its standard input.
fn helm(verb: &str, values: &Value) -> Option<Output> {
    let mut child = Command::new(root().join("tests/tools/helm.sh"))
        .args([verb, CHART, "ci", "runfleet"])
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that ends without reading is told by its exit code.
    let _ = child
        .stdin
        .take()
        .unwrap()
        .write_all(values.to_string().as_bytes());
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(77) {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(output)
}

fn templated(values: &Value) -> Option<Vec<Value>> {
    let output = helm("template", values)?;
    assert_ran(&output);
    let files: BTreeMap<String, String> = serde_json::from_slice(&output.stdout).unwrap();
    let manifests = files
        .iter()
        .filter(|(name, _)| Path::new(name).extension().is_some_and(|kind| kind == "yaml"));
    Some(manifests.flat_map(|(_, text)| documents(text)).collect())
}

fn values(mode: &str) -> Value {
    json!({
        "mode": mode,
        "stack": {"name": "prod", "text": fs_err::read_to_string(root().join(STACK)).unwrap()},
        "templates": {"runner.yaml.tera": "kind: PodTemplate\nspec: {}\n"},
        "runnerNamespaces": ["circleci-runners"],
        "env": [{"name": "CIRCLE_TOKEN", "valueFrom": {"secretKeyRef": {"name": "runfleet", "key": "circle-token"}}}],
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/runfleet"}},
        "tolerations": [{"key": "ci", "operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "podAnnotations": {"a": "b"},
    })
}

/// That Kubernetes knows every key of a document: read by its types and written again, it is the same.
#[cfg(feature = "kubernetes")]
fn known(document: &Value) {
    use k8s_openapi::api::{apps, batch, core, rbac};
    use serde::{Serialize, de::DeserializeOwned};

    fn again<T: DeserializeOwned + Serialize>(document: &Value) -> Value {
        let read: T =
            serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{error}\n{document}"));
        serde_json::to_value(read).unwrap()
    }
    fn sparse(value: &Value) -> Value {
        match value {
            Value::Object(keys) => {
                let keys = keys.iter().map(|(key, value)| (key.clone(), sparse(value)));
                Value::Object(
                    keys.filter(|(_, value)| *value != json!({}) && !value.is_null())
                        .collect(),
                )
            }
            Value::Array(values) => values.iter().map(sparse).collect(),
            other => other.clone(),
        }
    }
    let word = document["kind"].as_str().unwrap();
    let written = match word {
        "ConfigMap" => again::<core::v1::ConfigMap>(document),
        "CronJob" => again::<batch::v1::CronJob>(document),
        "Deployment" => again::<apps::v1::Deployment>(document),
        "Namespace" => again::<core::v1::Namespace>(document),
        "Role" => again::<rbac::v1::Role>(document),
        "RoleBinding" => again::<rbac::v1::RoleBinding>(document),
        "Service" => again::<core::v1::Service>(document),
        "ServiceAccount" => again::<core::v1::ServiceAccount>(document),
        other => panic!("{other} is not among what is packed"),
    };
    assert_eq!(sparse(&written), sparse(document), "{word}");
}

#[cfg(not(feature = "kubernetes"))]
fn known(_: &Value) {}

/// The pod of a Deployment or of a CronJob.
fn pod(all: &[Value], watch: bool) -> &Value {
    if watch {
        &kind(all, "Deployment")["spec"]["template"]["spec"]
    } else {
        &kind(all, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    }
}

/// That a pod may do no more than it needs, and that what it says is what the program takes.
fn is_confined(pod: &Value, watch: bool) {
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(
        container["securityContext"]["capabilities"]["drop"],
        json!(["ALL"])
    );
    let word = if watch { "watch" } else { "scale" };
    let args: Vec<&str> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(args.contains(&word), "{args:?}");
    for variable in container["env"].as_array().unwrap() {
        assert!(variable["value"].is_null(), "a secret is referred to: {variable}");
    }
    if watch {
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    } else {
        assert_eq!(pod["restartPolicy"], "Never");
    }
}

/// The verbs that a role allows, by group and resource.
fn allowed(role: &Value) -> BTreeSet<(String, String, String)> {
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().unwrap().iter();
        all.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    all.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    all
}

/// That a role allows what the provider calls, and nothing else.
#[cfg(feature = "kubernetes")]
fn is_least(role: &Value) {
    let wanted: BTreeSet<(String, String, String)> = runfleet::provider::kubernetes::VERBS
        .iter()
        .map(|(group, resource, verb, _)| ((*group).to_owned(), (*resource).to_owned(), (*verb).to_owned()))
        .collect();
    assert_eq!(allowed(role), wanted);
}

#[cfg(not(feature = "kubernetes"))]
fn is_least(role: &Value) {
    assert!(!allowed(role).is_empty());
}

#[test]
fn the_role_allows_what_the_provider_calls_and_nothing_else() {
    let text = fs_err::read_to_string(root().join("packaging/kubernetes/base/role.yaml")).unwrap();
    is_least(kind(&documents(&text), "Role"));
    if let Some(all) = templated(&values("watch")) {
        is_least(kind(&all, "Role"));
    }
}

#[test]
fn the_example_stack_of_the_cluster_is_valid() {
    let text = fs_err::read_to_string(root().join(STACK)).unwrap();
    let stack = runfleet::stack::parse(&text, STACK).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(stack.name.as_str(), "prod");
}

#[test]
fn the_manifests_of_kustomize_are_what_kubernetes_knows_and_confined() {
    for (folder, watch) in [
        ("packaging/kubernetes/base", true),
        ("packaging/kubernetes/overlays/cronjob", false),
    ] {
        let Some(all) = kustomized(folder) else { return };
        all.iter().for_each(known);
        is_confined(pod(&all, watch), watch);
        let (there, gone) = if watch {
            ("Deployment", "CronJob")
        } else {
            ("CronJob", "Deployment")
        };
        assert!(all.iter().any(|document| document["kind"] == there));
        assert!(!all.iter().any(|document| document["kind"] == gone));
        // The stack's ConfigMap is named after what it holds, and mounted by that name.
        let map = kind(&all, "ConfigMap");
        let name = map["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("runfleet-stacks-"), "{name}");
        assert_eq!(pod(&all, watch)["volumes"][0]["configMap"]["name"], name);
        assert_eq!(
            map["data"]["prod.toml"],
            fs_err::read_to_string(root().join(STACK)).unwrap()
        );
        assert_eq!(
            kind(&all, "RoleBinding")["subjects"][0]["name"],
            kind(&all, "ServiceAccount")["metadata"]["name"]
        );
    }
}

#[test]
fn helms_linter_has_nothing_to_say() {
    for mode in ["watch", "scale"] {
        let Some(output) = helm("lint", &values(mode)) else {
            return;
        };
        assert_ran(&output);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["errors"], json!([]), "{report}");
        // 2 is a warning; that there is no icon is a 1.
        let messages = report["messages"].as_array().unwrap();
        assert!(
            messages
                .iter()
                .all(|message| message["severity"].as_i64() < Some(2)),
            "{report}"
        );
    }
}

#[test]
fn the_manifests_of_the_chart_are_what_kubernetes_knows_and_confined() {
    for (mode, watch) in [("watch", true), ("scale", false)] {
        let Some(all) = templated(&values(mode)) else {
            return;
        };
        all.iter().for_each(known);
        is_confined(pod(&all, watch), watch);
        assert_eq!(
            all.iter()
                .filter(|document| document["kind"] == "ConfigMap")
                .count(),
            2
        );
        let stack = kind(&all, "ConfigMap")["data"]["prod.toml"].as_str().unwrap();
        runfleet::stack::parse(stack, "prod.toml").unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!(
            kind(&all, "RoleBinding")["metadata"]["namespace"],
            "circleci-runners"
        );
        assert_eq!(kind(&all, "RoleBinding")["subjects"][0]["namespace"], "runfleet");
    }
    // Where no Jobs are made, the cluster is not called.
    let mut elsewhere = values("watch");
    elsewhere["runnerNamespaces"] = json!([]);
    let all = templated(&elsewhere).unwrap();
    assert!(!all.iter().any(|document| document["kind"] == "Role"));
    assert_eq!(pod(&all, true)["automountServiceAccountToken"], false);
}

#[test]
fn the_chart_refuses_values_that_it_does_not_know_and_a_stack_that_would_lose_its_state() {
    let stack = |text: &str| json!({"name": "prod", "text": text});
    for (key, value, expected) in [
        ("mode", json!("daemon"), "value must be one of 'watch', 'scale'"),
        ("replica", json!(3), "additional properties 'replica' not allowed"),
        ("replicas", json!(0), "minimum"),
        ("runnerNamespaces", json!(["CI"]), "does not match pattern"),
        ("stack", json!({"name": "prod"}), "stack.text must be there"),
        (
            "stack",
            stack("[stack]\nname = \"prod\"\n"),
            "keeps its state beside itself",
        ),
        (
            "stack",
            stack("[stack]\nname = \"prod\"\nstate = \"file\"\n"),
            "keeps its state beside itself",
        ),
        (
            "serviceAccount",
            json!({"create": false}),
            "serviceAccount.name must be there",
        ),
    ] {
        let mut values = values("watch");
        values[key] = value;
        let Some(output) = helm("template", &values) else {
            return;
        };
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{key}: {told}");
        assert!(told.contains(expected), "{key}: {told}");
    }
    for text in [
        "state = \"https://gitlab.example.com/x\"",
        "state = { address = \"s3://a/b\" }",
        "state   = \"http\"",
    ] {
        let mut values = values("watch");
        values["stack"] = stack(&format!("[stack]\nname = \"prod\"\n{text}\n"));
        assert_ran(&helm("template", &values).unwrap());
    }
}
