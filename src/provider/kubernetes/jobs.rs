//! What a Job is made from, and its making.
//!
//! # How a Job comes about
//! A CronJob's Job template, or the rendered template, is taken in the server's own words (JSON), so that a field which this version
//! does not know is kept. Over it come the claim's labels, on the Job and on its pod, and what the stack file says.

use std::collections::BTreeMap;

use futures::future;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    model::resource::{BatchSpec, ClaimLabels, KubernetesJob, Labels, Observed, TaskSpec},
    provider::{Claim, ProviderError},
};

use super::{
    Kubernetes,
    api::{Failed, Trace},
    list::{self, claimed},
};

/// The longest name of a Job: its pod gets a dash and five letters more, and that is its host name, of 63 at most.
const NAME_MAX: usize = 57;
/// How a Job says that a person, or we, made it from a CronJob: what `kubectl create job --from` writes.
const INSTANTIATE: &str = "cronjob.kubernetes.io/instantiate";
/// What the labels of a CronJob begin with that say which resource class it is for.
const CLASS: &str = "resource-class-";
/// Where a Job says what its batch is called.
pub(super) const NAME: &str = "runfleet/name";
/// Where a Job says what was bought.
pub(super) const TYPE: &str = "runfleet/type";
/// Where a Job says where it was bought.
pub(super) const LOCATION: &str = "runfleet/location";
/// Labels that the cluster puts on a Job's pods: those of another Job must not be copied.
const CLUSTERS_OWN: [&str; 5] = [
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/job-completion-index",
];
/// Keys of a Job's spec that belong to one that was made already, or to more than one pod.
const NOT_TAKEN: [&str; 6] = [
    "selector",
    "manualSelector",
    "suspend",
    "completionMode",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
];

type Object = Map<String, Value>;

/// What Jobs of a batch are made from.
#[derive(Clone, Debug, Default)]
pub(super) struct Blueprint {
    /// The Job's own labels and annotations.
    metadata: Object,
    /// Its spec.
    spec: Object,
    /// Whose it is.
    owner: Option<Value>,
    /// Which resource class it is for.
    class: Labels,
}

impl Blueprint {
    /// From a CronJob as the server tells it.
    pub(super) fn of_cronjob(cronjob: &Value) -> Result<Self, ProviderError> {
        let text = |path: &str| cronjob.pointer(path).and_then(Value::as_str);
        let name = text("/metadata/name").unwrap_or_default();
        let uid = text("/metadata/uid").unwrap_or_default();
        let template = cronjob.pointer("/spec/jobTemplate");
        let spec = template.and_then(|template| template.get("spec")?.as_object());
        let Some(spec) = spec else {
            return Err(not_a_template(&format!(
                "the CronJob {name:?} has no Job template"
            )));
        };
        let labels = cronjob.pointer("/metadata/labels").and_then(Value::as_object);
        let class = labels.into_iter().flatten();
        let class = class.filter(|(key, _)| key.starts_with(CLASS));
        let class = class.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        let metadata = template.and_then(|template| template.get("metadata")?.as_object());
        let mut metadata = metadata.cloned().unwrap_or_default();
        let annotations = object(&mut metadata, "annotations");
        annotations.insert(INSTANTIATE.to_owned(), json!("manual"));
        Ok(Self {
            metadata,
            spec: spec.clone(),
            // As `kubectl create job --from` does: not as its controller, which would clean up by the CronJob's own limits.
            owner: Some(json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": name, "uid": uid})),
            class: class.collect(),
        })
    }

    /// From the rendered template: a Job (`kind: Job`), a `PodTemplate`, or a pod template without a kind (`metadata` and `spec`).
    pub(super) fn of_text(text: &str) -> Result<Self, ProviderError> {
        // The engine's words quote the text.
        let document: Value = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map(|at| format!(", line {}", at.line()));
            not_a_template(&format!(
                "it is not one document of YAML{}",
                line.unwrap_or_default()
            ))
        })?;
        let Value::Object(mut document) = document else {
            return Err(not_a_template("it is no object"));
        };
        let kind = document.get("kind").and_then(Value::as_str).map(str::to_owned);
        let mut take = |key: &str| match document.remove(key) {
            Some(Value::Object(object)) => object,
            _ => Object::new(),
        };
        let blueprint = match kind.as_deref() {
            Some("Job") => Self {
                metadata: take("metadata"),
                spec: take("spec"),
                ..Self::default()
            },
            Some("PodTemplate") => Self {
                spec: Map::from_iter([("template".to_owned(), Value::Object(take("template")))]),
                ..Self::default()
            },
            None | Some("PodTemplateSpec") => Self {
                spec: Map::from_iter([(
                    "template".to_owned(),
                    json!({"metadata": take("metadata"), "spec": take("spec")}),
                )]),
                ..Self::default()
            },
            Some(other) => {
                return Err(not_a_template(&format!(
                    "its kind is {other:?}; write a Job, a PodTemplate, or a pod template without a kind"
                )));
            }
        };
        let containers = blueprint.spec.get("template");
        let containers = containers.and_then(|template| template.pointer("/spec/containers")?.as_array());
        if containers.is_none_or(Vec::is_empty) {
            return Err(not_a_template("it names no container"));
        }
        Ok(blueprint)
    }

    /// The body of one Job.
    pub(super) fn job(
        &self,
        name: &str,
        namespace: &str,
        claim: &ClaimLabels,
        batch: &BatchSpec,
        task: &KubernetesJob,
    ) -> Value {
        let mut labels = self.class.clone();
        labels.extend(claim.to_labels());
        let mut metadata = Object::new();
        metadata.insert("name".to_owned(), json!(name));
        metadata.insert("namespace".to_owned(), json!(namespace));
        for key in ["labels", "annotations"] {
            if let Some(own) = self.metadata.get(key) {
                metadata.insert(key.to_owned(), own.clone());
            }
        }
        put(object(&mut metadata, "labels"), &labels);
        let annotations = BTreeMap::from([
            (NAME.to_owned(), batch.each.name.clone()),
            (TYPE.to_owned(), batch.each.offering.machine_type.clone()),
            (LOCATION.to_owned(), batch.each.offering.location.clone()),
        ]);
        put(object(&mut metadata, "annotations"), &annotations);
        if let Some(owner) = &self.owner {
            metadata.insert("ownerReferences".to_owned(), json!([owner]));
        }
        let mut spec = self.spec.clone();
        for key in NOT_TAKEN {
            spec.remove(key);
        }
        // One Job is one runner, and one that ended is never started again: it would be another runner of the same name.
        for (key, value) in [("parallelism", 1), ("completions", 1), ("backoffLimit", 0)] {
            spec.insert(key.to_owned(), json!(value));
        }
        let ttl = task.ttl.as_secs().max(0);
        spec.insert("ttlSecondsAfterFinished".to_owned(), json!(ttl));
        if let Some(deadline) = task.deadline {
            let deadline = deadline.as_secs().max(1);
            spec.insert("activeDeadlineSeconds".to_owned(), json!(deadline));
        }
        // Its pod says the same: it is there for a while when its Job is gone.
        let template = object(&mut spec, "template");
        put(object(object(template, "metadata"), "annotations"), &annotations);
        dress(template, &labels, task);
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
    }
}

