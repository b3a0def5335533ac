//! Reading: the Jobs of a stack with their pods, as batches, and one of them.
//!
//! Pods are listed before Jobs: a Job that is made in between has no pod yet, and a pod whose Job is missing is one whose Job was
//! deleted, and which is on its way out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    model::{
        ids::{CloudId, ProviderName, ResourceKind, StackName},
        offering::{Market, OfferingKey},
        resource::{ClaimLabels, CloudStatus, Completeness, Labels, Listing, Member, Observed, ResourceRef},
    },
    provider::ProviderError,
};

use super::{
    Kubernetes,
    api::{Failed, Trace},
    jobs::{LOCATION, NAME, TYPE},
    members::{self, Seen},
};

/// The label of an attempt.
pub(super) const INTENT: &str = "runfleet-intent";

/// Pods by the Job that they are of, and whether that is all.
struct Pods {
    of: BTreeMap<String, Pod>,
    whole: bool,
}

impl Kubernetes {
    /// What carries a stack's label: this stack's, or any.
    pub(super) async fn list_jobs(&self, stack: Option<&StackName>) -> Result<Listing, ProviderError> {
        let selector = match stack {
            Some(stack) => format!("{}={stack}", ClaimLabels::STACK),
            None => ClaimLabels::STACK.to_owned(),
        };
        let trace = Trace::default();
        let (resources, flaws) = self.gather(&selector, &trace).await?;
        // Nothing else, even if the server forgets the selector.
        let ours = |seen: &Observed| {
            let carried = seen.labels.get(ClaimLabels::STACK);
            carried.is_some_and(|carried| stack.is_none_or(|stack| carried == stack.as_str()))
        };
        Ok(Listing {
            resources: resources.into_iter().filter(ours).collect(),
            completeness: match flaws.as_slice() {
                [] => Completeness::Complete,
                flaws => Completeness::partial(flaws.join("; ")),
            },
            now: trace.now()?,
            calls: trace.calls(),
        })
    }

    /// What fits a selector, and why that may not be all. An error where the Jobs could not be read at all.
    async fn gather(
        &self,
        selector: &str,
        trace: &Trace,
    ) -> Result<(Vec<Observed>, Vec<String>), ProviderError> {
        let mut flaws = Vec::new();
        let pods = match self.api.list::<Pod>(selector, trace).await {
            Ok(read) => {
                flaws.extend(read.flaw.as_ref().map(|flaw| format!("the pods: {flaw}")));
                by_job(read.rows, read.flaw.is_none())
            }
            Err(failed) => {
                flaws.push(format!("the pods: {}", failed.of_read()));
                by_job(Vec::new(), false)
            }
        };
        let jobs = self
            .api
            .list::<Job>(selector, trace)
            .await
            .map_err(Failed::of_read)?;
        let whole = jobs.flaw.is_none();
        flaws.extend(jobs.flaw.map(|flaw| format!("the Jobs: {flaw}")));
        Ok((batches(&self.profile.name, jobs.rows, pods, whole), flaws))
    }

    /// A batch by its attempt, or one of its Jobs by its name.
    pub(super) async fn read_one(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        let (trace, id) = (Trace::default(), target.id.as_str());
        match target.kind {
            ResourceKind::Batch => {
                let selector = format!("{INTENT}={id}");
                let (seen, flaws) = self.gather(&selector, &trace).await?;
                let found = seen.into_iter().find(|seen| seen.target == *target);
                match flaws.first() {
                    // Absent only if all was seen.
                    Some(why) if found.is_none() => Err(ProviderError::Unavailable { why: why.clone() }),
                    _ => Ok(found),
                }
            }
            ResourceKind::Machine => {
                let read = self.api.read::<Job>(id, &trace).await.map_err(Failed::of_read)?;
                let Some(job) = read else { return Ok(None) };
                let pods = self.pods_of(id, &trace).await?;
                Ok(Some(machine(&self.profile.name, &job, &pods)))
            }
            other => Err(super::unsupported(other.as_str())),
        }
    }

    async fn pods_of(&self, job: &str, trace: &Trace) -> Result<Pods, ProviderError> {
        let selector = format!("job-name={job}");
        let read = self
            .api
            .list::<Pod>(&selector, trace)
            .await
            .map_err(Failed::of_read)?;
        Ok(by_job(read.rows, read.flaw.is_none()))
    }

