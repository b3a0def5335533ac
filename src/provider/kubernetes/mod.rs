//! Jobs of a Kubernetes cluster: containers that run once, each a runner.
//!
//! # How the `kube` crate is used
//! It builds the requests, says who asks (a token, a file of one, a kubeconfig's plug-in), and its types and those of `k8s-openapi` read
//! Jobs and pods. What is sent goes through [`net::Client`](crate::net::Client); see `transport`.
//!
//! # Guarantees
//! - A Job's name follows from its claim and its number: a create whose answer was lost, or that says that the name is taken, looks the
//!   name up and adopts the Job if it is of this attempt. Repeated, a create never makes more than its batch counts.
//! - A Job has one pod, once: `parallelism` and `completions` are 1, `backoffLimit` is 0, whatever its template says.
//! - A delete names the Job by its uid too: another Job that got its name since is not touched. Its pod goes behind it, with its
//!   grace period, and is listed as on its way out until it is gone.
//! - A pod in which nothing has run is removed only if it is still as it was seen; one that has started meanwhile stays.
//! - Nothing but Jobs, and such pods of theirs, is made, changed or removed. CronJobs are read, never started or resumed.
//! - A call ends within [`CALL_TIMEOUT`].
//!
//! # Assumptions
//! - The credential may do in the namespace what [`VERBS`] says; `validate --online` asks the cluster.
//!
//! # Caveats
//! - A plug-in of a kubeconfig that gives a certificate instead of a token is not understood.
//! - A Job whose pod the API server refuses to make (an admission webhook) tells so by an event only: it is shown as one without a pod.
//! - Labels that a mutating webhook takes off are lost, and with them the Job's claim.

mod access;
mod api;
mod check;
mod jobs;
mod list;
mod members;
mod offerings;
#[cfg(test)]
mod tests;
mod transport;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use futures::future;
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::CronJob;

use crate::{
    model::{
        ids::{ProviderName, ResourceKind, StackName},
        money::{Billing, Currency},
        resource::{
            Identity, JobTemplate, Labels, Listing, Observed, ProviderProfile, ResourceRef, ResourceSpec,
        },
    },
    stack::OfferingChoice,
};

use super::{Choice, Claim, Console, Offerings, Problem, Provider, ProviderError};
pub use access::{Access, AccessError, Kubeconfig};
use api::{Api, Failed, Trace};
pub use check::VERBS;

/// The longest that one call may take: ten Jobs are made side by side, and each is a write of milliseconds.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Jobs that one create makes at most.
pub const BATCH_SIZE: usize = 10;

/// Objects on one page of a listing: what `kubectl` asks for.
pub const PAGE: u32 = 500;

/// The most bytes of a pod template: what etcd takes of one object (1.5 MiB) and no more than is ever of use.
const TEMPLATE_LIMIT: usize = 256 * 1024;

/// How long a runner in a pod is given to end: a pod's grace period.
const DELETE_TIME: SignedDuration = SignedDuration::from_secs(30);

/// The API server reads what it wrote; its own caches of lists follow within this.
const SETTLE: SignedDuration = SignedDuration::from_secs(10);

/// Lines of a pod's log that are shown.
const LOG_LINES: u32 = 2_000;

/// What a stack wants of its cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace.
    pub namespace: String,
    /// What the place is called: the kubeconfig's context, or `cluster`.
    pub place: String,
    /// What may be bought there, each with its place in the stack file: `pools.linux.offerings[0]`.
    pub choices: Vec<(String, OfferingChoice)>,
    /// Whether pools are found by CronJobs.
    pub discovers: bool,
    /// What is spoken of in prices where the stack file gives none.
    pub currency: Currency,
    /// Calls at once.
    pub concurrency: usize,
    /// Requests an hour; none: the cluster's own fairness is enough.
    pub requests_per_hour: Option<u32>,
    /// Objects on one page of a listing: [`PAGE`].
    pub page: u32,
}

