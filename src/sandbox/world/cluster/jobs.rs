//! Jobs: they make pods, count what those come to, and end.
//!
//! A pod of a Job whose `restartPolicy` is `OnFailure` is treated as with `Never`: its failure is the pod's.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::{World, add, seconds};
use super::live::{Act, LAG, number};
use super::{Key, Kind, is_leaving, map, text, uid};

/// A Job's first retry of a pod that failed; doubled with each.
const BACK_OFF: SignedDuration = SignedDuration::from_secs(10);
/// The longest.
const BACK_OFF_MAX: SignedDuration = SignedDuration::from_mins(6);

pub(super) fn defaults(object: &mut Value, uid: &str) {
    let name = text(object, "/metadata/name").to_owned();
    let spec = map(object, "spec");
    for (key, value) in [
        ("parallelism", json!(1)),
        ("completions", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ("manualSelector", json!(false)),
    ] {
        spec.entry(key).or_insert(value);
    }
    spec.insert(
        "selector".to_owned(),
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}),
    );
    let template = spec.entry("template").or_insert(json!({}));
    let labels = map(template, "metadata").entry("labels").or_insert(json!({}));
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name.as_str()),
        ("controller-uid", uid),
        ("job-name", name.as_str()),
    ] {
        labels[key] = value.into();
    }
    super::found::spec_defaults(&mut template["spec"]);
    object["status"] = json!({});
}

/// Whether a Job has a condition of this type.
fn has_condition(job: &Value, kind: &str) -> bool {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|known| known["type"] == kind && known["status"] == "True")
}

pub(crate) fn is_over(job: &Value) -> bool {
    has_condition(job, "Complete") || has_condition(job, "Failed")
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn length(whole_seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(whole_seconds).unwrap_or(i64::MAX))
}

/// What a Job's pods have come to.
struct Tally {
    active: u64,
    ready: u64,
    succeeded: u64,
    failed: u64,
}

impl World {
    /// Counts a Job's pods, each end once.
    fn tally(&mut self, job: &Value) -> Tally {
        let mut tally = Tally {
            active: 0,
            ready: 0,
            succeeded: number(job, "/status/succeeded").unwrap_or(0),
            failed: number(job, "/status/failed").unwrap_or(0),
        };
        for key in self.cluster.owned_by(uid(job)) {
            let Some(pod) = self.cluster.get(&key).filter(|_| key.kind == Kind::Pod) else {
                continue;
            };
            let of_pod = uid(pod).to_owned();
            let counts = u64::from(!self.cluster.counted.contains(&of_pod));
            match text(pod, "/status/phase") {
                "Succeeded" => tally.succeeded += counts,
                "Failed" => tally.failed += counts,
                // A pod that was asked to end has failed for its Job, whatever comes of it.
                _ if is_leaving(pod) => tally.failed += counts,
                phase => {
                    tally.active += 1;
                    tally.ready += u64::from(phase == "Running");
                    continue;
                }
            }
            self.cluster.counted.insert(of_pod);
        }
        tally
    }

    pub(super) fn arm_deadline(&mut self, key: &Key) {
        let job = self.cluster.get(key);
        let limit =
            job.and_then(|job| Some((uid(job).to_owned(), number(job, "/spec/activeDeadlineSeconds")?)));
        if let Some((uid, limit)) = limit {
            self.act_after(&uid, Act::Deadline, length(limit) + LAG);
        }
    }

