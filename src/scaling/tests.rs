//! Tests of the target, the growth and the loads.

use super::*;
use crate::{
    model::demand::{Counts, Wanted},
    plan::{
        facts::Facts,
        testing::{World, pool},
    },
};

mod ado_ecs_agents;
mod replaced;

fn load(queued: u32, running: u32) -> Load {
    Load { queued, running }
}

fn sized(min: u32, max: u32, idle: u32) -> Pool {
    let mut pool = pool("linux", &["linux"]);
    (pool.min, pool.max, pool.policy) = (min, max, Policy::Queue { idle });
    pool
}

#[test]
fn the_target_is_the_formula() {
    let table = [
        ((0, 10, 0), (0, 0), 0, 0, "ceil((0 + 0) / 2) + 0 = 0"),
        ((0, 10, 0), (5, 0), 3, 3, "ceil((5 + 0) / 2) + 0 = 3"),
        ((0, 10, 0), (3, 3), 3, 3, "ceil((3 + 3) / 2) + 0 = 3"),
        ((0, 10, 2), (1, 0), 3, 3, "ceil((1 + 0) / 2) + 2 = 3"),
        ((0, 2, 0), (5, 0), 2, 3, "ceil((5 + 0) / 2) + 0 = 3, max = 2"),
        ((4, 10, 0), (5, 0), 4, 3, "ceil((5 + 0) / 2) + 0 = 3, min = 4"),
    ];
    for ((min, max, idle), (queued, running), size, wanted, formula) in table {
        let target = target(
            &sized(min, max, idle),
            load(queued, running),
            Have::default(),
            &Sight::default(),
        );
        assert_eq!(
            (target.size, target.wanted, target.formula.as_str()),
            (size, wanted, formula)
        );
    }
    let huge = target(
        &sized(0, u32::MAX, 9),
        load(u32::MAX, u32::MAX),
        Have::default(),
        &Sight::default(),
    );
    assert_eq!(huge.work, u32::MAX.div_ceil(2));
}

#[test]
fn each_machine_is_wanted_for_its_own_reason() {
    let pool = sized(5, 10, 1);
    let load = load(3, 0);
    let target = target(&pool, load, Have::default(), &Sight::default());
    let codes: Vec<&str> = (0..5).map(|at| reason(&pool, load, &target, at).code()).collect();
    assert_eq!(codes, ["demand", "demand", "idle_buffer", "min_size", "min_size"]);
}

