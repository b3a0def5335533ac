//! Reading: the chosen groups with their members and what goes on in them, and one instance by its id.
//!
//! Calls of a listing of `g` groups with `m` members: one per 50 named groups or page of 100 tagged ones, one per 200 members, one
//! per 200 groups for what is leaving, and three per group, since neither activities nor refreshes can be asked for several.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_autoscaling::types::AutoScalingGroup;
use futures::future;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use crate::{
    model::{
        ids::ResourceKind,
        resource::{CloudStatus, Completeness, GroupView, Listing, Member, Observed, ResourceRef},
    },
    provider::{ProviderError, aws::Clock},
    stack::GroupSelector,
};

use super::{
    Groups,
    api::{LEAVING, Rows},
    going, labels,
    members::{self, Instance, Machine},
    unsupported,
};

/// From a reading's beginning, how long members and what goes on in groups are asked for: with 10 calls at once of 50 ms each, enough for 500
/// groups. What has not been read by then is told as missing, and not the whole listing with it.
const READING: Duration = Duration::from_secs(8);

/// The tag in which EC2's console keeps an instance's name.
const NAME: &str = "Name";

/// What goes on in a group.
struct Going {
    waits: Option<String>,
    governed: Option<String>,
    /// Why that may not be all.
    flaw: Option<String>,
}

/// What EC2 says of the members of some groups.
struct Machines {
    /// By id.
    seen: BTreeMap<String, Instance>,
    /// Whether who is not seen is gone.
    whole: bool,
}

impl Machines {
    fn of(&self, id: &str) -> Machine<'_> {
        match self.seen.get(id) {
            Some(instance) => Machine::Seen(instance),
            None if self.whole => Machine::Missing,
            None => Machine::Unasked,
        }
    }
}

impl Groups {
    pub(super) async fn list_chosen(&self) -> Result<Listing, ProviderError> {
        let deadline = Instant::now() + READING;
        let clock = Clock::default();
        let (groups, mut flaws) = self.chosen(&clock).await?;
        if groups.is_empty() && clock.calls() == 0 {
            self.api.ping(&clock).await?;
        }
        let resources = self.observe(&groups, deadline, &clock, &mut flaws).await?;
        Ok(Listing {
            resources,
            completeness: match flaws.as_slice() {
                [] => Completeness::Complete,
                flaws => Completeness::partial(flaws.join("; ")),
            },
            now: clock.now()?,
            calls: clock.calls(),
        })
    }

