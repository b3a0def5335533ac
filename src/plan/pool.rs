//! One pool: its target, what its machines come to, and how many are missing.

use std::collections::BTreeMap;

use super::{
    Goal, PoolReport,
    draft::Draft,
    facts::{Facts, Work},
    fleet::{self, Health, Machine, Presence},
    judge::{Judge, Sorted},
    resize::{self, Gate},
    roll::Roll,
};
use crate::{
    model::{
        ids::{CiName, PoolName, ProviderName},
        offering::OfferingKey,
        reason::Reason,
        state::StepMemory,
    },
    scaling::{self, Growth, Have, Load, Room, Sight, Target},
    stack::{Policy, Pool},
};

/// What a pool wants made.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pub(super) pool: &'a Pool,
    /// One for each machine.
    pub(super) reasons: Vec<Reason>,
    /// The machines in creation already, by what they are made on.
    pub(super) booting: BTreeMap<OfferingKey, u32>,
}

/// Why nothing may shrink.
fn gap<'a>(
    facts: &Facts<'a>,
    pool: Option<&'a Pool>,
    machines: &[Machine<'a>],
) -> (Option<Reason>, Option<Reason>) {
    let mut providers: Vec<&ProviderName> = Vec::new();
    let mut cis: Vec<&CiName> = pool.map(|pool| &pool.ci).into_iter().collect();
    let wished = pool.into_iter().flat_map(|pool| &pool.offerings);
    providers.extend(wished.map(|choice| &choice.provider));
    providers.extend(
        pool.and_then(|pool| pool.group.as_ref())
            .map(|group| &group.provider),
    );
    for machine in machines {
        if !providers.contains(&&machine.record.provider) {
            providers.push(&machine.record.provider);
        }
        if let Some(ci) = machine.record.ci.as_ref().filter(|ci| !cis.contains(ci)) {
            cis.push(ci);
        }
    }
    let cloud = providers.into_iter().find_map(|provider| {
        let why = facts.cloud_gap(provider)?;
        let provider = provider.clone();
        Some(Reason::PartialCloud { provider, why })
    });
    let demand = cis.into_iter().find_map(|ci| {
        let why = facts.demand_gap(ci)?;
        Some(Reason::PartialDemand { ci: ci.clone(), why })
    });
    (cloud, demand)
}

/// Whether a pool may grow: something that it may buy is sold by a cloud whose answer is whole. A group is as good as its
/// one cloud.
fn grows(facts: &Facts<'_>, pool: &Pool, cloud: Option<&Reason>) -> bool {
    let whole = |provider: &ProviderName| facts.cloud_gap(provider).is_none();
    let mut offered = pool.offerings.iter().map(|choice| &choice.provider);
    cloud.is_none() || (pool.group.is_none() && offered.any(whole))
}

/// Whether a machine that nobody can look at takes no jobs: its cloud's answer is partial, and its CI's, which is whole,
/// says that its runner is offline or not there. It exists as far as anybody knows, and does not serve.
fn is_cut_off(facts: &Facts<'_>, machine: &Machine<'_>) -> bool {
    let record = machine.record;
    let (Some(ci), Health::Well) = (&record.ci, &machine.health) else {
        return false;
    };
    let unseen = facts.cloud_gap(&record.provider).is_some() && facts.demand_gap(ci).is_none();
    let told = fleet::runner(facts, record).map(|runner| runner.online);
    let gone = || {
        let lists = facts.control(ci).is_some_and(|control| control.lists_runners);
        lists && machine.work == Work::NoRunner
    };
    unseen && (told == Some(Some(false)) || (told.is_none() && gone()))
}

/// What a pool has and will have besides its machines on record, and its jobs.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside {
    /// Attempts that may have made a machine, and machines that are taken on record: they count as serving.
    pub(super) in_flight: Vec<OfferingKey>,
    /// Orphans: they exist.
    pub(super) orphans: u32,
    /// Its jobs.
    pub(super) load: Load,
}

