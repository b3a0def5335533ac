//! Reading: what the cluster's tasks are, as batches.
//!
//! Calls of a listing: one for each hundred tasks that run in the cluster and for each hundred that stopped within the last
//! hour or so, whoever's they are, and as many to describe them: `ListTasks` knows no tags. A task that stops between the two
//! listings is in the second.

use aws_sdk_ecs::types::{DesiredStatus, Task};

use crate::{
    model::{
        ids::{ResourceKind, StackName},
        resource::{Completeness, Labels, Listing, Observed, ResourceRef},
    },
    provider::{
        ProviderError,
        aws::{Clock, calls::Failed},
    },
};

use super::{Ecs, api::NO_CLUSTER, meaning, rejected, start::tag, unsupported, wire};

/// Tasks, and why they may not be all.
#[derive(Debug, Default)]
struct Seen {
    tasks: Vec<Task>,
    flaws: Vec<String>,
}

impl Ecs {
    /// The batches of a stack, or of any.
    pub(super) async fn list_batches(&self, stack: Option<&StackName>) -> Result<Listing, ProviderError> {
        let clock = Clock::default();
        let seen = match self.seen(&clock).await {
            Ok(seen) => seen,
            // Not made yet: there is nothing in it.
            Err(failed) if failed.is(NO_CLUSTER) && self.home.create => Seen::default(),
            Err(failed) if failed.is(NO_CLUSTER) => return Err(self.no_cluster()),
            Err(failed) => return Err(meaning::of(failed)),
        };
        let now = clock.now()?;
        Ok(Listing {
            resources: wire::batches(&seen.tasks, stack, self.place(now)),
            completeness: match seen.flaws.as_slice() {
                [] => Completeness::Complete,
                flaws => Completeness::partial(flaws.join("; ")),
            },
            now,
            calls: clock.calls(),
        })
    }

    async fn seen(&self, clock: &Clock) -> Result<Seen, Failed> {
        let mut flaws = Vec::new();
        let mut arns = Vec::new();
        let running = self.api.tasks(DesiredStatus::Running, clock).await?;
        let stopped = self.api.tasks(DesiredStatus::Stopped, clock).await;
        for (what, found) in [("running", Ok(running)), ("stopped", stopped)] {
            match found {
                Ok(pages) => {
                    arns.extend(pages.rows);
                    if let Completeness::Partial { why } = pages.completeness {
                        flaws.push(format!("the {what} tasks: {why}"));
                    }
                }
                Err(failed) => flaws.push(format!("the {what} tasks: {}", failed.error)),
            }
        }
        arns.sort_unstable();
        arns.dedup();
        let (tasks, missing) = self.api.describe(&arns, clock).await?;
        flaws.extend(missing);
        Ok(Seen { tasks, flaws })
    }

    pub(super) async fn read_one(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        match target.kind {
            ResourceKind::Batch => self.read_batch(target.id.as_str()).await,
            ResourceKind::Machine => self.read_task(target.id.as_str()).await,
            other => Err(unsupported(&format!("reading a {other}"))),
        }
    }

    /// An attempt's tasks: those that run are found by it, those that stopped among all that did.
    async fn read_batch(&self, intent: &str) -> Result<Option<Observed>, ProviderError> {
        let clock = Clock::default();
        let mut tasks = self.by_attempt(intent, &clock).await?;
        let stopped = match self.api.tasks(DesiredStatus::Stopped, &clock).await {
            Err(failed) if failed.is(NO_CLUSTER) => return Ok(None),
            stopped => stopped.map_err(meaning::of)?,
        };
        if let Completeness::Partial { why } = stopped.completeness {
            return Err(ProviderError::Unavailable { why });
        }
        let (others, flaws) = self
            .api
            .describe(&stopped.rows, &clock)
            .await
            .map_err(meaning::of)?;
        if let Some(why) = flaws.into_iter().next() {
            return Err(ProviderError::Unavailable { why });
        }
        tasks.extend(others);
        let seen = wire::batches(&tasks, None, self.place(clock.now()?));
        Ok(seen.into_iter().find(|seen| seen.target.id.as_str() == intent))
    }

    async fn read_task(&self, id: &str) -> Result<Option<Observed>, ProviderError> {
        let clock = Clock::default();
        let (tasks, flaws) = match self.api.describe(&[id.to_owned()], &clock).await {
            // What has not the form of an id is none: "Invalid identifier".
            Err(failed) if failed.is(NO_CLUSTER) || failed.is("InvalidParameterException") => {
                return Ok(None);
            }
            answer => answer.map_err(meaning::of)?,
        };
        if let Some(why) = flaws.into_iter().next() {
            return Err(ProviderError::Unavailable { why });
        }
        let now = clock.now()?;
        let found = tasks.iter().find(|task| wire::id(task) == Some(id));
        Ok(found.and_then(|task| wire::machine(task, self.place(now))))
    }

    /// Puts labels on each of an attempt's tasks that runs: those of others can no longer be changed.
    pub(super) async fn label(&self, have: &Observed, labels: &Labels) -> Result<Observed, ProviderError> {
        let target = &have.target;
        let clock = Clock::default();
        let tasks = match target.kind {
            ResourceKind::Batch => self.by_attempt(target.id.as_str(), &clock).await?,
            ResourceKind::Machine => {
                let id = target.id.to_string();
                self.api.describe(&[id], &clock).await.map_err(meaning::of)?.0
            }
            other => return Err(unsupported(&format!("labelling a {other}"))),
        };
        let lives = |task: &&Task| task.desired_status() != Some("STOPPED");
        let arns: Vec<String> = tasks
            .iter()
            .filter(lives)
            .filter_map(|task| task.task_arn.clone())
            .collect();
        if arns.is_empty() {
            return Err(rejected("not_found", format!("{target}: none of its tasks runs")));
        }
        let tags: Vec<_> = labels.iter().map(|(key, value)| tag(key, value)).collect();
        for arn in &arns {
            self.api.tag(arn, tags.clone()).await.map_err(meaning::of)?;
        }
        let mut seen = have.clone();
        if let Some(read) = self.read_one(target).await? {
            seen = read;
        }
        seen.labels.extend(labels.clone());
        Ok(seen)
    }
}
