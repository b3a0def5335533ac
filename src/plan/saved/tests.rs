use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        ids::Address,
        resource::{CloudStatus, Completeness, ResourceSpec},
        state::AppliedPlan,
    },
    plan::{
        Goal, Verb,
        testing::{World, at, price, rule},
    },
    stack::Mode,
};

const HASH: &str = "0123";

fn key(text: &str) -> SecretString {
    SecretString::from(text)
}

fn saved(world: &mut World) -> SavedPlan {
    let plan = world.plan();
    assert!(!plan.is_noop(), "there is something to do");
    let text = SavedPlan::new(plan, HASH, Selection::default())
        .to_text(None)
        .unwrap();
    SavedPlan::parse(text.as_bytes(), None).unwrap()
}

fn again(saved: &SavedPlan, world: &World) -> Result<Plan, Vec<Difference>> {
    check(saved, &world.snapshot, &world.stack, &world.templates)
}

#[track_caller]
fn refused(saved: &SavedPlan, world: &World) -> String {
    let differences = again(saved, world).unwrap_err();
    let words: Vec<String> = differences.iter().map(ToString::to_string).collect();
    words.join("; ")
}

fn growing() -> World {
    let mut world = World::new().with_shared();
    world.queue(5);
    world
}

/// Two machines whose paid hour ends.
fn shrinking() -> World {
    let mut world = World::new();
    world.machine("brave-otter", -3590, true);
    world.machine("keen-wolf", -3590, true);
    world
}

#[test]
fn a_plan_reads_back_as_it_was_written_with_and_without_a_key() {
    for mut world in [growing(), shrinking()] {
        let plan = world.plan();
        for with in [None, Some(key("k"))] {
            let wrote = SavedPlan::new(plan.clone(), HASH, Selection::default());
            let text = wrote.to_text(with.as_ref()).unwrap();
            let read = SavedPlan::parse(text.as_bytes(), with.as_ref()).unwrap();
            assert_eq!(read.digest.len(), 64);
            let digest = read.digest.clone();
            assert_eq!(SavedPlan { digest, ..wrote }, read);
        }
    }
}

