//! Machines made anew: rolls, age, jobs, `--replace`, `--target`, `protect`, `ignore_changes`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{codes, idle};
use crate::{
    model::{
        demand::Wanted,
        ids::Address,
        intent::Intent,
        reason::Reason,
        resource::{Completeness, ImageRef, ResourceSpec},
        state::Phase,
    },
    plan::{
        GuardRule, Plan, Selection, Selector, Verb, invariants, select,
        testing::{World, at, choice, offering, pool, rule, secs, verbs},
    },
    stack::{Budget, Mode, Moved, Part, Share, StackPath},
};

/// As many machines as there is work for, all ready and idle, their hour just begun.
fn fleet(machines: u32) -> World {
    let mut world = World::new();
    for index in 0..machines {
        world.machine(&format!("m{index}"), -100 + i64::from(index), true);
    }
    world.pool().min = machines;
    world.learn();
    world
}

fn new_template(world: &mut World) {
    let file = world.templates.files.get_mut("cloud-init/a.tera").unwrap();
    file.push_str("# new\n");
}

/// Everything that boots comes up.
fn come_up(world: &mut World) {
    let now = world.ci().now;
    for runner in &mut world.ci().runners {
        runner.last_contact.get_or_insert(now);
    }
}

/// One tick in which all goes well: its verbs, and the world a minute later.
fn tick(world: &mut World) -> Vec<String> {
    let plan = world.plan();
    world.apply(&plan);
    come_up(world);
    let seconds = world.ci().now.as_second() - at(0).as_second();
    world.set_time(seconds + 60);
    shape(&plan)
}

/// Verbs with the names of machines that were there before.
fn shape(plan: &Plan) -> Vec<String> {
    let word = |action: &crate::plan::Action| match &action.reason {
        Reason::Replacement { of } => format!("create for {of}"),
        _ if matches!(action.verb, Verb::Create { .. }) => "create".to_owned(),
        reason => format!("{} {}: {reason}", action.verb.as_str(), action.address.name),
    };
    plan.actions.iter().map(word).collect()
}

fn outdated(world: &World) -> usize {
    let mut seen = world.clone();
    seen.learn();
    let plan = seen.plan();
    let about = |reason: &Reason| matches!(reason.code(), "outdated" | "roll_waits" | "roll_stopped");
    let kept = plan.kept.iter().filter(|kept| about(&kept.reason)).count();
    kept + plan.actions.iter().filter(|action| about(&action.reason)).count()
}

pub(super) fn scenarios() -> Vec<(&'static str, World)> {
    let kept = |edit: fn(&mut World)| {
        let mut world = fleet(2);
        edit(&mut world);
        world
    };
    let asked = |world: &mut World, name: &str| {
        let address = format!("machine.linux/{name}").parse().unwrap();
        world.selection.replace = vec![address];
    };
    let mut turn = fleet(2);
    turn.pool().min = 1;
    new_template(&mut turn);
    let mut replace = turn.clone();
    replace.templates = World::new().templates;
    asked(&mut replace, "m1");
    let mut old = fleet(2);
    old.pool().min = 1;
    let mut worn = old.clone();
    old.pool().keeping.max_age = Some(secs(99));
    worn.pool().keeping.max_jobs = Some(1);
    worn.finished("m0", -90, -80);
    let mut protected = fleet(1);
    protected.pool().min = 0;
    protected.set_time(3400);
    protected.pool().keeping.protect = true;
    let mut stopped = fleet(1);
    new_template(&mut stopped);
    let plan = stopped.plan();
    stopped.apply(&plan);
    stopped.set_time(700);
    let mut targeted = fleet(1);
    targeted.pool().min = 3;
    targeted.selection.targets = vec![Selector::Address("machine.linux/m0".parse().unwrap())];
    vec![
        ("replacement", kept(new_template)),
        ("roll_waits", kept(new_template)),
        ("outdated", turn),
        ("replace_asked", replace),
        ("too_old", old),
        ("worn_out", worn),
        ("protected", protected),
        ("roll_stopped", stopped),
        (
            "ignored_change",
            kept(|world| {
                new_template(world);
                world.pool().keeping.ignore_changes = [Part::Template].into();
            }),
        ),
        ("not_targeted", targeted),
    ]
}

