//! A provider in memory: the contract of [`Provider`] in its simplest form, with faults to order.
//!
//! The first row of the conformance suite, and the cloud of property tests. Its clock moves only by [`Memory::advance`]. Names are
//! unique per kind; what a machine uses cannot be deleted before the machine, and a placement group holds ten.

mod tasks;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::model::{
    ids::{CloudId, ProviderName, StackName},
    money::Billing,
    offering::{Offering, OfferingKey},
    resource::{
        ClaimLabels, CloudStatus, Completeness, Identity, Labels, Listing, Observed, ProviderProfile,
        ResourceRef, ResourceSpec,
    },
};

use super::{Choice, Claim, Offerings, Problem, Provider, ProviderError};
pub use tasks::Tasks;
use world::{World, as_set, key, sorted, unsupported};

/// A call of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`Provider::offerings`]
    Offerings,
    /// [`Provider::list`] and [`Provider::list_all`]
    List,
    /// [`Provider::read`]
    Read,
    /// [`Provider::create`], once for each claim.
    Create,
    /// [`Provider::update`]
    Update,
    /// [`Provider::relabel`]
    Relabel,
    /// [`Provider::delete`]
    Delete,
    /// [`Provider::check`]
    Check,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and the answer is lost.
    LostReply,
    /// It is not done, and no answer comes.
    LostRequest,
    /// It is not done, and says so.
    Unavailable,
    /// 429 in its words.
    Throttled,
    /// The token is not accepted.
    Unauthorized,
    /// No machine to sell.
    NoCapacity,
    /// The account's limit.
    Quota,
    /// A listing as it was before the last change, and says that it is complete.
    Stale,
    /// A listing that lacks every second resource, and says that it is partial.
    Partial,
}

/// A cloud of its own.
#[derive(Debug)]
pub struct Memory {
    profile: ProviderProfile,
    world: Mutex<World>,
}

impl Memory {
    /// An empty cloud at this time.
    pub fn new(name: ProviderName, now: Timestamp) -> Self {
        Self {
            profile: ProviderProfile {
                name,
                kind: "memory".to_owned(),
                identity: Identity::Named,
                billing: Billing::StartedHour,
                concurrency: 10,
                batch_size: 10,
                user_data_limit: 32 * 1024,
                requests_per_hour: None,
                settle: SignedDuration::from_secs(10),
                call_timeout: SignedDuration::from_secs(10),
                group_size: Some(10),
                delete_time: SignedDuration::from_secs(5),
            },
            world: Mutex::new(World {
                now,
                last_id: 0,
                resources: BTreeMap::new(),
                before: BTreeMap::new(),
                uses: BTreeMap::new(),
                offerings: Vec::new(),
                sold_out: BTreeSet::new(),
                faults: VecDeque::new(),
                calls: BTreeMap::new(),
            }),
        }
    }

    /// With its profile changed: another billing rule, say.
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

    /// Does this wrong the next time; several for one call happen one after the other.
    pub fn fault(&self, call: Call, fault: Fault) {
        self.world().faults.push_back((call, fault));
    }

    /// Has no machine of this offering to sell, until told otherwise.
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

    /// Everything that exists, whoever made it.
    pub fn resources(&self) -> Vec<Observed> {
        self.world().resources.values().cloned().collect()
    }

    /// Puts something there that did not come by this port; its id is given anew.
    pub fn put(&self, mut seen: Observed) -> ResourceRef {
        let mut world = self.world();
        world.last_id += 1;
        let id = world.last_id;
        seen.target.id = CloudId::new(id.to_string());
        let target = seen.target.clone();
        world.change(|resources| resources.insert(id, seen));
        target
    }

    /// Lets a resource's status be this: a machine that breaks, or is switched off.
    pub fn set_status(&self, target: &ResourceRef, status: CloudStatus) {
        self.world().change(|resources| {
            if let Some(seen) = key(target).and_then(|id| resources.get_mut(&id)) {
                seen.status = status;
            }
        });
    }

    /// How often each call was made.
    pub fn calls(&self) -> BTreeMap<Call, u32> {
        self.world().calls.clone()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What carries a stack's label: this stack's, or any.
    fn listing(&self, stack: Option<&StackName>) -> Result<Listing, ProviderError> {
        let mut world = self.world();
        let fault = world.begin(Call::List);
        refused(fault)?;
        let all = if fault == Some(Fault::Stale) {
            &world.before
        } else {
            &world.resources
        };
        Ok(told(all.values(), stack, fault, world.now))
    }

    fn create_one(&self, claim: &Claim) -> Result<Observed, ProviderError> {
        let mut world = self.world();
        let fault = world.begin(Call::Create);
        refused(fault)?;
        let seen = world.make(&self.profile.name, claim)?;
        lost(fault)?;
        Ok(seen)
    }
}

/// What a listing tells of what there is: what carries this stack's label, or any stack's, and of that every second where its fault
/// says so.
fn told<'a>(
    all: impl Iterator<Item = &'a Observed>,
    stack: Option<&StackName>,
    fault: Option<Fault>,
    now: Timestamp,
) -> Listing {
    let ours = |seen: &&Observed| {
        let carried = seen.labels.get(ClaimLabels::STACK);
        carried.is_some_and(|carried| stack.is_none_or(|stack| carried == stack.as_str()))
    };
    let mut resources: Vec<_> = all.filter(ours).cloned().collect();
    let mut completeness = Completeness::Complete;
    if fault == Some(Fault::Partial) {
        resources = resources.into_iter().step_by(2).collect();
        completeness = Completeness::partial("ordered by the test");
    }
    Listing {
        resources,
        completeness,
        now,
        calls: 1,
    }
}

