//! Pools whose machines are a group's members.

use super::*;
use crate::{
    model::{
        ids::ResourceKind,
        resource::{GroupSpec, Member},
        runner::RunnerState,
    },
    plan::{invariants, members},
    stack::{GroupChoice, GroupSelector, Leave},
};

fn group_of(size: u32, min: u32, max: u32) -> World {
    let mut world = World::new();
    world.group(size, min, max);
    world
}

/// The one change of a group that a plan makes.
fn resized(plan: &Plan) -> Option<&GroupSpec> {
    let specs: Vec<&GroupSpec> = plan
        .actions
        .iter()
        .filter_map(|action| match &action.verb {
            Verb::Update {
                want: ResourceSpec::Group(spec),
                ..
            } => Some(spec),
            _ => None,
        })
        .collect();
    assert!(specs.len() <= 1, "{specs:?}");
    specs.first().copied()
}

fn retired(plan: &Plan) -> Vec<&str> {
    let retires = plan
        .actions
        .iter()
        .filter(|action| matches!(action.verb, Verb::Retire { .. }));
    retires.map(|action| action.address.name.as_str()).collect()
}

#[test]
fn a_group_is_raised_to_an_absolute_number_from_the_one_that_was_read() {
    let mut world = group_of(2, 0, 10);
    world.queue(9);
    let plan = world.plan();
    let spec = resized(&plan).unwrap();
    assert_eq!((spec.from, spec.size), (2, 5));
    assert_eq!(plan.actions[0].address.to_string(), "group.linux/agents");
    assert_eq!(plan.actions.len(), 1);
    world.apply(&plan);
    assert!(world.plan().is_noop());
}

#[test]
fn what_comes_up_already_is_not_asked_for_again() {
    let mut world = group_of(2, 0, 10);
    world.queue(9);
    // Desired is 5; two are in service, one boots, and two are not listed yet.
    let group = world.seen("agents");
    group.size = Some(5);
    let mut booting = group.members[0].clone();
    booting.id = "i-3".into();
    booting.status = CloudStatus::Pending;
    booting.created_at = at(-30);
    booting.lifecycle = "Pending:Wait".into();
    group.members.push(booting);
    let plan = world.plan();
    assert!(resized(&plan).is_none(), "{:?}", verbs(&plan));
    assert_eq!(plan.pools[0].serving, 5);
}

#[test]
fn no_size_is_above_the_groups_own_maximum_whatever_the_pool_says() {
    let mut world = group_of(2, 0, 3);
    world.pool().max = 50;
    world.queue(40);
    let plan = world.plan();
    assert_eq!(resized(&plan).unwrap().size, 3);
    assert!(codes(&plan).contains("max_reached"));
}

#[test]
fn members_that_work_are_protected_and_those_that_do_not_are_not() {
    let mut world = group_of(3, 0, 10);
    world.seen("agents").members[2].protected = true;
    world.run("i-1");
    world.run("i-2");
    let plan = world.plan();
    let spec = resized(&plan).unwrap();
    let protected: Vec<&str> = spec
        .protected
        .iter()
        .map(crate::model::ids::CloudId::as_str)
        .collect();
    assert_eq!((spec.size, protected), (3, vec!["i-1", "i-2"]));
    world.apply(&plan);
    assert!(resized(&world.plan()).is_none());
}

#[test]
fn a_partial_answer_of_the_ci_takes_no_protection_away_and_lets_nobody_go() {
    let mut world = group_of(2, 0, 10);
    world.seen("agents").members[1].protected = true;
    world.ci().completeness = Completeness::partial("a page is missing");
    world.pool().idle_timeout = secs(0);
    let plan = world.plan();
    let protected = resized(&plan).map(|spec| spec.protected.len());
    // What runs where is not known: both may work.
    assert_eq!(protected, Some(2));
    assert!(retired(&plan).is_empty());
}

#[test]
fn idle_members_leave_one_by_one_and_never_below_the_groups_own_minimum() {
    let mut world = group_of(4, 1, 10);
    world.pool().idle_timeout = secs(0);
    world.run("i-2");
    let plan = world.plan();
    assert_eq!(retired(&plan).len(), 3, "{:?}", verbs(&plan));
    assert!(!retired(&plan).contains(&"i-2"));
    let mut world = group_of(4, 2, 10);
    world.pool().idle_timeout = secs(0);
    let plan = world.plan();
    assert_eq!(retired(&plan).len(), 2);
    world.apply(&plan);
    assert!(retired(&world.plan()).is_empty());
}

