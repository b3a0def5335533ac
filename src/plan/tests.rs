//! A scenario for every reason, and what holds of every plan.

mod batch_tests;
mod ceiling_tests;
mod clouds_tests;
mod group_tests;
mod hook_tests;
mod metrics_tests;
mod roll_tests;
mod step_tests;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    DriftFate, Goal, Plan, Verb, accept, adopt,
    facts::Facts,
    testing::{World, at, choice, key, offering, pool, price, reasons, rule, secs, subnet, verbs},
};
use crate::model::{
    demand::{Counts, PassedOver, Wanted},
    ids::{Address, RegistrationId},
    intent::Intent,
    reason::Reason,
    resource::{CloudStatus, Completeness, CordonKind, Ec2Launch, ResourceSpec},
    state::{Failure, History, Phase, Refusal},
};
use crate::stack::{
    Mode, Policy, Spread,
    hooks::{Hook, HookCall, Moment, OnFailure},
};

/// What only carrying out a plan can find.
const BY_APPLY: [&str; 5] = [
    "busy_after_cordon",
    "cordon_failed",
    "hook_failed",
    "in_progress",
    "user_data_too_large",
];

fn codes(plan: &Plan) -> BTreeSet<&'static str> {
    reasons(plan).iter().map(Reason::code).collect()
}

fn grow(edit: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    world.queue(5);
    edit(&mut world);
    world
}

fn idle(created: i64, edit: impl FnOnce(&mut World, Address)) -> World {
    let mut world = World::new();
    let address = world.machine("brave-otter", created, true);
    edit(&mut world, address);
    world
}

/// A command that is run at these moments.
fn hook(on: &[Moment]) -> Hook {
    Hook {
        on: on.to_vec(),
        call: HookCall::Command(vec!["./hook.sh".to_owned()]),
        timeout: secs(30),
        retries: 0,
        on_failure: OnFailure::Stop,
    }
}

/// Two members in service, no job.
fn batched(change: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    world.tasks();
    world.queue(2);
    let plan = world.plan();
    world.apply(&plan);
    change(&mut world);
    world
}

fn grouped(edit: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    world.group(2, 0, 10);
    edit(&mut world);
    world
}

fn failure(at_seconds: i64) -> Failure {
    Failure {
        pool: "linux".into(),
        offering: key("nbg1", "cx33"),
        hash: "h9".into(),
        at: at(at_seconds),
        what: "not ready after 10m".into(),
    }
}