/// What the stack file says of a pod, on its template.
fn dress(template: &mut Object, labels: &Labels, task: &KubernetesJob) {
    let own = object(object(template, "metadata"), "labels");
    for key in CLUSTERS_OWN {
        own.remove(key);
    }
    put(own, labels);
    let pod = object(template, "spec");
    pod.entry("restartPolicy").or_insert_with(|| json!("Never"));
    if !task.node_selector.is_empty() {
        put(object(pod, "nodeSelector"), &task.node_selector);
    }
    if !task.tolerations.is_empty() {
        let have = pod.entry("tolerations").or_insert_with(|| json!([]));
        if let Value::Array(have) = have {
            have.extend(task.tolerations.iter().map(|toleration| json!(toleration)));
        }
    }
    let first = pod
        .get_mut("containers")
        .and_then(|all| all.get_mut(0)?.as_object_mut());
    let Some(first) = first else { return };
    let asked = [("cpu", &task.cpu), ("memory", &task.memory)];
    for (what, amount) in asked {
        let Some(amount) = amount else { continue };
        let resources = object(first, "resources");
        for bound in ["requests", "limits"] {
            object(resources, bound).insert(what.to_owned(), json!(amount));
        }
    }
}

/// The object under a key, made where there is none.
fn object<'a>(of: &'a mut Object, key: &str) -> &'a mut Object {
    let value = of.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value
        .as_object_mut()
        .unwrap_or_else(|| unreachable!("made an object above"))
}

fn put(into: &mut Object, values: &BTreeMap<String, String>) {
    for (key, value) in values {
        into.insert(key.clone(), json!(value));
    }
}

fn not_a_template(why: &str) -> ProviderError {
    ProviderError::Rejected {
        code: "template".to_owned(),
        why: format!("the pod template: {why}"),
    }
}

/// The name of a batch's Job by its number from 0: the same for the same claim, and a name of DNS.
pub(super) fn job_name(batch: &str, claim: &ClaimLabels, index: u32) -> String {
    let attempt = hex::encode(&Sha256::digest(claim.intent.as_str())[..4]);
    let suffix = format!("-{attempt}-{index}");
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = batch.chars().map(plain).collect();
    let name: String = name
        .trim_matches('-')
        .chars()
        .take(NAME_MAX - suffix.len())
        .collect();
    let name = name.trim_end_matches('-');
    format!("{}{suffix}", if name.is_empty() { "runner" } else { name })
}

