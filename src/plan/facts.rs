//! What one tick knows, indexed: every question that `decide` and `learn` ask is one look-up.
//!
//! Nothing is judged here. A source that is silent or partial is said to be so; what follows from it is decided elsewhere.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::{
    model::{
        demand::{DemandSnapshot, Job, JobState, RunnerView, Wanted},
        ids::{
            Address, CiName, CloudId, IntentId, JobId, PoolName, ProviderName, RegistrationId, ResourceKind,
        },
        intent::Intent,
        metrics::PoolMetrics,
        money::{Money, Price},
        offering::{Offering, OfferingKey},
        resource::{
            CloudSnapshot, CloudStatus, Completeness, ControlProfile, CordonKind, Observed, ResourceRef,
        },
        snapshot::Snapshot,
        state::Record,
    },
    stack::{CiKind, Pool, Stack},
};

/// Whether a runner runs jobs, as all sources together say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Every source says that it runs none.
    Idle,
    /// It runs this many; zero where only a flag says so.
    Busy(u32),
    /// Sources disagree, are partial, or none says.
    Unknown,
    /// The CI answered in full and does not know the runner, nor a job of it.
    NoRunner,
}

impl Work {
    /// Whether it runs jobs; none where that is not certain.
    pub fn busy(self) -> Option<bool> {
        match self {
            Self::Idle | Self::NoRunner => Some(false),
            Self::Busy(_) => Some(true),
            Self::Unknown => None,
        }
    }

    /// How many jobs it is known to run.
    pub fn jobs(self) -> u32 {
        match self {
            Self::Busy(jobs) => jobs,
            _ => 0,
        }
    }
}

/// Whether this tick's reading of a cloud has a resource on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting<'a> {
    /// Listed, or found by its id.
    Here(&'a Observed),
    /// The reading does not tell, or it carries another lineage's claim: it counts as alive, and is not touched.
    Unseen,
    /// A complete listing lacks it, and reading it by id found nothing.
    Lacking,
}

/// The snapshot and the stack, indexed.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What was seen.
    pub snapshot: &'a Snapshot,
    /// What is wished.
    pub stack: &'a Stack,
    resources: HashMap<(&'a ProviderName, ResourceKind, &'a CloudId), &'a Observed>,
    /// What carries the nonce of an attempt that is open.
    by_intent: HashMap<&'a str, Vec<&'a Observed>>,
    labelled: HashSet<&'a str>,
    runners: HashMap<(&'a CiName, &'a RegistrationId), &'a RunnerView>,
    jobs: HashMap<(&'a CiName, &'a RegistrationId), u32>,
    finished: HashMap<(&'a CiName, &'a RegistrationId), Timestamp>,
    stuck: HashMap<(&'a CiName, &'a RegistrationId), &'a JobId>,
    adrift_pools: HashSet<&'a PoolName>,
    adrift_cis: HashSet<&'a CiName>,
    recorded: HashMap<(&'a ProviderName, ResourceKind, &'a CloudId), &'a Address>,
    registrations: HashMap<(&'a CiName, &'a RegistrationId), &'a Address>,
    /// What is sold, over all clouds.
    pub offerings: BTreeMap<&'a OfferingKey, &'a Offering>,
}

impl<'a> Facts<'a> {
    /// Indexes a snapshot; one pass over each of its parts.
    pub fn of(snapshot: &'a Snapshot, stack: &'a Stack) -> Self {
        // Sized before they are filled: growing hashes all that is there again.
        let clouds = snapshot.clouds.values();
        let seen: usize = clouds.map(|cloud| cloud.listing.resources.len()).sum();
        let runners: usize = snapshot.demand.values().map(|demand| demand.runners.len()).sum();
        let records = snapshot.state.resources.len();
        let mut facts = Self {
            snapshot,
            stack,
            resources: HashMap::with_capacity(seen),
            by_intent: HashMap::new(),
            labelled: HashSet::with_capacity(seen),
            runners: HashMap::with_capacity(runners),
            jobs: HashMap::with_capacity(runners),
            finished: HashMap::new(),
            stuck: HashMap::new(),
            adrift_pools: HashSet::new(),
            adrift_cis: HashSet::new(),
            recorded: HashMap::with_capacity(records),
            registrations: HashMap::with_capacity(records),
            offerings: BTreeMap::new(),
        };
        for open in &snapshot.open {
            facts.by_intent.insert(open.id.as_str(), Vec::new());
        }
        for cloud in snapshot.clouds.values() {
            facts.index_cloud(cloud);
        }
        for demand in snapshot.demand.values() {
            facts.index_demand(demand);
        }
        for (address, record) in &snapshot.state.resources {
            let key = (&record.provider, record.spec.kind(), &record.id);
            facts.recorded.insert(key, address);
            if let (Some(ci), Some(registration)) = (&record.ci, &record.registration) {
                facts.registrations.insert((ci, registration), address);
            }
        }
        for open in &snapshot.open {
            if let (Intent::Create { .. }, Some((ci, registration))) = (&open.intent, &open.registration) {
                facts
                    .registrations
                    .entry((ci, registration))
                    .or_insert(&open.address);
            }
        }
        facts
    }

