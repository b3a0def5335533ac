//! Tasks of Amazon ECS on Fargate: containers that run once, started in batches of up to ten by one call.
//!
//! # Expected flow
//! A create registers the rendered task definition where its family's newest revision is another, and starts the batch by one
//! `RunTask` with the attempt's nonce as its token. A listing lists the cluster's tasks and describes them with their tags.
//! A delete stops.
//!
//! # Guarantees
//! - Nothing but tasks that carry a label of ours is told, and nothing is stopped that was not told or started by us.
//! - No value of a task definition is in an error or a log. Secrets are referred to, and fetched by Fargate.
//! - A call ends within [`CALL_TIMEOUT`].
//!
//! # Assumptions
//! - A runner is called what its container calls itself: its id where it has a private address only, and the name of its network
//!   interface where it has a public one. A template whose runner takes another name is found by nobody.
//!
//! # Caveats
//! - Task definitions stay: a revision costs nothing, and one that a start refers to must not go. So does a cluster that was made.
//! - Tasks are not protected while they are busy. `UpdateTaskProtection` keeps a *service* from ending its tasks and is refused
//!   for those of no service (API reference: `TASK_NOT_VALID`); nothing of Amazon's ends these, but the spot market.
//! - A log group is made by Fargate, with the task's execution role (`awslogs-create-group`), and not by us.
//! - The cluster is this provider's for good: tasks of another one that the stack file named before are not seen any more.

mod api;
mod check;
mod document;
mod list;
mod meaning;
mod rates;
mod size;
mod start;
mod wire;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_ecs::types::Task;
use futures::future;
use jiff::{SignedDuration, Timestamp};
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    model::{
        ids::{ResourceKind, StackName},
        money::Billing,
        resource::{Identity, Labels, Listing, Observed, ProviderProfile, ResourceRef, ResourceSpec},
    },
    provider::{Choice, Claim, Offerings, Problem, Provider, ProviderError},
    stack::{EcsHome, OfferingChoice},
};

use super::{Access, Clock, Config, calls::Failed};
pub use api::ACTIONS;
use api::{Api, NO_CLUSTER};
use document::Logs;
use rates::Rates;
use wire::Place;

/// The longest that one call may take: starting a batch is four calls to Amazon at most, each with its retries.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// How long parts of ECS may not know what others do. Source: ECS API reference, `RunTask`: back off up to about five minutes.
const SETTLE: Duration = Duration::from_secs(300);

/// From a stop to its being paid for no more: the container has 30 s to end, unless its definition says otherwise.
const DELETE_TIME: SignedDuration = SignedDuration::from_secs(60);

/// How many tasks one call starts at most (API reference, `RunTask`).
const BATCH: usize = 10;

/// The most bytes of a task definition (ECS developer guide, "Service quotas").
const DOCUMENT_LIMIT: usize = 64 * 1024;

/// What the stack says of this provider beyond what lets it in.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where tasks run.
    pub home: EcsHome,
    /// What the stack's pools may buy of it: only that is priced.
    pub choices: Vec<OfferingChoice>,
}

/// ECS on Fargate, in one cluster of one account and region.
#[derive(Debug)]
pub struct Ecs {
    profile: ProviderProfile,
    region: String,
    api: Api,
    rates: Rates,
    home: EcsHome,
    logs: Option<Logs>,
    choices: Vec<OfferingChoice>,
    /// Whether the cluster was looked at.
    cluster: OnceCell<()>,
    /// ARNs of task definitions, by family and digest.
    definitions: tokio::sync::Mutex<BTreeMap<(String, String), String>>,
    /// Tasks that were started within the last [`SETTLE`]: by which attempt, and when.
    recent: Mutex<BTreeMap<String, (String, Instant)>>,
}

impl Ecs {
    /// A provider under the configured name. Calls nobody yet.
    ///
    /// # Errors
    /// As [`Access::load`].
    pub async fn new(config: Config, options: Options) -> Result<Self, ProviderError> {
        let access = Access::load(&config).await?;
        let seconds =
            |time: Duration| SignedDuration::try_from(time).unwrap_or(SignedDuration::from_secs(120));
        let profile = ProviderProfile {
            name: config.name.clone(),
            kind: "ecs".to_owned(),
            identity: Identity::Batch,
            // Linux on Fargate (its pricing page): by the second from the image's pull on, a minute at least.
            billing: Billing::PerSecond {
                minimum: SignedDuration::from_secs(60),
                least: None,
            },
            concurrency: config.concurrency.max(1),
            batch_size: BATCH,
            user_data_limit: DOCUMENT_LIMIT,
            // Amazon throttles by buckets, which refill by the second.
            requests_per_hour: None,
            group_size: None,
            settle: seconds(SETTLE),
            call_timeout: seconds(CALL_TIMEOUT),
            delete_time: DELETE_TIME,
        };
        let home = options.home;
        Ok(Self {
            api: Api::new(&access, config.concurrency, &home.cluster),
            rates: Rates::new(&access),
            logs: home.log_group.clone().map(|group| Logs {
                group,
                region: access.region.clone(),
                create: home.create,
            }),
            region: access.region,
            profile,
            home,
            choices: options.choices,
            cluster: OnceCell::new(),
            definitions: tokio::sync::Mutex::default(),
            recent: Mutex::default(),
        })
    }

