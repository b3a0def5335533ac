//! The policy `step` over several ticks: do-scaler's three example policies, and each of its mistakes.
//!
//! The policies are those of its `conf.d/policies`, as a stack file has them; the table of its mistakes is in
//! docs/design/steps.md.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::codes;
use crate::{
    model::{
        demand::Wanted,
        ids::{Address, RegistrationId},
        metrics::{Finite, MachineMetrics, Measured, PoolMetrics},
        reason::Reason,
        resource::Completeness,
    },
    plan::{
        Goal, Plan, Selector, Verb, moved,
        testing::{World, at, secs, verbs},
    },
    scaling,
    stack::{
        Mode, Moved, Policy, StackPath,
        step::{Matching, Operator, Subject},
    },
};

const WEB: &str = r#"
[stack]
name = "test"

[providers.hetzner]
token = { env = "HCLOUD_TOKEN" }

[ci.metrics]
kind = "prometheus"
scrape = { port = 9110, path = "/", address = "private" }

[pools.linux]
ci = "metrics"
min = 2
max = 8
policy = { kind = "step", cooldown = "5m", hysteresis = "10m" }
offerings = [{ provider = "hetzner", type = "cx33", image = "debian-12" }]

[[pools.linux.steps]]
name = "mem_avail"
add = 1
conditions = [
    { samples = ["node_memory_MemFree_bytes", "node_memory_Cached_bytes"], operator = "<=", threshold = 2068099072.0 },
]

[[pools.linux.steps]]
name = "loadavg"
add = 1
conditions = [
    { samples = ["node_load1"], operator = ">=", threshold = 2 },
    { samples = ["node_load5"], operator = ">=", threshold = 2 },
    { samples = ["node_load15"], operator = ">=", threshold = 2 },
]

[[pools.linux.steps]]
name = "down"
remove = 1
conditions = [
    { samples = ["node_memory_MemFree_bytes", "node_memory_Cached_bytes"], function = "min", operator = ">=", threshold = 3102148608.0 },
    { samples = ["node_load1"], function = "max", operator = "<=", threshold = 0.5 },
    { samples = ["node_load5"], function = "max", operator = "<=", threshold = 0.5 },
    { samples = ["node_load15"], function = "max", operator = "<=", threshold = 0.5 },
]
"#;

/// Nothing is to be done: between the thresholds.
const CALM: (f64, f64) = (2.5e9, 1.0);
/// Memory is short.
const FULL: (f64, f64) = (1.9e9, 1.0);
/// Processors are short.
const LOADED: (f64, f64) = (2.5e9, 3.1);
/// Nobody needs it.
const IDLE: (f64, f64) = (6e9, 0.1);

/// So many machines that are ready and calm, with do-scaler's policies, billed by the second.
fn web(machines: u32) -> World {
    let parsed = crate::stack::parse(WEB, "stacks/web.toml").unwrap();
    let mut world = World::new();
    world.by_second();
    let pool = world.pool();
    (pool.policy, pool.min, pool.max) = (parsed.pools[0].policy.clone(), 2, 8);
    pool.idle_timeout = secs(0);
    world.ci().wanted = Wanted::Counts(BTreeMap::new());
    for index in 0..machines {
        world.machine(&format!("m{index}"), -1000 + i64::from(index), true);
    }
    tell_all(&mut world, CALM);
    world
}

fn names(world: &mut World) -> Vec<String> {
    let runners = world.ci().runners.iter();
    runners.map(|runner| runner.registration.to_string()).collect()
}

fn metrics(world: &mut World) -> &mut PoolMetrics {
    world.ci().metrics.entry("linux".into()).or_default()
}

/// What a machine tells: memory in bytes, and the load.
fn tell(world: &mut World, name: &str, (memory, load): (f64, f64)) {
    let samples = [
        ("node_memory_MemFree_bytes", memory / 2.0),
        ("node_memory_Cached_bytes", memory / 2.0),
        ("node_load1", load),
        ("node_load5", load),
        ("node_load15", load),
    ];
    let told = samples.map(|(name, value)| (name.to_owned(), Finite::new(value).unwrap()));
    let told = MachineMetrics::Read(BTreeMap::from(told));
    metrics(world).machines.insert(name.into(), told);
}

