//! Tests of what is remembered.

use super::*;
use crate::{
    model::{
        demand::Cursor,
        intent::Intent,
        resource::{CloudStatus, Completeness},
        state::Refusal,
    },
    plan::testing::{World, at, key, secs, verbs},
};

fn memory(world: &World, address: &Address) -> crate::model::state::MachineMemory {
    world
        .snapshot
        .history
        .machines
        .get(address)
        .cloned()
        .unwrap_or_default()
}

#[test]
fn the_idle_clock_begins_when_the_last_job_ended_and_ends_with_the_next() {
    let mut world = World::new();
    let address = world.machine("m1", -1000, true);
    world.learn();
    assert_eq!(memory(&world, &address).idle_since, Some(at(0)));
    world.set_time(100);
    world.learn();
    assert_eq!(memory(&world, &address).idle_since, Some(at(0)));
    world.finished("m1", 20, 60);
    world.learn();
    assert_eq!(memory(&world, &address).idle_since, Some(at(60)));
    world.ci().completeness = Completeness::partial("502");
    world.learn();
    assert_eq!(memory(&world, &address).idle_since, Some(at(60)));
    world.ci().completeness = Completeness::Complete;
    world.run("m1");
    world.learn();
    assert_eq!(memory(&world, &address).idle_since, None);
}

#[test]
fn a_machine_that_never_called_has_no_idle_clock() {
    let mut world = World::new();
    let address = world.machine("m1", -100, false);
    world.record(&address).hash = "h1".into();
    world.learn();
    let expected = crate::model::state::MachineMemory {
        charged_until: Some(at(3500)),
        ..Default::default()
    };
    assert_eq!(memory(&world, &address), expected);
    world.runner("m1").last_contact = Some(at(20));
    world.set_time(30);
    world.learn();
    let memory = memory(&world, &address);
    assert_eq!((memory.ready_at, memory.idle_since), (Some(at(20)), Some(at(30))));
    let boots = &world.snapshot.history.boot_seconds;
    assert_eq!(boots.get("hetzner/nbg1 cx33 h1"), Some(&vec![120]));
    world.learn();
    assert_eq!(world.snapshot.history.boot_seconds.values().flatten().count(), 1);
}

#[test]
fn a_machine_is_missing_from_its_first_absence_until_it_is_seen() {
    let mut world = World::new();
    let address = world.machine("m1", -100, true);
    let listed = world.cloud().listing.resources.clone();
    world.lose(&address);
    world.learn();
    world.set_time(10);
    world.learn();
    assert_eq!(memory(&world, &address).missing_since, Some(at(0)));
    world.cloud().listing.completeness = Completeness::partial("502");
    world.learn();
    assert_eq!(memory(&world, &address).missing_since, Some(at(0)));
    world.cloud().listing.resources = listed;
    world.learn();
    assert_eq!(memory(&world, &address).missing_since, None);
}

#[test]
fn a_failed_machine_is_counted_once_and_a_ready_one_ends_the_row() {
    let mut world = World::new();
    world.machine("m1", -601, false);
    world.learn();
    world.learn();
    let failures = &world.snapshot.history.failures;
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].what, "not ready after 10m");
    world.machine("m2", -100, true);
    world.learn();
    assert!(world.snapshot.history.failures.is_empty());
}

#[test]
fn a_machine_that_served_and_broke_is_no_failure_to_become_ready() {
    let mut world = World::new();
    world.machine("m1", -601, true);
    world.seen("m1").status = CloudStatus::Off;
    world.learn();
    assert!(world.snapshot.history.failures.is_empty());
}

#[test]
fn machines_that_are_gone_are_forgotten() {
    let mut world = World::new();
    let address = world.machine("m1", -100, true);
    world.learn();
    world.snapshot.state.resources.clear();
    world.learn();
    assert!(!world.snapshot.history.machines.contains_key(&address));
}

#[test]
fn each_job_is_counted_once_and_the_cursor_moves_on_whole_answers() {
    let mut world = World::new();
    world.finished("m1", 0, 40);
    world.finished("m1", 0, 50);
    world.ci().cursor = Cursor("c1".into());
    world.learn();
    world.learn();
    let history = &world.snapshot.history;
    assert_eq!(history.job_seconds.get("build"), Some(&vec![40, 50]));
    assert_eq!(history.counted_jobs.len(), 2);
    world.ci().cursor = Cursor("c2".into());
    world.ci().completeness = Completeness::partial("502");
    world.learn();
    let cursor = |world: &World| world.snapshot.history.cursors.get("gitlab").cloned();
    assert_eq!(cursor(&world), Some(Cursor("c1".into())));
    world.ci().completeness = Completeness::Complete;
    world.learn();
    assert_eq!(cursor(&world), Some(Cursor("c2".into())));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut world = World::new();
    for index in 0..60 {
        world.finished("m1", 0, index);
    }
    world.set_time(0);
    let refusal = |seconds| Refusal {
        offering: key("nbg1", "cx33"),
        at: at(seconds),
        quota: true,
    };
    let failure = |seconds| Failure {
        pool: "linux".into(),
        offering: key("nbg1", "cx33"),
        hash: "h".into(),
        at: at(seconds),
        what: "a".into(),
    };
    let memory = BREAKER_MEMORY.as_secs();
    world.snapshot.history.refusals = (0..150).map(|_| refusal(-1)).collect();
    world.snapshot.history.failures = (0..150).map(|_| failure(-1)).collect();
    world.learn();
    let history = &world.snapshot.history;
    assert_eq!(
        (history.refusals.len(), history.failures.len()),
        (History::EVENTS, History::EVENTS)
    );
    let lengths: Vec<i64> = (10..60).collect();
    assert_eq!(history.job_seconds.get("build"), Some(&lengths));
    world.snapshot.history.refusals = vec![refusal(-memory - 1), refusal(-memory)];
    world.snapshot.history.failures = vec![failure(-memory - 1), failure(-memory)];
    world.learn();
    let history = &world.snapshot.history;
    assert_eq!(history.refusals, [refusal(-memory)]);
    assert_eq!(history.failures, [failure(-memory)]);
}

