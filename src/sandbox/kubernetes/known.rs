//! The fields that Jobs, CronJobs and pods have, so that one which nobody knows is refused where strictness is asked for
//! (Kubernetes API reference, v1.32: `JobSpec`, `CronJobSpec`, `PodSpec`, `Container`).

use serde_json::Value;

use super::super::world::cluster::Kind;

const OBJECT: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
#[rustfmt::skip]
const METADATA: &[&str] = &[
    "annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation", "labels",
    "managedFields", "name", "namespace", "ownerReferences", "resourceVersion", "selfLink", "uid",
];
#[rustfmt::skip]
const JOB: &[&str] = &[
    "activeDeadlineSeconds", "backoffLimit", "backoffLimitPerIndex", "completionMode", "completions", "managedBy", "manualSelector",
    "maxFailedIndexes", "parallelism", "podFailurePolicy", "podReplacementPolicy", "selector", "successPolicy", "suspend", "template",
    "ttlSecondsAfterFinished",
];
#[rustfmt::skip]
const CRON_JOB: &[&str] = &[
    "concurrencyPolicy", "failedJobsHistoryLimit", "jobTemplate", "schedule", "startingDeadlineSeconds", "successfulJobsHistoryLimit", "suspend",
    "timeZone",
];
#[rustfmt::skip]
const POD: &[&str] = &[
    "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "containers", "dnsConfig", "dnsPolicy", "enableServiceLinks",
    "ephemeralContainers", "hostAliases", "hostIPC", "hostNetwork", "hostPID", "hostUsers", "hostname", "imagePullSecrets", "initContainers",
    "nodeName", "nodeSelector", "os", "overhead", "preemptionPolicy", "priority", "priorityClassName", "readinessGates", "resourceClaims",
    "resources", "restartPolicy", "runtimeClassName", "schedulerName", "schedulingGates", "securityContext", "serviceAccount",
    "serviceAccountName", "setHostnameAsFQDN", "shareProcessNamespace", "subdomain", "terminationGracePeriodSeconds", "tolerations",
    "topologySpreadConstraints", "volumes",
];
#[rustfmt::skip]
const CONTAINER: &[&str] = &[
    "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name", "ports", "readinessProbe",
    "resizePolicy", "resources", "restartPolicy", "securityContext", "startupProbe", "stdin", "stdinOnce", "terminationMessagePath",
    "terminationMessagePolicy", "tty", "volumeDevices", "volumeMounts", "workingDir",
];
const VARIABLE: &[&str] = &["name", "value", "valueFrom"];

/// The fields of an object that are not known, by their paths.
pub(super) fn strange(kind: Kind, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if !matches!(kind, Kind::Job | Kind::CronJob | Kind::Pod) {
        return found;
    }
    look(object, OBJECT, "", &mut found);
    look(&object["metadata"], METADATA, "metadata", &mut found);
    let spec = &object["spec"];
    match kind {
        Kind::Job => job(spec, "spec", &mut found),
        Kind::CronJob => {
            look(spec, CRON_JOB, "spec", &mut found);
            look(
                &spec["jobTemplate"],
                &["metadata", "spec"],
                "spec.jobTemplate",
                &mut found,
            );
            job(&spec["jobTemplate"]["spec"], "spec.jobTemplate.spec", &mut found);
        }
        _ => pod(spec, "spec", &mut found),
    }
    found
}

fn look(object: &Value, known: &[&str], path: &str, found: &mut Vec<String>) {
    for key in object.as_object().into_iter().flatten().map(|(key, _)| key) {
        if !known.contains(&key.as_str()) {
            let dot = if path.is_empty() { "" } else { "." };
            found.push(format!("{path}{dot}{key}"));
        }
    }
}

fn job(spec: &Value, path: &str, found: &mut Vec<String>) {
    look(spec, JOB, path, found);
    let template = &spec["template"];
    look(
        template,
        &["metadata", "spec"],
        &format!("{path}.template"),
        found,
    );
    look(
        &template["metadata"],
        METADATA,
        &format!("{path}.template.metadata"),
        found,
    );
    pod(&template["spec"], &format!("{path}.template.spec"), found);
}

fn pod(spec: &Value, path: &str, found: &mut Vec<String>) {
    look(spec, POD, path, found);
    for list in ["containers", "initContainers"] {
        for (at, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let path = format!("{path}.{list}[{at}]");
            look(container, CONTAINER, &path, found);
            for (at, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
                look(variable, VARIABLE, &format!("{path}.env[{at}]"), found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_that_nobody_knows_is_named_by_its_path() {
        let object = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"},
            "spec": {"ttl": 1, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "env": [{"name": "A", "valu": "b"}]}]}}},
        });
        assert_eq!(
            strange(Kind::Job, &object),
            ["spec.ttl", "spec.template.spec.containers[0].env[0].valu"]
        );
        assert!(strange(Kind::Secret, &json!({"x": 1})).is_empty());
    }
}
