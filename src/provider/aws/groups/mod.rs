//! Auto Scaling groups whose size we set: the group is the resource, its members are named by Amazon.
//!
//! # Guarantees
//! - Groups belong to somebody else: none is made, removed or labelled, and none is touched that the stack does not choose.
//! - A size is an absolute number, and set only while the group still has the size that the decision was made from.
//! - A member leaves by itself, one at a time, and the group's size goes down with it. That call is sent once: an answer that did
//!   not come is looked for at the instance.
//! - Lifecycle hooks are respected: a member's leaving is over for us when Amazon accepted it, and no hook is completed.
//! - Nothing sleeps until a group has settled: it says why it waits, and the others go on.
//! - A call ends within [`CALL_TIMEOUT`].
//!
//! # Assumptions
//! - A member of a group is launched by the group, with its launch template: we make no instance and know no user data.
//!
//! # Caveats
//! - Whether the rights to write are there is known only by writing: Auto Scaling has no dry run.
//! - An instance that was marked as leaving ([`LEAVING`]) and then not detached, since the run ended in between, keeps its mark.
//!   Should somebody detach it by hand later, it is listed as one that is leaving.
//! - Standby and warm members are not shown: they neither serve nor are on their way.

mod api;
mod check;
mod going;
mod leave;
mod list;
mod members;
mod size;
mod sold;
mod writes;

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_autoscaling::types::AutoScalingGroup;
use jiff::SignedDuration;
use tokio::sync::Mutex;

use crate::{
    model::{
        ids::{ResourceKind, StackName},
        money::Billing,
        resource::{Identity, Labels, Listing, Observed, ProviderProfile, ResourceRef, ResourceSpec},
    },
    provider::{Choice, Claim, Offerings, Problem, Provider, ProviderError},
    stack::{GroupChoice, GroupSelector, Leave},
};

use super::{Access, Clock, Config};
use api::Api;
pub use api::{ACTIONS, LEAVING};
pub use members::DETACHED;
use sold::Shop;

/// The longest that one call may take. While a member leaves, a whole CI may be paused, for 30 s at most.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// One try of one call of the SDK's: several fit into [`CALL_TIMEOUT`].
const TRY: Duration = Duration::from_secs(4);

/// All tries of one call of the SDK's, so that what a call is made of has an end before the call has.
const TRIES: Duration = Duration::from_secs(8);

/// How long what Amazon accepted may be missing from its listings.
const SETTLE: SignedDuration = SignedDuration::from_secs(60);

/// From Amazon's accepting that an instance ends to its being paid for no more.
const DELETE_TIME: SignedDuration = SignedDuration::from_secs(60);

/// The most bytes of user data (EC2 API reference, `RunInstances`); never asked, since we launch nothing.
const USER_DATA_LIMIT: usize = 16 * 1024;

/// The Auto Scaling groups of one account and region that a stack chooses.
#[derive(Debug)]
pub struct Groups {
    profile: ProviderProfile,
    region: String,
    api: Api,
    choices: Vec<GroupChoice>,
    /// What [`Api`] was made from.
    config: Config,
    shop: Mutex<Shop>,
}

impl Groups {
    /// A provider of the groups that these choices mean. Calls nobody yet.
    ///
    /// # Errors
    /// Where no region is said anywhere, or the certificates cannot be read.
    pub async fn new(mut config: Config, choices: Vec<GroupChoice>) -> Result<Self, ProviderError> {
        config.call_timeout = config.call_timeout.min(TRY);
        config.total_timeout = config.total_timeout.min(TRIES);
        let access = Access::load(&config).await?;
        let profile = ProviderProfile {
            name: config.name.clone(),
            kind: "asg".to_owned(),
            identity: Identity::Group,
            // Linux on EC2 (its pricing page): by the second, a minute at least.
            billing: Billing::PerSecond {
                minimum: SignedDuration::from_secs(60),
                least: None,
            },
            concurrency: config.concurrency.max(1),
            batch_size: 1,
            user_data_limit: USER_DATA_LIMIT,
            // Amazon throttles by buckets that it does not publish.
            requests_per_hour: None,
            group_size: None,
            settle: SETTLE,
            call_timeout: SignedDuration::try_from(CALL_TIMEOUT).unwrap_or(SignedDuration::from_secs(10)),
            delete_time: DELETE_TIME,
        };
        let api = Api::new(&access, profile.concurrency, config.retries);
        Ok(Self {
            profile,
            region: access.region,
            api,
            choices,
            config,
            shop: Mutex::default(),
        })
    }

    /// How members of this group leave; none: no choice means it. One that names it counts before one that finds it.
    fn leave_of(&self, group: &AutoScalingGroup) -> Option<Leave> {
        let labels = labels(group);
        let name = group.auto_scaling_group_name()?;
        let found = || self.choices.iter().find(|choice| means(choice, name, &labels));
        self.leave_by_name(name)
            .or_else(|| found().map(|choice| choice.leave))
    }

    /// How members of the group of this name leave, where a choice names it: a call less while a CI may be paused.
    fn leave_by_name(&self, name: &str) -> Option<Leave> {
        let mut choices = self.choices.iter();
        let chosen =
            choices.find(|choice| matches!(&choice.which, GroupSelector::Named(named) if named == name));
        chosen.map(|choice| choice.leave)
    }