/// Why labels cannot stand on an object of Kubernetes; none: they can.
fn unfit(labels: &Labels) -> Option<String> {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let good = |value: &str| {
        value.len() <= 63
            && edge(value.chars().next())
            && edge(value.chars().next_back())
            && value
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let bad = labels.iter().find(|(_, value)| !good(value))?;
    Some(format!("{:?} cannot be the value of the label {}", bad.1, bad.0))
}

impl Kubernetes {
    /// Makes a batch's Jobs. Those that were made are told; an error means that none was, or that none is known to be.
    pub(super) async fn create_batch(
        &self,
        claim: &Claim,
        batch: &BatchSpec,
    ) -> Result<Observed, ProviderError> {
        let Some(TaskSpec::Kubernetes(task)) = batch.each.task.as_deref() else {
            return Err(not_a_template("nothing says how it is started"));
        };
        if let Some(why) = unfit(&claim.labels.to_labels()) {
            return Err(ProviderError::Rejected {
                code: "label".to_owned(),
                why,
            });
        }
        let trace = Trace::default();
        let blueprint = self.blueprint(claim, task, &trace).await?;
        let (api, labels) = (&self.api, &claim.labels);
        let bodies: Vec<_> = (0..batch.count)
            .map(|index| {
                let name = job_name(&batch.each.name, labels, index);
                let body = blueprint.job(&name, api.namespace(), labels, batch, task);
                (name, body)
            })
            .collect();
        // Side by side: a batch is no more than ten.
        let mut calls = Vec::with_capacity(bodies.len());
        for (name, body) in &bodies {
            calls.push(self.create_job(name, body, labels, &trace));
        }
        let made = future::join_all(calls).await;
        claim.accepted.tell();
        let (mut jobs, mut errors) = (Vec::new(), Vec::new());
        for answer in made {
            match answer {
                Ok(job) => jobs.push(job),
                Err(error) => errors.push(error),
            }
        }
        if jobs.is_empty() {
            // One that may be there outweighs those that certainly are not.
            let doubtful = errors.iter().position(|error| !error.is_definite()).unwrap_or(0);
            return Err(if errors.is_empty() {
                not_a_template("a batch of none")
            } else {
                errors.swap_remove(doubtful)
            });
        }
        for error in errors {
            tracing::warn!(%error, batch = batch.each.name, made = jobs.len(), wanted = batch.count, "not all of a batch was made");
        }
        list::one_batch(&self.profile.name, jobs, &trace)
    }

    async fn blueprint(
        &self,
        claim: &Claim,
        task: &KubernetesJob,
        trace: &Trace,
    ) -> Result<Blueprint, ProviderError> {
        let Some(name) = &task.cronjob else {
            let Some(text) = &claim.user_data else {
                return Err(not_a_template("there is none"));
            };
            return Blueprint::of_text(text.expose_secret());
        };
        let read = self.api.read_whole::<CronJob>(name, trace).await;
        match read.map_err(Failed::of_read)? {
            Some(cronjob) => Blueprint::of_cronjob(&cronjob),
            None => Err(ProviderError::Rejected {
                code: "NotFound".to_owned(),
                why: format!(
                    "there is no CronJob {name:?} in the namespace {}",
                    self.api.namespace()
                ),
            }),
        }
    }

    async fn create_job(
        &self,
        name: &str,
        body: &Value,
        labels: &ClaimLabels,
        trace: &Trace,
    ) -> Result<Job, ProviderError> {
        let failed = match self.api.create(body, trace).await {
            Ok(job) => return Ok(job),
            Err(failed) => failed,
        };
        let taken = failed.is_taken();
        let error = failed.of_write();
        if !taken && error.is_definite() {
            return Err(error);
        }
        // It is there already, or may be: the name tells.
        match self.api.read::<Job>(name, trace).await {
            Ok(Some(job)) if claimed(&job).as_ref() == Some(labels) => {
                tracing::debug!(name, "adopted");
                Ok(job)
            }
            Ok(Some(_)) => Err(ProviderError::Rejected {
                code: "name_taken".to_owned(),
                why: format!("the namespace has a Job named {name:?} that is not of this attempt"),
            }),
            // Not found, or not to be known: it may appear yet.
            Ok(None) | Err(_) if taken => Err(ProviderError::Ambiguous {
                why: format!("a Job named {name:?} was said to be there, and is not to be seen"),
            }),
            Ok(None) | Err(_) => Err(error),
        }
    }
}