/// Scenarios by the code that each must produce.
#[expect(clippy::too_many_lines, reason = "a table")]
fn scenarios() -> Vec<(&'static str, World)> {
    let mut all = vec![
        ("demand", grow(|_| {})),
        (
            "became_ready",
            idle(-60, |w, _| {
                w.pool().hooks = vec![hook(&[Moment::AfterReady])];
            }),
        ),
        (
            "tasks_run",
            batched(|w| {
                w.come_up();
            }),
        ),
        (
            "tasks_ended",
            batched(|w| {
                w.set_time(200);
                w.ci().wanted = Wanted::Jobs(Vec::new());
                for container in w.containers() {
                    container.status = CloudStatus::Ended(Some(0));
                }
            }),
        ),
        (
            "tasks_wait",
            batched(|w| {
                for container in w.containers() {
                    "Unschedulable: no node has room".clone_into(&mut container.lifecycle);
                }
            }),
        ),
        (
            "protection",
            grouped(|w| {
                w.run("i-1");
            }),
        ),
        (
            "group_missing",
            grouped(|w| {
                w.queue(1);
                w.cloud().listing.resources.clear();
            }),
        ),
        (
            "group_governed",
            grouped(|w| {
                w.queue(9);
                w.seen("agents").group.as_mut().unwrap().governed = Some("scaling policy cpu".into());
            }),
        ),
        (
            "group_waits",
            grouped(|w| {
                w.queue(9);
                w.seen("agents").group.as_mut().unwrap().waits = Some("cooling down".into());
            }),
        ),
        (
            "group_leaves",
            grouped(|w| {
                w.queue(9);
                let group = w.seen("agents");
                group.members[0].lifecycle = super::members::DETACHED.into();
                group.size = Some(1);
            }),
        ),
        (
            "group_minimum",
            grouped(|w| {
                w.seen("agents").group.as_mut().unwrap().min = 2;
                w.seen("agents").members[0].status = CloudStatus::Failed("unhealthy".into());
            }),
        ),
        (
            "too_young",
            grouped(|w| {
                w.pool().policy = Policy::DroneAutoscaler { min_age: secs(7200) };
                w.pool().idle_timeout = secs(0);
            }),
        ),
        (
            "leaves_by_itself",
            idle(-900, |w, _| {
                w.ci().control.cordon = CordonKind::Leaves;
                w.by_second();
                w.pool().idle_timeout = secs(0);
            }),
        ),
        (
            "stuck_job",
            idle(-900, |w, _| {
                w.run("brave-otter").stuck = true;
                let id = format!("gitlab job j{}", 102);
                w.snapshot.history.condemned.insert(id, at(-60));
            }),
        ),
        (
            "interrupted",
            idle(-900, |w, _| {
                w.seen("brave-otter").status = CloudStatus::Terminated("spot interruption".into());
            }),
        ),
        (
            "above_price_cap",
            grow(|w| {
                let launch = Ec2Launch {
                    max_price: Some("0.001 EUR".parse().unwrap()),
                    ..Ec2Launch::default()
                };
                w.pool().offerings[0].ec2 = Some(Box::new(launch));
            }),
        ),
        (
            "passed_over",
            grow(|w| {
                w.ci().passed_over.insert(PassedOver::HeldBack, 3);
            }),
        ),
        ("min_size", grow(|w| w.pool().min = 4)),
        (
            "idle_buffer",
            grow(|w| w.pool().policy = Policy::Queue { idle: 1 }),
        ),
        ("needed", grow(|_| {}).with_shared()),
        (
            "moved",
            idle(-900, |w, old| {
                w.queue(1);
                let new = "machine.linux/calm-crow".parse().unwrap();
                super::moved::readdress(&mut w.snapshot.state.resources, &old, &new);
            }),
        ),
        (
            "released",
            grow(|w| {
                let target = w.orphan("calm-crow");
                w.snapshot.state.released.insert(target);
            }),
        ),
        ("max_reached", grow(|w| w.pool().max = 2)),
        (
            "licence_ceiling",
            grow(|w| {
                for ci in w.stack.ci.values_mut() {
                    ci.max = Some(2);
                }
            }),
        ),
        (
            "budget_reached",
            grow(|w| w.stack.budget.hourly = Some("0.025 EUR".parse().unwrap())),
        ),
        (
            "budget_blind",
            grow(|w| {
                w.stack.budget.daily = Some("9 EUR".parse().unwrap());
                let address = w.machine("brave-otter", -600, true);
                w.record(&address).price = Some(price("0.010 USD"));
                w.run("brave-otter");
            }),
        ),
        (
            "no_rate",
            grow(|w| {
                *w = w
                    .clone()
                    .with_cloud("ec2", vec![offering("a", "c6i.large", "0.010 USD")]);
            }),
        ),
        (
            "cloud_passed_over",
            grow(|w| {
                *w = w
                    .clone()
                    .with_cloud("ec2", vec![offering("a", "c6i.large", "0.010 EUR")]);
                w.cloud_of("ec2").listing.completeness = Completeness::partial("throttled");
            }),
        ),
        ("burst_reached", grow(|w| w.pool().burst = Some(1))),
        (
            "no_offering",
            grow(|w| w.pool().offerings = vec![choice("cx99", &["nbg1"])]),
        ),
        (
            "capacity_refused",
            grow(|w| {
                let refused = |location| Refusal {
                    offering: key(location, "cx33"),
                    at: at(-10),
                    quota: false,
                };
                w.snapshot.history.refusals = vec![refused("nbg1"), refused("fsn1")];
            }),
        ),
        (
            "breaker_open",
            grow(|w| {
                w.snapshot.history.failures = vec![failure(-30), failure(-20), failure(-10)];
            }),
        ),
        (
            "foreign_present",
            grow(|w| {
                w.orphan("calm-crow");
                w.seen("calm-crow")
                    .labels
                    .insert("runfleet-lineage".into(), "l2".into());
            }),
        ),
        (
            "disowned",
            grow(|w| {
                w.foreign("calm-crow", "l2");
                w.snapshot.state.disowned.insert("l2".into());
            }),
        ),
        (
            "drifted",
            idle(-1000, |w, _| {
                w.run("brave-otter");
                w.seen("brave-otter").labels.remove("runfleet-lineage");
            }),
        ),
        ("advise", grow(|w| w.pool().mode = Mode::Advise)),
        (
            "partial_demand",
            grow(|w| w.ci().completeness = Completeness::partial("502")),
        ),
        (
            "partial_cloud",
            grow(|w| w.cloud().listing.completeness = Completeness::partial("502")),
        ),
        (
            "unsettled",
            grow(|w| {
                w.open_create("calm-crow", -5);
            }),
        ),
        (
            "never_made",
            grow(|w| {
                w.open_create("calm-crow", -500);
            }),
        ),
        (
            "adopted",
            grow(|w| {
                w.open_create("calm-crow", -5);
                w.made("calm-crow", "calm-crow");
            }),
        ),
        (
            "condemned_once",
            grow(|w| {
                w.orphan("calm-crow");
            }),
        ),
        (
            "orphan",
            grow(|w| {
                let target = w.orphan("calm-crow");
                w.snapshot.history.condemned.insert(target.to_string(), at(-60));
            }),
        ),
        (
            "dead_registration",
            grow(|w| {
                w.register("linux", "calm-crow", false);
                w.snapshot
                    .history
                    .condemned
                    .insert("gitlab registration calm-crow".into(), at(-60));
            }),
        ),
        ("paid_hour_ends", idle(-3500, |_, _| {})),
        ("paid_until", idle(-1000, |_, _| {})),
        ("idle_short", idle(-1000, |w, _| w.by_second())),
        (
            "idle_too_long",
            idle(-1000, |w, a| {
                w.by_second();
                w.snapshot.history.machines.entry(a).or_default().idle_since = Some(at(-300));
            }),
        ),
        ("within_target", idle(-1000, |w, _| w.queue(1))),
        (
            "busy",
            idle(-1000, |w, _| {
                w.run("brave-otter");
            }),
        ),
        ("busy_unknown", idle(-1000, |w, _| w.run_adrift())),
        (
            "slow_start",
            grow(|w| {
                w.pool().offerings = vec![choice("cx33", &["nbg1"])];
                w.snapshot.history.launch_budgets = [(key("nbg1", "cx33"), 1)].into();
                w.snapshot.history.refusals = vec![Refusal {
                    offering: key("nbg1", "cx33"),
                    at: at(-600),
                    quota: false,
                }];
            }),
        ),
        ("above_max", idle(-1000, |w, _| w.pool().max = 0)),
        (
            "not_in_stack",
            idle(-1000, |w, _| w.stack.pools[0].name = "other".into()),
        ),
        (
            "broken",
            idle(-1000, |w, _| w.seen("brave-otter").status = CloudStatus::Off),
        ),
        (
            "ended",
            idle(-1000, |w, _| {
                w.seen("brave-otter").status = CloudStatus::Ended(Some(0));
            }),
        ),
        ("missing_once", idle(-1000, |w, a| w.lose(&a))),
        (
            "gone",
            idle(-1000, |w, a| {
                w.lose(&a);
                w.snapshot.history.machines.entry(a).or_default().missing_since = Some(at(-60));
            }),
        ),
        (
            "wanted_again",
            idle(-1000, |w, a| {
                w.queue(1);
                cordon(w, &a, -100);
            }),
        ),
        (
            "draining",
            idle(-1000, |w, a| {
                w.run("brave-otter");
                w.machine("calm-crow", -900, true);
                w.run("calm-crow");
                cordon(w, &a, -100);
                w.pool().max = 1;
            }),
        ),
        (
            "unfinished",
            idle(-1000, |w, a| {
                let target = w.record(&a).target();
                let registration = Some(("gitlab".into(), "brave-otter".into()));
                w.open(&a, Intent::Delete { target, registration });
            }),
        ),
        ("differs", {
            let mut w = grow(|_| {}).with_shared();
            let plan = w.plan();
            w.apply(&plan);
            w.stack
                .firewalls
                .get_mut("default")
                .unwrap()
                .rules
                .push(rule("80"));
            w
        }),
        ("drifted", {
            let mut w = grow(|_| {}).with_shared();
            let plan = w.plan();
            w.apply(&plan);
            w.seen("default").rules = Some(vec![rule("22"), rule("23")]);
            w
        }),
        ("in_use", {
            let mut w = grow(|_| {}).with_network();
            let plan = w.plan();
            w.apply(&plan);
            w.network().ip_range = "10.0.0.0/8".into();
            w
        }),
        ("subnet_in_use", {
            let mut w = grow(|_| {}).with_network();
            let plan = w.plan();
            w.apply(&plan);
            w.network().subnets = vec![subnet("10.0.2.0/24")];
            w
        }),
        ("unused", {
            let mut w = World::new().with_shared();
            w.pool().min = 1;
            let plan = w.plan();
            w.apply(&plan);
            w.pool().firewalls.clear();
            w.snapshot
                .state
                .resources
                .retain(|address, _| address.kind.is_shared());
            w.cloud()
                .listing
                .resources
                .retain(|seen| seen.target.kind.is_shared());
            w.ci().runners.clear();
            w
        }),
    ];
    all.extend(roll_tests::scenarios());
    all.extend(step_tests::scenarios());
    all.push(("shared_runner", shared_and_slow()));
    let mut booting = World::new();
    booting.queue(1);
    booting.machine("brave-otter", -100, false);
    all.push(("booting", booting.clone()));
    booting.set_time(501);
    all.push(("never_ready", booting));
    all
}

/// An idle machine that is due, shares its runner, and whose CI takes longer to settle than others may be paused.
fn shared_and_slow() -> World {
    let mut world = shared();
    world.ci().control.settle = secs(21);
    world
}

