//! Starts tasks: the cluster is there, the task definition is registered, and one call starts the batch.
//!
//! # Guarantees
//! - An attempt is known again by its token: sent twice, it starts no more than it counts.
//! - An answer that did not come is looked for by who started the tasks. Only all of them are taken for it: fewer may be a part
//!   of what is seen so far.
//! - Once a task was started, it is an answer, however many of its batch were not.

use std::time::Duration;

use aws_sdk_ecs::types::{AssignPublicIp, AwsVpcConfiguration, NetworkConfiguration, Tag, Task};
use secrecy::ExposeSecret as _;

use crate::{
    model::{
        offering::Market,
        resource::{BatchSpec, EcsTask, Labels, Observed, TaskSpec},
    },
    provider::{Claim, ProviderError, aws::Clock},
};

use super::{
    BATCH, Ecs,
    api::{CONFLICT, NO_CLUSTER, Start},
    document::{self, Document},
    meaning, rejected,
    size::{self, Size},
    wire::{self, ADDRESS, CONTAINER, NAME, PRIVATE, PUBLIC, TYPE},
};

/// The tag of a task definition's digest.
const DOCUMENT: &str = "runfleet-document";
/// Of a claim's labels those that say whose a task definition is: it outlives the attempt.
const WHOSE: [&str; 4] = [
    "runfleet-stack",
    "runfleet-lineage",
    "runfleet-pool",
    "runfleet-hash",
];

/// How often, and how far apart, a start whose answer is unknown is looked for.
const SEARCHES: u32 = 3;
const SEARCH: Duration = Duration::from_secs(1);

/// The longest name of a task definition's family (API reference, `RegisterTaskDefinition`).
const FAMILY: usize = 255;

impl Ecs {
    /// Starts a batch, or tells that it was started.
    pub(super) async fn start_batch(
        &self,
        claim: &Claim,
        batch: &BatchSpec,
    ) -> Result<Observed, ProviderError> {
        let each = &batch.each;
        let Some(TaskSpec::Ecs(how)) = each.task.as_deref() else {
            return Err(rejected("task", "the batch says nothing of ECS".to_owned()));
        };
        if batch.count == 0 || usize::try_from(batch.count).is_ok_and(|count| count > BATCH) {
            let why = format!(
                "a batch of {}, where ECS starts 1 to {BATCH} by one call",
                batch.count
            );
            return Err(rejected("count", why));
        }
        if each.offering.location != self.region {
            let why = format!(
                "{} is not {}, where this provider is",
                each.offering.location, self.region
            );
            return Err(rejected("location", why));
        }
        let size = Self::size(&each.offering.machine_type)?;
        let document = self.document(claim, size)?;
        self.have_cluster().await?;
        let definition = self.registered(claim, &document).await?;
        let tags = tags(claim, batch, &document);
        let start = Start {
            definition,
            count: i32::try_from(batch.count).unwrap_or(1),
            token: wire::token(claim.labels.intent.as_str()),
            started_by: wire::started_by(claim.labels.intent.as_str()),
            spot: each.offering.market == Market::Spot,
            network: network(how, each.public_ipv4)?,
            platform: how.platform_version.clone(),
            tags: tags.iter().map(|(key, value)| tag(key, value)).collect(),
        };
        let tasks = self.run(claim, batch, &start).await?;
        self.remember(claim.labels.intent.as_str(), &tasks);
        Ok(self.attempt(claim, &tasks, tags))
    }