    /// The newest pod of a Job; none: it has none.
    pub(super) async fn pod_of(&self, job: &str, trace: &Trace) -> Result<Option<Pod>, ProviderError> {
        Ok(self.pods_of(job, trace).await?.of.remove(job))
    }

    /// Its name.
    pub(super) async fn pod_name(&self, job: &str, trace: &Trace) -> Result<Option<String>, ProviderError> {
        Ok(self.pod_of(job, trace).await?.and_then(|pod| pod.metadata.name))
    }

    /// The Jobs of an attempt by name, each with its uid.
    pub(super) async fn jobs_of(
        &self,
        intent: &str,
        trace: &Trace,
    ) -> Result<Vec<(String, Option<String>)>, ProviderError> {
        let selector = format!("{},{INTENT}={intent}", ClaimLabels::STACK);
        let read = self
            .api
            .list::<Job>(&selector, trace)
            .await
            .map_err(Failed::of_read)?;
        if let Some(why) = read.flaw {
            return Err(ProviderError::Unavailable { why });
        }
        let named = read
            .rows
            .into_iter()
            .filter(|job| carried(&job.metadata, INTENT) == Some(intent));
        Ok(named
            .filter_map(|job| Some((job.metadata.name?, job.metadata.uid)))
            .collect())
    }
}

/// What was made by one create.
pub(super) fn one_batch(
    provider: &ProviderName,
    jobs: Vec<Job>,
    _: &Trace,
) -> Result<Observed, ProviderError> {
    // Just made: no pod was looked for, and none is missing.
    let pods = by_job(Vec::new(), true);
    let mut seen = batches(provider, jobs, pods, true);
    seen.pop().ok_or_else(|| ProviderError::Malformed {
        why: "the Jobs that were made carry no claim".to_owned(),
    })
}

/// What these Jobs and pods would be told as.
#[cfg(test)]
pub(super) fn by_hand(
    provider: &str,
    jobs: serde_json::Value,
    pods: serde_json::Value,
    whole: bool,
) -> Vec<Observed> {
    let jobs = serde_json::from_value(jobs).unwrap_or_default();
    let pods = serde_json::from_value(pods).unwrap_or_default();
    batches(&provider.into(), jobs, by_job(pods, true), whole)
}

/// The newest pod of each Job.
fn by_job(pods: Vec<Pod>, whole: bool) -> Pods {
    let mut of: BTreeMap<String, Pod> = BTreeMap::new();
    for pod in pods {
        let Some(job) = job_of(&pod) else { continue };
        match of.get(&job) {
            Some(other) if created(&other.metadata) >= created(&pod.metadata) => {}
            _ => {
                of.insert(job, pod);
            }
        }
    }
    Pods { of, whole }
}

/// The Job that a pod is of.
fn job_of(pod: &Pod) -> Option<String> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let mut owners = owners.filter(|owner| owner.kind == "Job");
    let owner = owners.next().map(|owner| owner.name.clone());
    owner.or_else(|| {
        let label = |key| carried(&pod.metadata, key).map(str::to_owned);
        label("batch.kubernetes.io/job-name").or_else(|| label("job-name"))
    })
}

/// Jobs and their pods as batches; what carries no claim stands alone.
fn batches(provider: &ProviderName, jobs: Vec<Job>, mut pods: Pods, whole: bool) -> Vec<Observed> {
    let mut grouped: BTreeMap<String, Observed> = BTreeMap::new();
    let mut alone = Vec::new();
    for job in jobs {
        let Some(name) = job.metadata.name.as_deref() else {
            continue;
        };
        let Some(claim) = claimed(&job) else {
            alone.push(machine(provider, &job, &pods));
            pods.of.remove(name);
            continue;
        };
        let pod = pods.of.remove(name);
        let seen = Seen {
            pod: pod.as_ref(),
            unread: !pods.whole,
        };
        let member = member(provider, &job, seen);
        add(&mut grouped, provider, &claim, &job.metadata, member);
    }
    for (job, pod) in pods.of {
        // Without its Job it is on its way out, unless that Job was not read.
        if members::is_over(&pod) || !(whole || pod.metadata.deletion_timestamp.is_some()) {
            continue;
        }
        if let Some(claim) = ClaimLabels::from_labels(&labels(&pod.metadata)) {
            let member = Member {
                id: CloudId::new(job),
                status: CloudStatus::Deleting,
                created_at: created(&pod.metadata),
                offering: offering(provider, &pod.metadata),
                addresses: members::addresses(&pod),
                protected: false,
                lifecycle: "its Job was deleted".to_owned(),
                hostname: members::hostname(&pod),
            };
            add(&mut grouped, provider, &claim, &pod.metadata, member);
        }
    }
    let done = grouped.into_values().map(|mut batch| {
        batch.size = u32::try_from(batch.members.len()).ok();
        batch.status = status(&batch.members);
        batch
    });
    done.chain(alone).collect()
}

