//! Groups as pools: pools that are found become pools of the stack, and members become machines of the snapshot.
//!
//! # Expected flow
//! [`expand`] gives the stack as it is with what this tick's listing found: a pool that discovers becomes one pool for each
//! group, and every group's own limits bound its pool. [`enrol`] then puts each member into the snapshot as a machine with
//! a record, so that whatever is decided on machines is decided on members by the same rules: who is busy, who is idle and
//! for how long, who goes and may it go. It also gives a CI that tells no runners (Drone) one for each machine that runs.
//!
//! # Guarantees
//! A member's record is never written: the cloud names members, and the next listing tells them again. What is remembered of
//! one (since when it is idle) is kept by its address. Both functions, done again, change nothing.
//!
//! # Assumptions
//! A member's runner is called by its id, or by its host name, as the stack file says. One whose name is not known counts as
//! one that may work.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use crate::{
    model::{
        demand::{DemandSnapshot, RunnerView, Wanted},
        ids::{
            Address, CiName, IntentId, PoolName, ProviderName, RegistrationId, ResourceKind, RunnerName,
            SpecHash,
        },
        metrics::MachineSeen,
        offering::{Market, OfferingKey},
        resource::{
            ClaimLabels, CloudSnapshot, CloudStatus, CordonKind, ImageRef, Labels, MachineSpec, Member,
            Observed, ResourceRef, ResourceSpec,
        },
        snapshot::Snapshot,
        state::{Phase, Record, State},
    },
    plan::batches::is_over,
    stack::{GroupSelector, Pool, RunnerNaming, Stack, StackPath},
};

pub use super::expand::{expand, is_found_by_listing};

/// The lifecycle of a member that was taken out of its group and not ended yet: it does not count in the group's size.
pub const DETACHED: &str = "Detached";

/// The group of a pool, where it is listed.
pub fn group<'a>(pool: &Pool, clouds: &'a BTreeMap<ProviderName, CloudSnapshot>) -> Option<&'a Observed> {
    let choice = pool.group.as_ref()?;
    let GroupSelector::Named(name) = &choice.which else {
        return None;
    };
    let listed = &clouds.get(&choice.provider)?.listing.resources;
    listed
        .iter()
        .find(|seen| seen.target.kind == ResourceKind::Group && seen.name == *name)
}

/// The machines of a pool as the clouds list them, for a source that asks them: those whose claim is of the pool and names a
/// registration, or the members of its group. And the clock of the clouds that have some of them, or answered in full and may be given
/// some, the latest of several.
pub fn seen(
    stack: &Stack,
    pool: &Pool,
    clouds: &BTreeMap<ProviderName, CloudSnapshot>,
) -> (Vec<MachineSeen>, Option<Timestamp>) {
    if let (Some(seen), Some(choice)) = (group(pool, clouds), &pool.group) {
        let members = seen.members.iter();
        let members = members
            .filter_map(|member| as_seen(choice.runner, member))
            .collect();
        let now = clouds.get(&choice.provider).map(|cloud| cloud.listing.now);
        return (members, now);
    }
    let mut machines = Vec::new();
    let mut now = None;
    for (name, cloud) in clouds {
        let before = machines.len();
        let listed = cloud.listing.resources.iter();
        machines.extend(listed.filter_map(|listed| of_pool(stack, pool, listed)));
        // Of a cloud that did not answer the listing's time is ours.
        let sells = cloud.listing.completeness.is_complete()
            && pool.offerings.iter().any(|offering| offering.provider == *name);
        if machines.len() > before || sells {
            now = now.max(Some(cloud.listing.now));
        }
    }
    (machines, now)
}

fn of_pool(stack: &Stack, pool: &Pool, listed: &Observed) -> Option<MachineSeen> {
    if listed.target.kind != ResourceKind::Machine {
        return None;
    }
    let claim = listed.claim()?;
    let named = claim.pool?;
    // Labels lag behind a pool that has another name now.
    let moved = || {
        let mut moved = stack.moved.iter();
        moved.any(|moved| {
            moved.from == StackPath::Pool(named.clone()) && moved.to == StackPath::Pool(pool.name.clone())
        })
    };
    (claim.stack == stack.name && (named == pool.name || moved())).then_some(())?;
    Some(MachineSeen {
        registration: claim.registration?,
        name: listed.name.clone(),
        lineage: Some(claim.lineage),
        running: is_on(&listed.status),
        addresses: listed.addresses.clone(),
        created_at: listed.created_at,
    })
}

fn as_seen(naming: RunnerNaming, member: &Member) -> Option<MachineSeen> {
    let registration = named(naming, member)?;
    Some(MachineSeen {
        name: registration.to_string(),
        registration,
        lineage: None,
        running: is_on(&member.status),
        addresses: member.addresses.clone(),
        created_at: member.created_at,
    })
}

/// Whether it may answer: a word that is not known may mean that it runs.
fn is_on(status: &CloudStatus) -> bool {
    matches!(status, CloudStatus::Running | CloudStatus::Unknown(_))
}