    async fn run(&self, claim: &Claim, batch: &BatchSpec, start: &Start) -> Result<Vec<Task>, ProviderError> {
        let failed = match self.api.start(start).await {
            Ok(started) if !started.tasks.is_empty() => {
                claim.accepted.tell();
                for failure in &started.failures {
                    let why = meaning::of_failure(failure);
                    tracing::warn!(%why, intent = %claim.labels.intent, "a task of a batch was not started");
                }
                return Ok(started.tasks);
            }
            Ok(started) => match started.failures.first() {
                Some(failure) => return Err(meaning::of_failure(failure)),
                None => ProviderError::Ambiguous {
                    why: "an answer with neither tasks nor failures".to_owned(),
                },
            },
            // Something else was asked for with this token before: another revision, other subnets.
            Err(failed) if failed.is(CONFLICT) => ProviderError::Ambiguous {
                why: format!("started before, and otherwise: {}", failed.error),
            },
            Err(failed) if failed.is(NO_CLUSTER) => return Err(self.no_cluster()),
            Err(failed) => meaning::of(failed),
        };
        if failed.is_definite() {
            return Err(failed);
        }
        let wanted = usize::try_from(batch.count).unwrap_or(usize::MAX);
        for again in 0..SEARCHES {
            if again > 0 {
                tokio::time::sleep(SEARCH).await;
            }
            let found = self
                .by_attempt(claim.labels.intent.as_str(), &Clock::default())
                .await;
            if let Ok(tasks) = found
                && tasks.len() == wanted
            {
                return Ok(tasks);
            }
        }
        Err(failed)
    }

    /// The tasks that this attempt started and that should run.
    pub(super) async fn by_attempt(&self, intent: &str, clock: &Clock) -> Result<Vec<Task>, ProviderError> {
        let by = wire::started_by(intent);
        let found = match self.api.started(&by, clock).await {
            Err(failed) if failed.is(NO_CLUSTER) => return Ok(Vec::new()),
            found => found.map_err(meaning::of)?,
        };
        if found.rows.is_empty() {
            return Ok(Vec::new());
        }
        let (tasks, flaws) = self.api.describe(&found.rows, clock).await.map_err(meaning::of)?;
        if let Some(flaw) = flaws.into_iter().next() {
            return Err(ProviderError::Unavailable { why: flaw });
        }
        Ok(tasks)
    }

    pub(super) fn size(name: &str) -> Result<Size, ProviderError> {
        Size::parse(name).ok_or_else(|| {
            let hint = size::nearest(name).map(|near| format!("; did you mean {near:?}?"));
            let why = format!("Fargate has no size {name:?}{}", hint.unwrap_or_default());
            rejected("type", why)
        })
    }

    fn document(&self, claim: &Claim, size: Size) -> Result<Document, ProviderError> {
        let Some(rendered) = &claim.user_data else {
            return Err(rejected(
                "task_template",
                "the pool has no task template".to_owned(),
            ));
        };
        let pool = claim.labels.pool.as_ref().map_or("default", |pool| pool.as_str());
        let stack = claim.labels.stack.as_str();
        let whose = [
            (document::STACK, stack),
            (document::LINEAGE, claim.labels.lineage.as_str()),
            (document::POOL, pool),
        ];
        let (rendered, family) = (rendered.expose_secret(), family(stack, pool));
        Document::of(rendered, &family, size, &whose, self.logs.as_ref())
    }

    /// Makes the cluster where it is missing and ours to make: looked at once.
    async fn have_cluster(&self) -> Result<(), ProviderError> {
        if !self.home.create {
            return Ok(());
        }
        let make = async {
            match self.api.cluster().await.map_err(meaning::of)? {
                Some(_) => Ok(()),
                None => self.api.make_cluster().await.map_err(meaning::of),
            }
        };
        // A cluster that was not made is a batch that was not started.
        let made = self.cluster.get_or_try_init(|| make).await;
        made.copied().map_err(|error| match error {
            ProviderError::Ambiguous { why } => ProviderError::Unavailable { why },
            error => error,
        })
    }

    pub(super) fn no_cluster(&self) -> ProviderError {
        let (cluster, name) = (&self.home.cluster, &self.profile.name);
        rejected(
            NO_CLUSTER,
            format!(
                "there is no cluster {cluster} in {}: make it, or write create = true in providers.{name}",
                self.region
            ),
        )
    }

