//! Objects as the rows that `kubectl get` prints: the columns are the API server's.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::world::cluster::{Kind, is_leaving, is_over, text};

/// An object's metadata alone.
pub(super) fn metadata(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pod => &["Name", "Ready", "Status", "Restarts", "Age"],
        Kind::Job => &["Name", "Status", "Completions", "Duration", "Age"],
        Kind::CronJob => &[
            "Name",
            "Schedule",
            "Timezone",
            "Suspend",
            "Active",
            "Last Schedule",
            "Age",
        ],
        Kind::Namespace => &["Name", "Status", "Age"],
        Kind::Node => &["Name", "Status", "Roles", "Age", "Version"],
        Kind::Secret => &["Name", "Type", "Data", "Age"],
        Kind::ConfigMap => &["Name", "Data", "Age"],
        Kind::Event => &["Last Seen", "Type", "Reason", "Object", "Message"],
        _ => &["Name", "Age"],
    }
}

/// Rows of objects, without the list's metadata.
pub(super) fn table<'a>(kind: Kind, objects: impl IntoIterator<Item = &'a Value>, now: Timestamp) -> Value {
    let columns: Vec<Value> = columns(kind)
        .iter()
        .map(|name| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({"name": name, "type": "string", "format": format, "description": "", "priority": 0})
        })
        .collect();
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| json!({"cells": cells(kind, object, now), "object": metadata(object)}))
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns, "rows": rows})
}

fn count(object: &Value, pointer: &str) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// How long ago, as kubectl writes it: `90s`, `15m`, `4h`, `3d`.
fn since(from: &str, until: Timestamp) -> String {
    let Ok(from) = from.parse::<Timestamp>() else {
        return "<unknown>".to_owned();
    };
    let seconds = until.duration_since(from).as_secs().max(0);
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{}m{}s", seconds / 60, seconds % 60),
        120..10_800 => format!("{}m", seconds / 60),
        10_800..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn cells(kind: Kind, object: &Value, now: Timestamp) -> Value {
    let name = text(object, "/metadata/name");
    let age = since(text(object, "/metadata/creationTimestamp"), now);
    let data = object["data"].as_object().map_or(0, serde_json::Map::len);
    match kind {
        Kind::Pod => pod_cells(object, &age),
        Kind::Job => job_cells(object, &age, now),
        Kind::CronJob => {
            let suspended = object.pointer("/spec/suspend") == Some(&Value::Bool(true));
            let suspended = if suspended { "True" } else { "False" };
            json!([
                name,
                text(object, "/spec/schedule"),
                "<none>",
                suspended,
                "0",
                "<none>",
                age
            ])
        }
        Kind::Namespace => json!([name, text(object, "/status/phase"), age]),
        Kind::Node => {
            let status = if object.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
                "Ready,SchedulingDisabled"
            } else {
                "Ready"
            };
            json!([
                name,
                status,
                "<none>",
                age,
                text(object, "/status/nodeInfo/kubeletVersion")
            ])
        }
        Kind::Secret => json!([name, text(object, "/type"), data.to_string(), age]),
        Kind::ConfigMap => json!([name, data.to_string(), age]),
        Kind::Event => {
            let about = format!(
                "{}/{}",
                text(object, "/involvedObject/kind").to_lowercase(),
                text(object, "/involvedObject/name")
            );
            let seen = since(text(object, "/lastTimestamp"), now);
            json!([
                seen,
                text(object, "/type"),
                text(object, "/reason"),
                about,
                text(object, "/message")
            ])
        }
        _ => json!([name, age]),
    }
}

fn pod_cells(pod: &Value, age: &str) -> Value {
    let list = |pointer: &str| {
        pod.pointer(pointer)
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice)
    };
    let all = list("/spec/containers").len();
    let ready = list("/status/containerStatuses")
        .iter()
        .filter(|one| one["ready"] == true)
        .count();
    json!([
        text(pod, "/metadata/name"),
        format!("{ready}/{all}"),
        pod_status(pod),
        "0",
        age
    ])
}

fn job_cells(job: &Value, age: &str, now: Timestamp) -> Value {
    let done = format!(
        "{}/{}",
        count(job, "/status/succeeded"),
        count(job, "/spec/completions")
    );
    let started = text(job, "/status/startTime");
    let ended = text(job, "/status/completionTime").parse().unwrap_or(now);
    let duration = if started.is_empty() {
        String::new()
    } else {
        since(started, ended)
    };
    json!([text(job, "/metadata/name"), job_status(job), done, duration, age])
}

fn job_status(job: &Value) -> &'static str {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
    let failed = conditions
        .into_iter()
        .flatten()
        .any(|known| known["type"] == "Failed");
    if is_over(job) {
        if failed { "Failed" } else { "Complete" }
    } else if is_leaving(job) {
        "Terminating"
    } else if job.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        "Suspended"
    } else {
        "Running"
    }
}

fn pod_status(pod: &Value) -> &str {
    let state = |kind: &str| text(pod, &format!("/status/containerStatuses/0/state/{kind}/reason")).len();
    if is_leaving(pod) {
        return "Terminating";
    }
    let own = text(pod, "/status/reason");
    if !own.is_empty() {
        return own;
    }
    for kind in ["waiting", "terminated"] {
        if state(kind) > 0 {
            return text(pod, &format!("/status/containerStatuses/0/state/{kind}/reason"));
        }
    }
    text(pod, "/status/phase")
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[test]
    fn ages_are_written_as_kubectl_writes_them() {
        let from = "2026-11-01T00:00:00Z";
        let start: Timestamp = from.parse().unwrap();
        for (seconds, words) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (172_800, "2d"),
        ] {
            let until = start.checked_add(SignedDuration::from_secs(seconds)).unwrap();
            assert_eq!(since(from, until), words);
        }
    }
}
