//! Groups in memory: the smallest provider whose machines are made by groups, so that the suite's own cases are tried
//! without a cloud.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use runfleet::{
    model::{
        ids::{CloudId, ResourceKind, StackName},
        money::Billing,
        offering::OfferingKey,
        resource::{
            CloudStatus, Completeness, GroupView, Identity, ImageRef, Labels, Listing, Member, Observed,
            ProviderProfile, ResourceRef, ResourceSpec,
        },
    },
    provider::{Choice, Claim, Offerings, Problem, Provider, ProviderError},
};

use crate::{
    cases::Backend,
    memory::key,
    provider::{Groups, Harness, Trouble, keeps_the_contract},
};

/// One group, with all its members in service.
#[derive(Clone, Debug, Default)]
struct Group {
    view: GroupView,
    members: BTreeMap<CloudId, bool>,
}

#[derive(Debug, Default)]
struct World {
    groups: BTreeMap<CloudId, Group>,
    last: u32,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct InMemory {
    profile: ProviderProfile,
    world: Mutex<World>,
}

fn unsupported<T>(what: &str) -> Result<T, ProviderError> {
    Err(ProviderError::Unsupported {
        what: what.to_owned(),
    })
}

fn rejected<T>(code: &str) -> Result<T, ProviderError> {
    Err(ProviderError::Rejected {
        code: code.to_owned(),
        why: "the group is otherwise".to_owned(),
    })
}

impl World {
    fn resize(&mut self, id: &CloudId, size: u32) {
        let group = self.groups.get_mut(id).expect("a group");
        while group.members.len() < size as usize {
            self.last += 1;
            group
                .members
                .insert(CloudId::new(format!("i-{}", self.last)), false);
        }
    }

