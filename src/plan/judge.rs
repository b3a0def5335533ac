//! A pool's machines, one by one: each comes to an action, or to a reason for which it is kept.

mod words;

use self::words::{cordoned_reason, may_uncordon, rank, stays};
use super::{
    IfBusy, Verb,
    draft::{Draft, Leaver},
    facts::{Facts, Work},
    fleet::{Doubt, Health, Machine, Presence},
    resize::Gate,
    roll::Roll,
};
use crate::{
    drain::{self, Clocks, Cordon},
    model::{
        reason::Reason,
        resource::{CloudStatus, CordonKind},
    },
    scaling::Target,
    stack::{Policy, Pool, hooks::Moment},
};

/// A pool's machines while they are judged. Each comes to one end: an action, or a reason for which it is kept.
pub(super) struct Judge<'a, 'f, 'd> {
    facts: &'d Facts<'a>,
    pub(super) draft: &'d mut Draft,
    sorted: Sorted<'a, 'f>,
    /// Whether none of them may be deleted.
    protect: bool,
}

/// Why a machine may not go now, though nothing is wrong with its going.
enum Stays {
    /// Its group may not let it.
    Gate(Reason),
    /// Its CI, its jobs.
    Leaver(Reason),
}

/// Machines that are not judged yet.
#[derive(Default)]
pub(super) struct Sorted<'a, 'f> {
    /// Those that serve and are there.
    serving: Vec<&'f Machine<'a>>,
    /// Those that take no new job.
    cordoned: Vec<&'f Machine<'a>>,
    /// How many may leave their group; none where they are no group's.
    gate: Option<Gate>,
}

impl<'a, 'f, 'd> Judge<'a, 'f, 'd> {
    /// Goes on with those that [`Self::pause`] gave back.
    pub(super) fn resume(
        facts: &'d Facts<'a>,
        draft: &'d mut Draft,
        sorted: Sorted<'a, 'f>,
        protect: bool,
    ) -> Self {
        Self {
            facts,
            draft,
            sorted,
            protect,
        }
    }

    /// Leaves the rest for later.
    pub(super) fn pause(self) -> Sorted<'a, 'f> {
        self.sorted
    }

