//! Where pods go: what they ask for, what nodes have, and why there is no room.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::super::{World, seconds};
use super::live::Act;
use super::pods::{condition, waiting};
use super::{Key, Kind, Room, is_leaving, labels, text, uid};

/// From a pod's place on a node to the node's looking at it, and to the scheduler's looking at one that waits.
const LAG: SignedDuration = SignedDuration::from_millis(500);

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

/// Why a pod cannot be on a node, and whether another pod's going would help.
fn refusal(node: &Value, pod: &Value, no_room: bool, room: Room, taken: Room) -> Option<(String, bool)> {
    let ask = asks(pod);
    let unready = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    let (reason, helps) = if unready {
        ("node(s) were unschedulable".to_owned(), false)
    } else if let Some(taint) = bars(node, pod) {
        let (key, value) = (text(taint, "/key"), text(taint, "/value"));
        (format!("node(s) had untolerated taint {{{key}: {value}}}"), false)
    } else if !is_selected(node, pod) {
        (
            "node(s) didn't match Pod's node affinity/selector".to_owned(),
            false,
        )
    } else if no_room || taken.cpu + ask.cpu > room.cpu {
        ("Insufficient cpu".to_owned(), true)
    } else if taken.memory + ask.memory > room.memory {
        ("Insufficient memory".to_owned(), true)
    } else if taken.pods + 1 > room.pods {
        ("Too many pods".to_owned(), true)
    } else {
        return None;
    };
    Some((reason, helps))
}

impl World {
    /// Pods that found no node are tried again.
    pub(super) fn seek_nodes(&mut self) {
        for uid in self.cluster.waiting.clone() {
            self.act_after(&uid, Act::Place, LAG);
        }
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
        let no_room = self.marks_of(pod).no_room;
        let mut best: Option<(u64, String)> = None;
        let mut why: BTreeMap<String, (u32, bool)> = BTreeMap::new();
        let mut all = 0;
        for (key, node) in self.cluster.of(Kind::Node) {
            all += 1;
            let taken = self.cluster.taken.get(&key.name).copied().unwrap_or_default();
            let room = has(node);
            if let Some((reason, helps)) = refusal(node, pod, no_room, room, taken) {
                why.entry(reason).or_insert((0, helps)).0 += 1;
                continue;
            }
            let free = room.cpu.saturating_sub(taken.cpu);
            if best.as_ref().is_none_or(|(most, _)| free > *most) {
                best = Some((free, key.name.clone()));
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
}