    fn index_cloud(&mut self, cloud: &'a CloudSnapshot) {
        let reread = cloud.reread.values().flatten();
        for seen in cloud.listing.resources.iter().chain(reread) {
            let target = &seen.target;
            let known = self
                .resources
                .insert((&target.provider, target.kind, &target.id), seen);
            let (None, Some((intent, registration))) = (known, seen.claimed()) else {
                continue;
            };
            self.labelled.extend(registration);
            if let Some(made) = self.by_intent.get_mut(intent) {
                made.push(seen);
            }
        }
        self.offerings.extend(cloud.offerings.iter().map(|o| (&o.key, o)));
    }

    fn index_demand(&mut self, demand: &'a DemandSnapshot) {
        let ci = &demand.ci;
        for runner in &demand.runners {
            self.runners.insert((ci, &runner.registration), runner);
        }
        let Wanted::Jobs(jobs) = &demand.wanted else {
            return;
        };
        let mut counted = HashSet::with_capacity(jobs.len());
        for job in jobs {
            match (job.state, &job.runner) {
                (JobState::Running, Some(runner)) if job.stuck && self.is_condemned(demand, job) => {
                    self.stuck.entry((ci, runner)).or_insert(&job.id);
                }
                (JobState::Running, Some(runner)) if counted.insert(&job.id) => {
                    *self.jobs.entry((ci, runner)).or_default() += 1;
                }
                (JobState::Running, None) => self.index_adrift(ci, job),
                (JobState::Finished, Some(runner)) => {
                    if let Some(at) = job.finished_at {
                        let last = self.finished.entry((ci, runner)).or_insert(at);
                        *last = at.max(*last);
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether a job that runs for too long has been seen to do so twice: until then its runner is busy.
    fn is_condemned(&self, demand: &DemandSnapshot, job: &Job) -> bool {
        let condemned = &self.snapshot.history.condemned;
        condemned
            .get(&stuck_key(&demand.ci, &job.id))
            .is_some_and(|since| settled(*since, demand.control.settle, demand.now))
    }

    /// The job that keeps a runner for longer than its CI lets any; none until that has been seen twice.
    pub fn stuck(&self, ci: &CiName, registration: &RegistrationId) -> Option<&'a JobId> {
        self.stuck.get(&(ci, registration)).copied()
    }

    /// A job that runs who knows where: no runner that it fits is certainly idle.
    fn index_adrift(&mut self, ci: &'a CiName, job: &Job) {
        self.adrift_cis.insert(ci);
        for pool in &self.stack.pools {
            if pool.ci == *ci && !self.adrift_pools.contains(&pool.name) && pool.selector().fits(job) {
                self.adrift_pools.insert(&pool.name);
            }
        }
    }

    /// Why a cloud's reading is not whole; none when it is.
    pub fn cloud_gap(&self, provider: &ProviderName) -> Option<String> {
        match self.snapshot.clouds.get(provider) {
            Some(cloud) => gap(&cloud.listing.completeness),
            None => Some("it was not read".to_owned()),
        }
    }

    /// Why a CI's reading is not whole; none when it is.
    pub fn demand_gap(&self, ci: &CiName) -> Option<String> {
        match self.snapshot.demand.get(ci) {
            Some(demand) => gap(&demand.completeness),
            None => Some("it was not read".to_owned()),
        }
    }

    /// What was measured of a pool, where its source measures and answered.
    pub fn metrics(&self, pool: &Pool) -> Option<&'a PoolMetrics> {
        self.snapshot.demand.get(&pool.ci)?.metrics.get(&pool.name)
    }

    /// How a CI's runners are cordoned.
    pub fn control(&self, ci: &CiName) -> Option<&'a ControlProfile> {
        self.snapshot.demand.get(ci).map(|demand| &demand.control)
    }

    /// How this runner of it is cordoned: one that shares its registration only with all others of it, for the seconds
    /// of a retire.
    pub fn control_of(&self, ci: &CiName, registration: &RegistrationId) -> Option<ControlProfile> {
        let mut control = self.control(ci)?.clone();
        // Elsewhere a dot is a letter of a name.
        let config = self.stack.ci.get(ci);
        let shares = config.is_none_or(|config| config.kind == CiKind::Gitlab);
        if control.cordon == CordonKind::Pause && shares && registration.shared().is_some() {
            control.cordon = CordonKind::PauseAll;
        }
        Some(control)
    }

    /// Whether a machine can run nothing any more: it ended by itself, or is gone for good; where only its own leaving lets it
    /// go, one that is switched off too.
    pub fn has_ended(&self, seen: &Observed, ci: Option<&CiName>) -> bool {
        match &seen.status {
            CloudStatus::Ended(_) | CloudStatus::Terminated(_) => true,
            CloudStatus::Off => ci
                .and_then(|ci| self.control(ci))
                .is_some_and(|control| control.cordon == CordonKind::Leaves),
            _ => false,
        }
    }

    /// A CI's clock; ours where it did not answer.
    pub fn ci_now(&self, ci: &CiName) -> Timestamp {
        self.snapshot
            .demand
            .get(ci)
            .map_or(self.snapshot.now, |demand| demand.now)
    }

    /// A cloud's clock; ours where it did not answer.
    pub fn cloud_now(&self, provider: &ProviderName) -> Timestamp {
        self.snapshot
            .clouds
            .get(provider)
            .map_or(self.snapshot.now, |cloud| cloud.listing.now)
    }

    /// How long a cloud's listing may lag.
    pub fn cloud_settle(&self, provider: &ProviderName) -> SignedDuration {
        self.snapshot
            .clouds
            .get(provider)
            .map_or(SignedDuration::ZERO, |cloud| cloud.profile.settle)
    }

    /// A resource that was listed or read by id.
    pub fn resource(&self, target: &ResourceRef) -> Option<&'a Observed> {
        self.resources
            .get(&(&target.provider, target.kind, &target.id))
            .copied()
    }

    /// What carries this open attempt's nonce, lowest id first.
    pub fn made_by(&self, intent: &IntentId) -> Vec<&'a Observed> {
        let mut made = self.by_intent.get(intent.as_str()).cloned().unwrap_or_default();
        made.sort_by_key(|seen| numeric(&seen.target.id));
        made
    }