#[test]
fn an_outdated_pool_is_made_anew_one_by_one_each_after_its_replacement_is_ready_busy_ones_last() {
    let mut world = fleet(3);
    world.run("m0");
    new_template(&mut world);
    assert_eq!(tick(&mut world), ["create for machine.linux/m1"]);
    assert_eq!(tick(&mut world), ["retire m1: made from another template"]);
    assert_eq!(tick(&mut world), ["create for machine.linux/m2"]);
    assert_eq!(tick(&mut world), ["retire m2: made from another template"]);
    assert_eq!(tick(&mut world), ["create for machine.linux/m0"]);
    assert_eq!(tick(&mut world), ["cordon m0: made from another template"]);
    assert!(tick(&mut world).is_empty(), "waits for its job");
    world.ci().wanted = Wanted::Jobs(Vec::new());
    assert_eq!(tick(&mut world), ["retire m0: made from another template"]);
    assert!(tick(&mut world).is_empty());
    assert_eq!(outdated(&world), 0);
}

#[test]
fn a_batch_is_a_number_or_a_share_of_the_pool() {
    for (roll, batch) in [
        (Share::Number(2), 2),
        (Share::Percent(50), 2),
        (Share::Percent(1), 1),
    ] {
        let mut world = fleet(4);
        world.pool().keeping.roll = roll;
        new_template(&mut world);
        let plan = world.plan();
        assert_eq!(plan.summary().replace, batch, "{roll}");
        world.apply(&plan);
        assert!(world.plan().is_noop(), "nothing leaves before they are ready");
        come_up(&mut world);
        assert_eq!(world.plan().summary().delete, batch, "{roll}");
    }
}

#[test]
fn a_batch_of_none_leaves_outdated_machines_where_they_are() {
    let mut world = fleet(2);
    world.pool().keeping.roll = Share::Number(0);
    new_template(&mut world);
    let plan = world.plan();
    assert!(plan.is_noop());
    assert!(plan.kept[0].reason.to_string().contains("roll = 0"));
    world.pool().keeping.max_age = Some(secs(50));
    assert_eq!(world.plan().summary().replace, 1, "too old is another matter");
}

#[test]
fn a_roll_stops_at_the_first_machine_that_does_not_become_ready_and_goes_on_with_another_template() {
    let mut world = fleet(3);
    new_template(&mut world);
    let plan = world.plan();
    world.apply(&plan);
    let made = plan.actions[0].address.clone();
    world.set_time(700);
    let plan = world.plan();
    assert_eq!(verbs(&plan), [format!("retire {made}")]);
    assert!(codes(&plan).contains("roll_stopped"));
    let held = plan.held.iter().find(|held| held.reason.code() == "roll_stopped");
    assert!(held.is_some_and(|held| held.warning && held.count == 3));
    world.apply(&plan);
    for seconds in [800, 1000, 40_000] {
        world.set_time(seconds);
        let plan = world.plan();
        assert!(plan.is_noop(), "{:?}", verbs(&plan));
        assert_eq!(plan.pools[0].serving, 3);
    }
    new_template(&mut world);
    assert_eq!(world.plan().summary().replace, 1);
}

#[test]
fn a_stopped_roll_goes_on_when_a_machine_like_the_failed_one_becomes_ready() {
    let mut world = fleet(2);
    new_template(&mut world);
    let plan = world.plan();
    world.apply(&plan);
    world.set_time(700);
    let plan = world.plan();
    world.apply(&plan);
    assert!(world.plan().is_noop());
    world.selection.replace = vec!["machine.linux/m0".parse().unwrap()];
    assert_eq!(tick(&mut world), ["create for machine.linux/m0"]);
    assert_eq!(
        tick(&mut world),
        ["retire m0: asked for by --replace", "create for machine.linux/m1"]
    );
}

#[test]
fn another_pools_luck_does_not_make_a_stopped_roll_go_on() {
    let mut world = fleet(1);
    new_template(&mut world);
    let plan = world.plan();
    world.apply(&plan);
    world.set_time(700);
    let plan = world.plan();
    world.apply(&plan);
    let mut other = pool("other", &["other"]);
    other.cloud_init = "cloud-init/b.tera".into();
    world
        .templates
        .files
        .insert("cloud-init/b.tera".into(), "#cloud-config\n".into());
    world.stack.pools.push(other);
    world.machine_of("other", "o1", 600, true);
    world.stack.pools[1].min = 1;
    let plan = world.plan();
    assert!(plan.is_noop(), "{:?}", verbs(&plan));
    assert!(codes(&plan).contains("roll_stopped"));
}