#[test]
fn destroy_leaves_what_the_groups_own_minimum_says_and_who_works() {
    let mut world = group_of(4, 1, 10);
    world.run("i-1");
    let plan = world.destroy();
    assert_eq!(retired(&plan).len(), 3);
    assert!(codes(&plan).contains("busy_at_destroy"));
    let mut world = group_of(2, 1, 10);
    let plan = world.destroy();
    assert_eq!(retired(&plan).len(), 1);
    assert!(codes(&plan).contains("group_minimum"));
}

#[test]
fn a_group_that_somebody_else_sizes_is_not_touched() {
    let mut world = group_of(2, 0, 10);
    world.queue(9);
    world.run("i-1");
    world.pool().idle_timeout = secs(0);
    world.seen("agents").group.as_mut().unwrap().governed = Some("scaling policy cpu-50".into());
    let plan = world.plan();
    assert!(plan.is_noop(), "{:?}", verbs(&plan));
    let held = plan
        .held
        .iter()
        .find(|held| held.reason.code() == "group_governed")
        .unwrap();
    assert!(held.warning && held.reason.to_string().contains("cpu-50"));
}

#[test]
fn a_group_that_waits_keeps_no_other_pool_waiting() {
    let mut world = group_of(2, 0, 10);
    world.queue(9);
    world.seen("agents").group.as_mut().unwrap().waits = Some("cooling down until 14:53:00Z".into());
    let mut other = pool("arm", &["arm"]);
    other.max = 3;
    world.stack.pools.push(other);
    world.queue_tagged(2, &["arm"]);
    let plan = world.plan();
    assert!(resized(&plan).is_none());
    assert!(codes(&plan).contains("group_waits"));
    let creates = plan
        .actions
        .iter()
        .filter(|action| matches!(action.verb, Verb::Create { .. }));
    assert_eq!(creates.count(), 1);
}

#[test]
fn a_budget_bounds_a_group_as_it_bounds_machines() {
    let mut world = group_of(2, 0, 10);
    world.queue(20);
    world.stack.budget.hourly = Some("0.045 EUR".parse().unwrap());
    let plan = world.plan();
    assert_eq!(resized(&plan).unwrap().size, 4);
    assert!(codes(&plan).contains("budget_reached"));
    assert_eq!(plan.cost.after_hourly, vec!["0.04 EUR".parse().unwrap()]);
}

#[test]
fn a_partial_listing_of_the_cloud_changes_nothing() {
    let mut world = group_of(2, 0, 10);
    world.queue(9);
    world.cloud().listing.completeness = Completeness::partial("timed out");
    assert!(world.plan().is_noop());
}

#[test]
fn each_group_that_is_found_is_a_pool_and_one_that_goes_takes_its_pool_with_it() {
    let mut world = group_of(2, 0, 10);
    world.pool().group = Some(GroupChoice {
        provider: "hetzner".into(),
        which: GroupSelector::Tagged {
            key: "resource-class".into(),
            namespace: "acme".into(),
        },
        leave: Leave::Terminate,
        runner: crate::stack::RunnerNaming::Id,
    });
    let other = {
        let mut other = world.seen("agents").clone();
        other.target.id = "others".into();
        other.name = "others".into();
        other.labels.insert("resource-class".into(), "acme/GPU 2".into());
        other.members = Vec::<Member>::new();
        other.size = Some(0);
        other
    };
    let mut elsewhere = other.clone();
    elsewhere
        .labels
        .insert("resource-class".into(), "umbrella/linux".into());
    elsewhere.name = "elsewhere".into();
    elsewhere.target.id = "elsewhere".into();
    world.cloud().listing.resources.extend([other, elsewhere]);
    let finder = world.stack.clone();
    let names = |stack: &crate::stack::Stack| -> Vec<String> {
        stack
            .pools
            .iter()
            .map(|pool| format!("{} {}", pool.name, pool.tags.join(",")))
            .collect()
    };
    let found = members::expand(&finder, &world.snapshot.clouds);
    assert_eq!(names(&found), ["gpu-2 acme/GPU 2", "linux-big acme/linux-big"]);
    let plan = world.plan();
    assert_eq!(plan.pools.len(), 2);
    world
        .cloud()
        .listing
        .resources
        .retain(|seen| seen.name != "others");
    let found = members::expand(&finder, &world.snapshot.clouds);
    assert_eq!(names(&found), ["linux-big acme/linux-big"]);
}

