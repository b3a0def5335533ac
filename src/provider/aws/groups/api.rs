//! The calls to Amazon that groups need, one function each: those that read here, those that change something in `writes`.
//! [`ACTIONS`] is all of them.
//!
//! # Guarantees
//! - A call has a time-out and bounded retries with jitter, which are the SDK's, and waits for its turn: no more than the
//!   provider's concurrency are under way at once.
//! - A paged listing is followed for [`PAGES`] pages at most.

use aws_sdk_autoscaling::types::{
    Activity, AutoScalingGroup, AutoScalingInstanceDetails, Filter, InstanceRefresh, ScalingPolicy,
    ScheduledUpdateGroupAction,
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::provider::{
    ProviderError,
    aws::{
        Access, Clock,
        failure::{self, Kind},
    },
};

use super::members::Instance;

/// Every action of these, and of the prices that EC2 is asked for, as a policy of IAM names it.
pub const ACTIONS: [&str; 19] = [
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeInstanceRefreshes",
    "autoscaling:DescribePolicies",
    "autoscaling:DescribeScalingActivities",
    "autoscaling:DescribeScheduledActions",
    "autoscaling:DetachInstances",
    "autoscaling:ResumeProcesses",
    "autoscaling:SetDesiredCapacity",
    "autoscaling:SetInstanceProtection",
    "autoscaling:SuspendProcesses",
    "autoscaling:TerminateInstanceInAutoScalingGroup",
    "ec2:CreateTags",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeSpotPriceHistory",
    "ec2:TerminateInstances",
    "pricing:GetProducts",
];

/// The tag of an instance that is leaving its group: the group's name. By it an instance is found that was detached by a run
/// which did not come to terminating it.
pub const LEAVING: &str = "runfleet-leaving";

/// Pages of one listing: 10,000 groups, where an account may have 500 in a region unless Amazon raised its quota.
const PAGES: usize = 100;
/// Rows of a page of Auto Scaling's (its API reference: at most 100).
const ROWS: i32 = 100;
/// Groups that one call names (API reference, `DescribeAutoScalingGroups`: 50).
const NAMES: usize = 50;
/// Values of one filter of EC2's (EC2 user guide, "Filtering": 200).
const VALUES: usize = 200;
/// Instances of a page of EC2's (API reference, `DescribeInstances`: 5 to 1000).
const INSTANCES: i32 = 1000;
/// Activities that are looked at: those under way come first, then the latest.
const ACTIVITIES: i32 = 50;
/// The states of an instance that is not gone for good: what is gone is never fetched.
const ALIVE: [&str; 5] = ["pending", "running", "shutting-down", "stopping", "stopped"];

/// Amazon's clients.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) groups: aws_sdk_autoscaling::Client,
    pub(super) ec2: aws_sdk_ec2::Client,
    turns: Semaphore,
    pub(super) retries: u32,
}

/// Rows of a listing.
#[derive(Debug)]
pub(super) struct Rows<T> {
    pub rows: Vec<T>,
    /// Why that is not all.
    pub flaw: Option<String>,
}

impl<T> Rows<T> {
    fn none() -> Self {
        Self {
            rows: Vec::new(),
            flaw: None,
        }
    }

    fn extend(&mut self, other: Self) {
        self.rows.extend(other.rows);
        if self.flaw.is_none() {
            self.flaw = other.flaw;
        }
    }
}

/// Sends a call when it is its turn, heard by a clock. A macro, since each operation of the SDK has types of its own.
macro_rules! send {
    ($api:expr, $kind:expr, $clock:expr, $call:expr) => {{
        let _turn = $api.turn().await;
        let call = $call.customize().interceptor($clock.clone());
        call.send().await.map_err(|error| failure::of($kind, &error))
    }};
}

pub(super) use send;

impl Api {
    pub(super) fn new(access: &Access, concurrency: usize, retries: u32) -> Self {
        Self {
            groups: aws_sdk_autoscaling::Client::new(&access.sdk),
            ec2: aws_sdk_ec2::Client::new(&access.sdk),
            turns: Semaphore::new(concurrency.max(1)),
            retries,
        }
    }

    /// None only if the semaphore were closed, which nobody does.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// One page of groups, whichever: for what time it is.
    pub(super) async fn ping(&self, clock: &Clock) -> Result<(), ProviderError> {
        let call = self.groups.describe_auto_scaling_groups().max_records(1);
        send!(self, Kind::Read, clock, call).map(drop)
    }