#[test]
fn a_pool_at_its_max_lets_idle_ones_go_first_a_batch_at_a_time() {
    let mut world = fleet(3);
    world.pool().max = 3;
    world.run("m0");
    new_template(&mut world);
    assert_eq!(tick(&mut world), ["retire m1: made from another template"]);
    assert_eq!(tick(&mut world), ["create"]);
    assert_eq!(tick(&mut world), ["retire m2: made from another template"]);
    assert_eq!(tick(&mut world), ["create"]);
    assert!(tick(&mut world).is_empty(), "a busy one is left alone");
    world.ci().wanted = Wanted::Jobs(Vec::new());
    assert_eq!(tick(&mut world), ["retire m0: made from another template"]);
    assert_eq!(tick(&mut world), ["create"]);
    assert_eq!(outdated(&world), 0);
}

#[test]
fn a_budget_without_room_lets_idle_ones_go_first_and_none_when_a_new_one_cannot_be_paid() {
    let mut world = fleet(2);
    world.stack.budget = Budget {
        hourly: Some("0.020 EUR".parse().unwrap()),
        ..Budget::default()
    };
    new_template(&mut world);
    assert_eq!(tick(&mut world), ["retire m0: made from another template"]);
    assert_eq!(tick(&mut world), ["create"]);
    assert_eq!(tick(&mut world), ["retire m1: made from another template"]);
    let mut world = fleet(2);
    world.stack.budget.hourly = Some("0.020 EUR".parse().unwrap());
    world.pool().offerings = vec![choice("cx43", &["nbg1"])];
    assert!(world.plan().is_noop());
    assert!(codes(&world.plan()).contains("roll_waits"));
}

#[test]
fn nothing_leaves_where_nothing_can_be_bought() {
    let mut world = fleet(2);
    world.pool().max = 2;
    world.pool().offerings = vec![choice("cx99", &["nbg1"])];
    let plan = world.plan();
    assert!(plan.is_noop() && codes(&plan).contains("roll_waits"));
    assert!(plan.kept[0].reason.to_string().contains("another offering"));
}

#[test]
fn partial_answers_neither_begin_nor_go_on_with_a_roll() {
    let mut world = fleet(2);
    new_template(&mut world);
    world.ci().completeness = Completeness::partial("502");
    assert!(world.plan().is_noop());
    world.ci().completeness = Completeness::Complete;
    world.cloud().listing.completeness = Completeness::partial("502");
    assert!(world.plan().is_noop());
}

#[test]
fn what_differs_is_named_by_part() {
    type Edit = fn(&mut World);
    let edits: [(&str, Edit); 8] = [
        ("template", new_template),
        ("vars", |w| {
            w.pool().vars.insert("x".into(), 1.into());
        }),
        ("runner", |w| w.pool().tags.push("new".into())),
        ("ci", |w| {
            let url = crate::stack::Endpoint::Url("https://ci.example".into());
            w.stack.ci.get_mut("gitlab").unwrap().url = url;
        }),
        ("image", |w| {
            w.pool().offerings[0].image = ImageRef::Name("debian-13".into());
        }),
        ("offering", |w| w.pool().offerings = vec![choice("cx43", &[])]),
        ("access", |w| w.pool().offerings[0].public_ipv4 = false),
        ("template and image", |w| {
            new_template(w);
            w.pool().offerings[0].image = ImageRef::Name("debian-13".into());
        }),
    ];
    for (what, edit) in edits {
        let mut world = fleet(1);
        edit(&mut world);
        world.pool().keeping.max_age = Some(secs(1));
        let reason = format!("made from another {what}, waits for its turn");
        assert_eq!(world.plan().kept[0].reason.to_string(), reason);
    }
}

#[test]
fn a_record_of_an_earlier_version_has_its_hash_to_go_by() {
    let mut world = fleet(1);
    let address: Address = "machine.linux/m0".parse().unwrap();
    let ResourceSpec::Machine(spec) = &mut world.record(&address).spec else {
        panic!("a machine")
    };
    spec.parts.clear();
    assert!(world.plan().is_noop());
    world.pool().offerings[0].image = ImageRef::Name("debian-13".into());
    let waits = |world: &mut World| world.plan().kept[0].reason.to_string();
    assert_eq!(waits(&mut world), "made from another image, waits for its turn");
    new_template(&mut world);
    world.pool().offerings[0].image = ImageRef::Name("debian-12".into());
    let all = "made from another template, vars, runner or ci, waits for its turn";
    assert_eq!(waits(&mut world), all);
    world.pool().keeping.ignore_changes = [Part::Vars].into();
    assert!(
        codes(&world.plan()).contains("ignored_change"),
        "it may be the vars"
    );
}