/// An idle machine that is due and shares its runner with others.
fn shared() -> World {
    idle(-3500, |w, a| {
        let registration: RegistrationId = "7.r_brave".into();
        w.record(&a).registration = Some(registration.clone());
        for seen in &mut w.cloud().listing.resources {
            seen.labels
                .insert("runfleet-registration".into(), registration.to_string());
        }
        w.runner("brave-otter").registration = registration;
    })
}

#[test]
fn a_machine_that_shares_its_runner_is_retired_by_a_pause_of_all_and_never_left_cordoned() {
    let mut world = shared();
    let plan = world.plan();
    let [action] = &plan.actions[..] else {
        panic!("{:?}", verbs(&plan))
    };
    let Verb::Retire { control, .. } = &action.verb else {
        panic!("{:?}", verbs(&plan))
    };
    assert_eq!(control.cordon, CordonKind::PauseAll);

    let mut busy = shared();
    busy.run("7.r_brave");
    busy.pool().max = 0;
    let plan = busy.plan();
    assert_eq!(
        verbs(&plan),
        [""; 0],
        "its jobs would wait for the pause's end, and with them all others"
    );
}

fn cordon(world: &mut World, address: &Address, since: i64) {
    let record = world.record(address);
    record.phase = Phase::Cordoned {
        since: at(since),
        why: "test".into(),
    };
    let name = address.name.clone();
    world.runner(&name).paused = true;
}

#[test]
fn every_reason_that_a_plan_can_give_is_given_by_its_scenario() {
    let mut produced: BTreeSet<&str> = BY_APPLY.into();
    for (code, mut world) in scenarios() {
        let plan = world.plan();
        let codes = codes(&plan);
        assert!(
            codes.contains(code),
            "{code} is not among {codes:?}: {:#?}",
            verbs(&plan)
        );
        produced.insert(code);
    }
    let mut world = idle(-1000, |w, _| {
        w.run("brave-otter");
    });
    world.machine("calm-crow", -900, true);
    let plan = world.destroy();
    assert!(codes(&plan).is_superset(&BTreeSet::from(["destroy", "busy_at_destroy"])));
    produced.extend(["destroy", "busy_at_destroy"]);
    let mut world = idle(-1000, |w, _| w.run("brave-otter").id = "j1".into());
    world.foreign("calm-crow", "l2");
    world.seen("brave-otter").name = "renamed-by-hand".into();
    let facts = Facts::of(&world.snapshot, &world.stack);
    let adopted = adopt::actions(&adopt::adopt(&facts, &[]).unwrap().taken);
    let asked = adopted.into_iter().chain(accept::accept(&facts));
    produced.extend(asked.map(|action| action.reason.code()));
    let catalogue: BTreeSet<&str> = Reason::CATALOGUE.iter().map(|(code, _)| *code).collect();
    assert_eq!(produced, catalogue);
}

#[test]
fn every_scenario_comes_to_rest_and_stays_there() {
    for (code, mut world) in scenarios() {
        let mut rounds = 0;
        loop {
            let plan = world.plan();
            if plan.is_noop() {
                break;
            }
            assert!(rounds < 4, "{code}: {:?}", verbs(&plan));
            world.apply(&plan);
            rounds += 1;
        }
        assert!(world.plan().is_noop(), "{code}");
    }
}

#[test]
fn a_fresh_stack_is_given_what_its_jobs_need_and_what_that_depends_on() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    assert_eq!(plan.pools[0].formula, "ceil((5 + 0) / 2) + 0 = 3");
    let kinds: Vec<&str> = plan.actions.iter().map(|a| a.address.kind.as_str()).collect();
    assert_eq!(kinds, ["ssh_key", "firewall", "machine", "machine", "machine"]);
    let Verb::Create { ladder, .. } = &plan.actions[2].verb else {
        panic!("a create")
    };
    assert_eq!(ladder.len(), 2);
    assert_eq!(ladder[0].needs.len(), 2);
    assert!(ladder[0].spec.name().starts_with("test-linux-"));
    assert_eq!(plan.cost.after_hourly, vec!["0.03 EUR".parse().unwrap()]);
    world.apply(&plan);
    let again = world.plan();
    assert!(again.is_noop(), "{:?}", verbs(&again));
    assert!(!again.pools.is_empty() && again.drift.is_empty());
}

#[test]
fn a_busy_machine_that_must_go_is_cordoned_and_a_later_tick_deletes_it() {
    let mut world = idle(-1000, |w, _| {
        w.run("brave-otter");
    });
    world.stack.pools[0].name = "other".into();
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["cordon machine.linux/brave-otter"]);
    world.apply(&plan);
    assert!(world.plan().is_noop());
    world.ci().wanted = Wanted::Jobs(Vec::new());
    assert_eq!(verbs(&world.plan()), ["retire machine.linux/brave-otter"]);
}

#[test]
fn a_long_settle_is_a_later_ticks() {
    let mut world = idle(-3500, |w, _| w.ci().control.settle = secs(61));
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["cordon machine.linux/brave-otter"]);
    world.apply(&plan);
    world.set_time(60);
    assert!(world.plan().is_noop());
    world.set_time(61);
    assert_eq!(verbs(&world.plan()), ["retire machine.linux/brave-otter"]);
}

#[test]
fn the_machine_that_goes_is_the_one_paid_least_ahead() {
    let mut world = World::new();
    world.machine("brave-otter", -3500, true);
    world.machine("calm-crow", -3550, true);
    world.queue(1);
    assert_eq!(verbs(&world.plan()), ["retire machine.linux/calm-crow"]);
}

#[test]
fn a_lost_create_is_adopted_with_the_registration_of_its_label() {
    let mut world = World::new();
    world.queue(1);
    let address = world.open_create("calm-crow", -5);
    world.made("calm-crow", "other");
    let plan = world.plan();
    let Verb::Adopt {
        record,
        losers,
        intents,
    } = &plan.actions[0].verb
    else {
        panic!("an adopt")
    };
    assert_eq!(record.registration, Some("other".into()));
    assert_eq!(*losers, vec![("gitlab".into(), "calm-crow".into())]);
    assert_eq!(intents.len(), 1);
    assert_eq!((plan.actions.len(), &plan.actions[0].address), (1, &address));
}

#[test]
fn of_two_machines_with_one_intent_the_lowest_id_is_kept() {
    let mut world = World::new();
    world.queue(1);
    world.open_create("calm-crow", -5);
    let first = world.made("calm-crow", "calm-crow");
    world.made("calm-crow", "calm-crow");
    world.register("linux", "calm-crow", false);
    let plan = world.plan();
    let Verb::Adopt { record, .. } = &plan.actions[0].verb else {
        panic!("an adopt")
    };
    assert_eq!(record.id, first);
    world.apply(&plan);
    assert!(codes(&world.plan()).contains("condemned_once"));
    world.set_time(60);
    let plan = world.plan();
    let Verb::Delete { target, registration } = &plan.actions[0].verb else {
        panic!("a delete: {:?}", verbs(&plan))
    };
    assert_ne!(target.id, first);
    assert_eq!(*registration, None);
}