#[test]
fn members_are_in_no_state_that_is_written() {
    let mut world = group_of(3, 0, 10);
    world.plan();
    let machines = |state: &crate::model::state::State| {
        state
            .resources
            .keys()
            .filter(|address| address.kind == ResourceKind::Machine)
            .count()
    };
    assert_eq!(machines(&world.snapshot.state), 3);
    assert_eq!(machines(&world.snapshot.own_state()), 0);
}

#[test]
fn a_member_whose_delete_was_interrupted_is_gone_on_with_by_the_rules() {
    let mut world = group_of(2, 0, 10);
    let address: Address = "machine.linux/i-1".parse().unwrap();
    let target = crate::model::resource::ResourceRef {
        provider: "hetzner".into(),
        kind: ResourceKind::Machine,
        id: "i-1".into(),
    };
    let registration = Some(("gitlab".into(), "i-1".into()));
    world.open(&address, Intent::Delete { target, registration });
    assert_eq!(retired(&world.plan()), ["i-1"]);
    world.run("i-1");
    assert!(retired(&world.plan()).is_empty());
}

#[test]
fn the_policy_of_drone_autoscaler_counts_free_and_booting_room_and_keeps_who_works() {
    let mut world = group_of(3, 0, 10);
    world.pool().policy = Policy::DroneAutoscaler { min_age: secs(600) };
    world.pool().idle_timeout = secs(0);
    world.run("i-1");
    // Two free agents and a half take five builds.
    world.queue(5);
    assert!(resized(&world.plan()).is_none_or(|spec| spec.size == 3));
    world.queue(1);
    assert_eq!(resized(&world.plan()).unwrap().size, 4);
    let mut world = group_of(3, 0, 10);
    world.pool().policy = Policy::DroneAutoscaler { min_age: secs(600) };
    world.pool().idle_timeout = secs(0);
    world.run("i-1");
    let plan = world.plan();
    assert_eq!(plan.pools[0].target, 1);
    assert_eq!(retired(&plan), ["i-2", "i-3"]);
}

#[test]
fn the_policy_of_circleci_runner_autoscaler_grows_by_what_nobody_claimed_and_never_shrinks() {
    let mut world = group_of(3, 0, 10);
    world.pool().policy = Policy::AsgIncrement;
    world.pool().jobs_per_runner = 1;
    world.pool().idle_timeout = secs(0);
    world.queue(2);
    assert_eq!(resized(&world.plan()).unwrap().size, 5);
    let mut world = group_of(3, 0, 10);
    world.pool().policy = Policy::AsgIncrement;
    world.pool().jobs_per_runner = 1;
    world.queue(2);
    let booting = &mut world.seen("agents").members[0];
    (booting.status, booting.created_at) = (CloudStatus::Pending, at(-30));
    assert_eq!(resized(&world.plan()).unwrap().size, 4);
    let mut world = group_of(3, 0, 10);
    world.pool().policy = Policy::AsgIncrement;
    world.pool().idle_timeout = secs(0);
    assert_eq!(world.plan().pools[0].target, 3);
}

#[test]
fn a_runner_that_left_is_leaving_and_does_not_count_and_one_that_never_came_is_made_up_for() {
    let mut world = group_of(3, 0, 10);
    world.pool().policy = Policy::AsgIncrement;
    world.pool().jobs_per_runner = 1;
    let control = &mut world.ci().control;
    (control.cordon, control.lists_runners) = (CordonKind::Leaves, true);
    for name in ["i-1", "i-2"] {
        world.register("linux", name, true);
    }
    world.ci().wanted = Wanted::Counts(
        [(
            "linux".into(),
            Counts {
                queued: 0,
                running: 2,
            },
        )]
        .into(),
    );
    // The third has not registered in an hour.
    let plan = world.plan();
    assert_eq!(plan.pools[0].serving, 2);
    assert!(retired(&plan).is_empty());
    // One of the others ends by its own idle time.
    world
        .ci()
        .runners
        .retain(|runner| runner.registration.as_str() != "i-1");
    let plan = world.plan();
    assert_eq!(plan.pools[0].serving, 1);
    assert!(codes(&plan).contains("leaves_by_itself"));
    assert!(
        world
            .snapshot
            .history
            .failures
            .iter()
            .all(|failure| failure.what.contains("not ready"))
    );
}

