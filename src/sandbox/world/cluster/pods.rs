//! Pods: placed on a node that has room, started as a machine from outside with their first container's variables, ended with it.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::super::{World, add, host::Report, millis, seconds};
use super::live::{Act, number};
use super::{End, Key, Kind, Marks, Room, is_leaving, labels, map, owners, text, uid};

/// From a pod's place on a node to the node's looking at it, and from the end of its process to the pod's.
const LAG: SignedDuration = SignedDuration::from_millis(500);
/// A pod that cannot be started is tried again so much later.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
/// `terminationGracePeriodSeconds`, unless the pod has its own.
const GRACE: u64 = 30;

pub(super) fn defaults(pod: &mut Value) {
    spec_defaults(&mut pod["spec"]);
    if pod.get("status").is_none() {
        pod["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    }
}

/// What the API server fills into the spec of a pod, of a template too.
pub(super) fn spec_defaults(spec: &mut Value) {
    if !spec.is_object() {
        *spec = json!({});
    }
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(GRACE)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
    ] {
        if spec.get(key).is_none() {
            spec[key] = value;
        }
    }
    for container in spec
        .get_mut("containers")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let latest =
            text(container, "/image").ends_with(":latest") || !text(container, "/image").contains(':');
        for (key, value) in [
            (
                "imagePullPolicy",
                json!(if latest { "Always" } else { "IfNotPresent" }),
            ),
            ("terminationMessagePath", json!("/dev/termination-log")),
            ("terminationMessagePolicy", json!("File")),
            ("resources", json!({})),
        ] {
            if container.get(key).is_none() {
                container[key] = value;
            }
        }
    }
}

/// `500m`, `2`, `1.5`: thousandths of a processor.
fn thousandths(amount: &Value) -> Option<u64> {
    quantity(amount, 1000.0)
}

/// A quantity as Kubernetes writes it, times `unit`, rounded up.
fn quantity(amount: &Value, unit: f64) -> Option<u64> {
    let text = match amount {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let at = text
        .find(|letter: char| letter.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(at);
    let value: f64 = digits.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "m" => 0.001,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        _ => return None,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float saturates"
    )]
    let whole = (value * factor * unit).ceil() as u64;
    Some(whole)
}

/// Whether a quantity can be read.
pub(crate) fn is_quantity(amount: &Value) -> bool {
    quantity(amount, 1.0).is_some()
}

/// What a pod asks for.
fn asks(pod: &Value) -> Room {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let mut room = Room {
        pods: 1,
        ..Room::default()
    };
    for container in containers.into_iter().flatten() {
        let asked = |name: &str| {
            let requests = container.pointer(&format!("/resources/requests/{name}"));
            requests
                .or_else(|| container.pointer(&format!("/resources/limits/{name}")))
                .cloned()
        };
        room.cpu += asked("cpu").and_then(|amount| thousandths(&amount)).unwrap_or(0);
        room.memory += asked("memory")
            .and_then(|amount| quantity(&amount, 1.0))
            .unwrap_or(0);
    }
    room
}

/// The node that an object takes room of, and how much.
pub(super) fn takes(kind: Kind, object: &Value) -> Option<(&str, Room)> {
    let node = text(object, "/spec/nodeName");
    let over = matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
    (kind == Kind::Pod && !node.is_empty() && !over).then(|| (node, asks(object)))
}

/// The room of a node.
fn has(node: &Value) -> Room {
    let of = |name: &str| {
        node.pointer(&format!("/status/allocatable/{name}"))
            .cloned()
            .unwrap_or(json!("0"))
    };
    Room {
        cpu: thousandths(&of("cpu")).unwrap_or(0),
        memory: quantity(&of("memory"), 1.0).unwrap_or(0),
        pods: quantity(&of("pods"), 1.0).unwrap_or(0),
    }
}

/// A taint that the pod does not tolerate.
fn bars<'a>(node: &'a Value, pod: &Value) -> Option<&'a Value> {
    let taints = node.pointer("/spec/taints").and_then(Value::as_array);
    let tolerations = pod.pointer("/spec/tolerations").and_then(Value::as_array);
    let tolerations = tolerations.map_or(&[][..], Vec::as_slice);
    let tolerates = |taint: &Value| {
        tolerations.iter().any(|given| {
            let effect = given
                .get("effect")
                .is_none_or(|effect| *effect == taint["effect"]);
            let exists = given["operator"] == "Exists";
            let key = text(given, "/key");
            let fits = (key.is_empty() && exists) || key == text(taint, "/key");
            effect && fits && (exists || text(given, "/value") == text(taint, "/value"))
        })
    };
    let kept = taints
        .into_iter()
        .flatten()
        .filter(|taint| taint["effect"] != "PreferNoSchedule");
    kept.into_iter().find(|taint| !tolerates(taint))
}

