//! The calls to Amazon that tasks need, one function each. [`ACTIONS`] is all of them.
//!
//! # Guarantees
//! - Each has a time-out and bounded retries with jitter, which are the SDK's, and waits for its turn; stopping finds one even
//!   while everything else waits.
//! - Each may be sent twice: what is started is known again by its token, all else sets something to what it should be.

use aws_sdk_ecs::types::{
    Cluster, ClusterField, DesiredStatus, Failure, Tag, Task, TaskDefinition, TaskDefinitionField, TaskField,
};
use aws_smithy_types::body::SdkBody;
use futures::future;

use crate::{
    net::Priority,
    provider::aws::{
        Access, Clock,
        calls::{Failed, Pages, Turns, pages},
        failure::Kind,
    },
};

/// Every action of these, as a policy of IAM names it. Starting a task takes the right to hand it its roles (`iam:PassRole`), too.
pub const ACTIONS: [&str; 12] = [
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ecs:CreateCluster",
    "ecs:DescribeClusters",
    "ecs:DescribeTaskDefinition",
    "ecs:DescribeTasks",
    "ecs:ListTasks",
    "ecs:RegisterTaskDefinition",
    "ecs:RunTask",
    "ecs:StopTask",
    "ecs:TagResource",
    "pricing:GetProducts",
];

/// Rows of a page of `ListTasks`, and tasks of one `DescribeTasks` (API reference: 100 both).
const ROWS: usize = 100;
/// ECS's word for a cluster that is not there.
pub(super) const NO_CLUSTER: &str = "ClusterNotFoundException";
/// ECS's word for a token that came with something else before.
pub(super) const CONFLICT: &str = "ConflictException";
/// What is said when a task is stopped.
const REASON: &str = "runfleet: it is not wanted any more";
/// The capacity providers of a cluster that we make.
const FARGATE: [&str; 2] = ["FARGATE", super::wire::SPOT];

/// Amazon's clients.
#[derive(Debug)]
pub(super) struct Api {
    ecs: aws_sdk_ecs::Client,
    ec2: aws_sdk_ec2::Client,
    turns: Turns,
    cluster: String,
}

/// What a call to start tasks says.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub definition: String,
    pub count: i32,
    pub token: String,
    pub started_by: String,
    pub spot: bool,
    pub network: aws_sdk_ecs::types::NetworkConfiguration,
    pub platform: Option<String>,
    pub tags: Vec<Tag>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Started {
    pub tasks: Vec<Task>,
    pub failures: Vec<Failure>,
}

impl Api {
    pub(super) fn new(access: &Access, concurrency: usize, cluster: &str) -> Self {
        Self {
            ecs: aws_sdk_ecs::Client::new(&access.sdk),
            ec2: aws_sdk_ec2::Client::new(&access.sdk),
            turns: Turns::new(concurrency),
            cluster: cluster.to_owned(),
        }
    }

    /// The cluster; none: there is none, or none any more.
    pub(super) async fn cluster(&self) -> Result<Option<Cluster>, Failed> {
        let call = self.ecs.describe_clusters().clusters(&self.cluster);
        let answer = self
            .turns
            .read(call.include(ClusterField::Settings).send())
            .await?;
        let mut all = answer.clusters.unwrap_or_default().into_iter();
        Ok(all.find(|cluster| cluster.status() != Some("INACTIVE")))
    }

    /// Makes it. Whether it is there already does not matter.
    pub(super) async fn make_cluster(&self) -> Result<(), Failed> {
        let providers = FARGATE.map(str::to_owned).to_vec();
        let call = self.ecs.create_cluster().cluster_name(&self.cluster);
        let call = call.set_capacity_providers(Some(providers));
        self.turns.write(call.send()).await.map(drop)
    }

