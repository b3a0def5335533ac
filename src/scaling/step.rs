//! The policy `step`: a pool's size, which steps add to and take from while their conditions hold.
//!
//! do-scaler's rule, whose policies these steps are, without what it got wrong: opposed policies never act in one tick or
//! shortly after each other, a new machine counts only once it is ready, and what could not be read holds a step and stops
//! nothing else.
//!
//! # Guarantees
//! - One step acts in a tick; one that adds goes before any that removes.
//! - Nothing is removed on a partial reading, nor while it is not known whether a step that adds holds.
//! - Between two acts of one direction lies `cooldown`, between two of different ones `hysteresis`, by the clock of the
//!   pool's source. A clock that went back begins anew.
//! - Nothing is added while a machine is wanted that is not ready, nothing is removed while one boots or while an earlier
//!   removal has not left.
//! - The size is remembered: a machine that failed or is gone is replaced. Where it is forgotten, what serves is the size.
//!
//! docs/design/steps.md says why.

mod reading;

pub use reading::{Gap, Ready, Verdict, judge};

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Have, Target};
use crate::{
    model::{
        metrics::PoolMetrics,
        reason::Reason,
        state::{History, StepMemory},
    },
    plan::{Plan, StepReport},
    stack::{
        Pool,
        step::{Change, Step, StepPolicy},
    },
};

/// What the steps of a pool go by.
#[derive(Clone, Debug, Default)]
pub struct Sight<'a> {
    /// Its machines that serve and are ready, in order of address.
    pub ready: Vec<Ready<'a>>,
    /// What was measured; none where its source did not answer.
    pub metrics: Option<&'a PoolMetrics>,
    /// What is remembered, as [`super::learn`] left it.
    pub memory: Option<&'a StepMemory>,
    /// The time, by the clock of its source.
    pub now: Timestamp,
    /// Whether a step may act at all: not where its clouds were not read in full, or nothing is carried out.
    pub may_act: bool,
    /// Whether one may remove: not where its source was not read in full.
    pub may_remove: bool,
}

/// How a target came about by steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// The size before.
    pub before: u32,
    /// The step that acted, with its reading.
    pub acted: Option<(String, String)>,
    /// Why steps whose conditions hold, or may, did not act; and whether a person should look.
    pub held: Vec<(Reason, bool)>,
    /// What each comes to, as declared.
    pub steps: Vec<StepReport>,
    /// What is remembered once this is carried out.
    pub memory: StepMemory,
}

/// A step with what it comes to.
struct Judged<'p> {
    step: &'p Step,
    verdict: Verdict,
    /// Since when its conditions have held; none where they do not.
    since: Option<Timestamp>,
}

impl Judged<'_> {
    fn adds(&self) -> bool {
        matches!(self.step.change, Change::Add(_))
    }

    fn holds(&self) -> bool {
        self.verdict.holds == Some(true)
    }

    /// Whether its conditions have held for as long as they must.
    fn is_due(&self, now: Timestamp) -> bool {
        let since = self.since.unwrap_or(now);
        self.holds() && now.duration_since(since) >= self.step.hold
    }
}

/// The target of a pool with steps.
pub(super) fn target(pool: &Pool, policy: &StepPolicy, have: Have, sight: &Sight<'_>) -> Target {
    let nothing = StepMemory::default();
    let memory = sight.memory.unwrap_or(&nothing);
    let now = sight.now;
    let steps = policy.steps.iter().map(|step| Judged {
        verdict: judge(step, &sight.ready, sight.metrics),
        since: memory.held.get(&step.name).copied(),
        step,
    });
    let steps: Vec<Judged<'_>> = steps.collect();
    let clamp = |size: u32| size.max(pool.min).min(pool.max);
    let before = clamp(memory.size.unwrap_or(have.serving));
    let mut after = StepMemory {
        size: Some(before),
        surplus_at: (have.serving > before).then_some(now).or(memory.surplus_at),
        ..memory.clone()
    };
    let due = due(&steps, now);
    let mut held = waiting(&steps, due, now);
    let mut wanted = before;
    let mut acted = None;
    let mut how = "no step acts, size".to_owned();
    if let Some(judged) = due.filter(|judged| sight.may_act && (judged.adds() || sight.may_remove)) {
        let (step, what) = (judged.step.name.clone(), judged.verdict.reading.clone());
        let (size, sign) = match judged.step.change {
            Change::Add(count) => (before.saturating_add(count), format!("+{count}")),
            Change::Remove(count) => (before.saturating_sub(count), format!("-{count}")),
        };
        how = format!("{step}: {what}, {sign}");
        if clamp(size) == before {
            wanted = size;
        } else if let Some(reason) = blocked(judged, policy, memory, before, have, now) {
            how = format!("{step}: {what}, which waits, size");
            held.push((reason, false));
        } else {
            wanted = size;
            after.size = Some(clamp(size));
            match judged.step.change {
                Change::Add(_) => after.grown_at = Some(now),
                Change::Remove(_) => after.shrunk_at = Some(now),
            }
            acted = Some((step, what));
        }
    }
    Target {
        size: clamp(wanted),
        wanted,
        work: 0,
        formula: format!("{how} = {wanted}"),
        stepped: Some(Box::new(Stepped {
            before,
            acted,
            held,
            steps: steps.iter().map(report).collect(),
            memory: after,
        })),
    }
}

