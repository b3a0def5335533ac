//! What happens in the cluster by itself: Jobs make pods and end, what is deleted takes along what it owns.
//!
//! A pod of a Job whose `restartPolicy` is `OnFailure` is treated as with `Never`: its failure is the pod's.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{Event, World, add, seconds};
use super::{Key, Kind, is_leaving, map, owners, text, uid};

/// A controller looks at what was changed after so long.
const LAG: SignedDuration = SignedDuration::from_millis(500);
/// The garbage collector.
const COLLECTED: SignedDuration = SignedDuration::from_secs(1);
/// A Job's first retry of a pod that failed; doubled with each.
const BACK_OFF: SignedDuration = SignedDuration::from_secs(10);
/// The longest.
const BACK_OFF_MAX: SignedDuration = SignedDuration::from_mins(6);
/// What the API server puts on an object that waits for what it owns.
const FOREGROUND: &str = "foregroundDeletion";

/// What is to happen to an object, by its uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Act {
    /// The Job's controller looks.
    Sync,
    /// The Job has had its time.
    Deadline,
    /// The Job ended so long ago that it goes.
    Expire,
    /// A node is sought for the pod.
    Place,
    /// The node pulls the pod's image and starts it.
    Start,
    /// It tries again.
    BackOff,
    /// The pod's process is over.
    Exit,
    /// What the object owned goes too.
    Collect,
    /// A namespace that is leaving looks whether it is empty.
    Empty,
}

/// What becomes of what an object owns when it is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Background,
    Foreground,
    Orphan,
}

/// What the API server fills in.
pub(super) fn defaults(kind: Kind, object: &mut Value, uid: &str) {
    match kind {
        Kind::Job => job_defaults(object, uid),
        Kind::CronJob => {
            let spec = map(object, "spec");
            for (key, value) in [
                ("concurrencyPolicy", json!("Allow")),
                ("suspend", json!(false)),
                ("successfulJobsHistoryLimit", json!(3)),
                ("failedJobsHistoryLimit", json!(1)),
            ] {
                spec.entry(key).or_insert(value);
            }
            object["status"] = json!({});
        }
        Kind::Secret => {
            normalise(kind, object);
            if object.get("type").is_none() {
                object["type"] = "Opaque".into();
            }
        }
        Kind::Namespace => {
            let name = text(object, "/metadata/name").to_owned();
            let metadata = map(object, "metadata");
            metadata.entry("labels").or_insert(json!({}))["kubernetes.io/metadata.name"] = name.into();
            object["status"] = json!({"phase": "Active"});
        }
        Kind::Pod => super::pods::defaults(object),
        _ => {}
    }
}

/// What may be written in two ways is kept in one: the texts of a Secret.
pub(crate) fn normalise(kind: Kind, object: &mut Value) {
    let texts = object
        .as_object_mut()
        .filter(|_| kind == Kind::Secret)
        .and_then(|object| object.shift_remove("stringData"));
    let Some(Value::Object(texts)) = texts else {
        return;
    };
    let data = map(object, "data");
    for (key, value) in texts {
        data.insert(key, STANDARD.encode(value.as_str().unwrap_or_default()).into());
    }
}

