//! Guards: rules that refuse a plan as a whole, unless a person says otherwise.
//!
//! `guard.max_delete` bounds how many machines one plan deletes. The budget refuses a plan after which more is spent
//! than it allows; a plan that brings the cost down is let pass, since refusing it would keep the cost up. What
//! `destroy` does is asked for, and no guard is in its way.

use std::{collections::BTreeMap, fmt::Write as _};

use rust_decimal::Decimal;

use super::{Action, Breach, Cost, Goal, GuardRule, Selection, Verb};
use crate::{
    model::{
        ids::{Address, ResourceKind},
        money::Money,
        state::State,
    },
    stack::Stack,
};

/// What these actions break, each rule at most once.
pub fn breaches(
    actions: &[Action],
    cost: &Cost,
    state: &State,
    stack: &Stack,
    goal: Goal,
    selection: &Selection,
) -> Vec<Breach> {
    if goal == Goal::Destroy {
        return Vec::new();
    }
    let breach = |rule: GuardRule, what: String| Breach {
        rule,
        what,
        allowed: selection.allow.contains(&rule),
    };
    let deletes = max_delete(actions, state, stack).map(|what| breach(GuardRule::MaxDelete, what));
    let spends = budget(cost, stack).map(|what| breach(GuardRule::Budget, what));
    deletes.into_iter().chain(spends).collect()
}

/// Machines that are retired or deleted; a cordon deletes nothing yet.
fn max_delete(actions: &[Action], state: &State, stack: &Stack) -> Option<String> {
    let share = stack.guard.max_delete?;
    let is_machine = |address: &Address| address.kind == ResourceKind::Machine;
    let mut pools: BTreeMap<&str, usize> = BTreeMap::new();
    for action in actions {
        let deletes = matches!(action.verb, Verb::Retire { .. } | Verb::Delete { .. });
        if deletes && is_machine(&action.address) {
            let pool = action.address.pool.as_ref().map_or("", |pool| pool.as_str());
            *pools.entry(pool).or_default() += 1;
        }
    }
    let deleted: usize = pools.values().sum();
    let there = state.resources.keys().filter(|key| is_machine(key)).count();
    let allowed = share.of(u32::try_from(there).unwrap_or(u32::MAX));
    if deleted <= usize::try_from(allowed).unwrap_or(usize::MAX) {
        return None;
    }
    let mut what = format!("deletes {deleted} of {there} machines (");
    for (at, (pool, count)) in pools.into_iter().enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        let _ = write!(what, "{comma}{pool}: {count}");
    }
    let _ = write!(what, "); guard.max_delete = {share} allows {allowed}");
    Some(what)
}

/// The hourly budget as long as more runs than it allows; one of a day or month only where the plan itself adds to what it
/// comes to, since what was bought yesterday may be more than a new day has room for, and jobs run on it.
fn budget(cost: &Cost, stack: &Stack) -> Option<String> {
    hourly(cost, stack).or_else(|| {
        let over = cost.projected.iter().find(|projection| {
            projection.after.amount > projection.allowed.amount
                && projection.after.amount > projection.before.amount
        })?;
        Some(format!(
            "comes to {} {} with it; budget.{} allows {}",
            over.after,
            over.per,
            over.per.key(),
            over.budget
        ))
    })
}

fn hourly(cost: &Cost, stack: &Stack) -> Option<String> {
    let budget = stack.budget.hourly.as_ref()?;
    let counted = stack.counted_in()?;
    let allowed = stack.currency.convert(budget, counted)?;
    let sum = |sums: &[Money]| -> Decimal {
        sums.iter()
            .filter_map(|money| stack.currency.convert(money, counted))
            .map(|money| money.amount)
            .sum()
    };
    let (before, after) = (sum(&cost.before_hourly), sum(&cost.after_hourly));
    if after <= allowed.amount || after < before {
        return None;
    }
    let after = after.normalize();
    Some(format!(
        "costs {after} {counted} an hour after it; budget.hourly allows {budget}"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        plan::{Plan, testing::World},
        stack::Share,
    };

    /// Six idle machines whose paid hour ends.
    fn shrinking() -> World {
        let mut world = World::new();
        for name in ["a-a", "b-b", "c-c", "d-d", "e-e", "f-f"] {
            world.machine(name, -3590, true);
        }
        world.set_time(0);
        world
    }

    fn rules(plan: &Plan) -> Vec<(GuardRule, bool)> {
        plan.breaches.iter().map(|b| (b.rule, b.allowed)).collect()
    }

    #[test]
    fn a_plan_that_deletes_more_than_its_share_is_a_breach_and_one_that_deletes_as_much_is_none() {
        for (share, breaks) in [
            (None, false),
            (Some(Share::Number(5)), true),
            (Some(Share::Number(6)), false),
            (Some(Share::Percent(99)), true),
            (Some(Share::Percent(100)), false),
            (Some(Share::Number(0)), true),
        ] {
            let mut world = shrinking();
            world.stack.guard.max_delete = share;
            let plan = world.plan();
            assert_eq!(plan.summary().delete, 6, "{share:?}");
            assert_eq!(!plan.breaches.is_empty(), breaks, "{share:?}");
        }
    }

    #[test]
    fn a_breach_says_how_many_of_how_many_and_where() {
        let mut world = shrinking();
        world.stack.guard.max_delete = Some(Share::Percent(50));
        let plan = world.plan();
        assert_eq!(
            plan.breaches[0].what,
            "deletes 6 of 6 machines (linux: 6); guard.max_delete = 50% allows 3"
        );
        assert_eq!(rules(&plan), [(GuardRule::MaxDelete, false)]);
        world.selection.allow = BTreeSet::from([GuardRule::MaxDelete]);
        assert_eq!(rules(&world.plan()), [(GuardRule::MaxDelete, true)]);
    }

    #[test]
    fn destroy_is_not_asked() {
        let mut world = shrinking();
        world.stack.guard.max_delete = Some(Share::Number(0));
        world.stack.budget.hourly = Some("0.0001 EUR".parse().unwrap());
        assert_eq!(rules(&world.destroy()), []);
    }

    #[test]
    fn a_lowered_budget_is_a_breach_until_a_plan_brings_the_cost_down() {
        let mut world = World::new();
        for name in ["a-a", "b-b", "c-c"] {
            world.machine(name, -600, true);
            world.run(name);
        }
        world.stack.budget.hourly = Some("0.0100 EUR".parse().unwrap());
        assert_eq!(rules(&world.plan()), [(GuardRule::Budget, false)]);
        let mut world = shrinking();
        world.stack.budget.hourly = Some("0.0001 EUR".parse().unwrap());
        assert_eq!(rules(&world.plan()), []);
    }
}