#[test]
fn a_machine_of_unknown_making_is_not_outdated_for_it() {
    let mut world = fleet(1);
    let address: Address = "machine.linux/m0".parse().unwrap();
    world.record(&address).hash = "".into();
    for seen in &mut world.cloud().listing.resources {
        seen.labels.insert("runfleet-hash".into(), String::new());
    }
    let ResourceSpec::Machine(spec) = &mut world.record(&address).spec else {
        panic!("a machine")
    };
    spec.parts.clear();
    assert!(world.plan().is_noop());
}

#[test]
fn a_pool_that_was_renamed_keeps_its_machines() {
    for parts in [true, false] {
        let mut world = fleet(1);
        let old: Address = "machine.linux/m0".parse().unwrap();
        let mut record = world.snapshot.state.resources.remove(&old).unwrap();
        let ResourceSpec::Machine(spec) = &mut record.spec else {
            panic!("a machine")
        };
        spec.pool = "docker".into();
        if !parts {
            spec.parts.clear();
        }
        let new = "machine.docker/m0".parse().unwrap();
        world.snapshot.state.resources.insert(new, record);
        world.pool().name = "docker".into();
        world.stack.moved.push(Moved {
            from: StackPath::Pool("linux".into()),
            to: StackPath::Pool("docker".into()),
        });
        let plan = world.plan();
        assert!(!codes(&plan).contains("roll_waits"), "{:?}", plan.kept);
    }
}

#[test]
fn an_offering_that_is_listed_still_is_no_reason_though_another_is_cheaper() {
    let mut world = fleet(1);
    world
        .cloud()
        .offerings
        .push(offering("hel1", "cx33", "0.001 EUR"));
    world.pool().offerings = vec![choice("cx33", &["hel1", "nbg1"])];
    assert!(world.plan().is_noop());
    world.pool().offerings = vec![choice("cx33", &["hel1"])];
    assert_eq!(world.plan().summary().replace, 1);
}

#[test]
fn an_idle_outdated_machine_that_is_surplus_goes_first_and_whatever_is_paid() {
    let mut world = fleet(2);
    world.pool().min = 1;
    new_template(&mut world);
    assert_eq!(tick(&mut world), ["retire m0: made from another template"]);
    assert_eq!(tick(&mut world), ["create for machine.linux/m1"]);
}

#[test]
fn a_cordoned_outdated_machine_is_not_wanted_again() {
    let mut world = fleet(1);
    let address: Address = "machine.linux/m0".parse().unwrap();
    super::cordon(&mut world, &address, -50);
    world.run("m0");
    new_template(&mut world);
    assert_eq!(tick(&mut world), ["create"]);
    world.ci().wanted = Wanted::Jobs(Vec::new());
    assert_eq!(tick(&mut world), ["retire m0: made from another template"]);
}

#[test]
fn what_was_asked_to_be_replaced_is_whatever_the_batch_is_and_is_remembered() {
    let mut world = fleet(3);
    world.pool().keeping.roll = Share::Number(0);
    for name in ["m1", "m2"] {
        let address: Address = format!("machine.linux/{name}").parse().unwrap();
        world
            .snapshot
            .history
            .machines
            .get_mut(&address)
            .unwrap()
            .replace_asked = Some(at(0));
    }
    assert_eq!(
        tick(&mut world),
        ["create for machine.linux/m1", "create for machine.linux/m2"]
    );
    assert_eq!(
        tick(&mut world),
        [
            "retire m1: asked for by --replace",
            "retire m2: asked for by --replace"
        ]
    );
    assert!(tick(&mut world).is_empty());
}

#[test]
fn a_key_is_made_anew_when_asked_and_a_firewall_only_when_no_machine_has_it() {
    let mut world = World::new().with_shared();
    world.queue(2);
    let plan = world.plan();
    world.apply(&plan);
    come_up(&mut world);
    let ask = |address: &str| vec![address.parse().unwrap()];
    world.selection.replace = ask("ssh_key/ops");
    assert_eq!(verbs(&world.plan()), ["delete ssh_key/ops", "create ssh_key/ops"]);
    world.selection.replace = ask("firewall/default");
    let plan = world.plan();
    assert!(plan.is_noop());
    let held = plan.held.iter().find(|held| held.about == "firewall/default");
    assert!(held.is_some_and(|held| held.warning && held.reason.code() == "needed"));
    world
        .snapshot
        .state
        .resources
        .retain(|address, _| address.kind.is_shared());
    world
        .cloud()
        .listing
        .resources
        .retain(|seen| seen.target.kind.is_shared());
    world.ci().wanted = Wanted::Jobs(Vec::new());
    world.ci().runners.clear();
    assert_eq!(
        verbs(&world.plan()),
        ["delete firewall/default", "create firewall/default"]
    );
}