#[test]
fn a_running_attempt_counts_as_a_machine() {
    let mut world = grow(|_| {});
    world.open_create("calm-crow", -5);
    assert_eq!(world.plan().summary().create, 2);
    world.pool().max = 2;
    assert_eq!(world.plan().summary().create, 1);
}

#[test]
fn an_interrupted_cordon_is_lifted_when_wanted_and_made_good_when_not() {
    let intent = Intent::Cordon {
        ci: "gitlab".into(),
        registration: "brave-otter".into(),
        why: String::new(),
    };
    let mut world = idle(-1000, |w, a| {
        w.queue(1);
        w.open(&a, intent.clone());
    });
    assert_eq!(verbs(&world.plan()), ["uncordon machine.linux/brave-otter"]);
    let mut world = idle(-1000, |w, a| w.open(&a, intent));
    assert_eq!(verbs(&world.plan()), ["cordon machine.linux/brave-otter"]);
}

#[test]
fn an_interrupted_delete_is_forgotten_once_its_target_is_gone() {
    let mut world = idle(-1000, |w, a| {
        let target = w.record(&a).target();
        w.open(
            &a,
            Intent::Delete {
                target,
                registration: Some(("gitlab".into(), "brave-otter".into())),
            },
        );
        w.lose(&a);
    });
    assert_eq!(verbs(&world.plan()), ["forget machine.linux/brave-otter"]);
}

#[test]
fn an_interrupted_update_is_closed() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    world.apply(&plan);
    let address: Address = "firewall/default".parse().unwrap();
    let record = world.record(&address).clone();
    world.open(
        &address,
        Intent::Update {
            target: record.target(),
            spec: record.spec,
        },
    );
    assert_eq!(verbs(&world.plan()), ["update firewall/default"]);
    world.stack.firewalls.get_mut("default").unwrap().rules.clear();
    assert_eq!(verbs(&world.plan()), ["update firewall/default"]);
}

#[test]
fn a_change_whose_answer_was_lost_brings_the_record_up_to_date_once() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    world.apply(&plan);
    let rules = vec![rule("80"), rule("22")];
    world
        .stack
        .firewalls
        .get_mut("default")
        .unwrap()
        .rules
        .clone_from(&rules);
    world.seen("default").rules = Some(rules);
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["update firewall/default"]);
    assert_eq!(plan.actions[0].reason, Reason::Unfinished);
    world.apply(&plan);
    let plan = world.plan();
    assert!(plan.is_noop() && plan.drift.is_empty());
}

#[test]
fn a_rule_that_someone_else_changed_is_drift_and_is_put_right() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    world.apply(&plan);
    world.seen("default").rules = Some(vec![rule("22"), rule("23")]);
    let plan = world.plan();
    assert_eq!(plan.drift[0].what, "rules: +in 23/tcp 0.0.0.0/0");
    assert_eq!(plan.drift[0].fate, DriftFate::Repaired);
    assert_eq!(verbs(&plan), ["update firewall/default"]);
    let Verb::Update { changes, .. } = &plan.actions[0].verb else {
        panic!("an update")
    };
    assert_eq!(*changes, ["rules: -in 23/tcp 0.0.0.0/0"]);
    assert_eq!(plan.actions[0].reason.code(), "drifted");
}

#[test]
fn a_changed_key_is_replaced_before_machines_that_need_it() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    world.apply(&plan);
    world.stack.ssh_keys.get_mut("ops").unwrap().public_key = "ssh-ed25519 BBBB".into();
    world.queue(2);
    let plan = world.plan();
    let old: Address = "ssh_key/ops".parse().unwrap();
    let aside = format!("ssh_key/ops@{}", world.record(&old).id);
    let expected = [
        format!("relabel {aside}"),
        "create ssh_key/ops".to_owned(),
        format!("delete {aside}"),
    ];
    assert_eq!(verbs(&plan)[..3], expected);
    assert_eq!(plan.actions[1].after, [plan.actions[0].id]);
    assert_eq!(plan.actions[2].after, [plan.actions[1].id]);
    let Verb::Create { ladder, .. } = &plan.actions[3].verb else {
        panic!("a create")
    };
    assert!(ladder[0].needs.contains(&plan.actions[1].id));
    let summary = plan.summary();
    assert_eq!(
        (summary.replace, summary.delete, summary.update, summary.create),
        (1, 0, 0, 1)
    );
    world.apply(&plan);
    assert!(world.plan().is_noop());
}

#[test]
fn a_shared_resource_goes_after_the_last_machine_that_uses_it() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    world.apply(&plan);
    world.stack.firewalls.clear();
    world.pool().firewalls.clear();
    assert!(world.plan().is_noop());
    let plan = world.destroy();
    let (machines, shared): (Vec<_>, Vec<_>) = plan
        .actions
        .iter()
        .partition(|action| action.address.pool.is_some());
    assert_eq!((machines.len(), shared.len()), (3, 2));
    assert_eq!(shared[0].after.len(), 3);
    world.apply(&plan);
    assert!(world.snapshot.state.resources.is_empty());
    assert!(world.destroy().is_noop());
}

#[test]
fn destroy_keeps_a_busy_machine_and_what_it_uses() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    world.apply(&plan);
    let name = plan.actions[2].address.name.clone();
    world.ci().wanted = Wanted::Jobs(Vec::new());
    world.run(&name);
    let plan = world.destroy();
    let summary = plan.summary();
    assert_eq!((summary.delete, summary.cordon), (2, 1));
    assert!(
        plan.held
            .iter()
            .any(|held| held.warning && held.reason.code() == "busy_at_destroy")
    );
}

#[test]
fn destroy_takes_orphans_at_once_and_nothing_on_a_partial_answer() {
    let mut world = World::new();
    world.orphan("calm-crow");
    assert_eq!(verbs(&world.destroy()), ["retire machine.linux/calm-crow"]);
    world.ci().completeness = Completeness::partial("502");
    assert!(world.destroy().is_noop());
}

#[test]
fn a_shared_resource_waits_for_orphans_that_may_use_it() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    world.apply(&plan);
    world.orphan("calm-crow");
    let plan = world.destroy();
    let firewall = plan
        .actions
        .iter()
        .find(|a| a.address.to_string() == "firewall/default")
        .unwrap();
    assert_eq!(firewall.after.len(), 4);
    world.run("calm-crow");
    let plan = world.destroy();
    assert_eq!(plan.summary().delete, 3);
    assert!(
        plan.kept
            .iter()
            .any(|kept| kept.address.to_string() == "firewall/default")
    );
}

#[test]
fn a_pool_that_is_only_advised_on_takes_no_money() {
    let mut world = grow(|w| w.stack.budget.hourly = Some("0.030 EUR".parse().unwrap()));
    world.stack.pools.insert(0, pool("advised", &["gpu"]));
    world.pool().mode = Mode::Advise;
    world.queue_tagged(8, &["gpu"]);
    let plan = world.plan();
    assert_eq!(plan.summary().create, 3);
    assert!(
        plan.actions
            .iter()
            .all(|a| a.address.pool == Some("linux".into()))
    );
}