    /// The group of this name, which some choice means, and how its members leave.
    async fn ours(&self, name: &str, clock: &Clock) -> Result<(AutoScalingGroup, Leave), ProviderError> {
        let Some(group) = self.api.group(name, clock).await? else {
            return Err(ProviderError::Rejected {
                code: "not_found".to_owned(),
                why: format!("there is no Auto Scaling group {name} in {}", self.region),
            });
        };
        match self.leave_of(&group) {
            Some(leave) => Ok((group, leave)),
            None => Err(ProviderError::Rejected {
                code: "not_chosen".to_owned(),
                why: format!("no pool of the stack is the group {name}"),
            }),
        }
    }

    async fn suspend_process(&self, group: &ResourceRef, process: &str) -> Result<(), ProviderError> {
        only_group(group)?;
        let clock = Clock::default();
        self.ours(group.id.as_str(), &clock).await?;
        self.api.suspend(group.id.as_str(), process, &clock).await
    }

    /// Of a group that no choice means any more, too: we may have suspended it when one did.
    async fn resume_process(&self, group: &ResourceRef, process: &str) -> Result<(), ProviderError> {
        only_group(group)?;
        let clock = Clock::default();
        let name = group.id.as_str();
        let answer = self.api.resume(name, process, &clock).await;
        match answer {
            // There is nothing to go on in a group that is gone.
            Err(ProviderError::Rejected { .. }) if self.api.group(name, &clock).await?.is_none() => Ok(()),
            answer => answer,
        }
    }
}

/// Whether a choice means the group of this name with these tags.
fn means(choice: &GroupChoice, name: &str, tags: &Labels) -> bool {
    match &choice.which {
        GroupSelector::Named(chosen) => chosen == name,
        GroupSelector::Tagged { key, namespace } => tags
            .get(key)
            .and_then(|value| value.split_once('/'))
            .is_some_and(|(before, after)| before == namespace && !after.is_empty()),
    }
}

fn labels(group: &AutoScalingGroup) -> Labels {
    let tags = group.tags().iter().filter_map(|tag| {
        let key = tag.key()?.to_owned();
        Some((key, tag.value().unwrap_or_default().to_owned()))
    });
    tags.collect()
}

fn only_group(target: &ResourceRef) -> Result<(), ProviderError> {
    match target.kind {
        ResourceKind::Group => Ok(()),
        other => Err(unsupported(&format!("suspending a process of a {other}"))),
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
impl Provider for Groups {
    fn profile(&self) -> &ProviderProfile {
        &self.profile
    }

    /// What is there, and nothing else: what a group launches is its own affair.
    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        within(Box::pin(self.read_prices()), unavailable).await
    }

    async fn list(&self, _: &StackName) -> Result<Listing, ProviderError> {
        within(Box::pin(self.list_chosen()), unavailable).await
    }

    async fn read(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        within(Box::pin(self.read_one(target)), unavailable).await
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        let refuse = |claim: &Claim| Err(unsupported(&format!("making a {}", claim.spec.kind())));
        claims.iter().map(refuse).collect()
    }

    async fn update(&self, have: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError> {
        match want {
            ResourceSpec::Group(want) => within(Box::pin(self.resize(have, want)), ambiguous).await,
            other => Err(unsupported(&format!("changing a {}", other.kind()))),
        }
    }

    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        match target.kind {
            ResourceKind::Machine => within(Box::pin(self.leave(target.id.as_str())), ambiguous).await,
            other => Err(unsupported(&format!("removing a {other}"))),
        }
    }

    async fn suspend(&self, group: &ResourceRef, process: &str) -> Result<(), ProviderError> {
        within(Box::pin(self.suspend_process(group, process)), ambiguous).await
    }

    async fn resume(&self, group: &ResourceRef, process: &str) -> Result<(), ProviderError> {
        within(Box::pin(self.resume_process(group, process)), ambiguous).await
    }

    async fn check(&self, _: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        within(Box::pin(self.check_groups()), unavailable).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(which: GroupSelector) -> GroupChoice {
        GroupChoice {
            provider: "aws".into(),
            which,
            leave: Leave::Terminate,
            runner: crate::stack::RunnerNaming::Id,
        }
    }

    #[test]
    fn a_choice_means_a_group_by_its_name_or_by_what_stands_before_the_slash() {
        let named = choice(GroupSelector::Named("linux".to_owned()));
        let tagged = choice(GroupSelector::Tagged {
            key: "resource-class".to_owned(),
            namespace: "acme".to_owned(),
        });
        let tags = |value: &str| Labels::from([("resource-class".to_owned(), value.to_owned())]);
        assert!(means(&named, "linux", &Labels::new()));
        assert!(!means(&named, "linux-2", &tags("acme/linux")));
        assert!(means(&tagged, "whatever", &tags("acme/linux")));
        for value in ["acme-2/linux", "acme", "acme/", "", "ac/me/linux"] {
            assert!(!means(&tagged, "whatever", &tags(value)), "{value}");
        }
        assert!(
            !means(&tagged, "acme/linux", &Labels::new()),
            "the tag counts, not the name"
        );
    }
}