#[test]
fn a_protected_pool_loses_nothing_to_its_target_a_roll_its_age_or_destroy() {
    let mut world = fleet(2);
    world.pool().min = 0;
    world.pool().keeping.protect = true;
    world.pool().keeping.max_age = Some(secs(1));
    new_template(&mut world);
    world.set_time(3400);
    world.selection.replace = vec!["machine.linux/m0".parse().unwrap()];
    let plan = world.plan();
    assert!(plan.is_noop(), "{:?}", verbs(&plan));
    assert!(plan.kept.iter().all(|kept| kept.reason == Reason::Protected));
    assert!(
        plan.held
            .iter()
            .any(|held| held.about == "machine.linux/m0" && held.warning)
    );
    let plan = world.destroy();
    assert!(plan.is_noop(), "{:?}", verbs(&plan));
    assert_eq!(
        plan.held
            .iter()
            .filter(|held| held.reason == Reason::Protected)
            .count(),
        2
    );
}

#[test]
fn a_targeted_pool_is_scaled_and_what_it_needs_is_made_and_nothing_else_is_touched() {
    let mut world = World::new().with_shared();
    let mut other = pool("other", &["other"]);
    other.min = 2;
    world.stack.pools.push(other);
    world.queue(2);
    world.selection.targets = vec![Selector::Pool("linux".into())];
    let plan = world.plan();
    let kinds: Vec<&str> = plan.actions.iter().map(|a| a.address.kind.as_str()).collect();
    assert_eq!(kinds, ["ssh_key", "firewall", "machine"]);
    let held = plan
        .held
        .iter()
        .find(|held| held.reason == Reason::NotTargeted)
        .unwrap();
    assert_eq!(
        (held.about.as_str(), held.count, held.warning),
        ("test", 2, false)
    );
    world.apply(&plan);
    assert!(world.plan().is_noop());
}

#[test]
fn a_targeted_machine_is_made_anew_alone_though_its_pool_is_not_scaled() {
    let mut world = fleet(3);
    new_template(&mut world);
    world.pool().min = 5;
    world.selection.targets = vec![Selector::Address("machine.linux/m2".parse().unwrap())];
    world.pool().min = 3;
    assert_eq!(tick(&mut world), ["create for machine.linux/m2"]);
    assert_eq!(tick(&mut world), ["retire m2: made from another template"]);
    assert!(tick(&mut world).is_empty());
}

#[test]
fn an_attempt_outside_the_target_is_left_alone() {
    let mut world = fleet(1);
    world.open_create("calm-crow", -500);
    let busy: Address = "machine.linux/m0".parse().unwrap();
    let target = world.record(&busy).target();
    let registration = Some(("gitlab".into(), "m0".into()));
    world.open(&busy, Intent::Delete { target, registration });
    world.selection.targets = vec![Selector::Address("firewall/default".parse().unwrap())];
    let plan = world.plan();
    assert!(plan.is_noop(), "{:?}", verbs(&plan));
    assert!(
        plan.kept
            .iter()
            .any(|kept| kept.address == busy && kept.reason == Reason::NotTargeted)
    );
    assert!(invariants::check(&plan, &world.snapshot, &world.stack).is_empty());
}

#[test]
fn a_firewall_that_is_not_targeted_keeps_its_rules() {
    let mut world = World::new().with_shared();
    world.queue(2);
    let plan = world.plan();
    world.apply(&plan);
    come_up(&mut world);
    world
        .stack
        .firewalls
        .get_mut("default")
        .unwrap()
        .rules
        .push(rule("80"));
    world.selection.targets = vec![Selector::Address("ssh_key/ops".parse().unwrap())];
    assert!(world.plan().is_noop());
    world.selection.targets = vec![Selector::Address("firewall/default".parse().unwrap())];
    assert_eq!(verbs(&world.plan()), ["update firewall/default"]);
}