#[test]
fn a_switched_off_machine_is_cleared_away_where_only_leaving_lets_it_go() {
    let mut world = idle(-900, |w, _| {
        w.ci().control.cordon = CordonKind::Leaves;
        w.ci().wanted = Wanted::Counts(
            [(
                "linux".into(),
                Counts {
                    queued: 0,
                    running: 5,
                },
            )]
            .into(),
        );
        w.seen("brave-otter").status = CloudStatus::Off;
    });
    let plan = world.plan();
    assert!(
        matches!(plan.actions[0].verb, Verb::Delete { .. }),
        "{:?}",
        verbs(&plan)
    );
    assert!(invariants::check(&plan, &world.snapshot, &world.stack).is_empty());
}

#[test]
fn a_machine_that_a_stale_listing_lacks_is_ready_where_the_ci_tells_no_runners() {
    let mut world = World::new();
    let control = &mut world.ci().control;
    (control.cordon, control.lists_runners) = (CordonKind::PauseAll, false);
    let address = world.machine("brave-otter", -900, false);
    let seen = world.cloud().listing.resources.pop();
    world.cloud().reread.insert(address, seen);
    let plan = world.plan();
    assert!(plan.is_noop(), "{:?}", verbs(&plan));
    assert_eq!(plan.kept[0].state, Some(RunnerState::Idle));
}

#[test]
fn a_job_that_runs_for_ever_is_no_demand_and_keeps_its_machine_until_it_has_been_seen_twice() {
    let mut world = idle(-900, |w, _| {
        w.run("brave-otter").stuck = true;
    });
    let plan = world.plan();
    assert_eq!((plan.pools[0].running, plan.pools[0].target), (0, 0));
    assert!(plan.is_noop(), "{:?}", verbs(&plan));
    world.set_time(60);
    let plan = world.plan();
    assert!(codes(&plan).contains("stuck_job"), "{:?}", verbs(&plan));
    assert!(matches!(plan.actions[0].verb, Verb::Retire { .. }));
}

#[test]
fn a_ci_with_rules_of_its_own_says_which_pools_could_run_a_job() {
    let mut world = World::new();
    world.stack.pools.push(pool("arm", &["linux"]));
    world.queue(4);
    let Wanted::Jobs(jobs) = &mut world.ci().wanted else {
        panic!("jobs")
    };
    for job in jobs.iter_mut() {
        job.pools = Some(vec!["arm".into()]);
    }
    let plan = world.plan();
    let queued: Vec<u32> = plan.pools.iter().map(|pool| pool.queued).collect();
    assert_eq!(queued, [0, 4]);
}

#[test]
fn a_runner_is_told_by_its_machines_host_name_where_the_stack_file_says_so() {
    let mut world = group_of(3, 0, 10);
    world.pool().group.as_mut().unwrap().runner = crate::stack::RunnerNaming::Hostname;
    world.pool().idle_timeout = secs(0);
    world.run("ip-10-0-0-2");
    world.seen("agents").members[2].hostname = None;
    let plan = world.plan();
    // The second works, and of the third it is not known.
    assert_eq!(retired(&plan), ["i-1"], "{:?}", verbs(&plan));
}

#[test]
fn a_count_of_none_lets_a_machine_go_where_no_runners_are_told() {
    for running in [0, 1] {
        let mut world = World::new();
        world.by_second();
        world.pool().idle_timeout = secs(0);
        let control = &mut world.ci().control;
        (control.cordon, control.lists_runners) = (CordonKind::Pause, false);
        world.machine("brave-otter", -9_000, true);
        world.ci().runners.clear();
        let count = Counts { queued: 0, running };
        world.ci().wanted = Wanted::Counts([("linux".into(), count)].into());
        let plan = world.plan();
        let goes = matches!(plan.actions.as_slice(), [action] if matches!(action.verb, Verb::Retire { .. }));
        assert_eq!(goes, running == 0, "{:?}", verbs(&plan));
    }
}