#[test]
fn the_mac_is_the_one_of_rfc_4231() {
    let got = hex::encode(mac("what do ya want for nothing?", &key("Jefe")));
    assert_eq!(
        got,
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}

#[test]
fn a_file_that_was_edited_is_refused_and_with_a_key_so_is_one_without_or_with_another_mac() {
    let mut world = growing();
    let plan = world.plan();
    let saved = SavedPlan::new(plan, HASH, Selection::default());
    let plain = saved.to_text(None).unwrap();
    let signed = saved.to_text(Some(&key("right"))).unwrap();
    let parse = |text: &str, key: Option<&SecretString>| SavedPlan::parse(text.as_bytes(), key).err();
    assert_eq!(parse(&signed, Some(&key("right"))), None);
    assert_eq!(
        parse(&signed, None),
        None,
        "a digest is enough where there is no key"
    );
    assert_eq!(parse(&signed, Some(&key("wrong"))), Some(SavedError::Mac));
    assert_eq!(parse(&plain, Some(&key("right"))), Some(SavedError::NoMac));
    let edited = signed.replace("cx33", "cx53");
    assert_eq!(parse(&edited, None), Some(SavedError::Digest));
    let newer = plain.replace("\"format_version\": 1", "\"format_version\": 2");
    assert_eq!(parse(&newer, None), Some(SavedError::Version { found: 2 }));
    for junk in ["", "{}", "[]", "null", "{\"format\":\"runfleet-plan\"}", "\u{0}"] {
        let error = parse(junk, None);
        assert!(
            matches!(error, Some(SavedError::NotAPlan { .. })),
            "{junk:?}: {error:?}"
        );
    }
}

#[test]
fn white_space_and_the_order_of_keys_do_not_count() {
    let saved = saved(&mut growing());
    let text = saved.to_text(None).unwrap();
    let value: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    let compact = serde_json::to_vec(&value).unwrap();
    assert_eq!(SavedPlan::parse(&compact, None).unwrap(), saved);
}

#[test]
fn another_stack_tool_or_stack_file_and_a_plan_that_is_too_old_are_refused() {
    let saved = saved(&mut growing());
    let stack = || StackName::from("test");
    assert_eq!(saved.admit(&stack(), HASH, at(0)), Ok(()));
    assert!(matches!(
        saved.admit(&"other".into(), HASH, at(0)),
        Err(SavedError::OtherStack { .. })
    ));
    assert_eq!(
        saved.admit(&stack(), "4567", at(0)),
        Err(SavedError::OtherStackFile)
    );
    assert_eq!(saved.admit(&stack(), HASH, at(3599)), Ok(()));
    assert!(matches!(
        saved.admit(&stack(), HASH, at(3600)),
        Err(SavedError::Expired { .. })
    ));
    let older = SavedPlan {
        tool_version: "0.0.1".into(),
        ..saved
    };
    assert!(matches!(
        older.admit(&stack(), HASH, at(0)),
        Err(SavedError::OtherTool { .. })
    ));
}

#[test]
fn what_fits_is_done_as_it_was_said() {
    for mut world in [growing(), shrinking()] {
        let saved = saved(&mut world);
        let plan = again(&saved, &world).unwrap();
        assert_eq!(plan.actions, saved.plan.actions);
        world.apply(&plan);
        let words = refused(&saved, &world);
        assert!(words.contains("on record"), "twice is once too often: {words}");
    }
}

#[test]
fn another_pool_may_change_as_it_likes() {
    let mut world = growing();
    let mut windows = crate::plan::testing::pool("windows", &["windows"]);
    windows.max = 3;
    world.stack.pools.push(windows);
    let saved = saved(&mut world);
    world.machine_of("windows", "tall-newt", -100, true);
    world.queue_tagged(4, &["windows"]);
    world.snapshot.state.serial.0 += 4;
    assert_eq!(again(&saved, &world).unwrap().actions, saved.plan.actions);
}

#[test]
fn a_machine_that_got_a_job_is_named() {
    let mut world = shrinking();
    let saved = saved(&mut world);
    world.run("brave-otter");
    assert_eq!(
        refused(&saved, &world),
        "machine.linux/brave-otter runs a job now"
    );
    world.ci().completeness = Completeness::partial("502");
    let words = refused(&saved, &world);
    assert!(words.contains("ci.gitlab did not answer in full: 502"), "{words}");
}

#[test]
fn a_machine_that_went_or_was_cordoned_is_named() {
    let mut world = shrinking();
    let saved = saved(&mut world);
    let address: Address = "machine.linux/keen-wolf".parse().unwrap();
    let mut gone = world.clone();
    gone.snapshot.state.resources.remove(&address);
    assert!(refused(&saved, &gone).contains("machine.linux/keen-wolf is not on record any more"));
    world.record(&address).phase = crate::model::state::Phase::Cordoned {
        since: at(-5),
        why: "by hand".into(),
    };
    assert_eq!(
        refused(&saved, &world),
        "cordon (it is on) of machine.linux/keen-wolf changed since"
    );
}

#[test]
fn rules_that_someone_changed_again_are_named() {
    let mut world = World::new().with_shared();
    world.queue(2);
    let plan = world.plan();
    world.apply(&plan);
    let firewall: Address = "firewall/default".parse().unwrap();
    let at_cloud = |world: &mut World, port: &str| {
        for seen in &mut world.cloud().listing.resources {
            if seen.rules.is_some() {
                seen.rules = Some(vec![rule(port)]);
            }
        }
    };
    at_cloud(&mut world, "8080");
    let saved = saved(&mut world);
    assert!(saved.plan.actions.iter().any(|action| action.address == firewall));
    assert!(again(&saved, &world).is_ok());
    at_cloud(&mut world, "9090");
    assert_eq!(refused(&saved, &world), "rules of firewall/default changed since");
}

#[test]
fn max_the_budget_and_prices_are_held_to_what_they_are_now() {
    let mut world = growing();
    let saved = saved(&mut world);
    let mut full = world.clone();
    full.pool().max = 3;
    full.machine("calm-fox", -60, true);
    assert_eq!(
        refused(&saved, &full),
        "max = 3 of pools.linux leaves no room: 1 are there, and the plan makes 3"
    );
    let mut poor = world.clone();
    poor.stack.budget.hourly = Some("0.025 EUR".parse().unwrap());
    assert_eq!(
        refused(&saved, &poor),
        "the budget of 0.025 EUR an hour leaves no room: 0 EUR is spent, and the plan adds up to 0.030 EUR"
    );
    world.cloud().offerings[0].price = price("0.011 EUR");
    let words = refused(&saved, &world);
    assert!(
        words.contains("costs 0.011 EUR now, and cost 0.010 EUR"),
        "{words}"
    );
}

#[test]
fn a_template_that_was_edited_is_named_once_for_all_its_machines() {
    let mut world = growing();
    let saved = saved(&mut world);
    world
        .templates
        .files
        .insert("cloud-init/a.tera".into(), "#cloud-config\n# edited\n".into());
    assert_eq!(
        refused(&saved, &world),
        "what machines of pools.linux are made from changed since: cloud-init/a.tera, or a part that it includes"
    );
}

#[test]
fn another_lineage_an_older_state_and_a_plan_that_was_applied_are_refused_whatever_is_there() {
    let mut world = growing();
    world.snapshot.state.serial.0 = 7;
    let saved = saved(&mut world);
    let mut other = world.clone();
    other.snapshot.state.lineage = "l2".into();
    assert!(refused(&saved, &other).contains("lineage is l2"));
    let mut older = world.clone();
    older.snapshot.state.serial.0 = 6;
    assert!(refused(&saved, &older).contains("serial is 6"));
    world.snapshot.history.applied.push(AppliedPlan {
        digest: saved.digest.clone(),
        at: at(-30),
    });
    assert!(refused(&saved, &world).contains("applied already"));
}

#[test]
fn what_came_into_force_since_stops_it() {
    let mut world = growing();
    let saved = saved(&mut world);
    let mut foreign = world.clone();
    let claim = crate::model::resource::ClaimLabels {
        lineage: "l2".into(),
        ..World::claim(Some("linux"), "odd-owl", "i-odd")
    };
    let spec = ResourceSpec::Machine(World::spec("linux", "odd-owl"));
    let seen = foreign.observed(&spec, &claim, -60);
    foreign.cloud().listing.resources.push(seen);
    assert!(refused(&saved, &foreign).contains("another lineage"));
    let mut advised = world.clone();
    advised.pool().mode = Mode::Advise;
    assert!(refused(&saved, &advised).contains("advise"));
    world.cloud().listing.completeness = Completeness::partial("timeout");
    assert!(refused(&saved, &world).contains("providers.hetzner did not answer in full: timeout"));
}

#[test]
fn a_crash_in_the_middle_of_an_apply_makes_the_plan_one_that_is_not_done_again() {
    let mut world = growing();
    let saved = saved(&mut world);
    let first = saved
        .plan
        .actions
        .iter()
        .find(|action| action.address.pool.is_some())
        .unwrap();
    let address = world.open_create(&first.address.name, -1);
    assert_eq!(address, first.address);
    let words = refused(&saved, &world);
    assert!(
        words.contains(&format!("an attempt at {address} has no known end")),
        "{words}"
    );
}

/// A step of a world that goes on after a plan was made.
#[derive(Clone, Copy, Debug)]
enum Step {
    Queue(u32),
    Run(bool),
    Cordon(bool),
    Off(bool),
    Lose(bool),
    Wait(i64),
    Max(u32),
    Foreign,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..6_u32).prop_map(Step::Queue),
        any::<bool>().prop_map(Step::Run),
        any::<bool>().prop_map(Step::Cordon),
        any::<bool>().prop_map(Step::Off),
        any::<bool>().prop_map(Step::Lose),
        (0..1800_i64).prop_map(Step::Wait),
        (1..5_u32).prop_map(Step::Max),
        Just(Step::Foreign),
    ]
}

