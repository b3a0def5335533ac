//! The cluster of the world: its objects, every change to them, and what is remembered of pods besides.
//!
//! An object is kept as the JSON that is shown. Each change has a number, the `resourceVersion`, and is remembered for a while, so
//! that a list can show what was so then and a watch can tell what happened since.

mod found;
mod jobs;
mod kind;
mod live;
mod place;
mod pods;
mod variables;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

pub(crate) use jobs::is_over;
pub(crate) use kind::{Kind, RESOURCES, Resource};
pub(crate) use live::{Act, Policy, normalise};
pub(crate) use place::is_quantity;

use super::sub;

/// A change is remembered for so long, as an etcd that is compacted every five minutes does.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(5);
/// And no more than so many are: a day of ten thousand pods, at some kilobytes each.
const CHANGES_MAX: usize = 50_000;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    /// Empty for what is in none.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// What a fault does to the pods of a Job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Marks {
    /// They run, and no runner registers.
    pub(crate) mute: bool,
    /// Their images are not found.
    pub(crate) gone_image: bool,
    /// No node has room for them.
    pub(crate) no_room: bool,
    /// Their containers cannot be started.
    pub(crate) fails: bool,
}

/// How a pod's container ends when its machine does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) code: i64,
    /// `Completed`, `Error`, `StartError`.
    pub(crate) reason: String,
    /// The pod's own reason and message: `Evicted`.
    pub(crate) of_pod: Option<(String, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Change {
    at: Timestamp,
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

/// What pods take of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Thousandths of a processor.
    cpu: u64,
    /// Bytes.
    memory: u64,
    pods: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cluster {
    #[serde(with = "objects")]
    objects: BTreeMap<Key, Arc<Value>>,
    /// Of the newest change.
    pub(crate) revision: u64,
    /// Counts ids, names and addresses.
    made: u64,
    marks: BTreeMap<String, Marks>,
    /// Pods whose end their Job has counted.
    counted: BTreeSet<String>,
    ends: BTreeMap<String, End>,
    /// Pods that no node has room for.
    waiting: BTreeSet<String>,
    /// Images that cannot be pulled.
    pub(crate) bad_images: BTreeSet<String>,
    /// Tokens of service accounts, each with its namespace and name.
    pub(crate) tokens: BTreeMap<String, (String, String)>,
    #[serde(skip)]
    changes: VecDeque<Change>,
    #[serde(skip)]
    by_uid: HashMap<String, Key>,
    /// Objects by the uids of their owners.
    #[serde(skip)]
    owned: HashMap<String, BTreeSet<Key>>,
    /// By node.
    #[serde(skip)]
    taken: HashMap<String, Room>,
}

/// The text at a pointer, empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub(crate) fn is_leaving(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// The owner references of an object.
pub(crate) fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    let all = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    all.into_iter().flatten()
}

/// The labels of an object.
pub(crate) fn labels(object: &Value) -> BTreeMap<String, String> {
    let all = object.pointer("/metadata/labels").and_then(Value::as_object);
    let pairs = all.into_iter().flatten();
    pairs
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// The object at a pointer's key, made where it is none.
pub(crate) fn map<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let inner = &mut object[key];
    if !inner.is_object() {
        *inner = json!({});
    }
    match inner {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object above"),
    }
}

impl Cluster {
    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key).map(|object| &**object)
    }

    pub(crate) fn of_uid(&self, uid: &str) -> Option<&Key> {
        self.by_uid.get(uid)
    }

    /// The objects of a kind now, by namespace and name.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        let from = Key::new(kind, "", "");
        self.objects
            .range(from..)
            .take_while(move |(key, _)| key.kind == kind)
    }

    /// The objects of a kind as they were after a revision; `None` where that is no longer known.
    pub(crate) fn at(&self, kind: Kind, revision: u64) -> Option<BTreeMap<&Key, &Arc<Value>>> {
        let mut found: BTreeMap<&Key, &Arc<Value>> = self.of(kind).collect();
        if revision >= self.revision {
            return Some(found);
        }
        self.knows(revision).then_some(())?;
        let later = self.changes.iter().rev();
        for change in later.take_while(|change| change.revision > revision) {
            if change.key.kind == kind {
                match &change.before {
                    Some(before) => found.insert(&change.key, before),
                    None => found.remove(&change.key),
                };
            }
        }
        Some(found)
    }

    /// Whether all that happened since a revision is remembered.
    fn knows(&self, revision: u64) -> bool {
        let oldest = self.changes.front();
        revision >= self.revision || oldest.is_some_and(|oldest| oldest.revision <= revision + 1)
    }

    /// The newest revision at a time, or the oldest that is known.
    pub(crate) fn revision_at(&self, time: Timestamp) -> u64 {
        let later = self.changes.iter().find(|change| change.at > time);
        later.map_or(self.revision, |change| change.revision - 1)
    }

    /// The changes to a kind after a revision; `None` where they are no longer known.
    pub(crate) fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Change>> {
        let known = self.knows(revision);
        let start = self.changes.partition_point(|change| change.revision <= revision);
        known.then(|| self.changes.range(start..))
    }

    fn remember(&mut self, change: Change) {
        let forgotten = sub(change.at, REMEMBERED);
        while self
            .changes
            .front()
            .is_some_and(|oldest| oldest.at < forgotten || self.changes.len() >= CHANGES_MAX)
        {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }

    /// Writes an object, with the number of this change.
    pub(crate) fn put(&mut self, key: &Key, mut object: Value, now: Timestamp) {
        self.revision += 1;
        let revision = self.revision;
        map(&mut object, "metadata").insert("resourceVersion".to_owned(), revision.to_string().into());
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        if let Some(before) = &before {
            self.unlink(key, before);
        }
        self.link(key, &object);
        self.remember(Change {
            at: now,
            revision,
            key: key.clone(),
            before,
            after: Some(object),
        });
    }

    /// Changes an object that is there.
    pub(crate) fn edit(&mut self, key: &Key, now: Timestamp, change: impl FnOnce(&mut Value)) {
        let Some(known) = self.objects.get(key) else {
            return;
        };
        let mut object = Value::clone(known);
        change(&mut object);
        if object != **known {
            self.put(key, object, now);
        }
    }

    /// Takes an object out.
    fn take(&mut self, key: &Key, now: Timestamp) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?;
        self.revision += 1;
        let revision = self.revision;
        self.unlink(key, &before);
        self.by_uid.remove(uid(&before));
        // A watch tells it with the number of its removal.
        let mut last = Value::clone(&before);
        map(&mut last, "metadata").insert("resourceVersion".to_owned(), revision.to_string().into());
        self.remember(Change {
            at: now,
            revision,
            key: key.clone(),
            before: Some(Arc::new(last)),
            after: None,
        });
        Some(before)
    }

    fn link(&mut self, key: &Key, object: &Value) {
        self.by_uid.insert(uid(object).to_owned(), key.clone());
        for owner in owners(object) {
            let owned = self.owned.entry(text(owner, "/uid").to_owned()).or_default();
            owned.insert(key.clone());
        }
        if let Some((node, room)) = place::takes(key.kind, object) {
            let taken = self.taken.entry(node.to_owned()).or_default();
            taken.cpu += room.cpu;
            taken.memory += room.memory;
            taken.pods += 1;
        }
    }

    fn unlink(&mut self, key: &Key, object: &Value) {
        for owner in owners(object) {
            let of = text(owner, "/uid");
            if let Some(owned) = self.owned.get_mut(of) {
                owned.remove(key);
                if owned.is_empty() {
                    self.owned.remove(of);
                }
            }
        }
        if let Some((node, room)) = place::takes(key.kind, object)
            && let Some(taken) = self.taken.get_mut(node)
        {
            taken.cpu = taken.cpu.saturating_sub(room.cpu);
            taken.memory = taken.memory.saturating_sub(room.memory);
            taken.pods = taken.pods.saturating_sub(1);
        }
    }

    pub(crate) fn owned_by(&self, uid: &str) -> Vec<Key> {
        self.owned
            .get(uid)
            .map_or_else(Vec::new, |keys| keys.iter().cloned().collect())
    }

    pub(crate) fn reindex(&mut self) {
        self.by_uid.clear();
        self.owned.clear();
        self.taken.clear();
        for (key, object) in self.objects.clone() {
            self.link(&key, &object);
        }
    }
}

/// Keys are no strings, and what is shared is written as it is.
mod objects {
    use super::{Arc, BTreeMap, Deserialize, Deserializer, Key, Serializer, Value};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<Key, Arc<Value>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map.iter().map(|(key, object)| (key, &**object)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<Key, Arc<Value>>, D::Error> {
        let pairs = Vec::<(Key, Value)>::deserialize(from)?;
        Ok(pairs
            .into_iter()
            .map(|(key, object)| (key, Arc::new(object)))
            .collect())
    }
}