/// Every machine that is ready tells the same.
fn tell_all(world: &mut World, what: (f64, f64)) {
    for name in names(world) {
        world.runner(&name).busy = Some(false);
        tell(world, &name, what);
    }
}

fn silence(world: &mut World, name: &str) {
    let why = "timed out".to_owned();
    metrics(world)
        .machines
        .insert(name.into(), MachineMetrics::Unreachable { why });
}

fn pass(world: &mut World, seconds: i64) {
    let now = world.ci().now.as_second() - at(0).as_second();
    world.set_time(now + seconds);
}

/// Everything that boots comes up, and tells that it has nothing to do.
fn come_up(world: &mut World) {
    let now = world.ci().now;
    for name in names(world) {
        let runner = world.runner(&name);
        if runner.last_contact.is_none() {
            (runner.last_contact, runner.online, runner.busy) = (Some(now), Some(true), Some(false));
            tell(world, &name, IDLE);
        }
    }
}

/// One tick of do-scaler's 120 s: what is planned, and carried out.
fn tick(world: &mut World) -> Plan {
    let plan = world.plan();
    world.apply(&plan);
    pass(world, 120);
    plan
}

fn formula(plan: &Plan) -> &str {
    &plan.pools[0].formula
}

fn held(plan: &Plan) -> Vec<String> {
    plan.held.iter().map(|held| held.reason.to_string()).collect()
}

fn created(plan: &Plan) -> Vec<&Reason> {
    let creates = plan.actions.iter();
    let creates = creates.filter(|action| matches!(action.verb, Verb::Create { .. }));
    creates.map(|action| &action.reason).collect()
}

fn retired(plan: &Plan) -> usize {
    let retires = plan.actions.iter();
    retires
        .filter(|action| matches!(action.verb, Verb::Retire { .. }))
        .count()
}

/// How many leave that were ready.
fn removed(plan: &Plan) -> usize {
    let failed = |reason: &Reason| matches!(reason, Reason::NeverReady { .. });
    let retires = plan.actions.iter();
    retires
        .filter(|action| matches!(action.verb, Verb::Retire { .. }) && !failed(&action.reason))
        .count()
}

fn policy(world: &mut World) -> &mut crate::stack::step::StepPolicy {
    match &mut world.pool().policy {
        Policy::Step(policy) => policy,
        other => panic!("{other:?}"),
    }
}

/// A world for each of the policy's reasons.
pub(super) fn scenarios() -> Vec<(&'static str, World)> {
    let with = |machines, edit: &dyn Fn(&mut World)| {
        let mut world = web(machines);
        edit(&mut world);
        world
    };
    let full = |world: &mut World| tell_all(world, FULL);
    vec![
        ("step_adds", with(2, &full)),
        (
            "size_kept",
            with(3, &|world| {
                tick(world);
                let gone = Address::machine(&"linux".into(), &"m1".into());
                world.lose(&gone);
                tick(world);
            }),
        ),
        ("step_unknown", with(2, &|world| silence(world, "m1"))),
        (
            "step_pending",
            with(2, &|world| {
                full(world);
                policy(world).steps[0].hold = secs(300);
            }),
        ),
        (
            "step_cools",
            with(2, &|world| {
                full(world);
                tick(world);
                come_up(world);
                full(world);
            }),
        ),
        (
            "step_warms_up",
            with(2, &|world| {
                full(world);
                tick(world);
            }),
        ),
        (
            "step_leaving",
            with(4, &|world| {
                tell_all(world, IDLE);
                world.pool().idle_timeout = secs(100_000);
                tick(world);
            }),
        ),
        ("step_behind", with(2, &|world| tell_all(world, (1.9e9, 3.1)))),
    ]
}

