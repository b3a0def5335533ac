//! What happens in the cluster by itself: what is new sets off what follows, what is deleted takes along what it owns.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{Event, World, add, seconds};
use super::{Key, Kind, is_leaving, map, owners, text, uid};

/// A controller looks at what was changed after so long.
pub(super) const LAG: SignedDuration = SignedDuration::from_millis(500);
/// The garbage collector.
const COLLECTED: SignedDuration = SignedDuration::from_secs(1);
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
        Kind::Job => super::jobs::defaults(object, uid),
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
        Kind::Pod => super::found::pod_defaults(object),
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

pub(super) fn number(object: &Value, pointer: &str) -> Option<u64> {
    object.pointer(pointer)?.as_u64()
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