/// What a member's runner is called by its CI; none where that is not known.
fn named(naming: RunnerNaming, member: &Member) -> Option<RegistrationId> {
    match naming {
        RunnerNaming::Id => Some(RegistrationId::from(member.id.as_str())),
        RunnerNaming::Hostname => member.hostname.as_deref().map(RegistrationId::from),
    }
}

/// Puts the members of the stack's groups into the snapshot as machines, and gives a CI that tells no runners those that its
/// running machines are.
pub fn enrol(snapshot: &mut Snapshot, stack: &Stack) {
    for pool in &stack.pools {
        members(snapshot, pool);
    }
    containers(snapshot, stack);
    let silent: Vec<CiName> = snapshot
        .demand
        .iter()
        .filter(|(_, demand)| !demand.control.lists_runners)
        .map(|(ci, _)| ci.clone())
        .collect();
    for ci in silent {
        runners(snapshot, &ci);
    }
    for (name, demand) in &mut snapshot.demand {
        if stack.ci.get(name).is_some_and(|ci| ci.kind.asks_machines()) {
            pauses(&snapshot.state, demand);
        }
    }
}

/// Nobody but our records tells of the cordon of a machine without a CI.
fn pauses(state: &State, demand: &mut DemandSnapshot) {
    let cordoned = state.resources.values().filter(|record| {
        record.ci.as_ref() == Some(&demand.ci) && matches!(record.phase, Phase::Cordoned { .. })
    });
    let cordoned: HashSet<&RegistrationId> = cordoned
        .filter_map(|record| record.registration.as_ref())
        .collect();
    for runner in &mut demand.runners {
        runner.paused |= cordoned.contains(&runner.registration);
    }
}

fn members(snapshot: &mut Snapshot, pool: &Pool) {
    let Some(seen) = group(pool, &snapshot.clouds) else {
        return;
    };
    let target = seen.target.clone();
    let machines: Vec<(Record, Observed)> = seen
        .members
        .iter()
        .map(|member| machine(pool, &target, member))
        .collect();
    let Some(cloud) = snapshot.clouds.get_mut(&target.provider) else {
        return;
    };
    let known: HashSet<ResourceRef> = cloud
        .listing
        .resources
        .iter()
        .map(|seen| seen.target.clone())
        .collect();
    for (mut record, machine) in machines {
        let offering = machine.offering.as_ref();
        record.price = offering
            .and_then(|key| cloud.offerings.iter().find(|offering| offering.key == *key))
            .map(|offering| offering.price.clone());
        let address = Address::machine(&pool.name, &RunnerName::from(record.id.as_str()));
        snapshot.members.insert(address.clone(), target.clone());
        snapshot.state.resources.entry(address).or_insert(record);
        if !known.contains(&machine.target) {
            cloud.listing.resources.push(machine);
        }
    }
}

/// What is on record of a batch: where, what each of it is, and for which CI.
type Recorded<'r> = HashMap<ResourceRef, (&'r Address, &'r MachineSpec, Option<&'r CiName>)>;

/// Each container of our batches that has not ended, as a machine: whether its batch is on record or not.
fn containers(snapshot: &mut Snapshot, stack: &Stack) {
    let recorded: Recorded<'_> = snapshot
        .state
        .resources
        .iter()
        .filter_map(|(address, record)| match &record.spec {
            ResourceSpec::Batch(batch) => Some((record.target(), (address, &batch.each, record.ci.as_ref()))),
            _ => None,
        })
        .collect();
    let mut found = Vec::new();
    for cloud in snapshot.clouds.values() {
        let listed = cloud.listing.resources.iter();
        for batch in listed.filter(|seen| seen.target.kind == ResourceKind::Batch) {
            let Some(claim) = batch.claim() else { continue };
            if claim.lineage != snapshot.state.lineage || snapshot.state.released.contains(&batch.target) {
                continue;
            }
            let alive = batch.members.iter().filter(|member| !is_over(member));
            found
                .extend(alive.filter_map(|member| container(cloud, &recorded, stack, batch, &claim, member)));
        }
    }
    let listed = snapshot
        .clouds
        .values()
        .flat_map(|cloud| &cloud.listing.resources);
    let known: HashSet<ResourceRef> = listed.map(|seen| seen.target.clone()).collect();
    for (address, record, machine, batch) in found {
        snapshot.members.insert(address.clone(), batch);
        snapshot.state.resources.entry(address).or_insert(record);
        if let Some(cloud) = snapshot.clouds.get_mut(&machine.target.provider)
            && !known.contains(&machine.target)
        {
            cloud.listing.resources.push(machine);
        }
    }
}