fn grown(pool: &Pool, wanted: u32, room: (u32, u32, u32)) -> (u32, Vec<(u32, &'static str)>) {
    let target = target(pool, load(wanted * 2, 0), Have::default(), &Sight::default());
    let (serving, existing, booting) = room;
    let growth = growth(
        pool,
        &target,
        Room {
            serving,
            existing,
            booting,
        },
    );
    let limits = growth
        .limits
        .iter()
        .map(|(count, reason)| (*count, reason.code()))
        .collect();
    (growth.create, limits)
}

#[test]
fn growth_is_what_is_missing_within_max_and_burst() {
    let mut pool = sized(0, 4, 0);
    assert_eq!(grown(&pool, 3, (1, 1, 0)), (2, vec![]));
    assert_eq!(grown(&pool, 3, (3, 3, 0)), (0, vec![]));
    assert_eq!(grown(&pool, 2, (3, 3, 0)), (0, vec![]));
    assert_eq!(grown(&pool, 4, (1, 3, 0)), (1, vec![(2, "max_reached")]));
    assert_eq!(grown(&pool, 4, (1, 9, 0)), (0, vec![(3, "max_reached")]));
    assert_eq!(grown(&pool, 6, (4, 4, 0)), (0, vec![(2, "max_reached")]));
    assert_eq!(grown(&pool, 6, (2, 3, 0)), (1, vec![(3, "max_reached")]));
    pool.burst = Some(2);
    assert_eq!(grown(&pool, 4, (0, 0, 0)), (2, vec![(2, "burst_reached")]));
    assert_eq!(grown(&pool, 4, (1, 1, 1)), (1, vec![(2, "burst_reached")]));
    assert_eq!(grown(&pool, 4, (2, 2, 5)), (0, vec![(2, "burst_reached")]));
    assert_eq!(grown(&pool, 2, (0, 0, 0)), (2, vec![]));
}

#[test]
fn max_reached_says_what_is_wanted() {
    let pool = sized(0, 2, 0);
    let target = target(&pool, load(9, 0), Have::default(), &Sight::default());
    let growth = growth(&pool, &target, Room::default());
    assert_eq!(growth.limits, [(3, Reason::MaxReached { wanted: 5, max: 2 })]);
}

fn loads_of(world: &World) -> Vec<(u32, u32)> {
    let facts = Facts::of(&world.snapshot, &world.stack);
    let loads = loads(&facts);
    let of = |pool: &Pool| {
        loads
            .get(&pool.name)
            .map(|load| (load.queued, load.running))
            .unwrap()
    };
    world.stack.pools.iter().map(of).collect()
}

#[test]
fn a_queued_job_goes_to_the_first_pool_with_room() {
    let mut world = World::new();
    world.stack.pools.push(pool("second", &["linux", "big"]));
    world.stack.pools.push(pool("third", &["linux"]));
    world.pool().max = 1;
    world.stack.pools[1].max = 1;
    world.queue(2);
    assert_eq!(loads_of(&world), [(2, 0), (0, 0), (0, 0)]);
    world.queue(1);
    assert_eq!(loads_of(&world), [(2, 0), (1, 0), (0, 0)]);
    world.queue(2);
    assert_eq!(loads_of(&world), [(2, 0), (2, 0), (1, 0)]);
    world.stack.pools[2].max = 0;
    assert_eq!(loads_of(&world), [(3, 0), (2, 0), (0, 0)]);
}

#[test]
fn a_running_job_counts_where_it_runs_and_takes_room_there() {
    let mut world = World::new();
    world.stack.pools.push(pool("second", &["linux"]));
    world.pool().max = 1;
    world.queue(2);
    world.machine_of("second", "m2", 0, true);
    world.machine("m1", 0, true);
    world.run("m1");
    world.run("m2");
    world.run("theirs");
    assert_eq!(loads_of(&world), [(1, 1), (1, 1)]);
}

#[test]
fn a_job_on_a_machine_that_is_being_made_counts_for_its_pool() {
    let mut world = World::new();
    world.open_create("calm-crow", -5);
    world.run("calm-crow");
    assert_eq!(loads_of(&world), [(0, 1)]);
}

#[test]
fn another_cis_pool_gets_no_job_and_untagged_ones_go_where_they_are_taken() {
    let mut world = World::new();
    world.stack.pools.push(pool("second", &["linux"]));
    world.pool().ci = "other".into();
    world.queue(1);
    world.queue_tagged(1, &[]);
    assert_eq!(loads_of(&world), [(0, 0), (1, 0)]);
    world.stack.pools[1].run_untagged = true;
    assert_eq!(loads_of(&world), [(0, 0), (2, 0)]);
}

#[test]
fn a_job_that_is_told_twice_counts_once_and_as_running() {
    let mut world = World::new();
    world.machine("m1", 0, true);
    world.queue(2);
    world.run("m1");
    world.finished("m1", 0, 5);
    let Wanted::Jobs(jobs) = &mut world.ci().wanted else {
        panic!("jobs")
    };
    let (queued, running) = (jobs[0].clone(), jobs[2].clone());
    jobs[2].id = queued.id.clone();
    jobs.push(queued);
    jobs.push(running);
    assert_eq!(loads_of(&world), [(1, 2)]);
}

#[test]
fn counts_go_to_their_pools() {
    let mut world = World::new();
    let counts = Counts {
        queued: 3,
        running: 1,
    };
    world.ci().wanted = Wanted::Counts([("linux".into(), counts), ("gone".into(), counts)].into());
    assert_eq!(loads_of(&world), [(3, 1)]);
}