#[test]
fn a_machine_that_came_up_clears_its_offering_and_its_template_and_no_other() {
    let mut world = World::new();
    let failure = |location, hash: &str| Failure {
        pool: "linux".into(),
        offering: key(location, "cx33"),
        hash: hash.into(),
        at: at(-1),
        what: "a".into(),
    };
    let other = failure("fsn1", "h2");
    world.snapshot.history.failures = vec![failure("nbg1", "h2"), failure("fsn1", "h1"), other.clone()];
    let address = world.machine("m1", -100, true);
    world.record(&address).hash = "h1".into();
    world.learn();
    assert_eq!(world.snapshot.history.failures, [other]);
}

#[test]
fn boot_times_are_kept_of_a_bounded_number_of_offerings() {
    let learnt = |known: &[String]| {
        let mut world = World::new();
        let boots = known.iter().map(|key| (key.clone(), vec![1]));
        world.snapshot.history.boot_seconds = boots.collect();
        let address = world.machine("m1", -100, true);
        world.record(&address).hash = "h1".into();
        world.learn();
        world.snapshot.history.boot_seconds
    };
    let mut known: Vec<String> = (0..History::EVENTS).map(|at| format!("a{at:03}")).collect();
    let boots = learnt(&known);
    assert_eq!(boots.len(), History::EVENTS);
    assert!(!boots.contains_key("a000") && boots.contains_key("a001"));
    known[50] = "hetzner/nbg1 cx33 h1".into();
    let boots = learnt(&known);
    assert_eq!((boots.len(), boots[&known[50]].len()), (History::EVENTS, 2));
    assert!(boots.contains_key("a000"));
    assert_eq!(learnt(&known[..9]).len(), 10);
}

#[test]
fn what_is_condemned_and_unread_is_bounded() {
    let mut world = World::new();
    world.cloud().listing.completeness = Completeness::partial("502");
    let keys = (0..=10_000).map(|id| (format!("hetzner server {id}"), at(-9)));
    world.snapshot.history.condemned = keys.collect();
    world.learn();
    assert_eq!(world.snapshot.history.condemned.len(), 10_000);
}

#[test]
fn the_names_of_jobs_are_bounded_and_those_still_seen_stay() {
    let mut world = World::new();
    for index in 0..1000 {
        world
            .snapshot
            .history
            .job_seconds
            .insert(format!("a{index}"), vec![1]);
    }
    world.finished("m1", 0, 5);
    world.learn();
    let lengths = &world.snapshot.history.job_seconds;
    assert_eq!(lengths.len(), 1000);
    assert!(lengths.contains_key("build"));
}

#[test]
fn launches_start_at_one_double_with_success_and_are_free_again_at_the_cap() {
    let mut world = World::new();
    let offering = key("nbg1", "cx33");
    world.snapshot.history.refusals = vec![Refusal {
        offering: offering.clone(),
        at: at(0),
        quota: false,
    }];
    let budget = |world: &World| world.snapshot.history.launch_budgets.get(&offering).copied();
    world.learn();
    assert_eq!(budget(&world), Some(1));
    world.machine("early", 1, true);
    world.learn();
    assert_eq!(budget(&world), Some(1), "the refusal is still remembered");
    world.set_time(300);
    for index in 0..5 {
        world.machine(&format!("m{index}"), 300, true);
        world.machine(&format!("n{index}"), 300, true);
        world.learn();
        assert_eq!(budget(&world), Some(2 << index));
        world.learn();
        assert_eq!(budget(&world), Some(2 << index), "no success, no change");
    }
    world.machine("last", 300, true);
    world.learn();
    assert_eq!(budget(&world), None);
    assert!(world.snapshot.history.refusals.is_empty());
}