#[test]
fn what_is_not_there_is_said_with_what_is_and_has_a_like_name() {
    let world = fleet(2);
    let selection = Selection {
        targets: vec![
            Selector::Pool("linxu".into()),
            Selector::Address("firewall/default".parse().unwrap()),
        ],
        replace: vec!["machine.linux/m9".parse().unwrap()],
        allow: [GuardRule::Budget].into(),
    };
    let unknown = select::unknown(&selection, &world.snapshot.state, &world.stack);
    let told: Vec<(&str, &str, Vec<String>)> = unknown
        .iter()
        .map(|u| (u.option, u.asked.as_str(), u.near.clone()))
        .collect();
    assert_eq!(
        told[0],
        ("--target", "pools.linxu", vec!["pools.linux".to_owned()])
    );
    assert_eq!((told[1].0, told[1].1), ("--target", "firewall/default"));
    assert_eq!(
        told[2],
        (
            "--replace",
            "machine.linux/m9",
            vec!["machine.linux/m0".to_owned(), "machine.linux/m1".to_owned()]
        )
    );
    let known = Selection {
        targets: vec![Selector::Pool("linux".into())],
        replace: vec!["machine.linux/m1".parse().unwrap()],
        ..Selection::default()
    };
    assert!(select::unknown(&known, &world.snapshot.state, &world.stack).is_empty());
}

#[test]
fn an_acting_pool_has_the_jobs_that_an_advised_one_declared_before_it_fits_too() {
    let mut world = idle(-100, |_, _| {});
    let mut advised = pool("advised", &["linux", "docker"]);
    advised.mode = Mode::Advise;
    world.stack.pools.insert(0, advised);
    world.queue(4);
    let plan = world.plan();
    let queued: Vec<u32> = plan.pools.iter().map(|pool| pool.queued).collect();
    assert_eq!(queued, [0, 4]);
}

/// What makes machines of a running pool to be made anew.
#[derive(Clone, Copy, Debug)]
enum Why {
    Template,
    Image,
    Offering,
    Age,
    Jobs,
    Asked,
}

#[derive(Clone, Debug)]
struct Case {
    /// For how many ticks each machine runs a job.
    machines: Vec<u8>,
    why: Why,
    batch: u32,
    /// What `max` leaves beside the machines.
    room: u32,
    /// For how many more machines there is money; none: no budget.
    money: Option<u32>,
    min: u32,
    boot: u8,
    settle: i64,
    by_second: bool,
    protect: bool,
    target: bool,
    /// When and where jobs arrive: tick, and how long they run.
    jobs: Vec<(u8, u8)>,
}

fn case() -> impl Strategy<Value = Case> {
    let why = prop_oneof![
        Just(Why::Template),
        Just(Why::Image),
        Just(Why::Offering),
        Just(Why::Age),
        Just(Why::Jobs),
        Just(Why::Asked),
    ];
    let sizes = (1_u32..4, 0_u32..4, prop::option::of(0_u32..3), 0_u32..8, 1_u8..4);
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        prop_oneof![Just(5_i64), Just(90)],
    );
    let jobs = prop::collection::vec((0_u8..12, 1_u8..5), 0..8);
    (prop::collection::vec(0_u8..5, 1..7), why, sizes, flags, jobs).prop_map(
        |(machines, why, (batch, room, money, min, boot), (by_second, protect, target, settle), jobs)| Case {
            machines,
            why,
            batch,
            room,
            money,
            min,
            boot,
            settle,
            by_second,
            protect,
            target,
            jobs,
        },
    )
}

/// A world that goes on: machines boot, jobs come and end.
struct Life {
    world: World,
    case: Case,
    tick: u8,
    /// What runs where, until when.
    running: Vec<(String, u8)>,
    born: Vec<(String, u8)>,
    old: BTreeSet<Address>,
}