fn report(judged: &Judged<'_>) -> StepReport {
    StepReport {
        name: judged.step.name.clone(),
        holds: judged.verdict.holds,
        reading: judged.verdict.reading.clone(),
    }
}

/// The step whose turn it is: the first that adds; where none that adds holds or may, the first that removes.
fn due<'j, 'p>(steps: &'j [Judged<'p>], now: Timestamp) -> Option<&'j Judged<'p>> {
    let adds = steps.iter().find(|judged| judged.adds() && judged.is_due(now));
    adds.or_else(|| {
        steps
            .iter()
            .find(|judged| !judged.adds() && judged.is_due(now))
            .filter(|_| rival(steps).is_none())
    })
}

/// The first step that adds and holds, or of which that is not known: nothing is removed beside it.
fn rival<'j, 'p>(steps: &'j [Judged<'p>]) -> Option<&'j Judged<'p>> {
    steps
        .iter()
        .find(|judged| judged.adds() && judged.verdict.holds != Some(false))
}

/// Why the others do not act: not known, not yet, or another goes before.
fn waiting(steps: &[Judged<'_>], due: Option<&Judged<'_>>, now: Timestamp) -> Vec<(Reason, bool)> {
    let mut held = Vec::new();
    let first = due.or_else(|| rival(steps));
    for judged in steps {
        let step = judged.step.name.clone();
        if let Some(gap) = &judged.verdict.gap {
            let why = gap.why.clone();
            held.push((Reason::StepUnknown { step, why }, gap.alarming));
        } else if judged.holds() && due.is_none_or(|due| due.step.name != step) {
            let reason = match (judged.since.filter(|_| !judged.is_due(now)), first) {
                (Some(since), _) => Reason::StepPending {
                    step,
                    since,
                    hold: judged.step.hold,
                },
                (None, Some(other)) if other.step.name != step => Reason::StepBehind {
                    step,
                    other: other.step.name.clone(),
                },
                _ => continue,
            };
            held.push((reason, false));
        }
    }
    held
}

/// Why a step whose turn it is does not act now.
fn blocked(
    judged: &Judged<'_>,
    policy: &StepPolicy,
    memory: &StepMemory,
    size: u32,
    have: Have,
    now: Timestamp,
) -> Option<Reason> {
    let step = judged.step.name.clone();
    let until = |at: Option<Timestamp>, pause| at?.checked_add(pause).ok();
    let added = (memory.grown_at, "one that added");
    let removed = (memory.shrunk_at, "one that removed");
    let (same, other) = if judged.adds() {
        (added, removed)
    } else {
        // What has not left bears a part of the load: until it has left, nothing is known of the rest.
        ((removed.0.max(memory.surplus_at), removed.1), added)
    };
    let same = until(same.0, policy.cooldown).map(|until| (until, same.1));
    let other = until(other.0, policy.hysteresis).map(|until| (until, other.1));
    let cools = same.max(other).filter(|(until, _)| now < *until);
    if have.booting > 0 || (judged.adds() && have.serving < size) {
        return Some(Reason::StepWarmsUp {
            step,
            ready: have.serving.saturating_sub(have.booting),
            size: size.max(have.serving),
        });
    }
    if !judged.adds() && have.serving > size {
        let serving = have.serving;
        return Some(Reason::StepLeaving { step, serving, size });
    }
    cools.map(|(until, after)| Reason::StepCools {
        step,
        after: after.to_owned(),
        until,
    })
}

/// Since when the conditions of each step have held, after this reading. What is not known to hold does not.
pub(super) fn held(
    policy: &StepPolicy,
    ready: &[Ready<'_>],
    metrics: Option<&PoolMetrics>,
    before: &StepMemory,
    now: Timestamp,
) -> StepMemory {
    let mut held = BTreeMap::new();
    for step in &policy.steps {
        if judge(step, ready, metrics).holds == Some(true) {
            let since = before.held.get(&step.name).copied().unwrap_or(now);
            held.insert(step.name.clone(), since.min(now));
        }
    }
    // A clock that went back would hold its steps until it is there again.
    let not_later = |at: Option<Timestamp>| at.map(|at| at.min(now));
    StepMemory {
        size: before.size,
        grown_at: not_later(before.grown_at),
        shrunk_at: not_later(before.shrunk_at),
        surplus_at: not_later(before.surplus_at),
        held,
    }
}

/// What is remembered of a plan that is carried out: the size that each pool with steps came to, and when they acted.
pub fn remember(history: &mut History, plan: &Plan) {
    for pool in &plan.pools {
        let Some(decided) = &pool.memory else { continue };
        let memory = history.steps.entry(pool.name.clone()).or_default();
        let held = std::mem::take(&mut memory.held);
        *memory = StepMemory {
            held,
            ..(**decided).clone()
        };
    }
}