    /// The groups of these names; those that do not exist are missing.
    pub(super) async fn groups_named(
        &self,
        names: &[String],
        clock: &Clock,
    ) -> Result<Rows<AutoScalingGroup>, ProviderError> {
        let mut found = Rows::none();
        for names in names.chunks(NAMES) {
            found.extend(self.groups(Some(names), &[], clock).await?);
        }
        Ok(found)
    }

    /// The group of this name.
    pub(super) async fn group(
        &self,
        name: &str,
        clock: &Clock,
    ) -> Result<Option<AutoScalingGroup>, ProviderError> {
        let found = self.groups(Some(&[name.to_owned()]), &[], clock).await?;
        let mut rows = found.rows.into_iter();
        Ok(rows.find(|group| group.auto_scaling_group_name() == Some(name)))
    }

    /// Every group that carries a tag of this key.
    pub(super) async fn groups_tagged(
        &self,
        key: &str,
        clock: &Clock,
    ) -> Result<Rows<AutoScalingGroup>, ProviderError> {
        let filter = Filter::builder().name("tag-key").values(key).build();
        self.groups(None, &[filter], clock).await
    }

    /// Every group there is.
    pub(super) async fn all_groups(&self, clock: &Clock) -> Result<Rows<AutoScalingGroup>, ProviderError> {
        self.groups(None, &[], clock).await
    }

    async fn groups(
        &self,
        names: Option<&[String]>,
        filters: &[Filter],
        clock: &Clock,
    ) -> Result<Rows<AutoScalingGroup>, ProviderError> {
        pages("the groups", move |token| async move {
            let call = self
                .groups
                .describe_auto_scaling_groups()
                .set_auto_scaling_group_names(names.map(<[String]>::to_vec))
                .set_filters((!filters.is_empty()).then(|| filters.to_vec()))
                .max_records(ROWS)
                .set_next_token(token);
            let page = send!(self, Kind::Read, clock, call)?;
            Ok((page.auto_scaling_groups.unwrap_or_default(), page.next_token))
        })
        .await
    }

    /// In which group an instance is, and how far; none: in none.
    pub(super) async fn membership(
        &self,
        id: &str,
        clock: &Clock,
    ) -> Result<Option<AutoScalingInstanceDetails>, ProviderError> {
        let call = self.groups.describe_auto_scaling_instances().instance_ids(id);
        let page = send!(self, Kind::Read, clock, call)?;
        let mut rows = page.auto_scaling_instances.unwrap_or_default().into_iter();
        Ok(rows.find(|row| row.instance_id() == Some(id)))
    }

    /// What goes on in a group: under way first, then the latest.
    pub(super) async fn activities(
        &self,
        group: &str,
        clock: &Clock,
    ) -> Result<Vec<Activity>, ProviderError> {
        let call = self
            .groups
            .describe_scaling_activities()
            .auto_scaling_group_name(group)
            .max_records(ACTIVITIES);
        let page = send!(self, Kind::Read, clock, call)?;
        Ok(page.activities.unwrap_or_default())
    }

    /// Its scaling policies.
    pub(super) async fn policies(
        &self,
        group: &str,
        clock: &Clock,
    ) -> Result<Rows<ScalingPolicy>, ProviderError> {
        pages("the scaling policies", move |token| async move {
            let call = self
                .groups
                .describe_policies()
                .auto_scaling_group_name(group)
                .max_records(ROWS)
                .set_next_token(token);
            let page = send!(self, Kind::Read, clock, call)?;
            Ok((page.scaling_policies.unwrap_or_default(), page.next_token))
        })
        .await
    }

    /// Its instance refreshes.
    pub(super) async fn refreshes(
        &self,
        group: &str,
        clock: &Clock,
    ) -> Result<Rows<InstanceRefresh>, ProviderError> {
        pages("the instance refreshes", move |token| async move {
            let call = self
                .groups
                .describe_instance_refreshes()
                .auto_scaling_group_name(group)
                .max_records(ROWS)
                .set_next_token(token);
            let page = send!(self, Kind::Read, clock, call)?;
            Ok((page.instance_refreshes.unwrap_or_default(), page.next_token))
        })
        .await
    }

    /// Its scheduled actions.
    pub(super) async fn scheduled(
        &self,
        group: &str,
        clock: &Clock,
    ) -> Result<Rows<ScheduledUpdateGroupAction>, ProviderError> {
        pages("the scheduled actions", move |token| async move {
            let call = self
                .groups
                .describe_scheduled_actions()
                .auto_scaling_group_name(group)
                .max_records(ROWS)
                .set_next_token(token);
            let page = send!(self, Kind::Read, clock, call)?;
            Ok((
                page.scheduled_update_group_actions.unwrap_or_default(),
                page.next_token,
            ))
        })
        .await
    }

