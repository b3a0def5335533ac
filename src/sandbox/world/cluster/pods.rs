//! Pods: placed on a node that has room, started as a machine from outside with their first container's variables, ended with it.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::super::{World, add, host::Report, millis, seconds};
use super::found::GRACE;
use super::live::{Act, number};
use super::{End, Key, Kind, Marks, is_leaving, map, owners, text, uid};

/// From a pod's place on a node to the node's looking at it, and from the end of its process to the pod's.
const LAG: SignedDuration = SignedDuration::from_millis(500);
/// A pod that cannot be started is tried again so much later.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// The reason that a pod waits for, and what is said of it.
pub(super) fn waiting(pod: &mut Value, reason: &str, message: &str) {
    let containers = pod
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut state = json!({"reason": reason});
    if !message.is_empty() {
        state["message"] = message.into();
    }
    let statuses: Vec<Value> = containers
        .iter()
        .map(|container| {
            json!({
                "name": container["name"], "image": container["image"], "imageID": "", "ready": false, "restartCount": 0, "started": false,
                "state": {"waiting": state},
            })
        })
        .collect();
    pod["status"]["containerStatuses"] = statuses.into();
}

pub(super) fn condition(pod: &mut Value, kind: &str, holds: bool, reason: &str, message: &str, now: &str) {
    let status = map(pod, "status");
    let conditions = status.entry("conditions").or_insert(json!([]));
    let Some(all) = conditions.as_array_mut() else {
        return;
    };
    let mut new = json!({"type": kind, "status": if holds { "True" } else { "False" }, "lastProbeTime": null, "lastTransitionTime": now});
    if !reason.is_empty() {
        new["reason"] = reason.into();
    }
    if !message.is_empty() {
        new["message"] = message.into();
    }
    match all.iter_mut().find(|known| known["type"] == kind) {
        Some(known) if known["status"] == new["status"] && known.get("message") == new.get("message") => {}
        Some(known) => *known = new,
        None => all.push(new),
    }
}

impl World {
    /// What faults do to this pod.
    pub(super) fn marks_of(&self, pod: &Value) -> Marks {
        let marks = &self.cluster.marks;
        let own = marks.get(uid(pod));
        let of_owner = owners(pod).find_map(|owner| marks.get(text(owner, "/uid")));
        own.or(of_owner).copied().unwrap_or_default()
    }

    /// What faults do to the pods of a Job, or to a pod.
    pub(crate) fn mark(&mut self, key: &Key, marks: Marks) {
        if marks != Marks::default()
            && let Some(object) = self.cluster.get(key)
        {
            let uid = uid(object).to_owned();
            self.cluster.marks.insert(uid, marks);
        }
    }

    /// Writes down what went wrong with an object, for `kubectl describe`.
    pub(super) fn note(&mut self, about: &Key, reason: &str, message: &str) {
        let Some(object) = self.cluster.get(about) else {
            return;
        };
        let now = seconds(self.now);
        let event = json!({
            "metadata": {},
            "involvedObject": {
                "kind": about.kind.resource().name, "apiVersion": about.kind.resource().api_version(), "namespace": about.namespace,
                "name": about.name, "uid": uid(object),
            },
            "reason": reason, "message": message, "type": "Warning", "count": 1, "firstTimestamp": now, "lastTimestamp": now,
            "eventTime": null, "source": {"component": "runfleet-sandbox"}, "reportingComponent": "runfleet-sandbox", "reportingInstance": "",
        });
        let name = format!("{}.{}", about.name, self.name_ending());
        let key = Key::new(Kind::Event, &about.namespace, &name);
        self.cluster_create(&key, event);
    }

    /// The node pulls the image and starts the container, or cannot.
    pub(super) fn start_pod(&mut self, key: &Key) {
        let Some(pod) = self.cluster.get(key).cloned() else {
            return;
        };
        let id = uid(&pod).to_owned();
        if is_leaving(&pod) || text(&pod, "/status/phase") != "Pending" || self.outside.find(&id).is_some() {
            return;
        }
        let marks = self.marks_of(&pod);
        let image = text(&pod, "/spec/containers/0/image").to_owned();
        let now = self.now;
        if marks.gone_image || self.cluster.bad_images.contains(&image) {
            let why = format!(
                "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": {image}: not found"
            );
            self.cluster
                .edit(key, now, |pod| waiting(pod, "ErrImagePull", &why));
            self.note(key, "Failed", &format!("Failed to pull image \"{image}\": {why}"));
            self.act_after(&id, Act::BackOff, RETRY);
            return;
        }
        let variables = match self.variables(&pod) {
            Ok(variables) => variables,
            Err(why) => {
                self.cluster
                    .edit(key, now, |pod| waiting(pod, "CreateContainerConfigError", &why));
                self.act_after(&id, Act::Start, RETRY);
                return;
            }
        };
        if marks.fails {
            let end = End {
                code: 128,
                reason: "StartError".to_owned(),
                of_pod: None,
            };
            self.cluster.ends.insert(id.clone(), end);
            self.pod_ended(&id, 0);
            return;
        }
        self.cluster.made += 1;
        let number = self.cluster.made;
        let address = format!(
            "10.{}.{}.{}",
            42 + number / 62_500 % 200,
            number / 250 % 250,
            number % 250 + 1
        );
        self.cluster.edit(key, now, |pod| {
            pod["status"]["podIP"] = address.as_str().into();
            pod["status"]["podIPs"] = json!([{"ip": address}]);
        });
        self.report(Report {
            id,
            name: key.name.clone(),
            address,
            user_data: None,
            environment: variables,
            never_registers: marks.mute,
        });
    }