    /// The address under which a resource is on record.
    pub fn recorded(&self, target: &ResourceRef) -> Option<&'a Address> {
        self.recorded
            .get(&(&target.provider, target.kind, &target.id))
            .copied()
    }

    /// The machine that a registration belongs to: one on record, or one that is being made.
    pub fn owner(&self, ci: &CiName, registration: &RegistrationId) -> Option<&'a Address> {
        self.registrations.get(&(ci, registration)).copied()
    }

    /// Whether any resource that was seen says that it uses this registration.
    pub fn is_labelled(&self, registration: &RegistrationId) -> bool {
        self.labelled.contains(registration.as_str())
    }

    /// A registration as its CI tells it.
    pub fn runner(&self, ci: &CiName, registration: &RegistrationId) -> Option<&'a RunnerView> {
        self.runners.get(&(ci, registration)).copied()
    }

    /// When the last job that is known to have ended on a runner did so.
    pub fn last_finished(&self, ci: &CiName, registration: &RegistrationId) -> Option<Timestamp> {
        self.finished.get(&(ci, registration)).copied()
    }

    /// What an hour on an offering costs.
    pub fn price(&self, offering: &OfferingKey, public_ipv4: bool) -> Option<&'a Price> {
        let offering = self.offerings.get(offering)?;
        Some(offering.price_with(public_ipv4))
    }

    /// An amount in the currency that all is counted in; none where it does not convert. Without such a currency as it is.
    pub fn worth(&self, money: &Money) -> Option<Money> {
        match self.stack.counted_in() {
            Some(counted) => self.stack.currency.convert(money, counted),
            None => Some(money.clone()),
        }
    }

    /// What an hour of the dearest of these costs, in the currency that all is counted in.
    pub fn dearest<'p>(&self, prices: impl Iterator<Item = &'p Price>) -> Option<&'p Price> {
        prices.max_by_key(|price| {
            self.worth(&price.hourly)
                .map_or(price.hourly.amount, |money| money.amount)
        })
    }

    /// Whether a runner runs jobs, as all sources together say it.
    pub fn work(&self, ci: &CiName, registration: &RegistrationId, pool: Option<&PoolName>) -> Work {
        let Some(demand) = self.snapshot.demand.get(ci) else {
            return Work::Unknown;
        };
        if let Some(jobs) = self.jobs.get(&(ci, registration)) {
            return Work::Busy(*jobs);
        }
        let complete = demand.completeness.is_complete();
        let by_job = matches!(demand.wanted, Wanted::Jobs(_));
        let runner = self.runner(ci, registration);
        let flag = runner.and_then(|runner| runner.busy);
        match (flag, runner) {
            (Some(true), _) if by_job && complete => Work::Unknown,
            (Some(true), _) => Work::Busy(0),
            _ if !complete => Work::Unknown,
            (Some(false), _) => Work::Idle,
            (None, Some(runner)) if !has_called(runner) && !self.was_ready(ci, registration) => Work::Idle,
            _ if !by_job || self.adrift(ci, pool) => Work::Unknown,
            (None, Some(_)) => Work::Idle,
            (None, None) => Work::NoRunner,
        }
    }

    /// Whether a machine on record was ready once: one that does not answer now may run jobs all the same.
    fn was_ready(&self, ci: &CiName, registration: &RegistrationId) -> bool {
        let memory = self
            .owner(ci, registration)
            .and_then(|address| self.snapshot.history.machines.get(address));
        memory.is_some_and(|memory| memory.ready_at.is_some())
    }

    fn adrift(&self, ci: &CiName, pool: Option<&PoolName>) -> bool {
        match pool {
            Some(pool) if self.stack.pool(pool).is_some() => self.adrift_pools.contains(pool),
            _ => self.adrift_cis.contains(ci),
        }
    }

    /// Whether it carries a whole claim of another lineage: that of a state elsewhere, which adopted it.
    pub fn is_anothers(&self, seen: &Observed) -> bool {
        let lineage = seen.labels.get("runfleet-lineage");
        lineage.is_some_and(|lineage| lineage != self.snapshot.state.lineage.as_str())
            && seen.claimed().is_some()
    }

    /// What is on record here and was adopted by a state elsewhere.
    pub fn taken_over(&self, record: &Record) -> Option<&'a Observed> {
        self.resource(&record.target())
            .filter(|seen| self.is_anothers(seen))
    }

    /// Whether this tick's reading has a resource on record.
    pub fn sighting(&self, address: &Address, record: &Record) -> Sighting<'a> {
        if let Some(seen) = self
            .resources
            .get(&(&record.provider, record.spec.kind(), &record.id))
        {
            return if self.is_anothers(seen) {
                Sighting::Unseen
            } else {
                Sighting::Here(seen)
            };
        }
        let Some(cloud) = self.snapshot.clouds.get(&record.provider) else {
            return Sighting::Unseen;
        };
        match (
            cloud.listing.completeness.is_complete(),
            cloud.reread.get(address),
        ) {
            (true, Some(None)) => Sighting::Lacking,
            _ => Sighting::Unseen,
        }
    }
}

/// The key under which a job that runs for too long is condemned.
pub fn stuck_key(ci: &CiName, job: &JobId) -> String {
    format!("{ci} job {job}")
}

/// Whether the CI has ever heard from a runner.
pub fn has_called(runner: &RunnerView) -> bool {
    runner.last_contact.is_some() || runner.online == Some(true)
}

/// Whether something seen at `since` has been so for `settle`, and more than one reading says so.
pub fn settled(since: Timestamp, settle: SignedDuration, now: Timestamp) -> bool {
    now > since && now.duration_since(since) >= settle
}

fn gap(completeness: &Completeness) -> Option<String> {
    match completeness {
        Completeness::Complete => None,
        Completeness::Partial { why } => Some(why.clone()),
    }
}

/// Orders ids that are numbers as numbers.
fn numeric(id: &CloudId) -> (u64, CloudId) {
    (id.as_str().parse().unwrap_or(u64::MAX), id.clone())
}
