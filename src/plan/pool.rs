//! One pool's machines: which stay, which go, which are wanted again, and how many are missing.

use std::collections::BTreeMap;

use super::{
    Goal, IfBusy, PoolReport, Verb,
    draft::{Draft, Leaver},
    facts::{Facts, Work},
    fleet::{Doubt, Health, Machine, Presence},
};
use crate::{
    drain::{self, Clocks, Cordon, Rank},
    model::{
        ids::{CiName, PoolName, ProviderName},
        offering::OfferingKey,
        reason::Reason,
        resource::CordonKind,
    },
    scaling::{self, Growth, Load, Room, Target},
    stack::Pool,
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

/// A pool's machines while they are judged. Each comes to one end: an action, or a reason for which it is kept.
struct Judge<'a, 'f> {
    facts: &'f Facts<'a>,
    draft: &'f mut Draft,
    /// Those that serve and are there.
    serving: Vec<&'f Machine<'a>>,
    /// Those that take no new job.
    cordoned: Vec<&'f Machine<'a>>,
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

/// What a pool has and will have besides its machines on record.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside {
    /// Attempts that may have made a machine, and machines that are taken on record: they count as serving.
    pub(super) in_flight: Vec<OfferingKey>,
    /// Orphans: they exist.
    pub(super) orphans: u32,
}

/// Decides on a pool of the stack.
pub(super) fn decide<'a>(
    facts: &Facts<'a>,
    pool: &'a Pool,
    machines: &[Machine<'a>],
    load: Load,
    beside: &Beside,
    goal: Goal,
    draft: &mut Draft,
) -> (PoolReport, Wish<'a>) {
    let (cloud, demand) = gap(facts, Some(pool), machines);
    let mut target = scaling::target(pool, load);
    if goal == Goal::Destroy {
        target = Target {
            size: 0,
            wanted: 0,
            work: 0,
            formula: "destroy".to_owned(),
        };
    }
    let in_flight = u32::try_from(beside.in_flight.len()).unwrap_or(u32::MAX);
    let count = |test: &dyn Fn(&Machine<'_>) -> bool| {
        u32::try_from(machines.iter().filter(|m| test(m)).count()).unwrap_or(u32::MAX)
    };
    let mut room = Room {
        serving: count(&|m| m.serves()) + in_flight,
        existing: count(&|m| m.presence != Presence::Gone) + in_flight + beside.orphans,
        booting: count(&|m| m.serves() && m.health == Health::Booting) + in_flight,
    };
    let report = PoolReport {
        name: pool.name.clone(),
        target: target.size,
        queued: load.queued,
        running: load.running,
        serving: room.serving,
        formula: target.formula.clone(),
    };
    let mut judge = Judge::sort(facts, draft, machines, cloud.as_ref().or(demand.as_ref()));
    if cloud.is_none() && goal == Goal::Converge {
        room.serving += judge.want_again(target.size.saturating_sub(room.serving));
    }
    match (&cloud, &demand, goal) {
        (Some(reason), ..) => {
            let off = target.size.abs_diff(room.serving);
            judge.keep_all(reason);
            judge.draft.warn(&pool.name, off, reason.clone());
        }
        (None, Some(reason), _) => {
            let surplus = room.serving.saturating_sub(target.size);
            judge.keep_all(reason);
            judge.draft.warn(&pool.name, surplus, reason.clone());
        }
        (None, None, Goal::Destroy) => judge.all_go(&Reason::Destroy),
        (None, None, Goal::Converge) => judge.shrink(pool, &target, room.serving),
    }
    let growth = if cloud.is_some() || goal == Goal::Destroy {
        Growth::default()
    } else {
        scaling::growth(pool, &target, room)
    };
    let mut limits = growth.limits;
    // Said by what is kept already when a partial answer stands above it.
    limits.retain(|_| cloud.is_none());
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
    (report, wish)
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
    let mut judge = Judge::sort(facts, draft, machines, blocked.as_ref());
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

impl<'a, 'f> Judge<'a, 'f> {
    /// Ends what needs no target, and sorts the rest.
    fn sort(
        facts: &'f Facts<'a>,
        draft: &'f mut Draft,
        machines: &'f [Machine<'a>],
        blocked: Option<&Reason>,
    ) -> Self {
        let mut judge = Self {
            facts,
            draft,
            serving: Vec::new(),
            cordoned: Vec::new(),
        };
        for machine in machines {
            if judge.draft.is_touched(machine.address) {
                continue;
            }
            match (&machine.presence, &machine.health, blocked) {
                (Presence::Gone, ..) => judge.forget(machine),
                (Presence::Missing { since }, ..) => {
                    let reason = Reason::MissingOnce { since: *since };
                    judge.draft.hold(machine.address, 1, reason.clone());
                    judge.draft.keep(machine, reason);
                }
                (_, Health::Leaving, _) => judge.draft.keep(machine, Reason::Unfinished),
                (_, Health::Ended, None) => judge.clear(machine),
                (_, Health::Failed(reason), None) => judge.must_go(machine, reason.clone()),
                (_, Health::Ended | Health::Failed(_), Some(reason)) => {
                    judge.draft.keep(machine, reason.clone())
                }
                (_, Health::Well | Health::Booting, _) if machine.cordon == Cordon::No => {
                    judge.serving.push(machine);
                }
                (_, Health::Well | Health::Booting, _) => judge.cordoned.push(machine),
            }
        }
        judge
    }

    fn forget(&mut self, machine: &Machine<'_>) {
        let record = machine.record;
        let verb = Verb::Forget {
            registration: record.ci.clone().zip(record.registration.clone()),
        };
        self.draft
            .push(machine.address, verb, Reason::Gone, Vec::new(), Some(record));
    }

    fn clear(&mut self, machine: &Machine<'_>) {
        let record = machine.record;
        let verb = Verb::Delete {
            target: record.target(),
            registration: record.ci.clone().zip(record.registration.clone()),
        };
        self.draft
            .push(machine.address, verb, Reason::Ended, Vec::new(), Some(record));
    }

    /// Lets cordoned machines serve again, at most `short` of them: busy ones first, then those paid longest.
    fn want_again(&mut self, short: u32) -> u32 {
        let mut wanted = 0;
        let mut cordoned = std::mem::take(&mut self.cordoned);
        cordoned.sort_by_key(|m| (m.work.busy() != Some(false), rank(m)));
        while wanted < short {
            let Some(at) = cordoned.iter().rposition(|m| may_uncordon(self.facts, m)) else {
                break;
            };
            let machine = cordoned.remove(at);
            let record = machine.record;
            let (Some(ci), Some(registration)) = (record.ci.clone(), record.registration.clone()) else {
                continue;
            };
            let verb = Verb::Uncordon { ci, registration };
            self.draft.push(
                machine.address,
                verb,
                Reason::WantedAgain,
                Vec::new(),
                Some(record),
            );
            wanted += 1;
        }
        self.cordoned = cordoned;
        wanted
    }

    /// Nothing may shrink: everything stays.
    fn keep_all(&mut self, blocked: &Reason) {
        let cordoned = std::mem::take(&mut self.cordoned);
        for machine in std::mem::take(&mut self.serving).into_iter().chain(cordoned) {
            let reason = match machine.work {
                Work::Busy(jobs) => Reason::Busy { jobs },
                _ => blocked.clone(),
            };
            self.draft.keep(machine, reason);
        }
    }

    fn all_go(&mut self, reason: &Reason) {
        let cordoned = std::mem::take(&mut self.cordoned);
        for machine in std::mem::take(&mut self.serving).into_iter().chain(cordoned) {
            self.must_go(machine, reason.clone());
        }
    }

    /// A machine that must go as soon as it is idle: cordoned while it is not.
    fn must_go(&mut self, machine: &Machine<'a>, reason: Reason) {
        if matches!(machine.presence, Presence::Here(_)) {
            let leaver = Leaver::of(machine);
            let Err(stays) = leaver.leave(self.facts, self.draft, reason.clone(), IfBusy::StayCordoned)
            else {
                return;
            };
            self.stay_cordoned(machine, &reason, stays);
        } else {
            self.draft.keep(machine, Reason::BusyUnknown);
        }
    }

    fn stay_cordoned(&mut self, machine: &Machine<'a>, reason: &Reason, stays: Reason) {
        let record = machine.record;
        if *reason == Reason::Destroy && stays != Reason::Draining {
            let left = match machine.work {
                Work::Busy(jobs) => Reason::BusyAtDestroy { jobs },
                _ => stays.clone(),
            };
            self.draft.warn(machine.address, 1, left);
        }
        let recorded = matches!(machine.cordon, Cordon::Since(_)) && machine.paused;
        let runner = record.ci.clone().zip(record.registration.clone());
        let kind = runner
            .as_ref()
            .and_then(|(ci, _)| self.facts.control(ci))
            .map(|c| c.cordon);
        let can = matches!(kind, Some(CordonKind::Pause | CordonKind::PauseAll));
        match runner {
            Some((ci, registration)) if can && !recorded && machine.work.busy() == Some(true) => {
                let verb = Verb::Cordon { ci, registration };
                self.draft
                    .push(machine.address, verb, reason.clone(), Vec::new(), Some(record));
            }
            _ if recorded && machine.work.busy() == Some(true) => self.draft.keep(machine, Reason::Draining),
            _ => self.draft.keep(machine, stays),
        }
    }

    /// Brings the pool down to `max` at once, and to its target as its billing allows.
    fn shrink(&mut self, pool: &Pool, target: &Target, serving: u32) {
        for machine in std::mem::take(&mut self.cordoned) {
            self.drain(machine, pool);
        }
        let mut machines = std::mem::take(&mut self.serving);
        let idle = |m: &Machine<'_>| {
            m.work.busy() == Some(false)
                && matches!(m.presence, Presence::Here(_))
                && m.health == Health::Well
        };
        machines.sort_by_cached_key(|m| (!idle(m), m.work.busy() != Some(false), m.work.jobs(), rank_key(m)));
        let above = serving.saturating_sub(pool.max);
        let mut left = machines.into_iter();
        for machine in left.by_ref().take(usize::try_from(above).unwrap_or(usize::MAX)) {
            self.must_go(machine, Reason::AboveMax { max: pool.max });
        }
        let mut surplus = (serving - above).saturating_sub(target.size);
        let (mut candidates, rest): (Vec<_>, Vec<_>) = left
            .map(|m| (idle(m).then(|| self.due(m, pool)), m))
            .partition(|(due, _)| due.is_some());
        candidates.sort_by_cached_key(|(due, m)| (!matches!(due, Some(Ok(_))), rank_key(m)));
        for (due, machine) in candidates {
            let within = Reason::WithinTarget { target: target.size };
            let stays = match due {
                _ if surplus == 0 => within,
                Some(Ok(reason)) => {
                    let leaver = Leaver::of(machine);
                    match leaver.leave(self.facts, self.draft, reason, IfBusy::Uncordon) {
                        Ok(()) => {
                            surplus -= 1;
                            continue;
                        }
                        Err(stays) => stays,
                    }
                }
                Some(Err(stays)) => stays,
                None => within,
            };
            surplus = surplus.saturating_sub(1);
            self.draft.keep(machine, stays);
        }
        for (_, machine) in rest {
            self.draft.keep(machine, stays(machine, pool, target));
        }
    }

    /// A cordoned machine that is not wanted: gone when idle, and until then kept.
    fn drain(&mut self, machine: &Machine<'a>, pool: &Pool) {
        let idle = machine.work.busy() == Some(false) && matches!(machine.presence, Presence::Here(_));
        let due = match machine.cordon {
            // Paused by a person, perhaps: no reason to pay for less than was bought.
            Cordon::Unknown => self.due(machine, pool),
            _ => Ok(self
                .due(machine, pool)
                .unwrap_or_else(|_| cordoned_reason(machine))),
        };
        let stays = match due {
            _ if !idle && machine.work == Work::Unknown => Reason::BusyUnknown,
            _ if !idle => Reason::Draining,
            Err(stays) => stays,
            Ok(reason) => {
                let leaver = Leaver::of(machine);
                match leaver.leave(self.facts, self.draft, reason, IfBusy::Uncordon) {
                    Ok(()) => return,
                    Err(stays) => stays,
                }
            }
        };
        let record = machine.record;
        match (machine.doubt, record.ci.clone().zip(record.registration.clone())) {
            (Some(Doubt::Cordon), Some((ci, registration))) => {
                let verb = Verb::Cordon { ci, registration };
                self.draft
                    .push(machine.address, verb, Reason::Draining, Vec::new(), Some(record));
            }
            _ => self.draft.keep(machine, stays),
        }
    }

    fn due(&self, machine: &Machine<'_>, pool: &Pool) -> Result<Reason, Reason> {
        let record = machine.record;
        let Some(cloud) = self.facts.snapshot.clouds.get(&record.provider) else {
            return Err(Reason::BusyUnknown);
        };
        let settle = self
            .facts
            .control(&pool.ci)
            .map_or(jiff::SignedDuration::ZERO, |c| c.settle);
        let clocks = Clocks {
            now: cloud.listing.now,
            paid_until: machine.paid_until.unwrap_or(cloud.listing.now),
            idle: machine.idle,
        };
        let margin = drain::margin(self.facts.stack.interval, settle, cloud.profile.delete_time);
        drain::due(cloud.profile.billing, clocks, margin, pool.idle_timeout)
    }
}