#[test]
fn a_big_fleet_grows_and_shrinks() {
    let mut world = World::new();
    world.pool().max = 20_000;
    for index in 0..5_000 {
        let name = format!("m{index}");
        world.machine(&name, -3500, true);
        world.run(&name);
    }
    world.queue(15_000);
    let plan = world.plan();
    assert_eq!((plan.summary().create, plan.kept.len()), (5_000, 5_000));
    world.ci().wanted = Wanted::Jobs(Vec::new());
    assert_eq!(world.plan().summary().delete, 5_000);
}

#[test]
fn a_busy_orphan_stays() {
    let mut world = World::new();
    let target = world.orphan("calm-crow");
    world
        .snapshot
        .history
        .condemned
        .insert(target.to_string(), at(-600));
    world.run("calm-crow");
    let plan = world.plan();
    assert!(plan.is_noop());
    assert_eq!(plan.orphans[0].reason, Reason::Busy { jobs: 1 });
}

#[test]
fn an_orphan_is_pardoned_when_a_record_appears() {
    let mut world = World::new();
    let target = world.orphan("calm-crow");
    world.learn();
    assert!(world.snapshot.history.condemned.contains_key(&target.to_string()));
    world.cloud().listing.resources.clear();
    world.learn();
    assert!(world.snapshot.history.condemned.is_empty());
}

#[test]
fn condemnation_neither_ends_nor_falls_due_on_a_partial_answer() {
    let mut world = World::new();
    let target = world.orphan("calm-crow");
    world.learn();
    world.cloud().listing.completeness = Completeness::partial("502");
    world.cloud().listing.resources.clear();
    world.set_time(600);
    world.learn();
    assert_eq!(
        world.snapshot.history.condemned.get(&target.to_string()),
        Some(&at(0))
    );
    assert!(world.decide(Goal::Converge).is_noop());
}

#[test]
fn a_dearer_offering_is_last_and_one_that_is_sold_out_is_laster() {
    let mut world = grow(|w| w.pool().offerings = vec![choice("cx43", &[]), choice("cx33", &[])]);
    world.cloud().offerings[0].available = Some(false);
    let plan = world.plan();
    let Verb::Create { ladder, .. } = &plan.actions[0].verb else {
        panic!("a create")
    };
    let order: Vec<String> = ladder
        .iter()
        .filter_map(|r| r.offering.as_ref())
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        order,
        ["hetzner/fsn1 cx33", "hetzner/nbg1 cx43", "hetzner/nbg1 cx33"]
    );
}

#[test]
fn another_currency_is_not_bought() {
    let mut world = grow(|w| w.pool().offerings = vec![choice("cx33", &["nbg1"]), choice("cx53", &["nbg1"])]);
    world
        .cloud()
        .offerings
        .push(offering("nbg1", "cx53", "0.001 USD"));
    let plan = world.plan();
    assert_eq!(plan.summary().create, 3);
    assert!(
        plan.held
            .iter()
            .any(|held| held.reason.to_string().contains("USD"))
    );
    world.stack.budget.hourly = Some("1 USD".parse().unwrap());
    let plan = world.plan();
    let Verb::Create { ladder, .. } = &plan.actions[0].verb else {
        panic!("a create")
    };
    assert_eq!(ladder[0].price, Some(price("0.001 USD")));
}

#[test]
fn the_budget_counts_what_runs() {
    let mut world = grow(|w| w.stack.budget.hourly = Some("0.020 EUR".parse().unwrap()));
    assert_eq!(world.plan().summary().create, 2);
    world.machine("brave-otter", -10, true);
    assert_eq!(world.plan().summary().create, 1);
}

#[test]
fn an_offering_that_refused_starts_slowly_again() {
    let mut world = grow(|w| {
        let refused = |location| Refusal {
            offering: key(location, "cx33"),
            at: at(0),
            quota: false,
        };
        w.snapshot.history.refusals = vec![refused("nbg1"), refused("fsn1")];
        w.queue(20);
    });
    assert_eq!(world.plan().summary().create, 0);
    world.set_time(History::REFUSAL_MEMORY.as_secs());
    let plan = world.plan();
    assert_eq!((plan.summary().create, plan.launch_budgets.len()), (2, 2));
    world.apply(&plan);
    let plan = world.plan();
    assert_eq!(plan.summary().create, 4);
}

#[test]
fn a_tripped_breaker_lets_one_through_after_its_time() {
    let mut world = grow(|w| {
        w.pool().offerings = vec![choice("cx33", &["nbg1"])];
        w.snapshot.history.failures = vec![failure(-30), failure(-20), failure(-10)];
    });
    assert_eq!(world.plan().summary().create, 0);
    world.set_time(1790);
    let plan = world.plan();
    assert_eq!(plan.summary().create, 1);
    world.apply(&plan);
    assert_eq!(world.plan().summary().create, 0);
    let name = plan.actions[0].address.name.clone();
    world.runner(&name).last_contact = Some(at(1790));
    assert_eq!(world.plan().summary().create, 2);
}

#[test]
fn counts_are_used_as_they_are() {
    let mut world = World::new();
    let counts = Counts {
        queued: 3,
        running: 1,
    };
    world.ci().wanted = Wanted::Counts([("linux".into(), counts)].into());
    assert_eq!(world.plan().summary().create, 2);
}

#[test]
fn a_job_goes_to_the_first_pool_and_to_the_next_when_that_is_full() {
    let mut world = World::new();
    world.stack.pools.push(pool("big", &["linux", "big"]));
    world.pool().max = 1;
    world.queue_tagged(3, &["linux"]);
    world.queue_tagged(1, &["big"]);
    world.queue_tagged(5, &["windows"]);
    let plan = world.plan();
    let queued: Vec<u32> = plan.pools.iter().map(|pool| pool.queued).collect();
    assert_eq!(queued, [2, 2]);
}

#[test]
fn a_job_on_somebody_elses_runner_counts_for_nobody() {
    let mut world = World::new();
    world.run("theirs");
    let plan = world.plan();
    assert!(plan.is_noop());
    assert_eq!(plan.pools[0].running, 0);
}

#[test]
fn another_seed_gives_other_names_and_one_more_machine_renames_none() {
    let mut world = grow(|_| {});
    let names = |plan: &Plan| {
        plan.actions
            .iter()
            .map(|a| a.address.name.clone())
            .collect::<Vec<_>>()
    };
    let three = names(&world.plan());
    world.queue(2);
    assert_eq!(names(&world.plan())[..3], three);
}

/// The plan without those of its actions, and what a crash before them leaves: each prefix of what it does.
fn crashes(world: &World, plan: &Plan) -> Vec<World> {
    let prefix = |length: usize| {
        let mut world = world.clone();
        let mut part = plan.clone();
        part.actions.truncate(length);
        world.apply(&part);
        world
    };
    (0..=plan.actions.len()).map(prefix).collect()
}

fn settles(mut world: World) -> World {
    for _ in 0..4 {
        let plan = world.plan();
        if plan.is_noop() {
            return world;
        }
        world.apply(&plan);
    }
    panic!("{:?}", verbs(&world.plan()))
}

