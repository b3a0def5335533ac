//! The rules of the systems that are replaced: each of their steps, and what was a mistake of theirs.

use proptest::prelude::*;

use super::*;
use crate::stack::Policy;

fn pool(policy: Policy, per: u32, min: u32, max: u32) -> Pool {
    Pool {
        policy,
        jobs_per_runner: per,
        ..sized(min, max, 0)
    }
}

fn drone() -> Policy {
    Policy::DroneAutoscaler {
        min_age: jiff::SignedDuration::from_mins(10),
    }
}

/// Machines: idle, busy with all slots but these free, booting.
fn have(idle: u32, busy: u32, booting: u32, free: u32) -> Have {
    Have {
        serving: idle + busy + booting,
        booting,
        busy,
        free,
    }
}

#[test]
fn drone_autoscalers_rule_is_played_step_by_step() {
    let pool = pool(drone(), 2, 1, 10);
    let table = [
        // Step 3: below the minimum, whatever Drone says.
        ((0, 0), have(0, 0, 0, 0), 1, "busy = 0, min = 1"),
        // Step 5: builds wait, and nothing has room: ceil(5 / 2) more.
        ((5, 4), have(0, 2, 0, 0), 5, "2 + ceil(max(5 - 0, 0) / 2) = 5"),
        // Its mistake: free slots were not subtracted,
        ((5, 1), have(1, 1, 0, 3), 3, "2 + ceil(max(5 - 3, 0) / 2) = 3"),
        // nor were machines that boot, so that each pass asked for the same ones again.
        ((5, 4), have(0, 2, 3, 0), 5, "5 + ceil(max(5 - 6, 0) / 2) = 5"),
        // Its mistake: no clamp.
        (
            (99, 0),
            have(0, 0, 0, 0),
            10,
            "0 + ceil(max(99 - 0, 0) / 2) = 50, max = 10",
        ),
        // Step 6: none waits, and machines that work are as many as there are.
        ((0, 4), have(0, 2, 0, 0), 2, "busy = 2"),
        // All idle ones are too many, not only those beyond ceil(builds / slots).
        ((0, 2), have(3, 2, 0, 8), 2, "busy = 2"),
        // And never below the minimum.
        ((0, 0), have(4, 0, 0, 8), 1, "busy = 0, min = 1"),
    ];
    for ((queued, running), have, size, formula) in table {
        let target = target(&pool, load(queued, running), have, &Sight::default());
        assert_eq!((target.size, target.formula.as_str()), (size, formula));
    }
}

#[test]
fn asg_increments_rule_is_played_step_by_step() {
    let pool = pool(Policy::AsgIncrement, 1, 0, 10);
    let table = [
        // Nothing unclaimed: nothing is done, and nobody is sent away.
        ((0, 0), have(3, 0, 0, 3), 3, "3 + ceil(max(0 - 0, 0) / 1) = 3"),
        // One more for each unclaimed task.
        ((4, 2), have(0, 2, 0, 0), 6, "2 + ceil(max(4 - 0, 0) / 1) = 6"),
        // Its mistake: after a wait that gave up, those that still boot were asked for again.
        ((4, 2), have(0, 2, 3, 0), 6, "5 + ceil(max(4 - 3, 0) / 1) = 6"),
        // Up to the maximum.
        (
            (99, 2),
            have(0, 2, 0, 0),
            10,
            "2 + ceil(max(99 - 0, 0) / 1) = 101, max = 10",
        ),
        // At the maximum: nothing.
        (
            (5, 10),
            have(0, 10, 0, 0),
            10,
            "10 + ceil(max(5 - 0, 0) / 1) = 15, max = 10",
        ),
    ];
    for ((queued, running), have, size, formula) in table {
        let target = target(&pool, load(queued, running), have, &Sight::default());
        assert_eq!((target.size, target.formula.as_str()), (size, formula));
    }
}