fn add(
    grouped: &mut BTreeMap<String, Observed>,
    provider: &ProviderName,
    claim: &ClaimLabels,
    metadata: &ObjectMeta,
    member: Member,
) {
    let intent = claim.intent.to_string();
    let batch = grouped.entry(intent.clone()).or_insert_with(|| Observed {
        target: ResourceRef {
            provider: provider.clone(),
            kind: ResourceKind::Batch,
            id: CloudId::new(intent),
        },
        name: annotation(metadata, NAME).unwrap_or(&claim.id).to_owned(),
        labels: labels(metadata),
        status: CloudStatus::Pending,
        created_at: member.created_at,
        offering: None,
        addresses: Vec::new(),
        rules: None,
        public_key: None,
        network: None,
        uses: None,
        size: None,
        members: Vec::new(),
        group: None,
    });
    batch.created_at = batch.created_at.min(member.created_at);
    batch.offering = batch.offering.take().or_else(|| member.offering.clone());
    batch.members.push(member);
}

/// What a batch is doing: what the liveliest of its Jobs is.
fn status(members: &[Member]) -> CloudStatus {
    let any = |what: fn(&CloudStatus) -> bool| members.iter().any(|member| what(&member.status));
    if any(|status| matches!(status, CloudStatus::Running | CloudStatus::Unknown(_))) {
        CloudStatus::Running
    } else if any(|status| matches!(status, CloudStatus::Pending)) {
        CloudStatus::Pending
    } else if any(|status| matches!(status, CloudStatus::Deleting)) {
        CloudStatus::Deleting
    } else {
        CloudStatus::Ended(None)
    }
}

fn member(provider: &ProviderName, job: &Job, seen: Seen<'_>) -> Member {
    let (status, lifecycle) = members::status(job, seen);
    Member {
        id: CloudId::new(job.metadata.name.clone().unwrap_or_default()),
        status,
        created_at: created(&job.metadata),
        offering: offering(provider, &job.metadata),
        addresses: seen.pod.map(members::addresses).unwrap_or_default(),
        protected: false,
        lifecycle,
        hostname: seen.pod.and_then(members::hostname),
    }
}

/// One Job as a resource of its own.
fn machine(provider: &ProviderName, job: &Job, pods: &Pods) -> Observed {
    let name = job.metadata.name.clone().unwrap_or_default();
    let seen = Seen {
        pod: pods.of.get(&name),
        unread: !pods.whole,
    };
    let member = member(provider, job, seen);
    Observed {
        target: ResourceRef {
            provider: provider.clone(),
            kind: ResourceKind::Machine,
            id: member.id,
        },
        name,
        labels: labels(&job.metadata),
        status: member.status,
        created_at: member.created_at,
        offering: member.offering,
        addresses: member.addresses,
        rules: None,
        public_key: None,
        network: None,
        uses: None,
        size: None,
        members: Vec::new(),
        group: None,
    }
}

/// Whose a Job is.
pub(super) fn claimed(job: &Job) -> Option<ClaimLabels> {
    ClaimLabels::from_labels(&labels(&job.metadata))
}

fn labels(metadata: &ObjectMeta) -> Labels {
    metadata.labels.clone().unwrap_or_default()
}

pub(super) fn carried<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn offering(provider: &ProviderName, metadata: &ObjectMeta) -> Option<OfferingKey> {
    Some(OfferingKey {
        provider: provider.clone(),
        location: annotation(metadata, LOCATION)?.to_owned(),
        machine_type: annotation(metadata, TYPE)?.to_owned(),
        market: Market::OnDemand,
    })
}

fn created(metadata: &ObjectMeta) -> Timestamp {
    metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}
