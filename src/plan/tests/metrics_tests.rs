//! Machines that no CI knows: they are ready when they are well, and go when nothing says that they work.

use super::*;
use crate::{
    model::{
        demand::Wanted,
        metrics::MachineSeen,
        resource::{CloudStatus, CordonKind},
        runner::RunnerState,
        state::Phase,
    },
    plan::members,
    stack::CiKind,
};

/// A pool that goes by metrics and wants so many machines.
fn world(wanted: u32) -> World {
    let mut world = World::new();
    world.by_second();
    world.stack.ci.get_mut("gitlab").unwrap().kind = CiKind::Prometheus;
    world.ci().wanted = Wanted::Counts(std::collections::BTreeMap::new());
    world.pool().policy = Policy::Queue { idle: wanted };
    world.pool().idle_timeout = secs(0);
    world
}

/// What the source says of a machine: whether it is well, and whether it works.
fn says(world: &mut World, name: &str, online: bool, busy: Option<bool>) {
    let now = world.ci().now;
    let runner = world.runner(name);
    runner.online = Some(online);
    runner.last_contact = online.then_some(now);
    runner.busy = busy;
}

fn states(plan: &Plan) -> Vec<Option<RunnerState>> {
    plan.kept.iter().map(|kept| kept.state).collect()
}

#[test]
fn a_machine_that_was_well_once_is_not_deleted_for_being_silent() {
    for busy in [Some(false), None] {
        let mut world = world(1);
        world.machine("brave-otter", -3600, true);
        says(&mut world, "brave-otter", true, Some(false));
        assert!(world.plan().is_noop());
        for later in [60, 7200] {
            world.set_time(later);
            says(&mut world, "brave-otter", false, busy);
            let plan = world.plan();
            assert!(plan.is_noop(), "{:?}", verbs(&plan));
            let state = if busy.is_some() {
                RunnerState::Idle
            } else {
                RunnerState::Busy
            };
            assert_eq!(states(&plan), [Some(state)]);
        }
    }
}

#[test]
fn a_machine_that_was_never_well_fails_after_its_time_and_another_is_made() {
    for busy in [Some(false), None] {
        let mut world = world(1);
        world.machine("brave-otter", -60, false);
        says(&mut world, "brave-otter", false, busy);
        let plan = world.plan();
        assert!(plan.is_noop(), "{:?}", verbs(&plan));
        assert_eq!(states(&plan), [Some(RunnerState::Booting)]);
        world.set_time(3600);
        says(&mut world, "brave-otter", false, busy);
        let plan = world.plan();
        assert!(codes(&plan).contains("never_ready"), "{:?}", verbs(&plan));
    }
}

#[test]
fn one_silent_machine_stops_neither_growing_nor_the_idle_ones_leaving() {
    let mut world = world(3);
    for name in ["brave-otter", "calm-yak", "deft-ant"] {
        world.machine(name, -3600, true);
        says(&mut world, name, true, Some(false));
    }
    assert!(world.plan().is_noop());
    world.set_time(600);
    for name in ["brave-otter", "calm-yak"] {
        says(&mut world, name, true, Some(false));
    }
    // Its jobs are counted, and it does not tell them.
    says(&mut world, "deft-ant", false, None);
    world.pool().policy = Policy::Queue { idle: 1 };
    let plan = world.plan();
    let going: Vec<_> = plan
        .actions
        .iter()
        .map(|action| action.address.name.as_str())
        .collect();
    assert_eq!(going, ["brave-otter", "calm-yak"], "{:?}", verbs(&plan));
    assert!(
        plan.actions
            .iter()
            .all(|action| matches!(action.verb, Verb::Retire { .. }))
    );
    world.pool().policy = Policy::Queue { idle: 5 };
    let creates = world
        .plan()
        .actions
        .iter()
        .filter(|action| matches!(action.verb, Verb::Create { .. }))
        .count();
    assert_eq!(creates, 2);
}

#[test]
fn a_cordon_is_told_by_our_records_alone() {
    let mut world = world(1);
    let address = world.machine("brave-otter", -3600, true);
    says(&mut world, "brave-otter", true, Some(true));
    world.record(&address).phase = Phase::Cordoned {
        since: at(-60),
        why: "asked".to_owned(),
    };
    world.plan();
    assert!(world.runner("brave-otter").paused);
    assert_eq!(world.ci().control.cordon, CordonKind::Pause);
}

#[test]
fn a_source_is_told_the_machines_of_its_pool_and_their_clouds_clock() {
    let mut world = world(2);
    world.machine("brave-otter", -3600, true);
    world.machine("calm-yak", -60, false);
    world.orphan("deft-ant");
    world.seen("calm-yak").status = CloudStatus::Off;
    world.seen("brave-otter").addresses = vec!["10.0.0.7".parse().unwrap()];
    let other = pool("other", &[]);
    world.stack.pools.push(other.clone());
    let clouds = &world.snapshot.clouds;
    let (mut machines, now) = members::seen(&world.stack, &world.stack.pools[0], clouds);
    machines.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<_> = machines.iter().map(|machine| machine.name.as_str()).collect();
    assert_eq!(
        names.len(),
        3,
        "an orphan of ours too: it may be adopted, and is asked before it goes: {names:?}"
    );
    let expected = MachineSeen {
        registration: world
            .snapshot
            .state
            .resources
            .values()
            .next()
            .unwrap()
            .registration
            .clone()
            .unwrap(),
        name: machines[0].name.clone(),
        lineage: Some(world.snapshot.state.lineage.clone()),
        running: true,
        addresses: vec!["10.0.0.7".parse().unwrap()],
        created_at: at(-3600),
    };
    assert_eq!(machines[0], expected);
    assert!(!machines[1].running);
    assert_eq!(now, Some(clouds["hetzner"].listing.now));
    assert_eq!(
        members::seen(&world.stack, &other, clouds),
        (Vec::new(), now),
        "it may buy there"
    );
    let mut silent = clouds.clone();
    silent.get_mut("hetzner").unwrap().listing.completeness = Completeness::partial("down");
    assert_eq!(members::seen(&world.stack, &other, &silent), (Vec::new(), None));
}

#[test]
fn the_members_of_a_group_are_told_by_their_runners_names() {
    let mut world = world(2);
    world.group(2, 0, 10);
    world.seen("agents").members[1].addresses = vec!["10.0.0.8".parse().unwrap()];
    let (machines, now) = members::seen(&world.stack, &world.stack.pools[0], &world.snapshot.clouds);
    let told: Vec<_> = machines
        .iter()
        .map(|machine| {
            (
                machine.registration.as_str(),
                machine.addresses.len(),
                machine.lineage.is_none(),
            )
        })
        .collect();
    assert_eq!(told, [("i-1", 0, true), ("i-2", 1, true)]);
    assert!(now.is_some());
}