#[test]
fn a_crash_anywhere_in_the_replacement_of_a_key_leaves_one_key_in_the_end() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    world.apply(&plan);
    world.stack.ssh_keys.get_mut("ops").unwrap().public_key = "ssh-ed25519 BBBB".into();
    let plan = world.plan();
    assert_eq!(plan.actions.len(), 3);
    for (at, crashed) in crashes(&world, &plan).into_iter().enumerate() {
        let mut after = settles(crashed);
        let keys: Vec<_> = after
            .cloud()
            .listing
            .resources
            .iter()
            .filter_map(|seen| seen.public_key.clone())
            .collect();
        assert_eq!(keys, ["ssh-ed25519 BBBB"], "crash before action {at}");
    }
}

#[test]
fn a_move_out_of_the_way_that_was_interrupted_is_finished_before_the_key_is_made_anew() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    world.apply(&plan);
    world.stack.ssh_keys.get_mut("ops").unwrap().public_key = "ssh-ed25519 BBBB".into();
    let plan = world.plan();
    let Verb::Relabel {
        have,
        labels,
        record,
        was,
    } = &plan.actions[0].verb
    else {
        panic!("a relabel")
    };
    let intent = Intent::Relabel {
        target: have.target.clone(),
        labels: labels.clone(),
        record: record.clone(),
        was: was.clone(),
    };
    let aside = plan.actions[0].address.clone();
    world.open(&aside, intent);
    let plan = world.plan();
    assert_eq!(verbs(&plan), [format!("relabel {aside}")]);
    world.apply(&plan);
    world.snapshot.open.clear();
    let plan = world.plan();
    assert_eq!(
        verbs(&plan),
        ["create ssh_key/ops".to_owned(), format!("delete {aside}")]
    );
    assert_eq!(plan.actions[1].after, [plan.actions[0].id]);
}

#[test]
fn a_key_that_someone_else_swapped_under_our_name_goes_before_the_new_one_is_made() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    world.apply(&plan);
    let key = world
        .cloud()
        .listing
        .resources
        .iter_mut()
        .find(|seen| seen.public_key.is_some())
        .unwrap();
    key.public_key = Some("ssh-ed25519 EEEE".into());
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["delete ssh_key/ops", "create ssh_key/ops"]);
    assert_eq!(
        (plan.drift[0].fate, plan.summary().replace),
        (DriftFate::Replaced, 1)
    );
    assert_eq!(
        plan.drift[0].what,
        "public_key: ssh-ed25519 AAAA -> ssh-ed25519 EEEE"
    );
}

#[test]
fn a_network_is_made_before_its_machines_and_removed_after_them() {
    let mut world = grow(|_| {}).with_shared().with_network();
    let plan = world.plan();
    let kinds: Vec<&str> = plan.actions.iter().map(|a| a.address.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["ssh_key", "network", "firewall", "machine", "machine", "machine"]
    );
    let Verb::Create { ladder, .. } = &plan.actions[3].verb else {
        panic!("a create")
    };
    assert!(ladder.iter().all(|rung| rung.needs.len() == 3));
    world.apply(&plan);
    let plan = world.destroy();
    let network = plan
        .actions
        .iter()
        .find(|action| action.address.to_string() == "network/private")
        .unwrap();
    assert_eq!(network.after.len(), 3);
    world.apply(&plan);
    assert!(world.snapshot.state.resources.is_empty());
}

#[test]
fn subnets_are_changed_in_place_and_busy_machines_are_left_alone() {
    let mut world = grow(|_| {}).with_network();
    let plan = world.plan();
    world.apply(&plan);
    let names: Vec<String> = plan.actions[1..].iter().map(|a| a.address.name.clone()).collect();
    world.ci().wanted = Wanted::Jobs(Vec::new());
    for name in &names {
        world.run(name);
    }
    for name in &names {
        world.seen(name).addresses = vec!["192.0.2.1".parse().unwrap(), "10.0.3.7".parse().unwrap()];
    }
    world.network().subnets = vec![subnet("10.0.2.0/24")];
    let plan = world.plan();
    let Verb::Update { changes, .. } = &plan.actions[0].verb else {
        panic!("an update")
    };
    assert_eq!(plan.actions.len(), 1);
    assert_eq!(
        *changes,
        [
            "subnets: +10.0.2.0/24 in eu-central",
            "subnets: -10.0.1.0/24 in eu-central"
        ]
    );
    world.apply(&plan);
    assert!(world.plan().is_noop());
}

#[test]
fn a_subnet_in_which_a_machine_stands_or_may_stays_until_that_has_gone() {
    let mut world = grow(|_| {}).with_network();
    let plan = world.plan();
    world.apply(&plan);
    let names: Vec<String> = plan.actions[1..].iter().map(|a| a.address.name.clone()).collect();
    for name in &names {
        world.seen(name).addresses = vec!["10.0.1.7".parse().unwrap()];
    }
    // One has no address that the cloud tells.
    world.seen(&names[0]).addresses.clear();
    world.network().subnets = vec![subnet("10.0.2.0/24")];
    let plan = world.plan();
    let Verb::Update { changes, .. } = &plan.actions[0].verb else {
        panic!("an update")
    };
    assert_eq!(*changes, ["subnets: +10.0.2.0/24 in eu-central"]);
    let says = |plan: &Plan| {
        let held = plan.held.iter().find(|held| held.about == "network/private");
        held.map(|held| held.reason.to_string())
    };
    let stays = "3 machines in subnet 10.0.1.0/24, which goes after the last of them";
    assert_eq!(says(&plan).as_deref(), Some(stays));
    world.apply(&plan);
    let plan = world.plan();
    assert!(plan.is_noop() && plan.drift.is_empty());
    assert_eq!(says(&plan).as_deref(), Some(stays));
    for name in &names {
        world.seen(name).addresses = vec!["10.0.2.7".parse().unwrap()];
    }
    let plan = world.plan();
    assert_eq!(
        (verbs(&plan), says(&plan)),
        (vec!["update network/private".to_owned()], None)
    );
    world.apply(&plan);
    assert!(world.plan().is_noop());
}

#[test]
fn a_network_of_another_range_waits_until_no_machine_uses_it() {
    let mut world = grow(|_| {}).with_network();
    let plan = world.plan();
    world.apply(&plan);
    world.network().ip_range = "10.1.0.0/16".into();
    world.network().subnets = vec![subnet("10.1.1.0/24")];
    let plan = world.plan();
    assert!(plan.is_noop());
    let held = plan
        .held
        .iter()
        .find(|held| held.about == "network/private")
        .unwrap();
    assert_eq!(
        held.reason.to_string(),
        "ip_range differs, which only making it anew changes, and 3 machines use it; one of another name lets the \
         pool roll over to it"
    );
    assert!(held.warning);
    world.ci().wanted = Wanted::Jobs(Vec::new());
    world.set_time(3590);
    let plan = world.plan();
    assert_eq!(plan.summary().delete, 3, "{:?}", verbs(&plan));
    world.apply(&plan);
    let plan = world.plan();
    assert_eq!(verbs(&plan), ["delete network/private", "create network/private"]);
    assert_eq!((plan.summary().replace, plan.summary().create), (1, 0));
    world.apply(&plan);
    assert!(world.plan().is_noop());
}