fn go_on(world: &mut World, step: Step) {
    let name = |first: bool| if first { "brave-otter" } else { "keen-wolf" };
    let address = |first: bool| -> Address { format!("machine.linux/{}", name(first)).parse().unwrap() };
    let there = |world: &World, first: bool| world.snapshot.state.resources.contains_key(&address(first));
    match step {
        Step::Queue(count) => world.queue(count),
        Step::Run(first) if there(world, first) => {
            world.run(name(first));
        }
        Step::Cordon(first) if there(world, first) => {
            world.record(&address(first)).phase = crate::model::state::Phase::Cordoned {
                since: at(-5),
                why: "by hand".into(),
            };
        }
        Step::Off(first) if there(world, first) => world.seen(name(first)).status = CloudStatus::Off,
        Step::Lose(first) if there(world, first) => {
            world.snapshot.state.resources.remove(&address(first));
        }
        Step::Wait(seconds) => world.set_time(seconds),
        Step::Max(max) => world.pool().max = max,
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happened_since_a_saved_plan_is_done_as_it_was_said_and_by_the_rules_or_not_at_all(
        queued in 0..6_u32,
        steps in proptest::collection::vec(step(), 0..5),
    ) {
        let mut world = shrinking();
        world.queue(queued);
        let plan = world.plan();
        let text = SavedPlan::new(plan, HASH, Selection::default()).to_text(None).unwrap();
        let saved = SavedPlan::parse(text.as_bytes(), None).unwrap();
        for step in steps {
            go_on(&mut world, step);
        }
        world.learn();
        if let Ok(plan) = again(&saved, &world) {
            prop_assert_eq!(&plan.actions, &saved.plan.actions);
            let broken = crate::plan::invariants::check(&plan, &world.snapshot, &world.stack);
            prop_assert!(broken.iter().all(|broken| [10, 11].contains(&broken.number)), "{:?}", broken);
            let before: Vec<Address> = world.snapshot.state.resources.keys().cloned().collect();
            world.apply(&plan);
            let state = &world.snapshot.state.resources;
            for action in &saved.plan.actions {
                match action.verb {
                    Verb::Create { .. } => prop_assert!(state.contains_key(&action.address)),
                    Verb::Retire { .. } | Verb::Delete { .. } | Verb::Forget { .. } => {
                        prop_assert!(!state.contains_key(&action.address));
                    }
                    _ => {}
                }
            }
            let touched = |address: &Address| saved.plan.actions.iter().any(|action| action.address == *address);
            for address in before.iter().filter(|address| !touched(address)) {
                prop_assert!(state.contains_key(address), "{} was not to be touched", address);
            }
            prop_assert!(state.keys().all(|address| before.contains(address) || touched(address)));
        }
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in any::<u16>(), put in any::<u8>()) {
        let _ = SavedPlan::parse(&bytes, None);
        let mut text = SavedPlan::new(growing().decide(Goal::Converge), HASH, Selection::default())
            .to_text(None)
            .unwrap()
            .into_bytes();
        let at = usize::from(cut) % text.len();
        let same = text[at] == put;
        // A line's end after the document is none of it.
        let whole = text[at..].iter().all(u8::is_ascii_whitespace);
        text[at] = put;
        let read = SavedPlan::parse(&text, None);
        let blank = |byte: u8| byte.is_ascii_whitespace();
        prop_assert!(read.is_err() || same || blank(put));
        text.truncate(at);
        prop_assert!(whole || SavedPlan::parse(&text, None).is_err());
    }
}