#[test]
fn a_launch_budget_ends_with_the_memory_of_its_refusal() {
    let mut world = World::new();
    let refused = |location, seconds| Refusal {
        offering: key(location, "cx33"),
        at: at(seconds),
        quota: false,
    };
    let old = -BREAKER_MEMORY.as_secs() - 1;
    world.snapshot.history.refusals = vec![refused("nbg1", old), refused("fsn1", -600)];
    world.snapshot.history.launch_budgets = [(key("nbg1", "cx33"), 4), (key("fsn1", "cx33"), 8)].into();
    world.learn();
    let history = &world.snapshot.history;
    assert_eq!(history.refusals, [refused("fsn1", -600)]);
    assert_eq!(history.launch_budgets, [(key("fsn1", "cx33"), 8)].into());
}

#[test]
fn an_open_attempt_is_not_condemned_nor_is_its_registration() {
    let mut world = World::new();
    world.open_create("calm-crow", -5);
    world.made("calm-crow", "calm-crow");
    world.register("linux", "calm-crow", false);
    world.register("linux", "bold-owl", false);
    let target = world.orphan("keen-fox");
    let address = Address::machine(&"linux".into(), &"keen-fox".into());
    world.learn();
    let keys: Vec<&String> = world.snapshot.history.condemned.keys().collect();
    assert_eq!(keys, ["gitlab registration bold-owl", &target.to_string()]);
    let registration = None;
    world.open(&address, Intent::Delete { target, registration });
    world.set_time(50);
    world.learn();
    let condemned = &world.snapshot.history.condemned;
    assert_eq!(condemned.len(), 1);
    assert_eq!(condemned.values().next(), Some(&at(0)));
}

#[test]
fn a_registration_that_is_online_is_not_condemned() {
    let mut world = World::new();
    world.register("linux", "bold-owl", true);
    world.register("linux", "keen-fox", false);
    world.runner("keen-fox").last_contact = Some(at(-9));
    world.learn();
    assert_eq!(world.snapshot.history.condemned.len(), 1);
    assert_eq!(world.stack.interval, secs(180));
}

fn ticks(world: &World) -> Option<Vec<i64>> {
    let ticks = world.snapshot.history.ticks.get("hetzner")?;
    let since = |tick: &jiff::Timestamp| tick.duration_since(at(0)).as_secs();
    Some(ticks.iter().map(since).collect())
}

#[test]
fn the_last_four_ticks_are_remembered_by_the_clouds_own_clock() {
    let mut world = World::new();
    world.snapshot.now = at(99_999);
    for seconds in [0, 200, 400, 600] {
        world.cloud().listing.now = at(seconds);
        world.learn();
    }
    assert_eq!(ticks(&world), Some(vec![0, 200, 400, 600]));
    world.learn();
    assert_eq!(ticks(&world), Some(vec![0, 200, 400, 600]), "the same reading");
    world.cloud().listing.now = at(900);
    world.learn();
    assert_eq!(ticks(&world), Some(vec![200, 400, 600, 900]));
    world.cloud().listing.now = at(500);
    world.learn();
    assert_eq!(ticks(&world), Some(vec![200, 400, 500]), "the clock went back");
}

#[test]
fn a_partial_listing_is_no_tick_and_a_provider_that_is_gone_is_forgotten() {
    let mut world = World::new();
    world.learn();
    world.set_time(300);
    world.cloud().listing.completeness = Completeness::partial("502");
    world.learn();
    assert_eq!(ticks(&world), Some(vec![0]));
    world.snapshot.clouds.clear();
    world.learn();
    assert_eq!(ticks(&world), None);
}

#[test]
fn a_machine_is_not_missed_because_ticks_come_more_slowly_than_configured() {
    let mut world = World::new();
    world.machine("m1", -2400, true);
    assert_eq!(verbs(&world.plan()), Vec::<String>::new());
    world.set_time(579);
    assert_eq!(verbs(&world.plan()), Vec::<String>::new(), "621 s are left");
    world.snapshot.history.ticks.clear();
    world.set_time(0);
    world.plan();
    world.set_time(600);
    assert_eq!(
        verbs(&world.plan()),
        ["retire machine.linux/m1"],
        "600 s are left"
    );
}

#[test]
fn jobs_that_a_machine_has_ended_are_counted_once_each() {
    let mut world = World::new();
    let address = world.machine("m1", -1000, true);
    world.finished("m1", -900, -800);
    world.finished("m1", -700, -600);
    world.finished("theirs", -700, -600);
    world.learn();
    world.learn();
    assert_eq!(memory(&world, &address).jobs, 2);
    world.finished("m1", -500, -400);
    world.learn();
    assert_eq!(memory(&world, &address).jobs, 3);
}

#[test]
fn what_did_not_become_ready_is_remembered_until_a_machine_made_from_the_same_does() {
    let mut world = World::new();
    let address = world.machine("m1", -601, false);
    let hash = world.record(&address).hash.clone();
    world.learn();
    assert_eq!(world.snapshot.history.never_ready[&hash].machine, address);
    world.machine("m2", -100, true);
    world.learn();
    assert!(world.snapshot.history.never_ready.is_empty());
}