    /// Those of these instances that are not gone for good.
    pub(super) async fn instances(
        &self,
        ids: &[String],
        clock: &Clock,
    ) -> Result<Rows<Instance>, ProviderError> {
        self.alive("instance-id", ids, clock).await
    }

    /// The instances that are leaving one of these groups and are not gone for good.
    pub(super) async fn leaving(
        &self,
        groups: &[String],
        clock: &Clock,
    ) -> Result<Rows<Instance>, ProviderError> {
        self.alive(&format!("tag:{LEAVING}"), groups, clock).await
    }

    async fn alive(
        &self,
        filter: &str,
        values: &[String],
        clock: &Clock,
    ) -> Result<Rows<Instance>, ProviderError> {
        let states = ec2_filter("instance-state-name", ALIVE.map(str::to_owned).to_vec());
        let mut found = Rows::none();
        for values in values.chunks(VALUES) {
            let filters = vec![ec2_filter(filter, values.to_vec()), states.clone()];
            found.extend(self.described(&filters, clock).await?);
        }
        Ok(found)
    }

    /// One instance, though it may be gone for good; none: EC2 knows of none.
    pub(super) async fn instance(&self, id: &str, clock: &Clock) -> Result<Option<Instance>, ProviderError> {
        let filters = vec![ec2_filter("instance-id", vec![id.to_owned()])];
        let found = self.described(&filters, clock).await?;
        Ok(found.rows.into_iter().find(|instance| instance.id == id))
    }

    async fn described(
        &self,
        filters: &[aws_sdk_ec2::types::Filter],
        clock: &Clock,
    ) -> Result<Rows<Instance>, ProviderError> {
        pages("the instances", move |token| async move {
            let call = self
                .ec2
                .describe_instances()
                .set_filters(Some(filters.to_vec()))
                .max_results(INSTANCES)
                .set_next_token(token);
            let page = send!(self, Kind::Read, clock, call)?;
            let reservations = page.reservations.unwrap_or_default();
            let rows = reservations
                .iter()
                .flat_map(aws_sdk_ec2::types::Reservation::instances)
                .filter_map(Instance::of);
            Ok((rows.collect(), page.next_token))
        })
        .await
    }
}

fn ec2_filter(name: &str, values: Vec<String>) -> aws_sdk_ec2::types::Filter {
    aws_sdk_ec2::types::Filter::builder()
        .name(name)
        .set_values(Some(values))
        .build()
}

/// Follows a listing to its end. What came before a page that failed is kept, as a part.
async fn pages<T, F>(what: &str, page: impl Fn(Option<String>) -> F) -> Result<Rows<T>, ProviderError>
where
    F: Future<Output = Result<(Vec<T>, Option<String>), ProviderError>>,
{
    let mut found = Rows::none();
    let mut token = None;
    for number in 0..PAGES {
        match page(token).await {
            Ok((rows, next)) => {
                found.rows.extend(rows);
                token = next.filter(|next| !next.is_empty());
                if token.is_none() {
                    return Ok(found);
                }
            }
            Err(error) if number == 0 => return Err(error),
            Err(error) => {
                found.flaw = Some(format!("{what} from page {} on: {error}", number + 1));
                return Ok(found);
            }
        }
    }
    found.flaw = Some(format!("{what} did not end within {PAGES} pages"));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listing_without_an_end_is_a_part() {
        let endless = pages("the groups", |_| async { Ok((vec![1], Some("more".to_owned()))) });
        let found = endless.await.unwrap();
        assert_eq!(found.rows.len(), PAGES);
        assert_eq!(
            found.flaw.as_deref(),
            Some("the groups did not end within 100 pages")
        );
    }

    #[tokio::test]
    async fn what_came_before_a_page_that_failed_is_kept() {
        let broken = pages("the groups", |token| async move {
            match token {
                None => Ok((vec![1, 2], Some("2".to_owned()))),
                Some(_) => Err(ProviderError::Throttled { retry_after: None }),
            }
        });
        let found = broken.await.unwrap();
        assert_eq!(found.rows, [1, 2]);
        assert_eq!(
            found.flaw.as_deref(),
            Some("the groups from page 2 on: throttled")
        );
        let none = pages("the groups", |_| async {
            Err::<(Vec<u32>, _), _>(ProviderError::Throttled { retry_after: None })
        });
        assert!(none.await.is_err(), "nothing at all could be read");
    }
}