#[test]
fn mem_avail_adds_one_which_counts_only_once_it_is_ready() {
    let mut world = web(3);
    let plan = tick(&mut world);
    assert_eq!(verbs(&plan), [""; 0]);
    assert_eq!(formula(&plan), "no step acts, size = 3");

    tell_all(&mut world, FULL);
    let plan = tick(&mut world);
    insta::assert_snapshot!(formula(&plan), @"mem_avail: mean(node_memory_MemFree_bytes + node_memory_Cached_bytes) = 1.9e9 <= 2.068e9, +1 = 4");
    insta::assert_snapshot!(created(&plan)[0].to_string(), @"step mem_avail: mean(node_memory_MemFree_bytes + node_memory_Cached_bytes) = 1.9e9 <= 2.068e9");

    // It boots: memory is as short as before, and no second one is asked for.
    let plan = tick(&mut world);
    assert_eq!((verbs(&plan).len(), plan.pools[0].target), (0, 4));
    insta::assert_snapshot!(formula(&plan), @"mem_avail: mean(node_memory_MemFree_bytes + node_memory_Cached_bytes) = 1.9e9 <= 2.068e9, which waits, size = 4");
    assert_eq!(held(&plan), ["step mem_avail waits: 3 of 4 machines are ready"]);

    // It is ready, and takes its part.
    come_up(&mut world);
    let plan = tick(&mut world);
    assert_eq!((verbs(&plan).len(), plan.pools[0].target), (0, 4));
    assert_eq!(formula(&plan), "no step acts, size = 4");
    let reading = &plan.pools[0].steps[0].reading;
    insta::assert_snapshot!(reading, @"mean(node_memory_MemFree_bytes + node_memory_Cached_bytes) = 2.925e9, not <= 2.068e9");
}

#[test]
fn loadavg_adds_one_in_each_cool_down_and_stops_at_max() {
    let mut world = web(6);
    world.pool().max = 7;
    let (mut acted, mut told) = (Vec::new(), BTreeSet::new());
    for index in 0..8 {
        tell_all(&mut world, LOADED);
        let plan = tick(&mut world);
        come_up(&mut world);
        if !created(&plan).is_empty() {
            acted.push(index);
        }
        told.extend(codes(&plan));
    }
    assert_eq!(acted, [0], "one tick is 120 s, and the cool-down 300");
    assert!(told.contains("max_reached"), "{told:?}");
    assert!(
        !told.contains("step_cools"),
        "there is nothing to wait for: {told:?}"
    );

    let mut world = web(2);
    let mut acted = Vec::new();
    for index in 0..10 {
        tell_all(&mut world, LOADED);
        if !created(&tick(&mut world)).is_empty() {
            acted.push(index);
        }
        come_up(&mut world);
    }
    assert_eq!(acted, [0, 3, 6, 9]);
}

#[test]
fn down_removes_one_at_a_time_to_the_minimum() {
    let mut world = web(4);
    let mut acted = Vec::new();
    for index in 0..12 {
        tell_all(&mut world, IDLE);
        let plan = tick(&mut world);
        assert!(retired(&plan) <= 1);
        if retired(&plan) > 0 {
            acted.push(index);
        }
    }
    assert_eq!(acted, [0, 3]);
    tell_all(&mut world, IDLE);
    let plan = tick(&mut world);
    insta::assert_snapshot!(formula(&plan), @"down: min(node_memory_MemFree_bytes + node_memory_Cached_bytes) = 6e9 >= 3.102e9 and max(node_load1) = 0.1 <= 0.5 and max(node_load5) = 0.1 <= 0.5 and max(node_load15) = 0.1 <= 0.5, -1 = 1, min = 2");
    assert_eq!(names(&mut world).len(), 2);
}

/// do-scaler: each policy listed and read anew, so that the idle machine that one had just made let the next remove one.
#[test]
fn a_new_idle_machine_does_not_set_off_the_opposite_step() {
    let mut world = web(2);
    tell_all(&mut world, FULL);
    assert_eq!(created(&tick(&mut world)).len(), 1);
    let mut acted = 0;
    // 600 s of hysteresis are five ticks: from the first to the sixth.
    for _ in 1..5 {
        tell_all(&mut world, IDLE);
        come_up(&mut world);
        let plan = tick(&mut world);
        assert_eq!((retired(&plan), plan.pools[0].target), (0, 3));
        acted += usize::from(codes(&plan).contains("step_cools"));
    }
    assert!(acted > 0);
    tell_all(&mut world, IDLE);
    assert_eq!(retired(&tick(&mut world)), 1);
}