    /// The newest task definition of a family, with its tags; none: it has none.
    pub(super) async fn definition(
        &self,
        family: &str,
    ) -> Result<Option<(TaskDefinition, Vec<Tag>)>, Failed> {
        let call = self.ecs.describe_task_definition().task_definition(family);
        let call = call.include(TaskDefinitionField::Tags);
        match self.turns.read(call.send()).await {
            Ok(answer) => {
                let tags = answer.tags.unwrap_or_default();
                Ok(answer.task_definition.map(|found| (found, tags)))
            }
            // "Unable to describe task definition."
            Err(failed) if failed.is("ClientException") => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Registers this body, which is the template's and Amazon's own keys, as the next revision; its ARN.
    pub(super) async fn register(&self, body: &[u8]) -> Result<Option<String>, Failed> {
        let body = body.to_vec();
        let call = self.ecs.register_task_definition().family("of-the-body");
        // The SDK would take each key in a type of its own, and none that it does not know.
        let call = call.customize().mutate_request(move |request| {
            let length = body.len().to_string();
            *request.body_mut() = SdkBody::from(body.clone());
            request.headers_mut().insert("content-length", length);
        });
        let answer = self.turns.write(call.send()).await?;
        let definition = answer.task_definition;
        Ok(definition.and_then(|definition| definition.task_definition_arn))
    }

    /// Starts tasks; or tells those that were started with the same token.
    pub(super) async fn start(&self, start: &Start) -> Result<Started, Failed> {
        let call = self
            .ecs
            .run_task()
            .cluster(&self.cluster)
            .task_definition(&start.definition)
            .count(start.count)
            .client_token(&start.token)
            .started_by(&start.started_by)
            .network_configuration(start.network.clone())
            .set_platform_version(start.platform.clone())
            .set_tags(Some(start.tags.clone()));
        let call = if start.spot {
            let strategy = aws_sdk_ecs::types::CapacityProviderStrategyItem::builder()
                .capacity_provider(super::wire::SPOT)
                .weight(1);
            // Its one required key is there.
            call.set_capacity_provider_strategy(strategy.build().ok().map(|one| vec![one]))
        } else {
            call.launch_type(aws_sdk_ecs::types::LaunchType::Fargate)
        };
        let answer = self.turns.write(call.send()).await?;
        Ok(Started {
            tasks: answer.tasks.unwrap_or_default(),
            failures: answer.failures.unwrap_or_default(),
        })
    }

    /// The ARNs of the cluster's tasks that should run, or should have stopped.
    pub(super) async fn tasks(&self, wanted: DesiredStatus, clock: &Clock) -> Result<Pages<String>, Failed> {
        pages(|token: Option<String>| {
            let call = self
                .ecs
                .list_tasks()
                .cluster(&self.cluster)
                .desired_status(wanted.clone());
            self.page(call, token, clock)
        })
        .await
    }

    /// The ARNs of an attempt's tasks that should run: `startedBy` may be the only filter (API reference, `ListTasks`).
    pub(super) async fn started(&self, by: &str, clock: &Clock) -> Result<Pages<String>, Failed> {
        pages(|token: Option<String>| {
            let call = self.ecs.list_tasks().cluster(&self.cluster).started_by(by);
            self.page(call, token, clock)
        })
        .await
    }

    async fn page(
        &self,
        call: aws_sdk_ecs::operation::list_tasks::builders::ListTasksFluentBuilder,
        token: Option<String>,
        clock: &Clock,
    ) -> Result<(Vec<(String, String)>, Option<String>), Failed> {
        let rows = i32::try_from(ROWS).unwrap_or(i32::MAX);
        let call = call.max_results(rows).set_next_token(token);
        let answer = self
            .turns
            .read(call.customize().interceptor(clock.clone()).send())
            .await?;
        let arns = answer.task_arns.unwrap_or_default().into_iter();
        Ok((arns.map(|arn| (arn.clone(), arn)).collect(), answer.next_token))
    }

    /// These tasks, by ARN or id, with their tags, and why some are missing where that is not that they are gone.
    ///
    /// # Errors
    /// Where nothing could be read.
    pub(super) async fn describe(
        &self,
        ids: &[String],
        clock: &Clock,
    ) -> Result<(Vec<Task>, Vec<String>), Failed> {
        let asked = ids.chunks(ROWS).map(|ids| self.described(ids, clock));
        let (mut tasks, mut flaws, mut failed) = (Vec::new(), Vec::new(), None);
        let answers = future::join_all(asked).await;
        let whole = answers.len();
        for answer in answers {
            match answer {
                Ok((some, missing)) => {
                    tasks.extend(some);
                    flaws.extend(missing);
                }
                Err(error) => {
                    flaws.push(format!("tasks could not be read: {}", error.error));
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(failed) if flaws.len() == whole => Err(failed),
            _ => Ok((tasks, flaws)),
        }
    }

    async fn described(&self, ids: &[String], clock: &Clock) -> Result<(Vec<Task>, Vec<String>), Failed> {
        let call = self
            .ecs
            .describe_tasks()
            .cluster(&self.cluster)
            .set_tasks(Some(ids.to_vec()));
        let call = call
            .include(TaskField::Tags)
            .customize()
            .interceptor(clock.clone());
        let answer = self.turns.read(call.send()).await?;
        let failures = answer.failures.unwrap_or_default().into_iter();
        let others = failures.filter(|failure| failure.reason() != Some("MISSING"));
        let flaws = others.map(|failure| {
            let (arn, reason) = (
                failure.arn().unwrap_or_default(),
                failure.reason().unwrap_or_default(),
            );
            format!("{arn}: {reason}")
        });
        Ok((answer.tasks.unwrap_or_default(), flaws.collect()))
    }

    /// Stops a task, by its ARN or id.
    pub(super) async fn stop(&self, id: &str) -> Result<(), Failed> {
        let call = self
            .ecs
            .stop_task()
            .cluster(&self.cluster)
            .task(id)
            .reason(REASON);
        self.turns
            .send(Kind::Write, Priority::Delete, call.send())
            .await
            .map(drop)
    }

    /// Puts tags on a task.
    pub(super) async fn tag(&self, arn: &str, tags: Vec<Tag>) -> Result<(), Failed> {
        let call = self.ecs.tag_resource().resource_arn(arn).set_tags(Some(tags));
        self.turns.write(call.send()).await.map(drop)
    }

    /// Which of these subnets there are.
    pub(super) async fn subnets(&self, ids: &[String]) -> Result<Vec<String>, Failed> {
        let filter = aws_sdk_ec2::types::Filter::builder().name("subnet-id");
        let filter = filter.set_values(Some(ids.to_vec())).build();
        let call = self.ec2.describe_subnets().filters(filter);
        let answer = self.turns.read(call.send()).await?;
        let found = answer.subnets.unwrap_or_default().into_iter();
        Ok(found.filter_map(|subnet| subnet.subnet_id).collect())
    }

    /// Which of these security groups there are.
    pub(super) async fn security_groups(&self, ids: &[String]) -> Result<Vec<String>, Failed> {
        let filter = aws_sdk_ec2::types::Filter::builder().name("group-id");
        let filter = filter.set_values(Some(ids.to_vec())).build();
        let call = self.ec2.describe_security_groups().filters(filter);
        let answer = self.turns.read(call.send()).await?;
        let found = answer.security_groups.unwrap_or_default().into_iter();
        Ok(found.filter_map(|group| group.group_id).collect())
    }
}
