//! Containers in memory: the contract of batches in its simplest form, with faults to order.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{Call, Fault, lost, refused, told, world::unsupported};
use crate::{
    model::{
        ids::{CloudId, ProviderName, ResourceKind, StackName},
        money::Billing,
        offering::{Offering, OfferingKey},
        resource::{
            BatchSpec, CloudStatus, Completeness, Identity, JobTemplate, Labels, Listing, Member, Observed,
            ProviderProfile, ResourceRef, ResourceSpec,
        },
    },
    provider::{Choice, Claim, Offerings, Problem, Provider, ProviderError},
};

/// A cloud of containers.
#[derive(Debug)]
pub struct Tasks {
    profile: ProviderProfile,
    world: Mutex<World>,
}

#[derive(Debug)]
struct World {
    now: Timestamp,
    last_id: u64,
    /// By the attempt's nonce.
    batches: BTreeMap<CloudId, Observed>,
    /// As they were before the last change.
    before: BTreeMap<CloudId, Observed>,
    offerings: Vec<Offering>,
    sold_out: BTreeSet<OfferingKey>,
    templates: Vec<JobTemplate>,
    /// How many the next create starts at most.
    room: Option<u32>,
    faults: VecDeque<(Call, Fault)>,
    calls: BTreeMap<Call, u32>,
}

impl World {
    fn begin(&mut self, call: Call) -> Result<Option<Fault>, ProviderError> {
        *self.calls.entry(call).or_default() += 1;
        let at = self.faults.iter().position(|(on, _)| *on == call);
        let fault = at.and_then(|at| self.faults.remove(at)).map(|(_, fault)| fault);
        refused(fault)?;
        Ok(fault)
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut BTreeMap<CloudId, Observed>) -> T) -> T {
        self.before = self.batches.clone();
        change(&mut self.batches)
    }

    fn make(&mut self, provider: &ProviderName, claim: &Claim) -> Result<Observed, ProviderError> {
        let ResourceSpec::Batch(BatchSpec { each, count }) = &claim.spec else {
            return Err(unsupported(claim.spec.kind()));
        };
        let id = CloudId::new(claim.labels.intent.to_string());
        if let Some(there) = self.batches.get(&id) {
            return Ok(there.clone());
        }
        if self.sold_out.contains(&each.offering) {
            let why = format!("{} is sold out", each.offering);
            return Err(ProviderError::NoCapacity { why });
        }
        let count = self.room.take().map_or(*count, |room| room.min(*count));
        if count == 0 {
            let why = "no room for one".to_owned();
            return Err(ProviderError::NoCapacity { why });
        }
        let mut members = Vec::new();
        for _ in 0..count {
            self.last_id += 1;
            members.push(Member {
                id: CloudId::new(format!("task-{}", self.last_id)),
                status: CloudStatus::Running,
                created_at: self.now,
                offering: Some(each.offering.clone()),
                addresses: Vec::new(),
                protected: false,
                lifecycle: "RUNNING".to_owned(),
                hostname: Some(format!("host-{}", self.last_id)),
            });
        }
        let seen = Observed {
            target: ResourceRef {
                provider: provider.clone(),
                kind: ResourceKind::Batch,
                id: id.clone(),
            },
            name: each.name.clone(),
            labels: claim.labels.to_labels(),
            status: CloudStatus::Running,
            created_at: self.now,
            offering: Some(each.offering.clone()),
            addresses: Vec::new(),
            rules: None,
            public_key: None,
            network: None,
            uses: None,
            size: Some(count),
            members,
            group: None,
        };
        self.change(|batches| batches.insert(id, seen.clone()));
        Ok(seen)
    }

    /// One container as a resource of its own, with its batch's claim.
    fn container(&self, id: &CloudId) -> Option<Observed> {
        let found = self.batches.values().find_map(|batch| {
            let member = batch.members.iter().find(|member| member.id == *id)?;
            Some((batch, member))
        });
        let (batch, member) = found?;
        Some(Observed {
            target: ResourceRef {
                kind: ResourceKind::Machine,
                id: id.clone(),
                ..batch.target.clone()
            },
            status: member.status.clone(),
            created_at: member.created_at,
            size: None,
            members: Vec::new(),
            ..batch.clone()
        })
    }

    fn member(&mut self, id: &CloudId) -> Option<&mut Member> {
        let members = self.batches.values_mut().flat_map(|batch| &mut batch.members);
        members.into_iter().find(|member| member.id == *id)
    }
}

impl Tasks {
    /// An empty cloud at this time.
    pub fn new(name: ProviderName, now: Timestamp) -> Self {
        Self {
            profile: ProviderProfile {
                name,
                kind: "memory".to_owned(),
                identity: Identity::Batch,
                billing: Billing::PerSecond {
                    minimum: SignedDuration::from_secs(60),
                    least: None,
                },
                concurrency: 10,
                batch_size: 10,
                user_data_limit: 64 * 1024,
                requests_per_hour: None,
                settle: SignedDuration::from_secs(10),
                call_timeout: SignedDuration::from_secs(10),
                group_size: None,
                delete_time: SignedDuration::from_secs(5),
            },
            world: Mutex::new(World {
                now,
                last_id: 0,
                batches: BTreeMap::new(),
                before: BTreeMap::new(),
                offerings: Vec::new(),
                sold_out: BTreeSet::new(),
                templates: Vec::new(),
                room: None,
                faults: VecDeque::new(),
                calls: BTreeMap::new(),
            }),
        }
    }