impl Life {
    fn new(case: &Case) -> Self {
        let mut world = World::new();
        let count = u32::try_from(case.machines.len()).unwrap();
        for index in 0..count {
            world.machine(&format!("m{index}"), -200, true);
        }
        let old: BTreeSet<Address> = world.snapshot.state.resources.keys().cloned().collect();
        let pool = world.pool();
        pool.jobs_per_runner = 1;
        pool.min = case.min.min(count);
        pool.max = count + case.room;
        pool.keeping.protect = case.protect;
        pool.keeping.roll = Share::Number(case.batch);
        if case.by_second {
            world.by_second();
        }
        world.ci().control.settle = secs(case.settle);
        if let Some(more) = case.money {
            let hourly = format!("0.0{:02} EUR", (count + more) * 10);
            world.stack.budget.hourly = Some(hourly.parse().unwrap());
        }
        // The pool's own settings are part of what its machines were made from.
        for address in &old {
            world.refresh(address);
        }
        world.learn();
        let running = case.machines.iter().enumerate();
        let running = running.filter(|(_, ticks)| **ticks > 0);
        let running = running.map(|(at, ticks)| (format!("m{at}"), *ticks)).collect();
        let mut life = Self {
            world,
            case: case.clone(),
            tick: 0,
            running,
            born: Vec::new(),
            old,
        };
        life.change();
        life.load();
        life
    }

    fn change(&mut self) {
        let world = &mut self.world;
        match self.case.why {
            Why::Template => new_template(world),
            Why::Image => world.pool().offerings[0].image = ImageRef::Name("debian-13".into()),
            Why::Offering => world.pool().offerings = vec![choice("cx33", &["fsn1"])],
            Why::Age => world.pool().keeping.max_age = Some(secs(190)),
            Why::Jobs => {
                world.pool().keeping.max_jobs = Some(100);
                for memory in world.snapshot.history.machines.values_mut() {
                    memory.jobs = 100;
                }
            }
            Why::Asked => world.selection.replace = self.old.iter().cloned().collect(),
        }
        if self.case.target {
            world.selection.targets = vec![Selector::Pool("linux".into())];
        }
    }

    /// The jobs of this tick.
    fn load(&mut self) {
        self.world.ci().wanted = Wanted::Jobs(Vec::new());
        for (name, _) in self.running.clone() {
            self.world.run(&name);
        }
    }

    fn is_idle(&self, name: &str) -> bool {
        self.running.iter().all(|(busy, _)| busy != name)
    }

    /// Those that take jobs.
    fn serving(&self) -> Vec<String> {
        let recorded = self.world.snapshot.state.resources.iter();
        let runners = &self.world.snapshot.demand["gitlab"].runners;
        recorded
            .filter(|(_, record)| record.phase == Phase::Live)
            .map(|(address, _)| address.name.clone())
            .filter(|name| {
                runners.iter().any(|runner| {
                    runner.registration.as_str() == name && !runner.paused && runner.last_contact.is_some()
                })
            })
            .collect()
    }

    /// What is left of the machines that were there at first.
    fn left(&self) -> usize {
        let recorded = self.world.snapshot.state.resources.keys();
        recorded.filter(|address| self.old.contains(address)).count()
    }

    /// Carries the plan out, and lets a minute pass.
    fn step(&mut self, plan: &Plan) {
        self.world.apply(plan);
        for action in &plan.actions {
            if matches!(action.verb, Verb::Create { .. }) {
                self.born
                    .push((action.address.name.clone(), self.tick + self.case.boot));
            }
        }
        self.tick += 1;
        self.world.set_time(i64::from(self.tick) * 60);
        if matches!(self.case.why, Why::Age) {
            // What is made meanwhile stays young.
            self.world.pool().keeping.max_age = Some(secs(190 + i64::from(self.tick) * 60));
        }
        let now = self.world.ci().now;
        for (name, ready) in &self.born {
            if *ready <= self.tick {
                for runner in &mut self.world.ci().runners {
                    if runner.registration.as_str() == name {
                        runner.last_contact.get_or_insert(now);
                    }
                }
            }
        }
        for (_, left) in &mut self.running {
            *left -= 1;
        }
        self.running.retain(|(_, left)| *left > 0);
        let free: Vec<String> = self
            .serving()
            .into_iter()
            .filter(|name| self.is_idle(name))
            .collect();
        let coming = self.case.jobs.iter().filter(|(tick, _)| *tick == self.tick);
        let coming: Vec<u8> = coming.map(|(_, ticks)| *ticks).collect();
        self.running.extend(free.into_iter().zip(coming));
        self.load();
    }