fn container(
    cloud: &CloudSnapshot,
    recorded: &Recorded<'_>,
    stack: &Stack,
    batch: &Observed,
    claim: &ClaimLabels,
    member: &Member,
) -> Option<(Address, Record, Observed, ResourceRef)> {
    let recorded = recorded.get(&batch.target);
    // Labels lag behind a pool that has another name now.
    let pool = match recorded {
        Some((address, ..)) => address.pool.clone()?,
        None => claim.pool.clone()?,
    };
    let each = recorded.map(|(_, each, _)| *each);
    let ci = recorded.and_then(|(.., ci)| *ci);
    let ci = ci.or_else(|| stack.pool(&pool).map(|pool| &pool.ci)).cloned();
    let bought = member.offering.as_ref().or(batch.offering.as_ref());
    let offering = bought.or_else(|| each.map(|each| &each.offering))?.clone();
    let public_ipv4 = each.is_none_or(|each| each.public_ipv4);
    let sold = cloud.offerings.iter().find(|sold| sold.key == offering);
    let (mut record, mut seen) = enrolled(&pool, ci, RunnerNaming::Hostname, &batch.target, member);
    record.hash = claim.hash.clone();
    record.price = sold.map(|sold| sold.price_with(public_ipv4).clone());
    if let ResourceSpec::Machine(spec) = &mut record.spec {
        spec.offering.clone_from(&offering);
        spec.image = ImageRef::TaskTemplate;
        spec.public_ipv4 = public_ipv4;
    }
    seen.offering = Some(offering);
    let address = Address::machine(&pool, &RunnerName::from(member.id.as_str()));
    Some((address, record, seen, batch.target.clone()))
}

fn machine(pool: &Pool, group: &ResourceRef, member: &Member) -> (Record, Observed) {
    let naming = pool
        .group
        .as_ref()
        .map(|choice| choice.runner)
        .unwrap_or_default();
    enrolled(&pool.name, Some(pool.ci.clone()), naming, group, member)
}

fn enrolled(
    pool: &PoolName,
    ci: Option<CiName>,
    naming: RunnerNaming,
    group: &ResourceRef,
    member: &Member,
) -> (Record, Observed) {
    let name = member.id.to_string();
    let offering = member.offering.clone().unwrap_or_else(|| OfferingKey {
        provider: group.provider.clone(),
        location: String::new(),
        machine_type: String::new(),
        market: Market::OnDemand,
    });
    let registration = named(naming, member);
    let status = match member.lifecycle.as_str() {
        DETACHED => CloudStatus::Failed("taken out of its group, and not ended".to_owned()),
        _ => member.status.clone(),
    };
    let spec = MachineSpec {
        pool: pool.clone(),
        runner: RunnerName::from(name.as_str()),
        name: name.clone(),
        offering,
        image: ImageRef::LaunchTemplate,
        public_ipv4: false,
        ssh_keys: Vec::new(),
        firewalls: Vec::new(),
        networks: Vec::new(),
        placement_group: None,
        ec2: None,
        task: None,
        parts: BTreeMap::new(),
    };
    let record = Record {
        provider: group.provider.clone(),
        id: member.id.clone(),
        name: name.clone(),
        intent: IntentId::from(format!("member-{name}")),
        hash: SpecHash::from(group.id.as_str()),
        created_at: member.created_at,
        spec: ResourceSpec::Machine(spec),
        price: None,
        ci,
        registration,
        phase: Phase::Live,
    };
    let seen = Observed {
        target: ResourceRef {
            provider: group.provider.clone(),
            kind: ResourceKind::Machine,
            id: member.id.clone(),
        },
        name,
        labels: Labels::new(),
        status,
        created_at: member.created_at,
        offering: member.offering.clone(),
        addresses: member.addresses.clone(),
        rules: None,
        public_key: None,
        network: None,
        uses: None,
        size: None,
        members: Vec::new(),
        group: None,
    };
    (record, seen)
}

/// A CI that tells no runners knows those whose machine runs: it has heard from one as soon as that is up.
fn runners(snapshot: &mut Snapshot, ci: &CiName) {
    let running: HashSet<&ResourceRef> = snapshot
        .clouds
        .values()
        .flat_map(|cloud| {
            cloud
                .listing
                .resources
                .iter()
                .chain(cloud.reread.values().flatten())
        })
        .filter(|seen| seen.status == CloudStatus::Running)
        .map(|seen| &seen.target)
        .collect();
    let Some(demand) = snapshot.demand.get_mut(ci) else {
        return;
    };
    let known: HashSet<RegistrationId> = demand
        .runners
        .iter()
        .map(|runner| runner.registration.clone())
        .collect();
    for (address, record) in &snapshot.state.resources {
        let (Some(own), Some(registration)) = (&record.ci, &record.registration) else {
            continue;
        };
        if own == ci && !known.contains(registration) && running.contains(&record.target()) {
            demand.runners.push(RunnerView {
                registration: registration.clone(),
                description: registration.to_string(),
                online: Some(true),
                // Nobody else tells: what we cordoned is paused.
                paused: demand.control.cordon == CordonKind::Pause
                    && matches!(record.phase, Phase::Cordoned { .. }),
                last_contact: Some(demand.now),
                busy: idle_by_count(&demand.wanted, address),
            });
        }
    }
}

/// That it is idle, where its pool runs nothing by a count. Jobs say it themselves: what runs is told with the machine that
/// runs it.
fn idle_by_count(wanted: &Wanted, address: &Address) -> Option<bool> {
    let Wanted::Counts(counts) = wanted else {
        return None;
    };
    let count = counts.get(address.pool.as_ref()?)?;
    (count.running == 0).then_some(false)
}