fn job_defaults(object: &mut Value, uid: &str) {
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
    super::pods::spec_defaults(&mut template["spec"]);
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

pub(super) fn number(object: &Value, pointer: &str) -> Option<u64> {
    object.pointer(pointer)?.as_u64()
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn length(whole_seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(whole_seconds).unwrap_or(i64::MAX))
}

impl World {
    pub(super) fn act_after(&mut self, uid: &str, act: Act, after: SignedDuration) {
        let at = add(self.now, after);
        let uid = uid.to_owned();
        self.schedule(at, Event::Cluster { uid, act });
    }

    /// Something happens to an object, if that is there still.
    pub(crate) fn cluster_acts(&mut self, uid: &str, act: Act) {
        let key = self.cluster.of_uid(uid).cloned();
        match (act, key) {
            (Act::Collect, _) => self.collect(uid),
            (_, None) => {}
            (Act::Sync, Some(key)) => self.sync_job(&key),
            (Act::Deadline, Some(key)) => self.deadline(&key),
            (Act::Expire, Some(key)) => self.cluster_delete(&key, Policy::Foreground, None),
            (Act::Place, Some(key)) => self.place_pod(&key),
            (Act::Start, Some(key)) => self.start_pod(&key),
            (Act::BackOff, Some(key)) => self.back_off(&key),
            (Act::Exit, Some(_)) => self.exit_pod(uid),
            (Act::Empty, Some(key)) => self.empty_namespace(&key),
        }
    }

    /// A new object sets off what follows from it.
    pub(super) fn came_to_be(&mut self, key: &Key, uid: &str) {
        match key.kind {
            Kind::Job => {
                self.act_after(uid, Act::Sync, LAG);
                self.arm_deadline(key);
            }
            Kind::Pod => self.act_after(uid, Act::Place, LAG),
            Kind::Node => self.seek_nodes(),
            _ => {}
        }
        // What belongs to nobody who is there goes.
        let object = self.cluster.get(key);
        let lost: Vec<String> = object
            .into_iter()
            .flat_map(owners)
            .map(|owner| text(owner, "/uid").to_owned())
            .filter(|owner| self.cluster.of_uid(owner).is_none())
            .collect();
        for owner in lost {
            self.act_after(&owner, Act::Collect, COLLECTED);
        }
    }

    /// An object was changed by a person or a program.
    pub(crate) fn was_changed(&mut self, key: &Key) {
        let Some(object) = self.cluster.get(key) else {
            return;
        };
        let id = uid(object).to_owned();
        let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        if is_leaving(object) && finalizers.is_none_or(Vec::is_empty) && key.kind != Kind::Pod {
            self.cluster_drop(key);
            return;
        }
        match key.kind {
            Kind::Job => {
                self.act_after(&id, Act::Sync, LAG);
                self.arm_deadline(key);
            }
            Kind::Node => self.seek_nodes(),
            _ => {}
        }
    }

    fn arm_deadline(&mut self, key: &Key) {
        let job = self.cluster.get(key);
        let limit =
            job.and_then(|job| Some((uid(job).to_owned(), number(job, "/spec/activeDeadlineSeconds")?)));
        if let Some((uid, limit)) = limit {
            self.act_after(&uid, Act::Deadline, length(limit) + LAG);
        }
    }

    /// What a Job's pods have come to is counted, and pods are made that it lacks.
    fn sync_job(&mut self, key: &Key) {
        let Some(job) = self.cluster.get(key).cloned() else {
            return;
        };
        if is_leaving(&job) || is_over(&job) {
            return;
        }
        let id = uid(&job).to_owned();
        let mut succeeded = number(&job, "/status/succeeded").unwrap_or(0);
        let mut failed = number(&job, "/status/failed").unwrap_or(0);
        let (mut active, mut ready) = (0, 0);
        for pod in self.cluster.owned_by(&id) {
            let Some(found) = self.cluster.get(&pod).filter(|_| pod.kind == Kind::Pod) else {
                continue;
            };
            let counts = !self.cluster.counted.contains(uid(found));
            let of_pod = uid(found).to_owned();
            match text(found, "/status/phase") {
                "Succeeded" => succeeded += u64::from(counts),
                "Failed" => failed += u64::from(counts),
                phase => {
                    active += 1;
                    ready += u64::from(phase == "Running");
                    continue;
                }
            }
            self.cluster.counted.insert(of_pod);
        }
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

    fn deadline(&mut self, key: &Key) {
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

    /// Deletes an object, or begins to. A pod has its grace, or what is given.
    pub(crate) fn cluster_delete(&mut self, key: &Key, policy: Policy, grace: Option<u64>) {
        let Some(object) = self.cluster.get(key) else {
            return;
        };
        let id = uid(object).to_owned();
        match key.kind {
            Kind::Pod => return self.delete_pod(key, grace),
            Kind::Namespace => return self.delete_namespace(key),
            _ => {}
        }
        let now = self.now;
        if policy == Policy::Orphan {
            for owned in self.cluster.owned_by(&id) {
                self.cluster.edit(&owned, now, |object| {
                    let metadata = map(object, "metadata");
                    if let Some(Value::Array(all)) = metadata.get_mut("ownerReferences") {
                        all.retain(|owner| owner["uid"] != id.as_str());
                        if all.is_empty() {
                            metadata.shift_remove("ownerReferences");
                        }
                    }
                });
            }
        }
        let waits = policy == Policy::Foreground && !self.cluster.owned_by(&id).is_empty();
        self.cluster.edit(key, now, |object| {
            let metadata = map(object, "metadata");
            let mut finalizers = match metadata.get("finalizers") {
                Some(Value::Array(all)) => all.clone(),
                _ => Vec::new(),
            };
            if waits && !finalizers.iter().any(|known| known == FOREGROUND) {
                finalizers.push(FOREGROUND.into());
            }
            if !finalizers.is_empty() {
                metadata.insert("finalizers".to_owned(), finalizers.into());
                metadata
                    .entry("deletionTimestamp")
                    .or_insert_with(|| seconds(now).into());
                metadata.entry("deletionGracePeriodSeconds").or_insert(0.into());
            }
        });
        if waits {
            for owned in self.cluster.owned_by(&id) {
                self.cluster_delete(&owned, Policy::Foreground, None);
            }
        } else if self.cluster.get(key).is_some_and(|object| !is_leaving(object)) {
            self.cluster_drop(key);
        }
    }

    /// The object is gone. What it owned is collected; who waited for it may go.
    pub(super) fn cluster_drop(&mut self, key: &Key) {
        let now = self.now;
        let Some(object) = self.cluster.take(key, now) else {
            return;
        };
        let id = uid(&object);
        self.cluster.marks.remove(id);
        if !self.cluster.owned_by(id).is_empty() {
            self.act_after(id, Act::Collect, COLLECTED);
        }
        for owner in owners(&object) {
            let Some(owner) = self.cluster.of_uid(text(owner, "/uid")).cloned() else {
                continue;
            };
            let waits = self.cluster.get(&owner).filter(|object| is_leaving(object));
            let Some(of_owner) = waits.map(|object| uid(object).to_owned()) else {
                continue;
            };
            if self.cluster.owned_by(&of_owner).is_empty() {
                self.cluster.edit(&owner, now, |object| {
                    if let Some(Value::Array(all)) = map(object, "metadata").get_mut("finalizers") {
                        all.retain(|known| known != FOREGROUND);
                    }
                });
                self.was_changed(&owner);
            }
        }
    }

    /// What an owner that is gone had, goes, unless another owner is there.
    fn collect(&mut self, owner: &str) {
        for key in self.cluster.owned_by(owner) {
            let held = self.cluster.get(&key).is_some_and(|object| {
                owners(object).any(|owner| self.cluster.of_uid(text(owner, "/uid")).is_some())
            });
            if !held {
                self.cluster_delete(&key, Policy::Background, None);
            }
        }
    }

    fn delete_namespace(&mut self, key: &Key) {
        let now = self.now;
        self.cluster.edit(key, now, |space| {
            let metadata = map(space, "metadata");
            metadata
                .entry("deletionTimestamp")
                .or_insert_with(|| seconds(now).into());
            space["status"] = json!({"phase": "Terminating"});
        });
        let inside: Vec<Key> = self.keys_in(&key.name);
        for inner in inside {
            self.cluster_delete(&inner, Policy::Background, None);
        }
        self.empty_namespace(key);
    }

    fn keys_in(&self, namespace: &str) -> Vec<Key> {
        let all = self.cluster.objects.keys();
        all.filter(|key| key.namespace == namespace).cloned().collect()
    }

    fn empty_namespace(&mut self, key: &Key) {
        let Some(id) = self.cluster.get(key).map(|space| uid(space).to_owned()) else {
            return;
        };
        if self.keys_in(&key.name).is_empty() {
            self.cluster_drop(key);
        } else {
            self.act_after(&id, Act::Empty, COLLECTED);
        }
    }
}