    /// The groups that the choices mean, by name, and why that may not be all. Errors only where nothing could be read.
    pub(super) async fn chosen(
        &self,
        clock: &Clock,
    ) -> Result<(Vec<AutoScalingGroup>, Vec<String>), ProviderError> {
        let mut names = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for choice in &self.choices {
            match &choice.which {
                GroupSelector::Named(name) => names.insert(name.clone()),
                GroupSelector::Tagged { key, .. } => keys.insert(key.as_str()),
            };
        }
        let names: Vec<_> = names.into_iter().collect();
        let by_name = self.api.groups_named(&names, clock);
        let by_tag = keys.into_iter().map(|key| self.api.groups_tagged(key, clock));
        let (by_name, by_tag) = future::join(by_name, future::join_all(by_tag)).await;
        let asked = usize::from(!names.is_empty()) + by_tag.len();
        let (mut found, mut flaws, mut errors) = (BTreeMap::new(), Vec::new(), Vec::new());
        for answer in by_tag.into_iter().chain([by_name]) {
            match answer {
                Ok(Rows { rows, flaw }) => {
                    flaws.extend(flaw);
                    let ours = rows.into_iter().filter(|group| self.leave_of(group).is_some());
                    found.extend(ours.filter_map(|group| Some((name(&group)?, group))));
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.len() == asked
            && let Some(error) = errors.pop()
        {
            return Err(error);
        }
        flaws.extend(errors.iter().map(|error| format!("the groups: {error}")));
        Ok((found.into_values().collect(), flaws))
    }

    /// These groups with all that is theirs. What could not be read is told in `flaws`.
    async fn observe(
        &self,
        groups: &[AutoScalingGroup],
        deadline: Instant,
        clock: &Clock,
        flaws: &mut Vec<String>,
    ) -> Result<Vec<Observed>, ProviderError> {
        let ids: Vec<String> = groups.iter().flat_map(member_ids).map(str::to_owned).collect();
        let names: Vec<String> = groups.iter().filter_map(name).collect();
        let going = groups.iter().map(|group| async move {
            let going = timeout_at(deadline, self.going(group, clock)).await;
            going.unwrap_or_else(|_| Going::unread("there was no time for it"))
        });
        let (machines, leaving, going) = future::join3(
            timeout_at(deadline, self.api.instances(&ids, clock)),
            timeout_at(deadline, self.api.leaving(&names, clock)),
            future::join_all(going),
        )
        .await;
        let machines = known("the members' instances", machines.ok(), flaws);
        let leaving = known("the instances that are leaving", leaving.ok(), flaws);
        let now = clock.now()?;
        let mut observed = Vec::with_capacity(groups.len());
        for (group, going) in groups.iter().zip(going) {
            if let (Some(flaw), Some(name)) = (&going.flaw, name(group)) {
                flaws.push(format!("{name}: {flaw}"));
            }
            observed.extend(self.observed(group, &machines, &leaving, going, now));
        }
        Ok(observed)
    }

    /// What goes on in it. An error is told as a flaw, and the group waits: who else sets its size is not known.
    async fn going(&self, group: &AutoScalingGroup, clock: &Clock) -> Going {
        let name = group.auto_scaling_group_name().unwrap_or_default();
        if group.status().is_some_and(|status| !status.is_empty()) {
            return Going {
                waits: Some("it is being deleted".to_owned()),
                governed: None,
                flaw: None,
            };
        }
        let read = future::try_join3(
            self.api.activities(name, clock),
            self.api.policies(name, clock),
            self.api.refreshes(name, clock),
        );
        let (activities, policies, refreshes) = match read.await {
            Ok(read) => read,
            Err(error) => return Going::unread(&error.to_string()),
        };
        let Ok(now) = clock.now() else {
            return Going::unread("no answer says what time it is");
        };
        let cooldown = SignedDuration::from_secs(i64::from(group.default_cooldown().unwrap_or(0)));
        let members = member_ids(group).collect();
        Going {
            waits: going::waits(&activities, &members, cooldown, now),
            governed: going::governed(&policies.rows, &refreshes.rows),
            flaw: policies.flaw.or(refreshes.flaw),
        }
    }

    /// A group as the rest of the program sees it; none of one without a name.
    fn observed(
        &self,
        group: &AutoScalingGroup,
        machines: &Machines,
        leaving: &Machines,
        going: Going,
        now: Timestamp,
    ) -> Option<Observed> {
        let name = name(group)?;
        let provider = &self.profile.name;
        let inside: BTreeSet<&str> = member_ids(group).collect();
        let rows = group.instances().iter();
        let listed = rows.filter_map(|row| {
            let machine = machines.of(row.instance_id()?);
            members::member(row, machine, provider, now)
        });
        let left = leaving.seen.values().filter(|instance| {
            instance.tags.get(LEAVING) == Some(&name) && !inside.contains(instance.id.as_str())
        });
        let members: Vec<Member> = listed
            .chain(left.map(|instance| instance.detached(provider, now)))
            .collect();
        let suspended = group.suspended_processes().iter();
        let suspended = suspended.filter_map(|process| process.process_name().map(str::to_owned));
        let count = |told: Option<i32>| told.and_then(|told| u32::try_from(told).ok()).unwrap_or(0);
        Some(Observed {
            target: ResourceRef {
                provider: provider.clone(),
                kind: ResourceKind::Group,
                id: name.as_str().into(),
            },
            labels: labels(group),
            status: CloudStatus::Running,
            created_at: group.created_time().and_then(members::time).unwrap_or(now),
            offering: None,
            addresses: Vec::new(),
            rules: None,
            public_key: None,
            network: None,
            uses: None,
            size: Some(count(group.desired_capacity())),
            members,
            group: Some(Box::new(GroupView {
                min: count(group.min_size()),
                max: count(group.max_size()),
                waits: going.waits,
                governed: going.governed,
                suspended: suspended.collect(),
            })),
            name,
        })
    }

    pub(super) async fn read_one(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        match target.kind {
            ResourceKind::Group => self.read_group(target.id.as_str()).await,
            ResourceKind::Machine => self.read_machine(target).await,
            other => Err(unsupported(&format!("reading a {other}"))),
        }
    }

    /// The group of this name, whoever chooses it.
    pub(super) async fn read_group(&self, name: &str) -> Result<Option<Observed>, ProviderError> {
        let deadline = Instant::now() + READING;
        let clock = Clock::default();
        let Some(group) = self.api.group(name, &clock).await? else {
            return Ok(None);
        };
        let mut flaws = Vec::new();
        let seen = self.observe(&[group], deadline, &clock, &mut flaws).await?;
        if !flaws.is_empty() {
            return Err(ProviderError::Unavailable {
                why: flaws.join("; "),
            });
        }
        Ok(seen.into_iter().next())
    }

    async fn read_machine(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        let clock = Clock::default();
        let id = target.id.as_str();
        let (instance, membership) =
            future::try_join(self.api.instance(id, &clock), self.api.membership(id, &clock)).await?;
        let now = clock.now()?;
        let status = match (&instance, &membership) {
            (None, None) => return Ok(None),
            (Some(instance), None) => instance.status(),
            (Some(instance), _) if instance.is_ending() => instance.status(),
            (instance, Some(member)) => {
                let lifecycle = member.lifecycle_state().unwrap_or_default();
                let machine = instance.as_ref().map_or(Machine::Missing, Machine::Seen);
                let status = members::status(lifecycle, member.health_status().unwrap_or_default(), machine);
                // Set aside by somebody, and there.
                status.unwrap_or_else(|| CloudStatus::Unknown(lifecycle.to_owned()))
            }
        };
        let tags = instance
            .as_ref()
            .map(|instance| instance.tags.clone())
            .unwrap_or_default();
        let launched = instance.as_ref().and_then(|instance| instance.launched);
        Ok(Some(Observed {
            target: target.clone(),
            name: tags.get(NAME).cloned().unwrap_or_else(|| id.to_owned()),
            labels: tags,
            status,
            created_at: launched.unwrap_or(now),
            offering: instance
                .as_ref()
                .map(|instance| instance.offering(&self.profile.name)),
            addresses: instance.map(|instance| instance.addresses).unwrap_or_default(),
            rules: None,
            public_key: None,
            network: None,
            uses: None,
            size: None,
            members: Vec::new(),
            group: None,
        }))
    }
}

impl Going {
    fn unread(why: &str) -> Self {
        let why = format!("what goes on in it could not be read: {why}");
        Self {
            waits: Some(why.clone()),
            governed: None,
            flaw: Some(why),
        }
    }
}

/// What EC2 answered, or why it is not all; none where there was no time.
fn known(
    what: &str,
    answer: Option<Result<Rows<Instance>, ProviderError>>,
    flaws: &mut Vec<String>,
) -> Machines {
    let (rows, flaw) = match answer {
        Some(Ok(Rows { rows, flaw })) => (rows, flaw),
        Some(Err(error)) => (Vec::new(), Some(format!("{what}: {error}"))),
        None => (Vec::new(), Some(format!("{what}: there was no time for them"))),
    };
    let whole = flaw.is_none();
    flaws.extend(flaw);
    Machines {
        seen: rows.into_iter().map(|row| (row.id.clone(), row)).collect(),
        whole,
    }
}

pub(super) fn name(group: &AutoScalingGroup) -> Option<String> {
    group.auto_scaling_group_name().map(str::to_owned)
}

pub(super) fn member_ids(group: &AutoScalingGroup) -> impl Iterator<Item = &str> {
    group.instances().iter().filter_map(|row| row.instance_id())
}