#[test]
fn of_two_that_hold_at_once_the_one_that_adds_acts() {
    let mut world = web(3);
    policy(&mut world).steps[2].conditions.remove(0);
    tell_all(&mut world, (1.9e9, 0.1));
    let plan = tick(&mut world);
    assert_eq!((created(&plan).len(), retired(&plan)), (1, 0));
    assert_eq!(
        held(&plan),
        ["step down holds, and step mem_avail goes before it"]
    );
}

/// do-scaler: any exception ended the process.
#[test]
fn a_machine_that_does_not_answer_lets_the_pool_grow_and_not_shrink() {
    let mut world = web(3);
    tell_all(&mut world, FULL);
    silence(&mut world, "m1");
    let plan = world.plan();
    assert_eq!(created(&plan).len(), 1);
    insta::assert_snapshot!(formula(&plan), @"mem_avail: mean(node_memory_MemFree_bytes + node_memory_Cached_bytes) = 1.9e9 (2 of 3 machines) <= 2.068e9, +1 = 4");

    tell_all(&mut world, IDLE);
    silence(&mut world, "m1");
    let plan = world.plan();
    assert_eq!((retired(&plan), plan.pools[0].target), (0, 3));
    insta::assert_snapshot!(held(&plan).join("\n"), @"step down: no answer (timed out) from test-linux-m1");
    assert!(plan.held[0].warning);

    for name in ["m0", "m2"] {
        silence(&mut world, name);
    }
    let plan = world.plan();
    assert_eq!(
        verbs(&plan),
        [""; 0],
        "one that cannot be read is not broken for that"
    );
    assert_eq!(plan.held.len(), 3, "{:?}", held(&plan));

    world.ci().metrics.clear();
    let plan = world.plan();
    assert!(held(&plan)[0].contains("nothing was measured on test-linux-m0, test-linux-m1, test-linux-m2"));
}

/// do-scaler: without a machine, an exception; its minimum only kept it from removing.
#[test]
fn without_any_machine_the_minimum_is_made() {
    let mut world = web(0);
    let plan = tick(&mut world);
    assert_eq!(created(&plan), [&Reason::MinSize { min: 2 }; 2]);
    assert_eq!(
        held(&plan),
        [0, 1, 2].map(|at| {
            let step = ["mem_avail", "loadavg", "down"][at];
            format!("step {step}: no machine is ready")
        })
    );
    assert!(plan.held.iter().all(|held| !held.warning));
    come_up(&mut world);
    assert_eq!(verbs(&tick(&mut world)), [""; 0]);
}

/// do-scaler: the machine stayed, and counted.
#[test]
fn a_machine_whose_health_check_fails_is_replaced_and_not_added_to() {
    let mut world = web(2);
    tell_all(&mut world, FULL);
    assert_eq!(created(&tick(&mut world)).len(), 1);
    world.pool().ready_timeout = secs(300);
    let mut removed = Vec::new();
    for _ in 0..4 {
        for name in ["m0", "m1"] {
            tell(&mut world, name, FULL);
        }
        let plan = tick(&mut world);
        assert_eq!(plan.pools[0].target, 3, "{}", formula(&plan));
        assert!(names(&mut world).len() <= 4);
        for action in &plan.actions {
            match &action.reason {
                Reason::SizeKept { size: 3 } => {}
                Reason::NeverReady { .. } => removed.push(action.address.name.clone()),
                other => panic!("{other}"),
            }
        }
    }
    assert!(
        !removed.is_empty() && removed.iter().all(|name| !name.starts_with('m')),
        "{removed:?}"
    );
}