    pub(super) fn back_off(&mut self, key: &Key) {
        let now = self.now;
        self.cluster.edit(key, now, |pod| {
            if text(pod, "/status/phase") == "Pending" {
                let image = text(pod, "/spec/containers/0/image").to_owned();
                waiting(
                    pod,
                    "ImagePullBackOff",
                    &format!("Back-off pulling image \"{image}\""),
                );
            }
        });
    }

    /// A machine is up: if it is a pod, that runs.
    pub(in super::super) fn pod_up(&mut self, number: u64) {
        let Some((id, key)) = self.pod_of(number) else {
            return;
        };
        let now = self.now;
        let stamp = seconds(now);
        self.cluster.edit(&key, now, |pod| {
            for status in pod["status"]["containerStatuses"]
                .as_array_mut()
                .into_iter()
                .flatten()
            {
                status["ready"] = true.into();
                status["started"] = true.into();
                status["state"] = json!({"running": {"startedAt": stamp}});
            }
            pod["status"]["phase"] = "Running".into();
            for kind in ["Initialized", "ContainersReady", "Ready"] {
                condition(pod, kind, true, "", "", &stamp);
            }
        });
        self.sync_owner(&key);
        let host = self.host(number);
        let broken = host.is_some_and(|host| host.setup_problem.is_some() && !host.mute);
        if broken {
            let has_command = self
                .cluster
                .get(&key)
                .is_some_and(|pod| pod.pointer("/spec/containers/0/command").is_some());
            let code = i64::from(!has_command);
            self.cluster.ends.insert(id.clone(), ended(code));
            self.act_after(&id, Act::Exit, LAG);
        }
    }

    fn sync_owner(&mut self, key: &Key) {
        let pod = self.cluster.get(key);
        let of: Vec<String> = pod
            .into_iter()
            .flat_map(owners)
            .map(|owner| text(owner, "/uid").to_owned())
            .collect();
        for owner in of {
            self.act_after(&owner, Act::Sync, LAG);
        }
    }

    fn pod_of(&self, number: u64) -> Option<(String, Key)> {
        let id = self.outside.machines.get(&number)?.report.id.clone();
        let key = self.cluster.of_uid(&id)?;
        (key.kind == Kind::Pod).then(|| (id, key.clone()))
    }

    /// A pod's process is over.
    pub(super) fn exit_pod(&mut self, uid: &str) {
        if let Some((number, _)) = self.outside.find(uid) {
            self.power_off(number);
        }
    }

    /// A machine went off, with so many jobs running: if it is a pod, that has ended.
    pub(in super::super) fn pod_off(&mut self, number: u64, running: usize) {
        if let Some((id, _)) = self.pod_of(number) {
            self.pod_ended(&id, running);
        }
    }