    /// Whether this trouble was ordered; it is over then.
    fn meets(&mut self, trouble: Trouble) -> bool {
        self.trouble.take_if(|ordered| *ordered == trouble).is_some()
    }
}

impl InMemory {
    fn new() -> Self {
        Self {
            profile: ProviderProfile {
                name: "memory".into(),
                kind: "memory".to_owned(),
                identity: Identity::Group,
                billing: Billing::StartedHour,
                concurrency: 10,
                batch_size: 1,
                user_data_limit: 0,
                requests_per_hour: None,
                settle: SignedDuration::from_secs(10),
                call_timeout: SignedDuration::from_secs(10),
                group_size: None,
                delete_time: SignedDuration::from_secs(5),
            },
            world: Mutex::default(),
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observed(&self, id: &CloudId, group: &Group) -> Observed {
        let members = group.members.iter().map(|(id, protected)| Member {
            id: id.clone(),
            status: CloudStatus::Running,
            created_at: Timestamp::UNIX_EPOCH,
            offering: Some(key()),
            addresses: Vec::new(),
            protected: *protected,
            lifecycle: "InService".to_owned(),
            hostname: None,
        });
        Observed {
            target: ResourceRef {
                provider: self.profile.name.clone(),
                kind: ResourceKind::Group,
                id: id.clone(),
            },
            name: id.to_string(),
            labels: Labels::new(),
            status: CloudStatus::Running,
            created_at: Timestamp::UNIX_EPOCH,
            offering: None,
            addresses: Vec::new(),
            rules: None,
            public_key: None,
            network: None,
            uses: None,
            size: u32::try_from(group.members.len()).ok(),
            members: members.collect(),
            group: Some(Box::new(group.view.clone())),
        }
    }

    fn edit(&self, group: &ResourceRef, change: impl FnOnce(&mut Group)) -> Result<(), ProviderError> {
        match self.world().groups.get_mut(&group.id) {
            Some(group) => {
                change(group);
                Ok(())
            }
            None => rejected("not_found"),
        }
    }
}

#[async_trait]
impl Provider for InMemory {
    fn profile(&self) -> &ProviderProfile {
        &self.profile
    }

    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        Ok(Offerings {
            offerings: Vec::new(),
            completeness: Completeness::Complete,
            calls: 0,
        })
    }

    async fn list(&self, _: &StackName) -> Result<Listing, ProviderError> {
        let world = self.world();
        Ok(Listing {
            resources: world
                .groups
                .iter()
                .map(|(id, group)| self.observed(id, group))
                .collect(),
            completeness: Completeness::Complete,
            now: Timestamp::UNIX_EPOCH,
            calls: 1,
        })
    }

    async fn read(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        let world = self.world();
        Ok(world
            .groups
            .get(&target.id)
            .map(|group| self.observed(&target.id, group)))
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        claims.iter().map(|_| unsupported("making anything")).collect()
    }

    async fn update(&self, have: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError> {
        let ResourceSpec::Group(want) = want else {
            return unsupported("changing anything but a group");
        };
        let id = &have.target.id;
        let mut world = self.world();
        if world.meets(Trouble::Unauthorized) {
            return Err(ProviderError::Unauthorized {
                why: "ordered by the test".to_owned(),
            });
        }
        let Some(group) = world.groups.get_mut(id) else {
            return rejected("not_found");
        };
        for (member, protected) in &mut group.members {
            *protected = want.protected.contains(member);
        }
        let there = u32::try_from(group.members.len()).expect("few");
        if want.size < want.from || want.size > group.view.max {
            return rejected("out_of_bounds");
        }
        if there != want.size && there != want.from {
            return rejected("size_changed");
        }
        world.resize(id, want.size);
        if world.meets(Trouble::ResizeReplyLost) {
            return Err(ProviderError::Ambiguous {
                why: "the answer was lost".to_owned(),
            });
        }
        Ok(self.observed(id, &world.groups[id]))
    }

    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        if target.kind != ResourceKind::Machine {
            return unsupported("removing a group");
        }
        let mut world = self.world();
        for group in world.groups.values_mut() {
            if group.members.len() <= group.view.min as usize && group.members.contains_key(&target.id) {
                return rejected("below_minimum");
            }
            group.members.remove(&target.id);
        }
        if world.meets(Trouble::DeleteReplyLost) {
            return Err(ProviderError::Ambiguous {
                why: "the answer was lost".to_owned(),
            });
        }
        Ok(())
    }

    async fn suspend(&self, group: &ResourceRef, process: &str) -> Result<(), ProviderError> {
        self.edit(group, |group| {
            group.view.suspended.insert(process.to_owned());
        })
    }

    async fn resume(&self, group: &ResourceRef, process: &str) -> Result<(), ProviderError> {
        self.edit(group, |group| {
            group.view.suspended.remove(process);
        })
    }

    async fn check(&self, _: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Groups for InMemory {
    async fn found(&self, min: u32, size: u32, max: u32) -> ResourceRef {
        let mut world = self.world();
        let id = CloudId::new(format!("group-{}", world.groups.len()));
        let view = GroupView {
            min,
            max,
            waits: None,
            governed: None,
            suspended: BTreeSet::new(),
        };
        let members = BTreeMap::new();
        world.groups.insert(id.clone(), Group { view, members });
        world.resize(&id, size);
        ResourceRef {
            provider: self.profile.name.clone(),
            kind: ResourceKind::Group,
            id,
        }
    }

    async fn set_size(&self, group: &ResourceRef, size: u32) {
        self.world().resize(&group.id, size);
    }

    async fn size(&self, group: &ResourceRef) -> u32 {
        u32::try_from(self.world().groups[&group.id].members.len()).expect("few")
    }

    async fn is_protected(&self, group: &ResourceRef, member: &CloudId) -> bool {
        self.world().groups[&group.id].members[member]
    }

    async fn is_alive(&self, member: &CloudId) -> bool {
        let world = self.world();
        world
            .groups
            .values()
            .any(|group| group.members.contains_key(member))
    }

    async fn govern(&self, group: &ResourceRef) {
        self.edit(group, |group| {
            group.view.governed = Some("scaling policy cpu-50".to_owned());
        })
        .expect("it is there");
    }
}

#[async_trait]
impl Harness for InMemory {
    fn provider(&self) -> &dyn Provider {
        self
    }

    fn offering(&self) -> OfferingKey {
        key()
    }

    fn image(&self) -> ImageRef {
        ImageRef::LaunchTemplate
    }

    async fn order(&self, trouble: Trouble) {
        self.world().trouble = Some(trouble);
    }

    async fn census(&self) -> usize {
        // It makes nothing, whatever is asked of it.
        0
    }

    fn groups(&self) -> Option<&dyn Groups> {
        Some(self)
    }
}

pub(crate) fn backend() -> Backend<dyn Harness> {
    Backend::new(
        "memory-groups",
        "itself, in memory",
        Some(|| Box::pin(async { Some(Box::new(InMemory::new()) as Box<dyn Harness>) })),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_in_memory_keep_the_contract() {
    keeps_the_contract("memory-groups").await;
}