fn is_selected(node: &Value, pod: &Value) -> bool {
    let known = labels(node);
    let wanted = pod.pointer("/spec/nodeSelector").and_then(Value::as_object);
    wanted
        .into_iter()
        .flatten()
        .all(|(key, value)| known.get(key).map(String::as_str) == value.as_str())
}

/// The reason that a pod waits for, and what is said of it.
fn waiting(pod: &mut Value, reason: &str, message: &str) {
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

fn condition(pod: &mut Value, kind: &str, holds: bool, reason: &str, message: &str, now: &str) {
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
    fn marks_of(&self, pod: &Value) -> Marks {
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

    /// Pods that found no node are tried again.
    pub(super) fn seek_nodes(&mut self) {
        for uid in self.cluster.waiting.clone() {
            self.act_after(&uid, Act::Place, LAG);
        }
    }

    /// Writes down what went wrong with an object, for `kubectl describe`.
    fn note(&mut self, about: &Key, reason: &str, message: &str) {
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

    /// Puts a pod on the node that has most room, or says why on none.
    pub(super) fn place_pod(&mut self, key: &Key) {
        let Some(pod) = self.cluster.get(key).cloned() else {
            return;
        };
        if is_leaving(&pod) || !text(&pod, "/spec/nodeName").is_empty() {
            return;
        }
        let id = uid(&pod).to_owned();
        let now = self.now;
        match self.node_for(&pod) {
            Ok(node) => {
                self.cluster.waiting.remove(&id);
                self.cluster.edit(key, now, |pod| {
                    pod["spec"]["nodeName"] = node.into();
                    let stamp = seconds(now);
                    condition(pod, "PodScheduled", true, "", "", &stamp);
                    pod["status"]["startTime"] = stamp.into();
                    pod["status"]["hostIP"] = "10.0.0.1".into();
                    waiting(pod, "ContainerCreating", "");
                });
                self.act_after(&id, Act::Start, LAG);
            }
            Err(why) => {
                if self.cluster.waiting.insert(id) {
                    self.note(key, "FailedScheduling", &why);
                }
                self.cluster.edit(key, now, |pod| {
                    condition(pod, "PodScheduled", false, "Unschedulable", &why, &seconds(now));
                });
            }
        }
    }

    /// The node for a pod, or why there is none, as the scheduler words it.
    fn node_for(&self, pod: &Value) -> Result<String, String> {
        let ask = asks(pod);
        let no_room = self.marks_of(pod).no_room;
        let mut best: Option<(u64, String)> = None;
        let mut why: BTreeMap<String, (u32, bool)> = BTreeMap::new();
        let mut all = 0;
        for (key, node) in self.cluster.of(Kind::Node) {
            all += 1;
            let (has, taken) = (
                has(node),
                self.cluster.taken.get(&key.name).copied().unwrap_or_default(),
            );
            let unready = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
            let mut refuse = |reason: String, helps: bool| why.entry(reason).or_insert((0, helps)).0 += 1;
            if unready {
                refuse("node(s) were unschedulable".to_owned(), false);
            } else if let Some(taint) = bars(node, pod) {
                let value = text(taint, "/value");
                refuse(
                    format!(
                        "node(s) had untolerated taint {{{}: {value}}}",
                        text(taint, "/key")
                    ),
                    false,
                );
            } else if !is_selected(node, pod) {
                refuse(
                    "node(s) didn't match Pod's node affinity/selector".to_owned(),
                    false,
                );
            } else if no_room || taken.cpu + ask.cpu > has.cpu {
                refuse("Insufficient cpu".to_owned(), true);
            } else if taken.memory + ask.memory > has.memory {
                refuse("Insufficient memory".to_owned(), true);
            } else if taken.pods + 1 > has.pods {
                refuse("Too many pods".to_owned(), true);
            } else {
                let free = has.cpu.saturating_sub(taken.cpu);
                if best.as_ref().is_none_or(|(most, _)| free > *most) {
                    best = Some((free, key.name.clone()));
                }
            }
        }
        if let Some((_, name)) = best {
            return Ok(name);
        }
        if all == 0 {
            return Err("no nodes available to schedule pods".to_owned());
        }
        let said: Vec<String> = why
            .iter()
            .map(|(reason, (count, _))| format!("{count} {reason}"))
            .collect();
        let count = |helps: bool| {
            why.values()
                .filter(|known| known.1 == helps)
                .map(|known| known.0)
                .sum::<u32>()
        };
        let mut preemption = Vec::new();
        if count(true) > 0 {
            preemption.push(format!(
                "{} No preemption victims found for incoming pod",
                count(true)
            ));
        }
        if count(false) > 0 {
            preemption.push(format!(
                "{} Preemption is not helpful for scheduling",
                count(false)
            ));
        }
        Err(format!(
            "0/{all} nodes are available: {}. preemption: 0/{all} nodes are available: {}.",
            said.join(", "),
            preemption.join(", ")
        ))
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

    /// The variables of a pod's first container, or why it cannot be started with them.
    fn variables(&self, pod: &Value) -> Result<BTreeMap<String, String>, String> {
        let namespace = text(pod, "/metadata/namespace");
        let container = &pod["spec"]["containers"][0];
        let mut variables = BTreeMap::new();
        for from in container["envFrom"].as_array().into_iter().flatten() {
            let prefix = text(from, "/prefix");
            for (kind, source) in [(Kind::Secret, "secretRef"), (Kind::ConfigMap, "configMapRef")] {
                let Some(source) = from.get(source) else {
                    continue;
                };
                let found = self
                    .cluster
                    .get(&Key::new(kind, namespace, text(source, "/name")));
                if found.is_none() && source["optional"] != true {
                    return Err(absent(kind, text(source, "/name")));
                }
                let data = found.and_then(|found| found["data"].as_object());
                for (key, value) in data.into_iter().flatten() {
                    variables.insert(format!("{prefix}{key}"), plain(kind, value));
                }
            }
        }
        for entry in container["env"].as_array().into_iter().flatten() {
            let value = match entry.get("valueFrom") {
                None => expanded(text(entry, "/value"), &variables),
                Some(from) => match self.value_from(pod, namespace, from)? {
                    Some(value) => value,
                    None => continue,
                },
            };
            variables.insert(text(entry, "/name").to_owned(), value);
        }
        Ok(variables)
    }

    fn value_from(&self, pod: &Value, namespace: &str, from: &Value) -> Result<Option<String>, String> {
        if let Some(field) = from.get("fieldRef") {
            let path = text(field, "/fieldPath");
            let label = path
                .strip_prefix("metadata.labels['")
                .and_then(|rest| rest.strip_suffix("']"));
            let known = match label {
                Some(label) => labels(pod).get(label).cloned().unwrap_or_default(),
                None => text(pod, &format!("/{}", path.replace('.', "/"))).to_owned(),
            };
            return Ok(Some(known));
        }
        for (kind, name) in [
            (Kind::Secret, "secretKeyRef"),
            (Kind::ConfigMap, "configMapKeyRef"),
        ] {
            let Some(source) = from.get(name) else {
                continue;
            };
            let (of, entry) = (text(source, "/name"), text(source, "/key"));
            let optional = source["optional"] == true;
            let Some(found) = self.cluster.get(&Key::new(kind, namespace, of)) else {
                return if optional { Ok(None) } else { Err(absent(kind, of)) };
            };
            return match found["data"].get(entry) {
                Some(value) => Ok(Some(plain(kind, value))),
                None if optional => Ok(None),
                None => Err(format!(
                    "couldn't find key {entry} in {} {namespace}/{of}",
                    kind.resource().name
                )),
            };
        }
        Ok(None)
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
                    .is_some_and(|job| !super::live::is_over(job))
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

fn absent(kind: Kind, name: &str) -> String {
    format!("{} \"{name}\" not found", kind.resource().name.to_lowercase())
}

/// What stands in a Secret or in a config map.
fn plain(kind: Kind, value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    if kind == Kind::Secret {
        let bytes = STANDARD.decode(text).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    } else {
        text.to_owned()
    }
}

/// `$(NAME)` stands for an earlier variable; `$$(` for `$(`.
fn expanded(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let named = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match named {
            Some((name, tail)) => {
                match variables.get(name) {
                    Some(value) => out.push_str(value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest = tail;
            }
            None => {
                out.push('$');
                rest = after.strip_prefix('$').unwrap_or(after);
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, cpu) in [("500m", 500), ("2", 2000), ("1.5", 1500), ("0.1", 100)] {
            assert_eq!(thousandths(&json!(text)), Some(cpu), "{text}");
        }
        for (text, bytes) in [
            ("1Gi", 1 << 30),
            ("512Mi", 512 << 20),
            ("1G", 1_000_000_000),
            ("7", 7),
        ] {
            assert_eq!(quantity(&json!(text), 1.0), Some(bytes), "{text}");
        }
        assert_eq!(thousandths(&json!(2)), Some(2000));
        assert_eq!(quantity(&json!("1 Gi"), 1.0), None);
        assert_eq!(quantity(&json!("much"), 1.0), None);
    }

    #[test]
    fn variables_are_put_into_later_ones() {
        let known = BTreeMap::from([("A".to_owned(), "x".to_owned())]);
        assert_eq!(expanded("$(A)-$(B)-$$(A)-$", &known), "x-$(B)-$(A)-$");
    }
}