/// Why a machine leaves that was cordoned earlier and is not due by its billing now.
fn cordoned_reason(machine: &Machine<'_>) -> Reason {
    Reason::IdleTooLong { idle: machine.idle }
}

fn may_uncordon(facts: &Facts<'_>, machine: &Machine<'_>) -> bool {
    let record = machine.record;
    let kind = record
        .ci
        .as_ref()
        .and_then(|ci| facts.control(ci))
        .map(|c| c.cordon);
    record.registration.is_some()
        && machine.work != Work::NoRunner
        && matches!(kind, Some(CordonKind::Pause | CordonKind::PauseAll))
        && !matches!(machine.presence, Presence::Gone)
}

fn stays(machine: &Machine<'_>, pool: &Pool, target: &Target) -> Reason {
    match (&machine.health, machine.work) {
        (Health::Booting, _) => Reason::Booting {
            age: machine.age,
            timeout: pool.ready_timeout,
        },
        (_, Work::Busy(jobs)) => Reason::Busy { jobs },
        (_, Work::Unknown) => Reason::BusyUnknown,
        _ => Reason::WithinTarget { target: target.size },
    }
}

fn rank<'a>(machine: &Machine<'a>) -> Rank<'a> {
    Rank {
        failed: matches!(machine.health, Health::Failed(_)),
        cordoned: machine.cordon != Cordon::No,
        paid_until: machine.paid_until,
        created_at: machine.record.created_at,
        address: machine.address,
    }
}

fn rank_key<'a>(machine: &Machine<'a>) -> Rank<'a> {
    rank(machine)
}