    fn place(&self, now: Timestamp) -> Place<'_> {
        Place {
            provider: &self.profile.name,
            region: &self.region,
            now,
        }
    }

    fn recent(&self) -> MutexGuard<'_, BTreeMap<String, (String, Instant)>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, (_, at)| at.elapsed() < SETTLE);
        recent
    }

    /// That these were started just now: ECS may not know of them everywhere yet.
    fn remember(&self, intent: &str, tasks: &[Task]) {
        let ids = tasks.iter().filter_map(|task| Some(wire::id(task)?.to_owned()));
        let now = Instant::now();
        self.recent().extend(ids.map(|id| (id, (intent.to_owned(), now))));
    }

    /// What this attempt started within the last [`SETTLE`].
    fn just_started(&self, intent: &str) -> Vec<String> {
        let recent = self.recent();
        let own = recent.iter().filter(|(_, (by, _))| by == intent);
        own.map(|(id, _)| id.clone()).collect()
    }

    /// Stops one task. One that is gone is stopped; one that ECS does not know of yet is not.
    async fn stop(&self, id: &str) -> Result<(), ProviderError> {
        match self.api.stop(id).await {
            Ok(()) => Ok(()),
            Err(failed) if is_gone(&failed) && self.recent().contains_key(id) => {
                Err(ProviderError::Unavailable {
                    why: format!("{id} was started just now, and ECS does not know of it yet"),
                })
            }
            Err(failed) if is_gone(&failed) => Ok(()),
            Err(failed) => Err(meaning::of(failed)),
        }
    }

    /// Stops all of an attempt's.
    async fn stop_batch(&self, intent: &str) -> Result<(), ProviderError> {
        let found = self.by_attempt(intent, &Clock::default()).await?;
        let mut ids: Vec<String> = found
            .iter()
            .filter_map(|task| Some(wire::id(task)?.to_owned()))
            .collect();
        ids.extend(self.just_started(intent));
        ids.sort_unstable();
        ids.dedup();
        let stopped = future::join_all(ids.iter().map(|id| self.stop(id))).await;
        stopped.into_iter().collect()
    }

    async fn create_one(&self, claim: &Claim) -> Result<Observed, ProviderError> {
        match &claim.spec {
            ResourceSpec::Batch(batch) => within(Box::pin(self.start_batch(claim, batch)), ambiguous).await,
            other => Err(unsupported(&format!("making a {}", other.kind()))),
        }
    }
}

/// Whether there is no such task, or none any more.
fn is_gone(failed: &Failed) -> bool {
    let says = |error: &ProviderError| matches!(error, ProviderError::Rejected { why, .. } if why.to_ascii_lowercase().contains("not found"));
    failed.is(NO_CLUSTER) || (failed.is("InvalidParameterException") && says(&failed.error))
}

fn unsupported(what: &str) -> ProviderError {
    ProviderError::Unsupported {
        what: what.to_owned(),
    }
}

fn rejected(code: &str, why: String) -> ProviderError {
    ProviderError::Rejected {
        code: code.to_owned(),
        why,
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
impl Provider for Ecs {
    fn profile(&self) -> &ProviderProfile {
        &self.profile
    }

    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        within(Box::pin(self.read_offerings()), unavailable).await
    }

    async fn list(&self, stack: &StackName) -> Result<Listing, ProviderError> {
        within(Box::pin(self.list_batches(Some(stack))), unavailable).await
    }

    async fn list_all(&self) -> Result<Listing, ProviderError> {
        within(Box::pin(self.list_batches(None)), unavailable).await
    }

    async fn read(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        within(Box::pin(self.read_one(target)), unavailable).await
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        future::join_all(claims.iter().map(|claim| self.create_one(claim))).await
    }

    /// A task is what it was started as.
    async fn update(&self, _: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError> {
        Err(unsupported(&format!("changing a {}", want.kind())))
    }

    async fn relabel(&self, have: &Observed, labels: &Labels) -> Result<Observed, ProviderError> {
        within(Box::pin(self.label(have, labels)), ambiguous).await
    }

    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        match target.kind {
            ResourceKind::Machine => within(Box::pin(self.stop(target.id.as_str())), ambiguous).await,
            ResourceKind::Batch => within(Box::pin(self.stop_batch(target.id.as_str())), ambiguous).await,
            other => Err(unsupported(&format!("removing a {other}"))),
        }
    }

    async fn check(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        within(Box::pin(self.check_choices(choices)), unavailable).await
    }
}