/// Ends a call before anything is done, where its fault says so.
fn refused(fault: Option<Fault>) -> Result<(), ProviderError> {
    let why = "ordered by the test".to_owned();
    Err(match fault {
        None | Some(Fault::LostReply | Fault::Stale | Fault::Partial) => return Ok(()),
        Some(Fault::LostRequest) => ProviderError::Ambiguous { why },
        Some(Fault::Unavailable) => ProviderError::Unavailable { why },
        Some(Fault::Throttled) => ProviderError::Throttled {
            retry_after: Some(Duration::from_secs(1)),
        },
        Some(Fault::Unauthorized) => ProviderError::Unauthorized { why },
        Some(Fault::NoCapacity) => ProviderError::NoCapacity { why },
        Some(Fault::Quota) => ProviderError::Quota { why },
    })
}

/// Ends a call after it was done, where its fault says so.
fn lost(fault: Option<Fault>) -> Result<(), ProviderError> {
    if fault == Some(Fault::LostReply) {
        let why = "the answer was lost".to_owned();
        return Err(ProviderError::Ambiguous { why });
    }
    Ok(())
}

#[async_trait]
impl Provider for Memory {
    fn profile(&self) -> &ProviderProfile {
        &self.profile
    }

    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        let mut world = self.world();
        let fault = world.begin(Call::Offerings);
        refused(fault)?;
        let mut offerings = world.offerings.clone();
        for offering in &mut offerings {
            if world.sold_out.contains(&offering.key) {
                offering.available = Some(false);
            }
        }
        Ok(Offerings {
            offerings,
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
        let fault = world.begin(Call::Read);
        refused(fault)?;
        let seen = key(target).and_then(|id| world.resources.get(&id));
        Ok(seen.filter(|seen| seen.target == *target).cloned())
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        claims.iter().map(|claim| self.create_one(claim)).collect()
    }

    async fn update(&self, have: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError> {
        let mut world = self.world();
        let fault = world.begin(Call::Update);
        refused(fault)?;
        let seen = world.edit(&have.target, |seen| {
            match want {
                ResourceSpec::Firewall(spec) => seen.rules = Some(as_set(&spec.rules)),
                ResourceSpec::SshKey(spec) if seen.public_key.as_ref() == Some(&spec.public_key) => {}
                ResourceSpec::Network(spec)
                    if seen.network.as_ref().map(|(range, _)| range) == Some(&spec.ip_range) =>
                {
                    seen.network = Some((spec.ip_range.clone(), sorted(&spec.subnets)));
                }
                ResourceSpec::PlacementGroup(_) => {}
                ResourceSpec::Machine(spec) if seen.offering.as_ref() == Some(&spec.offering) => {
                    seen.labels
                        .insert("runfleet-pool".to_owned(), spec.pool.to_string());
                    seen.labels
                        .insert("runfleet-id".to_owned(), spec.runner.to_string());
                }
                other => return Err(unsupported(other.kind())),
            }
            want.name().clone_into(&mut seen.name);
            Ok(())
        })?;
        lost(fault)?;
        Ok(seen)
    }

    async fn relabel(&self, have: &Observed, labels: &Labels) -> Result<Observed, ProviderError> {
        let mut world = self.world();
        let fault = world.begin(Call::Relabel);
        refused(fault)?;
        let seen = world.edit(&have.target, |seen| {
            seen.labels.extend(labels.clone());
            Ok(())
        })?;
        lost(fault)?;
        Ok(seen)
    }

    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let mut world = self.world();
        let fault = world.begin(Call::Delete);
        refused(fault)?;
        world.remove(target)?;
        lost(fault)
    }

    async fn check(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        let mut world = self.world();
        let fault = world.begin(Call::Check);
        refused(fault)?;
        let known: BTreeSet<_> = world
            .offerings
            .iter()
            .map(|o| o.key.machine_type.clone())
            .collect();
        let unknown = choices
            .iter()
            .filter(|choice| !known.contains(&choice.machine_type));
        Ok(unknown
            .map(|choice| Problem {
                place: format!("{}.type", choice.place),
                what: format!("there is no machine type {:?}", choice.machine_type),
                hint: None,
            })
            .collect())
    }
}