/// The Jobs of one namespace.
pub struct Kubernetes {
    profile: ProviderProfile,
    api: Api,
    options: Options,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes")
            .field("name", &self.profile.name)
            .field("namespace", &self.options.namespace)
            .finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// A provider under this name of the stack file, that asks through this client. Calls nobody yet.
    pub fn new(name: ProviderName, client: kube::Client, options: Options) -> Self {
        let profile = ProviderProfile {
            name,
            kind: "kubernetes".to_owned(),
            identity: Identity::Batch,
            billing: Billing::PerSecond {
                minimum: SignedDuration::ZERO,
                least: None,
            },
            concurrency: options.concurrency.max(1),
            batch_size: BATCH_SIZE,
            user_data_limit: TEMPLATE_LIMIT,
            requests_per_hour: options.requests_per_hour,
            group_size: None,
            settle: SETTLE,
            call_timeout: SignedDuration::try_from(CALL_TIMEOUT).unwrap_or(SignedDuration::from_secs(60)),
            delete_time: DELETE_TIME,
        };
        Self {
            profile,
            api: Api::new(client, options.namespace.clone(), options.page),
            options,
        }
    }

    async fn create_one(&self, claim: &Claim) -> Result<Observed, ProviderError> {
        match &claim.spec {
            ResourceSpec::Batch(batch) => self.create_batch(claim, batch).await,
            other => Err(unsupported(&format!("making a {}", other.kind()))),
        }
    }

    async fn put_labels(&self, have: &Observed, labels: &Labels) -> Result<Observed, ProviderError> {
        let trace = Trace::default();
        let names = match have.target.kind {
            ResourceKind::Batch => self.jobs_of(have.target.id.as_str(), &trace).await?,
            ResourceKind::Machine => vec![(have.target.id.to_string(), None)],
            other => return Err(unsupported(other.as_str())),
        };
        if names.is_empty() {
            return Err(absent(&have.target));
        }
        for (name, _) in &names {
            match self.api.label(name, labels, &trace).await {
                Ok(_) => {}
                // One that ended may be cleaned up meanwhile.
                Err(failed) if failed.is_absent() && have.target.kind == ResourceKind::Batch => {}
                Err(failed) => return Err(failed.of_write()),
            }
        }
        // Another attempt's name may be among the labels.
        let mut target = have.target.clone();
        if let (ResourceKind::Batch, Some(intent)) = (target.kind, labels.get(list::INTENT)) {
            target.id = intent.as_str().into();
        }
        let seen = self.read_one(&target).await?;
        seen.ok_or_else(|| absent(&target))
    }

    async fn delete_one(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let trace = Trace::default();
        let id = target.id.as_str();
        match target.kind {
            ResourceKind::Machine => {
                let read = self
                    .api
                    .read::<k8s_openapi::api::batch::v1::Job>(id, &trace)
                    .await;
                let Some(job) = read.map_err(Failed::of_read)? else {
                    return Ok(());
                };
                // A runner that starts in this moment may claim a task at once: a pod in which nothing has run goes only as it was
                // seen, before its Job does.
                let pod = self.pod_of(id, &trace).await?;
                if let Some(pod) = pod.filter(members::never_ran) {
                    let gone = self.api.delete_pod_as_seen(&pod, &trace).await;
                    if !gone.map_err(Failed::of_write)? {
                        return Err(ProviderError::Rejected {
                            code: "started".to_owned(),
                            why: format!("the pod of {id} has changed meanwhile: it is looked at again"),
                        });
                    }
                }
                let uid = job.metadata.uid.as_deref();
                self.api.delete(id, uid, &trace).await.map_err(Failed::of_write)
            }
            ResourceKind::Batch => {
                let jobs = self.jobs_of(id, &trace).await?;
                let mut calls = Vec::with_capacity(jobs.len());
                for (name, uid) in &jobs {
                    calls.push(self.api.delete(name, uid.as_deref(), &trace));
                }
                let failed = future::join_all(calls).await.into_iter().find_map(Result::err);
                failed.map_or(Ok(()), |failed| Err(failed.of_write()))
            }
            other => Err(unsupported(&format!("removing a {other}"))),
        }
    }

