//! New objects: what the API server gives them, and those that a cluster begins with.

use serde_json::{Value, json};

use super::super::{super::scenario::KubernetesSpec, World, dice, seconds};
use super::{Key, Kind, RESOURCES, live, map, text};

/// `terminationGracePeriodSeconds`, unless the pod has its own.
pub(super) const GRACE: u64 = 30;

pub(super) fn pod_defaults(pod: &mut Value) {
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

impl World {
    /// Whether a token is one of the cluster's: the world's, or a service account's.
    pub(crate) fn is_known_to_cluster(&self, token: &str) -> bool {
        token == self.token || self.cluster.tokens.contains_key(token)
    }

    /// Throws of the cluster's own dice.
    fn cluster_dice(&mut self) -> u64 {
        self.cluster.made += 1;
        dice::bits(self.seed, self.cluster.made, 0xc1d5)
    }

    /// Five letters, as the API server adds them to a `generateName`.
    pub(crate) fn name_ending(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut bits = self.cluster_dice();
        let mut ending = String::new();
        for _ in 0..5 {
            #[expect(clippy::cast_possible_truncation, reason = "below the length of a list")]
            let at = (bits % LETTERS.len() as u64) as usize;
            ending.push(char::from(LETTERS[at]));
            bits /= LETTERS.len() as u64;
        }
        ending
    }

    /// Stores a new object: gives it what the API server gives, and sets off what follows from it. Its name is settled.
    pub(crate) fn cluster_create(&mut self, key: &Key, mut object: Value) {
        let (high, low) = (self.cluster_dice(), self.cluster_dice());
        let uid = format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 48 & 0x3fff | 0x8000,
            low & 0xffff_ffff_ffff,
        );
        let now = seconds(self.now);
        let resource = key.kind.resource();
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = resource.name.into();
        let metadata = map(&mut object, "metadata");
        metadata.insert("name".to_owned(), key.name.clone().into());
        if resource.namespaced {
            metadata.insert("namespace".to_owned(), key.namespace.clone().into());
        }
        metadata.insert("uid".to_owned(), uid.clone().into());
        metadata.insert("creationTimestamp".to_owned(), now.into());
        metadata.insert("generation".to_owned(), 1.into());
        metadata.shift_remove("deletionTimestamp");
        metadata.shift_remove("selfLink");
        if key.kind != Kind::Node
            && key.kind != Kind::Pod
            && let Some(object) = object.as_object_mut()
        {
            object.shift_remove("status");
        }
        live::defaults(key.kind, &mut object, &uid);
        let now = self.now;
        self.cluster.put(key, object, now);
        self.came_to_be(key, &uid);
    }

    /// The cluster as it is before anybody touched it.
    pub(crate) fn found_cluster(&mut self, spec: &KubernetesSpec) {
        if self.cluster.revision > 0 {
            return;
        }
        for name in ["default", "kube-system"]
            .into_iter()
            .map(str::to_owned)
            .chain(spec.namespaces.clone())
        {
            self.cluster_create(&Key::new(Kind::Namespace, "", &name), json!({}));
        }
        for node in spec.nodes() {
            let taints: Vec<Value> = node
                .taints
                .iter()
                .map(|taint| json!({"key": taint.key, "value": taint.value, "effect": taint.effect}))
                .collect();
            let mut node_labels = json!({"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"});
            for (key, value) in &node.labels {
                node_labels[key] = value.as_str().into();
            }
            let room = json!({"cpu": node.cpu, "memory": node.memory, "pods": node.pods.to_string()});
            let object = json!({
                "metadata": {"labels": node_labels},
                "spec": if taints.is_empty() { json!({}) } else { json!({"taints": taints}) },
                "status": {
                    "capacity": room, "allocatable": room,
                    "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}],
                    "nodeInfo": {"kubeletVersion": "v1.32.0", "operatingSystem": "linux", "architecture": "amd64"},
                },
            });
            self.cluster_create(&Key::new(Kind::Node, "", &node.name), object);
        }
        self.cluster.bad_images.extend(spec.bad_images.iter().cloned());
        for object in &spec.objects {
            let (group, _) = text(object, "/apiVersion").split_once('/').unwrap_or_default();
            let named = RESOURCES
                .iter()
                .find(|resource| resource.name == text(object, "/kind") && resource.group == group);
            let Some(resource) = named else {
                continue;
            };
            let namespace = match text(object, "/metadata/namespace") {
                _ if !resource.namespaced => "",
                "" => "default",
                given => given,
            };
            let space = Key::new(Kind::Namespace, "", namespace);
            if resource.namespaced && self.cluster.get(&space).is_none() {
                self.cluster_create(&space, json!({}));
            }
            let key = Key::new(resource.kind, namespace, text(object, "/metadata/name"));
            self.cluster_create(&key, object.clone());
        }
    }
}
