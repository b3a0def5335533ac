//! A CI's ceiling over its pools, and agents of containers that are gone.

use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        demand::{RunnerView, description},
        ids::ResourceKind,
        resource::{EcsTask, TaskSpec},
    },
    stack::CiKind,
};

/// Two pools of one CI, the second for what the first has no room for.
fn two_pools(max: u32) -> World {
    let mut world = World::new();
    world.stack.pools.push(pool("second", &["linux"]));
    for pool in &mut world.stack.pools {
        (pool.jobs_per_runner, pool.max) = (1, 6);
    }
    for ci in world.stack.ci.values_mut() {
        ci.max = Some(max);
    }
    world
}

fn creates(plan: &Plan, pool: &str) -> usize {
    let creates = plan
        .actions
        .iter()
        .filter(|action| matches!(action.verb, Verb::Create { .. }));
    creates
        .filter(|action| action.address.pool.as_ref().is_some_and(|of| of.as_str() == pool))
        .count()
}

#[test]
fn pools_take_what_is_left_in_their_order_and_say_what_they_lack() {
    let mut world = two_pools(8);
    world.machine("calm-crow", -1000, true);
    world.queue(12);
    let plan = world.plan();
    // Of the first one's six there is one; two are left for the second.
    assert_eq!((creates(&plan, "linux"), creates(&plan, "second")), (5, 2));
    let held: Vec<_> = plan
        .held
        .iter()
        .filter(|held| held.reason.code() == "licence_ceiling")
        .collect();
    assert_eq!(held.len(), 1, "{:?}", plan.held);
    assert_eq!((held[0].about.as_str(), held[0].count), ("second", 4));
    assert_eq!(
        held[0].reason.to_string(),
        "gitlab may have 8 runners over all its pools, 4 more wanted"
    );
}

#[test]
fn what_one_pool_cannot_buy_is_left_for_the_next() {
    let mut world = two_pools(6);
    world.stack.pools[0].offerings = vec![choice("none-such", &["nbg1"])];
    world.queue(12);
    let plan = world.plan();
    assert_eq!((creates(&plan, "linux"), creates(&plan, "second")), (0, 6));
}

#[test]
fn machines_that_leave_or_have_no_pool_any_more_count() {
    let mut world = two_pools(3);
    world.machine_of("gone", "calm-crow", -1000, true);
    world.run("calm-crow");
    let leaving = world.machine("brave-otter", -1000, true);
    world.record(&leaving).phase = Phase::Cordoned {
        since: at(-5),
        why: "idle".into(),
    };
    world.run("brave-otter");
    world.queue(5);
    let plan = world.plan();
    assert_eq!(creates(&plan, "linux") + creates(&plan, "second"), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_ceiling_is_never_exceeded(
        max in 1..10_u32, ready in 0..4_usize, second in 0..3_usize, gone in 0..2_usize, open in 0..3_usize, orphans in 0..2_usize,
        queued in 0..20_u32, min in 0..4_u32, ticks in 1..4_usize,
    ) {
        let names = ["calm-crow", "bold-cat", "brave-otter", "apt-elk", "able-fox", "bright-hare", "cosy-hawk", "crisp-ibex", "deft-lark", "early-lynx", "easy-mole", "fair-newt", "fast-owl"];
        let mut names = names.into_iter();
        let mut world = two_pools(max);
        for pool in &mut world.stack.pools {
            pool.min = min;
        }
        for _ in 0..ready {
            world.machine(names.next().unwrap(), -1000, true);
        }
        for _ in 0..second {
            world.machine_of("second", names.next().unwrap(), -30, false);
        }
        for _ in 0..gone {
            world.machine_of("gone", names.next().unwrap(), -1000, true);
        }
        for _ in 0..open {
            world.open_create(names.next().unwrap(), -5);
        }
        for _ in 0..orphans {
            world.orphan(names.next().unwrap());
        }
        world.queue(queued);
        let mut there = ready + second + gone + open + orphans;
        let limit = usize::try_from(max).unwrap();
        for tick in 0..ticks {
            world.set_time(i64::try_from(tick).unwrap() * 180);
            let plan = world.plan();
            let made = creates(&plan, "linux") + creates(&plan, "second");
            if tick > 0 {
                let records = world.snapshot.state.resources.keys();
                let machines = records.filter(|address| address.kind == ResourceKind::Machine).count();
                // An attempt that this plan closes or takes on record is no attempt any more.
                let open = world.snapshot.open.iter();
                let open = open.filter(|open| plan.actions.iter().all(|action| action.address != open.address));
                there = machines + open.count();
            }
            prop_assert!(made == 0 || there + made <= limit, "{there} and {made} of {limit}");
            if tick == 0 && there == 0 && queued >= 12 {
                prop_assert_eq!(made, limit.min(12), "and it is used");
            }
            world.apply(&plan);
        }
    }
}

/// An agent of Azure DevOps that describes itself so, offline.
fn agents(description_of: impl Fn(&World) -> String) -> World {
    let mut world = World::new();
    for ci in world.stack.ci.values_mut() {
        ci.kind = CiKind::AzureDevops;
    }
    world.pool().offerings[0].task = Some(Box::new(TaskSpec::Ecs(EcsTask::default())));
    let description = description_of(&world);
    world.ci().runners.push(RunnerView {
        registration: "ip-10-0-0-5".into(),
        description,
        online: Some(false),
        paused: false,
        last_contact: Some(at(-500)),
        busy: Some(false),
    });
    world.learn();
    world
}

fn ours(world: &World) -> String {
    description("ip-10-0-0-5", &world.snapshot.state.lineage)
}

#[test]
fn an_agent_that_says_it_is_ours_and_has_no_container_is_removed_when_seen_twice() {
    let mut world = agents(ours);
    let plan = world.plan();
    assert!(plan.actions.is_empty(), "{:?}", verbs(&plan));
    world.set_time(180);
    world.learn();
    let plan = world.plan();
    let [action] = plan.actions.as_slice() else {
        panic!("{plan:?}")
    };
    assert!(
        matches!(&action.verb, Verb::Unregister { registration, .. } if registration.as_str() == "ip-10-0-0-5")
    );
    assert_eq!(action.reason.code(), "dead_registration");
}

#[test]
fn agents_of_others_and_those_that_may_live_are_left_alone() {
    let left = |mut world: World| {
        world.set_time(180);
        world.learn();
        let plan = world.plan();
        let unregisters = plan
            .actions
            .iter()
            .any(|action| matches!(action.verb, Verb::Unregister { .. }));
        assert!(!unregisters, "{:?}", verbs(&plan));
    };
    left(agents(|_| "ip-10-0-0-5".to_owned()));
    left(agents(|_| description("ip-10-0-0-5", &"another lineage".into())));
    let change = |change: &dyn Fn(&mut World)| {
        let mut world = agents(ours);
        change(&mut world);
        left(world);
    };
    change(&|world| world.ci().runners[0].online = Some(true));
    change(&|world| world.ci().runners[0].online = None);
    change(&|world| world.ci().runners[0].busy = Some(true));
    change(&|world| {
        world.run("ip-10-0-0-5");
    });
    change(&|world| world.ci().completeness = Completeness::partial("late"));
    // While a container's own name is not known, or one is being made, it may be its.
    change(&|world| {
        let address = world.machine("calm-crow", -30, false);
        world.record(&address).registration = None;
    });
    change(&|world| {
        world.open_create("calm-crow", 170);
    });
    // Elsewhere a description is no such word.
    change(&|world| {
        for ci in world.stack.ci.values_mut() {
            ci.kind = CiKind::Gitlab;
        }
    });
}