    fn check(&self, plan: &Plan) -> Result<(), TestCaseError> {
        let violations = invariants::check(plan, &self.world.snapshot, &self.world.stack);
        prop_assert!(violations.is_empty(), "{:?}", violations);
        let before = self.serving();
        let leaves = |action: &&crate::plan::Action| {
            let verb = &action.verb;
            matches!(
                verb,
                Verb::Retire { .. } | Verb::Delete { .. } | Verb::Cordon { .. }
            ) && before.contains(&action.address.name)
        };
        let rolled = |reason: &Reason| {
            matches!(
                reason.code(),
                "outdated" | "too_old" | "worn_out" | "replace_asked"
            )
        };
        let made = plan
            .actions
            .iter()
            .filter(|a| a.reason.code() == "replacement")
            .count();
        let batch = if matches!(self.case.why, Why::Asked) {
            self.case.machines.len()
        } else {
            usize::try_from(self.case.batch).unwrap()
        };
        prop_assert!(made <= batch, "makes {} of {}", made, batch);
        let gone: Vec<_> = plan.actions.iter().filter(leaves).collect();
        let by_roll = gone.iter().filter(|action| rolled(&action.reason)).count();
        prop_assert!(by_roll <= batch, "takes {} of {}", by_roll, batch);
        for action in &plan.actions {
            let removes = matches!(action.verb, Verb::Retire { .. } | Verb::Delete { .. });
            prop_assert!(
                !removes || self.is_idle(&action.address.name),
                "busy {}",
                action.address
            );
            prop_assert!(!removes || !self.case.protect, "protected {}", action.address);
        }
        let target = usize::try_from(plan.pools[0].target).unwrap();
        let existing = u32::try_from(self.world.snapshot.state.resources.len()).unwrap();
        let first = u32::try_from(self.case.machines.len()).unwrap();
        let no_money = self.case.money.is_some_and(|more| existing >= first + more);
        let no_room = existing >= first + self.case.room || no_money;
        let idle = gone.iter().all(|action| self.is_idle(&action.address.name));
        // Where nothing can be made beside what is there, idle ones go first: that much is short until the next tick.
        let slack = if no_room && idle && gone.len() <= batch {
            batch
        } else {
            0
        };
        let after = before.len() - gone.len() + slack;
        prop_assert!(
            by_roll == 0 || after >= target.min(before.len()),
            "serves {} of {} with a target of {}",
            before.len() - gone.len(),
            before.len(),
            target
        );
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_roll_comes_to_its_end_a_batch_at_a_time_and_takes_nothing_that_is_needed(case in case()) {
        let mut life = Life::new(&case);
        let mut told = Vec::new();
        for _ in 0..120 {
            let plan = life.world.plan();
            told.push(shape(&plan));
            let checked = life.check(&plan);
            prop_assert!(checked.is_ok(), "{:?} {:#?}", checked, told);
            if plan.is_noop() && life.tick > 14 && (life.left() == 0 || case.protect) {
                break;
            }
            life.step(&plan);
        }
        if case.protect {
            prop_assert_eq!(life.left(), case.machines.len());
        } else {
            prop_assert_eq!(life.left(), 0, "{:#?}", told);
        }
    }

    #[test]
    fn a_plan_with_targets_is_part_of_the_plan_without(target in 0_usize..5, machines in 0_u32..4, queued in 0_u32..8, rolls in any::<bool>()) {
        let mut world = World::new().with_shared();
        let mut other = pool("other", &["other"]);
        other.min = 1;
        world.stack.pools.push(other);
        for index in 0..machines {
            world.machine(&format!("m{index}"), -3500, true);
        }
        world.queue(queued);
        world.open_create("calm-crow", -500);
        world.orphan("bold-owl");
        if rolls {
            new_template(&mut world);
        }
        let all = world.plan();
        let selector = match target {
            0 => Selector::Pool("linux".into()),
            1 => Selector::Pool("other".into()),
            2 => Selector::Address("firewall/default".parse().unwrap()),
            3 => Selector::Address("machine.linux/m0".parse().unwrap()),
            _ => Selector::Address("machine.linux/calm-crow".parse().unwrap()),
        };
        world.selection.targets = vec![selector.clone()];
        let plan = world.plan();
        let violations = invariants::check(&plan, &world.snapshot, &world.stack);
        prop_assert!(violations.is_empty(), "{:?}", violations);
        let all: BTreeSet<String> = shape(&all).into_iter().collect();
        for (action, words) in plan.actions.iter().zip(shape(&plan)) {
            let needed = matches!(action.verb, Verb::Create { .. });
            prop_assert!(needed || selector.matches(&action.address), "{}", words);
            let rolled = matches!(action.reason.code(), "replacement" | "outdated");
            let new = (rolled && target == 3) || action.address.kind.is_shared();
            prop_assert!(new || all.contains(&words), "{} {:?}", words, all);
        }
    }
}