#[test]
fn division_by_zero_and_a_missing_sample_hold_the_step_and_no_other() {
    let mut world = web(3);
    let step = &mut policy(&mut world).steps[1];
    let Subject::Machines { samples, reducer, .. } = &mut step.conditions[0].subject else {
        panic!("samples")
    };
    samples.push(samples[0].clone());
    samples[1].name = "node_cpus".into();
    *reducer = crate::stack::step::Reducer::Divide;
    tell_all(&mut world, LOADED);
    let plan = world.plan();
    assert_eq!((created(&plan).len(), plan.pools[0].target), (0, 3));
    insta::assert_snapshot!(held(&plan).join("\n"), @"step loadavg: node_cpus is missing on test-linux-m0, test-linux-m1, test-linux-m2");

    for (name, cpus) in [("m0", 0.0), ("m1", 0.0), ("m2", 0.0)] {
        let Some(MachineMetrics::Read(told)) =
            metrics(&mut world).machines.get_mut(&RegistrationId::from(name))
        else {
            panic!("read")
        };
        told.insert("node_cpus".into(), Finite::new(cpus).unwrap());
    }
    let plan = world.plan();
    insta::assert_snapshot!(held(&plan).join("\n"), @"step loadavg: division by node_cpus = 0 on test-linux-m0, test-linux-m1, test-linux-m2");
    for name in ["m0", "m1", "m2"] {
        tell(&mut world, name, FULL);
    }
    assert_eq!(created(&world.plan()).len(), 1, "mem_avail is not held by it");
}

/// do-scaler: the next machine was named by their number, which after a removal one had already.
#[test]
fn a_new_machine_never_has_the_name_of_one_that_is_there() {
    let mut world = web(4);
    for _ in 0..4 {
        tell_all(&mut world, IDLE);
        tick(&mut world);
        pass(&mut world, 600);
        tell_all(&mut world, FULL);
        let there = names(&mut world);
        let plan = tick(&mut world);
        let new: Vec<&str> = plan
            .actions
            .iter()
            .map(|action| action.address.name.as_str())
            .collect();
        assert_eq!(new.len(), 1, "{:?}", verbs(&plan));
        assert!(!there.iter().any(|name| name == new[0]));
        come_up(&mut world);
        pass(&mut world, 600);
    }
}

#[test]
fn a_size_that_was_forgotten_is_what_serves() {
    let mut world = web(5);
    tell_all(&mut world, FULL);
    tick(&mut world);
    assert_eq!(world.snapshot.history.steps["linux"].size, Some(6));
    world.snapshot.history.steps.clear();
    let plan = world.plan();
    assert_eq!(plan.pools[0].target, 6, "the one that boots serves too");
    assert!(codes(&plan).contains("step_warms_up"));
    world.snapshot.history = crate::model::state::History::default();
    world.pool().min = 7;
    assert_eq!(world.plan().pools[0].target, 7);
}

#[test]
fn a_size_that_cannot_be_had_is_not_added_to_and_can_be_taken_back() {
    let mut world = web(3);
    world.cloud().offerings.clear();
    tell_all(&mut world, FULL);
    for _ in 0..4 {
        assert_eq!(tick(&mut world).pools[0].target, 4);
    }
    tell_all(&mut world, IDLE);
    let mut targets = Vec::new();
    for _ in 0..6 {
        let plan = tick(&mut world);
        targets.push(plan.pools[0].target);
    }
    assert_eq!(targets[..2], [4, 3], "after the hysteresis of 600 s");
    assert_eq!(names(&mut world).len(), 2);
}

#[test]
fn nothing_more_is_removed_while_the_last_one_has_paid_time_left() {
    let mut world = web(5);
    world.cloud().profile.billing = crate::model::money::Billing::StartedHour;
    let mut sizes = Vec::new();
    for _ in 0..28 {
        tell_all(&mut world, IDLE);
        let plan = tick(&mut world);
        sizes.push((plan.pools[0].target, names(&mut world).len()));
    }
    assert!(
        sizes
            .iter()
            .all(|(target, there)| there - usize::try_from(*target).unwrap() <= 1),
        "{sizes:?}"
    );
    assert!(sizes.contains(&(4, 5)) && sizes.contains(&(4, 4)), "{sizes:?}");
}