/// A pool of the stack between the two halves of its decision: what it needs is known, who leaves is not.
pub(super) struct Standing<'a, 'f> {
    pub(super) pool: &'a Pool,
    pub(super) machines: &'f [Machine<'a>],
    pub(super) target: Target,
    pub(super) room: Room,
    pub(super) report: PoolReport,
    pub(super) wish: Wish<'a>,
    sorted: Sorted<'a, 'f>,
    cloud: Option<Reason>,
    demand: Option<Reason>,
    /// Whether it may grow, though a cloud's answer is partial.
    grows: bool,
    /// How many more runners its CI is licensed for; none: any number.
    pub(super) licensed: Option<u32>,
}

impl Standing<'_, '_> {
    /// Whether machines may be made anew: not on partial answers.
    pub(super) fn is_whole(&self) -> bool {
        self.cloud.is_none() && self.demand.is_none()
    }
}

/// How many more jobs a ready machine could take; none where it is not certain what it runs.
fn free(work: Work, per: u32) -> u32 {
    match work {
        Work::Idle => per,
        Work::Busy(jobs) => per.saturating_sub(jobs.max(1)),
        Work::Unknown | Work::NoRunner => 0,
    }
}

/// What is remembered of a pool's steps once this is carried out; none: as it was.
fn memory_after(
    pool: &Pool,
    target: &Target,
    goal: Goal,
    sight: &Sight<'_>,
    draft: &Draft,
) -> Option<Box<StepMemory>> {
    if !matches!(pool.policy, Policy::Step(_)) {
        return None;
    }
    match &target.stepped {
        // Nothing is made of it: the next tick begins anew.
        _ if goal == Goal::Destroy || draft.is_advised(&pool.name) => Some(Box::default()),
        Some(stepped) if sight.may_act => Some(Box::new(stepped.memory.clone())),
        _ => None,
    }
}

/// Decides what a pool of the stack needs. Machines that `roll` wants anew are not wanted again once they are cordoned.
pub(super) fn begin<'a, 'f>(
    facts: &'f Facts<'a>,
    pool: &'a Pool,
    machines: &'f [Machine<'a>],
    beside: &Beside,
    goal: Goal,
    roll: &Roll<'_>,
    draft: &mut Draft,
) -> Standing<'a, 'f> {
    let load = beside.load;
    let (cloud, demand) = gap(facts, Some(pool), machines);
    let coming = resize::coming(facts, pool);
    let in_flight = u32::try_from(beside.in_flight.len())
        .unwrap_or(u32::MAX)
        .saturating_add(coming);
    let count = |test: &dyn Fn(&Machine<'_>) -> bool| {
        u32::try_from(machines.iter().filter(|m| test(m)).count()).unwrap_or(u32::MAX)
    };
    let grows = grows(facts, pool, cloud.as_ref());
    let serves = |m: &Machine<'_>| m.serves() && !is_cut_off(facts, m);
    let mut room = Room {
        serving: count(&|m| serves(m)) + in_flight,
        existing: count(&|m| m.presence != Presence::Gone) + in_flight + beside.orphans,
        booting: count(&|m| m.serves() && m.health == Health::Booting) + in_flight,
    };
    // One whose CI says that it is offline takes nothing, idle or not.
    let answers = |m: &Machine<'_>| {
        let told = fleet::runner(facts, m.record);
        told.is_none_or(|runner| runner.online != Some(false))
    };
    let ready = machines
        .iter()
        .filter(|m| serves(m) && m.health == Health::Well && answers(m));
    let have = Have {
        serving: room.serving,
        booting: room.booting,
        busy: count(&|m| serves(m) && m.health == Health::Well && m.work.busy() != Some(false)),
        free: ready
            .map(|m| free(m.work, pool.jobs_per_runner))
            .fold(0, u32::saturating_add),
    };
    let sight = Sight {
        ready: fleet::ready(machines),
        metrics: facts.metrics(pool),
        memory: facts.snapshot.history.steps.get(&pool.name),
        now: facts.ci_now(&pool.ci),
        may_act: cloud.is_none() && draft.scope.covers_pool(&pool.name),
        may_remove: demand.is_none(),
    };
    let mut target = scaling::target(pool, load, have, &sight);
    if goal == Goal::Destroy {
        target = Target {
            size: 0,
            wanted: 0,
            work: 0,
            formula: "destroy".to_owned(),
            stepped: None,
        };
    }
    let stepped = target.stepped.as_deref();
    for (reason, warning) in stepped.into_iter().flat_map(|stepped| stepped.held.clone()) {
        if warning {
            draft.warn(&pool.name, 0, reason);
        } else {
            draft.hold(&pool.name, 0, reason);
        }
    }
    let report = PoolReport {
        name: pool.name.clone(),
        target: target.size,
        queued: load.queued,
        running: load.running,
        serving: room.serving,
        formula: target.formula.clone(),
        steps: stepped.map(|stepped| stepped.steps.clone()).unwrap_or_default(),
        memory: memory_after(pool, &target, goal, &sight, draft),
    };
    let protect = pool.keeping.protect;
    let mut judge = Judge::sort(
        facts,
        draft,
        machines,
        cloud.as_ref().or(demand.as_ref()),
        protect,
        Gate::of(facts, pool),
    );
    if goal == Goal::Converge {
        room.serving += judge.want_again(target.size.saturating_sub(room.serving), roll);
    }
    let sorted = judge.pause();
    let growth = if !grows || goal == Goal::Destroy {
        Growth::default()
    } else {
        scaling::growth(pool, &target, room)
    };
    let mut limits = growth.limits;
    // Said by what is kept already when a partial answer stands above it.
    limits.retain(|_| grows);
    for (count, reason) in limits {
        draft.hold(&pool.name, count, reason);
    }
    let reasons = (room.serving..room.serving + growth.create)
        .map(|ordinal| scaling::reason(pool, load, &target, ordinal))
        .collect();
    let mut booting: BTreeMap<OfferingKey, u32> = BTreeMap::new();
    let made = machines
        .iter()
        .filter(|m| m.serves() && m.health == Health::Booting)
        .filter_map(|m| m.record.offering());
    for offering in made.chain(&beside.in_flight) {
        *booting.entry(offering.clone()).or_default() += 1;
    }
    let wish = Wish {
        pool,
        reasons,
        booting,
    };
    Standing {
        pool,
        machines,
        target,
        room,
        report,
        wish,
        sorted,
        cloud,
        demand,
        grows,
        licensed: None,
    }
}