/// How many machines each placement group has.
fn spread(world: &World) -> Vec<(String, usize)> {
    let mut groups: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for (address, record) in &world.snapshot.state.resources {
        match &record.spec {
            ResourceSpec::Machine(spec) => {
                let group = spec.placement_group.clone().unwrap();
                *groups.entry(group).or_default() += 1;
            }
            ResourceSpec::PlacementGroup(_) => {
                groups.entry(address.name.clone()).or_default();
            }
            _ => {}
        }
    }
    groups.into_iter().collect()
}

#[test]
fn a_pool_that_is_spread_has_as_many_groups_as_its_machines_need() {
    let mut world = World::new();
    world.pool().spread = Spread::Hosts;
    world.queue(8);
    let plan = world.plan();
    assert_eq!(
        verbs(&plan)[..2],
        ["create placement_group/linux-1", "create placement_group/linux-2"]
    );
    let Verb::Create { ladder, .. } = &plan.actions[2].verb else {
        panic!("a create")
    };
    assert!(ladder.iter().all(|rung| rung.needs == [plan.actions[0].id]));
    world.apply(&plan);
    // Three a group, as the provider says.
    assert_eq!(spread(&world), [("linux-1".into(), 3), ("linux-2".into(), 1)]);
    assert_eq!(
        world.record(&"placement_group/linux-1".parse().unwrap()).name,
        "test-linux-1"
    );
    world.queue(6);
    let plan = world.plan();
    assert_eq!(verbs(&plan)[..1], ["create placement_group/linux-3"]);
    world.apply(&plan);
    let full = [
        ("linux-1".into(), 3),
        ("linux-2".into(), 3),
        ("linux-3".into(), 1),
    ];
    assert_eq!(spread(&world), full);
    assert!(world.plan().is_noop());
}

#[test]
fn a_free_place_is_taken_first_and_a_group_without_machines_is_removed() {
    let mut world = World::new();
    world.pool().spread = Spread::Hosts;
    world.queue(8);
    let plan = world.plan();
    world.apply(&plan);
    world.ci().wanted = Wanted::Jobs(Vec::new());
    let (keep, leave): (Vec<_>, Vec<_>) = world
        .snapshot
        .state
        .resources
        .iter()
        .filter_map(|(address, record)| match &record.spec {
            ResourceSpec::Machine(spec) => Some((address.name.clone(), spec.placement_group.clone()?)),
            _ => None,
        })
        .partition(|(_, group)| group == "linux-1");
    for (name, _) in &keep {
        world.run(name);
    }
    assert_eq!(leave.len(), 1);
    world.set_time(3590);
    for (name, _) in keep.iter().chain(&leave) {
        world.runner(name).last_contact = Some(at(3590));
    }
    let plan = world.plan();
    let leaver = format!("machine.linux/{}", leave[0].0);
    assert_eq!(
        verbs(&plan),
        [
            format!("retire {leaver}"),
            "delete placement_group/linux-2".to_owned()
        ]
    );
    assert_eq!(plan.actions[1].after, [plan.actions[0].id]);
    assert_eq!(plan.actions[1].reason, Reason::Unused);
    world.apply(&plan);
    world.pool().spread = Spread::No;
    assert!(world.plan().is_noop(), "a group with machines stays");
}

#[test]
fn what_an_orphan_and_an_unfinished_attempt_use_is_counted() {
    let mut world = World::new();
    world.pool().spread = Spread::Hosts;
    world.queue(2);
    let plan = world.plan();
    world.apply(&plan);
    let group = world.record(&"placement_group/linux-1".parse().unwrap()).target();
    world.orphan("calm-crow");
    world.seen("calm-crow").uses = Some(vec![group]);
    world.open_create("bold-owl", -5);
    let Some(Intent::Create {
        spec: ResourceSpec::Machine(spec),
        ..
    }) = world.snapshot.open.last_mut().map(|open| &mut open.intent)
    else {
        panic!("a create")
    };
    spec.placement_group = Some("linux-1".into());
    world.queue(4);
    let plan = world.plan();
    assert_eq!(verbs(&plan)[0], "create placement_group/linux-2");
}

#[test]
fn a_provider_without_placement_groups_spreads_nothing() {
    let mut world = World::new();
    world.pool().spread = Spread::Hosts;
    world.cloud().profile.group_size = None;
    world.queue(2);
    let plan = world.plan();
    let Verb::Create { ladder, .. } = &plan.actions[0].verb else {
        panic!("a create")
    };
    let ResourceSpec::Machine(spec) = &ladder[0].spec else {
        panic!("a machine")
    };
    assert_eq!((plan.actions.len(), &spec.placement_group), (1, &None));
}

#[test]
fn only_what_an_orphan_uses_waits_for_it_where_the_cloud_says_what_that_is() {
    let mut world = grow(|_| {}).with_shared();
    let plan = world.plan();
    world.apply(&plan);
    let firewall = world.record(&"firewall/default".parse().unwrap()).target();
    world.orphan("calm-crow");
    world.run("calm-crow");
    world.seen("calm-crow").uses = Some(vec![firewall]);
    let plan = world.destroy();
    let kept: Vec<String> = plan.kept.iter().map(|kept| kept.address.to_string()).collect();
    assert_eq!(kept, ["firewall/default"]);
    assert!(verbs(&plan).contains(&"delete ssh_key/ops".to_owned()));
}

/// A world of some machines in various states.
#[derive(Clone, Debug)]
struct Case {
    min: u32,
    max: u32,
    idle: u32,
    burst: Option<u32>,
    queued: u32,
    /// Age, kind, jobs.
    machines: Vec<(i64, u8, u32)>,
    open: u8,
    orphans: u8,
    partial_ci: bool,
    partial_cloud: bool,
    by_second: bool,
    destroy: bool,
    spread: bool,
    network: bool,
    /// How a shared resource differs from what the stack file says.
    edit: u8,
}

fn case() -> impl Strategy<Value = Case> {
    let machine = (0_i64..8000, 0_u8..9, 0_u32..3);
    let sizes = (
        0_u32..4,
        0_u32..8,
        0_u32..3,
        prop::option::of(0_u32..4),
        0_u32..20,
    );
    let flags = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
    );
    (
        sizes,
        prop::collection::vec(machine, 0..10),
        0_u8..4,
        0_u8..3,
        flags,
        (any::<bool>(), any::<bool>(), 0_u8..6),
    )
        .prop_map(
            |(
                (min, max, idle, burst, queued),
                machines,
                open,
                orphans,
                (a, b, by_second, destroy),
                (spread, network, edit),
            )| Case {
                min: min.min(max),
                max,
                idle,
                burst,
                queued,
                machines,
                open,
                orphans,
                partial_ci: a && b,
                partial_cloud: a && !b,
                by_second,
                destroy,
                spread,
                network,
                edit,
            },
        )
}

