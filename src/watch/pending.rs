//! In how long something is due that a tick left waiting: pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::schedule::QuotaUse;
use crate::{
    apply::Applied,
    model::{reason::Reason, snapshot::Snapshot},
    plan::{Plan, Verb},
};

/// What reading each cloud took of its quota.
pub fn reads(snapshot: &Snapshot) -> Vec<QuotaUse> {
    snapshot
        .clouds
        .iter()
        .filter_map(|(name, cloud)| {
            Some(QuotaUse {
                place: format!("providers.{name}"),
                calls: cloud.listing.calls,
                per_hour: cloud.profile.requests_per_hour?,
            })
        })
        .collect()
}

/// In how long the first thing is due that the tick left waiting; none when nothing waits.
///
/// What settles (an attempt whose end is unknown, something that was seen missing or without a record once) is due a
/// cloud's settle time after it was first seen; a cordon, the CI's settle time after the tick. `now` is our own clock.
pub fn due(plan: &Plan, snapshot: &Snapshot, applied: &Applied, now: Timestamp) -> Option<Duration> {
    let settle = snapshot.clouds.values().map(|cloud| cloud.profile.settle).max()?;
    let open = (applied.open > 0).then_some(settle);
    let cordoned = plan
        .actions
        .iter()
        .any(|action| matches!(action.verb, Verb::Cordon { .. }));
    let ci = snapshot.demand.values().map(|demand| demand.control.settle).max();
    let cordons = cordoned.then_some(ci).flatten();
    let held = plan.held.iter().filter_map(|held| at(&held.reason, settle));
    let kept = plan.kept.iter().filter_map(|kept| at(&kept.reason, settle));
    held.chain(kept)
        .map(|at| now.duration_until(at))
        // What is overdue waits for something else: looking all the time brings it no nearer.
        .filter(SignedDuration::is_positive)
        .chain(open)
        .chain(cordons)
        .min()
        .map(|left| Duration::try_from(left).unwrap_or_default())
}

fn at(reason: &Reason, settle: SignedDuration) -> Option<Timestamp> {
    match reason {
        Reason::Unsettled { since } | Reason::CondemnedOnce { since } | Reason::MissingOnce { since } => {
            since.checked_add(settle).ok()
        }
        Reason::CapacityRefused { until, .. }
        | Reason::BreakerOpen { until, .. }
        | Reason::StepCools { until, .. } => Some(*until),
        Reason::StepPending { since, hold, .. } => since.checked_add(*hold).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{World, at, secs};

    fn wait(world: &mut World, applied: &Applied) -> Option<Duration> {
        let plan = world.plan();
        due(&plan, &world.snapshot, applied, world.snapshot.now)
    }

    #[test]
    fn a_stack_at_rest_waits_for_nothing() {
        let mut world = World::new();
        assert_eq!(wait(&mut world, &Applied::default()), None);
    }

    #[test]
    fn an_attempt_whose_end_is_unknown_is_looked_at_when_it_has_settled() {
        let mut world = World::new();
        let settle = world.cloud().profile.settle;
        let applied = Applied {
            open: 1,
            ..Applied::default()
        };
        assert_eq!(wait(&mut world, &applied), Duration::try_from(settle).ok());
    }

    #[test]
    fn what_was_condemned_once_is_due_a_settle_time_later_and_not_looked_at_all_the_time_after_that() {
        let mut world = World::new();
        let settle = world.cloud().profile.settle;
        world.orphan("stray");
        let plan = world.plan();
        let since = |held: &crate::plan::Held| match held.reason {
            Reason::CondemnedOnce { since } => Some(since),
            _ => None,
        };
        let condemned = plan.held.iter().find_map(since);
        assert!(condemned.is_some() || !plan.orphans.is_empty(), "{plan:?}");
        let mut held = plan.clone();
        held.held.push(crate::plan::Held {
            about: "machine.linux/stray".into(),
            count: 1,
            reason: Reason::CondemnedOnce { since: at(0) },
            warning: false,
        });
        let left = due(&held, &world.snapshot, &Applied::default(), at(0) + secs(1));
        assert_eq!(left, Duration::try_from(settle - secs(1)).ok());
        let later = due(
            &held,
            &world.snapshot,
            &Applied::default(),
            at(0) + settle + secs(60),
        );
        assert_eq!(later, None);
    }
}