    /// What a Job's pods have come to is counted, and pods are made that it lacks.
    pub(super) fn sync_job(&mut self, key: &Key) {
        let Some(job) = self.cluster.get(key).cloned() else {
            return;
        };
        if is_leaving(&job) || is_over(&job) {
            return;
        }
        let id = uid(&job).to_owned();
        let Tally {
            active,
            ready,
            succeeded,
            failed,
        } = self.tally(&job);
        let completions = number(&job, "/spec/completions").unwrap_or(1);
        let limit = number(&job, "/spec/backoffLimit").unwrap_or(6);
        let started = job.pointer("/spec/suspend") != Some(&Value::Bool(true));
        let now = self.now;
        self.cluster.edit(key, now, |job| {
            let status = map(job, "status");
            if started {
                status.entry("startTime").or_insert_with(|| seconds(now).into());
            }
            for (name, count) in [("active", active), ("succeeded", succeeded), ("failed", failed)] {
                if count > 0 {
                    status.insert(name.to_owned(), count.into());
                } else {
                    status.shift_remove(name);
                }
            }
            status.insert("ready".to_owned(), ready.into());
            status.insert("terminating".to_owned(), 0.into());
            status.insert("uncountedTerminatedPods".to_owned(), json!({}));
        });
        if failed > limit {
            self.close_job(
                key,
                "Failed",
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            );
        } else if succeeded >= completions {
            self.close_job(
                key,
                "Complete",
                "CompletionsReached",
                "Reached expected number of succeeded pods",
            );
        } else if started {
            let parallel = number(&job, "/spec/parallelism").unwrap_or(1);
            let missing = parallel.min(completions - succeeded).saturating_sub(active);
            let before = number(&job, "/status/failed").unwrap_or(0);
            if failed > before {
                let doubled = 1_i32
                    .checked_shl(u32::try_from(failed - 1).unwrap_or(31).min(6))
                    .unwrap_or(64);
                self.act_after(&id, Act::Sync, (BACK_OFF * doubled).min(BACK_OFF_MAX));
            } else {
                (0..missing).for_each(|_| self.make_pod(&job));
                if missing > 0 {
                    self.act_after(&id, Act::Sync, LAG);
                }
            }
        }
    }

    fn make_pod(&mut self, job: &Value) {
        let name = text(job, "/metadata/name").to_owned();
        let base: String = name.chars().take(57).collect();
        let key = Key::new(
            Kind::Pod,
            text(job, "/metadata/namespace"),
            &format!("{base}-{}", self.name_ending()),
        );
        let template = &job["spec"]["template"];
        let mut pod = json!({"metadata": {}, "spec": template["spec"]});
        for of_template in ["labels", "annotations"] {
            if let Some(given) = template["metadata"].get(of_template) {
                pod["metadata"][of_template] = given.clone();
            }
        }
        pod["metadata"]["generateName"] = format!("{base}-").into();
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid(job), "controller": true, "blockOwnerDeletion": true,
        }]);
        self.cluster_create(&key, pod);
    }

    /// A Job has ended; pods that still run are ended too.
    fn close_job(&mut self, key: &Key, kind: &str, reason: &str, message: &str) {
        let now = self.now;
        let stamp = seconds(now);
        let target = if kind == "Complete" {
            "SuccessCriteriaMet"
        } else {
            "FailureTarget"
        };
        let conditions: Vec<Value> = [target, kind]
            .into_iter()
            .map(|kind| json!({"type": kind, "status": "True", "lastProbeTime": stamp, "lastTransitionTime": stamp, "reason": reason, "message": message}))
            .collect();
        let Some(job) = self.cluster.get(key).cloned() else {
            return;
        };
        let id = uid(&job).to_owned();
        self.cluster.edit(key, now, |job| {
            let status = map(job, "status");
            status.insert("conditions".to_owned(), conditions.into());
            status.shift_remove("active");
            status.insert("ready".to_owned(), 0.into());
            if kind == "Complete" {
                status.insert("completionTime".to_owned(), stamp.into());
            }
        });
        for pod in self.cluster.owned_by(&id) {
            let over = self
                .cluster
                .get(&pod)
                .is_some_and(|pod| matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"));
            if pod.kind == Kind::Pod && !over {
                self.delete_pod(&pod, None);
            }
        }
        if let Some(ttl) = number(&job, "/spec/ttlSecondsAfterFinished") {
            self.act_after(&id, Act::Expire, length(ttl));
        }
    }

    pub(super) fn deadline(&mut self, key: &Key) {
        let Some(job) = self.cluster.get(key).filter(|job| !is_over(job)) else {
            return;
        };
        let started = time(text(job, "/status/startTime"));
        let limit = number(job, "/spec/activeDeadlineSeconds");
        let (Some(started), Some(limit)) = (started, limit) else {
            return;
        };
        if self.now >= add(started, length(limit)) {
            self.close_job(
                key,
                "Failed",
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            );
        } else {
            let id = uid(job).to_owned();
            let rest = add(started, length(limit)).duration_since(self.now);
            self.act_after(&id, Act::Deadline, rest);
        }
    }
}
