//! Checks, for `validate --online`, that the chosen groups are there and ours to size, and that what is read may be read.

use aws_sdk_autoscaling::types::AutoScalingGroup;
use futures::future;

use crate::{
    provider::{Problem, ProviderError, aws::Clock},
    stack::GroupSelector,
};

use super::{Groups, going, labels, list::name, means};

/// How alike two names must be for one to be offered instead of the other.
const ALIKE: f64 = 0.7;

/// An instance that no account has, to ask whether instances may be read.
const NOBODY: &str = "i-00000000000000000";

impl Groups {
    pub(super) async fn check_groups(&self) -> Result<Vec<Problem>, ProviderError> {
        let clock = Clock::default();
        let mut problems = Vec::new();
        let (groups, flaws) = self.chosen(&clock).await?;
        problems.extend(flaws.into_iter().map(|what| self.problem(what, None)));
        problems.extend(self.missing(&groups, &clock).await);
        problems.extend(self.rights(&clock).await);
        let checked = future::join_all(groups.iter().map(|group| self.check_group(group, &clock))).await;
        problems.extend(checked.into_iter().flatten());
        Ok(problems)
    }

    fn problem(&self, what: String, hint: Option<String>) -> Problem {
        Problem {
            place: format!("providers.{}", self.profile.name),
            what,
            hint,
        }
    }

    /// The choices that mean no group.
    async fn missing(&self, groups: &[AutoScalingGroup], clock: &Clock) -> Vec<Problem> {
        let found: Vec<_> = groups
            .iter()
            .filter_map(|group| Some((name(group)?, labels(group))))
            .collect();
        let mut problems = Vec::new();
        for choice in &self.choices {
            if found.iter().any(|(name, tags)| means(choice, name, tags)) {
                continue;
            }
            let region = &self.region;
            problems.push(match &choice.which {
                GroupSelector::Named(wanted) => {
                    let all = self.api.all_groups(clock).await.map(|all| all.rows);
                    let all: Vec<_> = all.iter().flatten().filter_map(name).collect();
                    self.problem(
                        format!("there is no Auto Scaling group {wanted:?} in {region}"),
                        nearest(wanted, &all),
                    )
                }
                GroupSelector::Tagged { key, namespace } => self.problem(
                    format!(
                        "no Auto Scaling group in {region} has a tag {key:?} that says \"{namespace}/…\""
                    ),
                    Some(format!(
                        "tag each group: {key} = {namespace}/NAME, the name of its resource class"
                    )),
                ),
            });
        }
        problems
    }

    /// What may not be read though it has to be, whatever groups there are.
    async fn rights(&self, clock: &Clock) -> Vec<Problem> {
        let (instance, membership) = future::join(
            self.api.instance(NOBODY, clock),
            self.api.membership(NOBODY, clock),
        )
        .await;
        let told = [
            ("ec2:DescribeInstances", instance.err()),
            ("autoscaling:DescribeAutoScalingInstances", membership.err()),
        ];
        told.into_iter()
            .filter_map(|(right, error)| Some(self.refused(right, &error?)))
            .collect()
    }

    fn refused(&self, right: &str, error: &ProviderError) -> Problem {
        let hint = matches!(error, ProviderError::Unauthorized { .. });
        self.problem(
            format!("{right}: {error}"),
            hint.then(|| format!("allow {right}; packaging/iam/asg.json is all that is needed")),
        )
    }

    async fn check_group(&self, group: &AutoScalingGroup, clock: &Clock) -> Vec<Problem> {
        let name = group.auto_scaling_group_name().unwrap_or_default();
        let mut problems = Vec::new();
        if group.status().is_some_and(|status| !status.is_empty()) {
            problems.push(self.problem(format!("the group {name} is being deleted"), None));
            return problems;
        }
        let (activities, policies, refreshes, scheduled) = future::join4(
            self.api.activities(name, clock),
            self.api.policies(name, clock),
            self.api.refreshes(name, clock),
            self.api.scheduled(name, clock),
        )
        .await;
        let mut fails = |right: &str, error: ProviderError| {
            problems.push(self.refused(&format!("autoscaling:{right}"), &error));
        };
        if let Err(error) = activities {
            fails("DescribeScalingActivities", error);
        }
        match scheduled {
            // They are left alone: at their hour they set the size, and the next tick sets it again.
            Ok(scheduled) => {
                tracing::info!(group = name, actions = scheduled.rows.len(), "scheduled actions");
            }
            Err(error) => fails("DescribeScheduledActions", error),
        }
        let policies = policies.map_err(|error| fails("DescribePolicies", error));
        let refreshes = refreshes.map_err(|error| fails("DescribeInstanceRefreshes", error));
        let policies = policies.map(|rows| rows.rows).unwrap_or_default();
        let refreshes = refreshes.map(|rows| rows.rows).unwrap_or_default();
        if let Some(who) = going::governed(&policies, &refreshes) {
            let hint = match who.strip_prefix("scaling policy ") {
                Some(policy) => {
                    format!("disable or delete the policy {policy}: two that set one size undo each other")
                }
                None => "wait until it has ended: until then the group is left alone".to_owned(),
            };
            problems.push(self.problem(
                format!("the size of the group {name} is set by {who}"),
                Some(hint),
            ));
        }
        problems
    }
}

fn nearest(name: &str, names: &[String]) -> Option<String> {
    let scored = names
        .iter()
        .map(|other| (strsim::jaro_winkler(name, other), other));
    let (score, best) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= ALIKE).then(|| format!("did you mean {best:?}?"))
}