#[test]
fn an_idle_timeout_delays_a_removal_and_does_not_stop_it() {
    let mut world = web(3);
    world.pool().idle_timeout = secs(600);
    let mut left = Vec::new();
    for index in 0..8 {
        tell_all(&mut world, IDLE);
        if retired(&tick(&mut world)) > 0 {
            left.push(index);
        }
    }
    assert_eq!(left, [5], "idle since the first tick, gone after 600 s");
}

#[test]
fn conditions_must_have_held_without_a_break() {
    let mut world = web(2);
    policy(&mut world).steps[0].hold = secs(300);
    let mut grown = Vec::new();
    for index in 0..8 {
        tell_all(&mut world, if index == 2 { CALM } else { FULL });
        let plan = tick(&mut world);
        if !created(&plan).is_empty() {
            grown.push(index);
        } else if index == 1 {
            assert_eq!(held(&plan), ["step mem_avail holds since 08:00:00Z, for = 5m"]);
        }
        come_up(&mut world);
    }
    assert_eq!(
        grown,
        [6],
        "since the fourth tick, at 360 s: 300 s later is the seventh"
    );
}

#[test]
fn a_clock_that_went_back_begins_anew() {
    let mut world = web(2);
    world.set_time(100_000);
    tell_all(&mut world, FULL);
    assert_eq!(created(&tick(&mut world)).len(), 1);
    come_up(&mut world);
    world.set_time(50_000);
    let mut grown = Vec::new();
    for index in 0..4 {
        tell_all(&mut world, FULL);
        if !created(&tick(&mut world)).is_empty() {
            grown.push(index);
        }
    }
    assert_eq!(grown, [3]);
}

#[test]
fn a_question_without_a_number_holds_its_step() {
    let mut world = web(3);
    let query = "avg(node_load1)".to_owned();
    let step = &mut policy(&mut world).steps[1];
    step.conditions.truncate(1);
    step.conditions[0].subject = Subject::Query(query.clone());
    tell_all(&mut world, IDLE);
    let missing = Measured::Missing {
        why: "no series".to_owned(),
    };
    metrics(&mut world).queries.insert(query.clone(), missing);
    let plan = world.plan();
    assert_eq!(retired(&plan), 0, "it is not known whether the pool should grow");
    assert_eq!(
        held(&plan),
        [
            "step loadavg: avg(node_load1): no series",
            "step down holds, and step loadavg goes before it",
        ]
    );
    let value = Measured::Value(Finite::new(2.0).unwrap());
    metrics(&mut world).queries.insert(query, value);
    let plan = world.plan();
    assert_eq!(formula(&plan), "loadavg: avg(node_load1) = 2 >= 2, +1 = 4");
}

#[test]
fn a_partial_answer_of_cloud_or_source_removes_nothing() {
    let partial = || Completeness::Partial { why: "502".into() };
    let mut world = web(3);
    tell_all(&mut world, IDLE);
    world.ci().completeness = partial();
    assert_eq!(tick(&mut world).pools[0].target, 3);
    world.ci().completeness = Completeness::Complete;
    world.cloud().listing.completeness = partial();
    assert_eq!(tick(&mut world).pools[0].target, 3);
    assert_eq!(world.snapshot.history.steps["linux"].shrunk_at, None);
    tell_all(&mut world, FULL);
    assert_eq!(tick(&mut world).pools[0].target, 3);
    world.cloud().listing.completeness = Completeness::Complete;
    assert_eq!(tick(&mut world).pools[0].target, 4);
}

#[test]
fn what_is_only_advised_or_not_targeted_is_not_remembered() {
    let mut world = web(3);
    world.pool().mode = Mode::Advise;
    for _ in 0..3 {
        tell_all(&mut world, FULL);
        let plan = tick(&mut world);
        assert_eq!((plan.pools[0].target, verbs(&plan).len()), (4, 0));
    }
    world.pool().mode = Mode::Act;
    world.selection.targets = vec![Selector::Pool("other".into())];
    assert_eq!(tick(&mut world).pools[0].target, 3);
    world.selection.targets = vec![Selector::Pool("linux".into())];
    assert_eq!(tick(&mut world).pools[0].target, 4);
    let plan = world.destroy();
    scaling::remember(&mut world.snapshot.history, &plan);
    assert_eq!(world.snapshot.history.steps["linux"].size, None);
}