/// Decides who of a pool's machines leaves, and says why the others stay.
pub(super) fn end<'a>(
    facts: &Facts<'a>,
    standing: Standing<'a, '_>,
    goal: Goal,
    roll: &Roll<'_>,
    draft: &mut Draft,
) -> PoolReport {
    let Standing {
        pool, target, room, ..
    } = standing;
    let mut judge = Judge::resume(facts, draft, standing.sorted, pool.keeping.protect);
    match (&standing.cloud, &standing.demand, goal) {
        (Some(reason), ..) => {
            // What it lacks is made elsewhere where it may grow, or told there why not.
            let off = match target.size.checked_sub(room.serving) {
                Some(_) if standing.grows => 0,
                _ => target.size.abs_diff(room.serving),
            };
            judge.keep_all(reason);
            judge.draft.warn(&pool.name, off, reason.clone());
        }
        (None, Some(reason), _) => {
            let surplus = room.serving.saturating_sub(target.size);
            judge.keep_all(reason);
            judge.draft.warn(&pool.name, surplus, reason.clone());
        }
        (None, None, Goal::Destroy) => judge.all_go(&Reason::Destroy),
        (None, None, Goal::Converge) => judge.shrink(pool, &target, room.serving, roll),
    }
    standing.report
}

/// Decides on the machines of a pool that the stack file does not have any more.
pub(super) fn dissolve<'a>(
    facts: &Facts<'a>,
    name: &PoolName,
    machines: &[Machine<'a>],
    goal: Goal,
    draft: &mut Draft,
) {
    let (cloud, demand) = gap(facts, None, machines);
    let blocked = cloud.or(demand);
    let mut judge = Judge::sort(facts, draft, machines, blocked.as_ref(), false, None);
    let reason = match goal {
        Goal::Destroy => Reason::Destroy,
        Goal::Converge => Reason::NotInStack,
    };
    if let Some(blocked) = blocked {
        let count = u32::try_from(machines.len()).unwrap_or(u32::MAX);
        judge.keep_all(&blocked);
        judge.draft.warn(name, count, blocked);
    } else {
        judge.all_go(&reason);
    }
}