    /// Ends what needs no target, and sorts the rest.
    pub(super) fn sort(
        facts: &'d Facts<'a>,
        draft: &'d mut Draft,
        machines: &'f [Machine<'a>],
        blocked: Option<&Reason>,
        protect: bool,
        gate: Option<Gate>,
    ) -> Self {
        let sorted = Sorted {
            gate,
            ..Sorted::default()
        };
        let mut judge = Self::resume(facts, draft, sorted, protect);
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
                (_, Health::Leaving, _) => {
                    let reason = match machine.doubt {
                        Some(Doubt::Delete) => Reason::Unfinished,
                        _ => Reason::LeavesByItself,
                    };
                    judge.draft.keep(machine, reason);
                }
                (_, Health::Ended, None) => judge.clear(machine),
                (_, Health::Failed(reason), None) => judge.must_go(machine, reason),
                (_, Health::Ended | Health::Failed(_), Some(reason)) => {
                    judge.draft.keep(machine, reason.clone());
                }
                (_, Health::Well | Health::Booting, _) if machine.cordon == Cordon::No => {
                    judge.sorted.serving.push(machine);
                }
                (_, Health::Well | Health::Booting, _) => judge.sorted.cordoned.push(machine),
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

    fn clear(&mut self, machine: &Machine<'a>) {
        let record = machine.record;
        if let Some(Err(stays)) = self
            .sorted
            .gate
            .as_ref()
            .map(|gate| gate.pass(machine, self.facts))
        {
            self.draft.keep(machine, stays);
            return;
        }
        if let Some(gate) = &mut self.sorted.gate {
            gate.count(machine, self.facts);
        }
        let verb = Verb::Delete {
            target: record.target(),
            registration: record.ci.clone().zip(record.registration.clone()),
        };
        let reason = match machine.presence {
            Presence::Here(seen) => match &seen.status {
                CloudStatus::Terminated(what) => Reason::Interrupted { what: what.clone() },
                _ => Reason::Ended,
            },
            _ => Reason::Ended,
        };
        self.draft
            .push(machine.address, verb, reason, Vec::new(), Some(record));
    }

    /// Lets cordoned machines serve again, at most `short` of them: busy ones first, then those paid longest.
    pub(super) fn want_again(&mut self, short: u32, roll: &Roll<'_>) -> u32 {
        let mut wanted = 0;
        let mut cordoned = std::mem::take(&mut self.sorted.cordoned);
        cordoned.sort_by_key(|m| (m.work.busy() != Some(false), rank(m)));
        while wanted < short {
            let Some(at) = cordoned
                .iter()
                .rposition(|m| roll.reason(m.address).is_none() && may_uncordon(self.facts, m))
            else {
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
        self.sorted.cordoned = cordoned;
        wanted
    }

    /// Nothing may shrink: everything stays.
    pub(super) fn keep_all(&mut self, blocked: &Reason) {
        let cordoned = std::mem::take(&mut self.sorted.cordoned);
        for machine in std::mem::take(&mut self.sorted.serving)
            .into_iter()
            .chain(cordoned)
        {
            let reason = match machine.work {
                Work::Busy(jobs) => Reason::Busy { jobs },
                _ => blocked.clone(),
            };
            self.draft.keep(machine, reason);
        }
    }

    pub(super) fn all_go(&mut self, reason: &Reason) {
        let cordoned = std::mem::take(&mut self.sorted.cordoned);
        for machine in std::mem::take(&mut self.sorted.serving)
            .into_iter()
            .chain(cordoned)
        {
            self.must_go(machine, reason);
        }
    }

    /// A machine that must go as soon as it is idle: cordoned while it is not.
    fn must_go(&mut self, machine: &Machine<'a>, reason: &Reason) {
        if self.protect {
            self.draft.warn(machine.address, 1, Reason::Protected);
            self.draft.keep(machine, Reason::Protected);
            return;
        }
        if matches!(machine.presence, Presence::Here(_)) {
            match self.leave(machine, reason.clone(), IfBusy::StayCordoned) {
                Ok(()) => {}
                Err(Stays::Gate(stays)) => {
                    self.draft.hold(machine.address, 1, stays.clone());
                    self.draft.keep(machine, stays);
                }
                Err(Stays::Leaver(stays)) => self.stay_cordoned(machine, reason, stays),
            }
        } else {
            self.draft.keep(machine, Reason::BusyUnknown);
        }
    }

    /// Lets a machine go, by its CI's way and as far as its group lets members go.
    fn leave(&mut self, machine: &Machine<'a>, reason: Reason, if_busy: IfBusy) -> Result<(), Stays> {
        if let Some(gate) = &self.sorted.gate {
            gate.pass(machine, self.facts).map_err(Stays::Gate)?;
        }
        let leaver = Leaver::of(machine);
        leaver
            .leave(self.facts, self.draft, reason, if_busy)
            .map_err(Stays::Leaver)?;
        if let Some(gate) = &mut self.sorted.gate {
            gate.count(machine, self.facts);
        }
        Ok(())
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
            .and_then(|(ci, registration)| self.facts.control_of(ci, registration))
            .map(|c| c.cordon);
        // What pauses all does so for the seconds of a retire, and never waits for a job.
        let can = kind == Some(CordonKind::Pause);
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

    /// Brings the pool down to `max` at once, to its target as its billing allows, and lets those go whose turn it is.
    pub(super) fn shrink(&mut self, pool: &Pool, target: &Target, serving: u32, roll: &Roll<'_>) {
        for machine in std::mem::take(&mut self.sorted.cordoned) {
            self.drain(machine, pool, roll);
        }
        let mut machines = std::mem::take(&mut self.sorted.serving);
        let idle = |m: &Machine<'_>| {
            m.work.busy() == Some(false)
                && matches!(m.presence, Presence::Here(_))
                && m.health == Health::Well
        };
        let old = |m: &Machine<'_>| roll.reason(m.address).is_some();
        machines.sort_by_cached_key(|m| {
            (
                !idle(m),
                m.work.busy() != Some(false),
                m.work.jobs(),
                !old(m),
                rank(m),
            )
        });
        let above = serving.saturating_sub(pool.max);
        let mut left = machines.into_iter();
        for machine in left.by_ref().take(usize::try_from(above).unwrap_or(usize::MAX)) {
            self.must_go(machine, &Reason::AboveMax { max: pool.max });
        }
        let mut surplus = (serving - above).saturating_sub(target.size);
        let (leaving, left): (Vec<_>, Vec<_>) = left.partition(|m| roll.leaves(m.address));
        for machine in leaving {
            if let Some(reason) = roll.reason(machine.address) {
                self.must_go(machine, reason);
            }
            surplus = surplus.saturating_sub(1);
        }
        self.lessen(left, roll.surplus(surplus), pool, target, roll);
    }

    /// Lets as many as `surplus` of those that are idle go, as their billing allows.
    fn lessen(
        &mut self,
        machines: Vec<&Machine<'a>>,
        mut surplus: u32,
        pool: &Pool,
        target: &Target,
        roll: &Roll<'_>,
    ) {
        let idle = |m: &Machine<'_>| {
            m.work.busy() == Some(false)
                && matches!(m.presence, Presence::Here(_))
                && m.health == Health::Well
        };
        let (mut candidates, rest): (Vec<_>, Vec<_>) = machines
            .into_iter()
            .map(|m| (idle(m).then(|| self.due(m, pool)), m))
            .partition(|(due, _)| due.is_some());
        candidates.sort_by_cached_key(|(due, m)| {
            (
                !matches!(due, Some(Ok(_))),
                roll.reason(m.address).is_none(),
                rank(m),
            )
        });
        for (due, machine) in candidates {
            let within = || {
                let stays = roll.note(machine.address).cloned();
                stays.unwrap_or(Reason::WithinTarget { target: target.size })
            };
            let stays = match due {
                _ if surplus == 0 => within(),
                Some(Ok(_)) if self.protect => Reason::Protected,
                Some(Ok(reason)) => match self.leave(machine, reason, IfBusy::Uncordon) {
                    Ok(()) => {
                        surplus -= 1;
                        continue;
                    }
                    Err(Stays::Gate(stays) | Stays::Leaver(stays)) => stays,
                },
                Some(Err(stays)) => roll.stays(machine.address).cloned().unwrap_or(stays),
                None => within(),
            };
            surplus = surplus.saturating_sub(1);
            self.draft.keep(machine, stays);
        }
        for (_, machine) in rest {
            let by_roll = roll
                .stays(machine.address)
                .filter(|_| machine.health == Health::Well);
            let note = || roll.note(machine.address).filter(|_| machine.work == Work::Idle);
            let told = by_roll.or_else(note).cloned();
            let stays = told.unwrap_or_else(|| stays(machine, pool, target));
            self.draft.keep(machine, stays);
        }
    }

    /// A cordoned machine that is not wanted: gone when idle, and until then kept.
    fn drain(&mut self, machine: &Machine<'a>, pool: &Pool, roll: &Roll<'_>) {
        let idle = machine.work.busy() == Some(false) && matches!(machine.presence, Presence::Here(_));
        let old = roll.reason(machine.address).cloned();
        let if_busy = match old {
            Some(_) => IfBusy::StayCordoned,
            None => IfBusy::Uncordon,
        };
        let due = match (machine.cordon, old) {
            // Paused by a person, perhaps: no reason to pay for less than was bought.
            (Cordon::Unknown, _) => self.due(machine, pool),
            (_, Some(reason)) => Ok(reason),
            _ => Ok(self
                .due(machine, pool)
                .unwrap_or_else(|_| cordoned_reason(machine))),
        };
        let stays = match due {
            _ if !idle && machine.work == Work::Unknown => Reason::BusyUnknown,
            _ if !idle => Reason::Draining,
            Err(stays) => stays,
            Ok(_) if self.protect => Reason::Protected,
            Ok(reason) => match self.leave(machine, reason, if_busy) {
                Ok(()) => return,
                Err(Stays::Gate(stays) | Stays::Leaver(stays)) => stays,
            },
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
        let ticks = self.facts.snapshot.history.ticks.get(&record.provider);
        let margin = drain::margin(
            self.facts.stack.interval,
            ticks.map(Vec::as_slice).unwrap_or_default(),
            settle,
            cloud
                .profile
                .delete_time
                .saturating_add(pool.hook_time(Moment::BeforeDelete)),
        );
        if let Policy::DroneAutoscaler { min_age } = pool.policy
            && machine.age < min_age
        {
            return Err(Reason::TooYoung {
                age: machine.age,
                limit: min_age,
            });
        }
        drain::due(cloud.profile.billing, clocks, margin, pool.idle_timeout)
    }
}