    fn pod_ended(&mut self, id: &str, running: usize) {
        let Some(key) = self.cluster.of_uid(id).cloned() else {
            return;
        };
        let killed = if running > 0 { 137 } else { 0 };
        let end = self.cluster.ends.remove(id).unwrap_or_else(|| ended(killed));
        let now = self.now;
        let stamp = seconds(now);
        self.cluster.edit(&key, now, |pod| {
            for status in pod["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
                let started = status.pointer("/state/running/startedAt").cloned().unwrap_or_else(|| stamp.clone().into());
                status["ready"] = false.into();
                status["started"] = false.into();
                status["state"] = json!({"terminated": {"exitCode": end.code, "reason": end.reason, "startedAt": started, "finishedAt": stamp}});
            }
            let phase = if end.code == 0 && end.of_pod.is_none() { "Succeeded" } else { "Failed" };
            pod["status"]["phase"] = phase.into();
            for kind in ["ContainersReady", "Ready"] {
                condition(pod, kind, false, if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" }, "", &stamp);
            }
            if let Some((reason, message)) = &end.of_pod {
                pod["status"]["reason"] = reason.as_str().into();
                pod["status"]["message"] = message.as_str().into();
            }
        });
        self.seek_nodes();
        if self.cluster.get(&key).is_some_and(is_leaving) {
            self.drop_pod(&key);
        } else {
            self.sync_owner(&key);
        }
    }

    /// Asks a pod to end, and removes it then; at once where nothing runs, or where it has no grace.
    pub(super) fn delete_pod(&mut self, key: &Key, grace: Option<u64>) {
        let Some(pod) = self.cluster.get(key) else {
            return;
        };
        if is_leaving(pod) && grace.is_none() {
            return;
        }
        let id = uid(pod).to_owned();
        let own = number(pod, "/spec/terminationGracePeriodSeconds").unwrap_or(GRACE);
        let grace = grace.unwrap_or(own);
        let over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        let machine = self.outside.find(&id).map(|(number, _)| number).filter(|_| !over);
        let Some(number) = machine else {
            return self.drop_pod(key);
        };
        let now = self.now;
        let length = SignedDuration::from_secs(i64::try_from(grace).unwrap_or(i64::MAX));
        self.cluster.edit(key, now, |pod| {
            let metadata = map(pod, "metadata");
            metadata.insert("deletionTimestamp".to_owned(), seconds(add(now, length)).into());
            metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
        });
        self.sync_owner(key);
        if grace == 0 {
            self.cluster.ends.insert(id, ended(137));
            self.power_off(number);
        } else {
            self.shut_down_within(number, length);
        }
    }

    /// The pod is gone. One that had not ended counts as failed.
    fn drop_pod(&mut self, key: &Key) {
        let Some(pod) = self.cluster.get(key).cloned() else {
            return;
        };
        let id = uid(&pod).to_owned();
        self.unreport(&id);
        self.cluster.waiting.remove(&id);
        self.cluster.ends.remove(&id);
        let known = self.cluster.counted.remove(&id);
        self.sync_owner(key);
        let now = self.now;
        self.cluster_drop(key);
        let of: Vec<Key> = owners(&pod)
            .filter_map(|owner| self.cluster.of_uid(text(owner, "/uid")).cloned())
            .collect();
        let succeeded = text(&pod, "/status/phase") == "Succeeded";
        for job in of {
            if !known
                && self
                    .cluster
                    .get(&job)
                    .is_some_and(|job| !super::jobs::is_over(job))
            {
                let counted = if succeeded { "succeeded" } else { "failed" };
                self.cluster.edit(&job, now, |job| {
                    let status = map(job, "status");
                    let count = status.get(counted).and_then(Value::as_u64).unwrap_or(0);
                    status.insert(counted.to_owned(), (count + 1).into());
                });
            }
        }
        self.seek_nodes();
    }

    /// A pod's process ends by itself, with this exit code.
    pub(crate) fn end_pod(&mut self, key: &Key, code: i64) {
        let Some(pod) = self.cluster.get(key) else {
            return;
        };
        let id = uid(pod).to_owned();
        if let Some(number) = self.outside.find(&id).map(|(number, _)| number) {
            self.cluster.ends.insert(id, ended(code));
            self.power_off(number);
        }
    }

    /// The node lacks memory: the pod fails, and what runs in it dies.
    pub(crate) fn evict_pod(&mut self, key: &Key) {
        let Some(pod) = self.cluster.get(key) else {
            return;
        };
        let id = uid(pod).to_owned();
        if matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            return;
        }
        let message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 64Mi.";
        let end = End {
            of_pod: Some(("Evicted".to_owned(), message.to_owned())),
            ..ended(137)
        };
        self.note(key, "Evicted", message);
        self.cluster.ends.insert(id.clone(), end);
        match self.outside.find(&id).map(|(number, _)| number) {
            Some(number) => self.power_off(number),
            None => self.pod_ended(&id, 0),
        }
    }

    /// What a pod's container has written.
    pub(crate) fn log_of(&self, key: &Key) -> Option<Vec<String>> {
        let (number, machine) = self.outside.find(uid(self.cluster.get(key)?))?;
        if !machine.host.up {
            return None;
        }
        let mut lines = Vec::new();
        if let Some(problem) = &machine.host.setup_problem {
            lines.push(problem.clone());
        }
        if let Some(runner) = self.circle.runners.get(&number) {
            lines.push(format!(
                "{} runner {} connected to {}",
                millis(runner.first_connected),
                runner.name,
                runner.setup.url
            ));
        }
        let tasks = self.circle.tasks.values();
        for task in tasks.filter(|task| task.runner.as_ref().is_some_and(|(_, host)| *host == number)) {
            if let Some(started) = task.started {
                lines.push(format!(
                    "{} claimed task {} ({})",
                    millis(started),
                    task.id,
                    task.name
                ));
            }
            if let Some(finished) = task.finished {
                lines.push(format!(
                    "{} task {} ended: {}",
                    millis(finished),
                    task.id,
                    task.status.name()
                ));
            }
        }
        Some(lines)
    }
}

fn ended(code: i64) -> End {
    End {
        code,
        reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
        of_pod: None,
    }
}