    /// The ARN of this task definition. The family's newest revision is used again where it is the same.
    async fn registered(&self, claim: &Claim, document: &Document) -> Result<String, ProviderError> {
        // Held while asking, so that a burst registers once.
        let mut known = self.definitions.lock().await;
        let key = (document.family.clone(), document.digest.clone());
        if let Some(arn) = known.get(&key) {
            return Ok(arn.clone());
        }
        // Whatever becomes of a registration, no task was started.
        let unsure = |error| match error {
            ProviderError::Ambiguous { why } | ProviderError::Malformed { why } => {
                ProviderError::Unavailable { why }
            }
            error => error,
        };
        let newest = self
            .api
            .definition(&document.family)
            .await
            .map_err(meaning::of)
            .map_err(unsure)?;
        let same = newest.and_then(|(definition, tags)| {
            let told = tags.iter().find(|tag| tag.key() == Some(DOCUMENT))?;
            (told.value() == Some(&document.digest)).then_some(definition.task_definition_arn)?
        });
        let arn = if let Some(arn) = same {
            arn
        } else {
            let labels = claim.labels.to_labels().into_iter();
            let mut tags: Vec<(String, String)> =
                labels.filter(|(key, _)| WHOSE.contains(&key.as_str())).collect();
            tags.push((DOCUMENT.to_owned(), document.digest.clone()));
            let made = self.api.register(&document.request(&tags)).await;
            let made = made.map_err(meaning::of).map_err(unsure)?;
            made.ok_or_else(|| ProviderError::Unavailable {
                why: "a task definition was registered, and its name not told".to_owned(),
            })?
        };
        known.insert(key, arn.clone());
        Ok(arn)
    }

    fn attempt(&self, claim: &Claim, tasks: &[Task], tags: Labels) -> Observed {
        let now = tasks.iter().filter_map(Task::created_at).max();
        let now = now.and_then(|at| jiff::Timestamp::from_nanosecond(at.as_nanos()).ok());
        let place = self.place(now.unwrap_or(jiff::Timestamp::UNIX_EPOCH));
        let tasks: Vec<&Task> = tasks.iter().collect();
        wire::observed(claim.labels.intent.as_str(), &tasks, tags, place)
    }
}

/// `runfleet-STACK-POOL`
fn family(stack: &str, pool: &str) -> String {
    let name = format!("runfleet-{stack}-{pool}");
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.chars()
        .map(|c| if fits(c) { c } else { '-' })
        .take(FAMILY)
        .collect()
}

/// The template's own tags, and ours over them.
fn tags(claim: &Claim, batch: &BatchSpec, document: &Document) -> Labels {
    let each = &batch.each;
    let mut tags = document.own_tags();
    tags.extend(claim.labels.to_labels());
    let address = if each.public_ipv4 { PUBLIC } else { PRIVATE };
    tags.extend([
        (NAME.to_owned(), each.name.clone()),
        (TYPE.to_owned(), each.offering.machine_type.clone()),
        (CONTAINER.to_owned(), document.container.clone()),
        (ADDRESS.to_owned(), address.to_owned()),
    ]);
    tags
}

pub(super) fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

fn network(how: &EcsTask, public: bool) -> Result<NetworkConfiguration, ProviderError> {
    let address = if public {
        AssignPublicIp::Enabled
    } else {
        AssignPublicIp::Disabled
    };
    let groups = (!how.security_groups.is_empty()).then(|| how.security_groups.clone());
    let vpc = AwsVpcConfiguration::builder()
        .set_subnets(Some(how.subnets.clone()))
        .set_security_groups(groups)
        .assign_public_ip(address)
        .build()
        .map_err(|error| rejected("subnets", error.to_string()))?;
    Ok(NetworkConfiguration::builder().awsvpc_configuration(vpc).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_the_characters_that_ecs_takes() {
        assert_eq!(family("prod", "linux"), "runfleet-prod-linux");
        assert_eq!(family("prod", "acme/linux.x"), "runfleet-prod-acme-linux-x");
        assert_eq!(family(&"x".repeat(300), "y").len(), FAMILY);
    }
}