    /// With its profile changed.
    #[must_use]
    pub fn with_profile(mut self, change: impl FnOnce(&mut ProviderProfile)) -> Self {
        change(&mut self.profile);
        self
    }

    /// Sells these from now on.
    #[must_use]
    pub fn selling(self, offerings: Vec<Offering>) -> Self {
        self.world().offerings = offerings;
        self
    }

    /// Has these templates of Jobs from now on.
    pub fn set_templates(&self, templates: Vec<JobTemplate>) {
        self.world().templates = templates;
    }

    /// Does this wrong the next time; several for one call happen one after the other.
    pub fn fault(&self, call: Call, fault: Fault) {
        self.world().faults.push_back((call, fault));
    }

    /// Has room for so many in the next create, and no more.
    pub fn set_room(&self, room: u32) {
        self.world().room = Some(room);
    }

    /// Has none of this offering to sell, until told otherwise.
    pub fn set_sold_out(&self, offering: &OfferingKey, sold_out: bool) {
        let mut world = self.world();
        if sold_out {
            world.sold_out.insert(offering.clone());
        } else {
            world.sold_out.remove(offering);
        }
    }

    /// Lets time pass.
    pub fn advance(&self, by: SignedDuration) {
        let mut world = self.world();
        world.now = world.now.checked_add(by).unwrap_or(Timestamp::MAX);
    }

    /// Every batch that there is, whoever made it.
    pub fn batches(&self) -> Vec<Observed> {
        self.world().batches.values().cloned().collect()
    }

    /// Lets a container's status be this.
    pub fn set_status(&self, container: &CloudId, status: CloudStatus) {
        let mut world = self.world();
        world.before = world.batches.clone();
        if let Some(member) = world.member(container) {
            member.status = status;
        }
    }

    /// Forgets what has ended, as clouds do after a while.
    pub fn sweep(&self) {
        self.world().change(|batches| {
            for batch in batches.values_mut() {
                batch.members.retain(|member| !is_over(&member.status));
            }
            batches.retain(|_, batch| !batch.members.is_empty());
        });
    }

    /// How often each call was made.
    pub fn calls(&self) -> BTreeMap<Call, u32> {
        self.world().calls.clone()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listing(&self, stack: Option<&StackName>) -> Result<Listing, ProviderError> {
        let mut world = self.world();
        let fault = world.begin(Call::List)?;
        let all = if fault == Some(Fault::Stale) {
            &world.before
        } else {
            &world.batches
        };
        Ok(told(all.values(), stack, fault, world.now))
    }
}

fn is_over(status: &CloudStatus) -> bool {
    matches!(status, CloudStatus::Ended(_) | CloudStatus::Terminated(_))
}

#[async_trait]
impl Provider for Tasks {
    fn profile(&self) -> &ProviderProfile {
        &self.profile
    }

    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        let mut world = self.world();
        world.begin(Call::Offerings)?;
        Ok(Offerings {
            offerings: world.offerings.clone(),
            completeness: Completeness::Complete,
            calls: 1,
        })
    }

    async fn list(&self, stack: &StackName) -> Result<Listing, ProviderError> {
        self.listing(Some(stack))
    }

    async fn list_all(&self) -> Result<Listing, ProviderError> {
        self.listing(None)
    }

    async fn read(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        let mut world = self.world();
        world.begin(Call::Read)?;
        Ok(match target.kind {
            ResourceKind::Batch => world.batches.get(&target.id).cloned(),
            ResourceKind::Machine => world.container(&target.id),
            _ => None,
        })
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        let one = |claim: &Claim| {
            let mut world = self.world();
            let fault = world.begin(Call::Create)?;
            let seen = world.make(&self.profile.name, claim)?;
            lost(fault)?;
            Ok(seen)
        };
        claims.iter().map(one).collect()
    }

    async fn update(&self, _: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError> {
        Err(unsupported(want.kind()))
    }

    async fn relabel(&self, have: &Observed, labels: &Labels) -> Result<Observed, ProviderError> {
        let mut world = self.world();
        let fault = world.begin(Call::Relabel)?;
        let why = format!("there is no {}", have.target);
        let seen = world.change(|batches| {
            let lives = |batch: &&mut Observed| batch.members.iter().any(|member| !is_over(&member.status));
            let seen = batches.get_mut(&have.target.id).filter(lives)?;
            seen.labels.extend(labels.clone());
            Some(seen.clone())
        });
        let seen = seen.ok_or(ProviderError::Rejected {
            code: "not_found".to_owned(),
            why,
        })?;
        lost(fault)?;
        Ok(seen)
    }

    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let mut world = self.world();
        let fault = world.begin(Call::Delete)?;
        world.before = world.batches.clone();
        // As tasks are: one that was ended is told for a while.
        let stopped = CloudStatus::Terminated("stopped".to_owned());
        match target.kind {
            ResourceKind::Batch => {
                for member in world
                    .batches
                    .get_mut(&target.id)
                    .into_iter()
                    .flat_map(|batch| &mut batch.members)
                {
                    member.status = stopped.clone();
                }
            }
            ResourceKind::Machine => {
                if let Some(member) = world.member(&target.id) {
                    member.status = stopped;
                }
            }
            kind => return Err(unsupported(kind)),
        }
        lost(fault)
    }

    async fn job_templates(&self) -> Result<Vec<JobTemplate>, ProviderError> {
        Ok(self.world().templates.clone())
    }

    async fn check(&self, _: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        self.world().begin(Call::Check)?;
        Ok(Vec::new())
    }
}