fn build(case: &Case) -> World {
    let mut world = World::new().with_shared();
    if case.network {
        world = world.with_network();
    }
    world.pool().spread = if case.spread { Spread::Hosts } else { Spread::No };
    if case.edit > 0 {
        // What the stack file asks for is there, with a machine in it; then someone edits the file.
        world.pool().min = 1;
        let plan = world.plan();
        world.apply(&plan);
        edit(&mut world, case.edit);
    }
    world.pool().min = case.min;
    world.pool().max = case.max;
    world.pool().burst = case.burst;
    world.pool().policy = Policy::Queue { idle: case.idle };
    world.queue(case.queued);
    if case.by_second {
        world.by_second();
    }
    for (index, (age, kind, jobs)) in case.machines.iter().enumerate() {
        let name = format!("m{index}");
        let pool = if *kind == 8 { "old" } else { "linux" };
        let address = world.machine_of(pool, &name, -age, !matches!(kind, 1 | 2));
        match kind {
            2 => world.seen(&name).status = CloudStatus::Failed("broken".into()),
            3 => cordon(&mut world, &address, -age),
            4 => world.runner(&name).paused = true,
            5 => world.lose(&address),
            6 => world.seen(&name).status = CloudStatus::Off,
            7 => world.runner(&name).busy = Some(true),
            _ => {}
        }
        if *kind != 1 {
            for _ in 0..*jobs {
                world.run(&name);
            }
        }
    }
    for index in 0..case.open {
        let name = format!("o{index}");
        world.open_create(&name, -200 * i64::from(index));
        if index == 1 {
            world.made(&name, &name);
        }
    }
    for index in 0..case.orphans {
        world.orphan(&format!("s{index}"));
    }
    if case.partial_ci {
        world.ci().completeness = Completeness::partial("502");
    }
    if case.partial_cloud {
        world.cloud().listing.completeness = Completeness::partial("502");
    }
    world
}

fn edit(world: &mut World, how: u8) {
    match how {
        1 => world.stack.ssh_keys.get_mut("ops").unwrap().public_key = "ssh-ed25519 BBBB".into(),
        2 => world
            .stack
            .firewalls
            .get_mut("default")
            .unwrap()
            .rules
            .push(rule("80")),
        3 => {
            if let Some(network) = world.stack.networks.get_mut("private") {
                network.subnets.push(subnet("10.0.2.0/24"));
            }
        }
        4 => {
            if let Some(network) = world.stack.networks.get_mut("private") {
                network.ip_range = "10.0.0.0/8".into();
            }
        }
        _ => {
            world.pool().networks.clear();
            world.stack.networks.clear();
            world.pool().spread = match world.pool().spread {
                Spread::No => Spread::Hosts,
                _ => Spread::No,
            };
        }
    }
}

fn plan_of(case: &Case, world: &mut World) -> Plan {
    if case.destroy {
        world.destroy()
    } else {
        world.plan()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_is_seen_the_rules_hold(case in case()) {
        let mut world = build(&case);
        let plan = plan_of(&case, &mut world);
        prop_assert_eq!(&plan, &plan_of(&case, &mut world.clone()), "same input, same plan");
        let violations = super::invariants::check(&plan, &world.snapshot, &world.stack);
        prop_assert!(violations.is_empty(), "{:?}", violations);
        let busy: BTreeSet<String> = match &world.ci().wanted {
            Wanted::Jobs(jobs) => jobs.iter().filter_map(|job| job.runner.clone()).map(|r| r.to_string()).collect(),
            Wanted::Counts(_) => BTreeSet::new(),
        };
        let mut created = 0_usize;
        for action in &plan.actions {
            let removes = matches!(action.verb, Verb::Retire { .. } | Verb::Delete { .. });
            let shrinks = removes || matches!(action.verb, Verb::Cordon { .. } | Verb::Unregister { .. });
            prop_assert!(!removes || !busy.contains(&action.address.name), "deletes busy {}", action.address);
            // What is shared runs no jobs: a partial answer of the CI says nothing against removing it.
            let blind = case.partial_cloud || (case.partial_ci && !action.address.kind.is_shared());
            prop_assert!(!shrinks || !blind, "shrinks {}", action.address);
            if action.address.pool.is_some() && matches!(action.verb, Verb::Create { .. }) {
                prop_assert!(!case.partial_cloud && !case.destroy, "grows");
                created += 1;
            }
        }
        let alive = world.cloud().listing.resources.iter().filter(|seen| seen.labels.get("runfleet-pool").is_some_and(|p| p == "linux")).count();
        prop_assert!(created == 0 || created + alive <= usize::try_from(case.max).unwrap());
        if let Some(burst) = case.burst {
            prop_assert!(created <= usize::try_from(burst).unwrap());
        }
    }

    #[test]
    fn ticks_on_a_world_that_stands_still_come_to_rest(case in case()) {
        let mut world = build(&case);
        let mut rounds = 0;
        loop {
            let plan = plan_of(&case, &mut world);
            if plan.is_noop() {
                break;
            }
            prop_assert!(rounds < 5, "{:?}", verbs(&plan));
            world.apply(&plan);
            rounds += 1;
        }
        prop_assert!(plan_of(&case, &mut world).is_noop());
        prop_assert!(world.snapshot.state.machines_of(&"linux".into()).count() <= 100);
    }
}

#[test]
fn an_attempt_that_two_complete_listings_lack_a_settle_apart_made_nothing() {
    let mut world = World::new();
    world.open_create("calm-crow", -5);
    world.learn();
    assert!(codes(&world.plan()).contains("unsettled"));
    world.cloud().listing.now = at(59);
    world.learn();
    assert!(codes(&world.plan()).contains("unsettled"));
    world.cloud().listing.now = at(60);
    world.learn();
    assert!(codes(&world.plan()).contains("never_made"));
    world.made("calm-crow", "calm-crow");
    world.learn();
    assert!(codes(&world.plan()).contains("adopted"));
    assert!(world.snapshot.history.absent.is_empty());
}

#[test]
fn a_partial_listing_says_nothing_of_an_attempt() {
    let mut world = World::new();
    world.open_create("calm-crow", -5);
    world.cloud().listing.completeness = Completeness::partial("page 2");
    world.learn();
    assert!(world.snapshot.history.absent.is_empty());
}

#[test]
fn a_registration_of_another_lineage_is_left_alone() {
    let mut world = World::new();
    world.register("linux", "bold-owl", false);
    world.runner("bold-owl").description = "test-linux-bold-owl 0badc0de".to_owned();
    for seconds in [0, 100] {
        world.set_time(seconds);
        world.learn();
        assert!(!codes(&world.plan()).contains("dead_registration"));
    }
    assert!(world.snapshot.history.condemned.is_empty());
}

#[test]
fn what_a_person_paused_stays_paused_though_it_is_wanted() {
    let mut world = World::new();
    world.machine("brave-otter", -1000, true);
    world.runner("brave-otter").paused = true;
    world.queue(1);
    world.learn();
    let plan = world.plan();
    assert!(!codes(&plan).contains("wanted_again"));
    assert!(codes(&plan).contains("demand"), "another machine does its work");
}

#[test]
fn a_machine_whose_registration_a_listing_lacks_is_read_by_id_before_it_goes() {
    let mut world = World::new();
    world.machine("brave-otter", -1000, true);
    world.learn();
    world.ci().runners.clear();
    world.learn();
    let plan = world.plan();
    assert!(codes(&plan).contains("broken"));
    assert!(
        plan.actions
            .iter()
            .all(|action| matches!(action.verb, Verb::Retire { .. })),
        "{:?}",
        verbs(&plan)
    );
}