#[test]
fn ado_deltas_rule_is_played_step_by_step() {
    let pool = pool(Policy::AdoDelta, 1, 1, 10);
    let table = [
        // Decider: delta = waiting - idle. Above zero: that many more.
        ((5, 2), have(1, 2, 0, 1), 7, "3 + (5 - 1) / 1 = 7"),
        // Zero: nothing.
        ((2, 2), have(2, 2, 0, 2), 4, "4 + (2 - 2) / 1 = 4"),
        // Below zero: that many fewer. Its mistake: it deregistered every task, those at work too.
        ((1, 2), have(4, 2, 0, 4), 3, "6 + (1 - 4) / 1 = 3"),
        ((0, 2), have(4, 2, 0, 4), 2, "6 + (0 - 4) / 1 = 2"),
        // Its mistake: tasks that boot were no agents yet, so that every two minutes the same ones were started again.
        ((5, 0), have(0, 0, 5, 0), 5, "5 + (5 - 5) / 1 = 5"),
        ((6, 0), have(0, 0, 5, 0), 6, "5 + (6 - 5) / 1 = 6"),
        // Its mistake: no limits.
        ((99, 0), have(0, 0, 0, 0), 10, "0 + (99 - 0) / 1 = 99, max = 10"),
        ((0, 0), have(3, 0, 0, 3), 1, "3 + (0 - 3) / 1 = 0, min = 1"),
        // Its mistake: agents that are disabled or offline were idle to it. They serve, and are not free.
        ((2, 0), have(3, 0, 0, 1), 4, "3 + (2 - 1) / 1 = 4"),
    ];
    for ((queued, running), have, size, formula) in table {
        let target = target(&pool, load(queued, running), have, &Sight::default());
        assert_eq!((target.size, target.formula.as_str()), (size, formula));
    }
}

#[test]
fn a_machine_that_is_wanted_is_wanted_for_its_jobs_or_its_minimum() {
    let pool = pool(drone(), 2, 4, 10);
    let load = load(3, 0);
    let target = target(&pool, load, Have::default(), &Sight::default());
    let codes: Vec<&str> = (0..4).map(|at| reason(&pool, load, &target, at).code()).collect();
    assert_eq!(codes, ["demand", "demand", "min_size", "min_size"]);
}

proptest! {
    #[test]
    fn max_is_never_exceeded_by_the_rules_of_others(
        queued in 0..2_000_u32, running in 0..2_000_u32, idle in 0..50_u32, busy in 0..50_u32, booting in 0..50_u32,
        per in 1..5_u32, min in 0..20_u32, more in 0..50_u32, which in any::<bool>(),
    ) {
        let policy = if which { drone() } else { Policy::AsgIncrement };
        let pool = pool(policy, per, min, min + more);
        let have = have(idle, busy, booting, idle * per);
        let target = target(&pool, load(queued, running), have, &Sight::default());
        prop_assert!(target.size <= pool.max && target.size >= pool.min);
        // While jobs wait nobody who serves is too many, and what has room already is not asked for twice.
        if queued > 0 {
            prop_assert!(target.wanted >= have.serving);
            let room = booting * per + if which { have.free } else { 0 };
            let missing = queued.saturating_sub(room).div_ceil(per);
            prop_assert_eq!(target.wanted, have.serving + missing);
        }
    }

    /// Against what a person would do with a list of agents: each job that waits is given to an agent that is idle, then to one that
    /// boots, then to a new one; who is left over goes.
    #[test]
    fn ado_delta_does_what_a_person_would(
        queued in 0..60_u32, running in 0..60_u32, idle in 0..30_u32, busy in 0..30_u32, booting in 0..30_u32, offline in 0..10_u32,
        min in 0..20_u32, more in 0..60_u32,
    ) {
        let pool = pool(Policy::AdoDelta, 1, min, min + more);
        let mut have = have(idle, busy, booting, idle);
        have.serving += offline;
        let (mut free, mut coming, mut new) = (idle, booting, 0);
        for _ in 0..queued {
            if free > 0 {
                free -= 1;
            } else if coming > 0 {
                coming -= 1;
            } else {
                new += 1;
            }
        }
        let by_hand = have.serving - free - coming + new;
        let target = target(&pool, load(queued, running), have, &Sight::default());
        prop_assert_eq!(target.wanted, by_hand);
        prop_assert_eq!(target.size, by_hand.clamp(pool.min, pool.max));
        prop_assert!(target.wanted >= busy, "who is at work stays");
    }
}