    async fn templates(&self) -> Result<Vec<JobTemplate>, ProviderError> {
        let trace = Trace::default();
        let selector = "resource-class-org,resource-class-name";
        let read = self
            .api
            .list::<CronJob>(selector, &trace)
            .await
            .map_err(Failed::of_read)?;
        if let Some(why) = read.flaw {
            return Err(ProviderError::Unavailable { why });
        }
        let mut found = Vec::new();
        for cronjob in read.rows {
            let Some(name) = cronjob.metadata.name else {
                continue;
            };
            // One that runs by itself is somebody's schedule, and no template.
            if cronjob.spec.and_then(|spec| spec.suspend) != Some(true) {
                tracing::warn!(
                    name,
                    "a CronJob with the labels of a resource class is not suspended, and is left alone"
                );
                continue;
            }
            found.push(JobTemplate {
                name,
                labels: cronjob.metadata.labels.unwrap_or_default(),
            });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    async fn read_log(&self, target: &ResourceRef) -> Result<Console, ProviderError> {
        if target.kind != ResourceKind::Machine {
            return Err(unsupported("showing the log of more than one Job"));
        }
        let trace = Trace::default();
        let Some(pod) = self.pod_name(target.id.as_str(), &trace).await? else {
            return Ok(Console::default());
        };
        let log = self.api.log(&pod, LOG_LINES, &trace).await;
        Ok(Console {
            text: log.map_err(Failed::of_read)?.unwrap_or_default(),
            at: trace.now().ok(),
        })
    }
}

/// What should be changed is not there.
fn absent(target: &ResourceRef) -> ProviderError {
    ProviderError::Rejected {
        code: "not_found".to_owned(),
        why: format!("there is no {target}"),
    }
}

fn unsupported(what: &str) -> ProviderError {
    ProviderError::Unsupported {
        what: what.to_owned(),
    }
}

/// Bounds a call as a whole.
async fn within<T>(
    call: impl Future<Output = Result<T, ProviderError>>,
    late: fn(String) -> ProviderError,
) -> Result<T, ProviderError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(late(format!("not done within {} s", CALL_TIMEOUT.as_secs()))),
    }
}

fn unavailable(why: String) -> ProviderError {
    ProviderError::Unavailable { why }
}

fn ambiguous(why: String) -> ProviderError {
    ProviderError::Ambiguous { why }
}

#[async_trait]
impl Provider for Kubernetes {
    fn profile(&self) -> &ProviderProfile {
        &self.profile
    }

    /// What the stack file names: a cluster sells nothing.
    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        Ok(self.named_offerings())
    }

    async fn list(&self, stack: &StackName) -> Result<Listing, ProviderError> {
        within(Box::pin(self.list_jobs(Some(stack))), unavailable).await
    }

    async fn list_all(&self) -> Result<Listing, ProviderError> {
        within(Box::pin(self.list_jobs(None)), unavailable).await
    }

    async fn read(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        within(Box::pin(self.read_one(target)), unavailable).await
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        let each = claims
            .iter()
            .map(|claim| within(Box::pin(self.create_one(claim)), ambiguous));
        future::join_all(each).await
    }

    async fn update(&self, have: &Observed, _: &ResourceSpec) -> Result<Observed, ProviderError> {
        Err(unsupported(&format!("changing a {}", have.target.kind)))
    }

    async fn relabel(&self, have: &Observed, labels: &Labels) -> Result<Observed, ProviderError> {
        within(Box::pin(self.put_labels(have, labels)), ambiguous).await
    }

    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        within(Box::pin(self.delete_one(target)), ambiguous).await
    }

    async fn job_templates(&self) -> Result<Vec<JobTemplate>, ProviderError> {
        within(Box::pin(self.templates()), unavailable).await
    }

    async fn console(&self, target: &ResourceRef) -> Result<Console, ProviderError> {
        within(Box::pin(self.read_log(target)), unavailable).await
    }

    async fn check(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        within(Box::pin(self.check_cluster(choices)), unavailable).await
    }
}