/// What a tick of the property does: seconds since the last, what machines tell, whether those that boot come up.
type Weather = (i64, Vec<Option<(f64, f64)>>, bool);

fn weather() -> impl Strategy<Value = Vec<Weather>> {
    let told = prop_oneof![
        3 => prop::sample::select(vec![CALM, FULL, LOADED, IDLE]).prop_map(Some),
        1 => (0.0..7e9, 0.0..4.0).prop_map(Some),
        1 => Just(None),
    ];
    let uniform = prop::sample::select(vec![IDLE, IDLE, FULL, LOADED]).prop_map(|told| vec![Some(told)]);
    let each = prop_oneof![uniform, prop::collection::vec(told, 1..6)];
    prop::collection::vec((1_i64..900, each, prop::bool::weighted(0.7)), 1..40)
}

proptest! {
    // Each case is many ticks.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn steps_never_fight_and_never_shrink_blindly(weather in weather(), first in 0..6_u32, by_hour: bool) {
        let mut world = web(first);
        if by_hour {
            world.cloud().profile.billing = crate::model::money::Billing::StartedHour;
        }
        let (mut before, mut grown, mut shrunk) = (None, None, None);
        for (seconds, told, up) in weather {
            pass(&mut world, seconds);
            if up {
                come_up(&mut world);
            }
            metrics(&mut world).machines.clear();
            let mut unread = false;
            for (name, what) in names(&mut world).iter().zip(told.iter().cycle()) {
                let ready = world.runner(name).last_contact.is_some();
                match what {
                    Some(what) => tell(&mut world, name, *what),
                    None => unread |= ready,
                }
            }
            let plan = world.plan();
            prop_assert_eq!(&world.decide(Goal::Converge), &plan);
            let (now, target) = (world.ci().now, plan.pools[0].target);
            prop_assert!((2..=8).contains(&target));
            let since = |at: Option<jiff::Timestamp>| at.map_or(secs(100_000), |at| now.duration_since(at));
            match before {
                Some(before) if target > before => {
                    prop_assert!(since(grown) >= secs(300) && since(shrunk) >= secs(600));
                    grown = Some(now);
                }
                Some(before) if target < before => {
                    prop_assert!(since(shrunk) >= secs(300) && since(grown) >= secs(600));
                    prop_assert!(!unread, "{}", formula(&plan));
                    shrunk = Some(now);
                }
                // The first tick of all may act too.
                None if codes(&plan).contains("step_adds") => grown = Some(now),
                None if target < first.clamp(2, 8) => shrunk = Some(now),
                _ => {}
            }
            let surplus = u32::try_from(names(&mut world).len()).unwrap().saturating_sub(target);
            prop_assert!(u32::try_from(removed(&plan)).unwrap() <= surplus, "{:?}", verbs(&plan));
            before = Some(target);
            world.apply(&plan);
        }
    }
}

#[test]
fn any_is_enough_where_a_step_says_so() {
    let mut world = web(2);
    let step = &mut policy(&mut world).steps[1];
    step.matching = Matching::Any;
    step.conditions[0].operator = Operator::Less;
    tell_all(&mut world, CALM);
    let plan = world.plan();
    insta::assert_snapshot!(formula(&plan), @"loadavg: mean(node_load1) = 1 < 2 or mean(node_load5) = 1, not >= 2 or mean(node_load15) = 1, not >= 2, +1 = 3");
}

#[test]
fn a_pool_that_is_renamed_keeps_its_size() {
    let mut world = web(5);
    tick(&mut world);
    world.pool().name = "web".into();
    world.stack.moved = vec![Moved {
        from: StackPath::Pool("linux".into()),
        to: StackPath::Pool("web".into()),
    }];
    moved::apply(&mut world.snapshot, &world.stack, Goal::Converge);
    assert_eq!(world.snapshot.history.steps["web"].size, Some(5));
    assert!(!world.snapshot.history.steps.contains_key("linux"));
}
